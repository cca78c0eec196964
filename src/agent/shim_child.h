/* Shim's child: from a command, a user and a control group to a running process, or to a text that says why not. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "agent/shim_protocol.h"
#include "base/error.h"

#define ACCOUNT_GROUPS_MAX 64

/* Whom a task runs as, from /etc/passwd and /etc/group alone: a static program has no other sources. */
struct account {
    bool set;                        /* false: as the agent */
    uid_t uid;
    gid_t gid;
    gid_t groups[ACCOUNT_GROUPS_MAX];
    size_t n_groups;
};
/* name: an account's name or number; NULL: account->set is false. node is for the message. */
int account_find(const char *name, const char *node, struct account *account, struct error *err);

struct child_spec {
    const struct shim_spec *shim;    /* environment, working directory, control group */
    const struct account *account;
    const struct str_list *args;
    int fds[3];                      /* stdin, stdout, stderr; tty: all the same, and its controlling terminal */
    bool tty;
    bool main;                       /* dies with the shim */
};
/* Starts it in a session of its own. When it returns a pid, the command itself is running (its exec succeeded);
 * when it returns -1, err says why in the user's words, and nothing is left. */
pid_t shim_child_start(const struct child_spec *spec, struct error *err);
