/* Text to tokens, as SentencePiece's BPE does it.
 *
 *   text -> normalised bytes (dummy prefix, U+FFFD for bad bytes, a plain space for every U+2581)
 *        -> symbols (user-defined pieces first, else single characters)
 *        -> merged, always the best-scored neighbours in the whole text next, the leftmost of equals
 *        -> ids (unknown characters as their bytes, or as one unk per run)
 *
 * Symbols tile the normalised text and are found by the offset of their first byte, so that the next one of a symbol
 * needs no link. Candidate merges wait in a binary heap; those that an earlier merge made void stay in it and are
 * recognised when they come up. */
#include "model/tokenizer/tokenizer.h"

#include "base/memory.h"
#include "base/size.h"
#include "model/tokenizer/utf8.h"
#include "model/tokenizer/vocabulary.h"

#include <string.h>

#define TEXT_SIZE_MAX ((size_t)1 << 31)
#define SYMBOL_NONE UINT32_MAX

typedef struct symbol {
    uint32_t size; /* bytes; 0: no symbol begins here (any more) */
    uint32_t prev; /* where the one before begins; SYMBOL_NONE for the first */
    int32_t id;    /* -1: unknown */
} symbol;

typedef struct merge {
    float score;
    uint32_t left, right; /* where the two begin */
    int32_t id;           /* what they become */
} merge;

typedef struct merge_heap {
    merge *merges; /* [n], best first in heap order */
    size_t n, capacity;
} merge_heap;

typedef struct encoding {
    const bora_tokenizer *tokenizer;
    char *text; /* [size] normalised */
    size_t size;
    symbol *symbols; /* [size] */
    merge_heap heap;
    uint32_t *splits; /* [n_pieces] or NULL: for unused pieces, size of the left half last merged into them */
} encoding;

static void encoding_release(encoding *e)
{
    bora_free(e->text);
    bora_free(e->symbols);
    bora_free(e->heap.merges);
    bora_free(e->splits);
}

/* ---- normalising --------------------------------------------------------------------------------------------- */

static bool space_mark_at(const char *text, size_t size)
{
    return size >= BORA_SPACE_MARK_SIZE && memcmp(text, BORA_SPACE_MARK, BORA_SPACE_MARK_SIZE) == 0;
}

/* Upper bound of the normalised size; false if that is too large. */
static bool normalised_size(const char *text, size_t size, size_t *ret_size)
{
    size_t n_bad = 0;
    for (size_t at = 0; at < size;) {
        int step = bora_utf8_step(text + at, size - at);
        n_bad += step <= 0;
        at += step > 0 ? (size_t)step : 1;
    }
    size_t bound = size + 1 + n_bad * (sizeof BORA_UTF8_REPLACEMENT - 2);
    if (bound >= SYMBOL_NONE)
        return false;
    *ret_size = bound;
    return true;
}

/* Runs of plain spaces shrink to one with remove_extra_whitespaces, those at the ends vanish; a space mark in the
 * text counts as a space at the end only, as in SentencePiece. */
static bora_status text_normalise(encoding *e, const char *text, size_t size, bora_error *err)
{
    bool squeeze = e->tokenizer->remove_extra_whitespaces;
    size_t at = 0, n = 0, bound;
    while (squeeze && at < size && text[at] == ' ')
        at++;
    if (at == size)
        return BORA_OK;
    if (!normalised_size(text, size, &bound))
        return bora_fail(err, BORA_E_LIMIT, "text of %zu bytes that are not UTF-8", size);
    char *out = e->text = bora_alloc(bound);
    if (!out)
        return bora_fail(err, BORA_E_NOMEM, "text of %zu bytes", size);
    if (e->tokenizer->add_dummy_prefix)
        out[n++] = ' ';
    bool after_space = false;
    while (at < size) {
        int step = bora_utf8_step(text + at, size - at);
        bool space = text[at] == ' ';
        if (space && squeeze && after_space) {
            at++;
            continue;
        }
        after_space = space;
        if (step <= 0) {
            memcpy(out + n, BORA_UTF8_REPLACEMENT, sizeof BORA_UTF8_REPLACEMENT - 1);
            n += sizeof BORA_UTF8_REPLACEMENT - 1;
            at++;
        } else if (space_mark_at(text + at, size - at)) {
            out[n++] = ' ';
            at += BORA_SPACE_MARK_SIZE;
        } else {
            memcpy(out + n, text + at, (size_t)step);
            n += (size_t)step;
            at += (size_t)step;
        }
    }
    while (squeeze && n && out[n - 1] == ' ')
        n--;
    e->size = n;
    return BORA_OK;
}

