/* Snapshots: DIR/snapshots/KEY holds the memory of a version's first machine on this node, as it was when that was well, for
 * later replicas to begin with: `state` and `memory` as the monitor wrote them, and `serial` when its guest spoke over the
 * serial line. The key says all that must be the same (the number of the version need not: it grows with `mt scale` too):
 * service, configuration, image, kernel, initial file system, the monitor's version, the host's kernel and the kind of
 * processor. The machine itself writes into its allocation's directory; what is kept is a copy of that, which none of its
 * processes ever had open. KEY.new is one that is being made. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/drivers/firecracker.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/timefmt.h"

#define MAKING ".new"
#define CPUINFO_MAX (4u << 20)
#define STATE_MB 16                  /* of a monitor, at most */
#define STAYS_FREE_MB 256            /* for all else that writes there */

static char *snapshots_dir(const struct firecracker *f)
{
    return mem_printf("%s/snapshots", f->dir);
}

/* --- the key --- */

/* The lines of /proc/cpuinfo that say what the first processor is, and can. */
static void add_processor(struct buf *b)
{
    static const char *const telling[] = {"vendor_id", "model name", "microcode", "flags"};
    CLEANUP_BUF struct buf text = {0};
    char *rest = NULL;
    if (file_read("/proc/cpuinfo", CPUINFO_MAX, &text, NULL) < 0)
        return;
    char *end = strstr(text.data, "\n\n");
    if (end)
        *end = 0;
    for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        for (size_t i = 0; i < ARRAY_LEN(telling); i++)
            if (strncmp(line, telling[i], strlen(telling[i])) == 0)
                buf_printf(b, "%s\n", line);
}

static void add_file(struct buf *b, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        buf_printf(b, "%s %lld %lld.%09ld\n", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

char *snapshot_dir(const struct machine *m, const char *image, const char *kernel, const char *initrd)
{
    CLEANUP_BUF struct buf b = {0};
    CLEANUP_FREE char *dir = snapshots_dir(m->f);
    type_to_json(&config_type, &m->config, &b);
    type_to_json(&resources_type, &m->resources, &b);
    buf_printf(&b, "\n%s\n%s\n%d\n", m->monitor_version, image, m->f->config->vsock);
    add_file(&b, kernel);
    add_file(&b, initrd);
    add_processor(&b);
    struct utsname host;
    if (uname(&host) == 0)
        buf_printf(&b, "%s %s\n", host.release, host.version);
    return mem_printf("%s/%s-%016llx", dir, m->service, (unsigned long long)hash_bytes(b.data, b.len, 0));
}

/* --- using one --- */

static char *file_in(const char *dir, const char *name)
{
    return mem_printf("%s/%s", dir, name);
}

bool snapshot_there(const char *dir)
{
    CLEANUP_FREE char *state = file_in(dir, SNAPSHOT_STATE), *memory = file_in(dir, SNAPSHOT_MEMORY);
    return access(memory, F_OK) == 0 && utimensat(AT_FDCWD, state, NULL, 0) == 0;    /* the time of its last use */
}

bool snapshot_on_serial(const char *dir)
{
    CLEANUP_FREE char *path = file_in(dir, SNAPSHOT_SERIAL);
    return access(path, F_OK) == 0;
}

void snapshot_drop_dir(const char *dir)
{
    LOG_I("a microVM's snapshot is dropped", "snapshot", dir);
    CLEANUP_FREE char *state = file_in(dir, SNAPSHOT_STATE);
    unlink(state);                   /* first: what an end here leaves is no snapshot */
    dir_remove(dir);
}

/* --- keeping one --- */

/* Shares the blocks where the file system can. */
static int file_copy(const char *from, const char *to, struct error *err)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    struct stat st;
    int result = in < 0 || out < 0 || fstat(in, &st) < 0 ? -1 : 0;
    if (result == 0 && ioctl(out, FICLONE, in) < 0)
        for (off_t left = st.st_size; result == 0 && left > 0;) {
            ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)left, 0);
            left -= n > 0 ? n : 0;
            result = n > 0 ? 0 : -1;
        }
    /* Each machine has a user of its own, who reads it through a mount in its jail. The monitor does not see whether all of
     * a memory is there, so what bears its name is on the disk. */
    if (result == 0 && (fchmod(out, 0444) < 0 || fsync(out) < 0))
        result = -1;
    if (result < 0)
        error_set_errno(err, errno, "cannot keep %s as %s", from, to);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return result;
}

static int room_check(const char *path, int64_t size_mb, struct error *err)
{
    int64_t left_mb;
    if (dir_left_mb(path, &left_mb, err) < 0)
        return -1;
    if (left_mb >= size_mb + STAYS_FREE_MB)
        return 0;
    return error_set(err, ERROR_NO_SPACE, "the disk of %s has %lld MiB left: the snapshot takes %lld while it is made, and %d are to stay",
                     path, (long long)left_mb, (long long)size_mb, STAYS_FREE_MB);
}

