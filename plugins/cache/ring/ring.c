/* cache-ring: the rolling buffer of Mistral 7B (section 2). Each layer of a sequence has one array of slots for keys
 * and one for values, [kv_head][slot][head_dim]; position p lies in slot p mod capacity. Attention reads one head after
 * the other: so what it reads at a time is one run of memory.
 *
 *   append:  f32 rows -> element type -> slots          spans:  slots, as they lie, in at most two runs
 *
 * A layer with a window stops growing at window + slack slots, one without at max_positions. Until then reserve
 * doubles, in steps of 64, 128, 256 ...: a short conversation does not pay for a long window. A layer whose slots are
 * fewer than its limit has never wrapped, because reserve keeps them at least as many as positions; so growing is a
 * plain copy. */
#include "../elements.h"

#include <stdbool.h>
#include <string.h>

#define FIRST_SLOTS 64u /* the smallest step of growth */

typedef struct ring_layer {
    unsigned char *k, *v; /* [n_kv_heads, capacity, head_dim] in the cache's element type */
    uint64_t capacity;    /* slots; 0 until the first reserve */
    uint64_t first;       /* nothing before this position is held */
    uint64_t end;         /* positions first .. end-1 are held, as far as they are not overwritten: the last capacity */
} ring_layer;

struct bora_cache_seq {
    uint64_t size;     /* bytes of this struct */
    uint64_t reserved; /* positions below this may be appended */
    ring_layer layers[];
};

struct bora_cache {
    const bora_host *host;
    uint32_t n_layers, slack, dtype, n_kv_heads, head_dim;
    uint64_t max_positions;
    size_t head_size;   /* bytes of one head of one position */
    size_t slot_size;   /* of all heads of one position */
    uint32_t windows[]; /* [n_layers]; 0: none */
};

/* The most slots a layer ever has. */
static uint64_t layer_limit(const bora_cache *cache, uint32_t layer)
{
    uint64_t limit = (uint64_t)cache->windows[layer] + cache->slack;
    return cache->windows[layer] && limit < cache->max_positions ? limit : cache->max_positions;
}

/* The oldest position that is still there. */
static uint64_t layer_oldest(const ring_layer *layer)
{
    uint64_t rolled = layer->end > layer->capacity ? layer->end - layer->capacity : 0;
    return rolled > layer->first ? rolled : layer->first;
}

/* Of n positions from first on: how many lie one after the other before the slots begin again. */
static uint64_t run_length(const ring_layer *layer, uint64_t first, uint64_t n)
{
    uint64_t to_edge = layer->capacity - first % layer->capacity;
    return n < to_edge ? n : to_edge;
}

/* Where a head of a position lies, in bytes from k or v. */
static size_t slot_offset(const bora_cache *cache, const ring_layer *layer, uint32_t head, uint64_t position)
{
    /* inside an allocated array: no overflow */
    return (size_t)(head * layer->capacity + position % layer->capacity) * cache->head_size;
}

/* The first n_slots slots of every head. */
static void copy_slots(const bora_cache *cache, const ring_layer *from, const ring_layer *to, uint64_t n_slots)
{
    for (uint32_t head = 0; head < cache->n_kv_heads && n_slots; head++) {
        const size_t source = slot_offset(cache, from, head, 0), target = slot_offset(cache, to, head, 0);
        memcpy(to->k + target, from->k + source, (size_t)n_slots * cache->head_size);
        memcpy(to->v + target, from->v + source, (size_t)n_slots * cache->head_size);
    }
}

static void free_layers(const bora_cache *cache, ring_layer *layers)
{
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        cache->host->free(cache->host, layers[i].k);
        cache->host->free(cache->host, layers[i].v);
    }
}

