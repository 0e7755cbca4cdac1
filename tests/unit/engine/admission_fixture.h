/* A scheduler where memory is short: what generations may come to need, and sessions whose caches come and go. */
#ifndef BORA_TESTS_ADMISSION_FIXTURE_H
#define BORA_TESTS_ADMISSION_FIXTURE_H

#include "scheduler_fixture.h"

#include "engine/task.h"

#define STEADY 3000 /* tokens of an answer that does not end in a test: its cache is as large as they get */

/* The engine with nothing in it. */
static inline fixture *open_with(const char *cache, uint32_t n_left_max)
{
    engine_options options = ENGINE_DEFAULT;
    options.cache = cache;
    options.n_left_max = n_left_max;
    fixture *f = fixture_open(&options);
    run(f, generation_of_text(99, 40, 2)); /* what is allocated once is there */
    return f;
}

static inline int setup_quant(void **state)
{
    *state = open_with("ring", 0);
    return 0;
}

static inline int setup_shelf(void **state)
{
    *state = open_with("ring", 8);
    return 0;
}

static inline int setup_paged(void **state)
{
    *state = open_with("paged", 8);
    return 0;
}

/* What a cache of n positions may come to need, and at most. The engine sleeps or runs other things; the sizes do not
 * change. */
static inline uint64_t kv(const fixture *f, uint64_t n)
{
    return bora_pipeline_kv_size(f->engine.pipeline, n);
}

static inline uint64_t kv_max(const fixture *f)
{
    return kv(f, STEADY + 100);
}

static inline uint64_t page_bytes(const fixture *f, uint64_t n)
{
    uint64_t bytes = n * bora_pipeline_kv_position_size(f->engine.pipeline);
    uint64_t whole = bora_pipeline_kv_sequence_max(f->engine.pipeline);
    return bytes < whole ? bytes : whole;
}

static inline bora_generation *steady(uint32_t which, const char *owner)
{
    return owned(generation_of_text(which, 20, STEADY), owner);
}

static inline void await_start(fixture *f, const record *r)
{
    while (r->n_started == 0 && r->n_done == 0)
        take(f);
    assert_int_equal(r->n_started, 1);
}

static inline void await_queued(fixture *f, const record *r)
{
    while (r->n_queued == 0 && r->n_done == 0)
        take(f);
    assert_int_equal(r->n_done, 0);
    assert_int_equal(r->n_started, 0);
}

static inline void end(fixture *f, record *r)
{
    cancel(f, r);
    await(f, r);
    ended(r, BORA_REASON_CANCELLED);
}

static inline void failed(const record *r, bora_status status)
{
    ended(r, BORA_REASON_ERROR);
    assert_int_equal(r->done->status, status);
}

/* ---- sessions whose caches come and go --------------------------------------------------------------------------- */

/* A conversation as its keeper has it. */
typedef struct talk {
    int32_t tokens[1024]; /* [n_tokens] history */
    size_t n_tokens;
    bora_sequence *sequence; /* NULL: it is not in memory, or in use */
    bora_page *pages;        /* [n_pages] what the store has; data from malloc */
    size_t n_pages;
    uint64_t n_cached;
    record *open;
    size_t n_turns, n_fetched;
    int32_t last[32]; /* [n_last] the last answer, after n_before tokens */
    size_t n_last, n_before;
    size_t n_asked; /* tokens of the history that is open */
    bool is_lost;   /* pages are refused */
} talk;

#define TALKS 8

typedef struct keeper {
    talk talks[TALKS];
} keeper;

static inline void talk_drop_pages(talk *t)
{
    for (size_t i = 0; i < t->n_pages; i++)
        free(t->pages[i].data);
    free(t->pages);
    t->pages = NULL;
    t->n_pages = 0;
}

static inline void keeper_free(keeper *k)
{
    for (size_t i = 0; i < TALKS; i++)
        talk_drop_pages(&k->talks[i]);
    free(k);
}

static inline bora_page *find_page(talk *t, const bora_page *page)
{
    for (size_t i = 0; i < t->n_pages; i++)
        if (t->pages[i].class_id == page->class_id && t->pages[i].index == page->index)
            return &t->pages[i];
    t->pages = realloc(t->pages, (t->n_pages + 1) * sizeof *t->pages);
    assert_non_null(t->pages);
    t->pages[t->n_pages] = (bora_page){.data = NULL};
    return &t->pages[t->n_pages++];
}

