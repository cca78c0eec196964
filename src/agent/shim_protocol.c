#include "agent/shim_protocol.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define ITEMS_MAX 65536

static void put_string(struct buf *out, const char *s)
{
    buf_add_u8(out, s != NULL);
    if (!s)
        return;
    buf_add_varint(out, strlen(s));
    buf_add(out, s, strlen(s));
}

static void put_list(struct buf *out, const struct str_list *l)
{
    buf_add_varint(out, l->n);
    for (uint32_t i = 0; i < l->n; i++)
        put_string(out, l->v[i]);
}

static void put_double(struct buf *out, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    buf_add_u64(out, bits);
}

static bool get_string(struct cursor *c, char **s)
{
    uint8_t there;
    uint64_t n;
    const uint8_t *p;
    *s = NULL;
    if (!cursor_u8(c, &there))
        return false;
    if (!there)
        return true;
    if (!cursor_varint(c, &n) || n > cursor_left(c) || !cursor_bytes(c, n, &p))
        return false;
    *s = mem_strndup((const char *)p, n);
    return true;
}

/* One block for the pointers: a shim keeps this for its whole life. */
static bool get_list(struct cursor *c, struct str_list *l)
{
    uint64_t n;
    *l = (struct str_list){0};
    if (!cursor_varint(c, &n) || n > ITEMS_MAX || n > cursor_left(c))
        return false;
    l->v = mem_array(n + 1, sizeof *l->v);
    for (; l->n < n; l->n++)
        if (!get_string(c, &l->v[l->n]))
            return false;
    return true;
}

static bool list_whole(const struct str_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (!l->v[i])
            return false;
    return true;
}

static bool get_i64(struct cursor *c, int64_t *v)
{
    uint64_t u;
    if (!cursor_u64(c, &u))
        return false;
    *v = (int64_t)u;
    return true;
}

static bool get_int(struct cursor *c, int *v)
{
    uint32_t u;
    if (!cursor_u32(c, &u))
        return false;
    *v = (int)u;
    return true;
}

static bool get_double(struct cursor *c, double *v)
{
    uint64_t bits;
    if (!cursor_u64(c, &bits))
        return false;
    memcpy(v, &bits, sizeof bits);
    return true;
}

/* How many follow comes first: another release may know fewer or more. */
static void put_metrics(struct buf *out, const struct vm_metrics *m)
{
    buf_add_u64(out, m->lines);
    buf_add_varint(out, VM_METRIC_COUNT);
    for (int i = 0; i < VM_METRIC_COUNT; i++)
        buf_add_u64(out, m->v[i]);
}

static bool get_metrics(struct cursor *c, struct vm_metrics *m)
{
    uint64_t n, v;
    if (!cursor_u64(c, &m->lines) || !cursor_varint(c, &n))
        return false;
    for (uint64_t i = 0; i < n; i++) {
        if (!cursor_u64(c, &v))
            return false;
        if (i < VM_METRIC_COUNT)
            m->v[i] = v;
    }
    return true;
}

/* --- messages --- */

