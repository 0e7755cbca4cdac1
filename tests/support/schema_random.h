/* Random JSON schemas of every keyword that daemon/grammar knows, and random documents that fit them, written in every
 * way the grammar allows. The same seed gives the same. */
#ifndef BORA_TESTS_SCHEMA_RANDOM_H
#define BORA_TESTS_SCHEMA_RANDOM_H

#include <jansson.h>

#include <stdint.h>

/* Uniform below n; moves the seed on. */
uint32_t bora_random_below(uint64_t *seed, uint32_t n);

/* A new schema. It may be recursive, but always has finite documents. */
json_t *bora_schema_random(uint64_t *seed);
/* A new text (free) that fits a schema which bora_schema_random made. */
char *bora_schema_document(const json_t *root, uint64_t *seed);

#endif
