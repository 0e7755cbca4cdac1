/* Taking back and canonical pages: a sequence that was cut, or stored and restored into another pipeline, goes on with
 * the same bits. */
#include "unit/engine/pipeline_fixture.h"

/* windows: 16 everywhere; 8 and none in turns; none. */
static const char *const models[] = {"moe-gqa-swa", "dense-perlayer", "dense-oddshapes"};

/* ---- taking back -------------------------------------------------------------------------------------------- */

static void truncate_and_redo(const char *model, uint32_t n_stages)
{
    fixture f;
    fixture_open(&f, model);
    f.options.slack = 48;
    f.options.n_stages = n_stages;
    fixture_start(&f);
    float *should = fixture_feed_alone(&f, 0, 260, 48);
    bora_sequence *sequence = fixture_sequence(&f);
    static const uint64_t ends[][2] = {{30, 7}, {44, 0}, {150, 110}, {158, 113}, {230, 200}, {200, 200}, {248, 247}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ends); i++) {
        uint64_t from = bora_sequence_n_cached(sequence), to = ends[i][1];
        if (ends[i][0] > from) {
            float *is = fixture_feed(&f, sequence, 0, ends[i][0], 11);
            assert_same_logits(&f, is, should + from * f.vocab_size, ends[i][0] - from);
            bora_free(is);
        }
        /* What is taken back was another text than what follows. */
        if (i % 2)
            bora_free(fixture_feed(&f, sequence, 1, ends[i][0] + 3, 2));
        assert_int_equal(bora_sequence_truncate(sequence, to, NULL), BORA_OK);
        assert_int_equal(bora_sequence_n_cached(sequence), to);
    }
    float *is = fixture_feed(&f, sequence, 0, 260, 13);
    assert_same_logits(&f, is, should + (size_t)247 * f.vocab_size, 260 - 247);
    bora_free(is);

    /* Too far, where there is a window: refused, and nothing has changed. Of 260 positions all from 192 on are held in
     * whole pages; the option's slack is a promise, the page beyond it allows more where it happens to. */
    bora_error err = {""};
    const uint64_t window = bora_pipeline_class_window(f.pipeline, 0), least = 192 + window - 1;
    bora_status st = bora_sequence_truncate(sequence, least - 1, &err);
    if (bora_pipeline_kv_sequence_max(f.pipeline) ==
        f.options.max_positions * bora_pipeline_kv_position_size(f.pipeline)) {
        assert_int_equal(st, BORA_OK);
    } else {
        assert_int_equal(st, BORA_E_LIMIT);
        assert_true(err.message[0] != '\0');
        assert_int_equal(bora_sequence_n_cached(sequence), 260);
        assert_true(least <= 260 - f.options.slack);
        assert_int_equal(bora_sequence_truncate(sequence, least, NULL), BORA_OK);
        /* Counted from the furthest position, not from here. */
        assert_int_equal(bora_sequence_truncate(sequence, least - 1, NULL), BORA_E_LIMIT);
    }
    uint64_t at = bora_sequence_n_cached(sequence);
    assert_int_equal(bora_sequence_truncate(sequence, at + 5, NULL), BORA_OK); /* past the end: nothing to do */
    assert_int_equal(bora_sequence_n_cached(sequence), at);
    is = fixture_feed(&f, sequence, 0, 260, 20);
    assert_same_logits(&f, is, should + at * f.vocab_size, 260 - at);
    bora_free(is);
    bora_free(should);
    bora_sequence_close(sequence);
    fixture_close(&f);
}

static void test_truncate_and_redo(void **state)
{
    (void)state;
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++)
        for (uint32_t n_stages = 1; n_stages <= 4; n_stages++)
            truncate_and_redo(models[m], n_stages);
}

/* ---- a store in small: the newest page of each place ---------------------------------------------------------- */

typedef struct book {
    bora_page pages[256];
    size_t n;
} book;

static void book_release(book *b)
{
    for (size_t i = 0; i < b->n; i++)
        bora_page_release(&b->pages[i]);
    b->n = 0;
}

