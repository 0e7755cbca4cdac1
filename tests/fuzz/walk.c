#include "fuzz/walk.h"

#include "fuzz/fuzz.h"
#include "model/model_private.h"
#include "model/tokenizer/utf8.h"

#include <string.h>

static volatile unsigned sum; /* so that the reads are not left out */

static void touch(const void *bytes, size_t size)
{
    if (size)
        sum += ((const uint8_t *)bytes)[0] + ((const uint8_t *)bytes)[size - 1];
}

void fuzz_walk_entries(const bora_model *model)
{
    for (size_t i = 0; i < bora_model_n_tensors(model); i++) {
        const bora_tensor_info *info = bora_model_tensor(model, i);
        FUZZ_CHECK(info->name[0] && strlen(info->name) <= BORA_TENSOR_NAME_MAX);
        FUZZ_CHECK(info->n_dims >= 1 && info->n_dims <= 4 && info->size > 0);
        FUZZ_CHECK(info->dtype < BORA_DTYPE_COUNT);
        FUZZ_CHECK(bora_model_entries_find(model, info->name) == &model->entries[i]);
        touch(model->entries[i].data, (size_t)info->size);
    }
}

static void walk_tensor(const bora_tensor *tensor, uint64_t n_rows, uint64_t n_cols)
{
    FUZZ_CHECK(tensor->data && tensor->n_rows == n_rows && tensor->n_cols == n_cols);
    touch(tensor->data, (size_t)(tensor->row_size * tensor->n_rows));
}

static void walk_layer(const bora_hparams *h, const bora_layer_weights *layer)
{
    const uint64_t q_dim = (uint64_t)h->n_heads * h->head_dim, kv_dim = (uint64_t)h->n_kv_heads * h->head_dim;
    walk_tensor(&layer->attention_norm, 1, h->dim);
    walk_tensor(&layer->wq, q_dim, h->dim);
    walk_tensor(&layer->wk, kv_dim, h->dim);
    walk_tensor(&layer->wv, kv_dim, h->dim);
    walk_tensor(&layer->wo, h->dim, q_dim);
    walk_tensor(&layer->ffn_norm, 1, h->dim);
    if (h->n_experts > 1)
        walk_tensor(&layer->router, h->n_experts, h->dim);
    for (uint32_t e = 0; e < h->n_experts; e++) {
        walk_tensor(&layer->w1[e], h->hidden_dim, h->dim);
        walk_tensor(&layer->w2[e], h->dim, h->hidden_dim);
        walk_tensor(&layer->w3[e], h->hidden_dim, h->dim);
    }
}

void fuzz_walk_model(const bora_model *model)
{
    static const char text[] = "a ab abc\xff\xe2\x96\x81[INST]</s>\xf0\x9f\x98\x80";
    const bora_hparams *h = bora_model_hparams(model);
    FUZZ_CHECK(bora_hparams_check(h, NULL) == BORA_OK);
    fuzz_walk_entries(model);
    walk_tensor(bora_model_embeddings(model), h->vocab_size, h->dim);
    walk_tensor(bora_model_norm(model), 1, h->dim);
    walk_tensor(bora_model_output(model), h->vocab_size, h->dim);
    for (uint32_t layer = 0; layer < h->n_layers; layer++)
        walk_layer(h, bora_model_layer(model, layer));
    FUZZ_CHECK(strlen(bora_model_fingerprint(model)) == 32);
    FUZZ_CHECK(bora_model_name(model)[0] && strlen(bora_model_name(model)) <= BORA_MODEL_NAME_MAX);
    FUZZ_CHECK(bora_model_n_active(model) <= bora_model_n_parameters(model) + (uint64_t)h->vocab_size * h->dim);
    FUZZ_CHECK(bora_model_layout(model) != BORA_CHAT_AUTO);
    const bora_tokenizer *tokenizer = bora_model_tokenizer(model);
    FUZZ_CHECK(tokenizer || bora_model_layout(model) == BORA_CHAT_NONE);
    if (!tokenizer)
        return;
    FUZZ_CHECK(bora_tokenizer_n_pieces(tokenizer) <= h->vocab_size);
    fuzz_walk_tokenizer(tokenizer, text, sizeof text - 1);
}

static void check_utf8(const char *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        int step = bora_utf8_step(bytes + at, size - at);
        FUZZ_CHECK(step > 0);
        at += (size_t)step;
    }
}

void fuzz_walk_tokenizer(const bora_tokenizer *tokenizer, const char *text, size_t size)
{
    BORA_CLEANUP(bora_tokens_release) bora_tokens ids = {0};
    BORA_CLEANUP(bora_text_release) bora_text whole = {0}, streamed = {0};
    bora_status st = bora_tokenizer_encode(tokenizer, text, size, &ids, NULL);
    /* A split expression may take too long, nothing else may go wrong. */
    FUZZ_CHECK(st == BORA_OK || (st == BORA_E_LIMIT && bora_tokenizer_kind(tokenizer) == BORA_TOKENIZER_TEKKEN));
    bora_decoder decoder;
    bora_decoder_init(&decoder, tokenizer, false);
    for (size_t i = 0; i < ids.n; i++) {
        size_t from = streamed.size;
        FUZZ_CHECK(bora_tokenizer_piece_type(tokenizer, ids.ids[i]) > 0);
        FUZZ_CHECK(bora_tokenizer_piece_type(tokenizer, ids.ids[i]) != BORA_PIECE_CONTROL);
        FUZZ_CHECK(bora_decoder_push(&decoder, ids.ids[i], &streamed, NULL) == BORA_OK);
        check_utf8(streamed.bytes + from, streamed.size - from); /* never half a character */
    }
    FUZZ_CHECK(bora_decoder_flush(&decoder, &streamed, NULL) == BORA_OK);
    FUZZ_CHECK(bora_tokenizer_decode(tokenizer, ids.ids, ids.n, &whole, NULL) == BORA_OK);
    FUZZ_CHECK(whole.size == streamed.size && memcmp(whole.bytes, streamed.bytes, whole.size) == 0);
    check_utf8(whole.bytes, whole.size);
    /* Every id, control pieces and all, can be decoded. */
    bora_decoder_init(&decoder, tokenizer, true);
    for (size_t id = 0; id < bora_tokenizer_n_pieces(tokenizer) && id < 1024; id++) {
        size_t piece_size = 0;
        const char *piece = bora_tokenizer_piece(tokenizer, (int32_t)id, &piece_size);
        touch(piece, piece_size);
        FUZZ_CHECK(bora_decoder_push(&decoder, (int32_t)id, &streamed, NULL) == BORA_OK);
        size_t from = whole.size;
        FUZZ_CHECK(bora_tokenizer_piece_text(tokenizer, (int32_t)id, &whole, NULL) == BORA_OK);
        check_utf8(whole.bytes + from, whole.size - from);
    }
    FUZZ_CHECK(bora_decoder_push(&decoder, (int32_t)bora_tokenizer_n_pieces(tokenizer), &streamed, NULL) ==
               BORA_E_INVAL);
}
