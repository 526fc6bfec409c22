/* Tests of gatewayd/conf_source.h, by gatewayd/conf.h: files, their merge, and
 * what libconfig would take the wrong way. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "gatewayd/conf.h"
#include "tests/confdir.h"
#include "tests/unit.h"

#define MAIN "gatewayd.conf"
#define UP "routes : { up : { direction = \"up\"; filter = \"dt/#\"; }; };\n"

/* ---- the merge ---- */

static void a_later_file_overrides_in_c_locale_order(void)
{
	write_main("uplink : { port = 1; };");
	write_file("conf.d/10-a.conf", "uplink : { port = 10; };");
	write_file("conf.d/9-b.conf", "uplink : { port = 9; };");
	write_file("conf.d/B.conf", "uplink : { port = 66; };");
	write_file("conf.d/a.conf", "uplink : { port = 97; };");
	expect_loads();
	CU_ASSERT_EQUAL(conf->uplink.port, 97);
	remove_file("conf.d/a.conf");
	expect_loads();
	CU_ASSERT_EQUAL(conf->uplink.port, 66);
	remove_file("conf.d/B.conf");
	expect_loads();
	CU_ASSERT_EQUAL(conf->uplink.port, 9);
	remove_file("conf.d/9-b.conf");
	expect_loads();
	CU_ASSERT_EQUAL(conf->uplink.port, 10);
	remove_file("conf.d/10-a.conf");
	expect_loads();
	CU_ASSERT_EQUAL(conf->uplink.port, 1);
}

static void groups_are_merged_key_by_key(void)
{
	write_main(
		"uplink : { host = \"a\"; port = 1; };\n"
		"serial : { m : { device = \"/dev/a\"; baud = 300; }; };\n" UP);
	write_file("conf.d/x.conf",
		"uplink : { port = 2; };\n"
		"serial : { m : { baud = 600; };\n"
		"           n : { device = \"/dev/b\"; }; };\n");
	expect_loads();
	CU_ASSERT_STRING_EQUAL(conf->uplink.host, "a");
	CU_ASSERT_EQUAL(conf->uplink.port, 2);
	CU_ASSERT_EQUAL_FATAL(conf->n_serials, 2);
	CU_ASSERT_STRING_EQUAL(conf->serials[0].device, "/dev/a");
	CU_ASSERT_EQUAL(conf->serials[0].baud, 600);
	CU_ASSERT_EQUAL(conf->n_routes, 1);
}

static void lists_are_replaced(void)
{
	write_main("routes : { up : { direction = \"up\";\n"
		   "filter = [ \"a\", \"b\", \"c\" ]; }; };");
	write_file("conf.d/x.conf", "routes : { up : { filter = \"d\"; }; };");
	expect_loads();
	CU_ASSERT_EQUAL_FATAL(conf->routes[0].n_filters, 1);
	CU_ASSERT_STRING_EQUAL(conf->routes[0].filters[0], "d");
	write_file("conf.d/y.conf",
		"routes : { up : { filter = [ \"e\", \"f\" ]; }; };");
	expect_loads();
	CU_ASSERT_EQUAL(conf->routes[0].n_filters, 2);
}

static void other_files_are_no_drop_ins(void)
{
	static const char *const names[] = {"conf.d/.x.conf", "conf.d/x.conf~",
		"conf.d/x.conf.dpkg-old", "conf.d/README", "conf.d/xconf",
		"other.conf"};
	size_t i;

	write_main("");
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		write_file(names[i], "this is { not read");
	expect_loads();
}

static void no_drop_in_folder_is_fine(void)
{
	char folder[96];

	write_main("");
	snprintf(folder, sizeof(folder), "%s/conf.d", confdir);
	CU_ASSERT_EQUAL_FATAL(rmdir(folder), 0);
	expect_loads();
	write_file("conf.d", "a file, not a folder");
	expect_loads();
}

static void a_mistake_is_told_where_it_stands(void)
{
	write_main("# one\n\nuplink : {\n\tport = 1;\n};\n");
	write_file(
		"conf.d/a.conf", "\n\n\nuplink : {\n\n\tport = 70000;\n};\n");
	expect_error("conf.d/a.conf:6", "uplink.port",
		"70000 is out of range; write 1 to 65535");
	/* A later file mends it. */
	write_file("conf.d/b.conf", "uplink : { port = 7; };");
	expect_loads();
}

