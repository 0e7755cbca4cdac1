/* Each schema that is reached, from the root and through references, becomes a rule; a queue of them instead of
 * recursion, and a schema that was met before is the rule it has already: so recursive schemas are recursive rules. */
#include "grammar/schema_private.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void schema_release(bora_schema *s)
{
    bora_free(s->parts);
    json_decref(s->root);
    bora_builder_release(&s->builder);
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

#define PLACE_PARTS 8 /* the last steps of a longer way */

static void place_text(const bora_schema *s, size_t part, char *text, size_t size)
{
    const bora_schema_part *steps[PLACE_PARTS];
    size_t n = 0, at = 0;
    while (part != BORA_NONE && n < PLACE_PARTS) {
        steps[n++] = &s->parts[part];
        part = s->parts[part].parent;
    }
    text[0] = '\0';
    while (n-- > 0 && at < size) {
        const bora_schema_part *p = steps[n];
        const char *slash = at > 0 || p->word[0] != '#' ? "/" : "";
        int wrote = p->key                ? snprintf(text + at, size - at, "%s%.60s/%.60s", slash, p->word, p->key)
                    : p->index < SIZE_MAX ? snprintf(text + at, size - at, "%s%.60s/%zu", slash, p->word, p->index)
                                          : snprintf(text + at, size - at, "%s%.60s", slash, p->word);
        at += wrote > 0 ? (size_t)wrote : 0; /* cut is fine */
    }
}

void bora_schema_fail(bora_schema *s, bora_status status, const char *format, ...)
{
    char place[160], message[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args); /* cut is fine */
    va_end(args);
    place_text(s, s->at, place, sizeof place);
    bora_builder_fail(&s->builder, status, "schema, at %s: %s", place, message);
}

static void describe(const void *arg, uint32_t rule, char *text, size_t size)
{
    const bora_schema *s = arg;
    (void)snprintf(text, size, "a pattern");
    for (size_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].rule == rule)
            place_text(s, i, text, size);
}

/* ---- the queue --------------------------------------------------------------------------------------------------- */

static size_t bucket_of(const json_t *schema, uint32_t types)
{
    uint64_t hash = ((uint64_t)(uintptr_t)schema / 16 + types) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash >> 52); /* 12 bits, as many as there are buckets */
}

static bool parts_grow(bora_schema *s)
{
    if (s->n_parts < s->capacity)
        return true;
    size_t capacity = s->capacity ? s->capacity * 2 : 64;
    bora_schema_part *parts = bora_realloc(s->parts, capacity, sizeof *parts);
    if (!parts) {
        bora_builder_fail(&s->builder, BORA_E_NOMEM, "%zu schemas", capacity);
        return false;
    }
    s->parts = parts;
    s->capacity = capacity;
    return true;
}

uint32_t bora_schema_rule(bora_schema *s, const json_t *schema, uint32_t types, const char *word, const char *key,
                          size_t index)
{
    size_t bucket = bucket_of(schema, types);
    for (uint32_t p = s->buckets[bucket]; p != BORA_NONE; p = s->parts[p].next)
        if (s->parts[p].schema == schema && s->parts[p].types == types)
            return s->parts[p].rule;
    uint32_t rule = bora_builder_rule(&s->builder);
    if (s->builder.status != BORA_OK || !parts_grow(s))
        return 0;
    bool is_absolute = word[0] == '#'; /* the root, and what references name */
    s->parts[s->n_parts] = (bora_schema_part){.schema = schema,
                                              .types = types,
                                              .rule = rule,
                                              .parent = is_absolute ? BORA_NONE : (uint32_t)s->at,
                                              .word = word,
                                              .key = key,
                                              .index = index,
                                              .next = s->buckets[bucket]};
    s->buckets[bucket] = (uint32_t)s->n_parts++;
    return rule;
}

