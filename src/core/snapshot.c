/* Snapshot: the replicated state as bytes. Head, then a section for each table, each record with its length. Equal
 * states give equal bytes, since tables are written in their order. Restoring reads everything into a state of its
 * own first; the bytes may come from outside, so every reference in them is checked. */
#include <string.h>

#include "core/ingress.h"
#include "core/keys.h"
#include "core/network.h"
#include "core/state.h"
#include "core/table.h"

#define SNAPSHOT_MAGIC "MENTATS"
/* 1: without servers, join tokens, an upload, the policy, and indexes ahead of the log's; 2: without the ingress, roles and tokens;
 * 3: without secrets */
#define SNAPSHOT_VERSION 4
/* Of what is watched, but for what is derived. */
static const uint32_t kinds_of_version[] = {0, CORE_MEMBER, CORE_INGRESS, CORE_NETWORK, CORE_NETWORK};
#define RECORDS_MOST (1u << 24)

ROWS(alloc_entry, OBJECT(alloc_entry, a, 1, alloc), UINT(alloc_entry, report_seq, 2), UINT(alloc_entry, epoch, 3),
     UINT(alloc_entry, work_index, 4), INT(alloc_entry, run_at, 5), INT(alloc_entry, running_since, 6),
     INT(alloc_entry, ok_since, 7), INT(alloc_entry, ended_at, 8), INT(alloc_entry, restarted_at, 9),
     INT(alloc_entry, restart_from, 10), BOOL(alloc_entry, restarting, 11), BOOL(alloc_entry, every_node, 12),
     BOOL(alloc_entry, task, 13), UINT(alloc_entry, entered_index, 14), INT(alloc_entry, entered_at, 15),
     UINT(alloc_entry, left_index, 16), INT(alloc_entry, left_at, 17), STR_LIST(alloc_entry, idle_at, 18));
TABLE(alloc_entry, alloc_entry_rows, "");
ROWS(node_entry, OBJECT(node_entry, n, 1, node), INT(node_entry, wanted_state, 2), UINT(node_entry, work_index, 3),
     UINT(node_entry, gone_floor, 4), UINT(node_entry, ingress_applied, 5), STRING(node_entry, ingress_problem, 6),
     OBJECT(node_entry, acme, 7, acme_report), UINT(node_entry, challenges_index, 8),
     BOOL(node_entry, ingress_refused, 9));
TABLE(node_entry, node_entry_rows, "");
ROWS(version_entry, OBJECT(version_entry, v, 1, service_version), UINT(version_entry, epoch, 2));
TABLE(version_entry, version_entry_rows, "");
ROWS(side_measure, INT(side_measure, requests, 1), INT(side_measure, errors, 2), LIST(side_measure, latencies, 3, latency));
TABLE(side_measure, side_measure_rows, "");
ROWS(node_measure, STRING(node_measure, node, 1), INT(node_measure, since, 2), OBJECT(node_measure, canary, 3, side_measure),
     OBJECT(node_measure, stable, 4, side_measure), OBJECT(node_measure, canary_before, 5, side_measure),
     OBJECT(node_measure, stable_before, 6, side_measure));
TABLE(node_measure, node_measure_rows, "");
ROWS(deployment_entry, OBJECT(deployment_entry, d, 1, deployment), BOOL(deployment_entry, revert, 2),
     INT(deployment_entry, progress_at, 3), UINT(deployment_entry, epoch, 4), BOOL(deployment_entry, beside, 5),
     BOOL(deployment_entry, promoted, 6), UINT(deployment_entry, from_version, 7),
     UINT(deployment_entry, from_epoch, 8), UINT(deployment_entry, share_index, 9), INT(deployment_entry, share_at, 10),
     BOOL(deployment_entry, held, 11), LIST(deployment_entry, measures, 12, node_measure));
