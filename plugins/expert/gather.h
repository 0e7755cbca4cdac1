/* What expert plugins share: the weights of the stage's layers as they were prepared, and the grouping of a call's
 * tokens by expert, so that each expert's weights are gone through once. Only the SDK is needed. */
#ifndef BORA_EXPERT_GATHER_H
#define BORA_EXPERT_GATHER_H

#include <bora/plugin.h>

#include <stdbool.h>
#include <string.h>

/* One choice of the router. */
typedef struct gather_pair {
    uint32_t token;
    float weight;
} gather_pair;

typedef struct gather_weights {
    bora_tensor w1, w2, w3;
} gather_weights;

typedef struct gather {
    const bora_host *host;
    const char *name; /* of the plugin, in messages */
    bora_expert_shape shape;
    gather_weights *weights; /* [n_layers, n_experts] */
    bool *prepared;          /* [n_layers] */
    /* Of the call: */
    gather_pair *pairs;   /* [max_tokens * n_experts_per_tok], grouped by expert, tokens ascending */
    uint32_t *first_pair; /* [n_experts + 1]: expert e has pairs first_pair[e] .. first_pair[e + 1] - 1 */
    uint32_t *active;     /* [n_experts]: the experts that have pairs, ascending */
} gather;

/* n_a * n_b elements, not cleared; NULL when there is no memory or the product overflows. */
static inline void *gather_alloc(const bora_host *host, size_t n_a, size_t n_b, size_t element_size)
{
    size_t size;
    if (__builtin_mul_overflow(n_a, n_b, &size) || __builtin_mul_overflow(size, element_size, &size))
        return NULL;
    return host->alloc(host, size);
}

/* Afterwards the sizes are not zero, and *ret_n_pairs = max_tokens * n_experts_per_tok, n_experts + 1 and n_experts *
 * hidden_dim fit their 32 bits. */
static inline bora_status gather_check_shape(const char *name, const bora_expert_shape *shape, uint32_t *ret_n_pairs,
                                             bora_error *err)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "%s: the shape has %u bytes, %zu are needed", name, shape->struct_size,
                         sizeof *shape);
    if (shape->n_layers == 0 || shape->n_experts == 0 || shape->n_experts_per_tok == 0 || shape->dim == 0 ||
        shape->hidden_dim == 0 || shape->n_experts_per_tok > shape->n_experts)
        return bora_fail(err, BORA_E_INVAL, "%s: %u of %u experts, [%u, %u], %u layers", name, shape->n_experts_per_tok,
                         shape->n_experts, shape->hidden_dim, shape->dim, shape->n_layers);
    uint32_t n_rows;
    if (__builtin_mul_overflow(shape->max_tokens, shape->n_experts_per_tok, ret_n_pairs) ||
        __builtin_mul_overflow(shape->n_experts, shape->hidden_dim, &n_rows) || shape->n_experts == UINT32_MAX)
        return bora_fail(err, BORA_E_LIMIT, "%s: %u tokens, %u experts: too many", name, shape->max_tokens,
                         shape->n_experts);
    return BORA_OK;
}

/* Also after a gather_init that failed. */
static inline void gather_release(gather *g)
{
    g->host->free(g->host, g->weights);
    g->host->free(g->host, g->prepared);
    g->host->free(g->host, g->pairs);
    g->host->free(g->host, g->first_pair);
    g->host->free(g->host, g->active);
}

/* A shape that gather_check_shape let through. name: of the plugin, static. False when there is no memory. */
static inline bool gather_init(gather *g, const bora_host *host, const char *name, const bora_expert_shape *shape)
{
    const size_t n_pairs = (size_t)shape->max_tokens * shape->n_experts_per_tok;
    memset(g, 0, sizeof *g);
    g->host = host;
    g->name = name;
    g->shape = *shape;
    g->weights = (gather_weights *)gather_alloc(host, shape->n_layers, shape->n_experts, sizeof *g->weights);
    g->prepared = (bool *)gather_alloc(host, shape->n_layers, 1, sizeof *g->prepared);
    g->pairs = (gather_pair *)gather_alloc(host, n_pairs, 1, sizeof *g->pairs);
    g->first_pair = (uint32_t *)gather_alloc(host, (size_t)shape->n_experts + 1, 1, sizeof *g->first_pair);
    g->active = (uint32_t *)gather_alloc(host, shape->n_experts, 1, sizeof *g->active);
    if (!g->weights || !g->prepared || !g->pairs || !g->first_pair || !g->active)
        return false;
    memset(g->prepared, 0, shape->n_layers * sizeof *g->prepared);
    return true;
}

