/* All or nothing: memory that runs out at each step, ours and SQLite's; a disk that is full; a process that is killed.
 */
#include "db_fixture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- SQLite's memory ----------------------------------------------------------------------------------- */

/* SQLite's own allocator, with a counter before it. One thread. */
static sqlite3_mem_methods memory;
static struct {
    uint64_t n, fail_at; /* fail_at 0: never */
    bool once;           /* only that one, or all from there on */
} faults;

static bool refused(void)
{
    faults.n++;
    return faults.fail_at && (faults.once ? faults.n == faults.fail_at : faults.n >= faults.fail_at);
}

static void *faulty_malloc(int size)
{
    return refused() ? NULL : memory.xMalloc(size);
}

static void *faulty_realloc(void *old, int size)
{
    return refused() ? NULL : memory.xRealloc(old, size);
}

static void install_faults(void)
{
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory) != SQLITE_OK)
        abort();
    sqlite3_mem_methods faulty = memory;
    faulty.xMalloc = faulty_malloc;
    faulty.xRealloc = faulty_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &faulty) != SQLITE_OK)
        abort();
}

typedef enum fault_kind {
    FAULT_OURS,        /* bora_alloc and all after it */
    FAULT_SQLITE_ONCE, /* one of SQLite's */
    FAULT_SQLITE_ALL,  /* one of SQLite's and all after it */
    FAULT_KINDS
} fault_kind;

/* One loop: the first, second, ... allocation of a call fails, until all succeed.
 *
 *     for (fault_loop loop = {.kind = kind}; fault_next(&loop);) {
 *         fault_arm(&loop);
 *         bora_status st = call(...);
 *         fault_check(f, &loop, st);
 *     }
 *
 * The call either did nothing and said NOMEM, or everything (SQLite can do without some). */
typedef struct fault_loop {
    fault_kind kind;
    uint64_t n; /* which allocation fails */
    bool over;  /* the last call did not get that far */
    bool leap;  /* every step would take too long: greater and greater steps */
    unsigned n_failed;
} fault_loop;

static bool fault_next(fault_loop *loop)
{
    loop->n += 1 + (loop->leap ? loop->n / 6 : 0);
    return !loop->over;
}

static void fault_arm(const fault_loop *loop)
{
    faults.n = 0;
    faults.fail_at = loop->kind == FAULT_OURS ? 0 : loop->n;
    faults.once = loop->kind == FAULT_SQLITE_ONCE;
    (void)bora_memory_fail_at(loop->kind == FAULT_OURS ? loop->n : 0);
}

static void fault_check(const fixture *f, fault_loop *loop, bora_status st)
{
    uint64_t ours = bora_memory_fail_at(0), reached = loop->kind == FAULT_OURS ? ours : faults.n;
    faults.fail_at = 0;
    loop->over = reached < loop->n;
    loop->n_failed += st != BORA_OK;
    if (st != BORA_OK && (st != BORA_E_NOMEM || loop->over))
        fail_msg("allocation %u of kind %d: %s (%s)", (unsigned)loop->n, (int)loop->kind, bora_status_name(st),
                 f->error.message);
}

static void test_commit_without_memory(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    uint64_t keep_from[2] = {0, 0};
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 100, 2, 700, &f->error));
    for (fault_kind kind = FAULT_OURS; kind < FAULT_KINDS; kind++) {
        fault_loop loop = {.kind = kind};
        while (fault_next(&loop)) {
            made_turn *made = turn_make(&record, 1, 30, 2, 700, false);
            made->keep_from[1] = made->turn.n_cached / 64 > 1 ? made->turn.n_cached / 64 - 1 : 0;
            if (loop.n % 16 == 0)
                fixture_reopen(f); /* with empty caches */
            do_not_wait(f);
            fault_arm(&loop);
            bora_status st = bora_db_commit(f->db, OWNER, &made->turn, &f->error);
            fault_check(f, &loop, st);
            if (st == BORA_OK) {
                keep_from[1] = made->keep_from[1];
                record.n_tokens += 30, record.n_cached = made->turn.n_cached, record.n_turns++;
            }
            turn_release(made);
            assert_contents(f, &record, 1, 2, 700, keep_from);
            if (record.n_tokens > 700) { /* anew, before it gets too long for the test */
                ASSERT_OK(bora_db_delete(f->db, OWNER, "a", NULL, &f->error));
                bora_session_record_release(&record);
                ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
                keep_from[1] = 0;
            }
        }
        assert_true(kind == FAULT_OURS || loop.n_failed > 10); /* a commit allocates nothing of ours */
    }
    bora_session_record_release(&record);
}

