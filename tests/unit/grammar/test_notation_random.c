/* Random small grammars: which short texts fit, against trying every way to cut them; and that from wherever chance
 * leads, however deep, there is a way to the end. */
#include "grammar_fixture.h"

#include "support/schema_random.h"

#define N_RULES   4
#define ALTS_MAX  3
#define ITEMS_MAX 3
#define TEXT_MAX  6
#define LONG_WALK 400

/* A rule is alternatives of items; an item is a letter (>= 0) or a rule (-1 - rule), once or as ? * +. */
typedef struct item {
    int what;
    char repeat; /* 0: once */
} item;

typedef struct rule {
    item alts[ALTS_MAX][ITEMS_MAX];
    int n_alts, n_items[ALTS_MAX];
} rule;

typedef struct language {
    rule rules[N_RULES];
    /* fits[r][i][j]: whether rule r is text[i .. j) */
    bool fits[N_RULES][TEXT_MAX + 1][TEXT_MAX + 1];
} language;

static void language_random(language *l, char *source, size_t size, uint64_t *seed)
{
    size_t n = 0;
    for (int r = 0; r < N_RULES; r++) {
        rule *made = &l->rules[r];
        n += (size_t)snprintf(source + n, size - n, "%s%d ::= ", r == 0 ? "root ::= r0\nr" : "r", r);
        made->n_alts = 1 + (int)bora_random_below(seed, ALTS_MAX);
        for (int a = 0; a < made->n_alts; a++) {
            made->n_items[a] = (int)bora_random_below(seed, ITEMS_MAX + 1);
            n += (size_t)snprintf(source + n, size - n, "%s\"\"", a ? " | " : "");
            for (int i = 0; i < made->n_items[a]; i++) {
                item *it = &made->alts[a][i];
                static const char repeats[] = {0, 0, 0, 0, '?', '*', '+'};
                it->what = bora_random_below(seed, 5) < 2 ? -1 - (int)bora_random_below(seed, N_RULES)
                                                          : "aab"[bora_random_below(seed, 3)];
                it->repeat = repeats[bora_random_below(seed, sizeof repeats)];
                if (it->what >= 0)
                    n += (size_t)snprintf(source + n, size - n, " \"%c\"", it->what);
                else
                    n += (size_t)snprintf(source + n, size - n, " r%d", -1 - it->what);
                if (it->repeat)
                    n += (size_t)snprintf(source + n, size - n, "%c", it->repeat);
            }
        }
        n += (size_t)snprintf(source + n, size - n, "\n");
    }
}

static bool once(const language *l, const item *it, const char *text, int i, int j)
{
    return it->what >= 0 ? j == i + 1 && text[i] == it->what : l->fits[-1 - it->what][i][j];
}

/* Items [n] are text[i .. j), by what is known so far. */
static bool items_fit(const language *l, const item *items, int n, const char *text, int i, int j)
{
    if (n == 0)
        return i == j;
    bool may_miss = items->repeat == '?' || items->repeat == '*', again = items->repeat == '*' || items->repeat == '+';
    if (may_miss && items_fit(l, items + 1, n - 1, text, i, j))
        return true;
    for (int k = i; k <= j; k++) {
        if (!once(l, items, text, i, k))
            continue;
        if (items_fit(l, items + 1, n - 1, text, k, j))
            return true;
        item more[ITEMS_MAX];
        memcpy(more, items, (size_t)n * sizeof *items);
        more[0].repeat = '*';
        if (again && k > i && items_fit(l, more, n, text, k, j))
            return true;
    }
    return false;
}

/* Until nothing is added. */
static bool language_fits(language *l, const char *text, int size)
{
    memset(l->fits, 0, sizeof l->fits);
    for (bool changed = true; changed;) {
        changed = false;
        for (int r = 0; r < N_RULES; r++)
            for (int i = 0; i <= size; i++)
                for (int j = i; j <= size; j++)
                    for (int a = 0; a < l->rules[r].n_alts && !l->fits[r][i][j]; a++)
                        if (items_fit(l, l->rules[r].alts[a], l->rules[r].n_items[a], text, i, j))
                            changed = l->fits[r][i][j] = true;
    }
    return l->fits[0][0][size];
}

