/* One tty on the loop.  Knows ttys and lines; not MQTT, not the spool.
 *
 * Happy path: serial_start() -> open_now() -> on_io() reads, frames, reports;
 * serial_write() -> write_out(), the rest when the tty can take it.
 * Failure: lose() closes the descriptor at once, since a hung-up tty is always
 * readable and would wake the loop for ever; then the watch on its folder and
 * a timer try again. */
#include "localbus/serial.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/now.h"
#include "base/retry.h"
#include "localbus/portwatch.h"

/* Read at one wake-up; then the others have their turn. */
#define READ_BYTES 4096
/* Without news from inotify: a driver that comes late, a lock that is freed. */
#define RETRY_MIN_USEC USEC_PER_SEC
#define RETRY_MAX_USEC (30 * USEC_PER_SEC)
#define REASON_BYTES 200

struct serial {
	sd_event *event;              /* borrowed */
	const struct serial_ops *ops; /* borrowed */
	void *userdata;
	char *name;
	char *device;
	struct serial_options options; /* its strings are not used */
	struct frame *frame;
	struct portwatch *watch;
	sd_event_source *io; /* while open */
	sd_event_source *retry_timer;
	sd_event_source *written; /* posted: on_written() */
	struct retry retry;
	bool is_paused;
	char said[REASON_BYTES]; /* the reason logged last */
	struct log_limit garbage;

	struct { /* the line that is being written */
		uint8_t *bytes;
		size_t n;
		size_t done;
	} out;
	uint64_t opens;
	uint64_t losses;
	uint64_t lines_out;
};

static void set_events(struct serial *s)
{
	uint32_t events = 0;

	if (!s->io)
		return;
	if (!s->is_paused)
		events |= EPOLLIN;
	if (s->out.bytes)
		events |= EPOLLOUT;
	sd_event_source_set_io_events(s->io, events);
}

static void close_io(struct serial *s)
{
	int fd;

	if (!s->io)
		return;
	fd = sd_event_source_get_io_fd(s->io);
	s->io = sd_event_source_disable_unref(s->io);
	tty_close(fd, &s->options.tty);
}

static void forget_line(struct serial *s)
{
	free(s->out.bytes);
	memset(&s->out, 0, sizeof(s->out));
}

static void try_later(struct serial *s)
{
	sd_event_source_set_time_relative(
		s->retry_timer, retry_next_usec(&s->retry));
	sd_event_source_set_enabled(s->retry_timer, SD_EVENT_ONESHOT);
}

static void lose(struct serial *s, const char *why)
{
	log_warning("serial %s: %s: %s; waiting for it to come back", s->name,
		s->device, why);
	s->losses++;
	s->said[0] = '\0';
	close_io(s);
	sd_event_source_set_enabled(s->written, SD_EVENT_OFF);
	forget_line(s);
	frame_reset(s->frame);
	try_later(s);
}

static void on_record(void *userdata, const uint8_t *record, size_t bytes)
{
	struct serial *s = userdata;

	s->ops->on_record(s->userdata, record, bytes);
}

static void read_some(struct serial *s, int fd)
{
	uint64_t before = frame_counters(s->frame)->too_long;
	uint8_t buf[READ_BYTES];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lose(s, n < 0 ? strerror(errno) : "hung up");
		return;
	}
	frame_push(s->frame, buf, (size_t)n, on_record, s);
	if (frame_counters(s->frame)->too_long != before)
		log_limited(&s->garbage, LOG_LEVEL_WARNING,
			"serial %s: a line of more than %zu bytes is dropped: "
			"check baud, parity and line_end, or raise max_line",
			s->name, s->options.max_line_bytes);
}

static int on_written(sd_event_source *source, void *userdata)
{
	struct serial *s = userdata;

	(void)source;
	s->ops->on_written(s->userdata);
	return 0;
}

static void write_out(struct serial *s)
{
	int fd = sd_event_source_get_io_fd(s->io);
	ssize_t n =
		write(fd, s->out.bytes + s->out.done, s->out.n - s->out.done);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		lose(s, strerror(errno));
		return;
	}
	if (n > 0)
		s->out.done += (size_t)n;
	if (s->out.done == s->out.n) {
		forget_line(s);
		s->lines_out++;
		sd_event_source_set_enabled(s->written, SD_EVENT_ONESHOT);
	}
	set_events(s);
}

static int on_io(
	sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct serial *s = userdata;

	(void)source;
	if (revents & EPOLLIN) {
		read_some(s, fd);
	} else if (revents & (EPOLLHUP | EPOLLERR)) {
		lose(s, "hung up");
		return 0;
	}
	if (s->io && (revents & EPOLLOUT) && s->out.bytes)
		write_out(s);
	return 0;
}