static void test_load_without_memory(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    bora_session_contents contents;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", "system", MODEL, "tiny", &record, &f->error));
    for (int i = 0; i < 3; i++)
        ASSERT_OK(turn_commit(f->db, &record, 1, 100, 2, 1500, &f->error));
    tamper(f->path, "UPDATE kv_page SET xxh3 = 0 WHERE class = 1 AND page = 3"); /* the list of damage allocates, too */
    for (fault_kind kind = FAULT_OURS; kind < FAULT_KINDS; kind++) {
        fault_loop loop = {.kind = kind};
        while (fault_next(&loop)) {
            fault_arm(&loop);
            bora_status st = bora_db_load(f->db, OWNER, "a", ALL_PARTS, &contents, &f->error);
            fault_check(f, &loop, st);
            if (st != BORA_OK)
                continue;
            assert_int_equal(contents.n_pages, 9);
            assert_int_equal(contents.n_tokens, 300);
            assert_int_equal(contents.n_messages, 6);
            assert_string_equal(contents.record.system, "system");
            assert_non_null(contents.damage);
            bora_session_contents_release(&contents);
        }
        assert_true(loop.n_failed > 5);
    }
    bora_session_record_release(&record);
}

static size_t count_sessions(fixture *f)
{
    bora_session_record *list = NULL;
    size_t n = 0;
    ASSERT_OK(bora_db_list(f->db, OWNER, &list, &n, &f->error));
    for (size_t i = 0; i < n; i++)
        bora_session_record_release(&list[i]);
    bora_free(list);
    return n;
}

static void create_without_memory(fixture *f, fault_kind kind)
{
    fault_loop loop = {.kind = kind};
    while (fault_next(&loop)) {
        bora_session_record record;
        size_t n = count_sessions(f);
        fault_arm(&loop);
        bora_status st = bora_db_create(f->db, OWNER, NULL, "system", MODEL, "tiny", &record, &f->error);
        fault_check(f, &loop, st);
        assert_int_equal(count_sessions(f), n + (st == BORA_OK));
        if (st == BORA_OK)
            bora_session_record_release(&record);
    }
    assert_true(loop.n_failed > 1);
}

static void list_without_memory(fixture *f, fault_kind kind)
{
    fault_loop loop = {.kind = kind};
    while (fault_next(&loop)) {
        bora_session_record *list;
        size_t n, n_before = count_sessions(f);
        fault_arm(&loop);
        bora_status st = bora_db_list(f->db, OWNER, &list, &n, &f->error);
        fault_check(f, &loop, st);
        if (st != BORA_OK)
            continue;
        assert_int_equal(n, n_before);
        for (size_t i = 0; i < n; i++)
            bora_session_record_release(&list[i]);
        bora_free(list);
    }
}

static void rename_without_memory(fixture *f, fault_kind kind)
{
    fault_loop loop = {.kind = kind};
    static const char *const names[] = {"ping", "pong"};
    size_t now = 0;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, names[now], NULL, MODEL, "tiny", &record, &f->error));
    while (fault_next(&loop)) {
        bora_session_record out;
        int64_t key;
        fault_arm(&loop);
        bora_status st = bora_db_rename(f->db, OWNER, record.id, names[1 - now], &out, &f->error);
        fault_check(f, &loop, st);
        if (st == BORA_OK) {
            bora_session_record_release(&out);
            now = 1 - now;
        }
        ASSERT_OK(bora_db_find(f->db, OWNER, names[now], &key, &out, &f->error));
        bora_session_record_release(&out);
    }
    ASSERT_OK(bora_db_delete(f->db, OWNER, record.id, NULL, &f->error));
    bora_session_record_release(&record);
}

