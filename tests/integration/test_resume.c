/* A conversation is never lost and never read again: twelve turns, longer than window and slack, give the same token
 * ids whether the daemon lives through them or is killed between the turns, while it reads and while it answers. */
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

#define N_TURNS      12
#define LONG_ANSWER  56u /* tokens of every second turn: it goes on past its end */
#define WINDOW       256u
#define SLACK        64u
#define TURN_MAX     160u
#define ARGUMENT_MAX 16
#define STRUCK_MIN   4u /* turns that must really have been hit in their middle, of twelve */

/* Small slack and chunk: the ring wraps early, a prompt takes several steps. */
#define SMALL        "--set", "cache.slack=64", "--set", "engine.chunk=16"

static const char *const script[N_TURNS] = {
    "Hello! My name is Anna and my favourite colour is green.",
    "What is the capital of France? And please tell me a story about a fox, a river and an old boat.",
    "What is 7 plus 8?",
    "Tell me a story. It should have a bear and a mouse in it, and they should be friends in the end.",
    "What does the command ls do? I have a folder with many files and I want to see their names.",
    "My dog is called Rufus. He is three years old and he likes to sleep in the kitchen all day.",
    "What is my name?",
    "Heidi is in the library. Ravi is in the bedroom. Lucy is in the garden. Where is Ravi?",
    "Which day comes after Monday? And which month comes after March? I always forget both of them.",
    "Della has a lavender bike. Mateo holds a silver chair. Bella has an orange ring. What does Mateo have?",
    "What is the name of my dog?",
    "Thank you. Tell me one more story before I go, please, and then good night.",
};

typedef struct settings {
    const char *arguments[ARGUMENT_MAX];
    double temperature;
    uint64_t seed;
} settings;

typedef struct turn {
    int32_t tokens[TURN_MAX];
    size_t n_tokens;
    uint64_t n_history;
    char reason[16];
} turn;

/* A whole conversation as it came out. */
typedef struct conversation {
    turn turns[N_TURNS];
    int32_t *history;
    size_t n_history;
    size_t n_struck; /* turns that were killed unfinished */
} conversation;

/* What to do to the daemon. */
typedef enum harm { LEAVE, KILL_BETWEEN, KILL_READING, KILL_ANSWERING } harm;

/* ---- the daemon ---------------------------------------------------------------------------------------------- */

typedef struct fixture {
    bora_test_daemon daemon;
    bora_client *client;
} fixture;

