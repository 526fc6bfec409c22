/* Tests of spool/queue.h, spool/state.h and spool/db.h. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/Basic.h>
#include <sqlite3.h>

#include "spool/db.h"
#include "spool/queue.h"
#include "spool/state.h"
#include "tests/unit.h"

#define MAX_BYTES (1024 * 1024)

static char dir[64];
static char path[96];
static struct db *db;
static struct state *state;
static struct queue *q;

static void open_all(void)
{
	CU_ASSERT_EQUAL_FATAL(db_open(path, MAX_BYTES, &db), 0);
	CU_ASSERT_EQUAL_FATAL(state_new(db, &state), 0);
	CU_ASSERT_EQUAL_FATAL(queue_new(db, state, &q), 0);
}

static void close_all(void)
{
	q = queue_free(q);
	state = state_free(state);
	db = db_close(db);
}

static void set_up(void)
{
	strcpy(dir, "/tmp/test_queue.XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/spool.db", dir);
	open_all();
}

static void tear_down(void)
{
	char wal[112];

	close_all();
	snprintf(wal, sizeof(wal), "%s-wal", path);
	unlink(wal);
	unlink(path);
	rmdir(dir);
}

static int64_t number(const char *sql)
{
	sqlite3_stmt *st;
	int64_t n;

	CU_ASSERT_EQUAL_FATAL(
		sqlite3_prepare_v2(db_sqlite(db), sql, -1, &st, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(sqlite3_step(st), SQLITE_ROW);
	n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return n;
}

static int push(
	const char *topic, const void *payload, size_t bytes, int64_t *id)
{
	struct msg m = {topic, payload, bytes};

	return queue_push_up(q, &m, id);
}

static int commit(void)
{
	int r = state_store(state);

	return r ? r : db_commit(db);
}

static void push_stores_one_row_and_names_it(void)
{
	int64_t id = 0;

	CU_ASSERT_EQUAL(push("a/b", "x", 1, &id), 0);
	CU_ASSERT_EQUAL(id, 1);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(number("SELECT count(*) FROM up"), 1);
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_ACCEPTED), 1);
}

static void push_takes_an_empty_payload(void)
{
	int64_t id = 0;

	CU_ASSERT_EQUAL(push("a/b", NULL, 0, &id), 0);
	CU_ASSERT_EQUAL(number("SELECT length(payload) FROM up"), 0);
}

static void push_keeps_every_byte(void)
{
	unsigned char all[256];
	int64_t id;
	int i;

	for (i = 0; i < 256; i++)
		all[i] = (unsigned char)i;
	CU_ASSERT_EQUAL(push("t", all, sizeof(all), &id), 0);
	CU_ASSERT_EQUAL(number("SELECT length(payload) FROM up"), 256);
	CU_ASSERT_EQUAL(
		number("SELECT typeof(payload)='blob' AND typeof(topic)='blob'"
		       " FROM up"),
		1);
	/* What looks like a number stays what it is. */
	CU_ASSERT_EQUAL(push("1.10", "007", 3, &id), 0);
	CU_ASSERT_EQUAL(number("SELECT payload=x'303037' AND topic=x'312e3130'"
			       " FROM up WHERE id=2"),
		1);
}

static void push_reports_full_and_leaves_id_alone(void)
{
	static char big[2 * MAX_BYTES];
	int64_t id = -7;

	CU_ASSERT_EQUAL(push("a/b", big, sizeof(big), &id), QUEUE_FULL);
	CU_ASSERT_EQUAL(id, -7);
	db_rollback(db);
	CU_ASSERT_EQUAL(number("SELECT count(*) FROM up"), 0);
	CU_ASSERT_EQUAL(push("a/b", "x", 1, &id), 0);
	CU_ASSERT_EQUAL(commit(), 0);
}

