/* Raft, its halves: raft.c (roles, elections, membership) and raft_replicate.c (the log's way to the followers). */
#pragma once
#include "consensus/raft.h"

/* Follows in this term (the current one or a later); leader 0: nobody yet. */
void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader);
/* The value that a majority of the voters has reached: `of` gives each peer's, `self` is this server's. */
uint64_t raft_majority(const struct raft *r, uint64_t (*of)(const struct raft_peer *p), uint64_t self);
uint64_t raft_majority_heard_ms(const struct raft *r);
/* The newest membership changed. */
void raft_membership_in_force(struct raft *r);
void raft_send(struct raft *r, uint64_t to, const struct message *m);
void raft_reset_election(struct raft *r);
void raft_tell_take_over(struct raft *r, uint64_t to);

/* raft_replicate.c */
void raft_begin_term(struct raft *r);     /* as its leader */
void raft_advance_commit(struct raft *r); /* as leader */
int raft_on_append(struct raft *r, uint64_t from, const struct message *m, struct error *err);
int raft_on_append_answer(struct raft *r, struct raft_peer *p, const struct message *m, struct error *err);
/* A leader's message: -1 breaks the protocol, 0 is an old leader's (and answered), 1 go on. */
int raft_accept_leader(struct raft *r, uint64_t from, const struct message *m, struct error *err);
