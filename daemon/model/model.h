/* A model: hyper-parameters, weights, tokenizer and chat layout, read from a file or folder.
 *
 * bora_model_open asks each format whether the path is its own (GGUF file; Mistral's native folder) and has it
 * fill one bora_model. Weights stay in the mapped files, read-only, in the type they are stored in. Everything a
 * file says is checked before it is used: a damaged file costs one load. A model is immutable once open and may
 * be read from any thread. */
#ifndef BORA_MODEL_MODEL_H
#define BORA_MODEL_MODEL_H

#include "base/ledger.h"
#include "base/log.h"
#include "base/status.h"
#include "model/chat/chat.h"
#include "model/hparams.h"
#include "model/tokenizer/tokenizer.h"

typedef struct bora_model bora_model;

typedef struct bora_layer_weights {
    bora_tensor attention_norm;      /* [1, dim] */
    bora_tensor wq;                  /* [n_heads * head_dim, dim], rotating pairs (2i, 2i+1) */
    bora_tensor wk, wv;              /* [n_kv_heads * head_dim, dim] */
    bora_tensor wo;                  /* [dim, n_heads * head_dim] */
    bora_tensor ffn_norm;            /* [1, dim] */
    bora_tensor router;              /* [n_experts, dim]; data NULL when dense */
    const bora_tensor *w1, *w2, *w3; /* [n_experts] of [hidden_dim, dim], [dim, hidden_dim], [hidden_dim, dim] */
} bora_layer_weights;

/* One tensor as the file has it, for listings. */
typedef struct bora_tensor_info {
    const char *name;
    uint64_t shape[4]; /* row-major, outermost first; unused are 1 */
    uint32_t n_dims;
    uint32_t dtype;
    uint64_t size; /* bytes */
} bora_tensor_info;

#define BORA_WINDOW_AUTO 0u         /* what the model's files state */
#define BORA_WINDOW_NONE UINT32_MAX /* none, whatever they state */

typedef struct bora_model_options {
    bora_chat_layout layout; /* BORA_CHAT_AUTO: from the tokenizer and model */
    bool without_tokenizer;  /* a missing tokenizer is not an error (golden models have none) */
    bool description_only;   /* weights are listed but not prepared: nothing may be computed with the model */
    uint32_t window;         /* of every layer: AUTO, NONE or 1 .. BORA_POSITIONS_MAX; part of the fingerprint */
    bora_ledger *ledger; /* what is not in a mapped file is taken from it: copied weights, before they are copied, and
                          * tables, when they are read; borrowed, outlives the model. NULL: from none */
} bora_model_options;

/* Opens a .gguf file (the first of a split model opens them all), a folder with params.json (Mistral) or one with
 * config.json (Hugging Face). Headers are read; weights are mapped and, but for the samples of the fingerprint, left
 * alone. options and log may be NULL.
 * Errors: NOT_FOUND (path, or a file that belongs to it, by name), FORMAT (what is wrong and where), UNSUPPORTED (a
 * tensor type, an architecture), NOMEM, LIMIT (the ledger), IO. */
bora_status bora_model_open(const char *path, const bora_model_options *options, const bora_log *log,
                            bora_model **ret_model, bora_error *err);
/* NULL is a no-op. */
void bora_model_free(bora_model *model);

const bora_hparams *bora_model_hparams(const bora_model *model);
const char *bora_model_path(const bora_model *model);   /* as given */
const char *bora_model_name(const bora_model *model);   /* from the file, else the path's last part */
const char *bora_model_format(const bora_model *model); /* "gguf", "mistral", "huggingface" */
/* 32 hex digits over the content of weights, hyper-parameters and vocabulary; not path or time. Models up to 64 MiB
 * are hashed whole; of larger ones each tensor's name, shape and type and evenly spaced samples of it. The windows in
 * use are hyper-parameters: with other windows it is another model, whose KV caches do not fit. */
const char *bora_model_fingerprint(const bora_model *model);
const bora_tensor *bora_model_embeddings(const bora_model *model); /* [vocab_size, dim] */
const bora_tensor *bora_model_norm(const bora_model *model);       /* [1, dim] */
const bora_tensor *bora_model_output(const bora_model *model);     /* [vocab_size, dim]; may be the embeddings */
const bora_layer_weights *bora_model_layer(const bora_model *model, uint32_t layer);
const bora_tokenizer *bora_model_tokenizer(const bora_model *model); /* NULL if there is none */
bora_chat_layout bora_model_layout(const bora_model *model);         /* never AUTO; NONE: not a chat model */
size_t bora_model_n_tensors(const bora_model *model);
const bora_tensor_info *bora_model_tensor(const bora_model *model, size_t i);
uint64_t bora_model_size(const bora_model *model);         /* bytes of all weights */
uint64_t bora_model_n_parameters(const bora_model *model); /* all of them */
uint64_t bora_model_n_active(const bora_model *model);     /* that take part in one token, embedding table left out */

/* Bytes of rows that had to be copied in another order, beside the mapped weights. */
uint64_t bora_model_copied_size(const bora_model *model);
/* Bytes of names, lists and the tokenizer in memory. */
uint64_t bora_model_tables_size(const bora_model *model);
/* Where the windows in use come from: "llama.attention.sliding_window", "set by model.window", "not stated" ... */
const char *bora_model_window_source(const bora_model *model);
/* How many tensors are of which type, most first: "q4_k 193, f32 65". Cut at size. */
void bora_model_types_text(const bora_model *model, char *text, size_t size);
/* A file of the model was cut short or could not be read after it was mapped, which needs bora_guard_install: weights
 * are zeros now, and nothing that was computed since can be trusted. Any thread. */
bool bora_model_is_damaged(const bora_model *model);

/* ---- memory: any thread; each is a hint, and does nothing for memory that is not in a mapped file ---- */

/* from [size] will be read soon: the system begins to read what is not in its cache. May wait for the disk's queue. */
void bora_model_read_ahead(const bora_model *model, const void *from, size_t size);
/* from [size] is not needed for now: pages wholly inside leave the process's memory (where the system maps
 * huge pages, what shares one with them too). Whoever reads them again finds them as they were, from the page cache or
 * the disk; guards stay. Rows that were copied are not touched. */
void bora_model_release(const bora_model *model, const void *from, size_t size);
/* The same, and the system's page cache gives up the file up to the range's end too, from the 2 MiB on that the range
 * begins in. */
void bora_model_forget(const bora_model *model, const void *from, size_t size);
/* Whether what the system could give to programs now (MemAvailable of /proc/meminfo) is less than twice the weights,
 * for a copy of them in memory and the file in the page cache. Then a file is better forgotten as it is read. */
bool bora_model_memory_is_short(const bora_model *model);

/* Finds a model by its name, which has no '/': one of that name where the program stands goes first, then, in each
 * folder of search ("dir:dir"), NAME, NAME.gguf, NAME-00001-of-0000N.gguf. *ret_path is new (bora_free). A name with
 * a '/' is a path, and given back. Errors: NOT_FOUND, naming the folders; INVAL (parts of two models); NOMEM. */
bora_status bora_model_find(const char *name, const char *search, char **ret_path, bora_error *err);
/* Where models are looked for unless the user says otherwise: the user's own data folder, base/share/bora/models (base
 * may be NULL), /usr/share/bora/models. New (bora_free); NULL when there is no memory. */
char *bora_model_search_default(const char *base);

#endif
