/* Plugins are exchanged with sequences open: they go on with the same bits, in caches that hold the same, as far back
 * as before; and a swap that fails has changed nothing. */
#include "unit/engine/pipeline_fixture.h"

#include "base/guard.h"
#include "support/temp_folder.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define SLACK 48u
#define ODD   BORA_BUILD_DIR "/tests/unit/engine/odd/"
#define END   360u /* no text is fed further */

/* windows: 16 everywhere, 3 layers with experts; 8 and none in turns, 4 layers; none, 2 layers: less than stages. */
static const char *const models[] = {"moe-gqa-swa", "dense-perlayer", "dense-oddshapes"};

static void start(fixture *f, const char *model, uint32_t n_stages)
{
    fixture_open(f, model);
    f->options.slack = SLACK;
    f->options.n_stages = n_stages;
    fixture_start(f);
}

static void swap_options(fixture *f, uint32_t kind, const char *name, const bora_plugin_options *options)
{
    bora_error err = {""};
    if (bora_pipeline_swap(f->pipeline, kind, name, options, &err) != BORA_OK)
        fail_msg("%s: %s", name, err.message);
}

static void swap(fixture *f, uint32_t kind, const char *name)
{
    swap_options(f, kind, name, NULL);
}

static void assert_in_use(fixture *f, uint32_t kind, const char *name)
{
    bora_plugin_info info;
    assert_true(bora_pipeline_plugin_info(f->pipeline, kind, &info));
    assert_int_equal(info.kind, kind);
    assert_string_equal(info.name, name);
    const bora_plugin_library *library = bora_pipeline_plugin(f->pipeline, kind);
    assert_string_equal(info.path, bora_plugin_path(library));
    assert_string_equal(info.version, bora_plugin_version(library));
    assert_int_equal(info.flags, bora_plugin_flags(library));
    assert_int_equal(info.dtypes, bora_plugin_dtypes(library));
}

/* ---- sequences of all sorts --------------------------------------------------------------------------------- */

enum { EMPTY, SHORT, PAGE, LONG, CUT, EMPTIED, CANCELLED, RESTORED, FORK, N_SEQUENCES };

/* The logits of text i alone, which do not depend on stages. */
typedef struct texts {
    float *should[N_SEQUENCES]; /* [END, vocab_size] */
} texts;

static void texts_make(fixture *f, texts *t)
{
    for (uint32_t i = 0; i < N_SEQUENCES; i++)
        t->should[i] = fixture_feed_alone(f, i, END, 40);
}

static void texts_release(texts *t)
{
    for (uint32_t i = 0; i < N_SEQUENCES; i++)
        bora_free(t->should[i]);
}

typedef struct company {
    bora_sequence *sequences[N_SEQUENCES];
    const texts *texts;
} company;

