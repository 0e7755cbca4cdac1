/* Cancelling one of many: it leaves within a layer's work, and nobody else notices. */
#include "scheduler_fixture.h"

#include <pthread.h>
#include <sched.h>

static int open_with(void **state, const char *cache, const char *expert, uint32_t n_stages)
{
    engine_options options = ENGINE_DEFAULT;
    options.cache = cache;
    options.expert = expert;
    options.n_stages = n_stages;
    *state = fixture_open(&options);
    return 0;
}

static int setup_ring(void **state)
{
    return open_with(state, "ring", "reference", 1);
}

static int setup_paged(void **state)
{
    return open_with(state, "paged", "quant", 1);
}

static int setup_stages(void **state)
{
    return open_with(state, "ring", "quant", 3);
}

/* ---- between layers ------------------------------------------------------------------------------------------------
 */

#define PARTS 4u

typedef struct drop {
    bora_batch_part *parts;
    uint32_t part, layer, n_calls;
    bool is_closed; /* its sequence goes at once */
} drop;

static void drop_one(void *arg)
{
    drop *d = arg;
    if (d->n_calls++ != d->layer)
        return;
    bora_batch_part *part = &d->parts[d->part];
    part->dropped = true;
    assert_ok(bora_sequence_truncate(part->sequence, bora_sequence_n_cached(part->sequence), err));
    if (d->is_closed)
        bora_sequence_close(part->sequence);
}

/* Decoding, prompts in their middle and at their end, past the window and not. */
static const uint32_t history[PARTS] = {40, 300, 0, 390}, n_rows[PARTS] = {1, 20, 17, 1};
static const uint32_t n_logits[PARTS] = {1, 0, 2, 1};

static bora_sequence *sequence_at(fixture *f, uint32_t which, uint64_t n)
{
    bora_sequence *sequence = NULL;
    assert_ok(bora_sequence_open(f->engine.pipeline, &sequence, err));
    for (uint64_t at = 0; at < n;) {
        int32_t tokens[32];
        uint32_t rows = n - at < 32 ? (uint32_t)(n - at) : 32;
        for (uint32_t i = 0; i < rows; i++)
            tokens[i] = text_token(which, at + i);
        bora_batch_part part = {.sequence = sequence, .n = rows};
        bora_batch batch = {.tokens = tokens, .parts = &part, .n_parts = 1};
        assert_ok(bora_pipeline_forward(f->engine.pipeline, &batch, NULL, NULL, err));
        at += rows;
    }
    return sequence;
}

/* The rows of each part; logits in new memory. */
static float *forward(fixture *f, bora_batch_part *parts, uint32_t n_parts, const uint32_t *texts, drop *d)
{
    int32_t tokens[64];
    uint32_t n = 0, n_wanted = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        for (uint32_t r = 0; r < parts[i].n; r++)
            tokens[n++] = text_token(texts[i], bora_sequence_n_cached(parts[i].sequence) + r);
        n_wanted += parts[i].n_logits;
    }
    size_t vocab_size = bora_model_hparams(f->engine.model)->vocab_size;
    float *logits = calloc((n_wanted + 1) * vocab_size, sizeof *logits);
    assert_non_null(logits);
    bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = n_parts};
    if (d) {
        d->parts = parts;
        batch.between = drop_one;
        batch.between_arg = d;
    }
    assert_ok(bora_pipeline_forward(f->engine.pipeline, &batch, NULL, logits, err));
    return logits;
}

/* Each part left out before each layer: the others' logits are those of a run in which nobody left, and what was left
 * out goes on as if it had not been there. The engine's thread sleeps: this one may use its pipeline. */
static void test_between_layers(void **state)
{
    fixture *f = *state;
    static const uint32_t texts[PARTS] = {0, 1, 2, 3};
    const size_t vocab_size = bora_model_hparams(f->engine.model)->vocab_size;
    const uint32_t n_layers = bora_model_hparams(f->engine.model)->n_layers;
    bora_sequence *from[PARTS];
    for (uint32_t i = 0; i < PARTS; i++)
        from[i] = sequence_at(f, i, history[i]);
    float *alone[PARTS];
    for (uint32_t i = 0; i < PARTS; i++) {
        bora_batch_part part = {.n = n_rows[i], .n_logits = n_logits[i]};
        assert_ok(bora_sequence_fork(from[i], history[i], &part.sequence, err));
        alone[i] = forward(f, &part, 1, &texts[i], NULL);
        bora_sequence_close(part.sequence);
    }
    for (uint32_t layer = 0; layer < n_layers; layer++)
        for (uint32_t out = 0; out < PARTS; out++)
            for (int is_closed = 0; is_closed <= 1; is_closed++) {
                bora_batch_part parts[PARTS];
                for (uint32_t i = 0; i < PARTS; i++) {
                    parts[i] = (bora_batch_part){.n = n_rows[i], .n_logits = n_logits[i]};
                    assert_ok(bora_sequence_fork(from[i], history[i], &parts[i].sequence, err));
                }
                drop d = {.part = out, .layer = layer, .is_closed = is_closed};
                float *logits = forward(f, parts, PARTS, texts, &d);
                assert_int_equal(d.n_calls, n_layers);
                const float *row = logits;
                for (uint32_t i = 0; i < PARTS; i++) {
                    if (i == out)
                        continue;
                    assert_memory_equal(row, alone[i], n_logits[i] * vocab_size * sizeof *row);
                    row += n_logits[i] * vocab_size;
                    assert_int_equal(bora_sequence_n_cached(parts[i].sequence), history[i] + n_rows[i]);
                    bora_sequence_close(parts[i].sequence);
                }
                free(logits);
                if (is_closed)
                    continue;
                bora_batch_part *again = &parts[out];
                assert_int_equal(bora_sequence_n_cached(again->sequence), history[out]);
                again->dropped = false;
                logits = forward(f, again, 1, &texts[out], NULL);
                assert_memory_equal(logits, alone[out], n_logits[out] * vocab_size * sizeof *logits);
                free(logits);
                bora_sequence_close(again->sequence);
            }
    for (uint32_t i = 0; i < PARTS; i++) {
        free(alone[i]);
        bora_sequence_close(from[i]);
    }
}

