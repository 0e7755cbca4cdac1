/* What holds for a model whatever file it came from: fingerprint, name, layout, memory that runs out, and that two
 * files of the same weights give the same numbers. */
#include "base/memory.h"
#include "model/blocks.h"
#include "model/model.h"
#include "support/gguf_writer.h"
#include "support/safetensors_writer.h"
#include "support/skip.h"
#include "support/temp_folder.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define Q8_0_PATH   BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf"
#define NATIVE_PATH BORA_SOURCE_DIR "/tests/models/bora-tiny"

static bora_temp_folder folder;
static bora_gguf_writer writer;

static int group_setup(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

static bora_model *must_open(const char *path, const bora_model_options *options)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (bora_model_open(path, options, NULL, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return model;
}

static void writer_start(const bora_tiny_model *shape)
{
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, shape);
}

static const char *writer_save(const char *name, char path[BORA_TEMP_PATH_SIZE])
{
    size_t size = 0;
    uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
    bora_temp_folder_write(&folder, name, bytes, size, path);
    free(bytes);
    return path;
}

/* ---- paths ----------------------------------------------------------------------------------------------------- */

static void paths_that_are_no_models(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    const struct {
        const char *path;
        bora_status status;
    } cases[] = {{BORA_SOURCE_DIR "/no/such/model", BORA_E_NOT_FOUND},
                 {"", BORA_E_NOT_FOUND},
                 {BORA_SOURCE_DIR "/Makefile", BORA_E_FORMAT},
                 {BORA_SOURCE_DIR "/Makefile/model.gguf", BORA_E_NOT_FOUND},
                 {folder.path, BORA_E_NOT_FOUND}, /* no params.json */
                 {bora_temp_folder_write(&folder, "empty", "", 0, path), BORA_E_FORMAT}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        bora_model *model = NULL;
        bora_error err = {{0}};
        if (bora_model_open(cases[i].path, NULL, NULL, &model, &err) != cases[i].status ||
            !strstr(err.message, cases[i].path))
            fail_msg("'%s': '%s'", cases[i].path, err.message);
        assert_null(model);
        assert_int_equal(bora_model_open(cases[i].path, NULL, NULL, &model, NULL), cases[i].status);
    }
    bora_model_free(NULL);
}

/* A pipe must not make the daemon wait. */
static void pipes_are_refused(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    assert_int_equal(mkfifo(bora_temp_folder_path(&folder, "pipe.gguf", path), 0600), 0);
    bora_model *model = NULL;
    assert_true(bora_model_open(path, NULL, NULL, &model, NULL) < 0);
    assert_null(model);
}

static void names_come_from_file_or_path(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    writer_start(&BORA_TINY_MODEL);
    static const char *const unfit[] = {"", "two\nlines"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(unfit); i++) {
        bora_gguf_writer_string(&writer, "general.name", unfit[i]);
        bora_model *model = must_open(writer_save("some.gguf", path), NULL);
        assert_null(strchr(bora_model_name(model), '\n'));
        assert_true(bora_model_name(model)[0] != '\0');
        bora_model_free(model);
    }
    bora_gguf_writer_string(&writer, "general.name", "Some Model 7B");
    bora_model *model = must_open(writer_save("some.gguf", path), NULL);
    assert_string_equal(bora_model_name(model), "Some Model 7B");
    assert_string_equal(bora_model_path(model), path);
    bora_model_free(model);
    bora_gguf_writer_release(&writer);
}

/* ---- fingerprint ----------------------------------------------------------------------------------------------- */

static void fingerprint_of(const char *path, const bora_model_options *options, char ret_text[33])
{
    bora_model *model = must_open(path, options);
    const char *text = bora_model_fingerprint(model);
    assert_int_equal(strlen(text), 32);
    assert_int_equal(strspn(text, "0123456789abcdef"), 32);
    memcpy(ret_text, text, 33);
    bora_model_free(model);
}

static void written_fingerprint(const char *name, char ret_text[33])
{
    char path[BORA_TEMP_PATH_SIZE];
    fingerprint_of(writer_save(name, path), NULL, ret_text);
}

static void fingerprint_depends_on_content(void **state)
{
    (void)state;
    char first[33], other[33];
    writer_start(&BORA_TINY_MODEL);
    written_fingerprint("a.gguf", first);
    written_fingerprint("another-name.gguf", other);
    assert_string_equal(first, other);

    /* What changes no number changes no fingerprint. */
    bora_gguf_writer_string(&writer, "general.name", "renamed");
    bora_gguf_writer_string(&writer, "tokenizer.chat_template", "{{ whatever }}");
    written_fingerprint("a.gguf", other);
    assert_string_equal(first, other);

    static const struct {
        const char *key;
        float value;
    } floats[] = {{"llama.rope.freq_base", 20000}, {"llama.attention.layer_norm_rms_epsilon", 1e-6f}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(floats); i++) {
        bora_gguf_writer_release(&writer);
        writer_start(&BORA_TINY_MODEL);
        bora_gguf_writer_f32(&writer, floats[i].key, floats[i].value);
        written_fingerprint("a.gguf", other);
        assert_string_not_equal(first, other);
    }
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"llama.attention.sliding_window", 16}, {"tokenizer.ggml.eos_token_id", 4}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(numbers); i++) {
        bora_gguf_writer_release(&writer);
        writer_start(&BORA_TINY_MODEL);
        bora_gguf_writer_u32(&writer, numbers[i].key, numbers[i].value);
        written_fingerprint("a.gguf", other);
        assert_string_not_equal(first, other);
    }
    static float scores[272];
    bora_gguf_writer_release(&writer);
    writer_start(&BORA_TINY_MODEL);
    bora_gguf_writer_array(&writer, "tokenizer.ggml.scores", BORA_WRITER_F32, scores, 272, 4);
    written_fingerprint("a.gguf", other);
    assert_string_not_equal(first, other);

    bora_gguf_writer_release(&writer);
    writer_start(&BORA_TINY_MODEL);
    writer.seed = 2;
    written_fingerprint("a.gguf", other);
    assert_string_not_equal(first, other);
    bora_gguf_writer_release(&writer);
}

