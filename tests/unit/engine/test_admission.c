/* Who begins, and when, where memory is short: everything waits, starts or is refused as it should, nothing that has
 * begun ever lacks memory. */
#include "admission_fixture.h"

#include "engine/plan.h"

/* ---- the queue ----------------------------------------------------------------------------------------------------
 */

static void test_waits_for_room(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, 2 * kv_max(f) + kv_max(f) / 2);
    bora_ledger_state books;
    bora_ledger_get(f->engine.ledger, &books);
    const uint64_t before = books.accounts[BORA_LEDGER_KV];
    record *r[4];
    for (uint32_t i = 0; i < 4; i++)
        r[i] = submit(f, steady(i, "a"));
    await_queued(f, r[3]);
    assert_int_equal(r[0]->n_started + r[1]->n_started, 2);
    assert_int_equal(r[3]->place, 2);
    assert_int_equal(r[3]->n_waiting, 2);
    assert_int_equal(r[2]->place, 1);
    await_tokens(f, r[0], r[0]->n_tokens + 3); /* a step later everybody can see it */
    assert_int_equal(stats_of(f).n_running, 2);
    assert_int_equal(stats_of(f).n_waiting, 2);
    assert_in_range(stats_of(f).promised_bytes, 1, 2 * kv_max(f)); /* some of it is used already */
    end(f, r[0]);
    await_start(f, r[2]);
    assert_int_equal(r[3]->n_started, 0);
    end(f, r[3]); /* from the queue */
    assert_int_equal(r[3]->n_started, 0);
    await_tokens(f, r[2], 5);
    end(f, r[1]);
    end(f, r[2]);
    assert_int_equal(f->n_pressures, 0); /* nobody had anything to close */
    assert_int_equal(stats_of(f).promised_bytes, 0);
    bora_ledger_get(f->engine.ledger, &books);
    assert_int_equal(books.accounts[BORA_LEDGER_KV], before);
}

static void test_too_large(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, kv(f, 200) * 11 / 10);
    record *small = submit(f, owned(generation_of_text(1, 20, 150), "a"));
    await_tokens(f, small, 1);
    record *waits = submit(f, owned(generation_of_text(2, 20, 150), "a"));
    await_queued(f, waits);
    record *large = run(f, steady(3, "a"));
    failed(large, BORA_E_LIMIT);
    assert_non_null(strstr(large->done->error.message, "too large"));
    assert_int_equal(large->n_started + large->n_queued, 0);
    assert_int_equal(small->n_done, 0);    /* it was told at once, */
    assert_int_equal(waits->n_started, 0); /* whoever waits before it */
    await(f, small);
    ended(small, BORA_REASON_LENGTH);
    await(f, waits);
    ended(waits, BORA_REASON_LENGTH);
}

/* The owner who began least lately is next, however many others ask for. */
static void test_owners_take_turns(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, kv_max(f) + kv_max(f) / 2);
    record *first = submit(f, steady(0, "a")), *a[4], *b[2], *c;
    await_start(f, first);
    for (uint32_t i = 0; i < 4; i++)
        a[i] = submit(f, steady(i, "a"));
    for (uint32_t i = 0; i < 2; i++)
        b[i] = submit(f, steady(i, "b"));
    c = submit(f, steady(0, "c"));
    await_queued(f, c);
    assert_int_equal(c->place, 2); /* as it will be, whoever came first */
    assert_int_equal(c->n_waiting, 7);
    record *order[] = {first, b[0], c, a[0], b[1], a[1], a[2], a[3]};
    for (size_t i = 0; i + 1 < BORA_ARRAY_SIZE(order); i++) {
        end(f, order[i]);
        await_start(f, order[i + 1]);
        for (size_t j = i + 2; j < BORA_ARRAY_SIZE(order); j++)
            assert_int_equal(order[j]->n_started, 0);
    }
    end(f, a[3]);
}

static void test_interactive_first(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, kv_max(f) + kv_max(f) / 2);
    record *first = submit(f, steady(0, "a"));
    await_start(f, first);
    bora_generation *generation = steady(1, "b");
    generation->is_background = true;
    record *background = submit(f, generation);
    await_queued(f, background);
    record *interactive = submit(f, steady(2, "a"));
    await_queued(f, interactive);
    end(f, first);
    await_start(f, interactive);
    assert_int_equal(background->n_started, 0);
    end(f, interactive);
    await_start(f, background);
    end(f, background);
}

