/* What was measured, as a table for people, as JSON and as CSV for programs. */
#include "tool/bench.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- for people ------------------------------------------------------------------------------------------ */

static const char *plugin_name(const bora_bench_report *report, uint32_t kind)
{
    const bora_plugin_library *library = bora_pipeline_plugin(report->pipeline, kind);
    return library ? bora_plugin_name(library) : "none";
}

static const char *kv_type(const bora_bench_report *report)
{
    const uint32_t dtype = bora_pipeline_options_of(report->pipeline)->kv_dtype;
    return dtype == BORA_DTYPE_F16 ? "f16" : dtype == BORA_DTYPE_Q8_0 ? "q8_0" : "f32";
}

/* "850 MB" or "4.1 GB" into text [16]. */
static const char *size_text(double bytes, char *text)
{
    if (bytes < 1e9)
        (void)snprintf(text, 16, "%.*f MB", bytes < 1e7 ? 1 : 0, bytes * 1e-6);
    else
        (void)snprintf(text, 16, "%.1f GB", bytes * 1e-9);
    return text;
}

static void print_head(const bora_bench_report *report)
{
    const bora_pipeline_options *options = bora_pipeline_options_of(report->pipeline);
    const bora_cpu *cpu = bora_pipeline_cpu(report->pipeline);
    const double parameters = (double)bora_model_n_parameters(report->model);
    const double macs = report->work.fixed_macs + report->work.expert_macs + report->work.output_macs;
    char windows[128], size[16], active[16], memory[16], types[128];
    bora_hparams_windows_text(bora_model_hparams(report->model), windows, sizeof windows);
    bora_model_types_text(report->model, types, sizeof types);
    printf("model      %s, %.*f %s parameters (%s), %s; window: %s\n", bora_model_name(report->model),
           parameters < 1e10 ? 2 : 1, parameters * (parameters < 1e9 ? 1e-6 : 1e-9),
           parameters < 1e9 ? "million" : "billion", types, size_text((double)bora_model_size(report->model), size),
           windows);
    printf("run        %u threads of %u cores (%s), attention %s, cache %s (%s), experts %s", options->n_threads,
           cpu->n_cores, bora_cpu_name(cpu), plugin_name(report, BORA_PLUGIN_ATTENTION),
           plugin_name(report, BORA_PLUGIN_CACHE), kv_type(report), plugin_name(report, BORA_PLUGIN_EXPERT));
    if (options->n_stages > 1)
        printf(", %u stages by %s", options->n_stages, plugin_name(report, BORA_PLUGIN_LINK));
    printf(
        "\nlimits     read %.1f GB/s, int8 %.0f GMAC/s: what these threads reach here by only reading (%s of memory), "
        "and by\n           only multiplying small integers (10^9 multiply-adds a second)\n",
        report->read_limit * 1e-9, report->int8_limit * 1e-9, size_text((double)report->read_size, memory));
    printf("start      %.2f s to open and prepare; then %.2f s for the first prompt of %u tokens\n",
           report->model_seconds + report->pipeline_seconds, report->first_seconds, report->how->n_prompt);
    printf("a token    reads %s of weights; %.2f %s multiply-adds in them\n\n",
           size_text(report->work.weight_bytes, active), macs < 1e9 ? macs * 1e-6 : macs * 1e-9,
           macs < 1e9 ? "million" : "billion");
}

static void print_profile(const char *name, const bora_bench_figures *figures)
{
    double rest = 1;
    printf("%-20s", name);
    for (size_t k = 0; k < BORA_PROFILE_COUNT; k++) {
        printf(" %10.1f", 100 * figures->profile[k]);
        rest -= figures->profile[k];
    }
    printf(" %10.1f\n", 100 * rest);
}

