#include "support/schema_check.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <arpa/inet.h>
#include <ctype.h>
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct check {
    const json_t *root;
    char *why;
    size_t why_size;
} check;

static bool fits(const check *c, const json_t *schema, const json_t *value);

static bool no(const check *c, const char *keyword, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    (void)snprintf(c->why, c->why_size, "%s: %.200s", keyword, text ? text : "?");
    free(text);
    return false;
}

/* ---- formats ----------------------------------------------------------------------------------------------------- */

/* n digits; moves on. */
static bool digits(const char **text, int n, int *ret_number)
{
    int number = 0;
    for (int i = 0; i < n; i++, (*text)++) {
        if (!isdigit((unsigned char)**text))
            return false;
        number = number * 10 + (**text - '0');
    }
    *ret_number = number;
    return true;
}

static bool sign(const char **text, char c)
{
    if (**text != c)
        return false;
    (*text)++;
    return true;
}

static bool is_date(const char **text)
{
    int year, month, day;
    if (!digits(text, 4, &year) || !sign(text, '-') || !digits(text, 2, &month) || !sign(text, '-') ||
        !digits(text, 2, &day) || month < 1 || month > 12 || day < 1)
        return false;
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] + (leap && month == 2);
}

static bool is_clock(const char **text)
{
    int hour, minute;
    return digits(text, 2, &hour) && sign(text, ':') && digits(text, 2, &minute) && hour < 24 && minute < 60;
}

static bool is_time(const char **text)
{
    int second, digit;
    if (!is_clock(text) || !sign(text, ':') || !digits(text, 2, &second) || second > 59)
        return false;
    if (sign(text, '.')) {
        if (!digits(text, 1, &digit))
            return false;
        while (isdigit((unsigned char)**text))
            (*text)++;
    }
    return sign(text, 'Z') || ((sign(text, '+') || sign(text, '-')) && is_clock(text));
}

static bool is_host(const char *text)
{
    size_t label = 0;
    if (!*text || strlen(text) > 253)
        return false;
    for (const char *c = text;; c++) {
        if (*c == '.' || !*c) {
            if (label == 0 || label > 63 || c[-1] == '-')
                return false;
            label = 0;
            if (!*c)
                return true;
        } else if (isalnum((unsigned char)*c) || (*c == '-' && label > 0)) {
            label++;
        } else {
            return false;
        }
    }
}

static bool is_email(const char *text)
{
    const char *at = strchr(text, '@');
    if (!at || at == text || at - text > 64 || text[0] == '.' || at[-1] == '.')
        return false;
    for (const char *c = text; c < at; c++)
        if ((!isalnum((unsigned char)*c) && !strchr("!#$%&'*+-/=?^_`{|}~.", *c)) || (c[0] == '.' && c[1] == '.'))
            return false;
    return is_host(at + 1);
}

static bool is_uuid(const char *text)
{
    for (int i = 0; i < 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    return text[36] == '\0';
}

/* A number and a unit, for each of units in order, none twice, no gap: RFC 3339's appendix. */
static int n_units(const char **text, const char *units)
{
    int n = 0, last = -1;
    while (isdigit((unsigned char)**text)) {
        while (isdigit((unsigned char)**text))
            (*text)++;
        const char *unit = **text ? strchr(units, **text) : NULL;
        if (!unit || (last >= 0 && unit - units != last + 1))
            return -1;
        last = (int)(unit - units);
        (*text)++;
        n++;
    }
    return n;
}

static bool is_duration(const char *text)
{
    if (!sign(&text, 'P'))
        return false;
    const char *weeks = text;
    if (n_units(&weeks, "W") == 1 && !*weeks)
        return true;
    int n_days = n_units(&text, "YMD"), n_hours = 0;
    bool has_time = sign(&text, 'T');
    if (has_time)
        n_hours = n_units(&text, "HMS");
    return !*text && n_days >= 0 && n_hours >= 0 && n_days + n_hours > 0 && (!has_time || n_hours > 0);
}

static bool is_format(const char *format, const char *text)
{
    unsigned char address[16];
    if (strcmp(format, "date") == 0)
        return is_date(&text) && !*text;
    if (strcmp(format, "time") == 0)
        return is_time(&text) && !*text;
    if (strcmp(format, "date-time") == 0)
        return is_date(&text) && sign(&text, 'T') && is_time(&text) && !*text;
    if (strcmp(format, "duration") == 0)
        return is_duration(text);
    if (strcmp(format, "email") == 0)
        return is_email(text);
    if (strcmp(format, "hostname") == 0)
        return is_host(text);
    if (strcmp(format, "ipv4") == 0)
        return inet_pton(AF_INET, text, address) == 1;
    if (strcmp(format, "ipv6") == 0)
        return inet_pton(AF_INET6, text, address) == 1;
    return strcmp(format, "uuid") == 0 && is_uuid(text);
}

/* ---- keywords ---------------------------------------------------------------------------------------------------- */

static size_t n_characters(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static bool matches(const char *pattern, const char *text)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX, &code, &at, NULL);
    if (!compiled)
        return false;
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(compiled, NULL);
    int n = data ? pcre2_match(compiled, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL) : -1;
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    return n >= 0;
}

