/* Writes one and the same small random model in every layout that is read: what differs between two of them is the
 * layout and, if asked for, the type of the matrices. No tokenizer. A test program that cannot write ends. */
#ifndef BORA_TESTS_MODEL_WRITER_H
#define BORA_TESTS_MODEL_WRITER_H

#include "support/gguf_writer.h"
#include "support/temp_folder.h"

typedef enum bora_written_layout {
    BORA_MODEL_NATIVE,       /* params.json, consolidated.safetensors */
    BORA_MODEL_HF,           /* config.json, model.safetensors */
    BORA_MODEL_HF_SHARDED,   /* config.json, three files and an index */
    BORA_MODEL_GGUF,         /* experts merged */
    BORA_MODEL_GGUF_EXPERTS, /* one tensor per expert */
    BORA_MODEL_GGUF_SPLIT,   /* three files */
    BORA_MODEL_LAYOUTS
} bora_written_layout;

/* How a row of n numbers becomes bytes of that type, to out; returns the size. */
typedef size_t (*bora_row_encoder)(uint32_t type, const float *row, uint64_t n, uint8_t *out);

typedef struct bora_model_writing {
    bora_tiny_model shape; /* type, split_experts and without_vocabulary are not looked at */
    uint64_t seed;
    uint32_t type;            /* of the matrices in GGUF: its number */
    bora_row_encoder encoder; /* for that type; NULL: f32 */
    const char *config_extra; /* put into config.json, beginning with a comma; may be NULL */
} bora_model_writing;

/* Writes the files into folder; path is what to open. */
void bora_model_write(const bora_temp_folder *folder, const bora_model_writing *writing, bora_written_layout layout,
                      char path[BORA_TEMP_PATH_SIZE]);

#endif
