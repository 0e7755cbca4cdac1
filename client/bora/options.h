/* The command line's options. One table says which there are, what they take and how --help explains them. */
#ifndef BORA_BORA_OPTIONS_H
#define BORA_BORA_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <bora/client.h>

/* Groups of options; a command takes some of them. */
enum {
    BORA_OPTIONS_COMMON = 1 << 0, /* --socket, --help: every command */
    BORA_OPTIONS_JSON = 1 << 1,
    BORA_OPTIONS_SESSION = 1 << 2,  /* -s, --system */
    BORA_OPTIONS_SAMPLING = 1 << 3, /* also the slash commands of a chat */
    BORA_OPTIONS_RAW = 1 << 4,      /* --tokens, --no-bos */
    BORA_OPTIONS_ANSWER = 1 << 5,   /* --verbose */
    BORA_OPTIONS_ECHO = 1 << 6,
    BORA_OPTIONS_BOS = 1 << 7,
    BORA_OPTIONS_IDS = 1 << 8,
    BORA_OPTIONS_TERMS = 1 << 9,    /* --background, --timeout */
    BORA_OPTIONS_CHOICES = 1 << 10, /* --choices */
    BORA_OPTIONS_ONCE = 1 << 11,
    BORA_OPTIONS_LOAD = 1 << 12 /* --timeout of model load */
};

/* Caller-owned; all zero is a good start. Strings from the command line are borrowed; what generation points to is
 * owned here. */
typedef struct bora_options {
    const char *socket;
    const char *session;
    const char *system;
    bool help, json, verbose, echo, bos, ids, once;
    bool has_drain_ms;
    uint32_t drain_ms;                 /* --timeout of model load */
    bora_client_generation generation; /* sampling, stops, biases, tokens, terms */
} bora_options;

void bora_options_release(bora_options *options);

/* Reads the options of the groups from arguments (arguments[0] is passed over), which may be mixed with words. The
 * words are moved to the end; *ret_first is the first of them. false: *ret_why says what is wrong. */
bool bora_options_parse(bora_options *options, uint32_t groups, int n_arguments, char **arguments, int *ret_first,
                        char (*ret_why)[256]);
/* Only those that stand before the first word. */
bool bora_options_parse_leading(bora_options *options, uint32_t groups, int n_arguments, char **arguments,
                                int *ret_first, char (*ret_why)[256]);

/* One sampling option by its long name, "temp" for example. */
bool bora_options_set(bora_options *options, const char *name, const char *value, char (*ret_why)[256]);

/* Token ids separated by commas or white space, appended to generation.tokens. */
bool bora_options_add_tokens(bora_options *options, const char *text, char (*ret_why)[256]);

/* The groups' options, a line each. */
void bora_options_help(FILE *file, uint32_t groups);
/* The sampling options that are set, a line each; nothing if none is. */
void bora_options_show_sampling(const bora_options *options, FILE *file);

#endif
