/* The servers: found a cluster, let servers join, look, hand over, take out. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"

#define ROUND_MS 200
#define JOIN_WAIT_MS 120000
#define WAIT_MS (5 * 60 * 1000)
#define ADMIN_WAIT_MS 20000
#define ADMIN_MOST 256
#define JOIN_TOKEN_MOST 1024

/* --- status --- */

static const json_t *of_status(const json_t *row, const char *key)
{
    const json_t *status = json_object_get(row, "status");
    return status ? json_object_get(status, key) : NULL;
}

static void cell_name(const json_t *row, const json_t *value, struct buf *out)
{
    const char *name = json_text(row, "server.name");
    buf_add_string(out, *name ? name : json_text(row, "server.raft_address"));
}

static void cell_role(const json_t *row, const json_t *value, struct buf *out)
{
    const char *role = json_string_value(of_status(row, "role")), *in = json_text(row, "server.membership");
    buf_printf(out, "%s", strcmp(in, "voter") ? in : role ? role : "unknown");
}

static void cell_contact(const json_t *row, const json_t *value, struct buf *out)
{
    char text[TIME_TEXT_SIZE];
    long long ms = json_number(row, "server.contact_ms");
    if (json_is_true(json_at(row, "server.self")))
        buf_add_string(out, "-");
    else if (ms < 0)
        buf_add_string(out, "not yet");
    else
        duration_format(text, ms >= 10000 ? ms / 1000 * 1000 : ms), buf_add_string(out, text);
}

static void cell_disk(const json_t *row, const json_t *value, struct buf *out)
{
    if (!of_status(row, "disk_free_bytes"))
        return;
    buf_printf(out, "%lld MiB%s", json_number(row, "status.disk_free_bytes") >> 20,
               json_is_true(of_status(row, "no_space")) ? " (full)" : "");
}

static void cell_problem(const json_t *row, const json_t *value, struct buf *out)
{
    static const char *const keys[] = {"problem", "status.removed", "status.forming", "status.hold", "status.backup_problem"};
    int told = 0;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (*json_text(row, keys[i]))
            buf_printf(out, "%s%s", told++ ? "; " : "", json_text(row, keys[i]));
}

static const struct column view_servers[] = {
    {"SERVER", "server.name", cell_name}, {"ID", "server.id", .wide = true}, {"ROLE", "status.role", cell_role},
    {"TERM", "status.term", .right = true}, {"COMMIT", "status.commit_index", .right = true},
    {"APPLIED", "status.applied_index", .right = true}, {"LAG", "server.lag", .right = true},
    {"CONTACT", "server.contact_ms", cell_contact, .right = true}, {"DISK FREE", "status.disk_free_bytes", cell_disk, .right = true},
    {"VERSION", "server.version"}, {"API", "server.address"}, {"RAFT", "server.raft_address", .wide = true},
    {"HASH", "status.state_hash", .wide = true}, {"PROBLEM", "problem", cell_problem}, {0},
};

static bool has_self(const json_t *list)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
        if (json_is_true(json_at(row, "server.self")))
            return true;
    return false;
}

/* The server that is asked, by its own word: it is in no cluster yet, or any more. */
static int add_self(struct api *api, json_t *list, struct error *err)
{
    CLEANUP(json_decref) json_t *own = api_get(api, "/v1/cluster", err);
    json_t *row = own ? json_pack("{s:{s:O,s:O,s:b,s:O,s:O,s:O,s:O},s:b,s:O}", "server", "name", json_object_get(own, "name"),
                                  "id", json_object_get(own, "id"), "self", 1, "membership", json_object_get(own, "membership"),
                                  "version", json_object_get(own, "version"), "address", json_object_get(own, "address"),
                                  "raft_address", json_object_get(own, "raft_address"), "reached", 1, "status", own) : NULL;
    return row ? json_array_append_new(list, row) : -1;
}

/* As the leader sees them, who knows how far each is; without one as the server that is asked does. */
static json_t *servers(struct cli *cli, struct error *err)
{
    struct error no_leader, no_cluster;
    struct api *api = cli_api(cli, err);
    json_t *list = api ? api_list(api, "/v1/cluster/servers", &no_leader) : NULL;
    if (list || !api)
        return list;
    list = api_list(api, "/v1/cluster/servers?consistency=stale", &no_cluster);
    if (!list)
        list = json_array();
    if (has_self(list) || add_self(api, list, err) == 0)
        return list;
    json_decref(list);
    return NULL;
}

