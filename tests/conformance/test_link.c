/* Every link plugin that joins stages of one process: order, contents, blocking and closing. Threads meet in the link
 * itself; nothing waits for time to pass. */
#include "suite.h"

#include <pthread.h>

#define N_HOPS   3u
#define DEPTH    2u
#define MAX_HEAD 48u
#define MAX_BODY 200u

typedef struct fixture {
    suite_host host;
    const bora_link_ops *ops;
    bora_link *link;
} fixture;

static const bora_link_shape good_shape = {
    .struct_size = sizeof(bora_link_shape),
    .n_hops = N_HOPS,
    .depth = DEPTH,
    .max_head_size = MAX_HEAD,
    .max_body_size = MAX_BODY,
};

static void fixture_init(fixture *fx, void **state)
{
    suite_host_init(&fx->host, 1);
    fx->ops = bora_plugin_link_ops(*state);
    fx->link = NULL;
    bora_error err = {""};
    suite_created(fx->ops->create(&fx->host.table, &good_shape, &fx->link, &err), &err);
}

static void fixture_release(fixture *fx)
{
    fx->ops->close(fx->link);
    fx->ops->close(fx->link); /* twice is once */
    if (fx->ops->stop)
        fx->ops->stop(fx->link);
    fx->ops->destroy(fx->link);
    suite_host_release(&fx->host);
}

/* The serial-th message of a hop: sizes and contents follow from the two. */
typedef struct message {
    unsigned char head[MAX_HEAD];
    float body[MAX_BODY];
    bora_link_message table;
} message;

static void message_make(message *ms, uint32_t hop, uint32_t serial)
{
    uint64_t random = (uint64_t)hop << 32 | serial;
    ms->table = (bora_link_message){
        .head = ms->head,
        .body = ms->body,
        .head_size = suite_random(&random) % (MAX_HEAD + 1),
        .body_size = suite_random(&random) % (MAX_BODY + 1),
    };
    for (size_t i = 0; i < MAX_HEAD; i++)
        ms->head[i] = (unsigned char)suite_random(&random);
    for (size_t i = 0; i < MAX_BODY; i++)
        ms->body[i] = (float)(suite_random(&random) % 1000);
}

static bora_status send_serial(fixture *fx, uint32_t hop, uint32_t serial)
{
    message ms;
    message_make(&ms, hop, serial);
    bora_error err = {""};
    bora_status status = fx->ops->send(fx->link, hop, &ms.table, &err);
    memset(&ms, 0xee, sizeof ms); /* it was copied */
    return status;
}

/* Receives and compares; false when the message is not the serial-th. For threads, which must not use cmocka's asserts.
 */
static bool recv_serial(fixture *fx, uint32_t hop, uint32_t serial, bora_status *ret_status)
{
    message should, is;
    message_make(&should, hop, serial);
    memset(&is, 0, sizeof is);
    is.table = (bora_link_message){.head = is.head, .body = is.body};
    *ret_status = fx->ops->recv(fx->link, hop, &is.table, NULL);
    return *ret_status == BORA_OK && is.table.head == is.head && is.table.body == is.body &&
           is.table.head_size == should.table.head_size && is.table.body_size == should.table.body_size &&
           memcmp(is.head, should.head, is.table.head_size) == 0 &&
           memcmp(is.body, should.body, is.table.body_size * sizeof *is.body) == 0;
}

static void assert_recv(fixture *fx, uint32_t hop, uint32_t serial)
{
    bora_status status;
    SUITE_DEMAND(recv_serial(fx, hop, serial, &status),
                 "message %u of hop %u did not come, or came with other contents", serial, hop);
}

static void in_order(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    for (uint32_t serial = 0; serial < 50; serial += DEPTH) {
        for (uint32_t hop = 0; hop < N_HOPS; hop++)
            for (uint32_t i = 0; i < DEPTH; i++)
                assert_int_equal(send_serial(&fx, hop, serial + i), BORA_OK);
        for (uint32_t hop = N_HOPS; hop-- > 0;)
            for (uint32_t i = 0; i < DEPTH; i++)
                assert_recv(&fx, hop, serial + i);
    }
    fixture_release(&fx);
}

static void sizes(void **state)
{
    fixture fx;
    fixture_init(&fx, state);
    message ms;
    message_make(&ms, 0, 1);
    ms.table.head_size = ms.table.body_size = 0;
    ms.table.head = NULL;
    ms.table.body = NULL;
    assert_int_equal(fx.ops->send(fx.link, 0, &ms.table, NULL), BORA_OK);
    message is = {.table = {.head = is.head, .body = is.body, .head_size = 7, .body_size = 7}};
    assert_int_equal(fx.ops->recv(fx.link, 0, &is.table, NULL), BORA_OK);
    assert_int_equal(is.table.head_size, 0);
    assert_int_equal(is.table.body_size, 0);

    bora_error err = {""};
    message_make(&ms, 0, 1);
    ms.table.head_size = MAX_HEAD + 1;
    SUITE_DEMAND(fx.ops->send(fx.link, 0, &ms.table, &err) != BORA_OK, "send took a head larger than max_head_size");
    ms.table.head_size = 1;
    ms.table.body_size = UINT64_MAX / 2;
    SUITE_DEMAND(fx.ops->send(fx.link, 0, &ms.table, &err) != BORA_OK, "send took a body larger than max_body_size");
    ms.table.body_size = 1;
    SUITE_DEMAND(fx.ops->send(fx.link, N_HOPS, &ms.table, &err) != BORA_OK, "send took a hop that does not exist");
    SUITE_DEMAND(fx.ops->recv(fx.link, N_HOPS, &is.table, &err) != BORA_OK, "recv took a hop that does not exist");
    assert_true(err.message[0] != '\0');
    fixture_release(&fx);
}

