#include "fill.h"

#include <stdio.h>
#include <string.h>

static int register_nodes(struct cluster *c, const struct fill *f, struct error *err)
{
    for (size_t i = 0; i < f->nodes; i++) {
        char name[24];
        snprintf(name, sizeof name, "n%zu", i);
        c->agent = name;
        CLEANUP_FREE char *body = mem_printf(
            "{\"node\":{\"id\":\"%012zx\",\"name\":\"n%zu\",\"address\":\"127.0.0.1:1\",\"ip\":\"127.0.0.1\","
            "\"version\":\"%s\",\"arch\":\"x86_64\",\"kernel\":\"6.1.0\",\"cpus\":64,\"memory_mb\":262144,"
            "\"disk_mb\":1000000,\"drivers\":[{\"name\":\"exec\",\"healthy\":true}]}}", i, i, MENTAT_VERSION);
        if (cluster_write(c, HTTP_METHOD_POST, "/v1/agent/register", body, err))
            return -1;
    }
    return 0;
}

static int submit_services(struct cluster *c, const struct fill *f, struct error *err)
{
    for (size_t i = 0; i < f->services; i++) {
        CLEANUP_FREE char *body = mem_printf(
            "{\"name\":\"s%zu\",\"services\":[{\"name\":\"s%zu\",\"driver\":\"exec\",\"count\":%zu,"
            "\"config\":{\"command\":[\"/usr/bin/program\"],\"args\":[\"--port\",\"${port.http}\"]},"
            "\"ports\":[{\"name\":\"http\",\"port\":8080}],\"resources\":{\"cpus\":0.1,\"memory_mb\":16}}]}", i, i,
            (f->wanted + f->services - 1 - i) / f->services);
        if (cluster_write(c, HTTP_METHOD_POST, "/v1/jobs", body, err))
            return -1;
    }
    return 0;
}

static void remember(struct fill *f, const char *id)
{
    if (f->alloc_count == f->alloc_capacity) {
        f->alloc_capacity = f->alloc_capacity * 2 + 1024;
        f->allocs = mem_realloc_array(f->allocs, f->alloc_capacity, sizeof *f->allocs);
    }
    f->allocs[f->alloc_count++] = mem_strdup(id);
}

/* Says that all which the node was given runs. */
static int report_node(struct cluster *c, struct fill *f, size_t node, struct error *err)
{
    char name[24];
    snprintf(name, sizeof name, "n%zu", node);
    c->agent = name;
    CLEANUP_FREE char *path = mem_printf("/v1/agent/allocs?node=%012zx", node);
    json_t *work = NULL, *alloc;
    CLEANUP_BUF struct buf report = {0};
    size_t i, before = f->alloc_count;
    if (cluster_call(c, HTTP_METHOD_GET, path, NULL, &work, err))
        return -1;
    buf_printf(&report, "{\"node_id\":\"%012zx\",\"allocs\":[", node);
    json_array_foreach(json_object_get(work, "allocs"), i, alloc) {
        const char *id = json_string_value(json_object_get(alloc, "id"));
        if (!id)
            continue;
        buf_printf(&report, "%s{\"id\":\"%s\",\"seq\":1,\"state\":\"running\",\"reason\":\"started\","
                   "\"time\":\"2026-01-01T00:00:00Z\",\"started_at\":\"2026-01-01T00:00:00Z\",\"ip\":\"127.0.0.1\"}",
                   f->alloc_count > before ? "," : "", id);
        remember(f, id);
    }
    json_decref(work);
    buf_add_string(&report, "]}");
    return f->alloc_count == before ? 0 : cluster_write(c, HTTP_METHOD_POST, "/v1/agent/report", report.data, err);
}

static bool are_placed(const json_t *answer, void *arg)
{
    const struct fill *f = arg;
    return (size_t)json_integer_value(json_object_get(answer, "allocs")) >= f->wanted;
}

int fill_state(struct cluster *c, struct fill *f, struct error *err)
{
    if (register_nodes(c, f, err) || submit_services(c, f, err) ||
        cluster_wait_answer(c, c->target, HTTP_METHOD_GET, "/v1/cluster", NULL, are_placed, f, err))
        return -1;
    for (size_t i = 0; i < f->nodes; i++)
        if (report_node(c, f, i, err))
            return -1;
    return f->alloc_count >= f->wanted
               ? 0 : error_set(err, ERROR_INTERNAL, "the nodes were given %zu of %zu allocations", f->alloc_count, f->wanted);
}

void fill_clear(struct fill *f)
{
    for (size_t i = 0; i < f->alloc_count; i++)
        free(f->allocs[i]);
    free(f->allocs);
    *f = (struct fill){0};
}
