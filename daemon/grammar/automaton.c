/* From a builder to a grammar: which rules may be empty, which begin with which, how deep each state has to go; edges
 * that lead nowhere are dropped. All of that is linear in states and edges; distances.c comes last. */
#include "grammar/automaton.h"

#include "base/memory.h"
#include "grammar/distances.h"

#include <string.h>

/* What is known on the way. Lists are in the style of firsts: those of i are list[first[i]] .. list[first[i + 1]]. */
typedef struct analysis {
    const bora_builder *builder;
    size_t n_states, n_edges, n_rules;
    uint32_t *out_first, *out; /* edges by the state they leave */
    uint32_t *in_first, *in;   /* edges by the state they lead to */
    uint32_t *use_first, *use; /* edges that run a rule, by rule; the rest under n_rules */
    uint32_t *rule_at;         /* [n_states] the rule that gets here without reading anything; BORA_NONE */
    uint32_t *rule_of_final;   /* [n_states] BORA_NONE if it is none */
    uint32_t *rule_of_entry;
    bool *is_empty;           /* [n_rules] the rule has the empty text */
    uint32_t *queue;          /* [max(n_states, n_rules)] */
    uint32_t *ranks;          /* [n_rules] */
    uint32_t *counts;         /* [n_rules] */
    uint8_t *heights, *flags; /* [n_states] */
    uint32_t *buckets;        /* [n_edges * 2 + n_states] states to look at, of this height and the next */
} analysis;

static void analysis_release(analysis *a)
{
    void *all[] = {a->out_first, a->out,           a->in_first, a->in,           a->use_first, a->use,
                   a->rule_at,   a->rule_of_final, a->is_empty, a->queue,        a->ranks,     a->counts,
                   a->heights,   a->flags,         a->buckets,  a->rule_of_entry};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(all); i++)
        bora_free(all[i]);
}

static uint32_t key_out(const analysis *a, const bora_build_edge *edge)
{
    (void)a;
    return edge->from;
}

static uint32_t key_in(const analysis *a, const bora_build_edge *edge)
{
    (void)a;
    return edge->to;
}

static uint32_t key_use(const analysis *a, const bora_build_edge *edge)
{
    return edge->kind == BORA_EDGE_RULE ? edge->rule : (uint32_t)a->n_rules;
}

/* Edges sorted by a key below n_keys, in the order they were added. */
static void list_fill(const analysis *a, uint32_t (*key)(const analysis *, const bora_build_edge *), size_t n_keys,
                      uint32_t *first, uint32_t *list)
{
    for (size_t e = 0; e < a->n_edges; e++)
        first[key(a, &a->builder->edges[e]) + 1]++;
    for (size_t i = 0; i < n_keys; i++)
        first[i + 1] += first[i];
    for (size_t e = a->n_edges; e-- > 0;) /* from the end: first[k + 1] is used up to where it began */
        list[--first[key(a, &a->builder->edges[e]) + 1]] = (uint32_t)e;
    for (size_t i = 0; i < n_keys; i++)
        first[i] = first[i + 1];
    first[n_keys] = (uint32_t)a->n_edges;
}

static bora_status analysis_init(analysis *a, const bora_builder *builder, bora_error *err)
{
    *a = (analysis){.builder = builder,
                    .n_states = builder->n_states,
                    .n_edges = builder->n_edges,
                    .n_rules = builder->n_rules};
    size_t n_states = a->n_states, n_edges = a->n_edges, n_rules = a->n_rules;
    a->out_first = bora_calloc(n_states + 2, sizeof *a->out_first);
    a->out = bora_calloc(n_edges, sizeof *a->out);
    a->in_first = bora_calloc(n_states + 2, sizeof *a->in_first);
    a->in = bora_calloc(n_edges, sizeof *a->in);
    a->use_first = bora_calloc(n_rules + 3, sizeof *a->use_first);
    a->use = bora_calloc(n_edges, sizeof *a->use);
    a->rule_at = bora_alloc(n_states * sizeof *a->rule_at);
    a->rule_of_final = bora_alloc(n_states * sizeof *a->rule_of_final);
    a->rule_of_entry = bora_alloc(n_states * sizeof *a->rule_of_entry);
    a->is_empty = bora_calloc(n_rules, sizeof *a->is_empty);
    a->queue = bora_calloc(n_states + n_rules, sizeof *a->queue);
    a->ranks = bora_calloc(n_rules, sizeof *a->ranks);
    a->counts = bora_calloc(n_rules, sizeof *a->counts);
    a->heights = bora_alloc(n_states);
    a->flags = bora_calloc(n_states, 1);
    a->buckets = bora_calloc(n_states * 2, sizeof *a->buckets);
    if (!a->out_first || !a->out || !a->in_first || !a->in || !a->use_first || !a->use || !a->rule_at ||
        !a->rule_of_final || !a->rule_of_entry || !a->is_empty || !a->queue || !a->ranks || !a->counts || !a->heights ||
        !a->flags || !a->buckets)
        return bora_fail(err, BORA_E_NOMEM, "grammar of %zu states and %zu edges", n_states, n_edges);
    memset(a->rule_at, 0xff, n_states * sizeof *a->rule_at);
    memset(a->rule_of_final, 0xff, n_states * sizeof *a->rule_of_final);
    memset(a->rule_of_entry, 0xff, n_states * sizeof *a->rule_of_entry);
    memset(a->heights, BORA_HEIGHT_NEVER, n_states);
    for (uint32_t r = 0; r < n_rules; r++) {
        a->rule_of_final[builder->rules[r].final] = r;
        a->rule_of_entry[builder->rules[r].entry] = r;
        a->flags[builder->rules[r].final] = BORA_STATE_FINAL | BORA_STATE_TAIL;
    }
    list_fill(a, key_out, n_states, a->out_first, a->out);
    list_fill(a, key_in, n_states, a->in_first, a->in);
    list_fill(a, key_use, n_rules + 1, a->use_first, a->use);
    return BORA_OK;
}