void shim_message_encode(const struct shim_message *m, struct buf *out)
{
    buf_add_u8(out, (uint8_t)m->kind);
    switch (m->kind) {
    case SHIM_RUNNING:
        buf_add_u64(out, m->run);
        buf_add_u32(out, (uint32_t)m->pid);
        buf_add_u64(out, (uint64_t)m->started_at);
        buf_add_u64(out, m->shim_pid);
        break;
    case SHIM_FAILED:
    case SHIM_EXEC_FAILED:
        put_string(out, error_code_name(m->error.code));
        put_string(out, m->error.text);
        break;
    case SHIM_EXEC_EXITED:
        buf_add_u32(out, (uint32_t)m->code);
        break;
    case SHIM_METRICS:
        put_metrics(out, &m->metrics);
        break;
    case SHIM_SNAPSHOT:
        put_list(out, &m->args);
        break;
    case SHIM_PAUSED:
    case SHIM_SNAPSHOT_MADE:
    case SHIM_BALLOON_SET:
        put_string(out, error_code_name(m->error.code));
        put_string(out, m->error.text);
        buf_add_u32(out, (uint32_t)m->code);
        break;
    case SHIM_PAUSE:
    case SHIM_BALLOON:
        buf_add_u32(out, (uint32_t)m->code);
        break;
    case SHIM_SIGNAL:
        buf_add_u32(out, (uint32_t)m->signal);
        break;
    case SHIM_STOP:
        buf_add_u32(out, (uint32_t)m->signal);
        buf_add_u64(out, (uint64_t)m->timeout_ms);
        break;
    case SHIM_LEASE:
        buf_add_u64(out, (uint64_t)m->lease_until);
        break;
    case SHIM_RESIZE:
        buf_add_u32(out, m->rows);
        buf_add_u32(out, m->cols);
        break;
    case SHIM_SECRETS:
        buf_add_u32(out, (uint32_t)m->signal);
        put_list(out, &m->args);
        break;
    case SHIM_EXEC:
        buf_add_u8(out, m->tty);
        put_list(out, &m->args);
        break;
    }
}

static bool get_error(struct cursor *c, struct error *e)
{
    CLEANUP_FREE char *name = NULL;
    CLEANUP_FREE char *text = NULL;
    if (!get_string(c, &name) || !get_string(c, &text) || !name || !text)
        return false;
    error_set(e, error_code_from_name(name), "%s", text);
    return true;
}

int shim_message_decode(const void *bytes, size_t n, struct shim_message *m)
{
    struct cursor c = cursor_of(bytes, n);
    uint8_t kind, flag = 0;
    bool good = false;
    *m = (struct shim_message){0};
    if (!cursor_u8(&c, &kind))
        return -1;
    m->kind = kind;
    switch (m->kind) {
    case SHIM_RUNNING:
        good = cursor_u64(&c, &m->run) && get_int(&c, &m->pid) && get_i64(&c, &m->started_at) && cursor_u64(&c, &m->shim_pid);
        break;
    case SHIM_FAILED:
    case SHIM_EXEC_FAILED:
        good = get_error(&c, &m->error);
        break;
    case SHIM_EXEC_EXITED:
        good = get_int(&c, &m->code);
        break;
    case SHIM_METRICS:
        good = get_metrics(&c, &m->metrics);
        break;
    case SHIM_SNAPSHOT:
        good = get_list(&c, &m->args) && list_whole(&m->args);
        break;
    case SHIM_PAUSED:
    case SHIM_SNAPSHOT_MADE:
    case SHIM_BALLOON_SET:
        good = get_error(&c, &m->error) && get_int(&c, &m->code);
        break;
    case SHIM_PAUSE:
    case SHIM_BALLOON:
        good = get_int(&c, &m->code);
        break;
    case SHIM_SIGNAL:
        good = get_int(&c, &m->signal);
        break;
    case SHIM_STOP:
        good = get_int(&c, &m->signal) && get_i64(&c, &m->timeout_ms);
        break;
    case SHIM_LEASE:
        good = get_i64(&c, &m->lease_until);
        break;
    case SHIM_RESIZE:
        good = cursor_u32(&c, &m->rows) && cursor_u32(&c, &m->cols);
        break;
    case SHIM_SECRETS:
        good = get_int(&c, &m->signal) && get_list(&c, &m->args) && list_whole(&m->args);
        break;
    case SHIM_EXEC:
        good = cursor_u8(&c, &flag) && get_list(&c, &m->args) && m->args.n > 0 && list_whole(&m->args);
        m->tty = flag;
        break;
    }
    if (good)
        return 0;
    shim_message_clear(m);
    return -1;
}

void shim_message_clear(struct shim_message *m)
{
    str_list_clear(&m->args);
}

/* --- spec --- */

