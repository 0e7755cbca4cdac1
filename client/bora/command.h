/* What the commands share: the list of them, their exit codes, and the way to the daemon. */
#ifndef BORA_BORA_COMMAND_H
#define BORA_BORA_COMMAND_H

#include <bora/client.h>

#include "options.h"
#include "print.h"

/* In the man page; stable. */
enum {
    BORA_EXIT_OK = 0,
    BORA_EXIT_FAILED = 1,        /* the daemon refused, or something failed here */
    BORA_EXIT_USAGE = 2,         /* the command line is wrong; nothing was sent */
    BORA_EXIT_NO_DAEMON = 3,     /* nobody listens, or not a daemon that can be talked to */
    BORA_EXIT_LOST = 4,          /* the daemon went away while it answered, or ended: the answer is not whole */
    BORA_EXIT_INTERRUPTED = 130, /* Ctrl-C */
    BORA_EXIT_PIPE = 141         /* nobody reads the output any more */
};

/* One run of the program. */
typedef struct bora_cli {
    bora_print print;
    bora_options options;
    const struct bora_command *command;
    bora_client *client; /* NULL until bora_cli_connect */
} bora_cli;

typedef struct bora_command {
    const char *name;
    const char *words;                                    /* what follows the options, for --help */
    const char *summary;                                  /* one line */
    const char *details;                                  /* for --help; "" or whole lines */
    uint32_t groups;                                      /* of options */
    int (*run)(bora_cli *cli, int n_words, char **words); /* returns an exit code */
} bora_command;

extern const bora_command bora_command_ask, bora_command_chat, bora_command_complete, bora_command_detokenize,
    bora_command_metrics, bora_command_model, bora_command_plugin, bora_command_plugins, bora_command_session,
    bora_command_sessions, bora_command_status, bora_command_tokenize, bora_command_top;

/* Connects to the daemon. Otherwise complains and returns an exit code. */
int bora_cli_connect(bora_cli *cli);
/* Complains about a failed call and returns the exit code for it. */
int bora_cli_failed(const bora_client_error *error);
/* Says what is wrong with the command line and where to read more. Returns BORA_EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int bora_cli_usage(const bora_cli *cli, const char *format, ...);
int bora_cli_no_memory(void);
/* Flushes stdout; whatever failed on it since the start becomes an exit code. Returns code if nothing did. */
int bora_cli_flush(int code);

/* A listing: its result as JSON if --json is given, else as print shows it (false: no memory). Takes the result. */
int bora_cli_show(bora_cli *cli, bora_client_result **result,
                  bool (*print)(const bora_cli *cli, const bora_client_value *value));

/* A whole command that takes no words: asks the daemon with ask and shows the answer. Returns an exit code. */
typedef bora_client_status (*bora_cli_ask_fn)(bora_client *client, bora_client_result **ret_result,
                                              bora_client_error *err);
int bora_cli_list(bora_cli *cli, int n_words, char **words, bora_cli_ask_fn ask,
                  bool (*print)(const bora_cli *cli, const bora_client_value *value));

/* The words joined by blanks; then, if standard input is a file or pipe: in place of no words, or else, with append,
 * after a blank line. text is yours to release. Otherwise complains and returns an exit code. */
int bora_cli_gather_text(const bora_cli *cli, int n_words, char **words, bool append, bora_text *text);

/* The list of sessions as a table. */
bool bora_sessions_print(const bora_cli *cli, const bora_client_value *value);
/* Status: whether a key of its map memory is an account, not a total; and its plugins as words. */
bool bora_status_is_account(const bora_client_value *key);
void bora_status_append_plugins(bora_text *text, const bora_client_value *plugins);
/* One session with its messages. */
bool bora_session_print(const bora_cli *cli, const bora_client_value *value);

#endif
