/* Norm, rotation, activation, routing and feed-forward blocks against what Mistral's reference computes
 * (tests/golden/ops), within the tolerances written down in tests/golden/README.md, on the detected processor path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "kernels/kernels.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FOLDER     BORA_SOURCE_DIR "/tests/golden/ops/"
#define MAX_COLS   256u
#define SHAPE_DIMS 3u

static json_t *golden;
static bora_pool *pool;
static bora_kernels *kernels;

typedef struct array {
    float *values;
    int32_t *ids; /* the same bytes: which one, the golden file knows */
    size_t shape[SHAPE_DIMS];
    size_t size;
} array;

static array array_load(const json_t *run, const char *name)
{
    const json_t *tensor = json_object_get(json_object_get(run, "tensors"), name);
    const json_t *shape = json_object_get(tensor, "shape");
    array loaded = {.size = 1};
    assert_in_range(json_array_size(shape), 1, SHAPE_DIMS);
    for (size_t i = 0; i < json_array_size(shape); i++) {
        loaded.shape[i] = (size_t)json_integer_value(json_array_get(shape, i));
        loaded.size *= loaded.shape[i];
    }
    char *path = bora_format(FOLDER "%s", json_string_value(json_object_get(tensor, "file")));
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    loaded.values = bora_alloc(loaded.size * sizeof(float));
    assert_non_null(loaded.values);
    assert_int_equal(fread(loaded.values, sizeof(float), loaded.size, file), loaded.size);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
    bora_free(path);
    loaded.ids = (int32_t *)(void *)loaded.values;
    return loaded;
}

static array array_new(size_t size)
{
    array made = {.values = bora_calloc(size, sizeof(float)), .size = size};
    assert_non_null(made.values);
    return made;
}

static void array_free(array *loaded)
{
    bora_free(loaded->values);
}

static void assert_close(const char *what, size_t n, const float *got, const float *expected, double atol, double rtol)
{
    for (size_t i = 0; i < n; i++) {
        double a = (double)got[i], b = (double)expected[i];
        if (isnan(a) && isnan(b))
            continue;
        if (!(a == b || fabs(a - b) <= atol + rtol * fabs(b)))
            fail_msg("%s[%zu]: %.9g instead of %.9g", what, i, a, b);
    }
}

static const char *text(const json_t *run, const char *key)
{
    return json_string_value(json_object_get(run, key));
}

/* Runs check on every golden of that kind; there have to be as many as were recorded. */
static void each(const char *kind, size_t n_expected, void (*check)(const json_t *run))
{
    size_t index, n = 0;
    json_t *run;
    json_array_foreach(json_object_get(golden, "runs"), index, run)
    {
        if (strcmp(text(run, "kind"), kind) != 0)
            continue;
        check(run);
        n++;
    }
    assert_int_equal(n, n_expected);
}

static bora_tensor tensor_of(const float *values, size_t n_rows, size_t n_cols)
{
    return (bora_tensor){.data = values,
                         .row_size = n_cols * sizeof *values,
                         .n_rows = n_rows,
                         .n_cols = n_cols,
                         .dtype = BORA_DTYPE_F32};
}

static void check_rmsnorm(const json_t *run)
{
    array x = array_load(run, "x"), weight = array_load(run, "weight"), expected = array_load(run, "y");
    array y = array_new(x.size);
    float eps = (float)json_real_value(json_object_get(run, "eps"));
    bora_rmsnorm(x.shape[0], x.shape[1], x.values, weight.values, eps, y.values);
    assert_close(text(run, "name"), y.size, y.values, expected.values, 1e-6, 1e-5);
    bora_rmsnorm(x.shape[0], x.shape[1], x.values, weight.values, eps, x.values); /* in place: the same bits */
    assert_memory_equal(x.values, y.values, y.size * sizeof(float));
    array_free(&y);
    array_free(&expected);
    array_free(&weight);
    array_free(&x);
}

static void test_rmsnorm(void **state)
{
    (void)state;
    each("rmsnorm", 3, check_rmsnorm);
}

/* Rotating (1, 0) shows cosine and sine as they are; the bound grows with the angle. */
static void check_rotated(const char *what, const array *rotated, const array *expected, const uint64_t *positions,
                          double theta, double factor)
{
    size_t n_heads = rotated->shape[1], head_dim = rotated->shape[2];
    for (size_t i = 0; i < rotated->size; i++) {
        size_t pair = i % head_dim / 2, row = i / (n_heads * head_dim);
        double angle = (double)positions[row] * pow(theta, -2.0 * (double)pair / (double)head_dim);
        assert_close(what, 1, rotated->values + i, expected->values + i, factor * (2e-6 + 4.8e-7 * angle), 0);
    }
}

