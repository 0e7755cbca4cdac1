/* Forks: a part of a conversation goes its own way with the bits that a fresh run would have; and what is no longer
 * held is refused. Plain C plugins promise the same bits, so bits are compared. */
#include "unit/engine/pipeline_fixture.h"

#define SLACK 48u
#define ODD   BORA_BUILD_DIR "/tests/unit/engine/odd/"

/* windows: 16 everywhere; 8 and none in turns; none. */
static const char *const models[] = {"moe-gqa-swa", "dense-perlayer", "dense-oddshapes"};
/* Two that fork by themselves, one whose pages have to be copied. */
static const char *const caches[] = {"ring", "paged", ODD "bare.so"};

static void start(fixture *f, const char *model, const char *cache, uint32_t n_stages)
{
    fixture_open(f, model);
    f->options.slack = SLACK;
    f->options.n_stages = n_stages;
    f->options.plugins[BORA_PLUGIN_CACHE] = cache;
    fixture_start(f);
}

static bool has_window(const fixture *f)
{
    for (uint32_t c = 0; c < bora_pipeline_n_classes(f->pipeline); c++)
        if (bora_pipeline_class_window(f->pipeline, c))
            return true;
    return false;
}

static bora_sequence *fork_at(const bora_sequence *sequence, uint64_t n)
{
    bora_sequence *fork = NULL;
    bora_error err = {""};
    if (bora_sequence_fork(sequence, n, &fork, &err) != BORA_OK)
        fail_msg("%llu positions: %s", (unsigned long long)n, err.message);
    assert_int_equal(bora_sequence_n_cached(fork), n);
    return fork;
}

static void fork_is(const bora_sequence *sequence, uint64_t n, bora_status status)
{
    bora_sequence *fork = NULL;
    bora_error err = {""};
    assert_int_equal(bora_sequence_fork(sequence, n, &fork, &err), status);
    assert_true(err.message[0] != '\0');
    assert_null(fork);
}

/* Goes on with a text, and the logits are those rows of should. */
static void goes_on(fixture *f, bora_sequence *sequence, uint32_t which, uint64_t end, const float *should)
{
    uint64_t from = bora_sequence_n_cached(sequence);
    float *is = fixture_feed(f, sequence, which, end, 11);
    assert_same_logits(f, is, should + from * f->vocab_size, end - from);
    bora_free(is);
}

typedef void (*body_fn)(fixture *f);

static void for_each(body_fn body)
{
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++)
        for (size_t c = 0; c < BORA_ARRAY_SIZE(caches); c++)
            for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
                fixture f;
                start(&f, models[m], caches[c], n_stages);
                body(&f);
                fixture_close(&f);
            }
}

/* ---- ways that part ----------------------------------------------------------------------------------------- */

/* Nothing was overwritten yet: any prefix can be had. */
static void body_forks_anywhere(fixture *f)
{
    static const uint64_t ends[] = {0, 1, 7, 16, 17, 63, 64, 65, 89, 90};
    float *should = fixture_feed_alone(f, 0, 140, 35);
    bora_sequence *source = fixture_sequence(f);
    bora_free(fixture_feed(f, source, 0, 90, 45));
    bora_sequence *forks[BORA_ARRAY_SIZE(ends)];
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ends); i++) {
        forks[i] = fork_at(source, ends[i]);
        /* With another text, which nobody else may notice ... */
        bora_sequence *fresh = fixture_sequence(f), *other = fork_at(source, ends[i]);
        bora_free(fixture_feed(f, fresh, 0, ends[i], 9));
        float *is = fixture_feed(f, other, 1, ends[i] + 30, 30);
        float *fresh_is = fixture_feed(f, fresh, 1, ends[i] + 30, 9);
        assert_same_logits(f, is, fresh_is, 30);
        bora_free(is);
        bora_free(fresh_is);
        bora_sequence_close(fresh);
        bora_sequence_close(other);
    }
    /* ... neither the source nor its other forks, in whatever order they come and go. */
    goes_on(f, source, 0, 110, should);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ends); i += 2)
        goes_on(f, forks[i], 0, 130, should);
    goes_on(f, source, 0, 140, should);
    bora_sequence_close(source);
    for (size_t i = 1; i < BORA_ARRAY_SIZE(ends); i += 2) {
        goes_on(f, forks[i], 0, 130, should);
        bora_sequence_close(forks[i]);
    }
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ends); i += 2)
        bora_sequence_close(forks[i]);
    bora_free(should);
}

static void test_forks_anywhere(void **state)
{
    (void)state;
    for_each(body_forks_anywhere);
}

/* ---- what is no longer held --------------------------------------------------------------------------------- */

