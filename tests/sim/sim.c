/* The core under random clusters in virtual time. `sim --seed N` replays one case, `--verbose` shows its commands,
 * `sim --cases N --seed-base B` runs many, on all processors. The seed alone says how big the case is. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "breaks.h"
#include "world.h"

#define WORKERS_MOST 64
#define FAILURES_MOST 10
#define CASE_SECONDS_MOST 600            /* a big case takes a few seconds */
#define COUNTED_FROM 10000               /* so many cases must have gone through everything that is counted */

struct options { uint64_t base, cases; unsigned jobs; bool verbose; const char *breaks; };

/* Most cases are small; a few in 100,000 are as big as clusters get. */
static struct knobs draw_knobs(uint64_t seed)
{
    static const uint32_t servers[] = {1, 1, 1, 1, 3, 3, 3, 3, 3, 5};
    struct random r = {.state = hash_mix(seed)};
    uint64_t kind = random_below(&r, 50000);
    uint32_t n = servers[random_below(&r, ARRAY_LEN(servers))];
    if (kind == 0)
        return (struct knobs){.nodes = 10000, .steps = 20, .services = 6, .count = 3000, .servers = 3, .trouble = 2};
    if (kind <= 5)
        return (struct knobs){.nodes = 1000, .steps = 25, .services = 6, .count = 800, .servers = n, .trouble = 5};
    if (kind < 250)
        return (struct knobs){.nodes = 50, .steps = 80, .services = 9, .count = 30, .servers = n, .trouble = 20};
    return (struct knobs){.nodes = 1 + (uint32_t)random_below(&r, 5), .steps = 15 + (uint32_t)random_below(&r, 30),
                          .services = 1 + (uint32_t)random_below(&r, 5), .count = 4, .servers = n, .trouble = 50,
                          .check_each = true};
}

static void step(struct world *w)
{
    static const int64_t leaps[] = {10, 200, 1000, 3000, 6000, 12000, 30000, 90000};
    w->now += 1 + (int64_t)random_below(&w->r, (uint64_t)leaps[random_below(&w->r, ARRAY_LEN(leaps))]);
    if (chance(w, 2))
        w->now += chance(w, 80) ? 3600 * 1000 : (int64_t)random_below(&w->r, 75 * 3600 * 1000);
    world_deliver(w);
    for (uint64_t n = random_below(&w->r, 3); n > 0 && !world_failed(w); n--)
        action_random(w);
    agents_run(w);
    world_deliver(w);
    if (chance(w, 90))
        servers_decide(w);
    if (!w->k.check_each)
        check_invariants(w, w->s.front);
    check_kept(w, w->s.front);
    check_ended(w, w->s.front);
}

static void show_failure(uint64_t seed, const char *what)
{
    printf("seed %" PRIu64 ": %s\nreplay: %s --seed %" PRIu64 " --verbose\n", seed, what, program_invocation_name, seed);
    fflush(stdout);
}

static bool run_case(uint64_t seed, bool verbose, struct counts *counts, bool *noticed)
{
    struct world w;
    struct knobs k = draw_knobs(seed);
    k.verbose = verbose;
    world_init(&w, seed, &k, counts);
    agents_run(&w);
    action_submit(&w);
    for (uint32_t i = 0; i < k.steps && !world_failed(&w); i++)
        step(&w);
    if (!world_failed(&w))
        world_settle(&w);
    if (!world_failed(&w))
        servers_compare(&w);
    bool ok = !world_failed(&w);
    if (!ok && verbose)
        show_state(&w);
    if (!ok)
        show_failure(seed, w.failure);
    *noticed = !ok && broken && break_is_noticed(w.failure);
    world_clear(&w);
    return ok;
}

/* --- many cases: each worker is a process, so that a case that crashes is a failed seed like another --- */

struct worker { uint64_t seed; struct counts counts; };
struct shared {
    _Atomic uint64_t next, failed, noticed;
    struct worker workers[WORKERS_MOST];
};

