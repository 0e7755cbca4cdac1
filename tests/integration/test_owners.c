/* Two users on one daemon: what one has does not exist for the other. Needs root, to be somebody else for a while. */
#include "integration/wire.h"

#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OTHER_UID 65534u

static bora_test_daemon daemon_;
static witness witness_;

static int set_up(void **state)
{
    (void)state;
    char run[BORA_TEMP_PATH_SIZE];
    if (!bora_test_daemon_init(&daemon_) || !bora_test_daemon_start(&daemon_, NULL, NULL))
        return -1;
    witness_begin(&witness_, &daemon_, 8);
    /* What a service for several users would do: the folder lets others pass, the socket lets them connect. */
    (void)bora_temp_folder_path(&daemon_.folder, "run", run);
    return chmod(daemon_.folder.path, 0711) || chmod(run, 0711) || chmod(daemon_.socket, 0666);
}

static int tear_down(void **state)
{
    (void)state;
    witness_end(&witness_);
    int code = bora_test_daemon_end(&daemon_, SIGTERM);
    bora_test_daemon_release(&daemon_);
    return code;
}

/* ---- as somebody else -------------------------------------------------------------------------------------------- */

/* The child has no cmocka: an answer that is not as it should be ends it with the number of the step. */
static int step;

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        step++;                                                                                                        \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "as another user, step %d: not %s\n", step, #condition);                                   \
            _exit(step);                                                                                               \
        }                                                                                                              \
    } while (0)

typedef struct stranger {
    void *zmq, *dealer;
    wire_event e;
    uint64_t id;
} stranger;

static bora_pack ask(stranger *s, const char *verb)
{
    bora_pack pack = {0};
    bora_pack_map(&pack, NULL);
    bora_pack_uint(&pack, "id", ++s->id);
    bora_pack_string(&pack, "verb", verb);
    return pack;
}

/* Sends it and waits for its last event; that event's name. */
static const char *answer(stranger *s, bora_pack *pack)
{
    bora_pack_end(pack);
    if (zmq_send(s->dealer, pack->data, pack->size, 0) < 0)
        return "not sent";
    bora_pack_release(pack);
    for (;;) {
        const char *why;
        static char bytes[1 << 20];
        zmq_pollitem_t item = {.socket = s->dealer, .events = ZMQ_POLLIN};
        int size = zmq_poll(&item, 1, WIRE_MS) == 1 ? zmq_recv(s->dealer, bytes, sizeof bytes, 0) : -1;
        if (size < 0)
            return "silence";
        wire_event_release(&s->e);
        s->e.frame = bora_frame_parse(bytes, (size_t)size, sizeof bytes, &why);
        if (!s->e.frame)
            return why;
        s->e.root = bora_frame_root(s->e.frame);
        wire_copy(s->e.event, sizeof s->e.event, bora_value_get(s->e.root, "event"));
        wire_copy(s->e.code, sizeof s->e.code, bora_value_get(s->e.root, "code"));
        wire_copy(s->e.message, sizeof s->e.message, bora_value_get(s->e.root, "message"));
        if (strcmp(s->e.event, "done") == 0 || strcmp(s->e.event, "error") == 0 || strcmp(s->e.event, "result") == 0)
            return s->e.event;
    }
}

static bool refused(stranger *s, bora_pack *pack, const char *code)
{
    if (strcmp(answer(s, pack), "error") != 0 || strcmp(s->e.code, code) != 0) {
        fprintf(stderr, "got %s %s: %s\n", s->e.event, s->e.code, s->e.message);
        return false;
    }
    return true;
}

static bool granted(stranger *s, bora_pack *pack, const char *event)
{
    if (strcmp(answer(s, pack), event) != 0) {
        fprintf(stderr, "got %s %s: %s\n", s->e.event, s->e.code, s->e.message);
        return false;
    }
    return true;
}

static bora_pack ask_session(stranger *s, const char *verb, const char *session)
{
    bora_pack pack = ask(s, verb);
    bora_pack_string(&pack, "session", session);
    return pack;
}

