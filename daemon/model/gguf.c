/* GGUF files of the llama architecture, which Mistral and Mixtral models are converted to: what the keys mean, which
 * tensors there are, and the vocabulary. The container itself is read by gguf_reader.c.
 *
 * Dimensions stand innermost first in the file and are turned round here. Query and key rows are in the order that
 * rotates neighbouring pairs, as Mistral's own files have them: nothing is permuted. */
#include "base/memory.h"
#include "base/size.h"
#include "model/gguf_reader.h"
#include "model/gguf_split.h"
#include "model/model_private.h"

#include <inttypes.h>
#include <string.h>

static const bora_tensor_names gguf_names = {
    .embeddings = "token_embd.weight",
    .norm = "output_norm.weight",
    .output = "output.weight",
    .layer_prefix = "blk.",
    .attention_norm = "attn_norm.weight",
    .wq = "attn_q.weight",
    .wk = "attn_k.weight",
    .wv = "attn_v.weight",
    .wo = "attn_output.weight",
    .ffn_norm = "ffn_norm.weight",
    .dense = {"ffn_gate.weight", "ffn_down.weight", "ffn_up.weight"},
    .mixture = {{.router = "ffn_gate_inp.weight",
                 .merged = {"ffn_gate_exps.weight", "ffn_down_exps.weight", "ffn_up_exps.weight"},
                 .expert_prefix = {"ffn_gate.", "ffn_down.", "ffn_up."},
                 .expert_suffix = {".weight", ".weight", ".weight"}}},
    .ignored = {".attn_rot_embd.weight", ".attn_rot_embd"}, /* rotation frequencies that follow from rope.freq_base */
};

/* ---- hyper-parameters ---- */

static bora_status architecture_check(const bora_gguf *gguf, bora_error *err)
{
    bora_gguf_text name = {0};
    bora_status st = bora_gguf_string(gguf, "general.architecture", true, &name, err);
    if (st != BORA_OK)
        return st;
    if (!bora_gguf_text_equal(name, "llama"))
        return bora_fail(err, BORA_E_UNSUPPORTED, "architecture '%s', this build reads 'llama' (Mistral, Mixtral)",
                         bora_quote(name.bytes, name.size).text);
    return BORA_OK;
}

/* Stretched positions are not computed here; to ignore them would give wrong answers past the original length. */
static bora_status rope_scaling_check(const bora_gguf *gguf, bora_error *err)
{
    bora_gguf_text type = {.bytes = "none", .size = 4};
    bora_status st = bora_gguf_string(gguf, "llama.rope.scaling.type", false, &type, err);
    if (st != BORA_OK)
        return st;
    if (!bora_gguf_text_equal(type, "none"))
        return bora_fail(err, BORA_E_UNSUPPORTED, "llama.rope.scaling.type is '%s', this build reads 'none'",
                         bora_quote(type.bytes, type.size).text);
    if (bora_gguf_find(gguf, "llama.rope.scaling.type"))
        return BORA_OK;
    static const char *const keys[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        float factor = 1;
        if ((st = bora_gguf_f32(gguf, keys[i], false, &factor, err)) != BORA_OK)
            return st;
        if (factor != 1)
            return bora_fail(err, BORA_E_UNSUPPORTED, "%s is %g, this build has no scaled positions", keys[i],
                             (double)factor);
    }
    return BORA_OK;
}

/* One window for all layers, or one for each. */
static bora_status read_window_list(const bora_gguf *gguf, bora_hparams *h, bora_error *err)
{
    static const char key[] = "llama.attention.sliding_window";
    h->n_windows = 1;
    h->windows[0] = 0;
    const bora_gguf_value *value = bora_gguf_find(gguf, key);
    h->window_source = value ? key : NULL;
    if (!value || value->type != BORA_GGUF_ARRAY)
        return bora_gguf_u32(gguf, key, "sliding_window", false, 0, BORA_POSITIONS_MAX, &h->windows[0], err);
    if (value->n < 1 || value->n > BORA_LAYERS_MAX)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' has %zu elements, expected 1 to %u", key, value->n,
                         BORA_LAYERS_MAX);
    for (size_t i = 0; i < value->n; i++)
        if (!bora_gguf_element_u32(value, i, &h->windows[i]) || h->windows[i] > BORA_POSITIONS_MAX)
            return bora_fail(err, BORA_E_FORMAT, "key '%s': element %zu is not a whole number from 0 to %u", key, i,
                             BORA_POSITIONS_MAX);
    h->n_windows = (uint32_t)value->n;
    return BORA_OK;
}

