#ifndef BASE_UNITS_H
#define BASE_UNITS_H

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

#endif
