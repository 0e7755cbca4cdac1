/* What the processor can do, asked once at start and passed to the kernels. */
#ifndef BORA_BASE_CPU_H
#define BORA_BASE_CPU_H

#include <stdbool.h>
#include <stdint.h>

typedef struct bora_cpu {
    bool avx2;   /* AVX2, FMA and F16C */
    bool avx512; /* AVX-512 F, BW, DQ, VL on top */
    bool avx512_vnni;
    uint32_t n_cores; /* processors this process may run on; at least 1 */
} bora_cpu;

/* BORA_CPU=generic|avx2|avx512 in the environment lowers what is reported, for tests and bug reports. */
void bora_cpu_detect(bora_cpu *ret_cpu);
/* "generic", "avx2", "avx512" or "avx512+vnni". */
const char *bora_cpu_name(const bora_cpu *cpu);

#endif
