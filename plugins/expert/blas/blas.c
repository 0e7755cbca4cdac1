/* expert-blas: the feed-forward blocks as matrix products of OpenBLAS, for every weight type.
 *
 *   gather  tokens are grouped by expert and their rows of x copied together
 *   hidden  per tile of rows of w1_e and w3_e: weights to f32, two products, h[pair, row] = silu(w1 x) * (w3 x)
 *   output  per tile of rows of w2: experts ascending, one product each, y[token, row] += weight * result
 *
 * A pair is one (token, expert) choice. A token's experts are added in ascending order, so the order does not hang on
 * the threads; but OpenBLAS sums one row differently from a block of rows, so this plugin does not promise a result
 * that is independent of the other tokens. Tiles run side by side on the host's threads, each calling OpenBLAS for
 * itself. */
#include <bora/plugin.h>

#include <cblas.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TILE_ROWS_DEFAULT 64u
#define TILE_ROWS_MAX     4096u

/* One choice of the router. */
typedef struct pair {
    uint32_t token;
    float weight;
} pair;

typedef struct tensors {
    bora_tensor w1, w2, w3;
} tensors;

struct bora_expert {
    const bora_host *host;
    bora_expert_shape shape;
    uint32_t tile_rows;
    tensors *tensors;     /* [n_layers, n_experts] */
    bool *prepared;       /* [n_layers] */
    pair *pairs;          /* [max_tokens * n_experts_per_tok], grouped by expert, tokens ascending */
    uint32_t *first_pair; /* [n_experts + 1]: expert e has pairs first_pair[e] .. first_pair[e + 1] - 1 */
    uint32_t *active;     /* [n_experts]: the experts that have pairs, ascending */
    float *gathered;      /* [pairs, dim]: the rows of x, in the order of pairs */
    float *hidden;        /* [pairs, hidden_dim] */
    float *tiles;         /* [n_threads, tile_size]: weights as f32 */
    float *products;      /* [n_threads, products_size] */
    size_t tile_size;     /* floats: [tile_rows, the larger of dim and hidden_dim] */
    size_t products_size; /* floats: [pairs, tile_rows] */
};

typedef struct forward_args {
    const bora_expert *expert;
    const tensors *tensors; /* [n_experts] of the layer */
    float *y;               /* [n_tokens, dim] */
    uint32_t n_tokens, n_active;
} forward_args;

static uint32_t n_tiles(uint32_t n_rows, uint32_t tile_rows)
{
    return (n_rows - 1) / tile_rows + 1;
}

/* c [m, n] = a [m, k] b[n, k]^T; rows of c are c_stride apart. All sizes were checked to fit an int. */
static void product(uint32_t m, uint32_t n, uint32_t k, const float *a, const float *b, float *c, uint32_t c_stride)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1, a, (int)k, b, (int)k, 0, c,
                (int)c_stride);
}

/* Items: active expert after active expert, tile after tile of its hidden rows. */
static void hidden_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const forward_args *args = arg;
    const bora_expert *expert = args->expert;
    const bora_expert_shape *shape = &expert->shape;
    const uint32_t n_expert_tiles = n_tiles(shape->hidden_dim, expert->tile_rows);
    float *tile = expert->tiles + worker * expert->tile_size;
    float *up = expert->products + worker * expert->products_size;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t e = expert->active[item / n_expert_tiles], row = item % n_expert_tiles * expert->tile_rows;
        uint32_t n = shape->hidden_dim - row < expert->tile_rows ? shape->hidden_dim - row : expert->tile_rows;
        uint32_t first = expert->first_pair[e], m = expert->first_pair[e + 1] - first;
        const float *x = expert->gathered + (size_t)first * shape->dim;
        float *hidden = expert->hidden + (size_t)first * shape->hidden_dim + row;
        expert->host->dequantize(expert->host, &args->tensors[e].w1, row, n, tile);
        product(m, n, shape->dim, x, tile, hidden, shape->hidden_dim);
        expert->host->dequantize(expert->host, &args->tensors[e].w3, row, n, tile);
        product(m, n, shape->dim, x, tile, up, n);
        for (uint32_t p = 0; p < m; p++) {
            float *h = hidden + (size_t)p * shape->hidden_dim;
            for (uint32_t i = 0; i < n; i++)
                h[i] = h[i] / (1 + expf(-h[i])) * up[(size_t)p * n + i];
        }
    }
}

