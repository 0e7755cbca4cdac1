/* Every cache plugin that keeps q8_0: what its blocks hold, how large the error is, and that blocks travel whole. */
#include "suite.h"

#include "model/blocks.h"

#define N_KV_HEADS 2u
#define HEAD_DIM   64u
#define ROW        (N_KV_HEADS * HEAD_DIM)
#define BLOCK      32u
#define BLOCK_SIZE 34u
#define ROW_SIZE   (ROW / BLOCK * BLOCK_SIZE)
#define SLACK      40u
#define WINDOW     100u

static const uint32_t windows[] = {WINDOW};

static bool keeps_q8_0(const bora_plugin_library *library)
{
    return bora_plugin_dtypes(library) & BORA_DTYPE_BIT(BORA_DTYPE_Q8_0);
}

static bora_cache *create(const bora_cache_ops *ops, suite_host *host)
{
    const bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = 1,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .dtype = BORA_DTYPE_Q8_0,
        .slack = SLACK,
        .max_positions = 1000,
        .windows = windows,
    };
    bora_cache *cache = NULL;
    bora_error err = {""};
    suite_host_init(host, 1);
    if (ops->create(&host->table, &shape, &cache, &err) != BORA_OK)
        fail_msg("create: %s", err.message);
    return cache;
}

/* The bytes of a position in canonical order, from the spans. */
static void row_of(const bora_cache_ops *ops, bora_cache *cache, const bora_cache_seq *seq, uint64_t position,
                   bool is_v, uint8_t *out)
{
    bora_kv_span span;
    assert_int_equal(ops->spans(cache, seq, 0, position, position + 1, 1, &span), 1);
    assert_int_equal(span.dtype, BORA_DTYPE_Q8_0);
    assert_int_equal(span.position_stride % BLOCK, 0);
    assert_int_equal(span.head_stride % BLOCK, 0);
    for (uint32_t head = 0; head < N_KV_HEADS; head++)
        memcpy(out + head * (ROW_SIZE / N_KV_HEADS),
               (const uint8_t *)(is_v ? span.v : span.k) + head * span.head_stride / BLOCK * BLOCK_SIZE,
               ROW_SIZE / N_KV_HEADS);
}

/* A block as the format defines it: scale max / 127 as a half, elements rounded to nearest even multiples. */
static void assert_block(const float *x, const uint8_t *block)
{
    float max = 0;
    for (size_t i = 0; i < BLOCK; i++)
        max = fmaxf(max, fabsf(x[i]));
    uint16_t half;
    memcpy(&half, block, sizeof half);
    const float wanted = max / 127;
    assert_int_equal(half, bora_f32_to_f16(wanted < 65504 ? wanted : 65504));
    const float scale = bora_f16_to_f32(half);
    for (size_t i = 0; i < BLOCK; i++) {
        const int8_t q = (int8_t)block[2 + i];
        const float should = scale > 0 ? fminf(fmaxf(nearbyintf(x[i] / scale), -127), 127) : 0;
        if ((float)q != should)
            fail_msg("%g of a block with the scale %g is %d, should be %g", (double)x[i], (double)scale, q,
                     (double)should);
    }
}

static void blocks(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    suite_host host;
    bora_cache *cache = create(ops, &host);
    bora_cache_seq *seq = NULL;
    assert_int_equal(ops->seq_open(cache, &seq, NULL), BORA_OK);
    assert_int_equal(ops->reserve(cache, seq, 600, NULL), BORA_OK);
    uint64_t random = 3;
    for (uint64_t p = 0; p < 600; p++) {
        float *k = suite_random_floats(&random, ROW), *v = suite_random_floats(&random, ROW);
        /* Sizes from far below the smallest half to beyond 127 of the largest. */
        const float size = ldexpf(1, (int)(p % 60) - 35);
        for (uint32_t i = 0; i < ROW; i++) {
            k[i] *= size;
            if (p % 7 == 0)
                v[i] = (float)((int)i - 64) * 0.5f; /* halves of a step: ties */
        }
        if (p % 11 == 0)
            memset(v, 0, BLOCK * sizeof *v);
        ops->append(cache, seq, 0, p, 1, k, v);
        uint8_t row[ROW_SIZE];
        for (int is_v = 0; is_v < 2; is_v++) {
            row_of(ops, cache, seq, p, is_v, row);
            for (uint32_t b = 0; b < ROW / BLOCK; b++)
                assert_block((is_v ? v : k) + b * BLOCK, row + b * BLOCK_SIZE);
        }
        bora_free(k);
        bora_free(v);
    }
    ops->seq_close(cache, seq);
    ops->destroy(cache);
    suite_host_release(&host);
}

