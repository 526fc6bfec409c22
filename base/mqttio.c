/* Drives one struct mosquitto from sd-event.  It knows libmosquitto and the
 * turn; it does not know topics, routes, TLS details or retries.
 *
 * Happy path: mqttio_open() -> a connector thread resolves and starts the
 * connection (mqttconn.c) -> on_connector() adopts the socket -> on_io() drives
 * the handshakes -> CONNACK, ops->on_up() -> on_io() reads, flush() writes.
 * Goodbye: mqttio_close() -> flush() writes DISCONNECT -> start_closing() ->
 * linger() until the peer has closed too -> lose().
 * Failure, anywhere: lose() notes the first cause, stops every source and posts
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
 *      -> Every rc != 0 and every callback end in the one lose(), idempotent.
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
#include <netinet/in.h>
#include <netinet/tcp.h>
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
#include "base/now.h"
#include "base/turn.h"

#define READ_BATCH 64            /* M7 */
#define TICK_USEC USEC_PER_SEC   /* M12 */
/* A PUBACK occupies 768 bytes of a unix socket's buffer, and the kernel doubles
 * what is asked for: 64 PUBACKs. */
#define LOCKSTEP_SEND_BYTES (64 * 768 / 2)
/* Between our DISCONNECT and the peer's close. */
#define LINGER_USEC USEC_PER_SEC
#define TICK_ACCURACY_USEC (250 * USEC_PER_MSEC)

enum state {
	STATE_IDLE,
	STATE_CONNECTOR, /* the thread owns the client */
	STATE_HANDSHAKE, /* TCP, TLS, CONNECT */
	STATE_UP,
	STATE_CLOSING, /* DISCONNECT is written: until the peer closes */
	STATE_LOST, /* on_lost() is posted */
};

struct mqttio {
	sd_event *event;              /* borrowed */
	struct turn *turn;            /* borrowed */
	const struct mqttio_ops *ops; /* borrowed */
	void *userdata;

	enum state state;
	struct mqttconn *conn; /* while not idle */
	struct mosquitto *mosq; /* conn's client, once the thread is done */
	bool is_v5;
	bool lockstep;
	bool is_close_wanted; /* DISCONNECT goes out at the turn's end */
	bool is_close_queued; /* with the library: it must not read any more,
			       * or it closes before that is written */
	bool is_blocked; /* the kernel did not take all of the last flush */
	unsigned keepalive_sec;
	unsigned send_maximum;
	unsigned attempts; /* connections tried so far */

	sd_event_source *connector; /* the thread's end */
	sd_event_source *socket;    /* the connection */
	sd_event_source *deadline;  /* open to CONNACK */
	sd_event_source *tick;      /* keepalive */
	sd_event_source *lost;      /* posted: on_lost() */

	enum mqttio_cause cause; /* of the loss */
	int code;
	bool was_up;
};

static void lose(struct mqttio *io, enum mqttio_cause cause, int code)
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
static bool is_tls_error(int rc, int err)
{
	return rc == MOSQ_ERR_TLS || (rc == MOSQ_ERR_ERRNO && err == EPROTO);
}

/* What a return value of libmosquitto says about the connection. */
static void lose_by_rc(struct mqttio *io, int rc)
{
	int err = errno;

	if (is_tls_error(rc, err)) {
		lose(io, MQTTIO_TLS, 0);
		return;
	}
	switch (rc) {
	case MOSQ_ERR_CONN_LOST:
		lose(io, MQTTIO_EOF, 0);
		return;
	case MOSQ_ERR_KEEPALIVE:
		lose(io, MQTTIO_KEEPALIVE, 0);
		return;
	case MOSQ_ERR_ERRNO:
		lose(io, MQTTIO_SOCKET, err);
		return;
	default:
		lose(io, MQTTIO_PROTOCOL, rc);
		return;
	}
}

static void set_events(struct mqttio *io)
{
	uint32_t events = EPOLLIN;

	if (io->state != STATE_HANDSHAKE && io->state != STATE_UP)
		return;
	if (io->state == STATE_HANDSHAKE)
		events |= EPOLLRDHUP;
	io->is_blocked = mosquitto_want_write(io->mosq);
	if (io->is_blocked)
		events = io->lockstep || io->is_close_queued
				 ? EPOLLOUT
				 : events | EPOLLOUT;
	sd_event_source_set_io_events(io->socket, events);
}

