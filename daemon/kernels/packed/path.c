/* Which path a processor takes. All have the same results, to the bit. */
#include "kernels/packed/packed.h"

const bora_packed_path *bora_packed_choose(const bora_cpu *cpu)
{
    (void)cpu;
    return &bora_packed_plain;
}
