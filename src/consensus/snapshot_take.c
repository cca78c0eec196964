/* Snapshots of our own. Happy path: the log has grown enough since the last one; the state is held, so that nothing is
 * applied while another thread writes it down in memory; then it is released, and what was written goes to disk (storage);
 * when it is there, the log in memory and on disk lets go of what it holds.
 *
 * What may fail: a leader's snapshot is being installed: ours waits, as that one waits for ours. No space: tried again
 * later. */
#include "base/log.h"
#include "base/timefmt.h"
#include "consensus/consensus_internal.h"

#define RETRY_MS 10000

static void write_down(struct executor_job *job)
{
    struct snapshot_taker *t = container_of(job, struct snapshot_taker, job);
    t->consensus->options.callbacks->snapshot(t->consensus->options.ctx, &t->state);
}

static void written_down(struct executor_job *job)
{
    struct snapshot_taker *t = container_of(job, struct snapshot_taker, job);
    struct consensus *c = t->consensus;
    t->working = false;
    consensus_release_state(c);
    t->snapshot.len = t->state.len;
    t->snapshot.memory = t->snapshot.data = (uint8_t *)buf_steal(&t->state);
    if (c->dead)
        snapshot_clear(&t->snapshot);
    else
        storage_put_snapshot(c->storage, &t->snapshot);
}

static bool is_wanted(const struct consensus *c, const struct storage_stats *s)
{
    return c->snapshot_wanted || s->log_position - c->position_at_snapshot >= c->options.snapshot_after_bytes;
}

void snapshot_take_turn(struct consensus *c)
{
    struct snapshot_taker *t = &c->taker;
    struct storage_stats s;
    uint64_t index = c->raft.applied;
    storage_stats(c->storage, &s);
    if (!is_wanted(c, &s) || t->working || c->stopping || storage_puts_snapshot(c->storage) || index > c->raft.stored ||
        consensus_now_ms(c) < c->snapshot_after_ms)
        return;
    bool nothing_new = index == c->raft.snapshot_index;
    c->snapshot_wanted = !nothing_new && !consensus_hold_state(c);
    if (nothing_new || c->snapshot_wanted)
        return;
    const struct membership_at *at = raft_membership_as_of(&c->raft, index);
    t->consensus = c;
    t->working = true;
    t->snapshot = (struct snapshot){.id = {index, raft_log_term(&c->raft.log, index)}, .membership_index = at->index,
                                    .membership = membership_copy(&at->membership)};
    c->position_of_snapshot = s.log_position;
    t->job = (struct executor_job){.work = write_down, .done = written_down};
    c->host->storage.executor->submit(c->host->storage.executor, EXECUTOR_BACKGROUND, &t->job);
}

void consensus_snapshot_written(void *ctx, const struct snapshot_id *id, uint64_t bytes, int error)
{
    struct consensus *c = ctx;
    consensus_wake(c);
    if (error < 0) {
        c->snapshot_wanted = true;
        c->snapshot_after_ms = consensus_now_ms(c) + RETRY_MS;
        return;
    }
    c->position_at_snapshot = c->position_of_snapshot;
    c->snapshot_time_ms = time_now_ms();
    uint64_t trailing = c->options.trailing_entries;
    raft_snapshot_taken(&c->raft, id->index, id->term, id->index > trailing ? id->index - trailing + 1 : 1);
    LOG_I("snapshot written", "index", LOG_U64(id->index), "bytes", LOG_U64(bytes));
}

void snapshot_take_for_room(struct consensus *c)
{
    struct storage_stats s;
    storage_stats(c->storage, &s);
    if (s.log_position - c->position_at_snapshot >= 2 * c->options.segment_bytes)
        c->snapshot_wanted = true;
}

void consensus_snapshot_soon(struct consensus *c)
{
    c->snapshot_wanted = true;
    consensus_wake(c);
}

void snapshot_take_free(struct consensus *c)
{
    buf_free(&c->taker.state);
    snapshot_clear(&c->taker.snapshot);
}
