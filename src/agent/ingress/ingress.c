/* Happy path: look for a running proxy → a table comes → plan → write files → start → ask for its processes → read each →
 * change what differs → in force → report. A new table goes through plan, files and changes again; one that the running
 * configuration has no room for through a reload, after which the new process is read and changed like the one before, and
 * that one hands over.
 *
 * A step that finds something to do begins it and sets busy; its end begins the steps anew. A new table waits for that end,
 * milliseconds. Whatever fails is told in the report and tried again after a pause. */
#include "agent/ingress/ingress_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/shim_child.h"
#include "base/file.h"
#include "base/log.h"
#include "base/open_files.h"
#include "base/timefmt.h"
#include "model/ingress_rules.h"
#include "net/address.h"

#define RELOAD_PAUSE_MS 200          /* between two: what comes meanwhile is gathered */
#define RELOAD_LONG_PAUSE_MS 2000    /* while processes of earlier ones have not ended: each takes memory, and commands */
#define RELOAD_OLD_FEW 3
#define RELOAD_LOOK_MS 20
#define RELOAD_FAILED_MS 10000
#define START_PAUSE_MS 100
#define START_PAUSE_MAX_MS 400       /* however often it ends, it serves again within a second */
#define START_REFUSED_MAX_MS 5000    /* what has not served before it ended is hardly going to */
#define LIVED_LONG_MS 1000
#define RETRY_MS 1000
#define OLD_LOOK_MS 1000
#define AUDIT_MS 30000
#define ROUNDS_MAX 5
#define OPEN_FILES 65536             /* what a shim gives its task at most */

static void fail(struct ingress_node *in, const char *what, const char *why)
{
    CLEANUP_FREE char *text = mem_printf("%s: %s", what, why);
    if (!in->failing || strcmp(in->failing, text)) {
        LOG_W("the ingress is not as the servers want it", "reason", text);
        mem_set_string(&in->failing, text);
        in->o.report(in->o.ctx);
    }
}

static void on_timer(uv_timer_t *t)
{
    ingress_step(t->data);
}

void ingress_step_in(struct ingress_node *in, int64_t ms)
{
    if (!uv_is_active((uv_handle_t *)&in->timer) || uv_timer_get_due_in(&in->timer) > (uint64_t)ms)
        uv_timer_start(&in->timer, on_timer, (uint64_t)ms, 0);
}

/* ms < 0: not until there is a reason. */
static void look_in(struct ingress_node *in, int64_t ms)
{
    in->look_at = ms < 0 ? INT64_MAX : time_monotonic_ms() + ms;
    if (ms >= 0)
        ingress_step_in(in, ms);
}

static unsigned maps_of(const struct ingress_node *in)
{
    return (in->o.config->http_port ? 1u << MAP_HTTP | 1u << MAP_ACME : 0) | (in->o.config->https_port ? 1u << MAP_HTTPS : 0) |
           (layout_has_header(&in->wanted) ? 1u << MAP_STICKY : 0);
}

/* --- plan --- */

static bool structure_holds(const struct ingress_node *in)
{
    const struct worker *current = workers_current(&in->workers);
    return current && !strcmp(current->structure, in->structure);
}

static const char *port_taken(const struct ingress_node *in, int port)
{
    static const char any[] = "0.0.0.0";
    for (uint32_t i = 0; i < in->o.config->bind.n || !i; i++) {
        struct address a = {.port = port};
        snprintf(a.host, sizeof a.host, "%s", in->o.config->bind.n ? in->o.config->bind.v[i] : any);
        int rc = address_probe(&a, ADDRESS_TCP);
        if (rc < 0)
            return rc == -EADDRINUSE ? "is taken by another program on this node" : "cannot be opened on this node";
    }
    return NULL;
}

/* Of a TCP service's port. What the proxy has open already is its own. */
static const char *port_problem(void *ctx, int port)
{
    struct ingress_node *in = ctx;
    if (port == in->o.config->http_port || port == in->o.config->https_port)
        return "its `listen` is the port of the web on this node";
    CLEANUP_FREE char *suffix = mem_printf(".tcp%d", port);
    for (uint32_t i = 0; i < in->wanted.n; i++) {
        const char *name = in->wanted.backends[i]->name;
        if (strlen(name) > strlen(suffix) && !strcmp(name + strlen(name) - strlen(suffix), suffix))
            return NULL;
    }
    return port_taken(in, port) ? "its `listen` port is taken on this node" : NULL;
}

