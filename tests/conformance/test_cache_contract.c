/* Every cache plugin: what plugin.h demands of all kinds; the same elements as cache-ring after the same history. */
#define CONTRACT_KIND   cache
#define CONTRACT_RESULT 4096u
#include "contract.h"

#define N_LAYERS   2u
#define N_KV_HEADS 2u
#define HEAD_DIM   32u /* whole blocks of q8_0 */
#define ROW        (N_KV_HEADS * HEAD_DIM)
#define SLACK      8u
#define POSITIONS  400u

static const size_t contract_shape_needed = sizeof(bora_cache_shape);

static uint32_t dtype_of(const bora_plugin_library *library)
{
    return suite_speaks_f32(library) ? BORA_DTYPE_F32 : suite_speaks_f16(library) ? BORA_DTYPE_F16 : BORA_DTYPE_Q8_0;
}

static size_t page_size(uint32_t dtype, uint32_t n)
{
    const size_t n_elements = (size_t)2 * n * ROW;
    return dtype == BORA_DTYPE_F32 ? n_elements * 4 : dtype == BORA_DTYPE_F16 ? n_elements * 2 : n_elements / 32 * 34;
}

static const uint32_t windows[CONTRACT_INSTANCES_MAX][N_LAYERS] = {{10, 0}, {0, 0}, {16, 3}};

/* The list of windows is valid during create alone; contract_ready spoils the copy that was given. */
static uint32_t given[CONTRACT_INSTANCES_MAX][N_LAYERS];

static void contract_shape(const bora_plugin_library *library, uint32_t variant, bora_cache_shape *ret_shape)
{
    memcpy(given[variant], windows[variant], sizeof given[variant]);
    *ret_shape = (bora_cache_shape){
        .struct_size = sizeof *ret_shape,
        .n_layers = N_LAYERS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .dtype = dtype_of(library),
        .slack = SLACK,
        .max_positions = POSITIONS,
        .windows = given[variant],
    };
}

static bora_status contract_ready(const bora_plugin_library *library, bora_cache *cache, uint32_t variant,
                                  bora_error *err)
{
    (void)library, (void)cache, (void)err;
    for (uint32_t i = 0; i < N_LAYERS; i++)
        given[variant][i] = 1;
    return BORA_OK;
}

static void fill_rows(uint64_t seed, uint32_t n, float *rows)
{
    for (uint32_t i = 0; i < n * ROW; i++)
        rows[i] = (float)(suite_random(&seed) >> 40) * 0x1p-23f - 1;
}

/* Positions from .. to-1 of all layers, in chunks. */
static bora_status append(const bora_cache_ops *ops, bora_cache *cache, bora_cache_seq *seq, uint64_t from, uint64_t to,
                          uint64_t seed, bora_error *err)
{
    bora_status status = BORA_OK;
    while (status == BORA_OK && from < to) {
        const uint32_t n = (uint32_t)(to - from < 1 + from % SLACK ? to - from : 1 + from % SLACK);
        status = ops->reserve(cache, seq, from + n, err);
        for (uint32_t layer = 0; layer < N_LAYERS && status == BORA_OK; layer++) {
            float k[SLACK * ROW], v[SLACK * ROW];
            fill_rows(seed + from * 4 + layer * 2, n, k);
            fill_rows(seed + from * 4 + layer * 2 + 1, n, v);
            ops->append(cache, seq, layer, from, n, k, v);
        }
        from += n;
    }
    return status;
}

/* A conversation with a fork; the result is the last positions of both. */
static bora_status contract_use(const bora_plugin_library *library, bora_cache *cache, uint32_t variant, float *result,
                                bora_error *err)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(library);
    bora_cache_seq *seq = NULL, *fork = NULL;
    const uint32_t n = 3;
    memset(result, 0, CONTRACT_RESULT * sizeof *result);
    bora_status status = ops->seq_open(cache, &seq, err);
    if (status == BORA_OK)
        status = append(ops, cache, seq, 0, 90, variant, err);
    if (status == BORA_OK && ops->seq_fork)
        status = ops->seq_fork(cache, seq, &fork, err);
    if (status == BORA_OK)
        status = append(ops, cache, seq, 90, 120, variant + 1000, err);
    unsigned char *out = (unsigned char *)result;
    for (uint32_t layer = 0; layer < N_LAYERS && status == BORA_OK; layer++) {
        status = ops->export_page(cache, seq, layer, 120 - n, n, out, err);
        if (status == BORA_OK && fork)
            status = ops->export_page(cache, fork, layer, 90 - n, n, out + page_size(dtype_of(library), n), err);
        out += 2 * page_size(dtype_of(library), n);
    }
    ops->seq_close(cache, fork);
    ops->seq_close(cache, seq);
    return status;
}

/* ---- agreement ---------------------------------------------------------------------------------------------- */

typedef struct history {
    const bora_cache_ops *ops;
    suite_host host;
    bora_cache *cache;
    bora_cache_seq *seq;
} history;

