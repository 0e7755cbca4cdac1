/* The packed product in plain C. A row of a unit is unpacked into integers and its scales once; then the sums are made
 * as packed.h says, one output after the other. The output itself holds the chain from unit to unit. */
#include "kernels/dequantize.h"
#include "kernels/packed/plain.h"

#include <math.h>

#define N_ROWS      BORA_STRIP_ROWS
#define VECTOR_SIZE 64u

typedef struct unit_row {
    int value[BORA_UNIT_COLS]; /* offsets taken away */
    size_t n_sub;              /* 8 or 16 (sub-)blocks */
    float scale[16];           /* [n_sub] */
    float d;                   /* of blocks of 256; 1 where scale is all there is */
    float min[8];              /* Q4_1, Q5_1: [8] */
    int k_min[16];             /* Q4_K, Q5_K, Q2_K: [n_sub] */
    float dmin;
    bool has_min, has_k_min;
} unit_row;

static float f16_at(const uint8_t *list, size_t i)
{
    return bora_f16_to_f32((uint16_t)(list[2 * i] | list[2 * i + 1] << 8));
}

/* Byte i of what was the row's in the file. */
static unsigned byte_at(const uint8_t *vectors, size_t row, size_t i)
{
    return vectors[i / 4 * VECTOR_SIZE + row * 4 + i % 4];
}

/* ---- unpacking -------------------------------------------------------------------------------------- */

static int q32_value(uint32_t dtype, unsigned q)
{
    switch (dtype) {
    case BORA_DTYPE_Q4_0:
        return (int)q - 8;
    case BORA_DTYPE_Q5_0:
        return (int)q - 16;
    case BORA_DTYPE_Q8_0:
        return (int)q - 128;
    case BORA_DTYPE_IQ4_NL:
        return bora_iq4_values[q];
    default: /* Q4_1, Q5_1 */
        return (int)q;
    }
}

static void unpack_q32(uint32_t dtype, const bora_quarter *quarter, const uint8_t *unit, size_t row, unit_row *ret)
{
    ret->n_sub = 8;
    ret->has_min = quarter->min != 0;
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *in = unit + j / 2 * quarter->size;
        const size_t second = j % 2;
        const uint8_t *quants = in + quarter->quants + second * quarter->n_vectors * VECTOR_SIZE;
        ret->scale[j] = f16_at(in, second * N_ROWS + row);
        if (quarter->min)
            ret->min[j] = f16_at(in + quarter->min, second * N_ROWS + row);
        for (size_t i = 0; i < 32; i++) {
            unsigned q;
            if (quarter->n_vectors == 8)
                q = byte_at(quants, row, i);
            else
                q = byte_at(quants, row, i % 16) >> i / 16 * 4 & 15;
            if (quarter->high)
                q |= (byte_at(in + quarter->high + second * VECTOR_SIZE, row, i % 4) >> i / 4 & 1) << 4;
            ret->value[j * 32 + i] = q32_value(dtype, q);
        }
    }
}

static void unpack_q4_k_scales(const uint8_t *unit, size_t row, unit_row *ret)
{
    ret->n_sub = 8;
    ret->has_k_min = true;
    ret->d = f16_at(unit, row);
    ret->dmin = f16_at(unit + 32, row);
    for (size_t j = 0; j < 8; j++) {
        const size_t p = j * N_ROWS + row;
        const unsigned low = unit[64 + p], upper = unit[192 + p % 64] >> (p < 64 ? 0 : 2);
        ret->scale[j] = (float)((low & 15) | (upper & 3) << 4);
        ret->k_min[j] = (int)(low >> 4 | (upper >> 4 & 3) << 4);
    }
}

static void unpack_q4_k_quants(const uint8_t *quants, size_t row, unit_row *ret)
{
    for (size_t i = 0; i < BORA_UNIT_COLS; i++) {
        const size_t j = i / 32;
        ret->value[i] = (int)(byte_at(quants, row, j / 2 * 32 + i % 32) >> j % 2 * 4 & 15);
    }
}

static void unpack_q4_k(const uint8_t *unit, size_t row, unit_row *ret)
{
    unpack_q4_k_scales(unit, row, ret);
    unpack_q4_k_quants(unit + 256, row, ret);
}

static void unpack_q5_k(const uint8_t *unit, size_t row, unit_row *ret)
{
    unpack_q4_k_scales(unit, row, ret);
    unpack_q4_k_quants(unit + 768, row, ret);
    for (size_t i = 0; i < BORA_UNIT_COLS; i++)
        ret->value[i] |= (int)(byte_at(unit + 256, row, i % 32) >> i / 32 & 1) << 4;
}

static void unpack_i8_scales(const uint8_t *unit, size_t row, size_t n, unit_row *ret)
{
    ret->n_sub = n;
    ret->d = f16_at(unit, row);
    for (size_t j = 0; j < n; j++)
        ret->scale[j] = (float)(int8_t)unit[64 + j * N_ROWS + row];
}

static void unpack_q6_k(const uint8_t *unit, size_t row, unit_row *ret)
{
    unpack_i8_scales(unit, row, 16, ret);
    for (size_t i = 0; i < BORA_UNIT_COLS; i++) {
        const uint8_t *half = unit + 320 + i / 128 * 1536;
        const size_t in_half = i % 128;
        const uint8_t *first = half + in_half % 32 / 16 * 512; /* upper bits, and behind them lower ones */
        const uint8_t *ql = in_half / 32 % 2 ? half + 1024 : first + 256;
        const size_t at = in_half / 32 % 2 ? in_half % 32 : in_half % 16;
        const unsigned low = byte_at(ql, row, at) >> in_half / 64 * 4 & 15;
        const unsigned high = byte_at(first, row, in_half % 16) >> in_half / 32 * 2 & 3;
        ret->value[i] = (int)(low | high << 4) - 32;
    }
}

