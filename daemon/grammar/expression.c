#include "grammar/expression.h"

#include "base/memory.h"

#include <string.h>

#define NODES_MAX     ((size_t)1 << 20)
#define INLINE_REPEAT 3u /* more often than this, something long is made a rule of its own */

void bora_expressions_release(bora_expressions *list)
{
    bora_free(list->nodes);
    bora_free(list->ranges);
    *list = (bora_expressions){0};
}

bora_status bora_expression_add(bora_expressions *list, bora_node node, uint32_t *ret_node, bora_error *err)
{
    if (list->n_nodes >= NODES_MAX)
        return bora_fail(err, BORA_E_LIMIT, "more than %zu parts", NODES_MAX);
    if (list->n_nodes == list->nodes_capacity) {
        size_t capacity = list->nodes_capacity ? list->nodes_capacity * 2 : 32;
        bora_node *nodes = bora_realloc(list->nodes, capacity, sizeof *nodes);
        if (!nodes)
            return bora_fail(err, BORA_E_NOMEM, "expression of %zu parts", capacity);
        list->nodes = nodes;
        list->nodes_capacity = capacity;
    }
    list->nodes[list->n_nodes] = node;
    *ret_node = (uint32_t)list->n_nodes++;
    return BORA_OK;
}

bora_status bora_expression_characters(bora_expressions *list, const bora_range *ranges, size_t n, uint32_t *ret_node,
                                       bora_error *err)
{
    if (list->n_ranges + n > list->ranges_capacity) {
        size_t capacity = (list->n_ranges + n) * 2;
        bora_range *grown = bora_realloc(list->ranges, capacity, sizeof *grown);
        if (!grown)
            return bora_fail(err, BORA_E_NOMEM, "expression of %zu ranges", capacity);
        list->ranges = grown;
        list->ranges_capacity = capacity;
    }
    bora_node node = {.kind = BORA_NODE_CHARACTERS, .first = list->n_ranges, .n = n};
    bora_status st = bora_expression_add(list, node, ret_node, err);
    if (st == BORA_OK && n > 0) {
        memcpy(list->ranges + list->n_ranges, ranges, n * sizeof *ranges);
        list->n_ranges += n;
    }
    return st;
}

bora_status bora_expression_sequence(bora_expressions *list, uint32_t left, uint32_t right, uint32_t *ret_node,
                                     bora_error *err)
{
    if (left == BORA_NONE || right == BORA_NONE) {
        *ret_node = left == BORA_NONE ? right : left;
        return BORA_OK;
    }
    return bora_expression_add(list, (bora_node){.kind = BORA_NODE_SEQUENCE, .left = left, .right = right}, ret_node,
                               err);
}

static void emit_repeat(const bora_expressions *list, const bora_node *node, bora_spelling spelling,
                        bora_builder *builder, uint32_t from, uint32_t to)
{
    const bora_node *inner = &list->nodes[node->left];
    uint32_t n_copies = node->max == BORA_REPEAT_UNBOUNDED ? node->min + 1 : node->max;
    bool is_short = inner->kind == BORA_NODE_RULE ||
                    (inner->kind == BORA_NODE_CHARACTERS && inner->n <= 4 && spelling == BORA_SPELL_TEXT &&
                     (inner->n == 0 || list->ranges[inner->first + inner->n - 1].hi < 0x80));
    uint32_t rule = BORA_NONE;
    if (n_copies > INLINE_REPEAT && !is_short) {
        rule = bora_builder_rule(builder);
        if (builder->status != BORA_OK)
            return;
        bora_build_rule made = builder->rules[rule];
        bora_expression_emit(list, node->left, spelling, builder, made.entry, made.final);
    }
    uint32_t at = bora_builder_state(builder);
    bora_builder_skip(builder, from, at);
    for (uint32_t i = 0; i < n_copies && builder->status == BORA_OK; i++) {
        bool is_loop = node->max == BORA_REPEAT_UNBOUNDED && i == node->min;
        if (i >= node->min)
            bora_builder_skip(builder, at, to);
        uint32_t next = is_loop ? at : bora_builder_state(builder);
        if (rule != BORA_NONE)
            bora_builder_call(builder, at, rule, next);
        else
            bora_expression_emit(list, node->left, spelling, builder, at, next);
        at = next;
    }
    if (node->max != BORA_REPEAT_UNBOUNDED)
        bora_builder_skip(builder, at, to);
}

