#include "server/server_sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "net/address.h"
#include "sandbox/paths.h"
#include "sandbox/syscalls.h"

#define RULES_MOST 32

struct rules { struct path_rule v[RULES_MOST]; size_t n; };

static void add(struct rules *r, const char *path, bool write)
{
    INVARIANT(r->n < RULES_MOST);
    r->v[r->n++] = (struct path_rule){mem_strdup(path), write};
}

/* Names, addresses and time zones are looked up there, and what the kernel says of the process. */
static void add_system(struct rules *r)
{
    static const char *const read[] = {"/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/dev"};
    for (size_t i = 0; i < ARRAY_LEN(read); i++)
        add(r, read[i], false);
    add(r, "/dev/null", true);
}

/* The directory: the file may be replaced by another one. */
static void add_directory_of(struct rules *r, const char *path, bool write)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    CLEANUP_FREE char *directory = slash ? mem_strndup(path, slash > path ? (size_t)(slash - path) : 1) : mem_strdup(".");
    if (path)
        add(r, directory, write);
}

/* And where it leads to, when it is a link. */
static void add_file(struct rules *r, const char *path)
{
    CLEANUP_FREE char *real = path ? realpath(path, NULL) : NULL;
    add_directory_of(r, path, false);
    add_directory_of(r, real, false);
}

/* What is to be written is made first: nothing can be outside, later. What cannot be made is told when it is needed. */
static void add_own(struct rules *r, const char *directory)
{
    struct error ignored;
    if (dir_make(directory, 0700, &ignored) == 0)
        add(r, directory, true);
}

static void add_configured(struct rules *r, const struct server_config *c)
{
    struct address bind;
    struct error ignored;
    add_own(r, c->data_dir);
    if (c->audit != AUDIT_OFF)
        add_own(r, c->audit_dir);
    if (c->backup_every_ms)
        add_own(r, c->backup_dir);
    add_directory_of(r, c->join_token_file, true);
    add_directory_of(r, c->cluster_key_file, true);
    add_file(r, c->tls_cert);
    add_file(r, c->tls_key);
    add_file(r, c->tls_ca);
    add_file(r, "/etc/resolv.conf");
    add_file(r, "/etc/hosts");
    if (address_parse(c->bind, (int)c->port, &bind, &ignored) == 0 && bind.is_unix)
        add_directory_of(r, bind.host, true);
}

static void clear(struct rules *r)
{
    for (size_t i = 0; i < r->n; i++)
        free((char *)(uintptr_t)r->v[i].path);
}

void sandbox_enter(const struct server_config *config)
{
    struct rules rules = {0};
    struct error err = {0};
    bool paths = false, calls;
    add_system(&rules);
    add_configured(&rules, config);
    if (paths_restrict(rules.v, rules.n, &paths, &err))
        LOG_W("the sandbox is wider than it should be", "error", err.text);
    calls = syscalls_restrict(&err) == 0 && syscalls_can_restrict();
    if (!calls && *err.text)
        LOG_W("the sandbox is wider than it should be", "error", err.text);
    LOG_I("sandbox", "system_calls", calls ? "filtered" : "all", "paths", paths ? "restricted" : "all");
    clear(&rules);
}
