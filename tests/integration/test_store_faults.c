/* The store in trouble: no room, damaged rows, files that are no session database. A fault costs the turn or the start
 * that meets it; what was stored before stays. */
#include "integration/spawn.h"
#define FIXTURE_TURNS 40
#include "integration/witness_fixture.h"

#include <sched.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void stop(void)
{
    witness_end(&witness_);
    assert_int_equal(bora_test_daemon_end(&daemon_, SIGTERM), 0);
}

static void start(const char *const *arguments)
{
    assert_true(bora_test_daemon_start(&daemon_, arguments, NULL));
    witness_connect(&witness_, &daemon_);
}

/* ---- no room ---- */

static uint64_t count_messages(const char *session)
{
    wire_event e = {0};
    bora_pack pack = wire_request(&witness_.wire, "session.show");
    bora_pack_string(&pack, "session", session);
    wire_submit(&witness_.wire, &pack);
    wire_expect_result(&witness_.wire, &e);
    uint64_t n = wire_uint_of(&e, "n_messages");
    wire_event_release(&e);
    return n;
}

/* Says something in an existing session until that cannot be stored. Before a log is longer than it was, what it has
 * room for still goes in. */
static void talk_until_full(const char *session)
{
    static wire_answer answer;
    wire_event e = {0};
    uint64_t n_messages = count_messages(session);
    for (int i = 0; i < 100; i++) {
        bora_pack pack = wire_turn(&witness_.wire, session, "Some more words to fill the disk with.", 8);
        wire_submit(&witness_.wire, &pack);
        if (!wire_follow(&witness_.wire, witness_.wire.last_id, &answer, &e))
            break;
        n_messages += 2;
    }
    if (strcmp(e.code, "full") != 0)
        print_error("the last event was %s %s: %s\n", e.event, e.code, e.message);
    assert_string_equal(e.event, "error");
    assert_string_equal(e.code, "full");
    assert_non_null(strstr(e.message, "is full"));
    wire_event_release(&e);
    assert_int_equal(count_messages(session), n_messages); /* as before the turn */
}

/* What needs no room goes on. */
static void expect_reads(void)
{
    static wire_answer answer;
    wire_event e = {0};
    assert_int_equal(wire_status(&witness_.wire, "n_running"), 0);
    assert_true(count_messages("twin") >= 2);
    bora_pack pack = wire_request(&witness_.wire, "generate");
    bora_pack_string(&pack, "prompt", "Once upon a time");
    bora_pack_uint(&pack, "max_tokens", 8);
    wire_submit(&witness_.wire, &pack);
    assert_true(wire_follow(&witness_.wire, witness_.wire.last_id, &answer, &e));
    wire_event_release(&e);
}

static void limit_files(rlim_t size)
{
    struct rlimit limit = {.rlim_cur = size, .rlim_max = RLIM_INFINITY};
    assert_int_equal(prlimit(daemon_.pid, RLIMIT_FSIZE, &limit, NULL), 0);
}

static void test_files_at_their_limit(void **state)
{
    (void)state;
    static wire_answer answer;
    char wal[128];
    struct stat info;
    wire_say(&witness_.wire, "limit", "Hello.", 4, &answer);
    witness_check(&witness_);
    witness_check(&witness_);
    (void)snprintf(wal, sizeof wal, "%s-wal", daemon_.database);
    assert_int_equal(stat(wal, &info), 0);
    limit_files((rlim_t)info.st_size);
    talk_until_full("limit");
    talk_until_full("limit"); /* again: no state is left of the first failure */
    expect_reads();
    assert_true(bora_test_daemon_logged(&daemon_, "is not stored"));
    limit_files(RLIM_INFINITY);
    witness_check(&witness_);
    witness_check(&witness_);

    /* And if the daemon is killed while there is no room, what was stored is there. */
    assert_int_equal(stat(wal, &info), 0);
    limit_files((rlim_t)info.st_size);
    talk_until_full("limit");
    witness_end(&witness_);
    assert_int_equal(bora_test_daemon_end(&daemon_, SIGKILL), -SIGKILL);
    start(NULL);
    witness_check(&witness_);
    witness_check(&witness_);
}

/* Writes zeros until there is no more room. */
static void fill(const char *path)
{
    static const char zeros[65536];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t size = sizeof zeros; size > 0;)
        if (write(fd, zeros, size) < 0)
            size /= 2;
    (void)close(fd);
}

/* A small file system in a mount namespace of the test's own. False: not allowed here. */
static bool mount_small(const char *folder)
{
    return mkdir(folder, 0700) == 0 && unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("small", folder, "tmpfs", 0, "size=12m") == 0;
}

