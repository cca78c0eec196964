/* Several servers in one process, on real sockets of the loopback and real directories: what they say to each other, and
 * to those who have no business there. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "../net/certs.h"
#include "base/log.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "consensus/consensus.h"
#include "consensus/message.h"
#include "consensus/wire.h"
#include "net/tls.h"

#define SERVERS 5
#define CLUSTER 77

struct server {
    struct world *world;
    unsigned number;
    uint64_t id;
    struct consensus *consensus;
    struct tls_context *tls;
    char directory[96];
    struct buf state;           /* what was applied, one line a command */
    uint64_t hash;
    bool stopped;
    unsigned members_changed;
    enum consensus_outcome outcome;
    bool answered;
    struct error changed;       /* code 0: committed */
    bool change_answered;
    size_t fat;                 /* bytes that a snapshot has in addition */
    unsigned restores;
};

struct world {
    char directory[64];
    uv_loop_t loop;
    uv_timer_t timer;
    struct server servers[SERVERS + 1];     /* by number, from 1 */
    struct consensus_options options;       /* what all have in common */
    struct authority ca;
};

/* --- the loop --- */

static int patience(void)
{
    const char *factor = getenv("MENTAT_TEST_PATIENCE");
    return factor ? atoi(factor) : 1;
}

static int64_t patience_ms(void)
{
    return 20000 * patience();
}

static void on_timer(uv_timer_t *timer)
{
}

#define WAIT_FOR(w, cond) \
    do { \
        int64_t wait_end = time_monotonic_ms() + patience_ms(); \
        while (!(cond)) { \
            if (time_monotonic_ms() > wait_end) \
                fail_msg("waited in vain for %s", #cond); \
            uv_run(&(w)->loop, UV_RUN_ONCE); \
        } \
    } while (0)

static void pass(struct world *w, int64_t ms)
{
    int64_t end = time_monotonic_ms() + ms;
    while (time_monotonic_ms() < end)
        uv_run(&w->loop, UV_RUN_ONCE);
}

/* --- the state machine --- */

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
    struct server *s = ctx;
    buf_add(&s->state, bytes, len);
    buf_add_char(&s->state, '\n');
    s->hash = hash_bytes(bytes, len, s->hash + index);
}

static void on_snapshot(void *ctx, struct buf *out)
{
    struct server *s = ctx;
    buf_add_u64(out, s->hash);
    buf_add_u64(out, s->state.len);
    buf_add(out, s->state.data, s->state.len);
    for (size_t i = 0; i < s->fat; i++)
        buf_add_u8(out, (uint8_t)hash_mix(i / 4096));
}

struct state {
    uint64_t hash;
    struct buf text;
};

static void *on_read_state(void *ctx, const void *bytes, size_t len, struct error *err)
{
    struct state *state = NEW(struct state);
    struct cursor c = cursor_of(bytes, len);
    uint64_t n;
    const uint8_t *text;
    assert_true(cursor_u64(&c, &state->hash) && cursor_u64(&c, &n) && cursor_bytes(&c, n, &text));
    buf_add(&state->text, text, n);
    for (size_t i = 0; cursor_left(&c); i++)
        assert_int_equal(*c.p++, (uint8_t)hash_mix(i / 4096));
    return state;
}

static void *on_use_state(void *ctx, uint64_t index, void *new_state)
{
    struct server *s = ctx;
    struct state *state = new_state, before = {s->hash, s->state};
    s->hash = state->hash;
    s->state = state->text;
    s->restores++;
    *state = before;
    return state;
}

static void on_free_state(void *ctx, void *old)
{
    struct state *state = old;
    if (state)
        buf_free(&state->text);
    free(state);
}

static uint64_t on_state_hash(void *ctx)
{
    return ((struct server *)ctx)->hash;
}

static void on_role(void *ctx, enum consensus_role role)
{
}

static void on_members(void *ctx)
{
    ((struct server *)ctx)->members_changed++;
}

static void on_fatal(void *ctx, const struct error *err)
{
    fail_msg("fatal at server %u: %s", ((struct server *)ctx)->number, err->text);
}

