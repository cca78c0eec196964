/* Who asks: kept for the user, so that no command needs to be told. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/jobfile.h"
#include "cli/settings.h"
#include "cli/table.h"

#define TOKEN_MOST 256

/* By --token or MENTAT_TOKEN, else a line of standard input. */
static char *token_of(struct cli *cli, struct error *err)
{
    const char *given = cli_setting(cli, "token", "MENTAT_TOKEN");
    char line[TOKEN_MOST + 2];
    if (given)
        return mem_strdup(given);
    if (isatty(STDIN_FILENO))
        fputs("token: ", stderr);
    if (!fgets(line, sizeof line, stdin))
        line[0] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    if (!*line || !strchr(line, '.')) {
        error_set(err, ERROR_INVALID, "a token is needed: --token, MENTAT_TOKEN, or a line on standard input");
        return NULL;
    }
    return mem_strdup(line);
}

/* A file is found from anywhere later. */
static char *absolute(const char *path)
{
    CLEANUP_FREE char *here = path && *path != '/' ? getcwd(NULL, 0) : NULL;
    return here ? mem_printf("%s/%s", here, path) : mem_strdup(path);
}

/* By their hash alone: whoever answers without that authority is not believed. */
static int fetch_ca(const char *addresses, const char *hash, char **ca, struct error *err)
{
    struct api *api = api_new(&(struct api_options){.addresses = addresses, .ca_hash = hash}, err);
    CLEANUP(json_decref) json_t *bundle = api ? api_get(api, "/v1/ca", err) : NULL;
    int rc = bundle && *json_text(bundle, "certificates") ? settings_save_ca(json_text(bundle, "certificates"), err) : -1;
    if (bundle && rc && !*json_text(bundle, "certificates"))
        error_set(err, ERROR_UNSUPPORTED, "that server is in no cluster yet that has an authority of its own");
    if (api)
        api_free(api);
    mem_set_string(ca, NULL);
    *ca = rc ? NULL : settings_ca_path();
    return rc;
}

static int run_login(struct cli *cli)
{
    struct error err = {0};
    struct settings kept = {0}, s = {0};
    CLEANUP_FREE char *path = settings_path();
    settings_load(&kept, &err);      /* a file that is not good is written anew */
    const char *address = cli_setting(cli, "address", "MENTAT_ADDR"), *ca = cli_setting(cli, "ca", NULL);
    s.address = mem_strdup(address ? address : kept.address ? kept.address : ADDRESS_DEFAULT);
    s.ca = ca ? absolute(ca) : mem_strdup(kept.ca);
    s.token = token_of(cli, &err);
    s.namespace = mem_strdup(cli_namespace_asked(cli) ? cli_namespace_asked(cli) : kept.namespace);
    type_clear(&settings_type, &kept);
    const char *hash = args_get(cli->args, "ca-hash");
    int rc = s.token && (!hash || !fetch_ca(s.address, hash, &s.ca, &err)) ? 0 : -1;
    struct api_options o = {.addresses = s.address, .token = s.token, .ca = s.ca};
    CLEANUP(json_decref) json_t *me = NULL;
    if (!rc)
        rc = (cli->api = api_new(&o, &err)) ? 0 : -1;
    if (!rc)
        rc = (me = api_get(cli->api, "/v1/tokens/self", &err)) ? settings_save(&s, &err) : -1;
    if (!rc)
        cli_say(cli, "you are %s at %s; kept in %s", json_text(me, "name"), s.address, path);
    type_clear(&settings_type, &s);
    return rc ? cli_fail(cli, &err) : STATUS_DONE;
}

static int run_logout(struct cli *cli)
{
    CLEANUP_FREE char *path = settings_path();
    struct error err = {0};
    if (!path || (unlink(path) && access(path, F_OK) == 0)) {
        error_set(&err, ERROR_SYSTEM, "%s cannot be removed", path ? path : "the settings");
        return cli_fail(cli, &err);
    }
    cli_say(cli, "nothing is kept any more; the token itself is good until it is revoked");
    return STATUS_DONE;
}

static const struct option_row login_options[] = {
    {"ca-hash", 0, "HASH", "Of the cluster's authority (mt cluster init, mt ca status): fetches its certificate, and keeps that.", NULL}, {0}};

const struct command_row cmd_login = {
    .name = "login", .options = login_options, .run = run_login, .summary = "keep a token, with where the servers are, for the commands to come",
    .help = "Reads the token from --token, MENTAT_TOKEN or standard input, asks the servers whose it is, and keeps it with\n"
            "--address, --ca and --namespace in ~/.config/mentat/mt.yaml, which nobody else may read. It is sent to no other address.",
};
const struct command_row cmd_logout = {
    .name = "logout", .run = run_logout, .summary = "forget what login kept",
};
