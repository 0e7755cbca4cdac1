/* Hugging Face folders: config.json key by key, the index of sharded weights, and which of two layouts in one folder
 * is read. That the numbers come out right is shown by engine/test_layouts. */
#include "base/memory.h"
#include "model/model_private.h"
#include "support/model_writer.h"
#include "support/skip.h"

#include <string.h>
#include <unistd.h>

static const bora_model_options without_tokenizer = {.without_tokenizer = true};
static const bora_tiny_model shape = {2, 32, 64, 4, 2, 8, 64, 1, 1, 0, 0, false, false, true};
static bora_temp_folder folder;

static int folder_setup(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    return 0;
}

static int folder_teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

static void write_model(bora_written_layout layout)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_model_write(&folder, &(bora_model_writing){.shape = shape}, layout, path);
}

static void put_text(const char *name, const char *text)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_write(&folder, name, text, strlen(text), path);
}

static void drop(const char *name)
{
    char path[BORA_TEMP_PATH_SIZE];
    assert_int_equal(unlink(bora_temp_folder_path(&folder, name, path)), 0);
}

static bora_model *must_open(const bora_model_options *options)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (bora_model_open(folder.path, options, NULL, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return model;
}

static void assert_refused(bora_status status, const char *names)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_status st = bora_model_open(folder.path, &without_tokenizer, NULL, &model, &err);
    if (st != status || !strstr(err.message, names))
        fail_msg("status %d '%s', expected %d naming '%s'", st, err.message, status, names);
    assert_null(model);
}

/* ---- config.json ---- */

/* Keys of a mixture that is right; each test case writes one of them anew (NULL: leaves it out) or adds one. */
static const char *const config_keys[][2] = {
    {"architectures", "[\"MixtralForCausalLM\"]"},
    {"hidden_size", "64"},
    {"intermediate_size", "96"},
    {"num_hidden_layers", "4"},
    {"num_attention_heads", "8"},
    {"num_key_value_heads", "2"},
    {"rms_norm_eps", "1e-5"},
    {"rope_theta", "1000000.0"},
    {"sliding_window", "null"},
    {"vocab_size", "320"},
    {"max_position_embeddings", "32768"},
    {"num_local_experts", "8"},
    {"num_experts_per_tok", "2"},
    {"tie_word_embeddings", "false"},
    {"hidden_act", "\"silu\""},
    {"torch_dtype", "\"bfloat16\""},
};

static size_t config_put(char *text, size_t size, size_t n, const char *key, const char *value)
{
    int got = snprintf(text + n, size - n, "%s\"%s\": %s", n > 1 ? ", " : "", key, value);
    assert_true(got > 0 && (size_t)got < size - n);
    return n + (size_t)got;
}

static bora_status read_config(const char *key, const char *value, bora_hparams *h, bool *tied, bora_error *err)
{
    char text[2048] = "{";
    size_t n = 1;
    bool is_known = key == NULL;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(config_keys); i++) {
        bool is_it = key && strcmp(key, config_keys[i][0]) == 0;
        is_known |= is_it;
        if (!is_it || value)
            n = config_put(text, sizeof text, n, config_keys[i][0], is_it ? value : config_keys[i][1]);
    }
    if (!is_known)
        n = config_put(text, sizeof text, n, key, value);
    (void)snprintf(text + n, sizeof text - n, "}");
    return bora_huggingface_config(text, strlen(text), h, tied, err);
}

