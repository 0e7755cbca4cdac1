/* Matrices: packing them, and sharing out their products. The arithmetic is in kernels/packed, in kernels/bf16
 * and in matmul.c.
 *
 * A packed path writes whole strips. Where a matrix ends within a strip, that one goes through a buffer, panel by
 * panel: a panel alone is an input of its own. */
#include "kernels/matrix.h"

#include "base/memory.h"
#include "base/size.h"
#include "kernels/kernels_private.h"
#include "model/blocks.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the file that are packed before they are reported as read: much to share out, little to keep in memory. */
#define SLICE_SIZE ((size_t)8 << 20)

struct bora_matrix {
    bora_tensor w; /* data: NULL if packed */
    uint32_t n_strips;
    bool is_packed, is_bf16; /* is_bf16: multiplied with rounded activations */
    size_t n_units;          /* of a strip */
    size_t strip_size;       /* bytes; 0: not packed */
    uint8_t *units;          /* [n_strips, n_units, unit size], the region's */
};

/* ---- packing ---------------------------------------------------------------------------------------- */

typedef struct pack_job {
    const bora_kernels *kernels;
    const bora_matrix *matrix;
    const uint8_t *data;
    uint32_t first; /* strip that item 0 is */
} pack_job;

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Rows of strips begin .. end-1 that exist. */
static uint64_t rows_of(const bora_matrix *matrix, uint32_t begin, uint32_t end)
{
    return min_u64((uint64_t)end * BORA_STRIP_ROWS, matrix->w.n_rows) - (uint64_t)begin * BORA_STRIP_ROWS;
}

static void pack_strips(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    const pack_job *job = arg;
    const bora_matrix *matrix = job->matrix;
    const bora_tensor *w = &matrix->w;
    for (uint32_t strip = job->first + begin; strip < job->first + end; strip++)
        job->kernels->packed->pack(w->dtype, job->data + (uint64_t)strip * BORA_STRIP_ROWS * w->row_size, w->row_size,
                                   rows_of(matrix, strip, strip + 1), w->n_cols,
                                   matrix->units + strip * matrix->strip_size);
}

/* Strips that are packed together: at least one per thread. */
static uint32_t strips_per_slice(const bora_kernels *kernels, uint64_t row_size)
{
    const uint64_t n = SLICE_SIZE / BORA_STRIP_ROWS / row_size, n_threads = bora_pool_n_threads(kernels->pool);
    return (uint32_t)(n > n_threads ? n : n_threads);
}

static void pack_all(bora_kernels *kernels, bora_matrix *matrix, const uint8_t *data, size_t row_bytes)
{
    const uint64_t row_size = matrix->w.row_size;
    const uint32_t per_slice = strips_per_slice(kernels, row_size);
    pack_job job = {.kernels = kernels, .matrix = matrix, .data = data};
    for (uint32_t n; job.first < matrix->n_strips; job.first += n) {
        n = (uint32_t)min_u64(per_slice, matrix->n_strips - job.first);
        bora_pool_parallel_for(kernels->pool, n, pack_strips, &job);
        if (kernels->reader) /* up to the last byte that is a weight */
            kernels->reader(kernels->reader_arg, data + (uint64_t)job.first * BORA_STRIP_ROWS * row_size,
                            (rows_of(matrix, job.first, job.first + n) - 1) * row_size + row_bytes);
    }
}

/* Sizes of the packed matrix. False if they do not fit. */
static bool measure(bora_matrix *matrix, size_t unit_size, size_t *ret_size)
{
    matrix->n_units = matrix->w.n_cols / BORA_UNIT_COLS + (matrix->w.n_cols % BORA_UNIT_COLS != 0);
    return bora_size_mul(matrix->n_units, unit_size, &matrix->strip_size) &&
           bora_size_mul(matrix->strip_size, matrix->n_strips, ret_size);
}

size_t bora_matrix_packed_size(const bora_tensor *w)
{
    const uint64_t n_strips = w->n_rows / BORA_STRIP_ROWS + (w->n_rows % BORA_STRIP_ROWS != 0);
    bora_matrix matrix = {.w = *w, .n_strips = (uint32_t)n_strips};
    size_t size;
    return n_strips <= UINT32_MAX && measure(&matrix, bora_unit_size(w->dtype), &size) ? size : SIZE_MAX;
}

static void matrix_freep(bora_matrix **matrix)
{
    bora_matrix_free(*matrix);
}

