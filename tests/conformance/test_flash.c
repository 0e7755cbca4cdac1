/* attention-flash beyond what the suite can see: its exponential, and long contexts, where positions lie in several
 * chunks and one token is shared out over threads. Everything long is compared bit for bit with one row at a time on
 * one thread, and that with double precision. */
#include "suite.h"

#include "base/cpu.h"
#include "model/blocks.h"
#include "../../plugins/attention/flash/flash.h"

/* ---- exponential ------------------------------------------------------------------------------------------ */

static size_t all_kernels(const flash_kernels *ret_kernels[3])
{
    size_t n = 0;
    ret_kernels[n++] = &bora_flash_generic;
#if defined(__x86_64__)
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    if (cpu.avx2)
        ret_kernels[n++] = &bora_flash_avx2;
    if (cpu.avx512)
        ret_kernels[n++] = &bora_flash_avx512;
#endif
    return n;
}

/* Every 61st float from -0 down to where the result is 0, on every processor. */
static void test_exp2(void **state)
{
    (void)state;
    enum { N = 4096 };
    static float x[N], y[N], same[N];
    const flash_kernels *kernels[3];
    const size_t n_kernels = all_kernels(kernels);
    double worst = 0;
    for (uint32_t bits = 0x80000000u; bits < 0xc3000000u; bits += 61 * N) {
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t at = bits + 61 * i;
            memcpy(&x[i], &at, sizeof at);
        }
        kernels[0]->exp2(x, y, N);
        for (size_t k = 1; k < n_kernels; k++) {
            kernels[k]->exp2(x, same, N);
            assert_memory_equal(same, y, sizeof y);
        }
        for (uint32_t i = 0; i < N; i++) {
            if (x[i] < -126) {
                assert_true(y[i] == 0);
                continue;
            }
            const double should = exp2((double)x[i]);
            worst = fmax(worst, fabs(y[i] - should) / should);
        }
    }
    if (!(worst < 1.5e-7))
        fail_msg("the relative error of 2^x is up to %g", worst);
}

static void test_exp2_special(void **state)
{
    (void)state;
    const flash_kernels *kernels[3];
    const size_t n_kernels = all_kernels(kernels);
    const float x[FLASH_LANES] = {0, -0.0f, -INFINITY, NAN, -1, -126, -126.00001f, -1e30f, -3e38f};
    for (size_t k = 0; k < n_kernels; k++) {
        float y[FLASH_LANES];
        kernels[k]->exp2(x, y, FLASH_LANES);
        assert_true(y[0] == 1 && y[1] == 1 && y[2] == 0 && isnan(y[3]) && y[4] == 0.5f && y[5] == 0x1p-126f);
        assert_true(y[6] == 0 && y[7] == 0 && y[8] == 0);
    }
}

/* ---- long contexts ------------------------------------------------------------------------------------------ */

#define N_POSITIONS 2600u
#define N_KV_HEADS  2u
#define GROUP       4u
#define N_HEADS     (N_KV_HEADS * GROUP)
#define MAX_ROWS    200u

typedef struct context {
    const bora_attention_ops *ops;
    uint32_t head_dim, window;
    uint16_t *k, *v; /* [N_POSITIONS, N_KV_HEADS, head_dim] */
    float *q;        /* [N_POSITIONS, N_HEADS, head_dim] */
} context;

static uint16_t *random_halves(uint64_t *random, size_t n)
{
    float *values = suite_random_floats(random, n);
    uint16_t *halves = bora_alloc(n * sizeof *halves);
    assert_non_null(halves);
    for (size_t i = 0; i < n; i++)
        halves[i] = bora_f32_to_f16(values[i]);
    bora_free(values);
    return halves;
}

static void context_init(context *c, const bora_attention_ops *ops, uint32_t head_dim, uint32_t window)
{
    uint64_t random = head_dim + window;
    const size_t kv_size = (size_t)N_POSITIONS * N_KV_HEADS * head_dim;
    *c = (context){.ops = ops, .head_dim = head_dim, .window = window};
    c->k = random_halves(&random, kv_size);
    c->v = random_halves(&random, kv_size);
    c->q = suite_random_floats(&random, kv_size * GROUP);
    for (size_t i = 0; i < kv_size * GROUP; i++)
        c->q[i] *= 4;
}

static void context_release(context *c)
{
    bora_free(c->k);
    bora_free(c->v);
    bora_free(c->q);
}

/* Rows first .. first+n-1 in chunks, spans cut every span positions. refuse: no memory but during create. The caller's
 * (bora_free). */
static float *run(const context *c, uint32_t first, uint32_t n, uint32_t chunk, uint32_t span, uint32_t n_threads,
                  bool refuse)
{
    suite_host host;
    suite_host_init(&host, n_threads);
    const bora_attention_shape shape = {
        .struct_size = sizeof shape,
        .n_heads = N_HEADS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = c->head_dim,
        .max_tokens = MAX_ROWS,
        .kv_dtype = BORA_DTYPE_F16,
    };
    bora_attention *attention = NULL;
    bora_error err = {""};
    assert_int_equal(c->ops->create(&host.table, &shape, &attention, &err), BORA_OK);
    suite_host_fail_at(&host, refuse ? 1 : 0);
    const size_t row = (size_t)N_HEADS * c->head_dim, kv_row = (size_t)N_KV_HEADS * c->head_dim;
    float *out = bora_alloc(n * row * sizeof *out);
    assert_non_null(out);
    static bora_kv_span spans[N_POSITIONS];
    for (uint32_t done = 0; done < n; done += chunk) {
        const uint32_t rows = n - done < chunk ? n - done : chunk, end = first + done + rows;
        uint32_t n_spans = 0;
        for (uint32_t p = 0; p < end; p += span)
            spans[n_spans++] = (bora_kv_span){
                .k = c->k + p * kv_row,
                .v = c->v + p * kv_row,
                .first = p,
                .n = end - p < span ? end - p : span,
                .dtype = BORA_DTYPE_F16,
                .position_stride = kv_row,
                .head_stride = c->head_dim,
            };
        const bora_attention_seq seq = {
            .q = c->q + (first + done) * row,
            .out = out + done * row,
            .first = first + done,
            .n = rows,
            .window = c->window,
            .spans = spans,
            .n_spans = n_spans,
        };
        if (c->ops->attend(attention, 1, &seq, &err) != BORA_OK)
            fail_msg("attend: %s", err.message);
    }
    c->ops->destroy(attention);
    suite_host_release(&host);
    return out;
}

