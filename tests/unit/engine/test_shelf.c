/* The shelf: what lies there, whose it is, and what goes first. */
#include "pipeline_fixture.h"

#include "engine/shelf.h"

typedef struct shelf_fixture {
    fixture pipeline;
    bora_shelf shelf;
} shelf_fixture;

static int setup(void **state)
{
    static shelf_fixture f;
    fixture_open(&f.pipeline, "dense-mha");
    fixture_start(&f.pipeline);
    f.shelf = (bora_shelf){.n = 0};
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    shelf_fixture *f = *state;
    bora_shelf_release(&f->shelf);
    assert_null(f->shelf.entries);
    fixture_close(&f->pipeline);
    return 0;
}

/* With the first n tokens of a text. */
static bora_sequence *put(shelf_fixture *f, const char *owner, uint32_t which, size_t n, bool is_handed_out)
{
    bora_error err = {""};
    assert_int_equal(bora_shelf_reserve(&f->shelf, 1, &err), BORA_OK);
    bora_sequence *sequence = fixture_sequence(&f->pipeline);
    int32_t *tokens = bora_calloc(n, sizeof *tokens);
    assert_non_null(tokens);
    for (size_t i = 0; i < n; i++)
        tokens[i] = fixture_token(which, i);
    bora_shelf_put(&f->shelf, sequence, owner, tokens, n, is_handed_out);
    return sequence;
}

static bora_sequence *find(shelf_fixture *f, const char *owner, uint32_t which, size_t n, size_t *ret_n)
{
    int32_t tokens[512];
    for (size_t i = 0; i < n; i++)
        tokens[i] = fixture_token(which, i);
    bora_shelf_entry *entry = bora_shelf_find(&f->shelf, owner, tokens, n, ret_n);
    return entry ? entry->sequence : NULL;
}

static void test_common(void **state)
{
    (void)state;
    const int32_t a[] = {1, 2, 3, 4}, b[] = {1, 2, 4, 4};
    assert_int_equal(bora_tokens_common(a, 4, a, 4), 4);
    assert_int_equal(bora_tokens_common(a, 4, a, 3), 3);
    assert_int_equal(bora_tokens_common(a, 2, a, 4), 2);
    assert_int_equal(bora_tokens_common(a, 4, b, 4), 2);
    assert_int_equal(bora_tokens_common(a, 0, b, 4), 0);
    assert_int_equal(bora_tokens_common(a, 4, b + 1, 3), 0);
    assert_int_equal(bora_tokens_common(NULL, 0, NULL, 0), 0);
}

static void test_find(void **state)
{
    shelf_fixture *f = *state;
    size_t n = 7;
    assert_null(find(f, "a", 1, 10, &n));
    assert_int_equal(n, 0);
    bora_sequence *shorter = put(f, "a", 1, 20, false), *longer = put(f, "a", 1, 40, true);
    put(f, "a", 2, 50, false);
    bora_sequence *other = put(f, "b", 1, 60, false), *nobody = put(f, "", 1, 70, false);
    assert_ptr_equal(find(f, "a", 1, 100, &n), longer);
    assert_int_equal(n, 40);
    assert_ptr_equal(find(f, "b", 1, 100, &n), other);
    assert_int_equal(n, 60);
    assert_ptr_equal(find(f, "", 1, 100, &n), nobody);
    assert_int_equal(n, 70);
    assert_null(find(f, "c", 1, 100, &n));
    assert_null(find(f, "ab", 1, 100, &n)); /* names are compared whole */
    assert_non_null(find(f, "a", 1, 10, &n));
    assert_int_equal(n, 10);
    assert_null(find(f, "a", 3, 10, &n)); /* begins otherwise */
    assert_true(bora_shelf_take(&f->shelf, longer));
    assert_ptr_equal(find(f, "a", 1, 100, &n), shorter);
    assert_int_equal(n, 20);
    assert_false(bora_shelf_take(&f->shelf, longer)); /* it is gone */
    bora_sequence_close(longer);
    assert_int_equal(f->shelf.n, 4);
}