static void cancelled_batch(fixture *f, bora_sequence *sequence)
{
    canceller cancel = {.at = "layers.0.out"};
    bora_pipeline_trace(f->pipeline, cancel_on_trace, &cancel);
    const int32_t wrong[SLACK] = {0};
    float *logits = bora_calloc((size_t)SLACK * f->vocab_size, sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(fixture_try(f, sequence, wrong, SLACK, &cancel.flag, logits, NULL), BORA_E_CANCELLED);
    bora_pipeline_trace(f->pipeline, NULL, NULL);
    bora_free(logits);
}

static bora_sequence *restored(fixture *f, bora_sequence *from)
{
    bora_page *pages = NULL;
    size_t n = 0;
    uint64_t keep_from[BORA_CLASSES_MAX];
    const uint64_t n_cached = bora_sequence_n_cached(from);
    assert_int_equal(bora_sequence_export(from, 0, &pages, &n, keep_from, NULL), BORA_OK);
    bora_sequence_close(from);
    bora_sequence *sequence = fixture_sequence(f);
    assert_int_equal(bora_sequence_import(sequence, n_cached, pages, n, NULL), BORA_OK);
    bora_pages_free(pages, n);
    return sequence;
}

/* Sequence i stands in text i. */
static void company_make(fixture *f, company *c, const texts *t)
{
    static const uint64_t ends[N_SEQUENCES] = {[SHORT] = 5,    [PAGE] = 64,       [LONG] = 300,     [CUT] = 299,
                                               [EMPTIED] = 40, [CANCELLED] = 250, [RESTORED] = 270, [FORK] = 280};
    c->texts = t;
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        c->sequences[i] = fixture_sequence(f);
        if (ends[i])
            bora_free(fixture_feed(f, c->sequences[i], i, ends[i], 40));
    }
    assert_int_equal(bora_sequence_truncate(c->sequences[CUT], 260, NULL), BORA_OK);
    assert_int_equal(bora_sequence_truncate(c->sequences[EMPTIED], 0, NULL), BORA_OK);
    cancelled_batch(f, c->sequences[CANCELLED]);
    c->sequences[RESTORED] = restored(f, c->sequences[RESTORED]);
    bora_sequence *fork = NULL;
    assert_int_equal(bora_sequence_fork(c->sequences[FORK], 271, &fork, NULL), BORA_OK);
    bora_sequence_close(c->sequences[FORK]);
    c->sequences[FORK] = fork;
}

static void company_close(company *c)
{
    for (uint32_t i = 0; i < N_SEQUENCES; i++)
        bora_sequence_close(c->sequences[i]);
}

/* All sequences n rows on, in one batch. */
static void company_goes_on(fixture *f, company *c, uint32_t n)
{
    int32_t tokens[512];
    bora_batch_part parts[N_SEQUENCES];
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        for (uint32_t t = 0; t < n; t++)
            tokens[i * n + t] = fixture_token(i, bora_sequence_n_cached(c->sequences[i]) + t);
        parts[i] = (bora_batch_part){.sequence = c->sequences[i], .n = n, .n_logits = n};
    }
    bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = N_SEQUENCES};
    float *logits = bora_calloc((size_t)N_SEQUENCES * n * f->vocab_size, sizeof *logits);
    assert_non_null(logits);
    bora_error err = {""};
    if (bora_pipeline_forward(f->pipeline, &batch, NULL, logits, &err) != BORA_OK)
        fail_msg("%s", err.message);
    for (uint32_t i = 0; i < N_SEQUENCES; i++)
        assert_same_logits(f, logits + (size_t)i * n * f->vocab_size,
                           c->texts->should[i] + (bora_sequence_n_cached(c->sequences[i]) - n) * f->vocab_size, n);
    bora_free(logits);
}

typedef void (*body_fn)(fixture *f, const texts *t);

static void for_each(body_fn body)
{
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++) {
        texts t = {.should = {NULL}};
        for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
            fixture f;
            start(&f, models[m], n_stages);
            if (n_stages == 1)
                texts_make(&f, &t);
            body(&f, &t);
            fixture_close(&f);
        }
        texts_release(&t);
    }
}

/* What the caches hold, as pages. */
typedef struct snapshot {
    bora_page *pages[N_SEQUENCES];
    size_t n[N_SEQUENCES];
} snapshot;

static void snapshot_take(snapshot *s, const company *c)
{
    uint64_t keep_from[BORA_CLASSES_MAX];
    for (uint32_t i = 0; i < N_SEQUENCES; i++)
        assert_int_equal(bora_sequence_export(c->sequences[i], 0, &s->pages[i], &s->n[i], keep_from, NULL), BORA_OK);
}

static void snapshot_release(snapshot *s)
{
    for (uint32_t i = 0; i < N_SEQUENCES; i++)
        bora_pages_free(s->pages[i], s->n[i]);
}

