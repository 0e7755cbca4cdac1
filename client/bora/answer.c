/* Events go to stdout as they come; whatever is said about them goes to stderr. The mark of an answer that was cut is
 * the exception: it stands where the answer stops, whoever reads it there. */
#include "answer.h"

#include "choices.h"
#include "json.h"
#include "signals.h"

#include <inttypes.h>
#include <string.h>

#define PROGRESS_MIN 256 /* prompt tokens below which no progress is shown */

typedef struct stream {
    bora_cli *cli;
    bora_choices *choices; /* NULL: there is one answer */
    enum bora_answer_style style;
    bool tells_history;
    bora_answer answer;
    bool has_output, ends_with_newline, has_progress_line, has_done, has_error_event, is_out_of_memory;
    int exit_code; /* of writing */
    double prefill_ms, decode_ms;
    bool is_in_session, was_stored, was_refused;
    char reason[16];
} stream;

static uint64_t field(const bora_client_event *event, const char *key)
{
    return bora_client_value_uint(bora_client_value_get(event->value, key), 0);
}

static double field_ms(const bora_client_event *event, const char *key)
{
    double ms = bora_client_value_float(bora_client_value_get(event->value, key), 0);
    return ms >= 0 && ms < 1e15 ? ms : 0;
}

static void tell_history(const stream *s)
{
    const bora_answer *a = &s->answer;
    if (a->n_history == 0)
        return;
    bora_print_note(&s->cli->print, "[resumed: %s tokens of history, %s of them run again]",
                    bora_show_count(a->n_history).text, bora_show_count(a->n_rerun).text);
}

static void wipe_progress(stream *s)
{
    if (s->has_progress_line)
        (void)fputs("\r\033[K", stderr);
    s->has_progress_line = false;
}

static void handle_accepted(stream *s, const bora_client_event *event)
{
    wipe_progress(s);
    s->answer.was_accepted = true;
    s->answer.n_history = field(event, "n_history");
    s->answer.n_kept = field(event, "n_cached");
    s->answer.n_rerun = field(event, "n_rerun");
    s->answer.n_reused = field(event, "n_reused");
    s->answer.n_prompt = field(event, "n_prompt");
    s->answer.seed = field(event, "seed");
    s->is_in_session = bora_client_value_get(event->value, "session_id") != NULL;
    if (s->style == BORA_ANSWER_JSON)
        return;
    if (s->tells_history || s->answer.n_rerun > 0)
        tell_history(s);
    if (bora_client_value_bool(bora_client_value_get(event->value, "system_ignored"), false))
        bora_print_note(&s->cli->print,
                        "[the conversation has begun already: the system prompt given now is not used]");
}

/* Lines that are wiped away again; only where both outputs are a terminal. */
static bool may_show_line(const stream *s)
{
    const bora_print *print = &s->cli->print;
    return s->style != BORA_ANSWER_JSON && print->has_colours && print->err_is_terminal && !s->has_output;
}

static void show_loading(stream *s, const bora_client_event *event)
{
    if (!may_show_line(s))
        return;
    const double share = event->n_total > 0 ? (double)event->n_done / (double)event->n_total : 0;
    (void)fprintf(stderr, "\r\033[K[the daemon is loading its model: %.0f %%]", share < 0.99 ? share * 100 : 99);
    s->has_progress_line = true;
}

static void show_place(stream *s, const bora_client_event *event)
{
    if (!may_show_line(s))
        return;
    (void)fprintf(stderr, "\r\033[K[waiting: place %" PRIu64 " of %" PRIu64 "]", event->place, event->n_waiting);
    s->has_progress_line = true;
}

static void show_progress(stream *s, const bora_client_event *event)
{
    if (!may_show_line(s) || event->n_total < PROGRESS_MIN)
        return;
    (void)fprintf(stderr, "\r\033[K[reading: %" PRIu64 " of %" PRIu64 " tokens]", event->n_done, event->n_total);
    s->has_progress_line = true;
}

