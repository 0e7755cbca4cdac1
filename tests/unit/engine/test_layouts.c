/* One model, written in every layout that is read, computes the same: layouts of the same numbers to the bit, shorter
 * element types within their error. */
#include "pipeline_fixture.h"

#include "base/guard.h"
#include "kernels/kernels.h"
#include "support/model_writer.h"

#include <math.h>
#include <stdlib.h>
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
static float *logits_of(const char *path)
{
    fixture f = {.vocab_size = 256};
    bora_log_init(&f.log, BORA_LOG_ERROR);
    bora_error err = {""};
    bora_model_options options = {.without_tokenizer = true};
    if (bora_model_open(path, &options, &f.log, &f.model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f.options = small_pipeline;
    fixture_start(&f);
    float *logits = fixture_feed_alone(&f, 0, N_TOKENS, 16);
    fixture_close(&f);
    return logits;
}

static float *logits_in(const bora_model_writing *writing, bora_written_layout layout)
{
    bora_temp_folder folder;
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&folder);
    bora_model_write(&folder, writing, layout, path);
    float *logits = logits_of(path);
    bora_temp_folder_remove(&folder);
    return logits;
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

static size_t f16_row(const float *row, uint64_t n, uint8_t *out)
{
    for (uint64_t i = 0; i < n; i++) {
        uint16_t half = bora_f32_to_f16(row[i]);
        memcpy(out + 2 * i, &half, 2);
    }
    return 2 * n;
}

static size_t bf16_row(const float *row, uint64_t n, uint8_t *out)
{
    for (uint64_t i = 0; i < n; i++) {
        uint16_t high = bora_f32_to_bf16(row[i]);
        memcpy(out + 2 * i, &high, 2);
    }
    return 2 * n;
}

static size_t q8_0_row(const float *row, uint64_t n, uint8_t *out)
{
    for (uint64_t block = 0; block < n / 32; block++, row += 32, out += 34) {
        float max = 0;
        for (int i = 0; i < 32; i++)
            max = fmaxf(max, fabsf(row[i]));
        uint16_t scale = bora_f32_to_f16(max / 127);
        memcpy(out, &scale, 2);
        for (int i = 0; i < 32; i++)
            out[2 + i] = (uint8_t)(int8_t)lrintf(max > 0 ? row[i] / (max / 127) : 0);
    }
    return n / 32 * 34;
}

static void types_agree_within_their_error(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t type;
        bora_row_encoder encoder;
        double at_most, at_least; /* at_least: the type was really read */
    } types[] = {
        {"f16", BORA_WRITER_TENSOR_F16, f16_row, 1e-5, 1e-12},
        {"bf16", BORA_WRITER_TENSOR_BF16, bf16_row, 5e-4, 1e-9},
        {"q8_0", BORA_WRITER_TENSOR_Q8_0, q8_0_row, 5e-3, 1e-7},
    };
    static const bora_written_layout layouts[] = {BORA_MODEL_GGUF, BORA_MODEL_GGUF_EXPERTS, BORA_MODEL_GGUF_SPLIT};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(shapes); i += 2) {
        bora_model_writing writing = {.shape = shapes[i].shape, .seed = 7};
        float *native = logits_in(&writing, BORA_MODEL_NATIVE);
        for (size_t t = 0; t < BORA_ARRAY_SIZE(types); t++) {
            writing.type = types[t].type;
            writing.encoder = types[t].encoder;
            float *first = logits_in(&writing, layouts[0]);
            double error = nmse(first, native);
            if (!(error <= types[t].at_most && error >= types[t].at_least))
                fail_msg("%s in %s: nmse %g", shapes[i].name, types[t].name, error);
            for (size_t l = 1; l < BORA_ARRAY_SIZE(layouts); l++) {
                float *other = logits_in(&writing, layouts[l]);
                assert_memory_equal(other, first, (size_t)N_TOKENS * 256 * sizeof *other);
                bora_free(other);
            }
            bora_free(first);
        }
        bora_free(native);
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
        cmocka_unit_test(cut_short_while_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
