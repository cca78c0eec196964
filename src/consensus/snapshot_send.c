/* Sending the newest snapshot to a follower that needs one. Happy path: the file is opened; parts are read in the
 * background, one at a time, and sent, a window ahead of what the follower says it has; its last answer says that the
 * snapshot is installed, and the log goes on from there.
 *
 * A connection that breaks ends the transfer; the next one finds out, with its first part, what the follower has kept. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "consensus/consensus_internal.h"

#define WINDOW_BYTES (4u * MESSAGE_CHUNK_BYTES)
#define SILENCE_MS 30000        /* without any progress: it is given up */
#define RESEND_MS 3000          /* without an answer: parts may be lost */
#define RETRY_MS 3000

struct snapshot_sender {
    LIST_ENTRY(snapshot_sender) next;
    struct consensus *consensus;
    struct executor_job job;    /* reads a part */
    bool reading;
    bool abandoned;             /* freed when the read is done */
    uint64_t to;
    struct snapshot_id id;
    int file;
    uint64_t total, sent, acknowledged;
    uint64_t offset;            /* of the part that is read */
    uint32_t len;
    int result;
    uint64_t progress_ms, resent_ms;
    bool waiting;               /* failed: tried again at retry_ms */
    uint64_t retry_ms;
    uint8_t bytes[MESSAGE_CHUNK_BYTES];
};

static struct disk *disk_of(const struct snapshot_sender *s)
{
    return s->consensus->host->storage.disk;
}

static struct snapshot_sender *find(const struct consensus *c, uint64_t to)
{
    struct snapshot_sender *s;
    LIST_FOREACH(s, &c->senders, next)
        if (s->to == to && !s->abandoned)
            return s;
    return NULL;
}

static void close_file(struct snapshot_sender *s)
{
    if (s->file >= 0)
        disk_of(s)->op->close(disk_of(s), s->file);
    s->file = -1;
}

static void drop(struct snapshot_sender *s)
{
    s->abandoned = true;
    if (s->reading)
        return;
    close_file(s);
    LIST_REMOVE(s, next);
    free(s);
}

/* The follower stays in need of a snapshot; another attempt comes later. */
static void fail(struct snapshot_sender *s, const char *why)
{
    struct consensus *c = s->consensus;
    LOG_W("a snapshot could not be sent", "to", LOG_U64(s->to), "index", LOG_U64(s->id.index), "why", why);
    raft_snapshot_end(&c->raft, s->to, false);
    s->waiting = true;
    s->retry_ms = consensus_now_ms(c) + RETRY_MS;
    if (!s->reading)
        close_file(s);
}

static void read_work(struct executor_job *job)
{
    struct snapshot_sender *s = container_of(job, struct snapshot_sender, job);
    s->result = disk_of(s)->op->read(disk_of(s), s->file, s->bytes, s->len, s->offset);
}

static void send_part(struct snapshot_sender *s)
{
    struct consensus *c = s->consensus;
    struct message m = {.type = MESSAGE_CHUNK, .term = c->raft.term,
                        .chunk = {.index = s->id.index, .last_term = s->id.term, .total = s->total,
                                  .offset = s->offset, .bytes = s->bytes, .len = s->len}};
    consensus_send(c, s->to, &m);
    s->sent = s->offset + s->len;
}

static void read_done(struct executor_job *job)
{
    struct snapshot_sender *s = container_of(job, struct snapshot_sender, job);
    struct consensus *c = s->consensus;
    s->reading = false;
    if (s->abandoned || s->waiting) {
        close_file(s);
        if (s->abandoned)
            drop(s);
        return;
    }
    if (s->result < 0) {
        fail(s, strerror(-s->result));
        return;
    }
    /* The follower may have said meanwhile that it has another part of the file. */
    if (s->offset == s->sent)
        send_part(s);
    consensus_wake(c);
}

static void read_on(struct snapshot_sender *s)
{
    struct consensus *c = s->consensus;
    if (s->reading || s->sent >= s->total || s->sent - s->acknowledged >= WINDOW_BYTES ||
        !c->driver.room(&c->driver, s->to))
        return;
    uint64_t left = s->total - s->sent;
    s->offset = s->sent;
    s->len = left < MESSAGE_CHUNK_BYTES ? (uint32_t)left : MESSAGE_CHUNK_BYTES;
    s->reading = true;
    s->job = (struct executor_job){.work = read_work, .done = read_done};
    c->host->storage.executor->submit(c->host->storage.executor, EXECUTOR_TRANSFER, &s->job);
}

