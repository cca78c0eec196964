#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shim.h"
#include "base/log.h"
#include "base/mem.h"
#include "bench.h"

static const struct bench *const benches[] = {
    &bench_scheduler,
    &bench_submit,
    &bench_idle,
    &bench_api,
    &bench_commit,
    &bench_state,
    &bench_agents,
    &bench_ingress,
    &bench_docker,
    &bench_firecracker,
};

int bench_count(const char *text, int64_t max, int64_t *out)
{
    char *end;
    *out = strtoll(text, &end, 10);
    return end != text && !*end && *out >= 1 && *out <= max ? 0 : -1;
}

static int usage(FILE *to)
{
    fputs("usage: mentat-bench NAME [arguments]\n", to);
    for (size_t i = 0; i < ARRAY_LEN(benches); i++)
        fprintf(to, "  %s %s\n      %s\n", benches[i]->name, benches[i]->usage, benches[i]->help);
    return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    /* The parts that a microVM's driver starts of this program. */
    if (shim_wanted(argc, argv))
        return shim_main();
    if (strstr(argv[0], "firecracker"))
        return bench_monitor(argc, argv);
    log_init("bench", LOG_WARN);
    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--help") == 0)
        return usage(stdout);
    for (size_t i = 0; i < ARRAY_LEN(benches); i++)
        if (strcmp(argv[1], benches[i]->name) == 0) {
            int status = benches[i]->run(argc - 1, argv + 1);
            if (status == 2)
                fprintf(stderr, "usage: mentat-bench %s %s\n", benches[i]->name, benches[i]->usage);
            return status;
        }
    fprintf(stderr, "mentat-bench: no measurement is called %s\n", argv[1]);
    return usage(stderr);
}
