#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/table.h"
#include "cli/target.h"
#include "model/namespace.h"

static int stop_alloc(struct cli *cli, const struct target *t, struct error *err)
{
    CLEANUP_FREE char *path = api_path("/v1/allocs/", t->name, "/stop");
    if (api_call(cli->api, HTTP_METHOD_POST, path, NULL, NULL, NULL, err))
        return cli_fail(cli, err);
    cli_say(cli, "allocation %s is being stopped; its service replaces it while it wants it", t->name);
    return STATUS_DONE;
}

static int stop_service(struct cli *cli, const struct target *t, struct error *err)
{
    bool purge = args_has(cli->args, "purge");
    CLEANUP_FREE char *path = api_path("/v1/services/", t->name, purge ? "?purge=true" : "");
    CLEANUP(json_decref) json_t *answer = NULL;
    if (api_call(cli->api, HTTP_METHOD_DELETE, path, NULL, &answer, NULL, err))
        return cli_fail(cli, err);
    return args_has(cli->args, "detach") ? STATUS_DONE : follow_answer(cli, answer, purge ? follow_purged : follow_stopped, NULL);
}

/* --- a job: all its services --- */

/* The services of a job, as a list of names; NULL with err. */
static json_t *services_of(struct cli *cli, const char *job, struct error *err)
{
    struct api *api = cli_api(cli, err);
    CLEANUP_FREE char *path = api ? api_path("/v1/jobs/", job, "") : NULL;
    CLEANUP(json_decref) json_t *json = api ? api_get(api, path, err) : NULL;
    json_t *names = json ? json_array() : NULL;
    size_t i;
    json_t *s;
    json_array_foreach(json_object_get(json, "services"), i, s)
        json_array_append(names, json_object_get(s, "name"));
    return names;
}

static int stop_job(struct cli *cli, const char *job, const json_t *names, struct error *err)
{
    bool purge = args_has(cli->args, "purge");
    CLEANUP_FREE char *path = api_path("/v1/jobs/", job, purge ? "?purge=true" : "");
    size_t n = json_array_size(names), i;
    json_t *name;
    if (api_call(cli->api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, err))
        return cli_fail(cli, err);
    if (args_has(cli->args, "detach"))
        return STATUS_DONE;
    CLEANUP_FREE struct follow_item *items = mem_array(n + 1, sizeof *items);
    json_array_foreach(names, i, name)
        items[i] = (struct follow_item){.service = json_string_value(name), .judge = purge ? follow_purged : follow_stopped};
    return follow_run(cli, items, n);
}

static bool is_that_alone(const json_t *names, const char *service)
{
    return json_array_size(names) == 1 && !strcmp(json_string_value(json_array_get(names, 0)), service);
}

static void add_names(struct buf *out, const json_t *names)
{
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name)
        buf_printf(out, "%s%s", i ? ", " : "", json_string_value(name));
}

static int find_job(struct cli *cli, const char *word, json_t **names, struct error *err)
{
    if (!namespace_is_qualified_name(word))
        return error_set(err, ERROR_NOT_FOUND, "\"%.64s\" is not the name of a job", word);
    *names = services_of(cli, word, err);
    return *names ? 0 : -1;
}

/* A job of another meaning than the service of its name: the user has to say which. */
static int refuse_both(struct cli *cli, const char *word, const struct target *service, struct error *err)
{
    struct error no_job = {0};
    CLEANUP(json_decref) json_t *names = NULL;
    if (find_job(cli, word, &names, &no_job) && no_job.code == ERROR_NOT_FOUND)
        return 0;
    if (!names) {
        *err = no_job;
        return -1;
    }
    if (is_that_alone(names, word))
        return 0;
    CLEANUP_BUF struct buf all = {0};
    add_names(&all, names);
    return error_set(err, ERROR_INVALID, "%.64s is a service (of job %.64s) and a job (of services %.200s): say --service or --job",
                     word, json_text(service->json, "status.job"), all.data ? all.data : "");
}

/* What the word names: a service or an allocation in *t, or, with *names set, a job with these services. */
static int find(struct cli *cli, const char *word, struct target *t, json_t **names, struct error *err)
{
    bool service_meant = args_has(cli->args, "service");
    if (args_has(cli->args, "job"))
        return find_job(cli, word, names, err);
    if (target_find(cli, word, t, err) == 0)
        return service_meant || t->kind == TARGET_ALLOC ? 0 : refuse_both(cli, word, t, err);
    struct error no_job = {0};
    if (service_meant || err->code != ERROR_NOT_FOUND || find_job(cli, word, names, &no_job) == 0)
        return *names ? 0 : -1;
    if (no_job.code != ERROR_NOT_FOUND)
        *err = no_job;
    return -1;
}

static int stop(struct cli *cli, const char *word)
{
    struct error err = {0};
    struct target t = {0};
    CLEANUP(json_decref) json_t *names = NULL;
    int status;
    if (find(cli, word, &t, &names, &err))
        status = cli_fail(cli, &err);
    else if (names)
        status = stop_job(cli, word, names, &err);
    else
        status = t.kind == TARGET_SERVICE ? stop_service(cli, &t, &err) : stop_alloc(cli, &t, &err);
    target_clear(&t);
    return status;
}

static int run(struct cli *cli)
{
    int status = STATUS_DONE;
    if (args_has(cli->args, "job") && args_has(cli->args, "service")) {
        struct error err;
        error_set(&err, ERROR_INVALID, "--job and --service exclude each other");
        return cli_fail(cli, &err);
    }
    for (int i = 0; i < cli->args->operand_count && status == STATUS_DONE; i++)
        status = stop(cli, cli_operand(cli, i));
    return status;
}

static const struct option_row options[] = {
    {"purge", 0, NULL, "Forgets the versions and the ended allocations too.", NULL},
    {"detach", 'd', NULL, "Does not wait until all are stopped.", NULL},
    {"job", 0, NULL, "The names are of jobs: all their services are stopped.", NULL},
    {"service", 0, NULL, "The names are of services, where jobs have the same ones.", NULL},
    {0},
};

const struct command_row cmd_stop = {
    .name = "stop", .operands = "SERVICE|JOB|ALLOC…", .min = 1, .max = -1, .kind = OPERAND_SERVICE, .options = options,
    .run = run, .summary = "stop services, or all of a job, and wait until nothing of them runs",
    .help = "`mt run` or `mt rollback` starts a stopped service again. An allocation that is stopped is replaced. A\n"
            "name that a job and one of several services have is refused until --job or --service says which is meant.",
};
