#ifndef LOCALBUS_PORTWATCH_H
#define LOCALBUS_PORTWATCH_H

#include "base/scope.h"

struct sd_event;

/* Tells when a path may have come into being or have become accessible: it
 * watches the path's folder by inotify, or, while that does not exist (as
 * /dev/serial/by-id without any device), its nearest ancestor that does. */
struct portwatch;

/* event and path's folder: on_change(userdata) is called from the loop, after
 * a burst of changes once.  path is copied.  0 or -errno. */
CHECKED int portwatch_new(struct sd_event *event, const char *path,
	void (*on_change)(void *userdata), void *userdata,
	struct portwatch **ret_watch);

struct portwatch *portwatch_free(struct portwatch *w);
DEFINE_SCOPED(struct portwatch *, portwatch_free);

#endif
