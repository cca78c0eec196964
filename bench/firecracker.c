/* What a microVM's start costs besides its monitor and its guest: the driver, with a monitor that takes every request and a
 * guest that says at once that its service runs. This program is that monitor too, when it is started by a name that
 * contains `firecracker`, and the shim. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/driver.h"
#include "agent/drivers/firecracker_config.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "figure.h"
#include "guest/frame.h"
#include "guest/init_image.h"
#include "proc.h"

#define MACHINES_MAX 250
#define PATIENCE_MS 60000
#define REST_MS 100                  /* between two starts */
#define REST_LONG_MS 1000            /* before many at once */

/* --- the monitor, and its guest --- */

static void say(enum frame_kind kind, unsigned n, const uint32_t *numbers)
{
    uint8_t data[16], bytes[FRAME_MAX];
    for (unsigned i = 0; i < n; i++)
        frame_put_u32(data + 4 * (size_t)i, numbers[i]);
    size_t length = frame_encode(&(struct frame){.kind = (uint8_t)kind, .data = data, .n = 4 * (size_t)n}, bytes);
    if (write(STDOUT_FILENO, bytes, length) != (ssize_t)length)
        _exit(1);
}

static void on_frame(void *arg, const struct frame *f)
{
    if (f->kind == FRAME_SIGNAL)
        say(FRAME_EXIT, 3, (uint32_t[]){128 + frame_u32(f, 0), frame_u32(f, 0), 0});
    else if (f->kind == FRAME_BYE)
        _exit(0);
}

/* Answers every request in the buffer that is whole. Returns the bytes taken. */
static size_t requests_answer(int fd, const char *text, size_t n)
{
    static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
    const char *end = memmem(text, n, "\r\n\r\n", 4), *length = end ? memmem(text, n, "Content-Length:", 15) : NULL;
    size_t whole = length ? (size_t)(end + 4 - text) + strtoul(length + 15, NULL, 10) : 0;
    if (!whole || whole > n)
        return 0;
    bool start = memmem(text, whole, "InstanceStart", 13) != NULL;
    if (write(fd, answer, strlen(answer)) < 0)
        _exit(1);
    if (start) {
        say(FRAME_READY, 1, (uint32_t[]){FRAME_VERSION});
        say(FRAME_STARTED, 3, (uint32_t[]){1, 0, 0});
    }
    return whole;
}

int bench_monitor(int argc, char **argv)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--api-sock"))
            snprintf(a.sun_path, sizeof a.sun_path, "%s", argv[i + 1]);
    if (argc == 2 && !strcmp(argv[1], "--version"))
        return puts("Firecracker v1.7.0") < 0;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd = -1;
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, 4) < 0)
        return 1;
    static struct frame_reader reader;
    static const struct frame_events events = {.frame = on_frame};
    char text[16384], bytes[4096];
    for (size_t have = 0;;) {
        struct pollfd p[] = {{.fd = listener, .events = POLLIN}, {.fd = fd, .events = POLLIN},
                             {.fd = STDIN_FILENO, .events = POLLIN}};
        poll(p, ARRAY_LEN(p), -1);
        if (p[0].revents)
            fd = accept(listener, NULL, NULL);
        if (p[1].revents) {
            ssize_t n = read(fd, text + have, sizeof text - have);
            have = n > 0 ? have + (size_t)n : 0;
            size_t taken = requests_answer(fd, text, have);
            memmove(text, text + taken, have -= taken);
            if (n <= 0) {
                close(fd);
                fd = -1;
            }
        }
        if (p[2].revents) {
            ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
            if (n <= 0)
                return 0;
            frame_read(&reader, bytes, (size_t)n, &events, NULL);
        }
    }
}

/* --- the driver --- */

struct machine_run {
    struct task *task;
    int64_t began_us, took_us;
    int shim;
    bool started, ended;
    char dir[256], id[16];
};

struct world {
    uv_loop_t loop;
    char dir[64];
    struct firecracker_config config;
    struct driver_env env;
    struct drivers *drivers;
    struct config what;
    struct machine_run *machines;
    struct error error;
};

static void on_started(void *arg, const struct error *err, const char *handle, int pid, int64_t at)
{
    struct machine_run *m = arg;
    m->took_us = (int64_t)(uv_hrtime() / 1000) - m->began_us;
    m->started = true;
    m->ended = err != NULL;
    if (err)
        fprintf(stderr, "mentat-bench firecracker: %s\n", err->text);
    else
        sscanf(handle, "exec1 shim=%d", &m->shim);
}

