/* Writes GGUF v3: keys and tensor descriptions first, then the tensors' bytes as a stream, so that memory does not grow
 * with the file. The file appears under its name only when it is whole and on the disk.
 *
 * Setters and add_tensor keep the first failure, which create then reports: their callers need no check after each.
 * One thread. */
#ifndef BORA_MODEL_GGUF_WRITER_H
#define BORA_MODEL_GGUF_WRITER_H

#include "base/status.h"
#include "model/gguf_reader.h"

#include <stdbool.h>

#define BORA_GGUF_ALIGNMENT 32u

typedef struct bora_gguf_out bora_gguf_out;

bora_status bora_gguf_out_new(bora_gguf_out **ret_writer, bora_error *err);
/* A file that was not finished is removed. NULL is a no-op. */
void bora_gguf_out_free(bora_gguf_out *writer);

/* ---- keys: each once, in any order; the file has them sorted ---- */

void bora_gguf_set_u32(bora_gguf_out *writer, const char *key, uint32_t value);
void bora_gguf_set_f32(bora_gguf_out *writer, const char *key, float value);
void bora_gguf_set_bool(bora_gguf_out *writer, const char *key, bool value);
void bora_gguf_set_text(bora_gguf_out *writer, const char *key, const char *text, size_t size);
/* type: BORA_GGUF_U32, _I32 or _F32, values [n] of that type. */
void bora_gguf_set_array(bora_gguf_out *writer, const char *key, uint32_t type, const void *values, size_t n);
void bora_gguf_set_texts(bora_gguf_out *writer, const char *key, const char *const *texts, const uint32_t *sizes,
                         size_t n);
/* A value of another file as it is. */
void bora_gguf_set_copy(bora_gguf_out *writer, const bora_gguf_value *value);

/* ---- tensors: in the order in which their bytes follow ---- */

/* shape [n_dims] row-major, outermost first. dtype: one that GGUF has a number for. */
void bora_gguf_add_tensor(bora_gguf_out *writer, const char *name, const uint64_t *shape, uint32_t n_dims,
                          uint32_t dtype);
/* Bytes that the file will have; valid after create. */
uint64_t bora_gguf_out_size(const bora_gguf_out *writer);

/* Creates path.tmp and writes everything before the tensors' bytes. replace: path may be there already.
 * Errors: EXISTS (path, and replace is false), BUSY (another writer has path.tmp), FULL (no room on the disk), IO,
 * LIMIT, NOMEM, INVAL (a key or tensor twice, a shape that is not whole blocks). */
bora_status bora_gguf_out_create(bora_gguf_out *writer, const char *path, bool replace, bora_error *err);
/* The next bytes of the tensors, in any pieces within one tensor; the writer pads between them. Errors: IO, FULL, INVAL
 * (past the tensor's end). */
bora_status bora_gguf_out_write(bora_gguf_out *writer, const void *data, size_t size, bora_error *err);
/* All bytes are written: brings them to the disk and gives the file its name. Errors: IO, FULL, EXISTS, INVAL (bytes
 * are missing). */
bora_status bora_gguf_out_finish(bora_gguf_out *writer, bora_error *err);

#endif