/* A small model is hashed whole: no bit of a weight is without effect. */
static void fingerprint_sees_every_weight(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE], first[33], other[33];
    bora_tiny_model shape = BORA_TINY_MODEL;
    shape.n_layers = 1;
    writer_start(&shape);
    size_t size = 0, n = 0;
    uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
    for (size_t i = 0; i < writer.n_tensors; i++)
        n += writer.tensors[i].size;
    fingerprint_of(bora_temp_folder_write(&folder, "b.gguf", bytes, size, path), NULL, first);
    /* All F32 and multiples of 32 bytes: the data is without gaps at the end of the file. */
    for (size_t at = size - n; at < size; at += 4099) {
        bytes[at] ^= 1;
        fingerprint_of(bora_temp_folder_write(&folder, "b.gguf", bytes, size, path), NULL, other);
        assert_string_not_equal(first, other);
        bytes[at] ^= 1;
    }
    bytes[size - 1] ^= 0x80;
    fingerprint_of(bora_temp_folder_write(&folder, "b.gguf", bytes, size, path), NULL, other);
    assert_string_not_equal(first, other);
    free(bytes);
    bora_gguf_writer_release(&writer);
}

/* A large model is sampled: its ends count, and it is the same every time. The file is mostly a hole. */
static void fingerprint_of_a_large_model(void **state)
{
    (void)state;
    const bora_model_options options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    bora_tiny_model shape = BORA_TINY_MODEL;
    shape.dim = 2048;
    shape.vocab_size = 9000; /* 70 MiB of embeddings */
    shape.n_layers = 1;
    shape.tied = true;
    bora_temp_folder large;
    bora_temp_folder_make(&large);
    char path[BORA_TEMP_PATH_SIZE], first[33], other[33];
    char *params = bora_writer_native_params(&shape, NULL);
    bora_temp_folder_write(&large, "params.json", params, strlen(params), path);
    free(params);
    size_t data_size = 0, size = 0;
    char *header = bora_writer_native_header(&shape, NULL, 0, 1, true, &data_size);
    uint8_t *bytes = bora_safetensors_bytes(header, 0, &size);
    bora_temp_folder_write(&large, "consolidated.safetensors", bytes, size, path);
    free(bytes);
    free(header);
    assert_int_equal(truncate(path, (off_t)(size + data_size)), 0);
    fingerprint_of(large.path, &options, first);
    fingerprint_of(large.path, &options, other);
    assert_string_equal(first, other);
    const size_t embeddings_size = (size_t)9000 * 2048 * 4;
    const size_t at[] = {size, size + embeddings_size - 1, size + data_size - 1};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(at); i++) {
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        assert_int_equal(fseek(file, (long)at[i], SEEK_SET), 0);
        assert_int_equal(fputc(0x11, file), 0x11);
        assert_int_equal(fclose(file), 0);
        fingerprint_of(large.path, &options, other);
        assert_string_not_equal(first, other);
        memcpy(first, other, sizeof first);
    }
    bora_temp_folder_remove(&large);
}

