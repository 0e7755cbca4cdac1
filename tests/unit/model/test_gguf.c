/* The GGUF container: files made here, whole and damaged, and the real one: what is read from them, and how they are
 * refused. */
#include "unit/model/gguf_fixture.h"

#include <sys/mman.h>
#include <unistd.h>

/* ---- good files ------------------------------------------------------------------------------------------------ */

static void dense_model_is_read(void **state)
{
    (void)state;
    bora_model *model = must_open();
    const bora_hparams *hparams = bora_model_hparams(model);
    assert_int_equal(hparams->n_layers, 2);
    assert_int_equal(hparams->dim, 32);
    assert_int_equal(hparams->hidden_dim, 64);
    assert_int_equal(hparams->n_heads, 4);
    assert_int_equal(hparams->n_kv_heads, 2);
    assert_int_equal(hparams->head_dim, 8);
    assert_int_equal(hparams->vocab_size, 272);
    assert_int_equal(hparams->n_experts, 1);
    assert_int_equal(hparams->n_experts_per_tok, 1);
    assert_int_equal(hparams->context_length, 512);
    assert_int_equal(bora_hparams_window(hparams, 1), 0);
    assert_string_equal(bora_model_format(model), "gguf");
    assert_string_equal(bora_model_name(model), "tiny");
    const bora_layer_weights *layer = bora_model_layer(model, 1);
    assert_int_equal(layer->wq.n_rows, 32);
    assert_int_equal(layer->wk.n_rows, 16);
    assert_int_equal(layer->w1[0].n_rows, 64);
    assert_int_equal(layer->w1[0].n_cols, 32);
    assert_int_equal(layer->w2[0].n_rows, 32);
    assert_int_equal(layer->w2[0].n_cols, 64);
    assert_int_equal(layer->w2[0].row_size, 256);
    assert_null(layer->router.data);
    assert_ptr_not_equal(bora_model_output(model)->data, bora_model_embeddings(model)->data);
    assert_int_equal(bora_model_n_tensors(model), 3 + 2 * 9);
    assert_string_equal(bora_model_tensor(model, 0)->name, "token_embd.weight");
    assert_int_equal(bora_model_tensor(model, 0)->shape[0], 272);
    assert_int_equal(bora_model_tensor(model, 0)->shape[1], 32);
    assert_non_null(bora_model_tokenizer(model));
    assert_int_equal(bora_tokenizer_n_pieces(bora_model_tokenizer(model)), 272);
    assert_int_equal(bora_tokenizer_bos(bora_model_tokenizer(model)), 1);
    assert_int_equal(bora_model_layout(model), BORA_CHAT_V3);
    bora_model_free(model);
}

/* Merged and single experts are the same model in two forms. */
static void experts_in_both_forms(void **state)
{
    (void)state;
    bora_tiny_model shape = BORA_TINY_MODEL;
    shape.n_experts = 4;
    shape.n_experts_per_tok = 2;
    shape.type = BORA_WRITER_TENSOR_Q8_0;
    for (int split = 0; split < 2; split++) {
        shape.split_experts = split;
        writer_again(&shape);
        bora_model *model = must_open();
        assert_int_equal(bora_model_hparams(model)->n_experts, 4);
        assert_int_equal(bora_model_hparams(model)->n_experts_per_tok, 2);
        for (uint32_t l = 0; l < 2; l++) {
            const bora_layer_weights *layer = bora_model_layer(model, l);
            assert_int_equal(layer->router.n_rows, 4);
            assert_int_equal(layer->router.dtype, BORA_DTYPE_F32);
            for (uint32_t e = 0; e < 4; e++) {
                assert_int_equal(layer->w1[e].n_rows, 64);
                assert_int_equal(layer->w2[e].n_rows, 32);
                assert_int_equal(layer->w3[e].n_cols, 32);
                assert_int_equal(layer->w2[e].row_size, 2 * 34);
                assert_int_equal(layer->w1[e].dtype, BORA_DTYPE_Q8_0);
            }
            ptrdiff_t step = (const uint8_t *)layer->w1[1].data - (const uint8_t *)layer->w1[0].data;
            assert_int_equal(step, 64 * 34); /* expert after expert; single ones are a multiple of 32 apart, too */
        }
        bora_model_free(model);
    }
}