/* The list of windows that create is given does not stay. */
static void history_init(history *hs, const bora_plugin_library *library, const bora_cache_shape *shape)
{
    uint32_t short_lived[N_LAYERS];
    memcpy(short_lived, shape->windows, sizeof short_lived);
    bora_cache_shape copy = *shape;
    copy.windows = short_lived;
    suite_host_init(&hs->host, 1);
    hs->ops = bora_plugin_cache_ops(library);
    hs->cache = NULL;
    hs->seq = NULL;
    bora_error err = {""};
    bora_status status = hs->ops->create(&hs->host.table, &copy, &hs->cache, &err);
    for (uint32_t i = 0; i < N_LAYERS; i++)
        short_lived[i] = 1;
    suite_created(status, &err);
    assert_int_equal(hs->ops->seq_open(hs->cache, &hs->seq, NULL), BORA_OK);
}

static void history_release(history *hs)
{
    hs->ops->seq_close(hs->cache, hs->seq);
    if (hs->ops->close)
        hs->ops->close(hs->cache);
    if (hs->ops->stop)
        hs->ops->stop(hs->cache);
    hs->ops->destroy(hs->cache);
    suite_host_release(&hs->host);
}

static void compare(history *is, history *should, const bora_cache_shape *shape, uint64_t end)
{
    static unsigned char a[2 * (64 + SLACK) * ROW * 4], b[sizeof a];
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        const uint64_t window = shape->windows[layer] ? shape->windows[layer] : 64;
        const uint32_t n = (uint32_t)(end < window ? end : window);
        if (n == 0)
            continue;
        assert_int_equal(is->ops->export_page(is->cache, is->seq, layer, end - n, n, a, NULL), BORA_OK);
        assert_int_equal(should->ops->export_page(should->cache, should->seq, layer, end - n, n, b, NULL), BORA_OK);
        const size_t size = page_size(shape->dtype, n);
        for (size_t i = 0; i < size; i++)
            if (a[i] != b[i])
                fail_msg("byte %zu of positions %llu to %llu of layer %u is not the reference's", i,
                         (unsigned long long)(end - n), (unsigned long long)end - 1, layer);
    }
}

/* Random chunks, and now and then some positions are taken back. Elements are defined to the bit, so they are equal. */
static void agrees_with_reference(void **state)
{
    static const uint32_t dtypes[] = {BORA_DTYPE_F32, BORA_DTYPE_F16, BORA_DTYPE_Q8_0};
    bora_plugin_library *reference = suite_reference(BORA_PLUGIN_CACHE);
    uint64_t random = 77;
    for (size_t t = 0; t < BORA_ARRAY_SIZE(dtypes); t++)
        for (uint32_t variant = 0; variant < CONTRACT_INSTANCES_MAX; variant++) {
            if (!(bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(dtypes[t])))
                continue;
            bora_cache_shape shape;
            contract_shape(*state, variant, &shape);
            shape.dtype = dtypes[t];
            history is, should;
            history_init(&is, *state, &shape);
            history_init(&should, reference, &shape);
            uint64_t end = 0, furthest = 0;
            while (end < POSITIONS - SLACK) {
                const uint64_t to = end + 1 + suite_random(&random) % 30;
                const uint64_t last = to < POSITIONS ? to : POSITIONS, seed = suite_random(&random);
                assert_int_equal(append(is.ops, is.cache, is.seq, end, last, seed, NULL), BORA_OK);
                assert_int_equal(append(should.ops, should.cache, should.seq, end, last, seed, NULL), BORA_OK);
                end = last;
                furthest = end > furthest ? end : furthest;
                compare(&is, &should, &shape, end);
                const uint64_t lowest = furthest > SLACK ? furthest - SLACK : 0, back = suite_random(&random) % SLACK;
                if (back % 2 && end >= lowest + back) {
                    end -= back;
                    assert_int_equal(is.ops->truncate(is.cache, is.seq, end, NULL), BORA_OK);
                    assert_int_equal(should.ops->truncate(should.cache, should.seq, end, NULL), BORA_OK);
                    compare(&is, &should, &shape, end);
                }
            }
            history_release(&is);
            history_release(&should);
        }
    bora_plugin_unload(reference);
}

/* ---- sequences ---------------------------------------------------------------------------------------------- */

/* The last n positions before end of a layer; false when they are not there. */
static bool export_last(history *hs, const bora_cache_seq *seq, uint32_t layer, uint64_t end, uint32_t n, void *out)
{
    bora_error err = {""};
    bora_status status = hs->ops->export_page(hs->cache, seq, layer, end - n, n, out, &err);
    SUITE_DEMAND(status == BORA_OK || status == BORA_E_NOT_FOUND, "export_page: %d, %s", status, err.message);
    return status == BORA_OK;
}

static void sequences_init(history *hs, const bora_plugin_library *library, bora_cache_shape *ret_shape)
{
    contract_shape(library, 0, ret_shape);
    history_init(hs, library, ret_shape);
}

#define PAGE (2 * 8 * ROW * 4) /* bytes of eight positions, at most */

