/* The vocabulary: copies and checks the arrays it is made from, and answers who is called what. Everything that
 * encoding and decoding rely on is checked here once: pieces are well-formed UTF-8, unique, of bounded size, byte
 * pieces complete, and any character can be encoded. */
#include "model/tokenizer/tokenizer.h"

#include "base/memory.h"
#include "base/size.h"
#include "model/hparams.h"
#include "model/tokenizer/utf8.h"
#include "model/tokenizer/vocabulary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static void tokenizer_freep(bora_tokenizer **tokenizer)
{
    bora_tokenizer_free(*tokenizer);
}

void bora_tokenizer_free(bora_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    bora_free(tokenizer->pieces);
    bora_free(tokenizer->names);
    bora_free(tokenizer->texts);
    bora_free(tokenizer->by_text.slots);
    bora_free(tokenizer->by_name.slots);
    bora_free(tokenizer->user_pieces);
    bora_free(tokenizer);
}

/* ---- look-ups ------------------------------------------------------------------------------------------------ */

static const char *piece_key(const bora_tokenizer *tokenizer, const bora_piece_index *index, int32_t id,
                             uint32_t *ret_size)
{
    const bora_piece *piece = &tokenizer->pieces[id];
    bool by_name = index == &tokenizer->by_name;
    *ret_size = by_name ? piece->name_size : piece->text_size;
    return by_name ? tokenizer->names + piece->name_at : tokenizer->texts + piece->text_at;
}

static uint32_t key_hash(const char *key, size_t size)
{
    return (uint32_t)XXH3_64bits(key, size);
}

/* The slot that holds key, or the empty one where it belongs. */
static struct bora_piece_slot *index_slot(const bora_tokenizer *tokenizer, const bora_piece_index *index,
                                          const char *key, size_t size, uint32_t hash)
{
    for (uint32_t at = hash & index->mask;; at = (at + 1) & index->mask) {
        struct bora_piece_slot *slot = &index->slots[at];
        if (slot->id < 0)
            return slot;
        if (slot->hash != hash)
            continue;
        uint32_t other_size;
        const char *other = piece_key(tokenizer, index, slot->id, &other_size);
        if (other_size == size && memcmp(other, key, size) == 0)
            return slot;
    }
}

int32_t bora_tokenizer_find(const bora_tokenizer *tokenizer, const char *text, size_t size)
{
    if (size > tokenizer->text_size_max)
        return -1;
    return index_slot(tokenizer, &tokenizer->by_text, text, size, key_hash(text, size))->id;
}

int32_t bora_tokenizer_control(const bora_tokenizer *tokenizer, const char *text)
{
    size_t size = strlen(text);
    int32_t id = index_slot(tokenizer, &tokenizer->by_name, text, size, key_hash(text, size))->id;
    return id >= 0 && tokenizer->pieces[id].type == BORA_PIECE_CONTROL ? id : -1;
}

/* First of the pieces [low, high), which agree in their first depth bytes and are all longer, whose next byte is
 * >= byte (or > byte with after). */
static size_t user_bound(const bora_user_piece *pieces, size_t low, size_t high, size_t depth, uint8_t byte, bool after)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint8_t found = (uint8_t)pieces[middle].text[depth];
        if (found < byte || (after && found == byte))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t bora_tokenizer_find_user(const bora_tokenizer *tokenizer, const char *text, size_t size)
{
    const bora_user_piece *pieces = tokenizer->user_pieces;
    size_t low = 0, high = tokenizer->n_user_pieces;
    int32_t best = -1;
    for (size_t depth = 0; depth < size && low < high; depth++) {
        uint8_t byte = (uint8_t)text[depth];
        low = user_bound(pieces, low, high, depth, byte, false);
        high = user_bound(pieces, low, high, depth, byte, true);
        if (low < high && pieces[low].size == depth + 1)
            best = pieces[low++].id; /* a prefix of the others sorts before them */
    }
    return best;
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

static const bora_piece *piece_at(const bora_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && (size_t)id < tokenizer->n_pieces ? &tokenizer->pieces[id] : NULL;
}

const char *bora_tokenizer_piece(const bora_tokenizer *tokenizer, int32_t id, size_t *ret_size)
{
    const bora_piece *piece = piece_at(tokenizer, id);
    if (!piece)
        return NULL;
    *ret_size = piece->name_size;
    return tokenizer->names + piece->name_at;
}

int bora_tokenizer_piece_type(const bora_tokenizer *tokenizer, int32_t id)
{
    const bora_piece *piece = piece_at(tokenizer, id);
    return piece ? piece->type : 0;
}

/* ---- making one ---------------------------------------------------------------------------------------------- */

static bora_status index_init(bora_piece_index *index, size_t n, bora_error *err)
{
    size_t n_slots = 16;
    while (n_slots < 2 * n)
        n_slots *= 2;
    index->slots = bora_calloc(n_slots, sizeof *index->slots);
    if (!index->slots)
        return bora_fail(err, BORA_E_NOMEM, "index of %zu pieces", n);
    for (size_t i = 0; i < n_slots; i++)
        index->slots[i].id = -1;
    index->mask = (uint32_t)(n_slots - 1);
    return BORA_OK;
}

static bora_status index_add(const bora_tokenizer *tokenizer, bora_piece_index *index, int32_t id, bora_error *err)
{
    uint32_t size;
    const char *key = piece_key(tokenizer, index, id, &size);
    uint32_t hash = key_hash(key, size);
    struct bora_piece_slot *slot = index_slot(tokenizer, index, key, size, hash);
    if (slot->id >= 0)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: pieces %d and %d are the same", slot->id, id);
    slot->hash = hash;
    slot->id = id;
    return BORA_OK;
}

/* "<0x0A>" to 10; -1 for anything else. */
static int byte_parse(const char *name, size_t size)
{
    if (size != 6 || memcmp(name, "<0x", 3) != 0 || name[5] != '>')
        return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        static const char digits[] = "0123456789ABCDEF";
        const char *digit = memchr(digits, name[i], 16);
        if (!digit)
            return -1;
        value = value * 16 + (int)(digit - digits);
    }
    return value;
}