static void drop_all(void *arg)
{
    drop *d = arg;
    for (uint32_t i = 0; i < PARTS; i++)
        if (d->n_calls == i)
            d->parts[i].dropped = true;
    d->n_calls++;
}

/* One before each layer, until nobody is left (or the layers are through). */
static void test_all_leave(void **state)
{
    fixture *f = *state;
    bora_batch_part parts[PARTS];
    int32_t tokens[64];
    uint32_t n = 0;
    for (uint32_t i = 0; i < PARTS; i++) {
        parts[i] = (bora_batch_part){.sequence = sequence_at(f, i, 10), .n = 2, .n_logits = 1};
        for (uint32_t r = 0; r < 2; r++)
            tokens[n++] = text_token(i, 10 + r);
    }
    drop d = {.parts = parts};
    bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = PARTS, .between = drop_all, .between_arg = &d};
    float *logits = calloc(PARTS * bora_model_hparams(f->engine.model)->vocab_size, sizeof *logits);
    assert_ok(bora_pipeline_forward(f->engine.pipeline, &batch, NULL, logits, err));
    free(logits);
    uint32_t n_layers = bora_model_hparams(f->engine.model)->n_layers;
    assert_int_equal(d.n_calls, n_layers < PARTS ? n_layers : PARTS);
    for (uint32_t i = 0; i < PARTS; i++) {
        assert_int_equal(bora_sequence_n_cached(parts[i].sequence), parts[i].dropped ? 10 : 12);
        bora_sequence_close(parts[i].sequence);
    }
}

/* ---- among others --------------------------------------------------------------------------------------------------
 */

#define WITNESSES 3u

static bora_generation *witness(uint32_t i)
{
    static const size_t n[WITNESSES] = {10, 200, 60};
    bora_generation *generation = generation_of_text(10 + i, n[i], 80);
    if (i == 2) {
        generation->sampling.temperature = 0.8f;
        generation->sampling.seed = 5;
    }
    return generation;
}

/* Some are cancelled at all times; the others' answers are those of runs alone, and so is what the cancelled ones
 * said until then. */
static void test_others_do_not_notice(void **state)
{
    fixture *f = *state;
    record *others[WITNESSES], *cut[8];
    for (uint32_t i = 0; i < WITNESSES; i++)
        others[i] = submit(f, witness(i));
    for (uint32_t i = 0; i < BORA_ARRAY_SIZE(cut); i++) {
        cut[i] = submit(f, generation_of_text(20 + i, 30 + 40 * i, 1000));
        while (cut[i]->n_done == 0 && (i % 2 ? cut[i]->n_tokens < i : cut[i]->n_progress == 0))
            take(f);
        cancel(f, cut[i]);
    }
    for (uint32_t i = 0; i < BORA_ARRAY_SIZE(cut); i++) {
        await(f, cut[i]);
        ended(cut[i], BORA_REASON_CANCELLED);
        assert_true(cut[i]->n_tokens < 1000);
    }
    for (uint32_t i = 0; i < WITNESSES; i++) {
        await(f, others[i]);
        ended(others[i], BORA_REASON_LENGTH);
        same(others[i], run(f, witness(i)), 80);
    }
    for (uint32_t i = 0; i < BORA_ARRAY_SIZE(cut); i++)
        if (cut[i]->n_tokens)
            same(cut[i], run(f, generation_of_text(20 + i, 30 + 40 * i, (uint32_t)cut[i]->n_tokens)), cut[i]->n_tokens);
    assert_int_equal(stats_of(f).n_cancelled, BORA_ARRAY_SIZE(cut));
}

