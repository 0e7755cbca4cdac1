/* session.create: an empty session. */
#include "server/server_private.h"

bora_status bora_verb_session_create(bora_request *request, bora_error *err)
{
    BORA_CLEANUP(bora_text_freep) char *name = NULL;
    BORA_CLEANUP(bora_text_freep) char *system = NULL;
    bora_status st = bora_argument_text(request, "name", false, &name, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "system", false, &system, err);
    return st == BORA_OK ? bora_sessions_create(request->server->options.sessions, request->connection->owner, name,
                                                system, bora_session_reply, request, err)
                         : st;
}
