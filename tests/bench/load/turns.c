/* What a client does with its time: requests as planned, conversations kept over several of them, and looks at what
 * the daemon tells about itself. */
#include "client.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define FAILURES_MAX 20 /* in a row: then the client gives up */

/* ---- conversations --------------------------------------------------------------------------------------------- */

/* A conversation that came to its end has all its messages, and none of them is anybody else's. */
static void check_session(bora_load_client *client)
{
    bora_client_result *shown = bora_load_client_ask(client, "session.show", client->session);
    if (!shown) {
        bora_load_client_fail(client, "session.show", client->code, "");
        return;
    }
    uint64_t n = bora_client_value_uint(bora_client_value_get(bora_client_result_value(shown), "n_messages"), 0);
    if (n != 2 * BORA_LOAD_TURNS)
        bora_load_client_fail(client, "session.show", "lost", "messages are missing");
    bora_client_result_free(shown);
}

static void close_session(bora_load_client *client)
{
    if (!*client->session || !bora_load_client_connect(client))
        return;
    if (client->turn == BORA_LOAD_TURNS && !client->session_is_broken)
        check_session(client);
    bora_client_result *deleted = bora_load_client_ask(client, "session.delete", client->session);
    /* A first turn that was cut off before it had an answer leaves no session. */
    bool may_be_missing = client->session_is_broken && client->turn == 0;
    if (!deleted && !(may_be_missing && strcmp(client->code, "not_found") == 0))
        bora_load_client_fail(client, "session.delete", client->code, "");
    bora_client_result_free(deleted);
    *client->session = '\0';
    client->session_is_broken = false;
}

static void say_turn(bora_load_client *client, const bora_load_plan *plan)
{
    bora_load_owner *owner = client->owner;
    if (!*client->session) {
        client->script = plan->script;
        client->turn = 0;
        (void)snprintf(client->session, sizeof client->session, "load-%s-%u-%u",
                       owner->canary.secrets[owner->index].groups[0], client->index, client->request);
    }
    const uint32_t script = client->script, turn = client->turn;
    const bora_load_saying saying = {.text = owner->turns[script][turn],
                                     .session = client->session,
                                     .max_tokens = bora_load_turn_tokens(owner->options, script, turn)};
    if (bora_load_client_say(client, &saying) == BORA_LOAD_END_DONE) {
        client->turn++;
        client->stats->n_turns++;
    } else {
        client->session_is_broken = true;
    }
    bora_load_client_compare(client, &owner->alone_turns[script][turn], saying.max_tokens);
    if (client->session_is_broken || client->turn == BORA_LOAD_TURNS)
        close_session(client);
}

/* ---- others ---------------------------------------------------------------------------------------------------- */

static void say_prompt(bora_load_client *client, const bora_load_plan *plan)
{
    bora_load_owner *owner = client->owner;
    const bora_load_saying saying = {.text = owner->prompts[plan->prompt],
                                     .is_raw = bora_load_prompt_is_raw(plan->prompt),
                                     .max_tokens = plan->max_tokens};
    (void)bora_load_client_say(client, &saying);
    bora_load_client_compare(client, &owner->alone[plan->prompt], plan->max_tokens);
}

static void say_slowly(bora_load_client *client, const bora_load_plan *plan)
{
    uint32_t prompt = plan->prompt == bora_load_common_prompt(client->owner->options) ? 1 : plan->prompt | 1;
    client->stats->n_slow++;
    (void)bora_load_client_say_slowly(client, client->owner->prompts[prompt], plan->pause_ms);
    bora_load_client_compare(client, &client->owner->alone[prompt], BORA_LOAD_SLOW_TOKENS);
}

/* Whatever may be asked about others is asked: all replies are searched. */
static void look_around(bora_load_client *client)
{
    static const char *const verbs[] = {"status", "session.list", "plugin.list", "metrics"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        bool is_metrics = strcmp(verbs[i], "metrics") == 0;
        if (!client->connection || (is_metrics && atomic_load(&client->owner->no_metrics)))
            continue;
        bora_client_result *result = bora_load_client_ask(client, verbs[i], NULL);
        client->stats->n_looks += result != NULL;
        if (!result && is_metrics && strcmp(client->code, "unknown_verb") == 0)
            atomic_store(&client->owner->no_metrics, true);
        else if (!result)
            bora_load_client_fail(client, verbs[i], client->code, "");
        bora_client_result_free(result);
    }
}

/* ---- the load of one client ------------------------------------------------------------------------------------ */

/* Think time, but not past the end. */
static void think(const bora_load_client *client, uint32_t ms)
{
    const bora_load_options *o = client->owner->options;
    double left = client->owner->start + o->seconds - bora_load_now(), seconds = ms / 1000.0;
    if (o->n_requests == 0 && seconds > left)
        seconds = left > 0 ? left : 0;
    const struct timespec pause = {.tv_sec = (time_t)seconds,
                                   .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&pause, NULL);
}

static bool is_over(const bora_load_client *client)
{
    const bora_load_options *o = client->owner->options;
    return o->n_requests > 0 ? client->request >= o->n_requests : bora_load_now() >= client->owner->start + o->seconds;
}

static void make_request(bora_load_client *client, const bora_load_plan *plan)
{
    client->churn = plan->churn;
    client->n_before = plan->n_before;
    client->is_background = plan->is_background;
    if (plan->churn == BORA_LOAD_CHURN_SLOW)
        say_slowly(client, plan);
    else if (plan->in_session)
        say_turn(client, plan);
    else
        say_prompt(client, plan);
    if (plan->looks_around)
        look_around(client);
}

void *bora_load_client_run(void *context)
{
    bora_load_client *client = context;
    unsigned n_failures = 0;
    for (; !is_over(client) && n_failures < FAILURES_MAX; client->request++) {
        bora_load_plan plan;
        bora_load_plan_make(client->owner->options, client->index, client->request, &plan);
        think(client, plan.think_ms);
        if (is_over(client))
            break;
        if (plan.churn == BORA_LOAD_CHURN_CONNECT && client->connection) {
            bora_load_client_disconnect(client);
            client->stats->n_reconnects++;
        }
        client->end = BORA_LOAD_END_FAILED;
        if (bora_load_client_connect(client))
            make_request(client, &plan);
        n_failures = client->end == BORA_LOAD_END_FAILED ? n_failures + 1 : 0;
    }
    if (n_failures == FAILURES_MAX)
        bora_load_stats_tell(client->stats, "owner %u, client %u gives up: %u requests in a row have failed",
                             client->owner->index, client->index, n_failures);
    client->session_is_broken = true; /* or only not at its end: nothing to check */
    if (client->end != BORA_LOAD_END_FAILED)
        close_session(client);
    bora_load_client_disconnect(client);
    bora_load_answer_release(&client->answer);
    return NULL;
}
