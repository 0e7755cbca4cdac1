/* The schema of the session database, as a list of steps: step i brings PRAGMA user_version from i to i + 1. A step
 * that was released never changes again; a new schema is a new step. */
#include "session/db_private.h"

#include <stdio.h>
#include <string.h>

#define APPLICATION_ID 0x626f7261 /* "bora" */

static const char *const migrations[] = {
    /* 1: key is the row's number, for the other tables; id is what clients see. Pages are rows of an ordinary table:
     * they are too large for one without rowid. */
    "CREATE TABLE model ("
    "  fingerprint TEXT NOT NULL PRIMARY KEY,"
    "  name TEXT NOT NULL,"
    "  first_seen INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE session ("
    "  key INTEGER PRIMARY KEY,"
    "  id TEXT NOT NULL UNIQUE,"
    "  name TEXT NOT NULL,"
    "  owner TEXT NOT NULL,"
    "  model TEXT NOT NULL REFERENCES model (fingerprint),"
    "  system TEXT,"
    "  created INTEGER NOT NULL,"
    "  updated INTEGER NOT NULL,"
    "  n_tokens INTEGER NOT NULL CHECK (n_tokens >= 0),"
    "  n_cached INTEGER NOT NULL CHECK (n_cached BETWEEN 0 AND n_tokens),"
    "  UNIQUE (owner, name)"
    ") STRICT;"
    "CREATE INDEX session_model ON session (model);"
    "CREATE TABLE message ("
    "  session INTEGER NOT NULL REFERENCES session (key) ON DELETE CASCADE,"
    "  turn INTEGER NOT NULL CHECK (turn >= 0),"
    "  role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),"
    "  text TEXT NOT NULL,"
    "  interrupted INTEGER NOT NULL CHECK (interrupted IN (0, 1)),"
    "  created INTEGER NOT NULL,"
    "  PRIMARY KEY (session, turn, role)"
    ") STRICT;"
    "CREATE TABLE token_run ("
    "  session INTEGER NOT NULL REFERENCES session (key) ON DELETE CASCADE,"
    "  first INTEGER NOT NULL CHECK (first >= 0),"
    "  n INTEGER NOT NULL CHECK (n > 0),"
    "  ids BLOB NOT NULL," /* int32, little-endian */
    "  xxh3 INTEGER NOT NULL,"
    "  PRIMARY KEY (session, first)"
    ") STRICT;"
    "CREATE TABLE kv_page ("
    "  session INTEGER NOT NULL REFERENCES session (key) ON DELETE CASCADE,"
    "  class INTEGER NOT NULL CHECK (class >= 0),"
    "  page INTEGER NOT NULL CHECK (page >= 0),"
    "  dtype INTEGER NOT NULL,"
    "  n INTEGER NOT NULL,"
    "  xxh3 INTEGER NOT NULL,"
    "  data BLOB NOT NULL,"
    "  PRIMARY KEY (session, class, page)"
    ") STRICT;",
};

/* The one number that a query gives. */
static bora_status ask(bora_db *db, const char *sql, int64_t *ret_value, bora_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bora_status st = BORA_OK;
    if (sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL) != SQLITE_OK || sqlite3_step(stmt) != SQLITE_ROW)
        st = bora_db_fail(db, "session database", err);
    else
        *ret_value = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_finalize(stmt); /* repeats the error */
    return st;
}

static bora_status do_sql(bora_db *db, const char *sql, bora_error *err)
{
    return sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK ? BORA_OK
                                                                        : bora_db_fail(db, "session database", err);
}

static bora_status migrate_from(bora_db *db, int64_t version, bora_error *err)
{
    for (size_t i = (size_t)version; i < BORA_ARRAY_SIZE(migrations); i++) {
        bora_status st = do_sql(db, migrations[i], err);
        if (st != BORA_OK)
            return st;
    }
    char pragmas[128];
    (void)snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %zu", APPLICATION_ID,
                   BORA_ARRAY_SIZE(migrations)); /* fits */
    return do_sql(db, pragmas, err);
}

/* What the file is: its version, 0 and *ret_is_new if there is nothing in it. */
static bora_status identify(bora_db *db, int64_t *ret_version, bool *ret_is_new, bora_error *err)
{
    int64_t application = 0, version = 0, n_objects = 0;
    bora_status st = ask(db, "PRAGMA application_id", &application, err);
    if (st == BORA_OK)
        st = ask(db, "PRAGMA user_version", &version, err);
    if (st == BORA_OK)
        st = ask(db, "SELECT count(*) FROM sqlite_schema", &n_objects, err);
    if (st != BORA_OK)
        return st;
    bool is_new = application == 0 && version == 0 && n_objects == 0;
    if (!is_new && application != APPLICATION_ID)
        return bora_fail(err, BORA_E_FORMAT, "a database of another program, not of sessions");
    if (version < 0)
        return bora_fail(err, BORA_E_FORMAT, "schema version %lld", (long long)version);
    if ((size_t)version > BORA_ARRAY_SIZE(migrations))
        return bora_fail(err, BORA_E_UNSUPPORTED, "schema version %lld is newer than this program's %zu",
                         (long long)version, BORA_ARRAY_SIZE(migrations));
    *ret_version = version;
    *ret_is_new = is_new;
    return BORA_OK;
}

bora_status bora_schema_check(bora_db *db, bora_error *err)
{
    int64_t version;
    bool is_new;
    return identify(db, &version, &is_new, err);
}

bora_status bora_schema_migrate(bora_db *db, bora_error *err)
{
    int64_t version;
    bool is_new;
    bora_status st = identify(db, &version, &is_new, err);
    if (st != BORA_OK)
        return st;
    if ((size_t)version == BORA_ARRAY_SIZE(migrations))
        return BORA_OK;

    /* All steps or none; the version is part of the transaction. */
    st = do_sql(db, "BEGIN IMMEDIATE", err);
    if (st != BORA_OK)
        return st;
    st = migrate_from(db, version, err);
    if (st == BORA_OK)
        st = do_sql(db, "COMMIT", err);
    if (st != BORA_OK) {
        if (!sqlite3_get_autocommit(db->sqlite))
            (void)do_sql(db, "ROLLBACK", NULL); /* the first error is the one to report */
        return st;
    }
    if (!is_new)
        bora_logf(db->log, BORA_LOG_INFO, "session database brought from schema %lld to %zu", (long long)version,
                  BORA_ARRAY_SIZE(migrations));
    return BORA_OK;
}