/* ---- files that are no configuration ---- */

static void a_file_that_is_not_there_is_told(void)
{
	expect_error(MAIN ":0", "file", "No such file or directory; put it");
	CU_ASSERT_EQUAL(load_path("/no/such/folder/x.conf"), -EINVAL);
	CU_ASSERT_EQUAL(load_path("no-such-file.conf"), -EINVAL);
}

static void a_folder_or_a_pipe_is_no_file(void)
{
	char path[128];

	CU_ASSERT_EQUAL_FATAL(mkdir(conf_path, 0755), 0);
	expect_error(MAIN ":0", "file", "is not a file of at most 1 MiB");
	CU_ASSERT_EQUAL_FATAL(rmdir(conf_path), 0);
	write_main("");
	snprintf(path, sizeof(path), "%s/conf.d/x.conf", confdir);
	CU_ASSERT_EQUAL_FATAL(mkdir(path, 0755), 0);
	expect_error("conf.d/x.conf:0", "file", "is not a file");
	CU_ASSERT_EQUAL_FATAL(rmdir(path), 0);
	CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
	expect_error("conf.d/x.conf:0", "file", "is not a file");
	CU_ASSERT_EQUAL_FATAL(unlink(path), 0);
	CU_ASSERT_EQUAL_FATAL(symlink("nowhere", path), 0);
	expect_error("conf.d/x.conf:0", "file", "No such file");
}

static void a_file_without_permission_is_told(void)
{
	if (geteuid() == 0)
		return; /* root may read all */
	write_main("");
	CU_ASSERT_EQUAL_FATAL(chmod(conf_path, 0), 0);
	expect_error(MAIN ":0", "file",
		"Permission denied; let the user gatewayd read it");
}

static void a_file_that_is_too_large_is_told(void)
{
	size_t n = (1 << 20) + 1;
	char *big = malloc(n);

	CU_ASSERT_PTR_NOT_NULL_FATAL(big);
	memset(big, '\n', n);
	write_bytes(MAIN, big, n - 1);
	expect_loads();
	write_bytes(MAIN, big, n);
	expect_error(MAIN ":0", "file", "is not a file of at most 1 MiB");
	free(big);
}

/* As a power cut leaves it: what follows the NUL must not be dropped. */
static void a_file_with_a_nul_is_told(void)
{
	static const char text[] = "uplink : { port = 1; };\n\0\0\0\0";

	write_bytes(MAIN, text, sizeof(text));
	expect_error(MAIN ":0", "file", "holds a NUL byte");
	write_bytes(MAIN, "\0\0\0\0", 4);
	expect_error(MAIN ":0", "file", "holds a NUL byte");
}

static void syntax_is_told_with_its_line(void)
{
	expect_main_error("uplink : {\n\tport = 1\n\thost == \"a\";\n};\n",
		MAIN ":3", "syntax", "syntax error; check this line");
	expect_main_error(
		"uplink : {\n\n", MAIN ":3", "syntax", "syntax error");
	expect_main_error("uplink : { host = \"a; };\n", MAIN ":2", "syntax",
		"syntax error");
	/* One name twice. */
	expect_main_error("uplink : {\n\tport = 1;\n\tport = 2;\n};\n",
		MAIN ":3", "syntax", "duplicate setting name");
}

/* What a broken file may hold is not said to be missing. */
static void a_syntax_error_brings_no_others_with_it(void)
{
	write_main("serial : { m : { device = \"/dev/a\"; }; };\n" UP "{");
	write_file("conf.d/a.conf",
		"serial : { m : { baud = 300; };\n"
		"           n : { device = \"/dev/b\"; }; };");
	expect_error(MAIN ":3", "syntax", "syntax error");
}

