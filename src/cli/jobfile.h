/* Jobfile: a services.yaml, read and checked here, before any server is asked. */
#pragma once
#include "cli/cli.h"
#include "model/model.h"

/* Reads operand 0 ("-": standard input) with --var into job, which the caller clears with type_clear. Returns an exit
 * status: STATUS_DONE, or the problems are on stderr, each with file, line and column. */
int jobfile_read(struct cli *cli, struct job *job);
/* The text of the file at path, or of standard input ("-"). */
int jobfile_text(const char *path, struct buf *out, struct error *err);
/* A YAML file ("-": standard input) of any type into object, which the caller clears. On -1 err begins with `failed`, and
 * names each problem's place. */
int jobfile_object(const char *path, const struct type *type, void *object, const char *failed, struct error *err);
/* What --var says. */
int jobfile_vars(const struct args *a, struct kv_list *vars, struct error *err);
/* The row of --var, for tables of options. */
#define JOBFILE_VAR_OPTION {"var", 0, "K=V", "Puts V where the file has ${K}; may be repeated.", NULL}
