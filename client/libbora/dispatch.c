/* Requests out, events in. A request takes a slot until its last event; the slot is freed before the handler hears of
 * that event, so that a handler finds the client in good order and may submit again. */
#include "client.h"

#include "probe.h"
#include "error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#define MESSAGES_AT_ONCE 256 /* then the caller's loop has its turn */

/* ---- slots ------------------------------------------------------------------------------------------------ */

static bora_client_open_request *find_open(bora_client *client, uint64_t id)
{
    for (size_t i = 0; i < BORA_REQUESTS_MAX; i++)
        if (client->open[i].id == id)
            return &client->open[i];
    return NULL;
}

static void release_slot(bora_client *client, bora_client_open_request *slot)
{
    bora_pack_release(&slot->pack);
    *slot = (bora_client_open_request){0};
    client->n_open--;
}

void bora_client_abandon(bora_client *client, uint64_t id)
{
    bora_client_open_request *slot = id ? find_open(client, id) : NULL;
    if (slot)
        release_slot(client, slot);
}

/* ---- telling handlers --------------------------------------------------------------------------------------- */

static bool is_last(int32_t kind)
{
    return kind == BORA_CLIENT_EVENT_DONE || kind == BORA_CLIENT_EVENT_RESULT || kind == BORA_CLIENT_EVENT_ERROR;
}

static void deliver(bora_client *client, bora_client_open_request *slot, const bora_client_event *event)
{
    uint64_t id = slot->id;
    bora_client_handler handler = slot->handler;
    void *context = slot->context;
    if (is_last(event->kind))
        release_slot(client, slot);
    if (!handler)
        return;
    bool was_in_handler = client->is_in_handler;
    client->is_in_handler = true;
    int stop = handler(context, event);
    client->is_in_handler = was_in_handler;
    if (stop && !is_last(event->kind))
        (void)bora_client_cancel(client, id, NULL); /* if that cannot be sent, the generation ends by itself */
}

static void deliver_error(bora_client *client, bora_client_open_request *slot, const bora_client_error *error)
{
    bora_client_event event = {.kind = BORA_CLIENT_EVENT_ERROR, .request = slot->id, .text = "", .error = error};
    deliver(client, slot, &event);
}

/* Every request that is open now. Handlers may open others. */
static void fail_open(bora_client *client, const bora_client_error *error)
{
    uint64_t last_id = client->last_id;
    for (size_t i = 0; i < BORA_REQUESTS_MAX; i++)
        if (client->open[i].id != 0 && client->open[i].id <= last_id)
            deliver_error(client, &client->open[i], error);
}

/* The connection is of no use any more. */
static void fail_connection(bora_client *client, const bora_client_error *error)
{
    client->failure = *error;
    bora_client_connection_end(client);
    fail_open(client, error);
}

