#include "core_common.h"

#include <stdio.h>
#include <string.h>

enum { DECISIONS = 4 };
#define LATER_MS (40 * 60 * 1000)

static void read_nodes(struct core *c)
{
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id)) {
        INVARIANT(core_node(c, n->id) == n);
        struct agent_work work;
        if (!core_agent_work(c, n->id, 0, &work))
            type_clear(&agent_work_type, &work);
    }
}

static void read_services(struct core *c, int64_t now_ms)
{
    for (const struct service_version *v = core_service_next(c, NULL); v; v = core_service_next(c, v->service)) {
        struct service_status status;
        struct service_version_list versions = {0};
        CLEANUP_BUF struct buf json = {0};
        struct error err = {0};
        INVARIANT(!core_service_status(c, v->service, &status));
        type_clear(&service_status_type, &status);
        core_service_versions(c, v->service, &versions);
        while (versions.n)
            list_remove((struct list *)&versions, &service_version_type, versions.n - 1);
        free(versions.v);
        core_explain(c, v->service, now_ms, &json, &err);
    }
    for (const char *name = core_job_next(c, NULL); name; name = core_job_next(c, name)) {
        struct job job;
        struct plan plan;
        struct error err = {0};
        INVARIANT(!core_job(c, name, &job));
        if (!core_plan(c, &job, now_ms, &plan, &err))
            type_clear(&plan_type, &plan);
        type_clear(&job_type, &job);
    }
}

static void decide(struct core *c, uint64_t index, int64_t now_ms)
{
    for (int i = 0; i < DECISIONS; i++) {
        CLEANUP_BUF struct buf command = {0};
        struct core_result result;
        if (!core_decide(c, now_ms, (uint64_t)i, &command))
            return;
        core_apply(c, index + (uint64_t)i, command.data, command.len, &result);
        core_result_clear(&result);
    }
}

static void check_snapshot(struct core *c)
{
    CLEANUP_BUF struct buf first = {0}, second = {0};
    struct error err = {0};
    core_snapshot(c, &first);
    struct core *again = core_new();
    if (core_restore(again, first.data, first.len, &err))
        fprintf(stderr, "its own snapshot is refused: %s\n", err.text);
    INVARIANT(!err.code);
    INVARIANT(core_hash(again) == core_hash(c) && core_index(again) == core_index(c));
    core_snapshot(again, &second);
    INVARIANT(first.len == second.len && !memcmp(first.data, second.data, first.len));
    core_free(again);
}

void core_fuzz_use(struct core *c, uint64_t index, int64_t now_ms)
{
    read_nodes(c);
    read_services(c, now_ms);
    decide(c, index, now_ms);
    decide(c, index + DECISIONS, now_ms + LATER_MS);
    read_nodes(c);
    read_services(c, now_ms);
    check_snapshot(c);
}
