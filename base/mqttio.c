/* Drives one struct mosquitto from sd-event.  It knows libmosquitto and the
 * turn; it does not know topics, routes, TLS details or retries.
 *
 * Happy path: mqttio_open() -> a connector thread resolves and starts the
 * connection (mqttconn.c) -> on_connector() adopts the socket -> on_io() drives
 * the handshakes -> CONNACK, ops->on_up() -> on_io() reads, flush() writes.
 * Goodbye: mqttio_close() -> flush() writes DISCONNECT -> start_closing() ->
 * linger() until the peer has closed too -> mqttwire_lose().
 * Failure, anywhere: mqttwire_lose() notes the first cause, stops every source and posts
 * on_lost(), which destroys the client and calls ops->on_down().
 *
 * libmosquitto 2.0.11, its traps and what meets them:
 *  M1  It closes its descriptor before on_disconnect, and the next socket may
 *      get the same number: epoll would watch a dead one.  -> We register a
 *      duplicate that we own, in a new source for each connection.
 *  M2  With TLS a refused or reset TCP connection shows as success and wakes
 *      the loop for ever.  -> EPOLLERR/EPOLLHUP: read SO_ERROR first; and a
 *      deadline from open to CONNACK.
 *  M3  A failed TLS handshake returns an error without on_disconnect.
 *      -> Every rc != 0 and every callback end in the one mqttwire_lose(), idempotent.
 *  M4  connect_async() resolves names with a blocking call.  -> A thread.
 *  M5  Only the first address is tried.  -> The thread alternates families.
 *  M6  loop_write() does nothing during the TLS handshake.  -> Until CONNACK,
 *      each event calls loop_read(), then loop_write().
 *  M7  loop_read() reads one packet at a time.  -> Up to READ_BATCH a wake-up.
 *  M8  Edge-triggered epoll stalls.  -> Level-triggered; EPOLLOUT is set from
 *      mosquitto_want_write() after each call into the library.
 *  M9  Each queued packet writes a byte to a socket pair nobody reads here.
 *      -> Harmless: EAGAIN when it is full.
 *  M10 PUBACKs walk a list of all messages in flight.  -> The owner of this
 *      object keeps a window (bridge/window.h); we never queue beyond it.
 *  M11 mosquitto_destroy() in a callback is a use after free; setting
 *      callbacks in one deadlocks.  -> on_lost() is a posted source; callbacks
 *      are set once, before the connection.
 *  M12 Keepalive is checked in loop_misc() only.  -> A 1 s timer.
 *  M13 mosquitto_loop() uses select().  -> Never called.
 *  M14 errno is part of the contract (EAGAIN ends a loop).  -> Cleared before,
 *      and callbacks put it back.
 *  M15 A reconnect drops queued packets but repeats those in flight.  -> We
 *      never reconnect: each connection is a new struct mosquitto, and the
 *      spool says what has to be sent. */
#include "base/mqttio.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/mqttconn.h"
#include "base/mqttwire.h"
#include "base/now.h"
#include "base/turn.h"

#define TICK_USEC USEC_PER_SEC /* M12 */
/* Between our DISCONNECT and the peer's close. */
#define LINGER_USEC USEC_PER_SEC
#define TICK_ACCURACY_USEC (250 * USEC_PER_MSEC)

void mqttwire_lose(struct mqttio *io, enum mqttio_cause cause, int code)
{
	if (io->state == STATE_LOST || io->state == STATE_IDLE)
		return;
	io->was_up = io->state == STATE_UP;
	io->state = STATE_LOST;
	io->cause = cause;
	io->code = code;
	io->connector = sd_event_source_disable_unref(io->connector);
	io->deadline = sd_event_source_disable_unref(io->deadline);
	io->tick = sd_event_source_disable_unref(io->tick);
	if (io->socket)
		sd_event_source_set_enabled(io->socket, SD_EVENT_OFF);
	sd_event_source_set_enabled(io->lost, SD_EVENT_ONESHOT);
}

/* Destroys everything of the connection. */
static void drop_connection(struct mqttio *io)
{
	io->connector = sd_event_source_disable_unref(io->connector);
	io->socket = sd_event_source_disable_unref(io->socket);
	io->deadline = sd_event_source_disable_unref(io->deadline);
	io->tick = sd_event_source_disable_unref(io->tick);
	io->mosq = NULL;
	io->conn = mqttconn_free(io->conn);
	io->state = STATE_IDLE;
}

static int on_lost(sd_event_source *s, void *userdata)
{
	struct mqttio *io = userdata;
	char text[MQTTCONN_TEXT_BYTES];
	struct mqttio_loss loss = {
		.cause = io->cause,
		.code = io->code,
		.was_up = io->was_up,
		.text = text,
	};

	(void)s;
	strcpy(text, io->conn ? mqttconn_text(io->conn) : "");
	drop_connection(io);
	io->ops->on_down(io->userdata, &loss);
	return 0;
}

