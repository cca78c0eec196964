/* The log's way to the followers.
 *
 * Happy path: the leader appends, writes its own disk and sends at the same time; a follower appends what fits, writes,
 * and answers up to where it is stored and known to equal the leader's log; what a majority has stored and is of this
 * term is committed, and everything before it.
 *
 * Entries of earlier terms are never committed by counting (Ongaro 3.6.2), and a follower never says more about its log
 * than it checked against this term's leader: it may hold entries behind that, of another history. */
#include <string.h>

#include "base/log.h"
#include "consensus/raft_internal.h"

/* --- the leader --- */

void raft_begin_term(struct raft *r)
{
    r->term_start = raft_log_last(&r->log) + 1;
    r->round = 0;
    for (size_t i = 0; i < r->n_peers; i++) {
        struct raft_peer *p = &r->peers[i];
        *p = (struct raft_peer){.id = p->id, .voter = p->voter, .heard_ms = -1, .next = r->term_start};
    }
    raft_begin_round(r);
    raft_log_append(&r->log, r->term, ENTRY_NOTHING, NULL, 0);
}

uint64_t raft_propose(struct raft *r, enum entry_type type, uint8_t *bytes, uint32_t len)
{
    INVARIANT(r->role == RAFT_LEADER && !r->transfer_to);
    raft_log_append(&r->log, r->term, type, bytes, len);
    r->wants_flush = true;
    return raft_log_last(&r->log);
}

int raft_change(struct raft *r, const struct membership *membership, struct error *err)
{
    INVARIANT(r->role == RAFT_LEADER && !r->transfer_to);
    if (r->commit < r->term_start || r->commit < r->memberships[r->n_memberships - 1].index)
        return error_set(err, ERROR_CONFLICT, "another change of the membership is under way");
    struct buf bytes = {0};
    membership_encode(&bytes, membership);
    uint32_t len = (uint32_t)bytes.len;
    uint64_t index = raft_propose(r, ENTRY_MEMBERSHIP, (uint8_t *)buf_steal(&bytes), len);
    raft_add_membership(r, index, membership_copy(membership));
    return 0;
}

static uint64_t match_of(const struct raft_peer *p) { return p->match; }

void raft_advance_commit(struct raft *r)
{
    uint64_t index = raft_majority(r, match_of, r->stored);
    if (index > r->commit && raft_log_term(&r->log, index) == r->term) {
        r->commit = index;
        r->wants_flush = true;
    }
}

static void send_append(struct raft *r, struct raft_peer *p, uint64_t prev, uint32_t n)
{
    struct message m = {.type = MESSAGE_APPEND, .term = r->term};
    m.append = (struct message_append){
        .prev_index = prev,
        .prev_term = raft_log_term(&r->log, prev),
        /* Not more than these entries prove to be equal. */
        .commit = r->commit < prev + n ? r->commit : prev + n,
        .round = r->round,
        .hash_index = p->tell_hash_index,
        .hash = p->tell_hash,
        .entries = n ? raft_log_entry(&r->log, prev + 1) : NULL,
        .n = n,
    };
    raft_send(r, p->id, &m);
    p->commit_sent = m.append.commit;
    p->heartbeat_due = false;
}

/* How many entries from `next` on make one message: at least one, if there is any. */
static uint32_t entries_for_message(const struct raft *r, uint64_t next)
{
    uint64_t last = raft_log_last(&r->log);
    uint32_t n = 0;
    while (next + n <= last && n < MESSAGE_ENTRIES_MAX &&
           (!n || raft_log_bytes(&r->log, next - 1, next + n) <= r->options.message_bytes))
        n++;
    return n;
}

static void replicate(struct raft *r, struct raft_peer *p)
{
    while (p->next <= raft_log_last(&r->log) && r->driver->room(r->driver, p->id) &&
           raft_log_bytes(&r->log, p->match, p->next - 1) < r->options.window_bytes) {
        uint32_t n = entries_for_message(r, p->next);
        send_append(r, p, p->next - 1, n);
        p->next += n;
    }
    uint64_t known = r->commit < p->next - 1 ? r->commit : p->next - 1;
    if (p->heartbeat_due || p->commit_sent < known)
        send_append(r, p, p->next - 1, 0);
}

