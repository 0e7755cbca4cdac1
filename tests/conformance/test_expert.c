/* Every expert plugin: the reference implementation's vectors, a naive computation in double on every weight type, and
 * the promise of the batch-invariant ones: a token's bits do not depend on its company. */
#include "expert.h"

static void golden_swiglu(void **state, const char *name, uint32_t dim, uint32_t hidden_dim)
{
    static int32_t zeros[6];
    static float ones[6] = {1, 1, 1, 1, 1, 1};
    char file[64];
    float *parts[5];
    static const char *const suffixes[] = {"x", "y", "w1", "w2", "w3"};
    for (size_t i = 0; i < 5; i++) {
        (void)snprintf(file, sizeof file, "%s.%s", name, suffixes[i]);
        parts[i] = suite_golden(file, i < 2 ? (size_t)6 * dim : (size_t)dim * hidden_dim);
    }
    layer ly = {.n_experts = 1, .k = 1, .dim = dim, .hidden_dim = hidden_dim};
    ly.w1[0] = f32_tensor(parts[2], hidden_dim, dim);
    ly.w2[0] = f32_tensor(parts[3], dim, hidden_dim);
    ly.w3[0] = f32_tensor(parts[4], hidden_dim, dim);
    batch bt = {.n = 6, .x = parts[0], .experts = zeros, .weights = ones};
    float *y = run(state, &ly, &bt, 6, SUITE_THREADS);
    suite_assert_near(y, parts[1], (size_t)6 * dim, 2e-5f, 2e-5f);
    bora_free(y);
    for (size_t i = 0; i < 5; i++)
        bora_free(parts[i]);
}

static void golden_dense(void **state)
{
    golden_swiglu(state, "swiglu_64_172", 64, 172);
    golden_swiglu(state, "swiglu_40_108", 40, 108);
}

static void golden_moe(void **state)
{
    enum { N = 9, E = 8, K = 2, DIM = 32, HIDDEN = 44 };
    float *w1 = suite_golden("moe_layer.w1", (size_t)E * HIDDEN * DIM),
          *w2 = suite_golden("moe_layer.w2", (size_t)E * HIDDEN * DIM);
    float *w3 = suite_golden("moe_layer.w3", (size_t)E * HIDDEN * DIM),
          *x = suite_golden("moe_layer.x", (size_t)N * DIM);
    float *should = suite_golden("moe_layer.y", (size_t)N * DIM),
          *logits = suite_golden("moe_layer.gate_logits", (size_t)N * E);
    int32_t *chosen = suite_golden("moe_layer.experts", (size_t)N * K), experts[N * K];
    float weights[N * K];
    bora_route(N, E, K, logits, experts, weights);
    assert_memory_equal(experts, chosen, sizeof experts);
    layer ly = {.n_experts = E, .k = K, .dim = DIM, .hidden_dim = HIDDEN};
    for (size_t e = 0; e < E; e++) {
        ly.w1[e] = f32_tensor(w1 + e * HIDDEN * DIM, HIDDEN, DIM);
        ly.w2[e] = f32_tensor(w2 + e * HIDDEN * DIM, DIM, HIDDEN);
        ly.w3[e] = f32_tensor(w3 + e * HIDDEN * DIM, HIDDEN, DIM);
    }
    batch bt = {.n = N, .x = x, .experts = experts, .weights = weights};
    float *y = run(state, &ly, &bt, N, SUITE_THREADS);
    suite_assert_near(y, should, (size_t)N * DIM, 2e-5f, 2e-5f);
    bora_free(y);
    bora_free(w1);
    bora_free(w2);
    bora_free(w3);
    bora_free(x);
    bora_free(should);
    bora_free(logits);
    bora_free(chosen);
}