static void delete_without_memory(fixture *f, fault_kind kind)
{
    fault_loop loop = {.kind = kind};
    bool exists = false;
    while (fault_next(&loop)) {
        bora_session_record record;
        if (!exists) {
            ASSERT_OK(bora_db_create(f->db, OWNER, "drop", NULL, MODEL, "tiny", &record, &f->error));
            ASSERT_OK(turn_commit(f->db, &record, 1, 80, 1, 2000, &f->error));
            bora_session_record_release(&record);
        }
        size_t n = count_sessions(f);
        fault_arm(&loop);
        bora_status st = bora_db_delete(f->db, OWNER, "drop", NULL, &f->error);
        fault_check(f, &loop, st);
        exists = st != BORA_OK;
        assert_int_equal(count_sessions(f), n - !exists);
    }
}

static void test_records_without_memory(void **state)
{
    fixture *f = *state;
    do_not_wait(f);
    for (fault_kind kind = FAULT_OURS; kind < FAULT_KINDS; kind++) {
        create_without_memory(f, kind);
        list_without_memory(f, kind);
        rename_without_memory(f, kind);
        delete_without_memory(f, kind);
    }
    assert_int_equal(ask(f->path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
}

/* An old file and a new one. They wait for the disk at each step. */
static void open_without_memory(fixture *f, fault_kind kind, const char *path, bool anew)
{
    fault_loop loop = {.kind = kind, .leap = true};
    while (fault_next(&loop)) {
        bora_db_close(f->db);
        f->db = NULL;
        if (anew)
            (void)unlink(path); /* the first time there is none */
        fault_arm(&loop);
        bora_status st = bora_db_open(path, NULL, &f->db, &f->error);
        fault_check(f, &loop, st);
    }
    assert_true(loop.n_failed >= 2);
}

static void test_open_without_memory(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_path(&f->folder, "new.db", path);
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 100, 1, 100, &f->error));
    for (fault_kind kind = FAULT_OURS; kind < FAULT_KINDS; kind++) {
        open_without_memory(f, kind, path, true);
        open_without_memory(f, kind, f->path, false);
        assert_contents(f, &record, 1, 1, 100, NULL);
    }
    bora_session_record_release(&record);
}

/* ---- no room ------------------------------------------------------------------------------------------- */

/* A turn that replaces and deletes pages and does not fit; then, with room, the same turn. */
static void commit_in_vain_then_well(fixture *f, bora_session_record *record, void (*room)(fixture *f, bool enough))
{
    made_turn *made = turn_make(record, 1, 300, 2, 8192, false);
    made->keep_from[1] = 1;
    room(f, false);
    bora_status st = bora_db_commit(f->db, OWNER, &made->turn, &f->error);
    bora_error error = f->error;
    bora_session_contents contents;
    bora_status load = bora_db_load(f->db, OWNER, "a", ALL_PARTS, &contents, &f->error);
    room(f, true);
    if (st != BORA_E_FULL)
        fail_msg("%s (%s)", bora_status_name(st), error.message);
    ASSERT_OK(load); /* reading needs no room */
    assert_int_equal(contents.n_tokens, record->n_tokens);
    bora_session_contents_release(&contents);
    assert_contents(f, record, 1, 2, 8192, NULL);
    ASSERT_OK(bora_db_commit(f->db, OWNER, &made->turn, &f->error));
    record->n_tokens += 300, record->n_cached = made->turn.n_cached, record->n_turns++;
    turn_release(made);
    assert_contents(f, record, 1, 2, 8192, (uint64_t[]){0, 1});
    fixture_reopen(f);
    assert_contents(f, record, 1, 2, 8192, (uint64_t[]){0, 1});
}

