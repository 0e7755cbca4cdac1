/* Every attention plugin: the reference implementation's vectors, a naive computation in double, and the promise of the
 * batch-invariant ones: the same bits however rows, spans and threads are cut. */
#include "suite.h"

#include "kernels/quantize.h"
#include "model/blocks.h"

#define MAX_TOKENS 256u
#define ATOL       1e-5f
#define RTOL       1e-5f

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

static size_t bytes_of(uint32_t dtype, uint64_t n_elements)
{
    size_t size = 0;
    assert_true(bora_block_row_size(dtype, n_elements, &size));
    return size;
}

/* n values as elements; values become what those hold. The caller's (bora_free). */
static void *to_elements(uint32_t dtype, float *values, size_t n)
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

static void problem_init(problem *pb, uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window,
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

static void problem_release(problem *pb)
{
    bora_free(pb->q);
    bora_free(pb->k);
    bora_free(pb->v);
    bora_free(pb->k_elements);
    bora_free(pb->v_elements);
}

/* The definition, in double. out [n, n_heads, head_dim]. */
static void naive(const problem *pb, float *out)
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
static uint32_t make_spans(const problem *pb, const cut *how, const void *k, const void *v, uint64_t from, uint64_t to,
                           bora_kv_span *ret_spans)
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

static void *by_head(const problem *pb, const void *elements)
{
    size_t size = bytes_of(pb->dtype, pb->head_dim);
    char *copy = bora_alloc(size * pb->n_kv_heads * pb->n);
    assert_non_null(copy);
    for (size_t p = 0; p < pb->n; p++)
        for (size_t h = 0; h < pb->n_kv_heads; h++)
            memcpy(copy + (h * pb->n + p) * size, (const char *)elements + (p * pb->n_kv_heads + h) * size, size);
    return copy;
}

static bora_attention *create(void **state, suite_host *host, const problem *pb)
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
    if (bora_plugin_attention_ops(*state)->create(&host->table, &shape, &attention, &err) != BORA_OK)
        fail_msg("create: %s", err.message);
    return attention;
}

/* All rows, chunk after chunk as a prompt would come. The caller's (bora_free). */
static float *run(void **state, const problem *pb, const cut *how, uint32_t n_threads)
{
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    suite_host host;
    suite_host_init(&host, n_threads);
    bora_attention *attention = create(state, &host, pb);
    size_t row_size = (size_t)pb->n_heads * pb->head_dim;
    float *out = bora_alloc(pb->n * row_size * sizeof *out);
    assert_non_null(out);
    memset(out, 0xff, pb->n * row_size * sizeof *out);
    void *k = how->strided ? by_head(pb, pb->k_elements) : pb->k_elements;
    void *v = how->strided ? by_head(pb, pb->v_elements) : pb->v_elements;
    for (uint32_t first = 0; first < pb->n; first += how->chunk) {
        uint32_t n = pb->n - first < how->chunk ? pb->n - first : how->chunk;
        uint64_t from = !how->whole_history && pb->window && first + 1 > pb->window ? first + 1 - pb->window : 0;
        bora_kv_span spans[MAX_TOKENS];
        bora_attention_seq seq = {
            .q = pb->q + first * row_size,
            .out = out + first * row_size,
            .first = first,
            .n = n,
            .window = pb->window,
            .spans = spans,
            .n_spans = make_spans(pb, how, k, v, from, first + n, spans),
        };
        bora_error err = {""};
        if (ops->attend(attention, 1, &seq, &err) != BORA_OK)
            fail_msg("attend: %s", err.message);
    }
    if (how->strided) {
        bora_free(k);
        bora_free(v);
    }
    ops->destroy(attention);
    suite_host_release(&host);
    return out;
}

static const cut one_piece = {.chunk = MAX_TOKENS};

static const uint32_t dtypes[] = {BORA_DTYPE_F32, BORA_DTYPE_F16, BORA_DTYPE_Q8_0};

static bool keeps(void **state, uint32_t dtype)
{
    return bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(dtype);
}

/* ---- numbers ---------------------------------------------------------------------------------------------- */

static void golden_case(void **state, const char *name, uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim,
                        uint32_t n, uint32_t window)
{
    problem pb;
    problem_init(&pb, n_heads, n_kv_heads, head_dim, window, BORA_DTYPE_F32, n, 1);
    size_t q_size = (size_t)n * n_heads * head_dim, kv_size = (size_t)n * n_kv_heads * head_dim;
    struct {
        const char *suffix;
        void *into;
        size_t n;
    } parts[] = {{"q", pb.q, q_size}, {"k", pb.k_elements, kv_size}, {"v", pb.v_elements, kv_size}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(parts); i++) {
        char file[64];
        (void)snprintf(file, sizeof file, "%s.%s", name, parts[i].suffix);
        void *values = suite_golden(file, parts[i].n);
        memcpy(parts[i].into, values, parts[i].n * 4);
        bora_free(values);
    }
    char file[64];
    (void)snprintf(file, sizeof file, "%s.y", name);
    float *should = suite_golden(file, q_size), *is = run(state, &pb, &one_piece, 1);
    suite_assert_near(is, should, q_size, ATOL, RTOL);
    bora_free(should);
    bora_free(is);
    problem_release(&pb);
}

