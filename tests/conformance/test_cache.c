/* Every cache plugin: what goes in comes out, whatever the chunks, the wraps, forks, pages and failures on the way. The
 * value of every element is a function of where it belongs, so that a misplaced one shows. */
#include "suite.h"

#define N_KV_HEADS    3u
#define HEAD_DIM      5u
#define ROW           (N_KV_HEADS * HEAD_DIM)
#define N_LAYERS      4u
#define SLACK         6u
#define MAX_POSITIONS 700u

static const uint32_t windows[N_LAYERS] = {8, 0, 5, 130};

typedef struct fixture {
    suite_host host;
    const bora_cache_ops *ops;
    bora_cache *cache;
    uint32_t dtype;
    size_t element_size;
} fixture;

static void fixture_init(fixture *fx, void **state, uint32_t dtype, const uint32_t *layer_windows)
{
    suite_host_init(&fx->host, 1);
    fx->ops = bora_plugin_cache_ops(*state);
    fx->dtype = dtype;
    fx->element_size = dtype == BORA_DTYPE_F32 ? 4 : 2;
    bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = N_LAYERS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .dtype = dtype,
        .slack = SLACK,
        .max_positions = MAX_POSITIONS,
        .windows = layer_windows,
    };
    bora_error err = {""};
    if (fx->ops->create(&fx->host.table, &shape, &fx->cache, &err) != BORA_OK)
        fail_msg("create: %s", err.message);
}

static void fixture_release(fixture *fx)
{
    if (fx->ops->close)
        fx->ops->close(fx->cache);
    if (fx->ops->stop)
        fx->ops->stop(fx->cache);
    fx->ops->destroy(fx->cache);
    suite_host_release(&fx->host);
}

/* Runs body once per element type that the plugin keeps exactly. */
static void each_dtype(void **state, void (*body)(fixture *fx))
{
    uint32_t exact[] = {BORA_DTYPE_F32, BORA_DTYPE_F16}, n = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(exact); i++) {
        if (!(bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(exact[i])))
            continue;
        fixture fx;
        fixture_init(&fx, state, exact[i], windows);
        body(&fx);
        fixture_release(&fx);
        n++;
    }
    assert_true(n > 0);
}

/* What belongs at a place; salt tells histories apart that went different ways. */
static float value_at(uint32_t layer, bool is_v, uint64_t position, size_t i, uint32_t salt)
{
    uint64_t where = (((uint64_t)salt * N_LAYERS + layer) * 2 + is_v) * MAX_POSITIONS + position;
    where = where * ROW + i;
    return (float)(suite_random(&where) >> 40) * 0x1p-20f - 8;
}

static bora_cache_seq *seq_open(fixture *fx)
{
    bora_cache_seq *seq = NULL;
    bora_error err = {""};
    if (fx->ops->seq_open(fx->cache, &seq, &err) != BORA_OK)
        fail_msg("seq_open: %s", err.message);
    return seq;
}

static void append(fixture *fx, bora_cache_seq *seq, uint64_t first, uint32_t n, uint32_t salt)
{
    bora_error err = {""};
    if (fx->ops->reserve(fx->cache, seq, first + n, &err) != BORA_OK)
        fail_msg("reserve: %s", err.message);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        float k[SLACK * ROW], v[SLACK * ROW];
        for (size_t i = 0; i < (size_t)n * ROW; i++) {
            k[i] = value_at(layer, false, first + i / ROW, i % ROW, salt);
            v[i] = value_at(layer, true, first + i / ROW, i % ROW, salt);
        }
        fx->ops->append(fx->cache, seq, layer, first, n, k, v);
    }
}

/* From..to-1 in chunks of at most chunk. */
static void append_in_chunks(fixture *fx, bora_cache_seq *seq, uint64_t from, uint64_t to, uint32_t chunk,
                             uint32_t salt)
{
    while (from < to) {
        uint32_t n = to - from < chunk ? (uint32_t)(to - from) : chunk;
        append(fx, seq, from, n, salt);
        from += n;
    }
}

