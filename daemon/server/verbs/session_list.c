/* session.list: the caller's sessions, newest use first. */
#include "server/server_private.h"

static void on_reply(void *user, const bora_reply *reply)
{
    bora_request *request = user;
    if (reply->type != BORA_REPLY_LIST) {
        bora_request_fail(request, reply->status, reply->message);
        return;
    }
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_array(&pack, "sessions");
    for (size_t i = 0; i < reply->n_records; i++) {
        bora_pack_map(&pack, NULL);
        bora_pack_record(&pack, request->server, &reply->records[i]);
        bora_pack_end(&pack);
    }
    bora_pack_end(&pack);
    bora_request_end(request, &pack);
}

bora_status bora_verb_session_list(bora_request *request, bora_error *err)
{
    return bora_sessions_list(request->server->options.sessions, request->connection->owner, on_reply, request, err);
}
