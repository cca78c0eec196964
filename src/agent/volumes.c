#include "agent/volumes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/drivers/firecracker_volume.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/namespace.h"

#define OWNER_FILE "volume.owner"    /* "SERVICE REPLICA"; in the directory of an image */
#define OWNER_SUFFIX ".owner"        /* the same, of a directory */
#define OWNER_MAX 512
#define DEPTH 2
#define USE_STEPS 16                 /* so that a volume that fills up is no news at every look */

/* By their numbers in statfs(2). FUSE is among them: many of its file systems are of a network, and it does not say. */
static bool is_of_network(long type)
{
    static const unsigned types[] = {
        0x6969 /* NFS */, 0x517b, 0xfe534d42, 0xff534d42 /* SMB */, 0x00c36400 /* Ceph */, 0x01161970 /* GFS2 */,
        0x7461636f /* OCFS2 */, 0x65735546 /* FUSE */, 0x01021997 /* 9P */, 0x0bd00bd0 /* Lustre */, 0x5346414f /* AFS */,
        0x47504653 /* GPFS */, 0x19830326 /* BeeGFS */,
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if ((unsigned)type == types[i])
            return true;
    return false;
}

bool volumes_shared(const char *root)
{
    CLEANUP_FREE char *path = mem_strdup(root);
    struct statfs st;
    while (statfs(path, &st) < 0) {
        char *end = strrchr(path, '/');
        if (!end || end == path)
            return false;
        *end = 0;
    }
    return is_of_network((long)st.f_type);
}

static bool owner_read(const char *path, struct node_volume *v)
{
    CLEANUP_BUF struct buf text = {0};
    char service[OWNER_MAX];
    long long replica;
    if (file_read(path, OWNER_MAX - 1, &text, NULL) < 0 || sscanf(text.data, "%511s %lld", service, &replica) != 2 || replica < 0)
        return false;
    v->service = mem_strdup(service);
    v->replica = replica;
    return true;
}

static char *owner_inside(const char *dir)
{
    return mem_printf("%s/" OWNER_FILE, dir);
}

static char *owner_beside(const char *dir)
{
    return mem_printf("%s" OWNER_SUFFIX, dir);
}

static int owner_check(const char *path, const char *service, struct error *err)
{
    struct node_volume was = {0};
    if (!owner_read(path, &was))
        return 0;
    bool same = namespace_same(was.service, service);
    free(was.service);
    return same ? 0 : error_set(err, ERROR_DENIED, "it is of another namespace, says %s", path);
}

static char *owner_of_image(const char *image)
{
    return mem_printf("%.*s/" OWNER_FILE, (int)(strrchr(image, '/') - image), image);
}

/* Where it leads, symbolic links followed; what is not there yet is none. */
static char *resolve(const char *path)
{
    CLEANUP_FREE char *head = mem_strdup(path);
    for (char *end; (end = strrchr(head, '/')) && end > head; *end = '\0') {
        CLEANUP_FREE char *real = realpath(head, NULL);
        if (real)
            return mem_printf("%s%s", real, path + strlen(head));
    }
    return mem_strdup(path);
}

/* The directory itself, and each one that it is in: what is below a volume is part of it. */
static int check_upwards(const char *path, const char *service, struct error *err)
{
    CLEANUP_FREE char *dir = mem_strdup(path);
    int rc = 0;
    for (char *end; !rc && (end = strrchr(dir, '/')) && end > dir; *end = '\0') {
        CLEANUP_FREE char *beside = owner_beside(dir), *inside = owner_inside(dir);
        rc = owner_check(beside, service, err) || owner_check(inside, service, err) ? -1 : 0;
    }
    return rc;
}

int volume_directory_is_for(const char *dir, const char *service, struct error *err)
{
    CLEANUP_FREE char *real = resolve(dir);
    return check_upwards(dir, service, err) || check_upwards(real, service, err) ? -1 : 0;
}

int volume_is_for(const char *image, const char *service, struct error *err)
{
    CLEANUP_FREE char *dir = mem_strndup(image, (size_t)(strrchr(image, '/') - image));
    return volume_directory_is_for(dir, service, err);
}

static int owner_write(const char *path, const char *service, int64_t replica, struct error *err)
{
    struct node_volume was = {0};
    bool same = owner_read(path, &was) && !strcmp(was.service, service) && was.replica == replica;
    free(was.service);
    if (same)
        return 0;
    CLEANUP_FREE char *text = mem_printf("%s %lld\n", service, (long long)replica);
    return file_write(path, text, strlen(text), 0644, err);
}

int volume_own(const char *image, const char *service, int64_t replica, struct error *err)
{
    CLEANUP_FREE char *path = owner_of_image(image);
    return owner_write(path, service, replica, err);
}

int volume_own_directory(const char *dir, const char *service, int64_t replica, struct error *err)
{
    CLEANUP_FREE char *path = owner_beside(dir);
    return owner_write(path, service, replica, err);
}

static int64_t use_mb(int64_t blocks, int64_t size_mb)
{
    int64_t used = blocks * 512 >> 20, step = size_mb / USE_STEPS > 1 ? size_mb / USE_STEPS : 1;
    return (used + step - 1) / step * step;
}

/* Blocks of what is below, as long as it is the same file system and *left lasts. */
static int64_t blocks_below(const char *dir, dev_t device, unsigned *left)
{
    int64_t blocks = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && *left && (e = readdir(d));) {
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")
            || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != device)
            continue;
        --*left;
        blocks += st.st_blocks;
        CLEANUP_FREE char *below = mem_printf("%s/%s", dir, e->d_name);
        if (S_ISDIR(st.st_mode))
            blocks += blocks_below(below, device, left);
    }
    if (d)
        closedir(d);
    return blocks;
}

