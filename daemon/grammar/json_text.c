#include "grammar/json_text.h"

#include "base/memory.h"
#include "grammar/expression.h"
#include "grammar/pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool bora_json_rule_once(bora_json_rules *json, uint32_t *known, bora_build_rule *ret_rule)
{
    if (*known)
        return false;
    uint32_t rule = bora_builder_rule(json->builder);
    if (json->builder->status != BORA_OK)
        return false;
    *known = rule + 1;
    *ret_rule = json->builder->rules[rule];
    return true;
}

static void one(bora_builder *builder, uint32_t from, char byte, uint32_t to)
{
    bora_builder_bytes(builder, from, (uint8_t)byte, (uint8_t)byte, to);
}

void bora_json_space(bora_json_rules *json, uint32_t from, uint32_t to)
{
    bora_builder *builder = json->builder;
    bora_build_rule rule;
    if (bora_json_rule_once(json, &json->space, &rule)) {
        one(builder, rule.entry, ' ', rule.final);
        uint32_t at = bora_builder_state(builder);
        one(builder, rule.entry, '\n', at);
        for (unsigned i = 0; i < BORA_JSON_INDENT_MAX; i++) {
            uint32_t next = bora_builder_state(builder);
            bora_builder_skip(builder, at, rule.final);
            one(builder, at, ' ', next);
            at = next;
        }
        bora_builder_skip(builder, at, rule.final);
    }
    bora_builder_skip(builder, from, to);
    bora_builder_call(builder, from, json->space - 1, to);
}

void bora_json_after_colon(bora_json_rules *json, uint32_t from, uint32_t to)
{
    bora_builder_skip(json->builder, from, to);
    one(json->builder, from, ' ', to);
}

/* ---- strings ----------------------------------------------------------------------------------------------------- */

static uint32_t hex_digits(bora_builder *builder, uint32_t from, const char *first_lo_hi, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint32_t next = bora_builder_state(builder);
        if (i == 0 && first_lo_hi) {
            for (; *first_lo_hi; first_lo_hi += 2)
                bora_builder_bytes(builder, from, (uint8_t)first_lo_hi[0], (uint8_t)first_lo_hi[1], next);
        } else {
            bora_builder_bytes(builder, from, '0', '9', next);
            bora_builder_bytes(builder, from, 'A', 'F', next);
            bora_builder_bytes(builder, from, 'a', 'f', next);
        }
        from = next;
    }
    return from;
}

/* \uXXXX: a character other than U+0000, or both halves of a surrogate pair. */
static void numbered_escapes(bora_builder *builder, uint32_t u, uint32_t to)
{
    /* 0001 .. 0FFF: at each digit all so far were zero, or not. */
    uint32_t zero = bora_builder_state(builder);
    one(builder, u, '0', zero);
    for (unsigned to_come = 3; to_come > 0; to_come--) {
        uint32_t other = bora_builder_state(builder);
        bora_builder_bytes(builder, zero, '1', '9', other);
        bora_builder_bytes(builder, zero, 'A', 'F', other);
        bora_builder_bytes(builder, zero, 'a', 'f', other);
        bora_builder_skip(builder, hex_digits(builder, other, NULL, to_come - 1), to);
        uint32_t next = bora_builder_state(builder);
        if (to_come > 1)
            one(builder, zero, '0', next);
        zero = next;
    }
    bora_builder_skip(builder, hex_digits(builder, hex_digits(builder, u, "19ACEFacef", 1), NULL, 3), to);
    uint32_t d = bora_builder_state(builder);
    one(builder, u, 'D', d);
    one(builder, u, 'd', d);
    bora_builder_skip(builder, hex_digits(builder, hex_digits(builder, d, "07", 1), NULL, 2), to);
    uint32_t high = hex_digits(builder, hex_digits(builder, d, "89ABab", 1), NULL, 2);
    uint32_t slash = bora_builder_state(builder), again = bora_builder_state(builder),
             low = bora_builder_state(builder);
    one(builder, high, '\\', slash);
    one(builder, slash, 'u', again);
    one(builder, again, 'D', low);
    one(builder, again, 'd', low);
    bora_builder_skip(builder, hex_digits(builder, hex_digits(builder, low, "CFcf", 1), NULL, 2), to);
}

