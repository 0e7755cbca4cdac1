/* Weights from f32: blocks of 256, in parts with integer scales that share the f16 scales of the block.
 *
 *   fit     each part's own best scale (and minimum), as if it could be any number
 *   share   the block's f16 scale from the largest of these; each part's integers: of those nearest to what it wants,
 *           the ones with the least error
 *   refit   for the integers found, the block's scales by least squares; share again if that is better */
#include "kernels/dequantize.h"
#include "kernels/quantize_fit.h"
#include "kernels/quantize_private.h"

#include <math.h>

#define N         256u
#define PARTS_MAX 16u
#define REFITS    1

typedef struct grid {
    bora_levels levels;
    size_t n_parts;
    int scale_lo, scale_hi; /* of a part */
    int minimum_hi;         /* 0: no minima */
} grid;

/* A block in the making: element = d scale q - dmin minimum. */
typedef struct block {
    float d, dmin; /* f16 values */
    int scales[PARTS_MAX], minima[PARTS_MAX];
    float error;
} block;

static bora_part part_at(const grid *g, const float *x, const float *weight, size_t part)
{
    const size_t n = N / g->n_parts;
    return (bora_part){.n = n, .x = x + part * n, .weight = weight + part * n};
}

static float to_f16(float value)
{
    return bora_f16_to_f32(bora_f32_to_f16(value));
}

static bora_line line_of(const block *b, int scale, int minimum)
{
    return (bora_line){.scale = b->d * (float)scale, .offset = -(b->dmin * (float)minimum)};
}

/* The integer next to value / unit, kept between lo and hi. */
static int nearest_int(float value, float unit, int lo, int hi)
{
    float ratio = unit != 0 ? value / unit : 0;
    return ratio < (float)lo ? lo : ratio > (float)hi ? hi : (int)lrintf(ratio);
}

/* The integers of every part, given d, dmin and what the parts want. Fills scales, minima and error. */
static void share(const grid *g, const float *x, const float *weight, const bora_line *wanted, block *b)
{
    b->error = 0;
    for (size_t p = 0; p < g->n_parts; p++) {
        const bora_part part = part_at(g, x, weight, p);
        const int scale = nearest_int(wanted[p].scale, b->d, g->scale_lo, g->scale_hi);
        const int minimum = nearest_int(-wanted[p].offset, b->dmin, 0, g->minimum_hi);
        float best = INFINITY;
        for (int s = scale - 1; s <= scale + 1; s++)
            for (int m = minimum - 1; m <= minimum + 1; m++) {
                if (s < g->scale_lo || s > g->scale_hi || m < 0 || m > g->minimum_hi)
                    continue;
                const float error = bora_fit_sum(&g->levels, &part, line_of(b, s, m)).error;
                if (error < best) {
                    best = error;
                    b->scales[p] = s;
                    b->minima[p] = m;
                }
            }
        b->error += best;
    }
}

/* d and dmin of least error for the block's integers and the levels that go with them. */
static void refit(const grid *g, const float *x, const float *weight, block *b)
{
    /* x is approximated by d u - dmin v with u = scale q, v = minimum. */
    double uu = 0, uv = 0, vv = 0, xu = 0, xv = 0;
    for (size_t p = 0; p < g->n_parts; p++) {
        const bora_part part = part_at(g, x, weight, p);
        const bora_fit_sums sums = bora_fit_sum(&g->levels, &part, line_of(b, b->scales[p], b->minima[p]));
        const double scale = b->scales[p], minimum = b->minima[p];
        double sum_w = 0, sum_x = 0;
        for (size_t i = 0; i < part.n; i++) {
            sum_w += (double)part.weight[i];
            sum_x += (double)part.weight[i] * (double)part.x[i];
        }
        uu += scale * scale * (double)sums.qq;
        uv += scale * minimum * (double)sums.q;
        vv += minimum * minimum * sum_w;
        xu += scale * (double)sums.xq;
        xv += minimum * sum_x;
    }
    const double det = uu * vv - uv * uv;
    if (det > 1e-9 * uu * vv) {
        b->d = to_f16((float)((xu * vv - xv * uv) / det));
        b->dmin = to_f16((float)((xu * uv - xv * uu) / det));
    } else if (uu > 0) {
        b->d = to_f16((float)((xu + (double)b->dmin * uv) / uu));
    }
}

