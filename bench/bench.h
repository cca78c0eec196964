/* Bench: measurements, one file each. They print JSON lines: name, value, unit and the run's parameters. */
#pragma once

struct bench {
    const char *name;
    const char *usage;                        /* its arguments */
    const char *help;                         /* what it measures, in one line */
    int (*run)(int argc, char **argv);        /* argv[0] is its name; the exit status: 2 for wrong arguments */
};

extern const struct bench bench_scheduler;