/* Takes what is new since a position, and drops what restoring does not need any more. */
static void book_update(book *b, const bora_sequence *sequence, uint64_t since)
{
    bora_page *pages = NULL;
    size_t n = 0, kept = 0;
    uint64_t keep_from[BORA_CLASSES_MAX];
    bora_error err = {""};
    if (bora_sequence_export(sequence, since, &pages, &n, keep_from, &err) != BORA_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < b->n; i++) {
        bool replaced = b->pages[i].index < keep_from[b->pages[i].class_id];
        for (size_t p = 0; p < n; p++)
            replaced |= pages[p].class_id == b->pages[i].class_id && pages[p].index == b->pages[i].index;
        if (replaced)
            bora_page_release(&b->pages[i]);
        else
            b->pages[kept++] = b->pages[i];
    }
    b->n = kept;
    for (size_t p = 0; p < n; p++) {
        assert_true(b->n < BORA_ARRAY_SIZE(b->pages));
        b->pages[b->n++] = pages[p];
    }
    bora_free(pages); /* what they point to is the book's now */
}

static bora_sequence *restore(fixture *f, const book *b, uint64_t n_cached)
{
    bora_sequence *sequence = fixture_sequence(f);
    bora_error err = {""};
    if (bora_sequence_import(sequence, n_cached, b->pages, b->n, &err) != BORA_OK)
        fail_msg("restoring %llu positions: %s", (unsigned long long)n_cached, err.message);
    assert_int_equal(bora_sequence_n_cached(sequence), n_cached);
    return sequence;
}

static void round_trip(const char *model, uint32_t stages_before, uint32_t stages_after, uint32_t dtype)
{
    static const uint64_t lengths[] = {1, 63, 64, 65, 300};
    fixture f, g;
    fixture_open(&f, model);
    fixture_open(&g, model);
    f.options.n_stages = stages_before;
    g.options.n_stages = stages_after;
    f.options.slack = g.options.slack = 40;
    f.options.kv_dtype = g.options.kv_dtype = dtype;
    fixture_start(&f);
    fixture_start(&g);
    float *should = fixture_feed_alone(&f, 0, 340, 40);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(lengths); i++) {
        bora_sequence *before = fixture_sequence(&f);
        bora_free(fixture_feed(&f, before, 0, lengths[i], 40));
        book b = {.n = 0};
        book_update(&b, before, 0);
        bora_sequence_close(before);
        bora_sequence *after = restore(&g, &b, lengths[i]);
        book again = {.n = 0};
        book_update(&again, after, 0);
        /* Page for page the same, as far as the new cache had use for it. */
        for (size_t p = 0; p < again.n; p++) {
            size_t o = 0;
            while (o < b.n &&
                   (b.pages[o].class_id != again.pages[p].class_id || b.pages[o].index != again.pages[p].index))
                o++;
            assert_true(o < b.n);
            assert_int_equal(again.pages[p].size, b.pages[o].size);
            assert_memory_equal(again.pages[p].data, b.pages[o].data, b.pages[o].size);
        }
        float *is = fixture_feed(&g, after, 0, lengths[i] + 40, 9);
        assert_same_logits(&g, is, should + lengths[i] * g.vocab_size, 40);
        bora_free(is);
        bora_sequence_close(after);
        book_release(&b);
        book_release(&again);
    }
    bora_free(should);
    fixture_close(&g);
    fixture_close(&f);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++) {
        round_trip(models[m], 1, 1, BORA_DTYPE_F16);
        round_trip(models[m], 1, 3, BORA_DTYPE_F32);
        round_trip(models[m], 2, 1, BORA_DTYPE_F32);
    }
    round_trip("dense-oddshapes", 1, 1, BORA_DTYPE_Q8_0);
    round_trip("dense-oddshapes", 2, 3, BORA_DTYPE_Q8_0);
}

/* A conversation of many turns, some taken back, some cancelled at the end of the largest chunk, each stored with only
 * what is new: after every one it can be restored, and then be taken back. */
