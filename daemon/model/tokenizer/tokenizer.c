/* The vocabulary: checked and copied once, then only looked up. Pieces lie one after the other in one block; a hash
 * table finds them by text. Pieces that text can become and reserved ones (control, byte, unknown) may be spelled
 * alike, so the table keeps the two apart: that is what makes it impossible to type a control token.
 *
 * Tekken's vocabulary is kept in the same way: its scores are the ranks turned round, since the lowest merges first,
 * and the pieces of one byte take the place of SentencePiece's byte pieces. */
#include "model/tokenizer/tokenizer_private.h"

#include "base/memory.h"
#include "base/size.h"
#include "model/hparams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static bool type_is_reserved(int type)
{
    return type == BORA_PIECE_UNKNOWN || type == BORA_PIECE_CONTROL || type == BORA_PIECE_BYTE;
}

static const char *piece_of(const bora_tokenizer *tokenizer, size_t id, size_t *ret_size)
{
    *ret_size = tokenizer->starts[id + 1] - tokenizer->starts[id];
    return tokenizer->bytes + tokenizer->starts[id];
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int bora_piece_byte(const char *bytes, size_t size)
{
    if (size != 6 || memcmp(bytes, "<0x", 3) != 0 || bytes[5] != '>')
        return -1;
    int high = hex_digit(bytes[3]), low = hex_digit(bytes[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* ---- finding ------------------------------------------------------------------------------------------------- */

/* The slot of the piece, or the empty one where it belongs. There always is an empty one. */
static bora_piece_slot *slot_find(const bora_tokenizer *tokenizer, bool reserved, const char *bytes, size_t size,
                                  uint32_t *ret_tag)
{
    uint64_t hash = XXH3_64bits_withSeed(bytes, size, reserved);
    uint32_t tag = (uint32_t)hash;
    *ret_tag = tag;
    for (size_t i = hash >> 32;; i++) {
        bora_piece_slot *slot = &tokenizer->slots[i & (tokenizer->n_slots - 1)];
        if (slot->id == 0)
            return slot;
        if (slot->tag != tag || type_is_reserved(tokenizer->types[slot->id - 1]) != reserved)
            continue;
        size_t other_size;
        const char *other = piece_of(tokenizer, slot->id - 1, &other_size);
        if (other_size == size && memcmp(other, bytes, size) == 0)
            return slot;
    }
}

int32_t bora_tokenizer_find(const bora_tokenizer *tokenizer, bool reserved, const char *bytes, size_t size)
{
    uint32_t tag;
    return (int32_t)slot_find(tokenizer, reserved, bytes, size, &tag)->id - 1;
}

/* The byte of a piece at depth; -1 at its end, so that a prefix sorts before what it begins. */
static int user_byte(const bora_piece_span *piece, size_t depth)
{
    return depth < piece->size ? (uint8_t)piece->bytes[depth] : -1;
}

/* First of low .. high-1 whose byte at depth is at least min; high if there is none. */
static size_t user_bound(const bora_tokenizer *tokenizer, size_t low, size_t high, size_t depth, int min)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (user_byte(&tokenizer->user_pieces[middle], depth) < min)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t bora_tokenizer_match_user(const bora_tokenizer *tokenizer, const char *text, size_t size)
{
    if (size == 0 || !tokenizer->user_first[(uint8_t)text[0]])
        return 0;
    size_t low = 0, high = tokenizer->n_user_pieces, longest = 0;
    /* low .. high-1 begin with the first depth bytes of the text. */
    for (size_t depth = 0; depth < size; depth++) {
        int byte = (uint8_t)text[depth];
        low = user_bound(tokenizer, low, high, depth, byte);
        high = user_bound(tokenizer, low, high, depth, byte + 1);
        if (low == high)
            break;
        if (tokenizer->user_pieces[low].size == depth + 1)
            longest = depth + 1;
    }
    return longest;
}

/* ---- making -------------------------------------------------------------------------------------------------- */

/* Whether a space stands after something that is none. */
static bool piece_has_inner_space(const char *bytes, size_t size)
{
    bool after_other = false;
    for (size_t i = 0; i < size;) {
        if (size - i >= BORA_SPACE_PIECE_SIZE && memcmp(bytes + i, BORA_SPACE_PIECE, BORA_SPACE_PIECE_SIZE) == 0) {
            if (after_other)
                return true;
            i += BORA_SPACE_PIECE_SIZE;
        } else {
            after_other = true;
            i++;
        }
    }
    return false;
}

static bool text_is_utf8(const char *text, size_t size)
{
    for (size_t i = 0, n; i < size; i += n) {
        n = bora_utf8_char(text + i, size - i, NULL);
        if (n == 0)
            return false;
    }
    return true;
}

static bora_status id_check(const char *what, int32_t id, size_t n_pieces, bora_error *err)
{
    if (id < -1 || (id >= 0 && (size_t)id >= n_pieces))
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: %s is piece %d of %zu", what, id, n_pieces);
    return BORA_OK;
}

/* Text becomes normal and user-defined pieces, nothing becomes a control piece; Tekken has no others. */
static bora_status tekken_piece_check(const bora_vocab *vocab, size_t id, bora_error *err)
{
    int32_t type = vocab->types[id];
    if (type != BORA_PIECE_NORMAL && type != BORA_PIECE_CONTROL && type != BORA_PIECE_USER_DEFINED)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu is of type %d, which Tekken does not have", id,
                         type);
    if (type != BORA_PIECE_NORMAL && !text_is_utf8(vocab->pieces[id], vocab->piece_sizes[id]))
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu is not UTF-8", id);
    return BORA_OK;
}

/* Everything that can be said of one piece by itself. */
static bora_status piece_check(const bora_vocab *vocab, size_t id, bora_error *err)
{
    const char *piece = vocab->pieces[id];
    uint32_t size = vocab->piece_sizes[id];
    int32_t type = vocab->types[id];
    if (size < 1 || size > BORA_PIECE_SIZE_MAX)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu has %u bytes, expected 1 to %u", id, size,
                         BORA_PIECE_SIZE_MAX);
    if (type < BORA_PIECE_NORMAL || type > BORA_PIECE_BYTE)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu is of the unknown type %d", id, type);
    if (vocab->pattern)
        return tekken_piece_check(vocab, id, err);
    if (isnan(vocab->scores[id]))
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: the score of piece %zu is not a number", id);
    if (!text_is_utf8(piece, size))
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu is not UTF-8", id);
    if (type == BORA_PIECE_BYTE && bora_piece_byte(piece, size) < 0)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: byte piece %zu is not spelled <0x00> to <0xFF>", id);
    return BORA_OK;
}

static bora_status vocab_check(const bora_vocab *vocab, size_t *ret_bytes_size, bora_error *err)
{
    size_t n = vocab->n_pieces;
    if (n < 1 || n > BORA_VOCAB_MAX)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: %zu pieces, expected 1 to %u", n, BORA_VOCAB_MAX);
    bora_status st;
    if ((st = id_check("BOS", vocab->bos_id, n, err)) != BORA_OK ||
        (st = id_check("EOS", vocab->eos_id, n, err)) != BORA_OK ||
        (st = id_check("unknown", vocab->unk_id, n, err)) != BORA_OK)
        return st;
    size_t bytes_size = 0; /* at most BORA_VOCAB_MAX * BORA_PIECE_SIZE_MAX: fits 32 bits */
    for (size_t id = 0; id < n; id++) {
        if ((st = piece_check(vocab, id, err)) != BORA_OK)
            return st;
        bytes_size += vocab->piece_sizes[id];
    }
    *ret_bytes_size = bytes_size;
    return BORA_OK;
}

static bora_status pieces_copy(bora_tokenizer *tokenizer, const bora_vocab *vocab, size_t bytes_size, bora_error *err)
{
    size_t n = vocab->n_pieces, n_slots = 2;
    while (n_slots < n * 2)
        n_slots *= 2;
    tokenizer->n_pieces = n;
    tokenizer->bytes_size = bytes_size;
    tokenizer->n_slots = n_slots;
    tokenizer->bytes = bora_alloc(bytes_size);
    tokenizer->starts = bora_calloc(n + 1, sizeof *tokenizer->starts);
    tokenizer->scores = bora_calloc(n, sizeof *tokenizer->scores);
    tokenizer->types = bora_calloc(n, sizeof *tokenizer->types);
    tokenizer->slots = bora_calloc(n_slots, sizeof *tokenizer->slots);
    if (!tokenizer->bytes || !tokenizer->starts || !tokenizer->scores || !tokenizer->types || !tokenizer->slots)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", n);
    if (vocab->scores)
        memcpy(tokenizer->scores, vocab->scores, n * sizeof *tokenizer->scores);
    for (size_t id = 0; id < n; id++) {
        if (!vocab->scores)
            tokenizer->scores[id] = -(float)id; /* exact: ids are below 2^24 */
        memcpy(tokenizer->bytes + tokenizer->starts[id], vocab->pieces[id], vocab->piece_sizes[id]);
        tokenizer->starts[id + 1] = tokenizer->starts[id] + vocab->piece_sizes[id];
        tokenizer->types[id] = (uint8_t)vocab->types[id];
    }
    return BORA_OK;
}

static bora_status pieces_hash(bora_tokenizer *tokenizer, bora_error *err)
{
    for (size_t id = 0; id < tokenizer->n_pieces; id++) {
        size_t size;
        const char *piece = piece_of(tokenizer, id, &size);
        uint32_t tag;
        bora_piece_slot *slot = slot_find(tokenizer, type_is_reserved(tokenizer->types[id]), piece, size, &tag);
        if (slot->id)
            return bora_fail(err, BORA_E_FORMAT, "vocabulary: pieces %u and %zu are the same", slot->id - 1, id);
        *slot = (bora_piece_slot){.tag = tag, .id = (uint32_t)id + 1};
    }
    return BORA_OK;
}

/* What encoding wants to know of the pieces as a whole. */
static bora_status pieces_survey(bora_tokenizer *tokenizer, bora_error *err)
{
    size_t n_bytes = 0;
    tokenizer->splits_at_spaces = true;
    for (size_t id = 0; id < tokenizer->n_pieces; id++) {
        size_t size;
        const char *piece = piece_of(tokenizer, id, &size);
        int type = tokenizer->types[id];
        if (type == BORA_PIECE_BYTE) {
            tokenizer->byte_ids[bora_piece_byte(piece, size)] = (int32_t)id;
            n_bytes++;
        } else if (tokenizer->split && type == BORA_PIECE_NORMAL && size == 1) {
            tokenizer->byte_ids[(uint8_t)piece[0]] = (int32_t)id;
            n_bytes++;
        } else if (type == BORA_PIECE_UNKNOWN && tokenizer->unk_id < 0) {
            tokenizer->unk_id = (int32_t)id;
        }
        if (type_is_reserved(type))
            continue;
        if (tokenizer->text_piece_size_max < size)
            tokenizer->text_piece_size_max = (uint32_t)size;
        tokenizer->n_user_pieces += type == BORA_PIECE_USER_DEFINED;
        tokenizer->has_unused |= type == BORA_PIECE_UNUSED;
        if (piece_has_inner_space(piece, size))
            tokenizer->splits_at_spaces = false;
    }
    if (n_bytes != 256 && (n_bytes != 0 || tokenizer->split)) /* none is there twice, so 256 are all */
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: %zu of the 256 %s", n_bytes,
                         tokenizer->split ? "single bytes" : "byte pieces");
    tokenizer->has_bytes = n_bytes == 256;
    if (!tokenizer->has_bytes && tokenizer->unk_id < 0)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: neither byte pieces nor an unknown piece");
    /* It would come from text that has no pieces: never a control piece, then. */
    if (!tokenizer->has_bytes && tokenizer->types[tokenizer->unk_id] != BORA_PIECE_UNKNOWN)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: unknown is piece %d, which is not of that type",
                         tokenizer->unk_id);
    /* How an unused piece is taken apart depends on merges anywhere in the text. */
    if (tokenizer->has_unused)
        tokenizer->splits_at_spaces = false;
    return BORA_OK;
}

