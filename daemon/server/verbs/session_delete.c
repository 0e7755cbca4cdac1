/* session.delete: with everything in it; an answer that is running is cancelled first. */
#include "server/server_private.h"

bora_status bora_verb_session_delete(bora_request *request, bora_error *err)
{
    BORA_CLEANUP(bora_text_freep) char *session = NULL;
    bora_status st = bora_argument_text(request, "session", true, &session, err);
    return st == BORA_OK ? bora_sessions_delete(request->server->options.sessions, request->connection->owner, session,
                                                bora_session_reply, request, err)
                         : st;
}
