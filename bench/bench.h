/* Bench: measurements, one file each. They print JSON lines: name, value, unit and the run's parameters. */
#pragma once
#include <stdint.h>


struct bench {
    const char *name;
    const char *usage;                        /* its arguments */
    const char *help;                         /* what it measures, in one line */
    int (*run)(int argc, char **argv);        /* argv[0] is its name; the exit status: 2 for wrong arguments */
};

/* A whole number from 1 to max out of an argument. 0, or -1. */
int bench_count(const char *text, int64_t max, int64_t *out);

extern const struct bench bench_scheduler, bench_submit, bench_idle, bench_api, bench_commit, bench_state, bench_docker,
    bench_firecracker, bench_agents, bench_ingress;

/* The monitor that `firecracker` measures with. */
int bench_monitor(int argc, char **argv);
