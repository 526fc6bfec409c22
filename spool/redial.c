/* A timer, a delay and a reason.  Knows no connection. */
#include "spool/redial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/now.h"
#include "base/retry.h"

#define REMIND_USEC (10 * 60 * USEC_PER_SEC)

struct redial {
	char *label;
	void (*on_due)(void *userdata);
	void *userdata;
	sd_event_source *timer;
	struct retry retry;
	uint64_t next_usec;
	char reason[REDIAL_REASON_BYTES];
	char said[REDIAL_REASON_BYTES]; /* the one logged last */
	uint64_t said_usec;
};

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct redial *r = userdata;

	(void)s;
	(void)usec;
	r->next_usec = 0;
	r->on_due(r->userdata);
	return 0;
}

int redial_new(struct sd_event *event, const char *label, uint64_t min_usec,
	uint64_t max_usec, void (*on_due)(void *userdata), void *userdata,
	struct redial **ret_redial)
{
	SCOPED(redial_freep) struct redial *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->on_due = on_due;
	r->userdata = userdata;
	r->label = strdup(label);
	if (!r->label)
		return -ENOMEM;
	retry_init(&r->retry, min_usec, max_usec, 0);
	e = sd_event_add_time_relative(event, &r->timer, CLOCK_BOOTTIME, 0,
		50 * USEC_PER_MSEC, on_timer, r);
	if (e < 0)
		return e;
	sd_event_source_set_description(r->timer, "redial");
	e = sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
	if (e < 0)
		return e;
	*ret_redial = TAKE(r);
	return 0;
}

struct redial *redial_free(struct redial *r)
{
	if (!r)
		return NULL;
	sd_event_source_disable_unref(r->timer);
	free(r->label);
	free(r);
	return NULL;
}

void redial_set_limits(struct redial *r, uint64_t min_usec, uint64_t max_usec)
{
	r->retry.min_usec = min_usec;
	r->retry.max_usec = max_usec;
}

static void say(struct redial *r, uint64_t delay_usec)
{
	uint64_t now = now_boot_usec();

	if (!strcmp(r->said, r->reason) && now - r->said_usec < REMIND_USEC)
		return;
	strcpy(r->said, r->reason);
	r->said_usec = now;
	log_warning("%s: %s; next try in %.1f s", r->label, r->reason,
		(double)delay_usec / 1e6);
}

void redial_later(struct redial *r, const char *reason, bool is_contested)
{
	uint64_t delay = retry_next_usec(&r->retry);

	if (is_contested)
		delay = (r->retry.max_usec + delay) / 2;
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	r->next_usec = now_boot_usec() + delay;
	say(r, delay);
	sd_event_source_set_time_relative(r->timer, delay);
	sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT);
}

void redial_trying(struct redial *r)
{
	r->next_usec = 0;
	sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
}

void redial_never(struct redial *r, const char *reason)
{
	redial_trying(r);
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
}

void redial_up(struct redial *r)
{
	r->reason[0] = '\0';
	r->said[0] = '\0';
}

void redial_reset(struct redial *r)
{
	retry_reset(&r->retry);
}

const char *redial_reason(const struct redial *r)
{
	return r->reason;
}

uint64_t redial_next_usec(const struct redial *r)
{
	return r->next_usec;
}
