/* The two probes. Plain loops, written out for each instruction set because compilers turn them into something else. */
#include "kernels/limits.h"

#include "base/memory.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LINE         64u
#define AHEAD        4096u /* bytes; less and more read slower */
#define HUGE_PAGE    ((size_t)2 << 20)
#define SIZE_MIN     ((size_t)128 << 20)
#define SIZE_MAX_OWN ((size_t)512 << 20)
#define INT8_SECONDS 0.02

typedef double (*int8_fn)(double until);

/* What one thread did; a cache line of its own. */
typedef struct share {
    double cpu_seconds;
    double rate; /* multiply-adds per second */
    uint64_t fold;
} __attribute__((aligned(64))) share;

struct bora_limits {
    const bora_cpu *cpu;
    bora_pool *pool;
    uint32_t n_threads;
    uint8_t *bytes; /* [size] */
    size_t size;
    share *shares; /* [n_threads] */
};

static double clock_seconds(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time); /* known clocks: cannot fail */
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

/* ---- reading ---------------------------------------------------------------------------------------- */

static uint64_t fold_plain(const uint8_t *bytes, size_t size)
{
    const uint64_t *words = (const uint64_t *)(const void *)bytes;
    uint64_t sums[8] = {0};
    for (size_t i = 0; i < size / 8; i += 8) {
        __builtin_prefetch((const void *)((uintptr_t)(words + i) + AHEAD)); /* past the end does no harm */
        for (size_t j = 0; j < 8; j++)
            sums[j] ^= words[i + j];
    }
    return sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
}

#if defined(__x86_64__)
static void prefetch(const uint8_t *line)
{
    _mm_prefetch((const char *)((uintptr_t)line + AHEAD), _MM_HINT_T0);
}

__attribute__((target("avx2"))) static uint64_t fold_avx2(const uint8_t *bytes, size_t size)
{
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t i = 0;
    for (; i + 2 * LINE <= size; i += 2 * LINE) {
        const __m256i *at = (const __m256i *)(const void *)(bytes + i);
        prefetch(bytes + i);
        prefetch(bytes + i + LINE);
        sums[0] = _mm256_xor_si256(sums[0], _mm256_load_si256(at));
        sums[1] = _mm256_xor_si256(sums[1], _mm256_load_si256(at + 1));
        sums[2] = _mm256_xor_si256(sums[2], _mm256_load_si256(at + 2));
        sums[3] = _mm256_xor_si256(sums[3], _mm256_load_si256(at + 3));
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)(void *)lanes,
                        _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3])));
    return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3] ^ fold_plain(bytes + i, size - i);
}

__attribute__((target("avx512f"))) static uint64_t fold_avx512(const uint8_t *bytes, size_t size)
{
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t i = 0;
    for (; i + 4 * LINE <= size; i += 4 * LINE) {
        const uint8_t *at = bytes + i;
        prefetch(at);
        prefetch(at + LINE);
        prefetch(at + 2 * LINE);
        prefetch(at + 3 * LINE);
        sums[0] = _mm512_xor_si512(sums[0], _mm512_load_si512(at));
        sums[1] = _mm512_xor_si512(sums[1], _mm512_load_si512(at + LINE));
        sums[2] = _mm512_xor_si512(sums[2], _mm512_load_si512(at + 2 * LINE));
        sums[3] = _mm512_xor_si512(sums[3], _mm512_load_si512(at + 3 * LINE));
    }
    uint64_t lanes[8];
    _mm512_storeu_si512(lanes,
                        _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3])));
    return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3] ^ lanes[4] ^ lanes[5] ^ lanes[6] ^ lanes[7] ^
           fold_plain(bytes + i, size - i);
}
#endif

uint64_t bora_limits_fold(const bora_cpu *cpu, const void *bytes, size_t size)
{
#if defined(__x86_64__)
    if (cpu->avx512)
        return fold_avx512(bytes, size);
    if (cpu->avx2)
        return fold_avx2(bytes, size);
#else
    (void)cpu;
#endif
    return fold_plain(bytes, size);
}

/* ---- multiplying ------------------------------------------------------------------------------------ */

/* Each runs blocks of independent multiply-adds until the time is over, and returns how many per second. KEEP makes the
 * compiler believe that a value is another now: it may neither move work out of the loop nor see that all chains are
 * the same. */
#define KEEP(value) __asm__ volatile("" : "+x"(value))

static double int8_plain(double until)
{
    uint8_t a[LINE];
    int8_t b[LINE];
    int32_t sums[LINE] = {0};
    memset(a, 3, sizeof a);
    memset(b, 5, sizeof b);
    double start = now(), end, n = 0;
    do {
        for (size_t block = 0; block < 1000; block++) {
            __asm__ volatile("" : : "r"(a), "r"(b), "r"(sums) : "memory");
            for (size_t i = 0; i < LINE; i++)
                sums[i] += a[i] * b[i];
        }
        n += 1000.0 * LINE;
        end = now();
    } while (end < until);
    return n / (end - start);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static double int8_avx2(double until)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    double start = now(), end, n = 0;
    KEEP(b);
    KEEP(ones);
    KEEP(s0);
    KEEP(s1);
    KEEP(s2);
    KEEP(s3);
#define STEP(s)                                                                                                        \
    do {                                                                                                               \
        KEEP(a);                                                                                                       \
        (s) = _mm256_add_epi32((s), _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));                              \
    } while (0)
    do {
        for (size_t block = 0; block < 1000; block++) {
            STEP(s0);
            STEP(s1);
            STEP(s2);
            STEP(s3);
            STEP(s0);
            STEP(s1);
            STEP(s2);
            STEP(s3);
        }
        n += 1000.0 * 8 * 32;
        end = now();
    } while (end < until);
