/* detokenize: the text of token ids. */
#include "server/server_private.h"

#include "base/memory.h"

static void text_release(bora_text *text)
{
    bora_text_release(text);
}

bora_status bora_verb_detokenize(bora_request *request, bora_error *err)
{
    const bora_tokenizer *tokenizer = bora_model_tokenizer(request->server->options.model);
    BORA_CLEANUP(bora_freep) int32_t *tokens = NULL;
    size_t n = 0;
    if (!tokenizer)
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model has no tokenizer");
    bora_status st = bora_argument_tokens(request, "tokens", true, &tokens, &n, err);
    BORA_CLEANUP(text_release) bora_text text = {0};
    if (st == BORA_OK)
        st = bora_tokenizer_decode(tokenizer, tokens, n, &text, err);
    if (st != BORA_OK)
        return st;
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_text(&pack, "text", text.bytes ? text.bytes : "", text.size);
    bora_request_end(request, &pack);
    return BORA_OK;
}