static uint32_t character_rule(bora_json_rules *json)
{
    bora_builder *builder = json->builder;
    bora_build_rule rule;
    if (bora_json_rule_once(json, &json->character, &rule)) {
        static const bora_range plain[] = {{0x20, '"' - 1},
                                           {'"' + 1, '\\' - 1},
                                           {'\\' + 1, 0xd7ff},
                                           {0xe000, BORA_CHARACTER_MAX}};
        bora_characters_emit(builder, plain, BORA_ARRAY_SIZE(plain), BORA_SPELL_TEXT, rule.entry, rule.final);
        uint32_t slash = bora_builder_state(builder), u = bora_builder_state(builder);
        one(builder, rule.entry, '\\', slash);
        for (const char *letter = "\"\\/bfnrt"; *letter; letter++)
            one(builder, slash, *letter, rule.final);
        one(builder, slash, 'u', u);
        numbered_escapes(builder, u, rule.final);
    }
    return json->character - 1;
}

void bora_json_string(bora_json_rules *json, uint32_t min, uint32_t max, uint32_t from, uint32_t to)
{
    bora_builder *builder = json->builder;
    uint32_t character = character_rule(json);
    uint32_t at = bora_builder_state(builder), end = bora_builder_state(builder);
    one(builder, from, '"', at);
    one(builder, end, '"', to);
    for (uint32_t i = 0; (i < max || max == BORA_REPEAT_UNBOUNDED) && builder->status == BORA_OK; i++) {
        if (i >= min)
            bora_builder_skip(builder, at, end);
        bool is_loop = max == BORA_REPEAT_UNBOUNDED && i == min;
        uint32_t next = is_loop ? at : bora_builder_state(builder);
        bora_builder_call(builder, at, character, next);
        at = next;
        if (is_loop)
            return;
    }
    bora_builder_skip(builder, at, end);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

void bora_json_number(bora_json_rules *json, uint32_t from, uint32_t to)
{
    static const char text[] = "^-?(0|[1-9]\\d{0,14})(\\.\\d{1,15})?([eE][+-]?\\d{1,2})?$";
    bora_builder *builder = json->builder;
    bora_build_rule rule;
    if (bora_json_rule_once(json, &json->number, &rule)) {
        bora_expressions list = {0};
        uint32_t node = 0;
        bora_error err = {{0}};
        bora_status st = bora_pattern_read(text, sizeof text - 1, &list, &node, &err);
        if (st == BORA_OK)
            bora_expression_emit(&list, node, BORA_SPELL_TEXT, builder, rule.entry, rule.final);
        else
            bora_builder_fail(builder, st, "%s", err.message);
        bora_expressions_release(&list);
    }
    bora_builder_call(builder, from, json->number - 1, to);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* The characters of a text, each in its one spelling. */
static void spell(bora_builder *builder, const char *text, size_t size, uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < size && builder->status == BORA_OK;) {
        size_t n = 0;
        uint32_t character = bora_character_read(text + i, size - i, &n);
        if (character == BORA_NONE || character == 0) { /* jansson lets neither pass */
            bora_builder_fail(builder, BORA_E_INVAL, "a string that is not UTF-8");
            return;
        }
        uint32_t next = bora_builder_state(builder);
        bora_characters_emit(builder, &(bora_range){character, character}, 1, BORA_SPELL_JSON, from, next);
        from = next;
        i += n;
    }
    bora_builder_skip(builder, from, to);
}

void bora_json_key(bora_json_rules *json, const char *key, size_t size, uint32_t from, uint32_t to)
{
    uint32_t begin = bora_builder_state(json->builder), end = bora_builder_state(json->builder);
    one(json->builder, from, '"', begin);
    spell(json->builder, key, size, begin, end);
    one(json->builder, end, '"', to);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* The shortest digits that give the number back; with a point or an exponent. */
static void real_text(double value, char *text, size_t size)
{
    for (int precision = 1; precision <= 17; precision++) {
        (void)snprintf(text, size, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    if (!strpbrk(text, ".e"))
        (void)snprintf(text + strlen(text), size - strlen(text), ".0");
}

/* Letters of a string in its one spelling, as a word. */
static void string_word(bora_json_rules *json, const char *text, size_t size, uint32_t from, uint32_t to)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    size_t n = 0;
    BORA_CLEANUP(bora_freep) char *word = bora_alloc(size * 6 + 3);
    if (!word) {
        bora_builder_fail(json->builder, BORA_E_NOMEM, "string of %zu bytes", size);
        return;
    }
    word[n++] = '"';
    for (size_t i = 0; i < size; i++) {
        const char *escape = text[i] ? strchr(named, text[i]) : NULL;
        bool is_special = (uint8_t)text[i] < 0x20 || text[i] == '"' || text[i] == '\\';
        if (!is_special)
            word[n++] = text[i];
        else if (escape)
            n += (size_t)snprintf(word + n, 7, "\\%c", escape[1]);
        else
            n += (size_t)snprintf(word + n, 7, "\\u%04x", (unsigned)(uint8_t)text[i]);
    }
    word[n++] = '"';
    bora_builder_word(json->builder, from, word, n, to);
}

static void nested_value(bora_json_rules *json, const json_t *value, unsigned depth, uint32_t from, uint32_t to);

static void array_value(bora_json_rules *json, const json_t *array, unsigned depth, uint32_t from, uint32_t to)
{
    bora_builder *builder = json->builder;
    uint32_t at = bora_builder_state(builder), end = bora_builder_state(builder);
    one(builder, from, '[', at);
    for (size_t i = 0; i < json_array_size(array) && builder->status == BORA_OK; i++) {
        uint32_t begin = bora_builder_state(builder), next = bora_builder_state(builder);
        if (i > 0) {
            uint32_t comma = bora_builder_state(builder);
            one(builder, at, ',', comma);
            at = comma;
        }
        bora_json_space(json, at, begin);
        nested_value(json, json_array_get(array, i), depth + 1, begin, next);
        at = next;
    }
    bora_json_space(json, at, end);
    one(builder, end, ']', to);
}

static void object_value(bora_json_rules *json, const json_t *object, unsigned depth, uint32_t from, uint32_t to)
{
    bora_builder *builder = json->builder;
    uint32_t at = bora_builder_state(builder), end = bora_builder_state(builder);
    const char *key;
    json_t *value;
    bool is_first = true;
    one(builder, from, '{', at);
    json_object_foreach((json_t *)(uintptr_t)object, key, value) /* jansson's iterator is not const, but reads only */
    {
        uint32_t begin = bora_builder_state(builder), colon = bora_builder_state(builder);
        uint32_t behind = bora_builder_state(builder), inner = bora_builder_state(builder);
        uint32_t next = bora_builder_state(builder);
        if (!is_first) {
            uint32_t comma = bora_builder_state(builder);
            one(builder, at, ',', comma);
            at = comma;
        }
        is_first = false;
        bora_json_space(json, at, begin);
        bora_json_key(json, key, strlen(key), begin, colon);
        one(builder, colon, ':', behind);
        bora_json_after_colon(json, behind, inner);
        nested_value(json, value, depth + 1, inner, next);
        at = next;
    }
    bora_json_space(json, at, end);
    one(builder, end, '}', to);
}

static void nested_value(bora_json_rules *json, const json_t *value, unsigned depth, uint32_t from, uint32_t to)
{
    char text[64];
    if (depth > BORA_GRAMMAR_DEPTH_MAX) {
        bora_builder_fail(json->builder, BORA_E_LIMIT, "a value nested deeper than %u", BORA_GRAMMAR_DEPTH_MAX);
        return;
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        object_value(json, value, depth, from, to);
        return;
    case JSON_ARRAY:
        array_value(json, value, depth, from, to);
        return;
    case JSON_STRING:
        string_word(json, json_string_value(value), json_string_length(value), from, to);
        return;
    case JSON_INTEGER:
        (void)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        real_text(json_real_value(value), text, sizeof text);
        break;
    default:
        (void)snprintf(text, sizeof text, "%s", json_is_null(value) ? "null" : json_is_true(value) ? "true" : "false");
        break;
    }
    bora_builder_word(json->builder, from, text, strlen(text), to);
}

void bora_json_value(bora_json_rules *json, const json_t *value, uint32_t from, uint32_t to)
{
    nested_value(json, value, 0, from, to);
}
