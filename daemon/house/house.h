/* A house: everything that belongs to one model, so that it can be exchanged as a whole while clients stay connected.
 *
 *   new ──▶ open: model, loader, pipeline ──▶ start: engine thread, sessions ──▶ enter: it loads, and takes requests
 *                                                                                 ──▶ stop ──▶ free
 *
 * Two may stand side by side: one that serves, and one that is ready to take its place, for which nothing but headers
 * has been read. When that one enters, its loading thread first takes the other apart, so that at no time there is
 * memory for both; nobody waits for either. */
#ifndef BORA_HOUSE_HOUSE_H
#define BORA_HOUSE_HOUSE_H

#include "session/session.h"

typedef struct bora_house bora_house;

/* What is the same for every model. */
typedef struct bora_house_options {
    const char *search;               /* "dir:dir" where models are looked for by name: bora_model_find */
    bora_model_options model;         /* with the ledger */
    bora_pipeline_options pipeline;   /* max_positions 0: what the model states, else context. The house fills in
                                       * plugins, plugin_options, replaces and whom loading reports to */
    uint64_t context;                 /* for models that state none */
    bora_scheduler_options scheduler; /* the house fills in loader */
    bora_sessions_options sessions;   /* the house fills in layout and context */
    /* The configured options of a plugin; valid until the next call. NULL: none. */
    bora_plugin_options (*plugin_options)(void *arg, uint32_t kind, const char *name);
    void *plugin_options_arg;
} bora_house_options;

/* model: a path, or a name to look for; plugins: by kind, names or absolute paths; both are copied. options and log are
 * borrowed and outlive the house. The thread that plugin_options belongs to. Errors: NOMEM. */
bora_status bora_house_new(const char *model, const char *const plugins[5], const bora_house_options *options,
                           const bora_log *log, bora_house **ret_house, bora_error *err);
/* The same with the plugins that are in use in another house, which is open. */
bora_status bora_house_new_like(const bora_house *other, const char *model, bora_house **ret_house, bora_error *err);
/* Opens model and pipeline. It may have to wait for a disk: any one thread. Errors: those of bora_model_find,
 * bora_model_open and bora_pipeline_open. */
bora_status bora_house_open(bora_house *house, bora_error *err);
/* Loads it, and nothing more: for a check. After open, instead of start. Errors: as bora_loader_run. */
bora_status bora_house_load(bora_house *house, bora_error *err);
/* Makes what serves requests: it waits for enter. After open; any one thread. store is borrowed, outlives the house. */
bora_status bora_house_start(bora_house *house, bora_store *store, bora_error *err);
/* From now on it takes requests and loads; how loading ends comes as an event. former, which may be NULL: the house in
 * whose place it comes, without generations; it is stopped, hands over what its store still has, and is freed by the
 * thread that loads, before it does. The loop thread; cannot fail. */
void bora_house_enter(bora_house *house, bora_house *former);
/* Every generation is ended: bora_sessions_stop. */
void bora_house_stop(bora_house *house);
/* Waits for its threads, which takes as long as the piece of work they are at. A house that was stopped, or has not
 * entered. */
void bora_house_leave(bora_house *house);
/* With leave. The sessions go too: nothing may come from the store for them any more. NULL is a no-op. */
void bora_house_free(bora_house *house);

/* After open. */
const bora_model *bora_house_model(const bora_house *house);
bora_pipeline *bora_house_pipeline(const bora_house *house);
/* After start; NULL before. */
bora_mailbox *bora_house_events(const bora_house *house);
bora_scheduler *bora_house_scheduler(const bora_house *house);
bora_sessions *bora_house_sessions(const bora_house *house);

#endif
