#include "agent/ingress/process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "agent/driver.h"
#include "agent/ingress/render.h"
#include "agent/log_names.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timefmt.h"

#define TASK_ID "ingress"            /* no id of an allocation: whoever clears up after those leaves it alone */
#define STOP_MS 5000
#define CPU_SHARE 16                 /* a busy task must not take the processors from what serves all of them */
#define WORDS_SIZE 8192

struct process {
    struct process_options o;
    struct driver_env env;
    struct drivers *drivers;
    struct task *task;
    bool running, closing;
};

/* The end of the newest file of its stderr. */
static ssize_t log_end(const char *directory, char *out, size_t size)
{
    struct log_numbers numbers;
    char name[LOG_NAME_SIZE];
    CLEANUP_FREE char *logs = mem_printf("%s/logs", directory);
    if (log_numbers_find(logs, LOG_STDERR, &numbers) < 0 || !numbers.n)
        return -1;
    log_name_format(name, LOG_STDERR, numbers.last, LOG_SUFFIX_DATA);
    CLEANUP_FREE char *path = mem_printf("%s/%s", logs, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    off_t length = lseek(fd, 0, SEEK_END), from = length - (off_t)size + 1;
    ssize_t n = pread(fd, out, size - 1, from > 0 ? from : 0);
    close(fd);
    return n;
}

/* What an alert says of its cause. Others follow that only say that there was one. */
static const char *cause(const char *line)
{
    static const char *const general[] = {"Fatal errors found", "Error(s) found", "Some protocols failed", "All workers exited",
                                          "exit-on-failure"};
    const char *from = strstr(line, "[ALERT]") ? strstr(line, " : ") : NULL;
    for (size_t i = 0; from && i < ARRAY_LEN(general); i++)
        if (strstr(from, general[i]))
            return NULL;
    return from ? from + 3 : NULL;
}

char *process_words(const char *directory)
{
    char text[WORDS_SIZE];
    ssize_t n = log_end(directory, text, sizeof text);
    char *words = NULL, *rest = NULL;
    text[n > 0 ? n : 0] = '\0';
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *said = cause(line);
        if (said)
            mem_set_string(&words, said);
    }
    if (words)
        text_tame(words, false);
    return words ? words : mem_printf("look into %s/logs", directory);
}

static void over(struct process *p, const char *why)
{
    bool was_running = p->running;
    p->running = false;
    task_remove(p->task);
    task_free(steal(&p->task));
    CLEANUP_FREE char *words = process_words(p->o.directory);
    CLEANUP_FREE char *text = mem_printf("%s: %s", why, words);
    p->o.gone(p->o.arg, text, was_running);
}

static void on_started(void *arg, const struct error *err, const char *handle, int pid, int64_t started_at)
{
    struct process *p = arg;
    if (err) {
        task_free(steal(&p->task));
        p->o.gone(p->o.arg, err->code == ERROR_NOT_FOUND ? "it was not running" : err->text, false);
        return;
    }
    p->running = true;
    p->o.running(p->o.arg);
}

static void on_exited(void *arg, const struct task_exit *how)
{
    over(arg, how->reason);
}

static const struct task_events events = {.started = on_started, .exited = on_exited};

int process_open(const struct process_options *o, struct process **out, struct error *err)
{
    struct process *p = NEW(struct process);
    p->o = *o;
    p->env = (struct driver_env){.loop = o->loop, .node = o->node, .data_dir = o->directory, .cgroups = o->cgroups};
    struct str_list exec = {0};
    str_list_add(&exec, "exec");
    int rc = drivers_open(&p->env, &exec, &p->drivers, err);
    str_list_clear(&exec);
    if (rc == 0)
        p->task = task_adopt(p->drivers, "exec", TASK_ID, o->directory, NULL, &events, p, err);
    if (!p->task) {
        if (p->drivers)
            drivers_close(p->drivers);
        free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void process_start(struct process *p)
{
    struct config config = {.workdir = (char *)(uintptr_t)p->o.directory};
    struct error err = {0};
    static const char *const args[] = {"-W", "-S", "unix@" RENDER_MASTER ",mode,600,level,admin", "-f", RENDER_CONFIG};
    str_list_add(&config.command, p->o.config->haproxy);
    for (size_t i = 0; i < ARRAY_LEN(args); i++)
        str_list_add(&config.args, args[i]);
    struct resources resources = {.cpus = CPU_SHARE};
    struct logs logs = {.max_files = p->o.config->log_max_files, .max_mb = p->o.config->log_max_mb};
    struct kv_list env = {0};
    struct volume_list volumes = {0};
    struct alloc_port_list ports = {0};
    p->task = task_start(p->drivers, "exec", &(struct task_spec){
        .alloc_id = TASK_ID, .service = TASK_ID, .job = TASK_ID, .alloc_dir = p->o.directory,
        .run = (uint64_t)time_now_ms(), .config = &config, .env = &env, .resources = &resources, .logs = &logs,
        .volumes = &volumes, .ports = &ports,
    }, &events, p, &err);
    INVARIANT(p->task);              /* the driver is there */
    str_list_clear(&config.command);
    str_list_clear(&config.args);
}

void process_stop(struct process *p)
{
    if (p->task)
        task_stop(p->task, SIGTERM, STOP_MS);
}

void process_close(struct process *p)
{
    if (p->task)
        task_free(p->task);
    drivers_close(p->drivers);
    free(p);
}
