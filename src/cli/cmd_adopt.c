/* From a container that somebody else made to a service: its node says what it would be, people hear what later versions
 * will not have, and the servers get a job whose first replica takes it over. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/table.h"
#include "model/model.h"

/* --- finding it --- */

static int ask_node(struct api *api, const char *node, const char *container, struct buf *answer, struct error *err)
{
    CLEANUP_FREE char *before = api_path("/v1/nodes/", node, "/containers/"), *path = api_path(before, container, "");
    return api_text(api, path, answer, err);
}

/* On the one node that has it. */
static int ask_nodes(struct api *api, const char *container, struct buf *answer, struct error *err)
{
    CLEANUP(json_decref) json_t *nodes = api_list(api, "/v1/nodes", err);
    CLEANUP_BUF struct buf names = {0};
    struct error other = {0};
    unsigned found = 0;
    size_t i;
    json_t *n;
    if (!nodes)
        return -1;
    json_array_foreach(nodes, i, n) {
        CLEANUP_BUF struct buf one = {0};
        struct error why = {0};
        if (!strcmp(json_text(n, "state"), "down"))
            continue;
        if (ask_node(api, json_text(n, "name"), container, &one, &why) < 0) {
            if (why.code != ERROR_NOT_FOUND && why.code != ERROR_UNSUPPORTED)
                other = why;
            continue;
        }
        buf_printf(&names, "%s%s", found++ ? ", " : "", json_text(n, "name"));
        buf_clear(answer);
        buf_add(answer, one.data, one.len);
    }
    if (found > 1)
        return error_set(err, ERROR_CONFLICT, "several nodes have a container %.64s (%.200s); say which one with --node", container,
                         names.data);
    if (!found && other.code)
        *err = other;
    return found ? 0 : other.code ? -1
        : error_set(err, ERROR_NOT_FOUND, "no node that answers has a container %.64s", container);
}

static int find(struct cli *cli, struct found_container *found, struct error *err)
{
    struct api *api = cli_api(cli, err);
    const char *container = cli_operand(cli, 0), *node = args_get(cli->args, "node"), *name = args_get(cli->args, "name");
    CLEANUP_BUF struct buf answer = {0};
    struct problem_list problems = {0};
    if (!api || (node ? ask_node(api, node, container, &answer, err) : ask_nodes(api, container, &answer, err)) < 0)
        return -1;
    int rc = type_from_json(&found_container_type, answer.data ? answer.data : "", answer.len, true, found, &problems);
    if (rc < 0 || found->job.services.n != 1 || !found->job.services.v[0].constraints.n)
        rc = error_set(err, ERROR_CORRUPT, "the node's answer is not understood%s%s", problems.n ? ": " : "",
                       problems.n ? problems.v[0].message : "");
    problem_list_clear(&problems);
    if (rc == 0 && name) {
        mem_set_string(&found->job.name, name);
        mem_set_string(&found->job.services.v[0].name, name);
    }
    if (rc == 0)
        mem_set_string(&found->job.namespace, api_namespace(api));
    return rc;
}

/* --- saying what it is --- */

static void tell(const char *what, const struct str_list *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        CLEANUP_FREE char *line = mem_strdup(list->v[i]);
        text_tame(line, false);
        fprintf(stderr, "mt: %s: %s\n", what, line);
    }
}

static int judge(const struct cli *cli, const struct found_container *f, struct error *err)
{
    tell("note", &f->notes);
    tell(args_has(cli->args, "leave-volumes") ? "later versions will not find" : "would be lost to later versions", &f->losses);
    tell("in the way", &f->obstacles);
    if (f->obstacles.n)
        return error_set(err, ERROR_DENIED, "container %.64s cannot become a service; it was not touched", f->name);
    if (f->losses.n && !args_has(cli->args, "leave-volumes"))
        return error_set(err, ERROR_CONFLICT, "container %.64s has data that later versions would not find; move it below the "
                         "volume root, or take it over all the same with --leave-volumes. It was not touched", f->name);
    return 0;
}