static void agrees_with_the_definition(void **state)
{
    static const struct {
        uint32_t n_experts, k, dim, hidden_dim, n;
    } shapes[] = {{1, 1, 64, 160, 5}, {8, 2, 32, 96, 30}, {4, 4, 96, 32, 7}, {3, 1, 128, 352, 1}, {8, 2, 64, 64, 2}};
    static const struct {
        uint32_t n_experts, k, dim, hidden_dim, n;
    } odd = {5, 2, 37, 61, 17}; /* not for types in blocks */
    uint32_t n_types = 0;
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        if (!takes(state, dtype))
            continue;
        n_types++;
        for (size_t i = 0; i <= BORA_ARRAY_SIZE(shapes); i++) {
            if (i == BORA_ARRAY_SIZE(shapes) && bora_block_of(dtype)->n_elements > 1)
                continue;
            if (is_left_to_others(dtype, i))
                continue;
            layer ly;
            batch bt;
            if (i < BORA_ARRAY_SIZE(shapes))
                layer_init(&ly, dtype, shapes[i].n_experts, shapes[i].k, shapes[i].dim, shapes[i].hidden_dim, i + 1);
            else
                layer_init(&ly, dtype, odd.n_experts, odd.k, odd.dim, odd.hidden_dim, 99);
            batch_init(&bt, &ly, i < BORA_ARRAY_SIZE(shapes) ? shapes[i].n : odd.n, i + 50);
            size_t size = (size_t)bt.n * ly.dim;
            float *should = bora_alloc(size * sizeof *should), *is = run(state, &ly, &bt, MAX_TOKENS, SUITE_THREADS);
            assert_non_null(should);
            naive(&ly, &bt, should);
            assert_near_enough(state, dtype, is, should, size);
            bora_free(should);
            bora_free(is);
            batch_release(&bt);
            layer_release(&ly);
        }
    }
    assert_true(n_types > 0);
}

static uint32_t between(uint64_t *random, uint32_t low, uint32_t high)
{
    return low + (uint32_t)(suite_random(random) % (high - low + 1));
}

/* Random shapes, cuts and threads against expert-reference: odd sizes where the type has no blocks. */
static void agrees_with_reference(void **state)
{
    bora_plugin_library *reference = suite_reference(BORA_PLUGIN_EXPERT);
    void *other = reference;
    uint64_t random = 2024;
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++)
        for (uint32_t round = 0; takes(state, dtype) && round < (dtype < BORA_DTYPE_Q8_0 ? 10u : 2u); round++) {
            layer ly;
            batch bt;
            const uint32_t n_experts = between(&random, 1, N_EXPERTS_MAX), k = between(&random, 1, n_experts);
            layer_init(&ly, dtype, n_experts, k, between(&random, 1, 150), between(&random, 1, 300), round + 7);
            batch_init(&bt, &ly, between(&random, 1, MAX_TOKENS), round + 8);
            const size_t size = (size_t)bt.n * ly.dim;
            float *should = run(&other, &ly, &bt, MAX_TOKENS, 1);
            float *is = run(state, &ly, &bt, between(&random, 1, MAX_TOKENS), between(&random, 1, SUITE_THREADS));
            const double nmse = suite_nmse(is, should, size);
            if (!(nmse <= (!quantises(state, dtype)   ? NMSE_MAX_EXACT
                           : dtype == BORA_DTYPE_Q2_K ? NMSE_MAX_Q2_K
                                                      : NMSE_MAX)))
                fail_msg("type %u, %u of %u experts, [%u, %u], %u tokens: nmse %.3g", dtype, k, n_experts,
                         ly.hidden_dim, ly.dim, bt.n, nmse);
            bora_free(should);
            bora_free(is);
            batch_release(&bt);
            layer_release(&ly);
        }
    bora_plugin_unload(reference);
}

/* ---- company ---------------------------------------------------------------------------------------------- */

static void company(void **state)
{
    static const uint32_t chunks[] = {1, 2, 3, 7, 40};
    const bool same_bits = bora_plugin_flags(*state) & BORA_PLUGIN_BATCH_INVARIANT;
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        if (!takes(state, dtype))
            continue;
        layer ly;
        batch bt;
        layer_init(&ly, dtype, 8, 3, 64, 224, 3); /* two sums have one order only */
        batch_init(&bt, &ly, 37, 4);
        size_t size = (size_t)bt.n * ly.dim;
        float *should = run(state, &ly, &bt, 37, 1);
        for (size_t i = 0; i < BORA_ARRAY_SIZE(chunks); i++)
            for (uint32_t n_threads = 1; n_threads <= SUITE_THREADS; n_threads++) {
                if (is_left_to_others(dtype, i + n_threads))
                    continue;
                float *is = run(state, &ly, &bt, chunks[i], n_threads);
                assert_near_enough(state, dtype, is, should, size);
                if (same_bits)
                    suite_assert_same_bits(is, should, size);
                bora_free(is);
            }
        bora_free(should);
        batch_release(&bt);
        layer_release(&ly);
    }
}

