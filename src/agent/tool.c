#include "agent/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/process.h"
#include "base/timefmt.h"

#define SAID_SIZE 1024

static int nothing_open(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int tool_start(const struct tool *tool, struct tool_process *p, int *in, struct error *err)
{
    int input[2] = {-1, -1}, output[2];
    bool fed = in != NULL;
    *p = (struct tool_process){.name = tool->argv[0], .out = -1};
    if (pipe2(output, O_CLOEXEC) < 0)
        return error_set_errno(err, errno, "cannot run %s", p->name);
    if (fed ? pipe2(input, O_CLOEXEC) < 0 : (input[0] = nothing_open()) < 0) {
        close(output[0]);
        close(output[1]);
        return error_set_errno(err, errno, "cannot run %s", p->name);
    }
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, input[0], 0);
    posix_spawn_file_actions_adddup2(&files, output[1], 1);
    posix_spawn_file_actions_adddup2(&files, output[1], 2);
    static char *const env[] = {(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                (char *)"LC_ALL=C", NULL};
    /* posix_spawnp looks in the agent's own PATH, which may lack the directories of system tools. */
    int failed = ENOENT;
    static const char *const folders[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
    for (size_t i = 0; failed == ENOENT && i < (strchr(p->name, '/') ? 1 : ARRAY_LEN(folders)); i++) {
        CLEANUP_FREE char *path = strchr(p->name, '/') ? mem_strdup(p->name) : mem_printf("%s/%s", folders[i], p->name);
        failed = spawn_clean(&p->pid, path, &files, 0, (char *const *)tool->argv, env);
    }
    posix_spawn_file_actions_destroy(&files);
    close(input[0]);
    close(output[1]);
    if (failed) {
        close(output[0]);
        if (fed)
            close(input[1]);
        return failed == ENOENT ? error_set(err, ERROR_NOT_FOUND, "%s is not installed on this node", p->name)
                                : error_set_errno(err, failed, "cannot run %s", p->name);
    }
    p->out = output[0];
    if (fed)
        *in = input[1];
    return 0;
}

/* The beginning goes to the caller, the end is kept for the error. */
static void said_add(char *said, size_t *said_n, const char *bytes, size_t n)
{
    if (n > SAID_SIZE / 2) {
        bytes += n - SAID_SIZE / 2;
        n = SAID_SIZE / 2;
    }
    if (*said_n + n > SAID_SIZE) {
        size_t drop = *said_n + n - SAID_SIZE;
        memmove(said, said + drop, *said_n - drop);
        *said_n -= drop;
    }
    memcpy(said + *said_n, bytes, n);
    *said_n += n;
}

/* The first line that speaks of an error, else the last one that says something. */
static void telling_line(char *said, size_t n, char *out, size_t size)
{
    CLEANUP_FREE char *text = mem_strndup(said, n);
    char *rest = NULL;
    *out = 0;
    for (char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest))
        if (strcasestr(line, "error")) {
            snprintf(out, size, "%s", line);
            return;
        } else if (strspn(line, " \t") != strlen(line)) {
            snprintf(out, size, "%s", line);
        }
}

int tool_wait(struct tool_process *p, const struct tool *tool, int *code, struct error *err)
{
    char bytes[4096], said[SAID_SIZE], line[256];
    size_t said_n = 0, output_n = 0;
    int64_t end = tool->timeout_ms ? time_monotonic_ms() + tool->timeout_ms : 0;
    bool late = false;
    for (;;) {
        int64_t left = end ? end - time_monotonic_ms() : 60000;
        struct pollfd f = {.fd = p->out, .events = POLLIN};
        if (end && left <= 0 && !late) {
            late = true;
            kill(p->pid, SIGKILL);
        }
        if (poll(&f, 1, late || left > 60000 ? 60000 : (int)left) <= 0)
            continue;
        ssize_t n = read(p->out, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        said_add(said, &said_n, bytes, (size_t)n);
        size_t room = tool->output ? tool->output_size - 1 - output_n : 0, take = (size_t)n < room ? (size_t)n : room;
        if (take)
            memcpy(tool->output + output_n, bytes, take);
        output_n += take;
    }
    if (tool->output)
        tool->output[output_n] = 0;
    close(p->out);
    int status = 0;
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
        ;
    int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code)
        *code = exit_code;
    if (late)
        return error_set(err, ERROR_TIMEOUT, "%s did not end within %lld s", p->name, (long long)tool->timeout_ms / 1000);
    if (exit_code == 0 || (exit_code < 32 && tool->good & 1u << exit_code))
        return 0;
    telling_line(said, said_n, line, sizeof line);
    return error_set(err, ERROR_SYSTEM, "%s failed with %d%s%s", p->name, exit_code, *line ? ": " : "", line);
}

int tool_run(const struct tool *tool, int *code, struct error *err)
{
    struct tool_process p;
    int in = -1;
    if (tool_start(tool, &p, tool->input ? &in : NULL, err) < 0)
        return -1;
    /* Small inputs only: they fit into the pipe, or the tool reads before it writes much. */
    for (size_t at = 0; tool->input && at < tool->input_len;) {
        ssize_t n = write(in, tool->input + at, tool->input_len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;                   /* it has ended: its status says why */
        at += (size_t)n;
    }
    if (in >= 0)
        close(in);
    return tool_wait(&p, tool, code, err);
}
