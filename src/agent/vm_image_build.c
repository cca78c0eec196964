#include "agent/vm_image_build.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tool.h"
#include "agent/vm_archive.h"
#include "base/buf.h"
#include "base/mem.h"

#define BUILD_TIMEOUT_MS 3600000
#define SUPERBLOCK 1024              /* of ext4, in the file */
#define HEAD_SIZE 2048
#define COPY_SIZE (1u << 20)
#define INIT_DEFAULT "/sbin/init"    /* what a root file system that says nothing runs */

/* How every image is packed: quickly unpacked by the guest, the same bytes from the same source. */
#define PACKING "-noappend", "-quiet", "-no-progress", "-no-exports", "-comp", "zstd", "-Xcompression-level", "3", \
                "-mkfs-time", "0"

/* --- a static program: a root file system with nothing but it --- */

static int program_check(const char *head, size_t n, int fd, struct error *err)
{
    Elf64_Ehdr e;
    if (n < sizeof e)
        return error_set(err, ERROR_INVALID, "it is not a whole program");
    memcpy(&e, head, sizeof e);
    if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != EM_X86_64 || (e.e_type != ET_EXEC && e.e_type != ET_DYN))
        return error_set(err, ERROR_INVALID, "it is no program for x86_64");
    for (int i = 0; i < e.e_phnum; i++) {
        Elf64_Phdr p;
        if (e.e_phentsize != sizeof p || pread(fd, &p, sizeof p, (off_t)(e.e_phoff + (uint64_t)i * sizeof p)) != sizeof p)
            return error_set(err, ERROR_INVALID, "it is not a whole program");
        if (p.p_type == PT_INTERP)
            return error_set(err, ERROR_INVALID, "it is a dynamic program, whose libraries an image of it alone would lack; "
                             "link it statically, or give a root file system");
    }
    return 0;
}

static int file_stream(struct tar_out *t, int fd, struct error *err)
{
    CLEANUP_FREE char *bytes = mem_alloc(COPY_SIZE);
    ssize_t n;
    while ((n = read(fd, bytes, COPY_SIZE)) > 0)
        if (tar_out_bytes(t, bytes, (size_t)n, err) < 0)
            return -1;
    return n < 0 ? error_set_errno(err, errno, "cannot read it") : 0;
}

