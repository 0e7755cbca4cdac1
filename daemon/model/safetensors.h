/* One safetensors file: a JSON header that names tensors, then their bytes. Private to the layer. */
#ifndef BORA_MODEL_SAFETENSORS_H
#define BORA_MODEL_SAFETENSORS_H

#include "model/model_private.h"

#define BORA_SAFETENSORS_HEADER_MAX ((size_t)100 << 20) /* bytes; the format's own limit */

/* Adds every tensor of the file to the model's entries; data [size] outlives the model. Entries are not sealed.
 * Errors: FORMAT (damage, naming the tensor), UNSUPPORTED (an element type), LIMIT, NOMEM. */
bora_status bora_safetensors_read(bora_model *model, const void *data, size_t size, bora_error *err);

#endif
