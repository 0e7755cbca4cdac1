/* Whether a JSON value is what a schema asks for: written for tests from the standard, by other means than the compiler
 * in daemon/grammar (values are compared, patterns are PCRE2's, addresses are the C library's). */
#ifndef BORA_TESTS_SCHEMA_CHECK_H
#define BORA_TESTS_SCHEMA_CHECK_H

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>

/* root: what references refer to. why: the keyword and value that do not agree. A keyword it does not know ends the
 * test's trust in it: false. */
bool bora_schema_check(const json_t *root, const json_t *schema, const json_t *value, char *why, size_t why_size);

#endif