static void test_full_disk(void **state)
{
    (void)state;
    char folder[BORA_TEMP_PATH_SIZE], database[BORA_TEMP_PATH_SIZE + 16], filler[BORA_TEMP_PATH_SIZE + 16];
    (void)bora_temp_folder_path(&daemon_.folder, "small", folder);
    (void)snprintf(database, sizeof database, "%s/s.db", folder);
    (void)snprintf(filler, sizeof filler, "%s/filler", folder);
    if (!mount_small(folder))
        BORA_SKIP("no file system can be mounted here");
    static witness here;
    static wire_answer answer;
    bora_test_daemon other;
    const char *const arguments[] = {"--database", database, NULL};
    assert_true(bora_test_daemon_init(&other));
    assert_true(bora_test_daemon_start(&other, arguments, NULL));
    witness_begin(&here, &other, 6);
    witness_check(&here);
    wire_say(&here.wire, "disk", "Hello.", 4, &answer);
    witness saved = witness_; /* the functions above talk to the witness's daemon */
    witness_ = here;
    fill(filler);
    talk_until_full("disk");
    expect_reads();
    assert_int_equal(unlink(filler), 0);
    witness_check(&witness_);
    fill(filler);
    talk_until_full("disk");
    witness_end(&witness_);
    assert_int_equal(bora_test_daemon_end(&other, SIGTERM), 0); /* ends cleanly even so */
    int code = 0;
    assert_int_equal(mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_false(bora_test_daemon_start(&other, arguments, &code));
    assert_int_equal(code, 1);
    assert_true(bora_test_daemon_logged(&other, "Read-only file system"));
    assert_int_equal(mount(NULL, folder, NULL, MS_REMOUNT, NULL), 0);
    assert_int_equal(unlink(filler), 0);
    assert_true(bora_test_daemon_start(&other, arguments, NULL));
    witness_connect(&witness_, &other);
    witness_check(&witness_);
    witness_end(&witness_);
    witness_ = saved;
    bora_test_daemon_release(&other);
    assert_int_equal(umount(folder), 0);
    witness_check(&witness_);
}

/* ---- damaged rows ---- */

static void damage(const char *database, const char *sql)
{
    sqlite3 *db = NULL;
    char *why = NULL;
    assert_int_equal(sqlite3_open_v2(database, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        print_error("%s: %s\n", sql, why);
    assert_null(why);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Flips a bit in the middle of a blob column of the session's newest row. */
static void damage_blob(const char *session, const char *table, const char *column)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    sqlite3_blob *blob = NULL;
    char sql[256];
    uint8_t byte;
    (void)snprintf(sql, sizeof sql,
                   "SELECT max(rowid) FROM %s WHERE session = (SELECT key FROM session WHERE name = '%s')", table,
                   session);
    assert_int_equal(sqlite3_open_v2(daemon_.database, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_type(stmt, 0), SQLITE_INTEGER);
    assert_int_equal(sqlite3_blob_open(db, "main", table, column, sqlite3_column_int64(stmt, 0), 1, &blob), SQLITE_OK);
    int at = sqlite3_blob_bytes(blob) / 2;
    assert_int_equal(sqlite3_blob_read(blob, &byte, 1, at), SQLITE_OK);
    byte ^= 0x10;
    assert_int_equal(sqlite3_blob_write(blob, &byte, 1, at), SQLITE_OK);
    assert_int_equal(sqlite3_blob_close(blob), SQLITE_OK);
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* The witness's next turn, with what it says about the cache. */
static void next_turn(wire_answer *ret)
{
    const wire_answer *expected = &witness_.expected[witness_.turn];
    char text[64];
    witness_text(witness_.turn++, text);
    wire_say(&witness_.wire, "witness", text, WITNESS_TOKENS, ret);
    assert_int_equal(ret->n, expected->n);
    assert_memory_equal(ret->tokens, expected->tokens, ret->n * sizeof *ret->tokens);
    assert_int_equal(ret->n_history, expected->n_history);
}

static void expect_healed(const char *why)
{
    static wire_answer answer;
    start(NULL);
    next_turn(&answer);
    assert_int_equal(answer.n_cached, 0);
    assert_true(answer.n_prompt > answer.n_history); /* everything was run again */
    assert_true(bora_test_daemon_logged(&daemon_, "running all its tokens again"));
    assert_true(bora_test_daemon_logged(&daemon_, why));
    stop();
    start(NULL);
    next_turn(&answer);
    assert_true(answer.n_cached + 1 >= answer.n_history); /* the new pages are sound */
}

static void test_damaged_page(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        witness_check(&witness_);
    stop();
    damage_blob("witness", "kv_page", "data");
    expect_healed("page");
    stop();
    damage(daemon_.database, "DELETE FROM kv_page WHERE rowid = (SELECT max(rowid) FROM kv_page WHERE session = "
                             "(SELECT key FROM session WHERE name = 'witness'))");
    start(NULL);
    witness_check(&witness_); /* a page that is missing: whatever the reason, the right tokens */
    stop();
    damage(daemon_.database,
           "UPDATE kv_page SET n = 1, dtype = 77 WHERE session = (SELECT key FROM session WHERE name = "
           "'witness')");
    start(NULL);
    witness_check(&witness_);
    stop();
    damage(daemon_.database, "UPDATE kv_page SET data = zeroblob(7)");
    start(NULL);
    witness_check(&witness_);
}

static void test_damaged_tokens(void **state)
{
    (void)state;
    static wire_answer answer;
    wire_event e = {0};
    for (int i = 0; i < 3; i++)
        wire_say(&witness_.wire, "victim", "Good morning to you.", 6, &answer);
    stop();
    damage_blob("victim", "token_run", "ids");
    start(NULL);
    for (int i = 0; i < 2; i++) {
        bora_pack pack = wire_turn(&witness_.wire, "victim", "And now?", 4);
        wire_submit(&witness_.wire, &pack);
        assert_false(wire_follow(&witness_.wire, witness_.wire.last_id, &answer, &e));
        assert_string_equal(e.code, "format");
        assert_non_null(strstr(e.message, "token"));
        wire_event_release(&e);
    }
    bora_pack pack = wire_request(&witness_.wire, "session.list");
    wire_submit(&witness_.wire, &pack);
    wire_expect_result(&witness_.wire, &e);
    wire_event_release(&e);
    witness_check(&witness_);
    pack = wire_request(&witness_.wire, "session.delete"); /* what cannot be read can be thrown away */
    bora_pack_string(&pack, "session", "victim");
    wire_submit(&witness_.wire, &pack);
    wire_expect_result(&witness_.wire, &e);
    wire_event_release(&e);
    witness_check(&witness_);
}

/* ---- files ---- */

static void test_no_session_database(void **state)
{
    (void)state;
    enum { HEADER, TRUNCATED, TEXT, ZEROS, FOREIGN, NEWER, LACKING, N_CASES };
    static const char *const whys[N_CASES] = {
        [HEADER] = "file is not a database", [TRUNCATED] = "malformed",        [TEXT] = "too short for a database",
        [ZEROS] = "file is not a database",  [FOREIGN] = "of another program", [NEWER] = "newer than this program",
        [LACKING] = "lacks something",
    };
    char path[BORA_TEMP_PATH_SIZE], sock[BORA_TEMP_PATH_SIZE];
    size_t size = 0;
    stop(); /* so that the file is whole */
    unsigned char *good = bora_temp_read(daemon_.database, &size);
    (void)bora_temp_folder_path(&daemon_.folder, "faulty/s.sock", sock);
    for (int i = 0; i < N_CASES; i++) {
        static const char text[] =
            "Dear diary, today I met a daemon who wanted to write into me. I said no, as I am no database.";
        unsigned char *bytes = malloc(size);
        assert_non_null(bytes);
        memcpy(bytes, good, size);
        size_t n = i == TRUNCATED ? size / 2 : size;
        if (i == HEADER)
            memset(bytes, 'x', 16);
        if (i == ZEROS)
            memset(bytes, 0, size);
        (void)bora_temp_folder_write(&daemon_.folder, "faulty.db", i == TEXT ? (const void *)text : bytes,
                                     i == TEXT ? sizeof text - 1 : n, path);
        free(bytes);
        if (i == FOREIGN) {
            assert_int_equal(unlink(path), 0);
            (void)bora_temp_folder_write(&daemon_.folder, "faulty.db", "", 0, path);
            damage(path, "CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('bread')");
        }
        if (i == NEWER)
            damage(path, "PRAGMA user_version = 99");
        if (i == LACKING)
            damage(path, "ALTER TABLE kv_page RENAME TO kv_pages");
        size_t size_before = 0, size_after = 0;
        unsigned char *before = bora_temp_read(path, &size_before);
        const char *const argv[] = {BORAD, "--config", "none", "--socket", sock, "--database", path, NULL};
        spawn_expect(argv, NULL, 1, whys[i]);
        spawn_expect(argv, NULL, 1, "faulty.db"); /* it says which file */
        unsigned char *after = bora_temp_read(path, &size_after);
        /* One of ours may get a new change counter in SQLite's header; a stranger's keeps every byte. */
        size_t from = i == LACKING ? 100 : 0;
        assert_int_equal(size_after, size_before);
        if (memcmp(after + from, before + from, size_before - from) != 0)
            print_error("case %d: the file has changed\n", i);
        assert_memory_equal(after + from, before + from, size_before - from);
        free(before);
        free(after);
    }
    free(good);
    const char *const folder[] = {BORAD, "--config", "none", "--socket", sock, "--database", daemon_.folder.path, NULL};
    spawn_expect(folder, NULL, 1, "directory");
    char below[BORA_TEMP_PATH_SIZE + 8];
    (void)snprintf(below, sizeof below, "%s/x.db", path); /* under a file */
    const char *const nowhere[] = {BORAD, "--config", "none", "--socket", sock, "--database", below, NULL};
    spawn_expect(nowhere, NULL, 1, "faulty.db");
    start(NULL);
    witness_check(&witness_);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_at_their_limit), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_damaged_page),         cmocka_unit_test(test_damaged_tokens),
        cmocka_unit_test(test_no_session_database),
    };
    return cmocka_run_group_tests_name("store faults", tests, set_up, tear_down);
}
