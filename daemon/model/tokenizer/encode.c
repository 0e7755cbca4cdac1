/* Text to ids: byte-pair encoding as SentencePiece does it, or as Tekken's reference does.
 *
 *   text -> normalized -> symbols (a user-defined piece or one character each) -> merged, best score first -> ids
 *   text -> normalized -> cut at user-defined pieces, then by the split expression -> symbols (bytes) -> merged -> ids
 *
 * Of all neighbours whose joined text is a piece, those with the best score merge first, of equals the leftmost.
 * Symbols are a linked list in an array; possible merges wait in a heap, and one whose symbols have changed since is
 * dropped when it comes up. Every symbol and every merge adds at most two possible merges, so the work is
 * n log n and the memory about 40 bytes per byte of the longest stretch that is merged in one go: a word, if no piece
 * has a space inside. */
#include "model/tokenizer/tokenizer_private.h"

#include "base/memory.h"

#include <string.h>

#define NO_SYMBOL UINT32_MAX

typedef struct symbol {
    uint32_t start;      /* byte of the normalized text */
    uint32_t prev, next; /* neighbours, NO_SYMBOL at the ends */
    uint16_t size;       /* bytes, at most BORA_PIECE_SIZE_MAX; 0: merged into the one before */
    bool frozen;         /* a user-defined piece: never merges */
} symbol;

/* A possible merge of left with what follows it. */
typedef struct merge {
    float score;
    uint32_t left;
    uint16_t size; /* bytes of both when it was found: if they have other sizes now, they have merged otherwise */
} merge;

typedef struct encoder {
    const bora_tokenizer *tokenizer;
    bora_text normalized;
    symbol *symbols; /* [n_symbols] */
    size_t n_symbols, symbols_capacity;
    merge *merges; /* [n_merges] binary heap, the best first */
    size_t n_merges, merges_capacity;
    uint16_t *splits; /* [n_pieces], if there are unused pieces: bytes of the left part it was last made of; 0: never */
    bora_splitter splitter; /* Tekken's */
    bool after_unknown;
    bora_tokens *ids;
    uint64_t n_steps; /* without the splitter's */
} encoder;

static void encoder_release(encoder *e)
{
    bora_text_release(&e->normalized);
    bora_free(e->symbols);
    bora_free(e->merges);
    bora_free(e->splits);
    bora_splitter_release(&e->splitter);
}

/* ---- the heap ------------------------------------------------------------------------------------------------ */

static bool merge_before(const merge *a, const merge *b)
{
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static bora_status merge_push(encoder *e, merge new_merge, bora_error *err)
{
    void *merges = e->merges;
    bora_status st = bora_list_grow(&merges, &e->merges_capacity, e->n_merges + 1, sizeof *e->merges, err);
    e->merges = merges;
    if (st != BORA_OK)
        return st;
    size_t hole = e->n_merges++;
    while (hole > 0 && merge_before(&new_merge, &e->merges[(hole - 1) / 2])) {
        e->merges[hole] = e->merges[(hole - 1) / 2];
        hole = (hole - 1) / 2;
        e->n_steps++;
    }
    e->merges[hole] = new_merge;
    return BORA_OK;
}

static merge merge_pop(encoder *e)
{
    merge best = e->merges[0], last = e->merges[--e->n_merges];
    size_t hole = 0;
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= e->n_merges)
            break;
        if (child + 1 < e->n_merges && merge_before(&e->merges[child + 1], &e->merges[child]))
            child++;
        if (!merge_before(&e->merges[child], &last))
            break;
        e->merges[hole] = e->merges[child];
        hole = child;
        e->n_steps++;
    }
    e->merges[hole] = last;
    return best;
}

/* ---- symbols ------------------------------------------------------------------------------------------------- */

/* What is there before any merge: Tekken's text has been cut at user-defined pieces already. */
static size_t symbol_size(const encoder *e, const char *text, size_t size, bool *ret_frozen)
{
    *ret_frozen = false;
    if (e->tokenizer->kind == BORA_TOKENIZER_TEKKEN)
        return 1;
    size_t n = bora_tokenizer_match_user(e->tokenizer, text, size);
    *ret_frozen = n > 0;
    return n > 0 ? n : bora_utf8_char(text, size, NULL); /* never 0: normalized text is well-formed */
}

