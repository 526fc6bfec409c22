#ifndef SPOOL_REDIAL_H
#define SPOOL_REDIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/scope.h"

struct sd_event;

/* When a lost connection is tried again, and what is said about it: a delay by
 * base/retry.h, and a reason for the log and the status, which is logged when
 * it changes and every ten minutes, not at each try. */
struct redial;

#define REDIAL_REASON_BYTES 512

/* on_due(userdata) is called from the loop when the next try is due.  event is
 * borrowed, label copied.  0 or -errno. */
CHECKED int redial_new(struct sd_event *event, const char *label,
	uint64_t min_usec, uint64_t max_usec, void (*on_due)(void *userdata),
	void *userdata, struct redial **ret_redial);

struct redial *redial_free(struct redial *r);
DEFINE_SCOPED(struct redial *, redial_free);

/* Other delays, from the next one on. */
void redial_set_limits(struct redial *r, uint64_t min_usec, uint64_t max_usec);

/* Plan the next try; reason is copied and said.  is_contested: somebody else
 * has what we want, and whoever comes back soon throws the other one out, for
 * ever: not before half of the largest delay. */
void redial_later(struct redial *r, const char *reason, bool is_contested);

/* No try is planned any more; reason: why it is down, copied, not logged. */
void redial_never(struct redial *r, const char *reason);

/* A try is under way: none is planned, the reason stays. */
void redial_trying(struct redial *r);

/* It is up: there is no reason. */
void redial_up(struct redial *r);

/* Begin again with the shortest delay. */
void redial_reset(struct redial *r);

/* "" when up; borrowed until the next call. */
const char *redial_reason(const struct redial *r);

/* When the next try is due (now_boot_usec()); 0: none is planned. */
uint64_t redial_next_usec(const struct redial *r);

#endif