static void show_text(stream *s, const char *text, size_t size)
{
    if (size == 0)
        return;
    wipe_progress(s);
    bora_print_text(&s->cli->print, text, size);
    s->has_output = true;
    s->ends_with_newline = text[size - 1] == '\n';
}

/* Of several answers one is shown as it comes, the others when those before them have ended. */
static void show_choice(stream *s, const bora_client_event *event)
{
    if (event->kind != BORA_CLIENT_EVENT_TOKEN && event->kind != BORA_CLIENT_EVENT_CHOICE)
        return;
    wipe_progress(s);
    bora_choices_add(s->choices, event->choice, event->text, event->text_size);
    if (event->kind == BORA_CLIENT_EVENT_CHOICE)
        bora_choices_end(s->choices, event->choice);
    s->has_output = bora_choices_show(s->choices, &s->cli->print) || s->has_output;
    s->ends_with_newline = true; /* each ends with one */
}

static void handle_done(stream *s, const bora_client_event *event)
{
    size_t size = 0;
    const char *reason = bora_client_value_text(bora_client_value_get(event->value, "reason"), &size);
    (void)snprintf(s->reason, sizeof s->reason, "%.*s", size < sizeof s->reason ? (int)size : 0, reason);
    s->has_done = true;
    s->answer.n_generated = field(event, "n_generated");
    s->prefill_ms = field_ms(event, "prefill_ms");
    s->decode_ms = field_ms(event, "decode_ms");
    s->was_stored = bora_client_value_bool(bora_client_value_get(event->value, "stored"), true);
}

static int handle_event(void *context, const bora_client_event *event)
{
    stream *s = context;
    if (event->kind == BORA_CLIENT_EVENT_ACCEPTED)
        handle_accepted(s, event);
    else if (event->kind == BORA_CLIENT_EVENT_PROGRESS)
        show_progress(s, event);
    else if (event->kind == BORA_CLIENT_EVENT_LOADING)
        show_loading(s, event);
    else if (event->kind == BORA_CLIENT_EVENT_QUEUED)
        show_place(s, event);
    else if (event->kind == BORA_CLIENT_EVENT_DONE)
        handle_done(s, event);
    s->was_refused = s->was_refused || (event->kind == BORA_CLIENT_EVENT_ERROR && event->value);
    if (s->exit_code != BORA_EXIT_OK)
        return 1; /* nobody reads what comes now */
    if (s->choices && s->style != BORA_ANSWER_JSON) {
        show_choice(s, event);
    } else if (s->style != BORA_ANSWER_JSON) {
        show_text(s, event->text, event->text_size);
    } else if (event->value) {
        s->is_out_of_memory = !bora_json_write(stdout, event->value, false) || s->is_out_of_memory;
        s->has_error_event = s->has_error_event || event->kind == BORA_CLIENT_EVENT_ERROR;
    }
    s->exit_code = bora_cli_flush(BORA_EXIT_OK);
    return s->exit_code != BORA_EXIT_OK;
}

static bool reason_is(const stream *s, const char *reason)
{
    return strcmp(s->reason, reason) == 0;
}

static void tell_counts(const stream *s)
{
    const bora_answer *a = &s->answer;
    char speed[48] = "", reused[64] = "";
    if (s->decode_ms > 0)
        (void)snprintf(speed, sizeof speed, ", %.1f per second", (double)a->n_generated * 1000 / s->decode_ms);
    if (a->n_reused > 0)
        (void)snprintf(reused, sizeof reused, ", %s more reused", bora_show_count(a->n_reused).text);
    bora_print_note(&s->cli->print, "[%s new token%s in %s%s; %s prompt token%s in %s%s; seed %" PRIu64 "]",
                    bora_show_count(a->n_generated).text, bora_plural(a->n_generated),
                    bora_show_duration((uint64_t)s->decode_ms).text, speed, bora_show_count(a->n_prompt).text,
                    bora_plural(a->n_prompt), bora_show_duration((uint64_t)s->prefill_ms).text, reused, a->seed);
}

