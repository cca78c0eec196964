/* Manual: the manual pages of mt, made from the command table. */
#pragma once
#include "cli/cli.h"

/* mt(1), with all commands in it, as roff. */
void manual_mt(struct buf *out);
/* The page of one command: mt-run(1), mt-node-drain(1). group: the command's group, NULL for a command of its own. */
void manual_command(const struct command_row *group, const struct command_row *c, struct buf *out);
/* services.yaml(5). */
void manual_services_yaml(struct buf *out);
/* Writes all of them into dir/man1 and dir/man5. */
int manual_write(const char *dir, struct error *err);
