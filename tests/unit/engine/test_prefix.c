/* Beginnings taken over from other sequences of the same owner: whole pages, the same bits, and nobody else's. Every
 * answer is compared with that of an owner who has nothing to take over. */
#include "scheduler_fixture.h"

#define PAGE BORA_PAGE_POSITIONS

static int open_with(void **state, const char *cache, uint32_t kv_dtype)
{
    engine_options options = ENGINE_DEFAULT;
    options.n_left_max = 8;
    options.cache = cache;
    options.kv_dtype = kv_dtype;
    *state = fixture_open(&options);
    return 0;
}

static int setup_ring(void **state)
{
    return open_with(state, "ring", BORA_DTYPE_F32);
}

static int setup_paged(void **state)
{
    return open_with(state, "paged", BORA_DTYPE_F32);
}

static int setup_paged_q8(void **state)
{
    return open_with(state, "paged", BORA_DTYPE_Q8_0);
}

static int setup_few(void **state)
{
    engine_options options = ENGINE_DEFAULT;
    options.n_left_max = 2;
    *state = fixture_open(&options);
    return 0;
}

/* n_common tokens of one text, then those of another, n in all. */
static bora_generation *branch(uint32_t which, size_t n_common, uint32_t other, size_t n, uint32_t max_generated)
{
    bora_generation *generation = generation_of_text(which, n, max_generated);
    for (size_t i = n_common; i < n; i++)
        generation->tokens[i] = text_token(other, i);
    assert_true(n_common >= n || text_token(which, n_common) != text_token(other, n_common));
    return generation;
}

static bora_generation *copy_of(const bora_generation *generation)
{
    return generation_of_tokens(generation->tokens, generation->n_tokens, generation->max_generated);
}

/* An owner who was never here before. */
static bora_generation *stranger(fixture *f, bora_generation *generation)
{
    char name[BORA_OWNER_SIZE];
    (void)snprintf(name, sizeof name, "stranger%zu", f->n_records);
    return owned(generation, name);
}

static void reused(const record *r, uint64_t n)
{
    assert_int_equal(r->n_reused, n);
    assert_int_equal(r->done->n_reused, n);
    assert_int_equal(r->n_reused % PAGE, 0);
}

/* Runs it for the owner and for a stranger: n_reused, and no difference. */
static record *same_as_alone(fixture *f, const char *owner, bora_generation *generation, uint64_t n_reused)
{
    bora_generation *alone = stranger(f, copy_of(generation));
    size_t n_tokens = generation->n_tokens;
    record *is = run(f, owned(generation, owner)), *should = run(f, alone);
    ended(is, BORA_REASON_LENGTH);
    ended(should, BORA_REASON_LENGTH);
    reused(is, n_reused);
    reused(should, 0);
    assert_int_equal(is->n_cached, n_reused);
    assert_int_equal(is->n_prompt, n_tokens - n_reused);
    assert_int_equal(should->n_tokens, is->n_tokens);
    same(is, should, is->n_tokens);
    return is;
}

static void leave(fixture *f, const char *owner, uint32_t which, size_t n, uint32_t max_generated)
{
    record *r = run(f, owned(generation_of_text(which, n, max_generated), owner));
    ended(r, BORA_REASON_LENGTH);
}

/* ---- what is taken over ----------------------------------------------------------------------------------------- */

static void test_same_beginning(void **state)
{
    fixture *f = *state;
    leave(f, "a", 1, 200, 8);
    uint64_t before = stats_of(f).n_reused_tokens;
    assert_int_equal(before, 0);
    same_as_alone(f, "a", branch(1, 150, 2, 200, 8), 128);
    assert_int_equal(stats_of(f).n_reused_tokens, 128);
    /* Borders of pages. At least one token is left to run. */
    same_as_alone(f, "a", branch(1, 64, 3, 100, 2), 64);
    same_as_alone(f, "a", branch(1, 63, 4, 100, 2), 0);
    same_as_alone(f, "a", branch(1, 129, 0, 129, 2), 128);
    same_as_alone(f, "a", branch(1, 128, 0, 128, 2), 64);
    same_as_alone(f, "a", branch(1, 1, 0, 1, 2), 0);
    assert_int_equal(stats_of(f).n_reused_tokens, 128 + 64 + 128 + 64);
}

