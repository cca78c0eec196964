/* The real consensus, 1 to 5 servers and others that come and go, in virtual time, from a seed.
 *
 *   consensus-sim [--seeds N] [--first S] [--seed S] [--break MODE] [--verbose]
 *
 * What happens to them: kill and power failure at any moment, also in the middle of a disk operation, with what was not
 * synced kept, lost or torn; slow and full disks; messages late, lost, twice and out of order; connections that break;
 * partitions of every shape, one-way too; processes that are stopped for seconds; clocks that run at different speeds;
 * members added, removed, promoted, replaced; leadership transferred; snapshots to those that lag.
 * What must hold: consensus_oracle.c. In the end, without faults, the cluster serves again and all states are equal.
 *
 * --break MODE makes a part lie, to prove that the oracle notices: sync, names (disks that do not sync), vote (a vote is
 * forgotten), clock (clocks at half and double speed), state (one that is not the same everywhere), wipe (a server comes
 * back under its id without its disk). */
#include <stdarg.h>
#include <string.h>

#include "base/log.h"
#include "consensus_world.h"

struct world *world;
struct totals totals;
bool verbose;
enum break_mode break_mode;
static const char *const break_names[] = {"none", "sync", "names", "vote", "clock", "state", "wipe"};

static void print_server(const struct server *s)
{
    printf("  server %u (id %llu)%s%s%s", s->slot, (unsigned long long)s->id, s->gone ? " gone" : "",
           s->leaving ? " leaving" : "", s->consensus ? "" : " down\n");
    if (!s->consensus)
        return;
    const struct raft *r = consensus_raft(s->consensus);
    printf(" %s term %llu leader %llu log %llu-%llu stored %llu commit %llu applied %llu%s\n",
           consensus_role_name(consensus_role(s->consensus)), (unsigned long long)r->term, (unsigned long long)r->leader,
           (unsigned long long)r->log.first, (unsigned long long)raft_log_last(&r->log), (unsigned long long)r->stored,
           (unsigned long long)r->commit, (unsigned long long)r->applied, r->installing ? " installing" : "");
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct raft_peer *p = &r->peers[i];
        const struct server *other = server_by_id(p->id);
        printf("    to %u: %s%s progress %d next %llu match %llu%s%s%s\n", other->slot, p->voter ? "voter" : "standby",
               p->departing ? " departing" : "", (int)p->progress, (unsigned long long)p->next,
               (unsigned long long)p->match, p->probing ? " probing" : "",
               s->links[other->slot].connected ? " connected" : "", s->links[other->slot].blocked ? " blocked" : "");
    }
}

void violated(const char *cond, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    for (unsigned i = 0; verbose && i < world->n_servers; i++)
        print_server(world->servers[i]);
    fflush(stdout);
    fprintf(stderr, "seed %llu: violated at %s:%d: %s: ", (unsigned long long)world->seed, file, line, cond);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\nreplay: build/tests/sim/consensus-sim --seed %llu --verbose%s%s\n",
            (unsigned long long)world->seed, break_mode ? " --break " : "", break_mode ? break_names[break_mode] : "");
    va_end(ap);
    exit(1);
}

