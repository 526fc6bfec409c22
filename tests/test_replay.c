/* Tests of spool/replay.h and spool/recent.h. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>
#include <sqlite3.h>

#include "base/log.h"
#include "base/now.h"
#include "spool/db.h"
#include "spool/queue.h"
#include "spool/recent.h"
#include "spool/replay.h"
#include "spool/state.h"
#include "tests/unit.h"

#define WINDOW 4

static struct db *db;
static struct state *state;
static struct queue *q;
static struct replay *p;

/* What send() saw. */
static struct {
	int64_t ids[64];
	char payloads[64][16];
	int n;
	int refuse_from; /* -1: never */
	int skip;        /* the id to skip */
} seen;

static uint64_t fake_now = 1000;

static uint64_t clock_of_test(void)
{
	return fake_now;
}

static void set_up(void)
{
	CU_ASSERT_EQUAL_FATAL(db_open(":memory:", 1 << 20, &db), 0);
	CU_ASSERT_EQUAL_FATAL(state_new(db, &state), 0);
	CU_ASSERT_EQUAL_FATAL(queue_new(db, state, &q), 0);
	CU_ASSERT_EQUAL_FATAL(replay_new(db, state, NULL, WINDOW, &p), 0);
	memset(&seen, 0, sizeof(seen));
	seen.refuse_from = -1;
	now_set_for_test(clock_of_test, NULL);
}

static void tear_down(void)
{
	now_set_for_test(NULL, NULL);
	p = replay_free(p);
	q = queue_free(q);
	state = state_free(state);
	db = db_close(db);
}

static void push(int n)
{
	char text[16];
	int64_t id;
	int i;

	for (i = 0; i < n; i++) {
		struct msg m = {"t", text, 0};

		m.payload_bytes =
			(size_t)snprintf(text, sizeof(text), "m%d", i);
		CU_ASSERT_EQUAL_FATAL(queue_push_up(q, &m, &id), 0);
	}
	CU_ASSERT_EQUAL_FATAL(state_store(state), 0);
	CU_ASSERT_EQUAL_FATAL(db_commit(db), 0);
}

static int on_send(
	void *userdata, int64_t id, const struct msg *msg, unsigned *ret_tag)
{
	(void)userdata;
	if (seen.refuse_from >= 0 && seen.n >= seen.refuse_from)
		return -ENOTCONN;
	if (seen.skip == id)
		return REPLAY_SKIP;
	snprintf(seen.payloads[seen.n], sizeof(seen.payloads[0]), "%.*s",
		(int)msg->payload_bytes, (const char *)msg->payload);
	seen.ids[seen.n++] = id;
	*ret_tag = 100 + (unsigned)id;
	return 0;
}

static void fill(void)
{
	CU_ASSERT_EQUAL(replay_fill(p, on_send, NULL), 0);
}

static void store(void)
{
	CU_ASSERT_EQUAL(replay_store(p), 0);
	CU_ASSERT_EQUAL(state_store(state), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	replay_stored(p);
}

static void rows_come_in_order_up_to_the_window(void)
{
	push(6);
	fill();
	CU_ASSERT_EQUAL(seen.n, WINDOW);
	CU_ASSERT_EQUAL(seen.ids[0], 1);
	CU_ASSERT_STRING_EQUAL(seen.payloads[3], "m3");
	fill();
	CU_ASSERT_EQUAL(seen.n, WINDOW);
	CU_ASSERT_EQUAL(replay_out(p), WINDOW);
}

static void an_ack_makes_room_and_removes_the_row(void)
{
	push(6);
	fill();
	CU_ASSERT_TRUE(replay_ack(p, 101, false));
	CU_ASSERT_TRUE(replay_ack(p, 103, false));
	store();
	CU_ASSERT_EQUAL(replay_backlog(p), 4);
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_DELIVERED), 2);
	fill();
	CU_ASSERT_EQUAL(seen.n, 6);
	CU_ASSERT_EQUAL(seen.ids[5], 6);
}