static inline bora_status gather_check_tensor(const gather *g, const bora_tensor *w, uint32_t n_rows, uint32_t n_cols,
                                              const char *which, uint32_t e, bora_error *err)
{
    if (!w->data || w->n_rows != n_rows || w->n_cols != n_cols)
        return bora_fail(err, BORA_E_INVAL, "%s: %s of expert %u is not [%u, %u]", g->name, which, e, n_rows, n_cols);
    if (w->dtype >= BORA_DTYPE_COUNT)
        return bora_fail(err, BORA_E_UNSUPPORTED, "%s: %s of expert %u has element type %u", g->name, which, e,
                         w->dtype);
    return BORA_OK;
}

/* The operation of that name. */
static inline bora_status gather_prepare(gather *g, uint32_t layer, const bora_expert_weights *weights, bora_error *err)
{
    const bora_expert_shape *shape = &g->shape;
    if (layer >= shape->n_layers)
        return bora_fail(err, BORA_E_INVAL, "%s: there is no layer %u", g->name, layer);
    for (uint32_t e = 0; e < shape->n_experts; e++) {
        const gather_weights w = {weights->w1[e], weights->w2[e], weights->w3[e]};
        bora_status status = gather_check_tensor(g, &w.w1, shape->hidden_dim, shape->dim, "w1", e, err);
        if (status == BORA_OK)
            status = gather_check_tensor(g, &w.w2, shape->dim, shape->hidden_dim, "w2", e, err);
        if (status == BORA_OK)
            status = gather_check_tensor(g, &w.w3, shape->hidden_dim, shape->dim, "w3", e, err);
        if (status != BORA_OK)
            return status;
        g->weights[(size_t)layer * shape->n_experts + e] = w;
    }
    g->prepared[layer] = true;
    return BORA_OK;
}

/* Groups the router's choices by expert (a counting sort): fills pairs, first_pair and active. Returns how many experts
 * were chosen, 0 when a choice is out of range. */
static inline uint32_t gather_group(gather *g, uint32_t n_tokens, const bora_routing *routing)
{
    const bora_expert_shape *shape = &g->shape;
    const uint32_t n = n_tokens * shape->n_experts_per_tok; /* <= max_tokens * ..., checked at the start */
    uint32_t *first = g->first_pair;
    memset(first, 0, ((size_t)shape->n_experts + 1) * sizeof *first);
    for (uint32_t i = 0; i < n; i++) {
        if (routing->experts[i] < 0 || (uint32_t)routing->experts[i] >= shape->n_experts)
            return 0;
        first[routing->experts[i] + 1]++;
    }
    uint32_t n_active = 0;
    for (uint32_t e = 0; e < shape->n_experts; e++) {
        if (first[e + 1])
            g->active[n_active++] = e;
        first[e + 1] += first[e];
    }
    for (uint32_t i = 0; i < n; i++) {
        gather_pair *pair = &g->pairs[first[routing->experts[i]]++];
        pair->token = i / shape->n_experts_per_tok;
        pair->weight = routing->weights[i];
    }
    for (uint32_t e = shape->n_experts; e > 0; e--) /* each start has moved on to its end: back by one place */
        first[e] = first[e - 1];
    first[0] = 0;
    return n_active;
}

/* The beginning of forward: checks the call and groups its tokens. *ret_n_active: how many of active are valid; 0 when
 * there are no tokens and so nothing to do. */
static inline bora_status gather_call(gather *g, uint32_t layer, uint32_t n_tokens, const bora_routing *routing,
                                      uint32_t *ret_n_active, bora_error *err)
{
    if (layer >= g->shape.n_layers || !g->prepared[layer])
        return bora_fail(err, BORA_E_INVAL, "%s: layer %u was not prepared", g->name, layer);
    if (n_tokens > g->shape.max_tokens)
        return bora_fail(err, BORA_E_INVAL, "%s: %u tokens, at most %u were announced", g->name, n_tokens,
                         g->shape.max_tokens);
    const uint32_t n_active = n_tokens ? gather_group(g, n_tokens, routing) : 0;
    if (n_tokens && !n_active)
        return bora_fail(err, BORA_E_INVAL, "%s: the routing names an expert that does not exist", g->name);
    *ret_n_active = n_active;
    return BORA_OK;
}

/* The weights of a layer's experts: [n_experts]. */
static inline const gather_weights *gather_layer(const gather *g, uint32_t layer)
{
    return g->weights + (size_t)layer * g->shape.n_experts;
}

#endif