/* The end of a turn: all that is queued leaves. */
static void flush(void *userdata)
{
	struct mqttio *io = userdata;
	int rc;

	if (io->state != STATE_UP)
		return;
	if (io->is_close_wanted && !io->is_close_queued) {
		io->is_close_queued = true;
		mosquitto_disconnect(io->mosq);
	}
	errno = 0;
	rc = mosquitto_loop_write(io->mosq, 1);
	if (io->state != STATE_UP)
		return; /* that was the DISCONNECT */
	if (rc)
		lose_by_rc(io, rc);
	else
		set_events(io);
}

/* libmosquitto calls a failed connect a success when TLS meets it first, and
 * so takes SO_ERROR away from us (M2); errno still has it. */
static bool is_socket_error(int err)
{
	switch (err) {
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
	case ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

/* The peer has closed, and nothing that it said is left to be read. */
static bool is_at_end(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* fd: our duplicate; libmosquitto closes its own. */
static void handshake(struct mqttio *io, int fd)
{
	int err;
	int rc;

	if (is_at_end(fd)) {
		lose(io, MQTTIO_EOF, 0);
		return;
	}
	errno = 0;
	rc = mosquitto_loop_read(io->mosq, 1);
	if (!rc && io->state == STATE_HANDSHAKE && is_socket_error(errno)) {
		lose(io, MQTTIO_SOCKET, errno);
		return;
	}
	if (!rc && io->state == STATE_HANDSHAKE) {
		errno = 0;
		rc = mosquitto_loop_write(io->mosq, 1);
	}
	err = errno;
	if (is_tls_error(rc, err) && is_at_end(fd)) {
		lose(io, MQTTIO_EOF, 0);
	} else if (rc) {
		errno = err;
		lose_by_rc(io, rc);
	} else {
		set_events(io);
	}
}

static void read_batch(struct mqttio *io)
{
	int rc = 0;
	int i;

	for (i = 0; i < READ_BATCH && io->state == STATE_UP; i++) {
		errno = 0;
		rc = mosquitto_loop_read(io->mosq, 1);
		if (rc || errno == EAGAIN)
			break;
	}
	if (rc)
		lose_by_rc(io, rc);
}

/* An error on the socket that libmosquitto would not see (M2); 0 if none. */
static int socket_error(int fd)
{
	socklen_t size = sizeof(int);
	int err = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
		return errno;
	return err;
}

/* A peer that says why it goes, and closes before it has read all of ours,
 * resets the connection; what it said can still be read. */
static void read_last_words(struct mqttio *io)
{
	int i;

	for (i = 0; i < READ_BATCH && io->state != STATE_LOST; i++) {
		errno = 0;
		if (mosquitto_loop_read(io->mosq, 1) || errno == EAGAIN)
			return;
	}
}

/* Throw away what still comes, until the peer closes. */
static void linger(struct mqttio *io, int fd)
{
	char buf[4096];
	ssize_t n;
	int i;

	for (i = 0; i < READ_BATCH; i++) {
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			lose(io, MQTTIO_CLOSED, 0);
			return;
		}
	}
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct mqttio *io = userdata;
	int err = 0;

	if (io->state == STATE_CLOSING) {
		linger(io, fd);
		return 0;
	}
	if (revents & (EPOLLERR | EPOLLHUP))
		err = socket_error(fd);
	if (err == ECONNRESET || err == EPIPE)
		read_last_words(io);
	if (err) {
		lose(io, MQTTIO_SOCKET, err);
		return 0;
	}
	if (io->state == STATE_HANDSHAKE) {
		handshake(io, fd);
		if ((revents & (EPOLLHUP | EPOLLRDHUP)) &&
			io->state == STATE_HANDSHAKE)
			lose(io, MQTTIO_EOF, 0); /* M2 */
		return 0;
	}
	if (revents & EPOLLOUT) {
		/* Write at the turn's end; until then do not wake again. */
		sd_event_source_set_io_events(s,
			io->lockstep || io->is_close_queued ? 0 : EPOLLIN);
		turn_due(io->turn, 0);
	}
	if ((revents & ~(uint32_t)EPOLLOUT) && !io->is_close_queued)
		read_batch(io);
	return 0;
}

static int on_tick(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct mqttio *io = userdata;
	int rc;

	sd_event_source_set_time(s, usec + TICK_USEC);
	errno = 0;
	rc = mosquitto_loop_misc(io->mosq);
	if (rc)
		lose_by_rc(io, rc);
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
		lose(io, MQTTIO_RESOLVE, EAI_AGAIN);
	else if (io->state == STATE_CLOSING)
		lose(io, MQTTIO_CLOSED, 0);
	else
		lose(io, MQTTIO_TIMEOUT, 0);
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

/* A dead peer is noticed by the kernel too: unacknowledged bytes end the
 * connection after one keepalive (RFC 5482). */
static void set_user_timeout(int fd, unsigned keepalive_sec)
{
	unsigned msec = keepalive_sec * 1000;

	/* Fails on a unix socket, where nothing can get lost. */
	(void)setsockopt(
		fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &msec, sizeof(msec));
}

static int adopt_socket(struct mqttio *io)
{
	int fd = mqttconn_dup_socket(io->conn); /* M1 */
	int r;

	if (fd < 0)
		return fd;
	set_user_timeout(fd, io->keepalive_sec);
	if (io->lockstep)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF,
			&(int){ LOCKSTEP_SEND_BYTES }, sizeof(int));
	r = sd_event_add_io(io->event, &io->socket, fd,
		EPOLLIN | EPOLLOUT | EPOLLRDHUP, on_io, io);
	if (r < 0) {
		close(fd);
		return r;
	}
	sd_event_source_set_io_fd_own(io->socket, true);
	sd_event_source_set_description(io->socket, "mqtt-socket");
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
		lose(io, MQTTIO_RESOLVE, result.gai);
		return 0;
	}
	if (result.rc > 0) {
		errno = result.err;
		lose_by_rc(io, result.rc);
		return 0;
	}
	if (is_socket_error(result.err)) {
		lose(io, MQTTIO_SOCKET, result.err);
		return 0;
	}
	io->state = STATE_HANDSHAKE;
	r = adopt_socket(io);
	if (r < 0)
		lose(io, MQTTIO_SOCKET, -r);
	return 0;
}

/* ---- callbacks of libmosquitto; each keeps errno (M14) ---- */

static void on_connect(struct mosquitto *m, void *userdata, int reason,
	int flags, const mosquitto_property *props)
{
	struct mqttio *io = mqttconn_owner(userdata);
	struct mqttio_up up = { .session_present = flags & 1 };
	uint16_t receive_maximum = UINT16_MAX;
	int saved = errno;
	int r;

	(void)m;
	if (reason) {
		lose(io, MQTTIO_REFUSED, reason);
		errno = saved;
		return;
	}
	mosquitto_property_read_int16(
		props, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
	mosquitto_property_read_int32(props, MQTT_PROP_MAXIMUM_PACKET_SIZE,
		&up.max_packet_bytes, false);
	up.send_maximum = io->send_maximum;
	if (receive_maximum && receive_maximum < up.send_maximum)
		up.send_maximum = receive_maximum;
	io->state = STATE_UP;
	io->deadline = sd_event_source_disable_unref(io->deadline);
	r = start_tick(io);
	if (r < 0) {
		lose(io, MQTTIO_SOCKET, -r);
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
		.msg = { .topic = in->topic,
			.payload = in->payload,
			.payload_bytes = (size_t)in->payloadlen },
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
		io->ops->on_suback(io->userdata, (unsigned)mid,
			n > 0 ? granted[0] : 0x80);
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
		lose(io, MQTTIO_CLOSED, 0);
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
		lose(io, MQTTIO_DISCONNECT, reason);
	else if (reason == 0 && io->state == STATE_UP)
		start_closing(io);
	else if (reason == 0)
		lose(io, MQTTIO_CLOSED, 0);
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
	r = turn_join(turn, flush, io);
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
		lose(io, MQTTIO_RESOLVE, EAI_AGAIN);
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
		lose(io, MQTTIO_CLOSED, 0);
		return;
	}
	io->is_close_wanted = true;
	turn_due(io->turn, 0);
}

void mqttio_cut(struct mqttio *io)
{
	lose(io, MQTTIO_CLOSED, 0);
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
	default:
		return -EINVAL;
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
	rc = mosquitto_subscribe_v5(io->mosq, &mid, filter, 1,
		io->is_v5 ? options : 0, NULL);
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
