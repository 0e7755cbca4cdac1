/* config.json and the index of sharded weights: what is taken from the one is inside the limits that the rest of the
 * program relies on, what is taken from the other names files of the folder, each once. Every input is tried as both.
 */
#include "fuzz/fuzz.h"

#include "model/model_private.h"

#include <string.h>

static void try_config(const char *text, size_t size)
{
    bora_hparams hparams;
    bool is_tied = false;
    bora_error err = {{0}};
    bora_status st = bora_huggingface_config(text, size, &hparams, &is_tied, &err);
    if (st == BORA_OK) {
        FUZZ_CHECK(bora_hparams_check(&hparams, NULL) == BORA_OK);
        bora_hparams_windows_shorten(&hparams);
        FUZZ_CHECK(hparams.n_windows >= 1 && hparams.n_layers % hparams.n_windows == 0);
        for (uint32_t layer = 0; layer < hparams.n_layers; layer++)
            FUZZ_CHECK(bora_hparams_window(&hparams, layer) <= BORA_POSITIONS_MAX);
    } else {
        FUZZ_CHECK((st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED) && err.message[0]);
    }
}

static void try_index(const char *text, size_t size)
{
    char **files = NULL;
    size_t n_files = 0;
    bora_error err = {{0}};
    bora_status st = bora_huggingface_index(text, size, &files, &n_files, &err);
    if (st == BORA_OK) {
        FUZZ_CHECK(n_files >= 1 && n_files <= BORA_MODEL_FILES_MAX);
        for (size_t i = 0; i < n_files; i++) {
            FUZZ_CHECK(!strchr(files[i], '/') && files[i][0] != '.' && strstr(files[i], ".safetensors"));
            FUZZ_CHECK(i == 0 || strcmp(files[i - 1], files[i]) < 0);
        }
    } else {
        FUZZ_CHECK((st == BORA_E_FORMAT || st == BORA_E_LIMIT) && err.message[0]);
    }
    bora_names_free(files, n_files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_config((const char *)data, size);
    try_index((const char *)data, size);
    return 0;
}