/* ---- what is reached without reading: empty rules, and rules that begin with rules ------------------------------- */

static void reach(analysis *a, size_t *n, uint32_t state, uint32_t rule)
{
    if (a->rule_at[state] != BORA_NONE)
        return; /* a state belongs to one rule */
    a->rule_at[state] = rule;
    a->queue[(*n)++] = state;
}

static void find_empty_rules(analysis *a)
{
    const bora_build_edge *edges = a->builder->edges;
    size_t n = 0;
    for (uint32_t r = 0; r < a->n_rules; r++)
        reach(a, &n, a->builder->rules[r].entry, r);
    for (size_t i = 0; i < n; i++) {
        uint32_t state = a->queue[i], rule = a->rule_at[state];
        for (uint32_t o = a->out_first[state]; o < a->out_first[state + 1]; o++) {
            const bora_build_edge *edge = &edges[a->out[o]];
            if (edge->kind == BORA_EDGE_NOTHING || (edge->kind == BORA_EDGE_RULE && a->is_empty[edge->rule]))
                reach(a, &n, edge->to, rule);
        }
        uint32_t ended = a->rule_of_final[state];
        if (ended == BORA_NONE || a->is_empty[ended])
            continue;
        a->is_empty[ended] = true;
        for (uint32_t u = a->use_first[ended]; u < a->use_first[ended + 1]; u++) {
            const bora_build_edge *edge = &edges[a->use[u]];
            if (a->rule_at[edge->from] != BORA_NONE)
                reach(a, &n, edge->to, a->rule_at[edge->from]);
        }
    }
}

static bool begins_with(const analysis *a, const bora_build_edge *edge)
{
    return edge->kind == BORA_EDGE_RULE && a->rule_at[edge->from] != BORA_NONE;
}

/* Ranks by taking away, again and again, a rule that no other begins with. What is left goes in a circle. */
static bora_status rank_rules(analysis *a, bora_error *err)
{
    const bora_build_edge *edges = a->builder->edges;
    for (size_t e = 0; e < a->n_edges; e++)
        if (begins_with(a, &edges[e]))
            a->counts[edges[e].rule]++;
    size_t n = 0;
    for (uint32_t r = 0; r < a->n_rules; r++)
        if (a->counts[r] == 0)
            a->queue[n++] = r;
    /* The edges of a rule's beginning are found by walking its reached states: sort those by rule once. */
    uint32_t *next = a->buckets, *head = a->buckets + a->n_states; /* n_rules <= n_states: each has two */
    memset(head, 0xff, a->n_rules * sizeof *head);
    for (uint32_t s = 0; s < a->n_states; s++)
        if (a->rule_at[s] != BORA_NONE) {
            next[s] = head[a->rule_at[s]];
            head[a->rule_at[s]] = s;
        }
    for (size_t i = 0; i < n; i++) {
        a->ranks[a->queue[i]] = (uint32_t)i;
        for (uint32_t s = head[a->queue[i]]; s != BORA_NONE; s = next[s])
            for (uint32_t o = a->out_first[s]; o < a->out_first[s + 1]; o++)
                if (begins_with(a, &edges[a->out[o]]) && --a->counts[edges[a->out[o]].rule] == 0)
                    a->queue[n++] = edges[a->out[o]].rule;
    }
    for (uint32_t r = 0; n < a->n_rules && r < a->n_rules; r++)
        if (a->counts[r] > 0) {
            char name[160];
            a->builder->describe(a->builder->describe_arg, r, name, sizeof name);
            return bora_fail(err, BORA_E_INVAL, "%s begins with itself (directly or through others)", name);
        }
    return BORA_OK;
}

