/* Tests that go through the table of keys: each key, each wrong type, each
 * limit; and the shipped configuration. */
#include <errno.h>
#include <inttypes.h>
#include <regex.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>
#include <libconfig.h>

#include "base/units.h"
#include "gatewayd/conf.h"
#include "gatewayd/conf_schema.h"
#include "gatewayd/conf_value.h"
#include "tests/confdir.h"
#include "tests/unit.h"

/* One of each; what the tests write stands in a drop-in, and overrides. */
static const char base[] =
	"uplink : { retry_max = \"1h\"; };\n"
	"serial : { n1 : { device = \"/dev/a\"; }; };\n"
	"routes : { n1 : { direction = \"up\"; filter = \"#\"; };\n"
	"           n2 : { direction = \"up\"; filter = \"#\"; }; };\n";

static void set_up(void)
{
	confdir_set_up();
	write_main(base);
}

/* The key with n1 in the place of the user's name. */
static const char *path_of(const struct conf_key *k)
{
	static char path[128];
	const char *star = strchr(k->path, '*');

	if (star)
		snprintf(path, sizeof(path), "%.*sn1%s", (int)(star - k->path),
			k->path, star + 1);
	else
		snprintf(path, sizeof(path), "%s", k->path);
	return path;
}

/* Write a drop-in that sets the key to this text. */
static void set_key(const struct conf_key *k, const char *value)
{
	char text[6000];
	char path[128];
	size_t depth = 0;
	char *at = path;
	char *dot;
	size_t n = 0;

	strcpy(path, path_of(k));
	while ((dot = strchr(at, '.'))) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%.*s : {",
			(int)(dot - at), at);
		at = dot + 1;
		depth++;
	}
	n += (size_t)snprintf(
		text + n, sizeof(text) - n, " %s = %s; ", at, value);
	while (depth--)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "};");
	CU_ASSERT_TRUE_FATAL(n < sizeof(text));
	write_file("conf.d/x.conf", text);
}

static void set_string(const struct conf_key *k, const char *value)
{
	char text[5000];

	snprintf(text, sizeof(text), "\"%s\"", value);
	set_key(k, text);
}

static const struct conf_key *key(const char *path)
{
	const struct conf_key *k = conf_schema;

	while (k->path && strcmp(k->path, path))
		k++;
	CU_ASSERT_PTR_NOT_NULL_FATAL(k->path);
	return k;
}

static void accepts(const char *path, const char *value)
{
	set_string(key(path), value);
	expect_loads();
}

static void refuses(const char *path, const char *value, const char *words)
{
	set_string(key(path), value);
	expect_error("conf.d/x.conf:1", path_of(key(path)), words);
}

/* ---- the table itself ---- */

static void every_default_and_limit_is_valid(void)
{
	const struct conf_key *k;

	for (k = conf_schema; k->path; k++) {
		const char *const texts[] = {k->default_value, k->min, k->max};
		size_t i;

		CU_ASSERT_EQUAL(!k->min, !k->max);
		CU_ASSERT_TRUE(k->meaning[0] != '\0');
		for (i = 0; i < 3; i++) {
			union {
				struct conf conf;
				struct conf_serial serial;
				struct conf_route route;
			} object;
			char wrong[CONF_WRONG_BYTES] = "";

			memset(&object, 0, sizeof(object));
			if (!texts[i])
				continue;
			CU_ASSERT_EQUAL(
				conf_value_parse(k, texts[i], &object, wrong),
				0);
			if (wrong[0])
				fprintf(stderr, "%s: %s\n", k->path, wrong);
			conf_value_free(k, &object);
		}
	}
}

static void no_key_stands_twice(void)
{
	const struct conf_key *k;
	const struct conf_key *other;

	for (k = conf_schema; k->path; k++)
		for (other = conf_schema; other != k; other++) {
			CU_ASSERT_STRING_NOT_EQUAL(k->path, other->path);
			/* Two keys in one field is a slip in the table. */
			CU_ASSERT_TRUE(k->object != other->object ||
				k->offset != other->offset);
		}
}

