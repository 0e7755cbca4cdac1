/* expert-quant: the feed-forward blocks on the host's matrices: weights that were packed once, activations quantised to
 * eight bits on their way in.
 *
 *   gather   a mixture's tokens: rows of x copied together by expert; a single token or a dense model uses x as it is
 *   fill     x is quantised, once for w1 and w3
 *   hidden   per group of strips of w1_e and w3_e: two products, then silu(gate) * up while both are in the cache
 *   fill     hidden is quantised
 *   output   per group of strips of w2: experts ascending, y[token, row] += weight * product
 *
 * Each is one parallel_for, and a single token needs only two: the caller fills alone. The items of a worker are one
 * stream through each matrix, as matrices lie. A product's element depends on its row of weights and of x alone, and a
 * token's experts are added in ascending order: no other token, thread or group can change a bit. Weights of F32, F16
 * and BF16 go the same way and are not quantised, nor, unless the daemon is told to round it, is what they are
 * multiplied with. */
#include "../gather.h"
#include "silu.h"

#include <bora/plugin.h>

#include <stdbool.h>
#include <string.h>

/* The gate is compiled for several processors and the best is picked when the plugin is loaded: the same bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#define ALIGNMENT        64u
/* Strips of a group: for few rows a long stretch of memory, for many as little as keeps the products in the cache; a
 * multiple of two, because two strips at a time are what many rows are multiplied fastest with. */
#define GROUP_STRIPS_MAX 32u
#define GROUP_STRIPS_MIN 2u
#define GROUP_CELLS      2048u /* rows times strips */
#define GROUPS_A_THREAD  8u    /* at least, if there are enough strips */

typedef struct quant_matrices {
    bora_matrix *w1, *w2, *w3;
} quant_matrices;

/* What an active expert has to do in a call. */
typedef struct quant_task {
    const quant_matrices *matrices;
    bora_input x, hidden;
    uint32_t first_pair;
    uint32_t first_x_panel, first_hidden_panel; /* counted over all experts, of those panels that are filled */
    bool x_is_filled, hidden_is_filled;
} quant_task;

struct bora_expert {
    gather gather;
    quant_matrices *matrices; /* [n_layers, n_experts] */
    quant_task *tasks;        /* [n_experts], of the call: one per active expert */
    float *gathered;          /* [pairs, dim]: the rows of x, in the order of pairs; NULL with one expert */
    float *hidden;            /* [pairs, hidden_dim] */
    uint8_t *x_panels;        /* [pairs, x_row_size] */
    uint8_t *hidden_panels;   /* [pairs, hidden_row_size] */
    float *products;          /* [n_threads, products_size]: up or down of a group, [rows, strips * BORA_STRIP_ROWS] */
    size_t x_row_size, hidden_row_size; /* bytes of panels that suffice per row, however rows are cut into inputs */
    size_t products_size;               /* floats */
};

typedef struct forward_args {
    const bora_expert *expert;
    const float *x; /* [n_tokens, dim] */
    float *y;       /* [n_tokens, dim] */
    uint32_t n_tokens, n_active;
    bool is_gathered;                   /* inputs are rows of gathered, not of x */
    uint32_t n_strips, group, n_groups; /* of the matrices that are multiplied: strips, strips of a group, groups */
} forward_args;

/* ---- groups of strips ---------------------------------------------------------------------------------- */

