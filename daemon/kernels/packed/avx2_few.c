/* Few panels: weights come from memory as one stream, each unit once for all panels, and lines are fetched ahead of it,
 * a few per block. */
#if defined(__x86_64__)
#include "kernels/packed/avx2_tile.h"

#define AHEAD 6144u /* bytes between what is multiplied and what is fetched */

/* The last number: lines of a unit / 8. */
TILES(q4_0, 8, EVERY_8, START_8, MIN_NONE, FROM_Q4_0, 5)
TILES(q8_0, 8, SIGNED, START_NONE, MIN_NONE, FROM_Q8_0, 9)
TILES(iq4_nl, 8, SIGNED, START_NONE, MIN_NONE, FROM_IQ4_NL, 5)
TILES(iq4_xs, 8, SIGNED, START_NONE, MIN_NONE, FROM_IQ4_XS, 5)
TILES(q4_k, 8, EVERY_8, START_NONE, MIN_K, FROM_Q4_K, 5)
TILES(q5_k, 8, EVERY_4, START_NONE, MIN_K, UNPACKED, 6)
TILES(q6_k, 16, EVERY_2, START_32, MIN_NONE, UNPACKED, 7)
TILES(q4_1, 8, EVERY_8, START_NONE, MIN_FLOAT, UNPACKED, 5)
TILES(q5_0, 8, EVERY_4, START_16, MIN_NONE, UNPACKED, 6)
TILES(q5_1, 8, EVERY_4, START_NONE, MIN_FLOAT, UNPACKED, 6)
TILES(q3_k, 16, EVERY_4, START_4, MIN_NONE, UNPACKED, 4)
TILES(q2_k, 16, EVERY_4, START_NONE, MIN_K, UNPACKED, 3)

static const struct {
    const bora_avx2_tile *tiles;
    bool unpacked; /* tiles want quants unpacked */
} types[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_Q4_0] = {q4_0, false},     [BORA_DTYPE_Q8_0] = {q8_0, false}, [BORA_DTYPE_IQ4_NL] = {iq4_nl, false},
    [BORA_DTYPE_IQ4_XS] = {iq4_xs, false}, [BORA_DTYPE_Q4_K] = {q4_k, false}, [BORA_DTYPE_Q5_K] = {q5_k, true},
    [BORA_DTYPE_Q6_K] = {q6_k, true},      [BORA_DTYPE_Q4_1] = {q4_1, true},  [BORA_DTYPE_Q5_0] = {q5_0, true},
    [BORA_DTYPE_Q5_1] = {q5_1, true},      [BORA_DTYPE_Q3_K] = {q3_k, true},  [BORA_DTYPE_Q2_K] = {q2_k, true},
};

void bora_avx2_multiply_few(const bora_strips *w, const bora_input *x, float *y, size_t y_stride,
                            bora_avx2_unit *scratch)
{
    const bora_avx2_unpacker *unpacker = bora_avx2_unpacker_of(w->dtype);
    const bora_avx2_tile *tiles = types[w->dtype].tiles;
    const bool unpacked = types[w->dtype].unpacked;
    const size_t unit_size = bora_unit_size(w->dtype);
    const uint32_t n_panels = bora_input_n_panels(x->n_rows);
    bora_panel panels[BORA_AVX2_FEW_PANELS];
    for (uint32_t p = 0; p < n_panels; p++)
        panels[p] = bora_panel_at(x, p);
    const uint8_t *in = w->units;
    for (uint32_t s = 0; s < w->n_strips; s++) {
        bora_avx2_chains chains[BORA_AVX2_FEW_PANELS];
        memset(chains, 0, n_panels * sizeof *chains);
        for (size_t u = 0; u < w->n_units; u++, in += unit_size) {
            unpacker->scales(in, scratch);
            if (unpacked)
                unpacker->quants(in, scratch);
            for (uint32_t p = 0; p < n_panels; p++)
                bora_avx2_add_unit(tiles, scratch, unpacked ? scratch->q[0] : in, &panels[p], u, &chains[p],
                                   in + AHEAD);
        }
        float *out = y + (size_t)s * BORA_STRIP_ROWS;
        for (uint32_t p = 0; p < n_panels; p++) {
            bora_avx2_store(&chains[p], panels[p].n_columns, out, y_stride);
            out += panels[p].n_columns * y_stride;
        }
    }
}

#else
typedef int bora_avx2_few_not_here; /* ISO C wants something in every file */
#endif
