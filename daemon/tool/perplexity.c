/* bora-model perplexity: how well a model foresees a text, or the answers of dialogues.
 *
 * A text is read in windows of N tokens, BOS included, each begun half a window after the one before; every token of
 * the text is scored once, in the first window that reaches it, so that all but the first half window of the text have
 * N/2 tokens before them at least. A dialogue is laid out as the model's chat layout has it and scored whole. */
#include "tool/tool.h"

#include "base/file.h"
#include "base/memory.h"
#include "tool/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define TEXT_FILE_MAX   ((size_t)1 << 30)
#define CONTEXT_DEFAULT 2048u
#define LOGITS_SIZE_MAX ((size_t)64 << 20) /* bytes of logits at once */
#define CHUNK_MAX       512u
#define LINE_TURNS_MAX  4096u

typedef struct scorer {
    bora_pipeline *pipeline;
    const bora_tool_options *options;
    float *logits; /* [chunk, vocab_size] */
    uint32_t chunk;
} scorer;

typedef struct figure {
    double sum; /* of -log p */
    uint64_t n;
} figure;

/* A dialogue in tokens. */
typedef struct dialogue {
    bora_tokens tokens;
    bool *answers; /* [tokens.n] the token is the assistant's, its EOS included */
} dialogue;

static void modelp(bora_model **model)
{
    bora_model_free(*model);
}

static void jsonp(json_t **json)
{
    json_decref(*json);
}

static void sequencep(bora_sequence **sequence)
{
    bora_sequence_close(*sequence);
}

static void scorer_release(scorer *s)
{
    bora_pipeline_free(s->pipeline);
    bora_free(s->logits);
}

static double mean(const figure *f)
{
    return f->n ? f->sum / (double)f->n : 0;
}

/* ---- scoring -------------------------------------------------------------------------------------------------- */

static bora_status scorer_init(scorer *s, const bora_model *model, size_t n_positions, const bora_tool_options *options,
                               bora_error *err)
{
    const size_t vocab_size = bora_model_hparams(model)->vocab_size;
    size_t chunk = LOGITS_SIZE_MAX / (vocab_size * sizeof(float));
    chunk = chunk > CHUNK_MAX ? CHUNK_MAX : chunk < 16 ? 16 : chunk;
    s->options = options;
    s->chunk = (uint32_t)(chunk < n_positions ? chunk : n_positions);
    s->logits = bora_calloc(s->chunk, vocab_size * sizeof *s->logits);
    if (!s->logits)
        return bora_fail(err, BORA_E_NOMEM, "logits");
    bora_pipeline_options pipeline = options->pipeline;
    pipeline.max_tokens = pipeline.max_logits = pipeline.slack = s->chunk;
    pipeline.max_positions = n_positions;
    return bora_pipeline_new(model, &pipeline, options->log, &s->pipeline, err);
}

/* -log of the softmax of logits [n] at token. */
static double token_nll(const float *logits, size_t n, int32_t token)
{
    float max = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return log(sum) + max - (double)logits[token];
}

/* Runs ids [n] as a new sequence and gives nll[i] for first <= i < n (first >= 1): of ids[i] after all before it. */
static bora_status score(scorer *s, const int32_t *ids, size_t n, size_t first, double *nll, bora_error *err)
{
    const size_t vocab_size = bora_model_hparams(bora_pipeline_model(s->pipeline))->vocab_size;
    BORA_CLEANUP(sequencep) bora_sequence *sequence = NULL;
    bora_status st = bora_sequence_open(s->pipeline, &sequence, err);
    for (size_t at = 0; st == BORA_OK && at + 1 < n;) {
        const size_t rest = n - 1 - at, rows = rest < s->chunk ? rest : s->chunk;
        const size_t skipped = first - 1 > at ? first - 1 - at : 0, n_logits = skipped < rows ? rows - skipped : 0;
        bora_batch_part part = {.sequence = sequence, .n = (uint32_t)rows, .n_logits = (uint32_t)n_logits};
        bora_batch batch = {.tokens = ids + at, .parts = &part, .n_parts = 1};
        st = bora_pipeline_forward(s->pipeline, &batch, s->options->stop, s->logits, err);
        for (size_t r = 0; st == BORA_OK && r < n_logits; r++) {
            const size_t row = at + rows - n_logits + r;
            nll[row + 1] = token_nll(s->logits + r * vocab_size, vocab_size, ids[row + 1]);
        }
        at += rows;
    }
    return st;
}

