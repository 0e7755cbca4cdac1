/* Fails when a packed product has become slow: each type's share of the limits of the machine, against a floor.
 *
 * Decoding (1 and 4 columns) is compared with plainly reading, prefill (252 columns) with int8 multiply-adds, both
 * measured just before and after by the same threads. The shapes are a layer's, cycled through more memory than caches
 * hold; a pass over all of it is one piece of work per thread, so that waking threads is not in it. Medians over
 * rounds; nothing but the limit is ever measured again. The floors are those of the AVX-512 VNNI path; others are
 * printed without a judgement, and so is everything when other processes take part of the processors: then it ends with
 * 77, which is no pass.
 *
 *   bench_floors [rounds [threads]] */
#include "base/memory.h"
#include "kernels/limits.h"
#include "kernels/packed/packed.h"
#include "model/blocks.h"
#include "support/blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS_MAX   101u
#define MATRICES_MAX 64u
#define CYCLED_SIZE  ((uint64_t)288 << 20)
#define READ_SIZE    ((size_t)320 << 20)
#define DIM          4096u
#define HIDDEN_DIM   14336u
#define PREFILL      252u
#define MADE_ROWS    64u  /* that differ; a matrix repeats them */
#define STEADY       0.03 /* two probes in a row that differ by less */
#define PROBES_MAX   6u   /* in search of that */
#define CPU_SHARE    0.93 /* of the time that threads must have had a processor for a judgement */
#define EXIT_BUSY    77

static const struct {
    uint32_t dtype;
    double prefill_floor;
} types[] = {{BORA_DTYPE_Q4_0, 0.70},
             {BORA_DTYPE_Q8_0, 0.70},
             {BORA_DTYPE_Q4_K, 0.65},
             {BORA_DTYPE_Q5_K, 0.65},
             {BORA_DTYPE_Q6_K, 0.65}};
static const struct {
    uint32_t n_columns;
    double floor; /* of decoding; prefill's is the type's */
} columns[] = {{1, 0.88}, {4, 0.85}, {PREFILL, 0}};
#define N_COLUMNS BORA_ARRAY_SIZE(columns)

typedef struct bench {
    bora_cpu cpu;
    bora_pool *pool;
    bora_kernels *kernels;
    bora_limits *limits;
    uint32_t n_threads, rounds;
    bool is_plain;                   /* the path that defines the others: never fast */
    bora_input inputs[N_COLUMNS][2]; /* of DIM and of HIDDEN_DIM columns of the matrix */
    float *x, *y;                    /* [PREFILL, HIDDEN_DIM], [PREFILL, DIM] */
    double cpu_shares[4096];         /* of all measurements */
    size_t n_cpu_shares;
} bench;

/* One type's matrices. */
typedef struct cycle {
    bora_region *region;
    bora_matrix *matrices[MATRICES_MAX];
    size_t n;
    uint64_t size; /* bytes of all */
} cycle;

/* A pass over matrices first .. end-1. */
typedef struct pass {
    bench *bench;
    const cycle *cycle;
    size_t first, end;
    const bora_input *inputs; /* [2] */
    double *cpu_seconds;      /* [n_threads] */
} pass;

static double clock_seconds(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
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

static void note_share(bench *b, double share)
{
    if (b->n_cpu_shares < BORA_ARRAY_SIZE(b->cpu_shares))
        b->cpu_shares[b->n_cpu_shares++] = share;
}

/* The limit, once it is steady: of two probes in a row that agree, the second. */
static double limit_of(bench *b, bora_limit (*probe)(bora_limits *), uint32_t n_max)
{
    double last = 0;
    for (uint32_t i = 0; i < n_max; i++) {
        bora_limit limit = probe(b->limits);
        double change = limit.per_second > last ? 1 - last / limit.per_second : 1 - limit.per_second / last;
        note_share(b, limit.cpu_share);
        last = limit.per_second;
        if (change < STEADY)
            break;
    }
    return last;
}

/* An item is a thread's part of every matrix. */
static void multiply(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const pass *p = arg;
    const uint32_t n_threads = p->bench->n_threads;
    for (uint32_t item = begin; item < end; item++) {
        double start = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = p->first; i < p->end; i++) {
            const bora_matrix *matrix = p->cycle->matrices[i];
            uint32_t n = bora_matrix_n_strips(matrix), from = n * item / n_threads, to = n * (item + 1) / n_threads;
            bora_matrix_multiply(p->bench->kernels, matrix, &p->inputs[bora_matrix_n_cols(matrix) != DIM], from, to,
                                 worker, p->bench->y + (size_t)from * BORA_STRIP_ROWS, DIM);
        }
        p->cpu_seconds[item] = clock_seconds(CLOCK_THREAD_CPUTIME_ID) - start;
    }
}

