/* Many sessions in little memory: half as much again as the daemon needs for itself, for sessions that together would
 * need several times what is left. All of them go on to their end, none loses anything, and neither the daemon's own
 * books nor the system ever see it take more than it may.
 *
 * The same conversations are held before in a daemon with ample memory: what it says is what must be said. */
#include "integration/process.h"
#include "support/chat.h"
#include "support/daemon.h"
#include "support/skip.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_CLIENTS     16
#define SESSIONS_MAX  200
#define N_TURNS       3
#define N_TOKENS      16 /* of an answer */
#define OPEN_MAX      40 /* turns that may be open at once: with more sessions the others are told that it is busy */
#define SAMPLE_EVERY  32 /* events between two looks at the daemon */
#define TEXT_SIZE_MAX 1024

/* No window and f32: every token of every session takes 2 KiB, in the cache and in the store. */
#define SETTINGS                                                                                                       \
    "--threads", "2", "--set", "model.window=none", "--set", "cache.type=f32", "--set", "engine.context=16384",        \
        "--set", "cache.slack=64", "--set", "engine.chunk=64", "--set", "engine.batch_tokens=128", "--set",            \
        "sessions.live_max=1000", "--set", "sessions.open_per_owner=40"

typedef struct turn {
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
    char *text;
} turn;

typedef struct talk {
    bora_test_answer answer;
    size_t turn;     /* that is being said, or comes next */
    bool is_open;    /* on its way */
    bool is_refused; /* busy: it is said again when somebody has ended */
} talk;

typedef struct world {
    uint64_t idle;                            /* bytes that a daemon takes with nobody there */
    turn expected[SESSIONS_MAX][N_TURNS + 1]; /* as said with ample memory; the last one is the resumption */
    int32_t *histories[SESSIONS_MAX];         /* [n_histories]: of the whole sessions, resumption included */
    size_t n_histories[SESSIONS_MAX];
    size_t n_sessions;
} world;

typedef struct fixture {
    bora_test_daemon daemon;
    bora_client *clients[N_CLIENTS + 1]; /* the last one watches */
    bora_client *watcher;
    talk talks[SESSIONS_MAX];
    size_t n_sessions;
    bool is_first;  /* what is said is what will be expected */
    uint64_t limit; /* 0: ample */
    uint64_t n_busy, n_events, anon_kib_max, used_max;
    char cgroup[128]; /* to be removed */
} fixture;

static world world_;

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void close_clients(fixture *f)
{
    for (size_t i = 0; i <= N_CLIENTS; i++) {
        bora_client_close(f->clients[i]);
        f->clients[i] = NULL;
    }
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    return f && bora_test_daemon_init(&f->daemon) ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        bora_test_answer_release(&f->talks[i].answer);
    close_clients(f);
    bora_test_daemon_release(&f->daemon);
    if (*f->cgroup)
        (void)rmdir(f->cgroup);
    free(f);
    return 0;
}

static void start(fixture *f, uint64_t limit)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)(limit ? limit : UINT64_C(4) << 30));
    const char *const arguments[] = {SETTINGS, "--memory-limit", text, NULL};
    int code = 0;
    if (!bora_test_daemon_start(&f->daemon, arguments, &code))
        fail_msg("borad did not start: %d", code);
    for (size_t i = 0; i <= N_CLIENTS; i++)
        assert_non_null(f->clients[i] = bora_test_connect(f->daemon.socket));
    f->watcher = f->clients[N_CLIENTS];
    f->limit = limit;
}

/* It goes without a word about memory that nobody gave back. */
static void end(fixture *f)
{
    close_clients(f);
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
}

/* ---- what is watched -----------------------------------------------------------------------------------------------
 */

