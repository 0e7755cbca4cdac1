/* From a model to GGUF's keys and tensor names: the reverse of gguf.c. */
#include "model/gguf_export.h"

#include "base/memory.h"
#include "model/blocks.h"
#include "model/gguf_export_tekken.h"
#include "model/model_private.h"
#include "model/tokenizer/tokenizer_private.h"

#include <stdio.h>
#include <string.h>

/* Other programs insist on the key; native folders do not say. */
#define CONTEXT_DEFAULT 32768u

/* ---- hyper-parameters ----------------------------------------------------------------------------------------- */

void bora_gguf_export_hparams(const bora_hparams *h, bora_gguf_out *out)
{
    const struct {
        const char *key;
        uint32_t value;
    } counts[] = {
        {"llama.block_count", h->n_layers},
        {"llama.embedding_length", h->dim},
        {"llama.feed_forward_length", h->hidden_dim},
        {"llama.attention.head_count", h->n_heads},
        {"llama.attention.head_count_kv", h->n_kv_heads},
        {"llama.attention.key_length", h->head_dim},
        {"llama.attention.value_length", h->head_dim},
        {"llama.rope.dimension_count", h->head_dim},
        {"llama.vocab_size", h->vocab_size},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(counts); i++)
        bora_gguf_set_u32(out, counts[i].key, counts[i].value);
    bora_gguf_set_u32(out, "llama.context_length", h->context_length ? h->context_length : CONTEXT_DEFAULT);
    bora_gguf_set_f32(out, "llama.attention.layer_norm_rms_epsilon", h->norm_eps);
    bora_gguf_set_f32(out, "llama.rope.freq_base", h->rope_theta);
    if (h->n_experts > 1) {
        bora_gguf_set_u32(out, "llama.expert_count", h->n_experts);
        bora_gguf_set_u32(out, "llama.expert_used_count", h->n_experts_per_tok);
    }
    if (h->n_windows > 1)
        bora_gguf_set_array(out, "llama.attention.sliding_window", BORA_GGUF_U32, h->windows, h->n_windows);
    else if (h->windows[0])
        bora_gguf_set_u32(out, "llama.attention.sliding_window", h->windows[0]);
}

/* ---- tokenizer ------------------------------------------------------------------------------------------------ */

/* Programs take the number of tokens for the number of rows: pieces are added until that is true. They are control
 * pieces, which no text becomes. */
static bora_status set_pieces(const bora_tokenizer *t, uint32_t vocab_size, bora_gguf_out *out, bora_error *err)
{
    size_t n = vocab_size > t->n_pieces ? vocab_size : t->n_pieces, n_padding = n - t->n_pieces;
    BORA_CLEANUP(bora_freep) const char **pieces = bora_calloc(n, sizeof *pieces);
    BORA_CLEANUP(bora_freep) uint32_t *sizes = bora_calloc(n, sizeof *sizes);
    BORA_CLEANUP(bora_freep) float *scores = bora_calloc(n, sizeof *scores);
    BORA_CLEANUP(bora_freep) int32_t *types = bora_calloc(n, sizeof *types);
    BORA_CLEANUP(bora_freep) char *padding = bora_calloc(n_padding + 1, 24);
    if (!pieces || !sizes || !scores || !types || !padding)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", n);
    for (size_t i = 0; i < n; i++) {
        if (i < t->n_pieces) {
            pieces[i] = t->bytes + t->starts[i];
            sizes[i] = t->starts[i + 1] - t->starts[i];
            scores[i] = t->scores[i];
            types[i] = t->types[i];
            continue;
        }
        char *text = padding + (i - t->n_pieces) * 24;
        pieces[i] = text;
        sizes[i] = (uint32_t)snprintf(text, 24, "[PAD%zu]", i);
        types[i] = BORA_PIECE_CONTROL;
        if (bora_tokenizer_find(t, true, text, sizes[i]) >= 0)
            return bora_fail(err, BORA_E_UNSUPPORTED, "the vocabulary has a piece '%s' of its own", text);
    }
    bora_gguf_set_texts(out, "tokenizer.ggml.tokens", pieces, sizes, n);
    bora_gguf_set_array(out, "tokenizer.ggml.scores", BORA_GGUF_F32, scores, n);
    bora_gguf_set_array(out, "tokenizer.ggml.token_type", BORA_GGUF_I32, types, n);
    return BORA_OK;
}

static bora_status set_sentencepiece(const bora_tokenizer *t, uint32_t vocab_size, bora_gguf_out *out, bora_error *err)
{
    bora_gguf_set_text(out, "tokenizer.ggml.model", "llama", 5);
    bora_gguf_set_text(out, "tokenizer.ggml.pre", "default", 7);
    bora_gguf_set_bool(out, "tokenizer.ggml.add_space_prefix", t->add_dummy_prefix);
    if (t->remove_extra_whitespaces)
        bora_gguf_set_bool(out, "tokenizer.ggml.remove_extra_whitespaces", true);
    return set_pieces(t, vocab_size, out, err);
}