static void config_is_read(void **state)
{
    (void)state;
    bora_hparams h;
    bool tied = true;
    bora_error err = {{0}};
    assert_int_equal(read_config(NULL, NULL, &h, &tied, &err), BORA_OK);
    assert_false(tied);
    assert_int_equal(h.dim, 64);
    assert_int_equal(h.hidden_dim, 96);
    assert_int_equal(h.n_layers, 4);
    assert_int_equal(h.n_heads, 8);
    assert_int_equal(h.n_kv_heads, 2);
    assert_int_equal(h.head_dim, 8);
    assert_int_equal(h.vocab_size, 320);
    assert_int_equal(h.context_length, 32768);
    assert_int_equal(h.n_experts, 8);
    assert_int_equal(h.n_experts_per_tok, 2);
    assert_float_equal(h.norm_eps, 1e-5f, 0);
    assert_float_equal(h.rope_theta, 1e6f, 0);
    assert_int_equal(bora_hparams_window(&h, 3), 0);
    assert_string_equal(h.window_source, "sliding_window in config.json");

    assert_int_equal(read_config("head_dim", "16", &h, &tied, &err), BORA_OK);
    assert_int_equal(h.head_dim, 16);
    assert_int_equal(read_config("head_dim", "null", &h, &tied, &err), BORA_OK);
    assert_int_equal(h.head_dim, 8);
    assert_int_equal(read_config("sliding_window", "4096", &h, &tied, &err), BORA_OK);
    assert_int_equal(bora_hparams_window(&h, 3), 4096);
    assert_int_equal(read_config("sliding_window", NULL, &h, &tied, &err), BORA_OK);
    assert_null(h.window_source);
    assert_int_equal(read_config("architectures", "[\"MistralForCausalLM\"]", &h, &tied, &err), BORA_OK);
    assert_int_equal(h.n_experts, 1); /* a dense model's experts are nobody's */
    assert_int_equal(read_config("num_key_value_heads", "null", &h, &tied, &err), BORA_OK);
    assert_int_equal(h.n_kv_heads, 8);
    assert_int_equal(read_config("tie_word_embeddings", "true", &h, &tied, &err), BORA_OK);
    assert_true(tied);
    assert_int_equal(read_config("hidden_act", NULL, &h, &tied, &err), BORA_OK);
    assert_int_equal(read_config("rope_scaling", "{\"rope_type\": \"default\"}", &h, &tied, &err), BORA_OK);
    assert_int_equal(read_config("partial_rotary_factor", "1.0", &h, &tied, &err), BORA_OK);
    assert_int_equal(read_config("rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 500.0}", &h, &tied,
                                 &err),
                     BORA_OK);
    assert_float_equal(h.rope_theta, 500, 0);
}

static void windows_of_single_layers(void **state)
{
    (void)state;
    bora_hparams h;
    bool tied = false;
    static const char text[] =
        "{\"architectures\":[\"MistralForCausalLM\"],\"hidden_size\":8,\"intermediate_size\":8,\"num_hidden_layers\":4,"
        "\"num_attention_heads\":2,\"rms_norm_eps\":1e-5,\"rope_theta\":1e4,\"vocab_size\":8,\"sliding_window\":128,"
        "\"layer_types\":[\"full_attention\",\"sliding_attention\",\"full_attention\",\"sliding_attention\"]}";
    assert_int_equal(bora_huggingface_config(text, sizeof text - 1, &h, &tied, NULL), BORA_OK);
    bora_hparams_windows_shorten(&h);
    assert_int_equal(h.n_windows, 2);
    assert_int_equal(h.windows[0], 0);
    assert_int_equal(h.windows[1], 128);
    char shown[64];
    bora_hparams_windows_text(&h, shown, sizeof shown);
    assert_string_equal(shown, "none, 128 (repeated over the layers)");
}

