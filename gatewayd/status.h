#ifndef GATEWAYD_STATUS_H
#define GATEWAYD_STATUS_H

#include <stdint.h>

struct state;
struct uplink;

/* The STATUS line that `systemctl status gatewayd` shows: is it up, is
 * anything waiting, is it moving.  Its form is described in gatewayd(8). */
struct status {
	uint64_t since_usec;  /* of the rate's interval */
	uint64_t since_count; /* messages accepted at that time */
	double rate;
	char sent[768]; /* the line that systemd has */
};

/* Tell systemd, if the line has changed.  full: the intake is held since the
 * spool is full. */
void status_send(struct status *s, struct uplink *uplink,
	const struct state *state, int full);

#endif
