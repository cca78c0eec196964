/* Shim: the small process that stands between the agent and one task, and outlives the agent.
 *
 * It is the task's parent and the subreaper of its tree, holds the output pipes, writes the log files, answers on a
 * socket, and writes how the task ended to ALLOC_DIR/exit before it exits itself. */
#pragma once
#include <stdbool.h>

/* True when the program was started as a shim (argv[1] is "shim"). The agent's main asks before it does anything else,
 * so that nothing of the agent is touched in a shim:
 *   if (shim_wanted(argc, argv))
 *       return shim_main(); */
bool shim_wanted(int argc, char **argv);
int shim_main(void);
