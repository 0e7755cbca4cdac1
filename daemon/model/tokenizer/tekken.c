/* tekken.json: Mistral's vocabulary as a list of ranked byte strings.
 *
 *   config          pattern, default_vocab_size, default_num_special_tokens, num_vocab_tokens, version
 *   vocab           [{rank, token_bytes (base64), token_str}], by rank
 *   special_tokens  [{rank, token_str, is_control}]; files of the first version have none and mean fixed ones
 *
 * Ids 0 .. n_special-1 are the special tokens, the rank r is the id n_special + r; ranks that do not fit into
 * default_vocab_size are not used. Everything that the two lists and the counts say of each other is checked; keys that
 * no tokenizer needs (images, audio) are left alone. */
#include "base/memory.h"
#include "model/model_private.h"
#include "model/tokenizer/tokenizer_private.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define SPECIAL_NAME_SIZE 24u /* of "<SPECIAL_n>" with 32 bits */

/* What a file without special_tokens means; the rest are <SPECIAL_n>. */
static const char *const first_specials[] = {
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "<pad>",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
};

/* The arrays of bora_vocab, owned. */
typedef struct tekken {
    const char **pieces; /* [n_pieces] into bytes, names or the JSON */
    uint32_t *sizes;
    int32_t *types;
    char *bytes;                      /* the decoded base64 of all ranks */
    char (*names)[SPECIAL_NAME_SIZE]; /* [n_special] */
    size_t n_pieces, n_special;
} tekken;

static void tekken_release(tekken *t)
{
    bora_free(t->pieces);
    bora_free(t->sizes);
    bora_free(t->types);
    bora_free(t->bytes);
    bora_free(t->names);
}

static void json_release(json_t **json)
{
    json_decref(*json);
}

/* ---- base64 -------------------------------------------------------------------------------------------------- */

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padded base64 to ret_bytes [3 * size / 4]; false if it is none. */
static bool base64_decode(const char *text, size_t size, char *ret_bytes, size_t *ret_size)
{
    if (size % 4 != 0)
        return false;
    size_t n = 0;
    for (size_t i = 0; i < size; i += 4) {
        size_t n_digits = 4;
        if (i + 4 == size)
            n_digits = text[i + 3] != '=' ? 4 : text[i + 2] != '=' ? 3 : 2;
        uint32_t bits = 0;
        for (size_t d = 0; d < 4; d++) {
            int digit = d < n_digits ? base64_digit(text[i + d]) : 0;
            if (digit < 0)
                return false;
            bits = bits << 6 | (uint32_t)digit;
        }
        if (bits & (n_digits == 2 ? 0xffffu : n_digits == 3 ? 0xffu : 0u)) /* bits of a byte that is not there */
            return false;
        for (size_t b = 0; b + 1 < n_digits; b++)
            ret_bytes[n++] = (char)(bits >> (16 - 8 * b));
    }
    *ret_size = n;
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static bora_status count_read(const json_t *config, const char *key, uint32_t max, size_t *ret_n, bora_error *err)
{
    const json_t *value = json_object_get(config, key);
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > max)
        return bora_fail(err, BORA_E_FORMAT, "tekken: '%s' is no number from 1 to %u", key, max);
    *ret_n = (size_t)json_integer_value(value);
    return BORA_OK;
}

/* "v3" is 3, "v7m1" 7; 0: not stated. */
static bora_status version_read(const json_t *config, uint32_t *ret_version, bora_error *err)
{
    const json_t *value = json_object_get(config, "version");
    *ret_version = 0;
    if (!value || json_is_null(value))
        return BORA_OK;
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    uint32_t version = 0;
    if (text[0] == 'v')
        for (size_t i = 1; i < 5 && text[i] >= '0' && text[i] <= '9'; i++)
            version = version * 10 + (uint32_t)(text[i] - '0');
    if (version == 0)
        return bora_fail(err, BORA_E_FORMAT, "tekken: 'version' is not 'v' and a number");
    *ret_version = version;
    return BORA_OK;
}

