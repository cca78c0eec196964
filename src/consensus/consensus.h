/* Consensus: the one seam over the replicated log. Commands go in, come out in one order on every server, durable.
 *
 * Everything here belongs to one libuv loop's thread: functions are called there, callbacks come there.
 * A server's way: consensus_start → restore() and apply() for what the disk holds → role_changed(LEADER) →
 * consensus_propose() … → apply() and the proposal's callback, once it is durable on a majority.
 *
 * A cluster's way: the first server starts with `bootstrap` and is its only voter. Another one learns the cluster's id
 * (by a join token), starts with it, an empty directory and without `bootstrap`; then the leader is told consensus_add()
 * with its id and address, and it becomes a voter once it has caught up. A server that starts with another address tells
 * the others, and the leader puts it into the membership.
 *
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
struct tls_context;

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
    /* Append the whole state, as of the last apply(), to out. On a thread of its own; the state does not change meanwhile:
     * apply() and use_state() wait (consensus_hold_state), everything else goes on. */
    void (*snapshot)(void *ctx, struct buf *out);
    /* Make a new state of a snapshot's bytes. NULL: an error, which ends the server. On a thread of its own, beside
     * everything else that is called; at start on the loop. */
    void *(*read_state)(void *ctx, const void *bytes, size_t len, struct error *err);
    /* Put a state that was read in place of the whole state: at start (before consensus_start() returns), or when a leader
     * sent its snapshot. `index` is that of the last entry it holds. Returns what it replaces, for free_state(). */
    void *(*use_state)(void *ctx, uint64_t index, void *state);
    /* One that was read and is not used, or no more; NULL: none. On any thread. */
    void (*free_state)(void *ctx, void *state);
    /* This server's role, the term, or the known leader changed; see consensus_role() and consensus_leader(). */
    void (*role_changed)(void *ctx, enum consensus_role role);
    /* The server must not go on (disk error, damaged state, a state that differs from the other servers'): log it, exit.
     * When it returns, the process is aborted. */
    void (*fatal)(void *ctx, const struct error *err);

    /* These may be NULL. */
    /* A hash of the whole state, asked for after each apply() and restore(): quick, and equal wherever the same commands
     * were applied. Servers compare it by index; one that differs from the majority gets fatal(). */
    uint64_t (*state_hash)(void *ctx);
    /* consensus_members() gives another list (who is in it, as what, under which address). */
    void (*members_changed)(void *ctx);
};

struct consensus_options {
    uv_loop_t *loop;
    const char *directory;          /* made when missing; nobody else may write in it (it is locked) */
    uint64_t server_id;             /* 0: the directory's, or a new random one for an empty directory */
    uint64_t cluster_id;            /* likewise; any other value than the directory's is refused */
    const char *address;            /* how other servers reach this one, "host:port"; NULL: as it listens */
    bool bootstrap;                 /* an empty directory becomes a cluster of this one voter; else it waits to be added */
    const struct consensus_callbacks *callbacks;   /* outlives the consensus */
    void *ctx;

    /* The other servers. */
    const char *listen;             /* "host:port" (port 0: any free one); NULL: alone, other servers cannot be added */
    struct tls_context *tls;        /* held. Its certificate carries "DNS:SERVER_ID.server.mentat"; so do the peers' */
    bool insecure;                  /* without tls: plain TCP, to be allowed explicitly */
    unsigned command_version;       /* of the newest commands that this program knows; see consensus_command_version() */
    const char *release;            /* for people: "0.1.0" */
    bool manual_promotion;          /* standbys wait for consensus_promote(); else they become voters when caught up */

    /* 0 takes the default. */
    unsigned election_timeout_ms;   /* 500 */
    unsigned heartbeat_ms;          /* 50; at most a quarter of the election timeout */
    uint64_t segment_bytes;         /* 8 MiB: size of a log file; also bounds a command */
    uint64_t snapshot_after_bytes;  /* 32 MiB of log since the last snapshot */
    unsigned trailing_entries;      /* 1024 kept in memory behind a snapshot, for followers that lag a little */
    uint64_t reserve_bytes;         /* 32 MiB of free disk below which proposals are refused */
    size_t max_command_bytes;       /* 4 MiB; at most half of segment_bytes, and 32 MiB */
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
    uint64_t term;                  /* in which the role is what consensus_role() says */
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
    uint64_t refused_connections;   /* from who is no server of this cluster; since start */
    int64_t leader_contact_ms;      /* since a leader was last heard of: how old a read may be here; -1: not yet; leader: 0 */
};
void consensus_stats(const struct consensus *c, struct consensus_stats *out);

