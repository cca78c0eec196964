#include "cluster.h"

#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "base/base64.h"
#include "base/id.h"
#include "base/random.h"

#define START_MS INT64_C(1764000000000)

void cluster_init(struct cluster *c, unsigned nodes)
{
    *c = (struct cluster){.core = core_new(), .seed = 1, .now = START_MS};
    for (unsigned i = 0; i < nodes; i++)
        cluster_add_node(c, i);
}

void cluster_clear(struct cluster *c)
{
    core_free(c->core);
}

const char *cluster_node_id(unsigned node)
{
    static char ids[64][ID_LEN + 1];
    id_format(ids[node % 64], 0xabc000000000 + node);
    return ids[node % 64];
}

bool cluster_apply(struct cluster *c, struct command *cmd)
{
    CLEANUP_BUF struct buf bytes = {0};
    struct core_result r;
    command_encode(cmd, &bytes);
    command_clear(cmd);
    core_apply(c->core, ++c->index, bytes.data, bytes.len, &r);
    c->error = r.error;
    snprintf(c->body, sizeof(c->body), "%s", r.body.data ? r.body.data : "");
    core_result_clear(&r);
    return c->error.code == ERROR_NONE;
}

static void add_node(struct cluster *c, unsigned node, bool ingress, const char *volume_of)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_REGISTER, c->now, NULL, NULL);
    struct node *n = &((struct command_node_register *)cmd.payload)->node;
    n->id = mem_strdup(cluster_node_id(node));
    n->name = mem_printf("n%u", node);
    n->ip = mem_strdup("10.0.0.1");
    n->cpus = 4;
    n->memory_mb = 4096;
    n->disk_mb = 10000;
    n->ingress = ingress;
    n->volume_lease_ms = c->lease_ms;
    struct driver_info *vm = list_add_zero((struct list *)&n->drivers, &driver_info_type);
    *vm = (struct driver_info){.name = mem_strdup("firecracker"), .healthy = true};
    struct driver_info *d = list_add_zero((struct list *)&n->drivers, &driver_info_type);
    d->name = mem_strdup("exec");
    d->healthy = true;
    if (volume_of)
        *(struct node_volume *)list_add_zero((struct list *)&n->volumes, &node_volume_type) =
            (struct node_volume){.name = mem_strdup("x/0"), .service = mem_strdup(volume_of), .size_mb = 16};
    assert_true(cluster_apply(c, &cmd));
}

void cluster_add_node(struct cluster *c, unsigned node)
{
    add_node(c, node, false, NULL);
}

void cluster_add_ingress_node(struct cluster *c, unsigned node)
{
    add_node(c, node, true, NULL);
}

void cluster_node_holds(struct cluster *c, unsigned node, const char *service)
{
    add_node(c, node, false, service);
}

void cluster_level(struct cluster *c, int64_t level)
{
    struct command cmd;
    command_init(&cmd, COMMAND_MEMBER_SET, c->now, NULL, NULL);
    struct command_member_set *p = cmd.payload;
    p->member = (struct member){.id = mem_strdup("11"), .name = mem_strdup("s1"), .address = mem_strdup("10.0.0.1:4646"),
                                .raft_address = mem_strdup("10.0.0.1:4648"), .version = mem_strdup("1.0"), .level = level};
    assert_true(cluster_apply(c, &cmd));
}

void cluster_decide(struct cluster *c)
{
    for (int i = 0; i < 100; i++) {
        CLEANUP_BUF struct buf command = {0};
        struct core_result r;
        if (!core_decide(c->core, c->now, hash_mix(++c->seed), &command))
            return;
        core_apply(c->core, ++c->index, command.data, command.len, &r);
        assert_int_equal(r.error.code, ERROR_NONE);
        core_result_clear(&r);
    }
    fail_msg("the leader decides without an end");
}

void cluster_pass(struct cluster *c, int64_t ms)
{
    c->now += ms;
    cluster_decide(c);
}

bool cluster_submit_yaml(struct cluster *c, const char *yaml, const char *key)
{
    struct command cmd;
    struct problem_list problems = {0};
    command_init(&cmd, COMMAND_JOB_SUBMIT, c->now, key, "tester");
    struct command_job_submit *p = cmd.payload;
    if (job_from_yaml(yaml, strlen(yaml), NULL, &p->job, &problems)) {
        CLEANUP_BUF struct buf text = {0};
        problem_list_format(&problems, NULL, &text);
        fail_msg("%s", text.data);
    }
    return cluster_apply(c, &cmd);
}

