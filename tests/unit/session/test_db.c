/* The session database: records, names, owners, turns, pages, and a random life against a simple model of it. */
#include "db_fixture.h"

#include <sys/stat.h>

/* ---- the file ------------------------------------------------------------------------------------------ */

static void test_file_is_private_and_has_its_settings(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    struct stat info;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    bora_session_record_release(&record);
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(suffixes); i++) {
        char path[BORA_TEMP_PATH_SIZE + 8];
        (void)snprintf(path, sizeof path, "%s%s", f->path, suffixes[i]);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
    }
    assert_int_equal(ask(f->path, "PRAGMA page_size"), 65536);
    assert_int_equal(ask(f->path, "PRAGMA user_version"), 1);
    assert_int_equal(ask(f->path, "PRAGMA application_id"), 0x626f7261);
    assert_int_equal(ask(f->path, "PRAGMA auto_vacuum"), 2);
    assert_int_equal(ask(f->path, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'"), 1);
}

static void test_second_opener_is_refused(void **state)
{
    fixture *f = *state;
    bora_db *second = NULL;
    ASSERT_FAILS(bora_db_open(f->path, NULL, &second, &f->error), BORA_E_BUSY, "in use");
    fixture_reopen(f); /* and is free again after close */
}

/* ---- records ------------------------------------------------------------------------------------------- */

static void test_create_and_find(void **state)
{
    fixture *f = *state;
    bora_session_record record, found;
    ASSERT_OK(bora_db_create(f->db, OWNER, "poems", "Be brief.", MODEL, "tiny", &record, &f->error));
    assert_string_equal(record.name, "poems");
    assert_string_equal(record.model, MODEL);
    assert_string_equal(record.model_name, "tiny");
    assert_string_equal(record.system, "Be brief.");
    assert_true(bora_session_id_like(record.id));
    assert_true(record.created > INT64_C(1600000000000) && record.created == record.updated);
    assert_int_equal(record.n_tokens + record.n_cached + record.n_messages + record.n_turns, 0);
    int64_t by_name, by_id;
    char upper[BORA_SESSION_ID_SIZE];
    for (size_t i = 0; i < sizeof upper; i++)
        upper[i] = record.id[i] >= 'a' ? (char)(record.id[i] - 32) : record.id[i];
    ASSERT_OK(bora_db_find(f->db, OWNER, "poems", &by_name, &found, &f->error));
    bora_session_record_release(&found);
    ASSERT_OK(bora_db_find(f->db, OWNER, upper, &by_id, &found, &f->error));
    assert_int_equal(by_name, by_id);
    assert_string_equal(found.id, record.id);
    bora_session_record_release(&found);
    bora_session_record_release(&record);
    ASSERT_FAILS(bora_db_create(f->db, OWNER, "poems", NULL, MODEL, "tiny", &record, &f->error), BORA_E_EXISTS,
                 "poems");
    ASSERT_OK(bora_db_create(f->db, "uid:1001", "poems", NULL, MODEL, "tiny", &record, &f->error));
    assert_null(record.system);
    bora_session_record_release(&record);
}

static void test_made_up_names_are_unique(void **state)
{
    fixture *f = *state;
    char names[24][BORA_SESSION_NAME_SIZE];
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++) {
        bora_session_record record;
        ASSERT_OK(bora_db_create(f->db, OWNER, i % 2 ? "" : NULL, NULL, MODEL, "tiny", &record, &f->error));
        memcpy(names[i], record.name, sizeof names[i]);
        assert_int_equal(bora_session_name_check(record.name, NULL), BORA_OK);
        assert_int_equal(strncmp(record.name, "chat-", 5), 0);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(names[i], names[j]);
        bora_session_record_release(&record);
        if (i % 5 == 3) { /* numbers behind the count are taken now */
            ASSERT_OK(bora_db_delete(f->db, OWNER, names[i - 2], NULL, &f->error));
            names[i - 2][0] = '\0';
        }
    }
}