/* The rank of an element of a list, below n. */
static bora_status rank_read(const json_t *element, const char *list, size_t at, size_t n, size_t *ret_rank,
                             bora_error *err)
{
    const json_t *rank = json_object_get(element, "rank");
    if (!json_is_integer(rank) || json_integer_value(rank) < 0 || (uint64_t)json_integer_value(rank) >= n)
        return bora_fail(err, BORA_E_FORMAT, "tekken: %s[%zu] has no rank from 0 to %zu", list, at, n - 1);
    *ret_rank = (size_t)json_integer_value(rank);
    return BORA_OK;
}

static bora_status special_read(tekken *t, const json_t *element, size_t at, bora_error *err)
{
    size_t rank = 0;
    bora_status st = rank_read(element, "special_tokens", at, t->n_special, &rank, err);
    if (st != BORA_OK)
        return st;
    const json_t *name = json_object_get(element, "token_str");
    if (!json_is_string(name) || json_string_length(name) < 1 || json_string_length(name) > BORA_PIECE_SIZE_MAX)
        return bora_fail(err, BORA_E_FORMAT, "tekken: special_tokens[%zu] has no token_str of 1 to %u bytes", at,
                         BORA_PIECE_SIZE_MAX);
    if (t->pieces[rank])
        return bora_fail(err, BORA_E_FORMAT, "tekken: special_tokens[%zu] has the rank %zu of another", at, rank);
    t->pieces[rank] = json_string_value(name);
    t->sizes[rank] = (uint32_t)json_string_length(name);
    return BORA_OK;
}

static bora_status specials_read(tekken *t, const json_t *root, bora_error *err)
{
    const json_t *list = json_object_get(root, "special_tokens");
    bool fixed = !list || json_is_null(list);
    if (!fixed && !json_is_array(list))
        return bora_fail(err, BORA_E_FORMAT, "tekken: 'special_tokens' is no list");
    for (size_t i = 0; !fixed && i < json_array_size(list); i++) {
        bora_status st = special_read(t, json_array_get(list, i), i, err);
        if (st != BORA_OK)
            return st;
    }
    for (size_t id = 0; id < t->n_special; id++) {
        t->types[id] = BORA_PIECE_CONTROL;
        if (t->pieces[id])
            continue;
        bool named = fixed && id < BORA_ARRAY_SIZE(first_specials);
        (void)snprintf(t->names[id], SPECIAL_NAME_SIZE, "<SPECIAL_%" PRIu32 ">", (uint32_t)id); /* always fits */
        t->pieces[id] = named ? first_specials[id] : t->names[id];
        t->sizes[id] = (uint32_t)strlen(t->pieces[id]);
    }
    return BORA_OK;
}

/* The text of token_bytes; what is wrong with the element otherwise. */
static bora_status token_check(const json_t *element, size_t rank, const json_t **ret_text, bora_error *err)
{
    size_t stated = 0;
    bora_status st = rank_read(element, "vocab", rank, BORA_VOCAB_MAX, &stated, err);
    if (st != BORA_OK)
        return st;
    if (stated != rank)
        return bora_fail(err, BORA_E_FORMAT, "tekken: vocab[%zu] has the rank %zu", rank, stated);
    const json_t *text = json_object_get(element, "token_bytes");
    if (!json_is_string(text) || json_string_length(text) > BORA_PIECE_SIZE_MAX * 4 / 3 + 4)
        return bora_fail(err, BORA_E_FORMAT, "tekken: vocab[%zu] has no token_bytes of 1 to %u bytes", rank,
                         BORA_PIECE_SIZE_MAX);
    *ret_text = text;
    return BORA_OK;
}

static bora_status ranks_read(tekken *t, const json_t *list, bora_error *err)
{
    const size_t n = t->n_pieces - t->n_special;
    size_t n_bytes = 0; /* at most BORA_VOCAB_MAX * BORA_PIECE_SIZE_MAX, and a little */
    for (size_t rank = 0; rank < n; rank++) {
        const json_t *text = NULL;
        bora_status st = token_check(json_array_get(list, rank), rank, &text, err);
        if (st != BORA_OK)
            return st;
        n_bytes += json_string_length(text) / 4 * 3;
    }
    t->bytes = bora_alloc(n_bytes);
    if (!t->bytes)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu bytes", n_bytes);
    char *at = t->bytes;
    for (size_t rank = 0; rank < n; rank++) {
        const json_t *text = json_object_get(json_array_get(list, rank), "token_bytes");
        size_t id = t->n_special + rank, size = 0;
        if (!base64_decode(json_string_value(text), json_string_length(text), at, &size))
            return bora_fail(err, BORA_E_FORMAT, "tekken: vocab[%zu]: token_bytes is no base64", rank);
        t->pieces[id] = at;
        t->sizes[id] = (uint32_t)size; /* the vocabulary checks it */
        t->types[id] = BORA_PIECE_NORMAL;
        at += size;
    }
    return BORA_OK;
}

