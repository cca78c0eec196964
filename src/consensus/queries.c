/* What the consensus tells about itself. */
#include "base/log.h"
#include "consensus/consensus_internal.h"

uint64_t consensus_leader(const struct consensus *c, const char **address)
{
    uint64_t id = c->closed || (c->raft.role == RAFT_LEADER && !raft_leads(&c->raft)) ? 0 : c->raft.leader;
    const struct member *m = id ? membership_find(raft_membership(&c->raft), id) : NULL;
    if (address)
        *address = m ? m->address : NULL;
    return id;
}

static int64_t since(uint64_t now, int64_t then)
{
    return then < 0 ? -1 : (int64_t)now - then;
}

void consensus_stats(const struct consensus *c, struct consensus_stats *out)
{
    struct storage_stats s;
    storage_stats(c->storage, &s);
    *out = (struct consensus_stats){
        .server_id = storage_server_id(c->storage),
        .cluster_id = storage_cluster_id(c->storage),
        .term = c->role_term,        /* not the algorithm's, which may be another one already */
        .last_index = raft_log_last(&c->raft.log),
        .commit_index = c->raft.commit,
        .applied_index = c->raft.applied,
        .snapshot_index = s.snapshot_index,
        .snapshot_time_ms = c->snapshot_time_ms,
        .snapshot_bytes = s.snapshot_bytes,
        .log_bytes = s.log_bytes,
        .log_bytes_since_snapshot = s.log_position - c->position_at_snapshot,
        .disk_free_bytes = s.disk_free_bytes,
        .no_space = s.no_space,
        .pending = c->pending,
        .proposals = c->proposals,
        .appends = s.appends,
        .syncs = s.syncs,
        .refused_connections = c->host->network ? c->host->network->refused : 0,
        .leader_contact_ms = c->raft.role == RAFT_LEADER ? 0 : since(consensus_now_ms(c), c->raft.leader_heard_ms),
    };
}

static struct consensus_member self_as_member(const struct consensus *c)
{
    uint64_t last = raft_log_last(&c->raft.log);
    return (struct consensus_member){.self = true, .connected = true, .release = c->release,
                                     .command_version = c->options.command_version,
                                     .match_index = c->raft.stored, .applied_index = c->raft.applied,
                                     .next_index = last + 1, .lag = last - c->raft.stored};
}

static struct consensus_member peer_as_member(const struct consensus *c, uint64_t id)
{
    struct consensus_member m = {.contact_ms = -1};
    struct network *network = c->host->network;
    if (network) {
        struct network_peer known = network->peer(network, id);
        m.connected = known.connected;
        m.release = known.release;
        m.command_version = known.command_version;
    }
    const struct raft_peer *p = raft_peer(&c->raft, id);
    if (c->raft.role != RAFT_LEADER || !p) {
        if (c->raft.leader == id)
            m.contact_ms = since(consensus_now_ms(c), c->raft.leader_heard_ms);
        return m;
    }
    m.contact_ms = since(consensus_now_ms(c), p->heard_ms);
    m.match_index = p->match;
    m.applied_index = p->applied;
    m.next_index = p->next;
    m.lag = raft_log_last(&c->raft.log) - p->match;
    snapshot_send_progress(c, id, &m.snapshot_bytes, &m.snapshot_sent);
    return m;
}

size_t consensus_members(const struct consensus *c, struct consensus_member *out, size_t max)
{
    const struct membership *members = raft_membership(&c->raft);
    uint64_t leader = consensus_leader(c, NULL);
    for (size_t i = 0; i < members->n && i < max; i++) {
        const struct member *m = &members->members[i];
        out[i] = m->id == c->raft.options.id ? self_as_member(c) : peer_as_member(c, m->id);
        out[i].id = m->id;
        out[i].address = m->address;
        out[i].membership = m->voter ? CONSENSUS_VOTER : CONSENSUS_STANDBY;
        out[i].leader = m->id == leader;
    }
    return members->n;
}

bool consensus_is_member(const struct consensus *c, uint64_t id)
{
    return membership_find(raft_membership(&c->raft), id);
}

enum consensus_membership consensus_self(const struct consensus *c)
{
    const struct member *m = membership_find(raft_membership(&c->raft), c->raft.options.id);
    return !m ? CONSENSUS_NO_MEMBER : m->voter ? CONSENSUS_VOTER : CONSENSUS_STANDBY;
}

unsigned consensus_lease_ms(const struct consensus *c)
{
    if (c->role != CONSENSUS_LEADER || c->stopping || c->dead || c->raft.term != c->role_term)
        return 0;
    return raft_lease_ms(&c->raft, consensus_now_ms(c));
}

unsigned consensus_command_version(const struct consensus *c)
{
    const struct membership *members = raft_membership(&c->raft);
    unsigned lowest = c->options.command_version;
    for (size_t i = 0; i < members->n; i++) {
        if (members->members[i].id == c->raft.options.id)
            continue;
        struct consensus_member m = peer_as_member(c, members->members[i].id);
        if (m.command_version < lowest)
            lowest = m.command_version;
    }
    return lowest;
}