/* Strips of a group, for inputs of at most n_rows rows. n_rows * the result <= products_size / BORA_STRIP_ROWS. */
static uint32_t group_strips(const bora_host *host, uint32_t n_rows, uint32_t n_strips)
{
    uint32_t strips = GROUP_CELLS / n_rows, fair = n_strips / (host->n_threads(host) * GROUPS_A_THREAD);
    if (strips > GROUP_STRIPS_MAX)
        strips = GROUP_STRIPS_MAX;
    if (strips > fair)
        strips = fair;
    strips -= strips % GROUP_STRIPS_MIN;
    return strips ? strips : GROUP_STRIPS_MIN;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* For the matrices of the first of the tasks: those of all experts have one shape. */
static void cut_strips(forward_args *args, const bora_matrix *matrix)
{
    const bora_host *host = args->expert->gather.host;
    uint32_t n_rows = 1;
    for (uint32_t a = 0; a < args->n_active; a++)
        n_rows = larger(n_rows, args->expert->tasks[a].x.n_rows);
    args->n_strips = host->matrix_n_strips(host, matrix);
    args->group = group_strips(host, n_rows, args->n_strips);
    args->n_groups = (args->n_strips - 1) / args->group + 1;
}

typedef struct strip_range {
    uint32_t begin, end; /* strips */
    uint32_t row, n;     /* of the matrix: the first one, and how many of them exist */
} strip_range;

static strip_range group_range(const forward_args *args, uint32_t group, uint32_t n_rows)
{
    strip_range range = {.begin = group * args->group};
    range.end = args->n_strips - range.begin < args->group ? args->n_strips : range.begin + args->group;
    range.row = range.begin * BORA_STRIP_ROWS;
    range.n = n_rows - range.row;
    if (range.n > args->group * BORA_STRIP_ROWS)
        range.n = args->group * BORA_STRIP_ROWS;
    return range;
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

/* Items: pairs. */
static void gather_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    const forward_args *args = arg;
    const bora_expert *expert = args->expert;
    const size_t dim = expert->gather.shape.dim;
    for (uint32_t p = begin; p < end; p++)
        memcpy(expert->gathered + p * dim, args->x + expert->gather.pairs[p].token * dim, dim * sizeof *args->x);
}

/* Items: panels of the inputs of one active expert after the other. */
static void fill_items(const forward_args *args, bool is_hidden, uint32_t begin, uint32_t end)
{
    const bora_host *host = args->expert->gather.host;
    for (uint32_t a = 0; a < args->n_active; a++) {
        const quant_task *task = &args->expert->tasks[a];
        const bora_input *input = is_hidden ? &task->hidden : &task->x;
        if (!(is_hidden ? task->hidden_is_filled : task->x_is_filled))
            continue;
        const uint32_t first = is_hidden ? task->first_hidden_panel : task->first_x_panel;
        const uint32_t n = host->input_n_panels(host, input->n_rows);
        const uint32_t from = begin > first ? begin - first : 0;
        const uint32_t to = end <= first ? 0 : end - first < n ? end - first : n;
        if (from < to)
            host->input_fill(host, input, from, to);
    }
}

static void fill_x_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    fill_items(arg, false, begin, end);
}

static void fill_hidden_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    fill_items(arg, true, begin, end);
}

/* gate[row, i] = silu(gate[row, i]) * up[row, i] for n_rows rows of n. */
CLONES static void silu_mul(uint32_t n_rows, size_t n, float *gate, size_t gate_stride, const float *up,
                            size_t up_stride)
{
    for (uint32_t r = 0; r < n_rows; r++)
        silu_mul_row(n, gate + r * gate_stride, up + r * up_stride);
}

/* Items: active expert after active expert, group after group of its strips of w1 and w3. */
static void hidden_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const forward_args *args = arg;
    const bora_expert *expert = args->expert;
    const bora_host *host = expert->gather.host;
    const size_t hidden_dim = expert->gather.shape.hidden_dim, up_stride = (size_t)args->group * BORA_STRIP_ROWS;
    float *up = expert->products + worker * expert->products_size;
    for (uint32_t item = begin; item < end; item++) {
        const quant_task *task = &expert->tasks[item / args->n_groups];
        const strip_range range = group_range(args, item % args->n_groups, expert->gather.shape.hidden_dim);
        float *gate = expert->hidden + task->first_pair * hidden_dim + range.row;
        host->matrix_multiply(host, task->matrices->w1, &task->x, range.begin, range.end, worker, gate, hidden_dim);
        host->matrix_multiply(host, task->matrices->w3, &task->x, range.begin, range.end, worker, up, up_stride);
        silu_mul(task->x.n_rows, range.n, gate, hidden_dim, up, up_stride);
    }
}

/* Items: groups of strips of w2, whose rows of y belong to one worker whatever the expert. */
static void output_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const forward_args *args = arg;
    const bora_expert *expert = args->expert;
    const gather *g = &expert->gather;
    const size_t dim = g->shape.dim, down_stride = (size_t)args->group * BORA_STRIP_ROWS;
    float *down = expert->products + worker * expert->products_size;
    for (uint32_t item = begin; item < end; item++) {
        const strip_range range = group_range(args, item, g->shape.dim);
        for (uint32_t t = 0; t < args->n_tokens; t++)
            memset(args->y + t * dim + range.row, 0, range.n * sizeof *args->y);
        for (uint32_t a = 0; a < args->n_active; a++) {
            const quant_task *task = &expert->tasks[a];
            g->host->matrix_multiply(g->host, task->matrices->w2, &task->hidden, range.begin, range.end, worker, down,
                                     down_stride);
            for (uint32_t p = 0; p < task->hidden.n_rows; p++) {
                const gather_pair choice = g->pairs[task->first_pair + p];
                float *y = args->y + choice.token * dim + range.row;
                for (uint32_t i = 0; i < range.n; i++)
                    y[i] += choice.weight * down[p * down_stride + i];
            }
        }
    }
}

/* ---- the call ------------------------------------------------------------------------------------------ */

/* Describes the work of each active expert. A lone token's x serves all its experts and is filled once. Returns how
 * many panels of x, and in *ret_n_hidden how many of hidden, are to be filled. */
