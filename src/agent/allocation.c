/* Happy path: WAITING → (directories, intent on disk) PREPARING → STARTING → UP → (its end, then the policy) BACKOFF →
 * PREPARING → …, or (not wanted) STOPPING → DEAD. The table at the end says what each event does in each phase; the
 * functions before it do it and name the phase that follows. */
#include "agent/allocation.h"

#include <string.h>

#include "agent/alloc_secrets.h"
#include "agent/restart_policy.h"
#include "agent/secret_files.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timefmt.h"
#include "model/secret.h"

const char *const phase_names[PHASE_COUNT] = {
    "waiting", "preparing", "starting", "adopting", "up", "paused", "backoff", "stopping", "dead",
};

static const char *const event_names[EVENT_COUNT] = {
    "start", "prepared", "refused", "started", "start_failed", "exited", "healthy", "unhealthy", "timer", "stop", "restart",
    "checks", "pause", "resume", "paused", "resumed",
};

/* How long a task may stay unhealthy before it is restarted under the restart policy. */
#define UNHEALTHY_LEAST_MS 30000
#define NO_SPACE_RETRY_MS 2000
#define SECRETS_RETRY_MS 1000
#define AGAIN_MS 10

/* The things that a start waits for: its secrets, then its directories; meanwhile the intent. Outlives its allocation, because the worker cannot be called back. */
struct preparation {
    struct allocation *a;            /* NULL: nobody waits any more */
    struct launch *launch;
    uv_work_t work;
    struct store_wait *wait;
    bool working, asking, no_secrets;
    struct error error;
};

static const struct service *spec_of(const struct allocation *a)
{
    return &a->spec->version.spec;
}

/* --- saying and keeping --- */

void allocation_save(struct allocation *a)
{
    if (a->orphan)
        return;
    CLEANUP_BUF struct buf b = {0};
    type_encode(&alloc_record_type, &a->record, &b);
    store_put(runner_env(a->runner)->store, STORE_ALLOCS, a->record.alloc.id, b.data, b.len);
}

void allocation_report(struct allocation *a, enum alloc_state state, const char *reason)
{
    struct alloc_report *r = &a->record.report;
    if (r->state == state && r->reason && !strcmp(r->reason, reason))
        return;
    LOG_I("allocation", "alloc", a->record.alloc.id, "service", a->record.alloc.service, "from",
          alloc_state_names[r->state], "to", alloc_state_names[state], "reason", reason);
    r->state = state;
    r->time = time_now_ms();
    r->seq++;
    mem_set_string(&r->reason, reason);
    a->record.acknowledged = a->orphan || a->gone;
    allocation_save(a);
    if (!a->record.acknowledged)
        runner_env(a->runner)->report(runner_env(a->runner)->ctx);
}

void allocation_report_waiting(struct allocation *a, const char *trouble)
{
    CLEANUP_FREE char *text = mem_printf("waits: %s", trouble);
    allocation_report(a, ALLOC_STARTING, text);      /* pending is the servers' word, for what no agent has taken up */
}

static void on_timer(uv_timer_t *t)
{
    allocation_event(t->data, EVENT_TIMER);
}

static void wake_in(struct allocation *a, int64_t delay_ms)
{
    uv_timer_start(&a->timer, on_timer, (uint64_t)delay_ms, 0);
}

/* --- preparing --- */

static void preparation_free_when_idle(struct preparation *p)
{
    if (p->working)
        return;
    launch_free(p->launch);
    free(p);
}

static void preparation_abandon(struct allocation *a)
{
    struct preparation *p = a->preparation;
    if (!p)
        return;
    a->preparation = NULL;
    p->a = NULL;
    if (p->wait)
        store_wait_cancel(p->wait);
    p->wait = NULL;
    if (p->asking)
        alloc_secrets_rest(a->secrets);
    p->asking = false;
    preparation_free_when_idle(p);
}

