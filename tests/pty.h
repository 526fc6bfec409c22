#ifndef TESTS_PTY_H
#define TESTS_PTY_H

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/Basic.h>

/* A new pty: its master, which does not block; the path of its other end. */
static inline int pty_open(char *ret_path, size_t size)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(grantpt(fd), 0);
	CU_ASSERT_EQUAL_FATAL(unlockpt(fd), 0);
	CU_ASSERT_EQUAL_FATAL(ptsname_r(fd, ret_path, size), 0);
	return fd;
}

/* A pty under a name of ours, which appears at once, as udev does it. */
static inline int pty_plug(const char *link)
{
	char path[64];
	char temporary[PATH_MAX];
	int fd = pty_open(path, sizeof(path));

	snprintf(temporary, sizeof(temporary), "%s.new", link);
	CU_ASSERT_EQUAL_FATAL(symlink(path, temporary), 0);
	CU_ASSERT_EQUAL_FATAL(rename(temporary, link), 0);
	return fd;
}

/* How many descriptors this process has. */
static inline unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

#endif
