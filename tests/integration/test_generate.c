/* PROTOCOL.md against the real daemon: generate, its events field by field, and every argument it takes. */
#include "verbs.h"

#include <math.h>
#include <stdio.h>

#define EOS 2 /* of bora-tiny */

/* ---- generate --------------------------------------------------------------------------------------------------- */

typedef struct seen {
    bool accepted, progress, token, done;
    bool in_session;
} seen;

static int check_event(void *context, const bora_client_event *event)
{
    seen *s = context;
    const char *fields = "";
    if (event->kind == BORA_CLIENT_EVENT_ACCEPTED && s->in_session)
        fields = "id:uint event:text request:uint session:text session_id:text turn:uint n_history:uint n_cached:uint "
                 "n_rerun:uint "
                 "n_reused:uint "
                 "n_prompt:uint seed:uint ?system_ignored:bool";
    else if (event->kind == BORA_CLIENT_EVENT_ACCEPTED)
        fields = "id:uint event:text request:uint n_history:uint n_cached:uint n_rerun:uint n_reused:uint "
                 "n_prompt:uint seed:uint";
    else if (event->kind == BORA_CLIENT_EVENT_PROGRESS)
        fields = "id:uint event:text n_done:uint n_total:uint";
    else if (event->kind == BORA_CLIENT_EVENT_TOKEN)
        fields = "id:uint event:text choice:uint index:uint token:uint text:text logprob:float";
    else if (event->kind == BORA_CLIENT_EVENT_DONE)
        fields = "id:uint event:text reason:text n_prompt:uint n_cached:uint n_reused:uint n_generated:uint text:text "
                 "queue_ms:float "
                 "prefill_ms:float decode_ms:float store_ms:float kv_bytes:uint stored:bool";
    bool good = bora_test_fields(event->value, fields);
    s->accepted |= good && event->kind == BORA_CLIENT_EVENT_ACCEPTED;
    s->progress |= good && event->kind == BORA_CLIENT_EVENT_PROGRESS;
    s->token |= good && event->kind == BORA_CLIENT_EVENT_TOKEN;
    s->done |= good && event->kind == BORA_CLIENT_EVENT_DONE;
    return !good; /* the test fails, and need not wait */
}

static void events_have_their_fields(void **state)
{
    fixture *f = *state;
    for (int in_session = 0; in_session < 2; in_session++) {
        seen s = {.in_session = in_session};
        bora_client_generation g = chat(in_session ? "fields" : NULL, "hey");
        assert_int_equal(bora_client_generate(f->client, &g, check_event, &s, NULL), BORA_CLIENT_OK);
        assert_true(s.accepted && s.progress && s.token && s.done);
    }
}

/* The same question as text of a chat, as a raw prompt and as ids. */
static void text_prompt_and_tokens(void **state)
{
    fixture *f = *state;
    bora_test_answer a, b;
    bora_client_generation g = chat(NULL, "What is the capital of France?");
    generate(f, &g, &a);
    assert_string_equal(a.text, "The capital of France is Paris.");
    assert_string_equal(a.reason, "stop");
    assert_int_equal(a.tokens[a.n_tokens - 1], EOS);
    assert_false(a.stored);
    assert_string_equal(a.session, "");

    static const int32_t ids[] = {1, 3, 301, 268, 273, 1};
    bora_client_generation raw = {.tokens = ids, .n_tokens = 5, .set = BORA_CLIENT_SET_MAX_TOKENS, .max_tokens = 3};
    generate(f, &raw, &b);
    assert_int_equal(b.n_prompt, 5);
    assert_int_equal(b.n_generated, 3);
    bora_test_answer_release(&b);

    g = completion("Hello", 8);
    generate(f, &g, &b);
    assert_int_equal(b.n_prompt, 2); /* with BOS */
    bora_test_answer_release(&b);
    g.no_bos = true;
    generate(f, &g, &b);
    assert_int_equal(b.n_prompt, 1);
    bora_test_answer_release(&b);
    bora_test_answer_release(&a);
}

/* Only what the tokens of a chat are, given as ids: the same answer. */
static void a_chat_is_its_tokens(void **state)
{
    fixture *f = *state;
    bora_test_answer a, b;
    bora_client_generation g = chat("ids", "What is 3 plus 4?");
    generate(f, &g, &a);
    size_t n = 0;
    int32_t *tokens = bora_test_session_tokens(f->client, "ids", &n, NULL);
    assert_int_equal(n, a.n_prompt + a.n_generated);
    bora_client_generation raw = {.tokens = tokens, .n_tokens = a.n_prompt, .set = g.set, .max_tokens = g.max_tokens};
    generate(f, &raw, &b);
    assert_same_tokens(&a, &b);
    free(tokens);
    bora_test_answer_release(&a);
    bora_test_answer_release(&b);
}