TABLE(deployment_entry, deployment_entry_rows, "");
ROWS(service_entry, STRING(service_entry, name, 1), UINT(service_entry, stable_version, 2),
     UINT(service_entry, last_version, 3), INT(service_entry, generation, 4), INT(service_entry, next_run_at, 5),
     INT(service_entry, run_at, 6), INT(service_entry, unplaced, 7), STRING(service_entry, reason, 8),
     BOOL(service_entry, stopped, 9), BOOL(service_entry, purge, 10), INT(service_entry, position, 11),
     UINT(service_entry, create_index, 12), UINT(service_entry, modify_index, 13),
     BOOL(service_entry, tells_peers, 14));
TABLE(service_entry, service_entry_rows, "");
ROWS(job_entry, STRING(job_entry, name, 1), UINT(job_entry, create_index, 2), UINT(job_entry, modify_index, 3));
TABLE(job_entry, job_entry_rows, "");
ROWS(key_entry, STRING(key_entry, key, 1), UINT(key_entry, payload_hash, 2), INT(key_entry, time, 3),
     INT(key_entry, code, 4), STRING(key_entry, text, 5), STRING(key_entry, body, 6));
TABLE(key_entry, key_entry_rows, "");

ROWS(member_entry, OBJECT(member_entry, m, 1, member));
TABLE(member_entry, member_entry_rows, "");
ROWS(token_entry, OBJECT(token_entry, t, 1, join_token));
TABLE(token_entry, token_entry_rows, "");

/* --- writing --- */

static void add_record(struct buf *out, const struct type *t, const void *object)
{
    CLEANUP_BUF struct buf bytes = {0};
    type_encode(t, object, &bytes);
    buf_add_varint(out, bytes.len);
    buf_add(out, bytes.data, bytes.len);
}

static void add_bytes(struct buf *out, const char *s)
{
    buf_add_varint(out, strlen(s));
    buf_add(out, s, strlen(s));
}

static void write_nodes(const struct core *c, struct buf *out)
{
    struct node_entry *n;
    uint64_t count = 0;
    RB_FOREACH(n, node_id_tree, (struct node_id_tree *)&c->nodes)
        count++;
    buf_add_varint(out, count);
    RB_FOREACH(n, node_id_tree, (struct node_id_tree *)&c->nodes) {
        struct gone_entry *g;
        add_record(out, &node_entry_type, n);
        buf_add_varint(out, n->gone_count);
        STAILQ_FOREACH(g, &n->gone, link) {
            buf_add_varint(out, g->index);
            add_bytes(out, g->id);
        }
    }
}

static void write_service(const struct service_entry *s, struct buf *out)
{
    struct version_entry *v;
    struct deployment_entry *d;
    uint64_t versions = 0, deployments = 0;
    TAILQ_FOREACH(v, &s->versions, link)
        versions++;
    TAILQ_FOREACH(d, &s->deployments, link)
        deployments++;
    add_record(out, &service_entry_type, s);
    buf_add_varint(out, versions);
    TAILQ_FOREACH(v, &s->versions, link)
        add_record(out, &version_entry_type, v);
    buf_add_varint(out, deployments);
    TAILQ_FOREACH(d, &s->deployments, link)
        add_record(out, &deployment_entry_type, d);
}

static void write_jobs(const struct core *c, struct buf *out)
{
    struct job_entry *j;
    struct service_entry *s;
    uint64_t jobs = 0;
    RB_FOREACH(j, job_tree, (struct job_tree *)&c->jobs)
        jobs++;
    buf_add_varint(out, jobs);
    RB_FOREACH(j, job_tree, (struct job_tree *)&c->jobs) {
        uint64_t services = 0;
        TAILQ_FOREACH(s, &j->services, in_job)
            services++;
        add_record(out, &job_entry_type, j);
        buf_add_varint(out, services);
        TAILQ_FOREACH(s, &j->services, in_job)
            write_service(s, out);
    }
}

static void write_rest(const struct core *c, struct buf *out)
{
    struct alloc_entry *a;
    struct key_entry *k;
    uint64_t allocs = 0, first = c->event_count > EVENTS_KEPT ? c->event_count - EVENTS_KEPT : 0;
    RB_FOREACH(a, alloc_id_tree, (struct alloc_id_tree *)&c->allocs)
        allocs++;
    buf_add_varint(out, allocs);
    RB_FOREACH(a, alloc_id_tree, (struct alloc_id_tree *)&c->allocs)
        add_record(out, &alloc_entry_type, a);
    buf_add_varint(out, c->event_count - first);
    for (uint64_t i = first; i < c->event_count; i++)
        add_record(out, &event_type, &c->events[i % EVENTS_KEPT]);
    buf_add_varint(out, HASH_COUNT(c->keys));
    TAILQ_FOREACH(k, &c->key_order, link)
        add_record(out, &key_entry_type, k);
}

