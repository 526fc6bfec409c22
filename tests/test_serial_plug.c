/* Tests of localbus/serial.h: devices that come and go. */
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
#include "tests/plug.h"
#include "tests/unit.h"

static bool has_half_a_line(void)
{
	return counters().in.bytes == 9;
}

static void a_hang_up_is_noticed_and_the_descriptor_closed(void)
{
	unsigned before;

	plug_and_start();
	send_text("half a li");
	loop_until(has_half_a_line);
	before = count_fds();
	unplug();
	loop_until(is_closed);
	/* The master's, and ours. */
	CU_ASSERT_EQUAL(count_fds(), before - 2);
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_EQUAL(counters().losses, 1);
	CU_ASSERT_EQUAL(counters().in.partial, 1);
	CU_ASSERT_EQUAL(serial_write(s, "x", 1), SERIAL_BUSY);
	CU_ASSERT_TRUE(asked_usec >= USEC_PER_SEC / 2);
	CU_ASSERT_TRUE(asked_usec <= USEC_PER_SEC);
	capture_end();
	CU_ASSERT_EQUAL(count("waiting for it to come back"), 1);
}

/* The slow timer never fires in these tests: inotify it is. */
static void a_device_that_comes_back_is_opened_at_once(void)
{
	unsigned i;

	plug_and_start();
	for (i = 1; i <= 5; i++) {
		unplug();
		loop_until(is_closed);
		plug();
		loop_until(is_open);
		CU_ASSERT_EQUAL(n_ready, 1 + i);
		records[0] = '\0';
		n_records = 0;
		send_text("again\n");
		expect_records(1, "[again]");
	}
	CU_ASSERT_EQUAL(counters().opens, 6);
	CU_ASSERT_EQUAL(counters().losses, 5);
}

static void a_device_replaced_at_once_is_opened(void)
{
	int old;

	plug_and_start();
	old = master;
	plug();
	close(old);
	/* The news of the new one came while the old one was open. */
	timer = TIMER_SOON;
	loop_until(is_closed);
	loop_until(is_open);
	send_text("new\n");
	expect_records(1, "[new]");
}

static void a_device_that_comes_later_is_opened(void)
{
	start();
	CU_ASSERT_FALSE(serial_is_open(s));
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	plug();
	loop_until(is_open);
	CU_ASSERT_EQUAL(counters().opens, 1);
	CU_ASSERT_EQUAL(counters().losses, 0);
	capture_end();
	CU_ASSERT_EQUAL(count("not there; it is opened when it comes"), 1);
	CU_ASSERT_EQUAL(count("is open\n"), 1);
}

static void a_device_in_a_folder_that_comes_later_is_opened(void)
{
	o.tty.device = deep_path;
	start();
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
	plug();
	loop_until(is_open);
	/* As udev does when the last device has gone. */
	unplug();
	unlink(deep_path);
	rmdir(folder);
	loop_until(is_closed);
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	plug();
	loop_until(is_open);
}

static void a_half_written_line_is_forgotten_with_the_device(void)
{
	static char big[100000];

	memset(big, 'x', sizeof(big));
	plug_and_start();
	CU_ASSERT_EQUAL(serial_write(s, big, sizeof(big)), 0);
	loop_for(QUIET_USEC / 4);
	unplug();
	loop_until(is_closed);
	plug();
	loop_until(is_open);
	CU_ASSERT_EQUAL(n_ready, 2);
	CU_ASSERT_EQUAL(serial_write(s, "fresh", 5), 0);
	expect_received("fresh\n");
	loop_until(is_written);
	CU_ASSERT_EQUAL(n_written, 1);
}

static void one_reason_is_told_once(void)
{
	int i;

	start();
	for (i = 0; i < 20; i++) {
		char other[96];
		int fd;

		snprintf(other, sizeof(other), "%s/x", dir);
		fd = open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		CU_ASSERT_TRUE_FATAL(fd >= 0);
		close(fd);
		loop_turn(100 * USEC_PER_MSEC);
		unlink(other);
		loop_turn(100 * USEC_PER_MSEC);
	}
	capture_end();
	CU_ASSERT_EQUAL(count("meter1"), 1);
	/* No storm of tries: the timer goes its own way. */
	CU_ASSERT_TRUE(asked_usec <= 30 * USEC_PER_SEC);
}

static void what_is_no_tty_is_told(void)
{
	int fd = open(link_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	close(fd);
	start();
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	CU_ASSERT_FALSE(serial_is_open(s));
	plug(); /* in its place */
	loop_until(is_open);
	capture_end();
	CU_ASSERT_EQUAL(count("no serial device; correct `device`"), 1);
}

static void a_device_in_use_is_opened_when_it_is_free(void)
{
	int other;

	plug();
	other = open(link_path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(flock(other, LOCK_EX), 0);
	start();
	CU_ASSERT_FALSE(serial_is_open(s));
	CU_ASSERT_TRUE(loop_for(QUIET_USEC) < FEW);
	/* inotify has no news of a lock: this is what the timer is for. */
	timer = TIMER_SOON;
	CU_ASSERT_EQUAL_FATAL(chmod(dir, 0755), 0);
	loop_for(QUIET_USEC);
	CU_ASSERT_FALSE(serial_is_open(s));
	close(other);
	loop_until(is_open);
	capture_end();
	CU_ASSERT_EQUAL(count("in use by another program"), 1);
}

static void what_the_driver_does_not_take_is_told(void)
{
	o.tty.parity = SERIAL_PARITY_EVEN;
	plug_and_start();
	send_text("x\n");
	expect_records(1, "[x]");
	capture_end();
	CU_ASSERT_EQUAL(count("did not take all of"), 1);
}

int main(void)
{
	CU_TestInfo coming[] = {
		{"a hang-up is noticed and the descriptor closed",
			a_hang_up_is_noticed_and_the_descriptor_closed},
		{"a device that comes back is opened at once",
			a_device_that_comes_back_is_opened_at_once},
		{"a device replaced at once is opened",
			a_device_replaced_at_once_is_opened},
		{"a device that comes later is opened",
			a_device_that_comes_later_is_opened},
		{"a device in a folder that comes later is opened",
			a_device_in_a_folder_that_comes_later_is_opened},
		{"a half written line is forgotten with the device",
			a_half_written_line_is_forgotten_with_the_device},
		{"one reason is told once", one_reason_is_told_once},
		{"what is no tty is told", what_is_no_tty_is_told},
		{"a device in use is opened when it is free",
			a_device_in_use_is_opened_when_it_is_free},
		{"what the driver does not take is told",
			what_the_driver_does_not_take_is_told},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"coming and going", NULL, NULL, set_up, tear_down, coming},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
