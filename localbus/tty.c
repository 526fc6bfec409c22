/* termios, in one place. */
#include "localbus/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const struct {
	unsigned baud;
	speed_t speed;
} speeds[] = {
	{300, B300},
	{600, B600},
	{1200, B1200},
	{2400, B2400},
	{4800, B4800},
	{9600, B9600},
	{19200, B19200},
	{38400, B38400},
	{57600, B57600},
	{115200, B115200},
	{230400, B230400},
	{460800, B460800},
	{500000, B500000},
	{921600, B921600},
	{1000000, B1000000},
	{2000000, B2000000},
	{3000000, B3000000},
	{4000000, B4000000},
};

static speed_t to_speed(unsigned baud)
{
	size_t i;

	for (i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++)
		if (speeds[i].baud == baud)
			return speeds[i].speed;
	return B0;
}

int tty_baud_is_valid(unsigned baud)
{
	return to_speed(baud) != B0;
}

static void fill(struct termios *t, const struct tty_options *o)
{
	cfmakeraw(t);
	t->c_cflag &= ~(tcflag_t)(CSIZE | CSTOPB | PARENB | PARODD | CRTSCTS);
	t->c_cflag |= CREAD | CLOCAL; /* modem lines say nothing here */
	t->c_cflag |= o->data_bits == 7 ? CS7 : CS8;
	if (o->stop_bits == 2)
		t->c_cflag |= CSTOPB;
	if (o->parity != SERIAL_PARITY_NONE) {
		t->c_cflag |= PARENB;
		t->c_iflag |= INPCK | IGNPAR; /* a wrong byte is left out */
	}
	if (o->parity == SERIAL_PARITY_ODD)
		t->c_cflag |= PARODD;
	if (o->flow == SERIAL_FLOW_RTSCTS)
		t->c_cflag |= CRTSCTS;
	if (o->flow == SERIAL_FLOW_XONXOFF)
		t->c_iflag |= IXON | IXOFF;
	t->c_iflag |= IGNBRK;
	t->c_cc[VMIN] = 1;
	t->c_cc[VTIME] = 0;
	cfsetispeed(t, to_speed(o->baud));
	cfsetospeed(t, to_speed(o->baud));
}

/* tcsetattr() succeeds when it could set anything at all (POSIX); glibc's says
 * EINVAL all the same if that leaves out the parity or the size. */
static int set_line(
	int fd, const struct tty_options *o, char *reason, size_t size)
{
	const tcflag_t mask = CSIZE | CSTOPB | PARENB | PARODD | CRTSCTS;
	struct termios want;
	struct termios have;

	if (tcgetattr(fd, &want) < 0)
		return -errno;
	fill(&want, o);
	if (tcsetattr(fd, TCSANOW, &want) < 0 && errno != EINVAL)
		return -errno;
	if (tcgetattr(fd, &have) < 0)
		return -errno;
	if ((have.c_lflag & (ICANON | ECHO)) || (have.c_oflag & OPOST))
		return -EINVAL; /* not even raw */
	if ((want.c_cflag & mask) != (have.c_cflag & mask) ||
		cfgetospeed(&want) != cfgetospeed(&have))
		snprintf(reason, size,
			"its driver did not take all of baud, data_bits, "
			"parity, stop_bits and flow");
	return 0;
}

static const char *open_remedy(int err)
{
	switch (err) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		return "not there; it is opened when it comes";
	case EACCES:
		return "no permission; the user gatewayd must be in the "
		       "device's group, dialout as a rule";
	case EBUSY:
	case EWOULDBLOCK:
		return "in use by another program";
	case ENOTTY:
		return "this is no serial device; correct `device`";
	default:
		return strerror(err);
	}
}

static int take(int fd, const struct tty_options *o, char *reason, size_t size)
{
	if (!isatty(fd))
		return -ENOTTY;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return set_line(fd, o, reason, size);
}

int tty_open(const struct tty_options *o, char *ret_reason, size_t size)
{
	int fd = open(o->device, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int r;

	ret_reason[0] = '\0';
	r = fd < 0 ? -errno : take(fd, o, ret_reason, size);
	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	snprintf(ret_reason, size, "%s", open_remedy(-r));
	return r;
}

/* At 10 bits a byte; a line of a slow device is a matter of this. */
#define CLOSE_WAIT_MSEC 200

void tty_close(int fd, const struct tty_options *o)
{
	int pending = 0;

	if (ioctl(fd, TIOCOUTQ, &pending) == 0 && pending > 0 &&
		(o->flow != SERIAL_FLOW_NONE ||
			(uint64_t)pending * 10 * 1000 / o->baud >
				CLOSE_WAIT_MSEC))
		tcflush(fd, TCOFLUSH);
	close(fd);
}
