/* GGUF models cut into several files, NAME-00001-of-0000N.gguf: how the parts know each other. Private to the layer. */
#ifndef BORA_MODEL_GGUF_SPLIT_H
#define BORA_MODEL_GGUF_SPLIT_H

#include "model/gguf_reader.h"

/* The file is the given part (from 0) of a model. n_parts: of a later part, how many there must be; of the first, set
 * to how many there are, 1 if the model is whole. Errors: FORMAT, INVAL (a later part was opened by itself). */
bora_status bora_gguf_split_check(const bora_gguf *gguf, uint32_t part, uint32_t *n_parts, bora_error *err);

/* The length of NAME in the path of the first part. path may be NULL. Errors: INVAL (it is called otherwise). */
bora_status bora_gguf_split_stem(const char *path, uint32_t n_parts, size_t *ret_n_stem, bora_error *err);

#endif
