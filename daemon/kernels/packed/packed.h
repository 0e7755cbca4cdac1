/* clang-format off */
/* Inside of the packed product: how weights and activations lie in memory, and in which order a sum is made.
 *
 * WEIGHTS. A unit is 16 rows x 256 k. A strip is the units of 16 rows, ascending in k, one behind the other. In a vector of
 * 64 bytes, lane r (4 bytes) belongs to row r of the strip and holds four consecutive elements of k ("[16][4]" below);
 * vector i of a block of 32 has elements 4i .. 4i+3. So one dot-product instruction serves 16 rows and nothing is ever added
 * up across lanes. Rows past the matrix, and k past n_cols, have scales of zero (their quants are zero bytes). All parts of
 * a unit begin at multiples of 64 bytes; numbers are little-endian. Blocks and sub-blocks are those of the file formats
 * (kernels/dequantize_*.c), 8 of 32 or 16 of 16 to a unit.
 *
 *   Q4_0    4 x { f16 scale[2 blocks][16], nibbles[2 blocks][4 vectors][16][4] }                              = 2304 bytes
 *           byte t of lane r of vector i: low nibble element 4i+t of the block, high nibble element 16+4i+t: the bytes of
 *           the file, untouched. value = nibble - 8
 *   IQ4_NL  the same layout; value = bora_iq4_values[nibble]
 *   Q4_1    4 x { f16 scale[2][16], f16 min[2][16], nibbles[2][4][16][4] }; value = nibble                     = 2560
 *   Q5_0    4 x { f16 scale[2][16], nibbles[2][4][16][4], high[2][16][4] }                                     = 2816
 *           bit i of byte t of lane r of high: bit 4 of element 4i+t (i = 0..7). value = (nibble | high << 4) - 16
 *   Q5_1    4 x { f16 scale[2][16], f16 min[2][16], nibbles[2][4][16][4], high[2][16][4] }                     = 3072
 *           value = nibble | high << 4
 *   Q8_0    4 x { f16 scale[2][16], u8[2][8 vectors][16][4] }; value = byte - 128                              = 4352
 *   Q4_K    f16 d[16], f16 dmin[16]; low nibbles of scale and min as bytes scale | min << 4 [8][16]; their upper two bits as
 *           64 bytes (byte p: bits 0-1 scale of p, 2-3 scale of p + 64, 4-5 min of p, 6-7 min of p + 64; p = sub-block * 16
 *           + row); nibbles[4 g][8 vectors][16][4]: low nibble sub-block 2g, high nibble sub-block 2g+1        = 2304
 *   Q5_K    as Q4_K, with high[8 vectors][16][4] before the nibbles: bit j of byte t of lane r of vector i is bit 4 of
 *           element 4i+t of sub-block j (the bytes of the file's qh)                                           = 2816
 *   Q6_K    f16 d[16], 32 bytes zero; i8 scale[16][16]; per half n = 0, 1, with vector i of dwords i of the file's ql [64]
 *           and qh [32] of that half: qh 0-3, ql 0-3, qh 4-7, ql 4-7, ql 8-15, in the order of first use;
 *           value = 0..63 minus 32                                                                             = 3392
 *   Q3_K    f16 d[16], 32 bytes zero; i8 scale[16][16] (the file's minus 32); qs[16 vectors][16][4]; hmask[8 vectors][16][4]:
 *           dword i of the file's qs and hmask; value = (two bits | bit << 2) - 4                              = 1856
 *   Q2_K    f16 d[16], f16 dmin[16]; scale | min << 4 as bytes [16][16]; qs[16 vectors][16][4]; value = two bits = 1344
 *   IQ4_XS  f16 d[16], 32 bytes zero; i8 scale[8][16] (the file's minus 32); nibbles[8 sub-blocks][4 vectors][16][4], as in
 *           Q4_0; value = bora_iq4_values[nibble]                                                              = 2240
 *
 * ACTIVATIONS. 256 elements of a row of x share a scale, and each 32 of them a power of two: a block whose largest value is
 * at most 1/2, 1/4, 1/8 of that of the 256 is stored 2, 4, 8 times finer. With m = max |x| of the 256 and m_j of block j:
 *   m < 1e-30: scale 0, quants 0, shifts 0.  Some x of the 256 not finite: scale NaN, quants 0, shifts 0.  Otherwise
 *   s = m_j * 8 <= m ? 3 : m_j * 4 <= m ? 2 : m_j * 2 <= m ? 1 : 0;  shift = 3 - s;  scale = m / 1016.0f
 *   q = nearest even integer of x * (127.0f / m * 2^s) (in -127..127);  x is about q * scale * 2^shift.
 *
 * SUMS. dot_j is the exact integer dot product of a (sub-)block, D_j = dot_j << shift of its block of 32, S_j the sum of its q
 * << shift. Only the chain over blocks is in float; it is the same in every path: ascending k, one chain per output, every fma
 * an fma, never cut. Per unit, g from 0 over ascending j, then f, which goes on from unit to unit and starts at 0:
 *   Q4_0 Q5_0 Q8_0 IQ4_NL   g = fma(D_j, scale_j, g)                               f = fma(g, x scale, f)
 *   Q4_1 Q5_1               g = fma(S_j, min_j, fma(D_j, scale_j, g))              f = fma(g, x scale, f)
 *   Q4_K Q5_K Q2_K          g = fma(D_j, scale_j, g), M = sum of min_j * S_j (int) f = fma(fma(g, d, -(M * dmin)), x scale, f)
 *   Q6_K Q3_K IQ4_XS        g = fma(D_j, scale_j, g)                               f = fma(g, d * x scale, f)
 * The result is the same bits whatever the tile, the number of columns or the instruction set. Sources: the formats of
 * GGUF; the layout, scaling and order are measured in docs/decisions. */
