/* One generation, shown as it comes. */
#ifndef BORA_BORA_ANSWER_H
#define BORA_BORA_ANSWER_H

#include "command.h"

enum bora_answer_style {
    BORA_ANSWER_MESSAGE, /* an answer to a person: ends with a newline */
    BORA_ANSWER_RAW,     /* a completion: only to a terminal with a newline */
    BORA_ANSWER_JSON     /* every event an object on a line of its own */
};

/* What became of it. */
typedef struct bora_answer {
    bool was_accepted;
    bool was_cut;         /* interrupted, or the daemon or its time ended: shown with a mark */
    bool was_interrupted; /* Ctrl-C came, in time or not */
    uint64_t n_history;   /* tokens that the session had */
    uint64_t n_kept;      /* of these, in the cache */
    uint64_t n_rerun;     /* of these, run before and once more now */
    uint64_t n_reused;    /* tokens taken over from another answer that began alike */
    uint64_t n_prompt;    /* tokens run before the answer */
    uint64_t n_generated;
    uint64_t seed;
} bora_answer;

/* Generates with the options' sampling and what generation says beside it (text, prompt, session and so on), and
 * prints. With tells_history it is said how much of a session's history did not have to be run again. Ctrl-C cancels.
 * Returns an exit code; everything there is to complain about has been said. */
int bora_answer_run(bora_cli *cli, const bora_client_generation *generation, enum bora_answer_style style,
                    bool tells_history, bora_answer *ret_answer);

#endif
