/* Who gets rows in a step: what each rule says, and on random loads what holds in every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/size.h"
#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX  200
#define OWNERS_MAX 8
#define FOR_EVER   ((size_t)1 << 40) /* rows of a prompt that does not end in a test */

/* A load, step by step. */
typedef struct load {
    bora_plan_limits limits;
    bora_plan_item items[ITEMS_MAX];
    bora_plan_served served[OWNERS_MAX];
    uint64_t rows_of_owner[OWNERS_MAX], prompt_rows[OWNERS_MAX], rows[ITEMS_MAX];
    size_t n;
    uint64_t step;
} load;

static load *load_new(bora_plan_limits limits)
{
    load *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->limits = limits;
    return l;
}

static bora_plan_item *add_decoding(load *l, uint32_t owner)
{
    l->items[l->n] = (bora_plan_item){.owner = owner, .is_decoding = true, .n_left = 1};
    return &l->items[l->n++];
}

static bora_plan_item *add_prompt(load *l, uint32_t owner, size_t n_left)
{
    l->items[l->n] = (bora_plan_item){.owner = owner, .n_left = n_left};
    return &l->items[l->n++];
}

/* What one step gave. */
typedef struct given {
    uint32_t n_items, n_rows, n_prompt_items, n_prompt_rows, n_background, n_decoding;
} given;

static given count(const load *l)
{
    given g = {0};
    for (size_t i = 0; i < l->n; i++) {
        const bora_plan_item *item = &l->items[i];
        if (item->n_rows == 0)
            continue;
        g.n_items++;
        g.n_rows += item->n_rows;
        g.n_prompt_items += !item->is_decoding;
        g.n_prompt_rows += item->is_decoding ? 0 : item->n_rows;
        g.n_background += item->is_background;
        g.n_decoding += item->is_decoding;
    }
    return g;
}

/* One step, with what holds in any. Prompts get shorter; what decodes goes on. */
static given step(load *l)
{
    uint64_t turns[ITEMS_MAX], last = 0, rows[OWNERS_MAX] = {0};
    bora_plan_served served[OWNERS_MAX];
    memcpy(served, l->served, sizeof served);
    bool has_any = false;
    for (size_t i = 0; i < l->n; i++) {
        turns[i] = l->items[i].last_turn;
        last = turns[i] > last ? turns[i] : last;
        has_any = has_any || l->items[i].n_left > 0;
        l->items[i].n_rows = 12345; /* what was there does not matter */
    }
    bora_plan_step(&l->limits, ++l->step, l->served, OWNERS_MAX, l->items, l->n);
    given g = count(l);
    assert_true(g.n_items <= l->limits.n_items);
    assert_true(g.n_rows <= l->limits.n_rows);
    assert_true(g.n_prompt_rows <= l->limits.n_prompt);
    assert_true(!has_any || g.n_items > 0);
    for (size_t i = 0; i < l->n; i++) {
        bora_plan_item *item = &l->items[i];
        assert_true(item->n_rows <= item->n_left);
        assert_true(item->is_decoding || item->n_rows <= l->limits.chunk);
        if (item->n_rows)
            assert_true(item->last_turn > last);
        else
            assert_int_equal(item->last_turn, turns[i]);
        for (size_t j = 0; j < i; j++)
            assert_true(!item->n_rows || item->last_turn != l->items[j].last_turn);
        rows[item->owner] += item->n_rows;
        l->rows_of_owner[item->owner] += item->n_rows;
        l->prompt_rows[item->owner] += item->is_decoding ? 0 : item->n_rows;
        l->rows[i] += item->n_rows;
        if (!item->is_decoding)
            item->n_left -= item->n_rows;
    }
    for (size_t i = 0; i < OWNERS_MAX; i++) {
        uint64_t more = 0;
        for (size_t kind = 0; kind < BORA_PLAN_KINDS; kind++) {
            assert_true(l->served[i].rows[kind] >= served[i].rows[kind]);
            more += l->served[i].rows[kind] - served[i].rows[kind];
        }
        assert_true(more >= rows[i]);
    }
    return g;
}

/* ---- the rules --------------------------------------------------------------------------------------------------- */

static const bora_plan_limits wide = {.n_items = 8, .n_rows = 64, .n_prompt = 40, .chunk = 32};

