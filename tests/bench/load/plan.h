/* What each client says and when: a pure function of the options, the client and the number of its request.
 *
 * The texts are few, so that each can be answered alone beforehand: per owner some prompts of every length, and some
 * conversations. All hold the owner's secret. */
#ifndef BORA_LOAD_PLAN_H
#define BORA_LOAD_PLAN_H

#include "canary.h"

#define BORA_LOAD_VARIANTS    4u /* prompts of each length */
#define BORA_LOAD_SCRIPTS     4u /* conversations */
#define BORA_LOAD_TURNS       4u /* of each */

/* One prompt more than the lengths have: it begins alike for all owners, past any page of a cache, and is the first
 * that each owner sends. */
#define BORA_LOAD_PROMPTS_MAX (BORA_LOAD_LENGTHS_MAX * BORA_LOAD_VARIANTS + 1)

typedef struct bora_load_plan {
    uint32_t think_ms;
    int churn;         /* BORA_LOAD_CHURN_... */
    uint32_t n_before; /* tokens until it is cancelled or the client vanishes; 0: at once */
    uint32_t pause_ms; /* for which a slow client does not read */
    bool in_session;   /* then a turn of the client's conversation, which script begins if there is none */
    bool is_background;
    bool looks_around;                   /* asks for lists and numbers afterwards */
    uint32_t script, prompt, max_tokens; /* max_tokens: of a prompt; turns have their own */
} bora_load_plan;

/* client: 0 to n_clients - 1 over all owners. */
void bora_load_plan_make(const bora_load_options *options, uint32_t client, uint32_t request, bora_load_plan *ret_plan);

uint32_t bora_load_n_prompts(const bora_load_options *options);
/* The number of the prompt with the common beginning. */
uint32_t bora_load_common_prompt(const bora_load_options *options);
/* A prompt is a raw completion past the end-of-text token, or a user's message. */
bool bora_load_prompt_is_raw(uint32_t prompt);
/* free(); NULL: no memory. */
char *bora_load_prompt_text(const bora_load_options *options, const bora_load_secret *secret, uint32_t owner,
                            uint32_t prompt);
char *bora_load_turn_text(const bora_load_options *options, const bora_load_secret *secret, uint32_t owner,
                          uint32_t script, uint32_t turn);
/* Tokens of a turn's answer: always the same, later turns depend on it. */
uint32_t bora_load_turn_tokens(const bora_load_options *options, uint32_t script, uint32_t turn);

#endif
