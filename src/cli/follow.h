/* Follow: watches services after a change until it is done, and shows how it goes: a block of live lines on a terminal,
 * a line for each transition elsewhere. */
#pragma once
#include <jansson.h>

#include "cli/cli.h"

enum follow_state { FOLLOW_GOING, FOLLOW_DONE, FOLLOW_FAILED };

/* What is followed of one service. `judge` looks at the service (NULL once it is gone) and all its allocations. It sets
 * *note to what people should know; the caller frees it. -1 with err when a server could not be asked. */
struct follow_item {
    const char *service;
    const char *deployment;          /* for follow_deployment; borrowed */
    const json_t *before;            /* for follow_restart: the allocations before; borrowed */
    int (*judge)(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                 enum follow_state *state, char **note, struct error *err);
    /* The follower's own. */
    enum follow_state state;
    char *note;
    json_t *seen;                    /* allocation → state that was told */
};

/* Until no item is going. Returns an exit status; the reasons of failed ones are on stderr. Clears the items. */
int follow_run(struct cli *cli, struct follow_item *items, size_t count);

typedef int follow_judge(struct cli *cli, struct follow_item *item, const json_t *service, const json_t *allocs,
                         enum follow_state *state, char **note, struct error *err);
follow_judge follow_deployment,      /* until the deployment ended, or pauses */
             follow_settled,         /* until as many replicas run as are wanted, and no other; tasks: until they ended */
             follow_task,            /* until the task ended; with a schedule: until it is placed */
             follow_restart,         /* until each replica has begun anew */
             follow_alloc_restart,   /* until the one allocation in `before` has begun anew */
             follow_unchanged,       /* at once; fails when the service has failed */
             follow_stopped,         /* until none is left */
             follow_purged;          /* until the service is gone, or wanted again */
/* Follows the answer of a write on one service: its deployment when it has one, else `otherwise`. */
int follow_answer(struct cli *cli, const json_t *answer, follow_judge *otherwise, const json_t *before);
bool follow_alloc_live(const json_t *alloc);
