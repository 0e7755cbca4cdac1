/* The scheduler on the embedded model: what a generation's events say, how generations end, and that they do not touch
 * each other. */
#include "scheduler_fixture.h"

static int setup_narrow(void **state)
{
    engine_options options = ENGINE_DEFAULT;
    options.max_running = 2;
    options.chunk = 8;
    options.batch_tokens = 12;
    *state = fixture_open(&options);
    return 0;
}

/* ---- one at a time ----------------------------------------------------------------------------------------------- */

static void test_events(void **state)
{
    fixture *f = *state;
    record *r = run(f, generation_of(f, story(), 20));
    ended(r, BORA_REASON_LENGTH);
    assert_int_equal(r->n_started, 1);
    assert_int_equal(r->n_tokens, 20);
    assert_int_equal(r->n_progress, (r->n_prompt + 31) / 32);
    assert_int_equal(r->n_cached, 0);
    assert_int_equal(r->done->n_cached, r->n_prompt + 19); /* the last token is not run */
    assert_null(r->done->sequence);
    assert_null(r->done->pages);
    assert_true(r->done->kv_bytes > 0);
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(f->engine.scheduler, &stats);
    assert_int_equal(stats.n_steps, r->n_progress + 19);
    assert_int_equal(stats.n_prompt_tokens, r->n_prompt);
    assert_int_equal(stats.n_generated_tokens, 20);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.kv_bytes, 0);
    assert_true(stats.prompt_rate > 0);
    assert_true(stats.generated_rate > 0); /* of all steps but the last, which may not be in it yet */
    assert_false(stats.is_loading);
}

static void test_nothing_to_generate(void **state)
{
    fixture *f = *state;
    bora_generation *generation = generation_of(f, story(), 0);
    generation->keep = true;
    record *r = run(f, generation);
    ended(r, BORA_REASON_LENGTH);
    assert_int_equal(r->n_tokens, 0);
    assert_int_equal(r->done->n_cached, r->n_prompt);
    assert_non_null(r->done->text);
    assert_non_null(r->done->answer);
    assert_non_null(r->done->sequence);
    /* The sequence goes on as if it had never stopped. */
    record *whole = run(f, generation_of(f, story(), 1));
    bora_generation *more = generation_of(f, story(), 8);
    assert_ok(({
        bora_tokens tokens = {.ids = more->tokens, .n = more->n_tokens, .capacity = more->n_tokens};
        bora_status st = bora_tokens_push(&tokens, whole->tokens[0], err);
        more->tokens = tokens.ids;
        more->n_tokens = tokens.n;
        st;
    }));
    more->sequence = r->done->sequence;
    record *rest = run(f, more);
    ended(rest, BORA_REASON_LENGTH);
    assert_int_equal(rest->n_cached, r->n_prompt);
    assert_int_equal(rest->n_prompt, 1);
    record *alone = run(f, generation_of(f, story(), 9));
    assert_memory_equal(alone->tokens + 1, rest->tokens, 8 * sizeof *rest->tokens);
}

static void test_end_of_text(void **state)
{
    fixture *f = *state;
    bora_generation *generation = generation_of(f, "[INST] Hello! [/INST]", 200);
    generation->ignore_eos = false;
    record *r = run(f, generation);
    ended(r, BORA_REASON_STOP);
    assert_int_equal(r->tokens[r->n_tokens - 1], bora_tokenizer_eos(bora_model_tokenizer(f->engine.model)));
    assert_true(r->text_size > 0);
}

