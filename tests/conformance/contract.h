/* What plugin.h demands of a plugin of any kind: tables of other sizes, older hosts, options, the life of an instance,
 * refused memory, several instances, threads. Written once; test_<kind>_contract.c says how an instance of its kind is
 * made and put to use:
 *
 *   #define CONTRACT_KIND attention       then include this file
 *   contract_shape    a shape that the plugin must take
 *   contract_ready    what follows create before the first use; nothing for most kinds
 *   contract_use      a piece of work, always the same, and its result
 *
 * and runs CONTRACT_TESTS. */
#ifndef BORA_TESTS_CONFORMANCE_CONTRACT_H
#define BORA_TESTS_CONFORMANCE_CONTRACT_H

#include "suite.h"
#include "suite_threads.h"

#include <sys/mman.h>
#include <unistd.h>

#define CONTRACT_JOIN3(a, b, c)  a##b##c
#define CONTRACT_NAME3(a, b, c)  CONTRACT_JOIN3(a, b, c)
#define CONTRACT_TYPE(suffix)    CONTRACT_NAME3(bora_, CONTRACT_KIND, suffix)
#define CONTRACT_OPS(library)    CONTRACT_NAME3(bora_plugin_, CONTRACT_KIND, _ops)(library)
#define CONTRACT_INSTANCES_MAX   3u
#define CONTRACT_ALLOCATIONS_MAX 10000u /* of one piece of work; more of them is a loop without end */

typedef CONTRACT_TYPE() contract_instance;
typedef CONTRACT_TYPE(_shape) contract_shape_type;
typedef CONTRACT_TYPE(_ops) contract_ops_type;

/* Given by the test of the kind. variant 0 .. 2: shapes that differ. The bytes of a shape that every host knows. */
static void contract_shape(const bora_plugin_library *library, uint32_t variant, contract_shape_type *ret_shape);
static const size_t contract_shape_needed;
static bora_status contract_ready(const bora_plugin_library *library, contract_instance *instance, uint32_t variant,
                                  bora_error *err);
/* Writes CONTRACT_RESULT floats. */
static bora_status contract_use(const bora_plugin_library *library, contract_instance *instance, uint32_t variant,
                                float *result, bora_error *err);

/* ---- an instance ------------------------------------------------------------------------------------------- */

/* Skips the test when the plugin says that it cannot work here at all: that is allowed and tested nowhere else. */
static contract_instance *contract_create(const bora_plugin_library *library, const bora_host *host, uint32_t variant)
{
    contract_shape_type shape;
    contract_shape(library, variant, &shape);
    contract_instance *instance = NULL;
    bora_error err = {""};
    bora_status status = CONTRACT_OPS(library)->create(host, &shape, &instance, &err);
    suite_created(status, &err);
    assert_non_null(instance);
    status = contract_ready(library, instance, variant, &err);
    if (status != BORA_OK)
        fail_msg("prepare: %s", err.message);
    return instance;
}

static void contract_end(const bora_plugin_library *library, contract_instance *instance)
{
    const contract_ops_type *ops = CONTRACT_OPS(library);
    if (ops->close)
        ops->close(instance);
    if (ops->stop)
        ops->stop(instance);
    ops->destroy(instance);
}

/* The result of the same work is the same; of a plugin that promises no bits, nearly. */
static bool contract_same(const bora_plugin_library *library, const float *is, const float *should)
{
    if (bora_plugin_flags(library) & BORA_PLUGIN_BATCH_INVARIANT)
        return memcmp(is, should, CONTRACT_RESULT * sizeof *is) == 0;
    return suite_nmse(is, should, CONTRACT_RESULT) <= 1e-8;
}