static void preparation_step(struct preparation *p)
{
    if (!p->a) {
        preparation_free_when_idle(p);
        return;
    }
    if (p->working || p->asking)
        return;
    if (p->error.code) {
        struct error err = p->error;
        allocation_step(p->a, &(struct alloc_input){.event = EVENT_REFUSED, .err = &err});
    } else if (!p->wait) {
        allocation_event(p->a, EVENT_PREPARED);
    }
}

static void prepare_run(uv_work_t *work)
{
    struct preparation *p = work->data;
    launch_prepare(p->launch, &p->error);
}

static void prepare_done(uv_work_t *work, int status);

static void prepare(struct preparation *p)
{
    p->working = true;
    uv_queue_work(runner_env(p->a->runner)->loop, &p->work, prepare_run, prepare_done);
}

static void on_secrets(void *ctx, const struct error *err)
{
    struct preparation *p = ctx;
    p->asking = false;
    if (err)
        p->error = *err;
    else if (alloc_secrets_write(p->a->secrets, &p->error) == 0)
        alloc_secrets_env(p->a->secrets, &p->launch->env, &p->launch->secret_env);
    p->no_secrets = p->error.code;
    if (p->no_secrets)
        preparation_step(p);
    else
        prepare(p);
}

static void prepare_done(uv_work_t *work, int status)
{
    struct preparation *p = work->data;
    p->working = false;
    preparation_step(p);
}

static void intent_stored(void *ctx)
{
    struct preparation *p = ctx;
    p->wait = NULL;
    preparation_step(p);
}

/* It cannot even be started. */
static enum phase fail(struct allocation *a, const char *reason)
{
    a->record.report.finished_at = time_now_ms();
    allocation_report(a, ALLOC_FAILED, reason);
    return PHASE_DEAD;
}

/* For interpolation. peers is filled, and the caller's to clear. */
static struct task_facts facts_of(struct allocation *a, struct kv_list *peers)
{
    const struct runner_env *env = runner_env(a->runner);
    runner_peers(a->runner, a, peers);
    return (struct task_facts){
        .spec = spec_of(a), .alloc = &a->record.alloc, .node_name = env->node_name, .ip = env->ip,
        .node_meta = env->node_meta, .peers = peers,
    };
}

/* What runs already is taken over once, by replica 0, until it was. */
static const char *adopts(const struct allocation *a)
{
    return !a->record.alloc.replica && !a->record.report.started_at ? spec_of(a)->adopt : NULL;
}

/* The service's version may be another one than at the last start. NULL: it gets none. */
static struct alloc_secrets *allocation_secrets(struct allocation *a)
{
    bool needs = runner_env(a->runner)->secrets && service_has_secrets(spec_of(a));
    if (needs && !a->secrets)
        a->secrets = alloc_secrets_new(a);
    if (!needs)
        alloc_secrets_free(steal(&a->secrets), false);
    return a->secrets;
}

/* --- volumes --- */

static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

static bool list_has_volume(const struct volume_list *list, const struct task_facts *facts, const char *root, const char *dir)
{
    for (uint32_t i = 0; i < list->n; i++) {
        struct error none;
        char *path = NULL;
        if (task_volume_path(facts, root, &list->v[i], &path, &none) < 0)
            continue;
        CLEANUP_FREE char *given = path, *real = realpath(path, NULL);
        if (real && (is_below(real, dir) || is_below(dir, real)))
            return true;
    }
    return false;
}

bool allocation_has_volume(struct allocation *a, const char *dir)
{
    const struct service *spec = spec_of(a);
    if (a->phase == PHASE_DEAD || !spec_has_volume(spec))
        return false;
    const char *root = runner_env(a->runner)->volume_root;
    struct kv_list peers = {0};
    struct task_facts facts = facts_of(a, &peers);
    bool has = list_has_volume(&spec->volumes, &facts, root, dir) || list_has_volume(&spec->config.volumes, &facts, root, dir);
    kv_clear(&peers);
    return has;
}

/* --- volumes that other nodes have too --- */

static int64_t lease_of(const struct allocation *a)
{
    return spec_has_volume(spec_of(a)) ? runner_lease_until(a->runner) : LEASE_NOT_NEEDED;
}

static int64_t task_lease_of(int64_t until)
{
    return until == LEASE_NOT_NEEDED ? 0 : until;
}