static bora_status piece_check(const bora_vocab *vocab, size_t id, bora_error *err)
{
    const char *name = vocab->pieces[id];
    size_t size = vocab->piece_sizes[id];
    if (size == 0)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu is empty", id);
    if (size > BORA_PIECE_SIZE_MAX)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu has %zu bytes, more than %u", id, size,
                         BORA_PIECE_SIZE_MAX);
    for (size_t at = 0; at < size;) {
        int step = bora_utf8_step(name + at, size - at);
        if (step <= 0)
            return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu is not UTF-8", id);
        at += (size_t)step;
    }
    if (isnan(vocab->scores[id]))
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: the score of piece %zu is not a number", id);
    int32_t type = vocab->types[id];
    if (type < BORA_PIECE_NORMAL || type > BORA_PIECE_BYTE)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu has type %d", id, type);
    if (type == BORA_PIECE_BYTE && byte_parse(name, size) < 0)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: byte piece %zu is not named like <0x0A>", id);
    return BORA_OK;
}

/* Appends the name with spaces for space marks; its size. */
static uint32_t text_from_name(char *text, const char *name, size_t size)
{
    uint32_t n = 0;
    for (size_t at = 0; at < size;) {
        if (size - at >= BORA_SPACE_MARK_SIZE && memcmp(name + at, BORA_SPACE_MARK, BORA_SPACE_MARK_SIZE) == 0) {
            text[n++] = ' ';
            at += BORA_SPACE_MARK_SIZE;
        } else {
            text[n++] = name[at++];
        }
    }
    return n;
}

/* Checks all pieces and copies them into tokenizer->pieces, names and texts. */
static bora_status pieces_copy(bora_tokenizer *tokenizer, const bora_vocab *vocab, bora_error *err)
{
    size_t total = 0; /* at most BORA_VOCAB_MAX * BORA_PIECE_SIZE_MAX: fits 32 bits */
    for (size_t id = 0; id < vocab->n_pieces; id++) {
        bora_status status = piece_check(vocab, id, err);
        if (status != BORA_OK)
            return status;
        total += vocab->piece_sizes[id];
    }
    tokenizer->pieces = bora_calloc(vocab->n_pieces, sizeof *tokenizer->pieces);
    tokenizer->names = bora_alloc(total);
    tokenizer->texts = bora_alloc(total);
    if (!tokenizer->pieces || !tokenizer->names || !tokenizer->texts)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", vocab->n_pieces);
    tokenizer->n_pieces = vocab->n_pieces;
    uint32_t name_at = 0, text_at = 0;
    for (size_t id = 0; id < vocab->n_pieces; id++) {
        uint32_t size = vocab->piece_sizes[id];
        bora_piece *piece = &tokenizer->pieces[id];
        memcpy(tokenizer->names + name_at, vocab->pieces[id], size);
        *piece = (bora_piece){.name_at = name_at,
                              .name_size = size,
                              .text_at = text_at,
                              .text_size = text_from_name(tokenizer->texts + text_at, vocab->pieces[id], size),
                              .score = vocab->scores[id],
                              .type = (uint8_t)vocab->types[id]};
        name_at += size;
        text_at += piece->text_size;
    }
    return BORA_OK;
}

static bora_status bytes_collect(bora_tokenizer *tokenizer, bora_error *err)
{
    size_t n_bytes = 0;
    memset(tokenizer->byte_ids, -1, sizeof tokenizer->byte_ids);
    for (size_t id = 0; id < tokenizer->n_pieces; id++) {
        bora_piece *piece = &tokenizer->pieces[id];
        if (piece->type != BORA_PIECE_BYTE)
            continue;
        piece->byte = (uint8_t)byte_parse(tokenizer->names + piece->name_at, piece->name_size);
        tokenizer->byte_ids[piece->byte] = (int32_t)id; /* unique: names are */
        n_bytes++;
    }
    if (n_bytes && n_bytes < 256)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: %zu byte pieces of 256", n_bytes);
    tokenizer->byte_fallback = n_bytes;
    return BORA_OK;
}

