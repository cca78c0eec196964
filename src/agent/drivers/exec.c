/* Exec driver: a task is a process of this host, behind a shim. */
#include <string.h>

#include "agent/drivers/shim_task.h"
#include "base/mem.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static int exec_open(const struct driver_env *env, void **state, struct error *err)
{
    struct shim_tasks *s = NEW(struct shim_tasks);
    shim_tasks_open(s, env);
    *state = s;
    return 0;
}

static void exec_close(void *state)
{
    shim_tasks_close(state);
    free(state);
}

static void exec_probe(void *state, struct driver_info *info)
{
    struct shim_tasks *s = state;
    const char *lacks = shim_tasks_lack(s);
    const char *warning = s->env->cgroups ? s->env->cgroups->warning : "limits are not enforced: no control groups";
    info->healthy = !lacks;
    mem_set_string(&info->version, MENTAT_VERSION);
    mem_set_string(&info->detail, lacks ? lacks : *warning ? warning : NULL);
}

static void exec_start(void *state, struct task *task, const struct task_spec *spec)
{
    struct shim_task *t = (struct shim_task *)task;
    struct shim_tasks *s = state;
    struct shim_spec shim = {
        .alloc_id = (char *)spec->alloc_id, .alloc_dir = (char *)spec->alloc_dir, .node = (char *)s->env->node,
        .run = spec->run, .user = spec->config->user, .workdir = spec->config->workdir, .cgroups = *shim_tasks_cgroups(s),
        .limits = {.cpus = spec->resources->cpus, .cpu_max = spec->resources->cpu_max,
                   .memory_mb = spec->resources->memory_mb, .pids = spec->resources->pids},
        .log_max_files = spec->logs->max_files, .log_max_mb = spec->logs->max_mb,
    };
    for (uint32_t i = 0; i < spec->config->command.n; i++)
        str_list_add(&shim.args, spec->config->command.v[i]);
    for (uint32_t i = 0; i < spec->config->args.n; i++)
        str_list_add(&shim.args, spec->config->args.v[i]);
    if (!kv_get(spec->env, "PATH"))
        str_list_add(&shim.env, "PATH=" PATH_DEFAULT);
    for (uint32_t i = 0; i < spec->env->n; i++) {
        char *pair = mem_printf("%s=%s", spec->env->v[i].key, spec->env->v[i].value);
        str_list_add(&shim.env, pair);
        explicit_bzero(pair, strlen(pair));
        free(pair);
    }
    shim_task_init(s, t, spec->alloc_id, spec->alloc_dir);
    t->lease_until = spec->lease_until;
    struct error err = {0};
    int result = shim.args.n ? shim_task_start(t, &shim, spec->service, &err)
        : error_set(&err, ERROR_INVALID, "the service names no command: set config.command");
    if (result < 0)
        shim_task_fail(t, &err);
    for (uint32_t i = 0; spec->secrets_dir && i < shim.env.n; i++)
        explicit_bzero(shim.env.v[i], strlen(shim.env.v[i]));
    str_list_clear(&shim.args);
    str_list_clear(&shim.env);
}

static void exec_adopt(void *state, struct task *task, const char *alloc_id, const char *alloc_dir, const char *handle)
{
    struct shim_task *t = (struct shim_task *)task;
    shim_task_init(state, t, alloc_id, alloc_dir);
    shim_task_adopt(t, handle);
}

const struct driver driver_exec = {
    .name = "exec",
    .task_size = sizeof(struct shim_task),
    .exec_size = sizeof(struct exec_session),
    .open = exec_open,
    .close = exec_close,
    .probe = exec_probe,
    .start = exec_start,
    .adopt = exec_adopt,
    .stop = shim_task_stop,
    .signal = shim_task_signal,
    .stats = shim_task_stats,
    .lease = shim_task_lease,
    .remove = shim_task_remove,
    .free = shim_task_free,
    .exec = exec_session_start,
    .exec_write = exec_session_write,
    .exec_close_stdin = exec_session_close_stdin,
    .exec_resize = exec_session_resize,
    .exec_pause = exec_session_pause,
    .exec_free = exec_session_free,
};
