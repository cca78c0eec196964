/* Changes of the membership, and transfers of leadership: what was asked for, until it is so. */
#include <string.h>

#include "base/log.h"
#include "consensus/consensus_internal.h"

#define CHANGES_MAX 64
#define CATCH_UP_MS 10000
#define CAUGHT_UP_BYTES (64 * 1024)     /* so little may a standby lack when it gets its vote */

/* --- asking --- */

static bool may_change(const struct consensus *c, struct error *err)
{
    if (!c->host->network)
        return !error_set(err, ERROR_UNSUPPORTED, "this server listens for no other servers: give it an address to listen "
                          "on");
    if (c->role != CONSENSUS_LEADER || c->raft.role != RAFT_LEADER || c->stopping || c->dead ||
        raft_transferring(&c->raft))
        return !error_set(err, ERROR_UNAVAILABLE, "this server does not lead the cluster; nothing was changed, try again");
    if (c->n_changes >= CHANGES_MAX)
        return !error_set(err, ERROR_TOO_MANY, "too many changes of the members are waiting; nothing was changed");
    return true;
}

static void ask(struct consensus *c, enum change_kind kind, uint64_t id, const char *address, consensus_changed done,
                void *request)
{
    struct error err;
    if (!may_change(c, &err)) {
        consensus_answer_changed(c, done, request, &err);
        return;
    }
    struct change *change = NEW(struct change);
    *change = (struct change){.kind = kind, .id = id, .address = mem_strdup(address), .done = done, .request = request};
    STAILQ_INSERT_TAIL(&c->changes, change, next);
    c->n_changes++;
    consensus_wake(c);
}

void consensus_add(struct consensus *c, uint64_t id, const char *address, consensus_changed done, void *request)
{
    ask(c, CHANGE_ADD, id, address, done, request);
}

void consensus_promote(struct consensus *c, uint64_t id, consensus_changed done, void *request)
{
    ask(c, CHANGE_PROMOTE, id, NULL, done, request);
}

void consensus_remove(struct consensus *c, uint64_t id, consensus_changed done, void *request)
{
    ask(c, CHANGE_REMOVE, id, NULL, done, request);
}

/* --- may it be? --- */

static bool answers_now(const struct consensus *c, const struct raft_peer *p)
{
    return p->heard_ms >= 0 && consensus_now_ms(c) < (uint64_t)p->heard_ms + c->options.election_timeout_ms;
}

static bool caught_up(const struct consensus *c, const struct raft_peer *p)
{
    const struct raft *r = &c->raft;
    return p && p->progress == RAFT_REPLICATE && answers_now(c, p) && p->match >= r->term_start &&
           raft_log_bytes(&r->log, p->match, raft_log_last(&r->log)) <= CAUGHT_UP_BYTES;
}

static int check_new(const struct consensus *c, uint64_t id, const char *address, struct error *err)
{
    const struct membership *m = raft_membership(&c->raft);
    const struct member *other = membership_find_address(m, address);
    if (!id || !*address || strlen(address) > MEMBER_ADDRESS_MAX)
        return error_set(err, ERROR_INVALID, "a server needs an id and an address");
    if (membership_find(m, id))
        return error_set(err, ERROR_EXISTS, "server %llu is a member already", (unsigned long long)id);
    if (other)
        return error_set(err, ERROR_EXISTS, "%s is the address of server %llu; remove that one first", address,
                         (unsigned long long)other->id);
    if (m->n >= MEMBERS_MAX)
        return error_set(err, ERROR_TOO_MANY, "a cluster has at most %d servers", MEMBERS_MAX);
    return 0;
}

static int check_member(const struct consensus *c, uint64_t id, struct error *err)
{
    if (consensus_is_member(c, id))
        return 0;
    return error_set(err, ERROR_NOT_FOUND, "the cluster has no server %llu", (unsigned long long)id);
}

/* Would the others still be a majority that answers? Else the removal could never be committed. */
static int check_removal(const struct consensus *c, uint64_t id, struct error *err)
{
    const struct membership *m = raft_membership(&c->raft);
    if (check_member(c, id, err) < 0)
        return -1;
    if (!membership_is_voter(m, id))
        return 0;
    size_t voters = membership_voters(m) - 1;
    size_t alive = c->raft.self_voter && id != c->raft.options.id;
    if (!voters)
        return error_set(err, ERROR_CONFLICT, "server %llu is the only one with a vote", (unsigned long long)id);
    for (size_t i = 0; i < c->raft.n_peers; i++) {
        const struct raft_peer *p = &c->raft.peers[i];
        alive += p->voter && p->id != id && answers_now(c, p);
    }
    if (alive <= voters / 2)
        return error_set(err, ERROR_UNAVAILABLE, "without server %llu only %zu of %zu voters would answer, which is no "
                         "majority: bring others back first, or remove those that are down", (unsigned long long)id,
                         alive, voters);
    return 0;
}