static void be_another_user(const char *foreign_id)
{
    stranger s = {0};
    char endpoint[128], owner[32];
    int linger = 0;
    EXPECT(setgroups(0, NULL) == 0 && setgid(OTHER_UID) == 0 && setuid(OTHER_UID) == 0);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s", daemon_.socket);
    s.zmq = zmq_ctx_new();
    s.dealer = zmq_socket(s.zmq, ZMQ_DEALER);
    EXPECT(zmq_setsockopt(s.dealer, ZMQ_LINGER, &linger, sizeof linger) == 0);
    EXPECT(zmq_connect(s.dealer, endpoint) == 0);

    bora_pack pack = ask(&s, "hello");
    bora_pack_uint(&pack, "protocol", 1);
    EXPECT(granted(&s, &pack, "result"));
    wire_copy(owner, sizeof owner, bora_value_get(s.e.root, "owner"));
    EXPECT(strcmp(owner, "uid:65534") == 0);

    /* Nothing of the first user can be seen, by name or by id. */
    pack = ask(&s, "session.list");
    EXPECT(granted(&s, &pack, "result"));
    EXPECT(bora_value_is_array(bora_value_get(s.e.root, "sessions")));
    EXPECT(bora_value_count(bora_value_get(s.e.root, "sessions")) == 0);
    pack = ask(&s, "status");
    EXPECT(granted(&s, &pack, "result"));
    EXPECT(bora_value_is_array(bora_value_get(s.e.root, "sessions")));
    EXPECT(bora_value_count(bora_value_get(s.e.root, "sessions")) == 0);
    const char *const keys[] = {"twin", foreign_id};
    for (int i = 0; i < 2; i++) {
        pack = ask_session(&s, "session.show", keys[i]);
        EXPECT(refused(&s, &pack, "not_found"));
        pack = ask_session(&s, "session.delete", keys[i]);
        EXPECT(refused(&s, &pack, "not_found"));
        pack = ask_session(&s, "session.rename", keys[i]);
        bora_pack_string(&pack, "name", "mine now");
        EXPECT(refused(&s, &pack, "not_found"));
        pack = ask_session(&s, "generate", keys[i]);
        bora_pack_string(&pack, "text", "What did I say?");
        bora_pack_bool(&pack, "create", false);
        EXPECT(refused(&s, &pack, "not_found"));
    }
    pack = ask_session(&s, "generate", foreign_id); /* an id is never made */
    bora_pack_string(&pack, "text", "What did I say?");
    EXPECT(refused(&s, &pack, "not_found"));
    for (uint64_t id = 0; id < 40; id++) { /* nor can their requests be cancelled */
        pack = ask(&s, "cancel");
        bora_pack_uint(&pack, "request", id);
        EXPECT(granted(&s, &pack, "result"));
        bool found = true;
        EXPECT(bora_value_bool(bora_value_get(s.e.root, "found"), &found) && !found);
    }

    /* What everybody uses is not theirs to change, nor may they have code of their choice loaded. */
    pack = ask(&s, "plugin.use");
    bora_pack_string(&pack, "kind", "attention");
    bora_pack_string(&pack, "name", "reference");
    EXPECT(refused(&s, &pack, "permission"));
    pack = ask(&s, "model.load");
    bora_pack_string(&pack, "model", BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf");
    EXPECT(refused(&s, &pack, "permission"));
    pack = ask(&s, "plugin.info");
    bora_pack_string(&pack, "kind", "attention");
    bora_pack_string(&pack, "name", BORA_BUILD_DIR "/lib/bora/plugins/attention-reference.so");
    EXPECT(refused(&s, &pack, "permission"));
    pack = ask(&s, "plugin.info");
    bora_pack_string(&pack, "kind", "attention");
    bora_pack_string(&pack, "name", "reference");
    EXPECT(granted(&s, &pack, "result"));
    bool in_use = true;
    EXPECT(bora_value_bool(bora_value_get(s.e.root, "in_use"), &in_use) && !in_use);

    /* The numbers are everybody's; no name and no id is among them. */
    pack = ask(&s, "metrics");
    EXPECT(granted(&s, &pack, "result"));
    const char *text = NULL;
    size_t size = 0;
    EXPECT(bora_value_text(bora_value_get(s.e.root, "text"), &text, &size) && size > 0);
    EXPECT(!memmem(text, size, "twin", 4) && !memmem(text, size, "witness", 7) && !memmem(text, size, "uid", 3));
    EXPECT(!memmem(text, size, foreign_id, strlen(foreign_id)));

    /* The same name is another session. */
    pack = ask_session(&s, "generate", "twin");
    bora_pack_string(&pack, "text", "Hello");
    bora_pack_uint(&pack, "max_tokens", 4);
    EXPECT(granted(&s, &pack, "done"));
    pack = ask_session(&s, "session.show", "twin");
    EXPECT(granted(&s, &pack, "result"));
    uint64_t n_messages = 0;
    EXPECT(bora_value_uint(bora_value_get(s.e.root, "n_messages"), &n_messages) && n_messages == 2);
    pack = ask(&s, "status");
    EXPECT(granted(&s, &pack, "result"));
    EXPECT(bora_value_count(bora_value_get(s.e.root, "sessions")) == 1);
    pack = ask_session(&s, "session.rename", "twin");
    bora_pack_string(&pack, "name", "witness"); /* the other's name is free for us */
    EXPECT(granted(&s, &pack, "result"));
    pack = ask_session(&s, "session.delete", "witness");
    EXPECT(granted(&s, &pack, "result"));
    _exit(0);
}

/* ---- the tests ---- */

static void session_id(const char *name, char ret_id[40])
{
    wire_event e = {0};
    bora_pack pack = wire_request(&witness_.wire, "session.show");
    bora_pack_string(&pack, "session", name);
    wire_submit(&witness_.wire, &pack);
    wire_expect_result(&witness_.wire, &e);
    wire_copy(ret_id, 40, bora_value_get(e.root, "session_id"));
    assert_int_equal(strlen(ret_id), 32);
    wire_event_release(&e);
}

static void test_another_user(void **state)
{
    (void)state;
    char id[40], after[40];
    int status = 0;
    if (geteuid() != 0)
        BORA_SKIP("only root can be another user for a while");
    witness_check(&witness_);
    session_id("twin", id);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        be_another_user(id);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    session_id("twin", after);
    assert_string_equal(after, id);
    session_id("witness", after);
    witness_check(&witness_);
}

/* Reads until text is there; how much there is then. */
static size_t receive_until(int fd, char received[4096], size_t size, const char *text)
{
    while (!memmem(received, size, text, strlen(text))) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&item, 1, WIRE_MS), 1);
        ssize_t n = recv(fd, received + size, 4096 - size, 0);
        assert_true(n > 0);
        size += (size_t)n;
    }
    return size;
}

