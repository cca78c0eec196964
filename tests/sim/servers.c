/* Servers: what consensus promises and no more. There is one log. Its committed part never changes; what lies behind may
 * be lost with the leader that wrote it. Servers apply what is committed, each in its own time, restart from their
 * snapshots, or are sent the leader's. A new leader first applies all that it has in its log; who led before may go on
 * deciding for a while, to no effect. Between any two commands any of this may happen. */
#include <string.h>

#include "breaks.h"
#include "world.h"

static struct server *leader(struct world *w)
{
    return w->s.leader == NO_LEADER ? NULL : &w->s.v[w->s.leader];
}

int64_t servers_now(const struct world *w)
{
    return w->now + (w->s.leader == NO_LEADER ? 0 : w->s.v[w->s.leader].skew);
}

struct core *servers_core(struct world *w)
{
    return leader(w) ? leader(w)->core : w->s.front;
}

static void draw_clock(struct world *w, struct server *s)
{
    s->skew = chance(w, 50) ? 0 : (int64_t)random_below(&w->r, 4000) - 2000;
    if (chance(w, 5))
        s->skew = (int64_t)random_below(&w->r, 1200000) - 600000;
}

void servers_init(struct world *w)
{
    w->s.n = w->k.servers;
    for (uint32_t i = 0; i < w->s.n; i++) {
        w->s.v[i].core = core_new();
        draw_clock(w, &w->s.v[i]);
    }
    w->s.front = w->s.v[0].core;
    w->s.term = 1;
}

static void origin_clear(struct origin *o)
{
    if (o->report)
        type_free(&agent_report_type, o->report);
    o->report = NULL;
}

static void entry_clear(struct entry *e)
{
    free(e->bytes);
    origin_clear(&e->origin);
}

void servers_clear(struct world *w)
{
    for (uint32_t i = 0; i < w->s.n; i++) {
        core_free(w->s.v[i].core);
        buf_free(&w->s.v[i].kept);
    }
    for (uint32_t i = 0; i < w->s.n_log; i++)
        entry_clear(&w->s.log[i]);
    free(w->s.log);
}

/* --- applying --- */

/* Whoever proposed it in this term hears of it, unless the answer is lost on the way. */
static void answer(struct world *w, struct entry *e, const struct core_result *r)
{
    bool done = r->error.code == ERROR_NONE, heard = w->k.calm || !chance(w, 3);
    switch (e->origin.asker) {
    case ASKER_LEADER:
        w->s.deciding = false;
        break;
    case ASKER_CLIENT:
        if (heard)
            buf_clear(&w->repeat);
        break;
    case ASKER_REGISTER:
        if (heard)
            agent_registered(w, e->origin.node, done);
        break;
    case ASKER_REPORT:
        if (heard && done)
            agent_ack(w, e->origin.node, e->origin.report);
        break;
    case ASKER_PROXY:
        if (heard && done)
            proxy_ack(w, e->origin.node, e->origin.version);
        break;
    case ASKER_NONE:
        break;
    }
    origin_clear(&e->origin);
}

static void apply_next(struct world *w, struct server *s)
{
    struct entry *e = &w->s.log[s->applied++];
    struct core_result r;
    bool missed = broken == BREAK_LOG && s->applied <= w->s.seen && chance(w, 1);
    core_apply(s->core, e->index, missed ? "" : e->bytes, missed ? 0 : e->len, &r);
    if (s->applied > w->s.seen) {
        w->s.seen = s->applied;
        w->s.front = s->core;
        e->hash = core_hash(s->core);
        if (w->k.verbose)
            show_applied(w, e, &r);
        check_applied(w, s->core, e, &r);
    } else if (core_hash(s->core) != e->hash) {
        world_fail(w, "two servers differ after command %llu", (unsigned long long)e->index);
    }
    if (s == leader(w) && e->term == w->s.term)
        answer(w, e, &r);
    core_result_clear(&r);
}

static void apply_until(struct world *w, struct server *s, uint32_t end)
{
    while (s->applied < end && !world_failed(w))
        apply_next(w, s);
}

/* --- leaders --- */

