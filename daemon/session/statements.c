/* The database's statements, prepared once, and SQLite's errors in our words. */
#include "session/db_private.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* The columns of a record, in the order that records.c reads them. */
#define RECORD_COLUMNS                                                                                                 \
    "SELECT session.key, session.id, session.name, session.model, model.name, session.system, session.created, "       \
    "session.updated, session.n_tokens, session.n_cached, "                                                            \
    "(SELECT count(*) FROM message WHERE message.session = session.key), "                                             \
    "(SELECT coalesce(max(turn) + 1, 0) FROM message WHERE message.session = session.key) "                            \
    "FROM session JOIN model ON model.fingerprint = session.model WHERE session.owner = ?1 "

static const char *const texts[BORA_DB_STATEMENT_COUNT] = {
    [BORA_DB_BEGIN] = "BEGIN IMMEDIATE",
    [BORA_DB_BEGIN_READ] = "BEGIN",
    [BORA_DB_COMMIT] = "COMMIT",
    [BORA_DB_ROLLBACK] = "ROLLBACK",
    [BORA_DB_SESSION_BY_NAME] = RECORD_COLUMNS "AND session.name = ?2",
    [BORA_DB_SESSION_BY_ID] = RECORD_COLUMNS "AND session.id = lower(?2)",
    [BORA_DB_SESSION_HEAD] = "SELECT key, model, n_tokens, n_cached, (SELECT coalesce(max(turn) + 1, 0) FROM message "
                             "WHERE message.session = session.key) FROM session WHERE owner = ?1 AND id = ?2",
    [BORA_DB_SESSION_LIST] = RECORD_COLUMNS "ORDER BY session.updated DESC, session.key DESC",
    [BORA_DB_SESSION_INSERT] = "INSERT INTO session (id, name, owner, model, system, created, updated, n_tokens, "
                               "n_cached) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 0, 0)",
    [BORA_DB_SESSION_RENAME] = "UPDATE session SET name = ?2 WHERE key = ?1",
    [BORA_DB_SESSION_DELETE] = "DELETE FROM session WHERE key = ?1",
    [BORA_DB_SESSION_UPDATE] = "UPDATE session SET n_tokens = ?2, n_cached = ?3, updated = ?4, "
                               "system = coalesce(?5, system) WHERE key = ?1",
    [BORA_DB_SESSION_COUNT_NAMES] = "SELECT count(*) FROM session WHERE owner = ?1 AND "
                                    "substr(name, 1, length(?2)) = ?2",
    [BORA_DB_MODEL_INSERT] = "INSERT INTO model (fingerprint, name, first_seen) VALUES (?1, ?2, ?3) "
                             "ON CONFLICT (fingerprint) DO UPDATE SET name = excluded.name",
    [BORA_DB_MESSAGE_INSERT] = "INSERT INTO message (session, turn, role, text, interrupted, created) "
                               "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [BORA_DB_MESSAGE_LIST] = "SELECT turn, role, text, interrupted, created FROM message WHERE session = ?1 "
                             "ORDER BY turn, role = 'assistant'",
    [BORA_DB_TOKENS_INSERT] = "INSERT INTO token_run (session, first, n, ids, xxh3) VALUES (?1, ?2, ?3, ?4, ?5)",
    [BORA_DB_TOKENS_LIST] = "SELECT first, n, ids, xxh3 FROM token_run WHERE session = ?1 ORDER BY first",
    [BORA_DB_PAGE_INSERT] = "INSERT OR REPLACE INTO kv_page (session, class, page, dtype, n, xxh3, data) "
                            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [BORA_DB_PAGE_LIST] = "SELECT class, page, dtype, n, xxh3, data FROM kv_page WHERE session = ?1 "
                          "ORDER BY class, page",
    [BORA_DB_PAGE_DELETE_BEFORE] = "DELETE FROM kv_page WHERE session = ?1 AND class = ?2 AND page < ?3",
    [BORA_DB_PAGE_DELETE_ALL] = "DELETE FROM kv_page WHERE session = ?1",
    [BORA_DB_FREE_COUNT] = "PRAGMA freelist_count",
    [BORA_DB_SHRINK] = "PRAGMA incremental_vacuum(256)",
};

/* SQLite calls only ENOSPC full, and keeps errno for some of its errors only: what is asked for here is the one that
 * the failed call left. */
