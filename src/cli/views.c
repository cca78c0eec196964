#include "cli/views.h"

#include <string.h>

static void cell_replicas(const json_t *row, const json_t *value, struct buf *out)
{
    buf_printf(out, "%lld/%lld", json_number(row, "running"), json_number(row, "desired"));
}

static void cell_replica_name(const json_t *row, const json_t *value, struct buf *out)
{
    buf_printf(out, "%s/%lld", json_text(row, "service"), json_number(row, "replica"));
}

static void cell_exit(const json_t *row, const json_t *value, struct buf *out)
{
    if (!json_is_true(json_at(row, "exited")))
        return;
    if (json_is_true(json_at(row, "oom")))
        buf_add_string(out, "out of memory");
    else if (json_number(row, "exit_signal"))
        buf_printf(out, "signal %lld", json_number(row, "exit_signal"));
    else
        buf_printf(out, "%lld", json_number(row, "exit_code"));
}

static void cell_drivers(const json_t *row, const json_t *value, struct buf *out)
{
    size_t i, n = 0;
    json_t *d;
    json_array_foreach(value, i, d)
        if (json_is_true(json_at(d, "healthy")))
            buf_printf(out, "%s%s", n++ ? ", " : "", json_text(d, "name"));
}

static void cell_drivers_detail(const json_t *row, const json_t *value, struct buf *out)
{
    size_t i;
    json_t *d;
    json_array_foreach(value, i, d) {
        const char *detail = json_text(d, json_is_true(json_at(d, "healthy")) ? "version" : "detail");
        buf_printf(out, "%s%s: %s%s%s", i ? "; " : "", json_text(d, "name"),
                   json_is_true(json_at(d, "healthy")) ? "works" : "does not work", *detail ? ", " : "", detail);
    }
}

/* A host may do without other drivers; one whose exec driver does not work has a fault. */
static void cell_node_reason(const json_t *row, const json_t *value, struct buf *out)
{
    size_t i;
    json_t *d;
    buf_add_string(out, value && json_is_string(value) ? json_string_value(value) : "");
    json_array_foreach(json_object_get(row, "drivers"), i, d)
        if (!strcmp(json_text(d, "name"), "exec") && !json_is_true(json_at(d, "healthy")))
            buf_printf(out, "%sexec does not work: %s", out->len ? "; " : "", json_text(d, "detail"));
}

static void cell_event_what(const json_t *row, const json_t *value, struct buf *out)
{
    const char *service = json_text(row, "service"), *subject = json_text(row, "subject");
    buf_printf(out, "%s %s", json_text(row, "kind"), subject);
    if (*service && strcmp(service, subject))
        buf_printf(out, " of %s", service);
}

static void cell_event_change(const json_t *row, const json_t *value, struct buf *out)
{
    const char *from = json_text(row, "from"), *to = json_text(row, "to");
    bool moved = *from && strcmp(from, to) != 0;
    if (*to)
        buf_printf(out, "%s%s%s", moved ? from : "", moved ? " → " : "", to);
}

static void cell_deployed(const json_t *row, const json_t *value, struct buf *out)
{
    buf_printf(out, "%lld of %lld healthy, %lld placed", json_number(row, "healthy"), json_number(row, "desired"),
               json_number(row, "placed"));
}

/* Of one whose replicas stand beside those of the version before. */
static void cell_part(const json_t *row, const json_t *value, struct buf *out)
{
    long long percent = json_integer_value(value), target = json_number(row, "target_percent");
    if (target)
        buf_printf(out, "%lld %%", percent);
    if (target > percent)
        buf_printf(out, ", %lld %% once its replicas serve", target);
}

static void add_analysed(const json_t *seen, struct buf *out)
{
    long long requests = json_number(seen, "requests"), p99_ms = json_number(seen, "p99_ms");
    buf_printf(out, "%lld requests, %.3g %% failed", requests,
               requests ? 100.0 * (double)json_number(seen, "errors") / (double)requests : 0);
    if (p99_ms)
        buf_printf(out, ", p99 %lld ms", p99_ms);
}