static void test_decode_first(void **state)
{
    (void)state;
    load *l = load_new(wide);
    add_prompt(l, 0, FOR_EVER);
    for (uint32_t i = 0; i < 5; i++)
        add_decoding(l, 1);
    add_prompt(l, 2, FOR_EVER);
    for (int i = 0; i < 20; i++) {
        given g = step(l);
        assert_int_equal(g.n_decoding, 5);
        assert_int_equal(g.n_prompt_rows, 40); /* the budget, in a chunk and what is left */
        assert_int_equal(g.n_prompt_items, 2);
    }
    assert_int_equal(l->rows[0] + l->rows[6], 800);
    assert_in_range(l->rows[0], 400 - 32, 400 + 32);
    free(l);
}

static void test_budget_and_chunk(void **state)
{
    (void)state;
    load *l = load_new((bora_plan_limits){.n_items = 4, .n_rows = 10, .n_prompt = 10, .chunk = 4});
    for (uint32_t i = 0; i < 4; i++)
        add_prompt(l, i, FOR_EVER);
    given g = step(l);
    assert_int_equal(g.n_rows, 10);
    assert_int_equal(g.n_items, 3); /* 4, 4, 2 */
    l->limits.n_prompt = 1;
    for (int i = 0; i < 5; i++)
        assert_int_equal(step(l).n_rows, 1);
    /* Shorter than a chunk: no more than there is. */
    l->n = 0;
    l->limits = wide;
    add_prompt(l, 0, 3);
    add_prompt(l, 1, 33);
    assert_int_equal(step(l).n_rows, 35);
    assert_int_equal(step(l).n_rows, 1);
    assert_int_equal(step(l).n_rows, 0); /* nothing is left */
    l->n = 0;
    assert_int_equal(step(l).n_rows, 0);
    free(l);
}

/* More decode than there are places: everybody's turn comes round, as often as any other's. */
static void decoders_take_turns(uint32_t n_items, uint32_t n_rows, size_t n, bool with_prompt)
{
    load *l = load_new((bora_plan_limits){.n_items = n_items, .n_rows = n_rows, .n_prompt = 16, .chunk = 16});
    for (size_t i = 0; i < n; i++)
        add_decoding(l, 0);
    if (with_prompt)
        add_prompt(l, 0, FOR_EVER);
    for (int i = 0; i < 500; i++) {
        step(l);
        for (size_t j = 1; j < n; j++)
            assert_true(l->rows[j] + 1 >= l->rows[0] && l->rows[j] <= l->rows[0] + 1);
    }
    uint32_t places = n_items < n_rows ? n_items : n_rows;
    places -= with_prompt && places > 1;
    assert_true(l->rows[0] >= 500 * places / n / (places > 1 || !with_prompt ? 1 : 2));
    assert_true(!with_prompt || l->rows[n] > 0);
    free(l);
}

static void test_decoders_take_turns(void **state)
{
    (void)state;
    decoders_take_turns(8, 64, 20, false);
    decoders_take_turns(8, 64, 20, true);
    decoders_take_turns(64, 8, 20, true);
    decoders_take_turns(2, 64, 7, true);
    decoders_take_turns(1, 64, 7, false);
    decoders_take_turns(1, 64, 7, true);
    decoders_take_turns(64, 1, 7, true);
}

/* One against sixty. */
static void test_owners_are_equal(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) { /* prompts, decoding in one place, decoding in two, in turn */
        load *l = load_new(wide);
        if (kind)
            l->limits.n_items = kind == 1 ? 1 : 2;
        for (uint32_t i = 0; i < 61; i++)
            if (kind == 0 || (kind == 3 && i % 2))
                add_prompt(l, i == 7, FOR_EVER);
            else
                add_decoding(l, i == 7);
        for (int i = 1; i <= 1000; i++) {
            step(l);
            uint64_t a = l->rows_of_owner[0], b = l->rows_of_owner[1], apart = a > b ? a - b : b - a;
            /* The one of a kind that has its own place cannot be given more than there is of it. */
            assert_true(kind == 3 || apart <= l->limits.chunk);
        }
        for (size_t i = 0; i < l->n; i++) /* and the sixty among themselves */
            assert_true(l->rows[i] > 0);
        free(l);
    }
}

static void test_newcomer(void **state)
{
    (void)state;
    load *l = load_new(wide);
    for (uint32_t i = 0; i < 20; i++)
        add_prompt(l, 0, FOR_EVER);
    for (int i = 0; i < 300; i++)
        step(l);
    /* As the scheduler lets owners in: where the one served least stands. */
    l->served[1] = l->served[0];
    add_prompt(l, 1, FOR_EVER);
    uint64_t before = l->rows_of_owner[0];
    step(l);
    step(l);
    assert_true(l->rows_of_owner[1] > 0);
    for (int i = 0; i < 300; i++)
        step(l);
    uint64_t old = l->rows_of_owner[0] - before;
    assert_in_range(l->rows_of_owner[1], old - 32, old + 32);
    free(l);
}