static void include_is_refused_and_not_followed(void)
{
	write_file("other", "uplink : { prot = 1; };");
	expect_main_error("uplink : { port = 1; };\n@include \"other\"\n",
		MAIN ":2", "@include", "write a file conf.d/<name>.conf");
	/* libconfig would end the process over this. */
	expect_main_error("@include \"conf.d\"\n", MAIN ":1", "@include",
		"cannot be used");
	expect_main_error("  @include \"/no/such/file\"\n", MAIN ":1",
		"@include", "cannot be used");
}

static void an_at_sign_elsewhere_is_only_that(void)
{
	write_main("# mail me@example.org\n/* @include \"x\" */\n// @include\n"
		   "uplink : { ca = \"/a@b \\\" @include c\"; };\n");
	expect_loads();
	CU_ASSERT_STRING_EQUAL(conf->uplink.ca, "/a@b \" @include c");
	/* And other mistakes in such a file are still found. */
	write_main("# me@example.org\n"
		   "uplink : { inflight = 4294967297;\n prot = 1; };\n");
	CU_ASSERT_EQUAL(load(), -EINVAL);
	CU_ASSERT_TRUE(has_error(MAIN ":2", "uplink.inflight", "too large"));
	CU_ASSERT_TRUE(has_error(MAIN ":3", "uplink.prot", "uplink.port"));
}

/* ---- numbers that libconfig wraps ---- */

static void numbers_that_would_wrap_are_told(void)
{
	static const char *const numbers[] = {"4294967297", "2147483648",
		"10737418240", "0x100000001", "99999999999999999999999999",
		"-4294967295", "4294967297L"};
	char text[128];
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		snprintf(text, sizeof(text), "\nuplink : {\n port = %s; };",
			numbers[i]);
		write_main(text);
		CU_ASSERT_EQUAL(load(), -EINVAL);
		if (!has_error(MAIN ":3", "uplink.port", "is too large"))
			fprintf(stderr, "%s: %s\n", numbers[i], errors);
		CU_ASSERT_TRUE(has_error(MAIN ":3", "uplink.port",
			"is too large for this file format; write a whole "
			"number without quotes, 1 to 65535"));
		CU_ASSERT_EQUAL(n_errors, 1);
	}
	write_main("spool : { max_size = 10737418240; };");
	CU_ASSERT_EQUAL(load(), -EINVAL);
	CU_ASSERT_TRUE(has_error(MAIN ":1", "spool.max_size", "10737418240"));
	/* In a string or a comment it is no number. */
	write_main("# 4294967297\n/* 4294967297 */\n// 10737418240\n"
		   "uplink : { ca = \"/x 4294967297 \\\" 4294967297\"; };\n"
		   "spool : { max_size = \"10737418240B\"; };");
	expect_loads();
	CU_ASSERT_EQUAL(conf->spool.max_bytes, UINT64_C(10737418240));
}

int main(void)
{
	CU_TestInfo merge[] = {
		{"a later file overrides in C-locale order",
			a_later_file_overrides_in_c_locale_order},
		{"groups are merged key by key", groups_are_merged_key_by_key},
		{"lists are replaced", lists_are_replaced},
		{"other files are no drop-ins", other_files_are_no_drop_ins},
		{"no drop-in folder is fine", no_drop_in_folder_is_fine},
		{"a mistake is told where it stands",
			a_mistake_is_told_where_it_stands},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo files[] = {
		{"a file that is not there is told",
			a_file_that_is_not_there_is_told},
		{"a folder or a pipe is no file",
			a_folder_or_a_pipe_is_no_file},
		{"a file without permission is told",
			a_file_without_permission_is_told},
		{"a file that is too large is told",
			a_file_that_is_too_large_is_told},
		{"a file with a NUL is told", a_file_with_a_nul_is_told},
		{"syntax is told with its line", syntax_is_told_with_its_line},
		{"a syntax error brings no others with it",
			a_syntax_error_brings_no_others_with_it},
		{"@include is refused and not followed",
			include_is_refused_and_not_followed},
		{"an at sign elsewhere is only that",
			an_at_sign_elsewhere_is_only_that},
		{"numbers that would wrap are told",
			numbers_that_would_wrap_are_told},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"merge", NULL, NULL, confdir_set_up, confdir_tear_down, merge},
		{"files", NULL, NULL, confdir_set_up, confdir_tear_down, files},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