static void test_list_is_newest_use_first(void **state)
{
    fixture *f = *state;
    bora_session_record records[3], *list = NULL;
    size_t n = 99;
    ASSERT_OK(bora_db_list(f->db, OWNER, &list, &n, &f->error));
    assert_int_equal(n, 0);
    bora_free(list);
    static const char *const names[] = {"one", "two", "three"};
    for (size_t i = 0; i < 3; i++)
        ASSERT_OK(bora_db_create(f->db, OWNER, names[i], NULL, MODEL, "tiny", &records[i], &f->error));
    for (size_t i = 0; i < 3; i++) { /* used last: two, then one, then three */
        static const size_t order[] = {2, 0, 1};
        records[order[i]].n_turns = 0;
        made_turn *made = turn_make(&records[order[i]], 1, 3, 1, 8, false);
        made->turn.answer_created = INT64_C(4000000000000) + (int64_t)i;
        ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
        turn_release(made);
    }
    ASSERT_OK(bora_db_list(f->db, OWNER, &list, &n, &f->error));
    assert_int_equal(n, 3);
    assert_string_equal(list[0].name, "two");
    assert_string_equal(list[1].name, "one");
    assert_string_equal(list[2].name, "three");
    assert_int_equal(list[0].updated, INT64_C(4000000000002));
    assert_int_equal(list[0].n_messages, 2);
    assert_int_equal(list[0].n_tokens, 3);
    for (size_t i = 0; i < 3; i++) {
        bora_session_record_release(&list[i]);
        bora_session_record_release(&records[i]);
    }
    bora_free(list);
}

static void test_rename_and_delete(void **state)
{
    fixture *f = *state;
    bora_session_record record, other, renamed;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", "sys", MODEL, "tiny", &record, &f->error));
    ASSERT_OK(bora_db_create(f->db, OWNER, "b", NULL, MODEL, "tiny", &other, &f->error));
    ASSERT_FAILS(bora_db_rename(f->db, OWNER, "a", "b", &renamed, &f->error), BORA_E_EXISTS, "'b'");
    ASSERT_FAILS(bora_db_rename(f->db, OWNER, "a", "x/y", &renamed, &f->error), BORA_E_INVAL, "'/'");
    ASSERT_FAILS(bora_db_rename(f->db, OWNER, "c", "d", &renamed, &f->error), BORA_E_NOT_FOUND, "'c'");
    ASSERT_OK(bora_db_rename(f->db, OWNER, "a", "c", &renamed, &f->error));
    assert_string_equal(renamed.name, "c");
    assert_string_equal(renamed.id, record.id);
    assert_string_equal(renamed.system, "sys");
    bora_session_record_release(&renamed);
    ASSERT_OK(bora_db_rename(f->db, OWNER, record.id, "c", &renamed, &f->error)); /* its own name */
    bora_session_record_release(&renamed);
    ASSERT_OK(turn_commit(f->db, &record, 3, 100, 2, 32, &f->error));
    char id[BORA_SESSION_ID_SIZE];
    ASSERT_OK(bora_db_delete(f->db, OWNER, "c", id, &f->error));
    assert_string_equal(id, record.id);
    ASSERT_FAILS(bora_db_delete(f->db, OWNER, "c", id, &f->error), BORA_E_NOT_FOUND, "'c'");
    assert_int_equal(ask(f->path, "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM token_run) + "
                                  "(SELECT count(*) FROM kv_page)"),
                     0);
    bora_session_record_release(&record);
    bora_session_record_release(&other);
}

