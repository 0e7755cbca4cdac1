/* bora chat: a conversation. A line is a message; the answer streams; the next line follows. With a terminal it is a
 * dialogue that goes on whatever happens to one answer; lines from a file or pipe are a script, which ends at the first
 * that fails. */
#include "chat.h"

#include "answer.h"
#include "line.h"
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static bool text_is(const bora_client_value *value, const char *word)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

static void tell_session(const bora_chat *chat, const bora_client_value *session)
{
    const bora_print *print = &chat->cli->print;
    uint64_t n_tokens = bora_client_value_uint(bora_client_value_get(session, "n_tokens"), 0);
    uint64_t n_messages = bora_client_value_uint(bora_client_value_get(session, "n_messages"), 0);
    bora_print_note(print, "[session %s: %s message%s, %s token%s; last used %s]", chat->session,
                    bora_show_count(n_messages).text, bora_plural(n_messages), bora_show_count(n_tokens).text,
                    bora_plural(n_tokens),
                    bora_show_time(bora_client_value_uint(bora_client_value_get(session, "updated"), 0)).text);
    if (bora_client_value_bool(bora_client_value_get(session, "current_model"), true))
        return;
    size_t size = 0;
    const char *model = bora_client_value_text(bora_client_value_get(session, "model_name"), &size);
    bora_print_note(print, "[it was made with another model than the one that is loaded: %.*s]", (int)size, model);
}

bool bora_chat_pick(bora_chat *chat, const char *session)
{
    char *copy = session ? strdup(session) : NULL;
    if (session && !copy)
        return false;
    free(chat->session);
    chat->session = copy;
    chat->has_begun = chat->is_resumed = chat->knows_history = false;
    if (!session)
        return true;
    bora_client_result *result = NULL;
    if (bora_client_session_list(chat->cli->client, &result, NULL) != BORA_CLIENT_OK)
        return true; /* the first message will say what is wrong */
    const bora_client_value *sessions = bora_client_value_get(bora_client_result_value(result), "sessions");
    for (uint32_t i = 0; i < bora_client_value_count(sessions); i++) {
        const bora_client_value *found = bora_client_value_at(sessions, i);
        if (!text_is(bora_client_value_get(found, "name"), session) &&
            !text_is(bora_client_value_get(found, "session_id"), session))
            continue;
        chat->is_resumed = true;
        tell_session(chat, found);
    }
    if (!chat->is_resumed)
        bora_print_note(&chat->cli->print, "[session %s is new]", session);
    bora_client_result_free(result);
    return true;
}

/* A conversation without a name gets one from the daemon. Otherwise complains and returns an exit code. */
static int name_session(bora_chat *chat)
{
    if (chat->session)
        return BORA_EXIT_OK;
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    if (bora_client_session_create(chat->cli->client, NULL, NULL, &result, &error) != BORA_CLIENT_OK) {
        (void)bora_signals_take_interrupt();
        return bora_cli_failed(&error);
    }
    size_t size = 0;
    const char *name = bora_client_value_text(bora_client_value_get(bora_client_result_value(result), "name"), &size);
    chat->session = strndup(name, size);
    bora_client_result_free(result);
    return chat->session ? BORA_EXIT_OK : bora_cli_no_memory();
}

static int answer(bora_chat *chat, const char *text, bool *ret_was_interrupted)
{
    bora_answer was = {0};
    int code = name_session(chat);
    if (code == BORA_EXIT_OK) {
        bora_client_generation g = chat->cli->options.generation;
        g.text = text;
        g.text_size = strlen(text);
        g.session = chat->session;
        g.system = chat->has_begun ? NULL : chat->system;
        code = bora_answer_run(chat->cli, &g, BORA_ANSWER_MESSAGE, !chat->knows_history, &was);
        chat->has_begun = chat->has_begun || was.was_accepted;
        chat->knows_history = code != BORA_EXIT_LOST && (chat->knows_history || was.was_accepted);
    }
    *ret_was_interrupted = was.was_interrupted || code == BORA_EXIT_INTERRUPTED;
    return code;
}

/* Whether the chat goes on after an answer that ended with this code. */
static bool goes_on(const bora_line *line, int code, bool was_interrupted)
{
    if (code == BORA_EXIT_PIPE || bora_signals_ending())
        return false;
    return bora_line_is_interactive(line) || (code == BORA_EXIT_OK && !was_interrupted);
}

