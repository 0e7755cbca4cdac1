/* cache-paged against cache-ring in the shape of Mistral 7B (8 key/value heads of 128, 32 query heads): per decoded
 * token what storing it and attending (attention-flash) costs at several contexts, with a window of 4,096 and without;
 * what storing alone costs while pages turn over and the window moves on; and forks: their time, what they ask of the
 * host, and the first token after one. The two caches alternate token by token within one run. Prints medians, totals
 * and ratios.
 *
 *   bench_cache [tokens] [threads] [f16|q8_0|f32] */
#include "base/memory.h"
#include "base/pool.h"
#include "model/blocks.h"
#include "plugin/plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_HEADS    32u
#define N_KV_HEADS 8u
#define HEAD_DIM   128u
#define KV_DIM     (N_KV_HEADS * HEAD_DIM)
#define N_LAYERS   32u
#define WINDOW     4096u
#define SLACK      576u
#define TOKENS_MAX 4096u
#define N_ROWS     1024u                 /* rows of random numbers that are stored again and again */
#define CACHE_SIZE (UINT64_C(256) << 20) /* of one sequence; longer contexts have fewer layers */

typedef struct bench {
    bora_host host;
    bora_pool *pool;
    const bora_attention_ops *attention_ops;
    uint32_t dtype, n_tokens;
    float *rows, *q, *out;
    uint64_t asked; /* bytes of the host, so far */
} bench;

/* One cache with one sequence. */
typedef struct contestant {
    const char *name;
    const bora_cache_ops *ops;
    bora_cache *cache;
    bora_cache_seq *seq;
    bora_kv_span *spans; /* [BORA_CACHE_SPANS_MAX] */
    double *seconds;     /* [TOKENS_MAX] of each token */
    double total;
} contestant;

static void die(const char *message)
{
    fprintf(stderr, "%s\n", message);
    exit(1);
}

/* ---- host ---------------------------------------------------------------------------------------------- */

static void host_log(const bora_host *host, int32_t level, const char *message)
{
    (void)host;
    (void)level;
    die(message); /* nothing is to be reported */
}

static void *host_alloc(const bora_host *host, size_t size)
{
    bench *b = host->self;
    b->asked += size;
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
    const bench *b = host->self;
    return bora_pool_n_threads(b->pool);
}

static void host_parallel_for(const bora_host *host, uint32_t n_items, bora_parallel_fn fn, void *arg)
{
    const bench *b = host->self;
    bora_pool_parallel_for(b->pool, n_items, fn, arg);
}

static bora_plugin_library *load(uint32_t kind, const char *name)
{
    bora_error err = {""};
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    char *path = NULL;
    bora_plugin_library *library = NULL;
    bora_status status = bora_plugin_find(kind, name, BORA_BUILD_DIR "/lib/bora/plugins", &path, &err);
    if (status == BORA_OK)
        status = bora_plugin_load(path, kind, &log, &library, &err);
    bora_free(path);
    if (status != BORA_OK)
        die(err.message);
    return library; /* stays loaded */
}

/* ---- measuring ----------------------------------------------------------------------------------------- */

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

static double median(double *seconds, uint32_t n)
{
    qsort(seconds, n, sizeof *seconds, compare);
    return seconds[n / 2];
}

static const float *row_of(const bench *b, uint64_t position, uint32_t layer)
{
    return b->rows + (position * 7 + layer * 13) % (N_ROWS / 2) * KV_DIM;
}

/* n positions of all layers; n <= N_ROWS / 2. */
static void store(bench *b, contestant *c, uint32_t n_layers, uint64_t first, uint32_t n)
{
    bora_error err = {""};
    if (c->ops->reserve(c->cache, c->seq, first + n, &err) != BORA_OK)
        die(err.message);
    for (uint32_t l = 0; l < n_layers; l++)
        c->ops->append(c->cache, c->seq, l, first, n, row_of(b, first, l), row_of(b, first, l + 1));
}