static void lose_leader(struct world *w)
{
    struct servers *s = &w->s;
    uint32_t kept = s->committed + (uint32_t)random_below(&w->r, s->n_log - s->committed + 1);
    count(w, COUNT_LEADERS_LOST);
    for (uint32_t i = s->committed; i < s->n_log; i++) {
        bool decision = s->log[i].origin.asker == ASKER_LEADER;
        if (i >= kept)
            count(w, decision ? COUNT_DECISIONS_LOST : COUNT_COMMANDS_LOST);
        else if (decision)
            count(w, COUNT_DECISIONS_INHERITED);
    }
    while (s->n_log > kept)
        entry_clear(&s->log[--s->n_log]);
    s->leader = NO_LEADER;
    s->deciding = false;
}

static void elect(struct world *w, uint32_t who)
{
    struct server *s = &w->s.v[who];
    w->s.committed = w->s.n_log;
    s->stuck = false;
    apply_until(w, s, w->s.committed);
    w->s.leader = who;
    w->s.term++;
    w->s.led_since = w->now;
    count(w, COUNT_LEADERS);
}

/* It was cut off and does not know that another leads, or that it could be: what it decides goes nowhere. */
static void decide_in_vain(struct world *w)
{
    uint32_t who = (uint32_t)random_below(&w->r, w->s.n);
    CLEANUP_BUF struct buf command = {0};
    if (who != w->s.leader && core_decide(w->s.v[who].core, w->now + w->s.v[who].skew, random_next(&w->r), &command))
        count(w, COUNT_DECISIONS_IN_VAIN);
}

/* --- snapshots --- */

static void keep_snapshot(struct world *w, struct server *s)
{
    buf_clear(&s->kept);
    core_snapshot(s->core, &s->kept);
    s->kept_at = s->applied;
    count(w, COUNT_SNAPSHOTS);
}

static void restore(struct world *w, struct server *s, const struct buf *snapshot, uint32_t at)
{
    CLEANUP_BUF struct buf again = {0};
    struct error err = {0};
    if (core_restore(s->core, snapshot->data, snapshot->len, &err)) {
        world_fail(w, "restore: %s", err.text);
        return;
    }
    s->applied = at;
    core_snapshot(s->core, &again);
    if (again.len != snapshot->len || memcmp(again.data, snapshot->data, again.len) != 0)
        world_fail(w, "a restored core differs from the one that its snapshot was taken of");
}

/* What it had applied behind its snapshot is applied again. */
static void restart_server(struct world *w, struct server *s)
{
    bool front = w->s.front == s->core;
    uint32_t before = s->applied;
    if (s == leader(w))
        lose_leader(w);
    core_free(s->core);
    s->core = core_new();
    s->applied = 0;
    count(w, COUNT_SERVER_RESTARTS);
    if (s->kept.len)
        restore(w, s, &s->kept, s->kept_at);
    if (front)                               /* there is always one that has all that was seen */
        apply_until(w, s, before);
    if (front)
        w->s.front = s->core;
    draw_clock(w, s);
}

static void send_snapshot(struct world *w)
{
    struct server *from = leader(w), *to = &w->s.v[random_below(&w->r, w->s.n)];
    CLEANUP_BUF struct buf snapshot = {0};
    if (!from || to->applied >= from->applied)
        return;
    core_snapshot(from->core, &snapshot);
    restore(w, to, &snapshot, from->applied);
    count(w, COUNT_SNAPSHOTS_SENT);
}

/* --- time between two events --- */

static void trouble(struct world *w)
{
    struct server *any = &w->s.v[random_below(&w->r, w->s.n)];
    switch (random_below(&w->r, 8)) {
    case 0:
    case 1:
        if (w->s.leader != NO_LEADER)
            lose_leader(w);
        break;
    case 2: restart_server(w, any); break;
    case 3: keep_snapshot(w, any); break;
    case 4: send_snapshot(w); break;
    case 5: any->stuck = any != leader(w) && !any->stuck; break;
    case 6: decide_in_vain(w); break;
    default: draw_clock(w, any);
    }
}

static uint32_t some_of(struct world *w, uint32_t from, uint32_t to)
{
    return from + (uint32_t)random_below(&w->r, to - from + 1);
}

static void turn(struct world *w)
{
    struct servers *s = &w->s;
    bool alone = s->n == 1 || w->k.calm;
    if (!w->k.calm && random_below(&w->r, 1000) < (alone ? w->k.trouble / 5 : w->k.trouble))
        trouble(w);
    if (s->leader == NO_LEADER && (alone || chance(w, 50)))
        elect(w, (uint32_t)random_below(&w->r, s->n));
    if (s->leader != NO_LEADER)
        s->committed = alone || chance(w, 75) ? s->n_log : some_of(w, s->committed, s->n_log);
    for (uint32_t i = 0; i < s->n; i++) {
        struct server *v = &s->v[i];
        if (alone || (!v->stuck && chance(w, i == s->leader ? 85 : 60)))
            apply_until(w, v, s->committed);
        else if (!v->stuck)
            apply_until(w, v, some_of(w, v->applied, s->committed));
    }
}