static void an_ack_that_nobody_waits_for_is_told(void)
{
	push(1);
	fill();
	CU_ASSERT_FALSE(replay_ack(p, 999, false));
	CU_ASSERT_TRUE(replay_ack(p, 101, false));
	CU_ASSERT_FALSE(replay_ack(p, 101, false));
}

static void a_row_not_acked_comes_again_after_a_restart(void)
{
	push(3);
	fill();
	CU_ASSERT_TRUE(replay_ack(p, 102, false));
	store();
	replay_restart(p);
	CU_ASSERT_EQUAL(replay_out(p), 0);
	fill();
	CU_ASSERT_EQUAL(seen.n, 5);
	CU_ASSERT_EQUAL(seen.ids[3], 1);
	CU_ASSERT_EQUAL(seen.ids[4], 3);
}

static void an_ack_before_the_restart_is_not_forgotten(void)
{
	push(3);
	fill();
	CU_ASSERT_TRUE(replay_ack(p, 102, false));
	replay_restart(p);
	fill(); /* before the removal could be committed */
	CU_ASSERT_EQUAL(seen.n, 5);
	store();
	CU_ASSERT_EQUAL(replay_backlog(p), 2);
}

static void a_rollback_keeps_the_acks(void)
{
	push(2);
	fill();
	CU_ASSERT_TRUE(replay_ack(p, 101, false));
	CU_ASSERT_EQUAL(replay_store(p), 0);
	db_rollback(db);
	CU_ASSERT_EQUAL(state_reload(state), 0);
	CU_ASSERT_EQUAL(replay_backlog(p), 2);
	store();
	CU_ASSERT_EQUAL(replay_backlog(p), 1);
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_DELIVERED), 1);
}

static void a_send_that_fails_leaves_the_row(void)
{
	push(3);
	seen.refuse_from = 1;
	fill();
	CU_ASSERT_EQUAL(seen.n, 1);
	seen.refuse_from = -1;
	fill();
	CU_ASSERT_EQUAL(seen.n, 3);
	CU_ASSERT_EQUAL(seen.ids[1], 2);
}

static void a_skipped_row_is_dropped_and_counted(void)
{
	push(3);
	seen.skip = 2;
	fill();
	CU_ASSERT_EQUAL(seen.n, 2);
	store();
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_DROPPED), 1);
	CU_ASSERT_EQUAL(replay_backlog(p), 2);
}

static void a_refused_row_is_dropped_and_counted(void)
{
	push(1);
	fill();
	CU_ASSERT_TRUE(replay_ack(p, 101, true));
	store();
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_DROPPED), 1);
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_DELIVERED), 0);
	CU_ASSERT_EQUAL(replay_backlog(p), 0);
}

static void a_damaged_row_is_never_given_out(void)
{
	push(3);
	CU_ASSERT_EQUAL(sqlite3_exec(db_sqlite(db),
				"UPDATE up SET payload=x'00' WHERE id=2", NULL,
				NULL, NULL),
		0);
	fill();
	CU_ASSERT_EQUAL(seen.n, 2);
	CU_ASSERT_EQUAL(seen.ids[1], 3);
	store();
	CU_ASSERT_EQUAL(state_counter(state, STATE_UP_DROPPED), 1);
}

static void a_smaller_window_holds(void)
{
	push(6);
	replay_limit(p, 2);
	fill();
	CU_ASSERT_EQUAL(seen.n, 2);
	replay_limit(p, 1000);
	fill();
	CU_ASSERT_EQUAL(seen.n, WINDOW);
}