static const struct consensus_callbacks callbacks = {
    .apply = on_apply, .snapshot = on_snapshot, .read_state = on_read_state, .use_state = on_use_state,
    .free_state = on_free_state, .role_changed = on_role, .fatal = on_fatal, .state_hash = on_state_hash, .members_changed = on_members,
};

static void on_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct server *s = ctx;
    s->outcome = outcome;
    s->answered = true;
}

static void on_changed(void *ctx, void *request, const struct error *err)
{
    struct server *s = ctx;
    s->changed = err ? *err : (struct error){0};
    s->change_answered = true;
}

/* --- servers --- */

static struct consensus_options options_of(struct server *s, bool first)
{
    struct consensus_options o = s->world->options;
    o.directory = s->directory;
    o.server_id = s->id;
    o.bootstrap = first;
    o.tls = s->tls;
    o.insecure = !s->tls;
    o.ctx = s;
    return o;
}

static void start_with(struct server *s, const struct consensus_options *o)
{
    struct error err = {0};
    buf_clear(&s->state);
    s->hash = 0;
    if (consensus_start(&s->consensus, o, &err) < 0)
        fail_msg("%s", err.text);
}

static void start(struct server *s, bool first)
{
    struct consensus_options o = options_of(s, first);
    start_with(s, &o);
}

static void on_stopped(void *ctx)
{
    ((struct server *)ctx)->stopped = true;
}

static void stop(struct server *s)
{
    s->stopped = false;
    consensus_stop(s->consensus, on_stopped, s);
    WAIT_FOR(s->world, s->stopped);
    s->consensus = NULL;
}

static bool leads(const struct server *s)
{
    return s->consensus && consensus_role(s->consensus) == CONSENSUS_LEADER;
}

static struct server *leader(struct world *w)
{
    for (unsigned i = 1; i <= SERVERS; i++)
        if (leads(&w->servers[i]))
            return &w->servers[i];
    return NULL;
}

static void address_of(const struct server *s, char out[static 32])
{
    snprintf(out, 32, "127.0.0.1:%d", consensus_port(s->consensus));
}

static void add(struct world *w, struct server *s)
{
    char address[32];
    address_of(s, address);
    struct server *l = leader(w);
    l->change_answered = false;
    consensus_add(l->consensus, s->id, address, on_changed, NULL);
    assert_false(l->change_answered);
    WAIT_FOR(w, l->change_answered);
    if (l->changed.code)
        fail_msg("%s", l->changed.text);
}

static void start_cluster(struct world *w, unsigned n)
{
    start(&w->servers[1], true);
    WAIT_FOR(w, leader(w));
    for (unsigned i = 2; i <= n; i++) {
        start(&w->servers[i], false);
        add(w, &w->servers[i]);
        WAIT_FOR(w, consensus_self(w->servers[i].consensus) == CONSENSUS_VOTER);
    }
}

static enum consensus_outcome propose(struct server *s, const char *text)
{
    s->answered = false;
    consensus_propose(s->consensus, text, strlen(text), on_done, NULL);
    WAIT_FOR(s->world, s->answered);
    return s->outcome;
}

static bool same_state(struct server *a, struct server *b)
{
    return a->state.len == b->state.len && !memcmp(a->state.data, b->state.data, a->state.len);
}

