/* The spool's connection.  It knows the tables' definitions but not what is in
 * them; not MQTT, not the event loop.
 *
 * On a full disk rows must still be removed, or there would never be room.  A
 * removal appends to the WAL, and the WAL is copied into the file: both have
 * their blocks in advance.  reserve() allocates those of the WAL once, and
 * those of the file before a transaction makes it grow. */
#include "spool/db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/log.h"

#define PAGE_BYTES 4096
#define SCHEMA_VERSION 1
#define APPLICATION_ID 0x67776473 /* "gwds", for file(1) */
#define CACHE_KIB 512
/* The cache, and what a transaction needs beside it. */
#define CACHE_PAGES 176
/* Pages in the WAL after which it is copied back: 4 MiB, so that a burst does
 * not checkpoint in each turn and flash does not hold much twice; less for a
 * small spool. */
#define CHECKPOINT_PAGES_MAX 1024
#define CHECKPOINT_PAGES_MIN 64
#define FRAME_BYTES (PAGE_BYTES + 24) /* a page in the WAL */
#define GROW_PAGES 256                /* reserved at once for the file */

struct db {
	sqlite3 *sqlite;
	sqlite3_stmt *begin;
	sqlite3_stmt *commit;
	sqlite3_stmt *page_count;
	sqlite3_stmt *freelist_count;
	char *path;
	int fd; /* of the file, for reserve(); closed after SQLite's: its locks
		 * would go with the first one that is closed */
	uint64_t max_pages;
	uint64_t reserved_pages; /* of the file, their blocks are there */
	int wal_pages;
	int checkpoint_pages;
	bool checkpoint_failed; /* said once */
	bool is_undone; /* SQLite may have rolled back in the transaction */
};

/* Order matters: locking_mode before journal_mode, or a -shm file is made;
 * page_size and auto_vacuum before the first table. */
static const char pragmas[] =
	"PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=4096;"
	"PRAGMA auto_vacuum=NONE; PRAGMA journal_mode=WAL;"
	"PRAGMA synchronous=FULL; PRAGMA mmap_size=0;"
	"PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;"
	"PRAGMA journal_size_limit=16777216;"
	"PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON";

static const char schema[] =
	"CREATE TABLE up("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" wall INTEGER NOT NULL, mono INTEGER NOT NULL, boot INTEGER NOT NULL,"
	" topic BLOB NOT NULL, payload BLOB NOT NULL, crc INTEGER NOT NULL);"
	"CREATE TABLE down("
	" id INTEGER PRIMARY KEY AUTOINCREMENT, dest BLOB NOT NULL,"
	" wall INTEGER NOT NULL, mono INTEGER NOT NULL, boot INTEGER NOT NULL,"
	" topic BLOB NOT NULL, payload BLOB NOT NULL, crc INTEGER NOT NULL);"
	"CREATE INDEX down_dest ON down(dest, id);"
	"CREATE TABLE boot(n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE);"
	"CREATE TABLE state(key TEXT PRIMARY KEY, value BLOB NOT NULL)"
	" WITHOUT ROWID;";

static int to_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY:
		return -EACCES;
	default:
		return -EIO;
	}
}

int db_fail(struct db *db, const char *what)
{
	int err = to_errno(sqlite3_errcode(db->sqlite));

	log_error("spool: %s: %s (SQLite %d)", what, sqlite3_errmsg(db->sqlite),
		sqlite3_extended_errcode(db->sqlite));
	return err;
}

static int exec(struct db *db, const char *sql, const char *what)
{
	if (sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL))
		return db_fail(db, what);
	return 0;
}

/* The one number that sql yields. */
static int query_number(struct db *db, const char *sql, int64_t *ret_number)
{
	sqlite3_stmt *st = NULL;
	int r = db_prepare(db, sql, &st);

	if (r < 0)
		return r;
	if (sqlite3_step(st) == SQLITE_ROW)
		*ret_number = sqlite3_column_int64(st, 0);
	else
		r = db_fail(db, sql);
	sqlite3_finalize(st);
	return r;
}

static int create_tables(struct db *db)
{
	char sql[1400];

	snprintf(sql, sizeof(sql),
		"BEGIN IMMEDIATE; %s PRAGMA application_id=%d;"
		"PRAGMA user_version=%d; COMMIT",
		schema, APPLICATION_ID, SCHEMA_VERSION);
	return exec(db, sql, "create tables");
}

static int check_schema(struct db *db, const char *path)
{
	int64_t version = 0;
	int r = query_number(db, "PRAGMA user_version", &version);

	if (r < 0)
		return r;
	if (version == 0)
		return create_tables(db);
	if (version == SCHEMA_VERSION)
		return 0;
	log_error("spool: %s has format %" PRId64 ", this gatewayd knows up to "
		  "%d: install the newer gatewayd again; the file is untouched",
		path, version, SCHEMA_VERSION);
	return -EPROTONOSUPPORT;
}

