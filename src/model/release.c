#include "model/release.h"

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
        CLEANUP_FREE char *own = mem_printf("services[%u].volumes", i);
        CLEANUP_FREE char *drivers = mem_printf("services[%u].config.volumes", i);
        check_volumes(&s->volumes, s->driver, own, problems);
        check_volumes(&s->config.volumes, s->driver, drivers, problems);
    }
}
