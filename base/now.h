#ifndef BASE_NOW_H
#define BASE_NOW_H

#include <stdint.h>

/* The two clocks, in microseconds.  A test may replace them. */

/* Since boot, suspended time included (CLOCK_BOOTTIME): for intervals. */
uint64_t now_boot_usec(void);

/* Since 1970 (CLOCK_REALTIME): wrong until the clock is set; only for people
 * and for the cloud, never for an interval. */
uint64_t now_wall_usec(void);

/* Replace both clocks; NULL brings the real one back.  Tests only. */
void now_set_for_test(uint64_t (*boot)(void), uint64_t (*wall)(void));

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

#endif
