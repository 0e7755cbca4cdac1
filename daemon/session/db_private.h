/* What the files of the session database share: the connection, its prepared statements, and how SQLite's errors become
 * ours. */
#ifndef BORA_SESSION_DB_PRIVATE_H
#define BORA_SESSION_DB_PRIVATE_H

#include "session/db.h"

#include <sqlite3.h>

/* Every statement that runs more than once; the texts stand in statements.c. */
typedef enum bora_db_statement {
    BORA_DB_BEGIN,
    BORA_DB_BEGIN_READ,
    BORA_DB_COMMIT,
    BORA_DB_ROLLBACK,
    BORA_DB_SESSION_BY_NAME,
    BORA_DB_SESSION_BY_ID,
    BORA_DB_SESSION_HEAD,
    BORA_DB_SESSION_LIST,
    BORA_DB_SESSION_INSERT,
    BORA_DB_SESSION_RENAME,
    BORA_DB_SESSION_DELETE,
    BORA_DB_SESSION_UPDATE,
    BORA_DB_SESSION_COUNT_NAMES,
    BORA_DB_MODEL_INSERT,
    BORA_DB_MESSAGE_INSERT,
    BORA_DB_MESSAGE_LIST,
    BORA_DB_TOKENS_INSERT,
    BORA_DB_TOKENS_LIST,
    BORA_DB_PAGE_INSERT,
    BORA_DB_PAGE_LIST,
    BORA_DB_PAGE_DELETE_BEFORE,
    BORA_DB_PAGE_DELETE_ALL,
    BORA_DB_FREE_COUNT,
    BORA_DB_SHRINK,
    BORA_DB_STATEMENT_COUNT
} bora_db_statement;

struct bora_db {
    sqlite3 *sqlite;
    const bora_log *log; /* may be NULL */
    int lock_fd;         /* of the lock file; held while the database is open */
    sqlite3_stmt *statements[BORA_DB_STATEMENT_COUNT];
};

/* ---- errors and statements (statements.c) ---- */

/* What the connection's last error means for us, with its message: "<what>: <SQLite's words>". */
bora_status bora_db_fail(const bora_db *db, const char *what, bora_error *err);
/* Prepares all statements: a table or column that is missing shows here. Errors: FORMAT, NOMEM, IO. */
bora_status bora_db_prepare(bora_db *db, bora_error *err);
void bora_db_finalize(bora_db *db);
/* The statement, reset and without values. */
sqlite3_stmt *bora_db_statement_of(bora_db *db, bora_db_statement statement);
/* Runs a statement that gives no rows, and resets it. */
bora_status bora_db_run(bora_db *db, sqlite3_stmt *stmt, const char *what, bora_error *err);
/* NULL becomes SQL's NULL. SQLite's result. */
int bora_db_bind_text(sqlite3_stmt *stmt, int index, const char *text);

/* A transaction as a whole. bora_db_end commits if st is BORA_OK, else rolls back; it returns st or why the commit
 * failed (nothing has happened then). */
bora_status bora_db_begin(bora_db *db, bora_error *err);
/* For reading alone: what is read is of one moment. */
bora_status bora_db_begin_read(bora_db *db, bora_error *err);
bora_status bora_db_end(bora_db *db, bora_status st, bora_error *err);

/* ---- schema.c ---- */

/* Whether the file is new or ours; changes nothing. Errors: UNSUPPORTED (newer), FORMAT (not ours, damaged). */
bora_status bora_schema_check(bora_db *db, bora_error *err);
/* Brings a new or older file to the newest schema. Errors: as above, FULL, IO. */
bora_status bora_schema_migrate(bora_db *db, bora_error *err);

/* ---- names.c ---- */

/* 32 hex digits. */
bool bora_session_id_like(const char *text);
/* A new id: milliseconds since 1970 in 48 bits, then 80 random ones. Errors: IO. */
bora_status bora_session_id_make(int64_t now, char ret_id[BORA_SESSION_ID_SIZE], bora_error *err);
/* "chat-2026-11-24-" into prefix: what made-up names of that day begin with. */
void bora_session_name_prefix(int64_t now, char ret_prefix[BORA_SESSION_NAME_SIZE]);

/* ---- records.c ---- */

int64_t bora_db_now(void); /* ms since 1970 */
/* A text column copied: one that is NULL or cannot be had is an error. Errors: FORMAT, NOMEM. */
bora_status bora_db_column_copy(bora_db *db, sqlite3_stmt *stmt, int column, char **ret_text, bora_error *err);
/* One session of the owner. key: its row, for the other tables. Errors: NOT_FOUND, FORMAT, IO, NOMEM. */
bora_status bora_db_find(bora_db *db, const char *owner, const char *name_or_id, int64_t *ret_key,
                         bora_session_record *ret_record, bora_error *err);

/* ---- checksums (contents.c) ---- */

/* XXH3-64 over what a row says about itself and its data, so that a row in another's place is found as well. session:
 * its key. */
uint64_t bora_db_page_sum(int64_t session, const bora_page *page);
uint64_t bora_db_run_sum(int64_t session, uint64_t first, const void *ids, size_t size);

#endif
