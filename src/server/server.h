/* Server: the whole of mentat-server but for the command line. */
#pragma once
#include "server/server_config.h"

/* Runs until SIGTERM or SIGINT. 0, or -1 with err when it could not start. */
int server_run(const struct server_config *config, struct error *err);
/* `mentat-server recover`: prints what data_dir holds; with `really` makes its server the only one of its cluster. The
 * server must not run. */
int server_recover(const struct server_config *config, bool really, struct error *err);