static void a_full_spool_still_forgets(void)
{
	static char block[4000];
	int64_t id;
	int r = 0;

	while (r == 0) {
		r = push("a/b", block, sizeof(block), &id);
		if (r == 0)
			r = commit();
	}
	CU_ASSERT_EQUAL(r, QUEUE_FULL);
	db_rollback(db);
	CU_ASSERT_EQUAL_FATAL(db_begin(db), 0);
	CU_ASSERT_EQUAL(sqlite3_exec(db_sqlite(db),
				"DELETE FROM up WHERE id<50", NULL, NULL, NULL),
		0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	CU_ASSERT_TRUE(db_free_bytes(db) > 40 * 4000);
	CU_ASSERT_EQUAL(push("a/b", block, sizeof(block), &id), 0);
}

static void push_fails_when_the_table_is_gone(void)
{
	int64_t id = -7;

	CU_ASSERT_EQUAL_FATAL(
		sqlite3_exec(db_sqlite(db), "DROP TABLE up", NULL, NULL, NULL),
		0);
	CU_ASSERT_TRUE(push("a/b", "x", 1, &id) < 0);
	CU_ASSERT_EQUAL(id, -7);
}

static void a_rollback_takes_rows_and_counters_back(void)
{
	int64_t id;

	CU_ASSERT_EQUAL(push("a", "1", 1, &id), 0);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(push("a", "2", 1, &id), 0);
	db_rollback(db);
	CU_ASSERT_EQUAL(state_reload(state), 0);
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_ACCEPTED), 1);
	CU_ASSERT_EQUAL(number("SELECT count(*) FROM up"), 1);
}

static void ids_never_repeat_after_the_queue_was_empty(void)
{
	int64_t first;
	int64_t second;

	CU_ASSERT_EQUAL(push("a", "1", 1, &first), 0);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(
		sqlite3_exec(db_sqlite(db), "DELETE FROM up", NULL, NULL, NULL),
		0);
	close_all();
	open_all();
	CU_ASSERT_EQUAL(push("a", "2", 1, &second), 0);
	CU_ASSERT_TRUE(second > first);
}

static void what_is_committed_is_there_after_reopening(void)
{
	uint32_t epoch = state_epoch(state);
	int64_t id;

	CU_ASSERT_EQUAL(push("a", "1", 1, &id), 0);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(push("a", "2", 1, &id), 0); /* not committed */
	close_all();
	open_all();
	CU_ASSERT_EQUAL(number("SELECT count(*) FROM up"), 1);
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_ACCEPTED), 1);
	CU_ASSERT_EQUAL(state_epoch(state), epoch);
}

static void each_file_has_an_epoch_of_its_own(void)
{
	uint32_t epoch = state_epoch(state);

	tear_down();
	set_up();
	CU_ASSERT_NOT_EQUAL(state_epoch(state), epoch);
}

static void a_second_process_is_refused(void)
{
	struct db *second = NULL;

	CU_ASSERT_EQUAL(db_open(path, MAX_BYTES, &second), -EBUSY);
	CU_ASSERT_PTR_NULL(second);
}

