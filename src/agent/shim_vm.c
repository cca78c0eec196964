/* A task that is a virtual machine. Its process here is the monitor; the service in the guest is reached through frames,
 * which go over the serial line (the monitor's standard files) or, where the guest has one, over vsock: the guest says
 * READY where it wants to be spoken to.
 *
 * The happy path: vm_start plays the configuration; the guest says READY, then STARTED, and the task runs; its output
 * comes in frames and goes to the log; EXIT tells how it ended, BYE lets the guest switch off, and the monitor ends.
 *
 * Everything that is no frame is the console's text: it goes to ALLOC_DIR/console, of bounded size, and its last lines
 * explain an end that the guest did not tell. Each command has a window (FRAME_WINDOW) each way, so that one whose reader
 * is slow holds up nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent/shim_internal.h"
#include "agent/vm_port.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "guest/frame.h"

#define CONSOLE_FILE "console"
#define CONSOLE_MAX 262144
#define TAIL_SIZE 2048
#define COMMANDS_MAX 16
#define QUEUE_MAX 131072             /* above it nothing more is read for the guest */
#define LAST_MOMENT_MS 2000          /* between the guest's own SIGKILL and the end of its monitor */
#define SWITCH_OFF_MS 10000          /* between BYE and the end of the monitor */
#define METRICS_REST_MS 100          /* between two looks: a monitor that writes without end costs the host little */
#define BALLOON_PATIENCE_S 1
#define BALLOON_ANSWER_MAX 1024

enum { LINE_SERIAL, LINE_VSOCK, LINE_COUNT };

struct line {
    int in, out;                     /* -1: not there; in of the serial line is the shim's output[0] */
    struct frame_reader reader;
};

struct command {                     /* in the guest */
    uint32_t id;                     /* 0: free */
    int in, out[2];                  /* the agent's; tty: in and out[0] are the same */
    bool tty, over, failed;
    uint32_t credit;                 /* input that the guest still takes */
    struct buf waiting[2];           /* output that the agent has not taken yet */
    struct shim_message last;        /* what is told once that has gone */
};

struct shim_vm {
    struct line lines[LINE_COUNT];
    int spoken;                      /* the line on which the guest said READY; -1: not yet */
    int vsock_listen;
    int metrics_fd;
    int64_t metrics_rest_until;      /* monotonic; 0: it does not rest */
    struct vm_metrics_reader metrics_reader;
    struct vm_metrics metrics;
    int locks[32];
    unsigned n_locks;
    struct buf queue;                /* for the guest */
    struct buf behind;               /* while `holds`: what comes behind that */
    bool holds, identified;          /* identified: the guest of a copy was told who it is */
    struct snapshot_go snapshot;
    struct secret_go secrets;
    bool guest_ended, guest_killed, paused;
    uint32_t next_id;
    struct command commands[COMMANDS_MAX];
    int console_fd;
    size_t console_bytes;
    char tail[TAIL_SIZE];
    size_t tail_n;
};

/* --- the console --- */

static void console_add(struct shim_vm *vm, const void *bytes, size_t n)
{
    size_t room = CONSOLE_MAX - vm->console_bytes, keep = n < room ? n : room;
    if (keep && vm->console_fd >= 0 && write(vm->console_fd, bytes, keep) > 0)
        vm->console_bytes += keep;
    if (n > TAIL_SIZE / 2) {
        bytes = (const char *)bytes + (n - TAIL_SIZE / 2);
        n = TAIL_SIZE / 2;
    }
    if (vm->tail_n + n > TAIL_SIZE) {
        size_t drop = vm->tail_n + n - TAIL_SIZE;
        memmove(vm->tail, vm->tail + drop, vm->tail_n - drop);
        vm->tail_n -= drop;
    }
    memcpy(vm->tail + vm->tail_n, bytes, n);
    vm->tail_n += n;
}

/* The line of the console that says most of why the machine ended: the kernel's panic, what mentat-init said, or else
 * the last one. */