/* Layers do not mix, whatever their order. */
static void layers(void **state)
{
    const uint32_t dtype = takes(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_Q8_0;
    layer lys[3];
    batch bt;
    for (uint64_t i = 0; i < 3; i++)
        layer_init(&lys[i], dtype, 4, 2, 32, 64, 70 + i);
    batch_init(&bt, &lys[0], 9, 5);
    suite_host host;
    suite_host_init(&host, 1);
    bora_expert *expert = create(state, &host, lys, 3);
    float y[9 * 32];
    static const uint32_t order[] = {2, 0, 1, 2};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(order); i++) {
        float *alone = run(state, &lys[order[i]], &bt, 9, 1);
        forward(state, expert, order[i], &lys[order[i]], &bt, 0, 9, y);
        suite_assert_near(y, alone, BORA_ARRAY_SIZE(y), 2e-5f, 2e-5f);
        bora_free(alone);
    }
    end(state, expert);
    suite_host_release(&host);
    batch_release(&bt);
    for (size_t i = 0; i < 3; i++)
        layer_release(&lys[i]);
}

/* ---- refusals, memory and life ---------------------------------------------------------------------------- */

static void wrong_calls(void **state)
{
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    const uint32_t dtype = takes(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_Q8_0;
    layer ly;
    layer_init(&ly, dtype, 4, 2, 32, 64, 6);
    suite_host host;
    suite_host_init(&host, 1);
    bora_expert *expert = create(state, &host, &ly, 1);
    bora_error err = {""};

    static const char *const wrong_weights[] = {"weights of another shape", "weights without data",
                                                "weights of an unknown element type"};
    for (int i = 0; i < 3; i++) {
        layer bad = ly;
        bad.w1[1].n_cols += i == 0 ? 32 : 0;
        bad.w2[3].data = i == 1 ? NULL : bad.w2[3].data;
        bad.w3[0].dtype = i == 2 ? 99 : bad.w3[0].dtype;
        bora_expert_weights weights = {.w1 = bad.w1, .w2 = bad.w2, .w3 = bad.w3};
        memset(&err, 0, sizeof err);
        SUITE_DEMAND(ops->prepare(expert, 0, &weights, &err) != BORA_OK, "prepare took %s", wrong_weights[i]);
        SUITE_DEMAND(err.message[0], "prepare refused %s and gave no reason", wrong_weights[i]);
    }
    bora_expert_weights good = {.w1 = ly.w1, .w2 = ly.w2, .w3 = ly.w3};
    SUITE_DEMAND(ops->prepare(expert, 1, &good, &err) != BORA_OK, "prepare took a layer that does not exist");

    /* Experts that do not exist. */
    float x[32] = {0}, y[32];
    static const int32_t wrong[][2] = {{0, 4}, {-1, 0}, {INT32_MAX, 1}, {INT32_MIN, 1}};
    const float weights[2] = {0.5f, 0.5f};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        bora_routing routing = {.experts = wrong[i], .weights = weights};
        SUITE_DEMAND(ops->forward(expert, 0, 1, x, y, &routing, &err) == BORA_E_INVAL,
                     "forward took the experts %d and %d, of 4", wrong[i][0], wrong[i][1]);
    }
    end(state, expert);

    bora_expert_shape shape = {.struct_size = 4,
                               .n_layers = 1,
                               .n_experts = 1,
                               .n_experts_per_tok = 1,
                               .dim = 32,
                               .hidden_dim = 32,
                               .max_tokens = 1};
    expert = NULL;
    SUITE_DEMAND(ops->create(&host.table, &shape, &expert, &err) != BORA_OK, "create took a shape of 4 bytes");
    shape.struct_size = sizeof shape;
    shape.max_tokens = shape.n_experts = shape.n_experts_per_tok = UINT32_MAX;
    SUITE_DEMAND(ops->create(&host.table, &shape, &expert, &err) != BORA_OK, "create took 2^32 - 1 experts and tokens");
    SUITE_DEMAND(!expert, "create failed, yet handed out an instance");
    suite_host_release(&host);
    layer_release(&ly);
}

