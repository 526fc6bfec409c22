/* A mosquitto plugin that plays the cloud's memory in tests: what the cloud has
 * acknowledged stays known even when its broker is killed with SIGKILL.
 *
 * The broker calls on_message() before it sends the PUBACK.  There the message
 * is appended to the file named by plugin_opt_file, as one line by one write(2):
 *
 *	M <id> <topic> <payload>
 *	D <client id>
 *
 * M is a message; id is its MQTT 5 user property "id", or "-".  In topic and
 * payload, bytes that are not printable, blanks and backslashes are written as
 * \xNN.  D is the end of a client's connection: all that this client had sent
 * before it stands above that line. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <mqtt_protocol.h>

/* Built with -fvisibility=hidden: the broker loads plugins RTLD_GLOBAL. */
#define EXPORT __attribute__((visibility("default")))

struct recorder {
	mosquitto_plugin_id_t *plugin;
	int fd;
};

static char *escape(char *to, const void *data, size_t bytes)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *from = data;
	size_t i;

	for (i = 0; i < bytes; i++) {
		if (from[i] > ' ' && from[i] < 0x7f && from[i] != '\\') {
			*to++ = (char)from[i];
			continue;
		}
		*to++ = '\\';
		*to++ = 'x';
		*to++ = hex[from[i] >> 4];
		*to++ = hex[from[i] & 15];
	}
	return to;
}

static bool append(const struct recorder *r, const char *line, size_t bytes)
{
	ssize_t n;

	do
		n = write(r->fd, line, bytes);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)bytes;
}

/* The value of the user property "id"; the caller's, NULL if there is none. */
static char *read_id(const mosquitto_property *props)
{
	char *name = NULL;
	char *value = NULL;
	bool skip = false;

	while ((props = mosquitto_property_read_string_pair(
			props, MQTT_PROP_USER_PROPERTY, &name, &value, skip))) {
		bool is_id = name && !strcmp(name, "id");

		free(name);
		if (is_id)
			return value;
		free(value);
		skip = true;
	}
	return NULL;
}

/* An error makes the broker drop the client without a PUBACK, so what could not
 * be written is not acknowledged either. */
static int on_message(int event, void *data, void *userdata)
{
	const struct mosquitto_evt_message *m = data;
	char *id = read_id(m->properties);
	size_t id_bytes = id ? strlen(id) : 1;
	size_t topic_bytes = strlen(m->topic);
	size_t size = 8 + 4 * (id_bytes + topic_bytes + m->payloadlen);
	char *line = malloc(size);
	char *end = line;
	bool is_written = false;

	(void)event;
	if (line) {
		*end++ = 'M';
		*end++ = ' ';
		end = escape(end, id ? id : "-", id_bytes);
		*end++ = ' ';
		end = escape(end, m->topic, topic_bytes);
		*end++ = ' ';
		end = escape(end, m->payload, m->payloadlen);
		*end++ = '\n';
		is_written = append(userdata, line, (size_t)(end - line));
	}
	free(line);
	free(id);
	return is_written ? MOSQ_ERR_SUCCESS : MOSQ_ERR_UNKNOWN;
}

static int on_disconnect(int event, void *data, void *userdata)
{
	const struct mosquitto_evt_disconnect *d = data;
	const char *id = mosquitto_client_id(d->client);
	char line[512];
	int n;

	(void)event;
	if (!id || !id[0] || strlen(id) > 100)
		return MOSQ_ERR_SUCCESS;
	n = snprintf(line, sizeof(line), "D ");
	n = (int)(escape(line + n, id, strlen(id)) - line);
	line[n++] = '\n';
	return append(userdata, line, (size_t)n) ? MOSQ_ERR_SUCCESS
						 : MOSQ_ERR_UNKNOWN;
}

EXPORT int mosquitto_plugin_version(int n, const int *versions)
{
	int i;

	for (i = 0; i < n; i++)
		if (versions[i] == MOSQ_PLUGIN_VERSION)
			return MOSQ_PLUGIN_VERSION;
	return -1;
}

EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *plugin, void **userdata,
	struct mosquitto_opt *options, int n)
{
	struct recorder *r = calloc(1, sizeof(*r));
	int i;

	if (!r)
		return MOSQ_ERR_NOMEM;
	r->plugin = plugin;
	r->fd = -1;
	for (i = 0; i < n; i++)
		if (!strcmp(options[i].key, "file"))
			r->fd = open(options[i].value,
				O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
				0600);
	if (r->fd < 0) {
		mosquitto_log_printf(MOSQ_LOG_ERR,
			"recorder: plugin_opt_file: %s", strerror(errno));
		free(r);
		return MOSQ_ERR_UNKNOWN;
	}
	*userdata = r;
	if (mosquitto_callback_register(
		    plugin, MOSQ_EVT_MESSAGE, on_message, NULL, r))
		return MOSQ_ERR_UNKNOWN;
	return mosquitto_callback_register(
		plugin, MOSQ_EVT_DISCONNECT, on_disconnect, NULL, r);
}

EXPORT int mosquitto_plugin_cleanup(
	void *userdata, struct mosquitto_opt *options, int n)
{
	struct recorder *r = userdata;

	(void)options;
	(void)n;
	mosquitto_callback_unregister(
		r->plugin, MOSQ_EVT_MESSAGE, on_message, NULL);
	mosquitto_callback_unregister(
		r->plugin, MOSQ_EVT_DISCONNECT, on_disconnect, NULL);
	close(r->fd);
	free(r);
	return MOSQ_ERR_SUCCESS;
}
