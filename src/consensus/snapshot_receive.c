/* Receiving a leader's snapshot. Happy path: parts are written in order to one file; each that is on disk is answered with
 * how far it goes; the last one has the file synced, checked, and read into a state; then it takes the place of the log
 * (storage), the state that of the one before, and the last answer says so. One at a time.
 *
 * What may fail: parts come twice or not in order: answered with where to go on. No space: answered, given up. The file is
 * not what it should be: given up, the leader begins anew. Another leader sends another one: the new one counts. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "consensus/consensus_internal.h"

#define QUEUE_BYTES (8u * MESSAGE_CHUNK_BYTES)

enum stage {
    STAGE_COLLECT,
    STAGE_CHECK,        /* the whole file */
    STAGE_WAIT,         /* for who reads the state, and for a snapshot of our own that is being written */
    STAGE_INSTALL,
};

struct snapshot_receiver {
    struct consensus *consensus;
    struct executor_job job;
    bool working;
    bool dropped;               /* freed when the job is done, or with everything */
    LIST_ENTRY(snapshot_receiver) link;     /* of the dropped ones */
    enum stage stage;
    uint64_t from;
    struct snapshot_id id;
    int file;
    uint64_t total;
    uint64_t written, received; /* on disk; with what is queued behind it */
    struct buf queue;           /* parts to be written, from `written` + what is under way on */
    struct buf writing;
    int result;
    struct snapshot snapshot;   /* as read back, without its data */
    void *state;                /* read from it; once that is in use, the one before */
    struct error err;
};

static struct disk *disk_of(const struct snapshot_receiver *s)
{
    return s->consensus->host->storage.disk;
}

static void answer(struct consensus *c, uint64_t to, uint64_t index, uint64_t offset, enum chunk_verdict verdict)
{
    struct message m = {.type = MESSAGE_CHUNK_ANSWER, .term = c->raft.term,
                        .chunk_answer = {.index = index, .offset = offset, .verdict = (uint8_t)verdict}};
    consensus_send(c, to, &m);
}

static void free_receiver(struct snapshot_receiver *s)
{
    if (s->dropped)
        LIST_REMOVE(s, link);
    if (s->file >= 0)
        disk_of(s)->op->close(disk_of(s), s->file);
    buf_free(&s->queue);
    buf_free(&s->writing);
    snapshot_clear(&s->snapshot);
    s->consensus->options.callbacks->free_state(s->consensus->options.ctx, s->state);
    free(s);
}

/* Forgets it, now or when its job is done; what is on disk is overwritten by the next one. */
static void drop(struct consensus *c)
{
    struct snapshot_receiver *s = steal(&c->receiver);
    if (!s->working) {
        free_receiver(s);
        return;
    }
    s->dropped = true;
    LIST_INSERT_HEAD(&c->dropped, s, link);
}

static void give_up(struct snapshot_receiver *s, const char *why)
{
    struct consensus *c = s->consensus;
    LOG_W("a snapshot of the leader is given up", "from", LOG_U64(s->from), "index", LOG_U64(s->id.index), "why", why);
    answer(c, s->from, s->id.index, 0, CHUNK_FAILED);
    drop(c);
}

static void submit(struct snapshot_receiver *s, void (*work)(struct executor_job *job),
                   void (*done)(struct executor_job *job))
{
    struct executor *executor = s->consensus->host->storage.executor;
    s->working = true;
    s->job = (struct executor_job){.work = work, .done = done};
    executor->submit(executor, EXECUTOR_TRANSFER, &s->job);
}

/* True when the receiver is no more. */
static bool gone(struct snapshot_receiver *s)
{
    s->working = false;
    if (s->dropped)
        free_receiver(s);
    else if (s->consensus->dead)
        return true;
    else
        return false;
    return true;
}

/* --- the whole file --- */

static void install(struct snapshot_receiver *s)
{
    struct consensus *c = s->consensus;
    if (c->holds || storage_puts_snapshot(c->storage)) {
        s->stage = STAGE_WAIT;
        return;
    }
    if (!raft_install_begin(&c->raft, s->id.index, s->id.term)) {
        answer(c, s->from, s->id.index, s->total, CHUNK_INSTALLED);
        drop(c);
        return;
    }
    s->stage = STAGE_INSTALL;
    storage_install(c->storage, &s->id);
}

static bool is_announced(const struct snapshot_receiver *s)
{
    return s->snapshot.id.index == s->id.index && s->snapshot.id.term == s->id.term;
}

static void check_work(struct executor_job *job)
{
    struct snapshot_receiver *s = container_of(job, struct snapshot_receiver, job);
    const struct consensus *c = s->consensus;
    struct disk *disk = disk_of(s);
    s->result = disk->op->sync(disk, s->file);
    disk->op->close(disk, s->file);
    s->file = -1;
    if (s->result < 0)
        return;
    if (snapshot_read_incoming(disk, storage_cluster_id(c->storage), &s->snapshot, &s->err) < 0) {
        s->result = -EBADMSG;
        return;
    }
    if (is_announced(s))
        s->state = consensus_read_state(c, &s->snapshot, &s->err);
    snapshot_clear_data(&s->snapshot);
}

static void check_done(struct executor_job *job)
{
    struct snapshot_receiver *s = container_of(job, struct snapshot_receiver, job);
    struct consensus *c = s->consensus;
    if (gone(s))
        return;
    if (s->result == -EBADMSG) {
        give_up(s, s->err.text);
        return;
    }
    if (s->result < 0) {
        struct error err;
        error_set_errno(&err, -s->result, "cannot write %s/%s", disk_of(s)->place, SNAPSHOT_INCOMING);
        consensus_fatal(c, &err);
        return;
    }
    if (!is_announced(s)) {
        give_up(s, "it is another one than was announced");
        return;
    }
    if (!s->state) {
        consensus_fatal(c, &s->err);
        return;
    }
    install(s);
    consensus_wake(c);
}

