/* Serial devices and the rows for them.  Wires localbus/serial to spool/replay;
 * knows the configuration's names, not MQTT.
 *
 * A row's way to a tty: feed() at the end of a turn -> serial_write() takes the
 * line -> on_written() acknowledges the row -> the next turn removes it.  When
 * the device goes away, on_ready() puts the row back. */
#include "gatewayd/ports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/turn.h"
#include "gatewayd/conf.h"
#include "localbus/serial.h"
#include "spool/db.h"
#include "spool/replay.h"
#include "spool/state.h"

/* One line is out at a time, so one name for it does. */
#define TAG 1

struct port {
	struct ports *ports; /* borrowed: the owner */
	struct port *next;
	struct serial *serial;
	struct replay *replay;
	char *name;
	char *topic;
	bool with_topic;      /* down = "topic" */
	bool is_kept;         /* while configuring */
	uint64_t lost;        /* lines dropped, that are counted on disk */
	uint64_t lost_stored; /* those in the open transaction */
	struct serial_options options; /* its strings are ours */
};

struct ports {
	sd_event *event;     /* borrowed */
	struct turn *turn;   /* borrowed */
	struct db *db;       /* borrowed */
	struct state *state; /* borrowed */
	const struct ports_ops *ops;
	void *userdata;
	struct port *first;
	bool is_paused;
};

/* ---- one port ---- */

static void on_record(void *userdata, const uint8_t *record, size_t bytes)
{
	struct port *port = userdata;
	struct msg msg = {port->topic, record, bytes};

	port->ports->ops->on_record(port->ports->userdata, &msg);
}

static void on_written(void *userdata)
{
	struct port *port = userdata;

	replay_ack(port->replay, TAG, false);
	turn_due(port->ports->turn, 1);
}

static void on_ready(void *userdata)
{
	struct port *port = userdata;

	replay_restart(port->replay);
	turn_due(port->ports->turn, 0);
}

static const struct serial_ops serial_ops = {
	.on_record = on_record,
	.on_written = on_written,
	.on_ready = on_ready,
};

/* "topic payload", for devices that have to tell what a line is about. */
static int write_with_topic(struct port *port, const struct msg *msg)
{
	size_t topic_bytes = strlen(msg->topic);
	size_t bytes = topic_bytes + 1 + msg->payload_bytes;
	char *line = malloc(bytes);
	int r;

	if (!line)
		return -ENOMEM;
	memcpy(line, msg->topic, topic_bytes);
	line[topic_bytes] = ' ';
	if (msg->payload_bytes)
		memcpy(line + topic_bytes + 1, msg->payload,
			msg->payload_bytes);
	r = serial_write(port->serial, line, bytes);
	free(line);
	return r;
}

static int send_row(
	void *userdata, int64_t id, const struct msg *msg, unsigned *ret_tag)
{
	struct port *port = userdata;
	int r;

	(void)id;
	r = port->with_topic
		? write_with_topic(port, msg)
		: serial_write(port->serial, msg->payload, msg->payload_bytes);
	if (r == 0)
		*ret_tag = TAG;
	return r;
}

static struct port *port_free(struct port *port)
{
	if (!port)
		return NULL;
	port->serial = serial_free(port->serial);
	port->replay = replay_free(port->replay);
	free((char *)port->options.tty.device);
	free(port->name);
	free(port->topic);
	free(port);
	return NULL;
}
DEFINE_SCOPED(struct port *, port_free);

static enum serial_parity parity(const char *word)
{
	if (!strcmp(word, "even"))
		return SERIAL_PARITY_EVEN;
	if (!strcmp(word, "odd"))
		return SERIAL_PARITY_ODD;
	return SERIAL_PARITY_NONE;
}

static enum serial_flow flow(const char *word)
{
	if (!strcmp(word, "rtscts"))
		return SERIAL_FLOW_RTSCTS;
	if (!strcmp(word, "xonxoff"))
		return SERIAL_FLOW_XONXOFF;
	return SERIAL_FLOW_NONE;
}

static struct serial_options to_options(const struct conf_serial *c)
{
	return (struct serial_options){
		.name = c->name,
		.tty = {.device = c->device,
			.baud = c->baud,
			.data_bits = c->data_bits,
			.stop_bits = c->stop_bits,
			.parity = parity(c->parity),
			.flow = flow(c->flow)},
		.line_end =
			!strcmp(c->line_end, "crlf") ? FRAME_CRLF : FRAME_LF,
		.max_line_bytes = (size_t)c->max_line_bytes,
	};
}

static int port_new(
	struct ports *p, const struct conf_serial *c, struct port **ret_port)
{
	SCOPED(port_freep) struct port *port = calloc(1, sizeof(*port));
	int r;

	if (!port)
		return -ENOMEM;
	port->ports = p;
	port->name = strdup(c->name);
	port->topic = strdup(c->topic);
	port->with_topic = !strcmp(c->down, "topic");
	port->options = to_options(c);
	port->options.name = port->name;
	port->options.tty.device = strdup(c->device);
	if (!port->name || !port->topic || !port->options.tty.device)
		return -ENOMEM;
	r = replay_new(p->db, p->state, port->name, 1, &port->replay);
	if (r == 0)
		r = serial_new(p->event, &port->options, &serial_ops, port,
			&port->serial);
	if (r < 0)
		return r;
	*ret_port = TAKE(port);
	return 0;
}

