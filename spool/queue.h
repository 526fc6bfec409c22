#ifndef SPOOL_QUEUE_H
#define SPOOL_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/msg.h"
#include "base/scope.h"

struct db;
struct state;

/* The spool's write side: messages kept on disk until the other side has them.
 * Reading them back, and forgetting them, is spool/replay.h.
 *
 * A push is part of the transaction of the turn: it is durable after the next
 * db_commit() that returns 0, and gone when the transaction is rolled back.
 * Ids rise, and none is ever used twice, also after the queue was empty.
 *
 * Errors: -ENOMEM, -EBADMSG (file damaged) or -EIO, all logged already: pass
 * them on.  Outcomes above 0 belong to one call: handle them, never pass on.
 */
struct queue;

enum queue_outcome {
	QUEUE_FULL = 1 /* the limit or the disk; roll the transaction back */
};

/* Attach to an open spool.  db and state are borrowed and must outlive the
 * queue.  Returns 0 and a queue to be ended by queue_free(); or -errno. */
CHECKED int queue_new(
	struct db *db, struct state *state, struct queue **ret_queue);

/* Free q; NULL is allowed.  Returns NULL, for `q = queue_free(q)`. */
struct queue *queue_free(struct queue *q);
DEFINE_SCOPED(struct queue *, queue_free);

/* Store one message for the cloud, with the cloud's topic, and count it;
 * *ret_id is its sequence number.  msg is borrowed for the call.  0,
 * QUEUE_FULL or -errno; unless 0, *ret_id is left alone. */
CHECKED int queue_push_up(
	struct queue *q, const struct msg *msg, int64_t *ret_id);

/* Store one message for a device, and count it.  dest: the name of a serial
 * device, or "" for the local broker.  Else as queue_push_up(). */
CHECKED int queue_push_down(struct queue *q, const char *dest,
	const struct msg *msg, int64_t *ret_id);

/* How many messages wait for dest; counts to max at most.  0 or more; -errno. */
CHECKED int queue_count_down(struct queue *q, const char *dest, int max);

/* Remove the messages for serial devices that are no longer wanted, in the
 * turn's transaction; they are counted as dropped.  is_wanted() is asked for
 * each name.  Their number; DB_FULL does not come up: -ENOSPC; -errno. */
CHECKED int queue_drop_unwanted(struct queue *q,
	bool (*is_wanted)(void *userdata, const char *dest), void *userdata);

/* The checksum that a row carries over its times, topic and payload. */
uint32_t queue_checksum(uint64_t wall_usec, const void *topic,
	size_t topic_bytes, const void *payload, size_t payload_bytes);

#endif
