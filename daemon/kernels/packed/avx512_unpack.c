/* Units of all types in one form: bytes, and scales and minima as what they are multiplied as. */
#if defined(__x86_64__)
#include "kernels/packed/avx512.h"
#include "kernels/packed/plain.h"

AVX512_INLINE void put(uint8_t to[64], __m512i vector)
{
    _mm512_store_si512(to, vector);
}

AVX512_INLINE __m512i low_nibbles(__m512i bytes)
{
    return _mm512_and_si512(bytes, _mm512_set1_epi8(0x0f));
}

AVX512_INLINE __m512i high_nibbles(__m512i bytes)
{
    return low_nibbles(_mm512_srli_epi16(bytes, 4));
}

/* Bit n of each byte moved to bit `to` (others are left to be masked). A rotation of dwords: one instruction for both
 * directions, with any count. */
AVX512_INLINE __m512i move_bit(__m512i bytes, size_t n, size_t to)
{
    return _mm512_rolv_epi32(bytes, _mm512_set1_epi32((int)to - (int)n));
}

/* ---- blocks of 32 ----------------------------------------------------------------------------------- */

AVX512_INLINE void unpack_q32(const uint32_t dtype, const uint8_t *unit, bora_avx512_unit *ret)
{
    const bora_quarter *quarter = bora_quarter_of(dtype);
    const __m512i fifth = _mm512_set1_epi8(0x10), table = avx512_iq4_table();
    /* What makes value + 128 of the quant, or the quant itself where it is the value. */
    const __m512i add = _mm512_set1_epi8(dtype == BORA_DTYPE_Q4_0 ? 120 : dtype == BORA_DTYPE_Q5_0 ? 112 : 0);
    for (size_t block = 0; block < BORA_UNIT_BLOCKS; block++) {
        const uint8_t *in = unit + block / 2 * quarter->size;
        const size_t second = block % 2;
        const uint8_t *quants = in + quarter->quants + second * quarter->n_vectors * 64;
        _mm512_store_ps(ret->scale[block], avx512_load_f16(in + second * 32));
        if (quarter->min)
            _mm512_store_ps(ret->min.blocks[block], avx512_load_f16(in + quarter->min + second * 32));
        if (dtype == BORA_DTYPE_Q8_0) {
            for (size_t i = 0; i < 8; i++)
                put(ret->q[block * 8 + i], avx512_load(quants + i * 64));
            continue;
        }
        for (size_t i = 0; i < 4; i++) {
            const __m512i both = avx512_load(quants + i * 64);
            __m512i low = low_nibbles(both), high = high_nibbles(both);
            if (quarter->high) {
                const __m512i bits = avx512_load(in + quarter->high + second * 64);
                low = avx512_or_masked(low, move_bit(bits, i, 4), fifth);
                high = avx512_or_masked(high, move_bit(bits, 4 + i, 4), fifth);
            }
            if (dtype == BORA_DTYPE_IQ4_NL) {
                low = _mm512_shuffle_epi8(table, low);
                high = _mm512_shuffle_epi8(table, high);
            }
            put(ret->q[block * 8 + i], _mm512_add_epi8(low, add));
            put(ret->q[block * 8 + 4 + i], _mm512_add_epi8(high, add));
        }
    }
}

/* ---- blocks of 256 ---------------------------------------------------------------------------------- */

AVX512_INLINE void unpack_d(const uint8_t *unit, bora_avx512_unit *ret)
{
    _mm512_store_ps(ret->d, avx512_load_f16(unit));
}

AVX512_INLINE void unpack_d_dmin(const uint8_t *unit, bora_avx512_unit *ret)
{
    _mm512_store_ps(ret->d, avx512_load_f16(unit));
    _mm512_store_ps(ret->dmin, avx512_load_f16(unit + 32));
}

