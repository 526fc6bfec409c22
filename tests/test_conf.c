/* Tests of gatewayd/conf.h: values, keys, and what they are together.
 * tests/test_conf_source.c has the files and their merge,
 * tests/test_conf_schema.c goes through the table of keys. */
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
#include "tests/fault.h"
#include "tests/unit.h"

#define MAIN "gatewayd.conf"
#define UP "routes : { up : { direction = \"up\"; filter = \"dt/#\"; }; };\n"

/* ---- values ---- */

static void an_empty_file_gives_the_defaults(void)
{
	write_main("");
	expect_loads();
	CU_ASSERT_STRING_EQUAL(conf->gateway.name, "edge-7");
	CU_ASSERT_EQUAL(conf->spool.max_bytes, 1 << 30);
	CU_ASSERT_STRING_EQUAL(conf->uplink.host, "");
	CU_ASSERT_EQUAL(conf->uplink.port, 8883);
	CU_ASSERT_STRING_EQUAL(conf->uplink.ca, "/etc/gatewayd/uplink-ca.pem");
	CU_ASSERT_STRING_EQUAL(conf->uplink.client_id, "edge-7");
	CU_ASSERT_STRING_EQUAL(conf->uplink.mqtt_version, "auto");
	CU_ASSERT_EQUAL(conf->uplink.keepalive_usec, 60000000);
	CU_ASSERT_EQUAL(conf->uplink.inflight, 100);
	CU_ASSERT_EQUAL(conf->uplink.retry_min_usec, 1000000);
	CU_ASSERT_EQUAL(conf->uplink.retry_max_usec, 64000000);
	CU_ASSERT_EQUAL(
		conf->uplink.session_expiry_usec, UINT64_C(86400000000));
	CU_ASSERT_TRUE(conf->uplink.message_id);
	CU_ASSERT_STRING_EQUAL(
		conf->local.socket, "/run/gatewayd-broker/mqtt.sock");
	CU_ASSERT_STRING_EQUAL(conf->local.client_id, "");
	CU_ASSERT_EQUAL(conf->n_serials, 0);
	CU_ASSERT_EQUAL(conf->n_routes, 0);
}

static void a_serial_device_has_defaults_and_its_name(void)
{
	const struct conf_serial *d;

	write_main("serial : { zz : { device = \"/dev/b\"; };\n"
		   "meter1 : { device = \"/dev/a\"; }; };\n" UP);
	expect_loads();
	CU_ASSERT_EQUAL_FATAL(conf->n_serials, 2);
	d = &conf->serials[0]; /* sorted by name */
	CU_ASSERT_STRING_EQUAL(d->name, "meter1");
	CU_ASSERT_STRING_EQUAL(d->device, "/dev/a");
	CU_ASSERT_EQUAL(d->baud, 9600);
	CU_ASSERT_EQUAL(d->data_bits, 8);
	CU_ASSERT_STRING_EQUAL(d->parity, "none");
	CU_ASSERT_EQUAL(d->stop_bits, 1);
	CU_ASSERT_STRING_EQUAL(d->line_end, "lf");
	CU_ASSERT_EQUAL(d->max_line_bytes, 1024);
	CU_ASSERT_STRING_EQUAL(d->topic, "dt/meter1/line");
	CU_ASSERT_STRING_EQUAL(d->down, "payload");
	CU_ASSERT_STRING_EQUAL(conf->serials[1].topic, "dt/zz/line");
}

static void routes_take_a_filter_or_a_list(void)
{
	write_main("routes : {\n"
		   "b : { direction = \"up\"; filter = [ \"x/#\", \"y\" ];\n"
		   "      cloud_prefix = \"plant7/\"; };\n"
		   "c : { direction = \"up\"; filter = ( \"z/+\" ); };\n"
		   "a : { direction = \"down\"; filter = \"c/{device}/#\"; };\n"
		   "};\n");
	expect_loads();
	CU_ASSERT_EQUAL_FATAL(conf->n_routes, 3);
	CU_ASSERT_STRING_EQUAL(conf->routes[0].name, "a");
	CU_ASSERT_STRING_EQUAL(conf->routes[0].direction, "down");
	CU_ASSERT_EQUAL_FATAL(conf->routes[0].n_filters, 1);
	CU_ASSERT_STRING_EQUAL(conf->routes[0].filters[0], "c/{device}/#");
	CU_ASSERT_STRING_EQUAL(conf->routes[0].cloud_prefix, "");
	CU_ASSERT_EQUAL_FATAL(conf->routes[1].n_filters, 2);
	CU_ASSERT_STRING_EQUAL(conf->routes[1].filters[1], "y");
	CU_ASSERT_STRING_EQUAL(conf->routes[1].cloud_prefix, "plant7/");
	CU_ASSERT_EQUAL(conf->routes[2].n_filters, 1);
}

