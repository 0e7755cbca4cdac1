/* bora-model eval: runs the recorded runs of a golden.json through the real engine and plugins, and writes what it
 * computed in the same form, for comparison.
 *
 * Every run is a schedule of forward passes: prefill and generate cut prompts into chunks, packed states its schedule,
 * generate then adds greedy steps. All logits of prompt rows and steps are kept; tensors are picked from them by name.
 */
#include "tool/tool.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "engine/pipeline.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN_SIZE_MAX ((size_t)1 << 28)

/* One prompt of a run and what became of it. */
typedef struct eval_sequence {
    bora_sequence *sequence;
    bora_tokens tokens; /* the prompt, then what was generated */
    size_t n_prompt;
} eval_sequence;

typedef struct floats {
    float *values;
    size_t n, capacity;
} floats;

typedef struct eval_run {
    const bora_tool_options *options;
    bora_pipeline *pipeline;
    const char *out; /* folder */
    const char *name;
    json_t *run;
    eval_sequence *sequences; /* [n_sequences] */
    size_t n_sequences;
    floats prompt_logits;     /* rows in the order they came out */
    floats step_logits;       /* [steps, n_sequences, vocab_size] */
    float *pass_logits;       /* of one pass */
    bora_status trace_status; /* of the first write that failed */
    bora_error trace_error;
} eval_run;

static bora_status floats_append(floats *list, const float *values, size_t n, bora_error *err)
{
    size_t need;
    if (!bora_size_add(list->n, n, &need))
        return bora_fail(err, BORA_E_NOMEM, "logits");
    if (need > list->capacity) {
        float *grown = bora_realloc(list->values, need * 2, sizeof *grown);
        if (!grown)
            return bora_fail(err, BORA_E_NOMEM, "%zu logits", need);
        list->values = grown;
        list->capacity = need * 2;
    }
    memcpy(list->values + list->n, values, n * sizeof *values);
    list->n = need;
    return BORA_OK;
}

static bora_status write_file(const eval_run *run, const char *tensor, const char *suffix, const void *data,
                              size_t size, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *path = bora_format("%s/%s.%s%s", run->out, run->name, tensor, suffix);
    if (!path)
        return bora_fail(err, BORA_E_NOMEM, "path");
    FILE *file = fopen(path, "wb");
    if (!file)
        return bora_fail(err, BORA_E_IO, "write '%s': %s", path, strerror(errno));
    size_t n = fwrite(data, 1, size, file);
    if (fclose(file) != 0 || n != size)
        return bora_fail(err, BORA_E_IO, "write '%s': %s", path, strerror(errno));
    return BORA_OK;
}

/* Writes every traced tensor that the run names. */
static void on_trace(void *arg, const char *name, const void *data, uint64_t n_rows, uint64_t n_cols)
{
    eval_run *run = arg;
    if (run->trace_status != BORA_OK || !json_object_get(json_object_get(run->run, "tensors"), name))
        return;
    run->trace_status = write_file(run, name, ".bin", data, (size_t)(n_rows * n_cols) * 4, &run->trace_error);
}

static int32_t best_token(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

/* One pass: counts[i] next tokens of sequence i (0: none). All rows give logits into pass_logits. */
static bora_status forward(eval_run *run, const size_t *counts, size_t *ret_n_rows, bora_error *err)
{
    size_t n_rows = 0;
    uint32_t n_parts = 0;
    for (size_t i = 0; i < run->n_sequences; i++)
        n_rows += counts[i];
    BORA_CLEANUP(bora_freep) int32_t *tokens = bora_calloc(n_rows, sizeof *tokens);
    BORA_CLEANUP(bora_freep) bora_batch_part *parts = bora_calloc(run->n_sequences, sizeof *parts);
    if (!tokens || !parts)
        return bora_fail(err, BORA_E_NOMEM, "batch");
    n_rows = 0;
    for (size_t i = 0; i < run->n_sequences; i++) {
        eval_sequence *seq = &run->sequences[i];
        size_t done = (size_t)bora_sequence_n_cached(seq->sequence);
        if (counts[i] == 0)
            continue;
        if (counts[i] > seq->tokens.n - done)
            return bora_fail(err, BORA_E_FORMAT, "the schedule asks for more tokens than prompt %zu has", i);
        memcpy(tokens + n_rows, seq->tokens.ids + done, counts[i] * sizeof *tokens);
        parts[n_parts++] =
            (bora_batch_part){.sequence = seq->sequence, .n = (uint32_t)counts[i], .n_logits = (uint32_t)counts[i]};
        n_rows += counts[i];
    }
    bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = n_parts};
    *ret_n_rows = n_rows;
    return bora_pipeline_forward(run->pipeline, &batch, NULL, run->pass_logits, err);
}