static uint32_t make_tasks(const forward_args *args, const quant_matrices *matrices, uint32_t *ret_n_hidden)
{
    const bora_expert *expert = args->expert;
    const gather *g = &expert->gather;
    const bora_host *host = g->host;
    uint32_t n_x = 0, n_hidden = 0;
    for (uint32_t a = 0; a < args->n_active; a++) {
        const uint32_t e = g->active[a], first = g->first_pair[e], n_rows = g->first_pair[e + 1] - first;
        const quant_matrices *m = &matrices[e];
        const size_t x_first = args->is_gathered ? first : 0;
        const uint32_t n_panels = host->input_n_panels(host, n_rows);
        quant_task *task = &expert->tasks[a];
        *task = (quant_task){
            .matrices = m,
            .x = {.x = (args->is_gathered ? expert->gathered : args->x) + x_first * g->shape.dim,
                  .panels = expert->x_panels + x_first * expert->x_row_size,
                  .n_rows = n_rows,
                  .n_cols = g->shape.dim},
            .hidden = {.x = expert->hidden + (size_t)first * g->shape.hidden_dim,
                       .panels = expert->hidden_panels + first * expert->hidden_row_size,
                       .n_rows = n_rows,
                       .n_cols = g->shape.hidden_dim},
            .first_pair = first,
            .first_x_panel = n_x,
            .first_hidden_panel = n_hidden,
            .x_is_filled = (args->is_gathered || n_x == 0) &&
                           (host->matrix_is_packed(host, m->w1) || host->matrix_is_packed(host, m->w3)),
            .hidden_is_filled = host->matrix_is_packed(host, m->w2),
        };
        n_x += task->x_is_filled ? n_panels : 0;
        n_hidden += task->hidden_is_filled ? n_panels : 0;
    }
    *ret_n_hidden = n_hidden;
    return n_x;
}

/* A single token's few rows are filled sooner than they are shared out. */
static void fill(forward_args *args, uint32_t n_panels, bora_parallel_fn fn)
{
    const bora_host *host = args->expert->gather.host;
    if (args->n_tokens == 1)
        fn(args, 0, n_panels, 0);
    else
        host->parallel_for(host, n_panels, fn, args);
}

