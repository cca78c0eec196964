#include "server/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "join/credentials.h"
#include "net/http_client.h"
#include "server/authority.h"
#include "server/dispatch.h"
#include "server/formation.h"
#include "server/knock.h"
#include "server/leader.h"
#include "server/peers.h"
#include "server/snapshots.h"

#define LOOK_MS 500
#define SAY_AGAIN_MS 1000
#define ANNOUNCE_MS 5000
#define STRANGER_MS 30000
#define SERVERS_LEAST 3             /* below that none is removed by itself */
#define MEMBERS_MOST 64
#define SILENT_MS (CONTACT_MS + 1000)   /* who did not answer for so long knows itself that it is not in contact */

struct cluster {
    struct control *c;
    uv_timer_t timer;
    struct proposal self;
    bool saying;                    /* what this server is, one way or the other */
    int64_t say_after_ms;
    uint32_t next;                  /* without a leader: whom to tell */
    bool removing;                  /* a dead server */
    uint64_t leaving;               /* this leader removes itself: says nothing of itself any more */
    int64_t leads_since_ms;
    int64_t contact_ms;             /* when it was last in contact with a leader */
    bool lost;                      /* it is not, and those who wait for changes were told so */
    uint64_t stranger;              /* a server of the state that is not in the membership, and since when */
    int64_t stranger_since_ms;
    uint64_t unheard;               /* a member that this leader never heard of, and since when */
    int64_t unheard_since_ms;
};

struct member_rows { struct consensus_member v[MEMBERS_MOST]; size_t n; };

static struct member_rows rows_of(const struct control *c)
{
    struct member_rows rows;
    rows.n = c->consensus ? consensus_members(c->consensus, rows.v, MEMBERS_MOST) : 0;
    if (rows.n > MEMBERS_MOST)
        rows.n = MEMBERS_MOST;
    return rows;
}

static const struct member *member_of(const struct control *c, uint64_t id)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, id);
    return core_member(c->core, text);
}

const char *cluster_lacks(const struct control *c, uint64_t index)
{
    int64_t led_ms = time_monotonic_ms() - c->cluster->leads_since_ms;
    struct member_rows rows = rows_of(c);
    for (size_t i = 0; i < rows.n; i++) {
        const struct consensus_member *m = &rows.v[i];
        int64_t silent_ms = m->contact_ms < 0 ? led_ms : m->contact_ms;
        bool cut_off = silent_ms > SILENT_MS && !m->connected;       /* connected: what it says is lost, but it hears this leader */
        if (m->self || m->applied_index >= index || cut_off)
            continue;
        const struct member *known = member_of(c, m->id);
        return known && known->name ? known->name : m->address;
    }
    return NULL;
}

static char *borrow(const char *s)
{
    return (char *)(uintptr_t)s;
}

/* --- what this server is --- */

static uint64_t own_id(const struct control *c)
{
    struct consensus_stats stats;
    control_stats(c, &stats);
    return stats.server_id ? stats.server_id : formation_server_id(c);
}

static struct member self(const struct control *c, char id[static 24])
{
    snprintf(id, 24, "%" PRIu64, own_id(c));
    struct member m = {.id = id, .name = c->config->name, .address = c->addresses->api, .raft_address = c->addresses->raft,
                       .version = borrow(command_release), .level = command_level};
    if (c->credentials)
        m.certificate = credentials_state(c->credentials);
    return m;
}

void cluster_introduce(const struct control *c, struct join_request *out)
{
    char id[24];
    struct member m = self(c, id);
    struct consensus_stats stats;
    control_stats(c, &stats);
    *out = (struct join_request){.id = mem_strdup(id), .name = mem_strdup(m.name), .address = mem_strdup(m.address),
                                 .raft_address = mem_strdup(m.raft_address), .version = mem_strdup(m.version),
                                 .level = m.level, .token = mem_strdup(formation_token(c)),
                                 .certificate = {.mark = mem_strdup(m.certificate.mark), .until = m.certificate.until}};
    if (stats.cluster_id)
        out->cluster_id = mem_printf("%" PRIu64, stats.cluster_id);
}

static bool known(const struct control *c, const struct member *m)
{
    const struct member *k = core_member(c->core, m->id);
    return k && !strcmp(k->name, m->name) && !strcmp(k->address, m->address) &&
           !strcmp(k->raft_address, m->raft_address) && k->version && !strcmp(k->version, m->version) &&
           k->level == m->level && type_equal(&certificate_state_type, &k->certificate, &m->certificate);
}