static void print_profiles(const bora_bench_report *report)
{
    const bool overlaps = bora_pipeline_options_of(report->pipeline)->n_stages > 1;
    printf("\nwhere the time goes, in %% of it%s\n%-20s",
           overlaps ? " (stages work at once: more than 100 in all)" : "", "");
    for (uint32_t k = 0; k < BORA_PROFILE_COUNT; k++)
        printf(" %10s", bora_profile_name(k));
    printf(" %10s\n", "rest");
    print_profile("prefill", &report->prefill);
    for (size_t i = 0; i < report->n_decode; i++) {
        const bora_bench_decode *d = &report->decode[i];
        char name[32];
        (void)snprintf(name, sizeof name, "decode %u x %u", d->context, d->batch); /* fits */
        if (!*d->skipped)
            print_profile(name, &d->figures);
    }
}

void bora_bench_print_table(const bora_bench_report *report)
{
    const bora_bench_figures *f = &report->prefill;
    const bool dense = bora_model_hparams(report->model)->n_experts == 1;
    print_head(report);
    printf("%-8s %8s %9s %10s %10s %9s %9s %9s %9s%s\n", "", "context", "together", "tokens/s", "ms a pass", "GB/s",
           "of read", "GMAC/s", "of int8", dense ? "" : "   experts");
    printf("%-8s %8u %9u %10.1f %10.2f %9s %9s %9.1f %7.1f %%\n", "prefill", 0u, 1u, f->tokens_per_second,
           f->pass_seconds * 1e3, "", "", f->macs_per_second * 1e-9, f->int8_share * 100);
    for (size_t i = 0; i < report->n_decode; i++) {
        const bora_bench_decode *d = &report->decode[i];
        f = &d->figures;
        printf("%-8s %8u %9u ", "decode", d->context, d->batch);
        if (*d->skipped) {
            printf("not run: %s\n", d->skipped);
            continue;
        }
        printf("%10.1f %10.2f %9.1f %7.1f %% %9.1f %7.1f %%", f->tokens_per_second, f->pass_seconds * 1e3,
               f->bytes_per_second * 1e-9, f->read_share * 100, f->macs_per_second * 1e-9, f->int8_share * 100);
        if (dense)
            printf("\n");
        else
            printf(" %9.1f\n", d->experts);
    }
    if (report->how->profile)
        print_profiles(report);
    printf("\nMedians of %u. \"of read\" is GB/s (weights, keys and values that a step needs, over its time) as a "
           "share of "
           "the read\nlimit measured just before and after; decoding alone cannot pass 100 %%. \"of int8\" is the same "
           "for "
           "the matrices'\nmultiply-adds, which bound prefill. Sampling is not in it.\n",
           report->how->n_rounds);
    if (!dense)
        printf("\"experts\": how many of a layer's experts a step needed; only their weights are counted.\n");
    if (report->work.weight_bytes < (double)report->read_size / 4)
        printf("The weights fit into the processor's cache: shares of the memory's speed say little here.\n");
    if (report->cpu_share < 0.9)
        printf("Others used the processors meanwhile (the threads of the probes had only %.0f %% of their time): "
               "figures are\nlower than the machine's.\n",
               report->cpu_share * 100);
}

/* ---- for programs ------------------------------------------------------------------------------------------ */

void bora_bench_print_csv(const bora_bench_report *report)
{
    printf("window,context,batch,tokens_per_second,step_seconds,weight_bytes,kv_bytes,sequence_bytes,read_share,"
           "read_bytes_per_second\n");
    for (size_t i = 0; i < report->n_decode; i++) {
        const bora_bench_decode *d = &report->decode[i];
        if (!*d->skipped)
            printf("%u,%u,%u,%.4f,%.9f,%.0f,%.0f,%.0f,%.4f,%.0f\n",
                   bora_hparams_window(bora_model_hparams(report->model), 0), d->context, d->batch,
                   d->figures.tokens_per_second, d->figures.pass_seconds, d->weight_bytes, d->kv_bytes,
                   d->sequence_bytes, d->figures.read_share, d->figures.read_limit);
    }
}

/* {kind: share of the time}; NULL without memory. */
static json_t *profile_json(const bora_bench_figures *figures)
{
    json_t *object = json_object();
    for (uint32_t k = 0; object && k < BORA_PROFILE_COUNT; k++)
        if (json_object_set_new(object, bora_profile_name(k), json_real(figures->profile[k])) != 0) {
            json_decref(object);
            object = NULL;
        }
    return object;
}

