/* libconfig files and their merge.  Knows no key.
 *
 * libconfig 1.5 has traps; what meets them: it has no include_dir (we read
 * conf.d); it reads 4294967297 as 1 without a word (check_text() looks for such
 * numbers); its scanner ends the process when it is given a directory (only
 * regular files are opened, and @include is refused). */
#include "gatewayd/conf_source.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libconfig.h>

#define FILE_MAX_BYTES (1 << 20)
#define NAME_CHARACTERS                                        \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" \
	"0123456789_-*"

struct file {
	struct file *next;
	config_t config;
	char *path;
};

/* A number that libconfig has read wrong, and where it stands. */
struct wrapped {
	struct wrapped *next;
	unsigned line;
	const char *path; /* of its file */
	char key[64];     /* the name before it */
	char number[32];  /* as written */
};

struct conf_source {
	struct file *files;
	struct wrapped *wrapped;
	struct conf_entry *entries;
	size_t n;
	size_t room;
	FILE *errors;
	unsigned *n_errors;
	bool is_broken; /* a file could not be read or parsed */
};

#define COMPLAIN(s, ...)                           \
	do {                                       \
		fprintf((s)->errors, __VA_ARGS__); \
		++*(s)->n_errors;                  \
	} while (0)

/* ---- entries ---- */

static struct conf_entry *find(const struct conf_source *s, const char *path)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		if (!strcmp(s->entries[i].path, path))
			return &s->entries[i];
	return NULL;
}

static int set_entry(struct conf_source *s, const char *path, const char *file,
	config_setting_t *setting)
{
	struct conf_entry *e = find(s, path);
	char *where;

	if (asprintf(&where, "%s:%u", file,
		    config_setting_source_line(setting)) < 0)
		return -ENOMEM;
	if (!e && s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct conf_entry *more =
			realloc(s->entries, room * sizeof(*more));

		if (!more) {
			free(where);
			return -ENOMEM;
		}
		s->entries = more;
		s->room = room;
	}
	if (!e) {
		e = &s->entries[s->n];
		memset(e, 0, sizeof(*e));
		e->path = strdup(path);
		if (!e->path) {
			free(where);
			return -ENOMEM;
		}
		s->n++;
	}
	free(e->where);
	e->where = where;
	e->file = file;
	e->setting = setting;
	e->is_group = config_setting_is_group(setting);
	return 0;
}

/* Put a group's members into the list, and what is in them. */
static int merge(struct conf_source *s, const char *prefix, const char *file,
	config_setting_t *group)
{
	int n = config_setting_length(group);
	int r = 0;
	int i;

	for (i = 0; i < n && r == 0; i++) {
		config_setting_t *c =
			config_setting_get_elem(group, (unsigned)i);
		char *path;

		if (asprintf(&path, "%s%s%s", prefix, *prefix ? "." : "",
			    config_setting_name(c)) < 0)
			return -ENOMEM;
		r = set_entry(s, path, file, c);
		if (r == 0 && config_setting_is_group(c))
			r = merge(s, path, file, c);
		free(path);
	}
	return r;
}

/* ---- one file ---- */

/* Skip a string or a comment at *at; counts lines.  False: neither. */
static bool skip_text(const char **at, unsigned *line)
{
	const char *p = *at;

	if (*p == '"') {
		for (p++; *p && *p != '"'; p++) {
			if (*p == '\\' && p[1])
				p++;
			*line += *p == '\n';
		}
		*at = *p ? p + 1 : p;
		return true;
	}
	if (*p == '#' || (*p == '/' && p[1] == '/')) {
		*at = p + strcspn(p, "\n");
		return true;
	}
	if (*p != '/' || p[1] != '*')
		return false;
	for (p += 2; *p && !(*p == '*' && p[1] == '/'); p++)
		*line += *p == '\n';
	*at = *p ? p + 2 : p;
	return true;
}

/* libconfig would wrap the number silently: note it.  key: the name that stands
 * last before it. */