static void on_said(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct cluster *u = c->cluster;
    struct error err;
    u->saying = false;
    u->say_after_ms = time_monotonic_ms() + SAY_AGAIN_MS;
    if (proposal_error(c, p, outcome, &err) && outcome == CONSENSUS_COMMITTED)
        LOG_E("the cluster does not take this server as what it is", "error", err.text);
    core_result_clear(&p->result);
}

static void say_as_leader(struct cluster *u, const struct member *m)
{
    struct control *c = u->c;
    struct consensus_stats stats;
    char cluster[24];
    CLEANUP_BUF struct buf command = {0};
    control_stats(c, &stats);
    snprintf(cluster, sizeof cluster, "%" PRIu64, stats.cluster_id);
    struct command_member_set payload = {.member = *m, .cluster = cluster};
    command_encode_payload(COMMAND_MEMBER_SET, time_now_ms(), NULL, NULL, &payload, &command);
    u->saying = true;
    control_propose(c, &u->self, command.data, command.len, on_said);
}

static void on_announced(void *ctx, int status, const struct buf *body, const struct error *err)
{
    struct cluster *u = ctx;
    struct error refused;
    u->saying = false;
    u->say_after_ms = time_monotonic_ms() + SAY_AGAIN_MS;
    if (status >= 200 && status < 300)
        return;
    if (err)
        refused = *err;
    else
        http_refusal(status, body, &refused);
    u->next++;
    LOG_W("the cluster could not be told what this server is", "error", refused.text);
}

/* The leader, else whoever may know it. NULL: nobody is known. */
static const char *whom_to_tell(const struct cluster *u)
{
    const struct control *c = u->c;
    const struct member *leader = control_leader(c);
    if (leader)
        return leader->address;
    const struct str_list *others = formation_addresses(c);
    return others->n ? others->v[u->next % others->n] : NULL;
}

static void announce(struct cluster *u)
{
    struct control *c = u->c;
    const char *address = whom_to_tell(u);
    if (!address)
        return;
    struct join_request body;
    CLEANUP_BUF struct buf text = {0};
    cluster_introduce(c, &body);
    type_to_json(&join_request_type, &body, &text);
    type_clear(&join_request_type, &body);
    u->saying = true;
    peer_call(c, HTTP_METHOD_POST, address, "/v1/cluster/servers", &text, ANNOUNCE_MS, on_announced, u);
}

void cluster_look(struct control *c)
{
    struct cluster *u = c->cluster;
    char id[24];
    if (!c->consensus || !u || u->saying || u->leaving || c->stopping || time_monotonic_ms() < u->say_after_ms)
        return;
    enum consensus_membership in = consensus_self(c->consensus);
    struct member m = self(c, id);
    if (in != CONSENSUS_NO_MEMBER)
        formation_end(c);
    if (in == CONSENSUS_NO_MEMBER ? !formation_is_joining(c) : known(c, &m))
        return;
    if (c->role == CONSENSUS_LEADER)
        say_as_leader(u, &m);
    else if (c->role == CONSENSUS_FOLLOWER && (in == CONSENSUS_NO_MEMBER || control_in_contact(c)))
        announce(u);
}

/* --- removal --- */

struct removal {
    struct proposal proposal;
    struct control *c;
    uint64_t id;
    char *reason;
    bool self;                      /* the leader itself: out of the state first, while it can still write there */
    cluster_done *done;
    void *ctx;
};

static void removal_end(struct removal *r, const struct error *err)
{
    core_result_clear(&r->proposal.result);
    if (r->self && err)
        r->c->cluster->leaving = 0;
    r->done(r->ctx, err);
    free(r->reason);
    free(r);
}

static void removal_out_of_membership(struct removal *r);

static void on_out_of_state(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct removal *r = container_of(p, struct removal, proposal);
    struct error err;
    bool failed = proposal_error(c, p, outcome, &err) && err.code != ERROR_NOT_FOUND;
    if (failed || !r->self)
        removal_end(r, failed ? &err : NULL);
    else
        removal_out_of_membership(r);
}

static void removal_out_of_state(struct removal *r)
{
    char id[24];
    CLEANUP_BUF struct buf command = {0};
    snprintf(id, sizeof id, "%" PRIu64, r->id);
    const struct member *m = core_member(r->c->core, id);
    struct certificate_state none = {0};
    struct command_member_remove payload = {.id = id, .reason = r->reason,
                                            .revoked_until = authority_revoked_until(r->c, m ? &m->certificate : &none)};
    command_encode_payload(COMMAND_MEMBER_REMOVE, time_now_ms(), NULL, NULL, &payload, &command);
    control_propose(r->c, &r->proposal, command.data, command.len, on_out_of_state);
}

