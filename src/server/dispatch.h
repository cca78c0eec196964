/* Dispatch: where a request is answered, and when. Core thread.
 *
 * The leader answers; other servers hand requests on to it (forward.c) and wait, while none is known, until the request's
 * time is over. What any server may answer from its own state: what is asked for as stale, what waits for a change, and
 * what the route's place allows, as long as it is in contact with a leader.
 * A read at the leader needs its lease, or a barrier; a strong one always a barrier. */
#pragma once
#include "server/control.h"

/* A request came, for the first time or back from its HTTP thread. */
void dispatch(struct control *c, struct request *r);
/* The state changed: waiting reads look again, and those of who was revoked. */
void dispatch_wake(struct control *c);
/* Each turn: changes that are done look whether all servers have them. */
void dispatch_spread(struct control *c);
/* This server has been without a leader for a while: what waits for a change is told to ask another one. */
void dispatch_lost(struct control *c);
/* The leader, its address, or this server's role changed: what waits for a leader looks again. */
void dispatch_leader(struct control *c);
/* Everything that waits is answered at once, and nothing waits any more. */
void dispatch_stop(struct control *c);

void dispatch_init(struct control *c);
void dispatch_close(struct control *c);