/* What use gives on an ordinary host with one thread. */
static void contract_expected(const bora_plugin_library *library, uint32_t variant, float *result)
{
    suite_host host;
    suite_host_init(&host, 1);
    contract_instance *instance = contract_create(library, &host.table, variant);
    bora_error err = {""};
    if (contract_use(library, instance, variant, result, &err) != BORA_OK)
        fail_msg("the first use: %s", err.message);
    contract_end(library, instance);
    suite_host_release(&host);
}

static void contract_expect_use(const bora_plugin_library *library, contract_instance *instance, uint32_t variant,
                                const float *should, const char *when)
{
    float result[CONTRACT_RESULT];
    bora_error err = {""};
    if (contract_use(library, instance, variant, result, &err) != BORA_OK)
        fail_msg("%s: %s", when, err.message);
    if (!contract_same(library, result, should))
        fail_msg("%s the result is another", when);
}

/* A create that must not succeed leaves a reason, no instance and no memory. */
static void contract_assert_refused(const suite_host *host, bora_status status, const contract_instance *instance,
                                    const bora_error *err, const char *what)
{
    if (status == BORA_OK)
        fail_msg("create took %s", what);
    if (instance)
        fail_msg("create refused %s, yet handed out an instance", what);
    if (!err->message[0])
        fail_msg("create refused %s and gave no reason", what);
    const long n_blocks = atomic_load(&host->n_blocks);
    if (n_blocks)
        fail_msg("create refused %s and kept %ld blocks of memory", what, n_blocks);
}

/* ---- tables ------------------------------------------------------------------------------------------------ */

/* The name is the file's: that is how the daemon finds it. */
static void its_name(void **state)
{
    char *file = bora_format("/%s-%s.so", bora_plugin_kind_name(bora_plugin_kind(*state)), bora_plugin_name(*state));
    assert_non_null(file);
    const char *path = bora_plugin_path(*state);
    const size_t size = strlen(path), file_size = strlen(file);
    if (size < file_size || strcmp(path + size - file_size, file) != 0)
        fail_msg("the plugin calls itself '%s', so its file must be called '%s', not '%s'", bora_plugin_name(*state),
                 file + 1, path);
    bora_free(file);
}

/* A shape that ends where memory ends: reading on is a fault. */
typedef struct contract_edge {
    unsigned char *pages;
    size_t page_size;
} contract_edge;

