/* The tables state and boot.  Knows nothing of what the values mean, but for
 * the counters and the epoch. */
#include "spool/state.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <sqlite3.h>
#include <systemd/sd-id128.h>

#include "base/log.h"
#include "spool/db.h"

static const char *const counter_keys[STATE_N_COUNTERS] = {
	[STATE_UP_ACCEPTED] = "count.up.accepted",
	[STATE_UP_DELIVERED] = "count.up.delivered",
	[STATE_UP_DROPPED] = "count.up.dropped",
	[STATE_DOWN_ACCEPTED] = "count.down.accepted",
	[STATE_DOWN_DELIVERED] = "count.down.delivered",
	[STATE_DOWN_DROPPED] = "count.down.dropped",
	[STATE_REFUSED] = "count.refused",
};

struct state {
	struct db *db; /* borrowed */
	sqlite3_stmt *get;
	sqlite3_stmt *set;
	uint32_t epoch;
	int64_t boot;
	uint64_t counters[STATE_N_COUNTERS];
	bool is_changed[STATE_N_COUNTERS];
};

int state_set(struct state *s, const char *key, const void *value, size_t bytes)
{
	int r = db_begin(s->db);

	if (r < 0)
		return r;
	if (sqlite3_bind_text(s->set, 1, key, -1, SQLITE_STATIC) ||
		sqlite3_bind_blob64(s->set, 2, value, bytes, SQLITE_STATIC))
		return db_fail(s->db, "state: bind");
	return db_run(s->db, s->set, "state: set");
}

int state_get(struct state *s, const char *key, void *ret_value, size_t size,
	size_t *ret_bytes)
{
	size_t bytes = 0;
	int r = 0;
	int rc;

	if (sqlite3_bind_text(s->get, 1, key, -1, SQLITE_STATIC))
		return db_fail(s->db, "state: bind");
	rc = sqlite3_step(s->get);
	if (rc == SQLITE_ROW) {
		bytes = (size_t)sqlite3_column_bytes(s->get, 0);
		if (bytes > size)
			r = -ENOBUFS;
		else if (bytes)
			memcpy(ret_value, sqlite3_column_blob(s->get, 0),
				bytes);
	} else if (rc != SQLITE_DONE) {
		r = db_fail(s->db, "state: get");
	}
	sqlite3_reset(s->get);
	sqlite3_clear_bindings(s->get);
	if (r == 0)
		*ret_bytes = bytes;
	return r;
}

static int load_epoch(struct state *s)
{
	size_t bytes;
	int r = state_get(s, "epoch", &s->epoch, sizeof(s->epoch), &bytes);

	if (r < 0 || bytes == sizeof(s->epoch))
		return r;
	if (getrandom(&s->epoch, sizeof(s->epoch), 0) !=
		(ssize_t)sizeof(s->epoch))
		return log_fail(-errno, "spool: no random number");
	r = state_set(s, "epoch", &s->epoch, sizeof(s->epoch));
	return r > 0 ? -ENOSPC : r;
}

static int load_boot(struct state *s)
{
	sqlite3_stmt *st = NULL;
	sd_id128_t id;
	int r = sd_id128_get_boot(&id);

	if (r < 0)
		return log_fail(r, "spool: no boot id");
	r = db_begin(s->db);
	if (r == 0)
		r = db_prepare(
			s->db, "INSERT OR IGNORE INTO boot(id) VALUES(?)", &st);
	if (r < 0)
		return r;
	sqlite3_bind_blob(st, 1, &id, sizeof(id), SQLITE_STATIC);
	r = db_run(s->db, st, "boot: insert");
	sqlite3_finalize(st);
	if (r == 0)
		r = db_prepare(s->db, "SELECT n FROM boot WHERE id=?", &st);
	if (r)
		return r > 0 ? -ENOSPC : r;
	sqlite3_bind_blob(st, 1, &id, sizeof(id), SQLITE_STATIC);
	if (sqlite3_step(st) == SQLITE_ROW)
		s->boot = sqlite3_column_int64(st, 0);
	else
		r = db_fail(s->db, "boot: select");
	sqlite3_finalize(st);
	return r;
}

int state_reload(struct state *s)
{
	uint64_t value;
	size_t bytes;
	size_t i;
	int r;

	for (i = 0; i < STATE_N_COUNTERS; i++) {
		r = state_get(
			s, counter_keys[i], &value, sizeof(value), &bytes);
		if (r < 0)
			return r;
		s->counters[i] = bytes == sizeof(value) ? value : 0;
		s->is_changed[i] = false;
	}
	return 0;
}

static int load(struct state *s)
{
	int r = load_epoch(s);

	if (r == 0)
		r = load_boot(s);
	if (r == 0)
		r = db_commit(s->db);
	if (r == 0)
		r = state_reload(s);
	return r > 0 ? log_fail(-ENOSPC, "spool: cannot write") : r;
}

int state_new(struct db *db, struct state **ret_state)
{
	SCOPED(state_freep) struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->db = db;
	r = db_prepare(db, "SELECT value FROM state WHERE key=?", &s->get);
	if (r == 0)
		r = db_prepare(db,
			"INSERT INTO state(key,value) VALUES(?1,?2)"
			" ON CONFLICT(key) DO UPDATE SET value=?2",
			&s->set);
	if (r == 0)
		r = load(s);
	if (r < 0)
		return r;
	*ret_state = TAKE(s);
	return 0;
}

struct state *state_free(struct state *s)
{
	if (!s)
		return NULL;
	sqlite3_finalize(s->get);
	sqlite3_finalize(s->set);
	free(s);
	return NULL;
}

uint32_t state_epoch(const struct state *s)
{
	return s->epoch;
}

int64_t state_boot(const struct state *s)
{
	return s->boot;
}

void state_count(struct state *s, enum state_counter c, uint64_t n)
{
	s->counters[c] += n;
	s->is_changed[c] = true;
}

uint64_t state_counter(const struct state *s, enum state_counter c)
{
	return s->counters[c];
}

int state_store(struct state *s)
{
	size_t i;
	int r;

	for (i = 0; i < STATE_N_COUNTERS; i++) {
		if (!s->is_changed[i])
			continue;
		r = state_set(s, counter_keys[i], &s->counters[i],
			sizeof(s->counters[i]));
		if (r)
			return r;
		s->is_changed[i] = false;
	}
	return 0;
}