void allocation_lease(struct allocation *a, bool over)
{
    int64_t until = runner_lease_until(a->runner);
    if (!a->task || !until || !spec_has_volume(spec_of(a)))
        return;                      /* without volumes it began without a lease, and needs none */
    if (!over)
        task_lease(a->task, task_lease_of(until));
    else if (until != LEASE_NOT_NEEDED)
        task_stop(a->task, 0, LEASE_STOP_MS);
}

static enum phase do_start(struct allocation *a, const struct alloc_input *in)
{
    const struct runner_env *env = runner_env(a->runner);
    if (!runner_may_start(a->runner))
        return PHASE_WAITING;
    if (env->trouble(env->ctx)) {
        allocation_report_waiting(a, env->trouble(env->ctx));
        return PHASE_WAITING;
    }
    int64_t lease = lease_of(a);
    if (lease && lease <= time_monotonic_ms()) {
        allocation_report_waiting(a, "no server answers, and its volumes are shared with other nodes");
        return PHASE_WAITING;
    }
    struct error err = {0};
    if (env->admits && env->admits(env->ctx, spec_of(a), &err) < 0)
        return fail(a, err.text);
    struct kv_list peers = {0};
    struct task_facts facts = facts_of(a, &peers);
    CLEANUP_FREE char *dir = runner_alloc_dir(a->runner, a->record.alloc.id);
    CLEANUP_FREE char *secrets_dir = allocation_secrets(a) ? secret_files_dir(env->secret_files, a->record.alloc.id) : NULL;
    facts.secrets_dir = secrets_dir && spec_of(a)->driver != DRIVER_EXEC ? SECRETS_DIR_INSIDE : secrets_dir;
    struct launch *l;
    int rc = launch_build(&facts, dir, env->volume_root, &l, &err);
    kv_clear(&peers);
    if (rc < 0)
        return fail(a, err.text);
    char *handle = NULL;
    l->secrets_dir = steal(&secrets_dir);
    l->adopt = mem_strdup(adopts(a));
    if (l->adopt && !(handle = task_takeover_handle(env->drivers, driver_kind_names[spec_of(a)->driver], l->adopt,
                                                    a->record.runs + 1, &spec_of(a)->logs, &err))) {
        launch_free(l);
        return fail(a, err.text);
    }
    a->record.generation = a->record.alloc.generation;
    a->record.launched = true;
    a->record.runs++;
    free(a->record.handle);
    a->record.handle = handle;
    allocation_save(a);
    struct preparation *p = a->preparation = NEW(struct preparation);
    *p = (struct preparation){.a = a, .launch = l, .asking = a->secrets};
    p->wait = store_when_durable(env->store, intent_stored, p);
    p->work.data = p;
    if (a->secrets)
        alloc_secrets_get(a->secrets, on_secrets, p);
    else
        prepare(p);
    return PHASE_PREPARING;
}

/* --- starting --- */

static void on_started(void *arg, const struct error *err, const char *handle, int pid, int64_t started_at)
{
    allocation_step(arg, &(struct alloc_input){
        .event = err ? EVENT_START_FAILED : EVENT_STARTED, .err = err, .handle = handle, .pid = pid,
        .started_at = started_at,
    });
}

static void on_exited(void *arg, const struct task_exit *how)
{
    allocation_step(arg, &(struct alloc_input){.event = EVENT_EXITED, .how = how});
}

/* What a start is busy with is said, until the servers have asked for something else. */
static void on_progress(void *arg, const char *text)
{
    struct allocation *a = arg;
    if (a->phase == PHASE_STARTING && a->after == AFTER_NOTHING)
        allocation_report(a, ALLOC_STARTING, text);
}

static void on_paused(void *arg, bool paused, const struct error *err)
{
    allocation_step(arg, &(struct alloc_input){.event = paused ? EVENT_PAUSED : EVENT_RESUMED, .err = err});
}

static const struct task_events task_events = {.started = on_started, .exited = on_exited, .paused = on_paused,
                                               .progress = on_progress};