/* Which layers have the one window: a list of truth values, or a number n that leaves every n-th layer without (0:
 * none of them). */
static bora_status read_windows(const bora_gguf *gguf, bora_hparams *h, bora_error *err)
{
    static const char key[] = "llama.attention.sliding_window_pattern";
    bora_status st = read_window_list(gguf, h, err);
    const bora_gguf_value *value = bora_gguf_find(gguf, key);
    if (st != BORA_OK || !value)
        return st;
    if (h->n_windows != 1 || h->windows[0] == 0)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is there, but llama.attention.sliding_window is not one window",
                         key);
    const bool is_list = value->type == BORA_GGUF_ARRAY;
    uint32_t period = 0;
    if (!is_list && (st = bora_gguf_u32(gguf, key, "pattern", true, 0, BORA_LAYERS_MAX, &period, err)) != BORA_OK)
        return st;
    if (is_list && (value->element_type != BORA_GGUF_BOOL || value->n != h->n_layers))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is not a list of %u bools", key, h->n_layers);
    const uint32_t window = h->windows[0];
    for (uint32_t layer = 0; layer < h->n_layers; layer++) {
        bool has_window = is_list ? value->data[layer] != 0 : period == 0 || layer % period < period - 1;
        h->windows[layer] = has_window ? window : 0;
    }
    h->n_windows = h->n_layers;
    h->window_source = "llama.attention.sliding_window and its pattern";
    return BORA_OK;
}

static bora_status read_head_dim(const bora_gguf *gguf, bora_hparams *h, bora_error *err)
{
    uint32_t rope_dim = 0;
    bora_status st =
        bora_gguf_u32(gguf, "llama.rope.dimension_count", "head_dim", false, 1, BORA_HEAD_DIM_MAX, &rope_dim, err);
    if (st != BORA_OK)
        return st;
    if (!rope_dim && !bora_gguf_find(gguf, "llama.attention.key_length") && h->dim % h->n_heads)
        return bora_fail(err, BORA_E_FORMAT,
                         "key 'llama.attention.key_length' is missing, and llama.embedding_length (%u) is not a "
                         "multiple of llama.attention.head_count (%u)",
                         h->dim, h->n_heads);
    h->head_dim = rope_dim ? rope_dim : h->dim / h->n_heads;
    st = bora_gguf_u32(gguf, "llama.attention.key_length", "head_dim", false, 1, BORA_HEAD_DIM_MAX, &h->head_dim, err);
    if (st != BORA_OK)
        return st;
    uint32_t value_length = h->head_dim;
    st = bora_gguf_u32(gguf, "llama.attention.value_length", "head_dim", false, 1, BORA_HEAD_DIM_MAX, &value_length,
                       err);
    if (st != BORA_OK)
        return st;
    if (value_length != h->head_dim)
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "llama.attention.value_length is %u, key_length is %u: they must be equal", value_length,
                         h->head_dim);
    if (rope_dim && rope_dim != h->head_dim)
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "llama.rope.dimension_count is %u, heads have %u: heads rotated in part are not supported",
                         rope_dim, h->head_dim);
    return BORA_OK;
}

static bora_status read_experts(const bora_gguf *gguf, bora_hparams *h, bora_error *err)
{
    uint32_t n_experts = 0;
    bora_status st =
        bora_gguf_u32(gguf, "llama.expert_count", "n_experts", false, 0, BORA_EXPERTS_MAX, &n_experts, err);
    if (st != BORA_OK)
        return st;
    h->n_experts = h->n_experts_per_tok = 1;
    if (n_experts == 0)
        return BORA_OK; /* dense files have the key, too */
    if (n_experts == 1)
        return bora_fail(err, BORA_E_UNSUPPORTED, "llama.expert_count is 1: a mixture has 2 at least");
    h->n_experts = n_experts;
    return bora_gguf_u32(gguf, "llama.expert_used_count", "n_experts_per_tok", true, 1, n_experts,
                         &h->n_experts_per_tok, err);
}

