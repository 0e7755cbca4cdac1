/* Structure is written here, strings and fractions by jansson: it holds no integer above 2^63 - 1, and seeds go up to
 * 2^64 - 1. */
#include "json.h"

#include "text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define INDENT 2

typedef struct writer {
    FILE *file;
    bool is_indented;
    bool failed;
} writer;

static void write_value(writer *w, const bora_client_value *value, int depth);

static void write_scalar(writer *w, json_t *scalar, size_t flags)
{
    char *text = scalar ? json_dumps(scalar, JSON_ENCODE_ANY | flags) : NULL;
    json_decref(scalar);
    if (text)
        (void)fputs(text, w->file); /* the stream remembers a failure */
    else
        w->failed = true;
    free(text);
}

static void write_text(writer *w, const bora_client_value *value)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    write_scalar(w, json_stringn(text, size), 0);
}

/* With 15 digits if they say it exactly, else with the 17 that always do. */
static void write_float(writer *w, double number)
{
    char digits[32];
    if (number - number != 0) { /* JSON has no NaN and no infinity */
        (void)fputs("null", w->file);
        return;
    }
    (void)snprintf(digits, sizeof digits, "%.15g", number);
    size_t precision = strtod(digits, NULL) == number ? 15 : 17;
    write_scalar(w, json_real(number), JSON_REAL_PRECISION(precision));
}

static void new_line(writer *w, int depth)
{
    if (w->is_indented)
        (void)fprintf(w->file, "\n%*s", depth * INDENT, "");
}

static bool is_name(const char *name, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(name, word, size) == 0;
}

static void write_items(writer *w, const bora_client_value *value, bool is_map, int depth)
{
    uint32_t n = bora_client_value_count(value);
    bool is_first = true;
    /* Arrays of numbers (token ids, windows) stay on one line. */
    int32_t kind = is_map || n == 0 ? BORA_CLIENT_VALUE_MAP : bora_client_value_kind(bora_client_value_at(value, 0));
    bool is_tall = kind >= BORA_CLIENT_VALUE_TEXT && n > 0;
    (void)fputc(is_map ? '{' : '[', w->file);
    for (uint32_t i = 0; i < n; i++) {
        const bora_client_value *key = bora_client_value_key(value, i);
        size_t size = 0;
        const char *name = bora_client_value_text(key, &size);
        if (is_map && depth == 0 && (is_name(name, size, "id") || (w->is_indented && is_name(name, size, "event"))))
            continue;
        if (!is_first)
            (void)fputs(w->is_indented && is_tall ? "," : ", ", w->file);
        is_first = false;
        if (is_tall)
            new_line(w, depth + 1);
        if (is_map) {
            if (bora_client_value_kind(key) == BORA_CLIENT_VALUE_TEXT)
                write_text(w, key);
            else
                (void)fprintf(w->file, "\"%" PRId64 "\"", bora_client_value_int(key, 0));
            (void)fputs(": ", w->file);
        }
        write_value(w, bora_client_value_at(value, i), depth + 1);
    }
    if (is_tall)
        new_line(w, depth);
    (void)fputc(is_map ? '}' : ']', w->file);
}

/* As deep as a frame may be, which the codec bounds. */
static void write_value(writer *w, const bora_client_value *value, int depth)
{
    switch (bora_client_value_kind(value)) {
    case BORA_CLIENT_VALUE_BOOL:
        (void)fputs(bora_client_value_bool(value, false) ? "true" : "false", w->file);
        break;
    case BORA_CLIENT_VALUE_UINT:
        (void)fprintf(w->file, "%" PRIu64, bora_client_value_uint(value, 0));
        break;
    case BORA_CLIENT_VALUE_INT:
        (void)fprintf(w->file, "%" PRId64, bora_client_value_int(value, 0));
        break;
    case BORA_CLIENT_VALUE_FLOAT:
        write_float(w, bora_client_value_float(value, 0));
        break;
    case BORA_CLIENT_VALUE_TEXT:
        write_text(w, value);
        break;
    case BORA_CLIENT_VALUE_ARRAY:
        write_items(w, value, false, depth);
        break;
    case BORA_CLIENT_VALUE_MAP:
        write_items(w, value, true, depth);
        break;
    default:
        (void)fputs("null", w->file);
        break;
    }
}

bool bora_json_write(FILE *file, const bora_client_value *value, bool is_indented)
{
    writer w = {.file = file, .is_indented = is_indented};
    write_value(&w, value, 0);
    (void)fputc('\n', file);
    return !w.failed;
}

bool bora_json_write_error(FILE *file, const bora_client_error *error)
{
    const char *code = error->code[0] ? error->code : bora_client_status_name(error->status);
    bora_text message = {0}; /* one that was too long may have been cut inside a character */
    bora_text_append_safe(&message, error->message, strlen(error->message), BORA_TEXT_LINES);
    json_t *object =
        json_pack("{ss ss ss}", "event", "error", "code", code, "message", message.data ? message.data : "");
    bora_text_release(&message);
    writer w = {.file = file};
    write_scalar(&w, object, 0);
    (void)fputc('\n', file);
    return !w.failed;
}