/* Whom its processes run as. The user may come after the agent, with the package; what was planned before lacks the group. */
static bool find_user(struct ingress_node *in)
{
    struct account account;
    if (!render_own_user(&in->render) || in->render.gid >= 0)
        return true;
    if (account_find(in->o.config->user, in->o.node, &account, NULL) < 0)
        return false;
    in->render.gid = account.gid;
    in->table_new = true;
    return true;
}

static bool step_plan(struct ingress_node *in)
{
    struct worker *current = workers_current(&in->workers);
    if (!in->table_new || in->proxy == PROXY_UNKNOWN || (in->proxy == PROXY_RUNNING && !(current && current->loaded)))
        return false;
    find_user(in);
    bool adopting = !in->planned && current;
    if (adopting)
        plan_adopt(&in->wanted, &current->actual);
    free(steal(&in->left_out));
    plan_follow(&in->wanted, &in->table, &(struct plan_limits){
        .http = in->o.config->http_port, .https = in->o.config->https_port, .port_problem = port_problem, .ctx = in,
    }, &in->left_out);
    if (in->left_out)
        LOG_W("part of the ingress is left out", "reason", in->left_out);
    layout_remove_unused(&in->wanted, !adopting);
    render_structure(&in->wanted, &in->render, in->structure);
    if (!structure_holds(in)) {
        /* A reload takes along what nothing leads to any more. Until then requests may be led to it: it is left as it is. */
        layout_remove_unused(&in->wanted, false);
        render_structure(&in->wanted, &in->render, in->structure);
    }
    in->table_new = in->in_force = false;
    in->planned = in->files_old = true;
    in->generation++;
    in->rounds = 0;
    return false;
}

/* --- files --- */

static void on_written(void *arg, const struct error *err)
{
    struct ingress_node *in = arg;
    in->writing = NULL;
    in->busy = false;
    if (in->stopped) {
        ingress_stopped(in);
        return;
    }
    if (err) {
        fail(in, "its files cannot be written", err->text);
        in->files_old = true;
        ingress_step_in(in, RETRY_MS);
        return;
    }
    ingress_step(in);
}

static bool step_write(struct ingress_node *in)
{
    if (!in->planned || !in->files_old)
        return false;
    in->busy = true;
    in->files_old = false;
    in->writing = files_write(in->o.loop, &in->wanted, &in->render, on_written, in);
    return true;
}

/* --- the process --- */

static const char *web_port_taken(const struct ingress_node *in, int *port)
{
    const int64_t ports[] = {in->o.config->http_port, in->o.config->https_port};
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        const char *why = ports[i] ? port_taken(in, *port = (int)ports[i]) : NULL;
        if (why)
            return why;
    }
    return NULL;
}

static bool step_start(struct ingress_node *in)
{
    if (in->proxy != PROXY_GONE)
        return in->proxy == PROXY_UNKNOWN;
    if (!in->planned || !in->certificates_known)
        return true;
    int64_t wait = in->start_after - time_monotonic_ms();
    if (wait > 0) {
        ingress_step_in(in, wait);
        return true;
    }
    int port;
    const char *why = web_port_taken(in, &port);
    if (why) {
        CLEANUP_FREE char *what = mem_printf("port %d", port);
        fail(in, what, why);
        ingress_step_in(in, in->ended_at ? START_PAUSE_MS : RETRY_MS);     /* what ended may hold it for a moment */
        return true;
    }
    if (access(in->o.config->haproxy, X_OK) < 0) {
        fail(in, in->o.config->haproxy, "there is no such program: install the package haproxy, or set proxy.haproxy");
        ingress_step_in(in, RETRY_MS);
        return true;
    }
    if (!find_user(in)) {
        CLEANUP_FREE char *what = mem_printf("user %s", in->o.config->user);
        fail(in, what, "there is no such user: install the package haproxy, which makes it, or set proxy.user");
        ingress_step_in(in, RETRY_MS);
        return true;
    }
    if (in->table_new) {             /* by that: it is planned anew first */
        ingress_step_in(in, 0);
        return true;
    }
    in->proxy = PROXY_UNKNOWN;
    in->began_at = time_monotonic_ms();
    process_start(in->process);
    return true;
}

static void on_running(void *arg)
{
    struct ingress_node *in = arg;
    LOG_I("the proxy runs", "directory", in->directory);
    in->proxy = PROXY_RUNNING;
    in->look_at = 0;
    ingress_step(in);
}