static void defaults_of_missing_keys(void **state)
{
    (void)state;
    bora_tiny_model shape = BORA_TINY_MODEL;
    shape.n_kv_heads = 4;
    shape.tied = true;
    writer_again(&shape);
    static const char *const optional[] = {"llama.attention.head_count_kv",
                                           "llama.attention.key_length",
                                           "llama.attention.value_length",
                                           "llama.rope.dimension_count",
                                           "llama.rope.freq_base",
                                           "llama.context_length",
                                           "general.name",
                                           "tokenizer.ggml.unknown_token_id"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(optional); i++)
        bora_gguf_writer_remove(&writer, optional[i]);
    bora_model *model = must_open();
    const bora_hparams *hparams = bora_model_hparams(model);
    assert_int_equal(hparams->n_kv_heads, 4);
    assert_int_equal(hparams->head_dim, 8);
    assert_float_equal(hparams->rope_theta, 10000.0f, 0);
    assert_int_equal(hparams->context_length, 0);
    assert_string_equal(bora_model_name(model), "model.gguf");
    assert_ptr_equal(bora_model_output(model)->data, bora_model_embeddings(model)->data);
    bora_model_free(model);
}

static void windows_as_number_and_list(void **state)
{
    (void)state;
    bora_gguf_writer_u32(&writer, "llama.attention.sliding_window", 16);
    bora_model *model = must_open();
    assert_int_equal(bora_hparams_window(bora_model_hparams(model), 0), 16);
    assert_int_equal(bora_hparams_window(bora_model_hparams(model), 1), 16);
    bora_model_free(model);

    const int32_t pattern[] = {0, 12};
    bora_gguf_writer_array(&writer, "llama.attention.sliding_window", BORA_WRITER_I32, pattern, 2, 4);
    model = must_open();
    assert_int_equal(bora_hparams_window(bora_model_hparams(model), 0), 0);
    assert_int_equal(bora_hparams_window(bora_model_hparams(model), 1), 12);
    bora_model_free(model);
}

static void version_2_and_other_alignments(void **state)
{
    (void)state;
    writer.version = 2;
    bora_model_free(must_open());

    bora_gguf_writer_release(&writer);
    bora_gguf_writer_init(&writer);
    writer.alignment = 256;
    bora_gguf_writer_u32(&writer, "general.alignment", 256);
    bora_gguf_writer_model(&writer, &BORA_TINY_MODEL);
    bora_model_free(must_open());
}

static void numbers_of_other_widths(void **state)
{
    (void)state;
    const uint8_t narrow = 2;
    const uint64_t wide = 64;
    const double eps = 1e-6;
    bora_gguf_writer_raw(&writer, "llama.block_count", BORA_WRITER_U8, &narrow, 1);
    bora_gguf_writer_raw(&writer, "llama.feed_forward_length", BORA_WRITER_U64, &wide, 8);
    bora_gguf_writer_raw(&writer, "llama.attention.layer_norm_rms_epsilon", BORA_WRITER_F64, &eps, 8);
    bora_model *model = must_open();
    assert_int_equal(bora_model_hparams(model)->n_layers, 2);
    assert_int_equal(bora_model_hparams(model)->hidden_dim, 64);
    assert_float_equal(bora_model_hparams(model)->norm_eps, 1e-6f, 0);
    bora_model_free(model);
}

static void scaling_that_does_nothing_is_fine(void **state)
{
    (void)state;
    bora_gguf_writer_string(&writer, "llama.rope.scaling.type", "none");
    bora_gguf_writer_f32(&writer, "llama.rope.scaling.factor", 1);
    bora_gguf_writer_f32(&writer, "llama.rope.scale_linear", 1);
    bora_model_free(must_open());
}

