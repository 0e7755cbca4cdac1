/* Problems for attention plugins, the definition they are held against, and running a plugin on them: every call gets
 * keys and values in memory of their own that is spoiled afterwards, and an output with margins. */
#ifndef BORA_TESTS_CONFORMANCE_ATTENTION_H
#define BORA_TESTS_CONFORMANCE_ATTENTION_H

#include "suite.h"

#include "kernels/quantize.h"
#include "model/blocks.h"

#define MAX_TOKENS 256u

typedef struct problem {
    uint32_t n_heads, n_kv_heads, head_dim, window, dtype;
    uint32_t n; /* positions 0 .. n-1 */
    float *q;   /* [n, n_heads, head_dim] */
    float *k;   /* [n, n_kv_heads, head_dim], values that the element type holds exactly */
    float *v;
    void *k_elements; /* the same in the element type */
    void *v_elements;
} problem;

/* How a run is cut. */
typedef struct cut {
    uint32_t chunk;     /* rows per call */
    uint32_t span;      /* positions per span; 0: one span */
    bool whole_history; /* spans begin at 0 even where the window does not */
    bool strided;       /* heads apart from each other: [kv_head][position][head_dim] */
} cut;

static inline size_t bytes_of(uint32_t dtype, uint64_t n_elements)
{
    size_t size = 0;
    assert_true(bora_block_row_size(dtype, n_elements, &size));
    return size;
}

/* n values as elements; values become what those hold. The caller's (bora_free). */
static inline void *to_elements(uint32_t dtype, float *values, size_t n)
{
    if (dtype == BORA_DTYPE_Q8_0) {
        uint8_t *blocks = bora_alloc(bytes_of(dtype, n));
        assert_non_null(blocks);
        assert_int_equal(bora_quantize_row(dtype, n, values, NULL, blocks, NULL), BORA_OK);
        const bora_tensor row = {
            .data = blocks, .row_size = bytes_of(dtype, n), .n_rows = 1, .n_cols = n, .dtype = dtype};
        bora_dequantize(NULL, &row, 0, 1, values);
        return blocks;
    }
    if (dtype == BORA_DTYPE_F32) {
        void *copy = bora_alloc(n * sizeof *values);
        assert_non_null(copy);
        memcpy(copy, values, n * sizeof *values);
        return copy;
    }
    uint16_t *halves = bora_alloc(n * sizeof *halves);
    assert_non_null(halves);
    for (size_t i = 0; i < n; i++) {
        halves[i] = bora_f32_to_f16(values[i]);
        values[i] = bora_f16_to_f32(halves[i]);
    }
    return halves;
}

static inline void problem_init(problem *pb, uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window,
                                uint32_t dtype, uint32_t n, uint64_t seed)
{
    *pb = (problem){
        .n_heads = n_heads, .n_kv_heads = n_kv_heads, .head_dim = head_dim, .window = window, .dtype = dtype, .n = n};
    size_t kv_size = (size_t)n * n_kv_heads * head_dim;
    pb->q = suite_random_floats(&seed, (size_t)n * n_heads * head_dim);
    pb->k = suite_random_floats(&seed, kv_size);
    pb->v = suite_random_floats(&seed, kv_size);
    for (size_t i = 0; i < (size_t)n * n_heads * head_dim; i++)
        pb->q[i] *= 8; /* scores that differ: a softmax that matters */
    pb->k_elements = to_elements(dtype, pb->k, kv_size);
    pb->v_elements = to_elements(dtype, pb->v, kv_size);
}

static inline void problem_release(problem *pb)
{
    bora_free(pb->q);
    bora_free(pb->k);
    bora_free(pb->v);
    bora_free(pb->k_elements);
    bora_free(pb->v_elements);
}

/* The definition, in double. out [n, n_heads, head_dim]. */
static inline void naive(const problem *pb, float *out)
{
    double weights[MAX_TOKENS];
    for (uint32_t row = 0; row < pb->n; row++)
        for (uint32_t head = 0; head < pb->n_heads; head++) {
            uint32_t kv_head = head / (pb->n_heads / pb->n_kv_heads);
            uint32_t from = pb->window && row + 1 > pb->window ? row + 1 - pb->window : 0;
            const float *q = pb->q + ((size_t)row * pb->n_heads + head) * pb->head_dim;
            double max = -INFINITY, sum = 0;
            for (uint32_t p = from; p <= row; p++) {
                const float *k = pb->k + ((size_t)p * pb->n_kv_heads + kv_head) * pb->head_dim;
                weights[p] = 0;
                for (uint32_t d = 0; d < pb->head_dim; d++)
                    weights[p] += (double)q[d] * (double)k[d] / sqrt(pb->head_dim);
                max = fmax(max, weights[p]);
            }
            for (uint32_t p = from; p <= row; p++)
                sum += weights[p] = exp(weights[p] - max);
            for (uint32_t d = 0; d < pb->head_dim; d++) {
                double value = 0;
                for (uint32_t p = from; p <= row; p++)
                    value +=
                        weights[p] / sum * (double)pb->v[((size_t)p * pb->n_kv_heads + kv_head) * pb->head_dim + d];
                out[((size_t)row * pb->n_heads + head) * pb->head_dim + d] = (float)value;
            }
        }
}

