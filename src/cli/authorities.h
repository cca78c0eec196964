/* Authorities: the certificates that `mt login --ca-hash` fetched, kept up with what the cluster says, so that who uses mt now and
 * then need not fetch them again after rotations. */
#pragma once
#include <stdint.h>

#include "cli/cli.h"

#define AUTHORITIES_AGE_S 3600

/* Asks for them again when they are older than this, over a connection for which the present ones vouched. Nothing where mt
 * believes another file. A failure changes nothing. */
void authorities_refresh(struct cli *cli, int64_t age_s);