static void a_file_that_is_no_database_is_left_alone(void)
{
	struct db *other = NULL;
	char name[128];
	char buf[64] = "";
	FILE *f;

	snprintf(name, sizeof(name), "%s/other", dir);
	f = fopen(name, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs("this is not a database, but somebody's letter to a friend...",
		f);
	fclose(f);
	CU_ASSERT_EQUAL(db_open(name, MAX_BYTES, &other), -EBADMSG);
	f = fopen(name, "r");
	CU_ASSERT_EQUAL(fread(buf, 1, 20, f), 20);
	fclose(f);
	CU_ASSERT_EQUAL(memcmp(buf, "this is not a databa", 20), 0);
	unlink(name);
}

static void a_file_of_a_newer_version_is_left_alone(void)
{
	struct db *other = NULL;

	CU_ASSERT_EQUAL(sqlite3_exec(db_sqlite(db), "PRAGMA user_version=99",
				NULL, NULL, NULL),
		0);
	close_all();
	CU_ASSERT_EQUAL(db_open(path, MAX_BYTES, &other), -EPROTONOSUPPORT);
	CU_ASSERT_PTR_NULL(other);
}

static void no_shared_memory_file_is_made(void)
{
	char shm[112];
	int64_t id;

	CU_ASSERT_EQUAL(push("a", "1", 1, &id), 0);
	CU_ASSERT_EQUAL(commit(), 0);
	snprintf(shm, sizeof(shm), "%s-shm", path);
	CU_ASSERT_EQUAL(access(shm, F_OK), -1);
	CU_ASSERT_EQUAL(number("PRAGMA synchronous"), 2);
}

static void down_rows_have_their_destination(void)
{
	struct msg m = {"cmd/x/y", "go", 2};
	int64_t id;

	CU_ASSERT_EQUAL(queue_push_down(q, "scale-1", &m, &id), 0);
	CU_ASSERT_EQUAL(queue_push_down(q, "", &m, &id), 0);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(
		number("SELECT count(*) FROM down WHERE dest=x'7363616c652d31'"),
		1);
	CU_ASSERT_EQUAL(state_counter(state, STATE_DOWN_ACCEPTED), 2);
}

static void push_down(const char *dest, int n)
{
	struct msg m = {"cmd/x/y", "go", 2};
	int64_t id;

	while (n--)
		CU_ASSERT_EQUAL_FATAL(queue_push_down(q, dest, &m, &id), 0);
}

static void what_waits_is_counted_for_each_destination(void)
{
	push_down("a", 3);
	push_down("", 2);
	push_down("ab", 1);
	CU_ASSERT_EQUAL(queue_count_down(q, "a", 100), 3); /* not yet stored */
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(queue_count_down(q, "a", 100), 3);
	CU_ASSERT_EQUAL(queue_count_down(q, "", 100), 2);
	CU_ASSERT_EQUAL(queue_count_down(q, "ab", 100), 1);
	CU_ASSERT_EQUAL(queue_count_down(q, "b", 100), 0);
	CU_ASSERT_EQUAL(queue_count_down(q, "a", 2), 2);
	CU_ASSERT_EQUAL_FATAL(sqlite3_exec(db_sqlite(db), "DROP TABLE down",
				      NULL, NULL, NULL),
		0);
	CU_ASSERT_TRUE(queue_count_down(q, "a", 100) < 0);
}

/* userdata: a name, or NULL for none. */
static bool is_this(void *userdata, const char *dest)
{
	CU_ASSERT_NOT_EQUAL(dest[0], '\0'); /* the broker is always wanted */
	return userdata && !strcmp(userdata, dest);
}

static void what_is_not_wanted_is_dropped_and_counted(void)
{
	char wanted[] = "b";

	CU_ASSERT_EQUAL(queue_drop_unwanted(q, is_this, NULL), 0);
	push_down("a", 3);
	push_down("b", 4);
	push_down("", 2);
	push_down("bb", 1);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(queue_drop_unwanted(q, is_this, wanted), 4);
	db_rollback(db);
	CU_ASSERT_EQUAL(state_reload(state), 0);
	CU_ASSERT_EQUAL(queue_count_down(q, "a", 100), 3);
	CU_ASSERT_EQUAL(state_counter(state, STATE_DOWN_DROPPED), 0);
	CU_ASSERT_EQUAL(queue_drop_unwanted(q, is_this, wanted), 4);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(queue_count_down(q, "a", 100), 0);
	CU_ASSERT_EQUAL(queue_count_down(q, "bb", 100), 0);
	CU_ASSERT_EQUAL(queue_count_down(q, "b", 100), 4);
	CU_ASSERT_EQUAL(queue_count_down(q, "", 100), 2);
	CU_ASSERT_EQUAL(state_counter(state, STATE_DOWN_DROPPED), 4);
	CU_ASSERT_EQUAL(queue_drop_unwanted(q, is_this, NULL), 4);
	CU_ASSERT_EQUAL(queue_drop_unwanted(q, is_this, NULL), 0);
	CU_ASSERT_EQUAL(commit(), 0);
	CU_ASSERT_EQUAL(number("SELECT count(*) FROM down"), 2);
	CU_ASSERT_EQUAL(state_counter(state, STATE_DOWN_DROPPED), 8);
}

/* SQLite may have rolled back by itself; then what follows is in another
 * transaction, and must not pass for the whole. */
static void a_full_disk_that_nobody_told_spoils_the_commit(void)
{
	static char big[2 * MAX_BYTES];
	int64_t id;

	CU_ASSERT_EQUAL(push("a", "before", 6, &id), 0);
	CU_ASSERT_EQUAL(push("a", big, sizeof(big), &id), QUEUE_FULL);
	CU_ASSERT_EQUAL(push("a", "after", 5, &id), 0);
	CU_ASSERT_EQUAL(commit(), DB_FULL);
	CU_ASSERT_FALSE(db_is_in_transaction(db));
	CU_ASSERT_EQUAL(number("SELECT count(*) FROM up"), 0);
	CU_ASSERT_EQUAL(state_reload(state), 0);
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_ACCEPTED), 0);
	/* Told once: the next one is as good as any. */
	CU_ASSERT_EQUAL(push("a", "next", 4, &id), 0);
	CU_ASSERT_EQUAL(commit(), 0);
	/* Also with nothing after it. */
	CU_ASSERT_EQUAL(push("a", "before", 6, &id), 0);
	CU_ASSERT_EQUAL(push("a", big, sizeof(big), &id), QUEUE_FULL);
	CU_ASSERT_EQUAL(db_commit(db), DB_FULL);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	CU_ASSERT_EQUAL(number("SELECT count(*) FROM up"), 1);
	close_all();
	open_all();
	CU_ASSERT_EQUAL(number("SELECT payload=x'6e657874' FROM up"), 1);
}

