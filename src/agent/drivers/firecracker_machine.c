/* One machine, from what a task wants to the shim's spec. Its directory is RUNS/ID/root, the jail's root with a jailer:
 *
 *   vmlinux, initrd, image      shared by all, read only: mounted into the jail, since it cannot see their own paths
 *   config                      the config drive, written for each start
 *   over                        what is written over the image, when the service has a disk_mb; else that is memory
 *   volume-N                    block images of volumes
 *   run/firecracker.socket      the monitor's API; v.sock: its end of vsock
 *   firecracker.log             what it has to say
 *   firecracker.metrics         a FIFO: how it does, read by the shim
 *
 * Without a jailer the monitor sees the host's paths, and nothing is mounted. Everything is named after the machine's id,
 * so that machine_clean finds it all whatever happened; whoever fails here calls that. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/dns.h"
#include "agent/drivers/firecracker.h"
#include "agent/drivers/firecracker_volume.h"
#include "agent/secret_files.h"
#include "agent/volumes.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/net4.h"
#include "base/random.h"
#include "guest/init_image.h"
#include "model/namespace.h"
#include "net/address.h"

#define API_SOCKET "run/firecracker.socket"
#define VSOCK_SOCKET "v.sock"
#define LOG_FILE "firecracker.log"
#define METRICS_FIFO "firecracker.metrics"
#define FILES_LIMIT 1024
#define FSIZE_LEAST (64ll << 20)
#define CPIO_HEADER_SIZE 110
#define SECRET_FILE_MODE 0400
#define SLOTS_ALONE 60000            /* machines without a network */

/* Takes what the caller made. */
static void str_list_take(struct str_list *l, char *text)
{
    str_list_add(l, text);
    free(text);
}

/* --- copies --- */

/* What is secret goes to the guest over the line to it, the rest on its drive. */
static void env_copy(struct machine *m, const struct task_spec *spec)
{
    for (uint32_t i = 0; i < spec->env->n; i++) {
        const struct kv *v = &spec->env->v[i];
        if (!spec->secret_env || !str_list_has(spec->secret_env, v->key)) {
            kv_set(&m->env, v->key, v->value);
            continue;
        }
        char *pair = mem_printf("%s=%s", v->key, v->value);
        str_list_add(&m->shim.vm.env, pair);
        explicit_bzero(pair, strlen(pair));
        free(pair);
    }
}

struct machine *machine_new(struct firecracker *f, const struct task_spec *spec)
{
    struct machine *m = NEW(struct machine);
    m->f = f;
    m->id = mem_printf("%s-%llu", spec->alloc_id, (unsigned long long)spec->run);
    m->alloc_id = mem_strdup(spec->alloc_id);
    m->alloc_dir = mem_strdup(spec->alloc_dir);
    m->service = mem_strdup(spec->service);
    m->job = mem_strdup(spec->job ? spec->job : spec->service);
    m->replica = spec->replica;
    m->run = spec->run;
    m->monitor_version = mem_strdup(f->version ? f->version : "");
    m->slot = -1;
    type_copy(&config_type, &m->config, spec->config);
    m->shim.vm.secrets_dir = mem_strdup(spec->secrets_dir);
    env_copy(m, spec);
    type_copy(&resources_type, &m->resources, spec->resources);
    type_copy(&logs_type, &m->logs, spec->logs);
    for (uint32_t i = 0; spec->ports && i < spec->ports->n; i++)
        type_copy(&alloc_port_type, list_add_zero((struct list *)&m->ports, &alloc_port_type), &spec->ports->v[i]);
    m->n_volumes = spec->volumes ? spec->volumes->n : 0;
    m->volumes = mem_array(m->n_volumes + 1, sizeof *m->volumes);
    for (uint32_t i = 0; i < m->n_volumes; i++) {
        const struct volume *v = &spec->volumes->v[i];
        m->volumes[i] = (struct machine_volume){.image = mem_printf("%s/" VOLUME_IMAGE, v->source), .size_mb = v->size_mb,
                                                .target = mem_strdup(v->target), .read_only = v->read_only};
    }
    return m;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->n_volumes; i++) {
        free(m->volumes[i].image);
        free(m->volumes[i].target);
    }
    free(m->volumes);
    type_clear(&config_type, &m->config);
    kv_clear(&m->env);
    list_clear((struct list *)&m->ports, &alloc_port_type);
    m->shim.cgroups = (struct cgroup_root){0};       /* the agent's */
    if (m->shim.vm.port.ready)
        close(m->shim.vm.port.ready);
    shim_spec_clear(&m->shim);
    free(m->id);
    free(m->alloc_id);
    free(m->alloc_dir);
    free(m->monitor_version);
    free(m->snapshot);
    free(m->service);
    free(m->job);
    free(m);
}

