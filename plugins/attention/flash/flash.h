/* What the parts of attention-flash share: who computes what, and the kernels for one processor.
 *
 * A *block* is some query rows of one sequence with one key/value head, or with several that lie close together in
 * memory; its *lines* are (kv head, row, query head of the group). A *tile* is 64 positions, a *chunk* 1,024, both
 * beginning at multiples of their size: where a position lies in them does not depend on who asks. Per line:
 *
 *   tile    scores of the visible positions, their maximum, weights 2^(score - maximum)
 *   chunk   the online softmax over its tiles, ascending: maximum, sum of weights, weighted sum of values
 *   line    the chunks' three, combined in ascending order
 *
 * Every number of a line is computed by the same operations in the same order, whatever the other lines of the block,
 * the spans, the threads and the processor: a dot product in 16 lanes, fused, then folded in one fixed order; a sum of
 * values position by position, fused. So the shape of the work is free and the bits are not. */
#ifndef BORA_ATTENTION_FLASH_H
#define BORA_ATTENTION_FLASH_H

#include <bora/plugin.h>

#define FLASH_TILE        64u
#define FLASH_CHUNK       1024u
#define FLASH_LANES       16u
#define FLASH_BLOCK_LINES 64u /* of a block, about: the keys of a tile are widened once for all of them */

/* Q8_0. */
#define FLASH_Q8_ELEMENTS 32u
#define FLASH_Q8_SIZE     34u

typedef struct flash_shape {
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t group; /* query heads per key/value head */
    uint32_t width; /* head_dim rounded up to whole lanes; what is added is zeros */
    uint32_t dtype; /* of keys and values */
    float factor;   /* log2(e) / sqrt(head_dim): scores are exponents of 2 */
} flash_shape;

typedef struct flash_block {
    const bora_attention_seq *seq;
    uint32_t row, n_rows; /* of the sequence */
    uint32_t kv_head, n_kv_heads;
} flash_block;

/* Lines of one kv head; those of the next follow. */
static inline size_t flash_head_lines(const flash_shape *shape, const flash_block *block)
{
    return (size_t)block->n_rows * shape->group;
}

/* The softmax so far, of each line of a block. */
typedef struct flash_state {
    float *max;    /* [lines] */
    float *sum;    /* [lines] of the weights relative to max */
    float *values; /* [lines, width] weighted sum */
} flash_state;

/* One worker's. All arrays begin at multiples of 64 bytes. */
typedef struct flash_scratch {
    float *q;      /* [lines, width], times factor */
    float *scores; /* [lines, FLASH_TILE] */
    float *k, *v;  /* [FLASH_TILE, width] a tile, widened */
    flash_state chunk, total;
} flash_scratch;

typedef struct flash_kernels {
    const char *name;
    /* scratch->chunk = state of the block's lines over the positions of the chunk. Lines that see none are left. */
    void (*attend_chunk)(const flash_shape *shape, const flash_block *block, uint64_t chunk,
                         const flash_scratch *scratch);
    /* total = total, then part, which is the state over the chunk. Called with ascending chunks. */
    void (*combine)(const flash_shape *shape, const flash_block *block, uint64_t chunk, const flash_state *part,
                    const flash_state *total);
    /* y = 2^x for x <= 0, 0 below -126. Relative error below 1.5e-7; exactly 1 at 0. n is whole lanes. */
    void (*exp2)(const float *x, float *y, size_t n);
} flash_kernels;

extern const flash_kernels bora_flash_generic;
#if defined(__x86_64__)
extern const flash_kernels bora_flash_avx2, bora_flash_avx512;
#endif

/* Row row of a sequence sees positions from .. to-1. */
typedef struct flash_visible {
    uint64_t from, to;
} flash_visible;

static inline flash_visible flash_visible_of(const bora_attention_seq *seq, uint32_t row)
{
    const uint64_t to = seq->first + row + 1;
    return (flash_visible){.from = seq->window && to > seq->window ? to - seq->window : 0, .to = to};
}

#endif
