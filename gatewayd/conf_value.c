/* Values of keys.  Knows types and ranges; not files, not which keys there are.
 *
 * A setting becomes text first, if its libconfig type is the right one; then
 * the text is parsed, as a default from the table is. */
#include "gatewayd/conf_value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libconfig.h>

#include "base/topic.h"
#include "base/units.h"
#include "gatewayd/conf.h"
#include "gatewayd/conf_schema.h"
#include "localbus/tty.h"

#define CLIENT_MAX_BYTES 128 /* AWS IoT Core: 128 bytes of UTF-8 */
#define TEXT_MAX_BYTES 4096
#define FILTERS_MAX 100

static const struct {
	const char *name;
	const char *unit;
	const char *example; /* what to write */
} types[] = {
	[CONF_STRING] = {"string", "", "\"text\""},
	[CONF_HOST] = {"host", "",
		"the name alone, such as \"mqtt.example\"; "
		"the port is uplink.port"},
	[CONF_PATH] = {"path", "", "\"/path/to/it\""},
	[CONF_NAME] = {"name", "", "\"name-1\""},
	[CONF_CLIENT] = {"client id", "", "\"gateway-1\""},
	[CONF_TOPIC] = {"topic", "", "\"dt/name/line\""},
	[CONF_PREFIX] = {"topic prefix", "", "\"plant7/\""},
	[CONF_FILTERS] = {"filter or list", "", "\"dt/{device}/#\""},
	[CONF_CHOICE] = {"choice", "", NULL},
	[CONF_BOOL] = {"boolean", "", "true or false"},
	[CONF_INT] = {"integer", "", NULL},
	[CONF_BAUD] = {"integer", "bit/s", "9600"},
	[CONF_SIZE] = {"size", "B, K, M, G, T", NULL},
	[CONF_DURATION] = {"duration", "us, ms, s, m, h, d, w", NULL},
};

const char *conf_value_type_name(const struct conf_key *key)
{
	return types[key->type].name;
}

const char *conf_value_unit(const struct conf_key *key)
{
	return types[key->type].unit;
}

static int wrong(char *ret, const char *what, const char *remedy)
{
	snprintf(ret, CONF_WRONG_BYTES, "%s; write %s", what, remedy);
	return -EINVAL;
}

static void *field(const struct conf_key *key, void *object)
{
	return (char *)object + key->offset;
}

/* ---- text ---- */

/* A name or an address; with one colon it would have a port. */
static bool is_host(const char *text)
{
	const char *colon = strchr(text, ':');

	return strspn(text,
		       "abcdefghijklmnopqrstuvwxyz"
		       "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%") ==
		strlen(text) &&
		(!colon || strchr(colon + 1, ':'));
}

static bool is_client_id(const char *text)
{
	size_t n = strlen(text);

	return n <= CLIENT_MAX_BYTES && topic_is_valid(text, n) &&
		!strpbrk(text, "$/");
}

/* What is wrong with the text of a type that is kept as it is; NULL: nothing.
 * An empty text is right where it is the default. */
static const char *text_trouble(const struct conf_key *key, const char *text)
{
	bool may_be_empty = key->default_value && !key->default_value[0];

	if (!text[0] && may_be_empty)
		return NULL;
	if (strlen(text) > TEXT_MAX_BYTES)
		return "is longer than 4096 bytes";
	switch (key->type) {
	case CONF_HOST:
		return is_host(text) ? NULL : "is not a host name or address";
	case CONF_PATH:
		return text[0] == '/' ? NULL : "is not an absolute path";
	case CONF_NAME:
		return topic_device_name_is_valid(text)
			? NULL
			: "is not 1 to 64 of A-Z a-z 0-9 _ -";
	case CONF_CLIENT:
		return is_client_id(text) ? NULL
					  : "is not a client id of 1 to 128 "
					    "bytes without $ + # /";
	case CONF_PREFIX:
		if (text[strlen(text) - 1] != '/')
			return "does not end with /";
		/* fallthrough */
	case CONF_TOPIC:
		return topic_is_valid(text, strlen(text))
			? NULL
			: "is not a topic without wildcards";
	default:
		return NULL;
	}
}

static int parse_text(const struct conf_key *key, const char *text,
	char **ret_text, char *ret_wrong)
{
	const char *trouble = text_trouble(key, text);
	char what[256];
	char *copy;

	if (trouble) {
		snprintf(what, sizeof(what), "'%.100s' %s", text, trouble);
		return wrong(ret_wrong, what, types[key->type].example);
	}
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*ret_text);
	*ret_text = copy;
	return 0;
}

