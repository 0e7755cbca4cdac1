/* cache-paged: keys and values in pages of 64 positions that sequences share until one of them writes.
 *
 *   class    layers with the same window; a page holds 64 positions of all of them, [layer][k,
 * v][kv_head][64][head_dim], so that attention, which reads one head after the other, reads runs table    a sequence's
 * pages of a class, by position; a fork copies the table and counts one reference more per page spare    pages that
 * reserve put by for a sequence: append takes them and cannot fail free     pages of a class that no sequence has: few,
 * the others are the host's again
 *
 *   append:  positions behind the window go (a page nobody shares becomes spare), new ones come from spare
 *   reserve: copies the shared pages that append will write to, and puts by as many as it may need
 *
 * What is kept of a layer with a window: the last window + slack positions, up to the beginning of their page. */
#include "../elements.h"

#include <stdbool.h>
#include <string.h>

#define PAGE_POSITIONS    64u
#define FREE_SHARE        16u /* for so many pages in use, one may lie free */
#define LINE              64u /* the host aligns to it */
/* Large pages begin where a page of the processor's memory does: a run of 16 KiB then touches four of these, not five.
 */
#define MEMORY_PAGE       4096u
#define LARGE_PAGES_BEGIN (16u * MEMORY_PAGE)

typedef struct paged_page {
    struct paged_page *next; /* of a list of spare or free pages */
    uint64_t n_refs;         /* tables that have it; 1 in a list */
    unsigned char *data;     /* in the same block of memory */
} paged_page;

typedef struct paged_list {
    paged_page *first;
    uint64_t n;
} paged_list;

typedef struct paged_class {
    uint32_t window; /* 0: none */
    uint32_t n_layers;
    uint64_t capacity;  /* positions that are kept at least: window + slack; UINT64_MAX without a window */
    uint64_t max_pages; /* of a sequence */
    size_t data_size;   /* bytes of a page */
    size_t page_size;   /* bytes asked of the host for it */
    uint64_t n_used;    /* pages that sequences have, each once */
    paged_list free;
} paged_class;

/* Where a layer's part of a page is. */
typedef struct paged_place {
    uint32_t class_id, index;
} paged_place;

typedef struct paged_layer {
    uint64_t first; /* nothing before this position is held */
    uint64_t end;   /* positions first .. end-1 are held, none if first is greater */
} paged_layer;

typedef struct paged_table {
    paged_page **pages; /* [n_max] of which n: page i holds positions (first + i) * 64 .. */
    uint64_t first, n, n_max;
    uint64_t end; /* the greatest of its layers */
    paged_list spare;
    /* What reserve is about to change: */
    paged_page **grown; /* [grown_max], or NULL */
    uint64_t grown_max, n_spare_before;
    uint64_t n_copies, n_spare_wanted;
} paged_table;

struct bora_cache_seq {
    uint64_t size;        /* bytes of this struct */
    uint64_t reserved;    /* positions below this may be appended; not below any end */
    paged_layer *layers;  /* [n_layers], behind the tables */
    paged_table tables[]; /* [n_classes] */
};

struct bora_cache {
    const bora_host *host;
    uint32_t n_layers, n_classes, slack, dtype, n_kv_heads, head_dim;
    uint64_t max_positions;
    size_t head_size;     /* bytes of one head of one position */
    size_t row_size;      /* of all heads of one position */
    paged_class *classes; /* [n_classes] */
    paged_place places[]; /* [n_layers] */
};

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Pages that begin before this position. */
static uint64_t pages_before(uint64_t position)
{
    return position / PAGE_POSITIONS + (position % PAGE_POSITIONS != 0);
}

/* The oldest page that is kept when positions up to end are there. */
static uint64_t oldest_page(const paged_class *class, uint64_t end)
{
    return end > class->capacity ? (end - class->capacity) / PAGE_POSITIONS : 0;
}

/* ---- pages ---------------------------------------------------------------------------------------------- */

