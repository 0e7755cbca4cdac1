/* The pipeline: the answer depends on the conversation alone, not on chunks, threads, stages or company; and what fails
 * leaves everything as it was. Plain C plugins promise the same bits, so bits are compared. */
#include "unit/engine/pipeline_fixture.h"

#define N_TOKENS 100u

/* A window everywhere, windows in some layers, none at all; with experts and dense. */
static const char *const models[] = {"moe-gqa-swa", "dense-perlayer", "dense-oddshapes"};

static void test_chunks_and_threads(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 3, 16, 21, 64, N_TOKENS};
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++) {
        float *should = NULL;
        for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
            fixture f;
            fixture_open(&f, models[m]);
            f.options.n_threads = n_threads;
            fixture_start(&f);
            if (!should)
                should = fixture_feed_alone(&f, 0, N_TOKENS, N_TOKENS);
            for (size_t c = 0; c < BORA_ARRAY_SIZE(chunks); c++) {
                float *is = fixture_feed_alone(&f, 0, N_TOKENS, chunks[c]);
                assert_same_logits(&f, is, should, N_TOKENS);
                bora_free(is);
            }
            fixture_close(&f);
        }
        bora_free(should);
    }
}

static void test_stages(void **state)
{
    (void)state;
    static const uint32_t stages[] = {1, 2, 3, 4, 9}; /* the models have 2 to 4 layers */
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++) {
        float *should = NULL;
        for (size_t s = 0; s < BORA_ARRAY_SIZE(stages); s++) {
            fixture f;
            fixture_open(&f, models[m]);
            f.options.n_stages = stages[s];
            fixture_start(&f);
            float *is = fixture_feed_alone(&f, 0, N_TOKENS, 13);
            if (!should)
                should = bora_steal(&is);
            else
                assert_same_logits(&f, is, should, N_TOKENS);
            bora_free(is);
            fixture_close(&f);
        }
        bora_free(should);
    }
}

/* Sequences that prefill, decode and wait in one packed batch, each against itself alone. */
static void company(const char *model, uint32_t n_stages)
{
    enum { N = 4 };
    static const uint32_t schedule[][N] = {{17, 1, 0, 30}, {1, 40, 5, 1}, {1, 1, 64, 0}, {9, 1, 1, 1}, {1, 20, 1, 50}};
    fixture f;
    fixture_open(&f, model);
    f.options.n_stages = n_stages;
    f.options.n_threads = 2;
    fixture_start(&f);
    bora_sequence *sequences[N];
    float *alone[N], *logits = bora_calloc((size_t)512 * f.vocab_size, sizeof *logits);
    assert_non_null(logits);
    for (uint32_t i = 0; i < N; i++) {
        sequences[i] = fixture_sequence(&f);
        alone[i] = fixture_feed_alone(&f, i, 120, 120);
    }
    for (size_t pass = 0; pass < BORA_ARRAY_SIZE(schedule); pass++) {
        bora_batch_part parts[N];
        int32_t tokens[512];
        uint64_t starts[N];
        uint32_t n_parts = 0, n_tokens = 0;
        for (uint32_t i = 0; i < N; i++) {
            uint32_t n = schedule[pass][i];
            starts[i] = bora_sequence_n_cached(sequences[i]);
            if (n == 0)
                continue;
            for (uint32_t t = 0; t < n; t++)
                tokens[n_tokens++] = fixture_token(i, starts[i] + t);
            parts[n_parts++] = (bora_batch_part){.sequence = sequences[i], .n = n, .n_logits = n > 2 ? 2 : n};
        }
        bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = n_parts};
        assert_int_equal(bora_pipeline_forward(f.pipeline, &batch, NULL, logits, NULL), BORA_OK);
        const float *row = logits;
        for (uint32_t i = 0; i < N; i++) {
            uint32_t n = schedule[pass][i], n_logits = n > 2 ? 2 : n;
            assert_same_logits(&f, row, alone[i] + (starts[i] + n - n_logits) * f.vocab_size, n_logits);
            row += (size_t)n_logits * f.vocab_size;
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        bora_sequence_close(sequences[i]);
        bora_free(alone[i]);
    }
    bora_free(logits);
    fixture_close(&f);
}