/* ---- a text --------------------------------------------------------------------------------------------------- */

static void show(bora_progress *progress, const char *what, const figure *f)
{
    char note[64];
    (void)snprintf(note, sizeof note, "%s %.4f so far", what, exp(mean(f))); /* fits */
    bora_progress_show(progress, f->n, note);
}

static bora_status score_text(scorer *s, int32_t bos, const bora_tokens *tokens, size_t context, figure *f,
                              bora_error *err)
{
    const size_t n_bos = bos >= 0, step = (context - n_bos + 1) / 2;
    BORA_CLEANUP(bora_freep) int32_t *ids = bora_calloc(context, sizeof *ids);
    BORA_CLEANUP(bora_freep) double *nll = bora_calloc(context, sizeof *nll);
    if (!ids || !nll)
        return bora_fail(err, BORA_E_NOMEM, "a window of %zu tokens", context);
    bora_progress progress;
    bora_progress_begin(&progress, tokens->n, 1, "tokens");
    bora_status st = BORA_OK;
    size_t scored = n_bos ? 0 : 1; /* tokens of the text; without BOS nothing foretells the first */
    for (size_t begin = 0; st == BORA_OK && scored < tokens->n; begin += step) {
        const size_t rest = tokens->n - begin, n = rest < context - n_bos ? rest : context - n_bos;
        if (n_bos)
            ids[0] = bos;
        memcpy(ids + n_bos, tokens->ids + begin, n * sizeof *ids);
        const size_t first = scored - begin + n_bos;
        st = score(s, ids, n + n_bos, first, nll, err);
        for (size_t i = first; st == BORA_OK && i < n + n_bos; i++) {
            f->sum += nll[i];
            f->n++;
        }
        scored = begin + n;
        show(&progress, "perplexity", f);
    }
    bora_progress_end(&progress);
    return st;
}

static bora_status text_perplexity(const bora_model *model, const char *text, size_t size, size_t context, bool json,
                                   const bora_tool_options *options, bora_error *err)
{
    const bora_tokenizer *tokenizer = bora_model_tokenizer(model);
    BORA_CLEANUP(bora_tokens_release) bora_tokens tokens = {0};
    BORA_CLEANUP(scorer_release) scorer s = {0};
    bora_status st = bora_tokenizer_encode(tokenizer, text, size, &tokens, err);
    if (st != BORA_OK)
        return st;
    if (tokens.n < 2)
        return bora_fail(err, BORA_E_INVAL, "the text has %zu tokens: too few", tokens.n);
    if (!context) {
        const uint32_t stated = bora_model_hparams(model)->context_length;
        context = stated && stated < CONTEXT_DEFAULT ? stated : CONTEXT_DEFAULT;
    }
    if (context > tokens.n + 1)
        context = tokens.n + 1;
    if (context < 4)
        return bora_fail(err, BORA_E_INVAL, "a window of %zu tokens: too few", context);
    if ((st = scorer_init(&s, model, context, options, err)) != BORA_OK)
        return st;
    figure f = {0};
    if ((st = score_text(&s, bora_tokenizer_bos(tokenizer), &tokens, context, &f, err)) != BORA_OK)
        return st;
    if (json)
        printf("{\"tokens\": %" PRIu64 ", \"context\": %zu, \"nll\": %.6f, \"perplexity\": %.6f}\n", f.n, context,
               mean(&f), exp(mean(&f)));
    else
        printf("tokens       %" PRIu64 "\nwindow       %zu\nmean NLL     %.5f\nperplexity   %.4f\n", f.n, context,
               mean(&f), exp(mean(&f)));
    return BORA_OK;
}

/* ---- dialogues ------------------------------------------------------------------------------------------------ */

static const char *content_of(const json_t *message)
{
    const char *text = json_string_value(json_object_get(message, "text"));
    return text ? text : json_string_value(json_object_get(message, "content"));
}