static void check_rope(const json_t *run)
{
    enum { MAX_POSITIONS = 8, MAX_PAIRS = 64 };
    uint32_t head_dim = (uint32_t)json_integer_value(json_object_get(run, "head_dim"));
    double theta = json_number_value(json_object_get(run, "theta"));
    const json_t *list = json_object_get(run, "positions");
    uint64_t positions[MAX_POSITIONS];
    size_t n = json_array_size(list);
    assert_in_range(n, 1, MAX_POSITIONS);
    assert_in_range(head_dim, 2, 2 * MAX_PAIRS);
    for (size_t i = 0; i < n; i++)
        positions[i] = (uint64_t)json_integer_value(json_array_get(list, i));
    float freqs[MAX_PAIRS];
    bora_rope_freqs((float)theta, head_dim, freqs);
    float angles[MAX_POSITIONS * 4 * MAX_PAIRS];
    bora_rope_angles(n, head_dim, freqs, positions, angles);

    array cosines = array_load(run, "cos"), sines = array_load(run, "sin");
    array units = array_new(n * head_dim), expected = array_new(n * head_dim);
    for (size_t i = 0; i < n * head_dim / 2; i++) {
        units.values[2 * i] = 1;
        expected.values[2 * i] = cosines.values[i];
        expected.values[2 * i + 1] = sines.values[i];
    }
    units.shape[0] = n, units.shape[1] = 1, units.shape[2] = head_dim;
    bora_rope(n, 1, head_dim, angles, units.values);
    check_rotated(text(run, "name"), &units, &expected, positions, theta, 1);
    array_free(&expected);
    array_free(&units);
    array_free(&sines);
    array_free(&cosines);

    static const char *const names[][2] = {{"q", "q_out"}, {"k", "k_out"}};
    for (size_t i = 0; i < 2; i++) {
        array x = array_load(run, names[i][0]), rotated = array_load(run, names[i][1]);
        bora_rope(n, (uint32_t)x.shape[1], head_dim, angles, x.values);
        check_rotated(text(run, "name"), &x, &rotated, positions, theta, 8);
        array_free(&rotated);
        array_free(&x);
    }
}

static void test_rope(void **state)
{
    (void)state;
    each("rope", 5, check_rope);
}

static void check_silu_mul(const json_t *run)
{
    array a = array_load(run, "a"), b = array_load(run, "b"), expected = array_load(run, "y");
    array y = array_new(a.size);
    bora_silu_mul(a.size, a.values, b.values, y.values);
    assert_close("silu_mul", y.size, y.values, expected.values, 1e-6, 1e-5);
    for (size_t i = 0; i < a.size; i++) { /* an element has the same bits wherever it stands */
        float one;
        bora_silu_mul(1, a.values + i, b.values + i, &one);
        assert_memory_equal(&one, y.values + i, sizeof one);
    }
    bora_silu_mul(a.size, a.values, b.values, b.values); /* in place */
    assert_memory_equal(b.values, y.values, y.size * sizeof(float));
    array_free(&y);
    array_free(&expected);
    array_free(&b);
    array_free(&a);
}

static void test_silu_mul(void **state)
{
    (void)state;
    each("silu_mul", 1, check_silu_mul);
}

/* silu over its whole range against double. */
static void test_silu_precision(void **state)
{
    (void)state;
    const float one = 1;
    for (float a = -86.0f; a < 100.0f; a += 0.00371f) {
        float y;
        bora_silu_mul(1, &a, &one, &y);
        double expected = (double)a / (1 + exp(-(double)a));
        assert_true(fabs((double)y - expected) <= 6e-7 * fabs(expected));
    }
    const float edges[] = {-3e38f, -1000.0f, 1000.0f, 3e38f, INFINITY, NAN, 1e-45f, -0.0f};
    float y[8];
    for (size_t i = 0; i < 8; i++)
        bora_silu_mul(1, &edges[i], &one, &y[i]);
    assert_true(y[0] == 0 && y[1] == 0);
    assert_true(y[2] == 1000.0f && y[3] == 3e38f && isinf(y[4]) && isnan(y[5]));
    assert_true(fabsf(y[6]) <= 1e-45f && y[7] == 0 && signbit(y[7]));
}