static void exactly_one_question(void **state)
{
    fixture *f = *state;
    assert_refused(f, ask(f, "generate", NULL, NULL), "invalid");
    assert_refused(f, ask(f, "generate", "session", "x"), "invalid");
    bora_client_request *request = bora_client_request_new("generate");
    bora_client_request_string(request, "text", "hey");
    bora_client_request_string(request, "prompt", "hey");
    assert_refused(f, call(f, request), "invalid");
    request = bora_client_request_new("generate");
    bora_client_request_string(request, "prompt", "hey");
    bora_client_request_string(request, "session", "x");
    assert_refused(f, call(f, request), "invalid");
    request = bora_client_request_new("generate");
    bora_client_request_tokens(request, "tokens", NULL, 0);
    assert_refused(f, call(f, request), "invalid");
}

/* ---- terms ---------------------------------------------------------------------------------------------------------
 */

#define N_CHOICES 3

typedef struct choices {
    char text[N_CHOICES][512];
    uint64_t n_tokens[N_CHOICES];
    bool has_ended[N_CHOICES], has_done;
    uint64_t n_generated, n_queued;
    char reason[16];
    bool is_wrong;
} choices;

static int note_choice(void *context, const bora_client_event *event)
{
    choices *c = context;
    c->n_queued += event->kind == BORA_CLIENT_EVENT_QUEUED && event->place >= 1 && event->n_waiting >= event->place;
    bool is_answer = event->kind == BORA_CLIENT_EVENT_TOKEN || event->kind == BORA_CLIENT_EVENT_CHOICE;
    if (is_answer && (event->choice >= N_CHOICES || c->has_ended[event->choice] || c->has_done)) {
        c->is_wrong = true;
        return 1;
    }
    if (is_answer) {
        char *text = c->text[event->choice];
        size_t size = strlen(text);
        (void)snprintf(text + size, sizeof c->text[0] - size, "%.*s", (int)event->text_size, event->text);
    }
    if (event->kind == BORA_CLIENT_EVENT_TOKEN)
        c->is_wrong = c->is_wrong || event->index != c->n_tokens[event->choice]++;
    if (event->kind == BORA_CLIENT_EVENT_CHOICE) {
        c->has_ended[event->choice] = true;
        c->is_wrong = c->is_wrong || !bora_test_fields(event->value, "id:uint event:text choice:uint reason:text "
                                                                     "n_generated:uint text:text");
    }
    if (event->kind == BORA_CLIENT_EVENT_DONE) {
        size_t size = 0;
        const char *reason = bora_client_value_text(get(event->value, "reason"), &size);
        (void)snprintf(c->reason, sizeof c->reason, "%.*s", (int)size, reason);
        c->n_generated = bora_client_value_uint(get(event->value, "n_generated"), 0);
        c->has_done = true;
    }
    return 0;
}

/* Each of several answers is what the one with its seed is alone. */
static void several_answers(void **state)
{
    fixture *f = *state;
    choices c = {.n_queued = 0};
    bora_client_generation g = completion("Once upon a time", 12);
    g.temperature = 1;
    g.set |= BORA_CLIENT_SET_SEED;
    g.seed = 41;
    g.n_choices = N_CHOICES;
    assert_int_equal(bora_client_generate(f->client, &g, note_choice, &c, NULL), BORA_CLIENT_OK);
    assert_false(c.is_wrong);
    assert_true(c.has_done);
    assert_int_equal(c.n_generated, 12 * N_CHOICES);
    g.n_choices = 0;
    for (uint32_t i = 0; i < N_CHOICES; i++, g.seed++) {
        bora_test_answer a;
        generate(f, &g, &a);
        assert_true(c.has_ended[i]);
        assert_string_equal(c.text[i], a.text);
        bora_test_answer_release(&a);
    }
    bora_client_error error;
    g = chat("one-only", "hey");
    g.n_choices = 2;
    assert_int_equal(bora_client_generate(f->client, &g, NULL, NULL, &error), BORA_CLIENT_E_REFUSED);
    assert_string_equal(error.code, "invalid");
    g = completion("x", 1);
    g.n_choices = 17;
    assert_int_equal(bora_client_generate(f->client, &g, NULL, NULL, &error), BORA_CLIENT_E_REFUSED);
    assert_string_equal(error.code, "invalid");
}

