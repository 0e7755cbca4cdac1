/* y = x w^T: how the work is cut, the plain C path, and the definition.
 *
 * Rows of w go to the threads in groups of 4. Few rows of x (decoding), and with the widest tiles any number: one fused
 * pass over the weights as they are stored, each read once, in order, for as many tokens as stay in a cache. Otherwise
 * blocks of tokens x blocks of weight rows x ranges of k; a range of weights is dequantised once into the thread's
 * scratch and multiplied with all tokens of the block while it is in cache; partial sums wait in the scratch until the
 * next range of k. None of this changes the order of a sum, see matmul.h. */
#include "kernels/matmul.h"

#include "base/counted.h"
#include "base/memory.h"
#include "base/size.h"
#include "kernels/dequantize.h"
#include "kernels/kernels_private.h"
#include "model/blocks.h"

#include <assert.h>
#include <string.h>

/* 192 KiB of weights, 528 KiB of partial sums and 396 KiB of x, what stays in a second-level cache of today. Of eight
 * combinations tried the fastest; the others lose up to a tenth. */
#define BLOCK_ROWS    64u
#define BLOCK_COLS    768u /* whole blocks of every type */
#define BLOCK_TOKENS  132u
/* Multiply-adds below which waking the other threads costs more than they save. */
#define SMALL_WORK    (32u * 1024u)
#define GENERIC_LANES 16u
/* Bytes of x that one pass over the weights as they are stored is to serve, about a second-level cache; tiles of tokens
 * that it serves in any case; tokens up to which one pass is better than dequantised weights, whatever the tile. */
#define FUSED_SIZE    ((size_t)1 << 20)
#define FUSED_TILES   2u
#define FUSED_TOKENS  36u

_Static_assert(BLOCK_COLS % BORA_BLOCK_ELEMENTS_MAX == 0, "k is cut between blocks");

/* ---- plain C ---------------------------------------------------------------------------------------- */

static void generic_accumulate(size_t n, const float *w, const float *x, float *lanes)
{
    size_t k = 0;
    for (; k + GENERIC_LANES <= n; k += GENERIC_LANES)
        for (size_t lane = 0; lane < GENERIC_LANES; lane++)
            lanes[lane] += w[k + lane] * x[k + lane];
    for (size_t lane = 0; k < n; k++, lane++)
        lanes[lane] += w[k] * x[k];
}

static float generic_add_lanes(const float *lanes)
{
    float sums[GENERIC_LANES];
    memcpy(sums, lanes, sizeof sums);
    for (size_t half = GENERIC_LANES / 2; half; half /= 2)
        for (size_t lane = 0; lane < half; lane++)
            sums[lane] += sums[lane + half];
    return sums[0];
}

/* One token; rows are f32 in scratch, hence aligned. */
static void generic_packed(const bora_matmul_tile *tile)
{
    for (uint32_t r = 0; r < tile->n_rows; r++) {
        float lanes[GENERIC_LANES] = {0};
        if (!tile->first)
            memcpy(lanes, tile->state + r * GENERIC_LANES, sizeof lanes);
        generic_accumulate(tile->n, (const float *)(const void *)tile->rows[r], tile->x, lanes);
        if (tile->last)
            tile->y[r] = generic_add_lanes(lanes);
        else
            memcpy(tile->state + r * GENERIC_LANES, lanes, sizeof lanes);
    }
}

static const bora_matmul_path generic_path = {
    .n_lanes = GENERIC_LANES,
    .n_tokens_max = 1,
    .packed = {generic_packed},
};

