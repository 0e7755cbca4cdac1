/* expert-reference: y = sum of weight_e * w2_e (silu(w1_e x) * (w3_e x)) over a token's experts e, in plain C for every
 * weight type.
 *
 *   route   tokens are grouped by expert, so that a tile of weights is made f32 once for all of its tokens
 *   hidden  per tile of rows of w1_e and w3_e: h[pair, row] = silu(w1 x) * (w3 x)
 *   output  per tile of rows of w2: experts ascending, y[token, row] += weight * (w2 h)
 *
 * A pair is one (token, expert) choice. Every element is one dot product of its own, summed in 16 lanes, and a token's
 * experts are added in ascending order: no other token, thread or tile size can change a bit of it. */
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
    tensors *tensors;     /* [n_layers, n_experts] */
    bool *prepared;       /* [n_layers] */
    pair *pairs;          /* [max_tokens * n_experts_per_tok], grouped by expert, tokens ascending */
    uint32_t *first_pair; /* [n_experts + 1]: expert e has pairs first_pair[e] .. first_pair[e + 1] - 1 */
    uint32_t *active;     /* [n_experts]: the experts that have pairs, ascending */
    float *hidden;        /* [pairs, hidden_dim] */
    float *tiles;         /* [n_threads, tile_size] */
    size_t tile_size;     /* floats: two tiles of the wider kind */
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
    const tensors *tensors; /* [n_experts] of the layer */
    const float *x;         /* [n_tokens, dim] */
    float *y;               /* [n_tokens, dim] */
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
    const bora_expert_shape *shape = &expert->shape;
    const uint32_t tile_rows = expert->w13_tile_rows, n_expert_tiles = n_tiles(shape->hidden_dim, tile_rows);
    float *w1 = expert->tiles + worker * expert->tile_size, *w3 = w1 + expert->tile_size / 2;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t e = expert->active[item / n_expert_tiles], first = item % n_expert_tiles * tile_rows;
        uint32_t n = shape->hidden_dim - first < tile_rows ? shape->hidden_dim - first : tile_rows;
        load_tile(expert->host, &args->tensors[e].w1, first, n, w1);
        load_tile(expert->host, &args->tensors[e].w3, first, n, w3);
        for (uint32_t p = expert->first_pair[e]; p < expert->first_pair[e + 1]; p++) {
            const float *x = args->x + (size_t)expert->pairs[p].token * shape->dim;
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
    const bora_expert_shape *shape = &expert->shape;
    float *w2 = expert->tiles + worker * expert->tile_size;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t first = item * expert->w2_tile_rows;
        uint32_t n = shape->dim - first < expert->w2_tile_rows ? shape->dim - first : expert->w2_tile_rows;
        for (uint32_t t = 0; t < args->n_tokens; t++)
            memset(args->y + (size_t)t * shape->dim + first, 0, n * sizeof *args->y);
        for (uint32_t a = 0; a < args->n_active; a++) {
            uint32_t e = expert->active[a];
            load_tile(expert->host, &args->tensors[e].w2, first, n, w2);
            for (uint32_t p = expert->first_pair[e]; p < expert->first_pair[e + 1]; p++) {
                const float *h = expert->hidden + (size_t)p * shape->hidden_dim;
                float *y = args->y + (size_t)expert->pairs[p].token * shape->dim + first;
                for (uint32_t r = 0; r < n; r += N_ROWS) {
                    float down[N_ROWS];
                    dot_rows(w2 + (size_t)r * shape->hidden_dim, h, shape->hidden_dim, down);
                    for (uint32_t i = 0; i < N_ROWS && r + i < n; i++)
                        y[r + i] += expert->pairs[p].weight * down[i];
                }
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

static bora_status reference_forward(bora_expert *expert, uint32_t layer, uint32_t n_tokens, const float *x, float *y,
                                     const bora_routing *routing, bora_error *err)
{
    const bora_expert_shape *shape = &expert->shape;
    if (layer >= shape->n_layers || !expert->prepared[layer])
        return bora_fail(err, BORA_E_INVAL, "expert: layer %u was not prepared", layer);
    if (n_tokens > shape->max_tokens)
        return bora_fail(err, BORA_E_INVAL, "expert: %u tokens, at most %u were announced", n_tokens,
                         shape->max_tokens);
    if (n_tokens == 0)
        return BORA_OK;
    forward_args args = {
        .expert = expert,
        .tensors = expert->tensors + (size_t)layer * shape->n_experts,
        .x = x,
        .y = y,
        .n_tokens = n_tokens,
        .n_active = group_pairs(expert, n_tokens, routing),
    };
    if (!args.n_active)
        return bora_fail(err, BORA_E_INVAL, "expert: the routing names an expert that does not exist");
    const bora_host *host = expert->host;
    host->parallel_for(host, args.n_active * n_tiles(shape->hidden_dim, expert->w13_tile_rows), hidden_items, &args);
    host->parallel_for(host, n_tiles(shape->dim, expert->w2_tile_rows), output_items, &args);
    return BORA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bora_status check_tensor(const bora_tensor *w, uint32_t n_rows, uint32_t n_cols, const char *name, uint32_t e,
                                bora_error *err)
{
    if (!w->data || w->n_rows != n_rows || w->n_cols != n_cols)
        return bora_fail(err, BORA_E_INVAL, "expert: %s of expert %u is not [%u, %u]", name, e, n_rows, n_cols);
    if (w->dtype >= BORA_DTYPE_COUNT)
        return bora_fail(err, BORA_E_UNSUPPORTED, "expert: %s of expert %u has element type %u", name, e, w->dtype);
    return BORA_OK;
}

static bora_status reference_prepare(bora_expert *expert, uint32_t layer, const bora_expert_weights *weights,
                                     bora_error *err)
{
    const bora_expert_shape *shape = &expert->shape;
    if (layer >= shape->n_layers)
        return bora_fail(err, BORA_E_INVAL, "expert: there is no layer %u", layer);
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

static void reference_destroy(bora_expert *expert)
{
    if (!expert)
        return;
    const bora_host *host = expert->host;
    host->free(host, expert->tensors);
    host->free(host, expert->prepared);
    host->free(host, expert->pairs);
    host->free(host, expert->first_pair);
    host->free(host, expert->active);
    host->free(host, expert->hidden);
    host->free(host, expert->tiles);
    host->free(host, expert);
}

/* n_a * n_b elements, not cleared; NULL when there is no memory or the product overflows. */
static void *alloc_array(const bora_host *host, size_t n_a, size_t n_b, size_t element_size)
{
    size_t size;
    if (__builtin_mul_overflow(n_a, n_b, &size) || __builtin_mul_overflow(size, element_size, &size))
        return NULL;
    return host->alloc(host, size);
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
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "expert: the shape has %u bytes, %zu are needed", shape->struct_size,
                         sizeof *shape);
    if (shape->n_layers == 0 || shape->n_experts == 0 || shape->n_experts_per_tok == 0 || shape->dim == 0 ||
        shape->hidden_dim == 0 || shape->n_experts_per_tok > shape->n_experts)
        return bora_fail(err, BORA_E_INVAL, "expert: %u of %u experts, [%u, %u], %u layers", shape->n_experts_per_tok,
                         shape->n_experts, shape->hidden_dim, shape->dim, shape->n_layers);
    uint32_t n_pairs, n_items;
    if (__builtin_mul_overflow(shape->max_tokens, shape->n_experts_per_tok, &n_pairs) ||
        __builtin_mul_overflow(shape->n_experts, shape->hidden_dim, &n_items) || shape->n_experts == UINT32_MAX)
        return bora_fail(err, BORA_E_LIMIT, "expert: %u tokens, %u experts: too many", shape->max_tokens,
                         shape->n_experts);
    bora_expert *expert = host->alloc(host, sizeof *expert);
    if (!expert)
        return bora_fail(err, BORA_E_NOMEM, "expert");
    *expert = (bora_expert){
        .host = host,
        .shape = *shape,
        .w13_tile_rows = choose_tile_rows(host, shape->hidden_dim, shape->dim),
        .w2_tile_rows = choose_tile_rows(host, shape->dim, shape->hidden_dim),
    };
    size_t w13_tile = (size_t)expert->w13_tile_rows * shape->dim,
           w2_tile = (size_t)expert->w2_tile_rows * shape->hidden_dim;
    expert->tile_size = w13_tile > w2_tile ? 2 * w13_tile : 2 * w2_tile; /* 2^33 * 4 at most */
    expert->tensors = alloc_array(host, shape->n_layers, shape->n_experts, sizeof *expert->tensors);
    expert->prepared = alloc_array(host, shape->n_layers, 1, sizeof *expert->prepared);
    expert->pairs = alloc_array(host, n_pairs, 1, sizeof *expert->pairs);
    expert->first_pair = alloc_array(host, (size_t)shape->n_experts + 1, 1, sizeof *expert->first_pair);
    expert->active = alloc_array(host, shape->n_experts, 1, sizeof *expert->active);
    expert->hidden = alloc_array(host, n_pairs, shape->hidden_dim, sizeof *expert->hidden);
    expert->tiles = alloc_array(host, host->n_threads(host), expert->tile_size, sizeof *expert->tiles);
    if (!expert->tensors || !expert->prepared || !expert->pairs || !expert->first_pair || !expert->active ||
        !expert->hidden || !expert->tiles) {
        reference_destroy(expert);
        return bora_fail(err, BORA_E_NOMEM, "expert: room for %u tokens", shape->max_tokens);
    }
    memset(expert->prepared, 0, shape->n_layers * sizeof *expert->prepared);
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
