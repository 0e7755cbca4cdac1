#include "engine/profile.h"

const char *bora_profile_name(uint32_t kind)
{
    static const char *const names[BORA_PROFILE_COUNT] = {
        "embeddings", "norms", "qkv", "rope", "append", "attention", "wo", "router", "experts", "output",
    };
    return kind < BORA_PROFILE_COUNT ? names[kind] : "?";
}
