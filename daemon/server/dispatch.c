/* From a frame to its verb. */
#include "server/server_private.h"

#include "base/memory.h"

#include <string.h>

static const struct {
    const char *name;
    bora_verb_fn *run;
} verbs[] = {
    {"hello", bora_verb_hello},
    {"status", bora_verb_status},
    {"metrics", bora_verb_metrics},
    {"model", bora_verb_model},
    {"model.load", bora_verb_model_load},
    {"generate", bora_verb_generate},
    {"cancel", bora_verb_cancel},
    {"tokenize", bora_verb_tokenize},
    {"detokenize", bora_verb_detokenize},
    {"session.create", bora_verb_session_create},
    {"session.list", bora_verb_session_list},
    {"session.show", bora_verb_session_show},
    {"session.rename", bora_verb_session_rename},
    {"session.delete", bora_verb_session_delete},
    {"plugin.list", bora_verb_plugin_list},
    {"plugin.info", bora_verb_plugin_info},
    {"plugin.use", bora_verb_plugin_use},
};

_Static_assert(BORA_ARRAY_SIZE(verbs) <= BORA_VERBS_MAX, "every verb has a counter");

const char *bora_server_verb_name(size_t i)
{
    return i < BORA_ARRAY_SIZE(verbs) ? verbs[i].name : NULL;
}

/* An error outside any request: nothing is kept of it. */
static void refuse(bora_server *server, bora_connection *connection, const uint8_t *routing_id, uint64_t id,
                   const char *code, const char *message)
{
    bora_pack pack = {0};
    bora_server_count_error(server, code);
    bora_pack_map(&pack, NULL);
    bora_pack_uint(&pack, "id", id);
    bora_pack_string(&pack, "event", "error");
    bora_pack_string(&pack, "code", code);
    bora_pack_string(&pack, "message", message);
    bora_pack_end(&pack);
    bora_connection_send(server, connection, routing_id, &pack);
    bora_pack_release(&pack);
}

/* BORA_ARRAY_SIZE(verbs): there is none of that name. */
static size_t find_verb(const char *name, size_t size)
{
    size_t i = 0;
    while (i < BORA_ARRAY_SIZE(verbs) && (strlen(verbs[i].name) != size || memcmp(verbs[i].name, name, size) != 0))
        i++;
    return i;
}

static bool id_is_open(const bora_connection *connection, uint64_t id)
{
    for (const bora_request *r = connection->requests; r; r = r->next)
        if (r->id == id)
            return true;
    return false;
}

static void run(bora_server *server, bora_connection *connection, uint64_t id, size_t verb, const bora_value *arguments)
{
    server->counters.requests[verb]++;
    bora_request *request = bora_request_new(connection, server, id);
    if (!request) {
        refuse(server, connection, connection->routing_id, id, "no_memory", "no memory for the request");
        return;
    }
    request->arguments = arguments;
    request->in_call = true;
    bora_error err = {{0}};
    bora_status st = verbs[verb].run(request, &err);
    if (st != BORA_OK && !request->has_ended)
        bora_request_fail(request, st, err.message);
    request->in_call = false;
    request->arguments = NULL;
    if (request->has_ended)
        bora_request_free(request);
}

void bora_server_dispatch(bora_server *server, const uint8_t *routing_id, int fd, const char *owner, const void *data,
                          size_t size)
{
    bora_connection *connection = bora_connection_find(server, routing_id, fd);
    const char *why = "a message must be one frame (and the socket a DEALER: a REQ sends an empty frame first)";
    bora_frame *frame = data ? bora_frame_parse(data, size, BORA_FRAME_SIZE_MAX, &why) : NULL;
    if (!frame) {
        refuse(server, connection, routing_id, 0, "bad_frame", why);
        return;
    }
    const bora_value *root = bora_frame_root(frame);
    uint64_t id = 0;
    const char *name = "";
    size_t name_size = 0;
    if (!bora_value_uint(bora_value_get(root, "id"), &id)) {
        refuse(server, connection, routing_id, 0, "invalid", "id must be a whole number that is not negative");
    } else if (!bora_value_text(bora_value_get(root, "verb"), &name, &name_size)) {
        refuse(server, connection, routing_id, id, "invalid", "verb must be a text");
    } else {
        size_t verb = find_verb(name, name_size);
        bool is_known = verb < BORA_ARRAY_SIZE(verbs);
        if ((!connection || !connection->is_greeted) && !(is_known && verbs[verb].run == bora_verb_hello))
            refuse(server, connection, routing_id, id, "hello_required", "say hello first");
        else if (!connection && !(connection = bora_connection_new(server, routing_id, fd, owner)))
            refuse(server, NULL, routing_id, id, "busy", "too many connections");
        else if (!is_known)
            refuse(server, connection, routing_id, id, "unknown_verb", "there is no such verb");
        else if (id_is_open(connection, id))
            refuse(server, connection, routing_id, id, "invalid", "id is that of a request which is still open");
        else if (connection->n_open + connection->n_overdue >= BORA_REQUESTS_MAX)
            refuse(server, connection, routing_id, id, "busy", "too many requests are open on this connection");
        else
            run(server, connection, id, verb, root);
    }
    bora_frame_free(frame);
}