static bora_status symbols_make(encoder *e, size_t start, size_t end, bora_error *err)
{
    e->n_symbols = 0;
    for (size_t at = start; at < end;) {
        void *symbols = e->symbols;
        bora_status st = bora_list_grow(&symbols, &e->symbols_capacity, e->n_symbols + 1, sizeof *e->symbols, err);
        e->symbols = symbols;
        if (st != BORA_OK)
            return st;
        bool frozen = false;
        size_t size = symbol_size(e, e->normalized.bytes + at, end - at, &frozen);
        uint32_t i = (uint32_t)e->n_symbols++;
        e->symbols[i] =
            (symbol){.start = (uint32_t)at, .prev = i - 1, .next = i + 1, .size = (uint16_t)size, .frozen = frozen};
        at += size;
    }
    e->symbols[0].prev = NO_SYMBOL;
    e->symbols[e->n_symbols - 1].next = NO_SYMBOL;
    e->n_steps += e->n_symbols;
    return BORA_OK;
}

/* Puts the pair on the heap if its text is a piece. */
static bora_status pair_offer(encoder *e, uint32_t left, uint32_t right, bora_error *err)
{
    if (left == NO_SYMBOL || right == NO_SYMBOL || e->symbols[left].frozen || e->symbols[right].frozen)
        return BORA_OK;
    const bora_tokenizer *tokenizer = e->tokenizer;
    size_t size = (size_t)e->symbols[left].size + e->symbols[right].size;
    if (size > tokenizer->text_piece_size_max)
        return BORA_OK;
    int32_t id = bora_tokenizer_find(tokenizer, false, e->normalized.bytes + e->symbols[left].start, size);
    if (id < 0)
        return BORA_OK;
    if (tokenizer->types[id] == BORA_PIECE_UNUSED)
        e->splits[id] = e->symbols[left].size;
    return merge_push(e, (merge){.score = tokenizer->scores[id], .left = left, .size = (uint16_t)size}, err);
}

static bora_status symbols_merge(encoder *e, bora_error *err)
{
    bora_status st = BORA_OK;
    e->n_merges = 0;
    for (uint32_t i = 1; i < e->n_symbols && st == BORA_OK; i++)
        st = pair_offer(e, i - 1, i, err);
    while (e->n_merges > 0 && st == BORA_OK) {
        merge best = merge_pop(e);
        e->n_steps++;
        symbol *left = &e->symbols[best.left];
        if (left->size == 0 || left->next == NO_SYMBOL)
            continue;
        symbol *right = &e->symbols[left->next];
        if (left->size + right->size != best.size)
            continue;
        left->size = best.size;
        right->size = 0;
        left->next = right->next;
        if (left->next != NO_SYMBOL)
            e->symbols[left->next].prev = best.left;
        st = pair_offer(e, left->prev, best.left, err);
        if (st == BORA_OK)
            st = pair_offer(e, best.left, left->next, err);
    }
    return st;
}

/* ---- ids ----------------------------------------------------------------------------------------------------- */

static bora_status unknown_emit(encoder *e, const char *text, size_t size, bora_error *err)
{
    if (!e->tokenizer->has_bytes) {
        /* One id for a run of them. */
        bora_status st = e->after_unknown ? BORA_OK : bora_tokens_push(e->ids, e->tokenizer->unk_id, err);
        e->after_unknown = true;
        return st;
    }
    bora_status st = BORA_OK;
    for (size_t i = 0; i < size && st == BORA_OK; i++)
        st = bora_tokens_push(e->ids, e->tokenizer->byte_ids[(uint8_t)text[i]], err);
    return st;
}

/* An unused piece is replaced by what it was made of. Each level is shorter: at most BORA_PIECE_SIZE_MAX deep. */
static bora_status text_emit(encoder *e, const char *text, size_t size, bora_error *err)
{
    int32_t id = bora_tokenizer_find(e->tokenizer, false, text, size);
    if (id < 0)
        return unknown_emit(e, text, size, err);
    if (e->tokenizer->types[id] == BORA_PIECE_UNUSED && e->splits[id] > 0) {
        size_t left = e->splits[id];
        bora_status st = text_emit(e, text, left, err);
        return st == BORA_OK ? text_emit(e, text + left, size - left, err) : st;
    }
    e->after_unknown = false;
    return bora_tokens_push(e->ids, id, err);
}

/* Bytes from start on that are encoded by themselves: up to a space that follows something else. */
static size_t stretch_size(const encoder *e, size_t start)
{
    const char *text = e->normalized.bytes + start;
    size_t size = e->normalized.size - start;
    if (!e->tokenizer->splits_at_spaces)
        return size;
    bool after_other = false;
    for (size_t i = 0; i < size;) {
        if (size - i >= BORA_SPACE_PIECE_SIZE && memcmp(text + i, BORA_SPACE_PIECE, BORA_SPACE_PIECE_SIZE) == 0) {
            if (after_other)
                return i;
            i += BORA_SPACE_PIECE_SIZE;
        } else {
            after_other = true;
            i++;
        }
    }
    return size;
}

