/* One line for people.  Reads counters; changes nothing. */
#include "gatewayd/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/now.h"
#include "bridge/uplink.h"
#include "spool/session.h"
#include "spool/state.h"

#define RATE_USEC (2 * USEC_PER_SEC)
/* A reason may be long; the line is for one row of a terminal or two. */
#define REASON_BYTES 300

static void measure_rate(struct status *s, uint64_t accepted)
{
	uint64_t now = now_boot_usec();

	if (s->since_usec && now - s->since_usec < RATE_USEC)
		return;
	if (s->since_usec)
		s->rate = (double)(accepted - s->since_count) * 1e6 /
			(double)(now - s->since_usec);
	s->since_usec = now;
	s->since_count = accepted;
}

static void format_uplink(struct uplink *u, char *ret, size_t size)
{
	struct session *session = uplink_session(u);
	uint64_t next = session_next_try_usec(session);
	uint64_t now = now_boot_usec();

	if (!uplink_is_configured(u))
		snprintf(ret, size, "no uplink configured: set uplink.host");
	else if (session_is_up(session))
		snprintf(ret, size, "uplink connected to %s",
			uplink_endpoint(u));
	else if (next > now)
		snprintf(ret, size, "uplink down (%.*s), next try in %us",
			REASON_BYTES, session_reason(session),
			(unsigned)((next - now + USEC_PER_SEC - 1) /
				USEC_PER_SEC));
	else if (!session_is_trying(session))
		snprintf(ret, size, "uplink down (%.*s)", REASON_BYTES,
			session_reason(session));
	else if (session_reason(session)[0])
		snprintf(ret, size, "uplink down (%.*s), trying now",
			REASON_BYTES, session_reason(session));
	else
		snprintf(ret, size, "uplink connecting to %s",
			uplink_endpoint(u));
}

static void format_line(struct status *s, struct uplink *uplink,
	const struct state *state, int full, char *ret, size_t size)
{
	uint64_t accepted = state_counter(state, STATE_UP_ACCEPTED);
	char raw[REASON_BYTES + 160];
	char up[REASON_BYTES + 160];

	measure_rate(s, accepted);
	format_uplink(uplink, raw, sizeof(raw));
	/* A peer's words may be in it, and a line feed would begin another
	 * field of the notification. */
	log_escape(raw, up, sizeof(up));
	snprintf(ret, size,
		"%s; %sbacklog %" PRIu64 "; in %" PRIu64 ", out %" PRIu64
		", down %" PRIu64 ", dropped %" PRIu64 "; %.0f msg/s",
		up, full ? "SPOOL FULL, intake held; " : "",
		session_backlog(uplink_session(uplink)), accepted,
		state_counter(state, STATE_UP_DELIVERED),
		state_counter(state, STATE_DOWN_DELIVERED),
		state_counter(state, STATE_UP_DROPPED) +
			state_counter(state, STATE_DOWN_DROPPED) +
			state_counter(state, STATE_REFUSED),
		s->rate);
}

void status_send(struct status *s, struct uplink *uplink,
	const struct state *state, int full)
{
	char line[sizeof(s->sent)];

	format_line(s, uplink, state, full, line, sizeof(line));
	if (!strcmp(line, s->sent))
		return;
	strcpy(s->sent, line);
	sd_notifyf(0, "STATUS=%s", line);
}
