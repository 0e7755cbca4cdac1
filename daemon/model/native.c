/* Mistral's native folder: params.json, consolidated*.safetensors (one file or several shards). The tokenizer is
 * folder.c's. */
#include "base/memory.h"
#include "model/folder.h"

static const bora_tensor_names native_names = {
    .embeddings = "tok_embeddings.weight",
    .norm = "norm.weight",
    .output = "output.weight",
    .layer_prefix = "layers.",
    .attention_norm = "attention_norm.weight",
    .wq = "attention.wq.weight",
    .wk = "attention.wk.weight",
    .wv = "attention.wv.weight",
    .wo = "attention.wo.weight",
    .ffn_norm = "ffn_norm.weight",
    .dense = {"feed_forward.w1.weight", "feed_forward.w2.weight", "feed_forward.w3.weight"},
    .mixture = {{.router = "feed_forward.gate.weight",
                 .expert_prefix = {"feed_forward.experts.", "feed_forward.experts.", "feed_forward.experts."},
                 .expert_suffix = {".w1.weight", ".w2.weight", ".w3.weight"}},
                {.router = "block_sparse_moe.gate.weight",
                 .expert_prefix = {"block_sparse_moe.experts.", "block_sparse_moe.experts.",
                                   "block_sparse_moe.experts."},
                 .expert_suffix = {".w1.weight", ".w2.weight", ".w3.weight"}}},
    .ignored = {"rope.freqs"}, /* follow from rope_theta */
};

static bora_status load_params(bora_model *model, const bora_folder *folder, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *text = NULL;
    size_t size = 0;
    bora_status st = bora_folder_text(folder, "params.json", &text, &size, err);
    if (st != BORA_OK)
        return st;
    return bora_folder_in_file(bora_native_params(text, size, &model->hparams, err), "params.json", err);
}

bora_status bora_native_load(bora_model *model, const bora_folder *folder, bora_error *err)
{
    model->format = "mistral";
    bora_status st = load_params(model, folder, err);
    if (st != BORA_OK)
        return st;
    if (!folder->n_native && folder->has_native_pickle)
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "'%s' has pickled weights (consolidated*.pth), this build reads consolidated*.safetensors",
                         folder->path);
    if (!folder->n_native)
        return bora_fail(err, BORA_E_NOT_FOUND, "'%s' has no consolidated*.safetensors", folder->path);
    for (size_t i = 0; i < folder->n_native; i++)
        if ((st = bora_folder_weights(model, folder, folder->native[i], err)) != BORA_OK)
            return st;
    st = bora_model_entries_seal(model, err);
    return st == BORA_OK ? bora_model_weights(model, &native_names, err) : st;
}