static bool has_no_room(int code, int number)
{
    switch (code) {
    case SQLITE_IOERR_WRITE:
    case SQLITE_IOERR_FSYNC:
    case SQLITE_IOERR_TRUNCATE:
    case SQLITE_IOERR_SHMOPEN:
    case SQLITE_IOERR_SHMSIZE:
    case SQLITE_IOERR_SHMMAP:
    case SQLITE_CANTOPEN: /* the -wal and -shm files are made when they are needed */
        return number == ENOSPC || number == EDQUOT || number == EFBIG;
    default:
        return false;
    }
}

static bora_status status_of(const bora_db *db, int number)
{
    int code = sqlite3_extended_errcode(db->sqlite);
    if (code == SQLITE_IOERR_NOMEM)
        return BORA_E_NOMEM;
    if (has_no_room(code, number))
        return BORA_E_FULL;
    switch (code & 0xff) {
    case SQLITE_FULL:
        return BORA_E_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_MISMATCH:
        return BORA_E_FORMAT;
    case SQLITE_NOMEM:
        return BORA_E_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return BORA_E_BUSY;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_PROTOCOL:
        return BORA_E_IO;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return BORA_E_PERMISSION;
    case SQLITE_TOOBIG:
        return BORA_E_LIMIT;
    default:
        return BORA_E_INTERNAL;
    }
}

bora_status bora_db_fail(const bora_db *db, const char *what, bora_error *err)
{
    bora_status st = status_of(db, errno);
    return bora_fail(err, st, "%s: %s", what,
                     st == BORA_E_FULL ? "the disk or the database is full" : sqlite3_errmsg(db->sqlite));
}

bora_status bora_db_prepare(bora_db *db, bora_error *err)
{
    for (size_t i = 0; i < BORA_DB_STATEMENT_COUNT; i++) {
        int code = sqlite3_prepare_v3(db->sqlite, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[i], NULL);
        if (code == SQLITE_ERROR) /* no such table or column */
            return bora_fail(err, BORA_E_FORMAT, "the session database lacks something: %s",
                             sqlite3_errmsg(db->sqlite));
        if (code != SQLITE_OK)
            return bora_db_fail(db, "session database", err);
    }
    return BORA_OK;
}

void bora_db_finalize(bora_db *db)
{
    for (size_t i = 0; i < BORA_DB_STATEMENT_COUNT; i++) {
        (void)sqlite3_finalize(db->statements[i]); /* repeats an error that was reported */
        db->statements[i] = NULL;
    }
}

sqlite3_stmt *bora_db_statement_of(bora_db *db, bora_db_statement statement)
{
    sqlite3_stmt *stmt = db->statements[statement];
    (void)sqlite3_reset(stmt); /* repeats an error that was reported */
    (void)sqlite3_clear_bindings(stmt);
    return stmt;
}

bora_status bora_db_run(bora_db *db, sqlite3_stmt *stmt, const char *what, bora_error *err)
{
    bora_status st = sqlite3_step(stmt) == SQLITE_DONE ? BORA_OK : bora_db_fail(db, what, err);
    (void)sqlite3_reset(stmt);          /* repeats the error */
    (void)sqlite3_clear_bindings(stmt); /* what was bound is borrowed */
    return st;
}

int bora_db_bind_text(sqlite3_stmt *stmt, int index, const char *text)
{
    return text ? sqlite3_bind_text64(stmt, index, text, strlen(text), SQLITE_STATIC, SQLITE_UTF8)
                : sqlite3_bind_null(stmt, index);
}

bora_status bora_db_begin(bora_db *db, bora_error *err)
{
    return bora_db_run(db, bora_db_statement_of(db, BORA_DB_BEGIN), "session database", err);
}

bora_status bora_db_begin_read(bora_db *db, bora_error *err)
{
    return bora_db_run(db, bora_db_statement_of(db, BORA_DB_BEGIN_READ), "session database", err);
}

bora_status bora_db_end(bora_db *db, bora_status st, bora_error *err)
{
    if (st == BORA_OK)
        st = bora_db_run(db, bora_db_statement_of(db, BORA_DB_COMMIT), "session database", err);
    /* Some errors have rolled back already; a failed COMMIT leaves the transaction open. */
    if (st != BORA_OK && !sqlite3_get_autocommit(db->sqlite))
        (void)bora_db_run(db, bora_db_statement_of(db, BORA_DB_ROLLBACK), "session database", NULL);
    return st;
}
