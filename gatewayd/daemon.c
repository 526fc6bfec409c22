/* The wiring: who tells whom.  bridge and localbus do not know each other; what
 * comes in by one is stored here for the other.
 *
 * The data path: on_local() and on_record() route a message and push it into
 * the transaction of the turn; on_cloud() does the same downwards; commit()
 * makes the turn durable; only then do acknowledgements and messages leave
 * (base/turn.h).
 *
 * When the spool is full: what was stored is committed, the local connection
 * is dropped without the PUBACKs of the rest (the broker keeps it and sends it
 * again), and the intake is held until there is room. */
#include "gatewayd/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/now.h"
#include "base/retry.h"
#include "base/turn.h"
#include "bridge/uplink.h"
#include "gatewayd/conf.h"
#include "gatewayd/ports.h"
#include "gatewayd/route.h"
#include "gatewayd/status.h"
#include "localbus/mqtt.h"
#include "spool/db.h"
#include "spool/queue.h"
#include "spool/session.h"
#include "spool/state.h"

#define TICK_USEC USEC_PER_SEC
/* Between SIGTERM and the end, whatever the peers do; systemd waits for 10. */
#define STOP_USEC (3 * USEC_PER_SEC)
/* While the spool is full: between two looks whether there is room. */
#define HOLD_MIN_USEC USEC_PER_SEC
#define HOLD_MAX_USEC (10 * USEC_PER_SEC)
/* Kept free of what goes up, so that commands still get in and every removal
 * finds room. */
#define RESERVE_MAX_BYTES (4 << 20)
/* What a row costs beside topic and payload, roughly. */
#define ROW_BYTES 128
/* Messages for devices that may wait: no cloud needs more, and a cloud gone
 * wrong must not fill the disk. */
#define DOWN_MAX 10000

struct daemon {
	char *config;
	struct conf *conf;
	sd_event *event;
	struct turn *turn;
	struct db *db;
	struct state *state;
	struct queue *queue;
	struct route *route;
	struct mqtt *mqtt;
	struct uplink *uplink;
	struct ports *ports;
	struct status status;
	sd_event_source *tick;

	struct {
		uint64_t room_bytes; /* left for this turn; 0: look again */
		bool is_known;
		bool is_refused; /* something did not fit: hold the intake */
		bool is_broken;  /* a push met a full disk: roll back */
		bool has_up;     /* something for the cloud is in it */
		bool has_down;   /* something of the cloud is in it */
	} intake;
	bool is_held;
	uint64_t held_until_usec;
	struct retry hold;

	bool is_stopping;
	uint64_t stop_usec;
	struct log_limit refusals;
	struct log_limit fullness;
	char topic[ROUTE_TOPIC_BYTES];
};

/* ---- storing what comes in ---- */

static uint64_t reserve_bytes(const struct daemon *d)
{
	uint64_t part = d->conf->spool.max_bytes / 16;

	return part < RESERVE_MAX_BYTES ? part : RESERVE_MAX_BYTES;
}

/* Whether `bytes` more fit; asks the database once a turn. */
static bool has_room(struct daemon *d, size_t bytes)
{
	if (!d->intake.is_known) {
		uint64_t free_bytes = db_free_bytes(d->db);
		uint64_t reserve = reserve_bytes(d);

		d->intake.is_known = true;
		d->intake.room_bytes =
			free_bytes > reserve ? free_bytes - reserve : 0;
	}
	if (d->intake.room_bytes < bytes + ROW_BYTES)
		return false;
	d->intake.room_bytes -= bytes + ROW_BYTES;
	return true;
}

/* The disk or the file said no: this process must end and look again. */
static void fail(struct daemon *d, const char *what)
{
	log_error("spool: %s failed: nothing is acknowledged any more; "
		  "restarting to read the disk afresh",
		what);
	sd_event_exit(d->event, EXIT_FAILURE);
}

