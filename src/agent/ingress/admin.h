/* Admin: commands to the processes of a proxy, over the socket of its master, on the agent's loop. Every process is asked by
 * its pid, so that an answer is never another one's; those that finish their connections after a reload answer too. */
#pragma once
#include <uv.h>

#include "base/error.h"

struct admin;

/* answer is what the process said, NULL with err. Success is often an empty answer: what matters is read back. */
typedef void admin_done(void *arg, const struct error *err, const char *answer);

/* directory: where the proxy runs; its path may be longer than a socket's address has room for. */
struct admin *admin_new(uv_loop_t *loop, const char *directory);
/* As admin_forget; its handles end as the loop runs on. */
void admin_close(struct admin *a);

/* commands: one a line, copied; any number: they go in pieces that the proxy can take at once. pid 0: the master itself.
 * Requests are carried out one after the other. No callback comes from inside. */
void admin_ask(struct admin *a, int pid, const char *commands, admin_done *done, void *arg);
/* As it is, in one piece, for commands with a payload (at most 15 KB). */
void admin_ask_whole(struct admin *a, int pid, const char *text, admin_done *done, void *arg);
/* Ends what was asked and not answered yet, with ERROR_CANCELLED, from inside: the proxy is gone. */
void admin_forget(struct admin *a);
