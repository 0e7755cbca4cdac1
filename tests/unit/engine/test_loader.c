/* Building a pipeline step by step: what is known early, what the loader counts, and calling it off. */
#include "engine/loader.h"

#include "pipeline_fixture.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */

typedef struct loading {
    fixture fixture;
    bora_loader *loader;
} loading;

static int setup(void **state)
{
    loading *l = bora_calloc(1, sizeof *l);
    assert_non_null(l);
    fixture_open(&l->fixture, "moe-gqa-swa");
    assert_int_equal(bora_loader_new(l->fixture.model, &l->fixture.log, &l->loader, NULL), BORA_OK);
    bora_loader_watch(l->loader, &l->fixture.options);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    loading *l = *state;
    bora_loader_free(l->loader);
    fixture_close(&l->fixture);
    bora_free(l);
    return 0;
}

static void open_pipeline(loading *l)
{
    fixture *f = &l->fixture;
    bora_error err = {""};
    if (bora_pipeline_open(f->model, &f->options, &f->log, &f->pipeline, &err) != BORA_OK)
        fail_msg("%s", err.message);
}

static void test_what_is_known_early_stays(void **state)
{
    loading *l = *state;
    fixture *f = &l->fixture;
    open_pipeline(l);
    assert_int_equal(bora_pipeline_options_of(f->pipeline)->max_positions, 1024);
    assert_string_equal(bora_plugin_name(bora_pipeline_plugin(f->pipeline, BORA_PLUGIN_ATTENTION)), "reference");
    const uint64_t position_size = bora_pipeline_kv_position_size(f->pipeline);
    const uint64_t sequence_max = bora_pipeline_kv_sequence_max(f->pipeline);
    const uint32_t n_classes = bora_pipeline_n_classes(f->pipeline);
    assert_true(position_size > 0 && sequence_max > position_size && n_classes >= 1);
    bora_error err = {""};
    if (bora_loader_run(l->loader, f->pipeline, &err) != BORA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(bora_pipeline_kv_position_size(f->pipeline), position_size);
    assert_int_equal(bora_pipeline_kv_sequence_max(f->pipeline), sequence_max);
    assert_int_equal(bora_pipeline_n_classes(f->pipeline), n_classes);

    /* And it computes what one that is made in one go computes. */
    float *in_steps = fixture_feed_alone(f, 1, 40, 16);
    bora_pipeline_free(f->pipeline);
    f->pipeline = NULL;
    fixture_start(f);
    float *at_once = fixture_feed_alone(f, 1, 40, 16);
    assert_same_logits(f, in_steps, at_once, 40);
    bora_free(in_steps);
    bora_free(at_once);
}

static void test_wrong_plugins_are_refused_early(void **state)
{
    loading *l = *state;
    fixture *f = &l->fixture;
    bora_error err = {""};
    f->options.plugins[BORA_PLUGIN_EXPERT] = "telepathy";
    assert_int_equal(bora_pipeline_open(f->model, &f->options, &f->log, &f->pipeline, &err), BORA_E_NOT_FOUND);
    assert_null(f->pipeline);
    f->options.plugins[BORA_PLUGIN_EXPERT] = "reference";
    f->options.n_stages = 0;
    assert_int_equal(bora_pipeline_open(f->model, &f->options, &f->log, &f->pipeline, &err), BORA_E_INVAL);
    assert_null(f->pipeline);
}

static void test_called_off(void **state)
{
    loading *l = *state;
    bora_error err = {""};
    open_pipeline(l);
    bora_loader_cancel(l->loader);
    assert_int_equal(bora_loader_run(l->loader, l->fixture.pipeline, &err), BORA_E_CANCELLED);
}

static void progress(const loading *l, uint64_t done)
{
    uint64_t is_done, total;
    bora_loader_progress(l->loader, &is_done, &total);
    assert_int_equal(is_done, done);
    assert_int_equal(total, bora_model_size(l->fixture.model));
}

static void test_what_was_read_is_counted(void **state)
{
    loading *l = *state;
    const bora_pipeline_options *options = &l->fixture.options;
    const bora_tensor *w = bora_model_output(l->fixture.model);
    const uint64_t size = w->row_size * w->n_rows;
    const uint8_t *data = w->data;
    uint8_t first = data[0];
    progress(l, 0);
    options->reader(options->reader_arg, data, size / 2);
    progress(l, size / 2);
    options->reader(options->reader_arg, data + size / 2, size - size / 2);
    progress(l, size);
    assert_int_equal(data[0], first);
    for (uint64_t n = size; n <= bora_model_size(l->fixture.model); n += size)
        options->reader(options->reader_arg, data, size); /* a tied output matrix is read twice, say */
    progress(l, bora_model_size(l->fixture.model));
}

static void test_percent(void **state)
{
    (void)state;
    assert_int_equal(bora_load_percent(0, 0), 0);
    assert_int_equal(bora_load_percent(0, 1000), 0);
    assert_int_equal(bora_load_percent(374, 1000), 37);
    assert_int_equal(bora_load_percent(UINT64_MAX / 2, UINT64_MAX), 50);
    assert_int_equal(bora_load_percent(1000, 1000), 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_known_early_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_plugins_are_refused_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_called_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_read_is_counted, setup, teardown),
        cmocka_unit_test(test_percent),
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