/* An owner who wanted little for long has not saved up for later: what it did not want others had, and owe nothing. */
static void test_no_savings(void **state)
{
    (void)state;
    load *l = load_new(wide);
    add_decoding(l, 1);
    for (uint32_t i = 0; i < 20; i++)
        add_prompt(l, 0, FOR_EVER);
    for (int i = 0; i < 1000; i++)
        step(l);
    assert_int_equal(l->rows_of_owner[1], 1000); /* all that it wanted */
    for (uint32_t i = 0; i < 20; i++)
        add_prompt(l, 1, FOR_EVER);
    uint64_t before[2] = {l->prompt_rows[0], l->prompt_rows[1]};
    for (int i = 1; i <= 100; i++) {
        step(l);
        uint64_t a = l->prompt_rows[0] - before[0], b = l->prompt_rows[1] - before[1];
        assert_true((a > b ? a - b : b - a) <= 2 * l->limits.chunk);
    }
    free(l);
}

/* An owner whose prompt is read in the place that is kept for prompts has its answers written meanwhile. */
static void test_answers_beside_own_prompt(void **state)
{
    (void)state;
    load *l = load_new((bora_plan_limits){.n_items = 3, .n_rows = 64, .n_prompt = 32, .chunk = 32});
    add_prompt(l, 0, FOR_EVER);
    add_decoding(l, 0);
    for (uint32_t i = 0; i < 10; i++)
        add_decoding(l, 1);
    for (int i = 0; i < 200; i++)
        step(l);
    assert_in_range(l->rows[1], 199, 200);
    assert_int_equal(l->rows[0], 200 * 32);
    free(l);
}