static void console_words(const struct shim_vm *vm, char *out, size_t size)
{
    static const char *const telling[] = {"Kernel panic", "mentat-init:", "Out of memory"};
    CLEANUP_FREE char *text = mem_strndup(vm->tail, vm->tail_n);
    *out = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        for (char *p = line; *p; p++)
            if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
                *p = ' ';
        if (strspn(line, " ") == strlen(line))
            continue;
        /* "[    1.234] words" */
        char *words = *line == '[' && strchr(line, ']') ? strchr(line, ']') + 1 : line;
        snprintf(out, size, "%s", words + strspn(words, " "));
        for (size_t i = 0; i < ARRAY_LEN(telling); i++)
            if (strstr(line, telling[i]))
                return;
    }
}

/* --- to the guest --- */

static void queue_write(struct shim_vm *vm)
{
    int fd = vm->spoken < 0 ? -1 : vm->lines[vm->spoken].out;
    while (fd >= 0 && vm->queue.len) {
        ssize_t n = write(fd, vm->queue.data, vm->queue.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            buf_clear(&vm->queue);   /* it is going down: its end is told by its monitor's */
        if (n <= 0)
            return;
        buf_consume(&vm->queue, (size_t)n);
        explicit_bzero(vm->queue.data + vm->queue.len, (size_t)n);      /* it may have been secrets */
    }
}

static void frame_send(struct shim_vm *vm, const struct frame *f)
{
    uint8_t bytes[FRAME_MAX];
    buf_add(vm->holds ? &vm->behind : &vm->queue, bytes, frame_encode(f, bytes));
    explicit_bzero(bytes, sizeof bytes);
    queue_write(vm);
}

struct snapshot_go *vm_snapshot(struct shim *s)
{
    return &s->vm->snapshot;
}

bool vm_is_paused(const struct shim *s)
{
    return s->vm->paused;
}

bool vm_speaks_serial(const struct shim *s)
{
    return s->vm->spoken == LINE_SERIAL;
}

void vm_hold(struct shim *s, bool hold)
{
    struct shim_vm *vm = s->vm;
    bool held = vm->holds;
    vm->holds = hold;
    if (!held || hold)
        return;
    go_send(s);
    buf_add(&vm->queue, vm->behind.data, vm->behind.len);
    buf_wipe(&vm->behind);
    queue_write(vm);
}

void vm_frame_send(struct shim *s, const struct frame *f)
{
    frame_send(s->vm, f);
}

struct secret_go *vm_secrets(struct shim *s)
{
    return &s->vm->secrets;
}

void vm_secrets_changed(struct shim *s, const struct shim_message *m)
{
    if (s->vm->spoken >= 0 && !s->vm->guest_ended)
        secrets_changed(s, &m->args, m->signal);
}

static void numbers_send(struct shim_vm *vm, enum frame_kind kind, uint32_t id, unsigned n, const uint32_t *numbers)
{
    uint8_t data[16];
    for (unsigned i = 0; i < n; i++)
        frame_put_u32(data + 4 * (size_t)i, numbers[i]);
    frame_send(vm, &(struct frame){.kind = (uint8_t)kind, .id = id, .data = data, .n = 4 * (size_t)n});
}

/* The guest's own clock has stood still. */
static void clock_send(struct shim_vm *vm)
{
    uint64_t now = (uint64_t)time_now_ms();
    numbers_send(vm, FRAME_CLOCK, 0, 2, (uint32_t[]){(uint32_t)now, (uint32_t)(now >> 32)});
}

int vm_pause(struct shim *s, bool paused, struct error *err)
{
    if (s->vm->paused == paused)
        return 0;
    if (vmm_ask(s->spec.vm.api, paused ? "PATCH /vm\n{\"state\": \"Paused\"}" : "PATCH /vm\n{\"state\": \"Resumed\"}",
                VMM_PATIENCE_S, err) < 0)
        return -1;
    s->vm->paused = paused;
    if (!paused && !s->vm->holds)    /* GO brings the time */
        clock_send(s->vm);
    return 0;
}

int vm_balloon(struct shim *s, int mb, struct error *err)
{
    char request[64];
    snprintf(request, sizeof request, "PATCH /balloon\n{\"amount_mib\": %d}", mb);
    return vmm_ask(s->spec.vm.api, request, VMM_PATIENCE_S, err);
}

bool vm_signal(struct shim *s, int signal)
{
    if (s->vm->spoken < 0 || s->vm->guest_ended)
        return false;
    numbers_send(s->vm, FRAME_SIGNAL, 0, 1, (uint32_t[]){(uint32_t)signal});
    return true;
}

bool vm_kill_guest(struct shim *s)
{
    if (s->vm->guest_killed || !vm_signal(s, SIGKILL))
        return false;
    s->vm->guest_killed = true;
    s->kill_at = time_monotonic_ms() + LAST_MOMENT_MS;
    return true;
}

/* --- commands --- */

bool vm_is_quiet(const struct shim *s)
{
    const struct shim_vm *vm = s->vm;
    bool commands = false;
    for (size_t i = 0; i < COMMANDS_MAX; i++)
        commands |= vm->commands[i].id != 0;
    return s->running && !s->ended && !vm->guest_ended && !vm->paused && vm->spoken >= 0 && !commands;
}

static struct command *command_find(struct shim_vm *vm, uint32_t id)
{
    for (size_t i = 0; i < COMMANDS_MAX; i++)
        if (vm->commands[i].id == id)
            return &vm->commands[i];
    return NULL;
}

static void command_in_close(struct command *c)
{
    if (c->in >= 0 && !c->tty)
        close(c->in);
    c->in = -1;
}

static void command_out_close(struct command *c, int i)
{
    if (c->out[i] >= 0)
        close(c->out[i]);
    c->out[i] = -1;
    buf_free(&c->waiting[i]);
}

static void command_free(struct command *c)
{
    command_in_close(c);
    for (int i = 0; i < 2; i++)
        command_out_close(c, i);
    *c = (struct command){0};
}

/* Its end is told after its output. */
static void command_maybe_over(struct shim *s, struct command *c)
{
    if (!c->over || c->waiting[0].len || c->waiting[1].len)
        return;
    struct connection *to = shim_connection_of(s, (pid_t)c->id);
    struct shim_message last = c->last;
    command_free(c);
    if (to) {
        to->pid = 0;
        shim_message_send(to->fd, &last);
    }
}

static void output_write(struct shim *s, struct command *c, int i)
{
    uint32_t taken = 0;
    while (c->waiting[i].len) {
        ssize_t n = c->out[i] < 0 ? (ssize_t)c->waiting[i].len : write(c->out[i], c->waiting[i].data, c->waiting[i].len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)                   /* nobody reads it any more */
            n = (ssize_t)c->waiting[i].len;
        taken += (uint32_t)n;
        buf_consume(&c->waiting[i], (size_t)n);
    }
    if (taken && !c->over)
        numbers_send(s->vm, FRAME_TAKEN, c->id, 1, &taken);
}

static void input_read(struct shim *s, struct command *c)
{
    uint8_t bytes[FRAME_DATA_MAX];
    size_t want = c->credit < sizeof bytes ? c->credit : sizeof bytes;
    ssize_t n = read(c->in, bytes, want);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        command_in_close(c);
        n = 0;
    }
    c->credit -= (uint32_t)n;
    frame_send(s->vm, &(struct frame){.kind = FRAME_INPUT, .id = c->id, .data = bytes, .n = (size_t)n});
}

