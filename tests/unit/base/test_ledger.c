/* The ledger: sums, the limit, threads; memory that is in its books; and what it says when it says no. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/counted.h"
#include "base/ledger.h"
#include "base/machine_memory.h"
#include "base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static bora_ledger *ledger_new(uint64_t limit)
{
    bora_ledger *ledger = NULL;
    assert_int_equal(bora_ledger_new(limit, &ledger, NULL), BORA_OK);
    return ledger;
}

static void assert_state(const bora_ledger *ledger, uint64_t used, uint64_t peak)
{
    bora_ledger_state state;
    uint64_t sum = 0;
    bora_ledger_get(ledger, &state);
    for (uint32_t account = 0; account < BORA_LEDGER_COUNT; account++)
        sum += state.accounts[account];
    assert_int_equal(state.used, used);
    assert_int_equal(sum, used);
    assert_int_equal(state.peak, peak);
}

static uint64_t account_of(const bora_ledger *ledger, uint32_t account)
{
    bora_ledger_state state;
    bora_ledger_get(ledger, &state);
    return state.accounts[account];
}

static void test_take_and_give(void **state)
{
    (void)state;
    bora_ledger *ledger = ledger_new(1000);
    assert_state(ledger, 0, 0);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_KV, 600));
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_WEIGHTS, 300));
    assert_false(bora_ledger_take(ledger, BORA_LEDGER_KV, 101)); /* nothing was taken */
    assert_state(ledger, 900, 900);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_STORE, 100)); /* the limit itself may be reached */
    assert_false(bora_ledger_take(ledger, BORA_LEDGER_STORE, 1));
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_STORE, 0));
    assert_false(bora_ledger_take(ledger, BORA_LEDGER_STORE, UINT64_MAX)); /* the sum would wrap around */
    assert_state(ledger, 1000, 1000);
    bora_ledger_give(ledger, BORA_LEDGER_KV, 600);
    assert_int_equal(account_of(ledger, BORA_LEDGER_KV), 0);
    assert_int_equal(account_of(ledger, BORA_LEDGER_WEIGHTS), 300);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_REQUESTS, 50));
    assert_state(ledger, 450, 1000);
    bora_ledger_state all;
    bora_ledger_get(ledger, &all);
    assert_int_equal(all.limit, 1000);
    bora_ledger_free(ledger);

    ledger = ledger_new(0);
    assert_false(bora_ledger_take(ledger, BORA_LEDGER_KV, 1));
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_KV, 0));
    bora_ledger_free(ledger);

    ledger = ledger_new(UINT64_MAX);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_KV, UINT64_MAX));
    assert_false(bora_ledger_take(ledger, BORA_LEDGER_KV, 1));
    bora_ledger_free(ledger);
    bora_ledger_free(NULL);

    ledger = NULL;
    (void)bora_memory_fail_at(1);
    bora_status st = bora_ledger_new(1, &ledger, NULL);
    (void)bora_memory_fail_at(0);
    assert_int_equal(st, BORA_E_NOMEM);
    assert_null(ledger);
}

static void test_none(void **state)
{
    (void)state;
    bora_ledger_state all;
    memset(&all, 1, sizeof all);
    assert_true(bora_ledger_take(NULL, BORA_LEDGER_KV, UINT64_MAX));
    bora_ledger_give(NULL, BORA_LEDGER_KV, 5);
    bora_ledger_get(NULL, &all);
    assert_true(all.limit == 0 && all.used == 0 && all.peak == 0 && all.accounts[BORA_LEDGER_KV] == 0);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {"weights", "kv", "activations", "plugins", "requests", "store", "program"};
    assert_int_equal(BORA_ARRAY_SIZE(names), BORA_LEDGER_COUNT);
    for (uint32_t account = 0; account < BORA_LEDGER_COUNT; account++)
        assert_string_equal(bora_ledger_name(account), names[account]);
    assert_string_equal(bora_ledger_name(BORA_LEDGER_COUNT), "unknown");
    assert_string_equal(bora_ledger_name(UINT32_MAX), "unknown");
}

