/* Sessions as rows: making, finding, listing, renaming and deleting them. */
#include "session/db_private.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Columns of the statements that give records; see statements.c. */
enum {
    COLUMN_KEY,
    COLUMN_ID,
    COLUMN_NAME,
    COLUMN_MODEL,
    COLUMN_MODEL_NAME,
    COLUMN_SYSTEM,
    COLUMN_CREATED,
    COLUMN_UPDATED,
    COLUMN_N_TOKENS,
    COLUMN_N_CACHED,
    COLUMN_N_MESSAGES,
    COLUMN_N_TURNS
};

void bora_session_record_release(bora_session_record *record)
{
    bora_free(record->model_name);
    bora_free(record->system);
    record->model_name = NULL;
    record->system = NULL;
}

int64_t bora_db_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with this clock */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

bora_status bora_db_column_copy(bora_db *db, sqlite3_stmt *stmt, int column, char **ret_text, bora_error *err)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    if (!text)
        return sqlite3_errcode(db->sqlite) == SQLITE_NOMEM
                   ? bora_fail(err, BORA_E_NOMEM, "session database")
                   : bora_fail(err, BORA_E_FORMAT, "session database: a text is missing");
    size_t size = (size_t)sqlite3_column_bytes(stmt, column);
    char *copy = bora_strndup(text, size);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "a text of %zu bytes from the session database", size);
    *ret_text = copy;
    return BORA_OK;
}

/* A text of less than size bytes into an array. */
static bora_status column_fit(bora_db *db, sqlite3_stmt *stmt, int column, char *ret_text, size_t size, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *text = NULL;
    bora_status st = bora_db_column_copy(db, stmt, column, &text, err);
    if (st != BORA_OK)
        return st;
    if (strlen(text) >= size)
        return bora_fail(err, BORA_E_FORMAT, "session database: a name or id of %zu bytes", strlen(text));
    memcpy(ret_text, text, strlen(text) + 1);
    return BORA_OK;
}

/* The statement stands on a row. On failure the record is empty. */
static bora_status read_record(bora_db *db, sqlite3_stmt *stmt, bora_session_record *ret_record, bora_error *err)
{
    bora_session_record record = {
        .created = sqlite3_column_int64(stmt, COLUMN_CREATED),
        .updated = sqlite3_column_int64(stmt, COLUMN_UPDATED),
        .n_tokens = (uint64_t)sqlite3_column_int64(stmt, COLUMN_N_TOKENS),
        .n_cached = (uint64_t)sqlite3_column_int64(stmt, COLUMN_N_CACHED),
        .n_messages = (uint64_t)sqlite3_column_int64(stmt, COLUMN_N_MESSAGES),
        .n_turns = (uint64_t)sqlite3_column_int64(stmt, COLUMN_N_TURNS),
    };
    bora_status st = column_fit(db, stmt, COLUMN_ID, record.id, sizeof record.id, err);
    if (st == BORA_OK)
        st = column_fit(db, stmt, COLUMN_NAME, record.name, sizeof record.name, err);
    if (st == BORA_OK)
        st = column_fit(db, stmt, COLUMN_MODEL, record.model, sizeof record.model, err);
    if (st == BORA_OK)
        st = bora_db_column_copy(db, stmt, COLUMN_MODEL_NAME, &record.model_name, err);
    if (st == BORA_OK && sqlite3_column_type(stmt, COLUMN_SYSTEM) != SQLITE_NULL)
        st = bora_db_column_copy(db, stmt, COLUMN_SYSTEM, &record.system, err);
    if (st == BORA_OK && (record.n_tokens > INT64_MAX || record.n_cached > record.n_tokens))
        st = bora_fail(err, BORA_E_FORMAT, "session '%s': impossible counts", record.name);
    if (st != BORA_OK)
        bora_session_record_release(&record);
    else
        *ret_record = record;
    return st;
}

bora_status bora_db_find(bora_db *db, const char *owner, const char *name_or_id, int64_t *ret_key,
                         bora_session_record *ret_record, bora_error *err)
{
    bool by_id = bora_session_id_like(name_or_id);
    sqlite3_stmt *stmt = bora_db_statement_of(db, by_id ? BORA_DB_SESSION_BY_ID : BORA_DB_SESSION_BY_NAME);
    bora_status st = BORA_OK;
    if (bora_db_bind_text(stmt, 1, owner) != SQLITE_OK || bora_db_bind_text(stmt, 2, name_or_id) != SQLITE_OK)
        st = bora_db_fail(db, "session", err);
    int code = st == BORA_OK ? sqlite3_step(stmt) : SQLITE_DONE;
    if (code == SQLITE_ROW) {
        int64_t key = sqlite3_column_int64(stmt, COLUMN_KEY);
        st = read_record(db, stmt, ret_record, err);
        if (st == BORA_OK)
            *ret_key = key;
    } else if (st == BORA_OK) {
        st = code == SQLITE_DONE ? bora_fail(err, BORA_E_NOT_FOUND, "no session '%.64s'", name_or_id)
                                 : bora_db_fail(db, "session", err);
    }
    (void)bora_db_statement_of(db, by_id ? BORA_DB_SESSION_BY_ID : BORA_DB_SESSION_BY_NAME); /* lets go of the row */
    return st;
}

