/* Log follow: the logs of a service's replicas side by side, as they come and go. */
#pragma once
#include "cli/log_source.h"
#include "cli/target.h"

/* Which of a service's replicas. */
struct log_choice {
    long long replica;           /* negative: all */
    const char *node;            /* NULL: on all */
};

/* Follows the target until there is nothing more to come: the
 * allocation has ended, the service was stopped, or its task ended. Returns an exit status. */
int log_follow(struct cli *cli, const struct target *target, const struct log_choice *choice, struct log_style *style);
