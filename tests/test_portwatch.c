/* Tests of localbus/portwatch.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/Basic.h>
#include <systemd/sd-event.h>

#include "localbus/portwatch.h"
#include "tests/fault.h"
#include "tests/loop.h"
#include "tests/unit.h"

static char dir[64];
static char node[128];  /* dir/a/b/port */
static char inner[128]; /* dir/a/b */
static char outer[128]; /* dir/a */
static struct portwatch *w;
static unsigned changes;
static unsigned seen;               /* changes with the node in place */
static const char *make_after_look; /* folder */

/* In the test's place of what happens between two calls of portwatch. */
int __real_sd_event_add_inotify(sd_event *e, sd_event_source **s,
	const char *path, uint32_t mask, sd_event_inotify_handler_t callback,
	void *userdata);
int __wrap_sd_event_add_inotify(sd_event *e, sd_event_source **s,
	const char *path, uint32_t mask, sd_event_inotify_handler_t callback,
	void *userdata);

int __wrap_sd_event_add_inotify(sd_event *e, sd_event_source **s,
	const char *path, uint32_t mask, sd_event_inotify_handler_t callback,
	void *userdata)
{
	int r = __real_sd_event_add_inotify(
		e, s, path, mask, callback, userdata);

	if (r == -ENOENT && make_after_look && !strcmp(path, make_after_look)) {
		CU_ASSERT_EQUAL(mkdir(make_after_look, 0700), 0);
		make_after_look = NULL;
	}
	return r;
}

static void on_change(void *userdata)
{
	CU_ASSERT_PTR_EQUAL(userdata, &changes);
	changes++;
	seen += access(node, F_OK) == 0;
}

