/* params.json of Mistral's own folders: from JSON to hyper-parameters. Keys that are not known are ignored, as the
 * reference does, except for those known to change what a model computes. */
#include "model/model_private.h"

#include <jansson.h>

#include <math.h>
#include <string.h>

/* A key that is there and not null. */
static const json_t *value_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* name: the hyper-parameter, for the message. */
static bora_status read_u32(const json_t *object, const char *key, const char *name, bool required, uint32_t min,
                            uint32_t max, uint32_t *ret_number, bora_error *err)
{
    const json_t *value = value_of(object, key);
    if (!value && !required)
        return BORA_OK;
    if (!value)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is missing", key);
    if (!json_is_integer(value))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is not a whole number", key);
    json_int_t number = json_integer_value(value);
    if (number < min || number > max)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' (%s) is %lld, expected %u to %u", key, name, (long long)number,
                         min, max);
    *ret_number = (uint32_t)number;
    return BORA_OK;
}

static bora_status read_f32(const json_t *object, const char *key, bool required, float *ret_number, bora_error *err)
{
    const json_t *value = value_of(object, key);
    if (!value && !required)
        return BORA_OK;
    if (!value)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is missing", key);
    if (!json_is_number(value))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is not a number", key);
    double number = json_number_value(value);
    if (!(number >= 0 && number <= 1e30)) /* well inside a float */
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is %g, expected a positive number", key, number);
    *ret_number = (float)number;
    return BORA_OK;
}

static bora_status read_experts(const json_t *root, bora_hparams *h, bora_error *err)
{
    h->n_experts = h->n_experts_per_tok = 1;
    const json_t *moe = value_of(root, "moe");
    if (!moe)
        return BORA_OK;
    if (!json_is_object(moe))
        return bora_fail(err, BORA_E_FORMAT, "key 'moe' is not an object");
    bora_status st = read_u32(moe, "num_experts", "n_experts", true, 1, BORA_EXPERTS_MAX, &h->n_experts, err);
    if (st != BORA_OK)
        return st;
    if (h->n_experts == 1)
        return bora_fail(err, BORA_E_UNSUPPORTED, "key 'num_experts' is 1: a mixture has 2 at least");
    return read_u32(moe, "num_experts_per_tok", "n_experts_per_tok", true, 1, h->n_experts, &h->n_experts_per_tok, err);
}

static bora_status read_window(const char *key, const json_t *value, uint32_t *ret_window, bora_error *err)
{
    if (json_is_null(value)) {
        *ret_window = 0;
        return BORA_OK;
    }
    if (!json_is_integer(value))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' holds something that is neither a whole number nor null", key);
    json_int_t number = json_integer_value(value);
    if (number < 1 || number > BORA_POSITIONS_MAX)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is %lld, expected 1 to %u or null", key, (long long)number,
                         BORA_POSITIONS_MAX);
    *ret_window = (uint32_t)number;
    return BORA_OK;
}

static bora_status read_windows(const json_t *root, bora_hparams *h, bora_error *err)
{
    const char *key = "sliding_window";
    const json_t *value = value_of(root, key), *other = value_of(root, "_sliding_window");
    if (value && other)
        return bora_fail(err, BORA_E_FORMAT, "keys 'sliding_window' and '_sliding_window' are both set");
    if (other) {
        key = "_sliding_window";
        value = other;
    }
    h->n_windows = 1;
    h->windows[0] = 0;
    if (!json_is_array(value))
        return value ? read_window(key, value, &h->windows[0], err) : BORA_OK;
    size_t n = json_array_size(value);
    if (n < 1 || n > h->n_layers || h->n_layers % n)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is a pattern of %zu layers, n_layers (%u) is no multiple", key,
                         n, h->n_layers);
    for (size_t i = 0; i < n; i++) {
        bora_status st = read_window(key, json_array_get(value, i), &h->windows[i], err);
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
        bora_status st = read_u32(root, counts[i].key, counts[i].name, counts[i].required, counts[i].min, counts[i].max,
                                  counts[i].value, err);
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

static void json_freep(json_t **value)
{
    json_decref(*value);
}

bora_status bora_native_params(const char *text, size_t size, bora_hparams *ret_hparams, bora_error *err)
{
    json_error_t json_err;
    BORA_CLEANUP(json_freep) json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &json_err);
    if (!root)
        return bora_fail(err, json_error_code(&json_err) == json_error_out_of_memory ? BORA_E_NOMEM : BORA_E_FORMAT,
                         "not JSON: line %d: %s", json_err.line, bora_quote(json_err.text, strlen(json_err.text)).text);
    if (!json_is_object(root))
        return bora_fail(err, BORA_E_FORMAT, "not a JSON object");
    static const char *const refused[] = {"yarn", "rope_scaling",
                                          "llama_4_scaling"}; /* other positions, other answers */
    for (size_t i = 0; i < BORA_ARRAY_SIZE(refused); i++)
        if (value_of(root, refused[i]))
            return bora_fail(err, BORA_E_UNSUPPORTED, "key '%s' asks for something this version does not compute",
                             refused[i]);
    bora_hparams hparams = {0};
    bora_status st;
    if ((st = read_counts(root, &hparams, err)) != BORA_OK ||
        (st = read_f32(root, "norm_eps", true, &hparams.norm_eps, err)) != BORA_OK ||
        (st = read_f32(root, "rope_theta", false, &hparams.rope_theta, err)) != BORA_OK ||
        (st = read_experts(root, &hparams, err)) != BORA_OK || (st = read_windows(root, &hparams, err)) != BORA_OK)
        return st;
    if (hparams.rope_theta == 0)
        hparams.rope_theta = 1e6f; /* as the reference has it */
    if ((st = bora_hparams_check(&hparams, err)) != BORA_OK)
        return st;
    *ret_hparams = hparams;
    return BORA_OK;
}
