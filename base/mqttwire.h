#ifndef BASE_MQTTWIRE_H
#define BASE_MQTTWIRE_H

#include <stdbool.h>

#include <mosquitto.h>
#include <systemd/sd-event.h>

#include "base/mqttconn.h"
#include "base/mqttio.h"

/* What happens on the socket of one connection: handshake, reading, writing,
 * the last words.  For mqttio.c and mqttwire.c alone, which share this
 * object. */
enum state {
	STATE_IDLE,
	STATE_CONNECTOR, /* the thread owns the client */
	STATE_HANDSHAKE, /* TCP, TLS, CONNECT */
	STATE_UP,
	STATE_CLOSING, /* DISCONNECT is written: until the peer closes */
	STATE_LOST,    /* on_lost() is posted */
};

struct mqttio {
	sd_event *event;              /* borrowed */
	struct turn *turn;            /* borrowed */
	const struct mqttio_ops *ops; /* borrowed */
	void *userdata;

	enum state state;
	struct mqttconn *conn;  /* while not idle */
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

/* The connection is over: note the first cause, stop every source, post
 * on_lost().  Idempotent. */
void mqttwire_lose(struct mqttio *io, enum mqttio_cause cause, int code);

/* The same, by what a return value of libmosquitto and errno say. */
void mqttwire_lose_by_rc(struct mqttio *io, int rc);

bool mqttwire_is_tls_error(int rc, int err);

/* Whether errno tells of the connection; see M2. */
bool mqttwire_is_socket_error(int err);

/* Watch the client's new socket.  0 or -errno. */
CHECKED int mqttwire_adopt(struct mqttio *io);

/* The end of a turn: all that is queued leaves.  userdata: the mqttio. */
void mqttwire_flush(void *userdata);

#endif
