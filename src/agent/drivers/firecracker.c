/* Firecracker driver: a task is a virtual machine behind a shim.
 *
 * The happy path: start copies what it needs, a worker makes the machine ready (image, number, drives, tap), and the shim
 * is started with the monitor's configuration; all else is as for a process (shim_task.c). A machine is taken away by
 * `remove`, or, when its agent did not live to do that, when the next one begins. */
#include "agent/drivers/firecracker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/dns.h"
#include "agent/tool.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timefmt.h"

#define KVM_DEVICE "/dev/kvm"
#define KVM_VERSION 12               /* of its API, for ever */
#define IMAGE_ROOT_DEFAULT "/srv/images"
#define VERSION_TIMEOUT_MS 10000
#define PROBE_AGE_MS 300000
#define GC_INTERVAL_MS 600000
#define RULES_WAIT_MS 20             /* for machines that are made ready together: their guests boot longer */
#define JAILER_NONE "none"
/* The pool has four workers, and the agent's store needs one whatever images are built. */
#define PREPARING_MAX 2

struct firecracker_task {
    struct shim_task shim;
    struct machine_start *start;     /* while a worker makes it ready */
    char *snapshot;                  /* of its version: it begins with that, or may be the first; NULL: neither */
    bool resumes, copying;           /* copying: it is being made */
    int64_t memory_mb;
};

/* Outlives its task when that is freed meanwhile. */
struct machine_start {
    struct machine_start *next;      /* in line */
    struct firecracker_task *task;   /* NULL: nobody waits any more */
    struct machine *machine;
    bool cancelled;
    uv_work_t work;
    struct error error;
};

/* --- workers: the driver is freed when the last one has ended --- */

static void close_run(uv_work_t *work)
{
    struct firecracker *f = work->data;
    if (f->network)
        network_remove(f->network);
    rmdir(f->runs);
    rmdir(f->config->run_dir);
}

static void firecracker_free(struct firecracker *f)
{
    network_close(f->network);
    type_clear(&agent_network_type, &f->names);
    vm_images_close(f->images);
    uv_mutex_destroy(&f->lock);
    free(f->binary);
    free(f->jailer);
    free(f->dir);
    free(f->runs);
    free(f->version);
    free(f->trouble);
    free(f);
}

static void close_done(uv_work_t *work, int status)
{
    firecracker_free(work->data);
    free(work);
}

static void work_begin(struct firecracker *f, uv_work_t *work, uv_work_cb run, uv_after_work_cb done)
{
    f->working++;
    uv_queue_work(f->env->loop, work, run, done);
}

/* Called by each `done`. */
static void work_end(struct firecracker *f)
{
    f->working--;
    if (!f->closing || f->working)
        return;
    uv_work_t *work = NEW(uv_work_t);
    work->data = f;
    uv_queue_work(f->env->loop, work, close_run, close_done);
}

/* --- whether it works here --- */