/* ---- the container, damaged ------------------------------------------------------------------------------------ */

static void magic_and_version(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
    bora_model *model = NULL;
    bora_error err = {{0}};
    bytes[0] = 'X';
    assert_int_equal(open_bytes(bytes, size, &model, &err), BORA_E_FORMAT);
    assert_non_null(strstr(err.message, "magic"));
    assert_int_equal(open_bytes("", 0, &model, &err), BORA_E_FORMAT);
    free(bytes);
    writer.version = 1;
    assert_refused(BORA_E_UNSUPPORTED, "version 1");
    writer.version = 4;
    assert_refused(BORA_E_UNSUPPORTED, "version 4");
    writer.version = 3u << 24;
    assert_refused(BORA_E_UNSUPPORTED, "big-endian");
}

static void counts(void **state)
{
    (void)state;
    static const int64_t wrong[] = {INT64_C(1) << 60, INT64_MAX - 1000, INT64_MIN / 2, 1000000};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        writer.n_pairs_extra = wrong[i];
        assert_refused(BORA_E_FORMAT, "metadata count");
        writer.n_pairs_extra = 0;
        writer.n_tensors_extra = wrong[i];
        assert_refused(BORA_E_FORMAT, "tensor count");
        writer.n_tensors_extra = 0;
    }
    writer.n_tensors_extra = -1; /* the last tensor's info is then taken for data */
    bora_gguf_writer_remove(&writer, "general.name");
    assert_refused(BORA_E_FORMAT, "bytes follow the last tensor"); /* without output.weight it could be a tied model */
}

static void lengths_of_strings(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {UINT64_C(1) << 60, UINT64_MAX, UINT64_MAX - 7, 1000000};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(lengths); i++) {
        bora_gguf_writer_raw(&writer, "general.name", BORA_WRITER_STRING, &lengths[i], 8);
        assert_refused(BORA_E_FORMAT, "general.name");
    }
    bora_gguf_writer_string(&writer, "general.name", "tiny");

    /* The first key's own length, right behind the header. */
    size_t size = 0;
    uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(lengths); i++) {
        bora_model *model = NULL;
        bora_error err = {{0}};
        memcpy(bytes + 24, &lengths[i], 8);
        assert_int_equal(open_bytes(bytes, size, &model, &err), BORA_E_FORMAT);
        assert_non_null(strstr(err.message, "metadata key"));
    }
    free(bytes);
}

static void arrays(void **state)
{
    (void)state;
    struct {
        uint32_t type;
        uint64_t n;
    } __attribute__((packed)) array = {BORA_WRITER_ARRAY, 1};
    bora_gguf_writer_raw(&writer, "bad.array", BORA_WRITER_ARRAY, &array, sizeof array);
    assert_refused(BORA_E_UNSUPPORTED, "bad.array");
    array.type = 77;
    bora_gguf_writer_raw(&writer, "bad.array", BORA_WRITER_ARRAY, &array, sizeof array);
    assert_refused(BORA_E_FORMAT, "bad.array");
    static const uint64_t counts_wrong[] = {UINT64_C(1) << 60, UINT64_MAX, UINT64_C(1) << 62};
    static const uint32_t types[] = {BORA_WRITER_U8, BORA_WRITER_F32, BORA_WRITER_U64, BORA_WRITER_STRING};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(counts_wrong); i++)
        for (size_t t = 0; t < BORA_ARRAY_SIZE(types); t++) {
            array.type = types[t];
            array.n = counts_wrong[i];
            bora_gguf_writer_raw(&writer, "bad.array", BORA_WRITER_ARRAY, &array, sizeof array);
            assert_refused(BORA_E_FORMAT, "bad.array");
        }
}