static void write_members(const struct core *c, struct buf *out)
{
    struct member_entry *m;
    struct token_entry *t;
    uint64_t members = 0, tokens = 0;
    RB_FOREACH(m, member_tree, (struct member_tree *)&c->members)
        members++;
    buf_add_varint(out, members);
    RB_FOREACH(m, member_tree, (struct member_tree *)&c->members)
        add_record(out, &member_entry_type, m);
    TAILQ_FOREACH(t, &c->tokens, link)
        tokens++;
    buf_add_varint(out, tokens);
    TAILQ_FOREACH(t, &c->tokens, link)
        add_record(out, &token_entry_type, t);
    add_bytes(out, c->staging.upload ? c->staging.upload : "");
    buf_add_varint(out, c->staging.bytes.len);
    buf_add(out, c->staging.bytes.data ? c->staging.bytes.data : "", c->staging.bytes.len);
    buf_add_u64(out, (uint64_t)c->staging.at);
    buf_add_varint(out, c->clusters.n);
    for (uint32_t i = 0; i < c->clusters.n; i++)
        add_bytes(out, c->clusters.v[i]);
}

void core_snapshot(const struct core *c, struct buf *out)
{
    buf_add(out, SNAPSHOT_MAGIC, sizeof(SNAPSHOT_MAGIC) - 1);
    buf_add_u8(out, SNAPSHOT_VERSION);
    buf_add_u64(out, c->index);
    buf_add_u64(out, c->hash);
    buf_add_u64(out, c->event_count);
    for (size_t i = 0; i < kinds_of_version[SNAPSHOT_VERSION]; i++)
        buf_add_u64(out, c->changed[i]);
    buf_add_u64(out, c->ahead);
    write_nodes(c, out);
    write_jobs(c, out);
    write_rest(c, out);
    write_members(c, out);
    add_record(out, &policy_type, &c->policy);
    add_record(out, &access_type, &c->access);
    add_record(out, &secrets_type, &c->secrets);
}

/* --- reading: each returns false on damaged bytes --- */

static bool read_count(struct cursor *in, uint64_t *n)
{
    return cursor_varint(in, n) && *n <= RECORDS_MOST && *n <= cursor_left(in);
}

static bool read_record(struct cursor *in, const struct type *t, void *object)
{
    uint64_t n;
    const uint8_t *p;
    struct error ignored;
    return cursor_varint(in, &n) && n <= cursor_left(in) && cursor_bytes(in, n, &p)
           && type_decode(t, p, n, object, &ignored) == 0;
}

static bool read_gone(struct cursor *in, struct node_entry *n)
{
    uint64_t count;
    if (!read_count(in, &count) || count > GONE_KEPT)
        return false;
    while (count-- > 0) {
        uint64_t index, len;
        const uint8_t *p;
        if (!cursor_varint(in, &index) || !cursor_varint(in, &len) || len > cursor_left(in)
            || !cursor_bytes(in, len, &p))
            return false;
        struct gone_entry *g = NEW(struct gone_entry);
        g->index = index;
        g->id = mem_strndup((const char *)p, len);
        STAILQ_INSERT_TAIL(&n->gone, g, link);
        n->gone_count++;
    }
    return true;
}

static bool read_nodes(struct core *c, struct cursor *in)
{
    uint64_t count;
    if (!read_count(in, &count))
        return false;
    while (count-- > 0) {
        struct node_entry *n = NEW(struct node_entry);
        if (!read_record(in, &node_entry_type, n) || !n->n.id || !n->n.name || !node_volumes_sound(&n->n) || state_node(c, n->n.id)
            || !sched_room_makes_sense(n->n.cpus, n->n.memory_mb, n->n.disk_mb)) {
            type_clear(&node_entry_type, n);
            free(n);
            return false;
        }
        STAILQ_INIT(&n->gone);
        state_add_node(c, n);
        if (!read_gone(in, n))
            return false;
    }
    return true;
}

