/* Maintenance of nodes: drain, disable, enable, remove; what they may do; tokens with which agents join. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/lost.h"
#include "cli/table.h"

#define ROUND_MS 100

static int post(struct cli *cli, const char *node, const char *action, struct error *err)
{
    const char *reason = args_get(cli->args, "reason");
    struct api *api = cli_api(cli, err);
    CLEANUP_FREE char *path = api_path("/v1/nodes/", node, action);
    CLEANUP_BUF struct buf body = {0};
    if (reason) {
        json_t *json = json_pack("{s:s}", "reason", reason);
        char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
        json_decref(json);
        if (!text)
            return error_set(err, ERROR_INVALID, "--reason: it is not UTF-8 text");
        buf_add_string(&body, text);
        free(text);
    }
    return api ? api_call(api, HTTP_METHOD_POST, path, reason ? &body : NULL, NULL, NULL, err) : -1;
}

/* How many allocations live there, and why one of them does not move yet: what its service says. */
static int look(struct cli *cli, const char *path, long long *live, char **why, struct error *err)
{
    CLEANUP(json_decref) json_t *allocs = api_list(cli->api, path, err);
    const json_t *waits = NULL;
    size_t i;
    json_t *a;
    *live = 0;
    *why = NULL;
    json_array_foreach(allocs, i, a) {
        *live += follow_alloc_live(a);
        if (follow_alloc_live(a) && !strcmp(json_text(a, "desired"), "run"))
            waits = a;
    }
    if (!waits)
        return allocs ? 0 : -1;
    struct error gone = {0};
    CLEANUP_FREE char *name = json_qualified(waits, "service"), *of = api_path("/v1/services/", name, "");
    CLEANUP(json_decref) json_t *service = api_get(cli->api, of, &gone);
    const char *reason = json_text(service, "status.reason");
    if (*reason)
        *why = mem_printf("%s: %s", name, reason);
    return 0;
}

/* Tells how many allocations are still there, each time the number changes, until none is; and what keeps them. */
static int follow_drain(struct cli *cli, struct error *err)
{
    CLEANUP_FREE char *path = api_path("/v1/allocs?namespace=*&node=", cli_operand(cli, 0), "");
    CLEANUP_FREE char *told_why = NULL;
    struct lost lost = {0};
    uint64_t index = 0;
    for (long long live = -1, told = -1; live; usleep(ROUND_MS * 1000)) {
        CLEANUP_FREE char *why = NULL;
        CLEANUP_FREE char *wait = mem_printf("/v1/nodes?limit=1&index=%llu&wait=1s", (unsigned long long)index);
        if (api_call(cli->api, HTTP_METHOD_GET, wait, NULL, NULL, &index, err) || look(cli, path, &live, &why, err)) {
            if (!lost_wait(&lost, cli, err))
                return -1;
            live = -1;
            continue;
        }
        lost_over(&lost, cli);
        if (live && live != told)
            cli_say(cli, "%s: %lld allocation%s to move", cli_operand(cli, 0), live, live == 1 ? "" : "s");
        else if (live && why && (!told_why || strcmp(why, told_why))) {
            cli_say(cli, "%s: waits; %s", cli_operand(cli, 0), why);
            mem_set_string(&told_why, why);
        }
        told = live;
    }
    cli_say(cli, "%s: drained; `mt node enable %s` lets it take allocations again", cli_operand(cli, 0), cli_operand(cli, 0));
    return 0;
}

/* With -o json or yaml: the node as it is now. */
static int show(struct cli *cli)
{
    struct error err = {0};
    if (cli->format != OUTPUT_JSON && cli->format != OUTPUT_YAML)
        return STATUS_DONE;
    CLEANUP_FREE char *path = api_path("/v1/nodes/", cli_operand(cli, 0), "");
    CLEANUP(json_decref) json_t *node = api_get(cli->api, path, &err);
    if (!node)
        return cli_fail(cli, &err);
    output_value(cli, node);
    return STATUS_DONE;
}

static int run_drain(struct cli *cli)
{
    struct error err = {0};
    if (post(cli, cli_operand(cli, 0), "/drain", &err) || (!args_has(cli->args, "detach") && follow_drain(cli, &err)))
        return cli_fail(cli, &err);
    return show(cli);
}