static void cell_analysis(const json_t *row, const json_t *value, struct buf *out)
{
    const char *outcome = json_text(value, "outcome");
    const json_t *canary = json_at(value, "canary"), *stable = json_at(value, "stable");
    if (!*outcome || !strcmp(outcome, "none"))
        return;
    buf_printf(out, "%s: ", outcome);
    add_analysed(canary, out);
    buf_add_string(out, "; before ");
    add_analysed(stable, out);
}

/* Why it leaves says more than why it is in its state. */
static void cell_alloc_reason(const json_t *row, const json_t *value, struct buf *out)
{
    const char *leaving = json_text(row, "leaving");
    if (!strcmp(leaving, "to stop"))
        buf_printf(out, "finishes its requests: %s", json_text(row, "desired_reason"));
    else if (!strcmp(leaving, "to restart"))
        buf_add_string(out, "finishes its requests, to be restarted");
    else if (json_is_string(value))
        buf_add_string(out, json_string_value(value));
}

static void cell_alloc_state(const json_t *row, const json_t *value, struct buf *out)
{
    buf_add_string(out, json_is_true(json_object_get(row, "paused")) ? "paused" : json_string_value(value));
}

static void cell_positive(const json_t *row, const json_t *value, struct buf *out)
{
    if (json_integer_value(value) > 0)
        buf_printf(out, "%lld", (long long)json_integer_value(value));
}

