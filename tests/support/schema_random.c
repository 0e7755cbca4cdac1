/* So that documents are finite: a reference to a definition that is not an earlier one stands only where it can be left
 * out (an optional property, an item, an alternative that is not the first) and only inside of an object or array;
 * documents that are deep enough leave such things out. */
#include "support/schema_random.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_DEFS    3
#define DEEP      4 /* of schemas, beside their references */
#define DOCUMENTS 7 /* levels of documents before what can be left out is */

uint32_t bora_random_below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*seed >> 33) % n);
}

static bool chance(uint64_t *seed, uint32_t percent)
{
    return bora_random_below(seed, 100) < percent;
}

/* ---- what patterns and formats have examples of ------------------------------------------------------------------ */

typedef struct sample {
    const char *text;        /* the pattern or format */
    const char *examples[4]; /* as the characters of a string */
} sample;

static const sample patterns[] = {
    {"^[a-z]{2,4}$", {"ab", "xyz", "wxyz", "zz"}},
    {"^[A-Z][a-z]+( [A-Z][a-z]+)?$", {"Ada", "Grace Hopper", "Xy", "Ab Cd"}},
    {"^\\d{3}-\\d{4}$", {"555-1234", "000-0000", "999-9999", "123-4567"}},
    {"^(yes|no|may ?be)$", {"yes", "no", "maybe", "may be"}},
    {"^#[0-9a-fA-F]{6}$", {"#00ff00", "#ABCDEF", "#123456", "#fFfFfF"}},
    {"x", {"x", "axb", "xx", "12x"}},
    {"^[^\"\\\\]*$", {"", "a b", "\xc3\xa9", "/'"}},
    {"^[\"\\\\\\n\\t/]{1,3}$", {"\"", "\\\\", "\n\t", "/"}},
    {"^\\w+@\\w+\\.(com|org)$", {"a@b.com", "x_1@y2.org", "z@z.org", "ab@cd.com"}},
};

static const sample formats[] = {
    {"date", {"2024-02-29", "1970-01-01", "9999-12-31", "2023-06-30"}},
    {"time", {"00:00:00Z", "23:59:59+01:00", "12:30:00.25Z", "07:08:09-11:30"}},
    {"date-time",
     {"2024-02-29T00:00:00Z", "1999-12-31T23:59:59.999+00:00", "2000-02-29T01:02:03Z", "2010-11-12T13:14:15Z"}},
    {"duration", {"P1W", "PT5M", "P1Y2M3DT4H", "P10D"}},
    {"email", {"a@b.de", "first.last@mail.example.com", "x+y@z.org", "a_b@c-d.net"}},
    {"hostname", {"localhost", "a.b.c", "example.org", "x-1.y-2"}},
    {"ipv4", {"127.0.0.1", "255.255.255.255", "0.0.0.0", "192.168.1.20"}},
    {"ipv6", {"::1", "fe80::1:2", "1:2:3:4:5:6:7:8", "::"}},
    {"uuid",
     {"00000000-0000-0000-0000-000000000000", "123e4567-e89b-12d3-a456-426614174000",
      "ABCDEFAB-1234-5678-9abc-def012345678", "ffffffff-ffff-4fff-bfff-ffffffffffff"}},
};

#define N_PATTERNS (sizeof patterns / sizeof patterns[0])
#define N_FORMATS  (sizeof formats / sizeof formats[0])

/* ---- schemas ----------------------------------------------------------------------------------------------------- */

typedef struct maker {
    uint64_t *seed;
    int def;     /* the definition being made; N_DEFS: the root, which all definitions come before */
    bool inside; /* of an object or array of it */
    bool can_go; /* what is made can be left out */
} maker;

static json_t *make(const maker *m, unsigned depth);

