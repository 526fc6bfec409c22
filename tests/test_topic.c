/* Tests of base/topic.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "base/topic.h"
#include "tests/unit.h"

static bool is_topic(const char *text)
{
	return topic_is_valid(text, strlen(text));
}

/* ---- what is a topic ---- */

static void plain_topics_are_valid(void)
{
	static const char *const topics[] = {"a", "/", "//", "a/b/c", "/a",
		"a/", "a//b", " ", "a b", "$SYS/x", "dt/dev-01/temp",
		"{device}", "~", NULL};
	size_t i;

	for (i = 0; topics[i]; i++)
		CU_ASSERT_TRUE(is_topic(topics[i]));
}

static void wildcards_and_nothing_are_no_topic(void)
{
	static const char *const topics[] = {
		"", "+", "#", "a/+", "a/#", "a+b", "a#", "+/a", "a/b/+c", NULL};
	size_t i;

	for (i = 0; topics[i]; i++)
		CU_ASSERT_FALSE(is_topic(topics[i]));
}

static void control_characters_are_no_topic(void)
{
	char text[4] = "a?b";
	int c;

	for (c = 0; c < 0x20; c++) {
		text[1] = (char)c;
		CU_ASSERT_FALSE(topic_is_valid(text, 3));
	}
	text[1] = 0x7f;
	CU_ASSERT_FALSE(topic_is_valid(text, 3));
	text[1] = ' ';
	CU_ASSERT_TRUE(topic_is_valid(text, 3));
	CU_ASSERT_FALSE(is_topic("\xc2\x80")); /* U+0080 */
	CU_ASSERT_FALSE(is_topic("\xc2\x9f"));
	CU_ASSERT_TRUE(is_topic("\xc2\xa0")); /* U+00A0 */
	CU_ASSERT_FALSE(topic_is_valid("a\0", 2));
	CU_ASSERT_FALSE(topic_is_valid("\0", 1));
}

static void utf8_of_every_length_is_valid(void)
{
	static const char *const topics[] = {"\xc3\xa9", "\xe2\x82\xac",
		"\xf0\x9f\x98\x80", "a/\xc3\xa9/\xe2\x82\xac",
		"\xef\xbb\xbf"
		"a",                            /* U+FEFF, MQTT 1.5.4-3 */
		"\xe0\xa0\x80",                 /* U+0800, the least of 3 */
		"\xf0\x90\x80\x80",             /* U+10000, the least of 4 */
		"\xed\x9f\xbf", "\xee\x80\x80", /* beside the surrogates */
		"\xef\xbf\xbd",                 /* U+FFFD */
		"\xf4\x8f\xbf\xbd",             /* U+10FFFD */
		NULL};
	size_t i;

	for (i = 0; topics[i]; i++)
		CU_ASSERT_TRUE(is_topic(topics[i]));
}

static void what_is_no_utf8_is_no_topic(void)
{
	static const char *const topics[] = {"\x80", "\xbf", "a\x80", "\xc3",
		"\xc3(", "\xe2\x82", "\xe2(\xac", "\xe2\x82(", "\xf0\x9f\x98",
		"\xf0(\x98\x80", "\xf0\x9f(\x80", "\xf0\x9f\x98(",
		"\xc3\xc3\xa9", "a/\xe2\x82/b",
		/* longer than need be, "/" and NUL among them */
		"\xc0\xaf", "\xc1\xbf", "\xc0\x80", "\xe0\x80\xaf",
		"\xe0\x9f\xbf", "\xf0\x80\x80\xaf", "\xf0\x8f\xbf\xbf",
		/* surrogates */
		"\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\xbd\xed\xb8\x80",
		/* beyond U+10FFFF */
		"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf7\xbf\xbf\xbf",
		"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe",
		"\xff", NULL};
	size_t i;

	for (i = 0; topics[i]; i++)
		CU_ASSERT_FALSE(is_topic(topics[i]));
}

static void non_characters_are_no_topic(void)
{
	CU_ASSERT_FALSE(is_topic("\xef\xb7\x90"));     /* U+FDD0 */
	CU_ASSERT_FALSE(is_topic("\xef\xb7\xaf"));     /* U+FDEF */
	CU_ASSERT_TRUE(is_topic("\xef\xb7\xb0"));      /* U+FDF0 */
	CU_ASSERT_FALSE(is_topic("\xef\xbf\xbe"));     /* U+FFFE */
	CU_ASSERT_FALSE(is_topic("\xef\xbf\xbf"));     /* U+FFFF */
	CU_ASSERT_FALSE(is_topic("\xf0\x9f\xbf\xbe")); /* U+1FFFE */
	CU_ASSERT_FALSE(is_topic("\xf4\x8f\xbf\xbf")); /* U+10FFFF */
}

