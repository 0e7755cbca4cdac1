/* What a token's bytes are is asked of the decoder, so that the grammar reads what the user will see. */
#include "grammar/vocabulary.h"

#include "base/memory.h"
#include "grammar/characters.h"

#include <stdlib.h>
#include <string.h>

/* The value of a byte piece, "<0x0A>"; the tokenizer has checked its form. */
static char byte_value(const char *piece)
{
    int value = 0;
    for (size_t i = 3; i < 5; i++) {
        char c = piece[i];
        value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return (char)value;
}

static bool is_utf8(const char *text, size_t size)
{
    for (size_t at = 0, n = 0; at < size; at += n)
        if (bora_character_read(text + at, size - at, &n) == BORA_NONE)
            return false;
    return true;
}

/* The text that the token gives at the start of an answer or behind other text; in place of what text held. */
static bora_status decode_one(bora_vocabulary *v, const bora_tokenizer *tokenizer, int32_t token, bool continues,
                              bora_text *text, bora_error *err)
{
    bora_decoder decoder;
    bora_decoder_init(&decoder, tokenizer, continues);
    text->size = 0;
    bora_status st = bora_decoder_push(&decoder, token, text, err);
    if (st == BORA_OK && !continues && text->size == 0)
        v->drops_again = decoder.at_start;
    return st;
}

/* Appends the token's bytes and notes what kind it is. */
static bora_status token_read(bora_vocabulary *v, const bora_tokenizer *tokenizer, int32_t token, bora_text *bytes,
                              bora_text *scratch, bora_error *err)
{
    size_t size = 0;
    const char *piece = bora_tokenizer_piece(tokenizer, token, &size);
    int type = bora_tokenizer_piece_type(tokenizer, token);
    if (token == v->eos || type == BORA_PIECE_CONTROL || type == BORA_PIECE_UNKNOWN || size == 0)
        return BORA_OK;
    v->kinds[token] = BORA_TOKEN_TEXT;
    if (bora_tokenizer_kind(tokenizer) == BORA_TOKENIZER_TEKKEN)
        return bora_text_append(bytes, piece, size, err);
    if (type == BORA_PIECE_BYTE) {
        char byte = byte_value(piece);
        return bora_text_append(bytes, &byte, 1, err);
    }
    bora_status st = decode_one(v, tokenizer, token, true, scratch, err);
    size_t from = bytes->size;
    if (st == BORA_OK)
        st = bora_text_append(bytes, scratch->bytes, scratch->size, err);
    if (st == BORA_OK)
        st = decode_one(v, tokenizer, token, false, scratch, err);
    if (st != BORA_OK)
        return st;
    size = bytes->size - from;
    if (!is_utf8(bytes->bytes + from, size)) { /* half a character beside byte pieces is not what it seems */
        v->kinds[token] = BORA_TOKEN_NONE;
        bytes->size = from;
    } else if (scratch->size != size) {
        v->kinds[token] |= BORA_TOKEN_DROPS;
        v->drops_space = true;
    }
    return BORA_OK;
}

static bora_status read_tokens(bora_vocabulary *v, const bora_tokenizer *tokenizer, bora_error *err)
{
    bora_text bytes = {0}, scratch = {0};
    bora_status st = BORA_OK;
    for (size_t t = 0; t < v->n_tokens && st == BORA_OK; t++) {
        v->starts[t] = (uint32_t)bytes.size; /* at most BORA_PIECE_SIZE_MAX each: the tokenizer's own are 32 bits too */
        st = token_read(v, tokenizer, (int32_t)t, &bytes, &scratch, err);
    }
    bora_text_release(&scratch);
    v->starts[v->n_tokens] = (uint32_t)bytes.size;
    v->bytes = bytes.bytes; /* ours from now on */
    return st;
}

/* ---- the tree ---------------------------------------------------------------------------------------------------- */

static int token_compare(const void *a, const void *b, void *arg)
{
    const bora_vocabulary *v = arg;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    size_t n_x = v->starts[x + 1] - v->starts[x], n_y = v->starts[y + 1] - v->starts[y];
    int order = memcmp(v->bytes + v->starts[x], v->bytes + v->starts[y], n_x < n_y ? n_x : n_y);
    if (order == 0)
        order = (n_x > n_y) - (n_x < n_y);
    return order ? order : (x > y) - (x < y);
}

/* Bytes that token i of the order shares with the one before. */
static size_t shared_size(const bora_vocabulary *v, size_t i)
{
    if (i == 0)
        return 0;
    int32_t x = v->tokens[i - 1], y = v->tokens[i];
    size_t n_x = v->starts[x + 1] - v->starts[x], n_y = v->starts[y + 1] - v->starts[y], n = 0;
    while (n < n_x && n < n_y && v->bytes[v->starts[x] + n] == v->bytes[v->starts[y] + n])
        n++;
    return n;
}

static bora_status build_tree(bora_vocabulary *v, bora_error *err)
{
    for (size_t t = 0; t < v->n_tokens; t++)
        if (v->kinds[t] != BORA_TOKEN_NONE)
            v->tokens[v->n_texts++] = (int32_t)t;
    qsort_r(v->tokens, v->n_texts, sizeof *v->tokens, token_compare, v);
    size_t n_nodes = 1;
    for (size_t i = 0; i < v->n_texts; i++)
        n_nodes += v->starts[v->tokens[i] + 1] - v->starts[v->tokens[i]] - shared_size(v, i);
    v->nodes = bora_calloc(n_nodes + 1, sizeof *v->nodes);
    if (!v->nodes)
        return bora_fail(err, BORA_E_NOMEM, "tree of %zu tokens", v->n_texts);
    uint32_t open[BORA_PIECE_SIZE_MAX + 1] = {0}; /* the node at each depth that what follows is still under */
    size_t n_open = 1;
    v->n_nodes = 1;
    for (size_t i = 0; i < v->n_texts; i++) {
        int32_t token = v->tokens[i];
        size_t size = v->starts[token + 1] - v->starts[token], shared = shared_size(v, i);
        for (; n_open > shared + 1; n_open--)
            v->nodes[open[n_open - 1]].skip = (uint32_t)v->n_nodes;
        for (size_t depth = shared; depth < size; depth++) {
            uint8_t byte = (uint8_t)v->bytes[v->starts[token] + depth];
            open[n_open++] = (uint32_t)v->n_nodes;
            if (depth == 0 && byte == ' ')
                v->space_node = (uint32_t)v->n_nodes;
            v->nodes[v->n_nodes++] =
                (bora_trie_node){.first = (uint32_t)i, .depth = (uint16_t)(depth + 1), .byte = byte};
        }
        if (size > v->depth_max)
            v->depth_max = (uint32_t)size;
    }
    while (n_open-- > 0)
        v->nodes[open[n_open]].skip = (uint32_t)v->n_nodes;
    v->nodes[v->n_nodes].first = (uint32_t)v->n_texts;
    return BORA_OK;
}

static bool has_bytes(const bora_vocabulary *v)
{
    bool found[256] = {false};
    unsigned n = 0;
    for (size_t t = 0; t < v->n_tokens; t++)
        if (v->kinds[t] == BORA_TOKEN_TEXT && v->starts[t + 1] - v->starts[t] == 1) {
            bool *is_found = &found[(uint8_t)v->bytes[v->starts[t]]];
            n += !*is_found;
            *is_found = true;
        }
    return n == 256;
}

bora_status bora_vocabulary_new(const bora_tokenizer *tokenizer, bora_vocabulary **ret_vocabulary, bora_error *err)
{
    bora_vocabulary *v = bora_calloc(1, sizeof *v);
    if (!v)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of a grammar");
    v->n_tokens = bora_tokenizer_n_pieces(tokenizer);
    v->eos = bora_tokenizer_eos(tokenizer);
    v->kinds = bora_calloc(v->n_tokens, 1);
    v->starts = bora_calloc(v->n_tokens + 1, sizeof *v->starts);
    v->tokens = bora_calloc(v->n_tokens, sizeof *v->tokens);
    bora_status st = BORA_OK;
    if (!v->kinds || !v->starts || !v->tokens)
        st = bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu tokens", v->n_tokens);
    else if (v->eos < 0)
        st = bora_fail(err, BORA_E_UNSUPPORTED, "the vocabulary has no token that ends an answer");
    if (st == BORA_OK)
        st = read_tokens(v, tokenizer, err);
    if (st == BORA_OK)
        st = build_tree(v, err);
    if (st != BORA_OK) {
        bora_vocabulary_free(v);
        return st;
    }
    v->has_bytes = has_bytes(v);
    *ret_vocabulary = v;
    return BORA_OK;
}

void bora_vocabulary_free(bora_vocabulary *v)
{
    if (!v)
        return;
    bora_free(v->kinds);
    bora_free(v->starts);
    bora_free(v->bytes);
    bora_free(v->nodes);
    bora_free(v->tokens);
    bora_free(v);
}

size_t bora_vocabulary_size(const bora_vocabulary *v)
{
    return sizeof *v + v->n_tokens * (sizeof *v->kinds + sizeof *v->starts + sizeof *v->tokens) + sizeof *v->starts +
           v->starts[v->n_tokens] + (v->n_nodes + 1) * sizeof *v->nodes;
}
