/* The core under random clusters in virtual time. `sim --seed N` replays one case, `--verbose` shows its commands,
 * `sim --cases N --seed-base B` runs many. The seed alone says how big the case is. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

/* Most cases are small; one in a few thousand is as big as clusters get. */
static struct knobs draw_knobs(uint64_t seed)
{
    struct random r = {.state = hash_mix(seed)};
    uint64_t kind = random_below(&r, 20000);
    if (kind == 0)
        return (struct knobs){.nodes = 10000, .steps = 20, .services = 6, .count = 3000, .second = true};
    if (kind <= 5)
        return (struct knobs){.nodes = 1000, .steps = 25, .services = 6, .count = 800, .second = true};
    if (kind < 100)
        return (struct knobs){.nodes = 50, .steps = 80, .services = 9, .count = 30, .second = true};
    return (struct knobs){.nodes = 1 + (uint32_t)random_below(&r, 5), .steps = 15 + (uint32_t)random_below(&r, 30),
                          .services = 1 + (uint32_t)random_below(&r, 5), .count = 4, .second = random_below(&r, 100) < 30,
                          .check_each = true};
}

static void step(struct world *w)
{
    static const int64_t leaps[] = {10, 200, 1000, 3000, 6000, 12000, 30000, 90000};
    w->now += 1 + (int64_t)random_below(&w->r, (uint64_t)leaps[random_below(&w->r, ARRAY_LEN(leaps))]);
    if (chance(w, 2))
        w->now += 3600 * 1000;
    world_deliver(w);
    for (uint64_t n = random_below(&w->r, 3); n > 0 && !world_failed(w); n--)
        action_random(w);
    agents_run(w);
    world_deliver(w);
    if (chance(w, 90))
        world_decide(w);
    if (!w->k.check_each)
        check_invariants(w);
}

static bool run_case(uint64_t seed, bool verbose, uint64_t *commands, uint64_t *placements)
{
    struct world w;
    struct knobs k = draw_knobs(seed);
    k.verbose = verbose;
    world_init(&w, seed, &k);
    agents_run(&w);
    action_submit(&w);
    for (uint32_t i = 0; i < k.steps && !world_failed(&w); i++)
        step(&w);
    if (!world_failed(&w))
        world_settle(&w);
    world_compare(&w);
    *commands += w.commands;
    *placements += w.placements;
    bool ok = !world_failed(&w);
    if (!ok && verbose)
        world_show(&w);
    if (!ok)
        printf("seed %" PRIu64 ", index %" PRIu64 ": %s\nreplay: sim --seed %" PRIu64 " --verbose\n", seed, w.index,
               w.failure, seed);
    world_clear(&w);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"cases", required_argument, NULL, 'c'},
                                            {"seed-base", required_argument, NULL, 'b'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {0}};
    uint64_t cases = 1, base = 1, commands = 0, placements = 0, failed = 0;
    bool verbose = false;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case 's': base = strtoull(optarg, NULL, 10); cases = 1; break;
        case 'c': cases = strtoull(optarg, NULL, 10); break;
        case 'b': base = strtoull(optarg, NULL, 10); break;
        case 'v': verbose = true; break;
        default: fprintf(stderr, "usage: sim [--seed N] [--cases N --seed-base B] [--verbose]\n"); return 2;
        }
    for (uint64_t i = 0; i < cases && failed < 10; i++)
        failed += !run_case(base + i, verbose, &commands, &placements);
    printf("%" PRIu64 " cases, %" PRIu64 " failed, %" PRIu64 " commands, %" PRIu64 " placements\n", cases, failed,
           commands, placements);
    return failed ? 1 : 0;
}
