/* The engine thread: runs generations of many sequences together, one batch step at a time.
 *
 * The pipeline may have to be built first: that is done on a thread of its own, so that the engine goes on taking jobs,
 * which wait, and cancels.
 *
 *   submit ──▶ waiting ──memory is promised──▶ (pages are fetched) ──▶ running: a task ──▶ DONE
 *
 * Jobs come in through a mailbox; events go out through another. Generations wait until the memory ledger has room for
 * all they may come to need (admission.c); owners take turns. Then they are tasks, and every step gives rows to those
 * whose turn it is (plan.h) within a budget that keeps steps short while somebody decodes (pace.h). Sequences that
 * nobody runs lie on the shelf (shelf.h) and serve as beginnings of new ones. Nothing here knows sockets or disks. */
#ifndef BORA_ENGINE_SCHEDULER_H
#define BORA_ENGINE_SCHEDULER_H

#include "base/mailbox.h"
#include "engine/loader.h"
#include "engine/pipeline.h"
#include "engine/sampler.h"
#include "engine/shelf.h"
#include "grammar/grammar.h"

typedef struct bora_scheduler bora_scheduler;

typedef struct bora_scheduler_options {
    uint32_t chunk;        /* the most prompt tokens of one sequence in a step; at most the pipeline's slack */
    uint32_t batch_tokens; /* the most rows of a step; at most the pipeline's max_tokens */
    uint32_t max_running;  /* sequences in a step; where more run, they take turns */
    uint32_t max_step_ms;  /* that a step may take while somebody decodes; 0: a step without prompts, 1.8 times */
    uint32_t slow_step_ms; /* a step that takes longer is logged, with where its time went; 0: none */
    uint32_t n_left_max;   /* sequences of finished requests outside sessions, kept as beginnings of later ones */
    bora_loader *loader;   /* builds the pipeline, which is only open; borrowed. NULL: it is built */
} bora_scheduler_options;

#define BORA_STOP_TEXT_MAX 256 /* bytes of a stop text */

/* ---- jobs (to the engine) ---------------------------------------------------------------------------- */

/* One generation. The caller fills it and gives it away. */
typedef struct bora_generation {
    bora_mail mail;
    int command;                 /* the scheduler's own */
    struct bora_event *done;     /* the scheduler's own: made by submit, so that the last event can always be sent */
    uint64_t id;                 /* of the caller's choosing, unique among those open; not 0 */
    char owner[BORA_OWNER_SIZE]; /* who takes turns with others; "" is one too */
    bool is_background;          /* gets what the others leave */
    uint64_t deadline_ns;        /* bora_task_now_ns's clock; when it has passed, REASON_DEADLINE. 0: none */
    uint32_t n_choices;          /* answers from one prompt, each with the next seed; 0 is 1. More: without keep */

    bora_sequence *sequence; /* to go on with; NULL: a new one. Owned by the engine while it runs. */
    bool keep;          /* hand the sequence back with the done event (else the engine may leave it on the shelf) */
    bool export_pages;  /* hand out new pages with the done event */
    uint64_t n_stored;  /* tokens whose pages the caller has: they are asked for (WANT_PAGES) once there is room */
    bora_page *restore; /* [n_restore] for a new sequence: it starts at restore_n_cached; owned */
    size_t n_restore;
    uint64_t restore_n_cached;
    bool restore_failed; /* the caller could not give what it was asked for: all is run again */

    int32_t *tokens; /* [n_tokens] the whole history including the new prompt; owned. Those from n_cached on are run. */
    size_t n_tokens; /* > n_cached */
    uint32_t max_generated; /* at most so many new tokens; 0: only run the prompt */
    bora_sampling sampling; /* biases owned by the generation (bora_free) */
    char *stops[16];        /* [n_stops] texts to end before; owned */
    uint32_t n_stops;
    bora_matcher *matcher;   /* at the answer's beginning; owned. NULL: any text. With one ignore_eos does not count */
    uint32_t n_top_logprobs; /* likeliest tokens told with each token; at most BORA_TOP_LOGPROBS_MAX */
    bool ignore_eos;
    bool continues_text; /* the answer goes on after text (raw completion): a leading space is kept */

    /* The scheduler's own: */
    uint64_t promise;    /* bytes set aside for it */
    uint32_t n_tasks;    /* of its choices, those that run */
    uint32_t told_place; /* the position that its last QUEUED said */
    uint64_t told_ns;
    struct bora_generation *next_in_line; /* of its owner, in the queue's order */
    uint64_t arrival;
    uint64_t store_size; /* bytes of restore, taken from the ledger's store account by the caller */
    bora_ledger *ledger; /* that they go back to */
} bora_generation;

