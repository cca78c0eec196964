#include "agent/vm_image.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "agent/vm_archive.h"
#include "agent/vm_image_build.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/timefmt.h"

#define LEFTOVER_AGE_MS 3600000
#define ABOUT_MAX (1u << 20)
#define ENTRIES_MAX 2000000
#define DEPTH_MAX 64

struct vm_images {
    char *dir;
    const struct str_list *roots;
    int64_t max_mb;
    uv_mutex_t building;
};

/* --- what is kept beside an image --- */

#define ABOUT(key, number, kind_) \
    {.name = #key, .tag = number, .kind = kind_, .offset = offsetof(struct vm_image, key)}
static const struct field about_fields[] = {
    ABOUT(entrypoint, 1, FIELD_STR_LIST), ABOUT(command, 2, FIELD_STR_LIST), ABOUT(env, 3, FIELD_STR_LIST),
    ABOUT(user, 4, FIELD_STRING), ABOUT(workdir, 5, FIELD_STRING),
    {0},
};
static const struct type about_type = {.name = "vm_image", .size = sizeof(struct vm_image), .fields = about_fields};

void vm_image_clear(struct vm_image *i)
{
    free(i->path);
    type_clear(&about_type, i);
    *i = (struct vm_image){0};
}

struct vm_images *vm_images_open(const char *dir, const struct str_list *roots, int64_t max_mb)
{
    struct vm_images *v = NEW(struct vm_images);
    v->dir = mem_strdup(dir);
    v->roots = roots;
    v->max_mb = max_mb;
    uv_mutex_init(&v->building);
    return v;
}

void vm_images_close(struct vm_images *v)
{
    if (!v)
        return;
    uv_mutex_destroy(&v->building);
    free(v->dir);
    free(v);
}

/* --- sources --- */

int vm_source_find(const struct str_list *roots, const char *path, char **real, struct error *err)
{
    char text[PATH_MAX];
    if (!realpath(path, text))
        return error_set_errno(err, errno, "%s", path);
    for (uint32_t i = 0; i < roots->n; i++) {
        char root[PATH_MAX];
        size_t n = realpath(roots->v[i], root) ? strlen(root) : 0;
        if (n && strncmp(text, root, n) == 0 && text[n] == '/') {
            *real = mem_strdup(text);
            return 0;
        }
    }
    CLEANUP_BUF struct buf list = {0};
    for (uint32_t i = 0; i < roots->n; i++)
        buf_printf(&list, "%s%s", i ? ", " : "", roots->v[i]);
    return error_set(err, ERROR_DENIED, "%s is not below firecracker.image_roots of the node's agent.yaml (%s)", path,
                     list.data ? list.data : "none");
}

static uint64_t mix_stat(uint64_t key, const struct stat *st)
{
    const int64_t facts[] = {(int64_t)st->st_dev, (int64_t)st->st_ino, st->st_size, st->st_mode, st->st_uid, st->st_gid,
                             st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_ctim.tv_sec, st->st_ctim.tv_nsec};
    return hash_bytes(facts, sizeof facts, key);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* From every entry below a directory: whatever changes in it changes a time. */
static int mix_directory(const char *dir, int depth, long *left, uint64_t *key, struct error *err)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, by_name), result = 0;
    if (n < 0)
        return error_set_errno(err, errno, "cannot read %s", dir);
    for (int i = 0; i < n; i++) {
        CLEANUP_FREE char *path = mem_printf("%s/%s", dir, names[i]->d_name);
        struct stat st;
        bool dot = !strcmp(names[i]->d_name, ".") || !strcmp(names[i]->d_name, "..");
        free(names[i]);
        if (dot || result < 0)
            continue;
        if (lstat(path, &st) < 0)
            result = error_set_errno(err, errno, "cannot read %s", path);
        else if (--*left < 0 || depth == DEPTH_MAX)
            result = error_set(err, ERROR_TOO_LARGE, "%s has too many files, or too deep directories", dir);
        else if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
            result = error_set(err, ERROR_INVALID, "%s is a device; a guest makes its own", path);
        if (result < 0)
            continue;
        *key = hash_string(path, mix_stat(*key, &st));
        if (S_ISDIR(st.st_mode))
            result = mix_directory(path, depth + 1, left, key, err);
    }
    free(names);
    return result;
}

static int source_key(const char *real, const struct stat *st, uint64_t *key, struct error *err)
{
    long left = ENTRIES_MAX;
    *key = hash_string(real, mix_stat(0, st));
    return S_ISDIR(st->st_mode) ? mix_directory(real, 0, &left, key, err) : 0;
}

/* --- the cache --- */

static const char *type_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && !strcmp(dot, ".ext4") ? "ext4" : "squashfs";
}

/* What the link of a source leads to, when that is still there. */
static int cache_find(const struct vm_images *v, uint64_t key, struct vm_image *out)
{
    CLEANUP_FREE char *link = mem_printf("%s/sources/%016llx", v->dir, (unsigned long long)key);
    CLEANUP_BUF struct buf about = {0};
    char name[NAME_MAX + 1];
    ssize_t n = readlink(link, name, sizeof name - 1);
    if (n <= 0)
        return -1;
    name[n] = 0;
    CLEANUP_FREE char *path = mem_printf("%s/images/%s", v->dir, name), *about_path = mem_printf("%s.about", path);
    if (file_read(about_path, ABOUT_MAX, &about, NULL) < 0 || access(path, R_OK) < 0)
        return -1;
    if (type_decode(&about_type, about.data, about.len, out, NULL) < 0)
        return -1;
    /* The time of its last use, for vm_images_collect. */
    utimensat(AT_FDCWD, path, NULL, 0);
    out->path = steal(&path);
    out->type = type_of(name);
    return 0;
}

