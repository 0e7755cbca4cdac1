/* The host table: every service as the SDK promises it. */
#include "support/blocks.h"
#include "support/skip.h"

#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/matrix.h"
#include "model/blocks.h"
#include "plugin/plugin.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

static bora_plugin_host *new_host(bora_pool *pool, const bora_log *log, const bora_plugin_options *options)
{
    bora_plugin_host *host = NULL;
    bora_error err = {""};
    if (bora_plugin_host_new(log, pool, NULL, NULL, options, NULL, 0, &host, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return host;
}

static void test_table(void **state)
{
    (void)state;
    bora_plugin_host *host = new_host(NULL, NULL, NULL);
    const bora_host *table = bora_plugin_host_table(host);
    assert_int_equal(table->struct_size, sizeof *table);
    assert_int_equal(table->abi_major, BORA_ABI_MAJOR);
    assert_int_equal(table->abi_minor, BORA_ABI_MINOR);
    assert_true(table->log && table->alloc && table->free && table->option && table->now_ns && table->n_threads &&
                table->parallel_for && table->dequantize && table->matrix_new && table->matrix_n_strips &&
                table->matrix_is_packed && table->input_size && table->input_n_panels && table->input_fill &&
                table->matrix_multiply);
    table->log(table, BORA_LOG_ERROR, "to nowhere");
    uint64_t before = table->now_ns(table);
    assert_true(before > 0 && table->now_ns(table) >= before);
    bora_plugin_host_free(host);
    bora_plugin_host_free(NULL);
}

static void test_memory(void **state)
{
    (void)state;
    bora_plugin_host *host = new_host(NULL, NULL, NULL);
    const bora_host *table = bora_plugin_host_table(host);
    static const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++) {
        unsigned char *memory = table->alloc(table, sizes[i]);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        memset(memory, 1, sizes[i]);
        table->free(table, memory);
    }
    table->free(table, NULL);
    assert_null(table->alloc(table, SIZE_MAX - 3));
    (void)bora_memory_fail_at(1);
    void *refused = table->alloc(table, 10);
    (void)bora_memory_fail_at(0);
    assert_null(refused);
    bora_plugin_host_free(host);
}

/* A plugin's memory is in the books of the account it was given, its matrices in those of the weights. */
static void test_ledger(void **state)
{
    (void)state;
    bora_ledger *ledger = NULL;
    bora_ledger_state books;
    bora_plugin_host *host = NULL;
    assert_int_equal(bora_ledger_new(10000, &ledger, NULL), BORA_OK);
    assert_int_equal(bora_plugin_host_new(NULL, NULL, NULL, NULL, NULL, ledger, BORA_LEDGER_KV, &host, NULL), BORA_OK);
    const bora_host *table = bora_plugin_host_table(host);
    void *first = table->alloc(table, 5000), *second = table->alloc(table, 4000);
    assert_true(first && second);
    assert_null(table->alloc(table, 2000));
    bora_ledger_get(ledger, &books);
    assert_in_range(books.accounts[BORA_LEDGER_KV], 9000, 9000 + 2 * 128);
    assert_int_equal(books.used, books.accounts[BORA_LEDGER_KV]);
    table->free(table, first);
    first = table->alloc(table, 2000); /* there is room again */
    assert_non_null(first);
    table->free(table, first);
    table->free(table, second);
    bora_ledger_get(ledger, &books);
    assert_int_equal(books.used, 0);
    bora_plugin_host_free(host);
    bora_ledger_free(ledger);
}

static void test_options(void **state)
{
    (void)state;
    char key[] = "depth";
    const bora_plugin_option items[] = {{"tile", "1"}, {key, "7"}, {"tile", "2"}, {"other", ""}};
    const bora_plugin_options options = {items, BORA_ARRAY_SIZE(items)};
    bora_plugin_host *host = new_host(NULL, NULL, &options);
    key[0] = 'X'; /* they were copied */
    const bora_host *table = bora_plugin_host_table(host);
    assert_string_equal(bora_plugin_host_unknown_option(host), "tile");
    assert_string_equal(table->option(table, "tile"), "2"); /* the last one counts */
    assert_string_equal(bora_plugin_host_unknown_option(host), "depth");
    assert_string_equal(table->option(table, "depth"), "7");
    assert_null(table->option(table, "Depth"));
    assert_null(table->option(table, ""));
    assert_string_equal(bora_plugin_host_unknown_option(host), "other");
    assert_string_equal(table->option(table, "other"), "");
    assert_null(bora_plugin_host_unknown_option(host));
    bora_plugin_host_free(host);

    host = new_host(NULL, NULL, NULL);
    table = bora_plugin_host_table(host);
    assert_null(table->option(table, "tile"));
    assert_null(bora_plugin_host_unknown_option(host));
    bora_plugin_host_free(host);

    bora_status st = BORA_E_NOMEM;
    host = NULL;
    for (uint64_t n = 1; st != BORA_OK; n++) {
        (void)bora_memory_fail_at(n);
        st = bora_plugin_host_new(NULL, NULL, NULL, NULL, &options, NULL, 0, &host, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && !host));
    }
    bora_plugin_host_free(host);
}