void bora_matmul_reference(const bora_tensor *w, size_t n, const float *x, float *y, size_t y_stride)
{
    const size_t n_block = bora_block_of(w->dtype)->n_elements;
    for (size_t token = 0; token < n; token++, x += w->n_cols, y += y_stride) {
        for (uint64_t r = 0; r < w->n_rows; r++) {
            const uint8_t *row = (const uint8_t *)w->data + r * w->row_size;
            float lanes[GENERIC_LANES] = {0}, block[BORA_BLOCK_ELEMENTS_MAX];
            for (size_t k = 0; k < w->n_cols; k++) {
                if (k % n_block == 0)
                    bora_dequantize_row(NULL, w->dtype, row, k, n_block, block);
                lanes[k % GENERIC_LANES] += block[k % n_block] * x[k];
            }
            y[r] = generic_add_lanes(lanes);
        }
    }
}

/* ---- cutting the work ------------------------------------------------------------------------------- */

typedef struct matmul_job {
    bora_kernels *kernels;
    const bora_tensor *w;
    size_t n;
    const float *x;
    float *y;
    size_t y_stride;
} matmul_job;

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Four rows of weights, from the first on; behind the last row the last row again. */
static void tile_set_rows(bora_matmul_tile *tile, const uint8_t *first, size_t row_size, size_t n_rows)
{
    tile->n_rows = (uint32_t)min_size(n_rows, BORA_TILE_ROWS);
    for (uint32_t r = 0; r < BORA_TILE_ROWS; r++)
        tile->rows[r] = first + (r < tile->n_rows ? r : tile->n_rows - 1) * row_size;
}

/* Weights go from memory to registers; those of four rows once for every tile, from the second on out of the cache. */
static void run_fused(const matmul_job *job, size_t token, size_t n_tokens, size_t row_begin, size_t row_end)
{
    const bora_tensor *w = job->w;
    const bora_matmul_path *path = job->kernels->path;
    const size_t n_tiles = (n_tokens + path->n_tokens_max - 1) / path->n_tokens_max;
    for (size_t row = row_begin; row < row_end; row += BORA_TILE_ROWS) {
        bora_matmul_tile tile = {.x = job->x + token * w->n_cols,
                                 .x_stride = w->n_cols,
                                 .n = w->n_cols,
                                 .first = true,
                                 .last = true,
                                 .row_size = w->row_size,
                                 .y = job->y + token * job->y_stride + row,
                                 .y_stride = job->y_stride};
        tile_set_rows(&tile, (const uint8_t *)w->data + row * w->row_size, w->row_size, row_end - row);
        for (size_t i = 0, left = n_tokens; i < n_tiles; i++) {
            const size_t n = left / (n_tiles - i);
            path->fused[w->dtype][n - 1](&tile);
            tile.x += n * w->n_cols;
            tile.y += n * job->y_stride;
            left -= n;
        }
    }
}

/* Tokens that a pass over the weights as they are stored serves; 0: dequantise them first. What takes more than a load
 * to widen is widened once. Several passes pay for 16 bits in tiles so wide that widening costs little beside them. */
static size_t fused_tokens(const matmul_job *job)
{
    const bora_matmul_path *path = job->kernels->path;
    const uint32_t dtype = job->w->dtype;
    const size_t widest = path->n_tokens_max;
    if (!path->fused[dtype][0])
        return 0;
    if (dtype > BORA_DTYPE_BF16)
        return job->n <= widest ? widest : 0;
    const size_t n_tiles = FUSED_SIZE / sizeof(float) / job->w->n_cols / widest;
    const size_t n_tokens = (n_tiles > FUSED_TILES ? n_tiles : FUSED_TILES) * widest;
    const bool passes_pay = dtype != BORA_DTYPE_F32 && widest == BORA_TILE_TOKENS_MAX;
    return passes_pay || job->n <= min_size(n_tokens, FUSED_TOKENS) ? n_tokens : 0;
}

