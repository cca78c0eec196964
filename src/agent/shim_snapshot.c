/* A copy of a machine's memory, and a machine that begins as one.
 *
 * The guest is told to HOLD: its service stands still, it has said everything, then, and says nothing until GO, so that neither
 * it nor its copies have anything half said, or draw the same random numbers. The machine is paused, its monitor writes the
 * files, it goes on. Its vsock connection is lost on the way, and made anew by the guest: what is for it waits for that. A copy
 * finds its IDENTITY in the line before anything else. */
#include <string.h>

#include "agent/shim_internal.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "guest/drive.h"
#include "guest/frame.h"

#define HOLD_MS 5000                 /* the guest takes to say HELD */
#define READY_MS 5000                /* and to come back */
#define SLOWEST_MB_PER_S 5           /* of disks that memory is written to */

static void go_end(struct shim *s)
{
    struct snapshot_go *g = vm_snapshot(s);
    for (unsigned i = 0; i < s->n_connections; i++)
        if (!s->connections[i].pid)
            shim_message_send(s->connections[i].fd, &(struct shim_message){
                .kind = SHIM_SNAPSHOT_MADE, .code = vm_speaks_serial(s), .error = g->error});
    snapshot_drop(g);
    vm_hold(s, false);
}

void snapshot_drop(struct snapshot_go *g)
{
    free(g->state);
    free(g->memory);
    *g = (struct snapshot_go){0};
}

void snapshot_begin(struct shim *s, const struct shim_message *m)
{
    struct snapshot_go *g = vm_snapshot(s);
    if (m->args.n != 2 || g->state)
        return;                      /* the one under way answers */
    g->state = mem_strdup(m->args.v[0]);
    g->memory = mem_strdup(m->args.v[1]);
    if (!vm_is_quiet(s)) {
        error_set(&g->error, ERROR_CONFLICT, "commands run in the machine, or it does not run itself");
        go_end(s);
        return;
    }
    g->until = time_monotonic_ms() + HOLD_MS;
    vm_frame_send(s, &(struct frame){.kind = FRAME_HOLD});
    vm_hold(s, true);
}

/* The machine stands still for as long as its memory takes to be written. */
static void write_files(struct shim *s, struct snapshot_go *g)
{
    CLEANUP_FREE char *request = mem_printf("PUT /snapshot/create\n{\"snapshot_type\": \"Full\", \"snapshot_path\": \"%s\", "
                                            "\"mem_file_path\": \"%s\"}", g->state, g->memory);
    if (vm_pause(s, true, &g->error) < 0)
        return;
    /* The monitor answers nothing else meanwhile: who gave up earlier could not let the machine go on. */
    vmm_ask(s->spec.vm.api, request, VMM_PATIENCE_S + (int)(s->spec.vm.memory_mb / SLOWEST_MB_PER_S), &g->error);
    if (vm_pause(s, false, &g->error) < 0)
        shim_kill(s);                /* it would stand still for ever */
}

void snapshot_held(struct shim *s, uint32_t not)
{
    struct snapshot_go *g = vm_snapshot(s);
    if (!g->state || g->written)
        return;
    bool paused = vm_is_paused(s);   /* by somebody meanwhile, and would go on */
    if (not == FRAME_HELD_RUNS)
        error_set(&g->error, ERROR_UNSUPPORTED, "the guest's processes cannot be made to stand still: its kernel needs control "
                  "groups (CONFIG_CGROUPS) and must be 5.2 or newer, or one of them waits for a device");
    else if (not || paused)
        error_set(&g->error, ERROR_CONFLICT, not ? "commands run in the machine" : "the machine is paused");
    else
        write_files(s, g);
    g->written = true;
    g->until = time_monotonic_ms() + READY_MS;
    if (not || paused || vm_speaks_serial(s))
        go_end(s);
}

void snapshot_ready(struct shim *s)
{
    if (vm_snapshot(s)->written)
        go_end(s);
}

void snapshot_tick(struct shim *s)
{
    struct snapshot_go *g = vm_snapshot(s);
    if (!g->until || time_monotonic_ms() < g->until)
        return;
    if (!g->written)
        error_set(&g->error, ERROR_TIMEOUT, "the guest does not say that it holds still");
    go_end(s);
}

/* What both a copy and the machine it is of need before they go on: the time, and a seed of their own. */
static void head_add(struct buf *b)
{
    uint8_t seed[FRAME_SEED_SIZE];
    uint64_t now = (uint64_t)time_now_ms();
    random_system(seed, sizeof seed);
    buf_add_u32(b, (uint32_t)now);
    buf_add_u32(b, (uint32_t)(now >> 32));
    buf_add(b, seed, sizeof seed);
    explicit_bzero(seed, sizeof seed);
}

void go_send(struct shim *s)
{
    CLEANUP_WIPE struct buf b = {0};
    head_add(&b);
    vm_frame_send(s, &(struct frame){.kind = FRAME_GO, .data = (uint8_t *)b.data, .n = b.len});
}

int identity_send(struct shim *s, struct error *err)
{
    CLEANUP_BUF struct buf drive = {0};
    CLEANUP_WIPE struct buf b = {0};
    if (file_read(s->spec.vm.identity, DRIVE_MAX, &drive, err) < 0)
        return -1;
    head_add(&b);
    buf_add(&b, drive.data, drive.len);
    for (size_t at = 0; at < b.len; at += FRAME_DATA_MAX) {
        bool more = b.len - at > FRAME_DATA_MAX;
        vm_frame_send(s, &(struct frame){.kind = FRAME_IDENTITY, .stream = more, .data = (uint8_t *)b.data + at,
                                         .n = more ? FRAME_DATA_MAX : b.len - at});
    }
    return 0;
}
