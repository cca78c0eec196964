/* Render: the proxy's configuration and maps as texts. Whatever comes from outside was checked by plan.h before; the
 * renderer refuses to write what could be more than a name all the same. Pure. */
#pragma once
#include "agent/ingress/ingress_config.h"
#include "agent/ingress/layout.h"
#include "base/buf.h"

/* Names of files, from the proxy's working directory. */
#define RENDER_CONFIG "haproxy.cfg"
#define RENDER_MASTER "master.sock"
#define RENDER_ADMIN "admin.sock"
#define RENDER_CRT_LIST "certificates.list"
#define RENDER_FALLBACK "fallback.pem"
#define RENDER_JAIL "empty"
#define RENDER_PAGE_NOT_FOUND "404.html"
#define RENDER_PAGE_NO_REPLICA "503.http"
/* Holds the key in a process that is to hand over to the one after it. */
#define RENDER_HANDOVER_MAP "handover.map"
#define RENDER_HANDOVER_KEY "old"

#define STRUCTURE_SIZE 17

struct render_options {
    const struct ingress_config *config;
    const char *directory;           /* absolute: for the jail */
    bool root;                       /* the agent may change user and root directory of the proxy */
    int64_t gid;                     /* of that user; -1: not known */
    size_t open_files;               /* how many a process of the proxy may have */
    const char *cookie_key;          /* the same on all nodes of a cluster */
};

/* Whether its processes get a user and a root directory of their own. */
bool render_own_user(const struct render_options *o);
/* What a process of the proxy cannot be told while it runs, as a hash: two layouts of the same structure need no reload.
 * The configuration carries it, and a process tells it by `show info`. */
void render_structure(const struct layout *l, const struct render_options *o, char out[static STRUCTURE_SIZE]);
void render_config(const struct layout *l, const struct render_options *o, struct buf *out);
void render_map(const struct kv_list *map, struct buf *out);
/* The pages; fixed texts. */
const char *render_page_not_found(void);
void render_page_no_replica(struct buf *out);    /* a whole answer, with its head */