/* Items: tiles of rows of y, which belong to one worker whatever the expert. */
static void output_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const forward_args *args = arg;
    const bora_expert *expert = args->expert;
    const bora_expert_shape *shape = &expert->shape;
    float *tile = expert->tiles + worker * expert->tile_size;
    float *down = expert->products + worker * expert->products_size;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t row = item * expert->tile_rows;
        uint32_t n = shape->dim - row < expert->tile_rows ? shape->dim - row : expert->tile_rows;
        for (uint32_t t = 0; t < args->n_tokens; t++)
            memset(args->y + (size_t)t * shape->dim + row, 0, n * sizeof *args->y);
        for (uint32_t a = 0; a < args->n_active; a++) {
            uint32_t e = expert->active[a], first = expert->first_pair[e], m = expert->first_pair[e + 1] - first;
            expert->host->dequantize(expert->host, &args->tensors[e].w2, row, n, tile);
            product(m, n, shape->hidden_dim, expert->hidden + (size_t)first * shape->hidden_dim, tile, down, n);
            for (uint32_t p = 0; p < m; p++) {
                pair choice = expert->pairs[first + p];
                float *y = args->y + (size_t)choice.token * shape->dim + row;
                for (uint32_t i = 0; i < n; i++)
                    y[i] += choice.weight * down[(size_t)p * n + i];
            }
        }
    }
}

/* Groups the router's choices by expert (a counting sort). Returns how many experts were chosen, 0 when a choice is out
 * of range. */
static uint32_t group_pairs(bora_expert *expert, uint32_t n_tokens, const bora_routing *routing)
{
    const bora_expert_shape *shape = &expert->shape;
    uint32_t n = n_tokens * shape->n_experts_per_tok; /* <= max_tokens * ..., checked in create */
    uint32_t *first = expert->first_pair;
    memset(first, 0, ((size_t)shape->n_experts + 1) * sizeof *first);
    for (uint32_t i = 0; i < n; i++) {
        if (routing->experts[i] < 0 || (uint32_t)routing->experts[i] >= shape->n_experts)
            return 0;
        first[routing->experts[i] + 1]++;
    }
    uint32_t n_active = 0;
    for (uint32_t e = 0; e < shape->n_experts; e++) {
        if (first[e + 1])
            expert->active[n_active++] = e;
        first[e + 1] += first[e];
    }
    for (uint32_t i = 0; i < n; i++)
        expert->pairs[first[routing->experts[i]]++] =
            (pair){.token = i / shape->n_experts_per_tok, .weight = routing->weights[i]};
    for (uint32_t e = shape->n_experts; e > 0; e--) /* each start has moved on to its end: back by one place */
        first[e] = first[e - 1];
    first[0] = 0;
    return n_active;
}

