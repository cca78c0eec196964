/* The algorithm alone, message by message: the cases that are too rare to wait for. This server is 1 of 1, 2, 3. */
#include <string.h>

#include "../cmocka_all.h"
#include "base/log.h"
#include "consensus/raft.h"

#define TIMEOUT 1000

struct sent {
    uint64_t to;
    struct message m;
    uint32_t n;
};

struct world {
    struct raft raft;
    struct raft_driver driver;
    uint64_t now;
    struct sent sent[64];
    size_t n_sent;
};

static void persist(struct raft_driver *driver, uint64_t term, uint64_t vote)
{
}

static void send_message(struct raft_driver *driver, uint64_t to, const struct message *m)
{
    struct world *w = container_of(driver, struct world, driver);
    assert_true(w->n_sent < ARRAY_LEN(w->sent));
    w->sent[w->n_sent++] = (struct sent){to, *m, m->type == MESSAGE_APPEND ? m->append.n : 0};
}

static size_t room(struct raft_driver *driver, uint64_t to) { return 1 << 20; }
static void truncated(struct raft_driver *driver, uint64_t index) {}
static uint64_t least(struct raft_driver *driver, uint64_t limit) { return 0; }
static bool no_hash(struct raft_driver *driver, uint64_t *index, uint64_t *hash) { return false; }

/* A log of these terms behind the first entry, the membership; all of it stored. */
static void begin(struct world *w, const uint64_t *terms, size_t n, uint64_t term)
{
    *w = (struct world){.now = 100000, .driver = {.persist = persist, .send = send_message, .room = room,
                                                  .truncated = truncated, .random = least, .state_hash = no_hash}};
    struct raft_options options = {.id = 1, .election_timeout_ms = TIMEOUT, .heartbeat_ms = 100, .window_bytes = 1 << 20,
                                   .message_bytes = 1 << 18};
    raft_init(&w->raft, &options, &w->driver);
    struct membership m = {0};
    for (uint64_t id = 1; id <= 3; id++) {
        char address[] = {(char)('0' + id), '\0'};
        membership_add(&m, id, address, true);
    }
    raft_log_append(&w->raft.log, 1, ENTRY_MEMBERSHIP, NULL, 0);
    raft_add_membership(&w->raft, 1, m);
    for (size_t i = 0; i < n; i++)
        raft_log_append(&w->raft.log, terms[i], ENTRY_COMMAND, NULL, 0);
    w->raft.term = term;
    w->raft.stored = raft_log_last(&w->raft.log);
    raft_start(&w->raft, w->now);
}

static void pass(struct world *w, uint64_t ms)
{
    for (uint64_t end = w->now + ms; w->now < end;) {
        w->now += end - w->now < 100 ? end - w->now : 100;
        raft_tick(&w->raft, w->now);
        raft_flush(&w->raft, w->now);
        if (w->n_sent > ARRAY_LEN(w->sent) / 2)
            w->n_sent = 0;
    }
}

static void receive(struct world *w, uint64_t from, struct message m)
{
    struct error err = {0};
    if (raft_receive(&w->raft, from, &m, w->now, &err) < 0)
        fail_msg("%s", err.text);
}

static const struct sent *last_to(const struct world *w, uint64_t to)
{
    for (size_t i = w->n_sent; i-- > 0;)
        if (w->sent[i].to == to)
            return &w->sent[i];
    return NULL;
}

/* Elected by server 2 in the next term. */
static void lead(struct world *w)
{
    while (w->raft.role != RAFT_PRE_CANDIDATE)
        pass(w, 100);
    uint64_t term = w->raft.term + 1;
    receive(w, 2, (struct message){.type = MESSAGE_VOTE_ANSWER, .term = term, .vote_answer = {true, true}});
    assert_int_equal(w->raft.role, RAFT_CANDIDATE);
    receive(w, 2, (struct message){.type = MESSAGE_VOTE_ANSWER, .term = term, .vote_answer = {false, true}});
    assert_int_equal(w->raft.role, RAFT_LEADER);
    raft_flush(&w->raft, w->now);
    w->n_sent = 0;
}

