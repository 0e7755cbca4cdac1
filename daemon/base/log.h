/* Log lines on stderr: "level: message", or with systemd's "<n>" priorities when stderr is the journal. The log is
 * a context that is passed along, not a global. Any thread; one write per line. Prompt and completion text never
 * appear above debug. */
#ifndef BORA_BASE_LOG_H
#define BORA_BASE_LOG_H

#include <bora/plugin.h>
#include <stdbool.h>

typedef struct bora_log {
    int level;     /* BORA_LOG_*: lines above it are dropped */
    bool priority; /* write "<3>" .. "<7>" instead of a word */
    int fd;        /* where to */
} bora_log;

/* stderr; priority if $JOURNAL_STREAM names stderr's device and inode. */
void bora_log_init(bora_log *log, int level);
/* log may be NULL: nothing is written. */
__attribute__((format(printf, 3, 4))) void bora_logf(const bora_log *log, int level, const char *format, ...);
/* "error", "warn", "info", "debug" to BORA_LOG_*; -1 for anything else. */
int bora_log_level_parse(const char *name);

#endif
