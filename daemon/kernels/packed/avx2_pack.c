/* Weights of a file into strips. Plain C moves dwords at several GB/s; only q8_0, whose bytes change on the way, gains
 * much from transposing 8 rows x 8 dwords in registers. */
#if defined(__x86_64__)
#include "kernels/packed/avx2_bits.h"
#include "kernels/packed/plain.h"

#include <string.h>

#define N_ROWS     BORA_STRIP_ROWS
#define BLOCK_SIZE BORA_Q8_0_SIZE

/* v[r]: 8 dwords of row r; becomes v[i]: dword i of every row. */
INLINE void transpose(__m256i v[8])
{
    __m256i t[8], u[8];
#pragma GCC unroll 4
    for (size_t i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < 8; i += 4) {
        u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}

/* A block of 16 rows: scales [16] and 8 vectors. */
INLINE void pack_q8_0_block(const uint8_t *in, size_t row_size, uint8_t *scales, uint8_t *quants)
{
    for (size_t r = 0; r < N_ROWS; r++)
        memcpy(scales + 2 * r, in + r * row_size, 2);
    for (size_t first = 0; first < N_ROWS; first += 8) {
        __m256i v[8];
#pragma GCC unroll 8
        for (size_t r = 0; r < 8; r++)
            v[r] = _mm256_loadu_si256((const __m256i *)(const void *)(in + (first + r) * row_size + 2));
        transpose(v);
#pragma GCC unroll 8
        for (size_t i = 0; i < 8; i++) /* int8 to the same value + 128 */
            _mm256_store_si256((__m256i *)(void *)(quants + i * 64 + first * 4),
                               _mm256_xor_si256(v[i], _mm256_set1_epi8(-128)));
    }
}

BORA_AVX2_TARGET static void pack_q8_0(const uint8_t *rows, size_t row_size, size_t n_blocks, uint8_t *strip)
{
    const bora_quarter *quarter = bora_quarter_of(BORA_DTYPE_Q8_0);
    for (size_t j = 0; j < n_blocks; j++) {
        uint8_t *out = strip + j / 2 * quarter->size; /* quarters of all units follow each other */
        pack_q8_0_block(rows + j * BLOCK_SIZE, row_size, out + j % 2 * N_ROWS * 2,
                        out + quarter->quants + j % 2 * quarter->n_vectors * 64);
    }
}

void bora_avx2_pack(uint32_t dtype, const uint8_t *rows, size_t row_size, size_t n_rows, size_t n_cols, uint8_t *strip)
{
    if (dtype == BORA_DTYPE_Q8_0 && n_rows == N_ROWS && n_cols % BORA_UNIT_COLS == 0)
        pack_q8_0(rows, row_size, n_cols / BORA_Q8_0_ELEMENTS, strip);
    else
        bora_plain_pack(dtype, rows, row_size, n_rows, n_cols, strip);
}

#else
typedef int bora_avx2_pack_not_here; /* ISO C wants something in every file */
#endif
