/* Inside of `bora-model bench`: what it measured, how much work a step is, how it is shown.
 *
 * bench.c runs and times, bench_count.c counts bytes and multiply-adds, bench_print.c prints. */
#ifndef BORA_TOOL_BENCH_H
#define BORA_TOOL_BENCH_H

#include "engine/profile.h"
#include "tool/tool.h"

/* What one forward pass takes at least, by the model's shape and types. */
typedef struct bora_bench_work {
    double fixed_bytes;   /* attention, norms, routers, output: read once per pass */
    double *expert_bytes; /* [n_layers] of one expert */
    double fixed_macs;    /* per token: attention's matrices, routers */
    double expert_macs;   /* per token: the experts it goes to, all layers */
    double output_macs;   /* per row of logits */
    double weight_bytes;  /* per pass, of one token */
} bora_bench_work;

/* Errors: NOMEM. */
bora_status bora_bench_work_init(bora_bench_work *work, const bora_model *model, bora_error *err);
void bora_bench_work_release(bora_bench_work *work);
/* Keys and values that decoding a token at position reads, all layers. */
double bora_bench_kv_bytes(const bora_pipeline *pipeline, uint64_t position);
/* Memory of a sequence of n positions, at most. */
double bora_bench_kv_memory(const bora_pipeline *pipeline, uint64_t n);
/* A bora_trace_fn on the experts that were chosen: adds up the bytes of those that a pass needs, each once. */
typedef struct bora_bench_experts {
    const bora_bench_work *work;
    uint32_t n_experts;
    double bytes;       /* of all passes */
    uint64_t n, layers; /* chosen, once per layer and pass; layers of all passes */
} bora_bench_experts;
void bora_bench_experts_count(void *experts, const char *name, const void *data, uint64_t n_rows, uint64_t n_cols);

/* The figures of one kind of pass. Medians over the rounds, all over the same time. */
typedef struct bora_bench_figures {
    double tokens_per_second;
    double pass_seconds;                /* decode: of a step; prefill: of the prompt */
    double bytes_per_second;            /* weights, and keys and values */
    double read_share;                  /* of that in what plain reading beside it reached */
    double macs_per_second;             /* of the matrices */
    double int8_share;                  /* of that in the int8 peak beside it */
    double read_limit;                  /* bytes per second, beside it */
    double profile[BORA_PROFILE_COUNT]; /* shares of the pass */
} bora_bench_figures;

typedef struct bora_bench_decode {
    uint32_t context, batch;
    char skipped[160];     /* why it was not run; "" if it was */
    double weight_bytes;   /* per step */
    double kv_bytes;       /* read per step */
    double sequence_bytes; /* memory of one sequence's cache */
    double experts;        /* that a step needs per layer; 0: dense */
    bora_bench_figures figures;
} bora_bench_decode;

typedef struct bora_bench_report {
    const bora_model *model;
    const bora_pipeline *pipeline;
    const bora_tool_bench_options *how;
    bora_bench_work work;
    double read_limit, int8_limit; /* medians of all probes */
    size_t read_size;              /* bytes that were read */
    double cpu_share;              /* mean of all probes: well below 1 others had a part of the processors */
    double model_seconds, pipeline_seconds, first_seconds; /* opening, preparing, the first prompt */
    bora_bench_figures prefill;                            /* without bytes: it is not bound by them */
    bora_bench_decode *decode;                             /* [n_decode] */
    size_t n_decode;
} bora_bench_report;

void bora_bench_print_table(const bora_bench_report *report);
void bora_bench_print_csv(const bora_bench_report *report);
/* Errors: NOMEM. */
bora_status bora_bench_print_json(const bora_bench_report *report, bora_error *err);

#endif