static void test_company(void **state)
{
    (void)state;
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++)
        for (uint32_t n_stages = 1; n_stages <= 3; n_stages++)
            company(models[m], n_stages);
}

static void test_batch_without_logits(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
        fixture f;
        fixture_open(&f, models[0]);
        f.options.n_stages = n_stages;
        fixture_start(&f);
        float *should = fixture_feed_alone(&f, 0, 21, 21);
        bora_sequence *sequence = fixture_sequence(&f);
        int32_t tokens[20];
        for (uint32_t i = 0; i < 20; i++)
            tokens[i] = fixture_token(0, i);
        bora_batch_part part = {.sequence = sequence, .n = 20};
        bora_batch batch = {.tokens = tokens, .parts = &part, .n_parts = 1}, empty = {.n_parts = 0};
        assert_int_equal(bora_pipeline_forward(f.pipeline, &batch, NULL, NULL, NULL), BORA_OK);
        assert_int_equal(bora_pipeline_forward(f.pipeline, &empty, NULL, NULL, NULL), BORA_OK);
        float *is = fixture_feed(&f, sequence, 0, 21, 1);
        assert_same_logits(&f, is, should + (size_t)20 * f.vocab_size, 1);
        bora_free(is);
        bora_free(should);
        bora_sequence_close(sequence);
        fixture_close(&f);
    }
}

/* With a window in every layer memory stops growing, and what rolled over is right. */
static void test_constant_memory(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
        fixture f, g;
        fixture_open(&f, "moe-gqa-swa"); /* window 16 */
        fixture_open(&g, "moe-gqa-swa");
        f.options.slack = 24;
        f.options.n_stages = n_stages;
        g.options.slack = 512;
        fixture_start(&f);
        fixture_start(&g);
        bora_sequence *sequence = fixture_sequence(&f);
        const uint64_t full = 16 + 24 + BORA_PAGE_POSITIONS;
        bora_free(fixture_feed(&f, sequence, 0, full, 24));
        uint64_t bytes = bora_sequence_bytes(sequence);
        assert_true(bytes >= bora_pipeline_kv_sequence_max(f.pipeline));
        assert_true(bytes <= bora_pipeline_kv_sequence_max(f.pipeline) + 4096); /* bookkeeping */
        float *is = fixture_feed(&f, sequence, 0, 500, 7), *should = fixture_feed_alone(&g, 0, 500, 500);
        assert_int_equal(bora_sequence_bytes(sequence), bytes);
        assert_same_logits(&f, is, should + full * f.vocab_size, 500 - full);
        bora_free(is);
        bora_free(should);
        bora_sequence_close(sequence);
        fixture_close(&g);
        fixture_close(&f);
    }
}

/* ---- what is refused ---------------------------------------------------------------------------------------- */