void shim_spec_encode(const struct shim_spec *s, struct buf *out)
{
    put_string(out, s->alloc_id);
    put_string(out, s->alloc_dir);
    put_string(out, s->node);
    buf_add_u64(out, s->run);
    buf_add_u64(out, (uint64_t)s->lease_until);
    put_list(out, &s->args);
    put_list(out, &s->env);
    put_string(out, s->user);
    put_string(out, s->workdir);
    buf_add_varint(out, s->cgroups.n);
    for (unsigned i = 0; i < s->cgroups.n; i++) {
        put_string(out, s->cgroups.v[i].path);
        buf_add_u32(out, s->cgroups.v[i].controllers);
        buf_add_u8(out, s->cgroups.v[i].v2);
    }
    put_double(out, s->limits.cpus);
    put_double(out, s->limits.cpu_max);
    buf_add_u64(out, (uint64_t)s->limits.memory_mb);
    buf_add_u64(out, (uint64_t)s->limits.pids);
    buf_add_u64(out, (uint64_t)s->log_max_files);
    buf_add_u64(out, (uint64_t)s->log_max_mb);
    put_string(out, s->vm.api);
    put_string(out, s->vm.vsock);
    put_string(out, s->vm.metrics);
    put_list(out, &s->vm.requests);
    put_list(out, &s->vm.locks);
    put_string(out, s->vm.secrets_dir);
    put_list(out, &s->vm.env);
    buf_add_u64(out, (uint64_t)s->vm.start_ms);
    buf_add_u64(out, (uint64_t)s->vm.memory_mb);
    put_string(out, s->vm.port.name);
    put_string(out, s->vm.port.bridge);
    buf_add_u64(out, (uint64_t)s->vm.port.uid);
    buf_add_u64(out, (uint64_t)s->vm.port.mtu);
    buf_add_u8(out, s->vm.port.ready ? SHIM_FD_NETWORK : 0);
    put_string(out, s->vm.identity);
    buf_add_u8(out, s->vm.on_serial);
    buf_add_u8(out, s->vm.balloon);
}

static bool get_flag(struct cursor *c, bool *out)
{
    uint8_t v;
    if (!cursor_u8(c, &v))
        return false;
    *out = v;
    return true;
}

static bool get_fd(struct cursor *c, int *out)
{
    uint8_t v;
    if (!cursor_u8(c, &v))
        return false;
    *out = v;
    return true;
}

static bool get_vm(struct cursor *c, struct shim_vm_spec *vm)
{
    return get_string(c, &vm->api) && get_string(c, &vm->vsock) && get_string(c, &vm->metrics) && get_list(c, &vm->requests)
        && get_list(c, &vm->locks) && get_string(c, &vm->secrets_dir) && get_list(c, &vm->env) && list_whole(&vm->env)
        && get_i64(c, &vm->start_ms) && get_i64(c, &vm->memory_mb) && list_whole(&vm->requests) && list_whole(&vm->locks)
        && get_string(c, &vm->port.name) && get_string(c, &vm->port.bridge) && get_i64(c, &vm->port.uid)
        && get_i64(c, &vm->port.mtu) && get_fd(c, &vm->port.ready) && get_string(c, &vm->identity) && get_flag(c, &vm->on_serial)
        && get_flag(c, &vm->balloon);
}

static bool get_cgroups(struct cursor *c, struct cgroup_root *r)
{
    uint64_t n;
    uint8_t v2;
    if (!cursor_varint(c, &n) || n > CGROUP_HIERARCHIES_MAX)
        return false;
    while (r->n < n) {
        struct cgroup_hierarchy *h = &r->v[r->n++];
        if (!get_string(c, &h->path) || !h->path || !cursor_u32(c, &h->controllers) || !cursor_u8(c, &v2))
            return false;
        h->v2 = v2;
    }
    return true;
}

