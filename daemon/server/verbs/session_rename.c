/* session.rename */
#include "server/server_private.h"

bora_status bora_verb_session_rename(bora_request *request, bora_error *err)
{
    BORA_CLEANUP(bora_text_freep) char *session = NULL;
    BORA_CLEANUP(bora_text_freep) char *name = NULL;
    bora_status st = bora_argument_text(request, "session", true, &session, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "name", true, &name, err);
    return st == BORA_OK ? bora_sessions_rename(request->server->options.sessions, request->connection->owner, session,
                                                name, bora_session_reply, request, err)
                         : st;
}
