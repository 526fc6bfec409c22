/* Makes a libmosquitto client and brings its connection on the way, in a
 * thread: name resolution blocks, 20 s and more when the DNS is dead.  The
 * thread knows only what is in struct mqttconn. */
#include "base/mqttconn.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mqtt_protocol.h>

#define THREAD_STACK_BYTES (256 * 1024) /* NSS modules like theirs deep */

enum stage { STAGE_RUNNING, STAGE_DONE, STAGE_ABANDONED };

struct mqttconn {
	struct mqttio *owner; /* borrowed; never touched by the thread */
	atomic_int stage;
	int done_fd;
	unsigned attempt;

	char *host;
	size_t id_bytes; /* of the client id */
	bool is_repeat;  /* the last PUBLISH that came had DUP */
	int port;        /* 0: host is the path of a unix socket */
	int keepalive_sec;
	mosquitto_property *props;

	struct mosquitto *mosq;
	struct mqttconn_result result;
	char text[MQTTCONN_TEXT_BYTES];
};

/* Threads that may sit in a resolver that does not answer, at once. */
#define RESOLVING_MAX 4

/* Connector threads that have not come back; those that resolve a name. */
static atomic_uint n_threads;
static atomic_uint n_resolving;

static void destroy(struct mqttconn *conn)
{
	if (conn->mosq)
		mosquitto_destroy(conn->mosq);
	mosquitto_property_free_all(&conn->props);
	if (conn->done_fd >= 0)
		close(conn->done_fd);
	free(conn->host);
	free(conn);
}

/* "Client ID received PUBLISH (d1, ..." is the one place where libmosquitto
 * tells the DUP flag, right before it hands the message over. */
static void note_repeat(struct mqttconn *conn, const char *text)
{
	static const char before[] = "Client ";
	static const char after[] = " received PUBLISH (d";
	size_t at = sizeof(before) - 1 + conn->id_bytes;

	if (strlen(text) > at && !strncmp(text + at, after, sizeof(after) - 1))
		conn->is_repeat = text[at + sizeof(after) - 1] == '1';
}

static void on_log(
	struct mosquitto *m, void *userdata, int level, const char *text)
{
	struct mqttconn *conn = userdata;

	(void)m;
	if (level == MOSQ_LOG_ERR)
		snprintf(conn->text, sizeof(conn->text), "%s", text);
	else if (level == MOSQ_LOG_DEBUG)
		note_repeat(conn, text);
}

/* The address to bind to, so that libmosquitto, which tries only the first
 * address that fits, tries the family whose turn it is.  NULL: no preference.
 * Returns getaddrinfo's error. */
static int choose_family(const struct mqttconn *conn, const char **ret_bind)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	struct addrinfo *a;
	int other = AF_UNSPEC;
	int r = getaddrinfo(conn->host, NULL, &hints, &list);

	*ret_bind = NULL;
	if (r)
		return r;
	for (a = list; a; a = a->ai_next)
		if (a->ai_family != list->ai_family)
			other = a->ai_family;
	if (conn->attempt % 2 && other == AF_INET)
		*ret_bind = "0.0.0.0";
	else if (conn->attempt % 2 && other == AF_INET6)
		*ret_bind = "::";
	freeaddrinfo(list);
	return 0;
}

static void connect_tcp(struct mqttconn *conn)
{
	const char *bind_address;

	conn->result.gai = choose_family(conn, &bind_address);
	if (conn->result.gai)
		return;
	/* There is no asynchronous connect with properties; but properties
	 * outlast a connect that fails, and this one does, at once. */
	if (conn->props)
		(void)mosquitto_connect_bind_v5(conn->mosq, "/", 0,
			conn->keepalive_sec, NULL, conn->props);
	conn->text[0] = '\0';
	errno = 0;
	conn->result.rc = mosquitto_connect_bind_async(conn->mosq, conn->host,
		conn->port, conn->keepalive_sec, bind_address);
	conn->result.err = errno;
}

static void connect_unix(struct mqttconn *conn)
{
	errno = 0;
	conn->result.rc = mosquitto_connect_bind_v5(conn->mosq, conn->host, 0,
		conn->keepalive_sec, NULL, conn->props);
	conn->result.err = errno;
}

