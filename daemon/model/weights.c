/* From a list of tensors to layers: every tensor the hyper-parameters call for is looked up by the format's name for
 * it, must have exactly the expected shape, and becomes a view into the mapped file. A tensor that is left over would
 * change the answers if it were used (a bias, scaled frequencies), so it is refused and not ignored. */
#include "model/blocks.h"
#include "model/model_private.h"

#include <stdio.h>
#include <string.h>

typedef struct name {
    char text[BORA_TENSOR_NAME_MAX + 1];
} name;

/* Shapes are written [outermost, .., innermost], as in the headers. */
static void shape_text(const uint64_t *shape, uint32_t n_dims, char *text, size_t size)
{
    size_t n = 0;
    for (uint32_t i = 0; i < n_dims && n < size; i++) {
        int got = snprintf(text + n, size - n, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
        n += got > 0 ? (size_t)got : size;
    }
}

/* A leading dimension of 1 does not matter: [1, dim] is [dim]. */
static bool shape_equal(const bora_tensor_info *info, const uint64_t *shape, uint32_t n_dims)
{
    const uint64_t *a = info->shape, *b = shape;
    uint32_t n_a = info->n_dims, n_b = n_dims;
    for (; n_a > 1 && *a == 1; a++)
        n_a--;
    for (; n_b > 1 && *b == 1; b++)
        n_b--;
    return n_a == n_b && memcmp(a, b, n_a * sizeof *a) == 0;
}

static bora_status shape_check(const bora_tensor_info *info, const uint64_t *shape, uint32_t n_dims, bora_error *err)
{
    if (shape_equal(info, shape, n_dims))
        return BORA_OK;
    char found[96], expected[96];
    shape_text(info->shape, info->n_dims, found, sizeof found);
    shape_text(shape, n_dims, expected, sizeof expected);
    return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is [%s], expected [%s]", info->name, found, expected);
}

static bora_status missing(const char *name_text, bora_error *err)
{
    return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is missing", name_text);
}

/* The view of rows [first, first + n_rows) of an entry whose shape has been checked. */
static bora_tensor view(const bora_model_entry *entry, uint64_t first, uint64_t n_rows, uint64_t n_cols)
{
    size_t row_size = 0;
    (void)bora_block_row_size(entry->info.dtype, n_cols, &row_size); /* it was computed when the entry was added */
    return (bora_tensor){.data = entry->data + first * row_size,
                         .row_size = row_size,
                         .n_rows = n_rows,
                         .n_cols = n_cols,
                         .dtype = entry->info.dtype};
}

static bora_status take(bora_model *model, const char *name_text, uint64_t n_rows, uint64_t n_cols,
                        bora_tensor *ret_tensor, bora_error *err)
{
    bora_model_entry *entry = bora_model_entries_find(model, name_text);
    if (!entry)
        return missing(name_text, err);
    const uint64_t shape[] = {n_rows, n_cols};
    uint32_t skip = n_rows == 1; /* a norm is written [dim] */
    bora_status st = shape_check(&entry->info, shape + skip, 2 - skip, err);
    if (st != BORA_OK)
        return st;
    entry->used = true;
    *ret_tensor = view(entry, 0, n_rows, n_cols);
    return BORA_OK;
}

static name layer_name(const bora_tensor_names *names, uint32_t layer, const char *text)
{
    name full;
    (void)snprintf(full.text, sizeof full.text, "%s%u.%s", names->layer_prefix, layer, text);
    return full;
}

static name expert_name(const bora_tensor_names *names, uint32_t layer, const char *prefix, uint32_t expert,
                        const char *suffix)
{
    name full;
    (void)snprintf(full.text, sizeof full.text, "%s%u.%s%u%s", names->layer_prefix, layer, prefix, expert, suffix);
    return full;
}

/* w1 and w3 are [hidden_dim, dim], w2 is the other way round. */
static void expert_shape(const bora_hparams *h, uint32_t which, uint64_t *ret_rows, uint64_t *ret_cols)
{
    *ret_rows = which == 1 ? h->dim : h->hidden_dim;
    *ret_cols = which == 1 ? h->hidden_dim : h->dim;
}

static bora_status merged_take(bora_model *model, const char *name_text, uint32_t which, bora_tensor *ret_experts,
                               bora_error *err)
{
    const bora_hparams *h = &model->hparams;
    bora_model_entry *entry = bora_model_entries_find(model, name_text);
    if (!entry)
        return missing(name_text, err);
    uint64_t shape[3] = {h->n_experts};
    expert_shape(h, which, &shape[1], &shape[2]);
    bora_status st = shape_check(&entry->info, shape, 3, err);
    if (st != BORA_OK)
        return st;
    entry->used = true;
    for (uint32_t e = 0; e < h->n_experts; e++)
        ret_experts[e] = view(entry, e * shape[1], shape[1], shape[2]);
    return BORA_OK;
}

static bora_status mixture_take(bora_model *model, const bora_tensor_names *names, uint32_t layer, uint32_t form,
                                uint32_t which, bora_tensor *ret_experts, bora_error *err)
{
    const bora_hparams *h = &model->hparams;
    const char *merged = names->mixture[form].merged[which];
    const char *prefix = names->mixture[form].expert_prefix[which];
    const char *suffix = names->mixture[form].expert_suffix[which];
    bool any_single = false; /* the first may be the one that is missing */
    for (uint32_t e = 0; e < 2; e++)
        any_single |= bora_model_entries_find(model, expert_name(names, layer, prefix, e, suffix).text) != NULL;
    /* Missing altogether is reported under the merged name, which current files use. */
    if (merged && (bora_model_entries_find(model, layer_name(names, layer, merged).text) || !any_single))
        return merged_take(model, layer_name(names, layer, merged).text, which, ret_experts, err);
    uint64_t n_rows, n_cols;
    expert_shape(h, which, &n_rows, &n_cols);
    for (uint32_t e = 0; e < h->n_experts; e++) {
        bora_status st =
            take(model, expert_name(names, layer, prefix, e, suffix).text, n_rows, n_cols, &ret_experts[e], err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

static bora_status experts_take(bora_model *model, const bora_tensor_names *names, uint32_t layer,
                                bora_layer_weights *weights, bora_error *err)
{
    const bora_hparams *h = &model->hparams;
    bool dense = h->n_experts == 1;
    uint32_t form = 0;
    bora_status st;
    if (!dense) {
        const char *other = names->mixture[1].router;
        if (other && bora_model_entries_find(model, layer_name(names, layer, other).text))
            form = 1;
        st = take(model, layer_name(names, layer, names->mixture[form].router).text, h->n_experts, h->dim,
                  &weights->router, err);
        if (st != BORA_OK)
            return st;
    }
    const bora_tensor **targets[3] = {&weights->w1, &weights->w2, &weights->w3};
    for (uint32_t which = 0; which < 3; which++) {
        bora_tensor *experts = bora_arena_alloc(&model->arena, h->n_experts, sizeof(bora_tensor));
        if (!experts)
            return bora_fail(err, BORA_E_NOMEM, "experts of layer %u", layer);
        uint64_t n_rows, n_cols;
        expert_shape(h, which, &n_rows, &n_cols);
        if (dense)
            st = take(model, layer_name(names, layer, names->dense[which]).text, n_rows, n_cols, experts, err);
        else
            st = mixture_take(model, names, layer, form, which, experts, err);
        if (st != BORA_OK)
            return st;
        *targets[which] = experts;
    }
    return BORA_OK;
}

static bora_status layer_take(bora_model *model, const bora_tensor_names *names, uint32_t layer, bora_error *err)
{
    const bora_hparams *h = &model->hparams;
    bora_layer_weights *weights = &model->layers[layer];
    const uint32_t q_dim = h->n_heads * h->head_dim, kv_dim = h->n_kv_heads * h->head_dim;
    const struct {
        const char *name;
        uint32_t n_rows, n_cols;
        bora_tensor *target;
    } wanted[] = {
        {names->attention_norm, 1, h->dim, &weights->attention_norm},
        {names->wq, q_dim, h->dim, &weights->wq},
        {names->wk, kv_dim, h->dim, &weights->wk},
        {names->wv, kv_dim, h->dim, &weights->wv},
        {names->wo, h->dim, q_dim, &weights->wo},
        {names->ffn_norm, 1, h->dim, &weights->ffn_norm},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wanted); i++) {
        bora_status st = take(model, layer_name(names, layer, wanted[i].name).text, wanted[i].n_rows, wanted[i].n_cols,
                              wanted[i].target, err);
        if (st != BORA_OK)
            return st;
    }
    return experts_take(model, names, layer, weights, err);
}

static bool is_ignored(const bora_tensor_names *names, const char *name_text)
{
    size_t n = strlen(name_text);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names->ignored); i++) {
        size_t n_end = names->ignored[i] ? strlen(names->ignored[i]) : 0;
        if (n_end && n >= n_end && strcmp(name_text + n - n_end, names->ignored[i]) == 0)
            return true;
    }
    return false;
}

bora_status bora_model_weights(bora_model *model, const bora_tensor_names *names, bora_error *err)
{
    const bora_hparams *h = &model->hparams;
    bora_status st;
    if ((st = take(model, names->embeddings, h->vocab_size, h->dim, &model->embeddings, err)) != BORA_OK ||
        (st = take(model, names->norm, 1, h->dim, &model->norm, err)) != BORA_OK)
        return st;
    if (!bora_model_entries_find(model, names->output))
        model->output = model->embeddings; /* tied */
    else if ((st = take(model, names->output, h->vocab_size, h->dim, &model->output, err)) != BORA_OK)
        return st;
    bora_layer_weights *layers = bora_arena_alloc(&model->arena, h->n_layers, sizeof *layers);
    if (!layers)
        return bora_fail(err, BORA_E_NOMEM, "%u layers", h->n_layers);
    model->layers = layers;
    for (uint32_t layer = 0; layer < h->n_layers; layer++)
        if ((st = layer_take(model, names, layer, err)) != BORA_OK)
            return st;
    for (size_t i = 0; i < model->n_entries; i++)
        if (!model->entries[i].used && !is_ignored(names, model->entries[i].info.name))
            return bora_fail(err, BORA_E_UNSUPPORTED, "tensor '%s' has no place in this architecture",
                             model->entries[i].info.name);
    return BORA_OK;
}