/* ---- the heap ------------------------------------------------------------------------------------------------ */

static bool merge_before(const merge *a, const merge *b)
{
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static bora_status heap_push(merge_heap *heap, merge item, bora_error *err)
{
    if (heap->n == heap->capacity) {
        size_t capacity;
        if (!bora_size_add(heap->capacity, heap->capacity / 2 + 64, &capacity))
            return bora_fail(err, BORA_E_NOMEM, "merges");
        merge *grown = bora_realloc(heap->merges, capacity, sizeof *grown);
        if (!grown)
            return bora_fail(err, BORA_E_NOMEM, "%zu merges", capacity);
        heap->merges = grown;
        heap->capacity = capacity;
    }
    size_t at = heap->n++;
    while (at) {
        size_t parent = (at - 1) / 2;
        if (!merge_before(&item, &heap->merges[parent]))
            break;
        heap->merges[at] = heap->merges[parent];
        at = parent;
    }
    heap->merges[at] = item;
    return BORA_OK;
}

/* The heap must not be empty. */
static merge heap_pop(merge_heap *heap)
{
    merge best = heap->merges[0], last = heap->merges[--heap->n];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->n)
            break;
        if (child + 1 < heap->n && merge_before(&heap->merges[child + 1], &heap->merges[child]))
            child++;
        if (!merge_before(&heap->merges[child], &last))
            break;
        heap->merges[at] = heap->merges[child];
        at = child;
    }
    if (heap->n)
        heap->merges[at] = last;
    return best;
}

/* ---- merging ------------------------------------------------------------------------------------------------- */

/* A user-defined piece is never part of a merge. */
static bool symbol_frozen(const encoding *e, const symbol *s)
{
    return s->id >= 0 && e->tokenizer->pieces[s->id].type == BORA_PIECE_USER_DEFINED;
}

static bora_status symbols_split(encoding *e, bora_error *err)
{
    e->symbols = bora_calloc(e->size, sizeof *e->symbols);
    if (!e->symbols)
        return bora_fail(err, BORA_E_NOMEM, "text of %zu bytes", e->size);
    uint32_t prev = SYMBOL_NONE;
    for (size_t at = 0; at < e->size;) {
        const char *text = e->text + at;
        int32_t id = bora_tokenizer_find_user(e->tokenizer, text, e->size - at);
        uint32_t size;
        if (id >= 0) {
            size = e->tokenizer->pieces[id].text_size;
        } else {
            size = (uint32_t)bora_utf8_step(text, e->size - at); /* well-formed: it was normalised */
            id = bora_tokenizer_find(e->tokenizer, text, size);
        }
        e->symbols[at] = (symbol){.size = size, .prev = prev, .id = id};
        prev = (uint32_t)at;
        at += size;
    }
    return BORA_OK;
}

/* Puts the merge of the symbols at left and right on the heap, if there is a piece for it. */
static bora_status merge_consider(encoding *e, uint32_t left, uint32_t right, bora_error *err)
{
    const symbol *l = &e->symbols[left], *r = &e->symbols[right];
    if (symbol_frozen(e, l) || symbol_frozen(e, r))
        return BORA_OK;
    int32_t id = bora_tokenizer_find(e->tokenizer, e->text + left, (size_t)l->size + r->size);
    if (id < 0)
        return BORA_OK;
    const bora_piece *piece = &e->tokenizer->pieces[id];
    if (piece->type == BORA_PIECE_UNUSED)
        e->splits[id] = l->size;
    return heap_push(&e->heap, (merge){.score = piece->score, .left = left, .right = right, .id = id}, err);
}