static void hand_over(struct mqttconn *conn)
{
	uint64_t one = 1;
	int running = STAGE_RUNNING;

	if (!atomic_compare_exchange_strong(
		    &conn->stage, &running, STAGE_DONE)) {
		destroy(conn); /* abandoned: nobody else will */
		return;
	}
	/* The loop may want to free conn from here on; it waits for this
	 * word first. */
	while (write(conn->done_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void *connector(void *userdata)
{
	struct mqttconn *conn = userdata;

	if (conn->port) {
		connect_tcp(conn);
		atomic_fetch_sub(&n_resolving, 1);
	} else {
		connect_unix(conn);
	}
	hand_over(conn);
	atomic_fetch_sub(&n_threads, 1);
	return NULL;
}

static int add_properties(struct mqttconn *conn, const struct mqttio_options *o)
{
	if (o->version != 5)
		return 0;
	if (mosquitto_property_add_int32(&conn->props,
		    MQTT_PROP_SESSION_EXPIRY_INTERVAL, o->session_expiry_sec) ||
		mosquitto_property_add_int16(&conn->props,
			MQTT_PROP_RECEIVE_MAXIMUM,
			(uint16_t)o->receive_maximum))
		return -ENOMEM;
	if (o->receive_packet_bytes &&
		mosquitto_property_add_int32(&conn->props,
			MQTT_PROP_MAXIMUM_PACKET_SIZE, o->receive_packet_bytes))
		return -ENOMEM;
	return 0;
}

static int set_options(struct mosquitto *m, const struct mqttio_options *o)
{
	if (mosquitto_threaded_set(m, true) || /* only flush() writes */
		mosquitto_int_option(m, MOSQ_OPT_PROTOCOL_VERSION, o->version))
		return -EINVAL;
	if (mosquitto_int_option(
		    m, MOSQ_OPT_SEND_MAXIMUM, (int)o->send_maximum) ||
		mosquitto_int_option(
			m, MOSQ_OPT_RECEIVE_MAXIMUM, (int)o->receive_maximum))
		return -EINVAL;
	if (o->port && mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1))
		return -EINVAL;
	if (!o->tls)
		return 0;
	if (mosquitto_int_option(m, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0) ||
		mosquitto_void_option(m, MOSQ_OPT_SSL_CTX, o->tls))
		return -EINVAL;
	return 0;
}

static int make_client(struct mqttconn *conn, const struct mqttio_options *o,
	const struct mqttconn_callbacks *cb)
{
	/* A session that survives us: what the broker holds for us waits. */
	struct mosquitto *m = mosquitto_new(o->client_id, false, conn);
	int r;

	if (!m)
		return -ENOMEM;
	conn->mosq = m;
	r = set_options(m, o);
	if (r < 0)
		return r;
	mosquitto_log_callback_set(m, on_log);
	mosquitto_connect_v5_callback_set(m, cb->connect);
	mosquitto_message_v5_callback_set(m, cb->message);
	mosquitto_publish_v5_callback_set(m, cb->publish);
	mosquitto_subscribe_v5_callback_set(m, cb->subscribe);
	mosquitto_disconnect_v5_callback_set(m, cb->disconnect);
	return add_properties(conn, o);
}

static int start_thread(struct mqttconn *conn)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r = pthread_attr_init(&attr);

	if (r)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	atomic_fetch_add(&n_threads, 1);
	if (conn->port)
		atomic_fetch_add(&n_resolving, 1);
	r = pthread_create(&thread, &attr, connector, conn);
	if (r) {
		atomic_fetch_sub(&n_threads, 1);
		if (conn->port)
			atomic_fetch_sub(&n_resolving, 1);
	}
	pthread_attr_destroy(&attr);
	return -r;
}

int mqttconn_start(const struct mqttio_options *o, unsigned attempt,
	const struct mqttconn_callbacks *cb, struct mqttio *owner,
	struct mqttconn **ret_conn)
{
	struct mqttconn *conn;
	int r;

	if (o->port && atomic_load(&n_resolving) >= RESOLVING_MAX)
		return -EBUSY;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return -ENOMEM;
	conn->owner = owner;
	conn->attempt = attempt;
	conn->id_bytes = strlen(o->client_id);
	conn->port = (int)o->port;
	conn->keepalive_sec = (int)o->keepalive_sec;
	conn->host = strdup(o->host);
	conn->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = conn->done_fd < 0 ? -errno : !conn->host ? -ENOMEM : 0;
	if (r == 0)
		r = make_client(conn, o, cb);
	if (r == 0)
		r = start_thread(conn);
	if (r < 0) {
		destroy(conn);
		return r;
	}
	*ret_conn = conn;
	return 0;
}

int mqttconn_fd(const struct mqttconn *conn)
{
	return conn->done_fd;
}

void mqttconn_finish(struct mqttconn *conn, struct mqttconn_result *ret)
{
	*ret = conn->result;
	ret->mosq = conn->mosq;
}

int mqttconn_dup_socket(struct mqttconn *conn)
{
	int fd = mosquitto_socket(conn->mosq);

	if (fd < 0)
		return -ENOTCONN;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

const char *mqttconn_text(const struct mqttconn *conn)
{
	/* While the thread may write it, it has nothing to say. */
	return atomic_load(&conn->stage) == STAGE_DONE ? conn->text : "";
}

bool mqttconn_is_repeat(void *userdata)
{
	const struct mqttconn *conn = userdata;

	return conn->is_repeat;
}

struct mqttio *mqttconn_owner(void *userdata)
{
	struct mqttconn *conn = userdata;

	return conn->owner;
}

/* The thread has set STAGE_DONE but may not have written its word yet. */
static void wait_for_word(struct mqttconn *conn)
{
	uint64_t count;

	while (read(conn->done_fd, &count, sizeof(count)) < 0 &&
		(errno == EAGAIN || errno == EINTR))
		sched_yield();
}

struct mqttconn *mqttconn_free(struct mqttconn *conn)
{
	int running = STAGE_RUNNING;

	if (!conn)
		return NULL;
	if (atomic_compare_exchange_strong(
		    &conn->stage, &running, STAGE_ABANDONED))
		return NULL; /* the thread will free it */
	wait_for_word(conn);
	destroy(conn);
	return NULL;
}

int mqttio_lib_start(void)
{
	return mosquitto_lib_init() ? -ENOMEM : 0;
}

bool mqttio_lib_stop(void)
{
	if (atomic_load(&n_threads))
		return false;
	mosquitto_lib_cleanup();
	return true;
}

const char *mqttio_lib_version(void)
{
	static char version[24];
	int major;
	int minor;
	int revision;

	mosquitto_lib_version(&major, &minor, &revision);
	snprintf(version, sizeof(version), "%d.%d.%d", major, minor, revision);
	return version;
}