static void flush_peer(struct raft *r, struct raft_peer *p)
{
    if (!r->driver->room(r->driver, p->id))
        return;
    if (p->progress != RAFT_SNAPSHOT && !raft_log_knows_term(&r->log, p->next - 1)) {
        LOG_D("a follower needs a snapshot", "id", LOG_U64(p->id), "next", LOG_U64(p->next), "log_from",
              LOG_U64(r->log.first));
        p->progress = RAFT_SNAPSHOT;
        p->snapshot_under_way = false;
    }
    switch (p->progress) {
    case RAFT_SNAPSHOT:
        if (p->heartbeat_due)
            send_append(r, p, 0, 0);
        break;
    case RAFT_PROBE:
        if (p->probing && !p->heartbeat_due)
            break;
        send_append(r, p, p->next - 1, entries_for_message(r, p->next));
        p->probing = true;
        break;
    case RAFT_REPLICATE:
        replicate(r, p);
        break;
    }
}

static const struct raft_peer *most_up_to_date(const struct raft *r)
{
    const struct raft_peer *best = NULL;
    for (size_t i = 0; i < r->n_peers; i++)
        if (r->peers[i].voter && (!best || r->peers[i].match > best->match))
            best = &r->peers[i];
    return best;
}

/* A leader that is not a voter any more goes when its removal is committed; the others have been told just before. */
static void resign_when_removed(struct raft *r)
{
    if (r->self_voter || r->commit < r->memberships[r->n_memberships - 1].index)
        return;
    const struct raft_peer *best = most_up_to_date(r);
    if (best && best->match == raft_log_last(&r->log))
        raft_tell_take_over(r, best->id);
    raft_become_follower(r, r->term, 0);
}

void raft_flush(struct raft *r, uint64_t now_ms)
{
    r->now_ms = now_ms;
    r->wants_flush = false;
    if (r->role != RAFT_LEADER)
        return;
    for (size_t i = 0; i < r->n_peers; i++)
        flush_peer(r, &r->peers[i]);
    const struct raft_peer *to = r->transfer_to ? raft_peer(r, r->transfer_to) : NULL;
    if (to && !r->transfer_told && to->match == raft_log_last(&r->log)) {
        r->transfer_told = true;
        raft_tell_take_over(r, to->id);
    }
    resign_when_removed(r);
}

static void to_probe(struct raft *r, struct raft_peer *p, uint64_t next)
{
    p->progress = RAFT_PROBE;
    p->next = next > p->match + 1 ? next : p->match + 1;
    p->probing = false;
    r->wants_flush = true;
}

void raft_wake_peer(struct raft *r, uint64_t id)
{
    struct raft_peer *p = raft_peer(r, id);
    if (r->role == RAFT_LEADER && p)
        r->wants_flush = true;
}

void raft_lose_peer(struct raft *r, uint64_t id)
{
    struct raft_peer *p = raft_peer(r, id);
    if (r->role == RAFT_LEADER && p && p->progress == RAFT_REPLICATE)
        to_probe(r, p, p->match + 1);
}

/* The log does not fit behind prev: where may it? At the last entry that is not of a later term than the follower's. */
static void step_back(struct raft *r, struct raft_peer *p, const struct message_append_answer *a)
{
    bool current = p->progress == RAFT_PROBE ? a->rejected == p->next - 1 : a->rejected > p->match;
    if (p->progress == RAFT_SNAPSHOT || !current)
        return;
    uint64_t fits = a->hint_index < a->rejected ? a->hint_index : a->rejected - 1;
    while (raft_log_knows_term(&r->log, fits) && fits > p->match && raft_log_term(&r->log, fits) > a->hint_term)
        fits--;
    to_probe(r, p, fits + 1);
}

int raft_on_append_answer(struct raft *r, struct raft_peer *p, const struct message *m, struct error *err)
{
    const struct message_append_answer *a = &m->append_answer;
    if (m->term > r->term) {
        raft_become_follower(r, m->term, 0);
        return 0;
    }
    if (m->term < r->term || r->role != RAFT_LEADER)
        return 0;
    if (a->match > raft_log_last(&r->log) || a->round > r->round)
        return error_set(err, ERROR_INVALID, "server %llu answers for entries or rounds that do not exist",
                         (unsigned long long)p->id);
    p->heard_ms = (int64_t)r->now_ms;
    p->applied = a->hash_index;
    if (a->round > p->round) {
        p->round = a->round;
        if (r->round - a->round < RAFT_ROUNDS)
            p->contact_ms = r->round_began_ms[a->round % RAFT_ROUNDS];
    }
    if (a->rejected) {
        step_back(r, p, a);
        return 0;
    }
    if (a->match > p->match)
        p->match = a->match;
    if (p->next <= p->match)
        p->next = p->match + 1;
    if (p->progress == RAFT_SNAPSHOT && !p->snapshot_under_way && raft_log_knows_term(&r->log, p->match))
        to_probe(r, p, p->match + 1);
    /* The probe's answer, or one that proves as much. */
    if (p->progress == RAFT_PROBE && p->match + 1 >= p->next) {
        p->progress = RAFT_REPLICATE;
        p->probing = false;
    }
    r->wants_flush = true;
    raft_advance_commit(r);
    return 0;
}

