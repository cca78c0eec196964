/* Secrets: values that tasks get and nobody else sees. A value is read from standard input or a file: on a command line, other
 * users of the host would see it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/base64.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/words.h"
#include "model/secret.h"

static char *path_of(struct cli *cli, const char *after)
{
    return api_path("/v1/secrets/", cli_operand(cli, 0), after);
}

/* --- put --- */

static int too_long(const char *from, struct error *err)
{
    return error_set(err, ERROR_TOO_LARGE, "%s: a secret takes at most %u bytes", from, SECRET_BYTES_MOST);
}

/* What is typed is not shown, and ends with the line. */
static int read_typed(struct buf *out, struct error *err)
{
    struct termios before, quiet;
    char line[4096];
    bool hides = tcgetattr(STDIN_FILENO, &before) == 0;
    fputs("value (it is not shown): ", stderr);
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    if (hides)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    char *got = fgets(line, sizeof line, stdin);
    if (hides)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    if (got)
        buf_add(out, line, strcspn(line, "\r\n"));
    explicit_bzero(line, sizeof line);
    return out->len ? 0 : error_set(err, ERROR_INVALID, "no value was given");
}

/* All bytes as they are; more than fit are noticed. */
static int read_all(int fd, const char *from, struct buf *out, struct error *err)
{
    ssize_t n = 0;
    while (out->len <= SECRET_BYTES_MOST && (n = read(fd, out->data + out->len, SECRET_BYTES_MOST + 1 - out->len)) > 0)
        out->len += (size_t)n;
    if (n < 0)
        return error_set_errno(err, errno, "%s", from);
    if (out->len > SECRET_BYTES_MOST)
        return too_long(from, err);
    return out->len ? 0 : error_set(err, ERROR_INVALID, "%s: is empty", from);
}

static int read_value(struct cli *cli, struct buf *out, struct error *err)
{
    const char *path = args_get(cli->args, "file");
    buf_reserve(out, SECRET_BYTES_MOST + 1);
    if (!path && isatty(STDIN_FILENO))
        return read_typed(out, err);
    int fd = path && strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    int rc = read_all(fd, fd == STDIN_FILENO ? "standard input" : path, out, err);
    if (fd != STDIN_FILENO)
        close(fd);
    return rc;
}

/* {"value": "…", "services": […]} */
static void write_body(const struct buf *value, const char *services, struct buf *out)
{
    buf_reserve(out, value->len * 2 + 256 + (services ? 2 * strlen(services) : 0));
    buf_add_string(out, "{\"value\":\"");
    base64_add(out, value->data, value->len);
    buf_add_char(out, '"');
    if (services) {
        CLEANUP(json_decref) json_t *list = words_list(services);
        char *text = json_dumps(list, JSON_COMPACT);
        buf_printf(out, ",\"services\":%s", text ? text : "[]");
        free(text);
    }
    buf_add_char(out, '}');
}

static int run_put(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_WIPE struct buf value = {0}, body = {0};
    CLEANUP(json_decref) json_t *answer = NULL;
    CLEANUP_FREE char *path = path_of(cli, "");
    if (read_value(cli, &value, &err))
        return cli_fail(cli, &err);
    write_body(&value, args_get(cli->args, "services"), &body);
    struct api *api = cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_PUT, path, &body, &answer, NULL, &err))
        return cli_fail(cli, &err);
    if (!output_value(cli, answer))
        cli_say(cli, "%s has version %lld now", cli_operand(cli, 0), (long long)json_integer_value(json_object_get(answer, "version")));
    return STATUS_DONE;
}

/* --- get --- */

static int run_get(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_WIPE struct buf value = {0};
    const char *version = args_get(cli->args, "version");
    CLEANUP_FREE char *after = version ? mem_printf("/value?version=%s", version) : mem_strdup("/value");
    CLEANUP_FREE char *path = path_of(cli, after);
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *answer = api ? api_get(api, path, &err) : NULL;
    if (!answer)
        return cli_fail(cli, &err);
    if (output_value(cli, answer))
        return STATUS_DONE;
    const char *text = json_text(answer, "value");
    buf_reserve(&value, strlen(text));
    if (!base64_read(text, &value)) {
        error_set(&err, ERROR_CORRUPT, "the server's answer holds no value");
        return cli_fail(cli, &err);
    }
    fwrite(value.data, 1, value.len, stdout);
    if (cli->terminal && value.len && value.data[value.len - 1] != '\n')
        putchar('\n');
    return fflush(stdout) ? STATUS_FAILED : STATUS_DONE;
}

