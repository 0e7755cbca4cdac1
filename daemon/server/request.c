/* Requests: their arguments, and the events that answer them. */
#include "server/server_private.h"

#include "base/memory.h"
#include "model/tokenizer/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- events ------------------------------------------------------------------------------------------- */

const char *bora_error_code(bora_status status)
{
    switch (status) {
    case BORA_E_INVAL:
        return "invalid";
    case BORA_E_CLOSED:
        return "shutdown";
    case BORA_E_UNAVAILABLE:
        return "unsupported";
    default:
        return bora_status_name(status); /* the names are the codes */
    }
}

static const char *const codes[] = {"bad_frame", "hello_required", "version",   "unknown_verb", "invalid",
                                    "not_found", "exists",         "busy",      "limit",        "permission",
                                    "full",      "unsupported",    "cancelled", "shutdown",     "io",
                                    "format",    "no_memory",      "internal",  "unknown"};
_Static_assert(BORA_ARRAY_SIZE(codes) == BORA_ERROR_CODES, "every code has a counter");

const char *bora_error_code_name(size_t i)
{
    return i < BORA_ARRAY_SIZE(codes) ? codes[i] : NULL;
}

void bora_server_count_error(bora_server *server, const char *code)
{
    size_t i = 0;
    while (i + 1 < BORA_ARRAY_SIZE(codes) && strcmp(codes[i], code) != 0)
        i++;
    server->counters.errors[i]++;
}

bora_request *bora_request_new(bora_connection *connection, bora_server *server, uint64_t id)
{
    bora_request *request = bora_calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->server = server;
    request->id = id;
    request->connection = connection;
    request->next = connection->requests;
    connection->requests = request;
    connection->n_open++;
    return request;
}

void bora_request_free(bora_request *request)
{
    if (request->connection) {
        bora_request **link = &request->connection->requests;
        while (*link != request)
            link = &(*link)->next;
        *link = request->next;
        request->connection->n_open--;
    }
    bora_free(request);
}

void bora_request_begin(const bora_request *request, const char *event, bora_pack *ret_pack)
{
    *ret_pack = (bora_pack){0};
    bora_pack_map(ret_pack, NULL);
    bora_pack_uint(ret_pack, "id", request->id);
    bora_pack_string(ret_pack, "event", event);
}

void bora_request_send(bora_request *request, bora_pack *pack)
{
    bora_pack_end(pack);
    bora_connection *connection = request->connection;
    if (connection && !connection->does_not_read)
        bora_connection_send(request->server, connection, connection->routing_id, pack);
    bora_pack_release(pack);
}

void bora_request_end(bora_request *request, bora_pack *pack)
{
    bora_connection *connection = request->connection;
    if (pack->failed) { /* an event that cannot be built must not leave the client waiting */
        bora_pack_release(pack);
        bora_server_count_error(request->server, "no_memory");
        bora_request_begin(request, "error", pack);
        bora_pack_string(pack, "code", "no_memory");
        bora_pack_string(pack, "message", "no memory for the answer");
    }
    bora_request_send(request, pack);
    /* If it could not be sent (now or before), the client is owed an end. */
    if (connection && connection->does_not_read && connection->n_overdue < BORA_REQUESTS_MAX)
        connection->overdue[connection->n_overdue++] = request->id;
    request->has_ended = true;
    if (!request->in_call)
        bora_request_free(request);
}

/* Messages quote files and clients, and may have been cut in the middle of a character: what is no UTF-8 becomes '?'.
 */
static void pack_message(bora_pack *pack, const char *message)
{
    bora_error clean = {{0}};
    size_t size = strnlen(message, sizeof clean.message - 1);
    for (size_t i = 0; i < size;) {
        int n = bora_utf8_step(message + i, size - i);
        if (n > 0)
            memcpy(clean.message + i, message + i, (size_t)n);
        else
            clean.message[i] = '?';
        i += n > 0 ? (size_t)n : 1;
    }
    bora_pack_string(pack, "message", clean.message);
}

void bora_request_fail_code(bora_request *request, const char *code, const char *message)
{
    bora_pack pack;
    bora_server_count_error(request->server, code);
    bora_request_begin(request, "error", &pack);
    bora_pack_string(&pack, "code", code);
    pack_message(&pack, message);
    bora_request_end(request, &pack);
}