static int64_t directory_use_mb(const char *dir, const struct stat *st)
{
    unsigned left = VOLUME_FILES_MAX;
    int64_t blocks = blocks_below(dir, st->st_dev, &left);
    return use_mb(blocks, blocks * 512 >> 20);
}

static void add(struct node_volume_list *out, struct node_volume *v, const char *name)
{
    v->name = mem_strdup(name);
    *(struct node_volume *)list_add_zero((struct list *)out, &node_volume_type) = *v;
}

static void look(const char *root, const char *name, int depth, struct node_volume_list *out)
{
    CLEANUP_FREE char *dir = mem_printf("%s/%s", root, name), *image = mem_printf("%s/" VOLUME_IMAGE, dir);
    CLEANUP_FREE char *inside = owner_inside(dir), *beside = owner_beside(dir);
    struct stat st;
    struct node_volume v = {0};
    if (stat(image, &st) == 0 && S_ISREG(st.st_mode) && owner_read(inside, &v)) {
        v.size_mb = st.st_size >> 20;
        v.used_mb = use_mb(st.st_blocks, v.size_mb);
        add(out, &v, name);
        return;
    }
    if (*name && stat(dir, &st) == 0 && owner_read(beside, &v)) {
        v.used_mb = directory_use_mb(dir, &st);
        add(out, &v, name);
        return;
    }
    DIR *d = depth < DEPTH ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (*e->d_name == '.' || (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN))
            continue;
        CLEANUP_FREE char *below = *name ? mem_printf("%s/%s", name, e->d_name) : mem_strdup(e->d_name);
        look(root, below, depth + 1, out);
    }
    if (d)
        closedir(d);
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct node_volume *)a)->name, ((const struct node_volume *)b)->name);
}

void volumes_list(const char *root, struct node_volume_list *out)
{
    look(root, "", 0, out);
    if (out->n)
        qsort(out->v, out->n, sizeof *out->v, compare);
}

/* --- made and deleted by hand --- */

char *volume_path(const char *root, const char *name, struct error *err)
{
    int depth = 0;
    for (const char *p = name; depth <= DEPTH; p += strcspn(p, "/") + 1) {
        if (!*p || *p == '/' || *p == '.' || ++depth > DEPTH)
            break;
        if (!p[strcspn(p, "/")])
            return mem_printf("%s/%s", root, name);
    }
    error_set(err, ERROR_INVALID, "volume %.200s: is no name of a directory below the volume root, such as web/0; `mt volumes` "
              "lists them", name);
    return NULL;
}

/* No link on the way leads elsewhere. */
static int check_place(const char *root, const char *name, const char *path, struct error *err)
{
    CLEANUP_FREE char *real_root = realpath(root, NULL), *real = realpath(path, NULL);
    CLEANUP_FREE char *expected = mem_printf("%s/%s", real_root ? real_root : "", name);
    if (!real)
        return errno == ENOENT ? error_set(err, ERROR_NOT_FOUND, "there is no volume %s on this node", name)
                               : error_set_errno(err, errno, "volume %s", name);
    return !strcmp(real, expected) ? 0 : error_set(err, ERROR_DENIED, "volume %s: leads to %s", name, real);
}