static int run_status(struct cli *cli)
{
    struct error err = {0};
    CLEANUP(json_decref) json_t *list = servers(cli, &err);
    if (!list)
        return cli_fail(cli, &err);
    output_rows(cli, list, view_servers, "server.name", "no servers");
    return STATUS_DONE;
}

/* --- founding and joining --- */

static int make_token(struct cli *cli, const char *ttl, json_t **answer, struct error *err)
{
    struct api *api = cli_api(cli, err);
    CLEANUP_BUF struct buf body = {0};
    int64_t ms;
    if (ttl && duration_parse(ttl, &ms))
        return error_set(err, ERROR_INVALID, "--ttl: \"%.32s\" is not a duration such as 30m", ttl);
    buf_printf(&body, ttl ? "{\"ttl\":\"%s\"}" : "{}", ttl);
    return api ? api_call(api, HTTP_METHOD_POST, "/v1/cluster/tokens", &body, answer, NULL, err) : -1;
}

static void print_token(const struct cli *cli, const json_t *answer)
{
    if (output_value(cli, answer))
        return;
    cli_say(cli, "on the host of the new server, until %s, once:\n", json_text(answer, "expires_at"));
    printf("%s%s\n", cli->quiet ? "" : "  mt cluster join --token ", json_text(answer, "token"));
}

static int run_token(struct cli *cli)
{
    struct error err = {0};
    CLEANUP(json_decref) json_t *answer = NULL;
    if (make_token(cli, args_get(cli->args, "ttl"), &answer, &err))
        return cli_fail(cli, &err);
    print_token(cli, answer);
    return STATUS_DONE;
}

/* The server writes it once it leads, for whoever may read its directory. */
static int print_admin_token(struct cli *cli, const char *path, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    int64_t until = time_monotonic_ms() + ADMIN_WAIT_MS;
    while (file_read(path, ADMIN_MOST, &text, err)) {
        if (time_monotonic_ms() >= until)
            return error_context(err, "the cluster is there, but its administrator's token cannot be read");
        usleep(ROUND_MS * 1000);
    }
    cli_say(cli, "its administrator's token is this (in %s too; remove that file when you have it):\n", path);
    printf("%s%s", cli->quiet ? "" : "  ", text.data);
    return 0;
}

/* The server's certificate was replaced: it is asked by what the file of the authorities holds now. */
static int connect_again(struct cli *cli, struct error *err)
{
    api_free(steal(&cli->api));
    return cli_api(cli, err) ? 0 : -1;
}

static int print_login(struct cli *cli, const char *address, struct error *err)
{
    for (int64_t until = time_monotonic_ms() + ADMIN_WAIT_MS; time_monotonic_ms() < until; usleep(ROUND_MS * 1000)) {
        struct error away;
        if (connect_again(cli, err))
            return -1;
        CLEANUP(json_decref) json_t *ca = api_get(cli->api, "/v1/ca", &away);
        if (!ca || !*json_text(ca, "hash"))
            continue;
        cli_say(cli, "from elsewhere, with this token:\n  mt login --address https://%s --ca-hash %s", address, json_text(ca, "hash"));
        return 0;
    }
    return error_set(err, ERROR_TIMEOUT, "the cluster is there, but has no authority yet; see `mt ca status`");
}

static int run_init(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *answer = NULL, *token = NULL;
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/cluster/init", NULL, &answer, NULL, &err))
        return cli_fail(cli, &err);
    const char *admin = json_text(answer, "admin_token_file");
    if (*admin && !cli_setting(cli, "token", "MENTAT_TOKEN"))
        return print_admin_token(cli, admin, &err) || (json_is_true(json_object_get(answer, "makes_certificates")) &&
                                                       print_login(cli, json_text(answer, "address"), &err)) ? cli_fail(cli, &err) : STATUS_DONE;
    if (make_token(cli, NULL, &token, &err))
        return cli_fail(cli, &err);
    if (cli->format == OUTPUT_TABLE || cli->format == OUTPUT_WIDE)
        cli_say(cli, "server %s is in cluster %s", json_text(answer, "name"), json_text(answer, "cluster_id"));
    print_token(cli, token);
    return STATUS_DONE;
}