void raft_snapshot_begin(struct raft *r, uint64_t id, uint64_t index)
{
    struct raft_peer *p = raft_peer(r, id);
    p->snapshot_under_way = true;
    p->snapshot_index = index;
}

void raft_snapshot_end(struct raft *r, uint64_t id, bool installed)
{
    struct raft_peer *p = raft_peer(r, id);
    if (!p || p->progress != RAFT_SNAPSHOT)
        return;
    p->snapshot_under_way = false;
    if (installed)
        to_probe(r, p, p->snapshot_index + 1);
}

/* --- the follower --- */

static void answer(struct raft *r, uint64_t to, struct message_append_answer a)
{
    if (!r->driver->state_hash(r->driver, &a.hash_index, &a.hash))
        a.hash_index = 0;
    struct message m = {.type = MESSAGE_APPEND_ANSWER, .term = r->term, .append_answer = a};
    raft_send(r, to, &m);
}

static void answer_leader(struct raft *r)
{
    uint64_t match = r->stored < r->verified ? r->stored : r->verified;
    r->answered = match;
    r->answered_round = r->leader_round;
    answer(r, r->leader, (struct message_append_answer){.match = match, .round = r->leader_round});
}

static void reject(struct raft *r, uint64_t prev, uint64_t prev_term)
{
    uint64_t last = raft_log_last(&r->log);
    uint64_t hint = prev > last ? last : prev - 1;
    while (hint > r->commit && raft_log_term(&r->log, hint) > prev_term)
        hint--;
    r->answered_round = r->leader_round;
    answer(r, r->leader, (struct message_append_answer){.rejected = prev, .hint_index = hint,
                                                        .hint_term = raft_log_term(&r->log, hint),
                                                        .round = r->leader_round});
}

int raft_accept_leader(struct raft *r, uint64_t from, const struct message *m, struct error *err)
{
    if (m->term < r->term) {
        answer(r, from, (struct message_append_answer){0});
        return 0;
    }
    if (m->term == r->term && (r->role == RAFT_LEADER || (r->leader && r->leader != from)))
        return error_set(err, ERROR_INVALID, "server %llu claims to lead in term %llu, which has another leader",
                         (unsigned long long)from, (unsigned long long)m->term);
    if (m->term > r->term || r->role != RAFT_FOLLOWER || r->leader != from)
        raft_become_follower(r, m->term, from);
    r->leader_heard_ms = (int64_t)r->now_ms;
    raft_reset_election(r);
    return 1;
}

/* Before anything is changed: terms in order, memberships readable. */
static int check_entries(const struct message *m, struct error *err)
{
    const struct message_append *a = &m->append;
    uint64_t term = a->prev_term;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct entry *e = &a->entries[i];
        if (e->term < term || e->term > m->term)
            return error_set(err, ERROR_INVALID, "an entry of term %llu behind one of term %llu, in term %llu",
                             (unsigned long long)e->term, (unsigned long long)term, (unsigned long long)m->term);
        term = e->term;
        struct membership membership = {0};
        if (e->type == ENTRY_MEMBERSHIP && membership_decode(e->bytes, e->len, &membership, err) < 0)
            return -1;
        membership_clear(&membership);
    }
    return 0;
}

static void truncate_from(struct raft *r, uint64_t index)
{
    LOG_D("entries that were never committed are dropped", "id", LOG_U64(r->options.id), "from", LOG_U64(index), "to",
          LOG_U64(raft_log_last(&r->log)));
    r->driver->truncated(r->driver, index);
    raft_log_truncate(&r->log, index);
    if (r->stored >= index)
        r->stored = index - 1;
    size_t n = r->n_memberships;
    while (r->n_memberships > 1 && r->memberships[r->n_memberships - 1].index >= index)
        membership_clear(&r->memberships[--r->n_memberships].membership);
    if (r->n_memberships != n)
        raft_membership_in_force(r);
}