static void list_push(paged_list *list, paged_page *page)
{
    page->next = list->first;
    list->first = page;
    list->n++;
}

static paged_page *list_pop(paged_list *list)
{
    paged_page *page = list->first;
    if (page) {
        list->first = page->next;
        list->n--;
    }
    return page;
}

static size_t data_alignment(const paged_class *class)
{
    return class->data_size < LARGE_PAGES_BEGIN ? LINE : MEMORY_PAGE;
}

static paged_page *alloc_page(const bora_cache *cache, const paged_class *class)
{
    paged_page *page = cache->host->alloc(cache->host, class->page_size);
    if (!page)
        return NULL;
    const size_t alignment = data_alignment(class);
    page->data = (unsigned char *)page + LINE;
    page->data += (alignment - (uintptr_t)page->data % alignment) % alignment;
    return page;
}

/* Back to the host, until n are left. */
static void free_down_to(const bora_cache *cache, paged_class *class, uint64_t n)
{
    while (class->free.n > n)
        cache->host->free(cache->host, list_pop(&class->free));
}

/* With one reference and nothing in it; NULL when there is no memory. */
static paged_page *page_new(bora_cache *cache, paged_class *class)
{
    paged_page *page = list_pop(&class->free);
    if (!page)
        page = alloc_page(cache, class);
    for (uint32_t c = 0; !page && c < cache->n_classes; c++) /* what lies free elsewhere may be what is wanting */
        if (cache->classes[c].free.n > 0) {
            free_down_to(cache, &cache->classes[c], 0);
            page = alloc_page(cache, class);
        }
    if (page) {
        page->n_refs = 1;
        class->n_used++;
    }
    return page;
}

static void page_release(bora_cache *cache, paged_class *class, paged_page *page)
{
    if (--page->n_refs > 0)
        return;
    page->n_refs = 1;
    list_push(&class->free, page);
    class->n_used--;
    free_down_to(cache, class, class->n_used / FREE_SHARE);
}

static void release_spare(bora_cache *cache, paged_class *class, paged_table *table, uint64_t n_left)
{
    while (table->spare.n > n_left)
        page_release(cache, class, list_pop(&table->spare));
}

/* Keys of a layer in a page; values follow them. */
static size_t keys_size(const bora_cache *cache)
{
    return PAGE_POSITIONS * cache->row_size;
}

static unsigned char *page_keys(const bora_cache *cache, paged_page *page, uint32_t layer)
{
    return page->data + cache->places[layer].index * 2 * keys_size(cache);
}

static size_t slot_offset(const bora_cache *cache, uint32_t head, uint64_t position)
{
    return (size_t)(head * PAGE_POSITIONS + position % PAGE_POSITIONS) * cache->head_size;
}

/* ---- life ----------------------------------------------------------------------------------------------- */

static bora_status check_shape(const bora_cache_shape *shape, bora_error *err)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "paged: the shape has %u bytes, %zu are needed", shape->struct_size,
                         sizeof *shape);
    if (shape->n_layers == 0 || shape->n_kv_heads == 0 || shape->head_dim == 0 || shape->max_positions == 0 ||
        shape->slack == 0)
        return bora_fail(err, BORA_E_INVAL, "paged: layers, heads, head size, slack and positions must be at least 1");
    if (shape->dtype != BORA_DTYPE_F32 && shape->dtype != BORA_DTYPE_F16 && shape->dtype != BORA_DTYPE_Q8_0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "paged: element type %u is none of f32, f16, q8_0", shape->dtype);
    if (elements_size(shape->dtype, shape->head_dim) == 0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "paged: heads of %u are not whole blocks of q8_0, %u elements",
                         shape->head_dim, ELEMENTS_Q8_0);
    return BORA_OK;
}

/* Into classes, which has room for one per layer; places [n_layers]. Returns how many there are. */
static uint32_t sort_layers(const bora_cache_shape *shape, paged_class *classes, paged_place *places)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < shape->n_layers; i++) {
        uint32_t c = 0;
        while (c < n && classes[c].window != shape->windows[i])
            c++;
        if (c == n)
            classes[n++] = (paged_class){.window = shape->windows[i]};
        places[i] = (paged_place){.class_id = c, .index = classes[c].n_layers++};
    }
    return n;
}

