/* How many prompt rows a step may take: from machines that are made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/pace.h"

#define MS UINT64_C(1000000)

/* A machine: a step takes what reading the weights does, and something for each row. */
typedef struct machine {
    uint64_t base_ns, decode_row_ns, prompt_row_ns;
} machine;

static uint64_t takes(const machine *m, uint32_t n_decoding, uint32_t n_prompt)
{
    return m->base_ns + n_decoding * m->decode_row_ns + n_prompt * m->prompt_row_ns;
}

/* n steps in which 4 decode and prompts get what the pace says, every fourth without; the rows of the last one. */
static uint32_t drive(bora_pace *pace, const machine *m, uint64_t max_step_ns, uint32_t n_max, int n)
{
    uint32_t rows = 0;
    for (int i = 1; i <= n; i++) {
        if (i % 4 == 0) {
            bora_pace_learn(pace, 4, 0, takes(m, 4, 0));
            continue;
        }
        rows = bora_pace_rows(pace, 4, max_step_ns, n_max);
        assert_in_range(rows, 1, n_max);
        bora_pace_learn(pace, 4, rows, takes(m, 4, rows));
    }
    return rows;
}

static const machine large = {.base_ns = 100 * MS, .decode_row_ns = MS, .prompt_row_ns = 4 * MS};

static void test_auto(void **state)
{
    (void)state;
    bora_pace pace = {0};
    uint32_t rows = drive(&pace, &large, 0, 512, 100);
    /* 1.8 times 104 ms leave 83.2 ms: 20 rows. */
    assert_in_range(rows, 19, 21);
    assert_in_range(bora_pace_limit(&pace, 0), 185 * MS, 189 * MS);
}

static void test_max_step(void **state)
{
    (void)state;
    bora_pace pace = {0};
    assert_in_range(drive(&pace, &large, 304 * MS, 512, 100), 49, 51);
    assert_int_equal(bora_pace_limit(&pace, 304 * MS), 304 * MS);
    /* Less than a step takes anyway: still one row, so that prompts get on. */
    assert_int_equal(drive(&pace, &large, 20 * MS, 512, 100), 1);
    /* More than there can be. */
    assert_int_equal(drive(&pace, &large, 100000 * MS, 512, 100), 512);
    assert_int_equal(drive(&pace, &large, UINT64_MAX, 512, 10), 512);
}

/* A small model: up to the floor nobody minds. */
static void test_floor(void **state)
{
    (void)state;
    const machine small = {.base_ns = MS / 2, .prompt_row_ns = MS / 10};
    bora_pace pace = {0};
    assert_in_range(drive(&pace, &small, 0, 4096, 200), 485, 500);
    assert_int_equal(bora_pace_limit(&pace, 0), BORA_PACE_FLOOR_NS);
    bora_pace none = {0};
    assert_int_equal(bora_pace_limit(&none, 0), BORA_PACE_FLOOR_NS);
    assert_int_equal(bora_pace_limit(&none, 3 * MS), 3 * MS); /* what was asked for, if less */
}

static void test_follows(void **state)
{
    (void)state;
    bora_pace pace = {0};
    assert_in_range(drive(&pace, &large, 304 * MS, 512, 100), 49, 51);
    const machine slower = {.base_ns = 150 * MS, .decode_row_ns = MS, .prompt_row_ns = 15 * MS};
    assert_in_range(drive(&pace, &slower, 304 * MS, 512, 100), 9, 11); /* 150 ms are left */
    assert_in_range(drive(&pace, &large, 304 * MS, 512, 100), 48, 52);
    /* One step that the machine slept through does not stop prompts for long. */
    bora_pace_learn(&pace, 4, 50, 60000 * MS);
    assert_true(bora_pace_rows(&pace, 4, 304 * MS, 512) >= 1);
    assert_in_range(drive(&pace, &large, 304 * MS, 512, 150), 48, 52);
}

/* Rows that cost nothing beside the weights are not taken for free. */
static void test_nearly_free(void **state)
{
    (void)state;
    const machine reading = {.base_ns = 100 * MS};
    bora_pace pace = {0};
    uint32_t rows = drive(&pace, &reading, 0, 65536, 200);
    assert_in_range(rows, 20, 65536);
    bora_pace_learn(&pace, 4, 64, 90 * MS); /* even less than a step without */
    assert_true(pace.row_ns > 0);
    assert_in_range(bora_pace_rows(&pace, 4, 0, 512), 1, 512);
}

