/* Every cache plugin against cache-ring, the reference: after the same operations, chosen by chance, it holds at least
 * what ring holds, bit for bit, and allows what ring allows. And attention plugins that promise the same bits whatever
 * the cut compute the same from either's spans. */
#include "suite.h"

#include "model/blocks.h"

#define N_LAYERS      6u
#define N_KV_HEADS    2u
#define SLACK         100u /* so that what is beyond the window is a whole page */
#define MAX_POSITIONS 1200u
#define N_SEQS        4u
#define PAGE          64u

/* Classes of three layers, of two and of one, mixed. */
static const uint32_t windows[N_LAYERS] = {70, 0, 70, 1, 0, 70};

static bora_plugin_library *load(uint32_t kind, const char *name)
{
    const char *folder = BORA_BUILD_DIR "/lib/bora/plugins";
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    bora_error err = {""};
    char *path = NULL;
    bora_plugin_library *library = NULL;
    bora_status status = bora_plugin_find(kind, name, folder, &path, &err);
    if (status == BORA_OK)
        status = bora_plugin_load(path, kind, &log, &library, &err);
    bora_free(path);
    if (status != BORA_OK)
        fail_msg("%s: %s", name, err.message);
    return library;
}

static size_t element_bytes(uint32_t dtype, size_t n)
{
    size_t size = 0;
    assert_true(bora_block_row_size(dtype, n, &size));
    return size;
}

/* ---- the same history in two caches ----------------------------------------------------------------------- */

typedef struct twin {
    bora_cache_seq *ring, *other;
    uint64_t end, furthest; /* furthest: of any layer, ever */
    bool is_partial;        /* came through pages, some of which were no longer whole */
} twin;

typedef struct twins {
    suite_host host;
    const bora_cache_ops *ring_ops, *ops;
    bora_cache *ring, *cache;
    uint32_t dtype, head_dim;
    size_t row_size; /* bytes of a position's keys */
    uint64_t random;
    twin seqs[N_SEQS];
} twins;

static uint64_t below(twins *t, uint64_t n)
{
    return suite_random(&t->random) % n;
}

static void twins_open(twins *t, twin *seq)
{
    assert_int_equal(t->ring_ops->seq_open(t->ring, &seq->ring, NULL), BORA_OK);
    assert_int_equal(t->ops->seq_open(t->cache, &seq->other, NULL), BORA_OK);
    seq->end = seq->furthest = 0;
    seq->is_partial = false;
}

static void twins_close(twins *t, twin *seq)
{
    t->ring_ops->seq_close(t->ring, seq->ring);
    t->ops->seq_close(t->cache, seq->other);
    *seq = (twin){NULL, NULL, 0, 0, false};
}

static void twins_reserve(twins *t, twin *seq, uint64_t end)
{
    assert_int_equal(t->ring_ops->reserve(t->ring, seq->ring, end, NULL), BORA_OK);
    assert_int_equal(t->ops->reserve(t->cache, seq->other, end, NULL), BORA_OK);
}

/* Positions of the first n_layers layers. */
static void twins_append(twins *t, twin *seq, uint32_t n, uint32_t n_layers)
{
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        const size_t size = (size_t)n * N_KV_HEADS * t->head_dim;
        float *k = suite_random_floats(&t->random, size), *v = suite_random_floats(&t->random, size);
        t->ring_ops->append(t->ring, seq->ring, layer, seq->end, n, k, v);
        t->ops->append(t->cache, seq->other, layer, seq->end, n, k, v);
        bora_free(k);
        bora_free(v);
    }
    if (n_layers > 0 && seq->end + n > seq->furthest)
        seq->furthest = seq->end + n;
    if (n_layers == N_LAYERS)
        seq->end += n;
}

/* Whatever ring exports, the other exports, and it is the same: but for what layers that were not part of a cancelled
 * step have kept beyond what the others could. */
static void assert_same(twins *t, const twin *seq)
{
    unsigned char *a = bora_alloc(2 * t->row_size), *b = bora_alloc(2 * t->row_size);
    assert_true(a && b);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        const uint64_t capacity = (uint64_t)windows[layer] + SLACK;
        const uint64_t oldest = windows[layer] && seq->furthest > capacity ? seq->furthest - capacity : 0;
        for (uint64_t p = seq->end; p-- > oldest;) {
            if (t->ring_ops->export_page(t->ring, seq->ring, layer, p, 1, a, NULL) != BORA_OK)
                break;
            if (t->ops->export_page(t->cache, seq->other, layer, p, 1, b, NULL) != BORA_OK)
                fail_msg("layer %u of %u positions: ring has position %u", layer, (uint32_t)seq->end, (uint32_t)p);
            assert_memory_equal(a, b, 2 * t->row_size);
        }
    }
    bora_free(a);
    bora_free(b);
}

