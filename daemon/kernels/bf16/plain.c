/* The product with BF16 weights in plain C: the definition that vector paths have the bits of. */
#include "kernels/bf16/bf16.h"

#include <math.h>
#include <string.h>

#define LANES BORA_BF16_LANES
#define STEP  BORA_BF16_STEP

static float flush(float value)
{
    return fabsf(value) < 0x1p-126f ? copysignf(0, value) : value;
}

static void fill(const float *x, size_t n_cols, const bora_bf16_panel *panel, uint32_t column)
{
    for (size_t k = 0; k < panel->n_steps * STEP; k++)
        panel->x[(k / STEP * panel->n_columns + column) * STEP + k % STEP] =
            k < n_cols ? bora_f32_to_bf16(flush(x[k])) : 0;
}

/* The two elements of a lane. */
static float pair(float sum, const uint16_t w[2], const uint16_t x[2])
{
    for (size_t i = 2; i-- > 0;)
        sum = flush(fmaf(flush(bora_bf16_to_f32(w[i])), flush(bora_bf16_to_f32(x[i])), sum));
    return sum;
}

static float add_lanes(float *lanes)
{
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    return lanes[0];
}

static float dot(const uint8_t *row, size_t n_cols, const bora_bf16_panel *panel, uint32_t column)
{
    float lanes[LANES] = {0};
    for (size_t step = 0; step < panel->n_steps; step++) {
        const uint16_t *x = panel->x + (step * panel->n_columns + column) * STEP;
        const size_t rest = n_cols - step * STEP;
        uint16_t w[STEP] = {0};
        memcpy(w, row + step * sizeof w, rest < STEP ? rest * sizeof w[0] : sizeof w);
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[lane] = pair(lanes[lane], w + 2 * lane, x + 2 * lane);
    }
    return add_lanes(lanes);
}

static void multiply(const bora_tensor *w, void *panels, uint32_t n_rows, float *y, size_t y_stride)
{
    for (uint32_t p = 0; p < bora_input_n_panels(n_rows); p++) {
        const bora_bf16_panel panel = bora_bf16_panel_at(panels, n_rows, (uint32_t)w->n_cols, p);
        for (uint32_t column = 0; column < panel.n_columns; column++, y += y_stride)
            for (uint64_t r = 0; r < w->n_rows; r++)
                y[r] = dot((const uint8_t *)w->data + r * w->row_size, w->n_cols, &panel, column);
    }
}

const bora_bf16_path bora_bf16_plain = {.name = "plain", .fill = fill, .multiply = multiply};
