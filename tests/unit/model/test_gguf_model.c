/* GGUF files that are whole but do not hold a model: keys, tensors or vocabulary are missing, of another type or shape,
 * out of range, or ask for something that is not computed here. */
#include "unit/model/gguf_fixture.h"

#include <math.h>

/* ---- the model, damaged ---------------------------------------------------------------------------------------- */

static void keys_missing(void **state)
{
    (void)state;
    static const char *const keys[] = {"general.architecture",       "llama.embedding_length",
                                       "llama.block_count",          "llama.feed_forward_length",
                                       "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
                                       "tokenizer.ggml.tokens",      "tokenizer.ggml.scores",
                                       "tokenizer.ggml.token_type"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_remove(&writer, keys[i]);
        assert_refused(BORA_E_FORMAT, keys[i]);
    }
}

static void keys_of_the_wrong_type(void **state)
{
    (void)state;
    static const char *const keys[] = {"general.architecture",
                                       "general.name",
                                       "llama.context_length",
                                       "llama.embedding_length",
                                       "llama.block_count",
                                       "llama.feed_forward_length",
                                       "llama.attention.head_count",
                                       "llama.attention.head_count_kv",
                                       "llama.attention.key_length",
                                       "llama.attention.value_length",
                                       "llama.rope.dimension_count",
                                       "llama.attention.layer_norm_rms_epsilon",
                                       "llama.rope.freq_base",
                                       "llama.attention.sliding_window",
                                       "llama.expert_count",
                                       "llama.rope.scaling.type",
                                       "tokenizer.ggml.model",
                                       "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.scores",
                                       "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.bos_token_id",
                                       "tokenizer.ggml.add_space_prefix",
                                       "split.count"};
    static const float floats[] = {1, 2};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_raw(&writer, keys[i], 7, "\1", 1);
        if (strcmp(keys[i], "tokenizer.ggml.add_space_prefix") != 0)
            assert_refused(BORA_E_FORMAT, keys[i]);
        bora_gguf_writer_array(&writer, keys[i], BORA_WRITER_F32, floats, 2, 4);
        assert_refused(BORA_E_FORMAT, keys[i]);
    }
}

static void keys_out_of_range(void **state)
{
    (void)state;
    static const struct {
        const char *key, *names;
    } keys[] = {{"llama.embedding_length", "dim"},
                {"llama.block_count", "n_layers"},
                {"llama.feed_forward_length", "hidden_dim"},
                {"llama.attention.head_count", "n_heads"},
                {"llama.attention.head_count_kv", "n_kv_heads"},
                {"llama.context_length", "context_length"},
                {"llama.vocab_size", "vocab_size"},
                {"llama.expert_count", "n_experts"},
                {"llama.attention.sliding_window", "sliding_window"}};
    const int32_t negative = -1;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_u32(&writer, keys[i].key, UINT32_MAX);
        assert_refused(BORA_E_FORMAT, keys[i].names);
        bora_gguf_writer_raw(&writer, keys[i].key, BORA_WRITER_I32, &negative, 4);
        assert_refused(BORA_E_FORMAT, keys[i].key);
    }
    writer_again(&BORA_TINY_MODEL);
    bora_gguf_writer_u32(&writer, "llama.attention.head_count", 0);
    assert_refused(BORA_E_FORMAT, "n_heads");
    bora_gguf_writer_u32(&writer, "llama.attention.head_count", 4);
    bora_gguf_writer_u32(&writer, "llama.expert_count", 4); /* and none used */
    assert_refused(BORA_E_FORMAT, "n_experts_per_tok");
}

static void fractions_that_are_no_positive_numbers(void **state)
{
    (void)state;
    static const float wrong[] = {0, -1e-5f, NAN, INFINITY, -INFINITY};
    static const struct {
        const char *key, *names;
    } keys[] = {{"llama.attention.layer_norm_rms_epsilon", "norm_eps"}, {"llama.rope.freq_base", "rope_theta"}};
    for (size_t k = 0; k < BORA_ARRAY_SIZE(keys); k++)
        for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
            writer_again(&BORA_TINY_MODEL);
            bora_gguf_writer_f32(&writer, keys[k].key, wrong[i]);
            assert_refused(BORA_E_FORMAT, keys[k].names);
            const double wide = 1e300; /* an f32 of it is infinite */
            bora_gguf_writer_raw(&writer, keys[k].key, BORA_WRITER_F64, &wide, 8);
            assert_refused(BORA_E_FORMAT, keys[k].names);
        }
}

static void window_lists_that_fit_no_layers(void **state)
{
    (void)state;
    static const char key[] = "llama.attention.sliding_window";
    const int32_t negative[] = {8, -1}, three[] = {8, 0, 8};
    const uint64_t huge[] = {8, UINT64_C(1) << 40};
    bora_gguf_writer_array(&writer, key, BORA_WRITER_I32, negative, 2, 4);
    assert_refused(BORA_E_FORMAT, "element 1 is not a whole number");
    bora_gguf_writer_array(&writer, key, BORA_WRITER_U64, huge, 2, 8);
    assert_refused(BORA_E_FORMAT, "element 1 is not a whole number");
    bora_gguf_writer_array(&writer, key, BORA_WRITER_I32, three, 3, 4);
    assert_refused(BORA_E_FORMAT, "n_windows is 3");
    bora_gguf_writer_array(&writer, key, BORA_WRITER_I32, three, 0, 4);
    assert_refused(BORA_E_FORMAT, "has 0 elements");
}

