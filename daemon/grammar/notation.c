/* The notation of docs/grammar.md: rules of text, characters, other rules, in sequence, alternatives and repetitions.
 *
 * Two passes over the source: the first finds the names that are defined, so that a rule may be used before that; the
 * second reads each rule into an expression and emits it. */
#include "grammar/expression.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NESTED_MAX 64u /* parentheses */
#define START_RULE "root"
#define DEFINITION "::="

typedef struct rule_name {
    const char *text; /* [size] in the source */
    size_t size;
    size_t body; /* where its expression begins */
    uint32_t rule;
} rule_name;

typedef struct reader {
    const char *text;
    size_t size, at;
    unsigned depth;
    rule_name *names; /* [n_names] sorted by text once all are known */
    size_t n_names, names_capacity;
    bora_expressions list;
    bora_builder builder;
    bora_error *err;
} reader;

static bora_status read_alternatives(reader *r, uint32_t *ret_node);

static void reader_release(reader *r)
{
    bora_free(r->names);
    bora_expressions_release(&r->list);
    bora_builder_release(&r->builder);
}

static size_t line_of(const reader *r, size_t at)
{
    size_t line = 1;
    for (size_t i = 0; i < at && i < r->size; i++)
        line += r->text[i] == '\n';
    return line;
}

