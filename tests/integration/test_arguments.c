/* Well-formed requests with wrong arguments: each costs its sender one error that names the argument. */
#define FIXTURE_TURNS 24
#include "integration/witness_fixture.h"

#include <math.h>
#include <stdlib.h>

typedef struct argument {
    enum { UINT, INT, FLOAT, TEXT, BOOL, ARRAY, MAP, REPEAT } kind; /* REPEAT: a text of number times s */
    const char *verb, *key;
    double number;
    const char *s;
    const char *code, *why;
} argument;

static const argument arguments[] = {
    /* numbers */
    {TEXT, "generate", "max_tokens", 0, "5", "invalid", "max_tokens must be"},
    {INT, "generate", "max_tokens", -1, "", "invalid", "max_tokens must be"},
    {FLOAT, "generate", "max_tokens", 5.0, "", "invalid", "max_tokens must be"},
    {FLOAT, "generate", "max_tokens", NAN, "", "invalid", "max_tokens must be"},
    {UINT, "generate", "max_tokens", 1e18, "", "invalid", "max_tokens must be"},
    {TEXT, "generate", "temperature", 0, "hot", "invalid", "temperature must be"},
    {FLOAT, "generate", "temperature", NAN, "", "invalid", "temperature must be"},
    {FLOAT, "generate", "temperature", INFINITY, "", "invalid", "temperature must be"},
    {FLOAT, "generate", "temperature", 1e300, "", "invalid", "temperature must be"},
    {FLOAT, "generate", "temperature", -0.5, "", "invalid", "temperature"},
    {FLOAT, "generate", "temperature", 100.5, "", "invalid", "temperature"},
    {BOOL, "generate", "temperature", 1, "", "invalid", "temperature must be"},
    {INT, "generate", "top_k", -1, "", "invalid", "top_k must be"},
    {UINT, "generate", "top_k", 1e12, "", "invalid", "top_k must be"},
    {FLOAT, "generate", "top_p", NAN, "", "invalid", "top_p must be"},
    {FLOAT, "generate", "top_p", -INFINITY, "", "invalid", "top_p must be"},
    {FLOAT, "generate", "top_p", -0.1, "", "invalid", "top_p"},
    {FLOAT, "generate", "top_p", 1.01, "", "invalid", "top_p"},
    {FLOAT, "generate", "min_p", NAN, "", "invalid", "min_p must be"},
    {FLOAT, "generate", "min_p", -0.1, "", "invalid", "min_p"},
    {FLOAT, "generate", "min_p", 2, "", "invalid", "min_p"},
    {FLOAT, "generate", "repetition_penalty", NAN, "", "invalid", "repetition_penalty must be"},
    {FLOAT, "generate", "repetition_penalty", 0, "", "invalid", "repetition_penalty"},
    {FLOAT, "generate", "repetition_penalty", -1, "", "invalid", "repetition_penalty"},
    {FLOAT, "generate", "repetition_penalty", 11, "", "invalid", "repetition_penalty"},
    {INT, "generate", "repetition_window", -4, "", "invalid", "repetition_window must be"},
    {UINT, "generate", "repetition_window", 4097, "", "invalid", "repetition_window must be"},
    {INT, "generate", "seed", -1, "", "invalid", "seed must be"},
    {FLOAT, "generate", "seed", 1.5, "", "invalid", "seed must be"},
    {TEXT, "generate", "seed", 0, "lucky", "invalid", "seed must be"},
    {UINT, "generate", "ignore_eos", 1, "", "invalid", "ignore_eos must be"},
    {TEXT, "generate", "bos", 0, "true", "invalid", "bos must be"},
    {TEXT, "generate", "create", 0, "no", "invalid", "create must be"},
    /* texts */
    {UINT, "generate", "text", 5, "", "invalid", "text must be"},
    {ARRAY, "generate", "text", 0, "", "invalid", "text must be"},
    {TEXT, "generate", "text", 0, "bad \xff\xfe", "invalid", "text must be a text in UTF-8"},
    {TEXT, "generate", "text", 0, "half \xe2\x82", "invalid", "text must be a text in UTF-8"},
    {TEXT, "generate", "text", 0, "surrogate \xed\xa0\x80", "invalid", "text must be a text in UTF-8"},
    {BOOL, "generate", "system", 1, "", "invalid", "system must be"},
    {TEXT, "generate", "system", 0, "\xc0\xaf", "invalid", "system must be a text in UTF-8"},
    {TEXT, "generate", "prompt", 0, "both", "invalid", "exactly one of"},
    {MAP, "generate", "prompt", 0, "", "invalid", "prompt must be"},
    {UINT, "generate", "session", 12, "", "invalid", "session must be"},
    {TEXT, "generate", "session", 0, "", "invalid", "session"},
    {TEXT, "generate", "session", 0, "a/b", "invalid", "'/'"},
    {TEXT, "generate", "session", 0, " a", "invalid", "begin"},
    {TEXT, "generate", "session", 0, "-a", "invalid", "begin"},
    {TEXT, "generate", "session", 0, "a\nb", "invalid", "control"},
    {TEXT, "generate", "session", 0, "a\x7f", "invalid", "control"},
    {TEXT, "generate", "session", 0, "\xff", "invalid", "session must be"},
    {REPEAT, "generate", "session", 65, "a", "invalid", "64"},
    {REPEAT, "generate", "session", 33, "\xc3\xa4", "invalid", "64"}, /* 66 bytes */
    {REPEAT, "generate", "session", 100000, "\xe2\x82\xac", "invalid", "64"},
    {TEXT, "generate", "session", 0, "0123456789abcdef0123456789ABCDEF", "not_found", "no session"},
    /* arrays and maps */
    {TEXT, "generate", "stop", 0, "end", "invalid", "stop must be"},
    {MAP, "generate", "stop", 0, "", "invalid", "stop must be"},
    {ARRAY, "generate", "logit_bias", 0, "", "invalid", "logit_bias must be"},
    {TEXT, "generate", "tokens", 0, "1,2", "invalid", "tokens must be"},
    {ARRAY, "generate", "tokens", 0, "", "invalid", "exactly one of"},
    /* the other verbs */
    {TEXT, "cancel", "request", 0, "1", "invalid", "request must be"},
    {INT, "cancel", "request", -1, "", "invalid", "request must be"},
    {FLOAT, "cancel", "request", 1.0, "", "invalid", "request must be"},
    {BOOL, "cancel", "other", 1, "", "invalid", "request is missing"},
    {UINT, "tokenize", "text", 1, "", "invalid", "text must be"},
    {TEXT, "tokenize", "text", 0, "\xf5\x80\x80\x80", "invalid", "text must be a text in UTF-8"},
    {BOOL, "tokenize", "other", 1, "", "invalid", "text is missing"},
    {TEXT, "detokenize", "tokens", 0, "1", "invalid", "tokens must be"},
    {MAP, "detokenize", "tokens", 0, "", "invalid", "tokens must be"},
    {BOOL, "detokenize", "other", 1, "", "invalid", "tokens is missing"},
    {UINT, "session.create", "name", 3, "", "invalid", "name must be"},
    {TEXT, "session.create", "name", 0, "a/b", "invalid", "'/'"},
    {TEXT, "session.create", "name", 0, "--help", "invalid", "begin"},
    {TEXT, "session.create", "name", 0, "00112233445566778899aabbccddeeff", "invalid", "hex"},
    {TEXT, "session.create", "name", 0, "tab\there", "invalid", "control"},
    {TEXT, "session.create", "name", 0, "\xc2\x85", "invalid", "control"}, /* U+0085 */
    {REPEAT, "session.create", "name", 65, "x", "invalid", "64"},
    {TEXT, "session.create", "name", 0, "witness", "exists", "witness"},
    {ARRAY, "session.create", "system", 0, "", "invalid", "system must be"},
    {TEXT, "session.show", "session", 0, "nobody", "not_found", "no session"},
    {BOOL, "session.show", "other", 1, "", "invalid", "session is missing"},
    {ARRAY, "session.show", "session", 0, "", "invalid", "session must be"},
    {TEXT, "session.show", "session", 0, "", "invalid", ""},
    {REPEAT, "session.show", "session", 500000, "x", "invalid", "64"},
    {TEXT, "session.delete", "session", 0, "nobody", "not_found", "no session"},
    {BOOL, "session.delete", "other", 1, "", "invalid", "session is missing"},
    {UINT, "session.delete", "session", 1, "", "invalid", "session must be"},
    {TEXT, "session.rename", "session", 0, "nobody", "invalid", "name is missing"},
    {TEXT, "session.rename", "name", 0, "x", "invalid", "session is missing"},
};

