/* Topics level by level.  Knows MQTT's rules, nothing else. */
#include "base/topic.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DEVICE "{device}"
#define DEVICE_BYTES (sizeof(DEVICE) - 1)
#define TOPIC_MAX_BYTES 65535

/* Decode one code point of at most n bytes; its length, or 0 (RFC 3629). */
static size_t decode(const unsigned char *s, size_t n, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = s[0] < 0x80 ? 1
		: s[0] < 0xc0    ? 0
		: s[0] < 0xe0    ? 2
		: s[0] < 0xf0    ? 3
		: s[0] < 0xf8    ? 4
				 : 0;
	uint32_t c;
	size_t i;

	if (len == 0 || len > n)
		return 0;
	c = len == 1 ? s[0] : s[0] & (0x7fU >> len);
	for (i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret = c;
	return len;
}

/* MQTT 1.5.4: NUL must not, control and non-characters should not be there; a
 * broker may close the connection over them. */
static bool is_fit(uint32_t c)
{
	return c >= 0x20 && !(c >= 0x7f && c <= 0x9f) &&
		!(c >= 0xfdd0 && c <= 0xfdef) && (c & 0xfffe) != 0xfffe;
}

static bool is_text(const char *text, size_t bytes)
{
	const unsigned char *s = (const unsigned char *)text;
	uint32_t c;
	size_t n;

	if (bytes == 0 || bytes > TOPIC_MAX_BYTES)
		return false;
	for (; bytes; s += n, bytes -= n) {
		n = decode(s, bytes, &c);
		if (n == 0 || !is_fit(c))
			return false;
	}
	return true;
}

bool topic_is_valid(const char *topic, size_t bytes)
{
	return is_text(topic, bytes) && !memchr(topic, '+', bytes) &&
		!memchr(topic, '#', bytes);
}

static size_t level_bytes(const char *s)
{
	return strcspn(s, "/");
}

static bool is_device_level(const char *level, size_t n)
{
	return n == DEVICE_BYTES && !memcmp(level, DEVICE, n);
}

bool topic_filter_is_valid(const char *filter)
{
	const char *at = filter;
	unsigned devices = 0;
	size_t n;

	if (!is_text(filter, strlen(filter)))
		return false;
	for (;; at += n + 1) {
		n = level_bytes(at);
		if (memchr(at, '#', n) && (n != 1 || at[1]))
			return false;
		if (memchr(at, '+', n) && n != 1)
			return false;
		devices += is_device_level(at, n);
		if (!at[n])
			return devices <= 1;
	}
}

static bool level_matches(const char *f, size_t fn, const char *t, size_t tn)
{
	if ((fn == 1 && *f == '+') || is_device_level(f, fn))
		return true;
	return fn == tn && !memcmp(f, t, fn);
}

bool topic_matches(const char *filter, const char *topic)
{
	const char *f = filter;
	const char *t = topic;

	if (*t == '$' &&
		(*f == '+' || *f == '#' || is_device_level(f, level_bytes(f))))
		return false;
	for (;;) {
		size_t fn = level_bytes(f);
		size_t tn = level_bytes(t);

		if (fn == 1 && *f == '#')
			return true;
		if (!level_matches(f, fn, t, tn))
			return false;
		f += fn;
		t += tn;
		if (!*f && !*t)
			return true;
		if (!*t)
			return !strcmp(f, "/#");
		if (!*f)
			return false;
		f++;
		t++;
	}
}

/* A wildcard of `narrow` is a level like any other here, but for its "#". */
bool topic_filter_covers(const char *wide, const char *narrow)
{
	const char *rest = strchr(narrow, '#');
	const char *more = strchr(wide, '#');
	int levels = 0;
	const char *at;

	if (!topic_matches(wide, narrow))
		return false;
	if (!rest)
		return true;
	if (!more)
		return false;
	/* Both end in "#": that of `wide` must come first. */
	for (at = narrow; at < rest; at++)
		levels += *at == '/';
	for (at = wide; at < more; at++)
		levels -= *at == '/';
	return levels >= 0;
}

static bool is_device_name(const char *name, size_t n)
{
	size_t i;

	if (n == 0 || n > TOPIC_DEVICE_MAX)
		return false;
	for (i = 0; i < n; i++)
		if (!((name[i] >= 'a' && name[i] <= 'z') ||
			    (name[i] >= 'A' && name[i] <= 'Z') ||
			    (name[i] >= '0' && name[i] <= '9') ||
			    name[i] == '-' || name[i] == '_'))
			return false;
	return true;
}

bool topic_device_name_is_valid(const char *name)
{
	return is_device_name(name, strlen(name));
}

int topic_device(
	const char *filter, const char *topic, char *ret_device, size_t size)
{
	const char *f = filter;
	const char *t = topic;
	size_t n;

	if (!topic_matches(filter, topic))
		return -ENOENT;
	while (!is_device_level(f, level_bytes(f))) {
		f += level_bytes(f);
		t += level_bytes(t);
		if (!*f || !*t)
			return -ENOENT;
		f++;
		t++;
	}
	n = level_bytes(t);
	if (!is_device_name(t, n))
		return -EINVAL;
	if (n >= size)
		return -ENOBUFS;
	memcpy(ret_device, t, n);
	ret_device[n] = '\0';
	return 0;
}

/* Where {device} stands as a level, or NULL. */
static const char *find_device(const char *filter)
{
	const char *at = filter;

	while (!is_device_level(at, level_bytes(at))) {
		at += level_bytes(at);
		if (!*at++)
			return NULL;
	}
	return at;
}

int topic_filter_to_mqtt(
	const char *filter, const char *prefix, char *ret, size_t size)
{
	const char *device = find_device(filter);
	int n;

	if (device)
		n = snprintf(ret, size, "%s%.*s+%s", prefix,
			(int)(device - filter), filter, device + DEVICE_BYTES);
	else
		n = snprintf(ret, size, "%s%s", prefix, filter);
	return n < 0 || (size_t)n >= size ? -ENOBUFS : 0;
}
