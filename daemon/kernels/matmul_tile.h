/* The tile of bora_matmul for one vector instruction set: included by matmul_avx2.c and matmul_avx512.c, which define
 *
 *   TARGET, LANES, TILE_TOKENS       function attribute, floats per vector, widest tile
 *   STEP                             columns per turn of the loop: a block of q8_0
 *   vec, vec_zero, vec_load, vec_store, vec_fma(a, b, c)    a b + c
 *   load_x_tail(x, n)                n < LANES floats, zeros behind
 *   load_scale(row, k)               the scale of the q8_0 block at k, in all lanes
 *   load_w(dtype, row, k, part, scale)   weights k + part .. as f32; for q8_0 a block starts at k and has that scale
 *   load_w_tail(dtype, row, k, n)    n < LANES weights, zeros behind (q8_0 has no tail: whole blocks)
 *   add_lanes(a, b, c, d)            the sums of the lanes of four vectors, as an __m128
 *
 * Everything is inlined into one function per weight type and number of tokens, so that the partial sums live in
 * registers. */

#define TILE_INLINE    TARGET static inline __attribute__((always_inline))

/* Bytes between the weights at work and those asked of memory: enough to cover its latency. */
#define PREFETCH_BYTES 2048u

TILE_INLINE size_t bytes_before(uint32_t dtype, size_t k)
{
    return dtype == BORA_DTYPE_F32 ? 4 * k : dtype == BORA_DTYPE_Q8_0 ? k / BORA_Q8_0_ELEMENTS * BORA_Q8_0_SIZE : 2 * k;
}