static char *program_find(const char *name)
{
    static const char *const folders[] = {"/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin", "/opt/mentat/bin"};
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? mem_strdup(name) : NULL;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char *path = mem_printf("%s/%s", folders[i], name);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

static int kvm_look(struct error *err)
{
    int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? error_set(err, ERROR_UNSUPPORTED, KVM_DEVICE " does not exist: this host has no "
                                           "virtualisation, or its kernel module (kvm_intel, kvm_amd) is not loaded")
            : error_set_errno(err, errno, KVM_DEVICE " cannot be opened by the agent's user");
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    int machine = version == KVM_VERSION ? ioctl(fd, KVM_CREATE_VM, 0) : -1;
    int result = machine < 0 ? error_set(err, ERROR_UNSUPPORTED, KVM_DEVICE " makes no virtual machines") : 0;
    if (machine >= 0)
        close(machine);
    close(fd);
    return result;
}

/* "Firecracker v1.7.0\n…" */
static int version_ask(const char *binary, char *out, size_t size, struct error *err)
{
    char said[512], word[64];
    const char *const argv[] = {binary, "--version", NULL};
    if (tool_run(&(struct tool){.argv = argv, .timeout_ms = VERSION_TIMEOUT_MS, .output = said, .output_size = sizeof said},
                 NULL, err) < 0)
        return -1;
    if (sscanf(said, "Firecracker v%63s", word) != 1)
        return error_set(err, ERROR_UNSUPPORTED, "%s does not say its version", binary);
    snprintf(out, size, "%s", word);
    if (strncmp(word, FIRECRACKER_VERSION, strlen(FIRECRACKER_VERSION)) != 0)
        return error_set(err, ERROR_UNSUPPORTED, "%s is version %s; 1.7 is needed", binary, word);
    return 0;
}

static void probe_run(uv_work_t *work)
{
    struct firecracker *f = work->data;
    f->probe_error = (struct error){0};
    *f->probe_version = 0;
    if (version_ask(f->binary, f->probe_version, sizeof f->probe_version, &f->probe_error) == 0 && f->config->kvm_check)
        kvm_look(&f->probe_error);
    if (!f->probe_error.code && access(f->config->kernel, R_OK) < 0)
        LOG_D("there is no default kernel", "kernel", f->config->kernel);
}

static void probe_done(uv_work_t *work, int status)
{
    struct firecracker *f = work->data;
    f->probing = false;
    f->probed_at = time_monotonic_ms();
    const char *trouble = f->probe_error.code ? f->probe_error.text : NULL;
    bool changed = !text_same(f->version, f->probe_version) || !text_same(f->trouble, trouble);
    mem_set_string(&f->version, f->probe_version);
    mem_set_string(&f->trouble, trouble);
    if (changed && !f->closing && f->env->changed)
        f->env->changed(f->env->ctx);
    work_end(f);
}

static void probe_begin(struct firecracker *f)
{
    if (f->probing)
        return;
    f->probing = true;
    f->probe.data = f;
    work_begin(f, &f->probe, probe_run, probe_done);
}

static void firecracker_probe(void *state, struct driver_info *info)
{
    struct firecracker *f = state;
    if (time_monotonic_ms() - f->probed_at > PROBE_AGE_MS)
        probe_begin(f);
    info->healthy = f->version && *f->version && !f->trouble;
    mem_set_string(&info->version, f->version && *f->version ? f->version : NULL);
    mem_set_string(&info->detail, f->version || f->trouble ? f->trouble : "is being looked at");
}

/* --- beginning and end --- */

static void images_collect(uv_work_t *work)
{
    struct firecracker *f = work->data;
    vm_images_collect(f->images, f->config->image_gc_age_ms);
    snapshots_collect(f);
    if (f->network)
        network_ports_rest(f->network);
}

static void collected(uv_work_t *work, int status)
{
    struct firecracker *f = work->data;
    free(work);
    work_end(f);
}

static void on_gc(uv_timer_t *timer)
{
    struct firecracker *f = timer->data;
    uv_work_t *work = NEW(uv_work_t);
    work->data = f;
    work_begin(f, work, images_collect, collected);
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int programs_find(struct firecracker *f, struct error *err)
{
    const struct firecracker_config *c = f->config;
    f->binary = program_find(c->binary);
    if (!f->binary)
        return error_set(err, ERROR_UNSUPPORTED, "%s is not installed (firecracker.binary)", c->binary);
    if (!strstr(base_of(f->binary), "firecracker"))
        return error_set(err, ERROR_INVALID, "the name of %s must contain `firecracker`: the jailer asks for that", f->binary);
    if (geteuid() != 0 || !strcmp(c->jailer, JAILER_NONE))
        return 0;
    f->jailer = program_find(c->jailer);
    return f->jailer ? 0 : error_set(err, ERROR_UNSUPPORTED, "%s is not installed (firecracker.jailer; `none` goes without)",
                                     c->jailer);
}

/* What it does there as root would follow the links of whoever owns it: /tmp is everybody's. */
static int run_dir_check(const char *path, struct error *err)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return error_set_errno(err, errno, "%s", path);
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH)))
        return 0;
    return error_set(err, ERROR_UNSUPPORTED, "%s (firecracker.run_dir) must be a directory that the agent's user owns and "
                     "nobody else can write to: remove it, or name another", path);
}

