#include <string.h>

#include "base/timefmt.h"
#include "core/command.h"
#include "server/api.h"
#include "server/authority.h"

/* A node that is down has to register again. */
static int check_node(struct control *c, const char *node_id, struct error *err)
{
    const struct node *n = node_id ? core_node(c->core, node_id) : NULL;
    if (!n)
        return error_set(err, ERROR_NOT_FOUND, "no node %.64s; register it", node_id ? node_id : "(none)");
    if (n->state == NODE_DOWN)
        return error_set(err, ERROR_NOT_FOUND, "node %s was taken for dead (%s); register it again", n->id,
                         n->state_reason ? n->state_reason : "no reason known");
    return 0;
}

static int hear(struct control *c, const char *node_id, struct error *err)
{
    if (check_node(c, node_id, err))
        return -1;
    if (c->role == CONSENSUS_LEADER)
        liveness_touch(&c->liveness, node_id, time_monotonic_ms());
    return 0;
}

/* As the configuration has it, once every server knows of it. */
static const struct cluster_network *network(const struct control *c)
{
    static const struct cluster_network none;
    return core_level(c->core) >= NETWORK_LEVEL && c->config->network.range ? &c->config->network : &none;
}

/* Where nobody proves who he is, an agent has its word; and where the founders have not made the cluster's authority yet: who
 * is in by then shares their secret. */
static bool ingress_by_right(const struct control *c, const struct request *r)
{
    bool founding = c->credentials && !authority_hash(c);
    return !r->who.any_node && !founding && core_level(c->core) >= INGRESS_RIGHT_LEVEL;
}

API_READ(api_agent_register)
{
    const struct agent_hello *hello = r->body;
    struct command_node_register payload = {.node = hello->node, .cluster = hello->cluster, .tasks = hello->tasks,
                                            .network = *network(c)};            /* borrowed */
    if (!hello->node.id || !*hello->node.id)
        return error_set(err, ERROR_INVALID, "node.id is needed");
    if (core_level(c->core) < NETWORK_LEVEL)
        payload.node.network = (struct node_network){0};
    if (core_level(c->core) < LEASE_LEVEL)
        payload.node.volume_lease_ms = 0;
    payload.by_right = ingress_by_right(c, r);
    if (hello->node.volume_lease_ms && hello->node.volume_lease_ms < c->config->node_grace_ms)
        return error_set(err, ERROR_INVALID, "volume_lease of this agent is shorter than the servers' node_grace (%llds): a pause that "
                         "takes no node down would end its tasks; set it to more", (long long)(c->config->node_grace_ms / 1000));
    request_command(r, COMMAND_NODE_REGISTER, &payload);
    return 0;
}

/* An agent meets no other agents. The texts are borrowed. */
static struct revocation_list revoked_servers(const struct access *access)
{
    struct revocation_list out = {.v = mem_array(access->revoked.n + 1u, sizeof *out.v)};
    for (uint32_t i = 0; i < access->revoked.n; i++)
        if (strstr(access->revoked.v[i].name, ".server"))
            out.v[out.n++] = access->revoked.v[i];
    return out;
}

/* How often to come, how far the state is, and which servers there are. */
static void welcome(struct control *c, struct request *r)
{
    struct agent_welcome w = {.heartbeat_ms = c->config->heartbeat_ms, .index = core_index(c->core),
                              .cluster = (char *)(uintptr_t)core_cluster(c->core)};
    char mark[CERTIFICATE_MARK_SIZE];
    core_certificate_mark(c->core, mark);
    w.certificate_mark = *mark ? mark : NULL;
    const char *after = NULL;
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id)
        str_list_add(&w.servers, m->address);
    const struct cluster_network *n = network(c);
    CLEANUP_FREE char *words = core_level(c->core) < NETWORK_LEVEL ? NULL : !n->range ? mem_strdup("none")
        : mem_printf("%s/%lld %s %lld %lld", n->range, (long long)n->node_bits, enum_name(network_link_names, (int)n->link),
                     (long long)n->vni, (long long)n->port);
    w.network = words;
    w.revoked = revoked_servers(core_access(c->core));
    buf_clear(&r->answer.body);
    type_to_json(&agent_welcome_type, &w, &r->answer.body);
    str_list_clear(&w.servers);
    free(w.revoked.v);
}

void api_agent_registered(struct control *c, struct request *r)
{
    const struct agent_hello *hello = r->body;
    if (c->role == CONSENSUS_LEADER)
        liveness_touch(&c->liveness, hello->node.id, time_monotonic_ms());
    welcome(c, r);
}

API_READ(api_agent_heartbeat)
{
    const struct agent_heartbeat *body = r->body;
    if (c->role != CONSENSUS_LEADER)
        return error_set(err, ERROR_UNAVAILABLE, "this server does not lead; ask another one");
    if (hear(c, body->node_id, err))
        return -1;
    welcome(c, r);
    return 0;
}

API_PREPARE(api_agent_report)
{
    request_command(r, COMMAND_ALLOC_REPORT, r->body);
    return 0;
}

void api_agent_reported(struct control *c, struct request *r)
{
    const struct agent_report *report = r->body;
    hear(c, report->node_id, NULL);
    buf_clear(&r->answer.body);
}

const char *api_watch_agent(struct control *c, const struct request *r)
{
    const char *id = request_query(r, "node");
    return core_node(c->core, id) ? id : NULL;
}

API_READ(api_agent_allocs)
{
    const char *id = request_query(r, "node");
    /* No sign of life: the agent may be gone while its request waits. */
    if (check_node(c, id, err))
        return -1;
    struct agent_work work = {0};
    if (core_agent_work(c->core, id, r->index, &work))
        return error_set(err, ERROR_NOT_FOUND, "no node %.64s; register it", id);
    type_to_json(&agent_work_type, &work, &r->answer.body);
    type_clear(&agent_work_type, &work);
    return 0;
}

API_READ(api_agent_network)
{
    const char *id = request_query(r, "node");
    struct agent_network table = {0};
    if (check_node(c, id, err))
        return -1;
    core_agent_network(c->core, id, &table);
    type_to_json(&agent_network_type, &table, &r->answer.body);
    type_clear(&agent_network_type, &table);
    return 0;
}

API_READ(api_agent_ingress)
{
    const char *id = request_query(r, "node");
    struct agent_ingress table = {0};
    if (check_node(c, id, err))
        return -1;
    if (!core_node(c->core, id)->ingress)
        return error_set(err, ERROR_DENIED, "node %.64s is no ingress node, or nobody let it be one (mt node ingress)", id);
    core_agent_ingress(c->core, &table);
    type_to_json(&agent_ingress_type, &table, &r->answer.body);
    type_clear(&agent_ingress_type, &table);
    return 0;
}

API_PREPARE(api_ingress_report)
{
    request_command(r, COMMAND_INGRESS_REPORT, r->body);
    return 0;
}

void api_ingress_reported(struct control *c, struct request *r)
{
    const struct ingress_report *report = r->body;
    hear(c, report->node_id, NULL);
}
