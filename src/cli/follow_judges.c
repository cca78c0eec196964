/* When a change is done: one judge for each kind of change. */
#include <string.h>

#include "cli/api.h"
#include "cli/follow.h"
#include "cli/table.h"

static bool is(const json_t *object, const char *path, const char *text)
{
    return !strcmp(json_text(object, path), text);
}

static char *counts(const json_t *of, const char *prefix, const char *reason)
{
    char healthy[64], desired[64];
    snprintf(healthy, sizeof healthy, "%shealthy", prefix);
    snprintf(desired, sizeof desired, "%sdesired", prefix);
    return mem_printf("%lld of %lld healthy%s%s", json_number(of, healthy), json_number(of, desired), *reason ? ", " : "",
                      reason);
}

/* ", gets 10 % of the requests" of one that stands beside another; the caller's. */
static char *part_of_requests(const json_t *service, const json_t *d)
{
    if (!json_number(d, "target_percent") || !json_array_size(json_at(service, "current.spec.ingress")))
        return mem_strdup("");
    return mem_printf(", gets %lld %% of the requests", json_number(d, "traffic_percent"));
}

int follow_deployment(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                      enum follow_state *state, char **note, struct error *err)
{
    CLEANUP_FREE char *path = api_path("/v1/deployments/", item->deployment, "");
    CLEANUP(json_decref) json_t *d = api_get(cli->api, path, err);
    if (!d)
        return -1;
    const char *reason = json_text(d, "reason");
    CLEANUP_FREE char *part = part_of_requests(service, d);
    if (is(d, "state", "running")) {
        CLEANUP_FREE char *so_far = counts(d, "", "");
        *note = mem_printf("%s%s%s%s", so_far, part, *reason ? ": " : "", reason);
    } else if (is(d, "state", "successful") || is(d, "state", "paused")) {
        bool paused = is(d, "state", "paused");
        *state = FOLLOW_DONE;
        *note = mem_printf("version %lld: %lld of %lld healthy%s%s", json_number(d, "version"), json_number(d, "healthy"),
                           json_number(d, "desired"), paused ? ", paused: " : "", paused ? reason : "");
    } else {
        *state = FOLLOW_FAILED;
        *note = mem_printf("the deployment of version %lld %s: %s", json_number(d, "version"),
                           is(d, "state", "reverted") ? "failed and was reverted"
                           : is(d, "state", "cancelled") ? "was cancelled" : "failed",
                           *reason ? reason : "no reason was given");
    }
    return 0;
}

static bool wanted_live(const json_t *alloc)
{
    return follow_alloc_live(alloc) && is(alloc, "desired", "run") && !is(alloc, "leaving", "to stop");
}

/* How many replicas are wanted and there, and how many are there although they are not wanted. */
static void count_live(const json_t *allocs, long long *wanted, long long *leaving)
{
    size_t i;
    json_t *a;
    *wanted = *leaving = 0;
    json_array_foreach(allocs, i, a)
        if (follow_alloc_live(a))
            ++*(wanted_live(a) ? wanted : leaving);
}

/* Of the replicas that are wanted, those that stand beside one of another version. */
static long long count_beside(const json_t *allocs)
{
    size_t i, k;
    json_t *a;
    long long beside = 0;
    json_array_foreach(allocs, i, a) {
        bool twice = false;
        for (k = 0; k < i && wanted_live(a) && !twice; k++) {
            const json_t *other = json_array_get(allocs, k);
            twice = wanted_live(other) && json_number(other, "replica") == json_number(a, "replica");
        }
        beside += twice;
    }
    return beside;
}

/* While a deployment pauses, replicas of two versions are wanted until somebody decides. */
static int pauses(struct cli *cli, const json_t *service, bool *paused, struct error *err)
{
    const char *id = json_text(service, "status.deployment");
    CLEANUP_FREE char *path = api_path("/v1/deployments/", id, "");
    CLEANUP(json_decref) json_t *d = *id ? api_get(cli->api, path, err) : NULL;
    *paused = d && is(d, "state", "paused");
    return *id && !d ? -1 : 0;
}

int follow_settled(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                   enum follow_state *state, char **note, struct error *err)
{
    long long wanted, leaving, desired = json_number(service, "status.desired");
    const char *reason = json_text(service, "status.reason");
    count_live(allocs, &wanted, &leaving);
    if (!service || is(service, "status.state", "stopped") || is(service, "status.state", "stopping")) {
        *state = FOLLOW_FAILED;
        *note = mem_strdup("it was stopped meanwhile");
    } else if (is(service, "status.state", "failed")) {
        *state = FOLLOW_FAILED;
        *note = mem_printf("failed%s%s", *reason ? ": " : "", reason);
    } else if (is(service, "status.state", "complete")) {
        *state = FOLLOW_DONE;
        *note = mem_strdup("complete");
    } else {
        bool paused = false;
        if (wanted > desired && !leaving && pauses(cli, service, &paused, err))
            return -1;
        if (paused)
            wanted -= count_beside(allocs);
        bool settled = wanted == desired && !leaving && json_number(service, "status.running") >= desired;
        *state = settled && (is(service, "status.state", "running") || !desired) ? FOLLOW_DONE : FOLLOW_GOING;
        CLEANUP_FREE char *left = leaving ? mem_printf("%lld still to stop", leaving) : NULL;
        *note = counts(service, "status.", *state == FOLLOW_DONE ? "" : left ? left : reason);
    }
    return 0;
}

