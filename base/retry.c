/* Backoff arithmetic. */
#include "base/retry.h"

#include <assert.h>
#include <sys/random.h>

#include "base/now.h"

void retry_init(
	struct retry *r, uint64_t min_usec, uint64_t max_usec, uint32_t seed)
{
	assert(min_usec > 0 && min_usec <= max_usec);
	r->min_usec = min_usec;
	r->max_usec = max_usec;
	r->attempts = 0;
	r->random = seed;
	/* Early in the boot the kernel may have none: the clock will do, this
	 * is no secret. */
	if (!seed &&
		getrandom(&r->random, sizeof(r->random), GRND_NONBLOCK) !=
			(ssize_t)sizeof(r->random))
		r->random = now_boot_usec();
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t draw(struct retry *r)
{
	uint64_t z = r->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t retry_next_usec(struct retry *r)
{
	uint64_t low = r->min_usec / 2;
	uint64_t high = r->max_usec;
	uint64_t n; /* how many delays there are; 0: all of 2^64 */

	if (r->attempts < 64 && r->min_usec <= r->max_usec >> r->attempts)
		high = r->min_usec << r->attempts;
	if (r->attempts < UINT32_MAX)
		r->attempts++;
	n = high - low + 1;
	return n ? low + draw(r) % n : draw(r);
}

void retry_reset(struct retry *r)
{
	r->attempts = 0;
}

unsigned retry_attempts(const struct retry *r)
{
	return r->attempts;
}