static void pages_room(fixture *f, bool enough)
{
    char sql[64];
    (void)snprintf(sql, sizeof sql, "PRAGMA max_page_count = %d", enough ? 1000000 : 1); /* 1: what it has now */
    assert_int_equal(sqlite3_exec(f->db->sqlite, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void test_full_database(void **state)
{
    fixture *f = *state;
    bora_session_record record, other;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 100, 2, 8192, &f->error));
    commit_in_vain_then_well(f, &record, pages_room);
    pages_room(f, false);
    static char system[100000];
    memset(system, 'x', sizeof system - 1);
    ASSERT_FAILS(bora_db_create(f->db, OWNER, "b", system, MODEL, "tiny", &other, &f->error), BORA_E_FULL, "full");
    ASSERT_OK(bora_db_delete(f->db, OWNER, "a", NULL, &f->error)); /* is how one makes room */
    pages_room(f, true);
    ASSERT_OK(bora_db_create(f->db, OWNER, "b", system, MODEL, "tiny", &other, &f->error));
    bora_session_record_release(&other);
    bora_session_record_release(&record);
}

static void limit_files(rlim_t size)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static off_t log_size(const fixture *f)
{
    char path[BORA_TEMP_PATH_SIZE + 8];
    struct stat info;
    (void)snprintf(path, sizeof path, "%s-wal", f->path);
    return stat(path, &info) == 0 ? info.st_size : 0;
}

static void files_room(fixture *f, bool enough)
{
    limit_files(enough ? RLIM_INFINITY : (rlim_t)log_size(f) + 100000);
}

static void test_full_disk(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 100, 2, 8192, &f->error));
    commit_in_vain_then_well(f, &record, files_room);
    bora_session_record_release(&record);
    (void)signal(SIGXFSZ, before);
}

/* The disk is full at every possible step of a commit: one frame of the log more each time. */
static void test_full_disk_at_each_step(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    unsigned n_full = 0;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    ASSERT_OK(turn_commit(f->db, &record, 1, 70, 2, 1024, &f->error));
    off_t start = log_size(f);
    for (off_t more = 0;; more += 20000) {
        limit_files((rlim_t)(start + more));
        bora_status st = turn_commit(f->db, &record, 1, 70, 2, 1024, &f->error);
        limit_files(RLIM_INFINITY);
        if (st != BORA_OK && st != BORA_E_FULL)
            fail_msg("%s (%s)", bora_status_name(st), f->error.message);
        assert_contents(f, &record, 1, 2, 1024, NULL);
        if (st == BORA_OK)
            break;
        n_full++;
    }
    assert_true(n_full > 10);
    fixture_reopen(f);
    assert_contents(f, &record, 1, 2, 1024, NULL);
    bora_session_record_release(&record);
    (void)signal(SIGXFSZ, before);
}

/* No room even to begin: opening a new file, and one with a log to bring in. */
static void test_full_disk_when_opening(void **state)
{
    fixture *f = *state;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    bora_db_close(f->db);
    f->db = NULL;
    assert_int_equal(unlink(f->path), 0);
    for (rlim_t limit = 0; limit <= 400000; limit += 50000) {
        limit_files(limit);
        bora_status st = bora_db_open(f->path, NULL, &f->db, &f->error);
        bora_db_close(f->db);
        f->db = NULL;
        limit_files(RLIM_INFINITY);
        if (st != BORA_OK && st != BORA_E_FULL)
            fail_msg("limit %u: %s (%s)", (unsigned)limit, bora_status_name(st), f->error.message);
        assert_true(limit != 0 || st == BORA_E_FULL);
    }
    ASSERT_OK(bora_db_open(f->path, NULL, &f->db, &f->error));
    (void)signal(SIGXFSZ, before);
}

/* ---- a process that is killed -------------------------------------------------------------------------- */

#define KILL_SIZE 4096 /* bytes per position: four frames of the log for a whole page */