static void golden(void **state)
{
    golden_case(state, "attention_4_4_16_12_0", 4, 4, 16, 12, 0);
    golden_case(state, "attention_8_2_8_30_8", 8, 2, 8, 30, 8);
}

static void agrees_with_the_definition(void **state)
{
    static const struct {
        uint32_t n_heads, n_kv_heads, head_dim, window, n;
    } shapes[] = {{4, 4, 16, 0, 40},   {8, 2, 8, 7, 60},      {6, 1, 12, 1, 20},   {4, 2, 128, 33, 150},
                  {2, 1, 64, 0, 200},  {3, 3, 100, 16, 70},   {1, 1, 1, 0, 5},     {32, 8, 17, 64, 65},
                  {8, 2, 128, 0, 130}, {16, 2, 64, 100, 256}, {4, 4, 96, 70, 140}, {70, 1, 32, 0, 66}};
    for (size_t t = 0; t < BORA_ARRAY_SIZE(dtypes); t++)
        for (size_t i = 0; keeps(state, dtypes[t]) && i < BORA_ARRAY_SIZE(shapes); i++) {
            const uint32_t dtype = dtypes[t];
            if (shapes[i].head_dim % bora_block_of(dtype)->n_elements)
                continue;
            problem pb;
            problem_init(&pb, shapes[i].n_heads, shapes[i].n_kv_heads, shapes[i].head_dim, shapes[i].window, dtype,
                         shapes[i].n, i + 1);
            size_t size = (size_t)pb.n * pb.n_heads * pb.head_dim;
            float *should = bora_alloc(size * sizeof *should), *is = run(state, &pb, &one_piece, SUITE_THREADS);
            assert_non_null(should);
            naive(&pb, should);
            suite_assert_near(is, should, size, ATOL, RTOL);
            bora_free(should);
            bora_free(is);
            problem_release(&pb);
        }
}

