#ifndef LOCALBUS_SERIAL_H
#define LOCALBUS_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/scope.h"
#include "localbus/frame.h"
#include "localbus/tty.h"

struct sd_event;

/* A serial device: lines in, lines out.  It may come and go at any time; what
 * it sends can be garbage, or never end: all is bounded, counted and logged,
 * nothing is fatal.  When it has gone it is opened again as soon as it is back
 * (inotify), and by a slow timer.
 *
 * One thread. */
struct serial;

enum serial_outcome { SERIAL_BUSY = 1 };

struct serial_options {
	const char *name; /* for log lines */
	struct tty_options tty;
	enum frame_line_end line_end;
	size_t max_line_bytes;
};

struct serial_ops {
	/* A line without its end; borrowed for the call. */
	void (*on_record)(void *userdata, const uint8_t *record, size_t bytes);
	/* The line given last is wholly with the kernel: the next may come. */
	void (*on_written)(void *userdata);
	/* The device has been opened.  A line that was given before and not
	 * reported by on_written() is forgotten here: give it again. */
	void (*on_ready)(void *userdata);
};

struct serial_counters {
	uint64_t opens;
	uint64_t losses; /* unplugged, hung up */
	uint64_t lines_out;
	struct frame_counters in;
};

/* event and ops are borrowed and outlive it; options are copied.  0 or
 * -errno. */
CHECKED int serial_new(struct sd_event *event, const struct serial_options *o,
	const struct serial_ops *ops, void *userdata,
	struct serial **ret_serial);

struct serial *serial_free(struct serial *s);
DEFINE_SCOPED(struct serial *, serial_free);

/* Open the device now, or when it comes. */
void serial_start(struct serial *s);

bool serial_is_open(const struct serial *s);

/* Take one line, made by frame_encode(); payload is borrowed for the call.
 * 0: on_written() follows, or the device is lost.  SERIAL_BUSY: not open, or
 * the line before is still being written.  -ENOMEM. */
CHECKED int serial_write(struct serial *s, const void *payload, size_t n);

/* Stop reading, or go on. */
void serial_pause(struct serial *s, bool is_paused);

void serial_get_counters(const struct serial *s, struct serial_counters *ret);

#endif
