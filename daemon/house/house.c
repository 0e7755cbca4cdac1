#include "house/house.h"

#include "base/memory.h"

#include <pthread.h>
#include <string.h>

#define KINDS_END 5 /* of kinds, which begin with 1 */

#define GATE_SHUT 0 /* the loading thread waits */
#define GATE_OPEN 1
#define GATE_LEFT 2 /* it is not needed any more */

struct bora_house {
    const bora_house_options *options;
    const bora_log *log;
    char *asked;                                   /* path or name, as given */
    char *plugins[KINDS_END];                      /* by kind; NULL: none */
    char *option_names[KINDS_END];                 /* under which their options were looked up */
    char *paths[KINDS_END];                        /* their files when the pipeline was opened */
    bora_plugin_options plugin_options[KINDS_END]; /* their arrays are the house's */
    bool replaces;                                 /* it comes in the place of another */

    bora_model *model;
    bora_loader *loader;
    bora_pipeline *pipeline;
    bora_mailbox *events;
    bora_scheduler *scheduler;
    bora_sessions *sessions;

    pthread_mutex_t lock;
    pthread_cond_t moved; /* gate was changed */
    int gate;             /* protected by lock */
    bora_house *former;   /* protected by lock; to be freed by the loading thread */
};

/* ---- making it ----------------------------------------------------------------------------------------------- */

static void house_freep(bora_house **house)
{
    bora_house_free(*house);
}

/* The texts of options are the configuration's, which stays; their array is only lent. */
static bora_status take_plugin(bora_house *house, uint32_t kind, const char *plugin, const char *option_name,
                               bora_error *err)
{
    const bora_house_options *options = house->options;
    bora_plugin_options given = {0};
    house->plugins[kind] = bora_strdup(plugin);
    house->option_names[kind] = bora_strdup(option_name);
    if (options->plugin_options)
        given = options->plugin_options(options->plugin_options_arg, kind, option_name);
    bora_plugin_option *items = bora_calloc(given.n, sizeof *items);
    if (given.n > 0 && items)
        memcpy(items, given.items, given.n * sizeof *items);
    house->plugin_options[kind] = (bora_plugin_options){.items = items, .n = given.n};
    return house->plugins[kind] && house->option_names[kind] && items ? BORA_OK
                                                                      : bora_fail(err, BORA_E_NOMEM, "plugins");
}

static bora_status make(const char *model, const bora_house_options *options, const bora_log *log,
                        bora_house **ret_house, bora_error *err)
{
    bora_house *house = bora_calloc(1, sizeof *house);
    if (!house)
        return bora_fail(err, BORA_E_NOMEM, "model '%.100s'", model);
    (void)pthread_mutex_init(&house->lock, NULL); /* default attributes: cannot fail on Linux */
    (void)pthread_cond_init(&house->moved, NULL);
    house->options = options;
    house->log = log;
    house->asked = bora_strdup(model);
    if (!house->asked) {
        bora_house_free(house);
        return bora_fail(err, BORA_E_NOMEM, "model '%.100s'", model);
    }
    *ret_house = house;
    return BORA_OK;
}

bora_status bora_house_new(const char *model, const char *const plugins[5], const bora_house_options *options,
                           const bora_log *log, bora_house **ret_house, bora_error *err)
{
    BORA_CLEANUP(house_freep) bora_house *house = NULL;
    bora_status st = make(model, options, log, &house, err);
    for (uint32_t kind = 1; st == BORA_OK && kind < KINDS_END; kind++)
        if (plugins[kind])
            st = take_plugin(house, kind, plugins[kind], plugins[kind], err);
    if (st != BORA_OK)
        return st;
    *ret_house = bora_steal(&house);
    return BORA_OK;
}

bora_status bora_house_new_like(const bora_house *other, const char *model, bora_house **ret_house, bora_error *err)
{
    BORA_CLEANUP(house_freep) bora_house *house = NULL;
    bora_status st = make(model, other->options, other->log, &house, err);
    for (uint32_t kind = 1; st == BORA_OK && kind < KINDS_END; kind++) {
        const char *name = other->plugins[kind], *option_name = other->option_names[kind];
        const char *opened = other->paths[kind];
        bora_plugin_info used;
        /* Exchanged since it was opened: by its file, so that it is the very same; options go by its name. */
        if (opened && bora_pipeline_plugin_info(other->pipeline, kind, &used) && strcmp(used.path, opened) != 0) {
            name = *used.path ? used.path : used.name;
            option_name = used.name;
        }
        if (name)
            st = take_plugin(house, kind, name, option_name, err);
    }
    if (st != BORA_OK)
        return st;
    house->replaces = true;
    *ret_house = bora_steal(&house);
    return BORA_OK;
}

/* By which it is seen later whether a plugin was exchanged. */
static bora_status note_paths(bora_house *house, bora_error *err)
{
    for (uint32_t kind = 1; kind < KINDS_END; kind++) {
        const bora_plugin_library *library = bora_pipeline_plugin(house->pipeline, kind);
        house->paths[kind] = library ? bora_strdup(bora_plugin_path(library)) : NULL;
        if (library && !house->paths[kind])
            return bora_fail(err, BORA_E_NOMEM, "plugins");
    }
    return BORA_OK;
}

