/* Numbers with units. */
#include "base/units.h"

#include <errno.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first. */
static const struct unit sizes[] = {
	{"T", UINT64_C(1) << 40},
	{"G", 1 << 30},
	{"M", 1 << 20},
	{"K", 1 << 10},
	{"B", 1},
	{NULL, 0},
};

static const struct unit durations[] = {
	{"w", UINT64_C(604800000000)},
	{"d", UINT64_C(86400000000)},
	{"h", UINT64_C(3600000000)},
	{"m", 60000000},
	{"s", 1000000},
	{"ms", 1000},
	{"us", 1},
	{NULL, 0},
};

static int parse(const char *text, const struct unit *units, uint64_t *ret)
{
	const char *at = text;
	uint64_t n = 0;

	if (*at < '0' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
			return -ERANGE;
	if (!*at && n == 0) {
		*ret = 0;
		return 0;
	}
	for (; units->name; units++) {
		if (strcmp(units->name, at))
			continue;
		if (__builtin_mul_overflow(n, units->factor, &n))
			return -ERANGE;
		*ret = n;
		return 0;
	}
	return -EINVAL;
}

int units_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	return parse(text, sizes, ret_bytes);
}

int units_parse_usec(const char *text, uint64_t *ret_usec)
{
	return parse(text, durations, ret_usec);
}