/* EPROTO is libmosquitto's word for "TLS said no". */
bool mqttwire_is_tls_error(int rc, int err)
{
	return rc == MOSQ_ERR_TLS || (rc == MOSQ_ERR_ERRNO && err == EPROTO);
}

/* What a return value of libmosquitto says about the connection. */
void mqttwire_lose_by_rc(struct mqttio *io, int rc)
{
	int err = errno;

	if (mqttwire_is_tls_error(rc, err)) {
		mqttwire_lose(io, MQTTIO_TLS, 0);
		return;
	}
	switch (rc) {
	case MOSQ_ERR_CONN_LOST:
		mqttwire_lose(io, MQTTIO_EOF, 0);
		return;
	case MOSQ_ERR_KEEPALIVE:
		mqttwire_lose(io, MQTTIO_KEEPALIVE, 0);
		return;
	case MOSQ_ERR_ERRNO:
		mqttwire_lose(io, MQTTIO_SOCKET, err);
		return;
	default:
		mqttwire_lose(io, MQTTIO_PROTOCOL, rc);
		return;
	}
}

static int on_tick(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct mqttio *io = userdata;
	int rc;

	sd_event_source_set_time(s, usec + TICK_USEC);
	errno = 0;
	rc = mosquitto_loop_misc(io->mosq);
	if (rc)
		mqttwire_lose_by_rc(io, rc);
	else if (mosquitto_want_write(io->mosq))
		turn_due(io->turn, 0); /* a PINGREQ */
	return 0;
}

static int start_tick(struct mqttio *io)
{
	int r;

	r = sd_event_add_time_relative(io->event, &io->tick, CLOCK_BOOTTIME,
		TICK_USEC, TICK_ACCURACY_USEC, on_tick, io);
	if (r < 0)
		return r;
	sd_event_source_set_description(io->tick, "mqtt-tick");
	return sd_event_source_set_enabled(io->tick, SD_EVENT_ON);
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct mqttio *io = userdata;

	(void)s;
	(void)usec;
	/* What takes the thread so long can only be the resolver. */
	if (io->state == STATE_CONNECTOR)
		mqttwire_lose(io, MQTTIO_RESOLVE, EAI_AGAIN);
	else if (io->state == STATE_CLOSING)
		mqttwire_lose(io, MQTTIO_CLOSED, 0);
	else
		mqttwire_lose(io, MQTTIO_TIMEOUT, 0);
	return 0;
}

static int add_deadline(struct mqttio *io, uint64_t usec)
{
	int r;

	r = sd_event_add_time_relative(io->event, &io->deadline, CLOCK_BOOTTIME,
		usec, TICK_ACCURACY_USEC, on_deadline, io);
	if (r < 0)
		return r;
	sd_event_source_set_description(io->deadline, "mqtt-deadline");
	return 0;
}

/* The connector thread is through. */
static int on_connector(
	sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct mqttio *io = userdata;
	struct mqttconn_result result;
	int r;

	(void)s;
	(void)fd;
	(void)revents;
	io->connector = sd_event_source_disable_unref(io->connector);
	mqttconn_finish(io->conn, &result);
	io->mosq = result.mosq;
	if (result.gai) {
		mqttwire_lose(io, MQTTIO_RESOLVE, result.gai);
		return 0;
	}
	if (result.rc > 0) {
		errno = result.err;
		mqttwire_lose_by_rc(io, result.rc);
		return 0;
	}
	if (mqttwire_is_socket_error(result.err)) {
		mqttwire_lose(io, MQTTIO_SOCKET, result.err);
		return 0;
	}
	io->state = STATE_HANDSHAKE;
	r = mqttwire_adopt(io);
	if (r < 0)
		mqttwire_lose(io, MQTTIO_SOCKET, -r);
	return 0;
}

/* ---- callbacks of libmosquitto; each keeps errno (M14) ---- */

