/* What the tests of the protocol's verbs share: a daemon, a client, and short ways to ask and to compare. */
#ifndef BORA_TESTS_VERBS_H
#define BORA_TESTS_VERBS_H

#include "support/chat.h"
#include "support/daemon.h"
#include "support/fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    bora_test_daemon daemon;
    bora_client *client;
    bora_client_result *result; /* of the last call */
    bora_client_error error;
} fixture;

/* One daemon for all tests. */
static inline int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f || !bora_test_daemon_init(&f->daemon) || !bora_test_daemon_start(&f->daemon, NULL, NULL))
        return -1;
    f->client = bora_test_connect(f->daemon.socket);
    return f->client ? 0 : -1;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    bora_client_result_free(f->result);
    bora_client_close(f->client);
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

/* ---- asking ---- */

/* Its result lives until the next call. NULL: refused, see error. */
static inline const bora_client_value *call(fixture *f, bora_client_request *request)
{
    bora_client_result_free(f->result);
    f->result = NULL;
    f->error = (bora_client_error){0};
    if (bora_client_call(f->client, &request, &f->result, &f->error) != BORA_CLIENT_OK)
        return NULL;
    return bora_client_result_value(f->result);
}

/* A verb with one text argument (key NULL: none). */
static inline const bora_client_value *ask(fixture *f, const char *verb, const char *key, const char *text)
{
    bora_client_request *request = bora_client_request_new(verb);
    if (key)
        bora_client_request_string(request, key, text);
    return call(f, request);
}

static inline void assert_refused(fixture *f, const bora_client_value *value, const char *code)
{
    assert_null(value);
    assert_int_equal(f->error.status, BORA_CLIENT_E_REFUSED);
    assert_string_equal(f->error.code, code);
    assert_true(*f->error.message);
}

static inline const bora_client_value *get(const bora_client_value *map, const char *key)
{
    return bora_client_value_get(map, key);
}

static inline void assert_text(const bora_client_value *value, const char *expected)
{
    if (!bora_test_text_is(value, expected)) {
        size_t size = 0;
        const char *text = bora_client_value_text(value, &size);
        fail_msg("'%.*s' is not '%s'", (int)size, text, expected);
    }
}

static inline bora_client_generation chat(const char *session, const char *text)
{
    return (bora_client_generation){.text = text,
                                    .text_size = strlen(text),
                                    .session = session,
                                    .set = BORA_CLIENT_SET_TEMPERATURE | BORA_CLIENT_SET_MAX_TOKENS,
                                    .max_tokens = 40};
}

static inline bora_client_generation completion(const char *prompt, uint32_t max_tokens)
{
    return (bora_client_generation){.prompt = prompt,
                                    .prompt_size = strlen(prompt),
                                    .ignore_eos = true,
                                    .set = BORA_CLIENT_SET_TEMPERATURE | BORA_CLIENT_SET_MAX_TOKENS,
                                    .max_tokens = max_tokens};
}

static inline void generate(fixture *f, const bora_client_generation *g, bora_test_answer *ret_answer)
{
    *ret_answer = (bora_test_answer){0};
    if (bora_test_answer_get(f->client, g, ret_answer) != BORA_CLIENT_OK)
        fail_msg("%s", ret_answer->error.message);
    assert_null(ret_answer->disorder);
    assert_true(ret_answer->has_done);
}

static inline void assert_same_tokens(const bora_test_answer *a, const bora_test_answer *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
}

#endif
