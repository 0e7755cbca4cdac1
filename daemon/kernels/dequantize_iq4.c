/* Weights as f32: the types whose four bits number the values of a fixed list, denser around zero. */
#include "kernels/dequantize_block.h"

const int8_t bora_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* 32 elements: i < 16 in the low half of q[i], 16 + i in its high half. */
BLOCK_INLINE void values_times(float scale, const uint8_t *q, float *out)
{
    for (size_t i = 0; i < 16; i++) {
        out[i] = scale * (float)bora_iq4_values[q[i] & 0xf];
        out[16 + i] = scale * (float)bora_iq4_values[q[i] >> 4];
    }
}

/* iq4_nl, 18 bytes: d f16, q[16].
 * d value[q] */
BLOCK_INLINE void iq4_nl_block(const uint8_t *in, float *out)
{
    values_times(load_f16(in), in + 2, out);
}

/* iq4_xs, 136 bytes: d f16, upper u16, lower[4], q[128]. 8 parts of 32 as in iq4_nl; part p has a scale of 6 bits minus
 * 32: the low four in a half of lower[p / 2] (even p: the low one), the upper two in bits 2 p of upper.
 * (d scale) value[q] */
BLOCK_INLINE void iq4_xs_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in);
    const unsigned upper = load_u16(in + 2);
    for (size_t part = 0; part < 8; part++) {
        const int low = in[4 + part / 2] >> part % 2 * 4 & 0xf;
        const int scale = (low | (int)(upper >> 2 * part & 3) << 4) - 32;
        values_times(d * (float)scale, in + 8 + part * 16, out + part * 32);
    }
}

DEQUANTIZER(iq4_nl, 32, 18)
DEQUANTIZER(iq4_xs, 256, 136)
