/* Both kinds go through the digits with two questions open: are they still those of the lower bound, are they still
 * those of the upper one? Once neither is so, anything goes, and those states are shared. */
#include "grammar/numbers.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- integers ---------------------------------------------------------------------------------------------------- */

typedef struct integers {
    bora_builder *builder;
    uint32_t multiple_of;
    uint32_t to;
    uint32_t *free; /* [BORA_INTEGER_DIGITS + 1, multiple_of]: so many digits to come, this rest so far; BORA_NONE */
    char lo[BORA_INTEGER_DIGITS + 2], hi[BORA_INTEGER_DIGITS + 2]; /* of one length */
    size_t n;
} integers;

/* The state in which n digits of any kind are to come; BORA_NONE if none of them can make a multiple. */
static uint32_t free_state(integers *g, size_t n, uint32_t rest)
{
    if (n == 0)
        return rest == 0 ? g->to : BORA_NONE;
    uint32_t *known = &g->free[n * g->multiple_of + rest];
    if (*known != BORA_NONE)
        return *known;
    uint32_t state = bora_builder_state(g->builder);
    *known = state;
    if (g->multiple_of == 1) {
        bora_builder_bytes(g->builder, state, '0', '9', free_state(g, n - 1, 0));
        return state;
    }
    for (uint32_t digit = 0; digit < 10 && g->builder->status == BORA_OK; digit++) {
        uint32_t next = free_state(g, n - 1, (rest * 10 + digit) % g->multiple_of);
        if (next != BORA_NONE)
            bora_builder_bytes(g->builder, state, (uint8_t)('0' + digit), (uint8_t)('0' + digit), next);
    }
    return state;
}

/* Digits from i on, the earlier ones being those of lo or hi. */
static void bound_digits(integers *g, size_t i, bool is_lo, bool is_hi, uint32_t rest, uint32_t from)
{
    if (i == g->n) {
        if (rest == 0)
            bora_builder_skip(g->builder, from, g->to);
        return;
    }
    char lo = is_lo ? g->lo[i] : '0', hi = is_hi ? g->hi[i] : '9';
    for (char digit = lo; digit <= hi && g->builder->status == BORA_OK; digit++) {
        bool still_lo = is_lo && digit == lo, still_hi = is_hi && digit == hi;
        uint32_t next_rest = (rest * 10 + (uint32_t)(digit - '0')) % g->multiple_of;
        uint32_t next = still_lo || still_hi ? bora_builder_state(g->builder) : free_state(g, g->n - i - 1, next_rest);
        if (next == BORA_NONE)
            continue;
        bora_builder_bytes(g->builder, from, (uint8_t)digit, (uint8_t)digit, next);
        if (still_lo || still_hi)
            bound_digits(g, i + 1, still_lo, still_hi, next_rest, next);
    }
}

/* Absolute values lo to hi, for each length of theirs. */
static void magnitudes(integers *g, uint64_t lo, uint64_t hi, uint32_t from)
{
    uint64_t smallest = 0, largest = 9;
    for (size_t n = 1; n <= BORA_INTEGER_DIGITS && g->builder->status == BORA_OK; n++) {
        uint64_t first = lo > smallest ? lo : smallest, last = hi < largest ? hi : largest;
        if (first <= last) {
            (void)snprintf(g->lo, sizeof g->lo, "%llu", (unsigned long long)first);
            (void)snprintf(g->hi, sizeof g->hi, "%llu", (unsigned long long)last);
            g->n = n;
            uint32_t begin = bora_builder_state(g->builder);
            bora_builder_skip(g->builder, from, begin);
            bound_digits(g, 0, true, true, 0, begin);
        }
        smallest = largest + 1;
        largest = largest * 10 + 9;
    }
}