static bora_status no_memory(const bora_region *region, const bora_tensor *w, size_t size, bora_error *err)
{
    char what[96];
    (void)snprintf(what, sizeof what, "packed weights, a matrix of %llu x %llu %s", (unsigned long long)w->n_rows,
                   (unsigned long long)w->n_cols, bora_block_of(w->dtype)->name);
    return bora_region_fail(region, what, size, err);
}

bora_status bora_matrix_new(bora_kernels *kernels, bora_region *region, const bora_tensor *w, bora_matrix **ret_matrix,
                            bora_error *err)
{
    assert(w->n_cols <= kernels->max_cols && w->dtype < BORA_DTYPE_COUNT);
    const size_t unit_size = kernels->rounding == BORA_ROUNDING_F32 ? 0 : bora_unit_size(w->dtype);
    const uint64_t n_strips = w->n_rows / BORA_STRIP_ROWS + (w->n_rows % BORA_STRIP_ROWS != 0);
    BORA_CLEANUP(matrix_freep) bora_matrix *matrix = bora_calloc(1, sizeof *matrix);
    if (!matrix || n_strips > UINT32_MAX)
        return bora_fail(err, BORA_E_NOMEM, "a matrix of %llu x %llu %s", (unsigned long long)w->n_rows,
                         (unsigned long long)w->n_cols, bora_block_of(w->dtype)->name);
    matrix->w = *w;
    matrix->n_strips = (uint32_t)n_strips;
    matrix->is_packed = unit_size != 0;
    matrix->is_bf16 = w->dtype == BORA_DTYPE_BF16 && kernels->rounding == BORA_ROUNDING_BF16 && kernels->bf16;

    if (unit_size && n_strips && w->n_cols) {
        size_t size = SIZE_MAX, row_bytes = 0;
        bool is_whole = bora_block_row_size(w->dtype, w->n_cols, &row_bytes);
        assert(is_whole && row_bytes <= w->row_size); /* the loader lets nothing else through */
        (void)is_whole;
        if (!measure(matrix, unit_size, &size) || !(matrix->units = bora_region_alloc(region, size)))
            return no_memory(region, w, size, err);
        pack_all(kernels, matrix, w->data, row_bytes);
    }
    if (unit_size)
        matrix->w.data = NULL; /* not needed any more */
    kernels->fills_int8 |= matrix->is_packed;
    kernels->fills_bf16 |= matrix->is_bf16;
    *ret_matrix = bora_steal(&matrix);
    return BORA_OK;
}

void bora_matrix_free(bora_matrix *matrix)
{
    bora_free(matrix);
}

void bora_kernels_set_reader(bora_kernels *kernels, bora_reader_fn fn, void *arg)
{
    kernels->reader = fn;
    kernels->reader_arg = arg;
}

void bora_kernels_set_rounding(bora_kernels *kernels, bora_rounding rounding)
{
    kernels->rounding = rounding;
}

bool bora_rounding_parse(const char *text, bora_rounding *ret_rounding)
{
    static const char *const names[] = {
        [BORA_ROUNDING_INT8] = "int8", [BORA_ROUNDING_BF16] = "bf16", [BORA_ROUNDING_F32] = "f32"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret_rounding = (bora_rounding)i;
            return true;
        }
    return false;
}

/* ---- what it is ------------------------------------------------------------------------------------- */

bool bora_matrix_is_packed(const bora_matrix *matrix)
{
    return matrix->is_packed;
}

bool bora_matrix_reads_panels(const bora_matrix *matrix)
{
    return matrix->is_packed || matrix->is_bf16;
}

uint64_t bora_matrix_size(const bora_matrix *matrix)
{
    if (bora_matrix_is_packed(matrix))
        return (uint64_t)matrix->n_strips * matrix->strip_size;
    return matrix->w.n_rows * matrix->w.row_size;
}

uint64_t bora_matrix_n_rows(const bora_matrix *matrix)
{
    return matrix->w.n_rows;
}

uint64_t bora_matrix_n_cols(const bora_matrix *matrix)
{
    return matrix->w.n_cols;
}

uint32_t bora_matrix_n_strips(const bora_matrix *matrix)
{
    return matrix->n_strips;
}

/* ---- inputs ----------------------------------------------------------------------------------------- */

/* Panels of int8, and behind them those of bfloat16. Where nothing is filled, memory stays untouched. */
size_t bora_input_size(uint32_t n_rows, uint32_t n_cols)
{
    size_t size;
    return bora_size_add(bora_panels_size(n_rows, n_cols), bora_bf16_panels_size(n_rows, n_cols), &size) ? size
                                                                                                         : SIZE_MAX;
}

