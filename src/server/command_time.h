/* Command time: commands carry the leader's wall clock. When that jumps, because it was set or because another server leads
 * whose clock differs, a COMMAND_CLOCK goes before the first command with the new time, so that nothing that waits in the
 * state is over at once, or waits for hours. Core thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consensus/consensus.h"

struct control;

struct command_time {
    int64_t applied_ms;              /* monotonic: when the last command was applied here */
    /* The leader's */
    int64_t wall_ms, monotonic_ms;   /* both clocks as they fitted last; wall_ms 0: there is nothing yet that could jump */
    bool jumps;                      /* they do not fit, and the state does not know of it */
    bool telling;                    /* a COMMAND_CLOCK is on its way */
    int64_t again_ms;                /* monotonic: not before that, after one that was refused */
    uint64_t leadership;
};

/* A command was applied. */
void command_time_applied(struct control *c);
/* This server leads from now on: until then the state's time went on from its last command. Time in which nobody led is a
 * jump, too: what waits was not looked after. */
void command_time_begin(struct control *c);
/* consensus_propose with the time that it is now, which is written into the bytes. */
void command_time_propose(struct control *c, void *bytes, size_t len, consensus_done done, void *request);
/* For the leader: the state's times and the clock fit, so that it may decide. When they do not, c->look is set once they
 * do. */
bool command_time_settled(struct control *c);
