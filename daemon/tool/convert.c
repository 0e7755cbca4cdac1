/* bora-model convert: any readable model to one GGUF file.
 *
 * Tensors go through one after the other in slices of rows: each row is widened to f32, put into the new type, widened
 * again and compared, all on the thread pool; the slice is written, and memory stays the same whatever the model's
 * size. Rows that have the wanted type already are copied as they are, so that converting again changes nothing. */
#include "tool/tool.h"

#include "base/memory.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"
#include "model/blocks.h"
#include "model/gguf_export.h"
#include "tool/progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SLICE_ELEMENTS ((size_t)2 << 20)
#define SLICE_ROWS     65536u

typedef struct planned {
    bora_gguf_slot slot;
    const bora_tensor *parts; /* [slot.n_parts] */
    uint32_t type, wanted;
    double nmse;
} planned;

typedef struct row_outcome {
    double error, square; /* sums of squares: of the differences, of the values */
    bora_status status;
} row_outcome;

typedef struct conversion {
    const bora_model *model;
    const bora_tool_options *options;
    bora_pool *pool;
    bora_gguf_out *writer;
    planned *plan; /* [n_tensors] */
    size_t n_tensors;
    size_t max_cols;
    float *wide;           /* [n_threads, 2, max_cols] */
    row_outcome *outcomes; /* [SLICE_ROWS] of a slice */
    uint8_t *out;          /* [n_elements] of the widest type: the slice as it is written */
    size_t n_elements;
    bora_progress progress;
    uint64_t total, done; /* elements */
} conversion;

/* One slice, as the pool works on it. */
typedef struct slice {
    conversion *conversion;
    const bora_tensor *from;
    uint64_t first;
    uint32_t type;
    size_t row_size;
} slice;

static void modelp(bora_model **model)
{
    bora_model_free(*model);
}

static void poolp(bora_pool **pool)
{
    bora_pool_free(*pool);
}

static void writerp(bora_gguf_out **writer)
{
    bora_gguf_out_free(*writer);
}

static void conversion_release(conversion *c)
{
    bora_free(c->plan);
    bora_free(c->wide);
    bora_free(c->outcomes);
    bora_free(c->out);
}

/* ---- the plan ------------------------------------------------------------------------------------------------- */

static bora_status make_plan(conversion *c, const bora_gguf_mix *mix, bora_error *err)
{
    const bora_hparams *h = bora_model_hparams(c->model);
    const bool tied = bora_gguf_is_tied(c->model);
    c->n_tensors = bora_gguf_n_slots(h, tied);
    c->plan = bora_calloc(c->n_tensors, sizeof *c->plan);
    if (!c->plan)
        return bora_fail(err, BORA_E_NOMEM, "list of %zu tensors", c->n_tensors);
    for (size_t i = 0; i < c->n_tensors; i++) {
        planned *p = &c->plan[i];
        bora_gguf_slot_at(h, tied, i, &p->slot);
        p->parts = bora_gguf_slot_parts(c->model, i);
        p->type = bora_gguf_mix_type(mix, &p->slot, &p->wanted);
        if (p->slot.n_cols > c->max_cols)
            c->max_cols = (size_t)p->slot.n_cols;
        c->total += p->slot.n_rows * p->slot.n_cols * p->slot.n_parts;
        bora_gguf_slot_add(&p->slot, p->type, c->writer);
    }
    return BORA_OK;
}

/* One line for all tensors that miss their type for the same reason. */
static void tell_exceptions(const conversion *c)
{
    for (size_t i = 0; i < c->n_tensors; i++) {
        const planned *p = &c->plan[i];
        size_t n = 0;
        bool told = false;
        for (size_t k = 0; k < c->n_tensors && p->type != p->wanted; k++) {
            const planned *other = &c->plan[k];
            bool same =
                other->wanted == p->wanted && other->type != other->wanted && other->slot.n_cols == p->slot.n_cols;
            told |= same && k < i;
            n += same;
        }
        if (n && !told)
            printf("%zu tensors (%s ...) have rows of %" PRIu64 ", not whole %s blocks of %" PRIu32 ": kept as %s\n", n,
                   p->slot.name, p->slot.n_cols, bora_block_of(p->wanted)->name, bora_block_of(p->wanted)->n_elements,
                   bora_block_of(p->type)->name);
    }
}

