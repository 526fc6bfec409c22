#ifndef BASE_RETRY_H
#define BASE_RETRY_H

#include <stdint.h>

/* When to try again: exponential backoff with full jitter.  Pure: it counts
 * and draws, the caller has the timer.
 *
 * The n-th delay is drawn evenly from [min/2, min(max, min * 2^n)], so that a
 * thousand gateways that lost the same cloud do not come back together. */
struct retry {
	uint64_t min_usec;
	uint64_t max_usec;
	uint64_t random; /* state of the generator */
	unsigned attempts;
};

/* 0 < min_usec <= max_usec.  seed: for tests; 0 takes one from the kernel. */
void retry_init(
	struct retry *r, uint64_t min_usec, uint64_t max_usec, uint32_t seed);

/* The next delay; counts an attempt. */
uint64_t retry_next_usec(struct retry *r);

/* It has worked: begin again with the shortest delay. */
void retry_reset(struct retry *r);

/* Delays given since the last reset. */
unsigned retry_attempts(const struct retry *r);

#endif
