#include "plan.h"

#include "random.h"

#include <stdio.h>
#include <stdlib.h>

#define COMMON_WORDS  240u /* several pages of 64 positions */
#define PAUSE_MIN     500u
#define PAUSE_MAX     3000u
#define LOOKS         0.1 /* share of requests after which a client looks around */
#define COMMON_ONE_IN 16u /* prompts is the one with the common beginning */

/* Keys that belong to a text, not to a client: none has such a number. */
#define KEY_PROMPT    (UINT64_C(1) << 40)
#define KEY_SCRIPT    (UINT64_C(2) << 40)
#define KEY_COMMON    (UINT64_C(3) << 40)

static const char *const words[] = {"red",   "green",  "blue",  "bread",  "river",  "garden", "house",
                                    "bird",  "stone",  "table", "winter", "summer", "seven",  "three",
                                    "walks", "sleeps", "reads", "the",    "a",      "and",    "on",
                                    "under", "beside", "bear",  "fox",    "dog",    "book",   "letter",
                                    "train", "city",   "small", "old",    "quick"};

#define N_WORDS (uint32_t)(sizeof words / sizeof words[0])

void bora_load_plan_make(const bora_load_options *options, uint32_t client, uint32_t request, bora_load_plan *ret_plan)
{
    const bora_load_options *o = options;
    const bora_load_key key = {o->seed, client, request};
    bora_load_plan plan = {.churn = BORA_LOAD_CHURN_NONE};
    uint32_t sum = 0, length = 0;
    for (uint32_t i = 0; i < o->n_lengths; i++)
        sum += o->lengths[i].weight;
    uint32_t mark = bora_load_random_below(&key, BORA_LOAD_FOR_LENGTH, sum);
    for (; mark >= o->lengths[length].weight; length++)
        mark -= o->lengths[length].weight;

    double share = bora_load_random_share(&key, BORA_LOAD_FOR_CHURN);
    for (int kind = 0; kind < BORA_LOAD_CHURN_NONE && plan.churn == BORA_LOAD_CHURN_NONE; kind++) {
        if (share < o->churn[kind])
            plan.churn = kind;
        share -= o->churn[kind];
    }
    plan.think_ms = bora_load_random_between(&key, BORA_LOAD_FOR_THINK, o->think_min, o->think_max);
    plan.pause_ms = bora_load_random_between(&key, BORA_LOAD_FOR_STOP, PAUSE_MIN, PAUSE_MAX);
    plan.in_session = bora_load_random_share(&key, BORA_LOAD_FOR_SESSION) < o->sessions;
    plan.is_background = bora_load_random_share(&key, BORA_LOAD_FOR_PRIORITY) < o->background;
    plan.looks_around = bora_load_random_share(&key, BORA_LOAD_FOR_LOOK) < LOOKS;
    plan.script = bora_load_random_below(&key, BORA_LOAD_FOR_SCRIPT, BORA_LOAD_SCRIPTS);
    plan.prompt = length * BORA_LOAD_VARIANTS + bora_load_random_below(&key, BORA_LOAD_FOR_VARIANT, BORA_LOAD_VARIANTS);
    if (bora_load_random_below(&key, BORA_LOAD_FOR_SCRIPT, COMMON_ONE_IN) == 0)
        plan.prompt = bora_load_common_prompt(o);
    plan.max_tokens = bora_load_random_between(&key, BORA_LOAD_FOR_TOKENS, o->max_tokens_min, o->max_tokens_max);
    plan.n_before = bora_load_random_below(&key, BORA_LOAD_FOR_STOP, plan.max_tokens);
    *ret_plan = plan;
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

uint32_t bora_load_n_prompts(const bora_load_options *options)
{
    return options->n_lengths * BORA_LOAD_VARIANTS + 1;
}

uint32_t bora_load_common_prompt(const bora_load_options *options)
{
    return options->n_lengths * BORA_LOAD_VARIANTS;
}

bool bora_load_prompt_is_raw(uint32_t prompt)
{
    return prompt % 2 == 1;
}

static void write_words(FILE *out, uint64_t seed, uint64_t client, uint64_t first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const bora_load_key key = {seed, client, first + i};
        (void)fprintf(out, "%s%s", i ? " " : "", words[bora_load_random_below(&key, BORA_LOAD_FOR_WORDS, N_WORDS)]);
    }
}

static void write_secret(FILE *out, const bora_load_secret *secret)
{
    for (uint32_t g = 0; g < BORA_LOAD_SECRET_GROUPS; g++)
        (void)fprintf(out, " %s", secret->groups[g]);
}

char *bora_load_prompt_text(const bora_load_options *options, const bora_load_secret *secret, uint32_t owner,
                            uint32_t prompt)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    bool is_common = prompt == bora_load_common_prompt(options);
    uint32_t n = is_common ? COMMON_WORDS : options->lengths[prompt / BORA_LOAD_VARIANTS].n_words;
    uint64_t client = is_common ? KEY_COMMON : KEY_PROMPT + owner;
    write_words(out, options->seed, client, (uint64_t)prompt << 20, n);
    (void)fprintf(out, ". The code of owner %u is", owner);
    write_secret(out, secret);
    (void)fputs(bora_load_prompt_is_raw(prompt) ? ". The code of" : ". What is the code?", out);
    bool written = !ferror(out);
    if (fclose(out) == 0 && written)
        return text;
    free(text);
    return NULL;
}

char *bora_load_turn_text(const bora_load_options *options, const bora_load_secret *secret, uint32_t owner,
                          uint32_t script, uint32_t turn)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    uint32_t number = script * BORA_LOAD_TURNS + turn;
    const bora_load_key key = {options->seed, KEY_SCRIPT + owner, number};
    if (turn == 0) {
        (void)fprintf(out, "Keep this code of owner %u for me:", owner);
        write_secret(out, secret);
        (void)fputs(". ", out);
    }
    write_words(out, options->seed, KEY_SCRIPT + owner, (uint64_t)number << 20,
                bora_load_random_between(&key, BORA_LOAD_FOR_LENGTH, 4, 20));
    (void)fputs(turn + 1 == BORA_LOAD_TURNS ? ". Which code was it?" : ".", out);
    bool written = !ferror(out);
    if (fclose(out) == 0 && written)
        return text;
    free(text);
    return NULL;
}

uint32_t bora_load_turn_tokens(const bora_load_options *options, uint32_t script, uint32_t turn)
{
    const bora_load_key key = {options->seed, KEY_SCRIPT, script * BORA_LOAD_TURNS + turn};
    return bora_load_random_between(&key, BORA_LOAD_FOR_TOKENS, options->max_tokens_min, options->max_tokens_max);
}
