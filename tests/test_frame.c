/* Tests of localbus/frame.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "localbus/frame.h"
#include "tests/fault.h"
#include "tests/unit.h"

#define OUT_BYTES 8192

/* Records as they came: each in brackets, so that "[a][b]" is not "[ab]". */
struct out {
	char text[OUT_BYTES];
	size_t n;
};

static struct frame *f;
static struct out got;

static void put(struct out *out, const void *bytes, size_t n)
{
	CU_ASSERT_TRUE_FATAL(out->n + n + 2 < OUT_BYTES);
	out->text[out->n++] = '[';
	if (n)
		memcpy(out->text + out->n, bytes, n);
	out->n += n;
	out->text[out->n++] = ']';
	out->text[out->n] = '\0';
}

static void on_record(void *userdata, const uint8_t *record, size_t bytes)
{
	put(userdata, record, bytes);
}

static void set_up(void)
{
	f = NULL;
	memset(&got, 0, sizeof(got));
}

static void tear_down(void)
{
	f = frame_free(f);
}

static void make(enum frame_line_end line_end, size_t max_bytes)
{
	f = frame_free(f);
	CU_ASSERT_EQUAL_FATAL(frame_new(line_end, max_bytes, &f), 0);
	memset(&got, 0, sizeof(got));
}

static void push(const char *text)
{
	frame_push(f, (const uint8_t *)text, strlen(text), on_record, &got);
}

static void expect(
	uint64_t records, uint64_t empty, uint64_t too_long, uint64_t partial)
{
	const struct frame_counters *c = frame_counters(f);

	CU_ASSERT_EQUAL(c->records, records);
	CU_ASSERT_EQUAL(c->empty, empty);
	CU_ASSERT_EQUAL(c->too_long, too_long);
	CU_ASSERT_EQUAL(c->partial, partial);
}

static void lf_ends_a_line(void)
{
	make(FRAME_LF, 16);
	push("one\ntwo\nthr");
	CU_ASSERT_STRING_EQUAL(got.text, "[one][two]");
	push("ee\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[one][two][three]");
	expect(3, 0, 0, 0);
	CU_ASSERT_EQUAL(frame_counters(f)->bytes, 14);
}

static void with_lf_a_cr_belongs_to_the_record(void)
{
	make(FRAME_LF, 16);
	push("a\r\n\rb\n\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[a\r][\rb][\r]");
	expect(3, 0, 0, 0);
}

static void cr_lf_ends_a_line(void)
{
	make(FRAME_CRLF, 16);
	push("one\r\ntwo\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[one][two]");
	expect(2, 0, 0, 0);
}

static void with_cr_lf_a_single_cr_or_lf_belongs_to_the_record(void)
{
	make(FRAME_CRLF, 16);
	push("a\nb\rc\r\r\n\nd\n\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[a\nb\rc\r][\nd\n]");
	expect(2, 0, 0, 0);
}

static void a_line_end_may_come_in_two_parts(void)
{
	make(FRAME_CRLF, 3);
	push("abc\r");
	CU_ASSERT_STRING_EQUAL(got.text, "");
	push("\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[abc]");
	push("\r");
	push("\n");
	expect(1, 1, 0, 0);
}

static void lines_without_a_byte_are_no_records(void)
{
	make(FRAME_LF, 16);
	push("\n\na\n\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[a]");
	expect(1, 3, 0, 0);
	make(FRAME_CRLF, 16);
	push("\r\n\r\na\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[a]");
	expect(1, 2, 0, 0);
}

static void the_longest_line_passes_and_one_byte_more_does_not(void)
{
	make(FRAME_LF, 4);
	push("abcd\nabcde\nefgh\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[abcd][efgh]");
	expect(2, 0, 1, 0);
	make(FRAME_CRLF, 4);
	push("abcd\r\nabcde\r\nabcd\r\r\nefgh\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[abcd][efgh]");
	expect(2, 0, 2, 0);
}

static void a_line_that_is_too_long_is_discarded_whole(void)
{
	make(FRAME_LF, 4);
	push("0123456789");
	push("0123456789");
	push("ab\ncd\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[cd]");
	expect(1, 0, 1, 0);
	make(FRAME_CRLF, 4);
	push("0123456789\r");
	push("\nab\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[ab]");
	expect(1, 0, 1, 0);
}

static void a_line_without_an_end_is_counted_when_it_is_too_long(void)
{
	int i;

	make(FRAME_LF, 4);
	push("abcd");
	expect(0, 0, 0, 0);
	push("e");
	expect(0, 0, 1, 0);
	for (i = 0; i < 1000; i++)
		push("xxxxxxxxxx");
	expect(0, 0, 1, 0);
	CU_ASSERT_EQUAL(frame_counters(f)->bytes, 10005);

	make(FRAME_CRLF, 4);
	push("abcd\r"); /* its line end may have begun */
	expect(0, 0, 0, 0);
	push("\r");
	expect(0, 0, 1, 0);
}