/* --- the initial file system: mentat-init, behind the kernel's modules --- */

static void cpio_entry(struct buf *b, const char *name, int mode, const void *bytes, size_t n)
{
    buf_printf(b, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 0, mode, 0, 0, 1, 0, n, 0, 0, 0, 0,
               strlen(name) + 1, 0);
    buf_add(b, name, strlen(name) + 1);
    while (b->len % 4)
        buf_add_u8(b, 0);
    buf_add(b, bytes, n);
    while (b->len % 4)
        buf_add_u8(b, 0);
}

/* The same bytes for every machine of a kernel's modules, so it is written once. */
static char *initrd_make(struct firecracker *f, struct error *err)
{
    const char *modules = f->config->modules;
    CLEANUP_BUF struct buf b = {0};
    if (modules && file_read(modules, 256u << 20, &b, err) < 0) {
        error_context(err, "firecracker.modules of agent.yaml");
        return NULL;
    }
    while (b.len % 4)
        buf_add_u8(&b, 0);
    cpio_entry(&b, "init", S_IFREG | 0755, guest_init_begin, (size_t)(guest_init_end - guest_init_begin));
    cpio_entry(&b, "TRAILER!!!", 0, NULL, 0);
    char *path = mem_printf("%s/initrd-%016llx", f->dir, (unsigned long long)hash_bytes(b.data, b.len, 0));
    uv_mutex_lock(&f->lock);
    int result = access(path, R_OK) == 0 ? 0 : file_write(path, b.data, b.len, 0644, err);
    uv_mutex_unlock(&f->lock);
    if (result == 0)
        return path;
    free(path);
    return NULL;
}

static int kernel_find(struct machine *m, char **path, struct error *err)
{
    struct firecracker *f = m->f;
    char magic[4] = "";
    if (m->config.kernel) {
        if (vm_source_find(&f->config->image_roots, m->config.kernel, path, err) < 0)
            return error_context(err, "config.kernel");
    } else {
        *path = mem_strdup(f->config->kernel);
    }
    int fd = open(*path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "kernel %s%s", *path,
                               m->config.kernel ? "" : " (firecracker.kernel of agent.yaml, or config.kernel)");
    ssize_t n = pread(fd, magic, sizeof magic, 0);
    close(fd);
    if (n != sizeof magic || memcmp(magic, "\x7f" "ELF", 4) != 0)
        return error_set(err, ERROR_INVALID, "kernel %s is no uncompressed kernel (vmlinux); scripts/guest-kernel.sh makes "
                         "one out of a distribution's", *path);
    return 0;
}

/* --- the directory --- */

static char *machine_dir(const struct firecracker *f, const char *id)
{
    return mem_printf("%s/%s", f->runs, id);
}

uid_t machine_uid(const struct firecracker *f, int slot)
{
    return f->jailer ? (uid_t)(f->config->uid_base + slot) : geteuid();
}

/* As the monitor sees a file of the machine's directory. */
static char *seen_path(const struct machine *m, const char *root, const char *name)
{
    return m->f->jailer ? mem_printf("/%s", name) : mem_printf("%s/%s", root, name);
}

/* Brings a file of the host to where the monitor can have it. Returns the path to give to it, the caller's. */
static char *file_bring(const struct machine *m, const char *root, const char *name, const char *path, bool read_only,
                        struct error *err)
{
    if (!m->f->jailer)
        return mem_strdup(path);
    CLEANUP_FREE char *to = mem_printf("%s/%s", root, name);
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        error_set_errno(err, errno, "cannot make %s", to);
        return NULL;
    }
    close(fd);
    if (mount(path, to, NULL, MS_BIND, NULL) < 0 ||
        (read_only && mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)) {
        error_set_errno(err, errno, "cannot mount %s into the machine's jail", path);
        return NULL;
    }
    return mem_printf("/%s", name);
}

static int own(const struct machine *m, const char *path, struct error *err)
{
    uid_t uid = machine_uid(m->f, m->slot);
    if (!m->f->jailer || chown(path, uid, (gid_t)uid) == 0)
        return 0;
    return error_set_errno(err, errno, "cannot give %s to the machine's user", path);
}

