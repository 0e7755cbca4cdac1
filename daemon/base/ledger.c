/* One mutex: a take is a few additions, and what get sees fits together. */
#include "base/ledger.h"

#include "base/machine_memory.h"
#include "base/memory.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

struct bora_ledger {
    pthread_mutex_t lock;
    bora_ledger_state state; /* protected by lock; limit never changes */
    bora_mailbox *waiter;    /* protected by lock, which is held while it is sent to: so it cannot be freed meanwhile */
    bora_mail *mail;         /* likewise */
};

bora_status bora_ledger_new(uint64_t limit, bora_ledger **ret_ledger, bora_error *err)
{
    bora_ledger *ledger = bora_calloc(1, sizeof *ledger);
    if (!ledger)
        return bora_fail(err, BORA_E_NOMEM, "the memory ledger");
    (void)pthread_mutex_init(&ledger->lock, NULL); /* default attributes: cannot fail on Linux */
    ledger->state.limit = limit;
    *ret_ledger = ledger;
    return BORA_OK;
}

void bora_ledger_free(bora_ledger *ledger)
{
    if (!ledger)
        return;
    (void)pthread_mutex_destroy(&ledger->lock);
    bora_free(ledger);
}

bool bora_ledger_take(bora_ledger *ledger, uint32_t account, uint64_t size)
{
    if (!ledger)
        return true;
    assert(account < BORA_LEDGER_COUNT);
    bora_ledger_state *state = &ledger->state;
    (void)pthread_mutex_lock(&ledger->lock);
    bool fits = size <= state->limit - state->used; /* used is at most limit */
    if (fits) {
        state->used += size;
        state->accounts[account] += size;
        state->peak = state->used > state->peak ? state->used : state->peak;
    }
    (void)pthread_mutex_unlock(&ledger->lock);
    return fits;
}

void bora_ledger_give(bora_ledger *ledger, uint32_t account, uint64_t size)
{
    if (!ledger)
        return;
    assert(account < BORA_LEDGER_COUNT);
    bora_ledger_state *state = &ledger->state;
    (void)pthread_mutex_lock(&ledger->lock);
    assert(size <= state->accounts[account]); /* more was given than taken */
    state->used -= size;
    state->accounts[account] -= size;
    if (ledger->waiter)
        bora_mailbox_send(ledger->waiter, ledger->mail);
    ledger->waiter = NULL;
    (void)pthread_mutex_unlock(&ledger->lock);
}

void bora_ledger_wake(bora_ledger *ledger, bora_mailbox *box, bora_mail *mail)
{
    if (!ledger)
        return;
    (void)pthread_mutex_lock(&ledger->lock);
    ledger->waiter = box;
    ledger->mail = mail;
    (void)pthread_mutex_unlock(&ledger->lock);
}

void bora_ledger_get(const bora_ledger *ledger, bora_ledger_state *ret_state)
{
    if (!ledger) {
        *ret_state = (bora_ledger_state){0};
        return;
    }
    pthread_mutex_t *lock = (pthread_mutex_t *)&ledger->lock; /* every ledger is made by bora_ledger_new: not const */
    (void)pthread_mutex_lock(lock);
    *ret_state = ledger->state;
    (void)pthread_mutex_unlock(lock);
}

const char *bora_ledger_name(uint32_t account)
{
    static const char *const names[BORA_LEDGER_COUNT] = {
        [BORA_LEDGER_WEIGHTS] = "weights",         [BORA_LEDGER_KV] = "kv",
        [BORA_LEDGER_ACTIVATIONS] = "activations", [BORA_LEDGER_PLUGINS] = "plugins",
        [BORA_LEDGER_REQUESTS] = "requests",       [BORA_LEDGER_STORE] = "store",
        [BORA_LEDGER_PROGRAM] = "program",
    };
    return account < BORA_LEDGER_COUNT ? names[account] : "unknown";
}

bora_size_text bora_show_size(uint64_t size)
{
    bora_size_text shown;
    double value = (double)size;
    const char *unit = "bytes";
    if (size >= UINT64_C(1) << 20) {
        value /= 1048576.0;
        unit = "MiB";
    } else if (size >= 1024) {
        value /= 1024.0;
        unit = "KiB";
    }
    (void)snprintf(shown.text, sizeof shown.text, "%.*f %s", size >= 1024 && value < 9.95 ? 1 : 0, value, unit);
    return shown;
}

bora_status bora_ledger_fail(const bora_ledger *ledger, const char *what, uint64_t size, bora_error *err)
{
    bora_ledger_state state;
    bora_ledger_get(ledger, &state);
    if (!ledger || size <= state.limit - state.used)
        return bora_fail(err, BORA_E_NOMEM, "%s of memory for %s", bora_show_size(size).text, what);
    return bora_fail(err, BORA_E_LIMIT, "memory limit: %s more for %s would pass the limit of %s (%s in use)",
                     bora_show_size(size).text, what, bora_show_size(state.limit).text,
                     bora_show_size(state.used).text);
}

uint64_t bora_ledger_default_limit(void)
{
    return bora_machine_memory() / 10 * 9;
}
