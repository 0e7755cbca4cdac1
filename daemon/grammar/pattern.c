#include "grammar/pattern.h"

#include <string.h>

#define DEPTH_MAX 32u

typedef struct reader {
    const char *text;
    size_t size, at;
    unsigned depth; /* groups that are open */
    bora_expressions *list;
    bora_error *err;
} reader;

static bora_status read_alternatives(reader *r, uint32_t *ret_node);

static bora_status bad(const reader *r, const char *what)
{
    return bora_fail(r->err, BORA_E_INVAL, "pattern, byte %zu: %s", r->at + 1, what);
}

static bora_status unsupported(const reader *r, const char *what)
{
    return bora_fail(r->err, BORA_E_UNSUPPORTED, "pattern, byte %zu: %s", r->at + 1, what);
}

static bool is_at(const reader *r, const char *text)
{
    size_t n = strlen(text);
    return r->size - r->at >= n && memcmp(r->text + r->at, text, n) == 0;
}

/* ---- characters -------------------------------------------------------------------------------------------------- */

static bora_status add_all(bora_characters *set, const bora_range *ranges, size_t n, bora_error *err)
{
    bora_status st = BORA_OK;
    for (size_t i = 0; i < n && st == BORA_OK; i++)
        st = bora_characters_add(set, ranges[i].lo, ranges[i].hi, err);
    return st;
}

