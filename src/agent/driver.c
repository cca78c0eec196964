#include "agent/driver.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Every driver that is built in. A new one is one row. */
static const struct driver *const table[] = {
    &driver_exec,
    &driver_docker,
    &driver_firecracker,
};

struct drivers {
    const struct driver *v[ARRAY_LEN(table)];
    void *state[ARRAY_LEN(table)];
    size_t n;
};

static const struct driver *driver_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

static int drivers_add(struct drivers *d, const struct driver *driver, const struct driver_env *env, struct error *err)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->v[i] == driver)
            return 0;
    if (driver->open && driver->open(env, &d->state[d->n], err) < 0)
        return error_context(err, "driver %s", driver->name);
    d->v[d->n++] = driver;
    return 0;
}

int drivers_open(const struct driver_env *env, const struct str_list *names, struct drivers **out, struct error *err)
{
    struct drivers *d = NEW(struct drivers);
    int result = 0;
    if (!names || !names->n)
        for (size_t i = 0; result == 0 && i < ARRAY_LEN(table); i++) {
            struct error why;
            result = drivers_add(d, table[i], env, &why);
            if (result < 0 && why.code == ERROR_UNSUPPORTED)
                result = 0;          /* not meant to work here: nobody asked for it by name */
            else if (result < 0 && err)
                *err = why;
        }
    for (uint32_t i = 0; names && result == 0 && i < names->n; i++) {
        const struct driver *driver = driver_find(names->v[i]);
        result = driver ? drivers_add(d, driver, env, err)
            : error_set(err, ERROR_INVALID, "there is no driver `%s` in this agent", names->v[i]);
    }
    if (result < 0) {
        drivers_close(d);
        return -1;
    }
    *out = d;
    return 0;
}

void drivers_close(struct drivers *d)
{
    for (size_t i = 0; d && i < d->n; i++)
        if (d->v[i]->close)
            d->v[i]->close(d->state[i]);
    free(d);
}

void drivers_probe(struct drivers *d, struct driver_info_list *out)
{
    for (size_t i = 0; i < d->n; i++) {
        struct driver_info *info = list_add((struct list *)(void *)out, &driver_info_type);
        mem_set_string(&info->name, d->v[i]->name);
        d->v[i]->probe(d->state[i], info);
    }
}

const char *drivers_network_wanted(struct drivers *d)
{
    const char *wanted = NULL;
    for (size_t i = 0; i < d->n && !wanted; i++)
        if (d->v[i]->network_wanted)
            wanted = d->v[i]->network_wanted(d->state[i]);
    return wanted;
}

void drivers_network(struct drivers *d, const struct agent_network *said)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->v[i]->network)
            d->v[i]->network(d->state[i], said);
}

char *task_address(struct task *t)
{
    return t->driver->address ? t->driver->address(t) : NULL;
}

/* --- dispatch: what a driver leaves NULL it cannot do --- */

static const struct driver *driver_of(struct drivers *d, const char *name, void **state, struct error *err)
{
    for (size_t i = 0; i < d->n; i++)
        if (!strcmp(d->v[i]->name, name)) {
            *state = d->state[i];
            return d->v[i];
        }
    error_set(err, ERROR_UNSUPPORTED, "this node has no driver `%s`", name);
    return NULL;
}

static struct task *task_new(struct drivers *d, const char *name, const struct task_events *events, void *arg, void **state,
                             struct error *err)
{
    const struct driver *driver = driver_of(d, name, state, err);
    if (!driver)
        return NULL;
    struct task *t = mem_alloc(driver->task_size);
    *t = (struct task){.driver = driver, .events = events, .arg = arg};
    return t;
}

static int unsupported(const struct driver *driver, const char *what, struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED, "driver %s does not support %s", driver->name, what);
}

int drivers_describe(struct drivers *d, const char *name, const char *what, driver_described *done, void *arg,
                     struct error *err)
{
    void *state;
    const struct driver *driver = driver_of(d, name, &state, err);
    if (!driver)
        return -1;
    if (!driver->describe)
        return unsupported(driver, "what runs without Mentat", err);
    driver->describe(state, what, done, arg);
    return 0;
}