static int converse(bora_chat *chat, bora_line *line)
{
    bool is_interactive = bora_line_is_interactive(line);
    int code = BORA_EXIT_OK;
    while (!chat->is_ending) {
        const char *text = "";
        enum bora_line_read read = bora_line_next(line, &text);
        if (read == BORA_LINE_END)
            break;
        if (read == BORA_LINE_FAILED) {
            bora_print_complaint("cannot read standard input: %s", strerror(errno));
            return BORA_EXIT_FAILED;
        }
        if (read == BORA_LINE_CLEARED && !is_interactive)
            return BORA_EXIT_INTERRUPTED;
        if (read == BORA_LINE_CLEARED) {
            bora_print_note(&chat->cli->print, "%s", "");
            continue;
        }
        if (text[strspn(text, " \t\n")] == '\0')
            continue;
        if (chat->cli->options.echo && !is_interactive)
            (void)printf("> %s\n", text);
        if (text[0] == '/' && text[1] != '/') {
            bora_chat_slash(chat, text + 1);
            code = bora_cli_flush(BORA_EXIT_OK);
            if (code != BORA_EXIT_OK)
                return code;
            continue;
        }
        if (!bora_text_is_utf8(text, strlen(text))) {
            bora_print_complaint("this line is not UTF-8 text");
            code = BORA_EXIT_FAILED;
            if (!is_interactive)
                return code;
            continue;
        }
        bool was_interrupted = false;
        code = answer(chat, text + (text[0] == '/'), &was_interrupted);
        if (!goes_on(line, code, was_interrupted))
            return was_interrupted && code == BORA_EXIT_OK ? BORA_EXIT_INTERRUPTED : code;
        if (is_interactive) {
            code = BORA_EXIT_OK;
            (void)putchar('\n');
        }
    }
    return code;
}

static void greet(const bora_cli *cli)
{
    bora_client_result *result = NULL;
    size_t size = 0;
    const char *model = "";
    if (bora_client_model(cli->client, &result, NULL) == BORA_CLIENT_OK)
        model = bora_client_value_text(bora_client_value_get(bora_client_result_value(result), "name"), &size);
    bora_print_note(&cli->print, "bora %s%s%.*s. /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.",
                    BORA_VERSION, size > 0 ? " with " : "", (int)size, model);
    bora_client_result_free(result);
}

/* The command that goes on with this session, for a shell. */
static void tell_way_back(const bora_chat *chat)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *name = chat->session;
    bora_text word = {0};
    if (name[strspn(name, plain)] == '\0') {
        bora_text_append_string(&word, name);
    } else {
        bora_text_append_string(&word, "'");
        for (size_t size; *name; name += size) {
            size = strcspn(name, "'");
            bora_text_append(&word, name, size);
            if (name[size] != '\'')
                continue;
            bora_text_append_string(&word, "'\\''");
            size++;
        }
        bora_text_append_string(&word, "'");
    }
    if (!word.failed)
        bora_print_note(&chat->cli->print, "[kept; go on with: bora chat -s %s]", word.data);
    bora_text_release(&word);
}

static int chat_with(bora_chat *chat, bora_line *line)
{
    const bora_options *o = &chat->cli->options;
    bool is_interactive = bora_line_is_interactive(line);
    if (is_interactive)
        greet(chat->cli);
    chat->system = o->system ? strdup(o->system) : NULL;
    if ((o->system && !chat->system) || !bora_chat_pick(chat, o->session))
        return bora_cli_no_memory();
    int code = converse(chat, line);
    if (is_interactive && code != BORA_EXIT_PIPE && !bora_signals_ending()) {
        if (!chat->is_ending)
            bora_print_note(&chat->cli->print, "%s", ""); /* the prompt's line ends with Ctrl-D */
        if (chat->has_begun)
            tell_way_back(chat);
    }
    return code;
}

static int run(bora_cli *cli, int n_words, char **words)
{
    if (n_words > 0)
        return bora_cli_usage(cli, "takes no words, such as '%s'; to ask once: bora ask", words[0]);
    int code = bora_cli_connect(cli);
    if (code != BORA_EXIT_OK)
        return code;
    bora_signals_catch_all(cli->client);
    bora_line *line = bora_line_open(&cli->print);
    bora_chat chat = {.cli = cli};
    code = line ? chat_with(&chat, line) : bora_cli_no_memory();
    bora_line_close(line); /* before a signal may end the program: the terminal is as it was, the history is saved */
    int ending = bora_signals_ending();
    bora_signals_release();
    free(chat.session);
    free(chat.system);
    if (ending) {
        (void)fflush(stdout);
        (void)raise(ending);
    }
    return code;
}

const bora_command bora_command_chat = {
    .name = "chat",
    .words = "",
    .summary = "talk; the conversation is kept and goes on another day",
    .details =
        "Every line is a message; a line that ends in \\ goes on in the next one. Without -s a new conversation is\n"
        "begun. Ctrl-C stops an answer, or clears the line; Ctrl-D ends. /help lists commands such as /sessions.\n"
        "If standard input is no terminal, each of its lines is answered; the first that fails ends the chat.\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_SESSION | BORA_OPTIONS_SAMPLING | BORA_OPTIONS_ANSWER |
              BORA_OPTIONS_TERMS | BORA_OPTIONS_ECHO,
    .run = run,
};