static void truncate_some(twins *t, twin *seq)
{
    const uint64_t back = below(t, 8) ? below(t, SLACK + 30) : below(t, seq->end + 1);
    const uint64_t end = seq->end > back ? seq->end - back : 0;
    const bora_status ring = t->ring_ops->truncate(t->ring, seq->ring, end, NULL);
    const bora_status other = t->ops->truncate(t->cache, seq->other, end, NULL);
    if (seq->furthest - end <= SLACK && !seq->is_partial)
        assert_int_equal(ring, BORA_OK);
    assert_true(other == ring || (other == BORA_OK && ring == BORA_E_LIMIT));
    if (ring == BORA_OK)
        seq->end = end;
    else if (other == BORA_OK) /* they have gone different ways */
        twins_close(t, seq);
}

/* A step that was cancelled: some layers have the chunk, others do not. */
static void cancel_some(twins *t, twin *seq)
{
    const uint32_t n = (uint32_t)below(t, SLACK) + 1;
    if (seq->end + n > MAX_POSITIONS)
        return;
    twins_reserve(t, seq, seq->end + n);
    twins_append(t, seq, n, (uint32_t)below(t, N_LAYERS));
    assert_int_equal(t->ring_ops->truncate(t->ring, seq->ring, seq->end, NULL), BORA_OK);
    assert_int_equal(t->ops->truncate(t->cache, seq->other, seq->end, NULL), BORA_OK);
}

static void fork_some(twins *t, const twin *seq, twin *ret_fork)
{
    assert_int_equal(t->ring_ops->seq_fork(t->ring, seq->ring, &ret_fork->ring, NULL), BORA_OK);
    assert_int_equal(t->ops->seq_fork(t->cache, seq->other, &ret_fork->other, NULL), BORA_OK);
    ret_fork->end = seq->end;
    ret_fork->is_partial = seq->is_partial;
    ret_fork->furthest = seq->furthest;
}

/* Whether ring has whole pages of all that the sequence needs to go on. */
static bool has_window_in_pages(twins *t, const twin *seq, unsigned char *page)
{
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        const uint64_t needed = windows[layer] && seq->end >= windows[layer] ? seq->end - windows[layer] + 1 : 0;
        const uint64_t last = (seq->end - 1) / PAGE * PAGE,
                       first = needed / PAGE * PAGE < last ? needed / PAGE * PAGE : last;
        if (t->ring_ops->export_page(t->ring, seq->ring, layer, first, (uint32_t)(seq->end - first), page, NULL) !=
            BORA_OK)
            return false;
    }
    return true;
}

/* Through pages into new sequences, layer by layer, from as far back as ring has whole pages. */
static void carry_over(twins *t, twin *seq)
{
    unsigned char *page = bora_alloc(2 * MAX_POSITIONS * t->row_size);
    assert_non_null(page);
    if (!has_window_in_pages(t, seq, page)) {
        bora_free(page);
        return;
    }
    twin copy;
    twins_open(t, &copy);
    twins_reserve(t, &copy, seq->end);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        for (uint64_t first = 0; first < seq->end; first += PAGE) {
            const uint32_t n = seq->end - first < PAGE ? (uint32_t)(seq->end - first) : PAGE;
            if (t->ring_ops->export_page(t->ring, seq->ring, layer, first, n, page, NULL) != BORA_OK)
                continue;
            assert_int_equal(t->ring_ops->import_page(t->ring, copy.ring, layer, first, n, page, NULL), BORA_OK);
            assert_int_equal(t->ops->import_page(t->cache, copy.other, layer, first, n, page, NULL), BORA_OK);
        }
    bora_free(page);
    copy.end = copy.furthest = seq->end;
    copy.is_partial = true;
    assert_same(t, &copy);
    twins_close(t, seq);
    *seq = copy;
}