static uint64_t memory_of(fixture *f, const char *key)
{
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_daemon_status(f->watcher, &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *memory = bora_client_value_get(bora_client_result_value(result), "memory");
    uint64_t value = bora_client_value_uint(bora_client_value_get(memory, key), UINT64_MAX);
    bora_client_result_free(result);
    return value;
}

static void look(fixture *f)
{
    const uint64_t used = memory_of(f, "used"), anon = process_number(f->daemon.pid, "RssAnon");
    f->used_max = used > f->used_max ? used : f->used_max;
    f->anon_kib_max = anon > f->anon_kib_max ? anon : f->anon_kib_max;
    if (!f->limit)
        return;
    assert_true(used <= f->limit);
    if (!PROCESS_IS_SANITIZED)
        assert_true(anon * 1024 <= f->limit);
}

/* ---- talking -------------------------------------------------------------------------------------------------------
 */

/* A story of its own for each session, some hundred tokens to begin with. */
static void text_of(size_t i, size_t t, char ret_text[TEXT_SIZE_MAX])
{
    static const char *const who[] = {"bear", "fox", "dog", "bird", "cat", "horse", "mouse"};
    static const char *const where[] = {"library", "bedroom", "garden", "kitchen", "wood"};
    size_t n = t == 0 ? 8 : 3, size = 0;
    for (size_t k = 0; k < n; k++)
        size +=
            (size_t)snprintf(ret_text + size, TEXT_SIZE_MAX - size, "In the %s of house %zu sits the %s number %zu. ",
                             where[(i + k) % 5], i, who[(i + t + k) % 7], k + t);
    (void)snprintf(ret_text + size, TEXT_SIZE_MAX - size, "Tell me a story about the %s.", who[(i + t) % 7]);
}

static void name_of(size_t i, char ret_name[32])
{
    (void)snprintf(ret_name, 32, "session-%zu", i);
}

static void say(fixture *f, size_t i)
{
    talk *t = &f->talks[i];
    char text[TEXT_SIZE_MAX], name[32];
    text_of(i, t->turn, text);
    name_of(i, name);
    bora_client_generation g = {.text = text,
                                .text_size = strlen(text),
                                .session = name,
                                .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE,
                                .max_tokens = N_TOKENS,
                                .ignore_eos = true};
    t->is_open = true;
    t->is_refused = false;
    assert_int_equal(bora_test_answer_submit(f->clients[i % N_CLIENTS], &g, &t->answer), BORA_CLIENT_OK);
}

/* In full, stored, nothing run again; and what it has to be. */
static void check_turn(fixture *f, size_t i, size_t t)
{
    const bora_test_answer *a = &f->talks[i].answer;
    turn *expected = &world_.expected[i][t];
    assert_null(a->disorder);
    assert_true(a->has_done && a->stored);
    assert_string_equal(a->reason, "length");
    assert_int_equal(a->n_tokens, N_TOKENS);
    assert_int_equal(a->turn, t);
    assert_int_equal(a->n_rerun, 0);
    if (f->is_first) {
        *expected =
            (turn){.tokens = malloc(N_TOKENS * sizeof(int32_t)), .n_tokens = a->n_tokens, .text = strdup(a->text)};
        assert_non_null(expected->tokens);
        memcpy(expected->tokens, a->tokens, N_TOKENS * sizeof(int32_t));
    }
    if (memcmp(a->tokens, expected->tokens, N_TOKENS * sizeof(int32_t)) != 0 || strcmp(a->text, expected->text) != 0)
        fail_msg("session %zu, turn %zu: '%s', not '%s'", i, t, a->text, expected->text);
}

/* The answer has ended. True if somebody else may have room now. */
static bool take(fixture *f, size_t i)
{
    talk *t = &f->talks[i];
    bool is_over = t->answer.status == BORA_CLIENT_OK;
    t->is_open = false;
    if (is_over) {
        check_turn(f, i, t->turn);
        t->turn++;
    } else if (strcmp(t->answer.error.code, "busy") == 0) { /* the one refusal that is allowed */
        f->n_busy++;
        t->is_refused = true;
    } else {
        fail_msg("session %zu, turn %zu: %s: %s", i, t->turn, t->answer.error.code, t->answer.error.message);
    }
    bora_test_answer_release(&t->answer);
    return is_over;
}

/* All sessions at once, each up to n_turns. act (may be NULL) is called in every round. */
static void converse(fixture *f, size_t n_turns, void (*act)(fixture *f))
{
    size_t n_left = 0;
    for (size_t i = 0; i < f->n_sessions; i++) {
        n_left += n_turns - f->talks[i].turn;
        say(f, i);
    }
    uint64_t n_room = 0; /* answers that have ended and whose place nobody has taken yet */
    for (uint64_t round = 0; n_left; round++) {
        assert_true(bora_test_dispatch(f->clients, N_CLIENTS + 1));
        for (size_t i = 0; i < f->n_sessions; i++)
            if (f->talks[i].is_open && f->talks[i].answer.has_ended && take(f, i)) {
                n_room++;
                n_left--;
            }
        /* Whoever was refused comes before those who had their turn. */
        for (size_t k = 0; k < 2 * f->n_sessions && n_room > 0; k++) {
            const talk *t = &f->talks[k % f->n_sessions];
            if (t->is_open || t->turn >= n_turns || (k < f->n_sessions && !t->is_refused))
                continue;
            n_room--;
            say(f, k % f->n_sessions);
        }
        if (round % SAMPLE_EVERY == 0)
            look(f);
        if (act)
            act(f);
    }
}

/* Every session as it is kept: its tokens. */
static void check_histories(fixture *f)
{
    for (size_t i = 0; i < f->n_sessions; i++) {
        char name[32];
        size_t n = 0, n_messages = 0;
        name_of(i, name);
        int32_t *tokens = bora_test_session_tokens(f->watcher, name, &n, &n_messages);
        assert_non_null(tokens);
        assert_int_equal(n_messages, 2 * (N_TURNS + 1));
        if (f->is_first) {
            world_.histories[i] = tokens;
            world_.n_histories[i] = n;
            continue;
        }
        assert_int_equal(n, world_.n_histories[i]);
        assert_memory_equal(tokens, world_.histories[i], n * sizeof *tokens);
        free(tokens);
    }
}

/* ---- with ample memory ------------------------------------------------------------------------------------------- */

static int make_world(void **state)
{
    (void)state;
    void *made = NULL;
    if (set_up(&made) != 0)
        return -1;
    fixture *f = made;
    world_.n_sessions = SESSIONS_MAX;
    f->n_sessions = world_.n_sessions;
    f->is_first = true;
    start(f, 0);
    bora_client_generation g = {.prompt = "hey", .prompt_size = 3, .set = BORA_CLIENT_SET_MAX_TOKENS, .max_tokens = 4};
    bora_test_answer answer = {0};
    (void)bora_test_answer_get(f->clients[0], &g, &answer); /* the model is loaded */
    bora_test_answer_release(&answer);
    world_.idle = memory_of(f, "used") - memory_of(f, "kv");
    converse(f, N_TURNS, NULL);
    look(f);
    print_message("%zu sessions, with ample memory: idle %llu KiB, at the end %llu KiB\n", f->n_sessions,
                  (unsigned long long)world_.idle >> 10, (unsigned long long)f->used_max >> 10);
    converse(f, N_TURNS + 1, NULL);
    check_histories(f);
    /* What is tried below is something: twice over the sessions would not fit. */
    assert_true(PROCESS_IS_SANITIZED || f->used_max - world_.idle > world_.idle);
    end(f);
    return tear_down(&made);
}

static int free_world(void **state)
{
    (void)state;
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        free(world_.histories[i]);
        for (size_t t = 0; t <= N_TURNS; t++) {
            free(world_.expected[i][t].tokens);
            free(world_.expected[i][t].text);
        }
    }
    return 0;
}

