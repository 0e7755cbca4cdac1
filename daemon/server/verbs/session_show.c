/* session.show: one session with its messages and tokens. */
#include "server/server_private.h"

static void pack_message(bora_pack *pack, const bora_session_message *message)
{
    bora_pack_map(pack, NULL);
    bora_pack_uint(pack, "turn", message->turn);
    bora_pack_string(pack, "role", message->role);
    bora_pack_text(pack, "text", message->text, message->text_size);
    bora_pack_string(pack, "state", message->interrupted ? "interrupted" : "whole");
    bora_pack_uint(pack, "created", (uint64_t)message->created);
    bora_pack_end(pack);
}

static void on_reply(void *user, const bora_reply *reply)
{
    bora_request *request = user;
    if (reply->type != BORA_REPLY_CONTENTS) {
        bora_request_fail(request, reply->status, reply->message);
        return;
    }
    const bora_session_contents *contents = reply->contents;
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_record(&pack, request->server, &contents->record);
    bora_pack_string(&pack, "system", contents->record.system);
    bora_pack_array(&pack, "tokens");
    for (size_t i = 0; i < contents->n_tokens; i++)
        bora_pack_uint(&pack, NULL, (uint64_t)contents->tokens[i]);
    bora_pack_end(&pack);
    bora_pack_array(&pack, "messages");
    for (size_t i = 0; i < contents->n_messages; i++)
        pack_message(&pack, &contents->messages[i]);
    bora_pack_end(&pack);
    bora_request_end(request, &pack);
}

bora_status bora_verb_session_show(bora_request *request, bora_error *err)
{
    BORA_CLEANUP(bora_text_freep) char *session = NULL;
    bora_status st = bora_argument_text(request, "session", true, &session, err);
    return st == BORA_OK ? bora_sessions_show(request->server->options.sessions, request->connection->owner, session,
                                              on_reply, request, err)
                         : st;
}