static void names_follow_from_each_other(void)
{
	strcpy(host_name, "edge-7.example.org");
	write_main("");
	expect_loads();
	CU_ASSERT_STRING_EQUAL(conf->gateway.name, "edge-7");
	write_main("gateway : { name = \"gw_1\"; };");
	expect_loads();
	CU_ASSERT_STRING_EQUAL(conf->gateway.name, "gw_1");
	CU_ASSERT_STRING_EQUAL(conf->uplink.client_id, "gw_1");
	write_main("gateway : { name = \"gw_1\"; };\n"
		   "uplink : { client_id = \"thing:9\"; };");
	expect_loads();
	CU_ASSERT_STRING_EQUAL(conf->uplink.client_id, "thing:9");
}

static void a_host_name_that_is_no_name_is_told(void)
{
	write_main("");
	strcpy(host_name, "b\xc3\xbcro");
	CU_ASSERT_EQUAL(load(), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(errors, MAIN ":0: gateway.name: the host name"));
	memset(host_name, 'x', 70);
	host_name[70] = '\0';
	CU_ASSERT_EQUAL(load(), -EINVAL);
	/* A name of one's own mends it. */
	write_main("gateway : { name = \"gw\"; };");
	expect_loads();
}

/* ---- keys that are not known ---- */

static void an_unknown_key_names_the_nearest(void)
{
	expect_main_error("uplink : { prot = 1; };", MAIN ":1", "uplink.prot",
		"unknown key; did you mean uplink.port?");
	expect_main_error("uplink : { keep_alive = \"5s\"; };", MAIN ":1",
		"uplink.keep_alive", "did you mean uplink.keepalive?");
	expect_main_error("spool : { size = \"1G\"; };", MAIN ":1",
		"spool.size", "did you mean spool.max_size?");
	expect_main_error("serial : { m : { device = \"/dev/a\";\n"
			  " bauds = 300; }; };\n" UP,
		MAIN ":2", "serial.m.bauds", "did you mean serial.m.baud?");
	expect_main_error("routes : { a : { direction = \"up\";\n"
			  "filter = \"a\";\nfilters = \"b\"; }; };",
		MAIN ":3", "routes.a.filters", "did you mean routes.a.filter?");
	expect_main_error(
		"port = 1;", MAIN ":1", "port", "did you mean uplink.port?");
}

static void an_unknown_group_names_the_nearest(void)
{
	expect_main_error("\nuplnk : {\n port = 1;\n};", MAIN ":2", "uplnk",
		"did you mean uplink?");
	expect_main_error("serials : { m : { device = \"/dev/a\"; }; };",
		MAIN ":1", "serials", "did you mean serial?");
	expect_main_error("route : { m : { direction = \"up\"; }; };",
		MAIN ":1", "route", "did you mean routes?");
	expect_main_error("uplink : { tls : { x = 1; }; };", MAIN ":1",
		"uplink.tls", "unknown key");
}

static void a_value_and_a_group_are_told_apart(void)
{
	expect_main_error("uplink = 1;", MAIN ":1", "uplink",
		"is no group, but a group is wanted; write uplink = { ... }");
	expect_main_error("serial : { m = \"/dev/ttyS0\"; };", MAIN ":1",
		"serial.m", "a group is wanted");
	expect_main_error("serial = ( { device = \"/dev/a\"; } );", MAIN ":1",
		"serial", "a group is wanted");
	expect_main_error("uplink : { port : { a = 1; }; };", MAIN ":1",
		"uplink.port", "is a group, but a value is wanted");
}

static void a_very_long_key_is_told(void)
{
	char text[1400];
	char name[601];

	memset(name, 'k', 600);
	name[600] = '\0';
	snprintf(text, sizeof(text), "uplink : { %s = 1; };", name);
	expect_main_error(text, MAIN ":1", "key", "is too long");
	snprintf(text, sizeof(text), "%s : { %s = 1; };", name, name);
	expect_main_error(text, MAIN ":1", "key", "is too long");
}

/* ---- objects ---- */

static void what_must_be_given_is_told(void)
{
	expect_main_error("serial : {\n m : { baud = 300; }; };\n" UP,
		MAIN ":2", "serial.m.device",
		"is missing; write device = \"/path");
	write_main("routes : { a : { }; };");
	CU_ASSERT_EQUAL(load(), -EINVAL);
	CU_ASSERT_EQUAL(n_errors, 2);
	CU_ASSERT_TRUE(
		has_error(MAIN ":1", "routes.a.direction", "is missing"));
	CU_ASSERT_TRUE(has_error(MAIN ":1", "routes.a.filter", "is missing"));
}

