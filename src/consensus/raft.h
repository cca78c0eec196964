/* Raft: the algorithm as a state machine without clock, sockets or disk. Events come in as calls with the time in them;
 * what is to be done goes out through the driver, or is found in the struct afterwards.
 *
 * After every event the owner looks at: log and stored (what is to be written), commit (what may be applied), role, term,
 * leader and membership (who is told), wants_flush (call raft_flush at the end of the turn). It writes only through the
 * functions. Terms of the field: Ongaro, "Consensus: Bridging Theory and Practice" (2014). */
#pragma once
#include "consensus/membership.h"
#include "consensus/message.h"
#include "consensus/raft_log.h"

enum raft_role {
    RAFT_FOLLOWER,
    RAFT_PRE_CANDIDATE,     /* asks whether an election could be won; no term is used up by that */
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

struct raft_driver {
    /* Durable when it returns; nothing is sent before that. */
    void (*persist)(struct raft_driver *driver, uint64_t term, uint64_t vote);
    /* The message and what it points to are valid during the call. May be lost on the way. */
    void (*send)(struct raft_driver *driver, uint64_t to, const struct message *m);
    /* Bytes that may be sent to it now; 0: not connected, or enough is under way (raft_wake_peer() when that changes). */
    size_t (*room)(struct raft_driver *driver, uint64_t to);
    /* The log's entries from index on are about to be dropped: what is on disk of them must never be read again. */
    void (*truncated)(struct raft_driver *driver, uint64_t index);
    uint64_t (*random)(struct raft_driver *driver, uint64_t limit);     /* 0 … limit-1 */
    /* This server's state may be told: index of the last applied entry and its hash; false: none. */
    bool (*state_hash)(struct raft_driver *driver, uint64_t *index, uint64_t *hash);
};

enum raft_progress {
    RAFT_PROBE,             /* where its log ends is not known: one message at a time */
    RAFT_REPLICATE,         /* entries are sent as they come */
    RAFT_SNAPSHOT,          /* what it needs is not in the log any more */
};

/* Another server: a member, or one that is being removed and not told yet. */
struct raft_peer {
    uint64_t id;
    bool voter;
    bool departing;         /* not a member any more; gets the entry that says so, until departs_ms */
    uint64_t departs_ms;
    bool granted;           /* the vote, this election */
    int64_t heard_ms;       /* when any answer came in this term; -1: none */
    /* The rest is the leader's. */
    enum raft_progress progress;
    uint64_t next;          /* index to send next */
    uint64_t match;         /* stored there, equal to ours, up to here */
    uint64_t applied;       /* and applied, by its last word; 0: nothing */
    uint64_t commit_sent;
    uint64_t round;         /* newest round that it answered */
    uint64_t contact_ms;    /* when that round began; 0: none yet */
    bool probing;           /* a probe is under way */
    bool heartbeat_due;
    bool snapshot_under_way;
    uint64_t snapshot_index;    /* of the one being sent */
    /* The last comparison of states, by the owner. */
    uint64_t hash_index;
    bool hash_differs;
    uint64_t tell_hash_index, tell_hash;    /* goes into what it is sent; 0: nothing */
};

struct membership_at {
    uint64_t index;         /* of its entry; 0: bootstrap */
    struct membership membership;
};

#define RAFT_ROUNDS 64      /* whose beginning is remembered */

struct raft_options {
    uint64_t id;
    unsigned election_timeout_ms, heartbeat_ms;
    uint64_t window_bytes;  /* of entries under way to one peer */
    uint64_t message_bytes; /* of entries in one message, unless a single one is larger */
};

struct raft {
    struct raft_options options;
    struct raft_driver *driver;
    uint64_t now_ms;

    /* Durable. */
    uint64_t term, vote;
    struct raft_log log;
    uint64_t stored;        /* the log is durable here up to this index */
    uint64_t snapshot_index, snapshot_term;

    uint64_t commit, applied;
    enum raft_role role;
    uint64_t leader;        /* 0: not known */
    bool wants_flush;

    /* The newest is in force. The oldest is committed; those behind it may be dropped again with the log's end. */
    struct membership_at *memberships;
    size_t n_memberships;
    struct raft_peer *peers;
    size_t n_peers;
    bool self_voter;

