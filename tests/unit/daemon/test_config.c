/* borad's configuration: what it takes, what it refuses and how it says so. */
#include "config.h"

#include "base/memory.h"
#include "support/skip.h"

#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    static bora_config config;
    *state = &config;
    return bora_config_init(&config, NULL) == BORA_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    bora_config_release(*state);
    return 0;
}

static bora_status parse(bora_config *config, const char *text, bora_error *err)
{
    return bora_config_parse(config, "borad.conf", text, strlen(text), err);
}

static void assert_refused(const char *text, const char *why)
{
    bora_config config;
    bora_error err = {{0}};
    assert_int_equal(bora_config_init(&config, NULL), BORA_OK);
    bora_status st = parse(&config, text, &err);
    if (st == BORA_OK || !strstr(err.message, why))
        print_error("'%s' gave status %d, '%s', not '%s'\n", text, st, err.message, why);
    assert_int_equal(st, BORA_E_INVAL);
    assert_non_null(strstr(err.message, why));
    bora_config_release(&config);
}

static void test_defaults(void **state)
{
    bora_config *config = *state;
    assert_int_equal(bora_config_check(config, NULL), BORA_OK);
    assert_null(config->model);
    assert_null(config->model_search);
    assert_int_equal(config->window, BORA_WINDOW_AUTO);
    assert_string_equal(config->plugins[BORA_PLUGIN_CACHE], "ring");
    assert_int_equal(config->kv_dtype, BORA_DTYPE_F16);
    assert_true(config->memory_limit.size == 0 && config->memory_limit.percent == 0);
}

static void test_every_key(void **state)
{
    bora_config *config = *state;
    static const char text[] = "# a comment\n"
                               "[model]\npath = /models/one.gguf\nlayout = v3\nwindow = 4096\nsearch = /m:/n\n"
                               "[server]\nsocket = /run/x.sock ; where\n"
                               "[sessions]\ndatabase=/var/x.db\nlive_max = 3\nopen_max = 7\n"
                               "[engine]\nthreads = 2\nchunk = 16\nbatch_tokens = 64\nrunning_max = 4\ncontext = 9000\n"
                               "[pipeline]\nstages = 3\n"
                               "[cache]\ntype = f32\nslack = 32\n"
                               "[memory]\nlimit = 20G\n"
                               "[plugins]\npath = /a:/b\nattention = flash\ncache = paged\nexpert = quant\nlink = mpi\n"
                               "[generate]\nmax_tokens = 5\ntemperature = 0.5\ntop_k = 40\ntop_p = 0.9\nmin_p = 0.05\n"
                               "repetition_penalty = 1.1\nrepetition_window = 100\n"
                               "[log]\nlevel = debug\n"
                               "[expert.quant]\ntile = 4\n\n   \n  # indented comment\n";
    bora_error err = {{0}};
    assert_int_equal(parse(config, text, &err), BORA_OK);
    assert_string_equal(config->model, "/models/one.gguf");
    assert_int_equal(config->layout, BORA_CHAT_V3);
    assert_int_equal(config->window, 4096);
    assert_string_equal(config->model_search, "/m:/n");
    assert_string_equal(config->socket, "/run/x.sock");
    assert_string_equal(config->database, "/var/x.db");
    assert_int_equal(config->n_live_max, 3);
    assert_int_equal(config->n_open_max, 7);
    assert_int_equal(config->n_threads, 2);
    assert_int_equal(config->chunk, 16);
    assert_int_equal(config->batch_tokens, 64);
    assert_int_equal(config->n_running_max, 4);
    assert_int_equal(config->context, 9000);
    assert_int_equal(config->n_stages, 3);
    assert_int_equal(config->kv_dtype, BORA_DTYPE_F32);
    assert_int_equal(config->slack, 32);
    assert_int_equal(config->memory_limit.size, UINT64_C(20) << 30);
    assert_int_equal(config->memory_limit.percent, 0);
    assert_string_equal(config->plugin_path, "/a:/b");
    assert_string_equal(config->plugins[BORA_PLUGIN_ATTENTION], "flash");
    assert_string_equal(config->plugins[BORA_PLUGIN_CACHE], "paged");
    assert_string_equal(config->plugins[BORA_PLUGIN_EXPERT], "quant");
    assert_string_equal(config->plugins[BORA_PLUGIN_LINK], "mpi");
    assert_int_equal(config->max_tokens, 5);
    assert_float_equal(config->sampling.temperature, 0.5, 0);
    assert_int_equal(config->sampling.top_k, 40);
    assert_float_equal(config->sampling.top_p, 0.9, 1e-6);
    assert_float_equal(config->sampling.min_p, 0.05, 1e-6);
    assert_float_equal(config->sampling.repetition_penalty, 1.1, 1e-6);
    assert_int_equal(config->sampling.repetition_window, 100);
    assert_int_equal(config->log_level, BORA_LOG_DEBUG);

    bora_plugin_option items[1];
    assert_int_equal(config->n_options, 1);
    bora_plugin_options options = bora_config_plugin_options(config, BORA_PLUGIN_EXPERT, "quant", items);
    assert_int_equal(options.n, 1);
    assert_string_equal(options.items[0].key, "tile");
    assert_string_equal(options.items[0].value, "4");
    assert_int_equal(bora_config_plugin_options(config, BORA_PLUGIN_EXPERT, "blas", items).n, 0);
}

