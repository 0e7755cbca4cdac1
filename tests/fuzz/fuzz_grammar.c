/* The notation to grammars; the same bytes as a regular expression, which the notation and schemas share their
 * expressions with. */
#include "fuzz/grammar_walk.h"

#include "grammar/pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bora_grammar *grammar = NULL;
    bora_error err = {{0}};
    bora_status st = bora_grammar_from_notation((const char *)data, size, &grammar, &err);
    FUZZ_CHECK(st != BORA_E_UNSUPPORTED);
    fuzz_grammar_result(st, grammar, &err);
    bora_expressions list = {0};
    uint32_t node = 0;
    st = bora_pattern_read((const char *)data, size, &list, &node, &err);
    FUZZ_CHECK(st == BORA_OK ? node < list.n_nodes : err.message[0] != '\0');
    bora_expressions_release(&list);
    return 0;
}