    uint64_t election_ms;   /* when to stand for election */
    uint64_t ticked_ms;     /* the last tick */
    uint64_t grace_ms;      /* this server itself stood still: until then silence of others proves nothing */
    uint64_t votes_from_ms; /* none is given before: an earlier life may have promised a leader to be true */
    int64_t leader_heard_ms;/* -1: not since the start */
    uint64_t verified;      /* as follower: equal to the leader's log up to here */
    uint64_t leader_round;  /* as follower: newest round heard of */
    uint64_t answered, answered_round;  /* as follower: what the leader was told last in this term */
    bool installing;        /* a snapshot is replacing the log */

    /* As leader. */
    uint64_t term_start;    /* index of the term's first entry */
    uint64_t leader_since_ms, heartbeat_ms;
    uint64_t round;
    uint64_t round_began_ms[RAFT_ROUNDS];
    uint64_t transfer_to, transfer_until_ms;    /* 0: no transfer */
    bool transfer_told;
    bool lease_lost;        /* a transfer was told and failed: it may still come true in this term */
};

/* Zeroed options take no defaults. Then the owner fills term, vote, log, stored and snapshot_*, gives the memberships in
 * the log's order, and calls raft_start. */
void raft_init(struct raft *r, const struct raft_options *options, struct raft_driver *driver);
void raft_free(struct raft *r);
void raft_add_membership(struct raft *r, uint64_t index, struct membership membership);    /* takes it over */
void raft_start(struct raft *r, uint64_t now_ms);

void raft_tick(struct raft *r, uint64_t now_ms);
/* -1: the message breaks the protocol, and nothing was changed; err says how. */
int raft_receive(struct raft *r, uint64_t from, const struct message *m, uint64_t now_ms, struct error *err);
/* Sends what is due. */
void raft_flush(struct raft *r, uint64_t now_ms);
void raft_stored(struct raft *r, uint64_t index);
void raft_applied(struct raft *r, uint64_t index);
/* It can be reached again, or its connection has room again; lost: what was under way to it may not arrive. */
void raft_wake_peer(struct raft *r, uint64_t id);
void raft_lose_peer(struct raft *r, uint64_t id);

/* As leader. Takes over bytes; returns the index. Not while raft_transferring(). */
uint64_t raft_propose(struct raft *r, enum entry_type type, uint8_t *bytes, uint32_t len);
/* A change of one server. Refused (-1, nothing done) while another one, or the term's first entry, is not committed. */
int raft_change(struct raft *r, const struct membership *membership, struct error *err);
/* to: a voter, not this server. Ends with another leader, or with raft_transferring() false after an election timeout. */
void raft_transfer(struct raft *r, uint64_t to);
static inline bool raft_transferring(const struct raft *r) { return r->transfer_to; }
/* Everything before the term is committed and applied here. */
static inline bool raft_leads(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->applied >= r->term_start;
}

/* Asks the majority whether this is still the leader: when raft_round_answered() reaches the number that is returned, it
 * was when this was called. */
uint64_t raft_begin_round(struct raft *r);
uint64_t raft_round_answered(const struct raft *r);
/* See consensus_lease_ms(). */
unsigned raft_lease_ms(const struct raft *r, uint64_t now_ms);

/* The owner wrote a snapshot as of index; the log is kept from `keep` on. */
void raft_snapshot_taken(struct raft *r, uint64_t index, uint64_t term, uint64_t keep);
/* The membership as of an index that is applied. */
const struct membership_at *raft_membership_as_of(const struct raft *r, uint64_t index);
static inline const struct membership *raft_membership(const struct raft *r)
{
    return &r->memberships[r->n_memberships - 1].membership;
}
struct raft_peer *raft_peer(const struct raft *r, uint64_t id);     /* NULL: none */

/* Sending a snapshot to a peer whose progress is RAFT_SNAPSHOT: the owner says when it begins and how it ended. */
void raft_snapshot_begin(struct raft *r, uint64_t id, uint64_t index);
void raft_snapshot_end(struct raft *r, uint64_t id, bool installed);

/* As follower, a leader's snapshot has arrived whole. False: it is not needed, the log holds all of it. True: the owner
 * makes it durable in place of the log, restores the state, and calls raft_install_done. Entries are refused meanwhile. */
bool raft_install_begin(struct raft *r, uint64_t index, uint64_t term);
void raft_install_done(struct raft *r, uint64_t index, uint64_t term, uint64_t membership_index,
                       struct membership membership);    /* takes it over */
