/* A ring of packet identifiers and checksums.  Knows no broker. */
#include "spool/recent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "spool/state.h"

struct entry {
	uint32_t mid;
	uint32_t crc;
};

struct recent {
	struct state *state; /* borrowed */
	char *key;
	bool is_resuming;
	bool is_changed;
	unsigned size;
	unsigned next; /* where the next entry goes */
	struct entry ring[];
};

static uint32_t checksum(const struct msg *msg)
{
	uint32_t crc = crc32c(0, msg->topic, strlen(msg->topic) + 1);

	return crc32c(crc, msg->payload, msg->payload_bytes);
}

static size_t ring_bytes(const struct recent *r)
{
	return r->size * sizeof(r->ring[0]);
}

int recent_reload(struct recent *r)
{
	size_t bytes;
	int err;

	memset(r->ring, 0, ring_bytes(r));
	r->next = 0;
	r->is_changed = false;
	err = state_get(r->state, r->key, r->ring, ring_bytes(r), &bytes);
	/* Of another size: the ring was configured otherwise then.  Nothing is
	 * lost without it, at worst a message comes twice. */
	if (err == -ENOBUFS)
		return 0;
	return err;
}

int recent_new(struct state *state, const char *key, unsigned size,
	struct recent **ret_recent)
{
	SCOPED(recent_freep)
	struct recent *r = calloc(1, sizeof(*r) + size * sizeof(r->ring[0]));
	int err;

	if (!r)
		return -ENOMEM;
	r->state = state;
	r->size = size;
	r->key = strdup(key);
	if (!r->key)
		return -ENOMEM;
	err = recent_reload(r);
	if (err < 0)
		return err;
	*ret_recent = TAKE(r);
	return 0;
}

struct recent *recent_free(struct recent *r)
{
	if (!r)
		return NULL;
	free(r->key);
	free(r);
	return NULL;
}

void recent_resume(struct recent *r, bool session_present)
{
	r->is_resuming = session_present;
	if (!session_present) {
		memset(r->ring, 0, ring_bytes(r));
		r->next = 0;
		r->is_changed = true;
	}
}

bool recent_is_repeated(struct recent *r, unsigned mid, const struct msg *msg)
{
	uint32_t crc;
	unsigned i;

	if (!r->is_resuming || mid == 0)
		return false;
	crc = checksum(msg);
	for (i = 0; i < r->size; i++)
		if (r->ring[i].mid == mid && r->ring[i].crc == crc)
			return true;
	r->is_resuming = false;
	return false;
}

void recent_add(struct recent *r, unsigned mid, const struct msg *msg)
{
	if (mid == 0)
		return;
	r->ring[r->next].mid = mid;
	r->ring[r->next].crc = checksum(msg);
	r->next = (r->next + 1) % r->size;
	r->is_changed = true;
}

/* Stored from the oldest on, so that `next` need not be stored. */
int recent_store(struct recent *r)
{
	struct entry *sorted;
	size_t tail = (r->size - r->next) * sizeof(r->ring[0]);
	int err;

	if (!r->is_changed)
		return 0;
	sorted = malloc(ring_bytes(r));
	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, r->ring + r->next, tail);
	memcpy((char *)sorted + tail, r->ring, ring_bytes(r) - tail);
	err = state_set(r->state, r->key, sorted, ring_bytes(r));
	free(sorted);
	if (err == 0)
		r->is_changed = false;
	return err;
}
