/* What the conformance tests share: finding the plugins of a kind, running every test on each of them, a host table
 * that keeps count of memory and can refuse it, and random numbers.
 *
 * The tests see a plugin exactly as the daemon does: through the loader and the SDK. */
#ifndef BORA_TESTS_CONFORMANCE_SUITE_H
#define BORA_TESTS_CONFORMANCE_SUITE_H

#include "support/skip.h"

#include "base/memory.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "kernels/matrix.h"
#include "plugin/plugin.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define SUITE_PLUGINS_MAX 32u
#define SUITE_THREADS     3u
#define SUITE_COLS_MAX    1024u /* of a matrix */

/* ---- host ------------------------------------------------------------------------------------------------- */

/* A host for one test. Memory handed out is counted; the fail_at-th request is refused. */
typedef struct suite_host {
    bora_host table;
    bora_pool *pool;         /* NULL: one thread */
    uint64_t fail_at;        /* 0: never; 1: the next one */
    uint64_t n_requests;     /* since the last suite_host_fail_at */
    atomic_long n_blocks;    /* handed out and not given back; atomic: any thread may alloc and free */
    const char *key, *value; /* the one option, or NULL */
    bora_cpu cpu;
    bora_pool *matrix_pool; /* these three: made with the first matrix */
    bora_kernels *kernels;
    bora_plugin_host *matrices;
} suite_host;

static inline void suite_log(const bora_host *host, int32_t level, const char *message)
{
    (void)host;
    fprintf(stderr, "log %d: %s\n", level, message);
}

static inline void *suite_alloc(const bora_host *host, size_t size)
{
    suite_host *self = host->self;
    self->n_requests++;
    if (self->fail_at && self->n_requests >= self->fail_at)
        return NULL;
    /* Filled with NaN patterns: whoever reads what was never written shows. */
    unsigned char *memory = bora_alloc_aligned(64, size + 64);
    assert_non_null(memory);
    memset(memory, 0xff, size);
    atomic_fetch_add(&self->n_blocks, 1);
    return memory;
}

static inline void suite_free(const bora_host *host, void *memory)
{
    suite_host *self = host->self;
    if (memory)
        atomic_fetch_sub(&self->n_blocks, 1);
    bora_free(memory);
}

static inline const char *suite_option(const bora_host *host, const char *key)
{
    const suite_host *self = host->self;
    return self->key && strcmp(self->key, key) == 0 ? self->value : NULL;
}

static inline uint64_t suite_now_ns(const bora_host *host)
{
    (void)host;
    return 1; /* nothing a plugin computes may depend on the time */
}

static inline uint32_t suite_n_threads(const bora_host *host)
{
    const suite_host *self = host->self;
    return self->pool ? bora_pool_n_threads(self->pool) : 1;
}

static inline void suite_parallel_for(const bora_host *host, uint32_t n_items, bora_parallel_fn fn, void *arg)
{
    const suite_host *self = host->self;
    if (self->pool) {
        bora_pool_parallel_for(self->pool, n_items, fn, arg);
        return;
    }
    /* One thread, but in pieces of uneven size: results must not depend on the cut. */
    for (uint32_t begin = 0, step = 1; begin < n_items; step = step % 5 + 1) {
        uint32_t end = n_items - begin < step ? n_items : begin + step;
        fn(arg, begin, end, 0);
        begin = end;
    }
}

static inline void suite_dequantize(const bora_host *host, const bora_tensor *w, uint64_t first_row, uint64_t n_rows,
                                    float *out)
{
    (void)host;
    assert_true(first_row <= w->n_rows && n_rows <= w->n_rows - first_row);
    bora_dequantize(NULL, w, first_row, n_rows, out);
}

/* Matrices are the real host's. */
static inline bora_status suite_matrix_new(const bora_host *host, const bora_tensor *w, bora_matrix **ret_matrix,
                                           bora_error *err)
{
    suite_host *self = host->self;
    self->n_requests++;
    if (self->fail_at && self->n_requests >= self->fail_at)
        return bora_fail(err, BORA_E_NOMEM, "no memory for a matrix, says the test");
    if (!self->matrices) {
        bora_cpu_detect(&self->cpu);
        if (!self->pool)
            assert_int_equal(bora_pool_new(1, &self->matrix_pool, NULL), BORA_OK);
        bora_pool *pool = self->pool ? self->pool : self->matrix_pool;
        assert_int_equal(bora_kernels_new(&self->cpu, pool, SUITE_COLS_MAX, NULL, &self->kernels, NULL), BORA_OK);
        assert_int_equal(bora_plugin_host_new(NULL, pool, self->kernels, &self->cpu, NULL, NULL, 0, &self->matrices,
                                              NULL),
                         BORA_OK);
    }
    const bora_host *real = bora_plugin_host_table(self->matrices);
    return real->matrix_new(real, w, ret_matrix, err);
}

