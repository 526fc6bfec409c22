#ifndef GATEWAYD_CONF_H
#define GATEWAYD_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/scope.h"

/* The configuration: /etc/gatewayd/gatewayd.conf and, beside it, the files
 * conf.d/<name>.conf in C-locale order of their names.  Each is libconfig
 * syntax.  A later file overrides: groups are merged key by key, scalars and
 * lists are replaced.  Sizes and durations are strings with a unit ("5G",
 * "30s"), see base/units.h.  This is the only file that knows libconfig.
 *
 * All that a struct conf points to is its own and lives until conf_free(). */
struct conf_gateway {
	char *name; /* default: the host name */
};

struct conf_spool {
	uint64_t max_bytes;
};

struct conf_uplink {
	char *host; /* "": no uplink yet; messages are kept */
	unsigned port;
	char *ca;
	char *certificate;
	char *key;
	char *client_id;    /* default: gateway.name */
	char *mqtt_version; /* "auto", "5", "3.1.1" */
	uint64_t keepalive_usec;
	unsigned inflight;
	uint64_t connect_timeout_usec;
	uint64_t ack_timeout_usec;
	uint64_t retry_min_usec;
	uint64_t retry_max_usec;
	uint64_t session_expiry_usec;
	bool message_id;
};

struct conf_local {
	char *socket;    /* path of the broker's unix socket */
	char *client_id; /* default: "", made by daemon.c */
};

struct conf_serial {
	char *name;   /* the group's name: the device's name */
	char *device; /* path */
	unsigned baud;
	unsigned data_bits;
	char *parity; /* "none", "even", "odd" */
	unsigned stop_bits;
	char *flow;     /* "none", "rtscts", "xonxoff" */
	char *line_end; /* "lf", "crlf" */
	uint64_t max_line_bytes;
	char *topic; /* default: dt/<name>/line */
	char *down;  /* "payload", "topic" */
};

struct conf_route {
	char *name;      /* the group's name */
	char *direction; /* "up", "down" */
	char **filters;  /* at least one */
	size_t n_filters;
	char *cloud_prefix; /* "": the same topic on both sides */
};

struct conf {
	struct conf_gateway gateway;
	struct conf_spool spool;
	struct conf_uplink uplink;
	struct conf_local local;
	struct conf_serial *serials; /* in the order of their names */
	size_t n_serials;
	struct conf_route *routes; /* in the order of their names */
	size_t n_routes;
};

/* Read `path` and the drop-ins in the folder conf.d beside it.  Every mistake
 * in any of the files is written to `errors` as one line
 * `file:line: key: what is wrong; what to write`, all of them in one run.
 *
 * Returns 0 and a conf to be ended by conf_free(); -EINVAL when anything is
 * wrong (*ret_conf is left alone); -ENOMEM. */
CHECKED int conf_load(const char *path, FILE *errors, struct conf **ret_conf);

/* Free conf; NULL is allowed.  Returns NULL. */
struct conf *conf_free(struct conf *conf);
DEFINE_SCOPED(struct conf *, conf_free);

/* Write the table of all keys, one line each, tab-separated: key, type, unit,
 * range, default, meaning.  `<name>` stands for a name that the user chooses. */
void conf_print_keys(FILE *out);

#endif