TILE_INLINE void tile_run(uint32_t dtype, bool from_memory, uint32_t n_tokens, const bora_matmul_tile *tile)
{
    const uint8_t *const row0 = tile->rows[0], *const row1 = tile->rows[1];
    const uint8_t *const row2 = tile->rows[2], *const row3 = tile->rows[3];
    const float *x = tile->x;
    const size_t x_stride = tile->x_stride, n = tile->n, row_size = tile->row_size;
    vec sum[TILE_TOKENS][BORA_TILE_ROWS];

#pragma GCC unroll 8
    for (uint32_t t = 0; t < n_tokens; t++)
#pragma GCC unroll 4
        for (uint32_t r = 0; r < BORA_TILE_ROWS; r++)
            sum[t][r] = tile->first ? vec_zero() : vec_load(tile->state + (t * BORA_TILE_ROWS + r) * LANES);

    size_t k = 0;
    for (; k + STEP <= n; k += STEP, x += STEP) {
        if (from_memory) {
            /* Past the end of the rows come the four rows after them. */
            size_t ahead = bytes_before(dtype, k) + PREFETCH_BYTES;
            ahead += ahead < row_size ? 0 : 3 * row_size;
#pragma GCC unroll 2
            for (size_t line = 0; line < bytes_before(dtype, STEP); line += 64) {
                __builtin_prefetch(row0 + ahead + line);
                __builtin_prefetch(row1 + ahead + line);
                __builtin_prefetch(row2 + ahead + line);
                __builtin_prefetch(row3 + ahead + line);
            }
        }
        vec scale0 = vec_zero(), scale1 = vec_zero(), scale2 = vec_zero(), scale3 = vec_zero();
        if (dtype == BORA_DTYPE_Q8_0) { /* a step is a block */
            scale0 = load_scale(row0, k), scale1 = load_scale(row1, k);
            scale2 = load_scale(row2, k), scale3 = load_scale(row3, k);
        }
#pragma GCC unroll 4
        for (size_t part = 0; part < STEP; part += LANES) {
            const vec w0 = load_w(dtype, row0, k, part, scale0), w1 = load_w(dtype, row1, k, part, scale1);
            const vec w2 = load_w(dtype, row2, k, part, scale2), w3 = load_w(dtype, row3, k, part, scale3);
#pragma GCC unroll 8
            for (uint32_t t = 0; t < n_tokens; t++) {
                const vec xt = vec_load(x + t * x_stride + part);
                sum[t][0] = vec_fma(w0, xt, sum[t][0]);
                sum[t][1] = vec_fma(w1, xt, sum[t][1]);
                sum[t][2] = vec_fma(w2, xt, sum[t][2]);
                sum[t][3] = vec_fma(w3, xt, sum[t][3]);
            }
        }
    }
    /* What is left of the last range, less than a step: whole vectors, then one filled up with zeros. */
    for (; dtype != BORA_DTYPE_Q8_0 && k < n; k += LANES, x += LANES) {
        const size_t rest = n - k;
        const bool whole = rest >= LANES;
        const vec w0 = whole ? load_w(dtype, row0, k, 0, vec_zero()) : load_w_tail(dtype, row0, k, rest);
        const vec w1 = whole ? load_w(dtype, row1, k, 0, vec_zero()) : load_w_tail(dtype, row1, k, rest);
        const vec w2 = whole ? load_w(dtype, row2, k, 0, vec_zero()) : load_w_tail(dtype, row2, k, rest);
        const vec w3 = whole ? load_w(dtype, row3, k, 0, vec_zero()) : load_w_tail(dtype, row3, k, rest);
#pragma GCC unroll 8
        for (uint32_t t = 0; t < n_tokens; t++) {
            const vec xt = whole ? vec_load(x + t * x_stride) : load_x_tail(x + t * x_stride, rest);
            sum[t][0] = vec_fma(w0, xt, sum[t][0]);
            sum[t][1] = vec_fma(w1, xt, sum[t][1]);
            sum[t][2] = vec_fma(w2, xt, sum[t][2]);
            sum[t][3] = vec_fma(w3, xt, sum[t][3]);
        }
    }

    if (!tile->last) {
#pragma GCC unroll 8
        for (uint32_t t = 0; t < n_tokens; t++)
#pragma GCC unroll 4
            for (uint32_t r = 0; r < BORA_TILE_ROWS; r++)
                vec_store(tile->state + (t * BORA_TILE_ROWS + r) * LANES, sum[t][r]);
        return;
    }
    float *y = tile->y;
#pragma GCC unroll 8
    for (uint32_t t = 0; t < n_tokens; t++, y += tile->y_stride) {
        const __m128 sums = add_lanes(sum[t][0], sum[t][1], sum[t][2], sum[t][3]);
        if (tile->n_rows == BORA_TILE_ROWS) {
            _mm_storeu_ps(y, sums);
        } else {
            float some[BORA_TILE_ROWS];
            _mm_storeu_ps(some, sums);
            memcpy(y, some, tile->n_rows * sizeof *y);
        }
    }
}

#define TILE_FUNCTIONS(n_tokens)                                                                                       \
    TARGET static void packed_##n_tokens(const bora_matmul_tile *tile)                                                 \
    {                                                                                                                  \
        tile_run(BORA_DTYPE_F32, false, n_tokens, tile);                                                               \
    }                                                                                                                  \
    TARGET static void f32_##n_tokens(const bora_matmul_tile *tile)                                                    \
    {                                                                                                                  \
        tile_run(BORA_DTYPE_F32, true, n_tokens, tile);                                                                \
    }                                                                                                                  \
    TARGET static void f16_##n_tokens(const bora_matmul_tile *tile)                                                    \
    {                                                                                                                  \
        tile_run(BORA_DTYPE_F16, true, n_tokens, tile);                                                                \
    }                                                                                                                  \
    TARGET static void bf16_##n_tokens(const bora_matmul_tile *tile)                                                   \
    {                                                                                                                  \
        tile_run(BORA_DTYPE_BF16, true, n_tokens, tile);                                                               \
    }                                                                                                                  \
    TARGET static void q8_0_##n_tokens(const bora_matmul_tile *tile)                                                   \
    {                                                                                                                  \
        tile_run(BORA_DTYPE_Q8_0, true, n_tokens, tile);                                                               \
    }