static void each_destination_has_its_own_rows(void)
{
	struct msg m = {"cmd/a/x", "1", 1};
	struct replay *scale = NULL;
	struct replay *broker = NULL;
	int64_t id;

	CU_ASSERT_EQUAL_FATAL(replay_new(db, state, "scale", 1, &scale), 0);
	CU_ASSERT_EQUAL_FATAL(replay_new(db, state, "", 9, &broker), 0);
	CU_ASSERT_EQUAL(queue_push_down(q, "scale", &m, &id), 0);
	CU_ASSERT_EQUAL(queue_push_down(q, "", &m, &id), 0);
	CU_ASSERT_EQUAL(queue_push_down(q, "", &m, &id), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	CU_ASSERT_EQUAL(replay_backlog(scale), 1);
	CU_ASSERT_EQUAL(replay_fill(broker, on_send, NULL), 0);
	CU_ASSERT_EQUAL(seen.n, 2);
	CU_ASSERT_EQUAL(seen.ids[0], 2);
	CU_ASSERT_EQUAL(replay_fill(scale, on_send, NULL), 0);
	CU_ASSERT_EQUAL(seen.ids[2], 1);
	replay_free(scale);
	replay_free(broker);
}

/* Random pushes, acks, restarts and rollbacks: each row is acknowledged once
 * and none is lost. */
static void nothing_is_lost_whatever_happens(void)
{
	unsigned seed = 20261124;
	unsigned acked = 0;
	unsigned pushed = 0;
	unsigned step;

	for (step = 0; step < 3000; step++) {
		unsigned dice = (unsigned)rand_r(&seed) % 10;

		if (dice < 3 && pushed < 500) {
			push(1);
			pushed++;
		} else if (dice < 6) {
			seen.n = 0;
			fill();
		} else if (dice < 8 && seen.n) {
			int i = rand_r(&seed) % seen.n;

			acked += replay_ack(
				p, 100 + (unsigned)seen.ids[i], false);
		} else if (dice == 8) {
			replay_restart(p);
			seen.n = 0;
		} else if (rand_r(&seed) % 2) {
			store();
		} else {
			CU_ASSERT_EQUAL(replay_store(p), 0);
			db_rollback(db);
			CU_ASSERT_EQUAL(state_reload(state), 0);
		}
	}
	store();
	CU_ASSERT_EQUAL(
		state_counter(state, STATE_UP_ACCEPTED), (uint64_t)pushed);
	CU_ASSERT_EQUAL(
		state_counter(state, STATE_UP_DELIVERED), (uint64_t)acked);
	CU_ASSERT_EQUAL(replay_backlog(p), (uint64_t)(pushed - acked));
}

/* ---- recent ---- */

#define RING 512

static struct recent *make_recent(void)
{
	struct recent *r = NULL;

	CU_ASSERT_EQUAL_FATAL(recent_new(state, "recent.x", RING, &r), 0);
	return r;
}

static const struct msg m1 = {"a", "1", 1};
static const struct msg m2 = {"a", "2", 1};
static const struct msg m3 = {"a", "3", 1};

static void what_the_broker_repeats_is_recognised(void)
{
	struct recent *r = make_recent();

	recent_resume(r, false);
	recent_add(r, 1, &m1);
	recent_add(r, 2, &m2);
	recent_add(r, 3, &m3);
	CU_ASSERT_EQUAL(recent_store(r), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	recent_free(r);
	r = make_recent();
	recent_resume(r, true);
	CU_ASSERT_TRUE(recent_is_repeated(r, 2, &m2));
	CU_ASSERT_TRUE(recent_is_repeated(r, 3, &m3));
	CU_ASSERT_FALSE(recent_is_repeated(r, 4, &m3));
	/* Once more: we were killed while it repeated. */
	CU_ASSERT_TRUE(recent_is_repeated(r, 3, &m3));
	recent_free(r);
}

/* Turns of every length, each followed by a kill, three times round. */
static void the_ring_holds_the_last_ones_whatever_the_turns_are(void)
{
	struct recent *r = make_recent();
	unsigned turn = 1;
	unsigned n = 0;
	unsigned i;

	while (n < 3 * RING) {
		for (i = 0; i < turn; i++)
			recent_add(r, ++n, &m1);
		CU_ASSERT_EQUAL(recent_store(r), 0);
		CU_ASSERT_EQUAL(db_commit(db), 0);
		recent_free(r);
		r = make_recent();
		for (i = 1; i <= n + 1; i++)
			CU_ASSERT_EQUAL(recent_is_repeated(r, i, &m1),
				i <= n && i + RING > n);
		turn = (turn * 7 + 1) % 700 + 1;
	}
	recent_free(r);
}

static void the_same_identifier_with_other_contents_is_new(void)
{
	struct recent *r = make_recent();

	recent_add(r, 1, &m1);
	recent_resume(r, true);
	CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m2));
	recent_free(r);
}

