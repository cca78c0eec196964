#include "proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define PROC_LIMIT (1024 * 1024)

int proc_sum(const char *path, const char *const *keys, double *sum, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    if (file_read(path, PROC_LIMIT, &text, err))
        return -1;
    for (char *line = text.data, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        for (const char *const *key = keys; *key; key++)
            if (!strncmp(line, *key, strlen(*key)))
                *sum += strtod(line + strlen(*key), NULL);
    }
    return 0;
}

int proc_memory_mb(pid_t pid, double *resident, double *private, struct error *err)
{
    static const char *const resident_keys[] = {"Rss:", NULL};
    static const char *const private_keys[] = {"Private_Clean:", "Private_Dirty:", NULL};
    CLEANUP_FREE char *path = mem_printf("/proc/%d/smaps_rollup", (int)pid);
    *resident = *private = 0;
    int rc = proc_sum(path, resident_keys, resident, err) || proc_sum(path, private_keys, private, err) ? -1 : 0;
    *resident /= 1024;
    *private /= 1024;
    return rc;
}