static bora_status blas_forward(bora_expert *expert, uint32_t layer, uint32_t n_tokens, const float *x, float *y,
                                const bora_routing *routing, bora_error *err)
{
    const bora_expert_shape *shape = &expert->shape;
    if (layer >= shape->n_layers || !expert->prepared[layer])
        return bora_fail(err, BORA_E_INVAL, "blas: layer %u was not prepared", layer);
    if (n_tokens > shape->max_tokens)
        return bora_fail(err, BORA_E_INVAL, "blas: %u tokens, at most %u were announced", n_tokens, shape->max_tokens);
    if (n_tokens == 0)
        return BORA_OK;
    forward_args args = {
        .expert = expert,
        .tensors = expert->tensors + (size_t)layer * shape->n_experts,
        .y = y,
        .n_tokens = n_tokens,
        .n_active = group_pairs(expert, n_tokens, routing),
    };
    if (!args.n_active)
        return bora_fail(err, BORA_E_INVAL, "blas: the routing names an expert that does not exist");
    for (uint32_t p = 0; p < n_tokens * shape->n_experts_per_tok; p++)
        memcpy(expert->gathered + (size_t)p * shape->dim, x + (size_t)expert->pairs[p].token * shape->dim,
               shape->dim * sizeof *x);
    const bora_host *host = expert->host;
    host->parallel_for(host, args.n_active * n_tiles(shape->hidden_dim, expert->tile_rows), hidden_items, &args);
    host->parallel_for(host, n_tiles(shape->dim, expert->tile_rows), output_items, &args);
    return BORA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bora_status check_tensor(const bora_tensor *w, uint32_t n_rows, uint32_t n_cols, const char *name, uint32_t e,
                                bora_error *err)
{
    if (!w->data || w->n_rows != n_rows || w->n_cols != n_cols)
        return bora_fail(err, BORA_E_INVAL, "blas: %s of expert %u is not [%u, %u]", name, e, n_rows, n_cols);
    if (w->dtype >= BORA_DTYPE_COUNT)
        return bora_fail(err, BORA_E_UNSUPPORTED, "blas: %s of expert %u has element type %u", name, e, w->dtype);
    return BORA_OK;
}

static bora_status blas_prepare(bora_expert *expert, uint32_t layer, const bora_expert_weights *weights,
                                bora_error *err)
{
    const bora_expert_shape *shape = &expert->shape;
    if (layer >= shape->n_layers)
        return bora_fail(err, BORA_E_INVAL, "blas: there is no layer %u", layer);
    for (uint32_t e = 0; e < shape->n_experts; e++) {
        bora_status status = check_tensor(&weights->w1[e], shape->hidden_dim, shape->dim, "w1", e, err);
        if (status == BORA_OK)
            status = check_tensor(&weights->w2[e], shape->dim, shape->hidden_dim, "w2", e, err);
        if (status == BORA_OK)
            status = check_tensor(&weights->w3[e], shape->hidden_dim, shape->dim, "w3", e, err);
        if (status != BORA_OK)
            return status;
        expert->tensors[(size_t)layer * shape->n_experts + e] =
            (tensors){.w1 = weights->w1[e], .w2 = weights->w2[e], .w3 = weights->w3[e]};
    }
    expert->prepared[layer] = true;
    return BORA_OK;
}

static void blas_destroy(bora_expert *expert)
{
    if (!expert)
        return;
    const bora_host *host = expert->host;
    host->free(host, expert->tensors);
    host->free(host, expert->prepared);
    host->free(host, expert->pairs);
    host->free(host, expert->first_pair);
    host->free(host, expert->active);
    host->free(host, expert->gathered);
    host->free(host, expert->hidden);
    host->free(host, expert->tiles);
    host->free(host, expert->products);
    host->free(host, expert);
}

static bora_status read_options(const bora_host *host, uint32_t *ret_tile_rows, bora_error *err)
{
    const char *text = host->option(host, "tile_rows");
    *ret_tile_rows = TILE_ROWS_DEFAULT;
    if (!text)
        return BORA_OK;
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || value < 1 || value > TILE_ROWS_MAX)
        return bora_fail(err, BORA_E_INVAL, "blas: tile_rows = '%.32s': a number from 1 to %u is needed", text,
                         TILE_ROWS_MAX);
    *ret_tile_rows = (uint32_t)value;
    return BORA_OK;
}

/* n_a * n_b elements, not cleared; NULL when there is no memory or the product overflows. */
static void *alloc_array(const bora_host *host, size_t n_a, size_t n_b, size_t element_size)
{
    size_t size;
    if (__builtin_mul_overflow(n_a, n_b, &size) || __builtin_mul_overflow(size, element_size, &size))
        return NULL;
    return host->alloc(host, size);
}

