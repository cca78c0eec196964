/* What must hold, whatever happens:
 *   state machine safety   at an index every server applies the same command
 *   durability             what a server called stored is there after it crashed
 *   nothing lost           what was acknowledged is committed, at the index that was told; what was refused never is
 *   election safety        a term has one leader at most
 *   leader completeness    a leader's log holds everything that was committed before
 *   log matching           logs that have an entry in common have all before it in common
 *   fresh reads            under a lease, and after a barrier, the state holds everything acknowledged before */
#include <string.h>

#include "consensus_world.h"

void oracle_applied(struct server *s, uint64_t index, uint64_t id)
{
    CHECK(index < INDEX_MAX, "too many entries for the oracle");
    struct command *c = &world->commands[id];
    CHECK(!world->committed[index] || world->committed[index] == id + 1,
          "server %u applies command %llu at index %llu, another one applied %llu", s->slot, (unsigned long long)id,
          (unsigned long long)index, (unsigned long long)world->committed[index] - 1);
    CHECK(c->fate != FATE_REFUSED, "command %llu had been refused and is applied at %llu", (unsigned long long)id,
          (unsigned long long)index);
    CHECK(!c->index || c->index == index, "command %llu is applied at %llu and at %llu", (unsigned long long)id,
          (unsigned long long)c->index, (unsigned long long)index);
    c->index = index;
    world->committed[index] = id + 1;
}

void oracle_restored(struct server *s, uint64_t index)
{
    size_t n = 0;
    for (uint64_t i = 1; i <= index; i++)
        n += world->committed[i] != 0;
    CHECK(n == s->n_state, "server %u restores %zu of %zu commands as of %llu", s->slot, s->n_state, n,
          (unsigned long long)index);
    for (size_t i = 0; i < s->n_state; i++)
        CHECK(world->committed[s->state[i].index] == s->state[i].id + 1, "server %u restores another command at %llu",
              s->slot, (unsigned long long)s->state[i].index);
}

void oracle_answered(struct command *c, enum consensus_outcome outcome, uint64_t index)
{
    struct server *s = c->server;
    CHECK(c->fate == FATE_OPEN && c->life == s->life, "command %llu is answered twice", (unsigned long long)c->id);
    if (c->barrier) {
        c->fate = outcome == CONSENSUS_COMMITTED ? FATE_ACKNOWLEDGED : FATE_REFUSED;
        totals.barriers += outcome == CONSENSUS_COMMITTED;
        CHECK(outcome != CONSENSUS_COMMITTED || consensus_raft(s->consensus)->applied >= c->floor,
              "after a barrier server %u has applied up to %llu; %llu was acknowledged before", s->slot,
              (unsigned long long)consensus_raft(s->consensus)->applied, (unsigned long long)c->floor);
        return;
    }
    switch (outcome) {
    case CONSENSUS_COMMITTED:
        CHECK(s->n_state && s->state[s->n_state - 1].id == c->id && s->state[s->n_state - 1].index == index,
              "command %llu is acknowledged but was not just applied", (unsigned long long)c->id);
        c->fate = FATE_ACKNOWLEDGED;
        if (index > world->acknowledged_max)
            world->acknowledged_max = index;
        totals.acknowledged++;
        break;
    case CONSENSUS_UNKNOWN:
        c->fate = FATE_UNKNOWN;
        totals.unknown++;
        break;
    default:
        CHECK(!c->index, "command %llu is refused but was applied at %llu", (unsigned long long)c->id,
              (unsigned long long)c->index);
        c->fate = FATE_REFUSED;
        totals.refused++;
        totals.no_space += outcome == CONSENSUS_NO_SPACE;
    }
}

static void note_commit(struct server *s, const struct raft *r)
{
    for (uint64_t i = s->commit_seen + 1; i <= r->commit; i++) {
        CHECK(i < INDEX_MAX, "too many entries for the oracle");
        if (!raft_log_entry(&r->log, i))
            continue;
        uint64_t term = raft_log_term(&r->log, i);
        CHECK(!world->committed_term[i] || world->committed_term[i] == term,
              "server %u commits entry %llu of term %llu, another one committed that of term %llu", s->slot,
              (unsigned long long)i, (unsigned long long)term, (unsigned long long)world->committed_term[i]);
        world->committed_term[i] = term;
    }
    s->commit_seen = r->commit;
    if (r->commit > world->commit_max)
        world->commit_max = r->commit;
}

static void note_leader(struct server *s, const struct raft *r)
{
    if (r->role != RAFT_LEADER || s->leads_term == r->term)
        return;
    s->leads_term = r->term;
    totals.elections++;
    CHECK(r->term < TERMS_MAX, "too many terms for the oracle");
    CHECK(!world->leaders[r->term], "servers %llu and %llu both lead in term %llu",
          (unsigned long long)world->leaders[r->term], (unsigned long long)s->id, (unsigned long long)r->term);
    world->leaders[r->term] = s->id;
    for (uint64_t i = 1; i <= world->commit_max; i++) {
        if (!world->committed_term[i] || world->committed_term[i] >= r->term)
            continue;
        CHECK(i <= raft_log_last(&r->log), "the new leader, server %u, lacks the committed entry %llu", s->slot,
              (unsigned long long)i);
        CHECK(i < r->log.first || raft_log_term(&r->log, i) == world->committed_term[i],
              "the new leader, server %u, has another entry %llu than the committed one", s->slot, (unsigned long long)i);
    }
}