static int on_wal(void *userdata, sqlite3 *sqlite, const char *name, int pages)
{
	struct db *db = userdata;

	(void)sqlite;
	(void)name;
	db->wal_pages = pages;
	return SQLITE_OK;
}

static uint64_t pragma_value(sqlite3_stmt *st)
{
	uint64_t value = 0;

	if (sqlite3_step(st) == SQLITE_ROW)
		value = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	return value;
}

/* Have blocks for the first `bytes` of fd; its size stays.  False: the disk is
 * full.  Where the file system cannot do that there is no promise. */
static bool allocate(int fd, uint64_t bytes)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) == 0 ||
		(errno != ENOSPC && errno != EDQUOT);
}

static bool reserve_wal(struct db *db)
{
	uint64_t pages = (uint64_t)db->checkpoint_pages;
	bool done = true;
	char *path;
	int fd;

	if (asprintf(&path, "%s-wal", db->path) < 0)
		return false;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	free(path);
	if (fd >= 0) {
		/* What a removal takes beyond is a quarter at most. */
		done = allocate(fd, (pages + pages / 4) * FRAME_BYTES);
		close(fd); /* SQLite has no locks on this one */
	}
	return done;
}

/* Blocks for a file of `pages`.  False: the disk is full, do not grow. */
static bool reserve(struct db *db, uint64_t pages)
{
	uint64_t more = pages + GROW_PAGES;

	if (pages <= db->reserved_pages)
		return true;
	if (more > db->max_pages)
		more = db->max_pages;
	if (more < pages)
		more = pages;
	if (!reserve_wal(db))
		return false;
	if (!allocate(db->fd, more * PAGE_BYTES)) {
		more = pages; /* these may be there from before */
		if (!allocate(db->fd, more * PAGE_BYTES))
			return false;
	}
	db->reserved_pages = more;
	return true;
}

static int limit_size(struct db *db, uint64_t max_bytes)
{
	char sql[64];

	db->max_pages = max_bytes / PAGE_BYTES;
	db->checkpoint_pages = CHECKPOINT_PAGES_MAX;
	if (db->max_pages / 4 < CHECKPOINT_PAGES_MAX)
		db->checkpoint_pages = (int)(db->max_pages / 4);
	if (db->checkpoint_pages < CHECKPOINT_PAGES_MIN)
		db->checkpoint_pages = CHECKPOINT_PAGES_MIN;
	snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%" PRIu64,
		db->max_pages);
	return exec(db, sql, "limit size");
}

static int prepare_all(struct db *db)
{
	char cache[64];
	int r;

	snprintf(cache, sizeof(cache), "PRAGMA cache_size=-%d", CACHE_KIB);
	r = exec(db, cache, "set cache size");
	if (r == 0)
		r = db_prepare(db, "BEGIN IMMEDIATE", &db->begin);
	if (r == 0)
		r = db_prepare(db, "COMMIT", &db->commit);
	if (r == 0)
		r = db_prepare(db, "PRAGMA page_count", &db->page_count);
	if (r == 0)
		r = db_prepare(
			db, "PRAGMA freelist_count", &db->freelist_count);
	return r;
}

static int explain_open(struct db *db, const char *path, int r)
{
	(void)db;
	if (r == -EBUSY)
		log_error("spool: %s is in use by another process, most likely "
			  "a second gatewayd: stop that one first",
			path);
	else if (r == -EBADMSG)
		log_error("spool: %s is damaged; nothing was changed: move it "
			  "and its -wal file aside and start again",
			path);
	else
		log_error("spool: cannot use %s: see the line above", path);
	return r;
}

int db_open(const char *path, uint64_t max_bytes, struct db **ret_db)
{
	SCOPED(db_closep) struct db *db = calloc(1, sizeof(*db));
	mode_t mask;
	int rc;
	int r;

	if (!db)
		return -ENOMEM;
	db->fd = -1;
	db->path = strdup(path);
	if (!db->path)
		return -ENOMEM;
	mask = umask(0077); /* other people's data */
	rc = sqlite3_open_v2(path, &db->sqlite,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
			SQLITE_OPEN_NOMUTEX,
		NULL);
	umask(mask);
	if (rc)
		return explain_open(db, path, db_fail(db, "open"));
	sqlite3_extended_result_codes(db->sqlite, 1);
	r = exec(db, pragmas, "set up");
	if (r == 0)
		r = check_schema(db, path);
	if (r == -EPROTONOSUPPORT)
		return r;
	if (r == 0)
		r = limit_size(db, max_bytes);
	if (r == 0)
		r = prepare_all(db);
	if (r < 0)
		return explain_open(db, path, r);
	/* Not there with ":memory:", as in tests: then reserve() does
	 * nothing. */
	db->fd = open(path, O_RDWR | O_CLOEXEC);
	/* Fails on a full disk: then nothing that makes it grow gets in. */
	(void)reserve(db, pragma_value(db->page_count));
	sqlite3_wal_hook(db->sqlite, on_wal, db);
	*ret_db = TAKE(db);
	return 0;
}

