/* Tekken's vocabulary as GGUF files of the model "gpt2" have it: the reverse of tokenizer/gpt2.c.
 *
 * bora ranks pieces by their ids and needs no list of merges; other programs do. A piece's merge is the last step of
 * making it from its bytes with the pieces that rank before it. */
#include "base/memory.h"
#include "model/gguf_export_tekken.h"
#include "model/model_private.h"
#include "model/tokenizer/tokenizer_private.h"

#include <stdio.h>
#include <string.h>

/* Every byte is spelled as one visible character: those visible in Latin-1 as themselves, the others as U+0100 and so
 * on, in order. */
typedef struct alphabet {
    uint16_t points[256];
} alphabet;

static void alphabet_init(alphabet *a)
{
    uint16_t next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
        a->points[byte] = visible ? (uint16_t)byte : next++;
    }
}

/* Appends the spelling of size bytes: two bytes of UTF-8 each at most. */
static bora_status spell(const alphabet *a, const char *bytes, size_t size, bora_text *text, bora_error *err)
{
    bora_status st = bora_text_reserve(text, 2 * size, err);
    for (size_t i = 0; st == BORA_OK && i < size; i++) {
        uint16_t point = a->points[(uint8_t)bytes[i]];
        const char two[] = {(char)(0xc0 | point >> 6), (char)(0x80 | (point & 0x3f))}, one = (char)point;
        st = point < 0x80 ? bora_text_append(text, &one, 1, err) : bora_text_append(text, two, 2, err);
    }
    return st;
}

/* Texts one after the other in one buffer, as the out wants them. */
typedef struct texts {
    bora_text all;
    size_t *starts;  /* [n] into all */
    uint32_t *sizes; /* [n] */
    size_t n;
} texts;

static void texts_release(texts *t)
{
    bora_text_release(&t->all);
    bora_free(t->starts);
    bora_free(t->sizes);
}

static bora_status texts_init(texts *t, size_t n_max, bora_error *err)
{
    t->starts = bora_calloc(n_max + 1, sizeof *t->starts);
    t->sizes = bora_calloc(n_max + 1, sizeof *t->sizes);
    return t->starts && t->sizes ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", n_max);
}

/* What was appended to t->all since the text before is one more. */
static void texts_close(texts *t)
{
    t->starts[t->n] = t->n ? t->starts[t->n - 1] + t->sizes[t->n - 1] : 0;
    t->sizes[t->n] = (uint32_t)(t->all.size - t->starts[t->n]);
    t->n++;
}

static bora_status texts_set(const texts *t, const char *key, bora_gguf_out *out, bora_error *err)
{
    BORA_CLEANUP(bora_freep) const char **list = bora_calloc(t->n + 1, sizeof *list);
    if (!list)
        return bora_fail(err, BORA_E_NOMEM, "key '%s'", key);
    for (size_t i = 0; i < t->n; i++)
        list[i] = t->all.bytes + t->starts[i];
    bora_gguf_set_texts(out, key, list, t->sizes, t->n);
    return BORA_OK;
}

/* Where the last merge on the way to piece id joins its two parts; 0: it is not made from pieces before it. */
static size_t last_merge(const bora_tokenizer *t, int32_t id, const char *bytes, size_t size)
{
    uint32_t ends[BORA_PIECE_SIZE_MAX]; /* of the parts so far */
    size_t n = size;
    if (size < 2 || size > BORA_PIECE_SIZE_MAX)
        return 0;
    for (size_t i = 0; i < n; i++)
        ends[i] = (uint32_t)i + 1;
    while (n > 2) {
        size_t best = n;
        int32_t best_id = id;
        for (size_t i = 0; i + 1 < n; i++) {
            size_t begin = i ? ends[i - 1] : 0;
            int32_t joined = bora_tokenizer_find(t, false, bytes + begin, ends[i + 1] - begin);
            if (joined >= 0 && joined < best_id) {
                best = i;
                best_id = joined;
            }
        }
        if (best == n)
            return 0;
        memmove(ends + best, ends + best + 1, (n - best - 1) * sizeof *ends);
        n--;
    }
    return ends[0];
}

static bora_status add_merge(const bora_tokenizer *t, const alphabet *a, int32_t id, texts *merges, bora_error *err)
{
    size_t size = 0;
    const char *bytes = bora_tokenizer_piece(t, id, &size);
    size_t at = last_merge(t, id, bytes, size);
    if (!at)
        return BORA_OK;
    bora_status st;
    if ((st = spell(a, bytes, at, &merges->all, err)) != BORA_OK ||
        (st = bora_text_append(&merges->all, " ", 1, err)) != BORA_OK ||
        (st = spell(a, bytes + at, size - at, &merges->all, err)) != BORA_OK)
        return st;
    texts_close(merges);
    return BORA_OK;
}

static bora_status add_piece(const bora_tokenizer *t, const alphabet *a, size_t id, texts *pieces, bora_error *err)
{
    char padding[24];
    size_t size = 0;
    const char *bytes = padding;
    bora_status st;
    if (id < t->n_pieces)
        bytes = bora_tokenizer_piece(t, (int32_t)id, &size);
    else
        size = (size_t)snprintf(padding, sizeof padding, "[PAD%zu]", id);
    if (id < t->n_pieces && t->types[id] == BORA_PIECE_NORMAL)
        st = spell(a, bytes, size, &pieces->all, err);
    else
        st = bora_text_append(&pieces->all, bytes, size, err);
    if (st == BORA_OK)
        texts_close(pieces);
    return st;
}

bora_status bora_gguf_export_tekken(const bora_tokenizer *t, uint32_t vocab_size, bora_gguf_out *out, bora_error *err)
{
    const size_t n = vocab_size > t->n_pieces ? vocab_size : t->n_pieces;
    BORA_CLEANUP(texts_release) texts pieces = {.n = 0};
    BORA_CLEANUP(texts_release) texts merges = {.n = 0};
    BORA_CLEANUP(bora_freep) int32_t *types = bora_calloc(n, sizeof *types);
    bora_status st;
    alphabet a;
    alphabet_init(&a);
    if (!types)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", n);
    if ((st = texts_init(&pieces, n, err)) != BORA_OK || (st = texts_init(&merges, n, err)) != BORA_OK)
        return st;
    for (size_t id = 0; id < n; id++) {
        types[id] = id < t->n_pieces ? t->types[id] : BORA_PIECE_CONTROL;
        if ((st = add_piece(t, &a, id, &pieces, err)) != BORA_OK ||
            (types[id] == BORA_PIECE_NORMAL && (st = add_merge(t, &a, (int32_t)id, &merges, err)) != BORA_OK))
            return st;
    }
    bora_gguf_set_text(out, "tokenizer.ggml.model", "gpt2", 4);
    bora_gguf_set_text(out, "tokenizer.ggml.pre", "tekken", 6);
    bora_gguf_set_array(out, "tokenizer.ggml.token_type", BORA_GGUF_I32, types, n);
    if ((st = texts_set(&pieces, "tokenizer.ggml.tokens", out, err)) != BORA_OK)
        return st;
    return texts_set(&merges, "tokenizer.ggml.merges", out, err);
}
