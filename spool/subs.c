/* Wanted filters against those that the broker has.  Knows MQTT and the state;
 * not what comes in by a filter. */
#include "spool/subs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mqttio.h"
#include "spool/state.h"

#define NOTE_BYTES (64 * 1024)

struct subs {
	struct state *state; /* borrowed */
	char *label;
	char *key; /* of the note */
	char **filters;
	unsigned *mids; /* of the SUBSCRIBEs that are out */
	size_t n;
	size_t n_out; /* not answered yet */
};

int subs_new(struct state *state, const char *label, struct subs **ret_subs)
{
	SCOPED(subs_freep) struct subs *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->state = state;
	s->label = strdup(label);
	if (!s->label || asprintf(&s->key, "subscribed.%s", label) < 0) {
		s->key = NULL;
		return -ENOMEM;
	}
	*ret_subs = TAKE(s);
	return 0;
}

static void forget_filters(struct subs *s)
{
	while (s->n)
		free(s->filters[--s->n]);
	free(s->filters);
	free(s->mids);
	s->filters = NULL;
	s->mids = NULL;
}

struct subs *subs_free(struct subs *s)
{
	if (!s)
		return NULL;
	forget_filters(s);
	free(s->label);
	free(s->key);
	free(s);
	return NULL;
}

int subs_want(struct subs *s, char *const *filters, size_t n)
{
	size_t i;

	forget_filters(s);
	s->filters = calloc(n + 1, sizeof(s->filters[0]));
	s->mids = calloc(n + 1, sizeof(s->mids[0]));
	if (!s->filters || !s->mids)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		s->filters[i] = strdup(filters[i]);
		if (!s->filters[i])
			return -ENOMEM;
		s->n++;
	}
	return 0;
}

static bool is_wanted(const struct subs *s, const char *filter)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		if (!strcmp(s->filters[i], filter))
			return true;
	return false;
}

/* The note is a list, each filter with its NUL. */
static void unsubscribe_old(struct subs *s, struct mqttio *io)
{
	char *list = malloc(NOTE_BYTES);
	size_t bytes = 0;
	size_t at;

	if (!list ||
		state_get(s->state, s->key, list, NOTE_BYTES - 1, &bytes) < 0)
		bytes = 0;
	if (list)
		list[bytes] = '\0';
	for (at = 0; at < bytes; at += strlen(list + at) + 1)
		if (!is_wanted(s, list + at) &&
			mqttio_unsubscribe(io, list + at) == 0)
			log_info("%s: no longer subscribed to '%s'", s->label,
				list + at);
	free(list);
}

static void write_note(struct subs *s)
{
	char *list = NULL;
	size_t bytes = 0;
	size_t i;
	FILE *f = open_memstream(&list, &bytes);

	if (!f)
		return;
	for (i = 0; i < s->n; i++)
		fwrite(s->filters[i], 1, strlen(s->filters[i]) + 1, f);
	if (fclose(f) == 0 && bytes < NOTE_BYTES &&
		state_set(s->state, s->key, list, bytes) != 0)
		log_warning("%s: cannot note the subscriptions", s->label);
	free(list);
}

void subs_apply(struct subs *s, struct mqttio *io)
{
	size_t i;
	int r;

	s->n_out = 0;
	for (i = 0; i < s->n; i++) {
		/* One SUBSCRIBE each: the refusal of one does not take the
		 * others with it, and AWS IoT allows 8 filters at most. */
		r = mqttio_subscribe(io, s->filters[i], &s->mids[i]);
		if (r < 0)
			log_error("%s: cannot subscribe to '%s': %s", s->label,
				s->filters[i], strerror(-r));
		s->n_out += r == 0;
	}
	/* Only now: a topic that an old and a new filter take is never without
	 * a subscription, or the broker would acknowledge it and forget it. */
	unsubscribe_old(s, io);
	write_note(s);
}

void subs_on_suback(struct subs *s, unsigned mid, int granted)
{
	size_t i;

	for (i = 0; i < s->n; i++) {
		if (s->mids[i] != mid)
			continue;
		s->mids[i] = 0;
		if (granted >= 0x80)
			log_error("%s: the broker refused the subscription to "
				  "'%s' (reason 0x%02x): nothing comes in by "
				  "it; check what its policy allows",
				s->label, s->filters[i], (unsigned)granted);
		s->n_out--;
		if (!s->n_out)
			log_info("%s: subscribed", s->label);
		return;
	}
}
