/* What a load run is to do, from the command line. */
#ifndef BORA_LOAD_OPTIONS_H
#define BORA_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BORA_LOAD_OWNERS_MAX   16u
#define BORA_LOAD_CLIENTS_MAX  1000u
#define BORA_LOAD_LENGTHS_MAX  8u
#define BORA_LOAD_WORDS_MAX    20000u /* of a prompt */
#define BORA_LOAD_TOKENS_MAX   4096u  /* of an answer */
#define BORA_LOAD_SECONDS_MAX  86400u
#define BORA_LOAD_REQUESTS_MAX 1000000u
#define BORA_LOAD_MS_MAX       3600000u

/* What happens to a request besides being answered. */
enum {
    BORA_LOAD_CHURN_CONNECT, /* a new connection before it */
    BORA_LOAD_CHURN_CANCEL,  /* cancelled under way */
    BORA_LOAD_CHURN_VANISH,  /* the connection ends under way */
    BORA_LOAD_CHURN_SLOW,    /* the client stops reading for a while */
    BORA_LOAD_CHURN_NONE
};

/* What is expected wrongly, once per owner, to see that it would be noticed. */
enum { BORA_LOAD_FALSIFY_NOTHING, BORA_LOAD_FALSIFY_SOLO, BORA_LOAD_FALSIFY_CANARY };

typedef struct bora_load_options {
    const char *socket; /* NULL: libbora's default; borrowed from the command line */
    uint32_t n_owners, n_clients;
    uint32_t n_clients_of[BORA_LOAD_OWNERS_MAX];
    uint32_t uid_first;            /* owner i runs as uid_first + i; only as root and with several */
    uint32_t seconds;              /* no request begins later */
    uint32_t n_requests;           /* per client; 0: until the time is over */
    uint32_t think_min, think_max; /* ms between an answer and the next request */
    uint32_t n_lengths;
    struct {
        uint32_t n_words, weight;
    } lengths[BORA_LOAD_LENGTHS_MAX];
    uint32_t max_tokens_min, max_tokens_max;
    double sessions;                    /* share of requests in named sessions */
    double churn[BORA_LOAD_CHURN_NONE]; /* shares of requests */
    double background;                  /* share of requests of that priority */
    uint32_t timeout_ms;                /* sent along; 0: not */
    uint64_t seed;
    bool check_solo, canary, json, help;
    const char *json_path; /* NULL: JSON, if it is wanted, goes to stdout instead of the report; borrowed */
    int falsify;
} bora_load_options;

extern const char bora_load_usage[];

/* False if the command line is wrong: ret_why says how. */
bool bora_load_options_parse(int argc, char **argv, bora_load_options *ret_options, char ret_why[200]);

#endif