/* At 300 a window of w keeps w + 48 + 64 positions: those from 192 on in whole pages. */
static void body_past_the_window(fixture *f)
{
    float *should = fixture_feed_alone(f, 0, 340, 40);
    bora_sequence *source = fixture_sequence(f);
    bora_free(fixture_feed(f, source, 0, 300, 40));
    const bool windows = has_window(f);
    uint64_t window = 0;
    for (uint32_t c = 0; c < bora_pipeline_n_classes(f->pipeline); c++)
        if (bora_pipeline_class_window(f->pipeline, c))
            window = bora_pipeline_class_window(f->pipeline, c);
    const uint64_t least = windows ? 192 + window - 1 : 1;
    assert_true(least <= 300 - SLACK); /* which is promised */
    if (windows) {
        fork_is(source, least - 1, BORA_E_LIMIT);
        fork_is(source, 64, BORA_E_LIMIT);
    }
    fork_is(source, 301, BORA_E_INVAL);

    assert_int_equal(bora_sequence_forkable(source, UINT64_MAX), 256);
    assert_int_equal(bora_sequence_forkable(source, 256), 256);
    assert_int_equal(bora_sequence_forkable(source, 255), windows ? 0 : 192);
    assert_int_equal(bora_sequence_forkable(source, 64), windows ? 0 : 64);
    assert_int_equal(bora_sequence_forkable(source, 63), 0);
    assert_int_equal(bora_sequence_forkable(source, 0), 0);

    const uint64_t ends[] = {least, 256, 299, 300};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ends); i++) {
        bora_sequence *fork = fork_at(source, ends[i]), *again = fork_at(fork, ends[i]);
        goes_on(f, again, 0, 320, should);
        bora_sequence_close(again);
        /* What can be taken back of the source can be taken back of the fork, and no more. */
        bora_sequence *cut = fork_at(fork, least);
        goes_on(f, cut, 0, 310, should);
        bora_sequence_close(cut);
        if (windows)
            assert_int_equal(bora_sequence_truncate(fork, least - 1, NULL), BORA_E_LIMIT);
        assert_int_equal(bora_sequence_truncate(fork, least, NULL), BORA_OK);
        goes_on(f, fork, 0, 340, should);
        bora_sequence_close(fork);
    }
    goes_on(f, source, 0, 340, should);
    bora_sequence_close(source);
    bora_free(should);
}

static void test_past_the_window(void **state)
{
    (void)state;
    for_each(body_past_the_window);
}

/* Taking back is a matter of what is there, not of a count: all of it while nothing was overwritten. */
static void body_takes_back_all_there_is(fixture *f)
{
    uint32_t capacity = UINT32_MAX; /* of the smallest class */
    for (uint32_t c = 0; c < bora_pipeline_n_classes(f->pipeline); c++) {
        uint32_t window = bora_pipeline_class_window(f->pipeline, c);
        if (window && window + SLACK + BORA_PAGE_POSITIONS < capacity)
            capacity = window + SLACK + BORA_PAGE_POSITIONS;
    }
    const uint64_t full = capacity == UINT32_MAX ? 150 : capacity;
    float *should = fixture_feed_alone(f, 0, 200, 40);
    static const uint64_t back_to[] = {60, 9, 1, 0};
    bora_sequence *sequence = fixture_sequence(f);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(back_to); i++) {
        bora_free(fixture_feed(f, sequence, 1, full, 40));
        assert_int_equal(bora_sequence_truncate(sequence, 0, NULL), BORA_OK);
        bora_free(fixture_feed(f, sequence, 0, full, 40));
        assert_int_equal(bora_sequence_truncate(sequence, back_to[i], NULL), BORA_OK);
        goes_on(f, sequence, 0, full, should);
    }
    goes_on(f, sequence, 0, full + 1, should); /* and one is overwritten */
    assert_int_equal(bora_sequence_truncate(sequence, 9, NULL), has_window(f) ? BORA_E_LIMIT : BORA_OK);
    goes_on(f, sequence, 0, 200, should);
    bora_sequence_close(sequence);
    bora_free(should);
}

static void test_takes_back_all_there_is(void **state)
{
    (void)state;
    for_each(body_takes_back_all_there_is);
}