static void assert_same_snapshot(const snapshot *a, const snapshot *b)
{
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        assert_int_equal(a->n[i], b->n[i]);
        for (size_t p = 0; p < a->n[i]; p++) {
            const bora_page *x = &a->pages[i][p], *y = &b->pages[i][p];
            assert_true(x->class_id == y->class_id && x->index == y->index && x->n == y->n && x->dtype == y->dtype);
            assert_int_equal(x->size, y->size);
            assert_memory_equal(x->data, y->data, x->size);
        }
    }
}

static bool can_fork(const bora_sequence *sequence, uint64_t n)
{
    bora_sequence *fork = NULL;
    const bora_status st = bora_sequence_fork(sequence, n, &fork, NULL);
    bora_sequence_close(fork);
    return st == BORA_OK;
}

/* Of each sequence the shortest prefix that can be had (0 of none): every longer one can, too. */
static void least_prefixes(const company *c, uint64_t ret_least[N_SEQUENCES])
{
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        uint64_t n = bora_sequence_n_cached(c->sequences[i]), low = n ? 1 : 0, high = n;
        while (low < high) {
            const uint64_t middle = (low + high) / 2;
            if (can_fork(c->sequences[i], middle))
                high = middle;
            else
                low = middle + 1;
        }
        ret_least[i] = high;
    }
}

/* ---- caches ------------------------------------------------------------------------------------------------- */

static void body_cache(fixture *f, const texts *t)
{
    static const char *const names[][2] = {
        {"paged", "paged"}, {ODD "bare.so", "bare"}, {"ring", "ring"}, {ODD "sized.so", "sized"}, {"ring", "ring"}};
    company c;
    company_make(f, &c, t);
    for (size_t n = 0; n < BORA_ARRAY_SIZE(names); n++) {
        snapshot before, after;
        uint64_t least_before[N_SEQUENCES], least_after[N_SEQUENCES];
        snapshot_take(&before, &c);
        least_prefixes(&c, least_before);
        swap(f, BORA_PLUGIN_CACHE, names[n][0]);
        assert_in_use(f, BORA_PLUGIN_CACHE, names[n][1]);
        snapshot_take(&after, &c);
        least_prefixes(&c, least_after);
        assert_same_snapshot(&after, &before);
        assert_memory_equal(least_after, least_before, sizeof least_before);
        snapshot_release(&before);
        snapshot_release(&after);
        company_goes_on(f, &c, 1);
        company_goes_on(f, &c, 5);
        bora_sequence *later = fixture_sequence(f); /* opened and closed around a swap */
        bora_free(fixture_feed(f, later, 1, 20, 20));
        bora_sequence_close(later);
    }
    /* Taking back as far as possible after a swap, and another one from there. */
    uint64_t least[N_SEQUENCES];
    least_prefixes(&c, least);
    swap(f, BORA_PLUGIN_CACHE, "paged");
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        if (least[i] > 1)
            assert_int_equal(bora_sequence_truncate(c.sequences[i], least[i] - 1, NULL), BORA_E_LIMIT);
        assert_int_equal(bora_sequence_truncate(c.sequences[i], least[i], NULL), BORA_OK);
    }
    swap(f, BORA_PLUGIN_CACHE, "ring");
    for (uint32_t i = 0; i < 5; i++)
        company_goes_on(f, &c, 17);
    company_close(&c);
}

static void test_cache(void **state)
{
    (void)state;
    for_each(body_cache);
}

/* The elements are carried over as they are, whatever their type. */
static void test_cache_of_every_type(void **state)
{
    (void)state;
    static const uint32_t dtypes[] = {BORA_DTYPE_F16, BORA_DTYPE_Q8_0};
    for (size_t d = 0; d < BORA_ARRAY_SIZE(dtypes); d++) {
        fixture f;
        fixture_open(&f, "dense-oddshapes"); /* heads of 32 */
        f.options.slack = SLACK;
        f.options.kv_dtype = dtypes[d];
        fixture_start(&f);
        texts t;
        texts_make(&f, &t);
        body_cache(&f, &t);
        texts_release(&t);
        fixture_close(&f);
    }
}

