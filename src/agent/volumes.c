#include "agent/volumes.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/file.h"
#include "base/mem.h"

#define OWNER_FILE "volume.owner"    /* "SERVICE REPLICA" */
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

static bool owner_read(const char *dir, struct node_volume *v)
{
    CLEANUP_FREE char *path = mem_printf("%s/" OWNER_FILE, dir);
    CLEANUP_BUF struct buf text = {0};
    char service[OWNER_MAX];
    long long replica;
    if (file_read(path, OWNER_MAX - 1, &text, NULL) < 0 || sscanf(text.data, "%511s %lld", service, &replica) != 2 || replica < 0)
        return false;
    v->service = mem_strdup(service);
    v->replica = replica;
    return true;
}

int volume_own(const char *image, const char *service, int64_t replica, struct error *err)
{
    const char *end = strrchr(image, '/');
    CLEANUP_FREE char *dir = mem_strndup(image, (size_t)(end - image));
    CLEANUP_FREE char *path = mem_printf("%s/" OWNER_FILE, dir), *text = NULL;
    struct node_volume was = {0};
    bool same = owner_read(dir, &was) && !strcmp(was.service, service) && was.replica == replica;
    free(was.service);
    if (same)
        return 0;
    text = mem_printf("%s %lld\n", service, (long long)replica);
    return file_write(path, text, strlen(text), 0644, err);
}

static int64_t use_mb(const struct stat *st, int64_t size_mb)
{
    int64_t used = (int64_t)st->st_blocks * 512 >> 20, step = size_mb / USE_STEPS > 1 ? size_mb / USE_STEPS : 1;
    return (used + step - 1) / step * step;
}

static void look(const char *root, const char *name, int depth, struct node_volume_list *out)
{
    CLEANUP_FREE char *dir = mem_printf("%s/%s", root, name), *image = mem_printf("%s/" VOLUME_IMAGE, dir);
    struct stat st;
    struct node_volume v = {0};
    if (stat(image, &st) == 0 && S_ISREG(st.st_mode) && owner_read(dir, &v)) {
        v.name = mem_strdup(name);
        v.size_mb = st.st_size >> 20;
        v.used_mb = use_mb(&st, v.size_mb);
        *(struct node_volume *)list_add_zero((struct list *)out, &node_volume_type) = v;
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
