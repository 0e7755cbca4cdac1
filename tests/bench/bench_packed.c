/* How far products with packed weights are from the limits of the machine they run on: with few columns against plainly
 * reading the same bytes, with many against a loop of nothing but int8 dot products. All threads; what is to be
 * compared alternates within one run, because memory bandwidth on shared machines wanders. Times are those of the
 * processor, the longest of any thread: what other processes take does not count. Prints the best of the rounds and the
 * ratio of the two, for decoding also the median of the rounds' ratios.
 *
 *   bench_packed [rounds [MiB of weights]] */
#include "base/memory.h"
#include "base/pool.h"
#include "base/region.h"
#include "kernels/kernels_private.h"
#include "kernels/packed/packed.h"
#include "model/blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define N_COLS         4096u
#define COLUMNS_MAX    256u
#define PREFILL_STRIPS 256u
#define PREFILL_ITEM   8u /* strips that are shared out together: they are multiplied two at a time */
#define SAMPLE_STRIPS  4u
#define THREADS_MAX    256u
#define ROUNDS_MAX     1001u

static const uint32_t dtypes[] = {BORA_DTYPE_Q4_0, BORA_DTYPE_Q8_0, BORA_DTYPE_Q4_K, BORA_DTYPE_Q5_K, BORA_DTYPE_Q6_K};
static const uint32_t columns_few[] = {1, 2, 4, 8};
static const uint32_t columns_many[] = {16, 64, COLUMNS_MAX};

typedef struct bench {
    const bora_packed_path *path;
    bora_pool *pool;
    bora_cpu cpu;
    uint8_t *weights;
    float *x; /* [COLUMNS_MAX, N_COLS] */
    float *y; /* [columns, y_stride] */
    size_t y_size;
    bora_strips strips;
    bora_input input;
    uint8_t *scratch[THREADS_MAX];
    double seconds[THREADS_MAX];
    uint64_t sink[THREADS_MAX]; /* keeps results alive */
    bool read_prefetches;
    uint32_t strips_per_item; /* of run_multiply */
    uint32_t rounds;
} bench;

static double cpu_time(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static size_t strip_size(const bora_strips *strips)
{
    return strips->n_units * bora_unit_size(strips->dtype);
}

/* One stream, as a product reads; with prefetching or without: which is faster depends on the processor. */
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t
read_plainly(const uint8_t *bytes, size_t size, bool prefetches)
{
    typedef uint64_t words __attribute__((vector_size(64), may_alias));
    words sums[4] = {{0}};
    for (size_t i = 0; i + 256 <= size; i += 256) {
        for (size_t j = 0; j < 4; j++) {
            if (prefetches)
                __builtin_prefetch(bytes + i + j * 64 + 4096);
            sums[j] ^= *(const words *)(const void *)(bytes + i + j * 64);
        }
    }
    const words all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
    return all[0] ^ all[1] ^ all[2] ^ all[3] ^ all[4] ^ all[5] ^ all[6] ^ all[7];
}

#define PEAK_LOOPS        200000u
#define PEAK_ACCUMULATORS 16u
#define PEAK_MACS         ((double)PEAK_LOOPS * PEAK_ACCUMULATORS * 64)

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) static uint64_t int8_peak(void)
{
    __m512i acc[PEAK_ACCUMULATORS], w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
#pragma GCC unroll 16
    for (size_t i = 0; i < PEAK_ACCUMULATORS; i++)
        acc[i] = _mm512_setzero_si512();
    for (size_t loop = 0; loop < PEAK_LOOPS; loop++) {
#pragma GCC unroll 16
        for (size_t i = 0; i < PEAK_ACCUMULATORS; i++) {
            acc[i] = _mm512_dpbusd_epi32(acc[i], w, x);
            __asm__("" : "+v"(acc[i])); /* not the same as the other accumulators, for all the compiler knows */
        }
    }
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (size_t i = 0; i < PEAK_ACCUMULATORS; i++)
        sum = _mm512_xor_si512(sum, acc[i]);
    return (uint64_t)_mm512_reduce_add_epi32(sum);
}
#else
static uint64_t int8_peak(void)
{
    return 0; /* not called: needs AVX-512 */
}
#endif

static void run_read(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    bench *b = arg;
    const double start = cpu_time();
    const size_t size = strip_size(&b->strips);
    b->sink[worker] ^= read_plainly(b->strips.units + begin * size, (end - begin) * size, b->read_prefetches);
    b->seconds[worker] += cpu_time() - start;
}

