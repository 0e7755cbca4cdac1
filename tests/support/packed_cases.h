/* What tests of the packed product share: weights, activations, and both made ready by a path. Memory is exactly as
 * large as is promised to be enough and ends at a page that cannot be touched: reading or writing past it ends the
 * test, whatever the code was built with. */
#ifndef TESTS_SUPPORT_PACKED_CASES_H
#define TESTS_SUPPORT_PACKED_CASES_H

#include "base/cpu.h"
#include "base/memory.h"
#include "kernels/packed/packed.h"
#include "support/blocks.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PACKED_FIRST   BORA_DTYPE_Q8_0
#define PACKED_END     BORA_DTYPE_COUNT

/* The processor lowered to what a path needs. False if it lacks that. The last one is of matrices alone: BF16 weights.
 */
#define PACKED_N_PATHS 3u
#define MATRIX_N_PATHS (PACKED_N_PATHS + 1)
static inline bool packed_cpu(uint32_t path, bora_cpu *ret_cpu)
{
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    const bool is_here = path == 0 || (path == 1 ? cpu.avx2 : cpu.avx512_vnni && (path == 2 || cpu.avx512_bf16));
    cpu.avx2 = path > 0;
    cpu.avx512 = cpu.avx512_vnni = path > 1;
    cpu.avx512_bf16 = path > 2;
    *ret_cpu = cpu;
    return is_here;
}

static inline size_t packed_cols(uint32_t dtype, size_t n_cols)
{
    const size_t n = bora_block_of(dtype)->n_elements;
    return (n_cols + n - 1) / n * n;
}

static inline float packed_random(uint64_t *random)
{
    return (float)blocks_random(random) * 0x1p-30f - 1;
}

/* Where a mapping begins and how long it is, right before the memory that was handed out. */
typedef struct packed_mapping {
    void *start;
    size_t size;
} packed_mapping;

/* size bytes up to a page that cannot be touched; free with packed_free. */
static inline void *packed_alloc_exact(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (size + page - 1) / page * page;
    packed_mapping mapping = {.size = n + 2 * page};
    mapping.start = mmap(NULL, mapping.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(mapping.start != MAP_FAILED);
    char *end = (char *)mapping.start + page + n;
    assert_int_equal(mprotect(end, page, PROT_NONE), 0);
    char *memory = end - size;
    memcpy(memory - sizeof mapping, &mapping, sizeof mapping);
    return memory;
}

/* The same, aligned to 64. */
static inline void *packed_alloc(size_t size)
{
    return packed_alloc_exact((size + 63) / 64 * 64);
}

static inline void packed_free(void *memory)
{
    packed_mapping mapping;
    memcpy(&mapping, (char *)memory - sizeof mapping, sizeof mapping);
    if (munmap(mapping.start, mapping.size) != 0)
        fail_msg("munmap %p %zu of %p: %m", mapping.start, mapping.size, memory);
}

/* Rows at an odd address and three bytes further apart than they need be; free with packed_free_rows. */
static inline bora_tensor packed_random_rows(uint32_t dtype, size_t n_rows, size_t n_cols, uint64_t *random)
{
    const bora_block *type = bora_block_of(dtype);
    const size_t used = n_cols / type->n_elements * type->size, row_size = used + 3;
    uint8_t *memory = packed_alloc_exact(1 + (n_rows - 1) * row_size + used);
    for (size_t row = 0; row < n_rows; row++)
        for (size_t block = 0; block < n_cols / type->n_elements; block++) /* some scales are subnormal */
            blocks_fill(dtype, random, type->n_elements > 1 && block % 3 == 0 ? 0.004f : 1.0f,
                        memory + 1 + row * row_size + block * type->size);
    return (bora_tensor){.data = memory + 1, .row_size = row_size, .n_rows = n_rows, .n_cols = n_cols, .dtype = dtype};
}

static inline void packed_free_rows(const bora_tensor *w)
{
    packed_free((uint8_t *)(uintptr_t)w->data - 1);
}

/* Blocks of x of very different size, all shifts among them. */
static inline float *packed_random_x(size_t n_rows, size_t n_cols, uint64_t *random)
{
    float *x = packed_alloc_exact(n_rows * n_cols * sizeof *x);
    float size = 1;
    for (size_t i = 0; i < n_rows * n_cols; i++) {
        if (i % 32 == 0)
            size = ldexpf(1, -(int)(blocks_random(random) % 6));
        x[i] = packed_random(random) * size;
    }
    return x;
}

/* Quantised by a path; free panels. */
static inline bora_input packed_input(const bora_packed_path *path, const float *x, uint32_t n_rows, uint32_t n_cols)
{
    const size_t size = bora_input_size(n_rows, n_cols);
    bora_input input = {.x = x, .panels = packed_alloc(size), .n_rows = n_rows, .n_cols = n_cols};
    memset(input.panels, 0xee, size);
    for (uint32_t p = 0; p < bora_input_n_panels(n_rows); p++) {
        const bora_panel panel = bora_panel_at(&input, p);
        for (uint32_t column = 0; column < panel.n_columns; column++, x += n_cols)
            path->fill(x, n_cols, &panel, column);
    }
    return input;
}

/* Packed by a path; free units. */
static inline bora_strips packed_strips(const bora_packed_path *path, const bora_tensor *w)
{
    const size_t n_units = (w->n_cols + BORA_UNIT_COLS - 1) / BORA_UNIT_COLS;
    const size_t n_strips = (w->n_rows + BORA_STRIP_ROWS - 1) / BORA_STRIP_ROWS;
    const size_t strip_size = n_units * bora_unit_size(w->dtype);
    uint8_t *units = packed_alloc(n_strips * strip_size);
    memset(units, 0xee, n_strips * strip_size);
    for (size_t s = 0; s < n_strips; s++) {
        const size_t first = s * BORA_STRIP_ROWS, rest = w->n_rows - first;
        path->pack(w->dtype, (const uint8_t *)w->data + first * w->row_size, w->row_size,
                   rest < BORA_STRIP_ROWS ? rest : BORA_STRIP_ROWS, w->n_cols, units + s * strip_size);
    }
    return (bora_strips){.dtype = w->dtype, .n_strips = (uint32_t)n_strips, .units = units, .n_units = n_units};
}

static inline void packed_multiply(const bora_packed_path *path, const bora_strips *w, const bora_input *x, float *y,
                                   size_t y_stride)
{
    void *scratch = packed_alloc(path->scratch_size(w->n_units));
    path->multiply(w, x, y, y_stride, scratch);
    packed_free(scratch);
}

/* The same bits; NaN is NaN whatever its bits, as those depend on the order of operands. */
static inline bool packed_same(float a, float b)
{
    return isnan(a) ? isnan(b) : memcmp(&a, &b, sizeof a) == 0;
}

#endif