/* ---- attention and experts ---------------------------------------------------------------------------------- */

static void assert_feeds_same(fixture *f, bora_sequence *a, fixture *g, bora_sequence *b, uint32_t which, uint32_t n)
{
    const uint64_t end = bora_sequence_n_cached(a) + n;
    float *x = fixture_feed(f, a, which, end, 7), *y = fixture_feed(g, b, which, end, 7);
    assert_same_logits(f, x, y, n);
    bora_free(x);
    bora_free(y);
}

/* After a swap to name, the pipeline computes what one computes that was opened with it and given the same caches. */
static void swapped_as_opened(fixture *f, uint32_t kind, const char *name)
{
    const char *const old = f->options.plugins[kind];
    company c;
    company_make(f, &c, NULL);
    float *before = fixture_feed_alone(f, 3, 60, 20);
    swap(f, kind, name);
    assert_in_use(f, kind, name);
    snapshot s;
    snapshot_take(&s, &c);
    fixture g = *f;
    g.pipeline = NULL;
    g.options.plugins[kind] = name;
    fixture_start(&g);
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        bora_sequence *twin = fixture_sequence(&g);
        assert_int_equal(bora_sequence_import(twin, bora_sequence_n_cached(c.sequences[i]), s.pages[i], s.n[i], NULL),
                         BORA_OK);
        assert_feeds_same(f, c.sequences[i], &g, twin, i, 14);
        bora_sequence_close(twin);
    }
    bora_pipeline_free(g.pipeline);
    snapshot_release(&s);
    company_close(&c);
    swap(f, kind, old);
    assert_in_use(f, kind, old);
    float *after = fixture_feed_alone(f, 3, 60, 20);
    assert_same_logits(f, after, before, 60);
    bora_free(before);
    bora_free(after);
}

/* There and back between two rows: nothing has changed. */
static void there_and_back(fixture *f, uint32_t kind, const char *name, const texts *t)
{
    company c;
    company_make(f, &c, t);
    company_goes_on(f, &c, 3);
    swap(f, kind, name);
    swap(f, kind, f->options.plugins[kind]);
    company_goes_on(f, &c, 9);
    company_close(&c);
}

static void body_attention(fixture *f, const texts *t)
{
    swapped_as_opened(f, BORA_PLUGIN_ATTENTION, "flash");
    there_and_back(f, BORA_PLUGIN_ATTENTION, "flash", t);
}

static void test_attention(void **state)
{
    (void)state;
    for_each(body_attention);
}

static void body_expert(fixture *f, const texts *t)
{
    swapped_as_opened(f, BORA_PLUGIN_EXPERT, "quant");
    swapped_as_opened(f, BORA_PLUGIN_EXPERT, "blas");
    there_and_back(f, BORA_PLUGIN_EXPERT, "quant", t);
}

static void test_expert(void **state)
{
    (void)state;
    for_each(body_expert);
}

/* Quantised weights, which are copied into a form of their own and let go of in the file. */
typedef struct tiny {
    fixture f;
    bora_temp_folder folder;
    char path[BORA_TEMP_PATH_SIZE];
    size_t size, n_read; /* of the file; what the reader was told of */
    atomic_bool cancel;
} tiny;

static void on_read(void *arg, const void *from, size_t size)
{
    tiny *t = arg;
    t->n_read += size;
    bora_model_release(t->f.model, from, size);
}