static void assert_element(const fixture *fx, const void *elements, size_t at, float should)
{
    if (fx->dtype == BORA_DTYPE_F32) {
        if (memcmp((const float *)elements + at, &should, sizeof should) != 0)
            fail_msg("element %zu is %g, should be %g", at, (double)((const float *)elements)[at], (double)should);
    } else {
        assert_int_equal(((const uint16_t *)elements)[at], bora_f32_to_f16(should));
    }
}

/* The oldest position that must still be there when end is the furthest there ever was. */
static uint64_t oldest_kept(uint32_t layer, uint64_t end)
{
    uint64_t capacity = (uint64_t)windows[layer] + SLACK;
    return windows[layer] && end > capacity ? end - capacity : 0;
}

/* Positions below split carry salt_before, the others salt_after. */
static void assert_spans(fixture *fx, const bora_cache_seq *seq, uint32_t layer, uint64_t from, uint64_t to,
                         uint64_t split, uint32_t salt_before, uint32_t salt_after)
{
    bora_kv_span spans[BORA_CACHE_SPANS_MAX];
    uint32_t n = fx->ops->spans(fx->cache, seq, layer, from, to, BORA_CACHE_SPANS_MAX, spans);
    assert_true(n >= 1 && n <= BORA_CACHE_SPANS_MAX);
    uint64_t next = from;
    for (uint32_t s = 0; s < n; s++) {
        assert_int_equal(spans[s].first, next);
        assert_true(spans[s].n >= 1);
        assert_int_equal(spans[s].dtype, fx->dtype);
        for (uint32_t p = 0; p < spans[s].n; p++)
            for (size_t i = 0; i < ROW; i++) {
                size_t at = p * spans[s].position_stride + i / HEAD_DIM * spans[s].head_stride + i % HEAD_DIM;
                uint32_t salt = next + p < split ? salt_before : salt_after;
                assert_element(fx, spans[s].k, at, value_at(layer, false, next + p, i, salt));
                assert_element(fx, spans[s].v, at, value_at(layer, true, next + p, i, salt));
            }
        next += spans[s].n;
    }
    assert_int_equal(next, to);
}

/* All that must be kept, in all layers, as an unbroken history. */
static void assert_holds(fixture *fx, const bora_cache_seq *seq, uint64_t end, uint64_t furthest, uint64_t split,
                         uint32_t salt_before, uint32_t salt_after)
{
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        assert_spans(fx, seq, layer, oldest_kept(layer, furthest), end, split, salt_before, salt_after);
}

static void body_wraps(fixture *fx)
{
    bora_cache_seq *seq = seq_open(fx);
    uint64_t random = 1, end = 0;
    while (end < 600) {
        uint32_t n = (uint32_t)(suite_random(&random) % SLACK) + 1;
        append(fx, seq, end, n, 0);
        end += n;
        assert_holds(fx, seq, end, end, 0, 0, 0);
    }
    /* Parts of what is kept. */
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        for (uint64_t from = oldest_kept(layer, end); from < end; from += 3)
            assert_spans(fx, seq, layer, from, from + 1 + (end - from) / 2, 0, 0, 0);
    fx->ops->seq_close(fx->cache, seq);
}

static void wraps(void **state)
{
    each_dtype(state, body_wraps);
}

static void body_sequences_do_not_mix(fixture *fx)
{
    bora_cache_seq *a = seq_open(fx), *b = seq_open(fx);
    for (uint64_t end = 0; end < 120; end += 4) {
        append(fx, a, end, 4, 1);
        append(fx, b, end, 4, 2);
    }
    assert_holds(fx, a, 120, 120, 0, 1, 1);
    fx->ops->seq_close(fx->cache, a);
    assert_holds(fx, b, 120, 120, 0, 2, 2);
    fx->ops->seq_close(fx->cache, b);
}

static void sequences_do_not_mix(void **state)
{
    each_dtype(state, body_sequences_do_not_mix);
}

/* ---- truncate -------------------------------------------------------------------------------------------- */