static void types_and_truth_values(void **state)
{
    (void)state;
    const uint8_t two = 2;
    bora_gguf_writer_raw(&writer, "bad.flag", BORA_WRITER_BOOL, &two, 1);
    assert_refused(BORA_E_FORMAT, "bad.flag");
    bora_gguf_writer_remove(&writer, "bad.flag");
    bora_gguf_writer_raw(&writer, "bad.type", 13, &two, 1);
    assert_refused(BORA_E_FORMAT, "bad.type");
    bora_gguf_writer_remove(&writer, "bad.type");
    bora_gguf_writer_raw(&writer, "", BORA_WRITER_BOOL, "\1", 1);
    assert_refused(BORA_E_FORMAT, "key");
    bora_gguf_writer_remove(&writer, "");
    bora_gguf_writer_raw(&writer, "two\nlines", BORA_WRITER_BOOL, "\1", 1);
    assert_refused(BORA_E_FORMAT, "two?lines");
}

static void twice(void **state)
{
    (void)state;
    bora_gguf_writer_u32(&writer, "general.nbme", 1);
    writer.pairs[writer.n_pairs - 1].key[9] = 'a'; /* past the setter, which replaces */
    assert_refused(BORA_E_FORMAT, "key 'general.name' is there twice");
    bora_gguf_writer_remove(&writer, "general.name");
    bora_gguf_writer_remove(&writer, "general.name");
    bora_gguf_writer_tensor(&writer, "output.weight", BORA_WRITER_TENSOR_F32, 2, (const uint64_t[]){272, 32});
    assert_refused(BORA_E_FORMAT, "tensor 'output.weight' is there twice");
}

static void alignments(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 1, 3, 4, 33, 48, 1u << 21, UINT32_MAX};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        bora_gguf_writer_u32(&writer, "general.alignment", wrong[i]);
        assert_refused(BORA_E_FORMAT, "general.alignment");
    }
    bora_gguf_writer_string(&writer, "general.alignment", "32");
    assert_refused(BORA_E_FORMAT, "general.alignment");
}

static void tensor_infos(void **state)
{
    (void)state;
    bora_writer_tensor *tensor = bora_gguf_writer_find(&writer, "blk.0.attn_q.weight");
    const bora_writer_tensor good = *tensor;
    static const char name[] = "blk.0.attn_q.weight";

    static const uint64_t offsets[] = {1, 31, UINT64_MAX, UINT64_MAX - 31, UINT64_C(1) << 63, UINT64_C(1) << 32};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(offsets); i++) {
        tensor->offset = offsets[i];
        assert_refused(BORA_E_FORMAT, name);
    }
    *tensor = good;
    static const uint64_t dims[] = {0, 1, 31, 33, UINT64_C(1) << 63, UINT64_C(1) << 62, UINT64_MAX};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(dims); i++)
        for (size_t d = 0; d < 2; d++) {
            tensor->dims[d] = dims[i];
            assert_refused(BORA_E_FORMAT, name);
            *tensor = good;
        }
    static const uint32_t n_dims[] = {0, 1, 5, UINT32_MAX};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(n_dims); i++) {
        tensor->n_dims = n_dims[i];
        assert_refused(BORA_E_FORMAT, name);
    }
    *tensor = good;
    tensor->n_dims = 3; /* as many numbers, another shape */
    tensor->dims[2] = 1;
    assert_refused(BORA_E_FORMAT, "[32, 32, 1], expected [32, 32]");
    *tensor = good;
    tensor->name[0] = '\0';
    assert_refused(BORA_E_FORMAT, "tensor name");
    *tensor = good;

    static const struct {
        uint32_t type;
        const char *text;
    } types[] = {{9, "is Q8_1, which this version cannot read"},
                 {15, "is Q8_K"},
                 {35, "is TQ2_0"},
                 {16, "is IQ2_XXS"},
                 {24, "is I8"},
                 {28, "is F64"},
                 {39, "is MXFP4"},
                 {4, "unknown type 4"},
                 {40, "unknown type 40"},
                 {UINT32_MAX, "unknown type 4294967295"}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(types); i++) {
        tensor->type = types[i].type;
        assert_refused(BORA_E_UNSUPPORTED, types[i].text);
        assert_refused(BORA_E_UNSUPPORTED, name);
    }
}