/* Commits turn after turn and reports the number of each through fd. Never returns. */
__attribute__((noreturn)) static void commit_until_killed(const char *path, const bora_session_record *start, int fd)
{
    bora_db *db = NULL;
    bora_session_record record = *start;
    if (bora_db_open(path, NULL, &db, NULL) != BORA_OK ||
        sqlite3_exec(db->sqlite, "PRAGMA wal_autocheckpoint = 20", NULL, NULL, NULL) != SQLITE_OK)
        _exit(1);
    while (record.n_tokens < 100000) {
        made_turn *made = turn_make(&record, 9, 40, 2, KILL_SIZE, false);
        made->keep_from[1] = made->turn.n_cached / 64 > 2 ? made->turn.n_cached / 64 - 2 : 0;
        if (bora_db_commit(db, OWNER, &made->turn, NULL) != BORA_OK)
            _exit(2);
        record.n_tokens += 40, record.n_cached = made->turn.n_cached, record.n_turns++;
        turn_release(made);
        if (write(fd, &record.n_turns, sizeof record.n_turns) != sizeof record.n_turns)
            _exit(3);
    }
    _exit(4);
}

static void test_killed_process_loses_nothing(void **state)
{
    fixture *f = *state;
    bora_session_record record;
    ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
    unsigned n_ahead = 0;
    for (uint64_t round = 0; round < 10; round++) {
        bora_db_close(f->db);
        f->db = NULL;
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)close(pipes[0]);
            commit_until_killed(f->path, &record, pipes[1]);
        }
        (void)close(pipes[1]);
        /* Some turns, then killed at a moment that differs from round to round: that is the point, nothing waits for
         * it. */
        uint64_t reported = record.n_turns, got;
        while (reported < record.n_turns + 2 + round % 4)
            assert_int_equal(read(pipes[0], &reported, sizeof reported), sizeof reported);
        struct pollfd fd = {.fd = -1};
        (void)poll(&fd, 1, (int)(round * 3 % 10));
        assert_int_equal(kill(child, SIGKILL), 0);
        while (read(pipes[0], &got, sizeof got) == sizeof got)
            reported = got;
        (void)close(pipes[0]);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);

        ASSERT_OK(bora_db_open(f->path, NULL, &f->db, &f->error));
        bora_session_contents contents;
        ASSERT_OK(bora_db_load(f->db, OWNER, "a", 0, &contents, &f->error));
        /* All that was reported, and at most the one whose report was not sent. */
        assert_true(contents.record.n_turns == reported || contents.record.n_turns == reported + 1);
        n_ahead += contents.record.n_turns > reported;
        record.n_turns = contents.record.n_turns;
        bora_session_contents_release(&contents);
        record.n_tokens = 40 * record.n_turns, record.n_cached = record.n_tokens - 1;
        uint64_t newest = record.n_cached / 64;
        assert_contents(f, &record, 9, 2, KILL_SIZE, (uint64_t[]){0, newest > 2 ? newest - 2 : 0});
        if (record.n_tokens > 800) {
            ASSERT_OK(bora_db_delete(f->db, OWNER, "a", NULL, &f->error));
            bora_session_record_release(&record);
            ASSERT_OK(bora_db_create(f->db, OWNER, "a", NULL, MODEL, "tiny", &record, &f->error));
        }
    }
    print_message("killed between a commit and its report: %u of 10\n", n_ahead);
    assert_int_equal(ask(f->path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
    bora_session_record_release(&record);
}

int main(void)
{
    install_faults();
#define DB_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        DB_TEST(test_commit_without_memory),
        DB_TEST(test_load_without_memory),
        DB_TEST(test_records_without_memory),
        DB_TEST(test_open_without_memory),
        DB_TEST(test_full_database),
        DB_TEST(test_full_disk),
        DB_TEST(test_full_disk_at_each_step),
        DB_TEST(test_full_disk_when_opening),
        DB_TEST(test_killed_process_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