/* False if a page is too large to be counted. */
static bool size_class(const bora_cache *cache, paged_class *class)
{
    class->capacity = class->window ? (uint64_t) class->window + cache->slack : UINT64_MAX;
    class->max_pages = pages_before(cache->max_positions);
    if (class->window) /* so many positions in a row touch: */
        class->max_pages = sooner(class->max_pages, (class->capacity - 1) / PAGE_POSITIONS + 2);
    size_t size;
    if (__builtin_mul_overflow(cache->row_size, 2 * PAGE_POSITIONS, &size) ||
        __builtin_mul_overflow(size, (size_t) class->n_layers, &class->data_size) ||
        __builtin_add_overflow(class->data_size, data_alignment(class), &class->page_size))
        return false; /* what is added is room for the head of the block, too */
    return true;
}

static void paged_destroy(bora_cache *cache)
{
    if (!cache)
        return;
    const bora_host *host = cache->host;
    for (uint32_t c = 0; c < cache->n_classes; c++)
        free_down_to(cache, &cache->classes[c], 0);
    host->free(host, cache->classes);
    host->free(host, cache);
}

static bora_status paged_create(const bora_host *host, const bora_cache_shape *shape, bora_cache **ret_cache,
                                bora_error *err)
{
    bora_status status = check_shape(shape, err);
    if (status != BORA_OK)
        return status;
    const size_t head_size = elements_size(shape->dtype, shape->head_dim);
    size_t row_size, size, classes_size, tables_size;
    if (__builtin_mul_overflow(head_size, (size_t)shape->n_kv_heads, &row_size) ||
        __builtin_mul_overflow((size_t)shape->n_layers, sizeof(paged_place), &size) ||
        __builtin_add_overflow(size, sizeof(bora_cache), &size) ||
        __builtin_mul_overflow((size_t)shape->n_layers, sizeof(paged_class), &classes_size) ||
        __builtin_mul_overflow((size_t)shape->n_layers, sizeof(paged_table) + sizeof(paged_layer), &tables_size) ||
        __builtin_add_overflow(tables_size, sizeof(bora_cache_seq), &tables_size))
        return bora_fail(err, BORA_E_LIMIT, "paged: a position or a list of layers of this shape is too large");
    bora_cache *cache = host->alloc(host, size);
    if (!cache)
        return bora_fail(err, BORA_E_NOMEM, "paged: the cache");
    *cache = (bora_cache){
        .host = host,
        .n_layers = shape->n_layers,
        .slack = shape->slack,
        .dtype = shape->dtype,
        .n_kv_heads = shape->n_kv_heads,
        .head_dim = shape->head_dim,
        .max_positions = shape->max_positions,
        .head_size = head_size,
        .row_size = row_size,
        .classes = host->alloc(host, classes_size),
    };
    if (!cache->classes) {
        paged_destroy(cache);
        return bora_fail(err, BORA_E_NOMEM, "paged: the classes of layers");
    }
    cache->n_classes = sort_layers(shape, cache->classes, cache->places);
    for (uint32_t c = 0; c < cache->n_classes; c++)
        if (!size_class(cache, &cache->classes[c])) {
            paged_destroy(cache);
            return bora_fail(err, BORA_E_LIMIT, "paged: a page of %u layers is too large", shape->n_layers);
        }
    *ret_cache = cache;
    return BORA_OK;
}

static bora_status paged_seq_open(bora_cache *cache, bora_cache_seq **ret_seq, bora_error *err)
{
    const size_t size = sizeof(bora_cache_seq) + cache->n_classes * sizeof(paged_table) +
                        cache->n_layers * sizeof(paged_layer); /* checked in create */
    bora_cache_seq *seq = cache->host->alloc(cache->host, size);
    if (!seq)
        return bora_fail(err, BORA_E_NOMEM, "paged: a sequence");
    memset(seq, 0, size);
    seq->size = size;
    seq->layers = (paged_layer *)(seq->tables + cache->n_classes);
    *ret_seq = seq;
    return BORA_OK;
}