static void on_out_of_membership(void *ctx, void *request, const struct error *err)
{
    struct removal *r = request;
    /* One that never got as far as the membership is still known by name. */
    bool failed = err && err->code != ERROR_NOT_FOUND;
    if (failed || r->self)
        removal_end(r, failed ? err : NULL);
    else
        removal_out_of_state(r);
}

static void removal_out_of_membership(struct removal *r)
{
    consensus_remove(r->c->consensus, r->id, on_out_of_membership, r);
}

void cluster_remove(struct control *c, uint64_t id, const char *reason, cluster_done *done, void *ctx)
{
    struct removal *r = NEW(struct removal);
    *r = (struct removal){.c = c, .id = id, .reason = mem_strdup(reason), .self = id == own_id(c), .done = done, .ctx = ctx};
    LOG_I("removing a server", "id", LOG_U64(id), "reason", reason);
    if (r->self) {
        c->cluster->leaving = id;
        removal_out_of_state(r);
    } else {
        removal_out_of_membership(r);
    }
}

/* --- what the leader removes by itself --- */

static void on_dead_removed(void *ctx, const struct error *err)
{
    struct cluster *u = ctx;
    u->removing = false;
    if (err)
        LOG_W("a dead server could not be removed", "error", err->text);
}

/* After a recovery, or a join or removal that was cut off: they are forgotten, unless they come in soon. */
static void forget_strangers(struct cluster *u)
{
    struct control *c = u->c;
    struct member_rows rows = rows_of(c);
    const char *after = NULL;
    uint64_t stranger = 0;
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id) {
        uint64_t id = strtoull(m->id, NULL, 10);
        bool in = false;
        for (size_t i = 0; i < rows.n; i++)
            in |= rows.v[i].id == id;
        stranger = in ? stranger : id;
    }
    int64_t now = time_monotonic_ms();
    if (!stranger || stranger != u->stranger || c->role != CONSENSUS_LEADER) {
        u->stranger = stranger;
        u->stranger_since_ms = now;
    } else if (!u->removing && !c->stopping && now - u->stranger_since_ms >= STRANGER_MS) {
        u->removing = true;
        cluster_remove(c, stranger, "it is not in the membership", on_dead_removed, u);
    }
}

/* Only when as many voters as there shall be are well without it. One that this leader never heard of may have come a moment
 * ago: it counts from when it was seen first. */
static void remove_dead(struct cluster *u)
{
    struct control *c = u->c;
    int64_t limit = c->config->dead_server_after_ms, now = time_monotonic_ms();
    if (c->role != CONSENSUS_LEADER) {
        u->leads_since_ms = now;
        u->unheard = 0;
    }
    if (!limit || c->role != CONSENSUS_LEADER)
        return;
    struct member_rows rows = rows_of(c);
    uint64_t dead = 0, unheard = 0;
    int64_t well = 0, least = c->config->expect > SERVERS_LEAST ? c->config->expect : SERVERS_LEAST;
    for (size_t i = 0; i < rows.n; i++) {
        const struct consensus_member *m = &rows.v[i];
        bool silent = !m->self && (m->contact_ms < 0 || m->contact_ms >= limit);
        well += m->membership == CONSENSUS_VOTER && !silent;
        dead = silent && m->contact_ms >= 0 ? m->id : dead;
        unheard = silent && m->contact_ms < 0 ? m->id : unheard;
    }
    if (unheard != u->unheard) {
        u->unheard = unheard;
        u->unheard_since_ms = now;
    }
    if (!dead && unheard && now - u->unheard_since_ms >= limit)
        dead = unheard;
    if (!dead || well < least || u->removing || c->stopping || now - u->leads_since_ms < limit)
        return;
    char time[TIME_TEXT_SIZE];
    duration_format(time, limit);
    CLEANUP_FREE char *reason = mem_printf("it was dead for %s (dead_server_after), and there are %lld others", time,
                                           (long long)well);
    u->removing = true;
    cluster_remove(c, dead, reason, on_dead_removed, u);
}