/* Appends what an answer becomes after a question, without EOS: the layout's own code says it. */
static bora_status answer_encode(const bora_model *model, const char *question, const char *answer, bora_tokens *tokens,
                                 bora_error *err)
{
    BORA_CLEANUP(bora_tokens_release) bora_tokens both = {0};
    BORA_CLEANUP(bora_tokens_release) bora_tokens alone = {0};
    const bora_chat_message messages[] = {{.role = BORA_ROLE_USER, .content = question},
                                          {.role = BORA_ROLE_ASSISTANT, .content = answer, .prefix = true}};
    const bora_tokenizer *tokenizer = bora_model_tokenizer(model);
    const bora_chat_layout layout = bora_model_layout(model);
    const bora_chat whole = {.messages = messages, .n_messages = 2}, first = {.messages = messages, .n_messages = 1};
    bora_status st;
    if ((st = bora_chat_encode(layout, tokenizer, &whole, &both, err)) != BORA_OK ||
        (st = bora_chat_encode(layout, tokenizer, &first, &alone, err)) != BORA_OK)
        return st;
    return bora_tokens_append(tokens, both.ids + alone.n, both.n - alone.n, err);
}

/* messages: system (may be absent), then user and assistant in turn. */
static bora_status dialogue_encode(const bora_model *model, const json_t *messages, dialogue *d, bora_error *err)
{
    const bora_tokenizer *tokenizer = bora_model_tokenizer(model);
    const char *system = NULL, *question = NULL;
    size_t i, n_turns = 0;
    json_t *message;
    BORA_CLEANUP(bora_freep) size_t *marks = bora_calloc(2, LINE_TURNS_MAX * sizeof *marks); /* begin, end */
    if (!marks)
        return bora_fail(err, BORA_E_NOMEM, "dialogue");
    json_array_foreach(messages, i, message)
    {
        const char *role = json_string_value(json_object_get(message, "role")), *text = content_of(message);
        bora_status st = BORA_OK;
        if (!role || !text)
            return bora_fail(err, BORA_E_FORMAT, "message %zu has no role or no text", i);
        if (strcmp(role, BORA_ROLE_SYSTEM) == 0 && i == 0) {
            system = text;
        } else if (strcmp(role, BORA_ROLE_USER) == 0 && !question && n_turns < LINE_TURNS_MAX) {
            st = bora_chat_encode_turn(bora_model_layout(model), tokenizer, n_turns == 0, false,
                                       n_turns ? NULL : system, text, &d->tokens, err);
            question = text;
        } else if (strcmp(role, BORA_ROLE_ASSISTANT) == 0 && question) {
            marks[2 * n_turns] = d->tokens.n;
            st = answer_encode(model, question, text, &d->tokens, err);
            if (st == BORA_OK)
                st = bora_tokens_push(&d->tokens, bora_tokenizer_eos(tokenizer), err);
            marks[2 * n_turns++ + 1] = d->tokens.n;
            question = NULL;
        } else {
            return bora_fail(err, BORA_E_FORMAT, "message %zu: role '%.32s' does not fit here", i, role);
        }
        if (st != BORA_OK)
            return st;
    }
    if (d->tokens.n < 2)
        return bora_fail(err, BORA_E_FORMAT, "no messages");
    d->answers = bora_calloc(d->tokens.n, sizeof *d->answers);
    if (!d->answers)
        return bora_fail(err, BORA_E_NOMEM, "dialogue");
    for (size_t t = 0; t < n_turns; t++)
        for (i = marks[2 * t]; i < marks[2 * t + 1]; i++)
            d->answers[i] = true;
    return BORA_OK;
}

typedef struct dialogues {
    dialogue *list; /* [n] */
    size_t n, n_tokens, longest;
} dialogues;

static void dialogues_release(dialogues *all)
{
    for (size_t i = 0; i < all->n; i++) {
        bora_tokens_release(&all->list[i].tokens);
        bora_free(all->list[i].answers);
    }
    bora_free(all->list);
}

