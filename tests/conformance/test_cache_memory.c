/* Every cache plugin and the memory it asks of the host: never more than seq_size says, nothing kept that is not
 * needed, and a refusal at any step leaves everything as it was. */
#include "suite.h"

#define N_KV_HEADS    2u
#define HEAD_DIM      8u
#define ROW           (N_KV_HEADS * HEAD_DIM)
#define N_LAYERS      5u
#define SLACK         70u
#define MAX_POSITIONS 3000u
#define PAGE          64u

/* Two classes of several layers, and one alone. */
static const uint32_t windows[N_LAYERS] = {200, 0, 200, 0, 9};

#define HEADER 64u /* before each block: its size */

typedef struct fixture {
    suite_host host;
    const bora_cache_ops *ops;
    bora_cache *cache;
    uint64_t bytes, peak; /* handed out now, and at most since assert_peak */
    uint64_t base;        /* of them the cache's own */
} fixture;

/* The suite's, counted in bytes. The host is the fixture's first member. */
static void *counting_alloc(const bora_host *host, size_t size)
{
    fixture *fx = host->self;
    unsigned char *memory = suite_alloc(host, size + HEADER);
    if (!memory)
        return NULL;
    memcpy(memory, &size, sizeof size);
    fx->bytes += size;
    fx->peak = fx->bytes > fx->peak ? fx->bytes : fx->peak;
    return memory + HEADER;
}

static void counting_free(const bora_host *host, void *memory)
{
    fixture *fx = host->self;
    size_t size;
    if (!memory)
        return;
    unsigned char *block = (unsigned char *)memory - HEADER;
    memcpy(&size, block, sizeof size);
    fx->bytes -= size;
    suite_free(host, block);
}

static void fixture_init(fixture *fx, void **state)
{
    memset(fx, 0, sizeof *fx);
    suite_host_init(&fx->host, 1);
    assert_ptr_equal(fx->host.table.self, fx);
    fx->host.table.alloc = counting_alloc;
    fx->host.table.free = counting_free;
    fx->ops = bora_plugin_cache_ops(*state);
    const bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = N_LAYERS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .dtype = BORA_DTYPE_F32,
        .slack = SLACK,
        .max_positions = MAX_POSITIONS,
        .windows = windows,
    };
    bora_error err = {""};
    if (fx->ops->create(&fx->host.table, &shape, &fx->cache, &err) != BORA_OK)
        fail_msg("create: %s", err.message);
    fx->base = fx->bytes;
}

static void fixture_release(fixture *fx)
{
    assert_int_equal(fx->bytes, fx->base); /* without sequences nothing is kept */
    fx->ops->destroy(fx->cache);
    suite_host_release(&fx->host);
}

static bora_cache_seq *seq_open(fixture *fx)
{
    bora_cache_seq *seq = NULL;
    assert_int_equal(fx->ops->seq_open(fx->cache, &seq, NULL), BORA_OK);
    return seq;
}

static bora_cache_seq *seq_fork(fixture *fx, const bora_cache_seq *seq)
{
    bora_cache_seq *fork = NULL;
    assert_int_equal(fx->ops->seq_fork(fx->cache, seq, &fork, NULL), BORA_OK);
    return fork;
}

static float value_at(uint32_t layer, uint64_t position, size_t i, uint32_t salt)
{
    uint64_t where = ((salt * 16u + layer) * UINT64_C(100000) + position) * ROW + i;
    return (float)(suite_random(&where) >> 40) * 0x1p-20f - 8;
}

/* Values are keys, negated. */
static void store(fixture *fx, bora_cache_seq *seq, uint64_t first, uint32_t n, uint32_t salt)
{
    float k[SLACK * ROW], v[SLACK * ROW];
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        for (size_t i = 0; i < (size_t)n * ROW; i++) {
            k[i] = value_at(layer, first + i / ROW, i % ROW, salt);
            v[i] = -k[i];
        }
        fx->ops->append(fx->cache, seq, layer, first, n, k, v);
    }
}

static void append(fixture *fx, bora_cache_seq *seq, uint64_t from, uint64_t to, uint32_t chunk, uint32_t salt)
{
    for (uint32_t n; from < to; from += n) {
        n = to - from < chunk ? (uint32_t)(to - from) : chunk;
        assert_int_equal(fx->ops->reserve(fx->cache, seq, from + n, NULL), BORA_OK);
        store(fx, seq, from, n, salt);
    }
}

