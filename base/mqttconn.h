#ifndef BASE_MQTTCONN_H
#define BASE_MQTTCONN_H

#include <mosquitto.h>

#include "base/mqttio.h"

/* The beginning and the end of one connection, for mqttio.c alone: makes the
 * libmosquitto client, resolves and connects it in a thread, destroys it.
 *
 * While the thread runs it owns the client; mqttconn_free() then only marks
 * the connection as abandoned, and the thread frees it when it comes back
 * (getaddrinfo() can neither be cancelled nor given a deadline). */
struct mqttconn;

#define MQTTCONN_TEXT_BYTES 256

struct mqttconn_callbacks {
	void (*connect)(struct mosquitto *, void *, int, int,
		const mosquitto_property *);
	void (*message)(struct mosquitto *, void *,
		const struct mosquitto_message *, const mosquitto_property *);
	void (*publish)(struct mosquitto *, void *, int, int,
		const mosquitto_property *);
	void (*subscribe)(struct mosquitto *, void *, int, int, const int *,
		const mosquitto_property *);
	void (*disconnect)(
		struct mosquitto *, void *, int, const mosquitto_property *);
};

struct mqttconn_result {
	int gai;                /* getaddrinfo's answer; 0: resolved */
	int rc;                 /* libmosquitto's; > 0: failed at once */
	int err;                /* errno beside rc */
	struct mosquitto *mosq; /* borrowed until mqttconn_free() */
};

/* Start the thread.  attempt: how many connections were tried before; odd
 * ones prefer the other address family, where a host has both.  cb and owner
 * are borrowed; callbacks get the mqttconn, see mqttconn_owner().
 * 0 or -errno; -EBUSY when the resolver has not answered earlier threads. */
CHECKED int mqttconn_start(const struct mqttio_options *o, unsigned attempt,
	const struct mqttconn_callbacks *cb, struct mqttio *owner,
	struct mqttconn **ret_conn);

/* Readable when the thread is through; borrowed. */
int mqttconn_fd(const struct mqttconn *conn);

/* Take over from the thread; call once, when mqttconn_fd() is readable. */
void mqttconn_finish(struct mqttconn *conn, struct mqttconn_result *ret);

/* A duplicate of the client's socket; the caller's.  -errno. */
CHECKED int mqttconn_dup_socket(struct mqttconn *conn);

/* The last words of the library on an error, "" if none; borrowed. */
const char *mqttconn_text(const struct mqttconn *conn);

struct mqttio *mqttconn_owner(void *userdata);

/* In the message callback: whether the PUBLISH had the DUP flag, so may be one
 * that came before. */
bool mqttconn_is_repeat(void *userdata);

struct mqttconn *mqttconn_free(struct mqttconn *conn);
DEFINE_SCOPED(struct mqttconn *, mqttconn_free);

#endif
