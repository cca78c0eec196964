/* Exec session: a command in a task, our terminal at its other end. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "net/stream.h"

#include <uv.h>

/* Carries standard input, output and error over the stream until the command ends. tty: standard input is a terminal,
 * which is raw meanwhile, and its size is passed on. Closes the stream. 0 with *code, or -1 with err when the
 * connection broke. */
int exec_session_run(uv_loop_t *loop, struct stream *stream, bool tty, int *code, struct error *err);
/* Rows and columns of the terminal; false when there is none. */
bool exec_session_size(unsigned *rows, unsigned *columns);
