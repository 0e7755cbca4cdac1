/* bora-model bench: how fast a model runs here, beside what the machine can do at most.
 *
 * Every measurement stands between two probes of the limits and is compared with their mean, because both wander
 * together. A context is not prefilled token by token: the keys and values of one page of random tokens are put in as
 * often as needed, which decoding cannot tell from the real thing, as its time does not depend on what they say. */
#include "tool/bench.h"

#include "base/memory.h"
#include "kernels/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHUNK      512u /* of prefill, as borad has it unless told otherwise */
#define PROBES_MAX 4096u
#define WARM_STEPS 2u

typedef struct bench {
    const bora_tool_options *options;
    const bora_tool_bench_options *how;
    bora_pipeline *pipeline;
    bora_pool *pool; /* the probes' */
    bora_limits *limits;
    bora_bench_report *report;
    int32_t *tokens; /* [n_tokens] random */
    size_t n_tokens;
    float *logits; /* [the largest batch, vocab_size] */
    bora_batch_part parts[BORA_BENCH_BATCH_MAX];
    double reads[PROBES_MAX], int8s[PROBES_MAX]; /* all probes */
    size_t n_reads, n_int8s;
    double cpu_shares; /* sum, of all probes */
    size_t n_cpu_shares;
} bench;

/* What one measurement of a pass gave, round by round. */
typedef struct samples {
    double seconds[BORA_BENCH_ROUNDS_MAX];
    double read[BORA_BENCH_ROUNDS_MAX], int8[BORA_BENCH_ROUNDS_MAX]; /* limits beside it */
    bora_profile profile;                                            /* of all rounds */
    size_t n;
} samples;

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time); /* cannot fail */
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts values [n], n > 0. */
static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* ---- the limits ---------------------------------------------------------------------------------------- */

static void note_cpu_share(bench *b, double share)
{
    b->cpu_shares += share;
    b->report->cpu_share = b->cpu_shares / (double)++b->n_cpu_shares;
}

static double probe_read(bench *b)
{
    bora_limit limit = bora_limits_read(b->limits);
    note_cpu_share(b, limit.cpu_share);
    if (b->n_reads < PROBES_MAX)
        b->reads[b->n_reads++] = limit.per_second;
    return limit.per_second;
}

static double probe_int8(bench *b)
{
    bora_limit limit = bora_limits_int8(b->limits);
    note_cpu_share(b, limit.cpu_share);
    if (b->n_int8s < PROBES_MAX)
        b->int8s[b->n_int8s++] = limit.per_second;
    return limit.per_second;
}

/* ---- passes ---------------------------------------------------------------------------------------------- */

/* n next tokens (from tokens on) of each sequence; the last of each gives logits if it is wanted. */
static bora_status forward(bench *b, bora_sequence *const *sequences, uint32_t n_sequences, uint32_t n, bool logits,
                           const int32_t *tokens, bora_error *err)
{
    for (uint32_t i = 0; i < n_sequences; i++)
        b->parts[i] = (bora_batch_part){.sequence = sequences[i], .n = n, .n_logits = logits};
    bora_batch batch = {.tokens = tokens, .parts = b->parts, .n_parts = n_sequences};
    return bora_pipeline_forward(b->pipeline, &batch, b->options->stop, b->logits, err);
}

/* The prompt, as a new sequence. */
static bora_status prefill(bench *b, uint32_t n, bora_error *err)
{
    bora_sequence *sequence = NULL;
    bora_status st = bora_sequence_open(b->pipeline, &sequence, err);
    for (uint32_t at = 0, rows; st == BORA_OK && at < n; at += rows) {
        rows = n - at < CHUNK ? n - at : CHUNK;
        st = forward(b, &sequence, 1, rows, at + rows == n, b->tokens + at, err);
    }
    bora_sequence_close(sequence);
    return st;
}

/* n steps of all sequences, which then are where they were. */
static bora_status decode(bench *b, bora_sequence *const *sequences, uint32_t n_sequences, uint32_t n,
                          double *ret_seconds, bora_error *err)
{
    uint64_t context = bora_sequence_n_cached(sequences[0]);
    bora_status st = BORA_OK;
    double start = now();
    for (uint32_t step = 0; st == BORA_OK && step < n; step++)
        st = forward(b, sequences, n_sequences, 1, true, b->tokens + (size_t)step * n_sequences, err);
    *ret_seconds = now() - start;
    for (uint32_t i = 0; st == BORA_OK && i < n_sequences; i++)
        st = bora_sequence_truncate(sequences[i], context, err);
    return st;
}

