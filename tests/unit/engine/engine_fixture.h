/* The embedded model in a real pipeline with a real scheduler, for tests of what stands on them. */
#ifndef BORA_TESTS_ENGINE_FIXTURE_H
#define BORA_TESTS_ENGINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/scheduler.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define TINY_WINDOW 256
#define DEADLINE_MS 120000 /* a test that waits longer has failed; sanitizers are slow */

#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        bora_error assert_ok_err = {{0}};                                                                              \
        bora_error *err = &assert_ok_err;                                                                              \
        bora_status assert_ok_status = (call);                                                                         \
        if (assert_ok_status != BORA_OK)                                                                               \
            fail_msg("%s: %s (%s)", #call, err->message, bora_status_name(assert_ok_status));                          \
    } while (0)

typedef struct engine_options {
    const char *expert, *cache; /* NULL: quant, ring */
    uint32_t n_stages;          /* 0: one */
    uint32_t chunk, batch_tokens, max_running, n_left_max;
    uint64_t context;
    uint32_t kv_dtype;
} engine_options;

#define ENGINE_DEFAULT                                                                                                 \
    ((engine_options){.chunk = 32, .batch_tokens = 64, .max_running = 8, .context = 4096, .kv_dtype = BORA_DTYPE_F32})

typedef struct engine {
    bora_log log;
    bora_ledger *ledger; /* wide; all that was taken must have come back at the end */
    uint64_t set_aside;  /* bytes that engine_leave_room took from it */
    bora_model *model;
    bora_pipeline *pipeline;
    bora_mailbox *events;
    bora_scheduler *scheduler;
} engine;

static inline void engine_open(engine *e, const engine_options *options)
{
    bora_log_init(&e->log, BORA_LOG_WARN);
    assert_ok(bora_ledger_new(UINT64_C(1) << 40, &e->ledger, err));
    bora_model_options model = {.layout = BORA_CHAT_AUTO, .ledger = e->ledger};
    assert_ok(
        bora_model_open(BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf", &model, &e->log, &e->model, err));
    bora_pipeline_options pipeline = {
        .n_threads = 1, /* the pool is tested with the pipeline; the daemon's threads are what matters here */
        .n_stages = options->n_stages ? options->n_stages : 1,
        .max_tokens = options->batch_tokens,
        .max_logits = options->max_running,
        .slack = options->chunk,
        .max_positions = options->context,
        .kv_dtype = options->kv_dtype,
        .plugin_path = BORA_BUILD_DIR "/lib/bora/plugins",
        .plugins = {NULL, "flash", options->cache ? options->cache : "ring",
                    options->expert ? options->expert : "quant", "thread"},
        .ledger = e->ledger,
    };
    assert_int_equal(BORA_PLUGIN_ATTENTION, 1);
    assert_int_equal(BORA_PLUGIN_CACHE, 2);
    assert_int_equal(BORA_PLUGIN_EXPERT, 3);
    assert_int_equal(BORA_PLUGIN_LINK, 4);
    assert_ok(bora_pipeline_new(e->model, &pipeline, &e->log, &e->pipeline, err));
    assert_ok(bora_mailbox_new(&e->events, err));
    bora_scheduler_options scheduler = {.chunk = options->chunk,
                                        .batch_tokens = options->batch_tokens,
                                        .max_running = options->max_running,
                                        .n_left_max = options->n_left_max};
    assert_ok(bora_scheduler_new(e->pipeline, &scheduler, e->events, &e->log, &e->scheduler, err));
}

/* From now on the ledger has room for so many bytes more than what is in use, whatever its limit was. */
static inline void engine_leave_room(engine *e, uint64_t room)
{
    bora_ledger_state books;
    bora_ledger_get(e->ledger, &books);
    assert_true(books.limit - books.used >= room);
    e->set_aside = books.limit - books.used - room;
    assert_true(bora_ledger_take(e->ledger, BORA_LEDGER_PROGRAM, e->set_aside));
}

static inline void engine_leave_all(engine *e)
{
    bora_ledger_give(e->ledger, BORA_LEDGER_PROGRAM, e->set_aside);
    e->set_aside = 0;
}

static inline void engine_close(engine *e)
{
    bora_scheduler_free(e->scheduler);
    if (e->events)
        for (bora_event *event; (event = (bora_event *)bora_mailbox_take(e->events));)
            bora_event_free(event);
    bora_mailbox_free(e->events);
    bora_pipeline_free(e->pipeline);
    bora_model_free(e->model);
    bora_ledger_give(e->ledger, BORA_LEDGER_PROGRAM, e->set_aside);
    bora_ledger_state books;
    bora_ledger_get(e->ledger, &books);
    assert_int_equal(books.used, 0);
    bora_ledger_free(e->ledger);
    *e = (engine){.model = NULL};
}

#endif