static bool version_is_sound(const struct service_entry *s, const struct service_version *v)
{
    double cpus;
    int64_t memory_mb, disk_mb;
    if (!v->service || strcmp(v->service, s->name) != 0 || !v->spec.name || strcmp(v->spec.name, s->name) != 0)
        return false;
    sched_demand(&v->spec, &cpus, &memory_mb, &disk_mb);
    return sched_room_makes_sense(cpus, memory_mb, disk_mb) && (!s->current || v->version > s->current->v.version);
}

static bool read_versions(struct core *c, struct cursor *in, struct service_entry *s)
{
    uint64_t count, last = s->last_version;
    if (!read_count(in, &count) || count == 0)
        return false;
    while (count-- > 0) {
        struct version_entry *v = NEW(struct version_entry);
        if (!read_record(in, &version_entry_type, v) || !version_is_sound(s, &v->v)) {
            type_clear(&version_entry_type, v);
            free(v);
            return false;
        }
        state_set_current(c, s, v);
    }
    s->last_version = last;
    return s->current->v.version <= last;
}

static bool read_deployments(struct core *c, struct cursor *in, struct service_entry *s)
{
    uint64_t count;
    if (!read_count(in, &count) || count > DEPLOYMENTS_KEPT)
        return false;
    while (count-- > 0) {
        struct deployment_entry *d = NEW(struct deployment_entry);
        if (!read_record(in, &deployment_entry_type, d) || !d->d.id || state_deployment(c, d->d.id)) {
            type_clear(&deployment_entry_type, d);
            free(d);
            return false;
        }
        state_add_deployment(c, s, d);
    }
    return true;
}

static bool read_service(struct core *c, struct cursor *in, struct job_entry *j)
{
    struct service_entry *facts = type_new(&service_entry_type);
    bool ok = read_record(in, &service_entry_type, facts) && facts->name && !state_service(c, facts->name);
    if (ok) {
        struct service_entry *s = state_add_service(c, facts->name);
        s->stable_version = facts->stable_version;
        s->last_version = facts->last_version;
        s->generation = facts->generation;
        s->next_run_at = facts->next_run_at;
        s->run_at = facts->run_at;
        s->unplaced = facts->unplaced;
        s->reason = steal(&facts->reason);
        s->stopped = facts->stopped;
        s->purge = facts->purge;
        s->tells_peers = facts->tells_peers;
        s->create_index = facts->create_index;
        s->modify_index = facts->modify_index;
        state_move_service(c, s, j, facts->position);
        ok = read_versions(c, in, s) && read_deployments(c, in, s);
    }
    type_free(&service_entry_type, facts);
    return ok;
}

static bool read_jobs(struct core *c, struct cursor *in)
{
    uint64_t jobs, services;
    if (!read_count(in, &jobs))
        return false;
    while (jobs-- > 0) {
        struct job_entry facts = {0};
        struct job_entry *j = NULL;
        if (read_record(in, &job_entry_type, &facts) && facts.name && !state_job(c, facts.name)) {
            j = state_add_job(c, facts.name);
            j->create_index = facts.create_index;
            j->modify_index = facts.modify_index;
        }
        type_clear(&job_entry_type, &facts);
        if (!j || !read_count(in, &services) || services == 0)
            return false;
        while (services-- > 0)
            if (!read_service(c, in, j))
                return false;
    }
    return true;
}

static bool alloc_is_sound(struct core *c, struct alloc_entry *a)
{
    if (!a->a.id || state_alloc(c, a->a.id) || !a->a.job || a->a.replica < 0
        || !sched_room_makes_sense(a->a.cpus, a->a.memory_mb, a->a.disk_mb))
        return false;
    for (uint32_t i = 0; i < a->a.ports.n; i++)
        if (!a->a.ports.v[i].name || a->a.ports.v[i].host < 1 || a->a.ports.v[i].host > 65535)
            return false;
    a->service = state_service(c, a->a.service);
    a->node = state_node(c, a->a.node_id);
    return a->service && a->node;
}