/* --- the cluster --- */

enum consensus_membership {
    CONSENSUS_NO_MEMBER,    /* not added yet, or removed */
    CONSENSUS_STANDBY,      /* receives the log, has no vote */
    CONSENSUS_VOTER,
};
const char *consensus_membership_name(enum consensus_membership membership);   /* "voter" */

struct consensus_member {
    uint64_t id;
    const char *address;        /* valid until the loop's next turn, as is release */
    enum consensus_membership membership;
    bool leader;
    bool self;
    /* As this server sees it; of itself it knows all. */
    bool connected;
    const char *release;        /* NULL: never connected to since this process began */
    unsigned command_version;   /* 0: likewise */
    int64_t contact_ms;         /* since its last answer (leader), or the leader's last message (others); -1: none yet */
    /* Only at the leader; else 0. */
    uint64_t match_index;       /* it has stored the log up to here */
    uint64_t applied_index;     /* and applied it up to here, by its last word: maybe further by now */
    uint64_t next_index;        /* and is sent this next */
    uint64_t lag;               /* entries that it lacks */
    uint64_t snapshot_bytes, snapshot_sent;   /* of the snapshot that is being sent to it; 0: none */
};
/* Writes at most max members, returns how many there are. */
size_t consensus_members(const struct consensus *c, struct consensus_member *out, size_t max);
/* This server's own place, by the newest membership that it knows. */
enum consensus_membership consensus_self(const struct consensus *c);

/* Changes of the membership, at the leader; made one after another. Called exactly once for each call below, never from
 * inside the call, with err NULL when the change is committed. Else nothing was changed, but for ERROR_UNKNOWN_OUTCOME:
 *   UNAVAILABLE      this server does not lead, or the cluster would have no majority then: ask the leader, try again
 *   CONFLICT         it would leave no voter; transfer: another one is under way, it has no vote, a third server won
 *   EXISTS           add: the id or the address is there already
 *   NOT_FOUND        no such member; transfer: no other voter answers
 *   TIMEOUT          promote, transfer: it did not catch up in time (it may be down)
 *   UNSUPPORTED      this server was started without `listen` */
typedef void (*consensus_changed)(void *ctx, void *request, const struct error *err);
/* As a standby; it gets the log and, unless promotion is manual, a vote once it has caught up (members_changed tells). */
void consensus_add(struct consensus *c, uint64_t id, const char *address, consensus_changed done, void *request);
void consensus_promote(struct consensus *c, uint64_t id, consensus_changed done, void *request);
/* Any member, the leader included, which then hands over its office. A removed server must not come back under its id. */
void consensus_remove(struct consensus *c, uint64_t id, consensus_changed done, void *request);
/* Makes a voter the leader (0: the one that is most up to date). Proposals meanwhile get NOT_LEADER. */
void consensus_transfer(struct consensus *c, uint64_t id, consensus_changed done, void *request);

/* For how long from now on this leader's state is certainly the newest, so that a read from it in this turn is
 * linearizable without a barrier; 0: use a barrier. Counts from the last time a majority answered. */
unsigned consensus_lease_ms(const struct consensus *c);

/* The version of commands that every member understands: nothing newer may be proposed. 0: not known yet, because some
 * member was not connected to since this process began; then only what the first release knew may be. */
unsigned consensus_command_version(const struct consensus *c);

/* The port that `listen` got; 0 without. */
int consensus_port(const struct consensus *c);

/* Takes a snapshot soon, whatever the log's size. */
void consensus_snapshot_soon(struct consensus *c);

/* For who reads the whole state on another thread: until as many consensus_release_state() nothing is applied, while
 * commands go on to be written, sent and committed. False: a leader's snapshot is about to replace the state; try later. */
bool consensus_hold_state(struct consensus *c);
void consensus_release_state(struct consensus *c);

/* --- a directory that no process uses --- */

struct consensus_directory {
    uint64_t server_id, cluster_id;     /* 0: nothing was stored there yet; a cluster must be made or joined */
    uint64_t term, last_index, last_term, snapshot_index;
    size_t voters;
    enum consensus_membership self;     /* its server, by its log */
};
/* Reads, and repairs what a crash left. An error as for consensus_start(): in use, damaged. */
int consensus_inspect(const char *directory, struct consensus_directory *out, struct error *err);

/* For the loss of a majority for good: makes the directory's server, under this address, the only voter of its cluster,
 * with all that its log holds. Others must never start again on their old directories; of the survivors, take the one
 * with the highest last_term, then last_index. */
int consensus_recover(const char *directory, const char *address, struct error *err);