static void on_exited(void *arg, const struct task_exit *how)
{
    ((struct machine_run *)arg)->ended = true;
}

static void start(struct world *w, struct machine_run *m, int number)
{
    static const struct task_events events = {.started = on_started, .exited = on_exited};
    static const struct resources resources = {.cpus = 0.1, .memory_mb = 64};
    static const struct logs logs = {.max_files = 2, .max_mb = 1};
    static const struct kv_list none;
    struct error err;
    *m = (struct machine_run){0};
    snprintf(m->id, sizeof m->id, "%012d", number);
    snprintf(m->dir, sizeof m->dir, "%s/allocs/%s", w->dir, m->id);
    dir_make(m->dir, 0755, NULL);
    m->began_us = (int64_t)(uv_hrtime() / 1000);
    m->task = task_start(w->drivers, "firecracker", &(struct task_spec){
        .alloc_id = m->id, .service = "bench", .alloc_dir = m->dir, .run = 1, .config = &w->what, .env = &none,
        .resources = &resources, .logs = &logs}, &events, m, &err);
}

static bool all(const struct machine_run *m, int64_t n, bool ended)
{
    for (int64_t i = 0; i < n; i++)
        if (!(ended ? m[i].ended : m[i].started))
            return false;
    return true;
}

static int wait_all(struct world *w, int64_t n, bool ended)
{
    int64_t end = time_monotonic_ms() + PATIENCE_MS;
    while (!all(w->machines, n, ended)) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        if (time_monotonic_ms() > end)
            return error_set(&w->error, ERROR_TIMEOUT, "not all machines did what they were told");
        usleep(100);
    }
    return 0;
}

/* What the driver does behind a start is over when the next one is measured. */
static void rest(struct world *w, int64_t ms)
{
    for (int64_t end = time_monotonic_ms() + ms; time_monotonic_ms() < end; usleep(1000))
        uv_run(&w->loop, UV_RUN_NOWAIT);
}

static int end_all(struct world *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!w->machines[i].ended)
            task_stop(w->machines[i].task, 0, 10000);
    int result = wait_all(w, n, true);
    for (int64_t i = 0; i < n; i++) {
        task_remove(w->machines[i].task);
        task_free(w->machines[i].task);
    }
    return result;
}

/* Of this process, which is the agent here, without what was taken and given back, and without its program, which shims share. */
static int own_memory_kb(double *kb, struct error *err)
{
    malloc_trim(0);
    *kb = 0;
    return proc_sum("/proc/self/status", (const char *const[]){"RssAnon:", NULL}, kb, err);
}

static int measure(struct world *w, int64_t machines)
{
    CLEANUP_FREE double *took = mem_array((size_t)machines, sizeof *took);
    double resident, private = 0, sum = 0;
    int number = 0;
    for (int64_t i = 0; i <= machines; i++) {
        rest(w, REST_MS);
        start(w, &w->machines[0], number++);
        if (wait_all(w, 1, false) < 0 || end_all(w, 1) < 0)
            return -1;
        if (i == 0)
            figure_print("firecracker_first_start_ms", (double)w->machines[0].took_us / 1000, "ms", "\"image\":\"built\"");
        else
            took[i - 1] = (double)w->machines[0].took_us / 1000;
    }
    figure_print("firecracker_start_ms", figure_percentile(took, (size_t)machines, 0.5), "ms", "\"at_once\":1");
    double before, after;
    rest(w, REST_LONG_MS);
    if (own_memory_kb(&before, &w->error) < 0)
        return -1;
    for (int64_t i = 0; i < machines; i++)
        start(w, &w->machines[i], number++);
    if (wait_all(w, machines, false) < 0)
        return -1;
    for (int64_t i = 0; i < machines; i++) {
        took[i] = (double)w->machines[i].took_us / 1000;
        if (proc_memory_mb(w->machines[i].shim, &resident, &private, &w->error) < 0)
            return -1;
        sum += private;
    }
    figure_print("firecracker_start_ms", figure_percentile(took, (size_t)machines, 0.5), "ms", "\"at_once\":%lld", (long long)machines);
    figure_print("firecracker_start_p99_ms", figure_percentile(took, (size_t)machines, 0.99), "ms", "\"at_once\":%lld",
                 (long long)machines);
    if (own_memory_kb(&after, &w->error) < 0)
        return -1;
    figure_print("firecracker_agent_kb", (after - before) / (double)machines, "KiB", "\"machines\":%lld", (long long)machines);
    figure_print("firecracker_init_kb", (double)(guest_init_end - guest_init_begin) / 1024, "KiB", "\"file\":\"mentat-init\"");
    figure_print("firecracker_shim_private_kb", sum * 1024 / (double)machines, "KiB", "\"machines\":%lld", (long long)machines);
    return end_all(w, machines);
}

