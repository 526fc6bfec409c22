/* See the header.  Knows the spool and MQTT; not what a topic means, not TLS,
 * not what is on the other side.
 *
 * Happy path: session_start() -> open_now() -> on_up(): subscribe, feed() ->
 * PUBACKs mark rows -> session_store() in the turn's commit -> feed().
 * Failure: on_down() puts the rows that are out back, arms the retry timer. */
#include "spool/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/now.h"
#include "base/turn.h"
#include "spool/db.h"
#include "spool/recent.h"
#include "spool/redial.h"
#include "spool/replay.h"
#include "spool/state.h"
#include "spool/subs.h"

#define CHECK_USEC USEC_PER_SEC
/* How long a removal may wait for a transaction that has to be made anyway.
 * It costs nothing but a repetition after a kill, within the window. */
#define LAZY_USEC (50 * USEC_PER_MSEC)
/* A connection that lasted so long was a good one: the next delay is short. */
#define STEADY_USEC (5 * USEC_PER_SEC)
/* Messages refused for good in a row, then it is not the messages. */
#define REFUSED_MAX 3
/* How long we wait, when stopping, for PUBACKs of what is out. */
#define DRAIN_USEC USEC_PER_SEC
/* A peer that does not even take our goodbye in this time is left without. */
#define GOODBYE_USEC (4 * USEC_PER_SEC)
#define TAKEN_OVER 0x8e /* MQTT 5, 3.14.2.1: session taken over */

struct session {
	sd_event *event;     /* borrowed */
	struct turn *turn;   /* borrowed */
	struct db *db;       /* borrowed */
	struct state *state; /* borrowed */
	const struct session_ops *ops;
	void *userdata;

	char *label;
	struct session_options options; /* its strings are not used */
	struct mqttio *io;
	struct replay *replay;
	struct recent *recent;
	struct subs *subs;

	bool is_wanted; /* started, not stopped or held */
	bool is_open;   /* from open to on_down */
	uint64_t up_since_usec;
	bool is_draining;            /* stopping: only PUBACKs are waited for */
	uint64_t closing_since_usec; /* DISCONNECT is queued; 0: it is not */
	uint64_t quiet_since_usec;   /* since when no PUBACK came */
	sd_event_source *check_timer;
	sd_event_source *lazy_timer; /* armed while removals wait */
	bool is_store_due;           /* they have waited long enough */
	struct redial *redial;
	char cut_reason[REDIAL_REASON_BYTES]; /* why we cut it ourselves */
	struct log_limit refusals;
	unsigned refused_in_row;
	struct { /* a message of ours, sent after PUBACKs of ours */
		unsigned mid; /* 0: none is out */
		uint64_t taken;
	} probe;
	char id_text[40];
};

static void open_now(struct session *s);

static void say_goodbye(struct session *s)
{
	s->is_draining = false;
	s->closing_since_usec = now_boot_usec();
	mqttio_close(s->io);
}

/* ---- giving out rows ---- */

static int send_row(
	void *userdata, int64_t id, const struct msg *msg, unsigned *ret_tag)
{
	struct session *s = userdata;
	int r;

	snprintf(s->id_text, sizeof(s->id_text), "%08" PRIx32 "-%" PRId64,
		state_epoch(s->state), id);
	r = mqttio_publish(
		s->io, msg, s->options.with_id ? s->id_text : NULL, ret_tag);
	if (r == -EMSGSIZE || r == -EINVAL) {
		log_limited(&s->refusals, LOG_LEVEL_ERROR,
			"%s: message %" PRId64 " on '%s' (%zu bytes) is %s: it "
			"is dropped",
			s->label, id, msg->topic, msg->payload_bytes,
			r == -EMSGSIZE ? "larger than the broker allows"
				       : "not allowed by MQTT");
		return REPLAY_SKIP;
	}
	if (r < 0) {
		snprintf(s->cut_reason, sizeof(s->cut_reason),
			"cannot send: %s; the messages are kept", strerror(-r));
		mqttio_cut(s->io);
		return r;
	}
	if (!s->probe.mid) {
		s->probe.mid = *ret_tag;
		s->probe.taken = recent_count(s->recent);
	}
	return 0;
}