/* Seconds of one pass. */
static double run_pass(bench *b, pass *p)
{
    double start = clock_seconds(CLOCK_MONOTONIC), cpu_seconds = 0;
    bora_pool_parallel_for(b->pool, b->n_threads, multiply, p);
    double seconds = clock_seconds(CLOCK_MONOTONIC) - start;
    for (uint32_t t = 0; t < b->n_threads; t++)
        cpu_seconds += p->cpu_seconds[t];
    note_share(b, cpu_seconds / (seconds * b->n_threads));
    return seconds;
}

/* The median share of the limit; how much per second, and the limit, go along. */
static bool measure(bench *b, const cycle *c, size_t column, double *ret_share, double *ret_rate, double *ret_limit)
{
    const bool prefill = columns[column].n_columns == PREFILL;
    double shares[ROUNDS_MAX], rates[ROUNDS_MAX], limits[ROUNDS_MAX];
    bora_limit (*probe)(bora_limits *) = prefill ? bora_limits_int8 : bora_limits_read;
    double *cpu_seconds = bora_calloc(b->n_threads, sizeof *cpu_seconds);
    if (!cpu_seconds)
        return false;
    for (uint32_t round = 0; round < b->rounds; round++) {
        pass p = {.bench = b, .cycle = c, .end = c->n, .inputs = b->inputs[column], .cpu_seconds = cpu_seconds};
        if (prefill) { /* a pair, another one each time */
            p.first = round % (c->n / 2) * 2;
            p.end = p.first + 2;
        }
        if (b->is_plain) /* would take minutes */
            p.end = p.first + (prefill ? 1 : 2);
        double amount = 0;
        for (size_t i = p.first; i < p.end; i++) {
            const bora_matrix *m = c->matrices[i];
            amount += prefill ? (double)bora_matrix_n_rows(m) * (double)bora_matrix_n_cols(m) * PREFILL
                              : (double)bora_matrix_size(m);
        }
        double before = limit_of(b, probe, PROBES_MAX);
        rates[round] = amount / run_pass(b, &p);
        limits[round] = (before + limit_of(b, probe, 1)) / 2;
        shares[round] = rates[round] / limits[round];
    }
    *ret_share = median(shares, b->rounds);
    *ret_rate = median(rates, b->rounds);
    *ret_limit = median(limits, b->rounds);
    bora_free(cpu_seconds);
    return true;
}

/* ---- making ready ------------------------------------------------------------------------------------ */

/* A matrix of the type in file layout; new. */
static uint8_t *make_rows(uint32_t dtype, uint64_t n_cols, bora_tensor *ret_tensor)
{
    const bora_block *block = bora_block_of(dtype);
    const size_t row_size = (size_t)(n_cols / block->n_elements) * block->size;
    uint8_t *rows = bora_alloc(row_size * DIM);
    uint64_t state = dtype + n_cols;
    if (!rows)
        return NULL;
    for (size_t at = 0; at < row_size * MADE_ROWS; at += block->size)
        blocks_fill(dtype, &state, 0.02f, rows + at);
    for (size_t row = MADE_ROWS; row < DIM; row += MADE_ROWS)
        memcpy(rows + row * row_size, rows, row_size * MADE_ROWS);
    *ret_tensor = (bora_tensor){.data = rows, .row_size = row_size, .n_rows = DIM, .n_cols = n_cols, .dtype = dtype};
    return rows;
}

static bora_status cycle_make(bench *b, uint32_t dtype, cycle *c, bora_error *err)
{
    bora_tensor tensors[2];
    uint8_t *rows[2] = {make_rows(dtype, DIM, &tensors[0]), make_rows(dtype, HIDDEN_DIM, &tensors[1])};
    bora_status st =
        rows[0] && rows[1] ? bora_region_new(NULL, 0, &c->region, err) : bora_fail(err, BORA_E_NOMEM, "rows");
    while (st == BORA_OK && c->size < CYCLED_SIZE && c->n + 2 <= MATRICES_MAX)
        for (size_t i = 0; st == BORA_OK && i < 2; i++) {
            st = bora_matrix_new(b->kernels, c->region, &tensors[i], &c->matrices[c->n], err);
            if (st == BORA_OK)
                c->size += bora_matrix_size(c->matrices[c->n++]);
        }
    bora_free(rows[0]);
    bora_free(rows[1]);
    return st;
}

static void cycle_release(cycle *c)
{
    for (size_t i = 0; i < c->n; i++)
        bora_matrix_free(c->matrices[i]);
    bora_region_free(c->region);
}