static json_t *make_scalar_value(uint64_t *seed)
{
    static const char *const words[] = {
        "red", "green", "re", "r", "", "a\"b", "\xc3\xa9t\xc3\xa9", "line\nline", "\\", "\xf0\x9f\x98\x80"};
    switch (bora_random_below(seed, 6)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(chance(seed, 50));
    case 2:
        return json_integer((json_int_t)bora_random_below(seed, 2000) - 1000);
    case 3:
        return json_real(((double)bora_random_below(seed, 2000) - 1000) / 8 + 0.0625);
    default:
        return json_string(words[bora_random_below(seed, sizeof words / sizeof words[0])]);
    }
}

static json_t *make_value(uint64_t *seed, unsigned depth)
{
    if (depth > 2 || chance(seed, 60))
        return make_scalar_value(seed);
    json_t *value = chance(seed, 50) ? json_array() : json_object();
    for (uint32_t n = bora_random_below(seed, 3), i = 0; i < n; i++) {
        char key[24];
        (void)snprintf(key, sizeof key, "k%u", i);
        if (json_is_array(value))
            json_array_append_new(value, make_value(seed, depth + 1));
        else
            json_object_set_new(value, key, make_value(seed, depth + 1));
    }
    return value;
}

static void set_integer(json_t *object, const char *key, json_int_t value)
{
    json_object_set_new(object, key, json_integer(value));
}

static void make_string(uint64_t *seed, json_t *schema)
{
    json_int_t min = bora_random_below(seed, 4);
    switch (bora_random_below(seed, 6)) {
    case 0:
        set_integer(schema, "minLength", min);
        break;
    case 1:
        set_integer(schema, "maxLength", min + bora_random_below(seed, 9));
        break;
    case 2:
        set_integer(schema, "minLength", min);
        set_integer(schema, "maxLength", min + bora_random_below(seed, 30));
        break;
    case 3:
        json_object_set_new(schema, "pattern", json_string(patterns[bora_random_below(seed, N_PATTERNS)].text));
        break;
    case 4:
        json_object_set_new(schema, "format", json_string(formats[bora_random_below(seed, N_FORMATS)].text));
        break;
    default:
        break;
    }
}

/* Bounds wide enough that something is left of them, at either side of zero. */
static void make_bounds(uint64_t *seed, json_t *schema, bool is_integer)
{
    json_int_t lo = (json_int_t)bora_random_below(seed, 4000) - 2000, hi = lo + 20 + bora_random_below(seed, 3000);
    double scale = is_integer || chance(seed, 50) ? 1 : 8;
    if (chance(seed, 60))
        json_object_set_new(schema, chance(seed, 70) ? "minimum" : "exclusiveMinimum",
                            scale == 1 ? json_integer(lo) : json_real((double)lo / scale));
    if (chance(seed, 60))
        json_object_set_new(schema, chance(seed, 70) ? "maximum" : "exclusiveMaximum",
                            scale == 1 ? json_integer(hi) : json_real((double)hi / scale));
    if (scale == 1 && chance(seed, is_integer ? 40 : 10)) /* wide enough for a multiple */
        set_integer(schema, "multipleOf", 1 + bora_random_below(seed, 9));
}

static void make_array(const maker *m, json_t *schema, unsigned depth)
{
    json_int_t min = chance(m->seed, 60) ? 0 : bora_random_below(m->seed, 4);
    maker inner = *m;
    inner.inside = true;
    inner.can_go = m->can_go || min == 0;
    if (min > 0 || chance(m->seed, 20))
        set_integer(schema, "minItems", min);
    if (chance(m->seed, 40))
        set_integer(schema, "maxItems", min + bora_random_below(m->seed, 4));
    if (chance(m->seed, 85))
        json_object_set_new(schema, "items", make(&inner, depth + 1));
}