static void refused_memory(void **state)
{
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    const uint32_t dtype = takes(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_Q8_0;
    layer ly;
    batch bt;
    layer_init(&ly, dtype, 4, 2, 32, 64, 6);
    batch_init(&bt, &ly, 11, 7);
    float *should = run(state, &ly, &bt, 11, 1), y[11 * 32];
    bora_expert_shape shape = {.struct_size = sizeof shape,
                               .n_layers = 1,
                               .n_experts = 4,
                               .n_experts_per_tok = 2,
                               .dim = 32,
                               .hidden_dim = 64,
                               .max_tokens = MAX_TOKENS};
    bora_expert_weights weights = {.w1 = ly.w1, .w2 = ly.w2, .w3 = ly.w3};
    bora_routing routing = {.experts = bt.experts, .weights = bt.weights};
    suite_host host;
    suite_host_init(&host, 1);
    bora_status status = BORA_E_NOMEM;
    for (uint64_t n = 1; status != BORA_OK; n++) {
        bora_expert *expert = NULL;
        bora_error err = {""};
        suite_host_fail_at(&host, n);
        status = ops->create(&host.table, &shape, &expert, &err);
        assert_true(status == BORA_OK || !expert);
        if (status == BORA_OK)
            status = ops->prepare(expert, 0, &weights, &err);
        if (status == BORA_OK)
            status = ops->forward(expert, 0, bt.n, bt.x, y, &routing, &err);
        if (status == BORA_OK)
            suite_assert_near(y, should, BORA_ARRAY_SIZE(y), 2e-5f, 2e-5f);
        else
            assert_true(status == BORA_E_NOMEM && err.message[0]);
        end(state, expert);
        assert_int_equal(atomic_load(&host.n_blocks), 0);
    }
    suite_host_release(&host);
    bora_free(should);
    batch_release(&bt);
    layer_release(&ly);
}

static bool has_tile_rows(const bora_plugin_library *library)
{
    return strcmp(bora_plugin_name(library), "blas") == 0;
}

static void tile_rows(void **state)
{
    static const char *const good[] = {"1", "3", "64", "4096"}, *const bad[] = {"0",   "-1", "4097", "",
                                                                                "12x", " 8", "1e3"};
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    layer ly;
    batch bt;
    layer_init(&ly, BORA_DTYPE_F16, 4, 2, 40, 100, 6);
    batch_init(&bt, &ly, 11, 7);
    float *should = run(state, &ly, &bt, 11, 1), y[11 * 40];
    suite_host host;
    suite_host_init(&host, 1);
    host.key = "tile_rows";
    for (size_t i = 0; i < BORA_ARRAY_SIZE(good); i++) {
        host.value = good[i];
        bora_expert *expert = create(state, &host, &ly, 1);
        forward(state, expert, 0, &ly, &bt, 0, 11, y);
        suite_assert_near(y, should, BORA_ARRAY_SIZE(y), 2e-5f, 2e-5f);
        end(state, expert);
    }
    bora_expert_shape shape = {.struct_size = sizeof shape,
                               .n_layers = 1,
                               .n_experts = 4,
                               .n_experts_per_tok = 2,
                               .dim = 40,
                               .hidden_dim = 100,
                               .max_tokens = 8};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        bora_expert *expert = NULL;
        bora_error err = {""};
        host.value = bad[i];
        assert_int_equal(ops->create(&host.table, &shape, &expert, &err), BORA_E_INVAL);
        assert_non_null(strstr(err.message, "tile_rows"));
        assert_null(expert);
    }
    suite_host_release(&host);
    bora_free(should);
    batch_release(&bt);
    layer_release(&ly);
}

/* What other_hosts of the contract allows, quant does: without matrices it is not available. */
static void needs_matrices(void **state)
{
    const bora_expert_shape shape = {.struct_size = sizeof shape,
                                     .n_layers = 1,
                                     .n_experts = 1,
                                     .n_experts_per_tok = 1,
                                     .dim = 32,
                                     .hidden_dim = 32,
                                     .max_tokens = 1};
    suite_host host;
    suite_host_init(&host, 1);
    bora_host old = host.table;
    old.struct_size = offsetof(bora_host, matrix_new);
    bora_expert *expert = NULL;
    bora_error err = {""};
    assert_int_equal(bora_plugin_expert_ops(*state)->create(&old, &shape, &expert, &err), BORA_E_UNAVAILABLE);
    assert_true(!expert && strstr(err.message, "1.2"));
    suite_host_release(&host);
}

static bool wants_matrices(const bora_plugin_library *library)
{
    return strcmp(bora_plugin_name(library), "quant") == 0;
}

