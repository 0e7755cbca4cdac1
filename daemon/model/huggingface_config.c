/* config.json of Hugging Face folders: from JSON to hyper-parameters, and the index of sharded weights. Keys that are
 * not known are ignored, except for those known to change what a model computes. What a library would fill in for a
 * key that is missing is not guessed: the file states it or is refused. */
#include "base/memory.h"
#include "model/json_keys.h"
#include "model/model_private.h"

#include <stdlib.h>
#include <string.h>

static bora_status read_architecture(const json_t *root, bool *ret_is_mixture, bora_error *err)
{
    const json_t *list = bora_json_find(root, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (!name || json_array_size(list) != 1)
        return bora_fail(err, BORA_E_FORMAT, "key 'architectures' is not a list of one name");
    *ret_is_mixture = strcmp(name, "MixtralForCausalLM") == 0;
    if (!*ret_is_mixture && strcmp(name, "MistralForCausalLM") != 0)
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "architecture '%s', this build reads MistralForCausalLM and MixtralForCausalLM",
                         bora_quote(name, strlen(name)).text);
    return BORA_OK;
}

/* An older and a newer spelling of "positions are as they are". */
static bora_status scaling_check(const char *key, const json_t *object, bora_error *err)
{
    if (!json_is_object(object))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is not an object", key);
    const json_t *type = bora_json_find(object, "rope_type");
    type = type ? type : bora_json_find(object, "type");
    const char *name = type ? json_string_value(type) : "default";
    if (!name || strcmp(name, "default") != 0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "key '%s' asks for '%s', this version has no scaled positions", key,
                         name ? bora_quote(name, strlen(name)).text : "?");
    return BORA_OK;
}

static bora_status read_rope(const json_t *root, bora_hparams *h, bora_error *err)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    bora_status st;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        const json_t *object = bora_json_find(root, keys[i]);
        if (object && (st = scaling_check(keys[i], object, err)) != BORA_OK)
            return st;
    }
    const json_t *parameters = bora_json_find(root, "rope_parameters");
    bool is_inside = parameters && bora_json_find(parameters, "rope_theta");
    if ((st = bora_json_f32(is_inside ? parameters : root, "rope_theta", true, &h->rope_theta, err)) != BORA_OK)
        return st;
    float part = 1;
    if ((st = bora_json_f32(root, "partial_rotary_factor", false, &part, err)) != BORA_OK)
        return st;
    if (part != 1)
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "key 'partial_rotary_factor' is %g: heads rotated in part are not "
                         "supported",
                         (double)part);
    return BORA_OK;
}

static bora_status refuse_others(const json_t *root, bora_error *err)
{
    const json_t *act = bora_json_find(root, "hidden_act");
    const char *name = act ? json_string_value(act) : "silu";
    if (!name || strcmp(name, "silu") != 0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "key 'hidden_act' is '%s', expected 'silu'",
                         name ? bora_quote(name, strlen(name)).text : "?");
    if (bora_json_find(root, "quantization_config"))
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "key 'quantization_config': the weights are quantised, this build reads F32, F16 and BF16 "
                         "(and quantised GGUF)");
    return BORA_OK;
}

/* One window for all layers, or for those that layer_types names. */
static bora_status read_windows(const json_t *root, bora_hparams *h, bora_error *err)
{
    const json_t *value = bora_json_find(root, "sliding_window"), *types = bora_json_find(root, "layer_types");
    uint32_t window = 0;
    bora_status st = value ? bora_json_window("sliding_window", value, &window, err) : BORA_OK;
    if (st != BORA_OK)
        return st;
    h->n_windows = 1;
    h->windows[0] = window;
    h->window_source = json_object_get(root, "sliding_window") ? "sliding_window in config.json" : NULL;
    if (!types)
        return BORA_OK;
    if (!json_is_array(types) || json_array_size(types) != h->n_layers)
        return bora_fail(err, BORA_E_FORMAT, "key 'layer_types' is not a list of %u (num_hidden_layers)", h->n_layers);
    for (uint32_t i = 0; i < h->n_layers; i++) {
        const char *name = json_string_value(json_array_get(types, i));
        bool is_windowed = name && strcmp(name, "sliding_attention") == 0;
        if (!name || (!is_windowed && strcmp(name, "full_attention") != 0))
            return bora_fail(err, BORA_E_UNSUPPORTED,
                             "key 'layer_types': layer %u is neither full_attention nor sliding_attention", i);
        if (is_windowed && !window)
            return bora_fail(err, BORA_E_FORMAT, "key 'layer_types': layer %u has a window, sliding_window states none",
                             i);
        h->windows[i] = is_windowed ? window : 0;
    }
    h->n_windows = h->n_layers;
    h->window_source = "sliding_window and layer_types in config.json";
    return BORA_OK;
}