/* New, uninitialised slots; false when there is no memory for them. */
static bool alloc_slots(const bora_cache *cache, uint64_t capacity, ring_layer *layer)
{
    size_t size;
    if (__builtin_mul_overflow(capacity, cache->slot_size, &size))
        return false;
    layer->k = cache->host->alloc(cache->host, size);
    layer->v = cache->host->alloc(cache->host, size);
    if (layer->k && layer->v) {
        layer->capacity = capacity;
        return true;
    }
    cache->host->free(cache->host, layer->k);
    cache->host->free(cache->host, layer->v);
    layer->k = layer->v = NULL;
    return false;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bora_status ring_create(const bora_host *host, const bora_cache_shape *shape, bora_cache **ret_cache,
                               bora_error *err)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "ring: the shape has %u bytes, %zu are needed", shape->struct_size,
                         sizeof *shape);
    if (shape->n_layers == 0 || shape->n_kv_heads == 0 || shape->head_dim == 0 || shape->max_positions == 0 ||
        shape->slack == 0)
        return bora_fail(err, BORA_E_INVAL, "ring: layers, heads, head size, slack and positions must be at least 1");
    if (shape->dtype != BORA_DTYPE_F32 && shape->dtype != BORA_DTYPE_F16 && shape->dtype != BORA_DTYPE_Q8_0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "ring: element type %u is none of f32, f16, q8_0", shape->dtype);
    const size_t head_size = elements_size(shape->dtype, shape->head_dim);
    if (head_size == 0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "ring: heads of %u are not whole blocks of q8_0, 32 elements",
                         shape->head_dim);
    size_t slot_size, size, layers_size;
    if (__builtin_mul_overflow(head_size, (size_t)shape->n_kv_heads, &slot_size) ||
        __builtin_mul_overflow((size_t)shape->n_layers, sizeof(uint32_t), &size) ||
        __builtin_add_overflow(size, sizeof(bora_cache), &size) ||
        __builtin_mul_overflow((size_t)shape->n_layers, sizeof(ring_layer), &layers_size))
        return bora_fail(err, BORA_E_LIMIT, "ring: a position or a list of layers of this shape is too large");
    bora_cache *cache = host->alloc(host, size);
    if (!cache)
        return bora_fail(err, BORA_E_NOMEM, "ring: the cache");
    cache->host = host;
    cache->n_layers = shape->n_layers;
    cache->slack = shape->slack;
    cache->dtype = shape->dtype;
    cache->n_kv_heads = shape->n_kv_heads;
    cache->head_dim = shape->head_dim;
    cache->max_positions = shape->max_positions;
    cache->head_size = head_size;
    cache->slot_size = slot_size;
    memcpy(cache->windows, shape->windows, shape->n_layers * sizeof *shape->windows);
    *ret_cache = cache;
    return BORA_OK;
}

static void ring_destroy(bora_cache *cache)
{
    if (cache)
        cache->host->free(cache->host, cache);
}

static bora_status ring_seq_open(bora_cache *cache, bora_cache_seq **ret_seq, bora_error *err)
{
    size_t size = sizeof(bora_cache_seq) + cache->n_layers * sizeof(ring_layer); /* checked in create */
    bora_cache_seq *seq = cache->host->alloc(cache->host, size);
    if (!seq)
        return bora_fail(err, BORA_E_NOMEM, "ring: a sequence");
    memset(seq, 0, size);
    seq->size = size;
    *ret_seq = seq;
    return BORA_OK;
}

static void ring_seq_close(bora_cache *cache, bora_cache_seq *seq)
{
    if (!seq)
        return;
    free_layers(cache, seq->layers);
    cache->host->free(cache->host, seq);
}

static bora_status ring_seq_fork(bora_cache *cache, const bora_cache_seq *seq, bora_cache_seq **ret_seq,
                                 bora_error *err)
{
    bora_cache_seq *copy;
    bora_status status = ring_seq_open(cache, &copy, err);
    if (status != BORA_OK)
        return status;
    copy->reserved = seq->reserved;
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        const ring_layer *from = &seq->layers[i];
        ring_layer *to = &copy->layers[i];
        if (from->capacity && !alloc_slots(cache, from->capacity, to)) {
            ring_seq_close(cache, copy);
            return bora_fail(err, BORA_E_NOMEM, "ring: the copy of a sequence of %llu positions",
                             (unsigned long long)from->end);
        }
        to->first = from->first;
        to->end = from->end;
        copy_slots(cache, from, to, from->end < from->capacity ? from->end : from->capacity);
    }
    *ret_seq = copy;
    return BORA_OK;
}

/* ---- growing, storing, forgetting ---------------------------------------------------------------------- */

/* The slots with which a layer has room for end positions, or for as many as it ever keeps: steps that double. */
static uint64_t capacity_for(const bora_cache *cache, uint32_t layer, uint64_t end)
{
    const uint64_t limit = layer_limit(cache, layer), need = end < limit ? end : limit;
    uint64_t capacity = FIRST_SLOTS;
    while (capacity < need)
        capacity = capacity > limit / 2 ? limit : capacity * 2;
    return capacity < limit ? capacity : limit;
}

