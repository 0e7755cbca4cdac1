/* A tokenizer of marks and single bytes, so that a chat's ids can be written as the text they stand for: marks by
 * their names, the rest as it is. SentencePiece's dummy prefix shows as a space. */
#ifndef BORA_TESTS_CHAT_FIXTURE_H
#define BORA_TESTS_CHAT_FIXTURE_H

#include "model/chat/chat.h"

#include <stdio.h>
#include <string.h>

static const char *const fixture_marks[] = {"<s>",
                                            "</s>",
                                            "[INST]",
                                            "[/INST]",
                                            "[TOOL_CALLS]",
                                            "[AVAILABLE_TOOLS]",
                                            "[/AVAILABLE_TOOLS]",
                                            "[TOOL_RESULTS]",
                                            "[/TOOL_RESULTS]",
                                            "[SYSTEM_PROMPT]",
                                            "[/SYSTEM_PROMPT]",
                                            "[TOOL_CONTENT]"};

/* Of the marks only the first n_marks. */
static inline bora_tokenizer *fixture_tokenizer(size_t n_marks)
{
    const char *pieces[1 + BORA_ARRAY_SIZE(fixture_marks) + 256];
    uint32_t sizes[BORA_ARRAY_SIZE(pieces)];
    float scores[BORA_ARRAY_SIZE(pieces)] = {0};
    int32_t types[BORA_ARRAY_SIZE(pieces)];
    char bytes[256][8];
    size_t n = 0;
    pieces[n] = "<unk>";
    types[n++] = BORA_PIECE_UNKNOWN;
    for (size_t i = 0; i < n_marks; i++) {
        pieces[n] = fixture_marks[i];
        types[n++] = BORA_PIECE_CONTROL;
    }
    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", i);
        pieces[n] = bytes[i];
        types[n++] = BORA_PIECE_BYTE;
    }
    for (size_t i = 0; i < n; i++)
        sizes[i] = (uint32_t)strlen(pieces[i]);
    const bora_vocab vocab = {.pieces = pieces,
                              .piece_sizes = sizes,
                              .scores = scores,
                              .types = types,
                              .n_pieces = n,
                              .bos_id = 1,
                              .eos_id = 2,
                              .unk_id = 0,
                              .add_dummy_prefix = true};
    bora_tokenizer *made = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_new(&vocab, &made, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return made;
}

/* Appends the ids as text, which the caller releases. */
static inline void fixture_write(const bora_tokenizer *tokenizer, const bora_tokens *ids, bora_text *text)
{
    static const char space[] = "\xe2\x96\x81";
    for (size_t i = 0; i < ids->n; i++) {
        size_t size = 0;
        const char *piece = bora_tokenizer_piece(tokenizer, ids->ids[i], &size);
        char byte = 0;
        if (bora_tokenizer_piece_type(tokenizer, ids->ids[i]) == BORA_PIECE_BYTE) {
            const char *digits = "0123456789ABCDEF";
            byte = (char)((strchr(digits, piece[3]) - digits) * 16 + (strchr(digits, piece[4]) - digits));
            piece = &byte;
            size = 1;
        }
        assert_int_equal(bora_text_append(text, piece, size, NULL), BORA_OK);
        if (text->size >= 3 && memcmp(text->bytes + text->size - 3, space, 3) == 0) {
            text->size -= 3;
            assert_int_equal(bora_text_append(text, " ", 1, NULL), BORA_OK);
        }
    }
}

#endif
