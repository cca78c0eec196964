/* Access: keeps the access table as the core has it, and sees that there is an administrator. Core thread.
 *
 * While no token is there with which tokens can be made, the leader makes one and writes it into its data directory:
 * whoever is root on a server's host is an administrator anyway. So the first one comes into being, and so a cluster whose
 * last one expired or was revoked is not lost. */
#pragma once
#include "server/control.h"

#define ADMIN_TOKEN_FILE "admin-token"

/* At the end of each turn. Nothing where no tokens are asked for. */
void access_look(struct control *c);
/* The state is another one, or this server leads now: look anew. */
void access_begin(struct control *c);
/* With the control itself. */
void access_start(struct control *c, struct access_table *table);
void access_end(struct control *c);
