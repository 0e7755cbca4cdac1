/* A tekken.json, then its vocabulary at work: the end of the input is encoded and decoded as text. JSON may have any
 * white space and keys of its own behind what matters, so that text and vocabulary vary together.
 *
 * All that a vocabulary needs (each single byte, 256 objects of JSON) is more than a fuzzer writes by itself. So input
 * that begins with '+' is short for a file: a pattern, then merges, each on a line, then the text. */
#include "fuzz/fuzz.h"

#include "fuzz/walk.h"
#include "model/model_private.h"

#include <string.h>

#define TEXT_SIZE_MAX 1024u
#define N_SPECIAL     3u
#define N_PIECES_MAX  (N_SPECIAL + 256u + 256u)

/* The bytes up to the next newline, which is skipped. */
static const char *line_next(const uint8_t **at, const uint8_t *end, size_t *ret_size)
{
    const uint8_t *start = *at, *newline = start < end ? memchr(start, '\n', (size_t)(end - start)) : NULL;
    *ret_size = (size_t)((newline ? newline : end) - start);
    *at = newline ? newline + 1 : end;
    return (const char *)start;
}

static bora_status from_lines(const uint8_t *at, const uint8_t *end, bora_tokenizer **ret_tokenizer, bora_error *err)
{
    static char bytes[256];
    static const char *const specials[N_SPECIAL] = {"<unk>", "<s>", "</s>"};
    const char *pieces[N_PIECES_MAX];
    uint32_t sizes[N_PIECES_MAX];
    int32_t types[N_PIECES_MAX];
    size_t n = 0, size = 0;
    bora_vocab vocab = {.pieces = pieces, .piece_sizes = sizes, .types = types, .bos_id = 1, .eos_id = 2};
    vocab.pattern = line_next(&at, end, &vocab.pattern_size);
    for (; n < N_SPECIAL; n++) {
        pieces[n] = specials[n];
        sizes[n] = (uint32_t)strlen(specials[n]);
        types[n] = BORA_PIECE_CONTROL;
    }
    for (unsigned byte = 0; byte < 256; byte++, n++) {
        bytes[byte] = (char)byte;
        pieces[n] = &bytes[byte];
        sizes[n] = 1;
        types[n] = BORA_PIECE_NORMAL;
    }
    while (at < end && n < N_PIECES_MAX) {
        const char *piece = line_next(&at, end, &size);
        if (size == 0)
            break; /* the text follows */
        bool user = piece[0] == '=' && size > 1;
        pieces[n] = piece + user;
        sizes[n] = (uint32_t)(size - user);
        types[n++] = user ? BORA_PIECE_USER_DEFINED : BORA_PIECE_NORMAL;
    }
    vocab.n_pieces = n;
    return bora_tokenizer_new(&vocab, ret_tokenizer, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    bora_status st = size > 0 && data[0] == '+' ? from_lines(data + 1, data + size, &tokenizer, &err)
                                                : bora_tokenizer_parse_tekken(data, size, &tokenizer, &err);
    if (st == BORA_OK) {
        size_t text_size = size < TEXT_SIZE_MAX ? size : TEXT_SIZE_MAX;
        fuzz_walk_tokenizer(tokenizer, (const char *)data + size - text_size, text_size);
    } else {
        FUZZ_CHECK(st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED);
        FUZZ_CHECK(!tokenizer && err.message[0]);
    }
    bora_tokenizer_free(tokenizer);
    return 0;
}
