/* Roles and elections.
 *
 * A follower that hears nothing for an election timeout asks the others whether it could win (pre-vote); a majority of
 * yes lets it use up a term and stand for election; a majority of votes makes it leader, and its first entry, once
 * committed, commits everything before it.
 *
 * What the lease rests on: who has heard from a leader within the election timeout gives no vote and no pre-vote to
 * others, and who has just started behaves as if it had. The exception is a candidate that the leader itself asked to
 * take over; so a leader that did so has no lease any more. */
#include "consensus/raft.h"

#include <string.h>

#include "base/log.h"
#include "consensus/raft_internal.h"

void raft_init(struct raft *r, const struct raft_options *options, struct raft_driver *driver)
{
    *r = (struct raft){.options = *options, .driver = driver, .leader_heard_ms = -1};
    raft_log_init(&r->log);
    raft_add_membership(r, 0, (struct membership){0});
}

void raft_free(struct raft *r)
{
    raft_log_clear(&r->log);
    for (size_t i = 0; i < r->n_memberships; i++)
        membership_clear(&r->memberships[i].membership);
    free(r->memberships);
    free(r->peers);
}

void raft_send(struct raft *r, uint64_t to, const struct message *m)
{
    r->driver->send(r->driver, to, m);
}

static void persist(struct raft *r, uint64_t term, uint64_t vote)
{
    r->term = term;
    r->vote = vote;
    r->driver->persist(r->driver, term, vote);
}

/* --- membership --- */

struct raft_peer *raft_peer(const struct raft *r, uint64_t id)
{
    for (size_t i = 0; i < r->n_peers; i++)
        if (r->peers[i].id == id)
            return &r->peers[i];
    return NULL;
}

static struct raft_peer new_peer(const struct raft *r, uint64_t id)
{
    return (struct raft_peer){.id = id, .heard_ms = -1, .next = raft_log_last(&r->log) + 1, .heartbeat_due = true};
}

void raft_membership_in_force(struct raft *r)
{
    const struct membership *m = raft_membership(r);
    struct raft_peer *peers = mem_array(m->n + r->n_peers + 1, sizeof peers[0]);
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (m->members[i].id == r->options.id)
            continue;
        const struct raft_peer *known = raft_peer(r, m->members[i].id);
        /* One that comes back under its id while it departs has begun anew: what it stored then is gone. */
        peers[n] = known && !known->departing ? *known : new_peer(r, m->members[i].id);
        peers[n].voter = m->members[i].voter;
        n++;
    }
    for (size_t i = 0; i < r->n_peers && r->role == RAFT_LEADER; i++) {
        if (membership_find(m, r->peers[i].id))
            continue;
        peers[n] = r->peers[i];
        if (!peers[n].departing)
            peers[n].departs_ms = r->now_ms + 2 * r->options.election_timeout_ms;
        peers[n].departing = true;
        peers[n].voter = false;
        n++;
    }
    free(r->peers);
    r->peers = peers;
    r->n_peers = n;
    r->self_voter = membership_is_voter(m, r->options.id);
}

void raft_add_membership(struct raft *r, uint64_t index, struct membership membership)
{
    r->memberships = mem_realloc_array(r->memberships, r->n_memberships + 1, sizeof r->memberships[0]);
    r->memberships[r->n_memberships++] = (struct membership_at){index, membership};
    raft_membership_in_force(r);
}

const struct membership_at *raft_membership_as_of(const struct raft *r, uint64_t index)
{
    size_t i = r->n_memberships - 1;
    while (i > 0 && r->memberships[i].index > index)
        i--;
    return &r->memberships[i];
}

static void forget_old_memberships(struct raft *r)
{
    size_t old = 0;
    while (old + 1 < r->n_memberships && r->memberships[old + 1].index <= r->applied)
        membership_clear(&r->memberships[old++].membership);
    r->n_memberships -= old;
    memmove(r->memberships, r->memberships + old, r->n_memberships * sizeof r->memberships[0]);
}

void raft_applied(struct raft *r, uint64_t index)
{
    r->applied = index;
    forget_old_memberships(r);
}

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