static void test_stored_turn_by_turn(void **state)
{
    (void)state;
    enum { SLACK = 100 };
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++) {
        fixture f;
        fixture_open(&f, models[m]);
        f.options.slack = SLACK;
        f.options.n_stages = 1 + (uint32_t)m;
        fixture_start(&f);
        float *should = fixture_feed_alone(&f, 0, 800, 100);
        bora_sequence *sequence = fixture_sequence(&f);
        book b = {.n = 0};
        uint64_t since = 0;
        static const uint32_t turns[] = {30, 150, 90, 260, 64, 100, 1};
        for (size_t t = 0; t < BORA_ARRAY_SIZE(turns); t++) {
            uint64_t end = bora_sequence_n_cached(sequence) + turns[t];
            bora_free(fixture_feed(&f, sequence, 0, end, SLACK));
            if (t % 3 == 1) { /* cancelled behind the first layer: its ring has rolled on by a whole chunk */
                canceller cancel = {.at = "layers.0.out"};
                bora_pipeline_trace(f.pipeline, cancel_on_trace, &cancel);
                int32_t wrong[SLACK] = {0};
                float *logits = bora_calloc((size_t)SLACK * f.vocab_size, sizeof *logits);
                assert_int_equal(fixture_try(&f, sequence, wrong, SLACK, &cancel.flag, logits, NULL), BORA_E_CANCELLED);
                bora_pipeline_trace(f.pipeline, NULL, NULL);
                bora_free(logits);
            }
            if (t % 3 == 2) { /* an edit: the last positions are said again, from before what is stored */
                assert_int_equal(bora_sequence_truncate(sequence, end - 40, NULL), BORA_OK);
                since = since < end - 40 ? since : end - 40;
                bora_free(fixture_feed(&f, sequence, 0, end, 7));
            }
            book_update(&b, sequence, since);
            since = end;

            bora_sequence *restored = restore(&f, &b, end);
            /* The cancelled chunk has rolled over what taking back would need. */
            uint64_t back = t % 3 == 1 ? 0 : end < 60 ? end : 60;
            bora_error err = {""};
            if (bora_sequence_truncate(restored, end - back, &err) != BORA_OK)
                fail_msg("model %zu turn %zu end %llu: %s", m, t, (unsigned long long)end, err.message);
            float *is = fixture_feed(&f, restored, 0, end + 5, 31);
            assert_same_logits(&f, is, should + (end - back) * f.vocab_size, back + 5);
            bora_free(is);
            if (t % 2) { /* go on with the restored one */
                assert_int_equal(bora_sequence_truncate(restored, end, NULL), BORA_OK);
                bora_sequence *old = sequence;
                sequence = restored;
                restored = old;
            }
            bora_sequence_close(restored);
        }
        book_release(&b);
        bora_free(should);
        bora_sequence_close(sequence);
        fixture_close(&f);
    }
}

/* A page too few at the old end can still be restored from, but not taken back as far. */
static void test_restored_without_slack(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "dense-perlayer"); /* windows 8 and none */
    f.options.slack = 100;
    f.options.n_stages = 4; /* the layers without a window would forget before the others refuse */
    fixture_start(&f);
    float *should = fixture_feed_alone(&f, 0, 270, 100);
    bora_sequence *sequence = fixture_sequence(&f);
    bora_free(fixture_feed(&f, sequence, 0, 250, 100));
    book b = {.n = 0};
    book_update(&b, sequence, 0);
    bora_sequence_close(sequence);
    size_t n = 0;
    for (size_t i = 0; i < b.n; i++) { /* of the window's class, keep the newest page only: 192 .. 249 */
        if (bora_pipeline_class_window(f.pipeline, b.pages[i].class_id) && b.pages[i].index < 3)
            bora_page_release(&b.pages[i]);
        else
            b.pages[n++] = b.pages[i];
    }
    b.n = n;
    sequence = restore(&f, &b, 250);
    assert_int_equal(bora_sequence_truncate(sequence, 198, NULL), BORA_E_LIMIT); /* needs 191 */
    assert_int_equal(bora_sequence_n_cached(sequence), 250);
    assert_int_equal(bora_sequence_truncate(sequence, 199, NULL), BORA_OK);
    float *is = fixture_feed(&f, sequence, 0, 270, 17);
    assert_same_logits(&f, is, should + (size_t)199 * f.vocab_size, 270 - 199);
    bora_free(is);
    bora_free(should);
    bora_sequence_close(sequence);
    book_release(&b);
    fixture_close(&f);
}

/* ---- what is refused ---------------------------------------------------------------------------------------- */

