/* tokenize: the ids and pieces of a text. */
#include "base/memory.h"
#include "server/server_private.h"

static void tokens_release(bora_tokens *tokens)
{
    bora_tokens_release(tokens);
}
bora_status bora_verb_tokenize(bora_request *request, bora_error *err)
{
    const bora_tokenizer *tokenizer = bora_model_tokenizer(request->server->options.model);
    const bora_value *text = bora_value_get(request->arguments, "text");
    const char *bytes;
    size_t size;
    bool bos = false;
    if (!tokenizer)
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model has no tokenizer");
    if (!bora_value_text(text, &bytes, &size))
        return bora_fail(err, BORA_E_INVAL, text ? "text must be a text in UTF-8" : "text is missing");
    bora_status st = bora_argument_bool(request, "bos", &bos, err);
    BORA_CLEANUP(tokens_release) bora_tokens tokens = {0};
    if (st == BORA_OK && bos && bora_tokenizer_bos(tokenizer) >= 0)
        st = bora_tokens_push(&tokens, bora_tokenizer_bos(tokenizer), err);
    if (st == BORA_OK)
        st = bora_tokenizer_encode(tokenizer, bytes, size, &tokens, err);
    /* One text with all pieces, so that nothing can fail once the answer has begun. */
    BORA_CLEANUP(bora_text_release) bora_text pieces = {0};
    BORA_CLEANUP(bora_freep) size_t *ends = st == BORA_OK ? bora_calloc(tokens.n, sizeof *ends) : NULL;
    if (st == BORA_OK && !ends)
        st = bora_fail(err, BORA_E_NOMEM, "pieces of %zu tokens", tokens.n);
    for (size_t i = 0; st == BORA_OK && i < tokens.n; i++) {
        st = bora_tokenizer_piece_text(tokenizer, tokens.ids[i], &pieces, err);
        ends[i] = pieces.size;
    }
    if (st != BORA_OK)
        return st;
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_array(&pack, "tokens");
    for (size_t i = 0; i < tokens.n; i++)
        bora_pack_uint(&pack, NULL, (uint64_t)tokens.ids[i]);
    bora_pack_end(&pack);
    bora_pack_array(&pack, "pieces");
    for (size_t i = 0, start = 0; i < tokens.n; start = ends[i++])
        bora_pack_text(&pack, NULL, pieces.bytes + start, ends[i] - start);
    bora_pack_end(&pack);
    bora_request_end(request, &pack);
    return BORA_OK;
}
