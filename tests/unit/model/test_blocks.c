#include "model/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void types_are_what_the_formats_say(void **state)
{
    (void)state;
    /* In the order of the ABI's numbers; bytes are fields of bits and halves added up. */
    static const bora_block expected[] = {
        {"f32", 1, 4},
        {"f16", 1, 2},
        {"bf16", 1, 2},
        {"q8_0", 32, 2 + 32},
        {"q4_0", 32, 2 + 32 * 4 / 8},
        {"q4_1", 32, 4 + 32 * 4 / 8},
        {"q5_0", 32, 2 + 32 * 5 / 8},
        {"q5_1", 32, 4 + 32 * 5 / 8},
        {"q2_k", 256, 4 + 16 + 256 * 2 / 8},
        {"q3_k", 256, 2 + 16 * 6 / 8 + 256 * 3 / 8},
        {"q4_k", 256, 4 + 8 * 12 / 8 + 256 * 4 / 8},
        {"q5_k", 256, 4 + 8 * 12 / 8 + 256 * 5 / 8},
        {"q6_k", 256, 2 + 16 + 256 * 6 / 8},
        {"iq4_nl", 32, 2 + 32 * 4 / 8},
        {"iq4_xs", 256, 2 + 8 * 6 / 8 + 256 * 4 / 8},
    };
    assert_int_equal(BORA_DTYPE_COUNT, sizeof expected / sizeof *expected);
    assert_int_equal(BORA_DTYPE_Q8_0, 3);
    assert_int_equal(BORA_DTYPE_IQ4_XS, BORA_DTYPE_COUNT - 1);
    for (uint32_t i = 0; i < BORA_DTYPE_COUNT; i++) {
        const bora_block *block = bora_block_of(i);
        assert_non_null(block);
        assert_string_equal(block->name, expected[i].name);
        assert_int_equal(block->n_elements, expected[i].n_elements);
        assert_int_equal(block->size, expected[i].size);
        assert_true(block->size <= BORA_BLOCK_SIZE_MAX && block->n_elements <= BORA_BLOCK_ELEMENTS_MAX);
    }
    assert_null(bora_block_of(BORA_DTYPE_COUNT));
    assert_null(bora_block_of(UINT32_MAX));
}

static void rows_are_measured(void **state)
{
    (void)state;
    size_t size = 0;
    assert_true(bora_block_row_size(BORA_DTYPE_F32, 7, &size));
    assert_int_equal(size, 28);
    assert_true(bora_block_row_size(BORA_DTYPE_BF16, 7, &size));
    assert_int_equal(size, 14);
    assert_true(bora_block_row_size(BORA_DTYPE_Q8_0, 256, &size));
    assert_int_equal(size, 272);
    assert_true(bora_block_row_size(BORA_DTYPE_Q6_K, 4096, &size));
    assert_int_equal(size, 3360);
    assert_true(bora_block_row_size(BORA_DTYPE_Q8_0, 0, &size));
    assert_int_equal(size, 0);
}

static void impossible_rows_leave_the_result_alone(void **state)
{
    (void)state;
    size_t size = 99;
    assert_false(bora_block_row_size(BORA_DTYPE_Q8_0, 33, &size));
    assert_false(bora_block_row_size(BORA_DTYPE_Q4_K, 256 + 32, &size));
    assert_false(bora_block_row_size(BORA_DTYPE_COUNT, 32, &size));
    assert_false(bora_block_row_size(BORA_DTYPE_F32, UINT64_C(1) << 62, &size));
    assert_false(bora_block_row_size(BORA_DTYPE_Q8_0, UINT64_MAX - 31, &size));
    assert_int_equal(size, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_what_the_formats_say),
        cmocka_unit_test(rows_are_measured),
        cmocka_unit_test(impossible_rows_leave_the_result_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