static enum phase after_end(struct allocation *a, bool clean, int64_t started_ms, const char *why);

static enum phase do_launch(struct allocation *a, const struct alloc_input *in)
{
    const struct runner_env *env = runner_env(a->runner);
    const struct service *spec = spec_of(a);
    const struct launch *l = a->preparation->launch;
    allocation_report(a, ALLOC_STARTING, a->record.report.restarts ? "starting again" : "starting");
    struct error err = {0};
    char *login = a->secrets ? alloc_secrets_login(a->secrets) : NULL;
    a->task = task_start(env->drivers, driver_kind_names[spec->driver], &(struct task_spec){
        .alloc_id = a->record.alloc.id, .service = a->record.alloc.service, .alloc_dir = l->alloc_dir,
        .run = a->record.runs, .lease_until = task_lease_of(lease_of(a)), .config = &l->config, .env = &l->env, .resources = &spec->resources,
        .logs = &spec->logs, .volumes = &l->volumes, .ports = &a->record.alloc.ports,
        .secret_env = &l->secret_env, .secrets_dir = l->secrets_dir, .registry_login = login,
        .job = a->record.alloc.job, .replica = a->record.alloc.replica, .security = &spec->security, .adopt = l->adopt,
    }, &task_events, a, &err);
    if (login)
        explicit_bzero(login, strlen(login));
    free(login);
    preparation_abandon(a);
    if (a->secrets && a->task)
        alloc_secrets_given(a->secrets);
    if (!a->task) {
        a->record.launched = false;
        runner_count(a->runner)->start_failures++;
        return fail(a, err.text);
    }
    runner_count(a->runner)->starts++;
    return PHASE_STARTING;
}

/* What is no fault of the task: a full disk, secrets that are not there or that no server gives. It waits, and its restarts are
 * not used up. */
static int64_t waits_ms(const struct error *err, bool for_secrets)
{
    return for_secrets ? SECRETS_RETRY_MS : err->code == ERROR_NO_SPACE ? NO_SPACE_RETRY_MS : 0;
}

static enum phase not_started(struct allocation *a, const struct error *err, int64_t delay_ms)
{
    const struct runner_env *env = runner_env(a->runner);
    a->record.launched = false;
    runner_count(a->runner)->start_failures++;
    a->record.report.finished_at = time_now_ms();
    if (!delay_ms || a->after != AFTER_NOTHING)
        return after_end(a, false, time_now_ms(), err->text);
    allocation_report_waiting(a, err->text);
    if (err->code == ERROR_NO_SPACE)
        env->no_space(env->ctx);
    wake_in(a, delay_ms);
    return PHASE_BACKOFF;
}

static enum phase do_refused(struct allocation *a, const struct alloc_input *in)
{
    bool for_secrets = a->preparation->no_secrets;
    preparation_abandon(a);
    if (a->secrets)
        alloc_secrets_rest(a->secrets);
    return not_started(a, in->err, waits_ms(in->err, for_secrets));
}

void allocation_adopt(struct allocation *a)
{
    const struct runner_env *env = runner_env(a->runner);
    CLEANUP_FREE char *dir = runner_alloc_dir(a->runner, a->record.alloc.id);
    struct error err = {0};
    a->task = task_adopt(env->drivers, driver_kind_names[spec_of(a)->driver], a->record.alloc.id, dir,
                         a->record.handle, &task_events, a, &err);
    a->phase = PHASE_ADOPTING;
    if (a->task)
        return;
    /* The driver is switched off by configuration: what it ran cannot be seen from here. */
    LOG_W("a task cannot be adopted", "alloc", a->record.alloc.id, "error", err.text);
    a->record.launched = false;
    allocation_report(a, ALLOC_LOST, err.text);
    a->phase = PHASE_DEAD;
    runner_died(a->runner, a);
}

/* --- running --- */

static void on_health(void *arg, bool healthy, const char *reason)
{
    allocation_step(arg, &(struct alloc_input){.event = healthy ? EVENT_HEALTHY : EVENT_UNHEALTHY, .text = reason});
}

