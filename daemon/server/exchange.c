/* One model takes another's place, with clients connected and sessions open.
 *
 *   OPENING ──▶ DRAINING ──▶ LOADING ──▶ answered
 *      ▲                        │
 *      └── the former again ────┘ if it cannot be loaded
 *
 * The new house is opened and made ready by a thread of its own while the old one serves: whatever is wrong with a
 * model shows there, and nothing has happened. Then no answer may begin; those that run end, or are cut when their time
 * is over, and are stored. With the last one the new house enters, frees the other and loads. */
#include "server/server_private.h"

#include "base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#define OPENING  1 /* the thread has it */
#define DRAINING 2
#define LOADING  3 /* the new house is in use */

#define TELL_NS  UINT64_C(1000000000) /* between two words about what is waited for */

static const char cut_text[] = "the model is being exchanged: try again when it is loaded";

struct bora_exchange {
    bora_mail mail; /* back from the thread */
    bora_server *server;
    bora_request *request; /* NULL: it has its answer */
    int phase;
    bool is_return;   /* of the former model */
    bora_house *next; /* until it enters; the thread's while OPENING */
    char *former;     /* the path of the model that was in use */
    uint32_t timeout_ms;
    uint64_t begun_ns, drain_ns, told_ns;
    bool is_cut;
    pthread_t thread;
    bool thread_started;
    bora_status status; /* the thread's, when it has ended */
    bora_error error;
    bora_status load_status; /* with is_return: why there is one */
    bora_error load_error;
};

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void *open_main(void *arg)
{
    bora_exchange *exchange = arg;
    bora_server *server = exchange->server;
    exchange->status = bora_house_open(exchange->next, &exchange->error);
    if (exchange->status == BORA_OK)
        exchange->status = bora_house_start(exchange->next, server->options.store, &exchange->error);
    bora_mailbox_send(server->opened, &exchange->mail);
    return NULL;
}

/* The thread takes no signals: they are the loop's. */
static bora_status begin_opening(bora_exchange *exchange, const char *model, bora_error *err)
{
    sigset_t all, before;
    bora_status st = bora_house_new_like(exchange->server->options.house, model, &exchange->next, err);
    if (st != BORA_OK)
        return st;
    exchange->phase = OPENING;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&exchange->thread, NULL, open_main, exchange);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code)
        return bora_fail(err, BORA_E_IO, "starting to open the model: %s", strerror(code));
    exchange->thread_started = true;
    return BORA_OK;
}

/* Not while a thread has it. */
static void exchange_free(bora_exchange *exchange)
{
    exchange->server->exchange = NULL;
    bora_house_free(exchange->next);
    bora_free(exchange->former);
    bora_free(exchange);
}

bora_status bora_exchange_begin(bora_request *request, const char *model, uint32_t timeout_ms, bora_error *err)
{
    bora_server *server = request->server;
    bora_scheduler_stats stats;
    if (server->is_stopping)
        return bora_fail(err, BORA_E_CLOSED, "the daemon is ending");
    if (server->exchange)
        return bora_fail(err, BORA_E_BUSY, "a model is being exchanged already");
    if (server->n_swaps > 0)
        return bora_fail(err, BORA_E_BUSY, "a plugin is being exchanged");
    bora_scheduler_stats_get(server->options.scheduler, &stats);
    if (stats.is_loading)
        return bora_fail(err, BORA_E_BUSY, "the model is being loaded");
    bora_exchange *exchange = bora_calloc(1, sizeof *exchange);
    if (!exchange)
        return bora_fail(err, BORA_E_NOMEM, "model '%.100s'", model);
    server->exchange = exchange;
    *exchange = (bora_exchange){.server = server,
                                .request = request,
                                .timeout_ms = timeout_ms,
                                .begun_ns = bora_server_now_ns()};
    exchange->former = bora_strdup(bora_model_path(server->options.model));
    bora_status st = exchange->former ? begin_opening(exchange, model, err) : bora_fail(err, BORA_E_NOMEM, "model");
    if (st != BORA_OK)
        exchange_free(exchange);
    return st;
}

bool bora_exchange_is_draining(const bora_server *server)
{
    const bora_exchange *exchange = server->exchange;
    return exchange && (exchange->phase == DRAINING || (exchange->phase == OPENING && exchange->is_return));
}

bora_status bora_exchange_check(const bora_server *server, bora_error *err)
{
    return bora_exchange_is_draining(server) ? bora_fail(err, BORA_E_BUSY, "%s", cut_text) : BORA_OK;
}

/* ---- the end -------------------------------------------------------------------------------------------------------
 */

static void refuse(bora_exchange *exchange, bora_status status, const char *message)
{
    bora_request *request = exchange->request;
    exchange->request = NULL;
    if (request)
        bora_request_fail(request, status, message);
}

static void answer(bora_exchange *exchange)
{
    const bora_server *server = exchange->server;
    bora_request *request = exchange->request;
    bora_pack pack;
    exchange->request = NULL;
    if (!request)
        return;
    bora_request_begin(request, "result", &pack);
    bora_pack_string(&pack, "name", bora_model_name(server->options.model));
    bora_pack_string(&pack, "path", bora_model_path(server->options.model));
    bora_pack_string(&pack, "fingerprint", bora_model_fingerprint(server->options.model));
    bora_pack_uint(&pack, "took_ms", (bora_server_now_ns() - exchange->begun_ns) / 1000000);
    bora_request_end(request, &pack);
}