static void set_up(void)
{
	strcpy(dir, "/tmp/test_portwatch.XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(outer, sizeof(outer), "%s/a", dir);
	snprintf(inner, sizeof(inner), "%s/a/b", dir);
	snprintf(node, sizeof(node), "%s/a/b/port", dir);
	changes = 0;
	seen = 0;
	make_after_look = NULL;
	w = NULL;
	CU_ASSERT_TRUE_FATAL(sd_event_new(&event) >= 0);
}

static void tear_down(void)
{
	w = portwatch_free(w);
	event = sd_event_unref(event);
	unlink(node);
	rmdir(inner);
	rmdir(outer);
	rmdir(dir);
}

static void start(void)
{
	CU_ASSERT_EQUAL_FATAL(
		portwatch_new(event, node, on_change, &changes, &w), 0);
}

static void make_folders(void)
{
	CU_ASSERT_EQUAL_FATAL(mkdir(outer, 0700), 0);
	CU_ASSERT_EQUAL_FATAL(mkdir(inner, 0700), 0);
}

static void make_node(void)
{
	int fd = open(node, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	close(fd);
}

static bool is_changed(void)
{
	return changes > 0;
}

static bool is_seen(void)
{
	return seen > 0;
}

static void forget(void)
{
	loop_for(50 * USEC_PER_MSEC);
	changes = 0;
	seen = 0;
}

static void a_node_that_comes_is_told(void)
{
	make_folders();
	start();
	CU_ASSERT_EQUAL(loop_for(50 * USEC_PER_MSEC), 0);
	make_node();
	loop_until(is_seen);
}

static void a_node_that_is_moved_in_is_told(void)
{
	char from[128];

	make_folders();
	start();
	snprintf(from, sizeof(from), "%s/x", dir);
	CU_ASSERT_EQUAL_FATAL(symlink("/dev/null", from), 0);
	CU_ASSERT_EQUAL_FATAL(rename(from, node), 0);
	loop_until(is_seen);
}

static void a_change_of_permissions_is_told(void)
{
	make_folders();
	make_node();
	start();
	CU_ASSERT_EQUAL_FATAL(chmod(node, 0640), 0);
	loop_until(is_changed);
}

static void a_burst_is_told_once(void)
{
	int i;

	make_folders();
	start();
	for (i = 0; i < 20; i++) {
		make_node();
		CU_ASSERT_EQUAL_FATAL(unlink(node), 0);
	}
	make_node();
	loop_until(is_seen);
	loop_for(50 * USEC_PER_MSEC);
	CU_ASSERT_EQUAL(changes, 1);
}

static void reading_and_writing_the_node_is_no_change(void)
{
	int fd;

	make_folders();
	make_node();
	start();
	fd = open(node, O_RDWR | O_CLOEXEC);
	CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
	close(fd);
	CU_ASSERT_EQUAL(loop_for(50 * USEC_PER_MSEC), 0);
	CU_ASSERT_EQUAL(changes, 0);
}

static void folders_that_come_one_by_one_are_followed(void)
{
	start();
	CU_ASSERT_EQUAL_FATAL(mkdir(outer, 0700), 0);
	loop_until(is_changed);
	forget();
	CU_ASSERT_EQUAL_FATAL(mkdir(inner, 0700), 0);
	loop_until(is_changed);
	forget();
	make_node();
	loop_until(is_seen);
}

static void folders_that_come_at_once_are_followed(void)
{
	start();
	make_folders();
	loop_until(is_changed);
	forget();
	make_node();
	loop_until(is_seen);
}

static void all_that_comes_at_once_is_seen(void)
{
	start();
	make_folders();
	make_node();
	loop_until(is_seen);
}

static void a_folder_that_goes_and_comes_back_is_followed(void)
{
	int i;

	make_folders();
	make_node();
	start();
	for (i = 0; i < 5; i++) {
		unlink(node);
		rmdir(inner);
		rmdir(outer);
		loop_until(is_changed);
		forget();
		make_folders();
		loop_until(is_changed);
		forget();
		make_node();
		loop_until(is_seen);
		forget();
	}
}

static void a_folder_that_is_replaced_in_one_turn_is_followed(void)
{
	make_folders();
	start();
	rmdir(inner);
	CU_ASSERT_EQUAL_FATAL(mkdir(inner, 0700), 0);
	loop_until(is_changed);
	forget();
	make_node();
	loop_until(is_seen);
}

static void a_folder_that_is_moved_away_is_left(void)
{
	char away[128];

	make_folders();
	start();
	snprintf(away, sizeof(away), "%s/away", dir);
	CU_ASSERT_EQUAL_FATAL(rename(inner, away), 0);
	loop_until(is_changed);
	forget();
	CU_ASSERT_EQUAL_FATAL(mkdir(inner, 0700), 0);
	loop_until(is_changed);
	forget();
	make_node();
	loop_until(is_seen);
	rmdir(away);
}

/* As udev does it: the folder comes between the look for it and the watch on
 * the one above, the node later. */
static void a_folder_that_comes_while_looking_is_not_missed(void)
{
	CU_ASSERT_EQUAL_FATAL(mkdir(outer, 0700), 0);
	make_after_look = inner;
	start();
	CU_ASSERT_PTR_NULL(make_after_look);
	make_node();
	loop_until(is_seen);
}

static void a_file_in_the_way_is_waited_out(void)
{
	int fd = open(outer, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	close(fd);
	start();
	CU_ASSERT_EQUAL(loop_for(50 * USEC_PER_MSEC), 0);
	CU_ASSERT_EQUAL_FATAL(unlink(outer), 0);
	make_folders();
	loop_until(is_changed);
	forget();
	make_node();
	loop_until(is_seen);
}

static void a_path_right_below_the_root_works(void)
{
	CU_ASSERT_EQUAL_FATAL(
		portwatch_new(event, "/no-such-port", on_change, &changes, &w),
		0);
	w = portwatch_free(w);
	CU_ASSERT_EQUAL_FATAL(portwatch_new(event, "/no/such/folder/port",
				      on_change, &changes, &w),
		0);
}

static void a_path_without_a_folder_is_refused(void)
{
	CU_ASSERT_EQUAL(
		portwatch_new(event, "port", on_change, &changes, &w), -ENOENT);
	CU_ASSERT_PTR_NULL(w);
}

static void two_watches_on_one_folder_do_not_disturb_each_other(void)
{
	struct portwatch *other = NULL;

	make_folders();
	start();
	CU_ASSERT_EQUAL_FATAL(
		portwatch_new(event, node, on_change, &changes, &other), 0);
	CU_ASSERT_PTR_NULL(portwatch_free(other));
	make_node();
	loop_until(is_seen);
}

static void without_memory_it_says_so(void)
{
	int n;

	for (n = 0; n < 100; n++) {
		int r;

		fault_set(n);
		r = portwatch_new(event, node, on_change, &changes, &w);
		if (!fault_clear())
			break;
		CU_ASSERT_EQUAL(r, -ENOMEM);
		CU_ASSERT_PTR_NULL(w);
	}
	CU_ASSERT_TRUE(n >= 3 && n < 100);
	CU_ASSERT_PTR_NOT_NULL(w);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a node that comes is told", a_node_that_comes_is_told},
		{"a node that is moved in is told",
			a_node_that_is_moved_in_is_told},
		{"a change of permissions is told",
			a_change_of_permissions_is_told},
		{"a burst is told once", a_burst_is_told_once},
		{"reading and writing the node is no change",
			reading_and_writing_the_node_is_no_change},
		{"folders that come one by one are followed",
			folders_that_come_one_by_one_are_followed},
		{"folders that come at once are followed",
			folders_that_come_at_once_are_followed},
		{"all that comes at once is seen",
			all_that_comes_at_once_is_seen},
		{"a folder that goes and comes back is followed",
			a_folder_that_goes_and_comes_back_is_followed},
		{"a folder that is replaced in one turn is followed",
			a_folder_that_is_replaced_in_one_turn_is_followed},
		{"a folder that is moved away is left",
			a_folder_that_is_moved_away_is_left},
		{"a folder that comes while looking is not missed",
			a_folder_that_comes_while_looking_is_not_missed},
		{"a file in the way is waited out",
			a_file_in_the_way_is_waited_out},
		{"a path right below the root works",
			a_path_right_below_the_root_works},
		{"a path without a folder is refused",
			a_path_without_a_folder_is_refused},
		{"two watches on one folder do not disturb each other",
			two_watches_on_one_folder_do_not_disturb_each_other},
		{"without memory it says so", without_memory_it_says_so},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"portwatch", NULL, NULL, set_up, tear_down, tests},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