static void profile_add(bora_profile *sum, const bora_profile *before, const bora_profile *after)
{
    for (size_t k = 0; k < BORA_PROFILE_COUNT; k++)
        sum->ns[k] += after->ns[k] - before->ns[k];
}

/* The figures of passes that each take tokens, bytes and macs. */
static bora_bench_figures figures_of(const samples *s, double passes, double tokens, double bytes, double macs)
{
    double rate[BORA_BENCH_ROUNDS_MAX], read[BORA_BENCH_ROUNDS_MAX], int8[BORA_BENCH_ROUNDS_MAX];
    double limit[BORA_BENCH_ROUNDS_MAX], total = 0;
    for (size_t i = 0; i < s->n; i++) {
        rate[i] = passes / s->seconds[i];
        read[i] = bytes * rate[i] / s->read[i];
        int8[i] = macs * rate[i] / s->int8[i];
        limit[i] = s->read[i];
        total += s->seconds[i];
    }
    double per_second = median(rate, s->n);
    bora_bench_figures figures = {
        .tokens_per_second = tokens * per_second,
        .pass_seconds = 1 / per_second,
        .bytes_per_second = bytes * per_second,
        .read_share = median(read, s->n),
        .macs_per_second = macs * per_second,
        .int8_share = median(int8, s->n),
        .read_limit = median(limit, s->n),
    };
    for (size_t k = 0; k < BORA_PROFILE_COUNT; k++)
        figures.profile[k] = (double)s->profile.ns[k] * 1e-9 / total;
    return figures;
}

static void sample_add(samples *s, double seconds, double read_before, double read_after, double int8)
{
    s->seconds[s->n] = seconds > 1e-9 ? seconds : 1e-9;
    s->read[s->n] = (read_before + read_after) / 2;
    s->int8[s->n++] = int8;
}

static bora_status measure_prefill(bench *b, bora_error *err)
{
    const bora_bench_work *work = &b->report->work;
    const double n = b->how->n_prompt;
    samples s = {.n = 0};
    bora_status st = BORA_OK;
    for (uint32_t round = 0; st == BORA_OK && round < b->how->n_rounds; round++) {
        bora_profile before, after;
        double read_before = probe_read(b), int8_before = probe_int8(b);
        bora_pipeline_profile(b->pipeline, &before);
        double start = now();
        st = prefill(b, b->how->n_prompt, err);
        double seconds = now() - start;
        bora_pipeline_profile(b->pipeline, &after);
        profile_add(&s.profile, &before, &after);
        sample_add(&s, seconds, read_before, probe_read(b), (int8_before + probe_int8(b)) / 2);
    }
    if (st == BORA_OK)
        b->report->prefill = figures_of(&s, 1, n, 0, n * (work->fixed_macs + work->expert_macs) + work->output_macs);
    return st;
}

/* ---- contexts -------------------------------------------------------------------------------------------- */

/* The pages of which contexts are made. */
typedef struct filling {
    bora_page *whole, *rest; /* [n_classes]: pages of 64, and of as many positions as the last one has */
    size_t n_whole, n_rest;
} filling;

static void filling_release(filling *f)
{
    bora_pages_free(f->whole, f->n_whole);
    bora_pages_free(f->rest, f->n_rest);
}

static bora_status filling_make(bench *b, uint32_t context, filling *f, bora_error *err)
{
    bora_sequence *sequence = NULL;
    uint64_t keep_from[BORA_CLASSES_MAX];
    bora_status st = bora_sequence_open(b->pipeline, &sequence, err);
    if (st == BORA_OK)
        st = forward(b, &sequence, 1, BORA_PAGE_POSITIONS, false, b->tokens, err);
    if (st == BORA_OK)
        st = bora_sequence_export(sequence, 0, &f->whole, &f->n_whole, keep_from, err);
    if (st == BORA_OK && context % BORA_PAGE_POSITIONS) {
        st = bora_sequence_truncate(sequence, context % BORA_PAGE_POSITIONS, err);
        if (st == BORA_OK)
            st = bora_sequence_export(sequence, 0, &f->rest, &f->n_rest, keep_from, err);
    }
    bora_sequence_close(sequence);
    return st;
}