/* ---- references -------------------------------------------------------------------------------------------------- */

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* One step of a JSON pointer in a URI's fragment, without %XX, ~1 and ~0; false if it is no such thing. */
static bool step_decode(const char *text, size_t size, char *step)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < size ? hex_value(text[i + 1]) : -1, low = i + 2 < size ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        step[n++] = c;
    }
    step[n] = '\0';
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        char c = step[i];
        if (c == '~') {
            if (step[i + 1] != '0' && step[i + 1] != '1')
                return false;
            c = step[++i] == '1' ? '/' : '~';
        }
        step[kept++] = c;
    }
    step[kept] = '\0';
    return true;
}

static const json_t *step_into(const json_t *value, const char *step)
{
    if (!json_is_array(value))
        return json_object_get(value, step);
    char *end = NULL;
    unsigned long index = strtoul(step, &end, 10);
    return step[0] >= '0' && step[0] <= '9' && !*end ? json_array_get(value, index) : NULL;
}

/* What "#" or "#/..." names; NULL, with builder failed, if it is nothing. */
static const json_t *resolve(bora_schema *s, const char *reference)
{
    char step[256];
    const json_t *value = s->root;
    if (reference[0] != '#' || (reference[1] && reference[1] != '/')) {
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'$ref' other than '#' and '#/...' is not supported");
        return NULL;
    }
    for (const char *at = reference + 1; *at == '/' && value;) {
        size_t n = strcspn(++at, "/");
        if (n >= sizeof step || !step_decode(at, n, step))
            value = NULL;
        else
            value = step_into(value, step);
        at += n;
    }
    if (!value)
        bora_schema_fail(s, BORA_E_INVAL, "'$ref' to '%.80s', which is not there", reference);
    return value;
}

/* ---- one schema -------------------------------------------------------------------------------------------------- */

static uint32_t type_of_name(const char *name)
{
    static const struct {
        const char *name;
        uint32_t types;
    } all[] = {{"null", BORA_TYPE_NULL},    {"boolean", BORA_TYPE_BOOLEAN}, {"object", BORA_TYPE_OBJECT},
               {"array", BORA_TYPE_ARRAY},  {"string", BORA_TYPE_STRING},   {"integer", BORA_TYPE_INTEGER},
               {"number", BORA_TYPE_NUMBER}};
    for (size_t i = 0; name && i < BORA_ARRAY_SIZE(all); i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].types;
    return 0;
}

/* What "type" says; all of them if it is not there. */
static uint32_t declared_types(bora_schema *s, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    uint32_t types = type ? type_of_name(json_string_value(type)) : BORA_TYPE_ALL;
    bool is_bad = type && !types && (!json_is_array(type) || json_array_size(type) == 0);
    for (size_t i = 0; json_is_array(type) && i < json_array_size(type); i++) {
        uint32_t one = type_of_name(json_string_value(json_array_get(type, i)));
        is_bad |= !one;
        types |= one;
    }
    if (is_bad)
        bora_schema_fail(s, BORA_E_INVAL, "'type' is neither the name of a type nor a list of such names");
    return types;
}

static uint32_t type_of_value(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return BORA_TYPE_OBJECT;
    case JSON_ARRAY:
        return BORA_TYPE_ARRAY;
    case JSON_STRING:
        return BORA_TYPE_STRING;
    case JSON_INTEGER:
        return BORA_TYPE_INTEGER;
    case JSON_REAL: { /* 1.0 is an integer to JSON schema */
        double real = json_real_value(value);
        bool is_whole = real > -1e18 && real < 1e18 && real == (double)(json_int_t)real;
        return is_whole ? BORA_TYPE_INTEGER : BORA_TYPE_FRACTION;
    }
    case JSON_NULL:
        return BORA_TYPE_NULL;
    default:
        return BORA_TYPE_BOOLEAN;
    }
}

