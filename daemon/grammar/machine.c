#include "grammar/machine.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define PLACES_MAX   4096u    /* in one set */
#define SETS_FULL    4096u    /* kept before it is time to forget */
#define POOL_FULL    262144u  /* places or ways kept before that */
#define POOL_MAX     4194304u /* at all, of one kind: 16 or 32 MiB */
#define STEP_UNKNOWN UINT32_MAX
#define BOTTOM       0u /* the node of the start rule: its end is the text's end */

typedef struct place {
    uint32_t state;
    uint32_t node;
} place;

typedef struct node {
    uint32_t first, n; /* into ways: where to go on when the rule ends; sorted */
    uint32_t depth;    /* rules around this one */
    uint32_t distance; /* from behind the rule to the text's end, the shortest of the ways */
} node;

typedef struct set {
    uint32_t first, n; /* into places: those from which a byte can be read; sorted */
    uint32_t distance; /* to the text's end */
    bool is_complete;
} set;

/* A rule to be run, and one place to come back to. Rules are run in the order of their ranks, so that all places that
 * run one are known before it is; different depths keep different nodes. */
typedef struct pending {
    uint32_t rank, depth;
    place back;
    uint32_t rule;
} pending;

/* A growing list of elements. */
typedef struct pool {
    void *elements;
    size_t n, capacity;
} pool;

/* Numbers by a hash of what they stand for; open addressing. */
typedef struct table {
    uint32_t *slots; /* [n_slots] number plus 1; 0 is empty */
    size_t n_slots;  /* a power of two, at most half full */
} table;

struct bora_machine {
    const bora_grammar *grammar;
    pool nodes, ways;  /* node; place */
    pool sets, places; /* set; place */
    pool steps;        /* [sets.n, n_classes] uint32_t */
    table node_table, set_table;
    uint64_t work_left;
    /* Of one closure: */
    pool todo, found, heap, back; /* place; place; pending; place */
    place *seen;                  /* [n_seen] open addressing */
    uint32_t *seen_round;         /* [n_seen] the closure it was entered in */
    size_t n_seen;                /* a power of two */
    size_t n_seen_used;
    uint32_t round;
    bool found_end;
};

/* ---- lists and tables -------------------------------------------------------------------------------------------- */

/* Room for n more elements. */
static bora_status pool_reserve(pool *list, size_t n, size_t size, bora_error *err)
{
    if (n > POOL_MAX - list->n)
        return bora_fail(err, BORA_E_LIMIT, "the grammar is too ambiguous: over %u places", POOL_MAX);
    if (list->n + n <= list->capacity)
        return BORA_OK;
    size_t capacity = list->capacity ? list->capacity * 2 : 64;
    while (capacity < list->n + n)
        capacity *= 2;
    void *elements = bora_realloc(list->elements, capacity, size);
    if (!elements)
        return bora_fail(err, BORA_E_NOMEM, "grammar's memory of %zu places", capacity);
    list->elements = elements;
    list->capacity = capacity;
    return BORA_OK;
}

static bora_status push_place(pool *list, place p, bora_error *err)
{
    bora_status st = pool_reserve(list, 1, sizeof p, err);
    if (st == BORA_OK)
        ((place *)list->elements)[list->n++] = p;
    return st;
}

static uint64_t hash_places(const place *places, size_t n, uint64_t hash)
{
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ places[i].state) * UINT64_C(0x9e3779b97f4a7c15);
        hash = (hash ^ (hash >> 29) ^ places[i].node) * UINT64_C(0xbf58476d1ce4e5b9);
    }
    return hash ^ (hash >> 32);
}

static int by_place(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return (x->state > y->state) - (x->state < y->state);
}

static void sort_places(place *places, size_t n)
{
    for (size_t i = 1; i < n && n <= 16; i++) { /* most sets are small: insertion */
        place p = places[i];
        size_t at = i;
        for (; at > 0 && by_place(&places[at - 1], &p) > 0; at--)
            places[at] = places[at - 1];
        places[at] = p;
    }
    if (n > 16)
        qsort(places, n, sizeof *places, by_place);
}