/* A step that fits; false: it would be too much work, which a grammar that is ambiguous everywhere comes to. */
static bool step(bora_machine *machine, uint32_t set, char letter, uint32_t *ret_next)
{
    bora_status st = bora_machine_step(machine, set, (uint8_t)letter, ret_next, NULL);
    assert_true(st == BORA_OK || st == BORA_E_LIMIT);
    return st == BORA_OK;
}

/* Takes a and b by chance for a while, then looks for an end: the nearest, in all directions at once. False: it was
 * stopped by work. */
static bool must_reach_an_end(bora_grammar *grammar, const char *source, uint64_t *seed)
{
    enum { QUEUE = 20000 };
    static uint32_t queue[QUEUE];
    bora_machine *machine = NULL;
    uint32_t set = 0;
    assert_int_equal(bora_machine_new(grammar, &machine, NULL), BORA_OK);
    assert_int_equal(bora_machine_start(machine, &set, NULL), BORA_OK);
    bool ok = true;
    for (int i = 0; i < LONG_WALK && ok && !bora_machine_is_final(machine, set); i++) {
        uint32_t next = BORA_SET_DEAD;
        char letter = "ab"[bora_random_below(seed, 2)];
        ok = step(machine, set, letter, &next);
        if (ok && next == BORA_SET_DEAD)
            ok = step(machine, set, (char)(letter ^ 'a' ^ 'b'), &next);
        if (ok && next == BORA_SET_DEAD)
            fail_msg("nothing fits, and it is no end\n%s", source);
        set = ok ? next : set;
    }
    size_t n = 0;
    queue[n++] = set;
    for (size_t i = 0; i < n && ok && !bora_machine_is_complete(machine, queue[i]); i++)
        for (const char *c = "ab"; *c && ok; c++) {
            uint32_t next = BORA_SET_DEAD;
            bool is_new = true;
            ok = step(machine, queue[i], *c, &next);
            for (size_t k = 0; k < n && is_new; k++)
                is_new = queue[k] != next;
            if (next != BORA_SET_DEAD && is_new && n < QUEUE)
                queue[n++] = next;
        }
    bool found = false;
    for (size_t i = 0; i < n; i++)
        found |= bora_machine_is_complete(machine, queue[i]);
    if (!found && ok)
        fail_msg("no way to the end\n%s", source);
    bora_machine_free(machine);
    return found;
}

static void check_texts(language *l, bora_grammar *grammar, const char *source, size_t *n_fit)
{
    for (int size = 0; size <= TEXT_MAX; size++)
        for (unsigned bits = 0; bits < 1u << size; bits++) {
            char text[TEXT_MAX + 1] = "";
            for (int i = 0; i < size; i++)
                text[i] = bits >> i & 1 ? 'b' : 'a';
            bool fits = language_fits(l, text, size);
            fit how = grammar ? grammar_fit(grammar, text, (size_t)size) : FIT_NOT;
            if ((how == FIT_WHOLE) != fits)
                fail_msg("'%s' should%s fit\n%s", text, fits ? "" : " not", source);
            for (size_t i = 0; fits && i < (size_t)size; i++)
                assert_int_not_equal(grammar_fit(grammar, text, i), FIT_NOT);
            *n_fit += fits;
        }
}

static void test_against_every_cut(void **state)
{
    (void)state;
    static language l;
    uint64_t seed = 5;
    size_t n_fit = 0, n_compiled = 0, n_refused = 0, n_ended = 0;
    while (n_compiled < 150) {
        char source[1024];
        bora_grammar *grammar = NULL;
        bora_error err = {{0}};
        language_random(&l, source, sizeof source, &seed);
        bora_status st = bora_grammar_from_notation(source, strlen(source), &grammar, &err);
        if (st != BORA_OK && strstr(err.message, "begins with itself")) {
            n_refused++;
            continue;
        }
        if (st != BORA_OK && !strstr(err.message, "no text fits"))
            fail_msg("%s\n%s", err.message, source);
        check_texts(&l, grammar, source, &n_fit);
        for (int i = 0; grammar && i < 3; i++)
            n_ended += must_reach_an_end(grammar, source, &seed);
        bora_grammar_unref(grammar);
        n_compiled++;
    }
    assert_true(n_fit > 1000 && n_refused > 10 && n_ended > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_every_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
