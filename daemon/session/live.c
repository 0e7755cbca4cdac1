/* The sessions in memory. A short list: n_live_max is tens, and every use of a session costs a forward pass. */
#include "session/session_private.h"

#include "base/memory.h"

#include <string.h>

bora_live *bora_live_find_id(const bora_sessions *sessions, const char *owner, const char *id)
{
    for (bora_live *live = sessions->live; live; live = live->next)
        if (!live->deleted && strcmp(live->record.id, id) == 0 && strcmp(live->owner, owner) == 0)
            return live;
    return NULL;
}

bora_live *bora_live_find(const bora_sessions *sessions, const char *owner, const char *name_or_id)
{
    bora_live *by_id = bora_live_find_id(sessions, owner, name_or_id);
    if (by_id || sessions->n_name_changes > 0)
        return by_id;
    for (bora_live *live = sessions->live; live; live = live->next)
        if (!live->deleted && strcmp(live->record.name, name_or_id) == 0 && strcmp(live->owner, owner) == 0)
            return live;
    return NULL;
}

bora_status bora_live_add(bora_sessions *sessions, const char *owner, bora_session_contents *contents,
                          bora_live **ret_live, bora_error *err)
{
    bora_live *live = bora_calloc(1, sizeof *live);
    char *own = bora_strdup(owner);
    if (!live || !own) {
        bora_free(live);
        bora_free(own);
        return bora_fail(err, BORA_E_NOMEM, "session");
    }
    live->owner = own;
    live->record = contents->record;
    contents->record = (bora_session_record){.created = 0};
    live->tokens = (bora_tokens){.ids = bora_steal(&contents->tokens), .n = contents->n_tokens};
    live->tokens.capacity = live->tokens.n;
    contents->n_tokens = 0;
    live->n_tokens = live->tokens.n;
    live->last_used = ++sessions->clock;
    live->next = sessions->live;
    sessions->live = live;
    *ret_live = live;
    return BORA_OK;
}

void bora_live_free(bora_live *live)
{
    if (!live)
        return;
    bora_session_record_release(&live->record);
    bora_tokens_release(&live->tokens);
    bora_free(live->owner);
    bora_free(live);
}

void bora_live_close_sequence(bora_sessions *sessions, bora_sequence *sequence)
{
    if (!sequence || sessions->stopping)
        return; /* a scheduler that stops closes what it handed out */
    bora_error err = {{0}};
    if (bora_scheduler_close_sequence(sessions->scheduler, sequence, &err) != BORA_OK)
        bora_logf(sessions->log, BORA_LOG_WARN, "a session's cache stays in memory: %s", err.message);
}

void bora_live_drop(bora_sessions *sessions, bora_live *live)
{
    bora_live **link = &sessions->live;
    while (*link != live)
        link = &(*link)->next;
    *link = live->next;
    bora_live_close_sequence(sessions, live->sequence);
    bora_live_free(live);
}

/* The idle one that was used longest ago; NULL: none is idle. ret_n: how many there are in all. */
static bora_live *find_oldest(const bora_sessions *sessions, uint32_t *ret_n)
{
    bora_live *oldest = NULL;
    *ret_n = 0;
    for (bora_live *live = sessions->live; live; live = live->next) {
        ++*ret_n;
        if (!live->open && (!oldest || live->last_used < oldest->last_used))
            oldest = live;
    }
    return oldest;
}

void bora_live_shrink(bora_sessions *sessions)
{
    uint32_t n;
    for (bora_live *oldest; (oldest = find_oldest(sessions, &n)) && n > sessions->options.n_live_max;)
        bora_live_drop(sessions, oldest);
}

void bora_live_relieve(bora_sessions *sessions)
{
    uint64_t freed = 0;
    uint32_t n = 0;
    if (!sessions->pressure || sessions->stopping)
        return;
    for (bora_live *oldest; freed < sessions->pressure && (oldest = find_oldest(sessions, &n));) {
        bora_logf(sessions->log, BORA_LOG_DEBUG, "session %s leaves memory: %llu MiB", oldest->record.id,
                  (unsigned long long)oldest->kv_bytes >> 20);
        freed += oldest->kv_bytes;
        bora_live_drop(sessions, oldest);
    }
    (void)find_oldest(sessions, &n);
    if (freed == 0 && n > 0)
        return; /* a generation that runs will end */
    sessions->pressure = 0;
    bora_scheduler_relieved(sessions->scheduler);
}