void bora_request_fail(bora_request *request, bora_status status, const char *message)
{
    bora_request_fail_code(request, bora_error_code(status), message);
}

void bora_request_tell_loading(bora_request *request, const bora_scheduler_stats *stats)
{
    bora_pack pack;
    bora_request_begin(request, "loading", &pack);
    bora_pack_uint(&pack, "n_done", stats->n_loaded);
    bora_pack_uint(&pack, "n_total", stats->n_to_load);
    bora_request_send(request, &pack);
}

/* ---- arguments ---------------------------------------------------------------------------------------- */

void bora_text_freep(char **text)
{
    free(*text);
}

bora_status bora_argument_uint(const bora_request *request, const char *key, uint64_t min, uint64_t max,
                               uint64_t *value, bora_error *err)
{
    const bora_value *given = bora_value_get(request->arguments, key);
    uint64_t number = 0;
    if (!given)
        return BORA_OK;
    if (!bora_value_uint(given, &number) || number < min || number > max)
        return bora_fail(err, BORA_E_INVAL, "%s must be a whole number from %llu to %llu", key, (unsigned long long)min,
                         (unsigned long long)max);
    *value = number;
    return BORA_OK;
}

bora_status bora_argument_u32(const bora_request *request, const char *key, uint32_t min, uint32_t max, uint32_t *value,
                              bora_error *err)
{
    uint64_t number = *value;
    bora_status st = bora_argument_uint(request, key, min, max, &number, err);
    if (st == BORA_OK)
        *value = (uint32_t)number;
    return st;
}

bora_status bora_argument_float(const bora_request *request, const char *key, float *value, bora_error *err)
{
    const bora_value *given = bora_value_get(request->arguments, key);
    double number = 0;
    if (!given)
        return BORA_OK;
    if (!bora_value_float(given, &number) || !isfinite((float)number))
        return bora_fail(err, BORA_E_INVAL, "%s must be a finite number", key);
    *value = (float)number;
    return BORA_OK;
}

bora_status bora_argument_bool(const bora_request *request, const char *key, bool *value, bora_error *err)
{
    const bora_value *given = bora_value_get(request->arguments, key);
    if (given && !bora_value_bool(given, value))
        return bora_fail(err, BORA_E_INVAL, "%s must be true or false", key);
    return BORA_OK;
}

bora_status bora_argument_text(const bora_request *request, const char *key, bool required, char **value,
                               bora_error *err)
{
    const bora_value *given = bora_value_get(request->arguments, key);
    const char *bytes;
    size_t size;
    if (!given)
        return required ? bora_fail(err, BORA_E_INVAL, "%s is missing", key) : BORA_OK;
    if (!bora_value_text(given, &bytes, &size) || memchr(bytes, '\0', size))
        return bora_fail(err, BORA_E_INVAL, "%s must be a text in UTF-8 without zero bytes", key);
    char *copy = bora_value_dup(given);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "%s", key);
    *value = copy;
    return BORA_OK;
}

bora_status bora_argument_tokens(const bora_request *request, const char *key, bool required, int32_t **ret_tokens,
                                 size_t *ret_n, bora_error *err)
{
    const bora_value *given = bora_value_get(request->arguments, key);
    if (!given)
        return required ? bora_fail(err, BORA_E_INVAL, "%s is missing", key) : BORA_OK;
    if (!bora_value_is_array(given))
        return bora_fail(err, BORA_E_INVAL, "%s must be an array of token ids", key);
    uint32_t n = bora_value_count(given);
    size_t vocab_size = bora_model_hparams(request->server->options.model)->vocab_size;
    BORA_CLEANUP(bora_freep) int32_t *tokens = bora_calloc(n, sizeof *tokens);
    if (!tokens)
        return bora_fail(err, BORA_E_NOMEM, "%s", key);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t id;
        if (!bora_value_uint(bora_value_at(given, i), &id) || id >= vocab_size)
            return bora_fail(err, BORA_E_INVAL, "%s: item %u is not a token id from 0 to %zu", key, i, vocab_size - 1);
        tokens[i] = (int32_t)id;
    }
    *ret_tokens = bora_steal(&tokens);
    *ret_n = n;
    return BORA_OK;
}
