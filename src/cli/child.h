/* Child: a program that is started beside us, with its output in a log file, and ended by its id. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct child {
    const char *name;            /* "mentat-server" */
    char *log_path;              /* NULL: it shares our output */
    pid_t pid;                   /* 0: not running */
    int status;                  /* of waitpid, once it has ended */
};

/* Starts path with argv (NULL-ended, argv[0] included). It gets SIGTERM when we die, starts with no signal blocked,
 * and, with a log, in a process group of its own: Ctrl-C reaches only us. */
int child_start(struct child *c, const char *path, char *const *argv, struct error *err);
/* True while it runs; collects its status when it has ended. */
bool child_running(struct child *c);
void child_signal(const struct child *c, int signum);
/* "ended with status 1", "was ended by signal 9". out: at least 48 bytes. */
void child_how_ended(const struct child *c, char *out, size_t size);
/* The last lines of its log, to standard error. */
void child_show_log(const struct child *c);
void child_clear(struct child *c);
/* The program of that name beside this one. The caller's. */
char *child_find_program(const char *name, struct error *err);
