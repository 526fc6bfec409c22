#ifndef LOCALBUS_MQTT_H
#define LOCALBUS_MQTT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/msg.h"
#include "base/scope.h"

struct db;
struct sd_event;
struct session;
struct state;
struct turn;

/* The local broker: what devices publish comes in by on_message(), rows for
 * MQTT devices go out to it.
 *
 * The session is persistent: while gatewayd is away the broker keeps what
 * devices publish.  MQTT 5, so that we do not get back what we publish (No
 * Local) and retained messages come once.  The connection and its part in the
 * turn are those of spool/session.h. */
struct mqtt;

struct mqtt_options {
	const char *socket; /* path of the broker's unix socket */
	const char *client_id;
};

struct mqtt_ops {
	/* As in struct session_ops. */
	bool (*on_message)(void *userdata, const struct msg *msg);
	void (*on_change)(void *userdata);
};

/* event to state and ops are borrowed and outlive it; options are copied.
 * 0 or -errno. */
CHECKED int mqtt_new(struct sd_event *event, struct turn *turn, struct db *db,
	struct state *state, struct mqtt **ret_mqtt);
CHECKED int mqtt_set_up(struct mqtt *m, const struct mqtt_options *o,
	const struct mqtt_ops *ops, void *userdata);

struct mqtt *mqtt_free(struct mqtt *m);
DEFINE_SCOPED(struct mqtt *, mqtt_free);

/* Take over new options; reconnects if they differ.  0 or -ENOMEM. */
CHECKED int mqtt_configure(struct mqtt *m, const struct mqtt_options *o);

void mqtt_start(struct mqtt *m);

/* For the turn, the subscriptions and the status: borrowed. */
struct session *mqtt_session(struct mqtt *m);

#endif
