/* From files to a struct conf.  Knows which keys there are (conf_schema) and
 * what they mean together; files and their merge are conf_source, single values
 * conf_value.
 *
 * Every pass complains about all it finds and goes on: the user sees every
 * mistake in one run. */
#include "gatewayd/conf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/topic.h"
#include "gatewayd/conf_schema.h"
#include "gatewayd/conf_source.h"
#include "gatewayd/conf_value.h"

#define PATH_BYTES 512
#define OBJECTS_MAX 256 /* serial devices, or routes */

struct loader {
	struct conf_source *source;
	struct conf *conf;
	FILE *errors;
	unsigned n_errors;
	char where[PATH_BYTES]; /* of what stands nowhere: the main file */
};

/* What the user wrote may stand in it: a line stays one line. */
__attribute__((format(printf, 4, 5))) static void complain(struct loader *l,
	const char *where, const char *key, const char *fmt, ...)
{
	char text[2 * PATH_BYTES + CONF_WRONG_BYTES];
	va_list args;
	char *c;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	for (c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	fprintf(l->errors, "%s: %s: %s\n", where, key, text);
	l->n_errors++;
}

/* ---- which keys there are ---- */

/* Whether path is the key or, with is_group, a group above it. */
static bool fits(const char *key, const char *path, bool is_group)
{
	for (;;) {
		size_t kn = strcspn(key, ".");
		size_t pn = strcspn(path, ".");
		bool is_any = kn == 1 && *key == '*';

		if (!is_any && (kn != pn || memcmp(key, path, kn)))
			return false;
		key += kn;
		path += pn;
		if (!*path)
			return is_group ? *key == '.' : !*key;
		if (!*key)
			return false;
		key++;
		path++;
	}
}

static bool is_known(const char *path, bool is_group)
{
	const struct conf_key *k;

	for (k = conf_schema; k->path; k++)
		if (fits(k->path, path, is_group))
			return true;
	return false;
}

/* Edits that make a of b (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
	size_t row[PATH_BYTES + 1];
	size_t n = strlen(b);
	size_t i;
	size_t k;

	for (k = 0; k <= n; k++)
		row[k] = k;
	for (i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (k = 1; k <= n; k++) {
			size_t best = diagonal + (a[i - 1] != b[k - 1]);

			diagonal = row[k];
			if (row[k] + 1 < best)
				best = row[k] + 1;
			if (row[k - 1] + 1 < best)
				best = row[k - 1] + 1;
			row[k] = best;
		}
	}
	return row[n];
}

/* key with the user's own name in the place of "*"; false: too long. */
static bool with_name(const char *key, const char *path, char *ret)
{
	const char *star = strchr(key, '*');
	const char *name = strchr(path, '.');
	int n;

	if (!star) {
		strcpy(ret, key); /* one of the table's own, all short */
		return true;
	}
	if (!name)
		return false;
	n = snprintf(ret, PATH_BYTES, "%.*s%.*s%s", (int)(star - key), key,
		(int)strcspn(name + 1, "."), name + 1, star + 1);
	return n > 0 && n < PATH_BYTES;
}

/* How unlike path is to a known key.  Outside any group it may be the last part
 * of one. */
static size_t unlikeness(const char *path, const char *known)
{
	size_t whole = distance(path, known);
	size_t part = strchr(path, '.')
		? SIZE_MAX
		: distance(path, strrchr(known, '.') + 1);

	return part < whole ? part : whole;
}

/* The known key or group that looks most like path. */
static void find_nearest(const char *path, bool is_group, char *ret)
{
	const struct conf_key *k;
	size_t best = SIZE_MAX;
	char known[PATH_BYTES];
	size_t d;

	ret[0] = '\0'; /* one is always found */
	for (k = conf_schema; k->path; k++) {
		if (is_group && !strchr(path, '.'))
			snprintf(known, sizeof(known), "%.*s",
				(int)strcspn(k->path, "."), k->path);
		else if (!with_name(k->path, path, known))
			continue;
		else if (is_group)
			*strrchr(known, '.') = '\0';
		d = is_group ? distance(path, known) : unlikeness(path, known);
		if (d >= best)
			continue;
		best = d;
		strcpy(ret, known);
	}
}

static void complain_unknown(struct loader *l, const struct conf_entry *e)
{
	char nearest[PATH_BYTES];

	if (is_known(e->path, !e->is_group)) {
		complain(l, e->where, e->path,
			e->is_group
				? "is a group, but a value is wanted; write "
				  "%s = ..."
				: "is no group, but a group is wanted; "
				  "write %s = { ... }, without ( )",
			e->path);
		return;
	}
	if (strlen(e->path) >= PATH_BYTES) {
		complain(l, e->where, "key", "is too long; remove it");
		return;
	}
	find_nearest(e->path, e->is_group, nearest);
	complain(l, e->where, e->path,
		"unknown key; did you mean %s? gatewayd --list-keys prints "
		"all",
		nearest);
}

/* Whether `path` lies in the group `group`. */
static bool is_within(const char *path, const char *group)
{
	size_t n = strlen(group);

	return !strncmp(path, group, n) && path[n] == '.';
}

static void check_known(struct loader *l)
{
	const struct conf_entry *bad = NULL;
	const struct conf_entry *e;
	size_t i;

	for (i = 0; (e = conf_source_entry(l->source, i)); i++) {
		/* What is in an unknown group is said with the group. */
		if (bad && is_within(e->path, bad->path))
			continue;
		if (is_known(e->path, e->is_group))
			continue;
		complain_unknown(l, e);
		bad = e;
	}
}

/* ---- filling the structs ---- */

/* name: of the object; NULL for the global one. */
static int fill_key(struct loader *l, const struct conf_key *key,
	const char *name, void *object, const char *where)
{
	char path[PATH_BYTES];
	char text[PATH_BYTES];
	char wrong[CONF_WRONG_BYTES];
	const struct conf_entry *e;
	int r;

	snprintf(path, sizeof(path), "%s", key->path);
	if (name)
		snprintf(path, sizeof(path), "%.*s%s%s",
			(int)strcspn(key->path, "*"), key->path, name,
			strchr(key->path, '*') + 1);
	e = conf_source_find(l->source, path);
	if (e && e->is_group)
		return 0; /* check_known() has said it */
	if (e && conf_source_wrapped(l->source, e)) {
		conf_value_remedy(key, text, sizeof(text));
		complain(l, e->where, path,
			"the number %s is too large for this file format; "
			"write %s",
			conf_source_wrapped(l->source, e), text);
		return 0;
	}
	if (e) {
		r = conf_value_read(key, e->setting, object, wrong);
		if (r == -EINVAL)
			complain(l, e->where, path, "%s", wrong);
		return r == -ENOMEM ? r : 0;
	}
	if (!key->default_value && !conf_source_is_whole(l->source))
		return 0;
	if (!key->default_value) {
		conf_value_remedy(key, text, sizeof(text));
		complain(l, where, path, "is missing; write %s = %s",
			strrchr(path, '.') + 1, text);
		return 0;
	}
	snprintf(text, sizeof(text), "%s", key->default_value);
	if (name && strstr(key->default_value, "<name>"))
		snprintf(text, sizeof(text), "%.*s%s%s",
			(int)strcspn(key->default_value, "<"),
			key->default_value, name,
			strchr(key->default_value, '>') + 1);
	r = conf_value_parse(key, text, object, wrong);
	if (r == -EINVAL)
		complain(l, where, path, "%s", wrong);
	return r == -ENOMEM ? r : 0;
}

static int fill(struct loader *l, enum conf_object kind, const char *name,
	void *object, const char *where)
{
	const struct conf_key *k;
	int r = 0;

	for (k = conf_schema; k->path && r == 0; k++)
		if (k->object == kind)
			r = fill_key(l, k, name, object, where);
	return r;
}

/* "serial" of "serial.*.device". */
static const char *group_of(enum conf_object kind)
{
	return kind == CONF_SERIAL ? "serial" : "routes";
}

static int by_path(const void *a, const void *b)
{
	const struct conf_entry *const *x = a;
	const struct conf_entry *const *y = b;

	return strcmp((*x)->path, (*y)->path);
}

/* The groups right below `group`, sorted by name; at most OBJECTS_MAX. */
static size_t list_objects(struct loader *l, const char *group,
	const struct conf_entry *list[OBJECTS_MAX])
{
	const struct conf_entry *e;
	size_t n = 0;
	size_t i;

	for (i = 0; (e = conf_source_entry(l->source, i)); i++) {
		if (!e->is_group || !is_within(e->path, group) ||
			strchr(e->path + strlen(group) + 1, '.'))
			continue;
		if (n == OBJECTS_MAX) {
			complain(l, e->where, e->path,
				"more than %d of these; remove some",
				OBJECTS_MAX);
			break;
		}
		list[n++] = e;
	}
	qsort(list, n, sizeof(list[0]), by_path);
	return n;
}

static void *object_at(struct conf *conf, enum conf_object kind, size_t i)
{
	if (kind == CONF_SERIAL)
		return &conf->serials[i];
	return &conf->routes[i];
}

static char **name_of(void *object, enum conf_object kind)
{
	if (kind == CONF_SERIAL)
		return &((struct conf_serial *)object)->name;
	return &((struct conf_route *)object)->name;
}

static int fill_objects(struct loader *l, enum conf_object kind)
{
	const struct conf_entry *list[OBJECTS_MAX];
	const char *group = group_of(kind);
	size_t n = list_objects(l, group, list);
	int r = 0;
	size_t i;

	if (kind == CONF_SERIAL) {
		l->conf->serials = calloc(n + 1, sizeof(l->conf->serials[0]));
		l->conf->n_serials = l->conf->serials ? n : 0;
	} else {
		l->conf->routes = calloc(n + 1, sizeof(l->conf->routes[0]));
		l->conf->n_routes = l->conf->routes ? n : 0;
	}
	if (!object_at(l->conf, kind, 0))
		return -ENOMEM;
	for (i = 0; i < n && r == 0; i++) {
		void *object = object_at(l->conf, kind, i);
		char **name = name_of(object, kind);

		*name = strdup(list[i]->path + strlen(group) + 1);
		if (!*name)
			return -ENOMEM;
		if (!topic_device_name_is_valid(*name)) {
			complain(l, list[i]->where, list[i]->path,
				"the name is not 1 to 64 of A-Z a-z 0-9 _ -; "
				"write another one");
			continue;
		}
		r = fill(l, kind, *name, object, list[i]->where);
	}
	return r;
}

/* ---- what depends on more than one key ---- */

static const char *where_is(struct loader *l, const char *path)
{
	const struct conf_entry *e = conf_source_find(l->source, path);

	return e ? e->where : l->where;
}

static bool has_half_a_route(const struct conf *conf)
{
	size_t i;

	for (i = 0; i < conf->n_routes; i++)
		if (!conf->routes[i].direction || !conf->routes[i].n_filters)
			return true;
	return false;
}

static bool goes_up(const struct conf *conf, const char *topic)
{
	size_t i;
	size_t k;

	for (i = 0; i < conf->n_routes; i++)
		for (k = 0; k < conf->routes[i].n_filters; k++)
			if (!strcmp(conf->routes[i].direction, "up") &&
				topic_matches(
					conf->routes[i].filters[k], topic))
				return true;
	return false;
}

/* What is NULL here is wrong, and has been said. */
static void check_serials(struct loader *l, bool are_routes_right)
{
	const struct conf *c = l->conf;
	char path[PATH_BYTES];
	size_t i;
	size_t k;

	for (i = 0; i < c->n_serials; i++) {
		const struct conf_serial *s = &c->serials[i];

		snprintf(path, sizeof(path), "serial.%s", s->name);
		if (are_routes_right && s->topic && !goes_up(c, s->topic))
			complain(l, where_is(l, path), path,
				"no `up` route takes its topic '%s'; write a "
				"filter that does in routes.<name>.filter",
				s->topic);
		for (k = 0; k < i; k++)
			if (s->device && c->serials[k].device &&
				!strcmp(c->serials[k].device, s->device))
				complain(l, where_is(l, path), path,
					"serial.%s has the same device; write "
					"another one",
					c->serials[k].name);
	}
}

/* MQTT counts these in seconds. */
static void check_seconds(struct loader *l, const char *key, uint64_t usec)
{
	if (usec % 1000000)
		complain(l, where_is(l, key), key,
			"is not a whole number of seconds; write \"60s\" or "
			"so");
}

static void check_together(struct loader *l, bool are_routes_right)
{
	const struct conf_uplink *u = &l->conf->uplink;

	if (u->retry_max_usec && u->retry_min_usec > u->retry_max_usec)
		complain(l, where_is(l, "uplink.retry_min"), "uplink.retry_min",
			"is more than uplink.retry_max; write a shorter one");
	check_seconds(l, "uplink.keepalive", u->keepalive_usec);
	check_seconds(l, "uplink.session_expiry", u->session_expiry_usec);
	check_serials(l, are_routes_right);
}

/* Names that are left empty follow from others. */
static int derive_names(struct loader *l)
{
	struct conf *c = l->conf;
	char host[TOPIC_DEVICE_MAX + 1] = "";

	if (!c->gateway.name || !c->uplink.client_id)
		return 0; /* it is wrong, and has been said */
	if (!c->gateway.name[0]) {
		if (gethostname(host, sizeof(host) - 1) < 0)
			host[0] = '\0';
		host[strcspn(host, ".")] = '\0';
		if (!topic_device_name_is_valid(host)) {
			complain(l, l->where, "gateway.name",
				"the host name '%s' cannot be used; write a "
				"name of A-Z a-z 0-9 _ -",
				host);
			return 0;
		}
		free(c->gateway.name);
		c->gateway.name = strdup(host);
	}
	if (c->gateway.name && !c->uplink.client_id[0]) {
		free(c->uplink.client_id);
		c->uplink.client_id = strdup(c->gateway.name);
	}
	return c->gateway.name && c->uplink.client_id ? 0 : -ENOMEM;
}

/* ---- the interface ---- */

static int load(struct loader *l, const char *path)
{
	int r = conf_source_read(path, l->errors, &l->n_errors, &l->source);
	bool are_routes_right;
	unsigned before;

	if (r < 0)
		return r;
	snprintf(l->where, sizeof(l->where), "%s:0", path);
	check_known(l);
	r = fill(l, CONF_GLOBAL, NULL, l->conf, l->where);
	if (r == 0)
		r = fill_objects(l, CONF_SERIAL);
	before = l->n_errors;
	if (r == 0)
		r = fill_objects(l, CONF_ROUTE);
	are_routes_right = l->n_errors == before &&
		!has_half_a_route(l->conf) && conf_source_is_whole(l->source);
	if (r == 0)
		r = derive_names(l);
	if (r == 0)
		check_together(l, are_routes_right);
	return r;
}

int conf_load(const char *path, FILE *errors, struct conf **ret_conf)
{
	SCOPED(conf_freep) struct conf *conf = calloc(1, sizeof(*conf));
	struct loader l = {.conf = conf, .errors = errors};
	int r;

	if (!conf)
		return -ENOMEM;
	r = load(&l, path);
	conf_source_free(l.source);
	if (r < 0)
		return r;
	if (l.n_errors)
		return -EINVAL;
	*ret_conf = TAKE(conf);
	return 0;
}

static void free_object(enum conf_object kind, void *object)
{
	const struct conf_key *k;

	for (k = conf_schema; k->path; k++)
		if (k->object == kind)
			conf_value_free(k, object);
	if (kind != CONF_GLOBAL)
		free(*name_of(object, kind));
}

struct conf *conf_free(struct conf *conf)
{
	size_t i;

	if (!conf)
		return NULL;
	for (i = 0; i < conf->n_serials; i++)
		free_object(CONF_SERIAL, &conf->serials[i]);
	for (i = 0; i < conf->n_routes; i++)
		free_object(CONF_ROUTE, &conf->routes[i]);
	free_object(CONF_GLOBAL, conf);
	free(conf->serials);
	free(conf->routes);
	free(conf);
	return NULL;
}

void conf_print_keys(FILE *out)
{
	const struct conf_key *k;

	for (k = conf_schema; k->path; k++) {
		const char *star = strchr(k->path, '*');

		if (star)
			fprintf(out, "%.*s<name>%s", (int)(star - k->path),
				k->path, star + 1);
		else
			fputs(k->path, out);
		fprintf(out, "\t%s\t%s\t", conf_value_type_name(k),
			conf_value_unit(k));
		if (k->choices)
			fputs(k->choices, out);
		else if (k->min)
			fprintf(out, "%s..%s", k->min, k->max);
		fprintf(out, "\t%s\t%s\n",
			k->default_value ? k->default_value : "(required)",
			k->meaning);
	}
}
