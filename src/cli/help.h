/* Help: texts made from the command table. */
#pragma once
#include "cli/cli.h"

void help_overview(struct buf *out);
/* group: the command's group, NULL for a command of its own. */
void help_command(const struct command_row *group, const struct command_row *c, struct buf *out);
/* The manual page mt(1), as roff. */
void help_manual(struct buf *out);
/* The completion script for bash, zsh or fish. -1 when the shell is none of them. */
int help_completion(const char *shell, struct buf *out);