static bora_status bench_init(bench *b, bora_error *err)
{
    static const uint32_t dims[2] = {DIM, HIDDEN_DIM};
    bora_status st = bora_pool_new(b->n_threads, &b->pool, err);
    if (st == BORA_OK)
        st = bora_kernels_new(&b->cpu, b->pool, HIDDEN_DIM, NULL, &b->kernels, err);
    if (st == BORA_OK)
        st = bora_limits_new(&b->cpu, b->pool, READ_SIZE, &b->limits, err);
    if (st != BORA_OK)
        return st;
    b->x = bora_alloc_aligned(64, sizeof(float) * PREFILL * HIDDEN_DIM);
    b->y = bora_alloc_aligned(64, sizeof(float) * PREFILL * DIM);
    if (!b->x || !b->y)
        return bora_fail(err, BORA_E_NOMEM, "activations");
    uint64_t state = 7;
    for (size_t i = 0; i < (size_t)PREFILL * HIDDEN_DIM; i++)
        b->x[i] = (float)blocks_random(&state) * 0x1p-30f - 1;
    memset(b->y, 0, sizeof(float) * PREFILL * DIM);
    for (size_t column = 0; column < N_COLUMNS; column++)
        for (size_t d = 0; d < 2; d++) {
            bora_input *input = &b->inputs[column][d];
            *input = (bora_input){.x = b->x, .n_rows = columns[column].n_columns, .n_cols = dims[d]};
            input->panels = bora_alloc_aligned(64, bora_input_size(input->n_rows, input->n_cols));
            if (!input->panels)
                return bora_fail(err, BORA_E_NOMEM, "panels");
            bora_input_fill(b->kernels, input, 0, bora_input_n_panels(input->n_rows));
        }
    return BORA_OK;
}

static void bench_release(bench *b)
{
    for (size_t column = 0; column < N_COLUMNS; column++)
        for (size_t d = 0; d < 2; d++)
            bora_free(b->inputs[column][d].panels);
    bora_free(b->x);
    bora_free(b->y);
    bora_limits_free(b->limits);
    bora_kernels_free(b->kernels);
    bora_pool_free(b->pool);
}

/* Prints the line of a type; how many floors it missed is added. */
static bora_status run_type(bench *b, size_t type, bool is_judged, uint32_t *n_missed, bora_error *err)
{
    cycle c = {.n = 0};
    bora_status st = cycle_make(b, types[type].dtype, &c, err);
    for (size_t column = 0; st == BORA_OK && column < N_COLUMNS; column++) {
        const bool prefill = columns[column].n_columns == PREFILL;
        const double floor = prefill ? types[type].prefill_floor : columns[column].floor;
        double share, rate, limit;
        if (!measure(b, &c, column, &share, &rate, &limit)) {
            st = bora_fail(err, BORA_E_NOMEM, "a pass");
            break;
        }
        bool missed = is_judged && share < floor;
        *n_missed += missed;
        printf("%-5s %8u %10.1f %10.1f %-7s %7.1f %%", bora_block_of(types[type].dtype)->name,
               columns[column].n_columns, rate * 1e-9, limit * 1e-9, prefill ? "GMAC/s" : "GB/s", share * 100);
        if (is_judged)
            printf(" %6.0f %%%s", floor * 100, missed ? "  below" : "");
        printf("\n");
        (void)fflush(stdout);
    }
    cycle_release(&c);
    return st;
}

static long number(const char *text, long min, long max)
{
    long value = strtol(text, NULL, 10);
    return value < min ? min : value > max ? max : value;
}

int main(int argc, char **argv)
{
    static bench b;
    bora_error err = {""};
    uint32_t n_missed = 0;
    bora_cpu_detect(&b.cpu);
    const char *path = bora_packed_choose(&b.cpu)->name;
    const bool is_fast = strcmp(path, "avx512") == 0;
    b.is_plain = strcmp(path, "plain") == 0;
    b.rounds = (uint32_t)(argc > 1 ? number(argv[1], 1, ROUNDS_MAX) : is_fast ? 15 : b.is_plain ? 1 : 5);
    b.n_threads = argc > 2 ? (uint32_t)number(argv[2], 1, 1024) : b.cpu.n_cores;
    bora_status st = bench_init(&b, &err);
    printf("packed products, %s, %u threads, median of %u\n%-5s %8s %10s %10s %-7s %9s%s\n", path, b.n_threads,
           b.rounds, "type", "columns", "product", "limit", "", "share", is_fast ? "    floor" : "");
    for (size_t type = 0; st == BORA_OK && type < BORA_ARRAY_SIZE(types); type++)
        st = run_type(&b, type, is_fast, &n_missed, &err);
    double cpu_share = b.n_cpu_shares ? median(b.cpu_shares, b.n_cpu_shares) : 0;
    bench_release(&b);
    if (st != BORA_OK) {
        fprintf(stderr, "bench_floors: %s\n", err.message);
        return 1;
    }
    if (!is_fast) {
        printf("not judged: the floors are those of the avx512 path\n");
        return 0;
    }
    if (cpu_share < CPU_SHARE) {
        printf("MACHINE IS BUSY: NOT JUDGED. The threads had a processor for only %.0f %% of the time.\n",
               cpu_share * 100);
        return EXIT_BUSY;
    }
    if (n_missed)
        printf("%u figures are below their floor\n", n_missed);
    else
        printf("all are above their floors\n");
    return n_missed ? 1 : 0;
}
