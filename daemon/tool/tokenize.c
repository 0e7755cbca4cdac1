/* bora-model tokenize: ids and pieces of a text or a chat, one token a line. */
#include "tool/tool.h"

#include <inttypes.h>
#include <stdio.h>

static void modelp(bora_model **model)
{
    bora_model_free(*model);
}

static void chatp(bora_chat **chat)
{
    bora_chat_free(*chat);
}

static bora_status encode_chat(const bora_model *model, const char *json, size_t size, bora_tokens *ids,
                               bora_error *err)
{
    BORA_CLEANUP(chatp) bora_chat *chat = NULL;
    bora_status st = bora_chat_read(json, size, &chat, err);
    return st == BORA_OK ? bora_chat_encode(bora_model_layout(model), bora_model_tokenizer(model), chat, ids, err) : st;
}

static bora_status print_tokens(const bora_tokenizer *tokenizer, const bora_tokens *ids, bora_error *err)
{
    BORA_CLEANUP(bora_text_release) bora_text piece = {0};
    for (size_t i = 0; i < ids->n; i++) {
        piece.size = 0;
        bora_status st = bora_tokenizer_piece_text(tokenizer, ids->ids[i], &piece, err);
        if (st != BORA_OK)
            return st;
        printf("%8" PRId32 "  ", ids->ids[i]);
        for (size_t b = 0; b < piece.size; b++) /* a piece may hold a newline; the list stays one token a line */
            if ((unsigned char)piece.bytes[b] < 0x20 || piece.bytes[b] == 0x7f)
                printf("\\x%02x", (unsigned)piece.bytes[b]);
            else
                (void)putchar(piece.bytes[b]); /* errors show when stdout is flushed */
        (void)putchar('\n');
    }
    return BORA_OK;
}

bora_status bora_tool_tokenize(const char *path, const char *text, size_t size, bool chat,
                               const bora_tool_options *options, bora_error *err)
{
    BORA_CLEANUP(modelp) bora_model *model = NULL;
    bora_model_options model_options = {.layout = options->layout};
    bora_status st = bora_tool_open(path, &model_options, options, &model, err);
    if (st != BORA_OK)
        return st;
    BORA_CLEANUP(bora_tokens_release) bora_tokens ids = {0};
    st = chat ? encode_chat(model, text, size, &ids, err)
              : bora_tokenizer_encode(bora_model_tokenizer(model), text, size, &ids, err);
    return st == BORA_OK ? print_tokens(bora_model_tokenizer(model), &ids, err) : st;
}
