/* Folders in Mistral's native layout: params.json, one file of weights or several, the newest tokenizer. Golden models
 * are opened as they are, damaged ones are made here. */
#include "model/model.h"
#include "support/safetensors_writer.h"
#include "support/skip.h"
#include "support/temp_folder.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const bora_model_options without_tokenizer = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
static bora_temp_folder folder;
static bora_tiny_model shape;

static void put(const char *name, const void *bytes, size_t size)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_write(&folder, name, bytes, size, path);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

static void drop(const char *name)
{
    char path[BORA_TEMP_PATH_SIZE];
    assert_int_equal(unlink(bora_temp_folder_path(&folder, name, path)), 0);
}

static void put_weights(const char *name, const char *extra, uint32_t first, uint32_t n, bool with_rest)
{
    size_t data_size = 0, size = 0;
    char *header = bora_writer_native_header(&shape, extra, first, n, with_rest, &data_size);
    uint8_t *bytes = bora_safetensors_bytes(header, data_size, &size);
    put(name, bytes, size);
    free(bytes);
    free(header);
}

/* A dense model of two layers without a tokenizer. */
static int folder_setup(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    shape = BORA_TINY_MODEL;
    char *params = bora_writer_native_params(&shape, NULL);
    put_text("params.json", params);
    free(params);
    put_weights("consolidated.safetensors", NULL, 0, 2, true);
    return 0;
}

static int folder_teardown(void **state)
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

static void assert_refused(const bora_model_options *options, bora_status status, const char *names)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_status st = bora_model_open(folder.path, options, NULL, &model, &err);
    if (st != status || !strstr(err.message, names))
        fail_msg("status %d '%s', expected %d naming '%s'", st, err.message, status, names);
    assert_null(model);
}

/* ---- real folders ---------------------------------------------------------------------------------------------- */

static void golden_models(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t n_layers, dim, hidden_dim, n_heads, n_kv_heads, head_dim, vocab_size, n_experts, n_experts_per_tok;
        float norm_eps, rope_theta;
        uint32_t windows[2]; /* of the first two layers */
    } models[] = {
        {"dense-mha", 3, 64, 160, 4, 4, 16, 320, 1, 1, 1e-5f, 1e4f, {0, 0}},
        {"dense-gqa-swa", 4, 64, 144, 8, 2, 8, 272, 1, 1, 1e-5f, 1e4f, {8, 8}},
        {"dense-oddshapes", 2, 80, 108, 4, 2, 32, 1007, 1, 1, 1e-5f, 1e6f, {0, 0}},
        {"dense-perlayer", 4, 64, 128, 8, 4, 8, 256, 1, 1, 1e-5f, 1e8f, {8, 0}},
        {"dense-theta-default", 2, 48, 96, 4, 1, 12, 258, 1, 1, 1e-6f, 1e6f, {0, 0}},
        {"moe-gqa", 3, 48, 64, 6, 2, 8, 256, 8, 2, 1e-5f, 1e6f, {0, 0}},
        {"moe-gqa-swa", 3, 64, 40, 4, 2, 16, 256, 8, 2, 1e-6f, 1e6f, {16, 16}},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(models); i++) {
        char path[512];
        (void)snprintf(path, sizeof path, BORA_SOURCE_DIR "/tests/golden/models/%s/model", models[i].name);
        bora_model *model = must_open(path, &without_tokenizer);
        const bora_hparams *h = bora_model_hparams(model);
        assert_int_equal(h->n_layers, models[i].n_layers);
        assert_int_equal(h->dim, models[i].dim);
        assert_int_equal(h->hidden_dim, models[i].hidden_dim);
        assert_int_equal(h->n_heads, models[i].n_heads);
        assert_int_equal(h->n_kv_heads, models[i].n_kv_heads);
        assert_int_equal(h->head_dim, models[i].head_dim);
        assert_int_equal(h->vocab_size, models[i].vocab_size);
        assert_int_equal(h->n_experts, models[i].n_experts);
        assert_int_equal(h->n_experts_per_tok, models[i].n_experts_per_tok);
        assert_float_equal(h->norm_eps, models[i].norm_eps, 0);
        assert_float_equal(h->rope_theta, models[i].rope_theta, 0);
        assert_int_equal(bora_hparams_window(h, 0), models[i].windows[0]);
        assert_int_equal(bora_hparams_window(h, 1), models[i].windows[1]);
        assert_string_equal(bora_model_format(model), "mistral");
        assert_string_equal(bora_model_name(model), "model");
        assert_null(bora_model_tokenizer(model));
        assert_int_equal(bora_model_layout(model), BORA_CHAT_NONE);
        const bora_layer_weights *last = bora_model_layer(model, h->n_layers - 1);
        assert_int_equal(last->wq.n_rows, h->n_heads * h->head_dim);
        assert_int_equal(last->wo.n_cols, h->n_heads * h->head_dim);
        assert_int_equal(last->w2[h->n_experts - 1].n_cols, h->hidden_dim);
        assert_int_equal(last->w2[h->n_experts - 1].dtype, BORA_DTYPE_BF16);
        assert_int_equal(last->attention_norm.n_rows, 1);
        assert_int_equal(last->attention_norm.n_cols, h->dim);
        assert_true((last->router.data != NULL) == (h->n_experts > 1));
        bora_model_free(model);
    }
}

