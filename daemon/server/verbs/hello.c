/* hello: agrees on the protocol's version. */
#include "server/server_private.h"

bora_status bora_verb_hello(bora_request *request, bora_error *err)
{
    uint64_t version = 0;
    bora_status st = bora_argument_uint(request, "protocol", 0, UINT64_MAX, &version, err);
    if (st != BORA_OK)
        return st;
    if (version != BORA_PROTOCOL_VERSION) {
        bora_request_fail_code(request, "version",
                               version == 0 ? "protocol is missing: this daemon speaks version 1"
                                            : "this daemon speaks version 1 of the protocol");
        return BORA_OK;
    }
    BORA_CLEANUP(bora_text_freep) char *client = NULL;
    st = bora_argument_text(request, "client", false, &client, err);
    if (st != BORA_OK)
        return st;
    request->connection->is_greeted = true;
    bora_logf(request->server->log, BORA_LOG_DEBUG, "client '%.100s' of %s", client ? client : "",
              request->connection->owner);
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_uint(&pack, "protocol", BORA_PROTOCOL_VERSION);
    bora_pack_string(&pack, "server", "bora");
    bora_pack_string(&pack, "version", BORA_VERSION);
    bora_pack_string(&pack, "owner", request->connection->owner);
    bora_pack_uint(&pack, "max_frame", BORA_FRAME_SIZE_MAX);
    bora_request_end(request, &pack);
    return BORA_OK;
}