/* What is cancelled can go on from where it stood. */
static void test_goes_on(void **state)
{
    fixture *f = *state;
    record *beside = submit(f, witness(0));
    bora_generation *generation = generation_of_text(1, 100, 1000);
    generation->keep = true;
    record *cut = submit(f, generation);
    await_tokens(f, cut, 7);
    cancel(f, cut);
    await(f, cut);
    ended(cut, BORA_REASON_CANCELLED);
    size_t n = cut->n_tokens;
    assert_int_equal(cut->done->n_cached, 100 + n - 1);
    bora_generation *rest = generation_of_text(1, 100 + n, 20);
    memcpy(rest->tokens + 100, cut->tokens, n * sizeof *rest->tokens);
    rest->sequence = cut->done->sequence;
    cut->done->sequence = NULL;
    record *r = run(f, rest), *whole = run(f, generation_of_text(1, 100, (uint32_t)n + 20));
    ended(r, BORA_REASON_LENGTH);
    assert_int_equal(r->n_prompt, 1);
    assert_memory_equal(r->tokens, whole->tokens + n, 20 * sizeof *r->tokens);
    assert_memory_equal(r->logprobs, whole->logprobs + n, 20 * sizeof *r->logprobs);
    await(f, beside);
    same(beside, run(f, witness(0)), 80);
}

/* ---- a storm ------------------------------------------------------------------------------------------------------
 */

typedef struct storm {
    fixture *f;
    atomic_uint id;   /* whom to cancel; 0: nobody */
    atomic_bool stop; /* it is over */
    atomic_uint n_sent;
    uint32_t n_nomem;
} storm;

/* At most as many as the engine takes: each waits for the one before. */
static void *rage(void *arg)
{
    storm *s = arg;
    while (!atomic_load(&s->stop)) {
        uint64_t id = atomic_load(&s->id);
        /* Sometimes one that is there, mostly one that never was. */
        s->n_nomem += bora_scheduler_cancel(s->f->engine.scheduler,
                                            id && atomic_load(&s->n_sent) % 64 == 0 ? id : 999999, NULL) != BORA_OK;
        atomic_fetch_add(&s->n_sent, 1);
        (void)sched_yield();
    }
    return NULL;
}

/* Cancels rain from another thread all the time: those who are not meant get on, with the same words. */
static void test_storm(void **state)
{
    fixture *f = *state;
    storm s = {.f = f};
    pthread_t thread;
    record *others[WITNESSES];
    for (uint32_t i = 0; i < WITNESSES; i++)
        others[i] = submit(f, witness(i));
    assert_int_equal(pthread_create(&thread, NULL, rage, &s), 0);
    size_t n_cut = 0;
    while (others[0]->n_done + others[1]->n_done + others[2]->n_done < 3) {
        record *victim = submit(f, generation_of_text(30, 50, 40));
        atomic_store(&s.id, (unsigned)victim->id);
        while (victim->n_done == 0)
            take(f);
        atomic_store(&s.id, 0);
        n_cut += victim->done->reason == BORA_REASON_CANCELLED;
        assert_true(victim->done->reason == BORA_REASON_CANCELLED || victim->done->reason == BORA_REASON_LENGTH);
    }
    atomic_store(&s.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(atomic_load(&s.n_sent) > 0);
    assert_int_equal(s.n_nomem, 0);
    for (uint32_t i = 0; i < WITNESSES; i++) {
        ended(others[i], BORA_REASON_LENGTH);
        same(others[i], run(f, witness(i)), 80);
    }
    (void)n_cut;
}

/* No memory for the command: it goes on, and can be cancelled later. */
static void test_no_memory(void **state)
{
    fixture *f = *state;
    record *r = submit(f, generation_of_text(1, 20, 3000));
    await_tokens(f, r, 1);
    bora_status st = BORA_OK;
    while (st == BORA_OK && r->n_done == 0) { /* the engine allocates, too: whose turn it is cannot be told */
        (void)bora_memory_fail_at(1);
        st = bora_scheduler_cancel(f->engine.scheduler, 999, NULL);
        (void)bora_memory_fail_at(0);
    }
    assert_int_equal(st, BORA_E_NOMEM);
    record *after = submit(f, generation_of_text(1, 20, 3000));
    await_tokens(f, after, 3);
    cancel(f, after);
    await(f, after);
    ended(after, BORA_REASON_CANCELLED);
    if (r->n_done == 0)
        cancel(f, r);
    await(f, r);
    if (r->done->reason == BORA_REASON_ERROR) /* it was its allocation that failed */
        assert_int_equal(r->done->status, BORA_E_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_between_layers, setup_ring, teardown),
        cmocka_unit_test_setup_teardown(test_between_layers, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_all_leave, setup_ring, teardown),
        cmocka_unit_test_setup_teardown(test_others_do_not_notice, setup_ring, teardown),
        cmocka_unit_test_setup_teardown(test_others_do_not_notice, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_others_do_not_notice, setup_stages, teardown),
        cmocka_unit_test_setup_teardown(test_goes_on, setup_ring, teardown),
        cmocka_unit_test_setup_teardown(test_goes_on, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_goes_on, setup_stages, teardown),
        cmocka_unit_test_setup_teardown(test_storm, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_storm, setup_stages, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup_stages, teardown),
    };
    return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
