/* What scaling activations costs: bora-tiny on held-out dialogues with each weight type, activations in front of every
 * quantised matrix rounded to int8 in three ways, products in float. Prints the NMSE of the logits and the mean NLL
 * against the same weights with activations as they are. BORA_BENCH_DIALOGUES: how many of the dialogues (24). */
#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"
#include "model/blocks.h"
#include "model/model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL     "tests/models/bora-tiny"
#define DIALOGUES "tests/golden/heldout/heldout.jsonl"

enum way { AS_THEY_ARE, PER_32, PER_256, PER_256_SHIFT, N_WAYS };

typedef struct run {
    bora_kernels *kernels;
    const bora_model *model;
    const bora_hparams *hparams;
    bora_tensor *matrices; /* [n_layers, 4 + 3 n_experts] in the weight type, then the output */
    enum way way;
} run;

static _Noreturn void stop(const char *why)
{
    fprintf(stderr, "bench_scaling: %s\n", why);
    exit(1);
}

static void *need(size_t n, size_t size)
{
    void *memory = bora_calloc(n, size);
    if (!memory)
        stop("no memory");
    return memory;
}

/* ---- the three ways ---------------------------------------------------------------------------------- */

static float largest(const float *x, size_t n)
{
    float max = 0;
    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(x[i]));
    return max;
}

static void round_to(float *x, size_t n, float max)
{
    for (size_t i = 0; i < n && max > 0; i++)
        x[i] = rintf(x[i] * (127.0f / max)) * (max / 127.0f);
}

/* x [n], n a multiple of 256, as int8 brings it back. */
static void round_row(enum way way, float *x, size_t n)
{
    for (size_t k = 0; k < n; k += 256) {
        const float max = largest(x + k, 256);
        for (size_t j = 0; j < 256; j += 32) {
            const float block = largest(x + k + j, 32);
            if (way == PER_32)
                round_to(x + k + j, 32, block);
            else if (way == PER_256)
                round_to(x + k + j, 32, max);
            else
                round_to(x + k + j, 32,
                         block * 8 <= max   ? max / 8
                         : block * 4 <= max ? max / 4
                         : block * 2 <= max ? max / 2
                                            : max);
        }
    }
}

static void multiply(const run *r, const bora_tensor *w, size_t n, const float *x, float *y)
{
    float *rounded = need(n * w->n_cols, sizeof *rounded);
    memcpy(rounded, x, n * w->n_cols * sizeof *x);
    for (size_t t = 0; t < n && r->way != AS_THEY_ARE; t++)
        round_row(r->way, rounded + t * w->n_cols, w->n_cols);
    bora_matmul(r->kernels, w, n, rounded, y, w->n_rows);
    bora_free(rounded);
}

/* ---- the model, nothing cached ------------------------------------------------------------------------ */

/* q [n, n_heads, head_dim] becomes the heads' outputs. */
static void attend(const bora_hparams *h, uint32_t layer, size_t n, float *q, const float *k, const float *v)
{
    const uint32_t window = bora_hparams_window(h, layer), d = h->head_dim;
    float *scores = need(n, sizeof *scores), *out = need(d, sizeof *out);
    for (size_t t = 0; t < n; t++)
        for (uint32_t head = 0; head < h->n_heads; head++) {
            const size_t first = window && t + 1 > window ? t + 1 - window : 0;
            const uint32_t kv_head = head / (h->n_heads / h->n_kv_heads);
            float *own = q + (t * h->n_heads + head) * d;
            for (size_t p = first; p <= t; p++) {
                float sum = 0;
                for (uint32_t i = 0; i < d; i++)
                    sum += own[i] * k[(p * h->n_kv_heads + kv_head) * d + i];
                scores[p] = sum / sqrtf((float)d);
            }
            bora_softmax(t + 1 - first, scores + first);
            memset(out, 0, d * sizeof *out);
            for (size_t p = first; p <= t; p++)
                for (uint32_t i = 0; i < d; i++)
                    out[i] += scores[p] * v[(p * h->n_kv_heads + kv_head) * d + i];
            memcpy(own, out, d * sizeof *out);
        }
    bora_free(out);
    bora_free(scores);
}