/* Feeds all prompts in pieces of chunk (0: whole). Keeps the logits of every row, and each prompt's last row in
 * last_rows [n_sequences, vocab_size]. */
static bora_status feed_prompts(eval_run *run, size_t chunk, float *last_rows, bora_error *err)
{
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(run->pipeline))->vocab_size;
    BORA_CLEANUP(bora_freep) size_t *counts = bora_calloc(run->n_sequences, sizeof *counts);
    if (!counts)
        return bora_fail(err, BORA_E_NOMEM, "schedule");
    for (;;) {
        size_t n_rows = 0, row = 0;
        for (size_t i = 0; i < run->n_sequences; i++) {
            counts[i] = run->sequences[i].n_prompt - (size_t)bora_sequence_n_cached(run->sequences[i].sequence);
            if (chunk && counts[i] > chunk)
                counts[i] = chunk;
            n_rows += counts[i];
        }
        if (n_rows == 0)
            return BORA_OK;
        bora_status st = forward(run, counts, &n_rows, err);
        if (st == BORA_OK)
            st = floats_append(&run->prompt_logits, run->pass_logits, n_rows * vocab_size, err);
        if (st != BORA_OK)
            return st;
        for (size_t i = 0; i < run->n_sequences; i++) {
            row += counts[i];
            if (counts[i])
                memcpy(last_rows + i * vocab_size, run->pass_logits + (row - 1) * vocab_size,
                       vocab_size * sizeof *last_rows);
        }
    }
}

