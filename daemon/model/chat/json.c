/* One pass from JSON text to JSON text, without a tree: each value is written as it is read. Only an object with a
 * repeated key is put together again, once it is complete. */
#include "model/chat/json.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX  512  /* Python gives up near 1000 */
#define DIGITS_MAX 4300 /* of a whole number: Python's own limit */

typedef struct reader {
    const char *at, *end;
    bora_text *out;
    bora_error *err;
    unsigned depth;
} reader;

static bora_status put(reader *r, const char *bytes, size_t size)
{
    return bora_text_append(r->out, bytes, size, r->err);
}

/* Back to what was there before. */
static void cut(bora_text *out, size_t size)
{
    out->size = size;
    if (out->bytes)
        out->bytes[size] = '\0';
}

static bora_status not_json(const reader *r)
{
    return bora_fail(r->err, BORA_E_FORMAT, "not JSON, %zu bytes before its end", (size_t)(r->end - r->at));
}

static void skip_space(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool take(reader *r, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(r->end - r->at) < size || memcmp(r->at, word, size) != 0)
        return false;
    r->at += size;
    return true;
}

/* ---- strings ------------------------------------------------------------------------------------------------- */

/* Only what must be escaped is. Bytes that are no UTF-8 pass: the tokenizer knows what to do with them. */
static bora_status put_byte(bora_text *out, unsigned char byte, bora_error *err)
{
    static const char short_names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; i + 1 < sizeof short_names; i += 2)
        if (byte == (unsigned char)short_names[i])
            return bora_text_append(out, (char[]){'\\', short_names[i + 1]}, 2, err);
    if (byte >= 0x20)
        return bora_text_append(out, (char[]){(char)byte}, 1, err);
    char escape[8];
    (void)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)byte); /* six characters */
    return bora_text_append(out, escape, 6, err);
}

bora_status bora_chat_json_quote(const char *text, size_t size, bora_text *out, bora_error *err)
{
    size_t n_before = out->size;
    bora_status st = bora_text_append(out, "\"", 1, err);
    for (size_t i = 0; i < size && st == BORA_OK; i++)
        st = put_byte(out, (unsigned char)text[i], err);
    if (st == BORA_OK)
        st = bora_text_append(out, "\"", 1, err);
    if (st != BORA_OK)
        cut(out, n_before);
    return st;
}

/* The four digits after \u; -1 if they are not. */
static long read_hex(reader *r)
{
    long value = 0;
    if (r->end - r->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = r->at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c - 'A' + 10;
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return -1;
        value = value * 16 + digit;
    }
    r->at += 4;
    return value;
}

static bora_status put_codepoint(reader *r, unsigned long c)
{
    if (c < 0x80)
        return put_byte(r->out, (unsigned char)c, r->err);
    char bytes[4];
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)((0xf00 >> n) | c);
    return put(r, bytes, n);
}

static bora_status read_escape(reader *r)
{
    static const char names[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    if (r->at == r->end)
        return not_json(r);
    for (size_t i = 0; i + 1 < sizeof names; i += 2) {
        if (*r->at == names[i]) {
            r->at++;
            return put_byte(r->out, (unsigned char)names[i + 1], r->err);
        }
    }
    if (!take(r, "u"))
        return not_json(r);
    long first = read_hex(r);
    if (first < 0)
        return not_json(r);
    if (first < 0xd800 || first > 0xdfff)
        return put_codepoint(r, (unsigned long)first);
    const char *after = r->at;
    long second = first < 0xdc00 && take(r, "\\u") ? read_hex(r) : 0;
    if (second < 0)
        return not_json(r);
    if (second < 0xdc00 || second > 0xdfff) {
        r->at = after;
        return bora_fail(r->err, BORA_E_INVAL, "JSON with half a surrogate pair (\\u%04lx)", (unsigned long)first);
    }
    return put_codepoint(r, 0x10000 + ((unsigned long)(first - 0xd800) << 10) + (unsigned long)(second - 0xdc00));
}

static bora_status read_string(reader *r)
{
    if (!take(r, "\""))
        return not_json(r);
    bora_status st = put(r, "\"", 1);
    while (st == BORA_OK) {
        const char *run = r->at;
        while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= 0x20)
            r->at++;
        st = put(r, run, (size_t)(r->at - run));
        if (st != BORA_OK)
            return st;
        if (take(r, "\""))
            return put(r, "\"", 1);
        if (!take(r, "\\"))
            return not_json(r);
        st = read_escape(r);
    }
    return st;
}

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* As Python's repr: the fewest digits that read back as the same double, plain from 1e-4 up to 1e16. */
static bora_status put_real(reader *r, double value)
{
    if (isinf(value))
        return value < 0 ? put(r, "-Infinity", 9) : put(r, "Infinity", 8);
    char digits[40], text[48];
    for (int precision = 0; precision <= 16; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*e", precision, value); /* 24 characters at most */
        if (strtod(digits, NULL) == value)
            break;
    }
    char *mark = strchr(digits, 'e');
    int exponent = atoi(mark + 1), n_decimals = (int)(mark - digits) - (digits[0] == '-') - 2;
    if (exponent < -4 || exponent >= 16) /* the C library writes two digits of exponent at least, too */
        return put(r, digits, strlen(digits));
    n_decimals = (n_decimals < 0 ? 0 : n_decimals) - exponent;
    int n = snprintf(text, sizeof text, "%.*f", n_decimals < 1 ? 1 : n_decimals, value);
    return put(r, text, (size_t)n);
}