/* A batch that was cancelled has overwritten as far as it got. */
static void body_after_a_cancelled_batch(fixture *f)
{
    float *should = fixture_feed_alone(f, 0, 290, 40);
    bora_sequence *source = fixture_sequence(f);
    bora_free(fixture_feed(f, source, 0, 250, 40));
    canceller cancel = {.at = "layers.0.out"};
    bora_pipeline_trace(f->pipeline, cancel_on_trace, &cancel);
    const int32_t wrong[SLACK] = {0};
    float *logits = bora_calloc((size_t)SLACK * f->vocab_size, sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(fixture_try(f, source, wrong, SLACK, &cancel.flag, logits, NULL), BORA_E_CANCELLED);
    bora_pipeline_trace(f->pipeline, NULL, NULL);
    bora_free(logits);
    bora_sequence *fork = fork_at(source, 250);
    goes_on(f, fork, 0, 290, should);
    bora_sequence_close(fork);
    /* 298 positions were there: as in the test above. */
    assert_int_equal(bora_sequence_forkable(source, 250), has_window(f) ? 0 : 192);
    goes_on(f, source, 0, 290, should);
    bora_sequence_close(source);
    bora_free(should);
}

static void test_after_a_cancelled_batch(void **state)
{
    (void)state;
    for_each(body_after_a_cancelled_batch);
}

/* What can be forked can be stored: every page that restoring needs is there. */
static void body_stored_and_restored(fixture *f)
{
    float *should = fixture_feed_alone(f, 0, 340, 40);
    bora_sequence *source = fixture_sequence(f);
    bora_free(fixture_feed(f, source, 0, 300, 40));
    for (uint64_t n = 192; n <= 300; n += 3) {
        bora_sequence *fork = NULL;
        if (bora_sequence_fork(source, n, &fork, NULL) != BORA_OK)
            continue;
        bora_page *pages = NULL;
        size_t n_pages = 0;
        uint64_t keep_from[BORA_CLASSES_MAX];
        bora_error err = {""};
        assert_int_equal(bora_sequence_export(fork, 0, &pages, &n_pages, keep_from, NULL), BORA_OK);
        bora_sequence_close(fork);
        bora_sequence *restored = fixture_sequence(f);
        if (bora_sequence_import(restored, n, pages, n_pages, &err) != BORA_OK)
            fail_msg("%llu positions: %s", (unsigned long long)n, err.message);
        bora_pages_free(pages, n_pages);
        goes_on(f, restored, 0, n + 3, should);
        bora_sequence_close(restored);
    }
    bora_sequence_close(source);
    bora_free(should);
}

static void test_stored_and_restored(void **state)
{
    (void)state;
    for_each(body_stored_and_restored);
}

/* Restored from the newest pages alone: a fork knows what is missing as well as its source does. */
static void body_of_a_restored_one(fixture *f)
{
    float *should = fixture_feed_alone(f, 0, 300, 40);
    bora_sequence *source = fixture_sequence(f);
    bora_free(fixture_feed(f, source, 0, 280, 40));
    bora_page *pages = NULL;
    size_t n_pages = 0;
    uint64_t keep_from[BORA_CLASSES_MAX], window = 0;
    assert_int_equal(bora_sequence_export(source, 0, &pages, &n_pages, keep_from, NULL), BORA_OK);
    bora_sequence_close(source);
    for (size_t i = 0; i < n_pages; i++) /* of windows only what position 280 needs: 256 .. 279 */
        if (bora_pipeline_class_window(f->pipeline, pages[i].class_id)) {
            window = bora_pipeline_class_window(f->pipeline, pages[i].class_id);
            if (pages[i].index < 4)
                pages[i].index += 1000;
        }
    source = fixture_sequence(f);
    bora_error err = {""};
    if (bora_sequence_import(source, 280, pages, n_pages, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_pages_free(pages, n_pages);
    const uint64_t least = window ? 256 + window - 1 : 1;
    bora_sequence *fork = fork_at(source, 278);
    bora_sequence_close(source);
    if (window) {
        fork_is(fork, least - 1, BORA_E_LIMIT);
        assert_int_equal(bora_sequence_truncate(fork, least - 1, NULL), BORA_E_LIMIT);
    }
    goes_on(f, fork, 0, 290, should); /* nothing was forgotten by the layers without a window */
    assert_int_equal(bora_sequence_truncate(fork, least, NULL), BORA_OK);
    goes_on(f, fork, 0, 300, should);
    bora_sequence_close(fork);
    bora_free(should);
}

static void test_of_a_restored_one(void **state)
{
    (void)state;
    for_each(body_of_a_restored_one);
}

/* ---- no memory ---------------------------------------------------------------------------------------------- */

static void body_no_memory(fixture *f)
{
    float *should = fixture_feed_alone(f, 0, 340, 40);
    bora_sequence *source = fixture_sequence(f), *fork = NULL;
    bora_free(fixture_feed(f, source, 0, 300, 40));
    bora_status st = BORA_E_NOMEM;
    uint32_t n_failed = 0;
    for (uint64_t n = 1; st != BORA_OK; n++) {
        bora_error err = {""};
        (void)bora_memory_fail_at(n);
        st = bora_sequence_fork(source, 290, &fork, &err);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && !fork && err.message[0]));
        n_failed += st != BORA_OK;
    }
    assert_true(n_failed > 1); /* the sequence, its part in the cache */
    goes_on(f, source, 0, 340, should);
    goes_on(f, fork, 0, 340, should);
    bora_sequence_close(source);
    bora_sequence_close(fork);
    bora_free(should);
}

static void test_no_memory(void **state)
{
    (void)state;
    for_each(body_no_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forks_anywhere),
        cmocka_unit_test(test_past_the_window),
        cmocka_unit_test(test_takes_back_all_there_is),
        cmocka_unit_test(test_after_a_cancelled_batch),
        cmocka_unit_test(test_stored_and_restored),
        cmocka_unit_test(test_of_a_restored_one),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