static void paged_seq_close(bora_cache *cache, bora_cache_seq *seq)
{
    if (!seq)
        return;
    for (uint32_t c = 0; c < cache->n_classes; c++) {
        paged_class *class = &cache->classes[c];
        paged_table *table = &seq->tables[c];
        release_spare(cache, class, table, 0);
        for (uint64_t i = 0; i < table->n; i++)
            page_release(cache, class, table->pages[i]);
        cache->host->free(cache->host, table->pages);
    }
    cache->host->free(cache->host, seq);
}

static paged_page **alloc_table(const bora_cache *cache, uint64_t n)
{
    size_t size;
    return __builtin_mul_overflow(n, sizeof(paged_page *), &size) ? NULL : cache->host->alloc(cache->host, size);
}

static bora_status paged_seq_fork(bora_cache *cache, const bora_cache_seq *seq, bora_cache_seq **ret_seq,
                                  bora_error *err)
{
    bora_cache_seq *copy;
    bora_status status = paged_seq_open(cache, &copy, err);
    if (status != BORA_OK)
        return status;
    memcpy(copy->layers, seq->layers, cache->n_layers * sizeof *seq->layers);
    for (uint32_t c = 0; c < cache->n_classes; c++) {
        const paged_table *from = &seq->tables[c];
        paged_table *to = &copy->tables[c];
        to->first = from->first;
        to->end = from->end;
        copy->reserved = later(copy->reserved, from->end);
        if (from->n == 0)
            continue;
        to->pages = alloc_table(cache, from->n);
        if (!to->pages) {
            paged_seq_close(cache, copy);
            return bora_fail(err, BORA_E_NOMEM, "paged: the table of a copy of %llu positions",
                             (unsigned long long)from->end);
        }
        to->n = to->n_max = from->n;
        for (uint64_t i = 0; i < from->n; i++) {
            to->pages[i] = from->pages[i];
            to->pages[i]->n_refs++;
        }
    }
    *ret_seq = copy;
    return BORA_OK;
}

/* ---- reserve -------------------------------------------------------------------------------------------- */

/* Where the layers of a class go on: the one that is furthest behind. */
static uint64_t class_begin(const bora_cache *cache, const bora_cache_seq *seq, uint32_t class_id)
{
    uint64_t begin = UINT64_MAX;
    for (uint32_t i = 0; i < cache->n_layers; i++)
        if (cache->places[i].class_id == class_id)
            begin = sooner(begin, seq->layers[i].end);
    return begin;
}

static bool is_shared(const paged_table *table, uint64_t page)
{
    return table->pages[page - table->first]->n_refs > 1;
}

/* What appending positions begin .. end-1 takes, in whatever steps: pages to copy before, and spare pages on the way.
 *
 * With positions up to x there, the table is what lies between oldest_page and x. Of what it has now, pages that fall
 * behind come back as spare ones, except those that others share. So it needs the most pages there can be at once, and
 * those shared ones, less what it has. */
static void plan(const paged_class *class, paged_table *table, uint64_t begin, uint64_t end, uint64_t *ret_n_pages)
{
    const uint64_t have_end = table->first + table->n, oldest = oldest_page(class, table->end + 1);
    const uint64_t top = later(pages_before(end), have_end), behind = oldest_page(class, end);
    const uint64_t written = sooner(later(begin / PAGE_POSITIONS, table->first), have_end);
    const uint64_t n_pages = top > oldest ? sooner(top - oldest, class->max_pages) : 0;
    uint64_t n_lost = 0;
    table->n_copies = 0;
    for (uint64_t i = written; i < have_end; i++)
        table->n_copies += is_shared(table, i);
    for (uint64_t i = table->first; i < sooner(behind, written); i++)
        n_lost += is_shared(table, i);
    table->n_spare_wanted = n_pages + n_lost > table->n ? n_pages + n_lost - table->n : 0;
    *ret_n_pages = n_pages;
}

