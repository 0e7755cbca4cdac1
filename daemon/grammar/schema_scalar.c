#include "grammar/expression.h"
#include "grammar/numbers.h"
#include "grammar/pattern.h"
#include "grammar/schema_private.h"

#include <math.h>
#include <string.h>

/* ---- strings ----------------------------------------------------------------------------------------------------- */

static void emit_pattern(bora_schema *s, const char *pattern, size_t size, uint32_t from, uint32_t to)
{
    bora_builder *builder = &s->builder;
    bora_expressions list = {0};
    uint32_t node = 0;
    bora_error err = {{0}};
    bora_status st = bora_pattern_read(pattern, size, &list, &node, &err);
    if (st == BORA_OK) {
        uint32_t begin = bora_builder_state(builder), end = bora_builder_state(builder);
        bora_builder_bytes(builder, from, '"', '"', begin);
        bora_builder_bytes(builder, end, '"', '"', to);
        bora_expression_emit(&list, node, BORA_SPELL_JSON, builder, begin, end);
    } else {
        bora_schema_fail(s, st, "%s", err.message);
    }
    bora_expressions_release(&list);
}

void bora_schema_string(bora_schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    bool has_length = json_object_get(schema, "minLength") || json_object_get(schema, "maxLength");
    uint32_t min = bora_schema_count(s, schema, "minLength", 0);
    uint32_t max = bora_schema_count(s, schema, "maxLength", BORA_REPEAT_UNBOUNDED);
    if ((pattern && !json_is_string(pattern)) || (format && !json_is_string(format)))
        bora_schema_fail(s, BORA_E_INVAL, "'%s' is not a string",
                         pattern && !json_is_string(pattern) ? "pattern" : "format");
    else if (min > max)
        bora_schema_fail(s, BORA_E_INVAL, "'minLength' is over 'maxLength'");
    else if (pattern && format)
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'format' beside 'pattern' is not supported");
    else if ((pattern || format) && has_length)
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'%s' beside '%s' is not supported",
                         json_object_get(schema, "minLength") ? "minLength" : "maxLength",
                         pattern ? "pattern" : "format");
    else if (pattern)
        emit_pattern(s, json_string_value(pattern), json_string_length(pattern), from, to);
    else if (format && !bora_format_pattern(json_string_value(format)))
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "format '%.80s' is not supported", json_string_value(format));
    else if (format)
        emit_pattern(s, bora_format_pattern(json_string_value(format)),
                     strlen(bora_format_pattern(json_string_value(format))), from, to);
    else
        bora_json_string(&s->json, min, max, from, to);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

#define INTEGER_MAX ((int64_t)999999999999999999) /* BORA_INTEGER_DIGITS nines */

/* A bound among integers: what is left of it after rounding towards the allowed side. False: nothing is left. */
static bool integer_bound(const json_t *value, bool is_exclusive, bool is_min, int64_t *bound)
{
    int64_t rounded = 0;
    if (json_is_integer(value)) {
        rounded = json_integer_value(value);
    } else {
        double real = json_real_value(value);
        double whole = is_min ? ceil(real) : floor(real);
        if (fabs(whole) > 1e18) {
            if ((whole > 0) == is_min)
                return false;
            return true; /* no bound at all for numbers of this length */
        }
        rounded = (int64_t)whole;
        is_exclusive = is_exclusive && whole == real;
    }
    if (rounded > INTEGER_MAX || rounded < -INTEGER_MAX)
        return (rounded > 0) != is_min;
    rounded += is_exclusive ? is_min ? 1 : -1 : 0;
    if (is_min ? rounded > *bound : rounded < *bound)
        *bound = rounded;
    return true;
}

static void emit_integers(bora_schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
    static const char *const keys[] = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"};
    int64_t lo = -INTEGER_MAX, hi = INTEGER_MAX;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        const json_t *value = json_object_get(schema, keys[i]);
        if (value && !integer_bound(value, i % 2 == 1, i < 2, i < 2 ? &lo : &hi)) {
            bora_schema_fail(s, BORA_E_LIMIT, "'%s' leaves no integer of %u digits", keys[i], BORA_INTEGER_DIGITS);
            return;
        }
    }
    const json_t *multiple = json_object_get(schema, "multipleOf");
    double of = multiple ? json_number_value(multiple) : 1.0;
    if (of != floor(of)) {
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'multipleOf' other than a whole number is not supported");
        return;
    }
    if (of > BORA_MULTIPLE_OF_MAX) {
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'multipleOf' over %u is not supported", BORA_MULTIPLE_OF_MAX);
        return;
    }
    if (lo <= hi)
        bora_integers_emit(&s->builder, lo, hi, (uint32_t)of, from, to);
}

/* The tighter of two bounds into *bound. */
static bool number_bound(bora_schema *s, const json_t *value, const char *key, bool is_exclusive, bool is_min,
                         double *limit, bora_bound *bound)
{
    double real = json_number_value(value);
    bool tighter = !bound->is_set || (is_min ? real > *limit : real < *limit) || (real == *limit && is_exclusive);
    if (!tighter)
        return true;
    bora_decimal decimal;
    bool exact = !json_is_integer(value) ||
                 (json_integer_value(value) < 1000000000000000 && json_integer_value(value) > -1000000000000000);
    if (!exact || !bora_decimal_read(real, &decimal)) {
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'%s' of more than %u digits is not supported", key,
                         BORA_NUMBER_DIGITS);
        return false;
    }
    *limit = real;
    *bound = (bora_bound){.is_set = true, .is_exclusive = is_exclusive, .value = decimal};
    return true;
}

void bora_schema_number(bora_schema *s, const json_t *schema, uint32_t types, uint32_t from, uint32_t to)
{
    static const char *const keys[] = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"};
    bora_bound bounds[2] = {{.is_set = false}, {.is_set = false}};
    double limits[2] = {0, 0};
    const json_t *multiple = json_object_get(schema, "multipleOf");
    if (multiple && !(json_is_number(multiple) && json_number_value(multiple) > 0)) {
        bora_schema_fail(s, BORA_E_INVAL, "'multipleOf' is not a number over 0");
        return;
    }
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        const json_t *value = json_object_get(schema, keys[i]);
        if (value && !json_is_number(value)) {
            bora_schema_fail(s, BORA_E_INVAL, "'%s' is not a number", keys[i]);
            return;
        }
    }
    if (types == BORA_TYPE_INTEGER || multiple) { /* a multiple of a whole number is one */
        emit_integers(s, schema, from, to);
        return;
    }
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        const json_t *value = json_object_get(schema, keys[i]);
        if (value && !number_bound(s, value, keys[i], i % 2 == 1, i < 2, &limits[i / 2], &bounds[i / 2]))
            return;
    }
    if (bounds[0].is_set || bounds[1].is_set)
        bora_numbers_emit(&s->builder, &bounds[0], &bounds[1], from, to);
    else
        bora_json_number(&s->json, from, to);
}
