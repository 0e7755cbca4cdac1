/* Activations to int8, in plain C. */
#include "kernels/packed/plain.h"

#include <math.h>
#include <string.h>

#define N_BLOCK  32u
#define N_BLOCKS BORA_UNIT_BLOCKS

static float max_magnitude(const float *x, size_t n)
{
    float max = 0;
    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(x[i]));
    return max;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* How often a block may be doubled: 0..3. */
static int doublings(float block_max, float max)
{
    return block_max * 8 <= max ? 3 : block_max * 4 <= max ? 2 : block_max * 2 <= max ? 1 : 0;
}

/* What products need of a block's quants besides the quants themselves. */
static void store_sums(const int8_t *q, int shift, const bora_panel *panel, size_t block, uint32_t column)
{
    int sums[2] = {0, 0};
    for (size_t i = 0; i < N_BLOCK; i++)
        sums[i / 16] += q[i];
    const size_t n_columns = panel->n_columns, at = block * n_columns + column;
    panel->shift[at] = shift;
    panel->start8[at] = -8 * (sums[0] + sums[1]);
    panel->start128[at] = -128 * (sums[0] + sums[1]);

    const size_t unit = block / N_BLOCKS, in_unit = block % N_BLOCKS;
    int16_t *sum32 = panel->sum32 + (unit * n_columns + column) * N_BLOCKS;
    int16_t *sum16 = panel->sum16 + (unit * n_columns + column) * 2 * N_BLOCKS;
    sum32[in_unit] = (int16_t)((sums[0] + sums[1]) * (1 << shift));
    for (size_t half = 0; half < 2; half++) {
        panel->start32[(2 * block + half) * n_columns + column] = -32 * sums[half];
        sum16[2 * in_unit + half] = (int16_t)(sums[half] * (1 << shift));
    }
}

static void fill_unit(const float x[BORA_UNIT_COLS], const bora_panel *panel, size_t unit, uint32_t column)
{
    const bool finite = all_finite(x, BORA_UNIT_COLS);
    const float max = max_magnitude(x, BORA_UNIT_COLS);
    const bool empty = !finite || max < 1e-30f;
    panel->scale[unit * panel->n_columns + column] = !finite ? NAN : empty ? 0 : max / 1016.0f;
    for (size_t j = 0; j < N_BLOCKS; j++) {
        const size_t block = unit * N_BLOCKS + j;
        const float *in = x + j * N_BLOCK;
        int8_t *q = panel->q + (block * panel->n_columns + column) * N_BLOCK;
        int shift = 0;
        if (empty) {
            memset(q, 0, N_BLOCK);
        } else {
            const int n_doublings = doublings(max_magnitude(in, N_BLOCK), max);
            const float factor = 127.0f / max * (float)(1 << n_doublings);
            for (size_t i = 0; i < N_BLOCK; i++)
                q[i] = (int8_t)lrintf(in[i] * factor); /* to nearest even */
            shift = 3 - n_doublings;
        }
        store_sums(q, shift, panel, block, column);
    }
}

void bora_plain_fill(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column)
{
    for (size_t unit = 0; unit < panel->n_units; unit++) {
        const size_t first = unit * BORA_UNIT_COLS, rest = n_cols - first;
        float padded[BORA_UNIT_COLS] = {0};
        memcpy(padded, x + first, (rest < BORA_UNIT_COLS ? rest : BORA_UNIT_COLS) * sizeof *x);
        fill_unit(padded, panel, unit, column);
    }
}
