/* Forward: a request handed on to the leader by the server that got it, and its answer handed back. HTTP thread. */
#pragma once
#include "server/request.h"

/* r->forward is where; the request ends with the leader's answer, or goes back to the core thread to look for another
 * leader. */
void forward_start(struct request *r);
