#ifndef GATEWAYD_ROUTE_H
#define GATEWAYD_ROUTE_H

#include <stddef.h>

#include "base/scope.h"

struct conf;

/* Where a message may go: policy, pure.  A route is a direction, filters, and
 * what stands before the topic in the cloud.  The first route in the order of
 * their names that takes a topic decides.
 *
 * Nothing passes that no route takes; a name at {device} must be a device's
 * name, so neither side can speak for something else. */
struct route;

enum route_outcome {
	ROUTE_NONE = 1,   /* no route takes this topic */
	ROUTE_BAD_TOPIC,  /* not a topic that may pass at all */
	ROUTE_BAD_DEVICE, /* at {device} stands no device name */
};

/* Largest topic that a route makes. */
#define ROUTE_TOPIC_BYTES 65536
#define ROUTE_DEVICE_BYTES 65

/* conf is borrowed for the call.  0 or -ENOMEM. */
CHECKED int route_new(const struct conf *conf, struct route **ret_route);

struct route *route_free(struct route *r);
DEFINE_SCOPED(struct route *, route_free);

/* A message from a device: the topic that it has in the cloud is written to
 * ret_topic.  0, an outcome, or -ENOBUFS when size does not do. */
CHECKED int route_up(
	const struct route *r, const char *topic, char *ret_topic, size_t size);

/* A message from the cloud: its local topic, a part of `topic`, borrowed, and
 * the device it is for.  0 or an outcome. */
CHECKED int route_down(const struct route *r, const char *topic,
	const char **ret_topic, char ret_device[ROUTE_DEVICE_BYTES]);

/* What to subscribe to on the local broker and in the cloud, MQTT form; none of
 * them lies within another.  Borrowed until route_free(). */
char *const *route_local_filters(const struct route *r, size_t *ret_n);
char *const *route_cloud_filters(const struct route *r, size_t *ret_n);

#endif