/* Stop texts: every two neighbouring bytes of an answer, and three over the border of tokens. */
static void test_stop_texts(void **state)
{
    fixture *f = *state;
    record *whole = run(f, generation_of(f, story(), 24));
    assert_true(whole->text_size > 20);
    for (size_t at = 3; at + 8 < whole->text_size && f->n_records < 10; at += 5) {
        size_t n = 2 + at % 5; /* bytes */
        char *stop = bora_strndup(whole->text + at, n);
        const char *first = strstr(whole->text, stop);
        assert_non_null(first);
        bora_generation *generation = generation_of(f, story(), 24);
        generation->stops[0] = bora_strdup("never in an answer, and longer than any");
        generation->stops[1] = stop;
        generation->n_stops = 2;
        record *r = run(f, generation);
        ended(r, BORA_REASON_STOP_TEXT);
        assert_int_equal(r->text_size, (size_t)(first - whole->text));
        assert_memory_equal(r->text, whole->text, r->text_size);
        same(r, whole, r->n_tokens); /* the tokens of the stop text are there */
    }
    /* What looked like the beginning of a stop text comes out at the end. */
    bora_generation *generation = generation_of(f, story(), 24);
    char *held = bora_strndup(whole->text + whole->text_size - 3, 4);
    char *stop = bora_format("%s!never", held);
    bora_free(held);
    generation->stops[0] = stop;
    generation->n_stops = 1;
    record *r = run(f, generation);
    ended(r, BORA_REASON_LENGTH);
    assert_int_equal(r->text_size, whole->text_size);
    assert_memory_equal(r->text, whole->text, r->text_size);
    assert_true(r->done->text_size >= 3);
}

static void test_context(void **state)
{
    fixture *f = *state;
    engine_close(&f->engine);
    engine_options options = ENGINE_DEFAULT;
    options.context = 50;
    engine_open(&f->engine, &options);
    bora_generation *full = generation_of(f, story(), 1);
    full->tokens = bora_realloc(full->tokens, 51, sizeof *full->tokens);
    for (size_t i = full->n_tokens; i < 51; i++)
        full->tokens[i] = 5;
    full->n_tokens = 51;
    record *r = run(f, full);
    ended(r, BORA_REASON_ERROR);
    assert_int_equal(r->done->status, BORA_E_LIMIT);
    assert_int_equal(r->n_started, 0);
    r = run(f, generation_of(f, "Once", 1000));
    ended(r, BORA_REASON_CONTEXT);
    assert_int_equal(r->n_prompt + r->n_tokens, 50);
}

/* ---- several ---- */

static void test_together_as_alone(void **state)
{
    fixture *f = *state;
    static const char *const prompts[] = {"Once", "The dog", "What is your name? My name is", "a b c d e f g h", "I"};
    record *alone[5], *together[5];
    for (size_t i = 0; i < 5; i++)
        alone[i] = run(f, generation_of(f, i == 4 ? story() : prompts[i], 12));
    for (size_t i = 0; i < 5; i++)
        together[i] = submit(f, generation_of(f, i == 4 ? story() : prompts[i], 12));
    for (size_t i = 0; i < 5; i++) {
        await(f, together[i]);
        ended(together[i], BORA_REASON_LENGTH);
        same(alone[i], together[i], 12);
    }
}

/* More than fit into a step: they take turns, so that short ones end while long ones are still at it. */
static void test_turns(void **state)
{
    fixture *f = *state; /* two in a step */
    record *r[5];
    for (size_t i = 0; i < 5; i++)
        r[i] = submit(f, generation_of(f, "Once upon", i < 3 ? 600 : 4));
    while (r[0]->n_tokens == 0 || r[1]->n_tokens == 0 || r[2]->n_tokens == 0)
        take(f);
    await(f, r[3]);
    await(f, r[4]);
    ended(r[3], BORA_REASON_LENGTH);
    ended(r[4], BORA_REASON_LENGTH);
    same(r[3], r[4], 4);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(r[i]->n_done, 0);
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(f->engine.scheduler, &stats);
    assert_int_equal(stats.n_running, 3);
    assert_int_equal(stats.n_waiting, 0);
    /* As far as each other, give or take a turn and what is under way. */
    size_t begin[3], n = r[0]->n_tokens;
    for (size_t i = 0; i < 3; i++)
        begin[i] = r[i]->n_tokens;
    while (r[0]->n_tokens < n + 60)
        take(f);
    for (size_t i = 1; i < 3; i++)
        assert_in_range(r[i]->n_tokens - begin[i], 50, 70);
    for (size_t i = 0; i < 3; i++) {
        cancel(f, r[i]);
        await(f, r[i]);
        ended(r[i], BORA_REASON_CANCELLED);
        same(r[0], r[i], r[0]->n_tokens < r[i]->n_tokens ? r[0]->n_tokens : r[i]->n_tokens);
    }
}

