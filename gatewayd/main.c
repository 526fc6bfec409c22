/* Arguments, exit status, and the order in which the process starts and ends.
 * Everything else is daemon.c. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mqttio.h"
#include "bridge/tls.h"
#include "gatewayd/conf.h"
#include "gatewayd/daemon.h"
#include "spool/db.h"

#include "config.h"

#define DEFAULT_CONFIG "/etc/gatewayd/gatewayd.conf"
#define DEFAULT_STATE_DIR "/var/lib/gatewayd"

struct arguments {
	const char *config;
	const char *state_dir;
	bool check_only;
};

static const char help[] =
	"Usage: gatewayd [OPTION]...\n"
	"Takes messages of local devices, keeps them on disk and forwards them "
	"to the cloud.\n"
	"\n"
	"  -c, --config FILE    configuration (default " DEFAULT_CONFIG ")\n"
	"  -s, --state-dir DIR  where the spool is (default $STATE_DIRECTORY, "
	"else\n"
	"                       " DEFAULT_STATE_DIR ")\n"
	"  -n, --check-config   report every mistake in the configuration, and "
	"exit\n"
	"  -l, --list-keys      print all keys of the configuration, and exit\n"
	"  -v, --verbose        log traffic too\n"
	"  -V, --version        print versions, and exit\n"
	"  -h, --help           print this, and exit\n"
	"\n"
	"Exit status: 0 stopped as told or configuration right, 1 failed, "
	"64 wrong\n"
	"arguments, 78 wrong configuration.  See gatewayd(8) and "
	"gatewayd.conf(5).\n";

static void print_version(void)
{
	printf("gatewayd %s\nlibmosquitto %s, SQLite %s, OpenSSL %s%s\n",
		PACKAGE_VERSION, mqttio_lib_version(), db_lib_version(),
		tls_lib_version(),
		EARLY_PUBACK ? "\nBROKEN ON PURPOSE: --enable-early-puback"
			     : "");
}

/* 0: go on.  1: all done.  -1: wrong usage. */
static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"state-dir", required_argument, NULL, 's'},
		{"check-config", no_argument, NULL, 'n'},
		{"list-keys", no_argument, NULL, 'l'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:s:nlvVh", options, NULL)) >= 0)
		switch (c) {
		case 'c':
			a->config = optarg;
			break;
		case 's':
			a->state_dir = optarg;
			break;
		case 'n':
			a->check_only = true;
			break;
		case 'l':
			conf_print_keys(stdout);
			return 1;
		case 'v':
			log_set_level(LOG_LEVEL_DEBUG);
			break;
		case 'V':
			print_version();
			return 1;
		case 'h':
			fputs(help, stdout);
			return 1;
		default:
			return -1;
		}
	if (optind == argc)
		return 0;
	fprintf(stderr, "gatewayd: unexpected argument '%s'\n", argv[optind]);
	return -1;
}

/* $STATE_DIRECTORY may name several folders, with colons; the first is ours. */
static const char *default_state_dir(char *buf, size_t size)
{
	const char *env = getenv("STATE_DIRECTORY");

	if (!env || !*env)
		return DEFAULT_STATE_DIR;
	snprintf(buf, size, "%.*s", (int)strcspn(env, ":"), env);
	return buf;
}

static int make_state_dir(const char *dir)
{
	if (mkdir(dir, 0700) == 0 || errno == EEXIST)
		return 0;
	return log_fail(-errno,
		"cannot make the state directory '%s' (make it, or name "
		"another one with --state-dir)",
		dir);
}

static int run(const struct arguments *a, struct conf *conf)
{
	SCOPED(daemon_freep) struct daemon *d = NULL;

	if (make_state_dir(a->state_dir) < 0)
		return EXIT_FAILURE;
	if (daemon_new(a->config, a->state_dir, conf, &d) < 0)
		return EXIT_FAILURE;
	return daemon_run(d);
}

int main(int argc, char **argv)
{
	char state_dir[1024];
	struct arguments a = {
		.config = DEFAULT_CONFIG,
		.state_dir = default_state_dir(state_dir, sizeof(state_dir)),
	};
	SCOPED(conf_freep) struct conf *conf = NULL;
	int r = parse(argc, argv, &a);

	if (r) {
		if (r < 0)
			fputs("Try 'gatewayd --help'.\n", stderr);
		return r < 0 ? EX_USAGE : EXIT_SUCCESS;
	}
	r = conf_load(a.config, stderr, &conf);
	if (r < 0)
		return r == -EINVAL ? EX_CONFIG : EXIT_FAILURE;
	if (a.check_only)
		return EXIT_SUCCESS;
	mallopt(M_ARENA_MAX, 1);  /* the connector thread needs no heap of its
				  * own */
	signal(SIGPIPE, SIG_IGN); /* libmosquitto writes with write(2) */
	if (db_lib_start() < 0 || mqttio_lib_start() < 0)
		return EXIT_FAILURE;
	r = run(&a, TAKE(conf));
	if (!mqttio_lib_stop())
		_exit(r); /* a thread is still in the resolver */
	return r;
}