/* Sequences that stand at context. */
static bora_status fill(bench *b, uint32_t context, bora_sequence **sequences, uint32_t n_sequences, bora_error *err)
{
    BORA_CLEANUP(filling_release) filling f = {NULL};
    const size_t n_whole = context / BORA_PAGE_POSITIONS;
    size_t n = 0;
    bora_status st = context ? filling_make(b, context, &f, err) : BORA_OK;
    if (st != BORA_OK)
        return st;
    BORA_CLEANUP(bora_freep)
    bora_page *pages = bora_calloc(n_whole * f.n_whole + f.n_rest, sizeof *pages); /* data are the filling's */
    if (!pages)
        return bora_fail(err, BORA_E_NOMEM, "pages of %u positions", context);
    for (size_t c = 0; c < f.n_whole; c++)
        for (size_t i = 0; i < n_whole; i++) {
            pages[n] = f.whole[c];
            pages[n++].index = i;
        }
    for (size_t c = 0; c < f.n_rest; c++) {
        pages[n] = f.rest[c];
        pages[n++].index = n_whole;
    }
    for (uint32_t i = 0; st == BORA_OK && i < n_sequences; i++)
        st = bora_sequence_open(b->pipeline, &sequences[i], err);
    for (uint32_t i = 0; st == BORA_OK && i < n_sequences; i++)
        st = bora_sequence_import(sequences[i], context, pages, n, err);
    return st;
}

/* Bytes of memory that can be had without pushing others out; a large number if the system does not say. */
static double memory_available(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    bool known = false;
    while (file && !known && fgets(line, sizeof line, file))
        known = sscanf(line, "MemAvailable: %llu kB", &kib) == 1;
    if (file)
        (void)fclose(file); /* was only read */
    return known ? 1024.0 * (double)kib : 1e18;
}

/* Counts the experts that steps of this batch need, which warms caches up too. */
static bora_status warm_up(bench *b, bora_sequence *const *sequences, bora_bench_decode *d, bora_error *err)
{
    const bora_hparams *hp = bora_model_hparams(b->report->model);
    const bora_bench_work *work = &b->report->work;
    const bool dense = hp->n_experts == 1;
    uint32_t n = dense && b->how->n_steps > WARM_STEPS ? WARM_STEPS : b->how->n_steps;
    bora_bench_experts experts = {.work = work, .n_experts = hp->n_experts};
    double seconds;
    bora_pipeline_trace(b->pipeline, dense ? NULL : bora_bench_experts_count, &experts);
    bora_status st = decode(b, sequences, d->batch, n, &seconds, err);
    bora_pipeline_trace(b->pipeline, NULL, NULL);
    d->weight_bytes = dense || !experts.layers ? work->weight_bytes : work->fixed_bytes + experts.bytes / n;
    d->experts = experts.layers ? (double)experts.n / (double)experts.layers : 0;
    for (uint32_t step = 0; step < b->how->n_steps; step++)
        d->kv_bytes += bora_bench_kv_bytes(b->pipeline, (uint64_t)d->context + step) * d->batch / b->how->n_steps;
    d->sequence_bytes = (double)bora_sequence_bytes(sequences[0]);
    return st;
}

