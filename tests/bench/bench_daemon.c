/* What the daemon costs beside the engine, per token: a libbora client on a private borad against bare forward passes
 * of the same model, plugins, tokens and positions, in turns within one run. In between stand the parts: the sampler
 * alone, and the scheduler in this process (forward passes, sampler, text, mailbox). What is left is the server's loop,
 * the protocol, the socket and the client.
 *
 * A figure is the median of the times between tokens, so that interruptions do not count; of the runs the median is
 * taken again. Beside it stands the processor time of a token, all threads together, which holds on a busy machine too.
 * Target: under 50 us a token. Nothing is judged.
 *
 *   bench_daemon [runs [threads [MODEL]]] */
#include "base/memory.h"
#include "engine/scheduler.h"
#include "support/chat.h"
#include "support/daemon.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS_MAX 101u
#define PROMPT   32u
#define TOKENS   256u
#define TARGET   50e-6 /* seconds */

enum { ENGINE, SAMPLER, SCHEDULER, CLIENT, N_PARTS }; /* figures */

typedef struct bench {
    uint32_t runs;
    bora_log log;
    bora_model *model;
    bora_pipeline *pipeline; /* of bare passes */
    bora_sampler *sampler;
    bora_mailbox *events;
    bora_scheduler *scheduler; /* with a pipeline of its own */
    bora_test_daemon daemon;
    bora_client *client;
    float *logits;
    int32_t tokens[PROMPT + TOKENS]; /* the prompt, then what the daemon answered first */
    double at[TOKENS];               /* of one run: when each token came */
    size_t n_at;
    double medians[N_PARTS][RUNS_MAX]; /* seconds per token */
    double cpu[N_PARTS][RUNS_MAX];     /* of processors, per token, prompt included; none of SAMPLER */
    clockid_t daemon_clock;
} bench;

