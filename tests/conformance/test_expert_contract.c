/* Every expert plugin: what plugin.h demands of all kinds. */
#define CONTRACT_KIND   expert
#define CONTRACT_RESULT (7u * 256u)
#include "contract.h"
#include "support/blocks.h"

#define N_EXPERTS  4u
#define N_CHOSEN   2u
#define N_TOKENS   7u
#define N_VARIANTS CONTRACT_INSTANCES_MAX
#define DIM        256u /* whole blocks of every type */
#define HIDDEN     256u

static const size_t contract_shape_needed = offsetof(bora_expert_shape, reserved);

/* Quantised weights where they are taken: more can go wrong with them. */
static uint32_t dtype_of(const bora_plugin_library *library, uint32_t variant)
{
    const uint32_t dtypes = bora_plugin_dtypes(library);
    const uint32_t wanted[] = {BORA_DTYPE_Q8_0, BORA_DTYPE_Q4_0, BORA_DTYPE_F32};
    if (dtypes & BORA_DTYPE_BIT(wanted[variant]))
        return wanted[variant];
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++)
        if (dtypes & BORA_DTYPE_BIT(dtype))
            return dtype;
    fail_msg("the plugin takes no element type that is known here");
    return 0;
}

static void contract_shape(const bora_plugin_library *library, uint32_t variant, bora_expert_shape *ret_shape)
{
    (void)library;
    *ret_shape = (bora_expert_shape){
        .struct_size = sizeof *ret_shape,
        .n_layers = 1,
        .n_experts = N_EXPERTS,
        .n_experts_per_tok = N_CHOSEN,
        .dim = DIM,
        .hidden_dim = HIDDEN,
        .max_tokens = N_TOKENS + variant,
    };
}

/* One matrix per element type serves as w1, w2, w3 of all experts, from another row of blocks on each time. They stay
 * valid as weights do. */
static bora_tensor weights_of(uint32_t dtype, uint32_t number)
{
    static _Alignas(64) unsigned char all[BORA_DTYPE_COUNT][(HIDDEN + 3 * N_EXPERTS) * DIM * 4];
    static bool filled[BORA_DTYPE_COUNT];
    const bora_block *type = bora_block_of(dtype);
    const size_t n_blocks = DIM / type->n_elements, row_size = n_blocks * type->size;
    if (!filled[dtype]) { /* by the first use, which is the test's own thread */
        uint64_t random = 11 + dtype;
        for (size_t b = 0; b < (HIDDEN + 3 * N_EXPERTS) * n_blocks; b++)
            blocks_fill(dtype, &random, 0.125f, all[dtype] + b * type->size);
        filled[dtype] = true;
    }
    return (bora_tensor){
        .data = all[dtype] + number * row_size, .row_size = row_size, .n_rows = HIDDEN, .n_cols = DIM, .dtype = dtype};
}

/* The arrays are spoiled after the call: only the tensors stay. */
static bora_status contract_ready(const bora_plugin_library *library, bora_expert *expert, uint32_t variant,
                                  bora_error *err)
{
    bora_tensor w[3][N_EXPERTS];
    for (uint32_t m = 0; m < 3; m++)
        for (uint32_t e = 0; e < N_EXPERTS; e++)
            w[m][e] = weights_of(dtype_of(library, variant), m * N_EXPERTS + e);
    bora_expert_weights weights = {.w1 = w[0], .w2 = w[1], .w3 = w[2]};
    bora_status status = bora_plugin_expert_ops(library)->prepare(expert, 0, &weights, err);
    memset(w, 0, sizeof w);
    memset(&weights, 0, sizeof weights);
    return status;
}

static bora_status contract_use(const bora_plugin_library *library, bora_expert *expert, uint32_t variant,
                                float *result, bora_error *err)
{
    float x[N_TOKENS * DIM], weights[N_TOKENS * N_CHOSEN];
    int32_t experts[N_TOKENS * N_CHOSEN];
    uint64_t random = 3 + variant;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(x); i++)
        x[i] = (float)(suite_random(&random) >> 40) * 0x1p-23f - 1;
    for (uint32_t t = 0; t < N_TOKENS; t++)
        for (uint32_t c = 0; c < N_CHOSEN; c++) {
            experts[t * N_CHOSEN + c] = (int32_t)((t + variant + c * (1 + t % 3)) % N_EXPERTS);
            weights[t * N_CHOSEN + c] = c ? 0.25f : 0.75f;
        }
    const bora_routing routing = {.experts = experts, .weights = weights};
    memset(result, 0xff, CONTRACT_RESULT * sizeof *result);
    bora_status status = bora_plugin_expert_ops(library)->forward(expert, 0, N_TOKENS, x, result, &routing, err);
    memset(x, 0xff, sizeof x);
    memset(experts, 0xff, sizeof experts);
    return status;
}

/* Before prepare there is nothing to compute with; no tokens are no work. */
static void order_of_calls(void **state)
{
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    suite_host host;
    suite_host_init(&host, 1);
    bora_expert_shape shape;
    contract_shape(*state, 0, &shape);
    shape.n_layers = 2;
    bora_expert *expert = NULL;
    float result[CONTRACT_RESULT];
    bora_error err = {""};
    assert_int_equal(ops->create(&host.table, &shape, &expert, &err), BORA_OK);
    SUITE_DEMAND(contract_use(*state, expert, 0, result, &err) != BORA_OK, "forward works before prepare");
    SUITE_DEMAND(err.message[0], "forward before prepare fails and gives no reason");
    SUITE_DEMAND(contract_use(*state, expert, 0, result, NULL) != BORA_OK, "forward works before prepare");
    assert_int_equal(contract_ready(*state, expert, 0, &err), BORA_OK);
    assert_int_equal(contract_use(*state, expert, 0, result, &err), BORA_OK);
    const bora_routing none = {.experts = NULL, .weights = NULL};
    SUITE_DEMAND(ops->forward(expert, 0, 0, NULL, NULL, &none, &err) == BORA_OK, "no tokens: %s", err.message);
    contract_end(*state, expert);
    suite_host_release(&host);
}

/* A prepare that failed for want of memory can be done again. */
static void prepare_again(void **state)
{
    const bora_expert_ops *ops = bora_plugin_expert_ops(*state);
    float should[CONTRACT_RESULT];
    contract_expected(*state, 0, should);
    for (uint64_t n = 1;; n++) {
        suite_host host;
        suite_host_init(&host, 1);
        bora_expert_shape shape;
        contract_shape(*state, 0, &shape);
        bora_expert *expert = NULL;
        bora_error err = {""};
        assert_int_equal(ops->create(&host.table, &shape, &expert, &err), BORA_OK);
        suite_host_fail_at(&host, n);
        bora_status status = contract_ready(*state, expert, 0, &err);
        suite_host_fail_at(&host, 0);
        const bool done = status == BORA_OK;
        if (!done) {
            assert_int_equal(status, BORA_E_NOMEM);
            if (contract_ready(*state, expert, 0, &err) != BORA_OK)
                fail_msg("prepare after memory had been refused: %s", err.message);
        }
        contract_expect_use(*state, expert, 0, should, "after a second prepare");
        contract_end(*state, expert);
        suite_host_release(&host);
        if (done)
            break;
        assert_true(n < CONTRACT_ALLOCATIONS_MAX);
    }
}

int main(void)
{
    static const suite_test tests[] = {CONTRACT_TESTS, SUITE_TEST(order_of_calls), SUITE_TEST(prepare_again)};
    return suite_run(BORA_PLUGIN_EXPERT, tests, BORA_ARRAY_SIZE(tests));
}
