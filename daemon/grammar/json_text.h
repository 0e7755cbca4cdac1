/* How JSON is written in an answer: private to the layer.
 *
 * Between its signs there may be nothing, one space, or a new line with up to BORA_JSON_INDENT_MAX spaces; after a
 * colon nothing or one space; nothing around the whole. So a model may write in one line or indented, and cannot write
 * spaces for ever. Strings may use every escape JSON has; keys and fixed values have one spelling. */
#ifndef BORA_GRAMMAR_JSON_TEXT_H
#define BORA_GRAMMAR_JSON_TEXT_H

#include "grammar/characters.h"

#include <jansson.h>

#define BORA_JSON_INDENT_MAX 32u
#define BORA_JSON_KEY_MAX    1024u /* bytes */

/* Rules that every schema shares; made when first used. */
typedef struct bora_json_rules {
    bora_builder *builder;
    uint32_t space;     /* plus 1; 0: not made */
    uint32_t character; /* one character of a string, plus 1 */
    uint32_t number;    /* plus 1 */
    uint32_t key_any;   /* one character of a key in its one spelling, plus 1 */
    uint32_t key_wide;  /* one of those that ASCII does not print, plus 1 */
} bora_json_rules;

/* Makes a rule if *known is 0; true: it was just made and needs its edges. */
bool bora_json_rule_once(bora_json_rules *json, uint32_t *known, bora_build_rule *ret_rule);

void bora_json_space(bora_json_rules *json, uint32_t from, uint32_t to);
void bora_json_after_colon(bora_json_rules *json, uint32_t from, uint32_t to);
/* A string of min to max characters (BORA_REPEAT_UNBOUNDED: any number), quotes included. */
void bora_json_string(bora_json_rules *json, uint32_t min, uint32_t max, uint32_t from, uint32_t to);
/* Any number, with an exponent of two digits at most. */
void bora_json_number(bora_json_rules *json, uint32_t from, uint32_t to);
/* The object's key, quotes included. */
void bora_json_key(bora_json_rules *json, const char *key, size_t size, uint32_t from, uint32_t to);
/* A key that is none of keys (BORA_JSON_KEY_MAX bytes each), quotes included. */
void bora_json_other_key(bora_json_rules *json, const char *const *keys, const size_t *sizes, size_t n, uint32_t from,
                         uint32_t to);
/* Exactly this value. Scalars share beginnings with others added at from. */
void bora_json_value(bora_json_rules *json, const json_t *value, uint32_t from, uint32_t to);

#endif