static uint64_t node_hash(const bora_machine *m, uint32_t number)
{
    const node *made = (const node *)m->nodes.elements + number;
    return hash_places((const place *)m->ways.elements + made->first, made->n, 1);
}

static uint64_t set_hash(const bora_machine *m, uint32_t number)
{
    const set *made = (const set *)m->sets.elements + number;
    return hash_places((const place *)m->places.elements + made->first, made->n, 2 + made->is_complete);
}

/* Room for one more of n numbers. */
static bora_status table_reserve(bora_machine *m, table *t, size_t n, uint64_t (*hash)(const bora_machine *, uint32_t),
                                 bora_error *err)
{
    if ((n + 1) * 2 <= t->n_slots)
        return BORA_OK;
    size_t n_slots = t->n_slots ? t->n_slots * 2 : 128;
    uint32_t *slots = bora_calloc(n_slots, sizeof *slots);
    if (!slots)
        return bora_fail(err, BORA_E_NOMEM, "grammar's memory of %zu sets", n_slots);
    for (uint32_t number = 0; number < n; number++) {
        size_t at = hash(m, number) & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = number + 1;
    }
    bora_free(t->slots);
    *t = (table){slots, n_slots};
    return BORA_OK;
}

/* The least distance of these places to the text's end. */
static uint32_t least_distance(const bora_machine *m, const place *places, size_t n)
{
    const node *nodes = m->nodes.elements;
    uint32_t least = BORA_DISTANCE_NEVER;
    for (size_t i = 0; i < n; i++) {
        const node *out = &nodes[places[i].node];
        uint32_t to_end = bora_distance_of(m->grammar, places[i].state, BORA_GRAMMAR_DEPTH_MAX - out->depth);
        to_end = bora_distance_add(to_end, out->distance);
        least = to_end < least ? to_end : least;
    }
    return least;
}

/* The number of the node with these ways (sorted, no two alike). */
static bora_status node_of(bora_machine *m, const place *ways, size_t n, uint32_t depth, uint32_t *ret_node,
                           bora_error *err)
{
    bora_status st = table_reserve(m, &m->node_table, m->nodes.n, node_hash, err);
    if (st == BORA_OK)
        st = pool_reserve(&m->nodes, 1, sizeof(node), err);
    if (st == BORA_OK)
        st = pool_reserve(&m->ways, n, sizeof *ways, err);
    if (st != BORA_OK)
        return st;
    node *nodes = m->nodes.elements;
    place *kept = m->ways.elements;
    size_t at = hash_places(ways, n, 1) & (m->node_table.n_slots - 1);
    for (; m->node_table.slots[at]; at = (at + 1) & (m->node_table.n_slots - 1)) {
        const node *other = &nodes[m->node_table.slots[at] - 1];
        if (other->n == n && other->depth == depth &&
            (n == 0 || memcmp(kept + other->first, ways, n * sizeof *ways) == 0)) {
            *ret_node = m->node_table.slots[at] - 1;
            return BORA_OK;
        }
    }
    uint32_t distance = n > 0 ? least_distance(m, ways, n) : 0;
    nodes[m->nodes.n] = (node){(uint32_t)m->ways.n, (uint32_t)n, depth, distance};
    if (n > 0)
        memcpy(kept + m->ways.n, ways, n * sizeof *ways);
    m->ways.n += n;
    m->node_table.slots[at] = (uint32_t)++m->nodes.n;
    *ret_node = (uint32_t)m->nodes.n - 1;
    return BORA_OK;
}

