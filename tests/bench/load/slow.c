/* A client that stops reading, on a bare socket: libbora would read. It asks, pauses, and reads on. If it is deaf as
 * well, it asks for so much beside it that the daemon has to give up on it; else the daemon may or may not have to. */
#include "client.h"

#include "codec.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

/* Answers to these fill what there is of queues and buffers between the two. */
#define DEAF_REQUESTS 2500u

typedef struct slow {
    bora_load_client *client;
    void *zmq, *dealer;
    uint64_t last_id, generation;
} slow;

static bool slow_open(slow *s, const char *endpoint)
{
    int linger = 0, hwm = 1;
    s->zmq = zmq_ctx_new();
    s->dealer = s->zmq ? zmq_socket(s->zmq, ZMQ_DEALER) : NULL;
    return s->dealer && zmq_setsockopt(s->dealer, ZMQ_LINGER, &linger, sizeof linger) == 0 &&
           zmq_setsockopt(s->dealer, ZMQ_RCVHWM, &hwm, sizeof hwm) == 0 && zmq_connect(s->dealer, endpoint) == 0;
}

static void slow_close(slow *s)
{
    if (s->dealer)
        (void)zmq_close(s->dealer);
    if (s->zmq)
        (void)zmq_ctx_term(s->zmq); /* nothing lingers */
}

static bool send_pack(slow *s, bora_pack *pack)
{
    bora_pack_end(pack);
    bool sent = bora_pack_ok(pack);
    while (sent && zmq_send(s->dealer, pack->data, pack->size, 0) < 0)
        sent = zmq_errno() == EINTR;
    bora_pack_release(pack);
    return sent;
}

static bora_pack begin(slow *s, const char *verb)
{
    bora_pack pack = {0};
    bora_pack_map(&pack, NULL);
    bora_pack_uint(&pack, "id", ++s->last_id);
    bora_pack_string(&pack, "verb", verb);
    return pack;
}

static bool ask(slow *s, const char *text, bool is_deaf)
{
    bora_pack pack = begin(s, "hello");
    bora_pack_uint(&pack, "protocol", BORA_PROTOCOL_VERSION);
    bool sent = send_pack(s, &pack);
    pack = begin(s, "generate");
    s->generation = s->last_id;
    bora_pack_string(&pack, "prompt", text);
    bora_pack_uint(&pack, "max_tokens", BORA_LOAD_SLOW_TOKENS);
    bora_pack_float(&pack, "temperature", 0);
    bora_pack_bool(&pack, "ignore_eos", true);
    sent = send_pack(s, &pack) && sent;
    for (uint32_t i = 0; sent && is_deaf && i < DEAF_REQUESTS; i++) {
        pack = begin(s, "model");
        sent = send_pack(s, &pack);
    }
    return sent;
}

static bool text_of(const bora_value *map, const char *key, const char **ret_text, size_t *ret_size)
{
    *ret_text = "";
    *ret_size = 0;
    return bora_value_text(bora_value_get(map, key), ret_text, ret_size);
}