static void what_is_not_computed_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *names;
    } strings[] = {{"general.architecture", "gpt2", "gpt2"},
                   {"general.architecture", "llama4", "llama4"},
                   {"llama.rope.scaling.type", "yarn", "yarn"},
                   {"tokenizer.ggml.model", "gpt2", "gpt2"},
                   {"tokenizer.ggml.model", "bad\x01\xff", "bad??"}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(strings); i++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_string(&writer, strings[i].key, strings[i].value);
        assert_refused(BORA_E_UNSUPPORTED, strings[i].names);
    }
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"llama.rope.dimension_count", 4}, {"llama.attention.value_length", 16}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(numbers); i++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_u32(&writer, numbers[i].key, numbers[i].value);
        assert_refused(BORA_E_UNSUPPORTED, numbers[i].key);
    }
    static const char *const floats[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear", "llama.logit_scale"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(floats); i++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_f32(&writer, floats[i], 4);
        assert_refused(BORA_E_UNSUPPORTED, floats[i]);
    }
    writer_again(&BORA_TINY_MODEL);
    bora_gguf_writer_tensor(&writer, "blk.0.attn_q.bias", BORA_WRITER_TENSOR_F32, 1, (const uint64_t[]){32});
    assert_refused(BORA_E_UNSUPPORTED, "blk.0.attn_q.bias");
}

/* Each tensor left out, and each of another shape. */
static void tensors_missing_or_misshapen(void **state)
{
    (void)state;
    bora_tiny_model shape = BORA_TINY_MODEL;
    for (int kind = 0; kind < 3; kind++) {
        shape.n_experts = kind ? 4 : 1;
        shape.n_experts_per_tok = kind ? 2 : 1;
        shape.split_experts = kind == 2;
        writer_again(&shape);
        size_t n = writer.n_tensors;
        for (size_t i = 0; i < n; i++) {
            writer_again(&shape);
            char name[128];
            memcpy(name, writer.tensors[i].name, sizeof name);
            if (strcmp(name, "output.weight") != 0) {
                bora_gguf_writer_remove_tensor(&writer, name);
                /* A missing merged tensor is looked for in the older form. */
                char *merged = strstr(name, "_exps");
                if (merged)
                    *merged = '\0';
                assert_refused(BORA_E_FORMAT, name);
                writer_again(&shape);
            }
            bora_writer_tensor *tensor = &writer.tensors[i];
            tensor->dims[tensor->n_dims - 1] /= 2; /* fits in the file, is wrong */
            assert_refused(BORA_E_FORMAT, "expected");
            assert_refused(BORA_E_FORMAT, tensor->name);
        }
    }
}

static void vocabularies(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
    } ids[] = {{"tokenizer.ggml.bos_token_id", 272},
               {"tokenizer.ggml.eos_token_id", UINT32_MAX},
               {"tokenizer.ggml.unknown_token_id", 1u << 31}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ids); i++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_u32(&writer, ids[i].key, ids[i].value);
        assert_refused(BORA_E_FORMAT, ids[i].key);
    }
    static float scores[300];
    writer_again(&BORA_TINY_MODEL);
    bora_gguf_writer_array(&writer, "tokenizer.ggml.scores", BORA_WRITER_F32, scores, 271, 4);
    assert_refused(BORA_E_FORMAT, "tokenizer.ggml.scores");
    writer_again(&BORA_TINY_MODEL);
    bora_gguf_writer_array(&writer, "tokenizer.ggml.token_type", BORA_WRITER_I32, scores, 273, 4);
    assert_refused(BORA_E_FORMAT, "tokenizer.ggml.token_type");
    writer_again(&BORA_TINY_MODEL);
    scores[7] = NAN;
    bora_gguf_writer_array(&writer, "tokenizer.ggml.scores", BORA_WRITER_F32, scores, 272, 4);
    assert_refused(BORA_E_FORMAT, "score of piece 7");
    writer_again(&BORA_TINY_MODEL);
    bora_gguf_writer_strings(&writer, "tokenizer.ggml.tokens", NULL, 0);
    assert_refused(BORA_E_FORMAT, "tokenizer.ggml.tokens");

    /* More pieces than rows in the embedding table; fewer are fine. */
    for (int more = 0; more < 2; more++) {
        writer_again(&BORA_TINY_MODEL);
        bora_gguf_writer_find(&writer, "token_embd.weight")->dims[0] = more ? 271 : 272;
        bora_gguf_writer_find(&writer, "output.weight")->dims[0] = more ? 271 : 272;
        if (more)
            assert_refused(BORA_E_FORMAT, "272 pieces");
        else
            bora_model_free(must_open());
    }
}

static void no_vocabulary(void **state)
{
    (void)state;
    bora_gguf_writer_remove(&writer, "tokenizer.ggml.model");
    assert_refused(BORA_E_NOT_FOUND, "tokenizer.ggml.model");
    char path[BORA_TEMP_PATH_SIZE];
    bora_model *model = NULL;
    const bora_model_options options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    assert_int_equal(bora_model_open(bora_temp_folder_path(&folder, "model.gguf", path), &options, NULL, &model, NULL),
                     BORA_OK);
    assert_null(bora_model_tokenizer(model));
    assert_int_equal(bora_model_layout(model), BORA_CHAT_NONE);
    bora_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WRITER(keys_missing),
        WITH_WRITER(keys_of_the_wrong_type),
        WITH_WRITER(keys_out_of_range),
        WITH_WRITER(fractions_that_are_no_positive_numbers),
        WITH_WRITER(window_lists_that_fit_no_layers),
        WITH_WRITER(what_is_not_computed_is_refused),
        WITH_WRITER(tensors_missing_or_misshapen),
        WITH_WRITER(vocabularies),
        WITH_WRITER(no_vocabulary),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
