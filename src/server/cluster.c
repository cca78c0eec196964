#include "server/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"

#define SAY_AGAIN_MS 1000

/* What this server says of itself; borrows, and keeps the texts of the numbers in id. */
static struct member self(const struct control *c, char id[static 24])
{
    struct consensus_stats stats;
    static char version[] = MENTAT_VERSION;
    control_stats(c, &stats);
    snprintf(id, 24, "%" PRIu64, stats.server_id);
    return (struct member){.id = id, .name = c->config->name, .address = c->addresses->api,
                           .raft_address = c->addresses->raft, .version = version, .level = COMMAND_LEVEL};
}

static bool known(const struct control *c, const struct member *m)
{
    const struct member *k = core_member(c->core, m->id);
    return k && !strcmp(k->name, m->name) && !strcmp(k->address, m->address) &&
           !strcmp(k->raft_address, m->raft_address) && k->version && !strcmp(k->version, m->version) &&
           k->level == m->level;
}

static void on_said(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct error err;
    c->saying_self = false;
    c->say_self_after_ms = time_monotonic_ms() + SAY_AGAIN_MS;
    if (proposal_error(c, p, outcome, &err) && outcome == CONSENSUS_COMMITTED)
        LOG_E("the cluster does not take this server as what it is", "error", err.text);
    core_result_clear(&p->result);
}

void cluster_look(struct control *c)
{
    char id[24], cluster[24];
    if (c->role != CONSENSUS_LEADER || c->saying_self || c->stopping || time_monotonic_ms() < c->say_self_after_ms)
        return;
    struct member m = self(c, id);
    if (known(c, &m))
        return;
    struct consensus_stats stats;
    CLEANUP_BUF struct buf command = {0};
    control_stats(c, &stats);
    snprintf(cluster, sizeof cluster, "%" PRIu64, stats.cluster_id);
    struct command_member_set payload = {.member = m, .cluster = cluster};
    command_encode_payload(COMMAND_MEMBER_SET, time_now_ms(), NULL, NULL, &payload, &command);
    c->saying_self = true;
    control_propose(c, &c->self_proposal, command.data, command.len, on_said);
}