static int file_new(const struct machine *m, const char *path, const void *bytes, size_t n, int mode, struct error *err)
{
    return file_put(path, bytes, n, mode, err) < 0 ? -1 : own(m, path, err);
}

/* --- the config drive --- */

static void texts_add(struct str_list *l, struct drive_text_list *out)
{
    out->v = (const char **)l->v;
    out->n = l->n;
}

static void args_make(const struct machine *m, const struct vm_image *image, struct str_list *args)
{
    const struct str_list *program = m->config.command.n ? &m->config.command : &image->entrypoint;
    const struct str_list *rest = m->config.args.n || m->config.command.n ? &m->config.args : &image->command;
    for (uint32_t i = 0; i < program->n; i++)
        str_list_add(args, program->v[i]);
    for (uint32_t i = 0; i < rest->n; i++)
        str_list_add(args, rest->v[i]);
}

/* firecracker.dns may say "none", or a port, for which a guest's resolv.conf has no word. */
static void resolver_add(const char *text, struct str_list *lines)
{
    struct address a;
    uint32_t ip;
    if (address_parse(text, DNS_PORT, &a, NULL) == 0 && a.port == DNS_PORT && ip4_parse(a.host, &ip))
        str_list_take(lines, mem_printf("nameserver %s", a.host));
}

/* The bridge, where names of machines are answered and others asked for; else the host's name servers, of which those on its
 * own loopback are none for a guest. */
static void resolv_make(const struct firecracker *f, const char *gateway, struct str_list *lines)
{
    bool names = atomic_load(&f->answers_names);
    if (names)
        str_list_take(lines, mem_printf("nameserver %s", gateway));
    for (uint32_t i = 0; !names && i < f->config->dns.n; i++)
        resolver_add(f->config->dns.v[i], lines);
    CLEANUP_BUF struct buf text = {0};
    if (f->config->dns.n || file_read("/etc/resolv.conf", 65536, &text, NULL) < 0)
        return;
    char *rest = NULL;
    for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (strncmp(line, "nameserver ", 11) == 0 ? !names && strncmp(line + 11, "127.", 4) != 0 && !strchr(line, ':')
                                                  : strncmp(line, "search ", 7) == 0)
            str_list_add(lines, line);
}

struct drive_texts { struct str_list args, env, hosts, resolv; };

static int config_drive_write(const struct machine *m, const struct vm_image *image, const char *root,
                              struct drive *drive, struct error *err)
{
    struct network *network = m->f->network;
    struct drive_texts t = {0};
    CLEANUP_FREE char *hostname = mem_printf("%s-%lld", namespace_bare(m->service), (long long)m->replica);
    CLEANUP_FREE char *address = network ? network_address_bits(network, m->slot) : NULL;
    CLEANUP_FREE char *gateway = network ? network_gateway(network) : NULL;
    CLEANUP_FREE char *ip = network ? network_address(network, m->slot) : NULL;
    CLEANUP_FREE char *path = mem_printf("%s/config", root);
    args_make(m, image, &t.args);
    for (uint32_t i = 0; i < image->env.n; i++)
        str_list_add(&t.env, image->env.v[i]);
    for (uint32_t i = 0; i < m->env.n; i++)
        str_list_take(&t.env, mem_printf("%s=%s", m->env.v[i].key, m->env.v[i].value));
    str_list_add(&t.hosts, "127.0.0.1 localhost");
    str_list_take(&t.hosts, mem_printf("%s %s", ip ? ip : "127.0.1.1", hostname));
    if (network)
        resolv_make(m->f, gateway, &t.resolv);
    texts_add(&t.args, &drive->args);
    texts_add(&t.env, &drive->env);
    texts_add(&t.hosts, &drive->hosts);
    texts_add(&t.resolv, &drive->resolv);
    drive->hostname = hostname;
    drive->address = address;
    drive->gateway = gateway;
    drive->user = m->config.user ? m->config.user : image->user;
    drive->workdir = m->config.workdir ? m->config.workdir : image->workdir;
    drive->vsock = m->f->config->vsock;
    drive->pids = (uint32_t)m->resources.pids;
    drive->secrets_dir = m->shim.vm.secrets_dir ? SECRETS_DIR_INSIDE : NULL;
    CLEANUP_FREE char *mac = network ? network_mac(network, m->slot) : NULL;
    drive->mac = m->snapshot ? mac : NULL;
    int resume_signal = m->config.snapshot_signal ? signal_number(m->config.snapshot_signal) : 0;
    drive->resume_signal = resume_signal > 0 ? (uint32_t)resume_signal : 0;
    drive->mtu = network ? (uint32_t)network_mtu(network) : 0;
    int result = t.args.n ? 0 : error_set(err, ERROR_INVALID, "the image does not say what to run: set config.command");
    if (result == 0 && resume_signal < 0)
        result = error_set(err, ERROR_INVALID, "config.snapshot_signal: there is no signal `%s`", m->config.snapshot_signal);
    size_t n = drive_encode(drive, NULL, 0);
    if (result == 0 && n > DRIVE_MAX)
        result = error_set(err, ERROR_TOO_LARGE, "arguments and environment are longer than %u bytes", DRIVE_MAX);
    if (result == 0) {
        CLEANUP_FREE uint8_t *bytes = mem_alloc(n);
        drive_encode(drive, bytes, n);
        result = file_new(m, path, bytes, n, SECRET_FILE_MODE, err);
    }
    str_list_clear(&t.args);
    str_list_clear(&t.env);
    str_list_clear(&t.hosts);
    str_list_clear(&t.resolv);
    return result;
}

