/* Tokens to text, one at a time. A run of byte pieces is read as UTF-8: what is complete goes out at once, what can
 * no longer become a character goes out as U+FFFD, one per byte, and only the beginning of a character waits. Room is
 * made before anything changes, so that a push that fails has done nothing. */
#include "model/tokenizer/tokenizer.h"

#include "model/tokenizer/utf8.h"
#include "model/tokenizer/vocabulary.h"

#include <string.h>

#define UNKNOWN_TEXT " \xe2\x81\x87 " /* U+2047 between spaces, as SentencePiece shows unk */
/* What the pending bytes and one more can become at most. */
#define PENDING_TEXT_MAX (5 * (sizeof BORA_UTF8_REPLACEMENT - 1))

void bora_decoder_init(bora_decoder *decoder, const bora_tokenizer *tokenizer, bool continues)
{
    *decoder = (bora_decoder){
        .tokenizer = tokenizer,
        .at_start = !continues && (tokenizer->add_dummy_prefix || tokenizer->remove_extra_whitespaces)};
}

/* Room has been reserved. */
static void text_add(bora_text *text, const char *bytes, size_t size)
{
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

/* Sends of the pending bytes what can be sent; all with ends, otherwise the beginning of a character stays. */
static void pending_send(bora_decoder *decoder, bora_text *text, bool ends)
{
    char *pending = (char *)decoder->pending;
    size_t at = 0, n = decoder->n_pending;
    while (at < n) {
        int step = bora_utf8_step(pending + at, n - at);
        if (step == BORA_UTF8_MORE && !ends)
            break;
        if (step > 0)
            text_add(text, pending + at, (size_t)step);
        else
            text_add(text, BORA_UTF8_REPLACEMENT, sizeof BORA_UTF8_REPLACEMENT - 1);
        at += step > 0 ? (size_t)step : 1;
    }
    memmove(pending, pending + at, n - at);
    decoder->n_pending = (uint8_t)(n - at);
}

bora_status bora_decoder_push(bora_decoder *decoder, int32_t id, bora_text *text, bora_error *err)
{
    const bora_tokenizer *tokenizer = decoder->tokenizer;
    if (id < 0 || (size_t)id >= tokenizer->n_pieces)
        return bora_fail(err, BORA_E_INVAL, "token %d of %zu", id, tokenizer->n_pieces);
    const bora_piece *piece = &tokenizer->pieces[id];
    bora_status status = bora_text_reserve(text, PENDING_TEXT_MAX + sizeof UNKNOWN_TEXT + piece->text_size, err);
    if (status != BORA_OK)
        return status;

    if (piece->type == BORA_PIECE_BYTE) {
        /* Never more than 3 wait: a fourth byte completes a character or shows that there is none. */
        decoder->pending[decoder->n_pending++] = piece->byte;
        pending_send(decoder, text, false);
        decoder->at_start = false;
        return BORA_OK;
    }
    pending_send(decoder, text, true);
    if (piece->type == BORA_PIECE_CONTROL)
        return BORA_OK;
    if (piece->type == BORA_PIECE_UNKNOWN) {
        text_add(text, UNKNOWN_TEXT, sizeof UNKNOWN_TEXT - 1);
        decoder->at_start = false;
        return BORA_OK;
    }
    const char *bytes = tokenizer->texts + piece->text_at;
    size_t size = piece->text_size;
    if (decoder->at_start && piece->name_size >= BORA_SPACE_MARK_SIZE &&
        memcmp(tokenizer->names + piece->name_at, BORA_SPACE_MARK, BORA_SPACE_MARK_SIZE) == 0) {
        bytes++;
        size--;
    }
    /* Where extra spaces are removed, all pieces that are one space vanish before the first text. */
    decoder->at_start = decoder->at_start && !size && tokenizer->remove_extra_whitespaces;
    text_add(text, bytes, size);
    return BORA_OK;
}

bora_status bora_decoder_flush(bora_decoder *decoder, bora_text *text, bora_error *err)
{
    bora_status status = bora_text_reserve(text, PENDING_TEXT_MAX, err);
    if (status == BORA_OK)
        pending_send(decoder, text, true);
    return status;
}

bora_status bora_tokenizer_decode(const bora_tokenizer *tokenizer, const int32_t *ids, size_t n, bora_text *text,
                                  bora_error *err)
{
    bora_decoder decoder;
    bora_decoder_init(&decoder, tokenizer, false);
    size_t size_before = text->size;
    bora_status status = BORA_OK;
    for (size_t i = 0; i < n && status == BORA_OK; i++)
        status = bora_decoder_push(&decoder, ids[i], text, err);
    if (status == BORA_OK)
        status = bora_decoder_flush(&decoder, text, err);
    if (status != BORA_OK && text->bytes) {
        text->size = size_before;
        text->bytes[size_before] = '\0';
    }
    return status;
}