/* Giving more than was taken is a fault of the program, which ends with it. */
static void test_too_much_given(void **state)
{
    (void)state;
    bora_ledger *ledger = ledger_new(1000);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_KV, 10));
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_STORE, 10));
    pid_t child = fork();
    if (child == 0) {
        (void)close(STDERR_FILENO);     /* where the assertion is told */
        (void)signal(SIGABRT, SIG_DFL); /* not the test runner's */
        bora_ledger_give(ledger, BORA_LEDGER_KV, 11);
        _exit(0);
    }
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    bora_ledger_free(ledger);
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        uint64_t size;
        const char *text;
    } sizes[] = {{0, "0 bytes"},         {1023, "1023 bytes"},     {1024, "1.0 KiB"},
                 {100 << 10, "100 KiB"}, {MIB, "1.0 MiB"},         {MIB * 7 / 2, "3.5 MiB"},
                 {512 * MIB, "512 MiB"}, {4096 * MIB, "4096 MiB"}, {UINT64_MAX, "17592186044416 MiB"}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++)
        assert_string_equal(bora_show_size(sizes[i].size).text, sizes[i].text);

    bora_ledger *ledger = ledger_new(4096 * MIB);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_WEIGHTS, 3900 * MIB));
    bora_error err = {""};
    assert_int_equal(bora_ledger_fail(ledger, "packed weights", 512 * MIB, &err), BORA_E_LIMIT);
    assert_string_equal(err.message, "memory limit: 512 MiB more for packed weights would pass the limit of 4096 MiB "
                                     "(3900 MiB in use)");
    assert_int_equal(bora_ledger_fail(ledger, "buffers", 196 * MIB, &err), BORA_E_NOMEM);
    assert_string_equal(err.message, "196 MiB of memory for buffers");
    assert_int_equal(bora_ledger_fail(ledger, "buffers", 196 * MIB + 1, NULL), BORA_E_LIMIT);
    assert_int_equal(bora_ledger_fail(NULL, "buffers", UINT64_MAX, &err), BORA_E_NOMEM);
    bora_ledger_free(ledger);
}

/* ---- threads ---- */

enum { N_THREADS = 4, N_ROUNDS = 2000 };

typedef struct taker {
    bora_ledger *ledger;
    atomic_uint *n_refused; /* atomic: all threads count */
    uint32_t account;
} taker;

/* Takes three pieces, as far as they are to be had, and gives them back, again and again; the limit is too small for
 * all threads together. */
static void *take_and_give(void *arg)
{
    const taker *self = arg;
    for (uint32_t round = 0; round < N_ROUNDS; round++) {
        bool has[3];
        for (uint32_t i = 0; i < 3; i++) {
            has[i] = bora_ledger_take(self->ledger, self->account, 10 + i);
            if (!has[i])
                atomic_fetch_add(self->n_refused, 1);
        }
        bora_ledger_state seen;
        bora_ledger_get(self->ledger, &seen);
        uint64_t sum = 0;
        for (uint32_t account = 0; account < BORA_LEDGER_COUNT; account++)
            sum += seen.accounts[account];
        if (sum != seen.used || seen.used > seen.limit || seen.peak > seen.limit)
            return "the sums do not fit";
        for (uint32_t i = 0; i < 3; i++)
            if (has[i])
                bora_ledger_give(self->ledger, self->account, 10 + i);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    bora_ledger *ledger = ledger_new(50);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_PROGRAM, 20)); /* what is left does not even do for one */
    atomic_uint n_refused = 0;
    taker takers[N_THREADS];
    pthread_t threads[N_THREADS];
    for (uint32_t i = 0; i < N_THREADS; i++) {
        takers[i] = (taker){ledger, &n_refused, i / 2}; /* two on each account */
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &takers[i]), 0);
    }
    for (uint32_t i = 0; i < N_THREADS; i++) {
        void *fault = NULL;
        assert_int_equal(pthread_join(threads[i], &fault), 0);
        if (fault)
            fail_msg("%s", (const char *)fault);
    }
    assert_true(n_refused >= N_THREADS * N_ROUNDS);
    bora_ledger_state all;
    bora_ledger_get(ledger, &all);
    assert_int_equal(all.used, 20);
    assert_true(all.peak > 20 && all.peak <= 50);
    bora_ledger_free(ledger);
}

/* ---- memory in the books ---- */