static void test_deleting_makes_the_file_smaller(void **state)
{
    fixture *f = *state;
    bora_session_record keep, drop;
    struct stat before, after;
    ASSERT_OK(bora_db_create(f->db, OWNER, "drop", NULL, MODEL, "tiny", &drop, &f->error));
    ASSERT_OK(bora_db_create(f->db, OWNER, "keep", NULL, MODEL, "tiny", &keep, &f->error));
    ASSERT_OK(turn_commit(f->db, &drop, 1, 2048, 1, 16384, &f->error)); /* 32 MiB: more than one step of shrinking */
    ASSERT_OK(turn_commit(f->db, &keep, 2, 65, 1, 16384, &f->error));
    fixture_reopen(f);
    assert_int_equal(stat(f->path, &before), 0);
    ASSERT_OK(bora_db_delete(f->db, OWNER, "drop", NULL, &f->error));
    fixture_reopen(f);
    assert_int_equal(stat(f->path, &after), 0);
    assert_true(before.st_size > (32 << 20));
    assert_true(after.st_size < (2 << 20));
    assert_contents(f, &keep, 2, 1, 16384, NULL);
    bora_session_record_release(&keep);
    bora_session_record_release(&drop);
}

static void test_names_have_rules(void **state)
{
    (void)state;
    static const char *const good[] = {"a",
                                       "a b",
                                       "Gr\xc3\xbc\xc3\x9f"
                                       "e",
                                       "x-",
                                       "0123456789abcdef0123456789abcde",
                                       "0123456789abcdef0123456789abcdef0",
                                       "0123456789abcdef0123456789abcdeg",
                                       "0123456789012345678901234567890123456789012345678901234567890123"};
    static const char *const bad[] = {"",
                                      " a",
                                      "-a",
                                      "a/b",
                                      "a\nb",
                                      "a\x7f",
                                      "a\xc2\x85",
                                      "\xff",
                                      "a\xc3",
                                      "\xed\xa0\x80",
                                      "0123456789abcdef0123456789ABCDEF",
                                      "01234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(good); i++)
        assert_int_equal(bora_session_name_check(good[i], NULL), BORA_OK);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        bora_error error = {{0}};
        assert_int_equal(bora_session_name_check(bad[i], &error), BORA_E_INVAL);
        assert_non_null(strstr(error.message, "name"));
    }
}

static void test_ids_sort_by_time(void **state)
{
    (void)state;
    char earlier[BORA_SESSION_ID_SIZE], later[BORA_SESSION_ID_SIZE];
    assert_int_equal(bora_session_id_make(INT64_C(1790000000000), earlier, NULL), BORA_OK);
    assert_int_equal(bora_session_id_make(INT64_C(1790000000001), later, NULL), BORA_OK);
    assert_true(strcmp(earlier, later) < 0);
}

/* Every function, with the name and with the id of somebody else's session. */
static void test_other_owners_see_nothing(void **state)
{
    fixture *f = *state;
    bora_session_record record, out, *list;
    bora_session_contents contents;
    size_t n;
    static const char stranger[] = "uid:1001";
    ASSERT_OK(bora_db_create(f->db, OWNER, "mine", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 70, 1, 8, &f->error));
    const char *const names[] = {"mine", record.id};
    for (size_t i = 0; i < 2; i++) {
        int64_t key;
        ASSERT_FAILS(bora_db_find(f->db, stranger, names[i], &key, &out, &f->error), BORA_E_NOT_FOUND, names[i]);
        ASSERT_FAILS(bora_db_load(f->db, stranger, names[i], ALL_PARTS, &contents, &f->error), BORA_E_NOT_FOUND, "no");
        ASSERT_FAILS(bora_db_rename(f->db, stranger, names[i], "x", &out, &f->error), BORA_E_NOT_FOUND, "no session");
        ASSERT_FAILS(bora_db_delete(f->db, stranger, names[i], NULL, &f->error), BORA_E_NOT_FOUND, "no session");
    }
    made_turn *made = turn_make(&record, 1, 5, 1, 8, false);
    ASSERT_FAILS(bora_db_commit(f->db, stranger, &made->turn, &f->error), BORA_E_NOT_FOUND, "no session");
    turn_release(made);
    ASSERT_OK(bora_db_list(f->db, stranger, &list, &n, &f->error));
    assert_int_equal(n, 0);
    bora_free(list);
    assert_contents(f, &record, 1, 1, 8, NULL);
    bora_session_record_release(&record);
}

