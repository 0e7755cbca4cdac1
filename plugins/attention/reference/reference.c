/* attention-reference: softmax(q k^T / sqrt(head_dim)) v, written to be read. It is what other attention plugins are
 * compared with.
 *
 * One item of work is one head of one query row: its visible keys in ascending order, a score for each, the softmax of
 * the scores, the weighted sum of the values. Nothing else enters into a result: not how the keys are cut into spans,
 * nor the other rows, nor the threads. */
#include <bora/plugin.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* The loops over keys are compiled for several processors and the best is picked when the plugin is loaded. The sums do
 * not change with it: the lanes below are fixed and nothing is fused. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#define INLINE        static inline __attribute__((always_inline)) /* into each clone */

#define Q8_0_ELEMENTS 32u /* of a block */
#define Q8_0_SIZE     34u

#define N_LANES       16u
typedef float lanes __attribute__((vector_size(N_LANES * sizeof(float))));        /* 16 sums side by side */
typedef uint32_t lanes_u32 __attribute__((vector_size(N_LANES * sizeof(float)))); /* the same, as bits */

struct bora_attention {
    const bora_host *host;
    bora_attention_shape shape;
    float scale;
    float *scores;        /* [n_threads, scores_size] */
    uint64_t scores_size; /* keys that a row may have at present */
};

/* Row row of a sequence sees positions from .. to-1. */
typedef struct visible {
    uint64_t from, to;
} visible;

static visible visible_keys(const bora_attention_seq *seq, uint32_t row)
{
    uint64_t to = seq->first + row + 1;
    return (visible){.from = seq->window && to > seq->window ? to - seq->window : 0, .to = to};
}

/* ---- arithmetic ---------------------------------------------------------------------------------------- */

/* n elements at from as f32; the other lanes are 0. n is a constant N_LANES but for the tail of a head. */
INLINE void load_f32(const float *from, size_t n, lanes *ret)
{
    *ret = (lanes){0};
    memcpy(ret, from, n * sizeof *from);
}

/* Widens n halves exactly. A half's bits, moved to the top of a float, are its value times 2^-112, subnormals included;
 * only infinities and NaNs need their exponent set. */
INLINE void load_f16(const uint16_t *from, size_t n, lanes *ret)
{
    lanes_u32 bits = {0};
    for (size_t i = 0; i < n; i++)
        bits[i] = from[i];
    lanes_u32 sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;
    lanes_u32 special = (lanes_u32)(magnitude >= 0x7c00u << 13) & 0x7f800000u;
    lanes value = (lanes)magnitude * 0x1p112f;
    *ret = (lanes)((lanes_u32)value | special | sign);
}

/* N_LANES elements of a block of q8_0. */
INLINE void load_q8_0(const uint8_t *block, size_t at, lanes *ret)
{
    uint16_t half;
    lanes scale;
    int8_t q[N_LANES];
    memcpy(&half, block, sizeof half);
    load_f16(&half, 1, &scale);
    memcpy(q, block + sizeof half + at, sizeof q);
    lanes values = {0};
    for (size_t i = 0; i < N_LANES; i++)
        values[i] = q[i];
    *ret = values * scale[0];
}

INLINE void load(const void *from, uint32_t dtype, size_t at, size_t n, lanes *ret)
{
    if (dtype == BORA_DTYPE_F32)
        load_f32((const float *)from + at, n, ret);
    else if (dtype == BORA_DTYPE_F16)
        load_f16((const uint16_t *)from + at, n, ret);
    else /* heads are whole blocks, so n is N_LANES */
        load_q8_0((const uint8_t *)from + at / Q8_0_ELEMENTS * Q8_0_SIZE, at % Q8_0_ELEMENTS, ret);
}