static void compile_values(bora_schema *s, const json_t *schema, uint32_t types, uint32_t from, uint32_t to)
{
    const json_t *list = json_object_get(schema, "enum"), *fixed = json_object_get(schema, "const");
    if (list && (!json_is_array(list) || json_array_size(list) == 0)) {
        bora_schema_fail(s, BORA_E_INVAL, "'enum' is not a list of values");
        return;
    }
    size_t n = list ? json_array_size(list) : 1;
    uint32_t begin = bora_builder_state(&s->builder);
    bora_builder_skip(&s->builder, from, begin);
    for (size_t i = 0; i < n && s->builder.status == BORA_OK; i++) {
        const json_t *value = list ? json_array_get(list, i) : fixed;
        /* json_equal does not hold 1 and 1.0 for the same: then nothing fits, which is an error and not a wrong text.
         */
        if ((type_of_value(value) & types) && (!list || !fixed || json_equal(value, fixed)))
            bora_json_value(&s->json, value, begin, to);
    }
}

static void compile_array(bora_schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
    bora_builder *builder = &s->builder;
    const json_t *items = json_object_get(schema, "items");
    uint32_t min = bora_schema_count(s, schema, "minItems", 0);
    uint32_t max = bora_schema_count(s, schema, "maxItems", UINT32_MAX);
    if (items && !json_is_object(items) && !json_is_boolean(items)) {
        bora_schema_fail(s, BORA_E_INVAL, "'items' is not a schema");
        return;
    }
    if (min > max) {
        bora_schema_fail(s, BORA_E_INVAL, "'minItems' is over 'maxItems'");
        return;
    }
    uint32_t open = bora_builder_state(builder), end = bora_builder_state(builder), at = bora_builder_state(builder);
    bora_builder_bytes(builder, from, '[', '[', open);
    bora_builder_bytes(builder, end, ']', ']', to);
    if (min == 0)
        bora_json_space(&s->json, open, end);
    if (max == 0)
        return;
    bora_json_space(&s->json, open, at);
    uint32_t rule = bora_schema_rule(s, items ? items : json_true(), BORA_TYPE_ALL, "items", NULL, SIZE_MAX);
    uint32_t n_copies = max == UINT32_MAX ? (min > 0 ? min : 1) : max;
    for (uint32_t i = 1; i <= n_copies && builder->status == BORA_OK; i++) {
        uint32_t after = bora_builder_state(builder), comma = bora_builder_state(builder);
        uint32_t next = max == UINT32_MAX && i == n_copies ? at : bora_builder_state(builder);
        bora_builder_call(builder, at, rule, after);
        if (i >= min)
            bora_json_space(&s->json, after, end);
        if (i < n_copies || max == UINT32_MAX) {
            bora_builder_bytes(builder, after, ',', ',', comma);
            bora_json_space(&s->json, comma, next);
        }
        at = next;
    }
}

static void compile_types(bora_schema *s, const json_t *schema, uint32_t types, uint32_t from, uint32_t to)
{
    static const struct {
        uint32_t type;
        const char *text;
    } words[] = {{BORA_TYPE_NULL, "null"}, {BORA_TYPE_BOOLEAN, "true"}, {BORA_TYPE_BOOLEAN, "false"}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(words); i++)
        if (types & words[i].type)
            bora_builder_text(&s->builder, from, words[i].text, strlen(words[i].text), to);
    if (types & BORA_TYPE_OBJECT)
        bora_schema_object(s, schema, from, to);
    if (types & BORA_TYPE_ARRAY)
        compile_array(s, schema, from, to);
    if (types & BORA_TYPE_STRING)
        bora_schema_string(s, schema, from, to);
    if (types & BORA_TYPE_INTEGER)
        bora_schema_number(s, schema, types & BORA_TYPE_NUMBER, from, to);
}