static int content_hash(const char *path, uint64_t out[2], struct error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        error_set_errno(err, errno, "cannot read %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        return error_set_errno(err, errno, "cannot read %s", path);
    for (int i = 0; i < 2; i++)
        out[i] = hash_bytes(bytes, (size_t)st.st_size, (uint64_t)i);
    munmap(bytes, (size_t)st.st_size);
    return 0;
}

/* The built file becomes images/HASH.TYPE, and the source leads to it. */
static int cache_add(struct vm_images *v, uint64_t key, const char *built, const char *content, struct vm_image *image,
                     struct error *err)
{
    uint64_t hash[2] = {hash_string(content, 0), hash_string(content, 1)};
    CLEANUP_BUF struct buf about = {0};
    type_encode(&about_type, image, &about);
    if (!*content && content_hash(built, hash, err) < 0)
        return -1;
    /* What is said of the program is part of what is shared. */
    hash[1] ^= hash_bytes(about.data, about.len, 2);
    CLEANUP_FREE char *name = mem_printf("%016llx%016llx.%s", (unsigned long long)hash[0], (unsigned long long)hash[1],
                                         image->type);
    CLEANUP_FREE char *path = mem_printf("%s/images/%s", v->dir, name), *about_path = mem_printf("%s.about", path);
    CLEANUP_FREE char *sources = mem_printf("%s/sources", v->dir);
    CLEANUP_FREE char *link = mem_printf("%s/%016llx", sources, (unsigned long long)key), *fresh = mem_printf("%s.new", link);
    if (chmod(built, 0444) < 0 || rename(built, path) < 0)
        return error_set_errno(err, errno, "cannot keep the image %s", path);
    if (file_write(about_path, about.data ? about.data : "", about.len, 0444, err) < 0 || dir_make(sources, 0700, err) < 0)
        return -1;
    unlink(fresh);
    if (symlink(name, fresh) < 0 || rename(fresh, link) < 0)
        return error_set_errno(err, errno, "cannot keep %s", link);
    image->path = steal(&path);
    return 0;
}

/* --- building --- */

static int build(struct vm_images *v, const char *real, const struct stat *st, uint64_t key, struct vm_image *out,
                 struct error *err)
{
    CLEANUP_FREE char *images = mem_printf("%s/images", v->dir);
    CLEANUP_FREE char *built = mem_printf("%s/new-%016llx", images, (unsigned long long)key);
    if (dir_make(images, 0711, err) < 0)
        return -1;
    unlink(built);
    int64_t began = time_monotonic_ms();
    struct error why = {0};
    char content[SHA256_TEXT_SIZE];
    int result = vm_image_build(real, S_ISDIR(st->st_mode), v->max_mb, built, out, content, &why);
    if (result == 0)
        result = cache_add(v, key, built, content, out, &why);
    if (result < 0) {
        unlink(built);
        vm_image_clear(out);
        *err = why;
        return error_context(err, "image %s", real);
    }
    LOG_I("an image was built", "source", real, "image", out->path, "ms", LOG_I64(time_monotonic_ms() - began));
    return 0;
}

int vm_image_get(struct vm_images *v, const char *source, struct vm_image *out, struct error *err)
{
    CLEANUP_FREE char *real = NULL;
    struct stat st;
    uint64_t key;
    *out = (struct vm_image){0};
    if (vm_source_find(v->roots, source, &real, err) < 0)
        return error_context(err, "config.image");
    if (stat(real, &st) < 0)
        return error_set_errno(err, errno, "image %s", real);
    if (source_key(real, &st, &key, err) < 0)
        return error_context(err, "image %s", real);
    if (cache_find(v, key, out) == 0)
        return 0;
    uv_mutex_lock(&v->building);
    int result = cache_find(v, key, out) == 0 ? 0 : build(v, real, &st, key, out, err);
    uv_mutex_unlock(&v->building);
    return result;
}

/* --- garbage --- */

static void collect_one(const char *folder, const char *name, int64_t now_ms, int64_t age_ms)
{
    CLEANUP_FREE char *path = mem_printf("%s/%s", folder, name);
    struct stat st;
    size_t n = strlen(name);
    if (name[0] == '.' || (n > 6 && !strcmp(name + n - 6, ".about")) || lstat(path, &st) < 0)
        return;
    int64_t old_ms = now_ms - ((int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
    if (old_ms < (strncmp(name, "new-", 4) == 0 ? LEFTOVER_AGE_MS : age_ms))
        return;
    CLEANUP_FREE char *about = mem_printf("%s.about", path);
    LOG_I("an image that is not used any more is removed", "image", path);
    unlink(path);
    unlink(about);
}

static void links_collect(const struct vm_images *v)
{
    CLEANUP_FREE char *folder = mem_printf("%s/sources", v->dir);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char name[NAME_MAX + 1];
        ssize_t n = readlinkat(dirfd(d), e->d_name, name, sizeof name - 1);
        if (n <= 0)
            continue;
        name[n] = 0;
        CLEANUP_FREE char *path = mem_printf("%s/images/%s", v->dir, name);
        if (access(path, F_OK) < 0)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
}

void vm_images_collect(struct vm_images *v, int64_t age_ms)
{
    CLEANUP_FREE char *folder = mem_printf("%s/images", v->dir);
    int64_t now = time_now_ms();
    uv_mutex_lock(&v->building);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        collect_one(folder, e->d_name, now, age_ms);
    if (d)
        closedir(d);
    links_collect(v);
    uv_mutex_unlock(&v->building);
}