static void bad_configs_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        bora_status status;
        const char *names;
    } bad[] = {
        {"architectures", NULL, BORA_E_FORMAT, "architectures"},
        {"architectures", "[]", BORA_E_FORMAT, "architectures"},
        {"architectures", "\"MistralForCausalLM\"", BORA_E_FORMAT, "architectures"},
        {"architectures", "[\"LlamaForCausalLM\"]", BORA_E_UNSUPPORTED, "LlamaForCausalLM"},
        {"architectures", "[\"Mistral3ForConditionalGeneration\"]", BORA_E_UNSUPPORTED, "Mistral3"},
        {"hidden_size", NULL, BORA_E_FORMAT, "hidden_size"},
        {"hidden_size", "0", BORA_E_FORMAT, "hidden_size"},
        {"hidden_size", "-64", BORA_E_FORMAT, "hidden_size"},
        {"hidden_size", "64.5", BORA_E_FORMAT, "hidden_size"},
        {"hidden_size", "\"64\"", BORA_E_FORMAT, "hidden_size"},
        {"hidden_size", "9223372036854775807", BORA_E_FORMAT, "hidden_size"},
        {"hidden_size", "18446744073709551616", BORA_E_FORMAT, "JSON"},
        {"hidden_size", "67", BORA_E_FORMAT, "head_dim"},
        {"intermediate_size", "4294967296", BORA_E_FORMAT, "intermediate_size"},
        {"num_hidden_layers", "1025", BORA_E_FORMAT, "num_hidden_layers"},
        {"num_attention_heads", "[8]", BORA_E_FORMAT, "num_attention_heads"},
        {"num_attention_heads", "true", BORA_E_FORMAT, "num_attention_heads"},
        {"num_key_value_heads", "3", BORA_E_FORMAT, "n_kv_heads"},
        {"num_key_value_heads", "0", BORA_E_FORMAT, "num_key_value_heads"},
        {"head_dim", "7", BORA_E_FORMAT, "head_dim"},
        {"vocab_size", NULL, BORA_E_FORMAT, "vocab_size"},
        {"rms_norm_eps", NULL, BORA_E_FORMAT, "rms_norm_eps"},
        {"rms_norm_eps", "0", BORA_E_FORMAT, "norm_eps"},
        {"rope_theta", NULL, BORA_E_FORMAT, "rope_theta"},
        {"rope_theta", "-1", BORA_E_FORMAT, "rope_theta"},
        {"rope_theta", "1e300", BORA_E_FORMAT, "rope_theta"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2.0}", BORA_E_UNSUPPORTED, "linear"},
        {"rope_scaling", "\"yarn\"", BORA_E_FORMAT, "rope_scaling"},
        {"rope_parameters", "{\"rope_type\": \"yarn\", \"rope_theta\": 1.0}", BORA_E_UNSUPPORTED, "yarn"},
        {"partial_rotary_factor", "0.5", BORA_E_UNSUPPORTED, "partial_rotary_factor"},
        {"sliding_window", "0", BORA_E_FORMAT, "sliding_window"},
        {"sliding_window", "-1", BORA_E_FORMAT, "sliding_window"},
        {"sliding_window", "[4096]", BORA_E_FORMAT, "sliding_window"},
        {"layer_types", "[\"full_attention\"]", BORA_E_FORMAT, "layer_types"},
        {"layer_types", "[1, 2, 3, 4]", BORA_E_UNSUPPORTED, "layer_types"},
        {"layer_types", "[\"full_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]",
         BORA_E_FORMAT, "layer_types"},
        {"num_local_experts", NULL, BORA_E_FORMAT, "num_local_experts"},
        {"num_local_experts", "1", BORA_E_FORMAT, "num_local_experts"},
        {"num_local_experts", "257", BORA_E_FORMAT, "num_local_experts"},
        {"num_experts_per_tok", "9", BORA_E_FORMAT, "n_experts_per_tok"},
        {"tie_word_embeddings", "1", BORA_E_FORMAT, "tie_word_embeddings"},
        {"hidden_act", "\"gelu\"", BORA_E_UNSUPPORTED, "gelu"},
        {"hidden_act", "3", BORA_E_UNSUPPORTED, "hidden_act"},
        {"quantization_config", "{\"quant_method\": \"awq\"}", BORA_E_UNSUPPORTED, "quantization_config"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        bora_hparams h;
        bool tied = false;
        bora_error err = {{0}};
        bora_status st = read_config(bad[i].key, bad[i].value, &h, &tied, &err);
        if (st != bad[i].status || !strstr(err.message, bad[i].names))
            fail_msg("%s = %s: status %d '%s', expected %d naming '%s'", bad[i].key,
                     bad[i].value ? bad[i].value : "(none)", st, err.message, bad[i].status, bad[i].names);
    }
}

/* ---- folders ---- */