/* Shapes whose number of elements, or of bytes, or of bytes up to the next boundary is small once 64 bits are full. */
static void products_that_wrap(void **state)
{
    (void)state;
    static const char name[] = "blk.0.attn_q.weight";
    bora_writer_tensor *tensor = bora_gguf_writer_find(&writer, name);
    static const uint64_t shapes[][4] = {
        {UINT64_C(1) << 32, UINT64_C(1) << 32, 1, 1},
        {UINT64_C(1) << 31, UINT64_C(1) << 31, 1, 1},
        {UINT64_C(1) << 16, UINT64_C(1) << 16, UINT64_C(1) << 16, UINT64_C(1) << 16},
        {UINT64_C(1) << 62, 1, 4, 1},
        {(UINT64_C(1) << 62) - 1, 1, 1, 1}, /* times 4, and then up to a whole 32 */
        {UINT64_MAX / 4, 1, 1, 1},
        {3, UINT64_C(6148914691236517206), 1, 1}, /* 2^64 + 2 */
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX},
    };
    static const uint32_t types[] = {BORA_WRITER_TENSOR_F32, BORA_WRITER_TENSOR_F16, BORA_WRITER_TENSOR_Q8_0, 14};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(shapes); i++)
        for (size_t t = 0; t < BORA_ARRAY_SIZE(types); t++) {
            tensor->n_dims = 4;
            tensor->type = types[t];
            memcpy(tensor->dims, shapes[i], sizeof tensor->dims);
            assert_refused(BORA_E_FORMAT, name);
        }
}

static void tensors_that_overlap(void **state)
{
    (void)state;
    bora_writer_tensor *q = bora_gguf_writer_find(&writer, "blk.0.attn_q.weight");
    bora_writer_tensor *o = bora_gguf_writer_find(&writer, "blk.0.attn_output.weight");
    const uint64_t good = o->offset;
    const uint64_t wrong[] = {q->offset, q->offset + 32, q->offset - 32, good - 32, good + 32, 0};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        o->offset = wrong[i];
        assert_refused(BORA_E_FORMAT, "overlap");
        assert_refused(BORA_E_FORMAT, "blk.0.attn_output.weight");
    }
}

/* A row of Q8_0 is whole blocks. */
static void rows_of_half_blocks(void **state)
{
    (void)state;
    bora_writer_tensor *tensor = bora_gguf_writer_find(&writer, "blk.1.ffn_up.weight");
    tensor->type = BORA_WRITER_TENSOR_Q8_0;
    tensor->dims[0] = 32;
    tensor->dims[1] = 48;
    assert_refused(BORA_E_FORMAT, "blk.1.ffn_up.weight");
}

/* ---- every byte ------------------------------------------------------------------------------------------------ */

static uint8_t *smallest_file(size_t *ret_size)
{
    bora_tiny_model shape = BORA_TINY_MODEL;
    shape.n_layers = 1;
    shape.dim = 8;
    shape.head_dim = 2;
    shape.hidden_dim = 8;
    shape.vocab_size = 264;
    shape.tied = true;
    shape.n_experts = 2;
    writer_again(&shape);
    return bora_gguf_writer_bytes(&writer, ret_size);
}

