#include "sandbox/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VERSION_WITH_MOVES 2
#define VERSION_WITH_TRUNCATE 3
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

#define READ_FILES LANDLOCK_ACCESS_FS_READ_FILE
#define WRITE_FILES (READ_FILES | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define READ_ALL (READ_FILES | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_ALL \
    (READ_ALL | WRITE_FILES | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER)
#define ALL \
    (WRITE_ALL | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_FIFO | \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static int add_rule(int ruleset, const struct path_rule *rule, uint64_t truncate, struct error *err)
{
    struct stat st;
    int fd = open(rule->path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : error_set_errno(err, errno, "%s", rule->path);
    bool directory = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    struct landlock_path_beneath_attr attr = {.parent_fd = fd};
    if (rule->write)
        attr.allowed_access = (directory ? WRITE_ALL : WRITE_FILES) | truncate;
    else
        attr.allowed_access = directory ? READ_ALL : READ_FILES;
    int failed = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0) ? errno : 0;
    close(fd);
    return failed ? error_set_errno(err, failed, "%s", rule->path) : 0;
}

static int add_and_restrict(int ruleset, const struct path_rule *rules, size_t count, uint64_t truncate, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (add_rule(ruleset, &rules[i], truncate, err))
            return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, ruleset, 0))
        return error_set_errno(err, errno, "Landlock");
    return 0;
}

int paths_restrict(const struct path_rule *rules, size_t count, bool *done, struct error *err)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    uint64_t truncate = version >= VERSION_WITH_TRUNCATE ? LANDLOCK_ACCESS_FS_TRUNCATE : 0;
    *done = false;
    if (SANITIZED || version < VERSION_WITH_MOVES)
        return 0;
    struct landlock_ruleset_attr attr = {.handled_access_fs = ALL | truncate};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (ruleset < 0)
        return error_set_errno(err, errno, "Landlock");
    int rc = add_and_restrict(ruleset, rules, count, truncate, err);
    close(ruleset);
    *done = !rc;
    return rc;
}