/* --- what it stands on --- */

static int world_open(struct world *w, bool network)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    snprintf(w->dir, sizeof w->dir, "/tmp/mentat-bench-XXXXXX");
    if (n < 0 || !mkdtemp(w->dir))
        return error_set_errno(&w->error, errno, "cannot make a directory in /tmp");
    self[n] = 0;
    CLEANUP_FREE char *binary = mem_printf("%s/bin/firecracker", w->dir), *kernel = mem_printf("%s/vmlinux", w->dir);
    CLEANUP_FREE char *image = mem_printf("%s/images/root/sbin", w->dir), *roots = mem_printf("%s/images", w->dir);
    CLEANUP_FREE char *bin = mem_printf("%s/bin", w->dir), *runs = mem_printf("%s/run", w->dir);
    if (dir_make(bin, 0755, &w->error) < 0 || symlink(self, binary) < 0 || file_write(kernel, "\x7f" "ELF", 4, 0644, &w->error) < 0 || dir_make(image, 0755, &w->error) < 0)
        return -1;
    uv_loop_init(&w->loop);
    type_init(&firecracker_config_type, &w->config);
    const struct { char **slot; const char *text; } texts[] = {
        {&w->config.binary, binary}, {&w->config.jailer, "none"}, {&w->config.kernel, kernel}, {&w->config.run_dir, runs},
        {&w->config.bridge, "mtbench"}, {&w->config.network, network ? "10.89.0.0/24" : "none"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        mem_set_string(texts[i].slot, texts[i].text);
    str_list_add(&w->config.image_roots, roots);
    w->config.kvm_check = w->config.vsock = false;
    type_init(&config_type, &w->what);
    w->what.image = mem_printf("%s/root", roots);
    w->env = (struct driver_env){.loop = &w->loop, .node = "bench", .data_dir = w->dir, .ip = "127.0.0.1",
                                 .volume_root = w->dir, .firecracker = &w->config};
    struct str_list names = {0};
    str_list_add(&names, "firecracker");
    int result = drivers_open(&w->env, &names, &w->drivers, &w->error);
    str_list_clear(&names);
    if (result == 0)
        drivers_network(w->drivers, NULL);           /* no servers: it starts nothing before it has heard of them */
    return result;
}

static void world_close(struct world *w)
{
    if (w->drivers) {
        drivers_close(w->drivers);
        uv_run(&w->loop, UV_RUN_DEFAULT);
        uv_loop_close(&w->loop);
    }
    type_clear(&firecracker_config_type, &w->config);
    type_clear(&config_type, &w->what);
    dir_remove(w->dir);
    free(w->machines);
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"machines", required_argument, NULL, 'm'}, {"network", no_argument, NULL, 'n'}, {0},
    };
    int64_t machines = 20;
    bool network = false;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'n')
            network = true;
        else if (c != 'm' || bench_count(optarg, MACHINES_MAX, &machines))
            return 2;
    if (optind < argc)
        return 2;
    struct world w = {.machines = mem_array((size_t)machines, sizeof(struct machine_run))};
    int rc = world_open(&w, network);
    if (rc == 0)
        rc = measure(&w, machines);
    world_close(&w);
    if (rc)
        fprintf(stderr, "mentat-bench firecracker: %s\n", w.error.text);
    return rc ? 1 : 0;
}

const struct bench bench_firecracker = {
    .name = "firecracker",
    .usage = "[--machines N] [--network]",
    .help = "the driver's own part of a microVM's start, one after the other and N at once, without a guest; --network: with "
            "taps and rules on a bridge of this host (needs root)",
    .run = run,
};
