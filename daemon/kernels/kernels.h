/* The host's arithmetic: matrix products on every weight type, norms, rotation, activation, routing.
 *
 * Plain C is the definition of every kernel; vector paths (chosen by bora_cpu at run time) are its twins within a
 * tested bound. Row-major everywhere, activations f32. Determinism: an output element depends on its own row of
 * input only, summed in an order fixed by n_cols and the processor's vector path: not by the other rows, the number
 * of threads or the chunking. */
#ifndef BORA_KERNELS_KERNELS_H
#define BORA_KERNELS_KERNELS_H

#include "base/cpu.h"
#include "base/ledger.h"
#include "base/pool.h"
#include "base/status.h"

typedef struct bora_kernels bora_kernels;

/* The processor's features and the pool to work on (borrowed), with per-thread scratch, which is taken from the
 * ledger's activations (NULL: from none; borrowed). One caller at a time. max_cols: the widest row that matmul will
 * see. Errors: NOMEM, LIMIT (the ledger). */
bora_status bora_kernels_new(const bora_cpu *cpu, bora_pool *pool, size_t max_cols, bora_ledger *ledger,
                             bora_kernels **ret_kernels, bora_error *err);
void bora_kernels_free(bora_kernels *kernels); /* NULL is a no-op */
size_t bora_kernels_max_cols(const bora_kernels *kernels);

/* y[n, w->n_rows] = x[n, w->n_cols] w^T. y does not overlap x. Rows of y are y_stride floats apart (>= w->n_rows). */
void bora_matmul(bora_kernels *kernels, const bora_tensor *w, size_t n, const float *x, float *y, size_t y_stride);
/* The definition: plain C, one thread, float accumulation in ascending order of lanes as bora_matmul's generic path. */
void bora_matmul_reference(const bora_tensor *w, size_t n, const float *x, float *y, size_t y_stride);

/* Rows first_row .. first_row+n_rows-1 of w as f32: out [n_rows, w->n_cols]. Exact for every type. cpu may be NULL
 * (plain C); the results are the same bits either way. */
void bora_dequantize(const bora_cpu *cpu, const bora_tensor *w, uint64_t first_row, uint64_t n_rows, float *out);

/* y = x * rsqrt(mean(x^2) + eps) * weight per row; x, y [n, dim] (may be the same), weight [dim]. The mean is
 * accumulated in double. */
void bora_rmsnorm(size_t n, size_t dim, const float *x, const float *weight, float eps, float *y);

/* Frequencies of RoPE: ret_freqs[head_dim / 2], freq_i = 1 / powf(theta, 2i / head_dim), in float as the reference. */
void bora_rope_freqs(float theta, uint32_t head_dim, float *ret_freqs);
/* The rotations of rows at positions[n], for all layers: ret_angles [n, 2, head_dim], cosines and then sines, each once
 * for either element of a pair (the sine of the first with its sign turned). */
void bora_rope_angles(size_t n, uint32_t head_dim, const float *freqs, const uint64_t *positions, float *ret_angles);
/* Rotates pairs (2i, 2i+1) of each head in place: x [n, n_heads, head_dim]. */
void bora_rope(size_t n, uint32_t n_heads, uint32_t head_dim, const float *angles, float *x);

/* y = silu(a) * b, element by element; y may be a or b. */
void bora_silu_mul(size_t n, const float *a, const float *b, float *y);

/* Mixtral's routing: the k largest of each row of logits [n, n_experts] (ties: lower index first), best first, and the
 * softmax over those k. experts, weights [n, k]. */
void bora_route(size_t n, uint32_t n_experts, uint32_t k, const float *logits, int32_t *experts, float *weights);

/* log of the sum of e^x, as good as float terms and a double sum make it; NaN counts for nothing; -INFINITY if there is
 * nothing else. */
double bora_log_sum_exp(size_t n, const float *x);
/* In place, numerically safe softmax of one row; -INFINITY entries give 0. */
void bora_softmax(size_t n, float *x);

/* IEEE half and bfloat16; exact widening, round-to-nearest-even narrowing (NaN stays NaN, overflow to infinity). */
float bora_f16_to_f32(uint16_t bits);
uint16_t bora_f32_to_f16(float value);
float bora_bf16_to_f32(uint16_t bits);
uint16_t bora_f32_to_bf16(float value);

#endif
