/* params.json of Mistral's own folders: from JSON to hyper-parameters. Keys that are not known are ignored, as the
 * reference does, except for those known to change what a model computes. */
#include "model/json_keys.h"
#include "model/model_private.h"

static bora_status read_experts(const json_t *root, bora_hparams *h, bora_error *err)
{
    h->n_experts = h->n_experts_per_tok = 1;
    const json_t *moe = bora_json_find(root, "moe");
    if (!moe)
        return BORA_OK;
    if (!json_is_object(moe))
        return bora_fail(err, BORA_E_FORMAT, "key 'moe' is not an object");
    bora_status st = bora_json_u32(moe, "num_experts", "n_experts", true, 1, BORA_EXPERTS_MAX, &h->n_experts, err);
    if (st != BORA_OK)
        return st;
    if (h->n_experts == 1)
        return bora_fail(err, BORA_E_UNSUPPORTED, "key 'num_experts' is 1: a mixture has 2 at least");
    return bora_json_u32(moe, "num_experts_per_tok", "n_experts_per_tok", true, 1, h->n_experts, &h->n_experts_per_tok,
                         err);
}

static bora_status read_windows(const json_t *root, bora_hparams *h, bora_error *err)
{
    const char *key = "sliding_window";
    const json_t *value = bora_json_find(root, key), *other = bora_json_find(root, "_sliding_window");
    if (value && other)
        return bora_fail(err, BORA_E_FORMAT, "keys 'sliding_window' and '_sliding_window' are both set");
    if (other) {
        key = "_sliding_window";
        value = other;
    }
    h->n_windows = 1;
    h->windows[0] = 0;
    if (value)
        h->window_source = other ? "_sliding_window in params.json" : "sliding_window in params.json";
    if (!json_is_array(value))
        return value ? bora_json_window(key, value, &h->windows[0], err) : BORA_OK;
    size_t n = json_array_size(value);
    if (n < 1 || n > h->n_layers || h->n_layers % n)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is a pattern of %zu layers, n_layers (%u) is no multiple", key,
                         n, h->n_layers);
    for (size_t i = 0; i < n; i++) {
        bora_status st = bora_json_window(key, json_array_get(value, i), &h->windows[i], err);
        if (st != BORA_OK)
            return st;
    }
    h->n_windows = (uint32_t)n;
    return BORA_OK;
}

static bora_status read_counts(const json_t *root, bora_hparams *h, bora_error *err)
{
    const struct {
        const char *key, *name;
        bool required;
        uint32_t min, max;
        uint32_t *value;
    } counts[] = {
        {"dim", "dim", true, 1, BORA_DIM_MAX, &h->dim},
        {"n_layers", "n_layers", true, 1, BORA_LAYERS_MAX, &h->n_layers},
        {"hidden_dim", "hidden_dim", true, 1, BORA_HIDDEN_DIM_MAX, &h->hidden_dim},
        {"n_heads", "n_heads", true, 1, BORA_HEADS_MAX, &h->n_heads},
        {"vocab_size", "vocab_size", true, 1, BORA_VOCAB_MAX, &h->vocab_size},
        {"head_dim", "head_dim", false, 2, BORA_HEAD_DIM_MAX, &h->head_dim},
        {"n_kv_heads", "n_kv_heads", false, 1, BORA_HEADS_MAX, &h->n_kv_heads},
        {"max_seq_len", "context_length", false, 1, BORA_POSITIONS_MAX, &h->context_length},
        {"max_position_embeddings", "context_length", false, 1, BORA_POSITIONS_MAX, &h->context_length},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(counts); i++) {
        bora_status st = bora_json_u32(root, counts[i].key, counts[i].name, counts[i].required, counts[i].min,
                                       counts[i].max, counts[i].value, err);
        if (st != BORA_OK)
            return st;
    }
    if (h->n_kv_heads == 0)
        h->n_kv_heads = h->n_heads;
    if (h->head_dim == 0 && h->dim % h->n_heads)
        return bora_fail(err, BORA_E_FORMAT,
                         "key 'head_dim' is missing, and dim (%u) is not a multiple of n_heads (%u)", h->dim,
                         h->n_heads);
    if (h->head_dim == 0)
        h->head_dim = h->dim / h->n_heads;
    return BORA_OK;
}

bora_status bora_native_params(const char *text, size_t size, bora_hparams *ret_hparams, bora_error *err)
{
    BORA_CLEANUP(bora_json_freep) json_t *root = NULL;
    bora_status st = bora_json_parse(text, size, &root, err);
    if (st != BORA_OK)
        return st;
    static const char *const refused[] = {"yarn", "rope_scaling",
                                          "llama_4_scaling"}; /* other positions, other answers */
    for (size_t i = 0; i < BORA_ARRAY_SIZE(refused); i++)
        if (bora_json_find(root, refused[i]))
            return bora_fail(err, BORA_E_UNSUPPORTED, "key '%s' asks for something this version does not compute",
                             refused[i]);
    bora_hparams hparams = {0};
    if ((st = read_counts(root, &hparams, err)) != BORA_OK ||
        (st = bora_json_f32(root, "norm_eps", true, &hparams.norm_eps, err)) != BORA_OK ||
        (st = bora_json_f32(root, "rope_theta", false, &hparams.rope_theta, err)) != BORA_OK ||
        (st = read_experts(root, &hparams, err)) != BORA_OK || (st = read_windows(root, &hparams, err)) != BORA_OK)
        return st;
    /* The reference's rule of December 2023; a window that the user sets instead does not change it. */
    if (hparams.rope_theta == 0)
        hparams.rope_theta = bora_hparams_any_window(&hparams) ? 1e4f : 1e6f;
    if ((st = bora_hparams_check(&hparams, err)) != BORA_OK)
        return st;
    *ret_hparams = hparams;
    return BORA_OK;
}
