/* Rolling buffers in f32, [position][head], that break the rule named by MUTANT. */
#include "mutant.h"

enum {
    sound,
    another_name,
    ignores_size,  /* of the shape, and reads all of it */
    keeps_windows, /* the caller's list, beyond create */
    leaks_when_refused,
    leaks_sequences,
    no_slack,        /* capacity is the window */
    half_reserved,   /* a reserve that failed has changed something */
    fork_shorter,    /* by the first layer's last position */
    fork_forgets,    /* how far the original once was */
    mixes_sequences, /* of one cache, in the last layer */
    truncates_one,   /* layer only */
    truncates_all,   /* also what is overwritten */
    loses_order,     /* of positions in a page */
    v_is_k,
    gaps,          /* spans leave out the position at the edge */
    endless,       /* layers with a window grow like those without */
    nothing_held,  /* says bytes */
    small_promise, /* seq_size leaves out that growing holds old and new */
    beyond_end,    /* exports what was never stored */
    any_length,    /* reserves beyond max_positions */
};

typedef struct layer {
    float *k, *v; /* [capacity, row] */
    uint64_t capacity, first, end, furthest;
} layer;

struct bora_cache {
    const bora_host *host;
    bora_cache_shape shape;
    uint32_t *windows;
    uint64_t row;
    bora_cache_seq *newest;
};

struct bora_cache_seq {
    uint64_t reserved;
    layer *layers;
};

static bool is(int variant)
{
    return variant == MUTANT;
}

static uint64_t limit_of(const bora_cache *self, uint32_t index)
{
    const uint32_t window = is(keeps_windows) ? self->shape.windows[index] : self->windows[index];
    const uint64_t limit = (uint64_t)window + (is(no_slack) ? 0 : self->shape.slack);
    return window && !is(endless) && limit < self->shape.max_positions ? limit : self->shape.max_positions;
}

static uint64_t oldest(const layer *ly)
{
    const uint64_t rolled = ly->furthest > ly->capacity ? ly->furthest - ly->capacity : 0;
    return rolled > ly->first ? rolled : ly->first;
}

static void seq_close(bora_cache *self, bora_cache_seq *seq)
{
    if (!seq)
        return;
    for (uint32_t i = 0; seq->layers && i < self->shape.n_layers; i++) {
        self->host->free(self->host, seq->layers[i].k);
        self->host->free(self->host, seq->layers[i].v);
    }
    if (!is(leaks_sequences))
        self->host->free(self->host, seq->layers);
    self->host->free(self->host, seq);
}

static bora_status seq_open(bora_cache *self, bora_cache_seq **ret, bora_error *err)
{
    bora_cache_seq *seq = self->host->alloc(self->host, sizeof *seq);
    layer *layers = self->host->alloc(self->host, self->shape.n_layers * sizeof *layers);
    if (!seq || !layers) {
        if (!is(leaks_when_refused))
            self->host->free(self->host, seq);
        self->host->free(self->host, layers);
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    }
    memset(layers, 0, self->shape.n_layers * sizeof *layers);
    *seq = (bora_cache_seq){.layers = layers};
    self->newest = seq;
    *ret = seq;
    return BORA_OK;
}

static uint64_t wanted(const bora_cache *self, const layer *ly, uint32_t index, uint64_t end)
{
    uint64_t n = ly->capacity ? ly->capacity : 16;
    while (n < end)
        n *= 2;
    return n < limit_of(self, index) ? n : limit_of(self, index);
}

/* New memory for all layers first, so that a failure changes nothing. */
static bora_status reserve(bora_cache *self, bora_cache_seq *seq, uint64_t end, bora_error *err)
{
    if (end > self->shape.max_positions && !is(any_length))
        return bora_fail(err, BORA_E_LIMIT, "%llu positions", (unsigned long long)end);
    layer grown[16] = {{NULL}};
    bool enough = self->shape.n_layers <= 16;
    for (uint32_t i = 0; i < self->shape.n_layers && enough; i++) {
        const uint64_t n = wanted(self, &seq->layers[i], i, end);
        if (n == seq->layers[i].capacity)
            continue;
        grown[i] = seq->layers[i];
        grown[i].capacity = n;
        grown[i].k = self->host->alloc(self->host, n * self->row * sizeof(float));
        grown[i].v = self->host->alloc(self->host, n * self->row * sizeof(float));
        enough = grown[i].k && grown[i].v;
        for (uint64_t j = 0; j < seq->layers[i].capacity * self->row && enough; j++) {
            grown[i].k[j] = seq->layers[i].k[j];
            grown[i].v[j] = seq->layers[i].v[j];
        }
        if (enough && is(half_reserved)) {
            self->host->free(self->host, seq->layers[i].k);
            self->host->free(self->host, seq->layers[i].v);
            seq->layers[i] = grown[i];
            grown[i].k = grown[i].v = NULL;
            grown[i].capacity = 0;
        }
    }
    for (uint32_t i = 0; i < self->shape.n_layers; i++) {
        if (!grown[i].capacity)
            continue;
        layer *unused = enough ? &seq->layers[i] : &grown[i];
        self->host->free(self->host, unused->k);
        self->host->free(self->host, unused->v);
        if (enough)
            seq->layers[i] = grown[i];
    }
    if (!enough)
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    seq->reserved = end > seq->reserved ? end : seq->reserved;
    return BORA_OK;
}