static uv_timer_t *timer_new(struct firecracker *f)
{
    uv_timer_t *timer = NEW(uv_timer_t);
    uv_timer_init(f->env->loop, timer);
    timer->data = f;
    uv_unref((uv_handle_t *)timer);
    return timer;
}

static int firecracker_open(const struct driver_env *env, void **state, struct error *err)
{
    if (!env->firecracker)
        return error_set(err, ERROR_UNSUPPORTED, "microVMs are not configured");
    struct firecracker *f = NEW(struct firecracker);
    f->env = env;
    f->config = env->firecracker;
    uv_mutex_init(&f->lock);
    f->dir = mem_printf("%s/firecracker", env->data_dir);
    if (programs_find(f, err) < 0) {
        firecracker_free(f);
        return -1;
    }
    f->runs = mem_printf("%s/%s", f->config->run_dir, base_of(f->binary));
    bool networked = geteuid() == 0 && strcmp(f->config->network, "none");
    if (dir_make(f->dir, 0711, err) < 0 || dir_make(f->config->run_dir, 0711, err) < 0
        || run_dir_check(f->config->run_dir, err) < 0 || dir_make(f->runs, 0711, err) < 0 || run_dir_check(f->runs, err) < 0
        || (networked && network_open(f, &f->network, err) < 0)) {
        firecracker_free(f);
        return -1;
    }
    f->images = vm_images_open(f->dir, &f->config->image_roots, f->config->image_max_mb);
    f->line_end = &f->line;
    shim_tasks_open(&f->tasks, env);
    f->gc_timer = timer_new(f);
    f->rules_timer = timer_new(f);
    uv_timer_start(f->gc_timer, on_gc, GC_INTERVAL_MS, GC_INTERVAL_MS);
    f->probed_at = time_monotonic_ms();
    machines_sweep(f, NULL);
    snapshots_sweep(f);
    probe_begin(f);
    *state = f;
    return 0;
}

static void timer_closed(uv_handle_t *h)
{
    free(h);
}

static void firecracker_close(void *state)
{
    struct firecracker *f = state;
    uv_close((uv_handle_t *)f->gc_timer, timer_closed);
    uv_close((uv_handle_t *)f->rules_timer, timer_closed);
    dns_close(steal(&f->dns));
    shim_tasks_close(&f->tasks);
    f->closing = true;
    f->working++;
    work_end(f);
}

/* --- what the servers say of the network --- */

static char *job_of(void *ctx, uint32_t address)
{
    return network_job_of(((struct firecracker *)ctx)->network, address);
}

/* Names are answered where the bridge is, or will be. */
static void dns_update(struct firecracker *f)
{
    uint32_t address = network_bridge_address(f->network);
    struct error err = {0};
    if (address && address != f->dns_address) {
        dns_close(steal(&f->dns));
        f->dns_address = address;
        if (dns_open(&(struct dns_options){.loop = f->env->loop, .address = address, .resolvers = &f->config->dns,
                                           .job_of = job_of, .ctx = f}, &f->dns, &err) < 0)
            LOG_W("machines have no names for each other", "reason", err.text);
        atomic_store(&f->answers_names, f->dns != NULL);
        if (f->dns)
            dns_follow(f->dns, &f->names);
    }
}

static void follow_run(uv_work_t *work)
{
    struct firecracker *f = work->data;
    network_follow(f->network);
}

static void follow_begin(struct firecracker *f);
static void line_advance(struct firecracker *f);

static void follow_done(uv_work_t *work, int status)
{
    struct firecracker *f = work->data;
    free(work);
    f->following = false;
    if (f->follow_again && !f->closing)
        follow_begin(f);
    if (!f->closing) {
        dns_update(f);
        f->followed = true;
        line_advance(f);
    }
    work_end(f);
}

static void follow_begin(struct firecracker *f)
{
    f->follow_again = f->following;
    if (f->following)
        return;
    f->following = true;
    uv_work_t *work = NEW(uv_work_t);
    work->data = f;
    work_begin(f, work, follow_run, follow_done);
}

static void on_rules_due(uv_timer_t *timer)
{
    follow_begin(timer->data);
}

