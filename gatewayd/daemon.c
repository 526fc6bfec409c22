/* The wiring: who tells whom.  bridge and localbus do not know each other; what
 * comes in by one is stored here for the other.
 *
 * The data path: on_local(), on_record() and on_cloud() hand what comes in to
 * intake.c, which puts it into the transaction of the turn; commit() makes the
 * turn durable; only then do acknowledgements and messages leave
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
#include <sys/random.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/now.h"
#include "base/retry.h"
#include "base/turn.h"
#include "bridge/uplink.h"
#include "gatewayd/conf.h"
#include "gatewayd/intake.h"
#include "gatewayd/linkopts.h"
#include "gatewayd/ports.h"
#include "gatewayd/route.h"
#include "gatewayd/status.h"
#include "localbus/mqtt.h"
#include "spool/db.h"
#include "spool/session.h"
#include "spool/state.h"

#define TICK_USEC USEC_PER_SEC
/* Between SIGTERM and the end, whatever the peers do; systemd waits for 10. */
#define STOP_USEC (3 * USEC_PER_SEC)
/* While the spool is full: between two looks whether there is room. */
#define HOLD_MIN_USEC USEC_PER_SEC
#define HOLD_MAX_USEC (10 * USEC_PER_SEC)

struct daemon {
	char *config;
	struct conf *conf;
	sd_event *event;
	struct turn *turn;
	struct db *db;
	struct state *state;
	struct intake *intake;
	struct route *route;
	struct mqtt *mqtt;
	struct uplink *uplink;
	struct ports *ports;
	struct status status;
	char client_id[40]; /* on the local broker, if none is configured */
	sd_event_source *tick;

	bool is_held;
	uint64_t held_until_usec;
	struct retry hold;

	bool is_stopping;
	uint64_t stop_usec;
	struct log_limit fullness;
};

/* ---- what comes in ---- */

static bool on_local(void *userdata, const struct msg *msg)
{
	struct daemon *d = userdata;

	return intake_up(d->intake, "local", msg);
}

static void on_record(void *userdata, const struct msg *msg)
{
	struct daemon *d = userdata;

	intake_record(d->intake, msg);
	turn_due(d->turn, 1);
}

static bool on_cloud(void *userdata, const struct msg *msg)
{
	struct daemon *d = userdata;

	return intake_down(d->intake, msg);
}

/* ---- the turn ---- */

/* The disk or the file said no: this process must end and look again. */
static void fail(struct daemon *d)
{
	log_error("spool: storing failed: nothing is acknowledged any more; "
		  "restarting to read the disk afresh");
	sd_event_exit(d->event, EXIT_FAILURE);
}

/* Put all that the turn has changed into the transaction, each part by its
 * store(), and make it durable. */
static int store(struct daemon *d, int (*store_session)(struct session *s))
{
	int r = store_session(mqtt_session(d->mqtt));

	if (r == 0)
		r = store_session(uplink_session(d->uplink));
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
	intake_hold(d->intake, true);
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
		!intake_has_room(d->intake))
		return;
	d->is_held = false;
	intake_hold(d->intake, false);
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
	const struct intake_turn *turn = intake_turn(d->intake);
	int r;

	db_rollback(d->db);
	db_make_room(d->db);
	if (state_reload(d->state) < 0 ||
		session_rolled_back(mqtt_session(d->mqtt)) < 0 ||
		session_rolled_back(uplink_session(d->uplink)) < 0)
		return -EIO;
	if (turn->has_down)
		session_cut(uplink_session(d->uplink), "the spool is full");
	/* What only the cloud has sent too much of is no matter of devices. */
	if (turn->has_local || turn->is_refused || !turn->has_down)
		hold_intake(d);
	r = store(d, session_store_removals);
	if (r == 0)
		all_stored(d);
	else
		db_rollback(d->db);
	if (r > 0)
		r = state_reload(d->state);
	intake_rolled_back(d->intake);
	return r;
}

static int commit(void *userdata)
{
	struct daemon *d = userdata;
	const struct intake_turn *turn = intake_turn(d->intake);
	int r = turn->error;

	if (r == 0)
		r = turn->is_broken ? DB_FULL : store(d, session_store);
	if (r == DB_FULL) {
		r = undo(d);
	} else if (r == 0) {
		all_stored(d);
		intake_stored(d->intake);
		if (turn->is_down_refused)
			session_cut(
				uplink_session(d->uplink), "the spool is full");
		if (turn->is_refused)
			hold_intake(d);
		else if (turn->has_up && !d->is_held)
			note_room(d);
	}
	intake_next_turn(d->intake);
	if (r < 0)
		fail(d);
	return r;
}

static void idle(void *userdata)
{
	struct daemon *d = userdata;

	db_checkpoint(d->db);
}

static const struct turn_ops turn_ops = {.commit = commit, .idle = idle};

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

enum { RELOAD_BROKEN = 1 }; /* the process ends */