/* The end of the text, and what a person should know about it. */
static void finish_text(stream *s)
{
    const bora_print *print = &s->cli->print;
    bool wants_newline = s->style == BORA_ANSWER_MESSAGE || print->out_is_terminal || s->answer.was_cut;
    if ((s->has_output || s->has_done) && !s->ends_with_newline && wants_newline)
        (void)fputc('\n', stdout);
    if (s->answer.was_cut)
        (void)fputs("[interrupted]\n", stdout);
    if (reason_is(s, "length") && !s->choices && (print->err_is_terminal || s->cli->options.verbose))
        bora_print_note(print, "[cut off after %s tokens; -n allows more]",
                        bora_show_count(s->answer.n_generated).text);
    else if (reason_is(s, "context"))
        bora_print_note(print, "[the context is full: the answer ends here]");
    else if (reason_is(s, "shutdown"))
        bora_print_note(print, "[the daemon is ending]");
    else if (reason_is(s, "deadline"))
        bora_print_note(print, "[the time is over: the answer ends here]");
    if (s->has_done && s->is_in_session && !s->was_stored)
        bora_print_note(print, "[this answer could not be stored]");
    if (s->has_done && s->cli->options.verbose)
        tell_counts(s);
}

/* The daemon had no time to begin: nobody pressed a key, and nothing was lost. */
static bool is_late(const stream *s, const bora_client_generation *generation, bora_client_status status)
{
    return generation->timeout_ms && status == BORA_CLIENT_E_INTERRUPTED && s->was_refused &&
           !bora_signals_has_interrupt() && !bora_signals_ending();
}

static int exit_code(const stream *s, bora_client_status status, const bora_client_error *error, bool was_late)
{
    if (s->is_out_of_memory)
        return bora_cli_no_memory();
    if (was_late) {
        bora_print_complaint("%s", error->message);
        return BORA_EXIT_FAILED;
    }
    if (s->answer.was_cut && s->answer.was_interrupted)
        return BORA_EXIT_INTERRUPTED; /* the mark has said it */
    if (status != BORA_CLIENT_OK && status != BORA_CLIENT_E_INTERRUPTED)
        return bora_cli_failed(error);
    return reason_is(s, "shutdown") ? BORA_EXIT_LOST : BORA_EXIT_OK;
}

int bora_answer_run(bora_cli *cli, const bora_client_generation *generation, enum bora_answer_style style,
                    bool tells_history, bora_answer *ret_answer)
{
    bora_choices choices = {.n_asked = generation->n_choices};
    stream s = {.cli = cli, .style = style, .tells_history = tells_history};
    s.choices = generation->n_choices > 1 ? &choices : NULL;
    bora_client_error error = {0};
    bora_client_status status = bora_client_generate(cli->client, generation, handle_event, &s, &error);
    wipe_progress(&s);
    const bool was_late = is_late(&s, generation, status);
    s.answer.was_interrupted = bora_signals_take_interrupt() || (status == BORA_CLIENT_E_INTERRUPTED && !was_late);
    s.answer.was_cut = reason_is(&s, "cancelled") || reason_is(&s, "shutdown") || reason_is(&s, "deadline") ||
                       (s.answer.was_accepted && !s.has_done && s.exit_code == BORA_EXIT_OK) ||
                       (s.answer.was_interrupted && !s.has_done);
    if (ret_answer)
        *ret_answer = s.answer;
    if (s.choices && s.exit_code == BORA_EXIT_OK && style != BORA_ANSWER_JSON)
        s.has_output = bora_choices_show_rest(s.choices, &cli->print) || s.has_output;
    s.is_out_of_memory = s.is_out_of_memory || choices.failed;
    bora_choices_release(&choices);
    if (s.exit_code != BORA_EXIT_OK)
        return s.exit_code;
    if (style != BORA_ANSWER_JSON)
        finish_text(&s);
    else if (status != BORA_CLIENT_OK && !s.has_done && !s.has_error_event)
        s.is_out_of_memory = !bora_json_write_error(stdout, &error) || s.is_out_of_memory;
    return bora_cli_flush(exit_code(&s, status, &error, was_late));
}