static void a_character_is_not_read_beyond_the_end(void)
{
	CU_ASSERT_TRUE(topic_is_valid("ab\xe2\x82\xac", 2));
	CU_ASSERT_FALSE(topic_is_valid("ab\xe2\x82\xac", 3));
	CU_ASSERT_FALSE(topic_is_valid("ab\xe2\x82\xac", 4));
	CU_ASSERT_TRUE(topic_is_valid("ab\xe2\x82\xac", 5));
}

static void length_is_limited_to_what_mqtt_can_carry(void)
{
	static char big[65537];

	memset(big, 'x', sizeof(big));
	CU_ASSERT_TRUE(topic_is_valid(big, 65535));
	CU_ASSERT_FALSE(topic_is_valid(big, 65536));
	CU_ASSERT_FALSE(topic_is_valid(big, 0));
}

/* ---- what is a filter ---- */

static void filters_have_wildcards_as_whole_levels(void)
{
	static const char *const good[] = {"a", "/", "+", "#", "+/+", "+/#",
		"/#", "/+", "a/+/b", "a/#", "+/b/#", "a//b", "$SYS/#",
		"dt/{device}/#", "{device}", "{device}/+", "a/{device}",
		"x{device}/{device}y", "{Device}/{device}", NULL};
	static const char *const bad[] = {"", "a+", "+a", "a/b+/c", "a#", "#a",
		"a/#/b", "#/", "#/#", "a/##", "++", "a/+#", "a/#+",
		"{device}/{device}", "a/{device}/b/{device}/#", "a\x01",
		"a/\xff", "\xed\xa0\x80/#", NULL};
	size_t i;

	for (i = 0; good[i]; i++)
		CU_ASSERT_TRUE(topic_filter_is_valid(good[i]));
	for (i = 0; bad[i]; i++)
		CU_ASSERT_FALSE(topic_filter_is_valid(bad[i]));
}

/* ---- matching ---- */

struct pair {
	const char *filter;
	const char *topic;
	bool is_match;
};

/* The examples of MQTT 5.0, 4.7.1 to 4.7.3, and what lies beside them. */
static const struct pair table[] = {
	{"sport/tennis/player1/#", "sport/tennis/player1", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon",
		true},
	{"sport/tennis/player1/#", "sport/tennis/player10", false},
	{"sport/#", "sport", true},
	{"sport/#", "sport/", true},
	{"sport/#", "sports", false},
	{"#", "sport/tennis", true},
	{"#", "/", true},
	{"sport/tennis/+", "sport/tennis/player1", true},
	{"sport/tennis/+", "sport/tennis/player2", true},
	{"sport/tennis/+", "sport/tennis/player1/ranking", false},
	{"sport/tennis/+", "sport/tennis", false},
	{"sport/+", "sport", false},
	{"sport/+", "sport/", true},
	{"+", "sport", true},
	{"+", "sport/tennis", false},
	{"+/tennis/#", "sport/tennis/player1", true},
	{"+/tennis/#", "sport/tennis", true},
	{"sport/+/player1", "sport/tennis/player1", true},
	{"sport/+/player1", "sport//player1", true},
	{"sport/+/player1", "sport/player1", false},
	{"+/+", "/finance", true},
	{"/+", "/finance", true},
	{"+", "/finance", false},
	{"+/#", "a", true},
	{"+/+/#", "a", false},
	{"/#", "a", false},
	{"/#", "/a", true},
	{"/#", "/", true},
	{"#", "$SYS/monitor/Clients", false},
	{"+/monitor/Clients", "$SYS/monitor/Clients", false},
	{"+", "$SYS", false},
	{"+/#", "$SYS/monitor", false},
	{"$SYS/#", "$SYS/monitor/Clients", true},
	{"$SYS/#", "$SYS", true},
	{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
	{"$SYS/+", "$SYS/$x", true},
	{"/+", "/$SYS", true}, /* $ does not stand first */
	{"a/#", "a/$x/b", true},
	{"+/+", "a/$SYS", true},
	{"ACCOUNTS", "Accounts", false},
	{"/finance", "finance", false},
	{"a/b", "a/b", true},
	{"a/b", "a/b/", false},
	{"a/b/", "a/b", false},
	{"a/b", "a", false},
	{"a", "a/b", false},
	{"a/b", "a/bc", false},
	{"a/bc", "a/b", false},
	{"a//b", "a//b", true},
	{"a//b", "a/b", false},
	{"dt/{device}/#", "dt/dev-01/temp", true},
	{"dt/{device}/#", "dt/dev-01", true},
	{"dt/{device}/#", "dt", false},
	{"dt/{device}", "dt/x/y", false},
	{"{device}/a", "d/a", true},
	{"{device}/a", "$SYS/a", false},
	{"x{device}/a", "xd/a", false},
	{"x{device}/a", "x{device}/a", true},
};

static void matching_follows_mqtt_4_7(void)
{
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct pair *p = &table[i];
		bool is_match = topic_matches(p->filter, p->topic);

		if (is_match != p->is_match)
			fprintf(stderr, "'%s' and '%s'\n", p->filter, p->topic);
		CU_ASSERT_EQUAL(is_match, p->is_match);
	}
}