static void test_alone(void **state)
{
    (void)state;
    bora_pace pace = {0};
    assert_int_equal(bora_pace_rows(&pace, 0, 0, 512), BORA_PACE_ROWS_MIN); /* nothing is known */
    assert_int_equal(bora_pace_rows(&pace, 0, 0, 5), 5);
    for (int i = 0; i < 50; i++) {
        uint32_t rows = bora_pace_rows(&pace, 0, 0, 2048);
        bora_pace_learn(&pace, 0, rows, rows * 2 * MS);
    }
    assert_in_range(bora_pace_rows(&pace, 0, 0, 2048), 499, 501); /* a second's worth */
    for (int i = 0; i < 100; i++)
        bora_pace_learn(&pace, 0, 128, 128 * 50 * MS);
    assert_int_equal(bora_pace_rows(&pace, 0, 0, 2048), BORA_PACE_ROWS_MIN); /* not fewer */
    assert_int_equal(bora_pace_rows(&pace, 0, 0, 100), 100);
    /* What is known of prompts alone is a first guess for those beside others. */
    assert_in_range(bora_pace_rows(&pace, 1, 500 * MS, 2048), 9, 11);
}

/* Nothing known, or nonsense: some rows all the same, within bounds. */
static void test_never_none(void **state)
{
    (void)state;
    bora_pace pace = {0};
    assert_in_range(bora_pace_rows(&pace, 1, 0, 512), 1, 512);
    assert_int_equal(bora_pace_rows(&pace, 1, 0, 1), 1);
    bora_pace_learn(&pace, 0, 0, 5 * MS); /* a step of nothing teaches nothing */
    assert_true(pace.decode_ns == 0 && pace.row_ns == 0 && pace.alone_ns == 0);
    static const uint64_t times[] = {0, 1, 50 * MS, 3600000 * MS, UINT64_MAX};
    static const uint32_t counts[] = {0, 1, 64, UINT32_MAX};
    for (uint32_t i = 0; i < 2000; i++) {
        bora_pace_learn(&pace, counts[i % 4], counts[i / 4 % 4], times[i / 16 % 5]);
        static const uint32_t n_max[] = {1, 2, 127, 128, 65536};
        for (size_t j = 0; j < sizeof n_max / sizeof *n_max; j++)
            for (size_t k = 0; k < 5; k++) {
                assert_in_range(bora_pace_rows(&pace, 0, times[k], n_max[j]), 1, n_max[j]);
                assert_in_range(bora_pace_rows(&pace, 3, times[k], n_max[j]), 1, n_max[j]);
            }
    }
}

/* Prompts one after the other, on a machine that gets three times as slow on the way: now and then a step goes without,
 * so that the limit keeps up with it, up and down. */
static void test_keeps_up(void **state)
{
    (void)state;
    bora_pace pace = {0};
    uint32_t n_without = 0;
    assert_true(bora_pace_is_due(&pace, 4, 0)); /* nothing is known */
    assert_false(bora_pace_is_due(&pace, 0, 0));
    assert_false(bora_pace_is_due(&pace, 4, 300 * MS)); /* the limit is what was asked for */
    for (int i = 0; i < 900; i++) {
        machine now = large;
        if (i >= 300 && i < 600)
            now = (machine){.base_ns = 300 * MS, .decode_row_ns = 3 * MS, .prompt_row_ns = 12 * MS};
        if (bora_pace_is_due(&pace, 4, 0)) {
            n_without++;
            bora_pace_learn(&pace, 4, 0, takes(&now, 4, 0));
            continue;
        }
        uint32_t rows = bora_pace_rows(&pace, 4, 0, 512);
        bora_pace_learn(&pace, 4, rows, takes(&now, 4, rows));
        if (i % 300 == 299) { /* 1.8 times a step without leaves room for 20 rows, then as now */
            assert_in_range(rows, 18, 22);
            assert_in_range(bora_pace_limit(&pace, 0), takes(&now, 4, 0) * 17 / 10, takes(&now, 4, 0) * 19 / 10);
        }
    }
    assert_in_range(n_without, 900 / (2 * BORA_PACE_AGE_MAX), 900 / BORA_PACE_AGE_MAX + 1);
}

/* A machine whose matrix product takes 8 rows for the price of one and 16 for that of twice as many, as real ones do:
 * the step is filled up to the tile's edge, not beyond. */
static void test_tiles(void **state)
{
    (void)state;
    bora_pace pace = {0};
    uint32_t rows = 0;
    for (int i = 0; i < 300; i++) {
        if (i % 50 == 0)
            bora_pace_learn(&pace, 3, 0, 100 * MS);
        rows = bora_pace_rows(&pace, 3, 0, 512);
        bora_pace_learn(&pace, 3, rows, (rows + 3 <= 8 ? 110 : 220 + (rows + 3 - 8) * 12) * MS);
    }
    assert_in_range(rows, 4, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_up),    cmocka_unit_test(test_tiles), cmocka_unit_test(test_auto),
        cmocka_unit_test(test_max_step),    cmocka_unit_test(test_floor), cmocka_unit_test(test_follows),
        cmocka_unit_test(test_nearly_free), cmocka_unit_test(test_alone), cmocka_unit_test(test_never_none),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