/* Scores far beyond what exp can hold. */
static void large_scores(void **state)
{
    uint32_t dtype = keeps(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16;
    problem pb;
    problem_init(&pb, 2, 1, 16, 0, dtype, 30, 3);
    size_t size = (size_t)pb.n * pb.n_heads * pb.head_dim;
    for (size_t i = 0; i < size; i++)
        pb.q[i] *= 1000;
    float *should = bora_alloc(size * sizeof *should), *is = run(state, &pb, &one_piece, 1);
    assert_non_null(should);
    naive(&pb, should);
    suite_assert_near(is, should, size, 5e-3f, 1e-3f); /* f32 scores of 10^4 are exact to about 10^-3 */
    bora_free(should);
    bora_free(is);
    problem_release(&pb);
}

/* Every half there is, as a value: widening must be exact. With one visible key its weight is 1. */
static void every_half(void **state)
{
    problem pb;
    problem_init(&pb, 1, 1, 256, 1, BORA_DTYPE_F16, 256, 5);
    uint16_t *halves = pb.v_elements;
    for (uint32_t i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    float *is = run(state, &pb, &one_piece, 1);
    for (uint32_t i = 0; i < 65536; i++) {
        float should = bora_f16_to_f32((uint16_t)i);
        if (isnan(should) ? !isnan(is[i]) : is[i] != should)
            fail_msg("half 0x%04x is read as %g, should be %g", i, (double)is[i], (double)should);
    }
    bora_free(is);
    problem_release(&pb);
}

/* ---- cuts ------------------------------------------------------------------------------------------------- */

static void cuts(void **state)
{
    static const cut ways[] = {{.chunk = 1},
                               {.chunk = 7},
                               {.chunk = 64, .span = 64},
                               {.chunk = 13, .span = 1},
                               {.chunk = 50, .span = 9, .whole_history = true},
                               {.chunk = MAX_TOKENS, .span = 31},
                               {.chunk = 20, .strided = true},
                               {.chunk = 33, .span = 5, .strided = true}};
    static const struct {
        uint32_t head_dim, window;
    } shapes[] = {{24, 0}, {24, 40}, {64, 0}, {64, 65}, {128, 7}, {96, 64}};
    const bool same_bits = bora_plugin_flags(*state) & BORA_PLUGIN_BATCH_INVARIANT;
    for (size_t t = 0; t < BORA_ARRAY_SIZE(dtypes); t++)
        for (size_t w = 0; keeps(state, dtypes[t]) && w < BORA_ARRAY_SIZE(shapes); w++) {
            if (shapes[w].head_dim % bora_block_of(dtypes[t])->n_elements)
                continue;
            problem pb;
            problem_init(&pb, 4, 2, shapes[w].head_dim, shapes[w].window, dtypes[t], 170, 9);
            size_t size = (size_t)pb.n * pb.n_heads * pb.head_dim;
            float *should = run(state, &pb, &one_piece, 1);
            for (size_t i = 0; i < BORA_ARRAY_SIZE(ways); i++)
                for (uint32_t n_threads = 1; n_threads <= SUITE_THREADS; n_threads++) {
                    float *is = run(state, &pb, &ways[i], n_threads);
                    suite_assert_near(is, should, size, ATOL, RTOL);
                    if (same_bits)
                        assert_memory_equal(is, should, size * sizeof *is);
                    bora_free(is);
                }
            bora_free(should);
            problem_release(&pb);
        }
}

/* Sequences of different lengths in one call, one without rows: each as if it were alone. */
static void company(void **state)
{
    static const uint32_t lengths[] = {30, 1, 0, 90, 5}, windows[] = {0, 4, 0, 25, 2};
    enum { N = BORA_ARRAY_SIZE(lengths) };
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    const bool same_bits = bora_plugin_flags(*state) & BORA_PLUGIN_BATCH_INVARIANT;
    uint32_t dtype = keeps(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16;
    suite_host host;
    suite_host_init(&host, SUITE_THREADS);
    problem problems[N];
    bora_kv_span spans[N];
    bora_attention_seq seqs[N];
    const size_t row_size = 4 * 20;
    for (size_t i = 0; i < N; i++) {
        problem_init(&problems[i], 4, 2, 20, windows[i], dtype, lengths[i] ? lengths[i] : 1, i + 20);
        float *out = bora_alloc(problems[i].n * row_size * sizeof *out);
        assert_non_null(out);
        seqs[i] = (bora_attention_seq){.q = problems[i].q, .out = out, .n = lengths[i], .window = windows[i]};
        seqs[i].n_spans = make_spans(&problems[i], &one_piece, problems[i].k_elements, problems[i].v_elements, 0,
                                     lengths[i], &spans[i]);
        seqs[i].spans = &spans[i];
    }
    bora_attention *attention = create(state, &host, &problems[0]);
    bora_error err = {""};
    if (ops->attend(attention, N, seqs, &err) != BORA_OK)
        fail_msg("attend: %s", err.message);
    assert_int_equal(ops->attend(attention, 0, seqs, &err), BORA_OK);
    for (size_t i = 0; i < N; i++) {
        if (lengths[i]) {
            float *alone = run(state, &problems[i], &one_piece, 1);
            suite_assert_near(seqs[i].out, alone, lengths[i] * row_size, ATOL, RTOL);
            if (same_bits)
                assert_memory_equal(seqs[i].out, alone, lengths[i] * row_size * sizeof *alone);
            bora_free(alone);
        }
        bora_free(seqs[i].out);
        problem_release(&problems[i]);
    }
    ops->destroy(attention);
    suite_host_release(&host);
}

/* Whoever names its processor's instructions in its promise must keep it with fewer: the same bits. */
static void processors(void **state)
{
    static const char *const names[] = {"generic", "avx2", "avx512"};
    static const uint32_t head_dims[] = {128, 64, 20};
    const bool same_bits = bora_plugin_flags(*state) & BORA_PLUGIN_BATCH_INVARIANT;
    const char *before = getenv("BORA_CPU");
    char *kept = before ? bora_format("%s", before) : NULL;
    for (size_t t = 0; t < BORA_ARRAY_SIZE(dtypes); t++)
        for (size_t h = 0; keeps(state, dtypes[t]) && h < BORA_ARRAY_SIZE(head_dims); h++) {
            if (head_dims[h] % bora_block_of(dtypes[t])->n_elements)
                continue;
            problem pb;
            problem_init(&pb, 6, 2, head_dims[h], 100, dtypes[t], 150, 11);
            size_t size = (size_t)pb.n * pb.n_heads * pb.head_dim;
            float *should = NULL;
            for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++) {
                assert_int_equal(setenv("BORA_CPU", names[i], 1), 0);
                float *is = run(state, &pb, &one_piece, 1);
                if (should && same_bits)
                    assert_memory_equal(is, should, size * sizeof *is);
                else if (should)
                    suite_assert_near(is, should, size, ATOL, RTOL);
                bora_free(should);
                should = is;
            }
            bora_free(should);
            problem_release(&pb);
        }
    assert_int_equal(kept ? setenv("BORA_CPU", kept, 1) : unsetenv("BORA_CPU"), 0);
    bora_free(kept);
}

/* A head of two keys with the scores 0 and -x and the values 0 and 1 gives e^-x / (1 + e^-x): the exponential itself,
 * to the accuracy of a float's score. */
static void exponential(void **state)
{
    enum { N_HEADS = 64 };
    problem pb;
    problem_init(&pb, N_HEADS, 1, 1, 0, keeps(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16, 2, 1);
    bora_free(pb.k_elements);
    bora_free(pb.v_elements);
    pb.k[0] = pb.v[0] = 0;
    pb.k[1] = pb.v[1] = 1;
    pb.k_elements = to_elements(pb.dtype, pb.k, 2);
    pb.v_elements = to_elements(pb.dtype, pb.v, 2);
    for (uint32_t round = 0; round < 300; round++) {
        uint64_t random = round;
        for (uint32_t h = 0; h < N_HEADS; h++)
            pb.q[N_HEADS + h] = -(float)(suite_random(&random) >> 40) * 0x1p-24f * (round % 2 ? 2.0f : 86.0f);
        float *is = run(state, &pb, &one_piece, 1);
        for (uint32_t h = 0; h < N_HEADS; h++) {
            double x = pb.q[N_HEADS + h], should = exp(x) / (1 + exp(x)), bound = (3 - x) * 0x1p-23;
            if (!(fabs(is[N_HEADS + h] - should) <= bound * should))
                fail_msg("e^%.9g gives %.9g, should give %.9g", x, (double)is[N_HEADS + h], should);
        }
        bora_free(is);
    }
    problem_release(&pb);
}

/* ---- memory and life -------------------------------------------------------------------------------------- */

static void refused_memory(void **state)
{
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    uint32_t dtype = keeps(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16;
    problem pb;
    problem_init(&pb, 4, 2, 16, 0, dtype, 100, 4);
    size_t size = (size_t)pb.n * pb.n_heads * pb.head_dim;
    float *should = run(state, &pb, &one_piece, 1), *is = bora_alloc(size * sizeof *is);
    assert_non_null(is);
    bora_kv_span span;
    bora_attention_seq seq = {.q = pb.q, .out = is, .n = pb.n, .spans = &span};
    seq.n_spans = make_spans(&pb, &one_piece, pb.k_elements, pb.v_elements, 0, pb.n, &span);
    bora_attention_shape shape = {
        .struct_size = sizeof shape,
        .n_heads = pb.n_heads,
        .n_kv_heads = pb.n_kv_heads,
        .head_dim = pb.head_dim,
        .max_tokens = MAX_TOKENS,
        .kv_dtype = dtype,
    };
    suite_host host;
    suite_host_init(&host, 1);
    bora_status status = BORA_E_NOMEM;
    for (uint64_t n = 1; status != BORA_OK; n++) {
        suite_host_fail_at(&host, n);
        bora_attention *attention = NULL;
        bora_error err = {""};
        status = ops->create(&host.table, &shape, &attention, &err);
        if (status == BORA_OK) {
            status = ops->attend(attention, 1, &seq, &err);
            suite_host_fail_at(&host, 0);
            assert_int_equal(ops->attend(attention, 1, &seq, NULL), BORA_OK); /* with memory again it works */
            assert_memory_equal(is, should, size * sizeof *is);
        } else {
            assert_null(attention);
        }
        assert_true(status == BORA_OK || (status == BORA_E_NOMEM && err.message[0]));
        ops->destroy(attention);
        assert_int_equal(atomic_load(&host.n_blocks), 0);
    }
    suite_host_release(&host);
    bora_free(should);
    bora_free(is);
    problem_release(&pb);
}

static void teardown(void **state)
{
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    problem pb = {.n_heads = 2,
                  .n_kv_heads = 1,
                  .head_dim = 8,
                  .dtype = keeps(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16};
    suite_host host;
    suite_host_init(&host, 1);
    bora_attention *attention = create(state, &host, &pb), *other = create(state, &host, &pb);
    for (int i = 0; i < 2; i++) /* close may come twice */
        if (ops->close)
            ops->close(attention);
    if (ops->stop)
        ops->stop(attention);
    ops->destroy(attention);
    ops->destroy(other);
    ops->destroy(NULL);
    suite_host_release(&host);
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST_IF(golden, suite_speaks_f32),
        SUITE_TEST(agrees_with_the_definition),
        SUITE_TEST(large_scores),
        SUITE_TEST_IF(every_half, suite_speaks_f16),
        SUITE_TEST(cuts),
        SUITE_TEST(company),
        SUITE_TEST(processors),
        SUITE_TEST(exponential),
        SUITE_TEST(refused_memory),
        SUITE_TEST(teardown),
    };
    return suite_run(BORA_PLUGIN_ATTENTION, tests, BORA_ARRAY_SIZE(tests));
}