/* A matcher as simple as can be: cut into levels, compare from the left. */
struct levels {
	char text[128];
	char *level[64];
	size_t n;
};

static void cut(struct levels *l, const char *text)
{
	char *at = l->text;

	strcpy(l->text, text);
	l->n = 0;
	while (at) {
		l->level[l->n++] = at;
		at = strchr(at, '/');
		if (at)
			*at++ = '\0';
	}
}

static bool is_any(const char *level)
{
	return !strcmp(level, "+") || !strcmp(level, "{device}");
}

static bool reference(const char *filter, const char *topic)
{
	struct levels f;
	struct levels t;
	size_t i;

	cut(&f, filter);
	cut(&t, topic);
	if (topic[0] == '$' && (is_any(f.level[0]) || !strcmp(f.level[0], "#")))
		return false;
	for (i = 0; i < f.n; i++) {
		if (!strcmp(f.level[i], "#"))
			return true;
		if (i >= t.n ||
			(!is_any(f.level[i]) && strcmp(f.level[i], t.level[i])))
			return false;
	}
	return f.n == t.n;
}

static void draw(unsigned *seed, const char *const *parts, size_t n, char *ret)
{
	int levels = 1 + rand_r(seed) % 5;

	*ret = '\0';
	while (levels--) {
		strcat(ret, parts[(size_t)rand_r(seed) % n]);
		if (levels)
			strcat(ret, "/");
	}
}

static void matching_agrees_with_a_simple_matcher(void)
{
	static const char *const in_filters[] = {
		"a", "b", "ab", "", "$a", "+", "+", "#", "{device}"};
	static const char *const in_topics[] = {"a", "b", "ab", "", "$a"};
	unsigned seed = 4;
	unsigned matches = 0;
	int i;

	for (i = 0; i < 300000; i++) {
		char filter[128];
		char topic[128];
		bool is_match;

		draw(&seed, in_filters, 9, filter);
		draw(&seed, in_topics, 5, topic);
		if (!is_topic(topic) || !topic_filter_is_valid(filter))
			continue;
		is_match = topic_matches(filter, topic);
		if (is_match != reference(filter, topic))
			fprintf(stderr, "'%s' and '%s'\n", filter, topic);
		CU_ASSERT_EQUAL_FATAL(is_match, reference(filter, topic));
		matches += is_match;
	}
	CU_ASSERT_TRUE(matches > 10000); /* both answers were met */
}

/* ---- devices ---- */

#define A64 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234"

static void device_names_are_plain(void)
{
	CU_ASSERT_TRUE(topic_device_name_is_valid("dev-01"));
	CU_ASSERT_TRUE(topic_device_name_is_valid("A_z-9"));
	CU_ASSERT_TRUE(topic_device_name_is_valid("-"));
	CU_ASSERT_TRUE(topic_device_name_is_valid(A64));
	CU_ASSERT_FALSE(topic_device_name_is_valid(A64 "5"));
	CU_ASSERT_FALSE(topic_device_name_is_valid(""));
	CU_ASSERT_FALSE(topic_device_name_is_valid("."));
	CU_ASSERT_FALSE(topic_device_name_is_valid(".."));
	CU_ASSERT_FALSE(topic_device_name_is_valid("a b"));
	CU_ASSERT_FALSE(topic_device_name_is_valid("a/b"));
	CU_ASSERT_FALSE(topic_device_name_is_valid("a+"));
	CU_ASSERT_FALSE(topic_device_name_is_valid("$SYS"));
	CU_ASSERT_FALSE(topic_device_name_is_valid("a\n"));
	CU_ASSERT_FALSE(topic_device_name_is_valid("\xc3\xa9"));
}

