#include "model/release.h"

#include "model/secret.h"

static bool has_secrets_in_guest(const struct service *s)
{
    return s->driver == DRIVER_FIRECRACKER && service_has_secrets(s);
}

/* Not in this release: whoever builds one of these takes its row out. */
static const struct { const char *key; bool (*used)(const struct service *s); const char *text; } missing[] = {
    {"secrets", has_secrets_in_guest, "this release gives secrets to processes and containers only; use the driver exec or docker"},
};

static void check_volumes(const struct volume_list *volumes, enum driver_kind driver, const char *path,
                          struct problem_list *problems)
{
    for (uint32_t i = 0; i < volumes->n; i++) {
        if (volumes->v[i].size_mb && driver != DRIVER_FIRECRACKER) {
            CLEANUP_FREE char *at = mem_printf("%s[%u].size_mb", path, i);
            problem_add(problems, at, "this release does not limit the size of volumes yet; take it out");
        }
        if (volumes->v[i].read_only && driver == DRIVER_EXEC) {
            CLEANUP_FREE char *at = mem_printf("%s[%u].read_only", path, i);
            problem_add(problems, at, "this release cannot keep a task of the exec driver from writing to its volume yet; "
                        "take it out, or use `docker`");
        }
    }
}

void job_release_check(const struct job *job, struct problem_list *problems)
{
    for (uint32_t i = 0; i < job->services.n; i++) {
        const struct service *s = &job->services.v[i];
        for (size_t k = 0; k < ARRAY_LEN(missing); k++)
            if (missing[k].used(s)) {
                CLEANUP_FREE char *at = mem_printf("services[%u].%s", i, missing[k].key);
                problem_add(problems, at, "%s", missing[k].text);
            }
        CLEANUP_FREE char *own = mem_printf("services[%u].volumes", i);
        CLEANUP_FREE char *drivers = mem_printf("services[%u].config.volumes", i);
        check_volumes(&s->volumes, s->driver, own, problems);
        check_volumes(&s->config.volumes, s->driver, drivers, problems);
    }
}