/* Q4_K and Q5_K */
AVX512_INLINE void unpack_k(const uint32_t dtype, const uint8_t *unit, bora_avx512_unit *ret)
{
    _Alignas(64) uint8_t scale[128], min[128];
    const __m512i fifth = _mm512_set1_epi8(0x10);
    unpack_d_dmin(unit, ret);
    avx512_k_scales(unit, scale, min);
    for (size_t j = 0; j < 8; j++)
        _mm512_store_ps(ret->scale[j], avx512_load_u8(scale + j * 16));
    for (size_t i = 0; i < 4; i++)
        _mm512_store_si512(ret->min.pairs[i], avx512_pair_u8(min + i * 32));
    const uint8_t *quants = unit + (dtype == BORA_DTYPE_Q5_K ? 768 : 256);
    for (size_t pair = 0; pair < 4; pair++) {
        for (size_t i = 0; i < 8; i++) {
            const __m512i both = avx512_load(quants + (pair * 8 + i) * 64);
            __m512i low = low_nibbles(both), high = high_nibbles(both);
            if (dtype == BORA_DTYPE_Q5_K) {
                const __m512i bits = avx512_load(unit + 256 + i * 64);
                low = avx512_or_masked(low, move_bit(bits, 2 * pair, 4), fifth);
                high = avx512_or_masked(high, move_bit(bits, 2 * pair + 1, 4), fifth);
            }
            put(ret->q[pair * 16 + i], low);
            put(ret->q[pair * 16 + 8 + i], high);
        }
    }
}

AVX512_INLINE void unpack_scales_i8(const uint8_t *unit, size_t n, bora_avx512_unit *ret)
{
    for (size_t j = 0; j < n; j++)
        _mm512_store_ps(ret->scale[j], avx512_load_i8(unit + 64 + j * 16));
}

/* value + 32 */
AVX512_INLINE void unpack_q6_k(const uint8_t *unit, bora_avx512_unit *ret)
{
    const __m512i upper = _mm512_set1_epi8(0x30);
    unpack_d(unit, ret);
    unpack_scales_i8(unit, 16, ret);
    for (size_t half = 0; half < 2; half++) {
        const uint8_t *quants = unit + 320 + half * 1536;
        for (size_t i = 0; i < 8; i++) {
            const uint8_t *first = quants + i / 4 * 512 + i % 4 * 64;
            const __m512i h = avx512_load(first), a = avx512_load(first + 256);
            const __m512i b = avx512_load(quants + 1024 + i * 64);
            uint8_t(*q)[64] = ret->q + half * 32 + i;
            put(q[0], avx512_or_masked(low_nibbles(a), avx512_q6_k_high(h, 0), upper));
            put(q[8], avx512_or_masked(low_nibbles(b), avx512_q6_k_high(h, 1), upper));
            put(q[16], avx512_or_masked(high_nibbles(a), avx512_q6_k_high(h, 2), upper));
            put(q[24], avx512_or_masked(high_nibbles(b), avx512_q6_k_high(h, 3), upper));
        }
    }
}

/* Q2_K: the value; Q3_K: value + 32 */
AVX512_INLINE void unpack_q2_q3_k(const uint32_t dtype, const uint8_t *unit, bora_avx512_unit *ret)
{
    const __m512i two = _mm512_set1_epi8(3), third = _mm512_set1_epi8(4), add = _mm512_set1_epi8(32 - 4);
    for (size_t half = 0; half < 2; half++) {
        for (size_t t = 0; t < 4; t++) {
            for (size_t i = 0; i < 8; i++) {
                const __m512i qs = avx512_load(unit + 320 + (half * 8 + i) * 64);
                __m512i q = _mm512_and_si512(_mm512_srl_epi16(qs, _mm_cvtsi32_si128((int)(2 * t))), two);
                if (dtype == BORA_DTYPE_Q3_K) {
                    const __m512i mask = avx512_load(unit + 1344 + i * 64);
                    q = _mm512_add_epi8(avx512_or_masked(q, move_bit(mask, half * 4 + t, 2), third), add);
                }
                put(ret->q[(half * 4 + t) * 8 + i], q);
            }
        }
    }
}