static int program_build(const char *source, int fd, const struct stat *st, const char *built, struct vm_image *out,
                         char content[static SHA256_TEXT_SIZE], struct error *err)
{
    static const char *const folders[] = {"dev", "proc", "sys", "etc", "run", "root"};
    static const struct { const char *path, *text; } files[] = {
        {"etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
        {"etc/group", "root:x:0:\nnogroup:x:65534:\n"},
    };
    const char *name = strrchr(source, '/') + 1;
    struct tar_out *t;
    if (tar_out_open(built, &t, err) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; result == 0 && i < ARRAY_LEN(folders); i++)
        result = tar_out_entry(t, &(struct tar_entry){.type = '5', .path = folders[i], .mode = 0755}, err);
    if (result == 0)
        result = tar_out_entry(t, &(struct tar_entry){.type = '5', .path = "tmp", .mode = 01777}, err);
    for (size_t i = 0; result == 0 && i < ARRAY_LEN(files); i++) {
        size_t n = strlen(files[i].text);
        result = tar_out_entry(t, &(struct tar_entry){.type = '0', .path = files[i].path, .mode = 0644, .size = n}, err);
        if (result == 0)
            result = tar_out_bytes(t, files[i].text, n, err);
    }
    if (result == 0)
        result = tar_out_entry(t, &(struct tar_entry){.type = '0', .path = name, .mode = 0755, .size = (uint64_t)st->st_size,
                                                      .mtime = st->st_mtim.tv_sec}, err);
    if (result == 0)
        result = file_stream(t, fd, err);
    if (tar_out_close(t, result == 0, content, err) < 0)
        return -1;
    CLEANUP_FREE char *entry = mem_printf("/%s", name);
    str_list_add(&out->entrypoint, entry);
    return 0;
}

/* --- file system images: copied, since the machines rely on what they were when they were checked --- */

static uint32_t little(const char *p)
{
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static int copy(int fd, int64_t size, const char *built, struct error *err)
{
    int to = open(built, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return error_set_errno(err, errno, "cannot make %s", built);
    int result = 0;
    off_t from = 0;
    while (from < size) {
        ssize_t n = copy_file_range(fd, &from, to, NULL, (size_t)(size - from), 0);
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
            CLEANUP_FREE char *bytes = mem_alloc(COPY_SIZE);
            n = pread(fd, bytes, COPY_SIZE, from);
            if (n > 0 && write(to, bytes, (size_t)n) != n)
                n = -1;
            from += n > 0 ? n : 0;
        }
        if (n <= 0) {
            result = error_set_errno(err, n ? errno : EIO, "cannot copy it");
            break;
        }
    }
    close(to);
    return result;
}

static int squashfs_build(int fd, const char *head, const struct stat *st, const char *built, struct error *err)
{
    uint64_t used = (uint64_t)little(head + 40) | (uint64_t)little(head + 44) << 32;
    if (little(head + 28) >> 16 || used > (uint64_t)st->st_size)
        return error_set(err, ERROR_INVALID, "it is a squashfs image that is cut off: %llu bytes of %llu",
                         (unsigned long long)st->st_size, (unsigned long long)used);
    return copy(fd, st->st_size, built, err);
}

static int ext4_build(int fd, const char *head, const struct stat *st, const char *built, struct error *err)
{
    const char *super = head + SUPERBLOCK;
    uint64_t blocks = (uint64_t)little(super + 4) | (little(super + 96) & 0x80 ? (uint64_t)little(super + 336) << 32 : 0);
    uint32_t shift = little(super + 24);
    uint64_t bytes = shift <= 6 ? blocks << (10 + shift) : UINT64_MAX;
    if (bytes > (uint64_t)st->st_size)
        return error_set(err, ERROR_INVALID, "it is an ext4 image that is cut off: %llu bytes of %llu",
                         (unsigned long long)st->st_size, (unsigned long long)bytes);
    if (copy(fd, st->st_size, built, err) < 0)
        return -1;
    /* -n: nothing is written; what would have to be repaired is the owner's business. */
    const char *const argv[] = {"e2fsck", "-n", "-f", built, NULL};
    if (tool_run(&(struct tool){.argv = argv, .timeout_ms = BUILD_TIMEOUT_MS}, NULL, err) < 0)
        return error_context(err, "it is a damaged ext4 image");
    return 0;
}

/* --- all kinds --- */

static int directory_build(const char *source, const char *built, struct error *err)
{
    const char *const argv[] = {"mksquashfs", source, built, PACKING, NULL};
    return tool_run(&(struct tool){.argv = argv, .timeout_ms = BUILD_TIMEOUT_MS}, NULL, err);
}

static int file_build(const char *source, int fd, int64_t max_mb, const char *built, struct vm_image *out,
                      char content[static SHA256_TEXT_SIZE], struct error *err)
{
    struct stat st;
    char head[HEAD_SIZE] = "";
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0 || fstat(fd, &st) < 0)
        return error_set_errno(err, errno, "cannot read it");
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID, "it is neither a file nor a directory");
    if (st.st_size > max_mb << 20)
        return error_set(err, ERROR_TOO_LARGE, "it is larger than %lld MB (firecracker.image_max_mb of agent.yaml)",
                         (long long)max_mb);
    if (memcmp(head, ELFMAG, SELFMAG) == 0)
        return program_check(head, (size_t)n, fd, err) < 0 ? -1 : program_build(source, fd, &st, built, out, content, err);
    if (memcmp(head, "hsqs", 4) == 0)
        return squashfs_build(fd, head, &st, built, err);
    if (n == HEAD_SIZE && head[SUPERBLOCK + 56] == 0x53 && (uint8_t)head[SUPERBLOCK + 57] == 0xef) {
        out->type = "ext4";
        return ext4_build(fd, head, &st, built, err);
    }
    if (vm_archive_looks_like(head, (size_t)n))
        return vm_archive_build(fd, st.st_size, max_mb, built, out, content, err);
    return error_set(err, ERROR_INVALID, "it is none of: static program, tar archive (plain, gzip or zstd), OCI or docker-save "
                     "archive, ext4 or squashfs image, directory");
}