/* The number of the set with these places (sorted, no two alike). */
static bora_status set_of(bora_machine *m, const place *places, size_t n, bool is_complete, uint32_t *ret_set,
                          bora_error *err)
{
    size_t n_classes = m->grammar->n_classes;
    bora_status st = table_reserve(m, &m->set_table, m->sets.n, set_hash, err);
    if (st == BORA_OK)
        st = pool_reserve(&m->sets, 1, sizeof(set), err);
    if (st == BORA_OK)
        st = pool_reserve(&m->places, n, sizeof *places, err);
    if (st == BORA_OK)
        st = pool_reserve(&m->steps, n_classes, sizeof(uint32_t), err);
    if (st != BORA_OK)
        return st;
    set *sets = m->sets.elements;
    place *kept = m->places.elements;
    size_t at = hash_places(places, n, 2 + is_complete) & (m->set_table.n_slots - 1);
    for (; m->set_table.slots[at]; at = (at + 1) & (m->set_table.n_slots - 1)) {
        const set *other = &sets[m->set_table.slots[at] - 1];
        if (other->n == n && other->is_complete == is_complete &&
            (n == 0 || memcmp(kept + other->first, places, n * sizeof *places) == 0)) {
            *ret_set = m->set_table.slots[at] - 1;
            return BORA_OK;
        }
    }
    uint32_t distance = is_complete ? 0 : least_distance(m, places, n);
    sets[m->sets.n] = (set){(uint32_t)m->places.n, (uint32_t)n, distance, is_complete};
    if (n > 0)
        memcpy(kept + m->places.n, places, n * sizeof *places);
    m->places.n += n;
    memset((uint32_t *)m->steps.elements + m->steps.n, 0xff, n_classes * sizeof(uint32_t)); /* STEP_UNKNOWN */
    m->steps.n += n_classes;
    m->set_table.slots[at] = (uint32_t)++m->sets.n;
    *ret_set = (uint32_t)m->sets.n - 1;
    return BORA_OK;
}

/* ---- closure ----------------------------------------------------------------------------------------------------- */

static bora_status spend(bora_machine *m, uint64_t work, bora_error *err)
{
    if (m->work_left < work)
        return bora_fail(err, BORA_E_LIMIT, "the grammar is too ambiguous: a step takes too much work");
    m->work_left -= work;
    return BORA_OK;
}

static void closure_begin(bora_machine *m)
{
    m->todo.n = m->found.n = m->heap.n = 0;
    m->n_seen_used = 0;
    m->found_end = false;
    if (++m->round == 0) { /* once in 2^32: marks of old rounds must not come back */
        memset(m->seen_round, 0, m->n_seen * sizeof *m->seen_round);
        m->round = 1;
    }
}

static void seen_put(const place *p, place *seen, uint32_t *rounds, size_t n, uint32_t round, bool *ret_is_new)
{
    size_t at = hash_places(p, 1, 3) & (n - 1);
    for (; rounds[at] == round; at = (at + 1) & (n - 1))
        if (seen[at].state == p->state && seen[at].node == p->node) {
            *ret_is_new = false;
            return;
        }
    seen[at] = *p;
    rounds[at] = round;
    *ret_is_new = true;
}

static bora_status seen_grow(bora_machine *m, bora_error *err)
{
    size_t n = m->n_seen ? m->n_seen * 2 : 64;
    place *seen = bora_calloc(n, sizeof *seen);
    uint32_t *rounds = bora_calloc(n, sizeof *rounds);
    if (!seen || !rounds) {
        bora_free(seen);
        bora_free(rounds);
        return bora_fail(err, BORA_E_NOMEM, "grammar's memory of %zu places", n);
    }
    for (size_t i = 0; i < m->n_seen; i++) {
        bool is_new;
        if (m->seen_round[i] == m->round)
            seen_put(&m->seen[i], seen, rounds, n, m->round, &is_new);
    }
    bora_free(m->seen);
    bora_free(m->seen_round);
    m->seen = seen;
    m->seen_round = rounds;
    m->n_seen = n;
    return BORA_OK;
}

/* Goes to a place, unless it was gone to already or lies too deep to be brought to an end. */
static bora_status reach(bora_machine *m, uint32_t state, uint32_t node_id, bora_error *err)
{
    uint32_t depth = ((const node *)m->nodes.elements)[node_id].depth;
    if (m->grammar->heights[state] + depth > BORA_GRAMMAR_DEPTH_MAX)
        return BORA_OK;
    bora_status st = (m->n_seen_used + 1) * 2 > m->n_seen ? seen_grow(m, err) : BORA_OK;
    if (st == BORA_OK)
        st = spend(m, 1, err);
    if (st != BORA_OK)
        return st;
    bool is_new = false;
    seen_put(&(place){state, node_id}, m->seen, m->seen_round, m->n_seen, m->round, &is_new);
    if (!is_new)
        return BORA_OK;
    if (++m->n_seen_used > PLACES_MAX)
        return bora_fail(err, BORA_E_LIMIT, "the grammar is too ambiguous: over %u places at once", PLACES_MAX);
    return push_place(&m->todo, (place){state, node_id}, err);
}

