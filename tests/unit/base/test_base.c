/* The base layer: memory and its failing hook, arena, checked sizes, mailbox, pool, log, file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/memory.h"
#include "base/program.h"
#include "base/size.h"
#include "base/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_status_names(void **state)
{
    (void)state;
    assert_string_equal(bora_status_name(BORA_OK), "ok");
    assert_string_equal(bora_status_name(BORA_E_FULL), "full");
    assert_string_equal(bora_status_name(BORA_E_UNAVAILABLE), "unavailable");
    assert_string_equal(bora_status_name(BORA_E_UNAVAILABLE - 1), "unknown");
    assert_string_equal(bora_status_name(1), "unknown");
}

static void test_sizes_are_checked(void **state)
{
    (void)state;
    size_t value = 7;
    assert_false(bora_size_mul(SIZE_MAX / 2 + 1, 2, &value));
    assert_false(bora_size_add(SIZE_MAX, 1, &value));
    assert_false(bora_size_round_up(SIZE_MAX, 64, &value));
    assert_int_equal(value, 7);
    assert_true(bora_size_round_up(65, 64, &value));
    assert_int_equal(value, 128);
    assert_null(bora_calloc(SIZE_MAX, 2));
    assert_null(bora_realloc(NULL, SIZE_MAX, 2));
}

static void test_allocation_can_be_made_to_fail(void **state)
{
    (void)state;
    (void)bora_memory_fail_at(2);
    void *first = bora_alloc(1);
    void *second = bora_alloc(1);
    void *third = bora_alloc(1);
    assert_int_equal(bora_memory_fail_at(0), 3);
    assert_non_null(first);
    assert_null(second);
    assert_null(third);
    bora_free(first);
}

static size_t resident(void)
{
    unsigned long long size = 0, n = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llu %llu", &size, &n), 2);
    (void)fclose(file);
    return (size_t)n * (size_t)sysconf(_SC_PAGESIZE);
}

/* Pieces too small for maps of their own, with one in use above them, which keeps the heap from shrinking. */
static void test_free_memory_goes_back(void **state)
{
    (void)state;
    enum { N = 512, SIZE = 65536 };
    static void *pieces[N];
    for (size_t i = 0; i < N; i++) {
        assert_non_null(pieces[i] = bora_alloc(SIZE));
        memset(pieces[i], 1, SIZE);
    }
    for (size_t i = 0; i < N - 1; i++)
        bora_free(pieces[i]);
    size_t before = resident();
    bora_memory_trim();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which have allocators of their own */
    assert_true(resident() + (size_t)N * SIZE * 3 / 4 < before);
#else
    (void)before;
#endif
    bora_free(pieces[N - 1]);
}

static void test_arena_is_cleared_and_aligned(void **state)
{
    (void)state;
    bora_arena arena = {0};
    size_t sum = 0;
    assert_int_equal(bora_arena_size(&arena), 0);
    for (size_t size = 1; size < 100000; size = size * 3 + 1) {
        sum += size;
        unsigned char *memory = bora_arena_alloc(&arena, 1, size);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, size);
    }
    assert_null(bora_arena_alloc(&arena, SIZE_MAX, 2));
    assert_string_equal(bora_arena_text(&arena, "window", 3), "win");
    assert_in_range(bora_arena_size(&arena), sum, 4 * sum); /* with what is not handed out yet */
    bora_arena_release(&arena);
    assert_null(arena.chunks);
    assert_int_equal(bora_arena_size(&arena), 0);
}

typedef struct number_mail {
    bora_mail mail;
    int number;
} number_mail;

static void *send_numbers(void *arg)
{
    bora_mailbox *box = arg;
    for (int i = 0; i < 1000; i++) {
        number_mail *mail = malloc(sizeof *mail);
        if (!mail)
            return NULL;
        mail->number = i;
        bora_mailbox_send(box, &mail->mail);
    }
    return NULL;
}

static void test_mailbox_keeps_order(void **state)
{
    (void)state;
    bora_mailbox *box = NULL;
    assert_int_equal(bora_mailbox_new(&box, NULL), BORA_OK);
    assert_null(bora_mailbox_take(box));
    assert_null(bora_mailbox_wait(box, 0));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_numbers, box), 0);
    for (int i = 0; i < 1000; i++) {
        number_mail *mail = (number_mail *)bora_mailbox_wait(box, -1);
        assert_int_equal(mail->number, i);
        free(mail);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(bora_mailbox_count(box), 0);
    bora_mailbox_free(box);
}

static void test_log_is_one_clean_line(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bora_log log = {.level = BORA_LOG_INFO, .fd = ends[1]};
    bora_logf(&log, BORA_LOG_DEBUG, "not shown");
    bora_logf(&log, BORA_LOG_WARN, "ignoring %s", "a\nb");
    bora_logf(NULL, BORA_LOG_ERROR, "nowhere");
    char line[100] = {0};
    ssize_t n = read(ends[0], line, sizeof line - 1);
    assert_true(n > 0);
    assert_string_equal(line, "warn: ignoring a b\n");
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(bora_log_level_parse("debug"), BORA_LOG_DEBUG);
    assert_int_equal(bora_log_level_parse("loud"), -1);
}

static void test_files(void **state)
{
    (void)state;
    bora_error err;
    bora_file file = {0};
    assert_int_equal(bora_file_map("/nowhere/at/all", &file, &err), BORA_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    assert_int_equal(bora_file_map("/", &file, &err), BORA_E_IO);
    char path[] = "/tmp/bora-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "bora", 4), 4);
    assert_int_equal(close(fd), 0);
    assert_int_equal(bora_file_map(path, &file, &err), BORA_OK);
    assert_int_equal(file.size, 4);
    assert_memory_equal(file.data, "bora", 4);
    bora_file_release(&file);
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(bora_file_read(path, 3, &text, &size, &err), BORA_E_LIMIT);
    assert_int_equal(bora_file_read(path, 4, &text, &size, &err), BORA_OK);
    assert_string_equal(text, "bora");
    bora_free(text);
    assert_int_equal(unlink(path), 0);
}

/* BUILD/tests/unit/base/test_base: above its folder is BUILD/tests/unit. */
static void test_program_base(void **state)
{
    (void)state;
    char *base = NULL;
    bora_error err = {""};
    assert_int_equal(bora_program_base(&base, &err), BORA_OK);
    assert_int_equal(base[0], '/');
    assert_true(strlen(base) > 11);
    assert_string_equal(base + strlen(base) - 11, "/tests/unit");
    bora_free(base);
    (void)bora_memory_fail_at(1);
    assert_int_equal(bora_program_base(&base, &err), BORA_E_NOMEM);
    (void)bora_memory_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_program_base),
        cmocka_unit_test(test_sizes_are_checked),
        cmocka_unit_test(test_allocation_can_be_made_to_fail),
        cmocka_unit_test(test_free_memory_goes_back),
        cmocka_unit_test(test_arena_is_cleared_and_aligned),
        cmocka_unit_test(test_mailbox_keeps_order),
        cmocka_unit_test(test_log_is_one_clean_line),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
