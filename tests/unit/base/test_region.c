/* Regions: aligned, zero, apart from each other, whatever the sizes; no memory is an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/region.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static bora_region *region_new(void)
{
    bora_region *region;
    assert_int_equal(bora_region_new(NULL, 0, &region, NULL), BORA_OK);
    assert_int_equal(bora_region_size(region), 0);
    return region;
}

/* Each piece is filled with a number of its own and is still full of it when all are there. */
static void test_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,      1,       63,          64,           65,      4096,
                                   100000, 2 * MIB, 3 * MIB + 5, 4 * MIB - 64, 4 * MIB, 9 * MIB};
    enum { N = 60 };
    bora_region *region = region_new();
    unsigned char *pieces[N];
    size_t total = 0;
    for (size_t i = 0; i < N; i++) {
        const size_t size = sizes[i * 5 % BORA_ARRAY_SIZE(sizes)];
        pieces[i] = bora_region_alloc(region, size);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 64, 0);
        for (size_t k = 0; k < size; k++)
            if (pieces[i][k] != 0)
                fail_msg("byte %zu of piece %zu is not zero", k, i);
        memset(pieces[i], (int)i + 1, size);
        total += size;
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < sizes[i * 5 % BORA_ARRAY_SIZE(sizes)]; k++)
            if (pieces[i][k] != i + 1)
                fail_msg("byte %zu of piece %zu was overwritten", k, i);
    assert_true(bora_region_size(region) >= total && bora_region_size(region) <= total + N * 64);
    bora_region_free(region);
}

/* What is larger than a step gets its own; the small ones go on where they were. Untouched, it takes no memory. */
static void test_large(void **state)
{
    (void)state;
    bora_region *region = region_new();
    char *before = bora_region_alloc(region, 1000);
    char *large = bora_region_alloc(region, 600 * MIB + 1);
    char *after = bora_region_alloc(region, 1000);
    assert_true(before && large && after);
    assert_ptr_equal(after, before + 1024);
    large[0] = large[600 * MIB] = 1; /* both ends are there */
    bora_region_free(region);

    region = region_new(); /* also when it is the first */
    large = bora_region_alloc(region, 300 * MIB);
    after = bora_region_alloc(region, 1);
    assert_true(large && after && (after < large || after >= large + 300 * MIB));
    large[300 * MIB - 1] = after[0] = 1;
    bora_region_free(region);
}

static void test_many_small(void **state)
{
    (void)state;
    bora_region *region = region_new();
    char *last = NULL;
    for (size_t i = 0; i < 40000; i++) {
        char *piece = bora_region_alloc(region, 256);
        assert_non_null(piece);
        if (i == 0 || piece != last + 256)
            piece[0] = 1; /* a new step can be written */
        last = piece;
    }
    assert_int_equal(bora_region_size(region), 40000 * 256);
    bora_region_free(region);
}

static void test_no_memory(void **state)
{
    (void)state;
    bora_region *region = NULL;
    bora_error err;
    (void)bora_memory_fail_at(1);
    assert_int_equal(bora_region_new(NULL, 0, &region, &err), BORA_E_NOMEM);
    (void)bora_memory_fail_at(0);
    assert_null(region);
    assert_true(strlen(err.message) > 0);

    region = region_new();
    (void)bora_memory_fail_at(2);
    char *first = bora_region_alloc(region, 10), *second = bora_region_alloc(region, 10);
    assert_int_equal(bora_memory_fail_at(0), 2);
    assert_non_null(first);
    assert_null(second);
    /* Sizes that wrap around when rounded up or given a record, and one that no address space has. */
    static const size_t sizes[] = {SIZE_MAX,           SIZE_MAX - 62,      SIZE_MAX - 63, SIZE_MAX - 127,
                                   SIZE_MAX - 2 * MIB, SIZE_MAX - 4 * MIB, SIZE_MAX / 2};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++)
        assert_null(bora_region_alloc(region, sizes[i]));
    assert_int_equal(bora_region_size(region), 64);
    assert_ptr_equal(bora_region_alloc(region, 10), first + 64); /* nothing was lost by failing */
    bora_region_free(region);
    bora_region_free(NULL);
}

/* What is handed out is taken, no more; what cannot be had is not; all comes back at the end. */
static void test_ledger(void **state)
{
    (void)state;
    bora_ledger *ledger = NULL;
    bora_ledger_state books;
    bora_region *region = NULL;
    assert_int_equal(bora_ledger_new(10 * MIB, &ledger, NULL), BORA_OK);
    assert_int_equal(bora_region_new(ledger, BORA_LEDGER_WEIGHTS, &region, NULL), BORA_OK);
    assert_non_null(bora_region_alloc(region, 100));
    assert_non_null(bora_region_alloc(region, 6 * MIB));
    assert_null(bora_region_alloc(region, 4 * MIB));
    bora_error err = {""};
    assert_int_equal(bora_region_fail(region, "a matrix", 4 * MIB, &err), BORA_E_LIMIT);
    assert_string_equal(err.message,
                        "memory limit: 4.0 MiB more for a matrix would pass the limit of 10 MiB (6.0 MiB in "
                        "use)");
    assert_null(bora_region_alloc(region, SIZE_MAX - 4 * MIB));
    assert_non_null(bora_region_alloc(region, 4 * MIB - 128)); /* to the last byte */
    bora_ledger_get(ledger, &books);
    assert_int_equal(books.accounts[BORA_LEDGER_WEIGHTS], 10 * MIB);
    assert_int_equal(bora_region_size(region), 10 * MIB);
    bora_region_free(region);
    bora_ledger_get(ledger, &books);
    assert_int_equal(books.used, 0);

    /* The ledger would, the address space would not. */
    bora_ledger_free(ledger);
    assert_int_equal(bora_ledger_new(UINT64_MAX, &ledger, NULL), BORA_OK);
    assert_int_equal(bora_region_new(ledger, BORA_LEDGER_WEIGHTS, &region, NULL), BORA_OK);
    assert_null(bora_region_alloc(region, SIZE_MAX / 2));
    bora_ledger_get(ledger, &books);
    assert_int_equal(books.used, 0);
    bora_region_free(region);
    bora_ledger_free(ledger);
}

/* A limit of the system that has no room for a whole step any more, but for what is asked. In a child. */
static void test_narrow(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* whose own maps go over any limit */
    pid_t child = fork();
    if (child == 0) {
        bora_region *region = NULL;
        struct rlimit limit = {.rlim_max = RLIM_INFINITY};
        bool done = bora_region_new(NULL, 0, &region, NULL) == BORA_OK && bora_region_alloc(region, 200 * MIB);
        limit.rlim_cur = 226 * MIB; /* the next step would be 50 MiB */
        done = done && setrlimit(RLIMIT_DATA, &limit) == 0 && bora_region_alloc(region, 15 * MIB) &&
               !bora_region_alloc(region, 30 * MIB);
        _exit(done ? 0 : 1);
    }
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),    cmocka_unit_test(test_large),  cmocka_unit_test(test_many_small),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_ledger), cmocka_unit_test(test_narrow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