static void bora_tiny(void **state)
{
    (void)state;
    bora_model *model = must_open(BORA_SOURCE_DIR "/tests/models/bora-tiny/", NULL);
    assert_string_equal(bora_model_name(model), "bora-tiny");
    assert_int_equal(bora_model_hparams(model)->n_experts, 4);
    assert_int_equal(bora_hparams_window(bora_model_hparams(model), 0), 256);
    assert_int_equal(bora_model_n_parameters(model), 8001792);
    assert_int_equal(bora_model_size(model), 2 * 8001792);
    /* 4 layers of norms, attention, router and two of four experts; the last norm; the output matrix. */
    assert_int_equal(bora_model_n_active(model),
                     4 * (2 * 256 + 2 * 256 * 256 + 2 * 64 * 256 + 4 * 256 + 2 * 3 * 256 * 512) + 256 + 2048 * 256);
    const bora_tokenizer *tokenizer = bora_model_tokenizer(model);
    assert_non_null(tokenizer);
    assert_int_equal(bora_tokenizer_n_pieces(tokenizer), 2048);
    assert_int_equal(bora_model_layout(model), BORA_CHAT_V3);
    bora_model_free(model);
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

static void plain_and_without_slash(void **state)
{
    (void)state;
    bora_model *model = must_open(folder.path, &without_tokenizer);
    assert_string_equal(bora_model_path(model), folder.path);
    assert_string_equal(bora_model_name(model), strrchr(folder.path, '/') + 1);
    assert_int_equal(bora_model_n_tensors(model), 21);
    bora_model_free(model);
}

static void files_missing(void **state)
{
    (void)state;
    assert_refused(NULL, BORA_E_NOT_FOUND, "tokenizer.model");
    drop("consolidated.safetensors");
    assert_refused(&without_tokenizer, BORA_E_NOT_FOUND, "has no consolidated*.safetensors");
    put_text("consolidated.00.pth", "");
    assert_refused(&without_tokenizer, BORA_E_UNSUPPORTED, "pickled");
    put_weights("consolidated.01.safetensors", NULL, 1, 1, false); /* the shard with the rest is missing */
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "tensor 'tok_embeddings.weight' is missing");
    drop("params.json");
    assert_refused(&without_tokenizer, BORA_E_NOT_FOUND, "params.json");
}

static void several_files_of_weights(void **state)
{
    (void)state;
    drop("consolidated.safetensors");
    put_weights("consolidated.00.safetensors", NULL, 1, 1, true);
    put_weights("consolidated.01.safetensors", NULL, 0, 1, false);
    bora_model *model = must_open(folder.path, &without_tokenizer);
    assert_int_equal(bora_model_n_tensors(model), 21);
    bora_model_free(model);
    put_weights("consolidated.02.safetensors", NULL, 0, 1, false); /* the same tensors again */
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "layers.0.");
    drop("consolidated.02.safetensors");
    drop("consolidated.01.safetensors");
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "layers.0.attention_norm.weight");
}