static int user_compare(const void *a_pointer, const void *b_pointer)
{
    const bora_user_piece *a = a_pointer, *b = b_pointer;
    uint32_t common = a->size < b->size ? a->size : b->size;
    int order = memcmp(a->text, b->text, common);
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

/* Fills both indexes and the list of user-defined pieces. */
static bora_status pieces_index(bora_tokenizer *tokenizer, bora_error *err)
{
    size_t n_by_text = 0, n_by_name = 0, n_user = 0;
    for (size_t id = 0; id < tokenizer->n_pieces; id++) {
        uint8_t type = tokenizer->pieces[id].type;
        bool from_text = type == BORA_PIECE_NORMAL || type == BORA_PIECE_USER_DEFINED || type == BORA_PIECE_UNUSED;
        n_by_text += from_text;
        n_by_name += !from_text;
        n_user += type == BORA_PIECE_USER_DEFINED;
    }
    bora_status status = index_init(&tokenizer->by_text, n_by_text, err);
    if (status == BORA_OK)
        status = index_init(&tokenizer->by_name, n_by_name, err);
    if (status != BORA_OK)
        return status;
    tokenizer->user_pieces = bora_calloc(n_user, sizeof *tokenizer->user_pieces);
    if (!tokenizer->user_pieces)
        return bora_fail(err, BORA_E_NOMEM, "%zu user-defined pieces", n_user);
    for (size_t id = 0; id < tokenizer->n_pieces; id++) {
        const bora_piece *piece = &tokenizer->pieces[id];
        bool from_text = piece->type == BORA_PIECE_NORMAL || piece->type == BORA_PIECE_USER_DEFINED ||
                         piece->type == BORA_PIECE_UNUSED;
        if (from_text && memchr(tokenizer->names + piece->name_at, ' ', piece->name_size))
            continue; /* no text leads there, see vocabulary.h */
        status = index_add(tokenizer, from_text ? &tokenizer->by_text : &tokenizer->by_name, (int32_t)id, err);
        if (status != BORA_OK)
            return status;
        if (from_text && piece->text_size > tokenizer->text_size_max)
            tokenizer->text_size_max = piece->text_size;
        tokenizer->has_unused |= piece->type == BORA_PIECE_UNUSED;
        if (piece->type == BORA_PIECE_USER_DEFINED)
            tokenizer->user_pieces[tokenizer->n_user_pieces++] = (bora_user_piece){
                .text = tokenizer->texts + piece->text_at, .size = piece->text_size, .id = (int32_t)id};
    }
    if (tokenizer->n_user_pieces)
        qsort(tokenizer->user_pieces, tokenizer->n_user_pieces, sizeof *tokenizer->user_pieces, user_compare);
    return BORA_OK;
}

static bora_status special_check(const char *name, int32_t id, size_t n_pieces, bora_error *err)
{
    if (id < -1 || (id >= 0 && (size_t)id >= n_pieces))
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: %s is %d of %zu pieces", name, id, n_pieces);
    return BORA_OK;
}

bora_status bora_tokenizer_new(const bora_vocab *vocab, bora_tokenizer **ret_tokenizer, bora_error *err)
{
    if (vocab->n_pieces == 0 || vocab->n_pieces > BORA_VOCAB_MAX)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: %zu pieces (1 to %u are possible)", vocab->n_pieces,
                         BORA_VOCAB_MAX);
    bora_status status = special_check("bos", vocab->bos_id, vocab->n_pieces, err);
    if (status == BORA_OK)
        status = special_check("eos", vocab->eos_id, vocab->n_pieces, err);
    if (status == BORA_OK)
        status = special_check("unk", vocab->unk_id, vocab->n_pieces, err);
    if (status != BORA_OK)
        return status;

    BORA_CLEANUP(tokenizer_freep) bora_tokenizer *tokenizer = bora_calloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return bora_fail(err, BORA_E_NOMEM, "tokenizer");
    tokenizer->bos_id = vocab->bos_id;
    tokenizer->eos_id = vocab->eos_id;
    tokenizer->unk_id = vocab->unk_id;
    tokenizer->add_dummy_prefix = vocab->add_dummy_prefix;
    tokenizer->remove_extra_whitespaces = vocab->remove_extra_whitespaces;
    status = pieces_copy(tokenizer, vocab, err);
    if (status == BORA_OK)
        status = pieces_index(tokenizer, err);
    if (status == BORA_OK)
        status = bytes_collect(tokenizer, err);
    if (status != BORA_OK)
        return status;
    if (!tokenizer->byte_fallback && tokenizer->unk_id < 0)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: neither byte pieces nor unk for unknown characters");
    *ret_tokenizer = bora_steal(&tokenizer);
    return BORA_OK;
}