static void tiny_start(tiny *t, uint32_t n_stages)
{
    memset(t, 0, sizeof *t);
    bora_temp_folder_make(&t->folder);
    unsigned char *data = bora_temp_read(BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf", &t->size);
    assert_non_null(data);
    bora_temp_folder_write(&t->folder, "tiny.gguf", data, t->size, t->path);
    free(data);
    fixture *f = &t->f;
    bora_log_init(&f->log, BORA_LOG_ERROR);
    bora_error err = {""};
    if (bora_model_open(t->path, NULL, &f->log, &f->model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f->vocab_size = bora_model_hparams(f->model)->vocab_size;
    f->options = (bora_pipeline_options){
        .n_threads = 1,
        .n_stages = n_stages,
        .max_tokens = 64,
        .max_logits = 64,
        .slack = SLACK,
        .max_positions = 1024,
        .kv_dtype = BORA_DTYPE_F16,
        .plugin_path = FIXTURE_PLUGINS,
        .plugins = {NULL, "flash", "ring", "quant", "thread"},
        .reader = on_read,
        .reader_arg = t,
        .cancel = &t->cancel,
    };
    fixture_start(f);
}

static void tiny_close(tiny *t)
{
    fixture_close(&t->f);
    bora_temp_folder_remove(&t->folder);
}

static void test_quantised_weights(void **state)
{
    (void)state;
    static const char *const names[] = {"reference", "blas", "quant"};
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
        tiny t;
        tiny_start(&t, n_stages);
        float *should = fixture_feed_alone(&t.f, 0, 40, 40);
        bora_sequence *sequence = fixture_sequence(&t.f);
        bora_free(fixture_feed(&t.f, sequence, 0, 20, 20));
        for (size_t n = 0; n < BORA_ARRAY_SIZE(names); n++) {
            const size_t n_read = t.n_read;
            swap(&t.f, BORA_PLUGIN_EXPERT, names[n]);
            assert_int_equal(t.n_read > n_read, strcmp(names[n], "quant") == 0); /* the others read as they go */
            fixture g = t.f;
            g.options.plugins[BORA_PLUGIN_EXPERT] = names[n];
            g.pipeline = NULL;
            fixture_start(&g);
            bora_sequence *a = fixture_sequence(&t.f), *b = fixture_sequence(&g);
            assert_feeds_same(&t.f, a, &g, b, 5, 21);
            bora_sequence_close(a);
            bora_sequence_close(b);
            bora_pipeline_free(g.pipeline);
        }
        float *is = fixture_feed(&t.f, sequence, 0, 40, 20);
        assert_same_logits(&t.f, is, should + (size_t)20 * t.f.vocab_size, 20);
        bora_free(is);
        bora_free(should);
        bora_sequence_close(sequence);
        tiny_close(&t);
    }
}

static void test_called_off(void **state)
{
    (void)state;
    tiny t;
    tiny_start(&t, 1);
    float *should = fixture_feed_alone(&t.f, 0, 20, 20);
    bora_error err = {""};
    atomic_store(&t.cancel, true);
    assert_int_equal(bora_pipeline_swap(t.f.pipeline, BORA_PLUGIN_EXPERT, "blas", NULL, &err), BORA_E_CANCELLED);
    assert_true(err.message[0] != '\0');
    assert_in_use(&t.f, BORA_PLUGIN_EXPERT, "quant");
    float *is = fixture_feed_alone(&t.f, 0, 20, 20);
    assert_same_logits(&t.f, is, should, 20);
    bora_free(is);
    bora_free(should);
    tiny_close(&t);
}

/* The weights that a new expert plugin reads are gone: it must not make do with zeros. */
static void test_file_cut_short(void **state)
{
    (void)state;
    bora_error err = {""};
    assert_int_equal(bora_guard_install(&err), BORA_OK);
    tiny t;
    tiny_start(&t, 1);
    assert_int_equal(truncate(t.path, 65536), 0);
    assert_int_equal(bora_pipeline_swap(t.f.pipeline, BORA_PLUGIN_EXPERT, "quant", NULL, &err), BORA_E_IO);
    assert_non_null(strstr(err.message, "cut short"));
    assert_in_use(&t.f, BORA_PLUGIN_EXPERT, "quant");
    tiny_close(&t);
}

static void test_options(void **state)
{
    (void)state;
    fixture f;
    start(&f, models[0], 1);
    bora_plugin_option option = {"tile_rows", "16"};
    const bora_plugin_options options = {&option, 1};
    swap_options(&f, BORA_PLUGIN_EXPERT, "blas", &options);
    bora_error err = {""};
    option.value = "none";
    assert_int_equal(bora_pipeline_swap(f.pipeline, BORA_PLUGIN_EXPERT, "blas", &options, &err), BORA_E_INVAL);
    assert_non_null(strstr(err.message, "tile_rows"));
    assert_in_use(&f, BORA_PLUGIN_EXPERT, "blas");
    bora_free(fixture_feed_alone(&f, 0, 20, 20));
    fixture_close(&f);
}

/* ---- links -------------------------------------------------------------------------------------------------- */

static void test_link(void **state)
{
    (void)state;
    fixture f;
    start(&f, models[0], 3);
    texts t;
    texts_make(&f, &t);
    company c;
    company_make(&f, &c, &t);
    for (uint32_t i = 0; i < 4; i++) {
        swap(&f, BORA_PLUGIN_LINK, i % 2 ? "thread" : FIXTURE_PLUGINS "/link-thread.so");
        company_goes_on(&f, &c, 3);
    }
    company_close(&c);
    texts_release(&t);
    fixture_close(&f);

    start(&f, models[0], 1);
    bora_error err = {""};
    bora_plugin_info info;
    assert_int_equal(bora_pipeline_swap(f.pipeline, BORA_PLUGIN_LINK, "thread", NULL, &err), BORA_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "one stage"));
    assert_false(bora_pipeline_plugin_info(f.pipeline, BORA_PLUGIN_LINK, &info));
    assert_false(bora_pipeline_plugin_info(f.pipeline, 77, &info));
    fixture_close(&f);
}

/* ---- what fails --------------------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    (void)state;
    const bora_plugin_option option = {"no_such_key", "1"};
    const bora_plugin_options unknown = {&option, 1};
    const struct {
        uint32_t kind;
        const char *name;
        const bora_plugin_options *options;
        bora_status status;
        const char *word;
    } cases[] = {
        {0, "ring", NULL, BORA_E_INVAL, "kind"},
        {5, "ring", NULL, BORA_E_INVAL, "kind"},
        {BORA_PLUGIN_CACHE, "", NULL, BORA_E_INVAL, "name"},
        {BORA_PLUGIN_CACHE, "no-such", NULL, BORA_E_NOT_FOUND, "no-such"},
        {BORA_PLUGIN_CACHE, "odd/bare.so", NULL, BORA_E_INVAL, "absolute"},
        {BORA_PLUGIN_CACHE, FIXTURE_PLUGINS "/expert-reference.so", NULL, BORA_E_INVAL, "expert"},
        {BORA_PLUGIN_CACHE, ODD "halves.so", NULL, BORA_E_UNSUPPORTED, "f32"},
        {BORA_PLUGIN_CACHE, ODD "refuses_pages.so", NULL, BORA_E_LIMIT, "no second page"},
        {BORA_PLUGIN_EXPERT, ODD "strange_weights.so", NULL, BORA_E_UNSUPPORTED, "weights"},
        {BORA_PLUGIN_EXPERT, ODD "refuses_layers.so", NULL, BORA_E_LIMIT, "no layer 1"},
        {BORA_PLUGIN_ATTENTION, "flash", &unknown, BORA_E_INVAL, "no_such_key"},
        {BORA_PLUGIN_CACHE, "ring", &unknown, BORA_E_INVAL, "no_such_key"},
        {BORA_PLUGIN_EXPERT, "quant", &unknown, BORA_E_INVAL, "no_such_key"},
        {BORA_PLUGIN_LINK, "thread", &unknown, BORA_E_INVAL, "no_such_key"},
    };
    for (uint32_t n_stages = 1; n_stages <= 2; n_stages++) { /* with two the second layer is in the first stage */
        fixture f;
        start(&f, models[1], n_stages);
        texts t;
        texts_make(&f, &t);
        company c;
        company_make(&f, &c, &t);
        snapshot before, after;
        for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
            if (cases[i].kind == BORA_PLUGIN_LINK && n_stages == 1)
                continue;
            bora_error err = {""};
            snapshot_take(&before, &c);
            assert_int_equal(bora_pipeline_swap(f.pipeline, cases[i].kind, cases[i].name, cases[i].options, &err),
                             cases[i].status);
            if (!strstr(err.message, cases[i].word))
                fail_msg("'%s' does not say '%s'", err.message, cases[i].word);
            for (uint32_t kind = BORA_PLUGIN_ATTENTION; kind <= BORA_PLUGIN_LINK; kind++)
                if (kind != BORA_PLUGIN_LINK || n_stages > 1)
                    assert_in_use(&f, kind, f.options.plugins[kind]);
            snapshot_take(&after, &c);
            assert_same_snapshot(&after, &before);
            snapshot_release(&before);
            snapshot_release(&after);
            company_goes_on(&f, &c, 1);
        }
        company_close(&c);
        texts_release(&t);
        fixture_close(&f);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    static const struct {
        uint32_t kind;
        const char *name;
    } swaps[] = {{BORA_PLUGIN_CACHE, "paged"},
                 {BORA_PLUGIN_ATTENTION, "reference"},
                 {BORA_PLUGIN_EXPERT, "reference"},
                 {BORA_PLUGIN_LINK, "thread"}};
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
        fixture f;
        start(&f, models[0], n_stages);
        texts t;
        texts_make(&f, &t);
        company c;
        company_make(&f, &c, &t);
        for (size_t i = 0; i < BORA_ARRAY_SIZE(swaps); i++) {
            if (swaps[i].kind == BORA_PLUGIN_LINK && n_stages == 1)
                continue;
            bora_status st = BORA_E_NOMEM;
            uint32_t n_failed = 0;
            for (uint64_t n = 1; st != BORA_OK; n++) {
                bora_error err = {""};
                (void)bora_memory_fail_at(n);
                st = bora_pipeline_swap(f.pipeline, swaps[i].kind, swaps[i].name, NULL, &err);
                (void)bora_memory_fail_at(0);
                assert_true(st == BORA_OK || (st == BORA_E_NOMEM && err.message[0]));
                if (n % 16 == 1)
                    company_goes_on(&f, &c, 1);
                n_failed += st != BORA_OK;
            }
            assert_true(n_failed > 5);
            company_goes_on(&f, &c, 2);
        }
        company_close(&c);
        texts_release(&t);
        fixture_close(&f);
    }
}