static int by_turn(const pending *a, const pending *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->depth != b->depth)
        return a->depth < b->depth ? -1 : 1;
    return by_place(&a->back, &b->back);
}

static bora_status heap_push(bora_machine *m, pending p, bora_error *err)
{
    bora_status st = pool_reserve(&m->heap, 1, sizeof p, err);
    if (st != BORA_OK)
        return st;
    pending *heap = m->heap.elements;
    size_t at = m->heap.n++;
    for (; at > 0 && by_turn(&p, &heap[(at - 1) / 2]) < 0; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = p;
    return BORA_OK;
}

static pending heap_pop(bora_machine *m)
{
    pending *heap = m->heap.elements, top = heap[0], last = heap[--m->heap.n];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= m->heap.n)
            break;
        child += child + 1 < m->heap.n && by_turn(&heap[child + 1], &heap[child]) < 0;
        if (by_turn(&last, &heap[child]) <= 0)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* A rule is run from a place. One that nothing comes after is run in the place's stead. */
static bora_status call(bora_machine *m, const bora_edge *edge, uint32_t node_id, bora_error *err)
{
    const bora_grammar *g = m->grammar;
    const bora_rule *rule = &g->rules[edge->rule];
    bora_status st = edge->may_vanish ? reach(m, edge->to, node_id, err) : BORA_OK;
    if (st != BORA_OK)
        return st;
    if (g->flags[edge->to] & BORA_STATE_TAIL)
        return reach(m, rule->entry, node_id, err);
    uint32_t depth = ((const node *)m->nodes.elements)[node_id].depth + 1;
    if (g->heights[rule->entry] + depth > BORA_GRAMMAR_DEPTH_MAX ||
        g->heights[edge->to] + depth - 1 > BORA_GRAMMAR_DEPTH_MAX)
        return BORA_OK;
    return heap_push(m, (pending){rule->rank, depth, {edge->to, node_id}, edge->rule}, err);
}

/* A rule has ended: goes on where it was run. */
static bora_status come_back(bora_machine *m, uint32_t node_id, bora_error *err)
{
    if (node_id == BOTTOM) {
        m->found_end = true;
        return BORA_OK;
    }
    node ended = ((const node *)m->nodes.elements)[node_id];
    bora_status st = BORA_OK;
    for (uint32_t i = 0; i < ended.n && st == BORA_OK; i++) {
        place way = ((const place *)m->ways.elements)[ended.first + i];
        st = reach(m, way.state, way.node, err);
    }
    return st;
}

static bora_status look_at(bora_machine *m, place p, bora_error *err)
{
    const bora_grammar *g = m->grammar;
    uint32_t depth = ((const node *)m->nodes.elements)[p.node].depth;
    bool reads = false;
    bora_status st = g->flags[p.state] & BORA_STATE_FINAL ? come_back(m, p.node, err) : BORA_OK;
    if (st == BORA_OK)
        st = spend(m, g->firsts[p.state + 1] - g->firsts[p.state], err);
    for (uint32_t e = g->firsts[p.state]; e < g->firsts[p.state + 1] && st == BORA_OK; e++) {
        const bora_edge *edge = &g->edges[e];
        if (edge->kind == BORA_EDGE_NOTHING)
            st = reach(m, edge->to, p.node, err);
        else if (edge->kind == BORA_EDGE_RULE)
            st = call(m, edge, p.node, err);
        else
            reads |= g->heights[edge->to] + depth <= BORA_GRAMMAR_DEPTH_MAX;
    }
    return st == BORA_OK && reads ? push_place(&m->found, p, err) : st;
}

/* Runs the pending rule whose turn it is, with all the places that wait for it. */
static bora_status run_next(bora_machine *m, bora_error *err)
{
    pending first = heap_pop(m);
    m->back.n = 0;
    bora_status st = push_place(&m->back, first.back, err);
    while (st == BORA_OK && m->heap.n > 0) {
        const pending *next = m->heap.elements;
        if (next->rank != first.rank || next->depth != first.depth)
            break;
        place back = heap_pop(m).back;
        if (by_place(&back, (place *)m->back.elements + m->back.n - 1) != 0)
            st = push_place(&m->back, back, err);
    }
    uint32_t made = 0;
    if (st == BORA_OK)
        st = node_of(m, m->back.elements, m->back.n, first.depth, &made, err);
    return st == BORA_OK ? reach(m, m->grammar->rules[first.rule].entry, made, err) : st;
}

/* Everything that is reached from todo without a byte, as a set. */
static bora_status closure(bora_machine *m, uint32_t *ret_set, bora_error *err)
{
    bora_status st = BORA_OK;
    while (st == BORA_OK && (m->todo.n > 0 || m->heap.n > 0))
        st = m->todo.n > 0 ? look_at(m, ((const place *)m->todo.elements)[--m->todo.n], err) : run_next(m, err);
    if (st != BORA_OK)
        return st;
    sort_places(m->found.elements, m->found.n);
    return set_of(m, m->found.elements, m->found.n, m->found_end, ret_set, err);
}

/* ---- the machine ------------------------------------------------------------------------------------------------- */

bora_status bora_machine_new(const bora_grammar *grammar, bora_machine **ret_machine, bora_error *err)
{
    bora_machine *m = bora_calloc(1, sizeof *m);
    if (!m)
        return bora_fail(err, BORA_E_NOMEM, "grammar's memory");
    m->grammar = grammar;
    m->work_left = UINT64_MAX;
    uint32_t bottom = 0, dead = 0;
    bora_status st = node_of(m, NULL, 0, 0, &bottom, err);
    if (st == BORA_OK)
        st = set_of(m, NULL, 0, false, &dead, err); /* the first: BORA_SET_DEAD */
    if (st != BORA_OK) {
        bora_machine_free(m);
        return st;
    }
    *ret_machine = m;
    return BORA_OK;
}

void bora_machine_free(bora_machine *m)
{
    if (!m)
        return;
    void *all[] = {m->nodes.elements, m->ways.elements,    m->sets.elements,   m->places.elements,
                   m->steps.elements, m->node_table.slots, m->set_table.slots, m->todo.elements,
                   m->found.elements, m->heap.elements,    m->back.elements,   m->seen,
                   m->seen_round};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(all); i++)
        bora_free(all[i]);
    bora_free(m);
}