static void a_deadline_ends_it(void **state)
{
    fixture *f = *state;
    choices c = {.n_queued = 0};
    bora_client_generation g = completion("Once", 30000);
    g.timeout_ms = 1500;    /* far more than the first token takes, far less than all would */
    g.is_background = true; /* alone, it gets all */
    assert_int_equal(bora_client_generate(f->client, &g, note_choice, &c, NULL), BORA_CLIENT_OK);
    assert_string_equal(c.reason, "deadline");
    assert_true(c.n_generated > 0 && c.n_generated < 30000);
    bora_client_request *request = bora_client_request_new("generate");
    bora_client_request_string(request, "prompt", "x");
    bora_client_request_string(request, "priority", "urgent");
    assert_refused(f, call(f, request), "invalid");
}

static void max_tokens_is_kept(void **state)
{
    fixture *f = *state;
    static const uint32_t counts[] = {0, 1, 2, 17};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        bora_test_answer a;
        bora_client_generation g = completion("Once", counts[i]);
        generate(f, &g, &a);
        assert_int_equal(a.n_tokens, counts[i]);
        assert_string_equal(a.reason, "length");
        bora_test_answer_release(&a);
    }
}

static void logprobs_are_logprobs(void **state)
{
    fixture *f = *state;
    bora_test_answer greedy, hot;
    bora_client_generation g = completion("Tell me a story about", 60);
    generate(f, &g, &greedy);
    for (size_t i = 0; i < greedy.n_tokens; i++) {
        assert_true(isfinite(greedy.logprobs[i]) && greedy.logprobs[i] <= 0);
        assert_true(greedy.logprobs[i] >= -log(2048) - 1e-6); /* the best is never below uniform */
    }
    /* They are the model's own, whatever the sampling: the first token, taken at another temperature, has its own. */
    g.set |= BORA_CLIENT_SET_SEED;
    bool met = false;
    for (g.seed = 1, g.temperature = 1.5; g.seed < 200 && !met; g.seed++) {
        g.max_tokens = 1;
        generate(f, &g, &hot);
        met = hot.tokens[0] == greedy.tokens[0];
        if (met)
            assert_true(fabs(hot.logprobs[0] - greedy.logprobs[0]) < 1e-6);
        bora_test_answer_release(&hot);
    }
    assert_true(met);
    bora_test_answer_release(&greedy);
}

static void seeds_reproduce(void **state)
{
    fixture *f = *state;
    bora_test_answer a, b, c;
    bora_client_generation g = completion("Tell me a story about", 40);
    g.temperature = 1.2;
    generate(f, &g, &a); /* the daemon's choice, which accepted tells */
    g.set |= BORA_CLIENT_SET_SEED;
    g.seed = a.seed;
    generate(f, &g, &b);
    assert_int_equal(b.seed, a.seed);
    assert_same_tokens(&a, &b);
    g.seed = a.seed + 1;
    generate(f, &g, &c);
    assert_int_equal(c.seed, a.seed + 1);
    assert_int_not_equal(memcmp(a.tokens, c.tokens, 40 * sizeof *a.tokens), 0);
    bora_test_answer_release(&a);
    bora_test_answer_release(&b);
    bora_test_answer_release(&c);
}

/* Each alone makes a hot distribution greedy. */
static void sampling_parameters_arrive(void **state)
{
    fixture *f = *state;
    bora_test_answer greedy, hot;
    bora_client_generation g = completion("What is the", 30);
    generate(f, &g, &greedy);
    g.temperature = 1.5;
    g.seed = 5;
    g.set |= BORA_CLIENT_SET_SEED;
    static const int32_t sets[] = {BORA_CLIENT_SET_TOP_K, BORA_CLIENT_SET_TOP_P, BORA_CLIENT_SET_MIN_P};
    g.top_k = 1;
    g.top_p = 0;
    g.min_p = 1;
    for (size_t i = 0; i < 3; i++) {
        bora_client_generation one = g;
        one.set |= (uint32_t)sets[i];
        generate(f, &one, &hot);
        assert_same_tokens(&greedy, &hot);
        bora_test_answer_release(&hot);
    }
    /* And one that keeps greedy from repeating: over enough tokens the answer differs. */
    bora_client_generation one = completion("What is the", 30);
    one.set |= BORA_CLIENT_SET_REPETITION_PENALTY | BORA_CLIENT_SET_REPETITION_WINDOW;
    one.repetition_penalty = 8;
    one.repetition_window = 64;
    generate(f, &one, &hot);
    for (size_t i = 0; i < hot.n_tokens; i++)
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(hot.tokens[i], hot.tokens[j]);
    bora_test_answer_release(&hot);
    bora_test_answer_release(&greedy);
}

