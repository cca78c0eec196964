/* Commands beside the service. Each has a window: output is read from it only as far as the host has taken what went
 * before, and of its input only so much waits here as the host was told of. So a slow end on either side holds up that
 * command alone, never the line that all share. */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define WORDS_MAX 1024
#define REQUEST_MAX 65536
#define LINGER_MS 500                /* output held open by a process that the command left behind */

struct session {
    uint32_t id;                     /* 0: free */
    pid_t pid;                       /* 0: ended */
    int in, out[2];                  /* tty: in and out[0] are the same terminal */
    bool tty, input_over;
    uint32_t credit;                 /* output that the host still takes */
    int last[2];                     /* bytes that still go out, once nothing new is waited for; -1: not yet */
    uint8_t *input;                  /* FRAME_WINDOW bytes */
    size_t input_n;
    uint32_t code, signal;
    int64_t ended_at;
    char *request;                   /* EXEC frames so far */
    size_t request_n;
};
static struct session sessions[SESSIONS_MAX];

static struct session *session_find(uint32_t id)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (sessions[i].id == id)
            return &sessions[i];
    return NULL;
}

static void in_close(struct session *s)
{
    if (s->in >= 0 && !s->tty)
        close(s->in);
    s->in = -1;
}

static void session_free(struct session *s)
{
    in_close(s);
    for (int i = 0; i < 2; i++)
        if (s->out[i] >= 0)
            close(s->out[i]);
    free(s->input);
    free(s->request);
    *s = (struct session){0};
}

static void failed(struct session *s, const char *why)
{
    line_send(FRAME_FAILED, 0, s->id, why, strlen(why));
    session_free(s);
}

/* --- start --- */