/* One that rests stays as it is, whatever a longer one does, in all layers. */
static void sequences_rest(void **state)
{
    history hs;
    bora_cache_shape shape;
    sequences_init(&hs, *state, &shape);
    bora_cache_seq *other = NULL;
    unsigned char before[N_LAYERS][PAGE], after[PAGE];
    assert_int_equal(append(hs.ops, hs.cache, hs.seq, 0, 30, 1, NULL), BORA_OK);
    assert_int_equal(hs.ops->seq_open(hs.cache, &other, NULL), BORA_OK);
    assert_int_equal(append(hs.ops, hs.cache, other, 0, 30, 2, NULL), BORA_OK);
    assert_int_equal(hs.ops->reserve(hs.cache, hs.seq, 200, NULL), BORA_OK);
    assert_int_equal(hs.ops->reserve(hs.cache, other, 200, NULL), BORA_OK);
    for (int round = 0; round < 2; round++) { /* first the younger rests, then the older */
        bora_cache_seq *resting = round ? hs.seq : other, *busy = round ? other : hs.seq;
        const uint64_t end = round ? 90 : 30, from = 30, to = round ? 150 : 90;
        for (uint32_t layer = 0; layer < N_LAYERS; layer++)
            assert_true(export_last(&hs, resting, layer, end, 8, before[layer]));
        assert_int_equal(append(hs.ops, hs.cache, busy, from, to, 3, NULL), BORA_OK);
        for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
            SUITE_DEMAND(export_last(&hs, resting, layer, end, 8, after), "a resting sequence lost positions");
            SUITE_DEMAND(memcmp(before[layer], after, page_size(shape.dtype, 8)) == 0,
                         "a resting sequence has changed in layer %u", layer);
            SUITE_DEMAND(!export_last(&hs, resting, layer, end + 1, 1, after), "a resting sequence has grown");
        }
    }
    hs.ops->seq_close(hs.cache, other);
    history_release(&hs);
}

/* What was taken back is gone in all layers, what is overwritten cannot be taken back to: in a fork as in its
 * original, which remembers how far that had been. */
static void memory_of_the_past(void **state)
{
    history hs;
    bora_cache_shape shape;
    sequences_init(&hs, *state, &shape);
    unsigned char page[PAGE];
    bora_error err = {""};
    assert_int_equal(append(hs.ops, hs.cache, hs.seq, 0, 200, 1, NULL), BORA_OK);
    assert_int_equal(hs.ops->truncate(hs.cache, hs.seq, 196, &err), BORA_OK);
    bora_cache_seq *all[2] = {hs.seq, NULL};
    if (hs.ops->seq_fork)
        assert_int_equal(hs.ops->seq_fork(hs.cache, hs.seq, &all[1], NULL), BORA_OK);
    for (int i = 0; i < 2 && all[i]; i++) {
        const char *which = i ? "a fork" : "a sequence";
        for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
            SUITE_DEMAND(export_last(&hs, all[i], layer, 196, 8, page), "%s lost positions in layer %u", which, layer);
            SUITE_DEMAND(!export_last(&hs, all[i], layer, 197, 1, page), "%s still has in layer %u what was taken back",
                         which, layer);
        }
        SUITE_DEMAND(hs.ops->truncate(hs.cache, all[i], 100, &err) == BORA_E_LIMIT,
                     "%s takes back positions whose window is overwritten", which);
        SUITE_DEMAND(hs.ops->truncate(hs.cache, all[i], 200 - SLACK, &err) == BORA_OK,
                     "%s does not take back its slack: %s", which, err.message);
    }
    hs.ops->seq_close(hs.cache, all[1]);
    history_release(&hs);
}

/* What it says a sequence may need is never exceeded, growth included. */
static void size_is_a_bound(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    suite_host host;
    suite_host_init(&host, 1);
    bora_cache *cache = contract_create(*state, &host.table, 0);
    bora_cache_seq *seq = NULL;
    assert_int_equal(ops->seq_open(cache, &seq, NULL), BORA_OK);
    uint64_t before = 0;
    for (uint64_t end = 0; end < POSITIONS; end += SLACK) {
        assert_int_equal(append(ops, cache, seq, end, end + SLACK, 1, NULL), BORA_OK);
        const uint64_t bytes = ops->bytes(cache, seq), bound = ops->seq_size(cache, end + SLACK);
        if (bytes > bound)
            fail_msg("a sequence of %llu positions has %llu bytes, seq_size says at most %llu",
                     (unsigned long long)(end + SLACK), (unsigned long long)bytes, (unsigned long long)bound);
        assert_true(bound >= before); /* never shrinks with length */
        before = bound;
    }
    ops->seq_close(cache, seq);
    contract_end(*state, cache);
    suite_host_release(&host);
}

static bool tells_sizes(const bora_plugin_library *library)
{
    return bora_plugin_cache_ops(library)->seq_size != NULL;
}

int main(void)
{
    static const suite_test tests[] = {
        CONTRACT_TESTS,
        SUITE_TEST(agrees_with_reference),
        SUITE_TEST(sequences_rest),
        SUITE_TEST(memory_of_the_past),
        SUITE_TEST_IF(size_is_a_bound, tells_sizes),
    };
    return suite_run(BORA_PLUGIN_CACHE, tests, BORA_ARRAY_SIZE(tests));
}