/* Every other byte is refused, wherever it stands. */
static void device_names_have_no_other_byte(void)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "abcdefghijklmnopqrstuvwxyz0123456789_-";
	char name[4] = "axb";
	int c;

	for (c = 1; c < 256; c++) {
		name[1] = (char)c;
		CU_ASSERT_EQUAL(topic_device_name_is_valid(name),
			strchr(good, c) != NULL);
	}
}

static void the_level_at_device_is_named(void)
{
	char device[TOPIC_DEVICE_MAX + 1];

	CU_ASSERT_EQUAL(topic_device("dt/{device}/#", "dt/dev-01/t/x", device,
				sizeof(device)),
		0);
	CU_ASSERT_STRING_EQUAL(device, "dev-01");
	CU_ASSERT_EQUAL(
		topic_device("{device}", "d", device, sizeof(device)), 0);
	CU_ASSERT_STRING_EQUAL(device, "d");
	CU_ASSERT_EQUAL(
		topic_device("+//{device}", "a//last", device, sizeof(device)),
		0);
	CU_ASSERT_STRING_EQUAL(device, "last");
	CU_ASSERT_EQUAL(topic_device("$aws/things/{device}/shadow/+",
				"$aws/things/" A64 "/shadow/get", device,
				sizeof(device)),
		0);
	CU_ASSERT_STRING_EQUAL(device, A64);
}

static void no_device_is_told_apart(void)
{
	char device[8] = "before";

	/* No match, no {device}. */
	CU_ASSERT_EQUAL(
		topic_device("dt/{device}", "dx/a", device, 8), -ENOENT);
	CU_ASSERT_EQUAL(
		topic_device("dt/{device}", "dt/a/b", device, 8), -ENOENT);
	CU_ASSERT_EQUAL(topic_device("dt/#", "dt/a", device, 8), -ENOENT);
	CU_ASSERT_EQUAL(topic_device("#", "dt", device, 8), -ENOENT);
	CU_ASSERT_EQUAL(topic_device("dt/+", "dt/a", device, 8), -ENOENT);
	CU_ASSERT_EQUAL(topic_device("dt/#", "dt", device, 8), -ENOENT);
	CU_ASSERT_EQUAL(topic_device("dt/a", "dt/a", device, 8), -ENOENT);
	/* A level that is no device's name. */
	CU_ASSERT_EQUAL(topic_device("dt/{device}", "dt/", device, 8), -EINVAL);
	CU_ASSERT_EQUAL(
		topic_device("dt/{device}", "dt/a b", device, 8), -EINVAL);
	CU_ASSERT_EQUAL(
		topic_device("dt/{device}/x", "dt/../x", device, 8), -EINVAL);
	CU_ASSERT_EQUAL(
		topic_device("dt/{device}/x", "dt/" A64 "5/x", device, 8),
		-EINVAL);
	CU_ASSERT_STRING_EQUAL(device, "before");
}

static void a_device_that_does_not_fit_is_told(void)
{
	char device[8] = "before";

	CU_ASSERT_EQUAL(topic_device("dt/{device}", "dt/abcdefgh", device, 8),
		-ENOBUFS);
	CU_ASSERT_STRING_EQUAL(device, "before");
	CU_ASSERT_EQUAL(
		topic_device("dt/{device}", "dt/abcdefg", device, 8), 0);
	CU_ASSERT_STRING_EQUAL(device, "abcdefg");
}

static void to_mqtt(const char *filter, const char *prefix, const char *want)
{
	char got[64];

	CU_ASSERT_EQUAL(
		topic_filter_to_mqtt(filter, prefix, got, sizeof(got)), 0);
	CU_ASSERT_STRING_EQUAL(got, want);
}

static void a_filter_becomes_one_of_mqtt(void)
{
	to_mqtt("dt/{device}/#", "", "dt/+/#");
	to_mqtt("dt/{device}/#", "plant7/", "plant7/dt/+/#");
	to_mqtt("{device}", "", "+");
	to_mqtt("{device}/a", "p/", "p/+/a");
	to_mqtt("a/b/{device}", "", "a/b/+");
	to_mqtt("a/+/#", "", "a/+/#");
	to_mqtt("x{device}/{device}", "", "x{device}/+");
	to_mqtt("{device}y/a", "", "{device}y/a");
	to_mqtt("a/100%s%n/{device}", "%d/", "%d/a/100%s%n/+");
}