static struct consensus_member member(struct server *at, uint64_t id)
{
    struct consensus_member members[8];
    size_t n = consensus_members(at->consensus, members, 8);
    for (size_t i = 0; i < n; i++)
        if (members[i].id == id)
            return members[i];
    return (struct consensus_member){0};
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);
    strcpy(w->directory, "/tmp/mentat-cluster-XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    assert_int_equal(uv_loop_init(&w->loop), 0);
    uv_timer_init(&w->loop, &w->timer);
    uv_timer_start(&w->timer, on_timer, 10, 10);    /* so that waiting looks again */
    for (unsigned i = 1; i <= SERVERS; i++) {
        struct server *s = &w->servers[i];
        *s = (struct server){.world = w, .number = i, .id = i * 100};
        snprintf(s->directory, sizeof s->directory, "%s/%u", w->directory, i);
    }
    w->options = (struct consensus_options){
        .loop = &w->loop, .cluster_id = CLUSTER, .listen = "127.0.0.1:0", .callbacks = &callbacks, .reserve_bytes = 1,
        .election_timeout_ms = 800 * (unsigned)patience(), .heartbeat_ms = 80,
        .segment_bytes = 256 * 1024, .release = "1.0", .command_version = 1,
    };
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (unsigned i = 1; i <= SERVERS; i++) {
        struct server *s = &w->servers[i];
        if (s->consensus)
            stop(s);
        buf_free(&s->state);
        tls_context_free(s->tls);
    }
    uv_close((uv_handle_t *)&w->timer, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    if (w->ca.key)
        authority_free(&w->ca);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->directory);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

/* --- the cluster --- */

static void three_servers_apply_the_same_and_outlive_the_leader(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    struct server *first = leader(w);
    for (int i = 0; i < 50; i++) {
        char text[16];
        snprintf(text, sizeof text, "line %d", i);
        assert_int_equal(propose(first, text), CONSENSUS_COMMITTED);
    }
    for (unsigned i = 1; i <= 3; i++)
        WAIT_FOR(w, same_state(&w->servers[i], first));
    stop(first);
    WAIT_FOR(w, leader(w));
    struct server *second = leader(w);
    assert_int_equal(propose(second, "after"), CONSENSUS_COMMITTED);
    assert_non_null(strstr(second->state.data, "line 49\nafter\n"));
    start(first, false);
    WAIT_FOR(w, same_state(first, second));
}

static void a_follower_refuses_and_knows_the_leader(void **state)
{
    struct world *w = *state;
    start_cluster(w, 2);
    struct server *l = leader(w), *f = l == &w->servers[1] ? &w->servers[2] : &w->servers[1];
    assert_int_equal(propose(f, "x"), CONSENSUS_NOT_LEADER);
    const char *address;
    char expected[32];
    address_of(l, expected);
    assert_int_equal(consensus_leader(f->consensus, &address), l->id);
    assert_string_equal(address, expected);
    f->change_answered = false;
    consensus_remove(f->consensus, l->id, on_changed, NULL);
    WAIT_FOR(w, f->change_answered);
    assert_int_equal(f->changed.code, ERROR_UNAVAILABLE);
    struct consensus_stats stats;
    consensus_stats(f->consensus, &stats);
    assert_true(stats.leader_contact_ms >= 0);
}

static void the_leader_tells_about_its_members(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    struct server *l = leader(w);
    propose(l, "x");
    for (unsigned i = 1; i <= 3; i++) {
        struct server *s = &w->servers[i];
        WAIT_FOR(w, member(l, s->id).lag == 0 && member(l, s->id).connected);
        struct consensus_member m = member(l, s->id);
        assert_int_equal(m.membership, CONSENSUS_VOTER);
        assert_string_equal(m.release, "1.0");
        assert_true(m.match_index > 0 && m.next_index == m.match_index + 1);
        assert_int_equal(m.self, s == l);
        assert_int_equal(m.leader, s == l);
        assert_true(m.contact_ms >= 0);
        assert_true(s->members_changed > 0);
    }
    WAIT_FOR(w, consensus_command_version(l->consensus) == 1);
    WAIT_FOR(w, consensus_lease_ms(l->consensus) > 0);
}

/* Also of entries that are no commands: what waits for the others to have all would wait for the next command. */
static void the_leader_knows_how_far_the_others_have_applied_the_log(void **state)
{
    struct world *w = *state;
    struct consensus_stats stats;
    start_cluster(w, 3);
    struct server *l = leader(w), *gone = l == &w->servers[1] ? &w->servers[2] : &w->servers[1];
    assert_int_equal(propose(l, "x"), CONSENSUS_COMMITTED);
    consensus_stats(l->consensus, &stats);
    for (unsigned i = 1; i <= 3; i++)
        WAIT_FOR(w, member(l, w->servers[i].id).applied_index == stats.applied_index);
    l->change_answered = false;
    consensus_remove(l->consensus, gone->id, on_changed, NULL);
    WAIT_FOR(w, l->change_answered);
    assert_int_equal(l->changed.code, ERROR_NONE);
    for (unsigned i = 1; i <= 3; i++)
        if (&w->servers[i] != gone)
            WAIT_FOR(w, member(l, w->servers[i].id).applied_index > stats.applied_index);
}

static void the_lowest_version_of_all_members_counts(void **state)
{
    struct world *w = *state;
    w->options.command_version = 5;
    start_cluster(w, 2);
    assert_int_equal(consensus_command_version(leader(w)->consensus), 5);
    w->options.command_version = 3;
    w->options.release = "0.9";
    start(&w->servers[3], false);
    add(w, &w->servers[3]);
    WAIT_FOR(w, consensus_command_version(leader(w)->consensus) == 3);
    assert_string_equal(member(leader(w), 300).release, "0.9");
}

static void without_a_majority_nothing_is_committed_and_the_leader_steps_down(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    struct server *l = leader(w);
    for (unsigned i = 1; i <= 3; i++)
        if (&w->servers[i] != l)
            stop(&w->servers[i]);
    assert_int_equal(propose(l, "lost"), CONSENSUS_UNKNOWN);
    assert_false(leads(l));
    assert_int_equal(consensus_lease_ms(l->consensus), 0);
    for (unsigned i = 1; i <= 3; i++)
        if (!w->servers[i].consensus)
            start(&w->servers[i], false);
    WAIT_FOR(w, leader(w));
    assert_int_equal(propose(leader(w), "kept"), CONSENSUS_COMMITTED);
}

static void leadership_is_transferred_and_barriers_are_answered(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    struct server *l = leader(w), *to = l == &w->servers[2] ? &w->servers[3] : &w->servers[2];
    l->answered = false;
    consensus_barrier(l->consensus, on_done, NULL);
    WAIT_FOR(w, l->answered);
    assert_int_equal(l->outcome, CONSENSUS_COMMITTED);
    l->change_answered = false;
    consensus_transfer(l->consensus, to->id, on_changed, NULL);
    WAIT_FOR(w, l->change_answered);
    if (l->changed.code)
        fail_msg("%s", l->changed.text);
    WAIT_FOR(w, leads(to));
    assert_int_equal(propose(to, "x"), CONSENSUS_COMMITTED);
    to->change_answered = false;
    consensus_transfer(to->consensus, 12345, on_changed, NULL);
    WAIT_FOR(w, to->change_answered);
    assert_int_equal(to->changed.code, ERROR_NOT_FOUND);
}

static void members_are_removed_the_leader_too(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    for (int left = 2; left >= 1; left--) {
        WAIT_FOR(w, leader(w));
        struct server *l = leader(w);
        WAIT_FOR(w, consensus_lease_ms(l->consensus) > 0);
        l->change_answered = false;
        consensus_remove(l->consensus, l->id, on_changed, NULL);
        WAIT_FOR(w, l->change_answered);
        if (l->changed.code)
            fail_msg("%s", l->changed.text);
        WAIT_FOR(w, consensus_self(l->consensus) == CONSENSUS_NO_MEMBER && !leads(l));
        WAIT_FOR(w, leader(w) && consensus_members(leader(w)->consensus, NULL, 0) == (size_t)left);
    }
    struct server *last = leader(w);
    assert_int_equal(propose(last, "alone"), CONSENSUS_COMMITTED);
    last->change_answered = false;
    consensus_remove(last->consensus, last->id, on_changed, NULL);
    WAIT_FOR(w, last->change_answered);
    assert_int_equal(last->changed.code, ERROR_CONFLICT);
}

static void a_removal_that_would_cost_the_majority_is_refused(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    struct server *l = leader(w), *down = l == &w->servers[3] ? &w->servers[2] : &w->servers[3];
    struct server *other = &w->servers[6 - l->number - down->number];
    stop(down);
    WAIT_FOR(w, member(l, down->id).contact_ms > w->options.election_timeout_ms);
    l->change_answered = false;
    consensus_remove(l->consensus, other->id, on_changed, NULL);
    WAIT_FOR(w, l->change_answered);
    assert_int_equal(l->changed.code, ERROR_UNAVAILABLE);
    l->change_answered = false;
    consensus_remove(l->consensus, down->id, on_changed, NULL);
    WAIT_FOR(w, l->change_answered);
    assert_int_equal(l->changed.code, 0);
}

static void a_standby_that_is_down_is_not_promoted(void **state)
{
    struct world *w = *state;
    w->options.manual_promotion = true;
    start(&w->servers[1], true);
    WAIT_FOR(w, leader(w));
    start(&w->servers[2], false);
    add(w, &w->servers[2]);
    struct server *l = leader(w);
    WAIT_FOR(w, member(l, 200).lag == 0);
    assert_int_equal(member(l, 200).membership, CONSENSUS_STANDBY);
    l->change_answered = false;
    consensus_promote(l->consensus, 200, on_changed, NULL);
    WAIT_FOR(w, l->change_answered);
    assert_int_equal(l->changed.code, 0);
    assert_int_equal(member(l, 200).membership, CONSENSUS_VOTER);
    start(&w->servers[3], false);
    add(w, &w->servers[3]);
    stop(&w->servers[3]);
    l->change_answered = false;
    consensus_promote(l->consensus, 300, on_changed, NULL);
    WAIT_FOR(w, l->change_answered);
    assert_int_equal(l->changed.code, ERROR_TIMEOUT);
    assert_int_equal(propose(l, "goes on"), CONSENSUS_COMMITTED);
    l->change_answered = false;
    consensus_add(l->consensus, 300, "127.0.0.1:9", on_changed, NULL);
    WAIT_FOR(w, l->change_answered);
    assert_int_equal(l->changed.code, ERROR_EXISTS);
}

static void take_snapshot(struct server *s)
{
    struct consensus_stats before, now;
    consensus_stats(s->consensus, &before);
    consensus_snapshot_soon(s->consensus);
    do {
        uv_run(&s->world->loop, UV_RUN_ONCE);
        consensus_stats(s->consensus, &now);
    } while (now.snapshot_index == before.snapshot_index);
}

static void a_newcomer_gets_a_large_snapshot_in_parts(void **state)
{
    struct world *w = *state;
    w->options.trailing_entries = 1;
    for (unsigned i = 1; i <= 3; i++)
        w->servers[i].fat = 9 * 1000 * 1000;
    start_cluster(w, 1);
    for (int i = 0; i < 20; i++)
        propose(&w->servers[1], "before");
    take_snapshot(&w->servers[1]);
    propose(&w->servers[1], "behind");
    start(&w->servers[2], false);
    add(w, &w->servers[2]);
    WAIT_FOR(w, consensus_self(w->servers[2].consensus) == CONSENSUS_VOTER);
    WAIT_FOR(w, same_state(&w->servers[1], &w->servers[2]));
    assert_int_equal(w->servers[2].restores, 1);
    struct server *s = &w->servers[2];
    stop(s);
    start(s, false);
    assert_int_equal(s->restores, 2);
    WAIT_FOR(w, same_state(&w->servers[1], s));
}

static void a_server_with_another_address_is_found_again(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    struct server *l = leader(w), *moved = l == &w->servers[3] ? &w->servers[2] : &w->servers[3];
    char before[32], after[32];
    address_of(moved, before);
    stop(moved);
    do {
        if (moved->consensus)
            stop(moved);
        start(moved, false);
        address_of(moved, after);
    } while (!strcmp(before, after));
    WAIT_FOR(w, leader(w) && !strcmp(member(leader(w), moved->id).address, after));
    assert_int_equal(propose(leader(w), "found"), CONSENSUS_COMMITTED);
    WAIT_FOR(w, same_state(moved, leader(w)));
}

static void after_the_loss_of_a_majority_one_server_is_recovered(void **state)
{
    struct world *w = *state;
    start_cluster(w, 3);
    assert_int_equal(propose(leader(w), "kept"), CONSENSUS_COMMITTED);
    for (unsigned i = 2; i <= 3; i++)
        WAIT_FOR(w, same_state(&w->servers[1], &w->servers[i]) && w->servers[1].state.len);
    for (unsigned i = 1; i <= 3; i++)
        stop(&w->servers[i]);
    struct server *s = &w->servers[2];
    struct consensus_directory d;
    struct error err = {0};
    assert_int_equal(consensus_inspect(s->directory, &d, &err), 0);
    assert_int_equal(d.server_id, 200);
    assert_int_equal(d.cluster_id, CLUSTER);
    assert_int_equal(d.voters, 3);
    assert_int_equal(d.self, CONSENSUS_VOTER);
    assert_int_equal(consensus_recover(s->directory, "127.0.0.1:1", &err), 0);
    start(s, false);
    WAIT_FOR(w, leads(s));
    assert_string_equal(s->state.data, "kept\n");
    assert_int_equal(consensus_members(s->consensus, NULL, 0), 1);
    assert_int_equal(propose(s, "again"), CONSENSUS_COMMITTED);
    start(&w->servers[4], false);
    add(w, &w->servers[4]);
    WAIT_FOR(w, consensus_self(w->servers[4].consensus) == CONSENSUS_VOTER);
    WAIT_FOR(w, same_state(s, &w->servers[4]));
}

static void an_empty_directory_tells_that_it_must_join(void **state)
{
    struct world *w = *state;
    struct server *s = &w->servers[1];
    struct consensus_directory d;
    struct error err = {0};
    assert_int_equal(consensus_inspect(s->directory, &d, &err), 0);
    assert_int_equal(d.server_id, 0);
    assert_int_equal(consensus_recover(s->directory, "127.0.0.1:1", &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    struct consensus_options o = options_of(s, false);
    o.cluster_id = 0;
    assert_int_equal(consensus_start(&s->consensus, &o, &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.text, "join"));
    s->consensus = NULL;
}

/* --- strangers --- */

static int connect_to(struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)consensus_port(s->consensus)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* Sends, and collects what comes back until the other side closes. */
static void knock(struct server *s, const struct buf *bytes, struct buf *answer)
{
    struct world *w = s->world;
    int fd = connect_to(s);
    size_t sent = 0;
    bool over = false;
    int64_t end = time_monotonic_ms() + patience_ms();
    while (!over) {
        assert_true(time_monotonic_ms() < end);
        ssize_t n = sent < bytes->len ? send(fd, bytes->data + sent, bytes->len - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t)n : 0;
        uv_run(&w->loop, UV_RUN_NOWAIT);
        char part[4096];
        n = recv(fd, part, sizeof part, MSG_DONTWAIT);
        if (n > 0)
            buf_add(answer, part, (size_t)n);
        over = n == 0 || (n < 0 && errno != EAGAIN);
    }
    close(fd);
}

static void put_frame(struct buf *out, enum wire_kind kind, const struct buf *content)
{
    wire_frame(out, kind, content->data, content->len);
    buf_add(out, content->data ? content->data : "", content->len);
}

static void put_hello(struct buf *out, uint64_t cluster, uint64_t from, uint64_t to)
{
    CLEANUP_BUF struct buf content = {0};
    struct wire_greeting g = {.cluster_id = cluster, .from = from, .to = to, .command_version = 1, .release = "x"};
    wire_put_greeting(&content, &g);
    put_frame(out, WIRE_HELLO, &content);
}

static void put_message(struct buf *out, const struct message *m)
{
    CLEANUP_BUF struct buf content = {0};
    message_encode(&content, m);
    put_frame(out, WIRE_MESSAGE, &content);
}

static uint64_t term_of(struct server *s)
{
    struct consensus_stats stats;
    consensus_stats(s->consensus, &stats);
    return stats.term;
}

static void expect_refusal(struct server *s, const struct buf *bytes, const char *why)
{
    uint64_t term = term_of(s);
    CLEANUP_BUF struct buf answer = {0};
    knock(s, bytes, &answer);
    bool found = answer.len && memmem(answer.data, answer.len, why, strlen(why));
    if (!found)
        fail_msg("%s was not the reason (%zu bytes: %.*s)", why, answer.len, answer.len > 16 ? (int)answer.len - 16 : 0,
                 answer.len > 16 ? answer.data + 16 : "");
    assert_int_equal(term_of(s), term);
    assert_true(leads(s));
    assert_int_equal(propose(s, "still here"), CONSENSUS_COMMITTED);
}

static void strangers_are_refused_with_a_reason_and_change_nothing(void **state)
{
    struct world *w = *state;
    start_cluster(w, 1);
    struct server *s = &w->servers[1];
    struct buf b = {0};
    buf_add_string(&b, "GET / HTTP/1.1\r\nHost: mentat\r\n\r\n");
    expect_refusal(s, &b, "not the protocol");

    buf_clear(&b);
    put_hello(&b, 78, 200, 100);
    expect_refusal(s, &b, "belongs to cluster 78");

    buf_clear(&b);
    put_hello(&b, CLUSTER, 100, 100);
    expect_refusal(s, &b, "id of this one");

    buf_clear(&b);
    put_hello(&b, CLUSTER, 200, 300);
    expect_refusal(s, &b, "this is server 100, not 300");

    buf_clear(&b);
    struct message vote = {.type = MESSAGE_VOTE, .term = 99, .vote = {.last_index = 1000, .last_term = 98}};
    put_message(&b, &vote);
    expect_refusal(s, &b, "before the greeting");

    buf_clear(&b);
    put_hello(&b, CLUSTER, 200, 100);
    b.data[b.len - 1] ^= 1;
    expect_refusal(s, &b, "damaged");

    buf_clear(&b);
    buf_add_u32(&b, 5000);      /* a greeting that long */
    buf_add_u32(&b, WIRE_HELLO);
    buf_add_u64(&b, 0);
    expect_refusal(s, &b, "more than the 4096");

    buf_clear(&b);
    put_hello(&b, CLUSTER, 200, 100);
    buf_add_u32(&b, UINT32_MAX);
    buf_add_u32(&b, WIRE_MESSAGE);
    buf_add_u64(&b, 0);
    expect_refusal(s, &b, "a frame of 4294967295 bytes");

    buf_clear(&b);
    put_hello(&b, CLUSTER, 200, 100);
    struct buf nonsense = {0};
    buf_add_string(&nonsense, "\x03nonsense");
    put_frame(&b, WIRE_MESSAGE, &nonsense);
    buf_free(&nonsense);
    expect_refusal(s, &b, "malformed message of type 3");
    buf_free(&b);
}

/* Without certificates whoever reaches the port may say that it is a server; as no member, it moves nothing. */
static void one_that_is_no_member_cannot_move_the_term(void **state)
{
    struct world *w = *state;
    start_cluster(w, 1);
    struct server *s = &w->servers[1];
    uint64_t term = term_of(s);
    int fd = connect_to(s);
    CLEANUP_BUF struct buf b = {0};
    put_hello(&b, CLUSTER, 999, 100);
    struct message messages[] = {
        {.type = MESSAGE_VOTE, .term = 99, .vote = {.last_index = 1000, .last_term = 98}},
        {.type = MESSAGE_VOTE, .term = term + 1, .vote = {.last_index = 1000, .last_term = 98, .transfer = true}},
        {.type = MESSAGE_APPEND, .term = 99},
        {.type = MESSAGE_APPEND_ANSWER, .term = 99},
        {.type = MESSAGE_VOTE_ANSWER, .term = 99},
        {.type = MESSAGE_CHUNK, .term = 99, .chunk = {.index = 1000, .last_term = 9, .total = 10}},
        {.type = MESSAGE_CHUNK_ANSWER, .term = 99, .chunk_answer = {.index = 1}},
        {.type = MESSAGE_TAKE_OVER, .term = 99},
    };
    for (size_t i = 0; i < ARRAY_LEN(messages); i++)
        put_message(&b, &messages[i]);
    assert_int_equal(send(fd, b.data, b.len, MSG_NOSIGNAL), b.len);
    pass(w, 300);
    assert_int_equal(term_of(s), term);
    assert_true(leads(s));
    close(fd);
}

/* --- certificates --- */

static struct tls_context *certificate(struct world *w, const char *file, uint64_t id, const struct authority *by)
{
    char names[64];
    snprintf(names, sizeof names, "DNS:%llu.server.mentat", (unsigned long long)id);
    authority_issue(w->directory, file, by, names, 24);
    CLEANUP_FREE char *cert = certs_path(w->directory, file, "crt");
    CLEANUP_FREE char *key = certs_path(w->directory, file, "key");
    CLEANUP_FREE char *ca = certs_path(w->directory, "ca", "crt");
    struct error err = {0};
    struct tls_context *tls = tls_context_new(&(struct tls_options){cert, key, ca, TLS_CLIENT_CERT_REQUIRED}, &err);
    if (!tls)
        fail_msg("%s", err.text);
    return tls;
}

static void certificates_bind_servers_to_their_ids(void **state)
{
    struct world *w = *state;
    w->ca = authority_make(w->directory, "ca");
    for (unsigned i = 1; i <= 3; i++) {
        char file[16];
        snprintf(file, sizeof file, "server-%u", i);
        w->servers[i].tls = certificate(w, file, w->servers[i].id, &w->ca);
    }
    start_cluster(w, 3);
    struct server *l = leader(w);
    assert_int_equal(propose(l, "secret"), CONSENSUS_COMMITTED);
    for (unsigned i = 1; i <= 3; i++)
        WAIT_FOR(w, same_state(&w->servers[i], l));

    /* Server 4 has the certificate of 3, and 5 one of another authority: neither is let in. */
    w->servers[4].tls = tls_context_hold(w->servers[3].tls);
    struct authority other = authority_make(w->directory, "other-ca");
    w->servers[5].tls = certificate(w, "server-5", 500, &other);
    authority_free(&other);
    for (unsigned i = 4; i <= 5; i++) {
        start(&w->servers[i], false);
        add(w, &w->servers[i]);
    }
    uint64_t term = term_of(l);
    pass(w, 1500);
    for (unsigned i = 4; i <= 5; i++) {
        assert_false(member(l, w->servers[i].id).connected);
        assert_int_equal(member(l, w->servers[i].id).contact_ms, -1);
        assert_int_equal(w->servers[i].state.len, 0);
    }
    assert_true(leads(l));
    assert_int_equal(term_of(l), term);
    assert_int_equal(propose(l, "goes on"), CONSENSUS_COMMITTED);
}

static void without_certificates_plain_tcp_must_be_allowed(void **state)
{
    struct world *w = *state;
    struct server *s = &w->servers[1];
    struct consensus_options o = options_of(s, true);
    o.insecure = false;
    struct error err = {0};
    assert_int_equal(consensus_start(&s->consensus, &o, &err), -1);
    assert_non_null(strstr(err.text, "certificates"));
    s->consensus = NULL;
    o.insecure = true;
    o.listen = "nowhere:1";
    assert_int_equal(consensus_start(&s->consensus, &o, &err), -1);
    assert_non_null(strstr(err.text, "IP address"));
    s->consensus = NULL;
}

int main(void)
{
    log_init("test", getenv("MENTAT_TEST_LOG") ? LOG_DEBUG : LOG_FATAL);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(three_servers_apply_the_same_and_outlive_the_leader),
        T(a_follower_refuses_and_knows_the_leader),
        T(the_leader_tells_about_its_members),
        T(the_leader_knows_how_far_the_others_have_applied_the_log),
        T(the_lowest_version_of_all_members_counts),
        T(without_a_majority_nothing_is_committed_and_the_leader_steps_down),
        T(leadership_is_transferred_and_barriers_are_answered),
        T(members_are_removed_the_leader_too),
        T(a_removal_that_would_cost_the_majority_is_refused),
        T(a_standby_that_is_down_is_not_promoted),
        T(a_newcomer_gets_a_large_snapshot_in_parts),
        T(a_server_with_another_address_is_found_again),
        T(after_the_loss_of_a_majority_one_server_is_recovered),
        T(an_empty_directory_tells_that_it_must_join),
        T(strangers_are_refused_with_a_reason_and_change_nothing),
        T(one_that_is_no_member_cannot_move_the_term),
        T(certificates_bind_servers_to_their_ids),
        T(without_certificates_plain_tcp_must_be_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
