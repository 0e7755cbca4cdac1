/* bora-model convert: a lossless file computes the same bits, others nearly so; nothing half is ever left, and whatever
 * goes wrong is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/blocks.h"
#include "support/temp_folder.h"
#include "tool/tool.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#define TINY     BORA_SOURCE_DIR "/tests/models/bora-tiny"
#define N_TOKENS 40u

static bora_temp_folder folder;
static bora_log log_to;
static atomic_bool stop;

static bora_tool_options options(void)
{
    return (bora_tool_options){.log = &log_to,
                               .layout = BORA_CHAT_AUTO,
                               .stop = &stop,
                               .pipeline = {.n_threads = 2,
                                            .n_stages = 1,
                                            .max_tokens = N_TOKENS,
                                            .max_logits = N_TOKENS,
                                            .slack = N_TOKENS,
                                            .max_positions = 64,
                                            .kv_dtype = BORA_DTYPE_F32,
                                            .plugin_path = BORA_BUILD_DIR "/lib/bora/plugins",
                                            .plugins = {NULL, "reference", "ring", "reference", "thread"}}};
}

static bora_status try_convert(const char *from, const char *to, const char *type, bool force, bora_error *err)
{
    bora_tool_options with = options();
    bora_tool_convert_options how = {.type = type, .force = force};
    return bora_tool_convert(from, to, &how, &with, err);
}

static void convert(const char *from, const char *to, const char *type)
{
    bora_error err = {{0}};
    if (try_convert(from, to, type, false, &err) != BORA_OK)
        fail_msg("%s to %s: %s", from, type, err.message);
}

static bora_model *open_model(const char *path)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_model_options model_options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    if (bora_model_open(path, &model_options, &log_to, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return model;
}

/* [N_TOKENS, vocab_size] of the same text in any model; free with bora_free. */
static float *logits_of(const char *path, size_t *ret_n)
{
    bora_model *model = open_model(path);
    bora_tool_options with = options();
    bora_pipeline *pipeline = NULL;
    bora_sequence *sequence = NULL;
    bora_error err = {{0}};
    size_t vocab_size = bora_model_hparams(model)->vocab_size;
    float *logits = bora_calloc(N_TOKENS, vocab_size * sizeof *logits);
    assert_non_null(logits);
    int32_t tokens[N_TOKENS];
    for (uint32_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (int32_t)(1 + (i * 37 + i * i % 11) % 250);
    if (bora_pipeline_new(model, &with.pipeline, &log_to, &pipeline, &err) != BORA_OK ||
        bora_sequence_open(pipeline, &sequence, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_batch_part part = {.sequence = sequence, .n = N_TOKENS, .n_logits = N_TOKENS};
    bora_batch batch = {.tokens = tokens, .parts = &part, .n_parts = 1};
    if (bora_pipeline_forward(pipeline, &batch, NULL, logits, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_sequence_close(sequence);
    bora_pipeline_free(pipeline);
    bora_model_free(model);
    *ret_n = N_TOKENS * vocab_size;
    return logits;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the median row: a router that goes the other way by a hair changes single rows a lot. */
static double logits_nmse(const char *is_path, const char *should_path)
{
    size_t n = 0, n_should = 0;
    float *is = logits_of(is_path, &n), *should = logits_of(should_path, &n_should);
    assert_int_equal(n, n_should);
    double rows[N_TOKENS];
    for (size_t row = 0; row < N_TOKENS; row++) {
        double error = 0, square = 0;
        for (size_t i = row * (n / N_TOKENS); i < (row + 1) * (n / N_TOKENS); i++) {
            error += ((double)is[i] - should[i]) * ((double)is[i] - should[i]);
            square += (double)should[i] * should[i];
        }
        rows[row] = error / square;
    }
    bora_free(is);
    bora_free(should);
    qsort(rows, N_TOKENS, sizeof *rows, compare);
    return rows[N_TOKENS / 2];
}

static void assert_same_file(const char *a, const char *b)
{
    size_t a_size = 0, b_size = 0;
    unsigned char *a_bytes = bora_temp_read(a, &a_size), *b_bytes = bora_temp_read(b, &b_size);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a_bytes, b_bytes, a_size);
    free(a_bytes);
    free(b_bytes);
}

static void assert_no_file(const char *path)
{
    char temporary[BORA_TEMP_PATH_SIZE + 4];
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", path);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(temporary, F_OK), 0);
}

static const char *in_folder(const char *name, char path[BORA_TEMP_PATH_SIZE])
{
    return bora_temp_folder_path(&folder, name, path);
}

static int setup(void **state)
{
    (void)state;
    bora_log_init(&log_to, BORA_LOG_ERROR);
    atomic_store(&stop, false);
    bora_temp_folder_make(&folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

/* ---- what is in the file -------------------------------------------------------------------------------------- */

static void lossless_types_compute_the_same_bits(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "bf16"};
    size_t n = 0, n_should = 0;
    float *should = logits_of(TINY, &n_should);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(types); i++) {
        char path[BORA_TEMP_PATH_SIZE];
        convert(TINY, in_folder(types[i], path), types[i]);
        float *is = logits_of(path, &n);
        assert_int_equal(n, n_should);
        assert_memory_equal(is, should, n * sizeof *is);
        bora_free(is);
    }
    bora_free(should);
}

static void others_are_close(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        double nmse;                                            /* of the logits, some three times what is seen */
    } types[] = {{"f16", 1e-9}, {"q8_0", 3e-3}, {"q4_k", 0.1}}; /* test_nll has them all */
    for (size_t i = 0; i < BORA_ARRAY_SIZE(types); i++) {
        char path[BORA_TEMP_PATH_SIZE];
        convert(TINY, in_folder(types[i].type, path), types[i].type);
        double nmse = logits_nmse(path, TINY);
        print_message("%s: NMSE of the logits %.2e\n", types[i].type, nmse);
        if (!(nmse <= types[i].nmse))
            fail_msg("%s: NMSE of the logits is %g, at most %g is expected", types[i].type, nmse, types[i].nmse);
    }
}

static void converting_again_changes_nothing(void **state)
{
    (void)state;
    static const char *const types[] = {"bf16", "q8_0", "mixed"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(types); i++) {
        char once[BORA_TEMP_PATH_SIZE], twice[BORA_TEMP_PATH_SIZE];
        convert(TINY, in_folder("once.gguf", once), types[i]);
        convert(once, in_folder("twice.gguf", twice), types[i]);
        assert_same_file(once, twice);
        assert_int_equal(unlink(once), 0);
        assert_int_equal(unlink(twice), 0);
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    char one[BORA_TEMP_PATH_SIZE], three[BORA_TEMP_PATH_SIZE];
    bora_tool_options with = options();
    bora_tool_convert_options how = {.type = "q4_k"};
    bora_error err = {{0}};
    with.pipeline.n_threads = 1;
    assert_int_equal(bora_tool_convert(TINY, in_folder("one", one), &how, &with, &err), BORA_OK);
    with.pipeline.n_threads = 3;
    assert_int_equal(bora_tool_convert(TINY, in_folder("three", three), &how, &with, &err), BORA_OK);
    assert_same_file(one, three);
}

static void assert_same_tokens(const bora_tokenizer *is, const bora_tokenizer *should, const char *text)
{
    bora_tokens is_ids = {0}, should_ids = {0};
    assert_int_equal(bora_tokenizer_encode(is, text, strlen(text), &is_ids, NULL), BORA_OK);
    assert_int_equal(bora_tokenizer_encode(should, text, strlen(text), &should_ids, NULL), BORA_OK);
    assert_int_equal(is_ids.n, should_ids.n);
    assert_memory_equal(is_ids.ids, should_ids.ids, is_ids.n * sizeof *is_ids.ids);
    bora_tokens_release(&is_ids);
    bora_tokens_release(&should_ids);
}

static void tokenizer_and_layout_survive(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    convert(TINY, in_folder("model.gguf", path), "q8_0");
    bora_model *native = open_model(TINY), *gguf = open_model(path);
    const bora_tokenizer *should = bora_model_tokenizer(native), *is = bora_model_tokenizer(gguf);
    assert_int_equal(bora_model_layout(gguf), bora_model_layout(native));
    assert_string_equal(bora_model_name(gguf), bora_model_name(native));
    assert_int_equal(bora_tokenizer_n_pieces(is), bora_tokenizer_n_pieces(should));
    assert_int_equal(bora_tokenizer_bos(is), bora_tokenizer_bos(should));
    assert_int_equal(bora_tokenizer_eos(is), bora_tokenizer_eos(should));
    for (int32_t id = 0; id < (int32_t)bora_tokenizer_n_pieces(should); id++) {
        size_t is_size = 0, should_size = 0;
        const char *is_piece = bora_tokenizer_piece(is, id, &is_size);
        const char *should_piece = bora_tokenizer_piece(should, id, &should_size);
        assert_int_equal(is_size, should_size);
        assert_memory_equal(is_piece, should_piece, is_size);
        assert_int_equal(bora_tokenizer_piece_type(is, id), bora_tokenizer_piece_type(should, id));
    }
    assert_same_tokens(is, should, "");
    assert_same_tokens(is, should, "What is the capital of France?  Two spaces,\ttabs\nand 1234567890.");
    assert_same_tokens(is, should, "[INST] not a control token [/INST] \xc3\xa4\xe4\xbd\xa0\xf0\x9f\x98\x80 \xff");
    bora_model_free(native);
    bora_model_free(gguf);
}

/* A model of tests/golden/models, which have no tokenizers. */
static void assert_same_shape(const char *name, const char *type)
{
    char path[BORA_TEMP_PATH_SIZE];
    char *from = bora_format("%s/tests/golden/models/%s/model", BORA_SOURCE_DIR, name);
    convert(from, in_folder(name, path), type);
    bora_model *native = open_model(from), *gguf = open_model(path);
    const bora_hparams *should = bora_model_hparams(native), *is = bora_model_hparams(gguf);
    assert_int_equal(is->n_layers, should->n_layers);
    assert_int_equal(is->dim, should->dim);
    assert_int_equal(is->hidden_dim, should->hidden_dim);
    assert_int_equal(is->n_heads, should->n_heads);
    assert_int_equal(is->n_kv_heads, should->n_kv_heads);
    assert_int_equal(is->head_dim, should->head_dim);
    assert_int_equal(is->vocab_size, should->vocab_size);
    assert_int_equal(is->n_experts, should->n_experts);
    assert_int_equal(is->n_experts_per_tok, should->n_experts_per_tok);
    assert_true(is->norm_eps == should->norm_eps && is->rope_theta == should->rope_theta);
    for (uint32_t layer = 0; layer < should->n_layers; layer++)
        assert_int_equal(bora_hparams_window(is, layer), bora_hparams_window(should, layer));
    bora_model_free(native);
    bora_model_free(gguf);
    assert_true(logits_nmse(path, from) < 1e-9);
    bora_free(from);
}

static void every_shape_and_window_survives(void **state)
{
    (void)state;
    static const char *const models[] = {"dense-mha",   "dense-gqa-swa",   "moe-gqa",
                                         "moe-gqa-swa", "dense-oddshapes", "dense-perlayer"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(models); i++)
        assert_same_shape(models[i], "bf16");
}

static void rows_that_are_not_whole_blocks_fall_back(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    const char *from =
        BORA_SOURCE_DIR "/tests/golden/models/dense-oddshapes/model"; /* 80 wide, 128 of heads, hidden 108 */
    convert(from, in_folder("odd", path), "q4_k");
    bora_model *model = open_model(path);
    size_t n_q8_0 = 0, n_f16 = 0, n_f32 = 0;
    for (size_t i = 0; i < bora_model_n_tensors(model); i++) {
        const bora_tensor_info *info = bora_model_tensor(model, i);
        uint64_t n_cols = info->shape[info->n_dims - 1];
        bool vector = info->n_dims == 1;
        uint32_t should = vector ? BORA_DTYPE_F32 : n_cols % 32 == 0 ? BORA_DTYPE_Q8_0 : BORA_DTYPE_F16;
        assert_int_equal(info->dtype, should);
        n_q8_0 += should == BORA_DTYPE_Q8_0;
        n_f16 += should == BORA_DTYPE_F16;
        n_f32 += should == BORA_DTYPE_F32;
    }
    assert_true(n_q8_0 && n_f16 && n_f32);
    bora_model_free(model);
    assert_true(logits_nmse(path, from) < 1e-2);
}

static void mixed_keeps_more_of_what_matters(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    convert(TINY, in_folder("mixed.gguf", path), "mixed");
    bora_model *model = open_model(path);
    const bora_layer_weights *layer = bora_model_layer(model, 1);
    assert_int_equal(layer->wq.dtype, BORA_DTYPE_Q4_K);
    assert_int_equal(layer->wk.dtype, BORA_DTYPE_Q4_K);
    assert_int_equal(layer->wv.dtype, BORA_DTYPE_Q6_K);
    assert_int_equal(layer->wo.dtype, BORA_DTYPE_Q4_K);
    assert_int_equal(layer->w1[3].dtype, BORA_DTYPE_Q4_K);
    assert_int_equal(layer->w2[3].dtype, BORA_DTYPE_Q6_K);
    assert_int_equal(layer->w3[3].dtype, BORA_DTYPE_Q4_K);
    assert_int_equal(layer->router.dtype, BORA_DTYPE_F32);
    assert_int_equal(layer->ffn_norm.dtype, BORA_DTYPE_F32);
    assert_int_equal(bora_model_embeddings(model)->dtype, BORA_DTYPE_Q4_K);
    assert_int_equal(bora_model_output(model)->dtype, BORA_DTYPE_Q6_K);
    bora_model_free(model);
}

/* ---- what can go wrong ---------------------------------------------------------------------------------------- */

static void a_file_is_not_overwritten_unasked(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    bora_error err = {{0}};
    bora_temp_folder_write(&folder, "mine", "precious", 8, path);
    assert_int_equal(try_convert(TINY, path, "q8_0", false, &err), BORA_E_EXISTS);
    assert_non_null(strstr(err.message, path));
    size_t size = 0;
    unsigned char *bytes = bora_temp_read(path, &size);
    assert_int_equal(size, 8);
    assert_memory_equal(bytes, "precious", 8);
    free(bytes);
    if (try_convert(TINY, path, "q8_0", true, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_model_free(open_model(path));
    /* A file may take its own place: its bytes stay mapped. */
    if (try_convert(path, path, "q4_0", true, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_model_free(open_model(path));
    assert_int_equal(try_convert(TINY, folder.path, "q8_0", true, &err), BORA_E_EXISTS);
}

static void an_interrupted_run_leaves_nothing(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    bora_error err = {{0}};
    atomic_store(&stop, true);
    assert_int_equal(try_convert(TINY, in_folder("model.gguf", path), "q8_0", false, &err), BORA_E_CANCELLED);
    assert_no_file(path);
}

/* The temporary file of a run that was killed is no obstacle; one that is being written is. */
static void leftovers_are_told_from_neighbours(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE], temporary[BORA_TEMP_PATH_SIZE];
    bora_error err = {{0}};
    in_folder("model.gguf", path);
    bora_temp_folder_write(&folder, "model.gguf.tmp", "half of something", 17, temporary);
    int fd = open(temporary, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    assert_int_equal(try_convert(TINY, path, "q8_0", false, &err), BORA_E_BUSY);
    assert_int_equal(access(temporary, F_OK), 0);
    assert_int_equal(close(fd), 0);
    convert(TINY, path, "q8_0");
    assert_int_not_equal(access(temporary, F_OK), 0);
}

static void a_disk_without_room_is_named(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    bora_error err = {{0}};
    struct rlimit was, less;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    less = was;
    less.rlim_cur = 1 << 20; /* writing past it fails like a full disk, if the signal is ignored */
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
    bora_status st = try_convert(TINY, in_folder("model.gguf", path), "q8_0", false, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    (void)signal(SIGXFSZ, before);
    assert_int_equal(st, BORA_E_FULL);
    assert_non_null(strstr(err.message, "MiB"));
    assert_no_file(path);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE], deep[BORA_TEMP_PATH_SIZE];
    bora_error err = {{0}};
    in_folder("model.gguf", path);
    in_folder("no/such/folder.gguf", deep);
    assert_int_equal(try_convert(TINY, path, "q9_z", false, &err), BORA_E_INVAL);
    assert_int_equal(try_convert("/no/such/model", path, "q8_0", false, &err), BORA_E_NOT_FOUND);
    assert_int_equal(try_convert(TINY, deep, "q8_0", false, &err), BORA_E_IO);
    assert_no_file(path);
}

static void values_that_are_not_numbers_are_found(void **state)
{
    (void)state;
    char good[BORA_TEMP_PATH_SIZE], bad[BORA_TEMP_PATH_SIZE], path[BORA_TEMP_PATH_SIZE];
    bora_error err = {{0}};
    size_t size = 0;
    convert(TINY, in_folder("good.gguf", good), "f32");
    unsigned char *bytes = bora_temp_read(good, &size);
    const float damage[] = {NAN, INFINITY, 1e30f};
    static const char *const types[] = {"q8_0", "q4_k", "f16"};
    in_folder("model.gguf", path);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(damage); i++) {
        memcpy(bytes + size - sizeof damage[i], &damage[i], sizeof damage[i]); /* the last value of output.weight */
        bora_temp_folder_write(&folder, "bad.gguf", bytes, size, bad);
        bora_status st = try_convert(bad, path, types[i], false, &err);
        assert_int_equal(st, i == 2 ? BORA_E_LIMIT : BORA_E_FORMAT);
        assert_non_null(strstr(err.message, "output.weight"));
        assert_no_file(path);
    }
    free(bytes);
}

static void without_memory_nothing_is_left(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    const char *from = BORA_SOURCE_DIR "/tests/golden/models/moe-gqa/model";
    bora_error err = {{0}};
    in_folder("model.gguf", path);
    bora_status st = BORA_E_NOMEM;
    for (uint64_t n = 1; st != BORA_OK && n < 10000; n++) {
        (void)bora_memory_fail_at(n);
        st = try_convert(from, path, "q8_0", false, &err);
        (void)bora_memory_fail_at(0);
        if (st == BORA_OK)
            break;
        assert_int_equal(st, BORA_E_NOMEM);
        if (access(path, F_OK) == 0) /* failed after the file had its name: it is whole then */
            assert_int_equal(unlink(path), 0);
        assert_no_file(path);
    }
    assert_int_equal(st, BORA_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lossless_types_compute_the_same_bits),
        TEST(others_are_close),
        TEST(converting_again_changes_nothing),
        TEST(threads_do_not_matter),
        TEST(tokenizer_and_layout_survive),
        TEST(every_shape_and_window_survives),
        TEST(rows_that_are_not_whole_blocks_fall_back),
        TEST(mixed_keeps_more_of_what_matters),
        TEST(a_file_is_not_overwritten_unasked),
        TEST(an_interrupted_run_leaves_nothing),
        TEST(leftovers_are_told_from_neighbours),
        TEST(a_disk_without_room_is_named),
        TEST(bad_requests_are_refused),
        TEST(values_that_are_not_numbers_are_found),
        TEST(without_memory_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
