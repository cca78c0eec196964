/* Consensus: the one seam over the replicated log. Commands go in, come out in one order on every server, durable.
 *
 * Everything here belongs to one libuv loop's thread: functions are called there, callbacks come there.
 * A server's way: consensus_start → restore() and apply() for what the disk holds → role_changed(LEADER) →
 * consensus_propose() … → apply() and the proposal's callback, once it is durable on a majority.
 * An input or output error of the disk never becomes an answer: it ends in fatal(). A full disk becomes NO_SPACE
 * before anything was written, and heals by itself. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/error.h"

struct consensus;

enum consensus_role {
    CONSENSUS_STARTING,     /* before the first role, and after consensus_stop() */
    CONSENSUS_FOLLOWER,
    CONSENSUS_CANDIDATE,
    CONSENSUS_LEADER,       /* leads, and everything committed before its term is applied: its state may be trusted */
};
const char *consensus_role_name(enum consensus_role role);   /* "leader" */

enum consensus_outcome {
    CONSENSUS_COMMITTED,    /* durable, and apply() was called for it just before */
    CONSENSUS_NOT_LEADER,   /* nothing was done; ask the leader */
    CONSENSUS_UNKNOWN,      /* leadership was lost or the server stops: it may or may not be applied later */
    CONSENSUS_NO_SPACE,     /* nothing was done: the disk is (nearly) full; see stats.disk_free_bytes */
    CONSENSUS_TOO_LARGE,    /* nothing was done: more than max_command_bytes */
    CONSENSUS_BUSY,         /* nothing was done: max_pending proposals are waiting */
};
/* The outcome as an error for an API's answer; returns -1, or 0 for CONSENSUS_COMMITTED. */
int consensus_outcome_error(enum consensus_outcome outcome, struct error *err);

struct consensus_callbacks {
    /* A committed command, in order, each index once for the life of the process (and again after a restart, from the
     * last snapshot on). Indexes grow but have gaps: some log entries are the library's own. `request` is what was given
     * to consensus_propose() when this process proposed it, else NULL. The bytes are valid during the call. */
    void (*apply)(void *ctx, uint64_t index, const void *bytes, size_t len, void *request);
    /* Append the whole state, as of the last apply(), to out. Called on the loop: be quick. */
    void (*snapshot)(void *ctx, struct buf *out);
    /* Replace the whole state. At start (before consensus_start() returns) or when a leader sends its snapshot. `index`
     * is that of the last entry the state holds. An error ends the server. */
    int (*restore)(void *ctx, uint64_t index, const void *bytes, size_t len, struct error *err);
    /* This server's role, the term, or the known leader changed; see consensus_role() and consensus_leader(). */
    void (*role_changed)(void *ctx, enum consensus_role role);
    /* The server must not go on (disk error, damaged state): log it, exit. When it returns, the process is aborted. */
    void (*fatal)(void *ctx, const struct error *err);
};

struct consensus_options {
    uv_loop_t *loop;
    const char *directory;          /* made when missing; nobody else may write in it (it is locked) */
    uint64_t server_id;             /* 0: the directory's, or a new random one for an empty directory */
    uint64_t cluster_id;            /* likewise; any other value than the directory's is refused */
    const char *address;            /* how other servers reach this one; kept with the membership */
    bool bootstrap;                 /* an empty directory becomes a cluster of this one voter; else it waits to be added */
    const struct consensus_callbacks *callbacks;   /* outlives the consensus */
    void *ctx;
    /* 0 takes the default. */
    unsigned election_timeout_ms;   /* 1000 */
    unsigned heartbeat_ms;          /* 100 */
    uint64_t segment_bytes;         /* 8 MiB: size of a log file; also bounds a command */
    uint64_t snapshot_after_bytes;  /* 32 MiB of log since the last snapshot */
    unsigned trailing_entries;      /* 1024 kept in memory behind a snapshot, for followers that lag a little */
    uint64_t reserve_bytes;         /* 32 MiB of free disk below which proposals are refused */
    size_t max_command_bytes;       /* 4 MiB; at most half of segment_bytes */
    unsigned max_pending;           /* 65536 proposals */
};

/* Opens or makes the directory, reads what it holds (blocking; restore() and, for a single voter, apply() are called
 * from here on), starts. Returns 0, or -1 with err: in use, damaged (names file and offset), another cluster's. */
int consensus_start(struct consensus **out, const struct consensus_options *options, struct error *err);

/* Refuses proposals from now on, waits for writes that are under way (their callbacks still come, others get
 * CONSENSUS_UNKNOWN), closes, frees c, then calls done on the loop. A snapshot being written is waited for. */
void consensus_stop(struct consensus *c, void (*done)(void *ctx), void *ctx);

/* Called exactly once for each call below, never from inside the call. index: of the entry when committed; for a barrier
 * the last applied one; else 0. */
typedef void (*consensus_done)(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index);

/* Proposes a command; the bytes are copied. Proposals of one turn of the loop are written and synced together.
 * ctx of the callback is the options'. On COMMITTED, apply(…, request) has run just before. */
void consensus_propose(struct consensus *c, const void *bytes, size_t len, consensus_done done, void *request);

/* Read barrier: on COMMITTED, the local state holds everything that was acknowledged anywhere before this call, so a read
 * from it is linearizable. Many waiting barriers share one. */
void consensus_barrier(struct consensus *c, consensus_done done, void *request);

enum consensus_role consensus_role(const struct consensus *c);
/* The known leader's id (0: none known); *address is valid until the loop's next turn. */
uint64_t consensus_leader(const struct consensus *c, const char **address);

struct consensus_stats {
    uint64_t server_id, cluster_id;
    uint64_t term;
    uint64_t last_index;            /* in the log */
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t snapshot_index;        /* last one on disk; 0: none */
    int64_t snapshot_time_ms;       /* when it was written, wall clock; 0: not by this process */
    uint64_t snapshot_bytes;
    uint64_t log_bytes;             /* files of the log on disk */
    uint64_t log_bytes_since_snapshot;
    uint64_t disk_free_bytes;       /* as last seen */
    bool no_space;                  /* proposals are being refused for it */
    unsigned pending;               /* proposals not answered yet */
    uint64_t proposals, appends, syncs;    /* counters since start; proposals / syncs is the size of group commits */
};
void consensus_stats(const struct consensus *c, struct consensus_stats *out);

enum consensus_membership {
    CONSENSUS_VOTER,
    CONSENSUS_STANDBY,      /* receives the log, has no vote */
    CONSENSUS_SPARE,        /* known, receives nothing */
};
struct consensus_member {
    uint64_t id;
    const char *address;    /* valid until the loop's next turn */
    enum consensus_membership membership;
    bool leader;
};
/* Writes at most max members, returns how many there are. Changing the membership needs the network half of the
 * raft_io (src/consensus/transport.h), and comes with it. */
size_t consensus_members(const struct consensus *c, struct consensus_member *out, size_t max);

/* Takes a snapshot soon, whatever the log's size. */
void consensus_snapshot_soon(struct consensus *c);
