/* Random numbers without a state: each is a function of seed, client, request and purpose. A run can so be repeated,
 * whatever order its clients get their turns in. */
#ifndef BORA_LOAD_RANDOM_H
#define BORA_LOAD_RANDOM_H

#include <stdint.h>

/* What a number is for: two choices of one request must not depend on each other. */
enum {
    BORA_LOAD_FOR_THINK = 1,
    BORA_LOAD_FOR_LENGTH,
    BORA_LOAD_FOR_VARIANT,
    BORA_LOAD_FOR_TOKENS,
    BORA_LOAD_FOR_SESSION,
    BORA_LOAD_FOR_SCRIPT,
    BORA_LOAD_FOR_CHURN,
    BORA_LOAD_FOR_STOP,
    BORA_LOAD_FOR_PRIORITY,
    BORA_LOAD_FOR_LOOK,
    BORA_LOAD_FOR_WORDS,
    BORA_LOAD_FOR_SECRET
};

typedef struct bora_load_key {
    uint64_t seed, client, request;
} bora_load_key;

uint64_t bora_load_random(const bora_load_key *key, uint64_t purpose);
/* From 0 to below n; n > 0. */
uint32_t bora_load_random_below(const bora_load_key *key, uint64_t purpose, uint32_t n);
/* From first to last, both included. */
uint32_t bora_load_random_between(const bora_load_key *key, uint64_t purpose, uint32_t first, uint32_t last);
/* From 0 to below 1. */
double bora_load_random_share(const bora_load_key *key, uint64_t purpose);

#endif