static void body_truncates(fixture *fx)
{
    bora_cache_seq *seq = seq_open(fx);
    append_in_chunks(fx, seq, 0, 200, SLACK, 1);
    bora_error err;
    assert_int_equal(fx->ops->truncate(fx->cache, seq, 200, &err), BORA_OK); /* nothing to forget */
    assert_int_equal(fx->ops->truncate(fx->cache, seq, 300, &err), BORA_OK);
    assert_holds(fx, seq, 200, 200, 0, 1, 1);
    assert_int_equal(fx->ops->truncate(fx->cache, seq, 200 - SLACK, &err), BORA_OK);
    assert_holds(fx, seq, 200 - SLACK, 200, 0, 1, 1);
    /* What the narrow windows need there is gone, whatever a cache keeps beyond what it must: refused, nothing changes.
     */
    memset(&err, 0, sizeof err);
    assert_int_equal(fx->ops->truncate(fx->cache, seq, 100, &err), BORA_E_LIMIT);
    assert_true(err.message[0] != '\0');
    assert_holds(fx, seq, 200 - SLACK, 200, 0, 1, 1);
    /* On with another history. */
    append_in_chunks(fx, seq, 200 - SLACK, 198, 3, 2);
    assert_holds(fx, seq, 198, 200, 200 - SLACK, 1, 2);
    append_in_chunks(fx, seq, 198, 260, 5, 2);
    assert_holds(fx, seq, 260, 260, 200 - SLACK, 1, 2);
    fx->ops->seq_close(fx->cache, seq);
}

static void truncates(void **state)
{
    each_dtype(state, body_truncates);
}

/* A step that stopped half-way: some layers are ahead of others. */
static void body_truncates_uneven_layers(fixture *fx)
{
    bora_cache_seq *seq = seq_open(fx);
    append_in_chunks(fx, seq, 0, 150, SLACK, 1);
    assert_int_equal(fx->ops->reserve(fx->cache, seq, 150 + SLACK, NULL), BORA_OK);
    float rows[SLACK * ROW] = {0};
    for (uint32_t layer = 0; layer < 2; layer++)
        fx->ops->append(fx->cache, seq, layer, 150, SLACK, rows, rows);
    assert_int_equal(fx->ops->truncate(fx->cache, seq, 150, NULL), BORA_OK);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        assert_spans(fx, seq, layer, windows[layer] ? 150 - (windows[layer] < 150 ? windows[layer] : 150) : 0, 150, 0,
                     1, 1);
    append_in_chunks(fx, seq, 150, 190, 4, 1);
    assert_holds(fx, seq, 190, 190, 0, 1, 1);
    fx->ops->seq_close(fx->cache, seq);
}

static void truncates_uneven_layers(void **state)
{
    each_dtype(state, body_truncates_uneven_layers);
}

static void truncates_without_windows(void **state)
{
    static const uint32_t none[N_LAYERS] = {0, 0, 0, 0};
    uint32_t dtype = bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16;
    fixture fx;
    fixture_init(&fx, state, dtype, none);
    bora_cache_seq *seq = seq_open(&fx);
    append_in_chunks(&fx, seq, 0, 150, SLACK, 1);
    assert_int_equal(fx.ops->truncate(fx.cache, seq, 3, NULL), BORA_OK);
    append_in_chunks(&fx, seq, 3, 90, 5, 2);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        assert_spans(&fx, seq, layer, 0, 90, 3, 1, 2);
    assert_int_equal(fx.ops->truncate(fx.cache, seq, 0, NULL), BORA_OK);
    append_in_chunks(&fx, seq, 0, 20, 5, 3);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        assert_spans(&fx, seq, layer, 0, 20, 0, 3, 3);
    fx.ops->seq_close(fx.cache, seq);
    fixture_release(&fx);
}

/* ---- pages ----------------------------------------------------------------------------------------------- */

static size_t page_size(const fixture *fx, uint32_t n)
{
    return 2u * n * ROW * fx->element_size;
}

static void assert_page(const fixture *fx, const unsigned char *page, uint32_t layer, uint64_t first, uint32_t n,
                        uint32_t salt)
{
    for (size_t i = 0; i < (size_t)n * ROW; i++) {
        assert_element(fx, page, i, value_at(layer, false, first + i / ROW, i % ROW, salt));
        assert_element(fx, page + page_size(fx, n) / 2, i, value_at(layer, true, first + i / ROW, i % ROW, salt));
    }
}

