#ifndef GATEWAYD_CONF_VALUE_H
#define GATEWAYD_CONF_VALUE_H

#include <stddef.h>

#include "base/scope.h"

struct conf_key;
struct config_setting_t;

/* The value of one key: its type, its range, and the words for what is wrong
 * with it. */

/* Room for "what is wrong; what to write". */
#define CONF_WRONG_BYTES 512

/* Read a setting into the field of its key.  object: the struct that
 * key->offset belongs to; what it points to afterwards is the object's own.
 * 0; -EINVAL, and ret_wrong says what is wrong and what to write; -ENOMEM. */
CHECKED int conf_value_read(const struct conf_key *key,
	const struct config_setting_t *setting, void *object,
	char ret_wrong[CONF_WRONG_BYTES]);

/* The same from text: for defaults. */
CHECKED int conf_value_parse(const struct conf_key *key, const char *text,
	void *object, char ret_wrong[CONF_WRONG_BYTES]);

/* What to write for this key: `"up" or "down"`, `1 to 1000`. */
void conf_value_remedy(const struct conf_key *key, char *ret, size_t size);

/* Free what the field of key points to. */
void conf_value_free(const struct conf_key *key, void *object);

/* For the table of keys: "size", and its unit or "". */
const char *conf_value_type_name(const struct conf_key *key);
const char *conf_value_unit(const struct conf_key *key);

#endif
