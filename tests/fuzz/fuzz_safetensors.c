/* A safetensors file: its list of tensors from memory, and, if that is whole, a model of Mistral's native layout
 * through a folder whose weights are the input. The header decides everything, so params.json is always the same. */
#include "fuzz/fuzz.h"

#include "base/memory.h"
#include "fuzz/shapes.h"
#include "fuzz/walk.h"
#include "model/model_private.h"
#include "model/safetensors.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bora_temp_folder folder;
static int weights_fd = -1;

static void folder_remove(void)
{
    bora_temp_folder_remove(&folder);
}

/* The weights of the folder are a link to a file in memory. */
static void folder_make(void)
{
    char path[BORA_TEMP_PATH_SIZE], target[64];
    bora_temp_folder_make(&folder);
    FUZZ_CHECK(atexit(folder_remove) == 0);
    char *params = bora_writer_native_params(&FUZZ_DENSE_MODEL, NULL);
    bora_temp_folder_write(&folder, "params.json", params, strlen(params), path);
    free(params);
    weights_fd = memfd_create("weights", MFD_CLOEXEC);
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", weights_fd); /* fits */
    FUZZ_CHECK(weights_fd >= 0);
    FUZZ_CHECK(symlink(target, bora_temp_folder_path(&folder, "consolidated.safetensors", path)) == 0);
}

static void open_folder(const uint8_t *data, size_t size)
{
    const bora_model_options options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    if (weights_fd < 0)
        folder_make();
    FUZZ_CHECK(ftruncate(weights_fd, 0) == 0 && pwrite(weights_fd, data, size, 0) == (ssize_t)size);
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_status st = bora_model_open(folder.path, &options, NULL, &model, &err);
    if (st == BORA_OK)
        fuzz_walk_model(model);
    else
        FUZZ_CHECK(!model && err.message[0] && (st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED));
    bora_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BORA_CLEANUP(bora_model_freep) bora_model *model = bora_calloc(1, sizeof *model);
    FUZZ_CHECK(model);
    bora_error err = {{0}};
    bora_status st = bora_safetensors_read(model, data, size, &err);
    if (st == BORA_OK)
        st = bora_model_entries_seal(model, &err);
    if (st == BORA_OK) {
        fuzz_walk_entries(model);
        open_folder(data, size);
    } else {
        FUZZ_CHECK(st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED || st == BORA_E_LIMIT);
        FUZZ_CHECK(err.message[0]);
    }
    return 0;
}