static void shards_through_the_index(void **state)
{
    (void)state;
    write_model(BORA_MODEL_HF_SHARDED);
    bora_model *model = must_open(&without_tokenizer);
    assert_string_equal(bora_model_format(model), "huggingface");
    assert_int_equal(bora_model_n_tensors(model), 3 + 2 * 9);
    /* Query and key rows of both layers: 32 and 16 rows of 32 floats. */
    assert_int_equal(bora_model_copied_size(model), 2 * (32 + 16) * 32 * sizeof(float));
    const char *fingerprint = bora_model_fingerprint(model);
    const bora_model_options listing = {.without_tokenizer = true, .description_only = true};
    bora_model *listed = must_open(&listing);
    assert_int_equal(bora_model_copied_size(listed), 0);
    assert_string_equal(bora_model_fingerprint(listed), fingerprint);
    bora_model_free(listed);
    bora_model_free(model);
    drop("model-00002-of-00003.safetensors");
    assert_refused(BORA_E_NOT_FOUND, "model-00002-of-00003.safetensors");
    drop("model.safetensors.index.json");
    assert_refused(BORA_E_NOT_FOUND, "model.safetensors.index.json");
}

static void indexes_that_lead_elsewhere(void **state)
{
    (void)state;
    write_model(BORA_MODEL_HF_SHARDED);
    static const char *const files[] = {
        "../other.safetensors", "/etc/passwd", "sub/model.safetensors", "", ".hidden.safetensors", "..", "model.bin",
        ".safetensors"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(files); i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "{\"weight_map\": {\"model.norm.weight\": \"%s\"}}", files[i]);
        put_text("model.safetensors.index.json", text);
        assert_refused(BORA_E_FORMAT, "model.norm.weight");
    }
    static const char *const texts[] = {"",
                                        "[]",
                                        "{}",
                                        "{\"weight_map\": []}",
                                        "{\"weight_map\": {}}",
                                        "{\"weight_map\": {\"model.norm.weight\": 3}}",
                                        "{\"weight_map\": {\"a\": "};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(texts); i++) {
        put_text("model.safetensors.index.json", texts[i]);
        assert_refused(BORA_E_FORMAT, "model.safetensors.index.json");
    }
    put_text("model.safetensors.index.json",
             "{\"weight_map\": {\"model.norm.weight\": \"model-00003-of-00003.safetensors\"}}");
    assert_refused(BORA_E_FORMAT, "is missing");
}

static void both_layouts_in_one_folder(void **state)
{
    (void)state;
    write_model(BORA_MODEL_HF);
    write_model(BORA_MODEL_NATIVE);
    bora_model *model = must_open(&without_tokenizer);
    assert_string_equal(bora_model_format(model), "mistral");
    bora_model_free(model);
    drop("consolidated.safetensors"); /* params.json without its weights */
    model = must_open(&without_tokenizer);
    assert_string_equal(bora_model_format(model), "huggingface");
    bora_model_free(model);
    drop("model.safetensors");
    assert_refused(BORA_E_NOT_FOUND, "consolidated*.safetensors");
    drop("params.json");
    assert_refused(BORA_E_NOT_FOUND, "model.safetensors");
    put_text("pytorch_model-00001-of-00002.bin", "");
    assert_refused(BORA_E_UNSUPPORTED, "pickled");
    drop("config.json");
    assert_refused(BORA_E_NOT_FOUND, "config.json");
}

static void tokenizers(void **state)
{
    (void)state;
    write_model(BORA_MODEL_HF);
    bora_model *model = NULL;
    bora_error err = {{0}};
    assert_int_equal(bora_model_open(folder.path, NULL, NULL, &model, &err), BORA_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "tokenizer.model"));
}

static void output_matrices(void **state)
{
    (void)state;
    bora_tiny_model tied = shape;
    tied.tied = true;
    char path[BORA_TEMP_PATH_SIZE], config[BORA_TEMP_PATH_SIZE];
    size_t tied_size = 0, untied_size = 0;
    bora_temp_folder_path(&folder, "config.json", config);
    bora_model_write(&folder, &(bora_model_writing){.shape = tied}, BORA_MODEL_HF, path);
    unsigned char *tied_text = bora_temp_read(config, &tied_size);
    bora_model *model = must_open(&without_tokenizer);
    assert_ptr_equal(bora_model_output(model)->data, bora_model_embeddings(model)->data);
    bora_model_free(model);
    /* A tied model that was saved with a copy: the copy is not used. */
    write_model(BORA_MODEL_HF);
    unsigned char *untied_text = bora_temp_read(config, &untied_size);
    bora_temp_folder_write(&folder, "config.json", tied_text, tied_size, path);
    model = must_open(&without_tokenizer);
    assert_ptr_equal(bora_model_output(model)->data, bora_model_embeddings(model)->data);
    bora_model_free(model);
    /* And one that is said not to be tied, without the matrix. */
    bora_model_write(&folder, &(bora_model_writing){.shape = tied}, BORA_MODEL_HF, path);
    bora_temp_folder_write(&folder, "config.json", untied_text, untied_size, path);
    assert_refused(BORA_E_FORMAT, "lm_head.weight");
    free(untied_text);
    free(tied_text);
}