void say(const char *fmt, ...)
{
    if (!verbose)
        return;
    va_list ap;
    va_start(ap, fmt);
    printf("%10.3f  ", (double)world->now_us / 1e6);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

uint64_t some_time(uint64_t about_us)
{
    uint64_t t = about_us / 2 + pick(about_us + 1);
    return one_in(30) ? t * 5 : t;
}

/* --- the events, by time --- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void push(struct event e)
{
    struct world *w = world;
    if (w->n_heap == w->cap_heap) {
        w->cap_heap = w->cap_heap ? w->cap_heap * 2 : 1024;
        w->heap = mem_realloc_array(w->heap, w->cap_heap, sizeof w->heap[0]);
    }
    size_t i = w->n_heap++;
    for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event pop(void)
{
    struct world *w = world;
    struct event top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap)
            break;
        if (child + 1 < w->n_heap && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

void schedule(uint64_t in_us, struct event e)
{
    e.at_us = world->now_us + in_us;
    e.order = world->orders++;
    push(e);
}

static void drop_event(const struct event *e)
{
    if (e->type == EVENT_DELIVER)
        network_free_message(e->message);
}

/* --- who is there --- */

static bool runs(const struct server *s)
{
    return s->consensus && !s->closing && s->paused_until_us <= world->now_us;
}

static struct server *any(bool (*good)(const struct server *s))
{
    unsigned n = 0;
    for (unsigned i = 0; i < world->n_servers; i++)
        n += good(world->servers[i]);
    if (!n)
        return NULL;
    uint64_t k = pick(n);
    for (unsigned i = 0; i < world->n_servers; i++)
        if (good(world->servers[i]) && !k--)
            return world->servers[i];
    return NULL;
}

static bool leads(const struct server *s)
{
    return runs(s) && consensus_role(s->consensus) == CONSENSUS_LEADER;
}

static bool is_up(const struct server *s) { return s->consensus && !s->closing; }
static bool exists(const struct server *s) { return !s->gone; }

static struct server *leader(void) { return any(leads); }

/* --- clients --- */

static void client(void)
{
    struct server *s = one_in(3) ? any(runs) : leader();
    if (s && one_in(6))
        server_barrier(s);
    if (s)
        for (uint64_t n = 1 + (one_in(5) ? pick(20) : pick(3)); n > 0; n--)
            server_propose(s, one_in(8) ? pick(6000) : pick(300));
    uint64_t pause = world->profile.quiet && one_in(8) ? pick(3000000) : 0;
    schedule(some_time(world->profile.client_us) + pause, (struct event){.type = EVENT_CLIENT});
}

/* --- members that come and go --- */

static void on_changed(void *ctx, void *request, const struct error *err)
{
    say("%s: %s", (const char *)request, err ? err->text : "done");
}

static unsigned newcomers(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < world->n_servers; i++) {
        const struct server *s = world->servers[i];
        n += !s->gone && !s->leaving && (!s->consensus || consensus_self(s->consensus) == CONSENSUS_NO_MEMBER);
    }
    return n;
}

/* Its last words reach some at most. */
static void strike_the_leader(struct server *l)
{
    if (world->calm || !one_in(3))
        return;
    bool none = one_in(2);
    for (unsigned i = 0; i < world->n_servers; i++)
        if (world->servers[i] != l && (none || one_in(2)))
            network_block(l, world->servers[i], true);
}

/* Asks the leader to take in whoever is there and no member. */
static void add_newcomers(void)
{
    struct server *l = leader();
    for (unsigned i = 0; l && i < world->n_servers; i++) {
        struct server *s = world->servers[i];
        if (s->gone || s->leaving || consensus_is_member(l->consensus, s->id) || !is_up(s))
            continue;
        char address[32];
        snprintf(address, sizeof address, "server-%llu", (unsigned long long)s->id);
        say("add server %u", s->slot);
        totals.adds++;
        consensus_add(l->consensus, s->id, address, on_changed, (char *)"add");
        strike_the_leader(l);
    }
}

static bool all_agree(size_t *voters)
{
    struct server *l = leader();
    if (!l)
        return false;
    const struct membership *m = raft_membership(consensus_raft(l->consensus));
    *voters = membership_voters(m);
    if (*voters != m->n)
        return false;
    for (size_t i = 0; i < m->n; i++) {
        const struct server *s = server_by_id(m->members[i].id);
        if (!is_up(s) || !membership_equal(m, raft_membership(consensus_raft(s->consensus))) ||
            consensus_raft(s->consensus)->commit < raft_membership_as_of(consensus_raft(l->consensus), UINT64_MAX)->index)
            return false;
    }
    return true;
}

static void remove_server(struct server *s)
{
    struct server *l = leader();
    if (!l || !consensus_is_member(l->consensus, s->id))
        return;
    say("remove server %u", s->slot);
    totals.removes++;
    s->leaving = true;
    consensus_remove(l->consensus, s->id, on_changed, (char *)"remove");
    strike_the_leader(l);
}

static bool is_leaving(const struct server *s) { return s->leaving && !s->gone; }

/* Its removal was asked for and is committed, as far as the leader knows: its process ends now or later. */
static void end_of_the_removed(void)
{
    struct server *s = any(is_leaving), *l = leader();
    if (!s || !l || consensus_is_member(l->consensus, s->id) || l == s ||
        raft_membership_as_of(consensus_raft(l->consensus), UINT64_MAX)->index > consensus_raft(l->consensus)->commit)
        return;
    if (world->dead == s)
        world->dead = NULL;
    s->gone = true;
    if (s->consensus)
        server_crash(s);
}

/* One whose state went wrong. */
static void corrupt(struct server *s)
{
    say("server %u: its state is another one from now on", s->slot);
    totals.corruptions++;
    world->dead = s;
    s->leaving = true;
    s->corrupt = true;
}