int vm_image_build(const char *source, bool directory, int64_t max_mb, const char *built, struct vm_image *out,
                   char content[static SHA256_TEXT_SIZE], struct error *err)
{
    *content = 0;
    *out = (struct vm_image){.type = "squashfs"};
    int fd = directory ? -1 : open(source, O_RDONLY | O_CLOEXEC);
    if (!directory && fd < 0)
        return error_set_errno(err, errno, "cannot read it");
    int result = directory ? directory_build(source, built, err)
        : file_build(source, fd, max_mb, built, out, content, err);
    if (fd >= 0)
        close(fd);
    if (result == 0 && !out->entrypoint.n && !out->command.n)
        str_list_add(&out->entrypoint, INIT_DEFAULT);
    return result;
}

/* --- tar into mksquashfs --- */

#define BLOCK 512
#define NAME_ROOM 100
#define OUT_SIZE (256 * 1024)

struct tar_out {
    struct tool_process process;
    struct tool tool;
    const char *argv[24];
    char *built;
    int in;
    struct buf waiting;
    EVP_MD_CTX *digest;
    uint64_t left;                   /* of the last entry's bytes */
    unsigned padding;
};

int tar_out_open(const char *built, struct tar_out **out, struct error *err)
{
    struct tar_out *t = NEW(struct tar_out);
    t->built = mem_strdup(built);
    t->digest = EVP_MD_CTX_new();
    INVARIANT(t->digest && EVP_DigestInit_ex(t->digest, EVP_sha256(), NULL) == 1);
    const char *const argv[] = {"mksquashfs", "-", t->built, "-tar", PACKING, "-root-mode", "0755", "-root-uid", "0",
                                "-root-gid", "0", NULL};
    _Static_assert(ARRAY_LEN(argv) <= ARRAY_LEN(t->argv), "room for the arguments");
    memcpy(t->argv, argv, sizeof argv);
    t->tool = (struct tool){.argv = t->argv, .timeout_ms = BUILD_TIMEOUT_MS};
    if (tool_start(&t->tool, &t->process, &t->in, err) == 0) {
        *out = t;
        return 0;
    }
    EVP_MD_CTX_free(t->digest);
    free(t->built);
    free(t);
    return -1;
}

