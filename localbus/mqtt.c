/* The unix socket and the words for the connection to the local broker.  Knows
 * spool/session; not the cloud, not routes. */
#include "localbus/mqtt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mqttio.h"
#include "base/now.h"
#include "spool/session.h"

/* Announced to the broker as Receive Maximum; enough for group commits.  It
 * keeps to it only while nothing is queued for us, see lockstep. */
#define RECEIVE_WINDOW 100
#define SEND_WINDOW 100
#define KEEPALIVE_SEC 20
/* A session that nobody comes for again: of a spool that was replaced. */
#define SESSION_EXPIRY_SEC (30 * 24 * 3600)
#define CONNECT_TIMEOUT_USEC (5 * USEC_PER_SEC)
#define ACK_TIMEOUT_USEC (20 * USEC_PER_SEC)
/* A broker on the same machine comes back fast and costs nothing to ask; and
 * what it acknowledges while we have no session there would pass us by. */
#define RETRY_MIN_USEC (200 * USEC_PER_MSEC)
#define RETRY_MAX_USEC USEC_PER_SEC

struct mqtt {
	struct session *session;
	const struct mqtt_ops *ops; /* borrowed */
	void *userdata;
	char *socket;
	char *client_id;
};

static int prepare(void *userdata, struct mqttio_options *ret, char *ret_reason,
	size_t size)
{
	struct mqtt *m = userdata;

	(void)ret_reason;
	(void)size;
	ret->host = m->socket;
	ret->port = 0;
	ret->client_id = m->client_id;
	ret->version = 5;
	ret->keepalive_sec = KEEPALIVE_SEC;
	ret->session_expiry_sec = SESSION_EXPIRY_SEC;
	ret->connect_timeout_usec = CONNECT_TIMEOUT_USEC;
	return 0;
}

static const char *remedy(int err)
{
	switch (err) {
	case ENOENT:
	case ECONNREFUSED:
		return "is the broker running? systemctl status "
		       "gatewayd-broker";
	case EACCES:
		return "gatewayd must be in the socket's group "
		       "(gatewayd-broker)";
	default:
		return "see systemctl status gatewayd-broker";
	}
}

static void explain(
	void *userdata, const struct mqttio_loss *loss, char *ret, size_t size)
{
	struct mqtt *m = userdata;

	switch (loss->cause) {
	case MQTTIO_SOCKET:
		snprintf(ret, size, "%s: %s; %s", m->socket,
			strerror(loss->code), remedy(loss->code));
		break;
	case MQTTIO_EOF:
		snprintf(ret, size, "the broker closed the connection; %s",
			remedy(0));
		break;
	case MQTTIO_DISCONNECT:
		snprintf(ret, size,
			"the broker ended the connection (code 0x%02x)%s",
			(unsigned)loss->code,
			loss->code == 0x8e ? ": does a second gatewayd use the "
					     "same local.client_id?"
					   : "");
		break;
	case MQTTIO_REFUSED:
		snprintf(ret, size,
			"the broker refused '%s' (code 0x%02x); see its "
			"configuration",
			m->client_id, (unsigned)loss->code);
		break;
	case MQTTIO_TIMEOUT:
	case MQTTIO_KEEPALIVE:
		snprintf(
			ret, size, "the broker does not answer; %s", remedy(0));
		break;
	case MQTTIO_CLOSED:
		snprintf(ret, size, "connection closed");
		break;
	default:
		snprintf(ret, size, "the broker does not speak MQTT (%d)",
			loss->code);
		break;
	}
}

static bool on_message(void *userdata, const struct msg *msg)
{
	struct mqtt *m = userdata;

	return m->ops->on_message(m->userdata, msg);
}

static void on_change(void *userdata)
{
	struct mqtt *m = userdata;

	m->ops->on_change(m->userdata);
}

static const struct session_ops session_ops = {
	.prepare = prepare,
	.explain = explain,
	.on_message = on_message,
	.on_change = on_change,
};

int mqtt_new(struct sd_event *event, struct turn *turn, struct db *db,
	struct state *state, struct mqtt **ret_mqtt)
{
	SCOPED(mqtt_freep) struct mqtt *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	r = session_new(event, turn, db, state, &m->session);
	if (r < 0)
		return r;
	*ret_mqtt = TAKE(m);
	return 0;
}

static int adopt(struct mqtt *m, const struct mqtt_options *o)
{
	char *path = strdup(o->socket);
	char *client_id = strdup(o->client_id);

	if (!path || !client_id) {
		free(path);
		free(client_id);
		return -ENOMEM;
	}
	free(m->socket);
	free(m->client_id);
	m->socket = path;
	m->client_id = client_id;
	return 0;
}

int mqtt_set_up(struct mqtt *m, const struct mqtt_options *o,
	const struct mqtt_ops *ops, void *userdata)
{
	static const struct session_options so = {
		.label = "local",
		.dest = "",
		.window = SEND_WINDOW,
		.receive_window = RECEIVE_WINDOW,
		.repeat_window = MQTTIO_LOCKSTEP_MAX,
		.lockstep = true,
		.retry_min_usec = RETRY_MIN_USEC,
		.retry_max_usec = RETRY_MAX_USEC,
		.ack_timeout_usec = ACK_TIMEOUT_USEC,
	};
	int r = adopt(m, o);

	if (r < 0)
		return r;
	m->ops = ops;
	m->userdata = userdata;
	return session_set_up(m->session, &so, &session_ops, m);
}

struct mqtt *mqtt_free(struct mqtt *m)
{
	if (!m)
		return NULL;
	m->session = session_free(m->session);
	free(m->socket);
	free(m->client_id);
	free(m);
	return NULL;
}

int mqtt_configure(struct mqtt *m, const struct mqtt_options *o)
{
	bool is_same = !strcmp(m->socket, o->socket) &&
		!strcmp(m->client_id, o->client_id);
	int r = adopt(m, o);

	if (r == 0 && !is_same)
		session_reconnect(m->session);
	return r;
}

void mqtt_start(struct mqtt *m)
{
	session_start(m->session);
}

struct session *mqtt_session(struct mqtt *m)
{
	return m->session;
}