static bora_status blas_create(const bora_host *host, const bora_expert_shape *shape, bora_expert **ret_expert,
                               bora_error *err)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "blas: the shape has %u bytes, %zu are needed", shape->struct_size,
                         sizeof *shape);
    uint32_t tile_rows;
    bora_status status = read_options(host, &tile_rows, err);
    if (status != BORA_OK)
        return status;
    if (shape->n_layers == 0 || shape->n_experts == 0 || shape->n_experts_per_tok == 0 || shape->dim == 0 ||
        shape->hidden_dim == 0 || shape->n_experts_per_tok > shape->n_experts)
        return bora_fail(err, BORA_E_INVAL, "blas: %u of %u experts, [%u, %u], %u layers", shape->n_experts_per_tok,
                         shape->n_experts, shape->hidden_dim, shape->dim, shape->n_layers);
    uint32_t n_pairs, n_items;
    if (__builtin_mul_overflow(shape->max_tokens, shape->n_experts_per_tok, &n_pairs) || n_pairs > INT_MAX ||
        __builtin_mul_overflow(shape->n_experts, shape->hidden_dim, &n_items) || shape->n_experts == UINT32_MAX ||
        shape->dim > INT_MAX || shape->hidden_dim > INT_MAX)
        return bora_fail(err, BORA_E_LIMIT, "blas: %u tokens, %u experts [%u, %u]: more than OpenBLAS can count",
                         shape->max_tokens, shape->n_experts, shape->hidden_dim, shape->dim);
    bora_expert *expert = host->alloc(host, sizeof *expert);
    if (!expert)
        return bora_fail(err, BORA_E_NOMEM, "blas: the instance");
    uint32_t widest = shape->dim > shape->hidden_dim ? shape->dim : shape->hidden_dim;
    *expert = (bora_expert){
        .host = host,
        .shape = *shape,
        .tile_rows = tile_rows,
        .tile_size = (size_t)tile_rows * widest,
        .products_size = (size_t)tile_rows * n_pairs,
    };
    expert->tensors = alloc_array(host, shape->n_layers, shape->n_experts, sizeof *expert->tensors);
    expert->prepared = alloc_array(host, shape->n_layers, 1, sizeof *expert->prepared);
    expert->pairs = alloc_array(host, n_pairs, 1, sizeof *expert->pairs);
    expert->first_pair = alloc_array(host, (size_t)shape->n_experts + 1, 1, sizeof *expert->first_pair);
    expert->active = alloc_array(host, shape->n_experts, 1, sizeof *expert->active);
    expert->gathered = alloc_array(host, n_pairs, shape->dim, sizeof *expert->gathered);
    expert->hidden = alloc_array(host, n_pairs, shape->hidden_dim, sizeof *expert->hidden);
    expert->tiles = alloc_array(host, host->n_threads(host), expert->tile_size, sizeof *expert->tiles);
    expert->products = alloc_array(host, host->n_threads(host), expert->products_size, sizeof *expert->products);
    if (!expert->tensors || !expert->prepared || !expert->pairs || !expert->first_pair || !expert->active ||
        !expert->gathered || !expert->hidden || !expert->tiles || !expert->products) {
        blas_destroy(expert);
        return bora_fail(err, BORA_E_NOMEM, "blas: room for %u tokens", shape->max_tokens);
    }
    memset(expert->prepared, 0, shape->n_layers * sizeof *expert->prepared);
    *ret_expert = expert;
    return BORA_OK;
}

static const bora_expert_ops blas_ops = {
    .struct_size = sizeof(bora_expert_ops),
    .dtypes = BORA_DTYPE_BITS_ALL,
    .create = blas_create,
    .destroy = blas_destroy,
    .prepare = blas_prepare,
    .forward = blas_forward,
};

static const bora_plugin blas_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_EXPERT,
    .flags = 0,
    .name = "blas",
    .version = "1.0",
    .ops = &blas_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &blas_plugin;
}
