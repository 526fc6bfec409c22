#ifndef GATEWAYD_CONF_SOURCE_H
#define GATEWAYD_CONF_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/scope.h"

struct config_setting_t;

/* The files of a configuration, read and merged into one list of settings by
 * their paths: a later file overrides. */
struct conf_source;

struct conf_entry {
	char *path; /* "uplink.port" */
	struct config_setting_t *setting;
	char *where; /* "file:line" */
	const char *file;
	bool is_group;
};

/* Read `path` and conf.d beside it.  What is wrong is written to errors, a
 * line each, and counted in *n_errors; the rest is there all the same, so that
 * all mistakes can be found in one run.  0 or -ENOMEM. */
CHECKED int conf_source_read(const char *path, FILE *errors, unsigned *n_errors,
	struct conf_source **ret_source);

struct conf_source *conf_source_free(struct conf_source *s);
DEFINE_SCOPED(struct conf_source *, conf_source_free);

/* Whether every file could be read and parsed: else what is not here may stand
 * in a file that is wrong. */
bool conf_source_is_whole(const struct conf_source *s);

/* The number of this entry as written, when libconfig has read it wrong since
 * it is too large; else NULL.  Borrowed. */
const char *conf_source_wrapped(
	const struct conf_source *s, const struct conf_entry *e);

/* Entries in the order in which they were first met; NULL at the end. */
const struct conf_entry *conf_source_entry(
	const struct conf_source *s, size_t i);

/* The entry of this path, or NULL. */
const struct conf_entry *conf_source_find(
	const struct conf_source *s, const char *path);

#endif
