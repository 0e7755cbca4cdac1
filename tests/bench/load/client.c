#include "client.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double bora_load_now(void)
{
    struct timespec time = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &time); /* cannot fail with this clock */
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static uint64_t to_us(double seconds)
{
    return seconds > 0 ? (uint64_t)(seconds * 1e6) : 0;
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------- */

void bora_load_client_fail(bora_load_client *client, const char *what, const char *code, const char *message)
{
    bora_load_stats_error(client->stats, code);
    bora_load_stats_tell(client->stats, "owner %u, client %u, request %u: %s: %s: %.120s", client->owner->index,
                         client->index, client->request, what, code, message);
}

void bora_load_client_search(bora_load_client *client, const char *what, uint32_t found)
{
    client->stats->n_searched++;
    if (found == BORA_LOAD_NOBODY)
        return;
    client->stats->n_leaks++;
    bora_load_stats_tell(client->stats, "owner %u, client %u, request %u: %s holds the secret of owner %u",
                         client->owner->index, client->index, client->request, what, found);
}

static void search_value(bora_load_client *client, const char *what, const bora_client_value *value)
{
    if (client->owner->options->canary)
        bora_load_client_search(client, what, bora_load_canary_in_value(&client->owner->canary, value));
}

void bora_load_client_compare(bora_load_client *client, const bora_load_answer *alone, uint32_t max_tokens)
{
    char why[160];
    if (!client->owner->options->check_solo)
        return;
    client->stats->n_compared++;
    if (bora_load_answer_agrees(&client->answer, alone, max_tokens, why))
        return;
    client->stats->n_different++;
    bora_load_stats_tell(client->stats, "owner %u, client %u, request %u: %s", client->owner->index, client->index,
                         client->request, why);
}

/* ---- connection ------------------------------------------------------------------------------------------------ */

bool bora_load_client_connect(bora_load_client *client)
{
    if (client->connection)
        return true;
    bora_client_error error = {0};
    const bora_client_options options = {.endpoint = client->owner->options->socket,
                                         .name = "load",
                                         .timeout_ms = (uint32_t)(BORA_LOAD_PATIENCE * 1000)};
    double start = bora_load_now();
    bora_client_status status = bora_client_open(&options, &client->connection, &error);
    if (status != BORA_CLIENT_OK) {
        client->connection = NULL;
        bora_load_client_fail(client, "connect", bora_client_status_name(status), error.message);
        return false;
    }
    bora_load_histogram_add(&client->stats->connect, to_us(bora_load_now() - start));
    return true;
}

void bora_load_client_disconnect(bora_load_client *client)
{
    if (!client->connection)
        return;
    (void)pthread_mutex_lock(&client->owner->closing); /* cannot fail: neither held by us nor destroyed */
    bora_client_close(client->connection);
    (void)pthread_mutex_unlock(&client->owner->closing);
    client->connection = NULL;
}

bora_client_result *bora_load_client_ask(bora_load_client *client, const char *verb, const char *session)
{
    bora_client_error error = {0};
    bora_client_result *result = NULL;
    bora_client_request *request = bora_client_request_new(verb);
    bora_client_request_string(request, "session", session);
    bora_client_status status = bora_client_call(client->connection, &request, &result, &error);
    if (status != BORA_CLIENT_OK) {
        (void)snprintf(client->code, sizeof client->code, "%s",
                       *error.code ? error.code : bora_client_status_name(status));
        if (client->owner->options->canary)
            bora_load_client_search(client, verb,
                                    bora_load_canary_in_text(&client->owner->canary, error.message,
                                                             strlen(error.message)));
        return NULL;
    }
    search_value(client, verb, bora_client_result_value(result));
    return result;
}

/* ---- one generation -------------------------------------------------------------------------------------------- */

static void on_token(bora_load_client *client, const bora_client_event *event, double now)
{
    bora_load_stats *stats = client->stats;
    if (client->answer.n_tokens == 0)
        bora_load_histogram_add(client->is_background ? &stats->background_first : &stats->first,
                                to_us(now - client->submitted));
    else
        bora_load_histogram_add(&stats->gap, to_us(now - client->last_token));
    client->last_token = now;
    bora_load_stats_token(stats, client->owner->slot_us, to_us(now - client->owner->start));
    if (!bora_load_answer_token(&client->answer, event->token, event->text, event->text_size))
        bora_load_client_fail(client, "generate", "no_memory", "in the load generator");
}

static bool text_is(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

static void on_done(bora_load_client *client, const bora_client_event *event)
{
    size_t size = 0;
    const char *reason = bora_client_value_text(bora_client_value_get(event->value, "reason"), &size);
    uint64_t n_reused = bora_client_value_uint(bora_client_value_get(event->value, "n_reused"), 0);
    if (!bora_load_answer_done(&client->answer, event->text, event->text_size, reason, size))
        bora_load_client_fail(client, "generate", "no_memory", "in the load generator");
    client->stats->n_reused += n_reused;
    if (n_reused > 0 && client->is_first_of_owner && client->owner->options->n_owners > 1) {
        client->stats->n_leaks++;
        bora_load_stats_tell(client->stats,
                             "owner %u: its first request reused %" PRIu64 " tokens that are not its own",
                             client->owner->index, n_reused);
    }
    if (text_is(reason, size, "length") || text_is(reason, size, "stop") || text_is(reason, size, "context")) {
        client->end = BORA_LOAD_END_DONE;
    } else if (text_is(reason, size, "cancelled") && client->was_cancelled) {
        client->end = BORA_LOAD_END_CANCELLED;
    } else if (client->owner->options->timeout_ms && text_is(reason, size, "deadline")) {
        client->end = BORA_LOAD_END_LATE;
    } else {
        client->end = BORA_LOAD_END_FAILED;
        bora_load_client_fail(client, "it ended", client->answer.reason, "which nobody asked for");
    }
}

static void on_error(bora_load_client *client, const bora_client_error *error)
{
    const char *code = *error->code ? error->code : bora_client_status_name(error->status);
    if (client->owner->options->canary)
        bora_load_client_search(client, "an error",
                                bora_load_canary_in_text(&client->owner->canary, error->message,
                                                         strlen(error->message)));
    if (strcmp(code, "cancelled") == 0 && client->was_cancelled) {
        client->end = BORA_LOAD_END_CANCELLED;
    } else if (client->owner->options->timeout_ms && strcmp(code, "cancelled") == 0) {
        client->end = BORA_LOAD_END_LATE;
    } else {
        client->end = BORA_LOAD_END_FAILED;
        bora_load_client_fail(client, "generate", code, error->message);
    }
}

static int on_event(void *context, const bora_client_event *event)
{
    bora_load_client *client = context;
    double now = bora_load_now();
    client->last_event = now;
    switch (event->kind) {
    case BORA_CLIENT_EVENT_TOKEN:
        on_token(client, event, now);
        if (client->churn == BORA_LOAD_CHURN_CANCEL && !client->was_cancelled &&
            client->answer.n_tokens >= client->n_before) {
            client->was_cancelled = true;
            return 1;
        }
        break;
    case BORA_CLIENT_EVENT_ACCEPTED:
        search_value(client, "accepted", event->value);
        break;
    case BORA_CLIENT_EVENT_DONE:
        search_value(client, "done", event->value);
        on_done(client, event);
        break;
    case BORA_CLIENT_EVENT_ERROR:
        on_error(client, event->error);
        break;
    default:
        break; /* progress, loading */
    }
    return 0;
}

static bora_client_status submit(bora_load_client *client, const bora_load_saying *saying, bora_client_error *error)
{
    const bora_client_generation generation = {
        .text = saying->is_raw ? NULL : saying->text,
        .text_size = saying->is_raw ? 0 : strlen(saying->text),
        .prompt = saying->is_raw ? saying->text : NULL,
        .prompt_size = saying->is_raw ? strlen(saying->text) : 0,
        .session = saying->session,
        .ignore_eos = saying->is_raw,
        .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE,
        .max_tokens = saying->max_tokens,
    };
    bora_client_request *request = bora_client_generation_request(&generation);
    bora_client_request_string(request, "priority", client->is_background ? "background" : NULL);
    if (client->owner->options->timeout_ms && !client->is_alone)
        bora_client_request_uint(request, "timeout_ms", client->owner->options->timeout_ms);
    return bora_client_submit(client->connection, &request, on_event, client, &client->id, error);
}

static void follow(bora_load_client *client)
{
    const bool vanishes = client->churn == BORA_LOAD_CHURN_VANISH;
    while (client->end == BORA_LOAD_END_OPEN) {
        if (vanishes && client->answer.n_tokens >= client->n_before) {
            bora_load_client_disconnect(client);
            client->end = BORA_LOAD_END_VANISHED;
            return;
        }
        bora_client_error error = {0};
        struct pollfd item = {.fd = bora_client_fd(client->connection), .events = POLLIN};
        (void)poll(&item, 1, 1000); /* whatever it says, dispatch finds what is there */
        const char *code = NULL;
        if (bora_client_dispatch(client->connection, &error) != BORA_CLIENT_OK)
            code = bora_client_status_name(error.status);
        else if (client->end == BORA_LOAD_END_OPEN && bora_load_now() - client->last_event > BORA_LOAD_PATIENCE)
            code = "silence";
        if (code) {
            bora_load_client_fail(client, "generate", code, error.message);
            bora_load_client_disconnect(client); /* what may still come is of no use */
            client->end = BORA_LOAD_END_FAILED;
        }
    }
}

bora_load_end bora_load_client_say(bora_load_client *client, const bora_load_saying *saying)
{
    bora_load_stats *stats = client->stats;
    bora_client_error error = {0};
    bora_load_answer_clear(&client->answer);
    client->end = BORA_LOAD_END_OPEN;
    client->was_cancelled = false;
    client->submitted = client->last_event = bora_load_now();
    stats->n_requests++;
    if (submit(client, saying, &error) != BORA_CLIENT_OK) {
        bora_load_client_fail(client, "submit", bora_client_status_name(error.status), error.message);
        bora_load_client_disconnect(client);
        return client->end = BORA_LOAD_END_FAILED;
    }
    if (client->churn == BORA_LOAD_CHURN_CANCEL && client->n_before == 0) {
        client->was_cancelled = true;
        (void)bora_client_cancel(client->connection, client->id, NULL); /* if it cannot be sent, it ends in full */
    }
    follow(client);

    double now = bora_load_now();
    const bora_load_answer *answer = &client->answer;
    bora_load_stats_open(stats, client->owner->slot_us, to_us(client->submitted - client->owner->start),
                         to_us(now - client->owner->start));
    if (client->owner->options->canary)
        bora_load_client_search(client, "an answer",
                                bora_load_canary_in_text(&client->owner->canary, answer->text, answer->text_size));
    stats->n_own_secrets += bora_load_canary_own(&client->owner->canary, answer->text, answer->text_size);
    stats->n_cancelled += client->end == BORA_LOAD_END_CANCELLED;
    stats->n_vanished += client->end == BORA_LOAD_END_VANISHED;
    stats->n_late += client->end == BORA_LOAD_END_LATE;
    if (client->end == BORA_LOAD_END_DONE) {
        stats->n_done++;
        bora_load_histogram_add(&stats->total, to_us(now - client->submitted));
    }
    return client->end;
}
