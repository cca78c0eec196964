/* Firecracker driver: what its files share. A task is a virtual machine of its own behind a shim (shim_vm.c).
 *
 *   firecracker.c          the driver: probing, starting, adopting, removing
 *   firecracker_machine.c  one machine: its directory, drives and configuration; blocking, for a worker
 *   firecracker_network.c  bridge, addresses and rules; blocking, for a worker (see firecracker_network.h)
 *   firecracker_snapshot.c memory of machines that others begin with; blocking, for a worker
 *   firecracker_volume.c   block images of volumes; blocking, for a worker
 *   ../vm_image.h          images
 */
#pragma once
#include <stdatomic.h>
#include <sys/types.h>

#include "agent/drivers/firecracker_config.h"
#include "agent/drivers/shim_task.h"
#include "agent/vm_image.h"
#include "guest/drive.h"

#define FIRECRACKER_VERSION "1.7."   /* the API that is spoken is that of 1.7 */

struct machine_start;

struct firecracker {
    struct shim_tasks tasks;
    const struct driver_env *env;
    const struct firecracker_config *config;
    char *binary, *jailer;           /* paths; jailer NULL: without */
    char *dir;                       /* DATA_DIR/firecracker */
    char *runs;                      /* RUN_DIR/NAME OF BINARY: the machines' directories */
    struct vm_images *images;
    struct network *network;         /* NULL: machines have none */
    struct dns *dns;                 /* names for machines; NULL: those of the host's name servers alone */
    uint32_t dns_address;            /* that it was opened for, or could not be; 0: not yet */
    struct agent_network names;      /* what it answers from */
    bool following, follow_again;    /* a worker follows what the servers said, and there is more */
    bool followed;                   /* it did once: machines can be started */
    atomic_bool answers_names;       /* machines are told the bridge as their name server; read by workers */
    char *version, *trouble;         /* as last probed; trouble NULL: works */
    bool probing, closing;
    unsigned working;                /* workers, on the loop's side */
    unsigned preparing;              /* of these, machines being made ready, or a port; others wait in line */
    bool ports_wanted;               /* more of them may be made ready */
    struct machine_start *line, **line_end;
    uv_work_t probe;
    struct error probe_error;
    char probe_version[64];
    int64_t probed_at;
    uv_mutex_t lock;                 /* over what workers change together: numbers, bridge, rules */
    uv_timer_t *gc_timer, *rules_timer;
};

/* --- a machine --- */
struct machine_volume {
    char *image;                     /* file on the host */
    char *target;
    int64_t size_mb;
    bool read_only;
};

/* All that a worker needs to make one start ready, copied: the loop goes on meanwhile. */
struct machine {
    struct firecracker *f;           /* borrowed; the driver is not closed while workers work */
    char *id;                        /* ALLOC-RUN: of the jail, the slot and the directory; never used twice */
    char *alloc_id, *alloc_dir, *service, *job;
    int64_t replica;
    uint64_t run;
    struct config config;
    struct kv_list env;
    struct resources resources;
    struct logs logs;
    struct alloc_port_list ports;
    struct machine_volume *volumes;
    uint32_t n_volumes;
    char *monitor_version;
    /* set by machine_prepare */
    char *snapshot;                  /* where one of its version is, or may be kept; NULL: it has none to do with it */
    bool resumes;                    /* it begins with that */
    int slot;                        /* number on this node: address and user come from it */
    struct shim_spec shim;
};
/* Copies what the spec has. */
struct machine *machine_new(struct firecracker *f, const struct task_spec *spec);
void machine_free(struct machine *m);
/* Makes everything ready, m->shim at the end. When it fails, nothing is left. */
int machine_prepare(struct machine *m, struct error *err);
/* Who the monitor of machine number `slot` runs as. */
uid_t machine_uid(const struct firecracker *f, int slot);
/* Takes away what a machine of this id has outside of its allocation's directory; nothing of it runs any more. */
void machine_clean(struct firecracker *f, const char *id);
/* machine_clean for a machine, for those of an allocation, or (NULL) for all whose shim is gone; what of these still runs
 * is killed. */
void machines_sweep(struct firecracker *f, const char *which);