/* All new slots are had before any old ones go, so that a failure leaves the sequence as it was. */
static bora_status ring_reserve(bora_cache *cache, bora_cache_seq *seq, uint64_t end, bora_error *err)
{
    if (end > cache->max_positions)
        return bora_fail(err, BORA_E_LIMIT, "ring: %llu positions, at most %llu are allowed", (unsigned long long)end,
                         (unsigned long long)cache->max_positions);
    if (end <= seq->reserved)
        return BORA_OK;
    const bora_host *host = cache->host;
    ring_layer *grown = host->alloc(host, cache->n_layers * sizeof *grown);
    if (!grown)
        return bora_fail(err, BORA_E_NOMEM, "ring: growing a sequence");
    memset(grown, 0, cache->n_layers * sizeof *grown);
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        uint64_t capacity = capacity_for(cache, i, end);
        if (capacity <= seq->layers[i].capacity)
            continue;
        if (!alloc_slots(cache, capacity, &grown[i])) {
            free_layers(cache, grown);
            host->free(host, grown);
            return bora_fail(err, BORA_E_NOMEM, "ring: %llu positions", (unsigned long long)capacity);
        }
    }
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        ring_layer *layer = &seq->layers[i];
        if (!grown[i].capacity)
            continue;
        copy_slots(cache, layer, &grown[i], layer->end); /* not wrapped yet: slot p holds position p */
        host->free(host, layer->k);
        host->free(host, layer->v);
        layer->k = grown[i].k;
        layer->v = grown[i].v;
        layer->capacity = grown[i].capacity;
    }
    host->free(host, grown);
    seq->reserved = end;
    return BORA_OK;
}

static void ring_append(bora_cache *cache, bora_cache_seq *seq, uint32_t layer_index, uint64_t first, uint32_t n,
                        const float *k, const float *v)
{
    ring_layer *layer = layer_index < cache->n_layers ? &seq->layers[layer_index] : NULL;
    if (!layer || first != layer->end || n > cache->slack || first > seq->reserved || n > seq->reserved - first) {
        /* The host broke the contract; writing anyway could hit foreign memory. */
        cache->host->log(cache->host, BORA_LOG_ERROR, "ring: append out of order or without reserve; not stored");
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t head = 0; head < cache->n_kv_heads; head++) {
            const size_t offset = slot_offset(cache, layer, head, first + i);
            elements_store(cache->dtype, k, cache->head_dim, layer->k + offset);
            elements_store(cache->dtype, v, cache->head_dim, layer->v + offset);
            k += cache->head_dim;
            v += cache->head_dim;
        }
    layer->end = first + n;
}

static bora_status ring_truncate(bora_cache *cache, bora_cache_seq *seq, uint64_t end, bora_error *err)
{
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        const ring_layer *layer = &seq->layers[i];
        uint32_t window = cache->windows[i];
        if (end >= layer->end)
            continue;
        const uint64_t needed = window && end >= window ? end - window + 1 : 0; /* the oldest that end attends to */
        if (needed < end && needed < layer_oldest(layer))
            return bora_fail(err, BORA_E_LIMIT, "ring: back to %llu: position %llu is no longer kept",
                             (unsigned long long)end, (unsigned long long)needed);
    }
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        ring_layer *layer = &seq->layers[i];
        if (end >= layer->end)
            continue;
        /* What was overwritten stays so, though it is no longer far behind the end. */
        const uint64_t oldest = layer_oldest(layer);
        layer->first = oldest < end ? oldest : end;
        layer->end = end;
    }
    return BORA_OK;
}

/* ---- reading and pages --------------------------------------------------------------------------------- */

static uint32_t ring_spans(bora_cache *cache, const bora_cache_seq *seq, uint32_t layer_index, uint64_t from,
                           uint64_t to, uint32_t n_max, bora_kv_span *ret_spans)
{
    if (layer_index >= cache->n_layers)
        return 0;
    const ring_layer *layer = &seq->layers[layer_index];
    if (from >= to || to > layer->end || from < layer_oldest(layer))
        return 0;
    uint32_t n_spans = 0;
    while (from < to) {
        uint64_t run = run_length(layer, from, to - from);
        if (run > UINT32_MAX)
            run = UINT32_MAX;
        size_t offset = slot_offset(cache, layer, 0, from);
        if (n_spans < n_max)
            ret_spans[n_spans] = (bora_kv_span){
                .k = layer->k + offset,
                .v = layer->v + offset,
                .first = from,
                .n = (uint32_t)run,
                .dtype = cache->dtype,
                .position_stride = cache->head_dim,
                .head_stride = layer->capacity * cache->head_dim,
            };
        n_spans++;
        from += run;
    }
    return n_spans;
}

