/* Who waits to begin, and in which order they come.
 *
 * The owner with the fewest running comes next, of several the one whose turn is longest ago, and within an owner the
 * order of arrival holds. What runs in the background comes after the others, but once in BORA_PLAN_BACKGROUND_EVERY
 * beginnings before them, as with the rows of a step. */
#include "engine/scheduler_private.h"

#include "base/memory.h"

#include <string.h>

#define TELL_NS UINT64_C(1000000000) /* between two words about its place to one that waits */

/* ---- owners ------------------------------------------------------------------------------------------------ */

static bora_plan_served least_served(const bora_scheduler *scheduler)
{
    bora_plan_served least = {{0}};
    bool is_first = true;
    for (size_t i = 0; i < scheduler->n_owners; i++) {
        if (!scheduler->owners[i].n_tasks)
            continue;
        for (uint32_t kind = 0; kind < BORA_PLAN_KINDS; kind++) {
            uint64_t rows = scheduler->owners[i].served.rows[kind];
            least.rows[kind] = is_first || rows < least.rows[kind] ? rows : least.rows[kind];
        }
        is_first = false;
    }
    return least;
}

size_t bora_queue_owner(bora_scheduler *scheduler, const char *name)
{
    for (size_t i = 0; i < scheduler->n_owners; i++)
        if (strcmp(scheduler->owners[i].name, name) == 0)
            return i;
    if (scheduler->n_owners == scheduler->owners_capacity) {
        size_t capacity = scheduler->owners_capacity * 2 + 8;
        bora_engine_owner *owners = bora_realloc(scheduler->owners, capacity, sizeof *owners);
        if (!owners)
            return SIZE_MAX;
        scheduler->owners = owners;
        bora_plan_served *served = bora_realloc(scheduler->served, capacity, sizeof *served);
        if (!served)
            return SIZE_MAX;
        scheduler->served = served;
        scheduler->owners_capacity = capacity;
    }
    bora_engine_owner *owner = &scheduler->owners[scheduler->n_owners];
    *owner = (bora_engine_owner){.served = least_served(scheduler)};
    strncpy(owner->name, name, sizeof owner->name - 1);
    return scheduler->n_owners++;
}

void bora_queue_forget_owners(bora_scheduler *scheduler)
{
    for (size_t i = scheduler->n_owners; i-- > 0;)
        if (scheduler->owners[i].n_tasks == 0 && scheduler->owners[i].n_waiting == 0)
            scheduler->owners[i] = scheduler->owners[--scheduler->n_owners];
}

/* ---- the queue ----------------------------------------------------------------------------------------------- */

bora_generation *bora_queue_take(bora_mail **list, uint64_t id)
{
    for (bora_mail **link = list; *link; link = &(*link)->next) {
        bora_generation *generation = (bora_generation *)*link;
        if (generation->id != id)
            continue;
        *link = generation->mail.next;
        generation->mail.next = NULL;
        return generation;
    }
    return NULL;
}

void bora_queue_add(bora_scheduler *scheduler, bora_generation *generation, size_t owner)
{
    bora_mail **link = &scheduler->waiting;
    while (*link)
        link = &(*link)->next;
    generation->mail.next = NULL;
    *link = &generation->mail;
    scheduler->owners[owner].n_waiting++;
    scheduler->has_untold = true;
}

bora_generation *bora_queue_withdraw(bora_scheduler *scheduler, uint64_t id)
{
    bora_generation *generation = bora_queue_take(&scheduler->waiting, id);
    if (generation) {
        scheduler->owners[bora_queue_owner(scheduler, generation->owner)].n_waiting--; /* made by enqueue */
        return generation;
    }
    generation = bora_queue_take(&scheduler->restoring, id);
    if (generation)
        scheduler->owners[bora_queue_owner(scheduler, generation->owner)].n_tasks--;
    return generation;
}

/* ---- turns --------------------------------------------------------------------------------------------------- */

/* Everybody gets in the line of its owner, in order of arrival. */
static void line_up(bora_scheduler *scheduler)
{
    for (size_t i = 0; i < scheduler->n_owners; i++) {
        bora_engine_owner *owner = &scheduler->owners[i];
        owner->next_tasks = owner->n_tasks;
        owner->next_begun = owner->last_begun;
        memset(owner->lines, 0, sizeof owner->lines);
    }
    uint64_t arrival = 0;
    for (bora_mail *mail = scheduler->waiting; mail; mail = mail->next) {
        bora_generation *generation = (bora_generation *)mail;
        bora_engine_owner *owner = &scheduler->owners[bora_queue_owner(scheduler, generation->owner)];
        bora_line *line = &owner->lines[generation->is_background];
        generation->arrival = arrival++;
        generation->next_in_line = NULL;
        if (line->last)
            line->last->next_in_line = generation;
        else
            line->first = generation;
        line->last = generation;
    }
}

/* Whether a's line is before b's; both have somebody. */
static bool goes_before(const bora_engine_owner *a, const bora_engine_owner *b, uint32_t line)
{
    if (a->next_tasks != b->next_tasks)
        return a->next_tasks < b->next_tasks;
    if (a->next_begun != b->next_begun)
        return a->next_begun < b->next_begun;
    return a->lines[line].first->arrival < b->lines[line].first->arrival;
}

/* The next of those in line, who leaves it; n_begun: how many began before. NULL: nobody is left. */
static bora_generation *call_up(bora_scheduler *scheduler, uint64_t n_begun)
{
    bool is_turn = (n_begun + 1) % BORA_PLAN_BACKGROUND_EVERY == 0;
    for (uint32_t i = 0; i < BORA_QUEUE_LINES; i++) {
        uint32_t line = is_turn ? 1 - i : i; /* 1: in the background */
        bora_engine_owner *best = NULL;
        for (size_t o = 0; o < scheduler->n_owners; o++) {
            bora_engine_owner *owner = &scheduler->owners[o];
            if (owner->lines[line].first && (!best || goes_before(owner, best, line)))
                best = owner;
        }
        if (!best)
            continue;
        bora_generation *called = best->lines[line].first;
        best->lines[line].first = called->next_in_line;
        best->next_tasks++;
        best->next_begun = n_begun + 1;
        return called;
    }
    return NULL;
}

bora_generation *bora_queue_next(bora_scheduler *scheduler)
{
    line_up(scheduler);
    return call_up(scheduler, scheduler->n_begun);
}

void bora_queue_tell(bora_scheduler *scheduler)
{
    uint64_t now = scheduler->waiting && !scheduler->is_loading ? bora_task_now_ns() : 0;
    if (!now || (!scheduler->has_untold && now - scheduler->told_ns < TELL_NS))
        return;
    line_up(scheduler);
    uint32_t n_waiting = 0, place = 0;
    for (const bora_mail *mail = scheduler->waiting; mail; mail = mail->next)
        n_waiting++;
    for (bora_generation *generation; (generation = call_up(scheduler, scheduler->n_begun + place));) {
        place++;
        if (generation->told_place == place || (generation->told_place && now - generation->told_ns < TELL_NS))
            continue;
        bora_event *event = bora_calloc(1, sizeof *event);
        if (!event)
            return; /* it is told later, or not */
        event->type = BORA_EVENT_QUEUED;
        event->id = generation->id;
        event->place = generation->told_place = place;
        event->n_waiting = n_waiting;
        generation->told_ns = now;
        bora_mailbox_send(scheduler->events, &event->mail);
    }
    scheduler->has_untold = false;
    scheduler->told_ns = now;
}