static void pack_argument(bora_pack *pack, const argument *a)
{
    switch (a->kind) {
    case UINT:
        bora_pack_uint(pack, a->key, (uint64_t)a->number);
        break;
    case INT:
        bora_pack_int(pack, a->key, (int64_t)a->number);
        break;
    case FLOAT:
        bora_pack_float(pack, a->key, a->number);
        break;
    case TEXT:
        bora_pack_text(pack, a->key, a->s, strlen(a->s));
        break;
    case BOOL:
        bora_pack_bool(pack, a->key, a->number != 0);
        break;
    case ARRAY:
        bora_pack_array(pack, a->key);
        bora_pack_end(pack);
        break;
    case MAP:
        bora_pack_map(pack, a->key);
        bora_pack_end(pack);
        break;
    case REPEAT: {
        size_t n = (size_t)a->number, size = strlen(a->s);
        char *text = malloc(n * size);
        assert_non_null(text);
        for (size_t i = 0; i < n; i++)
            memcpy(text + i * size, a->s, size);
        bora_pack_text(pack, a->key, text, n * size);
        free(text);
        break;
    }
    }
}

static void test_each_argument(void **state)
{
    (void)state;
    witness_check(&witness_); /* its session is there from now on: names can be taken */
    wire w;
    wire_greet(&w, daemon_.socket);
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++) {
        const argument *a = &arguments[i];
        bora_pack pack = wire_request(&w, a->verb);
        if (strcmp(a->verb, "generate") == 0 && strcmp(a->key, "text") != 0)
            bora_pack_string(&pack, "text", "Hello");
        pack_argument(&pack, a);
        wire_submit_refused(&w, &pack, a->code, a->why);
    }
    wire_close(&w);
    witness_check(&witness_);
}