static inline void talk_store(talk *t, const bora_event *done)
{
    if (done->replaced_pages)
        talk_drop_pages(t);
    for (size_t i = 0; i < done->n_pages; i++) {
        const bora_page *from = &done->pages[i];
        bora_page *to = find_page(t, from);
        void *data = realloc(to->data, from->size);
        assert_non_null(data);
        *to = *from;
        to->data = data;
        memcpy(data, from->data, from->size);
    }
    t->n_cached = done->n_cached;
}

static inline void give_pages(fixture *f, record *r)
{
    talk *t = NULL;
    for (size_t i = 0; i < TALKS && !t; i++)
        if (((keeper *)f->user)->talks[i].open == r)
            t = &((keeper *)f->user)->talks[i];
    assert_non_null(t);
    t->n_fetched++;
    uint64_t size = 0;
    for (size_t i = 0; i < t->n_pages; i++)
        size += t->pages[i].size;
    uint64_t promised = page_bytes(f, t->n_cached);
    size = size < promised ? size : promised;
    assert_true(bora_ledger_take(f->engine.ledger, BORA_LEDGER_STORE, size)); /* it was promised */
    bora_page *pages = t->is_lost ? NULL : bora_calloc(t->n_pages, sizeof *pages);
    for (size_t i = 0; pages && i < t->n_pages; i++) {
        pages[i] = t->pages[i];
        pages[i].data = bora_alloc(pages[i].size);
        assert_non_null(pages[i].data);
        memcpy(pages[i].data, t->pages[i].data, pages[i].size);
    }
    bora_scheduler_give_pages(f->engine.scheduler, bora_steal(&r->reply), pages, pages ? t->n_pages : 0, size);
}

/* A turn: n new tokens of a text, and an answer. */
static inline record *turn(fixture *f, talk *t, uint32_t which, size_t n, uint32_t max_generated, const char *owner)
{
    assert_null(t->open);
    assert_true(t->n_tokens + n + max_generated <= BORA_ARRAY_SIZE(t->tokens));
    assert_true(max_generated <= BORA_ARRAY_SIZE(t->last));
    for (size_t i = 0; i < n; i++)
        t->tokens[t->n_tokens + i] = text_token(which, t->n_tokens + i);
    bora_generation *generation = owned(generation_of_tokens(t->tokens, t->n_tokens + n, max_generated), owner);
    generation->keep = generation->export_pages = true;
    generation->sequence = t->sequence;
    generation->n_stored = t->sequence ? 0 : t->n_cached;
    t->sequence = NULL;
    t->n_asked = t->n_tokens + n;
    return t->open = submit(f, generation);
}

/* Its end, as a keeper of sessions takes it. */
static inline void settle(fixture *f, talk *t)
{
    record *r = t->open;
    const bora_event *done = r->done;
    t->open = NULL;
    assert_true(done->reason == BORA_REASON_LENGTH || done->reason == BORA_REASON_CANCELLED ||
                done->reason == BORA_REASON_DEADLINE);
    if (r->n_tokens > 0) {
        talk_store(t, done);
        t->n_before = t->n_asked;
        memcpy(t->tokens + t->n_before, r->tokens, r->n_tokens * sizeof *r->tokens);
        memcpy(t->last, r->tokens, r->n_tokens * sizeof *r->tokens);
        t->n_last = r->n_tokens;
        t->n_tokens = t->n_before + r->n_tokens;
        t->sequence = done->sequence;
        t->n_turns++;
        assert_non_null(t->sequence);
    } else if (done->sequence && done->n_cached == t->n_cached) {
        t->sequence = done->sequence; /* as it was */
    } else if (done->sequence) {
        assert_ok(bora_scheduler_close_sequence(f->engine.scheduler, done->sequence, err));
    }
    r->done->sequence = NULL;
    bora_event_free(r->done); /* it is stored */
    r->done = NULL;
}

static inline void relieve(fixture *f)
{
    keeper *k = f->user;
    for (size_t i = 0; i < TALKS; i++) {
        talk *t = &k->talks[i];
        if (t->sequence)
            assert_ok(bora_scheduler_close_sequence(f->engine.scheduler, t->sequence, err));
        t->sequence = NULL;
    }
    bora_scheduler_relieved(f->engine.scheduler);
}

static inline void answer_is(fixture *f, const talk *t)
{
    record *r = run(f, owned(generation_of_tokens(t->tokens, t->n_before, (uint32_t)t->n_last), "checks"));
    ended(r, BORA_REASON_LENGTH);
    assert_memory_equal(r->tokens, t->last, t->n_last * sizeof *t->last);
}

static inline keeper *with_keeper(fixture *f)
{
    keeper *k = f->user = calloc(1, sizeof *k);
    assert_non_null(k);
    f->on_want_pages = give_pages;
    f->on_pressure = relieve;
    return k;
}

#endif
