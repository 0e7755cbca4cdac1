/* What tests of the product with BF16 weights share. Memory ends at a page that cannot be touched, see packed_cases.h.
 */
#ifndef TESTS_SUPPORT_BF16_CASES_H
#define TESTS_SUPPORT_BF16_CASES_H

#include "kernels/bf16/bf16.h"
#include "support/packed_cases.h"

/* Filled by a path; free with packed_free. */
static inline void *bf16_panels(const bora_bf16_path *path, const float *x, uint32_t n_rows, uint32_t n_cols)
{
    const size_t size = bora_bf16_panels_size(n_rows, n_cols);
    void *panels = packed_alloc(size);
    memset(panels, 0xee, size);
    for (uint32_t p = 0; p < bora_input_n_panels(n_rows); p++) {
        const bora_bf16_panel panel = bora_bf16_panel_at(panels, n_rows, n_cols, p);
        for (uint32_t column = 0; column < panel.n_columns; column++, x += n_cols)
            path->fill(x, n_cols, &panel, column);
    }
    return panels;
}

/* y = x w^T by a path. */
static inline void bf16_multiply(const bora_bf16_path *path, const bora_tensor *w, const float *x, uint32_t n_rows,
                                 float *y, size_t y_stride)
{
    void *panels = bf16_panels(path, x, n_rows, (uint32_t)w->n_cols);
    path->multiply(w, panels, n_rows, y, y_stride);
    packed_free(panels);
}

#endif
