/* The house alone: made, entered in another's place, taken apart half-built, and without memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "house/house.h"
#include "support/temp_folder.h"

#include <poll.h>
#include <string.h>

#define MODEL   BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf"
#define WAIT_MS 60000

typedef struct fixture {
    bora_log log;
    bora_ledger *ledger;
    bora_mailbox *replies;
    bora_store *store;
    bora_temp_folder folder;
    bora_house_options options;
} fixture;

static const char *const plugins[5] = {NULL, "reference", "ring", "reference", NULL};

static int set_up(void **state)
{
    static fixture f;
    char path[BORA_TEMP_PATH_SIZE];
    f = (fixture){0};
    *state = &f;
    bora_log_init(&f.log, BORA_LOG_ERROR);
    bora_temp_folder_make(&f.folder);
    (void)bora_temp_folder_path(&f.folder, "bora.db", path);
    if (bora_ledger_new(UINT64_C(1) << 40, &f.ledger, NULL) != BORA_OK ||
        bora_mailbox_new(&f.replies, NULL) != BORA_OK ||
        bora_store_open(path, &f.log, f.replies, &f.store, NULL) != BORA_OK)
        return -1;
    f.options = (bora_house_options){
        .search = "/nowhere",
        .model = {.ledger = f.ledger},
        .pipeline = {.n_threads = 1,
                     .n_stages = 1,
                     .max_tokens = 64,
                     .max_logits = 4,
                     .slack = 64,
                     .kv_dtype = BORA_DTYPE_F16,
                     .plugin_path = BORA_BUILD_DIR "/lib/bora/plugins",
                     .ledger = f.ledger},
        .context = 1024,
        .scheduler = {.chunk = 64, .batch_tokens = 64, .max_running = 4},
        .sessions = {.n_live_max = 4, .n_open_max = 4, .replies = f.replies},
    };
    return 0;
}

/* All that was taken has come back. */
static int tear_down(void **state)
{
    fixture *f = *state;
    bora_ledger_state books;
    bora_store_close(f->store);
    bora_mailbox_free(f->replies);
    bora_ledger_get(f->ledger, &books);
    bora_ledger_free(f->ledger);
    bora_temp_folder_remove(&f->folder);
    return books.used == 0 ? 0 : -1;
}

static bora_house *ready(fixture *f, const bora_house *like)
{
    bora_house *house = NULL;
    bora_error err = {{0}};
    bora_status st = like ? bora_house_new_like(like, MODEL, &house, &err)
                          : bora_house_new(MODEL, plugins, &f->options, &f->log, &house, &err);
    if (st == BORA_OK)
        st = bora_house_open(house, &err);
    if (st == BORA_OK)
        st = bora_house_start(house, f->store, &err);
    if (st != BORA_OK)
        fail_msg("%s", err.message);
    return house;
}

static bora_status await_loaded(const bora_house *house)
{
    bora_mailbox *events = bora_house_events(house);
    struct pollfd item = {.fd = bora_mailbox_fd(events), .events = POLLIN};
    assert_int_equal(poll(&item, 1, WAIT_MS), 1);
    bora_event *event = (bora_event *)bora_mailbox_take(events);
    assert_non_null(event);
    assert_int_equal(event->type, BORA_EVENT_LOADED);
    bora_status st = event->status;
    bora_event_free(event);
    return st;
}

static void end(bora_house *house)
{
    bora_house_stop(house);
    bora_house_free(house);
}

static void test_one_after_another(void **state)
{
    fixture *f = *state;
    bora_ledger_state first, second;
    bora_scheduler_stats stats;
    bora_house *house = ready(f, NULL);
    bora_scheduler_stats_get(bora_house_scheduler(house), &stats);
    assert_true(stats.is_loading); /* it waits to enter */
    bora_house_enter(house, NULL);
    assert_int_equal(await_loaded(house), BORA_OK);
    bora_ledger_get(f->ledger, &first);
    assert_true(first.accounts[BORA_LEDGER_WEIGHTS] > 0);
    for (int i = 0; i < 3; i++) {
        bora_house *next = ready(f, house);
        bora_ledger_get(f->ledger, &second);
        assert_int_equal(second.accounts[BORA_LEDGER_WEIGHTS], first.accounts[BORA_LEDGER_WEIGHTS]);
        bora_house_enter(next, house);
        assert_int_equal(await_loaded(next), BORA_OK);
        bora_ledger_get(f->ledger, &second);
        assert_memory_equal(second.accounts, first.accounts, sizeof first.accounts);
        house = next;
    }
    assert_true(second.peak < first.used + first.accounts[BORA_LEDGER_WEIGHTS]); /* never both */
    end(house);
}

static void test_half_built(void **state)
{
    fixture *f = *state;
    bora_house *house = NULL;
    bora_error err = {{0}};
    bora_house_free(NULL);
    assert_int_equal(bora_house_new(MODEL, plugins, &f->options, &f->log, &house, &err), BORA_OK);
    bora_house_free(house); /* not open */
    assert_int_equal(bora_house_new(MODEL, plugins, &f->options, &f->log, &house, &err), BORA_OK);
    assert_int_equal(bora_house_open(house, &err), BORA_OK);
    bora_house_free(house);          /* not started */
    bora_house_free(ready(f, NULL)); /* has not entered */
    assert_int_equal(bora_house_new("nothing", plugins, &f->options, &f->log, &house, &err), BORA_OK);
    assert_int_equal(bora_house_open(house, &err), BORA_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "nothing"));
    bora_house_free(house);
    house = ready(f, NULL); /* stopped before it has loaded: with what it was to take apart */
    bora_house_enter(house, NULL);
    bora_house *next = ready(f, house);
    bora_house_enter(next, house);
    end(next);
}

/* The first house is in use; each way to make another fails at every allocation, and has done nothing then. */
static void test_without_memory(void **state)
{
    fixture *f = *state;
    bora_ledger_state before, after;
    bora_house *house = ready(f, NULL);
    bora_house_enter(house, NULL);
    assert_int_equal(await_loaded(house), BORA_OK);
    bora_ledger_get(f->ledger, &before);
    bora_status st = BORA_E_NOMEM;
    uint64_t n = 1;
    for (; st != BORA_OK; n += n < 60 ? 1 : 1 + n / 8) { /* the model's own are tested where it lives */
        bora_house *next = NULL;
        bora_error err = {{0}};
        (void)bora_memory_fail_at(n);
        st = bora_house_new_like(house, MODEL, &next, &err);
        if (st == BORA_OK)
            st = bora_house_open(next, &err);
        if (st == BORA_OK)
            st = bora_house_start(next, f->store, &err);
        (void)bora_memory_fail_at(0);
        if (st != BORA_OK)
            assert_true(strlen(err.message) > 0);
        bora_house_free(next);
        bora_ledger_get(f->ledger, &after);
        assert_int_equal(after.used, before.used);
    }
    assert_true(n > 60);
    end(house);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_after_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half_built, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("house", tests, NULL, NULL);
}
