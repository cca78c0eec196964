/* Backups of the control plane: save, inspect, restore, list. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "model/snapshot_file.h"

#define FILE_LIMIT ((size_t)1 << 30)
#define KEYS_LIMIT ((size_t)32 << 10)

static void cell_bytes(const json_t *row, const json_t *value, struct buf *out)
{
    double bytes = (double)json_integer_value(value);
    buf_printf(out, bytes < 1 << 20 ? "%.1f KiB" : "%.1f MiB", bytes < 1 << 20 ? bytes / 1024 : bytes / (1 << 20));
}

static void cell_date(const json_t *row, const json_t *value, struct buf *out)
{
    const char *text = json_string_value(value);
    if (text)
        buf_printf(out, "%.10s %.8sZ", text, strlen(text) > 19 ? text + 11 : "");
}

static const struct column view_info[] = {
    {"Taken", "taken_at", cell_date}, {"Index", "index"}, {"Nodes", "nodes"}, {"Services", "services"},
    {"Allocations", "allocs"}, {"State", "state_bytes", cell_bytes}, {"State hash", "state_hash"},
    {"Cluster", "cluster_id"}, {"Server", "server"}, {"Release", "version"}, {0},
};
static const struct column view_files[] = {
    {"NAME", "name"}, {"TAKEN", "info.taken_at", cell_date}, {"INDEX", "info.index", .right = true},
    {"NODES", "info.nodes", .right = true}, {"SERVICES", "info.services", .right = true},
    {"ALLOCS", "info.allocs", .right = true}, {"SIZE", "bytes", cell_bytes, .right = true}, {"PATH", "path", .wide = true},
    {"PROBLEM", "problem"}, {0},
};

/* The whole file, checked. */
static int read_checked(const char *path, struct buf *bytes, json_t **info, struct error *err)
{
    struct snapshot_info head;
    const void *state;
    size_t len;
    if (file_read(path, FILE_LIMIT, bytes, err))
        return -1;
    if (snapshot_file_read(bytes->data, bytes->len, &head, &state, &len, err))
        return error_context(err, "%s", path);
    CLEANUP_BUF struct buf text = {0};
    type_to_json(&snapshot_info_type, &head, &text);
    type_clear(&snapshot_info_type, &head);
    *info = json_loadb(text.data, text.len, 0, NULL);
    INVARIANT(*info);
    return 0;
}

/* --- save --- */

struct save { int fd; struct error error; };

