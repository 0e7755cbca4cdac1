#include "model/gguf_split.h"

#include "model/model_private.h"

#include <stdio.h>
#include <string.h>

bora_status bora_gguf_split_check(const bora_gguf *gguf, uint32_t part, uint32_t *n_parts, bora_error *err)
{
    uint32_t n = 0, number = 0; /* 0 files is how a whole one may say it */
    bora_status st;
    if ((st = bora_gguf_u32(gguf, "split.count", "files", part > 0, 0, BORA_MODEL_FILES_MAX, &n, err)) != BORA_OK ||
        (st = bora_gguf_u32(gguf, "split.no", "number of the file", n > 1, 0, UINT32_MAX, &number, err)) != BORA_OK)
        return st;
    n = n ? n : 1;
    if (part == 0 && number > 0 && number < n)
        return bora_fail(err, BORA_E_INVAL, "this is part %u of %u: open the first one, ...-00001-of-%05u.gguf",
                         number + 1, n, n);
    if (number != part || (part > 0 && n != *n_parts))
        return bora_fail(err, BORA_E_FORMAT, "split.no is %u and split.count %u, expected %u and %u", number, n, part,
                         part > 0 ? *n_parts : n);
    *n_parts = n;
    return BORA_OK;
}

bora_status bora_gguf_split_stem(const char *path, uint32_t n_parts, size_t *ret_n_stem, bora_error *err)
{
    char end[40];
    int got = snprintf(end, sizeof end, "-00001-of-%05u.gguf", n_parts);
    const size_t n_end = got > 0 ? (size_t)got : 0, n = path ? strlen(path) : 0;
    if (n <= n_end || strcmp(path + n - n_end, end) != 0)
        return bora_fail(err, BORA_E_INVAL,
                         "split.count is %u: the first of several files, but it is not called NAME%s", n_parts, end);
    *ret_n_stem = n - n_end;
    return BORA_OK;
}
