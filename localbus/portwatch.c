/* inotify on the folder that a device node will appear in.  Knows no tty. */
#include "localbus/portwatch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include <systemd/sd-event.h>

/* IN_ATTRIB: udev sets owner and mode after it has made the node. */
#define MASK                                                                \
	(IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE | IN_DELETE_SELF | \
		IN_MOVE_SELF | IN_ONLYDIR)

struct portwatch {
	sd_event *event; /* borrowed */
	void (*on_change)(void *userdata);
	void *userdata;
	char *path;
	char *folder; /* the one that is watched */
	bool is_gone; /* it was removed or moved: the watch is dead */
	sd_event_source *inotify;
	sd_event_source *changed; /* posted: look again, and tell */
};

static int on_inotify(
	sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	struct portwatch *w = userdata;

	(void)s;
	if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT))
		w->is_gone = true;
	sd_event_source_set_enabled(w->changed, SD_EVENT_ONESHOT);
	return 0;
}

/* Watch the nearest folder above path that exists: 0, or 1 if it is watched
 * already.  The old watch stays until the new one is there. */
static int watch_nearest(struct portwatch *w)
{
	char *folder = strdup(w->path);
	sd_event_source *source = NULL;
	int r = -ENOENT;
	char *slash;

	if (!folder)
		return -ENOMEM;
	if (w->is_gone)
		w->inotify = sd_event_source_disable_unref(w->inotify);
	while ((r == -ENOENT || r == -ENOTDIR) && strcmp(folder, "/") &&
		(slash = strrchr(folder, '/'))) {
		slash[slash == folder] = '\0'; /* "/" stays */
		if (w->inotify && !strcmp(folder, w->folder)) {
			free(folder);
			return 1;
		}
		r = sd_event_add_inotify(
			w->event, &source, folder, MASK, on_inotify, w);
	}
	if (r < 0) {
		free(folder);
		return r;
	}
	sd_event_source_set_description(source, "port-folder");
	/* All of a burst first, then w->changed: else they take turns. */
	sd_event_source_set_priority(source, SD_EVENT_PRIORITY_NORMAL - 1);
	sd_event_source_disable_unref(w->inotify);
	w->inotify = source;
	free(w->folder);
	w->folder = folder;
	w->is_gone = false;
	return 0;
}

/* Look again until the nearest one is watched: a folder may have come between
 * the look for it and the watch on the one above. */
static int watch(struct portwatch *w)
{
	int r;

	do
		r = watch_nearest(w);
	while (r == 0);
	return r < 0 ? r : 0;
}

static int on_changed(sd_event_source *s, void *userdata)
{
	struct portwatch *w = userdata;

	(void)s;
	/* A failure leaves the owner's slow timer. */
	(void)!watch(w);
	w->on_change(w->userdata);
	return 0;
}

int portwatch_new(struct sd_event *event, const char *path,
	void (*on_change)(void *userdata), void *userdata,
	struct portwatch **ret_watch)
{
	SCOPED(portwatch_freep) struct portwatch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->event = event;
	w->on_change = on_change;
	w->userdata = userdata;
	w->path = strdup(path);
	if (!w->path)
		return -ENOMEM;
	r = sd_event_add_defer(event, &w->changed, on_changed, w);
	if (r < 0)
		return r;
	sd_event_source_set_description(w->changed, "port-changed");
	r = sd_event_source_set_enabled(w->changed, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = watch(w);
	if (r < 0)
		return r;
	*ret_watch = TAKE(w);
	return 0;
}

struct portwatch *portwatch_free(struct portwatch *w)
{
	if (!w)
		return NULL;
	sd_event_source_disable_unref(w->inotify);
	sd_event_source_disable_unref(w->changed);
	free(w->folder);
	free(w->path);
	free(w);
	return NULL;
}
