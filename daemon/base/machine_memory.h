/* How much memory the machine lets this process have, and how much it has. Linux: /proc, cgroups, resource limits. */
#ifndef BORA_BASE_MACHINE_MEMORY_H
#define BORA_BASE_MACHINE_MEMORY_H

#include <stdint.h>

#define BORA_MEMORY_UNLIMITED UINT64_MAX

/* Bytes: the least of physical memory, the limits of the process's cgroup and of all above it (v2: memory.max, v1:
 * memory.limit_in_bytes), RLIMIT_AS and RLIMIT_DATA. What cannot be read does not count. Any thread. */
uint64_t bora_machine_memory(void);
/* The same without the resource limits, with root ("" is the machine's own) in front of every path: root/proc/meminfo,
 * root/proc/self/cgroup, root/sys/fs/cgroup/...; UNLIMITED if none of them says anything. */
uint64_t bora_machine_memory_in(const char *root);
/* Bytes of the process in physical memory; 0 if it cannot be read. Any thread, never waits. */
uint64_t bora_machine_rss(void);

/* ---- what the files say; texts end with a zero byte ---- */

/* MemTotal of /proc/meminfo in bytes; UNLIMITED if it is not there. */
uint64_t bora_meminfo_total(const char *text);
/* The least limit of the groups that /proc/self/cgroup names, and of all above them, below root/sys/fs/cgroup. */
uint64_t bora_cgroups_limit(const char *root, const char *text);
/* A cgroup's limit: "max" or a number of bytes, alone in its file. UNLIMITED for "max" and what is no number. */
uint64_t bora_cgroup_limit(const char *text);

#endif