static void fingerprints_of_the_same_model_in_three_types(void **state)
{
    (void)state;
    char q8_0[33], native[33], f16[33], path[512];
    const char *data = NULL;
    fingerprint_of(Q8_0_PATH, NULL, q8_0);
    fingerprint_of(NATIVE_PATH, NULL, native);
    assert_string_not_equal(q8_0, native);
    BORA_TEST_DATA_OR_SKIP(&data);
    (void)snprintf(path, sizeof path, "%s/models/bora-tiny-f16.gguf", data);
    fingerprint_of(path, NULL, f16);
    assert_string_not_equal(f16, q8_0);
    assert_string_not_equal(f16, native);
}

/* ---- layout ---------------------------------------------------------------------------------------------------- */

static void layouts(void **state)
{
    (void)state;
    static const bora_chat_layout wanted[] = {BORA_CHAT_AUTO, BORA_CHAT_NONE, BORA_CHAT_V1, BORA_CHAT_V2, BORA_CHAT_V3};
    static const bora_chat_layout expected[] = {BORA_CHAT_V3, BORA_CHAT_NONE, BORA_CHAT_V1, BORA_CHAT_V2, BORA_CHAT_V3};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wanted); i++) {
        bora_model_options options = {.layout = wanted[i]};
        bora_model *model = must_open(Q8_0_PATH, &options);
        assert_int_equal(bora_model_layout(model), expected[i]);
        bora_model_free(model);
    }
}

/* What the tokenizer cannot speak is refused before anything is served. */
static void layouts_that_do_not_fit(void **state)
{
    (void)state;
    static const bora_chat_layout wanted[] = {BORA_CHAT_V7, BORA_CHAT_V3_TEKKEN, BORA_CHAT_V7_TEKKEN};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wanted); i++) {
        bora_model_options options = {.layout = wanted[i]};
        bora_model *model = NULL;
        bora_error err = {{0}};
        assert_int_equal(bora_model_open(Q8_0_PATH, &options, NULL, &model, &err), BORA_E_INVAL);
        assert_non_null(strstr(err.message, bora_chat_layout_name(wanted[i])));
    }
}

