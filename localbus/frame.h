#ifndef LOCALBUS_FRAME_H
#define LOCALBUS_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/scope.h"

/* Bytes to records and back, for lines.  Pure; memory is max_bytes, whatever
 * comes in. */
struct frame;

enum frame_line_end { FRAME_LF, FRAME_CRLF };

struct frame_counters {
	uint64_t bytes;
	uint64_t records;
	uint64_t empty;    /* lines without a byte: no record */
	uint64_t too_long; /* lines beyond max_bytes: discarded whole, and
			    * counted as soon as this is seen */
	uint64_t partial;  /* other lines cut off by frame_reset() */
};

/* A record without its line end; borrowed for the call. */
typedef void frame_record(void *userdata, const uint8_t *record, size_t bytes);

/* With FRAME_LF a line ends at LF, with FRAME_CRLF at CR LF; other CR and LF
 * belong to the record.  max_bytes: longest record.  0 or -ENOMEM. */
CHECKED int frame_new(enum frame_line_end line_end, size_t max_bytes,
	struct frame **ret_frame);

struct frame *frame_free(struct frame *f);
DEFINE_SCOPED(struct frame *, frame_free);

/* Take bytes as they come; on_record is called for each line that is
 * complete. */
void frame_push(struct frame *f, const uint8_t *bytes, size_t n,
	frame_record *on_record, void *userdata);

/* What comes next begins a new line. */
void frame_reset(struct frame *f);

const struct frame_counters *frame_counters(const struct frame *f);

/* Bytes of the line that frame_encode() makes of n bytes. */
size_t frame_encoded_bytes(enum frame_line_end line_end, size_t n);

/* Make one line: CR, LF and NUL within become blanks, so that a payload is
 * never two lines; then the line end.  ret_line has room for
 * frame_encoded_bytes(). */
void frame_encode(enum frame_line_end line_end, const void *payload, size_t n,
	uint8_t *ret_line);

#endif