/* One head of one row, in double. */
static void assert_row(const context *c, uint32_t position, uint32_t head, const float *is)
{
    static double weights[N_POSITIONS];
    const uint32_t from = c->window && position + 1 > c->window ? position + 1 - c->window : 0;
    const size_t kv_row = (size_t)N_KV_HEADS * c->head_dim, at = head / GROUP * (size_t)c->head_dim;
    const float *q = c->q + ((size_t)position * N_HEADS + head) * c->head_dim;
    double max = -INFINITY, sum = 0;
    for (uint32_t p = from; p <= position; p++) {
        weights[p] = 0;
        for (uint32_t d = 0; d < c->head_dim; d++)
            weights[p] += (double)q[d] * (double)bora_f16_to_f32(c->k[p * kv_row + at + d]) / sqrt(c->head_dim);
        max = fmax(max, weights[p]);
    }
    for (uint32_t p = from; p <= position; p++)
        sum += weights[p] = exp(weights[p] - max);
    for (uint32_t d = 0; d < c->head_dim; d++) {
        double should = 0;
        for (uint32_t p = from; p <= position; p++)
            should += weights[p] / sum * (double)bora_f16_to_f32(c->v[p * kv_row + at + d]);
        if (!(fabs(is[d] - should) <= 2e-6))
            fail_msg("row %u, head %u, element %u is %.9g, should be %.9g", position, head, d, (double)is[d], should);
    }
}

static void long_context(const bora_attention_ops *ops, uint32_t head_dim, uint32_t window)
{
    static const struct {
        uint32_t chunk, span;
    } ways[] = {{1, N_POSITIONS}, {1, 700}, {7, N_POSITIONS}, {130, 64}, {MAX_ROWS, 333}, {MAX_ROWS, 1}};
    /* Rows on both sides of the edge of a chunk, and at the end. */
    static const uint32_t firsts[] = {1950, N_POSITIONS - 150};
    context c;
    context_init(&c, ops, head_dim, window);
    const size_t row = (size_t)N_HEADS * head_dim, n = 150;
    for (size_t f = 0; f < BORA_ARRAY_SIZE(firsts); f++) {
        float *should = run(&c, firsts[f], n, 1, N_POSITIONS, 1, false);
        for (uint32_t i = 0; i < n; i += 49)
            for (uint32_t head = 0; head < N_HEADS; head += 3)
                assert_row(&c, firsts[f] + i, head, should + i * row + head * (size_t)head_dim);
        for (size_t w = 0; w < BORA_ARRAY_SIZE(ways); w++)
            for (uint32_t n_threads = 1; n_threads <= SUITE_THREADS; n_threads++) {
                float *is = run(&c, firsts[f], n, ways[w].chunk, ways[w].span, n_threads, w % 2);
                assert_memory_equal(is, should, n * row * sizeof *is);
                bora_free(is);
            }
        bora_free(should);
    }
    context_release(&c);
}

static void test_long_contexts(void **state)
{
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    long_context(ops, 128, 0);
    long_context(ops, 128, 1500);
    long_context(ops, 64, 1025);
    long_context(ops, 24, 0);
}

/* ---- shapes that are refused --------------------------------------------------------------------------------- */

static void test_shapes_refused(void **state)
{
    const bora_attention_ops *ops = bora_plugin_attention_ops(*state);
    suite_host host;
    suite_host_init(&host, 1);
    const bora_attention_shape good = {
        .struct_size = sizeof good,
        .n_heads = 4,
        .n_kv_heads = 2,
        .head_dim = 64,
        .max_tokens = 8,
        .kv_dtype = BORA_DTYPE_Q8_0,
    };
    bora_attention_shape bad[6] = {good, good, good, good, good, good};
    bad[0].struct_size = 8;
    bad[1].n_kv_heads = 3;
    bad[2].head_dim = 0;
    bad[3].head_dim = 40; /* not whole blocks */
    bad[4].kv_dtype = BORA_DTYPE_BF16;
    bad[5].max_tokens = UINT32_MAX;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        bora_attention *attention = NULL;
        bora_error err = {""};
        assert_int_not_equal(ops->create(&host.table, &bad[i], &attention, &err), BORA_OK);
        assert_null(attention);
        assert_true(err.message[0] != '\0');
    }
    suite_host_release(&host);
}

int main(void)
{
    bora_error err = {""};
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    bora_plugin_library *library = NULL;
    if (bora_plugin_load(BORA_BUILD_DIR "/lib/bora/plugins/attention-flash.so", BORA_PLUGIN_ATTENTION, &log, &library,
                         &err) != BORA_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp2),
        cmocka_unit_test(test_exp2_special),
        cmocka_unit_test_prestate(test_long_contexts, library),
        cmocka_unit_test_prestate(test_shapes_refused, library),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    bora_plugin_unload(library);
    return failed;
}
