#include <stdio.h>

#include "server/api.h"
#include "server/api_types.h"
#include "server/http_thread.h"
#include "server/knock.h"
#include "server/leader.h"
#include "server/snapshots.h"

static void gauge(struct buf *out, const char *name, const char *help, double value)
{
    metric_help(out, name, "gauge", help);
    metric_add(out, name, NULL, value);
}

static void counter(struct buf *out, const char *name, const char *help, double value)
{
    metric_help(out, name, "counter", help);
    metric_add(out, name, NULL, value);
}

static void add_states(struct control *c, struct buf *out)
{
    const struct core_counts *counts = core_counts(c->core);
    char label[64];
    metric_help(out, "mentat_allocs", "gauge", "Allocations by state.");
    for (int i = 0; i <= ALLOC_LOST; i++) {
        snprintf(label, sizeof label, "state=\"%s\"", alloc_state_names[i]);
        metric_add(out, "mentat_allocs", label, (double)counts->allocs[i]);
    }
    metric_help(out, "mentat_nodes", "gauge", "Nodes by state.");
    for (int i = 0; i <= NODE_DOWN; i++) {
        snprintf(label, sizeof label, "state=\"%s\"", node_state_names[i]);
        metric_add(out, "mentat_nodes", label, (double)counts->nodes[i]);
    }
}

static void add_consensus(struct control *c, struct buf *out)
{
    struct consensus_stats s;
    control_stats(c, &s);
    gauge(out, "mentat_raft_leader", "1 when this server leads.", c->role == CONSENSUS_LEADER);
    gauge(out, "mentat_raft_term", "Term of the election.", (double)s.term);
    gauge(out, "mentat_raft_last_index", "Last index in the log.", (double)s.last_index);
    gauge(out, "mentat_raft_commit_index", "Last index that is durable.", (double)s.commit_index);
    gauge(out, "mentat_raft_applied_index", "Last index that the state holds.", (double)s.applied_index);
    gauge(out, "mentat_raft_snapshot_index", "Index of the last snapshot.", (double)s.snapshot_index);
    gauge(out, "mentat_raft_log_bytes", "Size of the log on disk.", (double)s.log_bytes);
    gauge(out, "mentat_raft_pending", "Proposals that are not answered yet.", s.pending);
    gauge(out, "mentat_disk_free_bytes", "Free disk under data_dir, as last seen.", (double)s.disk_free_bytes);
    gauge(out, "mentat_disk_full", "1 while writes are refused because the disk is full.", s.no_space);
    counter(out, "mentat_raft_proposals_total", "Commands proposed.", (double)s.proposals);
    counter(out, "mentat_raft_syncs_total", "Syncs of the log; proposals by syncs is the size of a group.",
            (double)s.syncs);
    counter(out, "mentat_raft_refused_connections_total", "Connections of who is no server of this cluster.",
            (double)s.refused_connections);
}

API_READ(api_metrics)
{
    struct buf *out = &r->answer.body;
    r->answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    metric_help(out, "mentat_info", "gauge", "Release.");
    metric_add(out, "mentat_info", "version=\"" MENTAT_VERSION "\"", 1);
    gauge(out, "mentat_start_time_seconds", "When the process started.", (double)c->started_ms / 1000);
    add_consensus(c, out);
    add_states(c, out);
    gauge(out, "mentat_core_queue_depth", "Requests that wait for the core thread.", (double)queue_depth(&c->inbox));
    gauge(out, "mentat_waiting_reads", "Reads and event streams that wait for a change.", (double)c->wait_count);
    counter(out, "mentat_commands_applied_total", "Commands applied since the start.", (double)c->metrics.applied);
    counter(out, "mentat_commands_refused_total", "Clients' commands that the state refused.",
            (double)c->metrics.refused);
    gauge(out, "mentat_idempotency_key_bytes", "About what the answers to requests with a key take that are remembered.",
          (double)core_key_bytes(c->core));
    counter(out, "mentat_decisions_total", "Batches of decisions proposed.", (double)c->metrics.decisions);
    counter(out, "mentat_nodes_down_total", "Nodes taken for dead.", (double)c->metrics.nodes_down);
    counter(out, "mentat_backup_failures_total", "Scheduled snapshots that could not be written or handed on.",
            (double)c->metrics.backup_failures);
    gauge(out, "mentat_backup_last_time_seconds", "When the last scheduled snapshot was written.",
          (double)backups_last_ms(c->backups) / 1000);
    metric_help(out, "mentat_propose_seconds", "histogram", "From the proposal of a write to its application.");
    metric_histogram(out, "mentat_propose_seconds", NULL, &c->metrics.propose);
    metric_help(out, "mentat_apply_seconds", "histogram", "Time of applying one command.");
    metric_histogram(out, "mentat_apply_seconds", NULL, &c->metrics.apply);
    metric_help(out, "mentat_decide_seconds", "histogram", "Time of one search for decisions.");
    metric_histogram(out, "mentat_decide_seconds", NULL, &c->metrics.decide);
    metric_help(out, "mentat_snapshot_seconds", "histogram", "Time of writing down the whole state; nothing is applied meanwhile.");
    metric_histogram(out, "mentat_snapshot_seconds", NULL, &c->metrics.snapshot);
    return 0;
}

void api_metrics_respond(struct request *r)
{
    if (r->answer.error.code == ERROR_NONE)
        http_thread_metrics(r->thread, &r->answer.body);
    request_finish(r);
}

static int ok(struct request *r)
{
    static char text[] = "ok";
    struct health_info info = {.status = text};
    type_to_json(&health_info_type, &info, &r->answer.body);
    return 0;
}

API_READ(api_readyz)
{
    const char *address;
    if (c->stopping)
        return error_set(err, ERROR_UNAVAILABLE, "this server is stopping");
    if (knock_removed(c))
        return error_set(err, ERROR_UNAVAILABLE, "%s", knock_removed(c));
    if (!c->consensus)
        return error_set(err, ERROR_UNAVAILABLE, "this server is not in a cluster yet%s%s", c->forming ? ": " : "",
                         c->forming ? c->forming : "");
    if (!consensus_leader(c->consensus, &address))
        return error_set(err, ERROR_UNAVAILABLE, "no leader is known yet");
    return ok(r);
}

API_PREPARE(api_healthz)
{
    return ok(r);
}

API_PREPARE(api_version)
{
    static char version[] = MENTAT_VERSION, api[] = "v1";
    struct version_info info = {.version = version, .api = api};
    type_to_json(&version_info_type, &info, &r->answer.body);
    return 0;
}

API_PREPARE(api_openapi)
{
    route_openapi(&r->answer.body);
    return 0;
}