/* ---- heights ----------------------------------------------------------------------------------------------------- */

/* A state that only goes on to nothing but its rule's end: a rule run before it needs no place to come back to. */
static void find_tails(analysis *a)
{
    size_t n = 0;
    for (uint32_t r = 0; r < a->n_rules; r++)
        a->queue[n++] = a->builder->rules[r].final;
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = a->in_first[a->queue[i]]; k < a->in_first[a->queue[i] + 1]; k++) {
            const bora_build_edge *edge = &a->builder->edges[a->in[k]];
            uint32_t from = edge->from;
            bool only = a->out_first[from + 1] - a->out_first[from] == 1;
            if (edge->kind == BORA_EDGE_NOTHING && only && !(a->flags[from] & BORA_STATE_TAIL)) {
                a->flags[from] |= BORA_STATE_TAIL;
                a->queue[n++] = from;
            }
        }
}

typedef struct levels {
    uint32_t *now, *later; /* states whose height is this one, or the next */
    size_t n_now, n_later;
} levels;

/* Heights are found in order, so the first one found is the least. later may hold a state twice at most: it is pushed
 * with the next height once, and may get this one after that. */
static void relax(analysis *a, levels *l, uint32_t state, unsigned height, unsigned current)
{
    if (height >= a->heights[state] || height > BORA_GRAMMAR_DEPTH_MAX)
        return;
    a->heights[state] = (uint8_t)height;
    if (height == current)
        l->now[l->n_now++] = state;
    else
        l->later[l->n_later++] = state;
}

/* What a run of an edge's rule costs when both the rule and what follows are known. */
static void relax_call(analysis *a, levels *l, const bora_build_edge *edge, unsigned current)
{
    unsigned inside = a->heights[a->builder->rules[edge->rule].entry], after = a->heights[edge->to];
    if (inside > current || after > current) /* one is not known yet, and will come by here itself */
        return;
    unsigned nested = inside + (a->flags[edge->to] & BORA_STATE_TAIL ? 0 : 1);
    relax(a, l, edge->from, nested > after ? nested : after, current);
}

static void find_heights(analysis *a)
{
    const bora_build_edge *edges = a->builder->edges;
    levels l = {.now = a->buckets, .later = a->buckets + a->n_states};
    for (uint32_t r = 0; r < a->n_rules; r++)
        relax(a, &l, a->builder->rules[r].final, 0, 0);
    for (unsigned current = 0; current <= BORA_GRAMMAR_DEPTH_MAX && (l.n_now || l.n_later); current++) {
        for (size_t i = 0; i < l.n_now; i++) {
            uint32_t state = l.now[i];
            if (a->heights[state] != current)
                continue; /* it was found at a lower height after it was put off */
            for (uint32_t k = a->in_first[state]; k < a->in_first[state + 1]; k++) {
                const bora_build_edge *edge = &edges[a->in[k]];
                if (edge->kind == BORA_EDGE_RULE && !a->is_empty[edge->rule])
                    relax_call(a, &l, edge, current);
                else /* an empty rule need not be run */
                    relax(a, &l, edge->from, current, current);
            }
            uint32_t rule = a->rule_of_entry[state];
            for (uint32_t u = rule == BORA_NONE ? 0 : a->use_first[rule];
                 rule != BORA_NONE && u < a->use_first[rule + 1]; u++)
                relax_call(a, &l, &edges[a->use[u]], current);
        }
        uint32_t *spare = l.now;
        l.now = l.later;
        l.n_now = l.n_later;
        l.later = spare;
        l.n_later = 0;
    }
}

/* ---- the result -------------------------------------------------------------------------------------------------- */

static bool leads_on(const analysis *a, const bora_build_edge *edge)
{
    return a->heights[edge->to] != BORA_HEIGHT_NEVER &&
           (edge->kind != BORA_EDGE_RULE || a->heights[a->builder->rules[edge->rule].entry] != BORA_HEIGHT_NEVER);
}

static void fill_classes(bora_grammar *grammar)
{
    bool begins[257] = {false};
    for (uint32_t e = 0; e < grammar->n_edges; e++)
        if (grammar->edges[e].kind == BORA_EDGE_BYTE) {
            begins[grammar->edges[e].lo] = true;
            begins[grammar->edges[e].hi + 1] = true;
        }
    unsigned class = 0;
    for (unsigned b = 0; b < 256; b++) {
        if (b > 0 && begins[b])
            class ++;
        grammar->classes[b] = (uint8_t) class;
    }
    grammar->n_classes = class + 1;
}

