#include "model/hparams.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bora_hparams hparams_good(void)
{
    return (bora_hparams){.n_layers = 4,
                          .dim = 64,
                          .hidden_dim = 128,
                          .n_heads = 8,
                          .n_kv_heads = 2,
                          .head_dim = 8,
                          .vocab_size = 300,
                          .n_experts = 4,
                          .n_experts_per_tok = 2,
                          .context_length = 4096,
                          .norm_eps = 1e-5f,
                          .rope_theta = 1e6f,
                          .n_windows = 2,
                          .windows = {8, 0}};
}

static void good_ones_pass(void **state)
{
    (void)state;
    bora_hparams hparams = hparams_good();
    assert_int_equal(bora_hparams_check(&hparams, NULL), BORA_OK);
    hparams.n_layers = BORA_LAYERS_MAX;
    hparams.dim = BORA_DIM_MAX;
    hparams.hidden_dim = BORA_HIDDEN_DIM_MAX;
    hparams.n_heads = hparams.n_kv_heads = BORA_HEADS_MAX;
    hparams.head_dim = BORA_HEAD_DIM_MAX;
    hparams.vocab_size = BORA_VOCAB_MAX;
    hparams.n_experts = hparams.n_experts_per_tok = BORA_EXPERTS_MAX;
    hparams.context_length = hparams.windows[0] = BORA_POSITIONS_MAX;
    assert_int_equal(bora_hparams_check(&hparams, NULL), BORA_OK);
}

static void assert_refused(const bora_hparams *hparams, const char *name)
{
    bora_error err = {{0}};
    assert_int_equal(bora_hparams_check(hparams, &err), BORA_E_FORMAT);
    if (!strstr(err.message, name))
        fail_msg("'%s' does not name %s", err.message, name);
}

static void bad_ones_are_refused_by_name(void **state)
{
    (void)state;
    bora_hparams bad;
#define REFUSED(member, value, name) (bad = hparams_good(), bad.member = (value), assert_refused(&bad, name))
    REFUSED(n_layers, 0, "n_layers");
    REFUSED(n_layers, BORA_LAYERS_MAX + 1, "n_layers");
    REFUSED(dim, 0, "dim");
    REFUSED(dim, BORA_DIM_MAX + 1, "dim");
    REFUSED(hidden_dim, 0, "hidden_dim");
    REFUSED(hidden_dim, BORA_HIDDEN_DIM_MAX + 1, "hidden_dim");
    REFUSED(n_heads, 0, "n_heads");
    REFUSED(n_heads, BORA_HEADS_MAX + 1, "n_heads");
    REFUSED(n_kv_heads, 0, "n_kv_heads");
    REFUSED(n_kv_heads, 3, "n_kv_heads");
    REFUSED(n_kv_heads, 16, "n_kv_heads");
    REFUSED(head_dim, 0, "head_dim");
    REFUSED(head_dim, 7, "head_dim");
    REFUSED(head_dim, BORA_HEAD_DIM_MAX + 2, "head_dim");
    REFUSED(vocab_size, 0, "vocab_size");
    REFUSED(vocab_size, BORA_VOCAB_MAX + 1, "vocab_size");
    REFUSED(n_experts, 0, "n_experts");
    REFUSED(n_experts, BORA_EXPERTS_MAX + 1, "n_experts");
    REFUSED(n_experts_per_tok, 0, "n_experts_per_tok");
    REFUSED(n_experts_per_tok, 5, "n_experts_per_tok");
    REFUSED(context_length, BORA_POSITIONS_MAX + 1, "context_length");
    REFUSED(norm_eps, 0.0f, "norm_eps");
    REFUSED(norm_eps, -1e-5f, "norm_eps");
    REFUSED(norm_eps, NAN, "norm_eps");
    REFUSED(rope_theta, 0.0f, "rope_theta");
    REFUSED(rope_theta, INFINITY, "rope_theta");
    REFUSED(n_windows, 0, "n_windows");
    REFUSED(n_windows, 3, "sliding_window");
    REFUSED(n_windows, 5, "n_windows");
    REFUSED(windows[1], UINT32_MAX, "sliding_window");
#undef REFUSED
}

static void windows_repeat_over_the_layers(void **state)
{
    (void)state;
    bora_hparams hparams = hparams_good();
    for (uint32_t layer = 0; layer < hparams.n_layers; layer++)
        assert_int_equal(bora_hparams_window(&hparams, layer), layer % 2 ? 0 : 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_pass),
        cmocka_unit_test(bad_ones_are_refused_by_name),
        cmocka_unit_test(windows_repeat_over_the_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
