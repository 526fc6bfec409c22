#ifndef SPOOL_DB_H
#define SPOOL_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/scope.h"

struct sqlite3;
struct sqlite3_stmt;

/* The spool's file: opening, tables, limits, the transaction of a turn, and
 * the one place that turns SQLite's result codes into errno.
 *
 * The file is held EXCLUSIVE from open to close: a second gatewayd on it is
 * refused, and there is no -shm file.  WAL with synchronous=FULL: what
 * db_commit() returned 0 for survives a power cut.
 *
 * Errors: -ENOMEM, -EBADMSG (the file is damaged), -EBUSY (another process
 * holds it), -ENOSPC or -EIO, all logged already unless a call says otherwise:
 * pass them on.  The tables are described in doc/spool-format.md. */
struct db;

enum db_outcome { DB_FULL = 1 };

/* Open the spool file at path, create its tables, and limit it to max_bytes
 * on disk.  *ret_db is the caller's, to be ended by db_close().  A file of a
 * newer gatewayd is refused with -EPROTONOSUPPORT, untouched. */
CHECKED int db_open(const char *path, uint64_t max_bytes, struct db **ret_db);

/* Roll back what is not committed, close; NULL is allowed.  Returns NULL. */
struct db *db_close(struct db *db);
DEFINE_SCOPED(struct db *, db_close);

/* Be in a transaction: begin one unless there is one already. */
CHECKED int db_begin(struct db *db);

/* Make the transaction durable.  0, also when there was none; DB_FULL when
 * the disk or the limit does not allow it: the transaction is rolled back and
 * nothing is logged; or -errno: then the file's state is unknown, and the one
 * right thing is to end the process and open again (an fsync that failed once
 * may succeed the next time with the data lost). */
CHECKED int db_commit(struct db *db);

bool db_is_in_transaction(const struct db *db);

/* Forget the transaction, if there is one. */
void db_rollback(struct db *db);

/* Copy a grown WAL into the file.  To be called when nobody waits for us. */
void db_checkpoint(struct db *db);

/* Copy the WAL into the file, however small it is: after DB_FULL, so that what
 * is removed next finds room in it.  Not within a transaction. */
void db_make_room(struct db *db);

/* Bytes that may still be stored under max_bytes, as far as the file knows;
 * the disk may have less. */
uint64_t db_free_bytes(struct db *db);

/* Once in main(), before db_open(): give SQLite one block for its pages.  Out of
 * the heap they would fragment it to tens of MB in days.  Not needed in tests.
 * 0 or -ENOMEM. */
CHECKED int db_lib_start(void);

/* Version of SQLite, for --version. */
const char *db_lib_version(void);

/* ---- for the modules of this folder ---- */

struct sqlite3 *db_sqlite(struct db *db); /* borrowed */

/* Prepare; *ret_stmt is the caller's. */
CHECKED int db_prepare(
	struct db *db, const char *sql, struct sqlite3_stmt **ret_stmt);

/* Run a statement that yields no row, and reset it.  0; DB_FULL, unlogged; or
 * -errno.  what: for the log line. */
CHECKED int db_run(struct db *db, struct sqlite3_stmt *stmt, const char *what);

/* Log db's last error after `what` failed; return it as -errno. */
int db_fail(struct db *db, const char *what);

#endif