static bool is(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

/* One event of the generation; the end it brings, if it does. */
static bora_load_end take_event(slow *s, const bora_value *root)
{
    bora_load_client *client = s->client;
    const char *event, *text, *more;
    size_t event_size, size, more_size;
    uint64_t token = 0;
    (void)text_of(root, "event", &event, &event_size); /* "" is none of these */
    (void)text_of(root, "text", &text, &size);
    if (is(event, event_size, "token") && bora_value_uint(bora_value_get(root, "token"), &token)) {
        double at = bora_load_now() - client->owner->start;
        bora_load_stats_token(client->stats, client->owner->slot_us, at > 0 ? (uint64_t)(at * 1e6) : 0);
        if (!bora_load_answer_token(&client->answer, (int32_t)token, text, size))
            bora_load_client_fail(client, "generate", "no_memory", "in the load generator");
    } else if (is(event, event_size, "done")) {
        (void)text_of(root, "reason", &more, &more_size);
        (void)bora_load_answer_done(&client->answer, text, size, more, more_size); /* then it is shorter */
        if (is(more, more_size, "length"))
            return BORA_LOAD_END_DONE;
        if (is(more, more_size, "cancelled"))
            return BORA_LOAD_END_UNREAD;
        bora_load_client_fail(client, "a slow client's answer ended", client->answer.reason, "");
        return BORA_LOAD_END_FAILED;
    } else if (is(event, event_size, "error")) {
        char code[32];
        (void)text_of(root, "code", &text, &size);
        if (is(text, size, "cancelled"))
            return BORA_LOAD_END_UNREAD;
        (void)snprintf(code, sizeof code, "%.*s", size < 31 ? (int)size : 31, text);
        (void)text_of(root, "message", &text, &size);
        (void)snprintf(client->code, sizeof client->code, "%s", code);
        bora_load_client_fail(client, "a slow client", code, "");
        return BORA_LOAD_END_FAILED;
    }
    return BORA_LOAD_END_OPEN;
}

static bora_load_end read_on(slow *s)
{
    bora_load_client *client = s->client;
    bora_load_end end = BORA_LOAD_END_OPEN;
    while (end == BORA_LOAD_END_OPEN) {
        zmq_pollitem_t item = {.socket = s->dealer, .events = ZMQ_POLLIN};
        zmq_msg_t message;
        (void)zmq_msg_init(&message); /* never fails */
        int n = zmq_poll(&item, 1, (long)(BORA_LOAD_PATIENCE * 1000));
        const char *why = "no event came for two minutes";
        bora_frame *frame = NULL;
        if (n == 1 && zmq_msg_recv(&message, s->dealer, ZMQ_DONTWAIT) >= 0)
            frame = bora_frame_parse(zmq_msg_data(&message), zmq_msg_size(&message), (size_t)64 << 20, &why);
        (void)zmq_msg_close(&message);
        if (!frame) {
            bora_load_client_fail(client, "a slow client", n == 1 ? "bad_frame" : "silence", why);
            return BORA_LOAD_END_FAILED;
        }
        const bora_value *root = bora_frame_root(frame);
        uint64_t id = 0;
        if (bora_value_uint(bora_value_get(root, "id"), &id) && id == s->generation)
            end = take_event(s, root);
        if (client->owner->options->canary) /* a public value is the codec's under another name */
            bora_load_client_search(client, "an event",
                                    bora_load_canary_in_value(&client->owner->canary,
                                                              (const bora_client_value *)(const void *)root));
        bora_frame_free(frame);
    }
    return end;
}

bora_load_end bora_load_client_say_slowly(bora_load_client *client, const char *text, uint32_t pause_ms)
{
    slow s = {.client = client};
    const struct timespec pause = {.tv_sec = pause_ms / 1000, .tv_nsec = (long)(pause_ms % 1000) * 1000000};
    double start = bora_load_now() - client->owner->start;
    bora_load_answer_clear(&client->answer);
    client->stats->n_requests++;
    client->end = BORA_LOAD_END_FAILED;
    if (slow_open(&s, bora_client_endpoint(client->connection)) && ask(&s, text, pause_ms % 2 == 0)) {
        (void)nanosleep(&pause, NULL); /* not reading is what it does */
        client->end = read_on(&s);
    } else {
        bora_load_client_fail(client, "a slow client", "io", "no connection");
    }
    slow_close(&s);
    double end = bora_load_now() - client->owner->start;
    bora_load_stats_open(client->stats, client->owner->slot_us, start > 0 ? (uint64_t)(start * 1e6) : 0,
                         (uint64_t)(end * 1e6));
    client->stats->n_unread += client->end == BORA_LOAD_END_UNREAD;
    client->stats->n_done += client->end == BORA_LOAD_END_DONE;
    if (client->owner->options->canary)
        bora_load_client_search(client, "an answer",
                                bora_load_canary_in_text(&client->owner->canary, client->answer.text,
                                                         client->answer.text_size));
    return client->end;
}
