/* TLS, the MQTT version and the words for the connection to the cloud.  Knows
 * spool/session and bridge/tls; not the local side, not the configuration
 * file. */
#include "bridge/uplink.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mqttio.h"
#include "bridge/tls.h"
#include "spool/session.h"

#define LABEL "uplink"
#define RECEIVE_WINDOW 100 /* AWS IoT: 100 unacknowledged to a client */
/* A broker that keeps to RECEIVE_WINDOW repeats no more than that.  mosquitto
 * 2.0.11 does not while it empties a queue (see struct mqttio_options), and may
 * repeat all of it; no more than so many commands may wait here (daemon.c). */
#define REPEAT_WINDOW 10000
#define WINDOW_MAX 1000
/* The largest command: no device takes more, and while it comes in it is in
 * memory.  1 MiB of payload, the topic, and some properties. */
#define PACKET_MAX_BYTES (MSG_DOWN_MAX_BYTES + MSG_TOPIC_MAX_BYTES + 4096)

struct uplink {
	struct session *session;
	const struct uplink_ops *ops; /* borrowed */
	void *userdata;
	struct uplink_options options; /* strings are ours */
	char *endpoint;
	struct tls *tls; /* of the present or the last connection */
	int version;     /* of the present try */
	bool is_guess;   /* nobody told us that it is the right one */
	char said[512];  /* the last warning about our certificate */
};

/* ---- options ---- */

static void free_options(struct uplink_options *o)
{
	free((char *)o->host);
	free((char *)o->ca);
	free((char *)o->certificate);
	free((char *)o->key);
	free((char *)o->client_id);
	memset(o, 0, sizeof(*o));
}

static int copy_options(
	struct uplink_options *to, const struct uplink_options *from)
{
	*to = *from;
	to->host = strdup(from->host);
	to->ca = strdup(from->ca);
	to->certificate = strdup(from->certificate);
	to->key = strdup(from->key);
	to->client_id = strdup(from->client_id);
	if (to->host && to->ca && to->certificate && to->key && to->client_id)
		return 0;
	free_options(to);
	return -ENOMEM;
}

static bool is_same_connection(
	const struct uplink_options *a, const struct uplink_options *b)
{
	return !strcmp(a->host, b->host) && a->port == b->port &&
		!strcmp(a->ca, b->ca) &&
		!strcmp(a->certificate, b->certificate) &&
		!strcmp(a->key, b->key) &&
		!strcmp(a->client_id, b->client_id) &&
		a->version == b->version &&
		a->keepalive_sec == b->keepalive_sec &&
		a->inflight == b->inflight &&
		a->connect_timeout_usec == b->connect_timeout_usec &&
		a->session_expiry_sec == b->session_expiry_sec;
}

static struct session_options session_options(const struct uplink_options *o)
{
	return (struct session_options){
		.label = LABEL,
		.dest = NULL,
		.window = o->inflight,
		.receive_window = RECEIVE_WINDOW,
		.repeat_window = REPEAT_WINDOW,
		.retry_min_usec = o->retry_min_usec,
		.retry_max_usec = o->retry_max_usec,
		.ack_timeout_usec = o->ack_timeout_usec,
		.with_id = o->message_id,
	};
}

/* ---- connecting ---- */

/* Our certificate's troubles are said once, not at each try. */
static void warn_about_own(struct uplink *u)
{
	const char *warning = tls_warning(u->tls);

	if (!strcmp(u->said, warning))
		return;
	snprintf(u->said, sizeof(u->said), "%s", warning);
	if (warning[0])
		log_warning(LABEL ": %s", warning);
}

static int prepare(void *userdata, struct mqttio_options *ret, char *ret_reason,
	size_t size)
{
	struct uplink *u = userdata;
	const struct uplink_options *o = &u->options;
	struct tls_options t = {
		.host = o->host,
		.ca = o->ca,
		.certificate = o->certificate,
		.key = o->key,
	};
	int r;

	u->tls = tls_free(u->tls);
	r = tls_new(&t, ret_reason, size, &u->tls);
	if (r < 0)
		return r;
	warn_about_own(u);
	ret->host = o->host;
	ret->port = o->port;
	ret->client_id = o->client_id;
	ret->version = u->version;
	ret->keepalive_sec = o->keepalive_sec;
	ret->session_expiry_sec = o->session_expiry_sec;
	ret->connect_timeout_usec = o->connect_timeout_usec;
	ret->receive_packet_bytes = PACKET_MAX_BYTES;
	ret->tls = tls_ctx(u->tls);
	return 0;
}

