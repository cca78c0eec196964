#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/shim.h"
#include "base/roff.h"

static int print(const struct buf *text)
{
    fputs(text->data, stdout);
    return fflush(stdout) ? 1 : 0;
}

static int help(void)
{
    CLEANUP_BUF struct buf text = {0};
    buf_add_string(&text, "usage: mentat-agent [--config FILE] [--KEY VALUE]…\n\nRuns the tasks of one host. Keys of the "
                          "configuration file (" AGENT_CONFIG_FILE ") and flags:\n\n");
    config_help(&agent_config_type, &text);
    buf_add_string(&text, "\n  --print-config-docs the configuration as Markdown\n  --man               the manual page, as "
                          "roff\n");
    return print(&text);
}

static void manual(struct buf *out)
{
    roff_page(out, "mentat-agent", 8, "runs the tasks of one host");
    roff_heading(out, "SYNOPSIS");
    roff_text(out, "`mentat-agent` [--config FILE] [--KEY VALUE]…");
    roff_heading(out, "DESCRIPTION");
    roff_text(out,
        "Tells the servers what its host is, fetches what it shall run, runs it, and reports how it stands. Each exec task "
        "has a small process of this program as its parent, so that tasks, their logs and their exit status outlive the "
        "agent: it may be ended, killed or replaced at any time, and adopts what runs when it is there again.\n\n"
        "Without TLS its own API listens on loopback only, unless `--allow-insecure` is given.");
    config_manual(&agent_config_type, AGENT_CONFIG_FILE, out);
    roff_heading(out, "SIGNALS");
    roff_item(out, "SIGTERM, SIGINT", "Ends; tasks go on, unless `--stop-tasks-on-exit` is given.");
    roff_heading(out, "EXIT STATUS");
    roff_text(out, "0 when it was asked to end; 1 when it could not go on; 2 for wrong options or a wrong file.");
    roff_heading(out, "SEE ALSO");
    roff_text(out, "mt(1), mentat-server(8)");
}

static void config_docs(struct buf *out)
{
    type_markdown(&agent_config_type, out);
}

static const struct { const char *flag; void (*write)(struct buf *out); } texts[] = {
    {"--print-config-docs", config_docs},
    {"--man", manual},
};

int main(int argc, char **argv)
{
    if (shim_wanted(argc, argv))
        return shim_main();
    for (size_t i = 0; argc == 2 && i < ARRAY_LEN(texts); i++)
        if (!strcmp(argv[1], texts[i].flag)) {
            CLEANUP_BUF struct buf text = {0};
            texts[i].write(&text);
            return print(&text);
        }
    /* One arena: the workers' allocations are few, and each arena would keep its own free memory. */
    mallopt(M_ARENA_MAX, 1);
    struct agent_config config = {0};
    struct error err = {0};
    int rc = agent_config_load(argc, argv, &config, &err), status = 2;
    log_init("agent", rc ? LOG_INFO : (enum log_level)config.log_level);
    if (rc == 1) {
        status = help();
    } else if (rc == 2) {
        printf("mentat-agent %s\n", MENTAT_VERSION);
        status = 0;
    } else if (!rc) {
        status = agent_run(&config, &err) < 0 ? 1 : 0;
    }
    if (status && err.code)
        fprintf(stderr, "mentat-agent: %s\n", err.text);
    type_clear(&agent_config_type, &config);
    return status;
}
