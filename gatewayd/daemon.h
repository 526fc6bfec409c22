#ifndef GATEWAYD_DAEMON_H
#define GATEWAYD_DAEMON_H

#include "base/scope.h"

struct conf;

/* The daemon as a whole: creates every part in order, connects them, runs the
 * loop, frees in reverse. */
struct daemon;

/* config: path of the configuration, read again on SIGHUP; state_dir: where
 * the spool is; both copied.  conf: taken over, also on failure.  Blocks the
 * signals it handles; so call it before any thread is made.
 * 0 or -errno (logged). */
CHECKED int daemon_new(const char *config, const char *state_dir,
	struct conf *conf, struct daemon **ret_daemon);

struct daemon *daemon_free(struct daemon *d);
DEFINE_SCOPED(struct daemon *, daemon_free);

/* Serve until SIGTERM, SIGINT or a failure that only a new process can mend.
 * Returns the exit status of the process. */
int daemon_run(struct daemon *d);

#endif
