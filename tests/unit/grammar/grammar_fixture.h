/* What tests of grammars share: compiling, and reading a text byte by byte. */
#ifndef BORA_TESTS_GRAMMAR_FIXTURE_H
#define BORA_TESTS_GRAMMAR_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "grammar/characters.h"
#include "grammar/machine.h"

#include <stdio.h>
#include <string.h>

typedef enum fit {
    FIT_NOT,   /* no text of the grammar begins so */
    FIT_BEGIN, /* the beginning of some */
    FIT_WHOLE,
} fit;

static inline bora_grammar *notation_compile(const char *text)
{
    bora_error err = {{0}};
    bora_grammar *grammar = NULL;
    if (bora_grammar_from_notation(text, strlen(text), &grammar, &err) != BORA_OK)
        fail_msg("%s: %s", text, err.message);
    return grammar;
}

static inline bora_grammar *schema_compile(const char *text)
{
    bora_error err = {{0}};
    bora_grammar *grammar = NULL;
    if (bora_grammar_from_schema(text, strlen(text), &grammar, &err) != BORA_OK)
        fail_msg("%s: %s", text, err.message);
    return grammar;
}

static inline fit grammar_fit(const bora_grammar *grammar, const char *text, size_t size)
{
    bora_machine *machine = NULL;
    uint32_t set = 0;
    bora_error err = {{0}};
    assert_int_equal(bora_machine_new(grammar, &machine, &err), BORA_OK);
    assert_int_equal(bora_machine_start(machine, &set, &err), BORA_OK);
    for (size_t i = 0; i < size && set != BORA_SET_DEAD; i++)
        if (bora_machine_step(machine, set, (uint8_t)text[i], &set, &err) != BORA_OK)
            fail_msg("'%s', byte %zu: %s", text, i, err.message);
    fit how = set == BORA_SET_DEAD ? FIT_NOT : bora_machine_is_complete(machine, set) ? FIT_WHOLE : FIT_BEGIN;
    bora_machine_free(machine);
    return how;
}

/* The least number of bytes that make text whole; BORA_DISTANCE_NEVER if no text begins so. */
static inline uint32_t grammar_distance(const bora_grammar *grammar, const char *text, size_t size)
{
    bora_machine *machine = NULL;
    uint32_t set = 0;
    bora_error err = {{0}};
    assert_int_equal(bora_machine_new(grammar, &machine, &err), BORA_OK);
    assert_int_equal(bora_machine_start(machine, &set, &err), BORA_OK);
    for (size_t i = 0; i < size && set != BORA_SET_DEAD; i++)
        assert_int_equal(bora_machine_step(machine, set, (uint8_t)text[i], &set, &err), BORA_OK);
    uint32_t distance = bora_machine_distance(machine, set);
    assert_int_equal(distance == 0, bora_machine_is_complete(machine, set));
    assert_int_equal(distance == BORA_DISTANCE_NEVER, set == BORA_SET_DEAD);
    bora_machine_free(machine);
    return distance;
}

/* Each of the texts, NULL at the end, fits so; grammar is dropped. */
static inline void texts_fit(bora_grammar *grammar, const char *source, fit how, const char *const *texts)
{
    for (; *texts; texts++) {
        fit is = grammar_fit(grammar, *texts, strlen(*texts));
        if (is != how)
            fail_msg("%s\n'%s' is %d, not %d", source, *texts, is, how);
    }
    bora_grammar_unref(grammar);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