/* All batches of one context: list [n]. */
static bora_status measure_decode(bench *b, bora_bench_decode *list, size_t n, bora_error *err)
{
    const bora_bench_work *work = &b->report->work;
    bora_sequence *sequences[BORA_BENCH_BATCH_MAX] = {NULL};
    BORA_CLEANUP(bora_freep) samples *s = bora_calloc(n, sizeof *s);
    uint32_t largest = 0;
    if (!s)
        return bora_fail(err, BORA_E_NOMEM, "samples");
    for (size_t i = 0; i < n; i++)
        if (!*list[i].skipped && list[i].batch > largest)
            largest = list[i].batch;
    if (!largest)
        return BORA_OK;
    bora_status st = fill(b, list->context, sequences, largest, err);
    for (size_t i = 0; st == BORA_OK && i < n; i++)
        if (!*list[i].skipped)
            st = warm_up(b, sequences, &list[i], err);
    for (uint32_t round = 0; st == BORA_OK && round < b->how->n_rounds; round++) {
        double int8 = probe_int8(b), read = probe_read(b);
        for (size_t i = 0; st == BORA_OK && i < n; i++) {
            bora_profile before, after;
            double seconds = 0;
            if (*list[i].skipped)
                continue;
            bora_pipeline_profile(b->pipeline, &before);
            st = decode(b, sequences, list[i].batch, b->how->n_steps, &seconds, err);
            bora_pipeline_profile(b->pipeline, &after);
            double read_after = probe_read(b);
            profile_add(&s[i].profile, &before, &after);
            sample_add(&s[i], seconds, read, read_after, int8);
            read = read_after;
        }
    }
    for (size_t i = 0; st == BORA_OK && i < n; i++)
        if (!*list[i].skipped)
            list[i].figures = figures_of(&s[i], b->how->n_steps, list[i].batch, list[i].weight_bytes + list[i].kv_bytes,
                                         list[i].batch * (work->fixed_macs + work->expert_macs + work->output_macs));
    for (uint32_t i = 0; i < largest; i++)
        bora_sequence_close(sequences[i]);
    return st;
}

/* Says of each measurement whether it can be run. */
static void judge(bench *b, bora_bench_decode *d)
{
    const uint32_t stated = bora_model_hparams(b->report->model)->context_length;
    const uint64_t end = (uint64_t)d->context + b->how->n_steps;
    double need = bora_bench_kv_memory(b->pipeline, end) * d->batch, free_now = memory_available();
    if (stated && end > stated)
        (void)snprintf(d->skipped, sizeof d->skipped, "the model is made for %u positions", stated);
    else if (need > free_now)
        (void)snprintf(d->skipped, sizeof d->skipped, "keys and values take %.1f GB, %.1f GB of memory are free",
                       need * 1e-9, free_now * 1e-9);
}

/* ---- the whole ------------------------------------------------------------------------------------------- */

static bora_status open_pipeline(bench *b, const bora_model *model, bora_error *err)
{
    const bora_tool_bench_options *how = b->how;
    uint32_t batch = 1, context = 0, chunk = how->n_prompt < CHUNK ? how->n_prompt : CHUNK;
    for (size_t i = 0; i < how->n_batches; i++)
        batch = how->batches[i] > batch ? how->batches[i] : batch;
    for (size_t i = 0; i < how->n_contexts; i++)
        context = how->contexts[i] > context ? how->contexts[i] : context;
    bora_pipeline_options options = b->options->pipeline;
    options.max_tokens = chunk > batch ? chunk : batch;
    if (options.max_tokens < BORA_PAGE_POSITIONS)
        options.max_tokens = BORA_PAGE_POSITIONS;
    options.max_logits = batch;
    options.slack = how->n_steps > CHUNK ? how->n_steps : CHUNK;
    options.max_positions = (uint64_t)context + how->n_steps;
    if (options.max_positions < how->n_prompt)
        options.max_positions = how->n_prompt;
    if (options.max_positions < BORA_PAGE_POSITIONS)
        options.max_positions = BORA_PAGE_POSITIONS;
    b->n_tokens = (size_t)batch * how->n_steps;
    if (b->n_tokens < how->n_prompt)
        b->n_tokens = how->n_prompt;
    if (b->n_tokens < BORA_PAGE_POSITIONS)
        b->n_tokens = BORA_PAGE_POSITIONS;
    b->tokens = bora_calloc(b->n_tokens, sizeof *b->tokens);
    b->logits = bora_calloc(batch, bora_model_hparams(model)->vocab_size * sizeof *b->logits);
    if (!b->tokens || !b->logits)
        return bora_fail(err, BORA_E_NOMEM, "tokens");
    uint64_t state = 1;
    for (size_t i = 0; i < b->n_tokens; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        b->tokens[i] = (int32_t)((state >> 33) % bora_model_hparams(model)->vocab_size);
    }
    return bora_pipeline_new(model, &options, b->options->log, &b->pipeline, err);
}

