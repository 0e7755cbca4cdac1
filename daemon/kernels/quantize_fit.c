/* The search for a scale (and an offset) of least weighted squared error.
 *
 * Given the level of each element, the best scale and offset are a least-squares problem with a closed form; given
 * those, the best level is the nearest. Taking turns finds a minimum near the start, so the search starts from several
 * widths around the one at which the largest value meets the last level, and keeps the best. Sums are kept in four
 * lanes, the same on every processor. */
#include "kernels/quantize_fit.h"

#include <math.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define INLINE  static inline __attribute__((always_inline))
#define LANES   4u
/* Of the starts, and of the turns from each: more gains less than one part in a hundred of the error. */
#define STARTS  6
#define TURNS   2
/* Adding and taking away 1.5 * 2^23 rounds to an integer, ties to even. */
#define ROUNDER 12582912.0f

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t mask __attribute__((vector_size(LANES * sizeof(int32_t))));

INLINE vec vec_load(const float *from)
{
    vec value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE vec vec_clamp(vec v, vec lo, vec hi)
{
#if defined(__SSE2__) /* what the compiler does not find out by itself */
    return _mm_min_ps(_mm_max_ps(v, lo), hi);
#else
    const mask below = v<lo, above = v> hi;
    return (vec)(((mask)lo & below) | ((mask)hi & above) | ((mask)v & ~(below | above)));
#endif
}

INLINE float vec_sum(vec v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

/* The level nearest to each lane of v. */
INLINE vec nearest(const bora_levels *levels, bool has_list, vec v)
{
    if (has_list) {
        vec q = (vec){0} + (float)levels->list[0];
        for (size_t i = 0; i < 15; i++) {
            float below = (float)levels->list[i], above = (float)levels->list[i + 1];
            q += (vec)((mask)((vec){0} + (above - below)) & (v > (below + above) * 0.5f));
        }
        return q;
    }
    const vec lo = (vec){0} + levels->lo, hi = (vec){0} + levels->hi;
    return (vec_clamp(v, lo, hi) + ROUNDER) - ROUNDER;
}

INLINE float inverse(float scale)
{
    float inverted = 1 / scale;
    return isfinite(inverted) ? inverted : 0; /* a scale of zero, or one that might as well be */
}

INLINE bora_fit_sums sum_levels(const bora_levels *levels, bool has_list, const bora_part *part, bora_line line)
{
    const float inverted = inverse(line.scale);
    vec error = {0}, sum_q = {0}, sum_qq = {0}, sum_xq = {0};
    for (size_t i = 0; i < part->n; i += LANES) {
        const vec x = vec_load(part->x + i), w = vec_load(part->weight + i);
        const vec q = nearest(levels, has_list, (x - line.offset) * inverted);
        const vec off = x - (q * line.scale + line.offset), wq = w * q;
        error += w * off * off;
        sum_q += wq;
        sum_qq += wq * q;
        sum_xq += wq * x;
    }
    return (bora_fit_sums){vec_sum(error), vec_sum(sum_q), vec_sum(sum_qq), vec_sum(sum_xq)};
}

bora_fit_sums bora_fit_sum(const bora_levels *levels, const bora_part *part, bora_line line)
{
    return levels->list ? sum_levels(levels, true, part, line) : sum_levels(levels, false, part, line);
}

/* Start s of STARTS: how much wider than the values the levels are spread. Below 1 the largest are cut off. */
static float start_width(const bora_levels *levels, int s)
{
    const float n_levels = levels->list ? 8 : levels->hi;
    const float narrowest = 1 - 1.5f / n_levels, widest = 1 + 1.5f / n_levels;
    return narrowest + (widest - narrowest) * (float)s / (STARTS - 1);
}

float bora_fit_scale(const bora_levels *levels, const bora_part *part)
{
    float largest = 0;
    for (size_t i = 0; i < part->n; i++)
        if (fabsf(part->x[i]) > fabsf(largest))
            largest = part->x[i];
    if (largest == 0)
        return 0;
    float best = 0, best_error = INFINITY;
    /* Of uneven levels it matters which end the largest value takes. */
    const float ends[] = {levels->lo, levels->hi};
    for (size_t end = levels->lo == -levels->hi; end < 2; end++)
        for (int s = 0; s < STARTS; s++) {
            bora_line line = {.scale = largest / ends[end] * start_width(levels, s)};
            for (int turn = 0; turn <= TURNS; turn++) {
                bora_fit_sums sums = bora_fit_sum(levels, part, line);
                if (sums.error < best_error) {
                    best_error = sums.error;
                    best = line.scale;
                }
                if (!(sums.qq > 0) || line.scale == sums.xq / sums.qq)
                    break;
                line.scale = sums.xq / sums.qq;
            }
        }
    return best;
}

/* Scale and offset of least error for the levels that gave these sums. False if there is no such scale above zero. */
static bool solve(const bora_fit_sums *sums, float sum_w, float sum_x, bool below, bora_line *ret_line)
{
    const float det = sum_w * sums->qq - sums->q * sums->q;
    bora_line line = {0};
    if (det > 0) {
        line.scale = (sum_w * sums->xq - sum_x * sums->q) / det;
        line.offset = (sums->qq * sum_x - sums->q * sums->xq) / det;
    }
    if (!(det > 0) || (below && line.offset > 0)) {
        if (!(sums->qq > 0))
            return false;
        line = (bora_line){.scale = sums->xq / sums->qq};
    }
    if (!(line.scale > 0) || !isfinite(line.scale) || !isfinite(line.offset))
        return false;
    *ret_line = line;
    return true;
}

bora_line bora_fit_line(const bora_levels *levels, const bora_part *part, bool below)
{
    float min = part->x[0], max = part->x[0], sum_w = 0, sum_x = 0;
    for (size_t i = 0; i < part->n; i++) {
        min = part->x[i] < min ? part->x[i] : min;
        max = part->x[i] > max ? part->x[i] : max;
        sum_w += part->weight[i];
        sum_x += part->weight[i] * part->x[i];
    }
    if (below && min > 0)
        min = 0;
    bora_line best = {.offset = min};
    float best_error = bora_fit_sum(levels, part, best).error;
    const float middle = min / 2 + max / 2, width = max - min;
    for (int s = 0; width > 0 && s < STARTS; s++) {
        const float start = start_width(levels, s) * width;
        bora_line line = {.scale = start / levels->hi, .offset = middle - start / 2};
        if (below && line.offset > 0)
            line.offset = 0;
        for (int turn = 0; turn <= TURNS; turn++) {
            bora_fit_sums sums = bora_fit_sum(levels, part, line);
            if (sums.error < best_error) {
                best_error = sums.error;
                best = line;
            }
            if (!solve(&sums, sum_w, sum_x, below, &line))
                break;
        }
    }
    return best;
}

void bora_fit_choose(const bora_levels *levels, const bora_part *part, bora_line line, int8_t *ret_q)
{
    const float inverted = inverse(line.scale);
    for (size_t i = 0; i < part->n; i += LANES) {
        const vec v = (vec_load(part->x + i) - line.offset) * inverted;
        const vec q = levels->list ? nearest(levels, true, v) : nearest(levels, false, v);
        for (size_t lane = 0; lane < LANES; lane++) {
            int8_t level = (int8_t)q[lane], number = 0;
            while (levels->list && levels->list[number] != level)
                number++;
            ret_q[i + lane] = levels->list ? number : level;
        }
    }
}
