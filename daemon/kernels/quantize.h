/* Weights from f32 to any element type: what bora-model convert writes.
 *
 * A block's scale (and offset) is not read off its largest value but searched: from several sizes around that, each
 * improved by weighted least squares, the one with the least error is kept. The same bits on every processor. */
#ifndef BORA_KERNELS_QUANTIZE_H
#define BORA_KERNELS_QUANTIZE_H

#include <bora/plugin.h>

/* One row: x [n] to out, whose size bora_block_row_size tells; out may be unaligned. importance [n], finite and not
 * negative, weighs the squared error of each element; NULL: all count alike. It does not matter to F32, F16 and BF16,
 * which round to nearest. Any thread.
 * INVAL: no such type, or n is not whole blocks; FORMAT: a value is not finite; LIMIT: one is too large for the type
 * (none is for F32 and BF16, for all others above 65504). On an error out holds nothing of use. */
bora_status bora_quantize_row(uint32_t dtype, size_t n, const float *x, const float *importance, uint8_t *out,
                              bora_error *err);

#endif