static void a_serial_device_needs_a_route_up(void)
{
	static const char device[] =
		"serial : { m : { device = \"/dev/a\"; }; };\n";
	char text[512];

	expect_main_error(device, MAIN ":1", "serial.m",
		"no `up` route takes its topic 'dt/m/line'");
	/* One that goes down, or takes another topic, does not do. */
	snprintf(text, sizeof(text),
		"%sroutes : { a : { direction = \"down\"; filter = \"#\"; };\n"
		"b : { direction = \"up\"; filter = \"dt/{device}\"; }; };",
		device);
	expect_main_error(text, MAIN ":1", "serial.m", "no `up` route takes");
	write_file("conf.d/a.conf", UP);
	expect_loads();
}

static void two_serials_do_not_share_a_device(void)
{
	expect_main_error("serial : { a : { device = \"/dev/a\"; };\n"
			  "b : { device = \"/dev/a\"; }; };\n" UP,
		MAIN ":2", "serial.b", "serial.a has the same device");
}

static void names_are_device_names(void)
{
	char text[256];

	snprintf(text, sizeof(text),
		"serial : { a%064d : { device = \"/dev/a\"; }; };\n" UP, 0);
	write_main(text);
	CU_ASSERT_EQUAL(load(), -EINVAL);
	CU_ASSERT_EQUAL(n_errors, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(errors, "is not 1 to 64 of A-Z"));
	expect_main_error("serial : { * : { device = \"/dev/a\"; }; };\n" UP,
		MAIN ":1", "serial.*", "is not 1 to 64 of A-Z a-z 0-9 _ -");
}

static void more_objects_than_allowed_are_told(void)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	int i;

	fputs("routes : {\n", f);
	for (i = 0; i < 256; i++)
		fprintf(f, "r%d : { direction = \"up\"; filter = \"a\"; };\n",
			i);
	fputs("};\n", f);
	fflush(f);
	write_bytes(MAIN, text, n);
	expect_loads();
	CU_ASSERT_EQUAL(conf->n_routes, 256);
	write_file("conf.d/a.conf",
		"routes : { x : { direction = \"up\";\n"
		"filter = \"a\"; }; };");
	expect_error("conf.d/a.conf:1", "routes.x", "more than 256 of these");
	fclose(f);
	free(text);
}

static void filters_are_checked_one_by_one(void)
{
	static const char *const bad[] = {"\"a/#/b\"", "\"a+\"", "\"\"",
		"[ \"a\", \"b#\" ]", "( \"a\", 5 )", "[ 1, 2 ]", "[ ]",
		"( [ \"a\" ] )", "\"{device}/{device}\"", "5"};
	char text[256];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			"routes : { a : { direction = \"up\";\nfilter = %s; };"
			" };",
			bad[i]);
		expect_main_error(
			text, MAIN ":2", "routes.a.filter", "; write");
	}
}

static void more_filters_than_allowed_are_told(void)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	int i;

	fputs("routes : { a : { direction = \"up\"; filter = [ \"a\"", f);
	for (i = 0; i < 100; i++)
		fputs(", \"a\"", f);
	fputs(" ]; }; };", f);
	fclose(f);
	expect_main_error(text, MAIN ":1", "routes.a.filter",
		"is a list of more than 100; write a second route");
	free(text);
}

static void what_does_not_go_together_is_told(void)
{
	expect_main_error("uplink : { retry_min = \"2m\"; };", MAIN ":1",
		"uplink.retry_min", "is more than uplink.retry_max");
	expect_main_error("uplink : { keepalive = \"5500ms\"; };", MAIN ":1",
		"uplink.keepalive", "is not a whole number of seconds");
}

/* ---- all together ---- */