static void twins_step(twins *t)
{
    twin *seq = &t->seqs[below(t, N_SEQS)], *other = &t->seqs[below(t, N_SEQS)];
    const uint64_t dice = below(t, 100);
    if (!seq->ring)
        twins_open(t, seq);
    else if (dice < 60) {
        const uint32_t n = (uint32_t)below(t, SLACK) + 1;
        if (seq->end + n <= MAX_POSITIONS) {
            const uint64_t ahead = below(t, 4) ? 0 : below(t, MAX_POSITIONS - seq->end - n + 1);
            twins_reserve(t, seq, seq->end + n + ahead);
            twins_append(t, seq, n, N_LAYERS);
        }
    } else if (dice < 75)
        truncate_some(t, seq);
    else if (dice < 85)
        cancel_some(t, seq);
    else if (dice < 92 && !other->ring && t->ops->seq_fork)
        fork_some(t, seq, other);
    else if (dice < 95 && seq->end > 0)
        carry_over(t, seq);
    else if (dice < 97)
        twins_close(t, seq);
    if (seq->ring)
        assert_same(t, seq);
    if (other->ring)
        assert_same(t, other);
}

static void same_as_ring_in(void **state, uint32_t dtype, uint32_t head_dim, uint64_t seed)
{
    bora_plugin_library *ring = load(BORA_PLUGIN_CACHE, "ring");
    twins t = {.dtype = dtype, .head_dim = head_dim, .random = seed};
    suite_host_init(&t.host, 1);
    t.ring_ops = bora_plugin_cache_ops(ring);
    t.ops = bora_plugin_cache_ops(*state);
    t.row_size = N_KV_HEADS * element_bytes(dtype, head_dim);
    const bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = N_LAYERS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = head_dim,
        .dtype = dtype,
        .slack = SLACK,
        .max_positions = MAX_POSITIONS,
        .windows = windows,
    };
    assert_int_equal(t.ring_ops->create(&t.host.table, &shape, &t.ring, NULL), BORA_OK);
    assert_int_equal(t.ops->create(&t.host.table, &shape, &t.cache, NULL), BORA_OK);
    for (uint32_t i = 0; i < 700; i++)
        twins_step(&t);
    for (uint32_t i = 0; i < N_SEQS; i++)
        twins_close(&t, &t.seqs[i]);
    t.ring_ops->destroy(t.ring);
    t.ops->destroy(t.cache);
    suite_host_release(&t.host);
    bora_plugin_unload(ring);
}

static bool keeps_all(const bora_plugin_library *library)
{
    const uint32_t all =
        BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_F16) | BORA_DTYPE_BIT(BORA_DTYPE_Q8_0);
    return (bora_plugin_dtypes(library) & all) == all;
}

static void same_as_ring(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        same_as_ring_in(state, BORA_DTYPE_F32, 2, seed);
    same_as_ring_in(state, BORA_DTYPE_F16, 9, 4);
    same_as_ring_in(state, BORA_DTYPE_Q8_0, 32, 5);
}

/* ---- the same attention ----------------------------------------------------------------------------------- */

#define N_HEADS     8u
#define ATTEND_ROWS 40u

typedef struct attended {
    bora_cache *cache;
    bora_cache_seq *seq;
    bora_kv_span spans[BORA_CACHE_SPANS_MAX];
} attended;

static void fill(const bora_cache_ops *ops, suite_host *host, uint32_t dtype, uint32_t head_dim, uint32_t window,
                 uint64_t end, attended *ret)
{
    const bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = 1,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = head_dim,
        .dtype = dtype,
        .slack = 100,
        .max_positions = end,
        .windows = &window,
    };
    assert_int_equal(ops->create(&host->table, &shape, &ret->cache, NULL), BORA_OK);
    assert_int_equal(ops->seq_open(ret->cache, &ret->seq, NULL), BORA_OK);
    assert_int_equal(ops->reserve(ret->cache, ret->seq, end, NULL), BORA_OK);
    uint64_t random = 21;
    for (uint64_t p = 0; p < end;) {
        const uint32_t n = end - p < 90 ? (uint32_t)(end - p) : 90;
        const size_t size = (size_t)n * N_KV_HEADS * head_dim;
        float *k = suite_random_floats(&random, size), *v = suite_random_floats(&random, size);
        ops->append(ret->cache, ret->seq, 0, p, n, k, v);
        bora_free(k);
        bora_free(v);
        p += n;
    }
}