/* By the other side, however that looks: it depends on what was under way. */
static bool is_cut(const struct mqttio_loss *loss)
{
	return loss->cause == MQTTIO_EOF ||
		(loss->cause == MQTTIO_TLS &&
			strstr(loss->text, "unexpected eof")) ||
		(loss->cause == MQTTIO_SOCKET &&
			(loss->code == ECONNRESET || loss->code == EPIPE));
}

/* With version 0 (auto): a server that does not know MQTT 5 says so, or just
 * closes the connection after TLS was up; then it is 3.1.1's turn, and the
 * other way round.  The silent end may have had another cause, so after it
 * MQTT 5 gets a new chance with each connection. */
static void choose_version(
	struct uplink *u, const struct mqttio_loss *loss, bool is_explained)
{
	bool is_refusal = loss->cause == MQTTIO_REFUSED &&
		(loss->code == 0x84 || loss->code == 1);
	bool is_silent_close =
		is_cut(loss) && tls_is_established(u->tls) && !is_explained;

	if (u->options.version)
		return;
	if (!loss->was_up && (is_refusal || is_silent_close)) {
		u->version = u->version == 5 ? 4 : 5;
		u->is_guess = is_silent_close;
	} else if (u->is_guess) {
		u->version = 5;
	}
}

/* ---- words ---- */

static const char *refusal(int version, int code)
{
	if (version == 5)
		switch (code) {
		case 0x84:
			return "it does not know this MQTT version";
		case 0x85:
			return "it does not allow the client id: check "
			       "uplink.client_id";
		case 0x86:
		case 0x87:
			return "not authorised: check the policy of our "
			       "certificate and uplink.client_id";
		case 0x88:
		case 0x89:
			return "it is busy or down";
		case 0x97:
			return "a quota is exceeded";
		default:
			return "see MQTT 5, table 3-1";
		}
	switch (code) {
	case 1:
		return "it does not know this MQTT version";
	case 2:
		return "it does not allow the client id: check "
		       "uplink.client_id";
	case 3:
		return "it is busy or down";
	default:
		return "not authorised: check the policy of our certificate "
		       "and uplink.client_id";
	}
}

static const char *disconnect_word(int code)
{
	switch (code) {
	case 0x8b:
		return "it is shutting down";
	case 0x8e:
		return "another client with the same client id has connected: "
		       "is this gateway's identity used twice?";
	case 0x87:
		return "not authorised: a topic that our policy does not allow";
	case 0x95:
		return "a message was too large";
	default:
		return "see MQTT 5, table 3-10";
	}
}

static const char *socket_remedy(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return "nothing listens there: check uplink.host, uplink.port "
		       "and the server";
	case ENETUNREACH:
	case EHOSTUNREACH:
		return "no route to it: check this machine's network";
	case ETIMEDOUT:
		return "no answer: check the network and firewalls";
	default:
		return "check the network";
	}
}

static void explain_cut(struct uplink *u, const struct mqttio_loss *loss,
	char *ret, size_t size)
{
	if (loss->was_up)
		snprintf(ret, size,
			"%s closed the connection: it went away, does not "
			"allow what we did last, or another client with our "
			"client id '%s' has connected",
			u->endpoint, u->options.client_id);
	else if (tls_is_established(u->tls))
		snprintf(ret, size,
			"%s closed the connection without an answer to our "
			"CONNECT: does it know our certificate and "
			"uplink.client_id?",
			u->endpoint);
	else
		snprintf(ret, size,
			"%s closed the connection before TLS was up: is there "
			"a TLS server behind it? check uplink.port and the "
			"server",
			u->endpoint);
}

static void explain_cause(struct uplink *u, const struct mqttio_loss *loss,
	char *ret, size_t size)
{
	switch (loss->cause) {
	case MQTTIO_RESOLVE:
		snprintf(ret, size,
			"cannot resolve '%s': %s; check uplink.host and the "
			"DNS server in /etc/resolv.conf",
			u->options.host, gai_strerror(loss->code));
		break;
	case MQTTIO_SOCKET:
		snprintf(ret, size, "%s: %s; %s", u->endpoint,
			strerror(loss->code), socket_remedy(loss->code));
		break;
	case MQTTIO_TLS:
		snprintf(ret, size,
			"TLS with %s failed: %s; does it speak TLS? check "
			"uplink.host and uplink.port",
			u->endpoint,
			loss->text[0] ? loss->text : "no reason given");
		break;
	case MQTTIO_EOF:
		break; /* is_cut() */
	case MQTTIO_REFUSED:
		snprintf(ret, size,
			"%s refused the MQTT connection of '%s' (code %d): %s",
			u->endpoint, u->options.client_id, loss->code,
			refusal(u->version, loss->code));
		break;
	case MQTTIO_TIMEOUT:
		snprintf(ret, size,
			"%s did not answer within %.0f s (connection timed "
			"out): check the network, and uplink.connect_timeout",
			u->endpoint,
			(double)u->options.connect_timeout_usec / 1e6);
		break;
	case MQTTIO_KEEPALIVE:
		snprintf(ret, size,
			"%s does not answer any more: the connection is dead",
			u->endpoint);
		break;
	case MQTTIO_DISCONNECT:
		snprintf(ret, size, "%s ended the connection (code 0x%02x): %s",
			u->endpoint, (unsigned)loss->code,
			disconnect_word(loss->code));
		break;
	case MQTTIO_CLOSED:
		snprintf(ret, size, "%s closed the connection", u->endpoint);
		break;
	case MQTTIO_PROTOCOL:
		snprintf(ret, size,
			"%s does not speak MQTT as it should (error %d): check "
			"uplink.host and uplink.port",
			u->endpoint, loss->code);
		break;
	}
}

