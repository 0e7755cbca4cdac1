/* Counting cores and NUMA nodes in made-up machines, and what the real one says of itself. */
#include "support/skip.h"
#include "support/temp_folder.h"

#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    static bora_temp_folder folder;
    bora_temp_folder_make(&folder);
    *state = &folder;
    return 0;
}

static int teardown(void **state)
{
    bora_temp_folder_remove(*state);
    return 0;
}

/* Writes text to the file folder/name, whose folder is made. */
static void put(const bora_temp_folder *folder, const char *name, const char *text)
{
    char *path = bora_format("%s/%s", folder->path, name), *dir = bora_strdup(path);
    assert_true(path && dir);
    *strrchr(dir, '/') = '\0';
    assert_int_equal(bora_dir_make(dir, 0700, NULL), BORA_OK);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    bora_free(path);
    bora_free(dir);
}

static void put_siblings(const bora_temp_folder *folder, uint32_t processor, const char *list)
{
    char name[64];
    (void)snprintf(name, sizeof name, "cpu/cpu%u/topology/thread_siblings_list", processor);
    put(folder, name, list);
}

static void assert_counts(const char *root, const uint32_t *processors, size_t n, uint32_t n_cores, uint32_t n_nodes)
{
    uint32_t cores = 99, nodes = 99;
    bora_cpu_count(root, processors, n, &cores, &nodes);
    assert_int_equal(cores, n_cores);
    assert_int_equal(nodes, n_nodes);
}

/* Eight processors, four cores (i with i + 4), two nodes. */
static void test_siblings_count_once(void **state)
{
    const bora_temp_folder *folder = *state;
    static const char *const lists[] = {"0,4\n", "1,5\n", "2,6\n", "3,7\n"};
    static const uint32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7}, upper[] = {4, 5, 6, 7}, pair[] = {2, 6}, one[] = {6},
                          three[] = {0, 1, 5};
    for (uint32_t i = 0; i < 8; i++)
        put_siblings(folder, i, lists[i % 4]);
    put(folder, "node/online", "0-2\n");
    put(folder, "node/node0/cpulist", "0-1,4-5\n");
    put(folder, "node/node1/cpulist", "2-3,6-7\n");
    put(folder, "node/node2/cpulist", "\n"); /* memory alone */
    assert_counts(folder->path, all, 8, 4, 2);
    assert_counts(folder->path, upper, 4, 4, 2); /* whose first siblings are not ours */
    assert_counts(folder->path, pair, 2, 1, 1);
    assert_counts(folder->path, one, 1, 1, 1);
    assert_counts(folder->path, three, 3, 2, 1);
    assert_counts(folder->path, all, 0, 1, 1);
}

static void test_lists_in_ranges(void **state)
{
    const bora_temp_folder *folder = *state;
    static const uint32_t all[] = {0, 1, 2, 3, 8, 9, 10, 11};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(all); i++)
        put_siblings(folder, all[i], i < 4 ? "0-3\n" : "8-9,10,11"); /* four threads a core; the last without newline */
    assert_counts(folder->path, all, BORA_ARRAY_SIZE(all), 2, 1);
}

static void test_what_makes_no_sense(void **state)
{
    const bora_temp_folder *folder = *state;
    static const char *const bad[] = {"",      "\n",    "x\n",   "0,\n",        ",0\n",
                                      "0-\n",  "-1\n",  "1-0\n", "0 1",         "0-1-2",
                                      "0x1\n", "0\n\n", "2-3\n", "5000-6000\n", "99999999999999999999999\n"};
    static const uint32_t both[] = {0, 1};
    assert_counts(folder->path, both, 2, 2, 1); /* nothing is told */
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        put_siblings(folder, 0, bad[i]);
        put_siblings(folder, 1, bad[i]);
        put(folder, "node/online", bad[i]);
        assert_counts(folder->path, both, 2, 2, 1);
    }
    char longest[5000];
    memset(longest, '0', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    put_siblings(folder, 0, longest);
    put_siblings(folder, 1, longest);
    assert_counts(folder->path, both, 2, 2, 1);
    put_siblings(folder, 0, "0-1\n"); /* one of the two is told */
    assert_counts(folder->path, both, 2, 2, 1);
    put_siblings(folder, 1, "0-1,4000\n"); /* more than can be ours */
    assert_counts(folder->path, both, 2, 1, 1);
    char deep[600];
    memset(deep, 'd', sizeof deep);
    deep[sizeof deep - 1] = '\0';
    assert_counts(deep, both, 2, 2, 1);
}

static void test_this_machine(void **state)
{
    (void)state;
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    assert_true(cpu.n_cores >= 1 && cpu.n_cores <= cpu.n_processors);
    assert_true(cpu.n_nodes >= 1 && cpu.n_nodes <= cpu.n_processors);
    assert_true((cpu.avx2 || !cpu.avx512) && (cpu.avx2 || !cpu.avx_vnni));
    assert_true(cpu.avx512 || (!cpu.avx512_vnni && !cpu.avx512_bf16));
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        bora_cpu cpu;
        const char *name;
    } cases[] = {
        {{.n_cores = 1}, "generic"},
        {{.avx2 = true}, "avx2"},
        {{.avx2 = true, .avx_vnni = true}, "avx2+vnni"},
        {{.avx2 = true, .avx512 = true}, "avx512"},
        {{.avx2 = true, .avx_vnni = true, .avx512 = true, .avx512_vnni = true}, "avx512+vnni"},
        {{.avx2 = true, .avx512 = true, .avx512_bf16 = true}, "avx512+bf16"},
        {{.avx2 = true, .avx512 = true, .avx512_vnni = true, .avx512_bf16 = true}, "avx512+vnni+bf16"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++)
        assert_string_equal(bora_cpu_name(&cases[i].cpu), cases[i].name);
}

static void test_can_be_lowered(void **state)
{
    (void)state;
    bora_cpu cpu;
    assert_int_equal(setenv("BORA_CPU", "generic", 1), 0);
    bora_cpu_detect(&cpu);
    assert_string_equal(bora_cpu_name(&cpu), "generic");
    assert_true(!cpu.avx_vnni && !cpu.avx512_bf16 && cpu.n_cores >= 1);
    assert_int_equal(setenv("BORA_CPU", "avx2", 1), 0);
    bora_cpu_detect(&cpu);
    assert_true(!cpu.avx512 && !cpu.avx512_vnni && !cpu.avx512_bf16);
    assert_int_equal(unsetenv("BORA_CPU"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_siblings_count_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_in_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_makes_no_sense, setup, teardown),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_can_be_lowered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