static void make_object(const maker *m, json_t *schema, unsigned depth)
{
    static const char *const names[] = {"name",     "na",       "n", "id",  "a b",   "q\"uote",
                                        "\xc3\xa9", "\xc3\xa8", "",  "x/y", "tab\t", "value"};
    json_t *properties = json_object(), *required = json_array();
    for (uint32_t n = bora_random_below(m->seed, 6), i = 0; i < n; i++) {
        const char *name = names[bora_random_below(m->seed, sizeof names / sizeof names[0])];
        if (json_object_get(properties, name))
            continue;
        bool is_required = chance(m->seed, 60);
        maker inner = *m;
        inner.inside = true;
        inner.can_go = m->can_go || !is_required;
        json_object_set_new(properties, name, make(&inner, depth + 1));
        if (is_required)
            json_array_insert_new(required, bora_random_below(m->seed, (uint32_t)json_array_size(required) + 1),
                                  json_string(name));
    }
    maker others = *m;
    others.inside = others.can_go = true;
    switch (bora_random_below(m->seed, 5)) {
    case 0:
        json_object_set_new(schema, "additionalProperties", json_true());
        break;
    case 1:
        json_object_set_new(schema, "additionalProperties", make(&others, depth + 1));
        break;
    case 2:
        break;
    default:
        json_object_set_new(schema, "additionalProperties", json_false());
        break;
    }
    if (json_object_size(properties) > 0 || chance(m->seed, 50))
        json_object_set(schema, "properties", properties);
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(properties);
    json_decref(required);
}

static json_t *make_reference(const maker *m)
{
    char reference[40];
    uint32_t n = m->inside && m->can_go ? N_DEFS : (uint32_t)m->def;
    if (n == 0)
        return json_pack("{s:s}", "type", "null");
    (void)snprintf(reference, sizeof reference, "#/$defs/d%u", bora_random_below(m->seed, n));
    if (n == N_DEFS && m->inside && m->can_go && chance(m->seed, 20))
        (void)snprintf(reference, sizeof reference, "#");
    return json_pack("{s:s}", "$ref", reference);
}

static json_t *make_any_of(const maker *m, unsigned depth)
{
    json_t *list = json_array();
    maker other = *m;
    other.can_go = true;
    json_array_append_new(list, make(m, depth + 1));
    for (uint32_t n = 1 + bora_random_below(m->seed, 2), i = 0; i < n; i++)
        json_array_append_new(list, make(&other, depth + 1));
    return json_pack("{s:o}", "anyOf", list);
}

static json_t *make_listed(uint64_t *seed)
{
    if (chance(seed, 40))
        return json_pack("{s:o}", "const", make_value(seed, 0));
    json_t *list = json_array();
    for (uint32_t n = 1 + bora_random_below(seed, 6), i = 0; i < n; i++)
        json_array_append_new(list, make_value(seed, 1));
    return json_pack("{s:o}", "enum", list);
}

static json_t *make_typed(const maker *m, unsigned depth)
{
    static const char *const types[] = {"null", "boolean", "string", "integer", "number", "array", "object"};
    uint32_t first = bora_random_below(m->seed, depth < DEEP ? 7 : 5), second = bora_random_below(m->seed, 3);
    if (depth < DEEP && chance(m->seed, 40))
        first = 5 + bora_random_below(m->seed, 2);
    json_t *schema = json_object();
    if (first != second && chance(m->seed, 20))
        json_object_set_new(schema, "type", json_pack("[s,s]", types[first], types[second]));
    else if (first < 2 || chance(m->seed, 90))
        json_object_set_new(schema, "type", json_string(types[first]));
    if (first == 2)
        make_string(m->seed, schema);
    else if (first == 3 || first == 4)
        make_bounds(m->seed, schema, first == 3);
    else if (first == 5)
        make_array(m, schema, depth);
    else if (first == 6)
        make_object(m, schema, depth);
    return schema;
}

static json_t *make(const maker *m, unsigned depth)
{
    json_t *schema = NULL;
    uint32_t what = bora_random_below(m->seed, 100);
    if (what < 8)
        schema = make_listed(m->seed);
    else if (what < 16 && depth < DEEP)
        schema = make_any_of(m, depth);
    else if (what < 26 && depth > 0)
        schema = make_reference(m);
    else if (what < 28 && depth < DEEP)
        schema = json_pack("{s:[o]}", "allOf", make(m, depth + 1));
    else if (what < 30)
        return chance(m->seed, 50) ? json_true() : json_object();
    else
        schema = make_typed(m, depth);
    if (chance(m->seed, 10))
        json_object_set_new(schema, "description", json_string("what this is for"));
    return schema;
}

