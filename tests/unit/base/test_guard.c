/* Files that are cut short after they were mapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/guard.h"
#include "support/temp_folder.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_SIZE 65536u

static bora_temp_folder folder;

static int setup(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

/* Inside each test: cmocka puts its own handler in place before it. */
static void install(void **state)
{
    (void)state;
    assert_int_equal(bora_guard_install(NULL), BORA_OK);
}

static bora_file map_new(const char *name, char path[BORA_TEMP_PATH_SIZE])
{
    static uint8_t bytes[FILE_SIZE];
    memset(bytes, 0x5a, sizeof bytes);
    bora_file file = {0};
    bora_error err = {""};
    if (bora_file_map(bora_temp_folder_write(&folder, name, bytes, sizeof bytes, path), &file, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return file;
}

static void zeros_are_read_behind_the_end(void **state)
{
    install(state);
    char path[BORA_TEMP_PATH_SIZE], other_path[BORA_TEMP_PATH_SIZE];
    bora_file file = map_new("cut", path), other = map_new("whole", other_path);
    assert_int_equal(truncate(path, 8192), 0);
    const volatile uint8_t *data = file.data;
    assert_int_equal(data[0], 0x5a);
    assert_int_equal(data[8191], 0x5a);
    assert_false(bora_file_is_damaged(&file));
    assert_int_equal(data[40000], 0);
    assert_true(bora_file_is_damaged(&file));
    assert_int_equal(data[FILE_SIZE - 1], 0);
    assert_int_equal(data[8192], 0); /* before the first one that was touched */
    assert_int_equal(data[8191], 0x5a);
    assert_int_equal(other.data[FILE_SIZE - 1], 0x5a);
    assert_false(bora_file_is_damaged(&other));
    bora_file_release(&file);
    bora_file_release(&other);
    bora_file again = map_new("cut", path); /* the number is used again, the flag is not */
    assert_false(bora_file_is_damaged(&again));
    bora_file_release(&again);
}

static void *sum(void *arg)
{
    const volatile uint8_t *data = arg;
    unsigned total = 0;
    for (size_t i = 0; i < FILE_SIZE; i++)
        total += data[i];
    return (void *)(uintptr_t)total;
}

static void every_thread_gets_over_it(void **state)
{
    install(state);
    char path[BORA_TEMP_PATH_SIZE];
    bora_file file = map_new("cut", path);
    assert_int_equal(truncate(path, 0), 0);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sum, (void *)(uintptr_t)file.data), 0);
    for (size_t i = 0; i < 4; i++) {
        void *total = NULL;
        assert_int_equal(pthread_join(threads[i], &total), 0);
        assert_null(total);
    }
    assert_true(bora_file_is_damaged(&file));
    bora_file_release(&file);
}

/* How a child ended that does this. */
static int end_of(void (*what)(void *), void *arg)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        what(arg);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void touch(void *arg)
{
    (void)*(const volatile uint8_t *)arg;
}

static void kill_self(void *arg)
{
    (void)arg;
    (void)raise(SIGBUS);
}

static void elsewhere_it_ends_the_process(void **state)
{
    install(state);
    char path[BORA_TEMP_PATH_SIZE];
    bora_file file = map_new("cut", path);
    assert_int_equal(truncate(path, 0), 0);
    bora_guard_remove(file.guard);
    int status = end_of(touch, (void *)(uintptr_t)file.data);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = end_of(kill_self, NULL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    file.guard = 0;
    bora_file_release(&file);
}

static void a_full_table_guards_no_more(void **state)
{
    (void)state;
    static const uint8_t byte;
    uint32_t n = 0, first = bora_guard_add(&byte, 1), last = first;
    for (uint32_t range = first; range; range = bora_guard_add(&byte, 1)) {
        last = range;
        n++;
    }
    assert_in_range(n, BORA_GUARD_RANGES_MAX / 2, BORA_GUARD_RANGES_MAX);
    assert_int_equal(bora_guard_add(&byte, 1), 0);
    assert_false(bora_guard_is_damaged(0));
    for (uint32_t range = first; range <= last; range++)
        bora_guard_remove(range);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_are_read_behind_the_end),
        cmocka_unit_test(every_thread_gets_over_it),
        cmocka_unit_test(elsewhere_it_ends_the_process),
        cmocka_unit_test(a_full_table_guards_no_more),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
