/* Models of a few hundred bytes of weights, for the seeds and for the target that needs a params.json to go with them.
 */
#ifndef BORA_TESTS_FUZZ_SHAPES_H
#define BORA_TESTS_FUZZ_SHAPES_H

#include "support/gguf_writer.h"

#define FUZZ_DENSE_MODEL                                                                                               \
    ((bora_tiny_model){.n_layers = 1,                                                                                  \
                       .dim = 2,                                                                                       \
                       .hidden_dim = 2,                                                                                \
                       .n_heads = 1,                                                                                   \
                       .n_kv_heads = 1,                                                                                \
                       .head_dim = 2,                                                                                  \
                       .vocab_size = 4,                                                                                \
                       .n_experts = 1,                                                                                 \
                       .n_experts_per_tok = 1,                                                                         \
                       .type = BORA_WRITER_TENSOR_F32,                                                                 \
                       .without_vocabulary = true})

#endif
