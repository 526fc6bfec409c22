/* Tests of base/log.h, base/crc32c.h and base/now.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/now.h"
#include "tests/unit.h"

static int saved_stderr = -1;
static FILE *capture;
static char text[65536];
static uint64_t fake_now;

static uint64_t clock_of_test(void)
{
	return fake_now;
}

static void set_up(void)
{
	unsetenv("JOURNAL_STREAM");
	capture = tmpfile();
	CU_ASSERT_PTR_NOT_NULL_FATAL(capture);
	fflush(stderr);
	saved_stderr = dup(STDERR_FILENO);
	dup2(fileno(capture), STDERR_FILENO);
	fake_now = 1000 * USEC_PER_SEC;
	now_set_for_test(clock_of_test, NULL);
}

/* What was logged so far; stderr is itself again. */
static const char *logged(void)
{
	size_t n;

	if (saved_stderr >= 0) {
		dup2(saved_stderr, STDERR_FILENO);
		close(saved_stderr);
		saved_stderr = -1;
	}
	rewind(capture);
	n = fread(text, 1, sizeof(text) - 1, capture);
	text[n] = '\0';
	return text;
}

static void tear_down(void)
{
	logged();
	fclose(capture);
	now_set_for_test(NULL, NULL);
	log_set_level(LOG_LEVEL_INFO);
}

static void a_line_says_its_level(void)
{
	log_warning("spool: %d", 7);
	CU_ASSERT_STRING_EQUAL(logged(), "warning: spool: 7\n");
}

static void under_systemd_a_line_has_its_prefix(void)
{
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_info("x");
	unsetenv("JOURNAL_STREAM");
	CU_ASSERT_STRING_EQUAL(logged(), "<6>x\n");
}

static void levels_above_the_limit_are_dropped(void)
{
	log_debug("no");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("yes");
	CU_ASSERT_STRING_EQUAL(logged(), "debug: yes\n");
}

static void outside_bytes_cannot_forge_a_line(void)
{
	log_info("topic '%s'", "a\nerror: fake\x1b[2J\x7f");
	CU_ASSERT_STRING_EQUAL(
		logged(), "info: topic 'a\\x0aerror: fake\\x1b[2J\\x7f'\n");
}

static void utf8_passes_and_what_is_none_is_escaped(void)
{
	log_info("%s", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	log_info("%s", "\xc0\xaf \xed\xa0\x80 \xff \xc2\x9b \xe2\x82");
	CU_ASSERT_STRING_EQUAL(logged(),
		"info: \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n"
		"info: \\xc0\\xaf \\xed\\xa0\\x80 \\xff \\xc2\\x9b "
		"\\xe2\\x82\n");
}

static void other_places_can_have_it_escaped(void)
{
	static const char outside[] = "x\nSTOPPING=1\r\t\x1b[2J\x7f\xff";
	char buf[64];
	char small[8];

	log_escape(outside, buf, sizeof(buf));
	CU_ASSERT_STRING_EQUAL(
		buf, "x\\x0aSTOPPING=1\\x0d\\x09\\x1b[2J\\x7f\\xff");
	log_escape("a \xc3\xa9 \xe2\x82\xac b", buf, sizeof(buf));
	CU_ASSERT_STRING_EQUAL(buf, "a \xc3\xa9 \xe2\x82\xac b");
	log_escape("", buf, sizeof(buf));
	CU_ASSERT_STRING_EQUAL(buf, "");
	/* Too small, also for anything at all: what fits, and no half of it. */
	memset(small, '#', sizeof(small));
	log_escape("\n\n\n", small, sizeof(small) - 1);
	CU_ASSERT_STRING_EQUAL(small, "\\x0a");
	CU_ASSERT_EQUAL(small[sizeof(small) - 1], '#');
	log_escape("abc", small, 1);
	CU_ASSERT_STRING_EQUAL(small, "");
	CU_ASSERT_EQUAL(small[1], 'x');
}

static void a_long_line_is_cut(void)
{
	static char big[10000];

	memset(big, 'x', sizeof(big) - 1);
	log_info("%s", big);
	CU_ASSERT_TRUE(strlen(logged()) < 2050);
	CU_ASSERT_EQUAL(text[strlen(text) - 1], '\n');
}

static void log_fail_returns_its_error_and_says_it(void)
{
	errno = EAGAIN;
	CU_ASSERT_EQUAL(log_fail(-ENOENT, "a: %s", "b"), -ENOENT);
	CU_ASSERT_EQUAL(errno, EAGAIN);
	CU_ASSERT_STRING_EQUAL(
		logged(), "error: a: b: No such file or directory\n");
}

static int count_lines(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

static void a_flood_is_held_back_and_counted(void)
{
	struct log_limit limit = {0};
	int i;

	for (i = 0; i < 1000; i++)
		log_limited(&limit, LOG_LEVEL_WARNING, "flood");
	fake_now += 11 * USEC_PER_SEC;
	log_limited(&limit, LOG_LEVEL_WARNING, "flood");
	log_limited(&limit, LOG_LEVEL_WARNING, "flood");
	logged();
	CU_ASSERT_EQUAL(count_lines(text), 6);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(text, "flood (and 995 more like this)\n"));
	CU_ASSERT_EQUAL(limit.held, 1);
}

static void crc32c_has_the_value_of_rfc_3720(void)
{
	unsigned char zeros[32] = {0};

	/* RFC 3720 B.4, and the check value of the polynomial. */
	CU_ASSERT_EQUAL(crc32c(0, zeros, 32), 0x8a9136aa);
	CU_ASSERT_EQUAL(crc32c(0, "123456789", 9), 0xe3069283);
	CU_ASSERT_EQUAL(crc32c(0, "", 0), 0);
	CU_ASSERT_EQUAL(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a line says its level", a_line_says_its_level},
		{"under systemd a line has its prefix",
			under_systemd_a_line_has_its_prefix},
		{"levels above the limit are dropped",
			levels_above_the_limit_are_dropped},
		{"outside bytes cannot forge a line",
			outside_bytes_cannot_forge_a_line},
		{"UTF-8 passes and what is none is escaped",
			utf8_passes_and_what_is_none_is_escaped},
		{"other places can have it escaped",
			other_places_can_have_it_escaped},
		{"a long line is cut", a_long_line_is_cut},
		{"log_fail returns its error and says it",
			log_fail_returns_its_error_and_says_it},
		{"a flood is held back and counted",
			a_flood_is_held_back_and_counted},
		{"crc32c has the value of RFC 3720",
			crc32c_has_the_value_of_rfc_3720},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"log", NULL, NULL, set_up, tear_down, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