static bora_status read_hparams(const bora_gguf *gguf, bora_hparams *h, bora_error *err)
{
    const struct {
        const char *key, *name;
        bool required;
        uint32_t min, max;
        uint32_t *value;
    } counts[] = {
        {"llama.block_count", "n_layers", true, 1, BORA_LAYERS_MAX, &h->n_layers},
        {"llama.embedding_length", "dim", true, 1, BORA_DIM_MAX, &h->dim},
        {"llama.feed_forward_length", "hidden_dim", true, 1, BORA_HIDDEN_DIM_MAX, &h->hidden_dim},
        {"llama.attention.head_count", "n_heads", true, 1, BORA_HEADS_MAX, &h->n_heads},
        {"llama.context_length", "context_length", false, 0, BORA_POSITIONS_MAX, &h->context_length},
        {"llama.vocab_size", "vocab_size", false, 1, BORA_VOCAB_MAX, &h->vocab_size},
    };
    bora_status st;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(counts); i++)
        if ((st = bora_gguf_u32(gguf, counts[i].key, counts[i].name, counts[i].required, counts[i].min, counts[i].max,
                                counts[i].value, err)) != BORA_OK)
            return st;
    h->n_kv_heads = h->n_heads;
    h->rope_theta = 10000;
    if ((st = bora_gguf_u32(gguf, "llama.attention.head_count_kv", "n_kv_heads", false, 1, h->n_heads, &h->n_kv_heads,
                            err)) != BORA_OK ||
        (st = bora_gguf_f32(gguf, "llama.attention.layer_norm_rms_epsilon", true, &h->norm_eps, err)) != BORA_OK ||
        (st = bora_gguf_f32(gguf, "llama.rope.freq_base", false, &h->rope_theta, err)) != BORA_OK ||
        (st = read_head_dim(gguf, h, err)) != BORA_OK || (st = read_experts(gguf, h, err)) != BORA_OK ||
        (st = rope_scaling_check(gguf, err)) != BORA_OK)
        return st;
    return read_windows(gguf, h, err);
}

/* Keys that change the answers and that nothing here looks at. */
static bora_status refuse_others(const bora_gguf *gguf, bora_error *err)
{
    static const char *const keys[] = {"llama.logit_scale", "llama.attention.temperature_scale"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++)
        if (bora_gguf_find(gguf, keys[i]))
            return bora_fail(err, BORA_E_UNSUPPORTED, "key '%s' asks for something this version does not compute",
                             keys[i]);
    return BORA_OK;
}

/* ---- tensors ---- */

/* ggml's numbers. The names are for the message about those that cannot be read here. */
static const struct {
    const char *name;
    uint32_t dtype;
} types[] = {
    [0] = {"F32", BORA_DTYPE_F32},        [1] = {"F16", BORA_DTYPE_F16},        [2] = {"Q4_0", BORA_DTYPE_Q4_0},
    [3] = {"Q4_1", BORA_DTYPE_Q4_1},      [6] = {"Q5_0", BORA_DTYPE_Q5_0},      [7] = {"Q5_1", BORA_DTYPE_Q5_1},
    [8] = {"Q8_0", BORA_DTYPE_Q8_0},      [9] = {"Q8_1", BORA_DTYPE_COUNT},     [10] = {"Q2_K", BORA_DTYPE_Q2_K},
    [11] = {"Q3_K", BORA_DTYPE_Q3_K},     [12] = {"Q4_K", BORA_DTYPE_Q4_K},     [13] = {"Q5_K", BORA_DTYPE_Q5_K},
    [14] = {"Q6_K", BORA_DTYPE_Q6_K},     [15] = {"Q8_K", BORA_DTYPE_COUNT},    [16] = {"IQ2_XXS", BORA_DTYPE_COUNT},
    [17] = {"IQ2_XS", BORA_DTYPE_COUNT},  [18] = {"IQ3_XXS", BORA_DTYPE_COUNT}, [19] = {"IQ1_S", BORA_DTYPE_COUNT},
    [20] = {"IQ4_NL", BORA_DTYPE_IQ4_NL}, [21] = {"IQ3_S", BORA_DTYPE_COUNT},   [22] = {"IQ2_S", BORA_DTYPE_COUNT},
    [23] = {"IQ4_XS", BORA_DTYPE_IQ4_XS}, [24] = {"I8", BORA_DTYPE_COUNT},      [25] = {"I16", BORA_DTYPE_COUNT},
    [26] = {"I32", BORA_DTYPE_COUNT},     [27] = {"I64", BORA_DTYPE_COUNT},     [28] = {"F64", BORA_DTYPE_COUNT},
    [29] = {"IQ1_M", BORA_DTYPE_COUNT},   [30] = {"BF16", BORA_DTYPE_BF16},     [34] = {"TQ1_0", BORA_DTYPE_COUNT},
    [35] = {"TQ2_0", BORA_DTYPE_COUNT},   [39] = {"MXFP4", BORA_DTYPE_COUNT},
};

