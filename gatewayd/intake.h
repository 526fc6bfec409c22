#ifndef GATEWAYD_INTAKE_H
#define GATEWAYD_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/msg.h"
#include "base/scope.h"

struct db;
struct ports;
struct route;
struct state;

/* What comes in from either side: routed, and put into the transaction of the
 * turn; or dropped for good, counted and logged; or refused since there is no
 * room, so that it must come again.
 *
 * One thread. */
struct intake;

/* What has happened since the last intake_next_turn(). */
struct intake_turn {
	bool is_refused;      /* something did not fit: hold the intake */
	bool is_down_refused; /* the same from the cloud: come back later */
	bool is_broken;       /* a push met a full disk: roll back */
	bool has_local;       /* something of a device was dealt with */
	bool has_up;   /* something for the cloud is in the transaction */
	bool has_down; /* something came from the cloud */
	int error;     /* -errno: this process must end and look again */
};

/* db, state and ports are borrowed and outlive it.  max_bytes: of the spool.
 * 0 or -errno. */
CHECKED int intake_new(struct db *db, struct state *state, struct ports *ports,
	uint64_t max_bytes, struct intake **ret_intake);

struct intake *intake_free(struct intake *i);
DEFINE_SCOPED(struct intake *, intake_free);

/* The routes in force; borrowed until the next call. */
void intake_set_route(struct intake *i, const struct route *route);

/* A message from a device; from: "local" or "serial", for the log.  True: dealt
 * with, so it may be acknowledged after the commit.  False: it must come
 * again. */
CHECKED bool intake_up(
	struct intake *i, const char *from, const struct msg *msg);

/* A line from a tty: it cannot come again, so what does not fit is dropped. */
void intake_record(struct intake *i, const struct msg *msg);

/* A message from the cloud.  As intake_up(). */
CHECKED bool intake_down(struct intake *i, const struct msg *msg);

/* Drop what waits for serial devices that `ports` does not have. */
void intake_forget_ports(struct intake *i);

/* The turn's transaction was rolled back, and the counters are as before it:
 * what cannot come again is counted.  Or it is committed. */
void intake_rolled_back(struct intake *i);
void intake_stored(struct intake *i);

/* Refuse all that comes from devices, or take it again. */
void intake_hold(struct intake *i, bool is_held);

/* Whether so much room is free that it is worth while to take again. */
bool intake_has_room(const struct intake *i);

const struct intake_turn *intake_turn(const struct intake *i);
void intake_next_turn(struct intake *i);

#endif