static void add_attention(const run *r, uint32_t layer, const bora_tensor *m, size_t n, float *hidden, float *norm)
{
    const bora_hparams *h = r->hparams;
    const bora_layer_weights *w = bora_model_layer(r->model, layer);
    const size_t kv = n * h->n_kv_heads * h->head_dim;
    float *q = need(n * h->n_heads * h->head_dim, sizeof *q), *k = need(kv, sizeof *k), *v = need(kv, sizeof *v);
    float *freqs = need(h->head_dim / 2, sizeof *freqs), *weight = need(h->dim, sizeof *weight);
    float *angles = need(n * 2 * h->head_dim, sizeof *angles);
    uint64_t *positions = need(n, sizeof *positions);
    for (size_t t = 0; t < n; t++)
        positions[t] = t;
    bora_rope_freqs(h->rope_theta, h->head_dim, freqs);
    bora_rope_angles(n, h->head_dim, freqs, positions, angles);
    bora_dequantize(NULL, &w->attention_norm, 0, 1, weight);
    bora_rmsnorm(n, h->dim, hidden, weight, h->norm_eps, norm);
    multiply(r, &m[0], n, norm, q);
    multiply(r, &m[1], n, norm, k);
    multiply(r, &m[2], n, norm, v);
    bora_rope(n, h->n_heads, h->head_dim, angles, q);
    bora_rope(n, h->n_kv_heads, h->head_dim, angles, k);
    attend(h, layer, n, q, k, v);
    multiply(r, &m[3], n, q, norm);
    for (size_t i = 0; i < n * h->dim; i++)
        hidden[i] += norm[i];
    bora_free(positions);
    bora_free(angles);
    bora_free(weight);
    bora_free(freqs);
    bora_free(v);
    bora_free(k);
    bora_free(q);
}

static void add_experts(const run *r, uint32_t layer, const bora_tensor *m, size_t n, float *hidden, float *norm)
{
    const bora_hparams *h = r->hparams;
    const bora_layer_weights *w = bora_model_layer(r->model, layer);
    const uint32_t k = h->n_experts_per_tok;
    float *weight = need(h->dim, sizeof *weight), *scores = need(n * h->n_experts, sizeof *scores);
    float *shares = need(n * k, sizeof *shares), *a = need(h->hidden_dim, sizeof *a),
          *b = need(h->hidden_dim, sizeof *b);
    float *out = need(h->dim, sizeof *out);
    int32_t *chosen = need(n * k, sizeof *chosen);
    bora_dequantize(NULL, &w->ffn_norm, 0, 1, weight);
    bora_rmsnorm(n, h->dim, hidden, weight, h->norm_eps, norm);
    bora_matmul(r->kernels, &w->router, n, norm, scores, h->n_experts); /* never quantised */
    bora_route(n, h->n_experts, k, scores, chosen, shares);
    for (size_t i = 0; i < n * k; i++) {
        const bora_tensor *expert = m + 3 * (size_t)chosen[i];
        const float *x = norm + i / k * h->dim;
        multiply(r, &expert[0], 1, x, a);
        multiply(r, &expert[2], 1, x, b);
        bora_silu_mul(h->hidden_dim, a, b, a);
        multiply(r, &expert[1], 1, a, out);
        for (uint32_t d = 0; d < h->dim; d++)
            hidden[i / k * h->dim + d] += shares[i] * out[d];
    }
    bora_free(chosen);
    bora_free(out);
    bora_free(b);
    bora_free(a);
    bora_free(shares);
    bora_free(scores);
    bora_free(weight);
}