static json_t *decode_json(const bora_bench_report *report, const bora_bench_decode *d)
{
    const bora_bench_figures *f = &d->figures;
    if (*d->skipped)
        return json_pack("{s:I, s:I, s:s}", "context", (json_int_t)d->context, "batch", (json_int_t)d->batch, "skipped",
                         d->skipped);
    return json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o*}", "context",
                     (json_int_t)d->context, "batch", (json_int_t)d->batch, "tokens_per_second", f->tokens_per_second,
                     "step_seconds", f->pass_seconds, "weight_bytes", d->weight_bytes, "kv_bytes", d->kv_bytes,
                     "sequence_bytes", d->sequence_bytes, "experts_per_layer", d->experts, "bytes_per_second",
                     f->bytes_per_second, "read_share", f->read_share, "macs_per_second", f->macs_per_second,
                     "int8_share", f->int8_share, "read_bytes_per_second", f->read_limit, "profile",
                     report->how->profile ? profile_json(f) : NULL);
}

bora_status bora_bench_print_json(const bora_bench_report *report, bora_error *err)
{
    const bora_pipeline_options *options = bora_pipeline_options_of(report->pipeline);
    const bora_cpu *cpu = bora_pipeline_cpu(report->pipeline);
    const bora_bench_work *work = &report->work;
    const bora_bench_figures *f = &report->prefill;
    json_t *decode = json_array();
    for (size_t i = 0; decode && i < report->n_decode; i++)
        if (json_array_append_new(decode, decode_json(report, &report->decode[i])) != 0) {
            json_decref(decode);
            decode = NULL;
        }
    json_t *root = json_pack(
        "{s:i, s:s, s:{s:s, s:I, s:I}, s:{s:f, s:f, s:I, s:f}, s:{s:s, s:I, s:I, s:I, s:I, s:f, s:f},"
        " s:{s:s, s:s, s:s, s:s, s:I}, s:I, s:{s:f, s:f, s:f}, s:{s:I, s:f, s:f, s:f, s:f, s:o*}, s:I, s:o}",
        "format", 1, "version", BORA_VERSION, "machine", "instructions", bora_cpu_name(cpu), "cores",
        (json_int_t)cpu->n_cores, "threads", (json_int_t)options->n_threads, "limits", "read_bytes_per_second",
        report->read_limit, "int8_macs_per_second", report->int8_limit, "read_size", (json_int_t)report->read_size,
        "cpu_share", report->cpu_share, "model", "name", bora_model_name(report->model), "size",
        (json_int_t)bora_model_size(report->model), "parameters", (json_int_t)bora_model_n_parameters(report->model),
        "active_parameters", (json_int_t)bora_model_n_active(report->model), "window",
        (json_int_t)bora_hparams_window(bora_model_hparams(report->model), 0), "token_weight_bytes", work->weight_bytes,
        "token_macs", work->fixed_macs + work->expert_macs + work->output_macs, "engine", "attention",
        plugin_name(report, BORA_PLUGIN_ATTENTION), "cache", plugin_name(report, BORA_PLUGIN_CACHE), "expert",
        plugin_name(report, BORA_PLUGIN_EXPERT), "kv_type", kv_type(report), "stages", (json_int_t)options->n_stages,
        "rounds", (json_int_t)report->how->n_rounds, "start", "model_seconds", report->model_seconds,
        "pipeline_seconds", report->pipeline_seconds, "first_prompt_seconds", report->first_seconds, "prefill",
        "tokens", (json_int_t)report->how->n_prompt, "tokens_per_second", f->tokens_per_second, "seconds",
        f->pass_seconds, "macs_per_second", f->macs_per_second, "int8_share", f->int8_share, "profile",
        report->how->profile ? profile_json(f) : NULL, "steps", (json_int_t)report->how->n_steps, "decode", decode);
    if (!root)
        return bora_fail(err, BORA_E_NOMEM, "JSON");
    int failed = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(root);
    if (failed || putchar('\n') == EOF)
        return bora_fail(err, BORA_E_IO, "writing JSON");
    return BORA_OK;
}