/* The owner is what the kernel says. A client that claims in its handshake to be somebody else is not believed. */
static void test_claimed_address(void **state)
{
    (void)state;
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static const char ready[] = "\x04\x45\x05READY"
                                "\x0bSocket-Type\0\0\0\x06"
                                "DEALER"
                                "\x0cPeer-Address\0\0\0\x0f"
                                "host:65534:1:42"
                                "\x04__fd\0\0\0\x01"
                                "0";
    static const char hello[] = "\0\x1c\x83\xa2id\x01\xa4verb\xa5hello\xa8protocol\x01";
    char received[4096], expected[32];
    size_t size = 0;
    uint8_t frame[sizeof ready];
    memcpy(frame, ready, sizeof ready);
    frame[1] = (uint8_t)(sizeof ready - 1 - 2); /* the command's size */
    uint8_t request[sizeof hello];
    memcpy(request, hello, sizeof hello);
    request[1] = (uint8_t)(sizeof hello - 1 - 2);
    int fd = wire_plain(daemon_.socket);
    assert_int_equal(send(fd, greeting, sizeof greeting, MSG_NOSIGNAL), (int)sizeof greeting);
    assert_int_equal(send(fd, frame, sizeof ready - 1, MSG_NOSIGNAL), (int)sizeof ready - 1);
    size = receive_until(fd, received, size, "READY");
    assert_int_equal(send(fd, request, sizeof hello - 1, MSG_NOSIGNAL), (int)sizeof hello - 1);
    (void)snprintf(expected, sizeof expected, "uid:%u", (unsigned)geteuid());
    size = receive_until(fd, received, size, "max_frame");
    assert_non_null(memmem(received, size, expected, strlen(expected)));
    assert_null(memmem(received, size, "65534", 5));
    (void)close(fd);
    witness_check(&witness_);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_user),
        cmocka_unit_test(test_claimed_address),
    };
    return cmocka_run_group_tests_name("owners", tests, set_up, tear_down);
}
