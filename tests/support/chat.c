#include "support/chat.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SILENCE_MS  60000
#define CLIENTS_MAX 64

static void *grow(void *old, size_t n, size_t size)
{
    void *grown = reallocarray(old, n, size);
    if (!grown) {
        perror("answer");
        abort();
    }
    return grown;
}

static uint64_t number(const bora_client_event *event, const char *key)
{
    return bora_client_value_uint(bora_client_value_get(event->value, key), UINT64_MAX);
}

static void copy_text(const bora_client_event *event, const char *key, char *to, size_t to_size)
{
    size_t size = 0;
    const char *text = bora_client_value_text(bora_client_value_get(event->value, key), &size);
    (void)snprintf(to, to_size, "%.*s", (int)size, text); /* a cut text does not compare equal: that is enough */
}

bool bora_test_text_is(const bora_client_value *value, const char *string)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    return bora_client_value_kind(value) == BORA_CLIENT_VALUE_TEXT && size == strlen(string) &&
           memcmp(text, string, size) == 0;
}

/* ---- one answer ---------------------------------------------------------------------------------------------- */

void bora_test_answer_release(bora_test_answer *answer)
{
    free(answer->tokens);
    free(answer->logprobs);
    free(answer->text);
    *answer = (bora_test_answer){0};
}

static void check_order(bora_test_answer *a, const bora_client_event *event)
{
    const char *why = NULL;
    bool is_answer = event->kind == BORA_CLIENT_EVENT_PROGRESS || event->kind == BORA_CLIENT_EVENT_TOKEN ||
                     event->kind == BORA_CLIENT_EVENT_DONE;
    if (a->has_ended)
        why = "an event after the last one";
    else if (event->kind == BORA_CLIENT_EVENT_RESULT)
        why = "a result";
    else if (event->kind == BORA_CLIENT_EVENT_ACCEPTED && a->has_accepted)
        why = "accepted twice";
    else if (is_answer && !a->has_accepted)
        why = "not accepted first";
    else if (event->kind == BORA_CLIENT_EVENT_PROGRESS && a->n_tokens)
        why = "progress after a token";
    else if (event->kind == BORA_CLIENT_EVENT_PROGRESS && (event->n_done > event->n_total || !event->n_total))
        why = "progress beyond its end";
    else if (event->kind == BORA_CLIENT_EVENT_TOKEN && event->index != a->n_tokens)
        why = "token index";
    else if (event->kind == BORA_CLIENT_EVENT_DONE && number(event, "n_generated") != a->n_tokens)
        why = "done tells another number of tokens than came";
    if (!a->disorder)
        a->disorder = why;
}

static void on_accepted(bora_test_answer *a, const bora_client_event *event)
{
    a->has_accepted = true;
    copy_text(event, "session", a->session, sizeof a->session);
    copy_text(event, "session_id", a->session_id, sizeof a->session_id);
    a->turn = number(event, "turn");
    a->n_history = number(event, "n_history");
    a->n_cached = number(event, "n_cached");
    a->n_rerun = number(event, "n_rerun");
    a->n_reused = number(event, "n_reused");
    a->n_prompt = number(event, "n_prompt");
    a->seed = number(event, "seed");
    a->system_ignored = bora_client_value_bool(bora_client_value_get(event->value, "system_ignored"), false);
}

static void on_done(bora_test_answer *a, const bora_client_event *event)
{
    a->has_done = true;
    copy_text(event, "reason", a->reason, sizeof a->reason);
    a->n_generated = number(event, "n_generated");
    a->kv_bytes = number(event, "kv_bytes");
    a->stored = bora_client_value_bool(bora_client_value_get(event->value, "stored"), false);
}

static void add_text(bora_test_answer *a, const bora_client_event *event)
{
    a->text = grow(a->text, a->text_size + event->text_size + 1, 1);
    memcpy(a->text + a->text_size, event->text, event->text_size);
    a->text_size += event->text_size;
    a->text[a->text_size] = '\0';
}

