#include "base/log.h"

#include "base/status.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
/* systemd's priorities (sd-daemon(3)): err, warning, info, debug. */
static const int level_priorities[] = {3, 4, 6, 7};

void bora_log_init(bora_log *log, int level)
{
    *log = (bora_log){.level = level, .fd = STDERR_FILENO};
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    if (stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(log->fd, &st) == 0)
        log->priority = st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void bora_logf(const bora_log *log, int level, const char *format, ...)
{
    if (!log || level > log->level || level < BORA_LOG_ERROR || level > BORA_LOG_DEBUG)
        return;
    char line[1200];
    int head = log->priority ? snprintf(line, sizeof line, "<%d>", level_priorities[level])
                             : snprintf(line, sizeof line, "%s: ", level_names[level]);
    size_t room = sizeof line - (size_t)head - 1; /* one byte for the newline */
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + head, room, format, args);
    va_end(args);
    size_t size = (size_t)head + (n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1);
    for (size_t i = (size_t)head; i < size; i++)
        if ((unsigned char)line[i] < ' ')
            line[i] = ' '; /* a file or client may have put control characters into the message */
    line[size++] = '\n';
    ssize_t written = write(log->fd, line, size);
    (void)written; /* there is nowhere to report a log that cannot be written */
}

int bora_log_level_parse(const char *name)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(level_names); i++)
        if (strcmp(name, level_names[i]) == 0)
            return (int)i;
    return -1;
}