/* logits [n, vocab_size] of a sequence of its own. */
static void forward(const run *r, const int32_t *ids, size_t n, float *logits)
{
    const bora_hparams *h = r->hparams;
    const size_t per_layer = 4 + 3 * (size_t)h->n_experts;
    float *hidden = need(n * h->dim, sizeof *hidden), *norm = need(n * h->dim, sizeof *norm);
    float *weight = need(h->dim, sizeof *weight);
    for (size_t t = 0; t < n; t++)
        bora_dequantize(NULL, bora_model_embeddings(r->model), (uint64_t)ids[t], 1, hidden + t * h->dim);
    for (uint32_t layer = 0; layer < h->n_layers; layer++) {
        add_attention(r, layer, r->matrices + layer * per_layer, n, hidden, norm);
        add_experts(r, layer, r->matrices + layer * per_layer + 4, n, hidden, norm);
    }
    bora_dequantize(NULL, bora_model_norm(r->model), 0, 1, weight);
    bora_rmsnorm(n, h->dim, hidden, weight, h->norm_eps, norm);
    multiply(r, r->matrices + h->n_layers * per_layer, n, norm, logits);
    bora_free(weight);
    bora_free(norm);
    bora_free(hidden);
}

/* ---- weights and dialogues ---------------------------------------------------------------------------- */

static bora_tensor quantised(const bora_tensor *from, uint32_t dtype)
{
    bora_tensor w = *from;
    size_t row_size;
    if (!bora_block_row_size(dtype, w.n_cols, &row_size))
        stop("rows that are not whole blocks");
    uint8_t *data = need(w.n_rows, row_size);
    float *row = need(w.n_cols, sizeof *row);
    for (uint64_t i = 0; i < w.n_rows; i++) {
        bora_dequantize(NULL, from, i, 1, row);
        if (bora_quantize_row(dtype, w.n_cols, row, NULL, data + i * row_size, NULL) != BORA_OK)
            stop("a row that cannot be quantised");
    }
    bora_free(row);
    w.data = data;
    w.dtype = dtype;
    w.row_size = row_size;
    return w;
}

static bora_tensor *quantise_all(const bora_model *model, uint32_t dtype, size_t *ret_n)
{
    const bora_hparams *h = bora_model_hparams(model);
    bora_tensor *all = need(h->n_layers * (4 + 3 * (size_t)h->n_experts) + 1, sizeof *all);
    size_t n = 0;
    for (uint32_t layer = 0; layer < h->n_layers; layer++) {
        const bora_layer_weights *w = bora_model_layer(model, layer);
        const bora_tensor *const attention[] = {&w->wq, &w->wk, &w->wv, &w->wo};
        for (size_t i = 0; i < 4; i++)
            all[n++] = quantised(attention[i], dtype);
        for (uint32_t e = 0; e < h->n_experts; e++) {
            all[n++] = quantised(&w->w1[e], dtype);
            all[n++] = quantised(&w->w2[e], dtype);
            all[n++] = quantised(&w->w3[e], dtype);
        }
    }
    all[n++] = quantised(bora_model_output(model), dtype);
    *ret_n = n;
    return all;
}

static bora_tokens encode(const bora_model *model, const char *line, size_t size)
{
    json_t *list = json_loadb(line, size, 0, NULL);
    const size_t n = json_array_size(list);
    bora_chat_message *messages = need(n, sizeof *messages);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(list, i);
        messages[i].role = json_string_value(json_object_get(message, "role"));
        messages[i].content = json_string_value(json_object_get(message, "text"));
        messages[i].prefix = i + 1 == n;
    }
    bora_tokens tokens = {0};
    bora_error err;
    const bora_chat chat = {.messages = messages, .n_messages = n};
    if (!n || bora_chat_encode(bora_model_layout(model), bora_model_tokenizer(model), &chat, &tokens, &err) != BORA_OK)
        stop(n ? err.message : "a line that is no dialogue");
    bora_free(messages);
    json_decref(list);
    return tokens;
}

static double nll(const float *logits, size_t n, int32_t token)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, (double)logits[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return log(sum) + max - (double)logits[token];
}

