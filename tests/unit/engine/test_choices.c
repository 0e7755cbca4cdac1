/* Several answers to one prompt: each is what the request alone with its seed would give, bit for bit. */
#include "scheduler_fixture.h"

#define N_CHOICES 4
#define SEED      77

static int setup_paged(void **state)
{
    engine_options options = ENGINE_DEFAULT;
    options.cache = "paged";
    *state = fixture_open(&options);
    return 0;
}

/* Few places, so that answers take turns. */
static int setup_narrow(void **state)
{
    engine_options options = ENGINE_DEFAULT;
    options.max_running = 2;
    options.n_left_max = 4;
    *state = fixture_open(&options);
    return 0;
}

static bora_generation *drawn(bora_generation *generation, uint64_t seed, uint32_t n_choices)
{
    generation->sampling.temperature = 1;
    generation->sampling.seed = seed;
    generation->n_choices = n_choices;
    return generation;
}

static bora_generation *choices_of(fixture *f, uint32_t max_generated, uint32_t n_choices)
{
    return drawn(generation_of(f, story(), max_generated), SEED, n_choices);
}

static record *alone(fixture *f, uint32_t choice, uint32_t max_generated)
{
    record *r = run(f, drawn(generation_of(f, story(), max_generated), SEED + choice, 1));
    ended(r, BORA_REASON_LENGTH);
    return r;
}

static void test_as_alone(void **state)
{
    fixture *f = *state;
    record *r = run(f, choices_of(f, 40, N_CHOICES));
    ended(r, BORA_REASON_LENGTH);
    for (uint32_t i = 0; i < N_CHOICES; i++) {
        record *is = r->choices[i], *should = alone(f, i, 40);
        assert_int_equal(is->n_done, 1);
        ended(is, BORA_REASON_LENGTH);
        assert_int_equal(is->done->type, BORA_EVENT_CHOICE);
        assert_int_equal(is->done->choice, i);
        assert_int_equal(is->n_tokens, 40);
        same(is, should, 40);
        assert_int_equal(is->text_size, should->text_size);
        assert_memory_equal(is->text, should->text, is->text_size);
        assert_int_equal(is->done->n_cached, r->n_prompt + 39);
        assert_int_equal(is->done->n_prompt, r->n_prompt);
        assert_null(is->done->sequence);
        for (uint32_t j = 0; j < i; j++)
            assert_memory_not_equal(is->tokens, r->choices[j]->tokens, 40 * sizeof *is->tokens);
    }
    /* The prompt was read once. */
    assert_int_equal(r->last_progress, r->n_prompt);
    assert_int_equal(r->done->n_prompt, r->n_prompt);
    bora_scheduler_stats stats = stats_of(f);
    assert_int_equal(stats.n_prompt_tokens, (N_CHOICES + 1) * r->n_prompt);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.kv_bytes, stats.shelf_bytes);
}

/* Past the window, in the middle of a page, and beside others. */
static void test_long_prompt(void **state)
{
    fixture *f = *state;
    record *beside = submit(f, generation_of_text(9, 20, 60));
    record *r = submit(f, drawn(generation_of_text(1, 397, 20), SEED, 3));
    await(f, r);
    await(f, beside);
    ended(r, BORA_REASON_LENGTH);
    for (uint32_t i = 0; i < 3; i++)
        same(r->choices[i], run(f, drawn(generation_of_text(1, 397, 20), SEED + i, 1)), 20);
    same(beside, run(f, generation_of_text(9, 20, 60)), 60);
}

/* Each ends by itself. */
static void test_ends(void **state)
{
    fixture *f = *state;
    bora_generation *generation = drawn(generation_of(f, "[INST] Hello! [/INST]", 120), 3, BORA_CHOICES_MAX);
    generation->ignore_eos = false;
    record *r = run(f, generation);
    size_t n_stopped = 0;
    uint32_t lengths[BORA_CHOICES_MAX], n_lengths = 0;
    for (uint32_t i = 0; i < BORA_CHOICES_MAX; i++) {
        const record *is = r->choices[i];
        assert_int_equal(is->n_done, 1);
        n_stopped += is->done->reason == BORA_REASON_STOP;
        assert_true(is->done->reason == BORA_REASON_STOP || is->done->reason == BORA_REASON_LENGTH);
        uint32_t j = 0;
        while (j < n_lengths && lengths[j] != is->n_tokens)
            j++;
        if (j == n_lengths)
            lengths[n_lengths++] = (uint32_t)is->n_tokens;
    }
    assert_true(n_stopped > 0);
    assert_true(n_lengths > 2);
    generation = drawn(generation_of(f, "[INST] Hello! [/INST]", 120), 3 + 11, 1);
    generation->ignore_eos = false;
    record *should = run(f, generation);
    assert_int_equal(should->n_tokens, r->choices[11]->n_tokens);
    same(should, r->choices[11], should->n_tokens);
}

/* Nothing to generate: one answer, empty. */
static void test_only_a_prompt(void **state)
{
    fixture *f = *state;
    record *r = run(f, choices_of(f, 0, N_CHOICES));
    ended(r, BORA_REASON_LENGTH);
    assert_int_equal(r->choices[0]->n_done, 1);
    assert_int_equal(r->choices[0]->n_tokens, 0);
    r = run(f, choices_of(f, 1, N_CHOICES));
    ended(r, BORA_REASON_LENGTH);
    for (uint32_t i = 0; i < N_CHOICES; i++)
        assert_int_equal(r->choices[i]->n_tokens, 1);
}

