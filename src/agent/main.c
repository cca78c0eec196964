#include <malloc.h>
#include <stdio.h>

#include "agent/agent.h"
#include "agent/shim.h"

static int help(void)
{
    CLEANUP_BUF struct buf text = {0};
    buf_add_string(&text, "usage: mentat-agent [--config FILE] [--KEY VALUE]…\n\nRuns the tasks of one host. Keys of the "
                          "configuration file (" AGENT_CONFIG_FILE ") and flags:\n\n");
    config_help(&agent_config_type, &text);
    buf_add_string(&text, "\n  --help, --version\n");
    fputs(text.data, stdout);
    return fflush(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (shim_wanted(argc, argv))
        return shim_main();
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