uint64_t raft_majority(const struct raft *r, uint64_t (*of)(const struct raft_peer *p), uint64_t self)
{
    uint64_t values[MEMBERS_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < r->n_peers; i++)
        if (r->peers[i].voter)
            values[n++] = of(&r->peers[i]);
    if (r->self_voter)
        values[n++] = self;
    if (!n)
        return 0;
    qsort(values, n, sizeof values[0], descending);
    return values[n / 2];
}

static uint64_t heard_of(const struct raft_peer *p)
{
    return p->heard_ms < 0 ? 0 : (uint64_t)p->heard_ms;
}

uint64_t raft_majority_heard_ms(const struct raft *r)
{
    return raft_majority(r, heard_of, r->now_ms);
}

/* --- roles --- */

void raft_reset_election(struct raft *r)
{
    uint64_t timeout = r->options.election_timeout_ms;
    r->election_ms = r->now_ms + timeout + r->driver->random(r->driver, timeout / 2 + 1);
}

void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader)
{
    if (term > r->term) {
        persist(r, term, 0);
        r->verified = r->commit;
        r->leader_round = r->answered = r->answered_round = 0;
    }
    bool led = r->role == RAFT_LEADER;
    r->role = RAFT_FOLLOWER;
    r->leader = leader;
    r->transfer_to = 0;
    raft_reset_election(r);
    if (led) {
        r->verified = r->commit;
        raft_membership_in_force(r);    /* nobody departs from a follower */
    }
}

static void become_leader(struct raft *r)
{
    LOG_D("elected", "id", LOG_U64(r->options.id), "term", LOG_U64(r->term));
    r->role = RAFT_LEADER;
    r->leader = r->options.id;
    r->leader_since_ms = r->now_ms;
    r->lease_lost = false;
    r->transfer_to = 0;
    raft_begin_term(r);
}

static void stand(struct raft *r);

static bool won(const struct raft *r)
{
    size_t voters = r->self_voter, granted = r->self_voter;
    for (size_t i = 0; i < r->n_peers; i++) {
        voters += r->peers[i].voter;
        granted += r->peers[i].voter && r->peers[i].granted;
    }
    return granted > voters / 2;
}

static void count_votes(struct raft *r)
{
    if (!won(r))
        return;
    if (r->role == RAFT_CANDIDATE)
        become_leader(r);
    else
        stand(r);
}

static void ask_for_votes(struct raft *r, bool pre, bool transfer)
{
    raft_reset_election(r);
    for (size_t i = 0; i < r->n_peers; i++)
        r->peers[i].granted = false;
    struct message m = {.type = MESSAGE_VOTE,
                        .term = pre ? r->term + 1 : r->term,
                        .vote = {.last_index = raft_log_last(&r->log), .last_term = raft_log_last_term(&r->log),
                                 .pre = pre, .transfer = transfer}};
    for (size_t i = 0; i < r->n_peers; i++)
        if (r->peers[i].voter)
            raft_send(r, r->peers[i].id, &m);
    count_votes(r);
}

static void stand_as(struct raft *r, bool transfer)
{
    persist(r, r->term + 1, r->options.id);
    r->role = RAFT_CANDIDATE;
    r->leader = 0;
    r->verified = r->commit;
    r->leader_round = r->answered = r->answered_round = 0;
    ask_for_votes(r, false, transfer);
}

static void stand(struct raft *r)
{
    stand_as(r, false);
}

static void ask_before_standing(struct raft *r)
{
    r->role = RAFT_PRE_CANDIDATE;
    r->leader = 0;
    ask_for_votes(r, true, false);
}

void raft_start(struct raft *r, uint64_t now_ms)
{
    r->now_ms = r->ticked_ms = now_ms;
    r->commit = r->applied = r->verified = r->snapshot_index;
    forget_old_memberships(r);
    if (r->term)
        r->votes_from_ms = now_ms + r->options.election_timeout_ms;
    raft_reset_election(r);
    if (r->self_voter && membership_voters(raft_membership(r)) == 1)
        stand(r);
}

/* --- votes --- */

