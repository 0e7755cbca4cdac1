/* The AVX2 path: which units meet which columns, and when. The chain of each output stays in a small buffer f from unit
 * to unit. */
#if defined(__x86_64__)
#include "kernels/packed/avx2.h"
#include "kernels/packed/plain.h"

#include <string.h>

#define N_ROWS BORA_STRIP_ROWS
#define LINE   64u
#define AHEAD  6144u /* bytes between what is multiplied and what is fetched */

typedef struct chains {
    _Alignas(64) float f[BORA_PANEL_COLUMNS_MAX][N_ROWS];
} chains;

/* Columns of the first of two tiles of a panel (the first two of three never arise). */
static uint32_t first_tile(uint32_t n_columns)
{
    return n_columns <= BORA_AVX2_TILE_COLUMNS ? n_columns : (n_columns + 1) / 2;
}

/* One unit times all columns of a panel. */
static void add_unit(const bora_avx2_tile *tiles, const bora_avx2_unit *w, const bora_panel *x, size_t unit,
                     chains *chain, const uint8_t *ahead, size_t n_ahead)
{
    const uint32_t n_first = first_tile(x->n_columns), n_second = x->n_columns - n_first;
    tiles[n_first - 1](w, x, unit, 0, chain->f[0], ahead, n_ahead);
    if (n_second)
        tiles[n_second - 1](w, x, unit, n_first, chain->f[n_first], ahead, 0);
}

static void store_chains(const chains *chain, uint32_t n_columns, float *y, size_t y_stride)
{
    for (uint32_t c = 0; c < n_columns; c++)
        memcpy(y + c * y_stride, chain->f[c], sizeof chain->f[c]);
}

/* One panel: each unit is unpacked once and for nothing else. Weights come from memory as one stream. */
static void multiply_few(const bora_strips *w, const bora_input *x, float *y, size_t y_stride, bora_avx2_unit *unpacked)
{
    const bora_avx2_unpack unpack = bora_avx2_unpack_of(w->dtype);
    const bora_avx2_tile *tiles = bora_avx2_tiles_of(w->dtype);
    const bora_panel panel = bora_panel_at(x, 0);
    const size_t unit_size = bora_unit_size(w->dtype);
    const uint8_t *in = w->units;
    for (uint32_t s = 0; s < w->n_strips; s++) {
        chains chain;
        memset(&chain, 0, sizeof chain);
        for (size_t u = 0; u < w->n_units; u++, in += unit_size) {
            unpack(in, unpacked);
            add_unit(tiles, unpacked, &panel, u, &chain, in + AHEAD, unit_size / LINE);
        }
        store_chains(&chain, panel.n_columns, y + (size_t)s * N_ROWS, y_stride);
    }
}

/* Several panels: a strip is unpacked once for all. The next one is fetched meanwhile, a slice per unit. */
static void multiply_many(const bora_strips *w, const bora_input *x, float *y, size_t y_stride,
                          bora_avx2_unit *unpacked)
{
    const bora_avx2_unpack unpack = bora_avx2_unpack_of(w->dtype);
    const bora_avx2_tile *tiles = bora_avx2_tiles_of(w->dtype);
    const size_t unit_size = bora_unit_size(w->dtype), strip_size = w->n_units * unit_size;
    const uint32_t n_panels = bora_input_n_panels(x->n_rows);
    const size_t slice_lines = strip_size / LINE / n_panels / w->n_units + 1;
    for (uint32_t s = 0; s < w->n_strips; s++) {
        const uint8_t *in = w->units + s * strip_size;
        for (size_t u = 0; u < w->n_units; u++)
            unpack(in + u * unit_size, &unpacked[u]);
        const uint8_t *ahead = in + strip_size, *const ahead_end = ahead + strip_size;
        float *out = y + (size_t)s * N_ROWS;
        for (uint32_t p = 0; p < n_panels; p++) {
            const bora_panel panel = bora_panel_at(x, p);
            chains chain;
            memset(&chain, 0, sizeof chain);
            for (size_t u = 0; u < w->n_units; u++) {
                const size_t n_ahead = ahead < ahead_end ? slice_lines : 0;
                add_unit(tiles, &unpacked[u], &panel, u, &chain, ahead, n_ahead);
                ahead += n_ahead * LINE;
            }
            store_chains(&chain, panel.n_columns, out, y_stride);
            out += panel.n_columns * y_stride;
        }
    }
}

static void multiply(const bora_strips *w, const bora_input *x, float *y, size_t y_stride, void *scratch)
{
    if (bora_input_n_panels(x->n_rows) == 1)
        multiply_few(w, x, y, y_stride, scratch);
    else if (x->n_rows)
        multiply_many(w, x, y, y_stride, scratch);
}

static size_t scratch_size(size_t n_units)
{
    return n_units * sizeof(bora_avx2_unit);
}

const bora_packed_path bora_packed_avx2 = {
    .name = "avx2",
    .fill = bora_avx2_fill,
    .pack = bora_plain_pack,
    .multiply = multiply,
    .scratch_size = scratch_size,
};

#else
typedef int bora_avx2_not_here; /* ISO C wants something in every file */
#endif
