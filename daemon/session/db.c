/* Opening and closing the session database: the file and its mode, the lock beside it, the connection's settings.
 *
 * The file is made here and not by SQLite, so that it is private from its first moment whatever the umask; SQLite gives
 * the -wal and -shm files the same mode. The lock is on a file of its own, because closing any descriptor of the
 * database would drop SQLite's own locks on it. */
#include "session/db_private.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE 0600

static void db_closep(bora_db **db)
{
    bora_db_close(*db);
}

/* Makes the file if it is not there; its absolute path, links followed. */
static bora_status make_file(const char *path, char ret_path[PATH_MAX], bora_error *err)
{
    BORA_CLEANUP(bora_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, MODE);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0)
        return bora_fail(err, BORA_E_IO, "open '%s': %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return bora_fail(err, BORA_E_IO, "open '%s': not a regular file", path);
    if (info.st_size > 0 && info.st_size < 512) /* SQLite takes one byte for nothing and would write over it */
        return bora_fail(err, BORA_E_FORMAT, "'%s': too short for a database", path);
    if (!realpath(path, ret_path))
        return bora_fail(err, BORA_E_IO, "open '%s': %s", path, strerror(errno));
    return BORA_OK;
}

static bora_status take_lock(bora_db *db, const char *path, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *lock = bora_format("%s.lock", path);
    if (!lock)
        return bora_fail(err, BORA_E_NOMEM, "session database");
    db->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, MODE);
    if (db->lock_fd < 0)
        return bora_fail(err, BORA_E_IO, "open '%s': %s", lock, strerror(errno));
    if (flock(db->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? bora_fail(err, BORA_E_BUSY, "'%s' is in use by another daemon", path)
                                    : bora_fail(err, BORA_E_IO, "lock '%s': %s", lock, strerror(errno));
    return BORA_OK;
}

/* Runs sql and compares the first column of its first row, if expected is not NULL. */
static bora_status setting(bora_db *db, const char *sql, const char *expected, bora_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bora_status st = BORA_OK;
    int code = sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(stmt);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        st = bora_db_fail(db, "session database", err);
    } else if (expected) {
        const char *got = code == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
        if (!got || strcmp(got, expected) != 0)
            st = bora_fail(err, BORA_E_FORMAT, "session database: %s gives '%s'", sql, got ? got : "nothing");
    }
    (void)sqlite3_finalize(stmt); /* repeats the error */
    return st;
}

typedef struct db_setting {
    const char *sql, *expected;
} db_setting;

static bora_status settings_make(bora_db *db, const db_setting *settings, size_t n, bora_error *err)
{
    bora_status st = BORA_OK;
    for (size_t i = 0; st == BORA_OK && i < n; i++)
        st = setting(db, settings[i].sql, settings[i].expected, err);
    return st;
}

/* Opens the connection; leaves another program's database as it is. */
static bora_status connect_to(bora_db *db, const char *path, bora_error *err)
{
    static const db_setting ours[] = {
        {"PRAGMA busy_timeout = 5000", NULL}, /* somebody looks at it with another tool */
        {"PRAGMA cell_size_check = ON", NULL},
        {"PRAGMA temp_store = MEMORY", NULL},
    };
    static const db_setting of_the_file[] = {
        {"PRAGMA page_size = 65536", NULL},         /* of a new file; others keep theirs */
        {"PRAGMA auto_vacuum = INCREMENTAL", NULL}, /* likewise; deleting a session gives its room back */
        {"PRAGMA secure_delete = FAST", NULL},      /* ON would write every page that leaves a window once more */
        {"PRAGMA journal_mode = WAL", "wal"},       {"PRAGMA journal_size_limit = 67108864", NULL},
        {"PRAGMA synchronous = FULL", NULL},
    };
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(path, &db->sqlite, flags, NULL) != SQLITE_OK)
        return db->sqlite ? bora_db_fail(db, "session database", err)
                          : bora_fail(err, BORA_E_NOMEM, "session database");
    int keys = 0;
    if (sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_ENABLE_FKEY, 1, &keys) != SQLITE_OK || !keys)
        return bora_fail(err, BORA_E_UNSUPPORTED, "this SQLite was built without foreign keys");
    (void)sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL); /* a second wall only */
    bora_status st = settings_make(db, ours, BORA_ARRAY_SIZE(ours), err);
    if (st == BORA_OK)
        st = bora_schema_check(db, err);
    if (st != BORA_OK)
        return st;
    struct stat info;
    if (stat(path, &info) == 0 && (info.st_mode & 077) != 0 && chmod(path, MODE) != 0)
        bora_logf(db->log, BORA_LOG_WARN, "'%s' can be read by others: %s", path, strerror(errno));
    return settings_make(db, of_the_file, BORA_ARRAY_SIZE(of_the_file), err);
}

/* What opening needs to be sound: the schema and the small tables. The large ones have checksums of their own. */
static bora_status check(bora_db *db, bora_error *err)
{
    static const char *const checks[] = {"PRAGMA quick_check(sqlite_schema)", "PRAGMA quick_check(model)",
                                         "PRAGMA quick_check(session)"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(checks); i++) {
        bora_status st = setting(db, checks[i], "ok", err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

bora_status bora_db_open(const char *path, const bora_log *log, bora_db **ret_db, bora_error *err)
{
    char real[PATH_MAX];
    BORA_CLEANUP(db_closep) bora_db *db = bora_calloc(1, sizeof *db);
    if (!db)
        return bora_fail(err, BORA_E_NOMEM, "session database");
    db->log = log;
    db->lock_fd = -1;
    bora_error why = {{0}};
    bora_status st = make_file(path, real, err);
    if (st == BORA_OK)
        st = take_lock(db, real, err);
    if (st != BORA_OK)
        return st; /* these name the path already */
    st = connect_to(db, real, &why);
    if (st == BORA_OK)
        st = bora_schema_migrate(db, &why);
    if (st == BORA_OK)
        st = bora_db_prepare(db, &why);
    if (st == BORA_OK)
        st = check(db, &why);
    if (st != BORA_OK)
        return bora_fail(err, st, "'%s': %.400s", path, why.message);
    *ret_db = bora_steal(&db);
    return BORA_OK;
}

void bora_db_close(bora_db *db)
{
    if (!db)
        return;
    bora_db_finalize(db);
    if (sqlite3_close(db->sqlite) != SQLITE_OK)
        bora_logf(db->log, BORA_LOG_ERROR, "closing the session database: %s", sqlite3_errmsg(db->sqlite));
    bora_closep(&db->lock_fd); /* and with it the lock; the file stays, for whoever waits for it */
    bora_free(db);
}