static void tokenizer_of_the_highest_version(void **state)
{
    (void)state;
    size_t size = 0;
    unsigned char *tokenizer = bora_temp_read(BORA_SOURCE_DIR "/tests/models/bora-tiny/tokenizer.model.v3", &size);
    shape.vocab_size = 2048;
    char *params = bora_writer_native_params(&shape, NULL);
    put_text("params.json", params);
    free(params);
    put_weights("consolidated.safetensors", NULL, 0, 2, true);
    /* A damaged file under the highest number shows which one is read. */
    static const char *const names[] = {"tokenizer.model", "tokenizer.model.v1", "tokenizer.model.v2",
                                        "tokenizer.model.v3", "tokenizer.model.v7"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++) {
        put(names[i], tokenizer, size);
        bora_model_free(must_open(folder.path, NULL));
        put_text(names[i], "\xff\xff");
        assert_refused(NULL, BORA_E_FORMAT, names[i]);
    }
    put("tokenizer.model.v7", tokenizer, size);
    put_text("tokenizer.model.v7.bak", "\xff\xff");
    put_text("tokenizer.model.vx", "\xff\xff");
    bora_model *model = must_open(folder.path, NULL);
    assert_int_equal(bora_tokenizer_n_pieces(bora_model_tokenizer(model)), 2048);
    bora_model_free(model);

    /* A tekken.json goes before them all. */
    put_text("tekken.json", "{}");
    assert_refused(NULL, BORA_E_FORMAT, "tekken.json: ");
    size_t tekken_size = 0;
    unsigned char *tekken = bora_temp_read(BORA_SOURCE_DIR "/tests/golden/tekken/small.json", &tekken_size);
    put("tekken.json", tekken, tekken_size);
    free(tekken);
    model = must_open(folder.path, NULL);
    assert_int_equal(bora_tokenizer_kind(bora_model_tokenizer(model)), BORA_TOKENIZER_TEKKEN);
    bora_model_free(model);
    drop("tekken.json");

    /* More pieces than the model has rows. */
    shape.vocab_size = 2047;
    params = bora_writer_native_params(&shape, NULL);
    put_text("params.json", params);
    free(params);
    put_weights("consolidated.safetensors", NULL, 0, 2, true);
    assert_refused(NULL, BORA_E_FORMAT, "2048");
    free(tokenizer);
}

static void tied_and_expert_models(void **state)
{
    (void)state;
    shape.tied = true;
    put_weights("consolidated.safetensors", NULL, 0, 2, true);
    bora_model *model = must_open(folder.path, &without_tokenizer);
    assert_ptr_equal(bora_model_output(model)->data, bora_model_embeddings(model)->data);
    bora_model_free(model);

    shape.n_experts = 3;
    shape.n_experts_per_tok = 2;
    char *params = bora_writer_native_params(&shape, NULL);
    put_text("params.json", params);
    free(params);
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "layers.0.feed_forward."); /* the weights are dense still */
    put_weights("consolidated.safetensors", NULL, 0, 2, true);
    model = must_open(folder.path, &without_tokenizer);
    assert_int_equal(bora_model_layer(model, 1)->router.n_rows, 3);
    assert_int_equal(bora_model_layer(model, 1)->w3[2].n_rows, 64);
    bora_model_free(model);
}

static void shapes_and_leftovers(void **state)
{
    (void)state;
    size_t data_size = 0, size = 0;
    free(bora_writer_native_header(&shape, NULL, 0, 2, true, &data_size));
    char bias[160];
    (void)snprintf(bias, sizeof bias,
                   "\"layers.0.attention.wq.bias\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[%zu,%zu]},",
                   data_size, data_size + 16);
    char *header = bora_writer_native_header(&shape, bias, 0, 2, true, &data_size);
    uint8_t *bytes = bora_safetensors_bytes(header, data_size + 16, &size);
    put("consolidated.safetensors", bytes, size);
    free(bytes);
    free(header);
    assert_refused(&without_tokenizer, BORA_E_UNSUPPORTED, "layers.0.attention.wq.bias");
    put_weights("consolidated.safetensors",
                "\"layers.0.attention.wq.bias\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},", 0, 2,
                true);
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "overlap");
    put_weights("consolidated.safetensors", NULL, 0, 3, true);
    assert_refused(&without_tokenizer, BORA_E_UNSUPPORTED, "layers.2.");
    shape.n_kv_heads = 4;
    put_weights("consolidated.safetensors", NULL, 0, 2, true);
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "layers.0.attention.wk.weight");
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "[32, 32]");
    assert_refused(&without_tokenizer, BORA_E_FORMAT, "[16, 32]");
}