/* The same reason is said once, until it changes. */
static void say_why_closed(struct serial *s, const char *reason)
{
	if (!strcmp(s->said, reason))
		return;
	strcpy(s->said, reason);
	log_warning("serial %s: %s: %s", s->name, s->device, reason);
}

static void opened(struct serial *s, const char *reason)
{
	s->opens++;
	s->said[0] = '\0';
	retry_reset(&s->retry);
	sd_event_source_set_enabled(s->retry_timer, SD_EVENT_OFF);
	log_info("serial %s: %s is open", s->name, s->device);
	if (reason[0])
		log_warning("serial %s: %s: %s", s->name, s->device, reason);
	set_events(s);
	s->ops->on_ready(s->userdata);
}

static void open_now(struct serial *s)
{
	char reason[REASON_BYTES];
	int fd = tty_open(&s->options.tty, reason, sizeof(reason));
	int r;

	if (fd < 0) {
		say_why_closed(s, reason);
		try_later(s);
		return;
	}
	r = sd_event_add_io(s->event, &s->io, fd, EPOLLIN, on_io, s);
	if (r < 0) {
		close(fd);
		log_fail(r, "serial %s: cannot watch it", s->name);
		try_later(s);
		return;
	}
	sd_event_source_set_description(s->io, "serial");
	opened(s, reason);
}

static void on_folder_change(void *userdata)
{
	struct serial *s = userdata;

	if (!s->io)
		open_now(s);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	on_folder_change(userdata);
	return 0;
}

static int add_sources(struct serial *s)
{
	int r = sd_event_add_time_relative(s->event, &s->retry_timer,
		CLOCK_BOOTTIME, 0, 100 * USEC_PER_MSEC, on_retry, s);

	if (r < 0)
		return r;
	sd_event_source_set_description(s->retry_timer, "serial-retry");
	sd_event_source_set_enabled(s->retry_timer, SD_EVENT_OFF);
	r = sd_event_add_defer(s->event, &s->written, on_written, s);
	if (r < 0)
		return r;
	sd_event_source_set_description(s->written, "serial-written");
	sd_event_source_set_enabled(s->written, SD_EVENT_OFF);
	return 0;
}

int serial_new(struct sd_event *event, const struct serial_options *o,
	const struct serial_ops *ops, void *userdata,
	struct serial **ret_serial)
{
	SCOPED(serial_freep) struct serial *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->event = event;
	s->ops = ops;
	s->userdata = userdata;
	s->options = *o;
	s->name = strdup(o->name);
	s->device = strdup(o->tty.device);
	if (!s->name || !s->device)
		return -ENOMEM;
	s->options.tty.device = s->device;
	retry_init(&s->retry, RETRY_MIN_USEC, RETRY_MAX_USEC, 0);
	r = frame_new(o->line_end, o->max_line_bytes, &s->frame);
	if (r == 0)
		r = add_sources(s);
	if (r < 0)
		return r;
	*ret_serial = TAKE(s);
	return 0;
}

struct serial *serial_free(struct serial *s)
{
	if (!s)
		return NULL;
	close_io(s);
	sd_event_source_disable_unref(s->retry_timer);
	sd_event_source_disable_unref(s->written);
	portwatch_free(s->watch);
	frame_free(s->frame);
	forget_line(s);
	free(s->name);
	free(s->device);
	free(s);
	return NULL;
}

void serial_start(struct serial *s)
{
	int r = 0;

	/* First the watch, then the look: nothing falls in between. */
	if (!s->watch)
		r = portwatch_new(
			s->event, s->device, on_folder_change, s, &s->watch);
	if (r < 0)
		log_fail(r,
			"serial %s: its folder cannot be watched, it is "
			"looked for by a timer only",
			s->name);
	if (!s->io)
		open_now(s);
}

bool serial_is_open(const struct serial *s)
{
	return s->io;
}

int serial_write(struct serial *s, const void *payload, size_t n)
{
	size_t bytes = frame_encoded_bytes(s->options.line_end, n);

	if (!s->io || s->out.bytes)
		return SERIAL_BUSY;
	s->out.bytes = malloc(bytes);
	if (!s->out.bytes)
		return -ENOMEM;
	s->out.n = bytes;
	s->out.done = 0;
	frame_encode(s->options.line_end, payload, n, s->out.bytes);
	set_events(s); /* written from the loop */
	return 0;
}

void serial_pause(struct serial *s, bool is_paused)
{
	s->is_paused = is_paused;
	set_events(s);
}

void serial_get_counters(const struct serial *s, struct serial_counters *ret)
{
	ret->opens = s->opens;
	ret->losses = s->losses;
	ret->lines_out = s->lines_out;
	ret->in = *frame_counters(s->frame);
}