static void store(const bora_cache *self, layer *ly, uint64_t first, uint32_t n, const float *k, const float *v)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t at = (first + i) % ly->capacity * self->row;
        memcpy(ly->k + at, k + i * self->row, self->row * sizeof *k);
        memcpy(ly->v + at, (is(v_is_k) ? k : v) + i * self->row, self->row * sizeof *v);
    }
    ly->end = first + n;
    ly->furthest = ly->end > ly->furthest ? ly->end : ly->furthest;
}

static void append(bora_cache *self, bora_cache_seq *seq, uint32_t index, uint64_t first, uint32_t n, const float *k,
                   const float *v)
{
    if (is(mixes_sequences) && index + 1 == self->shape.n_layers && self->newest &&
        self->newest->layers[index].capacity > first + n)
        store(self, &self->newest->layers[index], first, n, k, v);
    store(self, &seq->layers[index], first, n, k, v);
}

static bora_status seq_fork(bora_cache *self, const bora_cache_seq *seq, bora_cache_seq **ret, bora_error *err)
{
    bora_cache_seq *fork = NULL;
    bora_status status = seq_open(self, &fork, err);
    if (status == BORA_OK)
        status = reserve(self, fork, seq->reserved, err);
    for (uint32_t i = 0; i < self->shape.n_layers && status == BORA_OK; i++) {
        const layer *from = &seq->layers[i];
        layer *to = &fork->layers[i];
        const uint64_t n = from->capacity < to->capacity ? from->capacity : to->capacity;
        to->first = from->first;
        to->end = from->end;
        to->furthest = is(fork_forgets) ? 0 : from->furthest;
        if (is(fork_shorter) && i == 0)
            to->end = to->end ? to->end - 1 : 0;
        if (n) {
            memcpy(to->k, from->k, n * self->row * sizeof(float));
            memcpy(to->v, from->v, n * self->row * sizeof(float));
        }
    }
    if (status != BORA_OK) {
        seq_close(self, fork);
        return status;
    }
    *ret = fork;
    return BORA_OK;
}

static uint32_t spans(bora_cache *self, const bora_cache_seq *seq, uint32_t index, uint64_t from, uint64_t to,
                      uint32_t n_max, bora_kv_span *ret)
{
    const layer *ly = &seq->layers[index];
    uint32_t n_spans = 0;
    if (to > ly->end)
        return 0;
    while (from < to) {
        const uint64_t slot = from % ly->capacity;
        const uint64_t n = to - from < ly->capacity - slot ? to - from : ly->capacity - slot;
        const bool leaves_out = is(gaps) && n > 1 && from + n < to;
        if (n_spans < n_max)
            ret[n_spans] = (bora_kv_span){.k = ly->k + slot * self->row,
                                          .v = ly->v + slot * self->row,
                                          .first = from,
                                          .n = (uint32_t)n - leaves_out,
                                          .dtype = BORA_DTYPE_F32,
                                          .position_stride = self->row,
                                          .head_stride = self->shape.head_dim};
        n_spans++;
        from += n;
    }
    return n_spans;
}

static bora_status truncate(bora_cache *self, bora_cache_seq *seq, uint64_t end, bora_error *err)
{
    for (uint32_t i = 0; i < self->shape.n_layers; i++) {
        const layer *ly = &seq->layers[i];
        const uint64_t window = self->windows[i], needs = window && end > window ? end - window : 0;
        if (end < ly->end && needs < oldest(ly) && !is(truncates_all))
            return bora_fail(err, BORA_E_LIMIT, "position %llu is gone", (unsigned long long)needs);
    }
    for (uint32_t i = 0; i < (is(truncates_one) ? 1 : self->shape.n_layers); i++)
        if (end < seq->layers[i].end)
            seq->layers[i].end = end;
    return BORA_OK;
}

