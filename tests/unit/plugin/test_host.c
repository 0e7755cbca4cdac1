/* The host table: every service as the SDK promises it. */
#include "support/skip.h"

#include "base/memory.h"
#include "kernels/kernels.h"
#include "plugin/plugin.h"

#include <string.h>
#include <unistd.h>

static bora_plugin_host *new_host(bora_pool *pool, const bora_log *log, const bora_plugin_options *options)
{
    bora_plugin_host *host = NULL;
    bora_error err = {""};
    if (bora_plugin_host_new(log, pool, NULL, options, &host, &err) != BORA_OK)
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
                table->parallel_for && table->dequantize);
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
        st = bora_plugin_host_new(NULL, NULL, NULL, &options, &host, NULL);
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
        cmocka_unit_test(test_table),        cmocka_unit_test(test_memory),     cmocka_unit_test(test_options),
        cmocka_unit_test(test_parallel_for), cmocka_unit_test(test_dequantize), cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