/* ---- with little ---------------------------------------------------------------------------------------------------
 */

static void assert_peak(fixture *f)
{
    const uint64_t peak = memory_of(f, "peak");
    assert_int_equal(memory_of(f, "limit"), f->limit);
    assert_true(peak <= f->limit);
    /* It was used: more than half of what the idle daemon leaves. */
    assert_true(peak > world_.idle + (f->limit - world_.idle) / 2);
}

/* Whole conversations, then all of them resumed in another daemon. */
static void talk_in_little_memory(fixture *f, const char *what)
{
    start(f, world_.idle + world_.idle / 2);
    converse(f, N_TURNS, NULL);
    look(f);
    assert_peak(f);
    if (f->n_sessions > OPEN_MAX)
        assert_true(f->n_busy > 0);
    print_message("%s: %zu sessions in %llu KiB: peak %llu KiB, RssAnon %llu KiB, VmHWM %llu KiB, %llu times busy\n",
                  what, f->n_sessions, (unsigned long long)f->limit >> 10,
                  (unsigned long long)memory_of(f, "peak") >> 10, (unsigned long long)f->anon_kib_max,
                  (unsigned long long)process_number(f->daemon.pid, "VmHWM"), (unsigned long long)f->n_busy);
    /* The most that was ever resident, looked at or not; program and model are files, which others share. */
    const uint64_t hwm = process_number(f->daemon.pid, "VmHWM"), files = process_number(f->daemon.pid, "RssFile");
    if (!PROCESS_IS_SANITIZED)
        assert_true((hwm - files) * 1024 <= f->limit);
    end(f);
    start(f, f->limit);
    converse(f, N_TURNS + 1, NULL);
    check_histories(f);
    end(f);
}

/* RLIMIT_DATA is the witness: of what the process writes in private, anything beyond the limit is refused by the
 * system, and nothing here can do with a refusal. The stacks of threads count there in full, used or not, and are not
 * in the daemon's books: they are allowed on top. */
static void all_go_on_and_none_is_lost(void **state)
{
    fixture *f = *state;
    struct rlimit stack;
    f->n_sessions = world_.n_sessions;
    if (!PROCESS_IS_SANITIZED) {
        start(f, 0);
        uint64_t n_threads = process_number(f->daemon.pid, "Threads") + 1; /* and the one that loads the model */
        assert_int_equal(getrlimit(RLIMIT_STACK, &stack), 0);
        uint64_t each = stack.rlim_cur == RLIM_INFINITY ? UINT64_C(2) << 20 : stack.rlim_cur;
        end(f);
        f->daemon.data_limit = world_.idle + world_.idle / 2 + n_threads * each;
    }
    talk_in_little_memory(f, "RLIMIT_DATA");
}