static void request_send(struct shim_vm *vm, uint32_t id, const struct shim_message *m, struct winsize size)
{
    CLEANUP_BUF struct buf b = {0};
    buf_add_u32(&b, m->tty);
    buf_add_u32(&b, size.ws_row);
    buf_add_u32(&b, size.ws_col);
    for (uint32_t i = 0; i < m->args.n; i++)
        buf_add(&b, m->args.v[i], strlen(m->args.v[i]) + 1);
    for (size_t at = 0; at < b.len; at += FRAME_DATA_MAX) {
        size_t left = b.len - at;
        frame_send(vm, &(struct frame){.kind = FRAME_EXEC, .stream = left > FRAME_DATA_MAX, .id = id,
                                       .data = (uint8_t *)b.data + at, .n = left > FRAME_DATA_MAX ? FRAME_DATA_MAX : left});
    }
}

/* Between the agent and the guest's own terminal the one here is only a pipe. */
static struct winsize terminal_make_raw(int fd)
{
    struct winsize size = {0};
    struct termios t;
    ioctl(fd, TIOCGWINSZ, &size);
    if (tcgetattr(fd, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(fd, TCSANOW, &t);
    }
    return size;
}

bool vm_exec(struct shim *s, struct connection *to, const struct shim_message *m, const int *fds, struct error *err)
{
    struct shim_vm *vm = s->vm;
    struct command *c = command_find(vm, 0);
    if (!s->running || vm->guest_ended || vm->paused || !c) {
        error_set(err, ERROR_CONFLICT, vm->paused ? "the guest is paused" : c ? "the guest does not run" : "%d commands run in this guest already", COMMANDS_MAX);
        return false;
    }
    *c = (struct command){.id = ++vm->next_id, .tty = m->tty, .credit = FRAME_WINDOW, .in = -1, .out = {-1, -1}};
    for (int i = 0; i < (m->tty ? 1 : 3); i++) {
        int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        *(i == 0 ? &c->in : &c->out[i - 1]) = fd;
    }
    struct winsize size = {0};
    if (m->tty) {
        size = terminal_make_raw(c->in);
        c->out[0] = c->in;
    }
    request_send(vm, c->id, m, size);
    to->pid = (pid_t)c->id;
    return true;
}

void vm_resize(struct shim *s, struct connection *c, const struct shim_message *m)
{
    if (c->pid)
        numbers_send(s->vm, FRAME_RESIZE, (uint32_t)c->pid, 2, (uint32_t[]){m->rows, m->cols});
}

void vm_exec_end(struct shim *s, struct connection *to)
{
    struct command *c = to->pid ? command_find(s->vm, (uint32_t)to->pid) : NULL;
    if (!c)
        return;
    numbers_send(s->vm, FRAME_SIGNAL, c->id, 1, (uint32_t[]){SIGKILL});
    /* What it still says is passed over, so that the guest is not held up. */
    command_in_close(c);
    for (int i = 0; i < 2; i++)
        command_out_close(c, i);
}

/* --- from the guest --- */

static void guest_ended(struct shim *s, const struct frame *f)
{
    s->vm->guest_ended = true;
    frame_send(s->vm, &(struct frame){.kind = FRAME_BYE});
    if (!s->lease_over)              /* which gives no time but its own */
        s->kill_at = time_monotonic_ms() + SWITCH_OFF_MS;
    if (f->kind == FRAME_FAILED) {
        if (!s->running)
            error_set(&s->failed, ERROR_INVALID, "%.*s", (int)f->n, (const char *)f->data);
        return;
    }
    s->how.finished_at = time_now_ms();
    s->how.code = (int)(frame_u32(f, 0) & 0xff);
    s->how.signal = (int)(frame_u32(f, 1) & 0x7f);
    shim_describe(s, frame_u32(f, 2) != 0, s->spec.vm.memory_mb);
}

static void service_frame(struct shim *s, const struct frame *f)
{
    switch (f->kind) {
    case FRAME_STARTED:
        if (s->running)
            break;                   /* one that says it again and again is not told on */
        s->how.started_at = time_now_ms();
        str_list_wipe(&s->spec.vm.env);
        shim_running(s);
        break;
    case FRAME_HELD:
        snapshot_held(s, frame_u32(f, 0));
        break;
    case FRAME_TAKEN:
        secrets_taken(s);
        break;
    case FRAME_OUTPUT:
        if (f->stream == 1 || f->stream == 2)
            log_writer_add(&s->logs[f->stream == 1 ? LOG_STDOUT : LOG_STDERR], f->data, f->n, time_now_ms());
        break;
    case FRAME_FAILED:
    case FRAME_EXIT:
        if (!s->vm->guest_ended)
            guest_ended(s, f);
        break;
    default:
        break;
    }
}

static void command_frame(struct shim *s, struct command *c, const struct frame *f)
{
    int i = f->stream == 2;
    switch (f->kind) {
    case FRAME_OUTPUT:
        /* A guest that keeps to its window never has more waiting than that. */
        if (c->waiting[i].len + f->n > FRAME_WINDOW)
            break;
        buf_add(&c->waiting[i], f->data, f->n);
        output_write(s, c, i);
        break;
    case FRAME_TAKEN:
        c->credit = c->credit + frame_u32(f, 0) > FRAME_WINDOW ? FRAME_WINDOW : c->credit + frame_u32(f, 0);
        break;
    case FRAME_FAILED:
        c->over = true;
        c->last = (struct shim_message){.kind = SHIM_EXEC_FAILED};
        error_set(&c->last.error, ERROR_INVALID, "%.*s", (int)f->n, (const char *)f->data);
        break;
    case FRAME_EXIT:
        c->over = true;
        c->last = (struct shim_message){.kind = SHIM_EXEC_EXITED, .code = (int)(frame_u32(f, 0) & 0xff)};
        break;
    default:
        break;
    }
    command_maybe_over(s, c);
}

struct reading { struct shim *s; int line; };

/* A copy is told who it is, once, as soon as it can be spoken to. */
static void identify(struct shim *s)
{
    if (!s->spec.vm.identity || s->vm->identified)
        return;
    s->vm->identified = true;
    if (identity_send(s, &s->failed) < 0)
        shim_kill(s);
}

static void on_frame(void *arg, const struct frame *f)
{
    struct reading *r = arg;
    struct command *c = f->id ? command_find(r->s->vm, f->id) : NULL;
    if (f->kind == FRAME_READY) {
        r->s->vm->spoken = r->line;
        identify(r->s);
        snapshot_ready(r->s);
        if (r->s->vm->queue.len < QUEUE_MAX)         /* one that says it again and again is not listened to */
            secrets_begin(r->s);
    } else if (!f->id) {
        service_frame(r->s, f);
    } else if (c) {
        command_frame(r->s, c, f);
    }
}

static void on_noise(void *arg, const void *bytes, size_t n)
{
    console_add(((struct reading *)arg)->s->vm, bytes, n);
}

static void line_take(struct shim *s, int line, const void *bytes, size_t n)
{
    static const struct frame_events events = {.frame = on_frame, .noise = on_noise};
    struct reading r = {s, line};
    frame_read(&s->vm->lines[line].reader, bytes, n, &events, &r);
}

void vm_output(struct shim *s, int stream, const char *bytes, size_t n)
{
    if (stream == LOG_STDOUT)
        line_take(s, LINE_SERIAL, bytes, n);
    else
        console_add(s->vm, bytes, n);
}

/* --- vsock: the monitor connects to a socket of ours when the guest connects to the host --- */

static int vsock_listen_at(const char *base, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("%s_%d", base, FRAME_VSOCK_PORT);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path)
        return error_set(err, ERROR_INVALID, "the path of the socket %s is too long", path);
    strcpy(a.sun_path, path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1) < 0) {
        error_set_errno(err, errno, "cannot make the socket %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    /* The monitor may run as a user of its own; nobody else comes into its folder. */
    chmod(path, 0666);
    return fd;
}

static void vsock_close(struct shim_vm *vm)
{
    struct line *l = &vm->lines[LINE_VSOCK];
    if (l->in >= 0)
        close(l->in);
    l->in = l->out = -1;
    l->reader.n = 0;
    /* The guest says READY again on the line that is left. */
    if (vm->spoken == LINE_VSOCK)
        vm->spoken = -1;
}

static void vsock_accept(struct shim_vm *vm)
{
    int fd = accept4(vm->vsock_listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    vsock_close(vm);
    vm->lines[LINE_VSOCK].in = vm->lines[LINE_VSOCK].out = fd;
}

static void vsock_read(struct shim *s)
{
    struct line *l = &s->vm->lines[LINE_VSOCK];
    ssize_t n = read(l->in, s->buffer, sizeof s->buffer);
    if (n > 0)
        line_take(s, LINE_VSOCK, s->buffer, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        vsock_close(s->vm);
}

/* --- metrics: the monitor writes to a FIFO --- */

/* Both ways, so that it is open for the monitor from the start, and has no end when the monitor ends. */
static int metrics_open(struct shim *s, struct error *err)
{
    const char *path = s->spec.vm.metrics;
    s->vm->metrics_fd = path ? open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC) : -1;
    return path && s->vm->metrics_fd < 0 ? error_set_errno(err, errno, "cannot open the FIFO %s", path) : 0;
}

void vm_greet(struct shim *s, int fd)
{
    if (s->vm->metrics.lines)
        shim_message_send(fd, &(struct shim_message){.kind = SHIM_METRICS, .metrics = s->vm->metrics});
}

/* The memory of a guest that has a balloon, as the monitor knows it: that is not in its metrics, so it is asked for when they
 * come. It has none to tell while the guest's kernel begins. */
static void balloon_read(struct shim *s)
{
    static const char before[] = "{\"balloon_statistics\":", after[] = "}\n";
    struct vm_metrics_reader reader = {0};
    char answer[BALLOON_ANSWER_MAX];
    if (!s->spec.vm.balloon
        || vmm_get(s->spec.vm.api, "GET /balloon/statistics", BALLOON_PATIENCE_S, answer, sizeof answer, NULL) < 0)
        return;
    vm_metrics_read(&reader, before, sizeof before - 1, &s->vm->metrics);
    vm_metrics_read(&reader, answer, strlen(answer), &s->vm->metrics);
    vm_metrics_read(&reader, after, sizeof after - 1, &s->vm->metrics);
}

static void metrics_read(struct shim *s)
{
    struct shim_vm *vm = s->vm;
    vm->metrics_rest_until = time_monotonic_ms() + METRICS_REST_MS;
    ssize_t n = read(vm->metrics_fd, s->buffer, sizeof s->buffer);
    if (n <= 0 || !vm_metrics_read(&vm->metrics_reader, s->buffer, (size_t)n, &vm->metrics))
        return;
    balloon_read(s);
    for (unsigned i = 0; i < s->n_connections; i++)
        if (!s->connections[i].pid)
            vm_greet(s, s->connections[i].fd);
}

int64_t vm_due(const struct shim *s)
{
    int64_t a = s->vm->metrics_rest_until, b = s->vm->snapshot.until;
    return !a || (b && b < a) ? b : a;
}

/* What poll is to look at: nothing while it rests. */
static int metrics_due(struct shim_vm *vm)
{
    if (vm->metrics_rest_until && vm->metrics_rest_until <= time_monotonic_ms())
        vm->metrics_rest_until = 0;
    return vm->metrics_rest_until ? -1 : vm->metrics_fd;
}

/* --- one turn of the loop: the descriptors, in a fixed order --- */

enum { AT_LISTEN, AT_VSOCK, AT_QUEUE, AT_METRICS, AT_COMMANDS };

unsigned vm_poll(struct shim *s, struct pollfd *p)
{
    struct shim_vm *vm = s->vm;
    bool full = vm->queue.len >= QUEUE_MAX;
    p[AT_LISTEN] = (struct pollfd){.fd = vm->vsock_listen, .events = POLLIN};
    p[AT_VSOCK] = (struct pollfd){.fd = vm->lines[LINE_VSOCK].in, .events = POLLIN};
    p[AT_QUEUE] = (struct pollfd){.fd = vm->queue.len && vm->spoken >= 0 ? vm->lines[vm->spoken].out : -1, .events = POLLOUT};
    p[AT_METRICS] = (struct pollfd){.fd = metrics_due(vm), .events = POLLIN};
    unsigned n = AT_COMMANDS;
    for (size_t i = 0; i < COMMANDS_MAX; i++) {
        struct command *c = &vm->commands[i];
        bool there = c->id != 0;
        p[n++] = (struct pollfd){.fd = there && !c->over && c->credit && !full ? c->in : -1, .events = POLLIN};
        for (int k = 0; k < 2; k++)
            p[n++] = (struct pollfd){.fd = there && c->waiting[k].len ? c->out[k] : -1, .events = POLLOUT};
    }
    return n;
}

void vm_polled(struct shim *s, const struct pollfd *p, unsigned n)
{
    struct shim_vm *vm = s->vm;
    if (p[AT_LISTEN].revents)
        vsock_accept(vm);
    else if (p[AT_VSOCK].revents && vm->lines[LINE_VSOCK].in >= 0)
        vsock_read(s);
    if (p[AT_QUEUE].revents)
        queue_write(vm);
    if (p[AT_METRICS].revents)
        metrics_read(s);
    for (unsigned at = AT_COMMANDS, i = 0; at < n; at += 3, i++) {
        struct command *c = &vm->commands[i];
        for (int k = 0; k < 2; k++)
            if (p[at + 1 + (unsigned)k].revents && c->id)
                output_write(s, c, k);
        if (p[at].revents && c->id && c->in >= 0 && c->credit)
            input_read(s, c);
        if (c->id)
            command_maybe_over(s, c);
    }
}

/* --- beginning and end --- */

/* A volume is in one machine at a time, whoever else may think that it is theirs. */
static int locks_take(struct shim *s, struct error *err)
{
    struct shim_vm *vm = s->vm;
    const struct str_list *paths = &s->spec.vm.locks;
    if (paths->n > ARRAY_LEN(vm->locks))
        return error_set(err, ERROR_INVALID, "a virtual machine has at most %zu volumes", ARRAY_LEN(vm->locks));
    for (uint32_t i = 0; i < paths->n; i++) {
        int fd = open(paths->v[i], O_RDWR | O_CLOEXEC);      /* NFS locks nothing that is open to read alone */
        if (fd < 0)
            return error_set_errno(err, errno, "cannot open the volume %s", paths->v[i]);
        vm->locks[vm->n_locks++] = fd;
        bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (!locked && errno != EWOULDBLOCK)
            return error_set_errno(err, errno, "cannot lock the volume %s", paths->v[i]);
        if (!locked)
            return error_set(err, ERROR_CONFLICT, "the volume %s is in use by another virtual machine of this node",
                             paths->v[i]);
        struct stat st;
        if (fstat(fd, &st) < 0 || !st.st_nlink)
            return error_set(err, ERROR_CONFLICT, "the volume %s was deleted meanwhile", paths->v[i]);
    }
    return 0;
}

int vm_open(struct shim *s, struct error *err)
{
    struct shim_vm *vm = s->vm = NEW(struct shim_vm);
    vm->spoken = vm->vsock_listen = vm->metrics_fd = -1;
    for (int i = 0; i < LINE_COUNT; i++)
        vm->lines[i].in = vm->lines[i].out = -1;
    vm->console_fd = open(CONSOLE_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (locks_take(s, err) < 0 || metrics_open(s, err) < 0)
        return -1;
    if (s->spec.vm.secrets_dir)
        buf_reserve(&vm->queue, 2 * QUEUE_MAX);      /* growing leaves copies */
    if (s->spec.vm.vsock && (vm->vsock_listen = vsock_listen_at(s->spec.vm.vsock, err)) < 0)
        return -1;
    return vm_port_enter(&s->spec.vm.port, err);
}

/* What the monitor has still said. */
static void output_drain(struct shim *s)
{
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        for (ssize_t n; s->output[i] >= 0 && (n = read(s->output[i], s->buffer, sizeof s->buffer / 2)) > 0;)
            vm_output(s, i, s->buffer, (size_t)n);
    while (s->vm->lines[LINE_VSOCK].in >= 0 && recv(s->vm->lines[LINE_VSOCK].in, s->buffer, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
        vsock_read(s);
}

int vm_start(struct shim *s, int stdin_fd, struct error *err)
{
    s->vm->lines[LINE_SERIAL].out = stdin_fd;
    fcntl(stdin_fd, F_SETFL, O_NONBLOCK);
    s->start_by = time_monotonic_ms() + s->spec.vm.start_ms;
    if (vmm_configure(s->spec.vm.api, &s->spec.vm.requests, s->pid, err) == 0) {
        if (s->spec.vm.identity && s->spec.vm.on_serial) {
            s->vm->spoken = LINE_SERIAL;
            identify(s);
        }
        return 0;
    }
    char words[200];
    shim_kill(s);
    waitpid(s->pid, NULL, 0);
    output_drain(s);
    console_words(s->vm, words, sizeof words);
    if (*words) {
        struct error why = *err;
        error_set(err, why.code, "%s: %s", why.text, words);
    }
    return -1;
}

void vm_late(struct shim *s)
{
    char words[200], patience[TIME_TEXT_SIZE];
    s->start_by = 0;
    if (s->running || s->ended)
        return;
    duration_format(patience, s->spec.vm.start_ms);
    console_words(s->vm, words, sizeof words);
    error_set(&s->failed, ERROR_TIMEOUT, "the virtual machine did not start its service within %s%s%s", patience,
              *words ? "; the last line of its console: " : "", words);
    shim_kill(s);
}

void vm_describe(struct shim *s, int status)
{
    char words[160];
    output_drain(s);
    if (!s->how.finished_at)
        s->how.finished_at = time_now_ms();
    if (s->failed.code || (s->vm->guest_ended && s->running))
        return;
    if (s->kill_sent) {
        if (!s->running)
            error_set(&s->failed, ERROR_CANCELLED, "it was stopped before its service ran");
        s->how.signal = SIGKILL;
        s->how.code = 128 + SIGKILL;
        shim_describe(s, false, 0);
        return;
    }
    console_words(s->vm, words, sizeof words);
    int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    s->how.code = code ? code : 255;
    snprintf(s->how.reason, sizeof s->how.reason, "the virtual machine ended by itself (its monitor with %d)%s%s", code,
             *words ? ": " : "", words);
    if (!s->running)
        error_set(&s->failed, ERROR_SYSTEM, "%s", s->how.reason);
}

void vm_close(struct shim *s)
{
    struct shim_vm *vm = s->vm;
    for (size_t i = 0; i < COMMANDS_MAX; i++)
        if (vm->commands[i].id)
            command_free(&vm->commands[i]);
    for (unsigned i = 0; i < vm->n_locks; i++)
        close(vm->locks[i]);
    vsock_close(vm);
    if (vm->vsock_listen >= 0)
        close(vm->vsock_listen);
    if (vm->metrics_fd >= 0)
        close(vm->metrics_fd);
    if (vm->console_fd >= 0)
        close(vm->console_fd);
    secrets_drop(&vm->secrets);
    buf_wipe(&vm->queue);
    buf_wipe(&vm->behind);
    snapshot_drop(&vm->snapshot);
    free(vm);
    s->vm = NULL;
}