/* Neither the new one nor the former: the daemon has nothing to serve. */
static bora_status lose(bora_exchange *exchange, bora_status status, const bora_error *why, bora_error *err)
{
    bora_error both = {{0}};
    bora_status st = bora_fail(&both, status, "%.200s; and the model before cannot be loaded again: %.200s",
                               exchange->load_error.message, why->message);
    refuse(exchange, st, both.message);
    exchange_free(exchange);
    *err = both;
    return st;
}

void bora_exchange_on_opened(bora_server *server)
{
    bora_exchange *exchange = server->exchange;
    bora_error err = {{0}};
    if (!bora_mailbox_take(server->opened))
        return;
    (void)pthread_join(exchange->thread, NULL); /* sending this was the last it did */
    exchange->thread_started = false;
    if (exchange->status == BORA_OK && !server->is_stopping) {
        exchange->phase = DRAINING;
        exchange->drain_ns = exchange->told_ns = bora_server_now_ns();
        bora_logf(server->log, BORA_LOG_INFO, "model '%s' takes the place of '%s'; %u answers to wait for",
                  bora_model_name(bora_house_model(exchange->next)), bora_model_name(server->options.model),
                  bora_sessions_n_generations(server->options.sessions));
    } else if (server->is_stopping) {
        exchange_free(exchange);
    } else if (exchange->is_return) {
        bora_status st = lose(exchange, exchange->status, &exchange->error, &err);
        bora_server_stop(server, st, &err);
    } else {
        bora_logf(server->log, BORA_LOG_WARN, "model.load: nothing has changed: %s", exchange->error.message);
        refuse(exchange, exchange->status, exchange->error.message);
        exchange_free(exchange);
    }
}

/* The model that was in use comes back. */
static bora_status go_back(bora_exchange *exchange, const bora_event *event, bora_error *err)
{
    exchange->is_return = true;
    exchange->load_status = event->status;
    exchange->load_error = event->error;
    bora_logf(exchange->server->log, BORA_LOG_WARN, "model.load: %s; going back to '%s'", event->error.message,
              exchange->former);
    bora_error why = {{0}};
    bora_status st = begin_opening(exchange, exchange->former, &why);
    return st == BORA_OK ? st : lose(exchange, st, &why, err);
}

bora_status bora_exchange_on_loaded(bora_server *server, const bora_event *event, bora_error *err)
{
    bora_exchange *exchange = server->exchange;
    if (!exchange || exchange->phase != LOADING) { /* the first model */
        *err = event->error;
        return event->status;
    }
    if (event->status != BORA_OK)
        return exchange->is_return ? lose(exchange, event->status, &event->error, err) : go_back(exchange, event, err);
    if (exchange->is_return)
        refuse(exchange, exchange->load_status, exchange->load_error.message);
    else
        answer(exchange);
    bora_logf(server->log, BORA_LOG_INFO, "model '%s' is in use", bora_model_name(server->options.model));
    exchange_free(exchange);
    return BORA_OK;
}

/* ---- draining ------------------------------------------------------------------------------------------------------
 */

static void enter(bora_exchange *exchange)
{
    bora_server *server = exchange->server;
    bora_house_enter(exchange->next, server->options.house);
    bora_server_move(server, bora_steal(&exchange->next));
    exchange->phase = LOADING;
}

static void tell_draining(bora_exchange *exchange, uint32_t n_open)
{
    bora_pack pack;
    if (!exchange->request)
        return;
    bora_request_begin(exchange->request, "draining", &pack);
    bora_pack_uint(&pack, "n_open", n_open);
    bora_request_send(exchange->request, &pack);
}

uint64_t bora_exchange_tick(bora_server *server, uint64_t now_ns)
{
    bora_exchange *exchange = server->exchange;
    if (!exchange || exchange->phase != DRAINING || server->is_stopping)
        return UINT64_MAX;
    uint64_t deadline = exchange->drain_ns + (uint64_t)exchange->timeout_ms * 1000000;
    if (!exchange->is_cut && now_ns >= deadline && bora_sessions_n_generations(server->options.sessions) > 0) {
        bora_logf(server->log, BORA_LOG_INFO, "model.load: %u answers are cut",
                  bora_sessions_n_generations(server->options.sessions));
        exchange->is_cut = true;
        bora_sessions_cut(server->options.sessions, cut_text);
    }
    const uint32_t n_open = bora_sessions_n_generations(server->options.sessions);
    if (n_open == 0) {
        enter(exchange);
        return UINT64_MAX;
    }
    if (now_ns - exchange->told_ns >= TELL_NS) {
        exchange->told_ns = now_ns;
        tell_draining(exchange, n_open);
    }
    uint64_t wait = TELL_NS - (now_ns - exchange->told_ns);
    return exchange->is_cut || wait < deadline - now_ns ? wait : deadline - now_ns;
}

void bora_exchange_tell_loading(bora_server *server, const bora_scheduler_stats *stats)
{
    if (server->exchange && server->exchange->request)
        bora_request_tell_loading(server->exchange->request, stats);
}

/* ---- the daemon's end -------------------------------------------------------------------------------------------- */

void bora_exchange_stop(bora_server *server)
{
    if (server->exchange)
        refuse(server->exchange, BORA_E_CLOSED, "the daemon is ending");
}

void bora_exchange_free(bora_server *server)
{
    bora_exchange *exchange = server->exchange;
    if (!exchange)
        return;
    if (exchange->thread_started)
        (void)pthread_join(exchange->thread, NULL);
    (void)bora_mailbox_take(server->opened); /* itself */
    if (exchange->request && !exchange->request->connection)
        bora_request_free(exchange->request); /* the others are freed with their connections */
    exchange_free(exchange);
}
