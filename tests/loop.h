#ifndef TESTS_LOOP_H
#define TESTS_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <CUnit/Basic.h>
#include <systemd/sd-event.h>

#include "base/now.h"

/* An event loop that no test can hang in. */
#define LOOP_DEADLINE_USEC (20 * USEC_PER_SEC)

static sd_event *event;
static unsigned wake_ups; /* since loop_until() or loop_for() began */

static inline void loop_turn(uint64_t usec)
{
	int r = sd_event_run(event, usec);

	CU_ASSERT_TRUE_FATAL(r >= 0);
	wake_ups += r > 0;
}

/* Run until is_met(); the test has failed if that does not come. */
static inline void loop_until(bool (*is_met)(void))
{
	uint64_t end = now_boot_usec() + LOOP_DEADLINE_USEC;

	wake_ups = 0;
	while (!is_met() && now_boot_usec() < end)
		loop_turn(100 * USEC_PER_MSEC);
	CU_ASSERT_TRUE_FATAL(is_met());
}

/* Run for so long, to see that nothing happens; how often it woke up. */
static inline unsigned loop_for(uint64_t usec)
{
	uint64_t end = now_boot_usec() + usec;
	uint64_t now;

	wake_ups = 0;
	while ((now = now_boot_usec()) < end)
		loop_turn(end - now);
	return wake_ups;
}

#endif
