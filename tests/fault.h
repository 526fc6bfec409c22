#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Allocations that fail, by countdown: for the error paths that nothing else
 * reaches.  The test is linked with $(fault_ldflags) and includes this in one
 * file; calls from our archives are caught, those inside of libraries not. */

/* After fault_set(n) the n-th allocation from now on fails, counted from 0,
 * and no other. */
static long fault_in = -1;

static inline void fault_set(long n)
{
	fault_in = n;
}

/* End it; whether it has failed. */
static inline bool fault_clear(void)
{
	bool has_failed = fault_in < 0;

	fault_in = -1;
	return has_failed;
}

static inline bool fault_now(void)
{
	return fault_in >= 0 && fault_in-- == 0;
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__real_realloc(void *ptr, size_t bytes);
void *__wrap_realloc(void *ptr, size_t bytes);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
int __wrap_asprintf(char **ret, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

void *__wrap_malloc(size_t bytes)
{
	return fault_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	return fault_now() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *ptr, size_t bytes)
{
	return fault_now() ? NULL : __real_realloc(ptr, bytes);
}

char *__wrap_strdup(const char *text)
{
	return fault_now() ? NULL : __real_strdup(text);
}

int __wrap_asprintf(char **ret, const char *fmt, ...)
{
	va_list args;
	int n;

	if (fault_now())
		return -1;
	va_start(args, fmt);
	n = vasprintf(ret, fmt, args);
	va_end(args);
	return n;
}

#endif
