/* See the header; the traps M1 to M15 are explained in mqttio.c. */
#include "base/mqttwire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/turn.h"

#define READ_BATCH 64 /* M7 */
/* A PUBACK occupies 768 bytes of a unix socket's buffer, and the kernel doubles
 * what is asked for: 64 PUBACKs. */
#define LOCKSTEP_SEND_BYTES (64 * 768 / 2)

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

void mqttwire_flush(void *userdata)
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
		mqttwire_lose_by_rc(io, rc);
	else
		set_events(io);
}

/* libmosquitto calls a failed connect a success when TLS meets it first, and
 * so takes SO_ERROR away from us (M2); errno still has it. */
bool mqttwire_is_socket_error(int err)
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
		mqttwire_lose(io, MQTTIO_EOF, 0);
		return;
	}
	errno = 0;
	rc = mosquitto_loop_read(io->mosq, 1);
	if (!rc && io->state == STATE_HANDSHAKE &&
		mqttwire_is_socket_error(errno)) {
		mqttwire_lose(io, MQTTIO_SOCKET, errno);
		return;
	}
	if (!rc && io->state == STATE_HANDSHAKE) {
		errno = 0;
		rc = mosquitto_loop_write(io->mosq, 1);
	}
	err = errno;
	if (mqttwire_is_tls_error(rc, err) && is_at_end(fd)) {
		mqttwire_lose(io, MQTTIO_EOF, 0);
	} else if (rc) {
		errno = err;
		mqttwire_lose_by_rc(io, rc);
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
		mqttwire_lose_by_rc(io, rc);
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
			mqttwire_lose(io, MQTTIO_CLOSED, 0);
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
		mqttwire_lose(io, MQTTIO_SOCKET, err);
		return 0;
	}
	if (io->state == STATE_HANDSHAKE) {
		handshake(io, fd);
		if ((revents & (EPOLLHUP | EPOLLRDHUP)) &&
			io->state == STATE_HANDSHAKE)
			mqttwire_lose(io, MQTTIO_EOF, 0); /* M2 */
		return 0;
	}
	if (revents & EPOLLOUT) {
		/* Write at the turn's end; until then do not wake again. */
		sd_event_source_set_io_events(
			s, io->lockstep || io->is_close_queued ? 0 : EPOLLIN);
		turn_due(io->turn, 0);
	}
	if ((revents & ~(uint32_t)EPOLLOUT) && !io->is_close_queued)
		read_batch(io);
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

int mqttwire_adopt(struct mqttio *io)
{
	int fd = mqttconn_dup_socket(io->conn); /* M1 */
	int r;

	if (fd < 0)
		return fd;
	set_user_timeout(fd, io->keepalive_sec);
	if (io->lockstep)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF,
			&(int){LOCKSTEP_SEND_BYTES}, sizeof(int));
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
