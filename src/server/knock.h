/* Knock: a server that hears of no leader asks the others whether it is still one of theirs. One that was removed while it
 * was down cannot know it otherwise: nobody dials it any more. The answer is as trustworthy as the connection: with TLS it
 * comes from a server of this cluster's authority. It changes nothing but what this server says of itself, and that it may
 * be given a new cluster (formation_join). */
#pragma once
#include "server/control.h"

void knock_start(struct control *c);
void knock_stop(struct control *c);
/* How it was removed and how it comes back; NULL while nothing is known of that. */
const char *knock_removed(const struct control *c);