static bora_status export_page(bora_cache *self, const bora_cache_seq *seq, uint32_t index, uint64_t first, uint32_t n,
                               void *out, bora_error *err)
{
    const layer *ly = &seq->layers[index];
    const bool is_there = first >= oldest(ly) && first <= ly->end && n <= ly->end - first;
    if (!is_there && !(is(beyond_end) && ly->capacity && first >= oldest(ly)))
        return bora_fail(err, BORA_E_NOT_FOUND, "positions from %llu are not there", (unsigned long long)first);
    float *to = out;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t from = (first + i) % ly->capacity * self->row;
        const uint64_t at = is(loses_order) ? n - 1 - i : i;
        memcpy(to + at * self->row, ly->k + from, self->row * sizeof *to);
        memcpy(to + (n + at) * self->row, ly->v + from, self->row * sizeof *to);
    }
    return BORA_OK;
}

static bora_status import_page(bora_cache *self, bora_cache_seq *seq, uint32_t index, uint64_t first, uint32_t n,
                               const void *in, bora_error *err)
{
    layer *ly = &seq->layers[index];
    if (first + n > seq->reserved)
        return bora_fail(err, BORA_E_INVAL, "not reserved");
    if (ly->end != first)
        ly->first = first;
    for (uint32_t i = 0; i < n; i++) {
        const float *k = (const float *)in + i * self->row;
        store(self, ly, first + i, 1, k, k + n * self->row);
    }
    return BORA_OK;
}

static uint64_t bytes(const bora_cache *self, const bora_cache_seq *seq)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < self->shape.n_layers && !is(nothing_held); i++)
        sum += 2 * seq->layers[i].capacity * self->row * sizeof(float);
    return sum;
}

static uint64_t seq_size(const bora_cache *self, uint64_t n_positions)
{
    uint64_t sum = sizeof(bora_cache_seq) + self->shape.n_layers * sizeof(layer);
    for (uint32_t i = 0; i < self->shape.n_layers; i++) {
        const uint64_t limit = limit_of(self, i), most = n_positions < limit ? 2 * n_positions + 16 : limit;
        sum += 2 * (is(small_promise) ? n_positions : 2 * (most < limit ? most : limit)) * self->row * sizeof(float);
    }
    return sum;
}

static void destroy(bora_cache *self)
{
    if (!self)
        return;
    self->host->free(self->host, self->windows);
    self->host->free(self->host, self);
}

static bora_status create(const bora_host *host, const bora_cache_shape *shape, bora_cache **ret, bora_error *err)
{
    bora_cache_shape copy = {.struct_size = shape->struct_size};
    if (is(ignores_size))
        read_all(shape, sizeof *shape);
    if (copy.struct_size < sizeof copy)
        return bora_fail(err, BORA_E_INVAL, "a shape of %u bytes", copy.struct_size);
    copy = *shape;
    if (copy.dtype != BORA_DTYPE_F32 || !copy.n_layers || !copy.head_dim || !copy.slack)
        return bora_fail(err, BORA_E_UNSUPPORTED, "a shape that is not known here");
    bora_cache *self = host->alloc(host, sizeof *self);
    uint32_t *windows = host->alloc(host, copy.n_layers * sizeof *windows);
    if (!self || !windows) {
        host->free(host, self);
        host->free(host, windows);
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    }
    memcpy(windows, copy.windows, copy.n_layers * sizeof *windows);
    *self =
        (bora_cache){.host = host, .shape = copy, .windows = windows, .row = (uint64_t)copy.n_kv_heads * copy.head_dim};
    *ret = self;
    return BORA_OK;
}

static const bora_cache_ops ops = {
    .struct_size = sizeof ops,
    .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32),
    .create = create,
    .destroy = destroy,
    .seq_open = seq_open,
    .seq_close = seq_close,
    .seq_fork = seq_fork,
    .reserve = reserve,
    .append = append,
    .spans = spans,
    .truncate = truncate,
    .export_page = export_page,
    .import_page = import_page,
    .bytes = bytes,
    .seq_size = seq_size,
};

MUTANT_PLUGIN(BORA_PLUGIN_CACHE, &ops)
