/* How far texts are from their end: held against what the machine says byte by byte, and against heights, which are
 * found in another way. */
#include "schema_fixture.h"

static bora_machine *machine_start(const bora_grammar *grammar, uint32_t *ret_set)
{
    bora_machine *machine = NULL;
    assert_int_equal(bora_machine_new(grammar, &machine, NULL), BORA_OK);
    assert_int_equal(bora_machine_start(machine, ret_set, NULL), BORA_OK);
    return machine;
}

/* The bytes that fit behind set: how many in all, the least distance behind one, and one of them by chance, which
 * prefers those that lead far. */
typedef struct ahead {
    uint32_t n, least;
    uint32_t next;
} ahead;

static ahead look_ahead(bora_machine *machine, uint32_t set, uint64_t *seed)
{
    ahead a = {.least = BORA_DISTANCE_NEVER};
    uint32_t furthest = 0, n_furthest = 0;
    bool far = bora_random_below(seed, 3) > 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t next = BORA_SET_DEAD;
        assert_int_equal(bora_machine_step(machine, set, (uint8_t)byte, &next, NULL), BORA_OK);
        if (next == BORA_SET_DEAD)
            continue;
        uint32_t distance = bora_machine_distance(machine, next);
        a.n++;
        a.least = distance < a.least ? distance : a.least;
        if (distance > furthest) {
            furthest = distance;
            n_furthest = 0;
        }
        n_furthest += distance == furthest;
        if (far ? distance == furthest && bora_random_below(seed, n_furthest) == 0 : bora_random_below(seed, a.n) == 0)
            a.next = next;
    }
    return a;
}

/* Bellman's equation, along a walk: as it holds everywhere, the distances are the least there are. */
static void distances_are_exact(const bora_grammar *grammar, const char *source, size_t n_bytes, uint64_t *seed)
{
    uint32_t set = 0;
    bora_machine *machine = machine_start(grammar, &set);
    for (size_t i = 0; i < n_bytes; i++) {
        ahead a = look_ahead(machine, set, seed);
        uint32_t distance = bora_machine_distance(machine, set);
        assert_int_equal(a.n == 0, bora_machine_is_final(machine, set));
        if (distance != (bora_machine_is_complete(machine, set) ? 0 : a.least + 1))
            fail_msg("%s: %u after %zu bytes, %u behind the next", source, distance, i, a.least);
        if (a.n == 0)
            break;
        set = a.next;
    }
    bora_machine_free(machine);
}

/* The nesting that a state needs at the least is its height. Returns how many distances come on top of one a state. */
static uint32_t lists_agree_with_heights(const bora_grammar *grammar)
{
    uint32_t n_again = 0;
    for (uint32_t s = 0; s < grammar->n_states; s++) {
        const bora_distance *list = grammar->distances + grammar->distance_firsts[s];
        uint32_t n = grammar->distance_firsts[s + 1] - grammar->distance_firsts[s];
        assert_int_equal(n == 0, grammar->heights[s] == BORA_HEIGHT_NEVER);
        assert_true(n == 0 || list[0].nesting == grammar->heights[s]);
        for (uint32_t i = 1; i < n; i++)
            assert_true(list[i].nesting > list[i - 1].nesting && list[i].n_bytes < list[i - 1].n_bytes);
        n_again += n > 0 ? n - 1 : 0;
    }
    return n_again;
}

/* Deep is short, shallow is long. */
static const char detour[] = "root ::= \"<\" root \">\" | a\n"
                             "a ::= \"aaaaaaaaaa\" | \"(\" b \")\"\n"
                             "b ::= \"bbbbbb\" | \"[\" c \"]\"\n"
                             "c ::= \"c\"\n";

static const struct {
    const char *notation;
    uint32_t distance; /* of the whole */
} cases[] = {
    {"root ::= \"\"", 0},
    {"root ::= \"abc\"", 3},
    {"root ::= \"abc\" | \"d\" .", 2},
    {"root ::= x{7} \"ab\"? y*\nx ::= [\\u00e0-\\u00ff] | \"abcd\"\ny ::= \"z\"", 14},
    {"root ::= \"(\" (root | \"aaaa\") \")\" | \"aaaaaaaaa\"", 6},
    {"root ::= \"x\" item \"y\" item | \"vvv\"\nitem ::= \"a\" | \"\"", 2},
    {"root ::= a a a\na ::= b b b | \"x\" {9}\nb ::= \"yy\"", 18},
    {"root ::= a \"x\"\na ::= \"p\" b | \"qq\"\nb ::= \"\" | a", 2},
    {detour, 5},
};