static bora_status dtype_of(const bora_gguf_tensor *tensor, uint32_t *ret_dtype, bora_error *err)
{
    bora_quoted name = bora_quote(tensor->name.bytes, tensor->name.size);
    if (tensor->type >= BORA_ARRAY_SIZE(types) || !types[tensor->type].name)
        return bora_fail(err, BORA_E_UNSUPPORTED, "tensor '%s' is of unknown type %u", name.text, tensor->type);
    if (types[tensor->type].dtype == BORA_DTYPE_COUNT)
        return bora_fail(err, BORA_E_UNSUPPORTED, "tensor '%s' is %s, which this version cannot read", name.text,
                         types[tensor->type].name);
    *ret_dtype = types[tensor->type].dtype;
    return BORA_OK;
}

/* data [size]: the data section. */
static bora_status add_tensor(bora_model *model, const bora_gguf_tensor *tensor, const uint8_t *data, size_t size,
                              uint32_t alignment, bora_error *err)
{
    uint32_t dtype = 0;
    bora_status st = dtype_of(tensor, &dtype, err);
    if (st != BORA_OK)
        return st;
    bora_quoted name = bora_quote(tensor->name.bytes, tensor->name.size);
    if (tensor->offset % alignment)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is at offset %" PRIu64 ", not a multiple of %u", name.text,
                         tensor->offset, alignment);
    if (tensor->offset > size)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is at offset %" PRIu64 ", the file's data ends at %zu",
                         name.text, tensor->offset, size);
    uint64_t shape[4];
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        shape[i] = tensor->dims[tensor->n_dims - 1 - i];
    size_t offset = (size_t)tensor->offset;
    return bora_model_entries_add(model, tensor->name.bytes, tensor->name.size, shape, tensor->n_dims, dtype,
                                  data + offset, size - offset, err);
}

/* Data behind the last tensor means that the tensor count or a shape is not the one that was written: then the data
 * section begins elsewhere, and every tensor is garbage of the right size. first: the file's first entry. Told only
 * when nothing better is known: *left_over is set to these bytes. */
static void check_end(const bora_model *model, size_t first, const uint8_t *end, uint32_t alignment, size_t *left_over)
{
    size_t rest = SIZE_MAX;
    for (size_t i = first; i < model->n_entries; i++) {
        size_t behind = (size_t)(end - model->entries[i].data) - (size_t)model->entries[i].info.size;
        rest = behind < rest ? behind : rest;
    }
    if (rest >= alignment && first < model->n_entries)
        *left_over = rest;
}

/* Descriptions come first and the data section begins after the last one, so they are passed over twice. */
static bora_status read_tensors(bora_model *model, bora_gguf *gguf, size_t *left_over, bora_error *err)
{
    uint32_t alignment = 32;
    bora_status st = bora_gguf_u32(gguf, "general.alignment", "alignment", false, 0, UINT32_MAX, &alignment, err);
    if (st != BORA_OK)
        return st;
    if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)))
        return bora_fail(err, BORA_E_FORMAT, "key 'general.alignment' is %u, expected a power of two from 8 to 65536",
                         alignment);
    if (gguf->n_tensors > BORA_TENSORS_MAX)
        return bora_fail(err, BORA_E_LIMIT, "%" PRIu64 " tensors, at most %u are allowed", gguf->n_tensors,
                         BORA_TENSORS_MAX);
    if ((st = bora_model_entries_reserve(model, (size_t)gguf->n_tensors, err)) != BORA_OK)
        return st;
    bora_gguf_tensor tensor;
    const size_t first = gguf->at, first_entry = model->n_entries;
    for (uint64_t i = 0; i < gguf->n_tensors; i++)
        if ((st = bora_gguf_read_tensor(gguf, &tensor, err)) != BORA_OK)
            return st;
    size_t start;
    if (!bora_size_round_up(gguf->at, alignment, &start) || start > gguf->size)
        start = gguf->size;
    gguf->at = first;
    for (uint64_t i = 0; i < gguf->n_tensors; i++)
        if ((st = bora_gguf_read_tensor(gguf, &tensor, err)) != BORA_OK ||
            (st = add_tensor(model, &tensor, gguf->data + start, gguf->size - start, alignment, err)) != BORA_OK)
            return st;
    check_end(model, first_entry, gguf->data + gguf->size, alignment, left_over);
    return BORA_OK;
}

