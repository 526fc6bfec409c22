#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stddef.h>
#include <stdint.h>

/* Log lines, one per event, on stderr: journald adds time and unit.  Under
 * systemd ($JOURNAL_STREAM) each line starts with its "<level>" prefix; on a
 * terminal or in a file with the level in words.
 *
 * Form: `<object>: <what happened>[: cause]`.  error = someone must act,
 * warning = degraded, info = a state changed, debug = traffic.
 *
 * Bytes that came from outside may stand in the arguments: in every line,
 * control characters and bytes that are not UTF-8 are written as \xNN, and a
 * line ends at 2,000 bytes.  The calls keep errno as it was. */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Levels above this are dropped; LOG_LEVEL_INFO at start. */
void log_set_level(enum log_level level);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Log at error level with the text of err appended, and return err unchanged:
 * the place that meets a foreign error writes `return log_fail(-EIO, ...)`.
 *
 * err: a negative errno. */
int log_fail(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Escape text as in every line; for other places that bytes from outside get to.
 * size > 0; what does not fit is left out. */
void log_escape(const char *text, char *ret, size_t size);

/* For events that the outside can cause at any rate.  Zero-initialise one per
 * kind of event; a burst of 5 lines passes, then one each 10 s, which says how
 * many of its kind were held back before it. */
struct log_limit {
	uint64_t window_usec; /* when the present window began */
	unsigned passed;      /* lines let through in it */
	uint64_t held;        /* lines held back since the last one shown */
};

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt,
	...) __attribute__((format(printf, 3, 4)));

#endif