static int set_up(void **state)
{
    *state = calloc(1, sizeof(fixture));
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    bora_client_close(f->client);
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

static void start(fixture *f, const settings *s)
{
    int code = 0;
    if (!bora_test_daemon_start(&f->daemon, s->arguments, &code))
        fail_msg("borad did not start: %d", code);
    f->client = bora_test_connect(f->daemon.socket);
    assert_non_null(f->client);
}

/* signal 0: it has been told already. */
static void end(fixture *f, int signal, int expected)
{
    bora_client_close(f->client);
    f->client = NULL;
    assert_int_equal(bora_test_daemon_end(&f->daemon, signal), expected);
}

/* A daemon that has no sessions yet. */
static void start_anew(fixture *f, const settings *s)
{
    bora_test_daemon_release(&f->daemon);
    assert_true(bora_test_daemon_init(&f->daemon));
    start(f, s);
}

static void strike(void *daemon)
{
    (void)kill(((bora_test_daemon *)daemon)->pid, SIGKILL);
}

static void ask_to_end(void *daemon)
{
    (void)kill(((bora_test_daemon *)daemon)->pid, SIGTERM);
}

/* ---- one turn -------------------------------------------------------------------------------------------------- */

static bora_client_generation generation_of(const settings *s, size_t i)
{
    bool goes_on = i % 2 == 1; /* otherwise it ends where the model ends it */
    return (bora_client_generation){
        .text = script[i],
        .text_size = strlen(script[i]),
        .session = "chat",
        .ignore_eos = goes_on,
        .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE | BORA_CLIENT_SET_SEED,
        .max_tokens = goes_on ? LONG_ANSWER : TURN_MAX,
        .temperature = s->temperature,
        .seed = s->seed + i,
    };
}

/* Of the history only the last token is run, which no step had needed before. */
static void check_accepted(const bora_test_answer *a, size_t i)
{
    assert_true(a->has_accepted);
    assert_int_equal(a->turn, i);
    assert_int_equal(a->n_rerun, 0);
    assert_int_equal(a->n_cached, i == 0 ? 0 : a->n_history - 1);
}

static void keep(turn *t, const bora_test_answer *a)
{
    assert_true(a->n_tokens <= TURN_MAX);
    memcpy(t->tokens, a->tokens, a->n_tokens * sizeof *a->tokens);
    t->n_tokens = a->n_tokens;
    t->n_history = a->n_history;
    (void)snprintf(t->reason, sizeof t->reason, "%s", a->reason);
}

/* The turn, to its end. */
static void say(fixture *f, const settings *s, size_t i, turn *ret_turn)
{
    bora_test_answer a = {0};
    bora_client_generation g = generation_of(s, i);
    if (bora_test_answer_get(f->client, &g, &a) != BORA_CLIENT_OK)
        fail_msg("turn %zu: %s", i, a.error.message);
    assert_null(a.disorder);
    assert_true(a.stored);
    check_accepted(&a, i);
    size_t n = 0;
    free(bora_test_session_tokens(f->client, "chat", &n, NULL));
    assert_int_equal(n, a.n_cached + a.n_prompt + a.n_generated);
    keep(ret_turn, &a);
    bora_test_answer_release(&a);
}

/* The turn, killed in its middle. True if it was: if the daemon was faster, it has been stored. */
static bool say_and_strike(fixture *f, const settings *s, size_t i, harm how)
{
    bora_test_answer a = {.act = strike, .context = &f->daemon, .act_on = BORA_CLIENT_EVENT_TOKEN, .act_at = i % 4};
    if (how == KILL_READING) {
        a.act_on = i % 2 ? BORA_CLIENT_EVENT_ACCEPTED : BORA_CLIENT_EVENT_PROGRESS;
        a.act_at = 0;
    }
    bora_client_generation g = generation_of(s, i);
    bora_client_status status = bora_test_answer_get(f->client, &g, &a);
    if (!a.has_done && status != BORA_CLIENT_E_LOST)
        fail_msg("turn %zu, killed: %s: %s", i, bora_client_status_name(status), a.error.message);
    assert_null(a.disorder);
    check_accepted(&a, i);
    bora_test_answer_release(&a);
    end(f, SIGKILL, -SIGKILL);
    start(f, s);
    size_t n = 0, n_messages = 0;
    free(bora_test_session_tokens(f->client, "chat", &n, &n_messages));
    assert_true(n_messages == 2 * i || n_messages == 2 * i + 2); /* the whole turn or nothing of it */
    return n_messages == 2 * i;
}

/* ---- whole conversations ----------------------------------------------------------------------------------------- */

static void converse(fixture *f, const settings *s, harm how, conversation *ret)
{
    *ret = (conversation){0};
    start_anew(f, s);
    for (size_t i = 0; i < N_TURNS; i++) {
        if (how == KILL_READING || how == KILL_ANSWERING) {
            if (!say_and_strike(f, s, i, how))
                continue; /* the whole history is compared all the same */
            ret->n_struck++;
        }
        say(f, s, i, &ret->turns[i]);
        if (how != KILL_BETWEEN)
            continue;
        end(f, SIGKILL, -SIGKILL);
        start(f, s);
    }
    ret->history = bora_test_session_tokens(f->client, "chat", &ret->n_history, NULL);
    end(f, SIGTERM, 0);
}

static void check_same(const conversation *found, const conversation *expected)
{
    for (size_t i = 0; i < N_TURNS; i++) {
        const turn *f = &found->turns[i], *e = &expected->turns[i];
        if (!*f->reason)
            continue; /* stored by a daemon that died before it could say so */
        assert_int_equal(f->n_history, e->n_history);
        assert_int_equal(f->n_tokens, e->n_tokens);
        assert_memory_equal(f->tokens, e->tokens, e->n_tokens * sizeof *e->tokens);
        assert_string_equal(f->reason, e->reason);
    }
    assert_int_equal(found->n_history, expected->n_history);
    assert_memory_equal(found->history, expected->history, expected->n_history * sizeof *expected->history);
}

static void check_reference(const conversation *c)
{
    assert_true(c->n_history > 2 * (WINDOW + SLACK)); /* the ring went round more than once */
    for (size_t i = 0; i < N_TURNS; i++) {
        assert_string_equal(c->turns[i].reason, i % 2 ? "length" : "stop");
        assert_int_equal(i % 2 ? c->turns[i].n_tokens : LONG_ANSWER, LONG_ANSWER);
    }
}

/* Each way to harm, against a daemon that lived. */
static void check_conversation(fixture *f, const settings *s, const harm *harms, size_t n_harms)
{
    conversation unharmed, harmed;
    converse(f, s, LEAVE, &unharmed);
    check_reference(&unharmed);
    for (size_t i = 0; i < n_harms; i++) {
        converse(f, s, harms[i], &harmed);
        check_same(&harmed, &unharmed);
        assert_true(harms[i] == KILL_BETWEEN || harmed.n_struck >= STRUCK_MIN);
        free(harmed.history);
    }
    free(unharmed.history);
}

/* One way each: what differs is the place where the cache lies and what computes, not what is done to the daemon. */
static void check_greedy_and_seeded(fixture *f, settings s)
{
    static const harm answering[] = {KILL_ANSWERING}, between[] = {KILL_BETWEEN};
    check_conversation(f, &s, answering, 1);
    s.temperature = 0.8;
    s.seed = 20240;
    check_conversation(f, &s, between, 1);
}

static const harm all_harms[] = {KILL_BETWEEN, KILL_READING, KILL_ANSWERING};

static void greedy_is_the_same_after_kills(void **state)
{
    fixture *f = *state;
    settings s = {.arguments = {SMALL}};
    check_conversation(f, &s, all_harms, 3);
}

static void seeded_is_the_same_after_kills(void **state)
{
    fixture *f = *state;
    settings s = {.arguments = {SMALL}, .temperature = 0.8, .seed = 4711};
    check_conversation(f, &s, all_harms, 3);
}

static void two_stages_are_the_same_after_kills(void **state)
{
    check_greedy_and_seeded(*state, (settings){.arguments = {SMALL, "--stages", "2"}});
}

static void f32_cache_is_the_same_after_kills(void **state)
{
    check_greedy_and_seeded(*state, (settings){.arguments = {SMALL, "--set", "cache.type=f32"}});
}

static void plain_c_expert_is_the_same_after_kills(void **state)
{
    check_greedy_and_seeded(*state, (settings){.arguments = {SMALL, "-p", "expert=reference"}});
}

/* Two different seeds do differ: the comparisons above could fail. */
static void seeds_matter(void **state)
{
    fixture *f = *state;
    settings s = {.arguments = {SMALL}, .temperature = 0.8, .seed = 4711};
    turn turns[2] = {0};
    for (size_t i = 0; i < 2; i++, s.seed = 815) {
        start_anew(f, &s);
        say(f, &s, 0, &turns[i]);
        end(f, SIGTERM, 0);
    }
    assert_true(turns[0].n_tokens != turns[1].n_tokens ||
                memcmp(turns[0].tokens, turns[1].tokens, turns[0].n_tokens * sizeof *turns[0].tokens) != 0);
}

/* ---- SIGTERM ---- */

static const bora_client_value *last_message(const bora_client_result *result)
{
    const bora_client_value *messages = bora_client_value_get(bora_client_result_value(result), "messages");
    return bora_client_value_at(messages, bora_client_value_count(messages) - 1);
}

static void check_interrupted(bora_client *client, const bora_test_answer *a)
{
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_session_show(client, "chat", &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *message = last_message(result);
    assert_true(bora_test_text_is(bora_client_value_get(message, "role"), "assistant"));
    assert_true(bora_test_text_is(bora_client_value_get(message, "state"), "interrupted"));
    assert_true(bora_test_text_is(bora_client_value_get(message, "text"), a->text));
    const bora_client_value *tokens = bora_client_value_get(bora_client_result_value(result), "tokens");
    size_t n = bora_client_value_count(tokens);
    assert_true(n > a->n_tokens);
    for (size_t i = 0; i < a->n_tokens; i++)
        assert_int_equal(bora_client_value_int(bora_client_value_at(tokens, (uint32_t)(n - a->n_tokens + i)), -1),
                         a->tokens[i]);
    bora_client_result_free(result);
}

/* Ended while it answers: the client is told, the turn is stored as far as it came, and the next turn goes on from
 * there exactly as after an answer that was only meant to be so long. */
static void a_turn_cut_by_sigterm_is_kept(void **state)
{
    fixture *f = *state;
    settings s = {.arguments = {SMALL}};
    bora_test_answer whole = {0}, cut = {.act = ask_to_end, .context = &f->daemon, .act_at = 5};
    turn first, next, next_again;

    cut.act_on = BORA_CLIENT_EVENT_TOKEN;
    start_anew(f, &s);
    say(f, &s, 0, &first);
    bora_client_generation g = generation_of(&s, 1);
    g.max_tokens = 4096;
    assert_int_equal(bora_test_answer_get(f->client, &g, &cut), BORA_CLIENT_OK);
    assert_null(cut.disorder);
    assert_string_equal(cut.reason, "shutdown");
    assert_true(cut.stored);
    assert_true(cut.n_tokens > 5);
    end(f, 0, 0);

    start(f, &s);
    check_interrupted(f->client, &cut);
    say(f, &s, 2, &next);
    end(f, SIGTERM, 0);

    start_anew(f, &s);
    say(f, &s, 0, &first);
    g.max_tokens = (uint32_t)cut.n_tokens;
    assert_int_equal(bora_test_answer_get(f->client, &g, &whole), BORA_CLIENT_OK);
    assert_int_equal(whole.n_tokens, cut.n_tokens);
    assert_memory_equal(whole.tokens, cut.tokens, cut.n_tokens * sizeof *cut.tokens);
    say(f, &s, 2, &next_again);
    assert_int_equal(next.n_tokens, next_again.n_tokens);
    assert_memory_equal(next.tokens, next_again.tokens, next.n_tokens * sizeof *next.tokens);
    bora_test_answer_release(&cut);
    bora_test_answer_release(&whole);
}

/* What the daemon sent before it ended reaches a client that was busy with something else all the time. */
static void a_client_that_looks_later_misses_nothing(void **state)
{
    fixture *f = *state;
    settings s = {.arguments = {SMALL}};
    bora_test_answer cut = {0};

    start_anew(f, &s);
    bora_client *other = bora_test_connect(f->daemon.socket);
    assert_non_null(other);
    bora_client_generation g = generation_of(&s, 1);
    g.max_tokens = 900; /* fewer than may wait for a client */
    assert_int_equal(bora_test_answer_submit(f->client, &g, &cut), BORA_CLIENT_OK);
    uint64_t n = 0;
    while (n < 5) {
        n = bora_test_number(other, "status", "n_generated_tokens");
        assert_true(n <= g.max_tokens);
    }
    bora_client_close(other);
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), 0);
    while (!cut.has_ended)
        assert_true(bora_test_dispatch(&f->client, 1));
    assert_int_equal(cut.status, BORA_CLIENT_OK);
    assert_null(cut.disorder);
    assert_true(cut.has_done);
    assert_true(cut.n_tokens >= 5);
    bora_test_answer_release(&cut);
}