/* --- putting it together --- */

#define DRIVES_MAX 24                /* vda to vdx: letters that need no second one */

struct assembly {
    struct machine *m;
    char *root, *kernel, *initrd;
    struct vm_image image;
    struct machine_drive drives[DRIVES_MAX];
    char *drive_names[DRIVES_MAX];   /* id and path, owned */
    char *drive_paths[DRIVES_MAX];
    uint32_t n_drives;
    struct drive_volume volumes[DRIVES_MAX];
    char *devices[DRIVES_MAX];
    struct drive drive;
    int64_t largest;                 /* bytes of the largest drive that is written to */
};

static void assembly_clear(struct assembly *a)
{
    for (uint32_t i = 0; i < a->n_drives; i++) {
        free(a->drive_names[i]);
        free(a->drive_paths[i]);
        free(a->devices[i]);
    }
    vm_image_clear(&a->image);
    free(a->root);
    free(a->kernel);
    free(a->initrd);
}

/* The device's path in the guest; NULL with err set when the file cannot be brought. */
static const char *drive_add(struct assembly *a, const char *name, const char *path, bool read_only, struct error *err)
{
    if (a->n_drives == DRIVES_MAX) {
        error_set(err, ERROR_INVALID, "a machine has at most %d volumes", DRIVES_MAX - 3);
        return NULL;
    }
    char *seen = path ? file_bring(a->m, a->root, name, path, read_only, err) : seen_path(a->m, a->root, name);
    if (!seen)
        return NULL;
    struct stat st;
    if (path && !read_only && stat(path, &st) == 0 && st.st_size > a->largest)
        a->largest = st.st_size;
    uint32_t i = a->n_drives++;
    a->drive_names[i] = mem_strdup(name);
    a->drive_paths[i] = seen;
    a->devices[i] = mem_printf("/dev/vd%c", 'a' + (int)i);
    a->drives[i] = (struct machine_drive){.id = a->drive_names[i], .path = seen, .read_only = read_only};
    return a->devices[i];
}

/* What is written goes to a file of the allocation's directory when the service sets disk aside for it. */
static int overlay_add(struct assembly *a, struct error *err)
{
    const struct machine *m = a->m;
    if (!m->resources.disk_mb)
        return 0;
    CLEANUP_FREE char *path = mem_printf("%s/over.img", m->alloc_dir);
    unlink(path);
    if (volume_make(path, m->resources.disk_mb, "over", err) < 0 || own(m, path, err) < 0)
        return error_context(err, "the file that is written to over the image");
    a->drive.overlay_device = drive_add(a, "over", path, false, err);
    return a->drive.overlay_device ? 0 : -1;
}