static bora_status bad(const reader *r, const char *what)
{
    return bora_fail(r->err, BORA_E_INVAL, "grammar, line %zu: %s", line_of(r, r->at), what);
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static size_t name_size(const reader *r)
{
    size_t n = 0;
    while (r->at + n < r->size && is_name(r->text[r->at + n]))
        n++;
    return n;
}

static void skip_space(reader *r)
{
    while (r->at < r->size) {
        char c = r->text[r->at];
        if (c == '#')
            while (r->at < r->size && r->text[r->at] != '\n')
                r->at++;
        else if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
            r->at++;
        else
            break;
    }
}

static bool is_at(const reader *r, char c)
{
    return r->at < r->size && r->text[r->at] == c;
}

/* A name with ::= after it begins here. Nothing is read. */
static bool is_definition(const reader *r)
{
    reader ahead = *r;
    size_t n = name_size(&ahead);
    ahead.at += n;
    skip_space(&ahead);
    return n > 0 && ahead.size - ahead.at >= sizeof DEFINITION - 1 &&
           memcmp(ahead.text + ahead.at, DEFINITION, sizeof DEFINITION - 1) == 0;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static int name_compare(const rule_name *a, const char *text, size_t size)
{
    size_t n = a->size < size ? a->size : size;
    int order = memcmp(a->text, text, n);
    return order ? order : (a->size > size) - (a->size < size);
}

static int by_name(const void *a, const void *b)
{
    const rule_name *y = b;
    int order = name_compare(a, y->text, y->size);
    return order ? order : (((const rule_name *)a)->text > y->text) - (((const rule_name *)a)->text < y->text);
}

static const rule_name *name_find(const reader *r, const char *text, size_t size)
{
    size_t lo = 0, hi = r->n_names;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        int order = name_compare(&r->names[middle], text, size);
        if (order == 0)
            return &r->names[middle];
        if (order < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    return NULL;
}

static bora_status name_add(reader *r)
{
    if (r->n_names >= BORA_GRAMMAR_RULES_MAX)
        return bora_fail(r->err, BORA_E_LIMIT, "grammar: more than %u rules", BORA_GRAMMAR_RULES_MAX);
    if (r->n_names == r->names_capacity) {
        size_t capacity = r->names_capacity ? r->names_capacity * 2 : 16;
        rule_name *names = bora_realloc(r->names, capacity, sizeof *names);
        if (!names)
            return bora_fail(r->err, BORA_E_NOMEM, "grammar of %zu rules", capacity);
        r->names = names;
        r->names_capacity = capacity;
    }
    rule_name *name = &r->names[r->n_names++];
    *name = (rule_name){.text = r->text + r->at, .size = name_size(r)};
    r->at += name->size;
    skip_space(r);
    r->at += sizeof DEFINITION - 1;
    name->body = r->at;
    return BORA_OK;
}

/* Moves behind a text in quotes or a class in brackets. */
static void skip_quoted(reader *r, char end)
{
    for (r->at++; r->at < r->size && r->text[r->at] != end; r->at++)
        if (r->text[r->at] == '\\' && r->at + 1 < r->size)
            r->at++;
    if (r->at < r->size)
        r->at++;
}

static bora_status find_names(reader *r)
{
    skip_space(r);
    if (r->at < r->size && !is_definition(r))
        return bad(r, "a rule begins with NAME ::=");
    while (r->at < r->size) {
        if (is_definition(r)) {
            bora_status st = name_add(r);
            if (st != BORA_OK)
                return st;
        } else if (is_at(r, '"')) {
            skip_quoted(r, '"');
        } else if (is_at(r, '[')) {
            skip_quoted(r, ']');
        } else {
            size_t n = name_size(r);
            r->at += n ? n : 1;
        }
        skip_space(r);
    }
    if (r->n_names > 1)
        qsort(r->names, r->n_names, sizeof *r->names, by_name);
    for (size_t i = 1; i < r->n_names; i++)
        if (name_compare(&r->names[i - 1], r->names[i].text, r->names[i].size) == 0) {
            r->at = r->names[i].body;
            return bora_fail(r->err, BORA_E_INVAL, "grammar, line %zu: rule '%.*s' is defined twice", line_of(r, r->at),
                             (int)(r->names[i].size < 80 ? r->names[i].size : 80), r->names[i].text);
        }
    return BORA_OK;
}

/* ---- characters -------------------------------------------------------------------------------------------------- */

static bora_status read_hex(reader *r, size_t n, uint32_t *ret_character)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++, r->at++) {
        char c = r->at < r->size ? r->text[r->at] : '\0';
        int digit = c >= '0' && c <= '9'                     ? c - '0'
                    : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                             : -1;
        if (digit < 0)
            return bad(r, "an escape needs more hexadecimal digits");
        value = value << 4 | (uint32_t)digit;
    }
    if (value > BORA_CHARACTER_MAX || (value >= 0xd800 && value <= 0xdfff))
        return bad(r, "an escape that is no Unicode character");
    *ret_character = value;
    return BORA_OK;
}

/* One character, maybe as an escape: \n \r \t \xNN \uNNNN \UNNNNNNNN, or a backslash before what is not a letter. */
static bora_status read_character(reader *r, uint32_t *ret_character)
{
    if (!is_at(r, '\\')) {
        size_t n = 0;
        *ret_character = bora_character_read(r->text + r->at, r->size - r->at, &n);
        if (*ret_character == BORA_NONE)
            return bad(r, "not UTF-8");
        r->at += n;
        return BORA_OK;
    }
    char letter = r->at + 1 < r->size ? r->text[r->at + 1] : '\0';
    r->at += letter ? 2 : 1;
    switch (letter) {
    case 'n':
        *ret_character = '\n';
        return BORA_OK;
    case 'r':
        *ret_character = '\r';
        return BORA_OK;
    case 't':
        *ret_character = '\t';
        return BORA_OK;
    case 'x':
        return read_hex(r, 2, ret_character);
    case 'u':
        return read_hex(r, 4, ret_character);
    case 'U':
        return read_hex(r, 8, ret_character);
    default:
        if ((is_name(letter) && letter != '-' && letter != '_') || letter <= ' ' || (uint8_t)letter >= 0x7f)
            return bad(r, "unknown escape");
        *ret_character = (uint8_t)letter;
        return BORA_OK;
    }
}

static bora_status read_text(reader *r, uint32_t *ret_node)
{
    bora_characters text = {0}; /* in order: not settled */
    bora_status st = BORA_OK;
    for (r->at++; st == BORA_OK && !is_at(r, '"');) {
        uint32_t character = 0;
        if (r->at >= r->size || r->text[r->at] == '\n')
            st = bad(r, "a text that does not end on its line");
        else
            st = read_character(r, &character);
        if (st == BORA_OK)
            st = bora_characters_add(&text, character, character, r->err);
    }
    r->at++;
    if (st == BORA_OK && text.n == 0) {
        st = bora_expression_add(&r->list, (bora_node){.kind = BORA_NODE_EMPTY}, ret_node, r->err);
    } else if (st == BORA_OK) {
        st = bora_expression_characters(&r->list, text.ranges, text.n, ret_node, r->err);
        if (st == BORA_OK)
            r->list.nodes[*ret_node].kind = BORA_NODE_TEXT;
    }
    bora_characters_release(&text);
    return st;
}

static bora_status read_class_into(reader *r, bora_characters *set)
{
    bora_status st = BORA_OK;
    r->at++;
    bool negate = is_at(r, '^');
    r->at += negate;
    while (st == BORA_OK && !is_at(r, ']')) {
        uint32_t lo = 0, hi = 0;
        if (r->at >= r->size || r->text[r->at] == '\n')
            return bad(r, "a class that does not end on its line");
        st = read_character(r, &lo);
        hi = lo;
        if (st == BORA_OK && is_at(r, '-') && r->at + 1 < r->size && r->text[r->at + 1] != ']') {
            r->at++;
            st = read_character(r, &hi);
        }
        if (st == BORA_OK && hi < lo)
            return bad(r, "a range that goes backwards");
        if (st == BORA_OK)
            st = bora_characters_add(set, lo, hi, r->err);
    }
    r->at++;
    return st == BORA_OK ? bora_characters_settle(set, negate, r->err) : st;
}

static bora_status read_class(reader *r, uint32_t *ret_node)
{
    bora_characters set = {0};
    bora_status st = BORA_OK;
    if (is_at(r, '.')) {
        r->at++;
        st = bora_characters_settle(&set, true, r->err); /* all but none */
    } else {
        st = read_class_into(r, &set);
    }
    if (st == BORA_OK && set.n == 0)
        st = bad(r, "a class without a character");
    if (st == BORA_OK)
        st = bora_expression_characters(&r->list, set.ranges, set.n, ret_node, r->err);
    bora_characters_release(&set);
    return st;
}

/* ---- structure --------------------------------------------------------------------------------------------------- */

static bora_status read_reference(reader *r, uint32_t *ret_node)
{
    size_t n = name_size(r);
    const rule_name *name = name_find(r, r->text + r->at, n);
    if (!name)
        return bora_fail(r->err, BORA_E_INVAL, "grammar, line %zu: there is no rule '%.*s'", line_of(r, r->at),
                         (int)(n < 80 ? n : 80), r->text + r->at);
    r->at += n;
    return bora_expression_add(&r->list, (bora_node){.kind = BORA_NODE_RULE, .rule = name->rule}, ret_node, r->err);
}

static bora_status read_group(reader *r, uint32_t *ret_node)
{
    if (r->depth >= NESTED_MAX)
        return bora_fail(r->err, BORA_E_LIMIT, "grammar, line %zu: more than %u parentheses inside each other",
                         line_of(r, r->at), NESTED_MAX);
    r->at++;
    r->depth++;
    bora_status st = read_alternatives(r, ret_node);
    r->depth--;
    if (st == BORA_OK && !is_at(r, ')'))
        return bad(r, "a parenthesis that does not close");
    r->at++;
    return st;
}

static bora_status read_item(reader *r, uint32_t *ret_node)
{
    bora_status st = BORA_OK;
    if (is_at(r, '"'))
        st = read_text(r, ret_node);
    else if (is_at(r, '[') || is_at(r, '.'))
        st = read_class(r, ret_node);
    else if (is_at(r, '('))
        st = read_group(r, ret_node);
    else if (name_size(r) > 0)
        st = read_reference(r, ret_node);
    else
        return bad(r, "expected a text, a class, a rule or a parenthesis");
    if (st != BORA_OK)
        return st;
    uint32_t min = 0, max = 0;
    size_t n = 0;
    bora_error why = {{0}};
    skip_space(r);
    st = bora_repeat_read(r->text + r->at, r->size - r->at, &min, &max, &n, &why);
    if (st != BORA_OK)
        return bora_fail(r->err, st, "grammar, line %zu: %s", line_of(r, r->at), why.message);
    r->at += n;
    if (n > 0)
        st = bora_expression_add(&r->list,
                                 (bora_node){.kind = BORA_NODE_REPEAT, .left = *ret_node, .min = min, .max = max},
                                 ret_node, r->err);
    return st;
}

static bora_status read_sequence(reader *r, uint32_t *ret_node)
{
    uint32_t node = BORA_NONE, next = 0;
    bora_status st = BORA_OK;
    skip_space(r);
    while (st == BORA_OK && r->at < r->size && !is_at(r, '|') && !is_at(r, ')') && !is_definition(r)) {
        st = read_item(r, &next);
        if (st == BORA_OK)
            st = bora_expression_sequence(&r->list, node, next, &node, r->err);
        skip_space(r);
    }
    if (st == BORA_OK && node == BORA_NONE)
        return bad(r, "an alternative without anything; the empty text is \"\"");
    *ret_node = node;
    return st;
}

static bora_status read_alternatives(reader *r, uint32_t *ret_node)
{
    uint32_t node = 0, next = 0;
    bora_status st = read_sequence(r, &node);
    while (st == BORA_OK && is_at(r, '|')) {
        r->at++;
        st = read_sequence(r, &next);
        bora_node either = {.kind = BORA_NODE_ALTERNATIVES, .left = node, .right = next};
        if (st == BORA_OK)
            st = bora_expression_add(&r->list, either, &node, r->err);
    }
    *ret_node = node;
    return st;
}

static bora_status read_rules(reader *r)
{
    const rule_name *start = name_find(r, START_RULE, sizeof START_RULE - 1);
    if (!start)
        return bora_fail(r->err, BORA_E_INVAL, "grammar: there is no rule '" START_RULE "'");
    r->names[start - r->names].rule = bora_builder_rule(&r->builder); /* the first */
    for (size_t i = 0; i < r->n_names; i++)
        if (&r->names[i] != start)
            r->names[i].rule = bora_builder_rule(&r->builder);
    for (size_t i = 0; i < r->n_names && r->builder.status == BORA_OK; i++) {
        uint32_t node = 0;
        r->list.n_nodes = r->list.n_ranges = 0;
        r->at = r->names[i].body;
        bora_status st = read_alternatives(r, &node);
        if (st != BORA_OK)
            return st;
        if (r->at < r->size && !is_definition(r))
            return bad(r, "a parenthesis that opens nowhere");
        bora_build_rule rule = r->builder.rules[r->names[i].rule];
        bora_expression_emit(&r->list, node, BORA_SPELL_TEXT, &r->builder, rule.entry, rule.final);
    }
    return BORA_OK;
}

static void describe(const void *arg, uint32_t rule, char *text, size_t size)
{
    const reader *r = arg;
    (void)snprintf(text, size, "a repetition");
    for (size_t i = 0; i < r->n_names; i++)
        if (r->names[i].rule == rule) /* cut is fine */
            (void)snprintf(text, size, "rule '%.*s'", (int)(r->names[i].size < 80 ? r->names[i].size : 80),
                           r->names[i].text);
}

bora_status bora_grammar_from_notation(const char *text, size_t size, bora_grammar **ret_grammar, bora_error *err)
{
    if (size > BORA_GRAMMAR_SOURCE_MAX)
        return bora_fail(err, BORA_E_LIMIT, "grammar of %zu bytes, at most %zu", size, BORA_GRAMMAR_SOURCE_MAX);
    BORA_CLEANUP(reader_release) reader r = {.text = text, .size = size, .err = err};
    r.builder.describe = describe;
    r.builder.describe_arg = &r;
    bora_status st = find_names(&r);
    if (st == BORA_OK)
        st = read_rules(&r);
    if (st != BORA_OK)
        return st;
    bora_error why = {{0}};
    st = bora_builder_finish(&r.builder, ret_grammar, &why);
    return st == BORA_OK ? st : bora_fail(err, st, "grammar: %s", why.message);
}
