/* Shim: what its files share. shim.c is the loop and the ends of processes; shim_vm.c adds what is different when the
 * task is a virtual machine: its process is the monitor (VMM), and the service is spoken to through it. */
#pragma once
#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#include "agent/logfile.h"
#include "agent/shim_child.h"
#include "agent/shim_protocol.h"

#define CONNECTIONS_MAX 64
/* How many descriptors a virtual machine adds to a turn of the loop: lines, and three for each command. */
#define VM_FDS_MAX 64

struct shim_vm;
struct frame;

/* Secrets on their way to a guest (shim_secrets.c): one go after the other, piece by piece. */
struct secret_go {
    struct buf bytes;                /* of this go; empty: none is under way */
    size_t at, piece;                /* what was taken; what was sent since */
    int signal;                      /* after it; 0: none */
    bool again;                      /* another go follows: */
    struct str_list next;            /* its files */
    int next_signal;
};

/* What shim_snapshot.c keeps of a snapshot under way. */
struct snapshot_go {
    char *state, *memory;            /* files, as the monitor sees them; NULL: none is under way */
    bool written;
    int64_t until;                   /* monotonic: it is waited for the guest's word */
    struct error error;
};

struct connection {
    int fd;
    pid_t pid;                       /* the command that belongs to it, while it lives; in a guest: its number */
};

struct shim {
    struct shim_spec spec;
    struct account account;
    struct shim_vm *vm;              /* NULL: the task is a process of this host */
    int signal_fd, exit_fd;
    int output[LOG_STREAM_COUNT];    /* -1: closed */
    struct output_pace {
        int64_t read_at, rests_until; /* monotonic; 0: never, it does not rest */
        bool roomy;                  /* the pipe was made larger */
    } paces[LOG_STREAM_COUNT];
    struct log_writer logs[LOG_STREAM_COUNT];
    struct connection connections[CONNECTIONS_MAX];
    unsigned n_connections;
    pid_t pid;
    bool running;                    /* told, or to be told, to whoever connects */
    bool ended, childless, kill_sent;
    int stop_signal;
    int64_t kill_at, stop_timeout_ms;   /* monotonic; 0: no stop in progress */
    int64_t lease_until;             /* monotonic; 0: none, or over */
    bool lease_over;                 /* that is why it was ended */
    int64_t start_by;                /* a virtual machine's service runs by then; 0: it does */
    int64_t childless_at;
    struct task_exit how;
    struct error failed;             /* it never came to run */
    char buffer[SHIM_MESSAGE_MAX];
};

int shim_message_send(int fd, const struct shim_message *m);
/* The task runs: everybody who is connected is told. */
void shim_running(struct shim *s);
/* SIGKILL to the task's whole tree. */
void shim_kill(struct shim *s);
/* Words for an end by `signal` or with `code`, both in s->how already. */
void shim_describe(struct shim *s, bool oom, int64_t memory_mb);
/* The connection that a command belongs to; NULL: gone. */
struct connection *shim_connection_of(struct shim *s, pid_t command);

/* --- shim_vm.c; s->vm is set --- */
/* Before the monitor is started: the volumes' locks, the console's file, the socket for vsock, the network. */
int vm_open(struct shim *s, struct error *err);
/* Configures and starts the machine whose monitor was just started, with the other end of its stdin (taken). When it
 * fails, nothing runs. */
int vm_start(struct shim *s, int stdin_fd, struct error *err);
void vm_output(struct shim *s, int stream, const char *bytes, size_t n);
/* Both give false when the guest cannot be asked (yet, or any more). */
bool vm_signal(struct shim *s, int signal);
bool vm_exec(struct shim *s, struct connection *c, const struct shim_message *m, const int *fds, struct error *err);
/* Lets the machine stand still, or go on; nothing when it does already. */
int vm_pause(struct shim *s, bool paused, struct error *err);
/* How much the guest gives back, in MB. ERROR_SYSTEM: it cannot, or has no balloon. */
int vm_balloon(struct shim *s, int mb, struct error *err);
void vm_resize(struct shim *s, struct connection *c, const struct shim_message *m);
void vm_exec_end(struct shim *s, struct connection *c);
/* What is known of the monitor is told to a connection that begins. */
void vm_greet(struct shim *s, int fd);
/* Files of the secrets directory were replaced. */
void vm_secrets_changed(struct shim *s, const struct shim_message *m);
/* start_by has come: a machine whose service does not run yet is ended. */
void vm_late(struct shim *s);
/* kill_at has come: true when the guest was given a last moment of its own. */
bool vm_kill_guest(struct shim *s);
/* The monitor has ended with this status: s->how or s->failed is set from what the guest said before. */
void vm_describe(struct shim *s, int status);
unsigned vm_poll(struct shim *s, struct pollfd *p);
/* When there is something to do that no descriptor tells of, monotonic; 0: nothing. */
int64_t vm_due(const struct shim *s);
void vm_polled(struct shim *s, const struct pollfd *p, unsigned n);
void vm_close(struct shim *s);

/* For shim_secrets.c. */
struct secret_go *vm_secrets(struct shim *s);
void vm_frame_send(struct shim *s, const struct frame *f);

/* --- shim_secrets.c --- */
/* The guest is there: it gets everything. */
void secrets_begin(struct shim *s);
void secrets_changed(struct shim *s, const struct str_list *files, int signal);
/* The guest took a piece. */
void secrets_taken(struct shim *s);
/* What is under way is wiped. */
void secrets_drop(struct secret_go *g);

/* For shim_snapshot.c. */
struct snapshot_go *vm_snapshot(struct shim *s);
bool vm_is_quiet(const struct shim *s);          /* it runs, and no commands beside its service */
bool vm_is_paused(const struct shim *s);
bool vm_speaks_serial(const struct shim *s);
/* What is sent from here on waits, until hold is false: then GO goes first. */
void vm_hold(struct shim *s, bool hold);
/* --- shim_snapshot.c --- */
/* SHIM_SNAPSHOT; SHIM_SNAPSHOT_MADE tells how it went. */
void snapshot_begin(struct shim *s, const struct shim_message *m);
void snapshot_held(struct shim *s, uint32_t not);/* the guest said so; not 0: FRAME_HELD_… */
void snapshot_ready(struct shim *s);             /* the guest is back */
void snapshot_tick(struct shim *s);              /* time passed */
void snapshot_drop(struct snapshot_go *g);
/* The end of HOLD: in the machine itself, and in one that is a copy. */
void go_send(struct shim *s);
int identity_send(struct shim *s, struct error *err);

/* --- shim_vmm.c: the monitor's API --- */
#define VMM_PATIENCE_S 20            /* for one answer */
/* One request ("PUT /path\n{…}") over its socket, which is there already. */
int vmm_ask(const char *socket_path, const char *request, int patience_s, struct error *err);
/* "GET /path": the answer's body, cut at the size. */
int vmm_get(const char *socket_path, const char *request, int patience_s, char *out, size_t size, struct error *err);
/* Plays the requests in order, waiting for the socket first. Each must succeed. */
int vmm_configure(const char *socket_path, const struct str_list *requests, pid_t monitor, struct error *err);
