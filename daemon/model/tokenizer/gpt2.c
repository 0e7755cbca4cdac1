/* Tekken's vocabulary as GGUF files of the model "gpt2" have it. There every byte is spelled as one character that is
 * visible: bytes that are visible in Latin-1 as themselves, the other 68 as U+0100, U+0101 and so on, in order. */
#include "base/memory.h"
#include "model/hparams.h"
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>

static bool byte_is_visible(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* Code points below 0x144 to bytes; -1: no byte is spelled so. */
static void alphabet_make(int16_t ret_bytes[0x144])
{
    unsigned next = 0x100;
    for (unsigned point = 0; point < 0x144; point++)
        ret_bytes[point] = -1;
    for (unsigned byte = 0; byte < 256; byte++)
        ret_bytes[byte_is_visible(byte) ? byte : next++] = (int16_t)byte;
}

/* The bytes that text spells, to ret_bytes [size]; false if a character of it spells none. */
static bool bytes_read(const int16_t alphabet[0x144], const char *text, size_t size, char *ret_bytes, size_t *ret_size)
{
    size_t n_bytes = 0;
    for (size_t at = 0, n; at < size; at += n) {
        n = bora_utf8_char(text + at, size - at, NULL);
        if (n != 1 && n != 2)
            return false;
        unsigned point =
            n == 1 ? (uint8_t)text[at] : ((uint8_t)text[at] & 0x1fu) << 6 | ((uint8_t)text[at + 1] & 0x3fu);
        if (point >= 0x144 || alphabet[point] < 0)
            return false;
        ret_bytes[n_bytes++] = (char)alphabet[point];
    }
    *ret_size = n_bytes;
    return true;
}

bora_status bora_tokenizer_new_gpt2(const bora_vocab *vocab, bora_tokenizer **ret_tokenizer, bora_error *err)
{
    const size_t n = vocab->n_pieces;
    if (n < 1 || n > BORA_VOCAB_MAX)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: %zu pieces, expected 1 to %u", n, BORA_VOCAB_MAX);
    size_t n_bytes = 0;
    for (size_t id = 0; id < n; id++)
        n_bytes += vocab->piece_sizes[id]; /* 32 bits each, and at most 2^20 of them */
    BORA_CLEANUP(bora_freep) const char **pieces = bora_calloc(n, sizeof *pieces);
    BORA_CLEANUP(bora_freep) uint32_t *sizes = bora_calloc(n, sizeof *sizes);
    BORA_CLEANUP(bora_freep) int32_t *types = bora_calloc(n, sizeof *types);
    BORA_CLEANUP(bora_freep) char *bytes = bora_alloc(n_bytes);
    if (!pieces || !sizes || !types || !bytes)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", n);
    int16_t alphabet[0x144];
    alphabet_make(alphabet);
    char *at = bytes;
    for (size_t id = 0; id < n; id++) {
        int32_t type = vocab->types[id];
        pieces[id] = vocab->pieces[id];
        sizes[id] = vocab->piece_sizes[id];
        /* What is never made from text and never shown is one thing here. */
        types[id] = type == BORA_PIECE_UNKNOWN || type == BORA_PIECE_UNUSED ? BORA_PIECE_CONTROL : type;
        if (type != BORA_PIECE_NORMAL)
            continue;
        size_t size = 0;
        if (!bytes_read(alphabet, vocab->pieces[id], vocab->piece_sizes[id], at, &size))
            return bora_fail(err, BORA_E_FORMAT, "vocabulary: piece %zu is not spelled in GPT-2's byte alphabet", id);
        pieces[id] = at;
        sizes[id] = (uint32_t)size;
        at += size;
    }
    bora_vocab decoded = *vocab;
    decoded.pieces = pieces;
    decoded.piece_sizes = sizes;
    decoded.scores = NULL;
    decoded.types = types;
    decoded.pattern = bora_tekken_pattern;
    decoded.pattern_size = strlen(bora_tekken_pattern);
    return bora_tokenizer_new(&decoded, ret_tokenizer, err);
}