int follow_task(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                   enum follow_state *state, char **note, struct error *err)
{
    const char *reason = json_text(service, "status.reason");
    if (!service || is(service, "status.state", "failed")) {
        *state = FOLLOW_FAILED;
        *note = mem_printf("failed%s%s", *reason ? ": " : "", reason);
    } else if (*json_text(service, "current.spec.schedule")) {
        *state = FOLLOW_DONE;
        CLEANUP_BUF struct buf time = {0};
        cell_time(service, json_at(service, "status.next_run_at"), &time);
        *note = mem_printf("scheduled%s%s", time.len ? ", runs next at " : "", time.len ? time.data : "");
    } else {
        *state = is(service, "status.state", "complete") ? FOLLOW_DONE : FOLLOW_GOING;
        *note = mem_printf("%s%s%s", json_text(service, "status.state"), *reason ? ": " : "", reason);
    }
    return 0;
}

int follow_restart(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                   enum follow_state *state, char **note, struct error *err)
{
    size_t i, k, total = 0, anew = 0;
    json_t *a, *old;
    json_array_foreach(allocs, i, a) {
        if (!is(a, "desired", "run") || !follow_alloc_live(a))
            continue;
        bool same_run = false;
        json_array_foreach(item->before, k, old)
            same_run = same_run || (is(a, "id", json_text(old, "id")) && is(a, "started_at", json_text(old, "started_at")));
        total++;
        anew += !same_run;
    }
    if (follow_settled(cli, item, service, allocs, state, note, err))
        return -1;
    if (*state == FOLLOW_DONE && anew < total)
        *state = FOLLOW_GOING;
    if (*state != FOLLOW_FAILED) {
        free(*note);
        *note = mem_printf("%zu of %zu replicas restarted", anew, total);
    }
    return 0;
}

int follow_alloc_restart(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                         enum follow_state *state, char **note, struct error *err)
{
    const json_t *old = json_array_get(item->before, 0);
    size_t i;
    json_t *a;
    *note = mem_printf("%s restarts", json_text(old, "id"));
    json_array_foreach(allocs, i, a) {
        if (!is(a, "id", json_text(old, "id")))
            continue;
        if (!follow_alloc_live(a))
            *state = FOLLOW_FAILED;
        else if (!is(a, "started_at", json_text(old, "started_at")) && (is(a, "state", "running") || is(a, "state", "healthy")))
            *state = FOLLOW_DONE;
        else
            return 0;
        free(*note);
        *note = mem_printf("%s is %s", json_text(a, "id"), json_text(a, "state"));
        return 0;
    }
    *state = FOLLOW_FAILED;
    return 0;
}

int follow_unchanged(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                     enum follow_state *state, char **note, struct error *err)
{
    const char *reason = json_text(service, "status.reason");
    bool failed = !service || is(service, "status.state", "failed");
    *state = failed ? FOLLOW_FAILED : FOLLOW_DONE;
    *note = mem_printf("unchanged, version %lld, %s%s%s", json_number(service, "status.version"),
                       json_text(service, "status.state"), *reason ? ": " : "", reason);
    return 0;
}

int follow_stopped(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                   enum follow_state *state, char **note, struct error *err)
{
    long long wanted, leaving;
    count_live(allocs, &wanted, &leaving);
    *state = wanted + leaving ? FOLLOW_GOING : FOLLOW_DONE;
    *note = wanted + leaving ? mem_printf("%lld still to stop", wanted + leaving) : mem_strdup("stopped");
    return 0;
}

int follow_purged(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                  enum follow_state *state, char **note, struct error *err)
{
    int status = follow_stopped(cli, item, service, allocs, state, note, err);
    if (status == 0 && *state == FOLLOW_DONE && service && is(service, "status.state", "stopped")) {
        *state = FOLLOW_GOING;
        free(*note);
        *note = mem_strdup("stopped, what is known of it is being forgotten");
    }
    return status;
}

int follow_answer(struct cli *cli, const json_t *answer, follow_judge *otherwise, const json_t *before)
{
    const char *deployment = json_string_value(json_object_get(answer, "deployment"));
    struct follow_item item = {.service = json_text(answer, "service"), .deployment = deployment, .before = before,
                               .judge = deployment ? follow_deployment : otherwise};
    int status = follow_run(cli, &item, 1);
    if (status == STATUS_DONE || status == STATUS_FAILED)
        output_value(cli, answer);
    return status;
}
