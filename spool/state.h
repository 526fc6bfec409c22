#ifndef SPOOL_STATE_H
#define SPOOL_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/scope.h"

struct db;

/* Small things that last, in the same transactions as the messages: counters,
 * the spool's epoch, and values by name.  What is changed is durable after the
 * next db_commit().  One thread. */
struct state;

/* Counters, as durable as the messages that they count.  At any commit:
 * up accepted = up delivered + rows in the queue + up dropped. */
enum state_counter {
	STATE_UP_ACCEPTED,    /* stored, to go to the cloud */
	STATE_UP_DELIVERED,   /* acknowledged by the cloud, and removed */
	STATE_UP_DROPPED,     /* stored, but damaged or refused by the cloud */
	STATE_DOWN_ACCEPTED,  /* stored, to go to a device */
	STATE_DOWN_DELIVERED, /* given to the broker or written to the tty */
	STATE_DOWN_DROPPED,   /* stored, but could not be delivered */
	STATE_REFUSED,        /* never stored: no route, bad topic, too many */
	STATE_N_COUNTERS,
};

/* Attach to an open spool; makes its epoch when it has none yet.  db is
 * borrowed and outlives the state.  0 or -errno. */
CHECKED int state_new(struct db *db, struct state **ret_state);

struct state *state_free(struct state *s);
DEFINE_SCOPED(struct state *, state_free);

/* What makes the sequence numbers of this spool file unlike any other's:
 * random, made with the file. */
uint32_t state_epoch(const struct state *s);

/* The number that stands for this boot of the machine in rows. */
int64_t state_boot(const struct state *s);

void state_count(struct state *s, enum state_counter c, uint64_t n);
uint64_t state_counter(const struct state *s, enum state_counter c);

/* Write changed counters into the transaction, which it begins if need be.
 * Nothing changed: nothing is done.  0, DB_FULL or -errno. */
CHECKED int state_store(struct state *s);

/* After a rollback: read the counters again as they were. */
CHECKED int state_reload(struct state *s);

/* Put a value into the transaction.  0, DB_FULL or -errno. */
CHECKED int state_set(
	struct state *s, const char *key, const void *value, size_t bytes);

/* Get a value: the whole when it fits into size, and its bytes; 0 bytes when
 * there is none.  -ENOBUFS when it does not fit; -errno. */
CHECKED int state_get(struct state *s, const char *key, void *ret_value,
	size_t size, size_t *ret_bytes);

#endif
