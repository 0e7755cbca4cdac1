/* Layers and batches for expert plugins, the definition they are held against, and running a plugin on them: every
 * call gets its output with margins, and inputs that must stay as they are. */
#ifndef BORA_TESTS_CONFORMANCE_EXPERT_H
#define BORA_TESTS_CONFORMANCE_EXPERT_H

#include "suite.h"
#include "support/blocks.h"

#define MAX_TOKENS     40u
#define N_EXPERTS_MAX  8u

/* Bounds for plugins that quantise activations: error to power, and the worst error to the root mean square. With
 * weights in two bits the results are small beside what cancels out in them. */
#define NMSE_MAX_EXACT 1e-10 /* f32 throughout, in any order */
#define NMSE_MAX       4e-4
#define NMSE_MAX_Q2_K  1e-3
#define RELATIVE_MAX   0.15

typedef struct layer {
    uint32_t n_experts, k, dim, hidden_dim;
    bora_tensor w1[N_EXPERTS_MAX], w2[N_EXPERTS_MAX], w3[N_EXPERTS_MAX];
} layer;

typedef struct batch {
    uint32_t n;
    float *x;         /* [n, dim] */
    int32_t *experts; /* [n, k] */
    float *weights;   /* [n, k] */
} batch;

/* ---- weights ---------------------------------------------------------------------------------------------- */

/* n, or the next whole blocks of the type. */
static inline uint32_t whole_blocks(uint32_t dtype, uint32_t n)
{
    uint32_t n_elements = bora_block_of(dtype)->n_elements;
    return (n + n_elements - 1) / n_elements * n_elements;
}

/* A matrix of random weights. Rows are one odd byte further apart than they need be, and begin at an odd address. */
static inline bora_tensor random_tensor(uint64_t *random, uint32_t dtype, uint32_t n_rows, uint32_t n_cols)
{
    const bora_block *type = bora_block_of(dtype);
    size_t n_blocks = n_cols / type->n_elements, row_size = n_blocks * type->size + 1;
    unsigned char *data = bora_alloc(1 + n_rows * row_size);
    assert_non_null(data);
    memset(data, 0xff, 1 + n_rows * row_size);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t b = 0; b < n_blocks; b++)
            blocks_fill(dtype, random, 2 / sqrtf((float)n_cols), data + 1 + r * row_size + b * type->size);
    return (bora_tensor){.data = data + 1, .row_size = row_size, .n_rows = n_rows, .n_cols = n_cols, .dtype = dtype};
}

static inline bora_tensor f32_tensor(const float *values, uint32_t n_rows, uint32_t n_cols)
{
    return (bora_tensor){.data = values,
                         .row_size = n_cols * sizeof *values,
                         .n_rows = n_rows,
                         .n_cols = n_cols,
                         .dtype = BORA_DTYPE_F32};
}

/* dim and hidden_dim are made whole blocks. */
static inline void layer_init(layer *ly, uint32_t dtype, uint32_t n_experts, uint32_t k, uint32_t dim,
                              uint32_t hidden_dim, uint64_t seed)
{
    dim = whole_blocks(dtype, dim);
    hidden_dim = whole_blocks(dtype, hidden_dim);
    *ly = (layer){.n_experts = n_experts, .k = k, .dim = dim, .hidden_dim = hidden_dim};
    for (uint32_t e = 0; e < n_experts; e++) {
        ly->w1[e] = random_tensor(&seed, dtype, hidden_dim, dim);
        ly->w2[e] = random_tensor(&seed, dtype, dim, hidden_dim);
        ly->w3[e] = random_tensor(&seed, dtype, hidden_dim, dim);
    }
}

static inline void tensor_release(bora_tensor *w)
{
    bora_free((unsigned char *)(uintptr_t)w->data - 1);
}

static inline void layer_release(layer *ly)
{
    for (uint32_t e = 0; e < ly->n_experts; e++) {
        tensor_release(&ly->w1[e]);
        tensor_release(&ly->w2[e]);
        tensor_release(&ly->w3[e]);
    }
}