/* A member of the turn that comes before the connection's own flush. */
static void feed(void *userdata)
{
	struct session *s = userdata;
	unsigned before;
	bool had_done;

	if (!s->io || !mqttio_is_up(s->io) || s->closing_since_usec)
		return;
	if (s->is_draining) {
		if (!replay_out(s->replay))
			say_goodbye(s);
		return;
	}
	before = replay_out(s->replay);
	had_done = replay_has_done(s->replay);
	if (replay_fill(s->replay, send_row, s) < 0) {
		snprintf(s->cut_reason, sizeof(s->cut_reason),
			"the spool cannot be read");
		mqttio_cut(s->io);
		return;
	}
	if (before == 0)
		s->quiet_since_usec = now_boot_usec();
	/* Rows that can never be sent are dropped on the way, and may fill the
	 * window: no PUBACK will bring the turn that removes them. */
	if (!had_done && replay_has_done(s->replay))
		turn_due(s->turn, 0);
}

int session_subscribe(struct session *s, char *const *filters, size_t n)
{
	int r = subs_want(s->subs, filters, n);

	if (r == 0 && mqttio_is_up(s->io))
		subs_apply(s->subs, s->io);
	return r;
}

/* ---- the connection's events ---- */

static void on_up(void *userdata, const struct mqttio_up *up)
{
	struct session *s = userdata;

	s->up_since_usec = now_boot_usec();
	s->quiet_since_usec = s->up_since_usec;
	s->refused_in_row = 0;
	s->probe.mid = 0;
	recent_resume(s->recent, up->session_present);
	if (up->max_qos < 1) {
		snprintf(s->cut_reason, sizeof(s->cut_reason),
			"the broker does not take QoS 1, so it could not "
			"confirm anything: allow QoS 1 there; messages are "
			"kept");
		mqttio_cut(s->io);
		return;
	}
	log_info("%s: connected%s", s->label,
		up->session_present ? ", session resumed" : ", new session");
	redial_up(s->redial);
	replay_limit(s->replay, up->send_maximum);
	sd_event_source_set_time_relative(s->check_timer, CHECK_USEC);
	sd_event_source_set_enabled(s->check_timer, SD_EVENT_ON);
	subs_apply(s->subs, s->io);
	s->ops->on_change(s->userdata);
}

static void on_message(void *userdata, const struct mqttio_message *m)
{
	struct session *s = userdata;

	if (m->is_repeat && recent_is_repeated(s->recent, m->mid, &m->msg)) {
		log_debug("%s: '%s' is a repetition, already stored", s->label,
			m->msg.topic);
		return;
	}
	if (s->ops->on_message(s->userdata, &m->msg))
		recent_add(s->recent, m->mid, &m->msg);
}

/* A PUBACK that says no for good: one message may be at fault, but when several
 * in a row are refused it is our rights, and the backlog must not be lost over
 * a slip in a policy. */
static void on_refusal(struct session *s, unsigned mid, int reason)
{
	const char *why =
		reason == 0x87 ? ", not authorised: check its policy" : "";

	if (++s->refused_in_row >= REFUSED_MAX) {
		snprintf(s->cut_reason, sizeof(s->cut_reason),
			"the broker refuses all that we send (reason "
			"0x%02x%s); messages are kept",
			(unsigned)reason, why);
		mqttio_cut(s->io);
		return;
	}
	log_limited(&s->refusals, LOG_LEVEL_ERROR,
		"%s: the broker refused a message for good (reason 0x%02x%s): "
		"it is dropped",
		s->label, (unsigned)reason, why);
	replay_ack(s->replay, mid, true);
}

/* MQTT 5, 3.4.2.1: a PUBACK may say no. */
static void on_puback(void *userdata, unsigned mid, int reason)
{
	struct session *s = userdata;

	s->quiet_since_usec = now_boot_usec();
	/* The broker has read all that we wrote before this message. */
	if (mid == s->probe.mid) {
		recent_confirm(s->recent, s->probe.taken);
		s->probe.mid = 0;
	}
	switch (reason) {
	case 0x80: /* unspecified error */
	case 0x83: /* implementation specific error */
	case 0x97: /* quota exceeded */
		snprintf(s->cut_reason, sizeof(s->cut_reason),
			"the broker does not take messages now (reason 0x%02x); "
			"they are kept and sent again",
			(unsigned)reason);
		mqttio_cut(s->io);
		return;
	default:
		break;
	}
	if (reason >= 0x80) {
		on_refusal(s, mid, reason);
		return;
	}
	s->refused_in_row = 0;
	replay_ack(s->replay, mid, false);
}

static void on_suback(void *userdata, unsigned mid, int granted)
{
	struct session *s = userdata;

	subs_on_suback(s->subs, mid, granted);
}

