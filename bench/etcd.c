#include "etcd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* The program's path; NULL: none. */
static char *find(void)
{
    CLEANUP_FREE char *path = mem_strdup(getenv("PATH"));
    char *rest;
    for (char *dir = path ? strtok_r(path, ":", &rest) : NULL; dir; dir = strtok_r(NULL, ":", &rest)) {
        char *program = mem_printf("%s/etcd", dir);
        if (access(program, X_OK) == 0)
            return program;
        free(program);
    }
    return NULL;
}

bool etcd_is_there(void)
{
    CLEANUP_FREE char *program = find();
    return program != NULL;
}

struct view { const char *id, *leader; char ids[2][32]; };

/* Numbers of 64 bits are texts in its JSON. */
static bool knows_leader(const json_t *answer, void *arg)
{
    struct view *v = arg;
    const char *id = json_string_value(json_object_get(json_object_get(answer, "header"), "member_id"));
    const char *leader = json_string_value(json_object_get(answer, "leader"));
    if (!id || !leader || !strcmp(leader, "0"))
        return false;
    snprintf(v->ids[0], sizeof v->ids[0], "%s", id);
    snprintf(v->ids[1], sizeof v->ids[1], "%s", leader);
    return true;
}

char *etcd_start(struct cluster *c, size_t servers, struct error *err)
{
    char *clients[CLUSTER_SERVERS] = {0}, *peers[CLUSTER_SERVERS] = {0}, *leader = NULL;
    CLEANUP_FREE char *program = find();
    CLEANUP_BUF struct buf all = {0};
    int rc = program ? 0 : error_set(err, ERROR_NOT_FOUND, "there is no etcd in PATH");
    for (size_t i = 0; i < servers && !rc; i++) {
        rc = (clients[i] = cluster_free_target(c, err)) && (peers[i] = cluster_free_target(c, err)) ? 0 : -1;
        if (!rc)
            buf_printf(&all, "%se%zu=%s", i ? "," : "", i, peers[i]);
    }
    for (size_t i = 0; i < servers && !rc; i++) {
        CLEANUP_FREE char *name = mem_printf("--name=e%zu", i), *dir = mem_printf("--data-dir=%s/etcd-%zu", c->dir, i);
        CLEANUP_FREE char *listen = mem_printf("--listen-client-urls=%s", clients[i]);
        CLEANUP_FREE char *advertise = mem_printf("--advertise-client-urls=%s", clients[i]);
        CLEANUP_FREE char *peer = mem_printf("--listen-peer-urls=%s", peers[i]);
        CLEANUP_FREE char *peer_advertise = mem_printf("--initial-advertise-peer-urls=%s", peers[i]);
        CLEANUP_FREE char *cluster = mem_printf("--initial-cluster=%s", all.data);
        char *argv[] = {program, name, dir, listen, advertise, peer, peer_advertise, cluster,
                        (char *)(uintptr_t)"--log-level=error", NULL};
        rc = cluster_run(c, "etcd", program, argv, err) ? 0 : -1;
    }
    for (size_t i = 0; i < servers && !rc && !leader; i++) {
        struct view v = {0};
        rc = cluster_wait_answer(c, clients[i], HTTP_METHOD_POST, "/v3/maintenance/status", "{}", knows_leader, &v, err);
        if (!rc && !strcmp(v.ids[0], v.ids[1]))
            leader = mem_strdup(clients[i]);
    }
    if (!rc && !leader)
        error_set(err, ERROR_UNAVAILABLE, "etcd has no leader");
    for (size_t i = 0; i < servers; i++) {
        free(clients[i]);
        free(peers[i]);
    }
    return leader;
}