static bora_status quant_forward(bora_expert *expert, uint32_t layer, uint32_t n_tokens, const float *x, float *y,
                                 const bora_routing *routing, bora_error *err)
{
    gather *g = &expert->gather;
    const bora_host *host = g->host;
    uint32_t n_active = 0, n_hidden_panels = 0;
    bora_status status = gather_call(g, layer, n_tokens, routing, &n_active, err);
    if (status != BORA_OK || n_active == 0)
        return status;
    forward_args args = {.expert = expert, .x = x, .y = y, .n_tokens = n_tokens, .n_active = n_active};
    /* A token that names an expert twice is none that a router sends; it is no lone one here. */
    const bool is_lone = n_tokens == 1 && n_active == g->shape.n_experts_per_tok;
    args.is_gathered = g->shape.n_experts > 1 && !is_lone;
    const uint32_t n_x_panels =
        make_tasks(&args, expert->matrices + (size_t)layer * g->shape.n_experts, &n_hidden_panels);
    if (args.is_gathered)
        host->parallel_for(host, n_tokens * g->shape.n_experts_per_tok, gather_items, &args);
    fill(&args, n_x_panels, fill_x_items);
    cut_strips(&args, expert->tasks[0].matrices->w1);
    host->parallel_for(host, n_active * args.n_groups, hidden_items, &args);
    fill(&args, n_hidden_panels, fill_hidden_items);
    cut_strips(&args, expert->tasks[0].matrices->w2);
    host->parallel_for(host, args.n_groups, output_items, &args);
    return BORA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bora_status quant_prepare(bora_expert *expert, uint32_t layer, const bora_expert_weights *weights,
                                 bora_error *err)
{
    gather *g = &expert->gather;
    const bora_host *host = g->host;
    bora_status status = gather_prepare(g, layer, weights, err);
    if (status != BORA_OK)
        return status;
    g->prepared[layer] = false; /* not yet */
    for (uint32_t e = 0; e < g->shape.n_experts; e++) {
        quant_matrices m = {NULL, NULL, NULL};
        if ((status = host->matrix_new(host, &weights->w1[e], &m.w1, err)) != BORA_OK ||
            (status = host->matrix_new(host, &weights->w3[e], &m.w3, err)) != BORA_OK ||
            (status = host->matrix_new(host, &weights->w2[e], &m.w2, err)) != BORA_OK)
            return status;
        expert->matrices[(size_t)layer * g->shape.n_experts + e] = m;
    }
    g->prepared[layer] = true;
    return BORA_OK;
}

/* The matrices are the host's and go with it. */
static void quant_destroy(bora_expert *expert)
{
    if (!expert)
        return;
    const bora_host *host = expert->gather.host;
    gather_release(&expert->gather);
    host->free(host, expert->matrices);
    host->free(host, expert->tasks);
    host->free(host, expert->gathered);
    host->free(host, expert->hidden);
    host->free(host, expert->x_panels);
    host->free(host, expert->hidden_panels);
    host->free(host, expert->products);
    host->free(host, expert);
}

/* Bytes per row, a multiple of ALIGNMENT, with which every input of 1 .. n_max rows gets along. 0: there is no such
 * number. */
static size_t panels_row_size(const bora_host *host, uint32_t n_max, uint32_t n_cols)
{
    size_t row_size = 0;
    for (uint32_t n = 1; n <= n_max; n++) {
        const size_t size = host->input_size(host, n, n_cols);
        size_t each = size / n + (size % n != 0);
        if (__builtin_add_overflow(each, ALIGNMENT - 1, &each))
            return 0;
        each -= each % ALIGNMENT;
        row_size = each > row_size ? each : row_size;
    }
    return row_size;
}

static bora_status check_host(const bora_host *host, bora_error *err)
{
    if (host->abi_minor >= 2 &&
        host->struct_size >= offsetof(bora_host, matrix_multiply) + sizeof host->matrix_multiply)
        return BORA_OK;
    return bora_fail(err, BORA_E_UNAVAILABLE, "quant: needs plugin interface 1.2 (matrices), the daemon's is %u.%u",
                     host->abi_major, host->abi_minor);
}

static bora_status quant_create(const bora_host *host, const bora_expert_shape *shape, bora_expert **ret_expert,
                                bora_error *err)
{
    uint32_t n_pairs = 0;
    bora_status status = check_host(host, err);
    if (status == BORA_OK)
        status = gather_check_shape("quant", shape, &n_pairs, err);
    if (status != BORA_OK)
        return status;
    const size_t x_row_size = panels_row_size(host, n_pairs, shape->dim);
    const size_t hidden_row_size = panels_row_size(host, n_pairs, shape->hidden_dim);
    if (shape->max_tokens && (!x_row_size || !hidden_row_size))
        return bora_fail(err, BORA_E_LIMIT, "quant: %u tokens of %u, %u: too many", shape->max_tokens, shape->dim,
                         shape->hidden_dim);
    bora_expert *expert = host->alloc(host, sizeof *expert);
    if (!expert)
        return bora_fail(err, BORA_E_NOMEM, "quant: the instance");
    *expert = (bora_expert){.x_row_size = x_row_size, .hidden_row_size = hidden_row_size};
    const size_t few = GROUP_CELLS, many = (size_t)GROUP_STRIPS_MIN * n_pairs;
    expert->products_size = (few > many ? few : many) * BORA_STRIP_ROWS; /* 2^37 at most */
    const bool gathers = gather_init(&expert->gather, host, "quant", shape), is_dense = shape->n_experts == 1;
    expert->matrices = gather_alloc(host, shape->n_layers, shape->n_experts, sizeof *expert->matrices);
    expert->tasks = gather_alloc(host, shape->n_experts, 1, sizeof *expert->tasks);
    expert->gathered = is_dense ? NULL : gather_alloc(host, n_pairs, shape->dim, sizeof *expert->gathered);
    expert->hidden = gather_alloc(host, n_pairs, shape->hidden_dim, sizeof *expert->hidden);
    expert->x_panels = gather_alloc(host, n_pairs, x_row_size, 1);
    expert->hidden_panels = gather_alloc(host, n_pairs, hidden_row_size, 1);
    expert->products = gather_alloc(host, host->n_threads(host), expert->products_size, sizeof *expert->products);
    if (!gathers || !expert->matrices || !expert->tasks || !(is_dense || expert->gathered) || !expert->hidden ||
        !expert->x_panels || !expert->hidden_panels || !expert->products) {
        quant_destroy(expert);
        return bora_fail(err, BORA_E_NOMEM, "quant: room for %u tokens", shape->max_tokens);
    }
    *ret_expert = expert;
    return BORA_OK;
}

static const bora_expert_ops quant_ops = {
    .struct_size = sizeof(bora_expert_ops),
    .dtypes = BORA_DTYPE_BITS_ALL,
    .create = quant_create,
    .destroy = quant_destroy,
    .prepare = quant_prepare,
    .forward = quant_forward,
};

static const bora_plugin quant_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_EXPERT,
    .flags = BORA_PLUGIN_BATCH_INVARIANT | BORA_PLUGIN_PACKS_WEIGHTS,
    .name = "quant",
    .version = "1.0",
    .ops = &quant_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &quant_plugin;
}