static int check_owner(const char *owner, const struct node_volume *want, struct error *err)
{
    struct node_volume v = {0};
    if (!owner_read(owner, &v))
        return error_set(err, ERROR_NOT_FOUND, "there is no volume %s on this node", want->name);
    bool same = !strcmp(v.service, want->service) && v.replica == want->replica;
    if (!same)
        error_set(err, ERROR_CONFLICT, "volume %s belongs to replica %lld of %s by now", want->name, (long long)v.replica, v.service);
    free(v.service);
    return same ? 0 : -1;
}

static int delete_image(const char *dir, const char *image, const struct node_volume *want, struct error *err)
{
    CLEANUP_FREE char *owner = owner_inside(dir);
    if (check_owner(owner, want, err) < 0 || volume_unlink(image, err) < 0)
        return -1;
    unlink(owner);
    rmdir(dir);                      /* whatever else is there is nobody's to delete */
    return 0;
}

static bool is_leftover(const char *path)
{
    size_t n = strlen(path), end = strlen(VOLUME_LEFTOVER);
    return n > end && !strcmp(path + n - end, VOLUME_LEFTOVER);
}

/* Out of the way first: what starts meanwhile has a directory of its own. */
static int set_aside(const char *dir, const char *owner, const struct node_volume *want, char **rest, struct error *err)
{
    CLEANUP_FREE char *aside = mem_printf("%s" VOLUME_LEFTOVER, dir);
    if (volume_own_directory(aside, want->service, want->replica, err) < 0)
        return -1;
    if (rename(dir, aside) < 0) {
        bool occupied = errno == EEXIST || errno == ENOTEMPTY;
        return occupied ? error_set(err, ERROR_CONFLICT, "%s" VOLUME_LEFTOVER " is left of an earlier deletion; delete it first",
                                    want->name)
                        : error_set_errno(err, errno, "cannot delete %s", dir);
    }
    unlink(owner);
    *rest = steal(&aside);
    return 0;
}

int volume_delete(const char *root, const struct node_volume *want, char **rest, struct error *err)
{
    CLEANUP_FREE char *dir = volume_path(root, want->name, err);
    *rest = NULL;
    if (!dir || check_place(root, want->name, dir, err) < 0)
        return -1;
    CLEANUP_FREE char *image = mem_printf("%s/" VOLUME_IMAGE, dir), *owner = owner_beside(dir);
    struct stat st;
    if (lstat(image, &st) == 0 && S_ISREG(st.st_mode))
        return delete_image(dir, image, want, err);
    if (check_owner(owner, want, err) < 0)
        return -1;
    if (!is_leftover(dir))
        return set_aside(dir, owner, want, rest, err);
    *rest = steal(&dir);
    return 0;
}

int volume_delete_rest(const char *rest, struct error *err)
{
    CLEANUP_FREE char *owner = owner_beside(rest);
    dir_remove(rest);
    if (access(rest, F_OK) == 0)
        return error_set(err, ERROR_SYSTEM, "%s cannot be deleted as a whole", rest);
    unlink(owner);
    return 0;
}

static int check_room(const char *dir, int64_t size_mb, struct error *err)
{
    int64_t left_mb;
    if (dir_left_mb(dir, &left_mb, err) < 0)
        return -1;
    return left_mb >= size_mb ? 0 : error_set(err, ERROR_NO_SPACE, "the disk of the volumes has %lld MiB left, and a volume of "
                                              "%lld is asked for", (long long)left_mb, (long long)size_mb);
}

int volume_create(const char *root, const struct node_volume *want, struct error *err)
{
    CLEANUP_FREE char *dir = volume_path(root, want->name, err);
    if (!dir)
        return -1;
    CLEANUP_FREE char *image = mem_printf("%s/" VOLUME_IMAGE, dir), *owner = owner_beside(dir);
    if (access(image, F_OK) == 0 || access(owner, F_OK) == 0)
        return error_set(err, ERROR_EXISTS, "there is a volume %s on this node already", want->name);
    CLEANUP_FREE char *source = mem_strndup(want->name, strcspn(want->name, "/")), *above = mem_printf("%s/%s", root, source);
    if (dir_make(above, 0755, err) < 0 || check_place(root, source, above, err) < 0 || dir_make(dir, 0755, err) < 0
        || check_place(root, want->name, dir, err) < 0)
        return -1;
    /* What makes it a volume is the image: that comes last. */
    if (check_room(dir, want->size_mb, err) < 0 || volume_own(image, want->service, want->replica, err) < 0
        || volume_make(image, want->size_mb, want->service, err) < 0) {
        CLEANUP_FREE char *inside = owner_inside(dir);
        unlink(inside);
        rmdir(dir);
        return -1;
    }
    return 0;
}