/* What was generated is in the cache as well. */
static void test_answer_is_part(void **state)
{
    fixture *f = *state;
    record *first = run(f, owned(generation_of_text(1, 60, 70), "a"));
    bora_generation *next = generation_of_text(1, 60 + 70 + 10, 5);
    memcpy(next->tokens + 60, first->tokens, 70 * sizeof *next->tokens);
    same_as_alone(f, "a", next, 128);
}

static void test_other_owners(void **state)
{
    fixture *f = *state;
    leave(f, "alice", 1, 200, 2);
    leave(f, "", 2, 200, 2);
    static const char *const others[] = {"alic", "alice2", "Alice", "bob", ""};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(others); i++) {
        record *r = run(f, owned(generation_of_text(1, 200, 1), others[i]));
        reused(r, 0);
    }
    reused(run(f, owned(generation_of_text(2, 200, 1), "bob")), 0);
    reused(run(f, owned(generation_of_text(1, 200, 1), "alice")), 192);
    /* Nor while it runs, nor when it is an idle session. */
    bora_generation *running = owned(generation_of_text(3, 200, 60), "alice");
    running->keep = true;
    record *busy = submit(f, running);
    await_tokens(f, busy, 1);
    reused(run(f, owned(generation_of_text(3, 200, 1), "carol")), 0);
    await(f, busy);
    reused(run(f, owned(generation_of_text(3, 200, 1), "dave")), 0);
    close_sequence(f, busy);
}

/* Where layers have a window, what it needs must still be there. */
static void test_past_the_window(void **state)
{
    fixture *f = *state;
    leave(f, "a", 1, 900, 2);
    same_as_alone(f, "a", branch(1, 300, 2, 340, 4), 0);
    leave(f, "b", 1, 900, 2);
    same_as_alone(f, "b", branch(1, 700, 2, 740, 4), 0);
    leave(f, "c", 1, 900, 2);
    same_as_alone(f, "c", branch(1, 895, 2, 910, 10), 832);
    leave(f, "d", 1, 900, 2);
    same_as_alone(f, "d", branch(1, 900, 0, 900, 70), 896);
}

/* An idle session serves as a beginning and goes on unchanged, however often. */
static void test_edited_message(void **state)
{
    fixture *f = *state;
    bora_generation *generation = owned(generation_of_text(1, 300, 10), "a");
    generation->keep = true;
    record *first = run(f, generation);
    bora_sequence *session = first->done->sequence;
    assert_non_null(session);
    record *edited = same_as_alone(f, "a", branch(1, 280, 2, 320, 10), 256);
    same_as_alone(f, "a", branch(1, 220, 3, 400, 30), 192);
    assert_int_equal(bora_sequence_n_cached(session), 309);
    bora_generation *more = owned(generation_of_text(1, 340, 40), "a");
    memcpy(more->tokens + 300, first->tokens, 10 * sizeof *more->tokens);
    bora_generation *alone = stranger(f, copy_of(more));
    more->sequence = session;
    more->keep = true;
    record *rest = run(f, more);
    reused(rest, 0); /* it brought its own */
    assert_int_equal(rest->n_cached, 309);
    assert_ptr_equal(rest->done->sequence, session);
    same(rest, run(f, alone), 40);
    close_sequence(f, rest);
    (void)edited;
}

static void test_from_a_running_one(void **state)
{
    fixture *f = *state;
    record *long_one = submit(f, owned(generation_of_text(1, 150, 200), "a"));
    await_tokens(f, long_one, 60);
    record *is = submit(f, owned(branch(1, 140, 2, 200, 20), "a"));
    while (is->n_started == 0)
        take(f);
    assert_int_equal(long_one->n_done, 0);
    await(f, is);
    reused(is, 128);
    same(is, run(f, stranger(f, branch(1, 140, 2, 200, 20))), 20);
    /* In the middle of its prompt, too: as much as was run. */
    record *prompt = submit(f, owned(generation_of_text(5, 600, 3), "a"));
    while (prompt->last_progress < 200)
        take(f);
    is = submit(f, owned(branch(5, 190, 6, 230, 20), "a"));
    await(f, is);
    same(is, run(f, stranger(f, branch(5, 190, 6, 230, 20))), 20);
    assert_true(is->n_reused == 128 || prompt->last_progress > 450); /* unless its window had passed on */
    reused(is, is->n_reused);
    await(f, prompt);
    same(prompt, run(f, stranger(f, generation_of_text(5, 600, 3))), 3);
    await(f, long_one);
    same(long_one, run(f, stranger(f, generation_of_text(1, 150, 200))), 200);
}