/* Scales, minima and levels of a block. Returns d and dmin in the block, the levels in ret_q. */
static block fit_block(const grid *g, const float *x, const float *weight, int8_t ret_q[N])
{
    bora_line wanted[PARTS_MAX];
    float widest = 0, lowest = 0; /* of the parts' scales, and offsets */
    for (size_t p = 0; p < g->n_parts; p++) {
        const bora_part part = part_at(g, x, weight, p);
        wanted[p] = g->minimum_hi ? bora_fit_line(&g->levels, &part, true)
                                  : (bora_line){.scale = bora_fit_scale(&g->levels, &part)};
        if (fabsf(wanted[p].scale) > fabsf(widest))
            widest = wanted[p].scale;
        if (wanted[p].offset < lowest)
            lowest = wanted[p].offset;
    }
    /* Where scales have a sign, the widest takes the end that is further out: the lower one. */
    block best = {.d = to_f16(widest / (float)(g->scale_lo < 0 ? g->scale_lo : g->scale_hi)),
                  .dmin = g->minimum_hi ? to_f16(-lowest / (float)g->minimum_hi) : 0};
    share(g, x, weight, wanted, &best);
    for (int i = 0; i < REFITS; i++) {
        block next = best;
        refit(g, x, weight, &next);
        share(g, x, weight, wanted, &next);
        if (!(next.error < best.error))
            break;
        best = next;
    }
    for (size_t p = 0; p < g->n_parts; p++) {
        const bora_part part = part_at(g, x, weight, p);
        bora_fit_choose(&g->levels, &part, line_of(&best, best.scales[p], best.minima[p]), ret_q + p * part.n);
    }
    return best;
}

/* ---- how they are stored -------------------------------------------------------------------------------- */

/* The lowest two bits of 256 elements, as q2_k and q3_k have them. */
static void store_pairs(const int8_t q[N], int8_t zero, uint8_t out[64])
{
    memset(out, 0, 64);
    for (size_t i = 0; i < N; i++)
        out[i / 128 * 32 + i % 32] |= (uint8_t)(((q[i] + zero) & 3) << i % 128 / 32 * 2);
}

void bora_quantize_q2_k(const float *x, const float *weight, uint8_t *out)
{
    static const grid g = {.levels = {0, 3, NULL}, .n_parts = 16, .scale_hi = 15, .minimum_hi = 15};
    int8_t q[N];
    const block b = fit_block(&g, x, weight, q);
    for (size_t p = 0; p < 16; p++)
        out[p] = (uint8_t)(b.scales[p] | b.minima[p] << 4);
    store_pairs(q, 0, out + 16);
    (void)store_f16(out + 80, b.d); /* f16 values already */
    (void)store_f16(out + 82, b.dmin);
}

void bora_quantize_q3_k(const float *x, const float *weight, uint8_t *out)
{
    static const grid g = {.levels = {-4, 3, NULL}, .n_parts = 16, .scale_lo = -32, .scale_hi = 31};
    int8_t q[N];
    const block b = fit_block(&g, x, weight, q);
    memset(out, 0, 32);
    for (size_t i = 0; i < N; i++)
        out[i % 32] |= (uint8_t)((q[i] >= 0) << i / 32);
    store_pairs(q, 4, out + 32);
    uint8_t *scales = out + 96;
    memset(scales, 0, 12);
    for (size_t p = 0; p < 16; p++) {
        unsigned scale = (unsigned)(b.scales[p] + 32);
        scales[p % 8] |= (uint8_t)((scale & 0xf) << p / 8 * 4);
        scales[8 + p % 4] |= (uint8_t)(scale >> 4 << p / 4 * 2);
    }
    (void)store_f16(out + 108, b.d);
}