/* 0, RELOAD_BROKEN; or -errno, and nothing has changed. */
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
	if (r < 0)
		return r;
	turn_end(d->turn); /* with what the ports have written */
	r = apply(d, conf);
	if (r < 0) {
		log_error("reload: out of memory with half of it in force: "
			  "restarting");
		sd_event_exit(d->event, EXIT_FAILURE);
		return RELOAD_BROKEN;
	}
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
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_boot_usec());
	r = reload(d);
	if (r < 0)
		log_error("reload: the old configuration stays in force; "
			  "correct %s and reload again",
			d->config);
	else if (r == 0)
		log_info("reload: %s is in force", d->config);
	sd_notify(0, "READY=1");
	turn_due(d->turn, 0);
	return 0;
}

/* ---- making ---- */

static int subscribe(struct daemon *d)
{
	size_t n;
	char *const *filters = route_local_filters(d->route, &n);
	int r = session_subscribe(mqtt_session(d->mqtt), filters, n);

	if (r < 0)
		return r;
	if (!n)
		log_warning("no route goes up: nothing of the devices passes; "
			    "see ROUTES in gatewayd.conf(5)");
	filters = route_cloud_filters(d->route, &n);
	return session_subscribe(uplink_session(d->uplink), filters, n);
}

static const struct ports_ops ports_ops = {.on_record = on_record};

/* Bring conf into force in a daemon that runs. */
static int apply(struct daemon *d, const struct conf *conf)
{
	struct uplink_options uo = linkopts_uplink(conf);
	struct mqtt_options mo = linkopts_local(conf, d->client_id);
	struct route *route;
	int r = route_new(conf, &route);

	if (r < 0)
		return r;
	intake_set_route(d->intake, route);
	route_free(d->route);
	d->route = route;
	r = subscribe(d);
	if (r == 0)
		r = ports_configure(d->ports, conf, &ports_ops, d);
	if (r == 0)
		r = mqtt_configure(d->mqtt, &mo);
	if (r == 0)
		r = uplink_configure(d->uplink, &uo);
	intake_forget_ports(d->intake);
	return r;
}

/* A name that no certificate can have by chance or by guess: who connects with
 * it takes our session.  It is kept, since the session waits under it. */
static int choose_client_id(struct daemon *d)
{
	static const char key[] = "local.client_id";
	uint64_t number;
	size_t bytes;
	int r = state_get(
		d->state, key, d->client_id, sizeof(d->client_id) - 1, &bytes);

	if (r < 0 || bytes)
		return r;
	if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
		return log_fail(-errno, "no random number");
	snprintf(d->client_id, sizeof(d->client_id), "gatewayd-%016" PRIx64,
		number);
	r = state_set(d->state, key, d->client_id, strlen(d->client_id));
	if (r == 0)
		r = db_commit(d->db);
	return r > 0 ? log_fail(-ENOSPC, "spool: cannot write") : r;
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
		r = choose_client_id(d);
	return r;
}

static int make_links(struct daemon *d)
{
	static const struct mqtt_ops mqtt_ops = {
		.on_message = on_local, .on_change = on_change};
	static const struct uplink_ops uplink_ops = {
		.on_message = on_cloud, .on_change = on_change};
	struct uplink_options uo = linkopts_uplink(d->conf);
	struct mqtt_options mo = linkopts_local(d->conf, d->client_id);
	int r = mqtt_new(d->event, d->turn, d->db, d->state, &d->mqtt);

	if (r == 0)
		r = mqtt_set_up(d->mqtt, &mo, &mqtt_ops, d);
	if (r == 0)
		r = uplink_new(d->event, d->turn, d->db, d->state, &d->uplink);
	if (r == 0)
		r = uplink_set_up(d->uplink, &uo, &uplink_ops, d);
	if (r == 0)
		r = ports_new(d->event, d->turn, d->db, d->state, &d->ports);
	if (r == 0)
		r = intake_new(d->db, d->state, d->ports,
			d->conf->spool.max_bytes, &d->intake);
	if (r == 0)
		intake_set_route(d->intake, d->route);
	return r;
}

static int add_signals(struct daemon *d)
{
	static const int stop[] = {SIGTERM, SIGINT};
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
	return sd_event_add_signal(d->event, NULL, SIGHUP, on_reload_signal, d);
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
			CLOCK_BOOTTIME, TICK_USEC, 100 * USEC_PER_MSEC, on_tick,
			d);
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
	if (r == 0) {
		intake_forget_ports(d->intake);
		turn_due(d->turn, 0);
	}
	if (r == -ENOMEM)
		return log_fail(r, "cannot start");
	if (r < 0)
		return r; /* said where it was met */
	*ret_daemon = TAKE(d);
	return 0;
}

struct daemon *daemon_free(struct daemon *d)
{
	if (!d)
		return NULL;
	d->intake = intake_free(d->intake);
	d->ports = ports_free(d->ports);
	d->uplink = uplink_free(d->uplink);
	d->mqtt = mqtt_free(d->mqtt);
	d->route = route_free(d->route);
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
	status_send(&d->status, d->uplink, d->state, d->is_held);
	sd_notify(0, "READY=1");
	r = sd_event_loop(d->event);
	if (r < 0) {
		log_fail(r, "the event loop failed");
		return EXIT_FAILURE;
	}
	if (r == EXIT_SUCCESS)
		turn_end(d->turn); /* what came in while saying goodbye */
	return r;
}