/* Copies positions from .. to-1 of a layer in pages of at most page positions. */
static void copy_pages(fixture *fx, const bora_cache_seq *from_seq, bora_cache_seq *to_seq, uint32_t layer,
                       uint64_t from, uint64_t to, uint32_t page)
{
    unsigned char *bytes = bora_alloc(page_size(fx, page));
    assert_non_null(bytes);
    while (from < to) {
        uint32_t n = to - from < page ? (uint32_t)(to - from) : page;
        assert_int_equal(fx->ops->export_page(fx->cache, from_seq, layer, from, n, bytes, NULL), BORA_OK);
        assert_page(fx, bytes, layer, from, n, 1);
        assert_int_equal(fx->ops->import_page(fx->cache, to_seq, layer, from, n, bytes, NULL), BORA_OK);
        from += n;
    }
    bora_free(bytes);
}

static void body_pages_round_trip(fixture *fx)
{
    static const uint64_t lengths[] = {1, 5, 14, 64, 65, 200, 333};
    static const uint32_t page_lengths[] = {1, 7, 64};
    for (size_t l = 0; l < BORA_ARRAY_SIZE(lengths); l++)
        for (size_t p = 0; p < BORA_ARRAY_SIZE(page_lengths); p++) {
            uint64_t end = lengths[l];
            bora_cache_seq *seq = seq_open(fx), *copy = seq_open(fx);
            append_in_chunks(fx, seq, 0, end, SLACK, 1);
            assert_int_equal(fx->ops->reserve(fx->cache, copy, end, NULL), BORA_OK);
            for (uint32_t layer = 0; layer < N_LAYERS; layer++)
                copy_pages(fx, seq, copy, layer, oldest_kept(layer, end), end, page_lengths[p]);
            assert_holds(fx, copy, end, end, 0, 1, 1);
            append_in_chunks(fx, copy, end, end + 40, 5, 1);
            assert_holds(fx, copy, end + 40, end + 40, 0, 1, 1);
            fx->ops->seq_close(fx->cache, seq);
            fx->ops->seq_close(fx->cache, copy);
        }
}

static void pages_round_trip(void **state)
{
    each_dtype(state, body_pages_round_trip);
}

/* Only the window comes back, not the slack before it: enough to go on, not to take anything back. */
static void body_pages_of_the_window_only(fixture *fx)
{
    const uint64_t end = 300;
    bora_cache_seq *seq = seq_open(fx), *copy = seq_open(fx);
    append_in_chunks(fx, seq, 0, end, SLACK, 1);
    assert_int_equal(fx->ops->reserve(fx->cache, copy, end, NULL), BORA_OK);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        copy_pages(fx, seq, copy, layer, windows[layer] ? end - windows[layer] : 0, end, 64);
    bora_error err = {""};
    assert_int_equal(fx->ops->truncate(fx->cache, copy, end - 2, &err),
                     BORA_E_LIMIT); /* would need what was left out */
    unsigned char page[2 * ROW * 4];
    assert_int_equal(fx->ops->export_page(fx->cache, copy, 0, end - windows[0] - 1, 1, page, &err), BORA_E_NOT_FOUND);
    append_in_chunks(fx, copy, end, end + SLACK, 4, 1);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        assert_spans(fx, copy, layer, windows[layer] ? end - windows[layer] : 0, end + SLACK, 0, 1, 1);
    assert_int_equal(fx->ops->truncate(fx->cache, copy, end, NULL), BORA_OK);
    append_in_chunks(fx, copy, end, end + 150, 5, 1);
    assert_holds(fx, copy, end + 150, end + 150, 0, 1, 1);
    fx->ops->seq_close(fx->cache, seq);
    fx->ops->seq_close(fx->cache, copy);
}

static void pages_of_the_window_only(void **state)
{
    each_dtype(state, body_pages_of_the_window_only);
}