/* Gets all that the plan needs; false, and what it got is still to be undone, when there is no memory. */
static bool prepare(bora_cache *cache, paged_class *class, paged_table *table, uint64_t n_pages)
{
    table->n_spare_before = table->spare.n;
    table->grown = NULL;
    while (table->spare.n < table->n_copies + table->n_spare_wanted) {
        paged_page *page = page_new(cache, class);
        if (!page)
            return false;
        list_push(&table->spare, page);
    }
    if (n_pages <= table->n_max)
        return true;
    table->grown_max = later(n_pages, sooner(2 * table->n_max, class->max_pages));
    table->grown = alloc_table(cache, table->grown_max);
    return table->grown != NULL;
}

static void undo(bora_cache *cache, paged_class *class, paged_table *table)
{
    cache->host->free(cache->host, table->grown);
    release_spare(cache, class, table, table->n_spare_before);
}

static void commit(bora_cache *cache, paged_class *class, paged_table *table, uint64_t begin)
{
    if (table->grown) {
        if (table->n > 0)
            memcpy(table->grown, table->pages, table->n * sizeof *table->pages);
        cache->host->free(cache->host, table->pages);
        table->pages = table->grown;
        table->n_max = table->grown_max;
    }
    for (uint64_t i = later(begin / PAGE_POSITIONS, table->first); i < table->first + table->n; i++)
        if (is_shared(table, i)) {
            paged_page *copy = list_pop(&table->spare), **place = &table->pages[i - table->first];
            memcpy(copy->data, (*place)->data, class->data_size);
            page_release(cache, class, *place);
            *place = copy;
        }
    release_spare(cache, class, table, table->n_spare_wanted);
}

static bora_status paged_reserve(bora_cache *cache, bora_cache_seq *seq, uint64_t end, bora_error *err)
{
    if (end > cache->max_positions)
        return bora_fail(err, BORA_E_LIMIT, "paged: %llu positions, at most %llu are allowed", (unsigned long long)end,
                         (unsigned long long)cache->max_positions);
    end = later(end, seq->reserved);
    for (uint32_t c = 0; c < cache->n_classes; c++) {
        uint64_t n_pages;
        plan(&cache->classes[c], &seq->tables[c], class_begin(cache, seq, c), end, &n_pages);
        if (prepare(cache, &cache->classes[c], &seq->tables[c], n_pages))
            continue;
        for (uint32_t u = 0; u <= c; u++)
            undo(cache, &cache->classes[u], &seq->tables[u]);
        return bora_fail(err, BORA_E_NOMEM, "paged: pages for %llu positions", (unsigned long long)end);
    }
    for (uint32_t c = 0; c < cache->n_classes; c++)
        commit(cache, &cache->classes[c], &seq->tables[c], class_begin(cache, seq, c));
    seq->reserved = end;
    return BORA_OK;
}

/* ---- storing -------------------------------------------------------------------------------------------- */

/* Lets go of the pages before this one. */
static void drop_before(bora_cache *cache, bora_cache_seq *seq, uint32_t class_id, uint64_t page)
{
    paged_table *table = &seq->tables[class_id];
    uint64_t n = 0;
    for (; n < table->n && table->first + n < page; n++) {
        if (table->pages[n]->n_refs == 1)
            list_push(&table->spare, table->pages[n]);
        else
            page_release(cache, &cache->classes[class_id], table->pages[n]);
    }
    if (n == 0)
        return;
    table->n -= n;
    table->first += n;
    memmove(table->pages, table->pages + n, table->n * sizeof *table->pages);
    for (uint32_t i = 0; i < cache->n_layers; i++)
        if (cache->places[i].class_id == class_id)
            seq->layers[i].first = later(seq->layers[i].first, table->first * PAGE_POSITIONS);
}

