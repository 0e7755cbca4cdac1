/* Files that are not what they should be: other programs' files, newer ones, cut ones, rows that were changed, bytes
 * that were flipped. */
#include "db_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

/* Flips a bit of one byte of a blob in place. */
static void flip(const char *path, const char *table, const char *column, int64_t rowid, int offset)
{
    sqlite3 *other = NULL;
    sqlite3_blob *blob = NULL;
    uint8_t byte;
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_blob_open(other, "main", table, column, rowid, 1, &blob), SQLITE_OK);
    assert_true(offset < sqlite3_blob_bytes(blob));
    assert_int_equal(sqlite3_blob_read(blob, &byte, 1, offset), SQLITE_OK);
    byte ^= 4;
    assert_int_equal(sqlite3_blob_write(blob, &byte, 1, offset), SQLITE_OK);
    assert_int_equal(sqlite3_blob_close(blob), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* ---- files that are not ours --------------------------------------------------------------------------- */

static void assert_refused(fixture *f, bora_status status, const char *text)
{
    ASSERT_FAILS(bora_db_open(f->path, NULL, &f->db, &f->error), status, text);
    assert_null(f->db);
    assert_non_null(strstr(f->error.message, "sessions.db"));
}

static void close_and_remove(fixture *f)
{
    bora_db_close(f->db);
    f->db = NULL;
    assert_int_equal(unlink(f->path), 0);
}

static void test_newer_schema_is_refused(void **state)
{
    fixture *f = *state;
    bora_db_close(f->db);
    f->db = NULL;
    tamper(f->path, "PRAGMA user_version = 1000");
    assert_refused(f, BORA_E_UNSUPPORTED, "1000");
    tamper(f->path, "PRAGMA user_version = -1");
    assert_refused(f, BORA_E_FORMAT, "-1");
    tamper(f->path, "PRAGMA user_version = 1");
    ASSERT_OK(bora_db_open(f->path, NULL, &f->db, &f->error));
}

static void test_other_database_is_refused_and_left_alone(void **state)
{
    fixture *f = *state;
    struct stat info;
    close_and_remove(f);
    tamper(f->path, "CREATE TABLE bookmark (url TEXT); INSERT INTO bookmark VALUES ('x')");
    assert_int_equal(chmod(f->path, 0644), 0);
    size_t size, size_after;
    unsigned char *before = bora_temp_read(f->path, &size);
    assert_refused(f, BORA_E_FORMAT, "another program");
    unsigned char *after = bora_temp_read(f->path, &size_after);
    assert_int_equal(size, size_after);
    assert_memory_equal(before, after, size);
    free(before);
    free(after);
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
}

static void test_loose_mode_is_tightened(void **state)
{
    fixture *f = *state;
    struct stat info;
    assert_int_equal(chmod(f->path, 0644), 0);
    fixture_reopen(f);
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void test_no_database_is_refused(void **state)
{
    fixture *f = *state;
    close_and_remove(f);
    static char text[4096];
    memset(text, 'x', sizeof text);
    bora_temp_folder_write(&f->folder, "sessions.db", text, sizeof text, f->path);
    assert_refused(f, BORA_E_FORMAT, "not a database");
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_refused(f, BORA_E_IO, "open");
    assert_int_equal(rmdir(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_refused(f, BORA_E_IO, "not a regular file");
    assert_int_equal(unlink(f->path), 0);
    bora_temp_folder_write(&f->folder, "sessions.db", "", 0, f->path); /* empty: a new one */
    ASSERT_OK(bora_db_open(f->path, NULL, &f->db, &f->error));
    bora_db *db = NULL;
    ASSERT_FAILS(bora_db_open("/proc/no/such/folder/sessions.db", NULL, &db, &f->error), BORA_E_IO, "No such file");
}

static void test_missing_tables_are_refused(void **state)
{
    fixture *f = *state;
    bora_db_close(f->db);
    f->db = NULL;
    tamper(f->path, "ALTER TABLE kv_page RENAME COLUMN data TO stuff");
    assert_refused(f, BORA_E_FORMAT, "data");
    tamper(f->path, "DROP TABLE kv_page");
    assert_refused(f, BORA_E_FORMAT, "kv_page");
}

static void test_cut_file_is_refused(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 200, 1, 4096, &f->error));
    bora_db_close(f->db);
    f->db = NULL;
    size_t size;
    unsigned char *bytes = bora_temp_read(f->path, &size);
    const size_t cuts[] = {1, 50, 99, 100, 512, 65535, 65536, 65537, size / 2, size - 65536};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        bora_temp_folder_write(&f->folder, "sessions.db", bytes, cuts[i], f->path);
        assert_refused(f, BORA_E_FORMAT, "");
    }
    /* Within the last page SQLite does not see it; the checksum of what was there does. */
    bora_temp_folder_write(&f->folder, "sessions.db", bytes, size - 65000, f->path);
    ASSERT_OK(bora_db_open(f->path, NULL, &f->db, &f->error));
    bora_session_contents contents;
    ASSERT_OK(bora_db_load(f->db, OWNER, "a", ALL_PARTS, &contents, &f->error));
    assert_non_null(contents.damage);
    bora_session_contents_release(&contents);
    bora_db_close(f->db);
    f->db = NULL;
    bora_temp_folder_write(&f->folder, "sessions.db", bytes, size, f->path);
    ASSERT_OK(bora_db_open(f->path, NULL, &f->db, &f->error));
    assert_contents(f, &record, 1, 1, 4096, NULL);
    free(bytes);
    bora_session_record_release(&record);
}

/* ---- rows that were changed ---------------------------------------------------------------------------- */

/* Two sessions of the same shape, "a" (seed 1) and "b" (seed 2): keys 1 and 2, 4 pages in each of 2 classes. */
static void make_two(fixture *f, bora_session_record records[2])
{
    for (uint64_t i = 0; i < 2; i++) {
        ASSERT_OK(bora_db_create(f->db, OWNER, i ? "b" : "a", NULL, MODEL, "tiny", &records[i], &f->error));
        ASSERT_OK(turn_commit(f->db, &records[i], i + 1, 100, 2, 48, &f->error));
        ASSERT_OK(turn_commit(f->db, &records[i], i + 1, 100, 2, 48, &f->error));
    }
}

static void release_two(bora_session_record records[2])
{
    bora_session_record_release(&records[0]);
    bora_session_record_release(&records[1]);
}

/* The session's damage names that, n_left pages are left; messages and tokens are whole. */
static void assert_damaged(fixture *f, const char *name, const char *text, size_t n_left)
{
    bora_session_contents contents;
    ASSERT_OK(bora_db_load(f->db, OWNER, name, ALL_PARTS, &contents, &f->error));
    if (!contents.damage || !strstr(contents.damage, text))
        fail_msg("damage: %s, not %s", contents.damage ? contents.damage : "none", text);
    assert_int_equal(contents.n_pages, n_left);
    assert_int_equal(contents.n_tokens, 200);
    assert_int_equal(contents.n_messages, 4);
    bora_session_contents_release(&contents);
}

static void test_flipped_page_is_left_out_and_replaced(void **state)
{
    fixture *f = *state;
    bora_session_record records[2];
    do_not_wait(f);
    make_two(f, records);
    int64_t row = ask(f->path, "SELECT rowid FROM kv_page WHERE session = 1 AND class = 1 AND page = 2");
    flip(f->path, "kv_page", "data", row, 1234);
    assert_damaged(f, "a", "page 1/2 (checksum)", 7);
    assert_contents(f, &records[1], 2, 2, 48, NULL);
    /* The next turn was run anew and replaces the whole cache. */
    made_turn *made = turn_make(&records[0], 1, 30, 2, 48, true);
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    records[0].n_tokens += 30, records[0].n_cached = made->turn.n_cached, records[0].n_turns++;
    turn_release(made);
    assert_contents(f, &records[0], 1, 2, 48, NULL);
    release_two(records);
}

static void test_page_columns_are_part_of_the_checksum(void **state)
{
    fixture *f = *state;
    bora_session_record records[2];
    do_not_wait(f);
    make_two(f, records);
    static const struct {
        const char *sql, *undo, *damage;
        size_t n_left;
    } cases[] = {
        {"UPDATE kv_page SET dtype = 0 WHERE session = 1 AND class = 0 AND page = 1",
         "UPDATE kv_page SET dtype = 1 WHERE session = 1 AND class = 0 AND page = 1", "page 0/1 (checksum)", 7},
        {"UPDATE kv_page SET dtype = 4294967297 WHERE session = 1 AND class = 0 AND page = 1",
         "UPDATE kv_page SET dtype = 1 WHERE session = 1 AND class = 0 AND page = 1", "page 0/1 (checksum)", 7},
        {"UPDATE kv_page SET n = 63 WHERE session = 1 AND class = 0 AND page = 1",
         "UPDATE kv_page SET n = 64 WHERE session = 1 AND class = 0 AND page = 1", "page 0/1 (too short)", 7},
        {"UPDATE kv_page SET n = -1 WHERE session = 1 AND class = 0 AND page = 1",
         "UPDATE kv_page SET n = 64 WHERE session = 1 AND class = 0 AND page = 1", "page 0/1 (impossible)", 7},
        {"UPDATE kv_page SET xxh3 = xxh3 + 1 WHERE session = 1 AND class = 0 AND page = 1",
         "UPDATE kv_page SET xxh3 = xxh3 - 1 WHERE session = 1 AND class = 0 AND page = 1", "page 0/1 (checksum)", 7},
        {"UPDATE kv_page SET class = 2 WHERE session = 1 AND class = 1 AND page = 1",
         "UPDATE kv_page SET class = 1 WHERE session = 1 AND class = 2 AND page = 1", "page 2/1 (checksum)", 7},
        {"UPDATE kv_page SET class = 4294967297 WHERE session = 1 AND class = 1 AND page = 1",
         "UPDATE kv_page SET class = 1 WHERE session = 1 AND class = 4294967297", "(impossible)", 7},
        {"UPDATE kv_page SET page = 9223372036854775807 WHERE session = 1 AND class = 1 AND page = 1",
         "UPDATE kv_page SET page = 1 WHERE session = 1 AND page = 9223372036854775807", "beyond the end", 7},
        {"UPDATE session SET n_cached = 190 WHERE key = 1", "UPDATE session SET n_cached = 199 WHERE key = 1",
         "page 0/2 (beyond the end); page 0/3 (beyond the end); page 1/2 (beyond the end)", 4},
        /* Rows in each other's place: within a class, between classes, between sessions. */
        {"UPDATE kv_page SET page = 99 WHERE session = 1 AND class = 0 AND page = 1;"
         "UPDATE kv_page SET page = 1 WHERE session = 1 AND class = 0 AND page = 2;"
         "UPDATE kv_page SET page = 2 WHERE session = 1 AND class = 0 AND page = 99",
         "UPDATE kv_page SET page = 99 WHERE session = 1 AND class = 0 AND page = 1;"
         "UPDATE kv_page SET page = 1 WHERE session = 1 AND class = 0 AND page = 2;"
         "UPDATE kv_page SET page = 2 WHERE session = 1 AND class = 0 AND page = 99",
         "page 0/1 (checksum); page 0/2 (checksum)", 6},
        {"UPDATE kv_page SET class = 99 WHERE session = 1 AND class = 0 AND page = 1;"
         "UPDATE kv_page SET class = 0 WHERE session = 1 AND class = 1 AND page = 1;"
         "UPDATE kv_page SET class = 1 WHERE session = 1 AND class = 99 AND page = 1",
         "UPDATE kv_page SET class = 99 WHERE session = 1 AND class = 0 AND page = 1;"
         "UPDATE kv_page SET class = 0 WHERE session = 1 AND class = 1 AND page = 1;"
         "UPDATE kv_page SET class = 1 WHERE session = 1 AND class = 99 AND page = 1",
         "page 0/1 (checksum); page 1/1 (checksum)", 6},
        {"UPDATE kv_page SET page = 99 WHERE session = 1 AND class = 0 AND page = 0;"
         "UPDATE kv_page SET session = 1 WHERE session = 2 AND class = 0 AND page = 0;"
         "UPDATE kv_page SET session = 2, page = 0 WHERE page = 99",
         "UPDATE kv_page SET page = 99 WHERE session = 1 AND class = 0 AND page = 0;"
         "UPDATE kv_page SET session = 1 WHERE session = 2 AND class = 0 AND page = 0;"
         "UPDATE kv_page SET session = 2, page = 0 WHERE page = 99",
         "page 0/0 (checksum)", 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tamper(f->path, cases[i].sql);
        assert_damaged(f, "a", cases[i].damage, cases[i].n_left);
        tamper(f->path, cases[i].undo);
        assert_contents(f, &records[0], 1, 2, 48, NULL);
    }
    release_two(records);
}

static void test_missing_pages_are_named(void **state)
{
    fixture *f = *state;
    bora_session_record records[2];
    do_not_wait(f);
    make_two(f, records);
    tamper(f->path, "DELETE FROM kv_page WHERE session = 1 AND class = 0 AND page IN (1, 2)");
    assert_damaged(f, "a", "nothing of class 0 between 0 and 3", 6);
    tamper(f->path, "DELETE FROM kv_page WHERE session = 1 AND class = 1 AND page = 3");
    assert_damaged(f, "a", "nothing of class 1 between 2 and 4", 5);
    tamper(f->path, "DELETE FROM kv_page WHERE session = 1");
    assert_damaged(f, "a", "no page", 0);
    release_two(records);
}

static void test_much_damage_is_counted(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 640, 3, 8, &f->error));
    tamper(f->path, "UPDATE kv_page SET xxh3 = 0");
    bora_session_contents contents;
    ASSERT_OK(bora_db_load(f->db, OWNER, "a", BORA_DB_PAGES, &contents, &f->error));
    assert_non_null(strstr(contents.damage, "page 0/7 (checksum); and 22 more"));
    assert_int_equal(contents.n_pages, 0);
    bora_session_contents_release(&contents);
    bora_session_record_release(&record);
}

