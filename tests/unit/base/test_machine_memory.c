/* What Linux says of memory, from files of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/machine_memory.h"
#include "base/status.h"
#include "support/temp_folder.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NONE BORA_MEMORY_UNLIMITED

static void test_meminfo(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"MemTotal:       24684084 kB\nMemFree:         5181516 kB\n", UINT64_C(24684084) * 1024},
        {"MemFree: 5 kB\nMemTotal: 7 kB\n", 7 * 1024},
        {"MemTotal: 7 kB", 7 * 1024}, /* the last line, unended */
        {"MemTotal: 0 kB\n", 0},
        {"", NONE},
        {"\n\n", NONE},
        {"MemTotal:", NONE},
        {"MemTotal: kB\n", NONE},
        {"MemTotal: 7\n", NONE},
        {"MemTotal: 7 MB\n", NONE},
        {"MemTotal: -7 kB\n", NONE},
        {"XMemTotal: 7 kB\n", NONE},
        {"MemTotal: 18014398509481984 kB\n", NONE},    /* 2^54: bytes do not fit */
        {"MemTotal: 99999999999999999999 kB\n", NONE}, /* nor does the number */
        {"MemTotal: 18014398509481983 kB\n", UINT64_C(18014398509481983) * 1024},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++)
        if (bora_meminfo_total(cases[i].text) != cases[i].bytes)
            fail_msg("'%s' gives %llu", cases[i].text, (unsigned long long)bora_meminfo_total(cases[i].text));
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"max\n", NONE},
        {"max", NONE},
        {"536870912\n", 536870912},
        {"536870912", 536870912},
        {"0\n", 0},
        {"9223372036854771712\n", UINT64_C(9223372036854771712)}, /* v1: none */
        {"18446744073709551616\n", NONE},
        {"", NONE},
        {"\n", NONE},
        {"-1\n", NONE},
        {"12 34\n", NONE},
        {"12k\n", NONE},
        {"0x10\n", NONE},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++)
        if (bora_cgroup_limit(cases[i].text) != cases[i].bytes)
            fail_msg("'%s' gives %llu", cases[i].text, (unsigned long long)bora_cgroup_limit(cases[i].text));
}

/* ---- whole machines ---- */

typedef struct machine_file {
    const char *path, *text;
} machine_file;

/* With all folders above it. */
static void write_file(const bora_temp_folder *root, const machine_file *file)
{
    char path[BORA_TEMP_PATH_SIZE];
    (void)bora_temp_folder_path(root, file->path, path);
    for (char *slash = strchr(path + strlen(root->path) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0700); /* it may be there; else writing fails */
        *slash = '/';
    }
    (void)bora_temp_folder_write(root, file->path, file->text, strlen(file->text), path);
}

static uint64_t memory_of(const machine_file files[8])
{
    bora_temp_folder root;
    bora_temp_folder_make(&root);
    for (size_t i = 0; i < 8 && files[i].path; i++)
        write_file(&root, &files[i]);
    uint64_t bytes = bora_machine_memory_in(root.path);
    bora_temp_folder_remove(&root);
    return bytes;
}

#define MEMINFO                                                                                                        \
    {                                                                                                                  \
        "proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\n"                                                           \
    }

static void test_machines(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        machine_file files[8];
        uint64_t bytes;
    } cases[] = {
        {"nothing at all", {{0}}, NONE},
        {"no cgroups", {MEMINFO}, 1024000},
        {"v2 at the top", {MEMINFO, {"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/memory.max", "5000\n"}}, 5000},
        {"v2: its own group is the least",
         {MEMINFO,
          {"proc/self/cgroup", "0::/user.slice/borad.service\n"},
          {"sys/fs/cgroup/user.slice/memory.max", "5000\n"},
          {"sys/fs/cgroup/user.slice/borad.service/memory.max", "4000\n"}},
         4000},
        {"v2: a group above it is the least",
         {MEMINFO,
          {"proc/self/cgroup", "0::/user.slice/app.slice/borad.service\n"},
          {"sys/fs/cgroup/user.slice/memory.max", "3000\n"},
          {"sys/fs/cgroup/user.slice/app.slice/memory.max", "max\n"},
          {"sys/fs/cgroup/user.slice/app.slice/borad.service/memory.max", "4000\n"}},
         3000},
        {"v2: unlimited", {MEMINFO, {"proc/self/cgroup", "0::/a\n"}, {"sys/fs/cgroup/a/memory.max", "max\n"}}, 1024000},
        {"v2: more than the machine has",
         {MEMINFO, {"proc/self/cgroup", "0::/a\n"}, {"sys/fs/cgroup/a/memory.max", "99999999999\n"}},
         1024000},
        {"v2: another's group does not count",
         {MEMINFO, {"proc/self/cgroup", "0::/a\n"}, {"sys/fs/cgroup/b/memory.max", "7\n"}},
         1024000},
        {"v2: a group outside of the container",
         {MEMINFO,
          {"proc/self/cgroup", "0::/../../elsewhere\n"},
          {"sys/fs/cgroup/memory.max", "2000\n"},
          {"sys/fs/elsewhere/memory.max", "7\n"}},
         2000},
        {"v1: own, above, and the top; other controllers' groups do not count",
         {MEMINFO,
          {"proc/self/cgroup", "9:name=systemd:/s\n4:cpu,memory:/docker/abc\n3:cpuset:/c\n0::/\n"},
          {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
          {"sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "6000\n"},
          {"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "8000\n"},
          {"sys/fs/cgroup/memory/c/memory.limit_in_bytes", "7\n"}},
         6000},
        {"v1 in a container that sees its group as the top",
         {MEMINFO,
          {"proc/self/cgroup", "4:memory:/docker/abc\n"},
          {"sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"}},
         5000},
        {"no meminfo", {{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/memory.max", "5000\n"}}, 5000},
        {"damaged lines",
         {MEMINFO,
          {"proc/self/cgroup", "\n:\n0\n0:\nmemory\n4:memoryx:/a\n4:xmemory:/a\n0::/a"},
          {"sys/fs/cgroup/a/memory.max", "5000\n"},
          {"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "7\n"}},
         5000},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        uint64_t bytes = memory_of(cases[i].files);
        if (bytes != cases[i].bytes)
            fail_msg("%s: %llu", cases[i].what, (unsigned long long)bytes);
    }
}

/* Paths as long as they get are no limit, and not followed beyond the buffer. */
static void test_long(void **state)
{
    (void)state;
    static char line[7000];
    size_t n = (size_t)snprintf(line, sizeof line, "0::/");
    for (size_t i = n; i + 1 < sizeof line; i++)
        line[i] = i % 100 == 99 ? '/' : 'x';
    const machine_file files[8] = {MEMINFO, {"proc/self/cgroup", line}, {"sys/fs/cgroup/memory.max", "5000\n"}};
    assert_int_equal(memory_of(files), 1024000);
    line[PATH_MAX - 200] = '\0';
    assert_int_equal(memory_of(files), 5000);

    static char root[2 * PATH_MAX];
    memset(root, 'r', sizeof root - 1);
    assert_int_equal(bora_machine_memory_in(root), NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meminfo),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_machines),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