static void store_scales_and_minima(const block *b, uint8_t out[12])
{
    for (size_t p = 0; p < 4; p++) {
        out[p] = (uint8_t)(b->scales[p] | b->scales[4 + p] >> 4 << 6);
        out[4 + p] = (uint8_t)(b->minima[p] | b->minima[4 + p] >> 4 << 6);
        out[8 + p] = (uint8_t)((b->scales[4 + p] & 0xf) | (b->minima[4 + p] & 0xf) << 4);
    }
}

/* The lowest four bits of 256 elements, as q4_k and q5_k have them: 32 beside the 32 after them. */
static void store_halves(const int8_t q[N], uint8_t out[128])
{
    for (size_t i = 0; i < 128; i++) {
        const int8_t *at = q + i / 32 * 64 + i % 32;
        out[i] = (uint8_t)((at[0] & 0xf) | (at[32] & 0xf) << 4);
    }
}

void bora_quantize_q4_k(const float *x, const float *weight, uint8_t *out)
{
    static const grid g = {.levels = {0, 15, NULL}, .n_parts = 8, .scale_hi = 63, .minimum_hi = 63};
    int8_t q[N];
    const block b = fit_block(&g, x, weight, q);
    (void)store_f16(out, b.d);
    (void)store_f16(out + 2, b.dmin);
    store_scales_and_minima(&b, out + 4);
    store_halves(q, out + 16);
}

void bora_quantize_q5_k(const float *x, const float *weight, uint8_t *out)
{
    static const grid g = {.levels = {0, 31, NULL}, .n_parts = 8, .scale_hi = 63, .minimum_hi = 63};
    int8_t q[N];
    const block b = fit_block(&g, x, weight, q);
    (void)store_f16(out, b.d);
    (void)store_f16(out + 2, b.dmin);
    store_scales_and_minima(&b, out + 4);
    uint8_t *high = out + 16;
    memset(high, 0, 32);
    for (size_t i = 0; i < N; i++)
        high[i % 32] |= (uint8_t)((q[i] >> 4 & 1) << i / 32);
    store_halves(q, out + 48);
}

void bora_quantize_q6_k(const float *x, const float *weight, uint8_t *out)
{
    static const grid g = {.levels = {-32, 31, NULL}, .n_parts = 16, .scale_lo = -128, .scale_hi = 127};
    int8_t q[N];
    const block b = fit_block(&g, x, weight, q);
    memset(out, 0, 192);
    for (size_t i = 0; i < N; i++) {
        const unsigned bits = (unsigned)(q[i] + 32);
        out[i / 128 * 64 + i % 64] |= (uint8_t)((bits & 0xf) << i % 128 / 64 * 4);
        out[128 + i / 128 * 32 + i % 32] |= (uint8_t)(bits >> 4 << i % 128 / 32 * 2);
    }
    for (size_t p = 0; p < 16; p++)
        out[192 + p] = (uint8_t)(int8_t)b.scales[p];
    (void)store_f16(out + 208, b.d);
}

void bora_quantize_iq4_xs(const float *x, const float *weight, uint8_t *out)
{
    const grid g = {.levels = {bora_iq4_values[0], bora_iq4_values[15], bora_iq4_values},
                    .n_parts = 8,
                    .scale_lo = -32,
                    .scale_hi = 31};
    int8_t q[N];
    const block b = fit_block(&g, x, weight, q);
    (void)store_f16(out, b.d);
    unsigned upper = 0;
    memset(out + 4, 0, 4);
    for (size_t p = 0; p < 8; p++) {
        const unsigned scale = (unsigned)(b.scales[p] + 32);
        out[4 + p / 2] |= (uint8_t)((scale & 0xf) << p % 2 * 4);
        upper |= scale >> 4 << 2 * p;
        store_nibbles(q + p * 32, 0, out + 8 + p * 16);
    }
    store_u16(out + 2, (uint16_t)upper);
}
