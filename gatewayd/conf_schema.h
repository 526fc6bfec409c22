#ifndef GATEWAYD_CONF_SCHEMA_H
#define GATEWAYD_CONF_SCHEMA_H

#include <stddef.h>
#include <stdint.h>

/* The table of all keys: the one place where a key is described.  From it come
 * the checks, the defaults, and gatewayd --list-keys. */

enum conf_type {
	CONF_STRING,  /* any text */
	CONF_HOST,    /* host name or address */
	CONF_PATH,    /* absolute path */
	CONF_NAME,    /* a device's name, see topic_device_name_is_valid() */
	CONF_CLIENT,  /* MQTT client id: 1 to 128 printable, no $ + # / */
	CONF_TOPIC,   /* MQTT topic name */
	CONF_PREFIX,  /* what stands before a topic: "" or "a/" */
	CONF_FILTERS, /* one MQTT filter or a list of them */
	CONF_CHOICE,  /* one of the words in `choices` */
	CONF_BOOL,
	CONF_INT,
	CONF_BAUD,
	CONF_SIZE,     /* string with unit -> bytes */
	CONF_DURATION, /* string with unit -> microseconds */
};

/* Which struct a key belongs to. */
enum conf_object { CONF_GLOBAL, CONF_SERIAL, CONF_ROUTE };

struct conf_key {
	const char *path; /* "*" is a name that the user chooses */
	enum conf_object object;
	enum conf_type type;
	const char *min; /* as the user writes it; NULL: none */
	const char *max;
	const char *choices;       /* "a|b|c" */
	const char *default_value; /* as written; NULL: must be given */
	const char *meaning;
	size_t offset; /* of the field in its struct */
};

extern const struct conf_key conf_schema[]; /* ends with path NULL */

#endif