int shim_spec_decode(const void *bytes, size_t n, struct shim_spec *s)
{
    struct cursor c = cursor_of(bytes, n);
    *s = (struct shim_spec){0};
    if (get_string(&c, &s->alloc_id) && get_string(&c, &s->alloc_dir) && get_string(&c, &s->node) && cursor_u64(&c, &s->run)
        && get_i64(&c, &s->lease_until) && get_list(&c, &s->args) && get_list(&c, &s->env) && get_string(&c, &s->user) && get_string(&c, &s->workdir)
        && get_cgroups(&c, &s->cgroups) && get_double(&c, &s->limits.cpus) && get_double(&c, &s->limits.cpu_max)
        && get_i64(&c, &s->limits.memory_mb) && get_i64(&c, &s->limits.pids) && get_i64(&c, &s->log_max_files)
        && get_i64(&c, &s->log_max_mb) && get_vm(&c, &s->vm) && cursor_left(&c) == 0 && s->alloc_id && s->alloc_dir && s->node && s->args.n)
        return 0;
    shim_spec_clear(s);
    return -1;
}

void shim_spec_clear(struct shim_spec *s)
{
    free(s->alloc_id);
    free(s->alloc_dir);
    free(s->node);
    free(s->user);
    free(s->workdir);
    str_list_clear(&s->args);
    str_list_clear(&s->env);
    cgroup_close(&s->cgroups);
    free(s->vm.api);
    free(s->vm.vsock);
    free(s->vm.metrics);
    str_list_clear(&s->vm.requests);
    str_list_clear(&s->vm.locks);
    free(s->vm.secrets_dir);
    str_list_wipe(&s->vm.env);
    free(s->vm.port.name);
    free(s->vm.port.bridge);
    free(s->vm.identity);
    *s = (struct shim_spec){0};
}

/* --- exit record --- */

void shim_exit_format(char out[static SHIM_EXIT_SIZE], const struct task_exit *how, const struct error *error)
{
    int n = snprintf(out, SHIM_EXIT_SIZE, "run=%llu\ncode=%d\nsignal=%d\noom=%d\nstarted_at=%lld\nfinished_at=%lld\n",
                     (unsigned long long)how->run, how->code, how->signal, how->oom, (long long)how->started_at,
                     (long long)how->finished_at);
    if (error && error->code)
        snprintf(out + n, SHIM_EXIT_SIZE - (size_t)n, "error=%s\ntext=%s\n", error_code_name(error->code), error->text);
    else
        snprintf(out + n, SHIM_EXIT_SIZE - (size_t)n, "reason=%s\n", how->reason);
}

/* The value of the line that begins with key ("code="), up to its end; "" when there is no such line. */
static void line_value(const char *text, const char *key, char *out, size_t size)
{
    *out = 0;
    for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
        if (strncmp(p, key, strlen(key)) != 0)
            continue;
        p += strlen(key);
        snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
        return;
    }
}

static long long line_number(const char *text, const char *key)
{
    char value[32];
    line_value(text, key, value, sizeof value);
    return strtoll(value, NULL, 10);
}

int shim_exit_parse(const char *text, struct task_exit *how, struct error *failed)
{
    *how = (struct task_exit){0};
    failed->code = ERROR_NONE;
    if (strncmp(text, "run=", 4) != 0)
        return -1;
    how->known = true;
    how->run = strtoull(text + 4, NULL, 10);
    how->code = (int)line_number(text, "code=");
    how->signal = (int)line_number(text, "signal=");
    how->oom = line_number(text, "oom=") != 0;
    how->started_at = line_number(text, "started_at=");
    how->finished_at = line_number(text, "finished_at=");
    line_value(text, "reason=", how->reason, sizeof how->reason);
    char name[32], words[sizeof failed->text];
    line_value(text, "error=", name, sizeof name);
    line_value(text, "text=", words, sizeof words);
    if (*name)
        error_set(failed, error_code_from_name(name), "%s", words);
    return 0;
}

int shim_exit_read(const char *alloc_dir, struct task_exit *how, struct error *failed, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("%s/" SHIM_EXIT_FILE, alloc_dir);
    CLEANUP_BUF struct buf text = {0};
    *how = (struct task_exit){0};
    failed->code = ERROR_NONE;
    if (file_read(path, SHIM_EXIT_SIZE, &text, err) < 0)
        return -1;
    if (shim_exit_parse(text.data, how, failed) < 0)
        return error_set(err, ERROR_CORRUPT, "%s is not a record of a task's end", path);
    return 0;
}
