/* Who gets rows in the next step. A pure function of what is there, so that fairness can be tested without a model.
 *
 * Each step takes one row of everything that decodes, then prompt rows within a budget. Where there are more than fit,
 * the owner that was served least comes first, and within an owner whoever waited longest (start-time fair queueing:
 * Goyal, Vin and Cheng 1996, with rows for bytes). What runs in the background gets what the others leave, and once in
 * BORA_PLAN_BACKGROUND_EVERY steps a place before them.
 *
 * Rows of prompts and of answers, and of the background, are counted apart: an owner whose prompt is given many rows in
 * the place that is kept for prompts does not wait with its answers until all others have had as many. An owner that
 * wants less than its share saves nothing up: it stands where those stand who want more. */
#ifndef BORA_ENGINE_PLAN_H
#define BORA_ENGINE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BORA_PLAN_BACKGROUND_EVERY 8u
#define BORA_PLAN_KINDS            4u

/* Rows that an owner was given, by kind: answers, prompts, and both in the background. */
typedef struct bora_plan_served {
    uint64_t rows[BORA_PLAN_KINDS];
} bora_plan_served;

typedef struct bora_plan_item {
    uint32_t owner; /* 0 .. n_owners-1 */
    bool is_background;
    bool is_decoding;
    size_t n_left;      /* rows it has left: 1 when decoding */
    uint64_t last_turn; /* when it last had rows; out: when it has them now. Turns are numbered through all steps */
    uint32_t n_rows;    /* out: rows in this step; 0: none */
} bora_plan_item;

typedef struct bora_plan_limits {
    uint32_t n_items;  /* items in a step, at least 1 */
    uint32_t n_rows;   /* rows of a step, at least 1 */
    uint32_t n_prompt; /* of these, rows of prompts, at least 1 */
    uint32_t chunk;    /* prompt rows of one item, at least 1 */
} bora_plan_limits;

/* Fills in n_rows of items [n], and adds to served [n_owners]. step counts from 1. At least one item gets rows if there
 * is any. */
void bora_plan_step(const bora_plan_limits *limits, uint64_t step, bora_plan_served *served, size_t n_owners,
                    bora_plan_item *items, size_t n);

#endif