int snapshot_room(const struct firecracker *f, const char *alloc_dir, int64_t memory_mb, struct error *err)
{
    struct stat written, kept;
    if (stat(alloc_dir, &written) < 0 || stat(f->dir, &kept) < 0)
        return error_set_errno(err, errno, "%s", alloc_dir);
    int64_t size_mb = memory_mb + STATE_MB;
    if (written.st_dev == kept.st_dev)
        return room_check(f->dir, 2 * size_mb, err);
    return room_check(alloc_dir, size_mb, err) < 0 || room_check(f->dir, size_mb, err) < 0 ? -1 : 0;
}

bool snapshot_begin_dir(const char *dir)
{
    CLEANUP_FREE char *making = mem_printf("%s" MAKING, dir), *above = mem_strdup(dir);
    *strrchr(above, '/') = 0;
    return !snapshot_there(dir) && dir_make(above, 0700, NULL) == 0 && mkdir(making, 0700) == 0;
}

void snapshot_give_up(const char *dir)
{
    CLEANUP_FREE char *making = mem_printf("%s" MAKING, dir);
    dir_remove(making);
}

int snapshot_keep(const char *dir, const char *alloc_dir, bool on_serial, struct error *err)
{
    CLEANUP_FREE char *making = mem_printf("%s" MAKING, dir);
    static const char *const names[] = {SNAPSHOT_MEMORY, SNAPSHOT_STATE};
    int result = 0;
    for (size_t i = 0; result == 0 && i < ARRAY_LEN(names); i++) {
        CLEANUP_FREE char *from = file_in(alloc_dir, names[i]), *to = file_in(making, names[i]);
        result = file_copy(from, to, err);
    }
    CLEANUP_FREE char *serial = file_in(making, SNAPSHOT_SERIAL);
    if (result == 0 && on_serial)
        result = file_write(serial, "", 0, 0400, err);
    if (result == 0)
        dir_remove(dir);             /* of one that is not complete */
    if (result == 0 && rename(making, dir) < 0)
        result = error_set_errno(err, errno, "cannot keep the snapshot as %s", dir);
    if (result < 0)
        dir_remove(making);
    return result;
}

/* The jail's mounts hold both as long as the machine runs: what they take of the disk goes now. */
void snapshot_forget_files(const char *alloc_dir)
{
    CLEANUP_FREE char *state = file_in(alloc_dir, SNAPSHOT_STATE), *memory = file_in(alloc_dir, SNAPSHOT_MEMORY);
    if (truncate(state, 0) == 0)
        unlink(state);
    if (truncate(memory, 0) == 0)
        unlink(memory);
}

/* --- taking away --- */

struct kept { char *path; int64_t used_ms, bytes; };

static int by_use(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return (x->used_ms < y->used_ms) - (x->used_ms > y->used_ms);
}

static struct kept kept_look(const char *folder, const char *name)
{
    struct kept k = {.path = file_in(folder, name)};
    CLEANUP_FREE char *state = file_in(k.path, SNAPSHOT_STATE), *memory = file_in(k.path, SNAPSHOT_MEMORY);
    struct stat st;
    if (stat(state, &st) == 0)
        k.used_ms = (int64_t)st.st_mtim.tv_sec * 1000;
    if (stat(memory, &st) == 0)
        k.bytes = (int64_t)st.st_blocks * 512;
    return k;
}

static bool is_making(const char *name)
{
    size_t n = strlen(name);
    return n > strlen(MAKING) && !strcmp(name + n - strlen(MAKING), MAKING);
}

void snapshots_collect(const struct firecracker *f)
{
    CLEANUP_FREE char *folder = snapshots_dir(f);
    struct kept *kept = NULL;
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (*e->d_name != '.' && !is_making(e->d_name)) {
            kept = mem_realloc_array(kept, n + 1, sizeof *kept);
            kept[n++] = kept_look(folder, e->d_name);
        }
    if (d)
        closedir(d);
    if (n)
        qsort(kept, n, sizeof *kept, by_use);
    int64_t now = time_now_ms(), sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += kept[i].bytes;
        /* Machines that use it keep the file itself. */
        if (now - kept[i].used_ms > f->config->image_gc_age_ms || sum > f->config->snapshots_max_mb << 20)
            snapshot_drop_dir(kept[i].path);
        free(kept[i].path);
    }
    free(kept);
}

void snapshots_sweep(const struct firecracker *f)
{
    CLEANUP_FREE char *folder = snapshots_dir(f);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (is_making(e->d_name)) {
            CLEANUP_FREE char *path = file_in(folder, e->d_name);
            dir_remove(path);
        }
    if (d)
        closedir(d);
}
