/* SELECT and DELETE on the tables up and down, and the window.  Knows these
 * tables; not MQTT, not the event loop.
 *
 * A row's way: [on disk] -> given out, in the window -> acknowledged, in the
 * window and marked -> DELETE in the turn's transaction -> committed, out of
 * the window.  replay_restart() takes those not marked back to the first
 * state by moving the cursor; those marked stay, so that a PUBACK which came
 * before the connection broke is not forgotten. */
#include "spool/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "base/log.h"
#include "spool/db.h"
#include "spool/queue.h"
#include "spool/state.h"

struct slot {
	int64_t id;
	size_t bytes; /* of topic and payload */
	unsigned tag;
	enum { SLOT_OUT, SLOT_ACKED, SLOT_DROPPED } is;
};

struct replay {
	struct db *db;       /* borrowed */
	struct state *state; /* borrowed */
	char *dest;          /* NULL: the cloud */
	sqlite3_stmt *select;
	sqlite3_stmt *delete;
	int64_t cursor; /* the last id given out */
	struct log_limit damage;
	unsigned limit; /* slots in use at once, <= size */
	unsigned size;
	unsigned n;        /* slots in use, in the order of ids */
	unsigned n_done;   /* of these, acknowledged or dropped */
	unsigned n_stored; /* of these, deleted in the open transaction */
	size_t n_bytes;    /* of all slots in use */
	struct slot slots[];
};

static const char select_up[] = "SELECT id,topic,payload,wall,crc FROM up"
				" WHERE id>?1 ORDER BY id LIMIT ?2";
static const char select_down[] = "SELECT id,topic,payload,wall,crc FROM down"
				  " WHERE id>?1 AND dest=?3"
				  " ORDER BY id LIMIT ?2";

int replay_new(struct db *db, struct state *state, const char *dest,
	unsigned window, struct replay **ret_replay)
{
	SCOPED(replay_freep)
	struct replay *p = calloc(1, sizeof(*p) + window * sizeof(p->slots[0]));
	int r;

	if (!p)
		return -ENOMEM;
	p->db = db;
	p->state = state;
	p->size = window;
	p->limit = window;
	if (dest) {
		p->dest = strdup(dest);
		if (!p->dest)
			return -ENOMEM;
	}
	r = db_prepare(db, dest ? select_down : select_up, &p->select);
	if (r == 0)
		r = db_prepare(db,
			dest ? "DELETE FROM down WHERE id=?"
			     : "DELETE FROM up WHERE id=?",
			&p->delete);
	if (r < 0)
		return r;
	*ret_replay = TAKE(p);
	return 0;
}

struct replay *replay_free(struct replay *p)
{
	if (!p)
		return NULL;
	sqlite3_finalize(p->select);
	sqlite3_finalize(p->delete);
	free(p->dest);
	free(p);
	return NULL;
}

static struct slot *add_slot(struct replay *p, int64_t id, size_t bytes)
{
	struct slot *slot = &p->slots[p->n++];

	p->n_bytes += bytes;
	slot->id = id;
	slot->bytes = bytes;
	slot->tag = 0;
	slot->is = SLOT_OUT;
	return slot;
}

static void drop_slot(struct replay *p, struct slot *slot)
{
	slot->is = SLOT_DROPPED;
	p->n_done++;
}

/* The row under the statement, topic and payload borrowed from it; false when
 * its checksum is wrong.  topic: made NUL-terminated by the extra byte that
 * column_text() promises. */
static bool read_row(sqlite3_stmt *st, struct msg *msg)
{
	const void *topic = sqlite3_column_text(st, 1);
	size_t topic_bytes = (size_t)sqlite3_column_bytes(st, 1);
	uint32_t crc;

	msg->topic = topic ? topic : "";
	msg->payload = sqlite3_column_blob(st, 2);
	msg->payload_bytes = (size_t)sqlite3_column_bytes(st, 2);
	crc = queue_checksum((uint64_t)sqlite3_column_int64(st, 3), msg->topic,
		topic_bytes, msg->payload, msg->payload_bytes);
	return crc == (uint32_t)sqlite3_column_int64(st, 4) &&
		strlen(msg->topic) == topic_bytes;
}

/* Whether the row is done with, but its removal could not be committed yet
 * (the disk is full). */
static bool is_done(const struct replay *p, int64_t id)
{
	unsigned i;

	for (i = 0; p->n_done && i < p->n; i++)
		if (p->slots[i].id == id)
			return true;
	return false;
}

/* Offer the row under the statement.  0: go on; else stop. */
static int offer(struct replay *p, replay_send *send, void *userdata)
{
	int64_t id = sqlite3_column_int64(p->select, 0);
	struct msg msg;
	unsigned tag = 0;
	int r;

	if (is_done(p, id)) {
		p->cursor = id;
		return 0;
	}
	if (!read_row(p->select, &msg)) {
		log_limited(&p->damage, LOG_LEVEL_ERROR,
			"spool: message %" PRId64 " is damaged on disk: it is "
			"dropped; check the storage medium",
			id);
		drop_slot(p, add_slot(p, id, 0));
		p->cursor = id;
		return 0;
	}
	r = send(userdata, id, &msg, &tag);
	if (r == REPLAY_SKIP)
		drop_slot(p, add_slot(p, id, 0));
	else if (r)
		return r;
	else
		add_slot(p, id, strlen(msg.topic) + msg.payload_bytes)->tag =
			tag;
	p->cursor = id;
	return 0;
}

