#ifndef BASE_TURN_H
#define BASE_TURN_H

#include <stddef.h>

#include "base/scope.h"

struct sd_event;

/* One turn of the loop: read everything that is ready, one commit, then write.
 *
 * The promise hangs on this order: a PUBACK that a read has queued may reach
 * the wire only after the commit.  So nobody writes on their own; whoever has
 * something to write, or has changed something that must be committed, calls
 * turn_due().  When no other source of the loop is ready, or TURN_MAX_WORK
 * units of work have come together, the turn ends: commit(), and if that
 * returns 0, flush() of each member in the order of joining, then idle().
 *
 * One thread. */
struct turn;

/* A turn is ended at the latest when so many messages wait in it.  More gains
 * little, since commits of 100 to 1,000 rows cost about the same per row, and
 * is the more to be repeated after a kill. */
#define TURN_MAX_WORK 256

struct turn_ops {
	/* Make the turn's changes durable.  0: members may write now.
	 * Negative: nothing is written in this turn; the callee has already
	 * dealt with it. */
	int (*commit)(void *userdata);
	/* After the flushes: housekeeping that must not delay them. */
	void (*idle)(void *userdata);
};

/* *ret_turn is the caller's, to be ended by turn_free(); event is borrowed.
 * ops and userdata are borrowed and outlive the turn.  0 or -errno. */
CHECKED int turn_new(struct sd_event *event, const struct turn_ops *ops,
	void *userdata, struct turn **ret_turn);

struct turn *turn_free(struct turn *turn);
DEFINE_SCOPED(struct turn *, turn_free);

/* Let flush(userdata) be called at the end of every turn.  -ENOSPC when there
 * are too many members (8). */
CHECKED int turn_join(
	struct turn *turn, void (*flush)(void *userdata), void *userdata);

/* Something waits for the end of this turn; work: how many messages. */
void turn_due(struct turn *turn, size_t work);

/* End the turn now, if one is due.  For the end of the daemon; never from
 * within commit, flush or idle. */
void turn_end(struct turn *turn);

#endif