bora_status bora_machine_start(bora_machine *m, uint32_t *ret_set, bora_error *err)
{
    closure_begin(m);
    bora_status st = reach(m, m->grammar->rules[0].entry, BOTTOM, err);
    return st == BORA_OK ? closure(m, ret_set, err) : st;
}

static bora_status step_new(bora_machine *m, uint32_t number, uint8_t byte, uint32_t *ret_set, bora_error *err)
{
    const bora_grammar *g = m->grammar;
    const set from = ((const set *)m->sets.elements)[number];
    bora_status st = BORA_OK;
    closure_begin(m);
    for (uint32_t i = 0; i < from.n && st == BORA_OK; i++) {
        place p = ((const place *)m->places.elements)[from.first + i];
        st = spend(m, g->firsts[p.state + 1] - g->firsts[p.state], err);
        for (uint32_t e = g->firsts[p.state]; e < g->firsts[p.state + 1] && st == BORA_OK; e++)
            if (g->edges[e].kind == BORA_EDGE_BYTE && g->edges[e].lo <= byte && byte <= g->edges[e].hi)
                st = reach(m, g->edges[e].to, p.node, err);
    }
    uint32_t made = 0;
    if (st == BORA_OK)
        st = closure(m, &made, err);
    if (st != BORA_OK)
        return st;
    ((uint32_t *)m->steps.elements)[(size_t)number * g->n_classes + g->classes[byte]] = made;
    *ret_set = made;
    return BORA_OK;
}

