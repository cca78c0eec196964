/* Agent: puts the parts together and runs them on one loop until it is told to end. */
#pragma once
#include "agent/agent_config.h"

/* Returns 0 after an orderly end (SIGTERM, SIGINT), -1 with err when it could not begin. Tasks go on, unless the
 * configuration says stop_tasks_on_exit. */
int agent_run(const struct agent_config *config, struct error *err);