static void on_connect(struct mosquitto *m, void *userdata, int reason,
	int flags, const mosquitto_property *props)
{
	struct mqttio *io = mqttconn_owner(userdata);
	struct mqttio_up up = {.session_present = flags & 1};
	uint16_t receive_maximum = UINT16_MAX;
	uint8_t max_qos = 2;
	int saved = errno;
	int r;

	(void)m;
	if (reason) {
		mqttwire_lose(io, MQTTIO_REFUSED, reason);
		errno = saved;
		return;
	}
	mosquitto_property_read_int16(
		props, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
	mosquitto_property_read_int32(props, MQTT_PROP_MAXIMUM_PACKET_SIZE,
		&up.max_packet_bytes, false);
	mosquitto_property_read_byte(
		props, MQTT_PROP_MAXIMUM_QOS, &max_qos, false);
	up.max_qos = max_qos;
	up.send_maximum = io->send_maximum;
	if (receive_maximum && receive_maximum < up.send_maximum)
		up.send_maximum = receive_maximum;
	io->state = STATE_UP;
	io->deadline = sd_event_source_disable_unref(io->deadline);
	r = start_tick(io);
	if (r < 0) {
		mqttwire_lose(io, MQTTIO_SOCKET, -r);
		errno = saved;
		return;
	}
	io->ops->on_up(io->userdata, &up);
	turn_due(io->turn, 0);
	errno = saved;
}

static void on_message(struct mosquitto *m, void *userdata,
	const struct mosquitto_message *in, const mosquitto_property *props)
{
	struct mqttio *io = mqttconn_owner(userdata);
	struct mqttio_message out = {
		.msg = {.topic = in->topic,
			.payload = in->payload,
			.payload_bytes = (size_t)in->payloadlen},
		.mid = (unsigned)in->mid,
		.retain = in->retain,
		.is_repeat = mqttconn_is_repeat(userdata),
	};
	int saved = errno;

	(void)m;
	(void)props;
	if (io->state == STATE_UP) {
		io->ops->on_message(io->userdata, &out);
		turn_due(io->turn, 1);
	}
	errno = saved;
}

static void on_publish(struct mosquitto *m, void *userdata, int mid, int reason,
	const mosquitto_property *props)
{
	struct mqttio *io = mqttconn_owner(userdata);
	int saved = errno;

	(void)m;
	(void)props;
	if (io->state == STATE_UP) {
		io->ops->on_puback(io->userdata, (unsigned)mid, reason);
		turn_due(io->turn, 1);
	}
	errno = saved;
}

static void on_subscribe(struct mosquitto *m, void *userdata, int mid, int n,
	const int *granted, const mosquitto_property *props)
{
	struct mqttio *io = mqttconn_owner(userdata);
	int saved = errno;

	(void)m;
	(void)props;
	if (io->state == STATE_UP)
		io->ops->on_suback(
			io->userdata, (unsigned)mid, n > 0 ? granted[0] : 0x80);
	errno = saved;
}

/* Our DISCONNECT is written and libmosquitto has closed its descriptor; ours is
 * the last.  To close it with bytes of the peer unread would reset the
 * connection, and the peer might never read what we wrote last. */
static void start_closing(struct mqttio *io)
{
	int fd = sd_event_source_get_io_fd(io->socket);

	io->tick = sd_event_source_disable_unref(io->tick);
	if (shutdown(fd, SHUT_WR) < 0 || add_deadline(io, LINGER_USEC) < 0) {
		mqttwire_lose(io, MQTTIO_CLOSED, 0);
		return;
	}
	io->state = STATE_CLOSING;
	sd_event_source_set_io_events(io->socket, EPOLLIN);
}

static void on_disconnect(struct mosquitto *m, void *userdata, int reason,
	const mosquitto_property *props)
{
	struct mqttio *io = mqttconn_owner(userdata);
	int saved = errno;

	(void)m;
	(void)props;
	/* 0x80 and above: a DISCONNECT of the server.  0: ours was written.
	 * The rest are return codes of the call that we are in (M3): it has
	 * the same and errno beside it, so leave it to that. */
	if (reason >= 0x80)
		mqttwire_lose(io, MQTTIO_DISCONNECT, reason);
	else if (reason == 0 && io->state == STATE_UP)
		start_closing(io);
	else if (reason == 0)
		mqttwire_lose(io, MQTTIO_CLOSED, 0);
	errno = saved;
}

static const struct mqttconn_callbacks callbacks = {
	.connect = on_connect,
	.message = on_message,
	.publish = on_publish,
	.subscribe = on_subscribe,
	.disconnect = on_disconnect,
};

/* ---- the interface ---- */

int mqttio_new(struct sd_event *event, struct turn *turn,
	const struct mqttio_ops *ops, void *userdata, struct mqttio **ret_io)
{
	SCOPED(mqttio_freep) struct mqttio *io = calloc(1, sizeof(*io));
	int r;

	if (!io)
		return -ENOMEM;
	io->event = event;
	io->turn = turn;
	io->ops = ops;
	io->userdata = userdata;
	r = sd_event_add_defer(event, &io->lost, on_lost, io);
	if (r < 0)
		return r;
	sd_event_source_set_description(io->lost, "mqtt-lost");
	r = sd_event_source_set_enabled(io->lost, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = turn_join(turn, mqttwire_flush, io);
	if (r < 0)
		return r;
	*ret_io = TAKE(io);
	return 0;
}

struct mqttio *mqttio_free(struct mqttio *io)
{
	if (!io)
		return NULL;
	drop_connection(io);
	sd_event_source_disable_unref(io->lost);
	free(io);
	return NULL;
}

int mqttio_open(struct mqttio *io, const struct mqttio_options *o)
{
	int fd;
	int r;

	assert(io->state == STATE_IDLE);
	io->is_v5 = o->version == 5;
	io->lockstep = o->lockstep;
	io->is_close_wanted = false;
	io->is_close_queued = false;
	io->keepalive_sec = o->keepalive_sec;
	io->send_maximum = o->send_maximum;
	r = mqttconn_start(o, io->attempts++, &callbacks, io, &io->conn);
	if (r == -EBUSY) {
		io->state = STATE_CONNECTOR;
		mqttwire_lose(io, MQTTIO_RESOLVE, EAI_AGAIN);
		return 0;
	}
	if (r < 0)
		return log_fail(r, "%s: cannot start to connect", o->label);
	io->state = STATE_CONNECTOR;
	fd = mqttconn_fd(io->conn);
	r = sd_event_add_io(
		io->event, &io->connector, fd, EPOLLIN, on_connector, io);
	if (r >= 0)
		r = add_deadline(io, o->connect_timeout_usec);
	if (r < 0) {
		drop_connection(io);
		return log_fail(r, "%s: cannot start to connect", o->label);
	}
	sd_event_source_set_description(io->connector, "mqtt-connector");
	return 0;
}

void mqttio_close(struct mqttio *io)
{
	if (io->state != STATE_UP) {
		mqttwire_lose(io, MQTTIO_CLOSED, 0);
		return;
	}
	io->is_close_wanted = true;
	turn_due(io->turn, 0);
}

void mqttio_cut(struct mqttio *io)
{
	mqttwire_lose(io, MQTTIO_CLOSED, 0);
}

bool mqttio_is_up(const struct mqttio *io)
{
	return io->state == STATE_UP;
}

bool mqttio_is_flushed(const struct mqttio *io)
{
	return io->state == STATE_UP && !io->is_blocked;
}

static int rc_to_errno(int rc)
{
	switch (rc) {
	case MOSQ_ERR_SUCCESS:
		return 0;
	case MOSQ_ERR_NOMEM:
		return -ENOMEM;
	case MOSQ_ERR_NO_CONN:
		return -ENOTCONN;
	case MOSQ_ERR_PAYLOAD_SIZE:
	case MOSQ_ERR_OVERSIZE_PACKET:
		return -EMSGSIZE;
	case MOSQ_ERR_INVAL:
	case MOSQ_ERR_MALFORMED_UTF8:
		return -EINVAL;
	default:
		return -EPROTO;
	}
}

int mqttio_publish(struct mqttio *io, const struct msg *msg, const char *id,
	unsigned *ret_mid)
{
	mosquitto_property *props = NULL;
	int mid = 0;
	int rc = 0;

	if (io->state != STATE_UP)
		return -ENOTCONN;
	if (msg->payload_bytes > MSG_PAYLOAD_MAX_BYTES)
		return -EMSGSIZE;
	if (id && io->is_v5)
		rc = mosquitto_property_add_string_pair(
			&props, MQTT_PROP_USER_PROPERTY, "id", id);
	errno = 0;
	if (!rc)
		rc = mosquitto_publish_v5(io->mosq, &mid, msg->topic,
			(int)msg->payload_bytes, msg->payload, 1, false, props);
	mosquitto_property_free_all(&props);
	if (rc)
		return rc_to_errno(rc);
	*ret_mid = (unsigned)mid;
	turn_due(io->turn, 0);
	return 0;
}

int mqttio_subscribe(struct mqttio *io, const char *filter, unsigned *ret_mid)
{
	int options = MQTT_SUB_OPT_NO_LOCAL | MQTT_SUB_OPT_SEND_RETAIN_NEW;
	int mid = 0;
	int rc;

	if (io->state != STATE_UP)
		return -ENOTCONN;
	rc = mosquitto_subscribe_v5(
		io->mosq, &mid, filter, 1, io->is_v5 ? options : 0, NULL);
	if (rc)
		return rc_to_errno(rc);
	*ret_mid = (unsigned)mid;
	turn_due(io->turn, 0);
	return 0;
}

int mqttio_unsubscribe(struct mqttio *io, const char *filter)
{
	if (io->state != STATE_UP)
		return -ENOTCONN;
	turn_due(io->turn, 0);
	return rc_to_errno(mosquitto_unsubscribe(io->mosq, NULL, filter));
}
