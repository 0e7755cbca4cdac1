/* What the files of the schema compiler share.
 *
 *   schema.c           the queue of schemas, what refers to others, types; each becomes a rule of its own
 *   schema_keywords.c  which keywords there are
 *   schema_object.c    properties        schema_scalar.c  strings and numbers        formats.c  named patterns */
#ifndef BORA_GRAMMAR_SCHEMA_PRIVATE_H
#define BORA_GRAMMAR_SCHEMA_PRIVATE_H

#include "grammar/json_text.h"

/* Sets of types. A number is an integer or not. */
#define BORA_TYPE_NULL     1u
#define BORA_TYPE_BOOLEAN  2u
#define BORA_TYPE_OBJECT   4u
#define BORA_TYPE_ARRAY    8u
#define BORA_TYPE_STRING   16u
#define BORA_TYPE_INTEGER  32u
#define BORA_TYPE_FRACTION 64u
#define BORA_TYPE_NUMBER   (BORA_TYPE_INTEGER | BORA_TYPE_FRACTION)
#define BORA_TYPE_ALL      127u

/* One schema that becomes a rule: where it is, which types it is asked for. */
typedef struct bora_schema_part {
    const json_t *schema; /* borrowed from the root */
    uint32_t types;
    uint32_t rule;
    uint32_t parent;  /* where it was met first; BORA_NONE: the root, or what a reference names */
    const char *word; /* "properties", "items" ..., or the reference; borrowed */
    const char *key;  /* of properties; NULL */
    size_t index;     /* of anyOf ...; SIZE_MAX: none */
    uint32_t next;    /* of the same hash */
} bora_schema_part;

typedef struct bora_schema {
    bora_builder builder;
    bora_json_rules json;
    json_t *root;
    bora_schema_part *parts; /* [n_parts] a queue: those before at are done */
    size_t n_parts, capacity, at;
    uint32_t buckets[4096]; /* of parts by schema; BORA_NONE */
} bora_schema;

/* Fails builder with the place of the part at work before the message. */
__attribute__((format(printf, 3, 4))) void bora_schema_fail(bora_schema *s, bora_status status, const char *format,
                                                            ...);

/* The rule of a schema for these types, queued when it is new. key may be NULL, index SIZE_MAX. */
uint32_t bora_schema_rule(bora_schema *s, const json_t *schema, uint32_t types, const char *word, const char *key,
                          size_t index);

/* ---- keywords ---- */

/* The types whose keywords an object has; fails for a keyword that is not known, or that stands beside one that it
 * cannot be combined with. */
uint32_t bora_schema_keywords(bora_schema *s, const json_t *schema);
/* A keyword that is a whole number from 0 on; or_else if it is not there. Over UINT32_MAX - 1: LIMIT. */
uint32_t bora_schema_count(bora_schema *s, const json_t *schema, const char *key, uint32_t or_else);

/* ---- types: the edges of one, from and to ---- */

void bora_schema_object(bora_schema *s, const json_t *schema, uint32_t from, uint32_t to);
void bora_schema_string(bora_schema *s, const json_t *schema, uint32_t from, uint32_t to);
/* types: BORA_TYPE_INTEGER or BORA_TYPE_NUMBER. */
void bora_schema_number(bora_schema *s, const json_t *schema, uint32_t types, uint32_t from, uint32_t to);

/* The pattern of a format, anchored; NULL if there is none of that name. */
const char *bora_format_pattern(const char *name);

#endif
