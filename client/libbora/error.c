/* Statuses and error messages. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *bora_client_status_name(bora_client_status status)
{
    switch (status) {
    case BORA_CLIENT_OK:
        return "ok";
    case BORA_CLIENT_E_INVALID:
        return "invalid";
    case BORA_CLIENT_E_NO_MEMORY:
        return "no_memory";
    case BORA_CLIENT_E_IO:
        return "io";
    case BORA_CLIENT_E_NO_DAEMON:
        return "no_daemon";
    case BORA_CLIENT_E_LOST:
        return "lost";
    case BORA_CLIENT_E_TIMEOUT:
        return "timeout";
    case BORA_CLIENT_E_INTERRUPTED:
        return "interrupted";
    case BORA_CLIENT_E_REFUSED:
        return "refused";
    case BORA_CLIENT_E_PROTOCOL:
        return "protocol";
    default:
        return "unknown";
    }
}

bora_client_status bora_client_fail(bora_client_error *err, bora_client_status status, const char *format, ...)
{
    if (!err)
        return status;
    err->status = status;
    err->code[0] = '\0';
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof err->message, format, args); /* cut off if it is longer */
    va_end(args);
    return status;
}

/* As much of the text as fits, ending between two characters, up to the first zero byte. */
static void copy_text(const bora_client_value *value, char *target, size_t target_size)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    size = strnlen(text, size);
    if (size >= target_size) {
        size = target_size - 1;
        while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80)
            size--;
    }
    memcpy(target, text, size);
    target[size] = '\0';
}

bora_client_status bora_client_fail_refused(bora_client_error *err, const bora_client_value *event)
{
    bora_client_error refused = {.status = BORA_CLIENT_E_REFUSED};
    copy_text(bora_client_value_get(event, "code"), refused.code, sizeof refused.code);
    copy_text(bora_client_value_get(event, "message"), refused.message, sizeof refused.message);
    if (refused.message[0] == '\0')
        (void)snprintf(refused.message, sizeof refused.message, "the daemon refused the request");
    if (strcmp(refused.code, "cancelled") == 0)
        refused.status = BORA_CLIENT_E_INTERRUPTED;
    return bora_client_fail_as(err, &refused);
}

bora_client_status bora_client_fail_as(bora_client_error *err, const bora_client_error *from)
{
    if (err)
        *err = *from;
    return from->status;
}