static void test_cancel(void **state)
{
    fixture *f = *state;
    record *witness = submit(f, generation_of(f, "The dog", 150));
    char text[4000];
    long_text(text, sizeof text);
    record *prompt = submit(f, generation_of(f, text, 10));
    while (prompt->n_progress == 0)
        take(f);
    cancel(f, prompt);
    await(f, prompt);
    ended(prompt, BORA_REASON_CANCELLED);
    assert_int_equal(prompt->n_tokens, 0);
    assert_true(prompt->done->n_cached < prompt->n_prompt);
    bora_generation *generation = generation_of(f, "Once upon", 3000);
    generation->keep = generation->export_pages = true;
    record *answer = submit(f, generation);
    while (answer->n_tokens < 5)
        take(f);
    cancel(f, answer);
    await(f, answer);
    ended(answer, BORA_REASON_CANCELLED);
    assert_true(answer->n_tokens >= 5 && answer->n_tokens < 3000);
    assert_int_equal(answer->done->n_cached, answer->n_prompt + answer->n_tokens - 1);
    assert_non_null(answer->done->sequence);
    assert_ok(bora_scheduler_close_sequence(f->engine.scheduler, answer->done->sequence, err));
    cancel(f, answer); /* over already: nothing happens */
    assert_ok(bora_scheduler_cancel(f->engine.scheduler, 999, err));
    await(f, witness);
    ended(witness, BORA_REASON_LENGTH);
    same(run(f, generation_of(f, "The dog", 150)), witness, 150);
    same(run(f, generation_of(f, "Once upon", (uint32_t)answer->n_tokens)), answer, answer->n_tokens);
}

static void test_stop(void **state)
{
    fixture *f = *state; /* two run */
    record *a = submit(f, generation_of(f, "Once upon", 3000));
    bora_generation *generation = generation_of(f, "The dog", 3000);
    generation->keep = generation->export_pages = true;
    record *b = submit(f, generation);
    record *waiting = submit(f, generation_of(f, "The dog", 3000));
    while (a->n_tokens < 3 || b->n_tokens < 3)
        take(f);
    bora_scheduler_stop(f->engine.scheduler);
    bora_scheduler_stop(f->engine.scheduler);
    record *late = submit(f, generation_of(f, "The dog", 10));
    await(f, a);
    await(f, b);
    await(f, waiting);
    await(f, late);
    ended(a, BORA_REASON_SHUTDOWN);
    ended(b, BORA_REASON_SHUTDOWN);
    assert_true(b->done->n_pages > 0);
    assert_non_null(b->done->sequence); /* closed by free */
    ended(waiting, BORA_REASON_SHUTDOWN);
    ended(late, BORA_REASON_SHUTDOWN);
    assert_int_equal(late->n_started, 0);
}

/* A generation that cannot be run costs itself, not those in the same step. */
static void test_bad_one_of_many(void **state)
{
    fixture *f = *state;
    record *good = submit(f, generation_of(f, "The dog", 60));
    while (good->n_tokens == 0)
        take(f);
    bora_generation *generation = generation_of(f, "The cat", 10);
    generation->tokens[1] = INT32_MAX;
    record *bad = submit(f, generation);
    record *other = submit(f, generation_of(f, "The dog", 60));
    await(f, bad);
    await(f, good);
    await(f, other);
    ended(bad, BORA_REASON_ERROR);
    assert_int_equal(bad->done->status, BORA_E_INVAL);
    ended(good, BORA_REASON_LENGTH);
    ended(other, BORA_REASON_LENGTH);
    same(good, other, 60);
    same(run(f, generation_of(f, "The dog", 60)), good, 60);
}

/* ---- leaving and coming back ---- */

