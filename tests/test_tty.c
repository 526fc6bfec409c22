/* Tests of localbus/tty.h, on ptys. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "localbus/tty.h"
#include "tests/pty.h"
#include "tests/unit.h"

static char path[64];
static int master = -1;
static int fd = -1;
static char reason[200];
static struct tty_options o;
static unsigned fds;

/* A pty has always sent all.  So these stand before those of libc. */
static int fake_pending = -1; /* bytes that are not sent; -1: as it is */
static int flushed;           /* how often the output was thrown away */

int ioctl(int file, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == TIOCOUTQ && fake_pending >= 0) {
		*(int *)arg = fake_pending;
		return 0;
	}
	return (int)syscall(SYS_ioctl, file, request, arg);
}

int tcflush(int file, int queue)
{
	CU_ASSERT_EQUAL(file, fd);
	CU_ASSERT_EQUAL(queue, TCOFLUSH);
	flushed++;
	return (int)syscall(SYS_ioctl, file, TCFLSH, queue);
}

static void set_up(void)
{
	fds = count_fds();
	master = pty_open(path, sizeof(path));
	fd = -1;
	fake_pending = -1;
	flushed = 0;
	strcpy(reason, "before");
	o = (struct tty_options){
		.device = path, .baud = 9600, .data_bits = 8, .stop_bits = 1};
}

static void tear_down(void)
{
	if (fd >= 0)
		close(fd);
	close(master);
	CU_ASSERT_EQUAL(count_fds(), fds);
}

static int open_it(void)
{
	if (fd >= 0)
		close(fd);
	fd = tty_open(&o, reason, sizeof(reason));
	return fd;
}

static struct termios line(void)
{
	struct termios t;

	CU_ASSERT_EQUAL_FATAL(tcgetattr(fd, &t), 0);
	return t;
}

static void the_descriptor_does_not_block_and_is_not_inherited(void)
{
	char byte;

	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	CU_ASSERT_STRING_EQUAL(reason, "");
	CU_ASSERT_EQUAL(read(fd, &byte, 1), -1);
	CU_ASSERT_EQUAL(errno, EAGAIN);
	CU_ASSERT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
}

static void bytes_pass_as_they_are(void)
{
	unsigned char all[256];
	unsigned char got[512];
	ssize_t n = 0;
	int i;

	for (i = 0; i < 256; i++)
		all[i] = (unsigned char)i;
	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	CU_ASSERT_EQUAL_FATAL(write(fd, all, 256), 256);
	CU_ASSERT_EQUAL(read(master, got, sizeof(got)), 256);
	CU_ASSERT_EQUAL(memcmp(got, all, 256), 0);
	CU_ASSERT_EQUAL_FATAL(write(master, all, 256), 256);
	/* The kernel may hand them over in parts. */
	for (i = 0; i < 1000 && n < 256; i++) {
		ssize_t more = read(fd, got + n, sizeof(got) - (size_t)n);

		if (more > 0)
			n += more;
		else
			usleep(1000);
	}
	CU_ASSERT_EQUAL(n, 256);
	CU_ASSERT_EQUAL(memcmp(got, all, 256), 0);
	CU_ASSERT_EQUAL(read(master, got, sizeof(got)), -1); /* no echo */
}

static void the_rate_is_set(void)
{
	static const struct {
		unsigned baud;
		speed_t speed;
	} rates[] = {{300, B300}, {9600, B9600}, {115200, B115200},
		{921600, B921600}, {4000000, B4000000}};
	size_t i;

	for (i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct termios t;

		o.baud = rates[i].baud;
		CU_ASSERT_TRUE_FATAL(open_it() >= 0);
		CU_ASSERT_STRING_EQUAL(reason, "");
		t = line();
		CU_ASSERT_EQUAL(cfgetospeed(&t), rates[i].speed);
		CU_ASSERT_EQUAL(cfgetispeed(&t), rates[i].speed);
	}
}

