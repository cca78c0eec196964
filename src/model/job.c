/* services.yaml: a job with services, or one service alone. */
#include <string.h>

#include "base/text.h"
#include "model/model.h"
#include "model/value.h"

/* Moves it there, when it is there. */
static void take_entry(struct value *map, struct value *to, const char *key)
{
    for (uint32_t i = 0; i < map->n; i++)
        if (!strcmp(map->entries[i].key, key)) {
            struct value_entry entry = map->entries[i];
            memmove(&map->entries[i], &map->entries[i + 1], (map->n - i - 1) * sizeof *map->entries);
            map->n--;
            struct value *v = value_add(to, key);
            struct value_entry *placed = &to->entries[to->n - 1];
            placed->line = entry.line;
            placed->column = entry.column;
            *v = entry.value;
            free(entry.key);
            return;
        }
}

/* One service alone is read as a job that has its name and its namespace; the places of its problems stay its own. */
static void wrap_service(struct value *root)
{
    const struct value_entry *name = value_get(root, "name");
    CLEANUP_FREE char *job_name = name && name->value.kind != VALUE_NULL ? mem_strdup(name->value.text) : NULL;
    struct value service = *root;
    *root = (struct value){.kind = VALUE_MAP, .line = service.line, .column = service.column};
    if (job_name) {
        struct value *v = value_add(root, "job");
        *v = (struct value){.kind = VALUE_TEXT, .text = steal(&job_name), .line = service.line, .column = service.column};
    }
    take_entry(&service, root, "namespace");
    struct value *services = value_add(root, "services");
    *services = (struct value){.kind = VALUE_LIST, .line = service.line, .column = service.column};
    *value_add(services, NULL) = service;
}

/* Speaks of one service as its author wrote it: without the job around it. */
static void unwrap_problems(struct problem_list *problems)
{
    static const char prefix[] = "services[0]";
    uint32_t kept = 0;
    for (uint32_t i = 0; i < problems->n; i++) {
        struct problem p = problems->v[i];
        if (!strcmp(p.path, "job")) {      /* of the job; the service's own is told too */
            free(p.path);
            free(p.message);
            continue;
        }
        if (text_has_prefix(p.path, prefix)) {
            const char *rest = p.path + strlen(prefix);
            char *path = mem_strdup(*rest == '.' ? rest + 1 : rest);
            free(p.path);
            p.path = path;
        }
        problems->v[kept++] = p;
    }
    problems->n = kept;
}

int job_from_yaml(const char *text, size_t len, const struct kv_list *vars, struct job *job, struct problem_list *problems)
{
    *job = (struct job){0};
    uint32_t before = problems->n;
    struct value root;
    bool alone = false;
    bool readable = !value_from_yaml(text, len, &root, problems);
    if (readable || root.kind != VALUE_NULL) {
        alone = root.kind == VALUE_MAP && !value_get(&root, "services") && !value_get(&root, "job");
        if (alone)
            wrap_service(&root);
        value_substitute(&root, vars, problems);
        object_from_value(&job_type, &root, READ_YAML_NAMES, job, problems);
    }
    value_clear(&root);
    if (alone)
        unwrap_problems(problems);
    if (problems->n == before)
        return 0;
    type_clear(&job_type, job);
    return -1;
}
