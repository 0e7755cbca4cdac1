/* What the files of the scheduler share. Everything belongs to the engine thread unless it says otherwise. */
#ifndef BORA_ENGINE_SCHEDULER_PRIVATE_H
#define BORA_ENGINE_SCHEDULER_PRIVATE_H

#include "engine/pace.h"
#include "engine/plan.h"
#include "engine/rate.h"
#include "engine/scheduler.h"
#include "engine/task.h"

#include <pthread.h>

#define BORA_COMMAND_GENERATE 1
#define BORA_COMMAND_CANCEL   2
#define BORA_COMMAND_CLOSE    3
#define BORA_COMMAND_STOP     4
#define BORA_COMMAND_QUIT     5
#define BORA_COMMAND_LOADED   6 /* from the loading thread */
#define BORA_COMMAND_PAGES    7
#define BORA_COMMAND_RELIEVED 8
#define BORA_COMMAND_SWAP     9
#define BORA_COMMAND_FREED    10 /* from whoever gives memory back */

/* The head that every command shares with bora_generation. */
typedef struct bora_command {
    bora_mail mail;
    int command;
    struct bora_event *done; /* SWAP: its answer */
    uint64_t id;
    bora_sequence *sequence; /* CLOSE */
    bora_page *pages;        /* PAGES: [n_pages] */
    size_t n_pages;
    uint64_t store_size;
    uint32_t kind; /* SWAP: and what follows */
    char *name;
    bora_plugin_option *items; /* with copies of their texts */
    size_t n_items;
} bora_command;

/* Generations of one owner that wait, in the order of their arrival. Made anew when somebody asks for the order. */
typedef struct bora_line {
    bora_generation *first, *last;
} bora_line;

#define BORA_QUEUE_LINES 2u /* the others, the background */

/* An owner who has generations here. */
typedef struct bora_engine_owner {
    char name[BORA_OWNER_SIZE];
    uint32_t n_tasks; /* running or about to */
    uint32_t n_waiting;
    uint64_t last_begun;     /* number of the generation that began last; 0: none yet */
    bora_plan_served served; /* those who come start where the ones served least stand */
    bora_line lines[BORA_QUEUE_LINES];
    uint32_t next_tasks; /* n_tasks and last_begun as they will be when those before in the queue have begun */
    uint64_t next_begun;
} bora_engine_owner;

struct bora_scheduler {
    bora_pipeline *pipeline;
    bora_scheduler_options options;
    bora_mailbox *inbox, *events;
    const bora_log *log;
    bora_ledger *ledger; /* may be NULL */
    pthread_t thread;
    bool started;
    atomic_bool give_up; /* raised by stop, and with several stages by cancel; lowered when the mail was read */
    atomic_bool stopped; /* stop was sent: once is enough */
    bora_command stop, quit, relieved, freed; /* need no memory when they are sent */

    /* While the pipeline is built: */
    pthread_t loading_thread;
    bool loading_started;
    bora_command loaded; /* sent when it has ended: load_status and load_error are the engine's then */
    bora_status load_status;
    bora_error load_error;
    bora_event *loaded_event; /* until it is sent */