static void begin(struct snapshot_sender *s)
{
    struct consensus *c = s->consensus;
    char name[DISK_NAME_SIZE];
    s->id = storage_snapshot(c->storage);
    snapshot_file_name(name, &s->id);
    s->waiting = false;
    s->sent = s->acknowledged = 0;
    s->progress_ms = s->resent_ms = consensus_now_ms(c);
    s->file = disk_of(s)->op->open(disk_of(s), name, false);
    int rv = s->file < 0 ? s->file : disk_of(s)->op->size(disk_of(s), s->file, &s->total);
    raft_snapshot_begin(&c->raft, s->to, s->id.index);
    if (rv < 0) {
        fail(s, strerror(-rv));
        return;
    }
    LOG_I("sending a snapshot", "to", LOG_U64(s->to), "index", LOG_U64(s->id.index), "bytes", LOG_U64(s->total));
}

static void turn_one(struct snapshot_sender *s, const struct raft_peer *p)
{
    struct consensus *c = s->consensus;
    uint64_t now = consensus_now_ms(c);
    if (s->waiting && !s->reading && now >= s->retry_ms && c->driver.room(&c->driver, p->id))
        begin(s);
    if (s->waiting)
        return;
    if (now >= s->progress_ms + SILENCE_MS) {
        fail(s, "no answer");
        return;
    }
    if (now >= s->resent_ms + RESEND_MS) {
        s->sent = s->acknowledged;
        s->resent_ms = now;
    }
    read_on(s);
}

void snapshot_send_turn(struct consensus *c)
{
    struct snapshot_sender *s, *next;
    for (s = LIST_FIRST(&c->senders); s; s = next) {
        next = LIST_NEXT(s, next);
        const struct raft_peer *p = raft_peer(&c->raft, s->to);
        if (!s->abandoned && (c->raft.role != RAFT_LEADER || !p || p->progress != RAFT_SNAPSHOT || c->stopping))
            drop(s);
    }
    if (c->raft.role != RAFT_LEADER || c->stopping || !storage_snapshot(c->storage).index)
        return;
    for (size_t i = 0; i < c->raft.n_peers; i++) {
        const struct raft_peer *p = &c->raft.peers[i];
        if (p->progress != RAFT_SNAPSHOT)
            continue;
        s = find(c, p->id);
        if (!s) {
            s = NEW(struct snapshot_sender);
            *s = (struct snapshot_sender){.consensus = c, .to = p->id, .file = -1, .waiting = true};
            LIST_INSERT_HEAD(&c->senders, s, next);
        }
        turn_one(s, p);
    }
}

void snapshot_send_answer(struct consensus *c, uint64_t from, const struct message_chunk_answer *a)
{
    struct snapshot_sender *s = find(c, from);
    if (!s || s->waiting || a->index != s->id.index)
        return;
    s->progress_ms = s->resent_ms = consensus_now_ms(c);
    switch (a->verdict) {
    case CHUNK_INSTALLED:
        LOG_I("a snapshot is installed", "at", LOG_U64(s->to), "index", LOG_U64(s->id.index));
        raft_snapshot_end(&c->raft, s->to, true);
        drop(s);
        break;
    case CHUNK_FAILED:
        fail(s, "the follower refused it");
        break;
    default:
        if (a->offset > s->total)
            break;
        /* It has more than was sent: kept from a broken transfer. Less than it had: it began anew. */
        if (a->offset > s->sent || a->offset < s->acknowledged)
            s->sent = a->offset;
        s->acknowledged = a->offset;
        break;
    }
}

void snapshot_send_lost(struct consensus *c, uint64_t id)
{
    struct snapshot_sender *s = find(c, id);
    if (s && !s->waiting) {
        fail(s, "the connection broke");
        s->retry_ms = 0;
    }
}

void snapshot_send_free(struct consensus *c)
{
    struct snapshot_sender *s;
    while ((s = LIST_FIRST(&c->senders))) {
        s->reading = false;   /* no job runs any more */
        drop(s);
    }
}

void snapshot_send_progress(const struct consensus *c, uint64_t id, uint64_t *total, uint64_t *sent)
{
    const struct snapshot_sender *s = find(c, id);
    bool under_way = s && !s->waiting;
    *total = under_way ? s->total : 0;
    *sent = under_way ? s->acknowledged : 0;
}