void ingress_stopped(struct ingress_node *in)
{
    if (in->proxy != PROXY_GONE || in->writing || in->certificate_look || in->acme.run)
        return;                      /* whose end calls this again */
    dir_remove(in->directory);
    in->stopped(in->stopped_ctx);
}

static void on_gone(void *arg, const char *why, bool was_running)
{
    struct ingress_node *in = arg;
    bool started = in->began_at || was_running;
    in->proxy = PROXY_GONE;
    admin_forget(in->admin);
    workers_clear(&in->workers);
    int64_t longest = in->in_force ? START_PAUSE_MAX_MS : START_REFUSED_MAX_MS;
    in->reloading = in->in_force = false;
    if (in->stopped) {
        ingress_stopped(in);
        return;
    }
    int64_t now = time_monotonic_ms();
    if (started) {
        bool lived_long = was_running && now - in->began_at > LIVED_LONG_MS;
        in->start_pause_ms = lived_long || !in->start_pause_ms ? START_PAUSE_MS : in->start_pause_ms * 2;
        if (in->start_pause_ms > longest)
            in->start_pause_ms = longest;
        in->start_after = lived_long ? now : now + in->start_pause_ms;
        if (was_running && !in->ended_at)
            in->ended_at = now;
        fail(in, INGRESS_PROXY "ended", why);
    }
    ingress_step(in);
}

/* --- its processes --- */

static void reload_look(struct ingress_node *in, const struct answer_processes *p)
{
    bool came = p->current && p->current != in->current_before, failed = p->failed > in->failed_before;
    if (came || failed)
        in->reloading = false;
    if (failed) {
        in->reload_after = time_monotonic_ms() + RELOAD_FAILED_MS;
        CLEANUP_FREE char *words = process_words(in->directory);
        fail(in, INGRESS_PROXY "refused its new configuration and goes on with the one before", words);
    } else if (came) {
        in->reloads++;
        LOG_I("the proxy was reloaded", "ms", LOG_I64(time_monotonic_ms() - in->reloaded_at));
    }
}

static void on_processes(void *arg, const struct error *err, const char *answer)
{
    struct ingress_node *in = arg;
    struct answer_processes processes;
    struct error own;
    in->busy = false;
    if (in->closing || in->proxy != PROXY_RUNNING)
        return;
    if (err || answer_processes(answer, &processes, &own) < 0) {
        /* Right after its start, or in the middle of a reload. */
        look_in(in, RELOAD_LOOK_MS);
        return;
    }
    workers_follow(&in->workers, &processes);
    if (in->reloading)
        reload_look(in, &processes);
    in->failed_before = processes.failed;
    bool soon = in->reloading || !processes.current;
    look_in(in, soon ? RELOAD_LOOK_MS : processes.n_old ? OLD_LOOK_MS : -1);
    ingress_step(in);
}

static bool step_look(struct ingress_node *in)
{
    if (in->proxy != PROXY_RUNNING || in->look_at == INT64_MAX)
        return false;
    int64_t wait = in->look_at - time_monotonic_ms();
    if (wait > 0) {                  /* the loop's clock may be behind */
        ingress_step_in(in, wait);
        return false;
    }
    in->busy = true;
    admin_ask(in->admin, 0, "show proc", on_processes, in);
    return true;
}

static void on_loaded(void *arg, int pid, const struct error *err)
{
    struct ingress_node *in = arg;
    in->busy = false;
    if (in->closing || in->proxy != PROXY_RUNNING)
        return;
    if (err) {
        LOG_D("a process of the proxy cannot be read", "pid", LOG_I64(pid), "error", err->text);
        look_in(in, RELOAD_LOOK_MS);
        return;
    }
    ingress_step(in);
}

static bool step_load(struct ingress_node *in)
{
    struct worker *w = workers_current(&in->workers);
    if (in->proxy != PROXY_RUNNING || !w || w->loaded)
        return false;
    in->busy = true;
    worker_load(in->admin, &in->workers, w->pid, maps_of(in), on_loaded, in);
    return true;
}

/* What an old process serves is known from when it was the current one, unless it was found running. */
static bool step_hand_over(struct ingress_node *in)
{
    struct worker *w;
    LIST_FOREACH(w, &in->workers, link)
        if (!w->current && !(w->handed_over && w->loaded)) {
            in->busy = true;
            if (!w->handed_over)
                worker_hand_over(in->admin, &in->workers, w->pid, on_loaded, in);
            else
                worker_load(in->admin, &in->workers, w->pid, 0, on_loaded, in);
            return true;
        }
    return false;
}