static void a_limit_of_one_byte_works(void)
{
	make(FRAME_CRLF, 1);
	push("a\r\nbb\r\n\r\r\n\r\nc\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[a][\r][c]");
	expect(3, 1, 1, 0);
}

static void every_byte_may_stand_in_a_record(void)
{
	uint8_t all[257];
	unsigned i;
	size_t n = 0;

	for (i = 0; i < 256; i++)
		if (i != '\n')
			all[n++] = (uint8_t)i;
	all[n] = '\n';
	make(FRAME_LF, 255);
	frame_push(f, all, n + 1, on_record, &got);
	CU_ASSERT_EQUAL(got.n, 255 + 2);
	CU_ASSERT_EQUAL(memcmp(got.text + 1, all, 255), 0);
}

static void no_bytes_change_nothing(void)
{
	make(FRAME_LF, 8);
	push("ab");
	frame_push(f, NULL, 0, on_record, &got);
	push("c\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[abc]");
	CU_ASSERT_EQUAL(frame_counters(f)->bytes, 4);
}

static void reset_begins_a_new_line_and_counts_what_is_cut(void)
{
	make(FRAME_LF, 8);
	push("abc");
	frame_reset(f);
	push("def\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[def]");
	expect(1, 0, 0, 1);
	frame_reset(f); /* between lines there is nothing to cut */
	expect(1, 0, 0, 1);
}

static void reset_ends_a_line_that_is_too_long(void)
{
	make(FRAME_LF, 4);
	push("abcdefgh");
	frame_reset(f);
	push("ok\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[ok]");
	expect(1, 0, 1, 0); /* counted as too long: not twice */
}

static void reset_forgets_half_a_line_end(void)
{
	make(FRAME_CRLF, 8);
	push("ab\r");
	frame_reset(f);
	push("\ncd\r\n");
	CU_ASSERT_STRING_EQUAL(got.text, "[\ncd]");
}

/* ---- properties ---- */

/* The same by looking at all of the bytes at once. */
static void split(enum frame_line_end line_end, size_t max_bytes,
	const uint8_t *in, size_t n, struct out *out,
	struct frame_counters *counters)
{
	size_t end_bytes = line_end == FRAME_CRLF ? 2 : 1;
	size_t begin = 0;
	size_t i;

	memset(counters, 0, sizeof(*counters));
	counters->bytes = n;
	for (i = 0; i < n; i++) {
		size_t bytes = i + 1 - begin;

		if (in[i] != '\n' ||
			(line_end == FRAME_CRLF &&
				(bytes < 2 || in[i - 1] != '\r')))
			continue;
		bytes -= end_bytes;
		if (bytes > max_bytes) {
			counters->too_long++;
		} else if (bytes == 0) {
			counters->empty++;
		} else {
			counters->records++;
			put(out, in + begin, bytes);
		}
		begin = i + 1;
	}
	n -= begin;
	if (n > max_bytes &&
		!(line_end == FRAME_CRLF && n == max_bytes + 1 &&
			in[begin + n - 1] == '\r'))
		counters->too_long++;
}

static void random_chunks_give_what_the_whole_gives(void)
{
	static const char alphabet[] = {'a', 'b', '\r', '\n', '\0'};
	unsigned seed = 11;
	int round;

	for (round = 0; round < 20000; round++) {
		enum frame_line_end line_end =
			rand_r(&seed) % 2 ? FRAME_CRLF : FRAME_LF;
		size_t max_bytes = 1 + (size_t)rand_r(&seed) % 6;
		uint8_t in[64];
		size_t n = (size_t)rand_r(&seed) % sizeof(in);
		struct out want = {.n = 0};
		struct frame_counters counters;
		size_t at;
		size_t i;

		for (i = 0; i < n; i++)
			in[i] = (uint8_t)alphabet[rand_r(&seed) % 5];
		split(line_end, max_bytes, in, n, &want, &counters);
		make(line_end, max_bytes);
		for (at = 0; at < n; at += i) {
			i = 1 + (size_t)rand_r(&seed) % (n - at);
			frame_push(f, in + at, i, on_record, &got);
		}
		CU_ASSERT_EQUAL_FATAL(got.n, want.n);
		CU_ASSERT_EQUAL_FATAL(memcmp(got.text, want.text, got.n), 0);
		CU_ASSERT_EQUAL_FATAL(
			memcmp(frame_counters(f), &counters, sizeof(counters)),
			0);
	}
}

