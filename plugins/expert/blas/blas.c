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
#include "../gather.h"

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

struct bora_expert {
    gather gather;
    uint32_t tile_rows;
    float *gathered;      /* [pairs, dim]: the rows of x, in the order of pairs */
    float *hidden;        /* [pairs, hidden_dim] */
    float *tiles;         /* [n_threads, tile_size]: weights as f32 */
    float *products;      /* [n_threads, products_size] */
    size_t tile_size;     /* floats: [tile_rows, the larger of dim and hidden_dim] */
    size_t products_size; /* floats: [pairs, tile_rows] */
};

typedef struct forward_args {
    const bora_expert *expert;
    const gather_weights *weights; /* [n_experts] of the layer */
    float *y;                      /* [n_tokens, dim] */
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
    const gather *g = &expert->gather;
    const bora_expert_shape *shape = &g->shape;
    const uint32_t n_expert_tiles = n_tiles(shape->hidden_dim, expert->tile_rows);
    float *tile = expert->tiles + worker * expert->tile_size;
    float *up = expert->products + worker * expert->products_size;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t e = g->active[item / n_expert_tiles], row = item % n_expert_tiles * expert->tile_rows;
        uint32_t n = shape->hidden_dim - row < expert->tile_rows ? shape->hidden_dim - row : expert->tile_rows;
        uint32_t first = g->first_pair[e], m = g->first_pair[e + 1] - first;
        const float *x = expert->gathered + (size_t)first * shape->dim;
        float *hidden = expert->hidden + (size_t)first * shape->hidden_dim + row;
        g->host->dequantize(g->host, &args->weights[e].w1, row, n, tile);
        product(m, n, shape->dim, x, tile, hidden, shape->hidden_dim);
        g->host->dequantize(g->host, &args->weights[e].w3, row, n, tile);
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
    const gather *g = &expert->gather;
    const bora_expert_shape *shape = &g->shape;
    float *tile = expert->tiles + worker * expert->tile_size;
    float *down = expert->products + worker * expert->products_size;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t row = item * expert->tile_rows;
        uint32_t n = shape->dim - row < expert->tile_rows ? shape->dim - row : expert->tile_rows;
        for (uint32_t t = 0; t < args->n_tokens; t++)
            memset(args->y + (size_t)t * shape->dim + row, 0, n * sizeof *args->y);
        for (uint32_t a = 0; a < args->n_active; a++) {
            uint32_t e = g->active[a], first = g->first_pair[e], m = g->first_pair[e + 1] - first;
            g->host->dequantize(g->host, &args->weights[e].w2, row, n, tile);
            product(m, n, shape->hidden_dim, expert->hidden + (size_t)first * shape->hidden_dim, tile, down, n);
            for (uint32_t p = 0; p < m; p++) {
                gather_pair choice = g->pairs[first + p];
                float *y = args->y + (size_t)choice.token * shape->dim + row;
                for (uint32_t i = 0; i < n; i++)
                    y[i] += choice.weight * down[(size_t)p * n + i];
            }
        }
    }
}

static bora_status blas_forward(bora_expert *expert, uint32_t layer, uint32_t n_tokens, const float *x, float *y,
                                const bora_routing *routing, bora_error *err)
{
    gather *g = &expert->gather;
    const bora_expert_shape *shape = &g->shape;
    uint32_t n_active = 0;
    bora_status status = gather_call(g, layer, n_tokens, routing, &n_active, err);
    if (status != BORA_OK || n_active == 0)
        return status;
    forward_args args = {
        .expert = expert,
        .weights = gather_layer(g, layer),
        .y = y,
        .n_tokens = n_tokens,
        .n_active = n_active,
    };
    for (uint32_t p = 0; p < n_tokens * shape->n_experts_per_tok; p++)
        memcpy(expert->gathered + (size_t)p * shape->dim, x + (size_t)g->pairs[p].token * shape->dim,
               shape->dim * sizeof *x);
    g->host->parallel_for(g->host, args.n_active * n_tiles(shape->hidden_dim, expert->tile_rows), hidden_items, &args);
    g->host->parallel_for(g->host, n_tiles(shape->dim, expert->tile_rows), output_items, &args);
    return BORA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bora_status blas_prepare(bora_expert *expert, uint32_t layer, const bora_expert_weights *weights,
                                bora_error *err)
{
    return gather_prepare(&expert->gather, layer, weights, err);
}

static void blas_destroy(bora_expert *expert)
{
    if (!expert)
        return;
    const bora_host *host = expert->gather.host;
    gather_release(&expert->gather);
    host->free(host, expert->gathered);
    host->free(host, expert->hidden);
    host->free(host, expert->tiles);
    host->free(host, expert->products);
    host->free(host, expert);
}

/* *ret_tile_rows stays as it is where the configuration says nothing. */
static bora_status read_options(const bora_host *host, uint32_t *ret_tile_rows, bora_error *err)
{
    const char *text = host->option(host, "tile_rows");
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

static bora_status blas_create(const bora_host *host, const bora_expert_shape *shape, bora_expert **ret_expert,
                               bora_error *err)
{
    uint32_t n_pairs = 0, tile_rows = TILE_ROWS_DEFAULT;
    bora_status status = gather_check_shape("blas", shape, &n_pairs, err);
    if (status == BORA_OK)
        status = read_options(host, &tile_rows, err);
    if (status != BORA_OK)
        return status;
    if (n_pairs > INT_MAX || shape->dim > INT_MAX || shape->hidden_dim > INT_MAX)
        return bora_fail(err, BORA_E_LIMIT, "blas: %u tokens, %u experts [%u, %u]: more than OpenBLAS can count",
                         shape->max_tokens, shape->n_experts, shape->hidden_dim, shape->dim);
    bora_expert *expert = host->alloc(host, sizeof *expert);
    if (!expert)
        return bora_fail(err, BORA_E_NOMEM, "blas: the instance");
    uint32_t widest = shape->dim > shape->hidden_dim ? shape->dim : shape->hidden_dim;
    *expert = (bora_expert){
        .tile_rows = tile_rows,
        .tile_size = (size_t)tile_rows * widest,
        .products_size = (size_t)tile_rows * n_pairs,
    };
    const bool gathers = gather_init(&expert->gather, host, "blas", shape);
    expert->gathered = gather_alloc(host, n_pairs, shape->dim, sizeof *expert->gathered);
    expert->hidden = gather_alloc(host, n_pairs, shape->hidden_dim, sizeof *expert->hidden);
    expert->tiles = gather_alloc(host, host->n_threads(host), expert->tile_size, sizeof *expert->tiles);
    expert->products = gather_alloc(host, host->n_threads(host), expert->products_size, sizeof *expert->products);
    if (!gathers || !expert->gathered || !expert->hidden || !expert->tiles || !expert->products) {
        blas_destroy(expert);
        return bora_fail(err, BORA_E_NOMEM, "blas: room for %u tokens", shape->max_tokens);
    }
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
