/* expert-reference: y = sum of weight_e * w2_e (silu(w1_e x) * (w3_e x)) over a token's experts e, in plain C for every
 * weight type.
 *
 *   route   tokens are grouped by expert, so that a tile of weights is made f32 once for all of its tokens
 *   hidden  per tile of rows of w1_e and w3_e: h[pair, row] = silu(w1 x) * (w3 x)
 *   output  per tile of rows of w2: experts ascending, y[token, row] += weight * (w2 h)
 *
 * A pair is one (token, expert) choice. Every element is one dot product of its own, summed in 16 lanes, and a token's
 * experts are added in ascending order: no other token, thread or tile size can change a bit of it. */
#include "../gather.h"

#include <bora/plugin.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* dot_rows is compiled for several processors and the best is picked when the plugin is loaded. The sums do not change
 * with it: the lanes are fixed and nothing is fused. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#define INLINE    static inline __attribute__((always_inline)) /* into each clone */

#define N_LANES   16u
#define N_ROWS    4u             /* rows that dot_rows takes at once; it is written for four */
#define TILE_SIZE (256u * 1024u) /* bytes of one tile of weights as f32, about: two stay in the second-level cache */

typedef float lanes __attribute__((vector_size(N_LANES * sizeof(float)))); /* 16 sums side by side */

struct bora_expert {
    gather gather;
    float *hidden;    /* [pairs, hidden_dim] */
    float *tiles;     /* [n_threads, tile_size] */
    size_t tile_size; /* floats: two tiles of the wider kind */
    uint32_t w13_tile_rows, w2_tile_rows;
};

/* ---- arithmetic ---------------------------------------------------------------------------------------- */

/* The lanes' sum, always in this order. */
INLINE float lanes_sum(const lanes *sums)
{
    float s[N_LANES];
    memcpy(s, sums, sizeof s);
    for (size_t width = N_LANES / 2; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            s[i] += s[i + width];
    return s[0];
}

typedef struct row_sums {
    lanes of[N_ROWS];
} row_sums;

/* Adds n products to the lanes of each row's sum: n is N_LANES but for the end of a row. */
INLINE void add_products(const float *w, size_t n_cols, const float *x, size_t n, row_sums *sums)
{
    lanes a = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};
    memcpy(&a, x, n * sizeof *x);
    memcpy(&b0, w, n * sizeof *w);
    memcpy(&b1, w + n_cols, n * sizeof *w);
    memcpy(&b2, w + 2 * n_cols, n * sizeof *w);
    memcpy(&b3, w + 3 * n_cols, n * sizeof *w);
    sums->of[0] += a * b0;
    sums->of[1] += a * b1;
    sums->of[2] += a * b2;
    sums->of[3] += a * b3;
}

/* The dot products of x[n_cols] with N_ROWS rows of w [N_ROWS, n_cols]: several of them only so that x is read once. */
CLONES static void dot_rows(const float *w, const float *x, size_t n_cols, float ret[N_ROWS])
{
    row_sums sums = {{{0}}};
    size_t i = 0;
    for (; i + N_LANES <= n_cols; i += N_LANES)
        add_products(w + i, n_cols, x + i, N_LANES, &sums);
    if (i < n_cols)
        add_products(w + i, n_cols, x + i, n_cols - i, &sums);
    for (size_t r = 0; r < N_ROWS; r++)
        ret[r] = lanes_sum(&sums.of[r]);
}

static float silu(float x)
{
    return x / (1 + expf(-x));
}

/* ---- the call ------------------------------------------------------------------------------------------ */

typedef struct forward_args {
    const bora_expert *expert;
    const gather_weights *weights; /* [n_experts] of the layer */
    const float *x;                /* [n_tokens, dim] */
    float *y;                      /* [n_tokens, dim] */
    uint32_t n_tokens, n_active;
} forward_args;

static uint32_t n_tiles(uint32_t n_rows, uint32_t tile_rows)
{
    return (n_rows - 1) / tile_rows + 1;
}

/* Rows first .. first+n-1 of w as f32; rows that fill up the last N_ROWS are zero, so that dot_rows may read them. */
static void load_tile(const bora_host *host, const bora_tensor *w, uint32_t first, uint32_t n, float *tile)
{
    host->dequantize(host, w, first, n, tile);
    uint32_t missing = (N_ROWS - n % N_ROWS) % N_ROWS;
    memset(tile + (size_t)n * w->n_cols, 0, missing * w->n_cols * sizeof *tile);
}