int bora_test_answer_handle(void *answer, const bora_client_event *event)
{
    bora_test_answer *a = answer;
    check_order(a, event);
    if (event->kind == BORA_CLIENT_EVENT_ACCEPTED)
        on_accepted(a, event);
    if (event->kind == BORA_CLIENT_EVENT_TOKEN) {
        a->tokens = grow(a->tokens, a->n_tokens + 1, sizeof *a->tokens);
        a->logprobs = grow(a->logprobs, a->n_tokens + 1, sizeof *a->logprobs);
        a->tokens[a->n_tokens] = event->token;
        a->logprobs[a->n_tokens++] = event->logprob;
    }
    if (event->kind == BORA_CLIENT_EVENT_TOKEN || event->kind == BORA_CLIENT_EVENT_DONE)
        add_text(a, event);
    if (event->kind == BORA_CLIENT_EVENT_DONE)
        on_done(a, event);
    if (event->kind == BORA_CLIENT_EVENT_ERROR) {
        a->status = event->error->status;
        a->error = *event->error;
    }
    a->has_ended = a->has_ended || event->kind == BORA_CLIENT_EVENT_DONE || event->kind == BORA_CLIENT_EVENT_ERROR;
    if (event->kind > 0 && event->kind < 10 && a->n_events[event->kind]++ == a->act_at && a->act &&
        event->kind == a->act_on)
        a->act(a->context);
    return 0;
}

bora_client_status bora_test_answer_get(bora_client *client, const bora_client_generation *generation,
                                        bora_test_answer *answer)
{
    bora_client_error error = {0};
    answer->status = bora_client_generate(client, generation, bora_test_answer_handle, answer, &error);
    answer->error = error;
    return answer->status;
}

bora_client_status bora_test_answer_submit(bora_client *client, const bora_client_generation *generation,
                                           bora_test_answer *answer)
{
    bora_client_request *request = bora_client_generation_request(generation);
    answer->status =
        bora_client_submit(client, &request, bora_test_answer_handle, answer, &answer->request, &answer->error);
    return answer->status;
}

/* ---- clients ------------------------------------------------------------------------------------------------- */

bool bora_test_dispatch(bora_client *const *clients, size_t n)
{
    struct pollfd fds[CLIENTS_MAX];
    nfds_t n_fds = 0;
    for (size_t i = 0; i < n && n_fds < CLIENTS_MAX; i++)
        if (clients[i])
            fds[n_fds++] = (struct pollfd){.fd = bora_client_fd(clients[i]), .events = POLLIN};
    if (poll(fds, n_fds, SILENCE_MS) <= 0)
        return false;
    bool good = true;
    for (size_t i = 0; i < n; i++)
        if (clients[i])
            good = bora_client_dispatch(clients[i], NULL) == BORA_CLIENT_OK && good;
    return good;
}

bora_client *bora_test_connect(const char *socket)
{
    bora_client_options options = {.endpoint = socket, .name = "bora tests", .timeout_ms = SILENCE_MS};
    bora_client_error error = {0};
    bora_client *client = NULL;
    if (bora_client_open(&options, &client, &error) != BORA_CLIENT_OK)
        (void)fprintf(stderr, "connecting to %s: %s\n", socket, error.message);
    return client;
}

int32_t *bora_test_session_tokens(bora_client *client, const char *session, size_t *ret_n, size_t *ret_n_messages)
{
    *ret_n = 0;
    if (ret_n_messages)
        *ret_n_messages = 0;
    bora_client_result *result = NULL;
    if (bora_client_session_show(client, session, &result, NULL) != BORA_CLIENT_OK)
        return NULL;
    const bora_client_value *value = bora_client_result_value(result);
    const bora_client_value *tokens = bora_client_value_get(value, "tokens");
    size_t n = bora_client_value_count(tokens);
    int32_t *ids = grow(NULL, n + 1, sizeof *ids);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (int32_t)bora_client_value_int(bora_client_value_at(tokens, i), -1);
    *ret_n = n;
    if (ret_n_messages)
        *ret_n_messages = bora_client_value_count(bora_client_value_get(value, "messages"));
    bora_client_result_free(result);
    return ids;
}

uint64_t bora_test_number(bora_client *client, const char *verb, const char *key)
{
    bora_client_request *request = bora_client_request_new(verb);
    bora_client_result *result = NULL;
    if (bora_client_call(client, &request, &result, NULL) != BORA_CLIENT_OK)
        return UINT64_MAX;
    uint64_t found = bora_client_value_uint(bora_client_value_get(bora_client_result_value(result), key), UINT64_MAX);
    bora_client_result_free(result);
    return found;
}