/* What a server tells of itself is true, at any moment: who says that it leads in a term was elected in it. */
static void note_words(const struct server *s)
{
    struct consensus_stats said;
    if (consensus_role(s->consensus) != CONSENSUS_LEADER)
        return;
    consensus_stats(s->consensus, &said);
    CHECK(said.term < TERMS_MAX && world->leaders[said.term] == s->id, "server %u says that it leads in term %llu", s->slot,
          (unsigned long long)said.term);
}

void oracle_life_ends(struct server *s)
{
    const struct raft *r = consensus_raft(s->consensus);
    s->durable_first = r->log.first;
    s->n_durable = r->stored + 1 > r->log.first ? r->stored + 1 - r->log.first : 0;
    s->durable_terms = mem_realloc_array(s->durable_terms, s->n_durable + 1, sizeof s->durable_terms[0]);
    for (uint64_t i = 0; i < s->n_durable; i++)
        s->durable_terms[i] = raft_log_term(&r->log, r->log.first + i);
}

void oracle_life_begins(struct server *s)
{
    const struct raft *r = consensus_raft(s->consensus);
    for (uint64_t k = 0; k < s->n_durable; k++) {
        uint64_t i = s->durable_first + k;
        if (i <= r->snapshot_index || i < r->log.first)
            continue;
        CHECK(i <= raft_log_last(&r->log) && raft_log_term(&r->log, i) == s->durable_terms[k],
              "server %u had stored entry %llu of term %llu and has it no more (it has up to %llu)", s->slot,
              (unsigned long long)i, (unsigned long long)s->durable_terms[k],
              (unsigned long long)raft_log_last(&r->log));
    }
    s->n_durable = 0;
}

void oracle_after_event(struct server *s)
{
    const struct raft *r = consensus_raft(s->consensus);
    note_commit(s, r);
    note_leader(s, r);
    note_words(s);
    if (r->role != RAFT_LEADER || !consensus_lease_ms(s->consensus))
        return;
    totals.lease_checks++;
    CHECK(r->applied >= world->acknowledged_max,
          "server %u, leader of term %llu, holds a lease for a state as of %llu; %llu was acknowledged", s->slot,
          (unsigned long long)r->term, (unsigned long long)r->applied, (unsigned long long)world->acknowledged_max);
}

static void compare(const struct server *a, const struct server *b)
{
    const struct raft_log *x = &consensus_raft(a->consensus)->log, *y = &consensus_raft(b->consensus)->log;
    uint64_t i = raft_log_last(x) < raft_log_last(y) ? raft_log_last(x) : raft_log_last(y);
    while (raft_log_entry(x, i) && raft_log_entry(y, i) && raft_log_term(x, i) != raft_log_term(y, i))
        i--;
    for (; raft_log_entry(x, i) && raft_log_entry(y, i); i--) {
        const struct entry *e = raft_log_entry(x, i), *f = raft_log_entry(y, i);
        CHECK(e->term == f->term && e->type == f->type && e->len == f->len && !memcmp(e->bytes ? e->bytes : (uint8_t *)"",
              f->bytes ? f->bytes : (uint8_t *)"", e->len),
              "servers %u and %u agree behind index %llu but not there", a->slot, b->slot, (unsigned long long)i);
    }
}

void oracle_compare_logs(void)
{
    for (unsigned i = 0; i < world->n_servers; i++)
        for (unsigned k = i + 1; k < world->n_servers; k++)
            if (world->servers[i]->consensus && world->servers[k]->consensus)
                compare(world->servers[i], world->servers[k]);
}

/* All members run and are at rest. */
void oracle_end(const struct server *leader)
{
    const struct server *first = leader;
    for (unsigned i = 0; i < world->n_servers; i++) {
        const struct server *s = world->servers[i];
        if (!s->consensus || !consensus_is_member(leader->consensus, s->id))
            continue;
        CHECK(s->n_state == first->n_state && s->state_hash == first->state_hash &&
              (!s->n_state || !memcmp(s->state, first->state, s->n_state * sizeof s->state[0])),
              "the states of servers %u and %u differ", first->slot, s->slot);
        CHECK(membership_equal(raft_membership(consensus_raft(s->consensus)),
                               raft_membership(consensus_raft(leader->consensus))),
              "server %u has another membership than the leader", s->slot);
    }
    for (size_t i = 0; i < world->n_commands; i++) {
        const struct command *c = &world->commands[i];
        CHECK(c->fate != FATE_OPEN, "command %zu has no answer", i);
        if (c->fate != FATE_ACKNOWLEDGED || c->barrier)
            continue;
        size_t at = 0;
        while (at < first->n_state && first->state[at].id != c->id)
            at++;
        CHECK(at < first->n_state && first->state[at].index == c->index, "acknowledged command %zu is lost", i);
    }
    oracle_compare_logs();
}