static bool is_whole(const json_t *value)
{
    return json_is_integer(value) || (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)));
}

static bool is_type(const char *type, const json_t *value)
{
    return strcmp(type, "null") == 0      ? json_is_null(value)
           : strcmp(type, "boolean") == 0 ? json_is_boolean(value)
           : strcmp(type, "object") == 0  ? json_is_object(value)
           : strcmp(type, "array") == 0   ? json_is_array(value)
           : strcmp(type, "string") == 0  ? json_is_string(value)
           : strcmp(type, "integer") == 0 ? is_whole(value)
                                          : strcmp(type, "number") == 0 && json_is_number(value);
}

static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_is_integer(a) && json_is_integer(b) ? json_integer_value(a) == json_integer_value(b)
                                                        : json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

/* "#", "#/a/0/b"; names without ~ and % only. */
static const json_t *refer(const check *c, const char *reference)
{
    const json_t *at = c->root;
    char step[128];
    for (const char *p = reference + 1; *p == '/' && at;) {
        size_t n = strcspn(++p, "/");
        if (n >= sizeof step)
            return NULL;
        memcpy(step, p, n);
        step[n] = '\0';
        at = json_is_array(at) ? json_array_get(at, (size_t)atol(step)) : json_object_get(at, step);
        p += n;
    }
    return at;
}

static bool type_fits(const json_t *type, const json_t *value)
{
    if (json_is_string(type))
        return is_type(json_string_value(type), value);
    for (size_t i = 0; i < json_array_size(type); i++)
        if (is_type(json_string_value(json_array_get(type, i)), value))
            return true;
    return false;
}

static bool object_fits(const check *c, const json_t *schema, const json_t *value)
{
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *others = json_object_get(schema, "additionalProperties");
    const char *key;
    json_t *inner;
    for (size_t i = 0; i < json_array_size(required); i++)
        if (!json_object_get(value, json_string_value(json_array_get(required, i))))
            return no(c, "required", json_array_get(required, i));
    json_object_foreach((json_t *)(uintptr_t)value, key, inner)
    {
        const json_t *listed = json_object_get(properties, key);
        if (listed ? !fits(c, listed, inner) : others && !fits(c, others, inner))
            return false;
    }
    return true;
}

static bool array_fits(const check *c, const json_t *schema, const json_t *value)
{
    const json_t *items = json_object_get(schema, "items"), *min = json_object_get(schema, "minItems");
    const json_t *max = json_object_get(schema, "maxItems");
    if (min && (double)json_array_size(value) < json_number_value(min))
        return no(c, "minItems", value);
    if (max && (double)json_array_size(value) > json_number_value(max))
        return no(c, "maxItems", value);
    for (size_t i = 0; items && i < json_array_size(value); i++)
        if (!fits(c, items, json_array_get(value, i)))
            return false;
    return true;
}