static void begin_health(struct allocation *a)
{
    static const struct health_events events = {.changed = on_health};
    const struct health *h = &spec_of(a)->health;
    const struct alloc_port_list *ports = &a->record.alloc.ports;
    if (h->type == HEALTH_NONE)
        return;
    struct health check;
    struct kv_list peers = {0};
    struct task_facts facts = facts_of(a, &peers);
    type_copy(&health_type_table, &check, h);
    str_list_clear(&check.command);
    /* launch_build has seen that it can be done, with the same configuration of the node. */
    struct error err;
    if (task_args(&facts, &h->command, &check.command, &err) < 0)
        LOG_W("variables in a health check cannot be replaced", "alloc", a->record.alloc.id, "error", err.text);
    kv_clear(&peers);
    int port = 0;
    for (uint32_t i = 0; i < ports->n && !port; i++)
        if (!h->port || !strcmp(h->port, ports->v[i].name))
            port = (int)ports->v[i].host;
    a->health = health_start(runner_env(a->runner)->loop, &(struct health_target){
        .health = &check, .host = runner_env(a->runner)->ip, .port = port, .task = a->task,
    }, &events, a);
    type_clear(&health_type_table, &check);
}

static void end_health(struct allocation *a)
{
    if (a->health)
        health_stop(a->health);
    a->health = NULL;
    uv_timer_stop(&a->timer);
}

static void stop_task(struct allocation *a)
{
    const struct kill *kill = &spec_of(a)->kill;
    int number = kill->signal ? signal_number(kill->signal) : 0;
    task_stop(a->task, number > 0 ? number : 0, kill->timeout_ms);
}

static enum phase begin_stop(struct allocation *a, enum after_stop after, const char *why)
{
    end_health(a);
    a->after = after;
    mem_set_string(&a->why, why);
    allocation_report(a, ALLOC_STOPPING, why);
    stop_task(a);
    return PHASE_STOPPING;
}

void allocation_adjust(struct allocation *a)
{
    if (a->phase == PHASE_UP || a->phase == PHASE_PAUSED)
        task_adjust(a->task, &a->spec->version.spec.config);
}

/* --- standing still: what the servers want is asked of the task, whose word then counts --- */

static enum phase pause_ask(struct allocation *a)
{
    struct error err = {0};
    bool paused = a->record.alloc.paused;
    a->record.paused = true;         /* until it is known that it goes on */
    allocation_save(a);
    if (task_pause(a->task, paused, &err) < 0)
        LOG_W("a task cannot be asked", "alloc", a->record.alloc.id, "to", paused ? "pause" : "resume", "error", err.text);
    return a->phase;
}

static enum phase do_pause(struct allocation *a, const struct alloc_input *in)
{
    return pause_ask(a);
}

static enum phase do_paused(struct allocation *a, const struct alloc_input *in)
{
    if (in->err) {
        CLEANUP_FREE char *why = mem_printf("it cannot be paused: %s", in->err->text);
        a->record.paused = false;
        allocation_report(a, a->record.report.state, why);
        return a->phase;
    }
    end_health(a);
    allocation_report(a, ALLOC_RUNNING, "paused");
    a->phase = PHASE_PAUSED;
    return a->record.alloc.paused ? a->phase : pause_ask(a);
}

static enum phase do_resumed(struct allocation *a, const struct alloc_input *in)
{
    if (in->err) {
        CLEANUP_FREE char *why = mem_printf("it cannot be resumed: %s", in->err->text);
        allocation_report(a, a->record.report.state, why);
        return a->phase;
    }
    a->record.paused = false;
    allocation_report(a, ALLOC_RUNNING, "resumed");
    end_health(a);
    begin_health(a);
    a->phase = PHASE_UP;
    return a->record.alloc.paused ? pause_ask(a) : a->phase;
}

static const char *stop_reason(const struct allocation *a)
{
    return a->record.alloc.desired_reason && *a->record.alloc.desired_reason ? a->record.alloc.desired_reason :
           a->gone ? "the servers do not know it any more" : "not wanted any more";
}