/* --- reload --- */

static void on_reload_asked(void *arg, const struct error *err, const char *answer)
{
    struct ingress_node *in = arg;
    in->busy = false;
    if (!in->closing && in->proxy == PROXY_RUNNING)
        look_in(in, RELOAD_LOOK_MS);
}

/* How long the next one is to wait for others that want one too. */
static int64_t reload_wait(const struct ingress_node *in)
{
    bool few = workers_count(&in->workers) <= 1 + RELOAD_OLD_FEW;
    int64_t after = in->reloaded_at ? in->reloaded_at + (few ? RELOAD_PAUSE_MS : RELOAD_LONG_PAUSE_MS) : 0;
    return (after > in->reload_after ? after : in->reload_after) - time_monotonic_ms();
}

static bool step_reload(struct ingress_node *in)
{
    struct worker *current = workers_current(&in->workers);
    if (!in->planned || !current || in->reloading || structure_holds(in))
        return false;
    int64_t wait = reload_wait(in);
    if (wait > 0) {
        ingress_step_in(in, wait);
        return false;
    }
    in->busy = in->reloading = true;
    in->reloaded_at = time_monotonic_ms();
    in->current_before = current->pid;
    metrics_ask(in);
    admin_ask(in->admin, 0, "reload", on_reload_asked, in);
    return true;
}

/* --- changes --- */

static void on_changed(void *arg, int pid, const struct error *err)
{
    struct ingress_node *in = arg;
    in->busy = false;
    if (in->closing || in->proxy != PROXY_RUNNING)
        return;
    if (err) {
        struct worker *w = workers_find(&in->workers, pid);
        if (w)
            w->loaded = false;
        look_in(in, RELOAD_LOOK_MS);
        return;
    }
    ingress_step(in);
}

static bool step_change(struct ingress_node *in)
{
    struct worker *w = workers_current(&in->workers);
    if (!in->planned || in->table_new || !w)
        return false;
    CLEANUP_BUF struct buf commands = {0};
    struct str_list touched = {0};
    bool maps = changes_between(&w->actual, &in->wanted, &commands, &touched);
    if (commands.len && in->rounds++ > ROUNDS_MAX) {
        fail(in, INGRESS_PROXY "does not take its commands", touched.n ? touched.v[0] : "maps");
        w->loaded = false;           /* perhaps it was misread */
        in->rounds = 0;
        ingress_step_in(in, RETRY_MS);
    } else if (commands.len) {
        in->busy = true;
        worker_change(in->admin, &in->workers, w->pid, commands.data, &touched, maps ? maps_of(in) : 0, on_changed, in);
    }
    str_list_clear(&touched);
    return commands.len > 0;
}

/* --- in force --- */

static bool step_done(struct ingress_node *in)
{
    if (!in->planned || in->table_new || in->proxy != PROXY_RUNNING || in->reloading || !structure_holds(in))
        return false;
    bool news = in->applied != in->table.index || in->failing || !in->in_force;
    in->in_force = true;
    in->applied = in->table.index;
    in->rounds = 0;
    free(steal(&in->failing));
    if (in->ended_at) {
        LOG_I("the proxy serves again", "ms", LOG_I64(time_monotonic_ms() - in->ended_at));
        in->ended_at = 0;
    }
    if (news) {
        LOG_D("the table of routes is in force", "index", LOG_U64(in->applied));
        in->o.report(in->o.ctx);
        drain_watch(in);
        measure_follow(in);
    }
    return false;
}

static bool (*const steps[])(struct ingress_node *in) = {
    step_plan, step_write, step_start, step_look, step_load, step_plan, step_write, step_reload, step_change,
    step_hand_over, step_done, step_certificates,
};

void ingress_step(struct ingress_node *in)
{
    for (size_t i = 0; i < ARRAY_LEN(steps) && !in->busy && !in->closing && !in->stopped; i++)
        if (steps[i](in))
            return;
}