static int check_integer(struct conf_source *s, const char *path, unsigned line,
	const char *key, const char **at)
{
	const char *p = *at;
	struct wrapped *w;
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(p, &end, 0);
	*at = end;
	if ((n <= INT32_MAX && errno != ERANGE) || *end == '.')
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->next = s->wrapped;
	s->wrapped = w;
	w->path = path;
	w->line = line;
	snprintf(w->key, sizeof(w->key), "%.*s",
		(int)strspn(key, NAME_CHARACTERS), key);
	snprintf(w->number, sizeof(w->number), "%.*s", (int)(end - p), p);
	return 0;
}

/* Look for what libconfig would take the wrong way.  path: lives as long as s.
 * 0; 1: it must not see this text; -ENOMEM. */
static int check_text(struct conf_source *s, const char *path, const char *text)
{
	const char *key = "";
	const char *p = text;
	unsigned line = 1;
	int r = 0;

	while (*p && r >= 0) {
		if (skip_text(&p, &line))
			continue;
		if (isalpha((unsigned char)*p) || *p == '_') {
			key = p;
			p += strspn(p, NAME_CHARACTERS);
			continue;
		}
		if (isdigit((unsigned char)*p)) {
			if (check_integer(s, path, line, key, &p) < 0)
				r = -ENOMEM;
			continue;
		}
		if (*p == '@') {
			COMPLAIN(s,
				"%s:%u: @include: cannot be used; write a file "
				"conf.d/<name>.conf instead\n",
				path, line);
			r = 1;
		}
		line += *p++ == '\n';
	}
	return r;
}

/* 0: *ret_text is the caller's.  Else why not, above 0: it holds a NUL, as
 * after a power cut, and the rest would be lost without a word. */
