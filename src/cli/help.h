/* Help: texts made from the command table. */
#pragma once
#include "cli/cli.h"

void help_overview(struct buf *out);
/* group: the command's group, NULL for a command of its own. */
void help_command(const struct command_row *group, const struct command_row *c, struct buf *out);
/* "mt run FILE [OPTION]…" and "-o, --output FORMAT". */
void help_usage(const struct command_row *group, const struct command_row *c, struct buf *out);
void help_option_name(const struct option_row *o, struct buf *out);
/* What each exit status means; NULL-ended. */
extern const char *const help_statuses[];
/* The completion script for bash, zsh or fish. -1 when the shell is none of them. */
int help_completion(const char *shell, struct buf *out);
