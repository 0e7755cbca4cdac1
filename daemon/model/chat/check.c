/* Which conversations are taken: what mistral-common's validators refuse is refused here, at the message that is
 * wrong. */
#include "model/chat/chat_private.h"

#include <string.h>

typedef enum role { SYSTEM, USER, ASSISTANT, TOOL, N_ROLES } role;

static const char *const role_names[] = {BORA_ROLE_SYSTEM, BORA_ROLE_USER, BORA_ROLE_ASSISTANT, BORA_ROLE_TOOL};

static role role_of(const bora_chat_message *message)
{
    int i = 0;
    while (i < N_ROLES && strcmp(message->role, role_names[i]) != 0)
        i++;
    return (role)i;
}

static bool filled(const char *text)
{
    return text && *text;
}

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bora_status check_name(const char *what, size_t number, const char *name, bora_error *err)
{
    size_t size = name ? strnlen(name, 65) : 0;
    bool fits = size > 0 && size <= 64;
    for (size_t i = 0; i < size; i++)
        fits &= is_letter_or_digit(name[i]) || name[i] == '_' || name[i] == '-';
    return fits ? BORA_OK
                : bora_fail(err, BORA_E_INVAL, "%s %zu: '%.70s' is no name of a function (1 to 64 of a-z A-Z 0-9 _ -)",
                            what, number, name ? name : "");
}

static bora_status check_id(size_t number, const char *id, bora_error *err)
{
    size_t size = id ? strnlen(id, 10) : 0;
    bool fits = size == 9;
    for (size_t i = 0; i < size; i++)
        fits &= is_letter_or_digit(id[i]);
    return fits ? BORA_OK
                : bora_fail(err, BORA_E_INVAL, "message %zu: '%.20s' is no id of a tool call (nine of a-z A-Z 0-9)",
                            number, id ? id : "");
}

static bora_status check_order(const bora_chat *chat, bora_error *err)
{
    static const bool may_follow[N_ROLES][N_ROLES] = {
        [SYSTEM] = {[SYSTEM] = true, [USER] = true, [ASSISTANT] = true},
        [USER] = {[SYSTEM] = true, [USER] = true, [ASSISTANT] = true},
        [ASSISTANT] = {[USER] = true, [ASSISTANT] = true, [TOOL] = true},
        [TOOL] = {[ASSISTANT] = true, [TOOL] = true},
    };
    for (size_t i = 0; i < chat->n_messages; i++) {
        role now = role_of(&chat->messages[i]);
        if (now == N_ROLES)
            return bora_fail(err, BORA_E_INVAL, "message %zu: unknown role '%.32s'", i, chat->messages[i].role);
        if (i && !may_follow[role_of(&chat->messages[i - 1])][now])
            return bora_fail(err, BORA_E_INVAL, "message %zu: a %s message after one of role '%s'", i, role_names[now],
                             chat->messages[i - 1].role);
    }
    return BORA_OK;
}

static bora_status check_ends(const bora_chat *chat, bora_error *err)
{
    const bora_chat_message *last = &chat->messages[chat->n_messages - 1];
    role ending = role_of(last);
    if (chat->n_messages == 1 && (ending == ASSISTANT || ending == TOOL))
        return bora_fail(err, BORA_E_INVAL, "a conversation must start with a user or system message");
    if (ending == ASSISTANT && !last->prefix)
        return bora_fail(err, BORA_E_INVAL, "the last message is the assistant's and not a prefix");
    return BORA_OK;
}

/* Before the assistant speaks again there are as many results as there were calls. What the first message calls is not
 * counted, nor is it missed at the end: mistral-common does not, either. */
static bora_status check_results(const bora_chat *chat, bora_error *err)
{
    size_t n_calls = 0, n_results = 0;
    for (size_t i = 1; i < chat->n_messages; i++) {
        const bora_chat_message *message = &chat->messages[i];
        role now = role_of(message);
        if (now == TOOL)
            n_results++;
        if (now != ASSISTANT)
            continue;
        if (n_calls != n_results)
            return bora_fail(err, BORA_E_INVAL, "message %zu: %zu tool results before it for %zu tool calls", i,
                             n_results, n_calls);
        n_calls = message->n_calls;
        n_results = 0;
    }
    return BORA_OK;
}

static bora_status check_message(unsigned version, const bora_chat *chat, size_t i, bora_error *err)
{
    const bora_chat_message *message = &chat->messages[i];
    role now = role_of(message);
    if (message->prefix && (now != ASSISTANT || i + 1 < chat->n_messages))
        return bora_fail(err, BORA_E_INVAL, "message %zu: prefix is for a last message of the assistant", i);
    if (message->n_calls && now != ASSISTANT)
        return bora_fail(err, BORA_E_INVAL, "message %zu: tool calls are for messages of the assistant", i);
    if (now == TOOL) {
        bora_status st = message->name ? check_name("message", i, message->name, err) : BORA_OK;
        return st == BORA_OK && version > 2 ? check_id(i, message->call_id, err) : st;
    }
    if (now != ASSISTANT)
        return BORA_OK;
    if (version < 7 && !filled(message->content) && !message->n_calls)
        return bora_fail(err, BORA_E_INVAL, "message %zu: an empty message of the assistant", i);
    if (version < 7 && filled(message->content) && message->n_calls)
        return bora_fail(err, BORA_E_INVAL, "message %zu: both text and tool calls, which only v7 can have", i);
    for (size_t c = 0; c < message->n_calls; c++) {
        bora_status st = check_name("message", i, message->calls[c].name, err);
        if (st == BORA_OK && version > 2 && bora_chat_call_has_id(&message->calls[c]))
            st = check_id(i, message->calls[c].id, err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

bora_status bora_chat_check(unsigned version, const bora_chat *chat, bora_error *err)
{
    if (chat->n_messages == 0)
        return bora_fail(err, BORA_E_INVAL, "a conversation needs at least one message");
    bora_status st;
    if ((st = check_order(chat, err)) != BORA_OK || (st = check_ends(chat, err)) != BORA_OK ||
        (st = check_results(chat, err)) != BORA_OK)
        return st;
    for (size_t i = 0; i < chat->n_messages && st == BORA_OK; i++)
        st = check_message(version, chat, i, err);
    for (size_t i = 0; i < chat->n_tools && st == BORA_OK; i++)
        st = check_name("tool", i, chat->tools[i].name, err);
    return st;
}