/* How many ids there are, and that the list has the ranks for them. */
static bora_status counts_read(tekken *t, const json_t *config, const json_t *list, bora_error *err)
{
    size_t n_stated = 0;
    bora_status st;
    if ((st = count_read(config, "default_vocab_size", BORA_VOCAB_MAX, &t->n_pieces, err)) != BORA_OK ||
        (st = count_read(config, "default_num_special_tokens", BORA_VOCAB_MAX, &t->n_special, err)) != BORA_OK ||
        (st = count_read(config, "num_vocab_tokens", INT32_MAX, &n_stated, err)) != BORA_OK)
        return st;
    if (t->n_special >= t->n_pieces)
        return bora_fail(err, BORA_E_FORMAT, "tekken: %zu special tokens in a vocabulary of %zu", t->n_special,
                         t->n_pieces);
    size_t n_needed = t->n_pieces - t->n_special, n = json_array_size(list);
    if (n_needed > n || n_needed > n_stated)
        return bora_fail(err, BORA_E_FORMAT, "tekken: %zu ranks (num_vocab_tokens is %zu), the vocabulary needs %zu", n,
                         n_stated, n_needed);
    t->pieces = bora_calloc(t->n_pieces, sizeof *t->pieces);
    t->sizes = bora_calloc(t->n_pieces, sizeof *t->sizes);
    t->types = bora_calloc(t->n_pieces, sizeof *t->types);
    t->names = bora_calloc(t->n_special, sizeof *t->names);
    if (!t->pieces || !t->sizes || !t->types || !t->names)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", t->n_pieces);
    return BORA_OK;
}

static int32_t special_find(const tekken *t, const char *name)
{
    for (size_t id = 0; id < t->n_special; id++)
        if (t->sizes[id] == strlen(name) && memcmp(t->pieces[id], name, t->sizes[id]) == 0)
            return (int32_t)id;
    return -1;
}

bora_status bora_tokenizer_parse_tekken(const void *data, size_t size, bora_tokenizer **ret_tokenizer, bora_error *err)
{
    json_error_t where;
    BORA_CLEANUP(json_release) json_t *root = json_loadb(data, size, JSON_ALLOW_NUL, &where);
    if (!root && json_error_code(&where) == json_error_out_of_memory)
        return bora_fail(err, BORA_E_NOMEM, "tekken: %zu bytes of JSON", size);
    if (!root)
        return bora_fail(err, BORA_E_FORMAT, "tekken: not JSON: line %d: %s", where.line,
                         bora_quote(where.text, strlen(where.text)).text);
    const json_t *config = json_object_get(root, "config"), *list = json_object_get(root, "vocab");
    const json_t *pattern = json_object_get(config, "pattern");
    if (!json_is_object(config) || !json_is_array(list))
        return bora_fail(err, BORA_E_FORMAT, "tekken: 'config' or 'vocab' is missing");
    if (!json_is_string(pattern))
        return bora_fail(err, BORA_E_FORMAT, "tekken: 'pattern' is missing");

    BORA_CLEANUP(tekken_release) tekken t = {.n_pieces = 0};
    bora_vocab vocab = {.pattern = json_string_value(pattern), .pattern_size = json_string_length(pattern)};
    bora_status st;
    if ((st = version_read(config, &vocab.version, err)) != BORA_OK ||
        (st = counts_read(&t, config, list, err)) != BORA_OK || (st = specials_read(&t, root, err)) != BORA_OK ||
        (st = ranks_read(&t, list, err)) != BORA_OK)
        return st;
    vocab.pieces = t.pieces;
    vocab.piece_sizes = t.sizes;
    vocab.types = t.types;
    vocab.n_pieces = t.n_pieces;
    vocab.bos_id = special_find(&t, "<s>");
    vocab.eos_id = special_find(&t, "</s>");
    vocab.unk_id = special_find(&t, "<unk>");
    return bora_tokenizer_new(&vocab, ret_tokenizer, err);
}
