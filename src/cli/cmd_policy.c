/* The cluster's policy: what services may do beyond their security profiles. */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/jobfile.h"
#include "cli/table.h"

static int run_get(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *policy = api ? api_get(api, "/v1/policy", &err) : NULL;
    if (!policy)
        return cli_fail(cli, &err);
    if (cli->format == OUTPUT_TABLE)
        cli->format = OUTPUT_YAML;   /* what `set` takes */
    output_value(cli, policy);
    return STATUS_DONE;
}

/* What a new cluster keeps for named services. */
static void warn_of_open(const struct policy *p, const char *profile)
{
    for (uint32_t i = 0; i < p->profiles.n; i++)
        if (!strcmp(p->profiles.v[i].name, profile))
            return;
    fprintf(stderr, "mt: warning: the policy does not speak of profile %s, which opens it to every service; to keep it for some, "
            "add it to `profiles`\n", profile);
}

static int run_set(struct cli *cli)
{
    struct error err = {0};
    struct policy policy = {0};
    CLEANUP_BUF struct buf json = {0};
    int rc = jobfile_object(cli_operand(cli, 0), &policy_type, &policy, "the policy was not set", &err);
    if (!rc) {
        type_to_json(&policy_type, &policy, &json);
        warn_of_open(&policy, "exec-internal");
        warn_of_open(&policy, "docker-legacy");
    }
    type_clear(&policy_type, &policy);
    if (rc)
        return cli_fail(cli, &err);
    struct api *api = cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_PUT, "/v1/policy", &json, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "the policy is set; it is for what is submitted from now on");
    return STATUS_DONE;
}

static const struct command_row get = {
    .name = "get", .run = run_get, .summary = "print the policy, as `set` takes it",
};
static const struct command_row set = {
    .name = "set", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .run = run_set,
    .summary = "put a file in place of the policy",
    .help = "What runs goes on. \"-\" reads standard input. A policy names the services that may use a profile, and the\n"
            "exceptions from profiles:\n"
            "  profiles: [{name: exec-internal, services: [node-agent]}]\n"
            "  exceptions: [{services: [vpn], allow: [root, capabilities.NET_ADMIN], why: it makes tunnels}]",
};
static const struct command_row *const subcommands[] = {&get, &set, NULL};

const struct command_row cmd_policy = {
    .name = "policy", .summary = "what services may do beyond their security profiles", .subcommands = subcommands,
};