/* clang-format on */
#ifndef BORA_KERNELS_PACKED_H
#define BORA_KERNELS_PACKED_H

#include "base/cpu.h"
#include "kernels/matrix.h"

#define BORA_UNIT_COLS         256u
#define BORA_UNIT_BLOCKS       8u /* of 32 */
/* More rows of x than this are cut into panels of BORA_PANEL_COLUMNS, the last one narrower; up to this many are one.
 */
#define BORA_PANEL_COLUMNS_MAX 8u
#define BORA_PANEL_COLUMNS     6u

/* Bytes of a unit; 0: the type is not packed. */
size_t bora_unit_size(uint32_t dtype);

/* A few rows of x ("columns") side by side, quantised. Pointers into the input's panels, each aligned to 64. */
typedef struct bora_panel {
    uint32_t n_columns;
    size_t n_units; /* ceil(n_cols / 256) */
    int8_t *q;      /* [n_units * 8, n_columns, 32] */
    float *scale;   /* [n_units, n_columns] */
    int32_t *shift; /* [n_units * 8, n_columns] 0..3 */
    int32_t
        *start8; /* [n_units * 8, n_columns] -8 * sum of the block's q: what an accumulator of quants + 8 starts at */
    int32_t *start128; /* [n_units * 8, n_columns] -128 * sum of the block's q */
    int32_t *start32;  /* [n_units * 16, n_columns] -32 * sum of the q of 16 */
    int16_t *sum32;    /* [n_units, n_columns, 8] S_j of blocks of 32 */
    int16_t *sum16;    /* [n_units, n_columns, 16] S_j of sub-blocks of 16 */
} bora_panel;

/* Bytes of the panels of an input, which its panels begin with. SIZE_MAX if that does not fit. */
size_t bora_panels_size(uint32_t n_rows, uint32_t n_cols);
bora_panel bora_panel_at(const bora_input *input, uint32_t panel);

/* Consecutive strips of one matrix. */
typedef struct bora_strips {
    uint32_t dtype;
    uint32_t n_strips;
    const uint8_t *units; /* [n_strips, n_units, unit size] */
    size_t n_units;
} bora_strips;

/* What a processor's path does. All functions are free of state; any thread. */
typedef struct bora_packed_path {
    const char *name;
    /* Quantises one row of x [n_cols] into column of the panel, padding included. */
    void (*fill)(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column);
    /* Packs n_rows (1..16) rows of a file, row_size bytes apart, n_cols elements each, into one strip, all of which is
     * written. */
    void (*pack)(uint32_t dtype, const uint8_t *rows, size_t row_size, size_t n_rows, size_t n_cols, uint8_t *strip);
    /* y[c * y_stride + 16 * s + r] for all strips s, rows r, columns c of all panels (row c counts over the panels).
     * All 16 rows of each strip are written. scratch: scratch_size bytes, aligned to 64. */
    void (*multiply)(const bora_strips *w, const bora_input *x, float *y, size_t y_stride, void *scratch);
    size_t (*scratch_size)(size_t n_units);
} bora_packed_path;

extern const bora_packed_path bora_packed_plain;
#if defined(__x86_64__)
extern const bora_packed_path bora_packed_avx2;   /* needs AVX2, FMA, F16C */
extern const bora_packed_path bora_packed_avx512; /* needs AVX-512 F, BW, DQ, VL, VNNI */
#endif

/* The fastest path that the processor has. */
const bora_packed_path *bora_packed_choose(const bora_cpu *cpu);

#endif
