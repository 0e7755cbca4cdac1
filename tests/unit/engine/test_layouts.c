/* One model, written in every layout that is read, computes the same: layouts of the same numbers to the bit, shorter
 * element types within their error. */
#include "pipeline_fixture.h"

#include "base/guard.h"
#include "kernels/quantize.h"
#include "model/blocks.h"
#include "support/model_writer.h"

#include <unistd.h>

#define N_TOKENS 40

static const char *const names[] = {"native",       "Hugging Face",           "Hugging Face in shards",
                                    "GGUF, merged", "GGUF, expert by expert", "GGUF, split"};

static const struct {
    const char *name;
    bora_tiny_model shape;
} shapes[] = {
    {"dense", {2, 64, 96, 4, 2, 32, 256, 1, 1, 0, 0, false, false, true}},
    {"dense with a window, tied", {3, 64, 128, 8, 4, 8, 256, 1, 1, 8, 0, false, true, true}},
    {"mixture", {2, 64, 64, 4, 4, 16, 256, 4, 2, 0, 0, false, false, true}},
    {"mixture with a window", {2, 32, 64, 4, 1, 16, 256, 8, 2, 16, 0, false, false, true}},
};

static const bora_pipeline_options small_pipeline = {
    .n_threads = 1,
    .n_stages = 1,
    .max_tokens = 64,
    .max_logits = 64,
    .slack = 64,
    .max_positions = 256,
    .kv_dtype = BORA_DTYPE_F32,
    .plugin_path = FIXTURE_PLUGINS,
    .plugins = {NULL, "reference", "ring", "reference", "thread"},
};

/* The logits of the fixture's text 0 through the model; bora_free. */
static float *logits_of(const char *path, bora_rounding rounding)
{
    fixture f = {.vocab_size = 256};
    bora_log_init(&f.log, BORA_LOG_ERROR);
    bora_error err = {""};
    bora_model_options options = {.without_tokenizer = true};
    if (bora_model_open(path, &options, &f.log, &f.model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f.options = small_pipeline;
    f.options.rounding = rounding;
    fixture_start(&f);
    float *logits = fixture_feed_alone(&f, 0, N_TOKENS, 16);
    fixture_close(&f);
    return logits;
}

static float *logits_with(const bora_model_writing *writing, bora_written_layout layout, bora_rounding rounding)
{
    bora_temp_folder folder;
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&folder);
    bora_model_write(&folder, writing, layout, path);
    float *logits = logits_of(path, rounding);
    bora_temp_folder_remove(&folder);
    return logits;
}

static float *logits_in(const bora_model_writing *writing, bora_written_layout layout)
{
    return logits_with(writing, layout, BORA_ROUNDING_INT8);
}

static double nmse(const float *is, const float *should)
{
    double error = 0, power = 0;
    for (size_t i = 0; i < (size_t)N_TOKENS * 256; i++) {
        error += ((double)is[i] - should[i]) * ((double)is[i] - should[i]);
        power += (double)should[i] * should[i];
    }
    return error / power;
}

static void layouts_agree_to_the_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(shapes); i++) {
        bora_model_writing writing = {.shape = shapes[i].shape, .seed = i + 1};
        float *native = logits_in(&writing, BORA_MODEL_NATIVE);
        for (bora_written_layout layout = BORA_MODEL_HF; layout < BORA_MODEL_LAYOUTS; layout++) {
            float *logits = logits_in(&writing, layout);
            if (memcmp(logits, native, (size_t)N_TOKENS * 256 * sizeof *logits) != 0)
                fail_msg("%s: %s is not what native is (nmse %g)", shapes[i].name, names[layout], nmse(logits, native));
            bora_free(logits);
        }
        bora_free(native);
    }
}

/* ---- element types ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t type, dtype; /* GGUF's number, and ours */
    double at_most;       /* nmse of the logits: twice what evenly spread weights, the worst case, give */
} types[] = {
    {"f32", 0, BORA_DTYPE_F32, 0},           {"f16", 1, BORA_DTYPE_F16, 1e-6},
    {"bf16", 30, BORA_DTYPE_BF16, 1e-4},     {"q8_0", 8, BORA_DTYPE_Q8_0, 3e-4},
    {"q6_k", 14, BORA_DTYPE_Q6_K, 4e-3},     {"q5_k", 13, BORA_DTYPE_Q5_K, 2e-2},
    {"q5_1", 7, BORA_DTYPE_Q5_1, 2e-2},      {"q5_0", 6, BORA_DTYPE_Q5_0, 2e-2},
    {"q4_k", 12, BORA_DTYPE_Q4_K, 8e-2},     {"q4_1", 3, BORA_DTYPE_Q4_1, 8e-2},
    {"q4_0", 2, BORA_DTYPE_Q4_0, 8e-2},      {"iq4_nl", 20, BORA_DTYPE_IQ4_NL, 8e-2},
    {"iq4_xs", 23, BORA_DTYPE_IQ4_XS, 9e-2}, {"q3_k", 11, BORA_DTYPE_Q3_K, 0.35},
    {"q2_k", 10, BORA_DTYPE_Q2_K, 0.8},
};

