#ifndef BASE_TOPIC_H
#define BASE_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

/* MQTT topics and filters (MQTT 3.1.1 and 5.0, section 4.7).  Pure.
 *
 * Our filters may have one level `{device}`: it matches like `+` and names the
 * device that a message is from or for. */

/* Longest device name. */
#define TOPIC_DEVICE_MAX 64

/* Whether the bytes are a topic name that may pass: 1 to 65,535 bytes of
 * UTF-8, no wildcard, no NUL, no control or non-character, no surrogate. */
bool topic_is_valid(const char *topic, size_t bytes);

/* Whether this is a filter: as a topic, but with `+` as a whole level, `#` as
 * the whole last level, and at most one level `{device}`. */
bool topic_filter_is_valid(const char *filter);

/* Whether the filter takes the topic.  `a/#` takes `a` too; a filter that
 * begins with a wildcard takes no topic that begins with `$`.  Both must be
 * valid. */
bool topic_matches(const char *filter, const char *topic);

/* Whether `wide` takes every topic that `narrow` takes.  Both must be valid. */
bool topic_filter_covers(const char *wide, const char *narrow);

/* Whether name may be a device's: 1 to 64 of A-Z a-z 0-9 _ -. */
bool topic_device_name_is_valid(const char *name);

/* The level of topic that stands at {device} in filter.  0; -ENOENT: the
 * filter has no {device}, or does not take the topic; -EINVAL: that level is no
 * device name; -ENOBUFS: size does not do. */
int topic_device(
	const char *filter, const char *topic, char *ret_device, size_t size);

/* What to subscribe to: prefix, then the filter with `+` for {device}.  0 or
 * -ENOBUFS. */
int topic_filter_to_mqtt(
	const char *filter, const char *prefix, char *ret, size_t size);

#endif
