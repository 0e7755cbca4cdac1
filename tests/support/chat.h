/* Answers of a real daemon for a test: what their events said, collected and checked as they come. */
#ifndef BORA_TESTS_CHAT_H
#define BORA_TESTS_CHAT_H

#include <bora/client.h>

/* One answer. All zero before; what is set in the first part goes with it. */
typedef struct bora_test_answer {
    /* Called inside the handler at the at-th event of that kind (from 0), once. NULL: nothing is. */
    void (*act)(void *context);
    void *context;
    int32_t act_on; /* BORA_CLIENT_EVENT_... */
    uint64_t act_at;

    bora_client_status status; /* of the whole; OK after done */
    bora_client_error error;
    bool has_accepted, has_done;
    bool has_ended;        /* by done or error */
    const char *disorder;  /* what of PROTOCOL.md the events broke first; NULL: nothing */
    uint64_t n_events[10]; /* by kind */
    uint64_t request;      /* as bora_client_submit gave it */
    int32_t *tokens;       /* [n_tokens] of the token events */
    double *logprobs;      /* [n_tokens] */
    size_t n_tokens;
    char *text; /* all that was shown; zero-terminated */
    size_t text_size;
    char session[72], session_id[40];
    uint64_t turn, n_history, n_cached, n_rerun, n_reused, n_prompt, seed; /* accepted */
    bool system_ignored;
    char reason[16]; /* done, and what follows */
    uint64_t n_generated, kv_bytes;
    bool stored;
} bora_test_answer;

/* Frees what was collected; all zero again. */
void bora_test_answer_release(bora_test_answer *answer);
/* A bora_client_handler; context is the answer. */
int bora_test_answer_handle(void *answer, const bora_client_event *event);
/* Generates and waits; answer->status is returned. */
bora_client_status bora_test_answer_get(bora_client *client, const bora_client_generation *generation,
                                        bora_test_answer *answer);
/* Generates; the events come from bora_test_dispatch. */
bora_client_status bora_test_answer_submit(bora_client *client, const bora_client_generation *generation,
                                           bora_test_answer *answer);
/* Lets all clients (NULL entries are passed over) handle what arrives, once; waits until there is something. False if
 * nothing came for 60 s. */
bool bora_test_dispatch(bora_client *const *clients, size_t n);

/* A connection to a socket; NULL, with a word on stderr, if there is none to be had. */
bora_client *bora_test_connect(const char *socket);

/* The tokens of a session, free(); *ret_n_messages may be NULL. NULL and 0 of both if there is no such session. */
int32_t *bora_test_session_tokens(bora_client *client, const char *session, size_t *ret_n, size_t *ret_n_messages);
/* A number in the result of a verb without arguments, e.g. "status", "kv_bytes"; UINT64_MAX if it is not there. */
uint64_t bora_test_number(bora_client *client, const char *verb, const char *key);
/* True if a text value is the string. */
bool bora_test_text_is(const bora_client_value *value, const char *string);

#endif
