/* Tests of gatewayd/route.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "gatewayd/conf.h"
#include "gatewayd/route.h"
#include "tests/unit.h"

static char *answers[] = {(char *)"$aws/things/{device}/shadow/+/+"};
static char *commands[] = {(char *)"cmd/{device}/#"};
static char *site[] = {(char *)"site/status"};
static char *telemetry[] = {
	(char *)"dt/{device}/#", (char *)"$aws/things/{device}/shadow/update"};
static char *all[] = {(char *)"all/{device}/#"};

static struct conf_route table[] = {
	{(char *)"answers", (char *)"down", answers, 1, (char *)""},
	{(char *)"commands", (char *)"down", commands, 1, (char *)""},
	{(char *)"prefixed", (char *)"down", all, 1, (char *)"plant7/"},
	{(char *)"prefixed-up", (char *)"up", all, 1, (char *)"plant7/"},
	{(char *)"site", (char *)"up", site, 1, (char *)""},
	{(char *)"telemetry", (char *)"up", telemetry, 2, (char *)""},
};

static struct route *r;
static char topic[256];
static const char *local;
static char device[ROUTE_DEVICE_BYTES];

static void set_up(void)
{
	struct conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.routes = table;
	conf.n_routes = sizeof(table) / sizeof(table[0]);
	CU_ASSERT_EQUAL_FATAL(route_new(&conf, &r), 0);
	local = NULL;
	device[0] = '\0';
}

static void tear_down(void)
{
	r = route_free(r);
}

static int up(const char *from)
{
	return route_up(r, from, topic, sizeof(topic));
}

static int down(const char *from)
{
	return route_down(r, from, &local, device);
}

static void a_device_s_topic_goes_up_as_it_is(void)
{
	CU_ASSERT_EQUAL(up("dt/dev-01/temp"), 0);
	CU_ASSERT_STRING_EQUAL(topic, "dt/dev-01/temp");
	CU_ASSERT_EQUAL(up("dt/dev-01"), 0);
	CU_ASSERT_EQUAL(up("$aws/things/dev-01/shadow/update"), 0);
	CU_ASSERT_EQUAL(up("site/status"), 0);
}

static void a_prefix_is_put_before_and_taken_off(void)
{
	CU_ASSERT_EQUAL(up("all/d1/x"), 0);
	CU_ASSERT_STRING_EQUAL(topic, "plant7/all/d1/x");
	CU_ASSERT_EQUAL(down("plant7/all/d1/x"), 0);
	CU_ASSERT_STRING_EQUAL(local, "all/d1/x");
	CU_ASSERT_STRING_EQUAL(device, "d1");
	CU_ASSERT_EQUAL(down("all/d1/x"), ROUTE_NONE);
	CU_ASSERT_EQUAL(down("plant8/all/d1/x"), ROUTE_NONE);
}

static void what_no_route_takes_does_not_pass(void)
{
	CU_ASSERT_EQUAL(up("other/dev-01"), ROUTE_NONE);
	CU_ASSERT_EQUAL(up("$aws/things/dev-01/shadow/get"), ROUTE_NONE);
	CU_ASSERT_EQUAL(up("cmd/dev-01/x"), ROUTE_NONE);  /* only down */
	CU_ASSERT_EQUAL(down("dt/dev-01/x"), ROUTE_NONE); /* only up */
	CU_ASSERT_EQUAL(down("$aws/things/dev-01/shadow/update"), ROUTE_NONE);
}

static void the_device_of_a_command_is_named(void)
{
	CU_ASSERT_EQUAL(down("cmd/scale-1/tare"), 0);
	CU_ASSERT_STRING_EQUAL(local, "cmd/scale-1/tare");
	CU_ASSERT_STRING_EQUAL(device, "scale-1");
	CU_ASSERT_EQUAL(down("$aws/things/dev-01/shadow/update/delta"), 0);
	CU_ASSERT_STRING_EQUAL(device, "dev-01");
}

static void names_that_are_no_device_do_not_pass(void)
{
	CU_ASSERT_EQUAL(down("cmd/../x"), ROUTE_BAD_DEVICE);
	CU_ASSERT_EQUAL(down("cmd//x"), ROUTE_BAD_DEVICE);
	CU_ASSERT_EQUAL(down("cmd/a b/x"), ROUTE_BAD_DEVICE);
	CU_ASSERT_EQUAL(down("cmd/\xc3\xa9/x"), ROUTE_BAD_DEVICE);
	CU_ASSERT_EQUAL(down("cmd/aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd"
			     "eeeeeeeeeeffffffffff12345/x"),
		ROUTE_BAD_DEVICE);
	CU_ASSERT_EQUAL(up("dt/$SYS/x"), ROUTE_BAD_DEVICE);
}

static void hostile_topics_do_not_pass(void)
{
	static const char *const topics[] = {"", "cmd/dev-01/+", "cmd/#",
		"cmd/+/x", "$SYS/broker/uptime", "$SYS", "$CONTROL/dynsec/v1",
		"$share/g/cmd/dev-01/x", "cmd/dev-01/a\x01", "cmd/dev-01/\xff",
		"cmd/dev-01/\xc2\x80", "plant7/", "plant7/all/d1/#"};
	size_t i;

	for (i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		CU_ASSERT_TRUE(down(topics[i]) > 0);
		CU_ASSERT_TRUE(up(topics[i]) > 0);
		CU_ASSERT_PTR_NULL(local);
	}
}

