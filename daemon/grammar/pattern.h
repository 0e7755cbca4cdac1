/* Regular expressions as JSON schemas have them (ECMA 262), as far as they are regular: private to the layer. */
#ifndef BORA_GRAMMAR_PATTERN_H
#define BORA_GRAMMAR_PATTERN_H

#include "grammar/expression.h"

/* Reads a pattern into nodes of list. As the standard has it, what is not tied down by ^ and $ may have anything before
 * and after. Errors: INVAL (not an expression; with the byte), UNSUPPORTED (what is not regular or not read here, by
 * name), LIMIT, NOMEM. */
bora_status bora_pattern_read(const char *pattern, size_t size, bora_expressions *list, uint32_t *ret_node,
                              bora_error *err);

#endif
