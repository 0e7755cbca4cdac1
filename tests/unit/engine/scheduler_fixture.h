/* What the tests of the scheduler share: an engine, and a record of the events of each of its generations. Records are
 * not taken from where tests let allocations fail. */
#ifndef BORA_TESTS_SCHEDULER_FIXTURE_H
#define BORA_TESTS_SCHEDULER_FIXTURE_H

#include "engine_fixture.h"

#include <stdlib.h>

#define RECORDS_MAX 1024

/* A running record of one generation's events. */
typedef struct record {
    uint64_t id;
    uint32_t n_choices;
    int n_queued, n_wanted, n_started, n_progress, n_done;
    uint32_t place, n_waiting; /* as QUEUED said last */
    uint64_t n_cached, n_prompt, n_reused, last_progress, kv_bytes;
    int32_t tokens[4096];
    float logprobs[4096];
    size_t n_tokens;
    char text[16384]; /* of the token events and of done */
    size_t text_size;
    bool restore_failed;
    struct bora_command *reply;               /* of WANT_PAGES, until it is given */
    bora_event *done;                         /* of one of several answers: CHOICE */
    size_t order;                             /* among the ends */
    struct record *choices[BORA_CHOICES_MAX]; /* [n_choices] if there are more than one: what concerns one of them */
} record;

typedef struct fixture {
    engine engine;
    record *records[RECORDS_MAX]; /* by id - 1 */
    size_t n_records, n_ended;
    uint32_t n_pressures;
    uint64_t pressure_bytes;                             /* as PRESSURE said last */
    void (*on_pressure)(struct fixture *f);              /* NULL: nothing is answered */
    void (*on_want_pages)(struct fixture *f, record *r); /* NULL: the reply stays in the record */
    void *user;
} fixture;

static inline fixture *fixture_open(const engine_options *options)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    engine_open(&f->engine, options);
    return f;
}

static inline void record_free(record *r)
{
    if (!r)
        return;
    bora_event_free(r->done); /* its pages are in the ledger's books */
    bora_scheduler_reply_free(r->reply);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(r->choices); i++)
        record_free(r->choices[i]);
    free(r);
}

static inline int teardown(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < f->n_records; i++)
        record_free(f->records[i]);
    engine_close(&f->engine);
    free(f);
    return 0;
}

static inline int setup(void **state)
{
    engine_options options = ENGINE_DEFAULT;
    *state = fixture_open(&options);
    return 0;
}

/* ---- generations ------------------------------------------------------------------------------------------------ */

/* A generation of tokens [n]; greedy. */
static inline bora_generation *generation_of_tokens(const int32_t *tokens, size_t n, uint32_t max_generated)
{
    bora_generation *generation = bora_calloc(1, sizeof *generation);
    assert_non_null(generation);
    generation->tokens = bora_calloc(n, sizeof *generation->tokens);
    assert_non_null(generation->tokens);
    memcpy(generation->tokens, tokens, n * sizeof *tokens);
    generation->n_tokens = n;
    generation->max_generated = max_generated;
    generation->sampling = BORA_SAMPLING_DEFAULT;
    generation->sampling.temperature = 0;
    generation->ignore_eos = true;
    return generation;
}

/* Of a text's tokens after BOS. */
static inline bora_generation *generation_of(fixture *f, const char *text, uint32_t max_generated)
{
    const bora_tokenizer *tokenizer = bora_model_tokenizer(f->engine.model);
    bora_tokens tokens = {0};
    assert_ok(bora_tokens_push(&tokens, bora_tokenizer_bos(tokenizer), err));
    assert_ok(bora_tokenizer_encode(tokenizer, text, strlen(text), &tokens, err));
    bora_generation *generation = generation_of_tokens(tokens.ids, tokens.n, max_generated);
    bora_tokens_release(&tokens);
    return generation;
}

/* Token i of text number which: made up, but every one is in the vocabulary, and no two texts begin alike. */
static inline int32_t text_token(uint32_t which, uint64_t i)
{
    return (int32_t)(3 + (i * 37 + i * i % 11 + which * 101) % 250);
}