static void append_one(struct raft *r, const struct entry *e)
{
    raft_log_append(&r->log, e->term, e->type, e->len ? mem_dup(e->bytes, e->len) : NULL, e->len);
    if (e->type != ENTRY_MEMBERSHIP)
        return;
    struct membership membership = {0};
    INVARIANT(membership_decode(e->bytes, e->len, &membership, NULL) == 0);
    raft_add_membership(r, raft_log_last(&r->log), membership);
}

/* Entries from prev + 1 on, which is behind the commit index. */
static int take_entries(struct raft *r, uint64_t prev, const struct entry *entries, uint32_t n, struct error *err)
{
    uint32_t i = 0;
    while (i < n && prev + 1 + i <= raft_log_last(&r->log) && raft_log_term(&r->log, prev + 1 + i) == entries[i].term)
        i++;
    if (i < n && prev + 1 + i <= raft_log_last(&r->log)) {
        if (prev + 1 + i <= r->commit)
            return error_set(err, ERROR_INVALID, "entry %llu is committed here with another term",
                             (unsigned long long)(prev + 1 + i));
        truncate_from(r, prev + 1 + i);
    }
    for (; i < n; i++)
        append_one(r, &entries[i]);
    return 0;
}

int raft_on_append(struct raft *r, uint64_t from, const struct message *m, struct error *err)
{
    const struct message_append *a = &m->append;
    if (check_entries(m, err) < 0)
        return -1;
    int accepted = raft_accept_leader(r, from, m, err);
    if (accepted <= 0)
        return accepted;
    if (a->round > r->leader_round)
        r->leader_round = a->round;
    /* A disk that does not keep up, or a snapshot that is being installed: only a sign of life. */
    if (r->installing || raft_log_bytes(&r->log, r->stored, raft_log_last(&r->log)) > 4 * r->options.window_bytes) {
        answer_leader(r);
        return 0;
    }
    uint64_t prev = a->prev_index;
    uint32_t skip = 0;
    if (prev < r->commit) {
        /* What is committed is the same everywhere, and may not be in the log any more. */
        skip = r->commit - prev < a->n ? (uint32_t)(r->commit - prev) : a->n;
        prev += skip;
    } else if (prev > raft_log_last(&r->log) || raft_log_term(&r->log, prev) != a->prev_term) {
        reject(r, prev, a->prev_term);
        return 0;
    }
    if (prev >= r->commit && take_entries(r, prev, a->entries + skip, a->n - skip, err) < 0)
        return -1;
    uint64_t end = a->prev_index + a->n;
    if (r->verified < r->commit)
        r->verified = r->commit;
    if (r->verified < end)
        r->verified = end;
    uint64_t commit = a->commit < end ? a->commit : end;
    if (commit > r->commit)
        r->commit = commit;
    if (r->stored >= end || r->leader_round > r->answered_round)
        answer_leader(r);
    return 0;
}

bool raft_install_begin(struct raft *r, uint64_t index, uint64_t term)
{
    if (index <= r->commit)
        return false;
    if (index <= raft_log_last(&r->log) && raft_log_term(&r->log, index) == term) {
        r->commit = index;
        if (r->verified < index)
            r->verified = index;
        return false;
    }
    if (r->role != RAFT_FOLLOWER)
        raft_become_follower(r, r->term, 0);
    r->installing = true;
    return true;
}

void raft_install_done(struct raft *r, uint64_t index, uint64_t term, uint64_t membership_index,
                       struct membership membership)
{
    raft_log_reset(&r->log, index, term);
    r->stored = r->commit = r->applied = r->snapshot_index = index;
    r->snapshot_term = term;
    r->verified = index;
    r->installing = false;
    while (r->n_memberships)
        membership_clear(&r->memberships[--r->n_memberships].membership);
    raft_add_membership(r, membership_index, membership);
    if (r->role == RAFT_FOLLOWER && r->leader)
        answer_leader(r);
}

void raft_stored(struct raft *r, uint64_t index)
{
    if (index > r->stored)
        r->stored = index;
    if (r->role == RAFT_LEADER)
        raft_advance_commit(r);
    else if (r->role == RAFT_FOLLOWER && r->leader && !r->installing &&
             (r->stored < r->verified ? r->stored : r->verified) > r->answered)
        answer_leader(r);
}

void raft_snapshot_taken(struct raft *r, uint64_t index, uint64_t term, uint64_t keep)
{
    r->snapshot_index = index;
    r->snapshot_term = term;
    uint64_t most = index + 1;
    raft_log_trim(&r->log, keep < most ? keep : most);
}
