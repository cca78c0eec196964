/* Events: GET /v1/events as a list, or as a stream of server-sent events.
 *
 * A stream is a waiting read that is asked again and again, each time after the last event that the client's connection
 * took: a slow client asks seldom, costs nothing meanwhile, and is cut when what it missed is not kept any more. */
#pragma once
#include "server/control.h"

int events_prepare(struct request *r, struct error *err);
int events_read(struct control *c, struct request *r, struct error *err);
void events_respond(struct request *r);
