/* generate: a chat turn or a raw completion, answered by a stream of events. */
#include "server/server_private.h"

#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- the answer ----------------------------------------------------------------------------------------- */

static void send_accepted(bora_request *request, const bora_reply *reply)
{
    bora_pack pack;
    bora_request_begin(request, "accepted", &pack);
    bora_pack_uint(&pack, "request", reply->id);
    if (reply->session_name) {
        bora_pack_string(&pack, "session", reply->session_name);
        bora_pack_string(&pack, "session_id", reply->session_id);
        bora_pack_uint(&pack, "turn", reply->turn);
    }
    bora_pack_uint(&pack, "n_history", reply->n_history);
    bora_pack_uint(&pack, "n_cached", reply->n_cached);
    bora_pack_uint(&pack, "n_rerun", reply->n_rerun);
    bora_pack_uint(&pack, "n_reused", reply->n_reused);
    bora_pack_uint(&pack, "n_prompt", reply->n_prompt);
    bora_pack_uint(&pack, "seed", reply->seed);
    if (reply->system_ignored)
        bora_pack_bool(&pack, "system_ignored", true);
    bora_request_send(request, &pack);
}

static void send_progress(bora_request *request, const bora_reply *reply)
{
    bora_pack pack;
    bora_request_begin(request, "progress", &pack);
    bora_pack_uint(&pack, "n_done", reply->n_done);
    bora_pack_uint(&pack, "n_total", reply->n_prompt);
    bora_request_send(request, &pack);
}

static void send_queued(bora_request *request, const bora_reply *reply)
{
    bora_pack pack;
    bora_request_begin(request, "queued", &pack);
    bora_pack_uint(&pack, "place", reply->place);
    bora_pack_uint(&pack, "n_waiting", reply->n_waiting);
    bora_request_send(request, &pack);
}

static void send_token(bora_request *request, const bora_event *event)
{
    bora_pack pack;
    bora_request_begin(request, "token", &pack);
    bora_pack_uint(&pack, "choice", event->choice);
    bora_pack_uint(&pack, "index", event->index);
    bora_pack_uint(&pack, "token", (uint64_t)event->token);
    bora_pack_text(&pack, "text", event->text, event->text_size);
    bora_pack_float(&pack, "logprob", (double)event->logprob);
    if (event->n_top > 0) {
        bora_pack_array(&pack, "top");
        for (uint32_t i = 0; i < event->n_top; i++) {
            bora_pack_map(&pack, NULL);
            bora_pack_uint(&pack, "token", (uint64_t)event->top[i].token);
            bora_pack_float(&pack, "logprob", (double)event->top[i].logprob);
            bora_pack_end(&pack);
        }
        bora_pack_end(&pack);
    }
    bora_request_send(request, &pack);
}

static void send_choice(bora_request *request, const bora_event *event)
{
    bora_pack pack;
    bora_request_begin(request, "choice", &pack);
    bora_pack_uint(&pack, "choice", event->choice);
    bora_pack_string(&pack, "reason", bora_reason_name(event->reason));
    bora_pack_uint(&pack, "n_generated", event->n_generated);
    bora_pack_text(&pack, "text", event->text ? event->text : "", event->text_size);
    bora_request_send(request, &pack);
}

static void end_done(bora_request *request, const bora_reply *reply)
{
    const bora_event *event = reply->event;
    bora_pack pack;
    bora_request_begin(request, "done", &pack);
    bora_pack_string(&pack, "reason", bora_reason_name(event->reason));
    bora_pack_uint(&pack, "n_prompt", reply->n_prompt);
    bora_pack_uint(&pack, "n_cached", reply->n_cached);
    bora_pack_uint(&pack, "n_reused", reply->n_reused);
    bora_pack_uint(&pack, "n_generated", reply->n_generated);
    bora_pack_text(&pack, "text", event->text ? event->text : "", event->text_size);
    bora_pack_float(&pack, "queue_ms", (double)event->queue_ns / 1e6);
    bora_pack_float(&pack, "prefill_ms", (double)event->prefill_ns / 1e6);
    bora_pack_float(&pack, "decode_ms", (double)event->decode_ns / 1e6);
    bora_pack_float(&pack, "store_ms", (double)reply->store_ns / 1e6);
    bora_pack_uint(&pack, "kv_bytes", event->kv_bytes);
    bora_pack_bool(&pack, "stored", reply->stored);
    bora_request_end(request, &pack);
}

static void on_reply(void *user, const bora_reply *reply)
{
    bora_request *request = user;
    switch (reply->type) {
    case BORA_REPLY_ACCEPTED:
        send_accepted(request, reply);
        break;
    case BORA_REPLY_PROGRESS:
        send_progress(request, reply);
        break;
    case BORA_REPLY_QUEUED:
        send_queued(request, reply);
        break;
    case BORA_REPLY_CHOICE:
        send_choice(request, reply->event);
        break;
    case BORA_REPLY_TOKEN:
        send_token(request, reply->event);
        break;
    case BORA_REPLY_DONE:
        end_done(request, reply);
        break;
    default:
        bora_request_fail(request, reply->status, reply->message);
        break;
    }
}

