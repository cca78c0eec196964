/* Consensus, behind its seam: driven by a host, which is the libuv loop (consensus_uv.c) or a simulator's virtual world.
 * Its parts: consensus_open.c (start), consensus.c (turns, proposals, barriers), changes.c (of the members), state_hash.c,
 * snapshot_take.c, snapshot_send.c, snapshot_receive.c, and what tells about it all, queries.c. */
#pragma once
#include <sys/queue.h>

#include "consensus/consensus.h"
#include "consensus/network.h"
#include "consensus/raft.h"
#include "consensus/storage.h"

struct consensus_host {
    struct storage_host storage;
    struct network *network;    /* NULL: alone */
    uint64_t window_bytes, message_bytes;   /* of raft; 0: the usual */
    /* Wants consensus_turn() at the end of the loop's turn. Called again only after that. */
    void (*wake)(struct consensus_host *host);
    /* Wants consensus_tick() every `ms` from now on. */
    void (*tick_every)(struct consensus_host *host, unsigned ms);
    /* The owner's fatal() returned. */
    void (*failed)(struct consensus_host *host);
    /* consensus_close() has done its work. */
    void (*closed)(struct consensus_host *host);
};

/* As consensus_start. options->loop, ->directory, ->listen and ->tls are the host's business. The host calls wake and tick
 * from within. */
int consensus_open(struct consensus **out, const struct consensus_options *options, struct consensus_host *host,
                   struct error *err);
void consensus_turn(struct consensus *c);
void consensus_tick(struct consensus *c);
/* Gracefully; closed(host) follows when nothing is under way, from a turn or a tick. Then consensus_free. */
void consensus_close(struct consensus *c);
/* At any time: without a close it is the end of a process by kill -9, but for its memory. No job may run any more. */
void consensus_free(struct consensus *c);

/* For the network. A message from a server that proved to be this one; -1: it is malformed, nothing was changed, and the
 * connection had better be closed. */
int consensus_message(struct consensus *c, uint64_t from, const void *bytes, size_t len, struct error *err);
void consensus_peer_up(struct consensus *c, uint64_t id);
void consensus_peer_down(struct consensus *c, uint64_t id);
void consensus_peer_room(struct consensus *c, uint64_t id);
bool consensus_is_member(const struct consensus *c, uint64_t id);

struct consensus_host *consensus_host(struct consensus *c);
uint64_t consensus_server_id(const struct consensus *c);
uint64_t consensus_cluster_id(const struct consensus *c);
const struct raft *consensus_raft(const struct consensus *c);  /* for tests */

/* consensus_inspect and consensus_recover on a disk. */
int consensus_inspect_disk(struct disk *disk, struct consensus_directory *out, struct error *err);
int consensus_recover_disk(struct disk *disk, const char *address, struct error *err);

/* --- for the parts --- */

struct proposal {
    STAILQ_ENTRY(proposal) next;
    consensus_done done;
    void *request;
    uint64_t index, term;       /* in flight */
    uint8_t *bytes;             /* the log's once in flight */
    uint32_t len;
};
STAILQ_HEAD(proposals, proposal);

struct answer {
    STAILQ_ENTRY(answer) next;
    consensus_done done;
    consensus_changed changed;  /* instead of done */
    void *request;
    enum consensus_outcome outcome;
    struct error error;
};
STAILQ_HEAD(answers, answer);

#define HASHES 4096             /* of the last entries applied */

struct state_hash {
    uint64_t index, hash;
};

enum change_kind { CHANGE_ADD, CHANGE_PROMOTE, CHANGE_REMOVE };

/* They wait for each other: the membership changes one server at a time. */
struct change {
    STAILQ_ENTRY(change) next;
    enum change_kind kind;
    uint64_t id;
    char *address;              /* add */
    consensus_changed done;
    void *request;
    uint64_t index, term;       /* of its entry; 0: not in the log yet */
    uint64_t until_ms;          /* it must be by then; 0: not its turn yet */
};
STAILQ_HEAD(changes, change);

struct transfer {
    uint64_t to;                /* 0: none */
    consensus_changed done;
    void *request;
    uint64_t until_ms;
};

