/* Task environment: the MENTAT_… variables, and ${…} in args, env and volume sources. Pure. */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "model/model.h"

struct task_facts {
    const struct service *spec;
    const struct alloc *alloc;
    const char *node_name;
    const char *ip;                  /* the address at which the task is reached */
    const struct kv_list *node_meta;
    const char *secrets_dir;         /* as the task sees it; NULL: it has none */
    const struct kv_list *peers;     /* port name: "host:port,host:port" of the service's replicas, in their order */
};

/* The port that the program itself must listen on: the host's port for exec, which shares the host's network. */
int64_t task_port(enum driver_kind driver, const struct alloc_port *port);
/* The port at which others reach it: a container's is published at the host's. */
int64_t task_outer_port(enum driver_kind driver, const struct alloc_port *port);

/* Appends ip:port, an IPv6 address in brackets. */
void task_add_address(struct buf *out, const char *ip, const char *port);

/* Appends text to out with ${replica}, ${ip}, ${port.NAME}, ${peers.NAME}, ${node.name} and ${meta.KEY} replaced.
 * $${ stands for a literal ${. Other names without a dot are left as they are, for shells; an unknown port or meta key
 * is an error. */
int task_interpolate(const struct task_facts *f, const char *text, struct buf *out, struct error *err);

/* The whole environment of the task: service's env, then config's env (which wins), then the MENTAT_ variables. */
int task_env(const struct task_facts *f, struct kv_list *env, struct error *err);
int task_args(const struct task_facts *f, const struct str_list *args, struct str_list *out, struct error *err);

/* Where a volume of this replica is on the host: below volume_root, and for each replica its own, unless the source
 * itself names ${replica}: then as written. *path is the caller's. Refuses sources that leave volume_root. */
int task_volume_path(const struct task_facts *f, const char *volume_root, const struct volume *v, char **path,
                     struct error *err);
