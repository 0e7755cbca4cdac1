#include "grammar/builder.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void bora_builder_release(bora_builder *builder)
{
    bora_free(builder->edges);
    bora_free(builder->heads);
    bora_free(builder->rules);
    *builder = (bora_builder){0};
}

void bora_builder_fail(bora_builder *builder, bora_status status, const char *format, ...)
{
    if (builder->status != BORA_OK)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(builder->error.message, sizeof builder->error.message, format, args); /* cut is fine */
    va_end(args);
    builder->status = status;
}

/* Room for one more of n elements, of max at most. */
static bool grow(bora_builder *builder, void **elements, size_t n, size_t *capacity, size_t size, size_t max,
                 const char *what)
{
    if (builder->status != BORA_OK)
        return false;
    if (n >= max) {
        bora_builder_fail(builder, BORA_E_LIMIT, "the grammar needs more than %zu %s", max, what);
        return false;
    }
    if (n < *capacity)
        return true;
    size_t larger = *capacity ? *capacity * 2 : 64;
    void *memory = bora_realloc(*elements, larger, size);
    if (!memory) {
        bora_builder_fail(builder, BORA_E_NOMEM, "grammar of %zu %s", larger, what);
        return false;
    }
    *elements = memory;
    *capacity = larger;
    return true;
}

uint32_t bora_builder_state(bora_builder *builder)
{
    void *heads = builder->heads;
    bool ok = grow(builder, &heads, builder->n_states, &builder->states_capacity, sizeof *builder->heads,
                   BORA_GRAMMAR_STATES_MAX, "states");
    builder->heads = heads;
    if (!ok)
        return 0;
    builder->heads[builder->n_states] = BORA_NONE;
    return (uint32_t)builder->n_states++;
}

uint32_t bora_builder_rule(bora_builder *builder)
{
    void *rules = builder->rules;
    bool ok = grow(builder, &rules, builder->n_rules, &builder->rules_capacity, sizeof *builder->rules,
                   BORA_GRAMMAR_RULES_MAX, "rules");
    builder->rules = rules;
    if (!ok)
        return 0;
    uint32_t entry = bora_builder_state(builder), final = bora_builder_state(builder);
    builder->rules[builder->n_rules] = (bora_build_rule){entry, final};
    return (uint32_t)builder->n_rules++;
}

static void edge_add(bora_builder *builder, bora_build_edge edge)
{
    void *edges = builder->edges;
    bool ok = grow(builder, &edges, builder->n_edges, &builder->edges_capacity, sizeof *builder->edges,
                   BORA_GRAMMAR_EDGES_MAX, "edges");
    builder->edges = edges;
    if (!ok)
        return;
    edge.next = builder->heads[edge.from];
    builder->heads[edge.from] = (uint32_t)builder->n_edges;
    builder->edges[builder->n_edges++] = edge;
}

void bora_builder_skip(bora_builder *builder, uint32_t from, uint32_t to)
{
    edge_add(builder, (bora_build_edge){.from = from, .to = to, .kind = BORA_EDGE_NOTHING});
}

void bora_builder_bytes(bora_builder *builder, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to)
{
    edge_add(builder, (bora_build_edge){.from = from, .to = to, .kind = BORA_EDGE_BYTE, .lo = lo, .hi = hi});
}

void bora_builder_call(bora_builder *builder, uint32_t from, uint32_t rule, uint32_t to)
{
    edge_add(builder, (bora_build_edge){.from = from, .to = to, .kind = BORA_EDGE_RULE, .rule = rule});
}

void bora_builder_text(bora_builder *builder, uint32_t from, const char *bytes, size_t size, uint32_t to)
{
    if (size == 0) {
        bora_builder_skip(builder, from, to);
        return;
    }
    for (size_t i = 0; i < size && builder->status == BORA_OK; i++) {
        uint32_t next = i + 1 == size ? to : bora_builder_state(builder);
        bora_builder_bytes(builder, from, (uint8_t)bytes[i], (uint8_t)bytes[i], next);
        from = next;
    }
}

void bora_builder_word(bora_builder *builder, uint32_t from, const char *bytes, size_t size, uint32_t to)
{
    for (size_t i = 0; i < size && builder->status == BORA_OK; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        uint32_t next = BORA_NONE;
        for (uint32_t e = builder->heads[from]; e != BORA_NONE && next == BORA_NONE; e = builder->edges[e].next)
            if (builder->edges[e].kind == BORA_EDGE_BYTE && builder->edges[e].lo == byte &&
                builder->edges[e].hi == byte)
                next = builder->edges[e].to;
        if (next == BORA_NONE) {
            next = bora_builder_state(builder);
            bora_builder_bytes(builder, from, byte, byte, next);
        }
        from = next;
    }
    bora_builder_skip(builder, from, to);
}
