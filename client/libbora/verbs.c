/* The protocol's verbs as functions: each builds its request and waits for the result. */
#include "client.h"

static bora_client_status call(bora_client *client, bora_client_request *request, bora_client_result **ret_result,
                               bora_client_error *err)
{
    return bora_client_call(client, &request, ret_result, err);
}

bora_client_status bora_client_daemon_status(bora_client *client, bora_client_result **ret_result,
                                             bora_client_error *err)
{
    return call(client, bora_client_request_new("status"), ret_result, err);
}

bora_client_status bora_client_model(bora_client *client, bora_client_result **ret_result, bora_client_error *err)
{
    return call(client, bora_client_request_new("model"), ret_result, err);
}

bora_client_status bora_client_plugin_list(bora_client *client, bora_client_result **ret_result, bora_client_error *err)
{
    return call(client, bora_client_request_new("plugin.list"), ret_result, err);
}

static bora_client_status call_plugin(bora_client *client, const char *verb, const char *kind, const char *name,
                                      bora_client_result **ret_result, bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new(verb);
    bora_client_request_string(request, "kind", kind);
    bora_client_request_string(request, "name", name);
    return call(client, request, ret_result, err);
}

bora_client_status bora_client_plugin_info(bora_client *client, const char *kind, const char *name,
                                           bora_client_result **ret_result, bora_client_error *err)
{
    return call_plugin(client, "plugin.info", kind, name, ret_result, err);
}

bora_client_status bora_client_plugin_use(bora_client *client, const char *kind, const char *name,
                                          bora_client_result **ret_result, bora_client_error *err)
{
    return call_plugin(client, "plugin.use", kind, name, ret_result, err);
}

bora_client_status bora_client_metrics(bora_client *client, bora_client_result **ret_result, bora_client_error *err)
{
    return call(client, bora_client_request_new("metrics"), ret_result, err);
}

bora_client_status bora_client_tokenize(bora_client *client, const char *text, size_t size, bool bos,
                                        bora_client_result **ret_result, bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new("tokenize");
    bora_client_request_text(request, "text", text, size);
    bora_client_request_bool(request, "bos", bos);
    return call(client, request, ret_result, err);
}

bora_client_status bora_client_detokenize(bora_client *client, const int32_t *tokens, size_t n_tokens,
                                          bora_client_result **ret_result, bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new("detokenize");
    bora_client_request_tokens(request, "tokens", tokens, n_tokens);
    return call(client, request, ret_result, err);
}

bora_client_status bora_client_session_create(bora_client *client, const char *name, const char *system,
                                              bora_client_result **ret_result, bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new("session.create");
    bora_client_request_string(request, "name", name);
    bora_client_request_string(request, "system", system);
    return call(client, request, ret_result, err);
}

bora_client_status bora_client_session_list(bora_client *client, bora_client_result **ret_result,
                                            bora_client_error *err)
{
    return call(client, bora_client_request_new("session.list"), ret_result, err);
}

bora_client_status bora_client_session_show(bora_client *client, const char *session, bora_client_result **ret_result,
                                            bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new("session.show");
    bora_client_request_string(request, "session", session);
    return call(client, request, ret_result, err);
}

bora_client_status bora_client_session_rename(bora_client *client, const char *session, const char *name,
                                              bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new("session.rename");
    bora_client_request_string(request, "session", session);
    bora_client_request_string(request, "name", name);
    return call(client, request, NULL, err);
}

bora_client_status bora_client_session_delete(bora_client *client, const char *session, bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new("session.delete");
    bora_client_request_string(request, "session", session);
    return call(client, request, NULL, err);
}
