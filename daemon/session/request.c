/* A generate request becomes something that can run: checked, copied, laid out as tokens. */
#include "session/session_private.h"

#include "base/memory.h"
#include "engine/task.h"
#include "session/db_private.h"

#include <string.h>

/* ---- checks ------------------------------------------------------------------------------------------------ */

static bora_status check_stops(const bora_generate_request *request, bora_error *err)
{
    bora_generation *generation = NULL; /* for the size of its array */
    if (request->n_stops > BORA_ARRAY_SIZE(generation->stops))
        return bora_fail(err, BORA_E_INVAL, "at most %zu stop texts", BORA_ARRAY_SIZE(generation->stops));
    for (uint32_t i = 0; i < request->n_stops; i++) {
        size_t size = strnlen(request->stops[i], BORA_STOP_TEXT_MAX + 1);
        if (size == 0 || size > BORA_STOP_TEXT_MAX)
            return bora_fail(err, BORA_E_INVAL, "a stop text must have 1 to %d bytes", BORA_STOP_TEXT_MAX);
    }
    return BORA_OK;
}

static bora_status check_request(const bora_sessions *sessions, const bora_generate_request *request, bora_error *err)
{
    uint32_t vocab_size = bora_model_hparams(sessions->model)->vocab_size;
    int n_inputs = (request->text != NULL) + (request->prompt != NULL) + (request->tokens != NULL);
    if (!request->owner || !*request->owner)
        return bora_fail(err, BORA_E_INVAL, "a request needs an owner");
    if (n_inputs != 1)
        return bora_fail(err, BORA_E_INVAL, "give one of text, prompt and tokens");
    if (!request->text && request->session)
        return bora_fail(err, BORA_E_INVAL, "a session takes text, not a raw prompt");
    if (!request->text && request->system)
        return bora_fail(err, BORA_E_INVAL, "a system prompt goes with text, not with a raw prompt");
    if (request->text && sessions->options.layout == BORA_CHAT_NONE)
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model has no chat layout; use a raw prompt");
    if (request->n_choices > BORA_CHOICES_MAX || (request->n_choices > 1 && request->session))
        return bora_fail(err, BORA_E_INVAL, "one answer, or without a session up to %u", BORA_CHOICES_MAX);
    if (request->tokens && request->n_tokens == 0)
        return bora_fail(err, BORA_E_INVAL, "tokens must not be empty");
    for (size_t i = 0; i < request->n_tokens && request->tokens; i++)
        if (request->tokens[i] < 0 || (uint32_t)request->tokens[i] >= vocab_size)
            return bora_fail(err, BORA_E_INVAL, "token %d (number %zu) is not in 0 .. %u", (int)request->tokens[i], i,
                             vocab_size - 1);
    if (request->schema && request->grammar)
        return bora_fail(err, BORA_E_INVAL, "give a JSON schema or a grammar, not both");
    if ((request->schema || request->grammar) && !sessions->vocabulary)
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model's tokenizer has no end-of-text token: no grammars");
    bora_status st = check_stops(request, err);
    if (st == BORA_OK)
        st = bora_sampling_check(&request->sampling, vocab_size, err);
    if (st == BORA_OK && request->session && !bora_session_id_like(request->session))
        st = bora_session_name_check(request->session, err);
    return st;
}

/* The context leaves room for at least one new token (if any is asked for); fewer than asked for are noted. */
static bora_status fit(bora_open *open, size_t n_tokens, bora_error *err)
{
    uint64_t context = open->sessions->options.context;
    if (n_tokens > context || (n_tokens == context && open->max_tokens > 0))
        return open->live
                   ? bora_fail(err, BORA_E_LIMIT,
                               "the session has %llu tokens and this turn adds %llu: no room for an answer in the "
                               "context of %llu",
                               (unsigned long long)open->n_history, (unsigned long long)(n_tokens - open->n_history),
                               (unsigned long long)context)
                   : bora_fail(err, BORA_E_LIMIT, "%zu tokens leave no room for an answer in the context of %llu",
                               n_tokens, (unsigned long long)context);
    uint64_t room = context - n_tokens;
    open->cut_by_context = open->max_tokens > room;
    open->generation->max_generated = open->cut_by_context ? (uint32_t)room : open->max_tokens;
    return BORA_OK;
}

/* ---- layout -------------------------------------------------------------------------------------------------- */