static int volumes_add(struct assembly *a, struct error *err)
{
    struct machine *m = a->m;
    for (uint32_t i = 0; i < m->n_volumes; i++) {
        struct machine_volume *v = &m->volumes[i];
        char name[32];
        snprintf(name, sizeof name, "volume_%u", i);
        if (volume_is_for(v->image, m->service, err) < 0
            || volume_ready(v->image, v->size_mb, namespace_bare(m->service), err) < 0 || own(m, v->image, err) < 0
            || volume_own(v->image, m->service, m->replica, err) < 0)
            return -1;
        const char *device = drive_add(a, name, v->image, v->read_only, err);
        if (!device)
            return -1;
        a->volumes[i] = (struct drive_volume){.device = device, .target = v->target, .read_only = v->read_only};
        str_list_add(&m->shim.vm.locks, v->image);
    }
    a->drive.volumes.v = a->volumes;
    a->drive.volumes.n = m->n_volumes;
    return 0;
}

/* Where the monitor reads a snapshot, or where it may write one. */
static int snapshot_bring(const struct assembly *a, const char *name, struct error *err)
{
    const struct machine *m = a->m;
    CLEANUP_FREE char *path = mem_printf("%s/%s", m->resumes ? m->snapshot : m->alloc_dir, name);
    if (!m->resumes) {
        unlink(path);
        if (file_new(m, path, NULL, 0, 0600, err) < 0)
            return -1;
    }
    CLEANUP_FREE char *seen = file_bring(m, a->root, name, path, m->resumes, err);
    return seen ? 0 : -1;
}

/* A snapshot is of no use to a machine outside of a jail, whose files have other paths. What has ended once boots: it may have
 * ended because of what the memory holds. */
static void snapshot_choose(struct assembly *a)
{
    struct machine *m = a->m;
    if (!m->config.snapshot || !m->f->jailer || m->n_volumes || m->resources.disk_mb || m->shim.vm.secrets_dir)
        return;
    m->snapshot = snapshot_dir(m, a->image.path, a->kernel, a->initrd);
    m->resumes = m->run == 1 && snapshot_there(m->snapshot);
    if (m->resumes) {
        m->shim.vm.identity = mem_printf("%s/config", a->root);
        m->shim.vm.on_serial = snapshot_on_serial(m->snapshot);
    } else if (m->config.memory_mb << 20 > a->largest) {
        a->largest = m->config.memory_mb << 20;
    }
}

static int fifo_new(const struct machine *m, const char *path, struct error *err)
{
    if (mkfifo(path, 0600) < 0)
        return error_set_errno(err, errno, "cannot make the FIFO %s", path);
    return own(m, path, err);
}

static int files_make(struct assembly *a, struct error *err)
{
    struct machine *m = a->m;
    CLEANUP_FREE char *run = mem_printf("%s/run", a->root), *log = mem_printf("%s/" LOG_FILE, a->root);
    CLEANUP_FREE char *metrics = mem_printf("%s/" METRICS_FIFO, a->root);
    CLEANUP_FREE char *dir = machine_dir(m->f, m->id);
    /* Nobody else passes through it: in it is the socket that secrets go over. The jailer gives it to the machine's user. */
    if (dir_make(dir, 0711, err) < 0 || dir_make(a->root, 0700, err) < 0 || (!m->f->jailer && dir_make(run, 0700, err) < 0))
        return -1;
    if (!drive_add(a, "config", NULL, true, err))
        return -1;
    a->drive.root_type = a->image.type;
    a->drive.root_device = drive_add(a, "image", a->image.path, true, err);
    if (!a->drive.root_device || overlay_add(a, err) < 0 || volumes_add(a, err) < 0)
        return -1;
    return config_drive_write(m, &a->image, a->root, &a->drive, err) < 0 || file_new(m, log, NULL, 0, 0600, err) < 0
        || fifo_new(m, metrics, err) < 0 ? -1 : 0;
}

static void args_jailed(struct machine *m, const struct assembly *a)
{
    struct firecracker *f = m->f;
    struct str_list *args = &m->shim.args;
    CLEANUP_FREE char *base = mem_strndup(f->runs, (size_t)(strrchr(f->runs, '/') - f->runs));
    long long uid = machine_uid(f, m->slot), fsize = a->largest > FSIZE_LEAST ? a->largest : FSIZE_LEAST;
    str_list_add(args, f->jailer);
    const char *const fixed[] = {"--id", m->id, "--exec-file", f->binary, "--chroot-base-dir", base};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        str_list_add(args, fixed[i]);
    str_list_add(args, "--uid");
    str_list_take(args, mem_printf("%lld", uid));
    str_list_add(args, "--gid");
    str_list_take(args, mem_printf("%lld", uid));
    str_list_add(args, "--resource-limit");
    str_list_take(args, mem_printf("fsize=%lld", fsize));
    str_list_add(args, "--resource-limit");
    str_list_take(args, mem_printf("no-file=%d", FILES_LIMIT));
    /* It stands in its groups already, and without --cgroup the jailer leaves it there; but where there is only version 2,
     * it moves it to its parent group, so that must be the same. */
    const struct cgroup_root *groups = shim_tasks_cgroups(&f->tasks);
    const char *below = groups->n == 1 && groups->v[0].v2 ? strstr(groups->v[0].path, "/cgroup/") : NULL;
    if (below) {
        str_list_add(args, "--cgroup-version");
        str_list_add(args, "2");
        str_list_add(args, "--parent-cgroup");
        str_list_take(args, mem_printf("%s/%s", below + strlen("/cgroup/"), m->alloc_id));
    }
    str_list_add(args, "--");
}

