/* Checks of disks, and of what lies on them. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/doctor/checks.h"

#define GB 1000000000
#define SECTOR 512

struct disk {
    int64_t bytes;               /* 0: not known, as on a file system in memory */
    int64_t rotates;             /* 1: a disk with heads; 0: an SSD; -1: not known */
};

/* The number in a file of the block device's directory, or in that of the whole disk. */
static int64_t device_number(const struct host *h, const char *directory, const char *name, int64_t missing)
{
    CLEANUP_FREE char *own = mem_printf("%s/%s", directory, name);
    CLEANUP_FREE char *whole = mem_printf("%s/../%s", directory, name);
    int64_t n = host_number(h, own, -1);
    return n >= 0 ? n : host_number(h, whole, missing);
}

static struct disk find_disk(const struct host *h, const struct host_mount *m)
{
    CLEANUP_FREE char *directory = mem_printf("/sys/dev/block/%s", m->device);
    const char *name = strrchr(m->source, '/');
    /* Some file systems (btrfs) have numbers of their own; their source is a device all the same. */
    if (!host_exists(h, directory) && name) {
        free(directory);
        directory = mem_printf("/sys/class/block%s", name);
    }
    return (struct disk){
        .bytes = device_number(h, directory, "size", 0) * SECTOR,
        .rotates = device_number(h, directory, "queue/rotational", -1),
    };
}

/* Size, kind and free space. A disk that is called 512 GB may be 3 % smaller once it is divided. */
static void judge_disk(const struct host *h, const struct host_mount *m, int64_t wanted_gb, struct finding *f)
{
    struct disk disk = find_disk(h, m);
    CLEANUP_FREE char *point = host_path(h, m->point);
    struct statvfs st;
    if (disk.bytes)
        find(f, disk.bytes < wanted_gb * GB / 100 * 97 ? VERDICT_WARNING : VERDICT_OK, "%lld GB",
             (long long)(disk.bytes / GB));
    else
        find(f, VERDICT_OK, "%s of a size that is not known", m->type);
    if (disk.rotates == 1)
        find(f, VERDICT_WARNING, "not an SSD");
    if (statvfs(point, &st) || !st.f_blocks)
        return;
    int percent = (int)(100.0 * (double)st.f_bavail / (double)st.f_blocks);
    find(f, percent < 2 ? VERDICT_FAILED : percent < 10 ? VERDICT_WARNING : VERDICT_OK, "%d %% free", percent);
}

void doctor_boot_disk(const struct host *h, struct finding *f)
{
    struct host_mount m;
    if (host_find_mount(h, "/", &m))
        judge_disk(h, &m, REFERENCE_BOOT_DISK_GB, f);
    else
        find(f, VERDICT_WARNING, "what is mounted cannot be read");
}

void doctor_data_disk(const struct host *h, struct finding *f)
{
    const char *path = host_setting(&h->agent, "volume_root", "/mnt/unikernel-volumes");
    struct host_mount m, boot;
    if (!host_exists(h, path)) {
        find(f, VERDICT_FAILED, "there is no %s", path);
        return;
    }
    if (!host_find_mount(h, path, &m) || !host_find_mount(h, "/", &boot)) {
        find(f, VERDICT_WARNING, "what is mounted cannot be read");
        return;
    }
    if (!strcmp(m.device, boot.device)) {
        find(f, VERDICT_WARNING, "%s lies on the boot disk", path);
        find_mend(f, "mount the data disk at %s, by its UUID in /etc/fstab", path);
        return;
    }
    bool known = !strcmp(m.type, "ext4") || !strcmp(m.type, "xfs");
    find(f, known ? VERDICT_OK : VERDICT_WARNING, "%s", m.type);
    judge_disk(h, &m, REFERENCE_DATA_DISK_GB, f);
}

enum place_flags { PLACE_PROGRAM = 1, PLACE_PRIVATE = 2, PLACE_USERS = 4 };

static void judge_place(const struct host *h, const char *path, unsigned flags, struct finding *f)
{
    CLEANUP_FREE char *full = host_path(h, path);
    struct stat st;
    if (stat(full, &st)) {
        find(f, VERDICT_WARNING, "there is no %s", path);
        return;
    }
    struct host_user user = host_find_user(h, h->user);
    if (flags & PLACE_PROGRAM && !(S_ISREG(st.st_mode) && st.st_mode & S_IXOTH))
        find(f, VERDICT_FAILED, "%s is not a program that all may run", path);
    if (!(flags & PLACE_PROGRAM) && !S_ISDIR(st.st_mode))
        find(f, VERDICT_FAILED, "%s is not a directory", path);
    if (flags & PLACE_PRIVATE && st.st_mode & S_IRWXO)
        find(f, VERDICT_WARNING, "%s is open to every user", path);
    if (flags & PLACE_USERS && user.exists && st.st_uid != user.uid && user.uid != 0)
        find(f, VERDICT_FAILED, "%s is not %s's", path, h->user);
}

void doctor_layout(const struct host *h, struct finding *f)
{
    const struct { const char *path; unsigned flags; } places[] = {
        {"/opt/mentat/bin/mt", PLACE_PROGRAM},
        {"/opt/mentat/bin/mentat-server", PLACE_PROGRAM},
        {"/opt/mentat/bin/mentat-agent", PLACE_PROGRAM},
        {"/etc/mentat", 0},
        {host_setting(&h->server, "data_dir", "/var/lib/mentat/state"), PLACE_PRIVATE | PLACE_USERS},
        {"/tmp/mentat/firecracker", 0},
        {host_setting(&h->agent, "volume_root", "/mnt/unikernel-volumes"), 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        judge_place(h, places[i].path, places[i].flags, f);
    if (f->verdict == VERDICT_OK)
        find(f, VERDICT_OK, "all there");
}