static bool string_fits(const check *c, const json_t *schema, const json_t *value)
{
    const char *text = json_string_value(value);
    const json_t *min = json_object_get(schema, "minLength"), *max = json_object_get(schema, "maxLength");
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    if (min && (double)n_characters(text) < json_number_value(min))
        return no(c, "minLength", value);
    if (max && (double)n_characters(text) > json_number_value(max))
        return no(c, "maxLength", value);
    if (pattern && !matches(json_string_value(pattern), text))
        return no(c, "pattern", value);
    return !format || is_format(json_string_value(format), text) || no(c, "format", value);
}

static bool number_fits(const check *c, const json_t *schema, const json_t *value)
{
    double number = json_number_value(value);
    const json_t *min = json_object_get(schema, "minimum"), *max = json_object_get(schema, "maximum");
    const json_t *over = json_object_get(schema, "exclusiveMinimum"),
                 *under = json_object_get(schema, "exclusiveMaximum");
    const json_t *multiple = json_object_get(schema, "multipleOf");
    if ((min && number < json_number_value(min)) || (over && number <= json_number_value(over)))
        return no(c, "minimum", value);
    if ((max && number > json_number_value(max)) || (under && number >= json_number_value(under)))
        return no(c, "maximum", value);
    if (multiple &&
        (!json_is_integer(value) || json_integer_value(value) % (json_int_t)json_number_value(multiple) != 0))
        return no(c, "multipleOf", value);
    return true;
}

static bool one_of_fits(const check *c, const json_t *list, const json_t *value)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (fits(c, json_array_get(list, i), value))
            return true;
    return no(c, "anyOf", value);
}

static bool keyword_fits(const check *c, const char *keyword, const json_t *operand, const json_t *value)
{
    static const char *const others[] = {
        "title",     "description", "default",     "examples",         "$schema",          "$id",
        "$comment",  "$defs",       "definitions", "properties",       "required",         "additionalProperties",
        "items",     "minItems",    "maxItems",    "pattern",          "format",           "minLength",
        "maxLength", "minimum",     "maximum",     "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "deprecated"};
    if (strcmp(keyword, "type") == 0)
        return type_fits(operand, value) || no(c, "type", value);
    if (strcmp(keyword, "const") == 0)
        return same(operand, value) || no(c, "const", value);
    if (strcmp(keyword, "$ref") == 0)
        return fits(c, refer(c, json_string_value(operand)), value);
    if (strcmp(keyword, "anyOf") == 0)
        return one_of_fits(c, operand, value);
    if (strcmp(keyword, "allOf") == 0) {
        for (size_t i = 0; i < json_array_size(operand); i++)
            if (!fits(c, json_array_get(operand, i), value))
                return false;
        return true;
    }
    if (strcmp(keyword, "enum") == 0) {
        for (size_t i = 0; i < json_array_size(operand); i++)
            if (same(json_array_get(operand, i), value))
                return true;
        return no(c, "enum", value);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(keyword, others[i]) == 0)
            return true; /* by type, below */
    return no(c, keyword, operand);
}

static bool fits(const check *c, const json_t *schema, const json_t *value)
{
    const char *keyword;
    json_t *operand;
    if (json_is_boolean(schema))
        return json_is_true(schema) || no(c, "false", value);
    if (!json_is_object(schema))
        return no(c, "no schema", value);
    json_object_foreach((json_t *)(uintptr_t)schema, keyword,
                        operand) if (!keyword_fits(c, keyword, operand, value)) return false;
    return json_is_object(value)   ? object_fits(c, schema, value)
           : json_is_array(value)  ? array_fits(c, schema, value)
           : json_is_string(value) ? string_fits(c, schema, value)
           : json_is_number(value) ? number_fits(c, schema, value)
                                   : true;
}

bool bora_schema_check(const json_t *root, const json_t *schema, const json_t *value, char *why, size_t why_size)
{
    check c = {.root = root, .why = why, .why_size = why_size};
    why[0] = '\0';
    return fits(&c, schema, value);
}
