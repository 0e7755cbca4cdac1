/* Writes safetensors files from a header text, and small models in Mistral's native layout. */
#ifndef BORA_TESTS_SAFETENSORS_WRITER_H
#define BORA_TESTS_SAFETENSORS_WRITER_H

#include "support/gguf_writer.h"

/* The header's size, the header, and data_size bytes of pseudo-random f32 numbers. In new memory (free). */
uint8_t *bora_safetensors_bytes(const char *header, size_t data_size, size_t *ret_size);

/* The tensors of a model of that shape (type is not looked at: all F32) as a header; free. extra may be NULL: entries
 * put in front, each ending in a comma. Layers from first on, n of them; with_rest: embeddings, norm and output. */
char *bora_writer_native_header(const bora_tiny_model *shape, const char *extra, uint32_t first, uint32_t n,
                                bool with_rest, size_t *ret_data_size);

/* A params.json of that shape, extra (entries, each beginning with a comma) in it; free. */
char *bora_writer_native_params(const bora_tiny_model *shape, const char *extra);

#endif