static void contract_edge_init(contract_edge *edge)
{
    edge->page_size = (size_t)sysconf(_SC_PAGESIZE);
    edge->pages = mmap(NULL, 2 * edge->page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(edge->pages != MAP_FAILED);
    assert_int_equal(mprotect(edge->pages + edge->page_size, edge->page_size, PROT_NONE), 0);
}

/* Zeros fill up what is larger than the shape. */
static const contract_shape_type *contract_edge_shape(const contract_edge *edge, const contract_shape_type *shape,
                                                      uint32_t size)
{
    unsigned char *at = edge->pages + edge->page_size - size;
    memset(at, 0, size);
    memcpy(at, shape, size < sizeof *shape ? size : sizeof *shape);
    memcpy(at, &size, sizeof size);
    return (const contract_shape_type *)(const void *)at;
}

static void contract_edge_release(contract_edge *edge)
{
    assert_int_equal(munmap(edge->pages, 2 * edge->page_size), 0);
}

/* Smaller than every host's: refused, and nothing behind its end is read. Larger, of a newer host: taken. */
static void shape_sizes(void **state)
{
    const contract_ops_type *ops = CONTRACT_OPS(*state);
    float should[CONTRACT_RESULT];
    contract_expected(*state, 0, should);
    contract_shape_type shape;
    contract_shape(*state, 0, &shape);
    contract_edge edge;
    contract_edge_init(&edge);
    suite_host host;
    suite_host_init(&host, 1);
    for (uint32_t size = 8; size <= sizeof shape + 64; size += 8) {
        char what[64];
        (void)snprintf(what, sizeof what, "a shape of %u bytes", size);
        contract_instance *instance = NULL;
        bora_error err = {""};
        bora_status status = ops->create(&host.table, contract_edge_shape(&edge, &shape, size), &instance, &err);
        if (size < contract_shape_needed) {
            contract_assert_refused(&host, status, instance, &err, what);
            assert_int_not_equal(ops->create(&host.table, contract_edge_shape(&edge, &shape, size), &instance, NULL),
                                 BORA_OK);
            continue;
        }
        if (status != BORA_OK && size < sizeof shape)
            continue; /* reserved fields may be wanted */
        if (status != BORA_OK)
            fail_msg("create refused %s: %s", what, err.message);
        if (contract_ready(*state, instance, 0, &err) != BORA_OK)
            fail_msg("prepare: %s", err.message);
        contract_expect_use(*state, instance, 0, should, what);
        contract_end(*state, instance);
    }
    contract_edge_release(&edge);
    suite_host_release(&host);
}

/* Behind the end of an older host's table lies something else: here, this. */
static atomic_uint contract_trapped;

static bora_status contract_trap(void)
{
    atomic_fetch_add(&contract_trapped, 1);
    return BORA_E_INTERNAL;
}

/* A host of another minor version: its table is shorter or longer. The plugin gives the same result or says that it
 * cannot work; it never calls what is not there. */
static void contract_try_host(const bora_plugin_library *library, uint32_t minor, size_t size, const float *should)
{
    char what[64];
    (void)snprintf(what, sizeof what, "on a host of minor version %u with a table of %zu bytes", minor, size);
    suite_host host;
    suite_host_init(&host, 1);
    bora_status (*const trap)(void) = contract_trap;
    union {
        bora_host table;
        unsigned char bytes[sizeof(bora_host) + 128];
    } other;
    for (size_t i = 0; i < sizeof other; i += sizeof trap)
        memcpy(other.bytes + i, (const void *)&trap, sizeof trap);
    memcpy(other.bytes, &host.table, size < sizeof(bora_host) ? size : sizeof(bora_host));
    other.table.struct_size = (uint32_t)size;
    other.table.abi_minor = (uint16_t)minor;
    contract_shape_type shape;
    contract_shape(library, 0, &shape);
    contract_instance *instance = NULL;
    bora_error err = {""};
    atomic_store(&contract_trapped, 0);
    bora_status status = CONTRACT_OPS(library)->create(&other.table, &shape, &instance, &err);
    if (status != BORA_OK) {
        contract_assert_refused(&host, status, instance, &err, what);
        if (status != BORA_E_UNSUPPORTED && status != BORA_E_UNAVAILABLE)
            fail_msg("%s create answers %d, which stops the daemon: %s", what, status, err.message);
        if (minor >= BORA_ABI_MINOR && size >= sizeof(bora_host))
            fail_msg("%s, a newer one: %s", what, err.message);
    } else {
        if (contract_ready(library, instance, 0, &err) != BORA_OK)
            fail_msg("%s: %s", what, err.message);
        contract_expect_use(library, instance, 0, should, what);
        contract_end(library, instance);
    }
    if (atomic_load(&contract_trapped))
        fail_msg("%s the plugin called a service behind the table's end", what);
    suite_host_release(&host);
}

static void other_hosts(void **state)
{
    static const size_t sizes[] = {offsetof(bora_host, matrix_new),
                                   offsetof(bora_host, matrix_multiply) + sizeof(void (*)(void)), sizeof(bora_host),
                                   sizeof(bora_host) + 64};
    float should[CONTRACT_RESULT];
    contract_expected(*state, 0, should);
    for (uint32_t minor = 0; minor <= BORA_ABI_MINOR + 5; minor++)
        for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++)
            contract_try_host(*state, minor, sizes[i], should);
}

/* An option that it does not know is not asked for, so that the daemon can report it; one that it knows and cannot
 * read is refused with its name, or is no nonsense to it. */