static enum phase do_started(struct allocation *a, const struct alloc_input *in)
{
    struct alloc_report *r = &a->record.report;
    mem_set_string(&a->record.handle, in->handle);
    CLEANUP_FREE char *address = task_address(a->task);
    bool moved = !text_same(address, r->address);
    mem_set_string(&r->ip, runner_env(a->runner)->ip);
    mem_set_string(&r->address, address);
    r->started_at = in->started_at ? in->started_at : time_now_ms();
    a->record.launched = true;
    a->pid = in->pid;
    if (a->after == AFTER_STOP)
        return begin_stop(a, AFTER_STOP, stop_reason(a));
    if (a->after == AFTER_RESTART || a->record.generation < a->record.alloc.generation)
        return begin_stop(a, AFTER_RESTART, "restart asked for");
    /* An adopted task keeps what was said of it; its health is asked anew. */
    if (a->phase == PHASE_ADOPTING && !moved && r->state >= ALLOC_RUNNING && r->state <= ALLOC_UNHEALTHY)
        allocation_save(a);
    else
        allocation_report(a, ALLOC_RUNNING, "started");
    allocation_lease(a, false);
    begin_health(a);
    if (allocation_secrets(a))
        alloc_secrets_follow(a->secrets);
    if (!a->health)
        task_settled(a->task);
    a->phase = PHASE_UP;
    allocation_adjust(a);            /* its version may be another one than that it began with */
    return a->record.paused || a->record.alloc.paused ? pause_ask(a) : a->phase;
}

static enum phase do_healthy(struct allocation *a, const struct alloc_input *in)
{
    uv_timer_stop(&a->timer);
    allocation_report(a, ALLOC_HEALTHY, in->text);
    task_settled(a->task);
    return PHASE_UP;
}

static enum phase do_unhealthy(struct allocation *a, const struct alloc_input *in)
{
    const struct health *h = &spec_of(a)->health;
    int64_t patience = 3 * h->unhealthy * h->interval_ms;
    wake_in(a, patience > UNHEALTHY_LEAST_MS ? patience : UNHEALTHY_LEAST_MS);
    allocation_report(a, ALLOC_UNHEALTHY, in->text);
    return PHASE_UP;
}

/* What was said of it stands until the new checks have a verdict of their own; without any, it runs and that is all. */
static enum phase do_checks(struct allocation *a, const struct alloc_input *in)
{
    end_health(a);
    begin_health(a);
    if (!a->health && a->record.report.state != ALLOC_RUNNING)
        allocation_report(a, ALLOC_RUNNING, "its health is not checked any more");
    return PHASE_UP;
}

static enum phase do_impatient(struct allocation *a, const struct alloc_input *in)
{
    CLEANUP_FREE char *why = mem_printf("unhealthy for too long: %s", a->record.report.reason);
    return begin_stop(a, AFTER_POLICY, why);
}

static enum phase do_stop_running(struct allocation *a, const struct alloc_input *in)
{
    return begin_stop(a, AFTER_STOP, stop_reason(a));
}

static enum phase do_restart_running(struct allocation *a, const struct alloc_input *in)
{
    return begin_stop(a, AFTER_RESTART, "restart asked for");
}

/* --- ending --- */

/* It finished when its last run did, which may be long ago when no agent was there to see it. */
static enum phase ended(struct allocation *a, enum alloc_state state, const char *reason)
{
    if (!a->record.report.finished_at)
        a->record.report.finished_at = time_now_ms();
    allocation_report(a, state, reason);
    return PHASE_DEAD;
}

static enum phase complete(struct allocation *a, const char *reason)
{
    return ended(a, ALLOC_COMPLETE, reason);
}