static void explain(
	void *userdata, const struct mqttio_loss *loss, char *ret, size_t size)
{
	struct uplink *u = userdata;
	char tls[480];

	/* The refused certificate is the cause, however the end looks. */
	tls_explain(u->tls, tls, sizeof(tls));
	if (tls[0])
		snprintf(ret, size, "%s: %s", u->endpoint, tls);
	else if (is_cut(loss))
		explain_cut(u, loss, ret, size);
	else
		explain_cause(u, loss, ret, size);
	choose_version(u, loss, tls[0] != '\0');
}

static bool on_message(void *userdata, const struct msg *msg)
{
	struct uplink *u = userdata;

	return u->ops->on_message(u->userdata, msg);
}

static void on_change(void *userdata)
{
	struct uplink *u = userdata;

	u->ops->on_change(u->userdata);
}

static const struct session_ops session_ops = {
	.prepare = prepare,
	.explain = explain,
	.on_message = on_message,
	.on_change = on_change,
};

/* ---- the interface ---- */

int uplink_new(struct sd_event *event, struct turn *turn, struct db *db,
	struct state *state, struct uplink **ret_uplink)
{
	SCOPED(uplink_freep) struct uplink *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	r = session_new(event, turn, db, state, &u->session);
	if (r < 0)
		return r;
	*ret_uplink = TAKE(u);
	return 0;
}

static int adopt(struct uplink *u, const struct uplink_options *o)
{
	struct uplink_options copy;
	char *endpoint;
	int r = copy_options(&copy, o);

	if (r < 0)
		return r;
	if (asprintf(&endpoint, "%s:%u", o->host, o->port) < 0) {
		free_options(&copy);
		return -ENOMEM;
	}
	free_options(&u->options);
	free(u->endpoint);
	u->options = copy;
	u->endpoint = endpoint;
	u->version = o->version ? o->version : 5;
	return 0;
}

int uplink_set_up(struct uplink *u, const struct uplink_options *o,
	const struct uplink_ops *ops, void *userdata)
{
	struct session_options so = session_options(o);
	int r;

	u->ops = ops;
	u->userdata = userdata;
	r = adopt(u, o);
	if (r < 0)
		return r;
	so.window = WINDOW_MAX; /* room for any uplink.inflight */
	r = session_set_up(u->session, &so, &session_ops, u);
	if (r < 0)
		return r;
	so = session_options(o);
	session_set_limits(u->session, &so);
	return 0;
}

struct uplink *uplink_free(struct uplink *u)
{
	if (!u)
		return NULL;
	u->session = session_free(u->session);
	u->tls = tls_free(u->tls);
	free_options(&u->options);
	free(u->endpoint);
	free(u);
	return NULL;
}

int uplink_configure(struct uplink *u, const struct uplink_options *o)
{
	struct session_options so = session_options(o);
	bool is_same = is_same_connection(&u->options, o);
	bool was_closed;
	int r = adopt(u, o);

	if (r < 0)
		return r;
	session_set_limits(u->session, &so);
	if (!uplink_is_configured(u)) {
		session_stop(u->session);
		return 0;
	}
	was_closed = session_is_closed(u->session);
	uplink_start(u); /* do not wait: this may be the remedy */
	if (!was_closed && !is_same)
		session_reconnect(u->session);
	return 0;
}

void uplink_start(struct uplink *u)
{
	if (uplink_is_configured(u))
		session_start(u->session);
	else
		log_warning(LABEL ": uplink.host is not set: messages are kept "
				  "until it is");
}

bool uplink_is_configured(const struct uplink *u)
{
	return u->options.host && u->options.host[0];
}

struct session *uplink_session(struct uplink *u)
{
	return u->session;
}

const char *uplink_endpoint(const struct uplink *u)
{
	return u->endpoint;
}
