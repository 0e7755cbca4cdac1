/* Sets of Unicode characters, and the edges that read one: as UTF-8, or as it is spelled in a JSON string. */
#ifndef BORA_GRAMMAR_CHARACTERS_H
#define BORA_GRAMMAR_CHARACTERS_H

#include "grammar/builder.h"

#define BORA_CHARACTER_MAX 0x10ffffu

typedef struct bora_range {
    uint32_t lo, hi; /* code points, inclusive */
} bora_range;

/* All zero is empty. */
typedef struct bora_characters {
    bora_range *ranges; /* [n] in any order until bora_characters_settle */
    size_t n, capacity;
} bora_characters;

/* How a character is written. */
typedef enum bora_spelling {
    BORA_SPELL_TEXT, /* UTF-8 */
    BORA_SPELL_JSON, /* as JSON strings have it: one way each, the shortest; U+0000 not at all */
} bora_spelling;

void bora_characters_release(bora_characters *set);
bora_status bora_characters_add(bora_characters *set, uint32_t lo, uint32_t hi, bora_error *err);
/* Sorted, joined, without surrogates and what is over the last character; with negate, all others. */
bora_status bora_characters_settle(bora_characters *set, bool negate, bora_error *err);

/* Edges that read one of a settled set. */
void bora_characters_emit(bora_builder *builder, const bora_range *ranges, size_t n, bora_spelling spelling,
                          uint32_t from, uint32_t to);

/* The character that text begins with and its bytes in *ret_size; BORA_NONE if there is no well-formed one. */
uint32_t bora_character_read(const char *text, size_t size, size_t *ret_size);
/* UTF-8 of a character: 1 to 4 bytes. */
size_t bora_character_write(uint32_t character, char bytes[4]);

#endif