/* A run is over and nothing is left of it. */
static enum phase after_end(struct allocation *a, bool clean, int64_t started_ms, const char *why)
{
    enum after_stop after = a->after;
    a->after = AFTER_NOTHING;
    if (after == AFTER_STOP)
        return complete(a, stop_reason(a));
    if (after == AFTER_RESTART || a->record.generation < a->record.alloc.generation) {
        wake_in(a, 0);
        return PHASE_BACKOFF;
    }
    CLEANUP_FREE char *stopped_for = steal(&a->why);
    struct restart_decision d = restart_decide(&a->record, spec_of(a), clean && after != AFTER_POLICY, started_ms,
                                               time_now_ms());
    CLEANUP_BUF struct buf text = {0};
    buf_add_string(&text, after == AFTER_POLICY && stopped_for ? stopped_for : why);
    restart_describe(&d, spec_of(a), &text);
    if (d.verdict == RESTART_COMPLETE)
        return complete(a, text.data);
    if (d.verdict == RESTART_FAILED)
        return ended(a, ALLOC_FAILED, text.data);
    runner_count(a->runner)->restarts++;
    allocation_report(a, ALLOC_STARTING, text.data);
    wake_in(a, d.delay_ms);
    return PHASE_BACKOFF;
}

static void let_go(struct allocation *a)
{
    end_health(a);
    if (a->secrets)
        alloc_secrets_rest(a->secrets);
    if (!a->task)
        return;
    struct task *t = steal(&a->task);
    task_remove(t);
    task_free(t);
    a->pid = 0;
    a->record.paused = false;
}

static enum phase do_exited(struct allocation *a, const struct alloc_input *in)
{
    struct alloc_report *r = &a->record.report;
    const struct task_exit how = *in->how;       /* it may be the task's own */
    let_go(a);
    a->record.launched = false;
    if (how.run && how.run < a->record.runs && !a->orphan && a->after == AFTER_NOTHING) {
        /* The last agent ended between its intent to start and the start: this is the end of the run before, which
         * was dealt with then. */
        wake_in(a, 0);
        return PHASE_BACKOFF;
    }
    r->exited = how.known;
    r->exit_code = how.known ? how.code : 0;
    r->exit_signal = how.known ? how.signal : 0;
    r->oom = how.oom;
    r->finished_at = how.finished_at ? how.finished_at : time_now_ms();
    runner_count(a->runner)->exits++;
    return after_end(a, how.known && !how.code && !how.signal, how.started_at ? how.started_at : r->started_at,
                     how.reason);
}

static enum phase do_start_failed(struct allocation *a, const struct alloc_input *in)
{
    const struct error err = *in->err;
    int64_t delay_ms = a->task && a->task->again ? AGAIN_MS : waits_ms(&err, false);
    let_go(a);
    return not_started(a, &err, delay_ms);
}

/* Nothing of an earlier run was found. */
static enum phase do_not_adopted(struct allocation *a, const struct alloc_input *in)
{
    bool never_started = in->err->code == ERROR_NOT_FOUND && !a->record.handle;
    CLEANUP_FREE char *why = mem_printf("how it ended is not known: %s", in->err->text);
    let_go(a);
    a->record.launched = false;
    if (a->after == AFTER_STOP)
        return complete(a, stop_reason(a));
    if (never_started && (spec_of(a)->mode != MODE_TASK || a->record.alloc.state < ALLOC_RUNNING)) {
        wake_in(a, 0);
        return PHASE_BACKOFF;
    }
    a->record.report.finished_at = time_now_ms();
    return after_end(a, false, a->record.report.started_at, why);
}

/* --- not wanted any more, or wanted anew, while something is on its way --- */

static enum phase do_stop_unstarted(struct allocation *a, const struct alloc_input *in)
{
    uv_timer_stop(&a->timer);
    preparation_abandon(a);
    a->record.launched = false;
    return complete(a, stop_reason(a));
}

static enum phase do_stop_starting(struct allocation *a, const struct alloc_input *in)
{
    a->after = AFTER_STOP;
    allocation_report(a, ALLOC_STOPPING, stop_reason(a));
    stop_task(a);
    return a->phase;
}

static enum phase do_stop_later(struct allocation *a, const struct alloc_input *in)
{
    a->after = AFTER_STOP;
    return a->phase;
}

static enum phase do_restart_later(struct allocation *a, const struct alloc_input *in)
{
    if (a->after != AFTER_STOP)
        a->after = AFTER_RESTART;
    return a->phase;
}

