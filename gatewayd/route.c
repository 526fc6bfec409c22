/* Routes as a table of filters.  Pure: knows the configuration and topics. */
#include "gatewayd/route.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/topic.h"
#include "gatewayd/conf.h"

#define FILTER_BYTES 1024
/* mosquitto ends the connection over a topic with more (its limit is fixed),
 * and would do so again and again. */
#define SLASHES_MAX 200

struct rule {
	bool is_up;
	char *filter; /* may hold {device} */
	char *prefix; /* in the cloud */
};

struct filters {
	char **list;
	size_t n;
};

struct route {
	struct rule *rules;
	size_t n;
	struct filters local;
	struct filters cloud;
};

/* With MQTT 5 a broker may send a message once for each subscription that takes
 * it (3.3.4), and mosquitto does: so there is none within another. */
static bool is_covered(const struct filters *f, const char *mqtt)
{
	size_t i;

	for (i = 0; i < f->n; i++)
		if (topic_filter_covers(f->list[i], mqtt))
			return true;
	return false;
}

static void drop_covered(struct filters *f, const char *mqtt)
{
	size_t kept = 0;
	size_t i;

	for (i = 0; i < f->n; i++)
		if (topic_filter_covers(mqtt, f->list[i]))
			free(f->list[i]);
		else
			f->list[kept++] = f->list[i];
	f->n = kept;
}

static int add_filter(struct filters *f, const char *prefix, const char *filter)
{
	char mqtt[FILTER_BYTES];
	int r = topic_filter_to_mqtt(filter, prefix, mqtt, sizeof(mqtt));

	if (r < 0)
		return r;
	if (is_covered(f, mqtt))
		return 0;
	drop_covered(f, mqtt);
	f->list[f->n] = strdup(mqtt);
	if (!f->list[f->n])
		return -ENOMEM;
	f->n++;
	return 0;
}

static int add_rule(
	struct route *r, const struct conf_route *c, const char *filter)
{
	struct rule *rule = &r->rules[r->n++];

	rule->is_up = !strcmp(c->direction, "up");
	rule->filter = strdup(filter);
	rule->prefix = strdup(c->cloud_prefix);
	if (!rule->filter || !rule->prefix)
		return -ENOMEM;
	/* Up: they are heard locally.  Down: in the cloud. */
	if (rule->is_up)
		return add_filter(&r->local, "", filter);
	return add_filter(&r->cloud, c->cloud_prefix, filter);
}

int route_new(const struct conf *conf, struct route **ret_route)
{
	SCOPED(route_freep) struct route *r = calloc(1, sizeof(*r));
	size_t n = 0;
	size_t i;
	size_t k;

	if (!r)
		return -ENOMEM;
	for (i = 0; i < conf->n_routes; i++)
		n += conf->routes[i].n_filters;
	r->rules = calloc(n + 1, sizeof(r->rules[0]));
	r->local.list = calloc(n + 1, sizeof(char *));
	r->cloud.list = calloc(n + 1, sizeof(char *));
	if (!r->rules || !r->local.list || !r->cloud.list)
		return -ENOMEM;
	for (i = 0; i < conf->n_routes; i++)
		for (k = 0; k < conf->routes[i].n_filters; k++) {
			int e = add_rule(r, &conf->routes[i],
				conf->routes[i].filters[k]);

			if (e < 0)
				return e;
		}
	*ret_route = TAKE(r);
	return 0;
}

static void free_filters(struct filters *f)
{
	size_t i;

	for (i = 0; i < f->n; i++)
		free(f->list[i]);
	free(f->list);
}

struct route *route_free(struct route *r)
{
	size_t i;

	if (!r)
		return NULL;
	for (i = 0; i < r->n; i++) {
		free(r->rules[i].filter);
		free(r->rules[i].prefix);
	}
	free(r->rules);
	free_filters(&r->local);
	free_filters(&r->cloud);
	free(r);
	return NULL;
}

static bool has_too_many_levels(const char *topic)
{
	unsigned n = 0;

	while ((topic = strchr(topic, '/'))) {
		topic++;
		n++;
	}
	return n > SLASHES_MAX;
}

/* What the broker keeps for itself never passes, whatever a filter says. */
static bool may_pass(const char *topic)
{
	return topic_is_valid(topic, strlen(topic)) &&
		!has_too_many_levels(topic) && strncmp(topic, "$SYS/", 5) &&
		strcmp(topic, "$SYS") && strncmp(topic, "$CONTROL/", 9) &&
		strncmp(topic, "$share/", 7);
}

/* 0 when the rule takes the topic; ROUTE_NONE; or ROUTE_BAD_DEVICE when all
 * but the device's name fits. */
static int try_rule(const struct rule *rule, const char *topic,
	char device[ROUTE_DEVICE_BYTES])
{
	int r;

	if (!topic_matches(rule->filter, topic))
		return ROUTE_NONE;
	r = topic_device(rule->filter, topic, device, ROUTE_DEVICE_BYTES);
	if (r == -ENOENT) /* a filter without {device} */
		device[0] = '\0';
	else if (r < 0)
		return ROUTE_BAD_DEVICE;
	return 0;
}

int route_up(
	const struct route *r, const char *topic, char *ret_topic, size_t size)
{
	char device[ROUTE_DEVICE_BYTES];
	int outcome = ROUTE_NONE;
	size_t i;

	if (!may_pass(topic))
		return ROUTE_BAD_TOPIC;
	for (i = 0; i < r->n; i++) {
		int e = r->rules[i].is_up
			? try_rule(&r->rules[i], topic, device)
			: ROUTE_NONE;

		if (e == 0) {
			size_t prefix = strlen(r->rules[i].prefix);
			size_t bytes = strlen(topic) + 1;

			if (prefix + bytes > size)
				return -ENOBUFS;
			memcpy(ret_topic, r->rules[i].prefix, prefix);
			memcpy(ret_topic + prefix, topic, bytes);
			return may_pass(ret_topic) ? 0 : ROUTE_BAD_TOPIC;
		}
		if (e != ROUTE_NONE)
			outcome = e;
	}
	return outcome;
}

int route_down(const struct route *r, const char *topic, const char **ret_topic,
	char ret_device[ROUTE_DEVICE_BYTES])
{
	int outcome = ROUTE_NONE;
	size_t i;

	if (!may_pass(topic))
		return ROUTE_BAD_TOPIC;
	for (i = 0; i < r->n; i++) {
		const struct rule *rule = &r->rules[i];
		size_t prefix = strlen(rule->prefix);
		int e;

		if (rule->is_up || strncmp(topic, rule->prefix, prefix))
			continue;
		e = may_pass(topic + prefix)
			? try_rule(rule, topic + prefix, ret_device)
			: ROUTE_BAD_TOPIC;
		if (e == 0) {
			*ret_topic = topic + prefix;
			return 0;
		}
		if (e != ROUTE_NONE)
			outcome = e;
	}
	return outcome;
}

char *const *route_local_filters(const struct route *r, size_t *ret_n)
{
	*ret_n = r->local.n;
	return r->local.list;
}

char *const *route_cloud_filters(const struct route *r, size_t *ret_n)
{
	*ret_n = r->cloud.n;
	return r->cloud.list;
}
