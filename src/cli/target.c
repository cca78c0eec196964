#include "cli/target.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/text.h"
#include "cli/api.h"
#include "cli/views.h"

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

static int find_replica(struct cli *cli, const char *service, const char *number, struct target *out, struct error *err)
{
    long long replica;
    if (number_parse("the replica's number", number, 0, 1000000, &replica, err))
        return -1;
    CLEANUP(json_decref) json_t *allocs = target_allocs(cli, service, true, err);
    if (!allocs)
        return -1;
    size_t i;
    json_t *a;
    json_array_foreach(allocs, i, a)
        if (json_number(a, "replica") == replica) {
            *out = (struct target){TARGET_ALLOC, mem_strdup(json_text(a, "id")), json_incref(a)};
            return 0;
        }
    return error_set(err, ERROR_NOT_FOUND, "service %.64s has no replica %lld yet; see `mt status %.64s`", service, replica,
                     service);
}

static json_t *look(struct cli *cli, const char *kind, const char *word, struct error *err)
{
    struct api *api = cli_api(cli, err);
    if (!api)
        return NULL;
    CLEANUP_FREE char *path = api_path(kind, word, "");
    return api_get(api, path, err);
}

int target_find(struct cli *cli, const char *word, struct target *out, struct error *err)
{
    const char *slash = strchr(word, '/');
    if (slash) {
        CLEANUP_FREE char *service = mem_strndup(word, (size_t)(slash - word));
        return find_replica(cli, service, slash + 1, out, err);
    }
    struct error first = {0};
    json_t *json = text_is_name(word) ? look(cli, "/v1/services/", word, &first) : NULL;
    if (json) {
        *out = (struct target){TARGET_SERVICE, mem_strdup(word), json};
        return 0;
    }
    if (first.code != ERROR_NONE && first.code != ERROR_NOT_FOUND) {
        *err = first;
        return -1;
    }
    bool hex = strspn(word, "0123456789abcdef") == strlen(word) && strlen(word) <= ID_LEN;
    json = hex ? look(cli, "/v1/allocs/", word, err) : NULL;
    if (json) {
        *out = (struct target){TARGET_ALLOC, mem_strdup(json_text(json, "id")), json};
        return 0;
    }
    if (hex && err->code != ERROR_NOT_FOUND)
        return -1;
    return error_set(err, ERROR_NOT_FOUND, "there is no service%s \"%.64s\"; see `mt services`%s", hex ? " and no allocation" : "",
                     word, hex ? " and `mt allocs`" : "");
}
