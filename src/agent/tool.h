/* Tools: programs of the host that the agent runs to their end, such as mksquashfs, mke2fs and nft. Blocking. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct tool {
    const char *const *argv;         /* argv[0] is looked up in PATH */
    const char *input;               /* its stdin; NULL: none */
    size_t input_len;
    int64_t timeout_ms;              /* 0: none; then it is killed */
    unsigned good;                   /* bit set of exit codes, below 32, beside 0, that are no failure */
    char *output;                    /* of stdout and stderr together, the beginning; may be NULL */
    size_t output_size;
};
/* 0 with *code (may be NULL), or -1: the text names the tool and quotes what it said last. ERROR_NOT_FOUND: it is not
 * installed. */
int tool_run(const struct tool *tool, int *code, struct error *err);

/* As tool_run, for a tool whose input is made as it runs: *in is its stdin, to be closed before tool_wait. */
struct tool_process { const char *name; pid_t pid; int out; };
int tool_start(const struct tool *tool, struct tool_process *p, int *in, struct error *err);
int tool_wait(struct tool_process *p, const struct tool *tool, int *code, struct error *err);