/* What a cancelled one has read is good. */
static void test_after_cancel(void **state)
{
    fixture *f = *state;
    for (size_t at = 32; at <= 160; at += 64) {
        char name[BORA_OWNER_SIZE];
        (void)snprintf(name, sizeof name, "owner%zu", at);
        record *cut = submit(f, owned(generation_of_text(1, 250, 3000), name));
        while (cut->last_progress < at)
            take(f);
        cancel(f, cut);
        await(f, cut);
        ended(cut, BORA_REASON_CANCELLED);
        uint64_t n = cut->done->n_cached < 249 ? cut->done->n_cached : 249;
        same_as_alone(f, name, generation_of_text(1, 250, 10), n / PAGE * PAGE);
    }
}

/* At random: many texts that share beginnings. */
static void test_tree(void **state)
{
    fixture *f = *state;
    uint32_t seed = 4711;
    int32_t tokens[300];
    record *pending[24];
    bora_generation *alone[24];
    size_t n_reused = 0;
    for (size_t i = 0; i < 24; i++) {
        size_t n = 20;
        for (size_t t = 0; t < 300; t++) {
            if (t % 50 == 0)
                seed = seed * 1664525u + 1013904223u;
            tokens[t] = text_token((seed >> 16) % 2, t);
        }
        seed = seed * 1664525u + 1013904223u;
        n += (seed >> 8) % 280;
        bora_generation *generation = generation_of_tokens(tokens, n, 1 + (seed >> 20) % 6);
        alone[i] = copy_of(generation);
        pending[i] = submit(f, owned(generation, "a"));
        if (i % 3 == 0)
            await(f, pending[i]);
    }
    for (size_t i = 0; i < 24; i++)
        await(f, pending[i]);
    for (size_t i = 0; i < 24; i++) {
        record *should = run(f, stranger(f, alone[i]));
        same(pending[i], should, should->n_tokens);
        reused(pending[i], pending[i]->n_reused);
        n_reused += pending[i]->n_reused > 0;
    }
    assert_true(n_reused > 6);
}

/* ---- what is left behind ------------------------------------------------------------------------------------------
 */

static void test_trimmed(void **state)
{
    fixture *f = *state; /* two are kept */
    assert_int_equal(stats_of(f).n_left_over, 0);
    leave(f, "a", 1, 40, 4); /* too short to be of use */
    assert_int_equal(stats_of(f).n_left_over, 0);
    for (uint32_t which = 1; which <= 3; which++)
        leave(f, "a", which, 100, 2);
    bora_scheduler_stats stats = stats_of(f);
    assert_int_equal(stats.n_left_over, 2);
    assert_int_equal(stats.n_on_shelf, 2);
    assert_true(stats.shelf_bytes > 0);
    assert_int_equal(stats.shelf_bytes, stats.kv_bytes);
    reused(run(f, owned(generation_of_text(1, 100, 1), "a")), 0); /* the oldest went; now 2 does */
    reused(run(f, owned(generation_of_text(3, 100, 1), "a")), 64);
    reused(run(f, owned(generation_of_text(2, 100, 1), "a")), 0);
    assert_int_equal(stats_of(f).n_left_over, 2);
}

static void test_none_kept(void **state)
{
    fixture *f = *state;
    leave(f, "a", 1, 200, 2);
    assert_int_equal(stats_of(f).n_on_shelf, 0);
    reused(run(f, owned(generation_of_text(1, 200, 1), "a")), 0);
}

/* ---- and stored ------------------------------------------------------------------------------------------------- */