/* --- what they do --- */

void servers_propose(struct world *w, const void *bytes, size_t len, struct origin origin)
{
    struct servers *s = &w->s;
    if (s->leader == NO_LEADER) {
        origin_clear(&origin);
        turn(w);
        return;
    }
    if (s->n_log == s->cap_log) {
        s->cap_log = s->cap_log ? s->cap_log * 2 : 64;
        s->log = mem_realloc_array(s->log, s->cap_log, sizeof(*s->log));
    }
    uint64_t last = s->n_log ? s->log[s->n_log - 1].index : 0;
    uint64_t gap = chance(w, 5) ? random_below(&w->r, 3) : 0;      /* entries of consensus itself */
    s->log[s->n_log++] = (struct entry){.index = last + 1 + gap, .term = s->term, .bytes = mem_dup(bytes, len),
                                        .len = len, .origin = origin};
    s->deciding |= origin.asker == ASKER_LEADER;
    turn(w);
}

void servers_command(struct world *w, struct command *c, struct origin origin)
{
    CLEANUP_BUF struct buf bytes = {0};
    c->time = servers_now(w);
    command_encode(c, &bytes);
    command_clear(c);
    servers_propose(w, bytes.data, bytes.len, origin);
}

/* A decision turns up much later (again), as no consensus would let it: what no longer holds must be noticed. */
static void delay(struct world *w, const struct buf *decision)
{
    world_post(w, (struct message){.at = w->now + (int64_t)random_below(&w->r, 20000), .len = decision->len,
                                   .decision = mem_dup(decision->data, decision->len)});
}

void servers_decide(struct world *w)
{
    turn(w);
    for (int round = 0; round < 1000 && !world_failed(w); round++) {
        struct server *s = leader(w);
        CLEANUP_BUF struct buf command = {0};
        if (!s || w->s.deciding)
            return;
        uint64_t at = s->applied ? w->s.log[s->applied - 1].index : 0;
        if (!core_decide(s->core, servers_now(w), random_next(&w->r), &command)) {
            check_decided(w, s->core);
            return;
        }
        check_decision(w, s->core, command.data, command.len);
        uint64_t luck = w->k.calm ? 100 : random_below(&w->r, 100);
        if (luck < 4)
            delay(w, &command);
        if (luck < 2 || luck == 4) {
            count(w, COUNT_DECISIONS_LOST);      /* the disk is full, say */
            return;
        }
        servers_propose(w, command.data, command.len, (struct origin){.asker = ASKER_LEADER, .decided_at = at});
    }
    if (!world_failed(w))
        world_fail(w, "the leader decides again and again without an end");
}

/* --- the end --- */

void servers_calm(struct world *w)
{
    w->k.calm = true;
    for (uint32_t i = 0; i < w->s.n; i++) {
        w->s.v[i].stuck = false;
        w->s.v[i].skew = 0;
    }
    turn(w);
}

static void compare(struct world *w, const struct buf *to, const struct core *c, const char *what)
{
    CLEANUP_BUF struct buf bytes = {0};
    core_snapshot(c, &bytes);
    if (bytes.len != to->len || memcmp(bytes.data, to->data, to->len) != 0)
        world_fail(w, "the state of %s differs", what);
}

static void compare_replay(struct world *w, const struct buf *to)
{
    struct core *c = core_new();
    struct core_result r;
    for (uint32_t i = 0; i < w->s.n_log; i++) {
        core_apply(c, w->s.log[i].index, w->s.log[i].bytes, w->s.log[i].len, &r);
        core_result_clear(&r);
    }
    compare(w, to, c, "a replay of the log");
    core_free(c);
}

void servers_compare(struct world *w)
{
    CLEANUP_BUF struct buf first = {0};
    core_snapshot(w->s.v[0].core, &first);
    for (uint32_t i = 1; i < w->s.n; i++)
        compare(w, &first, w->s.v[i].core, "a server");
    if (w->s.n == 1)
        compare_replay(w, &first);
}