static void test_window_and_search(void **state)
{
    bora_config *config = *state;
    assert_int_equal(parse(config, "[model]\nwindow = none\n", NULL), BORA_OK);
    assert_int_equal(config->window, BORA_WINDOW_NONE);
    assert_int_equal(parse(config, "[model]\nwindow = auto\n", NULL), BORA_OK);
    assert_int_equal(config->window, BORA_WINDOW_AUTO);
    assert_int_equal(setenv("HOME", "/h", 1), 0);
    assert_int_equal(parse(config, "[model]\nsearch = ~/a:/b:~/c\n", NULL), BORA_OK);
    assert_string_equal(config->model_search, "/h/a:/b:/h/c");
    assert_refused("[model]\nwindow = 0\n", "model.window is '0', expected auto, none or a number from 1 to");
    assert_refused("[model]\nwindow = -4\n", "model.window");
    assert_refused("[model]\nwindow = 4294967295\n", "model.window");
    assert_refused("[model]\nwindow = 4k\n", "model.window");
    assert_refused("[model]\nwindow =\n", "model.window");
    assert_refused("[model]\nsearch =\n", "model.search is empty");
}

static void test_memory_limit(void **state)
{
    bora_config *config = *state;
    static const struct {
        const char *text;
        uint64_t size;
        uint32_t percent;
    } right[] = {
        {"1048576", 1 << 20, 0},
        {"1024K", 1 << 20, 0},
        {"1M", 1 << 20, 0},
        {"512MiB", 512 << 20, 0},
        {"512 MiB", 512 << 20, 0},
        {"3000 KiB", 3000 << 10, 0},
        {"4g", UINT64_C(4) << 30, 0},
        {"4 GiB", UINT64_C(4) << 30, 0},
        {"1024T", UINT64_C(1) << 50, 0},
        {"1%", 0, 1},
        {"80%", 0, 80},
        {"100%", 0, 100},
        {"auto", 0, 0},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(right); i++) {
        bora_error err = {{0}};
        if (bora_config_set(config, "memory", "limit", right[i].text, &err) != BORA_OK)
            fail_msg("%s", err.message);
        if (config->memory_limit.size != right[i].size || config->memory_limit.percent != right[i].percent)
            fail_msg("'%s' is read as %llu bytes, %u %%", right[i].text, (unsigned long long)config->memory_limit.size,
                     config->memory_limit.percent);
    }
    static const char *const wrong[] = {
        "",      "1023K", "1048575",      "0",    "-1G",    "+1G",   "G",    "1.5G",  "2P",
        "1025T", "20 X",  "20GB",         "20Gi", "20GiBs", "0%",    "101%", "80 %",  "80%%",
        "nan",   "0x10G", "17179869184G", " 4G",  "Auto",   "4G 4G", "4@",   "4\x0b", "99999999999999999999"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        bora_error err = {{0}};
        if (bora_config_set(config, "memory", "limit", wrong[i], &err) != BORA_E_INVAL)
            fail_msg("'%s' is taken", wrong[i]);
        assert_non_null(strstr(err.message, "memory.limit is '"));
        assert_non_null(strstr(err.message, "from 1% to 100%"));
        assert_int_equal(config->memory_limit.size + config->memory_limit.percent, 0); /* as it was */
    }
}