/* A file's template decides, if it is a known one; else the tokenizer does, and a line of the log says so. */
static void layout_of_template(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bora_chat_layout wanted, expected;
        bool warned;
    } rows[] = {
        {"{{ '[INST] ' + content + ' [/INST]' }}", BORA_CHAT_AUTO, BORA_CHAT_V3, false},
        {"{{ '[INST]' + content + '[/INST]' + '[TOOL_RESULTS] [' }}", BORA_CHAT_AUTO, BORA_CHAT_V2, false},
        {"{{ '[INST]' + content + '[/INST]' + '[TOOL_RESULTS] [' }}", BORA_CHAT_V1, BORA_CHAT_V1, false},
        {"{{ '<|im_start|>' + role }}", BORA_CHAT_AUTO, BORA_CHAT_V3, true},
        {"{{ '<|im_start|>' + role }}", BORA_CHAT_V3, BORA_CHAT_V3, false},
        {"", BORA_CHAT_AUTO, BORA_CHAT_V3, false},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(rows); i++) {
        char path[BORA_TEMP_PATH_SIZE], line[512] = "";
        writer_start(&BORA_TINY_MODEL);
        bora_gguf_writer_string(&writer, "tokenizer.chat_template", rows[i].text);
        (void)writer_save("template.gguf", path);
        bora_gguf_writer_release(&writer);
        FILE *lines = tmpfile();
        assert_non_null(lines);
        const bora_log log = {.level = BORA_LOG_WARN, .fd = fileno(lines)};
        const bora_model_options options = {.layout = rows[i].wanted};
        bora_model *model = NULL;
        bora_error err = {{0}};
        if (bora_model_open(path, &options, &log, &model, &err) != BORA_OK)
            fail_msg("%s", err.message);
        assert_int_equal(bora_model_layout(model), rows[i].expected);
        rewind(lines);
        (void)fread(line, 1, sizeof line - 1, lines);
        assert_int_equal(strstr(line, "chat template") != NULL, rows[i].warned);
        assert_int_equal(*line != '\0', rows[i].warned);
        (void)fclose(lines);
        bora_model_free(model);
    }
}

/* ---- weights --------------------------------------------------------------------------------------------------- */

static float half_value(const uint8_t *bytes)
{
    unsigned bits = bytes[0] | (unsigned)bytes[1] << 8;
    int exponent = (int)(bits >> 10 & 31);
    float fraction = (float)(bits & 1023);
    float value = exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24);
    return bits >> 15 ? -value : value;
}

static float element(const bora_tensor *tensor, uint64_t row, uint64_t col)
{
    const uint8_t *at = (const uint8_t *)tensor->data + row * tensor->row_size;
    uint32_t bits;
    float value = 0;
    switch (tensor->dtype) {
    case BORA_DTYPE_F32:
        memcpy(&value, at + 4 * col, 4);
        return value;
    case BORA_DTYPE_F16:
        return half_value(at + 2 * col);
    case BORA_DTYPE_BF16:
        bits = ((uint32_t)at[2 * col] | (uint32_t)at[2 * col + 1] << 8) << 16;
        memcpy(&value, &bits, 4);
        return value;
    case BORA_DTYPE_Q8_0:
        at += col / 32 * 34;
        return half_value(at) * (float)(int8_t)at[2 + col % 32];
    default:
        fail_msg("type %u", tensor->dtype);
        return 0;
    }
}

/* How far an element of a may be from the number it was made of: half a step of its block, and what rounding the step
 * itself to f16 makes of 127 of them. */
static float tolerance_at(const bora_tensor *a, uint64_t row, uint64_t col)
{
    if (a->dtype != BORA_DTYPE_Q8_0)
        return 1e-6f; /* bf16 fits into f16 but for subnormals */
    const uint8_t *block = (const uint8_t *)a->data + row * a->row_size + col / 32 * 34;
    return half_value(block) * (0.5f + 127.0f / 2048);
}

static void assert_same_weights(const bora_tensor *a, const bora_tensor *b, const char *name)
{
    assert_int_equal(a->n_rows, b->n_rows);
    assert_int_equal(a->n_cols, b->n_cols);
    for (uint64_t row = 0; row < a->n_rows; row++)
        for (uint64_t col = 0; col < a->n_cols; col++)
            if (fabsf(element(a, row, col) - element(b, row, col)) > tolerance_at(a, row, col))
                fail_msg("%s[%u][%u] is %g and %g", name, (unsigned)row, (unsigned)col, (double)element(a, row, col),
                         (double)element(b, row, col));
}

/* GGUF and native files name and order things differently; the weights behind the names must be the same. This also
 * settles that queries and keys rotate neighbouring pairs in both. */
