#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/roff.h"
#include "core/command.h"
#include "server/route.h"
#include "server/server.h"

static int print(struct buf *text)
{
    fwrite(text->data ? text->data : "", 1, text->len, stdout);
    return fflush(stdout) ? 1 : 0;
}

static int help(void)
{
    CLEANUP_BUF struct buf text = {0};
    buf_add_string(&text, "usage: mentat-server [--config FILE] [--KEY VALUE]…\n       mentat-server recover [--yes] [--config FILE] [--KEY VALUE]…\n\nThe control plane of Mentat. Keys "
                          "of the configuration file (" SERVER_CONFIG_FILE ") and flags:\n\n");
    config_help(&server_config_type, &text);
    buf_add_string(&text, "\n  --print-api-docs    the HTTP API as Markdown\n  --print-openapi     the HTTP API as "
                          "OpenAPI\n  --print-config-docs the configuration as Markdown\n  --man               the manual page, "
                          "as roff\n");
    return print(&text);
}

static void manual(struct buf *out)
{
    roff_page(out, "mentat-server", 8, "the control plane of Mentat");
    roff_heading(out, "SYNOPSIS");
    roff_text(out, "`mentat-server` [--config FILE] [--KEY VALUE]…");
    roff_heading(out, "DESCRIPTION");
    roff_text(out,
        "Keeps what is wanted and what is, decides which node runs what, and serves the HTTP API that mt(1), "
        "mentat-agent(8) and other programs speak. What it acknowledged is on disk.\n\n"
        "Without TLS it listens on loopback only, unless `--allow-insecure` is given. `--print-api-docs` prints the API as "
        "Markdown, `--print-openapi` as OpenAPI, `--print-config-docs` the configuration as Markdown.");
    config_manual(&server_config_type, SERVER_CONFIG_FILE, out);
    roff_heading(out, "SIGNALS");
    roff_item(out, "SIGTERM, SIGINT", "Answers what was asked, and ends. Agents and tasks go on.");
    roff_heading(out, "EXIT STATUS");
    roff_text(out, "0 when it was asked to end; 1 when it could not go on; 2 for wrong options or a wrong file.");
    roff_heading(out, "SEE ALSO");
    roff_text(out, "mt(1), mentat-agent(8)");
}

static void config_docs(struct buf *out)
{
    type_markdown(&server_config_type, out);
}

static const struct { const char *flag; void (*write)(struct buf *out); } texts[] = {
    {"--print-api-docs", route_markdown},
    {"--print-openapi", route_openapi},
    {"--print-config-docs", config_docs},
    {"--man", manual},
};

/* Takes "recover" and "--yes" out of the arguments. */
static int take_recover(int argc, char **argv, bool *really)
{
    int n = 1;
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], "--yes"))
            *really = true;
        else
            argv[n++] = argv[i];
    argv[n] = NULL;
    return n;
}

int main(int argc, char **argv)
{
    CLEANUP_BUF struct buf text = {0};
    for (size_t i = 0; argc == 2 && i < ARRAY_LEN(texts); i++)
        if (!strcmp(argv[1], texts[i].flag)) {
            texts[i].write(&text);
            return print(&text);
        }
    struct server_config config;
    struct error err = {0};
    bool recover = argc > 1 && !strcmp(argv[1], "recover"), really = false;
    if (recover)
        argc = take_recover(argc, argv, &really);
    int rc = server_config_load(argc, argv, &config, &err);
    if (rc == 1) {
        type_clear(&server_config_type, &config);
        return help();
    }
    if (rc == 2) {
        printf("mentat-server %s\n", command_release);
        type_clear(&server_config_type, &config);
        return 0;
    }
    log_init("server", rc ? LOG_INFO : (enum log_level)config.log_level);
    int status = 2;
    if (rc) {
        fprintf(stderr, "mentat-server: %s\n", err.text);
    } else {
        status = (recover ? server_recover(&config, really, &err) : server_run(&config, &err)) ? 1 : 0;
        if (status)
            fprintf(stderr, "mentat-server: %s\n", err.text);
    }
    type_clear(&server_config_type, &config);
    return status;
}