bora_status bora_house_open(bora_house *house, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *path = NULL;
    bora_status st = bora_model_find(house->asked, house->options->search, &path, err);
    if (st == BORA_OK)
        st = bora_model_open(path, &house->options->model, house->log, &house->model, err);
    if (st == BORA_OK)
        st = bora_loader_new(house->model, house->log, &house->loader, err);
    if (st != BORA_OK)
        return st;
    bora_pipeline_options options = house->options->pipeline;
    const uint32_t stated = bora_model_hparams(house->model)->context_length;
    if (!options.max_positions)
        options.max_positions = stated ? stated : house->options->context;
    options.replaces = house->replaces;
    for (uint32_t kind = 1; kind < KINDS_END; kind++) {
        options.plugins[kind] = house->plugins[kind];
        options.plugin_options[kind] = &house->plugin_options[kind];
    }
    bora_loader_watch(house->loader, &options);
    st = bora_pipeline_open(house->model, &options, house->log, &house->pipeline, err);
    return st == BORA_OK ? note_paths(house, err) : st;
}

bora_status bora_house_load(bora_house *house, bora_error *err)
{
    return bora_loader_run(house->loader, house->pipeline, err);
}

/* ---- serving --------------------------------------------------------------------------------------------------- */

/* The loading thread's first work. False: the house is not needed. */
static bool begin_loading(void *arg)
{
    bora_house *house = arg;
    (void)pthread_mutex_lock(&house->lock);
    while (house->gate == GATE_SHUT)
        (void)pthread_cond_wait(&house->moved, &house->lock);
    const bool is_wanted = house->gate == GATE_OPEN;
    bora_house *former = house->former;
    house->former = NULL;
    (void)pthread_mutex_unlock(&house->lock);
    bora_house_free(former);
    return is_wanted;
}

static void move_gate(bora_house *house, int gate, bora_house *former)
{
    (void)pthread_mutex_lock(&house->lock);
    if (house->gate == GATE_SHUT) {
        house->gate = gate;
        house->former = former;
    }
    (void)pthread_cond_signal(&house->moved);
    (void)pthread_mutex_unlock(&house->lock);
}

bora_status bora_house_start(bora_house *house, bora_store *store, bora_error *err)
{
    bora_scheduler_options scheduler_options = house->options->scheduler;
    bora_sessions_options sessions_options = house->options->sessions;
    scheduler_options.loader = house->loader;
    sessions_options.layout = bora_model_layout(house->model);
    sessions_options.context = bora_pipeline_options_of(house->pipeline)->max_positions;
    bora_loader_begin_with(house->loader, begin_loading, house);
    bora_status st = bora_mailbox_new(&house->events, err);
    if (st == BORA_OK)
        st = bora_scheduler_new(house->pipeline, &scheduler_options, house->events, house->log, &house->scheduler, err);
    if (st == BORA_OK)
        st = bora_sessions_new(house->model, house->pipeline, house->scheduler, store, &sessions_options, house->log,
                               &house->sessions, err);
    return st;
}

void bora_house_enter(bora_house *house, bora_house *former)
{
    if (former) {
        bora_scheduler_stats stats;
        bora_house_stop(former);
        bora_scheduler_stats_get(former->scheduler, &stats);
        bora_scheduler_stats_go_on(house->scheduler, &stats);
        bora_sessions_hand_over(former->sessions, house->sessions);
    }
    move_gate(house, GATE_OPEN, former);
}

void bora_house_stop(bora_house *house)
{
    if (house->sessions)
        bora_sessions_stop(house->sessions); /* it uses the scheduler no more */
}

/* ---- taking it apart --------------------------------------------------------------------------------------------- */

void bora_house_leave(bora_house *house)
{
    move_gate(house, GATE_LEFT, NULL);
    bora_scheduler_free(house->scheduler);
    house->scheduler = NULL;
}

void bora_house_free(bora_house *house)
{
    if (!house)
        return;
    bora_house_leave(house);
    bora_sessions_free(house->sessions);
    for (bora_mail *mail; house->events && (mail = bora_mailbox_take(house->events));)
        bora_event_free((bora_event *)mail); /* nobody waits for it, but it owns memory */
    bora_mailbox_free(house->events);
    bora_pipeline_free(house->pipeline);
    bora_loader_free(house->loader);
    bora_model_free(house->model);
    for (uint32_t kind = 1; kind < KINDS_END; kind++) {
        bora_free(house->plugins[kind]);
        bora_free(house->option_names[kind]);
        bora_free(house->paths[kind]);
        bora_free((void *)(uintptr_t)house->plugin_options[kind].items);
    }
    bora_free(house->asked);
    (void)pthread_cond_destroy(&house->moved);
    (void)pthread_mutex_destroy(&house->lock);
    bora_free(house);
}

/* ---- looking at it ------------------------------------------------------------------------------------------------
 */

const bora_model *bora_house_model(const bora_house *house)
{
    return house->model;
}

bora_pipeline *bora_house_pipeline(const bora_house *house)
{
    return house->pipeline;
}

bora_mailbox *bora_house_events(const bora_house *house)
{
    return house->events;
}

bora_scheduler *bora_house_scheduler(const bora_house *house)
{
    return house->scheduler;
}

bora_sessions *bora_house_sessions(const bora_house *house)
{
    return house->sessions;
}