/* Weights whose matrices are of different types, packed and not: each is multiplied with what it needs. */
static void mixed_types(void **state)
{
    static const uint32_t types[][3] = {{BORA_DTYPE_Q8_0, BORA_DTYPE_F32, BORA_DTYPE_F16},
                                        {BORA_DTYPE_F32, BORA_DTYPE_Q8_0, BORA_DTYPE_BF16},
                                        {BORA_DTYPE_BF16, BORA_DTYPE_F32, BORA_DTYPE_Q4_0}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(types); i++) {
        layer ly, of[3];
        for (size_t m = 0; m < 3; m++)
            layer_init(&of[m], types[i][m], 4, 2, 64, 96, 11 + m);
        ly = of[0];
        for (size_t e = 1; e < 4; e++) { /* expert 0 is of one type, the others mixed */
            ly.w2[e] = of[1].w2[e];
            ly.w3[e] = of[2].w3[e];
        }
        batch bt;
        batch_init(&bt, &ly, 9, 12);
        float *should = bora_alloc((size_t)9 * 64 * sizeof *should);
        assert_non_null(should);
        naive(&ly, &bt, should);
        for (uint32_t chunk = 1; chunk <= 9; chunk += 8) { /* tokens alone, and all together */
            float *is = run(state, &ly, &bt, chunk, 1);
            assert_near_enough(state, BORA_DTYPE_Q8_0, is, should, (size_t)9 * 64);
            bora_free(is);
        }
        bora_free(should);
        batch_release(&bt);
        for (size_t m = 0; m < 3; m++)
            layer_release(&of[m]);
    }
}

static bool takes_mixed(const bora_plugin_library *library)
{
    const uint32_t wanted = BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_F16) |
                            BORA_DTYPE_BIT(BORA_DTYPE_BF16) | BORA_DTYPE_BIT(BORA_DTYPE_Q8_0) |
                            BORA_DTYPE_BIT(BORA_DTYPE_Q4_0);
    return (bora_plugin_dtypes(library) & wanted) == wanted;
}

/* A token that names an expert twice gets it with the sum of the weights. */
static void expert_named_twice(void **state)
{
    layer ly;
    batch bt;
    layer_init(&ly, takes(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_Q8_0, 4, 2, 32, 64, 6);
    batch_init(&bt, &ly, 1, 7);
    bt.experts[0] = bt.experts[1] = 2;
    float y[32], should[32];
    naive(&ly, &bt, should);
    suite_host host;
    suite_host_init(&host, 1);
    bora_expert *expert = create(state, &host, &ly, 1);
    forward(state, expert, 0, &ly, &bt, 0, 1, y);
    suite_assert_near(y, should, 32, 2e-5f, 2e-5f);
    end(state, expert);
    suite_host_release(&host);
    batch_release(&bt);
    layer_release(&ly);
}

static void teardown(void **state)
{
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    layer ly;
    layer_init(&ly, takes(state, BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_Q8_0, 2, 1, 32, 32, 6);
    suite_host host;
    suite_host_init(&host, 1);
    bora_expert *expert = create(state, &host, &ly, 1), *other = create(state, &host, &ly, 1);
    for (int i = 0; i < 2; i++) /* close may come twice */
        if (ops->close)
            ops->close(expert);
    if (ops->stop)
        ops->stop(expert);
    ops->destroy(expert);
    end(state, other);
    ops->destroy(NULL);
    suite_host_release(&host);
    layer_release(&ly);
}

/* Rows of 32 are whole blocks of these. */
static bool takes_small_blocks(const bora_plugin_library *library)
{
    return bora_plugin_dtypes(library) & (BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_Q8_0));
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST_IF(golden_dense, suite_speaks_f32),
        SUITE_TEST_IF(golden_moe, suite_speaks_f32),
        SUITE_TEST(agrees_with_the_definition),
        SUITE_TEST(agrees_with_reference),
        SUITE_TEST(company),
        SUITE_TEST_IF(layers, takes_small_blocks),
        SUITE_TEST_IF(wrong_calls, takes_small_blocks),
        SUITE_TEST_IF(refused_memory, takes_small_blocks),
        SUITE_TEST_IF(tile_rows, has_tile_rows),
        SUITE_TEST_IF(needs_matrices, wants_matrices),
        SUITE_TEST_IF(mixed_types, takes_mixed),
        SUITE_TEST_IF(expert_named_twice, suite_speaks_f32),
        SUITE_TEST_IF(teardown, takes_small_blocks),
    };
    return suite_run(BORA_PLUGIN_EXPERT, tests, BORA_ARRAY_SIZE(tests));
}