/* A leader is known to be at work: votes for anyone else would break what it relies on. */
static bool has_leader(const struct raft *r)
{
    uint64_t timeout = r->options.election_timeout_ms;
    if (r->role == RAFT_LEADER)
        return r->now_ms < r->leader_since_ms + timeout || r->now_ms < raft_majority_heard_ms(r) + timeout;
    return r->leader_heard_ms >= 0 && r->now_ms < (uint64_t)r->leader_heard_ms + timeout;
}

static void on_vote(struct raft *r, uint64_t from, const struct message *m)
{
    const struct message_vote *v = &m->vote;
    bool wanted = v->transfer && !v->pre && m->term == r->term + 1;
    if (!wanted && (r->now_ms < r->votes_from_ms || has_leader(r)))
        return;
    if (!v->pre && m->term > r->term)
        raft_become_follower(r, m->term, 0);
    uint64_t last_term = raft_log_last_term(&r->log);
    bool up_to_date = v->last_term > last_term ||
                      (v->last_term == last_term && v->last_index >= raft_log_last(&r->log));
    struct message answer = {.type = MESSAGE_VOTE_ANSWER, .term = r->term, .vote_answer = {.pre = v->pre}};
    if (v->pre) {
        answer.vote_answer.granted = m->term > r->term && up_to_date;
        if (answer.vote_answer.granted)
            answer.term = m->term;
    } else if (m->term == r->term && r->role == RAFT_FOLLOWER && !r->leader && up_to_date && !r->installing &&
               (!r->vote || r->vote == from)) {
        answer.vote_answer.granted = true;
        if (!r->vote)
            persist(r, r->term, from);
        raft_reset_election(r);
    }
    raft_send(r, from, &answer);
}

static void on_vote_answer(struct raft *r, struct raft_peer *p, const struct message *m)
{
    bool pre = m->vote_answer.pre, granted = m->vote_answer.granted;
    if (m->term > r->term && !(pre && granted)) {
        raft_become_follower(r, m->term, 0);
        return;
    }
    bool counts = pre ? r->role == RAFT_PRE_CANDIDATE && m->term == r->term + 1
                      : r->role == RAFT_CANDIDATE && m->term == r->term;
    if (!counts || !granted)
        return;
    p->granted = true;
    count_votes(r);
}

static void on_take_over(struct raft *r, uint64_t from, const struct message *m)
{
    if (m->term == r->term && r->role == RAFT_FOLLOWER && r->leader == from && r->self_voter && !r->installing)
        stand_as(r, true);
}

/* --- leaders --- */

void raft_tell_take_over(struct raft *r, uint64_t to)
{
    struct message m = {.type = MESSAGE_TAKE_OVER, .term = r->term};
    raft_send(r, to, &m);
    r->lease_lost = true;
}

void raft_transfer(struct raft *r, uint64_t to)
{
    INVARIANT(r->role == RAFT_LEADER && !r->transfer_to && membership_is_voter(raft_membership(r), to));
    r->transfer_to = to;
    r->transfer_until_ms = r->now_ms + r->options.election_timeout_ms;
    r->transfer_told = false;
    r->wants_flush = true;
}

uint64_t raft_begin_round(struct raft *r)
{
    r->round++;
    r->round_began_ms[r->round % RAFT_ROUNDS] = r->now_ms;
    r->heartbeat_ms = r->now_ms;
    for (size_t i = 0; i < r->n_peers; i++)
        r->peers[i].heartbeat_due = true;
    r->wants_flush = true;
    return r->round;
}

static uint64_t round_of(const struct raft_peer *p) { return p->round; }

uint64_t raft_round_answered(const struct raft *r)
{
    return r->role == RAFT_LEADER ? raft_majority(r, round_of, r->round) : 0;
}

static uint64_t contact_of(const struct raft_peer *p) { return p->contact_ms; }

unsigned raft_lease_ms(const struct raft *r, uint64_t now_ms)
{
    if (!raft_leads(r) || r->lease_lost)
        return 0;
    /* Clocks may run at different speeds: a quarter of the timeout is not used. */
    uint64_t end = raft_majority(r, contact_of, now_ms) + r->options.election_timeout_ms * 3 / 4;
    return end > now_ms ? (unsigned)(end - now_ms) : 0;
}

