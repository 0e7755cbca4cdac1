#include "grammar/schema_private.h"

#include <string.h>

#define KIND_NOTE      1u /* says nothing about values */
#define KIND_REFERENCE 2u /* the schema is another one: beside it, type alone is understood */
#define KIND_VALUES    4u /* the values are listed: likewise */
#define KIND_TYPED     8u /* about values of some types */

typedef struct keyword {
    const char *name;
    uint32_t kind;
    uint32_t types;
} keyword;

static const keyword keywords[] = {
    {"type", 0, 0},
    {"title", KIND_NOTE, 0},
    {"description", KIND_NOTE, 0},
    {"default", KIND_NOTE, 0},
    {"examples", KIND_NOTE, 0},
    {"deprecated", KIND_NOTE, 0},
    {"readOnly", KIND_NOTE, 0},
    {"writeOnly", KIND_NOTE, 0},
    {"$comment", KIND_NOTE, 0},
    {"$schema", KIND_NOTE, 0},
    {"$id", KIND_NOTE, 0},
    {"$defs", KIND_NOTE, 0},
    {"definitions", KIND_NOTE, 0},
    {"$ref", KIND_REFERENCE, 0},
    {"anyOf", KIND_REFERENCE, 0},
    {"allOf", KIND_REFERENCE, 0},
    {"enum", KIND_VALUES, 0},
    {"const", KIND_VALUES, 0},
    {"properties", KIND_TYPED, BORA_TYPE_OBJECT},
    {"required", KIND_TYPED, BORA_TYPE_OBJECT},
    {"additionalProperties", KIND_TYPED, BORA_TYPE_OBJECT},
    {"items", KIND_TYPED, BORA_TYPE_ARRAY},
    {"minItems", KIND_TYPED, BORA_TYPE_ARRAY},
    {"maxItems", KIND_TYPED, BORA_TYPE_ARRAY},
    {"pattern", KIND_TYPED, BORA_TYPE_STRING},
    {"format", KIND_TYPED, BORA_TYPE_STRING},
    {"minLength", KIND_TYPED, BORA_TYPE_STRING},
    {"maxLength", KIND_TYPED, BORA_TYPE_STRING},
    {"minimum", KIND_TYPED, BORA_TYPE_NUMBER},
    {"maximum", KIND_TYPED, BORA_TYPE_NUMBER},
    {"exclusiveMinimum", KIND_TYPED, BORA_TYPE_NUMBER},
    {"exclusiveMaximum", KIND_TYPED, BORA_TYPE_NUMBER},
    {"multipleOf", KIND_TYPED, BORA_TYPE_NUMBER},
};

static const keyword *keyword_find(const char *name)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keywords); i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

uint32_t bora_schema_keywords(bora_schema *s, const json_t *schema)
{
    const char *name, *reference = NULL, *values = NULL, *typed = NULL; /* the first of each kind */
    const char *second = NULL;                                          /* reference */
    json_t *value;
    uint32_t types = 0;
    json_object_foreach((json_t *)(uintptr_t)schema, name, value) /* jansson's iterator is not const, but reads only */
    {
        const keyword *k = keyword_find(name);
        if (!k) {
            bora_schema_fail(s, BORA_E_UNSUPPORTED, "keyword '%.80s' is not supported", name);
            return 0;
        }
        types |= k->types;
        second = k->kind == KIND_REFERENCE && reference && !second ? name : second;
        reference = k->kind == KIND_REFERENCE && !reference ? name : reference;
        values = k->kind == KIND_VALUES && !values ? name : values;
        typed = k->kind == KIND_TYPED && !typed ? name : typed;
    }
    const char *alone = reference ? reference : values, *other = second ? second : typed;
    if (!other && reference)
        other = values;
    if (alone && other)
        bora_schema_fail(s, BORA_E_UNSUPPORTED, "'%s' beside '%s' is not supported", other, alone);
    return types;
}

uint32_t bora_schema_count(bora_schema *s, const json_t *schema, const char *key, uint32_t or_else)
{
    const json_t *value = json_object_get(schema, key);
    if (!value)
        return or_else;
    double real = json_is_real(value) ? json_real_value(value) : 0.0;
    json_int_t count = json_is_integer(value) ? json_integer_value(value) : -1;
    if (json_is_real(value) && real >= 0.0 && real < 1e9 && real == (double)(json_int_t)real)
        count = (json_int_t)real;
    if (count < 0)
        bora_schema_fail(s, BORA_E_INVAL, "'%s' is not a whole number from 0 on", key);
    else if (count >= (json_int_t)UINT32_MAX)
        bora_schema_fail(s, BORA_E_LIMIT, "'%s' is too large", key);
    return count < 0 ? 0 : (uint32_t)count;
}