static bora_status grammar_fill(const analysis *a, bora_grammar *grammar, bora_error *err)
{
    size_t n_kept = 0;
    for (size_t e = 0; e < a->n_edges; e++)
        n_kept += leads_on(a, &a->builder->edges[e]);
    grammar->edges = bora_calloc(n_kept, sizeof *grammar->edges);
    grammar->firsts = bora_calloc(a->n_states + 1, sizeof *grammar->firsts);
    grammar->heights = bora_alloc(a->n_states);
    grammar->flags = bora_alloc(a->n_states);
    grammar->rules = bora_calloc(a->n_rules, sizeof *grammar->rules);
    if (!grammar->edges || !grammar->firsts || !grammar->heights || !grammar->flags || !grammar->rules)
        return bora_fail(err, BORA_E_NOMEM, "grammar of %zu states and %zu edges", a->n_states, n_kept);
    grammar->n_states = (uint32_t)a->n_states;
    grammar->n_rules = (uint32_t)a->n_rules;
    memcpy(grammar->heights, a->heights, a->n_states);
    memcpy(grammar->flags, a->flags, a->n_states);
    for (size_t s = 0; s < a->n_states; s++) {
        for (uint32_t o = a->out_first[s]; o < a->out_first[s + 1]; o++) {
            const bora_build_edge *edge = &a->builder->edges[a->out[o]];
            if (!leads_on(a, edge))
                continue;
            grammar->edges[grammar->n_edges++] =
                (bora_edge){.to = edge->to,
                            .rule = edge->rule,
                            .kind = edge->kind,
                            .lo = edge->lo,
                            .hi = edge->hi,
                            .may_vanish = edge->kind == BORA_EDGE_RULE && a->is_empty[edge->rule]};
        }
        grammar->firsts[s + 1] = grammar->n_edges;
    }
    for (size_t r = 0; r < a->n_rules; r++)
        grammar->rules[r] = (bora_rule){a->builder->rules[r].entry, a->builder->rules[r].final, a->ranks[r]};
    fill_classes(grammar);
    return BORA_OK;
}

static void grammar_free(bora_grammar *grammar)
{
    bora_free(grammar->edges);
    bora_free(grammar->firsts);
    bora_free(grammar->heights);
    bora_free(grammar->flags);
    bora_free(grammar->rules);
    bora_free(grammar->distances);
    bora_free(grammar->distance_firsts);
    bora_free(grammar);
}

static bora_status analyse(analysis *a, bora_error *err)
{
    find_empty_rules(a);
    bora_status st = rank_rules(a, err);
    if (st != BORA_OK)
        return st;
    find_tails(a);
    find_heights(a);
    if (a->heights[a->builder->rules[0].entry] == BORA_HEIGHT_NEVER)
        return bora_fail(err, BORA_E_INVAL, "no text fits it (within %u nested rules)", BORA_GRAMMAR_DEPTH_MAX);
    return BORA_OK;
}

bora_status bora_builder_finish(bora_builder *builder, bora_grammar **ret_grammar, bora_error *err)
{
    if (builder->status != BORA_OK)
        return bora_fail(err, builder->status, "%s", builder->error.message);
    BORA_CLEANUP(analysis_release) analysis a = {0};
    bora_status st = analysis_init(&a, builder, err);
    if (st == BORA_OK)
        st = analyse(&a, err);
    if (st != BORA_OK)
        return st;
    bora_grammar *grammar = bora_calloc(1, sizeof *grammar);
    if (!grammar)
        return bora_fail(err, BORA_E_NOMEM, "grammar");
    atomic_init(&grammar->refs, 1);
    st = grammar_fill(&a, grammar, err);
    if (st == BORA_OK)
        st = bora_distances_find(grammar, err);
    if (st != BORA_OK) {
        grammar_free(grammar);
        return st;
    }
    *ret_grammar = grammar;
    return BORA_OK;
}

bora_grammar *bora_grammar_ref(bora_grammar *grammar)
{
    (void)atomic_fetch_add_explicit(&grammar->refs, 1, memory_order_relaxed);
    return grammar;
}

void bora_grammar_unref(bora_grammar *grammar)
{
    if (grammar && atomic_fetch_sub_explicit(&grammar->refs, 1, memory_order_acq_rel) == 1)
        grammar_free(grammar);
}

size_t bora_grammar_size(const bora_grammar *grammar)
{
    return sizeof *grammar + grammar->n_edges * sizeof *grammar->edges +
           grammar->n_states * (sizeof *grammar->firsts + 2) + sizeof *grammar->firsts +
           grammar->n_rules * sizeof *grammar->rules +
           grammar->distance_firsts[grammar->n_states] * sizeof *grammar->distances +
           (grammar->n_states + (size_t)2) * sizeof *grammar->distance_firsts;
}