/* Copied rows are taken from the ledger before they are copied, tables when they are read; all comes back. */
static void memory_is_in_the_books(void **state)
{
    (void)state;
    write_model(BORA_MODEL_HF_SHARDED);
    const uint64_t copied = 2 * (32 + 16) * 32 * sizeof(float);
    bora_model_options options = without_tokenizer;
    bora_ledger_state books;
    bora_error err = {{0}};
    assert_int_equal(bora_ledger_new(UINT64_C(1) << 30, &options.ledger, NULL), BORA_OK);
    bora_model *model = must_open(&options);
    bora_ledger_get(options.ledger, &books);
    assert_in_range(books.accounts[BORA_LEDGER_WEIGHTS], copied, copied + 128);
    assert_int_equal(books.accounts[BORA_LEDGER_PROGRAM], bora_model_tables_size(model));
    assert_true(bora_model_tables_size(model) > bora_model_n_tensors(model) * sizeof(bora_tensor_info));
    const uint64_t all = books.used;
    assert_int_equal(all, books.accounts[BORA_LEDGER_WEIGHTS] + books.accounts[BORA_LEDGER_PROGRAM]);
    bora_model_free(model);
    bora_ledger_get(options.ledger, &books);
    assert_int_equal(books.used, 0);
    bora_ledger_free(options.ledger);

    const struct {
        uint64_t limit;
        const char *names;
    } small[] = {{copied - 1, "query and key rows"}, {all - 1, "tables of the model"}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(small); i++) {
        assert_int_equal(bora_ledger_new(small[i].limit, &options.ledger, NULL), BORA_OK);
        model = NULL;
        assert_int_equal(bora_model_open(folder.path, &options, NULL, &model, &err), BORA_E_LIMIT);
        assert_null(model);
        if (!strstr(err.message, "memory limit: ") || !strstr(err.message, small[i].names))
            fail_msg("'%s' does not name '%s'", err.message, small[i].names);
        bora_ledger_get(options.ledger, &books);
        assert_int_equal(books.used, 0);
        bora_ledger_free(options.ledger);
    }
}

/* Whichever allocation fails: NOMEM, and nothing is left behind (the sanitizers look). */
static void memory_runs_out(void **state)
{
    (void)state;
    write_model(BORA_MODEL_HF_SHARDED);
    bora_status st = BORA_E_NOMEM;
    uint64_t n = 1;
    for (; st != BORA_OK && n < 1000; n++) {
        bora_model *model = NULL;
        bora_error err = {{0}};
        (void)bora_memory_fail_at(n);
        st = bora_model_open(folder.path, &without_tokenizer, NULL, &model, &err);
        (void)bora_memory_fail_at(0);
        if (st != BORA_OK && st != BORA_E_NOMEM)
            fail_msg("allocation %llu: %s", (unsigned long long)n, err.message);
        bora_model_free(model);
    }
    assert_int_equal(st, BORA_OK);
    assert_in_range(n, 10, 999);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_is_read),
        cmocka_unit_test(windows_of_single_layers),
        cmocka_unit_test(bad_configs_are_refused_by_name),
        WITH_FOLDER(shards_through_the_index),
        WITH_FOLDER(indexes_that_lead_elsewhere),
        WITH_FOLDER(both_layouts_in_one_folder),
        WITH_FOLDER(tokenizers),
        WITH_FOLDER(output_matrices),
        WITH_FOLDER(memory_is_in_the_books),
        WITH_FOLDER(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
