/* What of a model's files is in memory: released pages leave the process and come back as they were; the guard of cut
 * files still works on them; rows that were copied are left alone. */
#include "base/guard.h"
#include "base/memory.h"
#include "model/model_private.h"
#include "support/model_writer.h"
#include "support/skip.h"
#include "support/temp_folder.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

static bora_temp_folder folder;
static char path[BORA_TEMP_PATH_SIZE];

static int setup(void **state)
{
    (void)state;
    size_t size;
    bora_temp_folder_make(&folder);
    unsigned char *bytes = bora_temp_read(BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf", &size);
    (void)bora_temp_folder_write(&folder, "model.gguf", bytes, size, path);
    free(bytes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

static bora_model *open_model(const char *where)
{
    const bora_model_options options = {.without_tokenizer = true};
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (bora_model_open(where, &options, NULL, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return model;
}

/* Resident bytes of the mapping that begins there, as the kernel counts them. */
static size_t resident(const void *mapping)
{
    FILE *smaps = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long begin, end, kib = 0;
    bool is_it = false, is_found = false;
    assert_non_null(smaps);
    while (fgets(line, sizeof line, smaps)) {
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            is_it = begin == (unsigned long)(uintptr_t)mapping;
        else if (is_it && sscanf(line, "Rss: %lu kB", &kib) == 1)
            is_found = true;
        if (is_found)
            break;
    }
    (void)fclose(smaps);
    assert_true(is_found);
    return (size_t)kib * 1024;
}

/* Bytes of the file that are in the page cache. */
static size_t cached(const bora_file *file)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (file->size + page - 1) / page;
    unsigned char *flags = calloc(n, 1);
    size_t total = 0;
    assert_non_null(flags);
    assert_int_equal(mincore((void *)(uintptr_t)file->data, file->size, flags), 0);
    for (size_t i = 0; i < n; i++)
        total += flags[i] & 1 ? page : 0;
    free(flags);
    return total;
}

static uint64_t sum_of(const uint8_t *data, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + ((const volatile uint8_t *)data)[i];
    return sum;
}

static void released_pages_leave_and_come_back(void **state)
{
    (void)state;
    bora_model *model = open_model(path);
    const bora_file *file = &model->files[0];
    const uint64_t sum = sum_of(file->data, file->size);
    assert_true(resident(file->data) >= file->size);
    /* A tensor somewhere in the middle: its pages go, and what shares huge pages with them. */
    const bora_tensor *w = &bora_model_layer(model, 1)->w1[0];
    const size_t size = (size_t)(w->n_rows * w->row_size), page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t before = resident(file->data);
    bora_model_release(model, w->data, size);
    const size_t after = resident(file->data);
    assert_in_range(before - after, size - 2 * page, size + (4 << 20));
    assert_int_equal(sum_of(file->data, file->size), sum);
    /* Slice by slice, as they are read. */
    for (size_t at = 0; at < file->size; at += 65536)
        bora_model_release(model, file->data + at, file->size - at < 65536 ? file->size - at : 65536);
    assert_int_equal(resident(file->data), 0);
    assert_int_equal(sum_of(file->data, file->size), sum);
    /* Ranges past the end are cut, also when their size wraps around. */
    bora_model_release(model, file->data, SIZE_MAX);
    assert_int_equal(resident(file->data), 0);
    assert_int_equal(sum_of(file->data, file->size), sum);
    assert_false(bora_model_is_damaged(model));
    bora_model_free(model);
}

static void ranges_within_a_page_release_nothing(void **state)
{
    (void)state;
    bora_model *model = open_model(path);
    const bora_file *file = &model->files[0];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    (void)sum_of(file->data, file->size);
    const size_t before = resident(file->data);
    bora_model_release(model, file->data + 1, page - 1);
    bora_model_release(model, file->data + 1, 2 * page - 2);
    bora_model_release(model, file->data + page, page - 1);
    bora_model_release(model, file->data + page, 0);
    assert_int_equal(resident(file->data), before);
    bora_model_release(model, file->data + page, page);
    assert_true(resident(file->data) <= before - page);
    bora_model_free(model);
}

static void forgotten_pages_leave_the_cache(void **state)
{
    (void)state;
    struct statfs info;
    assert_int_equal(statfs(path, &info), 0);
    if (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC)
        skip(); /* there the cache is the file */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0); /* what is not on the disk cannot be given up */
    assert_int_equal(close(fd), 0);
    bora_model *model = open_model(path);
    const bora_file *file = &model->files[0];
    const uint64_t sum = sum_of(file->data, file->size);
    assert_true(cached(file) >= file->size);
    bora_model_release(model, file->data, file->size);
    assert_true(cached(file) >= file->size); /* for the next start */
    for (size_t at = 0; at < file->size; at += 100000)
        bora_model_forget(model, file->data + at, file->size - at < 100000 ? file->size - at : 100000);
    assert_true(cached(file) <= file->size / 2);
    assert_int_equal(resident(file->data), 0);
    bora_model_read_ahead(model, file->data, SIZE_MAX);
    assert_int_equal(sum_of(file->data, file->size), sum);
    bora_model_free(model);
}

static void memory_that_is_no_file_is_left_alone(void **state)
{
    (void)state;
    bora_model *model = open_model(path);
    const size_t size = (size_t)1 << 20;
    uint8_t *mine = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(mine != MAP_FAILED);
    memset(mine, 0x5a, size);
    const uint64_t sum = sum_of(mine, size);
    bora_model_release(model, mine, size);
    bora_model_forget(model, mine, size);
    bora_model_read_ahead(model, mine, size);
    bora_model_release(model, NULL, size);
    assert_int_equal(sum_of(mine, size), sum);
    assert_int_equal(munmap(mine, size), 0);
    bora_model_free(model);
}

/* Rows in another order exist nowhere else. */
static void copied_rows_are_left_alone(void **state)
{
    (void)state;
    static const bora_tiny_model shape = {2, 256, 256, 4, 2, 64, 64, 1, 1, 0, 0, false, false, true};
    bora_temp_folder place;
    char where[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&place);
    bora_model_write(&place, &(bora_model_writing){.shape = shape}, BORA_MODEL_HF, where);
    bora_model *model = open_model(place.path);
    assert_true(model->copied_size > (size_t)sysconf(_SC_PAGESIZE) * 4);
    const uint64_t sum = sum_of(model->copied, model->copied_size);
    uint64_t sums[2] = {0};
    for (int round = 0; round < 2; round++)
        for (uint32_t layer = 0; layer < shape.n_layers; layer++) {
            const bora_layer_weights *weights = bora_model_layer(model, layer);
            const bora_tensor *tensors[] = {&weights->wq, &weights->wk, &weights->wv, &weights->wo};
            for (size_t i = 0; i < BORA_ARRAY_SIZE(tensors); i++) {
                const size_t size = (size_t)(tensors[i]->n_rows * tensors[i]->row_size);
                sums[round] += sum_of(tensors[i]->data, size);
                bora_model_release(model, tensors[i]->data, size);
                bora_model_forget(model, tensors[i]->data, size);
            }
        }
    assert_int_equal(sums[0], sums[1]);
    assert_int_equal(sum_of(model->copied, model->copied_size), sum);
    bora_model_free(model);
    bora_temp_folder_remove(&place);
}

static void a_cut_file_is_noticed_where_pages_were_released(void **state)
{
    (void)state;
    assert_int_equal(bora_guard_install(NULL), BORA_OK); /* here: cmocka puts its own handler in place before a test */
    bora_model *model = open_model(path);
    const bora_file *file = &model->files[0];
    (void)sum_of(file->data, file->size);
    bora_model_release(model, file->data, file->size);
    assert_int_equal(truncate(path, 1 << 20), 0);
    assert_false(bora_model_is_damaged(model));
    assert_int_equal(((const volatile uint8_t *)file->data)[file->size - 1], 0);
    assert_true(bora_model_is_damaged(model));
    /* And again, now that zero pages of the guard lie there. */
    bora_model_forget(model, file->data, file->size);
    bora_model_read_ahead(model, file->data, file->size);
    (void)sum_of(file->data, file->size);
    assert_true(bora_model_is_damaged(model));
    bora_model_free(model);
}

static void short_is_less_than_twice_the_weights(void **state)
{
    (void)state;
    const bora_model model = {.size = 1000 * 1024};
    assert_false(bora_model_memory_is_short_in(&model, "MemTotal: 9 kB\nMemAvailable:    2000 kB\nBuffers: 1 kB\n"));
    assert_true(bora_model_memory_is_short_in(&model, "MemTotal: 9 kB\nMemAvailable:    1999 kB\nBuffers: 1 kB\n"));
    assert_true(bora_model_memory_is_short_in(&model, "MemAvailable: 0 kB"));
    assert_false(bora_model_memory_is_short_in(&model, "MemAvailable: 18446744073709551615 kB"));
    assert_false(bora_model_memory_is_short_in(&model, "MemFree: 10 kB\n")); /* nothing says so */
    assert_false(bora_model_memory_is_short_in(&model, ""));
    const bora_model huge = {.size = UINT64_MAX};
    assert_true(bora_model_memory_is_short(&huge)); /* the real file is found and understood */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(released_pages_leave_and_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_within_a_page_release_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(forgotten_pages_leave_the_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_that_is_no_file_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(copied_rows_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_file_is_noticed_where_pages_were_released, setup, teardown),
        cmocka_unit_test(short_is_less_than_twice_the_weights),
    };
    return cmocka_run_group_tests_name("residency", tests, NULL, NULL);
}