/* said: what holds for the node then. */
static int change(struct cli *cli, const char *action, const char *said)
{
    struct error err = {0};
    if (post(cli, cli_operand(cli, 0), action, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "%s %s", cli_operand(cli, 0), said);
    return show(cli);
}

static int run_enable(struct cli *cli) { return change(cli, "/enable", "takes allocations again"); }
static int run_disable(struct cli *cli) { return change(cli, "/disable", "keeps what it runs and gets nothing new"); }
static int run_ingress(struct cli *cli) { return change(cli, "/ingress", "may take requests from outside"); }

/* By its id: once it is down, a new host of the same name may come in between. */
static int remove_node(struct cli *cli, const char *name, struct error *err)
{
    struct api *api = cli_api(cli, err);
    CLEANUP_FREE char *of = api_path("/v1/nodes/", name, "");
    CLEANUP(json_decref) json_t *node = api ? api_get(api, of, err) : NULL;
    if (!node)
        return -1;
    const char *id = json_text(node, "id");
    CLEANUP_FREE char *path = api_path("/v1/nodes/", id, args_has(cli->args, "keep-certificate") ? "?keep_certificate=true" : "");
    if ((args_has(cli->args, "lost") && post(cli, id, "/lost", err)) ||
        api_call(api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, err))
        return -1;
    cli_say(cli, "%s (%s) is removed", json_text(node, "name"), id);
    return 0;
}

static int run_remove(struct cli *cli)
{
    struct error err = {0};
    for (int i = 0; i < cli->args->operand_count; i++)
        if (remove_node(cli, cli_operand(cli, i), &err))
            return cli_fail(cli, &err);
    return STATUS_DONE;
}

static int run_token(struct cli *cli)
{
    struct error err = {0};
    const char *ttl = args_get(cli->args, "ttl"), *uses = args_get(cli->args, "uses");
    CLEANUP_BUF struct buf body = {0};
    CLEANUP(json_decref) json_t *answer = NULL;
    char *end = NULL;
    int64_t ms;
    long n = uses ? strtol(uses, &end, 10) : 1;
    if ((ttl && duration_parse(ttl, &ms)) || (uses && (*end || n < 1))) {
        error_set(&err, ERROR_INVALID, "--ttl: a duration such as 30m; --uses: how many agents may join with it");
        return cli_fail(cli, &err);
    }
    buf_printf(&body, "{\"agents\":true,\"uses\":%ld%s", n, args_has(cli->args, "ingress") ? ",\"ingress\":true" : "");
    buf_printf(&body, ttl ? ",\"ttl\":\"%s\"}" : "}", ttl);
    struct api *api = cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/cluster/tokens", &body, &answer, NULL, &err))
        return cli_fail(cli, &err);
    if (output_value(cli, answer))
        return STATUS_DONE;
    cli_say(cli, "for the join_token_file of %s, /etc/mentat/join-token as installed, until %s:", n > 1 ? "new agents" : "a new agent",
            json_text(answer, "expires_at"));
    printf("%s\n", json_text(answer, "token"));
    return STATUS_DONE;
}

#define REASON_OPTION {"reason", 0, "TEXT", "Why, for the events.", NULL}
static const struct option_row options[] = {REASON_OPTION, {0}};
static const struct option_row drain_options[] = {
    REASON_OPTION, {"detach", 'd', NULL, "Does not wait until the node is empty.", NULL}, {0}};
static const struct option_row remove_options[] = {
    REASON_OPTION,
    {"lost", 0, NULL, "Its host is silent and does not come back: what it ran starts elsewhere at once.", NULL},
    {"keep-certificate", 0, NULL, "Certificates of this name stay good: another host has one already.", NULL}, {0}};

static const struct command_row drain = {
    .name = "drain", .operands = "NODE", .min = 1, .max = 1, .kind = OPERAND_NODE, .options = drain_options,
    .run = run_drain, .summary = "move everything away from a node, and wait until it is empty",
};
static const struct command_row enable = {
    .name = "enable", .operands = "NODE", .min = 1, .max = 1, .kind = OPERAND_NODE, .options = options,
    .run = run_enable, .summary = "let a node take allocations again",
};
static const struct command_row disable = {
    .name = "disable", .operands = "NODE", .min = 1, .max = 1, .kind = OPERAND_NODE, .options = options,
    .run = run_disable, .summary = "keep what a node runs, and give it nothing new",
};
static const struct command_row remove_row = {
    .name = "remove", .operands = "NODE…", .min = 1, .max = INT_MAX, .kind = OPERAND_NODE, .options = remove_options,
    .run = run_remove, .summary = "forget a node that is down, or whose host is lost for good",
};
static const struct command_row ingress = {
    .name = "ingress", .operands = "NODE", .min = 1, .max = 1, .kind = OPERAND_NODE, .run = run_ingress,
    .summary = "let a node that asks for it take requests from outside",
};
static const struct option_row token_options[] = {
    {"ttl", 0, "TIME", "How long the token can be used; default 1h.", NULL},
    {"uses", 0, "N", "How many agents may join with it; default 1.", NULL},
    {"ingress", 0, NULL, "Their nodes may take requests from outside, as `ingress: true` in agent.yaml asks.", NULL}, {0}};
static const struct command_row token = {
    .name = "token", .options = token_options, .run = run_token, .summary = "make a token with which agents can join",
};
static const struct command_row *const subcommands[] = {&drain, &enable, &disable, &remove_row, &ingress, &token, NULL};

const struct command_row cmd_node = {
    .name = "node", .summary = "maintenance of nodes; tokens for new ones", .subcommands = subcommands,
};