static void *bf16_panels_of(const bora_input *input)
{
    return (char *)input->panels + bora_panels_size(input->n_rows, input->n_cols);
}

void bora_input_fill(const bora_kernels *kernels, const bora_input *input, uint32_t first, uint32_t end)
{
    for (uint32_t p = first; p < end; p++) {
        const bora_panel panel = bora_panel_at(input, p);
        const size_t first_row = (size_t)p * bora_panel_at(input, 0).n_columns; /* all but the last are as wide */
        const float *x = input->x + first_row * input->n_cols;
        for (uint32_t column = 0; kernels->fills_int8 && column < panel.n_columns; column++)
            kernels->packed->fill(x + (size_t)column * input->n_cols, input->n_cols, &panel, column);
        if (!kernels->fills_bf16)
            continue;
        const bora_bf16_panel parts = bora_bf16_panel_at(bf16_panels_of(input), input->n_rows, input->n_cols, p);
        for (uint32_t column = 0; column < parts.n_columns; column++)
            kernels->bf16->fill(x + (size_t)column * input->n_cols, input->n_cols, &parts, column);
    }
}

/* ---- products --------------------------------------------------------------------------------------- */

/* The first n_rows rows of a strip, n_rows < 16. */
static void multiply_part(const bora_packed_path *path, const bora_strips *strip, size_t n_rows,
                          const bora_input *input, float *y, size_t y_stride, void *scratch)
{
    float part[BORA_PANEL_COLUMNS_MAX * BORA_STRIP_ROWS];
    const float *x = input->x;
    for (uint32_t p = 0; p < bora_input_n_panels(input->n_rows); p++) {
        const bora_panel panel = bora_panel_at(input, p);
        const bora_input alone = {.x = x, .panels = panel.q, .n_rows = panel.n_columns, .n_cols = input->n_cols};
        path->multiply(strip, &alone, part, BORA_STRIP_ROWS, scratch);
        for (uint32_t column = 0; column < panel.n_columns; column++, y += y_stride, x += input->n_cols)
            memcpy(y, part + column * BORA_STRIP_ROWS, n_rows * sizeof *y);
    }
}

static void multiply_packed(const bora_kernels *kernels, const bora_matrix *matrix, const bora_input *input,
                            uint32_t begin, uint32_t end, void *scratch, float *y, size_t y_stride)
{
    const uint64_t n_rows = rows_of(matrix, begin, end);
    bora_strips strips = {.dtype = matrix->w.dtype,
                          .n_strips = (uint32_t)(n_rows / BORA_STRIP_ROWS),
                          .units = matrix->units + begin * matrix->strip_size,
                          .n_units = matrix->n_units};
    if (strips.n_strips)
        kernels->packed->multiply(&strips, input, y, y_stride, scratch);
    if (n_rows % BORA_STRIP_ROWS == 0)
        return;
    strips.units += strips.n_strips * matrix->strip_size;
    y += (size_t)strips.n_strips * BORA_STRIP_ROWS;
    strips.n_strips = 1;
    multiply_part(kernels->packed, &strips, n_rows % BORA_STRIP_ROWS, input, y, y_stride, scratch);
}

void bora_matrix_multiply(bora_kernels *kernels, const bora_matrix *matrix, const bora_input *input,
                          uint32_t strip_begin, uint32_t strip_end, uint32_t worker, float *y, size_t y_stride)
{
    assert(input->n_cols == matrix->w.n_cols && strip_end <= matrix->n_strips);
    assert(worker < bora_pool_n_threads(kernels->pool));
    if (strip_begin >= strip_end || input->n_rows == 0)
        return;
    if (matrix->units) {
        multiply_packed(kernels, matrix, input, strip_begin, strip_end, kernels->scratch[worker].packed, y, y_stride);
        return;
    }
    bora_tensor rows = matrix->w; /* of floats, or without columns */
    rows.n_rows = rows_of(matrix, strip_begin, strip_end);
    if (rows.data)
        rows.data = (const uint8_t *)rows.data + (uint64_t)strip_begin * BORA_STRIP_ROWS * rows.row_size;
    if (matrix->is_bf16 && rows.n_cols) {
        kernels->bf16->multiply(&rows, bf16_panels_of(input), input->n_rows, y, y_stride);
        return;
    }
    bora_matmul_alone(kernels, &rows, input->n_rows, input->x, y, y_stride, worker);
}