/* The lanes' sum, always in this order. */
INLINE float lanes_sum(const lanes *sums)
{
    float s[N_LANES];
    memcpy(s, sums, sizeof s);
    for (size_t width = N_LANES / 2; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            s[i] += s[i + width];
    return s[0];
}

INLINE float dot(const float *q, const void *k, uint32_t dtype, size_t at, size_t head_dim)
{
    lanes sums = {0}, a, b;
    size_t d = 0;
    for (; d + N_LANES <= head_dim; d += N_LANES) {
        load_f32(q + d, N_LANES, &a);
        load(k, dtype, at + d, N_LANES, &b);
        sums += a * b;
    }
    if (d < head_dim) {
        load_f32(q + d, head_dim - d, &a);
        load(k, dtype, at + d, head_dim - d, &b);
        sums += a * b;
    }
    return lanes_sum(&sums);
}

/* Scores of the keys from .. to-1, which may lie in several spans. */
CLONES static void score_keys(const bora_attention *attention, const bora_attention_seq *seq, visible keys,
                              uint32_t kv_head, const float *q, float *scores)
{
    for (uint32_t s = 0; s < seq->n_spans; s++) {
        const bora_kv_span *span = &seq->spans[s];
        uint64_t begin = keys.from > span->first ? keys.from : span->first;
        uint64_t end = keys.to < span->first + span->n ? keys.to : span->first + span->n;
        for (uint64_t p = begin; p < end; p++) {
            size_t at = (size_t)((p - span->first) * span->position_stride + kv_head * span->head_stride);
            const uint32_t head_dim = attention->shape.head_dim;
            float score = span->dtype == BORA_DTYPE_F32   ? dot(q, span->k, BORA_DTYPE_F32, at, head_dim)
                          : span->dtype == BORA_DTYPE_F16 ? dot(q, span->k, BORA_DTYPE_F16, at, head_dim)
                                                          : dot(q, span->k, BORA_DTYPE_Q8_0, at, head_dim);
            scores[p - keys.from] = score * attention->scale;
        }
    }
}

/* exp(score - max), normalised by the caller: returns one over their sum. The maximum goes first, so that exp cannot
 * overflow. */
static float softmax(float *scores, uint64_t n)
{
    float max = scores[0];
    for (uint64_t i = 1; i < n; i++)
        max = scores[i] > max ? scores[i] : max;
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        scores[i] = expf(scores[i] - max);
        sum += scores[i];
    }
    return (float)(1 / sum);
}

/* out[head_dim] = sum of weight * value over the keys, ascending, times factor. N_LANES components at a time. */
CLONES static void sum_values(const bora_attention *attention, const bora_attention_seq *seq, visible keys,
                              uint32_t kv_head, const float *weights, float factor, float *out)
{
    for (size_t d = 0; d < attention->shape.head_dim; d += N_LANES) {
        size_t n = attention->shape.head_dim - d < N_LANES ? attention->shape.head_dim - d : N_LANES;
        lanes sums = {0};
        for (uint32_t s = 0; s < seq->n_spans; s++) {
            const bora_kv_span *span = &seq->spans[s];
            uint64_t begin = keys.from > span->first ? keys.from : span->first;
            uint64_t end = keys.to < span->first + span->n ? keys.to : span->first + span->n;
            for (uint64_t p = begin; p < end; p++) {
                size_t at = (size_t)((p - span->first) * span->position_stride + kv_head * span->head_stride) + d;
                lanes v;
                if (n == N_LANES)
                    load(span->v, span->dtype, at, N_LANES, &v);
                else
                    load(span->v, span->dtype, at, n, &v);
                sums += v * weights[p - keys.from];
            }
        }
        sums *= factor;
        memcpy(out + d, &sums, n * sizeof *out);
    }
}

/* ---- the call ------------------------------------------------------------------------------------------ */

typedef struct attend_args {
    const bora_attention *attention;
    const bora_attention_seq *seqs; /* [n_seqs] */
} attend_args;

/* Items are numbered sequence by sequence, row by row, head by head. */
static void attend_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const attend_args *args = arg;
    const bora_attention *attention = args->attention;
    const bora_attention_shape *shape = &attention->shape;
    float *scores = attention->scores + worker * attention->scores_size;
    const bora_attention_seq *seq = args->seqs;
    uint32_t row = begin / shape->n_heads, head = begin % shape->n_heads;
    for (uint32_t item = begin; item < end; item++) {
        while (row >= seq->n)
            row -= seq++->n;
        size_t at = ((size_t)row * shape->n_heads + head) * shape->head_dim;
        uint32_t kv_head = head / (shape->n_heads / shape->n_kv_heads);
        visible keys = visible_keys(seq, row);
        score_keys(attention, seq, keys, kv_head, seq->q + at, scores);
        float factor = softmax(scores, keys.to - keys.from);
        sum_values(attention, seq, keys, kv_head, scores, factor, seq->out + at);
        if (++head == shape->n_heads) {
            head = 0;
            row++;
        }
    }
}

/* Every key that a row sees must be in the spans: a key left out would be a silent wrong answer. */
static bora_status check_spans(const bora_attention *attention, const bora_attention_seq *seq, bora_error *err)
{
    uint64_t from = visible_keys(seq, 0).from, to = visible_keys(seq, seq->n - 1).to;
    bool complete = seq->n_spans > 0 && seq->spans[0].first <= from;
    for (uint32_t s = 0; complete && s < seq->n_spans; s++) {
        const bora_kv_span *span = &seq->spans[s];
        if (span->dtype != attention->shape.kv_dtype)
            return bora_fail(err, BORA_E_INVAL, "attention: keys of element type %u, %u was announced", span->dtype,
                             attention->shape.kv_dtype);
        complete = s + 1 == seq->n_spans ? span->first + span->n >= to : span->first + span->n == span[1].first;
    }
    if (!complete)
        return bora_fail(err, BORA_E_INVAL, "attention: not all of the keys %llu to %llu are there",
                         (unsigned long long)from, (unsigned long long)to - 1);
    return BORA_OK;
}