static void a_filter_that_does_not_fit_is_told(void)
{
	char got[9];

	CU_ASSERT_EQUAL(
		topic_filter_to_mqtt("dt/{device}/#", "pp/", got, 9), -ENOBUFS);
	CU_ASSERT_EQUAL(topic_filter_to_mqtt("dt/{device}/#", "p/", got, 9), 0);
	CU_ASSERT_STRING_EQUAL(got, "p/dt/+/#");
	CU_ASSERT_EQUAL(
		topic_filter_to_mqtt("dt/xxx/#", "p/", got, 9), -ENOBUFS);
}

/* What was subscribed brings what the filter takes, and nothing less. */
static void the_mqtt_filter_takes_the_same_topics(void)
{
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char mqtt[64];

		CU_ASSERT_EQUAL_FATAL(topic_filter_to_mqtt(table[i].filter, "",
					      mqtt, sizeof(mqtt)),
			0);
		CU_ASSERT_EQUAL(
			topic_matches(mqtt, table[i].topic), table[i].is_match);
	}
}

static void a_wider_filter_covers_a_narrower_one(void)
{
	CU_ASSERT_TRUE(topic_filter_covers("a/b", "a/b"));
	CU_ASSERT_TRUE(topic_filter_covers("a/+", "a/b"));
	CU_ASSERT_TRUE(topic_filter_covers("a/+", "a/+"));
	CU_ASSERT_TRUE(topic_filter_covers("a/#", "a/+/c"));
	CU_ASSERT_TRUE(topic_filter_covers("a/#", "a/b/#"));
	CU_ASSERT_TRUE(topic_filter_covers("a/#", "a/#"));
	CU_ASSERT_TRUE(topic_filter_covers("a/#", "a"));
	CU_ASSERT_TRUE(topic_filter_covers("#", "+/b"));
	CU_ASSERT_TRUE(topic_filter_covers("$aws/#", "$aws/+"));
}

static void a_filter_does_not_cover_what_it_may_miss(void)
{
	CU_ASSERT_FALSE(topic_filter_covers("a/b", "a/+"));
	CU_ASSERT_FALSE(topic_filter_covers("a/+", "a/#"));
	CU_ASSERT_FALSE(topic_filter_covers("a/+", "a/b/c"));
	CU_ASSERT_FALSE(topic_filter_covers("a/+/c", "a/b/+"));
	CU_ASSERT_FALSE(topic_filter_covers("a/+/#", "a/#"));
	CU_ASSERT_FALSE(topic_filter_covers("a/b/#", "a/#"));
	CU_ASSERT_FALSE(topic_filter_covers("+/b", "#"));
	CU_ASSERT_FALSE(topic_filter_covers("#", "$aws/a"));
	CU_ASSERT_FALSE(topic_filter_covers("+/#", "$aws/#"));
}

int main(void)
{
	CU_TestInfo valid[] = {
		{"plain topics are valid", plain_topics_are_valid},
		{"wildcards and nothing are no topic",
			wildcards_and_nothing_are_no_topic},
		{"control characters are no topic",
			control_characters_are_no_topic},
		{"UTF-8 of every length is valid",
			utf8_of_every_length_is_valid},
		{"what is no UTF-8 is no topic", what_is_no_utf8_is_no_topic},
		{"non-characters are no topic", non_characters_are_no_topic},
		{"a character is not read beyond the end",
			a_character_is_not_read_beyond_the_end},
		{"length is limited to what MQTT can carry",
			length_is_limited_to_what_mqtt_can_carry},
		{"filters have wildcards as whole levels",
			filters_have_wildcards_as_whole_levels},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo matching[] = {
		{"matching follows MQTT 4.7", matching_follows_mqtt_4_7},
		{"matching agrees with a simple matcher",
			matching_agrees_with_a_simple_matcher},
		{"a wider filter covers a narrower one",
			a_wider_filter_covers_a_narrower_one},
		{"a filter does not cover what it may miss",
			a_filter_does_not_cover_what_it_may_miss},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo device[] = {
		{"device names are plain", device_names_are_plain},
		{"device names have no other byte",
			device_names_have_no_other_byte},
		{"the level at {device} is named",
			the_level_at_device_is_named},
		{"no device is told apart", no_device_is_told_apart},
		{"a device that does not fit is told",
			a_device_that_does_not_fit_is_told},
		{"a filter becomes one of MQTT", a_filter_becomes_one_of_mqtt},
		{"a filter that does not fit is told",
			a_filter_that_does_not_fit_is_told},
		{"the MQTT filter takes the same topics",
			the_mqtt_filter_takes_the_same_topics},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"valid", NULL, NULL, NULL, NULL, valid},
		{"matching", NULL, NULL, NULL, NULL, matching},
		{"device", NULL, NULL, NULL, NULL, device},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