static void flow_and_stop_bits_are_set(void)
{
	struct termios t;

	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	t = line();
	CU_ASSERT_EQUAL(t.c_cflag & (CSTOPB | CRTSCTS), 0);
	CU_ASSERT_EQUAL(t.c_iflag & (IXON | IXOFF), 0);
	CU_ASSERT_TRUE(t.c_cflag & CLOCAL);
	o.flow = SERIAL_FLOW_RTSCTS;
	o.stop_bits = 2;
	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	CU_ASSERT_STRING_EQUAL(reason, "");
	t = line();
	CU_ASSERT_EQUAL(t.c_cflag & (CSTOPB | CRTSCTS), (CSTOPB | CRTSCTS));
	/* What was set before does not stay. */
	o.flow = SERIAL_FLOW_XONXOFF;
	o.stop_bits = 1;
	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	t = line();
	CU_ASSERT_EQUAL(t.c_cflag & (CSTOPB | CRTSCTS), 0);
	CU_ASSERT_EQUAL(t.c_iflag & (IXON | IXOFF), (IXON | IXOFF));
}

/* A pty has no parity and always 8 bits. */
static void what_the_driver_does_not_take_is_told(void)
{
	o.parity = SERIAL_PARITY_EVEN;
	CU_ASSERT_TRUE(open_it() >= 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(reason, "parity"));
	o.parity = SERIAL_PARITY_NONE;
	o.data_bits = 7;
	CU_ASSERT_TRUE(open_it() >= 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(reason, "data_bits"));
	o.data_bits = 8;
	CU_ASSERT_TRUE(open_it() >= 0);
	CU_ASSERT_STRING_EQUAL(reason, "");
}

/* As after a restart of ours. */
static void what_came_before_is_still_read(void)
{
	char buf[8];

	CU_ASSERT_TRUE_FATAL(open_it() >= 0); /* raw from here on */
	CU_ASSERT_EQUAL(write(master, "old\n", 4), 4);
	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	CU_ASSERT_EQUAL(read(fd, buf, sizeof(buf)), 4);
	CU_ASSERT_EQUAL(memcmp(buf, "old\n", 4), 0);
}

/* Close fd with so much that is not sent yet; whether that is thrown away. */
static bool is_thrown_away(enum serial_flow flow, unsigned baud, int pending)
{
	int before = flushed;
	int closed;

	o.flow = flow;
	o.baud = baud;
	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	closed = fd;
	fake_pending = pending;
	tty_close(fd, &o);
	fake_pending = -1;
	fd = -1;
	CU_ASSERT_EQUAL(fcntl(closed, F_GETFD), -1);
	CU_ASSERT_EQUAL(errno, EBADF);
	return flushed > before;
}

static void close_throws_away_what_it_would_wait_for(void)
{
	/* Whoever has stopped us may never let us go on. */
	CU_ASSERT_TRUE(is_thrown_away(SERIAL_FLOW_XONXOFF, 115200, 1));
	CU_ASSERT_TRUE(is_thrown_away(SERIAL_FLOW_RTSCTS, 115200, 1));
	CU_ASSERT_FALSE(is_thrown_away(SERIAL_FLOW_XONXOFF, 115200, 0));
	/* A moment is no matter, half a minute is. */
	CU_ASSERT_FALSE(is_thrown_away(SERIAL_FLOW_NONE, 9600, 100));
	CU_ASSERT_TRUE(is_thrown_away(SERIAL_FLOW_NONE, 300, 100));
	CU_ASSERT_FALSE(is_thrown_away(SERIAL_FLOW_NONE, 4000000, 4095));
	CU_ASSERT_TRUE(is_thrown_away(SERIAL_FLOW_NONE, 9600, 4095));
}

static void close_does_not_wait_and_what_is_sent_arrives(void)
{
	char buf[16];

	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	CU_ASSERT_EQUAL(write(fd, "bye\n", 4), 4);
	tty_close(fd, &o);
	fd = -1;
	CU_ASSERT_EQUAL(read(master, buf, sizeof(buf)), 4);
	CU_ASSERT_EQUAL(memcmp(buf, "bye\n", 4), 0);
	/* Stopped, and nobody reads: it must return, or the test hangs. */
	o.flow = SERIAL_FLOW_XONXOFF;
	CU_ASSERT_TRUE_FATAL(open_it() >= 0);
	while (write(fd, "0123456789", 10) > 0)
		;
	CU_ASSERT_EQUAL(tcflow(fd, TCOOFF), 0);
	alarm(20);
	tty_close(fd, &o);
	alarm(0);
	fd = -1;
}

