/* Writes GGUF files, right ones and wrong ones: pairs and tensors stay editable until the bytes are made. Contents of
 * tensors are pseudo-random numbers that depend on the seed alone. A test program that cannot allocate ends. */
#ifndef BORA_TESTS_GGUF_WRITER_H
#define BORA_TESTS_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BORA_WRITER_PAIRS_MAX   64
#define BORA_WRITER_TENSORS_MAX 256

/* GGUF's type numbers, of metadata and of tensors. */
enum {
    BORA_WRITER_U8 = 0,
    BORA_WRITER_U32 = 4,
    BORA_WRITER_I32 = 5,
    BORA_WRITER_F32 = 6,
    BORA_WRITER_BOOL = 7,
    BORA_WRITER_STRING = 8,
    BORA_WRITER_ARRAY = 9,
    BORA_WRITER_U64 = 10,
    BORA_WRITER_F64 = 12,
};
enum {
    BORA_WRITER_TENSOR_F32 = 0,
    BORA_WRITER_TENSOR_F16 = 1,
    BORA_WRITER_TENSOR_Q8_0 = 8,
    BORA_WRITER_TENSOR_BF16 = 30
};

typedef struct bora_writer_pair {
    char key[128];
    uint32_t type;
    uint8_t *value; /* [size] as in the file, behind the type; owned */
    size_t size;
} bora_writer_pair;

typedef struct bora_writer_tensor {
    char name[128];
    uint64_t dims[4]; /* outermost first; the file has them reversed */
    uint32_t n_dims, type;
    uint64_t offset; /* in the data part; set by add, may be changed */
    uint64_t size;   /* bytes of data really written */
    float scale;     /* magnitude of the numbers */
} bora_writer_tensor;

typedef struct bora_gguf_writer {
    uint32_t version;   /* 3 */
    uint32_t alignment; /* 32; where the data part begins, whatever the metadata say */
    uint64_t seed;
    int64_t n_pairs_extra, n_tensors_extra; /* added to the counts in the header */
    bora_writer_pair pairs[BORA_WRITER_PAIRS_MAX];
    size_t n_pairs;
    bora_writer_tensor tensors[BORA_WRITER_TENSORS_MAX];
    size_t n_tensors;
} bora_gguf_writer;

void bora_gguf_writer_init(bora_gguf_writer *writer);
void bora_gguf_writer_release(bora_gguf_writer *writer);

/* Sets a pair, in the place of one with the same key. */
void bora_gguf_writer_u32(bora_gguf_writer *writer, const char *key, uint32_t value);
void bora_gguf_writer_f32(bora_gguf_writer *writer, const char *key, float value);
void bora_gguf_writer_bool(bora_gguf_writer *writer, const char *key, bool value);
void bora_gguf_writer_string(bora_gguf_writer *writer, const char *key, const char *value);
void bora_gguf_writer_strings(bora_gguf_writer *writer, const char *key, const char *const *values, uint64_t n);
/* An array of elements of fixed size, n * element_size bytes of data. */
void bora_gguf_writer_array(bora_gguf_writer *writer, const char *key, uint32_t type, const void *data, uint64_t n,
                            size_t element_size);
/* Any bytes as the value. */
void bora_gguf_writer_raw(bora_gguf_writer *writer, const char *key, uint32_t type, const void *value, size_t size);
/* Leaves a pair out. Ends the test if it is not there. */
void bora_gguf_writer_remove(bora_gguf_writer *writer, const char *key);

/* Adds a tensor behind the others. Types that are not in the enum get no data. */
bora_writer_tensor *bora_gguf_writer_tensor(bora_gguf_writer *writer, const char *name, uint32_t type, uint32_t n_dims,
                                            const uint64_t *dims);
/* Ends the test if it is not there. */
bora_writer_tensor *bora_gguf_writer_find(bora_gguf_writer *writer, const char *name);
void bora_gguf_writer_remove_tensor(bora_gguf_writer *writer, const char *name);

/* The file, in new memory (free). */
uint8_t *bora_gguf_writer_bytes(const bora_gguf_writer *writer, size_t *ret_size);

/* The shape of a small model; start from BORA_TINY_MODEL. */
typedef struct bora_tiny_model {
    uint32_t n_layers, dim, hidden_dim, n_heads, n_kv_heads, head_dim, vocab_size;
    uint32_t n_experts, n_experts_per_tok; /* 1, 1: dense */
    uint32_t window;                       /* 0: none */
    uint32_t type;                         /* of matrices: BORA_WRITER_TENSOR_* */
    bool split_experts;                    /* the older form, one tensor per expert */
    bool tied;                             /* no output matrix */
    bool without_vocabulary;               /* then vocab_size is as small as you like */
} bora_tiny_model;

#define BORA_TINY_MODEL                                                                                                \
    ((bora_tiny_model){.n_layers = 2,                                                                                  \
                       .dim = 32,                                                                                      \
                       .hidden_dim = 64,                                                                               \
                       .n_heads = 4,                                                                                   \
                       .n_kv_heads = 2,                                                                                \
                       .head_dim = 8,                                                                                  \
                       .vocab_size = 272,                                                                              \
                       .n_experts = 1,                                                                                 \
                       .n_experts_per_tok = 1,                                                                         \
                       .type = BORA_WRITER_TENSOR_F32})

/* A whole model of that shape: metadata, tensors, and a vocabulary of <unk>, <s>, </s>, [INST], [/INST], 256 bytes and
 * some letters, cut or filled up to vocab_size (261 to 1024). */
void bora_gguf_writer_model(bora_gguf_writer *writer, const bora_tiny_model *shape);

#endif
