#include "owner.h"

#include "client.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts ------------------------------------------------------------------------------------------------------ */

bool bora_load_owner_init(bora_load_owner *owner, const bora_load_options *options, uint32_t index)
{
    *owner = (bora_load_owner){.options = options, .index = index, .slot_us = bora_load_slot_us(options)};
    if (pthread_mutex_init(&owner->closing, NULL) != 0)
        return false;
    for (uint32_t i = 0; i < index; i++)
        owner->first_client += options->n_clients_of[i];
    bora_load_canary_init(&owner->canary, options->seed, options->n_owners, index);
    const bora_load_secret *secret = &owner->canary.secrets[index];
    bool good = true;
    for (uint32_t i = 0; i < bora_load_n_prompts(options); i++)
        good = (owner->prompts[i] = bora_load_prompt_text(options, secret, index, i)) && good;
    for (uint32_t s = 0; s < BORA_LOAD_SCRIPTS; s++)
        for (uint32_t t = 0; t < BORA_LOAD_TURNS; t++)
            good = (owner->turns[s][t] = bora_load_turn_text(options, secret, index, s, t)) && good;
    if (options->falsify == BORA_LOAD_FALSIFY_CANARY && index == 0)
        owner->canary.owner = BORA_LOAD_NOBODY; /* its own secret is foreign to it */
    return good;
}

void bora_load_owner_release(bora_load_owner *owner)
{
    (void)pthread_mutex_destroy(&owner->closing); /* nobody holds it */
    for (uint32_t i = 0; i < BORA_LOAD_PROMPTS_MAX; i++) {
        free(owner->prompts[i]);
        bora_load_answer_release(&owner->alone[i]);
    }
    for (uint32_t s = 0; s < BORA_LOAD_SCRIPTS; s++)
        for (uint32_t t = 0; t < BORA_LOAD_TURNS; t++) {
            free(owner->turns[s][t]);
            bora_load_answer_release(&owner->alone_turns[s][t]);
        }
}

/* ---- before the load ------------------------------------------------------------------------------------------- */

/* Deletes what clients that vanished have left. False if the list cannot be had. */
static bool sweep(bora_load_client *client)
{
    bora_client_result *list = bora_load_client_ask(client, "session.list", NULL);
    if (!list) {
        bora_load_client_fail(client, "session.list", client->code, "");
        return false;
    }
    const bora_client_value *sessions = bora_client_value_get(bora_client_result_value(list), "sessions");
    for (uint32_t i = 0; i < bora_client_value_count(sessions); i++) {
        char name[72];
        size_t size = 0;
        const char *text =
            bora_client_value_text(bora_client_value_get(bora_client_value_at(sessions, i), "name"), &size);
        if (size < 5 || size >= sizeof name || memcmp(text, "load-", 5) != 0)
            continue;
        (void)snprintf(name, sizeof name, "%.*s", (int)size, text);
        bora_client_result *deleted = bora_load_client_ask(client, "session.delete", name);
        if (!deleted)
            bora_load_client_fail(client, "session.delete", client->code, "of one that was left");
        bora_client_result_free(deleted);
    }
    bora_client_result_free(list);
    return true;
}

static bool say_alone(bora_load_client *client, const bora_load_saying *saying, bora_load_answer *ret)
{
    bool done = bora_load_client_say(client, saying) == BORA_LOAD_END_DONE;
    *ret = client->answer;
    client->answer = (bora_load_answer){0};
    return done;
}

static bool say_prompt_alone(bora_load_client *client, uint32_t prompt)
{
    bora_load_owner *owner = client->owner;
    const bora_load_saying saying = {.text = owner->prompts[prompt],
                                     .is_raw = bora_load_prompt_is_raw(prompt),
                                     .max_tokens = owner->options->max_tokens_max};
    return say_alone(client, &saying, &owner->alone[prompt]);
}

static bool say_script_alone(bora_load_client *client, uint32_t script)
{
    bora_load_owner *owner = client->owner;
    char session[64];
    (void)snprintf(session, sizeof session, "load-%s-alone-%u", owner->canary.secrets[owner->index].groups[0], script);
    bool good = true;
    for (uint32_t turn = 0; good && turn < BORA_LOAD_TURNS; turn++) {
        const bora_load_saying saying = {.text = owner->turns[script][turn],
                                         .session = session,
                                         .max_tokens = bora_load_turn_tokens(owner->options, script, turn)};
        good = say_alone(client, &saying, &owner->alone_turns[script][turn]);
    }
    return good;
}

