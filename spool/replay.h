#ifndef SPOOL_REPLAY_H
#define SPOOL_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/msg.h"
#include "base/scope.h"

struct db;
struct state;

/* The spool's read side: rows in the order of their ids, a window of those that
 * were given out and not acknowledged yet, and forgetting.
 *
 * The queue itself stays on disk: memory holds the window, nothing else.  A row
 * leaves the spool only by replay_ack() and the commit after it.  One object
 * serves one destination; its rows are given out in order, each again after
 * replay_restart(), so delivery is at least once and at most the window comes
 * twice.
 *
 * A row whose checksum is wrong is never given out: it is removed and counted
 * as dropped, with a log line.
 *
 * Errors: as in spool/queue.h. */
struct replay;

/* Hand one message over.  msg is borrowed for the call.  0, and *ret_tag is
 * the name that replay_ack() will get; or anything else: the row stays, and
 * replay_fill() ends. */
typedef int replay_send(
	void *userdata, int64_t id, const struct msg *msg, unsigned *ret_tag);

/* What is out is also in the memory of the connection: no more is given out
 * while so many bytes are. */
#define REPLAY_WINDOW_BYTES ((size_t)4 << 20)

/* Attach to an open spool.  dest: NULL for the cloud, else as in
 * queue_push_down().  window: how many rows may be out at once.  db and state
 * are borrowed, dest is copied.  0 or -errno. */
CHECKED int replay_new(struct db *db, struct state *state, const char *dest,
	unsigned window, struct replay **ret_replay);

struct replay *replay_free(struct replay *p);
DEFINE_SCOPED(struct replay *, replay_free);

/* Give out rows until the window is full or there are no more.  Reads only
 * what is committed, so never call it between a push and its commit.  0 or
 * -errno. */
CHECKED int replay_fill(struct replay *p, replay_send *send, void *userdata);

/* The row that was given out as tag has arrived (dropped: will never be taken;
 * it is counted as dropped).  It is forgotten by replay_store().  False when
 * no row that is out has this tag. */
bool replay_ack(struct replay *p, unsigned tag, bool dropped);

/* Drop a row that was just offered to send() and can never be sent; for use
 * by send(), which then returns REPLAY_SKIP. */
enum { REPLAY_SKIP = 1 };

/* Whether something was acknowledged or dropped and is not removed yet; and
 * whether the window is full, so that nothing more goes out before it is. */
bool replay_has_done(const struct replay *p);
bool replay_is_full(const struct replay *p);

/* Put the removal of what was acknowledged into the transaction.  May be
 * called again after a rollback: nothing is lost until replay_stored().  0,
 * DB_FULL or -errno. */
CHECKED int replay_store(struct replay *p);

/* The transaction is committed. */
void replay_stored(struct replay *p);

/* The connection is gone: what is out and not acknowledged will be given out
 * again, in order. */
void replay_restart(struct replay *p);

/* A smaller or greater window, up to that of replay_new(). */
void replay_limit(struct replay *p, unsigned window);

/* Rows that are out. */
unsigned replay_out(const struct replay *p);

/* Rows that wait or are out.  For the cloud it comes from counters and costs
 * nothing; for a device it counts rows. */
uint64_t replay_backlog(struct replay *p);

#endif