static inline uint32_t suite_matrix_n_strips(const bora_host *host, const bora_matrix *matrix)
{
    (void)host;
    return bora_matrix_n_strips(matrix);
}

static inline uint32_t suite_matrix_is_packed(const bora_host *host, const bora_matrix *matrix)
{
    (void)host;
    return bora_matrix_is_packed(matrix);
}

static inline size_t suite_input_size(const bora_host *host, uint32_t n_rows, uint32_t n_cols)
{
    (void)host;
    return bora_input_size(n_rows, n_cols);
}

static inline uint32_t suite_input_n_panels(const bora_host *host, uint32_t n_rows)
{
    (void)host;
    return bora_input_n_panels(n_rows);
}

static inline void suite_input_fill(const bora_host *host, const bora_input *input, uint32_t first, uint32_t end)
{
    const suite_host *self = host->self;
    assert_true(first <= end && end <= bora_input_n_panels(input->n_rows));
    assert_true((uintptr_t)input->panels % 64 == 0);
    bora_input_fill(self->kernels, input, first, end);
}

static inline void suite_matrix_multiply(const bora_host *host, const bora_matrix *matrix, const bora_input *input,
                                         uint32_t strip_begin, uint32_t strip_end, uint32_t worker, float *y,
                                         uint64_t y_stride)
{
    const suite_host *self = host->self;
    assert_true(strip_begin <= strip_end && strip_end <= bora_matrix_n_strips(matrix));
    bora_matrix_multiply(self->kernels, matrix, input, strip_begin, strip_end, worker, y, y_stride);
}

static inline void suite_host_init(suite_host *host, uint32_t n_threads)
{
    memset(host, 0, sizeof *host);
    if (n_threads > 1)
        assert_int_equal(bora_pool_new(n_threads, &host->pool, NULL), BORA_OK);
    host->table = (bora_host){
        .struct_size = sizeof(bora_host),
        .abi_major = BORA_ABI_MAJOR,
        .abi_minor = BORA_ABI_MINOR,
        .self = host,
        .log = suite_log,
        .alloc = suite_alloc,
        .free = suite_free,
        .option = suite_option,
        .now_ns = suite_now_ns,
        .n_threads = suite_n_threads,
        .parallel_for = suite_parallel_for,
        .dequantize = suite_dequantize,
        .matrix_new = suite_matrix_new,
        .matrix_n_strips = suite_matrix_n_strips,
        .matrix_is_packed = suite_matrix_is_packed,
        .input_size = suite_input_size,
        .input_n_panels = suite_input_n_panels,
        .input_fill = suite_input_fill,
        .matrix_multiply = suite_matrix_multiply,
    };
}

/* Everything that was handed out has come back. */
static inline void suite_host_release(suite_host *host)
{
    bora_plugin_host_free(host->matrices);
    bora_kernels_free(host->kernels);
    bora_pool_free(host->matrix_pool);
    bora_pool_free(host->pool);
    host->pool = host->matrix_pool = NULL;
    host->kernels = NULL;
    host->matrices = NULL;
    assert_int_equal(atomic_load(&host->n_blocks), 0);
}

/* The n-th request from now on fails, and all after it; 0: none. */
static inline void suite_host_fail_at(suite_host *host, uint64_t n)
{
    host->fail_at = n;
    host->n_requests = 0;
}

/* ---- random numbers --------------------------------------------------------------------------------------- */

static inline uint64_t suite_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* n numbers in [-1, 1); the caller's (bora_free). */
static inline float *suite_random_floats(uint64_t *state, size_t n)
{
    float *values = bora_alloc(n * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(suite_random(state) >> 40) * 0x1p-23f - 1;
    return values;
}

static inline void suite_assert_near(const float *is, const float *should, size_t n, float atol, float rtol)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(is[i] - should[i]) <= atol + rtol * fabsf(should[i])))
            fail_msg("element %zu of %zu is %.9g, should be %.9g", i, n, (double)is[i], (double)should[i]);
}