static void test_refused(void **state)
{
    (void)state;
    assert_refused("[engine]\nthreads = many\n", "borad.conf:2: engine.threads is 'many'");
    assert_refused("[engine]\nthreads = -1\n", "engine.threads");
    assert_refused("[engine]\nchunk = 0\n", "from 1 to");
    assert_refused("[engine]\nthreads = 99999999999999999999\n", "engine.threads");
    assert_refused("[generate]\ntemperature = nan\n", "generate.temperature");
    assert_refused("[generate]\ntop_p = 1.5\n", "from 0 to 1");
    assert_refused("[cache]\ntype = q4_0\n", "f32, f16 or q8_0");
    assert_refused("[model]\nlayout = tekken\n", "model.layout is 'tekken'");
    assert_refused("[model]\nlayout = v99\n", "auto, none, v1, v2, v3, v7, v3-tekken or v7-tekken");
    assert_refused("[log]\nlevel = loud\n", "error, warn, info or debug");
    assert_refused("[model]\npath =\n", "model.path is empty");
    assert_refused("\n\n[model]\nthreads = 1\n", "borad.conf:4: section [model] has no key 'threads'");
    assert_refused("[modle]\npath = x\n", "there is no section [modle]");
    assert_refused("[expert.]\nx = 1\n", "there is no section");
    assert_refused("[teapot.blas]\nx = 1\n", "there is no section");
    assert_refused("path = x\n", "borad.conf:1: 'path' stands before any [section]");
    assert_refused("[model]\njust words\n", "borad.conf:2: neither [section] nor key = value");
    assert_refused("[model]\npath = a\n  b\n", "borad.conf:3: a line must not begin with a space");
}

static void test_long_lines(void **state)
{
    (void)state;
    char text[400] = "[model]\npath = ";
    memset(text + strlen(text), 'x', 300);
    assert_refused(text, "borad.conf:2: longer than");
}

static void test_sizes(void **state)
{
    bora_config *config = *state;
    bora_error err = {{0}};
    assert_int_equal(bora_config_parse(config, "c", "[model]\0", 8, &err), BORA_E_INVAL);
    char *large = bora_alloc(BORA_CONFIG_SIZE_MAX + 1);
    memset(large, '\n', BORA_CONFIG_SIZE_MAX + 1);
    assert_int_equal(bora_config_parse(config, "c", large, BORA_CONFIG_SIZE_MAX, &err), BORA_OK);
    assert_int_equal(bora_config_parse(config, "c", large, BORA_CONFIG_SIZE_MAX + 1, &err), BORA_E_LIMIT);
    bora_free(large);
}

static void test_set_pair(void **state)
{
    bora_config *config = *state;
    bora_error err = {{0}};
    assert_int_equal(bora_config_set_pair(config, "engine.threads=3", &err), BORA_OK);
    assert_int_equal(config->n_threads, 3);
    assert_int_equal(bora_config_set_pair(config, "expert.blas.tile_rows=8", &err), BORA_OK);
    assert_int_equal(bora_config_set_pair(config, "expert.blas.tile_rows=9", &err), BORA_OK);
    assert_int_equal(config->n_options, 1);
    assert_string_equal(config->options[0].value, "9");
    assert_int_equal(bora_config_set_pair(config, "threads=3", &err), BORA_E_INVAL);
    assert_int_equal(bora_config_set_pair(config, "engine.threads", &err), BORA_E_INVAL);
}

static void test_check(void **state)
{
    bora_config *config = *state;
    bora_error err = {{0}};
    config->chunk = config->slack + 1;
    assert_int_equal(bora_config_check(config, &err), BORA_E_INVAL);
    assert_non_null(strstr(err.message, "slack"));
    config->chunk = config->slack;
    config->n_running_max = config->batch_tokens + 1;
    assert_int_equal(bora_config_check(config, &err), BORA_E_INVAL);
}

static void test_home(void **state)
{
    bora_config *config = *state;
    (void)setenv("HOME", "/home/somebody", 1);
    assert_int_equal(bora_config_set_pair(config, "model.path=~/m.gguf", NULL), BORA_OK);
    assert_string_equal(config->model, "/home/somebody/m.gguf");
}

static void test_option_limit(void **state)
{
    bora_config *config = *state;
    char pair[64];
    bora_status st = BORA_OK;
    unsigned n = 0;
    for (; st == BORA_OK && n <= BORA_PLUGIN_OPTIONS_MAX; n++) {
        (void)snprintf(pair, sizeof pair, "cache.ring.key%u=1", n);
        st = bora_config_set_pair(config, pair, NULL);
    }
    assert_int_equal(st, BORA_E_LIMIT);
    assert_int_equal(config->n_options, BORA_PLUGIN_OPTIONS_MAX);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        bora_config config = {0};
        bora_memory_fail_at(n);
        bora_status st = bora_config_init(&config, NULL);
        if (st == BORA_OK)
            st = parse(&config, "[model]\npath = a\n[expert.blas]\nx = 1\ny = 2\n", NULL);
        bora_memory_fail_at(0);
        bora_config_release(&config);
        if (st == BORA_OK)
            return;
        assert_int_equal(st, BORA_E_NOMEM);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window_and_search, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_limit, set_up, tear_down),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test_setup_teardown(test_sizes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_set_pair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_home, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_option_limit, set_up, tear_down),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