static void answer(struct world *w, uint64_t from, uint64_t match)
{
    receive(w, from, (struct message){.type = MESSAGE_APPEND_ANSWER, .term = w->raft.term,
                                      .append_answer = {.match = match, .round = w->raft.round}});
    raft_flush(&w->raft, w->now);
}

static struct message vote_of(uint64_t term, uint64_t last_index, uint64_t last_term, bool pre, bool transfer)
{
    return (struct message){.type = MESSAGE_VOTE, .term = term, .vote = {last_index, last_term, pre, transfer}};
}

static struct message heartbeat(uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit)
{
    return (struct message){.type = MESSAGE_APPEND, .term = term,
                            .append = {.prev_index = prev, .prev_term = prev_term, .commit = commit, .round = 1}};
}

static void end(struct world *w)
{
    raft_free(&w->raft);
}

/* Figure 8 of the paper: an entry of an earlier term that a majority holds may still be replaced. */
static void entries_of_earlier_terms_are_committed_with_one_of_this_term_only(void **state)
{
    struct world w;
    begin(&w, (uint64_t[]){2, 2}, 2, 3);
    lead(&w);
    assert_int_equal(raft_log_last(&w.raft.log), 4);
    answer(&w, 2, 3);
    answer(&w, 3, 3);
    assert_int_equal(w.raft.commit, 0);
    assert_false(raft_leads(&w.raft));
    answer(&w, 2, 4);
    assert_int_equal(w.raft.commit, 0);     /* two of three have it, but this server's own disk does not */
    raft_stored(&w.raft, 4);
    assert_int_equal(w.raft.commit, 4);
    end(&w);
}

/* What a follower holds behind what it compared may be of another history. */
static void a_follower_answers_only_for_what_it_compared(void **state)
{
    struct world w;
    begin(&w, (uint64_t[]){2, 2, 2, 2}, 4, 2);
    receive(&w, 2, heartbeat(3, 2, 2, 0));
    const struct sent *s = last_to(&w, 2);
    assert_int_equal(s->m.type, MESSAGE_APPEND_ANSWER);
    assert_int_equal(s->m.append_answer.match, 2);
    assert_int_equal(w.raft.stored, 5);
    /* Nor is more committed than was compared, whatever the leader says. */
    receive(&w, 2, heartbeat(3, 3, 2, 100));
    assert_int_equal(w.raft.commit, 3);
    /* What was compared with one leader says nothing about the next. */
    receive(&w, 2, heartbeat(3, 5, 2, 3));
    assert_int_equal(last_to(&w, 2)->m.append_answer.match, 5);
    receive(&w, 3, heartbeat(4, 3, 2, 3));
    assert_int_equal(last_to(&w, 3)->m.append_answer.match, 3);
    end(&w);
}

static void entries_are_answered_for_when_they_are_on_disk(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    struct entry e = {.term = 2, .type = ENTRY_COMMAND};
    struct message m = heartbeat(2, 1, 1, 1);
    m.append.entries = &e;
    m.append.n = 1;
    receive(&w, 2, m);
    assert_int_equal(last_to(&w, 2)->m.append_answer.match, 1);
    raft_stored(&w.raft, 2);
    assert_int_equal(last_to(&w, 2)->m.append_answer.match, 2);
    end(&w);
}

static void who_follows_a_leader_votes_for_nobody_else(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    w.now += 2 * TIMEOUT;
    receive(&w, 2, heartbeat(2, 1, 1, 1));
    w.n_sent = 0;
    pass(&w, TIMEOUT - 1);
    receive(&w, 3, vote_of(3, 9, 9, true, false));
    receive(&w, 3, vote_of(3, 9, 9, false, false));
    assert_int_equal(w.n_sent, 0);
    assert_int_equal(w.raft.term, 2);
    /* Unless the leader wants it. */
    receive(&w, 3, vote_of(3, 9, 9, false, true));
    assert_true(last_to(&w, 3)->m.vote_answer.granted);
    assert_int_equal(w.raft.term, 3);
    end(&w);
}