static void cut_off_at_every_byte(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *bytes = smallest_file(&size);
    int fd = memfd_create("cut", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    free(bytes);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    bora_model *model = NULL;
    assert_int_equal(bora_model_open(path, NULL, NULL, &model, NULL), BORA_OK);
    bora_model_free(model);
    for (size_t n = size; n-- > 0;) {
        bora_error err = {{0}};
        assert_int_equal(ftruncate(fd, (off_t)n), 0);
        if (bora_model_open(path, NULL, NULL, &model, &err) != BORA_E_FORMAT || !err.message[0])
            fail_msg("cut to %zu of %zu bytes: '%s'", n, size, err.message);
    }
    close(fd);
}

/* Nothing that one wrong byte before the weights can say leads anywhere but to a model or an error. */
static void each_byte_wrong(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *bytes = smallest_file(&size);
    int fd = memfd_create("wrong", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    size_t n_opened = 0, n_refused = 0;
    for (size_t i = 0; i < size - 264 * 8 * 4; i++) {
        const uint8_t wrong[] = {(uint8_t)(bytes[i] ^ 0xff), (uint8_t)(bytes[i] + 1), 0};
        for (size_t k = 0; k < sizeof wrong; k++) {
            bora_error err = {{0}};
            bora_model *model = NULL;
            assert_int_equal(pwrite(fd, &wrong[k], 1, (off_t)i), 1);
            bora_status st = bora_model_open(path, NULL, NULL, &model, &err);
            if (st == BORA_OK)
                n_opened++;
            else {
                assert_null(model);
                assert_true(st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED || st == BORA_E_NOT_FOUND ||
                            st == BORA_E_LIMIT);
                assert_true(err.message[0] != '\0');
                n_refused++;
            }
            bora_model_free(model);
        }
        assert_int_equal(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
    }
    assert_true(n_opened > 0 && n_refused > 0);
    close(fd);
    free(bytes);
}

/* ---- a real file ----------------------------------------------------------------------------------------------- */

static void bora_tiny(void **state)
{
    (void)state;
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (bora_model_open(BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf", NULL, NULL, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    const bora_hparams *hparams = bora_model_hparams(model);
    assert_int_equal(hparams->n_layers, 4);
    assert_int_equal(hparams->dim, 256);
    assert_int_equal(hparams->hidden_dim, 512);
    assert_int_equal(hparams->n_heads, 8);
    assert_int_equal(hparams->n_kv_heads, 2);
    assert_int_equal(hparams->head_dim, 32);
    assert_int_equal(hparams->vocab_size, 2048);
    assert_int_equal(hparams->n_experts, 4);
    assert_int_equal(hparams->n_experts_per_tok, 2);
    assert_int_equal(hparams->context_length, 32768);
    assert_int_equal(bora_hparams_window(hparams, 3), 256);
    assert_string_equal(bora_model_name(model), "bora-tiny");
    assert_int_equal(bora_model_n_tensors(model), 43);
    assert_int_equal(bora_model_n_parameters(model), 8001792);
    assert_int_equal(bora_tokenizer_n_pieces(bora_model_tokenizer(model)), 2048);
    assert_int_equal(bora_tokenizer_eos(bora_model_tokenizer(model)), 2);
    assert_int_equal(bora_model_layer(model, 3)->w2[3].dtype, BORA_DTYPE_Q8_0);
    assert_int_equal(bora_model_layer(model, 3)->w2[3].row_size, 512 / 32 * 34);
    bora_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WRITER(dense_model_is_read),
        WITH_WRITER(experts_in_both_forms),
        WITH_WRITER(defaults_of_missing_keys),
        WITH_WRITER(windows_as_number_and_list),
        WITH_WRITER(version_2_and_other_alignments),
        WITH_WRITER(numbers_of_other_widths),
        WITH_WRITER(scaling_that_does_nothing_is_fine),
        WITH_WRITER(magic_and_version),
        WITH_WRITER(counts),
        WITH_WRITER(lengths_of_strings),
        WITH_WRITER(arrays),
        WITH_WRITER(types_and_truth_values),
        WITH_WRITER(twice),
        WITH_WRITER(alignments),
        WITH_WRITER(tensor_infos),
        WITH_WRITER(products_that_wrap),
        WITH_WRITER(tensors_that_overlap),
        WITH_WRITER(rows_of_half_blocks),
        WITH_WRITER(cut_off_at_every_byte),
        WITH_WRITER(each_byte_wrong),
        cmocka_unit_test(bora_tiny),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