/* However many others ask for, once in so many beginnings it is the background's turn. */
static void test_background_has_its_turn(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, kv_max(f) + kv_max(f) / 2);
    record *running = submit(f, steady(0, "a"));
    await_start(f, running);
    bora_generation *generation = steady(1, "b");
    generation->is_background = true;
    record *background = submit(f, generation);
    uint32_t n_before = 0;
    for (record *next; background->n_started == 0; running = next, n_before++) {
        next = submit(f, steady(2, "a"));
        await_queued(f, next);
        end(f, running);
        while (next->n_started + background->n_started == 0)
            take(f);
        if (background->n_started)
            end(f, background);
    }
    assert_int_equal(n_before, BORA_PLAN_BACKGROUND_EVERY - 2); /* beside the first here, and one in the set-up */
    await_start(f, running);
    end(f, running);
}

/* ---- making room --------------------------------------------------------------------------------------------------
 */

static void test_left_overs_go_first(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, 2 * kv_max(f) + kv_max(f) / 4);
    for (uint32_t i = 0; i < 3; i++)
        ended(run(f, owned(generation_of_text(i, 300, 1), "a")), BORA_REASON_LENGTH);
    assert_in_range(stats_of(f).n_left_over, 1, 3);
    record *one = submit(f, steady(5, "b")), *two = submit(f, steady(6, "c"));
    await_tokens(f, one, 1);
    await_tokens(f, two, 1);
    assert_int_equal(stats_of(f).n_left_over, 0);
    assert_int_equal(f->n_pressures, 0);
    assert_int_equal(one->n_queued + two->n_queued, 0);
    end(f, one);
    end(f, two);
}

static void close_all(fixture *f)
{
    for (size_t i = 0; i < f->n_records; i++)
        if (f->records[i]->n_done && f->records[i]->done->sequence)
            close_sequence(f, f->records[i]);
    bora_scheduler_relieved(f->engine.scheduler);
}

static record *keep_one(fixture *f, uint32_t which)
{
    bora_generation *generation = owned(generation_of_text(which, 300, 1), "a");
    generation->keep = true;
    record *r = run(f, generation);
    ended(r, BORA_REASON_LENGTH);
    assert_non_null(r->done->sequence);
    return r;
}

static void test_pressure(void **state)
{
    fixture *f = *state;
    f->on_pressure = close_all;
    keep_one(f, 0);
    keep_one(f, 1);
    engine_leave_room(&f->engine, kv_max(f) / 2);
    record *r = submit(f, steady(2, "b"));
    await_tokens(f, r, 1);
    assert_int_equal(f->n_pressures, 1);
    assert_in_range(f->pressure_bytes, 1, kv_max(f));
    assert_int_equal(stats_of(f).n_on_shelf, 0);
    assert_int_equal(stats_of(f).n_pressures, 1);
    end(f, r);
}

static void close_nothing(fixture *f)
{
    assert_true(f->n_pressures < 10); /* not again and again */
    bora_scheduler_relieved(f->engine.scheduler);
}

/* Whoever was asked had nothing to close. While something runs that is waited for; then it is an error. */
static void test_pressure_in_vain(void **state)
{
    fixture *f = *state;
    f->on_pressure = close_nothing;
    record *kept = keep_one(f, 0);
    engine_leave_room(&f->engine, kv_max(f) + kv_max(f) / 4);
    record *one = submit(f, steady(1, "b")), *two = submit(f, steady(2, "c"));
    await_start(f, one);
    await_queued(f, two);
    await_tokens(f, one, 20);
    assert_int_equal(two->n_done, 0);
    end(f, one);
    await_start(f, two);
    record *three = submit(f, owned(generation_of_text(3, 20, 1), "c"));
    await(f, three);
    ended(three, BORA_REASON_LENGTH);
    end(f, two);
    /* Nothing runs, and what is there stays. */
    f->n_pressures = 0;
    engine_leave_all(&f->engine);
    engine_leave_room(&f->engine, kv_max(f) / 2);
    record *last = run(f, steady(4, "c"));
    failed(last, BORA_E_BUSY);
    assert_int_equal(last->n_started, 0);
    /* When it goes, there is room. */
    close_sequence(f, kept);
    last = submit(f, steady(4, "c"));
    await_start(f, last);
    end(f, last);
}

/* Pages that are on their way to the store take room; when they are there it goes on. */
static void test_waits_for_the_store(void **state)
{
    fixture *f = *state;
    bora_generation *generation = owned(generation_of_text(1, 200, 1), "a");
    generation->export_pages = true;
    record *stored = run(f, generation);
    ended(stored, BORA_REASON_LENGTH);
    assert_true(stored->done->store_size > 0);
    engine_leave_room(&f->engine, kv_max(f) - 1);
    record *r = submit(f, steady(2, "b"));
    await_queued(f, r);
    assert_int_equal(stats_of(f).n_running, 0);
    bora_event_free(stored->done); /* nobody tells the engine */
    stored->done = NULL;
    await_start(f, r);
    end(f, r);
}