/* Items: active expert after active expert, tile after tile of its hidden rows. */
static void hidden_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const forward_args *args = arg;
    const bora_expert *expert = args->expert;
    const gather *g = &expert->gather;
    const bora_expert_shape *shape = &g->shape;
    const uint32_t tile_rows = expert->w13_tile_rows, n_expert_tiles = n_tiles(shape->hidden_dim, tile_rows);
    float *w1 = expert->tiles + worker * expert->tile_size, *w3 = w1 + expert->tile_size / 2;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t e = g->active[item / n_expert_tiles], first = item % n_expert_tiles * tile_rows;
        uint32_t n = shape->hidden_dim - first < tile_rows ? shape->hidden_dim - first : tile_rows;
        load_tile(g->host, &args->weights[e].w1, first, n, w1);
        load_tile(g->host, &args->weights[e].w3, first, n, w3);
        for (uint32_t p = g->first_pair[e]; p < g->first_pair[e + 1]; p++) {
            const float *x = args->x + (size_t)g->pairs[p].token * shape->dim;
            float *h = expert->hidden + (size_t)p * shape->hidden_dim + first;
            for (uint32_t r = 0; r < n; r += N_ROWS) {
                float gate[N_ROWS], up[N_ROWS];
                dot_rows(w1 + (size_t)r * shape->dim, x, shape->dim, gate);
                dot_rows(w3 + (size_t)r * shape->dim, x, shape->dim, up);
                for (uint32_t i = 0; i < N_ROWS && r + i < n; i++)
                    h[r + i] = silu(gate[i]) * up[i];
            }
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
    float *w2 = expert->tiles + worker * expert->tile_size;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t first = item * expert->w2_tile_rows;
        uint32_t n = shape->dim - first < expert->w2_tile_rows ? shape->dim - first : expert->w2_tile_rows;
        for (uint32_t t = 0; t < args->n_tokens; t++)
            memset(args->y + (size_t)t * shape->dim + first, 0, n * sizeof *args->y);
        for (uint32_t a = 0; a < args->n_active; a++) {
            uint32_t e = g->active[a];
            load_tile(g->host, &args->weights[e].w2, first, n, w2);
            for (uint32_t p = g->first_pair[e]; p < g->first_pair[e + 1]; p++) {
                const float *h = expert->hidden + (size_t)p * shape->hidden_dim;
                float *y = args->y + (size_t)g->pairs[p].token * shape->dim + first;
                for (uint32_t r = 0; r < n; r += N_ROWS) {
                    float down[N_ROWS];
                    dot_rows(w2 + (size_t)r * shape->hidden_dim, h, shape->hidden_dim, down);
                    for (uint32_t i = 0; i < N_ROWS && r + i < n; i++)
                        y[r + i] += g->pairs[p].weight * down[i];
                }
            }
        }
    }
}

static bora_status reference_forward(bora_expert *expert, uint32_t layer, uint32_t n_tokens, const float *x, float *y,
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
        .x = x,
        .y = y,
        .n_tokens = n_tokens,
        .n_active = n_active,
    };
    g->host->parallel_for(g->host, args.n_active * n_tiles(shape->hidden_dim, expert->w13_tile_rows), hidden_items,
                          &args);
    g->host->parallel_for(g->host, n_tiles(shape->dim, expert->w2_tile_rows), output_items, &args);
    return BORA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bora_status reference_prepare(bora_expert *expert, uint32_t layer, const bora_expert_weights *weights,
                                     bora_error *err)
{
    return gather_prepare(&expert->gather, layer, weights, err);
}

static void reference_destroy(bora_expert *expert)
{
    if (!expert)
        return;
    const bora_host *host = expert->gather.host;
    gather_release(&expert->gather);
    host->free(host, expert->hidden);
    host->free(host, expert->tiles);
    host->free(host, expert);
}

/* As many rows as fit a tile, whole groups of N_ROWS; small layers are cut so that every thread gets work. */
static uint32_t choose_tile_rows(const bora_host *host, uint32_t n_rows, uint32_t n_cols)
{
    uint32_t fit = (uint32_t)(TILE_SIZE / sizeof(float) / n_cols);
    uint32_t share = (n_rows - 1) / (host->n_threads(host) * 4) + 1;
    uint32_t rows = share < fit ? share : fit;
    return rows > N_ROWS ? rows / N_ROWS * N_ROWS : N_ROWS;
}

static bora_status reference_create(const bora_host *host, const bora_expert_shape *shape, bora_expert **ret_expert,
                                    bora_error *err)
{
    uint32_t n_pairs = 0;
    bora_status status = gather_check_shape("reference", shape, &n_pairs, err);
    if (status != BORA_OK)
        return status;
    bora_expert *expert = host->alloc(host, sizeof *expert);
    if (!expert)
        return bora_fail(err, BORA_E_NOMEM, "reference: the instance");
    *expert = (bora_expert){
        .w13_tile_rows = choose_tile_rows(host, shape->hidden_dim, shape->dim),
        .w2_tile_rows = choose_tile_rows(host, shape->dim, shape->hidden_dim),
    };
    const bool gathers = gather_init(&expert->gather, host, "reference", shape);
    size_t w13_tile = (size_t)expert->w13_tile_rows * shape->dim,
           w2_tile = (size_t)expert->w2_tile_rows * shape->hidden_dim;
    expert->tile_size = w13_tile > w2_tile ? 2 * w13_tile : 2 * w2_tile; /* 2^33 * 4 at most */
    expert->hidden = gather_alloc(host, n_pairs, shape->hidden_dim, sizeof *expert->hidden);
    expert->tiles = gather_alloc(host, host->n_threads(host), expert->tile_size, sizeof *expert->tiles);
    if (!gathers || !expert->hidden || !expert->tiles) {
        reference_destroy(expert);
        return bora_fail(err, BORA_E_NOMEM, "reference: room for %u tokens", shape->max_tokens);
    }
    *ret_expert = expert;
    return BORA_OK;
}

static const bora_expert_ops reference_ops = {
    .struct_size = sizeof(bora_expert_ops),
    .dtypes = BORA_DTYPE_BITS_ALL,
    .create = reference_create,
    .destroy = reference_destroy,
    .prepare = reference_prepare,
    .forward = reference_forward,
};

static const bora_plugin reference_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_EXPERT,
    .flags = BORA_PLUGIN_BATCH_INVARIANT,
    .name = "reference",
    .version = "1.0",
    .ops = &reference_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &reference_plugin;
}
