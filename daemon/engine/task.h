/* A task: one answer in execution. Turns sampled tokens into events and decides when the answer ends. Most generations
 * are one task; one that wants several answers is as many, from the end of its prompt on. Engine thread. */
#ifndef BORA_ENGINE_TASK_H
#define BORA_ENGINE_TASK_H

#include "engine/scheduler.h"

typedef struct bora_task {
    struct bora_task *next;
    bora_generation *generation; /* shared by the tasks of its choices, freed with the last */
    uint32_t choice;             /* which answer, from 0 */
    bora_event *ended;           /* CHOICE, ready to be filled in; NULL with one answer */
    bora_sampling sampling;      /* biases are the generation's */
    bora_sequence *sequence;     /* owned while the task lives */
    bora_mailbox *events;        /* borrowed */
    bora_decoder decoder;
    bora_matcher *matcher; /* of its grammar; NULL: any text */
    bora_tokens tokens;    /* prompt history and what was generated */
    size_t n_start;        /* tokens that were in the cache when it began */
    size_t n_reused;       /* of these, tokens that came from another sequence */
    size_t n_prompt_end;   /* tokens of history and prompt */
    bora_text answer;
    size_t n_sent; /* bytes of the answer that went out */
    bool replaced_pages;
    uint64_t submitted_ns, started_ns, prefilled_ns;
    uint64_t max_positions;
    uint32_t n_classes;
    uint64_t last_turn; /* when it last had rows: see plan.h */
    uint64_t promise;   /* bytes that it may come to need */
} bora_task;

uint64_t bora_task_now_ns(void);

/* Takes the generation: opens, restores or takes over its sequence and announces it (STARTED). forked: the beginning of
 * another sequence, for a generation that brings none; NULL: none. On an error nothing is taken. */
bora_status bora_task_new(bora_generation *generation, bora_pipeline *pipeline, bora_sequence *forked,
                          bora_mailbox *events, const bora_log *log, bora_task **ret_task, bora_error *err);
/* Another answer to the prompt that was just read, with the seed after the choice's number. */
bora_status bora_task_fork(const bora_task *task, uint32_t choice, bora_task **ret_task, bora_error *err);
/* Tokens that are in the history and not in the cache: 1 when decoding. */
size_t bora_task_n_left(const bora_task *task);
bool bora_task_is_decoding(const bora_task *task);
/* A chunk of the prompt was run. */
bora_status bora_task_progress(bora_task *task, bora_error *err);
/* logits [vocab_size] after the last token: chooses the next one. *ret_reason: 0 to go on, or BORA_REASON_*. */
bora_status bora_task_take(bora_task *task, bora_sampler *sampler, const float *logits, int *ret_reason,
                           bora_error *err);
/* Frees the task and returns the event that ends its answer, DONE or CHOICE, to be sent; *ret_last: DONE, after the
 * last of several answers, else NULL. The sequence goes onto the shelf (room was reserved): handed out if it is to be
 * kept, else as a left-over if it is long enough to be of use; or it is closed. status, error: for REASON_ERROR. */
bora_event *bora_task_finish(bora_task *task, bora_shelf *shelf, int reason, bora_status status,
                             const bora_error *error, bora_event **ret_last);

#endif
