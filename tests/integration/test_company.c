/* The answer depends on the conversation, not on the company: eight clients at once, beside long prompts, one that
 * cancels and one that vanishes, get exactly the tokens that each gets alone. */
#include "integration/process.h"
#include "integration/wire.h"
#include "support/chat.h"
#include "support/daemon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_CLIENTS 8
#define N_TURNS   4
#define LONG_TEXT 16 /* sentences of a long prompt: several hundred tokens, past the window */

static const char *const script[N_CLIENTS][N_TURNS] = {
    {"My name is Anna.", "What is the capital of France?", "And of Austria?", "What is my name?"},
    {"Tell me a story.", "What is 3 plus 4?", "Tell me another story, please.", "Bye!"},
    {"What does ls do?", "How do I remove a file?", "What does grep do?", "Thank you."},
    {"My dog is called Rufus.", "I like pizza.", "What is the name of my dog?", "Tell me a story about him."},
    {"hey", "Which day comes after Monday?", "Say my name.", "What is the opposite of hot?"},
    {"Heidi is in the library. Ravi is in the bedroom. Where is Ravi?", "Lucy is a vet. Bea is a baker. What is Bea?",
     "What can you do?", "Who are you?"},
    {"Repeat: the quick brown fox.", "What is 12 minus 5?", "Keep this number for me: 56.", "Which number was it?"},
    {"How are you?", "What is the capital of Argentina?", "Which country has the capital Vienna?", "Good night!"},
};

typedef struct fixture {
    bora_test_daemon daemon;
    bora_client *clients[N_CLIENTS];
    bora_client *others[2]; /* the one that cancels and the one that vanishes */
    bora_test_answer alone[N_CLIENTS][N_TURNS], together[N_CLIENTS][N_TURNS];
    char *long_text;
} fixture;

/* ---- life ------------------------------------------------------------------------------------------------------ */

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    size_t size = 0;
    FILE *text = f ? open_memstream(&f->long_text, &size) : NULL;
    if (!text || !bora_test_daemon_init(&f->daemon))
        return -1;
    for (int i = 0; i < LONG_TEXT; i++)
        (void)fprintf(text, "In room %d sits a bear, and the bear of room %d reads the book of the fox. ", i, i);
    return fclose(text);
}

static int tear_down(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < N_CLIENTS; i++) {
        bora_client_close(f->clients[i]);
        for (size_t turn = 0; turn < N_TURNS; turn++) {
            bora_test_answer_release(&f->alone[i][turn]);
            bora_test_answer_release(&f->together[i][turn]);
        }
    }
    bora_client_close(f->others[0]);
    bora_client_close(f->others[1]);
    bora_test_daemon_release(&f->daemon);
    free(f->long_text);
    free(f);
    return 0;
}

static void start(fixture *f, const char *expert)
{
    /* Steps as long as they like: how many there are does not depend on the machine then. */
    const char *const arguments[] = {
        "-p", expert, "--set", "cache.slack=64", "--set", "engine.chunk=32", "--set", "engine.max_step_ms=60000", NULL};
    int code = 0;
    if (!bora_test_daemon_start(&f->daemon, arguments, &code))
        fail_msg("borad did not start: %d", code);
    for (size_t i = 0; i < N_CLIENTS; i++)
        assert_non_null(f->clients[i] = bora_test_connect(f->daemon.socket));
}

/* ---- what they say ----------------------------------------------------------------------------------------------- */

/* Greedy and seeded by turns. Client 6 completes a raw text instead of chatting, client 7 begins with a long text. */
static bora_client_generation generation_of(const fixture *f, size_t i, size_t turn, const char *session)
{
    const char *text = i == 7 && turn == 0 ? f->long_text : script[i][turn];
    bora_client_generation g = {
        .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE | BORA_CLIENT_SET_SEED,
        .max_tokens = 40,
        .temperature = turn % 2 ? 0.8 : 0,
        .seed = 100 * i + turn,
        .ignore_eos = i % 2,
    };
    if (i == 6) {
        g.prompt = turn == 2 ? f->long_text : text;
        g.prompt_size = strlen(g.prompt);
    } else {
        g.text = text;
        g.text_size = strlen(text);
        g.session = session;
    }
    return g;
}

static void submit(fixture *f, size_t i, size_t turn, const char *where, bora_test_answer *answer)
{
    char session[64];
    (void)snprintf(session, sizeof session, "%s-%zu", where, i);
    bora_client_generation g = generation_of(f, i, turn, session);
    assert_int_equal(bora_test_answer_submit(f->clients[i], &g, answer), BORA_CLIENT_OK);
}

static void finish(fixture *f, const bora_test_answer *answer)
{
    while (!answer->has_ended)
        assert_true(bora_test_dispatch(f->clients, N_CLIENTS));
}

static void check_whole(const bora_test_answer *answer)
{
    if (answer->status != BORA_CLIENT_OK)
        fail_msg("%s", answer->error.message);
    assert_null(answer->disorder);
    assert_true(answer->has_done);
}