/* ---- the question --------------------------------------------------------------------------------------- */

/* What a generate request borrows while it is handed over. */
typedef struct question {
    bora_generate_request request;
    char *text, *prompt, *system, *session, *schema, *grammar; /* libc's memory */
    int32_t *tokens;
    char *stops[BORA_STOPS_MAX];
    bora_logit_bias *biases;
} question;

static void question_release(question *q)
{
    free(q->text);
    free(q->prompt);
    free(q->system);
    free(q->session);
    free(q->schema);
    free(q->grammar);
    bora_free(q->tokens);
    bora_free(q->biases);
    for (uint32_t i = 0; i < q->request.n_stops; i++)
        free(q->stops[i]);
}

static bora_status read_what(const bora_request *request, question *q, bora_error *err)
{
    size_t n_tokens = 0;
    bora_status st = bora_argument_text(request, "text", false, &q->text, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "prompt", false, &q->prompt, err);
    if (st == BORA_OK)
        st = bora_argument_tokens(request, "tokens", false, &q->tokens, &n_tokens, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "session", false, &q->session, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "system", false, &q->system, err);
    if (st != BORA_OK)
        return st;
    if ((q->text != NULL) + (q->prompt != NULL) + (q->tokens != NULL) != 1)
        return bora_fail(err, BORA_E_INVAL, "give exactly one of text, prompt and tokens");
    if (!q->text && (q->session || q->system))
        return bora_fail(err, BORA_E_INVAL, "%s goes only with text", q->session ? "session" : "system");
    if (q->session && !*q->session)
        return bora_fail(err, BORA_E_INVAL, "session is empty");
    q->request.text = q->text;
    q->request.prompt = q->prompt;
    q->request.tokens = q->tokens;
    q->request.n_tokens = n_tokens;
    q->request.session = q->session;
    q->request.system = q->system;
    return BORA_OK;
}

static bora_status read_stops(const bora_request *request, question *q, bora_error *err)
{
    const bora_value *stops = bora_value_get(request->arguments, "stop");
    if (!stops)
        return BORA_OK;
    if (!bora_value_is_array(stops) || bora_value_count(stops) > BORA_STOPS_MAX)
        return bora_fail(err, BORA_E_INVAL, "stop must be an array of at most %d texts", BORA_STOPS_MAX);
    for (uint32_t i = 0; i < bora_value_count(stops); i++) {
        const char *bytes;
        size_t size;
        if (!bora_value_text(bora_value_at(stops, i), &bytes, &size) || size < 1 || size > BORA_STOP_SIZE_MAX ||
            memchr(bytes, '\0', size))
            return bora_fail(err, BORA_E_INVAL, "stop: item %u is not a text of 1 to %d bytes", i, BORA_STOP_SIZE_MAX);
        q->stops[i] = bora_value_dup(bora_value_at(stops, i));
        if (!q->stops[i])
            return bora_fail(err, BORA_E_NOMEM, "stop");
        q->request.n_stops++;
    }
    q->request.stops = (const char *const *)q->stops;
    return BORA_OK;
}

static bora_status read_biases(const bora_request *request, question *q, bora_error *err)
{
    const bora_value *map = bora_value_get(request->arguments, "logit_bias");
    if (!map)
        return BORA_OK;
    uint32_t n = bora_value_count(map);
    if (!bora_value_is_map(map) || n > BORA_LOGIT_BIAS_MAX)
        return bora_fail(err, BORA_E_INVAL, "logit_bias must be a map of at most %d token ids", BORA_LOGIT_BIAS_MAX);
    q->biases = bora_calloc(n, sizeof *q->biases);
    if (!q->biases)
        return bora_fail(err, BORA_E_NOMEM, "logit_bias");
    for (uint32_t i = 0; i < n; i++) {
        int64_t id;
        double bias;
        if (!bora_value_int(bora_value_key(map, i), &id) || id < 0 || id > INT32_MAX)
            return bora_fail(err, BORA_E_INVAL, "logit_bias: key %u is not a token id", i);
        if (!bora_value_float(bora_value_at(map, i), &bias) || !(bias >= -100 && bias <= 100))
            return bora_fail(err, BORA_E_INVAL, "logit_bias of token %lld must be from -100 to 100", (long long)id);
        q->biases[i] = (bora_logit_bias){(int32_t)id, (float)bias};
    }
    q->request.sampling.biases = q->biases;
    q->request.sampling.n_biases = n;
    return BORA_OK;
}