static void options(void **state)
{
    static const char *const values[] = {
        "", "-1", "0", "1e999", "nan", "99999999999999999999999999", "0x", " 1", "1 ", "%s%n", "/nonexistent/\xff\xfe"};
    const contract_ops_type *ops = CONTRACT_OPS(*state);
    suite_host host, first;
    suite_host_init(&first, 1);
    first.key = "no_plugin_has_such_an_option";
    first.value = "1";
    contract_instance *instance = contract_create(*state, &first.table, 0);
    first.created = true;
    float result[CONTRACT_RESULT];
    assert_int_equal(contract_use(*state, instance, 0, result, NULL), BORA_OK);
    contract_end(*state, instance);
    for (uint32_t k = 0; k < first.n_keys; k++) {
        if (strcmp(first.keys[k], first.key) == 0)
            fail_msg("the plugin asks for options that it does not have");
        for (size_t v = 0; v < BORA_ARRAY_SIZE(values); v++) {
            suite_host_init(&host, 1);
            host.key = first.keys[k];
            host.value = values[v];
            contract_shape_type shape;
            contract_shape(*state, 0, &shape);
            instance = NULL;
            bora_error err = {""};
            bora_status status = ops->create(&host.table, &shape, &instance, &err);
            if (status == BORA_OK) {
                contract_end(*state, instance);
            } else {
                contract_assert_refused(&host, status, instance, &err, values[v]);
                if (!strstr(err.message, host.key))
                    fail_msg("the message does not name the option '%s': %s", host.key, err.message);
            }
            suite_host_release(&host);
        }
    }
    suite_host_release(&first);
}

/* The same through the daemon's own host table, which reports keys nobody asked for. */
static void unknown_option(void **state)
{
    static const bora_plugin_option unknown[] = {{"no_plugin_has_such_an_option", "1"}};
    static const bora_plugin_options all = {unknown, 1};
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    bora_pool *pool = NULL;
    bora_kernels *kernels = NULL;
    bora_plugin_host *host = NULL;
    assert_int_equal(bora_pool_new(1, &pool, NULL), BORA_OK);
    assert_int_equal(bora_kernels_new(&cpu, pool, SUITE_COLS_MAX, NULL, &kernels, NULL), BORA_OK);
    assert_int_equal(bora_plugin_host_new(NULL, pool, kernels, &cpu, &all, NULL, 0, &host, NULL), BORA_OK);
    contract_shape_type shape;
    contract_shape(*state, 0, &shape);
    contract_instance *instance = NULL;
    bora_error err = {""};
    bora_status status = CONTRACT_OPS(*state)->create(bora_plugin_host_table(host), &shape, &instance, &err);
    const bool available = status != BORA_E_UNAVAILABLE;
    status = bora_plugin_created(*state, host, status, &err);
    if (available && (status != BORA_E_INVAL || !strstr(err.message, unknown[0].key)))
        fail_msg("an unknown option was not reported: %s", err.message);
    if (instance)
        contract_end(*state, instance);
    bora_plugin_host_free(host);
    bora_kernels_free(kernels);
    bora_pool_free(pool);
}

/* ---- life -------------------------------------------------------------------------------------------------- */

static void life(void **state)
{
    const contract_ops_type *ops = CONTRACT_OPS(*state);
    float should[CONTRACT_RESULT], result[CONTRACT_RESULT];
    contract_expected(*state, 0, should);
    suite_host host;
    suite_host_init(&host, 1);
    ops->destroy(NULL);

    contract_instance *instance = contract_create(*state, &host.table, 0);
    contract_end(*state, instance); /* never used */

    contract_shape_type shape;
    contract_shape(*state, 0, &shape);
    assert_int_equal(ops->create(&host.table, &shape, &instance, NULL), BORA_OK);
    contract_end(*state, instance); /* not even made ready */

    instance = contract_create(*state, &host.table, 0);
    for (int i = 0; i < 3; i++) /* the same work, again and again */
        contract_expect_use(*state, instance, 0, should, "when the same is asked again");
    for (int i = 0; i < 2 && ops->close; i++) /* twice is once */
        ops->close(instance);
    if (ops->close) {
        bora_error err = {""};
        if (contract_use(*state, instance, 0, result, &err) == BORA_OK)
            fail_msg("after close an operation still succeeds");
        if (contract_use(*state, instance, 0, result, NULL) == BORA_OK)
            fail_msg("after close an operation still succeeds");
    }
    if (ops->stop)
        ops->stop(instance);
    ops->destroy(instance);
    suite_host_release(&host);
}