/* Who waits for a change here would wait for nothing. */
static void end_waits(struct cluster *u)
{
    int64_t now = time_monotonic_ms();
    if (control_in_contact(u->c)) {
        u->contact_ms = now;
        u->lost = false;
    } else if (!u->lost && now - u->contact_ms >= CONTACT_MS) {
        u->lost = true;
        dispatch_lost(u->c);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct cluster *u = timer->data;
    end_waits(u);
    cluster_look(u->c);
    forget_strangers(u);
    remove_dead(u);
}

/* --- questions --- */

uint64_t cluster_find(const struct control *c, const char *text, struct error *err)
{
    struct member_rows rows = rows_of(c);
    char id[24];
    const char *after = NULL;
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id)
        if (!strcmp(m->id, text) || !strcmp(m->name, text))
            return strtoull(m->id, NULL, 10);
    for (size_t i = 0; i < rows.n; i++) {
        snprintf(id, sizeof id, "%" PRIu64, rows.v[i].id);
        if (!strcmp(id, text) || !strcmp(rows.v[i].address, text))
            return rows.v[i].id;
    }
    error_set(err, ERROR_NOT_FOUND, "no server %.64s; `mt cluster status` lists them", text);
    return 0;
}

void cluster_view(const struct control *c, struct server_view_list *out)
{
    struct member_rows rows = rows_of(c);
    for (size_t i = 0; i < rows.n; i++) {
        const struct consensus_member *m = &rows.v[i];
        const struct member *said = member_of(c, m->id);
        struct server_view *v = list_add_zero((struct list *)out, &server_view_type);
        *v = (struct server_view){
            .id = mem_printf("%" PRIu64, m->id), .raft_address = mem_strdup(m->address),
            .membership = mem_strdup(consensus_membership_name(m->membership)), .leader = m->leader, .self = m->self,
            .connected = m->connected || m->self, .contact_ms = m->self ? 0 : m->contact_ms,
            .match_index = m->match_index, .lag = m->lag,
            .version = mem_strdup(said ? said->version : m->release),
        };
        if (said) {
            v->name = mem_strdup(said->name);
            v->address = mem_strdup(said->address);
        }
    }
}

void cluster_status(const struct control *c, struct server_status *out, struct status_texts *t)
{
    struct consensus_stats stats;
    const char *address;
    control_stats(c, &stats);
    snprintf(t->id, sizeof t->id, "%" PRIu64, own_id(c));
    snprintf(t->leader, sizeof t->leader, "%" PRIu64, c->consensus ? consensus_leader(c->consensus, &address) : 0);
    snprintf(t->hash, sizeof t->hash, "%016" PRIx64, core_hash(c->core));
    snprintf(t->cluster, sizeof t->cluster, "%" PRIu64, stats.cluster_id);
    enum consensus_membership in = c->consensus ? consensus_self(c->consensus) : CONSENSUS_NO_MEMBER;
    *out = (struct server_status){
        .id = t->id, .name = c->config->name, .leader = t->leader, .version = borrow(command_release), .state_hash = t->hash,
        .role = borrow(consensus_role_name(c->role)),
        .term = stats.term, .last_index = stats.last_index, .commit_index = stats.commit_index,
        .applied_index = stats.applied_index, .snapshot_index = stats.snapshot_index,
        .snapshot_at = stats.snapshot_time_ms, .started_at = c->started_ms, .log_bytes = stats.log_bytes,
        .disk_free_bytes = stats.disk_free_bytes, .no_space = stats.no_space,
        .hold = borrow(leader_hold(c)), .backup_at = c->backups ? backups_last_ms(c->backups) : 0,
        .backup_problem = c->backups ? borrow(backups_failing(c->backups)) : NULL,
        .cluster_id = stats.cluster_id ? t->cluster : NULL, .membership = borrow(consensus_membership_name(in)),
        .forming = c->forming, .needs_token = formation_needs_token(c), .removed = borrow(knock_removed(c)), .admin_token_file = c->admin_file,
        .makes_certificates = c->credentials != NULL,
        .address = c->addresses->api, .raft_address = c->addresses->raft,
        .leader_contact_ms = c->role == CONSENSUS_LEADER ? 0 : stats.leader_contact_ms,
    };
    struct statvfs disk;            /* only who has led for a while looks at its disk by itself */
    if (!statvfs(c->config->data_dir, &disk))
        out->disk_free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    control_count(c, &out->nodes, &out->services, &out->allocs);
    cluster_view(c, &out->servers);
}

/* --- life --- */

void cluster_start(struct control *c)
{
    struct cluster *u = NEW(struct cluster);
    u->c = c;
    c->cluster = u;
    u->leads_since_ms = u->contact_ms = time_monotonic_ms();
    uv_timer_init(c->loop, &u->timer);
    u->timer.data = u;
    uv_timer_start(&u->timer, on_timer, LOOK_MS, LOOK_MS);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void cluster_stop(struct control *c)
{
    if (c->cluster)
        uv_close((uv_handle_t *)&steal(&c->cluster)->timer, on_timer_closed);
}
