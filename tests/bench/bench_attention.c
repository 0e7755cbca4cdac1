/* How near attention plugins come to plainly reading the keys and values, in the shape of Mistral 7B (32 query heads on
 * 8, 128 wide): decoding one token at 4,096 and 16,384 positions, for each element type and for positions that follow
 * each other per head or heads per position; and a prompt of 256 tokens, flash against reference. What is compared
 * alternates within one run, because memory bandwidth on shared machines wanders. Prints medians and ratios.
 *
 *   bench_attention [rounds] [threads] */
#include "base/memory.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "model/blocks.h"
#include "plugin/plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_HEADS    32u
#define N_KV_HEADS 8u
#define HEAD_DIM   128u
#define PREFILL    256u
#define ROUNDS_MAX 1001u
#define KV_SIZE    (UINT64_C(512) << 20) /* layers cycled through while decoding, so that no cache holds them */

typedef struct bench {
    bora_host host;
    bora_pool *pool;
    const bora_attention_ops *reference, *flash;
    uint8_t *kv; /* KV_SIZE bytes that are numbers of the element type at work */
    float *q, *out;
    uint32_t rounds;
} bench;

typedef struct samples {
    double seconds[ROUNDS_MAX];
    uint32_t n;
} samples;

/* ---- host ---------------------------------------------------------------------------------------------- */

static void host_log(const bora_host *host, int32_t level, const char *message)
{
    (void)host;
    (void)level;
    fprintf(stderr, "%s\n", message);
}

static void *host_alloc(const bora_host *host, size_t size)
{
    (void)host;
    return bora_alloc_aligned(64, size);
}

static void host_free(const bora_host *host, void *memory)
{
    (void)host;
    bora_free(memory);
}

static const char *host_option(const bora_host *host, const char *key)
{
    (void)host;
    (void)key;
    return NULL;
}

static uint32_t host_n_threads(const bora_host *host)
{
    return bora_pool_n_threads(host->self);
}

static void host_parallel_for(const bora_host *host, uint32_t n_items, bora_parallel_fn fn, void *arg)
{
    bora_pool_parallel_for(host->self, n_items, fn, arg);
}

static const bora_attention_ops *load(const char *name)
{
    bora_error err = {""};
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    char *path = NULL;
    bora_plugin_library *library = NULL;
    bora_status status = bora_plugin_find(BORA_PLUGIN_ATTENTION, name, BORA_BUILD_DIR "/lib/bora/plugins", &path, &err);
    if (status == BORA_OK)
        status = bora_plugin_load(path, BORA_PLUGIN_ATTENTION, &log, &library, &err);
    bora_free(path);
    if (status != BORA_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return bora_plugin_attention_ops(library); /* stays loaded */
}

static bora_attention *create(const bench *b, const bora_attention_ops *ops, uint32_t dtype)
{
    const bora_attention_shape shape = {
        .struct_size = sizeof shape,
        .n_heads = N_HEADS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .max_tokens = PREFILL,
        .kv_dtype = dtype,
    };
    bora_error err = {""};
    bora_attention *attention = NULL;
    if (ops->create(&b->host, &shape, &attention, &err) != BORA_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return attention;
}

/* ---- measuring ----------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void add(samples *to, double seconds)
{
    if (to->n < ROUNDS_MAX)
        to->seconds[to->n++] = seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(samples *of)
{
    qsort(of->seconds, of->n, sizeof of->seconds[0], compare);
    return of->seconds[of->n / 2];
}

typedef struct read_args {
    const uint8_t *bytes;
    size_t size;
    _Atomic uint64_t sum; /* so that the reading is not left out; atomic: every worker adds */
} read_args;

/* A unit is 64 KiB. Four streams with prefetching: of 1 to 16 streams and 0 to 16 KiB ahead, what read fastest. */
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void
read_units(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    typedef uint64_t words __attribute__((vector_size(64)));
    (void)worker;
    read_args *args = arg;
    const size_t run = 16384, ahead = 2048;
    words sums[4] = {{0}};
    for (size_t base = begin * 4 * run; base < end * 4 * run; base += 4 * run)
        for (size_t i = 0; i < run; i += 64) {
            size_t next = i + ahead < run ? i + ahead : i + ahead + 3 * run;
            for (size_t j = 0; j < 4; j++) {
                words value;
                __builtin_prefetch(args->bytes + base + j * run + next);
                memcpy(&value, args->bytes + base + j * run + i, sizeof value);
                sums[j] += value;
            }
        }
    words total = sums[0] + sums[1] + sums[2] + sums[3];
    args->sum += total[0] + total[1] + total[2] + total[3] + total[4] + total[5] + total[6] + total[7];
}

/* Numbers below 1 of the element type. */
static void fill(bench *b, uint32_t dtype)
{
    uint64_t state = 1;
    const bora_block *block = bora_block_of(dtype);
    for (size_t at = 0; at + block->size <= KV_SIZE; at += block->size) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        float value = (float)(int32_t)(state >> 32) * 0x1p-31f;
        uint16_t half = bora_f32_to_f16(dtype == BORA_DTYPE_Q8_0 ? 0x1p-7f : value);
        if (dtype == BORA_DTYPE_F32)
            memcpy(b->kv + at, &value, sizeof value);
        else
            memcpy(b->kv + at, &half, sizeof half);
        for (size_t i = 2; dtype == BORA_DTYPE_Q8_0 && i < block->size; i++)
            b->kv[at + i] = (uint8_t)(state >> (i % 24 + 32));
    }
}

