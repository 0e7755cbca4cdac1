/* The strips of all matrices are one list, cut into contiguous shares: one barrier for all of them, and each thread
 * reads each matrix in one stream. With many rows strips go in pairs, which is what the tiles for many rows take. */
#include "kernels/products.h"

#include "kernels/kernels_private.h"

/* Rows of x up to which a product is bound by reading the weights and panels are not worth sharing out. */
#define FEW_ROWS   8u
/* Multiply-adds below which the other threads are left alone. */
#define SMALL_WORK (32.0 * 1024.0)

typedef struct products_job {
    bora_kernels *kernels;
    const bora_input *input;
    const bora_product *products;
    uint32_t n_products;
    uint32_t n_together; /* strips to an item */
} products_job;

static void fill_panels(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    const products_job *job = arg;
    bora_input_fill(job->kernels, job->input, begin, end);
}

static uint32_t items_of(const products_job *job, const bora_product *product)
{
    return (bora_matrix_n_strips(product->matrix) + job->n_together - 1) / job->n_together;
}

static void multiply_items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const products_job *job = arg;
    uint32_t first = 0; /* item of the list at which the matrix begins */
    for (uint32_t i = 0; i < job->n_products; i++) {
        const bora_product *product = &job->products[i];
        uint32_t n = items_of(job, product), n_strips = bora_matrix_n_strips(product->matrix);
        uint32_t from = begin > first ? begin - first : 0, to = end > first ? end - first : 0;
        from = (from < n ? from : n) * job->n_together;
        to = (to < n ? to : n) * job->n_together;
        to = to < n_strips ? to : n_strips;
        if (from < to)
            bora_matrix_multiply(job->kernels, product->matrix, job->input, from, to, worker,
                                 product->y + (size_t)from * BORA_STRIP_ROWS, product->y_stride);
        first += n;
    }
}

void bora_products_run(bora_kernels *kernels, const bora_input *input, const bora_product *products,
                       uint32_t n_products)
{
    products_job job = {.kernels = kernels,
                        .input = input,
                        .products = products,
                        .n_products = n_products,
                        .n_together = input->n_rows > FEW_ROWS ? 2 : 1};
    bool needs_panels = false;
    uint32_t n_items = 0;
    double work = 0;
    for (uint32_t i = 0; i < n_products; i++) {
        needs_panels |= bora_matrix_reads_panels(products[i].matrix);
        n_items += items_of(&job, &products[i]);
        work += (double)bora_matrix_n_rows(products[i].matrix) * input->n_cols * input->n_rows;
    }
    bora_pool *pool = kernels->pool;
    if (needs_panels)
        bora_pool_parallel_for(pool, bora_input_n_panels(input->n_rows), fill_panels, &job);
    if (work < SMALL_WORK)
        multiply_items(&job, 0, n_items, 0);
    else
        bora_pool_parallel_for(pool, n_items, multiply_items, &job);
}