static void a_new_session_repeats_nothing(void)
{
	struct recent *r = make_recent();

	recent_add(r, 1, &m1);
	recent_resume(r, false);
	CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m1));
	recent_resume(r, true);
	CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m1));
	recent_free(r);
}

static void what_was_forgotten_is_so_after_a_kill_and_a_rollback(void)
{
	struct recent *r = make_recent();

	recent_add(r, 1, &m1);
	CU_ASSERT_EQUAL(recent_store(r), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	recent_resume(r, false);
	recent_add(r, 2, &m2);
	CU_ASSERT_EQUAL(recent_store(r), 0);
	db_rollback(db);
	CU_ASSERT_EQUAL(recent_reload(r), 0);
	CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m1));
	CU_ASSERT_FALSE(recent_is_repeated(r, 2, &m2));
	recent_add(r, 3, &m3);
	CU_ASSERT_EQUAL(recent_store(r), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	recent_free(r);
	r = make_recent();
	CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m1));
	CU_ASSERT_TRUE(recent_is_repeated(r, 3, &m3));
	recent_free(r);
}

static void qos_0_is_never_a_repetition(void)
{
	struct recent *r = make_recent();

	recent_add(r, 0, &m1);
	recent_resume(r, true);
	CU_ASSERT_FALSE(recent_is_repeated(r, 0, &m1));
	recent_free(r);
}

static void a_rollback_takes_the_ring_back(void)
{
	struct recent *r = make_recent();

	recent_add(r, 1, &m1);
	CU_ASSERT_EQUAL(recent_store(r), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	recent_add(r, 2, &m2);
	CU_ASSERT_EQUAL(recent_reload(r), 0);
	recent_resume(r, true);
	CU_ASSERT_TRUE(recent_is_repeated(r, 1, &m1));
	CU_ASSERT_FALSE(recent_is_repeated(r, 2, &m2));
	recent_free(r);
}

static void what_is_confirmed_does_not_come_again(void)
{
	struct recent *r = make_recent();

	recent_add(r, 1, &m1);
	CU_ASSERT_EQUAL(recent_count(r), 1);
	recent_add(r, 2, &m2);
	recent_add(r, 0, &m3); /* QoS 0 has no PUBACK */
	CU_ASSERT_EQUAL(recent_count(r), 2);
	recent_confirm(r, 1);
	/* So this is a new message that looks the same, sent twice. */
	CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m1));
	CU_ASSERT_TRUE(recent_is_repeated(r, 2, &m2));
	recent_add(r, 1, &m1);
	CU_ASSERT_TRUE(recent_is_repeated(r, 1, &m1));
	recent_confirm(r, 2);
	CU_ASSERT_FALSE(recent_is_repeated(r, 2, &m2));
	CU_ASSERT_TRUE(recent_is_repeated(r, 1, &m1));
	/* None of it is taken back, and nothing that is not there is
	 * confirmed. */
	recent_confirm(r, 1);
	CU_ASSERT_FALSE(recent_is_repeated(r, 2, &m2));
	recent_confirm(r, 4);
	CU_ASSERT_TRUE(recent_is_repeated(r, 1, &m1));
	/* A new session begins anew. */
	recent_resume(r, false);
	CU_ASSERT_EQUAL(recent_count(r), 0);
	recent_add(r, 1, &m1);
	CU_ASSERT_TRUE(recent_is_repeated(r, 1, &m1));
	recent_free(r);
}