static int terminal_open(struct session *s, int theirs[3], uint32_t rows, uint32_t cols, char *why)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    int unlock = 0;
    s->out[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    theirs[0] = -1;
    if (s->out[0] >= 0 && ioctl(s->out[0], TIOCSPTLCK, &unlock) == 0)
        theirs[0] = ioctl(s->out[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (theirs[0] < 0)
        return why_errno(why, "cannot open a terminal");
    ioctl(theirs[0], TIOCSWINSZ, &size);
    s->in = s->out[0];
    theirs[1] = theirs[2] = theirs[0];
    return 0;
}

static int pipes_open(struct session *s, int theirs[3], char *why)
{
    int *ours[3] = {&s->in, &s->out[0], &s->out[1]};
    theirs[0] = theirs[1] = theirs[2] = -1;
    for (int i = 0; i < 3; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
            return why_errno(why, "cannot make pipes");
        *ours[i] = fds[i == 0];
        theirs[i] = fds[i != 0];
        fcntl(*ours[i], F_SETFL, O_NONBLOCK);
    }
    return 0;
}

static void session_start(struct session *s, const struct drive *d, const struct process_user *user)
{
    const char *words[WORDS_MAX + 1];
    size_t n = 0;
    char why[WHY_SIZE];
    const uint8_t *head = (const uint8_t *)s->request;
    if (s->request_n < 14 || s->request[s->request_n - 1]) {
        failed(s, "the request is not complete");
        return;
    }
    for (char *p = s->request + 12; p < s->request + s->request_n && n < WORDS_MAX; p += strlen(p) + 1)
        words[n++] = p;
    words[n] = NULL;
    int theirs[3];
    s->tty = frame_get_u32(head) != 0;
    int rc = s->tty ? terminal_open(s, theirs, frame_get_u32(head + 4), frame_get_u32(head + 8), why)
                    : pipes_open(s, theirs, why);
    pid_t pid = rc < 0 ? -1 : process_start(&(struct process){
        .drive = d, .user = user, .args = words, .fds = {theirs[0], theirs[1], theirs[2]}, .tty = s->tty}, why);
    for (int i = 0; i < (s->tty ? 1 : 3); i++)
        if (theirs[i] >= 0)
            close(theirs[i]);
    if (pid < 0) {
        failed(s, why);
        return;
    }
    s->pid = pid;
    s->input = malloc(FRAME_WINDOW);
    free(s->request);
    s->request = NULL;
}

void session_exec(const struct frame *f, const struct drive *d, const struct process_user *user)
{
    struct session *s = session_find(f->id);
    if (!s && (s = session_find(0)))
        *s = (struct session){.id = f->id, .in = -1, .out = {-1, -1}, .last = {-1, -1},
                               .credit = FRAME_WINDOW};
    if (!s) {
        static const char full[] = "too many commands run in this guest";
        line_send(FRAME_FAILED, 0, f->id, full, strlen(full));
        return;
    }
    char *request = s->pid || s->request_n + f->n > REQUEST_MAX ? NULL : realloc(s->request, s->request_n + f->n + 1);
    if (!request) {
        if (!s->pid)
            failed(s, "the command is too long");
        return;
    }
    memcpy(request + s->request_n, f->data, f->n);
    s->request = request;
    s->request_n += f->n;
    if (!f->stream)
        session_start(s, d, user);
}

/* --- frames --- */

static void input_write(struct session *s)
{
    uint32_t taken = 0;
    while (s->in >= 0 && s->input_n) {
        ssize_t n = write(s->in, s->input, s->input_n);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {                /* nobody reads it any more */
            taken += (uint32_t)s->input_n;
            s->input_n = 0;
            in_close(s);
            break;
        }
        taken += (uint32_t)n;
        s->input_n -= (size_t)n;
        memmove(s->input, s->input + n, s->input_n);
    }
    if (taken)
        line_send_numbers(FRAME_TAKEN, s->id, 1, &taken);
    if (!s->input_n && s->input_over)
        in_close(s);
}

static void input_take(struct session *s, const struct frame *f)
{
    if (!f->n) {
        s->input_over = true;
    } else if (s->in < 0) {
        uint32_t n = (uint32_t)f->n;
        line_send_numbers(FRAME_TAKEN, s->id, 1, &n);
    } else if (s->input && f->n <= FRAME_WINDOW - s->input_n) {
        memcpy(s->input + s->input_n, f->data, f->n);
        s->input_n += f->n;
    }
    input_write(s);
}

void session_frame(const struct frame *f)
{
    struct session *s = session_find(f->id);
    if (!s || !f->id)
        return;
    struct winsize size = {.ws_row = (unsigned short)frame_u32(f, 0), .ws_col = (unsigned short)frame_u32(f, 1)};
    switch (f->kind) {
    case FRAME_INPUT:
        input_take(s, f);
        break;
    case FRAME_TAKEN:
        s->credit += frame_u32(f, 0);
        break;
    case FRAME_RESIZE:
        if (s->tty && s->out[0] >= 0)
            ioctl(s->out[0], TIOCSWINSZ, &size);
        break;
    case FRAME_SIGNAL:
        if (s->pid)
            kill(-s->pid, (int)frame_u32(f, 0));
        break;
    default:
        break;
    }
}

/* --- output and end --- */

static void maybe_over(struct session *s)
{
    if (s->pid || s->out[0] >= 0 || s->out[1] >= 0)
        return;
    uint32_t numbers[] = {s->code, s->signal, 0};
    line_send_numbers(FRAME_EXIT, s->id, 3, numbers);
    session_free(s);
}

static void out_close(struct session *s, int i)
{
    if (s->tty)
        s->in = -1;
    close(s->out[i]);
    s->out[i] = -1;
}

static void output_read(struct session *s, int i)
{
    uint8_t bytes[FRAME_DATA_MAX];
    size_t want = s->credit < sizeof bytes ? s->credit : sizeof bytes;
    ssize_t n = read(s->out[i], bytes, want);
    if (n > 0) {
        s->credit -= (uint32_t)n;
        line_send(FRAME_OUTPUT, (uint8_t)(i + 1), s->id, bytes, (size_t)n);
        s->last[i] -= s->last[i] > n ? (int)n : s->last[i] > 0 ? s->last[i] : 0;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        out_close(s, i);             /* a terminal whose last user is gone answers EIO */
    }
}

size_t session_poll(struct pollfd *p)
{
    size_t n = 0;
    bool room = line_has_room(8);
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *s = &sessions[i];
        if (!s->id || s->request)
            continue;
        for (int k = 0; k < 2; k++)
            p[n++] = (struct pollfd){.fd = room && s->credit ? s->out[k] : -1, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = s->input_n ? s->in : -1, .events = POLLOUT};
    }
    return n;
}

void session_polled(const struct pollfd *p, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < SESSIONS_MAX && at < n; i++) {
        struct session *s = &sessions[i];
        if (!s->id || s->request)
            continue;
        for (int k = 0; k < 2; k++)
            if (p[at + (size_t)k].fd >= 0 && p[at + (size_t)k].revents && s->credit && s->out[k] >= 0)
                output_read(s, k);
        if (p[at + 2].fd >= 0 && p[at + 2].revents && s->in >= 0)
            input_write(s);
        at += SESSION_FDS;
        maybe_over(s);
    }
}

bool session_ended(pid_t pid, uint32_t code, uint32_t signal)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *s = &sessions[i];
        if (!s->id || s->pid != pid)
            continue;
        s->pid = 0;
        s->code = code;
        s->signal = signal;
        s->ended_at = now_ms();
        return true;
    }
    return false;
}

bool session_any(void)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (sessions[i].id)
            return true;
    return false;
}

int session_wait_ms(void)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (sessions[i].id && !sessions[i].pid && !sessions[i].request)
            return LINGER_MS / 4;
    return -1;
}

void session_tick(void)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *s = &sessions[i];
        if (!s->id || s->pid || s->request)
            continue;
        /* The host may have been slow, not the command: what is there by now still goes out. */
        for (int k = 0; k < 2; k++) {
            if (s->out[k] < 0 || now_ms() - s->ended_at < LINGER_MS)
                continue;
            if (s->last[k] < 0 && ioctl(s->out[k], FIONREAD, &s->last[k]) < 0)
                s->last[k] = 0;
            if (s->last[k] == 0)
                out_close(s, k);
        }
        maybe_over(s);
    }
}
