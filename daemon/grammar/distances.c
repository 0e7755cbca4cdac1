/* Shortest ways to the end of every rule, for each number of rules that may be nested (a level), from none up to the
 * bound: Dijkstra (1959) backwards from the rules' ends, where running a rule costs what its entry costs a level below.
 * A level looks only at what the one before has changed, so all of them together cost little more than one.
 *
 * A grammar could be made to change most states at most levels. Then, after as many changes as there are states, a
 * state keeps the distance that it has. That is still the length of a way that is there: too long, never too short; and
 * it still falls by one with each byte of that way. */
#include "grammar/distances.h"

#include "base/memory.h"

#include <string.h>

typedef struct found {
    uint32_t state, n_bytes, nesting;
} found;

/* Lists are in the style of firsts. */
typedef struct measure {
    const bora_grammar *grammar;
    uint32_t *from;            /* [n_edges] the state an edge leaves */
    uint32_t *in_first, *in;   /* edges by the state they lead to */
    uint32_t *use_first, *use; /* edges that run a rule, by rule */
    uint32_t *rule_of_entry;   /* [n_states] BORA_NONE if it is none */
    uint32_t *below, *now;     /* [n_states] distances at the level below and at this one */
    bool *is_new;              /* [n_states] changed at this level */
    uint32_t *changed;         /* [n_states] those that are */
    uint32_t *changed_below;   /* [n_states] those of the level below */
    size_t n_changed, n_changed_below;
    size_t n_again; /* changes of states that had a distance at a level below */
    uint64_t *heap; /* [n_heap] distance and state; the least first */
    size_t n_heap, heap_capacity;
    found *all; /* [n_all] by level; at most two for each state */
    size_t n_all;
} measure;

static void measure_release(measure *m)
{
    void *all[] = {m->from,          m->in_first, m->in,     m->use_first, m->use,
                   m->rule_of_entry, m->below,    m->is_new, m->now,       m->changed,
                   m->changed_below, m->heap,     m->all};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(all); i++)
        bora_free(all[i]);
}

/* ---- who leads where --------------------------------------------------------------------------------------------- */

/* first holds counts at [key + 1]; afterwards the lists' beginnings. */
static void sum_up(uint32_t *first, size_t n_keys)
{
    for (size_t i = 0; i < n_keys; i++)
        first[i + 1] += first[i];
}

static void fill_lists(measure *m)
{
    const bora_grammar *g = m->grammar;
    for (uint32_t s = 0; s < g->n_states; s++)
        for (uint32_t e = g->firsts[s]; e < g->firsts[s + 1]; e++)
            m->from[e] = s;
    /* Counted two places further on, so that filling a list moves the place between into its beginning. */
    for (uint32_t e = 0; e < g->n_edges; e++) {
        m->in_first[g->edges[e].to + 2]++;
        if (g->edges[e].kind == BORA_EDGE_RULE)
            m->use_first[g->edges[e].rule + 2]++;
    }
    sum_up(m->in_first, g->n_states + 1);
    sum_up(m->use_first, g->n_rules + 1);
    for (uint32_t e = 0; e < g->n_edges; e++) {
        m->in[m->in_first[g->edges[e].to + 1]++] = e;
        if (g->edges[e].kind == BORA_EDGE_RULE)
            m->use[m->use_first[g->edges[e].rule + 1]++] = e;
    }
    for (uint32_t r = 0; r < g->n_rules; r++)
        m->rule_of_entry[g->rules[r].entry] = r;
}

static bora_status measure_init(measure *m, const bora_grammar *g, bora_error *err)
{
    size_t n = g->n_states;
    *m = (measure){.grammar = g};
    m->from = bora_calloc(g->n_edges, sizeof *m->from);
    m->in_first = bora_calloc(n + 2, sizeof *m->in_first);
    m->in = bora_calloc(g->n_edges, sizeof *m->in);
    m->use_first = bora_calloc(g->n_rules + (size_t)2, sizeof *m->use_first);
    m->use = bora_calloc(g->n_edges, sizeof *m->use);
    m->rule_of_entry = bora_alloc(n * sizeof *m->rule_of_entry);
    m->below = bora_alloc(n * sizeof *m->below);
    m->now = bora_alloc(n * sizeof *m->now);
    m->is_new = bora_calloc(n, sizeof *m->is_new);
    m->changed = bora_calloc(n, sizeof *m->changed);
    m->changed_below = bora_calloc(n, sizeof *m->changed_below);
    m->all = bora_calloc(2 * n, sizeof *m->all);
    if (!m->from || !m->in_first || !m->in || !m->use_first || !m->use || !m->rule_of_entry || !m->below || !m->now ||
        !m->is_new || !m->changed || !m->changed_below || !m->all)
        return bora_fail(err, BORA_E_NOMEM, "distances of %zu states", n);
    memset(m->rule_of_entry, 0xff, n * sizeof *m->rule_of_entry);
    memset(m->below, 0xff, n * sizeof *m->below); /* BORA_DISTANCE_NEVER */
    memset(m->now, 0xff, n * sizeof *m->now);
    fill_lists(m);
    return BORA_OK;
}

/* ---- the nearest first ------------------------------------------------------------------------------------------- */

static bora_status heap_push(measure *m, uint64_t key, bora_error *err)
{
    if (m->n_heap == m->heap_capacity) {
        size_t capacity = m->heap_capacity ? m->heap_capacity * 2 : 64;
        uint64_t *heap = bora_realloc(m->heap, capacity, sizeof *heap);
        if (!heap)
            return bora_fail(err, BORA_E_NOMEM, "distances of %zu states", capacity);
        m->heap = heap;
        m->heap_capacity = capacity;
    }
    size_t at = m->n_heap++;
    for (; at > 0 && key < m->heap[(at - 1) / 2]; at = (at - 1) / 2)
        m->heap[at] = m->heap[(at - 1) / 2];
    m->heap[at] = key;
    return BORA_OK;
}

