/* The default plugins on a layer of true size (Mistral 7B's: 4096 wide, 14336 inside, 32 heads on 8): the same bits of
 * the logits whatever the chunks, the company, the number of threads and the processor's vector path. */
#include "unit/engine/pipeline_fixture.h"

#include "support/temp_folder.h"

#include <stdlib.h>

#define N_TOKENS   45u
#define N_POSITION 512u /* of the context */

typedef struct shaped {
    bora_temp_folder folder;
    char path[BORA_TEMP_PATH_SIZE];
} shaped;

static void shaped_make(shaped *s, const char *type)
{
    bora_temp_folder_make(&s->folder);
    bora_temp_folder_path(&s->folder, "layer.gguf", s->path);
    char *command = bora_format(BORA_BUILD_DIR "/tests/bench/make-model %s --preset mistral-7b --layers 1 --vocab 512 "
                                               "--type %s >/dev/null",
                                s->path, type);
    assert_non_null(command);
    if (system(command) != 0)
        fail_msg("%s", command);
    bora_free(command);
}

static void start(fixture *f, const shaped *s, uint32_t n_threads)
{
    memset(f, 0, sizeof *f);
    bora_log_init(&f->log, BORA_LOG_ERROR);
    bora_error err = {""};
    bora_model_options options = {.without_tokenizer = true};
    if (bora_model_open(s->path, &options, &f->log, &f->model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f->vocab_size = bora_model_hparams(f->model)->vocab_size;
    f->options = (bora_pipeline_options){
        .n_threads = n_threads,
        .n_stages = 1,
        .max_tokens = 128,
        .max_logits = 128,
        .slack = 128,
        .max_positions = N_POSITION,
        .kv_dtype = BORA_DTYPE_F16,
        .plugin_path = FIXTURE_PLUGINS,
        .plugins = {NULL, "flash", "ring", "quant", NULL},
    };
    fixture_start(f);
}

/* Text 0 a row at a time, each in a batch with a piece of another text. */
static float *beside_others(fixture *f)
{
    bora_sequence *own = fixture_sequence(f), *other = fixture_sequence(f);
    float *kept = bora_calloc((size_t)N_TOKENS * f->vocab_size, sizeof *kept);
    float *logits = bora_calloc((size_t)128 * f->vocab_size, sizeof *logits);
    assert_true(kept && logits);
    uint64_t n_other = 0;
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        int32_t tokens[16];
        const uint32_t n = 1 + i % 11; /* from one panel of activations to several */
        for (uint32_t k = 0; k < n; k++)
            tokens[k] = fixture_token(1, n_other++);
        tokens[n] = fixture_token(0, i);
        const bora_batch_part parts[] = {{.sequence = other, .n = n}, {.sequence = own, .n = 1, .n_logits = 1}};
        const bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = 2};
        bora_error err = {""};
        if (bora_pipeline_forward(f->pipeline, &batch, NULL, logits, &err) != BORA_OK)
            fail_msg("%s", err.message);
        memcpy(kept + (size_t)i * f->vocab_size, logits, f->vocab_size * sizeof *kept);
    }
    bora_free(logits);
    bora_sequence_close(own);
    bora_sequence_close(other);
    return kept;
}

static void compare(const fixture *f, float *is, const float *should, const char *what)
{
    const size_t size = (size_t)N_TOKENS * f->vocab_size * sizeof *is;
    if (memcmp(is, should, size) != 0)
        fail_msg("%s: other bits", what);
    bora_free(is);
}

static void check(const char *type)
{
    static const uint32_t chunks[] = {1, 7, 8, 20};
    shaped s;
    shaped_make(&s, type);
    fixture f;
    start(&f, &s, 1);
    float *should = fixture_feed_alone(&f, 0, N_TOKENS, N_TOKENS);
    size_t n_different = 0;
    for (size_t i = 1; i < f.vocab_size; i++)
        n_different += should[i] != should[0];
    assert_true(n_different > f.vocab_size / 2); /* there is something to compare */
    for (size_t c = 0; c < BORA_ARRAY_SIZE(chunks); c++)
        compare(&f, fixture_feed_alone(&f, 0, N_TOKENS, chunks[c]), should, "in chunks");
    compare(&f, beside_others(&f), should, "beside others");
    fixture_close(&f);
    for (uint32_t n_threads = 2; n_threads <= 3; n_threads++) {
        start(&f, &s, n_threads);
        compare(&f, fixture_feed_alone(&f, 0, N_TOKENS, N_TOKENS), should, "with more threads");
        compare(&f, beside_others(&f), should, "with more threads, beside others");
        fixture_close(&f);
    }
    /* A vector path less: nothing of this model depends on it (a router, in floats, would). */
    const char *given = getenv("BORA_CPU");
    char *before = given ? bora_strdup(given) : NULL;
    if (!given || strcmp(given, "generic") != 0)
        (void)setenv("BORA_CPU", "avx2", 1);
    start(&f, &s, 2);
    compare(&f, fixture_feed_alone(&f, 0, N_TOKENS, 20), should, "with AVX2 at most");
    fixture_close(&f);
    (void)(before ? setenv("BORA_CPU", before, 1) : unsetenv("BORA_CPU"));
    bora_free(before);
    bora_free(should);
    bora_temp_folder_remove(&s.folder);
}

static void test_q4_0(void **state)
{
    (void)state;
    check("q4_0");
}

static void test_q4_k(void **state)
{
    (void)state;
    check("q4_k");
}

static void test_q6_k(void **state)
{
    (void)state;
    check("q6_k");
}

static void test_q8_0(void **state)
{
    (void)state;
    check("q8_0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_q4_0),
        cmocka_unit_test(test_q4_k),
        cmocka_unit_test(test_q6_k),
        cmocka_unit_test(test_q8_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
