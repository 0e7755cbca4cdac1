/* attention-flash in plain C, for processors without AVX2, and what the other two must equal bit for bit. */
#include "flash.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define TARGET
#define VEC             static inline
#define KERNELS         bora_flash_generic
#define KERNELS_NAME    "generic"
#define SCORE_LINES     1u
#define SCORE_POSITIONS 1u
#define VALUE_LINES     1u
#define VALUE_VECTORS   1u

typedef struct vec {
    float of[FLASH_LANES];
} vec;

#define EACH_LANE for (size_t i = 0; i < FLASH_LANES; i++)

VEC vec vec_set1(float value)
{
    vec result;
    EACH_LANE result.of[i] = value;
    return result;
}

VEC vec vec_zero(void)
{
    return vec_set1(0);
}

VEC vec vec_load(const float *from)
{
    vec result;
    memcpy(&result, from, sizeof result);
    return result;
}

VEC void vec_store(float *to, vec value)
{
    memcpy(to, &value, sizeof value);
}

VEC vec vec_add(vec a, vec b)
{
    EACH_LANE a.of[i] += b.of[i];
    return a;
}

VEC vec vec_sub(vec a, vec b)
{
    EACH_LANE a.of[i] -= b.of[i];
    return a;
}

VEC vec vec_mul(vec a, vec b)
{
    EACH_LANE a.of[i] *= b.of[i];
    return a;
}

VEC vec vec_fma(vec a, vec b, vec c)
{
    EACH_LANE a.of[i] = fmaf(a.of[i], b.of[i], c.of[i]);
    return a;
}

VEC vec vec_max(vec a, vec b)
{
    EACH_LANE a.of[i] = a.of[i] > b.of[i] ? a.of[i] : b.of[i];
    return a;
}

VEC vec vec_exponent(vec a)
{
    uint32_t bits[FLASH_LANES];
    memcpy(bits, &a, sizeof bits);
    EACH_LANE bits[i] <<= 23;
    memcpy(&a, bits, sizeof bits);
    return a;
}

VEC vec vec_zero_below(vec x, vec limit, vec y)
{
    EACH_LANE y.of[i] = x.of[i] < limit.of[i] ? 0 : y.of[i];
    return y;
}

VEC float vec_highest(vec a)
{
    float highest = a.of[0];
    EACH_LANE highest = a.of[i] > highest ? a.of[i] : highest;
    return highest;
}

VEC void vec_sums(size_t count, const vec *parts, float *out)
{
    for (size_t i = 0; i < count; i++) {
        float quarters[4];
        for (size_t j = 0; j < 4; j++) {
            const float *four = parts[i].of + 4 * j;
            quarters[j] = (four[0] + four[2]) + (four[1] + four[3]);
        }
        out[i] = (quarters[0] + quarters[2]) + (quarters[1] + quarters[3]);
    }
}

/* A half's bits, moved to the top of a float, are its value times 2^-112, subnormals included; only infinities and NaNs
 * need their exponent set. */
VEC float widen_half(uint16_t half)
{
    uint32_t bits = (half & 0x7fffu) << 13, special = bits >= 0x7c00u << 13 ? 0x7f800000u : 0;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof value);
    bits |= special | (half & 0x8000u) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

VEC vec vec_load_kv(uint32_t dtype, const uint8_t *row, size_t d)
{
    vec result;
    if (dtype == BORA_DTYPE_F32)
        return vec_load((const float *)(const void *)(row + 4 * d));
    if (dtype == BORA_DTYPE_F16) {
        uint16_t halves[FLASH_LANES];
        memcpy(halves, row + 2 * d, sizeof halves);
        EACH_LANE result.of[i] = widen_half(halves[i]);
        return result;
    }
    const uint8_t *block = row + d / FLASH_Q8_ELEMENTS * FLASH_Q8_SIZE;
    uint16_t half;
    memcpy(&half, block, sizeof half);
    const float scale = widen_half(half);
    EACH_LANE result.of[i] = (float)(int8_t)block[2 + d % FLASH_Q8_ELEMENTS + i] * scale;
    return result;
}

#include "tile.inc"
