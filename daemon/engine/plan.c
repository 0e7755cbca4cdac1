#include "engine/plan.h"

#include <stdbool.h>

#define ANSWERS            0u
#define PROMPTS            1u
#define BACKGROUND_ANSWERS 2u
#define BACKGROUND_PROMPTS 3u

/* Which items a pass looks at. */
typedef struct pass {
    bool decoding, prompts, background, others;
} pass;

/* A step in the making. */
typedef struct draft {
    const bora_plan_limits *limits;
    bool is_single; /* no room for two rows or items: answers and prompts are one kind */
    bora_plan_served *served;
    size_t n_owners;
    bora_plan_item *items;
    size_t n;
    uint32_t n_items, n_rows, n_prompt; /* what is left */
    uint64_t turn;                      /* the last that was given */
} draft;

static bool fits(const bora_plan_item *item, const pass *which)
{
    return item->n_rows == 0 && item->n_left > 0 && (item->is_decoding ? which->decoding : which->prompts) &&
           (item->is_background ? which->background : which->others);
}

static uint32_t kind_of(const draft *plan, const bora_plan_item *item)
{
    bool is_answer = item->is_decoding || plan->is_single;
    if (item->is_background)
        return is_answer ? BACKGROUND_ANSWERS : BACKGROUND_PROMPTS;
    return is_answer ? ANSWERS : PROMPTS;
}

static uint64_t *served_of(const draft *plan, const bora_plan_item *item)
{
    return &plan->served[item->owner].rows[kind_of(plan, item)];
}

/* The owner that was served least, then the item that waited longest, then the first. The items of a pass are of one
 * kind. */
static bora_plan_item *next_item(const draft *plan, const pass *which)
{
    bora_plan_item *best = NULL;
    uint64_t best_served = 0;
    for (size_t i = 0; i < plan->n; i++) {
        bora_plan_item *item = &plan->items[i];
        if (!fits(item, which))
            continue;
        uint64_t served = *served_of(plan, item);
        if (!best || served < best_served || (served == best_served && item->last_turn < best->last_turn)) {
            best = item;
            best_served = served;
        }
    }
    return best;
}

static uint32_t least(size_t a, uint32_t b)
{
    return a < b ? (uint32_t)a : b;
}

/* Rows that an item can have in a step. */
static uint32_t wants(const draft *plan, const bora_plan_item *item)
{
    return least(item->n_left, item->is_decoding ? 1 : plan->limits->chunk);
}

/* Gives rows to at most n_max items. */
static void run_pass(draft *plan, const pass *which, uint32_t n_max)
{
    for (uint32_t n = 0; n < n_max && plan->n_items > 0 && plan->n_rows > 0; n++) {
        pass now = *which;
        now.prompts = now.prompts && plan->n_prompt > 0;
        bora_plan_item *item = next_item(plan, &now);
        if (!item)
            break;
        uint32_t rows = least(wants(plan, item), plan->n_rows);
        if (!item->is_decoding)
            rows = least(rows, plan->n_prompt);
        item->n_rows = rows;
        item->last_turn = ++plan->turn;
        *served_of(plan, item) += rows;
        plan->n_items--;
        plan->n_rows -= rows;
        plan->n_prompt -= item->is_decoding ? 0 : rows;
    }
}

static bool any(const draft *plan, const pass *which)
{
    for (size_t i = 0; i < plan->n; i++)
        if (fits(&plan->items[i], which))
            return true;
    return false;
}

static bool is_short(const draft *plan, size_t owner, uint32_t kind)
{
    for (size_t i = 0; i < plan->n; i++) {
        const bora_plan_item *item = &plan->items[i];
        if (item->owner == owner && kind_of(plan, item) == kind && item->n_rows < wants(plan, item))
            return true;
    }
    return false;
}

/* Owners that had all they wanted of a kind catch up with the one served least of those that had not; with the one
 * served most if there are none such. */
static void forget_savings(const draft *plan, uint32_t kind)
{
    uint64_t level = UINT64_MAX, most = 0;
    for (size_t i = 0; i < plan->n_owners; i++) {
        uint64_t rows = plan->served[i].rows[kind];
        most = rows > most ? rows : most;
        if (rows < level && is_short(plan, i, kind))
            level = rows;
    }
    level = level < most ? level : most;
    for (size_t i = 0; i < plan->n_owners; i++) {
        uint64_t *rows = &plan->served[i].rows[kind];
        if (*rows < level) /* then it is not short, or it would be the level */
            *rows = level;
    }
}

static void give_rows(draft *plan, uint64_t step)
{
    static const pass background = {true, true, true, false};
    static const pass background_decoding = {true, false, true, false};
    static const pass background_prompts = {false, true, true, false};
    static const pass others = {true, true, false, true};
    static const pass decoding = {true, false, false, true};
    static const pass prompts = {false, true, false, true};
    const bool is_turn = step % BORA_PLAN_BACKGROUND_EVERY == 0;
    if (plan->is_single) {
        run_pass(plan, is_turn ? &background : &others, 1);
        run_pass(plan, is_turn ? &others : &background, 1);
        return;
    }
    if (is_turn) { /* answers and prompts alternate, where there are both */
        bool is_answers = step / BORA_PLAN_BACKGROUND_EVERY % 2 == 0;
        if (!any(plan, is_answers ? &background_decoding : &background_prompts))
            is_answers = !is_answers;
        run_pass(plan, is_answers ? &background_decoding : &background_prompts, 1);
    }
    /* A place and a row stay free for a prompt, lest those that decode keep it out. */
    uint32_t kept = plan->n_items > 0 && plan->n_rows > 0 && plan->n_prompt > 0 && any(plan, &prompts);
    plan->n_items -= kept;
    plan->n_rows -= kept;
    run_pass(plan, &decoding, UINT32_MAX);
    plan->n_items += kept;
    plan->n_rows += kept;
    run_pass(plan, &prompts, UINT32_MAX);
    run_pass(plan, &background_decoding, UINT32_MAX);
    run_pass(plan, &background_prompts, UINT32_MAX);
}

void bora_plan_step(const bora_plan_limits *limits, uint64_t step, bora_plan_served *served, size_t n_owners,
                    bora_plan_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        items[i].n_rows = 0;
    draft plan = {
        .limits = limits,
        .is_single = limits->n_items == 1 || limits->n_rows == 1,
        .served = served,
        .n_owners = n_owners,
        .items = items,
        .n = n,
        .n_items = limits->n_items,
        .n_rows = limits->n_rows,
        .n_prompt = limits->n_prompt,
        .turn = step << 16, /* a step has at most 65536 rows */
    };
    give_rows(&plan, step);
    for (uint32_t kind = 0; kind < BORA_PLAN_KINDS; kind++)
        forget_savings(&plan, kind);
}