/* ---- many times, while others ask --------------------------------------------------------------------------- */

typedef struct asker {
    fixture *f;
    atomic_bool enough;
    uint64_t n_asked; /* read after the thread has ended */
    bool wrong;       /* likewise */
} asker;

static void *ask(void *arg)
{
    asker *self = arg;
    while (!atomic_load(&self->enough) || self->n_asked == 0) {
        for (uint32_t kind = BORA_PLUGIN_ATTENTION; kind <= BORA_PLUGIN_LINK; kind++) {
            bora_plugin_info info;
            const bool used = bora_pipeline_plugin_info(self->f->pipeline, kind, &info);
            self->wrong |= used != (kind != BORA_PLUGIN_LINK || self->f->options.n_stages > 1);
            if (used) /* each is named in its path: name and path are of one plugin */
                self->wrong |= info.kind != kind || !strstr(info.path, info.name);
        }
        bora_profile profile;
        bora_pipeline_profile(self->f->pipeline, &profile);
        self->n_asked++;
    }
    return NULL;
}

static void swap_all(fixture *f, bool back)
{
    swap(f, BORA_PLUGIN_CACHE, back ? "ring" : "paged");
    swap(f, BORA_PLUGIN_ATTENTION, back ? "reference" : "flash");
    swap(f, BORA_PLUGIN_EXPERT, back ? "reference" : "quant");
    if (f->options.n_stages > 1)
        swap(f, BORA_PLUGIN_LINK, "thread");
}

