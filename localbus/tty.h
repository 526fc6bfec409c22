#ifndef LOCALBUS_TTY_H
#define LOCALBUS_TTY_H

#include <stddef.h>

#include "base/scope.h"

/* Opening a tty and setting its line. */
enum serial_parity {
	SERIAL_PARITY_NONE,
	SERIAL_PARITY_EVEN,
	SERIAL_PARITY_ODD
};
enum serial_flow { SERIAL_FLOW_NONE, SERIAL_FLOW_RTSCTS, SERIAL_FLOW_XONXOFF };

struct tty_options {
	const char *device; /* path */
	unsigned baud;
	unsigned data_bits; /* 7, 8 */
	unsigned stop_bits; /* 1, 2 */
	enum serial_parity parity;
	enum serial_flow flow;
};

/* Open device without blocking, for us alone (flock), raw, with the line set.
 * What the kernel still holds from before is kept: it may be a record that
 * came while we were restarted.
 *
 * Returns the descriptor, the caller's; or -errno, and a text with what to do
 * in ret_reason.  ret_reason is also written, and the descriptor returned,
 * when the driver has not taken a setting (as a pty does not take parity);
 * else it is "". */
CHECKED int tty_open(
	const struct tty_options *o, char *ret_reason, size_t size);

/* Close fd without waiting: close(2) of a tty waits for what is not sent yet, up
 * to half a minute when its flow control has stopped it; so that is thrown
 * away first when it could take long. */
void tty_close(int fd, const struct tty_options *o);

/* Whether a tty can have this rate. */
int tty_baud_is_valid(unsigned baud);

#endif