/* The tokens of a generation outside a session. */
static bora_status lay_out_alone(bora_open *open, const bora_generate_request *request, bora_tokens *tokens,
                                 bora_error *err)
{
    const bora_tokenizer *tokenizer = bora_model_tokenizer(open->sessions->model);
    int32_t bos = bora_tokenizer_bos(tokenizer);
    bora_status st = BORA_OK;
    if (request->text) {
        st = bora_chat_encode_turn(open->sessions->options.layout, tokenizer, true, false, request->system,
                                   request->text, tokens, err);
    } else if (request->tokens) {
        st = bora_tokens_append(tokens, request->tokens, request->n_tokens, err);
    } else {
        if (request->bos && bos >= 0)
            st = bora_tokens_push(tokens, bos, err);
        if (st == BORA_OK)
            st = bora_tokenizer_encode(tokenizer, request->prompt, strlen(request->prompt), tokens, err);
        if (st == BORA_OK && tokens->n == 0)
            st = bora_fail(err, BORA_E_INVAL, "the prompt is empty");
    }
    /* After BOS alone the answer is the beginning of the text. */
    open->generation->continues_text = !request->text && tokens->n > 0 && tokens->ids[tokens->n - 1] != bos;
    return st == BORA_OK ? fit(open, tokens->n, err) : st;
}

static void give_tokens(bora_generation *generation, bora_tokens *tokens)
{
    bora_free(generation->tokens);
    generation->n_tokens = tokens->n;
    generation->tokens = bora_steal(&tokens->ids);
}

bora_status bora_open_lay_out(bora_open *open, bora_error *err)
{
    const bora_sessions *sessions = open->sessions;
    const bora_live *live = open->live;
    const bora_tokenizer *tokenizer = bora_model_tokenizer(sessions->model);
    bool first = live->tokens.n == 0;
    open->system_is_new = first && open->system;
    open->system_ignored = !first && open->system;
    const char *system = open->system_is_new ? open->system : first ? live->record.system : NULL;
    /* An answer that ended before its end-of-text token (cut, interrupted, stopped by a text) is closed now. The tokens
     * alone decide, so that a session from the store goes on as one that never left memory. */
    bool close_previous = !first && live->tokens.ids[live->tokens.n - 1] != bora_tokenizer_eos(tokenizer);
    BORA_CLEANUP(bora_tokens_release) bora_tokens tokens = {0};
    open->n_history = live->tokens.n;
    bora_status st = bora_chat_encode_turn(sessions->options.layout, tokenizer, first, close_previous, system,
                                           open->text, &open->added, err);
    if (st == BORA_OK)
        st = bora_tokens_append(&tokens, live->tokens.ids, live->tokens.n, err);
    if (st == BORA_OK)
        st = bora_tokens_append(&tokens, open->added.ids, open->added.n, err);
    if (st == BORA_OK)
        st = fit(open, tokens.n, err);
    if (st != BORA_OK)
        return st;
    open->generation->keep = open->generation->export_pages = true;
    give_tokens(open->generation, &tokens);
    return BORA_OK;
}

/* ---- the copy ------------------------------------------------------------------------------------------------ */

static bora_status copy_sampling(bora_generation *generation, const bora_generate_request *request, bora_error *err)
{
    generation->sampling = request->sampling;
    generation->sampling.biases = NULL;
    generation->ignore_eos = request->ignore_eos;
    generation->is_background = request->is_background;
    generation->n_choices = request->n_choices;
    if (request->timeout_ms)
        generation->deadline_ns = bora_task_now_ns() + request->timeout_ms * UINT64_C(1000000);
    if (request->sampling.n_biases > 0) {
        bora_logit_bias *biases = bora_calloc(request->sampling.n_biases, sizeof *biases);
        if (!biases)
            return bora_fail(err, BORA_E_NOMEM, "logit biases");
        memcpy(biases, request->sampling.biases, request->sampling.n_biases * sizeof *biases);
        generation->sampling.biases = biases;
    }
    generation->n_top_logprobs = request->n_top_logprobs;
    for (uint32_t i = 0; i < request->n_stops; i++) {
        generation->stops[i] = bora_strdup(request->stops[i]);
        if (!generation->stops[i])
            return bora_fail(err, BORA_E_NOMEM, "stop texts");
        generation->n_stops++;
    }
    return BORA_OK;
}

