/* Tokens per second of the embedded model through the whole pipeline: prefill, decoding alone, decoding eight sequences
 * together; with each expert plugin, with one and two compute threads. All variants take turns within each round,
 * because a machine's speed wanders; what counts are the ratios of the medians.
 *
 *   bench_engine [rounds [MODEL]] */
#include "base/memory.h"
#include "engine/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS_MAX 101u
#define PROMPT     384u
#define STEPS      24u
#define TOGETHER   8u

typedef enum figure { PREFILL, DECODE, DECODE_TOGETHER, N_FIGURES } figure;

typedef struct variant {
    const char *expert;
    uint32_t n_threads;
    bora_pipeline *pipeline;
    double speeds[N_FIGURES][ROUNDS_MAX]; /* tokens per second */
    double medians[N_FIGURES];
} variant;

static variant variants[] = {{.expert = "reference", .n_threads = 1},
                             {.expert = "reference", .n_threads = 2},
                             {.expert = "blas", .n_threads = 1},
                             {.expert = "blas", .n_threads = 2}};
#define N_VARIANTS BORA_ARRAY_SIZE(variants)

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* n rows of each sequence in one batch. */
static bora_status forward(variant *v, bora_sequence **sequences, uint32_t n_sequences, uint32_t n, float *logits,
                           bora_error *err)
{
    static int32_t tokens[PROMPT + TOGETHER];
    bora_batch_part parts[TOGETHER];
    int32_t vocab_size = (int32_t)bora_model_hparams(bora_pipeline_model(v->pipeline))->vocab_size;
    for (uint32_t i = 0; i < n * n_sequences; i++)
        tokens[i] = (int32_t)(i * 2654435761u >> 8) % vocab_size;
    for (uint32_t i = 0; i < n_sequences; i++)
        parts[i] = (bora_batch_part){.sequence = sequences[i], .n = n, .n_logits = 1};
    bora_batch batch = {.tokens = tokens, .parts = parts, .n_parts = n_sequences};
    return bora_pipeline_forward(v->pipeline, &batch, NULL, logits, err);
}

static bora_status run_round(variant *v, uint32_t round, float *logits, bora_error *err)
{
    bora_sequence *sequences[TOGETHER] = {NULL};
    bora_status st = BORA_OK;
    for (uint32_t i = 0; st == BORA_OK && i < TOGETHER; i++)
        st = bora_sequence_open(v->pipeline, &sequences[i], err);
    for (uint32_t i = 0; st == BORA_OK && i < TOGETHER; i++) { /* the first is the one that counts */
        double start = now();
        st = forward(v, &sequences[i], 1, i ? PROMPT / 4 : PROMPT, logits, err);
        if (i == 0)
            v->speeds[PREFILL][round] = PROMPT / (now() - start);
    }
    double start = now();
    for (uint32_t i = 0; st == BORA_OK && i < STEPS; i++)
        st = forward(v, sequences, 1, 1, logits, err);
    double middle = now();
    for (uint32_t i = 0; st == BORA_OK && i < STEPS; i++)
        st = forward(v, sequences, TOGETHER, 1, logits, err);
    v->speeds[DECODE][round] = STEPS / (middle - start);
    v->speeds[DECODE_TOGETHER][round] = STEPS * TOGETHER / (now() - middle);
    for (uint32_t i = 0; i < TOGETHER; i++)
        bora_sequence_close(sequences[i]);
    return st;
}

static bora_status open_variant(variant *v, const bora_model *model, const bora_log *log, bora_error *err)
{
    bora_pipeline_options options = {
        .n_threads = v->n_threads,
        .n_stages = 1,
        .max_tokens = PROMPT,
        .max_logits = TOGETHER,
        .slack = PROMPT,
        .max_positions = 4096,
        .kv_dtype = BORA_DTYPE_F32,
        .plugin_path = BORA_BUILD_DIR "/lib/bora/plugins",
        .plugins = {NULL, "reference", "ring", v->expert, NULL},
    };
    return bora_pipeline_new(model, &options, log, &v->pipeline, err);
}

static void print_results(uint32_t rounds)
{
    printf("%-12s %8s %14s %14s %14s %9s\n", "expert", "threads", "prefill tok/s", "decode tok/s", "8 together",
           "8 to 1");
    for (variant *v = variants; v < variants + N_VARIANTS; v++) {
        for (size_t f = 0; f < N_FIGURES; f++) {
            qsort(v->speeds[f], rounds, sizeof v->speeds[f][0], compare);
            v->medians[f] = v->speeds[f][rounds / 2];
        }
        printf("%-12s %8u %14.0f %14.0f %14.0f %8.2fx\n", v->expert, v->n_threads, v->medians[PREFILL],
               v->medians[DECODE], v->medians[DECODE_TOGETHER], v->medians[DECODE_TOGETHER] / v->medians[DECODE]);
    }
    static const struct {
        const char *name;
        size_t of, to; /* variants */
    } ratios[] = {{"blas to reference, 1 thread", 2, 0},
                  {"blas to reference, 2 threads", 3, 1},
                  {"2 threads to 1, reference", 1, 0},
                  {"2 threads to 1, blas", 3, 2}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ratios); i++) {
        const double *of = variants[ratios[i].of].medians, *to = variants[ratios[i].to].medians;
        printf("%-30s prefill %5.2f  decode %5.2f  8 together %5.2f\n", ratios[i].name, of[PREFILL] / to[PREFILL],
               of[DECODE] / to[DECODE], of[DECODE_TOGETHER] / to[DECODE_TOGETHER]);
    }
}

int main(int argc, char **argv)
{
    long asked = argc > 1 ? strtol(argv[1], NULL, 10) : 7;
    uint32_t rounds = asked < 1 ? 1 : asked > (long)ROUNDS_MAX ? ROUNDS_MAX : (uint32_t)asked;
    const char *path = argc > 2 ? argv[2] : BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf";
    (void)setenv("OPENBLAS_NUM_THREADS", "1", 1); /* before the plugin loads it: the host owns the threads */
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    bora_error err = {""};
    bora_model *model = NULL;
    bora_status st = bora_model_open(path, NULL, &log, &model, &err);
    for (size_t v = 0; st == BORA_OK && v < N_VARIANTS; v++)
        st = open_variant(&variants[v], model, &log, &err);
    float *logits =
        st == BORA_OK ? bora_calloc((size_t)TOGETHER * bora_model_hparams(model)->vocab_size, sizeof *logits) : NULL;
    if (st == BORA_OK && !logits)
        st = bora_fail(&err, BORA_E_NOMEM, "logits");
    for (size_t v = 0; st == BORA_OK && v < N_VARIANTS; v++) /* caches and clocks warm up */
        st = run_round(&variants[v], 0, logits, &err);
    for (uint32_t round = 0; st == BORA_OK && round < rounds; round++)
        for (size_t v = 0; st == BORA_OK && v < N_VARIANTS; v++)
            st = run_round(&variants[v], round, logits, &err);
    if (st == BORA_OK) {
        printf("%s, %s, prompt of %u, %u steps, median of %u\n", bora_model_name(model),
               bora_cpu_name(bora_pipeline_cpu(variants[0].pipeline)), PROMPT, STEPS, rounds);
        print_results(rounds);
    } else {
        fprintf(stderr, "bench_engine: %s\n", err.message);
    }
    bora_free(logits);
    for (size_t v = 0; v < N_VARIANTS; v++)
        bora_pipeline_free(variants[v].pipeline);
    bora_model_free(model);
    return st == BORA_OK ? 0 : 1;
}
