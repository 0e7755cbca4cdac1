/* Every attention plugin: the reference implementation's vectors, a naive computation in double, and the promise of the
 * batch-invariant ones: the same bits however rows, spans and threads are cut. */
#include "attention.h"

#define ATOL     1e-5f
#define RTOL     1e-5f
#define NMSE_MAX 1e-10 /* against the reference */

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

static uint32_t between(uint64_t *random, uint32_t low, uint32_t high)
{
    return low + (uint32_t)(suite_random(random) % (high - low + 1));
}

/* Random shapes, windows, cuts and threads against attention-reference. */
static void agrees_with_reference(void **state)
{
    bora_plugin_library *reference = suite_reference(BORA_PLUGIN_ATTENTION);
    void *other = reference;
    uint64_t random = 2023;
    for (size_t t = 0; t < BORA_ARRAY_SIZE(dtypes); t++)
        for (uint32_t round = 0; keeps(state, dtypes[t]) && round < 40; round++) {
            const uint32_t n_kv_heads = between(&random, 1, 4), group = between(&random, 1, 6);
            const uint32_t block = bora_block_of(dtypes[t])->n_elements;
            const uint32_t head_dim = block * between(&random, 1, 160 / block), n = between(&random, 1, 130);
            problem pb;
            problem_init(&pb, n_kv_heads * group, n_kv_heads, head_dim, round % 3 ? between(&random, 1, n + 3) : 0,
                         dtypes[t], n, round);
            const cut how = {.chunk = between(&random, 1, n),
                             .span = round % 4 ? between(&random, 1, n) : 0,
                             .whole_history = round % 2,
                             .strided = round % 5 == 0};
            const size_t size = (size_t)n * n_kv_heads * group * head_dim;
            float *should = run(&other, &pb, &one_piece, 1);
            float *is = run(state, &pb, &how, between(&random, 1, SUITE_THREADS));
            const double nmse = suite_nmse(is, should, size);
            if (!(nmse <= NMSE_MAX))
                fail_msg("type %u, %u heads of %u on %u, window %u, %u rows in chunks of %u: nmse %.3g", dtypes[t],
                         pb.n_heads, head_dim, n_kv_heads, pb.window, n, how.chunk, nmse);
            bora_free(should);
            bora_free(is);
            problem_release(&pb);
        }
    bora_plugin_unload(reference);
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
                        suite_assert_same_bits(is, should, size);
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
                suite_assert_same_bits(seqs[i].out, alone, lengths[i] * row_size);
            bora_free(alone);
        }
        bora_free(seqs[i].out);
        problem_release(&problems[i]);
    }
    end(state, attention);
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
                    suite_assert_same_bits(is, should, size);
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
        end(state, attention);
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
    end(state, other);
    ops->destroy(NULL);
    suite_host_release(&host);
}

static bool speaks_floats(const bora_plugin_library *library)
{
    return suite_speaks_f32(library) || suite_speaks_f16(library);
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST_IF(golden, suite_speaks_f32),     SUITE_TEST(agrees_with_the_definition),
        SUITE_TEST(agrees_with_reference),           SUITE_TEST_IF(large_scores, speaks_floats),
        SUITE_TEST_IF(every_half, suite_speaks_f16), SUITE_TEST(cuts),
        SUITE_TEST_IF(company, speaks_floats),       SUITE_TEST(processors),
        SUITE_TEST_IF(exponential, speaks_floats),   SUITE_TEST_IF(refused_memory, speaks_floats),
        SUITE_TEST_IF(teardown, speaks_floats),
    };
    return suite_run(BORA_PLUGIN_ATTENTION, tests, BORA_ARRAY_SIZE(tests));
}
