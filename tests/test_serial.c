/* Tests of localbus/serial.h: lines, pause, beginning and end;
 * tests/test_serial_plug.c has devices that come and go. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "localbus/serial.h"
#include "tests/fault.h"
#include "tests/plug.h"
#include "tests/unit.h"

/* ---- lines ---- */

static void lines_come_in(void)
{
	plug_and_start();
	send_text("21.5\nhel");
	expect_records(1, "[21.5]");
	send_text("lo\n\nx\n");
	expect_records(3, "[21.5][hello][x]");
	CU_ASSERT_EQUAL(counters().in.records, 3);
	CU_ASSERT_EQUAL(counters().in.empty, 1);
	CU_ASSERT_EQUAL(counters().in.bytes, 14);
	CU_ASSERT_EQUAL(counters().opens, 1);
	CU_ASSERT_EQUAL(counters().losses, 0);
}

static void lines_go_out(void)
{
	plug_and_start();
	CU_ASSERT_EQUAL(serial_write(s, "tare", 4), 0);
	CU_ASSERT_EQUAL(n_written, 0); /* from the loop, not from the call */
	expect_received("tare\n");
	loop_until(is_written);
	CU_ASSERT_EQUAL(n_written, 1);
	CU_ASSERT_EQUAL(counters().lines_out, 1);
	CU_ASSERT_EQUAL(serial_write(s, "zero\nall", 8), 0);
	expect_received("tare\nzero all\n");
}

static void cr_lf_goes_both_ways(void)
{
	o.line_end = FRAME_CRLF;
	plug_and_start();
	send_text("a\nb\r\nc\r");
	expect_records(1, "[a\nb]");
	send_text("\n");
	expect_records(2, "[a\nb][c]");
	CU_ASSERT_EQUAL(serial_write(s, "go", 2), 0);
	expect_received("go\r\n");
}

static void one_line_is_out_at_a_time(void)
{
	CU_ASSERT_EQUAL_FATAL(serial_new(event, &o, &ops, &s, &s), 0);
	CU_ASSERT_EQUAL(serial_write(s, "x", 1), SERIAL_BUSY); /* not open */
	plug();
	serial_start(s);
	loop_until(is_open);
	CU_ASSERT_EQUAL(serial_write(s, "one", 3), 0);
	CU_ASSERT_EQUAL(serial_write(s, "two", 3), SERIAL_BUSY);
	loop_until(is_written);
	CU_ASSERT_EQUAL(serial_write(s, "three", 5), 0);
	expect_received("one\nthree\n");
}

static void a_line_larger_than_the_tty_s_buffer_goes_out_in_parts(void)
{
	static char big[100000];

	memset(big, 'x', sizeof(big));
	plug_and_start();
	CU_ASSERT_EQUAL(serial_write(s, big, sizeof(big)), 0);
	/* The device does not read: wait for it without spinning. */
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW + 10);
	CU_ASSERT_EQUAL(n_written, 0);
	CU_ASSERT_EQUAL(serial_write(s, "y", 1), SERIAL_BUSY);
	n_out_expected = sizeof(big) + 1;
	loop_until(has_received);
	CU_ASSERT_EQUAL(memcmp(out, big, sizeof(big)), 0);
	CU_ASSERT_STRING_EQUAL(out + sizeof(big), "\n");
	loop_until(is_written);
	CU_ASSERT_EQUAL(n_written, 1);
}

static void a_line_too_long_is_dropped_counted_and_told(void)
{
	char line[67];

	memset(line, 'x', 65);
	strcpy(line + 65, "\n");
	plug_and_start();
	send_text(line);
	send_text("ok\n");
	expect_records(1, "[ok]");
	CU_ASSERT_EQUAL(counters().in.too_long, 1);
	capture_end();
	CU_ASSERT_EQUAL(count("more than 64 bytes is dropped: check baud"), 1);
}

static bool is_too_long(void)
{
	return counters().in.too_long > 0;
}

/* Such as a wrong baud rate gives: not a line end among it. */
static void bytes_without_an_end_are_counted_and_told(void)
{
	char garbage[66];

	memset(garbage, '\xf8', 65);
	garbage[65] = '\0';
	plug_and_start();
	send_text(garbage);
	loop_until(is_too_long);
	capture_end();
	CU_ASSERT_EQUAL(count("more than 64 bytes is dropped"), 1);
	CU_ASSERT_TRUE(serial_is_open(s));
}

static void a_flood_of_long_lines_does_not_flood_the_log(void)
{
	char line[67];
	int i;

	memset(line, 'x', 65);
	strcpy(line + 65, "\n");
	plug_and_start();
	for (i = 0; i < 40; i++) {
		send_text(line);
		send_text("ok\n");
		n_expected = (size_t)i + 1;
		loop_until(has_records);
	}
	CU_ASSERT_EQUAL(counters().in.too_long, 40);
	capture_end();
	CU_ASSERT_EQUAL(count("is dropped"), 5);
}

