#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "agent/driver.h"
#include "base/mem.h"

static const char *const names[] = {
    [SIGHUP] = "SIGHUP", [SIGINT] = "SIGINT", [SIGQUIT] = "SIGQUIT", [SIGILL] = "SIGILL", [SIGTRAP] = "SIGTRAP",
    [SIGABRT] = "SIGABRT", [SIGBUS] = "SIGBUS", [SIGFPE] = "SIGFPE", [SIGKILL] = "SIGKILL", [SIGUSR1] = "SIGUSR1",
    [SIGSEGV] = "SIGSEGV", [SIGUSR2] = "SIGUSR2", [SIGPIPE] = "SIGPIPE", [SIGALRM] = "SIGALRM", [SIGTERM] = "SIGTERM",
    [SIGSTKFLT] = "SIGSTKFLT", [SIGCHLD] = "SIGCHLD", [SIGCONT] = "SIGCONT", [SIGSTOP] = "SIGSTOP", [SIGTSTP] = "SIGTSTP",
    [SIGTTIN] = "SIGTTIN", [SIGTTOU] = "SIGTTOU", [SIGURG] = "SIGURG", [SIGXCPU] = "SIGXCPU", [SIGXFSZ] = "SIGXFSZ",
    [SIGVTALRM] = "SIGVTALRM", [SIGPROF] = "SIGPROF", [SIGWINCH] = "SIGWINCH", [SIGIO] = "SIGIO", [SIGPWR] = "SIGPWR",
    [SIGSYS] = "SIGSYS",
};

int signal_number(const char *name)
{
    char *end;
    long n = strtol(name, &end, 10);
    if (*name && *end == 0)
        return n > 0 && n < NSIG ? (int)n : -1;
    for (size_t i = 1; i < ARRAY_LEN(names); i++)
        if (names[i] && (strcmp(names[i], name) == 0 || strcmp(names[i] + strlen("SIG"), name) == 0))
            return (int)i;
    return -1;
}

const char *signal_name(int signal)
{
    return signal > 0 && (size_t)signal < ARRAY_LEN(names) ? names[signal] : "a real-time signal";
}