static void on_down(void *userdata, const struct mqttio_loss *loss)
{
	struct session *s = userdata;
	char why[REDIAL_REASON_BYTES];

	s->is_open = false;
	s->is_draining = false;
	if (loss->was_up && now_boot_usec() - s->up_since_usec >= STEADY_USEC)
		redial_reset(s->redial);
	sd_event_source_set_enabled(s->check_timer, SD_EVENT_OFF);
	replay_restart(s->replay);
	if (!s->is_wanted) {
		log_info("%s: disconnected", s->label);
		s->ops->on_change(s->userdata);
		return;
	}
	if (s->cut_reason[0])
		strcpy(why, s->cut_reason);
	else
		s->ops->explain(s->userdata, loss, why, sizeof(why));
	s->cut_reason[0] = '\0';
	redial_later(s->redial, why,
		loss->cause == MQTTIO_DISCONNECT && loss->code == TAKEN_OVER);
	s->ops->on_change(s->userdata);
}

static const struct mqttio_ops io_ops = {
	.on_up = on_up,
	.on_message = on_message,
	.on_puback = on_puback,
	.on_suback = on_suback,
	.on_down = on_down,
};

/* ---- timers ---- */

/* A half-open connection: all is written, and no PUBACK comes. */
static int on_check(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct session *s = userdata;
	uint64_t now = now_boot_usec();

	sd_event_source_set_time(source, usec + CHECK_USEC);
	if (s->is_draining) {
		say_goodbye(s);
		return 0;
	}
	if (s->closing_since_usec) {
		if (now - s->closing_since_usec >= GOODBYE_USEC)
			mqttio_cut(s->io);
		return 0;
	}
	/* While the link is still taking bytes, the kernel watches it. */
	if (!replay_out(s->replay) || !mqttio_is_flushed(s->io))
		s->quiet_since_usec = now;
	if (now - s->quiet_since_usec <= s->options.ack_timeout_usec)
		return 0;
	snprintf(s->cut_reason, sizeof(s->cut_reason),
		"no acknowledgement for %.0f s: the connection is dead",
		(double)s->options.ack_timeout_usec / 1e6);
	mqttio_cut(s->io);
	return 0;
}

static void on_due(void *userdata)
{
	struct session *s = userdata;

	if (s->is_wanted && !s->is_open)
		open_now(s);
}

static int on_lazy(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct session *s = userdata;

	(void)source;
	(void)usec;
	s->is_store_due = true;
	turn_due(s->turn, 0);
	return 0;
}

static void open_now(struct session *s)
{
	struct mqttio_options o = {
		.label = s->label,
		.send_maximum = s->options.window,
		.receive_maximum = s->options.receive_window,
		.lockstep = s->options.lockstep,
	};
	char why[REDIAL_REASON_BYTES];
	int r = s->ops->prepare(s->userdata, &o, why, sizeof(why));

	s->cut_reason[0] = '\0';
	s->closing_since_usec = 0;
	if (r == 0) {
		r = mqttio_open(s->io, &o);
		if (r < 0)
			snprintf(why, sizeof(why),
				"cannot start to connect: %s", strerror(-r));
	}
	if (r < 0) {
		redial_later(s->redial, why, false);
		s->ops->on_change(s->userdata);
		return;
	}
	s->is_open = true;
}

/* ---- the interface ---- */

static int add_timers(struct session *s)
{
	int r;

	r = sd_event_add_time_relative(s->event, &s->check_timer,
		CLOCK_BOOTTIME, CHECK_USEC, 250 * USEC_PER_MSEC, on_check, s);
	if (r < 0)
		return r;
	sd_event_source_set_description(s->check_timer, "session-check");
	sd_event_source_set_enabled(s->check_timer, SD_EVENT_OFF);
	r = sd_event_add_time_relative(s->event, &s->lazy_timer, CLOCK_BOOTTIME,
		LAZY_USEC, LAZY_USEC / 5, on_lazy, s);
	if (r < 0)
		return r;
	sd_event_source_set_description(s->lazy_timer, "session-lazy");
	return sd_event_source_set_enabled(s->lazy_timer, SD_EVENT_OFF);
}

int session_new(struct sd_event *event, struct turn *turn, struct db *db,
	struct state *state, struct session **ret_session)
{
	SCOPED(session_freep) struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->event = event;
	s->turn = turn;
	s->db = db;
	s->state = state;
	r = add_timers(s);
	if (r == 0)
		r = turn_join(turn, feed, s); /* before the io's flush */
	if (r == 0)
		r = mqttio_new(event, turn, &io_ops, s, &s->io);
	if (r < 0)
		return r;
	*ret_session = TAKE(s);
	return 0;
}

