/* Weights of a file into strips, in plain C: one row of one unit after the other. Nearly everything is dwords that go
 * to the lane of their row; only a few scales and fifth bits are put together anew. */
#include "kernels/packed/plain.h"
#include "model/blocks.h"

#include <string.h>

#define N_ROWS      BORA_STRIP_ROWS
#define VECTOR_SIZE 64u

/* Dword i of in becomes the row's lane of vector i. */
static void put_dwords(const uint8_t *in, size_t n, size_t row, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        memcpy(out + i * VECTOR_SIZE + row * 4, in + i * 4, 4);
}

/* An f16 of a list [16]. */
static void put_f16(const uint8_t *in, size_t row, uint8_t *out)
{
    memcpy(out + row * 2, in, 2);
}

/* ---- blocks of 32 ----------------------------------------------------------------------------------- */

/* Bit e of the file's 32 bits is that of element e; here element 4i + t has bit i of byte t. */
static void put_fifth_bits(const uint8_t *in, size_t row, uint8_t *out)
{
    for (size_t t = 0; t < 4; t++) {
        unsigned bits = 0;
        for (size_t i = 0; i < 8; i++) {
            size_t element = 4 * i + t;
            bits |= (in[element / 8] >> element % 8 & 1u) << i;
        }
        out[row * 4 + t] = (uint8_t)bits;
    }
}

static void pack_q32(uint32_t dtype, const bora_quarter *quarter, const uint8_t *in, size_t n_blocks, size_t row,
                     uint8_t *unit)
{
    const size_t block_size = bora_block_of(dtype)->size;
    for (size_t j = 0; j < n_blocks; j++, in += block_size) {
        uint8_t *out = unit + j / 2 * quarter->size;
        const size_t second = j % 2;
        const uint8_t *from = in;
        put_f16(from, row, out + second * N_ROWS * 2);
        from += 2;
        if (quarter->min) {
            put_f16(from, row, out + quarter->min + second * N_ROWS * 2);
            from += 2;
        }
        if (quarter->high) {
            put_fifth_bits(from, row, out + quarter->high + second * VECTOR_SIZE);
            from += 4;
        }
        uint8_t *quants = out + quarter->quants + second * quarter->n_vectors * VECTOR_SIZE;
        put_dwords(from, quarter->n_vectors, row, quants);
        if (dtype == BORA_DTYPE_Q8_0) /* int8 to the same value + 128 */
            for (size_t i = 0; i < 32; i++)
                quants[i / 4 * VECTOR_SIZE + row * 4 + i % 4] ^= 0x80;
    }
}

/* ---- blocks of 256 ---------------------------------------------------------------------------------- */

/* q4_k and q5_k: 6-bit scales and minima (see kernels/dequantize_k.c), as low halves and upper two bits. */
static void put_scales_and_minima(const uint8_t *in, size_t row, uint8_t *low, uint8_t *upper)
{
    for (size_t j = 0; j < 8; j++) {
        unsigned scale, min;
        if (j < 4) {
            scale = in[j] & 63u;
            min = in[4 + j] & 63u;
        } else {
            scale = (in[4 + j] & 15u) | in[j - 4] >> 6 << 4;
            min = in[4 + j] >> 4 | in[j] >> 6 << 4;
        }
        const size_t p = j * N_ROWS + row;
        low[p] = (uint8_t)((scale & 15) | (min & 15) << 4);
        const unsigned shift = p < 64 ? 0 : 2; /* upper was cleared */
        upper[p % 64] |= (uint8_t)(scale >> 4 << shift | min >> 4 << (4 + shift));
    }
}

static void pack_q4_k(const uint8_t *in, size_t row, uint8_t *unit)
{
    put_f16(in, row, unit);
    put_f16(in + 2, row, unit + 32);
    put_scales_and_minima(in + 4, row, unit + 64, unit + 192);
    put_dwords(in + 16, 32, row, unit + 256);
}

