/* Config drive: what a guest must know, on a small read-only block device that the agent writes for each start.
 *
 *   "MENTATVM", u32 version, u32 length, u32 CRC-32 of the payload; then the payload: records of u8 tag, u32 length and
 *   the bytes. A tag that occurs again adds to a list; texts end with a NUL that counts. Numbers are little endian.
 *   Padded to whole sectors of 512 bytes.
 *
 * A guest that does not know a tag passes over it; one that meets a newer version says so and ends.
 * Shared by mentat-init and the agent: plain C. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVE_VERSION 1
#define DRIVE_SECTOR 512
#define DRIVE_MAX (4u << 20)

struct drive_volume {
    const char *device;              /* "/dev/vdd" */
    const char *target;
    bool read_only;
};
struct drive_text_list { const char **v; size_t n; };

/* Texts are borrowed: by drive_encode from the caller, after drive_decode from the bytes. NULL: not given. */
struct drive {
    const char *root_device, *root_type;      /* the image: "/dev/vdb", "squashfs" */
    const char *overlay_device;               /* ext4 for what is written; NULL: memory */
    uint32_t overlay_mb;                      /* memory for it; 0: half of the guest's */
    uint32_t pids;                            /* processes and threads at most; 0: no limit */
    struct { struct drive_volume *v; size_t n; } volumes;
    const char *hostname;
    const char *address, *gateway;            /* "10.88.0.7/24", "10.88.0.1" */
    const char *mac;                          /* "06:00:0a:58:00:07": for a copy, whose interface has another one; NULL: not given */
    uint32_t resume_signal;                   /* the program of a copy gets it when it has its new identity; 0: none */
    uint32_t mtu;                             /* of its interface; 0: the kernel's default */
    struct drive_text_list hosts;             /* lines of /etc/hosts */
    struct drive_text_list resolv;            /* lines of /etc/resolv.conf; none: the image's own */
    struct drive_text_list args, env;         /* args[0] is the program; env: "KEY=value" */
    const char *user, *workdir;               /* user: as in Docker, "name", "uid:gid"; NULL: root */
    const char *secrets_dir;                  /* the host gives secrets before the service starts; its files come here; NULL: none */
    bool vsock;                               /* there is a vsock device: the host waits at FRAME_VSOCK_PORT */
};

/* Bytes that it takes; when they are at most `size`, they are written to out (which may be NULL with size 0). */
size_t drive_encode(const struct drive *d, uint8_t *out, size_t size);
/* Adds a text; returns NULL, or what is wrong. */
const char *drive_text_add(struct drive_text_list *list, const char *text);
/* Returns NULL, or what is wrong with the bytes. Lists are malloc'ed: drive_clear. */
const char *drive_decode(const uint8_t *bytes, size_t n, struct drive *d);
void drive_clear(struct drive *d);