/* What takes more than one value to be wrong. */
static void test_arguments_together(void **state)
{
    (void)state;
    wire w;
    wire_greet(&w, daemon_.socket);
    bora_pack pack = wire_request(&w, "generate");
    wire_submit_refused(&w, &pack, "invalid", "exactly one of");
    pack = wire_request(&w, "generate");
    bora_pack_string(&pack, "prompt", "x");
    bora_pack_string(&pack, "session", "x");
    wire_submit_refused(&w, &pack, "invalid", "session goes only with text");
    pack = wire_request(&w, "generate");
    bora_pack_string(&pack, "prompt", "x");
    bora_pack_string(&pack, "system", "x");
    wire_submit_refused(&w, &pack, "invalid", "system goes only with text");
    pack = wire_request(&w, "generate");
    bora_pack_text(&pack, "text", "zero\0byte", 9);
    wire_submit_refused(&w, &pack, "invalid", "without zero bytes");
    pack = wire_turn(&w, "no such session", "hi", 4);
    bora_pack_bool(&pack, "create", false);
    wire_submit_refused(&w, &pack, "not_found", "no such session");
    pack = wire_request(&w, "session.show");
    bora_pack_text(&pack, "session", "wit\0ness", 8);
    wire_submit_refused(&w, &pack, "invalid", "without zero bytes");
    pack = wire_request(&w, "session.rename");
    bora_pack_string(&pack, "session", "witness");
    bora_pack_string(&pack, "name", "a/b");
    wire_submit_refused(&w, &pack, "invalid", "'/'");
    pack = wire_request(&w, "session.rename");
    bora_pack_string(&pack, "session", "witness");
    bora_pack_string(&pack, "name", "twin");
    wire_submit_refused(&w, &pack, "exists", "twin");
    pack = wire_request(&w, "session.rename");
    bora_pack_string(&pack, "session", "nobody");
    bora_pack_string(&pack, "name", "somebody");
    wire_submit_refused(&w, &pack, "not_found", "nobody");
    wire_close(&w);
    witness_check(&witness_);
}

