/* Products with BF16 weights by AVX-512 BF16: tiles of 4 rows x up to 6 columns.
 *
 * Weights go from memory to registers. Those of four rows are multiplied with a group of columns, tile after tile, from
 * the second tile on out of the cache; the columns stay in the second-level cache. Sums never leave their registers. */
#if defined(__x86_64__)
#include "kernels/bf16/bf16.h"
#include "kernels/packed/packed.h"

#include <immintrin.h>
#include <string.h>

#define TARGET         __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INLINE         TARGET static inline __attribute__((always_inline))
#define LANES          BORA_BF16_LANES
#define STEP           BORA_BF16_STEP
#define TILE_ROWS      4u
#define TILE_COLUMNS   BORA_PANEL_COLUMNS
/* Bytes of a group of columns, about a second-level cache (of 256 KiB to 1 MiB tried, the fastest); tiles of a group.
 */
#define GROUP_SIZE     ((size_t)1 << 20)
#define GROUP_TILES    16u
/* Bytes between the weights at work and those asked of memory: enough to cover its latency. */
#define PREFETCH_BYTES 2048u

/* A panel, or a part of one that is wider than a tile. */
typedef struct bf16_columns {
    const uint16_t *x;
    size_t stride; /* elements from step to step */
    uint32_t n;    /* 1 .. 6 */
} bf16_columns;

typedef struct bf16_tile {
    const uint8_t *rows; /* weights */
    size_t row_size;     /* bytes */
    uint32_t n_rows;     /* that exist, 1 .. 4 */
    size_t n_cols;
    const bf16_columns *columns;
    float *y; /* [columns, y_stride], at the tile's first row */
    size_t y_stride;
} bf16_tile;

typedef void (*tile_fn)(const bf16_tile *tile);

INLINE __m512 pair(__m512 sum, __m512i w, __m512i x)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
}

/* 16 lanes to 4: l + (l + 8), then + (l + 4). */
INLINE __m128 fold(__m512 value)
{
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

INLINE __m128 add_lanes(__m512 a, __m512 b, __m512 c, __m512 d)
{
    __m128 s0 = fold(a), s1 = fold(b), s2 = fold(c), s3 = fold(d);
    _MM_TRANSPOSE4_PS(s0, s1, s2, s3);
    return _mm_add_ps(_mm_add_ps(s0, s2), _mm_add_ps(s1, s3));
}

INLINE void add_step(uint32_t n_columns, const __m512i w[TILE_ROWS], const uint16_t *x,
                     __m512 sum[TILE_COLUMNS][TILE_ROWS])
{
#pragma GCC unroll 6
    for (uint32_t c = 0; c < n_columns; c++) {
        const __m512i xc = _mm512_load_si512(x + c * STEP);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < TILE_ROWS; r++)
            sum[c][r] = pair(sum[c][r], w[r], xc);
    }
}

INLINE void tile_run(uint32_t n_columns, const bf16_tile *tile)
{
    const size_t row_size = tile->row_size, n = tile->n_cols, x_stride = tile->columns->stride;
    const uint16_t *x = tile->columns->x;
    const uint8_t *row[TILE_ROWS]; /* behind the last row the last row again */
    __m512i w[TILE_ROWS];
    __m512 sum[TILE_COLUMNS][TILE_ROWS];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < TILE_ROWS; r++)
        row[r] = tile->rows + (r < tile->n_rows ? r : tile->n_rows - 1) * row_size;
#pragma GCC unroll 6
    for (uint32_t c = 0; c < n_columns; c++)
#pragma GCC unroll 4
        for (uint32_t r = 0; r < TILE_ROWS; r++)
            sum[c][r] = _mm512_setzero_ps();

    size_t k = 0;
    for (; k + STEP <= n; k += STEP, x += x_stride) {
        size_t ahead = 2 * k + PREFETCH_BYTES; /* past the end of the rows come the four rows after them */
        ahead += ahead < row_size ? 0 : (TILE_ROWS - 1) * row_size;
#pragma GCC unroll 4
        for (uint32_t r = 0; r < TILE_ROWS; r++)
            __builtin_prefetch(row[r] + ahead);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < TILE_ROWS; r++)
            w[r] = _mm512_loadu_si512(row[r] + 2 * k);
        add_step(n_columns, w, x, sum);
    }
    if (k < n) {
        const __mmask32 mask = (__mmask32)((UINT32_C(1) << (n - k)) - 1);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < TILE_ROWS; r++)
            w[r] = _mm512_maskz_loadu_epi16(mask, row[r] + 2 * k);
        add_step(n_columns, w, x, sum);
    }

    float *y = tile->y;