int replay_fill(struct replay *p, replay_send *send, void *userdata)
{
	sqlite3_stmt *st = p->select;
	int rc = SQLITE_ROW;
	int r = 0;

	if (replay_is_full(p))
		return 0;
	sqlite3_bind_int64(st, 1, p->cursor);
	sqlite3_bind_int64(st, 2, p->limit - p->n);
	if (p->dest &&
		sqlite3_bind_blob(
			st, 3, p->dest, (int)strlen(p->dest), SQLITE_STATIC))
		return db_fail(p->db, "replay: bind");
	while (r == 0 && !replay_is_full(p) &&
		(rc = sqlite3_step(st)) == SQLITE_ROW)
		r = offer(p, send, userdata);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = db_fail(p->db, "replay: read");
	else
		r = 0;     /* send() has its own ways to tell */
	sqlite3_reset(st); /* or a read transaction would stay open */
	return r;
}

bool replay_ack(struct replay *p, unsigned tag, bool dropped)
{
	unsigned i;

	/* Acknowledgements come in order as a rule: the first one fits. */
	for (i = 0; i < p->n; i++) {
		if (p->slots[i].is != SLOT_OUT || p->slots[i].tag != tag)
			continue;
		p->slots[i].is = dropped ? SLOT_DROPPED : SLOT_ACKED;
		p->n_done++;
		return true;
	}
	return false;
}

bool replay_has_done(const struct replay *p)
{
	return p->n_done > 0;
}

bool replay_is_full(const struct replay *p)
{
	return p->n >= p->limit || p->n_bytes >= REPLAY_WINDOW_BYTES;
}

static void count(struct replay *p, const struct slot *slot)
{
	bool dropped = slot->is == SLOT_DROPPED;

	if (p->dest)
		state_count(p->state,
			dropped ? STATE_DOWN_DROPPED : STATE_DOWN_DELIVERED, 1);
	else
		state_count(p->state,
			dropped ? STATE_UP_DROPPED : STATE_UP_DELIVERED, 1);
}

int replay_store(struct replay *p)
{
	unsigned i;
	int r;

	p->n_stored = 0;
	if (!p->n_done)
		return 0;
	r = db_begin(p->db);
	if (r < 0)
		return r;
	for (i = 0; i < p->n; i++) {
		if (p->slots[i].is == SLOT_OUT)
			continue;
		if (sqlite3_bind_int64(p->delete, 1, p->slots[i].id))
			return db_fail(p->db, "replay: bind");
		r = db_run(p->db, p->delete, "replay: delete");
		if (r)
			return r;
		count(p, &p->slots[i]);
	}
	p->n_stored = p->n_done;
	return 0;
}

/* Take a slot along to the front of the window. */
static void keep_slot(struct replay *p, unsigned *kept, unsigned i)
{
	p->n_bytes += p->slots[i].bytes;
	p->slots[(*kept)++] = p->slots[i];
}

void replay_stored(struct replay *p)
{
	unsigned kept = 0;
	unsigned i;

	if (!p->n_stored)
		return;
	p->n_bytes = 0;
	for (i = 0; i < p->n; i++)
		if (p->slots[i].is == SLOT_OUT)
			keep_slot(p, &kept, i);
	p->n = kept;
	p->n_done = 0;
	p->n_stored = 0;
}

void replay_restart(struct replay *p)
{
	unsigned kept = 0;
	unsigned i;

	p->n_bytes = 0;
	for (i = 0; i < p->n; i++) {
		if (p->slots[i].is != SLOT_OUT)
			keep_slot(p, &kept, i);
		else if (p->slots[i].id <= p->cursor)
			p->cursor = p->slots[i].id - 1;
	}
	p->n = kept;
}

void replay_limit(struct replay *p, unsigned window)
{
	p->limit = window < p->size ? window : p->size;
}

unsigned replay_out(const struct replay *p)
{
	return p->n - p->n_done;
}

static uint64_t count_rows(struct replay *p)
{
	sqlite3_stmt *st = NULL;
	uint64_t rows = 0;

	if (db_prepare(p->db, "SELECT count(*) FROM down WHERE dest=?", &st) <
		0)
		return 0;
	if (!sqlite3_bind_blob(
		    st, 1, p->dest, (int)strlen(p->dest), SQLITE_STATIC) &&
		sqlite3_step(st) == SQLITE_ROW)
		rows = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rows;
}

uint64_t replay_backlog(struct replay *p)
{
	if (p->dest)
		return count_rows(p);
	return state_counter(p->state, STATE_UP_ACCEPTED) -
		state_counter(p->state, STATE_UP_DELIVERED) -
		state_counter(p->state, STATE_UP_DROPPED);
}
