/* A SentencePiece .model file, then its vocabulary at work: the end of the input is encoded and decoded as text. What a
 * file has behind its last field it can carry in a field of its own, so that text and vocabulary vary together. */
#include "fuzz/fuzz.h"

#include "fuzz/walk.h"

#define TEXT_SIZE_MAX 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    bora_status st = bora_tokenizer_parse(data, size, &tokenizer, &err);
    if (st == BORA_OK) {
        size_t text_size = size < TEXT_SIZE_MAX ? size : TEXT_SIZE_MAX;
        fuzz_walk_tokenizer(tokenizer, (const char *)data + size - text_size, text_size);
    } else {
        FUZZ_CHECK(st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED);
        FUZZ_CHECK(!tokenizer && err.message[0]);
    }
    bora_tokenizer_free(tokenizer);
    return 0;
}
