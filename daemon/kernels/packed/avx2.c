/* The AVX2 path. The chain of each output stays in a small buffer from unit to unit. */
#if defined(__x86_64__)
#include "kernels/packed/avx2.h"

#include <string.h>

/* Columns of the first of at most two tiles of a panel. */
static uint32_t first_tile(uint32_t n_columns)
{
    return n_columns <= BORA_AVX2_TILE_COLUMNS ? n_columns : (n_columns + 1) / 2;
}

void bora_avx2_add_unit(const bora_avx2_tile *tiles, const bora_avx2_unit *w, const uint8_t *q, const bora_panel *x,
                        size_t unit, bora_avx2_chains *chains, const uint8_t *ahead)
{
    const uint32_t n_first = first_tile(x->n_columns), n_second = x->n_columns - n_first;
    tiles[n_first - 1](w, q, x, unit, 0, chains->f[0], ahead);
    if (n_second)
        tiles[n_second - 1](w, q, x, unit, n_first, chains->f[n_first], ahead);
}

void bora_avx2_store(const bora_avx2_chains *chains, uint32_t n_columns, float *y, size_t y_stride)
{
    for (uint32_t c = 0; c < n_columns; c++)
        memcpy(y + c * y_stride, chains->f[c], sizeof chains->f[c]);
}

static void multiply(const bora_strips *w, const bora_input *x, float *y, size_t y_stride, void *scratch)
{
    if (x->n_rows && bora_input_n_panels(x->n_rows) <= BORA_AVX2_FEW_PANELS)
        bora_avx2_multiply_few(w, x, y, y_stride, scratch);
    else if (x->n_rows)
        bora_avx2_multiply_many(w, x, y, y_stride, scratch);
}

static size_t scratch_size(size_t n_units)
{
    return n_units * sizeof(bora_avx2_unit);
}

const bora_packed_path bora_packed_avx2 = {
    .name = "avx2",
    .fill = bora_avx2_fill,
    .pack = bora_avx2_pack,
    .multiply = multiply,
    .scratch_size = scratch_size,
};

#else
typedef int bora_avx2_not_here; /* ISO C wants something in every file */
#endif