static uint64_t oldest_kept(uint32_t layer, uint64_t end)
{
    const uint64_t capacity = (uint64_t)windows[layer] + SLACK;
    return windows[layer] && end > capacity ? end - capacity : 0;
}

/* What the position end attends to, at least. */
static uint64_t oldest_needed(uint32_t layer, uint64_t end)
{
    return windows[layer] && end >= windows[layer] ? end - windows[layer] + 1 : 0;
}

/* Positions below split carry the salt before, the others after; and nothing is held from end on. */
static void assert_holds(fixture *fx, const bora_cache_seq *seq, uint64_t end, uint64_t split, uint32_t before,
                         uint32_t after)
{
    static bora_kv_span spans[BORA_CACHE_SPANS_MAX];
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        uint64_t next = oldest_needed(layer, end);
        const uint32_t n = fx->ops->spans(fx->cache, seq, layer, next, end, BORA_CACHE_SPANS_MAX, spans);
        assert_true(n >= 1 && n <= BORA_CACHE_SPANS_MAX);
        assert_int_equal(fx->ops->spans(fx->cache, seq, layer, next, end + 1, BORA_CACHE_SPANS_MAX, &spans[n]), 0);
        for (uint32_t s = 0; s < n; s++) {
            assert_int_equal(spans[s].first, next);
            for (size_t i = 0; i < (size_t)spans[s].n * ROW; i++) {
                const uint64_t position = next + i / ROW;
                const size_t at =
                    i / ROW * spans[s].position_stride + i % ROW / HEAD_DIM * spans[s].head_stride + i % HEAD_DIM;
                const float should = value_at(layer, position, i % ROW, position < split ? before : after);
                if (((const float *)spans[s].k)[at] != should || ((const float *)spans[s].v)[at] != -should)
                    fail_msg("layer %u, position %u: not what was stored", layer, (uint32_t)position);
            }
            next += spans[s].n;
        }
        assert_int_equal(next, end);
    }
}

/* ---- seq_size --------------------------------------------------------------------------------------------- */

static bool says_size(const bora_plugin_library *library)
{
    return bora_plugin_cache_ops(library)->seq_size;
}

static bool is_paged(const bora_plugin_library *library)
{
    return strcmp(bora_plugin_name(library), "paged") == 0;
}

static void grow_checked(fixture *fx, uint64_t to, uint32_t chunk)
{
    bora_cache_seq *seq = seq_open(fx);
    fx->peak = fx->bytes;
    for (uint64_t end = 0; end < to;) {
        const uint64_t next = to - end < chunk ? to : end + chunk;
        append(fx, seq, end, next, SLACK, 0);
        end = next;
        assert_true(fx->peak - fx->base <= fx->ops->seq_size(fx->cache, end));
        assert_true(fx->ops->bytes(fx->cache, seq) <= fx->peak - fx->base);
    }
    assert_true(fx->ops->seq_size(fx->cache, to) <= 3 * (fx->peak - fx->base)); /* of some use */
    fx->ops->seq_close(fx->cache, seq);
}

static void size_is_a_bound(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    static const uint32_t chunks[] = {1, 7, 64, SLACK};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(chunks); i++)
        grow_checked(&fx, 1500, chunks[i]);
    uint64_t before = 0;
    for (uint64_t n = 0; n <= MAX_POSITIONS; n++) { /* never less for more */
        const uint64_t size = fx.ops->seq_size(fx.cache, n);
        assert_true(size >= before);
        before = size;
    }
    assert_int_equal(fx.ops->seq_size(fx.cache, UINT64_MAX), before);
    /* All at once: reserved far ahead. */
    bora_cache_seq *seq = seq_open(&fx);
    fx.peak = fx.bytes;
    assert_int_equal(fx.ops->reserve(fx.cache, seq, 2000, NULL), BORA_OK);
    for (uint64_t end = 0; end < 2000; end += 50)
        store(&fx, seq, end, 50, 0);
    assert_holds(&fx, seq, 2000, 0, 0, 0);
    assert_true(fx.peak - fx.base <= fx.ops->seq_size(fx.cache, 2000));
    fx.ops->seq_close(fx.cache, seq);
    fixture_release(&fx);
}

#define N_SEQS 6u