static void test_lists_of_values(void **state)
{
    (void)state;
    static const char long_stop[300] = {0};
    wire w;
    wire_greet(&w, daemon_.socket);
    uint64_t vocab_size = 0;
    wire_event e = {0};
    bora_pack pack = wire_request(&w, "model");
    wire_submit(&w, &pack);
    wire_expect_result(&w, &e);
    vocab_size = wire_uint_of(&e, "vocab_size");
    wire_event_release(&e);

    const int64_t bad_tokens[] = {-1, (int64_t)vocab_size, INT32_MAX, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof bad_tokens / sizeof *bad_tokens; i++)
        for (int verb = 0; verb < 2; verb++) {
            pack = wire_request(&w, verb ? "detokenize" : "generate");
            bora_pack_array(&pack, "tokens");
            bora_pack_uint(&pack, NULL, 1);
            bora_pack_int(&pack, NULL, bad_tokens[i]);
            bora_pack_end(&pack);
            wire_submit_refused(&w, &pack, "invalid", "tokens: item 1 is not a token id");
        }
    const struct {
        int64_t id;
        double bias;
        const char *why;
    } biases[] = {{-1, 1, "not a token id"},        {(int64_t)vocab_size, 1, "logit_bias"},
                  {INT64_MAX, 1, "not a token id"}, {5, 100.01, "from -100 to 100"},
                  {5, -1e9, "from -100 to 100"},    {5, NAN, "from -100 to 100"},
                  {5, INFINITY, "from -100 to 100"}};
    for (size_t i = 0; i < sizeof biases / sizeof *biases; i++) {
        pack = wire_request(&w, "generate");
        bora_pack_string(&pack, "text", "hi");
        bora_pack_map(&pack, "logit_bias");
        bora_pack_int_float(&pack, biases[i].id, biases[i].bias);
        bora_pack_end(&pack);
        wire_submit_refused(&w, &pack, "invalid", biases[i].why);
    }
    pack = wire_request(&w, "generate");
    bora_pack_string(&pack, "text", "hi");
    bora_pack_map(&pack, "logit_bias");
    for (int i = 0; i < 1025; i++)
        bora_pack_int_float(&pack, i, 1);
    bora_pack_end(&pack);
    wire_submit_refused(&w, &pack, "invalid", "at most 1024");

    const struct {
        int n;
        const char *text;
        size_t size;
        const char *why;
    } stops[] = {{17, "x", 1, "at most 16"},
                 {1, "", 0, "item 0 is not a text of 1 to 256"},
                 {2, long_stop, 257, "item 0 is not a text of 1 to 256"},
                 {1, "\xff", 1, "item 0 is not a text"},
                 {1, "a\0b", 3, "item 0 is not a text"}};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        pack = wire_request(&w, "generate");
        bora_pack_string(&pack, "text", "hi");
        bora_pack_array(&pack, "stop");
        for (int k = 0; k < stops[i].n; k++)
            bora_pack_text(&pack, NULL, stops[i].text, stops[i].size);
        bora_pack_end(&pack);
        wire_submit_refused(&w, &pack, "invalid", stops[i].why);
    }
    wire_close(&w);
    witness_check(&witness_);
}

