/* Compose: a compose.yaml as a job. What a service of Mentat has no word for is listed, never dropped silently. */
#pragma once
#include "model/model.h"
#include "model/value.h"

#define COMPOSE_VOLUME_ROOT "/mnt/unikernel-volumes"

struct compose_options {
    const char *job;                 /* name of the job; NULL: the file's `name`, else `project` */
    const char *project;             /* the name of the file's folder */
    const struct str_list *profiles; /* services with profiles are taken when one of them is here */
    /* The value of a variable, NULL when it is not set. */
    const char *(*variable)(void *ctx, const char *name);
    /* A file beside the compose file (env_file). -1 with err. */
    int (*read_file)(void *ctx, const char *path, struct buf *out, struct error *err);
    void *ctx;
};

/* Fills job (raw memory, the caller's to clear when 0 is returned); it is valid. left: what was not translated, or in
 * another way, with its place. -1 with problems when the text is no compose file. */
int compose_import(const char *text, size_t len, const struct compose_options *options, struct job *job,
                   struct problem_list *left, struct problem_list *problems);