static void refuse(struct daemon *d, const char *from, const char *topic,
	const char *why)
{
	state_count(d->state, STATE_REFUSED, 1);
	log_limited(&d->refusals, LOG_LEVEL_WARNING,
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
static bool is_too_large(const struct daemon *d, size_t bytes)
{
	return bytes + ROW_BYTES > d->conf->spool.max_bytes / 2;
}

/* True when it is dealt with: stored, or dropped for good and counted.  False:
 * it must come again. */
static bool store_up(struct daemon *d, const char *from, const struct msg *in)
{
	struct msg out = *in;
	size_t bytes;
	int64_t id;
	int r;

	if (d->intake.is_refused || d->is_held)
		return false;
	r = route_up(d->route, in->topic, d->topic, sizeof(d->topic));
	if (r) {
		refuse(d, from, in->topic, outcome_text(r));
		return true;
	}
	bytes = strlen(d->topic) + in->payload_bytes;
	if (is_too_large(d, bytes)) {
		refuse(d, from, in->topic,
			"it is larger than half of spool.max_size");
		return true;
	}
	if (!has_room(d, bytes)) {
		d->intake.is_refused = true;
		return false;
	}
	out.topic = d->topic;
	d->intake.has_up = true;
	r = queue_push_up(d->queue, &out, &id);
	if (r == QUEUE_FULL)
		d->intake.is_refused = d->intake.is_broken = true;
	else if (r < 0)
		fail(d, "storing a message");
	return r == 0;
}

static bool on_local(void *userdata, const struct msg *msg)
{
	return store_up(userdata, "local", msg);
}

/* A tty has no acknowledgement: what does not fit is lost, and counted. */
static void on_record(void *userdata, const struct msg *msg)
{
	struct daemon *d = userdata;

	if (!store_up(d, "serial", msg))
		refuse(d, "serial", msg->topic, "the spool is full");
	turn_due(d->turn, 1);
}

static uint64_t down_backlog(const struct daemon *d)
{
	return state_counter(d->state, STATE_DOWN_ACCEPTED) -
	       state_counter(d->state, STATE_DOWN_DELIVERED) -
	       state_counter(d->state, STATE_DOWN_DROPPED);
}

static bool on_cloud(void *userdata, const struct msg *in)
{
	struct daemon *d = userdata;
	char device[ROUTE_DEVICE_BYTES] = "";
	struct msg out = *in;
	int64_t id;
	int r = route_down(d->route, in->topic, &out.topic, device);

	d->intake.has_down = true;
	if (r) {
		refuse(d, "cloud", in->topic, outcome_text(r));
		return true;
	}
	if (down_backlog(d) >= DOWN_MAX) {
		refuse(d, "cloud", in->topic,
			"too many messages wait for devices");
		return true;
	}
	r = queue_push_down(d->queue, ports_has(d->ports, device) ? device : "",
		&out, &id);
	if (r == QUEUE_FULL)
		d->intake.is_refused = d->intake.is_broken = true;
	else if (r < 0)
		fail(d, "storing a message");
	return r == 0;
}

/* ---- the turn ---- */

static int store_removals(struct daemon *d)
{
	int r = session_store_removals(mqtt_session(d->mqtt));

	if (r == 0)
		r = session_store_removals(uplink_session(d->uplink));
	if (r == 0)
		r = ports_store(d->ports);
	if (r == 0)
		r = state_store(d->state);
	return r;
}

static int store_all(struct daemon *d)
{
	int r = session_store(mqtt_session(d->mqtt));

	if (r == 0)
		r = session_store(uplink_session(d->uplink));
	if (r == 0)
		r = ports_store(d->ports);
	if (r == 0)
		r = state_store(d->state);
	if (r == 0)
		r = db_commit(d->db);
	return r;
}

static void all_stored(struct daemon *d)
{
	session_stored(mqtt_session(d->mqtt));
	session_stored(uplink_session(d->uplink));
	ports_stored(d->ports);
}

static void hold_intake(struct daemon *d)
{
	uint64_t delay = retry_next_usec(&d->hold);

	session_hold(mqtt_session(d->mqtt));
	ports_pause(d->ports, true);
	d->held_until_usec = now_boot_usec() + delay;
	if (d->is_held)
		return;
	d->is_held = true;
	if (retry_attempts(&d->hold) == 1)
		log_limited(&d->fullness, LOG_LEVEL_ERROR,
			"spool: full: the intake is held until messages have "
			"left for the cloud, what devices publish waits in the "
			"broker; free disk space, or raise spool.max_size");
}

/* Try again: whether the disk has room shows when something is stored. */
static void release_intake(struct daemon *d)
{
	if (!d->is_held || d->is_stopping ||
		now_boot_usec() < d->held_until_usec ||
		db_free_bytes(d->db) < 2 * reserve_bytes(d))
		return;
	d->is_held = false;
	ports_pause(d->ports, false);
	mqtt_start(d->mqtt);
}

/* Something was stored. */
static void note_room(struct daemon *d)
{
	if (!retry_attempts(&d->hold))
		return;
	retry_reset(&d->hold);
	log_limited(&d->fullness, LOG_LEVEL_INFO,
		"spool: there is room again, the intake goes on");
}

/* The disk is full: the turn is undone, but what has arrived on the other side
 * must leave the spool even now, or it would never get room. */
static int undo(struct daemon *d)
{
	int r;

	db_rollback(d->db);
	db_make_room(d->db);
	if (state_reload(d->state) < 0 ||
		session_rolled_back(mqtt_session(d->mqtt)) < 0 ||
		session_rolled_back(uplink_session(d->uplink)) < 0)
		return -EIO;
	if (d->intake.has_down)
		session_cut(uplink_session(d->uplink), "the spool is full");
	hold_intake(d);
	r = store_removals(d);
	if (r == 0)
		r = db_commit(d->db);
	if (r == 0)
		all_stored(d);
	else
		db_rollback(d->db);
	return r > 0 ? state_reload(d->state) : r;
}

static int commit(void *userdata)
{
	struct daemon *d = userdata;
	int r = d->intake.is_broken ? DB_FULL : store_all(d);

	if (r == DB_FULL)
		r = undo(d);
	else if (r == 0) {
		all_stored(d);
		if (d->intake.is_refused)
			hold_intake(d);
		else if (d->intake.has_up && !d->is_held)
			note_room(d);
	}
	memset(&d->intake, 0, sizeof(d->intake));
	if (r < 0)
		fail(d, "commit");
	return r;
}

static void idle(void *userdata)
{
	struct daemon *d = userdata;

	db_checkpoint(d->db);
}

static const struct turn_ops turn_ops = { .commit = commit, .idle = idle };

/* ---- events ---- */

static void on_change(void *userdata)
{
	struct daemon *d = userdata;

	if (d->is_stopping && session_is_closed(mqtt_session(d->mqtt)) &&
		session_is_closed(uplink_session(d->uplink)))
		sd_event_exit(d->event, EXIT_SUCCESS);
	status_send(&d->status, d->uplink, d->state, d->is_held);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct daemon *d = userdata;

	sd_event_source_set_time(s, usec + TICK_USEC);
	if (d->is_stopping && now_boot_usec() >= d->stop_usec) {
		log_warning("stopping without a goodbye: a peer does not take "
			    "it");
		sd_event_exit(d->event, EXIT_SUCCESS);
		return 0;
	}
	release_intake(d);
	if (ports_have_losses(d->ports))
		turn_due(d->turn, 0);
	status_send(&d->status, d->uplink, d->state, d->is_held);
	return 0;
}

static int on_stop_signal(
	sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct daemon *d = userdata;

	(void)s;
	if (d->is_stopping)
		return 0;
	log_info("stopping: SIG%s", sigabbrev_np((int)si->ssi_signo));
	sd_notify(0, "STOPPING=1");
	d->is_stopping = true;
	d->stop_usec = now_boot_usec() + STOP_USEC;
	turn_end(d->turn); /* with what the ports have written */
	ports_close(d->ports);
	session_stop(mqtt_session(d->mqtt));
	session_stop(uplink_session(d->uplink));
	turn_due(d->turn, 0);
	on_change(d);
	return 0;
}

static int apply(struct daemon *d, const struct conf *conf);

/* Say each line of a multi-line text. */
static void log_lines(char *text)
{
	char *rest = NULL;
	char *line = strtok_r(text, "\n", &rest);

	for (; line; line = strtok_r(NULL, "\n", &rest))
		log_error("%s", line);
}

static int reload(struct daemon *d)
{
	SCOPED(conf_freep) struct conf *conf = NULL;
	char *text = NULL;
	size_t bytes = 0;
	FILE *errors = open_memstream(&text, &bytes);
	int r;

	if (!errors)
		return -ENOMEM;
	r = conf_load(d->config, errors, &conf);
	fclose(errors);
	if (r < 0)
		log_lines(text);
	free(text);
	if (r == 0 && conf->spool.max_bytes != d->conf->spool.max_bytes) {
		log_warning("reload: spool.max_size changes at the next start");
		conf->spool.max_bytes = d->conf->spool.max_bytes;
	}
	if (r == 0)
		r = apply(d, conf);
	if (r < 0)
		return r;
	conf_free(d->conf);
	d->conf = TAKE(conf);
	return 0;
}

static int on_reload_signal(
	sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct daemon *d = userdata;
	int r;

	(void)s;
	(void)si;
	if (d->is_stopping)
		return 0;
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		now_boot_usec());
	r = reload(d);
	if (r < 0)
		log_error("reload: the old configuration stays in force; "
			  "correct %s and reload again",
			d->config);
	else
		log_info("reload: %s is in force", d->config);
	sd_notify(0, "READY=1");
	turn_due(d->turn, 0);
	return 0;
}

/* ---- making ---- */

static struct uplink_options uplink_options(const struct conf_uplink *c)
{
	return (struct uplink_options){
		.host = c->host,
		.port = c->port,
		.ca = c->ca,
		.certificate = c->certificate,
		.key = c->key,
		.client_id = c->client_id,
		.version = !strcmp(c->mqtt_version, "5")       ? 5
			   : !strcmp(c->mqtt_version, "3.1.1") ? 4
							       : 0,
		.keepalive_sec = (unsigned)(c->keepalive_usec / USEC_PER_SEC),
		.inflight = c->inflight,
		.connect_timeout_usec = c->connect_timeout_usec,
		.ack_timeout_usec = c->ack_timeout_usec,
		.retry_min_usec = c->retry_min_usec,
		.retry_max_usec = c->retry_max_usec,
		.session_expiry_sec =
			(uint32_t)(c->session_expiry_usec / USEC_PER_SEC),
		.message_id = c->message_id,
	};
}

static int subscribe(struct daemon *d)
{
	size_t n;
	char *const *filters = route_local_filters(d->route, &n);
	int r = session_subscribe(mqtt_session(d->mqtt), filters, n);

	if (r < 0)
		return r;
	filters = route_cloud_filters(d->route, &n);
	return session_subscribe(uplink_session(d->uplink), filters, n);
}

static const struct ports_ops ports_ops = { .on_record = on_record };

/* Bring conf into force in a daemon that runs. */
static int apply(struct daemon *d, const struct conf *conf)
{
	struct uplink_options uo = uplink_options(&conf->uplink);
	struct mqtt_options mo = { conf->local.socket, conf->local.client_id };
	struct route *route;
	int r = route_new(conf, &route);

	if (r < 0)
		return r;
	route_free(d->route);
	d->route = route;
	r = subscribe(d);
	if (r == 0)
		r = ports_configure(d->ports, conf, &ports_ops, d);
	if (r == 0)
		r = mqtt_configure(d->mqtt, &mo);
	if (r == 0)
		r = uplink_configure(d->uplink, &uo);
	return r;
}

static int open_spool(struct daemon *d, const char *state_dir)
{
	char *path;
	int r;

	if (asprintf(&path, "%s/spool.db", state_dir) < 0)
		return -ENOMEM;
	r = db_open(path, d->conf->spool.max_bytes, &d->db);
	free(path);
	if (r == 0)
		r = state_new(d->db, &d->state);
	if (r == 0)
		r = queue_new(d->db, d->state, &d->queue);
	return r;
}

static int make_links(struct daemon *d)
{
	static const struct mqtt_ops mqtt_ops = {
		.on_message = on_local, .on_change = on_change };
	static const struct uplink_ops uplink_ops = {
		.on_message = on_cloud, .on_change = on_change };
	struct uplink_options uo = uplink_options(&d->conf->uplink);
	struct mqtt_options mo = {
		d->conf->local.socket, d->conf->local.client_id };
	int r = mqtt_new(d->event, d->turn, d->db, d->state, &d->mqtt);

	if (r == 0)
		r = mqtt_set_up(d->mqtt, &mo, &mqtt_ops, d);
	if (r == 0)
		r = uplink_new(
			d->event, d->turn, d->db, d->state, &d->uplink);
	if (r == 0)
		r = uplink_set_up(d->uplink, &uo, &uplink_ops, d);
	if (r == 0)
		r = ports_new(d->event, d->turn, d->db, d->state, &d->ports);
	return r;
}

static int add_signals(struct daemon *d)
{
	static const int stop[] = { SIGTERM, SIGINT };
	sigset_t set;
	size_t i;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	for (i = 0; i < 2; i++) {
		r = sd_event_add_signal(
			d->event, NULL, stop[i], on_stop_signal, d);
		if (r < 0)
			return r;
	}
	return sd_event_add_signal(
		d->event, NULL, SIGHUP, on_reload_signal, d);
}

static int make_loop(struct daemon *d)
{
	int r = sd_event_new(&d->event);

	if (r >= 0)
		r = add_signals(d);
	if (r >= 0)
		r = sd_event_set_watchdog(d->event, true);
	if (r >= 0)
		r = sd_event_add_time_relative(d->event, &d->tick,
			CLOCK_BOOTTIME, TICK_USEC, 100 * USEC_PER_MSEC,
			on_tick, d);
	if (r >= 0)
		r = sd_event_source_set_enabled(d->tick, SD_EVENT_ON);
	if (r >= 0)
		r = turn_new(d->event, &turn_ops, d, &d->turn);
	if (r < 0)
		return log_fail(r, "cannot make the event loop");
	sd_event_source_set_description(d->tick, "tick");
	return 0;
}

int daemon_new(const char *config, const char *state_dir, struct conf *conf,
	struct daemon **ret_daemon)
{
	SCOPED(daemon_freep) struct daemon *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		conf_free(conf);
		return log_fail(-ENOMEM, "cannot start");
	}
	d->conf = conf;
	d->config = strdup(config);
	retry_init(&d->hold, HOLD_MIN_USEC, HOLD_MAX_USEC, 0);
	r = d->config ? make_loop(d) : -ENOMEM;
	if (r == 0)
		r = open_spool(d, state_dir);
	if (r == 0)
		r = route_new(conf, &d->route);
	if (r == 0)
		r = make_links(d);
	if (r == 0)
		r = subscribe(d);
	if (r == 0)
		r = ports_configure(d->ports, conf, &ports_ops, d);
	if (r < 0)
		return log_fail(r, "cannot start");
	*ret_daemon = TAKE(d);
	return 0;
}

struct daemon *daemon_free(struct daemon *d)
{
	if (!d)
		return NULL;
	d->ports = ports_free(d->ports);
	d->uplink = uplink_free(d->uplink);
	d->mqtt = mqtt_free(d->mqtt);
	d->route = route_free(d->route);
	d->queue = queue_free(d->queue);
	d->state = state_free(d->state);
	d->db = db_close(d->db);
	d->turn = turn_free(d->turn);
	sd_event_source_disable_unref(d->tick);
	sd_event_unref(d->event);
	conf_free(d->conf);
	free(d->config);
	free(d);
	return NULL;
}

int daemon_run(struct daemon *d)
{
	int r;

	mqtt_start(d->mqtt);
	uplink_start(d->uplink);
	log_info("ready: %" PRIu64 " messages wait for the cloud",
		session_backlog(uplink_session(d->uplink)));
	sd_notify(0, "READY=1");
	status_send(&d->status, d->uplink, d->state, d->is_held);
	r = sd_event_loop(d->event);
	if (r < 0) {
		log_fail(r, "the event loop failed");
		return EXIT_FAILURE;
	}
	if (r == EXIT_SUCCESS)
		turn_end(d->turn); /* what came in while saying goodbye */
	return r;
}
