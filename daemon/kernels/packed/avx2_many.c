/* Several panels: a strip is unpacked once for all. The next one is fetched meanwhile, a slice per panel. */
#if defined(__x86_64__)
#include "kernels/packed/avx2_tile.h"

#define LINE 64u

TILES(q4_0, 8, EVERY_8, START_8, MIN_NONE, UNPACKED, 0)
TILES(q4_1, 8, EVERY_8, START_NONE, MIN_FLOAT, UNPACKED, 0)
TILES(q5_0, 8, EVERY_4, START_16, MIN_NONE, UNPACKED, 0)
TILES(q5_1, 8, EVERY_4, START_NONE, MIN_FLOAT, UNPACKED, 0)
TILES(split, 8, SPLIT, START_128, MIN_NONE, UNPACKED, 0)
TILES(q4_k, 8, EVERY_8, START_NONE, MIN_K, UNPACKED, 0)
TILES(q5_k, 8, EVERY_4, START_NONE, MIN_K, UNPACKED, 0)
TILES(q6_k, 16, EVERY_2, START_32, MIN_NONE, UNPACKED, 0)
TILES(q3_k, 16, EVERY_4, START_4, MIN_NONE, UNPACKED, 0)
TILES(q2_k, 16, EVERY_4, START_NONE, MIN_K, UNPACKED, 0)

static const bora_avx2_tile *const types[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_Q4_0] = q4_0,  [BORA_DTYPE_Q4_1] = q4_1,    [BORA_DTYPE_Q5_0] = q5_0, [BORA_DTYPE_Q5_1] = q5_1,
    [BORA_DTYPE_Q8_0] = split, [BORA_DTYPE_IQ4_NL] = split, [BORA_DTYPE_Q2_K] = q2_k, [BORA_DTYPE_Q3_K] = q3_k,
    [BORA_DTYPE_Q4_K] = q4_k,  [BORA_DTYPE_Q5_K] = q5_k,    [BORA_DTYPE_Q6_K] = q6_k, [BORA_DTYPE_IQ4_XS] = split,
};

BORA_AVX2_TARGET static void fetch(const uint8_t *from, size_t n_lines)
{
    for (size_t i = 0; i < n_lines; i++)
        _mm_prefetch((const char *)from + i * LINE, _MM_HINT_T1);
}

void bora_avx2_multiply_many(const bora_strips *w, const bora_input *x, float *y, size_t y_stride,
                             bora_avx2_unit *scratch)
{
    const bora_avx2_unpacker *unpacker = bora_avx2_unpacker_of(w->dtype);
    const bora_avx2_tile *tiles = types[w->dtype];
    const size_t unit_size = bora_unit_size(w->dtype), strip_size = w->n_units * unit_size;
    const uint32_t n_panels = bora_input_n_panels(x->n_rows);
    for (uint32_t s = 0; s < w->n_strips; s++) {
        const uint8_t *in = w->units + s * strip_size;
        for (size_t u = 0; u < w->n_units; u++) {
            unpacker->scales(in + u * unit_size, &scratch[u]);
            unpacker->quants(in + u * unit_size, &scratch[u]);
        }
        const size_t n_lines = s + 1 < w->n_strips ? strip_size / LINE : 0;
        float *out = y + (size_t)s * BORA_STRIP_ROWS;
        for (uint32_t p = 0; p < n_panels; p++) {
            const size_t first = n_lines * p / n_panels, end = n_lines * (p + 1) / n_panels;
            fetch(in + strip_size + first * LINE, end - first);
            const bora_panel panel = bora_panel_at(x, p);
            bora_avx2_chains chains;
            memset(&chains, 0, sizeof chains);
            for (size_t u = 0; u < w->n_units; u++)
                bora_avx2_add_unit(tiles, &scratch[u], scratch[u].q[0], &panel, u, &chains, NULL);
            bora_avx2_store(&chains, panel.n_columns, out, y_stride);
            out += panel.n_columns * y_stride;
        }
    }
}

#else
typedef int bora_avx2_many_not_here; /* ISO C wants something in every file */
#endif