/* What is not finite must show as in the other element types, and only in its block. */
static void not_finite(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    suite_host host;
    bora_cache *cache = create(ops, &host);
    bora_cache_seq *seq = NULL;
    assert_int_equal(ops->seq_open(cache, &seq, NULL), BORA_OK);
    assert_int_equal(ops->reserve(cache, seq, 1, NULL), BORA_OK);
    float k[ROW] = {1}, v[ROW] = {1};
    k[40] = NAN;
    v[40] = -INFINITY;
    ops->append(cache, seq, 0, 0, 1, k, v);
    for (int is_v = 0; is_v < 2; is_v++) {
        uint8_t row[ROW_SIZE];
        row_of(ops, cache, seq, 0, is_v, row);
        float values[ROW];
        const bora_tensor tensor = {
            .data = row, .row_size = ROW_SIZE, .n_rows = 1, .n_cols = ROW, .dtype = BORA_DTYPE_Q8_0};
        bora_dequantize(NULL, &tensor, 0, 1, values);
        assert_true(fabsf(values[0] - 1) < 1e-3f && values[64] == 0);
        assert_true(isnan(values[40]));
    }
    ops->seq_close(cache, seq);
    ops->destroy(cache);
    suite_host_release(&host);
}

/* Wrapped, forked and carried over page by page, blocks keep every bit. */
static void travels(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    suite_host host;
    bora_cache *cache = create(ops, &host);
    bora_cache_seq *seq = NULL, *copy = NULL, *fork = NULL;
    assert_int_equal(ops->seq_open(cache, &seq, NULL), BORA_OK);
    assert_int_equal(ops->seq_open(cache, &copy, NULL), BORA_OK);
    assert_int_equal(ops->reserve(cache, seq, 330, NULL), BORA_OK);
    assert_int_equal(ops->reserve(cache, copy, 330, NULL), BORA_OK);
    uint64_t random = 5;
    float *rows = suite_random_floats(&random, 330u * ROW);
    for (uint64_t p = 0; p < 330; p += 30)
        ops->append(cache, seq, 0, p, 30, rows + p * ROW, rows + (300 - p) * ROW);
    if (ops->seq_fork)
        assert_int_equal(ops->seq_fork(cache, seq, &fork, NULL), BORA_OK);
    static uint8_t page[2 * 70 * ROW_SIZE];
    for (uint64_t p = 330 - WINDOW - SLACK; p < 330; p += 70) {
        assert_int_equal(ops->export_page(cache, seq, 0, p, 70, page, NULL), BORA_OK);
        assert_int_equal(ops->import_page(cache, copy, 0, p, 70, page, NULL), BORA_OK);
        for (uint32_t i = 0; i < 70; i++)
            for (int is_v = 0; is_v < 2; is_v++) {
                uint8_t row[ROW_SIZE];
                const uint8_t *exported = page + (is_v * 70u + i) * ROW_SIZE;
                row_of(ops, cache, seq, p + i, is_v, row);
                assert_memory_equal(row, exported, ROW_SIZE);
                row_of(ops, cache, copy, p + i, is_v, row);
                assert_memory_equal(row, exported, ROW_SIZE);
                if (fork) {
                    row_of(ops, cache, fork, p + i, is_v, row);
                    assert_memory_equal(row, exported, ROW_SIZE);
                }
                for (uint32_t b = 0; b < ROW / BLOCK; b++)
                    assert_block(rows + (is_v ? 300 - (p + i) / 30 * 30 + (p + i) % 30 : p + i) * ROW + b * BLOCK,
                                 exported + b * BLOCK_SIZE);
            }
    }
    bora_free(rows);
    ops->seq_close(cache, fork);
    ops->seq_close(cache, copy);
    ops->seq_close(cache, seq);
    ops->destroy(cache);
    suite_host_release(&host);
}

static void odd_heads_refused(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    suite_host host;
    suite_host_init(&host, 1);
    const bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = 1,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = 40,
        .dtype = BORA_DTYPE_Q8_0,
        .slack = SLACK,
        .max_positions = 1000,
        .windows = windows,
    };
    bora_cache *cache = NULL;
    bora_error err = {""};
    assert_int_equal(ops->create(&host.table, &shape, &cache, &err), BORA_E_UNSUPPORTED);
    assert_null(cache);
    assert_non_null(strstr(err.message, "40"));
    suite_host_release(&host);
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST_IF(blocks, keeps_q8_0),
        SUITE_TEST_IF(not_finite, keeps_q8_0),
        SUITE_TEST_IF(travels, keeps_q8_0),
        SUITE_TEST_IF(odd_heads_refused, keeps_q8_0),
    };
    return suite_run(BORA_PLUGIN_CACHE, tests, BORA_ARRAY_SIZE(tests));
}
