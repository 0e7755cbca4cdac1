/* JSON schemas to grammars. */
#include "fuzz/grammar_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bora_grammar *grammar = NULL;
    bora_error err = {{0}};
    bora_status st = bora_grammar_from_schema((const char *)data, size, &grammar, &err);
    fuzz_grammar_result(st, grammar, &err);
    return 0;
}