/* A session that began with a beginning of another: its pages are whole, and restore it exactly. */
static void stored(fixture *f, size_t n, size_t n_common, uint64_t n_reused)
{
    char name[BORA_OWNER_SIZE];
    (void)snprintf(name, sizeof name, "owner%zu", n);
    leave(f, name, 1, n, 2);
    bora_generation *generation = owned(branch(1, n_common, 2, n + 20, 10), name);
    bora_generation *whole = stranger(f, copy_of(generation));
    whole->max_generated = 30;
    generation->export_pages = generation->keep = true;
    record *first = run(f, generation), *should = run(f, whole);
    ended(first, BORA_REASON_LENGTH);
    reused(first, n_reused);
    same(first, should, 10);
    uint64_t n_cached = first->done->n_cached;
    assert_int_equal(n_cached, n + 20 + 9);
    assert_false(first->done->replaced_pages);
    close_sequence(f, first);

    /* Every page that restoring needs is there. */
    for (uint32_t c = 0; c < first->done->n_classes; c++)
        for (uint64_t index = first->done->keep_from[c]; index * PAGE < n_cached; index++) {
            size_t n_found = 0;
            for (size_t i = 0; i < first->done->n_pages; i++)
                n_found += first->done->pages[i].class_id == c && first->done->pages[i].index == index;
            bool may_be_cut = index == first->done->keep_from[c] && index > 0; /* rolled over in part */
            assert_true(n_found == 1 || may_be_cut);
        }
    bora_generation *rest = generation_of_text(1, n + 20 + 10, 20);
    for (size_t i = 0; i < n + 20; i++)
        rest->tokens[i] = i < n_common ? text_token(1, i) : text_token(2, i);
    memcpy(rest->tokens + n + 20, first->tokens, 10 * sizeof *rest->tokens);
    rest->restore = bora_steal(&first->done->pages);
    rest->n_restore = first->done->n_pages;
    first->done->n_pages = 0;
    rest->restore_n_cached = n_cached;
    record *r = run(f, stranger(f, rest));
    ended(r, BORA_REASON_LENGTH);
    assert_false(r->restore_failed);
    assert_int_equal(r->n_cached, n_cached);
    assert_memory_equal(r->tokens, should->tokens + 10, 20 * sizeof *r->tokens);
    assert_memory_equal(r->logprobs, should->logprobs + 10, 20 * sizeof *r->logprobs);
}

static void test_stored(void **state)
{
    stored(*state, 100, 70, 64);
    stored(*state, 250, 249, 192);
    stored(*state, 500, 480, 448);
}

/* ---- no memory ----------------------------------------------------------------------------------------------------
 */

/* At each allocation: it ends well, taking something over or not, or says that there is no memory; and the next one
 * finds everything in order. */
static void test_no_memory(void **state)
{
    fixture *f = *state;
    leave(f, "a", 1, 140, 1);
    record *should = run(f, stranger(f, branch(1, 130, 2, 150, 3)));
    size_t n_failed = 0, n_without = 0, n_after = 0;
    for (uint64_t at = 1; n_after == 0 || at < n_after + 3; at++) {
        bora_generation *generation = owned(branch(1, 130, 2, 150, 3), "a");
        record *r = record_new(f->n_records + 1, 1);
        f->records[f->n_records++] = r;
        generation->id = r->id;
        (void)bora_memory_fail_at(at);
        bora_status st = bora_scheduler_submit(f->engine.scheduler, generation, NULL);
        if (st == BORA_OK)
            await(f, r);
        uint64_t n = bora_memory_fail_at(0);
        n_after = n < at && n_after == 0 ? at : n_after;
        if (st != BORA_OK) {
            assert_int_equal(st, BORA_E_NOMEM);
            bora_generation_free(generation);
            n_failed++;
        } else if (r->done->reason == BORA_REASON_ERROR) {
            assert_true(r->done->status == BORA_E_NOMEM || r->done->status == BORA_E_LIMIT);
            n_failed++;
        } else {
            ended(r, BORA_REASON_LENGTH);
            same(r, should, 3);
            n_without += r->n_reused == 0;
        }
        assert_true(at < 300);
    }
    assert_true(n_failed > 3);
    (void)n_without;
    same_as_alone(f, "a", branch(1, 130, 2, 150, 3), 128);
}

int main(void)
{
#define IN_BOTH(test)                                                                                                  \
    {#test " (ring)", test, setup_ring, teardown, NULL},                                                               \
    {                                                                                                                  \
#test " (paged)", test, setup_paged, teardown, NULL                                                            \
    }
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_same_beginning),
        IN_BOTH(test_answer_is_part),
        cmocka_unit_test_setup_teardown(test_other_owners, setup_ring, teardown),
        IN_BOTH(test_past_the_window),
        IN_BOTH(test_edited_message),
        IN_BOTH(test_from_a_running_one),
        IN_BOTH(test_after_cancel),
        IN_BOTH(test_tree),
        cmocka_unit_test_setup_teardown(test_tree, setup_paged_q8, teardown),
        cmocka_unit_test_setup_teardown(test_trimmed, setup_few, teardown),
        cmocka_unit_test_setup_teardown(test_none_kept, setup, teardown),
        IN_BOTH(test_stored),
        IN_BOTH(test_no_memory),
    };
    return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
