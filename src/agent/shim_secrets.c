/* A guest's secrets: they lie in a directory of this host, in memory, and go to the guest over the line to it, as
 * src/guest/secrets.c takes them. The next piece goes when the one before was taken; a change that comes meanwhile makes
 * another go behind it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/shim_internal.h"
#include "base/mem.h"
#include "guest/frame.h"

#define SECRET_FILE_MAX (1u << 20)

void secrets_drop(struct secret_go *g)
{
    buf_wipe(&g->bytes);
    str_list_clear(&g->next);
    *g = (struct secret_go){0};
}

static void record_begin(struct buf *b, uint8_t kind, size_t n)
{
    /* Growing leaves copies: into memory that is large enough for both, and the old one is wiped. */
    CLEANUP_WIPE struct buf old = *b;
    *b = (struct buf){0};
    buf_reserve(b, old.len + 5 + n);
    buf_add(b, old.data, old.len);
    buf_add_u8(b, kind);
    buf_add_u32(b, (uint32_t)n);
}

/* A file that is gone, or is none of the agent's, is passed over. */
static void file_add(int dir, const char *name, struct buf *b)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= SECRET_FILE_MAX) {
        size_t size = (size_t)st.st_size, before = b->len;
        record_begin(b, FRAME_SECRETS_FILE, strlen(name) + 1 + size);
        buf_add(b, name, strlen(name) + 1);
        if (read(fd, b->data + b->len, size) == (ssize_t)size)
            b->len += size;
        else
            b->len = before;
    }
    if (fd >= 0)
        close(fd);
}

static void files_add(int dir, struct buf *b)
{
    DIR *d = fdopendir(dup(dir));
    for (struct dirent *e; d && (e = readdir(d));)
        if (*e->d_name != '.')
            file_add(dir, e->d_name, b);
    if (d)
        closedir(d);
}

static void piece_send(struct shim *s)
{
    struct secret_go *g = vm_secrets(s);
    size_t left = g->bytes.len - g->at;
    g->piece = left < FRAME_DATA_MAX ? left : FRAME_DATA_MAX;
    vm_frame_send(s, &(struct frame){.kind = FRAME_SECRETS, .stream = left > g->piece,
                                     .data = (uint8_t *)g->bytes.data + g->at, .n = g->piece});
}

/* files NULL: all of them, and the variables. */
static void go(struct shim *s, const struct str_list *files, int signal)
{
    struct secret_go *g = vm_secrets(s);
    int dir = open(s->spec.vm.secrets_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint8_t length[4];
    g->at = 0;
    g->signal = signal;
    buf_add_u32(&g->bytes, 0);
    for (uint32_t i = 0; !files && i < s->spec.vm.env.n; i++) {
        const char *pair = s->spec.vm.env.v[i];
        record_begin(&g->bytes, FRAME_SECRETS_ENV, strlen(pair) + 1);
        buf_add(&g->bytes, pair, strlen(pair) + 1);
    }
    for (uint32_t i = 0; dir >= 0 && files && i < files->n; i++)
        file_add(dir, files->v[i], &g->bytes);
    if (dir >= 0 && !files)
        files_add(dir, &g->bytes);
    if (dir >= 0)
        close(dir);
    frame_put_u32(length, (uint32_t)(g->bytes.len - sizeof length));
    memcpy(g->bytes.data, length, sizeof length);
    piece_send(s);
}

void secrets_begin(struct shim *s)
{
    if (!s->spec.vm.secrets_dir)
        return;
    secrets_drop(vm_secrets(s));
    go(s, NULL, 0);
}

void secrets_changed(struct shim *s, const struct str_list *files, int signal)
{
    struct secret_go *g = vm_secrets(s);
    if (!s->spec.vm.secrets_dir)
        return;
    if (!g->bytes.len) {
        go(s, files, signal);
        return;
    }
    g->again = true;
    g->next_signal = signal ? signal : g->next_signal;
    for (uint32_t i = 0; i < files->n; i++)
        if (!str_list_has(&g->next, files->v[i]))
            str_list_add(&g->next, files->v[i]);
}

void secrets_taken(struct shim *s)
{
    struct secret_go *g = vm_secrets(s);
    g->at += g->piece;
    g->piece = 0;
    if (g->at < g->bytes.len) {
        piece_send(s);
        return;
    }
    buf_wipe(&g->bytes);
    if (g->signal)
        vm_signal(s, g->signal);
    g->signal = 0;
    if (!g->again)
        return;
    struct str_list files = g->next;
    int signal = g->next_signal;
    g->next = (struct str_list){0};
    g->again = false;
    g->next_signal = 0;
    go(s, &files, signal);
    str_list_clear(&files);
}
