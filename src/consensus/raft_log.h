/* Raft log: the newest part of the log, in memory: all entries behind the newest snapshot, and some before its end. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are those of the log's files. */
enum entry_type {
    ENTRY_COMMAND = 1,      /* for apply() */
    ENTRY_NOTHING = 2,      /* a leader's first: with it everything before it is committed */
    ENTRY_MEMBERSHIP = 3,   /* membership_encode(); holds from the moment it is in the log */
};

struct entry {
    uint64_t term;
    uint64_t position;      /* bytes of this one and all before it; of entries in a log */
    uint32_t len;
    uint8_t type;           /* enum entry_type */
    uint8_t *bytes;         /* in a log: its own, from malloc */
};

struct raft_log {
    struct entry *entries;  /* contiguous: entries[head] has index `first` */
    size_t head, n, cap;
    uint64_t first;         /* index of the oldest one that is held, or of the next one when there is none */
    uint64_t before_term;   /* term of the entry before the first; 0: there never was one */
    uint64_t before_position;
};

void raft_log_init(struct raft_log *log);
void raft_log_clear(struct raft_log *log);      /* frees all entries; afterwards as initialised */

static inline uint64_t raft_log_last(const struct raft_log *log) { return log->first + log->n - 1; }
/* NULL when it is not held (any more, or yet). Valid until the log is changed. */
const struct entry *raft_log_entry(const struct raft_log *log, uint64_t index);
/* 0: not known here. Index 0 has term 0, and so has nothing to tell. */
uint64_t raft_log_term(const struct raft_log *log, uint64_t index);
bool raft_log_knows_term(const struct raft_log *log, uint64_t index);   /* index 0 included */
static inline uint64_t raft_log_last_term(const struct raft_log *log)
{
    return raft_log_term(log, raft_log_last(log));
}
/* Bytes of entries with indexes from < i <= to; what is not held counts nothing. */
uint64_t raft_log_bytes(const struct raft_log *log, uint64_t from, uint64_t to);

/* Takes over bytes (malloc, or NULL with len 0). */
void raft_log_append(struct raft_log *log, uint64_t term, enum entry_type type, uint8_t *bytes, uint32_t len);
/* Drops the entries from `index` on. */
void raft_log_truncate(struct raft_log *log, uint64_t index);
/* Forgets the entries before `index`, which stay known as committed. At most all that are held. */
void raft_log_trim(struct raft_log *log, uint64_t index);
/* Nothing is held, and index + 1 comes next. */
void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term);
