/* GGUF's container: a header, key-value metadata and tensor descriptions, versions 2 and 3, little-endian. Only
 * bounds and structure are checked here; what keys mean is gguf.c's business. Private to the layer. */
#ifndef BORA_MODEL_GGUF_READER_H
#define BORA_MODEL_GGUF_READER_H

#include "base/status.h"

#include <stdbool.h>

#define BORA_GGUF_U8            0u
#define BORA_GGUF_I8            1u
#define BORA_GGUF_U16           2u
#define BORA_GGUF_I16           3u
#define BORA_GGUF_U32           4u
#define BORA_GGUF_I32           5u
#define BORA_GGUF_F32           6u
#define BORA_GGUF_BOOL          7u
#define BORA_GGUF_TEXT          8u
#define BORA_GGUF_ARRAY         9u
#define BORA_GGUF_U64           10u
#define BORA_GGUF_I64           11u
#define BORA_GGUF_F64           12u

#define BORA_GGUF_KEYS_MAX      65536u
#define BORA_GGUF_KEY_SIZE_MAX  65535u
#define BORA_GGUF_TEXT_SIZE_MAX (16u << 20)

/* Borrowed bytes of the file. */
typedef struct bora_gguf_text {
    const char *bytes; /* [size], not zero-terminated */
    size_t size;
} bora_gguf_text;

typedef struct bora_gguf_value {
    bora_gguf_text key;
    uint32_t type;         /* BORA_GGUF_* */
    uint32_t element_type; /* of an array; else type */
    size_t n;              /* elements; 1 if not an array */
    const uint8_t *data;   /* the elements, unaligned; texts with their sizes before them */
} bora_gguf_value;

/* Caller-owned; all zero is empty. */
typedef struct bora_gguf {
    const uint8_t *data; /* [size] borrowed */
    size_t size, at;     /* at: the first byte not read yet */
    uint32_t version;
    uint64_t n_tensors;
    bora_gguf_value *values; /* [n_values] sorted by key */
    size_t n_values;
} bora_gguf;

typedef struct bora_gguf_tensor {
    bora_gguf_text name;
    uint32_t n_dims, type;
    uint64_t dims[4]; /* innermost first, as in the file */
    uint64_t offset;  /* bytes from the start of the data section */
} bora_gguf_tensor;

/* Header and metadata; tensor descriptions follow. Errors: FORMAT (damage, with the key or the position),
 * UNSUPPORTED (version), LIMIT, NOMEM. */
bora_status bora_gguf_read(const void *data, size_t size, bora_gguf *ret_gguf, bora_error *err);
void bora_gguf_release(bora_gguf *gguf);
/* The next of n_tensors descriptions. */
bora_status bora_gguf_read_tensor(bora_gguf *gguf, bora_gguf_tensor *ret_tensor, bora_error *err);

/* NULL if the key is not there. */
const bora_gguf_value *bora_gguf_find(const bora_gguf *gguf, const char *key);
/* The getters leave *value alone if the key is not there and it is not required. Errors: FORMAT, naming the key. */
/* name: what the number is to us, for the message. */
bora_status bora_gguf_u32(const bora_gguf *gguf, const char *key, const char *name, bool required, uint32_t min,
                          uint32_t max, uint32_t *value, bora_error *err);
bora_status bora_gguf_f32(const bora_gguf *gguf, const char *key, bool required, float *value, bora_error *err);
bora_status bora_gguf_bool(const bora_gguf *gguf, const char *key, bool *value, bora_error *err);
bora_status bora_gguf_string(const bora_gguf *gguf, const char *key, bool required, bora_gguf_text *value,
                             bora_error *err);
/* An array of one of two element types. *ret_value is NULL if it is not there and not required. */
bora_status bora_gguf_array(const bora_gguf *gguf, const char *key, bool required, uint32_t type, uint32_t other_type,
                            const bora_gguf_value **ret_value, bora_error *err);
/* Element i of an array of whole numbers; false if it is negative or over UINT32_MAX. */
bool bora_gguf_element_u32(const bora_gguf_value *value, size_t i, uint32_t *ret_number);
/* The text at *at inside an array of texts (its start is value->data); moves *at to the next. */
bora_gguf_text bora_gguf_element_text(const uint8_t **at);

bool bora_gguf_text_equal(bora_gguf_text text, const char *other);

#endif
