/* Numbers of machines: DIR/slots/NUMBER is a link whose text is the machine's id. Making a link is one step that cannot be
 * half done, so a number is never given twice and never without its owner, whatever is killed. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/drivers/firecracker.h"
#include "base/file.h"
#include "base/mem.h"

static char *slot_path(const char *dir, int slot)
{
    return mem_printf("%s/slots/%d", dir, slot);
}

int slot_take(const char *dir, const char *id, int first, int last, int *slot, struct error *err)
{
    CLEANUP_FREE char *folder = mem_printf("%s/slots", dir);
    if (dir_make(folder, 0700, err) < 0)
        return -1;
    for (int i = first; i <= last; i++) {
        CLEANUP_FREE char *path = slot_path(dir, i);
        if (symlink(id, path) == 0) {
            *slot = i;
            return 0;
        }
        if (errno != EEXIST)
            return error_set_errno(err, errno, "cannot make %s", path);
    }
    return error_set(err, ERROR_UNAVAILABLE, "this node has no address left for another microVM: all of firecracker.network "
                     "(%d) are taken", last - first + 1);
}

static void each(const char *dir, void (*fn)(void *arg, int slot, const char *id), void *arg)
{
    CLEANUP_FREE char *folder = mem_printf("%s/slots", dir);
    DIR *d = opendir(folder);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        char *end, id[NAME_MAX + 1];
        long slot = strtol(e->d_name, &end, 10);
        ssize_t n = *end || end == e->d_name ? -1 : readlinkat(dirfd(d), e->d_name, id, sizeof id - 1);
        if (n <= 0)
            continue;
        id[n] = 0;
        fn(arg, (int)slot, id);
    }
    closedir(d);
}

struct search { const char *id; int slot; };

static void compare(void *arg, int slot, const char *id)
{
    struct search *s = arg;
    if (!strcmp(id, s->id))
        s->slot = slot;
}

int slot_find(const char *dir, const char *id)
{
    struct search s = {id, -1};
    each(dir, compare, &s);
    return s.slot;
}

bool slot_taken(const char *dir, int slot)
{
    CLEANUP_FREE char *path = slot_path(dir, slot);
    struct stat st;
    return lstat(path, &st) == 0;
}

void slot_free(const char *dir, int slot)
{
    CLEANUP_FREE char *path = slot_path(dir, slot);
    unlink(path);
}

static void add(void *arg, int slot, const char *id)
{
    str_list_add(arg, id);
}

void slots_list(const char *dir, struct str_list *ids)
{
    each(dir, add, ids);
}