void bora_integers_emit(bora_builder *builder, int64_t lo, int64_t hi, uint32_t multiple_of, uint32_t from, uint32_t to)
{
    if (builder->status != BORA_OK)
        return;
    size_t n_free = (BORA_INTEGER_DIGITS + 1) * (size_t)multiple_of;
    integers g = {.builder = builder, .multiple_of = multiple_of, .to = to};
    g.free = bora_alloc(n_free * sizeof *g.free);
    if (!g.free) {
        bora_builder_fail(builder, BORA_E_NOMEM, "integers");
        return;
    }
    memset(g.free, 0xff, n_free * sizeof *g.free);
    if (hi >= 0)
        magnitudes(&g, lo > 0 ? (uint64_t)lo : 0, (uint64_t)hi, from);
    if (lo < 0) {
        uint32_t minus = bora_builder_state(builder);
        bora_builder_bytes(builder, from, '-', '-', minus);
        magnitudes(&g, hi < 0 ? (uint64_t)-hi : 1, (uint64_t)-lo, minus);
    }
    bora_free(g.free);
}

/* ---- numbers with a fraction ------------------------------------------------------------------------------------- */

bool bora_decimal_read(double value, bora_decimal *ret_decimal)
{
    char text[40] = "";
    int precision = 0;
    for (; precision < (int)BORA_NUMBER_DIGITS; precision++) {
        (void)snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    char *exponent_text = strchr(text, 'e');
    if (precision == (int)BORA_NUMBER_DIGITS || !exponent_text)
        return false;
    bora_decimal decimal = {.is_negative = text[0] == '-', .whole = "0"};
    char digits[BORA_NUMBER_DIGITS + 2] = "";
    size_t n = 0;
    for (const char *c = text; c < exponent_text; c++)
        if (*c >= '0' && *c <= '9')
            digits[n++] = *c;
    long exponent = strtol(exponent_text + 1, NULL, 10);
    while (n > 0 && digits[n - 1] == '0')
        n--;
    if (n == 0)
        decimal.is_negative = false;
    long n_whole = n == 0 ? 0 : exponent + 1, n_fraction = (long)n - n_whole; /* before and after the point */
    if (n_whole > (long)BORA_NUMBER_DIGITS || n_fraction > (long)BORA_NUMBER_DIGITS)
        return false;
    for (long i = 0; i < n_whole; i++)
        decimal.whole[i] = i < (long)n ? digits[i] : '0';
    if (n_whole > 0)
        decimal.whole[n_whole] = '\0';
    for (long i = 0; i < n_fraction; i++)
        decimal.fraction[i] = n_whole + i < 0 ? '0' : digits[n_whole + i];
    *ret_decimal = decimal;
    return true;
}

typedef struct numbers {
    bora_builder *builder;
    const bora_decimal *lo, *hi; /* absolute values; NULL: none */
    bool lo_is_open, hi_is_open;
    size_t n_whole;                                                /* digits before the point, of the numbers at work */
    uint32_t free[BORA_NUMBER_DIGITS + 1][BORA_NUMBER_DIGITS + 1]; /* [whole digits read, of the fraction] BORA_NONE */
    uint32_t to;
} numbers;

static char fraction_digit(const bora_decimal *bound, size_t i)
{
    return i < strlen(bound->fraction) ? bound->fraction[i] : '0';
}

/* The digits read are exactly the first i of the bound's fraction: may a number end here? */
static bool may_end(const numbers *g, bool is_lo, bool is_hi, size_t i)
{
    bool lo_reached = !is_lo || (strlen(g->lo->fraction) <= i && !g->lo_is_open);
    bool below_hi = !is_hi || strlen(g->hi->fraction) > i || !g->hi_is_open;
    return lo_reached && below_hi;
}

static void number_digits(numbers *g, size_t whole, size_t fraction, bool is_point, bool is_lo, bool is_hi,
                          uint32_t from);

/* Where one is when no bound is at work any more: shared. */
static uint32_t free_number(numbers *g, size_t whole, size_t fraction)
{
    uint32_t *known = &g->free[whole][fraction];
    if (*known == BORA_NONE) {
        *known = bora_builder_state(g->builder);
        number_digits(g, whole, fraction, fraction > 0, false, false, *known);
    }
    return *known;
}

/* whole and fraction digits were read, and the point if is_point. */
static void number_digits(numbers *g, size_t whole, size_t fraction, bool is_point, bool is_lo, bool is_hi,
                          uint32_t from)
{
    size_t n_fraction = BORA_NUMBER_DIGITS - g->n_whole;
    bool is_whole = whole == g->n_whole;
    if (g->builder->status != BORA_OK)
        return;
    if (is_whole && (!is_point || fraction > 0) && may_end(g, is_lo, is_hi, fraction))
        bora_builder_skip(g->builder, from, g->to);
    if (is_whole && !is_point && n_fraction > 0) {
        uint32_t behind = bora_builder_state(g->builder);
        bora_builder_bytes(g->builder, from, '.', '.', behind);
        number_digits(g, whole, 0, true, is_lo, is_hi, behind);
    }
    if (is_whole ? !is_point || fraction == n_fraction : false)
        return;
    char lo = '0', hi = '9';
    if (!is_whole && whole == 0 && g->n_whole > 1)
        lo = '1'; /* no leading zero */
    if (is_lo)
        lo = is_whole ? fraction_digit(g->lo, fraction) : g->lo->whole[whole];
    if (is_hi)
        hi = is_whole ? fraction_digit(g->hi, fraction) : g->hi->whole[whole];
    for (char digit = lo; digit <= hi; digit++) {
        bool still_lo = is_lo && digit == lo, still_hi = is_hi && digit == hi;
        size_t next_whole = whole + !is_whole, next_fraction = fraction + is_whole;
        uint32_t next =
            still_lo || still_hi ? bora_builder_state(g->builder) : free_number(g, next_whole, next_fraction);
        bora_builder_bytes(g->builder, from, (uint8_t)digit, (uint8_t)digit, next);
        if (still_lo || still_hi)
            number_digits(g, next_whole, next_fraction, is_point, still_lo, still_hi, next);
    }
}

static void number_magnitudes(numbers *g, uint32_t from)
{
    for (size_t n = 1; n <= BORA_NUMBER_DIGITS && g->builder->status == BORA_OK; n++) {
        size_t n_lo = g->lo ? strlen(g->lo->whole) : 0, n_hi = g->hi ? strlen(g->hi->whole) : BORA_NUMBER_DIGITS + 1;
        if (n < n_lo || n > n_hi)
            continue;
        g->n_whole = n;
        memset(g->free, 0xff, sizeof g->free);
        uint32_t begin = bora_builder_state(g->builder);
        bora_builder_skip(g->builder, from, begin);
        number_digits(g, 0, 0, false, n == n_lo, n == n_hi, begin);
    }
}

static int magnitude_compare(const bora_decimal *a, const bora_decimal *b)
{
    size_t n_a = strlen(a->whole), n_b = strlen(b->whole);
    if (n_a != n_b)
        return n_a < n_b ? -1 : 1;
    int order = strcmp(a->whole, b->whole);
    return order ? order : strcmp(a->fraction, b->fraction);
}

void bora_numbers_emit(bora_builder *builder, const bora_bound *min, const bora_bound *max, uint32_t from, uint32_t to)
{
    static const bora_decimal zero = {.whole = "0"};
    numbers g = {.builder = builder, .to = to};
    if (!max->is_set || !max->value.is_negative) { /* 0 and more */
        bool bounded = min->is_set && !min->value.is_negative;
        g.lo = bounded ? &min->value : &zero;
        g.lo_is_open = bounded && min->is_exclusive;
        g.hi = max->is_set ? &max->value : NULL;
        g.hi_is_open = max->is_set && max->is_exclusive;
        if (!g.hi || magnitude_compare(g.lo, g.hi) <= 0)
            number_magnitudes(&g, from);
    }
    if (!min->is_set || min->value.is_negative) { /* less than 0 */
        bool bounded = max->is_set && max->value.is_negative;
        g.lo = bounded ? &max->value : &zero;
        g.lo_is_open = !bounded || max->is_exclusive;
        g.hi = min->is_set ? &min->value : NULL;
        g.hi_is_open = min->is_set && min->is_exclusive;
        uint32_t minus = bora_builder_state(builder);
        bora_builder_bytes(builder, from, '-', '-', minus);
        if (!g.hi || magnitude_compare(g.lo, g.hi) <= 0)
            number_magnitudes(&g, minus);
    }
}
