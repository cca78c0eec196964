/* Times and durations as people write them. Times are milliseconds since 1970 in UTC; 0 means never. */
#pragma once
#include <stdint.h>

#define TIME_TEXT_SIZE 32

int64_t time_now_ms(void);        /* the wall clock; never used inside the core */
int64_t time_monotonic_ms(void);

/* "2026-11-24T08:19:16.042Z" (RFC 3339, UTC); times outside the years 0000 to 9999 become their ends. */
void time_format(char out[static TIME_TEXT_SIZE], int64_t time_ms);
/* RFC 3339 with any offset, fraction optional. 0, or -1. */
int time_parse(const char *s, int64_t *time_ms);

/* "500ms", "10s", "5m", "1h", "1h30m", "1.5s", "7d". 0, or -1 (also for negative and overflow). */
int duration_parse(const char *s, int64_t *duration_ms);
/* The shortest exact form: 90000 gives "1m30s". */
void duration_format(char out[static TIME_TEXT_SIZE], int64_t duration_ms);
