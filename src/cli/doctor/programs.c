/* Checks of the configuration and of the programs that Mentat works with. */
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/doctor/checks.h"
#include "cli/table.h"

void doctor_config(const struct host *h, struct finding *f)
{
    if (h->config_problem)
        find(f, VERDICT_FAILED, "%s", h->config_problem);
    else if (h->server.kind == VALUE_NULL && h->agent.kind == VALUE_NULL)
        find(f, VERDICT_OK, "neither server.yaml nor agent.yaml says anything: the defaults hold");
    else
        find(f, VERDICT_OK, "%s", h->agent.kind == VALUE_NULL ? "server.yaml" : h->server.kind == VALUE_NULL ? "agent.yaml"
             : "server.yaml and agent.yaml");
}

static bool is_not_offered(const struct host *h, const char *driver, struct finding *f)
{
    if (host_offers_driver(h, driver))
        return false;
    find(f, VERDICT_SKIPPED, "drivers in agent.yaml are without %s", driver);
    return true;
}

static void judge_docker(const json_t *engine, struct finding *f)
{
    static const struct version least = {20, 10, 0};
    const char *text = json_text(engine, "Version");
    struct version v;
    if (version_read(text, &v))
        find(f, version_compare(v, least) < 0 ? VERDICT_FAILED : VERDICT_OK, "Docker %s", text);
    else
        find(f, VERDICT_WARNING, "an engine of a version that is not known");
}

void doctor_docker(const struct host *h, struct finding *f)
{
    const char *socket = host_setting(&h->agent, "docker/socket", "/var/run/docker.sock");
    CLEANUP_FREE char *path = host_path(h, socket);
    CLEANUP_FREE char *address = mem_printf("unix:%s", path);
    struct error err = {0};
    if (is_not_offered(h, "docker", f))
        return;
    if (!host_exists(h, socket)) {
        find(f, VERDICT_FAILED, "no Docker engine at %s", socket);
        return;
    }
    struct api *api = api_new(&(struct api_options){.addresses = address}, &err);
    CLEANUP(json_decref) json_t *engine = api ? api_get(api, "/version", &err) : NULL;
    if (engine)
        judge_docker(engine, f);
    else
        find(f, VERDICT_FAILED, "the engine at %s does not answer", socket);
    if (api)
        api_free(api);
    if (engine && host_find_user(h, h->user).exists && !host_user_may_use(h, h->user, socket))
        find(f, VERDICT_WARNING, "%s may not use %s", h->user, socket);
}

/* What `PROGRAM OPTION` says of its version. name: a path, or looked for. False when there is none or it does not run. */
static bool ask_version(const struct host *h, const char *name, const char *option, struct version *v, struct finding *f,
                        enum verdict missing)
{
    CLEANUP_FREE char *path = *name == '/' ? host_path(h, name) : host_find_program(h, name);
    CLEANUP_BUF struct buf said = {0};
    if (!path || access(path, X_OK)) {
        find(f, missing, "there is no %s", name);
        return false;
    }
    if (!host_run(path, option, &said) || !version_read(said.data, v)) {
        find(f, VERDICT_FAILED, "%s %s does not tell its version", path + strlen(h->root), option);
        return false;
    }
    return true;
}

void doctor_firecracker(const struct host *h, struct finding *f)
{
    static const struct { const char *name, *key; } programs[] = {{"firecracker", "firecracker/binary"},
                                                                  {"jailer", "firecracker/jailer"}};
    static const struct { const char *program, *package; } tools[] = {
        {"mksquashfs", "squashfs-tools"}, {"mke2fs", "e2fsprogs"}, {"nft", "nftables"}};
    const char *kernel = host_setting(&h->agent, "firecracker/kernel", "/var/lib/mentat/kernel/vmlinux");
    struct version wanted, v;
    version_read(REFERENCE_FIRECRACKER, &wanted);
    if (is_not_offered(h, "firecracker", f))
        return;
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        const char *name = host_setting(&h->agent, programs[i].key, programs[i].name);
        if (!strcmp(name, "none"))
            find(f, VERDICT_WARNING, "agent.yaml has %s: none", programs[i].name);
        else if (ask_version(h, name, "--version", &v, f, VERDICT_FAILED))
            find(f, version_compare(v, wanted) ? VERDICT_WARNING : VERDICT_OK, "%s %u.%u.%u", programs[i].name, v.major,
                 v.minor, v.patch);
    }
    if (!host_exists(h, kernel))
        find(f, VERDICT_WARNING, "no kernel for guests at %s", kernel);
    for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
        CLEANUP_FREE char *path = host_find_program(h, tools[i].program);
        if (!path)
            find(f, VERDICT_FAILED, "there is no %s (package %s)", tools[i].program, tools[i].package);
    }
}

void doctor_haproxy(const struct host *h, struct finding *f)
{
    static const struct version wanted = {2, 6, 0};
    const char *name = host_setting(&h->agent, "proxy/haproxy", "haproxy"), *user = host_setting(&h->agent, "proxy/user", "haproxy");
    bool ingress = value_true(&h->agent, "ingress");
    struct version v;
    if (ask_version(h, name, "-v", &v, f, ingress ? VERDICT_FAILED : VERDICT_SKIPPED))
        find(f, version_compare(v, wanted) < 0 ? VERDICT_FAILED : VERDICT_OK, "HAProxy %u.%u.%u", v.major, v.minor, v.patch);
    if (ingress && !host_find_user(h, user).exists)
        find(f, VERDICT_FAILED, "there is no user %s, as whom it runs", user);
    CLEANUP_FREE char *acme = host_find_program(h, "uacme");
    if (!acme && ingress)
        find(f, VERDICT_WARNING, "no uacme: certificates by ACME cannot be had");
}