/* Each token chooses k different experts, the larger weight first, as a router does. */
static inline void batch_init(batch *bt, const layer *ly, uint32_t n, uint64_t seed)
{
    bt->n = n;
    bt->x = suite_random_floats(&seed, (size_t)n * ly->dim);
    float *logits = suite_random_floats(&seed, (size_t)n * ly->n_experts);
    bt->experts = bora_alloc(n * ly->k * sizeof *bt->experts);
    bt->weights = bora_alloc(n * ly->k * sizeof *bt->weights);
    assert_true(bt->experts && bt->weights);
    bora_route(n, ly->n_experts, ly->k, logits, bt->experts, bt->weights);
    bora_free(logits);
}

static inline void batch_release(batch *bt)
{
    bora_free(bt->x);
    bora_free(bt->experts);
    bora_free(bt->weights);
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static inline bora_expert *create(void **state, suite_host *host, const layer *layers, uint32_t n_layers)
{
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    bora_expert_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = n_layers,
        .n_experts = layers->n_experts,
        .n_experts_per_tok = layers->k,
        .dim = layers->dim,
        .hidden_dim = layers->hidden_dim,
        .max_tokens = MAX_TOKENS,
    };
    bora_expert *expert = NULL;
    bora_error err = {""};
    suite_created(ops->create(&host->table, &shape, &expert, &err), &err);
    for (uint32_t i = 0; i < n_layers; i++) {
        bora_expert_weights weights = {.w1 = layers[i].w1, .w2 = layers[i].w2, .w3 = layers[i].w3};
        if (ops->prepare(expert, i, &weights, &err) != BORA_OK)
            fail_msg("prepare: %s", err.message);
    }
    return expert;
}

/* Also after a create that failed. */
static inline void end(void **state, bora_expert *expert)
{
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    if (expert && ops->close)
        ops->close(expert);
    if (expert && ops->stop)
        ops->stop(expert);
    ops->destroy(expert);
}

/* Tokens first .. first+n-1 of the batch. */
static inline void forward(void **state, bora_expert *expert, uint32_t index, const layer *ly, const batch *bt,
                           uint32_t first, uint32_t n, float *y)
{
    const size_t size = (size_t)n * ly->dim, n_choices = (size_t)n * ly->k;
    const float *from = bt->x + (size_t)first * ly->dim;
    float *x = bora_alloc(size * sizeof *x), *guarded = suite_guarded_new(size);
    assert_non_null(x);
    memcpy(x, from, size * sizeof *x);
    const bora_routing routing = {.experts = bt->experts + (size_t)first * ly->k,
                                  .weights = bt->weights + (size_t)first * ly->k};
    int32_t *experts = bora_alloc(n_choices * sizeof *experts);
    assert_non_null(experts);
    memcpy(experts, routing.experts, n_choices * sizeof *experts);
    bora_error err = {""};
    if (bora_plugin_expert_ops(*state)->forward(expert, index, n, x, guarded, &routing, &err) != BORA_OK)
        fail_msg("forward: %s", err.message);
    suite_guarded_check(guarded, size);
    if (memcmp(x, from, size * sizeof *x) != 0 || memcmp(experts, routing.experts, n_choices * sizeof *experts) != 0)
        fail_msg("the plugin wrote to its input");
    memcpy(y, guarded, size * sizeof *y);
    suite_guarded_free(guarded);
    bora_free(x);
    bora_free(experts);
}

/* The batch in calls of at most chunk tokens. The caller's (bora_free). */
static inline float *run(void **state, const layer *ly, const batch *bt, uint32_t chunk, uint32_t n_threads)
{
    suite_host host;
    suite_host_init(&host, n_threads);
    bora_expert *expert = create(state, &host, ly, 1);
    float *y = bora_alloc((size_t)bt->n * ly->dim * sizeof *y);
    assert_non_null(y);
    for (uint32_t first = 0; first < bt->n; first += chunk)
        forward(state, expert, 0, ly, bt, first, bt->n - first < chunk ? bt->n - first : chunk,
                y + (size_t)first * ly->dim);
    end(state, expert);
    suite_host_release(&host);
    return y;
}

