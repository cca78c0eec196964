#include "cli/target.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "cli/api.h"
#include "cli/views.h"
#include "model/namespace.h"

void target_clear(struct target *t)
{
    free(t->name);
    json_decref(t->json);
    *t = (struct target){0};
}

static int compare(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    int services = strcmp(json_text(x, "service"), json_text(y, "service"));
    if (services)
        return services;
    long long rx = json_number(x, "replica"), ry = json_number(y, "replica");
    long long cx = json_number(x, "create_index"), cy = json_number(y, "create_index");
    return rx != ry ? (rx > ry) - (rx < ry) : cx != cy ? (cx < cy) - (cx > cy) : strcmp(json_text(x, "id"), json_text(y, "id"));
}

json_t *target_allocs(struct cli *cli, const char *service, bool all, struct error *err)
{
    struct api *api = cli_api(cli, err);
    if (!api)
        return NULL;
    CLEANUP_FREE char *path = service ? api_path("/v1/allocs?service=", service, "") : mem_strdup("/v1/allocs");
    CLEANUP(json_decref) json_t *list = api_list(api, path, err);
    if (!list)
        return NULL;
    json_t **v = mem_array(json_array_size(list) + 1, sizeof(json_t *));
    size_t i, n = 0;
    json_t *a;
    json_array_foreach(list, i, a)
        if (all || view_alloc_current(a))
            v[n++] = a;
    if (n)
        qsort(v, n, sizeof *v, compare);
    json_t *out = json_array();
    for (i = 0; i < n; i++)
        json_array_append(out, v[i]);
    free(v);
    return out;
}

static json_t *look(struct cli *cli, const char *kind, const char *word, struct error *err)
{
    struct api *api = cli_api(cli, err);
    if (!api)
        return NULL;
    CLEANUP_FREE char *path = api_path(kind, word, "");
    return api_get(api, path, err);
}

bool target_by_node(const json_t *service)
{
    return !strcmp(json_text(service, "current.spec.mode"), "every-node");
}

char *target_replica_name(const json_t *alloc, bool by_node)
{
    const char *service = json_text(alloc, "service");
    return by_node ? mem_printf("%s@%s", service, json_text(alloc, "node_name"))
                   : mem_printf("%s/%lld", service, json_number(alloc, "replica"));
}

/* One allocation out of those that match, which are sorted, the newest of each replica first. `by_node`: they are told
 * apart by their nodes. */
static int take_one(const json_t *matching, bool by_node, const char *word, struct target *out, struct error *err)
{
    CLEANUP_BUF struct buf names = {0};
    CLEANUP(json_decref) json_t *seen = json_object();
    const json_t *first = json_array_get(matching, 0);
    size_t i;
    json_t *a;
    json_array_foreach(matching, i, a) {
        CLEANUP_FREE char *name = target_replica_name(a, by_node);
        if (json_object_get(seen, name) || (i && !view_alloc_current(a)))
            continue;
        json_object_set_new(seen, name, json_true());
        buf_printf(&names, "%s%s", names.len ? ", " : "", name);
    }
    if (json_object_size(seen) > 1)
        return error_set(err, ERROR_INVALID, "%.64s is one of %zu: say which: %.300s", word, json_object_size(seen), names.data);
    *out = (struct target){TARGET_ALLOC, mem_strdup(json_text(first, "id")), json_incref((json_t *)(uintptr_t)first)};
    return 0;
}

static json_t *matching(const json_t *allocs, const char *node, long long replica)
{
    json_t *out = json_array();
    size_t i;
    json_t *a;
    json_array_foreach(allocs, i, a)
        if (node ? !strcmp(json_text(a, "node_name"), node) : json_number(a, "replica") == replica)
            json_array_append(out, a);
    return out;
}

/* SERVICE/N or SERVICE@NODE. */
static int find_replica(struct cli *cli, const char *word, const char *mark, struct target *out, struct error *err)
{
    CLEANUP_FREE char *service = mem_strndup(word, (size_t)(mark - word));
    const char *node = *mark == '@' ? mark + 1 : NULL;
    long long replica = -1;
    if (!node && number_parse("the replica's number", mark + 1, 0, 1000000, &replica, err))
        return -1;
    CLEANUP(json_decref) json_t *json = look(cli, "/v1/services/", service, err);
    CLEANUP(json_decref) json_t *allocs = json ? target_allocs(cli, service, true, err) : NULL;
    if (!allocs)
        return -1;
    CLEANUP(json_decref) json_t *found = matching(allocs, node, replica);
    if (json_array_size(found))
        return take_one(found, !node && target_by_node(json), word, out, err);
    return node ? error_set(err, ERROR_NOT_FOUND, "service %.64s runs nothing on node %.64s; see `mt status %.64s`", service, node,
                            service)
                : error_set(err, ERROR_NOT_FOUND, "service %.64s has no replica %lld yet; see `mt status %.64s`", service, replica,
                            service);
}

int target_find(struct cli *cli, const char *word, struct target *out, struct error *err)
{
    const char *mark = strpbrk(word, "/@");
    if (mark)
        return find_replica(cli, word, mark, out, err);
    struct error first = {0};
    json_t *json = namespace_is_qualified_name(word) ? look(cli, "/v1/services/", word, &first) : NULL;
    if (json) {
        *out = (struct target){TARGET_SERVICE, mem_strdup(word), json};
        return 0;
    }
    bool hex = strspn(word, "0123456789abcdef") == strlen(word) && strlen(word) <= ID_LEN;
    bool denied = first.code == ERROR_DENIED;          /* also of a service that is not there: it may be an allocation */
    if (first.code != ERROR_NONE && first.code != ERROR_NOT_FOUND && !(denied && hex)) {
        *err = first;
        return -1;
    }
    json = hex ? look(cli, "/v1/allocs/", word, err) : NULL;
    if (json) {
        *out = (struct target){TARGET_ALLOC, mem_strdup(json_text(json, "id")), json};
        return 0;
    }
    if (hex && denied)
        *err = first;
    if (hex && err->code != ERROR_NOT_FOUND)
        return -1;
    return error_set(err, ERROR_NOT_FOUND, "there is no service%s \"%.64s\"; see `mt services`%s", hex ? " and no allocation" : "",
                     word, hex ? " and `mt allocs`" : "");
}