/* One after the other: nobody else is there. Steps that the engine took. */
static uint64_t run_alone(fixture *f)
{
    uint64_t before = bora_test_number(f->clients[0], "status", "n_steps");
    for (size_t i = 0; i < N_CLIENTS; i++) {
        for (size_t turn = 0; turn < N_TURNS; turn++) {
            submit(f, i, turn, "alone", &f->alone[i][turn]);
            finish(f, &f->alone[i][turn]);
            check_whole(&f->alone[i][turn]);
        }
    }
    return bora_test_number(f->clients[0], "status", "n_steps") - before;
}

/* All at once; each says its next sentence when its answer has ended. meddle (may be NULL) is called in every round. */
static uint64_t run_together(fixture *f, void (*meddle)(fixture *f))
{
    size_t next[N_CLIENTS] = {0}, n_left = (size_t)N_CLIENTS * N_TURNS;
    uint64_t before = bora_test_number(f->clients[0], "status", "n_steps");
    for (size_t i = 0; i < N_CLIENTS; i++)
        submit(f, i, next[i]++, "together", &f->together[i][0]);
    while (n_left) {
        assert_true(bora_test_dispatch(f->clients, N_CLIENTS));
        if (meddle)
            meddle(f);
        for (size_t i = 0; i < N_CLIENTS; i++) {
            const bora_test_answer *last = &f->together[i][next[i] - 1];
            if (!last->has_ended || n_left == 0 || next[i] > N_TURNS)
                continue;
            check_whole(last);
            n_left--;
            if (next[i] < N_TURNS)
                submit(f, i, next[i], "together", &f->together[i][next[i]]);
            next[i]++;
        }
    }
    return bora_test_number(f->clients[0], "status", "n_steps") - before;
}

/* Answers with the same tokens, text and end; with_logprobs: and the same distribution, to the last bit. */
static size_t count_same(const fixture *f, bool with_logprobs)
{
    size_t n_same = 0;
    for (size_t i = 0; i < N_CLIENTS; i++)
        for (size_t turn = 0; turn < N_TURNS; turn++) {
            const bora_test_answer *a = &f->alone[i][turn], *t = &f->together[i][turn];
            n_same += a->n_tokens == t->n_tokens && a->n_tokens > 0 &&
                      memcmp(a->tokens, t->tokens, a->n_tokens * sizeof *a->tokens) == 0 &&
                      strcmp(a->text, t->text) == 0 && strcmp(a->reason, t->reason) == 0 &&
                      (!with_logprobs || memcmp(a->logprobs, t->logprobs, a->n_tokens * sizeof *a->logprobs) == 0);
        }
    return n_same;
}