/* One range of k for a block of tokens x a block of rows. */
static void run_range(const matmul_job *job, const bora_kernels_scratch *scratch, size_t token, size_t n_tokens,
                      size_t row, size_t n_rows, size_t k, size_t n_k)
{
    const bora_kernels *kernels = job->kernels;
    const bora_matmul_path *path = kernels->path;
    const bora_tensor *w = job->w;
    const uint8_t *source = (const uint8_t *)w->data + row * w->row_size;
    for (size_t r = 0; r < n_rows; r++)
        bora_dequantize_row(&kernels->cpu, w->dtype, source + r * w->row_size, k, n_k, scratch->weights + r * n_k);

    for (size_t t = 0; t < n_tokens; t += path->n_tokens_max) {
        size_t n_tile = min_size(n_tokens - t, path->n_tokens_max);
        bora_matmul_tile tile = {.x = job->x + (token + t) * w->n_cols + k,
                                 .x_stride = w->n_cols,
                                 .n = n_k,
                                 .first = k == 0,
                                 .last = k + n_k == w->n_cols,
                                 .y_stride = job->y_stride};
        for (size_t r = 0; r < n_rows; r += BORA_TILE_ROWS) {
            tile_set_rows(&tile, (const uint8_t *)(scratch->weights + r * n_k), n_k * sizeof(float), n_rows - r);
            if (!(tile.first && tile.last))
                tile.state = scratch->state + (r * BLOCK_TOKENS + t * BORA_TILE_ROWS) * path->n_lanes;
            tile.y = job->y + (token + t) * job->y_stride + row + r;
            path->packed[n_tile - 1](&tile);
        }
    }
}

static void run_blocked(const matmul_job *job, size_t row_begin, size_t row_end, const bora_kernels_scratch *scratch)
{
    size_t n_cols = job->w->n_cols, block_cols = job->kernels->block_cols;
    for (size_t token = 0; token < job->n; token += BLOCK_TOKENS)
        for (size_t row = row_begin; row < row_end; row += BLOCK_ROWS)
            for (size_t k = 0; k < n_cols; k += block_cols)
                run_range(job, scratch, token, min_size(job->n - token, BLOCK_TOKENS), row,
                          min_size(row_end - row, BLOCK_ROWS), k, min_size(n_cols - k, block_cols));
}

static void run_groups(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const matmul_job *job = arg;
    size_t row_begin = (size_t)begin * BORA_TILE_ROWS;
    size_t row_end = min_size((size_t)end * BORA_TILE_ROWS, job->w->n_rows);
    const size_t n_block = fused_tokens(job);
    if (n_block)
        for (size_t token = 0; token < job->n; token += n_block)
            run_fused(job, token, min_size(job->n - token, n_block), row_begin, row_end);
    else
        run_blocked(job, row_begin, row_end, &job->kernels->scratch[worker]);
}

static uint32_t groups_of(const bora_tensor *w)
{
    return (uint32_t)((w->n_rows + BORA_TILE_ROWS - 1) / BORA_TILE_ROWS);
}

/* True if there is nothing to add up: all is done then. */
static bool answer_empty(const matmul_job *job)
{
    assert(job->w->n_cols <= job->kernels->max_cols && job->w->dtype < BORA_DTYPE_COUNT);
    if (job->n == 0 || job->w->n_rows == 0)
        return true;
    if (job->w->n_cols > 0)
        return false;
    for (size_t token = 0; token < job->n; token++)
        memset(job->y + token * job->y_stride, 0, job->w->n_rows * sizeof *job->y);
    return true;
}

void bora_matmul_alone(bora_kernels *kernels, const bora_tensor *w, size_t n, const float *x, float *y, size_t y_stride,
                       uint32_t worker)
{
    matmul_job job = {.kernels = kernels, .w = w, .n = n, .x = x, .y = y, .y_stride = y_stride};
    if (!answer_empty(&job))
        run_groups(&job, 0, groups_of(w), worker);
}

