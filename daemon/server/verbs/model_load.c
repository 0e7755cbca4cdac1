/* model.load: another model takes the place of the one in use; exchange.c does it. */
#include "server/server_private.h"

#include <string.h>

#define TIMEOUT_MS_DEFAULT 30000u

bora_status bora_verb_model_load(bora_request *request, bora_error *err)
{
    BORA_CLEANUP(bora_text_freep) char *model = NULL;
    uint32_t timeout_ms = TIMEOUT_MS_DEFAULT;
    bora_status st = bora_request_check_admin(request, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "model", true, &model, err);
    if (st == BORA_OK)
        st = bora_argument_u32(request, "timeout_ms", 0, UINT32_MAX, &timeout_ms, err);
    if (st != BORA_OK)
        return st;
    if (!*model || (model[0] != '/' && strchr(model, '/'))) /* relative to what? The daemon stands anywhere. */
        return bora_fail(err, BORA_E_INVAL, "model must be a name, or a path from the root on");
    bora_logf(request->server->log, BORA_LOG_INFO, "request %llu (%s): model.load %s", (unsigned long long)request->id,
              request->connection->owner, model);
    return bora_exchange_begin(request, model, timeout_ms, err);
}
