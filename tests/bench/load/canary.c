#include "canary.h"

#include "random.h"

#include <string.h>

#define DEPTH_MAX 16 /* the protocol allows half of it */

void bora_load_canary_init(bora_load_canary *canary, uint64_t seed, uint32_t n_owners, uint32_t owner)
{
    static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"; /* 32, none looks like another */
    *canary = (bora_load_canary){.n_owners = n_owners, .owner = owner};
    for (uint32_t i = 0; i < n_owners; i++)
        for (uint32_t g = 0; g < BORA_LOAD_SECRET_GROUPS; g++)
            for (uint32_t at = 0; at < BORA_LOAD_SECRET_GROUP; at++) {
                const bora_load_key key = {seed, i, g * BORA_LOAD_SECRET_GROUP + at};
                canary->secrets[i].groups[g][at] = letters[bora_load_random_below(&key, BORA_LOAD_FOR_SECRET, 32)];
            }
}

static bool holds(const bora_load_secret *secret, const char *text, size_t size)
{
    for (uint32_t g = 0; size > 0 && g < BORA_LOAD_SECRET_GROUPS; g++) /* an empty text may be NULL */
        if (memmem(text, size, secret->groups[g], BORA_LOAD_SECRET_GROUP))
            return true;
    return false;
}

uint32_t bora_load_canary_in_text(const bora_load_canary *canary, const char *text, size_t size)
{
    for (uint32_t i = 0; i < canary->n_owners; i++)
        if (i != canary->owner && holds(&canary->secrets[i], text, size))
            return i;
    return BORA_LOAD_NOBODY;
}

static uint32_t search(const bora_load_canary *canary, const bora_client_value *value, unsigned depth)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    uint32_t owner = bora_load_canary_in_text(canary, text, size);
    for (uint32_t i = 0; depth < DEPTH_MAX && owner == BORA_LOAD_NOBODY && i < bora_client_value_count(value); i++) {
        owner = search(canary, bora_client_value_key(value, i), depth + 1);
        if (owner == BORA_LOAD_NOBODY)
            owner = search(canary, bora_client_value_at(value, i), depth + 1);
    }
    return owner;
}

uint32_t bora_load_canary_in_value(const bora_load_canary *canary, const bora_client_value *value)
{
    return search(canary, value, 0);
}

bool bora_load_canary_own(const bora_load_canary *canary, const char *text, size_t size)
{
    return canary->owner < canary->n_owners && holds(&canary->secrets[canary->owner], text, size);
}
