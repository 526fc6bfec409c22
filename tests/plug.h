#ifndef TESTS_PLUG_H
#define TESTS_PLUG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/Basic.h>
#include <systemd/sd-event.h>

#include "localbus/serial.h"
#include "tests/loop.h"
#include "tests/pty.h"

/* A struct serial on a loop, a pty to plug into it, and what both have got. */
#define QUIET_USEC (100 * USEC_PER_MSEC)
/* A loop that spins wakes up thousands of times in QUIET_USEC. */
#define FEW 20

static char dir[64];
static char link_path[96];
static char folder[96];
static char deep_path[128];
static int master = -1;
static struct serial *s;
static struct serial_options o;
static unsigned fds;

static char records[4096]; /* each in brackets */
static size_t n_records;
static size_t n_expected;
static unsigned n_written;
static unsigned n_ready;
static char out[200000]; /* what the device got */
static size_t n_out;
static size_t n_out_expected;

static int saved_stderr = -1;
static FILE *capture;
static char text[65536];

/* The slow timer in the test's hand. */
static enum { TIMER_NEVER, TIMER_SOON } timer;
static uint64_t asked_usec; /* the delay asked for last */
int __real_sd_event_source_set_time_relative(sd_event_source *, uint64_t);
int __wrap_sd_event_source_set_time_relative(sd_event_source *, uint64_t);

int __wrap_sd_event_source_set_time_relative(
	sd_event_source *source, uint64_t usec)
{
	asked_usec = usec;
	return __real_sd_event_source_set_time_relative(source,
		timer == TIMER_NEVER ? 3600 * USEC_PER_SEC : USEC_PER_MSEC);
}

static inline void on_record(
	void *userdata, const uint8_t *record, size_t bytes)
{
	size_t n = strlen(records);

	CU_ASSERT_PTR_EQUAL(userdata, &s);
	CU_ASSERT_TRUE_FATAL(n + bytes + 3 < sizeof(records));
	snprintf(records + n, sizeof(records) - n, "[%.*s]", (int)bytes,
		(const char *)record);
	n_records++;
}

static inline void on_written(void *userdata)
{
	CU_ASSERT_PTR_EQUAL(userdata, &s);
	n_written++;
}

static inline void on_ready(void *userdata)
{
	CU_ASSERT_PTR_EQUAL(userdata, &s);
	n_ready++;
}

static const struct serial_ops ops = {
	.on_record = on_record,
	.on_written = on_written,
	.on_ready = on_ready,
};

static inline void capture_begin(void)
{
	unsetenv("JOURNAL_STREAM");
	capture = tmpfile();
	CU_ASSERT_PTR_NOT_NULL_FATAL(capture);
	saved_stderr = dup(STDERR_FILENO);
	dup2(fileno(capture), STDERR_FILENO);
}

/* What was logged since; stderr is itself again. */
static inline const char *capture_end(void)
{
	size_t n;

	if (saved_stderr < 0)
		return text;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	saved_stderr = -1;
	rewind(capture);
	n = fread(text, 1, sizeof(text) - 1, capture);
	text[n] = '\0';
	fclose(capture);
	return text;
}

static inline unsigned count(const char *what)
{
	const char *at = text;
	unsigned n = 0;

	while ((at = strstr(at, what))) {
		n++;
		at++;
	}
	return n;
}

static inline void set_up(void)
{
	fds = count_fds();
	strcpy(dir, "/tmp/test_serial.XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(link_path, sizeof(link_path), "%s/port", dir);
	snprintf(folder, sizeof(folder), "%s/by-id", dir);
	snprintf(deep_path, sizeof(deep_path), "%s/port", folder);
	timer = TIMER_NEVER;
	records[0] = '\0';
	n_records = 0;
	n_written = 0;
	n_ready = 0;
	n_out = 0;
	master = -1;
	s = NULL;
	o = (struct serial_options){.name = "meter1",
		.tty = {.device = link_path,
			.baud = 9600,
			.data_bits = 8,
			.stop_bits = 1},
		.line_end = FRAME_LF,
		.max_line_bytes = 64};
	CU_ASSERT_TRUE_FATAL(sd_event_new(&event) >= 0);
	capture_begin();
}

static inline void unplug(void)
{
	if (master >= 0)
		close(master);
	master = -1;
}

static inline void tear_down(void)
{
	capture_end();
	s = serial_free(s);
	event = sd_event_unref(event);
	unplug();
	unlink(link_path);
	unlink(deep_path);
	rmdir(folder);
	rmdir(dir);
	CU_ASSERT_EQUAL(count_fds(), fds);
}

static inline void plug(void)
{
	master = pty_plug(o.tty.device);
}

static inline void start(void)
{
	CU_ASSERT_EQUAL_FATAL(serial_new(event, &o, &ops, &s, &s), 0);
	serial_start(s);
}

static inline bool is_open(void)
{
	return serial_is_open(s);
}

static inline bool is_closed(void)
{
	return !serial_is_open(s);
}

static inline bool has_records(void)
{
	return n_records >= n_expected;
}

static inline bool is_written(void)
{
	return n_written > 0;
}

static inline void plug_and_start(void)
{
	plug();
	start();
	loop_until(is_open);
	CU_ASSERT_EQUAL(n_ready, 1);
}

/* The device sends. */
static inline void send_text(const char *line)
{
	CU_ASSERT_EQUAL_FATAL(
		write(master, line, strlen(line)), (ssize_t)strlen(line));
}

static inline void expect_records(size_t n, const char *want)
{
	n_expected = n;
	loop_until(has_records);
	CU_ASSERT_STRING_EQUAL(records, want);
}

/* The device receives. */
static inline bool has_received(void)
{
	ssize_t n = read(master, out + n_out, sizeof(out) - 1 - n_out);

	if (n > 0)
		n_out += (size_t)n;
	out[n_out] = '\0';
	return n_out >= n_out_expected;
}

static inline void expect_received(const char *want)
{
	n_out_expected = strlen(want);
	loop_until(has_received);
	CU_ASSERT_STRING_EQUAL(out, want);
}

static inline struct serial_counters counters(void)
{
	struct serial_counters c;

	serial_get_counters(s, &c);
	return c;
}

#endif
