/* What one allocation gets of secrets, and its token. Part of the allocation's machine.
 *
 * Before each start the servers are asked anew; when none can be asked, what is still in memory will do. While the task runs,
 * files whose secret changed are put in place anew, the task is told by SIGHUP where its service says so, and its token is
 * renewed in time. */
#pragma once
#include "agent/allocation.h"

struct alloc_secrets *alloc_secrets_new(struct allocation *a);
/* No callback comes any more; the values are overwritten, the files go. NULL does nothing. */
void alloc_secrets_free(struct alloc_secrets *s, bool keep_files);

/* done is called once, never from inside, unless alloc_secrets_rest comes first: err NULL: the values are here. */
void alloc_secrets_get(struct alloc_secrets *s, void (*done)(void *ctx, const struct error *err), void *ctx);
/* Makes the directory with the files; launch_prepare gives it to the task's user. */
int alloc_secrets_write(const struct alloc_secrets *s, struct error *err);
/* Adds the variables, and their names; the caller overwrites the values. */
void alloc_secrets_env(const struct alloc_secrets *s, struct kv_list *env, struct str_list *names);
/* The values are in the hands of a new run. */
void alloc_secrets_given(struct alloc_secrets *s);
/* The login of its image's registry, as text; NULL: none. The caller overwrites and frees it. */
char *alloc_secrets_login(const struct alloc_secrets *s);

/* The task runs, maybe since before this agent: it is kept up to date. */
void alloc_secrets_follow(struct alloc_secrets *s);
/* The servers' word may be another one: of a task that runs. */
void alloc_secrets_look(struct alloc_secrets *s);
/* The task does not run any more, or was not started: its files go. */
void alloc_secrets_rest(struct alloc_secrets *s);