/* ---- params.json ----------------------------------------------------------------------------------------------- */

#define PARAMS(more)                                                                                                   \
    "{\"dim\": 64, \"n_layers\": 4, \"hidden_dim\": 128, \"n_heads\": 8, \"vocab_size\": 300, \"norm_eps\": 1e-5" more \
    "}"

/* Weights that go with PARAMS, and with what more says about heads and experts. */
static bora_model *open_params(const char *params, uint32_t n_kv_heads, uint32_t head_dim, uint32_t n_experts)
{
    shape = (bora_tiny_model){.n_layers = 4,
                              .dim = 64,
                              .hidden_dim = 128,
                              .n_heads = 8,
                              .n_kv_heads = n_kv_heads,
                              .head_dim = head_dim,
                              .vocab_size = 300,
                              .n_experts = n_experts};
    put_text("params.json", params);
    put_weights("consolidated.safetensors", NULL, 0, 4, true);
    return must_open(folder.path, &without_tokenizer);
}

static void params_defaults(void **state)
{
    (void)state;
    static const char *const texts[] = {
        PARAMS(""), PARAMS(", \"rope_theta\": 0, \"moe\": null, \"sliding_window\": null, \"n_kv_heads\": null"),
        PARAMS(", \"something_new\": {\"a\": [1, 2, {}]}, \"model_type\": \"transformer\"")};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(texts); i++) {
        bora_model *model = open_params(texts[i], 8, 8, 1);
        const bora_hparams *hparams = bora_model_hparams(model);
        assert_int_equal(hparams->n_kv_heads, 8);
        assert_int_equal(hparams->head_dim, 8);
        assert_int_equal(hparams->n_experts, 1);
        assert_int_equal(hparams->n_experts_per_tok, 1);
        assert_int_equal(hparams->context_length, 0);
        assert_float_equal(hparams->rope_theta, 1e6f, 0);
        assert_float_equal(hparams->norm_eps, 1e-5f, 0);
        assert_int_equal(hparams->n_windows, 1);
        assert_int_equal(hparams->windows[0], 0);
        bora_model_free(model);
    }
}

static void params_all(void **state)
{
    (void)state;
    bora_model *model =
        open_params(PARAMS(", \"n_kv_heads\": 2, \"head_dim\": 16, \"rope_theta\": 10000, \"max_seq_len\": 32768,"
                           "\"_sliding_window\": [4096, null], "
                           "\"moe\": {\"num_experts\": 3, \"num_experts_per_tok\": 2}"),
                    2, 16, 3);
    const bora_hparams *hparams = bora_model_hparams(model);
    assert_int_equal(hparams->n_kv_heads, 2);
    assert_int_equal(hparams->head_dim, 16);
    assert_float_equal(hparams->rope_theta, 10000.0f, 0);
    assert_int_equal(hparams->context_length, 32768);
    for (uint32_t layer = 0; layer < 4; layer++)
        assert_int_equal(bora_hparams_window(hparams, layer), layer % 2 ? 0 : 4096);
    assert_int_equal(hparams->n_experts, 3);
    assert_int_equal(hparams->n_experts_per_tok, 2);
    bora_model_free(model);

    model = open_params(PARAMS(", \"sliding_window\": 77, \"max_position_embeddings\": 131072"), 8, 8, 1);
    hparams = bora_model_hparams(model);
    assert_int_equal(bora_hparams_window(hparams, 0), 77);
    assert_int_equal(bora_hparams_window(hparams, 3), 77);
    assert_int_equal(hparams->context_length, 131072);
    bora_model_free(model);
}

