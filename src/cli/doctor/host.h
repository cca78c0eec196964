/* Doctor's host: the machine that is looked at, through its files. With a root directory it is another one than this: an
 * image, or what a test made; then nothing is asked of the running kernel. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "model/value.h"

struct host {
    const char *root;            /* "": this machine */
    const char *user;            /* whom the server, and what may need KVM, run as */
    struct value server, agent;  /* server.yaml and agent.yaml; VALUE_NULL: not there */
    char *config_problem;        /* NULL: both could be read */
    struct str_list peers;       /* host:port of servers that were named besides */
};

/* root "" or an absolute path, without slash at its end. Configuration is looked for in config_dir, below the root. */
void host_open(struct host *h, const char *root, const char *config_dir, const char *user);
void host_close(struct host *h);
/* Whether this is the machine that we run on. */
bool host_is_this(const struct host *h);

/* The path below the root; the caller's. */
char *host_path(const struct host *h, const char *path);
/* False when it cannot be read; out is NUL-ended in any case. */
bool host_read(const struct host *h, const char *path, struct buf *out);
/* The number that the file begins with; missing when there is none. */
int64_t host_number(const struct host *h, const char *path, int64_t missing);
bool host_exists(const struct host *h, const char *path);

/* A key of server.yaml or agent.yaml, or its default. */
const char *host_setting(const struct value *config, const char *key, const char *otherwise);
int64_t host_setting_number(const struct value *config, const char *key, int64_t otherwise);
/* Whether agent.yaml lets this node have the driver. */
bool host_offers_driver(const struct host *h, const char *driver);

struct host_user { bool exists; uid_t uid; gid_t gid; };
struct host_user host_find_user(const struct host *h, const char *name);
/* Whether that user may read and write the file, by its mode; root may. */
bool host_user_may_use(const struct host *h, const char *name, const char *path);

struct host_mount {
    char device[24];             /* "8:1" */
    char point[256], type[32], source[256];
};
/* The file system that an absolute path is on. */
bool host_find_mount(const struct host *h, const char *path, struct host_mount *out);

/* The first of /opt/mentat/bin and the usual directories that has the program; below the root, the caller's. NULL. */
char *host_find_program(const struct host *h, const char *name);
/* Standard output of `path option`, as far as 4 KB. False when it does not end well within five seconds. */
bool host_run(const char *path, const char *option, struct buf *out);
