#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/scope.h"

/* Sizes and durations as people write them: a whole number and a unit, without
 * a blank.
 *
 * Sizes: B, K, M, G, T in powers of 1,024; "5G".  Durations: us, ms, s, m, h,
 * d, w; "30s".  0 needs no unit. */

/* 0; -EINVAL: not a number with a unit; -ERANGE: more than fits. */
CHECKED int units_parse_bytes(const char *text, uint64_t *ret_bytes);
CHECKED int units_parse_usec(const char *text, uint64_t *ret_usec);

/* Write a value so that it parses to itself, in the largest unit that has no
 * remainder: "1536M", "90s".  Returns buf. */
#define UNITS_TEXT_BYTES 32
const char *units_print_bytes(uint64_t bytes, char buf[UNITS_TEXT_BYTES]);
const char *units_print_usec(uint64_t usec, char buf[UNITS_TEXT_BYTES]);

#endif