/* Spans over positions from .. to-1 of one array; memory holds [kv_head][position][head_dim] copies when strided. */
static inline uint32_t make_spans(const problem *pb, const cut *how, const void *k, const void *v, uint64_t from,
                                  uint64_t to, bora_kv_span *ret_spans)
{
    uint64_t position_stride = how->strided ? pb->head_dim : (uint64_t)pb->n_kv_heads * pb->head_dim;
    uint64_t head_stride = how->strided ? (uint64_t)pb->n * pb->head_dim : pb->head_dim;
    uint32_t n_spans = 0;
    for (uint64_t p = from; p < to;) {
        uint32_t n = how->span && to - p > how->span ? how->span : (uint32_t)(to - p);
        ret_spans[n_spans++] = (bora_kv_span){
            .k = (const char *)k + bytes_of(pb->dtype, p * position_stride),
            .v = (const char *)v + bytes_of(pb->dtype, p * position_stride),
            .first = p,
            .n = n,
            .dtype = pb->dtype,
            .position_stride = position_stride,
            .head_stride = head_stride,
        };
        p += n;
    }
    return n_spans;
}

static inline void *by_head(const problem *pb, const void *elements)
{
    size_t size = bytes_of(pb->dtype, pb->head_dim);
    char *copy = bora_alloc(size * pb->n_kv_heads * pb->n);
    assert_non_null(copy);
    for (size_t p = 0; p < pb->n; p++)
        for (size_t h = 0; h < pb->n_kv_heads; h++)
            memcpy(copy + (h * pb->n + p) * size, (const char *)elements + (p * pb->n_kv_heads + h) * size, size);
    return copy;
}

static inline bora_attention *create(void **state, suite_host *host, const problem *pb)
{
    bora_attention_shape shape = {
        .struct_size = sizeof shape,
        .n_heads = pb->n_heads,
        .n_kv_heads = pb->n_kv_heads,
        .head_dim = pb->head_dim,
        .max_tokens = MAX_TOKENS,
        .kv_dtype = pb->dtype,
    };
    bora_attention *attention = NULL;
    bora_error err = {""};
    suite_created(bora_plugin_attention_ops(*state)->create(&host->table, &shape, &attention, &err), &err);
    return attention;
}

/* Also after a create that failed. */
static inline void end(void **state, bora_attention *attention)
{
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    if (attention && ops->close)
        ops->close(attention);
    if (attention && ops->stop)
        ops->stop(attention);
    ops->destroy(attention);
}

/* Rows first .. first+n-1 in a call of their own. out [n, n_heads, head_dim]. */
static inline void run_rows(const bora_attention_ops *ops, bora_attention *attention, const problem *pb, const cut *how,
                            uint32_t first, uint32_t n, float *out)
{
    const size_t row_size = (size_t)pb->n_heads * pb->head_dim, size = n * row_size;
    const size_t kv_size = bytes_of(pb->dtype, (size_t)pb->n * pb->n_kv_heads * pb->head_dim);
    const uint64_t from = !how->whole_history && pb->window && first + 1 > pb->window ? first + 1 - pb->window : 0;
    float *q = bora_alloc(size * sizeof *q), *guarded = suite_guarded_new(size);
    assert_non_null(q);
    memcpy(q, pb->q + first * row_size, size * sizeof *q);
    unsigned char *k = how->strided ? by_head(pb, pb->k_elements) : bora_alloc(kv_size);
    unsigned char *v = how->strided ? by_head(pb, pb->v_elements) : bora_alloc(kv_size);
    assert_true(k && v);
    if (!how->strided) {
        memcpy(k, pb->k_elements, kv_size);
        memcpy(v, pb->v_elements, kv_size);
    }
    bora_kv_span spans[MAX_TOKENS];
    const bora_attention_seq seq = {
        .q = q,
        .out = guarded,
        .first = first,
        .n = n,
        .window = pb->window,
        .spans = spans,
        .n_spans = make_spans(pb, how, k, v, from, first + n, spans),
    };
    bora_error err = {""};
    if (ops->attend(attention, 1, &seq, &err) != BORA_OK)
        fail_msg("attend: %s", err.message);
    suite_guarded_check(guarded, size);
    if (memcmp(q, pb->q + first * row_size, size * sizeof *q) != 0)
        fail_msg("the plugin wrote to the queries");
    memset(k, 0xff, kv_size);
    memset(v, 0xff, kv_size);
    memcpy(out, guarded, size * sizeof *out);
    suite_guarded_free(guarded);
    bora_free(q);
    bora_free(k);
    bora_free(v);
}

/* All rows, chunk after chunk as a prompt would come. The caller's (bora_free). */
static inline float *run(void **state, const problem *pb, const cut *how, uint32_t n_threads)
{
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    suite_host host;
    suite_host_init(&host, n_threads);
    bora_attention *attention = create(state, &host, pb);
    size_t row_size = (size_t)pb->n_heads * pb->head_dim;
    float *out = bora_alloc(pb->n * row_size * sizeof *out);
    assert_non_null(out);
    for (uint32_t first = 0; first < pb->n; first += how->chunk)
        run_rows(ops, attention, pb, how, first, pb->n - first < how->chunk ? pb->n - first : how->chunk,
                 out + first * row_size);
    end(state, attention);
    suite_host_release(&host);
    return out;
}

static const cut one_piece = {.chunk = MAX_TOKENS};

static const uint32_t dtypes[] = {BORA_DTYPE_F32, BORA_DTYPE_F16, BORA_DTYPE_Q8_0};

static inline bool keeps(void **state, uint32_t dtype)
{
    return bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(dtype);
}

#endif
