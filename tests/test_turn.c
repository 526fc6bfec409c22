/* Tests of base/turn.h: the order that the promise hangs on. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <CUnit/Basic.h>
#include <systemd/sd-event.h>

#include "base/turn.h"
#include "tests/unit.h"

static sd_event *event;
static struct turn *turn;
static char trace[256];
static int commit_result;
static bool wants_more; /* the flush asks for another turn, once */

static int on_commit(void *userdata)
{
	(void)userdata;
	strcat(trace, "C");
	return commit_result;
}

static void on_idle(void *userdata)
{
	(void)userdata;
	strcat(trace, ".");
}

static const struct turn_ops ops = {.commit = on_commit, .idle = on_idle};

static void flush(void *userdata)
{
	strcat(trace, userdata);
	if (wants_more) {
		wants_more = false;
		turn_due(turn, 0);
	}
}

static void set_up(void)
{
	trace[0] = '\0';
	commit_result = 0;
	wants_more = false;
	CU_ASSERT_TRUE_FATAL(sd_event_new(&event) >= 0);
	CU_ASSERT_EQUAL_FATAL(turn_new(event, &ops, NULL, &turn), 0);
	CU_ASSERT_EQUAL_FATAL(turn_join(turn, flush, (void *)"a"), 0);
	CU_ASSERT_EQUAL_FATAL(turn_join(turn, flush, (void *)"b"), 0);
}

static void tear_down(void)
{
	turn = turn_free(turn);
	event = sd_event_unref(event);
}

static void run_until_quiet(void)
{
	while (sd_event_run(event, 0) > 0)
		;
}

static void commit_comes_before_every_flush(void)
{
	turn_due(turn, 1);
	turn_due(turn, 1);
	run_until_quiet();
	CU_ASSERT_STRING_EQUAL(trace, "Cab.");
}

static void nothing_is_written_when_the_commit_fails(void)
{
	commit_result = -EIO;
	turn_due(turn, 1);
	run_until_quiet();
	CU_ASSERT_STRING_EQUAL(trace, "C.");
}

static void nothing_due_nothing_done(void)
{
	turn_end(turn);
	run_until_quiet();
	CU_ASSERT_STRING_EQUAL(trace, "");
}

static void what_comes_up_while_ending_gets_a_turn_of_its_own(void)
{
	wants_more = true;
	turn_due(turn, 1);
	run_until_quiet();
	CU_ASSERT_STRING_EQUAL(trace, "Cab.Cab.");
}

static int busy_left;

static int on_busy(sd_event_source *s, void *userdata)
{
	(void)userdata;
	turn_due(turn, 100);
	strcat(trace, "r");
	if (--busy_left == 0)
		sd_event_source_set_enabled(s, SD_EVENT_OFF);
	return 0;
}

static void a_turn_waits_for_all_that_is_ready_but_not_for_ever(void)
{
	sd_event_source *busy = NULL;

	busy_left = 8;
	CU_ASSERT_TRUE_FATAL(
		sd_event_add_defer(event, &busy, on_busy, NULL) >= 0);
	sd_event_source_set_enabled(busy, SD_EVENT_ON);
	run_until_quiet();
	/* 256 / 100: after three reads the turn is full. */
	CU_ASSERT_STRING_EQUAL(trace, "rrrCab.rrrCab.rrCab.");
	sd_event_source_disable_unref(busy);
}

static int on_restless(sd_event_source *s, void *userdata)
{
	(void)s;
	++*(unsigned *)userdata;
	return 0;
}

/* A tty that babbles without an end of line, say. */
static void a_source_that_never_rests_does_not_hold_a_turn_up(void)
{
	sd_event_source *restless = NULL;
	unsigned rounds = 0;

	CU_ASSERT_TRUE_FATAL(sd_event_add_defer(event, &restless, on_restless,
				     &rounds) >= 0);
	sd_event_source_set_enabled(restless, SD_EVENT_ON);
	turn_due(turn, 1);
	while (!trace[0] && rounds < 1000)
		sd_event_run(event, 0);
	CU_ASSERT_STRING_EQUAL(trace, "Cab.");
	CU_ASSERT(rounds > 50 && rounds < 150);
	/* And the next turn is as patient as the first. */
	trace[0] = '\0';
	rounds = 0;
	turn_due(turn, 1);
	while (!trace[0] && rounds < 1000)
		sd_event_run(event, 0);
	CU_ASSERT(rounds > 50 && rounds < 150);
	sd_event_source_disable_unref(restless);
}

static void too_many_members_are_refused(void)
{
	int r = 0;
	int i;

	for (i = 0; i < 7 && r == 0; i++)
		r = turn_join(turn, flush, (void *)"x");
	CU_ASSERT_EQUAL(r, -ENOSPC);
	CU_ASSERT_EQUAL(i, 7);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"commit comes before every flush",
			commit_comes_before_every_flush},
		{"nothing is written when the commit fails",
			nothing_is_written_when_the_commit_fails},
		{"nothing due, nothing done", nothing_due_nothing_done},
		{"what comes up while ending gets a turn of its own",
			what_comes_up_while_ending_gets_a_turn_of_its_own},
		{"a turn waits for all that is ready, but not for ever",
			a_turn_waits_for_all_that_is_ready_but_not_for_ever},
		{"a source that never rests does not hold a turn up",
			a_source_that_never_rests_does_not_hold_a_turn_up},
		{"too many members are refused", too_many_members_are_refused},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"turn", NULL, NULL, set_up, tear_down, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
