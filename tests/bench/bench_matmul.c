/* How far bora_matmul is from the limits of the machine it runs on: decoding (n = 1) against plainly reading the same
 * bytes, prefill (n = 64, 256) against OpenBLAS on the same weights in f32; and BF16 weights with activations rounded
 * to bfloat16 against the same with activations as they are, rounding included. One thread; everything to be compared
 * alternates within one run, because memory bandwidth on shared machines wanders. Prints medians and ratios.
 *
 *   bench_matmul [rounds] */
#include "base/memory.h"
#include "kernels/products.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIM         4096u
#define ROUNDS_MAX  1001u
#define N_TYPES     4u
#define COPIES_SIZE (UINT64_C(512) << 20) /* matrices cycled through while decoding, so that no cache holds them */
#define TOKENS_MAX  256u

typedef struct bench_samples {
    double seconds[ROUNDS_MAX];
    uint32_t n;
} bench_samples;

typedef struct bench {
    bora_kernels *kernels;
    uint8_t *weights; /* COPIES_SIZE bytes of whatever type */
    float *x, *y;     /* [TOKENS_MAX, DIM] */
    uint32_t rounds;
} bench;

static const struct {
    const char *name;
    uint32_t dtype;
    uint64_t row_size;
} types[N_TYPES] = {{"f32", BORA_DTYPE_F32, 4 * DIM},
                    {"f16", BORA_DTYPE_F16, 2 * DIM},
                    {"bf16", BORA_DTYPE_BF16, 2 * DIM},
                    {"q8_0", BORA_DTYPE_Q8_0, DIM / 32 * 34}};

/* The processor's time: what others take does not count. */
static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void samples_add(bench_samples *samples, double seconds)
{
    if (samples->n < ROUNDS_MAX)
        samples->seconds[samples->n++] = seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(bench_samples *samples)
{
    qsort(samples->seconds, samples->n, sizeof samples->seconds[0], compare);
    return samples->seconds[samples->n / 2];
}

/* Adds up all bytes as 64-bit words. Four streams of 16 KiB with prefetching: of 1 to 16 streams and 0 to 16 KiB
 * ahead, what read fastest. */
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t
read_plainly(const uint8_t *bytes, size_t size)
{
    typedef uint64_t words __attribute__((vector_size(64)));
    const size_t run = 16384, ahead = 2048;
    words sums[4] = {{0}};
    for (size_t base = 0; base + 4 * run <= size; base += 4 * run) {
        for (size_t i = 0; i < run; i += 64) {
            size_t next = i + ahead < run ? i + ahead : i + ahead + 3 * run;
            for (size_t j = 0; j < 4; j++) {
                words value;
                __builtin_prefetch(bytes + base + j * run + next);
                memcpy(&value, bytes + base + j * run + i, sizeof value);
                sums[j] += value;
            }
        }
    }
    words total = sums[0] + sums[1] + sums[2] + sums[3];
    return total[0] + total[1] + total[2] + total[3] + total[4] + total[5] + total[6] + total[7];
}

/* Small values of any type; bit patterns that are numbers for each. */
static void fill_weights(uint8_t *weights, uint32_t type)
{
    static float row[DIM];
    uint64_t state = 1;
    for (size_t offset = 0; offset + types[type].row_size <= COPIES_SIZE; offset += types[type].row_size) {
        for (size_t k = 0; k < DIM; k++) {
            state = state * UINT64_C(6364136223846793005) + 1;
            row[k] = (float)(int32_t)(state >> 32) * 0x1p-36f;
        }
        uint8_t *out = weights + offset;
        for (size_t k = 0; k < DIM; k++) {
            uint16_t half = types[type].dtype == BORA_DTYPE_BF16 ? bora_f32_to_bf16(row[k]) : bora_f32_to_f16(row[k]);
            int8_t q = (int8_t)(row[k] * 2000);
            switch (types[type].dtype) {
            case BORA_DTYPE_F32:
                memcpy(out + 4 * k, &row[k], 4);
                break;
            case BORA_DTYPE_Q8_0:
                half = bora_f32_to_f16(1.0f / 2000);
                memcpy(out + k / 32 * 34, &half, 2);
                memcpy(out + k / 32 * 34 + 2 + k % 32, &q, 1);
                break;
            default:
                memcpy(out + 2 * k, &half, 2);
            }
        }
    }
}

static bora_tensor tensor(const bench *b, uint32_t type, size_t index)
{
    uint64_t size = types[type].row_size * DIM;
    return (bora_tensor){.data = b->weights + index % (COPIES_SIZE / size) * size,
                         .row_size = types[type].row_size,
                         .n_rows = DIM,
                         .n_cols = DIM,
                         .dtype = types[type].dtype};
}

static void bench_decode(const bench *b, uint32_t type)
{
    static bench_samples reads, products;
    reads.n = products.n = 0;
    volatile uint64_t sink = 0;
    double bytes = (double)types[type].row_size * DIM;
    for (uint32_t round = 0; round < b->rounds; round++) {
        bora_tensor read = tensor(b, type, 2 * round), w = tensor(b, type, 2 * round + 1);
        double start = now();
        sink = sink + read_plainly(read.data, (size_t)bytes);
        double middle = now();
        bora_matmul(b->kernels, &w, 1, b->x, b->y, DIM);
        samples_add(&reads, middle - start);
        samples_add(&products, now() - middle);
    }
    double read = median(&reads), product = median(&products);
    printf("%-5s n=1    read %5.1f GB/s  matmul %5.1f GB/s  ratio %.2f\n", types[type].name, bytes / read * 1e-9,
           bytes / product * 1e-9, read / product);
}

static void bench_prefill(const bench *b, uint32_t type, uint32_t n, const float *f32)
{
    static bench_samples ours, theirs;
    ours.n = theirs.n = 0;
    uint32_t rounds = b->rounds / 10 + 3;
    for (uint32_t round = 0; round < rounds; round++) {
        bora_tensor w = tensor(b, type, round);
        double start = now();
        bora_matmul(b->kernels, &w, n, b->x, b->y, DIM);
        double middle = now();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, DIM, DIM, 1.0f, b->x, DIM, f32, DIM, 0.0f,
                    b->y, DIM);
        samples_add(&ours, middle - start);
        samples_add(&theirs, now() - middle);
    }
    double macs = (double)n * DIM * DIM, our = median(&ours), their = median(&theirs);
    printf("%-5s n=%-4u sgemm %5.1f GMAC/s  matmul %5.1f GMAC/s  ratio %.2f\n", types[type].name, n,
           macs / their * 1e-9, macs / our * 1e-9, their / our);
}