/* The two bits of q2_k and q3_k. */
static unsigned two_bits(const uint8_t *vectors, size_t row, size_t i)
{
    return byte_at(vectors, row, i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3;
}

static void unpack_q3_k(const uint8_t *unit, size_t row, unit_row *ret)
{
    unpack_i8_scales(unit, row, 16, ret);
    for (size_t i = 0; i < BORA_UNIT_COLS; i++) {
        const unsigned bit = byte_at(unit + 1344, row, i % 32) >> i / 32 & 1;
        ret->value[i] = (int)(two_bits(unit + 320, row, i) | bit << 2) - 4;
    }
}

static void unpack_q2_k(const uint8_t *unit, size_t row, unit_row *ret)
{
    ret->n_sub = 16;
    ret->has_k_min = true;
    ret->d = f16_at(unit, row);
    ret->dmin = f16_at(unit + 32, row);
    for (size_t j = 0; j < 16; j++) {
        const unsigned both = unit[64 + j * N_ROWS + row];
        ret->scale[j] = (float)(both & 15);
        ret->k_min[j] = (int)(both >> 4);
    }
    for (size_t i = 0; i < BORA_UNIT_COLS; i++)
        ret->value[i] = (int)two_bits(unit + 320, row, i);
}

static void unpack_iq4_xs(const uint8_t *unit, size_t row, unit_row *ret)
{
    unpack_i8_scales(unit, row, 8, ret);
    for (size_t i = 0; i < BORA_UNIT_COLS; i++)
        ret->value[i] = bora_iq4_values[byte_at(unit + 192, row, i / 32 * 16 + i % 16) >> i % 32 / 16 * 4 & 15];
}

static void (*const unpack_k[BORA_DTYPE_COUNT])(const uint8_t *unit, size_t row, unit_row *ret) = {
    [BORA_DTYPE_Q2_K] = unpack_q2_k, [BORA_DTYPE_Q3_K] = unpack_q3_k, [BORA_DTYPE_Q4_K] = unpack_q4_k,
    [BORA_DTYPE_Q5_K] = unpack_q5_k, [BORA_DTYPE_Q6_K] = unpack_q6_k, [BORA_DTYPE_IQ4_XS] = unpack_iq4_xs,
};

static void unpack(uint32_t dtype, const uint8_t *unit, size_t row, unit_row *ret)
{
    const bora_quarter *quarter = bora_quarter_of(dtype);
    ret->d = 1;
    ret->has_min = ret->has_k_min = false;
    if (quarter)
        unpack_q32(dtype, quarter, unit, row, ret);
    else
        unpack_k[dtype](unit, row, ret);
}

/* ---- sums ------------------------------------------------------------------------------------------- */

/* f, gone on by one unit of one row of weights and one column of x. */
static float add_unit(const unit_row *w, const bora_panel *panel, size_t unit, uint32_t column, float f)
{
    const size_t n_columns = panel->n_columns, n_sub = w->n_sub, n = BORA_UNIT_COLS / n_sub;
    const float x_scale = panel->scale[unit * n_columns + column];
    const int16_t *sums =
        n_sub == 8 ? panel->sum32 + (unit * n_columns + column) * 8 : panel->sum16 + (unit * n_columns + column) * 16;
    float g = 0;
    int min_sum = 0;
    for (size_t j = 0; j < n_sub; j++) {
        const size_t block = unit * BORA_UNIT_BLOCKS + j * n / 32;
        const int8_t *q = panel->q + (block * n_columns + column) * 32 + j * n % 32;
        int dot = 0;
        for (size_t i = 0; i < n; i++)
            dot += w->value[j * n + i] * q[i];
        dot *= 1 << panel->shift[block * n_columns + column];
        g = fmaf((float)dot, w->scale[j], g);
        if (w->has_min)
            g = fmaf((float)sums[j], w->min[j], g);
        if (w->has_k_min)
            min_sum += w->k_min[j] * sums[j];
    }
    if (w->has_k_min)
        return fmaf(fmaf(g, w->d, -((float)min_sum * w->dmin)), x_scale, f);
    return fmaf(g, w->d * x_scale, f);
}

static void multiply_row(const bora_strips *w, const uint8_t *strip, size_t row, const bora_input *x, float *y,
                         size_t y_stride)
{
    const size_t unit_size = bora_unit_size(w->dtype);
    for (uint32_t r = 0; r < x->n_rows; r++)
        y[r * y_stride] = 0;
    for (size_t u = 0; u < w->n_units; u++) {
        unit_row weights;
        unpack(w->dtype, strip + u * unit_size, row, &weights);
        float *out = y;
        for (uint32_t p = 0; p < bora_input_n_panels(x->n_rows); p++) {
            const bora_panel panel = bora_panel_at(x, p);
            for (uint32_t column = 0; column < panel.n_columns; column++, out += y_stride)
                *out = add_unit(&weights, &panel, u, column, *out);
        }
    }
}

void bora_plain_multiply(const bora_strips *w, const bora_input *x, float *y, size_t y_stride, void *scratch)
{
    (void)scratch; /* needs none */
    const size_t strip_size = w->n_units * bora_unit_size(w->dtype);
    for (uint32_t s = 0; s < w->n_strips; s++)
        for (size_t row = 0; row < N_ROWS; row++)
            multiply_row(w, w->units + s * strip_size, row, x, y + (size_t)s * N_ROWS + row, y_stride);
}