static bora_status stretch_encode(encoder *e, size_t start, size_t size, bora_error *err)
{
    bora_status st = symbols_make(e, start, start + size, err);
    if (st == BORA_OK)
        st = symbols_merge(e, err);
    for (uint32_t i = 0; st == BORA_OK && i != NO_SYMBOL; i = e->symbols[i].next)
        st = text_emit(e, e->normalized.bytes + e->symbols[i].start, e->symbols[i].size, err);
    return st;
}

static bora_status sentencepiece_encode(encoder *e, bora_error *err)
{
    bora_status st = BORA_OK;
    for (size_t at = 0, size; at < e->normalized.size && st == BORA_OK; at += size) {
        size = stretch_size(e, at);
        st = stretch_encode(e, at, size, err);
    }
    return st;
}

/* ---- Tekken -------------------------------------------------------------------------------------------------- */

/* A piece of the text that is one of the vocabulary needs no merges: the reference takes it, too, even where merging
 * would not arrive there. */
static bora_status split_encode(encoder *e, size_t start, size_t size, bora_error *err)
{
    bora_splitter_text(&e->splitter, e->normalized.bytes + start, size);
    for (;;) {
        size_t at = 0, n = 0;
        bora_status st = bora_splitter_next(&e->splitter, &at, &n, err);
        if (st != BORA_OK || n == 0)
            return st;
        at += start;
        int32_t id = -1;
        if (n <= e->tokenizer->text_piece_size_max)
            id = bora_tokenizer_find(e->tokenizer, false, e->normalized.bytes + at, n);
        st = id >= 0 ? bora_tokens_push(e->ids, id, err) : stretch_encode(e, at, n, err);
        if (st != BORA_OK)
            return st;
    }
}

static bora_status tekken_encode(encoder *e, bora_error *err)
{
    const bora_tokenizer *tokenizer = e->tokenizer;
    const char *text = e->normalized.bytes;
    size_t size = e->normalized.size, start = 0;
    bora_status st = bora_splitter_init(&e->splitter, tokenizer->split, err);
    for (size_t at = 0; at < size && st == BORA_OK;) {
        size_t n = tokenizer->n_user_pieces ? bora_tokenizer_match_user(tokenizer, text + at, size - at) : 0;
        if (n == 0) {
            at += tokenizer->n_user_pieces ? 1 : size;
            continue;
        }
        st = split_encode(e, start, at - start, err);
        if (st == BORA_OK)
            st = bora_tokens_push(e->ids, bora_tokenizer_find(tokenizer, false, text + at, n), err);
        start = at += n;
    }
    return st == BORA_OK ? split_encode(e, start, size - start, err) : st;
}

bora_status bora_tokenizer_encode_counting(const bora_tokenizer *tokenizer, const char *text, size_t size,
                                           bora_tokens *ids, uint64_t *n_steps, bora_error *err)
{
    if (size > BORA_TEXT_SIZE_MAX)
        return bora_fail(err, BORA_E_LIMIT, "text of %zu bytes, at most %zu can be encoded", size, BORA_TEXT_SIZE_MAX);
    BORA_CLEANUP(encoder_release) encoder e = {.tokenizer = tokenizer, .ids = ids};
    if (tokenizer->has_unused) {
        e.splits = bora_calloc(tokenizer->n_pieces, sizeof *e.splits);
        if (!e.splits)
            return bora_fail(err, BORA_E_NOMEM, "encoding with %zu pieces", tokenizer->n_pieces);
    }
    size_t n_before = ids->n;
    bora_status st = bora_tokenizer_normalize(tokenizer, text, size, &e.normalized, err);
    if (st == BORA_OK)
        st = tokenizer->kind == BORA_TOKENIZER_TEKKEN ? tekken_encode(&e, err) : sentencepiece_encode(&e, err);
    if (st != BORA_OK)
        ids->n = n_before;
    *n_steps += e.n_steps + e.splitter.n_steps;
    return st;
}

bora_status bora_tokenizer_encode(const bora_tokenizer *tokenizer, const char *text, size_t size, bora_tokens *ids,
                                  bora_error *err)
{
    uint64_t n_steps = 0;
    return bora_tokenizer_encode_counting(tokenizer, text, size, ids, &n_steps, err);
}