static void attend(const bora_attention_ops *ops, bora_attention *attention, const bora_cache_ops *cache_ops,
                   attended *a, uint32_t window, uint64_t end, uint32_t n, const float *q, float *out)
{
    const uint64_t first = end - n, from = window && first + 1 > window ? first + 1 - window : 0;
    bora_attention_seq seq = {.q = q, .out = out, .first = first, .n = n, .window = window, .spans = a->spans};
    seq.n_spans = cache_ops->spans(a->cache, a->seq, 0, from, end, BORA_CACHE_SPANS_MAX, a->spans);
    assert_true(seq.n_spans > 0 && seq.n_spans <= BORA_CACHE_SPANS_MAX);
    bora_error err = {""};
    if (ops->attend(attention, 1, &seq, &err) != BORA_OK)
        fail_msg("attend: %s", err.message);
}

static void same_attention_with(void **state, const char *name, uint32_t n_threads, uint32_t dtype, uint32_t head_dim)
{
    static const struct {
        uint64_t end;
        uint32_t window;
    } cases[] = {{1, 0}, {63, 0}, {130, 0}, {1100, 0}, {4200, 0}, {700, 100}, {2600, 2000}, {5000, 3000}};
    bora_plugin_library *ring_library = load(BORA_PLUGIN_CACHE, "ring"), *library = load(BORA_PLUGIN_ATTENTION, name);
    const bora_cache_ops *ring_ops = bora_plugin_cache_ops(ring_library), *ops = bora_plugin_cache_ops(*state);
    const bora_attention_ops *attention_ops = bora_plugin_attention_ops(library);
    suite_host host;
    suite_host_init(&host, n_threads);
    const bora_attention_shape shape = {
        .struct_size = sizeof shape,
        .n_heads = N_HEADS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = head_dim,
        .max_tokens = ATTEND_ROWS,
        .kv_dtype = dtype,
    };
    bora_attention *attention = NULL;
    assert_int_equal(attention_ops->create(&host.table, &shape, &attention, NULL), BORA_OK);
    uint64_t random = 8;
    const size_t size = (size_t)ATTEND_ROWS * N_HEADS * head_dim;
    float *q = suite_random_floats(&random, size), *a = bora_alloc(size * sizeof *a), *b = bora_alloc(size * sizeof *b);
    attended *ring = bora_alloc(sizeof *ring), *other = bora_alloc(sizeof *other);
    assert_true(a && b && ring && other);
    for (size_t c = 0; c < BORA_ARRAY_SIZE(cases); c++) {
        const uint64_t end = cases[c].end;
        const uint32_t window = cases[c].window;
        fill(ring_ops, &host, dtype, head_dim, window, end, ring);
        fill(ops, &host, dtype, head_dim, window, end, other);
        static const uint32_t rows[] = {1, 2, ATTEND_ROWS};
        for (size_t r = 0; r < BORA_ARRAY_SIZE(rows) && rows[r] <= end; r++) {
            attend(attention_ops, attention, ring_ops, ring, window, end, rows[r], q, a);
            attend(attention_ops, attention, ops, other, window, end, rows[r], q, b);
            assert_memory_equal(a, b, (size_t)rows[r] * N_HEADS * head_dim * sizeof *a);
        }
        ring_ops->seq_close(ring->cache, ring->seq);
        ring_ops->destroy(ring->cache);
        ops->seq_close(other->cache, other->seq);
        ops->destroy(other->cache);
    }
    bora_free(q);
    bora_free(a);
    bora_free(b);
    bora_free(ring);
    bora_free(other);
    attention_ops->destroy(attention);
    suite_host_release(&host);
    bora_plugin_unload(library);
    bora_plugin_unload(ring_library);
}

static void same_attention(void **state)
{
    static const char *const names[] = {"flash", "reference"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++)
        for (uint32_t threads = 1; threads <= (i == 0 ? SUITE_THREADS : 1); threads += SUITE_THREADS - 1) {
            same_attention_with(state, names[i], threads, BORA_DTYPE_F16, i == 0 ? 128 : 8);
            same_attention_with(state, names[i], threads, BORA_DTYPE_Q8_0, i == 0 ? 64 : 32);
            same_attention_with(state, names[i], threads, BORA_DTYPE_F32, i == 0 ? 24 : 4);
        }
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST_IF(same_as_ring, keeps_all),
        SUITE_TEST_IF(same_attention, keeps_all),
    };
    return suite_run(BORA_PLUGIN_CACHE, tests, BORA_ARRAY_SIZE(tests));
}
