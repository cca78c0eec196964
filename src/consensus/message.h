/* Message: what servers of a cluster say to each other about the log, and its form on the wire. */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "consensus/raft_log.h"

enum message_type {
    MESSAGE_VOTE = 1,           /* candidate → all: elect me */
    MESSAGE_VOTE_ANSWER = 2,
    MESSAGE_APPEND = 3,         /* leader → all: entries, or none (heartbeat) */
    MESSAGE_APPEND_ANSWER = 4,
    MESSAGE_TAKE_OVER = 5,      /* leader → voter: stand for election now */
    MESSAGE_CHUNK = 6,          /* leader → follower: a part of its newest snapshot's file */
    MESSAGE_CHUNK_ANSWER = 7,
};

struct message_vote {
    uint64_t last_index, last_term;     /* of the candidate's log */
    bool pre;                           /* only asks; the term is the one that it would have */
    bool transfer;                      /* the leader wants it: do not wait for the leader to be silent */
};

struct message_vote_answer {
    bool pre, granted;
};

struct message_append {
    uint64_t prev_index, prev_term;     /* the entry before the first of these */
    uint64_t commit;
    uint64_t round;                     /* echoed in the answer */
    uint64_t hash_index, hash;          /* the state's hash that a majority has at this index; 0: says nothing */
    const struct entry *entries;        /* term, type, len, bytes */
    uint32_t n;
};

struct message_append_answer {
    uint64_t rejected;                  /* prev_index that does not fit; 0: none */
    uint64_t hint_index, hint_term;     /* rejected: the end of what may fit */
    uint64_t match;                     /* else: stored and equal to the leader's log up to here */
    uint64_t round;
    uint64_t hash_index, hash;          /* of the state, as of the last entry applied; 0: none */
};

struct message_chunk {
    uint64_t index, last_term;          /* of the snapshot */
    uint64_t total;                     /* bytes of its file */
    uint64_t offset;
    const uint8_t *bytes;
    uint32_t len;
};

enum chunk_verdict {
    CHUNK_GO_ON = 0,        /* up to `offset` it is there */
    CHUNK_INSTALLED = 1,    /* or not needed any more */
    CHUNK_FAILED = 2,       /* start again, later */
};
struct message_chunk_answer {
    uint64_t index, offset;
    uint8_t verdict;                    /* enum chunk_verdict */
};

struct message {
    enum message_type type;
    uint64_t term;                      /* the sender's; of a vote, the one it is for */
    union {
        struct message_vote vote;
        struct message_vote_answer vote_answer;
        struct message_append append;
        struct message_append_answer append_answer;
        struct message_chunk chunk;
        struct message_chunk_answer chunk_answer;
    };
};

#define MESSAGE_CHUNK_BYTES (256 * 1024)
#define MESSAGE_ENTRIES_MAX 65536

void message_encode(struct buf *out, const struct message *m);
/* Everything in m points into bytes, but append.entries, which is the caller's to free. Refuses what is cut, too long, of
 * an unknown type, or cannot be meant. */
int message_decode(const void *bytes, size_t len, struct message *m, struct error *err);