static bora_status read_counts(const json_t *root, bool is_mixture, bora_hparams *h, bora_error *err)
{
    h->n_experts = h->n_experts_per_tok = 1;
    uint32_t *const none = NULL;
    const struct {
        const char *key, *name;
        bool required;
        uint32_t min, max;
        uint32_t *value;
    } counts[] = {
        {"hidden_size", "dim", true, 1, BORA_DIM_MAX, &h->dim},
        {"intermediate_size", "hidden_dim", true, 1, BORA_HIDDEN_DIM_MAX, &h->hidden_dim},
        {"num_hidden_layers", "n_layers", true, 1, BORA_LAYERS_MAX, &h->n_layers},
        {"num_attention_heads", "n_heads", true, 1, BORA_HEADS_MAX, &h->n_heads},
        {"num_key_value_heads", "n_kv_heads", false, 1, BORA_HEADS_MAX, &h->n_kv_heads},
        {"head_dim", "head_dim", false, 2, BORA_HEAD_DIM_MAX, &h->head_dim},
        {"vocab_size", "vocab_size", true, 1, BORA_VOCAB_MAX, &h->vocab_size},
        {"max_position_embeddings", "context_length", false, 1, BORA_POSITIONS_MAX, &h->context_length},
        {"num_local_experts", "n_experts", true, 2, BORA_EXPERTS_MAX, is_mixture ? &h->n_experts : none},
        {"num_experts_per_tok", "n_experts_per_tok", true, 1, BORA_EXPERTS_MAX,
         is_mixture ? &h->n_experts_per_tok : none},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(counts); i++) {
        if (!counts[i].value)
            continue;
        bora_status st = bora_json_u32(root, counts[i].key, counts[i].name, counts[i].required, counts[i].min,
                                       counts[i].max, counts[i].value, err);
        if (st != BORA_OK)
            return st;
    }
    h->n_kv_heads = h->n_kv_heads ? h->n_kv_heads : h->n_heads;
    if (h->head_dim == 0 && h->dim % h->n_heads)
        return bora_fail(err, BORA_E_FORMAT,
                         "key 'head_dim' is missing, and hidden_size (%u) is not a multiple of "
                         "num_attention_heads (%u)",
                         h->dim, h->n_heads);
    h->head_dim = h->head_dim ? h->head_dim : h->dim / h->n_heads;
    return BORA_OK;
}

bora_status bora_huggingface_config(const char *text, size_t size, bora_hparams *ret_hparams, bool *ret_is_tied,
                                    bora_error *err)
{
    BORA_CLEANUP(bora_json_freep) json_t *root = NULL;
    bora_hparams hparams = {0};
    bool is_mixture = false, is_tied = false;
    bora_status st;
    if ((st = bora_json_parse(text, size, &root, err)) != BORA_OK ||
        (st = read_architecture(root, &is_mixture, err)) != BORA_OK || (st = refuse_others(root, err)) != BORA_OK ||
        (st = read_counts(root, is_mixture, &hparams, err)) != BORA_OK ||
        (st = bora_json_f32(root, "rms_norm_eps", true, &hparams.norm_eps, err)) != BORA_OK ||
        (st = read_rope(root, &hparams, err)) != BORA_OK || (st = read_windows(root, &hparams, err)) != BORA_OK ||
        (st = bora_json_bool(root, "tie_word_embeddings", &is_tied, err)) != BORA_OK ||
        (st = bora_hparams_check(&hparams, err)) != BORA_OK)
        return st;
    *ret_hparams = hparams;
    *ret_is_tied = is_tied;
    return BORA_OK;
}

/* ---- the index ---- */

/* A name inside the folder, whatever the index says: no path, nothing hidden. */
static bool is_file_name(const char *name)
{
    static const char end[] = ".safetensors";
    const size_t n = strlen(name), n_end = sizeof end - 1;
    return n > n_end && n <= 255 && name[0] != '.' && !strchr(name, '/') && strcmp(name + n - n_end, end) == 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* names [n] sorted, each once. */
static bora_status copy_names(const char *const *names, size_t n, char ***ret_files, size_t *ret_n_files,
                              bora_error *err)
{
    char **files = bora_calloc(n, sizeof *files);
    for (size_t i = 0; files && i < n; i++) {
        if ((files[i] = bora_strdup(names[i])))
            continue;
        bora_names_free(files, i);
        files = NULL;
    }
    if (!files)
        return bora_fail(err, BORA_E_NOMEM, "list of weight files");
    *ret_files = files;
    *ret_n_files = n;
    return BORA_OK;
}

bora_status bora_huggingface_index(const char *text, size_t size, char ***ret_files, size_t *ret_n_files,
                                   bora_error *err)
{
    BORA_CLEANUP(bora_json_freep) json_t *root = NULL;
    bora_status st = bora_json_parse(text, size, &root, err);
    if (st != BORA_OK)
        return st;
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        return bora_fail(err, BORA_E_FORMAT, "key 'weight_map' is not an object with tensors in it");
    BORA_CLEANUP(bora_freep) const char **names = bora_calloc(json_object_size(map), sizeof *names);
    if (!names)
        return bora_fail(err, BORA_E_NOMEM, "index of %zu tensors", json_object_size(map));
    size_t n = 0, n_files = 0;
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        const char *name = json_string_value(value);
        if (!name || !is_file_name(name))
            return bora_fail(err, BORA_E_FORMAT, "tensor '%s' lies in '%s', which is not a safetensors file here",
                             bora_quote(key, strlen(key)).text, name ? bora_quote(name, strlen(name)).text : "?");
        names[n++] = name;
    }
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(names[i], names[n_files - 1]) != 0)
            names[n_files++] = names[i];
    if (n_files > BORA_MODEL_FILES_MAX)
        return bora_fail(err, BORA_E_LIMIT, "%zu files of weights, at most %u are allowed", n_files,
                         BORA_MODEL_FILES_MAX);
    return copy_names(names, n_files, ret_files, ret_n_files, err);
}