static bora_status make_room(conversion *c, bora_error *err)
{
    const size_t n_threads = bora_pool_n_threads(c->pool), row_each = n_threads * c->max_cols;
    c->n_elements = row_each > SLICE_ELEMENTS ? row_each : SLICE_ELEMENTS;
    c->out = bora_calloc(c->n_elements, sizeof(float));
    c->wide = bora_calloc(n_threads, 2 * c->max_cols * sizeof *c->wide);
    c->outcomes = bora_calloc(SLICE_ROWS, sizeof *c->outcomes);
    return c->out && c->wide && c->outcomes ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "room for a slice of the weights");
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

static void convert_rows(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const slice *s = arg;
    conversion *c = s->conversion;
    const bora_tensor *from = s->from;
    const size_t n = (size_t)from->n_cols;
    float *was = c->wide + (size_t)worker * 2 * c->max_cols, *is = was + c->max_cols;
    for (uint32_t r = begin; r < end; r++) {
        uint8_t *out = c->out + r * s->row_size;
        row_outcome *outcome = &c->outcomes[r];
        *outcome = (row_outcome){.status = BORA_OK};
        if (from->dtype == s->type) {
            memcpy(out, (const uint8_t *)from->data + (s->first + r) * from->row_size, s->row_size);
            continue;
        }
        bora_dequantize(NULL, from, s->first + r, 1, was);
        outcome->status = bora_quantize_row(s->type, n, was, NULL, out, NULL);
        if (outcome->status != BORA_OK)
            continue;
        const bora_tensor back = {
            .data = out, .row_size = s->row_size, .n_rows = 1, .n_cols = from->n_cols, .dtype = s->type};
        bora_dequantize(NULL, &back, 0, 1, is);
        for (size_t i = 0; i < n; i++) {
            double difference = (double)is[i] - was[i];
            outcome->error += difference * difference;
            outcome->square += (double)was[i] * was[i];
        }
    }
}

static bora_status row_failed(const planned *p, uint64_t row, bora_status status, bora_error *err)
{
    const char *type = bora_block_of(p->type)->name;
    if (status == BORA_E_FORMAT)
        return bora_fail(err, status, "tensor '%s', row %" PRIu64 ": a value is not a number", p->slot.name, row);
    if (status == BORA_E_LIMIT)
        return bora_fail(err, status, "tensor '%s', row %" PRIu64 ": a value is too large for %s; bf16 would hold it",
                         p->slot.name, row, type);
    return bora_fail(err, status, "tensor '%s' to %s", p->slot.name, type);
}

static bora_status convert_part(conversion *c, const planned *p, const bora_tensor *from, double sums[2],
                                bora_error *err)
{
    slice s = {.conversion = c, .from = from, .type = p->type};
    if (!bora_block_row_size(p->type, from->n_cols, &s.row_size))
        return bora_fail(err, BORA_E_INTERNAL, "rows of %s", p->slot.name);
    const size_t fit = c->n_elements / (size_t)from->n_cols, rows_max = fit < SLICE_ROWS ? fit : SLICE_ROWS;
    for (; s.first < from->n_rows; s.first += rows_max) {
        uint64_t rest = from->n_rows - s.first;
        uint32_t n = (uint32_t)(rest < rows_max ? rest : rows_max);
        bora_pool_parallel_for(c->pool, n, convert_rows, &s);
        for (uint32_t r = 0; r < n; r++) { /* in the order of the rows, whatever the threads did */
            const row_outcome *outcome = &c->outcomes[r];
            if (outcome->status != BORA_OK)
                return row_failed(p, s.first + r, outcome->status, err);
            sums[0] += outcome->error;
            sums[1] += outcome->square;
        }
        bora_status st = bora_gguf_out_write(c->writer, c->out, n * s.row_size, err);
        if (st != BORA_OK)
            return st;
        c->done += n * from->n_cols;
        bora_progress_show(&c->progress, c->done, p->slot.name);
        if (c->options->stop && atomic_load(c->options->stop))
            return bora_fail(err, BORA_E_CANCELLED, "interrupted: nothing is left behind");
    }
    return BORA_OK;
}

