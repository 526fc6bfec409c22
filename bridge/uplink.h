#ifndef BRIDGE_UPLINK_H
#define BRIDGE_UPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/msg.h"
#include "base/scope.h"

struct db;
struct sd_event;
struct session;
struct state;
struct turn;

/* The one connection to the cloud: MQTT 5 or 3.1.1 over mutual TLS.  Rows of
 * the table `up` go out by it; what the cloud sends comes in by on_message().
 *
 * The connection, its retries, its window and its part in the turn are those of
 * spool/session.h; this module adds TLS, the MQTT version, and words for
 * everything that can go wrong. */
struct uplink;

struct uplink_options {
	const char *host; /* "": stay without an uplink */
	unsigned port;
	const char *ca;
	const char *certificate;
	const char *key;
	const char *client_id;
	int version; /* 5, 4 (MQTT 3.1.1), or 0: 5, else 4 */
	unsigned keepalive_sec;
	unsigned inflight;
	uint64_t connect_timeout_usec;
	uint64_t ack_timeout_usec;
	uint64_t retry_min_usec;
	uint64_t retry_max_usec;
	uint32_t session_expiry_sec;
	bool message_id;
};

struct uplink_ops {
	/* As in struct session_ops. */
	bool (*on_message)(void *userdata, const struct msg *msg);
	void (*on_change)(void *userdata);
};

/* event to state and ops are borrowed and outlive the uplink; options are
 * copied.  0 or -errno. */
CHECKED int uplink_new(struct sd_event *event, struct turn *turn, struct db *db,
	struct state *state, struct uplink **ret_uplink);
CHECKED int uplink_set_up(struct uplink *u, const struct uplink_options *o,
	const struct uplink_ops *ops, void *userdata);

struct uplink *uplink_free(struct uplink *u);
DEFINE_SCOPED(struct uplink *, uplink_free);

/* Take over new options; reconnects if anything that matters to the
 * connection has changed.  0 or -errno; then the old ones stay. */
CHECKED int uplink_configure(struct uplink *u, const struct uplink_options *o);

void uplink_start(struct uplink *u);

/* Whether a host is configured at all. */
bool uplink_is_configured(const struct uplink *u);

/* For the turn, the subscriptions and the status: borrowed. */
struct session *uplink_session(struct uplink *u);

/* "host:port"; borrowed until uplink_configure(). */
const char *uplink_endpoint(const struct uplink *u);

#endif