static int flush(struct tar_out *t, size_t keep, struct error *err)
{
    size_t at = 0;
    while (t->waiting.len - at > keep) {
        ssize_t n = write(t->in, t->waiting.data + at, t->waiting.len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno(err, errno, "mksquashfs takes no more");
        at += (size_t)n;
    }
    buf_consume(&t->waiting, at);
    return 0;
}

static int put(struct tar_out *t, const void *bytes, size_t n, struct error *err)
{
    EVP_DigestUpdate(t->digest, bytes, n);
    buf_add(&t->waiting, bytes, n);
    return t->waiting.len > OUT_SIZE ? flush(t, 0, err) : 0;
}

/* Octal where it has room, else binary with the highest bit set. */
static void number(char *field, size_t size, uint64_t v)
{
    if (v < 1ull << (3 * (size - 1))) {
        char text[32];
        snprintf(text, sizeof text, "%0*llo", (int)size - 1, (unsigned long long)v);
        memcpy(field, text, size - 1);
        return;
    }
    for (size_t i = size; i-- > 0; v >>= 8)
        field[i] = (char)(v & 0xff);
    field[0] = (char)0x80;
}

static int header(struct tar_out *t, const struct tar_entry *e, struct error *err)
{
    char h[BLOCK] = "";
    size_t path = strlen(e->path), link = e->link ? strlen(e->link) : 0;
    memcpy(h, e->path, path < NAME_ROOM ? path : NAME_ROOM);
    number(h + 100, 8, e->mode & 07777);
    number(h + 108, 8, e->uid);
    number(h + 116, 8, e->gid);
    number(h + 124, 12, e->size);
    number(h + 136, 12, e->mtime > 0 ? (uint64_t)e->mtime : 0);
    memset(h + 148, ' ', 8);
    h[156] = e->type;
    if (link)
        memcpy(h + 157, e->link, link < NAME_ROOM ? link : NAME_ROOM);
    memcpy(h + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (int i = 0; i < BLOCK; i++)
        sum += (uint8_t)h[i];
    snprintf(h + 148, 8, "%06o", sum);
    return put(t, h, sizeof h, err);
}

/* "LENGTH key=value\n", where the length counts itself. */
static void pax_add(struct buf *b, const char *key, const char *value)
{
    size_t n = strlen(key) + strlen(value) + 3, digits = 1;
    for (size_t v = n + digits; v >= 10; v /= 10)
        digits++;
    if (snprintf(NULL, 0, "%zu", n + digits) > (int)digits)
        digits++;
    buf_printf(b, "%zu %s=%s\n", n + digits, key, value);
}

static int pad(struct tar_out *t, size_t n, struct error *err)
{
    static const char zeros[BLOCK];
    return n % BLOCK ? put(t, zeros, BLOCK - n % BLOCK, err) : 0;
}

int tar_out_entry(struct tar_out *t, const struct tar_entry *e, struct error *err)
{
    CLEANUP_BUF struct buf pax = {0};
    if (strlen(e->path) >= NAME_ROOM)
        pax_add(&pax, "path", e->path);
    if (e->link && strlen(e->link) >= NAME_ROOM)
        pax_add(&pax, "linkpath", e->link);
    if (pax.len && (header(t, &(struct tar_entry){.type = 'x', .path = "pax", .mode = 0644, .size = pax.len}, err) < 0 ||
                    put(t, pax.data, pax.len, err) < 0 || pad(t, pax.len, err) < 0))
        return -1;
    t->left = e->size;
    t->padding = (unsigned)(e->size % BLOCK ? BLOCK - e->size % BLOCK : 0);
    return header(t, e, err);
}

int tar_out_bytes(struct tar_out *t, const void *bytes, size_t n, struct error *err)
{
    static const char zeros[BLOCK];
    if (n > t->left)
        return error_set(err, ERROR_CONFLICT, "it grew while it was read");
    t->left -= n;
    if (put(t, bytes, n, err) < 0)
        return -1;
    return t->left == 0 && n ? put(t, zeros, t->padding, err) : 0;
}

int tar_out_close(struct tar_out *t, bool keep, char digest[static SHA256_TEXT_SIZE], struct error *err)
{
    static const char end[2 * BLOCK];
    struct error own = {0};
    bool whole = keep && t->left == 0 && put(t, end, sizeof end, &own) == 0 && flush(t, 0, &own) == 0;
    if (keep && !whole && !own.code)
        error_set(&own, ERROR_CONFLICT, "it became shorter while it was read");
    close(t->in);
    struct error failed = {0};
    int result = tool_wait(&t->process, &t->tool, NULL, &failed);
    /* That it takes no more is a consequence: what it said itself is the reason. */
    if (keep && result < 0)
        own = failed;
    if (!whole || result < 0) {
        unlink(t->built);
        if (own.code)
            *err = own;
    }
    digest_format(t->digest, digest);
    EVP_MD_CTX_free(t->digest);
    buf_free(&t->waiting);
    free(t->built);
    free(t);
    return whole && result == 0 ? 0 : -1;
}