/* Past the window: exported, restored, the answer goes on as if nothing had been. damaged: its pages are refused. */
static void round_trip(fixture *f, bool damaged)
{
    const uint32_t n_first = 20, n_rest = 20;
    char text[2100];
    long_text(text, sizeof text);
    record *whole = run(f, generation_of(f, text, n_first + n_rest));
    assert_true(whole->n_prompt > TINY_WINDOW + 32 + 2 * BORA_PAGE_POSITIONS);
    bora_generation *generation = generation_of(f, text, n_first);
    generation->export_pages = true;
    record *first = run(f, generation);
    same(whole, first, n_first);
    assert_true(first->done->n_pages > 0 && first->done->n_classes >= 1 && first->done->keep_from[0] > 0);
    assert_false(first->done->replaced_pages);

    bora_generation *rest = generation_of(f, text, n_rest);
    bora_tokens tokens = {.ids = rest->tokens, .n = rest->n_tokens, .capacity = rest->n_tokens};
    assert_ok(bora_tokens_append(&tokens, first->tokens, n_first, err));
    rest->tokens = tokens.ids;
    rest->n_tokens = tokens.n;
    rest->restore = bora_steal(&first->done->pages);
    rest->n_restore = first->done->n_pages;
    first->done->n_pages = 0;
    rest->restore_n_cached = first->done->n_cached;
    rest->export_pages = rest->keep = true;
    if (damaged)
        rest->restore[rest->n_restore - 1].n++;
    record *r = run(f, rest);
    ended(r, BORA_REASON_LENGTH);
    assert_int_equal(r->restore_failed, damaged);
    assert_int_equal(r->n_cached, damaged ? 0 : first->done->n_cached);
    assert_int_equal(r->n_prompt, damaged ? first->done->n_cached + 1 : 1);
    assert_memory_equal(r->tokens, whole->tokens + n_first, n_rest * sizeof *r->tokens);
    assert_int_equal(r->done->replaced_pages, damaged);
    /* What it exports is new only, or, run again, all that a later restore needs. */
    assert_true(r->done->n_pages > 0);
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < r->done->n_pages; i++)
        oldest = r->done->pages[i].index < oldest ? r->done->pages[i].index : oldest;
    if (damaged)
        assert_true(oldest * BORA_PAGE_POSITIONS + TINY_WINDOW <= r->done->n_cached);
    else
        assert_int_equal(oldest, first->done->n_cached / BORA_PAGE_POSITIONS);
}

static void test_round_trip(void **state)
{
    round_trip(*state, false);
}

static void test_round_trip_damaged(void **state)
{
    round_trip(*state, true);
}

static void test_options(void **state)
{
    fixture *f = *state;
    bora_scheduler *none = NULL;
    bora_scheduler_options bad[] = {
        {.chunk = 0, .batch_tokens = 64, .max_running = 8},  {.chunk = 33, .batch_tokens = 64, .max_running = 8},
        {.chunk = 32, .batch_tokens = 0, .max_running = 8},  {.chunk = 32, .batch_tokens = 65, .max_running = 8},
        {.chunk = 32, .batch_tokens = 64, .max_running = 0}, {.chunk = 32, .batch_tokens = 64, .max_running = 9},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++)
        assert_int_equal(bora_scheduler_new(f->engine.pipeline, &bad[i], f->engine.events, NULL, &none, NULL),
                         BORA_E_INVAL);
    bora_scheduler_options good = {.chunk = 32, .batch_tokens = 64, .max_running = 8};
    bora_status st = BORA_E_NOMEM;
    uint64_t n = 1;
    for (; st == BORA_E_NOMEM; n++) { /* the other engine sleeps meanwhile */
        (void)bora_memory_fail_at(n);
        st = bora_scheduler_new(f->engine.pipeline, &good, f->engine.events, NULL, &none, NULL);
        (void)bora_memory_fail_at(0);
    }
    assert_int_equal(st, BORA_OK);
    assert_true(n > 6);
    bora_scheduler_free(none);
    bora_scheduler_free(NULL);
    assert_string_equal(bora_reason_name(BORA_REASON_STOP_TEXT), "stop_text");
    assert_string_equal(bora_reason_name(99), "error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_to_generate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_of_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_context, setup, teardown),
        cmocka_unit_test_setup_teardown(test_together_as_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_turns, setup_narrow, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup_narrow, teardown),
        cmocka_unit_test_setup_teardown(test_bad_one_of_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_round_trip_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_options, setup, teardown),
    };
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