/* The requests that configure a machine, in order. Pure. Paths are as the monitor sees them. */
struct machine_drive { const char *id, *path; bool read_only; };
struct machine_plan {
    int64_t vcpus, memory_mb, balloon_mb;        /* balloon_mb 0: none */
    const char *kernel, *initrd, *kernel_args;
    const char *log, *metrics, *vsock;   /* NULL: none */
    const struct machine_drive *drives;
    uint32_t n_drives;
    const char *tap, *mac;           /* NULL: no network */
    const char *metadata;            /* JSON that the guest may ask for; needs the network; NULL: none */
    struct rate_limits limits;
};
void machine_requests(const struct machine_plan *plan, struct str_list *out);
/* Kernel command line; extra may be NULL. */
char *machine_kernel_args(const char *extra);

/* Those of a machine that begins with a snapshot: of the plan log, metrics and metadata count. */
void machine_resume_requests(const struct machine_plan *plan, const char *state, const char *memory, struct str_list *out);

/* --- snapshots --- */
#define SNAPSHOT_STATE "snapshot_state"
#define SNAPSHOT_MEMORY "snapshot_memory"
#define SNAPSHOT_SERIAL "serial"
/* The directory of the snapshot that fits a machine; the caller's. */
char *snapshot_dir(const struct machine *m, const char *image, const char *kernel, const char *initrd);
bool snapshot_there(const char *dir);            /* to be used now */
bool snapshot_on_serial(const char *dir);        /* its guest speaks over the serial line */
/* False: there is one, or another machine makes it. Else it ends with one of the two that follow. */
bool snapshot_begin_dir(const char *dir);
/* ERROR_NO_SPACE: the disk has not enough for what the machine writes and, beside it, what is kept. */
int snapshot_room(const struct firecracker *f, const char *alloc_dir, int64_t memory_mb, struct error *err);
int snapshot_keep(const char *dir, const char *alloc_dir, bool on_serial, struct error *err);
void snapshot_give_up(const char *dir);
void snapshot_forget_files(const char *alloc_dir);
void snapshot_drop_dir(const char *dir);         /* it is of no use */
/* Those that are old, or too many; what an earlier agent did not finish. */
void snapshots_collect(const struct firecracker *f);
void snapshots_sweep(const struct firecracker *f);

/* --- numbers: each machine of a node has one; kept as links DIR/slots/NUMBER -> ID --- */
/* The first free number from `first` to `last`. ERROR_UNAVAILABLE when there is none. */
int slot_take(const char *dir, const char *id, int first, int last, int *slot, struct error *err);
/* The number of an id; -1: it has none. */
int slot_find(const char *dir, const char *id);
void slot_free(const char *dir, int slot);
bool slot_taken(const char *dir, int slot);
/* Every id that has a number. */
void slots_list(const char *dir, struct str_list *ids);

/* --- network --- */
struct network;
/* ERROR_INVALID: the configuration is wrong; ERROR_DENIED: not allowed here. */
int network_open(struct firecracker *f, struct network **out, struct error *err);
void network_close(struct network *n);
/* For the loop. What this node asks the servers for; what they say (NULL: they are of a release that says nothing), which
 * network_follow takes over. */
const char *network_wanted(const struct network *n);
void network_tell(struct network *n, const struct agent_network *table);
/* For the loop: the bridge's address, 0: there is none yet; the job of the machine that has an address, the caller's, NULL:
 * none has. */
uint32_t network_bridge_address(struct network *n);
char *network_job_of(struct network *n, uint32_t address);
/* Takes a number for a machine. ERROR_UNAVAILABLE: there is none left, or no network; ERROR_CONFLICT: the network is somebody
 * else's too. From then on until the last number is free addresses stay what they are. */
int network_slot(struct network *n, const char *id, int *slot, struct error *err);
/* "10.88.0.7"; "10.88.0.7/24"; "06:00:0a:58:00:07"; the name of its port of the bridge. The caller's. */
char *network_address(const struct network *n, int slot);
char *network_address_bits(const struct network *n, int slot);
char *network_gateway(const struct network *n);
char *network_mac(const struct network *n, int slot);
int network_mtu(const struct network *n);
/* The port of a machine that has a number, the caller's: one that is ready, or what its shim is to make. */
struct shim_port network_port(struct network *n, int slot);
/* Makes a port ready for a machine to come. False: that failed, or there are enough of them, or no machines here. */
bool network_port_prepare(struct network *n);
/* When no machine has a number, no port is kept ready any more. */
void network_ports_rest(struct network *n);
/* Follows what the servers said last, and what machines came and went. */
void network_follow(struct network *n);
/* Bridge and rules are made with the first machine; network_follow must come after both. */
int network_attach(struct network *n, int slot, const struct machine *m, struct error *err);
void network_detach(struct network *n, int slot);
/* The bridge and the rules go too, when no machine has a number any more. */
void network_remove(struct network *n);