static uint64_t heap_pop(measure *m)
{
    uint64_t top = m->heap[0], last = m->heap[--m->n_heap];
    size_t at = 0;
    for (size_t child = 1; child < m->n_heap; child = 2 * at + 1) {
        child += child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child];
        if (last <= m->heap[child])
            break;
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = last;
    return top;
}

/* ---- levels ------------------------------------------------------------------------------------------------------ */

/* A way of n_bytes from state has been seen. */
static bora_status relax(measure *m, uint32_t state, uint32_t n_bytes, bora_error *err)
{
    if (n_bytes >= m->now[state])
        return BORA_OK;
    if (!m->is_new[state]) {
        bool again = m->below[state] != BORA_DISTANCE_NEVER;
        if (again && m->n_again == m->grammar->n_states)
            return BORA_OK;
        m->n_again += again;
        m->is_new[state] = true;
        m->changed[m->n_changed++] = state;
    }
    m->now[state] = n_bytes;
    return heap_push(m, (uint64_t)n_bytes << 32 | state, err);
}

static bool is_tail(const measure *m, uint32_t state)
{
    return m->grammar->flags[state] & BORA_STATE_TAIL;
}

/* Along an edge, back from where it leads. */
static bora_status relax_edge(measure *m, uint32_t e, bora_error *err)
{
    const bora_edge *edge = &m->grammar->edges[e];
    uint32_t after = m->now[edge->to];
    if (edge->kind != BORA_EDGE_RULE)
        return relax(m, m->from[e], bora_distance_add(after, edge->kind == BORA_EDGE_BYTE), err);
    uint32_t entry = m->grammar->rules[edge->rule].entry;
    /* Nothing comes after it: it is run in the place's stead. Else one level of nesting is taken. */
    uint32_t inside = is_tail(m, edge->to) ? m->now[entry] : m->below[entry];
    bora_status st = relax(m, m->from[e], bora_distance_add(inside, after), err);
    return st == BORA_OK && edge->may_vanish ? relax(m, m->from[e], after, err) : st;
}

static bora_status relax_uses(measure *m, uint32_t state, bool of_tails, bora_error *err)
{
    uint32_t rule = m->rule_of_entry[state];
    bora_status st = BORA_OK;
    for (uint32_t u = rule == BORA_NONE ? 0 : m->use_first[rule];
         rule != BORA_NONE && u < m->use_first[rule + 1] && st == BORA_OK; u++)
        if (is_tail(m, m->grammar->edges[m->use[u]].to) == of_tails)
            st = relax_edge(m, m->use[u], err);
    return st;
}

static bora_status settle(measure *m, bora_error *err)
{
    bora_status st = BORA_OK;
    while (st == BORA_OK && m->n_heap > 0) {
        uint64_t key = heap_pop(m);
        uint32_t state = (uint32_t)key;
        if (m->now[state] != key >> 32)
            continue; /* a shorter way was found after this one */
        for (uint32_t i = m->in_first[state]; i < m->in_first[state + 1] && st == BORA_OK; i++)
            st = relax_edge(m, m->in[i], err);
        if (st == BORA_OK)
            st = relax_uses(m, state, true, err);
    }
    return st;
}

static void level_end(measure *m, uint32_t level)
{
    for (size_t i = 0; i < m->n_changed; i++) {
        uint32_t state = m->changed[i];
        m->all[m->n_all++] = (found){state, m->now[state], level};
        m->below[state] = m->now[state];
        m->is_new[state] = false;
    }
    uint32_t *spare = m->changed_below;
    m->changed_below = m->changed;
    m->n_changed_below = m->n_changed;
    m->changed = spare;
    m->n_changed = 0;
}

static bora_status find_all(measure *m, bora_error *err)
{
    bora_status st = BORA_OK;
    for (uint32_t r = 0; r < m->grammar->n_rules && st == BORA_OK; r++)
        st = relax(m, m->grammar->rules[r].final, 0, err);
    for (uint32_t level = 0; level <= BORA_GRAMMAR_DEPTH_MAX && st == BORA_OK; level++) {
        for (size_t i = 0; i < m->n_changed_below && st == BORA_OK; i++)
            st = relax_uses(m, m->changed_below[i], false, err);
        if (st == BORA_OK)
            st = settle(m, err);
        level_end(m, level);
        if (m->n_changed_below == 0)
            break;
    }
    return st;
}

bora_status bora_distances_find(bora_grammar *grammar, bora_error *err)
{
    BORA_CLEANUP(measure_release) measure m = {0};
    bora_status st = measure_init(&m, grammar, err);
    if (st == BORA_OK)
        st = find_all(&m, err);
    if (st != BORA_OK)
        return st;
    grammar->distances = bora_calloc(m.n_all, sizeof *grammar->distances);
    grammar->distance_firsts = bora_calloc(grammar->n_states + (size_t)2, sizeof *grammar->distance_firsts);
    if (!grammar->distances || !grammar->distance_firsts)
        return bora_fail(err, BORA_E_NOMEM, "distances of %u states", grammar->n_states);
    uint32_t *firsts = grammar->distance_firsts;
    for (size_t i = 0; i < m.n_all; i++)
        firsts[m.all[i].state + 2]++;
    sum_up(firsts, grammar->n_states + 1);
    for (size_t i = 0; i < m.n_all; i++)
        grammar->distances[firsts[m.all[i].state + 1]++] = (bora_distance){m.all[i].n_bytes, m.all[i].nesting};
    return BORA_OK;
}