#define N_ITEMS 1000u

typedef struct visits {
    uint32_t n_threads;
    uint8_t items[N_ITEMS]; /* each item belongs to one call */
} visits;

static void visit(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    visits *self = arg;
    for (uint32_t i = begin; i < end; i++)
        self->items[i] = (uint8_t)(self->items[i] + (worker < self->n_threads ? 1 : 100));
}

static void test_parallel_for(void **state)
{
    (void)state;
    static const uint32_t counts[] = {0, 1, 2, 3, 4, 999, N_ITEMS};
    for (uint32_t n_threads = 0; n_threads <= 4; n_threads++) { /* 0: without a pool */
        bora_pool *pool = NULL;
        if (n_threads)
            assert_int_equal(bora_pool_new(n_threads, &pool, NULL), BORA_OK);
        bora_plugin_host *host = new_host(pool, NULL, NULL);
        const bora_host *table = bora_plugin_host_table(host);
        visits v = {.n_threads = n_threads ? n_threads : 1};
        assert_int_equal(table->n_threads(table), v.n_threads);
        for (size_t c = 0; c < BORA_ARRAY_SIZE(counts); c++) {
            memset(v.items, 0, sizeof v.items);
            table->parallel_for(table, counts[c], visit, &v);
            for (uint32_t i = 0; i < N_ITEMS; i++)
                assert_int_equal(v.items[i], i < counts[c]);
        }
        bora_plugin_host_free(host);
        bora_pool_free(pool);
    }
}

static void test_dequantize(void **state)
{
    (void)state;
    bora_plugin_host *host = new_host(NULL, NULL, NULL);
    const bora_host *table = bora_plugin_host_table(host);
    uint16_t rows[6][4];
    for (uint16_t i = 0; i < 24; i++)
        rows[i / 4][i % 4] = bora_f32_to_f16((float)i - 7.5f);
    const bora_tensor w = {.data = rows, .row_size = sizeof rows[0], .n_rows = 6, .n_cols = 4, .dtype = BORA_DTYPE_F16};
    float out[12];
    table->dequantize(table, &w, 2, 3, out);
    for (size_t i = 0; i < 12; i++)
        assert_true(out[i] == (float)(i + 8) - 7.5f);
    bora_plugin_host_free(host);
}

/* ---- matrices ------------------------------------------------------------------------------------------------ */

enum { ROWS = 37, COLS = 96, N = 5, THREADS = 2 };

typedef struct fixture {
    bora_cpu cpu;
    bora_pool *pool;
    bora_kernels *kernels;
    bora_plugin_host *host;
    const bora_host *table;
    float x[N * COLS];
    uint8_t data[ROWS * COLS * 4];
} fixture;