static bool read_allocs(struct core *c, struct cursor *in)
{
    uint64_t count;
    if (!read_count(in, &count))
        return false;
    while (count-- > 0) {
        struct alloc_entry *a = NEW(struct alloc_entry);
        if (!read_record(in, &alloc_entry_type, a) || !alloc_is_sound(c, a)) {
            type_clear(&alloc_entry_type, a);
            free(a);
            return false;
        }
        state_add_alloc(c, a);
    }
    return true;
}

static bool read_events(struct core *c, struct cursor *in)
{
    uint64_t count, first = c->event_count > EVENTS_KEPT ? c->event_count - EVENTS_KEPT : 0;
    if (!read_count(in, &count) || count != c->event_count - first)
        return false;
    for (uint64_t i = first; i < c->event_count; i++)
        if (!read_record(in, &event_type, state_event_slot(c, i)))
            return false;
    return true;
}

static bool read_keys(struct core *c, struct cursor *in)
{
    uint64_t count;
    if (!read_count(in, &count))
        return false;
    while (count-- > 0) {
        struct key_entry *k = NEW(struct key_entry);
        if (!read_record(in, &key_entry_type, k) || !k->key || k->code < 0 || k->code >= ERROR_CODE_COUNT
            || keys_find(c, k->key)) {
            type_free(&key_entry_type, k);
            return false;
        }
        keys_add(c, k);
    }
    return true;
}

static bool read_members(struct core *c, struct cursor *in)
{
    uint64_t members, tokens;
    if (!read_count(in, &members))
        return false;
    while (members-- > 0) {
        struct member_entry *m = NEW(struct member_entry);
        if (!read_record(in, &member_entry_type, m) || !m->m.id || !m->m.name || !m->m.address || !m->m.raft_address
            || state_member(c, m->m.id)) {
            type_free(&member_entry_type, m);
            return false;
        }
        RB_INSERT(member_tree, &c->members, m);
    }
    if (!read_count(in, &tokens))
        return false;
    while (tokens-- > 0) {
        struct token_entry *t = NEW(struct token_entry);
        if (!read_record(in, &token_entry_type, t) || !t->t.id || !t->t.secret_hash) {
            type_free(&token_entry_type, t);
            return false;
        }
        TAILQ_INSERT_TAIL(&c->tokens, t, link);
    }
    return true;
}

/* An empty text comes back as NULL. */
static bool read_text(struct cursor *in, char **out)
{
    uint64_t n;
    const uint8_t *p;
    if (!cursor_varint(in, &n) || n > cursor_left(in) || !cursor_bytes(in, n, &p) || memchr(p, 0, n))
        return false;
    *out = n ? mem_strndup((const char *)p, n) : NULL;
    return true;
}

static bool read_staging(struct core *c, struct cursor *in)
{
    uint64_t bytes, at;
    const uint8_t *p;
    if (!read_text(in, &c->staging.upload) || !cursor_varint(in, &bytes) || bytes > cursor_left(in)
        || !cursor_bytes(in, bytes, &p) || !cursor_u64(in, &at))
        return false;
    buf_add(&c->staging.bytes, p, bytes);
    c->staging.at = (int64_t)at;
    return true;
}

static bool read_clusters(struct core *c, struct cursor *in)
{
    uint64_t count;
    if (!read_count(in, &count))
        return false;
    while (count-- > 0) {
        CLEANUP_FREE char *name = NULL;
        if (!read_text(in, &name) || !name)
            return false;
        str_list_add(&c->clusters, name);
    }
    return true;
}

static bool read_access(struct core *c, struct cursor *in)
{
    if (!read_record(in, &access_type, &c->access))
        return false;
    for (uint32_t i = 0; i < c->access.roles.n; i++)
        if (!c->access.roles.v[i].name)
            return false;
    for (uint32_t i = 0; i < c->access.tokens.n; i++) {
        const struct access_token *t = &c->access.tokens.v[i];
        if (!t->id || !t->name || !t->secret_hash)
            return false;
    }
    for (uint32_t i = 0; i < c->access.namespaces.n; i++)
        if (!c->access.namespaces.v[i].name)
            return false;
    return true;
}