static void a_topic_that_does_not_fit_is_told(void)
{
	CU_ASSERT_EQUAL(route_up(r, "all/d1/x", topic, 12), -ENOBUFS);
}

static void filters_are_mqtt_filters(void)
{
	size_t n;
	char *const *f = route_local_filters(r, &n);

	CU_ASSERT_EQUAL_FATAL(n, 4);
	CU_ASSERT_STRING_EQUAL(f[0], "all/+/#");
	CU_ASSERT_STRING_EQUAL(f[2], "dt/+/#");
	f = route_cloud_filters(r, &n);
	CU_ASSERT_EQUAL_FATAL(n, 3);
	CU_ASSERT_STRING_EQUAL(f[0], "$aws/things/+/shadow/+/+");
	CU_ASSERT_STRING_EQUAL(f[2], "plant7/all/+/#");
}

static void no_routes_take_nothing(void)
{
	struct conf empty;
	struct route *none = NULL;

	memset(&empty, 0, sizeof(empty));
	CU_ASSERT_EQUAL_FATAL(route_new(&empty, &none), 0);
	CU_ASSERT_EQUAL(
		route_up(none, "dt/a/b", topic, sizeof(topic)), ROUTE_NONE);
	CU_ASSERT_EQUAL(
		route_down(none, "cmd/a/b", &local, device), ROUTE_NONE);
	CU_ASSERT_PTR_NULL(route_free(none));
}

/* Whatever the cloud sends: what passes is for the device that it names. */
static void random_topics_never_reach_another_device(void)
{
	static const char *const parts[] = {"cmd", "$aws", "things", "dev-01",
		"dev-02", "shadow", "update", "delta", "..", "", "+", "#",
		"$SYS", "plant7", "all", "\xff", "a b"};
	unsigned seed = 7;
	int i;
	int k;

	for (i = 0; i < 200000; i++) {
		char t[256] = "";
		char want[ROUTE_DEVICE_BYTES + 8];

		for (k = rand_r(&seed) % 8; k >= 0; k--) {
			strcat(t,
				parts[(size_t)rand_r(&seed) %
					(sizeof(parts) / sizeof(parts[0]))]);
			if (k)
				strcat(t, "/");
		}
		if (down(t))
			continue;
		CU_ASSERT_PTR_NULL(strpbrk(t, "+#"));
		snprintf(want, sizeof(want), "/%s", device);
		CU_ASSERT_PTR_NOT_NULL(strstr(t, want));
		CU_ASSERT_TRUE(!strncmp(local, "cmd/", 4) ||
			!strncmp(local, "$aws/things/", 12) ||
			!strncmp(local, "all/", 4));
	}
}

static char *alarms[] = {(char *)"dt/{device}/alarm", (char *)"dt/{device}/a/+",
	(char *)"other/{device}"};

/* mosquitto would send a message once for each. */
static void no_filter_lies_within_another(void)
{
	struct conf_route overlap[] = {
		{(char *)"alarms", (char *)"up", alarms, 3, (char *)"x/"},
		{(char *)"more", (char *)"up", alarms, 2, (char *)""},
		{(char *)"telemetry", (char *)"up", telemetry, 1, (char *)""},
	};
	struct conf conf;
	struct route *other;
	char *const *f;
	size_t n;

	memset(&conf, 0, sizeof(conf));
	conf.routes = overlap;
	conf.n_routes = 3;
	CU_ASSERT_EQUAL_FATAL(route_new(&conf, &other), 0);
	f = route_local_filters(other, &n);
	CU_ASSERT_EQUAL_FATAL(n, 2);
	CU_ASSERT_STRING_EQUAL(f[0], "other/+");
	CU_ASSERT_STRING_EQUAL(f[1], "dt/+/#");
	CU_ASSERT_EQUAL(route_up(other, "dt/d/alarm", topic, sizeof(topic)), 0);
	CU_ASSERT_STRING_EQUAL(topic, "x/dt/d/alarm");
	route_free(other);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a device's topic goes up as it is",
			a_device_s_topic_goes_up_as_it_is},
		{"a prefix is put before and taken off",
			a_prefix_is_put_before_and_taken_off},
		{"what no route takes does not pass",
			what_no_route_takes_does_not_pass},
		{"the device of a command is named",
			the_device_of_a_command_is_named},
		{"names that are no device do not pass",
			names_that_are_no_device_do_not_pass},
		{"hostile topics do not pass", hostile_topics_do_not_pass},
		{"a topic that does not fit is told",
			a_topic_that_does_not_fit_is_told},
		{"filters are MQTT filters", filters_are_mqtt_filters},
		{"no filter lies within another",
			no_filter_lies_within_another},
		{"no routes take nothing", no_routes_take_nothing},
		{"random topics never reach another device",
			random_topics_never_reach_another_device},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"route", NULL, NULL, set_up, tear_down, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
