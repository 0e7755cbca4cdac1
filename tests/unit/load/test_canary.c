/* Others' secrets are found wherever they are in a reply, and nothing else is taken for one. */
#include "bench/load/canary.h"

#include "codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#define N 4u

static bora_load_canary canary;

static int set_up(void **state)
{
    (void)state;
    bora_load_canary_init(&canary, 9, N, 2);
    return 0;
}

static void test_secrets_are_distinct_and_repeatable(void **state)
{
    (void)state;
    bora_load_canary again, other;
    bora_load_canary_init(&again, 9, N, 2);
    bora_load_canary_init(&other, 10, N, 2);
    for (uint32_t i = 0; i < N; i++) {
        assert_memory_equal(&again.secrets[i], &canary.secrets[i], sizeof(bora_load_secret));
        assert_memory_not_equal(&other.secrets[i], &canary.secrets[i], sizeof(bora_load_secret));
        for (uint32_t k = 0; k < N; k++)
            for (uint32_t g = 0; g < BORA_LOAD_SECRET_GROUPS; g++)
                assert_true((i == k && g == 0) ||
                            strcmp(canary.secrets[i].groups[0], canary.secrets[k].groups[g]) != 0);
        assert_int_equal(strlen(canary.secrets[i].groups[1]), BORA_LOAD_SECRET_GROUP);
    }
}

static uint32_t in_text(const char *before, const char *secret, const char *after)
{
    char text[100];
    int size = snprintf(text, sizeof text, "%s%s%s", before, secret, after);
    return bora_load_canary_in_text(&canary, text, (size_t)size);
}

static void test_texts(void **state)
{
    (void)state;
    assert_int_equal(in_text("", canary.secrets[0].groups[0], ""), 0);
    assert_int_equal(in_text("The code is ", canary.secrets[3].groups[1], "."), 3);
    assert_int_equal(in_text("mine: ", canary.secrets[2].groups[0], ""), BORA_LOAD_NOBODY);
    assert_int_equal(in_text("nothing", "", ""), BORA_LOAD_NOBODY);
    /* All but its last letter is no secret: the size counts, not a zero. */
    assert_int_equal(bora_load_canary_in_text(&canary, canary.secrets[0].groups[0], BORA_LOAD_SECRET_GROUP - 1),
                     BORA_LOAD_NOBODY);
    assert_int_equal(bora_load_canary_in_text(&canary, NULL, 0), BORA_LOAD_NOBODY);
    canary.owner = BORA_LOAD_NOBODY;
    assert_int_equal(in_text("mine: ", canary.secrets[2].groups[0], ""), 2);
    assert_false(bora_load_canary_own(&canary, canary.secrets[2].groups[0], BORA_LOAD_SECRET_GROUP));
    canary.owner = 2;
    assert_true(bora_load_canary_own(&canary, canary.secrets[2].groups[0], BORA_LOAD_SECRET_GROUP));
    assert_false(bora_load_canary_own(&canary, canary.secrets[1].groups[0], BORA_LOAD_SECRET_GROUP));
}

/* A reply like a list of sessions, with a text in one of its places. */
static uint32_t in_reply(const char *key, const char *name, const char *deep)
{
    const char *wrong = "";
    bora_pack pack = {0};
    bora_pack_map(&pack, NULL);
    bora_pack_uint(&pack, "id", 1);
    bora_pack_array(&pack, "sessions");
    for (int i = 0; i < 3; i++) {
        bora_pack_map(&pack, NULL);
        bora_pack_string(&pack, key, i == 2 ? name : "");
        bora_pack_array(&pack, "messages");
        bora_pack_string(&pack, NULL, i == 1 ? deep : "");
        bora_pack_end(&pack);
        bora_pack_end(&pack);
    }
    bora_pack_end(&pack);
    bora_pack_end(&pack);
    assert_true(bora_pack_ok(&pack));
    bora_frame *frame = bora_frame_parse(pack.data, pack.size, pack.size, &wrong);
    assert_non_null(frame);
    uint32_t found =
        bora_load_canary_in_value(&canary, (const bora_client_value *)(const void *)bora_frame_root(frame));
    bora_frame_free(frame);
    bora_pack_release(&pack);
    return found;
}

static void test_replies(void **state)
{
    (void)state;
    assert_int_equal(in_reply("name", "load-", "text"), BORA_LOAD_NOBODY);
    assert_int_equal(in_reply("name", canary.secrets[2].groups[0], "text"), BORA_LOAD_NOBODY);
    assert_int_equal(in_reply("name", canary.secrets[1].groups[0], "text"), 1);
    assert_int_equal(in_reply("name", "load-", canary.secrets[3].groups[1]), 3);
    assert_int_equal(in_reply(canary.secrets[0].groups[1], "load-", "text"), 0);
    assert_int_equal(bora_load_canary_in_value(&canary, NULL), BORA_LOAD_NOBODY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_secrets_are_distinct_and_repeatable, set_up),
        cmocka_unit_test_setup(test_texts, set_up),
        cmocka_unit_test_setup(test_replies, set_up),
    };
    return cmocka_run_group_tests_name("canary", tests, NULL, NULL);
}