static bora_attention_seq sequence(const bench *b, uint32_t dtype, bool by_head, uint32_t layer, uint64_t first,
                                   uint32_t n, bora_kv_span *ret_span)
{
    size_t row_size = 0;
    const uint64_t n_positions = first + n;
    (void)bora_block_row_size(dtype, HEAD_DIM, &row_size);
    const size_t size = (size_t)n_positions * N_KV_HEADS * row_size;
    *ret_span = (bora_kv_span){
        .k = b->kv + 2 * layer * size,
        .v = b->kv + (2 * layer + 1) * size,
        .n = (uint32_t)n_positions,
        .dtype = dtype,
        .position_stride = by_head ? HEAD_DIM : N_KV_HEADS * HEAD_DIM,
        .head_stride = by_head ? n_positions * HEAD_DIM : HEAD_DIM,
    };
    return (bora_attention_seq){.q = b->q, .out = b->out, .first = first, .n = n, .spans = ret_span, .n_spans = 1};
}

static double attend(const bora_attention_ops *ops, bora_attention *attention, const bora_attention_seq *seq)
{
    bora_error err = {""};
    double begin = now();
    if (ops->attend(attention, 1, seq, &err) != BORA_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return now() - begin;
}

static void decode(bench *b, uint32_t dtype, uint32_t n_positions, bool by_head, bora_attention *reference,
                   bora_attention *flash)
{
    static samples plain, ours, theirs;
    plain.n = ours.n = theirs.n = 0;
    size_t row_size = 0;
    (void)bora_block_row_size(dtype, HEAD_DIM, &row_size);
    const size_t size = 2 * (size_t)n_positions * N_KV_HEADS * row_size;
    const uint32_t n_layers = (uint32_t)((KV_SIZE - (64u << 10)) / size);
    for (uint32_t round = 0; round < b->rounds; round++) {
        bora_kv_span span;
        bora_attention_seq seq = sequence(b, dtype, by_head, 3 * round % n_layers, n_positions - 1, 1, &span);
        add(&ours, attend(b->flash, flash, &seq));
        read_args args = {.bytes = b->kv + (3 * round + 1) % n_layers * size, .size = size};
        double begin = now();
        b->host.parallel_for(&b->host, (uint32_t)(size / (64u << 10)), read_units, &args);
        add(&plain, (now() - begin) * ((double)size / (double)(size / (64u << 10) * (64u << 10))));
        seq = sequence(b, dtype, by_head, (3 * round + 2) % n_layers, n_positions - 1, 1, &span);
        if (round % 8 == 0)
            add(&theirs, attend(b->reference, reference, &seq));
    }
    const double t = median(&ours), r = median(&plain), gigabytes = (double)size * 1e-9;
    printf("decode  %-5s %6u positions, %-13s  read %5.1f GB/s  flash %5.1f GB/s = %.2f of read, %5.1f x reference\n",
           bora_block_of(dtype)->name, n_positions, by_head ? "head by head" : "all heads", gigabytes / r,
           gigabytes / t, r / t, median(&theirs) / t);
}

static void prefill(bench *b, uint32_t dtype, uint64_t first, bora_attention *reference, bora_attention *flash)
{
    static samples ours, theirs;
    ours.n = theirs.n = 0;
    bora_kv_span span;
    bora_attention_seq seq = sequence(b, dtype, true, 0, first, PREFILL, &span);
    for (uint32_t round = 0; round < b->rounds / 8 + 1; round++) {
        add(&ours, attend(b->flash, flash, &seq));
        if (round % 8 == 0)
            add(&theirs, attend(b->reference, reference, &seq));
    }
    const double t = median(&ours);
    const double products = 2.0 * N_HEADS * HEAD_DIM * PREFILL * ((double)first + (PREFILL + 1) / 2.0);
    printf("prefill %-5s %u tokens from %5u on  flash %6.2f ms, %5.1f GMAC/s, %5.1f x reference\n",
           bora_block_of(dtype)->name, PREFILL, (uint32_t)first, t * 1e3, products * 1e-9 / t, median(&theirs) / t);
}

int main(int argc, char **argv)
{
    static const uint32_t types[] = {BORA_DTYPE_F16, BORA_DTYPE_Q8_0, BORA_DTYPE_F32};
    bench b = {.rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 101};
    const uint32_t n_threads = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2;
    if (b.rounds == 0 || b.rounds > ROUNDS_MAX || n_threads == 0 || bora_pool_new(n_threads, &b.pool, NULL) != BORA_OK)
        return 1;
    b.host = (bora_host){
        .struct_size = sizeof b.host,
        .abi_major = BORA_ABI_MAJOR,
        .abi_minor = BORA_ABI_MINOR,
        .self = b.pool,
        .log = host_log,
        .alloc = host_alloc,
        .free = host_free,
        .option = host_option,
        .n_threads = host_n_threads,
        .parallel_for = host_parallel_for,
    };
    b.reference = load("reference");
    b.flash = load("flash");
    b.kv = bora_alloc_aligned(64, KV_SIZE);
    b.q = bora_alloc((size_t)PREFILL * N_HEADS * HEAD_DIM * sizeof *b.q);
    b.out = bora_alloc((size_t)PREFILL * N_HEADS * HEAD_DIM * sizeof *b.out);
    if (!b.kv || !b.q || !b.out)
        return 1;
    for (size_t i = 0; i < (size_t)PREFILL * N_HEADS * HEAD_DIM; i++)
        b.q[i] = 0.1f * (float)((int)(i * 7 % 31) - 15);
    printf("7B shape, %u threads, medians of %u rounds\n", n_threads, b.rounds);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        fill(&b, types[t]);
        bora_attention *reference = create(&b, b.reference, types[t]), *flash = create(&b, b.flash, types[t]);
        for (uint32_t n = 4096; n <= 16384; n *= 4)
            for (int by_head = 1; by_head >= 0; by_head--)
                decode(&b, types[t], n, by_head, reference, flash);
        prefill(&b, types[t], 0, reference, flash);
        prefill(&b, types[t], 4096 - PREFILL, reference, flash);
        b.reference->destroy(reference);
        b.flash->destroy(flash);
    }
    bora_free(b.kv);
    bora_free(b.q);
    bora_free(b.out);
    bora_pool_free(b.pool);
    return 0;
}