/* ---- turns --------------------------------------------------------------------------------------------- */

static void test_turns_come_back_whole(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    static const size_t sizes[] = {1, 63, 1, 64, 200, 2, 1000, 128};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++) {
        ASSERT_OK(turn_commit(f->db, &record, 7, sizes[i], 3, 24, &f->error));
        assert_contents(f, &record, 7, 3, 24, NULL);
    }
    fixture_reopen(f);
    assert_contents(f, &record, 7, 3, 24, NULL);
    bora_session_record_release(&record);
}

static void test_parts_are_loaded_as_asked(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 7, 100, 1, 24, &f->error));
    for (unsigned parts = 0; parts < 8; parts++) {
        bora_session_contents contents;
        ASSERT_OK(bora_db_load(f->db, OWNER, "a", parts, &contents, &f->error));
        assert_int_equal(contents.n_messages, parts & BORA_DB_MESSAGES ? 2 : 0);
        assert_int_equal(contents.n_tokens, parts & BORA_DB_TOKENS ? 100 : 0);
        assert_int_equal(contents.n_pages, parts & BORA_DB_PAGES ? 2 : 0);
        assert_int_equal(contents.record.n_tokens, 100);
        assert_int_equal(contents.record.n_messages, 2);
        bora_session_contents_release(&contents);
    }
    bora_session_record_release(&record);
}

static void test_texts_keep_zero_bytes_and_flags(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    made_turn *made = turn_make(&record, 1, 4, 1, 8, false);
    made->turn.answer_text = "be\0fore\0";
    made->turn.answer_size = 8;
    made->turn.interrupted = true;
    made->turn.system = "Speak.";
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    turn_release(made);
    record.n_tokens = 4, record.n_cached = 3, record.n_turns = 1;
    made = turn_make(&record, 1, 1, 1, 8, false);
    made->turn.answer_text = NULL; /* nothing came */
    made->turn.answer_size = 0;
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    turn_release(made);
    bora_session_contents contents;
    ASSERT_OK(bora_db_load(f->db, OWNER, "a", BORA_DB_MESSAGES, &contents, &f->error));
    assert_int_equal(contents.n_messages, 4);
    assert_int_equal(contents.messages[1].text_size, 8);
    assert_memory_equal(contents.messages[1].text, "be\0fore\0", 9);
    assert_true(contents.messages[1].interrupted);
    assert_false(contents.messages[0].interrupted);
    assert_int_equal(contents.messages[0].created, 1000);
    assert_int_equal(contents.messages[1].created, 1005);
    assert_int_equal(contents.messages[3].text_size, 0);
    assert_string_equal(contents.record.system, "Speak."); /* a turn without one does not take it away */
    bora_session_contents_release(&contents);
    bora_session_record_release(&record);
}

static void test_turns_must_follow_what_is_stored(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 70, 2, 8, &f->error));
    made_turn *made = turn_make(&record, 1, 70, 2, 8, false);
    bora_turn good = made->turn, *turn = &made->turn;