/* $ref, anyOf, allOf of one. False: it is none of these. */
static bool compile_reference(bora_schema *s, const json_t *schema, uint32_t types, uint32_t from, uint32_t to)
{
    const json_t *reference = json_object_get(schema, "$ref");
    const json_t *any = json_object_get(schema, "anyOf"), *all = json_object_get(schema, "allOf");
    if (!reference && !any && !all)
        return false;
    const json_t *list = any ? any : all;
    const char *word = any ? "anyOf" : "allOf";
    if (reference && !json_is_string(reference)) {
        bora_schema_fail(s, BORA_E_INVAL, "'$ref' is not a string");
    } else if (reference) {
        const json_t *target = resolve(s, json_string_value(reference));
        if (target)
            bora_builder_call(&s->builder, from,
                              bora_schema_rule(s, target, types, json_string_value(reference), NULL, SIZE_MAX), to);
    } else if (!json_is_array(list) || json_array_size(list) == 0) {
        bora_schema_fail(s, BORA_E_INVAL, "'%s' is not a list of schemas", word);
    } else if (all && json_array_size(all) > 1) {
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'allOf' of more than one schema is not supported");
    } else {
        for (size_t i = 0; i < json_array_size(list) && s->builder.status == BORA_OK; i++)
            bora_builder_call(&s->builder, from, bora_schema_rule(s, json_array_get(list, i), types, word, NULL, i),
                              to);
    }
    return true;
}

static void compile_part(bora_schema *s, const bora_schema_part *part)
{
    const json_t *schema = part->schema;
    bora_build_rule rule = s->builder.rules[part->rule];
    if (json_is_false(schema))
        return; /* nothing fits */
    if (!json_is_true(schema) && !json_is_object(schema)) {
        bora_schema_fail(s, BORA_E_INVAL, "a schema is an object, true or false");
        return;
    }
    uint32_t keyword_types = bora_schema_keywords(s, schema);
    uint32_t types = declared_types(s, schema);
    if (keyword_types && !json_object_get(schema, "type"))
        types = keyword_types; /* what is said about one type asks for it */
    types &= part->types;
    if (s->builder.status != BORA_OK || compile_reference(s, schema, types, rule.entry, rule.final))
        return;
    if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
        compile_values(s, schema, types, rule.entry, rule.final);
    else
        compile_types(s, schema, types, rule.entry, rule.final);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static bora_status schema_parse(bora_schema *s, const char *text, size_t size, bora_error *err)
{
    json_error_t why;
    s->root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (s->root)
        return BORA_OK;
    bool no_memory = json_error_code(&why) == json_error_out_of_memory;
    for (char *c = why.text; *c; c++) /* it quotes the schema */
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    return bora_fail(err, no_memory ? BORA_E_NOMEM : BORA_E_INVAL, "schema, line %d: not JSON: %s", why.line, why.text);
}

static bora_status schema_compile(bora_schema *s, bora_grammar **ret_grammar, bora_error *err)
{
    s->json.builder = &s->builder;
    s->builder.describe = describe;
    s->builder.describe_arg = s;
    memset(s->buckets, 0xff, sizeof s->buckets);
    (void)bora_schema_rule(s, s->root, BORA_TYPE_ALL, "#", NULL, SIZE_MAX); /* the first: the start */
    for (; s->at < s->n_parts && s->builder.status == BORA_OK; s->at++) {
        bora_schema_part part = s->parts[s->at]; /* the list grows */
        compile_part(s, &part);
    }
    if (s->builder.status != BORA_OK)
        return bora_fail(err, s->builder.status, "%s", s->builder.error.message);
    bora_error why = {{0}};
    bora_status st = bora_builder_finish(&s->builder, ret_grammar, &why);
    return st == BORA_OK ? st : bora_fail(err, st, "schema: %s", why.message);
}

bora_status bora_grammar_from_schema(const char *schema, size_t size, bora_grammar **ret_grammar, bora_error *err)
{
    if (size > BORA_GRAMMAR_SOURCE_MAX)
        return bora_fail(err, BORA_E_LIMIT, "schema of %zu bytes, at most %zu", size, BORA_GRAMMAR_SOURCE_MAX);
    bora_schema *s = bora_calloc(1, sizeof *s);
    if (!s)
        return bora_fail(err, BORA_E_NOMEM, "schema");
    bora_status st = schema_parse(s, schema, size, err);
    if (st == BORA_OK)
        st = schema_compile(s, ret_grammar, err);
    schema_release(s);
    bora_free(s);
    return st;
}
