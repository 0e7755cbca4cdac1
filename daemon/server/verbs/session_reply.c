/* What the session verbs share: the fields of a session, and the handler of those that answer with id and name. */
#include "server/server_private.h"

#include <string.h>

void bora_pack_record(bora_pack *pack, const bora_server *server, const bora_session_record *record)
{
    bora_pack_string(pack, "session_id", record->id);
    bora_pack_string(pack, "name", record->name);
    bora_pack_string(pack, "model", record->model);
    bora_pack_string(pack, "model_name", record->model_name);
    bora_pack_bool(pack, "current_model", strcmp(record->model, bora_model_fingerprint(server->options.model)) == 0);
    bora_pack_uint(pack, "created", (uint64_t)record->created);
    bora_pack_uint(pack, "updated", (uint64_t)record->updated);
    bora_pack_uint(pack, "n_tokens", record->n_tokens);
    bora_pack_uint(pack, "n_messages", record->n_messages);
}

void bora_session_reply(void *user, const bora_reply *reply)
{
    bora_request *request = user;
    if (reply->type != BORA_REPLY_RECORD) {
        bora_request_fail(request, reply->status, reply->message);
        return;
    }
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_string(&pack, "session_id", reply->records->id);
    if (*reply->records->name) /* of a deleted session there is none */
        bora_pack_string(&pack, "name", reply->records->name);
    bora_request_end(request, &pack);
}