/* One line of the table: all ways with one type. */
static void measure(run *r, uint32_t dtype, const bora_tokens *dialogues, size_t n_dialogues)
{
    const size_t vocab = r->hparams->vocab_size;
    double nlls[N_WAYS] = {0}, error[N_WAYS] = {0}, power = 0;
    size_t n_matrices, n_tokens = 0;
    r->matrices = quantise_all(r->model, dtype, &n_matrices);
    for (size_t i = 0; i < n_dialogues; i++) {
        const bora_tokens *d = &dialogues[i];
        const size_t n = d->n - 1;
        float *should = need(n * vocab, sizeof *should), *is = need(n * vocab, sizeof *is);
        for (int way = 0; way < N_WAYS; way++) {
            float *logits = way == AS_THEY_ARE ? should : is;
            r->way = (enum way)way;
            forward(r, d->ids, n, logits);
            for (size_t t = 0; t < n; t++)
                nlls[way] += nll(logits + t * vocab, vocab, d->ids[t + 1]);
            for (size_t k = 0; k < n * vocab; k++) {
                const double off = (double)logits[k] - (double)should[k];
                error[way] += off * off;
                power += way ? 0 : (double)should[k] * (double)should[k];
            }
        }
        n_tokens += n;
        bora_free(is);
        bora_free(should);
    }
    printf("%-8s %9.5f", bora_block_of(dtype)->name, nlls[AS_THEY_ARE] / (double)n_tokens);
    for (int way = PER_32; way < N_WAYS; way++)
        printf("   %8.2e %+9.5f", error[way] / power, (nlls[way] - nlls[AS_THEY_ARE]) / (double)n_tokens);
    printf("\n");
    (void)fflush(stdout);
    for (size_t i = 0; i < n_matrices; i++)
        bora_free((void *)(uintptr_t)r->matrices[i].data);
    bora_free(r->matrices);
}

int main(void)
{
    const char *wanted = getenv("BORA_BENCH_DIALOGUES");
    const size_t n_max = wanted && strtoul(wanted, NULL, 10) ? strtoul(wanted, NULL, 10) : 24;
    bora_model *model;
    bora_pool *pool;
    bora_cpu cpu;
    bora_error err;
    char *text;
    size_t size, n = 0, n_tokens = 0;
    run r = {0};
    bora_cpu_detect(&cpu);
    if (bora_model_open(MODEL, NULL, NULL, &model, &err) != BORA_OK ||
        bora_file_read(DIALOGUES, (size_t)1 << 24, &text, &size, &err) != BORA_OK ||
        bora_pool_new(cpu.n_cores, &pool, &err) != BORA_OK ||
        bora_kernels_new(&cpu, pool, 4096, NULL, &r.kernels, &err) != BORA_OK)
        stop(err.message);
    r.model = model;
    r.hparams = bora_model_hparams(model);
    bora_tokens *dialogues = need(n_max, sizeof *dialogues);
    for (const char *line = text, *end; n < n_max && (end = strchr(line, '\n')); line = end + 1) {
        dialogues[n] = encode(model, line, (size_t)(end - line));
        n_tokens += dialogues[n++].n - 1;
    }
    printf("%zu dialogues, %zu tokens. NMSE of logits and change of the mean NLL, activations scaled\n", n, n_tokens);
    printf("%-8s %9s   %18s   %18s   %18s\n", "weights", "NLL", "per 32", "per 256", "256, 2^s per 32");
    for (uint32_t dtype = BORA_DTYPE_Q8_0; dtype < BORA_DTYPE_COUNT; dtype++)
        measure(&r, dtype, dialogues, n);
    for (size_t i = 0; i < n; i++)
        bora_tokens_release(&dialogues[i]);
    bora_free(dialogues);
    bora_free(text);
    bora_kernels_free(r.kernels);
    bora_pool_free(pool);
    bora_model_free(model);
    return 0;
}