static void fixture_init(fixture *f)
{
    memset(f, 0, sizeof *f);
    bora_cpu_detect(&f->cpu);
    assert_int_equal(bora_pool_new(THREADS, &f->pool, NULL), BORA_OK);
    assert_int_equal(bora_kernels_new(&f->cpu, f->pool, COLS, NULL, &f->kernels, NULL), BORA_OK);
    assert_int_equal(bora_plugin_host_new(NULL, f->pool, f->kernels, &f->cpu, NULL, NULL, 0, &f->host, NULL), BORA_OK);
    f->table = bora_plugin_host_table(f->host);
    for (int i = 0; i < N * COLS; i++)
        f->x[i] = (float)(i * 37 % 101 - 50) / 50;
}

static void fixture_release(fixture *f)
{
    bora_plugin_host_free(f->host);
    bora_kernels_free(f->kernels);
    bora_pool_free(f->pool);
}

/* Weights of the type: rows whole, one behind the other. */
static bora_tensor fixture_tensor(fixture *f, uint32_t dtype)
{
    size_t row_size = 0;
    assert_true(bora_block_row_size(dtype, COLS, &row_size));
    uint64_t random = dtype + 1;
    for (size_t at = 0; at < ROWS * row_size; at += bora_block_of(dtype)->size)
        blocks_fill(dtype, &random, 1, f->data + at);
    return (bora_tensor){.data = f->data, .row_size = row_size, .n_rows = ROWS, .n_cols = COLS, .dtype = dtype};
}

typedef struct product {
    const bora_host *table;
    const bora_matrix *matrix;
    const bora_input *input;
    float *y;
} product;

static void multiply_strips(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const product *p = arg;
    p->table->matrix_multiply(p->table, p->matrix, p->input, begin, end, worker, p->y + begin * BORA_STRIP_ROWS, ROWS);
}

/* What the table's calls give is what the product of the dequantised weights is, as near as the activations' eight bits
 * allow; and to the bit what the kernels give by themselves. */
static void test_matrices(void **state)
{
    (void)state;
    static const uint32_t dtypes[] = {BORA_DTYPE_F32, BORA_DTYPE_BF16, BORA_DTYPE_Q8_0, BORA_DTYPE_Q4_0};
    fixture f;
    fixture_init(&f);
    const bora_host *t = f.table;
    bora_matrix *matrices[BORA_ARRAY_SIZE(dtypes)];
    for (size_t d = 0; d < BORA_ARRAY_SIZE(dtypes); d++) {
        float should[N * ROWS], y[N * ROWS], w[ROWS * COLS];
        const bora_tensor tensor = fixture_tensor(&f, dtypes[d]);
        bora_error err = {""};
        if (t->matrix_new(t, &tensor, &matrices[d], &err) != BORA_OK)
            fail_msg("%s", err.message);
        const bool is_packed = t->matrix_is_packed(t, matrices[d]);
        assert_int_equal(is_packed, dtypes[d] >= BORA_DTYPE_Q8_0);
        assert_int_equal(t->matrix_n_strips(t, matrices[d]), (ROWS + 15) / 16);
        t->dequantize(t, &tensor, 0, ROWS, w);
        const bora_tensor wide = {
            .data = w, .row_size = COLS * sizeof *w, .n_rows = ROWS, .n_cols = COLS, .dtype = BORA_DTYPE_F32};
        bora_matmul_reference(&wide, N, f.x, should, ROWS);
        assert_true(t->input_size(t, N, COLS) == bora_input_size(N, COLS));
        assert_int_equal(t->input_n_panels(t, N), bora_input_n_panels(N));
        void *panels = t->alloc(t, t->input_size(t, N, COLS));
        assert_non_null(panels);
        const bora_input input = {.x = f.x, .panels = panels, .n_rows = N, .n_cols = COLS};
        if (is_packed) {
            t->input_fill(t, &input, 0, t->input_n_panels(t, N));
            memset(f.data, 0xff, sizeof f.data); /* the weights are not read again */
        }
        product p = {.table = t, .matrix = matrices[d], .input = &input, .y = y};
        memset(y, 0xff, sizeof y);
        t->parallel_for(t, t->matrix_n_strips(t, matrices[d]), multiply_strips, &p);
        for (size_t i = 0; i < N * ROWS; i++)
            if (!(fabsf(y[i] - should[i]) <= (is_packed ? 0.15f : 2e-5f)))
                fail_msg("type %u, element %zu: %.9g, should be %.9g", dtypes[d], i, (double)y[i], (double)should[i]);
        float direct[N * ROWS];
        bora_matrix_multiply(f.kernels, matrices[d], &input, 0, (ROWS + 15) / 16, 0, direct, ROWS);
        assert_memory_equal(y, direct, sizeof y);
        t->free(t, panels);
    }
    fixture_release(&f); /* and with it all matrices */
}