static void assert_same_models(const char *path)
{
    bora_model *gguf = must_open(path, NULL), *native = must_open(NATIVE_PATH, NULL);
    assert_same_weights(bora_model_embeddings(gguf), bora_model_embeddings(native), "embeddings");
    assert_same_weights(bora_model_norm(gguf), bora_model_norm(native), "norm");
    assert_same_weights(bora_model_output(gguf), bora_model_output(native), "output");
    for (uint32_t l = 0; l < bora_model_hparams(native)->n_layers; l++) {
        const bora_layer_weights *a = bora_model_layer(gguf, l), *b = bora_model_layer(native, l);
        assert_same_weights(&a->attention_norm, &b->attention_norm, "attention_norm");
        assert_same_weights(&a->wq, &b->wq, "wq");
        assert_same_weights(&a->wk, &b->wk, "wk");
        assert_same_weights(&a->wv, &b->wv, "wv");
        assert_same_weights(&a->wo, &b->wo, "wo");
        assert_same_weights(&a->ffn_norm, &b->ffn_norm, "ffn_norm");
        assert_same_weights(&a->router, &b->router, "router");
        for (uint32_t e = 0; e < bora_model_hparams(native)->n_experts; e++) {
            assert_same_weights(&a->w1[e], &b->w1[e], "w1");
            assert_same_weights(&a->w2[e], &b->w2[e], "w2");
            assert_same_weights(&a->w3[e], &b->w3[e], "w3");
        }
    }
    bora_model_free(gguf);
    bora_model_free(native);
}

static void q8_0_holds_the_native_weights(void **state)
{
    (void)state;
    assert_same_models(Q8_0_PATH);
}

static void f16_holds_the_native_weights(void **state)
{
    (void)state;
    const char *data = NULL;
    char path[512];
    BORA_TEST_DATA_OR_SKIP(&data);
    (void)snprintf(path, sizeof path, "%s/models/bora-tiny-f16.gguf", data);
    assert_same_models(path);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void sweep(const char *path, const bora_model_options *options)
{
    (void)bora_memory_fail_at(0);
    bora_model_free(must_open(path, options));
    uint64_t n = bora_memory_fail_at(0);
    assert_true(n > 3);
    for (uint64_t i = 1; i <= n; i++) {
        bora_model *model = NULL;
        bora_error err = {{0}};
        (void)bora_memory_fail_at(i);
        bora_status st = bora_model_open(path, options, NULL, &model, &err);
        (void)bora_memory_fail_at(0);
        if (st != BORA_E_NOMEM || !err.message[0])
            fail_msg("allocation %u of %u: status %d '%s'", (unsigned)i, (unsigned)n, st, err.message);
        assert_null(model);
    }
}

static void memory_runs_out(void **state)
{
    (void)state;
    const bora_model_options options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    bora_tiny_model shape = BORA_TINY_MODEL;
    shape.n_experts = 4;
    shape.n_experts_per_tok = 2;
    char path[BORA_TEMP_PATH_SIZE];
    writer_start(&shape);
    sweep(writer_save("sweep.gguf", path), NULL);
    bora_gguf_writer_release(&writer);
    sweep(NATIVE_PATH, NULL);
    sweep(BORA_SOURCE_DIR "/tests/golden/models/moe-gqa/model", &options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_that_are_no_models),
        cmocka_unit_test(pipes_are_refused),
        cmocka_unit_test(names_come_from_file_or_path),
        cmocka_unit_test(fingerprint_depends_on_content),
        cmocka_unit_test(fingerprint_sees_every_weight),
        cmocka_unit_test(fingerprint_of_a_large_model),
        cmocka_unit_test(fingerprints_of_the_same_model_in_three_types),
        cmocka_unit_test(layouts),
        cmocka_unit_test(layouts_that_do_not_fit),
        cmocka_unit_test(layout_of_template),
        cmocka_unit_test(q8_0_holds_the_native_weights),
        cmocka_unit_test(f16_holds_the_native_weights),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