struct db *db_close(struct db *db)
{
	int keep = 1;

	if (!db)
		return NULL;
	sqlite3_finalize(db->begin);
	sqlite3_finalize(db->commit);
	sqlite3_finalize(db->page_count);
	sqlite3_finalize(db->freelist_count);
	/* The WAL stays as it is, so that its blocks are there on a full
	 * disk. */
	if (db->sqlite) {
		(void)sqlite3_exec(db->sqlite, "PRAGMA journal_size_limit=-1",
			NULL, NULL, NULL);
		sqlite3_file_control(
			db->sqlite, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
	}
	sqlite3_close(db->sqlite); /* rolls back */
	if (db->fd >= 0)
		close(db->fd);
	free(db->path);
	free(db);
	return NULL;
}

int db_prepare(struct db *db, const char *sql, struct sqlite3_stmt **ret_stmt)
{
	if (sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT,
		    ret_stmt, NULL))
		return db_fail(db, sql);
	return 0;
}

/* A quota that is reached is an I/O error to SQLite. */
static bool is_full(struct db *db, int rc)
{
	return (rc & 0xff) == SQLITE_FULL ||
		((rc & 0xff) == SQLITE_IOERR &&
			sqlite3_system_errno(db->sqlite) == EDQUOT);
}

int db_run(struct db *db, struct sqlite3_stmt *stmt, const char *what)
{
	int rc = sqlite3_step(stmt);
	int r = 0;

	if (is_full(db, rc)) {
		db->is_undone = true;
		r = DB_FULL;
	} else if (rc != SQLITE_DONE) {
		r = db_fail(db, what);
	}
	sqlite3_reset(stmt); /* only repeats the error of step */
	sqlite3_clear_bindings(stmt);
	return r;
}

bool db_is_in_transaction(const struct db *db)
{
	return !sqlite3_get_autocommit(db->sqlite);
}

int db_begin(struct db *db)
{
	if (db_is_in_transaction(db))
		return 0;
	return db_run(db, db->begin, "begin") ? -EIO : 0;
}

int db_commit(struct db *db)
{
	int r;

	/* Whoever met the full disk may not have told: what came before it in
	 * this transaction is lost all the same. */
	if (db->is_undone) {
		db_rollback(db);
		return DB_FULL;
	}
	if (!db_is_in_transaction(db))
		return 0;
	r = reserve(db, pragma_value(db->page_count))
		? db_run(db, db->commit, "commit")
		: DB_FULL;
	if (r)
		db_rollback(db);
	return r;
}

void db_rollback(struct db *db)
{
	db->is_undone = false;
	/* SQLite may have done it on its own after SQLITE_FULL. */
	if (db_is_in_transaction(db))
		(void)exec(db, "ROLLBACK", "roll back");
}

void db_make_room(struct db *db)
{
	int rc = sqlite3_wal_checkpoint_v2(
		db->sqlite, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	if (rc == SQLITE_OK)
		db->wal_pages = 0;
	else if (!db->checkpoint_failed)
		db_fail(db, "copy the WAL into the file; it is tried again");
	db->checkpoint_failed = rc != SQLITE_OK;
	/* SQLite has cut the file to its size, and with that what was reserved
	 * beyond. */
	db->reserved_pages = 0;
	(void)reserve(db, pragma_value(db->page_count));
}

void db_checkpoint(struct db *db)
{
	if (db->wal_pages >= db->checkpoint_pages)
		db_make_room(db);
}

uint64_t db_free_bytes(struct db *db)
{
	uint64_t pages = pragma_value(db->page_count);
	uint64_t unused = pragma_value(db->freelist_count);

	if (pages >= db->max_pages)
		return unused * PAGE_BYTES;
	return (db->max_pages - pages + unused) * PAGE_BYTES;
}

struct sqlite3 *db_sqlite(struct db *db)
{
	return db->sqlite;
}

int db_lib_start(void)
{
	int header = 0;
	void *block;

	if (sqlite3_config(SQLITE_CONFIG_PCACHE_HDRSZ, &header))
		return -ENOMEM;
	header = (header + 7) & ~7;
	block = calloc(CACHE_PAGES, (size_t)(PAGE_BYTES + header));
	if (!block)
		return -ENOMEM;
	/* Stays until the process ends. */
	if (sqlite3_config(SQLITE_CONFIG_PAGECACHE, block, PAGE_BYTES + header,
		    CACHE_PAGES))
		return -ENOMEM;
	return 0;
}

const char *db_lib_version(void)
{
	return sqlite3_libversion();
}