/* ---- encoding ---- */

static void encode_adds_the_line_end(void)
{
	uint8_t line[8] = "zzzzzzz";

	CU_ASSERT_EQUAL(frame_encoded_bytes(FRAME_LF, 3), 4);
	frame_encode(FRAME_LF, "abc", 3, line);
	CU_ASSERT_EQUAL(memcmp(line, "abc\nz", 5), 0);
	CU_ASSERT_EQUAL(frame_encoded_bytes(FRAME_CRLF, 3), 5);
	frame_encode(FRAME_CRLF, "abc", 3, line);
	CU_ASSERT_EQUAL(memcmp(line, "abc\r\nz", 6), 0);
}

static void encode_of_nothing_is_a_line_end(void)
{
	uint8_t line[3] = "zz";

	CU_ASSERT_EQUAL(frame_encoded_bytes(FRAME_CRLF, 0), 2);
	frame_encode(FRAME_CRLF, NULL, 0, line);
	CU_ASSERT_EQUAL(memcmp(line, "\r\n", 3), 0);
}

static void a_payload_is_never_two_lines(void)
{
	static const char payload[] = "tare\r\nreboot\n\0x\xff";
	uint8_t line[32];
	size_t n = sizeof(payload) - 1;

	make(FRAME_LF, 64);
	frame_encode(FRAME_LF, payload, n, line);
	frame_push(f, line, frame_encoded_bytes(FRAME_LF, n), on_record, &got);
	CU_ASSERT_STRING_EQUAL(got.text, "[tare  reboot  x\xff]");
}

static void what_is_encoded_comes_back_as_one_record(void)
{
	unsigned seed = 5;
	int round;

	for (round = 0; round < 2000; round++) {
		enum frame_line_end line_end =
			round % 2 ? FRAME_CRLF : FRAME_LF;
		uint8_t payload[40];
		uint8_t line[42];
		size_t n = 1 + (size_t)rand_r(&seed) % sizeof(payload);
		size_t i;

		for (i = 0; i < n; i++)
			payload[i] = (uint8_t)rand_r(&seed);
		make(line_end, n);
		frame_encode(line_end, payload, n, line);
		frame_push(f, line, frame_encoded_bytes(line_end, n), on_record,
			&got);
		expect(1, 0, 0, 0);
		CU_ASSERT_EQUAL(got.n, n + 2);
	}
}

static void new_without_memory_says_so(void)
{
	struct frame *none = NULL;

	fault_set(0);
	CU_ASSERT_EQUAL(frame_new(FRAME_LF, 100, &none), -ENOMEM);
	CU_ASSERT_TRUE(fault_clear());
	CU_ASSERT_PTR_NULL(none);
	CU_ASSERT_PTR_NULL(frame_free(NULL));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"LF ends a line", lf_ends_a_line},
		{"with LF a CR belongs to the record",
			with_lf_a_cr_belongs_to_the_record},
		{"CR LF ends a line", cr_lf_ends_a_line},
		{"with CR LF a single CR or LF belongs to the record",
			with_cr_lf_a_single_cr_or_lf_belongs_to_the_record},
		{"a line end may come in two parts",
			a_line_end_may_come_in_two_parts},
		{"lines without a byte are no records",
			lines_without_a_byte_are_no_records},
		{"the longest line passes and one byte more does not",
			the_longest_line_passes_and_one_byte_more_does_not},
		{"a line that is too long is discarded whole",
			a_line_that_is_too_long_is_discarded_whole},
		{"a line without an end is counted when it is too long",
			a_line_without_an_end_is_counted_when_it_is_too_long},
		{"a limit of one byte works", a_limit_of_one_byte_works},
		{"every byte may stand in a record",
			every_byte_may_stand_in_a_record},
		{"no bytes change nothing", no_bytes_change_nothing},
		{"reset begins a new line and counts what is cut",
			reset_begins_a_new_line_and_counts_what_is_cut},
		{"reset ends a line that is too long",
			reset_ends_a_line_that_is_too_long},
		{"reset forgets half a line end",
			reset_forgets_half_a_line_end},
		{"random chunks give what the whole gives",
			random_chunks_give_what_the_whole_gives},
		{"new without memory says so", new_without_memory_says_so},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo encode[] = {
		{"encode adds the line end", encode_adds_the_line_end},
		{"encode of nothing is a line end",
			encode_of_nothing_is_a_line_end},
		{"a payload is never two lines", a_payload_is_never_two_lines},
		{"what is encoded comes back as one record",
			what_is_encoded_comes_back_as_one_record},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"frame", NULL, NULL, set_up, tear_down, tests},
		{"encode", NULL, NULL, set_up, tear_down, encode},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
