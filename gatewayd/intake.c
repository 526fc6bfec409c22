/* Routing and storing.  Knows routes and the spool; not connections, not what
 * is done when the spool is full: that is daemon.c. */
#include "gatewayd/intake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gatewayd/ports.h"
#include "gatewayd/route.h"
#include "spool/db.h"
#include "spool/queue.h"
#include "spool/state.h"

/* Kept free of what goes up, so that commands still get in and every removal
 * finds room. */
#define RESERVE_MAX_BYTES (4 << 20)
/* What a row costs beside topic and payload, roughly. */
#define ROW_BYTES 128
/* Messages that may wait for one serial device, and for the local broker: no
 * cloud needs more, and neither a cloud gone wrong nor a device that is away
 * may fill the disk or stop the others. */
#define DOWN_MAX_SERIAL 1000
#define DOWN_MAX_BROKER 10000

struct intake {
	struct db *db;             /* borrowed */
	struct state *state;       /* borrowed */
	struct ports *ports;       /* borrowed */
	const struct route *route; /* borrowed */
	struct queue *queue;
	uint64_t max_bytes;
	bool is_held;
	struct intake_turn turn;
	bool is_room_known; /* in this turn */
	uint64_t room_bytes;
	uint64_t n_records; /* taken from ttys in this turn */
	uint64_t n_lost;    /* of earlier ones, rolled back and not noted yet */
	struct log_limit refusals;
	char topic[ROUTE_TOPIC_BYTES];
};

int intake_new(struct db *db, struct state *state, struct ports *ports,
	uint64_t max_bytes, struct intake **ret_intake)
{
	SCOPED(intake_freep) struct intake *i = calloc(1, sizeof(*i));
	int r;

	if (!i)
		return -ENOMEM;
	i->db = db;
	i->state = state;
	i->ports = ports;
	i->max_bytes = max_bytes;
	r = queue_new(db, state, &i->queue);
	if (r < 0)
		return r;
	*ret_intake = TAKE(i);
	return 0;
}

struct intake *intake_free(struct intake *i)
{
	if (!i)
		return NULL;
	i->queue = queue_free(i->queue);
	free(i);
	return NULL;
}

void intake_set_route(struct intake *i, const struct route *route)
{
	i->route = route;
}

static uint64_t reserve_bytes(const struct intake *i)
{
	uint64_t part = i->max_bytes / 16;

	return part < RESERVE_MAX_BYTES ? part : RESERVE_MAX_BYTES;
}

bool intake_has_room(const struct intake *i)
{
	return db_free_bytes(i->db) >= 2 * reserve_bytes(i);
}

/* Whether `bytes` more fit; asks the database once a turn. */
static bool take_room(struct intake *i, size_t bytes)
{
	if (!i->is_room_known) {
		uint64_t free_bytes = db_free_bytes(i->db);
		uint64_t reserve = reserve_bytes(i);

		i->is_room_known = true;
		i->room_bytes = free_bytes > reserve ? free_bytes - reserve : 0;
	}
	if (i->room_bytes < bytes + ROW_BYTES)
		return false;
	i->room_bytes -= bytes + ROW_BYTES;
	return true;
}

/* For good: counted and logged. */
static void drop(
	struct intake *i, const char *from, const char *topic, const char *why)
{
	state_count(i->state, STATE_REFUSED, 1);
	log_limited(&i->refusals, LOG_LEVEL_WARNING,
		"%s: message on '%s' is dropped: %s", from, topic, why);
}

static const char *outcome_text(int outcome)
{
	switch (outcome) {
	case ROUTE_NONE:
		return "no route takes this topic";
	case ROUTE_BAD_DEVICE:
		return "it does not name a device where its route wants one";
	case ROUTE_BAD_TOPIC:
		return "such a topic may not pass";
	default:
		return "the topic is too long";
	}
}

/* Half of the spool: what is larger might never find room, and would hold up
 * all that comes after it. */
static bool is_too_large(const struct intake *i, size_t bytes)
{
	return bytes + ROW_BYTES > i->max_bytes / 2;
}

/* What a push has returned: true when the message is stored. */
static bool is_stored(struct intake *i, int r)
{
	if (r == QUEUE_FULL)
		i->turn.is_broken = true;
	else if (r < 0)
		i->turn.error = r;
	return r == 0;
}

