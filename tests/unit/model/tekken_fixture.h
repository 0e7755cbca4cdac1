/* What the tests on Tekken share: where its files are, and how they are opened. */
#ifndef BORA_TESTS_TEKKEN_FIXTURE_H
#define BORA_TESTS_TEKKEN_FIXTURE_H

#include "base/file.h"
#include "base/memory.h"
#include "model/tokenizer/tokenizer.h"
#include "support/skip.h"

#define TEKKEN_FOLDER   BORA_SOURCE_DIR "/tests/golden/tekken"
#define TEKKEN_SMALL    TEKKEN_FOLDER "/small.json"
#define TEKKEN_REAL     BORA_SOURCE_DIR "/build/test-data/tekken.json" /* make test-data */
#define SMALL_N_SPECIAL 24
#define SMALL_N_PIECES  504

static inline bora_tokenizer *tekken_load(const char *path)
{
    bora_file file = {0};
    bora_error err = {{0}};
    bora_tokenizer *tokenizer = NULL;
    if (bora_file_map(path, &file, &err) != BORA_OK ||
        bora_tokenizer_parse_tekken(file.data, file.size, &tokenizer, &err) != BORA_OK)
        fail_msg("%s: %s", path, err.message);
    bora_file_release(&file);
    return tokenizer;
}

#endif
