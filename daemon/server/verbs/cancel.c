/* cancel: ends another request of the same connection. */
#include "server/server_private.h"

bora_status bora_verb_cancel(bora_request *request, bora_error *err)
{
    uint64_t id = 0;
    if (!bora_value_get(request->arguments, "request"))
        return bora_fail(err, BORA_E_INVAL, "request is missing");
    bora_status st = bora_argument_uint(request, "request", 0, UINT64_MAX, &id, err);
    if (st != BORA_OK)
        return st;
    bool found = false;
    for (const bora_request *other = request->connection->requests; other; other = other->next)
        if (other->id == id && other->generation_id) {
            found = bora_sessions_cancel(request->server->options.sessions, other->generation_id);
            break; /* its handler may have run: the list may have changed */
        }
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_bool(&pack, "found", found);
    bora_request_end(request, &pack);
    return BORA_OK;
}