static void a_wish_of_the_leader_counts_in_the_next_term_only(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    w.now += 2 * TIMEOUT;
    receive(&w, 2, heartbeat(2, 1, 1, 1));
    w.n_sent = 0;
    receive(&w, 3, vote_of(7, 9, 9, false, true));
    assert_int_equal(w.n_sent, 0);
    assert_int_equal(w.raft.term, 2);
    end(&w);
}

/* In the life before, it may have promised a leader to be true. */
static void who_has_just_started_votes_for_nobody(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    w.now += TIMEOUT - 1;
    receive(&w, 3, vote_of(2, 9, 9, true, false));
    receive(&w, 3, vote_of(2, 9, 9, false, false));
    assert_int_equal(w.n_sent, 0);
    w.now += 1;
    receive(&w, 3, vote_of(2, 9, 9, false, false));
    assert_true(last_to(&w, 3)->m.vote_answer.granted);
    end(&w);
}

static void a_term_has_one_vote(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    w.now += 2 * TIMEOUT;
    receive(&w, 2, vote_of(2, 9, 9, false, false));
    assert_true(last_to(&w, 2)->m.vote_answer.granted);
    receive(&w, 3, vote_of(2, 99, 99, false, false));
    assert_false(last_to(&w, 3)->m.vote_answer.granted);
    receive(&w, 3, vote_of(2, 99, 99, false, true));
    assert_false(last_to(&w, 3)->m.vote_answer.granted);
    receive(&w, 2, vote_of(2, 9, 9, false, false));     /* again: the answer may have been lost */
    assert_true(last_to(&w, 2)->m.vote_answer.granted);
    end(&w);
}

static void a_later_last_term_counts_more_than_a_longer_log(void **state)
{
    struct world w;
    begin(&w, (uint64_t[]){3}, 1, 3);
    w.now += 2 * TIMEOUT;
    receive(&w, 2, vote_of(4, 100, 2, false, false));
    assert_false(last_to(&w, 2)->m.vote_answer.granted);
    receive(&w, 3, vote_of(4, 2, 3, false, false));
    assert_true(last_to(&w, 3)->m.vote_answer.granted);
    end(&w);
}

static void commit_all(struct world *w)
{
    raft_stored(&w->raft, raft_log_last(&w->raft.log));
    answer(w, 2, raft_log_last(&w->raft.log));
    raft_applied(&w->raft, w->raft.commit);
    assert_true(raft_leads(&w->raft));
}

static void a_lease_is_shorter_than_what_it_rests_on_and_ends(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    lead(&w);
    uint64_t began = w.now;
    assert_int_equal(raft_lease_ms(&w.raft, w.now), 0);
    w.now += 200;       /* the answer comes late: the lease counts from when the question was sent */
    commit_all(&w);
    assert_int_equal(raft_lease_ms(&w.raft, w.now), began + TIMEOUT * 3 / 4 - w.now);
    assert_int_equal(raft_lease_ms(&w.raft, began + TIMEOUT * 3 / 4), 0);
    while (w.raft.role == RAFT_LEADER)
        pass(&w, 100);
    assert_int_equal(raft_lease_ms(&w.raft, w.now), 0);
    end(&w);
}

