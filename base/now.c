/* The only place that asks the kernel for the time. */
#include "base/now.h"

#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t); /* cannot fail for these clocks */
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t real_boot(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

static uint64_t real_wall(void)
{
	return read_clock(CLOCK_REALTIME);
}

static uint64_t (*boot_clock)(void) = real_boot;
static uint64_t (*wall_clock)(void) = real_wall;

uint64_t now_boot_usec(void)
{
	return boot_clock();
}

uint64_t now_wall_usec(void)
{
	return wall_clock();
}

void now_set_for_test(uint64_t (*boot)(void), uint64_t (*wall)(void))
{
	boot_clock = boot ? boot : real_boot;
	wall_clock = wall ? wall : real_wall;
}