/* ---- pause ---- */

static void a_pause_stops_reading_and_nothing_is_lost(void)
{
	plug_and_start();
	serial_pause(s, true);
	send_text("one\ntwo\n");
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_STRING_EQUAL(records, "");
	serial_pause(s, false);
	expect_records(2, "[one][two]");
}

static void a_pause_does_not_stop_writing(void)
{
	plug_and_start();
	serial_pause(s, true);
	CU_ASSERT_EQUAL(serial_write(s, "tare", 4), 0);
	expect_received("tare\n");
	loop_until(is_written);
	send_text("x\n");
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_STRING_EQUAL(records, "");
}

static void a_pause_outlives_the_device(void)
{
	CU_ASSERT_EQUAL_FATAL(serial_new(event, &o, &ops, &s, &s), 0);
	serial_pause(s, true);
	serial_start(s);
	plug();
	loop_until(is_open);
	send_text("x\n");
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_STRING_EQUAL(records, "");
	serial_pause(s, false);
	expect_records(1, "[x]");
}

static void a_paused_device_that_hangs_up_does_not_spin(void)
{
	plug_and_start();
	serial_pause(s, true);
	send_text("x\n");
	loop_for(QUIET_USEC / 4);
	unplug();
	loop_until(is_closed);
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_EQUAL(counters().losses, 1);
	plug();
	loop_until(is_open);
	serial_pause(s, false);
	send_text("y\n");
	n_expected = 1;
	loop_until(has_records);
	CU_ASSERT_PTR_NOT_NULL(strstr(records, "[y]"));
}

/* ---- beginning and end ---- */

static void options_are_copied(void)
{
	char device[96];

	strcpy(device, link_path);
	o.tty.device = device;
	CU_ASSERT_EQUAL_FATAL(serial_new(event, &o, &ops, &s, &s), 0);
	memset(device, 'x', strlen(device));
	o.tty.device = link_path;
	plug();
	serial_start(s);
	loop_until(is_open);
}

static void it_may_be_freed_with_a_line_on_its_way(void)
{
	plug_and_start();
	CU_ASSERT_EQUAL(serial_write(s, "x", 1), 0);
	s = serial_free(s);
	CU_ASSERT_PTR_NULL(s);
	CU_ASSERT_EQUAL(loop_for(QUIET_USEC / 4), 0);
	CU_ASSERT_EQUAL(n_written, 0);
	CU_ASSERT_PTR_NULL(serial_free(NULL));
}

static void new_without_memory_says_so(void)
{
	int n;

	for (n = 0; n < 100; n++) {
		int r;

		fault_set(n);
		r = serial_new(event, &o, &ops, &s, &s);
		if (!fault_clear())
			break;
		CU_ASSERT_EQUAL(r, -ENOMEM);
		CU_ASSERT_PTR_NULL(s);
	}
	CU_ASSERT_TRUE(n >= 3 && n < 100);
	CU_ASSERT_PTR_NOT_NULL(s);
}

static void a_line_without_memory_for_it_is_not_taken(void)
{
	plug_and_start();
	fault_set(0);
	CU_ASSERT_EQUAL(serial_write(s, "x", 1), -ENOMEM);
	CU_ASSERT_TRUE(fault_clear());
	CU_ASSERT_EQUAL(serial_write(s, "y", 1), 0);
	expect_received("y\n");
}

int main(void)
{
	CU_TestInfo lines[] = {
		{"lines come in", lines_come_in},
		{"lines go out", lines_go_out},
		{"CR LF goes both ways", cr_lf_goes_both_ways},
		{"one line is out at a time", one_line_is_out_at_a_time},
		{"a line larger than the tty's buffer goes out in parts",
			a_line_larger_than_the_tty_s_buffer_goes_out_in_parts},
		{"a line too long is dropped, counted and told",
			a_line_too_long_is_dropped_counted_and_told},
		{"bytes without an end are counted and told",
			bytes_without_an_end_are_counted_and_told},
		{"a flood of long lines does not flood the log",
			a_flood_of_long_lines_does_not_flood_the_log},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo pause[] = {
		{"a pause stops reading and nothing is lost",
			a_pause_stops_reading_and_nothing_is_lost},
		{"a pause does not stop writing",
			a_pause_does_not_stop_writing},
		{"a pause outlives the device", a_pause_outlives_the_device},
		{"a paused device that hangs up does not spin",
			a_paused_device_that_hangs_up_does_not_spin},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo ends[] = {
		{"options are copied", options_are_copied},
		{"it may be freed with a line on its way",
			it_may_be_freed_with_a_line_on_its_way},
		{"new without memory says so", new_without_memory_says_so},
		{"a line without memory for it is not taken",
			a_line_without_memory_for_it_is_not_taken},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"lines", NULL, NULL, set_up, tear_down, lines},
		{"pause", NULL, NULL, set_up, tear_down, pause},
		{"beginning and end", NULL, NULL, set_up, tear_down, ends},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
