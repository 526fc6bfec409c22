/* The order read, commit, write; see the header.  A defer source of the lowest
 * priority ends the turn: sd-event runs it only when nothing else is ready.
 * Under a stream of input that never pauses, the work limit ends it. */
#include "base/turn.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include <systemd/sd-event.h>

#include "config.h"

#define MAX_MEMBERS 8
/* Rounds of the loop that a turn may last at most: a source that is always
 * ready and brings no work must not hold up everybody's acknowledgements. */
#define MAX_ROUNDS 100

struct turn {
	const struct turn_ops *ops; /* borrowed */
	void *userdata;
	sd_event_source *end; /* armed while a turn is due */
	bool is_due;
	bool is_ending;
	size_t work;
	unsigned rounds; /* of the loop, since it is due */
	size_t n_members;
	struct {
		void (*flush)(void *userdata);
		void *userdata;
	} members[MAX_MEMBERS];
};

static int on_end(sd_event_source *s, void *userdata)
{
	(void)s;
	turn_end(userdata);
	return 0;
}

/* sd-event, once a round while the turn is due: the source of the lowest
 * priority would never run while others are ready. */
static int on_round(sd_event_source *s, void *userdata)
{
	struct turn *turn = userdata;

	if (++turn->rounds == MAX_ROUNDS)
		sd_event_source_set_priority(s, SD_EVENT_PRIORITY_IMPORTANT);
	return 0;
}

int turn_new(struct sd_event *event, const struct turn_ops *ops, void *userdata,
	struct turn **ret_turn)
{
	SCOPED(turn_freep) struct turn *turn = calloc(1, sizeof(*turn));
	int r;

	if (!turn)
		return -ENOMEM;
	turn->ops = ops;
	turn->userdata = userdata;
	r = sd_event_add_defer(event, &turn->end, on_end, turn);
	if (r < 0)
		return r;
	sd_event_source_set_description(turn->end, "turn-end");
	sd_event_source_set_priority(turn->end, SD_EVENT_PRIORITY_IDLE);
	r = sd_event_source_set_prepare(turn->end, on_round);
	if (r >= 0)
		r = sd_event_source_set_enabled(turn->end, SD_EVENT_OFF);
	if (r < 0)
		return r;
	*ret_turn = TAKE(turn);
	return 0;
}

struct turn *turn_free(struct turn *turn)
{
	if (!turn)
		return NULL;
	sd_event_source_disable_unref(turn->end);
	free(turn);
	return NULL;
}

int turn_join(struct turn *turn, void (*flush)(void *userdata), void *userdata)
{
	if (turn->n_members == MAX_MEMBERS)
		return -ENOSPC;
	turn->members[turn->n_members].flush = flush;
	turn->members[turn->n_members].userdata = userdata;
	turn->n_members++;
	return 0;
}

void turn_due(struct turn *turn, size_t work)
{
	turn->work += work;
	turn->is_due = true;
	if (turn->is_ending)
		return; /* turn_end() looks again */
	/* A full turn overtakes the sources that keep the loop busy. */
	sd_event_source_set_priority(turn->end,
		turn->work >= TURN_MAX_WORK || turn->rounds >= MAX_ROUNDS
			? SD_EVENT_PRIORITY_IMPORTANT
			: SD_EVENT_PRIORITY_IDLE);
	sd_event_source_set_enabled(turn->end, SD_EVENT_ONESHOT);
}

static void flush_all(struct turn *turn)
{
	size_t i;

	for (i = 0; i < turn->n_members; i++)
		turn->members[i].flush(turn->members[i].userdata);
}

void turn_end(struct turn *turn)
{
	assert(!turn->is_ending);
	if (!turn->is_due)
		return;
	sd_event_source_set_enabled(turn->end, SD_EVENT_OFF);
	turn->is_due = false;
	turn->work = 0;
	turn->rounds = 0;
	turn->is_ending = true;
	if (EARLY_PUBACK) { /* see configure --help */
		flush_all(turn);
		usleep(5000); /* a slow disk: a kill has to hit between */
	}
	if (turn->ops->commit(turn->userdata) == 0)
		flush_all(turn);
	turn->ops->idle(turn->userdata);
	turn->is_ending = false;
	if (turn->is_due)
		turn_due(turn, 0);
}