static void test_limits(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
        fixture f;
        fixture_open(&f, models[0]);
        f.options = (bora_pipeline_options){.n_threads = 1,
                                            .n_stages = n_stages,
                                            .max_tokens = 32,
                                            .max_logits = 12,
                                            .slack = 20,
                                            .max_positions = 50,
                                            .plugin_path = FIXTURE_PLUGINS,
                                            .plugins = {NULL, "reference", "ring", "reference", "thread"}};
        fixture_start(&f);
        bora_sequence *a = fixture_sequence(&f), *b = fixture_sequence(&f);
        bora_free(fixture_feed(&f, a, 0, 40, 10));
        float *logits = bora_calloc((size_t)32 * f.vocab_size, sizeof *logits);
        assert_non_null(logits);
        struct {
            uint32_t n[2], n_logits[2];
            int32_t wrong_token; /* put in the last place, if not 0 */
            bora_status status;
        } cases[] = {
            {{0, 5}, {0, 1}, 0, BORA_E_INVAL},           {{1, 0}, {1, 0}, 0, BORA_E_INVAL},
            {{1, 21}, {1, 1}, 0, BORA_E_INVAL}, /* longer than slack */
            {{5, 5}, {5, 6}, 0, BORA_E_INVAL},  /* more logits than rows */
            {{7, 7}, {7, 6}, 0, BORA_E_INVAL},  /* too many logits */
            {{10, 20}, {1, 1}, -1, BORA_E_INVAL},        {{10, 20}, {1, 1}, (int32_t)f.vocab_size, BORA_E_INVAL},
            {{10, 20}, {1, 1}, INT32_MIN, BORA_E_INVAL}, {{11, 3}, {1, 1}, 0, BORA_E_LIMIT}, /* past the context */
        };
        for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
            int32_t tokens[64] = {0};
            bora_error err = {""};
            uint32_t n = cases[i].n[0] + cases[i].n[1];
            if (cases[i].wrong_token)
                tokens[n - 1] = cases[i].wrong_token;
            bora_batch_part parts[] = {{a, cases[i].n[0], cases[i].n_logits[0], false},
                                       {b, cases[i].n[1], cases[i].n_logits[1], false}};
            bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = 2};
            assert_int_equal(bora_pipeline_forward(f.pipeline, &batch, NULL, logits, &err), cases[i].status);
            assert_true(err.message[0] != '\0');
            assert_int_equal(bora_sequence_n_cached(a), 40);
            assert_int_equal(bora_sequence_n_cached(b), 0);
        }
        bora_sequence *c = fixture_sequence(&f); /* three parts of 20: more than max_tokens together */
        int32_t tokens[64] = {0};
        bora_batch_part parts[] = {{a, 10, 0, false}, {b, 20, 0, false}, {c, 3, 0, false}};
        bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = 3};
        assert_int_equal(bora_pipeline_forward(f.pipeline, &batch, NULL, logits, NULL), BORA_E_INVAL);

        float *is = fixture_feed(&f, a, 0, 50, 10), *should = fixture_feed_alone(&f, 0, 50, 10);
        assert_same_logits(&f, is, should + (size_t)40 * f.vocab_size, 10);
        bora_free(is);
        bora_free(should);
        bora_free(logits);
        bora_sequence_close(a);
        bora_sequence_close(b);
        bora_sequence_close(c);
        fixture_close(&f);
    }
}

static void refused(const bora_pipeline_options *change, bora_status status, const char *word)
{
    fixture f;
    fixture_open(&f, models[0]);
    bora_error err = {""};
    assert_int_equal(bora_pipeline_new(f.model, change, &f.log, &f.pipeline, &err), status);
    if (!strstr(err.message, word))
        fail_msg("'%s' does not name '%s'", err.message, word);
    assert_null(f.pipeline);
    fixture_close(&f);
}

static void test_options_refused(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, models[0]);
    const bora_plugin_option option = {"no_such_key", "1"};
    const bora_plugin_options options = {&option, 1};
    bora_pipeline_options change;
#define REFUSED(field, value, status, word) (change = f.options, change.field = (value), refused(&change, status, word))
    REFUSED(n_stages, 0, BORA_E_INVAL, "stages");
    REFUSED(n_stages, 65, BORA_E_INVAL, "stages");
    REFUSED(n_threads, 1025, BORA_E_INVAL, "threads");
    REFUSED(max_tokens, 0, BORA_E_INVAL, "batch");
    REFUSED(slack, 0, BORA_E_INVAL, "slack");
    REFUSED(max_positions, 0, BORA_E_INVAL, "context");
    REFUSED(kv_dtype, BORA_DTYPE_BF16, BORA_E_INVAL, "element type");
    REFUSED(kv_dtype, BORA_DTYPE_Q8_0, BORA_E_UNSUPPORTED, "whole blocks of q8_0"); /* its heads are 16 wide */
    REFUSED(plugins[BORA_PLUGIN_CACHE], "no-such", BORA_E_NOT_FOUND, "no-such");
    REFUSED(plugins[BORA_PLUGIN_EXPERT], NULL, BORA_E_INVAL, "expert");
    REFUSED(plugins[BORA_PLUGIN_CACHE], FIXTURE_PLUGINS "/expert-reference.so", BORA_E_INVAL, "expert");
    for (uint32_t kind = BORA_PLUGIN_ATTENTION; kind <= BORA_PLUGIN_LINK; kind++) {
        f.options.n_stages = 2;
        REFUSED(plugin_options[kind], &options, BORA_E_INVAL, "no_such_key");
    }
#undef REFUSED
    fixture_close(&f);
}

/* ---- cancel ------------------------------------------------------------------------------------------------- */

