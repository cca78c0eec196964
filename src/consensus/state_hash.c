/* Servers compare the hash of their states by index. A follower tells its newest in every answer; the leader, which
 * remembers its last ones, sees who differs. When the leader is with the majority, it tells the one that differs, which
 * looks for itself and stops; when a majority differs from the leader, the leader stops. In doubt (not all were heard,
 * and neither side has a majority) nobody does. */
#include "base/log.h"
#include "consensus/consensus_internal.h"

static const struct state_hash *remembered(const struct consensus *c, uint64_t index)
{
    const struct state_hash *h = &c->hashes[index % HASHES];
    return index && h->index == index ? h : NULL;
}

void state_hash_record(struct consensus *c, uint64_t index)
{
    if (c->options.callbacks->state_hash)
        c->hashes[index % HASHES] = (struct state_hash){index, c->options.callbacks->state_hash(c->options.ctx)};
}

static void stop(struct consensus *c, uint64_t index, uint64_t own, uint64_t theirs)
{
    struct error err;
    error_set(&err, ERROR_CORRUPT,
              "this server's state differs from that of the majority as of index %llu (hash %016llx, theirs %016llx): it "
              "must not go on. Remove it from the cluster, move its directory away (and keep it for the report of the "
              "fault), and add it again with an empty one", (unsigned long long)index, (unsigned long long)own,
              (unsigned long long)theirs);
    consensus_fatal(c, &err);
}

/* Some peer differs. Who was equal before it did, may differ by now: only what was told since then counts. */
static void judge(struct consensus *c, const struct state_hash *own, uint64_t theirs)
{
    size_t voters = c->raft.self_voter, equal = c->raft.self_voter, differ = 0;
    uint64_t since = 0;
    for (size_t i = 0; i < c->raft.n_peers; i++)
        if (c->raft.peers[i].hash_differs && c->raft.peers[i].hash_index > since)
            since = c->raft.peers[i].hash_index;
    for (size_t i = 0; i < c->raft.n_peers; i++) {
        const struct raft_peer *p = &c->raft.peers[i];
        voters += p->voter;
        equal += p->voter && p->hash_index >= since && !p->hash_differs;
        differ += p->voter && p->hash_differs;
    }
    if (differ > voters / 2) {
        stop(c, own->index, own->hash, theirs);
        return;
    }
    bool sure = equal > voters / 2 || (equal + differ == voters && equal >= differ);
    for (size_t i = 0; sure && i < c->raft.n_peers; i++) {
        struct raft_peer *p = &c->raft.peers[i];
        const struct state_hash *h = p->hash_differs ? remembered(c, p->hash_index) : NULL;
        p->tell_hash_index = h ? h->index : 0;
        p->tell_hash = h ? h->hash : 0;
    }
}

static bool any_differs(const struct consensus *c)
{
    for (size_t i = 0; i < c->raft.n_peers; i++)
        if (c->raft.peers[i].hash_differs)
            return true;
    return false;
}

static void compare_answer(struct consensus *c, uint64_t from, const struct message_append_answer *a)
{
    struct raft_peer *p = raft_peer(&c->raft, from);
    const struct state_hash *own = remembered(c, a->hash_index);
    if (!p || !own || c->raft.role != RAFT_LEADER)
        return;
    bool differed = p->hash_differs;
    p->hash_index = a->hash_index;
    p->hash_differs = a->hash != own->hash;
    if (!p->hash_differs)
        p->tell_hash_index = 0;
    else if (!differed)
        LOG_E("a server's state differs from the leader's", "id", LOG_U64(from), "index", LOG_U64(a->hash_index));
    if (any_differs(c))
        judge(c, own, a->hash);
}

void state_hash_compare(struct consensus *c, uint64_t from, const struct message *m)
{
    if (m->type == MESSAGE_APPEND_ANSWER) {
        compare_answer(c, from, &m->append_answer);
        return;
    }
    const struct state_hash *own = remembered(c, m->append.hash_index);
    if (own && own->hash != m->append.hash && c->raft.leader == from)
        stop(c, own->index, own->hash, m->append.hash);
}
