/* Output for people: aligned tables, numbers with units, notes and complaints. */
#ifndef BORA_BORA_PRINT_H
#define BORA_BORA_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <bora/client.h>

#include "text.h"

/* What is known about the two outputs. */
typedef struct bora_print {
    bool out_is_terminal, err_is_terminal;
    bool has_colours; /* stdout is a terminal, NO_COLOR is not set and TERM is not dumb */
} bora_print;

bora_print bora_print_find(void);

/* Text that came from a model or a person, to stdout: as it is to a file or pipe, made safe for a terminal. */
void bora_print_text(const bora_print *print, const char *bytes, size_t size);
/* The same with every line pushed in by two columns; ends with a newline. */
void bora_print_indented(const bora_print *print, const char *bytes, size_t size);

/* A line beside the output, on stderr and always made safe: what a person should know, and what went wrong. */
__attribute__((format(printf, 2, 3))) void bora_print_note(const bora_print *print, const char *format, ...);
__attribute__((format(printf, 1, 2))) void bora_print_complaint(const char *format, ...);

/* ---- tables ---------------------------------------------------------------------------------------------- */

#define BORA_TABLE_COLUMNS_MAX 8

typedef struct bora_column {
    const char *title; /* NULL in all columns: no line of titles */
    bool is_number;    /* to the right */
} bora_column;

/* Cells are added row by row and made safe. Caller-owned; begin with bora_table_init. */
typedef struct bora_table {
    bora_column columns[BORA_TABLE_COLUMNS_MAX];
    size_t n_columns;
    bora_text *cells; /* [n_cells] */
    size_t n_cells, capacity;
    bool failed; /* no memory */
} bora_table;

void bora_table_init(bora_table *table, const bora_column *columns, size_t n_columns);
void bora_table_release(bora_table *table);
void bora_table_add(bora_table *table, const char *cell);
void bora_table_add_text(bora_table *table, const char *bytes, size_t size);
__attribute__((format(printf, 2, 3))) void bora_table_addf(bora_table *table, const char *format, ...);
/* A text or a whole number; "-" if there is none. */
void bora_table_add_value(bora_table *table, const bora_client_value *value);
/* To stdout. false: no memory. */
bool bora_table_print(const bora_table *table, const bora_print *print);
/* To a file, without colours. */
bool bora_table_write(const bora_table *table, FILE *file);

/* ---- numbers ----------------------------------------------------------------------------------------------- */

typedef struct bora_shown {
    char text[48];
} bora_shown;

bora_shown bora_show_count(uint64_t count);   /* 1,234,567 */
bora_shown bora_show_bytes(uint64_t bytes);   /* 1.5 GiB */
bora_shown bora_show_duration(uint64_t ms);   /* 3 h 12 min, 45 s, 2.5 s, 80 ms */
bora_shown bora_show_time(uint64_t since_ms); /* 2025-06-30 14:05, local time */

/* "s" unless count is 1. */
const char *bora_plural(uint64_t count);

#endif