static size_t skip_digits(reader *r)
{
    const char *begin = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return (size_t)(r->at - begin);
}

static bora_status read_number(reader *r)
{
    const char *begin = r->at;
    (void)take(r, "-");
    size_t n_digits = 1;
    if (!take(r, "0") && (n_digits = skip_digits(r)) == 0)
        return not_json(r);
    const char *whole_end = r->at;
    if (take(r, ".") && skip_digits(r) == 0)
        return not_json(r);
    if (take(r, "e") || take(r, "E")) {
        if (!take(r, "+"))
            (void)take(r, "-");
        if (skip_digits(r) == 0)
            return not_json(r);
    }
    size_t size = (size_t)(r->at - begin);
    if (r->at == whole_end && n_digits > DIGITS_MAX)
        return bora_fail(r->err, BORA_E_INVAL, "JSON with a number of %zu digits", n_digits);
    if (r->at == whole_end) /* there is no whole number -0 */
        return size == 2 && memcmp(begin, "-0", 2) == 0 ? put(r, "0", 1) : put(r, begin, size);
    BORA_CLEANUP(bora_freep) char *copy = bora_strndup(begin, size);
    if (!copy)
        return bora_fail(r->err, BORA_E_NOMEM, "a number");
    return put_real(r, strtod(copy, NULL));
}

/* ---- arrays and objects -------------------------------------------------------------------------------------- */

static bora_status read_value(reader *r);

static bora_status read_array(reader *r)
{
    bora_status st = put(r, "[", 1);
    skip_space(r);
    if (st == BORA_OK && take(r, "]"))
        return put(r, "]", 1);
    while (st == BORA_OK) {
        st = read_value(r);
        skip_space(r);
        if (st == BORA_OK && take(r, "]"))
            return put(r, "]", 1);
        if (st == BORA_OK)
            st = take(r, ",") ? put(r, ", ", 2) : not_json(r);
    }
    return st;
}

/* Offsets into the output. */
typedef struct member {
    size_t key, key_size, value, value_size;
    bool hidden; /* an earlier one has its key */
} member;

typedef struct members {
    member *list;
    size_t n, capacity;
} members;

static void members_release(members *m)
{
    bora_free(m->list);
}

static bora_status members_add(members *m, member added, bora_error *err)
{
    if (m->n == m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 8;
        member *grown = bora_realloc(m->list, capacity, sizeof *grown);
        if (!grown)
            return bora_fail(err, BORA_E_NOMEM, "the members of an object");
        m->list = grown;
        m->capacity = capacity;
    }
    m->list[m->n++] = added;
    return BORA_OK;
}

typedef struct key {
    const char *text;
    size_t size, member;
} key;

