/* The API of a virtual machine's monitor, as far as a start needs it: a fixed list of requests, one after the other, on
 * one connection. The agent has written them; here they are played, so that a start goes on when the agent ends. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/shim_internal.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define SOCKET_PATIENCE_MS 15000
#define SOCKET_LOOK_US 250           /* between two looks at first, then more: */
#define SOCKET_LOOK_MAX_US 2000
#define ANSWER_MAX 8192

/* Through the folder's descriptor: the path may be longer than a socket's address has room for. */
static int connect_once(const char *path)
{
    CLEANUP_FREE char *folder = mem_strdup(path), *name = mem_strdup(path);
    int dir = open(dirname(folder), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -1;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dir, basename(name));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        close(fd);
        fd = -1;
    }
    close(dir);
    return fd;
}

/* Looks at its end without taking it: the loop will. */
static bool monitor_ended(pid_t monitor)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)monitor, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == monitor;
}

static int monitor_connect(const char *path, pid_t monitor, struct error *err)
{
    int64_t end = time_monotonic_ms() + SOCKET_PATIENCE_MS;
    for (useconds_t pause_us = SOCKET_LOOK_US;; pause_us += pause_us < SOCKET_LOOK_MAX_US ? pause_us / 4 : 0) {
        int fd = connect_once(path);
        if (fd >= 0)
            return fd;
        if (monitor_ended(monitor))
            return error_set(err, ERROR_SYSTEM, "the virtual machine's monitor ended before it took its configuration");
        if (time_monotonic_ms() >= end)
            return error_set(err, ERROR_TIMEOUT, "the virtual machine's monitor does not answer on %s", path);
        usleep(pause_us);
    }
}

/* The length of the body that the head speaks of; 0 without one. */
static size_t body_length(const char *head)
{
    for (const char *p = head; (p = strchr(p, '\n')); ) {
        p++;
        if (strncasecmp(p, "content-length:", 15) == 0)
            return strtoul(p + 15, NULL, 10);
    }
    return 0;
}

/* Reads one answer; returns its status, -1 when there is none. *text: its body, within the buffer. */
static int answer_read(int fd, char buffer[static ANSWER_MAX], const char **text)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = n < ANSWER_MAX - 1 ? recv(fd, buffer + n, ANSWER_MAX - 1 - n, 0) : -1;
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        n += (size_t)got;
        buffer[n] = 0;
        char *end = strstr(buffer, "\r\n\r\n");
        if (!end)
            continue;
        *text = end + 4;
        *end = 0;
        size_t want = body_length(buffer);
        bool complete = n - (size_t)(*text - buffer) >= want;
        int status = 0;
        if (complete)
            return sscanf(buffer, "HTTP/1.%*d %d", &status) == 1 ? status : -1;
        *end = '\r';
    }
}

/* {"fault_message": "…"}: the words alone. */
static void fault_text(const char *body, char *out, size_t size)
{
    const char *p = strstr(body, "fault_message");
    p = p ? strchr(p + strlen("fault_message") + 1, '"') : NULL;
    snprintf(out, size, "%s", p ? p + 1 : body);
    char *end = strrchr(out, '"');
    if (p && end)
        *end = 0;
}

/* out: NULL, or where the answer's body goes. */
static int request_play(int fd, const char *request, char *out, size_t size, struct error *err)
{
    const char *line_end = strchr(request, '\n');
    const char *body = line_end ? line_end + 1 : "";
    int line = line_end ? (int)(line_end - request) : (int)strlen(request);
    CLEANUP_BUF struct buf b = {0};
    buf_printf(&b, "%.*s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n%s", line, request, strlen(body), body);
    char answer[ANSWER_MAX], fault[256];
    const char *text = "";
    int status = send(fd, b.data, b.len, MSG_NOSIGNAL) == (ssize_t)b.len ? answer_read(fd, answer, &text) : -1;
    if (status < 0)
        return error_set(err, ERROR_SYSTEM, "the virtual machine's monitor gave no answer to %.*s", line, request);
    if (status / 100 == 2) {
        if (out)
            snprintf(out, size, "%s", text);
        return 0;
    }
    fault_text(text, fault, sizeof fault);
    return error_set(err, ERROR_SYSTEM, "the virtual machine's monitor refused %.*s: %s", line, request, fault);
}

static void patience_set(int fd, int seconds)
{
    struct timeval patience = {.tv_sec = seconds};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

int vmm_get(const char *socket_path, const char *request, int patience_s, char *out, size_t size, struct error *err)
{
    int fd = connect_once(socket_path);
    if (fd < 0)
        return error_set_errno(err, errno, "the virtual machine's monitor cannot be reached on %s", socket_path);
    patience_set(fd, patience_s);
    int result = request_play(fd, request, out, size, err);
    close(fd);
    return result;
}

int vmm_ask(const char *socket_path, const char *request, int patience_s, struct error *err)
{
    return vmm_get(socket_path, request, patience_s, NULL, 0, err);
}

int vmm_configure(const char *socket_path, const struct str_list *requests, pid_t monitor, struct error *err)
{
    int fd = monitor_connect(socket_path, monitor, err);
    if (fd < 0)
        return -1;
    patience_set(fd, VMM_PATIENCE_S);
    int result = 0;
    for (uint32_t i = 0; result == 0 && i < requests->n; i++)
        result = request_play(fd, requests->v[i], NULL, 0, err);
    close(fd);
    return result;
}