static void test_counted(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
    bora_ledger *ledger = ledger_new(MIB);
    uint64_t most = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++) {
        unsigned char *memory = bora_counted_alloc(ledger, BORA_LEDGER_KV, sizes[i]);
        unsigned char *cleared = bora_counted_calloc(ledger, BORA_LEDGER_STORE, sizes[i], 2);
        assert_non_null(memory);
        assert_non_null(cleared);
        assert_int_equal((uintptr_t)memory % 64, 0);
        assert_int_equal((uintptr_t)cleared % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < 2 * sizes[i]; k++)
            assert_int_equal(cleared[k], 0);
        assert_in_range(account_of(ledger, BORA_LEDGER_KV), sizes[i] + 1, sizes[i] + 128);
        assert_in_range(account_of(ledger, BORA_LEDGER_STORE), 2 * sizes[i] + 1, 2 * sizes[i] + 128);
        most = account_of(ledger, BORA_LEDGER_KV) + account_of(ledger, BORA_LEDGER_STORE);
        memset(memory, 1, sizes[i]);
        memset(cleared, 1, 2 * sizes[i]);
        bora_counted_free(memory);
        bora_counted_free(cleared);
    }
    assert_state(ledger, 0, most);
    bora_counted_free(NULL);

    /* Nothing stays taken for what could not be had. */
    assert_null(bora_counted_alloc(ledger, BORA_LEDGER_KV, MIB));
    assert_null(bora_counted_calloc(ledger, BORA_LEDGER_KV, MIB, 1));
    assert_null(bora_counted_alloc(ledger, BORA_LEDGER_KV, SIZE_MAX));
    assert_null(bora_counted_alloc(ledger, BORA_LEDGER_KV, SIZE_MAX - 64));
    assert_null(bora_counted_calloc(ledger, BORA_LEDGER_KV, SIZE_MAX / 2, 3));
    /* A piece that would fit without its head is refused, and the message says the same. */
    bora_error err = {""};
    assert_null(bora_counted_alloc(ledger, BORA_LEDGER_KV, MIB - 32));
    assert_int_equal(bora_counted_fail(ledger, "a piece", MIB - 32, &err), BORA_E_LIMIT);
    assert_string_equal(err.message,
                        "memory limit: 1.0 MiB more for a piece would pass the limit of 1.0 MiB (0 bytes in "
                        "use)");
    assert_int_equal(bora_counted_fail(ledger, "a piece", MIB - 64, &err), BORA_E_NOMEM);
    assert_int_equal(bora_counted_fail(ledger, "a piece", SIZE_MAX, &err), BORA_E_LIMIT);
    (void)bora_memory_fail_at(1);
    void *first = bora_counted_alloc(ledger, BORA_LEDGER_KV, 10);
    void *second = bora_counted_calloc(ledger, BORA_LEDGER_KV, 10, 10);
    (void)bora_memory_fail_at(0);
    assert_true(!first && !second);
    bora_ledger_state all;
    bora_ledger_get(ledger, &all);
    assert_int_equal(all.used, 0);
    bora_ledger_free(ledger);

    first = bora_counted_alloc(NULL, BORA_LEDGER_KV, 10); /* without a ledger: plain memory */
    assert_non_null(first);
    bora_counted_free(first);
    assert_null(bora_counted_alloc(NULL, BORA_LEDGER_KV, SIZE_MAX - 3));
}

/* ---- the default ---- */

/* In a child: the limits stay with it. Exit status 0: as it should be. */
static void lower(int resource, uint64_t bytes)
{
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {bytes, RLIM_INFINITY};
        bool was_lower = bora_machine_memory() <= bytes; /* a machine that small decides by itself */
        bool is_set = setrlimit(resource, &limit) == 0;
        _exit(is_set && (was_lower || bora_machine_memory() == bytes) ? 0 : 1);
    }
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
}

/* The next give, and only that, sends a message. */
static void test_wake(void **state)
{
    (void)state;
    bora_ledger *ledger = ledger_new(MIB);
    bora_mailbox *box = NULL;
    assert_int_equal(bora_mailbox_new(&box, NULL), BORA_OK);
    bora_mail mail;
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_KV, 100));
    bora_ledger_give(ledger, BORA_LEDGER_KV, 10); /* nobody waits */
    bora_ledger_wake(ledger, box, &mail);
    assert_true(bora_ledger_take(ledger, BORA_LEDGER_KV, 1));
    assert_int_equal(bora_mailbox_count(box), 0);
    bora_ledger_give(ledger, BORA_LEDGER_KV, 10);
    assert_ptr_equal(bora_mailbox_take(box), &mail);
    bora_ledger_give(ledger, BORA_LEDGER_KV, 10);
    assert_null(bora_mailbox_take(box));
    bora_ledger_wake(ledger, box, &mail);
    bora_ledger_wake(ledger, NULL, NULL);
    bora_ledger_give(ledger, BORA_LEDGER_KV, 71);
    assert_null(bora_mailbox_take(box));
    bora_ledger_wake(NULL, box, &mail); /* it counts nothing */
    bora_mailbox_free(box);
    bora_ledger_free(ledger);
}

static void test_default(void **state)
{
    (void)state;
    const uint64_t machine = bora_machine_memory(), limit = bora_ledger_default_limit();
    assert_true(machine > 64 * MIB && machine <= bora_machine_memory_in(""));
    assert_in_range(limit, machine / 10 * 9, machine / 10 * 9 + 9);
    const uint64_t n_pages = (uint64_t)sysconf(_SC_PHYS_PAGES), page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    assert_true(machine <= n_pages * page_size);
    assert_in_range(bora_machine_rss(), page_size, machine);
    lower(RLIMIT_DATA, 700 * MIB);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* whose address space is larger than any machine  \
                                                                     */
    lower(RLIMIT_AS, 800 * MIB);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_and_give),  cmocka_unit_test(test_none),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_too_much_given), cmocka_unit_test(test_messages), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_counted),        cmocka_unit_test(test_default),  cmocka_unit_test(test_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
