/* Weights from f32: the checks, the types without blocks and those of 32 elements. */
#include "kernels/quantize.h"

#include "kernels/dequantize.h"
#include "kernels/quantize_fit.h"
#include "kernels/quantize_private.h"
#include "model/blocks.h"

#include <math.h>

/* ---- no blocks ------------------------------------------------------------------------------------------ */

static void quantize_f32(const float *x, const float *weight, uint8_t *out)
{
    (void)weight;
    memcpy(out, x, sizeof *x);
}

static void quantize_f16(const float *x, const float *weight, uint8_t *out)
{
    (void)weight;
    store_u16(out, bora_f32_to_f16(*x));
}

static void quantize_bf16(const float *x, const float *weight, uint8_t *out)
{
    (void)weight;
    store_u16(out, bora_f32_to_bf16(*x));
}

/* ---- 32 elements ---------------------------------------------------------------------------------------- */

static bora_part part_of(const float *x, const float *weight)
{
    return (bora_part){.n = 32, .x = x, .weight = weight};
}

/* A scale, which is stored at out. */
static void scaled(const bora_levels *levels, const float *x, const float *weight, uint8_t *out, int8_t ret_q[32])
{
    bora_part part = part_of(x, weight);
    bora_line line = {.scale = store_f16(out, bora_fit_scale(levels, &part))};
    bora_fit_choose(levels, &part, line, ret_q);
}

/* A scale and an offset, which are stored at out and out + 2. */
static void offset_and_scaled(const bora_levels *levels, const float *x, const float *weight, uint8_t *out,
                              int8_t ret_q[32])
{
    bora_part part = part_of(x, weight);
    bora_line line = bora_fit_line(levels, &part, false);
    line = (bora_line){.scale = store_f16(out, line.scale), .offset = store_f16(out + 2, line.offset)};
    bora_fit_choose(levels, &part, line, ret_q);
}

/* The fifth bits of 32 elements. */
static void store_fifth_bits(const int8_t q[32], int8_t zero, uint8_t out[4])
{
    memset(out, 0, 4);
    for (size_t i = 0; i < 32; i++)
        out[i / 8] |= (uint8_t)(((q[i] + zero) >> 4 & 1) << i % 8);
}

static void quantize_q8_0(const float *x, const float *weight, uint8_t *out)
{
    int8_t q[32];
    scaled(&(bora_levels){-127, 127, NULL}, x, weight, out, q);
    memcpy(out + 2, q, sizeof q);
}

static void quantize_q4_0(const float *x, const float *weight, uint8_t *out)
{
    int8_t q[32];
    scaled(&(bora_levels){-8, 7, NULL}, x, weight, out, q);
    store_nibbles(q, 8, out + 2);
}

static void quantize_q4_1(const float *x, const float *weight, uint8_t *out)
{
    int8_t q[32];
    offset_and_scaled(&(bora_levels){0, 15, NULL}, x, weight, out, q);
    store_nibbles(q, 0, out + 4);
}

static void quantize_q5_0(const float *x, const float *weight, uint8_t *out)
{
    int8_t q[32];
    scaled(&(bora_levels){-16, 15, NULL}, x, weight, out, q);
    store_fifth_bits(q, 16, out + 2);
    store_nibbles(q, 16, out + 6);
}

static void quantize_q5_1(const float *x, const float *weight, uint8_t *out)
{
    int8_t q[32];
    offset_and_scaled(&(bora_levels){0, 31, NULL}, x, weight, out, q);
    store_fifth_bits(q, 0, out + 4);
    store_nibbles(q, 0, out + 8);
}

static void quantize_iq4_nl(const float *x, const float *weight, uint8_t *out)
{
    int8_t q[32];
    scaled(&(bora_levels){bora_iq4_values[0], bora_iq4_values[15], bora_iq4_values}, x, weight, out, q);
    store_nibbles(q, 0, out + 2);
}

/* ---- a row ---------------------------------------------------------------------------------------------- */

static const bora_quantize_fn quantizers[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_F32] = quantize_f32,
    [BORA_DTYPE_F16] = quantize_f16,
    [BORA_DTYPE_BF16] = quantize_bf16,
    [BORA_DTYPE_Q8_0] = quantize_q8_0,
    [BORA_DTYPE_Q4_0] = quantize_q4_0,
    [BORA_DTYPE_Q4_1] = quantize_q4_1,
    [BORA_DTYPE_Q5_0] = quantize_q5_0,
    [BORA_DTYPE_Q5_1] = quantize_q5_1,
    [BORA_DTYPE_Q2_K] = bora_quantize_q2_k,
    [BORA_DTYPE_Q3_K] = bora_quantize_q3_k,
    [BORA_DTYPE_Q4_K] = bora_quantize_q4_k,
    [BORA_DTYPE_Q5_K] = bora_quantize_q5_k,
    [BORA_DTYPE_Q6_K] = bora_quantize_q6_k,
    [BORA_DTYPE_IQ4_NL] = quantize_iq4_nl,
    [BORA_DTYPE_IQ4_XS] = bora_quantize_iq4_xs,
};

bora_status bora_quantize_row(uint32_t dtype, size_t n, const float *x, const float *importance, uint8_t *out,
                              bora_error *err)
{
    const bora_block *block = bora_block_of(dtype);
    if (!block)
        return bora_fail(err, BORA_E_INVAL, "there is no element type %u", dtype);
    if (n % block->n_elements)
        return bora_fail(err, BORA_E_INVAL, "%zu elements are not whole blocks of %s, which has %u in each", n,
                         block->name, block->n_elements);
    const bool is_bounded = dtype != BORA_DTYPE_F32 && dtype != BORA_DTYPE_BF16;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return bora_fail(err, BORA_E_FORMAT, "element %zu is %f", i, (double)x[i]);
        if (is_bounded && fabsf(x[i]) > F16_MAX)
            return bora_fail(err, BORA_E_LIMIT, "element %zu is %g, too large for %s", i, (double)x[i], block->name);
    }
    float alike[BORA_BLOCK_ELEMENTS_MAX];
    for (size_t i = 0; i < BORA_BLOCK_ELEMENTS_MAX; i++)
        alike[i] = 1;
    for (size_t i = 0; i < n; i += block->n_elements, out += block->size)
        quantizers[dtype](x + i, importance ? importance + i : alike, out);
    return BORA_OK;
}
