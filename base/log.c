/* One line per event, to stderr.  The single place where bytes from outside
 * reach a log: what could forge a line or drive a terminal is escaped here, so
 * that no caller has to remember it. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/now.h"

#define LINE_BYTES 2000
#define LIMIT_BURST 5
#define LIMIT_WINDOW_USEC (10 * USEC_PER_SEC)

static enum log_level max_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	max_level = level;
}

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		break;
	}
	return "debug";
}

/* Bytes of the UTF-8 sequence at s; 0 when there is none that a log may show.
 * U+0080 to U+009F are control characters (ISO 6429) and count as none. */
static size_t utf8_length(const unsigned char *s)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	size_t i;

	if (n == 1)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
		(s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void log_escape(const char *text, char *ret, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)text;
	size_t used = 0;
	size_t n;

	while (*s && used + 5 < size) {
		n = utf8_length(s);
		if (n) {
			memcpy(ret + used, s, n);
			used += n;
			s += n;
			continue;
		}
		ret[used++] = '\\';
		ret[used++] = 'x';
		ret[used++] = hex[*s >> 4];
		ret[used++] = hex[*s & 15];
		s++;
	}
	ret[used] = '\0';
}

static void write_line(enum log_level level, const char *text)
{
	char line[LINE_BYTES + 1];
	size_t used;

	if (getenv("JOURNAL_STREAM"))
		used = (size_t)snprintf(line, sizeof(line), "<%d>", level);
	else
		used = (size_t)snprintf(
			line, sizeof(line), "%s: ", level_name(level));
	log_escape(text, line + used, LINE_BYTES - used);
	used += strlen(line + used);
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nowhere left to say it */
}

__attribute__((format(printf, 2, 0))) static void log_va(
	enum log_level level, const char *fmt, va_list args)
{
	int saved = errno;
	char text[LINE_BYTES];

	if (level > max_level)
		return;
	vsnprintf(text, sizeof(text), fmt, args);
	write_line(level, text);
	errno = saved;
}

#define DEFINE_LOG(name, level)             \
	void name(const char *fmt, ...)     \
	{                                   \
		va_list args;               \
		va_start(args, fmt);        \
		log_va((level), fmt, args); \
		va_end(args);               \
	}                                   \
	struct log_needs_semicolon

DEFINE_LOG(log_error, LOG_LEVEL_ERROR);
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING);
DEFINE_LOG(log_info, LOG_LEVEL_INFO);
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG);

int log_fail(int err, const char *fmt, ...)
{
	char text[LINE_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_error("%s: %s", text, strerror(-err));
	return err;
}

/* Whether this line may pass. */
static bool limit_passes(struct log_limit *limit)
{
	uint64_t now = now_boot_usec();

	if (!limit->window_usec ||
		now - limit->window_usec >= LIMIT_WINDOW_USEC) {
		limit->window_usec = now;
		/* After a burst only one line each window, until a whole
		 * window was quiet. */
		limit->passed = limit->held ? LIMIT_BURST - 1 : 0;
	}
	if (limit->passed < LIMIT_BURST) {
		limit->passed++;
		return true;
	}
	limit->held++;
	return false;
}

void log_limited(
	struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	char text[LINE_BYTES];
	int saved = errno;
	va_list args;

	if (level > max_level || !limit_passes(limit))
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (limit->held) {
		char more[64];

		snprintf(more, sizeof(more), " (and %llu more like this)",
			(unsigned long long)limit->held);
		limit->held = 0;
		strncat(text, more, sizeof(text) - strlen(text) - 1);
	}
	write_line(level, text);
	errno = saved;
}
