/* Every attention plugin: what plugin.h demands of all kinds; what attend must leave alone. */
#define CONTRACT_KIND   attention
#define CONTRACT_RESULT (6u * 4u * 64u)
#include "contract.h"

#include "model/blocks.h"

#define N_HEADS    4u
#define N_KV_HEADS 2u
#define N_ROWS     6u
#define N_KEYS     20u
#define FIRST      (N_KEYS - N_ROWS)

static const size_t contract_shape_needed = sizeof(bora_attention_shape);

static uint32_t dtype_of(const bora_plugin_library *library)
{
    return suite_speaks_f32(library) ? BORA_DTYPE_F32 : suite_speaks_f16(library) ? BORA_DTYPE_F16 : BORA_DTYPE_Q8_0;
}

static uint32_t head_dim_of(uint32_t variant)
{
    return variant == 1 ? 64 : 32;
}

static void contract_shape(const bora_plugin_library *library, uint32_t variant, bora_attention_shape *ret_shape)
{
    *ret_shape = (bora_attention_shape){
        .struct_size = sizeof *ret_shape,
        .n_heads = N_HEADS,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = head_dim_of(variant),
        .max_tokens = 16 + variant,
        .kv_dtype = dtype_of(library),
    };
}

static bora_status contract_ready(const bora_plugin_library *library, bora_attention *attention, uint32_t variant,
                                  bora_error *err)
{
    (void)library, (void)attention, (void)variant, (void)err;
    return BORA_OK;
}

/* Keys of any element type: small numbers, in blocks with the scale 1/64. */
static size_t fill_elements(uint32_t dtype, uint32_t n, uint64_t seed, unsigned char *out)
{
    for (uint32_t i = 0; i < n; i++) {
        const float value = (float)(suite_random(&seed) >> 40) * 0x1p-23f - 1;
        const uint16_t half = bora_f32_to_f16(dtype == BORA_DTYPE_Q8_0 ? 0x1p-6f : value);
        if (dtype == BORA_DTYPE_F32)
            memcpy(out + i * 4, &value, sizeof value);
        else if (dtype == BORA_DTYPE_F16)
            memcpy(out + i * 2, &half, sizeof half);
        else {
            if (i % 32 == 0)
                memcpy(out + i / 32 * 34, &half, sizeof half);
            out[i / 32 * 34 + 2 + i % 32] = (unsigned char)(signed char)(value * 60);
        }
    }
    return dtype == BORA_DTYPE_F32 ? n * 4u : dtype == BORA_DTYPE_F16 ? n * 2u : n / 32u * 34u;
}

/* Keys and values lie in memory of their own, which is spoiled afterwards: nobody may come back to it. */
static bora_status contract_use(const bora_plugin_library *library, bora_attention *attention, uint32_t variant,
                                float *result, bora_error *err)
{
    const uint32_t dtype = dtype_of(library), head_dim = head_dim_of(variant), row = N_KV_HEADS * head_dim;
    unsigned char k[N_KEYS * N_KV_HEADS * 64 * 4], v[sizeof k];
    float q[N_ROWS * N_HEADS * 64];
    const size_t size = fill_elements(dtype, N_KEYS * row, 5 + variant, k);
    (void)fill_elements(dtype, N_KEYS * row, 6 + variant, v);
    (void)fill_elements(BORA_DTYPE_F32, BORA_ARRAY_SIZE(q), 7 + variant, (unsigned char *)q);
    const size_t first_run = size / N_KEYS * 8;
    const bora_kv_span spans[2] = {
        {.k = k, .v = v, .n = 8, .dtype = dtype, .position_stride = row, .head_stride = head_dim},
        {.k = k + first_run,
         .v = v + first_run,
         .first = 8,
         .n = N_KEYS - 8,
         .dtype = dtype,
         .position_stride = row,
         .head_stride = head_dim},
    };
    const bora_attention_seq seq = {
        .q = q, .out = result, .first = FIRST, .n = N_ROWS, .window = 9, .spans = spans, .n_spans = 2};
    memset(result, 0, CONTRACT_RESULT * sizeof *result);
    bora_status status = bora_plugin_attention_ops(library)->attend(attention, 1, &seq, err);
    memset(k, 0xff, sizeof k);
    memset(v, 0xff, sizeof v);
    return status;
}

int main(void)
{
    static const suite_test tests[] = {CONTRACT_TESTS};
    return suite_run(BORA_PLUGIN_ATTENTION, tests, BORA_ARRAY_SIZE(tests));
}
