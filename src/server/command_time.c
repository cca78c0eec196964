#include "server/command_time.h"

#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "server/control.h"

#define JUMP_MS 1000             /* less is no matter, and another leader's commands come late by some time */
#define AGAIN_MS 1000

void command_time_applied(struct control *c)
{
    c->time.applied_ms = time_monotonic_ms();
}

void command_time_begin(struct control *c)
{
    struct command_time *t = &c->time;
    *t = (struct command_time){.applied_ms = t->applied_ms, .wall_ms = core_time(c->core), .monotonic_ms = t->applied_ms,
                               .leadership = t->leadership + 1};
}

/* A COMMAND_CLOCK on its way. */
struct word { struct proposal proposal; uint64_t leadership; int64_t by_ms; };

static void on_told(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct control *c = ctx;
    struct command_time *t = &c->time;
    struct word *w = request;
    if (w->leadership == t->leadership) {
        t->telling = false;
        if (outcome == CONSENSUS_COMMITTED) {
            c->look = true;
        } else {
            t->wall_ms -= w->by_ms;
            t->again_ms = time_monotonic_ms() + AGAIN_MS;
        }
    }
    core_result_clear(&w->proposal.result);
    free(w);
}

static void tell(struct control *c, int64_t now, int64_t by)
{
    CLEANUP_BUF struct buf command = {0};
    struct command_clock clock = {.by = by};
    LOG_W("the clock of commands jumps; what waits for time to pass is told", "by_ms", LOG_I64(by));
    command_encode_payload(COMMAND_CLOCK, now, NULL, NULL, &clock, &command);
    struct word *w = NEW(struct word);
    w->leadership = c->time.leadership;
    w->by_ms = by;
    c->time.telling = true;
    consensus_propose(c->consensus, command.data, command.len, on_told, w);
}

/* The time for a command: the wall clock, or, while the state does not know of a jump, the time that it was without. */
static int64_t look(struct control *c)
{
    struct command_time *t = &c->time;
    int64_t now = time_now_ms(), monotonic = time_monotonic_ms();
    if (c->role != CONSENSUS_LEADER)
        return now;
    int64_t expected = t->wall_ms ? t->wall_ms + monotonic - t->monotonic_ms : now, by = now - expected;
    t->jumps = (by >= JUMP_MS || by <= -JUMP_MS) && core_level(c->core) >= command_kind_level(COMMAND_CLOCK);
    if (t->jumps && (t->telling || monotonic < t->again_ms))
        return expected;
    t->wall_ms = now;
    t->monotonic_ms = monotonic;
    if (t->jumps)
        tell(c, now, by);
    t->jumps = false;
    return now;
}

void command_time_propose(struct control *c, void *bytes, size_t len, consensus_done done, void *request)
{
    command_stamp(bytes, len, look(c));
    consensus_propose(c->consensus, bytes, len, done, request);
}

bool command_time_settled(struct control *c)
{
    look(c);
    return !c->time.jumps && !c->time.telling;
}