bora_status bora_machine_step(bora_machine *m, uint32_t number, uint8_t byte, uint32_t *ret_set, bora_error *err)
{
    const bora_grammar *g = m->grammar;
    uint32_t known = ((const uint32_t *)m->steps.elements)[(size_t)number * g->n_classes + g->classes[byte]];
    if (known == STEP_UNKNOWN)
        return step_new(m, number, byte, ret_set, err);
    *ret_set = known;
    return BORA_OK;
}

bool bora_machine_is_complete(const bora_machine *m, uint32_t number)
{
    return ((const set *)m->sets.elements)[number].is_complete;
}

uint32_t bora_machine_distance(const bora_machine *m, uint32_t number)
{
    return ((const set *)m->sets.elements)[number].distance;
}

bool bora_machine_is_final(const bora_machine *m, uint32_t number)
{
    return ((const set *)m->sets.elements)[number].n == 0;
}

void bora_machine_budget(bora_machine *m, uint64_t work)
{
    m->work_left = work;
}

bool bora_machine_is_full(const bora_machine *m)
{
    return m->sets.n > SETS_FULL || m->steps.n > POOL_MAX / 4 || m->places.n > POOL_FULL || m->ways.n > POOL_FULL ||
           m->nodes.n > POOL_FULL;
}

/* Nodes lead to nodes made before them: in their order, each is copied after those it needs. */
bora_status bora_machine_copy(const bora_machine *m, uint32_t number, bora_machine *to, uint32_t *ret_set,
                              bora_error *err)
{
    const set from = ((const set *)m->sets.elements)[number];
    const node *nodes = m->nodes.elements;
    BORA_CLEANUP(bora_freep) uint32_t *names = bora_calloc(m->nodes.n, sizeof *names); /* 0: not needed; 1: needed */
    size_t n_most = from.n;
    if (!names)
        return bora_fail(err, BORA_E_NOMEM, "grammar's memory of %zu places", m->nodes.n);
    for (uint32_t i = 0; i < from.n; i++)
        names[((const place *)m->places.elements)[from.first + i].node] = 1;
    for (size_t i = m->nodes.n; i-- > 0;)
        for (uint32_t w = 0; names[i] && w < nodes[i].n; w++)
            names[((const place *)m->ways.elements)[nodes[i].first + w].node] = 1;
    for (size_t i = 0; i < m->nodes.n; i++)
        if (names[i] && nodes[i].n > n_most)
            n_most = nodes[i].n;
    BORA_CLEANUP(bora_freep) place *renamed = bora_calloc(n_most, sizeof *renamed);
    if (!renamed)
        return bora_fail(err, BORA_E_NOMEM, "grammar's memory of %zu places", n_most);
    bora_status st = BORA_OK;
    for (size_t i = 0; i < m->nodes.n && st == BORA_OK; i++) {
        if (!names[i])
            continue;
        for (uint32_t w = 0; w < nodes[i].n; w++) {
            place way = ((const place *)m->ways.elements)[nodes[i].first + w];
            renamed[w] = (place){way.state, names[way.node]};
        }
        sort_places(renamed, nodes[i].n);
        st = node_of(to, renamed, nodes[i].n, nodes[i].depth, &names[i], err);
    }
    if (st != BORA_OK)
        return st;
    for (uint32_t i = 0; i < from.n; i++) {
        place p = ((const place *)m->places.elements)[from.first + i];
        renamed[i] = (place){p.state, names[p.node]};
    }
    sort_places(renamed, from.n);
    return set_of(to, renamed, from.n, from.is_complete, ret_set, err);
}

size_t bora_machine_size(const bora_machine *m)
{
    return sizeof *m + m->nodes.capacity * sizeof(node) + (m->sets.capacity * sizeof(set)) +
           m->steps.capacity * sizeof(uint32_t) +
           (m->ways.capacity + m->places.capacity + m->todo.capacity + m->found.capacity + m->back.capacity) *
               sizeof(place) +
           m->heap.capacity * sizeof(pending) + (m->node_table.n_slots + m->set_table.n_slots) * sizeof(uint32_t) +
           m->n_seen * (sizeof *m->seen + sizeof *m->seen_round);
}