/* Cancelled at different depths, the caches already hold rows of some layers: the next try has to give the same. */
static void test_cancel(void **state)
{
    (void)state;
    static const char *const places[] = {"embeddings", "layers.0.v", "layers.1.after_attention", "layers.1.out"};
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages++) {
        fixture f;
        fixture_open(&f, "moe-gqa-swa");
        f.options.n_stages = n_stages;
        fixture_start(&f);
        float *should = fixture_feed_alone(&f, 0, 180, 60);
        for (size_t p = 0; p < BORA_ARRAY_SIZE(places); p++) {
            bora_sequence *sequence = fixture_sequence(&f);
            bora_free(fixture_feed(&f, sequence, 0, 60, 60));
            canceller cancel = {.at = places[p]};
            bora_pipeline_trace(f.pipeline, cancel_on_trace, &cancel);
            int32_t wrong[100] = {0};
            float *logits = bora_calloc((size_t)100 * f.vocab_size, sizeof *logits);
            assert_non_null(logits);
            bora_error err = {""};
            assert_int_equal(fixture_try(&f, sequence, wrong, 100, &cancel.flag, logits, &err), BORA_E_CANCELLED);
            assert_true(err.message[0] != '\0');
            bora_pipeline_trace(f.pipeline, NULL, NULL);
            /* The flag is still up: nothing is begun. */
            assert_int_equal(fixture_try(&f, sequence, wrong, 1, &cancel.flag, logits, NULL), BORA_E_CANCELLED);
            assert_int_equal(bora_sequence_n_cached(sequence), 60);
            float *is = fixture_feed(&f, sequence, 0, 180, 40);
            assert_same_logits(&f, is, should + (size_t)60 * f.vocab_size, 120);
            bora_free(is);
            bora_free(logits);
            bora_sequence_close(sequence);
        }
        bora_free(should);
        fixture_close(&f);
    }
}

/* ---- no memory ---------------------------------------------------------------------------------------------- */

static void test_no_memory(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
        fixture f;
        fixture_open(&f, "dense-perlayer");
        f.options.n_stages = n_stages;
        bora_error err = {""};
        bora_status st = BORA_E_NOMEM;
        for (uint64_t n = 1; st != BORA_OK; n++) {
            err.message[0] = '\0';
            (void)bora_memory_fail_at(n);
            st = bora_pipeline_new(f.model, &f.options, &f.log, &f.pipeline, &err);
            (void)bora_memory_fail_at(0);
            assert_true(st == BORA_OK || (st == BORA_E_NOMEM && err.message[0] && !f.pipeline));
        }
        bora_sequence *sequence = NULL;
        st = BORA_E_NOMEM;
        for (uint64_t n = 1; st != BORA_OK; n++) {
            (void)bora_memory_fail_at(n);
            st = bora_sequence_open(f.pipeline, &sequence, &err);
            (void)bora_memory_fail_at(0);
            assert_true(st == BORA_OK || (st == BORA_E_NOMEM && !sequence));
        }
        float *should = fixture_feed_alone(&f, 0, 110, 110);
        float *logits = bora_calloc((size_t)110 * f.vocab_size, sizeof *logits);
        assert_non_null(logits);
        uint32_t n_failed = 0;
        for (uint64_t at = 0; at < 110; at += 22) {
            int32_t tokens[22];
            for (uint32_t i = 0; i < 22; i++)
                tokens[i] = fixture_token(0, at + i);
            st = BORA_E_NOMEM;
            for (uint64_t n = 1; st != BORA_OK; n++) {
                (void)bora_memory_fail_at(n);
                st = fixture_try(&f, sequence, tokens, 22, NULL, logits + at * f.vocab_size, &err);
                (void)bora_memory_fail_at(0);
                assert_true(st == BORA_OK || st == BORA_E_NOMEM);
                n_failed += st != BORA_OK;
            }
        }
        assert_true(n_failed > 0); /* the caches grew under refusals */
        assert_same_logits(&f, logits, should, 110);
        bora_free(logits);
        bora_free(should);
        bora_sequence_close(sequence);
        fixture_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_and_threads),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_company),
        cmocka_unit_test(test_batch_without_logits),
        cmocka_unit_test(test_constant_memory),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_options_refused),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