static void change_members(void)
{
    size_t voters;
    struct server *s;
    switch (pick(6)) {
    case 0:
        if (world->n_servers < SERVERS_MAX && newcomers() < 2)
            say("server %u is new", server_new(false)->slot);
        break;
    case 1:
        add_newcomers();
        break;
    case 2:
        s = world->dead ? world->dead : any(is_leaving);
        if (!s && all_agree(&voters) && voters > 1)
            s = one_in(3) ? leader() : any(is_up);
        if (s)
            remove_server(s);
        break;
    case 3:
        if (all_agree(&voters) && voters >= 3 && !world->dead && !any(is_leaving) && (s = any(is_up)) &&
            consensus_self(s->consensus) == CONSENSUS_VOTER) {
            if (one_in(2)) {
                corrupt(s);
                break;
            }
            say("server %u and its disk are gone for good", s->slot);
            totals.replacements++;
            world->dead = s;
            s->leaving = true;
            server_crash(s);
            s->paused_until_us = UINT64_MAX;
        }
        break;
    default:
        end_of_the_removed();
    }
}

/* --- faults --- */

static void heal(void)
{
    for (unsigned i = 0; i < world->n_servers; i++)
        for (unsigned k = 0; k < world->n_servers; k++)
            if (i != k)
                network_block(world->servers[i], world->servers[k], false);
}

static void partition(void)
{
    totals.partitions++;
    uint64_t shape = pick(4), one_way = pick(2), side = pick(1u << world->n_servers);
    say("partition of shape %llu", (unsigned long long)shape);
    for (unsigned i = 0; i < world->n_servers; i++)
        for (unsigned k = 0; k < world->n_servers; k++) {
            bool apart = shape == 0   ? (side >> i & 1) != (side >> k & 1)                   /* two halves */
                         : shape == 1 ? one_in(3)                                            /* any pairs */
                         : shape == 2 ? i == side % world->n_servers || k == side % world->n_servers   /* one alone */
                                      : (side >> i & 1) && !(side >> k & 1);                 /* one way */
            if (i != k && apart && (!one_way || i < k))
                network_block(world->servers[i], world->servers[k], true);
        }
}

static void disk_trouble(struct server *s)
{
    switch (pick(4)) {
    case 0:
        if (world->profile.disk_faults && s->consensus) {
            totals.disk_faults++;
            virtual_disk_fail_after(s->disk, 1 + (unsigned)pick(30));
        }
        break;
    case 1:
        totals.slow_disks++;
        s->disk_us = 5000 + pick(one_in(2) ? 50000 : 400000);
        break;
    case 2:
        totals.full_disks += !s->full;
        s->full = !s->full;
        virtual_disk_set_capacity(s->disk, virtual_disk_used(s->disk) + (s->full ? pick(2 * RESERVE_BYTES)
                                                                                 : 64 * RESERVE_BYTES));
        break;
    default:
        s->disk_us = 300 + pick(3000);
    }
}

static void fault(void)
{
    struct server *s = any(exists), *other = any(exists);
    switch (pick(world->profile.changes ? 20 : 14)) {
    case 0:
    case 1:
        if (s->consensus) {
            totals.kills++;
            server_crash(s);
        }
        break;
    case 2:
        if ((s = leader())) {
            totals.kills++;
            server_crash(s);
        }
        break;
    case 3:
        server_stop(s);
        break;
    case 4:
        if (s->consensus) {
            totals.pauses++;
            say("server %u: stands still", s->slot);
            s->paused_until_us = world->now_us + pick(3000000);
        }
        break;
    case 5:
    case 6:
        partition();
        break;
    case 7:
    case 8:
        heal();
        break;
    case 9:
    case 10:
        disk_trouble(s);
        break;
    case 11:
        if (s != other)
            network_break(s, other);
        break;
    case 12:
        if ((s = leader()) && other->consensus) {
            totals.transfers++;
            consensus_transfer(s->consensus, one_in(2) ? 0 : other->id, on_changed, (char *)"transfer");
        }
        break;
    case 13:
        if (s->consensus)
            consensus_snapshot_soon(s->consensus);
        break;
    default:
        change_members();
    }
    schedule(some_time(world->profile.fault_us), (struct event){.type = EVENT_FAULT});
}

/* --- the course of a seed --- */