/* Without tokens it can be taken and closed, and is of no use to others. */
static void test_no_tokens(void **state)
{
    shelf_fixture *f = *state;
    size_t n = 7;
    bora_error err = {""};
    assert_int_equal(bora_shelf_reserve(&f->shelf, 1, &err), BORA_OK);
    bora_sequence *sequence = fixture_sequence(&f->pipeline);
    bora_shelf_put(&f->shelf, sequence, "a", NULL, 0, true);
    assert_null(find(f, "a", 1, 10, &n));
    assert_int_equal(n, 0);
    assert_true(bora_shelf_take(&f->shelf, sequence));
    bora_sequence_close(sequence);
}

static void test_long_owner(void **state)
{
    shelf_fixture *f = *state;
    char owner[BORA_OWNER_SIZE];
    memset(owner, 'x', sizeof owner);
    owner[sizeof owner - 1] = '\0';
    size_t n = 0;
    bora_sequence *sequence = put(f, owner, 1, 5, false);
    assert_ptr_equal(find(f, owner, 1, 5, &n), sequence);
    owner[sizeof owner - 2] = '\0';
    assert_null(find(f, owner, 1, 5, &n));
}

/* What was left behind goes in order of use; what was handed out stays. */
static void test_oldest_first(void **state)
{
    shelf_fixture *f = *state;
    size_t n;
    assert_false(bora_shelf_drop_oldest(&f->shelf));
    bora_sequence *kept = put(f, "a", 0, 10, true);
    for (uint32_t which = 1; which <= 5; which++)
        put(f, "a", which, 10, false);
    bora_shelf_trim(&f->shelf, 5);
    assert_int_equal(f->shelf.n, 6);
    /* The first is used again. */
    int32_t tokens[10];
    for (size_t i = 0; i < 10; i++)
        tokens[i] = fixture_token(1, i);
    bora_shelf_find(&f->shelf, "a", tokens, 10, &n)->last_used = ++f->shelf.clock;
    bora_shelf_trim(&f->shelf, 3);
    assert_int_equal(f->shelf.n, 4);
    assert_non_null(find(f, "a", 1, 10, &n));
    assert_int_equal(n, 10);
    for (uint32_t which = 2; which <= 3; which++) {
        (void)find(f, "a", which, 10, &n);
        assert_int_equal(n, 0);
    }
    assert_true(bora_shelf_drop_oldest(&f->shelf));
    (void)find(f, "a", 4, 10, &n);
    assert_int_equal(n, 0);
    bora_shelf_trim(&f->shelf, 0);
    assert_int_equal(f->shelf.n, 1);
    assert_false(bora_shelf_drop_oldest(&f->shelf));
    assert_ptr_equal(find(f, "a", 0, 10, &n), kept);
}

static void test_no_memory(void **state)
{
    shelf_fixture *f = *state;
    bora_error err = {""};
    put(f, "a", 1, 10, false);
    size_t room = f->shelf.capacity - f->shelf.n, n;
    (void)bora_memory_fail_at(1);
    bora_status st = bora_shelf_reserve(&f->shelf, room + 1, &err);
    bora_status enough = bora_shelf_reserve(&f->shelf, room, &err);
    (void)bora_memory_fail_at(0);
    assert_int_equal(st, BORA_E_NOMEM);
    assert_int_equal(enough, BORA_OK);        /* it was there */
    assert_non_null(find(f, "a", 1, 10, &n)); /* nothing is lost */
    assert_int_equal(bora_shelf_reserve(&f->shelf, room + 1, &err), BORA_OK);
    size_t capacity = f->shelf.capacity;
    assert_true(capacity >= f->shelf.n + room + 1);
    for (size_t i = 0; i <= room; i++)
        put(f, "a", 2, 3, false);
    assert_int_equal(f->shelf.capacity, capacity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_common),
        cmocka_unit_test_setup_teardown(test_find, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oldest_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };
    return cmocka_run_group_tests_name("shelf", tests, NULL, NULL);
}