static bora_status measure(bench *b, bora_error *err)
{
    bora_bench_report *report = b->report;
    double start = now();
    bora_status st = prefill(b, b->how->n_prompt, err); /* cold: the first one of a process */
    report->first_seconds = now() - start;
    if (st == BORA_OK)
        st = measure_prefill(b, err);
    for (size_t c = 0, i = 0; st == BORA_OK && c < b->how->n_contexts; c++) {
        bora_bench_decode *list = report->decode + i;
        for (size_t k = 0; k < b->how->n_batches; k++) {
            report->decode[i] = (bora_bench_decode){.context = b->how->contexts[c], .batch = b->how->batches[k]};
            judge(b, &report->decode[i++]);
        }
        st = measure_decode(b, list, b->how->n_batches, err);
    }
    if (st == BORA_OK && bora_model_is_damaged(report->model))
        return bora_fail(err, BORA_E_IO, "the model was cut short while it was read");
    return st;
}

static void modelp(bora_model **model)
{
    bora_model_free(*model);
}

static void bench_release(bench *b)
{
    bora_pipeline_free(b->pipeline);
    bora_limits_free(b->limits);
    bora_pool_free(b->pool);
    bora_free(b->tokens);
    bora_free(b->logits);
}

static void report_release(bora_bench_report *report)
{
    bora_bench_work_release(&report->work);
    bora_free(report->decode);
}

static void benchp(bench **b)
{
    if (*b)
        bench_release(*b);
    bora_free(*b);
}

bora_status bora_tool_bench(const char *path, const bora_tool_bench_options *how, const bora_tool_options *options,
                            bora_error *err)
{
    BORA_CLEANUP(modelp) bora_model *model = NULL;
    BORA_CLEANUP(report_release)
    bora_bench_report report = {.how = how, .cpu_share = 1, .n_decode = how->n_batches * how->n_contexts};
    BORA_CLEANUP(benchp) bench *b = bora_calloc(1, sizeof *b);
    report.decode = bora_calloc(report.n_decode, sizeof *report.decode);
    if (!b || !report.decode)
        return bora_fail(err, BORA_E_NOMEM, "bench");
    b->options = options;
    b->how = how;
    b->report = &report;
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    uint32_t n_threads = options->pipeline.n_threads ? options->pipeline.n_threads : cpu.n_cores;
    bora_status st = bora_pool_new(n_threads, &b->pool, err);
    if (st == BORA_OK)
        st = bora_limits_new(&cpu, b->pool, 0, &b->limits, err);
    if (st != BORA_OK)
        return st;
    (void)probe_read(b); /* the first one warms up */
    (void)probe_int8(b);
    b->n_reads = b->n_int8s = b->n_cpu_shares = 0;
    b->cpu_shares = 0;
    report.read_size = bora_limits_size(b->limits);
    (void)probe_read(b);
    (void)probe_int8(b);

    double start = now();
    bora_model_options model_options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    if ((st = bora_tool_open(path, &model_options, options, &model, err)) != BORA_OK)
        return st;
    const uint32_t stated = bora_model_hparams(model)->context_length;
    if (stated && how->n_prompt > stated)
        return bora_fail(err, BORA_E_INVAL, "'%.200s': a prompt of %u tokens is longer than the model's context of %u",
                         path, how->n_prompt, stated);
    report.model = model;
    report.model_seconds = now() - start;
    if ((st = bora_bench_work_init(&report.work, model, err)) != BORA_OK)
        return st;
    start = now();
    if ((st = open_pipeline(b, model, err)) != BORA_OK)
        return st;
    report.pipeline = b->pipeline;
    report.pipeline_seconds = now() - start;
    if ((st = measure(b, err)) != BORA_OK)
        return st;
    report.read_limit = median(b->reads, b->n_reads);
    report.int8_limit = median(b->int8s, b->n_int8s);
    if (how->format == BORA_BENCH_JSON)
        return bora_bench_print_json(&report, err);
    if (how->format == BORA_BENCH_CSV)
        bora_bench_print_csv(&report);
    else
        bora_bench_print_table(&report);
    return BORA_OK;
}
