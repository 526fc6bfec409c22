#ifndef TESTS_CONFDIR_H
#define TESTS_CONFDIR_H

#include <errno.h>
#include <ftw.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "gatewayd/conf.h"

/* A folder with a configuration in it, and what conf_load() says to it. */
static char confdir[64];
static char conf_path[96];
static struct conf *conf;
static char *errors; /* what was written */
static unsigned n_errors;
static char host_name[80]; /* of this machine, as the test wants it */

int __wrap_gethostname(char *ret, size_t size);

int __wrap_gethostname(char *ret, size_t size)
{
	if (strlen(host_name) >= size) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(ret, host_name);
	return 0;
}

static inline void confdir_set_up(void)
{
	char sub[96];

	strcpy(confdir, "/tmp/test_conf.XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(confdir));
	snprintf(conf_path, sizeof(conf_path), "%s/gatewayd.conf", confdir);
	snprintf(sub, sizeof(sub), "%s/conf.d", confdir);
	CU_ASSERT_EQUAL_FATAL(mkdir(sub, 0755), 0);
	strcpy(host_name, "edge-7");
	conf = NULL;
	errors = NULL;
}

static inline int confdir_remove(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void confdir_tear_down(void)
{
	conf = conf_free(conf);
	free(errors);
	errors = NULL;
	nftw(confdir, confdir_remove, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void write_bytes(const char *name, const char *text, size_t n)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", confdir, name);
	f = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_EQUAL_FATAL(fwrite(text, 1, n, f), n);
	CU_ASSERT_EQUAL_FATAL(fclose(f), 0);
}

static inline void write_file(const char *name, const char *text)
{
	write_bytes(name, text, strlen(text));
}

static inline void write_main(const char *text)
{
	write_file("gatewayd.conf", text);
}

static inline void remove_file(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", confdir, name);
	CU_ASSERT_EQUAL_FATAL(unlink(path), 0);
}

/* Every error is one line of this form. */
static inline void check_error_lines(void)
{
	char *at = errors;
	regex_t form;

	CU_ASSERT_EQUAL_FATAL(
		regcomp(&form, "^[^:]+:[0-9]+: [^:]+: .+; .+$", REG_EXTENDED),
		0);
	for (n_errors = 0; *at; n_errors++) {
		char *end = strchr(at, '\n');

		CU_ASSERT_PTR_NOT_NULL_FATAL(end);
		*end = '\0';
		if (regexec(&form, at, 0, NULL, 0)) {
			fprintf(stderr, "not of the form: %s\n", at);
			CU_FAIL("an error line is not of the form");
		}
		*end = '\n';
		at = end + 1;
	}
	regfree(&form);
}

static inline int load_path(const char *path)
{
	size_t n;
	FILE *f;
	int r;

	conf = conf_free(conf);
	free(errors);
	errors = NULL;
	f = open_memstream(&errors, &n);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	r = conf_load(path, f, &conf);
	fclose(f);
	check_error_lines();
	CU_ASSERT_EQUAL(r == -EINVAL, n_errors > 0);
	CU_ASSERT_EQUAL(r == 0, conf != NULL);
	return r;
}

static inline int load(void)
{
	return load_path(conf_path);
}

static inline void expect_loads(void)
{
	int r = load();

	if (r)
		fprintf(stderr, "load: %d, %s\n", r, errors);
	CU_ASSERT_EQUAL_FATAL(r, 0);
}

/* Whether a line says all this: where ("gatewayd.conf:3"), key, and words. */
static inline bool has_error(
	const char *where, const char *key, const char *words)
{
	char begin[700];
	char *at = errors;

	snprintf(begin, sizeof(begin), "%s/%s: %s: ", confdir, where, key);
	while (*at) {
		char *end = strchr(at, '\n');
		bool is_it;

		*end = '\0';
		is_it = !strncmp(at, begin, strlen(begin)) && strstr(at, words);
		*end = '\n';
		if (is_it)
			return true;
		at = end + 1;
	}
	return false;
}

/* Load, and this is the only error. */
static inline void expect_error(
	const char *where, const char *key, const char *words)
{
	CU_ASSERT_EQUAL(load(), -EINVAL);
	if (n_errors != 1 || !has_error(where, key, words))
		fprintf(stderr, "wanted '%s: %s: %s', got:\n%s", where, key,
			words, errors);
	CU_ASSERT_EQUAL(n_errors, 1);
	CU_ASSERT_TRUE(has_error(where, key, words));
}

static inline void expect_main_error(
	const char *text, const char *where, const char *key, const char *words)
{
	write_main(text);
	expect_error(where, key, words);
}

#endif