static bora_status follow_schedule(eval_run *run, bora_error *err)
{
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(run->pipeline))->vocab_size;
    json_t *pass;
    size_t f;
    BORA_CLEANUP(bora_freep) size_t *counts = bora_calloc(run->n_sequences, sizeof *counts);
    if (!counts)
        return bora_fail(err, BORA_E_NOMEM, "schedule");
    json_array_foreach(json_object_get(run->run, "schedule"), f, pass)
    {
        if (json_array_size(pass) != run->n_sequences)
            return bora_fail(err, BORA_E_FORMAT, "run '%s': pass %zu of the schedule has not one count a prompt",
                             run->name, f);
        for (size_t i = 0; i < run->n_sequences; i++) {
            json_int_t count = json_integer_value(json_array_get(pass, i));
            if (count < 0 || count > 65536)
                return bora_fail(err, BORA_E_FORMAT, "run '%s': a count of the schedule is out of range", run->name);
            counts[i] = (size_t)count;
        }
        size_t n_rows = 0;
        bora_status st = forward(run, counts, &n_rows, err);
        if (st == BORA_OK)
            st = floats_append(&run->prompt_logits, run->pass_logits, n_rows * vocab_size, err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

/* rows [n_sequences, vocab_size]: the logits to choose the first token from; overwritten. */
static bora_status generate(eval_run *run, size_t n_steps, float *rows, bora_error *err)
{
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(run->pipeline))->vocab_size;
    BORA_CLEANUP(bora_freep) size_t *counts = bora_calloc(run->n_sequences, sizeof *counts);
    if (!counts)
        return bora_fail(err, BORA_E_NOMEM, "schedule");
    for (size_t step = 0; step < n_steps; step++) {
        bora_status st = floats_append(&run->step_logits, rows, run->n_sequences * vocab_size, err);
        for (size_t i = 0; st == BORA_OK && i < run->n_sequences; i++) {
            st = bora_tokens_push(&run->sequences[i].tokens, best_token(rows + i * vocab_size, vocab_size), err);
            counts[i] = 1;
        }
        size_t n_rows = 0;
        if (st == BORA_OK && step + 1 < n_steps) {
            st = forward(run, counts, &n_rows, err);
            memcpy(rows, run->pass_logits, n_rows * vocab_size * sizeof *rows);
        }
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

static float token_logprob(const float *logits, size_t n, int32_t token)
{
    float max = -INFINITY;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return (float)((double)logits[token] - max - log(sum));
}

static size_t tensor_size(json_t *tensor)
{
    size_t i, size = 1;
    json_t *extent;
    json_array_foreach(json_object_get(tensor, "shape"), i, extent)
    {
        json_int_t value = json_integer_value(extent);
        if (value < 0 || !bora_size_mul(size, (size_t)value, &size))
            return SIZE_MAX;
    }
    return size;
}

static bora_status write_tensors(eval_run *run, bora_error *err)
{
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(run->pipeline))->vocab_size;
    const char *kind = json_string_value(json_object_get(run->run, "kind"));
    if (strcmp(kind, "trace") == 0 || strcmp(kind, "route") == 0)
        return run->trace_status == BORA_OK ? BORA_OK
                                            : bora_fail(err, run->trace_status, "%s", run->trace_error.message);
    const char *name;
    json_t *tensor;
    json_object_foreach(json_object_get(run->run, "tensors"), name, tensor)
    {
        size_t size = tensor_size(tensor);
        const floats *from = &run->prompt_logits;
        size_t begin = 0;
        BORA_CLEANUP(bora_freep) float *scores = NULL;
        const float *values = from->values;
        if (strcmp(name, "step_logits") == 0) {
            from = &run->step_logits;
            values = from->values;
        } else if (strcmp(name, "last_prefill_logits") == 0) {
            begin = from->n < size ? SIZE_MAX : from->n - size;
        } else if (strcmp(name, "token_logprobs") == 0) {
            const eval_sequence *seq = &run->sequences[0];
            scores = bora_calloc(seq->n_prompt, sizeof *scores);
            if (!scores)
                return bora_fail(err, BORA_E_NOMEM, "scores");
            for (size_t i = 0; i + 1 < seq->n_prompt; i++)
                scores[i] = token_logprob(from->values + i * vocab_size, vocab_size, seq->tokens.ids[i + 1]);
            values = scores;
            if (size != seq->n_prompt - 1)
                return bora_fail(err, BORA_E_FORMAT, "run '%s': shape of '%s'", run->name, name);
        } else if (strcmp(name, "logits") != 0 && strcmp(name, "prefill_logits") != 0) {
            return bora_fail(err, BORA_E_UNSUPPORTED, "run '%s': unknown tensor '%s'", run->name, name);
        }
        if (!scores && (begin > from->n || size > from->n - begin))
            return bora_fail(err, BORA_E_FORMAT, "run '%s': tensor '%s' has more values than the run gives", run->name,
                             name);
        bora_status st = write_file(run, name, ".bin", values + begin, size * sizeof *values, err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

static bora_status write_tokens(const eval_run *run, bora_error *err)
{
    json_t *all = json_array();
    for (size_t i = 0; i < run->n_sequences; i++) {
        json_t *ids = json_array();
        for (size_t t = run->sequences[i].n_prompt; t < run->sequences[i].tokens.n; t++)
            (void)json_array_append_new(ids, json_integer(run->sequences[i].tokens.ids[t])); /* checked below */
        (void)json_array_append_new(all, ids);
    }
    char *text = json_dumps(all, 0);
    json_decref(all);
    if (!text)
        return bora_fail(err, BORA_E_NOMEM, "tokens of run '%s'", run->name);
    bora_status st = write_file(run, "tokens", ".json", text, strlen(text), err);
    free(text); /* jansson's own allocator */
    return st;
}

static void jsonp(json_t **json)
{
    json_decref(*json);
}

/* What a reader would see: prompt and continuation of each sequence, decoded. Only where the run asks for it. */
static bora_status write_texts(const eval_run *run, bora_error *err)
{
    const bora_tokenizer *tokenizer = bora_model_tokenizer(bora_pipeline_model(run->pipeline));
    if (!tokenizer || !json_object_get(run->run, "text"))
        return BORA_OK;
    BORA_CLEANUP(jsonp) json_t *all = json_array();
    for (size_t i = 0; i < run->n_sequences; i++) {
        BORA_CLEANUP(bora_text_release) bora_text text = {0};
        const bora_tokens *tokens = &run->sequences[i].tokens;
        bora_status st = bora_tokenizer_decode(tokenizer, tokens->ids, tokens->n, &text, err);
        if (st != BORA_OK)
            return st;
        if (json_array_append_new(all, json_stringn(text.bytes ? text.bytes : "", text.size)) != 0)
            return bora_fail(err, BORA_E_NOMEM, "texts of run '%s'", run->name);
    }
    char *dump = json_dumps(all, JSON_ENSURE_ASCII);
    if (!dump)
        return bora_fail(err, BORA_E_NOMEM, "texts of run '%s'", run->name);
    bora_status st = write_file(run, "text", ".json", dump, strlen(dump), err);
    free(dump); /* jansson's own allocator */
    return st;
}

static bora_status open_sequences(eval_run *run, bora_error *err)
{
    json_t *prompts = json_object_get(run->run, "prompts"), *prompt, *id;
    size_t i, t;
    run->sequences = bora_calloc(json_array_size(prompts), sizeof *run->sequences);
    if (!run->sequences || json_array_size(prompts) == 0)
        return bora_fail(err, BORA_E_FORMAT, "run '%s' has no prompts", run->name);
    json_array_foreach(prompts, i, prompt)
    {
        eval_sequence *seq = &run->sequences[i];
        run->n_sequences++;
        bora_status st = bora_sequence_open(run->pipeline, &seq->sequence, err);
        json_array_foreach(prompt, t, id)
        {
            json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
            if (st == BORA_OK)
                st = bora_tokens_push(&seq->tokens, value < 0 || value > INT32_MAX ? -1 : (int32_t)value, err);
        }
        if (st != BORA_OK)
            return st;
        seq->n_prompt = seq->tokens.n;
    }
    return BORA_OK;
}

static bora_status run_one(eval_run *run, bora_error *err)
{
    const char *kind = json_string_value(json_object_get(run->run, "kind"));
    run->name = json_string_value(json_object_get(run->run, "name"));
    if (!kind || !run->name || strchr(run->name, '/'))
        return bora_fail(err, BORA_E_FORMAT, "a run has no kind or no usable name");
    bora_status st = open_sequences(run, err);
    if (st != BORA_OK)
        return st;
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(run->pipeline))->vocab_size;
    BORA_CLEANUP(bora_freep) float *rows = bora_calloc(run->n_sequences * vocab_size, sizeof *rows);
    if (!rows)
        return bora_fail(err, BORA_E_NOMEM, "logits");
    bool traced = strcmp(kind, "trace") == 0 || strcmp(kind, "route") == 0;
    if (traced)
        bora_pipeline_trace(run->pipeline, on_trace, run);
    json_int_t chunk = json_integer_value(json_object_get(run->run, "chunk"));
    if (chunk < 0)
        return bora_fail(err, BORA_E_FORMAT, "run '%s': negative chunk", run->name);
    if (strcmp(kind, "packed") == 0)
        st = follow_schedule(run, err);
    else
        st = feed_prompts(run, (size_t)chunk, rows, err);
    bora_pipeline_trace(run->pipeline, NULL, NULL);
    if (st == BORA_OK && strcmp(kind, "generate") == 0) {
        size_t n_steps = json_array_size(json_array_get(json_object_get(run->run, "tokens"), 0));
        st = generate(run, n_steps, rows, err);
        if (st == BORA_OK)
            st = write_tokens(run, err);
        if (st == BORA_OK)
            st = write_texts(run, err);
    }
    return st == BORA_OK ? write_tensors(run, err) : st;
}

static void run_release(eval_run *run)
{
    for (size_t i = 0; i < run->n_sequences; i++) {
        bora_sequence_close(run->sequences[i].sequence);
        bora_tokens_release(&run->sequences[i].tokens);
    }
    bora_free(run->sequences);
    bora_free(run->prompt_logits.values);
    bora_free(run->step_logits.values);
}

static void modelp(bora_model **model)
{
    bora_model_free(*model);
}

static void pipelinep(bora_pipeline **pipeline)
{
    bora_pipeline_free(*pipeline);
}

/* Rows of the largest pass and the longest sequence of all runs. */
static void measure_runs(json_t *runs, size_t *ret_rows, size_t *ret_positions, size_t *ret_longest)
{
    size_t r, i;
    json_t *run, *prompt;
    *ret_rows = *ret_positions = *ret_longest = 1;
    json_array_foreach(runs, r, run)
    {
        size_t rows = 0, steps = json_array_size(json_array_get(json_object_get(run, "tokens"), 0));
        json_array_foreach(json_object_get(run, "prompts"), i, prompt)
        {
            size_t n = json_array_size(prompt);
            rows += n;
            if (n > *ret_longest)
                *ret_longest = n;
            if (n + steps > *ret_positions)
                *ret_positions = n + steps;
        }
        if (rows > *ret_rows)
            *ret_rows = rows;
    }
}

/* The model of a description: what the user says, else a path that is absolute or relative to the description's folder;
 * a bare name that is not beside it may be that of a model two folders up, in models/. */
static bora_status find_model(const char *golden, const char *name, const char *chosen, char **ret_path,
                              bora_error *err)
{
    const char *slash = strrchr(golden, '/');
    int folder = name[0] == '/' || !slash ? 0 : (int)(slash - golden + 1);
    BORA_CLEANUP(bora_freep)
    char *path = chosen ? bora_strdup(chosen) : bora_format("%.*s%s", folder, golden, name);
    if (path && !chosen && !strchr(name, '/') && access(path, F_OK) != 0) {
        char *other = bora_format("%.*s../../models/%s", folder, golden, name);
        if (other && access(other, F_OK) == 0) {
            bora_free(path);
            path = bora_steal(&other);
        }
        bora_free(other);
    }
    if (!path)
        return bora_fail(err, BORA_E_NOMEM, "path");
    *ret_path = bora_steal(&path);
    return BORA_OK;
}

bora_status bora_tool_eval(const char *path, const char *out, const bora_tool_options *options, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *text = NULL;
    size_t size = 0;
    bora_status st = bora_file_read(path, GOLDEN_SIZE_MAX, &text, &size, err);
    if (st != BORA_OK)
        return st;
    json_error_t where;
    BORA_CLEANUP(jsonp) json_t *golden = json_loadb(text, size, 0, &where);
    if (!golden)
        return bora_fail(err, BORA_E_FORMAT, "%s:%d: %s", path, where.line, where.text);
    json_t *runs = json_object_get(golden, "runs");
    const char *model_name = json_string_value(json_object_get(golden, "model"));
    if (json_integer_value(json_object_get(golden, "format")) != 1 || !model_name || !json_is_array(runs))
        return bora_fail(err, BORA_E_FORMAT, "%s is not a golden description of format 1", path);

    BORA_CLEANUP(bora_freep) char *model_path = NULL;
    st = find_model(path, model_name, options->model, &model_path, err);
    if (st != BORA_OK)
        return st;
    BORA_CLEANUP(modelp) bora_model *model = NULL;
    bora_model_options model_options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    st = bora_tool_open(model_path, &model_options, options, &model, err);
    if (st == BORA_OK)
        st = bora_dir_make(out, 0777, err);
    if (st != BORA_OK)
        return st;

    size_t rows, positions, longest, vocab_size = bora_model_hparams(model)->vocab_size;
    measure_runs(runs, &rows, &positions, &longest);
    bora_pipeline_options pipeline_options = options->pipeline;
    pipeline_options.max_tokens = pipeline_options.max_logits = (uint32_t)rows;
    pipeline_options.max_positions = positions;
    pipeline_options.slack = (uint32_t)longest;
    BORA_CLEANUP(pipelinep) bora_pipeline *pipeline = NULL;
    st = bora_pipeline_new(model, &pipeline_options, options->log, &pipeline, err);
    if (st != BORA_OK)
        return st;
    size_t n_logits;
    if (!bora_size_mul(rows, vocab_size, &n_logits))
        return bora_fail(err, BORA_E_NOMEM, "logits");
    BORA_CLEANUP(bora_freep) float *pass_logits = bora_calloc(n_logits, sizeof *pass_logits);
    if (!pass_logits)
        return bora_fail(err, BORA_E_NOMEM, "logits");
    size_t r;
    json_t *json;
    json_array_foreach(runs, r, json)
    {
        eval_run run = {.options = options, .pipeline = pipeline, .out = out, .run = json, .pass_logits = pass_logits};
        st = run_one(&run, err);
        run_release(&run);
        if (st != BORA_OK)
            return st;
        printf("%s\n", run.name);
    }
    return BORA_OK;
}