#define REFUSED(status, text)                                                                                          \
    do {                                                                                                               \
        ASSERT_FAILS(bora_db_commit(f->db, OWNER, turn, &f->error), status, text);                                     \
        *turn = good;                                                                                                  \
    } while (0)
    turn->first_token = 69;
    REFUSED(BORA_E_BUSY, "changed meanwhile");
    turn->first_token = 71;
    REFUSED(BORA_E_BUSY, "changed meanwhile");
    turn->turn = 0;
    REFUSED(BORA_E_INVAL, "turn 0");
    turn->turn = 2;
    REFUSED(BORA_E_INVAL, "turn 2");
    turn->model = "ffffffffffffffffffffffffffffffff";
    REFUSED(BORA_E_UNSUPPORTED, "model");
    turn->session_id = "ffffffffffffffffffffffffffffffff";
    REFUSED(BORA_E_NOT_FOUND, "no session");
    turn->session_id = "a";
    REFUSED(BORA_E_INVAL, "not an id");
    turn->n_cached = 141;
    REFUSED(BORA_E_INVAL, "cached");
    turn->n_cached = 68, turn->n_pages = 0;
    REFUSED(BORA_E_INVAL, "cached");
    turn->n_cached = 100, turn->n_pages = 0;
    REFUSED(BORA_E_INVAL, "0 new pages");
    turn->user_text = NULL;
    REFUSED(BORA_E_INVAL, "answer");
    turn->n_classes = BORA_CLASSES_MAX + 1;
    REFUSED(BORA_E_INVAL, "classes");
    turn->n_classes = 1;
    REFUSED(BORA_E_INVAL, "class 1");
    turn->first_token = UINT64_MAX;
    REFUSED(BORA_E_INVAL, "tokens at");
    turn->n_pages--; /* class 1 stops short of n_cached */
    REFUSED(BORA_E_INVAL, "end at");
    made->keep_from[1] = 2;
    REFUSED(BORA_E_INVAL, "at once");
    made->keep_from[1] = 0;
    made->tokens[3] = -1;
    REFUSED(BORA_E_INVAL, "token -1");
    made->tokens[3] = token_at(1, 73);
    bora_page page = made->pages[1];
#define BAD_PAGE(change, text)                                                                                         \
    do {                                                                                                               \
        made->pages[1].change;                                                                                         \
        REFUSED(BORA_E_INVAL, text);                                                                                   \
        made->pages[1] = page;                                                                                         \
    } while (0)
    BAD_PAGE(n = 0, "0 positions");
    BAD_PAGE(n = 65, "65 positions");
    BAD_PAGE(n = 10, "10 positions");
    BAD_PAGE(size = 0, "0 bytes");
    BAD_PAGE(data = NULL, "bytes");
    BAD_PAGE(index = 1, "positions");
    BAD_PAGE(index = 3, "positions");
    BAD_PAGE(index = UINT64_MAX, "positions");
    BAD_PAGE(class_id = BORA_CLASSES_MAX, "class 64");
    assert_contents(f, &record, 1, 2, 8, NULL); /* nothing of all that was stored */
    ASSERT_OK(bora_db_commit(f->db, OWNER, turn, &f->error));
    turn_release(made);
    bora_session_record_release(&record);
}

static void test_tokens_and_pages_alone(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    made_turn *made = turn_make(&record, 1, 70, 1, 8, false);
    made->turn.user_text = NULL;
    made->turn.answer_size = 0;
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    turn_release(made);
    record.n_tokens = 70, record.n_cached = 69;
    assert_contents(f, &record, 1, 1, 8, NULL);
    made = turn_make(&record, 1, 0, 0, 8, false); /* nothing at all is new */
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    turn_release(made);
    record.n_turns = 1;
    assert_contents(f, &record, 1, 1, 8, NULL);
    bora_session_record_release(&record);
}

static void test_pages_roll(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    uint64_t keep_from[2] = {0, 0};
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    for (int i = 0; i < 12; i++) { /* class 1 has a window of 128 */
        made_turn *made = turn_make(&record, 5, 50, 2, 16, false);
        keep_from[1] = made->turn.n_cached > 128 ? (made->turn.n_cached - 128) / 64 : 0;
        made->keep_from[1] = keep_from[1];
        ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
        record.n_tokens += 50, record.n_cached = made->turn.n_cached, record.n_turns++;
        turn_release(made);
        assert_contents(f, &record, 5, 2, 16, keep_from);
    }
    assert_true(keep_from[1] > 5);
    /* A turn longer than the window: what was stored before does not reach its pages, and goes. */
    made_turn *made = turn_make(&record, 5, 400, 2, 16, false);
    size_t n = 0;
    keep_from[1] = (made->turn.n_cached - 128) / 64;
    for (size_t i = 0; i < made->turn.n_pages; i++) {
        if (made->pages[i].class_id == 1 && made->pages[i].index <= keep_from[1])
            free(made->pages[i].data); /* not wholly held any more */
        else
            made->pages[n++] = made->pages[i];
    }
    made->turn.n_pages = n;
    made->keep_from[1] = 1; /* says too little */
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    record.n_tokens += 400, record.n_cached = made->turn.n_cached, record.n_turns++;
    turn_release(made);
    keep_from[1]++;
    assert_contents(f, &record, 5, 2, 16, keep_from);
    bora_session_record_release(&record);
}