static void instances(void **state)
{
    float should[CONTRACT_INSTANCES_MAX][CONTRACT_RESULT];
    contract_instance *all[CONTRACT_INSTANCES_MAX];
    suite_host hosts[CONTRACT_INSTANCES_MAX];
    for (uint32_t i = 0; i < CONTRACT_INSTANCES_MAX; i++)
        contract_expected(*state, i, should[i]);
    for (uint32_t i = 0; i < CONTRACT_INSTANCES_MAX; i++) {
        suite_host_init(&hosts[i], i + 1);
        all[i] = contract_create(*state, &hosts[i].table, i);
    }
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t i = CONTRACT_INSTANCES_MAX; i-- > 0;)
            contract_expect_use(*state, all[i], i, should[i], "beside other instances");
    contract_end(*state, all[1]);
    suite_host_release(&hosts[1]);
    for (uint32_t i = 0; i < CONTRACT_INSTANCES_MAX; i += 2)
        contract_expect_use(*state, all[i], i, should[i], "after another instance has ended");
    for (uint32_t i = 0; i < CONTRACT_INSTANCES_MAX; i += 2) {
        contract_end(*state, all[i]);
        suite_host_release(&hosts[i]);
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

/* One round: the n-th request for memory is refused (and all after it, or it alone). True when no request was left to
 * refuse. */
static bool contract_starve(const bora_plugin_library *library, uint64_t n, bool once, bora_error *err,
                            const float *should)
{
    const contract_ops_type *ops = CONTRACT_OPS(library);
    suite_host host;
    suite_host_init(&host, 1);
    host.fail_once = once;
    contract_shape_type shape;
    contract_shape(library, 0, &shape);
    contract_instance *instance = NULL;
    float result[CONTRACT_RESULT];
    suite_host_fail_at(&host, n);
    bora_status status = ops->create(&host.table, &shape, &instance, err);
    if (status != BORA_OK) {
        if (instance)
            fail_msg("create failed, yet handed out an instance");
    } else {
        status = contract_ready(library, instance, 0, err);
        const bool ready = status == BORA_OK;
        if (ready)
            status = contract_use(library, instance, 0, result, err);
        if (status == BORA_OK && !contract_same(library, result, should))
            fail_msg("request %llu for memory was refused: nobody says so, but the result is another",
                     (unsigned long long)n);
        const bool done = atomic_load(&host.n_requests) < n;
        suite_host_fail_at(&host, 0);
        if (ready) /* with memory again it works */
            contract_expect_use(library, instance, 0, should, "after memory had been refused");
        contract_end(library, instance);
        if (status == BORA_OK) {
            suite_host_release(&host);
            return done;
        }
    }
    if (status != BORA_E_NOMEM)
        fail_msg("without memory the answer is %d, not BORA_E_NOMEM (%d)", status, BORA_E_NOMEM);
    if (err && !err->message[0])
        fail_msg("without memory there is no message");
    const long n_blocks = atomic_load(&host.n_blocks);
    if (n_blocks)
        fail_msg("request %llu for memory was refused, and %ld blocks were not given back", (unsigned long long)n,
                 n_blocks);
    suite_host_release(&host);
    return false;
}

static void failing_allocations(void **state)
{
    float should[CONTRACT_RESULT];
    contract_expected(*state, 0, should);
    for (int once = 0; once < 2; once++) {
        uint64_t n = 1;
        for (bool done = false; !done; n++) {
            assert_true(n < CONTRACT_ALLOCATIONS_MAX);
            bora_error err = {""};
            done = contract_starve(*state, n, once, n % 2 ? &err : NULL, should);
        }
    }
}

/* ---- threads ----------------------------------------------------------------------------------------------- */

/* Who has no stop has no threads of its own; who has, has none after it. Work is shared out by parallel_for alone. */
static void threads(void **state)
{
    const contract_ops_type *ops = CONTRACT_OPS(*state);
    float should[CONTRACT_RESULT];
    contract_expected(*state, 0, should);
    for (uint32_t n_threads = 1; n_threads <= SUITE_THREADS; n_threads++) {
        suite_host host;
        suite_host_init(&host, n_threads);
        suite_thread_ids before;
        suite_thread_ids_get(&before);
        contract_instance *instance = contract_create(*state, &host.table, 0);
        contract_expect_use(*state, instance, 0, should, "with other threads");
        const uint32_t n_own = suite_threads_since(&before);
        if (n_own && !ops->stop)
            fail_msg("the plugin started %u threads and has no stop to wait for them", n_own);
        contract_end(*state, instance);
        if (!suite_threads_gone(&before))
            fail_msg("threads of the plugin are left after stop and destroy");
        suite_host_release(&host);
    }
}

/* Two stages at once, each in a thread of its own. */
typedef struct contract_stage {
    const bora_plugin_library *library;
    suite_host host;
    contract_instance *instance;
    uint32_t variant;
    const float *should;
    pthread_barrier_t *start;
    bool good; /* read after the join */
    pthread_t thread;
} contract_stage;

static void *contract_stage_main(void *arg)
{
    contract_stage *stage = arg;
    stage->host.owner = pthread_self();
    (void)pthread_barrier_wait(stage->start);
    stage->good = true;
    for (int round = 0; round < 20 && stage->good; round++) {
        float result[CONTRACT_RESULT];
        stage->good = contract_use(stage->library, stage->instance, stage->variant, result, NULL) == BORA_OK &&
                      contract_same(stage->library, result, stage->should);
    }
    return NULL;
}

static void stages_at_once(void **state)
{
    enum { N = 2 };
    float should[N][CONTRACT_RESULT];
    contract_stage stages[N];
    pthread_barrier_t start;
    assert_int_equal(pthread_barrier_init(&start, NULL, N), 0);
    for (uint32_t i = 0; i < N; i++)
        contract_expected(*state, i, should[i]);
    for (uint32_t i = 0; i < N; i++) {
        stages[i] = (contract_stage){.library = *state, .variant = i, .should = should[i], .start = &start};
        suite_host_init(&stages[i].host, 1);
        stages[i].instance = contract_create(*state, &stages[i].host.table, i);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(pthread_create(&stages[i].thread, NULL, contract_stage_main, &stages[i]), 0);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(pthread_join(stages[i].thread, NULL), 0);
    for (uint32_t i = 0; i < N; i++) {
        contract_end(*state, stages[i].instance);
        suite_host_release(&stages[i].host);
        if (!stages[i].good)
            fail_msg("in another thread than it was created in, beside another instance, the result is another");
    }
    assert_int_equal(pthread_barrier_destroy(&start), 0);
}

/* clang-format off */
#define CONTRACT_TESTS                                                                                                 \
    SUITE_TEST(its_name), SUITE_TEST(shape_sizes), SUITE_TEST(other_hosts), SUITE_TEST(options),                       \
    SUITE_TEST(unknown_option), SUITE_TEST(life), SUITE_TEST(instances), SUITE_TEST(failing_allocations),              \
    SUITE_TEST(threads), SUITE_TEST(stages_at_once)
/* clang-format on */

#endif