static void run_multiply(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    bench *b = arg;
    const double start = cpu_time();
    bora_strips strips = b->strips;
    const size_t first = (size_t)begin * b->strips_per_item;
    strips.units += first * strip_size(&strips);
    strips.n_strips = (end - begin) * b->strips_per_item;
    b->path->multiply(&strips, &b->input, b->y + BORA_STRIP_ROWS * first, BORA_STRIP_ROWS * (size_t)b->strips.n_strips,
                      b->scratch[worker]);
    b->seconds[worker] += cpu_time() - start;
}

static void run_peak(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    bench *b = arg;
    const double start = cpu_time();
    for (uint32_t i = begin; i < end; i++)
        b->sink[worker] ^= int8_peak();
    b->seconds[worker] += cpu_time() - start;
}

/* Seconds of the slowest thread. */
static double run(bench *b, uint32_t n_items, bora_parallel_fn fn)
{
    double longest = 0;
    memset(b->seconds, 0, sizeof b->seconds);
    bora_pool_parallel_for(b->pool, n_items, fn, b);
    for (uint32_t i = 0; i < bora_pool_n_threads(b->pool); i++)
        longest = b->seconds[i] > longest ? b->seconds[i] : longest;
    return longest;
}

/* Seconds that a thread needs for its share. It need not be its own that it does: the mean. */
static double run_all_peak(bench *b)
{
    const uint32_t n_threads = bora_pool_n_threads(b->pool);
    double sum = 0;
    (void)run(b, n_threads, run_peak);
    for (uint32_t i = 0; i < n_threads; i++)
        sum += b->seconds[i];
    return sum / n_threads;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* Packs a few strips of random blocks with scales around 1/1000 and repeats them over all of the weights. */
static void fill_weights(bench *b, uint32_t dtype, size_t weights_size)
{
    static uint8_t rows[BORA_STRIP_ROWS * N_COLS * 2];
    const bora_block *block = bora_block_of(dtype);
    const size_t row_size = N_COLS / block->n_elements * block->size;
    b->strips = (bora_strips){.dtype = dtype, .units = b->weights, .n_units = N_COLS / BORA_UNIT_COLS};
    const size_t size = strip_size(&b->strips);
    b->strips.n_strips = (uint32_t)(weights_size / size);
    uint64_t state = 1;
    for (uint32_t strip = 0; strip < SAMPLE_STRIPS; strip++) {
        for (size_t i = 0; i < BORA_STRIP_ROWS * row_size; i++) {
            state = state * UINT64_C(6364136223846793005) + 1;
            rows[i] = (uint8_t)(state >> 56);
        }
        for (size_t i = 0; i < BORA_STRIP_ROWS * row_size; i += block->size) {
            const uint16_t scale = bora_f32_to_f16(1e-3f);
            memcpy(rows + i + (dtype == BORA_DTYPE_Q6_K ? 208 : 0), &scale, 2);
            if (dtype == BORA_DTYPE_Q4_K || dtype == BORA_DTYPE_Q5_K)
                memcpy(rows + i + 2, &scale, 2);
        }
        b->path->pack(dtype, rows, row_size, BORA_STRIP_ROWS, N_COLS, b->weights + strip * size);
    }
    for (uint32_t strip = SAMPLE_STRIPS; strip < b->strips.n_strips; strip++)
        memcpy(b->weights + strip * size, b->weights + strip % SAMPLE_STRIPS * size, size);
}

static void fill_input(bench *b, uint32_t n_columns)
{
    b->input.n_rows = n_columns;
    uint32_t row = 0;
    for (uint32_t p = 0; p < bora_input_n_panels(n_columns); p++) {
        const bora_panel panel = bora_panel_at(&b->input, p);
        for (uint32_t c = 0; c < panel.n_columns; c++)
            b->path->fill(b->x + (size_t)row++ * N_COLS, N_COLS, &panel, c);
    }
}

static void bench_few(bench *b, uint32_t n_columns)
{
    static double ratios[ROUNDS_MAX];
    double read = 1e9, product = 1e9;
    b->strips_per_item = 1;
    const double bytes = (double)strip_size(&b->strips) * b->strips.n_strips;
    fill_input(b, n_columns);
    for (uint32_t round = 0; round < b->rounds; round++) {
        b->read_prefetches = false;
        double r = run(b, b->strips.n_strips, run_read);
        b->read_prefetches = true;
        r = least(r, run(b, b->strips.n_strips, run_read));
        const double p = run(b, b->strips.n_strips, run_multiply);
        read = least(read, r);
        product = least(product, p);
        ratios[round] = r / p;
    }
    qsort(ratios, b->rounds, sizeof ratios[0], compare);
    printf("%-5s %3u columns  read %5.1f GB/s    product %5.1f GB/s    ratio %.2f  median %.2f\n",
           bora_block_of(b->strips.dtype)->name, n_columns, bytes / read * 1e-9, bytes / product * 1e-9, read / product,
           ratios[b->rounds / 2]);
}

static void bench_many(bench *b, uint32_t n_columns)
{
    double peak = 1e9, product = 1e9;
    const bora_strips all = b->strips;
    const uint32_t n_threads = bora_pool_n_threads(b->pool), n_parts = all.n_strips / PREFILL_STRIPS;
    const double macs = (double)PREFILL_STRIPS * BORA_STRIP_ROWS * N_COLS * n_columns;
    fill_input(b, n_columns);
    b->strips.n_strips = PREFILL_STRIPS;
    b->strips_per_item = PREFILL_ITEM;
    for (uint32_t round = 0; round < 4 * b->rounds; round++) {
        if (b->cpu.avx512_vnni)
            peak = least(peak, run_all_peak(b));
        b->strips.units = all.units + round % n_parts * PREFILL_STRIPS * strip_size(&all);
        product = least(product, run(b, PREFILL_STRIPS / PREFILL_ITEM, run_multiply));
    }
    b->strips = all;
    printf("%-5s %3u columns  ", bora_block_of(all.dtype)->name, n_columns);
    if (b->cpu.avx512_vnni)
        printf("int8 %6.0f GMAC/s  product %5.0f GMAC/s  ratio %.2f\n", PEAK_MACS * n_threads / peak * 1e-9,
               macs / product * 1e-9, macs / product / (PEAK_MACS * n_threads / peak));
    else
        printf("product %5.0f GMAC/s\n", macs / product * 1e-9);
}

int main(int argc, char **argv)
{
    const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 10, mib = argc > 2 ? strtol(argv[2], NULL, 10) : 1024;
    static bench b;
    bora_region *region = NULL;
    bora_error err;
    b.rounds = rounds < 1 ? 1 : rounds > (long)ROUNDS_MAX ? ROUNDS_MAX : (uint32_t)rounds;
    const size_t weights_size = (size_t)(mib < 64 ? 64 : mib > 65536 ? 65536 : mib) << 20;
    bora_cpu_detect(&b.cpu);
    b.path = bora_packed_choose(&b.cpu);
    const uint32_t n_threads = b.cpu.n_cores < THREADS_MAX ? b.cpu.n_cores : THREADS_MAX;
    if (bora_pool_new(n_threads, &b.pool, &err) || bora_region_new(NULL, 0, &region, &err)) {
        fprintf(stderr, "bench_packed: %s\n", err.message);
        return 1;
    }
    /* The smallest unit is Q4_0's: so many strips at most. */
    const size_t strips_max = weights_size / (N_COLS / BORA_UNIT_COLS * bora_unit_size(BORA_DTYPE_Q4_0));
    const size_t y_few = strips_max * BORA_STRIP_ROWS * BORA_PANEL_COLUMNS_MAX;
    const size_t y_many = (size_t)PREFILL_STRIPS * BORA_STRIP_ROWS * COLUMNS_MAX;
    b.weights = bora_region_alloc(region, weights_size);
    b.y = bora_region_alloc(region, (y_few > y_many ? y_few : y_many) * sizeof *b.y);
    b.x = bora_region_alloc(region, (size_t)COLUMNS_MAX * N_COLS * sizeof *b.x);
    b.input = (bora_input){.n_cols = N_COLS};
    b.input.panels = bora_region_alloc(region, bora_input_size(COLUMNS_MAX, N_COLS));
    bool complete = b.weights && b.y && b.x && b.input.panels;
    for (uint32_t i = 0; i < n_threads; i++) {
        b.scratch[i] = bora_region_alloc(region, b.path->scratch_size(N_COLS / BORA_UNIT_COLS) + 64);
        complete = complete && b.scratch[i];
    }
    if (!complete) {
        fprintf(stderr, "bench_packed: out of memory\n");
        return 1;
    }
    for (size_t i = 0; i < (size_t)COLUMNS_MAX * N_COLS; i++)
        b.x[i] = (float)(i % 251) * 0.01f - 1.25f;

    printf("%s path, %u threads, %u columns of weights, best of %u\n", b.path->name, n_threads, N_COLS, b.rounds);
    for (size_t t = 0; t < sizeof dtypes / sizeof dtypes[0]; t++) {
        fill_weights(&b, dtypes[t], weights_size);
        for (size_t i = 0; i < sizeof columns_few / sizeof columns_few[0]; i++)
            bench_few(&b, columns_few[i]);
        for (size_t i = 0; i < sizeof columns_many / sizeof columns_many[0]; i++)
            bench_many(&b, columns_many[i]);
    }
    bora_region_free(region);
    bora_pool_free(b.pool);
    return 0;
}
