/* A ring of packet identifiers and checksums.  Knows no broker.
 *
 * On disk it lies in blocks, each a value of the state, so that a turn writes
 * one or two of them however large the ring is.  A block of an earlier
 * generation, so of a session that the broker has forgotten, does not count. */
#include "spool/recent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "spool/state.h"

#define BLOCK_ENTRIES 256
#define KEY_BYTES 64

struct entry {
	uint32_t mid;
	uint32_t crc;
};

struct block {
	uint32_t generation;
	uint32_t unused;
	uint64_t count;     /* entries ever, when it was written */
	uint64_t confirmed; /* as below, when it was written */
	struct entry entries[BLOCK_ENTRIES];
};

struct recent {
	struct state *state; /* borrowed */
	char *key;
	uint32_t generation;
	bool is_new_generation; /* not stored yet */
	uint64_t count;         /* entries ever; the next goes to its modulo */
	uint64_t stored;        /* of these, the first ones that are stored */
	uint64_t confirmed;     /* the first ones that will not come again */
	unsigned n_blocks;
	struct entry ring[];
};

static uint32_t checksum(const struct msg *msg)
{
	uint32_t crc = crc32c(0, msg->topic, strlen(msg->topic) + 1);

	return crc32c(crc, msg->payload, msg->payload_bytes);
}

static unsigned n_entries(const struct recent *r)
{
	return r->n_blocks * BLOCK_ENTRIES;
}

static void block_key(const struct recent *r, unsigned i, char ret[KEY_BYTES])
{
	snprintf(ret, KEY_BYTES, "%s.%u", r->key, i);
}

static int load_block(struct recent *r, unsigned i)
{
	struct block b;
	char key[KEY_BYTES];
	size_t bytes;
	int err;

	block_key(r, i, key);
	err = state_get(r->state, key, &b, sizeof(b), &bytes);
	if (err < 0)
		return err == -ENOBUFS ? 0 : err; /* not of ours */
	if (bytes != sizeof(b) || b.generation != r->generation)
		return 0;
	memcpy(r->ring + (size_t)i * BLOCK_ENTRIES, b.entries,
		sizeof(b.entries));
	if (b.count > r->count) {
		r->count = b.count;
		r->confirmed = b.confirmed;
	}
	return 0;
}

static int load(struct recent *r)
{
	uint32_t generation = 0;
	size_t bytes;
	unsigned i;
	int err;

	memset(r->ring, 0, n_entries(r) * sizeof(r->ring[0]));
	r->count = 0;
	r->confirmed = 0;
	err = state_get(
		r->state, r->key, &generation, sizeof(generation), &bytes);
	if (err == -ENOBUFS)
		err = 0; /* not of ours: at worst a message comes twice */
	r->generation = generation;
	for (i = 0; err == 0 && i < r->n_blocks; i++)
		err = load_block(r, i);
	r->stored = r->count;
	return err;
}

/* What the broker has forgotten, or will not send again, is not undone by our
 * rollback. */
int recent_reload(struct recent *r)
{
	uint32_t generation = r->generation;
	uint64_t confirmed = r->confirmed;
	int err = load(r);

	if (err == 0 && r->generation != generation)
		recent_resume(r, false);
	else
		recent_confirm(r, confirmed);
	return err;
}

int recent_new(struct state *state, const char *key, unsigned size,
	struct recent **ret_recent)
{
	unsigned n_blocks = (size + BLOCK_ENTRIES - 1) / BLOCK_ENTRIES;
	SCOPED(recent_freep)
	struct recent *r = calloc(
		1, sizeof(*r) + n_blocks * BLOCK_ENTRIES * sizeof(r->ring[0]));
	int err;

	if (!r)
		return -ENOMEM;
	r->state = state;
	r->n_blocks = n_blocks;
	r->key = strdup(key);
	if (!r->key)
		return -ENOMEM;
	err = load(r);
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
	if (session_present)
		return;
	memset(r->ring, 0, n_entries(r) * sizeof(r->ring[0]));
	r->count = 0;
	r->stored = 0;
	r->confirmed = 0;
	r->generation++;
	r->is_new_generation = true;
}

/* The first entry that is still in the ring and may come again. */
static uint64_t first_open(const struct recent *r)
{
	uint64_t kept = r->count > n_entries(r) ? r->count - n_entries(r) : 0;

	return kept > r->confirmed ? kept : r->confirmed;
}

bool recent_is_repeated(struct recent *r, unsigned mid, const struct msg *msg)
{
	const struct entry *e;
	uint32_t crc;
	uint64_t i;

	if (mid == 0)
		return false;
	crc = checksum(msg);
	for (i = first_open(r); i < r->count; i++) {
		e = &r->ring[i % n_entries(r)];
		if (e->mid == mid && e->crc == crc)
			return true;
	}
	return false;
}

uint64_t recent_count(const struct recent *r)
{
	return r->count;
}

void recent_confirm(struct recent *r, uint64_t count)
{
	if (count > r->confirmed && count <= r->count)
		r->confirmed = count;
}

void recent_add(struct recent *r, unsigned mid, const struct msg *msg)
{
	struct entry *e = &r->ring[r->count % n_entries(r)];

	if (mid == 0)
		return;
	e->mid = mid;
	e->crc = checksum(msg);
	r->count++;
}

static int store_block(struct recent *r, unsigned i)
{
	struct block b = {.generation = r->generation,
		.count = r->count,
		.confirmed = r->confirmed};
	char key[KEY_BYTES];

	memcpy(b.entries, r->ring + (size_t)i * BLOCK_ENTRIES,
		sizeof(b.entries));
	block_key(r, i, key);
	return state_set(r->state, key, &b, sizeof(b));
}

int recent_store(struct recent *r)
{
	uint64_t i;
	int err = 0;

	if (r->is_new_generation)
		err = state_set(r->state, r->key, &r->generation,
			sizeof(r->generation));
	if (err)
		return err;
	r->is_new_generation = false;
	if (r->count - r->stored > n_entries(r))
		r->stored = r->count - n_entries(r);
	for (i = r->stored / BLOCK_ENTRIES;
		r->stored < r->count && i * BLOCK_ENTRIES < r->count; i++) {
		err = store_block(r, (unsigned)(i % r->n_blocks));
		if (err)
			return err;
	}
	r->stored = r->count;
	return 0;
}