static void work(struct shared *shared, struct worker *me, const struct options *o)
{
    for (;;) {
        uint64_t i = shared->next++;
        if (i >= o->cases || shared->failed >= FAILURES_MOST)
            return;
        me->seed = o->base + i;
        alarm(CASE_SECONDS_MOST);
        bool noticed;
        shared->failed += !run_case(me->seed, o->verbose, &me->counts, &noticed);
        shared->noticed += noticed;
    }
}

static pid_t start(struct shared *shared, struct worker *me, const struct options *o)
{
    pid_t pid = fork();
    INVARIANT(pid >= 0);
    if (pid)
        return pid;
    work(shared, me, o);
    fflush(stdout);
    _exit(0);
}

/* A worker that crashed is replaced, for the seeds that are left. */
static void await(struct shared *shared, uint32_t n, const struct options *o)
{
    pid_t pids[WORKERS_MOST] = {0};
    for (uint32_t i = 0; i < n; i++)
        pids[i] = start(shared, &shared->workers[i], o);
    for (uint32_t i = 0; i < n; i++)
        for (int status = 0; waitpid(pids[i], &status, 0) == pids[i] && WIFSIGNALED(status);) {
            int sig = WTERMSIG(status);
            show_failure(shared->workers[i].seed, sig == SIGALRM ? "it has no end" : strsignal(sig));
            shared->failed++;
            pids[i] = start(shared, &shared->workers[i], o);
        }
}

/* True when everything happened that had to. */
static bool show_counts(const struct shared *shared, uint64_t cases)
{
#define COUNT_TEXT(name, text) text,
    static const char *const texts[] = {COUNTS(COUNT_TEXT)};
#undef COUNT_TEXT
    bool all = true;
    for (int c = 0; c < COUNT_COUNT; c++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < WORKERS_MOST; i++)
            sum += shared->workers[i].counts.v[c];
        printf("%12" PRIu64 " %s\n", sum, texts[c]);
        if (sum || cases < COUNTED_FROM)
            continue;
        printf("it never happened: %s\n", texts[c]);
        all = false;
    }
    return all;
}

/* What is broken on purpose must be noticed by the check that is there for it; then this fails, as it should. */
static int run(const struct options *o)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    INVARIANT(shared != MAP_FAILED);
    if (o->jobs > 1 && o->cases > 1)
        await(shared, o->jobs, o);
    else
        work(shared, &shared->workers[0], o);
    bool ok = show_counts(shared, o->breaks ? 0 : o->cases) && !(o->breaks ? shared->noticed : shared->failed);
    printf("%" PRIu64 " cases, %" PRIu64 " failed\n", o->cases, shared->failed);
    if (o->breaks)
        printf("broken %s: %s\n", o->breaks, ok ? "not noticed by its check" : "noticed");
    munmap(shared, sizeof(*shared));
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"cases", required_argument, NULL, 'c'},
                                            {"seed-base", required_argument, NULL, 'b'},
                                            {"jobs", required_argument, NULL, 'j'},
                                            {"break", required_argument, NULL, 'k'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {0}};
    struct options to = {.base = 1, .cases = 1};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case 's': to.base = strtoull(optarg, NULL, 10); to.cases = 1; break;
        case 'c': to.cases = strtoull(optarg, NULL, 10); break;
        case 'b': to.base = strtoull(optarg, NULL, 10); break;
        case 'j': to.jobs = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'k': to.breaks = optarg; break;
        case 'v': to.verbose = true; break;
        default:
            fprintf(stderr, "usage: sim [--seed N] [--cases N --seed-base B --jobs J] [--break WHAT] [--verbose]\n");
            return 2;
        }
    if (to.breaks && !break_on_purpose(to.breaks)) {
        fprintf(stderr, "sim: %s: nothing that could be broken; tests/sim/breaks.c has the list\n", to.breaks);
        return 2;
    }
    if (!to.jobs)
        to.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    to.jobs = to.jobs < WORKERS_MOST ? to.jobs : WORKERS_MOST;
    return run(&to);
}