static bool is_same(const struct port *port, const struct conf_serial *c)
{
	struct serial_options o = to_options(c);
	const struct tty_options *have = &port->options.tty;

	return !strcmp(have->device, o.tty.device) &&
		have->baud == o.tty.baud &&
		have->data_bits == o.tty.data_bits &&
		have->stop_bits == o.tty.stop_bits &&
		have->parity == o.tty.parity && have->flow == o.tty.flow &&
		port->options.line_end == o.line_end &&
		port->options.max_line_bytes == o.max_line_bytes &&
		!strcmp(port->topic, c->topic) &&
		port->with_topic == !strcmp(c->down, "topic");
}

/* ---- all ports ---- */

/* A member of the turn: the next line for each that can take one. */
static void feed(void *userdata)
{
	struct ports *p = userdata;
	struct port *port;

	for (port = p->first; port; port = port->next) {
		bool had_done = replay_has_done(port->replay);

		if (serial_is_open(port->serial) &&
			replay_fill(port->replay, send_row, port) < 0)
			log_error("serial %s: its messages cannot be read",
				port->name);
		/* A damaged row is dropped: another turn for the next one. */
		if (!had_done && replay_has_done(port->replay))
			turn_due(p->turn, 0);
	}
}

int ports_new(struct sd_event *event, struct turn *turn, struct db *db,
	struct state *state, struct ports **ret_ports)
{
	SCOPED(ports_freep) struct ports *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->event = event;
	p->turn = turn;
	p->db = db;
	p->state = state;
	r = turn_join(turn, feed, p);
	if (r < 0)
		return r;
	*ret_ports = TAKE(p);
	return 0;
}

void ports_close(struct ports *p)
{
	struct port *port = p->first;

	p->first = NULL;
	while (port) {
		struct port *next = port->next;

		port_free(port);
		port = next;
	}
}

struct ports *ports_free(struct ports *p)
{
	if (!p)
		return NULL;
	ports_close(p);
	free(p);
	return NULL;
}

static struct port *find(const struct ports *p, const char *name)
{
	struct port *port = p->first;

	while (port && strcmp(port->name, name))
		port = port->next;
	return port;
}

bool ports_has(const struct ports *p, const char *name)
{
	return find(p, name);
}

static void mark_kept(struct ports *p, const struct conf *conf)
{
	struct port *port;
	size_t i;

	for (port = p->first; port; port = port->next)
		port->is_kept = false;
	for (i = 0; i < conf->n_serials; i++) {
		port = find(p, conf->serials[i].name);
		if (port && is_same(port, &conf->serials[i]))
			port->is_kept = true;
	}
}

static void drop_others(struct ports *p)
{
	struct port **at = &p->first;

	while (*at) {
		struct port *port = *at;

		if (port->is_kept) {
			at = &port->next;
			continue;
		}
		*at = port->next;
		port_free(port);
	}
}

int ports_configure(struct ports *p, const struct conf *conf,
	const struct ports_ops *ops, void *userdata)
{
	size_t i;

	p->ops = ops;
	p->userdata = userdata;
	mark_kept(p, conf);
	drop_others(p); /* first: a new one may use the same tty */
	for (i = 0; i < conf->n_serials; i++) {
		struct port *port;
		int r;

		if (find(p, conf->serials[i].name))
			continue;
		r = port_new(p, &conf->serials[i], &port);
		if (r < 0)
			return r;
		port->next = p->first;
		p->first = port;
		serial_pause(port->serial, p->is_paused);
		serial_start(port->serial);
	}
	return 0;
}

void ports_pause(struct ports *p, bool is_paused)
{
	struct port *port;

	p->is_paused = is_paused;
	for (port = p->first; port; port = port->next)
		serial_pause(port->serial, is_paused);
}

/* Lines that were too long or cut off, since it was made. */
static uint64_t lost_lines(const struct port *port)
{
	struct serial_counters c;

	serial_get_counters(port->serial, &c);
	return c.in.too_long + c.in.partial;
}

bool ports_have_losses(const struct ports *p)
{
	const struct port *port;

	for (port = p->first; port; port = port->next)
		if (lost_lines(port) != port->lost)
			return true;
	return false;
}

static int store(struct port *port)
{
	uint64_t lost = lost_lines(port);

	if (lost != port->lost)
		state_count(
			port->ports->state, STATE_REFUSED, lost - port->lost);
	port->lost_stored = lost;
	return replay_store(port->replay);
}

int ports_store(struct ports *p)
{
	struct port *port;
	int r = 0;

	for (port = p->first; port && r == 0; port = port->next)
		r = store(port);
	return r;
}

void ports_stored(struct ports *p)
{
	struct port *port;

	for (port = p->first; port; port = port->next) {
		port->lost = port->lost_stored;
		replay_stored(port->replay);
	}
}
