/* The probes of the machine's limits: the loop reads every word once, in every instruction set; figures are figures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "kernels/limits.h"

#include <math.h>
#include <string.h>

/* The processor, and what it is without its newest instructions. */
static size_t processors(bora_cpu cpus[3])
{
    bora_cpu_detect(&cpus[0]);
    cpus[1] = cpus[2] = cpus[0];
    cpus[1].avx512 = cpus[1].avx512_vnni = false;
    cpus[2].avx2 = cpus[2].avx512 = cpus[2].avx512_vnni = false;
    return 3;
}

static void every_word_is_read_once(void **state)
{
    (void)state;
    bora_cpu cpus[3];
    size_t n = processors(cpus), size = 4096 + 3 * 64;
    uint64_t *words = bora_alloc_aligned(64, size), expected = 0;
    assert_non_null(words);
    for (size_t i = 0; i < size / 8; i++)
        expected ^= words[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t c = 0; c < n; c++)
        for (size_t i = 0; i < size / 8; i++) { /* any one of them counts */
            words[i] ^= 0xff;
            assert_int_equal(bora_limits_fold(&cpus[c], words, size), expected ^ 0xff);
            words[i] ^= 0xff;
        }
    for (size_t lines = 0; lines <= 9; lines++) { /* what does not fill a turn of the loop */
        expected = 0;
        for (size_t i = 0; i < 8 * lines; i++)
            expected ^= words[i];
        for (size_t c = 0; c < n; c++)
            assert_int_equal(bora_limits_fold(&cpus[c], words, 64 * lines), expected);
    }
    bora_free(words);
}

static void expect_figure(bora_limit limit)
{
    assert_true(isfinite(limit.per_second) && limit.per_second > 0);
    assert_true(limit.seconds > 0);
    assert_true(limit.cpu_share > 0 && limit.cpu_share < 1.5); /* clocks of threads and of the machine are two */
}

static void figures_come_from_all_threads(void **state)
{
    (void)state;
    bora_cpu cpus[3];
    size_t n = processors(cpus);
    for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
        bora_pool *pool = NULL;
        assert_int_equal(bora_pool_new(n_threads, &pool, NULL), BORA_OK);
        for (size_t c = 0; c < n; c++) {
            bora_limits *limits = NULL;
            assert_int_equal(bora_limits_new(&cpus[c], pool, (size_t)3 << 20, &limits, NULL), BORA_OK);
            assert_int_equal(bora_limits_size(limits), (size_t)4 << 20); /* whole huge pages */
            expect_figure(bora_limits_read(limits));
            expect_figure(bora_limits_int8(limits));
            bora_limits_free(limits);
        }
        bora_pool_free(pool);
    }
    bora_limits_free(NULL);
}

static void no_memory(void **state)
{
    (void)state;
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    bora_pool *pool = NULL;
    assert_int_equal(bora_pool_new(1, &pool, NULL), BORA_OK);
    for (uint64_t at = 1; at <= 3; at++) {
        bora_limits *limits = NULL;
        bora_error err;
        (void)bora_memory_fail_at(at);
        bora_status st = bora_limits_new(&cpu, pool, 1, &limits, &err);
        (void)bora_memory_fail_at(0);
        assert_int_equal(st, BORA_E_NOMEM);
        assert_null(limits);
    }
    bora_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_word_is_read_once),
                                       cmocka_unit_test(figures_come_from_all_threads), cmocka_unit_test(no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