static bool is_used(const bora_load_options *options, uint32_t prompt)
{
    return prompt != bora_load_common_prompt(options) && options->lengths[prompt / BORA_LOAD_VARIANTS].weight > 0;
}

static bool say_all_alone(bora_load_client *client)
{
    bora_load_owner *owner = client->owner;
    bool good = true;
    for (uint32_t i = 0; good && i < bora_load_n_prompts(owner->options); i++)
        good = !is_used(owner->options, i) || say_prompt_alone(client, i);
    for (uint32_t s = 0; good && owner->options->sessions > 0 && s < BORA_LOAD_SCRIPTS; s++)
        good = say_script_alone(client, s);
    if (good && owner->options->falsify == BORA_LOAD_FALSIFY_SOLO && owner->index == 0)
        for (uint32_t i = 0; i < bora_load_n_prompts(owner->options); i++)
            if (owner->alone[i].n_tokens > 0)
                owner->alone[i].tokens[0] ^= 1;
    return good && sweep(client);
}

/* What was done alone is no part of the load's figures; what went wrong is. */
static void keep_failures(bora_load_stats *to, const bora_load_stats *from)
{
    to->n_searched = from->n_searched;
    to->n_own_secrets = from->n_own_secrets;
    to->n_leaks = from->n_leaks;
    to->n_errors = from->n_errors;
    memcpy(to->errors, from->errors, sizeof to->errors);
    to->n_failures = from->n_failures;
    memcpy(to->failures, from->failures, sizeof to->failures);
}

bool bora_load_owner_prepare(bora_load_owner *owner, bora_load_stats *stats)
{
    bora_load_stats *alone = calloc(1, sizeof *alone);
    if (!alone)
        return false;
    owner->start = bora_load_now();
    bora_load_client client = {.owner = owner,
                               .stats = alone,
                               .index = owner->first_client,
                               .churn = BORA_LOAD_CHURN_NONE,
                               .is_alone = true,
                               .is_first_of_owner = true};
    bool good = bora_load_client_connect(&client) && sweep(&client) &&
                say_prompt_alone(&client, bora_load_common_prompt(owner->options));
    client.is_first_of_owner = false;
    if (good && owner->options->check_solo)
        good = say_all_alone(&client);
    bora_load_client_disconnect(&client);
    bora_load_answer_release(&client.answer);
    keep_failures(stats, alone);
    free(alone);
    return good;
}

/* ---- the load -------------------------------------------------------------------------------------------------- */

/* Threads that began; all of them are joined. */
static uint32_t run_clients(bora_load_client *clients, pthread_t *threads, uint32_t n)
{
    uint32_t n_begun = 0;
    while (n_begun < n && pthread_create(&threads[n_begun], NULL, bora_load_client_run, &clients[n_begun]) == 0)
        n_begun++;
    for (uint32_t i = 0; i < n_begun; i++)
        (void)pthread_join(threads[i], NULL); /* cannot fail: it is ours and joinable */
    return n_begun;
}

bool bora_load_owner_run(bora_load_owner *owner, bora_load_stats *stats)
{
    uint32_t n = owner->options->n_clients_of[owner->index];
    bora_load_client *clients = calloc(n, sizeof *clients);
    bora_load_stats *counts = calloc(n, sizeof *counts);
    pthread_t *threads = calloc(n, sizeof *threads);
    bool good = clients && counts && threads;
    owner->start = bora_load_now();
    for (uint32_t i = 0; good && i < n; i++)
        clients[i] = (bora_load_client){.owner = owner, .stats = &counts[i], .index = owner->first_client + i};
    good = good && run_clients(clients, threads, n) == n;
    if (!good)
        bora_load_stats_tell(stats, "owner %u: no memory or threads for %u clients", owner->index, n);
    for (uint32_t i = 0; counts && i < n; i++)
        bora_load_stats_merge(stats, &counts[i]);
    bora_load_client last = {.owner = owner, .stats = stats, .index = owner->first_client};
    good = good && bora_load_client_connect(&last) && sweep(&last);
    bora_load_client_disconnect(&last);
    free(threads);
    free(counts);
    free(clients);
    return good;
}