static size_t encode_row(uint32_t type, const float *row, uint64_t n, uint8_t *out)
{
    size_t size = 0;
    bora_error err = {""};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(types); i++)
        if (types[i].type == type && bora_block_row_size(types[i].dtype, n, &size) &&
            bora_quantize_row(types[i].dtype, n, row, NULL, out, &err) == BORA_OK)
            return size;
    fail_msg("type %u: %s", type, err.message);
    return 0;
}

/* Of the logits, by activations of int8 in the host's products (the fixture's experts are plain C): for each input
 * about 4.5e-5, or 1.7e-4 where a few values stand out, and there are five of them on the way. */
#define ACTIVATIONS_NMSE 5e-4
/* By bfloat16 ones with BF16 weights, where that is asked for: about 2.5e-6 for each. */
#define ROUNDED_NMSE     5e-5

static bool has_bf16(void)
{
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    return cpu.avx512_bf16;
}

/* Rows of 256, which all types have whole blocks of. Every expert takes part: choosing another is no small error. */
static const bora_tiny_model wide = {1, 256, 256, 8, 2, 32, 256, 2, 2, 0, 0, false, false, true};

static void types_agree_within_their_error(void **state)
{
    (void)state;
    bora_model_writing writing = {.shape = wide, .seed = 7};
    float *native = logits_in(&writing, BORA_MODEL_NATIVE);
    writing.encoder = encode_row;
    for (size_t t = 0; t < BORA_ARRAY_SIZE(types); t++) {
        writing.type = types[t].type;
        float *logits = logits_with(&writing, BORA_MODEL_GGUF, BORA_ROUNDING_F32);
        double error = nmse(logits, native);
        if (!(error <= types[t].at_most && error >= types[t].at_most / 8)) /* so small: another type was read */
            fail_msg("%s: nmse %g", types[t].name, error);
        static const bora_rounding roundings[] = {BORA_ROUNDING_INT8, BORA_ROUNDING_BF16};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(roundings); i++) {
            float *rounded = logits_with(&writing, BORA_MODEL_GGUF, roundings[i]);
            const bool is_quantised = types[t].dtype > BORA_DTYPE_BF16, is_bf16 = types[t].dtype == BORA_DTYPE_BF16;
            const double at_most = is_quantised ? ACTIVATIONS_NMSE : i && is_bf16 && has_bf16() ? ROUNDED_NMSE : 0;
            error = nmse(rounded, logits);
            if (!(error <= at_most && (error > 1e-7 || at_most == 0)))
                fail_msg("%s: nmse %g by activations of %s", types[t].name, error, i ? "bf16" : "int8");
            bora_free(rounded);
        }
        bora_free(logits);
    }
    bora_free(native);
}

static void layouts_of_one_type_agree_to_the_bit(void **state)
{
    (void)state;
    static const uint32_t some[] = {30, 8, 12}; /* bf16, q8_0, q4_k */
    for (size_t t = 0; t < BORA_ARRAY_SIZE(some); t++) {
        bora_model_writing writing = {.shape = wide, .seed = 9, .type = some[t], .encoder = encode_row};
        float *first = logits_in(&writing, BORA_MODEL_GGUF);
        static const bora_written_layout others[] = {BORA_MODEL_GGUF_EXPERTS, BORA_MODEL_GGUF_SPLIT};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(others); i++) {
            float *other = logits_in(&writing, others[i]);
            assert_memory_equal(other, first, (size_t)N_TOKENS * 256 * sizeof *other);
            bora_free(other);
        }
        bora_free(first);
    }
}

/* ---- a file that is cut short under our feet --------------------------------------------------------------------- */

static void cut_short_while_in_use(void **state)
{
    (void)state;
    bora_temp_folder folder;
    char path[BORA_TEMP_PATH_SIZE], weights[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&folder);
    bora_model_writing writing = {.shape = shapes[0].shape};
    bora_model_write(&folder, &writing, BORA_MODEL_NATIVE, path);
    bora_error err = {""};
    assert_int_equal(bora_guard_install(&err), BORA_OK);
    fixture f = {.vocab_size = 256};
    bora_log_init(&f.log, BORA_LOG_ERROR);
    f.log.level = -1; /* the error is what is wanted here */
    bora_model_options options = {.without_tokenizer = true};
    assert_int_equal(bora_model_open(path, &options, &f.log, &f.model, &err), BORA_OK);
    f.options = small_pipeline;
    fixture_start(&f);
    bora_sequence *sequence = fixture_sequence(&f);
    float *logits = fixture_feed(&f, sequence, 0, 16, 16);
    assert_false(bora_model_is_damaged(f.model));

    assert_int_equal(truncate(bora_temp_folder_path(&folder, "consolidated.safetensors", weights), 4096), 0);
    const int32_t tokens[] = {1, 2};
    for (int i = 0; i < 2; i++) {
        err.message[0] = '\0';
        assert_int_equal(fixture_try(&f, sequence, tokens, 2, NULL, logits, &err), BORA_E_IO);
        assert_non_null(strstr(err.message, "cut short"));
        assert_int_equal(bora_sequence_n_cached(sequence), 16);
        assert_true(bora_model_is_damaged(f.model));
    }
    bora_free(logits);
    bora_sequence_close(sequence);
    fixture_close(&f);
    bora_temp_folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_agree_to_the_bit),
        cmocka_unit_test(types_agree_within_their_error),
        cmocka_unit_test(layouts_of_one_type_agree_to_the_bit),
        cmocka_unit_test(cut_short_while_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