static void test_import_refused(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "dense-perlayer");
    f.options.n_stages = 3;
    f.options.max_positions = 300;
    fixture_start(&f);
    float *should = fixture_feed_alone(&f, 0, 200, 100);
    bora_sequence *sequence = fixture_sequence(&f);
    bora_free(fixture_feed(&f, sequence, 0, 200, 100));
    book b = {.n = 0};
    book_update(&b, sequence, 0);
    bora_sequence_close(sequence);
    sequence = fixture_sequence(&f);
    uint64_t bytes = bora_sequence_bytes(sequence);
    bora_error err = {""};
    for (size_t i = 0; i < b.n; i++) {
        bora_page saved = b.pages[i];
        bool needed = !bora_pipeline_class_window(f.pipeline, saved.class_id) || saved.index == 3;
        struct {
            bora_page page;
            bora_status status;
        } wrong[] = {{saved, BORA_E_NOT_FOUND}, {saved, BORA_E_FORMAT}, {saved, BORA_E_FORMAT}, {saved, BORA_E_FORMAT}};
        wrong[0].page.index = 1000;
        wrong[1].page.size--;
        wrong[2].page.dtype = BORA_DTYPE_F16;
        wrong[3].page.n--;
        for (size_t w = 0; w < BORA_ARRAY_SIZE(wrong); w++) {
            b.pages[i] = wrong[w].page;
            err.message[0] = '\0';
            bora_status st = bora_sequence_import(sequence, 200, b.pages, b.n, &err);
            assert_int_equal(st, needed ? wrong[w].status : BORA_OK);
            if (needed) {
                assert_true(err.message[0] != '\0');
                assert_int_equal(bora_sequence_n_cached(sequence), 0);
                assert_int_equal(bora_sequence_bytes(sequence), bytes);
            } else {
                bora_sequence_close(sequence);
                sequence = fixture_sequence(&f);
            }
        }
        b.pages[i] = saved;
    }
    assert_int_equal(bora_sequence_import(sequence, 301, b.pages, b.n, &err), BORA_E_LIMIT);
    assert_int_equal(bora_sequence_import(sequence, 199, b.pages, b.n, &err),
                     BORA_E_FORMAT); /* the last page is longer */
    assert_int_equal(bora_sequence_import(sequence, 200, NULL, 0, &err), BORA_E_NOT_FOUND);
    assert_int_equal(bora_sequence_import(sequence, 0, NULL, 0, &err), BORA_OK);
    /* Empty as before: it can be used. */
    float *is = fixture_feed(&f, sequence, 0, 100, 50);
    assert_same_logits(&f, is, should, 100);
    assert_int_equal(bora_sequence_import(sequence, 200, b.pages, b.n, &err), BORA_E_INVAL);
    assert_int_equal(bora_sequence_n_cached(sequence), 100);
    bora_free(is);
    bora_free(should);
    bora_sequence_close(sequence);
    book_release(&b);
    fixture_close(&f);
}

static void test_no_memory(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, "dense-perlayer");
    f.options.n_stages = 2;
    fixture_start(&f);
    float *should = fixture_feed_alone(&f, 0, 170, 100);
    bora_sequence *before = fixture_sequence(&f), *after = fixture_sequence(&f);
    bora_free(fixture_feed(&f, before, 0, 150, 100));
    bora_page *pages = NULL;
    size_t n = 0;
    uint64_t keep_from[BORA_CLASSES_MAX];
    bora_status st = BORA_E_NOMEM;
    for (uint64_t fail = 1; st != BORA_OK; fail++) {
        (void)bora_memory_fail_at(fail);
        st = bora_sequence_export(before, 0, &pages, &n, keep_from, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && !pages && n == 0));
    }
    st = BORA_E_NOMEM;
    for (uint64_t fail = 1; st != BORA_OK; fail++) {
        (void)bora_memory_fail_at(fail);
        st = bora_sequence_import(after, 150, pages, n, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && bora_sequence_n_cached(after) == 0));
    }
    float *is = fixture_feed(&f, after, 0, 170, 7);
    assert_same_logits(&f, is, should + (size_t)150 * f.vocab_size, 20);
    bora_free(is);
    bora_free(should);
    bora_pages_free(pages, n);
    bora_pages_free(NULL, 0);
    bora_sequence_close(before);
    bora_sequence_close(after);
    bora_sequence_close(NULL);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncate_and_redo),   cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_stored_turn_by_turn), cmocka_unit_test(test_restored_without_slack),
        cmocka_unit_test(test_import_refused),      cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
