#ifndef SPOOL_SUBS_H
#define SPOOL_SUBS_H

#include <stddef.h>

#include "base/scope.h"

struct mqttio;
struct state;

/* The subscriptions of one session: what is wanted, and what the broker still
 * has from before.  The filters are noted in the state, so that those which a
 * later configuration no longer has are unsubscribed, also by a later
 * process. */
struct subs;

/* label: of the session, for log lines and the name of the note; copied.  state
 * is borrowed and outlives it.  0 or -ENOMEM. */
CHECKED int subs_new(
	struct state *state, const char *label, struct subs **ret_subs);

struct subs *subs_free(struct subs *s);
DEFINE_SCOPED(struct subs *, subs_free);

/* Want these filters, MQTT form, copied, in the place of the ones before.  0 or
 * -ENOMEM. */
CHECKED int subs_want(struct subs *s, char *const *filters, size_t n);

/* Bring the broker in line: for each new connection, and after subs_want().
 * The note goes into the turn's transaction. */
void subs_apply(struct subs *s, struct mqttio *io);

/* The answer to a SUBSCRIBE; a refusal is logged. */
void subs_on_suback(struct subs *s, unsigned mid, int granted);

#endif