static void body_pages_not_kept(fixture *fx)
{
    const uint64_t end = 100;
    bora_cache_seq *seq = seq_open(fx);
    append_in_chunks(fx, seq, 0, end, SLACK, 1);
    unsigned char *page = bora_alloc(page_size(fx, 64));
    assert_non_null(page);
    bora_error err = {""};
    assert_int_equal(fx->ops->export_page(fx->cache, seq, 1, end - 3, 4, page, &err), BORA_E_NOT_FOUND);
    assert_int_equal(fx->ops->export_page(fx->cache, seq, 1, UINT64_MAX - 1, 4, page, &err), BORA_E_NOT_FOUND);
    assert_int_equal(fx->ops->export_page(fx->cache, seq, 0, 0, 1, page, &err), BORA_E_NOT_FOUND);
    assert_true(err.message[0] != '\0');
    assert_int_equal(fx->ops->truncate(fx->cache, seq, end - 4, NULL), BORA_OK);
    assert_int_equal(fx->ops->export_page(fx->cache, seq, 0, end - 5, 2, page, &err), BORA_E_NOT_FOUND);
    assert_int_equal(fx->ops->export_page(fx->cache, seq, 0, end - 5, 1, page, &err), BORA_OK);
    assert_page(fx, page, 0, end - 5, 1, 1);
    bora_free(page);
    fx->ops->seq_close(fx->cache, seq);
}

static void pages_not_kept(void **state)
{
    each_dtype(state, body_pages_not_kept);
}

/* ---- forks ------------------------------------------------------------------------------------------------ */

static void body_forks(fixture *fx)
{
    static const uint64_t lengths[] = {0, 3, 14, 70, 200};
    if (!fx->ops->seq_fork)
        return; /* optional */
    for (size_t l = 0; l < BORA_ARRAY_SIZE(lengths); l++) {
        const uint64_t at = lengths[l];
        bora_cache_seq *seq = seq_open(fx), *fork = NULL, *second = NULL;
        append_in_chunks(fx, seq, 0, at, SLACK, 1);
        assert_int_equal(fx->ops->seq_fork(fx->cache, seq, &fork, NULL), BORA_OK);
        append_in_chunks(fx, fork, at, at + 50, 5, 2);
        append_in_chunks(fx, seq, at, at + 30, 4, 3);
        assert_holds(fx, fork, at + 50, at + 50, at, 1, 2);
        assert_holds(fx, seq, at + 30, at + 30, at, 1, 3);
        assert_int_equal(fx->ops->seq_fork(fx->cache, fork, &second, NULL), BORA_OK);
        assert_int_equal(fx->ops->truncate(fx->cache, second, at + 50 - SLACK, NULL), BORA_OK);
        assert_holds(fx, fork, at + 50, at + 50, at, 1, 2);
        fx->ops->seq_close(fx->cache, fork);
        append_in_chunks(fx, second, at + 50 - SLACK, at + 50, 6, 2);
        assert_holds(fx, second, at + 50, at + 50, at, 1, 2);
        assert_holds(fx, seq, at + 30, at + 30, at, 1, 3);
        fx->ops->seq_close(fx->cache, seq);
        fx->ops->seq_close(fx->cache, second);
    }
}

static void forks(void **state)
{
    each_dtype(state, body_forks);
}

/* ---- memory ----------------------------------------------------------------------------------------------- */

/* Every request for memory is refused once, in every operation that may ask for some. */
static void body_refused_memory(fixture *fx)
{
    for (uint64_t n = 1;; n++) {
        suite_host_fail_at(&fx->host, n);
        bora_cache_seq *seq = NULL, *fork = NULL;
        bora_error err = {""};
        bora_status status = fx->ops->seq_open(fx->cache, &seq, &err);
        if (status != BORA_OK) {
            assert_int_equal(status, BORA_E_NOMEM);
            assert_null(seq);
            continue;
        }
        uint64_t end = 0;
        while (end < 200) {
            uint64_t bytes = fx->ops->bytes(fx->cache, seq);
            status = fx->ops->reserve(fx->cache, seq, end + SLACK, &err);
            if (status != BORA_OK) {
                assert_int_equal(status, BORA_E_NOMEM);
                assert_int_equal(fx->ops->bytes(fx->cache, seq), bytes);
                break;
            }
            append(fx, seq, end, SLACK, 1);
            end += SLACK;
        }
        if (end > 0)
            assert_holds(fx, seq, end, end, 0, 1, 1);
        if (status == BORA_OK && fx->ops->seq_fork) {
            status = fx->ops->seq_fork(fx->cache, seq, &fork, &err);
            assert_true(status == BORA_OK || (status == BORA_E_NOMEM && !fork));
            assert_holds(fx, seq, end, end, 0, 1, 1);
        }
        bool complete = status == BORA_OK;
        suite_host_fail_at(&fx->host, 0);
        append_in_chunks(fx, seq, end, end + 20, SLACK, 1); /* with memory again it goes on */
        assert_holds(fx, seq, end + 20, end + 20, 0, 1, 1);
        fx->ops->seq_close(fx->cache, fork);
        fx->ops->seq_close(fx->cache, seq);
        if (complete)
            break;
    }
}