/* "a|b|c" as `"a", "b" or "c"`. */
static void print_choices(const char *choices, char *ret, size_t size)
{
	size_t used = 0;

	ret[0] = '\0';
	while (*choices && used < size) {
		size_t n = strcspn(choices, "|");
		const char *next = choices + n + (choices[n] != '\0');
		const char *glue = !*next   ? ""
			: strchr(next, '|') ? ", "
					    : " or ";

		used += (size_t)snprintf(ret + used, size - used, "\"%.*s\"%s",
			(int)n, choices, glue);
		choices = next;
	}
}

static int parse_choice(const struct conf_key *key, const char *text,
	char **ret_text, char *ret_wrong)
{
	const char *at = key->choices;
	char choices[128];
	char what[256];
	size_t n;

	for (; *at; at += n + (at[n] != '\0')) {
		n = strcspn(at, "|");
		if (n == strlen(text) && !memcmp(at, text, n))
			return parse_text(key, text, ret_text, ret_wrong);
	}
	snprintf(what, sizeof(what), "'%.100s' is none of the choices", text);
	print_choices(key->choices, choices, sizeof(choices));
	return wrong(ret_wrong, what, choices);
}

/* ---- numbers ---- */

static int out_of_range(
	const struct conf_key *key, const char *text, char *ret_wrong)
{
	const char *quote =
		key->type == CONF_INT || key->type == CONF_BAUD ? "" : "\"";

	snprintf(ret_wrong, CONF_WRONG_BYTES,
		"%.100s is out of range; write %s%s%s to %s%s%s", text, quote,
		key->min, quote, quote, key->max, quote);
	return -EINVAL;
}

static int parse_number(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end)
		return -EINVAL;
	return errno ? -ERANGE : 0;
}

typedef int parse_unit(const char *text, uint64_t *ret);

static int parse_in_range(const struct conf_key *key, parse_unit *parse,
	const char *text, uint64_t *ret, char *ret_wrong)
{
	uint64_t min = 0;
	uint64_t max = UINT64_MAX;
	uint64_t n;
	char what[256];
	char remedy[128];
	int r = parse(text, &n);

	/* The table's own limits are right; a test proves it. */
	if (parse(key->min, &min) < 0 || parse(key->max, &max) < 0)
		return -ENOMEM;
	if (r == -ERANGE || (r == 0 && (n < min || n > max)))
		return out_of_range(key, text, ret_wrong);
	if (r == 0) {
		*ret = n;
		return 0;
	}
	snprintf(what, sizeof(what), "'%.100s' is not a %s", text,
		types[key->type].name);
	snprintf(remedy, sizeof(remedy),
		"a whole number and one of %s, such "
		"as \"%s\"",
		types[key->type].unit, key->default_value);
	return wrong(ret_wrong, what, remedy);
}

static int parse_int(const struct conf_key *key, const char *text,
	unsigned *ret, char *ret_wrong)
{
	uint64_t n = 0;
	int r = text[0] == '-'
		? out_of_range(key, text, ret_wrong)
		: parse_in_range(key, parse_number, text, &n, ret_wrong);
	char what[256];

	if (r < 0)
		return r;
	if (key->type == CONF_BAUD && !tty_baud_is_valid((unsigned)n)) {
		snprintf(what, sizeof(what), "%s is not a standard rate", text);
		return wrong(ret_wrong, what, "9600, 19200, 115200 or so");
	}
	*ret = (unsigned)n;
	return 0;
}

/* ---- filters ---- */

/* {dev} or so: it would be taken as it stands, and match nothing. */
static bool has_stray_brace(const char *filter)
{
	const char *at = strpbrk(filter, "{}");

	for (; at; at = strpbrk(at + 8, "{}"))
		if (strncmp(at, "{device}", 8) || (at[8] && at[8] != '/') ||
			(at != filter && at[-1] != '/'))
			return true;
	return false;
}

static int add_filter(
	struct conf_route *route, const char *text, char *ret_wrong)
{
	char what[256];
	char **more;

	snprintf(what, sizeof(what), "'%.100s' is not an MQTT filter", text);
	if (!topic_filter_is_valid(text) || strlen(text) > 1000)
		return wrong(ret_wrong, what,
			"levels with + or {device} as a whole level, and # "
			"only as the last");
	if (has_stray_brace(text)) {
		snprintf(what, sizeof(what), "'%.100s' has braces", text);
		return wrong(ret_wrong, what,
			"{device} as a whole level, or no braces");
	}
	if (route->n_filters == FILTERS_MAX)
		return wrong(ret_wrong, "is a list of more than 100",
			"a second route");
	more = realloc(route->filters,
		(route->n_filters + 1) * sizeof(route->filters[0]));
	if (!more)
		return -ENOMEM;
	route->filters = more;
	more[route->n_filters] = strdup(text);
	if (!more[route->n_filters])
		return -ENOMEM;
	route->n_filters++;
	return 0;
}