static bora_status symbols_merge(encoding *e, bora_error *err)
{
    if (e->tokenizer->has_unused) {
        e->splits = bora_calloc(e->tokenizer->n_pieces, sizeof *e->splits);
        if (!e->splits)
            return bora_fail(err, BORA_E_NOMEM, "unused pieces");
    }
    for (size_t at = e->symbols[0].size; at < e->size; at += e->symbols[at].size) {
        bora_status status = merge_consider(e, e->symbols[at].prev, (uint32_t)at, err);
        if (status != BORA_OK)
            return status;
    }
    while (e->heap.n) {
        merge best = heap_pop(&e->heap);
        symbol *left = &e->symbols[best.left], *right = &e->symbols[best.right];
        uint32_t size = e->tokenizer->pieces[best.id].text_size;
        if (!left->size || !right->size || left->size + right->size != size)
            continue; /* one of the two has become part of something else */
        right->size = 0;
        left->size = size;
        left->id = best.id;
        bora_status status = BORA_OK;
        if (left->prev != SYMBOL_NONE)
            status = merge_consider(e, left->prev, best.left, err);
        size_t next = (size_t)best.left + size;
        if (next < e->size) {
            e->symbols[next].prev = best.left;
            if (status == BORA_OK)
                status = merge_consider(e, best.left, (uint32_t)next, err);
        }
        if (status != BORA_OK)
            return status;
    }
    return BORA_OK;
}

/* ---- ids ----------------------------------------------------------------------------------------------------- */

/* An unused piece helps others to be merged and is taken apart again where it is left over, into the halves it was
 * last seen to be made of. */
static void symbol_take_apart(encoding *e, size_t at)
{
    symbol *s = &e->symbols[at];
    while (s->id >= 0 && e->tokenizer->pieces[s->id].type == BORA_PIECE_UNUSED && e->splits[s->id]) {
        uint32_t left = e->splits[s->id], right = s->size - left;
        e->symbols[at + left] =
            (symbol){.size = right, .id = bora_tokenizer_find(e->tokenizer, e->text + at + left, right)};
        s->size = left;
        s->id = bora_tokenizer_find(e->tokenizer, e->text + at, left);
    }
}

static bora_status bytes_emit(const bora_tokenizer *tokenizer, const char *text, size_t size, bora_tokens *ids,
                              bora_error *err)
{
    if (size == 1 && *text == ' ') {
        text = BORA_SPACE_MARK; /* that is how SentencePiece has it by now */
        size = BORA_SPACE_MARK_SIZE;
    }
    bora_status status = BORA_OK;
    for (size_t i = 0; i < size && status == BORA_OK; i++)
        status = bora_tokens_push(ids, tokenizer->byte_ids[(uint8_t)text[i]], err);
    return status;
}

static bora_status symbols_emit(encoding *e, bora_tokens *ids, bora_error *err)
{
    const bora_tokenizer *tokenizer = e->tokenizer;
    bool after_unk = false;
    bora_status status = BORA_OK;
    for (size_t at = 0; at < e->size && status == BORA_OK; at += e->symbols[at].size) {
        symbol_take_apart(e, at);
        const symbol *s = &e->symbols[at];
        if (s->id >= 0)
            status = bora_tokens_push(ids, s->id, err);
        else if (tokenizer->byte_fallback)
            status = bytes_emit(tokenizer, e->text + at, s->size, ids, err);
        else if (!after_unk)
            status = bora_tokens_push(ids, tokenizer->unk_id, err);
        after_unk = s->id < 0;
    }
    return status;
}

bora_status bora_tokenizer_encode(const bora_tokenizer *tokenizer, const char *text, size_t size, bora_tokens *ids,
                                  bora_error *err)
{
    if (size > TEXT_SIZE_MAX)
        return bora_fail(err, BORA_E_LIMIT, "text of %zu bytes is over %zu", size, TEXT_SIZE_MAX);
    if (!size)
        return BORA_OK;
    BORA_CLEANUP(encoding_release) encoding e = {.tokenizer = tokenizer};
    bora_status status = text_normalise(&e, text, size, err);
    if (status != BORA_OK || !e.size)
        return status;
    size_t n_before = ids->n;
    status = symbols_split(&e, err);
    if (status == BORA_OK)
        status = symbols_merge(&e, err);
    if (status == BORA_OK)
        status = symbols_emit(&e, ids, err);
    if (status != BORA_OK)
        ids->n = n_before;
    return status;
}
