#include "agent/launch.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/secret_files.h"
#include "agent/shim_child.h"
#include "agent/volumes.h"
#include "base/file.h"
#include "base/log.h"
#include "net/address.h"

extern const struct type volume_type, alloc_port_type;

/* The program of a task that shares the host's file system finds its volume by MENTAT_VOLUME_<LAST PART OF TARGET>. */
static void add_volume_variable(struct kv_list *env, const struct volume *v, const char *path)
{
    const char *name = v->target ? strrchr(v->target, '/') : NULL;
    name = name ? name + 1 : v->target ? v->target : v->name;
    if (!name || !*name)
        return;
    CLEANUP_FREE char *key = mem_printf("MENTAT_VOLUME_%s", name);
    for (char *p = key; *p; p++)
        *p = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
    kv_set(env, key, path);
}

static int add_volumes(const struct task_facts *facts, const char *volume_root, const struct volume_list *from,
                       struct launch *l, struct error *err)
{
    for (uint32_t i = 0; i < from->n; i++) {
        char *path = NULL;
        if (task_volume_path(facts, volume_root, &from->v[i], &path, err) < 0)
            return -1;
        struct volume *v = list_add((struct list *)&l->volumes, &volume_type);
        type_clear(&volume_type, v);
        type_copy(&volume_type, v, &from->v[i]);
        free(v->source);
        v->source = path;
        add_volume_variable(&l->env, v, path);
    }
    return 0;
}

/* The health check's command is interpolated when checks begin; that it can be is known before the task starts. */
static int health_try(const struct task_facts *facts, struct error *err)
{
    struct str_list command = {0};
    int result = task_args(facts, &facts->spec->health.command, &command, err);
    str_list_clear(&command);
    return result < 0 ? error_context(err, "health.command") : 0;
}

int launch_build(const struct task_facts *facts, const char *alloc_dir, const char *volume_root, struct launch **out,
                 struct error *err)
{
    CLEANUP(launch_free) struct launch *l = NEW(struct launch);
    l->alloc_dir = mem_strdup(alloc_dir);
    type_copy(&config_type, &l->config, &facts->spec->config);
    l->owner = facts->spec->driver == DRIVER_EXEC ? mem_strdup(l->config.user) : NULL;
    str_list_clear(&l->config.entrypoint);
    str_list_clear(&l->config.command);
    str_list_clear(&l->config.args);
    l->ip = mem_strdup(facts->ip);
    l->service = facts->spec->driver == DRIVER_FIRECRACKER ? NULL : mem_strdup(facts->alloc->service);
    l->replica = facts->alloc->replica;
    for (uint32_t i = 0; i < facts->alloc->ports.n; i++)
        type_copy(&alloc_port_type, list_add((struct list *)&l->ports, &alloc_port_type), &facts->alloc->ports.v[i]);
    if (task_args(facts, &facts->spec->config.entrypoint, &l->config.entrypoint, err) < 0 ||
        task_args(facts, &facts->spec->config.command, &l->config.command, err) < 0 ||
        task_args(facts, &facts->spec->config.args, &l->config.args, err) < 0 ||
        health_try(facts, err) < 0 ||
        task_env(facts, &l->env, err) < 0 ||
        add_volumes(facts, volume_root, &facts->spec->config.volumes, l, err) < 0 ||
        add_volumes(facts, volume_root, &facts->spec->volumes, l, err) < 0)
        return -1;
    *out = steal(&l);
    return 0;
}

/* The servers give a port to one task only, but they do not know what else runs on the host. */
static int port_check(const char *ip, const struct alloc_port *port, struct error *err)
{
    bool udp = port->protocol == PROTOCOL_UDP;
    struct address a = {.port = (int)port->host};
    snprintf(a.host, sizeof a.host, "%s", ip ? ip : "0.0.0.0");
    if (address_probe(&a, udp ? ADDRESS_UDP : ADDRESS_TCP) != -EADDRINUSE)
        return 0;
    return error_set(err, ERROR_CONFLICT, "host port %d/%s (port `%s`) is taken by another program on this node", a.port,
                     udp ? "udp" : "tcp", port->name);
}

static int volume_make(const char *path, const char *owner, struct error *err)
{
    struct account account;
    bool is_new = access(path, F_OK) < 0;
    if (dir_make(path, 0755, err) < 0)
        return -1;
    if (!is_new || !owner || geteuid() != 0)
        return 0;
    if (account_find(owner, "this node", &account, err) < 0)
        return -1;
    return account.set && chown(path, account.uid, account.gid) < 0
        ? error_set_errno(err, errno, "cannot give %s to user `%s`", path, owner) : 0;
}

static int secrets_give(const struct launch *l, struct error *err)
{
    struct account account;
    if (account_find(l->owner, "this node", &account, err) < 0)
        return -1;
    return account.set ? secret_dir_give(l->secrets_dir, account.uid, account.gid, err) : 0;
}

int launch_prepare(const struct launch *l, struct error *err)
{
    for (uint32_t i = 0; i < l->ports.n && !l->adopt; i++)
        if (port_check(l->ip, &l->ports.v[i], err) < 0)
            return -1;
    if (dir_make(l->alloc_dir, 0755, err) < 0)
        return -1;
    if (l->secrets_dir && secrets_give(l, err) < 0)
        return error_context(err, "its secrets");
    for (uint32_t i = 0; i < l->volumes.n; i++)
        if ((l->service && volume_directory_is_for(l->volumes.v[i].source, l->service, err) < 0)
            || volume_make(l->volumes.v[i].source, l->owner, err) < 0)
            return error_context(err, "volume");
    /* Whose they are is for people. */
    struct error unsaid = {0};
    for (uint32_t i = 0; l->service && i < l->volumes.n; i++)
        if (volume_own_directory(l->volumes.v[i].source, l->service, l->replica, &unsaid) < 0)
            LOG_W("a volume does not say whose it is", "volume", l->volumes.v[i].source, "error", unsaid.text);
    return 0;
}

void launch_free(struct launch *l)
{
    free(l->alloc_dir);
    type_clear(&config_type, &l->config);
    for (uint32_t i = 0; l->secrets_dir && i < l->env.n; i++)
        explicit_bzero(l->env.v[i].value, strlen(l->env.v[i].value));
    kv_clear(&l->env);
    str_list_clear(&l->secret_env);
    free(l->secrets_dir);
    for (; l->volumes.n; )
        list_remove((struct list *)&l->volumes, &volume_type, l->volumes.n - 1);
    free(l->volumes.v);
    for (; l->ports.n; )
        list_remove((struct list *)&l->ports, &alloc_port_type, l->ports.n - 1);
    free(l->ports.v);
    free(l->ip);
    free(l->service);
    free(l->owner);
    free(l->adopt);
    free(l);
}