AVX512_INLINE void unpack_q2_k(const uint8_t *unit, bora_avx512_unit *ret)
{
    const __m512i low = _mm512_set1_epi8(0x0f);
    _Alignas(64) uint8_t scale[256], min[256];
    unpack_d_dmin(unit, ret);
    for (size_t i = 0; i < 256; i += 64) {
        const __m512i both = avx512_load(unit + 64 + i);
        put(scale + i, _mm512_and_si512(both, low));
        put(min + i, _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
    }
    for (size_t j = 0; j < 16; j++)
        _mm512_store_ps(ret->scale[j], avx512_load_u8(scale + j * 16));
    for (size_t i = 0; i < 8; i++)
        _mm512_store_si512(ret->min.pairs[i], avx512_pair_u8(min + i * 32));
    unpack_q2_q3_k(BORA_DTYPE_Q2_K, unit, ret);
}

AVX512_INLINE void unpack_q3_k(const uint8_t *unit, bora_avx512_unit *ret)
{
    unpack_d(unit, ret);
    unpack_scales_i8(unit, 16, ret);
    unpack_q2_q3_k(BORA_DTYPE_Q3_K, unit, ret);
}

/* value + 128 */
AVX512_INLINE void unpack_iq4_xs(const uint8_t *unit, bora_avx512_unit *ret)
{
    const __m512i table = avx512_iq4_table();
    unpack_d(unit, ret);
    unpack_scales_i8(unit, 8, ret);
    for (size_t block = 0; block < BORA_UNIT_BLOCKS; block++) {
        for (size_t i = 0; i < 4; i++) {
            const __m512i both = avx512_load(unit + 192 + (block * 4 + i) * 64);
            put(ret->q[block * 8 + i], _mm512_shuffle_epi8(table, low_nibbles(both)));
            put(ret->q[block * 8 + 4 + i], _mm512_shuffle_epi8(table, high_nibbles(both)));
        }
    }
}

AVX512_TARGET void bora_avx512_unpack(uint32_t dtype, const uint8_t *unit, bora_avx512_unit *ret_unit)
{
    switch (dtype) {
    case BORA_DTYPE_Q4_0:
        unpack_q32(BORA_DTYPE_Q4_0, unit, ret_unit);
        return;
    case BORA_DTYPE_Q4_1:
        unpack_q32(BORA_DTYPE_Q4_1, unit, ret_unit);
        return;
    case BORA_DTYPE_Q5_0:
        unpack_q32(BORA_DTYPE_Q5_0, unit, ret_unit);
        return;
    case BORA_DTYPE_Q5_1:
        unpack_q32(BORA_DTYPE_Q5_1, unit, ret_unit);
        return;
    case BORA_DTYPE_Q8_0:
        unpack_q32(BORA_DTYPE_Q8_0, unit, ret_unit);
        return;
    case BORA_DTYPE_IQ4_NL:
        unpack_q32(BORA_DTYPE_IQ4_NL, unit, ret_unit);
        return;
    case BORA_DTYPE_Q2_K:
        unpack_q2_k(unit, ret_unit);
        return;
    case BORA_DTYPE_Q3_K:
        unpack_q3_k(unit, ret_unit);
        return;
    case BORA_DTYPE_Q4_K:
        unpack_k(BORA_DTYPE_Q4_K, unit, ret_unit);
        return;
    case BORA_DTYPE_Q5_K:
        unpack_k(BORA_DTYPE_Q5_K, unit, ret_unit);
        return;
    case BORA_DTYPE_Q6_K:
        unpack_q6_k(unit, ret_unit);
        return;
    case BORA_DTYPE_IQ4_XS:
        unpack_iq4_xs(unit, ret_unit);
        return;
    default:
        return; /* not a packed type */
    }
}

#else
typedef int bora_packed_avx512_unpack_not_here; /* ISO C wants something in every file */
#endif