    /* The engine thread's own: */
    bora_sampler *sampler;
    float *logits;          /* [max_running, vocab_size] */
    int32_t *rows;          /* [batch_tokens] tokens of the step */
    bora_batch_part *parts; /* [max_running] */
    bora_task **in_step;    /* [max_running]; NULL: it has ended meanwhile */
    uint32_t n_in_step;     /* 0 between steps */
    bool has_dropped;       /* parts left the step: its time says nothing */
    bora_task *running;     /* in order of arrival */
    uint32_t n_running;
    bora_plan_item *items; /* [items_capacity] of the plan */
    size_t items_capacity;
    bora_plan_served *served;  /* [owners_capacity] likewise */
    bora_engine_owner *owners; /* [n_owners] */
    size_t n_owners, owners_capacity;
    bora_pace pace;
    uint64_t step_number, n_begun;
    bora_mail *waiting;                    /* generations that wait for a place, in order of arrival */
    bool has_untold;                       /* somebody who waits was never told its place */
    uint64_t told_ns;                      /* when places were told last */
    bora_mail *restoring;                  /* generations whose pages are being fetched: room is promised */
    bora_mail *postponed, **postponed_end; /* commands that came during a step */
    bora_shelf shelf;
    bool has_pressure;     /* PRESSURE was sent and not answered yet */
    bool is_pressure_vain; /* it was answered and nothing closed: not asked again until some sequence comes or goes */
    bool has_closed;       /* a sequence, since PRESSURE was sent */
    bool is_watching;      /* freed comes with the next byte that goes back to the ledger */
    bool was_given_up;     /* the last step was: this one is not */
    bool stopping, quitting;
    bool is_loading;
    bora_scheduler_stats counts; /* those that only grow, up to now */

    pthread_mutex_t stats_lock;
    bora_scheduler_stats stats;  /* protected by stats_lock */
    bora_scheduler_stats before; /* protected by stats_lock: what others counted, of what only grows */
    bora_rate rate;              /* protected by stats_lock */
};

/* ---- scheduler.c ---- */

/* Publishes what changed. Before a generation's last event goes out, so that whoever has it finds it counted. */
void bora_scheduler_update_stats(bora_scheduler *scheduler);
/* Ends a task; it leaves the list of those that run, and the step. */
void bora_scheduler_finish(bora_scheduler *scheduler, bora_task *task, int reason, bora_status status,
                           const bora_error *error);
/* Ends a generation that never became a task. A sequence that it brought stays on the shelf. */
void bora_scheduler_refuse(bora_scheduler *scheduler, bora_generation *generation, int reason, bora_status status,
                           const bora_error *error);
/* Reads the mail during a step: cancels and stop take effect, the rest is postponed. */
void bora_scheduler_between(void *arg);

/* ---- queue.c ---- */

/* The owner's entry, made if need be; SIZE_MAX without memory. */
size_t bora_queue_owner(bora_scheduler *scheduler, const char *name);
/* Owners without generations are forgotten. */
void bora_queue_forget_owners(bora_scheduler *scheduler);
/* It waits, as the last of its owner. */
void bora_queue_add(bora_scheduler *scheduler, bora_generation *generation, size_t owner);
/* Takes the one with that id out of a list of generations; NULL: it is not there. */
bora_generation *bora_queue_take(bora_mail **list, uint64_t id);
/* Takes a generation that waits (or whose pages are being fetched) out of its list; NULL: it is in none. */
bora_generation *bora_queue_withdraw(bora_scheduler *scheduler, uint64_t id);
/* Whose turn it is; it stays. NULL: nobody waits. */
bora_generation *bora_queue_next(bora_scheduler *scheduler);
/* Tells those that wait where they stand: when they begin to, and when it has changed, at most once a second. */
void bora_queue_tell(bora_scheduler *scheduler);

/* ---- admission.c ---- */

/* Takes a generation in: it waits, or is refused at once if it can never run. */
void bora_scheduler_enqueue(bora_scheduler *scheduler, bora_generation *generation);
/* Starts what can be started. */
void bora_scheduler_admit(bora_scheduler *scheduler);
/* PAGES has come. Takes what the command holds. */
void bora_scheduler_restore(bora_scheduler *scheduler, bora_command *order);
/* Ends what is past its deadline; returns ms until the next deadline, -1: there is none. */
int bora_scheduler_expire(bora_scheduler *scheduler);
/* The promised bytes that a task has not used yet. */
uint64_t bora_task_unused(const bora_task *task);
/* The same of all that run or whose pages are being fetched. */
uint64_t bora_scheduler_promised(const bora_scheduler *scheduler);

/* ---- step.c ---- */

void bora_scheduler_step(bora_scheduler *scheduler);

#endif