bora_status bora_open_compile(bora_open *open, bora_error *err)
{
    const bora_sessions *sessions = open->sessions;
    bora_generation *generation = open->generation;
    bora_grammar *grammar = NULL;
    size_t size = strlen(open->form);
    bora_status st = open->is_schema ? bora_grammar_from_schema(open->form, size, &grammar, err)
                                     : bora_grammar_from_notation(open->form, size, &grammar, err);
    if (st == BORA_OK)
        st = bora_matcher_new(grammar, sessions->vocabulary, generation->continues_text, &generation->matcher, err);
    uint64_t held = st == BORA_OK ? bora_grammar_size(grammar) + bora_matcher_size(generation->matcher) : 0;
    bora_grammar_unref(grammar); /* the matcher has its own */
    if (!bora_ledger_take(sessions->ledger, BORA_LEDGER_REQUESTS, held))
        return bora_fail(err, BORA_E_BUSY, "no memory for the grammar (memory.limit)");
    open->requested_size += held;
    return st;
}

void bora_open_free(bora_open *open)
{
    if (!open)
        return;
    bora_generation_free(open->generation);
    bora_session_contents_release(&open->contents);
    bora_event_free(open->done);
    bora_event_free(open->early);
    bora_scheduler_reply_free(open->reply);
    if (open->store_size)
        bora_ledger_give(open->sessions->ledger, BORA_LEDGER_STORE, open->store_size);
    bora_ledger_give(open->sessions->ledger, BORA_LEDGER_REQUESTS, open->requested_size);
    bora_tokens_release(&open->added);
    bora_verbs_free(open->held);
    bora_free(open->owner);
    bora_free(open->key);
    bora_free(open->text);
    bora_free(open->system);
    bora_free(open->form);
    bora_free(open);
}

/* What the request itself holds while it waits and runs. */
static bora_status count_request(bora_open *open, const bora_generate_request *request, bora_error *err)
{
    uint64_t size = sizeof *open + sizeof *open->generation;
    size += 2 * ((request->text ? strlen(request->text) : 0) + (request->prompt ? strlen(request->prompt) : 0));
    size += request->system ? strlen(request->system) : 0;
    size += open->form ? strlen(open->form) : 0;
    size += (open->generation->n_tokens * 2 + request->max_tokens) * sizeof(int32_t);
    if (!bora_ledger_take(open->sessions->ledger, BORA_LEDGER_REQUESTS, size))
        return bora_fail(err, BORA_E_BUSY, "no memory for another request (memory.limit)");
    open->requested_size = size;
    return BORA_OK;
}

static void open_freep(bora_open **open)
{
    bora_open_free(*open);
}

bora_status bora_open_new(bora_sessions *sessions, const bora_generate_request *request, bora_reply_fn handler,
                          void *user, bora_open **ret_open, bora_error *err)
{
    bora_status st = check_request(sessions, request, err);
    if (st != BORA_OK)
        return st;
    BORA_CLEANUP(open_freep) bora_open *open = bora_calloc(1, sizeof *open);
    if (open) {
        open->sessions = sessions;
        open->handler = handler;
        open->user = user;
        open->create = request->create;
        open->max_tokens = request->max_tokens;
        open->seed = request->sampling.seed;
        open->store.open = open;
        open->created = bora_db_now();
        open->owner = bora_strdup(request->owner);
        open->key = bora_strdup(request->session);
        open->text = bora_strdup(request->text);
        open->system = bora_strdup(request->system);
        open->is_schema = request->schema;
        open->form = bora_strdup(request->schema ? request->schema : request->grammar);
        open->generation = bora_calloc(1, sizeof *open->generation);
    }
    if (!open || !open->owner || !open->generation || (request->session && !open->key) ||
        (request->text && !open->text) || (request->system && !open->system) ||
        ((request->schema || request->grammar) && !open->form))
        return bora_fail(err, BORA_E_NOMEM, "request");
    st = copy_sampling(open->generation, request, err);
    if (st == BORA_OK && !open->key) {
        BORA_CLEANUP(bora_tokens_release) bora_tokens tokens = {0};
        st = lay_out_alone(open, request, &tokens, err);
        if (st == BORA_OK)
            give_tokens(open->generation, &tokens);
    }
    if (st == BORA_OK)
        st = count_request(open, request, err);
    if (st != BORA_OK)
        return st;
    *ret_open = bora_steal(&open);
    return BORA_OK;
}