void bora_generation_free(bora_generation *generation); /* with all it owns except sequence; NULL is a no-op */

/* ---- events (from the engine) -------------------------------------------------------------------------- */

#define BORA_EVENT_STARTED    1 /* n_cached, n_prompt are known; after a failed restore restore_failed says why */
#define BORA_EVENT_PROGRESS   2 /* n_done of n_prompt */
#define BORA_EVENT_TOKEN      3
#define BORA_EVENT_DONE       4  /* the last of a generation */
#define BORA_EVENT_LOADED     5  /* of no generation (id 0): the loader has ended; status and error say how */
#define BORA_EVENT_QUEUED     6  /* it waits: place, n_waiting */
#define BORA_EVENT_WANT_PAGES 7  /* there is room: bora_scheduler_give_pages is to be called */
#define BORA_EVENT_PRESSURE   8  /* id 0: n_bytes are missing; bora_scheduler_relieved is to be called */
#define BORA_EVENT_CHOICE     9  /* one of several answers has ended: as DONE, which follows the last of them */
#define BORA_EVENT_SWAPPED    10 /* of bora_scheduler_swap: status, error */

#define BORA_CHOICES_MAX      16u

#define BORA_REASON_STOP      1 /* end-of-text token */
#define BORA_REASON_STOP_TEXT 2
#define BORA_REASON_LENGTH    3
#define BORA_REASON_CONTEXT   4
#define BORA_REASON_CANCELLED 5
#define BORA_REASON_SHUTDOWN  6
#define BORA_REASON_ERROR     7 /* status and error say what */
#define BORA_REASON_DEADLINE  8
#define BORA_REASON_COUNT     9

const char *bora_reason_name(int reason); /* as in PROTOCOL.md; "error" */

typedef struct bora_event {
    bora_mail mail;
    int type;
    uint64_t id; /* of the generation */

    uint64_t n_cached;   /* STARTED: tokens that were not run again; DONE: tokens in the cache now */
    uint64_t n_prompt;   /* STARTED, PROGRESS, DONE: tokens to run */
    uint64_t n_reused;   /* STARTED, DONE: tokens taken over from another sequence of the owner */
    uint64_t n_done;     /* PROGRESS */
    bool restore_failed; /* STARTED: the pages could not be used; error says why; all tokens are run again */

    uint32_t place, n_waiting;  /* QUEUED: from 1; how many wait, all owners */
    uint64_t n_bytes;           /* PRESSURE */
    struct bora_command *reply; /* WANT_PAGES: for bora_scheduler_give_pages; the receiver's */

    uint32_t choice; /* TOKEN, CHOICE: which answer, from 0 */
    uint32_t index;  /* TOKEN: from 0 */
    int32_t token;
    float logprob;
    bora_token_logprob top[BORA_TOP_LOGPROBS_MAX]; /* TOKEN: [n_top], best first */
    uint32_t n_top;
    char *text; /* TOKEN, DONE: what can be shown now; zero-terminated, owned; never NULL for TOKEN and DONE */
    size_t text_size;

    int reason;         /* DONE */
    bora_status status; /* DONE: for REASON_ERROR; LOADED */
    bora_error error;
    int32_t *generated; /* DONE: [n_generated] all new tokens, the end-of-text token included; owned */
    size_t n_generated;
    char *answer; /* DONE: the whole text of the answer, stop text removed; owned */
    size_t answer_size;
    bora_sequence *sequence; /* DONE, if keep and it can go on; NULL otherwise */
    bora_page *pages;        /* DONE, if export_pages; owned */
    size_t n_pages;
    uint64_t keep_from[BORA_CLASSES_MAX];
    uint32_t n_classes;
    bool replaced_pages; /* DONE: the pages are the whole cache, not an addition (run again after a failed restore) */
    uint64_t queue_ns, prefill_ns, decode_ns; /* DONE */
    uint64_t kv_bytes;                        /* TOKEN, DONE: of the sequence */
    bora_ledger *ledger;                      /* of pages: store_size bytes go back to it with the event */
    uint64_t store_size;
} bora_event;