/* y = w2 (silu(w1 x) * w3 x) for n rows. */
static void swiglu(size_t n, const bora_tensor *w1, const bora_tensor *w2, const bora_tensor *w3, const float *x,
                   float *y)
{
    array gate = array_new(n * w1->n_rows), up = array_new(n * w1->n_rows);
    bora_matmul(kernels, w1, n, x, gate.values, w1->n_rows);
    bora_matmul(kernels, w3, n, x, up.values, w3->n_rows);
    bora_silu_mul(gate.size, gate.values, up.values, gate.values);
    bora_matmul(kernels, w2, n, gate.values, y, w2->n_rows);
    array_free(&up);
    array_free(&gate);
}

static void check_swiglu(const json_t *run)
{
    array x = array_load(run, "x"), expected = array_load(run, "y");
    array w1 = array_load(run, "w1"), w2 = array_load(run, "w2"), w3 = array_load(run, "w3");
    array y = array_new(expected.size);
    bora_tensor t1 = tensor_of(w1.values, w1.shape[0], w1.shape[1]);
    bora_tensor t2 = tensor_of(w2.values, w2.shape[0], w2.shape[1]);
    bora_tensor t3 = tensor_of(w3.values, w3.shape[0], w3.shape[1]);
    swiglu(x.shape[0], &t1, &t2, &t3, x.values, y.values);
    assert_close(text(run, "name"), y.size, y.values, expected.values, 2e-5, 2e-5);
    array_free(&y);
    array_free(&w3);
    array_free(&w2);
    array_free(&w1);
    array_free(&expected);
    array_free(&x);
}

static void test_swiglu(void **state)
{
    (void)state;
    each("swiglu", 2, check_swiglu);
}

static void check_gate(const json_t *run)
{
    array logits = array_load(run, "logits"), experts = array_load(run, "experts");
    array weights = array_load(run, "weights");
    uint32_t k = (uint32_t)json_integer_value(json_object_get(run, "num_experts_per_tok"));
    size_t n = logits.shape[0];
    array got_experts = array_new(n * k), got_weights = array_new(n * k);
    int32_t *ids = (int32_t *)(void *)got_experts.values;
    bora_route(n, (uint32_t)logits.shape[1], k, logits.values, ids, got_weights.values);
    assert_close("gate weights", n * k, got_weights.values, weights.values, 1e-6, 1e-5);
    size_t n_ties = 0;
    for (size_t row = 0; row < n; row++) {
        char key[24];
        (void)snprintf(key, sizeof key, "%zu", row);
        if (json_object_get(json_object_get(run, "tie_rows"), key))
            n_ties++; /* the reference's choice is arbitrary */
        else
            assert_memory_equal(ids + row * k, experts.ids + row * k, k * sizeof *ids);
    }
    assert_true(n_ties < n / 2);
    array_free(&got_weights);
    array_free(&got_experts);
    array_free(&weights);
    array_free(&experts);
    array_free(&logits);
}

static void test_gate(void **state)
{
    (void)state;
    each("gate", 1, check_gate);
}

static void check_moe_layer(const json_t *run)
{
    array x = array_load(run, "x"), expected = array_load(run, "y"), gate = array_load(run, "gate");
    array w1 = array_load(run, "w1"), w2 = array_load(run, "w2"), w3 = array_load(run, "w3");
    array expected_logits = array_load(run, "gate_logits"), expected_experts = array_load(run, "experts");
    size_t n = x.shape[0], dim = x.shape[1], n_experts = gate.shape[0], hidden_dim = w1.shape[1];
    uint32_t k = (uint32_t)json_integer_value(json_object_get(run, "num_experts_per_tok"));
    array logits = array_new(n * n_experts), weights = array_new(n * k), experts = array_new(n * k);
    array y = array_new(n * dim), one = array_new(dim);
    experts.ids = (int32_t *)(void *)experts.values;

    bora_tensor router = tensor_of(gate.values, n_experts, dim);
    bora_matmul(kernels, &router, n, x.values, logits.values, n_experts);
    assert_close("gate_logits", logits.size, logits.values, expected_logits.values, 2e-5, 2e-5);
    bora_route(n, (uint32_t)n_experts, k, logits.values, experts.ids, weights.values);
    assert_memory_equal(experts.ids, expected_experts.ids, n * k * sizeof(int32_t));
    for (size_t row = 0; row < n; row++)
        for (size_t chosen = 0; chosen < k; chosen++) {
            size_t offset = (size_t)experts.ids[row * k + chosen] * hidden_dim * dim;
            bora_tensor t1 = tensor_of(w1.values + offset, hidden_dim, dim);
            bora_tensor t2 = tensor_of(w2.values + offset, dim, hidden_dim);
            bora_tensor t3 = tensor_of(w3.values + offset, hidden_dim, dim);
            swiglu(1, &t1, &t2, &t3, x.values + row * dim, one.values);
            for (size_t i = 0; i < dim; i++)
                y.values[row * dim + i] += weights.values[row * k + chosen] * one.values[i];
        }
    assert_close("moe_layer", y.size, y.values, expected.values, 2e-5, 2e-5);

    array *all[] = {&x,      &expected, &gate,    &w1, &w2, &w3, &one, &expected_logits, &expected_experts,
                    &logits, &weights,  &experts, &y};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(all); i++)
        array_free(all[i]);
}

