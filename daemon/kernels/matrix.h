/* Products with weight matrices that were made ready once: the fast way from activations to activations.
 *
 * A matrix of a quantised type is packed: its rows are laid side by side in strips of 16, so that one vector
 * instruction serves 16 rows (kernels/packed). It is multiplied with activations that were quantised to int8 once
 * (bora_input_fill), whoever uses them: q, k and v, gate and up. A matrix of floats stays where it is and is multiplied
 * by matmul.c; or, if it is of BF16 and that is asked for, by kernels/bf16 with activations that were rounded to
 * bfloat16 in the same way.
 *
 * Determinism: an output element depends on its row of weights and its row of x, not on the other rows, the number of
 * threads or how strips are shared out; quantised products have the same bits on every processor. */
#ifndef BORA_KERNELS_MATRIX_H
#define BORA_KERNELS_MATRIX_H

#include "base/region.h"
#include "kernels/kernels.h"

/* bora_matrix, bora_input and BORA_STRIP_ROWS are the SDK's. */

/* Packs w with all threads of the pool, slice by slice. What was read is reported to the kernels' reader (see
 * bora_kernels_set_reader), which may drop it from memory: w is not read again if the matrix is packed. region holds
 * the packed weights and outlives the matrix. w's data must stay valid as long as the matrix if it is not packed.
 * Errors: NOMEM, LIMIT (the region's ledger). */
bora_status bora_matrix_new(bora_kernels *kernels, bora_region *region, const bora_tensor *w, bora_matrix **ret_matrix,
                            bora_error *err);
/* What products round activations to. F32: nothing; quantised weights are widened, much slower, to compare with. INT8,
 * at first: 8 bits with quantised weights, nothing with others. BF16: the same, and bfloat16 with BF16 weights, where
 * the processor multiplies such (kernels/bf16). */
typedef enum bora_rounding { BORA_ROUNDING_INT8, BORA_ROUNDING_BF16, BORA_ROUNDING_F32 } bora_rounding;
#define BORA_ROUNDINGS "int8, bf16 or f32"
/* One of these names. False: it is another. */
bool bora_rounding_parse(const char *text, bora_rounding *ret_rounding);
/* Of matrices made from now on. */
void bora_kernels_set_rounding(bora_kernels *kernels, bora_rounding rounding);
void bora_matrix_free(bora_matrix *matrix); /* NULL is a no-op; the region keeps the memory */
/* Bytes of the region that packing w will take; 0 for a type that is not packed, SIZE_MAX if they do not fit. */
size_t bora_matrix_packed_size(const bora_tensor *w);

bool bora_matrix_is_packed(const bora_matrix *matrix);
bool bora_matrix_reads_panels(const bora_matrix *matrix); /* of its input, which must be filled; else it reads x */
uint64_t bora_matrix_size(const bora_matrix *matrix);     /* bytes that a product reads: packed, or as in the file */
uint64_t bora_matrix_n_rows(const bora_matrix *matrix);
uint64_t bora_matrix_n_cols(const bora_matrix *matrix);
uint32_t bora_matrix_n_strips(const bora_matrix *matrix); /* ceil(n_rows / 16) */

/* Told of each part of a tensor that packing has read and needs no more. Called by one thread at a time, during
 * bora_matrix_new. */
typedef void (*bora_reader_fn)(void *arg, const void *from, size_t size);
void bora_kernels_set_reader(bora_kernels *kernels, bora_reader_fn fn, void *arg); /* fn NULL: none */

size_t bora_input_size(uint32_t n_rows, uint32_t n_cols); /* bytes of an input's panels; grows with both */
/* Filling is shared out by panels, groups of rows. */
uint32_t bora_input_n_panels(uint32_t n_rows);
/* Quantises the rows of panels first .. end-1, rounds them to bfloat16, or both: what the matrices made by these
 * kernels read. Any thread; panels are independent of each other. */
void bora_input_fill(const bora_kernels *kernels, const bora_input *input, uint32_t first, uint32_t end);

/* y[r, i] = row (16 * strip_begin + i) of the matrix times row r of the input, for the rows of strips strip_begin ..
 * strip_end-1 that exist; rows of y are y_stride floats apart. worker: as given by parallel_for, for scratch; not
 * called by two threads with the same worker at once. */
void bora_matrix_multiply(bora_kernels *kernels, const bora_matrix *matrix, const bora_input *input,
                          uint32_t strip_begin, uint32_t strip_end, uint32_t worker, float *y, size_t y_stride);

#endif