/* ---- threads ---------------------------------------------------------------------------------------------- */

typedef struct stage {
    fixture *fx;
    uint32_t hop, n;
    uint32_t n_good; /* read after the join */
    bora_status last;
} stage;

/* A stage of a pipeline: what comes in on a hop goes out on the next. */
static void *stage_main(void *arg)
{
    stage *st = arg;
    for (uint32_t serial = 0; serial < st->n; serial++) {
        if (!recv_serial(st->fx, st->hop, serial, &st->last))
            break;
        st->last = send_serial(st->fx, st->hop + 1, serial);
        if (st->last != BORA_OK)
            break;
        st->n_good++;
    }
    return NULL;
}

static void *feeder_main(void *arg)
{
    stage *st = arg;
    for (uint32_t serial = 0; serial < st->n && (st->last = send_serial(st->fx, 0, serial)) == BORA_OK; serial++)
        st->n_good++;
    return NULL;
}

/* Far more messages than fit: senders and receivers block on each other again and again. */
static void pipeline(void **state)
{
    enum { N = 2000 };
    fixture fx;
    fixture_init(&fx, state);
    stage feeder = {.fx = &fx, .n = N}, stages[N_HOPS - 1];
    pthread_t threads[N_HOPS];
    assert_int_equal(pthread_create(&threads[0], NULL, feeder_main, &feeder), 0);
    for (uint32_t i = 0; i + 1 < N_HOPS; i++) {
        stages[i] = (stage){.fx = &fx, .hop = i, .n = N};
        assert_int_equal(pthread_create(&threads[i + 1], NULL, stage_main, &stages[i]), 0);
    }
    uint32_t n_good = 0;
    bora_status status;
    while (n_good < N && recv_serial(&fx, N_HOPS - 1, n_good, &status))
        n_good++;
    fx.ops->close(fx.link); /* whoever is stuck after a failure comes back */
    for (uint32_t i = 0; i < N_HOPS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(n_good, N);
    assert_int_equal(feeder.n_good, N);
    for (uint32_t i = 0; i + 1 < N_HOPS; i++)
        assert_int_equal(stages[i].n_good, N);
    fixture_release(&fx);
}

/* One thread blocks on a full hop, one on an empty one; or they have not come so far yet. Either way close ends them.
 */
static void close_wakes(void **state)
{
    for (int round = 0; round < 20; round++) {
        fixture fx;
        fixture_init(&fx, state);
        stage feeder = {.fx = &fx, .n = DEPTH + 1}, idle = {.fx = &fx, .hop = 1, .n = 1};
        pthread_t threads[2];
        assert_int_equal(pthread_create(&threads[0], NULL, feeder_main, &feeder), 0);
        assert_int_equal(pthread_create(&threads[1], NULL, stage_main, &idle), 0);
        fx.ops->close(fx.link);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(feeder.last, BORA_E_CLOSED);
        assert_int_equal(idle.last, BORA_E_CLOSED);
        assert_true(feeder.n_good <= DEPTH);
        /* And from now on all is closed, waiting messages or not. */
        bora_status status;
        (void)recv_serial(&fx, 0, 0, &status);
        SUITE_DEMAND(status == BORA_E_CLOSED, "recv after close answers %d, not BORA_E_CLOSED", status);
        SUITE_DEMAND(send_serial(&fx, 2, 0) == BORA_E_CLOSED, "send after close does not answer BORA_E_CLOSED");
        fixture_release(&fx);
    }
}

/* ---- memory ----------------------------------------------------------------------------------------------- */

static void refused_memory(void **state)
{
    const bora_link_ops *ops = bora_plugin_link_ops(*state);
    fixture with_memory;
    fixture_init(&with_memory, state);
    fixture_release(&with_memory);
    suite_host host;
    suite_host_init(&host, 1);
    bora_status status = BORA_E_NOMEM;
    for (uint64_t n = 1; status != BORA_OK; n++) {
        bora_link *link = NULL;
        bora_error err = {""};
        suite_host_fail_at(&host, n);
        status = ops->create(&host.table, &good_shape, &link, &err);
        assert_true(status == BORA_OK ? link != NULL : status == BORA_E_NOMEM && !link && err.message[0]);
        if (status == BORA_OK)
            ops->close(link);
        if (status == BORA_OK && ops->stop)
            ops->stop(link);
        ops->destroy(link);
        assert_int_equal(atomic_load(&host.n_blocks), 0);
    }
    suite_host_release(&host);
}

static void wrong_shapes(void **state)
{
    const bora_link_ops *ops = bora_plugin_link_ops(*state);
    bora_link_shape bad[] = {good_shape, good_shape, good_shape, good_shape, good_shape};
    bad[0].struct_size = 8;
    bad[1].n_hops = 0;
    bad[2].depth = 0;
    bad[3].max_head_size = UINT64_MAX;
    bad[4].max_body_size = UINT64_MAX / 4;
    suite_host host;
    suite_host_init(&host, 1);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        bora_link *link = NULL;
        bora_error err = {""};
        assert_int_not_equal(ops->create(&host.table, &bad[i], &link, &err), BORA_OK);
        assert_null(link);
        assert_true(err.message[0] != '\0');
    }
    ops->destroy(NULL);
    suite_host_release(&host);
}

int main(void)
{
    static const suite_test tests[] = {
        SUITE_TEST(in_order),    SUITE_TEST(sizes),          SUITE_TEST(pipeline),
        SUITE_TEST(close_wakes), SUITE_TEST(refused_memory), SUITE_TEST(wrong_shapes),
    };
    return suite_run(BORA_PLUGIN_LINK, tests, BORA_ARRAY_SIZE(tests));
}