static void test_moe_layer(void **state)
{
    (void)state;
    each("moe_layer", 1, check_moe_layer);
}

/* Ties go to the lower index; NaN still leaves different experts that exist. */
static void test_route_edges(void **state)
{
    (void)state;
    const float logits[3][4] = {{1, 2, 2, 1}, {5, 5, 5, 5}, {NAN, 1, NAN, 0}};
    int32_t experts[6];
    float weights[6];
    bora_route(3, 4, 2, logits[0], experts, weights);
    assert_true(experts[0] == 1 && experts[1] == 2 && weights[0] == 0.5f && weights[1] == 0.5f);
    assert_true(experts[2] == 0 && experts[3] == 1);
    assert_true(experts[4] != experts[5]);
    assert_in_range(experts[4], 0, 3);
    assert_in_range(experts[5], 0, 3);
    int32_t order[4];
    float all[4];
    bora_route(1, 4, 4, logits[0], order, all); /* k = n_experts: a whole softmax, sorted */
    assert_true(order[0] == 1 && order[1] == 2 && order[2] == 0 && order[3] == 3);
    bora_route(1, 4, 1, logits[0], order, all);
    assert_true(order[0] == 1 && all[0] == 1.0f);
}

static void test_softmax(void **state)
{
    (void)state;
    float x[] = {1000, -INFINITY, 1001, -1000}, none[] = {-INFINITY, -INFINITY};
    bora_softmax(4, x);
    assert_true(fabs((double)x[0] - 1 / (1 + exp(1.0))) < 1e-7 && fabs((double)x[2] - 1 / (1 + exp(-1.0))) < 1e-7);
    assert_true(x[1] == 0 && x[3] == 0);
    bora_softmax(2, none);
    assert_true(none[0] == 0 && none[1] == 0);
    bora_softmax(0, none);
    float large[40000];
    for (size_t i = 0; i < 40000; i++)
        large[i] = (float)(i % 7);
    bora_softmax(40000, large);
    double sum = 0;
    for (size_t i = 0; i < 40000; i++)
        sum += (double)large[i];
    assert_true(fabs(sum - 1) < 1e-6);
}

static void test_log_sum_exp(void **state)
{
    (void)state;
    enum { N = 32771 }; /* a vocabulary and a rest */
    float *x = malloc(N * sizeof *x);
    assert_non_null(x);
    double sum = 0;
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)(i * 7919 % 4001) / 100.0f - 20.0f;
        sum += exp((double)x[i]);
    }
    x[5] = NAN;
    x[N - 1] = -INFINITY;
    sum -= exp((double)((float)(5 * 7919 % 4001) / 100.0f - 20.0f));
    sum -= exp((double)((float)((N - 1) * 7919ull % 4001) / 100.0f - 20.0f));
    double is = bora_log_sum_exp(N, x);
    if (!(fabs(is - log(sum)) < 1e-7 * fabs(log(sum))))
        fail_msg("%.10g, expected %.10g", is, log(sum));
    const float none[] = {-INFINITY, NAN}, far[] = {-1000, 1000, 900};
    assert_true(bora_log_sum_exp(2, none) == -INFINITY && bora_log_sum_exp(0, none) == -INFINITY);
    assert_true(bora_log_sum_exp(3, far) == 1000);
    free(x);
}

static int open_all(void **state)
{
    (void)state;
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    golden = json_load_file(FOLDER "golden.json", 0, NULL);
    return !golden || bora_pool_new(1, &pool, NULL) || bora_kernels_new(&cpu, pool, MAX_COLS, NULL, &kernels, NULL);
}

static int close_all(void **state)
{
    (void)state;
    bora_kernels_free(kernels);
    bora_pool_free(pool);
    json_decref(golden);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rmsnorm),        cmocka_unit_test(test_rope),        cmocka_unit_test(test_silu_mul),
        cmocka_unit_test(test_silu_precision), cmocka_unit_test(test_swiglu),      cmocka_unit_test(test_gate),
        cmocka_unit_test(test_moe_layer),      cmocka_unit_test(test_route_edges), cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_log_sum_exp),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
