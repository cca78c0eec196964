/* Log: one line a record, key=value, levelled, on standard error. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_FATAL };

/* Called once before threads start. component is static text ("server", "agent", "shim"). */
void log_init(const char *component, enum log_level level);
/* Parses "debug", "info", "warn" or "error". Returns 0, or -1 when it is none of them. */
int log_level_parse(const char *s, enum log_level *level);

/* fmt gives msg="…" ; the pairs that follow are keys and values, both strings, ended by NULL. Values are quoted
 * and escaped where needed. Thread-safe: each record is one write(2).
 *   LOG_I("node registered", "node", id, "address", address);  */
void log_write(enum log_level level, const char *msg, ...) __attribute__((sentinel));
#define LOG_D(...) log_write(LOG_DEBUG, __VA_ARGS__, NULL)
#define LOG_I(...) log_write(LOG_INFO, __VA_ARGS__, NULL)
#define LOG_W(...) log_write(LOG_WARN, __VA_ARGS__, NULL)
#define LOG_E(...) log_write(LOG_ERROR, __VA_ARGS__, NULL)
/* An unsigned number as a value: LOG_I("x", "index", LOG_U64(i)); the text lives until the end of the block. */
#define LOG_U64(v) (log_number((char[21]){0}, (unsigned long long)(v)))
#define LOG_I64(v) (log_signed((char[22]){0}, (long long)(v)))
const char *log_number(char *out, unsigned long long v);
const char *log_signed(char *out, long long v);

/* For lines that others can cause as often as they like. Zeroed at first. */
struct log_limit {
    int64_t since_ms;
    unsigned said;
    uint64_t unsaid;
};
/* Whether one more may be written at this (monotonic) time: ten in ten seconds may. *unsaid: how many were not since then. */
bool log_limit_allows(struct log_limit *l, int64_t now_ms, uint64_t *unsaid);