static void test_all_pages_are_replaced(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 5, 300, 3, 16, &f->error));
    made_turn *made = turn_make(&record, 5, 10, 2, 32, true); /* another cache: fewer classes, larger pages */
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    record.n_tokens += 10, record.n_cached = made->turn.n_cached, record.n_turns++;
    turn_release(made);
    assert_contents(f, &record, 5, 2, 32, NULL);
    made = turn_make(&record, 5, 1, 0, 32, true); /* a cache that could not be handed out */
    made->turn.n_cached = 0;
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    turn_release(made);
    record.n_tokens++, record.n_cached = 0, record.n_turns++;
    assert_contents(f, &record, 5, 0, 32, NULL);
    bora_session_record_release(&record);
}

/* A turn reads and writes by its own pages: the same work for the database engine after 10 turns and after 300. */
static void test_cost_of_a_turn_does_not_grow(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    int early = 0, late = 0;
    do_not_wait(f);
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    static const bora_db_statement used[] = {BORA_DB_SESSION_HEAD,  BORA_DB_MESSAGE_INSERT,
                                             BORA_DB_TOKENS_INSERT, BORA_DB_PAGE_DELETE_BEFORE,
                                             BORA_DB_PAGE_INSERT,   BORA_DB_SESSION_UPDATE};
    for (int i = 0; i < 300; i++) {
        int steps = 0;
        for (size_t j = 0; j < BORA_ARRAY_SIZE(used); j++)
            (void)sqlite3_stmt_status(f->db->statements[used[j]], SQLITE_STMTSTATUS_VM_STEP, 1);
        made_turn *made = turn_make(&record, 5, 64, 2, 16, false);
        made->keep_from[0] = (uint64_t)i > 4 ? (uint64_t)i - 4 : 0;
        made->turn.n_classes = 2;
        ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
        record.n_tokens += 64, record.n_cached = made->turn.n_cached, record.n_turns++;
        turn_release(made);
        for (size_t j = 0; j < BORA_ARRAY_SIZE(used); j++)
            steps += sqlite3_stmt_status(f->db->statements[used[j]], SQLITE_STMTSTATUS_VM_STEP, 1);
        if (i == 10)
            early = steps;
        late = steps;
    }
    assert_true(early > 0);
    assert_true(late <= early + early / 4);
    bora_session_record_release(&record);
}

/* ---- a random life ------------------------------------------------------------------------------------- */

typedef struct life {
    bool exists;
    bora_session_record record; /* name, id, counts; system and model_name are not kept */
    uint64_t seed, keep_from[2];
} life;

static uint32_t random_below(uint64_t *random, uint32_t n)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*random >> 33) % n;
}

