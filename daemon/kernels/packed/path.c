/* Which path a processor takes. All have the same results, to the bit. */
#include "kernels/packed/packed.h"

const bora_packed_path *bora_packed_choose(const bora_cpu *cpu)
{
#if defined(__x86_64__)
    if (cpu->avx512_vnni)
        return &bora_packed_avx512;
    if (cpu->avx2)
        return &bora_packed_avx2;
#endif
    (void)cpu;
    return &bora_packed_plain;
}