/* The left spine of sequences and of alternatives is walked from its right end: recursion takes right sides only. */
void bora_expression_emit(const bora_expressions *list, uint32_t index, bora_spelling spelling, bora_builder *builder,
                          uint32_t from, uint32_t to)
{
    while (builder->status == BORA_OK) {
        const bora_node *node = &list->nodes[index];
        switch (node->kind) {
        case BORA_NODE_SEQUENCE: {
            uint32_t middle = bora_builder_state(builder);
            bora_expression_emit(list, node->right, spelling, builder, middle, to);
            to = middle;
            index = node->left;
            continue;
        }
        case BORA_NODE_ALTERNATIVES: {
            /* A state of its own on either side: loops of one branch must not be open to another. */
            uint32_t begin = bora_builder_state(builder), end = bora_builder_state(builder);
            bora_builder_skip(builder, from, begin);
            bora_builder_skip(builder, end, to);
            bora_expression_emit(list, node->right, spelling, builder, begin, end);
            index = node->left;
            continue;
        }
        case BORA_NODE_TEXT:
            for (size_t i = 0; i < node->n; i++) {
                uint32_t next = i + 1 == node->n ? to : bora_builder_state(builder);
                bora_characters_emit(builder, &list->ranges[node->first + i], 1, spelling, from, next);
                from = next;
            }
            return;
        case BORA_NODE_CHARACTERS:
            bora_characters_emit(builder, list->ranges + node->first, node->n, spelling, from, to);
            return;
        case BORA_NODE_REPEAT:
            emit_repeat(list, node, spelling, builder, from, to);
            return;
        case BORA_NODE_RULE:
            bora_builder_call(builder, from, node->rule, to);
            return;
        case BORA_NODE_EMPTY:
            bora_builder_skip(builder, from, to);
            return;
        }
    }
}

/* ---- repetitions ------------------------------------------------------------------------------------------------- */

/* Decimal digits; *at moves behind them. */
static bool number_read(const char *text, size_t size, size_t *at, uint32_t *ret_number)
{
    uint32_t number = 0;
    size_t from = *at;
    for (; *at < size && text[*at] >= '0' && text[*at] <= '9'; (*at)++)
        number = number > BORA_REPEAT_MAX ? number : number * 10 + (uint32_t)(text[*at] - '0');
    *ret_number = number;
    return *at > from;
}

bora_status bora_repeat_read(const char *text, size_t size, uint32_t *ret_min, uint32_t *ret_max, size_t *ret_size,
                             bora_error *err)
{
    *ret_size = 0;
    char c = size > 0 ? text[0] : '\0';
    if (c == '?' || c == '*' || c == '+') {
        *ret_min = c == '+';
        *ret_max = c == '?' ? 1 : BORA_REPEAT_UNBOUNDED;
        *ret_size = 1;
        return BORA_OK;
    }
    if (c != '{')
        return BORA_OK;
    size_t at = 1;
    uint32_t min = 0, max = 0;
    bool ok = number_read(text, size, &at, &min);
    max = min;
    if (ok && at < size && text[at] == ',') {
        at++;
        if (!number_read(text, size, &at, &max))
            max = BORA_REPEAT_UNBOUNDED;
    }
    if (!ok || at >= size || text[at] != '}')
        return bora_fail(err, BORA_E_INVAL, "a repetition is {m}, {m,} or {m,n}");
    if (min > BORA_REPEAT_MAX || (max > BORA_REPEAT_MAX && max != BORA_REPEAT_UNBOUNDED))
        return bora_fail(err, BORA_E_LIMIT, "a repetition of more than %u", BORA_REPEAT_MAX);
    if (min > max)
        return bora_fail(err, BORA_E_INVAL, "a repetition of %u at least and %u at most", min, max);
    *ret_min = min;
    *ret_max = max;
    *ret_size = at + 1;
    return BORA_OK;
}
