/* Shim protocol: what an agent and a shim say to each other, and the record of how a task ended.
 *
 * An agent may meet shims that an older or newer release started: a message's first byte says what it is, fields are
 * only ever added at its end, and messages of an unknown kind are passed over. The spec is read only by the very
 * program that wrote it.
 *
 * Sockets are SOCK_SEQPACKET: one message a packet. Every new connection is greeted with SHIM_RUNNING, once the task
 * runs. A connection that sends SHIM_EXEC belongs to that command from then on; its closing kills the command. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "agent/cgroup.h"
#include "agent/driver.h"
#include "agent/vm_metrics.h"
#include "base/buf.h"

enum {
    SHIM_FD_CONTROL = 3,             /* one end of a socket pair; the agent that started the shim has the other */
    SHIM_FD_LISTEN = 4,              /* ALLOC_DIR/shim.sock, listening; made by the agent, so that there is no moment
                                        at which a shim lives and cannot be found */
    SHIM_FD_SPEC = 5,                /* a memory file */
    SHIM_FD_NETWORK = 6,             /* the namespace of a port that was ready; else /dev/null */
};
#define SHIM_MESSAGE_MAX 65536
#define SHIM_SOCKET "shim.sock"
#define SHIM_EXIT_FILE "exit"
#define SHIM_EXIT_NEW "exit.new"     /* made, with its blocks, before the task starts: a full disk cannot lose it */

enum shim_message_kind {
    SHIM_RUNNING = 'R',              /* shim → agent */
    SHIM_FAILED = 'F',               /* shim → agent: the task was not started; error */
    SHIM_EXEC_EXITED = 'E',          /* shim → agent: code */
    SHIM_EXEC_FAILED = 'f',          /* shim → agent: error */
    SHIM_METRICS = 'M',              /* shim → agent: metrics, whenever they changed, and to a new connection */
    SHIM_PAUSED = 'h',               /* shim → agent: the answer to SHIM_PAUSE; code as in that, error */
    SHIM_PAUSE = 'H',                /* agent → shim: code 1: the task stands still, 0: it goes on; shims of earlier releases
                                        do not answer */
    SHIM_SNAPSHOT = 'Z',             /* agent → shim: args: where state and memory go, as the monitor sees it */
    SHIM_SNAPSHOT_MADE = 'z',        /* shim → agent: code 1: the guest speaks over the serial line; error */
    SHIM_BALLOON = 'B',              /* agent → shim: code: MB that the guest gives back */
    SHIM_BALLOON_SET = 'b',          /* shim → agent: the answer; code as in that, error */
    SHIM_SIGNAL = 'K',               /* agent → shim: signal */
    SHIM_STOP = 'T',                 /* agent → shim: signal, timeout_ms */
    SHIM_SECRETS = 'P',              /* agent → shim: args are files of its secrets directory that were replaced: the guest gets
                                        them, then the signal (0: none) */
    SHIM_LEASE = 'L',                /* agent → shim: lease_until */
    SHIM_RESIZE = 'W',               /* agent → shim: rows, cols of the command's terminal, where the task has another kernel */
    SHIM_EXEC = 'X',                 /* agent → shim: tty, args; with stdin, stdout, stderr (tty: the terminal alone) */
};
struct shim_message {
    enum shim_message_kind kind;
    uint64_t run, shim_pid;
    int pid, signal, code;
    uint32_t rows, cols;
    int64_t started_at, timeout_ms;
    int64_t lease_until;             /* monotonic: by then the task ends, unless a later one comes; 0: it has no lease */
    bool tty;
    struct error error;
    struct str_list args;
    struct vm_metrics metrics;
};
void shim_message_encode(const struct shim_message *m, struct buf *out);
/* The caller clears m->args. Returns 0, or -1 when the bytes are no message. */
int shim_message_decode(const void *bytes, size_t n, struct shim_message *m);
void shim_message_clear(struct shim_message *m);

/* The network of a virtual machine: a namespace of its monitor's own, in which there is nothing but the tap device that the
 * guest is behind, and the inner end of a pair whose outer end is a port of the host's bridge. It goes with its processes. */
#define SHIM_VM_TAP "tap0"
struct shim_port {
    char *name, *bridge;             /* outer end and bridge, in the host's namespace; NULL: the guest has no network */
    int64_t uid;                     /* who may attach to the tap: the monitor's user */
    int64_t mtu;
    int ready;                       /* descriptor of such a namespace, which the shim has as SHIM_FD_NETWORK; 0: the shim makes
                                        one */
};

/* A task that is a virtual machine: how its monitor is configured, and what the shim keeps for it. */
struct shim_vm_spec {
    char *api;                       /* the monitor's socket; NULL: the task is no virtual machine */
    char *vsock;                     /* the monitor connects to "VSOCK_PORT" for the guest; NULL: there is no vsock */
    struct str_list requests;        /* "PUT /path\n{…}", in order */
    struct str_list locks;           /* files that are locked for as long as the machine lives */
    char *metrics;                   /* the FIFO to which the monitor writes its metrics; NULL: it does not */
    char *secrets_dir;               /* of this host, in memory: its files go to the guest; NULL: it gets none */
    struct str_list env;             /* "KEY=value" with secrets, to the guest as well; wiped by shim_spec_clear */
    int64_t start_ms;                /* how long it may take until its service runs */
    int64_t memory_mb;               /* the guest's, for messages */
    struct shim_port port;
    char *identity;                  /* the requests make a copy of another machine, whose guest gets this file, a config
                                        drive; NULL: they start one */
    bool on_serial;                  /* that other one spoke over the serial line */
    bool balloon;                    /* the guest has one, whose statistics the monitor tells */
};

/* Everything a shim must know. Owned by whoever decoded it, for the shim's whole life. */
struct shim_spec {
    char *alloc_id, *alloc_dir, *node;
    uint64_t run;
    int64_t lease_until;             /* as in SHIM_LEASE */
    struct str_list args;            /* args[0] is the command */
    struct str_list env;             /* "KEY=value" */
    char *user, *workdir;            /* NULL: the agent's; the allocation's own */
    struct cgroup_root cgroups;
    struct cgroup_limits limits;
    int64_t log_max_files, log_max_mb;
    struct shim_vm_spec vm;
};
void shim_spec_encode(const struct shim_spec *s, struct buf *out);
int shim_spec_decode(const void *bytes, size_t n, struct shim_spec *s);
void shim_spec_clear(struct shim_spec *s);

/* The exit record, as text lines: for people and for agents of other releases. error.code is not 0 when the task was
 * never started. */
#define SHIM_EXIT_SIZE 1024
void shim_exit_format(char out[static SHIM_EXIT_SIZE], const struct task_exit *how, const struct error *error);
/* -1 when the text is no record. failed->code stays ERROR_NONE when the task was started. */
int shim_exit_parse(const char *text, struct task_exit *how, struct error *failed);
/* ERROR_NOT_FOUND when there is no record. */
int shim_exit_read(const char *alloc_dir, struct task_exit *how, struct error *failed, struct error *err);
