/* A model's folder: what is in it, and what Mistral's own layout and Hugging Face's have in common. Private to the
 * layer. */
#ifndef BORA_MODEL_FOLDER_H
#define BORA_MODEL_FOLDER_H

#include "model/model_private.h"

/* Caller-owned; all zero is empty. */
typedef struct bora_folder {
    const char *path; /* borrowed */
    char **native;    /* [n_native] names of consolidated*.safetensors, sorted */
    size_t n_native;
    char *tokenizer; /* name of the one with the highest version; NULL: none */
    int tokenizer_version;
    bool has_params, has_config;            /* params.json, config.json */
    bool has_single, has_index, has_shards; /* model.safetensors, its .index.json, model-*.safetensors */
    bool has_native_pickle, has_hf_pickle;  /* consolidated*.pth, pytorch_model*.bin */
    bool has_tekken;
} bora_folder;

/* Looks into the folder. Errors: NOT_FOUND, IO, LIMIT, NOMEM. */
bora_status bora_folder_read(const char *path, bora_folder *ret_folder, bora_error *err);
void bora_folder_release(bora_folder *folder);

/* Reads a text file of the folder, of 16 MiB at most. Errors: as bora_file_read. */
bora_status bora_folder_text(const bora_folder *folder, const char *name, char **ret_text, size_t *ret_size,
                             bora_error *err);
/* Maps a safetensors file of the folder and adds its tensors. */
bora_status bora_folder_weights(bora_model *model, const bora_folder *folder, const char *name, bora_error *err);
bora_status bora_folder_tokenizer(bora_model *model, const bora_folder *folder, const bora_model_options *options,
                                  bora_error *err);
/* Sets template_layout from the folder's chat template, if it has one and the model has a tokenizer. */
bora_status bora_folder_template(bora_model *model, const bora_folder *folder, bora_error *err);
/* Puts the name of the file in front of a message that has only what is wrong in it. */
bora_status bora_folder_in_file(bora_status status, const char *name, bora_error *err);

#endif
