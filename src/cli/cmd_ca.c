/* The authority of the cluster's certificates: look, put another one in its place. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/api.h"
#include "cli/authorities.h"
#include "cli/commands.h"
#include "cli/table.h"

#define ROUND_MS 200
#define PEM_MOST 65536u

static void cell_key(const json_t *row, const json_t *value, struct buf *out)
{
    buf_printf(out, "%.12s", json_string_value(value) ? json_string_value(value) : "");
}

static const struct column columns[] = {
    {"AUTHORITY", "id", cell_key}, {"STATE", "state"}, {"AGE", "created_at", cell_age}, {"SINCE", "since", cell_age},
    {"UNTIL", "until"}, {"HASH", "id", .wide = true}, {0},
};

static void list_behind(const json_t *status, struct buf *out)
{
    const json_t *name;
    size_t i;
    json_array_foreach(json_object_get(status, "behind"), i, name)
        buf_printf(out, "%s%s", i ? ", " : "", json_string_value(name) ? json_string_value(name) : "");
}

static int run_status(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *status = api ? api_get(api, "/v1/ca/status", &err) : NULL;
    CLEANUP_BUF struct buf behind = {0};
    if (!status)
        return cli_fail(cli, &err);
    if (output_value(cli, status))
        return STATUS_DONE;
    output_rows(cli, json_object_get(status, "authorities"), columns, "id", "this cluster has no authority of its own");
    list_behind(status, &behind);
    if (*json_text(status, "hash"))
        cli_say(cli, "\nhash (mt login --ca-hash): %s", json_text(status, "hash"));
    if (*json_text(status, "cluster_key"))
        cli_say(cli, "sealed with key: %s", json_text(status, "cluster_key"));
    if (behind.len && *json_text(status, "hash"))
        cli_say(cli, "without a certificate of these authorities yet: %s", behind.data);
    return STATUS_DONE;
}

/* All have certificates of the one that signs, and no other comes or leaves; but the founding one, which never did anything else, goes by itself. */
static bool is_over(const json_t *status, struct buf *step)
{
    const json_t *a;
    size_t i;
    int signing = 0, founding = 0;
    json_array_foreach(json_object_get(status, "authorities"), i, a) {
        const char *state = json_text(a, "state");
        signing += !strcmp(state, "signing");
        founding += !strcmp(state, "leaving") && !strcmp(json_text(a, "created_at"), json_text(a, "since"));
        buf_printf(step, "%s%.12s %s", i ? ", " : "", json_text(a, "id"), state);
    }
    return signing == 1 && !json_array_size(json_object_get(status, "behind")) && json_array_size(json_object_get(status, "authorities")) == 1u + (size_t)founding;
}

/* Tells each step, until the old one is out. */
static int follow(struct cli *cli, struct error *err)
{
    CLEANUP_FREE char *told = NULL;
    for (;; usleep(ROUND_MS * 1000)) {
        struct error away;
        CLEANUP_BUF struct buf step = {0}, behind = {0};
        CLEANUP(json_decref) json_t *status = api_get(cli->api, "/v1/ca/status", &away);
        if (!status && (away.code == ERROR_DENIED || away.code == ERROR_UNAUTHENTICATED)) {
            *err = away;
            return -1;
        }
        if (!status)
            continue;
        bool over = is_over(status, &step);
        list_behind(status, &behind);
        CLEANUP_FREE char *now = mem_printf("%s%s%s", step.data, behind.len ? "; waits for " : "", behind.len ? behind.data : "");
        if (!told || strcmp(told, now))
            cli_say(cli, "%s", now);
        mem_set_string(&told, now);
        if (over) {
            authorities_refresh(cli, 0);
            cli_say(cli, "done; hash (mt login --ca-hash): %s", json_text(status, "hash"));
            return 0;
        }
    }
}

static int run_rotate(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/ca/rotate", NULL, NULL, NULL, &err) ||
        (!args_has(cli->args, "detach") && follow(cli, &err)))
        return cli_fail(cli, &err);
    return STATUS_DONE;
}

static int read_pem(const char *what, const char *path, struct buf *out, struct error *err)
{
    if (!path)
        return error_set(err, ERROR_INVALID, "--%s FILE is needed", what);
    return file_read(path, PEM_MOST, out, err) ? error_context(err, "--%s", what) : 0;
}

static int run_import(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_BUF struct buf certificate = {0}, key = {0}, body = {0};
    struct api *api = cli_api(cli, &err);
    if (!api || read_pem("certificate", args_get(cli->args, "certificate"), &certificate, &err) ||
        read_pem("private-key", args_get(cli->args, "private-key"), &key, &err))
        return cli_fail(cli, &err);
    CLEANUP(json_decref) json_t *json = json_pack("{s:s, s:s}", "certificate", certificate.data, "key", key.data);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    buf_add_string(&body, text ? text : "{}");
    free(text);
    if (api_call(api, HTTP_METHOD_POST, "/v1/ca/import", &body, NULL, NULL, &err) ||
        (!args_has(cli->args, "detach") && follow(cli, &err)))
        return cli_fail(cli, &err);
    return STATUS_DONE;
}

#define DETACH {"detach", 'd', NULL, "Does not wait until the old one is out.", NULL}
static const struct option_row rotate_options[] = {DETACH, {0}};
static const struct option_row import_options[] = {
    {"certificate", 0, "FILE", "The authority's certificate (PEM), and its chain.", NULL},
    {"private-key", 0, "FILE", "Its private key (PEM), without a passphrase.", NULL}, DETACH, {0}};

static const struct command_row status = {
    .name = "status", .run = run_status, .summary = "the authorities whose certificates are believed, and who has none of them yet",
};
static const struct command_row rotate = {
    .name = "rotate", .options = rotate_options, .run = run_rotate, .summary = "put a new authority in the place of the one that signs",
    .help = "First all believe both, then all get certificates of the new one, then the old one is taken out. Each step waits for\n"
            "the servers and nodes that live; for those that are away, as long as a certificate lasts.",
};
static const struct command_row import_row = {
    .name = "import", .options = import_options, .run = run_import, .summary = "let an authority of yours take that place",
    .help = "In the same steps as `rotate`. The key is sealed, and kept by the servers alone.",
};
static const struct command_row *const subcommands[] = {&status, &rotate, &import_row, NULL};

const struct command_row cmd_ca = {
    .name = "ca", .summary = "the authority of the cluster's certificates: look, rotate, import", .subcommands = subcommands,
};
