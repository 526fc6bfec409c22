/* From struct conf to options.  Knows names and units of both sides. */
#include "gatewayd/linkopts.h"

#include <string.h>

#include "base/now.h"
#include "gatewayd/conf.h"

/* 0: as the server has it. */
static int version(const char *word)
{
	if (!strcmp(word, "5"))
		return 5;
	return !strcmp(word, "3.1.1") ? 4 : 0;
}

struct uplink_options linkopts_uplink(const struct conf *conf)
{
	const struct conf_uplink *c = &conf->uplink;

	return (struct uplink_options){
		.host = c->host,
		.port = c->port,
		.ca = c->ca,
		.certificate = c->certificate,
		.key = c->key,
		.client_id = c->client_id,
		.version = version(c->mqtt_version),
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

struct mqtt_options linkopts_local(
	const struct conf *conf, const char *client_id)
{
	const char *configured = conf->local.client_id;

	return (struct mqtt_options){
		.socket = conf->local.socket,
		.client_id = configured[0] ? configured : client_id,
	};
}
