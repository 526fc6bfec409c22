/* The table of keys.  Data only. */
#include "gatewayd/conf_schema.h"

#include "gatewayd/conf.h"

#define GLOBAL(field) CONF_GLOBAL, offsetof(struct conf, field)
#define SERIAL(field) CONF_SERIAL, offsetof(struct conf_serial, field)
#define ROUTE(field) CONF_ROUTE, offsetof(struct conf_route, field)

/* path, type, min, max, choices, default, meaning, where */
#define KEY(path_, type_, min_, max_, choices_, default_, where_, meaning_) \
	KEY_(path_, type_, min_, max_, choices_, default_, meaning_, where_)
#define KEY_(path_, type_, min_, max_, choices_, default_, meaning_, object_, \
	offset_)                                                              \
	{                                                                     \
		.path = (path_), .object = (object_), .type = (type_),        \
		.min = (min_), .max = (max_), .choices = (choices_),          \
		.default_value = (default_), .meaning = (meaning_),           \
		.offset = (offset_)                                           \
	}

const struct conf_key conf_schema[] = {
	KEY("gateway.name", CONF_NAME, NULL, NULL, NULL, "",
		GLOBAL(gateway.name),
		"name of this gateway; empty: the host name"),

	KEY("spool.max_size", CONF_SIZE, "1M", "1T", NULL, "1G",
		GLOBAL(spool.max_bytes),
		"largest size of the spool on disk; in force at the next start"),

	KEY("uplink.host", CONF_HOST, NULL, NULL, NULL, "", GLOBAL(uplink.host),
		"host name or address of the cloud's MQTT endpoint; empty: no "
		"uplink, messages are kept"),
	KEY("uplink.port", CONF_INT, "1", "65535", NULL, "8883",
		GLOBAL(uplink.port), "its TCP port; TLS is always used"),
	KEY("uplink.ca", CONF_PATH, NULL, NULL, NULL,
		"/etc/gatewayd/uplink-ca.pem", GLOBAL(uplink.ca),
		"PEM file with the CAs that the cloud's certificate must come "
		"from"),
	KEY("uplink.certificate", CONF_PATH, NULL, NULL, NULL,
		"/etc/gatewayd/uplink.pem", GLOBAL(uplink.certificate),
		"PEM file with this gateway's certificate and its chain"),
	KEY("uplink.key", CONF_PATH, NULL, NULL, NULL,
		"/etc/gatewayd/uplink.key", GLOBAL(uplink.key),
		"PEM file with its private key, not encrypted"),
	KEY("uplink.client_id", CONF_CLIENT, NULL, NULL, NULL, "",
		GLOBAL(uplink.client_id),
		"MQTT client id; empty: gateway.name.  AWS IoT: the thing's "
		"name"),
	KEY("uplink.mqtt_version", CONF_CHOICE, NULL, NULL, "auto|5|3.1.1",
		"auto", GLOBAL(uplink.mqtt_version),
		"MQTT version; auto: 5, and 3.1.1 when the server does not "
		"know 5"),
	KEY("uplink.keepalive", CONF_DURATION, "5s", "20m", NULL, "60s",
		GLOBAL(uplink.keepalive_usec),
		"a PINGREQ after so much silence; a dead connection is noticed "
		"after about the same time again"),
	KEY("uplink.inflight", CONF_INT, "1", "1000", NULL, "100",
		GLOBAL(uplink.inflight),
		"messages that may be unacknowledged at once; after an "
		"interruption at most so many are sent twice"),
	KEY("uplink.connect_timeout", CONF_DURATION, "1s", "5m", NULL, "15s",
		GLOBAL(uplink.connect_timeout_usec),
		"a connection must be up within this time, name resolution "
		"and TLS included"),
	KEY("uplink.ack_timeout", CONF_DURATION, "5s", "10m", NULL, "30s",
		GLOBAL(uplink.ack_timeout_usec),
		"a connection on which nothing is acknowledged for so long is "
		"dead"),
	KEY("uplink.retry_min", CONF_DURATION, "100ms", "10m", NULL, "1s",
		GLOBAL(uplink.retry_min_usec),
		"first delay before connecting again; it doubles, with jitter"),
	KEY("uplink.retry_max", CONF_DURATION, "1s", "1h", NULL, "64s",
		GLOBAL(uplink.retry_max_usec), "largest delay"),
	KEY("uplink.session_expiry", CONF_DURATION, "0s", "7d", NULL, "1d",
		GLOBAL(uplink.session_expiry_usec),
		"MQTT 5: how long the cloud keeps commands for us while we are "
		"away"),
	KEY("uplink.message_id", CONF_BOOL, NULL, NULL, NULL, "true",
		GLOBAL(uplink.message_id),
		"MQTT 5: send the user property \"id\" (epoch-sequence) with "
		"each message, the same when it is sent again"),

	KEY("local.socket", CONF_PATH, NULL, NULL, NULL,
		"/run/gatewayd-broker/mqtt.sock", GLOBAL(local.socket),
		"unix socket of the local broker"),
	KEY("local.client_id", CONF_CLIENT, NULL, NULL, NULL, "",
		GLOBAL(local.client_id),
		"our MQTT client id there; empty: gatewayd- and a random "
		"number that is made with the spool"),

	KEY("serial.*.device", CONF_PATH, NULL, NULL, NULL, NULL,
		SERIAL(device),
		"path of the tty, best from /dev/serial/by-id/"),
	KEY("serial.*.baud", CONF_BAUD, "300", "4000000", NULL, "9600",
		SERIAL(baud), "bits per second, a standard rate"),
	KEY("serial.*.data_bits", CONF_INT, "7", "8", NULL, "8",
		SERIAL(data_bits), "data bits"),
	KEY("serial.*.parity", CONF_CHOICE, NULL, NULL, "none|even|odd", "none",
		SERIAL(parity), "parity"),
	KEY("serial.*.stop_bits", CONF_INT, "1", "2", NULL, "1",
		SERIAL(stop_bits), "stop bits"),
	KEY("serial.*.flow", CONF_CHOICE, NULL, NULL, "none|rtscts|xonxoff",
		"none", SERIAL(flow), "flow control"),
	KEY("serial.*.line_end", CONF_CHOICE, NULL, NULL, "lf|crlf", "lf",
		SERIAL(line_end), "what ends a line, in both directions"),
	KEY("serial.*.max_line", CONF_SIZE, "1B", "64K", NULL, "1K",
		SERIAL(max_line_bytes), "a longer line is dropped"),
	KEY("serial.*.topic", CONF_TOPIC, NULL, NULL, NULL, "dt/<name>/line",
		SERIAL(topic),
		"topic on which its lines go up; an `up` route must take it"),
	KEY("serial.*.down", CONF_CHOICE, NULL, NULL, "payload|topic",
		"payload", SERIAL(down),
		"what is written to it: the payload, or topic, blank, "
		"payload"),

	KEY("routes.*.direction", CONF_CHOICE, NULL, NULL, "up|down", NULL,
		ROUTE(direction), "up: to the cloud; down: to devices"),
	KEY("routes.*.filter", CONF_FILTERS, NULL, NULL, NULL, NULL,
		ROUTE(filters),
		"topics that the route takes: an MQTT filter or a list of "
		"them; the level {device} names the device"),
	KEY("routes.*.cloud_prefix", CONF_PREFIX, NULL, NULL, NULL, "",
		ROUTE(cloud_prefix),
		"stands before the topic in the cloud, such as \"plant7/\""),
	{.path = NULL},
};