char *task_takeover_handle(struct drivers *d, const char *name, const char *what, uint64_t run, const struct logs *logs,
                           struct error *err)
{
    void *state;
    const struct driver *driver = driver_of(d, name, &state, err);
    if (driver && driver->takeover_handle)
        return driver->takeover_handle(what, run, logs);
    if (driver)
        unsupported(driver, "what runs without Mentat", err);
    return NULL;
}

struct task *task_start(struct drivers *d, const char *driver, const struct task_spec *spec,
                        const struct task_events *events, void *arg, struct error *err)
{
    void *state;
    struct task *t = task_new(d, driver, events, arg, &state, err);
    if (t)
        t->driver->start(state, t, spec);
    return t;
}

struct task *task_adopt(struct drivers *d, const char *driver, const char *alloc_id, const char *alloc_dir,
                        const char *handle, const struct task_events *events, void *arg, struct error *err)
{
    void *state;
    struct task *t = task_new(d, driver, events, arg, &state, err);
    if (t)
        t->driver->adopt(state, t, alloc_id, alloc_dir, handle);
    return t;
}

void task_stop(struct task *t, int signal, int64_t timeout_ms)
{
    t->driver->stop(t, signal, timeout_ms);
}

int task_signal(struct task *t, int signal, struct error *err)
{
    return t->driver->signal ? t->driver->signal(t, signal, err) : unsupported(t->driver, "signals", err);
}

int task_secrets_changed(struct task *t, const struct str_list *files, int signal, struct error *err)
{
    if (t->driver->secrets_changed)
        return t->driver->secrets_changed(t, files, signal, err);
    return signal ? task_signal(t, signal, err) : 0;
}

void task_lease(struct task *t, int64_t until_ms)
{
    if (t->driver->lease)
        t->driver->lease(t, until_ms);
}

void task_settled(struct task *t)
{
    if (t->driver->settled)
        t->driver->settled(t);
}

void task_adjust(struct task *t, const struct config *config)
{
    if (t->driver->adjust)
        t->driver->adjust(t, config);
}

int task_pause(struct task *t, bool paused, struct error *err)
{
    return t->driver->pause ? t->driver->pause(t, paused, err) : unsupported(t->driver, "pausing tasks", err);
}

int task_stats(struct task *t, struct task_stats *out, struct error *err)
{
    *out = (struct task_stats){0};
    return t->driver->stats ? t->driver->stats(t, out, err) : unsupported(t->driver, "statistics", err);
}

void task_remove(struct task *t)
{
    if (t->driver->remove)
        t->driver->remove(t);
}

void task_free(struct task *t)
{
    if (!t)
        return;
    t->events = NULL;
    t->driver->free(t);
}

struct task_exec *task_exec(struct task *t, const struct exec_spec *spec, const struct exec_events *events, void *arg,
                            struct error *err)
{
    const struct driver *driver = t->driver;
    if (!driver->exec) {
        unsupported(driver, "running commands in tasks", err);
        return NULL;
    }
    if (!spec->command || !spec->command->n || !*spec->command->v[0]) {
        error_set(err, ERROR_INVALID, "no command was given");
        return NULL;
    }
    struct task_exec *x = mem_alloc(driver->exec_size);
    *x = (struct task_exec){.driver = driver, .events = events, .arg = arg};
    if (driver->exec(t, x, spec, err) < 0) {
        free(x);
        return NULL;
    }
    return x;
}

size_t exec_write(struct task_exec *x, const void *bytes, size_t n)
{
    return x->driver->exec_write(x, bytes, n);
}

void exec_close_stdin(struct task_exec *x)
{
    x->driver->exec_close_stdin(x);
}

void exec_resize(struct task_exec *x, uint16_t rows, uint16_t cols)
{
    if (x->driver->exec_resize)
        x->driver->exec_resize(x, rows, cols);
}

void exec_pause(struct task_exec *x, bool paused)
{
    x->driver->exec_pause(x, paused);
}

void exec_free(struct task_exec *x)
{
    if (!x)
        return;
    x->events = NULL;
    x->driver->exec_free(x);
}
