#include "engine/plan.h"

/* Which items a pass looks at. */
typedef struct pass {
    bool decoding, prompts, background, others;
} pass;

typedef struct room {
    uint32_t n_items, n_rows, n_prompt;
    uint64_t turn; /* the last that was given */
} room;

static bool fits(const bora_plan_item *item, const pass *which)
{
    return item->n_rows == 0 && item->n_left > 0 && (item->is_decoding ? which->decoding : which->prompts) &&
           (item->is_background ? which->background : which->others);
}

/* The owner that was served least, then the item that waited longest, then the first. */
static bora_plan_item *next_item(const uint64_t *served, bora_plan_item *items, size_t n, const pass *which)
{
    bora_plan_item *best = NULL;
    for (size_t i = 0; i < n; i++) {
        bora_plan_item *item = &items[i];
        if (!fits(item, which))
            continue;
        if (!best || served[item->owner] < served[best->owner] ||
            (served[item->owner] == served[best->owner] && item->last_turn < best->last_turn))
            best = item;
    }
    return best;
}

static uint32_t least(size_t a, uint32_t b)
{
    return a < b ? (uint32_t)a : b;
}

/* Gives rows to at most n_max items; returns to how many. */
static uint32_t run_pass(const bora_plan_limits *limits, uint64_t *served, bora_plan_item *items, size_t n,
                         const pass *which, uint32_t n_max, room *left)
{
    uint32_t n_given = 0;
    while (n_given < n_max && left->n_items > 0 && left->n_rows > 0) {
        pass now = *which;
        now.prompts = now.prompts && left->n_prompt > 0;
        bora_plan_item *item = next_item(served, items, n, &now);
        if (!item)
            break;
        uint32_t rows = least(item->n_left, left->n_rows);
        if (!item->is_decoding)
            rows = least(least(rows, limits->chunk), left->n_prompt);
        item->n_rows = rows;
        item->last_turn = ++left->turn;
        served[item->owner] += rows;
        left->n_items--;
        left->n_rows -= rows;
        left->n_prompt -= item->is_decoding ? 0 : rows;
        n_given++;
    }
    return n_given;
}

static bool any(const bora_plan_item *items, size_t n, const pass *which)
{
    for (size_t i = 0; i < n; i++)
        if (fits(&items[i], which))
            return true;
    return false;
}

void bora_plan_step(const bora_plan_limits *limits, uint64_t step, uint64_t *served, bora_plan_item *items, size_t n)
{
    static const pass everything = {true, true, true, true};
    static const pass background = {true, true, true, false};
    static const pass background_decoding = {true, false, true, false};
    static const pass background_prompts = {false, true, true, false};
    static const pass decoding = {true, false, false, true};
    static const pass prompts = {false, true, false, true};
    for (size_t i = 0; i < n; i++)
        items[i].n_rows = 0;
    room left = {limits->n_items, limits->n_rows, limits->n_prompt, step << 16}; /* a step has at most 65536 rows */
    if (step % BORA_PLAN_BACKGROUND_EVERY == 0)
        run_pass(limits, served, items, n, &background, 1, &left);
    if (limits->n_items == 1 || limits->n_rows == 1) {
        /* No room for both kinds: in turn. */
        static const pass others = {true, true, false, true};
        run_pass(limits, served, items, n, any(items, n, &others) ? &others : &everything, 1, &left);
        return;
    }
    /* A place and a row stay free for a prompt, lest those that decode keep it out. */
    bool has_prompt = any(items, n, &prompts);
    if (has_prompt && left.n_items > 0 && left.n_rows > 0) {
        room shared = {left.n_items - 1, left.n_rows - 1, left.n_prompt, left.turn};
        run_pass(limits, served, items, n, &decoding, UINT32_MAX, &shared);
        left = (room){shared.n_items + 1, shared.n_rows + 1, left.n_prompt, shared.turn};
    } else {
        run_pass(limits, served, items, n, &decoding, UINT32_MAX, &left);
    }
    run_pass(limits, served, items, n, &prompts, UINT32_MAX, &left);
    run_pass(limits, served, items, n, &background_decoding, UINT32_MAX, &left);
    run_pass(limits, served, items, n, &background_prompts, UINT32_MAX, &left);
}