static void refused_memory(void **state)
{
    each_dtype(state, body_refused_memory);
}

static void create_refused_memory(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    suite_host host;
    suite_host_init(&host, 1);
    bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = N_LAYERS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .dtype = bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16,
        .slack = SLACK,
        .max_positions = MAX_POSITIONS,
        .windows = windows,
    };
    bora_status status = BORA_E_NOMEM;
    for (uint64_t n = 1; status != BORA_OK; n++) {
        bora_cache *cache = NULL;
        suite_host_fail_at(&host, n);
        status = ops->create(&host.table, &shape, &cache, NULL);
        assert_true(status == BORA_OK ? cache != NULL : status == BORA_E_NOMEM && !cache);
        ops->destroy(cache);
        assert_int_equal(atomic_load(&host.n_blocks), 0);
    }
    suite_host_fail_at(&host, 0);
    suite_host_release(&host);
}

/* A young sequence is small, and with windows an old one stops growing. */
static void bytes_have_a_bound(void **state)
{
    static const uint32_t wide[N_LAYERS] = {300, 300, 300, 300};
    uint32_t dtype = bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16;
    fixture fx;
    fixture_init(&fx, state, dtype, wide);
    bora_cache_seq *seq = seq_open(&fx);
    const uint64_t whole = 2ull * N_LAYERS * (300 + SLACK) * ROW * fx.element_size;
    append_in_chunks(&fx, seq, 0, 10, SLACK, 1);
    assert_true(fx.ops->bytes(fx.cache, seq) >= 2ull * N_LAYERS * 10 * ROW * fx.element_size);
    assert_true(fx.ops->bytes(fx.cache, seq) < whole / 2);
    append_in_chunks(&fx, seq, 10, 400, SLACK, 1);
    uint64_t full = fx.ops->bytes(fx.cache, seq);
    assert_true(full >= whole);
    append_in_chunks(&fx, seq, 400, MAX_POSITIONS, SLACK, 1);
    assert_true(fx.ops->bytes(fx.cache, seq) <= full + whole / 4); /* pages may come and go at the edges */
    fx.ops->seq_close(fx.cache, seq);
    fixture_release(&fx);
}

/* ---- limits and life -------------------------------------------------------------------------------------- */

static void body_limits(fixture *fx)
{
    bora_cache_seq *seq = seq_open(fx);
    bora_error err = {""};
    assert_int_equal(fx->ops->reserve(fx->cache, seq, MAX_POSITIONS + 1, &err), BORA_E_LIMIT);
    assert_int_equal(fx->ops->reserve(fx->cache, seq, UINT64_MAX, &err), BORA_E_LIMIT);
    assert_true(err.message[0] != '\0');
    append_in_chunks(fx, seq, 0, MAX_POSITIONS, SLACK, 1);
    assert_holds(fx, seq, MAX_POSITIONS, MAX_POSITIONS, 0, 1, 1);
    fx->ops->seq_close(fx->cache, seq);
}

static void limits(void **state)
{
    each_dtype(state, body_limits);
}