/* Ended before the first token: there is no turn, and the client is told so. */
static void a_turn_cut_while_reading_leaves_nothing(void **state)
{
    fixture *f = *state;
    settings s = {.arguments = {"--set", "cache.slack=64", "--set", "engine.chunk=1"}};
    bora_test_answer cut = {.act = ask_to_end, .context = &f->daemon, .act_on = BORA_CLIENT_EVENT_ACCEPTED};
    char text[8192] = "";
    turn first, next;
    for (size_t i = 0; i < 60; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "Anna is in the garden, said Heidi. ");

    start_anew(f, &s);
    say(f, &s, 0, &first);
    bora_client_generation g = generation_of(&s, 1);
    g.text = text;
    g.text_size = strlen(text);
    assert_int_equal(bora_test_answer_get(f->client, &g, &cut), BORA_CLIENT_E_REFUSED);
    assert_string_equal(cut.error.code, "shutdown");
    assert_null(cut.disorder);
    assert_int_equal(cut.n_tokens, 0);
    end(f, 0, 0);

    start(f, &s);
    size_t n = 0, n_messages = 0;
    free(bora_test_session_tokens(f->client, "chat", &n, &n_messages));
    assert_int_equal(n_messages, 2);
    say(f, &s, 1, &next);
    assert_int_equal(next.n_history, n);
    bora_test_answer_release(&cut);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(greedy_is_the_same_after_kills),          RUN(seeded_is_the_same_after_kills),
        RUN(two_stages_are_the_same_after_kills),     RUN(f32_cache_is_the_same_after_kills),
        RUN(plain_c_expert_is_the_same_after_kills),  RUN(seeds_matter),
        RUN(a_turn_cut_by_sigterm_is_kept),           RUN(a_client_that_looks_later_misses_nothing),
        RUN(a_turn_cut_while_reading_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
