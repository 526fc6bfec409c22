/* Line framing.  Knows no tty. */
#include "localbus/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct frame {
	enum frame_line_end line_end;
	size_t max_bytes;
	bool is_overlong; /* the present line is being discarded */
	struct frame_counters counters;
	size_t n;      /* bytes of the present line in buf */
	uint8_t buf[]; /* max_bytes, and one for the CR of a line end */
};

int frame_new(enum frame_line_end line_end, size_t max_bytes,
	struct frame **ret_frame)
{
	struct frame *f = calloc(1, sizeof(*f) + max_bytes + 1);

	if (!f)
		return -ENOMEM;
	f->line_end = line_end;
	f->max_bytes = max_bytes;
	*ret_frame = f;
	return 0;
}

struct frame *frame_free(struct frame *f)
{
	free(f);
	return NULL;
}

static void end_line(struct frame *f, frame_record *on_record, void *userdata)
{
	if (!f->is_overlong && f->n == 0) {
		f->counters.empty++;
	} else if (!f->is_overlong) {
		f->counters.records++;
		on_record(userdata, f->buf, f->n);
	}
	f->n = 0;
	f->is_overlong = false;
}

/* Counted at once: the line may never end. */
static void set_overlong(struct frame *f)
{
	if (!f->is_overlong)
		f->counters.too_long++;
	f->is_overlong = true;
}

static void add_bytes(struct frame *f, const uint8_t *bytes, size_t n)
{
	size_t room = f->max_bytes + 1 - f->n;

	if (n > room) {
		/* Keep the last byte: it may be the CR of the line end. */
		set_overlong(f);
		f->buf[0] = bytes[n - 1];
		f->n = 1;
		return;
	}
	memcpy(f->buf + f->n, bytes, n);
	f->n += n;
	/* One too many, unless it is that CR. */
	if (f->n > f->max_bytes &&
		!(f->line_end == FRAME_CRLF && f->buf[f->n - 1] == '\r'))
		set_overlong(f);
}

/* Whether the LF that comes next ends the line; takes its CR off. */
static bool is_line_end(struct frame *f)
{
	if (f->line_end == FRAME_LF)
		return true;
	if (f->n == 0 || f->buf[f->n - 1] != '\r')
		return false;
	f->n--;
	return true;
}

void frame_push(struct frame *f, const uint8_t *bytes, size_t n,
	frame_record *on_record, void *userdata)
{
	f->counters.bytes += n;
	while (n) {
		const uint8_t *lf = memchr(bytes, '\n', n);
		size_t part = lf ? (size_t)(lf - bytes) : n;

		if (part)
			add_bytes(f, bytes, part);
		if (lf && is_line_end(f))
			end_line(f, on_record, userdata);
		else if (lf)
			add_bytes(f, lf, 1);
		bytes += part + (lf != NULL);
		n -= part + (lf != NULL);
	}
}

void frame_reset(struct frame *f)
{
	if (f->n && !f->is_overlong)
		f->counters.partial++;
	f->n = 0;
	f->is_overlong = false;
}

const struct frame_counters *frame_counters(const struct frame *f)
{
	return &f->counters;
}

size_t frame_encoded_bytes(enum frame_line_end line_end, size_t n)
{
	return n + (line_end == FRAME_CRLF ? 2 : 1);
}

void frame_encode(enum frame_line_end line_end, const void *payload, size_t n,
	uint8_t *ret_line)
{
	const uint8_t *p = payload;
	size_t i;

	for (i = 0; i < n; i++)
		ret_line[i] = p[i] == '\r' || p[i] == '\n' || p[i] == '\0'
			? ' '
			: p[i];
	if (line_end == FRAME_CRLF)
		ret_line[n++] = '\r';
	ret_line[n] = '\n';
}
