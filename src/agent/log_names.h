/* Log names: which files the log of a stream consists of. Shared by the writer and the reader. */
#pragma once
#include <stdint.h>

#include "agent/logfile.h"

#define LOG_NAME_SIZE 64
#define LOG_SUFFIX_DATA "log"
#define LOG_SUFFIX_INDEX "idx"

/* One entry of an index: from this offset on, bytes were written at that time or later. */
struct log_index {
    int64_t time_ms;
    uint64_t offset;
};

/* The numbers of the files that are there. */
struct log_numbers {
    uint64_t first, last;
    unsigned n;
};

/* "stdout.3.log" */
void log_name_format(char out[static LOG_NAME_SIZE], enum log_stream stream, uint64_t number, const char *suffix);
/* 0 with n = 0 when there are none, or no such folder; -1 with errno. */
int log_numbers_find(const char *dir, enum log_stream stream, struct log_numbers *out);