static void life_step(fixture *f, life *one, uint64_t *random, uint64_t seed)
{
    char name[BORA_SESSION_NAME_SIZE];
    uint32_t what = random_below(random, 20);
    if (!one->exists) {
        (void)snprintf(name, sizeof name, "s%llu", (unsigned long long)seed);
        ASSERT_OK(bora_db_create(f->db, OWNER, name, NULL, MODEL, "tiny", &one->record, &f->error));
        bora_session_record_release(&one->record);
        one->exists = true;
        one->seed = seed;
        one->keep_from[0] = one->keep_from[1] = 0;
    } else if (what == 0) {
        ASSERT_OK(bora_db_delete(f->db, OWNER, one->record.id, NULL, &f->error));
        one->exists = false;
    } else if (what == 1) {
        bora_session_record renamed;
        (void)snprintf(name, sizeof name, "r%llu", (unsigned long long)seed);
        ASSERT_OK(bora_db_rename(f->db, OWNER, one->record.name, name, &renamed, &f->error));
        memcpy(one->record.name, renamed.name, sizeof renamed.name);
        bora_session_record_release(&renamed);
    } else {
        bool replace = what == 2 && one->record.n_tokens < 1500;
        made_turn *made = turn_make(&one->record, one->seed, random_below(random, 150), 2, 40, replace);
        if (replace)
            one->keep_from[1] = 0;
        if (what < 15 && made->turn.n_cached > 256 && !replace)
            one->keep_from[1] = (made->turn.n_cached - 256) / 64;
        made->keep_from[1] = one->keep_from[1];
        size_t n = 0; /* pages that were not kept are not handed out */
        for (size_t i = 0; i < made->turn.n_pages; i++) {
            if (made->pages[i].class_id == 1 && made->pages[i].index < one->keep_from[1])
                free(made->pages[i].data);
            else
                made->pages[n++] = made->pages[i];
        }
        made->turn.n_pages = n;
        ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
        one->record.n_tokens += made->turn.n_tokens;
        one->record.n_cached = made->turn.n_cached;
        one->record.n_turns++;
        turn_release(made);
    }
}

static void test_random_life(void **state)
{
    fixture *f = *state;
    static life lives[5];
    memset(lives, 0, sizeof lives);
    uint64_t random = 20260117;
    for (uint64_t step = 1; step <= 400; step++) {
        life *one = &lives[random_below(&random, BORA_ARRAY_SIZE(lives))];
        life_step(f, one, &random, step);
        if (step % 50 == 0)
            fixture_reopen(f);
        do_not_wait(f);
        if (step % 10 != 0)
            continue;
        size_t n_alive = 0, n = 0;
        for (size_t i = 0; i < BORA_ARRAY_SIZE(lives); i++) {
            if (!lives[i].exists)
                continue;
            n_alive++;
            assert_contents(f, &lives[i].record, lives[i].seed, 2, 40, lives[i].keep_from);
        }
        bora_session_record *list = NULL;
        ASSERT_OK(bora_db_list(f->db, OWNER, &list, &n, &f->error));
        assert_int_equal(n, n_alive);
        for (size_t i = 0; i < n; i++) {
            bool known = false;
            for (size_t j = 0; j < BORA_ARRAY_SIZE(lives); j++)
                known = known || (lives[j].exists && strcmp(lives[j].record.name, list[i].name) == 0);
            assert_true(known);
            bora_session_record_release(&list[i]);
        }
        bora_free(list);
    }
    assert_int_equal(ask(f->path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
}

int main(void)
{
#define DB_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(test_file_is_private_and_has_its_settings),
        DB_TEST(test_second_opener_is_refused),
        DB_TEST(test_create_and_find),
        DB_TEST(test_made_up_names_are_unique),
        DB_TEST(test_list_is_newest_use_first),
        DB_TEST(test_rename_and_delete),
        DB_TEST(test_deleting_makes_the_file_smaller),
        cmocka_unit_test(test_names_have_rules),
        cmocka_unit_test(test_ids_sort_by_time),
        DB_TEST(test_other_owners_see_nothing),
        DB_TEST(test_turns_come_back_whole),
        DB_TEST(test_parts_are_loaded_as_asked),
        DB_TEST(test_texts_keep_zero_bytes_and_flags),
        DB_TEST(test_turns_must_follow_what_is_stored),
        DB_TEST(test_tokens_and_pages_alone),
        DB_TEST(test_pages_roll),
        DB_TEST(test_all_pages_are_replaced),
        DB_TEST(test_cost_of_a_turn_does_not_grow),
        DB_TEST(test_random_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