/* Those who have all they want, too, when nobody lacks anything. */
static void test_no_savings_when_idle(void **state)
{
    (void)state;
    load *l = load_new(wide);
    add_decoding(l, 1);
    for (uint32_t i = 0; i < 6; i++)
        add_decoding(l, 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(step(l).n_rows, 7);
    for (uint32_t i = 0; i < 20; i++) {
        add_prompt(l, 1, FOR_EVER);
        add_prompt(l, 0, FOR_EVER);
    }
    uint64_t before[2] = {l->prompt_rows[0], l->prompt_rows[1]};
    for (int i = 1; i <= 100; i++) {
        step(l);
        uint64_t a = l->prompt_rows[0] - before[0], b = l->prompt_rows[1] - before[1];
        assert_true((a > b ? a - b : b - a) <= 2 * l->limits.chunk);
    }
    free(l);
}

static void test_background(void **state)
{
    (void)state;
    load *l = load_new((bora_plan_limits){.n_items = 2, .n_rows = 8, .n_prompt = 8, .chunk = 8});
    for (uint32_t i = 0; i < 5; i++)
        add_decoding(l, 0);
    bora_plan_item *late = add_decoding(l, 1), *prompt = add_prompt(l, 2, FOR_EVER);
    late->is_background = prompt->is_background = true;
    uint64_t n_background = 0;
    for (int i = 1; i <= 800; i++) {
        given g = step(l);
        assert_int_equal(g.n_background, l->step % BORA_PLAN_BACKGROUND_EVERY == 0);
        n_background += g.n_background;
    }
    assert_int_equal(n_background, 100);
    assert_true(l->rows[5] > 0 && l->rows[6] > 0); /* in turn by owner */
    /* What others leave is theirs at once. */
    l->n = 0;
    add_decoding(l, 0);
    late = add_prompt(l, 1, FOR_EVER);
    late->is_background = true;
    for (int i = 0; i < 20; i++) {
        given g = step(l);
        assert_int_equal(g.n_rows, 8);
        assert_int_equal(g.n_background, 1);
    }
    /* Alone, it has everything. */
    l->n = 0;
    for (uint32_t i = 0; i < 3; i++)
        add_prompt(l, i, FOR_EVER)->is_background = true;
    for (int i = 0; i < 20; i++)
        assert_int_equal(step(l).n_rows, 8);
    free(l);
}

static void test_background_in_one_place(void **state)
{
    (void)state;
    load *l = load_new((bora_plan_limits){.n_items = 1, .n_rows = 8, .n_prompt = 8, .chunk = 8});
    add_decoding(l, 0);
    add_prompt(l, 1, FOR_EVER);
    add_decoding(l, 2)->is_background = true;
    for (int i = 1; i <= 80; i++) {
        given g = step(l);
        assert_int_equal(g.n_items, 1);
        assert_int_equal(g.n_background, l->step % BORA_PLAN_BACKGROUND_EVERY == 0);
    }
    assert_true(l->rows[0] > 0 && l->rows[1] > 0);
    free(l);
}

/* ---- at random --------------------------------------------------------------------------------------------------- */

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Nobody lacks what is left over, and the order of the passes holds. */
static void check_order(const load *l, const given *g)
{
    uint32_t starved_decoding = 0, starved_prompts = 0, starved_background = 0;
    for (size_t i = 0; i < l->n; i++) {
        const bora_plan_item *item = &l->items[i];
        if (item->n_rows || !item->n_left)
            continue;
        if (item->is_background)
            starved_background++;
        else if (item->is_decoding)
            starved_decoding++;
        else
            starved_prompts++;
    }
    bool is_full = g->n_items == l->limits.n_items || g->n_rows == l->limits.n_rows;
    bool is_turn = l->step % BORA_PLAN_BACKGROUND_EVERY == 0;
    if (l->limits.n_items == 1 || l->limits.n_rows == 1) {
        assert_true(g->n_background == 0 || is_turn || starved_decoding + starved_prompts == 0);
        return;
    }
    if (starved_decoding) { /* only for one prompt (or its one row), and a background one in its turn */
        assert_true(is_full);
        assert_true(g->n_background <= is_turn);
        assert_true(g->n_prompt_items <= 1u + is_turn);
    }
    if (starved_prompts) {
        assert_true(is_full || g->n_prompt_rows == l->limits.n_prompt);
        assert_true(!is_full || g->n_prompt_rows == l->limits.n_prompt || g->n_background <= is_turn);
    }
    if (starved_background)
        assert_true(is_full || g->n_prompt_rows == l->limits.n_prompt);
}

static void test_random(void **state)
{
    (void)state;
    uint32_t seed = 20240517;
    for (int round = 0; round < 300; round++) {
        load *l = load_new((bora_plan_limits){.n_items = 1 + next(&seed) % 9,
                                              .n_rows = 1 + next(&seed) % 40,
                                              .n_prompt = 1 + next(&seed) % 40,
                                              .chunk = 1 + next(&seed) % 20});
        for (int i = 0; i < 200; i++) {
            if (l->n < 60 && next(&seed) % 3 == 0) {
                uint32_t owner = next(&seed) % OWNERS_MAX;
                bora_plan_item *item =
                    next(&seed) % 2 ? add_decoding(l, owner) : add_prompt(l, owner, 1 + next(&seed) % 200);
                item->is_background = next(&seed) % 4 == 0;
            }
            if (l->n > 0 && next(&seed) % 5 == 0) {
                size_t gone = next(&seed) % l->n;
                l->items[gone] = l->items[--l->n];
            }
            size_t left[ITEMS_MAX];
            for (size_t j = 0; j < l->n; j++)
                left[j] = l->items[j].n_left;
            given g = step(l);
            load before = *l;
            for (size_t j = 0; j < l->n; j++)
                before.items[j].n_left = left[j];
            check_order(&before, &g);
        }
        free(l);
    }
}

/* Whatever the load, nobody waits for ever. */
static void test_nobody_starves(void **state)
{
    (void)state;
    uint32_t seed = 7;
    for (int round = 0; round < 60; round++) {
        load *l = load_new((bora_plan_limits){.n_items = 1 + next(&seed) % 5,
                                              .n_rows = 1 + next(&seed) % 12,
                                              .n_prompt = 1 + next(&seed) % 12,
                                              .chunk = 1 + next(&seed) % 8});
        size_t n = 2 + next(&seed) % 30;
        for (size_t i = 0; i < n; i++) {
            uint32_t owner = next(&seed) % OWNERS_MAX;
            bora_plan_item *item = next(&seed) % 2 ? add_decoding(l, owner) : add_prompt(l, owner, FOR_EVER);
            item->is_background = next(&seed) % 3 == 0;
        }
        for (int i = 0; i < 8000; i++)
            step(l);
        for (size_t i = 0; i < n; i++)
            if (l->rows[i] < 10)
                fail_msg("round %d: item %zu of %zu had %llu rows in 8000 steps", round, i, n,
                         (unsigned long long)l->rows[i]);
        free(l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_first),
        cmocka_unit_test(test_budget_and_chunk),
        cmocka_unit_test(test_decoders_take_turns),
        cmocka_unit_test(test_owners_are_equal),
        cmocka_unit_test(test_newcomer),
        cmocka_unit_test(test_no_savings),
        cmocka_unit_test(test_answers_beside_own_prompt),
        cmocka_unit_test(test_no_savings_when_idle),
        cmocka_unit_test(test_background),
        cmocka_unit_test(test_background_in_one_place),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_nobody_starves),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