/* The one that was told to take over may do so at any time later in this term. */
static void a_leader_that_told_another_one_to_take_over_has_no_lease(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    lead(&w);
    commit_all(&w);
    assert_true(raft_lease_ms(&w.raft, w.now) > 0);
    raft_transfer(&w.raft, 2);
    raft_flush(&w.raft, w.now);
    assert_int_equal(last_to(&w, 2)->m.type, MESSAGE_TAKE_OVER);
    for (int i = 0; i < 15; i++) {
        pass(&w, 100);
        answer(&w, 2, raft_log_last(&w.raft.log));
    }
    assert_int_equal(w.raft.role, RAFT_LEADER);
    assert_false(raft_transferring(&w.raft));
    assert_int_equal(raft_lease_ms(&w.raft, w.now), 0);
    end(&w);
}

static void a_round_is_answered_by_answers_to_it_only(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    lead(&w);
    commit_all(&w);
    uint64_t round = raft_begin_round(&w.raft);
    assert_true(raft_round_answered(&w.raft) < round);
    receive(&w, 2, (struct message){.type = MESSAGE_APPEND_ANSWER, .term = w.raft.term,
                                    .append_answer = {.match = 2, .round = round - 1}});
    assert_true(raft_round_answered(&w.raft) < round);
    answer(&w, 3, 0);
    assert_int_equal(raft_round_answered(&w.raft), round);
    end(&w);
}

static void one_change_of_the_members_at_a_time(void **state)
{
    struct world w;
    struct error err = {0};
    begin(&w, NULL, 0, 1);
    w.raft.commit = 1;
    lead(&w);
    struct membership m = membership_copy(raft_membership(&w.raft));
    membership_remove(&m, 3);
    assert_int_equal(raft_change(&w.raft, &m, &err), -1);   /* the term's first entry is not committed */
    commit_all(&w);
    assert_int_equal(raft_change(&w.raft, &m, &err), 0);
    assert_int_equal(raft_membership(&w.raft)->n, 2);       /* it counts at once */
    assert_int_equal(raft_change(&w.raft, &m, &err), -1);
    membership_clear(&m);
    end(&w);
}

/* Its directory may have been emptied: nothing that it stored before counts. */
static void who_comes_back_under_its_id_has_stored_nothing(void **state)
{
    struct world w;
    struct error err = {0};
    begin(&w, NULL, 0, 1);
    w.raft.commit = 1;
    lead(&w);
    commit_all(&w);
    answer(&w, 3, raft_log_last(&w.raft.log));
    struct membership m = membership_copy(raft_membership(&w.raft));
    membership_remove(&m, 3);
    assert_int_equal(raft_change(&w.raft, &m, &err), 0);
    commit_all(&w);
    assert_true(raft_peer(&w.raft, 3)->match > 0);          /* it still departs */
    membership_add(&m, 3, "3", false);
    assert_int_equal(raft_change(&w.raft, &m, &err), 0);
    assert_int_equal(raft_peer(&w.raft, 3)->match, 0);
    membership_clear(&m);
    end(&w);
}

/* A follower goes back to the membership before when the entry that changed it is replaced. */
static void a_change_that_is_replaced_is_undone(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    CLEANUP_BUF struct buf bytes = {0};
    struct membership m = membership_copy(raft_membership(&w.raft));
    membership_remove(&m, 2);
    membership_encode(&bytes, &m);
    membership_clear(&m);
    struct entry e = {.term = 2, .type = ENTRY_MEMBERSHIP, .bytes = (uint8_t *)bytes.data, .len = (uint32_t)bytes.len};
    struct message change = heartbeat(2, 1, 1, 1);
    change.append.entries = &e;
    change.append.n = 1;
    receive(&w, 2, change);
    assert_int_equal(raft_membership(&w.raft)->n, 2);
    struct entry other = {.term = 3, .type = ENTRY_NOTHING};
    change = heartbeat(3, 1, 1, 1);
    change.append.entries = &other;
    change.append.n = 1;
    receive(&w, 3, change);
    assert_int_equal(raft_membership(&w.raft)->n, 3);
    end(&w);
}