/* --- looking --- */

/* None: all. */
static void cell_services(const json_t *row, const json_t *value, struct buf *out)
{
    cell_words(row, value, out);
    if (!json_array_size(value))
        buf_add_char(out, '*');
}

static const struct column columns[] = {
    {"NAMESPACE", "namespace", .sparse = true}, {"SECRET", "name"}, {"VERSION", "version"}, {"BYTES", "bytes"}, {"FOR", "services", cell_services},
    {"AGE", "modified_at", cell_age}, {"BY", "modified_by"}, {0},
};

static int run_list(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *rows = api ? api_list(api, "/v1/secrets", &err) : NULL;
    if (!rows)
        return cli_fail(cli, &err);
    output_rows(cli, rows, columns, "name", "there are no secrets");
    return STATUS_DONE;
}

static const struct column history_columns[] = {
    {"VERSION", "version"}, {"BYTES", "bytes"}, {"PUT AT", "created_at"}, {"BY", "created_by"}, {0},
};

static int run_history(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_FREE char *path = path_of(cli, "");
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *detail = api ? api_get(api, path, &err) : NULL;
    if (!detail)
        return cli_fail(cli, &err);
    json_t *used = json_object_get(detail, "used_by");
    CLEANUP_BUF struct buf names = {0};
    output_rows(cli, json_object_get(json_object_get(detail, "secret"), "versions"), history_columns, "version", "");
    if (cli->format == OUTPUT_TABLE && json_array_size(used)) {
        cell_words(detail, used, &names);
        cli_say(cli, "used by %s", names.data);
    }
    return STATUS_DONE;
}

static int run_delete(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_FREE char *path = path_of(cli, "");
    struct api *api = cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "deleted, with all its versions");
    return STATUS_DONE;
}

static int run_rotate(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/secrets/rotate", NULL, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "the new key is in force, and the servers seal all secrets anew; backups from before need the key of then");
    return STATUS_DONE;
}

static const struct option_row put_options[] = {
    {"file", 0, "FILE", "Take the value from a file; default: standard input, or typed without being shown.", NULL},
    {"services", 0, "NAME,…", "Which services may have it, such as web,api-*; default: as it was, for a new one all.", NULL}, {0}};
static const struct option_row get_options[] = {
    {"version", 0, "N", "Which version; default: the one that is in force.", NULL}, {0}};

static const struct command_row put = {
    .name = "put", .operands = "NAME", .min = 1, .max = 1, .options = put_options, .run = run_put,
    .summary = "put a new version of a secret",
    .help = "All bytes count, an end of line too: printf %s \"$VALUE\" | mt secret put NAME. Services that name it are restarted "
            "or told, as each says by on_change.",
};
static const struct command_row get = {
    .name = "get", .operands = "NAME", .min = 1, .max = 1, .options = get_options, .run = run_get,
    .summary = "print the value of a secret; needs the right reveal",
};
static const struct command_row list = {
    .name = "list", .run = run_list, .summary = "the secrets, without their values",
};
static const struct command_row history = {
    .name = "history", .operands = "NAME", .min = 1, .max = 1, .run = run_history,
    .summary = "the versions of a secret that are kept: when, and by whom",
};
static const struct command_row delete_row = {
    .name = "delete", .operands = "NAME", .min = 1, .max = 1, .run = run_delete,
    .summary = "delete a secret that no service names",
};
static const struct command_row rotate = {
    .name = "rotate-key", .run = run_rotate, .summary = "seal all secrets anew with another key of the cluster",
};
static const struct command_row *const subcommands[] = {&put, &get, &list, &history, &delete_row, &rotate, NULL};

const struct command_row cmd_secret = {
    .name = "secret", .summary = "secrets: values that tasks get, and that nobody else sees", .subcommands = subcommands,
};