static void shim_fill(struct machine *m, const struct assembly *a)
{
    struct firecracker *f = m->f;
    struct shim_spec *s = &m->shim;
    s->alloc_id = mem_strdup(m->alloc_id);
    s->alloc_dir = mem_strdup(m->alloc_dir);
    s->node = mem_strdup(f->env->node);
    s->run = m->run;
    s->cgroups = *shim_tasks_cgroups(&f->tasks);
    s->limits = (struct cgroup_limits){
        .cpus = m->resources.cpus, .cpu_max = m->resources.cpu_max ? m->resources.cpu_max : (double)m->config.vcpus,
        .memory_mb = m->config.memory_mb + f->config->overhead_mb,
    };
    s->log_max_files = m->logs.max_files;
    s->log_max_mb = m->logs.max_mb;
    s->vm.api = mem_printf("%s/" API_SOCKET, a->root);
    s->vm.metrics = mem_printf("%s/" METRICS_FIFO, a->root);
    s->vm.start_ms = f->config->start_timeout_ms;
    s->vm.memory_mb = m->config.memory_mb;
    s->vm.balloon = m->config.balloon_mb > 0;
    if (f->network)
        s->vm.port = network_port(f->network, m->slot);
    if (f->config->vsock)
        s->vm.vsock = mem_printf("%s/" VSOCK_SOCKET, a->root);
    if (f->jailer) {
        args_jailed(m, a);
        return;
    }
    const char *const plain[] = {f->binary, "--id", m->id, "--api-sock", s->vm.api};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        str_list_add(&s->args, plain[i]);
}

/* {"mentat": {"service": "web", …}}, all of it text: that is what the monitor gives out one by one. */
static char *metadata_make(const struct machine *m)
{
    CLEANUP_FREE char *replica = mem_printf("%lld", (long long)m->replica);
    const char *version = kv_get(&m->env, "MENTAT_VERSION");
    char namespace[NAMESPACE_SIZE];
    const char *const facts[][2] = {{"service", namespace_bare(m->service)}, {"job", namespace_bare(m->job)},
                                    {"namespace", namespace_of(m->service, namespace)}, {"replica", replica},
                                    {"version", version ? version : ""}, {"node", m->f->env->node}, {"alloc_id", m->alloc_id}};
    struct buf b = {0};
    buf_add_string(&b, "{\"mentat\": {");
    for (size_t i = 0; i < ARRAY_LEN(facts); i++) {
        buf_printf(&b, "%s\"%s\": ", i ? ", " : "", facts[i][0]);
        json_add_string(&b, facts[i][1]);
    }
    buf_add_string(&b, "}}");
    return buf_steal(&b);
}

