/* Leader: what only the leader does: decide what is to be done, and tell which nodes are dead.
 *
 * A node is down when it was silent for its grace. Three things are not taken for dead nodes: time in which this server
 * did not listen (it did not lead, or stood still): each node gets a fresh grace; and most nodes falling silent at once,
 * which says more about the network than about them: then nothing is replaced for a while (mass_loss_hold), unless they
 * come back before. */
#pragma once
#include "server/control.h"

/* The role changed, or the state was replaced. */
void leader_begin(struct control *c);
/* At the end of a turn of the loop: decides, when there may be something to decide and nothing is on its way. */
void leader_turn(struct control *c);
/* Why dead nodes are not told now; NULL when they are. */
const char *leader_hold(const struct control *c);
/* From how long a silence on (milliseconds) a node counts among those that fell silent together. */
int64_t leader_silence_ms(const struct control *c);
