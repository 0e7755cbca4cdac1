#include "base/cpu.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* Asked of the processor: __builtin_cpu_supports of some compilers does not know the name. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

void bora_cpu_detect(bora_cpu *ret_cpu)
{
    bora_cpu cpu = {.n_cores = 1};
#if defined(__x86_64__)
    __builtin_cpu_init();
    cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    cpu.avx512_vnni = cpu.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
    const char *forced = getenv("BORA_CPU");
    bool generic = forced && strcmp(forced, "generic") == 0;
    if (generic)
        cpu.avx2 = false;
    if (generic || (forced && strcmp(forced, "avx2") == 0))
        cpu.avx512 = cpu.avx512_vnni = false;

    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        cpu.n_cores = (uint32_t)CPU_COUNT(&set);
    *ret_cpu = cpu;
}

const char *bora_cpu_name(const bora_cpu *cpu)
{
    return cpu->avx512_vnni ? "avx512+vnni" : cpu->avx512 ? "avx512" : cpu->avx2 ? "avx2" : "generic";
}
