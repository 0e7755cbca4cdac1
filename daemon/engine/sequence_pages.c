/* A sequence's pages: exporting and importing them, and carrying them over into another cache. */
#include "base/memory.h"
#include "engine/pipeline.h"
#include "engine/pipeline_private.h"

#include <assert.h>
#include <string.h>

/* ---- export -------------------------------------------------------------------------------------------- */

static bora_status export_page(const bora_sequence *sequence, uint32_t class_id, uint64_t first, uint32_t n,
                               bora_page *ret_page, bora_error *err)
{
    const bora_pipeline *pipeline = sequence->pipeline;
    const bora_class *class = &pipeline->classes[class_id];
    size_t layer_size = bora_pipeline_class_position_size(pipeline, class_id) / class->n_layers * n;
    bora_page page = {
        .class_id = class_id,
        .dtype = pipeline->options.kv_dtype,
        .index = first / BORA_PAGE_POSITIONS,
        .n = n,
        .size = layer_size * class->n_layers,
    };
    page.data = bora_alloc(page.size);
    if (!page.data)
        return bora_fail(err, BORA_E_NOMEM, "a page of %zu bytes", page.size);
    for (uint32_t i = 0; i < class->n_layers; i++) {
        uint32_t index, local;
        bora_stage *stage = bora_pipeline_stage_of(pipeline, class->layers[i], &index, &local);
        bora_status st = bora_stage_cache_ops(stage)->export_page(bora_stage_cache(stage), sequence->seqs[index], local,
                                                                  first, n, (char *)page.data + i * layer_size, err);
        if (st != BORA_OK) {
            bora_page_release(&page);
            return st;
        }
    }
    *ret_page = page;
    return BORA_OK;
}

/* First position of the first page that is new and still wholly held. */
static uint64_t export_begin(const bora_sequence *sequence, uint32_t class_id, uint64_t since)
{
    uint64_t begin = since / BORA_PAGE_POSITIONS * BORA_PAGE_POSITIONS;
    uint64_t held = bora_sequence_held_from(sequence, class_id);
    return begin > held ? begin : held;
}

bora_status bora_sequence_export(const bora_sequence *sequence, uint64_t since, bora_page **ret_pages, size_t *ret_n,
                                 uint64_t ret_keep_from[BORA_CLASSES_MAX], bora_error *err)
{
    const bora_pipeline *pipeline = sequence->pipeline;
    uint64_t end = sequence->n_cached;
    size_t n_max = 0, n = 0;
    for (uint32_t c = 0; c < pipeline->n_classes; c++) {
        uint64_t begin = export_begin(sequence, c, since);
        n_max += begin < end ? (size_t)((end - begin + BORA_PAGE_POSITIONS - 1) / BORA_PAGE_POSITIONS) : 0;
    }
    bora_page *pages = bora_calloc(n_max, sizeof *pages);
    if (!pages)
        return bora_fail(err, BORA_E_NOMEM, "%zu pages", n_max);
    uint64_t keep_from[BORA_CLASSES_MAX] = {0};
    for (uint32_t c = 0; c < pipeline->n_classes; c++) {
        for (uint64_t first = export_begin(sequence, c, since); first < end; first += BORA_PAGE_POSITIONS) {
            uint32_t rows = end - first < BORA_PAGE_POSITIONS ? (uint32_t)(end - first) : BORA_PAGE_POSITIONS;
            bora_status st = export_page(sequence, c, first, rows, &pages[n], err);
            if (st != BORA_OK) {
                bora_pages_free(pages, n);
                return st;
            }
            n++;
        }
        uint64_t capacity = bora_sequence_class_capacity(pipeline, c);
        if (end > capacity)
            keep_from[c] = (end - capacity) / BORA_PAGE_POSITIONS;
    }
    for (uint32_t c = 0; c < pipeline->n_classes; c++)
        ret_keep_from[c] = keep_from[c];
    *ret_pages = pages;
    *ret_n = n;
    return BORA_OK;
}

/* ---- import -------------------------------------------------------------------------------------------- */

static const bora_page *find_page(const bora_page *pages, size_t n_pages, uint32_t class_id, uint64_t index)
{
    for (size_t i = 0; i < n_pages; i++)
        if (pages[i].class_id == class_id && pages[i].index == index)
            return &pages[i];
    return NULL;
}

static bora_status check_page(const bora_pipeline *pipeline, const bora_page *page, uint32_t rows, bora_error *err)
{
    size_t size = bora_pipeline_class_position_size(pipeline, page->class_id) * page->n;
    if (page->dtype != pipeline->options.kv_dtype || page->size != size || page->n != rows)
        return bora_fail(err, BORA_E_FORMAT, "page %u/%llu holds %u positions in %zu bytes, not %u of this cache",
                         page->class_id, (unsigned long long)page->index, page->n, page->size, rows);
    return BORA_OK;
}

/* Index of the oldest page to import: of those the window needs, or further back what is there without a gap. */
static uint64_t import_begin(const bora_pipeline *pipeline, uint32_t class_id, uint64_t n_cached,
                             const bora_page *pages, size_t n_pages)
{
    uint64_t capacity = bora_sequence_class_capacity(pipeline, class_id);
    uint64_t begin = bora_sequence_needed_from(pipeline, class_id, n_cached) / BORA_PAGE_POSITIONS;
    while (begin > 0 && begin * BORA_PAGE_POSITIONS + capacity > n_cached) {
        const bora_page *page = find_page(pages, n_pages, class_id, begin - 1);
        if (!page || check_page(pipeline, page, BORA_PAGE_POSITIONS, NULL) != BORA_OK)
            break;
        begin--;
    }
    return begin;
}

