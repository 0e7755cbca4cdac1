#include "base/cpu.h"

#include "base/status.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SYSFS         "/sys/devices/system"
#define TEXT_SIZE_MAX 4096u /* of a list in it: a page */

/* ---- how many ------------------------------------------------------------------------------------------------- */

/* "0-3,8,10-11" and a newline. Numbers that a cpu_set_t cannot hold are left out. False for anything else. */
static bool parse_list(const char *text, cpu_set_t *ret_set)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (;;) {
        char *end;
        if (*text < '0' || *text > '9')
            return false;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-') {
            text = end + 1;
            if (*text < '0' || *text > '9')
                return false;
            last = strtoul(text, &end, 10);
        }
        if (last < first)
            return false;
        for (unsigned long i = first; i <= last && i < CPU_SETSIZE; i++)
            CPU_SET(i, &set);
        if (*end != ',') {
            *ret_set = set;
            return *end == '\0' || (*end == '\n' && end[1] == '\0');
        }
        text = end + 1;
    }
}

/* The list in the file root/folder<number>/name; number -1: root/name. */
static bool read_list(const char *root, const char *folder, long number, const char *name, cpu_set_t *ret_set)
{
    char path[512], text[TEXT_SIZE_MAX];
    int length = number < 0 ? snprintf(path, sizeof path, "%s/%s", root, name)
                            : snprintf(path, sizeof path, "%s/%s%ld/%s", root, folder, number, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return false;
    BORA_CLEANUP(bora_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t size = 0;
    for (;;) {
        ssize_t got = read(fd, text + size, sizeof text - size);
        if (got < 0)
            return false;
        if (got == 0)
            break;
        size += (size_t)got;
        if (size == sizeof text)
            return false; /* cut off, perhaps */
    }
    text[size] = '\0';
    return parse_list(text, ret_set);
}

/* The lowest number in both sets; -1: there is none. */
static long first_of_both(const cpu_set_t *a, const cpu_set_t *b)
{
    for (long i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((size_t)i, a) && CPU_ISSET((size_t)i, b))
            return i;
    return -1;
}

void bora_cpu_count(const char *root, const uint32_t *processors, size_t n_processors, uint32_t *ret_n_cores,
                    uint32_t *ret_n_nodes)
{
    cpu_set_t ours, siblings, nodes, of_node;
    uint32_t n_cores = 0, n_nodes = 0;
    CPU_ZERO(&ours);
    for (size_t i = 0; i < n_processors; i++)
        if (processors[i] < CPU_SETSIZE)
            CPU_SET(processors[i], &ours);
    /* A core is counted with the first of its processors that is ours. */
    for (size_t i = 0; i < n_processors; i++) {
        const long number = (long)processors[i];
        const bool is_told = read_list(root, "cpu/cpu", number, "topology/thread_siblings_list", &siblings) &&
                             number < CPU_SETSIZE && CPU_ISSET((size_t)number, &siblings);
        n_cores += !is_told || first_of_both(&siblings, &ours) == number;
    }
    if (read_list(root, "", -1, "node/online", &nodes))
        for (long node = 0; node < CPU_SETSIZE; node++)
            n_nodes += CPU_ISSET((size_t)node, &nodes) && read_list(root, "node/node", node, "cpulist", &of_node) &&
                       first_of_both(&of_node, &ours) >= 0;
    *ret_n_cores = n_cores ? n_cores : 1;
    *ret_n_nodes = n_nodes ? n_nodes : 1;
}

static void count_ours(bora_cpu *cpu)
{
    uint32_t processors[CPU_SETSIZE];
    size_t n = 0;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (uint32_t i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set))
                processors[n++] = i;
    cpu->n_processors = n ? (uint32_t)n : 1;
    bora_cpu_count(SYSFS, processors, n, &cpu->n_cores, &cpu->n_nodes);
}

/* ---- what it can do ------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <cpuid.h>

/* Asked of the processor: __builtin_cpu_supports of some compilers does not know the names. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* Leaf 7.1, register eax. */
#define BIT_AVX_VNNI    (1u << 4)
#define BIT_AVX512_BF16 (1u << 5)

static unsigned features_7_1(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) ? a : 0;
}
#endif

void bora_cpu_detect(bora_cpu *ret_cpu)
{
    bora_cpu cpu = {.n_cores = 1};
#if defined(__x86_64__)
    __builtin_cpu_init();
    cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    cpu.avx_vnni = cpu.avx2 && (features_7_1() & BIT_AVX_VNNI);
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    cpu.avx512_vnni = cpu.avx512 && __builtin_cpu_supports("avx512vnni");
    cpu.avx512_bf16 = cpu.avx512 && (features_7_1() & BIT_AVX512_BF16);
#endif
    const char *forced = getenv("BORA_CPU");
    bool generic = forced && strcmp(forced, "generic") == 0;
    if (generic)
        cpu.avx2 = cpu.avx_vnni = false;
    if (generic || (forced && strcmp(forced, "avx2") == 0))
        cpu.avx512 = cpu.avx512_vnni = cpu.avx512_bf16 = false;
    count_ours(&cpu);
    *ret_cpu = cpu;
}

const char *bora_cpu_name(const bora_cpu *cpu)
{
    if (cpu->avx512)
        return cpu->avx512_vnni ? (cpu->avx512_bf16 ? "avx512+vnni+bf16" : "avx512+vnni")
                                : (cpu->avx512_bf16 ? "avx512+bf16" : "avx512");
    if (cpu->avx2)
        return cpu->avx_vnni ? "avx2+vnni" : "avx2";
    return "generic";
}