/* Tells what the server waits for, each time that changes, until it votes. It starts anew meanwhile. */
static int follow_join(struct cli *cli, struct error *err)
{
    CLEANUP_FREE char *told = NULL;
    for (int64_t until = time_monotonic_ms() + JOIN_WAIT_MS; time_monotonic_ms() < until; usleep(ROUND_MS * 1000)) {
        struct error away;
        CLEANUP(json_decref) json_t *s = api_get(cli->api, "/v1/cluster", &away);
        if (!s && away.code == ERROR_UNAUTHENTICATED) {
            cli_say(cli, "the server has joined; it asks for tokens now");
            return 0;
        }
        if (!s && away.code == ERROR_DENIED && connect_again(cli, err))
            return -1;
        if (!s)
            continue;
        const char *forming = json_text(s, "forming"), *in = json_text(s, "membership");
        if (!strcmp(in, "voter") && json_number(s, "leader_contact_ms") >= 0 && !*forming) {
            cli_say(cli, "%s has joined cluster %s", json_text(s, "name"), json_text(s, "cluster_id"));
            return 0;
        }
        if (json_is_true(json_object_get(s, "needs_token")))
            return error_set(err, ERROR_DENIED, "%s: %s", json_text(s, "name"), forming);
        CLEANUP_FREE char *now = mem_printf("%s: %s", json_text(s, "name"), *forming ? forming : "it catches up");
        if (!told || strcmp(told, now))
            cli_say(cli, "%s", now);
        mem_set_string(&told, now);
    }
    return error_set(err, ERROR_TIMEOUT, "the server has not joined yet, but goes on trying; see `mt cluster status`");
}