/* ---- the other files of a split model ---- */

static bora_status read_part(bora_model *model, const char *path, uint32_t part, uint32_t n_parts, size_t *left_over,
                             bora_error *err)
{
    const bora_file *file = NULL;
    bora_status st = bora_model_map(model, path, &file, err);
    if (st == BORA_E_NOT_FOUND)
        return bora_fail(err, st, "part %u of %u is missing: '%s'", part + 1, n_parts, path);
    if (st != BORA_OK)
        return st;
    BORA_CLEANUP(bora_gguf_release) bora_gguf gguf = {0};
    if ((st = bora_gguf_read(file->data, file->size, &gguf, err)) == BORA_OK &&
        (st = bora_gguf_split_check(&gguf, part, &n_parts, err)) == BORA_OK)
        st = read_tensors(model, &gguf, left_over, err);
    if (st == BORA_OK || !err)
        return st;
    bora_error inner = *err;
    return bora_fail(err, st, "part %u of %u: %s", part + 1, n_parts, inner.message);
}

/* gguf: the first part, whose tensors are read. The names of the others follow from its own. */
static bora_status read_parts(bora_model *model, const bora_gguf *gguf, uint32_t n_parts, size_t *left_over,
                              bora_error *err)
{
    if (n_parts == 1)
        return BORA_OK;
    size_t n_stem = 0;
    bora_status st = bora_gguf_split_stem(model->path, n_parts, &n_stem, err);
    for (uint32_t part = 1; st == BORA_OK && part < n_parts; part++) {
        BORA_CLEANUP(bora_freep)
        char *path = bora_format("%.*s-%05u-of-%05u.gguf", (int)n_stem, model->path, part + 1, n_parts);
        st = path ? read_part(model, path, part, n_parts, left_over, err)
                  : bora_fail(err, BORA_E_NOMEM, "part %u of %u", part + 1, n_parts);
    }
    uint32_t n_tensors = (uint32_t)model->n_entries; /* at most BORA_TENSORS_MAX */
    if (st == BORA_OK)
        st = bora_gguf_u32(gguf, "split.tensors.count", "tensors", false, 0, UINT32_MAX, &n_tensors, err);
    if (st == BORA_OK && n_tensors != model->n_entries)
        return bora_fail(err, BORA_E_FORMAT, "split.tensors.count is %u, the %u parts have %zu tensors", n_tensors,
                         n_parts, model->n_entries);
    return st;
}

/* ---- vocabulary ---- */

static bora_status read_special(const bora_gguf *gguf, const char *key, int32_t default_id, size_t n_pieces,
                                int32_t *ret_id, bora_error *err)
{
    uint32_t id = (uint32_t)default_id;
    bora_status st = bora_gguf_u32(gguf, key, "token", false, 0, UINT32_MAX, &id, err);
    if (st != BORA_OK)
        return st;
    if (id >= n_pieces && !bora_gguf_find(gguf, key)) { /* the default is no piece of this vocabulary */
        *ret_id = -1;
        return BORA_OK;
    }
    if (id >= n_pieces)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is %u, the vocabulary has %zu pieces", key, id, n_pieces);
    *ret_id = (int32_t)id;
    return BORA_OK;
}

static bora_status read_pieces(const bora_gguf_value *tokens, const char **pieces, uint32_t *piece_sizes,
                               bora_error *err)
{
    const uint8_t *at = tokens->data;
    for (size_t i = 0; i < tokens->n; i++) {
        bora_gguf_text piece = bora_gguf_element_text(&at);
        if (piece.size > BORA_GGUF_KEY_SIZE_MAX)
            return bora_fail(err, BORA_E_FORMAT,
                             "key 'tokenizer.ggml.tokens': piece %zu has %zu bytes, at most %u are "
                             "allowed",
                             i, piece.size, BORA_GGUF_KEY_SIZE_MAX);
        pieces[i] = piece.bytes;
        piece_sizes[i] = (uint32_t)piece.size;
    }
    return BORA_OK;
}