void bora_matmul(bora_kernels *kernels, const bora_tensor *w, size_t n, const float *x, float *y, size_t y_stride)
{
    matmul_job job = {.kernels = kernels, .w = w, .n = n, .x = x, .y = y, .y_stride = y_stride};
    if (answer_empty(&job))
        return;
    if ((double)w->n_rows * (double)w->n_cols * (double)n < SMALL_WORK)
        run_groups(&job, 0, groups_of(w), 0);
    else
        bora_pool_parallel_for(kernels->pool, groups_of(w), run_groups, &job);
}

/* ---- life ------------------------------------------------------------------------------------------- */

static const bora_matmul_path *choose_path(const bora_cpu *cpu)
{
#if defined(__x86_64__)
    if (cpu->avx512)
        return bora_matmul_avx512();
    if (cpu->avx2)
        return bora_matmul_avx2();
#else
    (void)cpu;
#endif
    return &generic_path;
}

bora_status bora_kernels_new(const bora_cpu *cpu, bora_pool *pool, size_t max_cols, bora_ledger *ledger,
                             bora_kernels **ret_kernels, bora_error *err)
{
    uint32_t n_threads = bora_pool_n_threads(pool);
    size_t block_cols = BLOCK_COLS;
    if (max_cols < BLOCK_COLS)
        (void)bora_size_round_up(max_cols, BORA_Q8_0_ELEMENTS, &block_cols); /* small: cannot overflow */
    if (block_cols == 0)
        block_cols = BORA_Q8_0_ELEMENTS;
    const bora_matmul_path *path = choose_path(cpu);
    size_t n_weights = BLOCK_ROWS * block_cols;
    size_t n_state = max_cols > block_cols ? (size_t)BLOCK_ROWS * BLOCK_TOKENS * path->n_lanes : 0;

    bora_kernels *kernels = bora_calloc(1, sizeof *kernels + n_threads * sizeof kernels->scratch[0]);
    if (!kernels)
        return bora_fail(err, BORA_E_NOMEM, "kernels of %u threads", n_threads);
    size_t size = SIZE_MAX;
    if (bora_size_mul(n_threads, (n_weights + n_state) * sizeof(float), &size))
        kernels->memory = bora_counted_alloc(ledger, BORA_LEDGER_ACTIVATIONS, size);
    const bora_packed_path *packed = bora_packed_choose(cpu);
    size_t packed_size = 0, n_units = max_cols / BORA_UNIT_COLS + (max_cols % BORA_UNIT_COLS != 0);
    bool fits = bora_size_round_up(packed->scratch_size(n_units), 64, &packed_size);
    if (kernels->memory && fits && packed_size && bora_size_mul(n_threads, packed_size, &size))
        kernels->packed_memory = bora_counted_alloc(ledger, BORA_LEDGER_ACTIVATIONS, size);
    if (!kernels->memory || !fits || (packed_size && !kernels->packed_memory)) {
        bora_status st = bora_counted_fail(ledger, "scratch of the compute threads", size, err);
        bora_kernels_free(kernels);
        return st;
    }
    kernels->cpu = *cpu;
    kernels->pool = pool;
    kernels->path = path;
    kernels->packed = packed;
    kernels->bf16 = bora_bf16_choose(cpu);
    kernels->max_cols = max_cols;
    kernels->block_cols = block_cols;
    for (uint32_t i = 0; i < n_threads; i++) {
        kernels->scratch[i].weights = kernels->memory + i * (n_weights + n_state);
        kernels->scratch[i].state = n_state ? kernels->scratch[i].weights + n_weights : NULL;
        kernels->scratch[i].packed = packed_size ? kernels->packed_memory + i * packed_size : NULL;
    }
    *ret_kernels = kernels;
    return BORA_OK;
}

void bora_kernels_free(bora_kernels *kernels)
{
    if (!kernels)
        return;
    bora_counted_free(kernels->packed_memory);
    bora_counted_free(kernels->memory);
    bora_free(kernels);
}

size_t bora_kernels_max_cols(const bora_kernels *kernels)
{
    return kernels->max_cols;
}