static void take(const struct event *e)
{
    struct server *s = e->server;
    if (e->type == EVENT_CLIENT || e->type == EVENT_FAULT) {
        if (world->calm)
            return;
        if (e->type == EVENT_CLIENT)
            client();
        else
            fault();
        oracle_compare_logs();
        return;
    }
    if (e->life != s->life || (e->type != EVENT_START && !s->consensus) || s->gone) {
        drop_event(e);
        return;
    }
    if (s->paused_until_us > world->now_us) {
        struct event later = *e;
        if (s->paused_until_us != UINT64_MAX) {
            later.at_us = s->paused_until_us;
            push(later);
        } else {
            drop_event(e);
        }
        return;
    }
    server_event(s, e);
}

static void run_until(uint64_t at_us, bool (*enough)(void))
{
    uint64_t steps = 0;
    while (world->n_heap && world->heap[0].at_us <= at_us) {
        struct event e = pop();
        CHECK(e.at_us > world->now_us || ++steps < 200000, "time stands still");
        if (e.at_us > world->now_us)
            steps = 0;
        world->now_us = e.at_us;
        take(&e);
        if (enough && enough())
            return;
    }
    world->now_us = at_us;
}

static struct profile choose_profile(void)
{
    struct profile p = {
        .servers = (unsigned)(one_in(6) ? 1 : one_in(3) ? 5 : 3),
        .seconds = 8 + pick(12),
        .client_us = one_in(3) ? 5000 + pick(20000) : 30000 + pick(100000),
        .fault_us = one_in(10) ? 0 : 100000 + pick(900000),
        .net_us = one_in(4) ? 10000 + pick(40000) : 100 + pick(2000),
        .wild = one_in(3),
        .fat = one_in(6),
        .changes = one_in(2),
        .disk_faults = one_in(2),
        .message_bytes = one_in(2) ? 500 + pick(4000) : 0,
        .quiet = one_in(3),
    };
    return p;
}

static bool all_members(void)
{
    struct server *l = leader();
    if (!l)
        return false;
    const struct membership *m = raft_membership(consensus_raft(l->consensus));
    return m->n >= world->profile.servers && membership_voters(m) == m->n;
}

/* The first server makes the cluster, the others are added to it. */
static void build_cluster(void)
{
    server_new(true);
    for (unsigned i = 1; i < world->profile.servers; i++)
        server_new(false);
    for (int i = 0; i < 200 && !all_members(); i++) {
        add_newcomers();
        run_until(world->now_us + 200000, all_members);
    }
    CHECK(all_members(), "the cluster does not come together");
}

static bool at_rest(void)
{
    struct server *l = leader();
    if (!l)
        return false;
    const struct raft *r = consensus_raft(l->consensus);
    const struct membership *m = raft_membership(r);
    for (size_t i = 0; i < m->n; i++) {
        const struct server *s = server_by_id(m->members[i].id);
        if (!s->consensus || consensus_raft(s->consensus)->applied != raft_log_last(&r->log) ||
            !consensus_raft(s->consensus)->leader)
            return false;
    }
    for (size_t i = 0; i < world->n_commands; i++)
        if (world->commands[i].fate == FATE_OPEN)
            return false;
    return true;
}

static void calm_down(void)
{
    say("no more faults");
    world->calm = true;
    heal();
    for (unsigned i = 0; i < world->n_servers; i++) {
        struct server *s = world->servers[i];
        s->full = false;
        virtual_disk_fail_after(s->disk, 0);
        virtual_disk_set_capacity(s->disk, UINT64_MAX / 2);
        s->disk_us = 500;
        if (s->paused_until_us != UINT64_MAX && s->paused_until_us > world->now_us)
            s->paused_until_us = world->now_us;
        schedule(0, (struct event){.type = EVENT_START, .server = s, .life = s->life});
    }
}

static bool has_leader(void) { return leader(); }

static bool dead_is_member(void)
{
    return world->dead && (!leader() || consensus_is_member(leader()->consensus, world->dead->id));
}

/* Who lost its disk never comes back: it has to be removed. */
static void remove_the_dead(void)
{
    for (int i = 0; i < 20 && dead_is_member(); i++) {
        remove_server(world->dead);
        run_until(world->now_us + 1000000, NULL);
    }
    CHECK(!dead_is_member(), "server %u cannot be removed", world->dead->slot);
}