/* With the next message in the same block, and in the next one. */
static void what_is_confirmed_is_stored_with_the_next_message(void)
{
	static const unsigned firsts[] = {1, 256, 300};
	size_t i;

	for (i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		struct recent *r = make_recent();
		unsigned n;

		recent_resume(r, false);
		for (n = 1; n <= firsts[i]; n++)
			recent_add(r, n, &m1);
		CU_ASSERT_EQUAL(recent_store(r), 0);
		CU_ASSERT_EQUAL(db_commit(db), 0);
		recent_confirm(r, firsts[i]);
		recent_add(r, n, &m2);
		CU_ASSERT_EQUAL(recent_store(r), 0);
		CU_ASSERT_EQUAL(db_commit(db), 0);
		recent_free(r);
		r = make_recent();
		recent_resume(r, true);
		CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m1));
		CU_ASSERT_FALSE(recent_is_repeated(r, firsts[i], &m1));
		CU_ASSERT_TRUE(recent_is_repeated(r, n, &m2));
		recent_free(r);
	}
}

static void a_rollback_does_not_take_confirmations_back(void)
{
	struct recent *r = make_recent();

	recent_add(r, 1, &m1);
	recent_add(r, 2, &m2);
	CU_ASSERT_EQUAL(recent_store(r), 0);
	CU_ASSERT_EQUAL(db_commit(db), 0);
	recent_confirm(r, 1);
	recent_add(r, 3, &m3);
	CU_ASSERT_EQUAL(recent_store(r), 0);
	db_rollback(db);
	CU_ASSERT_EQUAL(recent_reload(r), 0);
	CU_ASSERT_FALSE(recent_is_repeated(r, 1, &m1));
	CU_ASSERT_TRUE(recent_is_repeated(r, 2, &m2));
	CU_ASSERT_FALSE(recent_is_repeated(r, 3, &m3));
	recent_free(r);
}

int main(void)
{
	CU_TestInfo replay[] = {
		{"rows come in order up to the window",
			rows_come_in_order_up_to_the_window},
		{"an ack makes room and removes the row",
			an_ack_makes_room_and_removes_the_row},
		{"an ack that nobody waits for is told",
			an_ack_that_nobody_waits_for_is_told},
		{"a row not acked comes again after a restart",
			a_row_not_acked_comes_again_after_a_restart},
		{"an ack before the restart is not forgotten",
			an_ack_before_the_restart_is_not_forgotten},
		{"a rollback keeps the acks", a_rollback_keeps_the_acks},
		{"a send that fails leaves the row",
			a_send_that_fails_leaves_the_row},
		{"a skipped row is dropped and counted",
			a_skipped_row_is_dropped_and_counted},
		{"a refused row is dropped and counted",
			a_refused_row_is_dropped_and_counted},
		{"a damaged row is never given out",
			a_damaged_row_is_never_given_out},
		{"a smaller window holds", a_smaller_window_holds},
		{"each destination has its own rows",
			each_destination_has_its_own_rows},
		{"nothing is lost whatever happens",
			nothing_is_lost_whatever_happens},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo recent[] = {
		{"what the broker repeats is recognised",
			what_the_broker_repeats_is_recognised},
		{"the same identifier with other contents is new",
			the_same_identifier_with_other_contents_is_new},
		{"a new session repeats nothing",
			a_new_session_repeats_nothing},
		{"QoS 0 is never a repetition", qos_0_is_never_a_repetition},
		{"a rollback takes the ring back",
			a_rollback_takes_the_ring_back},
		{"the ring holds the last ones whatever the turns are",
			the_ring_holds_the_last_ones_whatever_the_turns_are},
		{"what was forgotten is so after a kill and a rollback",
			what_was_forgotten_is_so_after_a_kill_and_a_rollback},
		{"what is confirmed does not come again",
			what_is_confirmed_does_not_come_again},
		{"what is confirmed is stored with the next message",
			what_is_confirmed_is_stored_with_the_next_message},
		{"a rollback does not take confirmations back",
			a_rollback_does_not_take_confirmations_back},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"replay", NULL, NULL, set_up, tear_down, replay},
		{"recent", NULL, NULL, set_up, tear_down, recent},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
