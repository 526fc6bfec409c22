/* Tests of base/retry.h. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "base/now.h"
#include "base/retry.h"
#include "tests/unit.h"

#define MIN_USEC USEC_PER_SEC
#define MAX_USEC (64 * USEC_PER_SEC)

/* Largest delay of the n-th attempt, by the header's words. */
static uint64_t ceiling(uint64_t min, uint64_t max, unsigned n)
{
	uint64_t c = min;

	while (n-- && c < max)
		c = c > UINT64_MAX / 2 ? UINT64_MAX : 2 * c;
	return c < max ? c : max;
}

static void a_delay_lies_between_half_the_least_and_its_ceiling(void)
{
	uint32_t seed;
	unsigned n;

	for (seed = 1; seed <= 1000; seed++) {
		struct retry r;

		retry_init(&r, MIN_USEC, MAX_USEC, seed);
		for (n = 0; n < 20; n++) {
			uint64_t usec = retry_next_usec(&r);

			CU_ASSERT_TRUE(usec >= MIN_USEC / 2);
			CU_ASSERT_TRUE(usec <= ceiling(MIN_USEC, MAX_USEC, n));
		}
	}
}

/* Of 1,000 gateways: mean of the n-th delay, and how many of the draws fall
 * into each quarter of its range. */
static uint64_t spread(unsigned n, unsigned quarters[4])
{
	uint64_t low = MIN_USEC / 2;
	uint64_t width = ceiling(MIN_USEC, MAX_USEC, n) - low + 1;
	uint64_t sum = 0;
	uint32_t seed;
	unsigned i;

	memset(quarters, 0, 4 * sizeof(quarters[0]));
	for (seed = 1; seed <= 1000; seed++) {
		struct retry r;
		uint64_t usec = 0;

		retry_init(&r, MIN_USEC, MAX_USEC, seed);
		for (i = 0; i <= n; i++)
			usec = retry_next_usec(&r);
		quarters[(usec - low) * 4 / width]++;
		sum += usec;
	}
	return sum / 1000;
}

static void delays_grow_up_to_the_cap(void)
{
	unsigned quarters[4];
	uint64_t before = spread(0, quarters);
	uint64_t mean;
	unsigned n;

	for (n = 1; n <= 6; n++) {
		mean = spread(n, quarters);
		CU_ASSERT_TRUE(mean > before + before / 4);
		before = mean;
	}
	/* Here the cap is reached: no growth from now on. */
	mean = spread(30, quarters);
	CU_ASSERT_TRUE(mean > before - before / 10);
	CU_ASSERT_TRUE(mean < before + before / 10);
}

/* An even draw puts 250 +- 14 into each quarter. */
static void jitter_spreads_over_the_whole_range(void)
{
	static const unsigned attempts[] = {0, 1, 5, 9};
	unsigned quarters[4];
	unsigned i;
	unsigned k;

	for (i = 0; i < 4; i++) {
		spread(attempts[i], quarters);
		for (k = 0; k < 4; k++) {
			CU_ASSERT_TRUE(quarters[k] > 180);
			CU_ASSERT_TRUE(quarters[k] < 320);
		}
	}
}

static void the_cap_holds_for_ever(void)
{
	struct retry r;
	int i;

	retry_init(&r, MIN_USEC, MAX_USEC, 3);
	for (i = 0; i < 10000; i++)
		CU_ASSERT_TRUE_FATAL(retry_next_usec(&r) <= MAX_USEC);
	CU_ASSERT_EQUAL(retry_attempts(&r), 10000);
}

static void attempts_do_not_wrap(void)
{
	struct retry r;

	retry_init(&r, MIN_USEC, MAX_USEC, 3);
	r.attempts = UINT32_MAX - 1;
	CU_ASSERT_TRUE(retry_next_usec(&r) <= MAX_USEC);
	CU_ASSERT_TRUE(retry_next_usec(&r) <= MAX_USEC);
	CU_ASSERT_EQUAL(retry_attempts(&r), UINT32_MAX);
}

static void reset_begins_with_the_shortest_delay(void)
{
	struct retry r;
	int i;

	retry_init(&r, MIN_USEC, MAX_USEC, 9);
	CU_ASSERT_EQUAL(retry_attempts(&r), 0);
	for (i = 0; i < 50; i++) {
		CU_ASSERT_TRUE(retry_next_usec(&r) <= MIN_USEC);
		CU_ASSERT_TRUE(retry_next_usec(&r) <= 2 * MIN_USEC);
		CU_ASSERT_EQUAL(retry_attempts(&r), 2);
		retry_reset(&r);
		CU_ASSERT_EQUAL(retry_attempts(&r), 0);
	}
}

/* A reset must not make the next outage a copy of the last one. */
static void reset_draws_anew(void)
{
	struct retry r;
	uint64_t first;

	retry_init(&r, MIN_USEC, MAX_USEC, 9);
	first = retry_next_usec(&r);
	retry_reset(&r);
	CU_ASSERT_NOT_EQUAL(retry_next_usec(&r), first);
}

static bool is_same(uint32_t seed_a, uint32_t seed_b)
{
	struct retry a;
	struct retry b;
	int i;

	retry_init(&a, MIN_USEC, MAX_USEC, seed_a);
	retry_init(&b, MIN_USEC, MAX_USEC, seed_b);
	for (i = 0; i < 8; i++)
		if (retry_next_usec(&a) != retry_next_usec(&b))
			return false;
	return true;
}

static void a_seed_gives_the_same_delays(void)
{
	CU_ASSERT_TRUE(is_same(42, 42));
	CU_ASSERT_FALSE(is_same(42, 43));
}

static void without_a_seed_the_kernel_gives_one(void)
{
	CU_ASSERT_FALSE(is_same(0, 0));
}

static void equal_limits_and_odd_ones_work(void)
{
	struct retry r;
	int i;

	retry_init(&r, 1000, 1000, 1);
	for (i = 0; i < 100; i++) {
		uint64_t usec = retry_next_usec(&r);

		CU_ASSERT_TRUE(usec >= 500 && usec <= 1000);
	}
	retry_init(&r, 1, 3, 1);
	for (i = 0; i < 100; i++)
		CU_ASSERT_TRUE(retry_next_usec(&r) <= 3);
	/* The whole range there is. */
	retry_init(&r, 1, UINT64_MAX, 1);
	for (i = 0; i < 100; i++)
		CU_ASSERT_TRUE(retry_next_usec(&r) <=
			ceiling(1, UINT64_MAX, (unsigned)i));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a delay lies between half the least and its ceiling",
			a_delay_lies_between_half_the_least_and_its_ceiling},
		{"delays grow up to the cap", delays_grow_up_to_the_cap},
		{"jitter spreads over the whole range",
			jitter_spreads_over_the_whole_range},
		{"the cap holds for ever", the_cap_holds_for_ever},
		{"attempts do not wrap", attempts_do_not_wrap},
		{"reset begins with the shortest delay",
			reset_begins_with_the_shortest_delay},
		{"reset draws anew", reset_draws_anew},
		{"a seed gives the same delays", a_seed_gives_the_same_delays},
		{"without a seed the kernel gives one",
			without_a_seed_the_kernel_gives_one},
		{"equal limits and odd ones work",
			equal_limits_and_odd_ones_work},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"retry", NULL, NULL, NULL, NULL, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
