/* Building requests. The request's map stays open until it is sent, when its id is added. */
#include "client.h"

#include <stdlib.h>

bora_client_request *bora_client_request_new(const char *verb)
{
    bora_client_request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    bora_pack_map(&request->pack, NULL);
    bora_pack_string(&request->pack, "verb", verb);
    return request;
}

void bora_client_request_free(bora_client_request *request)
{
    if (!request)
        return;
    bora_pack_release(&request->pack);
    free(request);
}

void bora_client_request_string(bora_client_request *request, const char *key, const char *text)
{
    if (request)
        bora_pack_string(&request->pack, key, text);
}

void bora_client_request_text(bora_client_request *request, const char *key, const char *text, size_t size)
{
    if (request && text)
        bora_pack_text(&request->pack, key, text, size);
}

void bora_client_request_uint(bora_client_request *request, const char *key, uint64_t value)
{
    if (request)
        bora_pack_uint(&request->pack, key, value);
}

void bora_client_request_float(bora_client_request *request, const char *key, double value)
{
    if (request)
        bora_pack_float(&request->pack, key, value);
}

void bora_client_request_bool(bora_client_request *request, const char *key, bool value)
{
    if (request)
        bora_pack_bool(&request->pack, key, value);
}

void bora_client_request_tokens(bora_client_request *request, const char *key, const int32_t *tokens, size_t n_tokens)
{
    if (!request)
        return;
    bora_pack_array(&request->pack, key);
    for (size_t i = 0; i < n_tokens; i++)
        bora_pack_int(&request->pack, NULL, tokens[i]);
    bora_pack_end(&request->pack);
}

bora_client_request *bora_client_generation_request(const bora_client_generation *generation)
{
    const bora_client_generation *g = generation;
    bora_client_request *request = bora_client_request_new("generate");
    if (!request)
        return NULL;
    bora_pack *pack = &request->pack;
    bora_client_request_text(request, "text", g->text, g->text_size);
    bora_client_request_text(request, "prompt", g->prompt, g->prompt_size);
    if (g->tokens)
        bora_client_request_tokens(request, "tokens", g->tokens, g->n_tokens);
    bora_pack_string(pack, "session", g->session);
    bora_pack_string(pack, "system", g->system);
    if (g->no_create)
        bora_pack_bool(pack, "create", false);
    if (g->no_bos)
        bora_pack_bool(pack, "bos", false);
    if (g->ignore_eos)
        bora_pack_bool(pack, "ignore_eos", true);
    if (g->set & BORA_CLIENT_SET_MAX_TOKENS)
        bora_pack_uint(pack, "max_tokens", g->max_tokens);
    if (g->set & BORA_CLIENT_SET_TEMPERATURE)
        bora_pack_float(pack, "temperature", g->temperature);
    if (g->set & BORA_CLIENT_SET_TOP_K)
        bora_pack_uint(pack, "top_k", g->top_k);
    if (g->set & BORA_CLIENT_SET_TOP_P)
        bora_pack_float(pack, "top_p", g->top_p);
    if (g->set & BORA_CLIENT_SET_MIN_P)
        bora_pack_float(pack, "min_p", g->min_p);
    if (g->set & BORA_CLIENT_SET_REPETITION_PENALTY)
        bora_pack_float(pack, "repetition_penalty", g->repetition_penalty);
    if (g->set & BORA_CLIENT_SET_REPETITION_WINDOW)
        bora_pack_uint(pack, "repetition_window", g->repetition_window);
    if (g->set & BORA_CLIENT_SET_SEED)
        bora_pack_uint(pack, "seed", g->seed);
    if (g->is_background)
        bora_pack_string(pack, "priority", "background");
    if (g->timeout_ms)
        bora_pack_uint(pack, "timeout_ms", g->timeout_ms);
    if (g->n_choices)
        bora_pack_uint(pack, "n", g->n_choices);
    bora_client_request_text(request, "json_schema", g->json_schema, g->json_schema_size);
    bora_client_request_text(request, "grammar", g->grammar, g->grammar_size);
    if (g->n_top_logprobs)
        bora_pack_uint(pack, "top_logprobs", g->n_top_logprobs);
    if (g->n_stops > 0) {
        bora_pack_array(pack, "stop");
        for (size_t i = 0; i < g->n_stops; i++)
            bora_pack_string(pack, NULL, g->stops[i]);
        bora_pack_end(pack);
    }
    if (g->n_biases > 0) {
        bora_pack_map(pack, "logit_bias");
        for (size_t i = 0; i < g->n_biases; i++)
            bora_pack_int_float(pack, g->biases[i].token, (double)g->biases[i].bias);
        bora_pack_end(pack);
    }
    return request;
}