static int check(const struct consensus *c, const struct change *change, struct error *err)
{
    switch (change->kind) {
    case CHANGE_ADD:
        return check_new(c, change->id, change->address, err);
    case CHANGE_PROMOTE:
        return check_member(c, change->id, err);
    case CHANGE_REMOVE:
        return check_removal(c, change->id, err);
    }
    return 0;
}

/* --- making it so --- */

static void free_change(struct change *change)
{
    free(change->address);
    free(change);
}

/* The first one is done with. */
static void finish(struct consensus *c, const struct error *err)
{
    struct change *change = STAILQ_FIRST(&c->changes);
    STAILQ_REMOVE_HEAD(&c->changes, next);
    c->n_changes--;
    consensus_answer_changed(c, change->done, change->request, err);
    free_change(change);
    consensus_wake(c);
}

static bool membership_is_committed(const struct consensus *c)
{
    const struct raft *r = &c->raft;
    return r->commit >= r->term_start && r->commit >= r->memberships[r->n_memberships - 1].index;
}

static int append(struct consensus *c, enum change_kind kind, uint64_t id, const char *address, struct error *err)
{
    struct membership m = membership_copy(raft_membership(&c->raft));
    if (kind == CHANGE_ADD)
        membership_add(&m, id, address, false);
    else if (kind == CHANGE_PROMOTE)
        membership_promote(&m, id);
    else
        membership_remove(&m, id);
    int rv = raft_change(&c->raft, &m, err);
    membership_clear(&m);
    consensus_wake(c);
    return rv;
}

/* It is its turn, and not in the log yet. */
static void try_change(struct consensus *c, struct change *change)
{
    struct error err;
    uint64_t now = consensus_now_ms(c);
    if (!change->until_ms)
        change->until_ms = now + CATCH_UP_MS;
    if (now >= change->until_ms) {
        error_set(&err, ERROR_TIMEOUT, "server %llu has not caught up: is it running, and can it be reached?",
                  (unsigned long long)change->id);
        finish(c, &err);
        return;
    }
    if (!membership_is_committed(c) || raft_transferring(&c->raft))
        return;
    if (check(c, change, &err) < 0) {
        finish(c, &err);
        return;
    }
    if (change->kind == CHANGE_PROMOTE && membership_is_voter(raft_membership(&c->raft), change->id)) {
        finish(c, NULL);
        return;
    }
    if (change->kind == CHANGE_PROMOTE && !caught_up(c, raft_peer(&c->raft, change->id)))
        return;
    if (append(c, change->kind, change->id, change->address, &err) < 0) {
        finish(c, &err);
        return;
    }
    change->index = raft_log_last(&c->raft.log);
    change->term = c->raft.term;
}

static void unknown(struct consensus *c)
{
    struct error err;
    error_set(&err, ERROR_UNKNOWN_OUTCOME, "the leader changed meanwhile: the members may or may not be changed; look at "
              "the list of members");
    finish(c, &err);
}

static void not_done(struct consensus *c, const char *why)
{
    struct error err;
    error_set(&err, ERROR_UNAVAILABLE, "%s; nothing was changed, try again", why);
    finish(c, &err);
}

static void change_turn(struct consensus *c, struct change *change)
{
    /* Once the log has it, its fate is decided there, also when this server was removed and leads no more. */
    if (change->index && c->raft.commit >= change->index &&
        raft_log_term(&c->raft.log, change->index) == change->term)
        finish(c, NULL);
    else if (change->index && (c->raft.role != RAFT_LEADER || c->raft.term != change->term))
        unknown(c);
    else if (c->raft.role != RAFT_LEADER)
        not_done(c, "this server leads no more");
    else if (!change->index)
        try_change(c, change);
}

static bool may_improve(const struct consensus *c)
{
    return c->role == CONSENSUS_LEADER && c->raft.role == RAFT_LEADER && c->host->network && !c->stopping &&
           !raft_transferring(&c->raft) && STAILQ_EMPTY(&c->changes) && membership_is_committed(c);
}

static void promote_standbys(struct consensus *c)
{
    struct error err;
    const struct membership *m = raft_membership(&c->raft);
    for (size_t i = 0; i < m->n && !c->options.manual_promotion; i++) {
        const struct raft_peer *p = raft_peer(&c->raft, m->members[i].id);
        if (m->members[i].voter || !caught_up(c, p))
            continue;
        LOG_I("a standby has caught up: it gets a vote", "id", LOG_U64(p->id));
        append(c, CHANGE_PROMOTE, p->id, NULL, &err);
        return;
    }
}