static void the_list_of_keys_is_complete(void)
{
	const struct conf_key *k;
	char *text = NULL;
	char *at;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	conf_print_keys(f);
	fclose(f);
	at = text;
	for (k = conf_schema; k->path; k++) {
		char *end = strchr(at, '\n');
		unsigned tabs = 0;

		CU_ASSERT_PTR_NOT_NULL_FATAL(end);
		for (; at < end; at++)
			tabs += *at == '\t';
		CU_ASSERT_EQUAL(tabs, 5);
		at = end + 1;
	}
	CU_ASSERT_STRING_EQUAL(at, "");
	CU_ASSERT_PTR_NOT_NULL(strstr(text,
		"uplink.port\tinteger\t\t1..65535"
		"\t8883\tits TCP port"));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(text, "\nserial.<name>.device\tpath\t\t\t(required)\t"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\tnone|even|odd\tnone\t"));
	free(text);
}

/* ---- types ---- */

enum written { STRING, INT, BIG, FLOAT, BOOL, ARRAY, LIST, GROUP, KINDS };

static const char *const samples[KINDS] = {"\"\\x01 +#\"", "1", "1L", "1.5",
	"true", "[ \"a\" ]", "( 1 )", "{ a = 1; }"};

static bool may_be(const struct conf_key *k, enum written w)
{
	switch (k->type) {
	case CONF_BOOL:
		return w == BOOL;
	case CONF_INT:
	case CONF_BAUD:
		return w == INT || w == BIG;
	case CONF_FILTERS:
		return w == STRING || w == ARRAY;
	default:
		return w == STRING;
	}
}

static void every_wrong_type_of_every_key_is_told(void)
{
	const struct conf_key *k;
	unsigned w;

	for (k = conf_schema; k->path; k++)
		for (w = 0; w < KINDS; w++) {
			if (may_be(k, w))
				continue;
			set_key(k, samples[w]);
			expect_error("conf.d/x.conf:1", path_of(k),
				w == GROUP ? "is a group, but a value is wanted"
					: k->type == CONF_FILTERS ? "; write"
								  : "is not a");
		}
}

static void what_to_write_fits_the_type(void)
{
	set_key(key("uplink.message_id"), "\"true\"");
	expect_error("conf.d/x.conf:1", "uplink.message_id",
		"is not a boolean; write true or false");
	set_key(key("uplink.port"), "\"8883\"");
	expect_error("conf.d/x.conf:1", "uplink.port",
		"is not an integer; write a whole number without quotes, 1 to "
		"65535");
	set_key(key("spool.max_size"), "5");
	expect_error("conf.d/x.conf:1", "spool.max_size",
		"is not a size; write a string with a unit, such as \"1G\"");
	set_key(key("serial.*.parity"), "5");
	expect_error("conf.d/x.conf:1", "serial.n1.parity",
		"is not a choice; write \"none\", \"even\" or \"odd\"");
}

/* ---- ranges ---- */

/* What the user writes for n, in the smallest unit of the key's type. */
static void print_number(const struct conf_key *k, uint64_t n, char *ret)
{
	if (k->type == CONF_SIZE)
		sprintf(ret, "\"%" PRIu64 "B\"", n);
	else if (k->type == CONF_DURATION)
		sprintf(ret, "\"%" PRIu64 "us\"", n);
	else
		sprintf(ret, "%" PRIu64, n);
}

static uint64_t number(const struct conf_key *k, const char *text)
{
	uint64_t n = strtoull(text, NULL, 10);

	if (k->type == CONF_SIZE)
		CU_ASSERT_EQUAL_FATAL(units_parse_bytes(text, &n), 0);
	if (k->type == CONF_DURATION)
		CU_ASSERT_EQUAL_FATAL(units_parse_usec(text, &n), 0);
	return n;
}

static void out_of_range(const struct conf_key *k, uint64_t n)
{
	char text[64];

	print_number(k, n, text);
	set_key(k, text);
	expect_error("conf.d/x.conf:1", path_of(k), "is out of range; write");
}

static void every_limit_holds(void)
{
	const struct conf_key *k;
	unsigned keys = 0;

	for (k = conf_schema; k->path; k++) {
		char text[64];
		uint64_t min;
		uint64_t max;

		if (!k->min)
			continue;
		keys++;
		min = number(k, k->min);
		max = number(k, k->max);
		print_number(k, min, text);
		set_key(k, text);
		expect_loads();
		print_number(k, max, text);
		set_key(k, text);
		expect_loads();
		if (min > 0)
			out_of_range(k, min - 1);
		out_of_range(k, max + 1);
	}
	CU_ASSERT_TRUE(keys > 8);
}

static void numbers_beyond_all_are_out_of_range(void)
{
	set_key(key("uplink.port"), "-1");
	expect_error("conf.d/x.conf:1", "uplink.port",
		"-1 is out of range; write 1 to 65535");
	refuses("spool.max_size", "99999999999999999999T",
		"is out of range; write \"1M\" to \"1T\"");
	refuses("uplink.keepalive", "18446744073709551615w", "out of range");
	refuses("spool.max_size", "17592186044417T", "out of range");
	refuses("spool.max_size", "1.5G",
		"is not a size; write a whole number");
	refuses("spool.max_size", "", "is not a size");
	refuses("uplink.keepalive", "60", "is not a duration; write a whole");
	refuses("uplink.keepalive", "1G", "is not a duration");
}

static void a_rate_is_a_standard_one(void)
{
	set_key(key("serial.*.baud"), "115200");
	expect_loads();
	CU_ASSERT_EQUAL(conf->serials[0].baud, 115200);
	set_key(key("serial.*.baud"), "9601");
	expect_error("conf.d/x.conf:1", "serial.n1.baud",
		"9601 is not a standard rate; write 9600");
}

/* ---- texts ---- */

#define A64 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234"

static void texts_are_checked(void)
{
	accepts("gateway.name", "a-_9");
	accepts("gateway.name", ""); /* the host name */
	refuses("gateway.name", "a.b", "is not 1 to 64 of A-Z a-z 0-9 _ -");
	refuses("gateway.name", A64 "5", "is not 1 to 64");
	accepts("uplink.ca", "/x");
	refuses("uplink.ca", "x.pem", "'x.pem' is not an absolute path");
	refuses("uplink.ca", "", "is not an absolute path");
	accepts("uplink.client_id", "thing:1 \xc3\xa9");
	accepts("uplink.client_id", "");
	accepts("uplink.client_id", A64 A64);
	refuses("uplink.client_id", A64 A64 "5", "is not a client id");
	refuses("uplink.client_id", "a/b", "without $ + # /");
	refuses("uplink.client_id", "$a", "is not a client id");
	refuses("uplink.client_id", "a+", "is not a client id");
	refuses("uplink.client_id", "a#", "is not a client id");
	refuses("uplink.client_id", "a\\x01", "is not a client id");
	accepts("local.client_id", ""); /* made by chance */
	accepts("routes.*.cloud_prefix", "plant7/");
	accepts("routes.*.cloud_prefix", "");
	refuses("routes.*.cloud_prefix", "+/", "is not a topic without");
	refuses("routes.*.cloud_prefix", "plant7", "does not end with /");
	accepts("uplink.host", "a1-ats.iot.eu-central-1.amazonaws.com");
	accepts("uplink.host", "fe80::1%eth0");
	accepts("uplink.host", "10.0.0.1");
	refuses("uplink.host", "x.example:8883", "the port is uplink.port");
	refuses("uplink.host", "mqtts://x.example", "is not a host name");
	accepts("routes.*.filter", "a/{device}/#");
	refuses("routes.*.filter", "a/{dev}/#", "braces");
	refuses("routes.*.filter", "a/x{device}", "braces");
	refuses("routes.*.filter", "a/{device}x", "braces");
	accepts("serial.*.topic", "dt/n1/x");
	refuses("serial.*.topic", "", "is not a topic without wildcards");
	refuses("serial.*.topic", "dt/#", "is not a topic without wildcards");
	refuses("serial.*.topic", "dt/\\xff", "is not a topic");
	refuses("serial.*.device", "", "is not an absolute path");
}

static void choices_are_checked(void)
{
	const struct conf_key *k;

	for (k = conf_schema; k->path; k++) {
		char words[128];
		char *word;
		char *save;

		CU_ASSERT_EQUAL(k->type == CONF_CHOICE, k->choices != NULL);
		if (!k->choices)
			continue;
		strcpy(words, k->choices);
		for (word = strtok_r(words, "|", &save); word;
			word = strtok_r(NULL, "|", &save)) {
			set_string(k, word);
			expect_loads();
		}
		set_string(k, k->choices);
		expect_error("conf.d/x.conf:1", path_of(k),
			"is none of the choices; write \"");
		set_string(k, "");
		expect_error("conf.d/x.conf:1", path_of(k),
			"'' is none of the choices");
	}
}

static void a_very_long_text_is_told(void)
{
	static char text[4200];

	memset(text, 'x', 4097);
	text[4096] = '\0';
	accepts("uplink.host", text);
	CU_ASSERT_EQUAL(strlen(conf->uplink.host), 4096);
	text[4096] = 'x';
	refuses("uplink.host", text, "is longer than 4096 bytes");
}

/* ---- the shipped configuration ---- */

static char *read_shipped(void)
{
	const char *srcdir = getenv("srcdir");
	static char text[65536];
	char path[512];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/etc/gatewayd.conf",
		srcdir ? srcdir : ".");
	f = fopen(path, "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	CU_ASSERT_TRUE_FATAL(n < sizeof(text) - 1);
	text[n] = '\0';
	return text;
}

static void the_shipped_file_loads(void)
{
	write_main(read_shipped());
	expect_loads();
	CU_ASSERT_STRING_EQUAL(conf->uplink.host, "");
	CU_ASSERT_EQUAL(conf->n_serials, 0);
	CU_ASSERT_TRUE(conf->n_routes >= 4);
}

/* Bring into force what it shows in comments. */
static void uncomment(char *text)
{
	regex_t setting;
	char *at;
	char *end;

	CU_ASSERT_EQUAL_FATAL(
		regcomp(&setting,
			"^\t+#[ \t]+([a-z0-9_]+ = .*;|meter1 :$|\\{$|\\};$)",
			REG_EXTENDED),
		0);
	for (at = text; *at; at = end + 1) {
		end = at + strcspn(at, "\n");
		if (!*end)
			break;
		*end = '\0';
		if (!regexec(&setting, at, 0, NULL, 0))
			at[strspn(at, "\t")] = ' ';
		*end = '\n';
	}
	regfree(&setting);
}

static void the_shipped_file_shows_every_key(void)
{
	char *text = read_shipped();
	const struct conf_key *k;
	config_t c;

	uncomment(text);
	config_init(&c);
	CU_ASSERT_EQUAL_FATAL(config_read_string(&c, text), CONFIG_TRUE);
	for (k = conf_schema; k->path; k++) {
		const char *name =
			k->object == CONF_SERIAL ? "meter1" : "telemetry";
		const char *star = strchr(k->path, '*');
		char path[128];

		snprintf(path, sizeof(path), "%.*s%s%s",
			star ? (int)(star - k->path) : 127, k->path,
			star ? name : "", star ? star + 1 : "");
		if (!config_lookup(&c, path))
			fprintf(stderr, "%s is not shown\n", path);
		CU_ASSERT_PTR_NOT_NULL(config_lookup(&c, path));
	}
	config_destroy(&c);
}

static void same_text(const char *shown, const char *is)
{
	CU_ASSERT_STRING_EQUAL(shown, is);
}

/* The comments say: these are the defaults. */
static void what_the_shipped_file_shows_are_the_defaults(void)
{
	char *text = read_shipped();
	struct conf *shown;
	const struct conf_key *k;

	uncomment(text);
	write_main(text);
	expect_loads();
	shown = conf;
	conf = NULL;
	CU_ASSERT_EQUAL_FATAL(shown->n_serials, 1);
	write_main("serial : { meter1 : { device = \"/dev/a\"; }; };\n"
		   "routes : { telemetry : { direction = \"up\";\n"
		   "filter = \"dt/#\"; }; };");
	expect_loads();
	for (k = conf_schema; k->path; k++) {
		char *a = k->object == CONF_GLOBAL ? (char *)shown
			: k->object == CONF_SERIAL
			? (char *)shown->serials
			: (char *)&shown->routes[shown->n_routes - 1];
		char *b = k->object == CONF_GLOBAL ? (char *)conf
			: k->object == CONF_SERIAL ? (char *)conf->serials
						   : (char *)conf->routes;

		if (!k->default_value)
			continue; /* must be given: an example */
		a += k->offset;
		b += k->offset;
		switch (k->type) {
		case CONF_BOOL:
			CU_ASSERT_EQUAL(*(bool *)a, *(bool *)b);
			break;
		case CONF_INT:
		case CONF_BAUD:
			CU_ASSERT_EQUAL(*(unsigned *)a, *(unsigned *)b);
			break;
		case CONF_SIZE:
		case CONF_DURATION:
			CU_ASSERT_EQUAL(*(uint64_t *)a, *(uint64_t *)b);
			break;
		default:
			same_text(*(char **)a, *(char **)b);
		}
	}
	conf_free(shown);
}

int main(void)
{
	CU_TestInfo table[] = {
		{"every default and limit is valid",
			every_default_and_limit_is_valid},
		{"no key stands twice", no_key_stands_twice},
		{"the list of keys is complete", the_list_of_keys_is_complete},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo values[] = {
		{"every wrong type of every key is told",
			every_wrong_type_of_every_key_is_told},
		{"what to write fits the type", what_to_write_fits_the_type},
		{"every limit holds", every_limit_holds},
		{"numbers beyond all are out of range",
			numbers_beyond_all_are_out_of_range},
		{"a rate is a standard one", a_rate_is_a_standard_one},
		{"texts are checked", texts_are_checked},
		{"choices are checked", choices_are_checked},
		{"a very long text is told", a_very_long_text_is_told},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo shipped[] = {
		{"the shipped file loads", the_shipped_file_loads},
		{"the shipped file shows every key",
			the_shipped_file_shows_every_key},
		{"what the shipped file shows are the defaults",
			what_the_shipped_file_shows_are_the_defaults},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"table", NULL, NULL, NULL, NULL, table},
		{"values", NULL, NULL, set_up, confdir_tear_down, values},
		{"shipped file", NULL, NULL, set_up, confdir_tear_down,
			shipped},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