bool intake_up(struct intake *i, const char *from, const struct msg *msg)
{
	struct msg out = *msg;
	size_t bytes;
	int64_t id;
	int r;

	if (i->turn.is_refused || i->is_held)
		return false;
	i->turn.has_local = true;
	r = route_up(i->route, msg->topic, i->topic, sizeof(i->topic));
	if (r) {
		drop(i, from, msg->topic, outcome_text(r));
		return true;
	}
	bytes = strlen(i->topic) + msg->payload_bytes;
	if (is_too_large(i, bytes)) {
		drop(i, from, msg->topic,
			"it is larger than half of spool.max_size");
		return true;
	}
	if (!take_room(i, bytes)) {
		i->turn.is_refused = true;
		return false;
	}
	out.topic = i->topic;
	i->turn.has_up = true;
	if (is_stored(i, queue_push_up(i->queue, &out, &id)))
		return true;
	i->turn.is_refused = true;
	return false;
}

void intake_record(struct intake *i, const struct msg *msg)
{
	i->n_records++;
	if (!intake_up(i, "serial", msg))
		drop(i, "serial", msg->topic, "the spool is full");
}

/* Whether one more message may wait for dest. */
static bool may_wait(struct intake *i, const char *dest)
{
	int max = *dest ? DOWN_MAX_SERIAL : DOWN_MAX_BROKER;
	uint64_t all = state_counter(i->state, STATE_DOWN_ACCEPTED) -
		state_counter(i->state, STATE_DOWN_DELIVERED) -
		state_counter(i->state, STATE_DOWN_DROPPED);
	int n;

	if (all < DOWN_MAX_SERIAL)
		return true; /* so no need to count */
	n = queue_count_down(i->queue, dest, max);
	if (n < 0)
		i->turn.error = n;
	return n < max;
}

/* Why the message can never be stored; NULL: it can. */
static const char *down_trouble(
	struct intake *i, const char *dest, const struct msg *msg, size_t bytes)
{
	if (msg->payload_bytes > MSG_DOWN_MAX_BYTES)
		return "it is larger than 1 MiB";
	if (is_too_large(i, bytes))
		return "it is larger than half of spool.max_size";
	if (!may_wait(i, dest))
		return "too many messages wait for this device";
	return NULL;
}

bool intake_down(struct intake *i, const struct msg *msg)
{
	char device[ROUTE_DEVICE_BYTES] = "";
	struct msg out = *msg;
	const char *dest;
	const char *why;
	size_t bytes;
	int64_t id;
	int r;

	i->turn.has_down = true;
	if (i->turn.is_down_refused)
		return false;
	r = route_down(i->route, msg->topic, &out.topic, device);
	if (r) {
		drop(i, "cloud", msg->topic, outcome_text(r));
		return true;
	}
	dest = ports_has(i->ports, device) ? device : ""; /* the broker */
	bytes = strlen(out.topic) + msg->payload_bytes;
	why = down_trouble(i, dest, msg, bytes);
	if (why) {
		drop(i, "cloud", msg->topic, why);
		return true;
	}
	/* The reserve is for these, but not to the last block. */
	if (db_free_bytes(i->db) < bytes + reserve_bytes(i) / 4) {
		i->turn.is_down_refused = true;
		return false;
	}
	return is_stored(i, queue_push_down(i->queue, dest, &out, &id));
}

static bool is_wanted(void *userdata, const char *dest)
{
	const struct intake *i = userdata;

	return ports_has(i->ports, dest);
}

void intake_forget_ports(struct intake *i)
{
	int r = queue_drop_unwanted(i->queue, is_wanted, i);

	if (r > 0)
		log_warning("serial: %d messages for devices that are no "
			    "longer configured are dropped",
			r);
	else if (r < 0 && r != -ENOSPC)
		i->turn.error = r;
}

void intake_rolled_back(struct intake *i)
{
	i->n_lost += i->n_records;
	i->n_records = 0;
	if (!i->n_lost)
		return;
	state_count(i->state, STATE_REFUSED, i->n_lost);
	log_limited(&i->refusals, LOG_LEVEL_WARNING,
		"serial: %llu lines are dropped: the disk is full",
		(unsigned long long)i->n_lost);
}

void intake_stored(struct intake *i)
{
	i->n_records = 0;
	i->n_lost = 0;
}

void intake_hold(struct intake *i, bool is_held)
{
	i->is_held = is_held;
}

const struct intake_turn *intake_turn(const struct intake *i)
{
	return &i->turn;
}

void intake_next_turn(struct intake *i)
{
	memset(&i->turn, 0, sizeof(i->turn));
	i->is_room_known = false;
}
