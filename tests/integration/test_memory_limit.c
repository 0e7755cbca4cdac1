/* The memory limit: a daemon that cannot fit says so and ends; one that fits stays within its limit, whatever is asked
 * of it, and works where the system's own limit leaves it no more. */
#include "integration/spawn.h"
#include "support/chat.h"
#include "support/daemon.h"

#include <stdio.h>

#define MIB        (UINT64_C(1) << 20)
#define N_SESSIONS 24
#define ROOM       (3 * MIB) /* for caches, where there is little: of three sessions with a full window */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1 /* whose own memory goes over any limit of the system */
#else
#define IS_SANITIZED 0
#endif

typedef struct fixture {
    bora_test_daemon daemon;
    bora_client *client;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    return f && bora_test_daemon_init(&f->daemon) ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    bora_client_close(f->client);
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

static void start(fixture *f, const char *limit)
{
    const char *const arguments[] = {"--threads", "2", limit ? "--memory-limit" : NULL, limit, NULL};
    assert_true(bora_test_daemon_start(&f->daemon, arguments, NULL));
    f->client = bora_test_connect(f->daemon.socket);
    assert_non_null(f->client);
}

/* It goes without a word about memory that nobody gave back. */
static void end(fixture *f)
{
    bora_client_close(f->client);
    f->client = NULL;
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
}

/* ---- what status says of memory ---- */

typedef struct memory {
    uint64_t limit, used, peak, rss_bytes, kv, weights;
} memory;

static memory memory_of(bora_client *client)
{
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_daemon_status(client, &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *map = bora_client_value_get(bora_client_result_value(result), "memory");
    memory m = {0};
    const struct {
        const char *key;
        uint64_t *value;
    } all[] = {{"limit", &m.limit},         {"used", &m.used}, {"peak", &m.peak},
               {"rss_bytes", &m.rss_bytes}, {"kv", &m.kv},     {"weights", &m.weights}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        *all[i].value = bora_client_value_uint(bora_client_value_get(map, all[i].key), UINT64_MAX);
    bora_client_result_free(result);
    return m;
}

/* A turn; its status, and what was said in answer. */
static bora_client_status turn(bora_client *client, const char *session, uint32_t n_tokens, bora_test_answer *answer)
{
    bora_client_generation g = {.text = "Tell me a story.",
                                .text_size = 16,
                                .session = session,
                                .ignore_eos = true,
                                .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_SEED,
                                .seed = 7,
                                .max_tokens = n_tokens};
    return bora_test_answer_get(client, &g, answer);
}

static void assert_turn(bora_client *client, const char *session, uint32_t n_tokens, bora_test_answer *answer)
{
    if (turn(client, session, n_tokens, answer) != BORA_CLIENT_OK)
        fail_msg("%s", answer->error.message);
    assert_null(answer->disorder);
    assert_int_equal(answer->n_tokens, n_tokens);
}

/* What an idle daemon has taken, of the limits that the tests choose the base. */
static uint64_t idle_use(fixture *f)
{
    start(f, NULL);
    bora_test_answer answer = {0};
    assert_turn(f->client, NULL, 4, &answer); /* it is loaded */
    bora_test_answer_release(&answer);
    uint64_t used = memory_of(f->client).used;
    end(f);
    return used;
}

/* ---- too small ---- */

static void a_model_that_cannot_fit_is_refused(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *limit, *says[4];
        bool is_late; /* it shows while the model is loaded */
    } cases[] = {
        {"1M",
         {"error: memory limit: 1.0 MiB are not even enough for the program (32 MiB): raise memory.limit"},
         false},
        {"34M",
         {"error: memory limit: the weights of 'bora-tiny' take 7.6 MiB packed; with 32 MiB in use that is ",
          " MiB more than the limit of 34 MiB. Raise memory.limit, or take a smaller model"},
         false},
        {"41500K", {"error: ", "memory limit: ", " more for ", " would pass the limit of 41 MiB ("}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int check = 0; check < 2; check++) {
            spawn_result result = {0};
            const char *const argv[] = {BORAD,
                                        "--config",
                                        "none",
                                        "--socket",
                                        f->daemon.socket,
                                        "--database",
                                        f->daemon.database,
                                        "--threads",
                                        "2",
                                        "--memory-limit",
                                        cases[i].limit,
                                        check ? "--check" : NULL,
                                        NULL};
            spawn(argv, NULL, &result);
            assert_int_equal(result.code, 1);
            for (size_t k = 0; k < 4 && cases[i].says[k]; k++)
                if (!strstr(result.output, cases[i].says[k]))
                    fail_msg("'%s' is not in: %s", cases[i].says[k], result.output);
            assert_null(strstr(result.output, "in order"));
            assert_null(strstr(result.output, "never given back"));
            if (!cases[i].is_late) /* before the socket was there */
                assert_null(strstr(result.output, "listening on"));
        }
}

static void wrong_limits_are_refused(void **state)
{
    (void)state;
    static const char *const limits[] = {"much", "0", "101%", ""};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        spawn_result result = {0};
        const char *const argv[] = {BORAD, "--config", "none", "--check", "--memory-limit", limits[i], NULL};
        spawn(argv, NULL, &result);
        assert_int_equal(result.code, 2);
        assert_non_null(strstr(result.output, "memory.limit is '"));
    }
}

static void a_share_of_the_machine(void **state)
{
    fixture *f = *state;
    start(f, "100%");
    const uint64_t machine = memory_of(f->client).limit;
    end(f);
    start(f, "50%");
    const uint64_t half = memory_of(f->client).limit;
    end(f);
    start(f, NULL);
    const uint64_t by_default = memory_of(f->client).limit;
    end(f);
    assert_in_range(half * 2, machine - 200, machine);
    assert_in_range(by_default, machine / 10 * 9 - 200, machine / 10 * 9 + 200);
}

/* ---- just enough ---- */

static bool is_for_memory(const char *code)
{
    return strcmp(code, "no_memory") == 0 || strcmp(code, "limit") == 0 || strcmp(code, "busy") == 0;
}

/* More sessions than there is memory for: each turn is answered in full or refused for want of memory, nothing else
 * happens, and the limit is never passed. Afterwards there is room again. */
static void the_limit_is_never_passed(void **state)
{
    fixture *f = *state;
    char limit[32];
    (void)snprintf(limit, sizeof limit, "%lluK", (unsigned long long)((idle_use(f) + ROOM) / 1024));
    start(f, limit);
    bora_test_answer first = {0};
    assert_turn(f->client, "first", 100, &first);
    uint32_t n_answered = 0;
    for (int i = 0; i < N_SESSIONS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s%d", i);
        bora_test_answer answer = {0};
        bora_client_status st = turn(f->client, name, 300, &answer);
        if (st == BORA_CLIENT_OK) {
            n_answered++;
            assert_int_equal(answer.n_tokens, 300);
        } else if (st != BORA_CLIENT_E_REFUSED || !is_for_memory(answer.error.code)) {
            fail_msg("%s: %s", name, answer.error.message);
        }
        bora_test_answer_release(&answer);
        const memory m = memory_of(f->client);
        assert_true(m.peak <= m.limit && m.used <= m.peak);
        if (!IS_SANITIZED && m.rss_bytes > m.limit)
            fail_msg("%llu bytes are resident, %llu are allowed", (unsigned long long)m.rss_bytes,
                     (unsigned long long)m.limit);
    }
    print_message("%u of %d sessions were answered in %s\n", n_answered, N_SESSIONS, limit);
    assert_true(n_answered >= 2);
    for (int i = 0; i < N_SESSIONS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s%d", i);
        bora_client_error err = {.code = ""};
        if (bora_client_session_delete(f->client, name, &err) != BORA_CLIENT_OK)
            assert_string_equal(err.code, "not_found"); /* its only turn was refused */
    }
    bora_test_answer again = {0};
    assert_turn(f->client, "again", 100, &again);
    assert_string_equal(again.text, first.text);
    bora_test_answer_release(&first);
    bora_test_answer_release(&again);
    end(f);
}

/* The system allows little (ulimit -d): the limit follows, and the daemon answers as ever. */
static void under_a_limit_of_the_system(void **state)
{
    fixture *f = *state;
    if (IS_SANITIZED)
        BORA_SKIP("a sanitizer's own memory is more than the limit");
    bora_test_answer free_answer = {0};
    start(f, NULL);
    assert_turn(f->client, "story", 300, &free_answer);
    assert_int_equal(bora_client_session_delete(f->client, "story", NULL), BORA_CLIENT_OK);
    end(f);

    f->daemon.data_limit = 160 * MIB;
    start(f, NULL);
    assert_in_range(memory_of(f->client).limit, 1, 144 * MIB);
    for (int i = 0; i < N_SESSIONS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s%d", i);
        bora_test_answer answer = {0};
        assert_turn(f->client, name, 300, &answer);
        assert_string_equal(answer.text, free_answer.text);
        bora_test_answer_release(&answer);
    }
    const memory m = memory_of(f->client);
    assert_true(m.kv > 0 && m.weights > 0 && m.peak <= m.limit);
    bora_test_answer_release(&free_answer);
    end(f);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(a_model_that_cannot_fit_is_refused), RUN(wrong_limits_are_refused),    RUN(a_share_of_the_machine),
        RUN(the_limit_is_never_passed),          RUN(under_a_limit_of_the_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