static bora_status ring_export_page(bora_cache *cache, const bora_cache_seq *seq, uint32_t layer_index, uint64_t first,
                                    uint32_t n, void *out, bora_error *err)
{
    if (layer_index >= cache->n_layers)
        return bora_fail(err, BORA_E_INVAL, "ring: there is no layer %u", layer_index);
    const ring_layer *layer = &seq->layers[layer_index];
    if (first < layer_oldest(layer) || first > layer->end || n > layer->end - first)
        return bora_fail(err, BORA_E_NOT_FOUND, "ring: positions %llu and %u more are not kept",
                         (unsigned long long)first, n);
    unsigned char *k = out, *v = k + (size_t)n * cache->slot_size;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t head = 0; head < cache->n_kv_heads; head++) {
            const size_t offset = slot_offset(cache, layer, head, first + i);
            memcpy(k, layer->k + offset, cache->head_size);
            memcpy(v, layer->v + offset, cache->head_size);
            k += cache->head_size;
            v += cache->head_size;
        }
    return BORA_OK;
}

static bora_status ring_import_page(bora_cache *cache, bora_cache_seq *seq, uint32_t layer_index, uint64_t first,
                                    uint32_t n, const void *in, bora_error *err)
{
    if (layer_index >= cache->n_layers)
        return bora_fail(err, BORA_E_INVAL, "ring: there is no layer %u", layer_index);
    ring_layer *layer = &seq->layers[layer_index];
    if (first > seq->reserved || n > seq->reserved - first)
        return bora_fail(err, BORA_E_INVAL, "ring: importing positions that are not reserved");
    if (layer->end > 0 && first != layer->end)
        return bora_fail(err, BORA_E_INVAL, "ring: the page begins at %llu, the layer ends at %llu",
                         (unsigned long long)first, (unsigned long long)layer->end);
    if (n == 0)
        return BORA_OK;
    if (layer->end == 0)
        layer->first = first;
    /* Of a page that is longer than the ring only the end stays. */
    const uint32_t skipped = n > layer->capacity ? (uint32_t)(n - layer->capacity) : 0;
    const unsigned char *k = (const unsigned char *)in + skipped * cache->slot_size;
    const unsigned char *v = k + (size_t)n * cache->slot_size;
    for (uint32_t i = skipped; i < n; i++)
        for (uint32_t head = 0; head < cache->n_kv_heads; head++) {
            const size_t offset = slot_offset(cache, layer, head, first + i);
            memcpy(layer->k + offset, k, cache->head_size);
            memcpy(layer->v + offset, v, cache->head_size);
            k += cache->head_size;
            v += cache->head_size;
        }
    layer->end = first + n;
    return BORA_OK;
}

static uint64_t ring_bytes(const bora_cache *cache, const bora_cache_seq *seq)
{
    uint64_t bytes = seq->size;
    for (uint32_t i = 0; i < cache->n_layers; i++)
        bytes += 2 * seq->layers[i].capacity * cache->slot_size;
    return bytes;
}

/* The most slots that a layer has at once on its way to n positions: the last step while the one before is copied. */
static uint64_t peak_slots(const bora_cache *cache, uint32_t layer, uint64_t n_positions)
{
    const uint64_t last = capacity_for(cache, layer, n_positions);
    uint64_t before = 0;
    for (uint64_t step = FIRST_SLOTS; step<last; step = step> last / 2 ? last : step * 2)
        before = step;
    return last > UINT64_MAX - before ? UINT64_MAX : last + before;
}

static uint64_t ring_seq_size(const bora_cache *cache, uint64_t n_positions)
{
    const uint64_t n = n_positions < cache->max_positions ? n_positions : cache->max_positions;
    /* The sequence, and the list that growing needs. */
    uint64_t size = sizeof(bora_cache_seq) + 2 * cache->n_layers * sizeof(ring_layer);
    for (uint32_t i = 0; i < cache->n_layers && n > 0; i++) {
        uint64_t slots_size;
        if (__builtin_mul_overflow(peak_slots(cache, i, n), 2 * (uint64_t)cache->slot_size, &slots_size) ||
            __builtin_add_overflow(size, slots_size, &size))
            return UINT64_MAX;
    }
    return size;
}

static const bora_cache_ops ring_ops = {
    .struct_size = sizeof(bora_cache_ops),
    .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_F16) | BORA_DTYPE_BIT(BORA_DTYPE_Q8_0),
    .create = ring_create,
    .destroy = ring_destroy,
    .seq_open = ring_seq_open,
    .seq_close = ring_seq_close,
    .seq_fork = ring_seq_fork,
    .reserve = ring_reserve,
    .append = ring_append,
    .spans = ring_spans,
    .truncate = ring_truncate,
    .export_page = ring_export_page,
    .import_page = ring_import_page,
    .bytes = ring_bytes,
    .seq_size = ring_seq_size,
};

static const bora_plugin ring_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_CACHE,
    .flags = BORA_PLUGIN_BATCH_INVARIANT,
    .name = "ring",
    .version = "1.0",
    .ops = &ring_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &ring_plugin;
}
