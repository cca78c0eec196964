/* The ingress: bench/ingress.py, which stands on what the tests of the ingress stand on. */
#include "bench.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* Beside the build that this program is in: build/bin/mentat-bench. */
static char *script_path(void)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    for (int up = 0; up < 3; up++)
        *(strrchr(self, '/') ? strrchr(self, '/') : self) = '\0';
    return mem_printf("%s/bench/ingress.py", self);
}

static int run(int argc, char **argv)
{
    CLEANUP_FREE char *script = script_path();
    const char *const first[] = {"python3", script};
    CLEANUP_FREE const char **args = mem_array((size_t)argc + ARRAY_LEN(first), sizeof *args);
    memcpy(args, first, sizeof first);
    memcpy(args + ARRAY_LEN(first), argv + 1, (size_t)argc * sizeof *args);      /* with the NULL at its end */
    execvp(args[0], (char *const *)args);
    fprintf(stderr, "mentat-bench ingress: cannot run python3 %s: %s\n", script, strerror(errno));
    return 1;
}

const struct bench bench_ingress = {
    .name = "ingress", .usage = "[--seconds N] [--services N] [--rounds N] [--replicas N]", .run = run,
    .help = "the managed HAProxy beside one by hand, how fast it follows, and how long deployments take; needs haproxy and wrk",
};