/* One line of JSON a dialogue: a list of messages, or an object with that list as "messages". */
static bora_status read_dialogues(const bora_model *model, const char *text, size_t size, dialogues *all,
                                  bora_error *err)
{
    const char *end = text + size;
    for (size_t line = 1; text < end; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text)), *line_end = newline ? newline : end;
        const char *begin = text;
        text = newline ? newline + 1 : end;
        if (strspn(begin, " \t\r") >= (size_t)(line_end - begin))
            continue;
        json_error_t where;
        BORA_CLEANUP(jsonp) json_t *root = json_loadb(begin, (size_t)(line_end - begin), 0, &where);
        if (!root)
            return bora_fail(err, BORA_E_FORMAT, "line %zu: %s", line, where.text);
        const json_t *messages = json_is_object(root) ? json_object_get(root, "messages") : root;
        if (!json_is_array(messages) || json_array_size(messages) > LINE_TURNS_MAX)
            return bora_fail(err, BORA_E_FORMAT, "line %zu is not a list of messages", line);
        dialogue *grown = bora_realloc(all->list, all->n + 1, sizeof *grown);
        if (!grown)
            return bora_fail(err, BORA_E_NOMEM, "%zu dialogues", all->n + 1);
        all->list = grown;
        dialogue *d = &all->list[all->n++];
        *d = (dialogue){.answers = NULL};
        bora_error inner = {{0}};
        bora_status st = dialogue_encode(model, messages, d, &inner);
        if (st != BORA_OK)
            return bora_fail(err, st, "line %zu: %s", line, inner.message);
        all->n_tokens += d->tokens.n - 1;
        all->longest = d->tokens.n > all->longest ? d->tokens.n : all->longest;
    }
    return all->n ? BORA_OK : bora_fail(err, BORA_E_FORMAT, "no dialogues");
}

static bora_status dialogue_perplexity(const bora_model *model, const char *text, size_t size, bool json,
                                       const bora_tool_options *options, bora_error *err)
{
    if (bora_model_layout(model) == BORA_CHAT_NONE)
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model has no chat layout for dialogues");
    BORA_CLEANUP(dialogues_release) dialogues all = {0};
    BORA_CLEANUP(scorer_release) scorer s = {0};
    bora_status st = read_dialogues(model, text, size, &all, err);
    if (st != BORA_OK || (st = scorer_init(&s, model, all.longest, options, err)) != BORA_OK)
        return st;
    BORA_CLEANUP(bora_freep) double *nll = bora_calloc(all.longest, sizeof *nll);
    if (!nll)
        return bora_fail(err, BORA_E_NOMEM, "scores");
    figure f = {0}, answers = {0};
    bora_progress progress;
    bora_progress_begin(&progress, all.n_tokens, 1, "tokens");
    for (size_t i = 0; st == BORA_OK && i < all.n; i++) {
        const dialogue *d = &all.list[i];
        st = score(&s, d->tokens.ids, d->tokens.n, 1, nll, err);
        for (size_t t = 1; st == BORA_OK && t < d->tokens.n; t++) {
            f.sum += nll[t];
            f.n++;
            answers.sum += d->answers[t] ? nll[t] : 0;
            answers.n += d->answers[t];
        }
        show(&progress, "perplexity", &f);
    }
    bora_progress_end(&progress);
    if (st != BORA_OK)
        return st;
    if (json)
        printf("{\"dialogues\": %zu, \"tokens\": %" PRIu64 ", \"nll_all\": %.6f, \"answer_tokens\": %" PRIu64
               ", \"nll_answers\": %.6f}\n",
               all.n, f.n, mean(&f), answers.n, mean(&answers));
    else
        printf("dialogues    %zu\n%-12s %10s %10s %12s\n%-12s %10" PRIu64 " %10.5f %12.4f\n%-12s %10" PRIu64
               " %10.5f %12.4f\n",
               all.n, "", "tokens", "mean NLL", "perplexity", "all", f.n, mean(&f), exp(mean(&f)), "answers", answers.n,
               mean(&answers), exp(mean(&answers)));
    return BORA_OK;
}

bora_status bora_tool_perplexity(const char *path, const char *file, bool json, const bora_tool_options *options,
                                 bora_error *err)
{
    BORA_CLEANUP(modelp) bora_model *model = NULL;
    BORA_CLEANUP(bora_freep) char *text = NULL;
    bora_model_options model_options = {.layout = options->layout};
    size_t size = 0, n = strlen(file);
    bora_status st = bora_tool_open(path, &model_options, options, &model, err);
    if (st != BORA_OK || (st = bora_file_read(file, TEXT_FILE_MAX, &text, &size, err)) != BORA_OK)
        return st;
    bora_error inner = {{0}};
    if (n > 6 && strcmp(file + n - 6, ".jsonl") == 0)
        st = dialogue_perplexity(model, text, size, json, options, &inner);
    else
        st = text_perplexity(model, text, size, (size_t)options->pipeline.max_positions, json, options, &inner);
    if (st == BORA_OK && bora_model_is_damaged(model))
        return bora_fail(err, BORA_E_IO, "'%s' was cut short while it was read", path);
    return st == BORA_OK ? BORA_OK : bora_fail(err, st, "'%.200s': %s", file, inner.message);
}