/* A server that moved says so when it greets; with its vote nothing changes. */
static const char *new_address(const struct consensus *c, const struct member *m)
{
    const char *address = m->id == c->raft.options.id ? c->address
                                                      : c->host->network->peer(c->host->network, m->id).address;
    bool moved = address && *address && strcmp(address, m->address) != 0 && strlen(address) <= MEMBER_ADDRESS_MAX &&
                 !membership_find_address(raft_membership(&c->raft), address);
    return moved ? address : NULL;
}

static void update_addresses(struct consensus *c)
{
    struct error err;
    struct membership m = membership_copy(raft_membership(&c->raft));
    for (size_t i = 0; i < m.n; i++) {
        const char *address = new_address(c, &m.members[i]);
        if (!address)
            continue;
        LOG_I("a server has another address", "id", LOG_U64(m.members[i].id), "address", address);
        mem_set_string(&m.members[i].address, address);
        raft_change(&c->raft, &m, &err);
        consensus_wake(c);
        break;
    }
    membership_clear(&m);
}

/* --- transfers --- */

static uint64_t best_voter(const struct consensus *c)
{
    const struct raft_peer *best = NULL;
    for (size_t i = 0; i < c->raft.n_peers; i++) {
        const struct raft_peer *p = &c->raft.peers[i];
        if (p->voter && answers_now(c, p) && (!best || p->match > best->match))
            best = p;
    }
    return best ? best->id : 0;
}

static int check_transfer(const struct consensus *c, uint64_t id, struct error *err)
{
    const struct member *m = membership_find(raft_membership(&c->raft), id);
    if (c->transfer.done)
        return error_set(err, ERROR_CONFLICT, "a transfer is under way");
    if (!id)
        return error_set(err, ERROR_NOT_FOUND, "no other voter answers");
    if (check_member(c, id, err) < 0)
        return -1;
    if (!m->voter)
        return error_set(err, ERROR_CONFLICT, "server %llu has no vote, so it cannot lead", (unsigned long long)id);
    return 0;
}

void consensus_transfer(struct consensus *c, uint64_t id, consensus_changed done, void *request)
{
    struct error err;
    bool may = may_change(c, &err);
    if (may && id == c->raft.options.id) {
        consensus_answer_changed(c, done, request, NULL);
        return;
    }
    if (may && !id)
        id = best_voter(c);
    if (!may || check_transfer(c, id, &err) < 0) {
        consensus_answer_changed(c, done, request, &err);
        return;
    }
    c->transfer = (struct transfer){.to = id, .done = done, .request = request,
                                    .until_ms = consensus_now_ms(c) + 4 * c->options.election_timeout_ms};
    raft_transfer(&c->raft, id);
    consensus_wake(c);
}

static void finish_transfer(struct consensus *c, const struct error *err)
{
    struct transfer t = c->transfer;
    c->transfer = (struct transfer){0};
    consensus_answer_changed(c, t.done, t.request, err);
}

static void transfer_turn(struct consensus *c)
{
    struct error err;
    if (c->raft.leader == c->transfer.to) {
        finish_transfer(c, NULL);
    } else if (c->raft.role == RAFT_LEADER && !raft_transferring(&c->raft)) {
        error_set(&err, ERROR_TIMEOUT, "server %llu did not take over in time; this server still leads",
                  (unsigned long long)c->transfer.to);
        finish_transfer(c, &err);
    } else if (consensus_now_ms(c) >= c->transfer.until_ms || (c->raft.leader && c->raft.role != RAFT_LEADER)) {
        error_set(&err, ERROR_CONFLICT, "server %llu did not become the leader; look at the cluster's status",
                  (unsigned long long)c->transfer.to);
        finish_transfer(c, &err);
    }
}

void changes_turn(struct consensus *c)
{
    if (c->transfer.done)
        transfer_turn(c);
    if (!STAILQ_EMPTY(&c->changes))
        change_turn(c, STAILQ_FIRST(&c->changes));
    if (may_improve(c))
        promote_standbys(c);
    if (may_improve(c))
        update_addresses(c);
}

void changes_forget(struct consensus *c)
{
    struct change *change;
    while ((change = STAILQ_FIRST(&c->changes))) {
        if (change->index)
            unknown(c);
        else
            not_done(c, "this server stops");
    }
    struct error err;
    error_set(&err, ERROR_UNAVAILABLE, "this server stops");
    if (c->transfer.done)
        finish_transfer(c, &err);
}

void changes_free(struct consensus *c)
{
    struct change *change;
    while ((change = STAILQ_FIRST(&c->changes))) {
        STAILQ_REMOVE_HEAD(&c->changes, next);
        free_change(change);
    }
}