static void records_free(bora_session_record *records, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bora_session_record_release(&records[i]);
    bora_free(records);
}

/* All rows of the statement into an array that grows. */
static bora_status read_records(bora_db *db, sqlite3_stmt *stmt, bora_session_record **ret_records, size_t *ret_n,
                                bora_error *err)
{
    bora_session_record *records = bora_calloc(1, sizeof *records);
    size_t n = 0, n_max = 1;
    bora_status st = records ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "list of sessions");
    int code = SQLITE_DONE;
    while (st == BORA_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (n == n_max) {
            bora_session_record *more = bora_realloc(records, n_max * 2, sizeof *records);
            if (!more) {
                st = bora_fail(err, BORA_E_NOMEM, "list of %zu sessions", n + 1);
                break;
            }
            records = more;
            n_max *= 2;
        }
        st = read_record(db, stmt, &records[n], err);
        if (st == BORA_OK)
            n++;
    }
    if (st == BORA_OK && code != SQLITE_DONE)
        st = bora_db_fail(db, "list of sessions", err);
    if (st != BORA_OK) {
        records_free(records, n);
        return st;
    }
    *ret_records = records;
    *ret_n = n;
    return BORA_OK;
}

bora_status bora_db_list(bora_db *db, const char *owner, bora_session_record **ret_records, size_t *ret_n,
                         bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SESSION_LIST);
    bora_status st =
        bora_db_bind_text(stmt, 1, owner) == SQLITE_OK ? BORA_OK : bora_db_fail(db, "list of sessions", err);
    if (st == BORA_OK)
        st = read_records(db, stmt, ret_records, ret_n, err);
    (void)bora_db_statement_of(db, BORA_DB_SESSION_LIST); /* ends the read */
    return st;
}

/* ---- making -------------------------------------------------------------------------------------------- */

typedef struct new_session {
    char id[BORA_SESSION_ID_SIZE];
    const char *owner, *system, *model, *model_name;
    int64_t now;
} new_session;

static bora_status insert_model(bora_db *db, const new_session *session, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_MODEL_INSERT);
    if (bora_db_bind_text(stmt, 1, session->model) != SQLITE_OK ||
        bora_db_bind_text(stmt, 2, session->model_name) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 3, session->now) != SQLITE_OK)
        return bora_db_fail(db, "model", err);
    return bora_db_run(db, stmt, "model", err);
}

/* After a statement that could not run: the name was taken, or else. */
static bora_status name_fail(bora_db *db, bora_status st, const char *name, bora_error *err)
{
    if (sqlite3_extended_errcode(db->sqlite) == SQLITE_CONSTRAINT_UNIQUE)
        return bora_fail(err, BORA_E_EXISTS, "there is a session '%s' already", name);
    return st;
}

static bora_status insert_session(bora_db *db, const new_session *session, const char *name, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SESSION_INSERT);
    if (bora_db_bind_text(stmt, 1, session->id) != SQLITE_OK || bora_db_bind_text(stmt, 2, name) != SQLITE_OK ||
        bora_db_bind_text(stmt, 3, session->owner) != SQLITE_OK ||
        bora_db_bind_text(stmt, 4, session->model) != SQLITE_OK ||
        bora_db_bind_text(stmt, 5, session->system) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 6, session->now) != SQLITE_OK)
        return bora_db_fail(db, "session", err);
    bora_status st = bora_db_run(db, stmt, "session", err);
    return st == BORA_OK ? BORA_OK : name_fail(db, st, name, err);
}

static bora_status count_names(bora_db *db, const char *owner, const char *prefix, uint64_t *ret_n, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SESSION_COUNT_NAMES);
    bora_status st = BORA_OK;
    if (bora_db_bind_text(stmt, 1, owner) != SQLITE_OK || bora_db_bind_text(stmt, 2, prefix) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        st = bora_db_fail(db, "session", err);
    else
        *ret_n = (uint64_t)sqlite3_column_int64(stmt, 0);
    (void)bora_db_statement_of(db, BORA_DB_SESSION_COUNT_NAMES); /* ends the read */
    return st;
}