static void pack_q5_k(const uint8_t *in, size_t row, uint8_t *unit)
{
    put_f16(in, row, unit);
    put_f16(in + 2, row, unit + 32);
    put_scales_and_minima(in + 4, row, unit + 64, unit + 192);
    put_dwords(in + 16, 8, row, unit + 256);
    put_dwords(in + 48, 32, row, unit + 768);
}

static void pack_q6_k(const uint8_t *in, size_t row, uint8_t *unit)
{
    put_f16(in + 208, row, unit);
    for (size_t j = 0; j < 16; j++)
        unit[64 + j * N_ROWS + row] = in[192 + j];
    for (size_t half = 0; half < 2; half++) {
        uint8_t *out = unit + 320 + half * 1536;
        const uint8_t *low = in + half * 64, *high = in + 128 + half * 32;
        for (size_t e = 0; e < 2; e++) {
            put_dwords(high + e * 16, 4, row, out + e * 512);
            put_dwords(low + e * 16, 4, row, out + e * 512 + 256);
        }
        put_dwords(low + 32, 8, row, out + 1024);
    }
}

static void pack_q3_k(const uint8_t *in, size_t row, uint8_t *unit)
{
    const uint8_t *scales = in + 96;
    put_f16(in + 108, row, unit);
    for (size_t j = 0; j < 16; j++) {
        const int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
        const int upper = scales[8 + j % 4] >> j / 4 * 2 & 3;
        unit[64 + j * N_ROWS + row] = (uint8_t)((low | upper << 4) - 32);
    }
    put_dwords(in + 32, 16, row, unit + 320);
    put_dwords(in, 8, row, unit + 1344);
}

static void pack_q2_k(const uint8_t *in, size_t row, uint8_t *unit)
{
    put_f16(in + 80, row, unit);
    put_f16(in + 82, row, unit + 32);
    for (size_t j = 0; j < 16; j++)
        unit[64 + j * N_ROWS + row] = in[j];
    put_dwords(in + 16, 16, row, unit + 320);
}

static void pack_iq4_xs(const uint8_t *in, size_t row, uint8_t *unit)
{
    const unsigned upper = (unsigned)in[2] | (unsigned)in[3] << 8;
    put_f16(in, row, unit);
    for (size_t j = 0; j < 8; j++) {
        const int low = in[4 + j / 2] >> j % 2 * 4 & 15;
        unit[64 + j * N_ROWS + row] = (uint8_t)((low | (int)(upper >> 2 * j & 3) << 4) - 32);
    }
    put_dwords(in + 8, 32, row, unit + 192);
}

static void (*const pack_k[BORA_DTYPE_COUNT])(const uint8_t *in, size_t row, uint8_t *unit) = {
    [BORA_DTYPE_Q2_K] = pack_q2_k, [BORA_DTYPE_Q3_K] = pack_q3_k, [BORA_DTYPE_Q4_K] = pack_q4_k,
    [BORA_DTYPE_Q5_K] = pack_q5_k, [BORA_DTYPE_Q6_K] = pack_q6_k, [BORA_DTYPE_IQ4_XS] = pack_iq4_xs,
};

void bora_plain_pack(uint32_t dtype, const uint8_t *rows, size_t row_size, size_t n_rows, size_t n_cols, uint8_t *strip)
{
    const bora_quarter *quarter = bora_quarter_of(dtype);
    const bora_block *block = bora_block_of(dtype);
    const size_t unit_size = bora_unit_size(dtype), n_units = (n_cols + BORA_UNIT_COLS - 1) / BORA_UNIT_COLS;
    const size_t n_blocks = n_cols / block->n_elements, blocks_per_unit = BORA_UNIT_COLS / block->n_elements;
    memset(strip, 0, n_units * unit_size);
    for (size_t row = 0; row < n_rows; row++) {
        for (size_t u = 0; u < n_units; u++) {
            const size_t first = u * blocks_per_unit, rest = n_blocks - first;
            const uint8_t *in = rows + row * row_size + first * block->size;
            uint8_t *unit = strip + u * unit_size;
            if (quarter)
                pack_q32(dtype, quarter, in, rest < blocks_per_unit ? rest : blocks_per_unit, row, unit);
            else
                pack_k[dtype](in, row, unit);
        }
    }
}