static int user_compare(const void *a, const void *b)
{
    const bora_piece_span *left = a, *right = b;
    int order = memcmp(left->bytes, right->bytes, left->size < right->size ? left->size : right->size);
    return order ? order : (left->size > right->size) - (left->size < right->size);
}

static bora_status user_pieces_sort(bora_tokenizer *tokenizer, bora_error *err)
{
    tokenizer->user_pieces = bora_calloc(tokenizer->n_user_pieces, sizeof *tokenizer->user_pieces);
    if (!tokenizer->user_pieces)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary with %zu user-defined pieces", tokenizer->n_user_pieces);
    size_t n = 0;
    for (size_t id = 0; id < tokenizer->n_pieces; id++) {
        if (tokenizer->types[id] != BORA_PIECE_USER_DEFINED)
            continue;
        size_t size;
        const char *piece = piece_of(tokenizer, id, &size);
        tokenizer->user_pieces[n++] = (bora_piece_span){.bytes = piece, .size = (uint32_t)size};
        tokenizer->user_first[(uint8_t)piece[0]] = true;
    }
    qsort(tokenizer->user_pieces, n, sizeof *tokenizer->user_pieces, user_compare);
    return BORA_OK;
}

static void tokenizer_freep(bora_tokenizer **tokenizer)
{
    bora_tokenizer_free(*tokenizer);
}

