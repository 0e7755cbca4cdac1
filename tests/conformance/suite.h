/* What the conformance tests share: finding the plugins of a kind, running every test on each of them, random numbers,
 * buffers that show who writes beside them.
 *
 * The tests see a plugin exactly as the daemon does: through the loader and the SDK. What the plugin sees is in
 * suite_host.h. */
#ifndef BORA_TESTS_CONFORMANCE_SUITE_H
#define BORA_TESTS_CONFORMANCE_SUITE_H

#include "suite_host.h"

#include <math.h>

#define SUITE_PLUGINS_MAX 32u

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

/* What BORA_PLUGIN_BATCH_INVARIANT promises. */
static inline void suite_assert_same_bits(const float *is, const float *should, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&is[i], &should[i], sizeof *is) != 0)
            fail_msg("BORA_PLUGIN_BATCH_INVARIANT promises the same bits, but cut or accompanied otherwise element %zu "
                     "of %zu is %.9g, not %.9g",
                     i, n, (double)is[i], (double)should[i]);
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

/* What a plugin must do, in words for its author. */
#define SUITE_DEMAND(is_so, ...)                                                                                       \
    do {                                                                                                               \
        if (!(is_so))                                                                                                  \
            fail_msg(__VA_ARGS__);                                                                                     \
    } while (0)

/* After create. A plugin that cannot work here says so, and the test is skipped by name. */
static inline void suite_created(bora_status status, const bora_error *err)
{
    if (status == BORA_E_UNAVAILABLE)
        BORA_SKIP(err->message);
    if (status != BORA_OK)
        fail_msg("create: %s", err->message);
}

/* Error power over power; infinite when something is not a number that should be. */
static inline double suite_nmse(const float *is, const float *should, size_t n)
{
    double error = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        const double difference = (double)is[i] - (double)should[i];
        error += difference * difference;
        power += (double)should[i] * (double)should[i];
    }
    return error == 0 ? 0 : isfinite(error) && power > 0 ? error / power : INFINITY;
}

/* ---- buffers ----------------------------------------------------------------------------------------------- */

#define SUITE_GUARD 64u /* floats */

/* n floats of NaN for a plugin to fill, with a margin on both sides. To suite_guarded_free. */
static inline float *suite_guarded_new(size_t n)
{
    float *all = bora_alloc((n + 2 * SUITE_GUARD) * sizeof *all);
    assert_non_null(all);
    memset(all, SUITE_MARGIN_BYTE, (n + 2 * SUITE_GUARD) * sizeof *all);
    memset(all + SUITE_GUARD, 0xff, n * sizeof *all);
    return all + SUITE_GUARD;
}

/* Nothing beside the n floats was written. */
static inline void suite_guarded_check(const float *values, size_t n)
{
    if (!suite_margin_is_whole((const unsigned char *)(values - SUITE_GUARD), SUITE_GUARD * sizeof *values))
        fail_msg("the plugin wrote before the %zu floats of its output", n);
    if (!suite_margin_is_whole((const unsigned char *)(values + n), SUITE_GUARD * sizeof *values))
        fail_msg("the plugin wrote behind the %zu floats of its output", n);
}

static inline void suite_guarded_free(float *values)
{
    if (values)
        bora_free(values - SUITE_GUARD);
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

#define SUITE_FOLDER BORA_BUILD_DIR "/lib/bora/plugins"

/* Loads the plugins of a kind: the one that BORA_CONFORMANCE_PLUGIN names, or else all that were built. */
static inline size_t suite_load(uint32_t kind, bora_plugin_library *ret_libraries[SUITE_PLUGINS_MAX])
{
    const char *folder = SUITE_FOLDER, *only = getenv("BORA_CONFORMANCE_PLUGIN");
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

/* The plugin that others of its kind are compared with, which may be the one under test itself. To bora_plugin_unload.
 */
static inline bora_plugin_library *suite_reference(uint32_t kind)
{
    char *path = bora_format("%s/%s-%s.so", SUITE_FOLDER, bora_plugin_kind_name(kind),
                             kind == BORA_PLUGIN_CACHE ? "ring" : "reference");
    assert_non_null(path);
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    bora_plugin_library *library = NULL;
    bora_error err = {""};
    if (bora_plugin_load(path, kind, &log, &library, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_free(path);
    return library;
}

/* Runs every test on every plugin of the kind that it applies to, as <plugin>_<test>; of these only the one that
 * BORA_CONFORMANCE_CASE names, if it names one. No plugin is a failure: nothing would be tested. */
static inline int suite_run(uint32_t kind, const suite_test *tests, size_t n_tests)
{
    bora_plugin_library *libraries[SUITE_PLUGINS_MAX];
    const char *only = getenv("BORA_CONFORMANCE_CASE");
    /* Threads of libraries are the host's affair. Before anything is loaded: OpenBLAS reads it as it is mapped. */
    if (setenv("OPENBLAS_NUM_THREADS", "1", 0) != 0)
        return 1;
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
            if ((tests[t].applies && !tests[t].applies(libraries[l])) || (only && strcmp(only, tests[t].name) != 0))
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
