/* How many prompt rows a step may take, so that those who decode do not wait long for it.
 *
 * Learns from the steps that were run how long one of so many rows takes, and follows the machine as it gets faster and
 * slower. That is no straight line: rows that fit beside the reading of the weights are nearly free, and one more than
 * a tile of the matrix product holds can cost as much as many. Among the numbers of rows that keep within the limit the
 * one is taken with which prompts get on fastest. */
#ifndef BORA_ENGINE_PACE_H
#define BORA_ENGINE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define BORA_PACE_FLOOR_NS UINT64_C(50000000)   /* steps up to this are never too long */
#define BORA_PACE_ALONE_NS UINT64_C(1000000000) /* of a step of prompts alone: whoever comes meanwhile waits for it */
#define BORA_PACE_ROWS_MIN 128u                 /* of such a step: fewer would waste the reading of the weights */

#define BORA_PACE_EXACT    64u /* rows up to which each number has a time of its own */
#define BORA_PACE_STRIDE   16u /* after that each so many */
#define BORA_PACE_TIMES    320u
#define BORA_PACE_AGE_MAX  48u /* steps after which a time is not believed any more */

/* All zero: nothing is known. */
typedef struct bora_pace {
    double decode_ns;       /* a step without prompt rows */
    uint64_t decode_learnt; /* number of the last such step */
    double row_ns;          /* what a row adds to a step that is larger than any that is known */
    double alone_ns;        /* what each prompt row takes in a step without others */
    struct {
        double ns;       /* a step of so many rows in which somebody decodes; 0: not known */
        uint64_t learnt; /* number of the step */
    } times[BORA_PACE_TIMES];
    uint64_t n_steps; /* learnt from */
} bora_pace;

/* A step of n_decoding and n_prompt rows took ns. */
void bora_pace_learn(bora_pace *pace, uint32_t n_decoding, uint32_t n_prompt, uint64_t ns);
/* Whether the next step, in which n_decoding decode, should be one without prompts: the limit goes by what such steps
 * take, and while prompts come one after the other there would be none for minutes. */
bool bora_pace_is_due(const bora_pace *pace, uint32_t n_decoding, uint64_t max_step_ns);
/* What a step may take in which somebody decodes: max_step_ns; without it (0) 1.8 times a step without prompts, at
 * least BORA_PACE_FLOOR_NS. */
uint64_t bora_pace_limit(const bora_pace *pace, uint64_t max_step_ns);
/* Prompt rows for the next step, 1 .. n_max. */
uint32_t bora_pace_rows(const bora_pace *pace, uint32_t n_decoding, uint64_t max_step_ns, uint32_t n_max);

#endif
