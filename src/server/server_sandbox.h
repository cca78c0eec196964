/* Sandbox: what the server takes from itself at its start. */
#pragma once
#include "server/server_config.h"

/* Before any thread is begun. The log tells what was taken, and what the kernel cannot do. */
void sandbox_enter(const struct server_config *config);