bora_status bora_gguf_export_tokenizer(const bora_tokenizer *tokenizer, uint32_t vocab_size, bora_gguf_out *out,
                                       bora_error *err)
{
    const bora_tokenizer *t = tokenizer;
    const struct {
        const char *key;
        int32_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", t->bos_id},
               {"tokenizer.ggml.eos_token_id", t->eos_id},
               {"tokenizer.ggml.unknown_token_id", t->unk_id}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ids); i++)
        if (ids[i].id >= 0)
            bora_gguf_set_u32(out, ids[i].key, (uint32_t)ids[i].id);
    bora_gguf_set_bool(out, "tokenizer.ggml.add_bos_token", t->bos_id >= 0);
    bora_gguf_set_bool(out, "tokenizer.ggml.add_eos_token", false);
    return bora_tokenizer_kind(t) == BORA_TOKENIZER_TEKKEN ? bora_gguf_export_tekken(t, vocab_size, out, err)
                                                           : set_sentencepiece(t, vocab_size, out, err);
}

/* ---- keys of a GGUF file that are kept ------------------------------------------------------------------------ */

static bool begins_with(bora_gguf_text text, const char *with)
{
    size_t n = strlen(with);
    return text.size >= n && memcmp(text.bytes, with, n) == 0;
}

static bool is_kept(bora_gguf_text key)
{
    static const char *const ours[] = {"general.architecture", "general.name", "general.file_type",
                                       "general.quantization_version", "general.alignment"};
    if (begins_with(key, "tokenizer."))
        return true;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ours); i++)
        if (bora_gguf_text_equal(key, ours[i]))
            return false;
    return begins_with(key, "general.");
}

static bora_status copy_keys(const bora_file *file, bora_gguf_out *out, bora_error *err)
{
    BORA_CLEANUP(bora_gguf_release) bora_gguf gguf = {0};
    bora_status st = bora_gguf_read(file->data, file->size, &gguf, err);
    for (size_t i = 0; st == BORA_OK && i < gguf.n_values; i++)
        if (is_kept(gguf.values[i].key))
            bora_gguf_set_copy(out, &gguf.values[i]);
    return st;
}

bora_status bora_gguf_export_keys(const bora_model *model, bora_gguf_out *out, bora_error *err)
{
    bora_gguf_set_text(out, "general.architecture", "llama", 5);
    bora_gguf_set_text(out, "general.name", model->name, strlen(model->name));
    bora_gguf_set_u32(out, "general.quantization_version", 2);
    bora_gguf_export_hparams(&model->hparams, out);
    if (strcmp(model->format, "gguf") == 0 && model->n_files)
        return copy_keys(&model->files[0], out, err);
    const char *text = bora_gguf_template(model->layout);
    if (text)
        bora_gguf_set_text(out, "tokenizer.chat_template", text, strlen(text));
    return model->tokenizer ? bora_gguf_export_tokenizer(model->tokenizer, model->hparams.vocab_size, out, err)
                            : BORA_OK;
}

/* ---- tensors -------------------------------------------------------------------------------------------------- */

#define N_PER_LAYER 10u

bool bora_gguf_is_tied(const bora_model *model)
{
    return model->output.data == model->embeddings.data;
}

static uint32_t n_per_layer(const bora_hparams *h)
{
    return h->n_experts > 1 ? N_PER_LAYER : N_PER_LAYER - 1; /* the router */
}

size_t bora_gguf_n_slots(const bora_hparams *h, bool tied)
{
    return (size_t)h->n_layers * n_per_layer(h) + (tied ? 2 : 3);
}

static void layer_slot(const bora_hparams *h, uint32_t layer, uint32_t which, bora_gguf_slot *slot)
{
    const char *merged = h->n_experts > 1 ? "_exps" : "";
    const uint64_t dim = h->dim, hidden = h->hidden_dim, query = (uint64_t)h->n_heads * h->head_dim,
                   key = (uint64_t)h->n_kv_heads * h->head_dim;
    const struct {
        const char *name, *end;
        uint64_t n_rows, n_cols;
        uint32_t n_parts;
        char role;
    } table[N_PER_LAYER] = {
        {"attn_norm", "", 1, dim, 1, BORA_GGUF_ROLE_F32},
        {"attn_q", "", query, dim, 1, BORA_GGUF_ROLE_MATRIX},
        {"attn_k", "", key, dim, 1, BORA_GGUF_ROLE_MATRIX},
        {"attn_v", "", key, dim, 1, BORA_GGUF_ROLE_VALUE},
        {"attn_output", "", dim, query, 1, BORA_GGUF_ROLE_MATRIX},
        {"ffn_norm", "", 1, dim, 1, BORA_GGUF_ROLE_F32},
        {"ffn_gate", merged, hidden, dim, h->n_experts, BORA_GGUF_ROLE_MATRIX},
        {"ffn_down", merged, dim, hidden, h->n_experts, BORA_GGUF_ROLE_DOWN},
        {"ffn_up", merged, hidden, dim, h->n_experts, BORA_GGUF_ROLE_MATRIX},
        {"ffn_gate_inp", "", h->n_experts, dim, 1, BORA_GGUF_ROLE_F32},
    };
    *slot = (bora_gguf_slot){.n_rows = table[which].n_rows,
                             .n_cols = table[which].n_cols,
                             .n_parts = table[which].n_parts,
                             .vector = which == 0 || which == 5,
                             .role = table[which].role};
    (void)snprintf(slot->name, sizeof slot->name, "blk.%u.%s%s.weight", layer, table[which].name, table[which].end);
}

