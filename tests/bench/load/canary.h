/* Secrets: each owner's prompts hold a code of its own. What somebody else is given must not have any part of it. */
#ifndef BORA_LOAD_CANARY_H
#define BORA_LOAD_CANARY_H

#include "options.h"

#include <bora/client.h>

#define BORA_LOAD_SECRET_GROUPS 2
#define BORA_LOAD_SECRET_GROUP  6 /* characters: of 32^6 codes none comes about by chance */
#define BORA_LOAD_NOBODY        UINT32_MAX

typedef struct bora_load_secret {
    char groups[BORA_LOAD_SECRET_GROUPS][BORA_LOAD_SECRET_GROUP + 1];
} bora_load_secret;

typedef struct bora_load_canary {
    uint32_t n_owners, owner; /* who looks: all secrets but its own are foreign; BORA_LOAD_NOBODY has none */
    bora_load_secret secrets[BORA_LOAD_OWNERS_MAX];
} bora_load_canary;

void bora_load_canary_init(bora_load_canary *canary, uint64_t seed, uint32_t n_owners, uint32_t owner);
/* Whose secret, or any group of it, a text holds; NOBODY if no foreign one. */
uint32_t bora_load_canary_in_text(const bora_load_canary *canary, const char *text, size_t size);
/* The same of every text in a value the daemon sent, keys included. */
uint32_t bora_load_canary_in_value(const bora_load_canary *canary, const bora_client_value *value);
/* True if a text holds a group of the looker's own secret: what was said could have been overheard. */
bool bora_load_canary_own(const bora_load_canary *canary, const char *text, size_t size);

#endif