static bool secret_is_sound(const struct secret *s, const struct secret *before)
{
    if (!s->name || (before && strcmp(before->name, s->name) >= 0) || !s->versions.n)
        return false;
    for (uint32_t i = 0; i < s->versions.n; i++)
        if (!s->versions.v[i].sealed || (i && s->versions.v[i].version <= s->versions.v[i - 1].version))
            return false;
    return true;
}

static bool read_secrets(struct core *c, struct cursor *in)
{
    if (!read_record(in, &secrets_type, &c->secrets))
        return false;
    const struct secret_list *all = &c->secrets.secrets;
    for (uint32_t i = 0; i < all->n; i++)
        if (!secret_is_sound(&all->v[i], i ? &all->v[i - 1] : NULL))
            return false;
    for (uint32_t i = 0; i < c->secrets.keys.n; i++) {
        const struct identity_key *k = &c->secrets.keys.v[i];
        if (!k->id || !k->public_key || !k->sealed)
            return false;
    }
    return true;
}

static bool read_all(struct core *c, struct cursor in)
{
    const uint8_t *magic;
    uint64_t changed[ARRAY_LEN(c->changed)] = {0};
    struct service_entry *s;
    uint8_t version = in.p[sizeof(SNAPSHOT_MAGIC) - 1];
    bool old = version == 1;
    if (!cursor_bytes(&in, sizeof(SNAPSHOT_MAGIC), &magic) || !cursor_u64(&in, &c->index)
        || !cursor_u64(&in, &c->hash) || !cursor_u64(&in, &c->event_count))
        return false;
    for (size_t i = 0; i < kinds_of_version[version]; i++)
        if (!cursor_u64(&in, &changed[i]))
            return false;
    if (!old && (!cursor_u64(&in, &c->ahead) || c->ahead > c->index))
        return false;
    if (!read_nodes(c, &in) || !read_jobs(c, &in) || !read_allocs(c, &in) || !read_events(c, &in)
        || !read_keys(c, &in)
        || (!old && (!read_members(c, &in) || !read_staging(c, &in) || !read_clusters(c, &in)
                     || !read_record(&in, &policy_type, &c->policy)))
        || (version >= 3 && !read_access(c, &in)) || (version >= 4 && !read_secrets(c, &in)) || cursor_left(&in))
        return false;
    ingress_rebuild(c);
    memcpy(c->changed, changed, sizeof(changed));
    network_rebuild(c);
    RB_FOREACH(s, service_tree, &c->services)
        state_set_dirty(c, s);
    return true;
}

static int check_head(const uint8_t *p, size_t len, struct error *err)
{
    if (len < sizeof(SNAPSHOT_MAGIC) || memcmp(p, SNAPSHOT_MAGIC, sizeof(SNAPSHOT_MAGIC) - 1) != 0)
        return error_set(err, ERROR_CORRUPT, "this is not a snapshot of the control plane");
    if (p[sizeof(SNAPSHOT_MAGIC) - 1] < 1 || p[sizeof(SNAPSHOT_MAGIC) - 1] > SNAPSHOT_VERSION)
        return error_set(err, ERROR_UNSUPPORTED, "snapshot version %u is not known to this release",
                         p[sizeof(SNAPSHOT_MAGIC) - 1]);
    return 0;
}

struct core *core_read(const void *bytes, size_t len, struct error *err)
{
    if (check_head(bytes, len, err))
        return NULL;
    struct core *c = core_new();
    if (read_all(c, cursor_of(bytes, len)))
        return c;
    core_free(c);
    error_set(err, ERROR_CORRUPT, "the snapshot is damaged");
    return NULL;
}

int core_restore(struct core *c, const void *bytes, size_t len, struct error *err)
{
    struct core *fresh = core_read(bytes, len, err);
    if (!fresh)
        return -1;
    state_clear(c);
    state_move(c, fresh);
    return 0;
}
