/* A GGUF file from memory, all the way to a model: container, hyper-parameters, tensors, vocabulary, fingerprint. What
 * loads is read as the engine reads it: the ends of every tensor, the vocabulary by encoding and decoding. */
#include "fuzz/fuzz.h"

#include "base/memory.h"
#include "fuzz/walk.h"
#include "model/model_private.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bora_model_options options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    BORA_CLEANUP(bora_model_freep) bora_model *model = bora_calloc(1, sizeof *model);
    FUZZ_CHECK(model && (model->name = bora_strdup("fuzz")) != NULL);
    bora_error err = {{0}};
    bora_status st = bora_gguf_load(model, data, size, &options, &err);
    if (st == BORA_OK)
        st = bora_model_finish(model, &options, &err);
    if (st == BORA_OK) {
        fuzz_walk_model(model);
    } else {
        FUZZ_CHECK(st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED || st == BORA_E_LIMIT);
        FUZZ_CHECK(err.message[0] && memchr(err.message, '\0', sizeof err.message));
    }
    return 0;
}