/* One token: reserve, then per layer append, spans and, if there is one, attention. */
static void decode(bench *b, contestant *c, bora_attention *attention, uint32_t n_layers, uint32_t window,
                   uint64_t position)
{
    bora_error err = {""};
    if (c->ops->reserve(c->cache, c->seq, position + 1, &err) != BORA_OK)
        die(err.message);
    for (uint32_t l = 0; l < n_layers; l++) {
        c->ops->append(c->cache, c->seq, l, position, 1, row_of(b, position, l), row_of(b, position, l + 1));
        if (!attention)
            continue;
        const uint64_t from = window && position + 1 > window ? position + 1 - window : 0;
        const uint32_t n = c->ops->spans(c->cache, c->seq, l, from, position + 1, BORA_CACHE_SPANS_MAX, c->spans);
        const bora_attention_seq seq = {
            .q = b->q, .out = b->out, .first = position, .n = 1, .window = window, .spans = c->spans, .n_spans = n};
        if (n > BORA_CACHE_SPANS_MAX || b->attention_ops->attend(attention, 1, &seq, &err) != BORA_OK)
            die(err.message);
    }
}

static void contestant_open(bench *b, contestant *c, uint32_t n_layers, uint32_t window, uint64_t context)
{
    uint32_t windows[N_LAYERS];
    for (uint32_t l = 0; l < n_layers; l++)
        windows[l] = window;
    const bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = n_layers,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .dtype = b->dtype,
        .slack = SLACK,
        .max_positions = context + 2 * TOKENS_MAX,
        .windows = windows,
    };
    bora_error err = {""};
    if (c->ops->create(&b->host, &shape, &c->cache, &err) != BORA_OK ||
        c->ops->seq_open(c->cache, &c->seq, &err) != BORA_OK)
        die(err.message);
    for (uint64_t p = 0; p < context;) {
        const uint32_t n = context - p < 512 ? (uint32_t)(context - p) : 512;
        store(b, c, n_layers, p, n);
        p += n;
    }
}

static void contestant_close(contestant *c)
{
    c->ops->seq_close(c->cache, c->seq);
    c->ops->destroy(c->cache);
}

/* Tokens of both in turn, from position on. */
static void race(bench *b, contestant *c, bora_attention *attention, uint32_t n_layers, uint32_t window,
                 uint64_t position)
{
    c[0].total = c[1].total = 0;
    for (uint32_t t = 0; t < b->n_tokens; t++)
        for (uint32_t i = 0; i < 2; i++) {
            contestant *who = &c[(t + i) % 2];
            const double begin = now();
            decode(b, who, attention, n_layers, window, position + t);
            who->seconds[t] = now() - begin;
            who->total += who->seconds[t];
        }
}

static void print_race(bench *b, contestant *c, const char *what)
{
    const double worst = 1e6, a = median(c[0].seconds, b->n_tokens), p = median(c[1].seconds, b->n_tokens);
    printf("  %-18s ring %9.1f us  paged %9.1f us  ratio %.3f   all tokens: ratio %.3f   longest: %8.1f us, %8.1f us\n",
           what, a * 1e6, p * 1e6, p / a, c[1].total / c[0].total, c[0].seconds[b->n_tokens - 1] * worst,
           c[1].seconds[b->n_tokens - 1] * worst);
}

static void forks(bench *b, contestant *c, uint32_t n_layers, uint64_t position)
{
    bora_error err = {""};
    for (uint32_t i = 0; i < 2; i++) {
        double fork[5], first[5];
        uint64_t asked = 0;
        for (uint32_t round = 0; round < 5; round++) {
            bora_cache_seq *copy = NULL, *original = c[i].seq;
            asked = b->asked;
            double begin = now();
            if (c[i].ops->seq_fork(c[i].cache, original, &copy, &err) != BORA_OK)
                die(err.message);
            fork[round] = now() - begin;
            asked = b->asked - asked;
            c[i].seq = copy;
            begin = now();
            decode(b, &c[i], NULL, n_layers, 0, position);
            first[round] = now() - begin;
            c[i].seq = original;
            c[i].ops->seq_close(c[i].cache, copy);
        }
        printf("  fork               %-5s %9.1f us, %11llu bytes of the host; first token stored after it: %9.1f us\n",
               c[i].name, median(fork, 5) * 1e6, (unsigned long long)asked, median(first, 5) * 1e6);
    }
}

