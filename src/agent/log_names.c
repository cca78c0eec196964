#include "agent/log_names.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const log_stream_names[] = {"stdout", "stderr", NULL};

void log_name_format(char out[static LOG_NAME_SIZE], enum log_stream stream, uint64_t number, const char *suffix)
{
    snprintf(out, LOG_NAME_SIZE, "%s.%" PRIu64 ".%s", log_stream_names[stream], number, suffix);
}

int log_numbers_find(const char *dir, enum log_stream stream, struct log_numbers *out)
{
    *out = (struct log_numbers){0};
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : -1;
    size_t prefix = strlen(log_stream_names[stream]);
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, log_stream_names[stream], prefix) != 0 || e->d_name[prefix] != '.')
            continue;
        char *end;
        uint64_t number = strtoull(e->d_name + prefix + 1, &end, 10);
        if (end == e->d_name + prefix + 1 || strcmp(end, "." LOG_SUFFIX_DATA) != 0)
            continue;
        if (!out->n || number < out->first)
            out->first = number;
        if (!out->n || number > out->last)
            out->last = number;
        out->n++;
    }
    closedir(d);
    return 0;
}
