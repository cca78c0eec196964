/* Proposal: a command on its way through the log, and what applying it gave. Core thread. */
#pragma once
#include "consensus/consensus.h"
#include "core/core.h"

struct control;

/* Embedded in what asks for it, which lives until done() was called. */
struct proposal {
    struct core_result result;       /* of the core, when the outcome is CONSENSUS_COMMITTED; the owner clears it */
    void (*done)(struct control *c, struct proposal *p, enum consensus_outcome outcome);
};

/* Proposes with the time that it is now, which it writes into the bytes; they are copied. done() comes exactly once, never
 * from inside. */
void control_propose(struct control *c, struct proposal *p, void *bytes, size_t len,
                     void (*done)(struct control *c, struct proposal *p, enum consensus_outcome outcome));
/* What went wrong, in the log or in the core; 0 when nothing did. */
int proposal_error(const struct control *c, const struct proposal *p, enum consensus_outcome outcome, struct error *err);
