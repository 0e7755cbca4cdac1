/* Text as the pieces spell it. The normaliser is SentencePiece's identity: characters stay what they are; spaces
 * become U+2581, one is put before the text (add_dummy_prefix), and runs of them are squeezed if the model wants
 * that (remove_extra_whitespaces, which Mistral's do not). */
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>

/* The next stretch that is looked at as a whole: a user-defined piece, a character, or a bad byte. */
typedef struct unit {
    const char *bytes; /* [size] what it becomes, before spaces are escaped */
    size_t size;
    size_t consumed; /* bytes of the text */
} unit;

static unit unit_next(const bora_tokenizer *tokenizer, const char *text, size_t size)
{
    /* Only squeezing tells a user-defined piece from its characters. */
    size_t n = tokenizer->remove_extra_whitespaces ? bora_tokenizer_match_user(tokenizer, text, size) : 0;
    if (n == 0)
        n = bora_utf8_char(text, size, NULL);
    if (n == 0)
        return (unit){.bytes = BORA_REPLACEMENT, .size = BORA_REPLACEMENT_SIZE, .consumed = 1};
    return (unit){.bytes = text, .size = n, .consumed = n};
}

static bora_status unit_append(bora_text *normalized, const unit *next, bora_error *err)
{
    bora_status st = BORA_OK;
    for (size_t i = 0; i < next->size && st == BORA_OK;) {
        size_t n = 0; /* bytes up to the next space */
        while (i + n < next->size && next->bytes[i + n] != ' ')
            n++;
        if (n > 0) {
            st = bora_text_append(normalized, next->bytes + i, n, err);
            i += n;
        } else {
            st = bora_text_append(normalized, BORA_SPACE_PIECE, BORA_SPACE_PIECE_SIZE, err);
            i++;
        }
    }
    return st;
}

static void trailing_spaces_drop(bora_text *normalized, size_t start)
{
    while (normalized->size - start >= BORA_SPACE_PIECE_SIZE &&
           memcmp(normalized->bytes + normalized->size - BORA_SPACE_PIECE_SIZE, BORA_SPACE_PIECE,
                  BORA_SPACE_PIECE_SIZE) == 0)
        normalized->size -= BORA_SPACE_PIECE_SIZE;
}

/* Tekken changes nothing but bad bytes. */
static bora_status bytes_append(const char *text, size_t size, bora_text *normalized, bora_error *err)
{
    bora_status st = bora_text_reserve(normalized, size, err);
    for (size_t at = 0, n; at < size && st == BORA_OK; at += n) {
        size_t step = 1;
        for (n = 0; at + n < size && step > 0; n += step)
            step = bora_utf8_char(text + at + n, size - at - n, NULL);
        st = bora_text_append(normalized, text + at, n, err);
        if (st == BORA_OK && step == 0) {
            st = bora_text_append(normalized, BORA_REPLACEMENT, BORA_REPLACEMENT_SIZE, err);
            n++;
        }
    }
    return st;
}

bora_status bora_tokenizer_normalize(const bora_tokenizer *tokenizer, const char *text, size_t size,
                                     bora_text *normalized, bora_error *err)
{
    if (tokenizer->kind == BORA_TOKENIZER_TEKKEN)
        return bytes_append(text, size, normalized, err);
    bool squeeze = tokenizer->remove_extra_whitespaces;
    size_t at = 0, start = normalized->size;
    while (squeeze && at < size) {
        unit next = unit_next(tokenizer, text + at, size - at);
        if (next.size != 1 || next.bytes[0] != ' ')
            break;
        at += next.consumed;
    }
    if (at == size)
        return BORA_OK;

    bora_status st = bora_text_reserve(normalized, size - at + BORA_SPACE_PIECE_SIZE, err);
    if (st == BORA_OK && tokenizer->add_dummy_prefix)
        st = bora_text_append(normalized, BORA_SPACE_PIECE, BORA_SPACE_PIECE_SIZE, err);
    for (bool after_space = squeeze; at < size && st == BORA_OK;) {
        unit next = unit_next(tokenizer, text + at, size - at);
        at += next.consumed;
        for (; after_space && next.size > 0 && next.bytes[0] == ' '; next.size--)
            next.bytes++;
        if (next.size > 0) {
            after_space = squeeze && next.bytes[next.size - 1] == ' ';
            st = unit_append(normalized, &next, err);
        }
    }
    if (squeeze && st == BORA_OK)
        trailing_spaces_drop(normalized, start);
    return st;
}
