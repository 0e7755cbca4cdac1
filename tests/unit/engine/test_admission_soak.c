/* Everything at once where memory is short: turns of sessions, answers outside them, cancels, some that can never fit.
 * Nothing stands still, nothing is lost, and what was said was right. */
#include "admission_fixture.h"

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static record *submit_one(fixture *f, uint32_t *seed)
{
    static const char *const owners[] = {"a", "b", "c"};
    const char *owner = owners[next(seed) % 3];
    uint32_t which = next(seed) % 6;
    size_t n = 10 + next(seed) % 200;
    bora_generation *generation = owned(generation_of_text(which, n, 1 + next(seed) % 12), owner);
    generation->is_background = next(seed) % 5 == 0;
    generation->export_pages = next(seed) % 4 == 0;
    if (next(seed) % 6 == 0) {
        generation->n_choices = 3;
        generation->export_pages = false;
        generation->sampling.temperature = 1;
    }
    return submit(f, generation);
}

#define SINGLES 4u

/* Those that have ended are put away, with the pages that they hold. */
static void settle_singles(record *open[SINGLES])
{
    for (size_t i = 0; i < SINGLES; i++)
        if (open[i] && open[i]->n_done) {
            ended(open[i], BORA_REASON_LENGTH);
            bora_event_free(open[i]->done);
            open[i]->done = NULL;
            open[i] = NULL;
        }
}

/* The next event, if one is to come. Not while something that has ended holds memory: the engine may wait for that. */
static void take_next(fixture *f, const keeper *k, record *const open[SINGLES])
{
    bool is_awaited = false, has_ended = false;
    for (size_t i = 0; i < TALKS + SINGLES; i++) {
        const record *r = i < TALKS ? k->talks[i].open : open[i - TALKS];
        is_awaited = is_awaited || (r && !r->n_done);
        has_ended = has_ended || (r && r->n_done);
    }
    if (is_awaited && !has_ended)
        take(f);
}

static void soak(fixture *f, uint32_t seed, size_t n_turns)
{
    keeper *k = with_keeper(f);
    record *open[SINGLES] = {NULL};
    size_t n_ended = 0, n_begun = 0, n_large = 0;
    bora_ledger_state before, after;
    bora_ledger_get(f->engine.ledger, &before);
    engine_leave_room(&f->engine, kv_max(f) + 2 * page_bytes(f, 2048) + kv_max(f));
    while (n_ended < n_turns) {
        for (size_t i = 0; i < TALKS; i++) {
            talk *t = &k->talks[i];
            if (t->open && t->open->n_done) {
                settle(f, t);
                n_ended++;
            }
            if (t->n_tokens > 700) { /* that one is over */
                if (t->sequence && !t->open)
                    assert_ok(bora_scheduler_close_sequence(f->engine.scheduler, t->sequence, err));
                if (!t->open) {
                    talk_drop_pages(t);
                    *t = (talk){.n_fetched = t->n_fetched};
                }
            }
            if (!t->open && n_begun < n_turns && next(&seed) % 2) {
                turn(f, t, (uint32_t)i, 5 + next(&seed) % 120, 1 + next(&seed) % 8, i % 2 ? "a" : "b");
                n_begun++;
            } else if (t->open && next(&seed) % 64 == 0) {
                cancel(f, t->open);
            }
        }
        settle_singles(open);
        for (size_t i = 0; i < SINGLES; i++)
            if (!open[i] && n_begun < n_turns)
                open[i] = submit_one(f, &seed);
        if (next(&seed) % 16 == 0 && f->n_records + 1 < RECORDS_MAX) {
            bora_generation *large = steady(1, "d");
            large->n_choices = 8;
            record *r = run(f, large);
            failed(r, BORA_E_LIMIT);
            n_large++;
        }
        take_next(f, k, open);
    }
    for (bool is_open = true; is_open;) {
        settle_singles(open);
        take_next(f, k, open);
        is_open = false;
        for (size_t i = 0; i < SINGLES; i++)
            is_open = is_open || open[i];
    }
    size_t n_fetched = 0;
    for (size_t i = 0; i < TALKS; i++)
        n_fetched += k->talks[i].n_fetched;
    assert_true(n_fetched > 0);
    assert_true(f->n_pressures > 0);
    assert_true(n_large > 0);
    /* Nothing is left, and what was said was right. */
    f->on_pressure = NULL;
    relieve(f);
    engine_leave_all(&f->engine);
    for (size_t i = 0; i < TALKS; i++)
        if (k->talks[i].n_last > 0)
            answer_is(f, &k->talks[i]);
    bora_ledger_get(f->engine.ledger, &after);
    assert_true(after.peak <= after.limit);
    for (uint32_t i = 0; i < BORA_LEDGER_COUNT; i++)
        if (i != BORA_LEDGER_KV && i != BORA_LEDGER_ACTIVATIONS) /* room for large batches is made once */
            assert_int_equal(after.accounts[i], before.accounts[i]);
    assert_in_range(after.accounts[BORA_LEDGER_ACTIVATIONS] - before.accounts[BORA_LEDGER_ACTIVATIONS], 0, 65536);
    const uint64_t left = stats_of(f).shelf_bytes; /* each for itself, without heads and free pages */
    assert_true(after.accounts[BORA_LEDGER_KV] <= before.accounts[BORA_LEDGER_KV] + left + left / 8);
    keeper_free(k);
}

static void test_soak(void **state)
{
    soak(*state, 1, 60);
}

static void test_soak_with_shelf(void **state)
{
    soak(*state, 2, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_soak, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_soak_with_shelf, setup_shelf, teardown),
        cmocka_unit_test_setup_teardown(test_soak_with_shelf, setup_paged, teardown),
    };
    return cmocka_run_group_tests_name("admission soak", tests, NULL, NULL);
}