/* Sequences come, fork, grow, go back and go: all of them together stay below the sum of their sizes. */
static void size_is_a_bound_for_all(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    bora_cache_seq *seqs[N_SEQS] = {NULL};
    uint64_t ends[N_SEQS] = {0}, most[N_SEQS] = {0}, random = 11;
    for (uint32_t step = 0; step < 3000; step++) {
        const uint32_t s = (uint32_t)(suite_random(&random) % N_SEQS), other = (s + 1) % N_SEQS;
        const uint64_t dice = suite_random(&random) % 100, n = suite_random(&random) % SLACK + 1;
        fx.peak = fx.bytes;
        if (!seqs[s]) {
            seqs[s] = seq_open(&fx);
            ends[s] = most[s] = 0;
        } else if (dice < 5 && fx.ops->seq_fork && !seqs[other] && ends[s] > 0) {
            seqs[other] = seq_fork(&fx, seqs[s]);
            ends[other] = most[other] = ends[s];
        } else if (dice < 8) {
            fx.ops->seq_close(fx.cache, seqs[s]);
            seqs[s] = NULL;
        } else if (dice < 15) {
            const uint64_t end = ends[s] > n ? ends[s] - n : ends[s];
            if (fx.ops->truncate(fx.cache, seqs[s], end, NULL) == BORA_OK)
                ends[s] = end;
        } else if (ends[s] + n <= MAX_POSITIONS) {
            append(&fx, seqs[s], ends[s], ends[s] + n, SLACK, 0);
            ends[s] += n;
            assert_holds(&fx, seqs[s], ends[s], 0, 0, 0);
        }
        uint64_t size = 0;
        for (uint32_t i = 0; i < N_SEQS; i++) {
            most[i] = ends[i] > most[i] ? ends[i] : most[i];
            size += seqs[i] ? fx.ops->seq_size(fx.cache, most[i]) : 0;
        }
        if (seqs[s]) /* what one that closed had is given back while it closes */
            assert_true(fx.peak - fx.base <= size);
    }
    for (uint32_t i = 0; i < N_SEQS; i++)
        fx.ops->seq_close(fx.cache, seqs[i]);
    fixture_release(&fx);
}

/* ---- what is given back ----------------------------------------------------------------------------------- */

/* With windows alone a sequence stops asking; without, taking back gives back. */
static void pages_are_returned(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    bora_cache_seq *seq = seq_open(&fx);
    const uint64_t position = 2u * ROW * sizeof(float);
    append(&fx, seq, 0, 2000, SLACK, 0);
    /* Two layers keep everything; the windows no more than window + slack, in pages of which two are cut. */
    const uint64_t kept = 2 * 2000 + 2 * (200 + SLACK + 2 * PAGE) + (9 + SLACK + 2 * PAGE);
    assert_true(fx.bytes - fx.base <= (kept + 2 * PAGE * 2) * position * 17 / 16 + 4096);
    const uint64_t full = fx.bytes;
    append(&fx, seq, 2000, 2300, SLACK, 0);
    assert_int_equal(fx.ops->truncate(fx.cache, seq, 2300 - SLACK, NULL), BORA_OK);
    assert_true(fx.bytes <= full + 2 * (300 + PAGE) * position * 17 / 16);
    bora_cache_seq *fork = seq_fork(&fx, seq);
    fx.ops->seq_close(fx.cache, seq);
    assert_holds(&fx, fork, 2300 - SLACK, 0, 0, 0);
    fx.ops->seq_close(fx.cache, fork);
    assert_int_equal(fx.bytes, fx.base);
    fixture_release(&fx);
}

/* A fork asks for a table, and shares until one of the two writes; what then shows in one does not in the other. */
static void forks_share(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    static const uint64_t ends[] = {1, 64, 100, 640, 1999};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ends); i++) {
        const uint64_t end = ends[i];
        bora_cache_seq *seq = seq_open(&fx);
        append(&fx, seq, 0, end, SLACK, 1);
        const uint64_t before = fx.bytes, bytes = fx.ops->bytes(fx.cache, seq);
        bora_cache_seq *fork = seq_fork(&fx, seq);
        assert_true(fx.bytes - before <= 1024 + 3 * sizeof(void *) * (end / PAGE + 2));
        assert_true(fx.ops->bytes(fx.cache, fork) * 10 > bytes * 8); /* what they share counts in each */
        /* Neither may write before it has reserved: the page is not its own. */
        append(&fx, fork, end, end + 30, 3, 2);
        assert_holds(&fx, seq, end, end, 1, 1);
        append(&fx, seq, end, end + 90, 30, 3);
        assert_holds(&fx, fork, end + 30, end, 1, 2);
        assert_holds(&fx, seq, end + 90, end, 1, 3);
        fx.ops->seq_close(fx.cache, seq);
        assert_holds(&fx, fork, end + 30, end, 1, 2);
        append(&fx, fork, end + 30, end + 800, SLACK, 2);
        assert_holds(&fx, fork, end + 800, end, 1, 2);
        fx.ops->seq_close(fx.cache, fork);
    }
    fixture_release(&fx);
}