/* True if every plugin in use says that company changes nothing. */
static bool promises_invariance(bora_client *client)
{
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_plugin_list(client, &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *plugins = bora_client_value_get(bora_client_result_value(result), "plugins");
    bool all = true;
    for (uint32_t i = 0; i < bora_client_value_count(plugins); i++) {
        const bora_client_value *plugin = bora_client_value_at(plugins, i);
        bool in_use = bora_client_value_bool(bora_client_value_get(plugin, "in_use"), false);
        bool link = bora_test_text_is(bora_client_value_get(plugin, "kind"), "link"); /* computes nothing */
        all =
            all && (!in_use || link || bora_client_value_bool(bora_client_value_get(plugin, "batch_invariant"), false));
    }
    bora_client_result_free(result);
    return all;
}

/* ---- the tests --------------------------------------------------------------------------------------------------- */

static void check_company(fixture *f, const char *expert)
{
    start(f, expert);
    assert_true(promises_invariance(f->clients[0]));
    uint64_t n_alone = run_alone(f), n_together = run_together(f, NULL);
    assert_true(n_together < n_alone / 2); /* they did share steps */
    assert_int_equal(count_same(f, true), N_CLIENTS * N_TURNS);
}

static void eight_clients_get_what_they_get_alone(void **state)
{
    check_company(*state, "expert=quant");
}

static void with_experts_in_plain_c_too(void **state)
{
    check_company(*state, "expert=reference");
}

static void blas_keeps_what_its_flags_promise(void **state)
{
    fixture *f = *state;
    start(f, "expert=blas");
    bool promised = promises_invariance(f->clients[0]);
    uint64_t n_alone = run_alone(f), n_together = run_together(f, NULL);
    assert_true(n_together < n_alone / 2);
    size_t n_exact = count_same(f, true);
    print_message(
        "expert/blas promises %s: of %d answers %zu have the tokens that they have alone, %zu to the last bit "
        "of every probability\n",
        promised ? "invariance" : "nothing", N_CLIENTS * N_TURNS, count_same(f, false), n_exact);
    if (promised)
        assert_int_equal(n_exact, N_CLIENTS * N_TURNS);
}

/* ---- cancelling and vanishing ----------------------------------------------------------------------------------- */

static bora_test_answer cancelled, abandoned; /* one test uses them, from its start to its end */

static void meddle(fixture *f)
{
    assert_true(bora_client_dispatch(f->others[0], NULL) == BORA_CLIENT_OK);
    if (f->others[1])
        assert_true(bora_client_dispatch(f->others[1], NULL) == BORA_CLIENT_OK);
    if (cancelled.n_tokens >= 10 && !cancelled.has_ended)
        assert_int_equal(bora_client_cancel(f->others[0], cancelled.request, NULL), BORA_CLIENT_OK);
    if (abandoned.n_tokens >= 10) {
        bora_client_close(f->others[1]);
        f->others[1] = NULL;
    }
}

/* Asked until it is so: each question is answered at once, whatever the engine does. */
static void wait_until_idle(bora_client *client)
{
    for (int i = 0; i < 100000; i++)
        if (bora_test_number(client, "status", "n_running") == 0)
            return;
    fail_msg("an answer runs on");
}

static void neither_cancelling_nor_vanishing_disturbs(void **state)
{
    fixture *f = *state;
    start(f, "expert=quant");
    (void)run_alone(f);

    bora_client_generation endless = {.text = "Tell me a story.",
                                      .text_size = strlen("Tell me a story."),
                                      .session = "endless",
                                      .ignore_eos = true,
                                      .set = BORA_CLIENT_SET_MAX_TOKENS,
                                      .max_tokens = 30000};
    bora_client_generation lost = endless;
    lost.session = "lost";
    for (size_t i = 0; i < 2; i++)
        assert_non_null(f->others[i] = bora_test_connect(f->daemon.socket));
    assert_int_equal(bora_test_answer_submit(f->others[0], &endless, &cancelled), BORA_CLIENT_OK);
    assert_int_equal(bora_test_answer_submit(f->others[1], &lost, &abandoned), BORA_CLIENT_OK);

    (void)run_together(f, meddle);
    assert_int_equal(count_same(f, true), N_CLIENTS * N_TURNS);
    assert_null(f->others[1]);
    while (!cancelled.has_ended)
        assert_true(bora_test_dispatch(f->others, 1));
    check_whole(&cancelled);
    assert_string_equal(cancelled.reason, "cancelled");
    assert_true(cancelled.stored);
    assert_true(cancelled.n_tokens >= 10);
    wait_until_idle(f->clients[0]);

    /* What was there is kept of both. */
    static const char *const sessions[] = {"endless", "lost"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = 0, n_messages = 0;
        free(bora_test_session_tokens(f->clients[0], sessions[i], &n, &n_messages));
        assert_int_equal(n_messages, 2);
        assert_true(n > 10 && n < 30000);
    }
    bora_test_answer_release(&cancelled);
    bora_test_answer_release(&abandoned);
}

/* ---- one that does not read -------------------------------------------------------------------------------------- */

#define DEAF_TOKENS 30000
#define DEAF_REQUESTS                                                                                                  \
    2000 /* whose answers fill what there is between the two, so that its tokens wait in the daemon                    \
          */

static void a_client_that_does_not_read_disturbs_nobody(void **state)
{
    fixture *f = *state;
    wire w;
    start(f, "expert=quant");
    (void)run_alone(f);
    wire_open_with(&w, f->daemon.socket, 1);
    wire_hello(&w);
    bora_pack pack = wire_turn(&w, "deaf", "Tell me a long story.", DEAF_TOKENS);
    bora_pack_bool(&pack, "ignore_eos", true);
    wire_submit(&w, &pack);
    for (int i = 0; i < DEAF_REQUESTS; i++) {
        pack = wire_request(&w, "model");
        wire_submit(&w, &pack);
    }
    (void)run_together(f, NULL);
    assert_int_equal(count_same(f, true), N_CLIENTS * N_TURNS);
    wait_until_idle(f->clients[0]);
    assert_true(bora_test_daemon_logged(&f->daemon, "does not read"));

    /* It is not told, but what it said and got so far is kept: as an answer that was cut. The store may be a moment
     * behind. */
    size_t n = 0, n_messages = 0;
    int ms = 0;
    do
        free(bora_test_session_tokens(f->clients[0], "deaf", &n, &n_messages));
    while (n_messages == 0 && process_wait(&ms));
    assert_int_equal(n_messages, 2);
    assert_true(n > 10 && n < DEAF_TOKENS);
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_session_show(f->clients[0], "deaf", &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *messages = bora_client_value_get(bora_client_result_value(result), "messages");
    assert_true(bora_test_text_is(bora_client_value_get(bora_client_value_at(messages, 1), "state"), "interrupted"));
    bora_client_result_free(result);
    wire_close(&w);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(eight_clients_get_what_they_get_alone),       RUN(with_experts_in_plain_c_too),
        RUN(blas_keeps_what_its_flags_promise),           RUN(neither_cancelling_nor_vanishing_disturbs),
        RUN(a_client_that_does_not_read_disturbs_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