#pragma GCC unroll 6
    for (uint32_t c = 0; c < n_columns; c++, y += tile->y_stride) {
        const __m128 sums = add_lanes(sum[c][0], sum[c][1], sum[c][2], sum[c][3]);
        if (tile->n_rows == TILE_ROWS) {
            _mm_storeu_ps(y, sums);
        } else {
            float some[TILE_ROWS];
            _mm_storeu_ps(some, sums);
            memcpy(y, some, tile->n_rows * sizeof *y);
        }
    }
}

#define TILE(n_columns)                                                                                                \
    TARGET static void tile_##n_columns(const bf16_tile *tile)                                                         \
    {                                                                                                                  \
        tile_run(n_columns, tile);                                                                                     \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

static const tile_fn tiles[TILE_COLUMNS] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

/* All rows of w times a group. */
static void multiply_group(const bora_tensor *w, const bf16_columns *columns, size_t n, float *y, size_t y_stride)
{
    for (uint64_t row = 0; row < w->n_rows; row += TILE_ROWS) {
        const uint64_t rest = w->n_rows - row;
        bf16_tile tile = {.rows = (const uint8_t *)w->data + row * w->row_size,
                          .row_size = w->row_size,
                          .n_rows = rest < TILE_ROWS ? (uint32_t)rest : TILE_ROWS,
                          .n_cols = w->n_cols,
                          .y = y + row,
                          .y_stride = y_stride};
        for (size_t i = 0; i < n; i++) {
            tile.columns = &columns[i];
            tiles[columns[i].n - 1](&tile);
            tile.y += columns[i].n * y_stride;
        }
    }
}

/* A panel of 7 or 8 as two parts, others as one. Returns how many. */
static size_t cut_panel(const bora_bf16_panel *panel, bf16_columns ret_columns[2])
{
    const uint32_t first = panel->n_columns > TILE_COLUMNS ? panel->n_columns / 2 : panel->n_columns;
    const size_t stride = panel->n_columns * STEP;
    ret_columns[0] = (bf16_columns){panel->x, stride, first};
    ret_columns[1] = (bf16_columns){panel->x + first * STEP, stride, panel->n_columns - first};
    return ret_columns[1].n ? 2 : 1;
}

static void multiply(const bora_tensor *w, void *panels, uint32_t n_rows, float *y, size_t y_stride)
{
    const uint32_t n_panels = bora_input_n_panels(n_rows), n_cols = (uint32_t)w->n_cols;
    const size_t n_fit = GROUP_SIZE / sizeof(uint16_t) / n_cols / TILE_COLUMNS;
    const size_t n_group = n_fit > GROUP_TILES ? GROUP_TILES : n_fit ? n_fit : 1;
    for (uint32_t p = 0; p < n_panels;) {
        bf16_columns columns[GROUP_TILES + 1]; /* a panel that is cut in two is the only one */
        size_t n = 0, n_columns = 0;
        for (; p < n_panels && n < n_group; p++) {
            const bora_bf16_panel panel = bora_bf16_panel_at(panels, n_rows, n_cols, p);
            n += cut_panel(&panel, columns + n);
            n_columns += panel.n_columns;
        }
        multiply_group(w, columns, n, y, y_stride);
        y += n_columns * y_stride;
    }
}

/* ---- activations ------------------------------------------------------------------------------------ */

TARGET static void fill(const float *x, size_t n_cols, const bora_bf16_panel *panel, uint32_t column)
{
    uint16_t *out = panel->x + column * STEP;
    size_t k = 0;
    for (; k + STEP <= n_cols; k += STEP, out += panel->n_columns * STEP) /* the upper half comes first */
        _mm512_store_si512(out, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + k + LANES), _mm512_loadu_ps(x + k)));
    if (k < n_cols) {
        const uint32_t mask = (UINT32_C(1) << (n_cols - k)) - 1;
        const __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x + k);
        const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + k + LANES);
        _mm512_store_si512(out, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

const bora_bf16_path bora_bf16_avx512 = {
    .name = "avx512+bf16",
    .fill = fill,
    .multiply = multiply,
};

#else
typedef int bora_bf16_avx512_not_here; /* ISO C wants something in every file */
#endif