/* Many of one, at every offset in a page; a fork of a fork; gone in another order. */
static void forks_of_forks(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    bora_cache_seq *seqs[70] = {seq_open(&fx)};
    append(&fx, seqs[0], 0, 400, SLACK, 1);
    for (uint32_t i = 1; i < 70; i++) {
        seqs[i] = seq_fork(&fx, seqs[i / 2]);
        assert_int_equal(fx.ops->truncate(fx.cache, seqs[i], 400 - i, NULL), BORA_OK);
        append(&fx, seqs[i], 400 - i, 400, SLACK, 1);
    }
    for (uint32_t i = 0; i < 70; i++)
        append(&fx, seqs[i], 400, 400 + i + 1, 9, i + 2);
    for (uint32_t i = 0; i < 70; i++) {
        const uint32_t which = i * 37 % 70;
        assert_holds(&fx, seqs[which], 400 + which + 1, 400, 1, which + 2);
        fx.ops->seq_close(fx.cache, seqs[which]);
    }
    fixture_release(&fx);
}

static bool forks(const bora_plugin_library *library)
{
    return bora_plugin_cache_ops(library)->seq_fork;
}

/* ---- refusals --------------------------------------------------------------------------------------------- */

/* Whatever request is refused while a fork and its original go on: they are as they were, and it works afterwards. */
static void refused_after_fork(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    for (uint32_t far = 0; far < 2; far++) {
        bora_status status = BORA_E_NOMEM;
        for (uint64_t n = 1; status != BORA_OK; n++) {
            bora_cache_seq *seq = seq_open(&fx), *fork = NULL;
            append(&fx, seq, 0, 500, SLACK, 1);
            const uint64_t before = fx.bytes, own = fx.ops->bytes(fx.cache, seq);
            suite_host_fail_at(&fx.host, n);
            status = fx.ops->seq_fork(fx.cache, seq, &fork, NULL);
            if (status != BORA_OK) {
                assert_int_equal(status, BORA_E_NOMEM);
                assert_null(fork);
                assert_int_equal(fx.bytes, before);
                suite_host_fail_at(&fx.host, 0);
                fork = seq_fork(&fx, seq);
            } else {
                const uint64_t bytes = fx.bytes;
                status = fx.ops->reserve(fx.cache, fork, far ? 1500 : 501, NULL);
                if (status != BORA_OK) {
                    assert_int_equal(status, BORA_E_NOMEM);
                    assert_int_equal(fx.bytes, bytes);
                }
            }
            suite_host_fail_at(&fx.host, 0);
            assert_int_equal(fx.ops->bytes(fx.cache, seq), own);
            assert_holds(&fx, seq, 500, 0, 1, 1);
            assert_holds(&fx, fork, 500, 0, 1, 1);
            append(&fx, fork, 500, 560, 30, 2);
            append(&fx, seq, 500, 520, 20, 3);
            assert_holds(&fx, fork, 560, 500, 1, 2);
            assert_holds(&fx, seq, 520, 500, 1, 3);
            fx.ops->seq_close(fx.cache, fork);
            fx.ops->seq_close(fx.cache, seq);
            assert_int_equal(fx.bytes, fx.base);
        }
    }
    fixture_release(&fx);
}