static void wrong_shapes(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    suite_host host;
    suite_host_init(&host, 1);
    const bora_cache_shape good = {
        .struct_size = sizeof good,
        .n_layers = N_LAYERS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .dtype = BORA_DTYPE_F32,
        .slack = SLACK,
        .max_positions = MAX_POSITIONS,
        .windows = windows,
    };
    bora_cache_shape bad[5] = {good, good, good, good, good};
    bad[0].struct_size = 8;
    bad[1].dtype = 77;
    bad[2].n_layers = 0;
    bad[3].head_dim = 0;
    bad[4].slack = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        bora_cache *cache = NULL;
        bora_error err = {""};
        assert_int_not_equal(ops->create(&host.table, &bad[i], &cache, &err), BORA_OK);
        assert_null(cache);
        assert_true(err.message[0] != '\0');
    }
    suite_host_release(&host);
}

static void teardown(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    fixture fx;
    uint32_t dtype = bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(BORA_DTYPE_F32) ? BORA_DTYPE_F32 : BORA_DTYPE_F16;
    fixture_init(&fx, state, dtype, windows);
    bora_cache_seq *empty = seq_open(&fx);
    ops->seq_close(fx.cache, empty);
    ops->seq_close(fx.cache, NULL);
    ops->destroy(NULL);
    for (int i = 0; i < 2; i++) /* close may come twice */
        if (ops->close)
            ops->close(fx.cache);
    fixture_release(&fx);
}

/* Halves: rounding to nearest even, subnormals, overflow, signed zeros, NaN. */
static void halves(void **state)
{
    static const float special[ROW] = {0.0f,       -0.0f,    1.0f,       65504.0f,   65519.9f,
                                       65520.0f,   -1e30f,   INFINITY,   NAN,        0x1p-24f,
                                       0x1.8p-24f, 0x1p-25f, 0x1.8p-25f, 0x1.002p0f, -0x1.ffep-15f};
    if (!(bora_plugin_dtypes(*state) & BORA_DTYPE_BIT(BORA_DTYPE_F16)))
        return; /* it keeps no halves */
    fixture fx;
    fixture_init(&fx, state, BORA_DTYPE_F16, windows);
    bora_cache_seq *seq = seq_open(&fx);
    assert_int_equal(fx.ops->reserve(fx.cache, seq, MAX_POSITIONS, NULL), BORA_OK);
    uint64_t random = 7;
    for (uint64_t p = 0; p < MAX_POSITIONS; p++) {
        float row[ROW];
        for (size_t i = 0; i < ROW; i++) {
            uint32_t bits = (uint32_t)suite_random(&random);
            if (p % 2) /* exponents around the range of a half */
                bits = (bits & 0x807fffffu) | (uint32_t)(98 + (bits >> 8) % 50) << 23;
            memcpy(&row[i], p == 0 ? (const void *)&special[i] : &bits, sizeof row[i]);
        }
        fx.ops->append(fx.cache, seq, 0, p, 1, row, row);
        bora_kv_span span;
        assert_int_equal(fx.ops->spans(fx.cache, seq, 0, p, p + 1, 1, &span), 1);
        for (size_t i = 0; i < ROW; i++) {
            uint16_t is = ((const uint16_t *)span.k)[i / HEAD_DIM * span.head_stride + i % HEAD_DIM];
            if (isnan(row[i]))
                assert_true((is & 0x7fffu) > 0x7c00u);
            else
                assert_int_equal(is, bora_f32_to_f16(row[i]));
        }
    }
    fx.ops->seq_close(fx.cache, seq);
    fixture_release(&fx);
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST(wraps),
        SUITE_TEST(sequences_do_not_mix),
        SUITE_TEST(truncates),
        SUITE_TEST(truncates_uneven_layers),
        SUITE_TEST(truncates_without_windows),
        SUITE_TEST(pages_round_trip),
        SUITE_TEST(pages_of_the_window_only),
        SUITE_TEST(pages_not_kept),
        SUITE_TEST(forks),
        SUITE_TEST(refused_memory),
        SUITE_TEST(create_refused_memory),
        SUITE_TEST(bytes_have_a_bound),
        SUITE_TEST(limits),
        SUITE_TEST(wrong_shapes),
        SUITE_TEST(teardown),
        SUITE_TEST(halves),
    };
    return suite_run(BORA_PLUGIN_CACHE, tests, BORA_ARRAY_SIZE(tests));
}
