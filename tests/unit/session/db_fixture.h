/* What the tests of the session database share: a database in a folder of its own, a second connection to look and
 * tamper with, and turns whose contents depend on a seed alone. */
#ifndef BORA_TESTS_DB_FIXTURE_H
#define BORA_TESTS_DB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "session/db_private.h"
#include "support/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER     "uid:1000"
#define MODEL     "0123456789abcdef0123456789abcdef"
#define ALL_PARTS (BORA_DB_MESSAGES | BORA_DB_TOKENS | BORA_DB_PAGES)

typedef struct fixture {
    bora_temp_folder folder;
    char path[BORA_TEMP_PATH_SIZE];
    bora_db *db;
    bora_error error;
} fixture;

/* Fails the test with the error's message. */
#define ASSERT_OK(call)                                                                                                \
    do {                                                                                                               \
        bora_status assert_ok_status_ = (call);                                                                        \
        if (assert_ok_status_ != BORA_OK)                                                                              \
            fail_msg("%s: %s (%s)", #call, bora_status_name(assert_ok_status_), f->error.message);                     \
    } while (0)

/* The error is of that kind, and its message has that text in it. */
#define ASSERT_FAILS(call, status, text)                                                                               \
    do {                                                                                                               \
        f->error.message[0] = '\0';                                                                                    \
        bora_status assert_fails_status_ = (call);                                                                     \
        if (assert_fails_status_ != (status) || !strstr(f->error.message, (text)))                                     \
            fail_msg("%s: %s (%s), not %s (%s)", #call, bora_status_name(assert_fails_status_), f->error.message,      \
                     bora_status_name(status), (text));                                                                \
    } while (0)

__attribute__((unused)) static int fixture_setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    bora_temp_folder_make(&f->folder);
    bora_temp_folder_path(&f->folder, "sessions.db", f->path);
    *state = f;
    return bora_db_open(f->path, NULL, &f->db, &f->error) == BORA_OK ? 0 : -1;
}

__attribute__((unused)) static int fixture_teardown(void **state)
{
    fixture *f = *state;
    (void)bora_memory_fail_at(0);
    bora_db_close(f->db);
    bora_temp_folder_remove(&f->folder);
    free(f);
    return 0;
}

__attribute__((unused)) static void fixture_reopen(fixture *f)
{
    bora_db_close(f->db);
    f->db = NULL;
    ASSERT_OK(bora_db_open(f->path, NULL, &f->db, &f->error));
}

/* For tests of thousands of transactions: what is written need not outlast a power cut. */
__attribute__((unused)) static void do_not_wait(fixture *f)
{
    assert_int_equal(sqlite3_exec(f->db->sqlite, "PRAGMA synchronous = OFF", NULL, NULL, NULL), SQLITE_OK);
}

/* ---- a second connection ------------------------------------------------------------------------------- */