/* A snapshot of our own, while it is written down. */
struct snapshot_taker {
    struct executor_job job;
    struct consensus *consensus;
    bool working;
    struct snapshot snapshot;
    struct buf state;
};

struct snapshot_sender;
LIST_HEAD(snapshot_senders, snapshot_sender);
struct snapshot_receiver;
LIST_HEAD(snapshot_receivers, snapshot_receiver);

struct consensus {
    struct consensus_options options;
    char *address, *release;
    struct consensus_host *host;
    struct storage *storage;
    struct raft raft;
    struct raft_driver driver;
    bool initialised;           /* raft_init was done */

    struct proposals waiting, flight;
    uint64_t waiting_bytes;
    unsigned pending;           /* in both */
    struct answers barriers;    /* callers that wait for the next round */
    struct answers in_barrier;  /* callers that wait for the one under way */
    uint64_t barrier_round, barrier_term, barrier_index;    /* 0: none under way */
    struct answers answers;     /* to be given at the turn */
    bool awake;                 /* a turn is coming */

    /* What the owner knows. */
    enum consensus_role role;
    uint64_t role_term, leader_id;
    struct membership members;

    unsigned holds;             /* of the state: it must not change */
    bool snapshot_wanted;
    struct snapshot_taker taker;
    uint64_t snapshot_after_ms; /* none before: the last one failed */
    uint64_t position_at_snapshot, position_of_snapshot;   /* log position of the last one, and of the one under way */
    int64_t snapshot_time_ms;

    struct changes changes;
    unsigned n_changes;
    struct transfer transfer;
    struct snapshot_senders senders;
    struct snapshot_receiver *receiver;
    struct snapshot_receivers dropped;      /* whose job is not done yet */
    struct state_hash hashes[HASHES];   /* at index % HASHES */

    bool dead, stopping, closed;
    bool handed_over;           /* stopping: tried to */
    unsigned tick_ms;
    uint64_t proposals;
};

uint64_t consensus_now_ms(const struct consensus *c);
void consensus_wake(struct consensus *c);
void consensus_apply_committed(struct consensus *c, uint64_t max);     /* entries */
void consensus_fatal(struct consensus *c, const struct error *err);
void consensus_send(struct consensus *c, uint64_t to, const struct message *m);
void consensus_answer_changed(struct consensus *c, consensus_changed done, void *request, const struct error *err);
void consensus_snapshot_written(void *ctx, const struct snapshot_id *id, uint64_t bytes, int error);
/* NULL with err. On any thread. */
void *consensus_read_state(const struct consensus *c, const struct snapshot *snapshot, struct error *err);
/* Puts a state that was read in place of this one, which is returned, for free_state(). */
void *consensus_use_state(struct consensus *c, uint64_t index, void *state);

/* snapshot_take.c: from the turn. */
void snapshot_take_turn(struct consensus *c);
/* A long log may be what fills the disk: a snapshot, written into the reserve, lets go of it. */
void snapshot_take_for_room(struct consensus *c);
void snapshot_take_free(struct consensus *c);

/* changes.c: from the turn. */
void changes_turn(struct consensus *c);
void changes_forget(struct consensus *c);      /* answers what waits: the server stops */
void changes_free(struct consensus *c);        /* without */

/* state_hash.c */
void state_hash_record(struct consensus *c, uint64_t index);
void state_hash_compare(struct consensus *c, uint64_t from, const struct message *m);

/* snapshot_send.c: begins and ends transfers to followers that need one; from the turn. */
void snapshot_send_turn(struct consensus *c);
void snapshot_send_answer(struct consensus *c, uint64_t from, const struct message_chunk_answer *a);
void snapshot_send_lost(struct consensus *c, uint64_t id);      /* the connection */
void snapshot_send_free(struct consensus *c);
/* For consensus_members(): zero when none is being sent. */
void snapshot_send_progress(const struct consensus *c, uint64_t id, uint64_t *total, uint64_t *sent);

/* snapshot_receive.c */
void snapshot_receive_chunk(struct consensus *c, uint64_t from, const struct message_chunk *k);
void snapshot_receive_installed(struct consensus *c);   /* by the storage */
void snapshot_receive_turn(struct consensus *c);
void snapshot_receive_free(struct consensus *c);