static enum phase do_restart_backoff(struct allocation *a, const struct alloc_input *in)
{
    wake_in(a, 0);
    return PHASE_BACKOFF;
}

/* What is not in the table changes nothing: it came late. */
static enum phase (*const machine[PHASE_COUNT][EVENT_COUNT])(struct allocation *a, const struct alloc_input *in) = {
    [PHASE_WAITING] = {
        [EVENT_START] = do_start,
        [EVENT_STOP] = do_stop_unstarted,
    },
    [PHASE_PREPARING] = {
        [EVENT_PREPARED] = do_launch,
        [EVENT_REFUSED] = do_refused,
        [EVENT_STOP] = do_stop_unstarted,
    },
    [PHASE_STARTING] = {
        [EVENT_STARTED] = do_started,
        [EVENT_START_FAILED] = do_start_failed,
        [EVENT_STOP] = do_stop_starting,
        [EVENT_RESTART] = do_restart_later,
    },
    [PHASE_ADOPTING] = {
        [EVENT_STARTED] = do_started,
        [EVENT_START_FAILED] = do_not_adopted,
        [EVENT_STOP] = do_stop_later,
        [EVENT_RESTART] = do_restart_later,
    },
    [PHASE_UP] = {
        [EVENT_EXITED] = do_exited,
        [EVENT_HEALTHY] = do_healthy,
        [EVENT_UNHEALTHY] = do_unhealthy,
        [EVENT_TIMER] = do_impatient,
        [EVENT_STOP] = do_stop_running,
        [EVENT_RESTART] = do_restart_running,
        [EVENT_CHECKS] = do_checks,
        [EVENT_PAUSE] = do_pause,
        [EVENT_RESUME] = do_pause,
        [EVENT_PAUSED] = do_paused,
        [EVENT_RESUMED] = do_resumed,
    },
    [PHASE_PAUSED] = {
        [EVENT_EXITED] = do_exited,
        [EVENT_STOP] = do_stop_running,
        [EVENT_RESTART] = do_restart_running,
        [EVENT_PAUSE] = do_pause,
        [EVENT_RESUME] = do_pause,
        [EVENT_PAUSED] = do_paused,
        [EVENT_RESUMED] = do_resumed,
    },
    [PHASE_BACKOFF] = {
        [EVENT_TIMER] = do_start,
        [EVENT_STOP] = do_stop_unstarted,
        [EVENT_RESTART] = do_restart_backoff,
    },
    [PHASE_STOPPING] = {
        [EVENT_EXITED] = do_exited,
        [EVENT_STOP] = do_stop_later,
        [EVENT_RESTART] = do_restart_later,
    },
};

void allocation_step(struct allocation *a, const struct alloc_input *in)
{
    if (!machine[a->phase][in->event]) {
        LOG_D("event has no meaning now", "alloc", a->record.alloc.id, "phase", phase_names[a->phase], "event",
              event_names[in->event]);
        return;
    }
    a->phase = machine[a->phase][in->event](a, in);
    if (a->phase == PHASE_DEAD)
        runner_died(a->runner, a);
}

/* --- life --- */

struct allocation *allocation_new(struct runner *r, struct spec_ref *spec)
{
    struct allocation *a = NEW(struct allocation);
    a->runner = r;
    a->spec = spec;
    /* Larger than any number that an earlier record of the same allocation, lost with its store, can have had. */
    a->record.report.seq = (uint64_t)time_now_ms() * 1000;
    uv_timer_init(runner_env(r)->loop, &a->timer);
    a->timer.data = a;
    return a;
}

static void on_closed(uv_handle_t *h)
{
    struct allocation *a = h->data;
    type_clear(&alloc_record_type, &a->record);
    free(a->why);
    free(a);
}

void allocation_release(struct allocation *a)
{
    if (a->health)
        health_stop(steal(&a->health));
    if (a->task)
        task_free(steal(&a->task));
    preparation_abandon(a);
    alloc_secrets_free(steal(&a->secrets), true);      /* the task may go on */
    runner_spec_release(a->runner, a->spec);
    a->spec = NULL;
    uv_close((uv_handle_t *)&a->timer, on_closed);
}