const struct column view_services[] = {
    {"NAMESPACE", "namespace", .sparse = true}, {"SERVICE", "name"}, {"JOB", "job", .wide = true}, {"DRIVER", "driver"},
    {"MODE", "mode"}, {"VERSION", "version", .right = true}, {"STATE", "state"}, {"RUNNING", "running", cell_replicas, .right = true},
    {"HEALTHY", "healthy", .right = true}, {"FAILED", "failed", .right = true},
    {"NEXT RUN", "next_run_at", cell_time, .wide = true}, {"REASON", "reason"}, {0},
};
const struct column view_service[] = {
    {"Service", "status.name"}, {"Namespace", "status.namespace"}, {"Job", "status.job"}, {"Driver", "status.driver"},
    {"Mode", "status.mode"}, {"State", "status.state"}, {"Reason", "status.reason"}, {"Version", "status.version"},
    {"Submitted", "current.submitted_at", cell_time}, {"By", "current.submitted_by"}, {"Why", "current.why"},
    {"Desired", "status.desired"}, {"Running", "status.running"}, {"Healthy", "status.healthy"},
    {"Failed", "status.failed", cell_positive}, {"Schedule", "current.spec.schedule"},
    {"Next run", "status.next_run_at", cell_time}, {0},
};
const struct column view_allocs[] = {
    {"ALLOC", "id"}, {"NAMESPACE", "namespace", .sparse = true}, {"REPLICA", "service", cell_replica_name}, {"VERSION", "version", .right = true},
    {"NODE", "node_name"}, {"STATE", "state", cell_alloc_state}, {"DESIRED", "desired", .wide = true}, {"RESTARTS", "restarts", .right = true},
    {"AGE", "created_at", cell_age, .right = true}, {"EXIT", "exit_code", cell_exit, .wide = true},
    {"PORTS", "ports", cell_ports}, {"REASON", "reason", cell_alloc_reason}, {0},
};
const struct column view_alloc[] = {
    {"Allocation", "id"}, {"Namespace", "namespace"}, {"Replica", "service", cell_replica_name}, {"Job", "job"},
    {"Version", "version"}, {"Node", "node_name"}, {"State", "state", cell_alloc_state}, {"Reason", "reason"}, {"Since", "state_since", cell_time},
    {"Desired", "desired"}, {"Because", "desired_reason"}, {"Ports", "ports", cell_ports}, {"Address", "ip"}, {"Own address", "address"},
    {"Exit", "exit_code", cell_exit}, {"Restarts", "restarts", cell_positive}, {"Attempt", "attempt", cell_positive},
    {"Replaces", "previous"}, {"Deployment", "deployment"}, {"CPUs", "cpus"}, {"Memory MiB", "memory_mb"},
    {"Disk MiB", "disk_mb", cell_positive}, {"Created", "created_at", cell_time}, {"Started", "started_at", cell_time},
    {"Finished", "finished_at", cell_time}, {0},
};
const struct column view_nodes[] = {
    {"NODE", "name"}, {"ID", "id"}, {"STATE", "state"}, {"CLASS", "class", .wide = true},
    {"CPUS", "cpus", .right = true}, {"MEMORY MIB", "memory_mb", .right = true},
    {"DISK MIB", "disk_mb", .right = true, .wide = true}, {"DRIVERS", "drivers", cell_drivers},
    {"ADDRESS", "address", .wide = true}, {"KERNEL", "kernel", .wide = true}, {"VERSION", "version", .wide = true},
    {"REASON", "state_reason", cell_node_reason}, {0},
};
const struct column view_volumes[] = {
    {"NAMESPACE", "namespace", .sparse = true}, {"REPLICA", "service", cell_replica_name}, {"NODE", "node_name"}, {"SIZE MIB", "size_mb", .right = true},
    {"USED MIB", "used_mb", .right = true}, {"STATE", "state"}, {"ALLOC", "alloc"}, {"VOLUME", "name"}, {0},
};
const struct column view_node[] = {
    {"Node", "name"}, {"Id", "id"}, {"State", "state"}, {"Reason", "state_reason"}, {"Since", "state_since", cell_time},
    {"Class", "class"}, {"Agent", "address"}, {"Address", "ip"}, {"Version", "version"}, {"Machine", "arch"},
    {"Kernel", "kernel"}, {"KVM", "kvm"}, {"CPUs", "cpus"}, {"Memory MiB", "memory_mb"}, {"Disk MiB", "disk_mb"},
    {"Drivers", "drivers", cell_drivers_detail}, {"Network", "network.subnet"}, {"No network", "network.problem"},
    {"Ingress", "ingress"}, {"Not served", "ingress_problems"}, {"Meta", "meta"}, {"Registered", "registered_at", cell_time}, {0},
};
const struct column view_versions[] = {
    {"VERSION", "version", .right = true}, {"SUBMITTED", "submitted_at", cell_time}, {"BY", "submitted_by"},
    {"COUNT", "spec.count", .right = true}, {"DRIVER", "spec.driver", .wide = true}, {"WHY", "why"},
    {"CHANGES", "changes"}, {0},
};
const struct column view_rollout[] = {
    {"VERSION", "version", .right = true}, {"REPLICAS", "replicas", .right = true}, {"HEALTHY", "healthy", .right = true},
    {"LEAVING", "leaving", .right = true}, {"REQUESTS", "requests", .right = true}, {0},
};
const struct column view_ingress_problems[] = {
    {"INGRESS NODE", "node"}, {"PROBLEM", "problem"}, {0},
};
const struct column view_events[] = {
    {"TIME", "time", cell_time}, {"NAMESPACE", "namespace", .sparse = true}, {"WHAT", "subject", cell_event_what}, {"CHANGE", "to", cell_event_change},
    {"REASON", "reason"}, {0},
};
const struct column view_deployment[] = {
    {"Deployment", "id"}, {"State", "state"}, {"Reason", "reason"}, {"Strategy", "strategy"}, {"Version", "version"},
    {"Before", "previous_version", cell_positive}, {"Replicas", "healthy", cell_deployed},
    {"Part", "traffic_percent", cell_part}, {"Analysis", "analysis", cell_analysis}, {"Standby until", "standby_until", cell_time},
    {"Began", "created_at", cell_time}, {"Ended", "finished_at", cell_time}, {0},
};

bool view_alloc_current(const json_t *alloc)
{
    static const char *const ended[] = {"complete", "failed", "lost"};
    bool over = false;
    for (size_t i = 0; i < ARRAY_LEN(ended); i++)
        over = over || !strcmp(ended[i], json_text(alloc, "state"));
    return !over || strcmp(json_text(alloc, "desired"), "stop");
}