static bora_status array_of_pieces(const bora_gguf *gguf, const char *key, size_t n_pieces, uint32_t type,
                                   uint32_t other_type, const bora_gguf_value **ret_value, bora_error *err)
{
    const bora_gguf_value *value = NULL;
    bora_status st = bora_gguf_array(gguf, key, true, type, other_type, &value, err);
    if (st != BORA_OK)
        return st;
    if (value->n != n_pieces)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' has %zu elements, tokenizer.ggml.tokens has %zu", key, value->n,
                         n_pieces);
    *ret_value = value;
    return BORA_OK;
}

/* tekken: byte-level pieces, ranked by their order instead of scores. */
static bora_status read_arrays(bora_model *model, const bora_gguf *gguf, bool tekken, bora_error *err)
{
    const bora_gguf_value *tokens = NULL, *scores = NULL, *kinds = NULL;
    bora_status st;
    if ((st = bora_gguf_array(gguf, "tokenizer.ggml.tokens", true, BORA_GGUF_TEXT, BORA_GGUF_TEXT, &tokens, err)) !=
        BORA_OK)
        return st;
    const size_t n = tokens->n;
    if (n < 1 || n > model->hparams.vocab_size)
        return bora_fail(err, BORA_E_FORMAT,
                         "key 'tokenizer.ggml.tokens' has %zu pieces, expected 1 to %u (vocab_size)", n,
                         model->hparams.vocab_size);
    if ((!tekken && (st = array_of_pieces(gguf, "tokenizer.ggml.scores", n, BORA_GGUF_F32, BORA_GGUF_F32, &scores,
                                          err)) != BORA_OK) ||
        (st = array_of_pieces(gguf, "tokenizer.ggml.token_type", n, BORA_GGUF_I32, BORA_GGUF_U32, &kinds, err)) !=
            BORA_OK)
        return st;
    BORA_CLEANUP(bora_freep) const char **pieces = bora_calloc(n, sizeof *pieces);
    BORA_CLEANUP(bora_freep) uint32_t *piece_sizes = bora_calloc(n, sizeof *piece_sizes);
    BORA_CLEANUP(bora_freep) float *score_copy = bora_calloc(n, sizeof *score_copy); /* the file's may be unaligned */
    BORA_CLEANUP(bora_freep) int32_t *kind_copy = bora_calloc(n, sizeof *kind_copy);
    if (!pieces || !piece_sizes || !score_copy || !kind_copy)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", n);
    if (scores)
        memcpy(score_copy, scores->data, n * sizeof *score_copy);
    memcpy(kind_copy, kinds->data, n * sizeof *kind_copy);
    bora_vocab vocab = {.pieces = pieces,
                        .piece_sizes = piece_sizes,
                        .scores = score_copy,
                        .types = kind_copy,
                        .n_pieces = n,
                        .add_dummy_prefix = true};
    if ((st = read_pieces(tokens, pieces, piece_sizes, err)) != BORA_OK ||
        (st = read_special(gguf, "tokenizer.ggml.bos_token_id", 1, n, &vocab.bos_id, err)) != BORA_OK ||
        (st = read_special(gguf, "tokenizer.ggml.eos_token_id", 2, n, &vocab.eos_id, err)) != BORA_OK ||
        (st = read_special(gguf, "tokenizer.ggml.unknown_token_id", 0, n, &vocab.unk_id, err)) != BORA_OK ||
        (st = bora_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &vocab.add_dummy_prefix, err)) != BORA_OK ||
        (st = bora_gguf_bool(gguf, "tokenizer.ggml.remove_extra_whitespaces", &vocab.remove_extra_whitespaces, err)) !=
            BORA_OK)
        return st;
    bora_model_vocab_hash(model, &vocab);
    return tekken ? bora_tokenizer_new_gpt2(&vocab, &model->tokenizer, err)
                  : bora_tokenizer_new(&vocab, &model->tokenizer, err);
}

