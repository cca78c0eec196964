/* Launcher: a process, forked off at the start, that starts the commands of the configuration for a program that has taken
 * that right from itself. It ends when the program does; commands that run then go on. */
#pragma once
#include <stddef.h>

#include "base/error.h"

struct launcher;

/* Before threads are begun, keys are read and anything is taken from the process. */
int launcher_new(struct launcher **out, struct error *err);
void launcher_free(struct launcher *l);          /* NULL does nothing */

struct launch {
    const char *command;         /* for sh -c */
    const char *variable;        /* "NAME=value" in its environment; NULL: none */
    int input, output;           /* its stdin and stdout; -1: nothing to read, and the program's own; they stay the caller's */
};
/* Any thread. The command's channel, the caller's to close, or -1 with err. A command whose channel is closed is left to
 * itself. */
int launcher_run(struct launcher *l, const struct launch *what, struct error *err);
/* Runs a command to its end: 0 with the first line that it printed, NUL-ended and cut at the size, or -1 with err, also when it
 * did not end well. */
int launcher_ask(struct launcher *l, const char *command, char *line, size_t size, struct error *err);
/* What a channel that is readable says: 0 with the status (as of waitpid), or -1 with err: nobody knows how it ended. */
int launcher_status(int channel, int *status, struct error *err);
void launcher_kill(int channel);                 /* and what it started */
/* 0 when a command ended well; else -1 with how it did. */
int launcher_judge(int status, struct error *err);