/* A machine came. To load rules costs as much as a start, so that is done once for all that come together. */
static void follow_soon(struct firecracker *f)
{
    if (!f->line && !f->preparing)
        follow_begin(f);
    else if (!uv_is_active((uv_handle_t *)f->rules_timer))
        uv_timer_start(f->rules_timer, on_rules_due, RULES_WAIT_MS, 0);
}

static void firecracker_network(void *state, const struct agent_network *table)
{
    struct firecracker *f = state;
    if (!f->network)
        return;
    type_clear(&agent_network_type, &f->names);
    if (table)
        type_copy(&agent_network_type, &f->names, table);
    if (f->dns)
        dns_follow(f->dns, &f->names);           /* at once; the rest takes a worker's time */
    network_tell(f->network, table);
    follow_begin(f);
}

static const char *firecracker_network_wanted(void *state)
{
    struct firecracker *f = state;
    return f->network ? network_wanted(f->network) : NULL;
}

static char *firecracker_address(struct task *task)
{
    struct firecracker_task *t = (struct firecracker_task *)task;
    struct firecracker *f = container_of(t->shim.state, struct firecracker, tasks);
    CLEANUP_FREE char *id = mem_printf("%s-%llu", t->shim.alloc_id, (unsigned long long)t->shim.run);
    int slot = f->network ? slot_find(f->dir, id) : -1;
    return slot < 0 ? NULL : network_address(f->network, slot);
}

/* --- starting --- */

static void prepare_run(uv_work_t *work)
{
    struct machine_start *p = work->data;
    machine_prepare(p->machine, &p->error);
}

static void clean_run(uv_work_t *work)
{
    struct machine_start *p = work->data;
    machine_clean(p->machine->f, p->machine->id);
}

static void start_free(struct machine_start *p)
{
    struct firecracker *f = p->machine->f;
    machine_free(p->machine);
    free(p);
    work_end(f);
}

static void clean_done(uv_work_t *work, int status)
{
    struct machine_start *p = work->data;
    struct firecracker *f = p->machine->f;
    if (f->network && !f->closing)
        follow_begin(f);
    start_free(p);
}

/* --- snapshots --- */

/* error: set from the start when the copy was not made. */
struct keep { struct firecracker *f; char *dir, *alloc_dir; bool on_serial; struct error error; };

static void keep_run(uv_work_t *work)
{
    struct keep *k = work->data;
    if (k->error.code)
        snapshot_give_up(k->dir);
    else
        snapshot_keep(k->dir, k->alloc_dir, k->on_serial, &k->error);
    snapshot_forget_files(k->alloc_dir);
}

static void keep_done(uv_work_t *work, int status)
{
    struct keep *k = work->data;
    struct firecracker *f = k->f;
    if (k->error.code)
        LOG_W("no snapshot of a microVM was kept", "snapshot", k->dir, "reason", k->error.text);
    else
        LOG_I("a microVM's snapshot was kept", "snapshot", k->dir);
    free(k->dir);
    free(k->alloc_dir);
    free(k);
    free(work);
    work_end(f);
}

/* One attempt for each machine: the next one of the version is the next attempt. */
static void snapshot_finish(struct firecracker_task *t, bool on_serial, const struct error *err)
{
    struct firecracker *f = container_of(t->shim.state, struct firecracker, tasks);
    struct keep *k = NEW(struct keep);
    uv_work_t *work = NEW(uv_work_t);
    *k = (struct keep){.f = f, .dir = steal(&t->snapshot), .alloc_dir = mem_strdup(t->shim.alloc_dir), .on_serial = on_serial};
    if (err)
        k->error = *err;
    t->copying = false;
    work->data = k;
    work_begin(f, work, keep_run, keep_done);
}

static void on_snapshot_made(struct shim_task *t, bool on_serial, const struct error *err)
{
    struct firecracker_task *task = (struct firecracker_task *)t;
    if (task->copying)
        snapshot_finish(task, on_serial, err);
}