static void values_are_kept_and_must_fit(void)
{
	char buf[4];
	size_t n = 9;

	CU_ASSERT_EQUAL(state_get(state, "none", buf, sizeof(buf), &n), 0);
	CU_ASSERT_EQUAL(n, 0);
	CU_ASSERT_EQUAL(state_set(state, "k", "abcd", 4), 0);
	CU_ASSERT_EQUAL(state_set(state, "k", "xyz", 3), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	CU_ASSERT_EQUAL(state_get(state, "k", buf, sizeof(buf), &n), 0);
	CU_ASSERT_EQUAL(n, 3);
	CU_ASSERT_EQUAL(memcmp(buf, "xyz", 3), 0);
	CU_ASSERT_EQUAL(state_get(state, "k", buf, 2, &n), -ENOBUFS);
}

static void free_of_null_is_a_no_op(void)
{
	CU_ASSERT_PTR_NULL(queue_free(NULL));
	CU_ASSERT_PTR_NULL(state_free(NULL));
	CU_ASSERT_PTR_NULL(db_close(NULL));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"push stores one row and names it",
			push_stores_one_row_and_names_it},
		{"push takes an empty payload", push_takes_an_empty_payload},
		{"push keeps every byte", push_keeps_every_byte},
		{"push reports full and leaves id alone",
			push_reports_full_and_leaves_id_alone},
		{"a full spool still forgets", a_full_spool_still_forgets},
		{"push fails when the table is gone",
			push_fails_when_the_table_is_gone},
		{"a rollback takes rows and counters back",
			a_rollback_takes_rows_and_counters_back},
		{"ids never repeat after the queue was empty",
			ids_never_repeat_after_the_queue_was_empty},
		{"what is committed is there after reopening",
			what_is_committed_is_there_after_reopening},
		{"each file has an epoch of its own",
			each_file_has_an_epoch_of_its_own},
		{"a second process is refused", a_second_process_is_refused},
		{"a file that is no database is left alone",
			a_file_that_is_no_database_is_left_alone},
		{"a file of a newer version is left alone",
			a_file_of_a_newer_version_is_left_alone},
		{"no shared memory file is made",
			no_shared_memory_file_is_made},
		{"down rows have their destination",
			down_rows_have_their_destination},
		{"what waits is counted for each destination",
			what_waits_is_counted_for_each_destination},
		{"what is not wanted is dropped and counted",
			what_is_not_wanted_is_dropped_and_counted},
		{"a full disk that nobody told spoils the commit",
			a_full_disk_that_nobody_told_spoils_the_commit},
		{"values are kept and must fit", values_are_kept_and_must_fit},
		{"free of NULL is a no-op", free_of_null_is_a_no_op},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"queue", NULL, NULL, set_up, tear_down, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