static void refused(int error, const char *words)
{
	CU_ASSERT_EQUAL(open_it(), error);
	fd = -1;
	if (!strstr(reason, words))
		fprintf(stderr, "reason: %s\n", reason);
	CU_ASSERT_PTR_NOT_NULL(strstr(reason, words));
}

static void a_device_that_is_not_there_is_waited_for(void)
{
	o.device = "/dev/no-such-tty";
	refused(-ENOENT, "opened when it comes");
	/* Its node may be older than it. */
	o.device = path;
	close(master);
	CU_ASSERT_TRUE(open_it() < 0);
	CU_ASSERT_TRUE(reason[0] != '\0');
	fd = -1;
	master = pty_open(path, sizeof(path));
}

static void what_is_no_tty_is_refused(void)
{
	char file[] = "/tmp/test_tty.XXXXXX";
	int f = mkstemp(file);

	CU_ASSERT_TRUE_FATAL(f >= 0);
	close(f);
	o.device = file;
	refused(-ENOTTY, "no serial device; correct `device`");
	unlink(file);
	o.device = "/dev/null";
	refused(-ENOTTY, "no serial device");
	o.device = "/tmp";
	refused(-EISDIR, strerror(EISDIR));
}

static void a_device_in_use_is_refused(void)
{
	int other = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	CU_ASSERT_TRUE_FATAL(other >= 0);
	CU_ASSERT_EQUAL_FATAL(flock(other, LOCK_EX), 0);
	refused(-EWOULDBLOCK, "in use by another program");
	close(other);
	CU_ASSERT_TRUE(open_it() >= 0);
	/* And ours is ours. */
	CU_ASSERT_TRUE(tty_open(&o, reason, sizeof(reason)) < 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(reason, "in use"));
}

static void a_device_without_permission_is_refused(void)
{
	if (geteuid() == 0)
		return; /* root may */
	CU_ASSERT_EQUAL_FATAL(chmod(path, 0), 0);
	refused(-EACCES, "dialout");
}

static void only_standard_rates_are_valid(void)
{
	static const unsigned good[] = {300, 600, 1200, 2400, 4800, 9600, 19200,
		38400, 57600, 115200, 230400, 460800, 500000, 921600, 1000000,
		2000000, 3000000, 4000000};
	static const unsigned bad[] = {
		0, 1, 13, 50, 299, 9601, 14400, 250000, 4000001, 4294967295U};
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CU_ASSERT_TRUE(tty_baud_is_valid(good[i]));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_FALSE(tty_baud_is_valid(bad[i]));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"the descriptor does not block and is not inherited",
			the_descriptor_does_not_block_and_is_not_inherited},
		{"bytes pass as they are", bytes_pass_as_they_are},
		{"the rate is set", the_rate_is_set},
		{"flow and stop bits are set", flow_and_stop_bits_are_set},
		{"what the driver does not take is told",
			what_the_driver_does_not_take_is_told},
		{"what came before is still read",
			what_came_before_is_still_read},
		{"close throws away what it would wait for",
			close_throws_away_what_it_would_wait_for},
		{"close does not wait and what is sent arrives",
			close_does_not_wait_and_what_is_sent_arrives},
		{"a device that is not there is waited for",
			a_device_that_is_not_there_is_waited_for},
		{"what is no tty is refused", what_is_no_tty_is_refused},
		{"a device in use is refused", a_device_in_use_is_refused},
		{"a device without permission is refused",
			a_device_without_permission_is_refused},
		{"only standard rates are valid",
			only_standard_rates_are_valid},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"tty", NULL, NULL, set_up, tear_down, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
