#include <stdio.h>
#include <string.h>

#include "base/log.h"
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
    buf_add_string(&text, "usage: mentat-server [--config FILE] [--KEY VALUE]…\n\nThe control plane of Mentat. Keys "
                          "of the configuration file (" SERVER_CONFIG_FILE ") and flags:\n\n");
    config_help(&server_config_type, &text);
    buf_add_string(&text, "\n  --print-api-docs    the HTTP API as Markdown\n  --print-openapi     the HTTP API as "
                          "OpenAPI\n  --help, --version\n");
    return print(&text);
}

int main(int argc, char **argv)
{
    CLEANUP_BUF struct buf text = {0};
    if (argc == 2 && !strcmp(argv[1], "--print-api-docs")) {
        route_markdown(&text);
        return print(&text);
    }
    if (argc == 2 && !strcmp(argv[1], "--print-openapi")) {
        route_openapi(&text);
        return print(&text);
    }
    struct server_config config;
    struct error err = {0};
    int rc = server_config_load(argc, argv, &config, &err);
    if (rc == 1) {
        type_clear(&server_config_type, &config);
        return help();
    }
    if (rc == 2) {
        printf("mentat-server %s\n", MENTAT_VERSION);
        type_clear(&server_config_type, &config);
        return 0;
    }
    log_init("server", rc ? LOG_INFO : (enum log_level)config.log_level);
    int status = 2;
    if (rc) {
        fprintf(stderr, "mentat-server: %s\n", err.text);
    } else {
        status = server_run(&config, &err) ? 1 : 0;
        if (status)
            fprintf(stderr, "mentat-server: %s\n", err.text);
    }
    type_clear(&server_config_type, &config);
    return status;
}