static void fail_protocol(bora_client *client, const char *what)
{
    bora_client_error error = {0};
    (void)bora_client_fail(&error, BORA_CLIENT_E_PROTOCOL, "what listens on %s is no bora daemon: %s", client->endpoint,
                           what);
    fail_connection(client, &error);
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

/* The greeting is answered: what had to wait goes out. */
static void send_waiting(bora_client *client)
{
    uint64_t last_id = client->last_id;
    for (size_t i = 0; i < BORA_REQUESTS_MAX && client->state == BORA_CLIENT_READY; i++) {
        bora_client_open_request *slot = &client->open[i];
        if (slot->id == 0 || slot->id > last_id || slot->is_sent)
            continue;
        bora_client_error error = {0};
        if (slot->is_cancelled)
            (void)bora_client_fail(&error, BORA_CLIENT_E_INTERRUPTED, "cancelled before it was sent");
        else if (bora_client_connection_send(client, &slot->pack, &error) == BORA_CLIENT_OK)
            slot->is_sent = true;
        if (!slot->is_sent)
            deliver_error(client, slot, &error);
    }
}

bora_client_status bora_client_submit(bora_client *client, bora_client_request **request, bora_client_handler handler,
                                      void *context, uint64_t *ret_id, bora_client_error *err)
{
    bora_client_request *taken = *request;
    *request = NULL;
    if (!taken)
        return bora_client_fail(err, BORA_CLIENT_E_NO_MEMORY, "no memory for the request");
    bora_pack pack = taken->pack;
    taken->pack = (bora_pack){0};
    bora_client_request_free(taken);

    uint64_t id = ++client->last_id;
    bora_pack_uint(&pack, "id", id);
    bora_pack_end(&pack);
    bora_client_status status = BORA_CLIENT_OK;
    bora_client_open_request *slot = find_open(client, 0);
    if (!bora_pack_ok(&pack))
        status = bora_client_fail(err, BORA_CLIENT_E_NO_MEMORY, "no memory for the request");
    else if (!slot)
        status = bora_client_fail(err, BORA_CLIENT_E_INVALID, "more than %d requests at once", BORA_REQUESTS_MAX);
    else if (pack.size > client->frame_size_max)
        status =
            bora_client_fail(err, BORA_CLIENT_E_INVALID, "the request has %zu bytes, the daemon takes at most %" PRIu64,
                             pack.size, client->frame_size_max);

    /* Nobody waits on a connection that broke in the meantime: take a new one. */
    if (status == BORA_CLIENT_OK && client->n_open == 0 && client->state != BORA_CLIENT_CLOSED) {
        bora_client_connection_check(client);
        if (client->loss)
            bora_client_connection_end(client);
    }
    if (status == BORA_CLIENT_OK && client->state == BORA_CLIENT_CLOSED)
        status = bora_client_connection_begin(client, err);
    bool is_sent = client->state == BORA_CLIENT_READY;
    if (status == BORA_CLIENT_OK && is_sent)
        status = bora_client_connection_send(client, &pack, err);
    if (status != BORA_CLIENT_OK) {
        bora_pack_release(&pack);
        return status;
    }
    *slot =
        (bora_client_open_request){.id = id, .pack = pack, .is_sent = is_sent, .handler = handler, .context = context};
    client->n_open++;
    bora_client_connection_rearm(client);
    if (ret_id)
        *ret_id = id;
    return BORA_CLIENT_OK;
}

bora_client_status bora_client_cancel(bora_client *client, uint64_t id, bora_client_error *err)
{
    bora_client_open_request *slot = id ? find_open(client, id) : NULL;
    if (!slot)
        return BORA_CLIENT_OK;
    if (!slot->is_sent) {
        slot->is_cancelled = true;
        return BORA_CLIENT_OK;
    }
    /* Its answer belongs to no slot and is passed over: what counts is the generation's own end. */
    bora_pack cancel = {0};
    bora_pack_map(&cancel, NULL);
    bora_pack_uint(&cancel, "id", ++client->last_id);
    bora_pack_string(&cancel, "verb", "cancel");
    bora_pack_uint(&cancel, "request", id);
    bora_pack_end(&cancel);
    bora_client_status status = bora_pack_ok(&cancel)
                                    ? bora_client_connection_send(client, &cancel, err)
                                    : bora_client_fail(err, BORA_CLIENT_E_NO_MEMORY, "no memory to cancel");
    bora_pack_release(&cancel);
    bora_client_connection_rearm(client);
    return status;
}

uint32_t bora_client_n_open(const bora_client *client)
{
    return client->n_open;
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

static bool text_is(const bora_client_value *value, const char *word)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

static int32_t event_kind(const bora_client_value *name)
{
    static const struct {
        const char *name;
        int32_t kind;
    } kinds[] = {{"accepted", BORA_CLIENT_EVENT_ACCEPTED}, {"progress", BORA_CLIENT_EVENT_PROGRESS},
                 {"token", BORA_CLIENT_EVENT_TOKEN},       {"done", BORA_CLIENT_EVENT_DONE},
                 {"result", BORA_CLIENT_EVENT_RESULT},     {"error", BORA_CLIENT_EVENT_ERROR},
                 {"loading", BORA_CLIENT_EVENT_LOADING},   {"queued", BORA_CLIENT_EVENT_QUEUED},
                 {"choice", BORA_CLIENT_EVENT_CHOICE}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (text_is(name, kinds[i].name))
            return kinds[i].kind;
    return 0;
}

static void handle_hello(bora_client *client, int32_t kind, const bora_client_value *map)
{
    bora_client_error error = {0};
    if (kind == BORA_CLIENT_EVENT_ERROR) {
        (void)bora_client_fail_refused(&error, map);
        fail_connection(client, &error);
        return;
    }
    uint64_t protocol = bora_client_value_uint(bora_client_value_get(map, "protocol"), 0);
    if (kind != BORA_CLIENT_EVENT_RESULT || protocol == 0) {
        fail_protocol(client, "its greeting makes no sense");
        return;
    }
    if (protocol != BORA_PROTOCOL_VERSION) {
        (void)bora_client_fail(&error, BORA_CLIENT_E_PROTOCOL,
                               "the daemon speaks version %" PRIu64 " of the protocol, this client version %d",
                               protocol, BORA_PROTOCOL_VERSION);
        fail_connection(client, &error);
        return;
    }
    size_t size = 0;
    const char *version = bora_client_value_text(bora_client_value_get(map, "version"), &size);
    (void)snprintf(client->daemon_version, sizeof client->daemon_version, "%.*s", size < 64 ? (int)size : 63, version);
    client->frame_size_max = bora_client_value_uint(bora_client_value_get(map, "max_frame"), BORA_FRAME_SIZE_MAX);
    bora_client_connection_ready(client);
    send_waiting(client);
}

/* The daemon does not know us (any more): greet, and send the request once more when that is answered. */
static void greet_again(bora_client *client, bora_client_open_request *slot)
{
    slot->is_sent = false;
    slot->was_sent_again = true;
    if (client->state == BORA_CLIENT_GREETING)
        return;
    bora_client_error error = {0};
    if (bora_client_connection_hello(client, &error) != BORA_CLIENT_OK)
        fail_connection(client, &error);
}

/* What does not fit is none that was asked for. */
static uint32_t choice_of(const bora_client_value *map)
{
    uint64_t choice = bora_client_value_uint(bora_client_value_get(map, "choice"), 0);
    return choice < UINT32_MAX ? (uint32_t)choice : UINT32_MAX;
}

static void handle_event(bora_client *client, bora_client_open_request *slot, int32_t kind,
                         const bora_client_value *map)
{
    bora_client_error error = {0};
    bora_client_event event = {.kind = kind, .request = slot->id, .text = "", .value = map};
    switch (kind) {
    case BORA_CLIENT_EVENT_ERROR:
        if (text_is(bora_client_value_get(map, "code"), "hello_required") && !slot->was_sent_again) {
            greet_again(client, slot);
            return;
        }
        (void)bora_client_fail_refused(&error, map);
        event.error = &error;
        break;
    case BORA_CLIENT_EVENT_PROGRESS:
    case BORA_CLIENT_EVENT_LOADING:
        event.n_done = bora_client_value_uint(bora_client_value_get(map, "n_done"), 0);
        event.n_total = bora_client_value_uint(bora_client_value_get(map, "n_total"), 0);
        break;
    case BORA_CLIENT_EVENT_QUEUED:
        event.place = bora_client_value_uint(bora_client_value_get(map, "place"), 0);
        event.n_waiting = bora_client_value_uint(bora_client_value_get(map, "n_waiting"), 0);
        break;
    case BORA_CLIENT_EVENT_TOKEN:
        event.choice = choice_of(map);
        event.index = bora_client_value_uint(bora_client_value_get(map, "index"), 0);
        event.token = (int32_t)bora_client_value_int(bora_client_value_get(map, "token"), -1);
        event.logprob = bora_client_value_float(bora_client_value_get(map, "logprob"), 0);
        event.text = bora_client_value_text(bora_client_value_get(map, "text"), &event.text_size);
        break;
    case BORA_CLIENT_EVENT_CHOICE:
        event.choice = choice_of(map);
        event.text = bora_client_value_text(bora_client_value_get(map, "text"), &event.text_size);
        break;
    case BORA_CLIENT_EVENT_DONE:
        event.text = bora_client_value_text(bora_client_value_get(map, "text"), &event.text_size);
        break;
    default:
        break;
    }
    deliver(client, slot, &event);
}

static void handle_frame(bora_client *client, const void *data, size_t size)
{
    const char *why = "";
    client->frame = bora_frame_parse(data, size, BORA_CLIENT_EVENT_SIZE_MAX, &why);
    if (!client->frame) {
        fail_protocol(client, why);
        return;
    }
    const bora_client_value *map = bora_client_value_of(bora_frame_root(client->frame));
    uint64_t id = bora_client_value_uint(bora_client_value_get(map, "id"), UINT64_MAX);
    const bora_client_value *name = bora_client_value_get(map, "event");
    int32_t kind = event_kind(name);
    if (id == UINT64_MAX || bora_client_value_kind(name) != BORA_CLIENT_VALUE_TEXT) {
        fail_protocol(client, "it sent something that is no event");
    } else if (kind == 0) {
        /* an event of a later version: passed over */
    } else if (id == 0) {
        if (kind == BORA_CLIENT_EVENT_ERROR) { /* it could not read a request of ours, and cannot say which */
            bora_client_error error = {0};
            (void)bora_client_fail_refused(&error, map);
            fail_connection(client, &error);
        }
    } else if (id == client->hello_id && client->state == BORA_CLIENT_GREETING) {
        handle_hello(client, kind, map);
    } else {
        bora_client_open_request *slot = find_open(client, id);
        if (slot) /* else one that nobody waits for any more */
            handle_event(client, slot, kind, map);
    }
    bora_frame_free(client->frame);
    client->frame = NULL;
}

/* One message; false if there is none. */
static bool receive(bora_client *client)
{
    zmq_msg_t message;
    (void)zmq_msg_init(&message); /* never fails */
    int size;
    do
        size = zmq_msg_recv(&message, client->dealer, ZMQ_DONTWAIT);
    while (size < 0 && zmq_errno() == EINTR);
    if (size < 0) {
        (void)zmq_msg_close(&message);
        return false;
    }
    if (zmq_msg_more(&message))
        fail_protocol(client, "it sent a message of several frames");
    else
        handle_frame(client, zmq_msg_data(&message), zmq_msg_size(&message));
    (void)zmq_msg_close(&message);
    return true;
}

static void handle_loss(bora_client *client)
{
    bora_client_error error = {0};
    if (client->loss == BORA_CLIENT_LOSS_REFUSED)
        (void)bora_client_fail_no_daemon(&error, client->endpoint);
    else if (client->loss == BORA_CLIENT_LOSS_FOREIGN)
        (void)bora_client_fail(&error, BORA_CLIENT_E_PROTOCOL, "what listens on %s does not speak ZeroMQ",
                               client->endpoint);
    else
        (void)bora_client_fail(&error, BORA_CLIENT_E_LOST, "the daemon went away");
    fail_connection(client, &error);
}

bora_client_status bora_client_dispatch(bora_client *client, bora_client_error *err)
{
    if (client->is_in_handler)
        return bora_client_fail(err, BORA_CLIENT_E_INVALID, "dispatch was called from a handler");
    uint64_t count = 0;
    (void)!read(client->wake_fd, &count, sizeof count); /* not readable: nothing to clear */
    /* The monitor first: once it tells of the loss, all that had arrived before is in the other socket. */
    bora_client_connection_check(client);
    unsigned n_messages = 0;
    while (n_messages < MESSAGES_AT_ONCE && client->state != BORA_CLIENT_CLOSED && receive(client))
        n_messages++;
    if (n_messages < MESSAGES_AT_ONCE && client->state != BORA_CLIENT_CLOSED && client->loss)
        handle_loss(client);
    if (read(client->timer_fd, &count, sizeof count) == (ssize_t)sizeof count &&
        client->state == BORA_CLIENT_GREETING) {
        bora_client_error error = {0};
        (void)bora_client_fail(&error, BORA_CLIENT_E_TIMEOUT, "%s does not answer (waited %" PRIu32 " ms)",
                               client->endpoint, client->timeout_ms);
        fail_connection(client, &error);
    }
    bora_client_connection_rearm(client);
    return BORA_CLIENT_OK;
}
