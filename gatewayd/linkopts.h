#ifndef GATEWAYD_LINKOPTS_H
#define GATEWAYD_LINKOPTS_H

#include "bridge/uplink.h"
#include "localbus/mqtt.h"

struct conf;

/* What the configuration says, in the words of the two links.  Pure; strings
 * are borrowed from the arguments. */
struct uplink_options linkopts_uplink(const struct conf *conf);

/* client_id: for a configuration that names none. */
struct mqtt_options linkopts_local(
	const struct conf *conf, const char *client_id);

#endif
