/* Inside of the kernels: dequantising a part of one row. */
#ifndef BORA_KERNELS_DEQUANTIZE_H
#define BORA_KERNELS_DEQUANTIZE_H

#include "base/cpu.h"

#include <stddef.h>

#define BORA_Q8_0_ELEMENTS 32u
#define BORA_Q8_0_SIZE     34u

/* Elements first .. first+n-1 of a row of the given type as f32. first and n are whole blocks. row may be unaligned;
 * cpu may be NULL. The same bits for every cpu. */
void bora_dequantize_row(const bora_cpu *cpu, uint32_t dtype, const uint8_t *row, size_t first, size_t n, float *out);

#endif
