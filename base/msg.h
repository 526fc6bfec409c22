#ifndef BASE_MSG_H
#define BASE_MSG_H

#include <stddef.h>
#include <stdint.h>

/* One message as every folder passes it on: a borrowed view.  Nothing in it is
 * owned; whoever keeps a message beyond the call copies it.
 *
 * topic is NUL-terminated UTF-8 without wildcards; payload may hold any bytes
 * and is NULL only when payload_bytes is 0. */
struct msg {
	const char *topic;
	const void *payload;
	size_t payload_bytes;
};

/* Limits of MQTT itself (MQTT 5.0, 1.5.4 and 2.1.4). */
#define MSG_TOPIC_MAX_BYTES 65535
#define MSG_PAYLOAD_MAX_BYTES 268435455

/* Largest payload that we take from the cloud. */
#define MSG_DOWN_MAX_BYTES 1048576

#endif
