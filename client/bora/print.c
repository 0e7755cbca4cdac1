/* Widths are those of a terminal: a table with Japanese names is aligned too. */
#include "print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DIM    "\033[2m"
#define BOLD   "\033[1m"
#define NORMAL "\033[0m"
#define GAP    2 /* columns between two of a table's */

bora_print bora_print_find(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bora_print print = {.out_is_terminal = isatty(STDOUT_FILENO) == 1, .err_is_terminal = isatty(STDERR_FILENO) == 1};
    print.has_colours = print.out_is_terminal && !(no_color && *no_color) && term && *term && strcmp(term, "dumb") != 0;
    return print;
}

static void write_safe(FILE *file, const char *bytes, size_t size, enum bora_text_lines lines)
{
    bora_text safe = {0};
    bora_text_append_safe(&safe, bytes, size, lines);
    if (!safe.failed)
        (void)fwrite(safe.data ? safe.data : "", 1, safe.size, file); /* the stream remembers a failure */
    bora_text_release(&safe);
}

void bora_print_text(const bora_print *print, const char *bytes, size_t size)
{
    if (!print->out_is_terminal || bora_text_safe_size(bytes, size, BORA_TEXT_LINES) == size)
        (void)fwrite(bytes, 1, size, stdout);
    else
        write_safe(stdout, bytes, size, BORA_TEXT_LINES);
}

void bora_print_indented(const bora_print *print, const char *bytes, size_t size)
{
    do {
        const char *newline = size > 0 ? memchr(bytes, '\n', size) : NULL;
        size_t line = newline ? (size_t)(newline - bytes) : size;
        if (line > 0)
            (void)fputs("  ", stdout);
        bora_print_text(print, bytes, line);
        (void)fputc('\n', stdout);
        line += newline ? 1 : 0;
        bytes += line;
        size -= line;
    } while (size > 0);
}

void bora_print_note(const bora_print *print, const char *format, ...)
{
    char *line = NULL;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&line, format, args);
    va_end(args);
    if (size < 0)
        return;
    bool is_dim = print->has_colours && print->err_is_terminal;
    (void)fflush(stdout); /* both may be the same terminal: keep the order */
    (void)fputs(is_dim ? DIM : "", stderr);
    write_safe(stderr, line, (size_t)size, BORA_TEXT_LINES);
    (void)fputs(is_dim ? NORMAL "\n" : "\n", stderr);
    free(line);
}

void bora_print_complaint(const char *format, ...)
{
    char *line = NULL;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&line, format, args);
    va_end(args);
    if (size < 0)
        return;
    (void)fflush(stdout);
    (void)fputs("bora: ", stderr);
    write_safe(stderr, line, (size_t)size, BORA_TEXT_ONE_LINE);
    (void)fputc('\n', stderr);
    free(line);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

void bora_table_init(bora_table *table, const bora_column *columns, size_t n_columns)
{
    *table = (bora_table){.n_columns = n_columns};
    for (size_t i = 0; i < n_columns && i < BORA_TABLE_COLUMNS_MAX; i++)
        table->columns[i] = columns[i];
}

void bora_table_release(bora_table *table)
{
    for (size_t i = 0; i < table->n_cells; i++)
        bora_text_release(&table->cells[i]);
    free(table->cells);
    *table = (bora_table){0};
}

void bora_table_add_text(bora_table *table, const char *bytes, size_t size)
{
    if (table->n_cells == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 32;
        bora_text *cells = reallocarray(table->cells, capacity, sizeof *cells);
        if (!cells) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    bora_text *cell = &table->cells[table->n_cells++];
    *cell = (bora_text){0};
    bora_text_append_safe(cell, bytes, size, BORA_TEXT_ONE_LINE);
    bora_text_append_string(cell, "");
    table->failed = table->failed || cell->failed;
}

void bora_table_add(bora_table *table, const char *cell)
{
    bora_table_add_text(table, cell, strlen(cell));
}

void bora_table_addf(bora_table *table, const char *format, ...)
{
    char *cell = NULL;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&cell, format, args);
    va_end(args);
    if (size < 0) {
        table->failed = true;
        return;
    }
    bora_table_add_text(table, cell, (size_t)size);
    free(cell);
}