static void params_damaged(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bora_status status;
        const char *names;
    } cases[] = {
        {"", BORA_E_FORMAT, "JSON"},
        {"{", BORA_E_FORMAT, "JSON"},
        {"[]", BORA_E_FORMAT, "object"},
        {"{}", BORA_E_FORMAT, "dim"},
        {PARAMS("") "x", BORA_E_FORMAT, "JSON"},
        {PARAMS(", \"dim\": 64"), BORA_E_FORMAT, "dim"},
        {PARAMS(", \"n_kv_heads\": \"2\""), BORA_E_FORMAT, "n_kv_heads"},
        {PARAMS(", \"n_kv_heads\": 2.5"), BORA_E_FORMAT, "n_kv_heads"},
        {PARAMS(", \"n_kv_heads\": -2"), BORA_E_FORMAT, "n_kv_heads"},
        {PARAMS(", \"n_kv_heads\": 0"), BORA_E_FORMAT, "n_kv_heads"},
        {PARAMS(", \"n_kv_heads\": 3"), BORA_E_FORMAT, "n_kv_heads"},
        {PARAMS(", \"head_dim\": 4294967296"), BORA_E_FORMAT, "head_dim"},
        {PARAMS(", \"head_dim\": 99999999999999999999999"), BORA_E_FORMAT, "JSON"},
        {PARAMS(", \"head_dim\": 2048"), BORA_E_FORMAT, "head_dim"},
        {PARAMS(", \"head_dim\": true"), BORA_E_FORMAT, "head_dim"},
        {PARAMS(", \"rope_theta\": -1"), BORA_E_FORMAT, "rope_theta"},
        {PARAMS(", \"rope_theta\": 1e300"), BORA_E_FORMAT, "rope_theta"},
        {PARAMS(", \"rope_theta\": NaN"), BORA_E_FORMAT, "JSON"},
        {PARAMS(", \"rope_theta\": []"), BORA_E_FORMAT, "rope_theta"},
        {PARAMS(", \"sliding_window\": 0"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": -5"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": 1e3"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": {}"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": []"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": [8, \"x\"]"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": [8, null, null]"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": [8, 8, 8, 8, 8, 8, 8, 8]"), BORA_E_FORMAT, "sliding_window"},
        {PARAMS(", \"sliding_window\": 8, \"_sliding_window\": 8"), BORA_E_FORMAT, "_sliding_window"},
        {PARAMS(", \"moe\": 8"), BORA_E_FORMAT, "moe"},
        {PARAMS(", \"moe\": {}"), BORA_E_FORMAT, "num_experts"},
        {PARAMS(", \"moe\": {\"num_experts\": 8}"), BORA_E_FORMAT, "num_experts_per_tok"},
        {PARAMS(", \"moe\": {\"num_experts\": 8, \"num_experts_per_tok\": 9}"), BORA_E_FORMAT, "n_experts_per_tok"},
        {PARAMS(", \"moe\": {\"num_experts\": 800, \"num_experts_per_tok\": 9}"), BORA_E_FORMAT, "n_experts"},
        {PARAMS(", \"yarn\": {\"factor\": 4}"), BORA_E_UNSUPPORTED, "yarn"},
        {PARAMS(", \"rope_scaling\": {}"), BORA_E_UNSUPPORTED, "rope_scaling"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        bora_model *model = NULL;
        bora_error err = {{0}};
        put_text("params.json", cases[i].text);
        bora_status st = bora_model_open(folder.path, &without_tokenizer, NULL, &model, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].names))
            fail_msg("%s: status %d, '%s', expected %d naming %s", cases[i].text, st, err.message, cases[i].status,
                     cases[i].names);
        assert_null(model);
    }
}

static void params_missing_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {"dim", "n_layers", "hidden_dim", "n_heads", "vocab_size", "norm_eps"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        char text[] = PARAMS("");
        char quoted[32];
        (void)snprintf(quoted, sizeof quoted, "\"%s\"", keys[i]);
        char *key = strstr(text, quoted);
        assert_non_null(key);
        key[1] = '#';
        put_text("params.json", text);
        assert_refused(&without_tokenizer, BORA_E_FORMAT, keys[i]);
    }
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_models),       cmocka_unit_test(bora_tiny),
        WITH_FOLDER(plain_and_without_slash),  WITH_FOLDER(files_missing),
        WITH_FOLDER(several_files_of_weights), WITH_FOLDER(tokenizer_of_the_highest_version),
        WITH_FOLDER(tied_and_expert_models),   WITH_FOLDER(shapes_and_leftovers),
        WITH_FOLDER(params_defaults),          WITH_FOLDER(params_all),
        WITH_FOLDER(params_damaged),           WITH_FOLDER(params_missing_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
