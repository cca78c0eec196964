/* Log follow: the logs of a service's replicas side by side, as they come and go. */
#pragma once
#include "cli/log_source.h"
#include "cli/target.h"

/* Follows the target (`replica`: only that one of the service; negative: all) until there is nothing more to come: the
 * allocation has ended, the service was stopped, or its task ended. Returns an exit status. */
int log_follow(struct cli *cli, const struct target *target, long long replica, struct log_style *style);