static void test_damaged_tokens_fail(void **state)
{
    fixture *f = *state;
    bora_session_record records[2];
    bora_session_contents contents;
    make_two(f, records);
    int64_t row = ask(f->path, "SELECT rowid FROM token_run WHERE session = 1 AND first = 100");
    flip(f->path, "token_run", "ids", row, 7);
    ASSERT_FAILS(bora_db_load(f->db, OWNER, "a", BORA_DB_TOKENS, &contents, &f->error), BORA_E_FORMAT, "checksum");
    ASSERT_OK(bora_db_load(f->db, OWNER, "a", BORA_DB_MESSAGES, &contents, &f->error)); /* what can be read is */
    assert_int_equal(contents.n_messages, 4);
    bora_session_contents_release(&contents);
    flip(f->path, "token_run", "ids", row, 7);
    static const struct {
        const char *sql, *undo, *text;
    } cases[] = {
        {"UPDATE token_run SET xxh3 = xxh3 + 1 WHERE session = 1 AND first = 0",
         "UPDATE token_run SET xxh3 = xxh3 - 1 WHERE session = 1 AND first = 0", "checksum"},
        {"UPDATE token_run SET n = 99 WHERE session = 1 AND first = 0",
         "UPDATE token_run SET n = 100 WHERE session = 1 AND first = 0", "not what was stored"},
        {"UPDATE token_run SET n = 9223372036854775807 WHERE session = 1 AND first = 0",
         "UPDATE token_run SET n = 100 WHERE session = 1 AND first = 0", "not what was stored"},
        {"UPDATE token_run SET first = 101 WHERE session = 1 AND first = 100",
         "UPDATE token_run SET first = 100 WHERE session = 1 AND first = 101", "not what was stored"},
        {"UPDATE session SET n_tokens = 300 WHERE key = 1", "UPDATE session SET n_tokens = 200 WHERE key = 1",
         "200 of its 300"},
        /* Rows of each other's place: one after the other, one session and the other. */
        {"UPDATE token_run SET first = 999 WHERE session = 1 AND first = 0;"
         "UPDATE token_run SET first = 0 WHERE session = 1 AND first = 100;"
         "UPDATE token_run SET first = 100 WHERE session = 1 AND first = 999",
         "UPDATE token_run SET first = 999 WHERE session = 1 AND first = 0;"
         "UPDATE token_run SET first = 0 WHERE session = 1 AND first = 100;"
         "UPDATE token_run SET first = 100 WHERE session = 1 AND first = 999",
         "checksum"},
        {"UPDATE token_run SET first = 999 WHERE session = 1 AND first = 0;"
         "UPDATE token_run SET session = 1 WHERE session = 2 AND first = 0;"
         "UPDATE token_run SET session = 2, first = 0 WHERE first = 999",
         "UPDATE token_run SET first = 999 WHERE session = 1 AND first = 0;"
         "UPDATE token_run SET session = 1 WHERE session = 2 AND first = 0;"
         "UPDATE token_run SET session = 2, first = 0 WHERE first = 999",
         "checksum"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tamper(f->path, cases[i].sql);
        ASSERT_FAILS(bora_db_load(f->db, OWNER, "a", ALL_PARTS, &contents, &f->error), BORA_E_FORMAT, cases[i].text);
        tamper(f->path, cases[i].undo);
        assert_contents(f, &records[0], 1, 2, 48, NULL);
    }
    tamper(f->path, "DELETE FROM token_run WHERE session = 1 AND first = 100");
    ASSERT_FAILS(bora_db_load(f->db, OWNER, "a", ALL_PARTS, &contents, &f->error), BORA_E_FORMAT, "100 of its 200");
    assert_contents(f, &records[1], 2, 2, 48, NULL);
    release_two(records);
}

/* Random bytes of the file are changed: never a crash, never wrong tokens or pages; what cannot be had says so. */
static void test_flipped_file(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    for (int i = 0; i < 4; i++)
        ASSERT_OK(turn_commit(f->db, &record, 1, 90, 2, 64, &f->error));
    bora_db_close(f->db);
    f->db = NULL;
    size_t size;
    unsigned char *bytes = bora_temp_read(f->path, &size), *copy = malloc(size);
    assert_non_null(copy);
    uint64_t random = 77;
    int n_open = 0, n_loaded = 0, n_damaged = 0;
    for (int round = 0; round < 100; round++) {
        memcpy(copy, bytes, size);
        for (int i = 0; i < 1 + round % 40; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            size_t at = (size_t)(random >> 20) % size;
            if (round % 2) /* where the trees' nodes begin and end */
                at = at / 65536 * 65536 + (at % 64 < 40 ? at % 40 : 65535 - at % 1500);
            copy[at] ^= (uint8_t)(1u << (random >> 60 & 7));
        }
        bora_temp_folder_write(&f->folder, "sessions.db", copy, size, f->path);
        if (bora_db_open(f->path, NULL, &f->db, &f->error) != BORA_OK) {
            assert_null(f->db);
            continue;
        }
        n_open++;
        bora_session_contents contents;
        bora_status st = bora_db_load(f->db, OWNER, record.id, ALL_PARTS, &contents, &f->error);
        if (st == BORA_OK) {
            n_loaded++;
            n_damaged += contents.damage != NULL;
            for (size_t i = 0; i < contents.n_tokens; i++)
                assert_int_equal(contents.tokens[i], token_at(1, i));
            for (size_t i = 0; i < contents.n_pages; i++) {
                const bora_page *page = &contents.pages[i];
                void *expected = page_bytes(1, page->class_id, page->index, page->size);
                assert_memory_equal(page->data, expected, page->size);
                free(expected);
            }
            bora_session_contents_release(&contents);
        } else {
            assert_true(st == BORA_E_FORMAT || st == BORA_E_NOT_FOUND || st == BORA_E_IO);
        }
        bora_session_record again = record;
        do_not_wait(f);
        (void)turn_commit(f->db, &again, 1, 90, 2, 64, &f->error); /* may fail, must not crash */
        bora_db_close(f->db);
        f->db = NULL;
    }
    assert_true(n_open > 15 && n_loaded > 15 && n_damaged > 5 && n_damaged < n_loaded);
    free(bytes);
    free(copy);
    bora_session_record_release(&record);
}

int main(void)
{
#define DB_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(test_newer_schema_is_refused),
        DB_TEST(test_other_database_is_refused_and_left_alone),
        DB_TEST(test_loose_mode_is_tightened),
        DB_TEST(test_no_database_is_refused),
        DB_TEST(test_missing_tables_are_refused),
        DB_TEST(test_cut_file_is_refused),
        DB_TEST(test_flipped_page_is_left_out_and_replaced),
        DB_TEST(test_page_columns_are_part_of_the_checksum),
        DB_TEST(test_missing_pages_are_named),
        DB_TEST(test_much_damage_is_counted),
        DB_TEST(test_damaged_tokens_fail),
        DB_TEST(test_flipped_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
