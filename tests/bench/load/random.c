#include "random.h"

/* The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t bora_load_random(const bora_load_key *key, uint64_t purpose)
{
    return mix(mix(mix(mix(key->seed) ^ key->client) ^ key->request) ^ purpose);
}

uint32_t bora_load_random_below(const bora_load_key *key, uint64_t purpose, uint32_t n)
{
    return (uint32_t)(((bora_load_random(key, purpose) >> 32) * n) >> 32);
}

uint32_t bora_load_random_between(const bora_load_key *key, uint64_t purpose, uint32_t first, uint32_t last)
{
    uint64_t n = (uint64_t)last - first + 1;
    return first + (uint32_t)(((bora_load_random(key, purpose) >> 32) * n) >> 32);
}

double bora_load_random_share(const bora_load_key *key, uint64_t purpose)
{
    return (double)(bora_load_random(key, purpose) >> 11) * 0x1p-53;
}