/* Makes the table hold positions from .. to-1, as far as they are kept. False if reserve was not called. */
static bool cover(bora_cache *cache, bora_cache_seq *seq, uint32_t class_id, uint64_t from, uint64_t to)
{
    paged_table *table = &seq->tables[class_id];
    const uint64_t oldest = oldest_page(&cache->classes[class_id], later(table->end, to));
    drop_before(cache, seq, class_id, oldest);
    const uint64_t first = later(oldest, from / PAGE_POSITIONS), end = pages_before(to);
    if (table->n == 0)
        table->first = first;
    const uint64_t n_before = table->first > first ? table->first - first : 0; /* an import that begins late */
    const uint64_t n_behind = end > table->first + table->n ? end - table->first - table->n : 0;
    if (n_before + n_behind > table->spare.n || n_before + n_behind > table->n_max - table->n)
        return false;
    for (uint64_t i = later(first, table->first); i < sooner(end, table->first + table->n); i++)
        if (is_shared(table, i))
            return false;
    if (n_before > 0) {
        memmove(table->pages + n_before, table->pages, table->n * sizeof *table->pages);
        for (uint64_t i = 0; i < n_before; i++)
            table->pages[i] = list_pop(&table->spare);
        table->first -= n_before;
        table->n += n_before;
    }
    for (uint64_t i = 0; i < n_behind; i++)
        table->pages[table->n++] = list_pop(&table->spare);
    table->end = later(table->end, to);
    return true;
}

/* The page of a position; NULL if it is not in the table. */
static paged_page *page_of(const paged_table *table, uint64_t position)
{
    const uint64_t page = position / PAGE_POSITIONS;
    return page >= table->first && page - table->first < table->n ? table->pages[page - table->first] : NULL;
}

static void paged_append(bora_cache *cache, bora_cache_seq *seq, uint32_t layer_index, uint64_t first, uint32_t n,
                         const float *k, const float *v)
{
    paged_layer *layer = layer_index < cache->n_layers ? &seq->layers[layer_index] : NULL;
    const uint32_t class_id = layer ? cache->places[layer_index].class_id : 0;
    if (!layer || first != layer->end || n > cache->slack || first > seq->reserved || n > seq->reserved - first ||
        !cover(cache, seq, class_id, first, first + n)) {
        /* The host broke the contract; writing anyway could hit what others share. */
        cache->host->log(cache->host, BORA_LOG_ERROR, "paged: append out of order or without reserve; not stored");
        return;
    }
    for (uint64_t p = first; p < first + n; p++) {
        paged_page *page = page_of(&seq->tables[class_id], p);
        unsigned char *keys = page ? page_keys(cache, page, layer_index) : NULL, *values = keys + keys_size(cache);
        for (uint32_t head = 0; head < cache->n_kv_heads; head++, k += cache->head_dim, v += cache->head_dim) {
            const size_t offset = slot_offset(cache, head, p);
            if (!page)
                continue; /* other layers have left it behind */
            elements_store(cache->dtype, k, cache->head_dim, keys + offset);
            elements_store(cache->dtype, v, cache->head_dim, values + offset);
        }
    }
    layer->end = first + n;
}

/* Whether the positions before end that end attends to are held. */
static bool holds_window_of(const paged_layer *layer, uint32_t window, uint64_t end, uint64_t *ret_needed)
{
    *ret_needed = window && end >= window ? end - window + 1 : 0;
    return *ret_needed >= end || *ret_needed >= layer->first;
}

