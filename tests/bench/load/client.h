/* One client: a connection, the request that is open on it, and the conversation it holds. One thread. */
#ifndef BORA_LOAD_CLIENT_H
#define BORA_LOAD_CLIENT_H

#include "owner.h"

#define BORA_LOAD_PATIENCE 120.0 /* seconds without any event: then a request is lost */

/* How a request ended. */
typedef enum bora_load_end {
    BORA_LOAD_END_OPEN,
    BORA_LOAD_END_DONE,
    BORA_LOAD_END_CANCELLED, /* as asked for */
    BORA_LOAD_END_VANISHED,  /* we did */
    BORA_LOAD_END_LATE,      /* its deadline passed: done says so, or it is cancelled before its first token */
    BORA_LOAD_END_UNREAD,    /* the daemon gave up on a slow client */
    BORA_LOAD_END_FAILED     /* not asked for, and told */
} bora_load_end;

typedef struct bora_load_client {
    bora_load_owner *owner;
    bora_load_stats *stats;
    uint32_t index, request;                   /* over all owners; from 0 */
    bora_client *connection;                   /* NULL: closed */
    char session[BORA_LOAD_SECRET_GROUP + 40]; /* "": none is open */
    uint32_t script, turn;                     /* of the session: the next to say */
    bool session_is_broken;                    /* its last turn was cut off: it is no use for comparisons */

    bora_load_answer answer; /* of the request that is open, and the rest of it */
    uint64_t id;
    bora_load_end end;
    int churn;
    uint32_t n_before;
    bool is_background, was_cancelled;
    bool is_alone, is_first_of_owner;         /* before the load */
    double submitted, last_token, last_event; /* seconds */
    char code[32];                            /* of the error that ended it */
} bora_load_client;

/* What a generation is to say. */
typedef struct bora_load_saying {
    const char *text;
    bool is_raw;
    const char *session; /* or NULL */
    uint32_t max_tokens;
} bora_load_saying;

/* (Re)connects if there is no connection; false if that failed, which is counted and told. */
bool bora_load_client_connect(bora_load_client *client);
void bora_load_client_disconnect(bora_load_client *client);
/* One generation from start to end, with the churn that client->churn says; how it ended. The answer is in
 * client->answer, searched for others' secrets and counted, but not compared. */
bora_load_end bora_load_client_say(bora_load_client *client, const bora_load_saying *saying);
/* Counts and tells of an answer that is not what it was alone. */
void bora_load_client_compare(bora_load_client *client, const bora_load_answer *alone, uint32_t max_tokens);
/* Calls a verb and searches what it answers; the result (free it) or NULL after an error, whose code is in
 * client->code and which is not counted. */
bora_client_result *bora_load_client_ask(bora_load_client *client, const char *verb, const char *session);
/* An error that was not asked for: counts it and tells it. */
void bora_load_client_fail(bora_load_client *client, const char *what, const char *code, const char *message);
/* A reply that holds another's secret is a leak. */
void bora_load_client_search(bora_load_client *client, const char *what, uint32_t found);

/* The load of one client: void * is the client. A thread's function. */
void *bora_load_client_run(void *client);

/* slow.c: the generation on a connection of its own, whose reader takes a pause of pause_ms. Raw, with a text that goes
 * on past its end. */
bora_load_end bora_load_client_say_slowly(bora_load_client *client, const char *text, uint32_t pause_ms);
/* Tokens that a slow client asks for. */
#define BORA_LOAD_SLOW_TOKENS 1500u

#endif
