/* Private to the writing of GGUF files: Tekken's vocabulary. */
#ifndef BORA_MODEL_GGUF_EXPORT_TEKKEN_H
#define BORA_MODEL_GGUF_EXPORT_TEKKEN_H

#include "model/gguf_writer.h"
#include "model/tokenizer/tokenizer.h"

/* tokenizer.ggml.model, .pre, .tokens, .token_type and .merges. Errors: NOMEM. */
bora_status bora_gguf_export_tekken(const bora_tokenizer *t, uint32_t vocab_size, bora_gguf_out *out, bora_error *err);

#endif
