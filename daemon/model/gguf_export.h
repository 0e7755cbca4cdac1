/* What a GGUF file says about a model besides its tensors: hyper-parameters, tokenizer, chat template, in the keys that
 * GGUF programs know; and the names its tensors have there. */
#ifndef BORA_MODEL_GGUF_EXPORT_H
#define BORA_MODEL_GGUF_EXPORT_H

#include "model/gguf_writer.h"
#include "model/model.h"

/* Sets everything except general.file_type. A model read from GGUF keeps its tokenizer.* and general.* keys as they
 * are. Failures to set are the out's to report. Errors: FORMAT, NOMEM; UNSUPPORTED (a tokenizer that GGUF has no
 * form for). */
bora_status bora_gguf_export_keys(const bora_model *model, bora_gguf_out *out, bora_error *err);
/* The part of it that h says: the llama.* keys. A window that all layers share is llama.attention.sliding_window; a
 * pattern of windows is an array under the same key, repeated over the layers, 0 for none; no window: no key. */
void bora_gguf_export_hparams(const bora_hparams *h, bora_gguf_out *out);
/* The part of it that the tokenizer says: tokenizer.ggml.*, of the model "llama" or, for Tekken, "gpt2". Pieces are
 * added up to vocab_size. */
bora_status bora_gguf_export_tokenizer(const bora_tokenizer *tokenizer, uint32_t vocab_size, bora_gguf_out *out,
                                       bora_error *err);
/* A Jinja template for other programs to lay chats out by; NULL: there is none for that layout. Static. */
const char *bora_gguf_template(bora_chat_layout layout);

/* ---- tensors -------------------------------------------------------------------------------------------------- */

#define BORA_GGUF_ROLE_F32    'f' /* norms and routers: small, and never quantised */
#define BORA_GGUF_ROLE_EMBED  'e'
#define BORA_GGUF_ROLE_OUTPUT 'o' /* also of embeddings that are the output, too */
#define BORA_GGUF_ROLE_VALUE  'v'
#define BORA_GGUF_ROLE_DOWN   'd'
#define BORA_GGUF_ROLE_MATRIX 'm' /* any other */

/* One tensor of the file. */
typedef struct bora_gguf_slot {
    char name[64];
    uint64_t n_rows, n_cols; /* of a part */
    uint32_t n_parts;        /* more than 1: the experts of a layer, one after the other */
    bool vector;             /* written [n_cols], not [1, n_cols] */
    char role;               /* BORA_GGUF_ROLE_* */
} bora_gguf_slot;

/* How many there are, and number i in the order of the file. tied: the embeddings are the output, too. */
size_t bora_gguf_n_slots(const bora_hparams *h, bool tied);
void bora_gguf_slot_at(const bora_hparams *h, bool tied, size_t i, bora_gguf_slot *ret_slot);
/* Adds it to the file, in that type. */
void bora_gguf_slot_add(const bora_gguf_slot *slot, uint32_t dtype, bora_gguf_out *out);
/* The model's matrices [n_parts] for slot i. */
const bora_tensor *bora_gguf_slot_parts(const bora_model *model, size_t i);
bool bora_gguf_is_tied(const bora_model *model);

/* ---- types ---------------------------------------------------------------------------------------------------- */

/* What the matrices of a file are to be. */
typedef struct bora_gguf_mix {
    const char *name;      /* "q8_0", "mixed" ... */
    uint32_t type, better; /* better: of values, down projections and output */
    uint32_t file_type;    /* general.file_type */
} bora_gguf_mix;

/* NULL for a name that is none. */
const bora_gguf_mix *bora_gguf_mix_find(const char *name);
/* The type for a slot: *ret_wanted by its role, which is also the answer if its rows are whole blocks of it; else q8_0
 * or, if they are no whole blocks of that either, f16. */
uint32_t bora_gguf_mix_type(const bora_gguf_mix *mix, const bora_gguf_slot *slot, uint32_t *ret_wanted);

#endif