static int assemble(struct assembly *a, struct error *err)
{
    struct machine *m = a->m;
    struct firecracker *f = m->f;
    if (files_make(a, err) < 0)
        return -1;
    if (f->network && network_attach(f->network, m->slot, m, err) < 0)
        return -1;
    CLEANUP_FREE char *kernel = file_bring(m, a->root, "vmlinux", a->kernel, true, err);
    CLEANUP_FREE char *initrd = kernel ? file_bring(m, a->root, "initrd", a->initrd, true, err) : NULL;
    if (!initrd || (m->snapshot && (snapshot_bring(a, SNAPSHOT_STATE, err) < 0 || snapshot_bring(a, SNAPSHOT_MEMORY, err) < 0)))
        return -1;
    CLEANUP_FREE char *log = seen_path(m, a->root, LOG_FILE), *vsock = seen_path(m, a->root, VSOCK_SOCKET);
    CLEANUP_FREE char *metrics = seen_path(m, a->root, METRICS_FIFO);
    CLEANUP_FREE char *args = machine_kernel_args(m->config.kernel_args);
    CLEANUP_FREE char *mac = f->network ? network_mac(f->network, m->slot) : NULL;
    CLEANUP_FREE char *metadata = metadata_make(m);
    struct machine_plan plan = {
        .vcpus = m->config.vcpus, .memory_mb = m->config.memory_mb, .balloon_mb = m->config.balloon_mb, .kernel = kernel,
        .initrd = initrd, .kernel_args = args,
        .log = log, .metrics = metrics, .vsock = f->config->vsock ? vsock : NULL, .drives = a->drives, .n_drives = a->n_drives,
        .tap = mac ? SHIM_VM_TAP : NULL,
        .mac = mac, .metadata = metadata, .limits = m->config.rate_limits,
    };
    if (m->resumes)
        machine_resume_requests(&plan, "/" SNAPSHOT_STATE, "/" SNAPSHOT_MEMORY, &m->shim.vm.requests);
    else
        machine_requests(&plan, &m->shim.vm.requests);
    shim_fill(m, a);
    return 0;
}

int machine_prepare(struct machine *m, struct error *err)
{
    struct firecracker *f = m->f;
    struct assembly a = {.m = m, .root = mem_printf("%s/%s/root", f->runs, m->id)};
    int result = kernel_find(m, &a.kernel, err) < 0 || !(a.initrd = initrd_make(f, err))
        || vm_image_get(f->images, m->config.image, &a.image, err) < 0
        || (f->network ? network_slot(f->network, m->id, &m->slot, err)
                       : slot_take(f->dir, m->id, 1, SLOTS_ALONE, &m->slot, err)) < 0 ? -1 : 0;
    if (result == 0)
        snapshot_choose(&a);
    if (result == 0 && (result = assemble(&a, err)) < 0)
        machine_clean(f, m->id);
    assembly_clear(&a);
    return result;
}

/* --- taking away --- */

/* The mounts below a directory, the latest first. */
static void unmount_below(const char *dir)
{
    CLEANUP_BUF struct buf text = {0};
    struct str_list found = {0};
    if (file_read("/proc/self/mountinfo", 64u << 20, &text, NULL) < 0)
        return;
    char *rest = NULL, path[4096];
    for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%*s %*s %*s %*s %4095s", path) == 1 && strncmp(path, dir, strlen(dir)) == 0
            && path[strlen(dir)] == '/')
            str_list_add(&found, path);
    for (uint32_t i = found.n; i-- > 0;)
        umount2(found.v[i], MNT_DETACH);
    str_list_clear(&found);
}

void machine_clean(struct firecracker *f, const char *id)
{
    CLEANUP_FREE char *dir = machine_dir(f, id);
    if (f->jailer)
        unmount_below(dir);
    dir_remove(dir);
    int slot = slot_find(f->dir, id);
    if (slot < 0)
        return;
    if (f->network)
        network_detach(f->network, slot);
    slot_free(f->dir, slot);
}

static char *alloc_of(const char *id)
{
    const char *end = strrchr(id, '-');
    return mem_strndup(id, end ? (size_t)(end - id) : strlen(id));
}

/* which: an id, or the allocation of an id. */
static bool is_of(const char *id, const char *which)
{
    size_t n = strlen(which);
    return strncmp(id, which, n) == 0 && (!id[n] || id[n] == '-');
}

static bool shim_lives(const struct firecracker *f, const char *alloc_id)
{
    CLEANUP_FREE char *dir = mem_printf("%s/allocs/%s", f->env->data_dir, alloc_id);
    int fd = shim_task_connect(dir, NULL);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

void machines_sweep(struct firecracker *f, const char *which)
{
    struct str_list ids = {0};
    slots_list(f->dir, &ids);
    for (uint32_t i = 0; i < ids.n; i++) {
        CLEANUP_FREE char *alloc_id = alloc_of(ids.v[i]);
        if (which ? !is_of(ids.v[i], which) : shim_lives(f, alloc_id))
            continue;
        if (!which) {
            LOG_I("what a microVM left is taken away", "machine", ids.v[i]);
            cgroup_kill(shim_tasks_cgroups(&f->tasks), alloc_id);
        }
        machine_clean(f, ids.v[i]);
    }
    str_list_clear(&ids);
}
