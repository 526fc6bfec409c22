/* Tests of spool/redial.h. */
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/now.h"
#include "spool/redial.h"
#include "tests/unit.h"

#define MIN_USEC (2 * USEC_PER_MSEC)
#define MAX_USEC (40 * USEC_PER_MSEC)

static sd_event *event;
static struct redial *r;
static unsigned n_due;

static void on_due(void *userdata)
{
	(void)userdata;
	n_due++;
}

static void set_up(void)
{
	log_set_level(LOG_LEVEL_ERROR); /* the tests are no news */
	CU_ASSERT_EQUAL_FATAL(sd_event_new(&event) < 0, 0);
	CU_ASSERT_EQUAL_FATAL(
		redial_new(event, "test", MIN_USEC, MAX_USEC, on_due, NULL, &r),
		0);
	n_due = 0;
}

static void tear_down(void)
{
	r = redial_free(r);
	event = sd_event_unref(event);
	log_set_level(LOG_LEVEL_INFO);
}

/* Let the loop wait for at most so long for one event. */
static void run(uint64_t usec)
{
	CU_ASSERT_TRUE(sd_event_run(event, usec) >= 0);
}

static void a_planned_try_comes_once(void)
{
	CU_ASSERT_EQUAL(redial_next_usec(r), 0);
	redial_later(r, "no route", false);
	CU_ASSERT_STRING_EQUAL(redial_reason(r), "no route");
	CU_ASSERT_TRUE(redial_next_usec(r) > 0);
	run(USEC_PER_SEC);
	CU_ASSERT_EQUAL(n_due, 1);
	CU_ASSERT_EQUAL(redial_next_usec(r), 0);
	CU_ASSERT_STRING_EQUAL(redial_reason(r), "no route");
	run(2 * MAX_USEC);
	CU_ASSERT_EQUAL(n_due, 1);
}

static void a_try_that_is_off_does_not_come(void)
{
	redial_later(r, "refused", false);
	redial_never(r, "stopped");
	CU_ASSERT_EQUAL(redial_next_usec(r), 0);
	CU_ASSERT_STRING_EQUAL(redial_reason(r), "stopped");
	run(2 * MAX_USEC);
	CU_ASSERT_EQUAL(n_due, 0);
	redial_later(r, "refused", false);
	redial_trying(r);
	CU_ASSERT_STRING_EQUAL(redial_reason(r), "refused");
	run(2 * MAX_USEC);
	CU_ASSERT_EQUAL(n_due, 0);
}

static void up_has_no_reason(void)
{
	redial_later(r, "refused", false);
	redial_up(r);
	CU_ASSERT_STRING_EQUAL(redial_reason(r), "");
}

/* From now, in microseconds. */
static uint64_t delay(bool is_contested)
{
	uint64_t now = now_boot_usec();

	redial_later(r, "x", is_contested);
	return redial_next_usec(r) - now;
}

static void what_is_contested_waits_half_of_the_largest_delay(void)
{
	int i;

	for (i = 0; i < 50; i++) {
		redial_reset(r);
		CU_ASSERT_TRUE(delay(true) >= MAX_USEC / 2);
	}
}

static void other_limits_hold_from_the_next_delay_on(void)
{
	int i;

	redial_set_limits(r, USEC_PER_SEC, USEC_PER_SEC);
	CU_ASSERT_TRUE(delay(false) >= USEC_PER_SEC / 2);
	redial_set_limits(r, MIN_USEC, MAX_USEC);
	for (i = 0; i < 50; i++)
		CU_ASSERT_TRUE(delay(false) <= MAX_USEC + 10 * USEC_PER_MSEC);
}

static void a_long_reason_is_cut(void)
{
	char text[2 * REDIAL_REASON_BYTES];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	redial_later(r, text, false);
	CU_ASSERT_EQUAL(strlen(redial_reason(r)), REDIAL_REASON_BYTES - 1);
}

static void free_of_null_is_a_no_op(void)
{
	CU_ASSERT_PTR_NULL(redial_free(NULL));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a planned try comes once", a_planned_try_comes_once},
		{"a try that is off does not come",
			a_try_that_is_off_does_not_come},
		{"up has no reason", up_has_no_reason},
		{"what is contested waits half of the largest delay",
			what_is_contested_waits_half_of_the_largest_delay},
		{"other limits hold from the next delay on",
			other_limits_hold_from_the_next_delay_on},
		{"a long reason is cut", a_long_reason_is_cut},
		{"free of NULL is a no-op", free_of_null_is_a_no_op},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"redial", NULL, NULL, set_up, tear_down, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
