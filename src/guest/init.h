/* mentat-init: the first process of a microVM. What its files share.
 *
 * Built against musl, not glibc: the program lies in the memory of every guest and in the agent, and glibc's static
 * start alone is ten times as large as all of this. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/drive.h"
#include "guest/frame.h"

#define WHY_SIZE 256
/* Sets `why` (WHY_SIZE bytes) and returns -1; why_errno adds errno's text. */
int why_set(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int why_errno(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- boot.c: from the kernel's hand-over to a root file system --- */
/* Mounts /dev, /proc and /sys, and loads the modules of /modules/order, in its order. */
int boot_begin(char *why);
/* Reads the config drive; what it points to stays. */
int boot_drive(struct drive *d, char *why);
/* Mounts the image, what is written over it, and the volumes; makes it the root. */
int boot_root(const struct drive *d, char *why);
/* Makes the control group that the service and the commands beside it are in. That there is none is an error when the drive
 * limits their number. */
int boot_limits(const struct drive *d, char *why);
/* For a new process, while it is root: enters that group. */
int limits_enter(void);
/* All processes of that group stand still, from when it returns true until service_thaw. False: they go on, because there is
 * no group, its kernel cannot do it (before 5.2), or one of them did not come to stand within 3 s. */
bool service_freeze(void);
void service_thaw(void);
/* Volumes that are new become the user's; after that, what they hold says whose they are. */
struct process_user;
void boot_volumes_give(const struct drive *d, const struct process_user *user);
int directories_make(const char *path, char *why);
/* Everything on disk, nothing mounted that would have to be repaired. */
void boot_end(const struct drive *d);

/* --- address.c: names and addresses; after boot_root --- */
int address_set(const struct drive *d, char *why);

/* The same for an interface that has another address, and for a MAC of its own. */
int address_change(const struct drive *d, char *why);

/* --- process.c --- */
struct process_user { uid_t uid; gid_t gid; gid_t groups[64]; size_t n_groups; const char *home; };
/* From /etc/passwd and /etc/group of the image. text: "name", "uid", with or without ":group"; NULL: root. */
int process_user(const char *text, struct process_user *user, char *why);
struct process {
    const struct drive *drive;       /* environment, working directory */
    const struct process_user *user;
    const char *const *args;
    int fds[3];                      /* stdin, stdout, stderr; tty: all the same, and its controlling terminal */
    bool tty;
};
/* Returns the pid once the program runs, or -1. */
pid_t process_start(const struct process *p, char *why);

/* --- line.c: the connection to the host --- */
/* vsock when the drive says so and the host answers, else the serial line. */
int line_open(const struct drive *d, char *why);
int line_fd(void);
/* Room for so many frames of full size; what is sent without room waits. */
bool line_has_room(unsigned frames);
void line_send(enum frame_kind kind, uint8_t stream, uint32_t id, const void *data, size_t n);
void line_send_numbers(enum frame_kind kind, uint32_t id, unsigned n, const uint32_t *numbers);
bool line_waiting(void);             /* bytes wait for the host */
void line_write(void);
void line_read(const struct frame_events *events, void *arg);

/* --- secrets.c: what the host gives that is on no drive --- */
/* Makes the directory for them, in memory, of the service's user alone; after boot_root. */
int secrets_begin(const struct drive *d, const struct process_user *user, char *why);
/* Takes a piece. After the last one files are in place, and variables are added to the drive's. */
int secrets_frame(const struct frame *f, struct drive *d, char *why);
bool secrets_there(void);            /* all of them came once */

/* --- identity.c --- */
void clock_set(uint64_t ms);         /* since 1970 */
/* A GO frame: the clock is right, and the kernel's random numbers are none that a copy draws. */
int go_frame(const struct frame *f, char *why);
/* An IDENTITY frame. Returns 1 when it was the last one, and this guest is who d says now; 0: there is more to come. */
int identity_frame(const struct frame *f, struct drive *d, const struct process_user *user, char *why);

/* --- session.c: commands beside the service --- */
struct pollfd;
#define SESSIONS_MAX 16
#define SESSION_FDS 3
void session_exec(const struct frame *f, const struct drive *d, const struct process_user *user);
void session_frame(const struct frame *f);       /* INPUT, RESIZE, SIGNAL, TAKEN of an id that is not 0 */
/* Fills what is to be polled, at most SESSIONS_MAX * SESSION_FDS; session_polled takes the results. */
size_t session_poll(struct pollfd *p);
void session_polled(const struct pollfd *p, size_t n);
/* True when the pid was a command's. */
bool session_ended(pid_t pid, uint32_t code, uint32_t signal);
/* Milliseconds until session_tick has something to do; -1: nothing. */
int session_wait_ms(void);
bool session_any(void);              /* commands run */
void session_tick(void);

int64_t now_ms(void);                /* monotonic */