static void end(void)
{
    calm_down();
    run_until(world->now_us + 15000000, NULL);
    run_until(world->now_us + 15000000, has_leader);
    CHECK(leader(), "without faults there is no leader after 30 seconds");
    remove_the_dead();
    /* A leader may just be about to be deposed by a clock that ran ahead: one of a few commands is taken. */
    struct command *last = NULL;
    for (int i = 0; i < 5 && leader(); i++) {
        last = server_propose(leader(), 100);
        run_until(world->now_us + 5000000, at_rest);
        if (!last || last->fate == FATE_ACKNOWLEDGED)
            break;
        run_until(world->now_us + 5000000, has_leader);
    }
    CHECK(!last || last->fate == FATE_ACKNOWLEDGED, "no command is taken any more");
    run_until(world->now_us + 20000000, at_rest);
    CHECK(at_rest(), "the members do not come to rest in the same state");
    oracle_end(leader());
    world->over = true;
    for (unsigned i = 0; i < world->n_servers; i++)
        server_stop(world->servers[i]);
}

static bool all_down(void)
{
    for (unsigned i = 0; i < world->n_servers; i++)
        if (world->servers[i]->consensus)
            return false;
    return true;
}

static void run_seed(uint64_t seed)
{
    world = NEW(struct world);
    world->seed = seed;
    world->random.state = hash_mix(seed);
    world->now_us = 1000000;
    world->profile = choose_profile();
    totals.seeds++;
    say("servers %u, seconds %llu, faults every %llu ms, messages take %llu us%s%s%s%s", world->profile.servers,
        (unsigned long long)world->profile.seconds, (unsigned long long)world->profile.fault_us / 1000,
        (unsigned long long)world->profile.net_us, world->profile.wild ? ", wild" : "", world->profile.fat ? ", fat" : "",
        world->profile.changes ? ", changes" : "", world->profile.disk_faults ? ", disk faults" : "");
    world->calm = true;
    build_cluster();
    world->calm = false;
    schedule(0, (struct event){.type = EVENT_CLIENT});
    if (world->profile.fault_us)
        schedule(0, (struct event){.type = EVENT_FAULT});
    run_until(world->now_us + world->profile.seconds * 1000000, NULL);
    end();
    run_until(world->now_us + 5000000, all_down);
    CHECK(all_down(), "a server does not stop");
    while (world->n_heap) {
        struct event e = pop();
        drop_event(&e);
    }
    for (unsigned i = 0; i < world->n_servers; i++)
        server_free(world->servers[i]);
    free(world->heap);
    free(world);
}

static void print_totals(void)
{
    static const struct {
        const char *name;
        const uint64_t *value;
    } rows[] = {
#define ROW(f) {#f, &totals.f}
        ROW(seeds), ROW(lives), ROW(crashes), ROW(kills), ROW(stops), ROW(disk_faults), ROW(slow_disks), ROW(full_disks),
        ROW(pauses), ROW(partitions), ROW(messages), ROW(lost), ROW(elections), ROW(transfers), ROW(adds), ROW(removes),
        ROW(replacements), ROW(corruptions), ROW(snapshots), ROW(restores), ROW(proposals), ROW(acknowledged), ROW(refused), ROW(no_space),
        ROW(unknown), ROW(barriers), ROW(lease_checks),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        printf("%s%s=%llu", i ? " " : "", rows[i].name, (unsigned long long)*rows[i].value);
    printf("\n");
}

static int usage(void)
{
    fprintf(stderr, "usage: consensus-sim [--seeds N] [--first S] [--seed S] [--verbose] [--break "
            "sync|names|vote|clock|state|wipe]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, seeds = 200;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--verbose")) {
            verbose = true;
            continue;
        }
        if (!strcmp(argv[i], "--seeds")) {
            seeds = strtoull(value, NULL, 10);
        } else if (!strcmp(argv[i], "--first")) {
            first = strtoull(value, NULL, 10);
        } else if (!strcmp(argv[i], "--seed")) {
            first = strtoull(value, NULL, 10);
            seeds = 1;
        } else if (!strcmp(argv[i], "--break")) {
            for (size_t k = 1; k < ARRAY_LEN(break_names); k++)
                if (!strcmp(value, break_names[k]))
                    break_mode = (enum break_mode)k;
            if (!break_mode)
                return usage();
        } else {
            return usage();
        }
        i++;
    }
    log_init("sim", verbose ? LOG_DEBUG : LOG_FATAL);
    for (uint64_t seed = first; seed < first + seeds; seed++)
        run_seed(seed);
    print_totals();
    return 0;
}