/* The definition, in double, on the same dequantised weights. y [n, dim]. */
static inline void naive(const layer *ly, const batch *bt, float *y)
{
    double *hidden = bora_alloc(ly->hidden_dim * sizeof *hidden), *sums = bora_alloc(ly->dim * sizeof *sums);
    float *row = bora_alloc((ly->dim + ly->hidden_dim) * 2 * sizeof *row);
    assert_true(hidden && sums && row);
    for (uint32_t t = 0; t < bt->n; t++) {
        const float *x = bt->x + (size_t)t * ly->dim;
        memset(sums, 0, ly->dim * sizeof *sums);
        for (uint32_t c = 0; c < ly->k; c++) {
            int32_t e = bt->experts[t * ly->k + c];
            for (uint32_t r = 0; r < ly->hidden_dim; r++) {
                double gate = 0, up = 0;
                bora_dequantize(NULL, &ly->w1[e], r, 1, row);
                for (uint32_t i = 0; i < ly->dim; i++)
                    gate += (double)row[i] * (double)x[i];
                bora_dequantize(NULL, &ly->w3[e], r, 1, row);
                for (uint32_t i = 0; i < ly->dim; i++)
                    up += (double)row[i] * (double)x[i];
                hidden[r] = gate / (1 + exp(-gate)) * up;
            }
            for (uint32_t d = 0; d < ly->dim; d++) {
                double sum = 0;
                bora_dequantize(NULL, &ly->w2[e], d, 1, row);
                for (uint32_t i = 0; i < ly->hidden_dim; i++)
                    sum += (double)row[i] * hidden[i];
                sums[d] += (double)bt->weights[t * ly->k + c] * sum;
            }
        }
        for (uint32_t d = 0; d < ly->dim; d++)
            y[(size_t)t * ly->dim + d] = (float)sums[d];
    }
    bora_free(hidden);
    bora_free(sums);
    bora_free(row);
}

/* ---- numbers ---------------------------------------------------------------------------------------------- */

static inline bool takes(void **state, uint32_t dtype)
{
    return bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(dtype);
}

/* Whoever multiplies quantised weights may quantise what it multiplies them with. Ours that do not are held to more. */
static inline bool quantises(void **state, uint32_t dtype)
{
    const char *name = bora_plugin_name(*state);
    return dtype >= BORA_DTYPE_Q8_0 && strcmp(name, "reference") != 0 && strcmp(name, "blas") != 0;
}

/* Activations in eight bits, twice on the way: an error that has the size of the result, not of its element. The
 * quantisation of x alone is a relative error of about 5e-5 in its square (packed.h), as is that of hidden. */
static inline void assert_near_enough(void **state, uint32_t dtype, const float *is, const float *should, size_t n)
{
    if (!quantises(state, dtype)) {
        suite_assert_near(is, should, n, 2e-5f, 2e-5f);
        return;
    }
    double error = 0, power = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double difference = (double)is[i] - (double)should[i];
        error += difference * difference;
        power += (double)should[i] * (double)should[i];
        worst = fabs(difference) > worst || isnan(difference) ? fabs(difference) : worst;
    }
    const double nmse = error / power, relative = worst / sqrt(power / (double)n);
    if (!(nmse <= (dtype == BORA_DTYPE_Q2_K ? NMSE_MAX_Q2_K : NMSE_MAX) && relative <= RELATIVE_MAX))
        fail_msg("type %u: nmse %.3g, worst error %.3g of the root mean square", dtype, nmse, relative);
}

/* To a plugin these types differ in how the host dequantises them only: each does a third of the cases. */
static inline bool is_left_to_others(uint32_t dtype, size_t number)
{
    return dtype > BORA_DTYPE_Q8_0 && (number + dtype) % 3 != 0;
}

#endif
