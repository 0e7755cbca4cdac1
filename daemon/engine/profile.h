/* Where the time of forward passes goes: nanoseconds per kind of work, added up since the pipeline was made. */
#ifndef BORA_ENGINE_PROFILE_H
#define BORA_ENGINE_PROFILE_H

#include <stdint.h>

#define BORA_PROFILE_EMBEDDINGS 0u
#define BORA_PROFILE_NORMS      1u /* norms and adding to the residual */
#define BORA_PROFILE_QKV        2u
#define BORA_PROFILE_ROPE       3u
#define BORA_PROFILE_APPEND     4u /* keys and values into the cache */
#define BORA_PROFILE_ATTENTION  5u
#define BORA_PROFILE_WO         6u
#define BORA_PROFILE_ROUTER     7u
#define BORA_PROFILE_EXPERTS    8u
#define BORA_PROFILE_OUTPUT     9u /* the last norm and the logits */
#define BORA_PROFILE_COUNT      10u

typedef struct bora_profile {
    uint64_t ns[BORA_PROFILE_COUNT]; /* over all stages, which work at once */
} bora_profile;

/* "embeddings", "norms" ... kind < BORA_PROFILE_COUNT. */
const char *bora_profile_name(uint32_t kind);

#endif
