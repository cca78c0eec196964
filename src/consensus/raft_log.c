#include "consensus/raft_log.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define ENTRY_OVERHEAD 32   /* what an entry without bytes counts */

void raft_log_init(struct raft_log *log)
{
    *log = (struct raft_log){.first = 1};
}

static void free_entries(struct raft_log *log, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        free(log->entries[log->head + i].bytes);
}

void raft_log_clear(struct raft_log *log)
{
    free_entries(log, 0, log->n);
    free(log->entries);
    raft_log_init(log);
}

const struct entry *raft_log_entry(const struct raft_log *log, uint64_t index)
{
    if (index < log->first || index - log->first >= log->n)
        return NULL;
    return &log->entries[log->head + (index - log->first)];
}

uint64_t raft_log_term(const struct raft_log *log, uint64_t index)
{
    if (index + 1 == log->first)
        return log->before_term;
    const struct entry *e = raft_log_entry(log, index);
    return e ? e->term : 0;
}

bool raft_log_knows_term(const struct raft_log *log, uint64_t index)
{
    return index + 1 >= log->first && index <= raft_log_last(log);
}

static uint64_t position_of(const struct raft_log *log, uint64_t index)
{
    if (index < log->first || !log->n)
        return log->before_position;
    uint64_t last = raft_log_last(log);
    return raft_log_entry(log, index > last ? last : index)->position;
}

uint64_t raft_log_bytes(const struct raft_log *log, uint64_t from, uint64_t to)
{
    return to > from ? position_of(log, to) - position_of(log, from) : 0;
}

static void make_room(struct raft_log *log)
{
    if (log->head + log->n < log->cap)
        return;
    /* Half of it is free in front: move, else grow. */
    if (log->head > log->cap / 2) {
        memmove(log->entries, log->entries + log->head, log->n * sizeof log->entries[0]);
        log->head = 0;
        return;
    }
    log->cap = log->cap ? log->cap * 2 : 64;
    log->entries = mem_realloc_array(log->entries, log->cap, sizeof log->entries[0]);
}

void raft_log_append(struct raft_log *log, uint64_t term, enum entry_type type, uint8_t *bytes, uint32_t len)
{
    uint64_t before = position_of(log, raft_log_last(log));
    make_room(log);
    log->entries[log->head + log->n++] = (struct entry){
        .term = term, .type = (uint8_t)type, .bytes = bytes, .len = len, .position = before + len + ENTRY_OVERHEAD};
}

void raft_log_truncate(struct raft_log *log, uint64_t index)
{
    INVARIANT(index >= log->first);
    if (index > raft_log_last(log))
        return;
    free_entries(log, (size_t)(index - log->first), log->n);
    log->n = (size_t)(index - log->first);
}

void raft_log_trim(struct raft_log *log, uint64_t index)
{
    if (index <= log->first)
        return;
    INVARIANT(index <= raft_log_last(log) + 1);
    const struct entry *before = raft_log_entry(log, index - 1);
    log->before_term = before->term;
    log->before_position = before->position;
    size_t n = (size_t)(index - log->first);
    free_entries(log, 0, n);
    log->head += n;
    log->n -= n;
    log->first = index;
}

void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term)
{
    free_entries(log, 0, log->n);
    log->head = log->n = 0;
    log->first = index + 1;
    log->before_term = term;
}