/* One that can never fit, asked for in the midst of it all: it is told so, not queued. */
static bool is_large_asked;

static void ask_for_too_much(fixture *f)
{
    if (is_large_asked || bora_test_number(f->watcher, "status", "n_waiting") == 0)
        return;
    bora_test_answer large = {0};
    is_large_asked = true;
    bora_client_generation g = {.prompt = "Once upon a time",
                                .prompt_size = 16,
                                .ignore_eos = true,
                                .set = BORA_CLIENT_SET_MAX_TOKENS,
                                .max_tokens = 16000};
    uint64_t before = bora_test_number(f->watcher, "status", "n_generated_tokens");
    assert_int_equal(bora_test_answer_get(f->watcher, &g, &large), BORA_CLIENT_E_REFUSED);
    uint64_t after = bora_test_number(f->watcher, "status", "n_generated_tokens");
    assert_string_equal(large.error.code, "limit");
    assert_non_null(strstr(large.error.message, "too large"));
    assert_true(after - before < 10 * 16); /* some steps of those that run, not their answers and more */
    bora_test_answer_release(&large);
}

static void what_never_fits_is_refused_at_once(void **state)
{
    fixture *f = *state;
    f->n_sessions = OPEN_MAX - 2;
    start(f, world_.idle + world_.idle / 2);
    converse(f, N_TURNS, ask_for_too_much);
    assert_true(is_large_asked);
    assert_int_equal(f->n_busy, 0);
    end(f);
}

/* ---- a control group ------------------------------------------------------------------------------------------- */

static bool write_number(const char *folder, const char *file, uint64_t number)
{
    char path[192];
    (void)snprintf(path, sizeof path, "%.120s/%.60s", folder, file);
    FILE *to = fopen(path, "r+"); /* the kernel's, or none: it is not made */
    bool written = to && fprintf(to, "%llu", (unsigned long long)number) > 0;
    return to && fclose(to) == 0 && written;
}

/* 0: it cannot be read. */
static uint64_t read_number(const char *folder, const char *file)
{
    char path[192];
    unsigned long long number = 0;
    (void)snprintf(path, sizeof path, "%.120s/%.60s", folder, file);
    FILE *from = fopen(path, "r");
    if (from && fscanf(from, "%llu", &number) != 1)
        number = 0;
    if (from)
        (void)fclose(from);
    return number;
}

/* A group with the limit, of the second or first version; false: none can be made here. */
static bool make_cgroup(fixture *f, uint64_t limit, const char **ret_peak_file)
{
    static const struct {
        const char *root, *limit, *peak;
    } versions[] = {
        {"/sys/fs/cgroup", "memory.max", "memory.peak"},
        {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"},
    };
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(f->cgroup, sizeof f->cgroup, "%s/bora-test-%d", versions[i].root, (int)getpid());
        *ret_peak_file = versions[i].peak;
        if (mkdir(f->cgroup, 0755) != 0)
            continue;
        if (write_number(f->cgroup, versions[i].limit, limit))
            return true;
        (void)rmdir(f->cgroup);
    }
    f->cgroup[0] = '\0';
    return false;
}

/* The kernel is the witness: it would kill what takes more. Sockets, page tables and files count there too. */
static void in_a_control_group(void **state)
{
    fixture *f = *state;
    const uint64_t limit = world_.idle + world_.idle / 2;
    const char *peak_file = NULL;
    if (PROCESS_IS_SANITIZED)
        BORA_SKIP("a sanitizer's own memory is more than the limit");
    if (!make_cgroup(f, limit, &peak_file))
        BORA_SKIP("no control group with a memory limit can be made here");
    (void)snprintf(f->daemon.cgroup, sizeof f->daemon.cgroup, "%s", f->cgroup);
    f->n_sessions = world_.n_sessions < 60 ? world_.n_sessions : 60;
    talk_in_little_memory(f, f->cgroup);
    const uint64_t peak = read_number(f->cgroup, peak_file);
    print_message("the group's peak: %llu KiB of %llu KiB\n", (unsigned long long)peak >> 10,
                  (unsigned long long)limit >> 10);
    assert_true(peak <= limit);
    assert_true(peak == 0 || peak > (uint64_t)8 << 20); /* it was in there (0: this kernel does not tell) */
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(all_go_on_and_none_is_lost),
        RUN(what_never_fits_is_refused_at_once),
        RUN(in_a_control_group),
    };
    return cmocka_run_group_tests_name("sessions in little memory", tests, make_world, free_world);
}
