/* Inside of the kernels: dequantising a part of one row. */
#ifndef BORA_KERNELS_DEQUANTIZE_H
#define BORA_KERNELS_DEQUANTIZE_H

#include "base/cpu.h"

#include <bora/plugin.h>
#include <stddef.h>

#define BORA_Q8_0_ELEMENTS 32u
#define BORA_Q8_0_SIZE     34u

/* Elements first .. first+n-1 of a row of the given type as f32. first and n are whole blocks. row may be unaligned;
 * cpu may be NULL. The same bits for every cpu. */
void bora_dequantize_row(const bora_cpu *cpu, uint32_t dtype, const uint8_t *row, size_t first, size_t n, float *out);

/* n_blocks blocks of one type as f32. The two have the same results to the bit; avx2 is NULL where the processor has
 * no such thing. */
typedef struct bora_dequantizer {
    void (*plain)(const uint8_t *in, size_t n_blocks, float *out);
    void (*avx2)(const uint8_t *in, size_t n_blocks, float *out);
} bora_dequantizer;

/* dequantize_q32.c */
extern const bora_dequantizer bora_dequantizer_q4_0, bora_dequantizer_q4_1, bora_dequantizer_q5_0,
    bora_dequantizer_q5_1;
/* dequantize_k.c */
extern const bora_dequantizer bora_dequantizer_q2_k, bora_dequantizer_q3_k, bora_dequantizer_q4_k,
    bora_dequantizer_q5_k, bora_dequantizer_q6_k;
/* dequantize_iq4.c */
extern const bora_dequantizer bora_dequantizer_iq4_nl, bora_dequantizer_iq4_xs;

/* The list that IQ4's four bits number, ascending. */
extern const int8_t bora_iq4_values[16];

#endif