static void drop_departed(struct raft *r)
{
    for (size_t i = 0; i < r->n_peers;) {
        if (r->peers[i].departing && r->now_ms >= r->peers[i].departs_ms)
            r->peers[i] = r->peers[--r->n_peers];
        else
            i++;
    }
}

static void tick_leader(struct raft *r)
{
    uint64_t timeout = r->options.election_timeout_ms;
    if (r->now_ms >= r->leader_since_ms + timeout && r->now_ms >= raft_majority_heard_ms(r) + timeout &&
        r->now_ms >= r->grace_ms) {
        LOG_W("no majority answers: this server leads no more", "term", LOG_U64(r->term));
        raft_become_follower(r, r->term, 0);
        return;
    }
    if (r->transfer_to && r->now_ms >= r->transfer_until_ms)
        r->transfer_to = 0;
    drop_departed(r);
    if (r->now_ms >= r->heartbeat_ms + r->options.heartbeat_ms)
        raft_begin_round(r);
}

/* Also one whose removal is in its log and not committed: it may be the only one whose log is complete (Ongaro 4.2.2). */
static bool may_stand(const struct raft *r)
{
    bool voter = r->self_voter;
    for (size_t i = 0; i < r->n_memberships && r->memberships[r->n_memberships - 1].index > r->commit; i++)
        voter |= membership_is_voter(&r->memberships[i].membership, r->options.id);
    return voter && !r->installing;
}

void raft_tick(struct raft *r, uint64_t now_ms)
{
    uint64_t timeout = r->options.election_timeout_ms;
    r->now_ms = now_ms;
    /* What arrived meanwhile is not read yet. (Alone, ticks are rare.) */
    if (r->n_peers && now_ms > r->ticked_ms + timeout / 2)
        r->grace_ms = now_ms + timeout / 4;
    r->ticked_ms = now_ms;
    if (r->role == RAFT_LEADER) {
        tick_leader(r);
    } else if (now_ms >= r->election_ms && now_ms >= r->grace_ms) {
        if (may_stand(r))
            ask_before_standing(r);
        else
            r->leader = 0;
    }
}

/* --- messages --- */

/* Who is not a member, as far as is known here, may still be right: this server's membership may be an old one. So it is
 * listened to by a server that no leader keeps up to date, and by no other. Answers are never for it. */
static bool listens_to(const struct raft *r, uint64_t from, const struct message *m)
{
    if (raft_peer(r, from))
        return true;
    if (m->type != MESSAGE_VOTE && m->type != MESSAGE_APPEND && m->type != MESSAGE_CHUNK)
        return false;
    return r->leader == from || !has_leader(r);
}

int raft_receive(struct raft *r, uint64_t from, const struct message *m, uint64_t now_ms, struct error *err)
{
    r->now_ms = now_ms;
    if (from == r->options.id)
        return error_set(err, ERROR_INVALID, "a message of this server itself");
    if (!listens_to(r, from, m))
        return 0;
    struct raft_peer *p = raft_peer(r, from);
    switch (m->type) {
    case MESSAGE_VOTE:
        on_vote(r, from, m);
        return 0;
    case MESSAGE_VOTE_ANSWER:
        on_vote_answer(r, p, m);
        return 0;
    case MESSAGE_APPEND:
        return raft_on_append(r, from, m, err);
    case MESSAGE_APPEND_ANSWER:
        return raft_on_append_answer(r, p, m, err);
    case MESSAGE_TAKE_OVER:
        on_take_over(r, from, m);
        return 0;
    case MESSAGE_CHUNK:
        return raft_accept_leader(r, from, m, err) < 0 ? -1 : 0;
    case MESSAGE_CHUNK_ANSWER:
        if (m->term > r->term)
            raft_become_follower(r, m->term, 0);
        else if (m->term == r->term && r->role == RAFT_LEADER)
            p->heard_ms = (int64_t)now_ms;
        return 0;
    }
    return 0;
}