/* That of --token; "-": a line of standard input, which no other user of the host sees. */
static const char *join_token(struct cli *cli, char line[static JOIN_TOKEN_MOST])
{
    const char *token = args_get(cli->args, "token");
    if (!token || strcmp(token, "-") != 0)
        return token;
    if (isatty(STDIN_FILENO))
        fputs("join token: ", stderr);
    if (!fgets(line, JOIN_TOKEN_MOST, stdin))
        return NULL;
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

static int run_join(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    char line[JOIN_TOKEN_MOST];
    const char *token = join_token(cli, line);
    CLEANUP(json_decref) json_t *body = token ? json_pack("{s:s}", "token", token) : NULL;
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    CLEANUP_BUF struct buf b = {0};
    int rc = 0;
    if (!text)
        rc = error_set(&err, ERROR_INVALID, "--token is needed; `mt cluster token` on a server of the cluster makes one");
    else
        buf_add_string(&b, text);
    free(text);
    if (rc || !api || api_call(api, HTTP_METHOD_POST, "/v1/cluster/join", &b, NULL, NULL, &err) || follow_join(cli, &err))
        return cli_fail(cli, &err);
    return STATUS_DONE;
}

/* --- changes --- */

static int run_remove(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/cluster/servers/", cli_operand(cli, 0), "");
    if (!api || api_call(api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "%s is not in the cluster any more; end it, and remove its data_dir before it joins again", cli_operand(cli, 0));
    return STATUS_DONE;
}

static int run_transfer(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_BUF struct buf body = {0};
    CLEANUP(json_decref) json_t *json = cli_operand(cli, 0) ? json_pack("{s:s}", "to", cli_operand(cli, 0)) : json_object();
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    buf_add_string(&body, text ? text : "{}");
    free(text);
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/cluster/transfer", &body, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "%s leads now", cli_operand(cli, 0) ? cli_operand(cli, 0) : "another server");
    return STATUS_DONE;
}

/* --- waiting --- */

/* The server that is asked is ready, votes, and has all that the leader has. -1: *why says what is missing. */
static int check_whole(struct api *api, struct error *why)
{
    CLEANUP(json_decref) json_t *ready = api_get(api, "/v1/readyz", why);
    CLEANUP(json_decref) json_t *own = ready ? api_get(api, "/v1/cluster", why) : NULL;
    CLEANUP(json_decref) json_t *all = own ? api_list(api, "/v1/cluster/servers", why) : NULL;
    const json_t *row;
    size_t i;
    if (!all)
        return -1;
    if (strcmp(json_text(own, "membership"), "voter") != 0)
        return error_set(why, ERROR_UNAVAILABLE, "it is no voter yet");
    json_array_foreach(all, i, row) {
        long long lag = json_number(row, "server.lag");
        if (json_equal(json_at(row, "server.id"), json_object_get(own, "id")))
            return lag ? error_set(why, ERROR_UNAVAILABLE, "it lacks %lld entries of the log", lag) : 0;
    }
    return error_set(why, ERROR_UNAVAILABLE, "the leader does not know it");
}

static int run_wait(struct cli *cli)
{
    struct error err = {0}, why = {0};
    const char *timeout = args_get(cli->args, "timeout");
    int64_t most_ms = WAIT_MS;
    struct api *api = cli_api(cli, &err);
    if (!api)
        return cli_fail(cli, &err);
    if (timeout && duration_parse(timeout, &most_ms)) {
        error_set(&err, ERROR_INVALID, "--timeout: \"%s\" is no duration such as 30s or 5m", timeout);
        return cli_fail(cli, &err);
    }
    for (int64_t until = time_monotonic_ms() + most_ms; check_whole(api, &why); usleep(ROUND_MS * 1000)) {
        bool refused = why.code == ERROR_DENIED || why.code == ERROR_UNAUTHENTICATED;
        if (!refused && time_monotonic_ms() < until)
            continue;
        if (!refused)
            error_set(&err, ERROR_TIMEOUT, "the server at %s is not as it should be: %s", api_address(api), why.text);
        return cli_fail(cli, refused ? &why : &err);
    }
    cli_say(cli, "the server is ready, and lacks nothing");
    return STATUS_DONE;
}

static const struct option_row wait_options[] = {
    {"timeout", 0, "TIME", "How long at most; default 5m.", NULL}, {0}};
static const struct option_row token_options[] = {
    {"ttl", 0, "TIME", "How long the token can be used; default 1h.", NULL}, {0}};
static const struct option_row join_options[] = {
    {"token", 0, "TOKEN", "What `mt cluster init` or `mt cluster token` printed; -: read from standard input.", NULL}, {0}};

static const struct command_row init = {
    .name = "init", .run = run_init, .summary = "let the server be a cluster of one, and make a token for the next",
    .help = "Asks the server at --address. Where it is in a cluster already, only the token is made. Where the API asks for\n"
            "tokens (access: tokens), it prints the first administrator's token, and is to be run on the server's host.",
};
static const struct command_row token = {
    .name = "token", .options = token_options, .run = run_token, .summary = "make a token with which one server can join, once",
};
static const struct command_row join = {
    .name = "join", .options = join_options, .run = run_join, .summary = "let the server join the cluster of a token",
    .help = "Asks the server at --address, which is the new one. It may wait for this (expect: 0), or have a cluster of its "
            "own that nobody used yet.",
};
static const struct command_row status = {
    .name = "status", .run = run_status, .summary = "the servers: who leads, how far each is, how long it was silent",
};
static const struct command_row wait_row = {
    .name = "wait", .options = wait_options, .run = run_wait, .summary = "wait until the server that is asked is ready and lacks nothing",
    .help = "For upgrades, one server after the other: the next one only when this one votes, and has all that the leader has.",
};
static const struct command_row remove_row = {
    .name = "remove", .operands = "SERVER", .min = 1, .max = 1, .run = run_remove,
    .summary = "take a server out of the cluster, dead or alive",
};
static const struct command_row transfer = {
    .name = "transfer", .operands = "[SERVER]", .max = 1, .run = run_transfer,
    .summary = "let another server lead: that one, or the one that is most up to date",
};
static const struct command_row *const subcommands[] = {&init, &token, &join, &status, &wait_row, &transfer, &remove_row, NULL};

const struct command_row cmd_cluster = {
    .name = "cluster", .summary = "the servers: found, join, look, hand over, take out", .subcommands = subcommands,
};
