/* What the files of this layer share: the model's inside, the list of tensors that a format fills, and the way from
 * that list to layers.
 *
 * A format (gguf.c, native.c) maps its files, fills hparams and adds every tensor it finds; bora_model_weights then
 * picks the tensors by name and checks their shapes; the format adds the vocabulary; model.c closes with layout and
 * fingerprint. Every step leaves a model that bora_model_free accepts. */
#ifndef BORA_MODEL_MODEL_PRIVATE_H
#define BORA_MODEL_MODEL_PRIVATE_H

#include "base/arena.h"
#include "base/counted.h"
#include "base/file.h"
#include "model/model.h"

/* More than any model within the limits of hparams.h has. */
#define BORA_TENSORS_MAX     1048576u
#define BORA_TENSOR_NAME_MAX 255u
#define BORA_MODEL_FILES_MAX 1024u
#define BORA_MODEL_NAME_MAX  255u

typedef struct bora_model_entry {
    bora_tensor_info info;
    const uint8_t *data; /* [info.size], in a mapped file */
    bool used;           /* it became a weight */
} bora_model_entry;

struct bora_model {
    bora_arena arena; /* names, layers, experts */
    char *path, *name;
    const char *format; /* static */
    bora_file *files;   /* [n_files] mapped as long as the model lives */
    char **file_paths;  /* [n_files] */
    size_t n_files;

    bora_model_entry *entries; /* [n_entries], in the order of the files */
    size_t n_entries, entries_capacity;
    bora_model_entry **by_name; /* [n_entries] sorted; NULL before bora_model_entries_seal */

    bora_hparams hparams;
    bora_tensor embeddings, norm, output;
    bora_layer_weights *layers; /* [n_layers] */

    bora_tokenizer *tokenizer; /* NULL: none */
    uint8_t vocab_hash[16];    /* of pieces, scores and types, or of the tokenizer's file; zero: none */
    bora_chat_layout layout;
    bora_chat_layout template_layout; /* of the model's chat template or file names; NONE: nothing says it */
    char fingerprint[33];
    uint64_t size, n_parameters, n_active;

    uint8_t *copied; /* [copied_size] rows that had to be put in another order; NULL: none */
    size_t copied_size;
    bora_ledger *ledger;
    uint64_t tables_taken; /* bytes, from the ledger's program account */
    bool window_set;       /* hparams' windows are the user's, not the files' */
};

typedef struct bora_folder bora_folder;

/* How a format names its tensors. A layer's tensor is layer_prefix, number, ".", name; NULL where a format has no
 * such form. Arrays of three are w1, w2, w3. */
typedef struct bora_tensor_names {
    const char *embeddings, *norm, *output;
    const char *layer_prefix;
    const char *attention_norm, *wq, *wk, *wv, *wo, *ffn_norm;
    const char *dense[3];
    struct {
        const char *router;
        const char *merged[3];                           /* all experts in one tensor [n_experts, n_out, n_in] */
        const char *expert_prefix[3], *expert_suffix[3]; /* one tensor per expert, its number between the two */
    } mixture[2];                                        /* the first whose router is there */
    const char *ignored[2];                              /* endings of tensors that repeat what hparams say */
} bora_tensor_names;

/* ---- entries.c: the tensors of the files ---- */

/* Room for n more. Errors: LIMIT, NOMEM. */
bora_status bora_model_entries_reserve(bora_model *model, size_t n, bora_error *err);
/* Adds a tensor; its name [name_size] is copied, its size computed from shape (row-major, n_dims) and dtype. data
 * [rest] are the bytes from its first one to the end of the file. Errors: FORMAT (name, shape, outside the file). */
bora_status bora_model_entries_add(bora_model *model, const char *name, size_t name_size, const uint64_t *shape,
                                   uint32_t n_dims, uint32_t dtype, const uint8_t *data, size_t rest, bora_error *err);
/* All are added: makes them findable. Errors: FORMAT (a name twice, two that overlap), NOMEM. */
bora_status bora_model_entries_seal(bora_model *model, bora_error *err);
/* NULL if there is none. */
bora_model_entry *bora_model_entries_find(const bora_model *model, const char *name);

/* ---- weights.c: from entries to layers ---- */

/* Fills embeddings, norm, output and layers from the sealed entries; hparams are checked before. Errors: FORMAT (a
 * tensor is missing or of another shape), UNSUPPORTED (a tensor that has no place in the architecture), NOMEM. */
bora_status bora_model_weights(bora_model *model, const bora_tensor_names *names, bora_error *err);

/* ---- the formats ---- */

/* Fills the model from the bytes of a GGUF file, which outlive it. */
bora_status bora_gguf_load(bora_model *model, const uint8_t *data, size_t size, const bora_model_options *options,
                           bora_error *err);
/* Maps one more file for the model. Errors: as bora_file_map, and LIMIT, NOMEM. */
bora_status bora_model_map(bora_model *model, const char *path, const bora_file **ret_file, bora_error *err);
/* Hyper-parameters from the text of a params.json. Errors: FORMAT, UNSUPPORTED, naming the key. */
bora_status bora_native_params(const char *text, size_t size, bora_hparams *ret_hparams, bora_error *err);
/* The same from the text of a config.json; is_tied: there is no output matrix of its own. */
bora_status bora_huggingface_config(const char *text, size_t size, bora_hparams *ret_hparams, bool *ret_is_tied,
                                    bora_error *err);
/* Checks the names that an index (model.safetensors.index.json) gives: its files, each once, in a new list
 * (bora_names_free). Errors: FORMAT, LIMIT, NOMEM. */
bora_status bora_huggingface_index(const char *text, size_t size, char ***ret_files, size_t *ret_n_files,
                                   bora_error *err);
/* Fills the model from a folder, whichever layout it is in. */
bora_status bora_folder_load(bora_model *model, const char *path, const bora_model_options *options, bora_error *err);
/* The two layouts: hyper-parameters and weights, no tokenizer. */
bora_status bora_native_load(bora_model *model, const bora_folder *folder, bora_error *err);
bora_status bora_huggingface_load(bora_model *model, const bora_folder *folder, const bora_model_options *options,
                                  bora_error *err);

/* ---- residency.c ---- */

/* As bora_model_memory_is_short, with the text of /proc/meminfo. */
bool bora_model_memory_is_short_in(const bora_model *model, const char *meminfo);

/* ---- model.c, fingerprint.c ---- */

/* What is left once a format has filled the model: layout, sizes, fingerprint. */
bora_status bora_model_finish(bora_model *model, const bora_model_options *options, bora_error *err);
void bora_model_freep(bora_model **model);
void bora_names_free(char **names, size_t n_names); /* [n_names], each and the list; NULL, 0 is a no-op */
/* Takes over what a file calls the model; what is not one line of UTF-8 is left out. Errors: NOMEM. */
bora_status bora_model_name_set(bora_model *model, const char *name, size_t size, bora_error *err);
void bora_model_fingerprint_make(bora_model *model);
/* Hash of the vocabulary's arrays; of the bytes of a tokenizer file. */
void bora_model_vocab_hash(bora_model *model, const bora_vocab *vocab);
void bora_model_vocab_hash_bytes(bora_model *model, const void *data, size_t size);

/* Text from a file made fit for an error message: [n] bytes, cut to what fits, anything but printable ASCII as '?'. */
typedef struct bora_quoted {
    char text[80];
} bora_quoted;
bora_quoted bora_quote(const char *text, size_t n);
/* Names of keys and tensors appear in messages and listings: empty, or anything but visible ASCII, is damage. */
bool bora_name_sane(const char *name, size_t n);

#endif
