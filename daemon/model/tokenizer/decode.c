/* Ids to text, sent as early as it can be known: a run of byte pieces (Tekken: of any but control pieces) is read as
 * UTF-8, and only bytes that may still become a character wait. Where none is, SentencePiece gives U+FFFD for each
 * byte, Tekken's reference one for the longest beginning of a character. */
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>

#define UNKNOWN_TEXT " \xe2\x81\x87 " /* U+2047 */

void bora_decoder_init(bora_decoder *decoder, const bora_tokenizer *tokenizer, bool continues)
{
    *decoder = (bora_decoder){.tokenizer = tokenizer, .at_start = !continues};
}

/* Room was reserved: cannot fail. */
static void text_put(bora_text *text, const char *bytes, size_t size)
{
    (void)bora_text_append(text, bytes, size, NULL);
}

/* Sends what the pending bytes have become; what may still grow into a character stays, unless the run ends. */
static void pending_settle(bora_decoder *decoder, bool run_ends, bora_text *text)
{
    while (decoder->n_pending > 0) {
        const char *bytes = (const char *)decoder->pending;
        bool partial = false;
        size_t n = bora_utf8_char(bytes, decoder->n_pending, &partial);
        if (partial && !run_ends)
            return;
        if (n > 0) {
            text_put(text, bytes, n);
        } else {
            text_put(text, BORA_REPLACEMENT, BORA_REPLACEMENT_SIZE);
            n = decoder->tokenizer->split ? bora_utf8_bad_size(bytes, decoder->n_pending) : 1;
        }
        decoder->n_pending = (uint8_t)(decoder->n_pending - n);
        memmove(decoder->pending, decoder->pending + n, decoder->n_pending);
    }
}

/* A piece with its spaces put back. The one that the dummy prefix has put before the text is dropped. */
static void piece_put(bora_decoder *decoder, const char *piece, size_t size, bora_text *text)
{
    const bora_tokenizer *tokenizer = decoder->tokenizer;
    bool drop = decoder->at_start && (tokenizer->add_dummy_prefix || tokenizer->remove_extra_whitespaces);
    for (size_t i = 0; i < size;) {
        size_t n = 0; /* bytes up to the next space */
        while (i + n < size && (size - i - n < BORA_SPACE_PIECE_SIZE ||
                                memcmp(piece + i + n, BORA_SPACE_PIECE, BORA_SPACE_PIECE_SIZE) != 0))
            n++;
        text_put(text, piece + i, n);
        i += n;
        if (i < size) {
            if (!drop || i > 0)
                text_put(text, " ", 1);
            i += BORA_SPACE_PIECE_SIZE;
        }
    }
    /* Where spaces are squeezed, nothing but a space is still the start. */
    bool only_space = drop && size == BORA_SPACE_PIECE_SIZE && memcmp(piece, BORA_SPACE_PIECE, size) == 0;
    if (!only_space || !tokenizer->remove_extra_whitespaces)
        decoder->at_start = false;
}

static void bytes_put(bora_decoder *decoder, const char *bytes, size_t size, bora_text *text)
{
    for (size_t i = 0; i < size; i++) {
        decoder->pending[decoder->n_pending++] = (uint8_t)bytes[i];
        pending_settle(decoder, false, text);
    }
}

bora_status bora_decoder_push(bora_decoder *decoder, int32_t id, bora_text *text, bora_error *err)
{
    const bora_tokenizer *tokenizer = decoder->tokenizer;
    size_t size = 0;
    const char *piece = bora_tokenizer_piece(tokenizer, id, &size);
    if (!piece)
        return bora_fail(err, BORA_E_INVAL, "token %d, the vocabulary has %zu", id, tokenizer->n_pieces);
    /* Everything below fits: a failure leaves decoder and text as they were. */
    size_t n_bad = sizeof decoder->pending + (tokenizer->split ? size : 1);
    size_t most = size + sizeof UNKNOWN_TEXT + n_bad * BORA_REPLACEMENT_SIZE;
    bora_status st = bora_text_reserve(text, most, err);
    if (st != BORA_OK)
        return st;
    int type = tokenizer->types[id];
    if (tokenizer->split && type != BORA_PIECE_CONTROL) {
        bytes_put(decoder, piece, size, text);
        return BORA_OK;
    }
    if (type == BORA_PIECE_BYTE) {
        decoder->at_start = false;
        const char byte = (char)bora_piece_byte(piece, size);
        bytes_put(decoder, &byte, 1, text);
        return BORA_OK;
    }
    pending_settle(decoder, true, text);
    if (type == BORA_PIECE_UNKNOWN) {
        decoder->at_start = false;
        text_put(text, UNKNOWN_TEXT, sizeof UNKNOWN_TEXT - 1);
    } else if (type != BORA_PIECE_CONTROL) {
        piece_put(decoder, piece, size, text);
    }
    return BORA_OK;
}

bora_status bora_decoder_flush(bora_decoder *decoder, bora_text *text, bora_error *err)
{
    bora_status st = bora_text_reserve(text, sizeof decoder->pending * BORA_REPLACEMENT_SIZE, err);
    if (st == BORA_OK)
        pending_settle(decoder, true, text);
    return st;
}

bora_status bora_tokenizer_decode(const bora_tokenizer *tokenizer, const int32_t *ids, size_t n, bora_text *text,
                                  bora_error *err)
{
    bora_decoder decoder;
    bora_decoder_init(&decoder, tokenizer, false);
    size_t size_before = text->size;
    bora_status st = BORA_OK;
    for (size_t i = 0; i < n && st == BORA_OK; i++)
        st = bora_decoder_push(&decoder, ids[i], text, err);
    if (st == BORA_OK)
        st = bora_decoder_flush(&decoder, text, err);
    if (st != BORA_OK && text->bytes) {
        text->size = size_before;
        text->bytes[size_before] = '\0';
    }
    return st;
}

bora_status bora_tokenizer_piece_text(const bora_tokenizer *tokenizer, int32_t id, bora_text *text, bora_error *err)
{
    size_t size = 0;
    const char *piece = bora_tokenizer_piece(tokenizer, id, &size);
    if (!piece)
        return bora_fail(err, BORA_E_INVAL, "token %d, the vocabulary has %zu", id, tokenizer->n_pieces);
    bora_status st = bora_text_reserve(text, size * BORA_REPLACEMENT_SIZE, err);
    if (st != BORA_OK)
        return st;
    bora_decoder decoder;
    bora_decoder_init(&decoder, tokenizer, true);
    bytes_put(&decoder, piece, size, text);
    pending_settle(&decoder, true, text);
    return BORA_OK;
}