/* Runs statements beside the database under test. */
__attribute__((unused)) static void tamper(const char *path, const char *sql)
{
    sqlite3 *other = NULL;
    char *message = NULL;
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    if (sqlite3_exec(other, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* The first column of the first row as a number. */
__attribute__((unused)) static int64_t ask(const char *path, const char *sql)
{
    sqlite3 *other = NULL;
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(other, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    return value;
}

/* ---- turns --------------------------------------------------------------------------------------------- */

#define TURN_PAGES_MAX  64
#define TURN_TOKENS_MAX 2048

/* A turn and what it points to. */
typedef struct made_turn {
    bora_turn turn;
    char user[64], answer[64];
    int32_t tokens[TURN_TOKENS_MAX];
    bora_page pages[TURN_PAGES_MAX];
    uint64_t keep_from[BORA_CLASSES_MAX];
} made_turn;

/* The bytes that page class/index has when it holds n positions in a test with this seed: a grown page begins as it
 * began. */
__attribute__((unused)) static void *page_bytes(uint64_t seed, uint32_t class_id, uint64_t index, size_t size)
{
    uint8_t *data = malloc(size);
    assert_non_null(data);
    uint64_t x = seed * 0x9e3779b97f4a7c15u + class_id * 0x632be59bd9b4e019u + index * 0xd1b54a32d192ed03u + 1;
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        data[i] = (uint8_t)(x >> 24);
    }
    return data;
}

__attribute__((unused)) static int32_t token_at(uint64_t seed, uint64_t position)
{
    return (int32_t)((position * 2654435761u + seed * 40503u) % 32000u);
}

__attribute__((unused)) static void turn_release(made_turn *made)
{
    for (size_t i = 0; i < made->turn.n_pages; i++)
        free(made->pages[i].data);
    free(made);
}

/* The turn that follows record, of n_tokens tokens. Classes' pages from the old n_cached on (or all: replace), of
 * position_size bytes per position; all but the last token cached. */
__attribute__((unused)) static made_turn *turn_make(const bora_session_record *record, uint64_t seed, size_t n_tokens,
                                                    uint32_t n_classes, size_t position_size, bool replace)
{
    made_turn *made = calloc(1, sizeof *made);
    assert_non_null(made);
    assert_true(n_tokens <= TURN_TOKENS_MAX);
    (void)snprintf(made->user, sizeof made->user, "question %llu", (unsigned long long)record->n_turns);
    (void)snprintf(made->answer, sizeof made->answer, "answer %llu", (unsigned long long)record->n_turns);
    uint64_t end = record->n_tokens + n_tokens, n_cached = end ? end - 1 : 0;
    for (size_t i = 0; i < n_tokens; i++)
        made->tokens[i] = token_at(seed, record->n_tokens + i);
    bora_turn *turn = &made->turn;
    *turn = (bora_turn){
        .session_id = record->id,
        .model = record->model,
        .turn = record->n_turns,
        .user_text = made->user,
        .answer_text = made->answer,
        .answer_size = strlen(made->answer),
        .user_created = 1000 + 10 * (int64_t)record->n_turns,
        .answer_created = 1005 + 10 * (int64_t)record->n_turns,
        .first_token = record->n_tokens,
        .tokens = made->tokens,
        .n_tokens = n_tokens,
        .n_cached = n_cached,
        .pages = made->pages,
        .keep_from = made->keep_from,
        .n_classes = n_classes,
        .replace_pages = replace,
    };
    uint64_t since = replace ? 0 : record->n_cached / BORA_PAGE_POSITIONS;
    for (uint32_t c = 0; c < n_classes; c++) {
        for (uint64_t index = since; index * BORA_PAGE_POSITIONS < n_cached; index++) {
            assert_true(turn->n_pages < TURN_PAGES_MAX);
            uint64_t left = n_cached - index * BORA_PAGE_POSITIONS;
            uint32_t n = left < BORA_PAGE_POSITIONS ? (uint32_t)left : BORA_PAGE_POSITIONS;
            size_t size = n * position_size;
            made->pages[turn->n_pages++] = (bora_page){.class_id = c,
                                                       .dtype = BORA_DTYPE_F16,
                                                       .index = index,
                                                       .n = n,
                                                       .size = size,
                                                       .data = page_bytes(seed, c, index, size)};
        }
    }
    return made;
}

/* Makes a turn, commits it, and brings record up to what is stored now. */
__attribute__((unused)) static bora_status turn_commit(bora_db *db, bora_session_record *record, uint64_t seed,
                                                       size_t n_tokens, uint32_t n_classes, size_t position_size,
                                                       bora_error *err)
{
    made_turn *made = turn_make(record, seed, n_tokens, n_classes, position_size, false);
    bora_status st = bora_db_commit(db, OWNER, &made->turn, err);
    if (st == BORA_OK) {
        record->n_tokens += n_tokens;
        record->n_cached = made->turn.n_cached;
        record->n_turns++;
        record->n_messages += 2;
    }
    turn_release(made);
    return st;
}

/* The whole session is what commits of turn_make with this seed leave: no page missing from keep_from on, none damaged.
 */
__attribute__((unused)) static void assert_contents(fixture *f, const bora_session_record *record, uint64_t seed,
                                                    uint32_t n_classes, size_t position_size, const uint64_t *keep_from)
{
    bora_session_contents contents;
    ASSERT_OK(bora_db_load(f->db, OWNER, record->id, ALL_PARTS, &contents, &f->error));
    if (contents.damage)
        fail_msg("damage: %s", contents.damage);
    assert_int_equal(contents.n_tokens, record->n_tokens);
    assert_int_equal(contents.record.n_cached, record->n_cached);
    assert_int_equal(contents.record.n_turns, record->n_turns);
    for (size_t i = 0; i < contents.n_tokens; i++)
        assert_int_equal(contents.tokens[i], token_at(seed, i));
    assert_int_equal(contents.n_messages, 2 * record->n_turns);
    for (size_t i = 0; i < contents.n_messages; i++) {
        char expected[64];
        (void)snprintf(expected, sizeof expected, "%s %zu", i % 2 ? "answer" : "question", i / 2);
        assert_string_equal(contents.messages[i].text, expected);
        assert_string_equal(contents.messages[i].role, i % 2 ? "assistant" : "user");
        assert_int_equal(contents.messages[i].turn, i / 2);
    }
    size_t n = 0;
    for (uint32_t c = 0; c < n_classes; c++) {
        for (uint64_t index = keep_from ? keep_from[c] : 0; index * BORA_PAGE_POSITIONS < record->n_cached; index++) {
            assert_true(n < contents.n_pages);
            const bora_page *page = &contents.pages[n++];
            uint64_t left = record->n_cached - index * BORA_PAGE_POSITIONS;
            assert_int_equal(page->class_id, c);
            assert_int_equal(page->index, index);
            assert_int_equal(page->dtype, BORA_DTYPE_F16);
            assert_int_equal(page->n, left < BORA_PAGE_POSITIONS ? left : BORA_PAGE_POSITIONS);
            assert_int_equal(page->size, page->n * position_size);
            void *expected = page_bytes(seed, c, index, page->size);
            assert_memory_equal(page->data, expected, page->size);
            free(expected);
        }
    }
    assert_int_equal(n, contents.n_pages);
    bora_session_contents_release(&contents);
}

#endif
