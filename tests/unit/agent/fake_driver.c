#include "fake_driver.h"

#include <string.h>

#include "agent/health.h"
#include "base/mem.h"
#include "base/timefmt.h"

/* Answers come from the loop, as the real ones do. */
struct fake_task {
    struct task head;
    struct fake_run *run;            /* NULL: adopted, and there was nothing */
    uv_timer_t later;
    bool told_started, freed, answer_pause;
    struct health_check *check;
};

struct health_check {
    const struct health_events *events;
    void *arg;
    struct fake_task *task;
};

struct fake_host fake;

void fake_reset(uv_loop_t *loop)
{
    for (struct fake_run *r = fake.runs, *next; r; r = next) {
        next = r->next;
        for (char **e = r->env; e && *e; e++)
            free(*e);
        free(r->env);
        free(r->adopts);
        free(r);
    }
    fake = (struct fake_host){.loop = loop};
}

struct fake_run *fake_find(const char *alloc_id)
{
    for (struct fake_run *r = fake.runs; r; r = r->next)
        if (!strcmp(r->alloc_id, alloc_id))
            return r;
    return NULL;
}

const char *fake_env(const struct fake_run *r, const char *key)
{
    for (char **e = r->env; *e; e++)
        if (!strncmp(*e, key, strlen(key)) && (*e)[strlen(key)] == '=')
            return *e + strlen(key) + 1;
    return NULL;
}

static void on_later(uv_timer_t *timer)
{
    struct fake_task *t = timer->data;
    struct fake_run *r = t->run;
    if (t->freed)
        return;
    if (!r) {
        struct error err;
        error_set(&err, ERROR_NOT_FOUND, "there is no trace of the task");
        t->head.events->started(t->head.arg, &err, NULL, 0, 0);
        return;
    }
    if (!t->told_started && !r->alive && !r->exited) {
        struct error err;
        error_set(&err, fake.fail_code ? fake.fail_code : ERROR_INVALID, "%s",
                  fake.fail_start ? fake.fail_start : "failed");
        t->head.events->started(t->head.arg, &err, NULL, 0, 0);
        return;
    }
    if (!t->told_started) {
        t->told_started = true;
        char handle[64];
        snprintf(handle, sizeof(handle), "fake %s %llu", r->alloc_id, (unsigned long long)r->run);
        t->head.events->started(t->head.arg, NULL, handle, 4711, time_now_ms());
    }
    if (t->answer_pause && r->alive) {
        t->answer_pause = false;
        t->head.events->paused(t->head.arg, r->paused, NULL);
    }
    if (!t->freed && r->exited)
        t->head.events->exited(t->head.arg, &r->how);
}

static void later(struct fake_task *t)
{
    uv_timer_start(&t->later, on_later, 0, 0);
}

static struct fake_task *task_make(const struct task_events *events, void *arg)
{
    struct fake_task *t = NEW(struct fake_task);
    t->head = (struct task){.events = events, .arg = arg};
    uv_timer_init(fake.loop, &t->later);
    t->later.data = t;
    return t;
}

static void count_alive(const char *alloc_id)
{
    int alive = 0;
    for (struct fake_run *r = fake.runs; r; r = r->next)
        alive += r->alive && !strcmp(r->alloc_id, alloc_id);
    if (alive > fake.most_alive)
        fake.most_alive = alive;
}

struct task *task_start(struct drivers *d, const char *driver, const struct task_spec *spec,
                        const struct task_events *events, void *arg, struct error *err)
{
    struct fake_task *t = task_make(events, arg);
    struct fake_run *r = t->run = NEW(struct fake_run);
    snprintf(r->alloc_id, sizeof(r->alloc_id), "%s", spec->alloc_id);
    r->run = spec->run;
    r->task = t;
    r->env = mem_array(spec->env->n + 1, sizeof(*r->env));
    for (uint32_t i = 0; i < spec->env->n; i++)
        r->env[i] = mem_printf("%s=%s", spec->env->v[i].key, spec->env->v[i].value);
    r->next = fake.runs;
    fake.runs = r;
    fake.starts++;
    r->alive = !fake.fail_start;
    r->adopts = mem_strdup(spec->adopt);
    count_alive(r->alloc_id);
    if (!fake.hold)
        later(t);
    return &t->head;
}

void task_lease(struct task *t, int64_t until_ms)
{
    fake.lease_until = until_ms;
}

char *task_address(struct task *t)
{
    return NULL;
}

char *task_takeover_handle(struct drivers *d, const char *driver, const char *what, uint64_t run, const struct logs *logs,
                           struct error *err)
{
    return mem_printf("takes over %s", what);
}

struct task *task_adopt(struct drivers *d, const char *driver, const char *alloc_id, const char *alloc_dir,
                        const char *handle, const struct task_events *events, void *arg, struct error *err)
{
    struct fake_task *t = task_make(events, arg);
    t->run = fake_find(alloc_id);
    if (t->run)
        t->run->task = t;
    later(t);
    return &t->head;
}

void fake_answer(struct fake_run *r)
{
    later(r->task);
}

void fake_exit(struct fake_run *r, int code)
{
    r->alive = false;
    r->exited = true;
    r->how = (struct task_exit){.run = r->run, .known = true, .code = code, .finished_at = time_now_ms()};
    snprintf(r->how.reason, sizeof(r->how.reason), "exited with code %d", code);
    if (r->task)
        later(r->task);
}

void task_stop(struct task *task, int signal, int64_t timeout_ms)
{
    struct fake_task *t = (struct fake_task *)task;
    if (!t->run)
        return;
    t->run->stops++;
    t->run->signal = signal;
    if (t->run->alive && (!fake.deaf || timeout_ms == 0))
        fake_exit(t->run, 143);
}

void task_adjust(struct task *task, const struct config *config)
{
    ((struct fake_task *)task)->run->balloon_mb = config->balloon_mb;
}

int task_pause(struct task *task, bool paused, struct error *err)
{
    struct fake_task *t = (struct fake_task *)task;
    t->run->paused = paused;
    t->answer_pause = true;
    later(t);
    return 0;
}

void task_settled(struct task *task)
{
}

int task_secrets_changed(struct task *task, const struct str_list *files, int signal, struct error *err)
{
    return 0;
}

void task_remove(struct task *task)
{
    struct fake_task *t = (struct fake_task *)task;
    if (t->run)
        t->run->removes++;
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

void task_free(struct task *task)
{
    struct fake_task *t = (struct fake_task *)task;
    t->freed = true;
    if (t->run)
        t->run->task = NULL;
    uv_close((uv_handle_t *)&t->later, on_closed);
}

struct health_check *health_start(uv_loop_t *loop, const struct health_target *target,
                                  const struct health_events *events, void *arg)
{
    struct health_check *h = NEW(struct health_check);
    *h = (struct health_check){.events = events, .arg = arg, .task = (struct fake_task *)target->task};
    h->task->check = h;
    return h;
}

void health_stop(struct health_check *h)
{
    h->task->check = NULL;
    free(h);
}

const char *health_last(const struct health_check *h)
{
    return "";
}

void fake_health(struct fake_run *r, bool healthy)
{
    struct health_check *h = r->task->check;
    h->events->changed(h->arg, healthy, healthy ? "status 200" : "connection refused");
}