/* Importing asks for nothing: what it needs is reserved. Refused reserves leave a sequence that can be reserved. */
static void refused_import(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    bora_cache_seq *seq = seq_open(&fx);
    append(&fx, seq, 0, 700, SLACK, 1);
    bora_status status = BORA_E_NOMEM;
    for (uint64_t n = 1; status != BORA_OK; n++) {
        bora_cache_seq *copy = seq_open(&fx);
        const uint64_t before = fx.bytes;
        suite_host_fail_at(&fx.host, n);
        status = fx.ops->reserve(fx.cache, copy, 700, NULL);
        if (status != BORA_OK) {
            assert_int_equal(status, BORA_E_NOMEM);
            assert_int_equal(fx.bytes, before);
            suite_host_fail_at(&fx.host, 0);
            assert_int_equal(fx.ops->reserve(fx.cache, copy, 700, NULL), BORA_OK);
        }
        suite_host_fail_at(&fx.host, 1);
        static float page[2 * PAGE * ROW];
        for (uint32_t layer = 0; layer < N_LAYERS; layer++)
            for (uint64_t first = (oldest_kept(layer, 700) + PAGE - 1) / PAGE * PAGE; first < 700; first += PAGE) {
                const uint32_t rows = 700 - first < PAGE ? (uint32_t)(700 - first) : PAGE;
                assert_int_equal(fx.ops->export_page(fx.cache, seq, layer, first, rows, page, NULL), BORA_OK);
                assert_int_equal(fx.ops->import_page(fx.cache, copy, layer, first, rows, page, NULL), BORA_OK);
            }
        suite_host_fail_at(&fx.host, 0);
        append(&fx, copy, 700, 900, SLACK, 1);
        append(&fx, copy, 900, 1300, 1, 1);
        assert_holds(&fx, copy, 1300, 0, 1, 1);
        fx.ops->seq_close(fx.cache, copy);
    }
    fx.ops->seq_close(fx.cache, seq);
    fixture_release(&fx);
}

/* ---- spans ------------------------------------------------------------------------------------------------ */

/* A context of more pages than the host first has room for. */
static void many_spans(void **state)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(*state);
    const uint64_t end = (BORA_CACHE_SPANS_MAX + 7) * PAGE;
    const uint32_t none = 0;
    suite_host host;
    suite_host_init(&host, 1);
    const bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = 1,
        .n_kv_heads = 1,
        .head_dim = 1,
        .dtype = BORA_DTYPE_F32,
        .slack = PAGE,
        .max_positions = end,
        .windows = &none,
    };
    bora_cache *cache = NULL;
    bora_cache_seq *seq = NULL;
    assert_int_equal(ops->create(&host.table, &shape, &cache, NULL), BORA_OK);
    assert_int_equal(ops->seq_open(cache, &seq, NULL), BORA_OK);
    assert_int_equal(ops->reserve(cache, seq, end, NULL), BORA_OK);
    for (uint64_t p = 0; p < end; p += PAGE) {
        float rows[PAGE];
        for (uint32_t i = 0; i < PAGE; i++)
            rows[i] = (float)(p + i);
        ops->append(cache, seq, 0, p, PAGE, rows, rows);
    }
    bora_kv_span *spans = bora_calloc(2 * BORA_CACHE_SPANS_MAX, sizeof *spans);
    assert_non_null(spans);
    uint32_t n = ops->spans(cache, seq, 0, 0, end, BORA_CACHE_SPANS_MAX, spans);
    assert_null(spans[BORA_CACHE_SPANS_MAX].k); /* at most n_max are written */
    assert_true(n < 2 * BORA_CACHE_SPANS_MAX);
    assert_int_equal(ops->spans(cache, seq, 0, 0, end, n, spans), n);
    uint64_t next = 0;
    for (uint32_t s = 0; s < n; s++) {
        assert_int_equal(spans[s].first, next);
        for (uint32_t i = 0; i < spans[s].n; i++, next++)
            assert_true(((const float *)spans[s].k)[i * spans[s].position_stride] == (float)next);
    }
    assert_int_equal(next, end);
    bora_free(spans);
    ops->seq_close(cache, seq);
    ops->destroy(cache);
    suite_host_release(&host);
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST_IF(size_is_a_bound, says_size),
        SUITE_TEST_IF(size_is_a_bound_for_all, says_size),
        SUITE_TEST_IF(pages_are_returned, is_paged),
        SUITE_TEST_IF(forks_share, is_paged),
        SUITE_TEST_IF(forks_of_forks, forks),
        SUITE_TEST_IF(refused_after_fork, forks),
        SUITE_TEST(refused_import),
        SUITE_TEST(many_spans),
    };
    return suite_run(BORA_PLUGIN_CACHE, tests, BORA_ARRAY_SIZE(tests));
}