#undef STEP
    KEEP(s0);
    KEEP(s1);
    KEEP(s2);
    KEEP(s3);
    return n / (end - start);
}

__attribute__((target("avx512f,avx512vnni"))) static double int8_vnni(double until)
{
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    double start = now(), end, n = 0;
/* Written as instructions: with intrinsics, compilers add moves. Sixteen chains, which is two a clock, five clocks
 * each, and some to spare; what the registers hold does not matter. */
#define STEP(i) "vpdpbusd %1, %0, %%zmm" #i "\n\t"
    do {
        for (size_t block = 0; block < 1000; block++)
            __asm__ volatile(STEP(16) STEP(17) STEP(18) STEP(19) STEP(20) STEP(21) STEP(22) STEP(23) STEP(24) STEP(25)
                                 STEP(26) STEP(27) STEP(28) STEP(29) STEP(30) STEP(31)
                             :
                             : "v"(a), "v"(b)
                             : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
                               "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
        n += 1000.0 * 16 * 64;
        end = now();
    } while (end < until);
#undef STEP
    return n / (end - start);
}
#endif

static int8_fn int8_of(const bora_cpu *cpu)
{
#if defined(__x86_64__)
    if (cpu->avx512_vnni)
        return int8_vnni;
    if (cpu->avx2)
        return int8_avx2;
#else
    (void)cpu;
#endif
    return int8_plain;
}

/* ---- with all threads ------------------------------------------------------------------------------- */

static void read_share(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const bora_limits *limits = arg;
    size_t n_lines = limits->size / LINE;
    size_t from = n_lines * begin / limits->n_threads, to = n_lines * end / limits->n_threads;
    double start = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
    limits->shares[worker].fold = bora_limits_fold(limits->cpu, limits->bytes + from * LINE, (to - from) * LINE);
    limits->shares[worker].cpu_seconds = clock_seconds(CLOCK_THREAD_CPUTIME_ID) - start;
}

static void int8_share(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const bora_limits *limits = arg;
    (void)begin;
    (void)end; /* one item a thread */
    double start = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
    limits->shares[worker].rate = int8_of(limits->cpu)(now() + INT8_SECONDS);
    limits->shares[worker].cpu_seconds = clock_seconds(CLOCK_THREAD_CPUTIME_ID) - start;
}

/* Runs fn on every thread and gives the time and the share of it that they had a processor. */
static bora_limit measure(bora_limits *limits, bora_parallel_fn fn)
{
    double start = now(), cpu_seconds = 0;
    bora_pool_parallel_for(limits->pool, limits->n_threads, fn, limits);
    double seconds = now() - start;
    for (uint32_t t = 0; t < limits->n_threads; t++)
        cpu_seconds += limits->shares[t].cpu_seconds;
    return (bora_limit){.seconds = seconds, .cpu_share = cpu_seconds / (seconds * limits->n_threads)};
}

bora_limit bora_limits_read(bora_limits *limits)
{
    bora_limit limit = measure(limits, read_share);
    limit.per_second = (double)limits->size / limit.seconds;
    return limit;
}

bora_limit bora_limits_int8(bora_limits *limits)
{
    bora_limit limit = measure(limits, int8_share);
    for (uint32_t t = 0; t < limits->n_threads; t++)
        limit.per_second += limits->shares[t].rate;
    return limit;
}

/* ---- life ------------------------------------------------------------------------------------------- */

/* Four times the last cache, within reason. */
static size_t default_size(void)
{
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t size = cache > 0 && (unsigned long)cache < SIZE_MAX_OWN / 4 ? 4 * (size_t)cache : SIZE_MIN;
    if (cache > 0 && (unsigned long)cache >= SIZE_MAX_OWN / 4)
        size = SIZE_MAX_OWN;
    return size > SIZE_MIN ? size : SIZE_MIN;
}

bora_status bora_limits_new(const bora_cpu *cpu, bora_pool *pool, size_t size, bora_limits **ret_limits,
                            bora_error *err)
{
    size = size ? size : default_size();
    if (size > SIZE_MAX - HUGE_PAGE)
        return bora_fail(err, BORA_E_NOMEM, "%zu bytes to read", size);
    size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    bora_limits *limits = bora_calloc(1, sizeof *limits);
    if (!limits)
        return bora_fail(err, BORA_E_NOMEM, "probes");
    *limits = (bora_limits){.cpu = cpu, .pool = pool, .n_threads = bora_pool_n_threads(pool), .size = size};
    limits->shares = bora_alloc_aligned(LINE, limits->n_threads * sizeof *limits->shares);
    limits->bytes = bora_alloc_aligned(HUGE_PAGE, size);
    if (!limits->shares || !limits->bytes) {
        bora_limits_free(limits);
        return bora_fail(err, BORA_E_NOMEM, "%zu bytes to read", size);
    }
    (void)madvise(limits->bytes, size, MADV_HUGEPAGE); /* a wish */
    memset(limits->bytes, 0x5a, size);                 /* pages that were never written are all the same one */
    memset(limits->shares, 0, limits->n_threads * sizeof *limits->shares);
    *ret_limits = limits;
    return BORA_OK;
}

void bora_limits_free(bora_limits *limits)
{
    if (!limits)
        return;
    bora_free(limits->bytes);
    bora_free(limits->shares);
    bora_free(limits);
}

size_t bora_limits_size(const bora_limits *limits)
{
    return limits->size;
}