/* All answers to a prompt have their room from the beginning. */
static void test_choices_have_room(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, 5 * kv_max(f) + kv_max(f) / 2);
    bora_generation *generation = owned(generation_of_text(1, 600, STEADY), "a");
    generation->n_choices = 4;
    record *r = submit(f, generation), *others[4];
    await_start(f, r);
    for (uint32_t i = 0; i < 4; i++)
        others[i] = submit(f, owned(generation_of_text(2 + i, 400, STEADY), "b"));
    await_queued(f, others[3]);
    assert_int_equal(others[0]->n_started, 1);
    for (uint32_t i = 0; i < 4; i++)
        await_tokens(f, r->choices[i], 2);
    await_tokens(f, others[0], 1);
    assert_int_equal(others[1]->n_started, 0);
    cancel(f, r);
    await(f, r);
    ended(r, BORA_REASON_CANCELLED);
    for (uint32_t i = 0; i < 4; i++) {
        ended(r->choices[i], BORA_REASON_CANCELLED);
        await_start(f, others[i]);
    }
    for (uint32_t i = 0; i < 4; i++)
        end(f, others[i]);
}

/* What began with the pages of an idle session needs others when it has moved on, while the session keeps those. */
static void test_shared_pages(void **state)
{
    fixture *f = *state;
    bora_generation *generation = owned(generation_of_text(1, 340, 1), "a");
    generation->keep = true;
    record *kept = run(f, generation);
    engine_leave_room(&f->engine, kv_max(f) + kv_max(f) / 16);
    record *moving = submit(f, owned(generation_of_text(1, 345, STEADY), "a"));
    await_tokens(f, moving, 1);
    assert_int_equal(moving->n_reused, 320);
    record *other = submit(f, owned(generation_of_text(2, 200, 30), "b"));
    await_queued(f, other);
    await_tokens(f, moving, 450); /* past its window: it shares nothing any more */
    assert_int_equal(other->n_started, 0);
    end(f, moving);
    await(f, other);
    ended(other, BORA_REASON_LENGTH);
    close_sequence(f, kept);
}

/* Those that wait give up their caches for the one before them, and get them back when it is their turn. */
static void given_up(fixture *f, bool is_lost)
{
    keeper *k = with_keeper(f);
    for (size_t i = 0; i < 3; i++) {
        await(f, turn(f, &k->talks[i], (uint32_t)i, 250, 4, "a"));
        settle(f, &k->talks[i]);
    }
    record *blocker = submit(f, owned(generation_of_text(9, 400, STEADY), "b")); /* it has all it will have */
    await_tokens(f, blocker, 1);
    k->talks[2].is_lost = is_lost;
    /* For the first, half of what one of them has is missing. */
    uint64_t has = bora_sequence_bytes(k->talks[0].sequence), left = kv_max(f) - blocker->kv_bytes;
    engine_leave_room(&f->engine, left + kv_max(f) - has + page_bytes(f, 407 - 253) - has / 2);
    record *r[3];
    for (size_t i = 0; i < 3; i++)
        r[i] = turn(f, &k->talks[i], (uint32_t)i, 150, 4, "a");
    int n_wanted[3];
    for (size_t i = 0; i < 3; i++) {
        await(f, r[i]);
        ended(r[i], BORA_REASON_LENGTH);
        n_wanted[i] = r[i]->n_wanted;
        if (i == 2) {
            assert_int_equal(r[2]->n_cached, is_lost ? 0 : 253);
            assert_int_equal(r[2]->done->replaced_pages, is_lost);
        }
        settle(f, &k->talks[i]);
    }
    assert_int_equal(n_wanted[0], 0);
    assert_int_equal(n_wanted[2], 1); /* it was last */
    end(f, blocker);
    engine_leave_all(&f->engine);
    relieve(f);
    for (size_t i = 0; i < 3; i++)
        answer_is(f, &k->talks[i]);
    keeper_free(k);
}

static void test_given_up(void **state)
{
    given_up(*state, false);
}

static void test_given_up_and_lost(void **state)
{
    given_up(*state, true);
}

/* ---- deadlines ----------------------------------------------------------------------------------------------------
 */

#define SOON (bora_task_now_ns() + UINT64_C(100000000))

