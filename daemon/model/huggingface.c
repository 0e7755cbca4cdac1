/* Hugging Face's folder: config.json and safetensors, one file or several with an index.
 *
 * Their query and key rows have the two halves of a rotated pair half a head apart, (i, i + head_dim/2); everything
 * here rotates neighbours, (2i, 2i+1). So these rows, and no others, are copied into memory in the order that is
 * wanted. A copied row is bit for bit the file's: both layouts of one model give the same answers. */
#include "base/memory.h"
#include "base/size.h"
#include "model/folder.h"

#include <string.h>

static const bora_tensor_names huggingface_names = {
    .embeddings = "model.embed_tokens.weight",
    .norm = "model.norm.weight",
    .output = "lm_head.weight",
    .layer_prefix = "model.layers.",
    .attention_norm = "input_layernorm.weight",
    .wq = "self_attn.q_proj.weight",
    .wk = "self_attn.k_proj.weight",
    .wv = "self_attn.v_proj.weight",
    .wo = "self_attn.o_proj.weight",
    .ffn_norm = "post_attention_layernorm.weight",
    .dense = {"mlp.gate_proj.weight", "mlp.down_proj.weight", "mlp.up_proj.weight"},
    .mixture = {{.router = "block_sparse_moe.gate.weight",
                 .expert_prefix = {"block_sparse_moe.experts.", "block_sparse_moe.experts.",
                                   "block_sparse_moe.experts."},
                 .expert_suffix = {".w1.weight", ".w2.weight", ".w3.weight"}}},
    .ignored = {".rotary_emb.inv_freq"}, /* follow from rope_theta */
};

/* ---- query and key rows ---- */

static size_t tensor_size(const bora_tensor *tensor)
{
    return (size_t)(tensor->row_size * tensor->n_rows); /* it lies in a file */
}

/* Copies the tensor to the address, heads reordered, and points it there. */
static void reorder(bora_tensor *tensor, uint32_t head_dim, uint8_t *to)
{
    const uint8_t *from = tensor->data;
    const size_t row_size = (size_t)tensor->row_size;
    for (uint64_t row = 0; row < tensor->n_rows; row++) {
        uint64_t head = row - row % head_dim, at = row % head_dim;
        uint64_t source = head + at / 2 + (at % 2 ? head_dim / 2 : 0);
        memcpy(to + row * row_size, from + source * row_size, row_size);
    }
    tensor->data = to;
}

static bora_status reorder_all(bora_model *model, bora_error *err)
{
    const bora_hparams *h = &model->hparams;
    size_t size = 0, rounded;
    for (uint32_t layer = 0; layer < h->n_layers; layer++) {
        const bora_tensor *tensors[] = {&model->layers[layer].wq, &model->layers[layer].wk};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(tensors); i++)
            if (!bora_size_round_up(tensor_size(tensors[i]), 64, &rounded) || !bora_size_add(size, rounded, &size))
                return bora_fail(err, BORA_E_FORMAT, "the query and key tensors are larger than any memory");
    }
    model->copied = bora_counted_alloc(model->ledger, BORA_LEDGER_WEIGHTS, size);
    if (!model->copied)
        return bora_counted_fail(model->ledger, "query and key rows in another order", size, err);
    model->copied_size = size;
    uint8_t *at = model->copied;
    for (uint32_t layer = 0; layer < h->n_layers; layer++) {
        bora_tensor *tensors[] = {&model->layers[layer].wq, &model->layers[layer].wk};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(tensors); i++) {
            size_t n = tensor_size(tensors[i]);
            const void *from = tensors[i]->data;
            reorder(tensors[i], h->head_dim, at);
            bora_model_release(model, from, n); /* the copy is used instead */
            at += (n + 63) / 64 * 64;
        }
    }
    return BORA_OK;
}

/* ---- files ---- */

static bora_status load_index(bora_model *model, const bora_folder *folder, bora_error *err)
{
    static const char name[] = "model.safetensors.index.json";
    BORA_CLEANUP(bora_freep) char *text = NULL;
    size_t size = 0, n_files = 0;
    char **files = NULL;
    bora_status st = bora_folder_text(folder, name, &text, &size, err);
    if (st != BORA_OK)
        return st;
    st = bora_folder_in_file(bora_huggingface_index(text, size, &files, &n_files, err), name, err);
    for (size_t i = 0; st == BORA_OK && i < n_files; i++)
        st = bora_folder_weights(model, folder, files[i], err);
    bora_names_free(files, n_files);
    return st;
}

static bora_status load_weights(bora_model *model, const bora_folder *folder, bora_error *err)
{
    if (folder->has_single)
        return bora_folder_weights(model, folder, "model.safetensors", err);
    if (folder->has_index)
        return load_index(model, folder, err);
    if (folder->has_shards)
        return bora_fail(err, BORA_E_NOT_FOUND, "'%s' has model-*.safetensors but no model.safetensors.index.json",
                         folder->path);
    if (folder->has_hf_pickle)
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "'%s' has pickled weights (pytorch_model*.bin), this build reads model*.safetensors",
                         folder->path);
    return bora_fail(err, BORA_E_NOT_FOUND, "'%s' has no model.safetensors", folder->path);
}

bora_status bora_huggingface_load(bora_model *model, const bora_folder *folder, const bora_model_options *options,
                                  bora_error *err)
{
    model->format = "huggingface";
    BORA_CLEANUP(bora_freep) char *text = NULL;
    size_t size = 0;
    bool is_tied = false;
    bora_status st = bora_folder_text(folder, "config.json", &text, &size, err);
    if (st != BORA_OK)
        return st;
    st = bora_folder_in_file(bora_huggingface_config(text, size, &model->hparams, &is_tied, err), "config.json", err);
    if (st != BORA_OK || (st = load_weights(model, folder, err)) != BORA_OK ||
        (st = bora_model_entries_seal(model, err)) != BORA_OK)
        return st;
    bora_tensor_names names = huggingface_names;
    if (is_tied) { /* one that is there all the same is a copy */
        names.output = names.embeddings;
        names.ignored[1] = huggingface_names.output;
    } else if (!bora_model_entries_find(model, names.output)) {
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is missing, and tie_word_embeddings is not true",
                         names.output);
    }
    if ((st = bora_model_weights(model, &names, err)) != BORA_OK)
        return st;
    return options && options->description_only ? BORA_OK : reorder_all(model, err);
}
