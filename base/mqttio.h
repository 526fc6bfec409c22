#ifndef BASE_MQTTIO_H
#define BASE_MQTTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/msg.h"
#include "base/scope.h"

struct sd_event;
struct ssl_ctx_st;
struct turn;

/* One libmosquitto client on sd-event: MQTT 3.1.1 or 5 over a unix socket, TCP
 * or TLS.  This is the only home of libmosquitto; the rules named M1 to M15 in
 * mqttio.c are the traps of that library and how each is met.
 *
 * Acknowledgements are deferred.  libmosquitto queues a PUBACK before it hands
 * over the message, but nothing leaves before the flush at the end of the turn
 * (base/turn.h), which comes after the commit.  So an on_message() that stores
 * the message in the turn's transaction is all that a caller has to do.
 *
 * A connection is opened by mqttio_open() and lives until on_down(), which
 * comes exactly once for each open that returned 0, from the event loop, never
 * from within a call.  Then it may be opened again.  Nothing of the old
 * connection remains: whatever was not acknowledged is the caller's to send
 * again.
 *
 * One thread. */
struct mqttio;

enum mqttio_cause {
	MQTTIO_CLOSED,     /* by mqttio_close(), or cut by mqttio_cut() */
	MQTTIO_RESOLVE,    /* code: EAI_* of getaddrinfo(3) */
	MQTTIO_SOCKET,     /* code: errno; refused, unreachable, reset ... */
	MQTTIO_TLS,        /* the handshake failed; text: OpenSSL's words */
	MQTTIO_REFUSED,    /* code: CONNACK return (3.1.1) or reason code (5) */
	MQTTIO_TIMEOUT,    /* no CONNACK within the deadline */
	MQTTIO_KEEPALIVE,  /* no answer to PINGREQ */
	MQTTIO_EOF,        /* the peer closed the connection */
	MQTTIO_DISCONNECT, /* code: reason of the server's DISCONNECT (5) */
	MQTTIO_PROTOCOL,   /* code: libmosquitto's MOSQ_ERR_* */
};

struct mqttio_loss {
	enum mqttio_cause cause;
	int code;
	bool was_up;      /* after CONNACK */
	const char *text; /* the library's words; borrowed for the call */
};

struct mqttio_options {
	const char *label; /* for log lines and sources: "uplink" */
	const char *host;  /* or, with port 0, the path of a unix socket */
	unsigned port;
	const char *client_id;
	int version; /* 4 is MQTT 3.1.1, 5 is MQTT 5 */
	unsigned keepalive_sec;
	unsigned send_maximum;         /* most PUBLISH unacknowledged, out */
	unsigned receive_maximum;      /* the same, in (MQTT 5) */
	uint32_t receive_packet_bytes; /* largest packet, in (MQTT 5); 0: any */
	uint32_t session_expiry_sec;   /* MQTT 5; UINT32_MAX: never */
	uint64_t connect_timeout_usec; /* from open to CONNACK */
	struct ssl_ctx_st *tls;        /* NULL: no TLS; referenced while open */
	/* Read nothing while something waits to be written, and let the kernel
	 * hold few PUBACKs.  For a peer that sends more than it may: the broker
	 * 2.0.11 forgets its in-flight limit whenever it has messages queued
	 * for us (each PUBACK lets 100 more go), but reads one PUBACK at a
	 * time.  So memory stays bounded, and so does what it may repeat. */
	bool lockstep;
};

/* With lockstep: most messages taken in whose PUBACK the broker may not have
 * seen.  A turn, a batch read beyond it, and the kernel's buffer. */
#define MQTTIO_LOCKSTEP_MAX 400

struct mqttio_up {
	bool session_present;
	unsigned send_maximum;     /* min(ours, the server's Receive Maximum) */
	uint32_t max_packet_bytes; /* the server's limit; 0: none */
	unsigned max_qos;          /* what the server takes: 0, 1 or 2 */
};

struct mqttio_message {
	struct msg msg; /* borrowed for the call */
	unsigned mid;   /* packet identifier; 0 for QoS 0 */
	bool retain;
	bool is_repeat; /* DUP: it may have come before */
};

struct mqttio_ops {
	/* CONNACK: subscribe and publish may be called from now on. */
	void (*on_up)(void *userdata, const struct mqttio_up *up);
	/* A PUBLISH; it will be acknowledged at the end of this turn. */
	void (*on_message)(void *userdata, const struct mqttio_message *m);
	/* PUBACK for mid; reason 0 or 0x10 is success (MQTT 5, 3.4.2.1). */
	void (*on_puback)(void *userdata, unsigned mid, int reason);
	/* SUBACK for mid: the granted QoS, or >= 0x80 for a refusal. */
	void (*on_suback)(void *userdata, unsigned mid, int granted);
	/* All is over; see above. */
	void (*on_down)(void *userdata, const struct mqttio_loss *loss);
};

/* event, turn and ops are borrowed and outlive the mqttio.  0 or -errno. */
CHECKED int mqttio_new(struct sd_event *event, struct turn *turn,
	const struct mqttio_ops *ops, void *userdata, struct mqttio **ret_io);

/* Ends any connection at once, without on_down().  NULL is allowed. */
struct mqttio *mqttio_free(struct mqttio *io);
DEFINE_SCOPED(struct mqttio *, mqttio_free);

/* Begin to connect; options are copied.  Name resolution runs in a thread of
 * its own, so the loop is never held up.  Must not be open yet.
 * 0, or -errno when not even the attempt could be made (logged). */
CHECKED int mqttio_open(struct mqttio *io, const struct mqttio_options *o);

/* Say DISCONNECT, flush at the end of the turn, then on_down(MQTTIO_CLOSED).
 * A connection that is not up is cut. */
void mqttio_close(struct mqttio *io);

/* Drop the connection as it is.  What is queued and not flushed, PUBACKs
 * above all, is never sent. */
void mqttio_cut(struct mqttio *io);

bool mqttio_is_up(const struct mqttio *io);

/* Up, and the kernel has taken all that there was at the last flush. */
bool mqttio_is_flushed(const struct mqttio *io);

/* Queue a PUBLISH with QoS 1, sent at the end of the turn.  id, when not NULL
 * and the version is 5, goes along as user property "id".  0 and the packet
 * identifier that on_puback() will name; -ENOTCONN when not up; -EMSGSIZE when
 * the server would refuse its size; -EINVAL when MQTT does not allow the topic;
 * -EPROTO when nothing can be sent on this connection; -ENOMEM. */
CHECKED int mqttio_publish(struct mqttio *io, const struct msg *msg,
	const char *id, unsigned *ret_mid);

/* Queue a SUBSCRIBE for one filter with QoS 1 (MQTT 5: No Local, and retained
 * messages only for a subscription that is new).  0 and the identifier that
 * on_suback() will name; -ENOTCONN, -EINVAL, -ENOMEM. */
CHECKED int mqttio_subscribe(
	struct mqttio *io, const char *filter, unsigned *ret_mid);

/* Queue an UNSUBSCRIBE.  0, -ENOTCONN, -EINVAL, -ENOMEM. */
CHECKED int mqttio_unsubscribe(struct mqttio *io, const char *filter);

/* Library-wide start and end, once in main().  The start returns 0 or -ENOMEM;
 * the end false when a thread still sits in the resolver: then only _exit(2)
 * is safe. */
CHECKED int mqttio_lib_start(void);
CHECKED bool mqttio_lib_stop(void);
const char *mqttio_lib_version(void);

#endif