static void firecracker_settled(struct task *task)
{
    struct firecracker_task *t = (struct firecracker_task *)task;
    struct firecracker *f = container_of(t->shim.state, struct firecracker, tasks);
    struct error err = {0};
    if (!t->snapshot || t->resumes || t->copying || !snapshot_begin_dir(t->snapshot))
        return;
    t->copying = true;
    if (snapshot_room(f, t->shim.alloc_dir, t->memory_mb, &err) < 0
        || shim_task_snapshot(&t->shim, "/" SNAPSHOT_STATE, "/" SNAPSHOT_MEMORY, &err) < 0)
        snapshot_finish(t, false, &err);
}

/* What the snapshot was made of is not what it was taken for. The next start finds none. */
static void on_not_started(struct shim_task *t, struct error *err)
{
    struct firecracker_task *task = (struct firecracker_task *)t;
    if (!task->resumes || err->code == ERROR_CANCELLED)
        return;
    struct error why = *err;
    snapshot_drop_dir(task->snapshot);
    t->head.again = true;
    error_set(err, why.code, "it does not begin with its snapshot, and starts anew: %s", why.text);
}

static void start_end(struct machine_start *p)
{
    struct firecracker_task *t = p->task;
    if (t)
        t->start = NULL;
    if (!p->error.code && (!t || p->cancelled))
        error_set(&p->error, ERROR_CANCELLED, "it was stopped before its machine was started");
    else if (!p->error.code) {
        t->snapshot = mem_strdup(p->machine->snapshot);
        t->resumes = p->machine->resumes;
        t->memory_mb = p->machine->config.memory_mb;
        if (t->resumes && t->shim.head.events->progress)
            t->shim.head.events->progress(t->shim.head.arg, "begins with the memory of its version's first replica here");
        shim_task_start(&t->shim, &p->machine->shim, p->machine->service, &p->error);
    }
    /* The servers are told of volumes with the node's other facts. */
    if (!p->error.code && p->machine->n_volumes && p->machine->f->env->changed)
        p->machine->f->env->changed(p->machine->f->env->ctx);
    if (t && p->error.code)
        shim_task_fail(&t->shim, &p->error);
    /* A machine that was prepared and not started. */
    if (p->error.code && p->machine->shim.alloc_id) {
        uv_queue_work(p->machine->f->env->loop, &p->work, clean_run, clean_done);
        return;
    }
    start_free(p);
}

static void prepare_done(uv_work_t *work, int status);

static void ports_begin(struct firecracker *f);

static void line_advance(struct firecracker *f)
{
    while (f->line && f->preparing < PREPARING_MAX && (!f->network || f->followed)) {
        struct machine_start *p = f->line;
        f->line = p->next;
        if (!f->line)
            f->line_end = &f->line;
        if (!p->task || p->cancelled) {
            start_end(p);
            continue;
        }
        f->preparing++;
        uv_queue_work(f->env->loop, &p->work, prepare_run, prepare_done);
    }
    if (f->ports_wanted && !f->preparing && !f->closing)
        ports_begin(f);
}

/* --- ports for machines to come: one after the other, while none waits to be made ready --- */

struct ports { struct firecracker *f; bool more; };

static void ports_run(uv_work_t *work)
{
    struct ports *p = work->data;
    p->more = network_port_prepare(p->f->network);
}

static void ports_done(uv_work_t *work, int status)
{
    struct ports *p = work->data;
    struct firecracker *f = p->f;
    f->preparing--;
    f->ports_wanted = p->more;
    free(p);
    free(work);
    line_advance(f);
    work_end(f);
}

static void ports_begin(struct firecracker *f)
{
    struct ports *p = NEW(struct ports);
    uv_work_t *work = NEW(uv_work_t);
    p->f = f;
    work->data = p;
    f->preparing++;
    work_begin(f, work, ports_run, ports_done);
}

static void prepare_done(uv_work_t *work, int status)
{
    struct machine_start *p = work->data;
    struct firecracker *f = p->machine->f;
    f->preparing--;
    f->ports_wanted = f->network != NULL;
    if (f->network && !f->closing) {
        dns_update(f);               /* the first machine may have brought another network */
        follow_soon(f);
    }
    start_end(p);
    line_advance(f);
}