static bora_status import_class(const bora_pipeline *pipeline, uint32_t class_id, uint64_t n_cached, uint64_t begin,
                                const bora_page *pages, size_t n_pages, bora_cache_seq *const *seqs, bora_error *err)
{
    const bora_class *class = &pipeline->classes[class_id];
    uint64_t last = (n_cached - 1) / BORA_PAGE_POSITIONS;
    for (uint64_t index = begin; index <= last; index++) {
        const bora_page *page = find_page(pages, n_pages, class_id, index);
        uint32_t rows = index == last ? (uint32_t)(n_cached - last * BORA_PAGE_POSITIONS) : BORA_PAGE_POSITIONS;
        if (!page)
            return bora_fail(err, BORA_E_NOT_FOUND, "page %u/%llu is missing", class_id, (unsigned long long)index);
        bora_status st = check_page(pipeline, page, rows, err);
        if (st != BORA_OK)
            return st;
        size_t layer_size = page->size / class->n_layers;
        for (uint32_t i = 0; i < class->n_layers; i++) {
            uint32_t stage_index, local;
            bora_stage *stage = bora_pipeline_stage_of(pipeline, class->layers[i], &stage_index, &local);
            st = bora_stage_cache_ops(stage)->import_page(bora_stage_cache(stage), seqs[stage_index], local,
                                                          index * BORA_PAGE_POSITIONS, rows,
                                                          (const char *)page->data + i * layer_size, err);
            if (st != BORA_OK)
                return st;
        }
    }
    return BORA_OK;
}

static void sequencep(bora_sequence **sequence)
{
    bora_sequence_close(*sequence);
}

/* Into a sequence of its own, whose caches change place with the empty ones when all went well. */
bora_status bora_sequence_import(bora_sequence *sequence, uint64_t n_cached, const bora_page *pages, size_t n_pages,
                                 bora_error *err)
{
    bora_pipeline *pipeline = sequence->pipeline;
    if (sequence->n_cached > 0)
        return bora_fail(err, BORA_E_INVAL, "pages go into an empty sequence, this one has %llu positions",
                         (unsigned long long)sequence->n_cached);
    if (n_cached == 0)
        return BORA_OK;
    if (n_cached > pipeline->options.max_positions)
        return bora_fail(err, BORA_E_LIMIT, "%llu positions are more than the context of %llu",
                         (unsigned long long)n_cached, (unsigned long long)pipeline->options.max_positions);
    BORA_CLEANUP(sequencep) bora_sequence *fresh = NULL;
    bora_status st = bora_sequence_open(pipeline, &fresh, err);
    for (uint32_t s = 0; st == BORA_OK && s < pipeline->options.n_stages; s++)
        if (bora_stage_cache(pipeline->stages[s]))
            st = bora_stage_cache_ops(pipeline->stages[s])
                     ->reserve(bora_stage_cache(pipeline->stages[s]), fresh->seqs[s], n_cached, err);
    for (uint32_t c = 0; st == BORA_OK && c < pipeline->n_classes; c++) {
        uint64_t begin = import_begin(pipeline, c, n_cached, pages, n_pages);
        st = import_class(pipeline, c, n_cached, begin, pages, n_pages, fresh->seqs, err);
        sequence->oldest[c] = begin * BORA_PAGE_POSITIONS;
    }
    if (st != BORA_OK) {
        memset(sequence->oldest, 0, sizeof sequence->oldest);
        return st;
    }
    for (uint32_t s = 0; s < pipeline->options.n_stages; s++) {
        bora_cache_seq *empty = sequence->seqs[s];
        sequence->seqs[s] = fresh->seqs[s];
        fresh->seqs[s] = empty;
    }
    sequence->n_cached = sequence->furthest = n_cached;
    return BORA_OK;
}

/* ---- carrying over ------------------------------------------------------------------------------------- */

static uint32_t class_of(const bora_pipeline *pipeline, uint32_t layer)
{
    uint32_t window = bora_hparams_window(pipeline->hparams, layer), c = 0;
    while (pipeline->classes[c].window != window)
        c++;
    return c;
}

bora_status bora_sequence_copy_pages(const bora_sequence *sequence, uint32_t stage_index, uint64_t end,
                                     const bora_cache_ops *ops, bora_cache *cache, bora_cache_seq *seq, bora_error *err)
{
    const bora_pipeline *pipeline = sequence->pipeline;
    const bora_stage *stage = pipeline->stages[stage_index];
    if (end == 0)
        return BORA_OK;
    BORA_CLEANUP(bora_freep) void *page = bora_alloc(2 * bora_pipeline_kv_row_size(pipeline) * BORA_PAGE_POSITIONS);
    if (!page)
        return bora_fail(err, BORA_E_NOMEM, "a page on its way");
    bora_status st = ops->reserve(cache, seq, end, err);
    for (uint32_t l = 0; st == BORA_OK && l < bora_stage_n_layers(stage); l++) {
        uint64_t first = bora_sequence_held_from(sequence, class_of(pipeline, bora_stage_first_layer(stage) + l));
        assert(first < end); /* truncate and slack see to that */
        for (; st == BORA_OK && first < end; first += BORA_PAGE_POSITIONS) {
            uint32_t n = end - first < BORA_PAGE_POSITIONS ? (uint32_t)(end - first) : BORA_PAGE_POSITIONS;
            st = bora_stage_cache_ops(stage)->export_page(bora_stage_cache(stage), sequence->seqs[stage_index], l,
                                                          first, n, page, err);
            if (st == BORA_OK)
                st = ops->import_page(cache, seq, l, first, n, page, err);
        }
    }
    return st;
}
