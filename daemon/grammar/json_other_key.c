/* A key that is none of a list: at each character, those of the list branch off into places that know what they may not
 * become; all other characters lead to where anything may follow. */
#include "grammar/json_text.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define PRINTED_FIRST 0x20u /* of the characters that ASCII prints */
#define PRINTED_LAST  0x7eu

typedef struct sorted_key {
    const char *text; /* [size] */
    size_t size;
} sorted_key;

typedef struct other_keys {
    bora_json_rules *json;
    uint32_t wide;     /* the rule of what ASCII does not print */
    uint32_t anything; /* where no key of the list can come about any more */
    uint32_t end;      /* before the closing quote */
} other_keys;

static int by_bytes(const void *a, const void *b)
{
    const sorted_key *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* Characters lo to hi, if there are any, but for surrogates. */
static void emit_gap(bora_builder *builder, uint32_t lo, uint32_t hi, uint32_t from, uint32_t to)
{
    const bora_range low = {lo, hi < 0xd7ff ? hi : 0xd7ff}, high = {lo > 0xe000 ? lo : 0xe000, hi};
    if (low.lo <= low.hi)
        bora_characters_emit(builder, &low, 1, BORA_SPELL_JSON, from, to);
    if (high.lo <= high.hi)
        bora_characters_emit(builder, &high, 1, BORA_SPELL_JSON, from, to);
}

/* How many of keys [n] have the same character at depth as the first, which is *ret_character of *ret_width bytes; 0:
 * it is not UTF-8. */
static size_t same_character(const sorted_key *keys, size_t n, size_t depth, uint32_t *ret_character, size_t *ret_width)
{
    size_t same = 0;
    *ret_character = bora_character_read(keys[0].text + depth, keys[0].size - depth, ret_width);
    if (*ret_character == BORA_NONE)
        return 0;
    while (same < n && keys[same].size >= depth + *ret_width &&
           memcmp(keys[same].text + depth, keys[0].text + depth, *ret_width) == 0)
        same++;
    return same;
}

/* Keys [n] share their first depth bytes, which were read. UTF-8 sorts as its characters do. Recursion: as deep as the
 * longest key, BORA_JSON_KEY_MAX. */
static void branch(const other_keys *o, const sorted_key *keys, size_t n, size_t depth, uint32_t at)
{
    bora_builder *builder = o->json->builder;
    uint32_t first = PRINTED_FIRST, last = PRINTED_LAST; /* characters that are told apart here */
    size_t i = n > 0 && keys[0].size == depth;
    if (i == 0) /* a beginning of some key, but none itself */
        bora_builder_skip(builder, at, o->end);
    for (size_t k = i; k < n; k++) {
        uint8_t byte = (uint8_t)keys[k].text[depth];
        if (byte < PRINTED_FIRST || byte > PRINTED_LAST) {
            first = 0;
            last = BORA_CHARACTER_MAX;
        }
    }
    if (last == PRINTED_LAST)
        bora_builder_call(builder, at, o->wide, o->anything);
    while (i < n && builder->status == BORA_OK) {
        uint32_t character = 0, deeper = bora_builder_state(builder);
        size_t width = 0, same = same_character(keys + i, n - i, depth, &character, &width);
        if (same == 0) {
            bora_builder_fail(builder, BORA_E_INVAL, "a key that is not UTF-8");
            return;
        }
        if (character > first)
            emit_gap(builder, first, character - 1, at, o->anything);
        emit_gap(builder, character, character, at, deeper);
        branch(o, keys + i, same, depth + width, deeper);
        first = character + 1;
        i += same;
    }
    if (first <= last)
        emit_gap(builder, first, last, at, o->anything);
}

static uint32_t rule_of_ranges(bora_json_rules *json, uint32_t *known, const bora_range *ranges, size_t n)
{
    bora_build_rule rule;
    if (bora_json_rule_once(json, known, &rule))
        bora_characters_emit(json->builder, ranges, n, BORA_SPELL_JSON, rule.entry, rule.final);
    return *known - 1;
}

void bora_json_other_key(bora_json_rules *json, const char *const *keys, const size_t *sizes, size_t n, uint32_t from,
                         uint32_t to)
{
    static const bora_range any[] = {{0, 0xd7ff}, {0xe000, BORA_CHARACTER_MAX}};
    static const bora_range wide[] = {{0, PRINTED_FIRST - 1}, {PRINTED_LAST + 1, 0xd7ff}, {0xe000, BORA_CHARACTER_MAX}};
    bora_builder *builder = json->builder;
    BORA_CLEANUP(bora_freep) sorted_key *sorted = bora_calloc(n, sizeof *sorted);
    if (!sorted) {
        bora_builder_fail(builder, BORA_E_NOMEM, "%zu keys", n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = (sorted_key){keys[i], sizes[i]};
    qsort(sorted, n, sizeof *sorted, by_bytes);
    other_keys o = {.json = json, .anything = bora_builder_state(builder), .end = bora_builder_state(builder)};
    uint32_t begin = bora_builder_state(builder);
    uint32_t character = rule_of_ranges(json, &json->key_any, any, BORA_ARRAY_SIZE(any));
    o.wide = rule_of_ranges(json, &json->key_wide, wide, BORA_ARRAY_SIZE(wide));
    if (builder->status != BORA_OK)
        return;
    bora_builder_bytes(builder, from, '"', '"', begin);
    branch(&o, sorted, n, 0, begin);
    bora_builder_call(builder, o.anything, character, o.anything);
    bora_builder_skip(builder, o.anything, o.end);
    bora_builder_bytes(builder, o.end, '"', '"', to);
}