/* The matrices of COPIES_SIZE bytes of BF16 by turns, one way and the other. */
static bool bench_rounding(const bench *b, const bora_cpu *cpu)
{
    static const bora_rounding roundings[] = {BORA_ROUNDING_F32, BORA_ROUNDING_BF16};
    static const uint32_t counts[] = {1, 2, 4, 8, 16, 64, TOKENS_MAX};
    static bench_samples samples[2];
    enum { BF16 = 2, N_MATRICES = 8 };
    bora_matrix *matrices[2][N_MATRICES];
    bora_input input = {.x = b->x, .panels = bora_alloc_aligned(64, bora_input_size(TOKENS_MAX, DIM)), .n_cols = DIM};
    bool complete = input.panels != NULL;
    for (size_t way = 0; way < 2; way++)
        for (size_t i = 0; i < N_MATRICES; i++) {
            const bora_tensor w = tensor(b, BF16, way * N_MATRICES + i);
            bora_kernels_set_rounding(b->kernels, roundings[way]);
            matrices[way][i] = NULL;
            complete = complete && bora_matrix_new(b->kernels, NULL, &w, &matrices[way][i], NULL) == BORA_OK;
        }
    for (size_t c = 0; complete && cpu->avx512_bf16 && c < sizeof counts / sizeof counts[0]; c++) {
        const uint32_t n = counts[c], rounds = n <= 8 ? b->rounds : b->rounds / 10 + 3;
        samples[0].n = samples[1].n = 0;
        input.n_rows = n;
        for (uint32_t round = 0; round < rounds; round++)
            for (size_t way = 0; way < 2; way++) {
                const bora_product product = {matrices[way][round % N_MATRICES], b->y, DIM};
                const double start = now();
                bora_products_run(b->kernels, &input, &product, 1);
                samples_add(&samples[way], now() - start);
            }
        const double macs = (double)n * DIM * DIM, f32 = median(&samples[0]), bf16 = median(&samples[1]);
        printf("bf16  n=%-4u x f32 %5.1f GMAC/s  x bf16 %5.1f GMAC/s (weights at %4.1f GB/s)  ratio %.2f\n", n,
               macs / f32 * 1e-9, macs / bf16 * 1e-9, 2.0 * DIM * DIM / bf16 * 1e-9, f32 / bf16);
    }
    for (size_t i = 0; i < N_MATRICES; i++)
        for (size_t way = 0; way < 2; way++)
            bora_matrix_free(matrices[way][i]);
    bora_free(input.panels);
    return complete;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 100;
    bench b = {.rounds = rounds < 1 ? 1 : rounds > (long)ROUNDS_MAX ? ROUNDS_MAX : (uint32_t)rounds};
    bora_cpu cpu;
    bora_error err;
    bora_pool *pool = NULL;
    bora_cpu_detect(&cpu);
    openblas_set_num_threads(1);
    if (bora_pool_new(1, &pool, &err) || bora_kernels_new(&cpu, pool, DIM, NULL, &b.kernels, &err)) {
        fprintf(stderr, "bench_matmul: %s\n", err.message);
        return 1;
    }
    b.weights = bora_alloc_aligned(4096, COPIES_SIZE);
    b.x = bora_alloc_aligned(64, TOKENS_MAX * DIM * sizeof(float));
    b.y = bora_alloc_aligned(64, TOKENS_MAX * DIM * sizeof(float));
    float *f32 = bora_alloc_aligned(64, (size_t)DIM * DIM * sizeof(float));
    if (!b.weights || !b.x || !b.y || !f32) {
        fprintf(stderr, "bench_matmul: out of memory\n");
        return 1;
    }
    for (size_t i = 0; i < (size_t)TOKENS_MAX * DIM; i++)
        b.x[i] = (float)(i % 251) * 0.01f - 1.25f;
    for (size_t i = 0; i < (size_t)DIM * DIM; i++)
        f32[i] = (float)(i % 241) * 0.001f - 0.12f;
    printf("%s, one thread, %u x %u, median of %u\n", bora_cpu_name(&cpu), DIM, DIM, b.rounds);
    for (uint32_t type = 0; type < N_TYPES; type++) {
        fill_weights(b.weights, type);
        bench_decode(&b, type);
        bench_prefill(&b, type, 64, f32);
        bench_prefill(&b, type, 256, f32);
        if (types[type].dtype == BORA_DTYPE_BF16 && !bench_rounding(&b, &cpu)) {
            fprintf(stderr, "bench_matmul: out of memory\n");
            return 1;
        }
    }
    bora_free(f32);
    bora_free(b.y);
    bora_free(b.x);
    bora_free(b.weights);
    bora_kernels_free(b.kernels);
    bora_pool_free(pool);
    return 0;
}