static bora_status paged_truncate(bora_cache *cache, bora_cache_seq *seq, uint64_t end, bora_error *err)
{
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        uint64_t needed;
        if (end < seq->layers[i].end &&
            !holds_window_of(&seq->layers[i], cache->classes[cache->places[i].class_id].window, end, &needed))
            return bora_fail(err, BORA_E_LIMIT, "paged: back to %llu: position %llu is no longer kept",
                             (unsigned long long)end, (unsigned long long)needed);
    }
    if (end >= seq->reserved)
        return BORA_OK;
    for (uint32_t c = 0; c < cache->n_classes; c++)
        seq->tables[c].end = 0;
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        paged_layer *layer = &seq->layers[i];
        paged_table *table = &seq->tables[cache->places[i].class_id];
        if (end < layer->end) {
            layer->end = end;
            layer->first = sooner(layer->first, end);
        }
        table->end = later(table->end, layer->end);
    }
    for (uint32_t c = 0; c < cache->n_classes; c++) {
        paged_table *table = &seq->tables[c];
        while (table->n > 0 && table->first + table->n > pages_before(table->end))
            page_release(cache, &cache->classes[c], table->pages[--table->n]);
        release_spare(cache, &cache->classes[c], table, 0);
    }
    seq->reserved = end;
    return BORA_OK;
}

/* ---- reading and pages ---------------------------------------------------------------------------------- */

static uint32_t paged_spans(bora_cache *cache, const bora_cache_seq *seq, uint32_t layer_index, uint64_t from,
                            uint64_t to, uint32_t n_max, bora_kv_span *ret_spans)
{
    if (layer_index >= cache->n_layers)
        return 0;
    const paged_layer *layer = &seq->layers[layer_index];
    const paged_table *table = &seq->tables[cache->places[layer_index].class_id];
    if (from >= to || to > layer->end || from < layer->first ||
        pages_before(to) - from / PAGE_POSITIONS > UINT32_MAX) /* more than the host can ask for */
        return 0;
    uint32_t n_spans = 0;
    for (; from < to; n_spans++) {
        const uint32_t n = (uint32_t)sooner(to - from, PAGE_POSITIONS - from % PAGE_POSITIONS);
        if (n_spans < n_max) {
            const unsigned char *k = page_keys(cache, page_of(table, from), layer_index) + slot_offset(cache, 0, from);
            ret_spans[n_spans] = (bora_kv_span){
                .k = k,
                .v = k + keys_size(cache),
                .first = from,
                .n = n,
                .dtype = cache->dtype,
                .position_stride = cache->head_dim,
                .head_stride = (uint64_t)PAGE_POSITIONS * cache->head_dim,
            };
        }
        from += n;
    }
    return n_spans;
}

static bora_status paged_export_page(bora_cache *cache, const bora_cache_seq *seq, uint32_t layer_index, uint64_t first,
                                     uint32_t n, void *out, bora_error *err)
{
    if (layer_index >= cache->n_layers)
        return bora_fail(err, BORA_E_INVAL, "paged: there is no layer %u", layer_index);
    const paged_layer *layer = &seq->layers[layer_index];
    const paged_table *table = &seq->tables[cache->places[layer_index].class_id];
    if (first < layer->first || first > layer->end || n > layer->end - first)
        return bora_fail(err, BORA_E_NOT_FOUND, "paged: positions %llu and %u more are not kept",
                         (unsigned long long)first, n);
    unsigned char *k = out, *v = k + (size_t)n * cache->row_size;
    for (uint64_t p = first; p < first + n; p++) {
        const unsigned char *keys = page_keys(cache, page_of(table, p), layer_index);
        for (uint32_t head = 0; head < cache->n_kv_heads; head++) {
            const size_t offset = slot_offset(cache, head, p);
            memcpy(k, keys + offset, cache->head_size);
            memcpy(v, keys + keys_size(cache) + offset, cache->head_size);
            k += cache->head_size;
            v += cache->head_size;
        }
    }
    return BORA_OK;
}