json_t *bora_schema_random(uint64_t *seed)
{
    json_t *defs = json_object();
    for (int i = 0; i < N_DEFS; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "d%d", i);
        maker m = {.seed = seed, .def = i};
        json_object_set_new(defs, name, make_typed(&m, 1));
    }
    maker m = {.seed = seed, .def = N_DEFS};
    json_t *schema = chance(seed, 75) ? make_typed(&m, 0) : make(&m, 0);
    if (!json_is_object(schema))
        schema = json_object();
    json_object_set_new(schema, "$defs", defs);
    return schema;
}

/* ---- documents --------------------------------------------------------------------------------------------------- */

typedef struct writer {
    const json_t *root;
    uint64_t *seed;
    FILE *out;
} writer;

static void write_document(const writer *w, const json_t *schema, unsigned depth);

static void write_space(const writer *w)
{
    uint32_t what = bora_random_below(w->seed, 10);
    if (what < 3)
        fputc(' ', w->out);
    else if (what == 3)
        fprintf(w->out, "\n%*s", (int)bora_random_below(w->seed, 33), "");
}

static void write_colon(const writer *w)
{
    fputs(chance(w->seed, 50) ? ": " : ":", w->out);
}

/* A fixed string, in its one spelling. */
static void write_fixed(const writer *w, const char *text)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    fputc('"', w->out);
    for (; *text; text++) {
        const char *escape = strchr(named, *text);
        if (escape && (escape - named) % 2 == 0)
            fprintf(w->out, "\\%c", escape[1]);
        else if (*text == '"' || *text == '\\')
            fprintf(w->out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(w->out, "\\u%04x", (unsigned char)*text);
        else
            fputc(*text, w->out);
    }
    fputc('"', w->out);
}

static void write_value(const writer *w, const json_t *value)
{
    const char *key;
    json_t *inner;
    bool is_first = true;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        fputc('{', w->out);
        json_object_foreach((json_t *)(uintptr_t)value, key, inner)
        {
            if (!is_first)
                fputc(',', w->out);
            is_first = false;
            write_space(w);
            write_fixed(w, key);
            write_colon(w);
            write_value(w, inner);
        }
        write_space(w);
        fputc('}', w->out);
        break;
    case JSON_ARRAY:
        fputc('[', w->out);
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i > 0)
                fputc(',', w->out);
            write_space(w);
            write_value(w, json_array_get(value, i));
        }
        write_space(w);
        fputc(']', w->out);
        break;
    case JSON_STRING:
        write_fixed(w, json_string_value(value));
        break;
    case JSON_INTEGER:
        fprintf(w->out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL: /* of sixteenths below a thousand: nine digits are all of them */
        fprintf(w->out, "%.9g", json_real_value(value));
        break;
    default:
        fputs(json_is_null(value) ? "null" : json_is_true(value) ? "true" : "false", w->out);
        break;
    }
}

static void write_characters(const writer *w, uint32_t n)
{
    static const char *const pieces[] = {"a",
                                         "B",
                                         " ",
                                         "9",
                                         "\\n",
                                         "\\\"",
                                         "\\\\",
                                         "\\/",
                                         "\\u00e9",
                                         "\\uD83D\\ude00",
                                         "\xc3\xa9",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         ",",
                                         "}",
                                         "\\u0001",
                                         "\x7f",
                                         "/",
                                         "\\t",
                                         "<"};
    fputc('"', w->out);
    for (uint32_t i = 0; i < n; i++)
        fputs(pieces[bora_random_below(w->seed, sizeof pieces / sizeof pieces[0])], w->out);
    fputc('"', w->out);
}

static const char *example(const writer *w, const sample *samples, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(samples[i].text, text) == 0)
            return samples[i].examples[bora_random_below(w->seed, 4)];
    return "?";
}