static bora_status grow_scores(bora_attention *attention, uint64_t n_keys, bora_error *err)
{
    if (n_keys <= attention->scores_size)
        return BORA_OK;
    const bora_host *host = attention->host;
    uint64_t n = n_keys;
    if (n < attention->scores_size * 2)
        n = attention->scores_size * 2; /* keys come one by one: double */
    if (n < 1024)
        n = 1024;
    size_t size;
    if (__builtin_mul_overflow(n, host->n_threads(host) * sizeof(float), &size))
        return bora_fail(err, BORA_E_LIMIT, "attention: %llu keys", (unsigned long long)n);
    float *scores = host->alloc(host, size);
    if (!scores)
        return bora_fail(err, BORA_E_NOMEM, "attention: scores of %llu keys", (unsigned long long)n);
    host->free(host, attention->scores);
    attention->scores = scores;
    attention->scores_size = n;
    return BORA_OK;
}

static bora_status reference_attend(bora_attention *attention, uint32_t n_seqs, const bora_attention_seq *seqs,
                                    bora_error *err)
{
    uint64_t n_rows = 0, n_keys_max = 0;
    for (uint32_t i = 0; i < n_seqs; i++) {
        if (seqs[i].n == 0)
            continue;
        bora_status status = check_spans(attention, &seqs[i], err);
        if (status != BORA_OK)
            return status;
        visible last = visible_keys(&seqs[i], seqs[i].n - 1); /* no earlier row sees more keys */
        if (last.to - last.from > n_keys_max)
            n_keys_max = last.to - last.from;
        n_rows += seqs[i].n;
    }
    if (n_rows > attention->shape.max_tokens)
        return bora_fail(err, BORA_E_INVAL, "attention: %llu rows, %u were announced", (unsigned long long)n_rows,
                         attention->shape.max_tokens);
    bora_status status = grow_scores(attention, n_keys_max, err);
    if (status != BORA_OK)
        return status;
    attend_args args = {.attention = attention, .seqs = seqs};
    attention->host->parallel_for(attention->host, (uint32_t)n_rows * attention->shape.n_heads, attend_items, &args);
    return BORA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static bora_status reference_create(const bora_host *host, const bora_attention_shape *shape,
                                    bora_attention **ret_attention, bora_error *err)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "attention: the shape has %u bytes, %zu are needed", shape->struct_size,
                         sizeof *shape);
    if (shape->n_heads == 0 || shape->n_kv_heads == 0 || shape->n_heads % shape->n_kv_heads || shape->head_dim == 0)
        return bora_fail(err, BORA_E_INVAL, "attention: %u heads of %u on %u key heads", shape->n_heads,
                         shape->head_dim, shape->n_kv_heads);
    if (shape->kv_dtype != BORA_DTYPE_F32 && shape->kv_dtype != BORA_DTYPE_F16 && shape->kv_dtype != BORA_DTYPE_Q8_0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "attention: element type %u is none of f32, f16, q8_0",
                         shape->kv_dtype);
    if (shape->kv_dtype == BORA_DTYPE_Q8_0 && shape->head_dim % Q8_0_ELEMENTS)
        return bora_fail(err, BORA_E_UNSUPPORTED, "attention: heads of %u are not whole blocks of q8_0, %u elements",
                         shape->head_dim, Q8_0_ELEMENTS);
    uint32_t n_items;
    if (__builtin_mul_overflow(shape->max_tokens, shape->n_heads, &n_items))
        return bora_fail(err, BORA_E_LIMIT, "attention: %u rows of %u heads", shape->max_tokens, shape->n_heads);
    bora_attention *attention = host->alloc(host, sizeof *attention);
    if (!attention)
        return bora_fail(err, BORA_E_NOMEM, "attention");
    *attention = (bora_attention){.host = host, .shape = *shape, .scale = 1 / sqrtf((float)shape->head_dim)};
    *ret_attention = attention;
    return BORA_OK;
}

static void reference_destroy(bora_attention *attention)
{
    if (!attention)
        return;
    const bora_host *host = attention->host;
    host->free(host, attention->scores);
    host->free(host, attention);
}

static const bora_attention_ops reference_ops = {
    .struct_size = sizeof(bora_attention_ops),
    .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_F16) | BORA_DTYPE_BIT(BORA_DTYPE_Q8_0),
    .create = reference_create,
    .destroy = reference_destroy,
    .attend = reference_attend,
};

static const bora_plugin reference_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_ATTENTION,
    .flags = BORA_PLUGIN_BATCH_INVARIANT,
    .name = "reference",
    .version = "1.0",
    .ops = &reference_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &reference_plugin;
}