static void test_deadlines(void **state)
{
    fixture *f = *state;
    engine_leave_room(&f->engine, kv_max(f) + page_bytes(f, STEADY) + kv_max(f) / 16);
    bora_generation *generation = steady(1, "a");
    generation->deadline_ns = 1; /* long ago */
    record *past = run(f, generation);
    ended(past, BORA_REASON_DEADLINE);
    assert_int_equal(past->n_started, 0);
    record *first = submit(f, steady(0, "a"));
    await_start(f, first);
    generation = steady(1, "b");
    generation->deadline_ns = SOON;
    record *waiting = run(f, generation);
    ended(waiting, BORA_REASON_DEADLINE);
    assert_int_equal(waiting->n_started, 0);
    assert_int_equal(first->n_done, 0);
    end(f, first);
    generation = steady(1, "b");
    generation->deadline_ns = bora_task_now_ns() + UINT64_C(500000000);
    generation->keep = generation->export_pages = true;
    record *running = run(f, generation);
    ended(running, BORA_REASON_DEADLINE);
    assert_int_equal(running->done->status, BORA_OK);
    assert_int_equal(running->n_started, 1);
    assert_true(running->n_tokens == 0 || running->done->n_cached == 20 + running->n_tokens - 1);
    assert_true(running->done->n_pages > 0 || running->done->n_cached == 0);
    close_sequence(f, running);
}

/* Nothing runs, and nobody answers: the time still passes. */
static void test_deadlines_of_an_idle_engine(void **state)
{
    fixture *f = *state;
    record *kept = keep_one(f, 0);
    engine_leave_room(&f->engine, kv_max(f) / 2);
    bora_generation *generation = steady(1, "b");
    generation->deadline_ns = SOON;
    record *r = run(f, generation); /* PRESSURE is not answered */
    ended(r, BORA_REASON_DEADLINE);
    if (f->n_pressures > 0) /* it was late */
        bora_scheduler_relieved(f->engine.scheduler);
    close_sequence(f, kept);
    generation = steady(1, "b");
    generation->n_stored = 10;
    generation->deadline_ns = SOON;
    r = run(f, generation); /* neither is WANT_PAGES */
    ended(r, BORA_REASON_DEADLINE);
    assert_int_equal(stats_of(f).n_waiting, 0);
    if (r->reply)
        bora_scheduler_give_pages(f->engine.scheduler, bora_steal(&r->reply), NULL, 0, 0); /* too late */
    generation = steady(1, "b");
    generation->n_stored = 10;
    r = submit(f, generation);
    while (!r->reply)
        take(f);
    end(f, r); /* freed with its record */
}

static void test_stop(void **state)
{
    fixture *f = *state;
    record *kept = keep_one(f, 0);
    engine_leave_room(&f->engine, 2 * kv_max(f) + kv_max(f) / 2);
    record *running = submit(f, steady(1, "a"));
    await_tokens(f, running, 1);
    bora_generation *generation = owned(generation_of_text(2, 20, 1), "a");
    generation->n_stored = 10;
    record *restoring = submit(f, generation);
    while (!restoring->reply)
        take(f);
    record *waiting[3];
    for (uint32_t i = 0; i < 3; i++)
        waiting[i] = submit(f, steady(i, "b"));
    while (f->n_pressures == 0)
        take(f);
    bora_scheduler_stop(f->engine.scheduler);
    await(f, running);
    ended(running, BORA_REASON_SHUTDOWN);
    await(f, restoring);
    ended(restoring, BORA_REASON_SHUTDOWN);
    for (size_t i = 0; i < 3; i++) {
        await(f, waiting[i]);
        ended(waiting[i], BORA_REASON_SHUTDOWN);
    }
    bora_scheduler_relieved(f->engine.scheduler);
    bora_scheduler_give_pages(f->engine.scheduler, bora_steal(&restoring->reply), NULL, 0, 0);
    ended(run(f, steady(5, "a")), BORA_REASON_SHUTDOWN);
    kept->done->sequence = NULL; /* closed with the engine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_waits_for_room, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_too_large, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_owners_take_turns, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_background_has_its_turn, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_interactive_first, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_left_overs_go_first, setup_shelf, teardown),
        cmocka_unit_test_setup_teardown(test_pressure, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_pressure_in_vain, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_waits_for_the_store, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_choices_have_room, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_choices_have_room, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_shared_pages, setup_paged, teardown),
        cmocka_unit_test_setup_teardown(test_given_up, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_given_up_and_lost, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_deadlines, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_deadlines_of_an_idle_engine, setup_quant, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup_quant, teardown),
    };
    return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