bool cluster_submit(struct cluster *c, const char *service, const char *extra)
{
    CLEANUP_FREE char *yaml = mem_printf("job: j\nservices:\n  - name: %s\n    driver: exec\n"
                                         "    config: {command: /bin/x}\n%s", service, extra ? extra : "");
    return cluster_submit_yaml(c, yaml, NULL);
}

bool cluster_node_state(struct cluster *c, unsigned node, enum node_state state)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_STATE, c->now, NULL, NULL);
    *(struct command_node_state *)cmd.payload =
        (struct command_node_state){.node_id = mem_strdup(cluster_node_id(node)), .state = (int64_t)state};
    return cluster_apply(c, &cmd);
}

bool cluster_remove_node(struct cluster *c, unsigned node, int64_t revoked_until)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_REMOVE, c->now, NULL, NULL);
    *(struct command_node *)cmd.payload = (struct command_node){mem_strdup(cluster_node_id(node)), revoked_until};
    return cluster_apply(c, &cmd);
}

bool cluster_scale(struct cluster *c, const char *service, int64_t count)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SERVICE_SCALE, c->now, NULL, NULL);
    *(struct command_service_scale *)cmd.payload =
        (struct command_service_scale){.service = mem_strdup(service), .count = count};
    return cluster_apply(c, &cmd);
}

bool cluster_service(struct cluster *c, enum command_kind kind, const char *service)
{
    struct command cmd;
    command_init(&cmd, kind, c->now, NULL, NULL);
    ((struct command_service *)cmd.payload)->service = mem_strdup(service);
    return cluster_apply(c, &cmd);
}

void cluster_proxy_at(struct cluster *c, unsigned node, uint64_t applied, const char *idle)
{
    struct command cmd;
    command_init(&cmd, COMMAND_INGRESS_REPORT, c->now, NULL, NULL);
    struct ingress_report *p = cmd.payload;
    p->node_id = mem_strdup(cluster_node_id(node));
    p->applied = applied;
    if (idle)
        str_list_add(&p->idle, idle);
    assert_true(cluster_apply(c, &cmd));
}

void cluster_proxy(struct cluster *c, unsigned node, const char *idle)
{
    cluster_proxy_at(c, node, core_changed(c->core, CORE_INGRESS, NULL), idle);
}

bool cluster_delete(struct cluster *c, const char *service, bool purge)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SERVICE_DELETE, c->now, NULL, NULL);
    *(struct command_service_delete *)cmd.payload =
        (struct command_service_delete){.service = mem_strdup(service), .purge = purge};
    return cluster_apply(c, &cmd);
}

bool cluster_rollback(struct cluster *c, const char *service, uint64_t version)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SERVICE_ROLLBACK, c->now, NULL, NULL);
    *(struct command_service_rollback *)cmd.payload =
        (struct command_service_rollback){.service = mem_strdup(service), .to_version = version};
    return cluster_apply(c, &cmd);
}

bool cluster_promote(struct cluster *c, const char *service, int64_t percent)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SERVICE_PROMOTE, c->now, NULL, "tester");
    *(struct command_service_promote *)cmd.payload =
        (struct command_service_promote){.service = mem_strdup(service), .percent = percent};
    return cluster_apply(c, &cmd);
}

bool cluster_enrol(struct cluster *c, const char *name, const char *token)
{
    struct command cmd;
    command_init(&cmd, COMMAND_ENROL, c->now, NULL, NULL);
    *(struct command_enrol *)cmd.payload = (struct command_enrol){
        .agent = true, .name = mem_strdup(name), .token_id = mem_strdup(token), .token_hash = mem_strdup("hash")};
    return cluster_apply(c, &cmd);
}