static int compare_texts(const key *x, const key *y)
{
    int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static int compare_keys(const void *a, const void *b)
{
    const key *x = a, *y = b;
    int order = compare_texts(x, y);
    return order ? order : (x->member > y->member) - (x->member < y->member);
}

/* Of members with one key the first gets the last one's value, the others are hidden. */
static bora_status hide_repeated(members *m, const char *text, bool *ret_found, bora_error *err)
{
    *ret_found = false;
    if (m->n < 2)
        return BORA_OK;
    BORA_CLEANUP(bora_freep) key *keys = bora_calloc(m->n, sizeof *keys);
    if (!keys)
        return bora_fail(err, BORA_E_NOMEM, "the keys of an object");
    for (size_t i = 0; i < m->n; i++)
        keys[i] = (key){.text = text + m->list[i].key, .size = m->list[i].key_size, .member = i};
    qsort(keys, m->n, sizeof *keys, compare_keys);
    size_t first = 0;
    for (size_t i = 1; i < m->n; i++) {
        if (compare_texts(&keys[first], &keys[i]) != 0) {
            first = i;
            continue;
        }
        member *shown = &m->list[keys[first].member], *repeated = &m->list[keys[i].member];
        shown->value = repeated->value;
        shown->value_size = repeated->value_size;
        repeated->hidden = *ret_found = true;
    }
    return BORA_OK;
}

/* The object from begin on is complete. */
static bora_status object_end(reader *r, size_t begin, members *m)
{
    bool found = false;
    bora_status st = hide_repeated(m, r->out->bytes, &found, r->err);
    if (st != BORA_OK || !found)
        return st == BORA_OK ? put(r, "}", 1) : st;
    BORA_CLEANUP(bora_text_release) bora_text old = {0};
    st = bora_text_append(&old, r->out->bytes + begin, r->out->size - begin, r->err);
    r->out->size = begin;
    for (size_t i = 0; i < m->n && st == BORA_OK; i++) {
        const member *one = &m->list[i];
        if (one->hidden)
            continue;
        if ((st = put(r, i ? ", " : "{", i ? 2 : 1)) == BORA_OK && /* the first member is never hidden */
            (st = put(r, old.bytes + (one->key - begin), one->key_size)) == BORA_OK &&
            (st = put(r, ": ", 2)) == BORA_OK)
            st = put(r, old.bytes + (one->value - begin), one->value_size);
    }
    return st == BORA_OK ? put(r, "}", 1) : st;
}

static bora_status read_member(reader *r, members *m)
{
    member one = {.key = r->out->size};
    skip_space(r);
    bora_status st = read_string(r);
    if (st != BORA_OK)
        return st;
    one.key_size = r->out->size - one.key;
    skip_space(r);
    if (!take(r, ":"))
        return not_json(r);
    if ((st = put(r, ": ", 2)) != BORA_OK)
        return st;
    one.value = r->out->size;
    if ((st = read_value(r)) != BORA_OK)
        return st;
    one.value_size = r->out->size - one.value;
    skip_space(r);
    return members_add(m, one, r->err);
}

static bora_status read_object(reader *r)
{
    BORA_CLEANUP(members_release) members m = {0};
    size_t begin = r->out->size;
    bora_status st = put(r, "{", 1);
    skip_space(r);
    if (st == BORA_OK && take(r, "}"))
        return put(r, "}", 1);
    while (st == BORA_OK) {
        st = read_member(r, &m);
        if (st == BORA_OK && take(r, "}"))
            return object_end(r, begin, &m);
        if (st == BORA_OK)
            st = take(r, ",") ? put(r, ", ", 2) : not_json(r);
    }
    return st;
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static bora_status read_value(reader *r)
{
    static const char *const words[] = {"true", "false", "null", "NaN", "Infinity", "-Infinity"};
    skip_space(r);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(words); i++)
        if (take(r, words[i]))
            return put(r, words[i], strlen(words[i]));
    char c = r->at < r->end ? *r->at : '\0';
    if (c == '"')
        return read_string(r);
    if (c != '[' && c != '{')
        return read_number(r);
    if (r->depth == DEPTH_MAX)
        return bora_fail(r->err, BORA_E_INVAL, "JSON nested more than %d deep", DEPTH_MAX);
    r->depth++;
    r->at++;
    bora_status st = c == '[' ? read_array(r) : read_object(r);
    r->depth--;
    return st;
}

bora_status bora_chat_json_respell(const char *json, size_t size, bora_text *out, bora_error *err)
{
    size_t n_before = out->size;
    reader r = {.at = json, .end = json + size, .out = out, .err = err};
    bora_status st = read_value(&r);
    skip_space(&r);
    if (st == BORA_OK && r.at != r.end)
        st = not_json(&r);
    if (st != BORA_OK)
        cut(out, n_before);
    return st;
}

bora_status bora_chat_json_embed(const char *text, size_t size, bora_text *out, bora_error *err)
{
    if (size == 0)
        return bora_text_append(out, "{}", 2, err);
    bora_status st = bora_chat_json_respell(text, size, out, err);
    return st == BORA_E_FORMAT ? bora_chat_json_quote(text, size, out, err) : st;
}
