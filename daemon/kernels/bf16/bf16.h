/* Inside of the product with BF16 weights on processors that multiply pairs of bfloat16 (AVX-512 BF16, vdpbf16ps).
 *
 * WEIGHTS stay where they are, row-major.
 *
 * ACTIVATIONS are rounded to bfloat16, to nearest even; a subnormal to a zero of its sign (decision 8: not done unless
 * asked for). A panel is a few rows of x ("columns") side by side, cut like the panels of kernels/packed; a step is 32
 * k, those past n_cols are zero.
 *
 * SUMS. An output is 16 sums, the lanes, each one chain that ascends in k and is never cut: lane l starts at 0 and
 * takes of each step the elements 2l and 2l + 1, the second first:
 *   pair(a, w, x) = fma(w[2l], x[2l], fma(w[2l + 1], x[2l + 1], a))
 * Every operand and result that is subnormal is a zero of its sign; rounding is to nearest even, whatever the thread's
 * mode. At the end the lanes are added up: l + (l + 8), then + 4, + 2, + 1. The same bits for any tile and any number
 * of columns. Source: Intel's Software Developer's Manual, VDPBF16PS and VCVTNEPS2BF16. */
#ifndef BORA_KERNELS_BF16_BF16_H
#define BORA_KERNELS_BF16_BF16_H

#include "base/cpu.h"
#include "kernels/matrix.h"

#define BORA_BF16_STEP  32u
#define BORA_BF16_LANES 16u

/* Up to 8 rows of x. */
typedef struct bora_bf16_panel {
    uint32_t n_columns;
    size_t n_steps; /* ceil(n_cols / 32) */
    uint16_t *x;    /* [n_steps, n_columns, 32], aligned to 64 */
} bora_bf16_panel;

/* Bytes of all panels of an input, a multiple of 64. SIZE_MAX if that does not fit. */
size_t bora_bf16_panels_size(uint32_t n_rows, uint32_t n_cols);
/* panels: of an input of n_rows x n_cols. */
bora_bf16_panel bora_bf16_panel_at(void *panels, uint32_t n_rows, uint32_t n_cols, uint32_t panel);

/* What a processor's path does. All functions are free of state; any thread. */
typedef struct bora_bf16_path {
    const char *name;
    /* Rounds one row of x [n_cols] into column of the panel, padding included. */
    void (*fill)(const float *x, size_t n_cols, const bora_bf16_panel *panel, uint32_t column);
    /* y[t * y_stride + r] = row r of w times row t of x, for all rows of w (n_cols > 0) and the n_rows > 0 rows that
     * panels were filled from. */
    void (*multiply)(const bora_tensor *w, void *panels, uint32_t n_rows, float *y, size_t y_stride);
} bora_bf16_path;

/* The definition. */
extern const bora_bf16_path bora_bf16_plain;
#if defined(__x86_64__)
extern const bora_bf16_path bora_bf16_avx512; /* needs AVX-512 F, BW, DQ, VL, BF16 */
#endif

/* NULL if the processor has no instruction for it: floats are faster then. */
const bora_bf16_path *bora_bf16_choose(const bora_cpu *cpu);

#endif