/* Of the thread that swaps, large blocks included. */
static size_t n_allocated(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void test_a_hundred_times(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
        fixture f;
        start(&f, models[0], n_stages);
        texts t;
        texts_make(&f, &t);
        company c;
        company_make(&f, &c, &t);
        asker asking = {.f = &f};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, ask, &asking), 0);
        size_t allocated = 0, leaked = 0;
        for (uint32_t i = 0; i < 100; i++) {
            swap_all(&f, false);
            swap_all(&f, true);
            /* After a first round the libraries are there and the caches as large as what they hold. */
            if (i % 10 == 1)
                allocated = n_allocated();
            if (i % 10 > 1 && n_allocated() > allocated + leaked)
                leaked = n_allocated() - allocated;
            if (i % 10 == 9)
                company_goes_on(&f, &c, 1);
        }
        atomic_store(&asking.enough, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_false(asking.wrong);
        assert_in_range(leaked, 0, 8192); /* what the C library keeps of threads */
        company_goes_on(&f, &c, 8);
        company_close(&c);
        texts_release(&t);
        fixture_close(&f);
    }
}

/* ---- how large sequences get -------------------------------------------------------------------------------- */

static uint64_t twice_the_elements(const fixture *f, uint64_t n_positions)
{
    uint64_t size = 0;
    n_positions = (n_positions + BORA_PAGE_POSITIONS - 1) / BORA_PAGE_POSITIONS * BORA_PAGE_POSITIONS;
    for (uint32_t c = 0; c < bora_pipeline_n_classes(f->pipeline); c++) {
        uint64_t window = bora_pipeline_class_window(f->pipeline, c), limit = window + SLACK + BORA_PAGE_POSITIONS;
        size += 2 * bora_pipeline_class_position_size(f->pipeline, c) *
                (window && limit < n_positions ? limit : n_positions);
    }
    return size;
}

