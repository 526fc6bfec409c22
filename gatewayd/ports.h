#ifndef GATEWAYD_PORTS_H
#define GATEWAYD_PORTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/msg.h"
#include "base/scope.h"

struct conf;
struct db;
struct sd_event;
struct state;
struct turn;

/* The serial devices: each a tty (localbus/serial.h) and the rows that wait for
 * it (spool/replay.h), one line at a time.  A row is forgotten when its line
 * has been written whole. */
struct ports;

struct ports_ops {
	/* A record came from the device; topic is the one configured.
	 * Borrowed for the call. */
	void (*on_record)(void *userdata, const struct msg *msg);
};

/* event to ops are borrowed and outlive it.  0 or -errno. */
CHECKED int ports_new(struct sd_event *event, struct turn *turn, struct db *db,
	struct state *state, struct ports **ret_ports);

struct ports *ports_free(struct ports *p);
DEFINE_SCOPED(struct ports *, ports_free);

/* Have the devices of conf: new ones are opened, gone ones closed, changed ones
 * opened anew; the others are not touched.  Copied.  0 or -errno. */
CHECKED int ports_configure(struct ports *p, const struct conf *conf,
	const struct ports_ops *ops, void *userdata);

/* Whether a serial device has this name. */
bool ports_has(const struct ports *p, const char *name);

/* Stop reading, or go on: records that cannot be stored stay in the tty. */
void ports_pause(struct ports *p, bool is_paused);

/* Close all; rows stay. */
void ports_close(struct ports *p);

/* For the turn's commit, as in spool/replay.h. */
CHECKED int ports_store(struct ports *p);
void ports_stored(struct ports *p);

/* Whether lines were dropped that ports_store() has not counted yet. */
bool ports_have_losses(const struct ports *p);

#endif