static void biases_forbid_and_force(void **state)
{
    fixture *f = *state;
    bora_test_answer plain, without, forced;
    bora_client_generation g = completion("Hello", 12);
    generate(f, &g, &plain);
    bora_client_bias forbidden = {.token = plain.tokens[0], .bias = -100};
    g.biases = &forbidden;
    g.n_biases = 1;
    generate(f, &g, &without);
    for (size_t i = 0; i < without.n_tokens; i++)
        assert_int_not_equal(without.tokens[i], plain.tokens[0]);
    bora_client_bias wanted = {.token = 1989, .bias = 100};
    g.biases = &wanted;
    generate(f, &g, &forced);
    for (size_t i = 0; i < forced.n_tokens; i++)
        assert_int_equal(forced.tokens[i], 1989);
    bora_test_answer_release(&plain);
    bora_test_answer_release(&without);
    bora_test_answer_release(&forced);
}

static void stop_texts_stop(void **state)
{
    fixture *f = *state;
    bora_test_answer a;
    static const char *const stops[] = {"never said", "France is"};
    bora_client_generation g = chat("stopped", "What is the capital of France?");
    g.stops = stops;
    g.n_stops = 2;
    generate(f, &g, &a);
    assert_string_equal(a.reason, "stop_text");
    assert_string_equal(a.text, "The capital of ");
    assert_true(a.stored);
    bora_test_answer_release(&a);
    const bora_client_value *messages = get(ask(f, "session.show", "session", "stopped"), "messages");
    assert_text(get(bora_client_value_at(messages, 1), "text"), "The capital of ");
    assert_text(get(bora_client_value_at(messages, 1), "state"), "whole");
}

static void eos_can_be_ignored(void **state)
{
    fixture *f = *state;
    bora_test_answer a;
    bora_client_generation g = chat(NULL, "hey");
    g.ignore_eos = true;
    generate(f, &g, &a);
    assert_int_equal(a.n_tokens, 40);
    bora_test_answer_release(&a);
}

static void a_system_prompt_is_the_first_turns(void **state)
{
    fixture *f = *state;
    bora_test_answer with, without, later;
    bora_client_generation g = chat("advised", "hey");
    g.system = "Be brief.";
    generate(f, &g, &with);
    assert_false(with.system_ignored);
    g = chat("unadvised", "hey");
    generate(f, &g, &without);
    assert_true(with.n_prompt > without.n_prompt);
    g = chat("advised", "hey");
    g.system = "Be long.";
    generate(f, &g, &later);
    assert_true(later.system_ignored);
    assert_text(get(ask(f, "session.show", "session", "advised"), "system"), "Be brief.");
    bora_test_answer_release(&with);
    bora_test_answer_release(&without);
    bora_test_answer_release(&later);
}

static void a_missing_session_can_be_an_error(void **state)
{
    fixture *f = *state;
    bora_test_answer a = {0};
    bora_client_generation g = chat("not there", "hey");
    g.no_create = true;
    assert_int_equal(bora_test_answer_get(f->client, &g, &a), BORA_CLIENT_E_REFUSED);
    assert_string_equal(a.error.code, "not_found");
    bora_test_answer_release(&a);
    assert_refused(f, ask(f, "session.show", "session", "not there"), "not_found");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_have_their_fields),
        cmocka_unit_test(text_prompt_and_tokens),
        cmocka_unit_test(a_chat_is_its_tokens),
        cmocka_unit_test(exactly_one_question),
        cmocka_unit_test(several_answers),
        cmocka_unit_test(a_deadline_ends_it),
        cmocka_unit_test(max_tokens_is_kept),
        cmocka_unit_test(logprobs_are_logprobs),
        cmocka_unit_test(seeds_reproduce),
        cmocka_unit_test(sampling_parameters_arrive),
        cmocka_unit_test(biases_forbid_and_force),
        cmocka_unit_test(stop_texts_stop),
        cmocka_unit_test(eos_can_be_ignored),
        cmocka_unit_test(a_system_prompt_is_the_first_turns),
        cmocka_unit_test(a_missing_session_can_be_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