static int read_text(int fd, size_t bytes, char **ret_text)
{
	char *text = malloc(bytes + 1);
	size_t n = 0;
	ssize_t got = 1;

	if (!text)
		return -ENOMEM;
	while (n < bytes && (got = read(fd, text + n, bytes - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	if (got < 0 || strlen(text) != n) {
		int r = got < 0 ? -errno : 1;

		free(text);
		return r;
	}
	*ret_text = text;
	return 0;
}

static void complain_unreadable(
	struct conf_source *s, const char *path, int err)
{
	COMPLAIN(s, "%s:0: file: cannot be read: %s; %s\n", path, strerror(err),
		err == EACCES ? "let the user gatewayd read it"
			      : "put it there, or name another with --config");
}

/* The text of a regular file; *ret_text is NULL after a complaint. */
static int open_text(struct conf_source *s, const char *path, char **ret_text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r = 0;

	*ret_text = NULL;
	if (fd < 0 || fstat(fd, &st) < 0)
		complain_unreadable(s, path, errno);
	else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES)
		COMPLAIN(s,
			"%s:0: file: is not a file of at most 1 MiB; put a "
			"configuration there\n",
			path);
	else
		r = read_text(fd, (size_t)st.st_size, ret_text);
	if (fd >= 0)
		close(fd);
	if (r > 0)
		COMPLAIN(s,
			"%s:0: file: holds a NUL byte, it is no text; "
			"write it anew\n",
			path);
	else if (r < 0 && r != -ENOMEM)
		complain_unreadable(s, path, -r);
	return r == -ENOMEM ? r : 0;
}

static void complain_syntax(struct conf_source *s, const struct file *f)
{
	const char *text = config_error_text(&f->config);

	COMPLAIN(s, "%s:%d: syntax: %s; %s\n", f->path,
		config_error_line(&f->config), text,
		strstr(text, "duplicate")
			? "this name stands twice in its group: remove one"
			: "check this line and the quotes, braces and "
			  "semicolons above it: all values but numbers, true "
			  "and false are in quotes, and after the last one of "
			  "a list is no comma");
}

/* Parse text and merge it; path: its file. */
static int read_config(
	struct conf_source *s, const char *path, const char *text)
{
	struct file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	config_init(&f->config);
	f->next = s->files;
	s->files = f;
	f->path = strdup(path);
	r = f->path ? check_text(s, f->path, text) : -ENOMEM;
	if (r < 0)
		return r;
	s->is_broken |= r > 0;
	if (r > 0)
		return 0;
	if (config_read_string(&f->config, text))
		return merge(s, "", f->path, config_root_setting(&f->config));
	complain_syntax(s, f);
	s->is_broken = true;
	return 0;
}

/* Editors of other systems put it there. */
static const char *skip_byte_order_mark(const char *text)
{
	return strncmp(text, "\xef\xbb\xbf", 3) ? text : text + 3;
}

static int read_file(struct conf_source *s, const char *path)
{
	char *text;
	int r = open_text(s, path, &text);

	if (!text)
		s->is_broken = true;
	else
		r = read_config(s, path, skip_byte_order_mark(text));
	free(text);
	return r;
}

/* ---- the drop-ins ---- */

static int is_drop_in(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return d->d_name[0] != '.' && dot && !strcmp(dot, ".conf");
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_drop_ins(struct conf_source *s, const char *main_path)
{
	const char *slash = strrchr(main_path, '/');
	struct dirent **list = NULL;
	char *folder;
	int r = 0;
	int n;
	int i;

	if (asprintf(&folder, "%.*sconf.d",
		    slash ? (int)(slash - main_path) + 1 : 0, main_path) < 0)
		return -ENOMEM;
	n = scandir(folder, &list, is_drop_in, by_bytes);
	if (n < 0 && errno == ENOMEM)
		r = -ENOMEM;
	else if (n < 0 && errno != ENOENT && errno != ENOTDIR)
		COMPLAIN(s,
			"%s:0: folder: cannot be read: %s; mend its "
			"permissions\n",
			folder, strerror(errno));
	for (i = 0; i < n; i++) {
		char *path;

		if (r == 0 &&
			asprintf(&path, "%s/%s", folder, list[i]->d_name) < 0) {
			r = -ENOMEM;
		} else if (r == 0) {
			r = read_file(s, path);
			free(path);
		}
		free(list[i]);
	}
	free(list);
	free(folder);
	return r;
}

/* ---- the interface ---- */

int conf_source_read(const char *path, FILE *errors, unsigned *n_errors,
	struct conf_source **ret_source)
{
	SCOPED(conf_source_freep)
	struct conf_source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->errors = errors;
	s->n_errors = n_errors;
	r = read_file(s, path);
	if (r == 0)
		r = read_drop_ins(s, path);
	if (r < 0)
		return r;
	*ret_source = TAKE(s);
	return 0;
}

struct conf_source *conf_source_free(struct conf_source *s)
{
	size_t i;

	if (!s)
		return NULL;
	for (i = 0; i < s->n; i++) {
		free(s->entries[i].path);
		free(s->entries[i].where);
	}
	free(s->entries);
	while (s->wrapped) {
		struct wrapped *next = s->wrapped->next;

		free(s->wrapped);
		s->wrapped = next;
	}
	while (s->files) {
		struct file *next = s->files->next;

		config_destroy(&s->files->config);
		free(s->files->path);
		free(s->files);
		s->files = next;
	}
	free(s);
	return NULL;
}

bool conf_source_is_whole(const struct conf_source *s)
{
	return !s->is_broken;
}

const char *conf_source_wrapped(
	const struct conf_source *s, const struct conf_entry *e)
{
	const char *dot = strrchr(e->path, '.');
	const struct wrapped *w;

	for (w = s->wrapped; w; w = w->next)
		if (w->line == config_setting_source_line(e->setting) &&
			!strcmp(w->path, e->file) &&
			!strcmp(w->key, dot ? dot + 1 : e->path))
			return w->number;
	return NULL;
}

const struct conf_entry *conf_source_entry(
	const struct conf_source *s, size_t i)
{
	return i < s->n ? &s->entries[i] : NULL;
}

const struct conf_entry *conf_source_find(
	const struct conf_source *s, const char *path)
{
	return find(s, path);
}