/* A file of tests/golden/ops as n 32-bit values; the caller's (bora_free). */
static inline void *suite_golden(const char *name, size_t n)
{
    char *path = bora_format("%s/tests/golden/ops/%s.bin", BORA_SOURCE_DIR, name);
    assert_non_null(path);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    void *values = bora_alloc(n * 4);
    assert_non_null(values);
    assert_int_equal(fread(values, 4, n, file), n);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
    bora_free(path);
    return values;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

typedef struct suite_test {
    const char *name;
    CMUnitTestFunction run; /* *state is the bora_plugin_library */
    /* NULL: every plugin. A test that does not apply to a plugin is not run on it and not counted, not even as skipped.
     */
    bool (*applies)(const bora_plugin_library *library);
} suite_test;

#define SUITE_TEST(function)                                                                                           \
    {                                                                                                                  \
#function, function, NULL                                                                                      \
    }
#define SUITE_TEST_IF(function, applies)                                                                               \
    {                                                                                                                  \
#function, function, applies                                                                                   \
    }

static inline bool suite_speaks_f32(const bora_plugin_library *library)
{
    return bora_plugin_dtypes(library) & BORA_DTYPE_BIT(BORA_DTYPE_F32);
}

static inline bool suite_speaks_f16(const bora_plugin_library *library)
{
    return bora_plugin_dtypes(library) & BORA_DTYPE_BIT(BORA_DTYPE_F16);
}

/* Loads the plugins of a kind: the one that BORA_CONFORMANCE_PLUGIN names, or else all that were built. */
static inline size_t suite_load(uint32_t kind, bora_plugin_library *ret_libraries[SUITE_PLUGINS_MAX])
{
    const char *folder = BORA_BUILD_DIR "/lib/bora/plugins", *only = getenv("BORA_CONFORMANCE_PLUGIN");
    char *one[] = {(char *)(uintptr_t)only, NULL}, **names = one;
    bora_error err = {""};
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    if (!only && bora_plugin_names(kind, folder, &names, &err) != BORA_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    size_t n = 0;
    for (; names[n] && n < SUITE_PLUGINS_MAX; n++) {
        char *path = NULL;
        bora_status status = bora_plugin_find(kind, names[n], folder, &path, &err);
        if (status == BORA_OK)
            status = bora_plugin_load(path, kind, &log, &ret_libraries[n], &err);
        bora_free(path);
        if (status != BORA_OK) {
            fprintf(stderr, "%s\n", err.message);
            exit(1);
        }
    }
    if (!only)
        bora_plugin_names_free(names);
    return n;
}

/* Runs every test on every plugin of the kind that it applies to, as <plugin>_<test>. No plugin is a failure: nothing
 * would be tested. */
static inline int suite_run(uint32_t kind, const suite_test *tests, size_t n_tests)
{
    bora_plugin_library *libraries[SUITE_PLUGINS_MAX];
    size_t n_libraries = suite_load(kind, libraries), n = 0;
    if (n_libraries == 0) {
        fprintf(stderr, "no %s plugin found\n", bora_plugin_kind_name(kind));
        return 1;
    }
    struct CMUnitTest *all = bora_calloc(n_libraries * n_tests, sizeof *all);
    if (!all)
        return 1;
    for (size_t l = 0; l < n_libraries; l++)
        for (size_t t = 0; t < n_tests; t++) {
            if (tests[t].applies && !tests[t].applies(libraries[l]))
                continue;
            all[n++] = (struct CMUnitTest){
                .name = bora_format("%s_%s", bora_plugin_name(libraries[l]), tests[t].name),
                .test_func = tests[t].run,
                .initial_state = libraries[l],
            };
        }
    int failed = _cmocka_run_group_tests(bora_plugin_kind_name(kind), all, n, NULL, NULL);
    for (size_t i = 0; i < n; i++)
        bora_free((void *)(uintptr_t)all[i].name);
    bora_free(all);
    for (size_t l = 0; l < n_libraries; l++)
        bora_plugin_unload(libraries[l]);
    return failed;
}

#endif
