/* Random schemas for tests of masks, and whether what came out is one of their documents. */
#ifndef BORA_TESTS_SCHEMA_FIXTURE_H
#define BORA_TESTS_SCHEMA_FIXTURE_H

#include "support/schema_check.h"
#include "support/schema_random.h"
#include "vocabulary_fixture.h"

static inline bora_grammar *random_grammar(uint64_t *seed, json_t **ret_schema)
{
    *ret_schema = bora_schema_random(seed);
    assert_non_null(*ret_schema);
    char *text = json_dumps(*ret_schema, JSON_COMPACT);
    bora_grammar *grammar = schema_compile(text);
    free(text);
    return grammar;
}

/* The text is JSON and fits the schema. */
static inline void must_fit(const json_t *schema, const char *text, size_t size, const char *where)
{
    char why[512];
    json_error_t error;
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY, &error);
    char *source = json_dumps(schema, JSON_COMPACT);
    if (!value)
        fail_msg("%s: not JSON (%s): %.*s\n%s", where, error.text, (int)size, text, source);
    if (!bora_schema_check(schema, schema, value, why, sizeof why))
        fail_msg("%s: %s\n%.*s\n%s", where, why, (int)size, text, source);
    free(source);
    json_decref(value);
}

#endif