static double clock_seconds(clockid_t clock)
{
    struct timespec time = {0};
    (void)clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

/* Processor time of this process and of the daemon. */
static double cpu_now(const bench *b)
{
    return clock_seconds(CLOCK_PROCESS_CPUTIME_ID) + clock_seconds(b->daemon_clock);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

/* Of the times between b->at. */
static double median_interval(const bench *b)
{
    double intervals[TOKENS];
    for (size_t i = 1; i < b->n_at; i++)
        intervals[i - 1] = b->at[i] - b->at[i - 1];
    return median(intervals, b->n_at - 1);
}

/* ---- the client ---------------------------------------------------------------------------------------- */

static int on_event(void *context, const bora_client_event *event)
{
    bench *b = context;
    if (event->kind == BORA_CLIENT_EVENT_TOKEN && b->n_at < TOKENS) {
        b->tokens[PROMPT + b->n_at] = event->token;
        b->at[b->n_at++] = now();
    }
    return 0;
}

static bora_status run_client(bench *b, double *ret, bora_error *err)
{
    bora_client_error error = {0};
    bora_client_generation generation = {
        .tokens = b->tokens,
        .n_tokens = PROMPT,
        .ignore_eos = true,
        .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE,
        .max_tokens = TOKENS,
    };
    b->n_at = 0;
    if (bora_client_generate(b->client, &generation, on_event, b, &error) != BORA_CLIENT_OK || b->n_at != TOKENS)
        return bora_fail(err, BORA_E_IO, "the daemon gave %zu tokens: %.200s", b->n_at, error.message);
    *ret = median_interval(b);
    return BORA_OK;
}

/* ---- in this process ------------------------------------------------------------------------------------- */

static bora_status forward(bench *b, bora_sequence *sequence, const int32_t *tokens, uint32_t n, bora_error *err)
{
    bora_batch_part part = {.sequence = sequence, .n = n, .n_logits = 1};
    bora_batch batch = {.tokens = tokens, .parts = &part, .n_parts = 1};
    return bora_pipeline_forward(b->pipeline, &batch, NULL, b->logits, err);
}

/* The passes alone, and the sampler on what they gave, beside each other but timed apart. */
static bora_status run_engine(bench *b, double *ret_engine, double *ret_sampler, bora_error *err)
{
    const bora_sampling sampling = {.top_p = 1, .repetition_penalty = 1, .repetition_window = 64};
    double passes[TOKENS], choices[TOKENS];
    size_t n = 0;
    bora_sequence *sequence = NULL;
    bora_status st = bora_sequence_open(b->pipeline, &sequence, err);
    if (st == BORA_OK)
        st = forward(b, sequence, b->tokens, PROMPT, err);
    for (; st == BORA_OK && n + 1 < TOKENS; n++) {
        const size_t position = PROMPT + n + 1;
        int32_t token;
        float logprob;
        double start = now();
        st = forward(b, sequence, b->tokens + PROMPT + n, 1, err);
        double middle = now();
        if (st == BORA_OK)
            st = bora_sampler_choose(b->sampler, &sampling, b->logits, NULL, b->tokens, position, position, &token,
                                     &logprob, err);
        choices[n] = now() - middle;
        passes[n] = middle - start;
        if (st == BORA_OK && token != b->tokens[position])
            st = bora_fail(err, BORA_E_INTERNAL, "token %zu is %d here and was %d in the daemon", position, token,
                           b->tokens[position]);
    }
    bora_sequence_close(sequence);
    if (st == BORA_OK) {
        *ret_engine = median(passes, n);
        *ret_sampler = median(choices, n);
    }
    return st;
}

static bora_status run_scheduler(bench *b, double *ret, bora_error *err)
{
    bora_generation *generation = bora_calloc(1, sizeof *generation);
    int32_t *tokens = bora_calloc(PROMPT, sizeof *tokens);
    if (!generation || !tokens) {
        bora_free(generation);
        bora_free(tokens);
        return bora_fail(err, BORA_E_NOMEM, "generation");
    }
    memcpy(tokens, b->tokens, PROMPT * sizeof *tokens);
    generation->id = 1;
    generation->tokens = tokens;
    generation->n_tokens = PROMPT;
    generation->max_generated = TOKENS;
    generation->sampling = BORA_SAMPLING_DEFAULT;
    generation->sampling.temperature = 0;
    generation->ignore_eos = true;
    generation->continues_text = true;
    bora_status st = bora_scheduler_submit(b->scheduler, generation, err);
    if (st != BORA_OK) {
        bora_generation_free(generation);
        return st;
    }
    b->n_at = 0;
    for (bool done = false; !done;) {
        bora_event *event = (bora_event *)bora_mailbox_wait(b->events, -1);
        if (event->type == BORA_EVENT_TOKEN && b->n_at < TOKENS)
            b->at[b->n_at++] = now();
        done = event->type == BORA_EVENT_DONE;
        bora_event_free(event);
    }
    if (b->n_at != TOKENS)
        return bora_fail(err, BORA_E_INTERNAL, "the scheduler gave %zu tokens", b->n_at);
    *ret = median_interval(b);
    return BORA_OK;
}

/* ---- making ready ---------------------------------------------------------------------------------------- */

/* As borad has it unless told otherwise. */
static bora_status open_pipeline(bench *b, uint32_t n_threads, bora_pipeline **ret_pipeline, bora_error *err)
{
    const bora_pipeline_options options = {
        .n_threads = n_threads,
        .n_stages = 1,
        .max_tokens = 512,
        .max_logits = 16,
        .slack = 512,
        .max_positions = 4096,
        .kv_dtype = BORA_DTYPE_F16,
        .plugin_path = BORA_BUILD_DIR "/lib/bora/plugins",
        .plugins = {NULL, "flash", "ring", "quant", NULL},
    };
    return bora_pipeline_new(b->model, &options, &b->log, ret_pipeline, err);
}

static bora_status bench_init(bench *b, uint32_t n_threads, const char *path, bora_error *err)
{
    bora_pipeline *pipeline = NULL;
    const bora_scheduler_options options = {.chunk = 512, .batch_tokens = 512, .max_running = 16};
    bora_log_init(&b->log, BORA_LOG_WARN);
    bora_status st = bora_model_open(path, NULL, &b->log, &b->model, err);
    if (st == BORA_OK)
        st = open_pipeline(b, n_threads, &b->pipeline, err);
    if (st == BORA_OK)
        st = open_pipeline(b, n_threads, &pipeline, err);
    if (st == BORA_OK)
        st = bora_mailbox_new(&b->events, err);
    if (st == BORA_OK)
        st = bora_scheduler_new(pipeline, &options, b->events, &b->log, &b->scheduler, err);
    if (st != BORA_OK) {
        bora_pipeline_free(pipeline);
        return st;
    }
    const uint32_t vocab_size = bora_model_hparams(b->model)->vocab_size;
    if ((st = bora_sampler_new(vocab_size, &b->sampler, err)) != BORA_OK)
        return st;
    b->logits = bora_calloc(vocab_size, sizeof *b->logits);
    if (!b->logits)
        return bora_fail(err, BORA_E_NOMEM, "logits");
    for (uint32_t i = 0; i < PROMPT; i++)
        b->tokens[i] = (int32_t)((i + 1) * 2654435761u >> 8) % (int32_t)vocab_size;

    char threads[32];
    (void)snprintf(threads, sizeof threads, "engine.threads=%u", n_threads);
    const char *const arguments[] = {"--model", path, "--set", threads, NULL};
    int code = 0;
    if (!bora_test_daemon_init(&b->daemon) || !bora_test_daemon_start(&b->daemon, arguments, &code))
        return bora_fail(err, BORA_E_IO, "borad did not start: %d", code);
    if (clock_getcpuclockid(b->daemon.pid, &b->daemon_clock) != 0)
        return bora_fail(err, BORA_E_IO, "no clock of borad's");
    b->client = bora_test_connect(b->daemon.socket);
    return b->client ? BORA_OK : bora_fail(err, BORA_E_IO, "no connection");
}

static void bench_release(bench *b)
{
    bora_client_close(b->client);
    bora_test_daemon_release(&b->daemon);
    if (b->scheduler)
        bora_scheduler_stop(b->scheduler);
    bora_scheduler_free(b->scheduler);
    for (bora_event *event; b->events && (event = (bora_event *)bora_mailbox_take(b->events));)
        bora_event_free(event);
    bora_mailbox_free(b->events);
    bora_sampler_free(b->sampler);
    bora_pipeline_free(b->pipeline);
    bora_free(b->logits);
    bora_model_free(b->model);
}

static bora_status run_all(bench *b, uint32_t run, bora_error *err)
{
    double start = cpu_now(b);
    bora_status st = run_client(b, &b->medians[CLIENT][run], err);
    b->cpu[CLIENT][run] = (cpu_now(b) - start) / TOKENS;
    start = cpu_now(b);
    if (st == BORA_OK)
        st = run_engine(b, &b->medians[ENGINE][run], &b->medians[SAMPLER][run], err);
    b->cpu[ENGINE][run] = (cpu_now(b) - start) / TOKENS - b->medians[SAMPLER][run];
    start = cpu_now(b);
    if (st == BORA_OK)
        st = run_scheduler(b, &b->medians[SCHEDULER][run], err);
    b->cpu[SCHEDULER][run] = (cpu_now(b) - start) / TOKENS;
    return st;
}

static void print_line(const char *name, double seconds, const char *what)
{
    printf("%-12s %9.1f us  %s\n", name, seconds * 1e6, what);
}

static void print_results(bench *b)
{
    double overheads[RUNS_MAX], parts[N_PARTS], cpu[N_PARTS];
    for (uint32_t run = 0; run < b->runs; run++)
        overheads[run] = b->medians[CLIENT][run] - b->medians[ENGINE][run];
    for (size_t p = 0; p < N_PARTS; p++)
        parts[p] = median(b->medians[p], b->runs);
    for (size_t p = 0; p < N_PARTS; p++)
        cpu[p] = median(b->cpu[p], b->runs);
    double overhead = median(overheads, b->runs);
    print_line("client", parts[CLIENT], "from token to token, as a client of borad sees it");
    print_line("engine", parts[ENGINE], "a forward pass");
    print_line("overhead", overhead,
               overhead < TARGET ? "a token: under the target of 50" : "a token: OVER the target of 50");
    print_line("  sampler", parts[SAMPLER], "greedy, with the log-probability");
    print_line("  scheduler", parts[SCHEDULER] - parts[ENGINE] - parts[SAMPLER],
               "choosing what to run, text of tokens, handing events over");
    print_line("  protocol", parts[CLIENT] - parts[SCHEDULER], "the server's loop, msgpack, the socket, the client");
    printf("\nprocessor time\n");
    print_line("client", cpu[CLIENT], "borad and client");
    print_line("engine", cpu[ENGINE], "passes");
    print_line("  scheduler", cpu[SCHEDULER] - cpu[ENGINE], "with the sampler");
    print_line("  protocol", cpu[CLIENT] - cpu[SCHEDULER],
               "on both sides, beside the next pass if a processor is free");
}

int main(int argc, char **argv)
{
    static bench b;
    bora_error err = {""};
    long runs = argc > 1 ? strtol(argv[1], NULL, 10) : 9, threads = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    const char *path = argc > 3 ? argv[3] : BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf";
    b.runs = runs < 1 ? 1 : runs > (long)RUNS_MAX ? RUNS_MAX : (uint32_t)runs;
    (void)setenv("OPENBLAS_NUM_THREADS", "1", 1); /* before the plugin loads it: the host owns the threads */
    bora_status st = bench_init(&b, threads > 0 && threads <= 1024 ? (uint32_t)threads : 0, path, &err);
    if (st == BORA_OK)
        st = run_all(&b, 0, &err); /* warms up */
    for (uint32_t run = 0; st == BORA_OK && run < b.runs; run++)
        st = run_all(&b, run, &err);
    if (st == BORA_OK) {
        printf("%s, %u threads, %u tokens after a prompt of %u, median of %u\n", bora_model_name(b.model),
               bora_pipeline_options_of(b.pipeline)->n_threads, TOKENS, PROMPT, b.runs);
        print_results(&b);
    } else {
        fprintf(stderr, "bench_daemon: %s\n", err.message);
    }
    bench_release(&b);
    return st == BORA_OK ? 0 : 1;
}