/* With the day's first free number behind the number of its names: of n names, at most n can be in the way. */
static bora_status insert_unnamed(bora_db *db, const new_session *session, bora_error *err)
{
    char prefix[BORA_SESSION_NAME_SIZE], name[BORA_SESSION_NAME_SIZE];
    uint64_t n = 0;
    bora_session_name_prefix(session->now, prefix);
    bora_status st = count_names(db, session->owner, prefix, &n, err);
    if (st != BORA_OK)
        return st;
    for (uint64_t i = 1; i <= n + 1; i++) {
        /* The prefix ends in a date: far shorter than a name may be. */
        (void)snprintf(name, sizeof name, "%.40s%llu", prefix, (unsigned long long)(n + i));
        st = insert_session(db, session, name, err);
        if (st != BORA_E_EXISTS)
            return st;
    }
    return st;
}

bora_status bora_db_create(bora_db *db, const char *owner, const char *name, const char *system, const char *model,
                           const char *model_name, bora_session_record *ret_record, bora_error *err)
{
    bool named = name && *name;
    new_session session = {.owner = owner, .system = system, .model = model, .model_name = model_name};
    session.now = bora_db_now();
    bora_status st = named ? bora_session_name_check(name, err) : BORA_OK;
    if (st == BORA_OK)
        st = bora_session_id_make(session.now, session.id, err);
    if (st == BORA_OK)
        st = bora_db_begin(db, err);
    if (st != BORA_OK)
        return st;
    bora_session_record record = {0};
    int64_t key;
    st = insert_model(db, &session, err);
    if (st == BORA_OK)
        st = named ? insert_session(db, &session, name, err) : insert_unnamed(db, &session, err);
    if (st == BORA_OK)
        st = bora_db_find(db, owner, session.id, &key, &record, err);
    st = bora_db_end(db, st, err);
    if (st != BORA_OK)
        bora_session_record_release(&record);
    else
        *ret_record = record;
    return st;
}

/* ---- changing ------------------------------------------------------------------------------------------ */

static bora_status set_name(bora_db *db, int64_t key, const char *name, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SESSION_RENAME);
    if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK || bora_db_bind_text(stmt, 2, name) != SQLITE_OK)
        return bora_db_fail(db, "session", err);
    bora_status st = bora_db_run(db, stmt, "session", err);
    return st == BORA_OK ? BORA_OK : name_fail(db, st, name, err);
}

bora_status bora_db_rename(bora_db *db, const char *owner, const char *name_or_id, const char *new_name,
                           bora_session_record *ret_record, bora_error *err)
{
    bora_session_record record = {0};
    int64_t key;
    bora_status st = bora_session_name_check(new_name, err);
    if (st == BORA_OK)
        st = bora_db_begin(db, err);
    if (st != BORA_OK)
        return st;
    st = bora_db_find(db, owner, name_or_id, &key, &record, err);
    if (st == BORA_OK)
        st = set_name(db, key, new_name, err);
    st = bora_db_end(db, st, err);
    if (st != BORA_OK) {
        bora_session_record_release(&record);
        return st;
    }
    memcpy(record.name, new_name, strlen(new_name) + 1); /* its size was checked */
    *ret_record = record;
    return BORA_OK;
}

static bora_status delete_row(bora_db *db, int64_t key, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SESSION_DELETE);
    if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK)
        return bora_db_fail(db, "session", err);
    return bora_db_run(db, stmt, "session", err); /* its other rows go with it: ON DELETE CASCADE */
}

/* Gives the room that was left free back to the file system, 16 MiB at a time, so that the write-ahead log stays small.
 * What cannot be given back now (a full disk has no room for the moves) is used by later turns. */
static void shrink(bora_db *db)
{
    int64_t before = 0, now = 0;
    do {
        sqlite3_stmt *count = bora_db_statement_of(db, BORA_DB_FREE_COUNT);
        before = now;
        now = sqlite3_step(count) == SQLITE_ROW ? sqlite3_column_int64(count, 0) : 0;
        (void)sqlite3_reset(count); /* repeats the error */
        if (now == 0 || now == before)
            return;
        sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SHRINK);
        int code;
        while ((code = sqlite3_step(stmt)) == SQLITE_ROW)
            ;
        if (code != SQLITE_DONE)
            bora_logf(db->log, BORA_LOG_DEBUG, "session database keeps its size: %s", sqlite3_errmsg(db->sqlite));
        (void)sqlite3_reset(stmt); /* repeats the error */
    } while (true);
}

bora_status bora_db_delete(bora_db *db, const char *owner, const char *name_or_id, char ret_id[BORA_SESSION_ID_SIZE],
                           bora_error *err)
{
    bora_session_record record = {0};
    int64_t key;
    bora_status st = bora_db_begin(db, err);
    if (st != BORA_OK)
        return st;
    st = bora_db_find(db, owner, name_or_id, &key, &record, err);
    if (st == BORA_OK)
        st = delete_row(db, key, err);
    st = bora_db_end(db, st, err);
    if (st == BORA_OK) {
        if (ret_id)
            memcpy(ret_id, record.id, sizeof record.id);
        shrink(db);
    }
    bora_session_record_release(&record);
    return st;
}
