#include "answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bora_load_answer_release(bora_load_answer *answer)
{
    free(answer->tokens);
    free(answer->ends);
    free(answer->text);
    *answer = (bora_load_answer){0};
}

void bora_load_answer_clear(bora_load_answer *answer)
{
    answer->n_tokens = answer->text_size = 0;
    answer->reason[0] = '\0';
}

static bool grow_tokens(bora_load_answer *answer)
{
    size_t capacity = answer->capacity ? 2 * answer->capacity : 64;
    int32_t *tokens = reallocarray(answer->tokens, capacity, sizeof *tokens);
    if (tokens)
        answer->tokens = tokens;
    size_t *ends = reallocarray(answer->ends, capacity, sizeof *ends);
    if (ends)
        answer->ends = ends;
    if (!tokens || !ends)
        return false;
    answer->capacity = capacity;
    return true;
}

static bool add_text(bora_load_answer *answer, const char *text, size_t size)
{
    if (size > answer->text_capacity - answer->text_size) {
        size_t capacity = 2 * (answer->text_size + size); /* of events that are there: far from any overflow */
        char *grown = realloc(answer->text, capacity);
        if (!grown)
            return false;
        answer->text = grown;
        answer->text_capacity = capacity;
    }
    if (size > 0)
        memcpy(answer->text + answer->text_size, text, size);
    answer->text_size += size;
    return true;
}

bool bora_load_answer_token(bora_load_answer *answer, int32_t token, const char *text, size_t size)
{
    if ((answer->n_tokens == answer->capacity && !grow_tokens(answer)) || !add_text(answer, text, size))
        return false;
    answer->tokens[answer->n_tokens] = token;
    answer->ends[answer->n_tokens++] = answer->text_size;
    return true;
}

bool bora_load_answer_done(bora_load_answer *answer, const char *text, size_t size, const char *reason,
                           size_t reason_size)
{
    (void)snprintf(answer->reason, sizeof answer->reason, "%.*s", (int)(reason_size < 15 ? reason_size : 15), reason);
    return add_text(answer, text, size);
}

__attribute__((format(printf, 2, 3))) static bool differs(char why[160], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, 160, format, arguments);
    va_end(arguments);
    return false;
}

static bool is(const bora_load_answer *answer, const char *reason)
{
    return strcmp(answer->reason, reason) == 0;
}

bool bora_load_answer_agrees(const bora_load_answer *got, const bora_load_answer *expected, uint32_t max_tokens,
                             char ret_why[160])
{
    size_t n = got->n_tokens < expected->n_tokens ? got->n_tokens : expected->n_tokens;
    for (size_t i = 0; i < n; i++) {
        size_t start = i ? got->ends[i - 1] : 0, alone = i ? expected->ends[i - 1] : 0;
        if (got->tokens[i] != expected->tokens[i])
            return differs(ret_why, "token %zu is %d, alone it was %d", i, got->tokens[i], expected->tokens[i]);
        if (got->ends[i] - start != expected->ends[i] - alone ||
            memcmp(got->text + start, expected->text + alone, got->ends[i] - start) != 0)
            return differs(ret_why, "the text of token %zu is not what it was alone", i);
    }
    if (got->n_tokens > expected->n_tokens && !is(expected, "length"))
        return differs(ret_why, "%zu tokens, alone it ended after %zu with %s", got->n_tokens, expected->n_tokens,
                       expected->reason);
    if (got->n_tokens > max_tokens)
        return differs(ret_why, "%zu tokens where %u were asked for", got->n_tokens, max_tokens);
    bool is_whole = is(got, "length") || is(got, "stop") || is(got, "context");
    if (!is_whole || got->n_tokens > expected->n_tokens)
        return true;
    if (is(got, "length") && got->n_tokens == max_tokens &&
        !(is(expected, "length") && max_tokens == expected->n_tokens))
        return true; /* cut short of where it ended alone */
    if (got->n_tokens != expected->n_tokens || strcmp(got->reason, expected->reason) != 0)
        return differs(ret_why, "it ended after %zu tokens with %s, alone after %zu with %s", got->n_tokens,
                       got->reason, expected->n_tokens, expected->reason);
    if (got->text_size != expected->text_size ||
        (got->text_size > 0 && memcmp(got->text, expected->text, got->text_size) != 0))
        return differs(ret_why, "the end of the text is not what it was alone");
    return true;
}
