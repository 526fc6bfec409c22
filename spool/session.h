#ifndef SPOOL_SESSION_H
#define SPOOL_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mqttio.h"
#include "base/scope.h"

struct db;
struct sd_event;
struct state;
struct turn;

/* One MQTT session between the spool and a broker: what the uplink and the
 * local side have in common.  It connects and, when the connection is lost,
 * connects again with exponential backoff and full jitter; subscribes; gives
 * out the rows of one destination within a window and forgets them after their
 * PUBACK; and hands over what comes in, once each, also when the broker repeats
 * it after an interruption.
 *
 * It takes part in the turn (base/turn.h): session_store() belongs into the
 * commit, and is followed by session_stored() or session_rolled_back().
 *
 * One thread. */
struct session;

struct session_options {
	const char *label; /* for log lines: "uplink"; also names its state */
	const char *dest;  /* rows to give out: as for replay_new() */
	unsigned window;   /* rows out at once, at most */
	unsigned receive_window; /* Receive Maximum to announce */
	unsigned repeat_window;  /* most messages that the broker may repeat */
	uint64_t retry_min_usec;
	uint64_t retry_max_usec;
	uint64_t ack_timeout_usec; /* no PUBACK for so long: connection dead */
	bool lockstep;             /* see struct mqttio_options */
	bool with_id; /* MQTT 5: user property "id", <epoch>-<sequence> */
};

struct session_ops {
	/* Fill in how to connect this time; called before each try, with
	 * label, send and receive maximum and lockstep set.  Strings are borrowed until it
	 * is called again.  0; or negative: this try is off, and ret_reason
	 * holds the reason. */
	int (*prepare)(void *userdata, struct mqttio_options *ret,
		char *ret_reason, size_t size);
	/* Put into words why there is no connection, and what to do. */
	void (*explain)(void *userdata, const struct mqttio_loss *loss,
		char *ret_reason, size_t size);
	/* A message that is not a repetition.  Returns true when it is dealt
	 * with in this transaction: stored, or dropped and counted; then a
	 * repetition will be told.  False: it must come again. */
	bool (*on_message)(void *userdata, const struct msg *msg);
	/* Up, down, or the next try is known. */
	void (*on_change)(void *userdata);
};

/* All pointers are borrowed and outlive the session, but options are copied.
 * 0 or -errno. */
CHECKED int session_new(struct sd_event *event, struct turn *turn,
	struct db *db, struct state *state, struct session **ret_session);

/* Second step of the making.  0 or -errno. */
CHECKED int session_set_up(struct session *s, const struct session_options *o,
	const struct session_ops *ops, void *userdata);

struct session *session_free(struct session *s);
DEFINE_SCOPED(struct session *, session_free);

/* The filters to subscribe to, MQTT form, copied.  Applied at once when up;
 * those no longer wanted are unsubscribed, also ones of an earlier process. */
CHECKED int session_subscribe(
	struct session *s, char *const *filters, size_t n);

/* Connect now and keep connected. */
void session_start(struct session *s);

/* Give out nothing more, wait up to a second for the PUBACKs of what is out, say
 * goodbye and stay away; on_change() when done. */
void session_stop(struct session *s);

/* Drop the connection with all that is unacknowledged, and stay away until
 * session_start(): the way to refuse messages that cannot be stored. */
void session_hold(struct session *s);

/* Drop the connection as session_hold() does, but try again later.  reason: for
 * the log, copied. */
void session_cut(struct session *s, const char *reason);

/* Connect again at once: something about the connection has changed. */
void session_reconnect(struct session *s);

/* A new window; takes effect with the next connection. */
void session_set_limits(struct session *s, const struct session_options *o);

bool session_is_up(const struct session *s);
bool session_is_closed(const struct session *s); /* no connection at all */
bool session_is_trying(const struct session *s); /* a try is under way */

/* Why it is down, "" when it is not; borrowed until the next event. */
const char *session_reason(const struct session *s);

/* When the next try is due (now_boot_usec()); 0: none is planned. */
uint64_t session_next_try_usec(const struct session *s);

uint64_t session_backlog(struct session *s);

/* 0, DB_FULL or -errno, as in spool/replay.h.  Removals wait, for 50 ms at most,
 * for a turn that stores something anyway: at a steady rate one commit serves
 * both what comes and what goes. */
CHECKED int session_store(struct session *s);
/* As session_store(), but only the removals: for the transaction after one
 * that was full. */
CHECKED int session_store_removals(struct session *s);
void session_stored(struct session *s);
CHECKED int session_rolled_back(struct session *s);

#endif