static bora_status paged_import_page(bora_cache *cache, bora_cache_seq *seq, uint32_t layer_index, uint64_t first,
                                     uint32_t n, const void *in, bora_error *err)
{
    if (layer_index >= cache->n_layers)
        return bora_fail(err, BORA_E_INVAL, "paged: there is no layer %u", layer_index);
    paged_layer *layer = &seq->layers[layer_index];
    const uint32_t class_id = cache->places[layer_index].class_id;
    if (first > seq->reserved || n > seq->reserved - first)
        return bora_fail(err, BORA_E_INVAL, "paged: importing positions that are not reserved");
    if (layer->end > 0 && first != layer->end)
        return bora_fail(err, BORA_E_INVAL, "paged: the page begins at %llu, the layer ends at %llu",
                         (unsigned long long)first, (unsigned long long)layer->end);
    if (n == 0)
        return BORA_OK;
    if (!cover(cache, seq, class_id, first, first + n))
        return bora_fail(err, BORA_E_INVAL, "paged: importing into pages that were shared after reserving");
    const paged_table *table = &seq->tables[class_id];
    if (layer->end == 0)
        layer->first = later(first, table->first * PAGE_POSITIONS);
    const unsigned char *k = in, *v = k + (size_t)n * cache->row_size;
    for (uint64_t p = first; p < first + n; p++, k += cache->row_size, v += cache->row_size) {
        paged_page *page = page_of(table, p);
        if (!page)
            continue; /* behind what is kept */
        unsigned char *keys = page_keys(cache, page, layer_index), *values = keys + keys_size(cache);
        for (uint32_t head = 0; head < cache->n_kv_heads; head++) {
            const size_t offset = slot_offset(cache, head, p);
            memcpy(keys + offset, k + head * cache->head_size, cache->head_size);
            memcpy(values + offset, v + head * cache->head_size, cache->head_size);
        }
    }
    layer->end = first + n;
    return BORA_OK;
}

/* ---- counting ------------------------------------------------------------------------------------------- */

static uint64_t paged_bytes(const bora_cache *cache, const bora_cache_seq *seq)
{
    uint64_t bytes = seq->size;
    for (uint32_t c = 0; c < cache->n_classes; c++) {
        const paged_table *table = &seq->tables[c];
        bytes += table->n_max * sizeof *table->pages + (table->n + table->spare.n) * cache->classes[c].page_size;
    }
    return bytes;
}

/* So that the sum over all sequences, forks too, is never exceeded: with chunks of up to slack positions. */
static uint64_t paged_seq_size(const bora_cache *cache, uint64_t n_positions)
{
    const uint64_t n = sooner(n_positions, cache->max_positions);
    uint64_t size = sizeof(bora_cache_seq) + cache->n_layers * sizeof(paged_layer);
    for (uint32_t c = 0; c < cache->n_classes; c++) {
        const paged_class *class = &cache->classes[c];
        uint64_t n_pages = sooner(pages_before(n), class->max_pages), pages_size;
        /* A chunk's spare pages while others still have what it lets go: counted as half each's. */
        if (n > class->capacity)
            n_pages += (pages_before(cache->slack) + 1) / 2;
        /* A table holds its pages and, growing, the old one a third of them; a share of all pages may lie free. */
        if (__builtin_mul_overflow(n_pages, class->page_size + 3 * sizeof(paged_page *), &pages_size) ||
            __builtin_add_overflow(pages_size, pages_size / FREE_SHARE + sizeof(paged_table), &pages_size) ||
            __builtin_add_overflow(size, pages_size, &size))
            return UINT64_MAX;
    }
    return size;
}

static const bora_cache_ops paged_ops = {
    .struct_size = sizeof(bora_cache_ops),
    .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_F16) | BORA_DTYPE_BIT(BORA_DTYPE_Q8_0),
    .create = paged_create,
    .destroy = paged_destroy,
    .seq_open = paged_seq_open,
    .seq_close = paged_seq_close,
    .seq_fork = paged_seq_fork,
    .reserve = paged_reserve,
    .append = paged_append,
    .spans = paged_spans,
    .truncate = paged_truncate,
    .export_page = paged_export_page,
    .import_page = paged_import_page,
    .bytes = paged_bytes,
    .seq_size = paged_seq_size,
};

static const bora_plugin paged_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_CACHE,
    .flags = BORA_PLUGIN_BATCH_INVARIANT,
    .name = "paged",
    .version = "1.0",
    .ops = &paged_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &paged_plugin;
}
