/* The session manager as a whole: made, stopped, freed, and looked at. */
#include "session/session_private.h"

#include "base/memory.h"

#include <string.h>

bora_status bora_sessions_new(const bora_model *model, bora_pipeline *pipeline, bora_scheduler *scheduler,
                              bora_store *store, const bora_sessions_options *options, const bora_log *log,
                              bora_sessions **ret_sessions, bora_error *err)
{
    uint64_t max_positions = bora_pipeline_options_of(pipeline)->max_positions;
    if (options->n_open_max < 1)
        return bora_fail(err, BORA_E_INVAL, "at least one generation must be allowed");
    if (options->context < 1 || options->context > max_positions)
        return bora_fail(err, BORA_E_INVAL, "context must be 1 .. %llu", (unsigned long long)max_positions);
    if (!bora_model_tokenizer(model))
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model has no tokenizer");
    bora_error why = {{0}};
    if (options->layout != BORA_CHAT_NONE &&
        bora_chat_layout_check(options->layout, bora_model_tokenizer(model), &why) != BORA_OK)
        return bora_fail(err, BORA_E_INVAL, "%s", why.message);
    bora_sessions *sessions = bora_calloc(1, sizeof *sessions);
    if (!sessions)
        return bora_fail(err, BORA_E_NOMEM, "sessions");
    sessions->model = model;
    sessions->scheduler = scheduler;
    sessions->store = store;
    sessions->options = *options;
    sessions->log = log;
    bora_status st = bora_vocabulary_new(bora_model_tokenizer(model), &sessions->vocabulary, err);
    if (st == BORA_OK || st == BORA_E_UNSUPPORTED) /* then requests with a grammar are refused */
        st = bora_compiler_new(options->replies, &sessions->compiler, err);
    if (st != BORA_OK) {
        bora_vocabulary_free(sessions->vocabulary);
        bora_free(sessions);
        return st;
    }
    sessions->ledger = bora_pipeline_options_of(pipeline)->ledger;
    sessions->kv_position_size = bora_pipeline_kv_position_size(pipeline);
    sessions->kv_sequence_max = bora_pipeline_kv_sequence_max(pipeline);
    *ret_sessions = sessions;
    return BORA_OK;
}

void bora_sessions_free(bora_sessions *sessions)
{
    if (!sessions)
        return;
    bora_compiler_free(bora_steal(&sessions->compiler)); /* it may have opens */
    while (sessions->open) {
        bora_open *open = sessions->open;
        sessions->open = open->next;
        bora_open_free(open);
    }
    while (sessions->live) {
        bora_live *live = sessions->live;
        sessions->live = live->next;
        bora_live_free(live);
    }
    bora_vocabulary_free(sessions->vocabulary);
    bora_free(sessions);
}

void bora_sessions_stop(bora_sessions *sessions)
{
    sessions->stopping = true;
    bora_compiler_free(bora_steal(&sessions->compiler)); /* what waits there comes back at once */
    bora_scheduler_stop(sessions->scheduler);
}

uint32_t bora_sessions_n_open(const bora_sessions *sessions)
{
    return sessions->n_open + sessions->n_verbs;
}

uint32_t bora_sessions_n_generations(const bora_sessions *sessions)
{
    return sessions->n_open;
}

void bora_sessions_cut(bora_sessions *sessions, const char *why)
{
    for (bora_open *open = sessions->open; open; open = open->next) {
        open->cut_why = open->cancelled ? NULL : why;
        bora_open_cancel(open);
    }
}

void bora_sessions_hand_over(bora_sessions *sessions, bora_sessions *to)
{
    to->n_verbs += sessions->n_verbs;
    to->n_name_changes += sessions->n_name_changes;
    sessions->n_verbs = sessions->n_name_changes = 0;
    to->last_id = sessions->last_id; /* never used twice */
    to->ended = sessions->ended;
}

void bora_sessions_stats_get(const bora_sessions *sessions, bora_sessions_stats *ret_stats)
{
    *ret_stats = sessions->ended;
    ret_stats->n_open = sessions->n_open;
    ret_stats->n_store_jobs = bora_store_pending(sessions->store);
    for (const bora_live *live = sessions->live; live; live = live->next)
        ret_stats->n_live += !live->deleted;
}

const bora_sessions_options *bora_sessions_options_of(const bora_sessions *sessions)
{
    return &sessions->options;
}

void bora_sessions_each_live(const bora_sessions *sessions, const char *owner,
                             void (*fn)(void *arg, const bora_live_session *live), void *arg)
{
    for (const bora_live *live = sessions->live; live; live = live->next) {
        if (live->deleted || strcmp(live->owner, owner) != 0)
            continue;
        bora_live_session view = {.name = live->record.name,
                                  .id = live->record.id,
                                  .n_tokens = live->n_tokens,
                                  .kv_bytes = live->kv_bytes,
                                  .running = live->open != NULL};
        fn(arg, &view);
    }
}
