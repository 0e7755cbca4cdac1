#include "grammar/characters.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

#define SURROGATES_FIRST 0xd800u
#define SURROGATES_LAST  0xdfffu

void bora_characters_release(bora_characters *set)
{
    bora_free(set->ranges);
    *set = (bora_characters){0};
}

bora_status bora_characters_add(bora_characters *set, uint32_t lo, uint32_t hi, bora_error *err)
{
    if (set->n == set->capacity) {
        size_t capacity = set->capacity ? set->capacity * 2 : 8;
        bora_range *ranges = bora_realloc(set->ranges, capacity, sizeof *ranges);
        if (!ranges)
            return bora_fail(err, BORA_E_NOMEM, "%zu ranges of characters", capacity);
        set->ranges = ranges;
        set->capacity = capacity;
    }
    set->ranges[set->n++] = (bora_range){lo, hi};
    return BORA_OK;
}

static int by_lo(const void *a, const void *b)
{
    const bora_range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static void join(bora_characters *set)
{
    size_t n = 0;
    if (set->n > 1)
        qsort(set->ranges, set->n, sizeof *set->ranges, by_lo);
    for (size_t i = 0; i < set->n; i++) {
        bora_range range = set->ranges[i];
        if (n > 0 && range.lo <= set->ranges[n - 1].hi + 1) {
            if (range.hi > set->ranges[n - 1].hi)
                set->ranges[n - 1].hi = range.hi;
        } else {
            set->ranges[n++] = range;
        }
    }
    set->n = n;
}

bora_status bora_characters_settle(bora_characters *set, bool negate, bora_error *err)
{
    bora_characters all = {0};
    bora_status st = BORA_OK;
    if (negate)
        st = bora_characters_add(set, SURROGATES_FIRST, SURROGATES_LAST, err);
    if (st != BORA_OK)
        return st;
    join(set);
    uint32_t next = 0; /* where the gap began */
    for (size_t i = 0; i < set->n && st == BORA_OK; i++) {
        bora_range range = set->ranges[i];
        if (negate) {
            if (range.lo > next)
                st = bora_characters_add(&all, next, range.lo - 1, err);
            next = range.hi + 1;
            continue;
        }
        if (range.hi > BORA_CHARACTER_MAX)
            range.hi = BORA_CHARACTER_MAX;
        if (range.lo < SURROGATES_FIRST && range.lo <= range.hi)
            st =
                bora_characters_add(&all, range.lo, range.hi < SURROGATES_FIRST ? range.hi : SURROGATES_FIRST - 1, err);
        if (st == BORA_OK && range.hi > SURROGATES_LAST)
            st = bora_characters_add(&all, range.lo > SURROGATES_LAST ? range.lo : SURROGATES_LAST + 1, range.hi, err);
    }
    if (st == BORA_OK && negate && next <= BORA_CHARACTER_MAX)
        st = bora_characters_add(&all, next, BORA_CHARACTER_MAX, err);
    if (st != BORA_OK) {
        bora_characters_release(&all);
        return st;
    }
    bora_characters_release(set);
    *set = all;
    return BORA_OK;
}

size_t bora_character_write(uint32_t character, char bytes[4])
{
    if (character < 0x80) {
        bytes[0] = (char)character;
        return 1;
    }
    size_t size = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (character & 0x3f));
        character >>= 6;
    }
    bytes[0] = (char)(leads[size] | character);
    return size;
}

uint32_t bora_character_read(const char *text, size_t size, size_t *ret_size)
{
    if (size == 0)
        return BORA_NONE;
    uint8_t lead = (uint8_t)text[0];
    size_t n = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (n == 0 || n > size)
        return BORA_NONE;
    uint32_t character = n == 1 ? lead : lead & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (((uint8_t)text[i] & 0xc0) != 0x80)
            return BORA_NONE;
        character = character << 6 | ((uint8_t)text[i] & 0x3f);
    }
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (character < smallest[n] || character > BORA_CHARACTER_MAX ||
        (character >= SURROGATES_FIRST && character <= SURROGATES_LAST))
        return BORA_NONE;
    *ret_size = n;
    return character;
}

/* ---- UTF-8 ------------------------------------------------------------------------------------------------------- */

/* Characters of n bytes each, lo to hi: cut until, but for a common beginning, every byte goes its whole way. */
static void emit_same_size(bora_builder *builder, uint32_t lo, uint32_t hi, size_t n, uint32_t from, uint32_t to)
{
    for (size_t tail = 1; tail < n; tail++) {
        uint32_t mask = (UINT32_C(1) << (6 * tail)) - 1;
        if ((lo & ~mask) == (hi & ~mask))
            break; /* they differ in the last tail bytes alone */
        if ((lo & mask) != 0) {
            emit_same_size(builder, lo, lo | mask, n, from, to);
            emit_same_size(builder, (lo | mask) + 1, hi, n, from, to);
            return;
        }
        if ((hi & mask) != mask) {
            emit_same_size(builder, lo, (hi & ~mask) - 1, n, from, to);
            emit_same_size(builder, hi & ~mask, hi, n, from, to);
            return;
        }
    }
    char first[4], last[4];
    (void)bora_character_write(lo, first); /* both n bytes */
    (void)bora_character_write(hi, last);
    for (size_t i = 0; i < n; i++) {
        uint32_t next = i + 1 == n ? to : bora_builder_state(builder);
        bora_builder_bytes(builder, from, (uint8_t)first[i], (uint8_t)last[i], next);
        from = next;
    }
}

static void emit_utf8(bora_builder *builder, uint32_t lo, uint32_t hi, uint32_t from, uint32_t to)
{
    static const uint32_t ends[] = {0x7f, 0x7ff, 0xffff, BORA_CHARACTER_MAX};
    for (size_t n = 1; n <= 4 && lo <= hi; n++)
        if (lo <= ends[n - 1]) {
            emit_same_size(builder, lo, hi < ends[n - 1] ? hi : ends[n - 1], n, from, to);
            lo = ends[n - 1] + 1;
        }
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void emit_escape(bora_builder *builder, uint32_t character, uint32_t from, uint32_t to)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: the character and its letter */
    char text[8];
    for (size_t i = 0; i + 1 < sizeof named; i += 2)
        if ((uint8_t)named[i] == character) {
            (void)snprintf(text, sizeof text, "\\%c", named[i + 1]);
            bora_builder_word(builder, from, text, 2, to);
            return;
        }
    (void)snprintf(text, sizeof text, "\\u%04x", (unsigned)(character & 0xffff));
    bora_builder_word(builder, from, text, 6, to);
}

static void emit_json(bora_builder *builder, bora_range range, uint32_t from, uint32_t to)
{
    uint32_t lo = range.lo > 0 ? range.lo : 1;
    for (; lo < 0x20 && lo <= range.hi; lo++)
        emit_escape(builder, lo, from, to);
    static const uint32_t special[] = {'"', '\\'};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(special); i++) {
        if (lo > special[i] || range.hi < special[i])
            continue;
        if (lo < special[i])
            emit_utf8(builder, lo, special[i] - 1, from, to);
        emit_escape(builder, special[i], from, to);
        lo = special[i] + 1;
    }
    if (lo <= range.hi)
        emit_utf8(builder, lo, range.hi, from, to);
}

void bora_characters_emit(bora_builder *builder, const bora_range *ranges, size_t n, bora_spelling spelling,
                          uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < n; i++)
        if (spelling == BORA_SPELL_JSON)
            emit_json(builder, ranges[i], from, to);
        else
            emit_utf8(builder, ranges[i].lo, ranges[i].hi, from, to);
}