/* With all it owns except sequence. NULL is a no-op. */
void bora_event_free(bora_event *event);

/* ---- the engine ---------------------------------------------------------------------------------------- */

/* Starts the thread. pipeline is owned by it until bora_scheduler_free; events go to the mailbox events (borrowed).
 * With a loader: generations wait until LOADED. If it failed, those that wait end with REASON_ERROR before that event,
 * and so do all that come later. */
bora_status bora_scheduler_new(bora_pipeline *pipeline, const bora_scheduler_options *options, bora_mailbox *events,
                               const bora_log *log, bora_scheduler **ret_scheduler, bora_error *err);
/* Any thread. The answer comes as events, always closed by DONE. Errors: NOMEM: nothing was taken, no event comes. */
bora_status bora_scheduler_submit(bora_scheduler *scheduler, bora_generation *generation, bora_error *err);
/* Any thread. The generation, if it is still open, ends with REASON_CANCELLED within one layer's work; what others have
 * in the same step goes on. (With several stages the step is given up and taken again for the others, at most every
 * other one.) NOMEM: it goes on. */
bora_status bora_scheduler_cancel(bora_scheduler *scheduler, uint64_t id, bora_error *err);
/* Any thread. Closes a sequence that no generation uses. NOMEM: it stays open until free. */
bora_status bora_scheduler_close_sequence(bora_scheduler *scheduler, bora_sequence *sequence, bora_error *err);
/* Any thread. The answer to WANT_PAGES, whose reply is used up: pages [n] that restore n_stored tokens, owned by the
 * engine from now on, with store_size bytes taken from the ledger's store account for them. pages NULL: they cannot be
 * had, all tokens are run again. Cannot fail. */
void bora_scheduler_give_pages(bora_scheduler *scheduler, struct bora_command *reply, bora_page *pages, size_t n,
                               uint64_t store_size);
/* Frees a reply that is not given any more: the generation has ended meanwhile. NULL is a no-op. */
void bora_scheduler_reply_free(struct bora_command *reply);
/* Any thread. The answer to PRESSURE, once: what could be closed was (bora_scheduler_close_sequence). If that was
 * nothing, what waits goes on waiting for others to end; with none that could, it ends with BUSY. */
void bora_scheduler_relieved(bora_scheduler *scheduler);
/* Any thread. Exchanges a plugin between two steps (bora_pipeline_swap); the answer is the event SWAPPED with this id.
 * name, options: copied. Errors: NOMEM. */
bora_status bora_scheduler_swap(bora_scheduler *scheduler, uint64_t id, uint32_t kind, const char *name,
                                const bora_plugin_options *options, bora_error *err);
/* Any thread. Every open generation ends with REASON_SHUTDOWN, at its last token; later ones too. */
void bora_scheduler_stop(bora_scheduler *scheduler);
/* After stop: joins the thread. Sequences that were handed out and not closed are closed. NULL is a no-op. */
void bora_scheduler_free(bora_scheduler *scheduler);

typedef struct bora_scheduler_stats {
    bool is_loading;              /* never again true once it was false */
    uint64_t n_loaded, n_to_load; /* bytes, while it is loading: bora_loader_progress */
    uint32_t n_running, n_waiting;
    uint64_t n_steps, n_prompt_tokens, n_generated_tokens; /* since start */
    uint64_t n_reused_tokens, n_cancelled, n_slow_steps, n_swaps, n_pressures;
    uint64_t step_ns, step_rows;        /* of the last step */
    uint64_t busy_ns;                   /* in steps, since start */
    uint64_t kv_bytes;                  /* of all sequences, after the last step */
    uint64_t shelf_bytes;               /* of these, sequences that no session or generation has */
    uint64_t promised_bytes;            /* set aside for those that run, not used yet */
    uint32_t n_on_shelf, n_left_over;   /* sequences at rest; of these, of no session */
    double prompt_rate, generated_rate; /* tokens per second over the last seconds: bora_rate_get */
} bora_scheduler_stats;
/* Another scheduler's numbers since start are counted on. Any thread. */
void bora_scheduler_stats_go_on(bora_scheduler *scheduler, const bora_scheduler_stats *before);
/* Any thread; never waits for a step. */
void bora_scheduler_stats_get(bora_scheduler *scheduler, bora_scheduler_stats *ret_stats);

#endif