bool cluster_send_chunk(struct cluster *c, const char *upload, const struct buf *bytes, size_t from, size_t to)
{
    struct command cmd;
    CLEANUP_BUF struct buf text = {0};
    command_init(&cmd, COMMAND_RESTORE_CHUNK, c->now, NULL, NULL);
    base64_add(&text, bytes->data + from, to - from);
    *(struct command_restore_chunk *)cmd.payload = (struct command_restore_chunk){
        .upload = mem_strdup(upload), .offset = (int64_t)from, .data = buf_steal(&text)};
    return cluster_apply(c, &cmd);
}

bool cluster_restore(struct cluster *c, const char *upload, const struct buf *bytes)
{
    struct command cmd;
    command_init(&cmd, COMMAND_RESTORE, c->now, NULL, NULL);
    *(struct command_restore *)cmd.payload = (struct command_restore){
        .upload = mem_strdup(upload), .size = (int64_t)bytes->len, .hash = hash_bytes(bytes->data, bytes->len, 0),
        .taken_at = 1764000000000};
    return cluster_apply(c, &cmd);
}

struct nth { unsigned n; const struct alloc *found; };

static bool take_wanted(void *ctx, const struct alloc *a)
{
    struct nth *nth = ctx;
    if (alloc_wanted(a) && nth->n-- == 0)
        nth->found = a;
    return !nth->found;
}

const struct alloc *cluster_wanted(struct cluster *c, const char *service, unsigned n)
{
    struct nth nth = {.n = n};
    core_service_allocs(c->core, service, take_wanted, &nth);
    return nth.found;
}

struct tally { enum alloc_desired desired; bool live; unsigned n; };

static bool tally_alloc(void *ctx, const struct alloc *a)
{
    struct tally *t = ctx;
    t->n += a->desired == t->desired && alloc_live(a) == t->live;
    return true;
}

unsigned cluster_count(struct cluster *c, const char *service, enum alloc_desired desired, bool live)
{
    struct tally t = {.desired = desired, .live = live};
    core_service_allocs(c->core, service, tally_alloc, &t);
    return t.n;
}

bool cluster_report(struct cluster *c, const char *alloc, enum alloc_state state)
{
    struct command cmd;
    const struct alloc *a = core_alloc(c->core, alloc);
    assert_non_null(a);
    command_init(&cmd, COMMAND_ALLOC_REPORT, c->now, NULL, NULL);
    struct agent_report *p = cmd.payload;
    p->node_id = mem_strdup(a->node_id);
    struct alloc_report *r = list_add_zero((struct list *)&p->allocs, &alloc_report_type);
    *r = (struct alloc_report){.id = mem_strdup(alloc), .seq = ++c->report_seq, .state = state, .started_at = c->now};
    return cluster_apply(c, &cmd);
}

struct ids { char id[64][ID_LEN + 1]; unsigned n; bool stop; };

static bool take_id(void *ctx, const struct alloc *a)
{
    struct ids *ids = ctx;
    if (alloc_live(a) && (a->desired == DESIRED_STOP) == ids->stop && ids->n < ARRAY_LEN(ids->id))
        snprintf(ids->id[ids->n++], ID_LEN + 1, "%s", a->id);
    return true;
}

void cluster_report_all(struct cluster *c, const char *service, enum alloc_state state)
{
    struct ids ids = {0};
    core_service_allocs(c->core, service, take_id, &ids);
    for (unsigned i = 0; i < ids.n; i++)
        assert_true(cluster_report(c, ids.id[i], state));
    cluster_pass(c, state == ALLOC_RUNNING ? 1000 : 0);
}

void cluster_stop_all(struct cluster *c, const char *service)
{
    struct ids ids = {.stop = true};
    core_service_allocs(c->core, service, take_id, &ids);
    for (unsigned i = 0; i < ids.n; i++)
        assert_true(cluster_report(c, ids.id[i], ALLOC_COMPLETE));
    cluster_decide(c);
}

struct service_status cluster_status(struct cluster *c, const char *service)
{
    struct service_status s;
    assert_int_equal(core_service_status(c->core, service, &s), 0);
    return s;
}

bool cluster_event(struct cluster *c, const char *reason_part)
{
    struct event_list l = {0};
    bool found = false;
    core_events(c->core, 0, 0, UINT32_MAX, &l);
    for (uint32_t i = 0; i < l.n; i++)
        found |= strstr(l.v[i].reason, reason_part) != NULL;
    list_clear((struct list *)&l, &event_type);
    return found;
}