static bora_status convert_all(conversion *c, bora_error *err)
{
    bora_progress_begin(&c->progress, c->total, 1e6, "million weights");
    bora_status st = BORA_OK;
    for (size_t i = 0; st == BORA_OK && i < c->n_tensors; i++) {
        planned *p = &c->plan[i];
        double sums[2] = {0, 0};
        for (uint32_t k = 0; st == BORA_OK && k < p->slot.n_parts; k++)
            st = convert_part(c, p, &p->parts[k], sums, err);
        p->nmse = sums[0] > 0 ? sums[0] / (sums[1] > 0 ? sums[1] : sums[0]) : 0;
    }
    bora_progress_end(&c->progress);
    return st;
}

/* ---- the report ----------------------------------------------------------------------------------------------- */

static void print_table(const conversion *c)
{
    printf("%-36s %-6s %-6s %14s %12s\n", "tensor", "from", "to", "weights", "NMSE");
    for (size_t i = 0; i < c->n_tensors; i++) {
        const planned *p = &c->plan[i];
        printf("%-36s %-6s %-6s %14" PRIu64 " %12.3e\n", p->slot.name, bora_block_of(p->parts[0].dtype)->name,
               bora_block_of(p->type)->name, p->slot.n_rows * p->slot.n_cols * p->slot.n_parts, p->nmse);
    }
}

static void print_summary(const conversion *c, const char *path, const char *type)
{
    const planned *worst = NULL;
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const planned *p = &c->plan[i];
        if (p->slot.role == BORA_GGUF_ROLE_F32)
            continue;
        n++;
        sum += p->nmse;
        worst = !worst || p->nmse > worst->nmse ? p : worst;
    }
    uint64_t size = bora_gguf_out_size(c->writer);
    double seconds = bora_progress_seconds(&c->progress);
    printf("%s: %s, %.1f MiB, %.2f bits a weight, %.1f s\n", path, type, (double)size / 1048576.0,
           8.0 * (double)size / (double)c->done, seconds);
    if (worst && worst->nmse > 0)
        printf("NMSE of the matrices: mean %.3e, worst %.3e (%s)\n", sum / (double)n, worst->nmse, worst->slot.name);
    else
        printf("NMSE of the matrices: 0, nothing was lost\n");
}

bora_status bora_tool_convert(const char *path, const char *out, const bora_tool_convert_options *how,
                              const bora_tool_options *options, bora_error *err)
{
    const bora_gguf_mix *mix = bora_gguf_mix_find(how->type);
    if (!mix)
        return bora_fail(err, BORA_E_INVAL, "'%s' is no type that convert can write", how->type);
    BORA_CLEANUP(modelp) bora_model *model = NULL;
    BORA_CLEANUP(poolp) bora_pool *pool = NULL;
    BORA_CLEANUP(writerp) bora_gguf_out *writer = NULL;
    BORA_CLEANUP(conversion_release) conversion c = {.options = options};
    bora_model_options model_options = {.layout = options->layout, .without_tokenizer = true};
    bora_status st;
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    if ((st = bora_tool_open(path, &model_options, options, &model, err)) != BORA_OK ||
        (st = bora_pool_new(options->pipeline.n_threads ? options->pipeline.n_threads : cpu.n_cores, &pool, err)) !=
            BORA_OK ||
        (st = bora_gguf_out_new(&writer, err)) != BORA_OK)
        return st;
    c.model = model;
    c.pool = pool;
    c.writer = writer;
    bora_gguf_set_u32(writer, "general.file_type", mix->file_type);
    if ((st = bora_gguf_export_keys(model, writer, err)) != BORA_OK || (st = make_plan(&c, mix, err)) != BORA_OK ||
        (st = make_room(&c, err)) != BORA_OK || (st = bora_gguf_out_create(writer, out, how->force, err)) != BORA_OK)
        return st;
    tell_exceptions(&c);
    if ((st = convert_all(&c, err)) != BORA_OK)
        return st;
    if (bora_model_is_damaged(model))
        return bora_fail(err, BORA_E_IO, "'%s' was cut short while it was read", path);
    if ((st = bora_gguf_out_finish(writer, err)) != BORA_OK)
        return st;
    if (how->table)
        print_table(&c);
    print_summary(&c, out, how->type);
    return BORA_OK;
}