static bora_status read_template(bora_model *model, const bora_gguf *gguf, bora_error *err)
{
    bora_gguf_text text = {0};
    bora_status st = bora_gguf_string(gguf, "tokenizer.chat_template", false, &text, err);
    if (st == BORA_OK && model->tokenizer && text.size > 0)
        model->template_layout = bora_chat_layout_of_template(text.bytes, text.size, model->tokenizer);
    return st;
}

static bora_status read_vocab(bora_model *model, const bora_gguf *gguf, const bora_model_options *options,
                              bora_error *err)
{
    if (!bora_gguf_find(gguf, "tokenizer.ggml.model")) {
        if (options && options->without_tokenizer)
            return BORA_OK;
        return bora_fail(err, BORA_E_NOT_FOUND, "the file has no tokenizer (key 'tokenizer.ggml.model')");
    }
    bora_gguf_text kind = {0};
    bora_status st = bora_gguf_string(gguf, "tokenizer.ggml.model", true, &kind, err);
    if (st != BORA_OK)
        return st;
    if (bora_gguf_text_equal(kind, "llama"))
        return read_arrays(model, gguf, false, err);
    if (!bora_gguf_text_equal(kind, "gpt2"))
        return bora_fail(err, BORA_E_UNSUPPORTED, "tokenizer.ggml.model is '%s', this build reads 'llama' and 'gpt2'",
                         bora_quote(kind.bytes, kind.size).text);
    bora_gguf_text pre = {0};
    if ((st = bora_gguf_string(gguf, "tokenizer.ggml.pre", false, &pre, err)) != BORA_OK)
        return st;
    if (!bora_gguf_text_equal(pre, "tekken"))
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "tokenizer.ggml.model is 'gpt2' with tokenizer.ggml.pre '%s', this build reads 'tekken'",
                         bora_quote(pre.bytes, pre.size).text);
    return read_arrays(model, gguf, true, err);
}

bora_status bora_gguf_load(bora_model *model, const uint8_t *data, size_t size, const bora_model_options *options,
                           bora_error *err)
{
    BORA_CLEANUP(bora_gguf_release) bora_gguf gguf = {0};
    bora_status st = bora_gguf_read(data, size, &gguf, err);
    if (st != BORA_OK)
        return st;
    model->format = "gguf";
    bora_gguf_text name = {0};
    uint32_t n_parts = 1;
    size_t left_over = 0;
    if ((st = bora_gguf_split_check(&gguf, 0, &n_parts, err)) != BORA_OK ||
        (st = architecture_check(&gguf, err)) != BORA_OK ||
        (st = bora_gguf_string(&gguf, "general.name", false, &name, err)) != BORA_OK ||
        (st = bora_model_name_set(model, name.bytes, name.size, err)) != BORA_OK ||
        (st = refuse_others(&gguf, err)) != BORA_OK || (st = read_hparams(&gguf, &model->hparams, err)) != BORA_OK ||
        (st = read_tensors(model, &gguf, &left_over, err)) != BORA_OK ||
        (st = read_parts(model, &gguf, n_parts, &left_over, err)) != BORA_OK ||
        (st = bora_model_entries_seal(model, err)) != BORA_OK)
        return st;
    const bora_model_entry *embeddings = bora_model_entries_find(model, gguf_names.embeddings);
    if (model->hparams.vocab_size == 0 && embeddings && embeddings->info.n_dims == 2 &&
        embeddings->info.shape[0] <= BORA_VOCAB_MAX)
        model->hparams.vocab_size = (uint32_t)embeddings->info.shape[0];
    else if (model->hparams.vocab_size == 0)
        return bora_fail(
            err, BORA_E_FORMAT,
            "key 'llama.vocab_size' is missing, and no tensor 'token_embd.weight' of at most %u rows says it",
            BORA_VOCAB_MAX);
    if ((st = bora_hparams_check(&model->hparams, err)) != BORA_OK ||
        (st = bora_model_weights(model, &gguf_names, err)) != BORA_OK ||
        (st = read_vocab(model, &gguf, options, err)) != BORA_OK || (st = read_template(model, &gguf, err)) != BORA_OK)
        return st;
    if (left_over)
        return bora_fail(err, BORA_E_FORMAT, "%zu bytes follow the last tensor's data", left_over);
    return BORA_OK;
}