/* The longest text that fits a frame: refused for the context it would need, and soon. */
static void test_texts_without_end(void **state)
{
    (void)state;
    static const char *const verbs[] = {"text", "prompt", "tokenize"};
    static const char *const units[] = {"a", " ", "ab ", "\xe2\x82\xac"};
    wire w;
    wire_greet(&w, daemon_.socket);
    size_t size = BORA_FRAME_SIZE_MAX - 200;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t n = strlen(units[u]), used = size / n * n;
        for (size_t i = 0; i < used; i += n)
            memcpy(text + i, units[u], n);
        for (size_t v = 0; v < sizeof verbs / sizeof *verbs; v++) {
            bool tokenize = strcmp(verbs[v], "tokenize") == 0;
            bora_pack pack = wire_request(&w, tokenize ? "tokenize" : "generate");
            bora_pack_text(&pack, tokenize ? "text" : verbs[v], text, used);
            if (tokenize) {
                wire_event e = {0};
                wire_submit(&w, &pack);
                wire_expect_result(&w, &e);
                wire_event_release(&e);
            } else {
                wire_submit_refused(&w, &pack, "limit", "context");
            }
        }
    }
    free(text);
    wire_close(&w);
    witness_check(&witness_);
}

/* Byte tokens alone are no UTF-8: what comes back is, all the same. */
static void test_detokenize_any_token(void **state)
{
    (void)state;
    wire w;
    wire_greet(&w, daemon_.socket);
    for (uint64_t first = 0; first < 512; first += 16) {
        wire_event e = {0};
        bora_pack pack = wire_request(&w, "detokenize");
        bora_pack_array(&pack, "tokens");
        for (uint64_t i = 0; i < 16; i++)
            bora_pack_uint(&pack, NULL, (first + i * 37) % 512);
        bora_pack_end(&pack);
        wire_submit(&w, &pack);
        wire_expect_result(&w, &e);
        const char *text = NULL;
        size_t size = 0;
        assert_true(bora_value_text(bora_value_get(e.root, "text"), &text, &size));
        wire_event_release(&e);
    }
    wire_close(&w);
    witness_check(&witness_);
}

static void test_too_many_open(void **state)
{
    (void)state;
    wire w;
    wire_event e = {0};
    wire_greet(&w, daemon_.socket);
    uint64_t first = w.last_id + 1;
    for (int i = 0; i < BORA_REQUESTS_MAX + 1; i++) {
        bora_pack pack = wire_request(&w, "generate");
        bora_pack_string(&pack, "prompt", "Once upon a time");
        bora_pack_uint(&pack, "max_tokens", 1000);
        bora_pack_bool(&pack, "ignore_eos", true);
        wire_submit(&w, &pack);
    }
    do {
        wire_receive(&w, &e);
        assert_string_not_equal(e.event, "done");
    } while (strcmp(e.event, "error") != 0);
    assert_int_equal(e.id, first + BORA_REQUESTS_MAX);
    assert_string_equal(e.code, "busy");
    assert_non_null(strstr(e.message, "too many requests"));
    wire_event_release(&e);
    wire_close(&w);
    wire_wait_status(&witness_.wire, "n_running", 0);
    wire_wait_status(&witness_.wire, "n_waiting", 0);
    witness_check(&witness_);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_argument),        cmocka_unit_test(test_arguments_together),
        cmocka_unit_test(test_lists_of_values),      cmocka_unit_test(test_texts_without_end),
        cmocka_unit_test(test_detokenize_any_token), cmocka_unit_test(test_too_many_open),
    };
    return cmocka_run_group_tests_name("arguments", tests, set_up, tear_down);
}
