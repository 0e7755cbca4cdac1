/* Names and ids of sessions: the rules, and how new ones are made. */
#include "session/db_private.h"

#include "model/tokenizer/utf8.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool bora_session_id_like(const char *text)
{
    size_t n = 0;
    while (n < BORA_SESSION_ID_SIZE && is_hex(text[n]))
        n++;
    return n == BORA_SESSION_ID_SIZE - 1 && text[n] == '\0';
}

bora_status bora_session_name_check(const char *name, bora_error *err)
{
    size_t size = strnlen(name, BORA_SESSION_NAME_SIZE);
    if (size == 0)
        return bora_fail(err, BORA_E_INVAL, "a session's name must not be empty");
    if (size >= BORA_SESSION_NAME_SIZE)
        return bora_fail(err, BORA_E_INVAL, "a session's name must not be longer than %d bytes",
                         BORA_SESSION_NAME_SIZE - 1);
    if (name[0] == ' ' || name[0] == '-')
        return bora_fail(err, BORA_E_INVAL, "a session's name must not begin with a space or '-'");
    if (bora_session_id_like(name))
        return bora_fail(err, BORA_E_INVAL, "a session's name must not look like an id (32 hex digits)");
    for (size_t i = 0; i < size;) {
        int length = bora_utf8_step(name + i, size - i);
        if (length < 1)
            return bora_fail(err, BORA_E_INVAL, "a session's name must be valid UTF-8");
        uint8_t c = (uint8_t)name[i];
        /* C0, DEL, and C1 (U+0080 .. U+009F). */
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && (uint8_t)name[i + 1] < 0xa0))
            return bora_fail(err, BORA_E_INVAL, "a session's name must not have control characters");
        if (c == '/')
            return bora_fail(err, BORA_E_INVAL, "a session's name must not have a '/'");
        i += (size_t)length;
    }
    return BORA_OK;
}

bora_status bora_session_id_make(int64_t now, char ret_id[BORA_SESSION_ID_SIZE], bora_error *err)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[16];
    for (size_t i = 0; i < 6; i++)
        bytes[i] = (uint8_t)((uint64_t)now >> (40 - 8 * i));
    size_t done = 6;
    while (done < sizeof bytes) {
        ssize_t n = getrandom(bytes + done, sizeof bytes - done, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return bora_fail(err, BORA_E_IO, "random numbers: %s", strerror(errno));
        done += (size_t)n;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        ret_id[2 * i] = digits[bytes[i] >> 4];
        ret_id[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret_id[BORA_SESSION_ID_SIZE - 1] = '\0';
    return BORA_OK;
}

void bora_session_name_prefix(int64_t now, char ret_prefix[BORA_SESSION_NAME_SIZE])
{
    time_t seconds = (time_t)(now / 1000);
    struct tm date;
    if (!localtime_r(&seconds, &date) || !strftime(ret_prefix, BORA_SESSION_NAME_SIZE, "chat-%Y-%m-%d-", &date))
        (void)snprintf(ret_prefix, BORA_SESSION_NAME_SIZE, "chat-"); /* a year that no calendar has */
}