/* The state before is as large as the new one: it takes as long to free. */
static void forget_work(struct executor_job *job)
{
    struct snapshot_receiver *s = container_of(job, struct snapshot_receiver, job);
    s->consensus->options.callbacks->free_state(s->consensus->options.ctx, steal(&s->state));
}

static void forget_done(struct executor_job *job)
{
    gone(container_of(job, struct snapshot_receiver, job));
}

void snapshot_receive_installed(struct consensus *c)
{
    struct snapshot_receiver *s = c->receiver;
    uint64_t membership_index = s->snapshot.membership_index;
    struct membership membership = s->snapshot.membership;
    s->snapshot.membership = (struct membership){0};
    raft_install_done(&c->raft, s->id.index, s->id.term, membership_index, membership);
    s->state = consensus_use_state(c, s->id.index, s->state);
    struct storage_stats stats;
    storage_stats(c->storage, &stats);
    c->position_at_snapshot = stats.log_position;
    LOG_I("a snapshot of the leader is installed", "from", LOG_U64(s->from), "index", LOG_U64(s->id.index));
    answer(c, s->from, s->id.index, s->total, CHUNK_INSTALLED);
    submit(s, forget_work, forget_done);
    drop(c);
    consensus_wake(c);
}

void snapshot_receive_turn(struct consensus *c)
{
    if (c->receiver && c->receiver->stage == STAGE_WAIT)
        install(c->receiver);
}

/* --- parts --- */

static void write_work(struct executor_job *job)
{
    struct snapshot_receiver *s = container_of(job, struct snapshot_receiver, job);
    struct disk *disk = disk_of(s);
    s->result = 0;
    if (s->file < 0) {
        int rv = disk->op->unlink(disk, SNAPSHOT_INCOMING);
        s->result = rv == -ENOENT ? 0 : rv;
        if (s->result == 0)
            s->file = disk->op->open(disk, SNAPSHOT_INCOMING, true);
        if (s->file < 0 && s->result == 0)
            s->result = s->file;
    }
    if (s->result == 0)
        s->result = disk->op->write(disk, s->file, s->writing.data, s->writing.len, s->written);
}

static void write_on(struct snapshot_receiver *s);

static void write_done(struct executor_job *job)
{
    struct snapshot_receiver *s = container_of(job, struct snapshot_receiver, job);
    struct consensus *c = s->consensus;
    if (gone(s))
        return;
    if (s->result == -ENOSPC || s->result == -EDQUOT) {
        give_up(s, "no space");
        return;
    }
    if (s->result < 0) {
        struct error err;
        error_set_errno(&err, -s->result, "cannot write %s/%s", disk_of(s)->place, SNAPSHOT_INCOMING);
        consensus_fatal(c, &err);
        return;
    }
    s->written += s->writing.len;
    buf_clear(&s->writing);
    answer(c, s->from, s->id.index, s->written, CHUNK_GO_ON);
    if (s->written == s->total) {
        s->stage = STAGE_CHECK;
        submit(s, check_work, check_done);
    } else {
        write_on(s);
    }
}

static void write_on(struct snapshot_receiver *s)
{
    if (s->working || !s->queue.len)
        return;
    struct buf writing = s->writing;
    s->writing = s->queue;
    s->queue = writing;
    submit(s, write_work, write_done);
}

static void start(struct consensus *c, uint64_t from, const struct message_chunk *k)
{
    struct snapshot_receiver *s = NEW(struct snapshot_receiver);
    *s = (struct snapshot_receiver){.consensus = c, .from = from, .id = {k->index, k->last_term}, .file = -1,
                                    .total = k->total};
    c->receiver = s;
    LOG_I("receiving a snapshot", "from", LOG_U64(from), "index", LOG_U64(k->index), "bytes", LOG_U64(k->total));
}

static bool is_same(const struct snapshot_receiver *s, const struct message_chunk *k)
{
    return s->id.index == k->index && s->id.term == k->last_term && s->total == k->total;
}

void snapshot_receive_chunk(struct consensus *c, uint64_t from, const struct message_chunk *k)
{
    struct snapshot_receiver *s = c->receiver;
    if (s && s->stage == STAGE_INSTALL)
        return;   /* its end is told to who sent it, and this one's leader asks again */
    if (k->index <= c->raft.commit || !k->total || k->total > SNAPSHOT_LIMIT) {
        answer(c, from, k->index, k->total, k->index <= c->raft.commit ? CHUNK_INSTALLED : CHUNK_FAILED);
        return;
    }
    if (s && !is_same(s, k)) {
        drop(c);
        s = NULL;
    }
    if (!s && k->offset == 0) {
        start(c, from, k);
        s = c->receiver;
    }
    if (!s) {
        answer(c, from, k->index, 0, CHUNK_GO_ON);
        return;
    }
    s->from = from;   /* a new leader may go on with the same file */
    if (s->stage != STAGE_COLLECT)
        return;
    if (k->offset != s->received || s->queue.len + k->len > QUEUE_BYTES) {
        answer(c, from, k->index, s->received, CHUNK_GO_ON);
        return;
    }
    buf_add(&s->queue, k->bytes, k->len);
    s->received += k->len;
    write_on(s);
}

/* No job runs any more, and none will be told that it is done. */
void snapshot_receive_free(struct consensus *c)
{
    if (c->receiver)
        free_receiver(steal(&c->receiver));
    while (!LIST_EMPTY(&c->dropped))
        free_receiver(LIST_FIRST(&c->dropped));
}