static void test_kv_size(void **state)
{
    (void)state;
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++)
        for (uint32_t n_stages = 1; n_stages <= 3; n_stages += 2) {
            fixture f;
            start(&f, models[m], n_stages);
            bora_sequence *sequence = fixture_sequence(&f);
            const uint32_t n_layers = bora_model_hparams(f.model)->n_layers;
            for (uint64_t n = 0; n <= 400; n += 25) {
                if (n)
                    bora_free(fixture_feed(&f, sequence, 0, n, 25));
                if (n)
                    assert_true(bora_pipeline_kv_size(f.pipeline, n) >= bora_sequence_bytes(sequence));
                assert_true(bora_pipeline_kv_size(f.pipeline, n + 25) >= bora_pipeline_kv_size(f.pipeline, n));
            }
            swap(&f, BORA_PLUGIN_CACHE, ODD "sized.so");
            assert_int_equal(bora_pipeline_kv_size(f.pipeline, 300), n_layers * UINT64_C(1000300));
            assert_int_equal(bora_pipeline_kv_size(f.pipeline, UINT64_MAX), n_layers * UINT64_C(1001024));
            swap(&f, BORA_PLUGIN_CACHE, ODD "bare.so");
            for (uint64_t n = 0; n <= 1024; n += 96)
                assert_int_equal(bora_pipeline_kv_size(f.pipeline, n), twice_the_elements(&f, n));
            assert_int_equal(bora_pipeline_kv_size(f.pipeline, UINT64_MAX), twice_the_elements(&f, 1024));
            bora_sequence_close(sequence);
            fixture_close(&f);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_of_every_type),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_expert),
        cmocka_unit_test(test_quantised_weights),
        cmocka_unit_test(test_called_off),
        cmocka_unit_test(test_file_cut_short),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_a_hundred_times),
        cmocka_unit_test(test_kv_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