int session_set_up(struct session *s, const struct session_options *o,
	const struct session_ops *ops, void *userdata)
{
	char key[64];
	int r;

	s->ops = ops;
	s->userdata = userdata;
	s->label = strdup(o->label);
	if (!s->label)
		return -ENOMEM;
	snprintf(key, sizeof(key), "recent.%s", o->label);
	r = recent_new(s->state, key, o->repeat_window, &s->recent);
	if (r == 0)
		r = subs_new(s->state, o->label, &s->subs);
	if (r == 0)
		r = replay_new(s->db, s->state, o->dest, o->window, &s->replay);
	if (r == 0)
		r = redial_new(s->event, o->label, o->retry_min_usec,
			o->retry_max_usec, on_due, s, &s->redial);
	if (r < 0)
		return r;
	s->options = *o;
	return 0;
}

struct session *session_free(struct session *s)
{
	if (!s)
		return NULL;
	s->io = mqttio_free(s->io);
	sd_event_source_disable_unref(s->check_timer);
	sd_event_source_disable_unref(s->lazy_timer);
	replay_free(s->replay);
	recent_free(s->recent);
	subs_free(s->subs);
	redial_free(s->redial);
	free(s->label);
	free(s);
	return NULL;
}

void session_start(struct session *s)
{
	s->is_wanted = true;
	s->is_draining = false;
	if (s->is_open)
		return;
	redial_trying(s->redial);
	open_now(s);
}

static void stay_away(struct session *s, const char *reason)
{
	s->is_wanted = false;
	redial_never(s->redial, reason);
}

void session_stop(struct session *s)
{
	stay_away(s, "stopped");
	if (!s->is_open)
		return;
	if (!mqttio_is_up(s->io) || !replay_out(s->replay)) {
		say_goodbye(s);
		return;
	}
	s->is_draining = true;
	sd_event_source_set_time_relative(s->check_timer, DRAIN_USEC);
}

void session_hold(struct session *s)
{
	stay_away(s, "held: the spool is full");
	if (s->is_open)
		mqttio_cut(s->io);
}

void session_cut(struct session *s, const char *reason)
{
	if (!s->is_open)
		return;
	snprintf(s->cut_reason, sizeof(s->cut_reason), "%s", reason);
	mqttio_cut(s->io);
}

void session_reconnect(struct session *s)
{
	redial_reset(s->redial);
	if (!s->is_wanted)
		return;
	if (!s->is_open) {
		session_start(s);
		return;
	}
	snprintf(s->cut_reason, sizeof(s->cut_reason),
		"the configuration has changed");
	say_goodbye(s);
}

void session_set_limits(struct session *s, const struct session_options *o)
{
	s->options.ack_timeout_usec = o->ack_timeout_usec;
	redial_set_limits(s->redial, o->retry_min_usec, o->retry_max_usec);
	s->options.with_id = o->with_id;
	s->options.window = o->window;
}

bool session_is_up(const struct session *s)
{
	return mqttio_is_up(s->io);
}

bool session_is_closed(const struct session *s)
{
	return !s->is_open;
}

bool session_is_trying(const struct session *s)
{
	return s->is_wanted && s->is_open && !mqttio_is_up(s->io);
}

const char *session_reason(const struct session *s)
{
	return redial_reason(s->redial);
}

uint64_t session_next_try_usec(const struct session *s)
{
	return redial_next_usec(s->redial);
}

uint64_t session_backlog(struct session *s)
{
	return replay_backlog(s->replay);
}

/* Whether the removals may wait for the next turn that has something to
 * store.  The window counts them as long as they wait, so they cannot become
 * many; once it is full they must not wait, or nothing would go out, and the
 * peer's next PUBACKs may wait (Nagle) for a segment of ours. */
static bool may_wait(struct session *s)
{
	bool is_armed = false;
	int state;

	if (s->is_store_due || !s->is_wanted || db_is_in_transaction(s->db) ||
		replay_is_full(s->replay))
		return false;
	if (sd_event_source_get_enabled(s->lazy_timer, &state) >= 0)
		is_armed = state != SD_EVENT_OFF;
	if (!is_armed && replay_has_done(s->replay)) {
		sd_event_source_set_time_relative(s->lazy_timer, LAZY_USEC);
		sd_event_source_set_enabled(s->lazy_timer, SD_EVENT_ONESHOT);
	}
	return true;
}

int session_store(struct session *s)
{
	int r = recent_store(s->recent);

	if (r || may_wait(s))
		return r;
	return replay_store(s->replay);
}

int session_store_removals(struct session *s)
{
	return replay_store(s->replay);
}

void session_stored(struct session *s)
{
	replay_stored(s->replay);
	if (replay_has_done(s->replay))
		return;
	s->is_store_due = false;
	sd_event_source_set_enabled(s->lazy_timer, SD_EVENT_OFF);
}

int session_rolled_back(struct session *s)
{
	return recent_reload(s->recent);
}