/* What the proxy serves is read again now and then, and a port that was taken is tried again. */
static void on_audit(uv_timer_t *timer)
{
    struct ingress_node *in = timer->data;
    struct worker *w;
    if (in->busy)
        return;                      /* next time */
    if ((w = workers_current(&in->workers)))
        w->loaded = w->certificates_read = false;
    in->certificate_rounds = 0;
    in->table_new |= in->left_out != NULL;
    certificates_tell(in);           /* one may have expired meanwhile */
    look_in(in, 0);
}

/* --- for the agent --- */

void ingress_follow(struct ingress_node *in, struct agent_ingress *table)
{
    type_clear(&agent_ingress_type, &in->table);
    in->table = *table;
    type_init(&agent_ingress_type, table);
    in->table_new = true;
    acme_follow_table(in);
    secret_certificates_follow(in);
    certificates_tell(in);
    ingress_step(in);
}

void ingress_report(struct ingress_node *in, struct ingress_report *report)
{
    report->applied = in->applied;
    mem_set_string(&report->problem, in->failing ? in->failing : in->left_out);
    for (uint32_t i = 0; i < in->wanted.n; i++)
        for (uint32_t k = 0; k < in->wanted.backends[i]->n_slots; k++)
            if (drain_idle(&in->wanted.backends[i]->slots[k]))
                str_list_add(&report->idle, in->wanted.backends[i]->slots[k].alloc);
    measure_report(in, &report->measures);
    acme_report_fill(in, &report->acme);
    secret_certificates_report(in, &report->acme.certificates);
    file_certificates_report(in, &report->acme.certificates);
}

int ingress_open(const struct ingress_options *o, struct ingress_node **out, struct error *err)
{
    struct ingress_node *in = NEW(struct ingress_node);
    in->o = *o;
    in->directory = mem_strdup(o->directory);
    in->render = (struct render_options){.config = o->config, .directory = in->directory, .root = geteuid() == 0,
                                         .gid = -1, .open_files = open_files_raise(OPEN_FILES),
                                         .cookie_key = "mentat-"};
    in->look_at = INT64_MAX;
    if (files_prepare(in->directory, err) < 0 ||
        process_open(&(struct process_options){
            .loop = o->loop, .config = o->config, .directory = in->directory, .node = o->node, .cgroups = o->cgroups,
            .running = on_running, .gone = on_gone, .arg = in,
        }, &in->process, err) < 0) {
        free(in->directory);
        free(in);
        return error_context(err, "ingress");
    }
    LIST_INIT(&in->workers);
    in->admin = admin_new(o->loop, in->directory);
    uv_timer_t *const timers[] = {&in->timer, &in->drain_timer, &in->audit_timer, &in->certificate_timer,
                                  &in->metrics_timer, &in->acme.timer};
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        uv_timer_init(o->loop, timers[i]);
        timers[i]->data = in;
        in->open_handles++;
    }
    uv_timer_start(&in->audit_timer, on_audit, AUDIT_MS, AUDIT_MS);
    certificate_watch(in);
    metrics_watch(in);
    measure_read(in);
    *out = in;
    return 0;
}

static void on_closed(uv_handle_t *h)
{
    struct ingress_node *in = h->data;
    if (--in->open_handles)
        return;
    workers_clear(&in->workers);
    layout_clear(&in->wanted);
    certificates_clear(&in->certificates);
    acme_clear(in);
    secret_certificates_clear(in);
    counters_clear(&in->totals);
    counters_clear(&in->versions);
    type_clear(&agent_ingress_type, &in->table);
    free(in->left_out);
    free(in->failing);
    free(in->directory);
    free(in);
}

void ingress_close(struct ingress_node *in)
{
    in->closing = true;
    if (in->writing)
        files_cancel(in->writing);
    admin_close(in->admin);
    process_close(in->process);
    uv_close((uv_handle_t *)&in->timer, on_closed);
    uv_close((uv_handle_t *)&in->drain_timer, on_closed);
    uv_close((uv_handle_t *)&in->audit_timer, on_closed);
    uv_close((uv_handle_t *)&in->certificate_timer, on_closed);
    uv_close((uv_handle_t *)&in->metrics_timer, on_closed);
    uv_close((uv_handle_t *)&in->acme.timer, on_closed);
    acme_close(in);
    measure_clear(in);
    certificate_forget(in);
}

void ingress_stop(struct ingress_node *in, void (*done)(void *ctx), void *ctx)
{
    in->stopped = done;
    in->stopped_ctx = ctx;
    acme_end_run(in);
    if (in->proxy == PROXY_GONE)
        ingress_stopped(in);
    else
        process_stop(in->process);
}