static void compare_at(bench *b, contestant *c, uint64_t context, uint32_t window)
{
    const bora_attention_shape shape = {
        .struct_size = sizeof shape,
        .n_heads = N_HEADS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .max_tokens = 1,
        .kv_dtype = b->dtype,
    };
    size_t row_size = 0;
    (void)bora_block_row_size(b->dtype, KV_DIM, &row_size);
    const uint64_t kept = window && context > window ? window : context;
    uint64_t n_layers = CACHE_SIZE / (2 * kept * row_size);
    n_layers = n_layers < 1 ? 1 : n_layers < N_LAYERS ? n_layers : N_LAYERS;
    bora_error err = {""};
    bora_attention *attention = NULL;
    if (b->attention_ops->create(&b->host, &shape, &attention, &err) != BORA_OK)
        die(err.message);
    for (uint32_t i = 0; i < 2; i++)
        contestant_open(b, &c[i], (uint32_t)n_layers, window, context);
    printf("%llu positions, window %u, %u layers, %s: ring holds %.1f MB, paged %.1f MB\n", (unsigned long long)context,
           window, (uint32_t)n_layers, bora_block_of(b->dtype)->name,
           (double)c[0].ops->bytes(c[0].cache, c[0].seq) * 1e-6, (double)c[1].ops->bytes(c[1].cache, c[1].seq) * 1e-6);
    race(b, c, attention, (uint32_t)n_layers, window, context);
    print_race(b, c, "store and attend");
    race(b, c, NULL, (uint32_t)n_layers, window, context + b->n_tokens);
    print_race(b, c, "store alone");
    forks(b, c, (uint32_t)n_layers, context + 2 * b->n_tokens);
    for (uint32_t i = 0; i < 2; i++)
        contestant_close(&c[i]);
    b->attention_ops->destroy(attention);
}

int main(int argc, char **argv)
{
    static double seconds[2][TOKENS_MAX];
    static bora_kv_span spans[2][BORA_CACHE_SPANS_MAX];
    bench b = {.n_tokens = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 192, .dtype = BORA_DTYPE_F16};
    const uint32_t n_threads = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2;
    if (argc > 3)
        b.dtype = strcmp(argv[3], "q8_0") == 0  ? BORA_DTYPE_Q8_0
                  : strcmp(argv[3], "f32") == 0 ? BORA_DTYPE_F32
                                                : BORA_DTYPE_F16;
    if (b.n_tokens == 0 || b.n_tokens >= TOKENS_MAX || n_threads == 0 ||
        bora_pool_new(n_threads, &b.pool, NULL) != BORA_OK)
        return 1;
    b.host = (bora_host){
        .struct_size = sizeof b.host,
        .abi_major = BORA_ABI_MAJOR,
        .abi_minor = BORA_ABI_MINOR,
        .self = &b,
        .log = host_log,
        .alloc = host_alloc,
        .free = host_free,
        .option = host_option,
        .n_threads = host_n_threads,
        .parallel_for = host_parallel_for,
    };
    b.attention_ops = bora_plugin_attention_ops(load(BORA_PLUGIN_ATTENTION, "flash"));
    b.rows = bora_alloc((size_t)N_ROWS * KV_DIM * sizeof *b.rows);
    b.q = bora_alloc((size_t)N_HEADS * HEAD_DIM * sizeof *b.q);
    b.out = bora_alloc((size_t)N_HEADS * HEAD_DIM * sizeof *b.out);
    if (!b.rows || !b.q || !b.out)
        return 1;
    for (size_t i = 0; i < (size_t)N_ROWS * KV_DIM; i++)
        b.rows[i] = 0.05f * (float)((int)(i * 2654435761u >> 20 & 31) - 15);
    for (size_t i = 0; i < (size_t)N_HEADS * HEAD_DIM; i++)
        b.q[i] = 0.1f * (float)((int)(i * 7 % 31) - 15);
    contestant both[2] = {{.name = "ring"}, {.name = "paged"}};
    for (uint32_t i = 0; i < 2; i++) {
        both[i].ops = bora_plugin_cache_ops(load(BORA_PLUGIN_CACHE, both[i].name));
        both[i].spans = spans[i];
        both[i].seconds = seconds[i];
    }
    printf("7B shape, %u threads, medians of %u tokens\n", n_threads, b.n_tokens);
    static const struct {
        uint64_t context;
        uint32_t window;
    } cases[] = {{100, WINDOW}, {100, 0}, {4096, WINDOW}, {4096, 0}, {16384, WINDOW}, {16384, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare_at(&b, both, cases[i].context, cases[i].window);
    bora_free(b.rows);
    bora_free(b.q);
    bora_free(b.out);
    bora_pool_free(b.pool);
    return 0;
}