static bora_status make_seed(uint64_t *ret_seed, bora_error *err)
{
    while (getrandom(ret_seed, sizeof *ret_seed, 0) != (ssize_t)sizeof *ret_seed)
        if (errno != EINTR)
            return bora_fail(err, BORA_E_IO, "random seed: %s", strerror(errno));
    return BORA_OK;
}

static bora_status read_sampling(const bora_request *request, question *q, bora_error *err)
{
    bora_sampling *s = &q->request.sampling;
    bora_status st = BORA_OK;
    if (!bora_value_get(request->arguments, "seed"))
        st = make_seed(&s->seed, err);
    if (st == BORA_OK)
        st = bora_argument_uint(request, "seed", 0, UINT64_MAX, &s->seed, err);
    if (st == BORA_OK)
        st = bora_argument_float(request, "temperature", &s->temperature, err);
    if (st == BORA_OK)
        st = bora_argument_u32(request, "top_k", 0, UINT32_MAX, &s->top_k, err);
    if (st == BORA_OK)
        st = bora_argument_float(request, "top_p", &s->top_p, err);
    if (st == BORA_OK)
        st = bora_argument_float(request, "min_p", &s->min_p, err);
    if (st == BORA_OK)
        st = bora_argument_float(request, "repetition_penalty", &s->repetition_penalty, err);
    if (st == BORA_OK)
        st = bora_argument_u32(request, "repetition_window", 0, 4096, &s->repetition_window, err);
    if (st == BORA_OK)
        st = read_biases(request, q, err);
    if (st == BORA_OK)
        st = bora_sampling_check(s, bora_model_hparams(request->server->options.model)->vocab_size, err);
    return st;
}

/* Whose turn it is, for how long, and how many answers. */
static bora_status read_terms(const bora_request *request, question *q, bora_error *err)
{
    BORA_CLEANUP(bora_text_freep) char *priority = NULL;
    q->request.n_choices = 1;
    bora_status st = bora_argument_text(request, "priority", false, &priority, err);
    if (st == BORA_OK && priority && strcmp(priority, "interactive") != 0 && strcmp(priority, "background") != 0)
        st = bora_fail(err, BORA_E_INVAL, "priority must be interactive or background");
    q->request.is_background = priority && strcmp(priority, "background") == 0;
    if (st == BORA_OK)
        st = bora_argument_u32(request, "timeout_ms", 0, UINT32_MAX, &q->request.timeout_ms, err);
    if (st == BORA_OK)
        st = bora_argument_u32(request, "n", 1, BORA_CHOICES_MAX, &q->request.n_choices, err);
    return st;
}

/* What the answer has to look like, and what is told of it. */
static bora_status read_form(const bora_request *request, question *q, bora_error *err)
{
    bora_status st = bora_argument_text(request, "json_schema", false, &q->schema, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "grammar", false, &q->grammar, err);
    if (st == BORA_OK)
        st = bora_argument_u32(request, "top_logprobs", 0, BORA_TOP_LOGPROBS_MAX, &q->request.n_top_logprobs, err);
    q->request.schema = q->schema;
    q->request.grammar = q->grammar;
    return st;
}

static bora_status read_question(const bora_request *request, question *q, bora_error *err)
{
    const bora_server_options *defaults = &request->server->options;
    q->request = (bora_generate_request){.owner = request->connection->owner,
                                         .create = true,
                                         .bos = true,
                                         .max_tokens = defaults->max_tokens,
                                         .sampling = defaults->sampling};
    bora_status st = read_what(request, q, err);
    if (st == BORA_OK)
        st = bora_argument_bool(request, "create", &q->request.create, err);
    if (st == BORA_OK)
        st = bora_argument_bool(request, "bos", &q->request.bos, err);
    if (st == BORA_OK)
        st = bora_argument_bool(request, "ignore_eos", &q->request.ignore_eos, err);
    if (st == BORA_OK)
        st = bora_argument_u32(request, "max_tokens", 0, BORA_POSITIONS_MAX, &q->request.max_tokens, err);
    if (st == BORA_OK)
        st = read_terms(request, q, err);
    if (st == BORA_OK)
        st = read_form(request, q, err);
    if (st == BORA_OK)
        st = read_sampling(request, q, err);
    if (st == BORA_OK)
        st = read_stops(request, q, err);
    return st;
}

bora_status bora_verb_generate(bora_request *request, bora_error *err)
{
    question q = {0};
    uint64_t id = 0;
    bora_status st = read_question(request, &q, err);
    if (st == BORA_OK)
        st = bora_exchange_check(request->server, err);
    if (st == BORA_OK)
        st = bora_sessions_generate(request->server->options.sessions, &q.request, on_reply, request, &id, err);
    if (st == BORA_OK)
        request->generation_id = id; /* it is still there: in_call keeps it */
    question_release(&q);
    return st;
}