static void write_string(const writer *w, const json_t *schema)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    if (pattern) {
        write_fixed(w, example(w, patterns, N_PATTERNS, json_string_value(pattern)));
        return;
    }
    if (format) {
        write_fixed(w, example(w, formats, N_FORMATS, json_string_value(format)));
        return;
    }
    uint32_t min = (uint32_t)json_integer_value(json_object_get(schema, "minLength"));
    const json_t *max = json_object_get(schema, "maxLength");
    write_characters(w, min + bora_random_below(w->seed, max ? (uint32_t)json_integer_value(max) - min + 1 : 10));
}

/* The nearest bound that a number in steps of 1/steps may have. */
static long long bound(const json_t *schema, const char *with, const char *without, int direction, int steps,
                       long long or_else)
{
    const json_t *value = json_object_get(schema, with), *over = json_object_get(schema, without);
    if (value)
        return (long long)(json_number_value(value) * steps);
    return over ? (long long)(json_number_value(over) * steps) + direction : or_else;
}

static void write_number(const writer *w, const json_t *schema, bool is_integer)
{
    const json_t *multiple = json_object_get(schema, "multipleOf");
    bool has_bounds = json_object_get(schema, "minimum") || json_object_get(schema, "maximum") ||
                      json_object_get(schema, "exclusiveMinimum") || json_object_get(schema, "exclusiveMaximum");
    int steps = is_integer || multiple || chance(w->seed, 30) ? 1 : 1000; /* bounds are eighths */
    long long lo = bound(schema, "minimum", "exclusiveMinimum", 1, steps, INT64_MIN);
    long long hi = bound(schema, "maximum", "exclusiveMaximum", -1, steps, INT64_MAX);
    if (steps == 1 && !is_integer && !multiple) /* eighths again: whole numbers further in */
        lo += lo != INT64_MIN, hi -= hi != INT64_MAX;
    if (lo == INT64_MIN)
        lo = (hi == INT64_MAX ? 500LL : hi) - 1000LL * steps;
    if (hi == INT64_MAX)
        hi = lo + 1000LL * steps;
    long long number = lo + (long long)bora_random_below(w->seed, (uint32_t)(hi - lo + 1));
    if (multiple) {
        long long of = json_integer_value(multiple);
        number -= number % of;
        while (number < lo)
            number += of;
        while (number > hi)
            number -= of;
    }
    if (steps == 1)
        fprintf(w->out, "%lld", number);
    else
        fprintf(w->out, "%s%lld.%03lld", number < 0 ? "-" : "", llabs(number) / steps, llabs(number) % steps);
    if (!is_integer && !multiple && !has_bounds && chance(w->seed, 30))
        fprintf(w->out, "%s%u", chance(w->seed, 50) ? "e+" : "E-", bora_random_below(w->seed, 100));
}

static void write_array(const writer *w, const json_t *schema, unsigned depth)
{
    const json_t *items = json_object_get(schema, "items"), *max = json_object_get(schema, "maxItems");
    uint32_t n = (uint32_t)json_integer_value(json_object_get(schema, "minItems"));
    if (depth < DOCUMENTS)
        n += bora_random_below(w->seed, max ? (uint32_t)json_integer_value(max) - n + 1 : 4);
    fputc('[', w->out);
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0)
            fputc(',', w->out);
        write_space(w);
        write_document(w, items ? items : json_true(), depth + 1);
    }
    write_space(w);
    fputc(']', w->out);
}