void bora_gguf_slot_at(const bora_hparams *h, bool tied, size_t i, bora_gguf_slot *ret_slot)
{
    const uint32_t per_layer = n_per_layer(h);
    const size_t in_layers = (size_t)h->n_layers * per_layer;
    if (i >= 1 && i <= in_layers)
        layer_slot(h, (uint32_t)((i - 1) / per_layer), (uint32_t)((i - 1) % per_layer), ret_slot);
    else if (i == 0)
        *ret_slot = (bora_gguf_slot){.name = "token_embd.weight",
                                     .n_rows = h->vocab_size,
                                     .n_cols = h->dim,
                                     .n_parts = 1,
                                     .role = tied ? BORA_GGUF_ROLE_OUTPUT : BORA_GGUF_ROLE_EMBED};
    else if (i == in_layers + 1)
        *ret_slot = (bora_gguf_slot){.name = "output_norm.weight",
                                     .n_rows = 1,
                                     .n_cols = h->dim,
                                     .n_parts = 1,
                                     .vector = true,
                                     .role = BORA_GGUF_ROLE_F32};
    else
        *ret_slot = (bora_gguf_slot){.name = "output.weight",
                                     .n_rows = h->vocab_size,
                                     .n_cols = h->dim,
                                     .n_parts = 1,
                                     .role = BORA_GGUF_ROLE_OUTPUT};
}

void bora_gguf_slot_add(const bora_gguf_slot *slot, uint32_t dtype, bora_gguf_out *out)
{
    const uint64_t shape[] = {slot->n_parts, slot->n_rows, slot->n_cols};
    const uint32_t skip = slot->vector ? 2 : slot->n_parts > 1 ? 0 : 1;
    bora_gguf_add_tensor(out, slot->name, shape + skip, 3 - skip, dtype);
}

const bora_tensor *bora_gguf_slot_parts(const bora_model *model, size_t i)
{
    const uint32_t per_layer = n_per_layer(&model->hparams);
    const size_t in_layers = (size_t)model->hparams.n_layers * per_layer;
    if (i == 0)
        return &model->embeddings;
    if (i > in_layers)
        return i == in_layers + 1 ? &model->norm : &model->output;
    const bora_layer_weights *w = &model->layers[(i - 1) / per_layer];
    const bora_tensor *const parts[N_PER_LAYER] = {&w->attention_norm, &w->wq, &w->wk, &w->wv, &w->wo,
                                                   &w->ffn_norm,       w->w1,  w->w2,  w->w3,  &w->router};
    return parts[(i - 1) % per_layer];
}

/* ---- types ---------------------------------------------------------------------------------------------------- */

const bora_gguf_mix *bora_gguf_mix_find(const char *name)
{
    static const bora_gguf_mix mixes[] = {
        {"f32", BORA_DTYPE_F32, BORA_DTYPE_F32, 0},      {"f16", BORA_DTYPE_F16, BORA_DTYPE_F16, 1},
        {"bf16", BORA_DTYPE_BF16, BORA_DTYPE_BF16, 32},  {"q8_0", BORA_DTYPE_Q8_0, BORA_DTYPE_Q8_0, 7},
        {"q4_0", BORA_DTYPE_Q4_0, BORA_DTYPE_Q4_0, 2},   {"q4_k", BORA_DTYPE_Q4_K, BORA_DTYPE_Q4_K, 14},
        {"q5_k", BORA_DTYPE_Q5_K, BORA_DTYPE_Q5_K, 16},  {"q6_k", BORA_DTYPE_Q6_K, BORA_DTYPE_Q6_K, 18},
        {"mixed", BORA_DTYPE_Q4_K, BORA_DTYPE_Q6_K, 15},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(mixes); i++)
        if (strcmp(mixes[i].name, name) == 0)
            return &mixes[i];
    return NULL;
}

uint32_t bora_gguf_mix_type(const bora_gguf_mix *mix, const bora_gguf_slot *slot, uint32_t *ret_wanted)
{
    const char role = slot->role;
    const bool better = role == BORA_GGUF_ROLE_VALUE || role == BORA_GGUF_ROLE_DOWN || role == BORA_GGUF_ROLE_OUTPUT;
    const uint32_t wanted = role == BORA_GGUF_ROLE_F32 ? BORA_DTYPE_F32 : better ? mix->better : mix->type;
    *ret_wanted = wanted;
    if (slot->n_cols % bora_block_of(wanted)->n_elements == 0)
        return wanted;
    return slot->n_cols % bora_block_of(BORA_DTYPE_Q8_0)->n_elements == 0 ? BORA_DTYPE_Q8_0 : BORA_DTYPE_F16;
}