static void test_of_short_grammars(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        bora_grammar *grammar = notation_compile(cases[i].notation);
        uint32_t distance = grammar_distance(grammar, "", 0);
        if (distance != cases[i].distance)
            fail_msg("%s: %u", cases[i].notation, distance);
        (void)lists_agree_with_heights(grammar);
        for (int k = 0; k < 10; k++)
            distances_are_exact(grammar, cases[i].notation, 150, &seed);
        bora_grammar_unref(grammar);
    }
}

static void test_of_random_schemas(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < 250; i++) {
        json_t *schema = NULL;
        bora_grammar *grammar = random_grammar(&seed, &schema);
        char *source = json_dumps(schema, JSON_COMPACT);
        (void)lists_agree_with_heights(grammar);
        distances_are_exact(grammar, source, i % 10 == 0 ? 600 : 120, &seed);
        free(source);
        bora_grammar_unref(grammar);
        json_decref(schema);
    }
}

/* Where the short way would be too deep, the long one counts. */
static void test_where_the_bound_is_near(void **state)
{
    (void)state;
    bora_grammar *grammar = notation_compile(detour);
    char text[BORA_GRAMMAR_DEPTH_MAX + 1];
    memset(text, '<', sizeof text);
    for (uint32_t n = 0; n <= BORA_GRAMMAR_DEPTH_MAX; n++) {
        uint32_t room = BORA_GRAMMAR_DEPTH_MAX - n;
        assert_int_equal(grammar_distance(grammar, text, n), n + (room >= 2 ? 5u : room == 1 ? 8u : 10u));
    }
    assert_int_equal(grammar_distance(grammar, text, sizeof text), BORA_DISTANCE_NEVER);
    assert_true(lists_agree_with_heights(grammar) > 0);
    bora_grammar_unref(grammar);
}

/* So long that the numbers end: nothing turns over, and what is near stays near. */
static void test_of_very_long_texts(void **state)
{
    (void)state;
    static char source[4096];
    size_t n = (size_t)snprintf(source, sizeof source, "root ::= \"!\" | \"?\" x45 x45\nx0 ::= \"aaaaaaaaaa\"\n");
    for (int i = 1; i <= 45; i++)
        n += (size_t)snprintf(source + n, sizeof source - n, "x%d ::= x%d x%d\n", i, i - 1, i - 1);
    bora_grammar *grammar = notation_compile(source);
    assert_int_equal(grammar_distance(grammar, "", 0), 1);
    assert_int_equal(grammar_distance(grammar, "?", 1), BORA_DISTANCE_FAR);
    assert_int_equal(grammar_distance(grammar, "?aaaa", 5), BORA_DISTANCE_FAR);
    bora_grammar_unref(grammar);
}

#define LADDER 60

/* Each rule can be one rule deeper and some bytes shorter: every level changes most states, and there are more changes
 * than are kept. Each distance is still one that can be kept to. */
static void test_more_changes_than_are_kept(void **state)
{
    (void)state;
    static char source[65536];
    uint64_t seed = 3;
    size_t n = (size_t)snprintf(source, sizeof source, "root ::= r0\n");
    for (int i = 0; i < LADDER; i++)
        n += (size_t)snprintf(source + n, sizeof source - n, "r%d ::= \"(\" r%d \")\" | l%d\n", i, i + 1, 6 * i);
    n += (size_t)snprintf(source + n, sizeof source - n, "r%d ::= l%d\n", LADDER, 6 * LADDER);
    for (int i = 0; i < 6 * LADDER; i++)
        n += (size_t)snprintf(source + n, sizeof source - n, "l%d ::= \"a\" l%d\n", i, i + 1);
    n += (size_t)snprintf(source + n, sizeof source - n, "l%d ::= \"a\"\n", 6 * LADDER);
    assert_true(n < sizeof source);
    bora_grammar *grammar = notation_compile(source);
    uint32_t n_again = lists_agree_with_heights(grammar);
    print_message("%u states, %u distances on top\n", grammar->n_states, n_again);
    assert_int_equal(n_again, grammar->n_states); /* all that are kept */
    assert_true(bora_grammar_size(grammar) < 200u * grammar->n_states);
    for (int k = 0; k < 50; k++) {
        uint32_t set = 0;
        bora_machine *machine = machine_start(grammar, &set);
        for (ahead a = look_ahead(machine, set, &seed); a.n > 0; a = look_ahead(machine, set, &seed)) {
            assert_true(bora_machine_is_complete(machine, set) || a.least < bora_machine_distance(machine, set));
            set = a.next;
        }
        assert_true(bora_machine_is_complete(machine, set));
        bora_machine_free(machine);
    }
    bora_grammar_unref(grammar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_short_grammars),          cmocka_unit_test(test_of_random_schemas),
        cmocka_unit_test(test_where_the_bound_is_near),    cmocka_unit_test(test_of_very_long_texts),
        cmocka_unit_test(test_more_changes_than_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