static void print_comment(struct buf *out, const struct str_list *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        CLEANUP_FREE char *line = mem_strdup(list->v[i]);
        text_tame(line, false);
        buf_printf(out, "#   %s\n", line);
    }
}

static void print_file(const struct found_container *f)
{
    CLEANUP_BUF struct buf out = {0};
    buf_printf(&out, "# Container %s (%.12s) of node %s.\n", f->name, f->id, f->job.services.v[0].constraints.v[0].value.v[0]);
    if (f->notes.n + f->losses.n)
        buf_add_string(&out, "# What later versions have differently:\n");
    print_comment(&out, &f->notes);
    print_comment(&out, &f->losses);
    type_to_yaml(&job_type, &f->job, &out);
    fwrite(out.data, 1, out.len, stdout);
}

/* --- taking it over --- */

static json_t *submit(struct cli *cli, const struct found_container *f, struct error *err)
{
    const char *node = f->job.services.v[0].constraints.v[0].value.v[0];
    CLEANUP_FREE char *before = api_path("/v1/nodes/", node, "/containers/"), *path = api_path(before, f->id, "/adopt");
    CLEANUP_FREE char *job_path = api_path("/v1/jobs/", f->job.name, "");
    CLEANUP_BUF struct buf body = {0};
    json_t *answer = NULL;
    struct error absent;
    CLEANUP(json_decref) json_t *there = api_get(cli_api(cli, err), job_path, &absent);
    if (there) {
        error_set(err, ERROR_EXISTS, "there is a job %s already: give the service another name with --name", f->job.name);
        return NULL;
    }
    type_to_json(&job_type, &f->job, &body);
    return api_call(cli_api(cli, err), HTTP_METHOD_POST, path, &body, &answer, NULL, err) ? NULL : answer;
}

/* What goes to standard output is the file alone. */
static int follow_quietly(struct cli *cli, const json_t *answer)
{
    const json_t *s = json_array_get(json_at(answer, "services"), 0);
    struct cli quiet = *cli;
    quiet.quiet = true;
    return follow_run(&quiet, &(struct follow_item){
        .service = json_text(s, "name"), .deployment = json_text(s, "deployment"), .judge = follow_deployment}, 1);
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct found_container found = {0};
    int status = STATUS_DONE;
    if (find(cli, &found, &err) < 0 || judge(cli, &found, &err) < 0) {
        status = cli_fail(cli, &err);
    } else if (args_has(cli->args, "dry-run")) {
        print_file(&found);
    } else {
        CLEANUP(json_decref) json_t *answer = submit(cli, &found, &err);
        status = answer ? follow_quietly(cli, answer) : cli_fail(cli, &err);
        if (answer)
            print_file(&found);
        if (status == STATUS_DONE && !cli->quiet)
            fprintf(stderr, "mt: container %s is replica 0 of service %s; Mentat stops and replaces it from now on\n", found.name,
                    found.job.name);
    }
    type_clear(&found_container_type, &found);
    return status;
}

static const struct option_row options[] = {
    {"node", 0, "NODE", "Node that has it; default: the one that does.", NULL},
    {"name", 0, "NAME", "Name of service and job; default: the container's.", NULL},
    {"leave-volumes", 0, NULL, "Also when later versions will not find what is in its volumes.", NULL},
    {"dry-run", 0, NULL, "Prints the file and takes nothing over.", NULL},
    {0},
};

const struct command_row cmd_adopt = {
    .name = "adopt", .operands = "CONTAINER", .min = 1, .max = 1, .options = options, .run = run,
    .summary = "turn a Docker container that runs on a node into a service, without a restart",
    .help = "Prints the service's file; `mt plan` of it shows no change. The container goes on as it is; the next version is\n"
            "made by Mentat, from the file. What that will have differently is on stderr, and in the file. A container that\n"
            "does what no security profile allows (privileged mode, the host's network, devices, Docker's socket) is refused.\n"
            "The engine's own restart policy is switched off, and once Mentat stops the container it removes it; the volumes\n"
            "that it had stay.",
};