bora_status bora_tokenizer_new(const bora_vocab *vocab, bora_tokenizer **ret_tokenizer, bora_error *err)
{
    size_t bytes_size = 0;
    bora_status st = vocab_check(vocab, &bytes_size, err);
    if (st != BORA_OK)
        return st;
    BORA_CLEANUP(tokenizer_freep) bora_tokenizer *tokenizer = bora_calloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return bora_fail(err, BORA_E_NOMEM, "tokenizer");
    if (vocab->pattern && (st = bora_split_new(vocab->pattern, vocab->pattern_size, &tokenizer->split, err)) != BORA_OK)
        return st;
    tokenizer->kind = vocab->pattern ? BORA_TOKENIZER_TEKKEN : BORA_TOKENIZER_SENTENCEPIECE;
    tokenizer->version = vocab->version;
    tokenizer->bos_id = vocab->bos_id;
    tokenizer->eos_id = vocab->eos_id;
    tokenizer->unk_id = vocab->unk_id;
    tokenizer->add_dummy_prefix = vocab->add_dummy_prefix && !vocab->pattern;
    tokenizer->remove_extra_whitespaces = vocab->remove_extra_whitespaces && !vocab->pattern;
    if ((st = pieces_copy(tokenizer, vocab, bytes_size, err)) != BORA_OK ||
        (st = pieces_hash(tokenizer, err)) != BORA_OK || (st = pieces_survey(tokenizer, err)) != BORA_OK ||
        (st = user_pieces_sort(tokenizer, err)) != BORA_OK)
        return st;
    *ret_tokenizer = bora_steal(&tokenizer);
    return BORA_OK;
}