static bool on_data(const char *data, size_t len, void *arg)
{
    struct save *s = arg;
    while (len) {
        ssize_t n = write(s->fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_set_errno(&s->error, errno, "cannot write the snapshot");
            return false;
        }
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static int fetch(struct cli *cli, const char *part, struct error *err)
{
    const char *consistency = args_get(cli->args, "consistency");
    CLEANUP_FREE char *path = mem_printf("/v1/snapshot%s%s", consistency ? "?consistency=" : "",
                                         consistency ? consistency : "");
    struct save s = {.fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
    if (s.fd < 0)
        return error_set_errno(err, errno, "cannot make %s", part);
    struct api *api = cli_api(cli, err);
    int rc = api ? api_stream(api, path, 0, on_data, &s, err) : -1;
    if (!rc && s.error.code != ERROR_NONE) {
        *err = s.error;
        rc = -1;
    }
    if (!rc && fsync(s.fd))
        rc = error_set_errno(err, errno, "cannot write %s", part);
    close(s.fd);
    return rc;
}

/* Into FILE.part first: an older FILE stays until the new one is whole and checked. */
static int run_save(struct cli *cli)
{
    const char *path = cli_operand(cli, 0);
    struct error err = {0};
    CLEANUP_FREE char *part = mem_printf("%s.part", path);
    CLEANUP_BUF struct buf bytes = {0};
    CLEANUP(json_decref) json_t *info = NULL;
    int rc = fetch(cli, part, &err);
    if (!rc)
        rc = read_checked(part, &bytes, &info, &err);
    if (!rc && rename(part, path))
        rc = error_set_errno(&err, errno, "cannot make %s", path);
    if (rc) {
        unlink(part);
        return cli_fail(cli, &err);
    }
    if (!output_value(cli, info))
        cli_say(cli, "%s: the state at index %lld, %lld nodes, %lld services, %lld allocations", path,
                json_number(info, "index"), json_number(info, "nodes"), json_number(info, "services"),
                json_number(info, "allocs"));
    return STATUS_DONE;
}

/* --- inspect --- */

static int run_inspect(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_BUF struct buf bytes = {0};
    CLEANUP(json_decref) json_t *info = NULL;
    if (read_checked(cli_operand(cli, 0), &bytes, &info, &err))
        return cli_fail(cli, &err);
    if (!output_value(cli, info)) {
        output_facts(cli, info, view_info);
        cli_say(cli, "whole and undamaged");
    }
    return STATUS_DONE;
}

/* --- restore --- */

static bool confirmed(struct cli *cli, const json_t *info, struct error *err)
{
    CLEANUP_FREE char *what = mem_printf("This replaces all jobs, services, nodes and allocations of the cluster at %s by those of %s",
                                         api_address(cli->api), json_text(info, "taken_at"));
    return cli_confirmed(cli, what, "nothing was restored", err);
}

/* What seals the snapshot's secrets becomes this cluster's key, before the snapshot comes: afterwards other tokens hold. */
static int give_keys(struct cli *cli, const char *path, struct error *err)
{
    CLEANUP_WIPE struct buf keys = {0}, body = {0};
    if (!path)
        return 0;
    if (file_read(path, KEYS_LIMIT, &keys, err))
        return -1;
    CLEANUP(json_decref) json_t *json = json_pack("{s:s}", "keys", keys.data);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (!text)
        return error_set(err, ERROR_INVALID, "%s: is no copy of cluster-keys", path);
    buf_add_string(&body, text);
    free(text);
    return api_call(cli->api, HTTP_METHOD_POST, "/v1/secrets/rotate", &body, NULL, NULL, err) ? error_context(err, "%s", path) : 0;
}

static int run_restore(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_BUF struct buf bytes = {0};
    CLEANUP(json_decref) json_t *info = NULL, *answer = NULL;
    struct api *api = cli_api(cli, &err);
    if (!api || read_checked(cli_operand(cli, 0), &bytes, &info, &err) || !confirmed(cli, info, &err) ||
        give_keys(cli, args_get(cli->args, "cluster-keys"), &err) || api_put(api, "/v1/snapshot", &bytes, &answer, &err))
        return cli_fail(cli, &err);
    if (!output_value(cli, answer))
        cli_say(cli, "the state of %s is restored, at index %lld; agents take it over as they come, and the tokens of then hold",
                json_text(info, "taken_at"), json_number(answer, "index"));
    return STATUS_DONE;
}

/* --- list --- */

static int run_list(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *list = api ? api_list(api, "/v1/snapshots", &err) : NULL;
    if (!list)
        return cli_fail(cli, &err);
    output_rows(cli, list, view_files, "path", "this server has not taken any yet (backup_every, backup_dir)");
    return STATUS_DONE;
}

static const char *const consistencies[] = {"default", "stale", "strong", NULL};
static const struct option_row save_options[] = {
    {"consistency", 0, "C", "stale: of the server that is asked, even when there is no leader.", consistencies}, {0}};
static const struct option_row restore_options[] = {
    {"cluster-keys", 0, "FILE", "Copy of cluster-keys of the cluster that the snapshot is of: what opens its secrets.", NULL},
    {"yes", 'y', NULL, "Does not ask.", NULL}, {0}};

static const struct command_row save = {
    .name = "save", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .options = save_options,
    .run = run_save, .summary = "write the state of the control plane into a file",
};
static const struct command_row inspect = {
    .name = "inspect", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .run = run_inspect,
    .summary = "check a snapshot and say what it holds; needs no server",
};
static const struct command_row restore = {
    .name = "restore", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .options = restore_options,
    .run = run_restore, .summary = "put the state of a snapshot in place of the cluster's",
    .help = "Servers, their certificates and authority, and join tokens stay what they are. Jobs, services, nodes, allocations, "
            "policy, roles and tokens become those of the snapshot: log in with one of its tokens then. Agents and the tasks "
            "that the snapshot knows go on; tasks that it does not know are stopped. In a new cluster: its secrets are sealed "
            "with a key that no snapshot holds, so give it --cluster-keys; and say `mt node remove --lost` of the nodes that are "
            "no more, with --keep-certificate where a new host has the name.",
};
static const struct command_row list = {
    .name = "list", .run = run_list, .summary = "the snapshots that the server has taken by its schedule",
};
static const struct command_row *const subcommands[] = {&save, &inspect, &restore, &list, NULL};

const struct command_row cmd_snapshot = {
    .name = "snapshot", .summary = "backups of the control plane", .subcommands = subcommands,
};