/* \d \w \s and their opposites, into set; *ret_is_class is false, and nothing read, for other escapes. */
static bora_status read_named_class(reader *r, bora_characters *set, bool *ret_is_class)
{
    static const bora_range digits[] = {{'0', '9'}};
    static const bora_range word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const bora_range space[] = {{0x09, 0x0d},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                                       {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                                       {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    char letter = is_at(r, "\\") && r->at + 1 < r->size ? r->text[r->at + 1] : '\0';
    char lower = (char)(letter | 0x20);
    *ret_is_class = letter && (lower == 'd' || lower == 'w' || lower == 's');
    if (!*ret_is_class)
        return BORA_OK;
    r->at += 2;
    bora_characters class = {0};
    bora_status st = lower == 'd'   ? add_all(&class, digits, BORA_ARRAY_SIZE(digits), r->err)
                     : lower == 'w' ? add_all(&class, word, BORA_ARRAY_SIZE(word), r->err)
                                    : add_all(&class, space, BORA_ARRAY_SIZE(space), r->err);
    if (st == BORA_OK)
        st = bora_characters_settle(&class, letter != lower, r->err);
    if (st == BORA_OK)
        st = add_all(set, class.ranges, class.n, r->err);
    bora_characters_release(&class);
    return st;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* n hexadecimal digits at the given place. */
static bool read_hex(const reader *r, size_t at, size_t n, uint32_t *ret_value)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++) {
        int digit = at + i < r->size ? hex_value(r->text[at + i]) : -1;
        if (digit < 0)
            return false;
        value = value << 4 | (uint32_t)digit;
    }
    *ret_value = value;
    return true;
}

/* \uXXXX, two of them for a character over U+FFFF, or \xXX. */
static bora_status read_numbered(reader *r, uint32_t *ret_character)
{
    bool is_short = r->text[r->at + 1] == 'x';
    size_t n = is_short ? 2 : 4;
    uint32_t value = 0, low = 0;
    if (!read_hex(r, r->at + 2, n, &value))
        return bad(r, is_short ? "\\x needs two hexadecimal digits" : "\\u needs four hexadecimal digits");
    size_t end = r->at + 2 + n;
    if (value >= 0xd800 && value <= 0xdfff) {
        bool is_pair = value < 0xdc00 && end + 1 < r->size && r->text[end] == '\\' && r->text[end + 1] == 'u' &&
                       read_hex(r, end + 2, 4, &low) && low >= 0xdc00 && low <= 0xdfff;
        if (!is_pair)
            return bad(r, "half a surrogate pair is no character");
        value = 0x10000 + ((value - 0xd800) << 10) + (low - 0xdc00);
        end += 6;
    }
    r->at = end;
    *ret_character = value;
    return BORA_OK;
}

/* One character, maybe by an escape that stands for one. */
static bora_status read_character(reader *r, bool in_class, uint32_t *ret_character)
{
    if (!is_at(r, "\\")) {
        size_t n = 0;
        *ret_character = bora_character_read(r->text + r->at, r->size - r->at, &n);
        if (*ret_character == BORA_NONE)
            return bad(r, "not UTF-8");
        r->at += n;
        return BORA_OK;
    }
    if (r->at + 1 >= r->size)
        return bad(r, "a backslash at the end");
    static const char letters[] = "t\tn\nr\rf\fv\v"; /* pairs: the letter and what it stands for */
    char letter = r->text[r->at + 1];
    for (size_t i = 0; i + 1 < sizeof letters; i += 2)
        if (letters[i] == letter) {
            *ret_character = (uint8_t)letters[i + 1];
            r->at += 2;
            return BORA_OK;
        }
    if (letter == 'u' || letter == 'x')
        return read_numbered(r, ret_character);
    if (in_class && letter == 'b') {
        *ret_character = '\b';
        r->at += 2;
        return BORA_OK;
    }
    if (letter == 'b' || letter == 'B')
        return unsupported(r, "word boundaries");
    if (letter == 'p' || letter == 'P')
        return unsupported(r, "properties of characters (\\p)");
    if (letter >= '1' && letter <= '9')
        return unsupported(r, "references to groups");
    if ((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '0')
        return unsupported(r, "this escape");
    if ((uint8_t)letter >= 0x80)
        return bad(r, "a backslash before a letter");
    *ret_character = (uint8_t)letter;
    r->at += 2;
    return BORA_OK;
}

static bora_status read_class_item(reader *r, bora_characters *set)
{
    bool is_class = false;
    bora_status st = read_named_class(r, set, &is_class);
    if (st != BORA_OK || is_class)
        return st;
    uint32_t lo = 0, hi = 0;
    st = read_character(r, true, &lo);
    hi = lo;
    if (st == BORA_OK && is_at(r, "-") && r->at + 1 < r->size && r->text[r->at + 1] != ']') {
        r->at++;
        bora_characters ignored = {0};
        st = read_named_class(r, &ignored, &is_class);
        bora_characters_release(&ignored);
        if (st == BORA_OK && is_class)
            return bad(r, "a class is no end of a range");
        if (st == BORA_OK)
            st = read_character(r, true, &hi);
        if (st == BORA_OK && hi < lo)
            return bad(r, "a range that goes backwards");
    }
    return st == BORA_OK ? bora_characters_add(set, lo, hi, r->err) : st;
}

/* [...], the bracket not yet read. */
static bora_status read_class(reader *r, bora_characters *set)
{
    r->at++;
    bool negate = is_at(r, "^");
    r->at += negate;
    while (!is_at(r, "]")) {
        if (r->at >= r->size)
            return bad(r, "a class that does not end");
        bora_status st = read_class_item(r, set);
        if (st != BORA_OK)
            return st;
    }
    r->at++;
    return bora_characters_settle(set, negate, r->err);
}

static bora_status add_set(reader *r, bora_characters *set, uint32_t *ret_node)
{
    return bora_expression_characters(r->list, set->ranges, set->n, ret_node, r->err);
}

/* Anything, once or any number of times. */
static bora_status add_anything(reader *r, uint32_t *ret_node)
{
    static const bora_range all[] = {{0, 0xd7ff}, {0xe000, BORA_CHARACTER_MAX}};
    uint32_t one = 0;
    bora_status st = bora_expression_characters(r->list, all, BORA_ARRAY_SIZE(all), &one, r->err);
    bora_node node = {.kind = BORA_NODE_REPEAT, .left = one, .max = BORA_REPEAT_UNBOUNDED};
    return st == BORA_OK ? bora_expression_add(r->list, node, ret_node, r->err) : st;
}

static bora_status read_set(reader *r, uint32_t *ret_node)
{
    bora_characters set = {0};
    bora_status st = BORA_OK;
    if (is_at(r, "[")) {
        st = read_class(r, &set);
    } else if (is_at(r, ".")) {
        static const bora_range ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
        r->at++;
        st = add_all(&set, ends, BORA_ARRAY_SIZE(ends), r->err);
        if (st == BORA_OK)
            st = bora_characters_settle(&set, true, r->err);
    } else {
        bool is_class = false;
        st = read_named_class(r, &set, &is_class);
        uint32_t character = 0;
        if (st == BORA_OK && !is_class)
            st = read_character(r, false, &character);
        if (st == BORA_OK && !is_class)
            st = bora_characters_add(&set, character, character, r->err);
        if (st == BORA_OK)
            st = bora_characters_settle(&set, false, r->err);
    }
    if (st == BORA_OK)
        st = add_set(r, &set, ret_node);
    bora_characters_release(&set);
    return st;
}

/* ---- structure --------------------------------------------------------------------------------------------------- */

static bora_status read_group(reader *r, uint32_t *ret_node)
{
    if (r->depth >= DEPTH_MAX)
        return bora_fail(r->err, BORA_E_LIMIT, "pattern: more than %u groups inside each other", DEPTH_MAX);
    r->at++;
    if (is_at(r, "?:"))
        r->at += 2;
    else if (is_at(r, "?"))
        return unsupported(r, is_at(r, "?<") && !is_at(r, "?<=") && !is_at(r, "?<!") ? "groups with names"
                                                                                     : "looking ahead or behind");
    r->depth++;
    bora_status st = read_alternatives(r, ret_node);
    r->depth--;
    if (st == BORA_OK && !is_at(r, ")"))
        return bad(r, "a group that does not end");
    r->at++;
    return st;
}

static bora_status read_item(reader *r, uint32_t *ret_node)
{
    if (is_at(r, "*") || is_at(r, "+") || is_at(r, "?") || is_at(r, "{"))
        return bad(r, "nothing to repeat");
    if (is_at(r, "]") || is_at(r, "}"))
        return bad(r, "a bracket that closes nothing");
    bora_status st = is_at(r, "(") ? read_group(r, ret_node) : read_set(r, ret_node);
    if (st != BORA_OK)
        return st;
    uint32_t min = 0, max = 0;
    size_t n = 0;
    st = bora_repeat_read(r->text + r->at, r->size - r->at, &min, &max, &n, r->err);
    if (st != BORA_OK || n == 0)
        return st;
    r->at += n;
    r->at += is_at(r, "?"); /* what a lazy repetition fits is the same */
    bora_node node = {.kind = BORA_NODE_REPEAT, .left = *ret_node, .min = min, .max = max};
    return bora_expression_add(r->list, node, ret_node, r->err);
}

/* Up to a bar, a closing parenthesis or the end. Anchors stand at the ends of the outermost alternatives. */
static bora_status read_sequence(reader *r, uint32_t *ret_node)
{
    uint32_t node = BORA_NONE, next = 0;
    bora_status st = BORA_OK;
    bool begins = r->depth == 0 && is_at(r, "^"), ends = false;
    r->at += begins;
    if (r->depth == 0 && !begins)
        st = add_anything(r, &node);
    while (st == BORA_OK && r->at < r->size && !is_at(r, "|") && !is_at(r, ")")) {
        if (is_at(r, "$") && r->depth == 0 && (r->at + 1 == r->size || r->text[r->at + 1] == '|')) {
            ends = true;
            r->at++;
            break;
        }
        if (is_at(r, "^") || is_at(r, "$"))
            return unsupported(r, "^ and $ other than at the ends of the outermost alternatives");
        st = read_item(r, &next);
        if (st == BORA_OK)
            st = bora_expression_sequence(r->list, node, next, &node, r->err);
    }
    if (st == BORA_OK && r->depth == 0 && !ends) {
        st = add_anything(r, &next);
        if (st == BORA_OK)
            st = bora_expression_sequence(r->list, node, next, &node, r->err);
    }
    if (st == BORA_OK && node == BORA_NONE)
        st = bora_expression_add(r->list, (bora_node){.kind = BORA_NODE_EMPTY}, &node, r->err);
    *ret_node = node;
    return st;
}

static bora_status read_alternatives(reader *r, uint32_t *ret_node)
{
    uint32_t node = 0, next = 0;
    bora_status st = read_sequence(r, &node);
    while (st == BORA_OK && is_at(r, "|")) {
        r->at++;
        st = read_sequence(r, &next);
        bora_node either = {.kind = BORA_NODE_ALTERNATIVES, .left = node, .right = next};
        if (st == BORA_OK)
            st = bora_expression_add(r->list, either, &node, r->err);
    }
    *ret_node = node;
    return st;
}

bora_status bora_pattern_read(const char *pattern, size_t size, bora_expressions *list, uint32_t *ret_node,
                              bora_error *err)
{
    reader r = {.text = pattern, .size = size, .list = list, .err = err};
    bora_status st = read_alternatives(&r, ret_node);
    if (st == BORA_OK && r.at < size)
        return bad(&r, "a parenthesis that closes nothing");
    return st;
}