static void write_object(const writer *w, const json_t *schema, unsigned depth)
{
    static const char *const others[] = {"\"other\"",    "\"nam\"", "\"names\"", "\"\xc3\xaa\"",
                                         "\"q\\\"uot\"", "\"\\n\"", "\"i\"",     "\"x\""};
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *additional = json_object_get(schema, "additionalProperties");
    const char *key;
    json_t *inner;
    bool is_first = true;
    fputc('{', w->out);
    json_object_foreach((json_t *)(uintptr_t)properties, key, inner)
    {
        bool is_required = false;
        for (size_t i = 0; i < json_array_size(required); i++)
            is_required |= strcmp(json_string_value(json_array_get(required, i)), key) == 0;
        if (!is_required && (depth >= DOCUMENTS || chance(w->seed, 40)))
            continue;
        if (!is_first)
            fputc(',', w->out);
        is_first = false;
        write_space(w);
        write_fixed(w, key);
        write_colon(w);
        write_document(w, inner, depth + 1);
    }
    bool is_open = additional ? !json_is_false(additional) : !properties;
    for (uint32_t n = is_open && depth < DOCUMENTS ? bora_random_below(w->seed, 3) : 0; n > 0; n--) {
        if (!is_first)
            fputc(',', w->out);
        is_first = false;
        write_space(w);
        fputs(others[bora_random_below(w->seed, sizeof others / sizeof others[0])], w->out);
        write_colon(w);
        write_document(w, additional ? additional : json_true(), depth + 1);
    }
    write_space(w);
    fputc('}', w->out);
}

/* The type of a document to write: one of "type", or the one that the schema's keywords are about. */
static const char *choose_type(const writer *w, const json_t *schema)
{
    static const char *const all[] = {"null", "boolean", "string", "integer", "number", "array", "object"};
    static const char *const about[][2] = {{"minLength", "string"},
                                           {"maxLength", "string"},
                                           {"pattern", "string"},
                                           {"format", "string"},
                                           {"items", "array"},
                                           {"minItems", "array"},
                                           {"maxItems", "array"},
                                           {"properties", "object"},
                                           {"required", "object"},
                                           {"minimum", "number"},
                                           {"maximum", "number"},
                                           {"exclusiveMinimum", "number"},
                                           {"multipleOf", "number"},
                                           {"exclusiveMaximum", "number"},
                                           {"additionalProperties", "object"}};
    const json_t *type = json_object_get(schema, "type");
    if (json_is_string(type))
        return json_string_value(type);
    if (json_is_array(type))
        return json_string_value(json_array_get(type, bora_random_below(w->seed, (uint32_t)json_array_size(type))));
    for (size_t i = 0; i < sizeof about / sizeof about[0]; i++)
        if (json_object_get(schema, about[i][0]))
            return about[i][1];
    return all[bora_random_below(w->seed, 7)];
}

static void write_document(const writer *w, const json_t *schema, unsigned depth)
{
    const json_t *reference = json_object_get(schema, "$ref"), *any = json_object_get(schema, "anyOf");
    const json_t *all = json_object_get(schema, "allOf"), *list = json_object_get(schema, "enum");
    const json_t *fixed = json_object_get(schema, "const");
    if (reference) {
        const char *name = strrchr(json_string_value(reference), '/');
        write_document(w, name ? json_object_get(json_object_get(w->root, "$defs"), name + 1) : w->root, depth);
    } else if (any) {
        size_t i = depth >= DOCUMENTS ? 0 : bora_random_below(w->seed, (uint32_t)json_array_size(any));
        write_document(w, json_array_get(any, i), depth);
    } else if (all) {
        write_document(w, json_array_get(all, 0), depth);
    } else if (list || fixed) {
        write_value(w,
                    list ? json_array_get(list, bora_random_below(w->seed, (uint32_t)json_array_size(list))) : fixed);
    } else {
        const char *type = choose_type(w, schema);
        if (strcmp(type, "null") == 0)
            fputs("null", w->out);
        else if (strcmp(type, "boolean") == 0)
            fputs(chance(w->seed, 50) ? "true" : "false", w->out);
        else if (strcmp(type, "string") == 0)
            write_string(w, schema);
        else if (strcmp(type, "array") == 0)
            write_array(w, schema, depth);
        else if (strcmp(type, "object") == 0)
            write_object(w, schema, depth);
        else
            write_number(w, schema, strcmp(type, "integer") == 0);
    }
}

char *bora_schema_document(const json_t *root, uint64_t *seed)
{
    char *text = NULL;
    size_t size = 0;
    writer w = {.root = root, .seed = seed, .out = open_memstream(&text, &size)};
    if (!w.out)
        return NULL;
    write_document(&w, root, 0);
    if (fclose(w.out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
