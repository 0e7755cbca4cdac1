/* params.json: whatever is taken from one is inside the limits that the rest of the program relies on. */
#include "fuzz/fuzz.h"

#include "model/model_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bora_hparams hparams;
    bora_error err = {{0}};
    bora_status st = bora_native_params((const char *)data, size, &hparams, &err);
    if (st == BORA_OK) {
        FUZZ_CHECK(bora_hparams_check(&hparams, NULL) == BORA_OK);
        for (uint32_t layer = 0; layer < hparams.n_layers; layer++)
            FUZZ_CHECK(bora_hparams_window(&hparams, layer) <= BORA_POSITIONS_MAX);
    } else {
        FUZZ_CHECK((st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED) && err.message[0]);
    }
    return 0;
}