static void test_matrices_refused(void **state)
{
    (void)state;
    fixture f;
    fixture_init(&f);
    const bora_host *t = f.table;
    const bora_tensor good = fixture_tensor(&f, BORA_DTYPE_Q8_0);
    bora_matrix *matrix = NULL;
    static const struct {
        size_t field; /* of bora_tensor, 64 bits wide */
        uint64_t value;
        bora_status status;
    } wrong[] = {
        {offsetof(bora_tensor, data), 0, BORA_E_INVAL},
        {offsetof(bora_tensor, n_rows), 0, BORA_E_INVAL},
        {offsetof(bora_tensor, n_cols), 0, BORA_E_INVAL},
        {offsetof(bora_tensor, n_cols), COLS - 1, BORA_E_INVAL},
        {offsetof(bora_tensor, n_cols), COLS + 32, BORA_E_INVAL}, /* longer than its rows are apart */
        {offsetof(bora_tensor, row_size), COLS, BORA_E_INVAL},
        {offsetof(bora_tensor, dtype), BORA_DTYPE_COUNT, BORA_E_UNSUPPORTED}, /* and 0 into reserved */
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        bora_tensor bad = good;
        memcpy((char *)&bad + wrong[i].field, &wrong[i].value, sizeof wrong[i].value);
        bora_error err = {""};
        assert_int_equal(t->matrix_new(t, &bad, &matrix, &err), wrong[i].status);
        assert_true(err.message[0] && !matrix);
    }
    bora_tensor wide = good; /* wider than the kernels were made for */
    wide.n_cols = COLS + 32;
    wide.row_size = (COLS + 32) / 32 * 34;
    assert_int_equal(t->matrix_new(t, &wide, &matrix, NULL), BORA_E_LIMIT);
    assert_null(matrix);

    bora_status st = BORA_E_NOMEM;
    for (uint64_t n = 1; st != BORA_OK; n++) {
        (void)bora_memory_fail_at(n);
        st = t->matrix_new(t, &good, &matrix, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK ? matrix != NULL : st == BORA_E_NOMEM && !matrix);
    }
    fixture_release(&f);
}

static void test_matrices_without_kernels(void **state)
{
    (void)state;
    static float w[16];
    bora_plugin_host *host = new_host(NULL, NULL, NULL);
    const bora_host *table = bora_plugin_host_table(host);
    const bora_tensor tensor = {.data = w, .row_size = 16, .n_rows = 4, .n_cols = 4, .dtype = BORA_DTYPE_F32};
    bora_matrix *matrix = NULL;
    bora_error err = {""};
    assert_int_equal(table->matrix_new(table, &tensor, &matrix, &err), BORA_E_UNSUPPORTED);
    assert_true(err.message[0] && !matrix);
    bora_plugin_host_free(host);
}

static void test_log(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bora_log log = {.level = BORA_LOG_INFO, .fd = ends[1]};
    bora_plugin_host *host = new_host(NULL, &log, NULL);
    const bora_host *table = bora_plugin_host_table(host);
    table->log(table, BORA_LOG_DEBUG, "not heard");
    table->log(table, BORA_LOG_WARN, "100% %s %n heard"); /* no format */
    char text[256] = "";
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    assert_non_null(strstr(text, "100% %s %n heard\n"));
    assert_null(strstr(text, "not heard"));
    bora_plugin_host_free(host);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_ledger),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_parallel_for),
        cmocka_unit_test(test_dequantize),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_matrices),
        cmocka_unit_test(test_matrices_refused),
        cmocka_unit_test(test_matrices_without_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