static inline bora_generation *generation_of_text(uint32_t which, size_t n, uint32_t max_generated)
{
    assert_in_range(n, 1, 4096);
    int32_t tokens[4096];
    for (size_t i = 0; i < n; i++)
        tokens[i] = text_token(which, i);
    return generation_of_tokens(tokens, n, max_generated);
}

static inline bora_generation *owned(bora_generation *generation, const char *owner)
{
    (void)snprintf(generation->owner, sizeof generation->owner, "%s", owner); /* names are short */
    return generation;
}

static inline record *record_new(uint64_t id, uint32_t n_choices)
{
    record *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->id = id;
    r->n_choices = n_choices > 1 ? n_choices : 1;
    for (uint32_t i = 0; r->n_choices > 1 && i < r->n_choices; i++)
        r->choices[i] = record_new(id, 1);
    return r;
}

static inline record *submit(fixture *f, bora_generation *generation)
{
    assert_true(f->n_records < RECORDS_MAX);
    record *r = record_new(f->n_records + 1, generation->n_choices);
    f->records[f->n_records++] = r;
    generation->id = r->id;
    assert_ok(bora_scheduler_submit(f->engine.scheduler, generation, err));
    return r;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static inline void add_text(record *r, const bora_event *event)
{
    assert_true(r->text_size + event->text_size < sizeof r->text);
    if (event->text_size)
        memcpy(r->text + r->text_size, event->text, event->text_size);
    r->text_size += event->text_size;
}

static inline void take_token(record *r, const bora_event *event)
{
    assert_int_equal(r->last_progress, r->n_prompt);
    record *answer = r->n_choices > 1 ? r->choices[event->choice] : r;
    assert_true(event->choice < r->n_choices);
    assert_int_equal(answer->n_done, 0);
    assert_int_equal(event->index, answer->n_tokens);
    assert_true(event->logprob <= 0);
    answer->logprobs[answer->n_tokens] = event->logprob;
    answer->tokens[answer->n_tokens++] = event->token;
    answer->kv_bytes = event->kv_bytes;
    add_text(answer, event);
}

/* An answer's end: CHOICE, or DONE of one that is alone. */
static inline void take_end(record *r, bora_event *event)
{
    assert_int_equal(r->n_done++, 0);
    r->done = event;
    if (event->text)
        add_text(r, event);
    if (event->reason != BORA_REASON_ERROR) {
        assert_int_equal(event->n_generated, r->n_tokens);
        assert_memory_equal(event->generated ? event->generated : r->tokens, r->tokens,
                            r->n_tokens * sizeof *r->tokens);
    }
    if (event->answer) {
        assert_int_equal(event->answer_size, r->text_size);
        assert_memory_equal(event->answer, r->text, r->text_size);
    }
}

static inline void take_done(fixture *f, record *r, bora_event *event)
{
    r->order = ++f->n_ended;
    if (r->n_choices == 1) {
        take_end(r, event);
        return;
    }
    assert_int_equal(r->n_done++, 0);
    r->done = event;
    assert_null(event->generated);
    /* The answers have ended before, all that were begun. */
    size_t n_ended = 0;
    for (uint32_t i = 0; i < r->n_choices; i++) {
        n_ended += (size_t)r->choices[i]->n_done;
        assert_true(r->choices[i]->n_done == 1 || r->choices[i]->n_tokens == 0);
    }
    assert_true(n_ended > 0 || r->n_started == 0);
}

/* Into its record, which frees it later or now. */
static inline void take_event(fixture *f, bora_event *event)
{
    if (event->type == BORA_EVENT_PRESSURE) {
        assert_int_equal(event->id, 0);
        assert_true(event->n_bytes > 0);
        f->n_pressures++;
        f->pressure_bytes = event->n_bytes;
        bora_event_free(event);
        if (f->on_pressure)
            f->on_pressure(f);
        return;
    }
    assert_true(event->id >= 1 && event->id <= f->n_records);
    record *r = f->records[event->id - 1];
    assert_int_equal(r->n_done, 0); /* nothing comes after it */
    switch (event->type) {
    case BORA_EVENT_QUEUED:
        assert_int_equal(r->n_started, 0);
        assert_in_range(event->place, 1, event->n_waiting);
        r->n_queued++;
        r->place = event->place;
        r->n_waiting = event->n_waiting;
        break;
    case BORA_EVENT_WANT_PAGES:
        assert_int_equal(r->n_wanted++, 0);
        assert_int_equal(r->n_started, 0);
        r->reply = event->reply;
        event->reply = NULL;
        if (f->on_want_pages)
            f->on_want_pages(f, r);
        break;
    case BORA_EVENT_STARTED:
        assert_int_equal(r->n_started++, 0);
        r->n_cached = event->n_cached;
        r->n_prompt = event->n_prompt;
        r->n_reused = event->n_reused;
        r->restore_failed = event->restore_failed;
        break;
    case BORA_EVENT_PROGRESS:
        assert_int_equal(r->n_tokens, 0);
        assert_int_equal(event->n_prompt, r->n_prompt);
        assert_true(event->n_done > r->last_progress && event->n_done <= r->n_prompt);
        r->last_progress = event->n_done;
        r->n_progress++;
        break;
    case BORA_EVENT_TOKEN:
        take_token(r, event);
        break;
    case BORA_EVENT_CHOICE:
        assert_true(r->n_choices > 1 && event->choice < r->n_choices);
        take_end(r->choices[event->choice], event);
        return;
    default:
        assert_int_equal(event->type, BORA_EVENT_DONE);
        take_done(f, r, event);
        return;
    }
    bora_event_free(event);
}

/* The next event. */
static inline void take(fixture *f)
{
    bora_event *event = (bora_event *)bora_mailbox_wait(f->engine.events, DEADLINE_MS);
    assert_non_null(event);
    take_event(f, event);
}

static inline void await(fixture *f, record *r)
{
    while (r->n_done == 0)
        take(f);
}

static inline void await_tokens(fixture *f, record *r, size_t n)
{
    while (r->n_tokens < n && r->n_done == 0)
        take(f);
    assert_int_equal(r->n_done, 0);
}

static inline void ended(const record *r, int reason)
{
    if (r->done->reason != reason)
        fail_msg("%llu ended with %s: %s", (unsigned long long)r->id, bora_reason_name(r->done->reason),
                 r->done->error.message);
}

static inline record *run(fixture *f, bora_generation *generation)
{
    record *r = submit(f, generation);
    await(f, r);
    return r;
}

static inline void cancel(fixture *f, const record *r)
{
    assert_ok(bora_scheduler_cancel(f->engine.scheduler, r->id, err));
}

static inline void close_sequence(fixture *f, record *r)
{
    assert_non_null(r->done->sequence);
    assert_ok(bora_scheduler_close_sequence(f->engine.scheduler, r->done->sequence, err));
    r->done->sequence = NULL;
}

static inline bora_scheduler_stats stats_of(fixture *f)
{
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(f->engine.scheduler, &stats);
    return stats;
}

/* The first n tokens and what the model thought of them, bit for bit. */
static inline void same(const record *a, const record *b, size_t n)
{
    assert_true(a->n_tokens >= n && b->n_tokens >= n);
    assert_memory_equal(a->tokens, b->tokens, n * sizeof *a->tokens);
    assert_memory_equal(a->logprobs, b->logprobs, n * sizeof *a->logprobs);
}

/* ---- texts ------------------------------------------------------------------------------------------------------- */

static inline const char *story(void)
{
    return "Once upon a time there was a dog and the dog had a friend, who was a cat. They lived in a house by the "
           "sea.";
}

static inline void long_text(char *text, size_t size)
{
    text[0] = '\0';
    while (strlen(text) + 40 < size)
        (void)strncat(text, "the dog and the cat went home and ", size - strlen(text) - 1);
}

#endif
