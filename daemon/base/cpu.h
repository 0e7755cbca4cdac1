/* What the processor can do and how many there are, asked once at start and passed to the kernels. */
#ifndef BORA_BASE_CPU_H
#define BORA_BASE_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bora_cpu {
    bool avx2;     /* AVX2, FMA and F16C */
    bool avx_vnni; /* on top of avx2 */
    bool avx512;   /* AVX-512 F, BW, DQ, VL on top of avx2 */
    bool avx512_vnni, avx512_bf16;
    uint32_t n_processors; /* this process may run on; at least 1 */
    uint32_t n_cores;      /* they belong to: those that share one (SMT) count once; at least 1 */
    uint32_t n_nodes;      /* NUMA nodes they belong to; at least 1 */
} bora_cpu;

/* BORA_CPU=generic|avx2|avx512 in the environment lowers what is reported, for tests and bug reports. */
void bora_cpu_detect(bora_cpu *ret_cpu);
/* "generic", "avx2", "avx512", with "+vnni" (and of AVX-512 "+bf16") behind it where it has that. Static. */
const char *bora_cpu_name(const bora_cpu *cpu);
/* Cores and NUMA nodes of the given processors, ascending, as Linux tells in root ("/sys/devices/system"). What is not
 * told there or makes no sense counts as a core for each processor, and as one node. */
void bora_cpu_count(const char *root, const uint32_t *processors, size_t n_processors, uint32_t *ret_n_cores,
                    uint32_t *ret_n_nodes);

#endif