static int read_filters(const config_setting_t *setting,
	struct conf_route *route, char *ret_wrong)
{
	int n = config_setting_length(setting);
	int r = 0;
	int i;

	if (config_setting_type(setting) == CONFIG_TYPE_STRING)
		return add_filter(
			route, config_setting_get_string(setting), ret_wrong);
	if (!config_setting_is_aggregate(setting) ||
		config_setting_is_group(setting) || n == 0)
		return wrong(ret_wrong, "is not a filter or a list of them",
			"\"dt/{device}/#\" or [ \"a/#\", \"b/#\" ]");
	for (i = 0; i < n && r == 0; i++) {
		const char *text = config_setting_get_string_elem(setting, i);

		r = text ? add_filter(route, text, ret_wrong)
			 : wrong(ret_wrong, "holds something that is no string",
				   "each filter in quotes");
	}
	return r;
}

/* ---- the interface ---- */

int conf_value_parse(const struct conf_key *key, const char *text, void *object,
	char ret_wrong[CONF_WRONG_BYTES])
{
	void *at = field(key, object);

	switch (key->type) {
	case CONF_CHOICE:
		return parse_choice(key, text, at, ret_wrong);
	case CONF_BOOL:
		*(bool *)at = !strcmp(text, "true");
		return 0;
	case CONF_INT:
	case CONF_BAUD:
		return parse_int(key, text, at, ret_wrong);
	case CONF_SIZE:
		return parse_in_range(
			key, units_parse_bytes, text, at, ret_wrong);
	case CONF_DURATION:
		return parse_in_range(
			key, units_parse_usec, text, at, ret_wrong);
	case CONF_FILTERS:
		return add_filter(object, text, ret_wrong);
	default:
		return parse_text(key, text, at, ret_wrong);
	}
}

void conf_value_remedy(const struct conf_key *key, char *ret, size_t size)
{
	if (key->type == CONF_CHOICE)
		print_choices(key->choices, ret, size);
	else if (types[key->type].example)
		snprintf(ret, size, "%s", types[key->type].example);
	else if (key->type == CONF_INT)
		snprintf(ret, size, "a whole number without quotes, %s to %s",
			key->min, key->max);
	else
		snprintf(ret, size, "a string with a unit, such as \"%s\"",
			key->default_value);
}

static int wrong_type(const struct conf_key *key, char *ret_wrong)
{
	char what[64];
	char remedy[128];

	snprintf(what, sizeof(what), "is not %s %s",
		strchr("aeiou", types[key->type].name[0]) ? "an" : "a",
		types[key->type].name);
	conf_value_remedy(key, remedy, sizeof(remedy));
	return wrong(ret_wrong, what, remedy);
}

int conf_value_read(const struct conf_key *key,
	const struct config_setting_t *setting, void *object,
	char ret_wrong[CONF_WRONG_BYTES])
{
	int type = config_setting_type(setting);
	char number[32];

	switch (key->type) {
	case CONF_FILTERS:
		return read_filters(setting, object, ret_wrong);
	case CONF_BOOL:
		if (type != CONFIG_TYPE_BOOL)
			return wrong_type(key, ret_wrong);
		return conf_value_parse(key,
			config_setting_get_bool(setting) ? "true" : "false",
			object, ret_wrong);
	case CONF_INT:
	case CONF_BAUD:
		if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
			return wrong_type(key, ret_wrong);
		snprintf(number, sizeof(number), "%lld",
			config_setting_get_int64(setting));
		return conf_value_parse(key, number, object, ret_wrong);
	default:
		if (type != CONFIG_TYPE_STRING)
			return wrong_type(key, ret_wrong);
		return conf_value_parse(key, config_setting_get_string(setting),
			object, ret_wrong);
	}
}

void conf_value_free(const struct conf_key *key, void *object)
{
	struct conf_route *route = object;

	switch (key->type) {
	case CONF_BOOL:
	case CONF_INT:
	case CONF_BAUD:
	case CONF_SIZE:
	case CONF_DURATION:
		return;
	case CONF_FILTERS:
		while (route->n_filters)
			free(route->filters[--route->n_filters]);
		free(route->filters);
		route->filters = NULL;
		return;
	default:
		free(*(char **)field(key, object));
		*(char **)field(key, object) = NULL;
	}
}
