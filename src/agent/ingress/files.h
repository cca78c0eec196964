/* Files: what the proxy reads when it starts or reloads, written by the worker pool. They are there before the proxy is told
 * anything, so that it comes back right after its crash. A lost host begins anew: nothing is synced. */
#pragma once
#include <uv.h>

#include "agent/ingress/layout.h"
#include "agent/ingress/render.h"

struct files_write;
typedef void files_done(void *arg, const struct error *err);

/* Renders now, writes later. The callback comes from the loop, unless cancelled. */
struct files_write *files_write(uv_loop_t *loop, const struct layout *l, const struct render_options *o, files_done *done, void *arg);
void files_cancel(struct files_write *f);        /* no callback; what is being written is written */

/* The directory and what never changes in it: pages, the jail. Blocking, for the start. */
int files_prepare(const char *directory, struct error *err);