/* Two leaders in one term, entries that go back in their terms, and answers for what was never sent break the protocol. */
static void what_breaks_the_protocol_changes_nothing(void **state)
{
    struct world w;
    struct error err = {0};
    begin(&w, NULL, 0, 1);
    lead(&w);
    struct message claim = heartbeat(w.raft.term, 1, 1, 1);
    assert_int_equal(raft_receive(&w.raft, 2, &claim, w.now, &err), -1);
    struct message much = {.type = MESSAGE_APPEND_ANSWER, .term = w.raft.term, .append_answer = {.match = 999}};
    assert_int_equal(raft_receive(&w.raft, 2, &much, w.now, &err), -1);
    assert_int_equal(w.raft.role, RAFT_LEADER);
    end(&w);
    begin(&w, NULL, 0, 1);
    struct entry back = {.term = 1, .type = ENTRY_COMMAND};
    struct message m = heartbeat(5, 1, 3, 1);
    m.append.entries = &back;
    m.append.n = 1;
    assert_int_equal(raft_receive(&w.raft, 2, &m, w.now, &err), -1);
    assert_int_equal(w.raft.term, 1);
    end(&w);
}

/* Silence proves nothing to who did not listen. */
static void who_stood_still_listens_before_it_acts(void **state)
{
    struct world w;
    begin(&w, NULL, 0, 1);
    lead(&w);
    commit_all(&w);
    w.now += 5 * TIMEOUT;
    raft_tick(&w.raft, w.now);
    assert_int_equal(w.raft.role, RAFT_LEADER);
    assert_int_equal(raft_lease_ms(&w.raft, w.now), 0);
    answer(&w, 2, raft_log_last(&w.raft.log));
    pass(&w, TIMEOUT / 2);
    assert_int_equal(w.raft.role, RAFT_LEADER);
    end(&w);
    begin(&w, NULL, 0, 1);
    w.now += 5 * TIMEOUT;
    raft_tick(&w.raft, w.now);
    assert_int_equal(w.raft.role, RAFT_FOLLOWER);
    end(&w);
}

/* The removal of a leader, not committed: it alone holds it, and must be able to finish it. */
static void one_whose_removal_is_not_committed_may_stand_for_election(void **state)
{
    struct world w;
    struct error err = {0};
    begin(&w, NULL, 0, 1);
    lead(&w);
    commit_all(&w);
    struct membership m = membership_copy(raft_membership(&w.raft));
    membership_remove(&m, 1);
    assert_int_equal(raft_change(&w.raft, &m, &err), 0);
    membership_clear(&m);
    while (w.raft.role == RAFT_LEADER)
        pass(&w, 100);
    assert_int_equal(w.raft.role, RAFT_FOLLOWER);
    pass(&w, 2 * TIMEOUT);
    assert_int_equal(w.raft.role, RAFT_PRE_CANDIDATE);
    end(&w);
}

int main(void)
{
    log_init("test", LOG_FATAL);
#define T(f) cmocka_unit_test(f)
    const struct CMUnitTest tests[] = {
        T(entries_of_earlier_terms_are_committed_with_one_of_this_term_only),
        T(a_follower_answers_only_for_what_it_compared),
        T(entries_are_answered_for_when_they_are_on_disk),
        T(who_follows_a_leader_votes_for_nobody_else),
        T(a_wish_of_the_leader_counts_in_the_next_term_only),
        T(who_has_just_started_votes_for_nobody),
        T(a_term_has_one_vote),
        T(a_later_last_term_counts_more_than_a_longer_log),
        T(a_lease_is_shorter_than_what_it_rests_on_and_ends),
        T(a_leader_that_told_another_one_to_take_over_has_no_lease),
        T(a_round_is_answered_by_answers_to_it_only),
        T(one_change_of_the_members_at_a_time),
        T(who_comes_back_under_its_id_has_stored_nothing),
        T(a_change_that_is_replaced_is_undone),
        T(what_breaks_the_protocol_changes_nothing),
        T(who_stood_still_listens_before_it_acts),
        T(one_whose_removal_is_not_committed_may_stand_for_election),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
