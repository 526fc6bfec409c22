/* Tests of base/units.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <CUnit/Basic.h>

#include "base/units.h"
#include "tests/unit.h"

#define NONE UINT64_C(77) /* what a failed call leaves behind */

typedef int parse_fn(const char *text, uint64_t *ret);

struct good {
	const char *text;
	uint64_t value;
};

static void expect_all(parse_fn *parse, const struct good *good)
{
	for (; good->text; good++) {
		uint64_t n = NONE;

		CU_ASSERT_EQUAL(parse(good->text, &n), 0);
		if (n != good->value)
			fprintf(stderr, "'%s' is %" PRIu64 "\n", good->text, n);
		CU_ASSERT_EQUAL(n, good->value);
	}
}

static void expect_error(parse_fn *parse, const char *const *texts, int error)
{
	for (; *texts; texts++) {
		uint64_t n = NONE;
		int r = parse(*texts, &n);

		if (r != error)
			fprintf(stderr, "'%s' gives %d\n", *texts, r);
		CU_ASSERT_EQUAL(r, error);
		CU_ASSERT_EQUAL(n, NONE);
	}
}

static void sizes_are_powers_of_1024(void)
{
	static const struct good good[] = {
		{"0", 0},
		{"00", 0},
		{"0T", 0},
		{"1B", 1},
		{"1K", 1024},
		{"64K", 65536},
		{"1M", 1048576},
		{"1536M", UINT64_C(1610612736)},
		{"5G", UINT64_C(5368709120)},
		{"10737418240B", UINT64_C(10737418240)},
		{"1T", UINT64_C(1099511627776)},
		{"0007K", 7168},
		{"18446744073709551615B", UINT64_MAX},
		{"16777215T", UINT64_C(16777215) << 40},
		{NULL, 0},
	};

	expect_all(units_parse_bytes, good);
}

static void durations_are_microseconds(void)
{
	static const struct good good[] = {
		{"0", 0},
		{"0s", 0},
		{"1us", 1},
		{"100ms", 100000},
		{"1m", 60000000},
		{"30s", 30000000},
		{"90s", 90000000},
		{"1h", UINT64_C(3600000000)},
		{"1d", UINT64_C(86400000000)},
		{"1w", UINT64_C(604800000000)},
		{"30500568w", UINT64_C(30500568) * 604800000000},
		{NULL, 0},
	};

	expect_all(units_parse_usec, good);
}

static void what_is_no_number_with_a_unit_is_refused(void)
{
	static const char *const sizes[] = {"", "5", "G", "5g", "5 G", " 5G",
		"5G ", "5GB", "5KiB", "-1G", "+1G", "1.5G", "1e3B", "0x10B",
		"5G5", "5GG", "5s", "1,000K", "\xd9\xa3K", NULL};
	static const char *const durations[] = {"", "5", "s", "5S", "5 s",
		"5sec", "5min", "-5s", "1.5s", "1h30m", "5M", "5msx",
		"5\xc2\xb5s", NULL};

	expect_error(units_parse_bytes, sizes, -EINVAL);
	expect_error(units_parse_usec, durations, -EINVAL);
}

static void more_than_fits_is_out_of_range(void)
{
	static const char *const sizes[] = {"18446744073709551616B",
		"18446744073709551615K", "16777216T", "17179869184G",
		"99999999999999999999999999999999B", "28823037615171174400K",
		NULL};
	static const char *const durations[] = {"18446744073709551616us",
		"18446744073710s", "30500569w", "18446744073709551615w", NULL};

	expect_error(units_parse_bytes, sizes, -ERANGE);
	expect_error(units_parse_usec, durations, -ERANGE);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"sizes are powers of 1,024", sizes_are_powers_of_1024},
		{"durations are microseconds", durations_are_microseconds},
		{"what is no number with a unit is refused",
			what_is_no_number_with_a_unit_is_refused},
		{"more than fits is out of range",
			more_than_fits_is_out_of_range},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"units", NULL, NULL, NULL, NULL, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
