#include "agent/drivers/firecracker_volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tool.h"
#include "base/log.h"
#include "base/mem.h"

#define LABEL_MAX 16
#define TOOL_TIMEOUT_MS 600000
/* e2fsck: 1 repaired, 2 repaired and a mounted system would need a restart. */
#define FSCK_GOOD (1u << 1 | 1u << 2)

static int64_t megabytes(int64_t mb)
{
    return mb << 20;
}

int volume_make(const char *path, int64_t size_mb, const char *label, struct error *err)
{
    CLEANUP_FREE char *fresh = mem_printf("%s.new", path);
    char name[LABEL_MAX + 1];
    snprintf(name, sizeof name, "%s", label);
    unlink(fresh);
    int fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot make %s", fresh);
    int result = ftruncate(fd, megabytes(size_mb)) < 0 ? error_set_errno(err, errno, "cannot make %s", fresh) : 0;
    const char *const argv[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1",
                                "-L", name, fresh, NULL};
    if (result == 0)
        result = tool_run(&(struct tool){.argv = argv, .timeout_ms = TOOL_TIMEOUT_MS}, NULL, err);
    if (result == 0 && (fsync(fd) < 0 || rename(fresh, path) < 0))
        result = error_set_errno(err, errno, "cannot make %s", path);
    close(fd);
    if (result < 0)
        unlink(fresh);
    return result;
}

/* Without `whole`, a file system that says of itself that it is good is believed. */
static int check(const char *path, bool whole, struct error *err)
{
    const char *const argv[] = {"e2fsck", "-p", path, whole ? "-f" : NULL, NULL};
    int code;
    if (tool_run(&(struct tool){.argv = argv, .timeout_ms = TOOL_TIMEOUT_MS, .good = FSCK_GOOD}, &code, err) < 0)
        return error_context(err, "volume %s is damaged beyond what can be repaired without being asked", path);
    if (code)
        LOG_W("a volume was repaired", "image", path);
    return 0;
}

static int grow(const char *path, int fd, int64_t size_mb, struct error *err)
{
    const char *const argv[] = {"resize2fs", path, NULL};
    if (ftruncate(fd, megabytes(size_mb)) < 0)
        return error_set_errno(err, errno, "cannot let %s grow", path);
    if (check(path, true, err) < 0)
        return -1;
    LOG_I("a volume grows", "image", path, "size_mb", LOG_I64(size_mb));
    return tool_run(&(struct tool){.argv = argv, .timeout_ms = TOOL_TIMEOUT_MS}, NULL, err);
}

int volume_ready(const char *path, int64_t size_mb, const char *label, struct error *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return volume_make(path, size_mb ? size_mb : VOLUME_MB_DEFAULT, label, err);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot open the volume %s", path);
    struct stat st;
    int result = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        result = error_set(err, ERROR_CONFLICT, "the volume %s is in use by another microVM of this node", path);
    else if (fstat(fd, &st) < 0)
        result = error_set_errno(err, errno, "cannot read %s", path);
    else if (check(path, false, err) < 0 || (st.st_size < megabytes(size_mb) && grow(path, fd, size_mb, err) < 0))
        result = -1;
    close(fd);
    return result;
}
