/* INSERT into the tables up and down.  Knows these tables; not MQTT, not the
 * event loop. */
#include "spool/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "base/crc32c.h"
#include "base/now.h"
#include "spool/db.h"
#include "spool/state.h"

struct queue {
	struct db *db;       /* borrowed */
	struct state *state; /* borrowed */
	sqlite3_stmt *up;
	sqlite3_stmt *down;
};

int queue_new(struct db *db, struct state *state, struct queue **ret_queue)
{
	static const char up[] =
		"INSERT INTO up(wall,mono,boot,topic,payload,crc)"
		" VALUES(?1,?2,?3,?4,?5,?6)";
	static const char down[] =
		"INSERT INTO down(wall,mono,boot,topic,payload,crc,dest)"
		" VALUES(?1,?2,?3,?4,?5,?6,?7)";
	SCOPED(queue_freep) struct queue *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->db = db;
	q->state = state;
	r = db_prepare(db, up, &q->up);
	if (r == 0)
		r = db_prepare(db, down, &q->down);
	if (r < 0)
		return r;
	*ret_queue = TAKE(q);
	return 0;
}

struct queue *queue_free(struct queue *q)
{
	if (!q)
		return NULL;
	sqlite3_finalize(q->up);
	sqlite3_finalize(q->down);
	free(q);
	return NULL;
}

uint32_t queue_checksum(uint64_t wall_usec, const void *topic,
	size_t topic_bytes, const void *payload, size_t payload_bytes)
{
	uint32_t crc = crc32c(0, &wall_usec, sizeof(wall_usec));

	crc = crc32c(crc, topic, topic_bytes);
	crc = crc32c(crc, "", 1); /* a byte that no topic holds */
	return crc32c(crc, payload, payload_bytes);
}

/* Bind what both tables have.  A payload of no bytes is an empty blob, never
 * NULL. */
static int bind(struct queue *q, sqlite3_stmt *st, const struct msg *msg)
{
	uint64_t wall = now_wall_usec();
	size_t topic_bytes = strlen(msg->topic);
	const void *payload = msg->payload_bytes ? msg->payload : "";
	uint32_t crc = queue_checksum(
		wall, msg->topic, topic_bytes, payload, msg->payload_bytes);

	if (sqlite3_bind_int64(st, 1, (int64_t)wall) ||
		sqlite3_bind_int64(st, 2, (int64_t)now_boot_usec()) ||
		sqlite3_bind_int64(st, 3, state_boot(q->state)) ||
		sqlite3_bind_blob64(
			st, 4, msg->topic, topic_bytes, SQLITE_STATIC) ||
		sqlite3_bind_blob64(
			st, 5, payload, msg->payload_bytes, SQLITE_STATIC) ||
		sqlite3_bind_int64(st, 6, crc))
		return db_fail(q->db, "queue: bind");
	return 0;
}

static int push(struct queue *q, sqlite3_stmt *st, enum state_counter counter,
	int64_t *ret_id)
{
	int r = db_run(q->db, st, "queue: push");

	if (r)
		return r > 0 ? QUEUE_FULL : r;
	*ret_id = sqlite3_last_insert_rowid(db_sqlite(q->db));
	state_count(q->state, counter, 1);
	return 0;
}

int queue_push_up(struct queue *q, const struct msg *msg, int64_t *ret_id)
{
	int r = db_begin(q->db);

	if (r == 0)
		r = bind(q, q->up, msg);
	if (r < 0)
		return r;
	return push(q, q->up, STATE_UP_ACCEPTED, ret_id);
}

int queue_push_down(struct queue *q, const char *dest, const struct msg *msg,
	int64_t *ret_id)
{
	int r = db_begin(q->db);

	if (r == 0)
		r = bind(q, q->down, msg);
	if (r < 0)
		return r;
	if (sqlite3_bind_blob64(q->down, 7, dest, strlen(dest), SQLITE_STATIC))
		return db_fail(q->db, "queue: bind");
	return push(q, q->down, STATE_DOWN_ACCEPTED, ret_id);
}

int queue_count_down(struct queue *q, const char *dest, int max)
{
	static const char sql[] =
		"SELECT count(*) FROM (SELECT 1 FROM down WHERE dest=?1"
		" LIMIT ?2)";
	sqlite3_stmt *st = NULL;
	int r = db_prepare(q->db, sql, &st);

	if (r < 0)
		return r;
	if (sqlite3_bind_blob64(st, 1, dest, strlen(dest), SQLITE_STATIC) ||
		sqlite3_bind_int(st, 2, max) || sqlite3_step(st) != SQLITE_ROW)
		r = db_fail(q->db, "queue: count");
	else
		r = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return r;
}

static int drop_dest(struct queue *q, const char *dest)
{
	sqlite3_stmt *st = NULL;
	int r = db_begin(q->db);

	if (r == 0)
		r = db_prepare(q->db, "DELETE FROM down WHERE dest=?", &st);
	if (r < 0)
		return r;
	if (sqlite3_bind_blob64(st, 1, dest, strlen(dest), SQLITE_STATIC))
		r = db_fail(q->db, "queue: bind");
	else
		r = db_run(q->db, st, "queue: drop");
	sqlite3_finalize(st);
	if (r)
		return r > 0 ? -ENOSPC : r;
	r = sqlite3_changes(db_sqlite(q->db));
	state_count(q->state, STATE_DOWN_DROPPED, (uint64_t)r);
	return r;
}

int queue_drop_unwanted(struct queue *q,
	bool (*is_wanted)(void *userdata, const char *dest), void *userdata)
{
	/* The next name after the one at hand: no cursor is open while rows
	 * go. */
	static const char sql[] = "SELECT min(dest) FROM down WHERE dest>?1";
	char dest[256] = "";
	sqlite3_stmt *st = NULL;
	int dropped = 0;
	int r = db_prepare(q->db, sql, &st);

	while (r >= 0) {
		const void *name;
		int n;

		if (sqlite3_bind_blob64(
			    st, 1, dest, strlen(dest), SQLITE_STATIC) ||
			sqlite3_step(st) != SQLITE_ROW) {
			r = db_fail(q->db, "queue: destinations");
			break;
		}
		name = sqlite3_column_blob(st, 0);
		n = sqlite3_column_bytes(st, 0);
		if (!name || n >= (int)sizeof(dest))
			break;
		memcpy(dest, name, (size_t)n);
		dest[n] = '\0';
		sqlite3_reset(st);
		if (is_wanted(userdata, dest))
			continue;
		r = drop_dest(q, dest);
		dropped += r > 0 ? r : 0;
	}
	sqlite3_finalize(st);
	return r < 0 ? r : dropped;
}