/* ---- cancel -------------------------------------------------------------------------------------------------------
 */

static void test_cancel_in_prompt(void **state)
{
    fixture *f = *state;
    record *r = submit(f, drawn(generation_of_text(1, 600, 20), SEED, N_CHOICES));
    while (r->n_progress == 0)
        take(f);
    cancel(f, r);
    await(f, r);
    ended(r, BORA_REASON_CANCELLED);
    assert_true(r->last_progress < r->n_prompt);
    assert_int_equal(r->choices[0]->n_done, 1); /* it had not been split yet */
    ended(r->choices[0], BORA_REASON_CANCELLED);
    for (uint32_t i = 1; i < N_CHOICES; i++)
        assert_int_equal(r->choices[i]->n_done, 0);
    assert_int_equal(stats_of(f).n_running, 0);
}

static void test_cancel_in_the_middle(void **state)
{
    fixture *f = *state;
    record *beside = submit(f, generation_of(f, "The dog", 60));
    record *r = submit(f, choices_of(f, 3000, N_CHOICES));
    while (r->choices[0]->n_tokens < 5 || r->choices[N_CHOICES - 1]->n_tokens < 5)
        take(f);
    cancel(f, r);
    await(f, r);
    ended(r, BORA_REASON_CANCELLED);
    for (uint32_t i = 0; i < N_CHOICES; i++) {
        assert_int_equal(r->choices[i]->n_done, 1);
        ended(r->choices[i], BORA_REASON_CANCELLED);
        uint32_t n = (uint32_t)r->choices[i]->n_tokens;
        assert_true(n >= 4);
        same(r->choices[i], alone(f, i, n), n);
    }
    assert_int_equal(stats_of(f).n_cancelled, N_CHOICES);
    await(f, beside);
    same(beside, run(f, generation_of(f, "The dog", 60)), 60);
}

static void test_stop(void **state)
{
    fixture *f = *state;
    record *r = submit(f, choices_of(f, 3000, N_CHOICES));
    while (r->choices[N_CHOICES - 1]->n_tokens == 0)
        take(f);
    bora_scheduler_stop(f->engine.scheduler);
    await(f, r);
    ended(r, BORA_REASON_SHUTDOWN);
    for (uint32_t i = 0; i < N_CHOICES; i++)
        ended(r->choices[i], BORA_REASON_SHUTDOWN);
}

/* ---- no memory ----------------------------------------------------------------------------------------------------
 */

/* From each allocation on: all end once, those that ended well are right, and what comes later is not touched. */
static void test_no_memory(void **state)
{
    fixture *f = *state;
    record *should[3];
    for (uint32_t i = 0; i < 3; i++)
        should[i] = run(f, drawn(generation_of(f, "Once upon a", 3), SEED + i, 1));
    size_t n_failed = 0, n_half = 0;
    for (uint64_t at = 1; at < 400; at++) {
        bora_generation *generation = drawn(generation_of(f, "Once upon a", 3), SEED, 3);
        record *r = record_new(f->n_records + 1, 3);
        f->records[f->n_records++] = r;
        generation->id = r->id;
        (void)bora_memory_fail_at(at);
        bora_status st = bora_scheduler_submit(f->engine.scheduler, generation, NULL);
        if (st == BORA_OK)
            await(f, r);
        bool was_reached = bora_memory_fail_at(0) >= at;
        if (st != BORA_OK) {
            bora_generation_free(generation);
            n_failed++;
            continue;
        }
        size_t n_good = 0;
        for (uint32_t i = 0; i < 3; i++) {
            const record *is = r->choices[i];
            if (is->n_done && is->done->reason != BORA_REASON_ERROR) {
                assert_int_equal(is->n_tokens, 3);
                same(is, should[i], 3);
                n_good++;
            } else if (is->n_done) {
                assert_int_equal(is->done->status, BORA_E_NOMEM);
                same(is, should[i], is->n_tokens);
            }
        }
        if (r->done->reason == BORA_REASON_ERROR)
            assert_int_equal(r->done->status, BORA_E_NOMEM);
        n_failed += n_good < 3;
        n_half += n_good > 0 && n_good < 3;
        if (!was_reached) {
            assert_int_equal(n_good, 3);
            break;
        }
        assert_true(at < 399);
    }
    assert_true(n_failed > 10);
    (void)n_half;
    record *r = run(f, drawn(generation_of(f, "Once upon a", 3), SEED, 3));
    for (uint32_t i = 0; i < 3; i++)
        same(r->choices[i], should[i], 3);
    assert_int_equal(stats_of(f).n_running, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_as_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_as_alone, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_as_alone, setup_narrow, teardown),
        cmocka_unit_test_setup_teardown(test_long_prompt, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_long_prompt, setup_narrow, teardown),
        cmocka_unit_test_setup_teardown(test_ends, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_only_a_prompt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_in_prompt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_in_the_middle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_in_the_middle, setup_narrow, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup_paged, teardown),
    };
    return cmocka_run_group_tests_name("choices", tests, NULL, NULL);
}
