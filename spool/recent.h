#ifndef SPOOL_RECENT_H
#define SPOOL_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/msg.h"
#include "base/scope.h"

struct state;

/* What was taken in last from a broker, so that what it sends once more after
 * an interruption is recognised and not stored twice.
 *
 * A kill between our commit and the broker's receipt of the PUBACK makes it
 * send again, when the session resumes, what we have: MQTT 3.1.1 and 5, 4.4.
 * These are the last messages stored, with the same packet identifiers and
 * contents, and with the DUP flag (3.3.1.1); without that flag a message is new
 * whatever its identifier, which many brokers soon use again.  So a ring of as
 * many messages as can be unacknowledged is enough; it is stored in the
 * transaction of the messages themselves. */
struct recent;

/* key: the name of its values in the state; size: how many messages the broker
 * may have unacknowledged, rounded up to 256.  state is borrowed and outlives
 * it, key is copied.  Reads what is stored.  0 or -errno. */
CHECKED int recent_new(struct state *state, const char *key, unsigned size,
	struct recent **ret_recent);

struct recent *recent_free(struct recent *r);
DEFINE_SCOPED(struct recent *, recent_free);

/* A connection is up.  session_present: the broker remembers us, and may
 * repeat; else it has forgotten, and so do we. */
void recent_resume(struct recent *r, bool session_present);

/* Messages taken in so far; and: the PUBACKs of the first `count` of them have
 * arrived, so they will not come again, and a message like one of them is a new
 * one.  What is confirmed is stored with the next message. */
uint64_t recent_count(const struct recent *r);
void recent_confirm(struct recent *r, uint64_t count);

/* Whether this message, which has the DUP flag, repeats one that is stored.
 * mid 0 (QoS 0) is never repeated. */
bool recent_is_repeated(struct recent *r, unsigned mid, const struct msg *msg);

/* The message goes into the transaction of this turn. */
void recent_add(struct recent *r, unsigned mid, const struct msg *msg);

/* Put what has changed into the transaction.  0, DB_FULL or -errno. */
CHECKED int recent_store(struct recent *r);

/* After a rollback: as it was, but what the broker has forgotten stays so, and
 * what is confirmed too.  0 or -errno. */
CHECKED int recent_reload(struct recent *r);

#endif