void bora_table_add_value(bora_table *table, const bora_client_value *value)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    if (bora_client_value_kind(value) == BORA_CLIENT_VALUE_UINT)
        bora_table_add(table, bora_show_count(bora_client_value_uint(value, 0)).text);
    else if (size > 0)
        bora_table_add_text(table, text, size);
    else
        bora_table_add(table, "-");
}

static void print_cell(FILE *file, const char *bytes, size_t size, size_t width, bool is_number, bool is_last)
{
    size_t own = bora_text_width(bytes, size);
    int pad = own < width ? (int)(width - own) : 0;
    if (is_number)
        (void)fprintf(file, "%*s", pad, "");
    (void)fwrite(bytes, 1, size, file);
    if (!is_number && !is_last)
        (void)fprintf(file, "%*s", pad, "");
    (void)fprintf(file, "%*s", is_last ? 0 : GAP, "");
}

static bool write_table(const bora_table *table, FILE *file, bool has_colours)
{
    if (table->failed)
        return false;
    size_t widths[BORA_TABLE_COLUMNS_MAX] = {0};
    size_t n = table->n_columns;
    for (size_t i = 0; i < n; i++)
        widths[i] = table->columns[i].title ? strlen(table->columns[i].title) : 0;
    for (size_t i = 0; i < table->n_cells; i++) {
        size_t width = bora_text_width(table->cells[i].data, table->cells[i].size);
        widths[i % n] = width > widths[i % n] ? width : widths[i % n];
    }
    if (table->columns[0].title) {
        (void)fputs(has_colours ? BOLD : "", file);
        for (size_t i = 0; i < n; i++) {
            const char *title = table->columns[i].title ? table->columns[i].title : "";
            print_cell(file, title, strlen(title), widths[i], table->columns[i].is_number, i + 1 == n);
        }
        (void)fputs(has_colours ? NORMAL "\n" : "\n", file);
    }
    for (size_t i = 0; i < table->n_cells; i++) {
        bool is_last = i % n + 1 == n;
        print_cell(file, table->cells[i].data, table->cells[i].size, widths[i % n], table->columns[i % n].is_number,
                   is_last);
        if (is_last)
            (void)fputc('\n', file);
    }
    return true;
}

bool bora_table_print(const bora_table *table, const bora_print *print)
{
    return write_table(table, stdout, print->has_colours);
}

bool bora_table_write(const bora_table *table, FILE *file)
{
    return write_table(table, file, false);
}

/* ---- numbers ---- */

bora_shown bora_show_count(uint64_t count)
{
    bora_shown shown;
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            shown.text[at++] = ',';
        shown.text[at++] = digits[i];
    }
    shown.text[at] = '\0';
    return shown;
}

bora_shown bora_show_bytes(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    bora_shown shown;
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(shown.text, sizeof shown.text, "%.*f %s", unit ? 1 : 0, value, units[unit]);
    return shown;
}

bora_shown bora_show_duration(uint64_t ms)
{
    bora_shown shown;
    uint64_t s = ms / 1000;
    if (ms < 1000)
        (void)snprintf(shown.text, sizeof shown.text, "%" PRIu64 " ms", ms);
    else if (ms < 10000)
        (void)snprintf(shown.text, sizeof shown.text, "%.1f s", (double)ms / 1000);
    else if (s < 60)
        (void)snprintf(shown.text, sizeof shown.text, "%" PRIu64 " s", s);
    else if (s < 3600)
        (void)snprintf(shown.text, sizeof shown.text, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(shown.text, sizeof shown.text, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
    else
        (void)snprintf(shown.text, sizeof shown.text, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
    return shown;
}

bora_shown bora_show_time(uint64_t since_ms)
{
    bora_shown shown = {"-"};
    time_t seconds = (time_t)(since_ms / 1000);
    struct tm parts;
    if (since_ms > 0 && localtime_r(&seconds, &parts))
        (void)strftime(shown.text, sizeof shown.text, "%Y-%m-%d %H:%M", &parts);
    return shown;
}

const char *bora_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}