static void firecracker_start(void *state, struct task *task, const struct task_spec *spec)
{
    struct firecracker *f = state;
    struct firecracker_task *t = (struct firecracker_task *)task;
    shim_task_init(&f->tasks, &t->shim, spec->alloc_id, spec->alloc_dir);
    t->shim.lease_until = spec->lease_until;
    t->shim.not_started = on_not_started;
    t->shim.snapshot_made = on_snapshot_made;
    struct machine_start *p = t->start = NEW(struct machine_start);
    p->task = t;
    p->machine = machine_new(f, spec);
    p->work.data = p;
    f->working++;                    /* until start_free */
    *f->line_end = p;
    f->line_end = &p->next;
    line_advance(f);
}

static void firecracker_adopt(void *state, struct task *task, const char *alloc_id, const char *alloc_dir, const char *handle)
{
    struct firecracker *f = state;
    struct firecracker_task *t = (struct firecracker_task *)task;
    shim_task_init(&f->tasks, &t->shim, alloc_id, alloc_dir);
    f->ports_wanted = f->network != NULL;
    snapshot_forget_files(alloc_dir);        /* of a copy that its last agent did not see the end of */
    shim_task_adopt(&t->shim, handle);
}

static void firecracker_stop(struct task *task, int signal, int64_t timeout_ms)
{
    struct firecracker_task *t = (struct firecracker_task *)task;
    if (t->start)
        t->start->cancelled = true;
    else
        shim_task_stop(task, signal, timeout_ms);
}

/* --- ending --- */

struct sweep { struct firecracker *f; char *which; };

static void sweep_run(uv_work_t *work)
{
    struct sweep *s = work->data;
    machines_sweep(s->f, s->which);
}

static void sweep_done(uv_work_t *work, int status)
{
    struct sweep *s = work->data;
    struct firecracker *f = s->f;
    free(s->which);
    free(s);
    free(work);
    if (f->network && !f->closing)
        follow_begin(f);
    work_end(f);
}

/* By number of run: the next run's machine is another one. */
static void firecracker_remove(struct task *task)
{
    struct firecracker_task *t = (struct firecracker_task *)task;
    struct firecracker *f = container_of(t->shim.state, struct firecracker, tasks);
    shim_task_remove(task);
    if (t->start)
        return;
    struct sweep *s = NEW(struct sweep);
    *s = (struct sweep){.f = f, .which = t->shim.run ? mem_printf("%s-%llu", t->shim.alloc_id, (unsigned long long)t->shim.run)
                                                        : mem_strdup(t->shim.alloc_id)};
    uv_work_t *work = NEW(uv_work_t);
    work->data = s;
    work_begin(f, work, sweep_run, sweep_done);
}

static void firecracker_task_free(struct task *task)
{
    struct firecracker_task *t = (struct firecracker_task *)task;
    if (t->start)
        t->start->task = NULL;
    t->start = NULL;
    if (t->copying) {
        struct error gone = {0};
        error_set(&gone, ERROR_CANCELLED, "the machine ended");
        snapshot_finish(t, false, &gone);
    }
    free(steal(&t->snapshot));
    shim_task_free(task);
}

static void firecracker_adjust(struct task *task, const struct config *config)
{
    if (config->balloon_mb)
        shim_task_balloon((struct shim_task *)task, config->balloon_mb);
}

const struct driver driver_firecracker = {
    .name = "firecracker",
    .task_size = sizeof(struct firecracker_task),
    .exec_size = sizeof(struct exec_session),
    .open = firecracker_open,
    .close = firecracker_close,
    .probe = firecracker_probe,
    .start = firecracker_start,
    .adopt = firecracker_adopt,
    .stop = firecracker_stop,
    .signal = shim_task_signal,
    .adjust = firecracker_adjust,
    .pause = shim_task_pause,
    .settled = firecracker_settled,
    .secrets_changed = shim_task_secrets_changed,
    .stats = shim_task_stats,
    .lease = shim_task_lease,
    .remove = firecracker_remove,
    .free = firecracker_task_free,
    .network_wanted = firecracker_network_wanted,
    .network = firecracker_network,
    .address = firecracker_address,
    .exec = exec_session_start,
    .exec_write = exec_session_write,
    .exec_close_stdin = exec_session_close_stdin,
    .exec_resize = exec_session_resize,
    .exec_pause = exec_session_pause,
    .exec_free = exec_session_free,
};