void bora_tokenizer_free(bora_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    bora_split_free(tokenizer->split);
    bora_free(tokenizer->bytes);
    bora_free(tokenizer->starts);
    bora_free(tokenizer->scores);
    bora_free(tokenizer->types);
    bora_free(tokenizer->slots);
    bora_free(tokenizer->user_pieces);
    bora_free(tokenizer);
}

/* ---- asking -------------------------------------------------------------------------------------------------- */

int bora_tokenizer_kind(const bora_tokenizer *tokenizer)
{
    return tokenizer->kind;
}

uint32_t bora_tokenizer_version(const bora_tokenizer *tokenizer)
{
    return tokenizer->version;
}

size_t bora_tokenizer_size(const bora_tokenizer *tokenizer)
{
    const bora_tokenizer *t = tokenizer;
    return sizeof *t + t->bytes_size + (t->n_pieces + 1) * sizeof *t->starts +
           t->n_pieces * (sizeof *t->scores + sizeof *t->types) + t->n_slots * sizeof *t->slots +
           t->n_user_pieces * sizeof *t->user_pieces;
}

size_t bora_tokenizer_n_pieces(const bora_tokenizer *tokenizer)
{
    return tokenizer->n_pieces;
}

int32_t bora_tokenizer_bos(const bora_tokenizer *tokenizer)
{
    return tokenizer->bos_id;
}

int32_t bora_tokenizer_eos(const bora_tokenizer *tokenizer)
{
    return tokenizer->eos_id;
}

const char *bora_tokenizer_piece(const bora_tokenizer *tokenizer, int32_t id, size_t *ret_size)
{
    if (id < 0 || (size_t)id >= tokenizer->n_pieces)
        return NULL;
    return piece_of(tokenizer, (size_t)id, ret_size);
}

int bora_tokenizer_piece_type(const bora_tokenizer *tokenizer, int32_t id)
{
    return id < 0 || (size_t)id >= tokenizer->n_pieces ? 0 : tokenizer->types[id];
}

int32_t bora_tokenizer_control(const bora_tokenizer *tokenizer, const char *text)
{
    int32_t id = bora_tokenizer_find(tokenizer, true, text, strlen(text));
    return bora_tokenizer_piece_type(tokenizer, id) == BORA_PIECE_CONTROL ? id : -1;
}