static void every_mistake_is_told_in_one_run(void)
{
	write_main("uplink : {\n port = 0;\n prot = 1;\n ca = 5;\n"
		   " keepalive = \"5500ms\";\n retry_min = \"2m\";\n};\n"
		   "serial : { m : { device = \"/dev/a\"; };\n"
		   "n : { device = \"/dev/a\"; topic = \"dt/+\"; };\n"
		   "o : { }; };\n");
	write_file("conf.d/a.conf", "spool : { max_size = \"5X\"; };\n");
	write_file("conf.d/b.conf", "spool : {\n");
	write_file("conf.d/c.conf", "@include \"x\"\nbad : { };\n");
	CU_ASSERT_EQUAL(load(), -EINVAL);
	CU_ASSERT_TRUE(has_error(MAIN ":2", "uplink.port", "out of range"));
	CU_ASSERT_TRUE(has_error(MAIN ":3", "uplink.prot", "unknown"));
	CU_ASSERT_TRUE(has_error(MAIN ":4", "uplink.ca", "is not a path"));
	CU_ASSERT_TRUE(has_error(MAIN ":5", "uplink.keepalive", "seconds"));
	CU_ASSERT_TRUE(has_error(MAIN ":6", "uplink.retry_min", "more than"));
	CU_ASSERT_TRUE(has_error(MAIN ":9", "serial.n.topic", "dt/+"));
	CU_ASSERT_TRUE(has_error(MAIN ":9", "serial.n", "same device"));
	CU_ASSERT_TRUE(has_error("conf.d/a.conf:1", "spool.max_size", "5X"));
	CU_ASSERT_TRUE(has_error("conf.d/b.conf:2", "syntax", "syntax"));
	CU_ASSERT_TRUE(has_error("conf.d/c.conf:1", "@include", "cannot"));
	CU_ASSERT_EQUAL(n_errors, 10);
	/* With all files readable, what depends on others is told too. */
	remove_file("conf.d/b.conf");
	remove_file("conf.d/c.conf");
	CU_ASSERT_EQUAL(load(), -EINVAL);
	CU_ASSERT_TRUE(has_error(MAIN ":8", "serial.m", "no `up` route"));
	CU_ASSERT_TRUE(has_error(MAIN ":10", "serial.o.device", "missing"));
	CU_ASSERT_TRUE(has_error(MAIN ":10", "serial.o", "no `up` route"));
	CU_ASSERT_EQUAL(n_errors, 11);
}

static void a_value_cannot_break_its_line(void)
{
	expect_main_error("uplink : { ca = \"x\\nfake:1: a: b; c\\x1b[2J\"; };",
		MAIN ":1", "uplink.ca",
		"'x?fake:1: a: b; c?[2J' is not an "
		"absolute path");
}

static void a_wrong_configuration_leaves_the_old_one(void)
{
	struct conf *before = (struct conf *)&confdir;
	struct conf *c = before;
	FILE *f = tmpfile();

	write_main("uplink : { prot = 1; };");
	CU_ASSERT_EQUAL(conf_load(conf_path, f, &c), -EINVAL);
	CU_ASSERT_PTR_EQUAL(c, before);
	fclose(f);
	CU_ASSERT_PTR_NULL(conf_free(NULL));
}

static void without_memory_it_says_so(void)
{
	FILE *f = tmpfile();
	int n;

	write_main("uplink : { host = \"a\"; port = 5; };\n"
		   "serial : { m : { device = \"/dev/a\"; }; };\n" UP);
	write_file("conf.d/a.conf", "uplink : { port = 6; };");
	for (n = 0; n < 1000; n++) {
		int r;

		fault_set(n);
		r = conf_load(conf_path, f, &conf);
		if (!fault_clear())
			break;
		CU_ASSERT_EQUAL(r, -ENOMEM);
		CU_ASSERT_PTR_NULL(conf);
	}
	CU_ASSERT_TRUE(n > 40 && n < 1000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	CU_ASSERT_EQUAL(conf->uplink.port, 6);
	CU_ASSERT_EQUAL(ftell(f), 0);
	fclose(f);
}

int main(void)
{
	CU_TestInfo values[] = {
		{"an empty file gives the defaults",
			an_empty_file_gives_the_defaults},
		{"a serial device has defaults and its name",
			a_serial_device_has_defaults_and_its_name},
		{"routes take a filter or a list",
			routes_take_a_filter_or_a_list},
		{"names follow from each other", names_follow_from_each_other},
		{"a host name that is no name is told",
			a_host_name_that_is_no_name_is_told},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo keys[] = {
		{"an unknown key names the nearest",
			an_unknown_key_names_the_nearest},
		{"an unknown group names the nearest",
			an_unknown_group_names_the_nearest},
		{"a value and a group are told apart",
			a_value_and_a_group_are_told_apart},
		{"a very long key is told", a_very_long_key_is_told},
		{"what must be given is told", what_must_be_given_is_told},
		{"a serial device needs a route up",
			a_serial_device_needs_a_route_up},
		{"two serials do not share a device",
			two_serials_do_not_share_a_device},
		{"names are device names", names_are_device_names},
		{"more objects than allowed are told",
			more_objects_than_allowed_are_told},
		{"filters are checked one by one",
			filters_are_checked_one_by_one},
		{"more filters than allowed are told",
			more_filters_than_allowed_are_told},
		{"what does not go together is told",
			what_does_not_go_together_is_told},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo all[] = {
		{"every mistake is told in one run",
			every_mistake_is_told_in_one_run},
		{"a value cannot break its line",
			a_value_cannot_break_its_line},
		{"a wrong configuration leaves the old one",
			a_wrong_configuration_leaves_the_old_one},
		{"without memory it says so", without_memory_it_says_so},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"values", NULL, NULL, confdir_set_up, confdir_tear_down,
			values},
		{"keys", NULL, NULL, confdir_set_up, confdir_tear_down, keys},
		{"all", NULL, NULL, confdir_set_up, confdir_tear_down, all},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
