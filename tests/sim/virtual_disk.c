#include "virtual_disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FILES_MAX 128
#define HANDLES_MAX 64

/* A sector's content as one write left it. */
struct version {
    size_t sector;
    uint8_t bytes[VIRTUAL_SECTOR];
};

struct content {
    unsigned references;            /* names (current and durable) and handles */
    uint8_t *bytes, *durable;       /* both `capacity` long, zeros behind the sizes */
    size_t size, durable_size, capacity;
    struct version *versions;       /* since the last sync, in order */
    size_t n_versions, cap_versions;
};

struct name {
    char name[DISK_NAME_SIZE + 16];
    struct content *current, *durable;
};

struct virtual_disk {
    struct disk disk;
    struct random random;
    struct name names[FILES_MAX];
    size_t n_names;
    struct content *handles[HANDLES_MAX];
    uint64_t capacity;
    unsigned fail_after;
    bool failed, break_content, break_names;
    const char *break_files;
};

static struct virtual_disk *of(struct disk *disk)
{
    return container_of(disk, struct virtual_disk, disk);
}

static void unreference(struct content *c)
{
    if (!c || --c->references)
        return;
    free(c->bytes);
    free(c->durable);
    free(c->versions);
    free(c);
}

static void set(struct content **slot, struct content *c)
{
    if (c)
        c->references++;
    unreference(*slot);
    *slot = c;
}

/* True when the operation is not to be done (any more). */
static bool fails(struct virtual_disk *d)
{
    if (d->failed)
        return true;
    if (d->fail_after && !--d->fail_after)
        d->failed = true;
    return d->failed;
}

static struct name *find(struct virtual_disk *d, const char *name)
{
    for (size_t i = 0; i < d->n_names; i++)
        if (!strcmp(d->names[i].name, name))
            return &d->names[i];
    return NULL;
}

static struct name *find_or_add(struct virtual_disk *d, const char *name)
{
    struct name *n = find(d, name);
    for (size_t i = 0; !n && i < d->n_names; i++)
        if (!d->names[i].current && !d->names[i].durable)
            n = &d->names[i];
    if (!n) {
        INVARIANT(d->n_names < FILES_MAX);
        n = &d->names[d->n_names++];
    }
    snprintf(n->name, sizeof n->name, "%s", name);
    return n;
}

static void grow(struct content *c, size_t size)
{
    if (size <= c->capacity)
        return;
    size_t capacity = (size + 4095) & ~(size_t)4095;
    c->bytes = mem_realloc(c->bytes, capacity);
    c->durable = mem_realloc(c->durable, capacity);
    memset(c->bytes + c->capacity, 0, capacity - c->capacity);
    memset(c->durable + c->capacity, 0, capacity - c->capacity);
    c->capacity = capacity;
}

uint64_t virtual_disk_used(const struct virtual_disk *d)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < d->n_names; i++)
        if (d->names[i].current)
            sum += d->names[i].current->size;
    return sum;
}

static bool is_broken(const struct virtual_disk *d, const struct content *c)
{
    for (size_t i = 0; d->break_files && i < d->n_names; i++)
        if (d->names[i].current == c && !strncmp(d->names[i].name, d->break_files, strlen(d->break_files)))
            return c->durable_size > 0;
    return false;
}

static bool has_room(struct virtual_disk *d, const struct content *c, size_t size)
{
    return size <= c->size || virtual_disk_used(d) + (size - c->size) <= d->capacity;
}

static int virtual_open(struct disk *disk, const char *name, bool create)
{
    struct virtual_disk *d = of(disk);
    if (fails(d))
        return -EIO;
    struct name *n = find(d, name);
    if (!n || !n->current) {
        if (!create)
            return -ENOENT;
        n = find_or_add(d, name);
        set(&n->current, NEW(struct content));
    }
    for (int i = 0; i < HANDLES_MAX; i++)
        if (!d->handles[i]) {
            set(&d->handles[i], n->current);
            return i;
        }
    return -EMFILE;
}

static void virtual_close(struct disk *disk, int file)
{
    set(&of(disk)->handles[file], NULL);
}

static int virtual_size(struct disk *disk, int file, uint64_t *bytes)
{
    struct virtual_disk *d = of(disk);
    if (fails(d))
        return -EIO;
    *bytes = d->handles[file]->size;
    return 0;
}

static int virtual_read(struct disk *disk, int file, void *p, size_t len, uint64_t offset)
{
    struct virtual_disk *d = of(disk);
    struct content *c = d->handles[file];
    if (fails(d) || offset > c->size || len > c->size - offset)
        return -EIO;
    if (len)
        memcpy(p, c->bytes + offset, len);
    return 0;
}

static void remember(struct content *c, size_t sector)
{
    if (c->n_versions == c->cap_versions) {
        c->cap_versions = c->cap_versions ? c->cap_versions * 2 : 8;
        c->versions = mem_realloc_array(c->versions, c->cap_versions, sizeof c->versions[0]);
    }
    struct version *v = &c->versions[c->n_versions++];
    v->sector = sector;
    memcpy(v->bytes, c->bytes + sector * VIRTUAL_SECTOR, VIRTUAL_SECTOR);
}

static int virtual_write(struct disk *disk, int file, const void *p, size_t len, uint64_t offset)
{
    struct virtual_disk *d = of(disk);
    struct content *c = d->handles[file];
    if (d->failed)
        return -EIO;
    if (!has_room(d, c, offset + len))
        return -ENOSPC;
    bool fail = fails(d);
    grow(c, offset + len);
    if (c->size < offset + len)
        c->size = offset + len;
    for (size_t done = 0; done < len;) {
        size_t sector = (offset + done) / VIRTUAL_SECTOR;
        size_t part = (sector + 1) * VIRTUAL_SECTOR - (offset + done);
        if (part > len - done)
            part = len - done;
        if (!fail || random_below(&d->random, 2)) {
            memcpy(c->bytes + offset + done, (const uint8_t *)p + done, part);
            remember(c, sector);
        }
        done += part;
    }
    return fail ? -EIO : 0;
}

static int virtual_allocate(struct disk *disk, int file, uint64_t bytes)
{
    struct virtual_disk *d = of(disk);
    struct content *c = d->handles[file];
    if (fails(d))
        return -EIO;
    if (!has_room(d, c, bytes))
        return -ENOSPC;
    grow(c, bytes);
    if (c->size < bytes)
        c->size = bytes;
    return 0;
}

static int virtual_sync(struct disk *disk, int file)
{
    struct virtual_disk *d = of(disk);
    struct content *c = d->handles[file];
    if (fails(d))
        return -EIO;
    if (d->break_content || is_broken(d, c))
        return 0;
    if (c->capacity)
        memcpy(c->durable, c->bytes, c->capacity);
    c->durable_size = c->size;
    c->n_versions = 0;
    return 0;
}

static int virtual_rename(struct disk *disk, const char *from, const char *to)
{
    struct virtual_disk *d = of(disk);
    if (fails(d))
        return -EIO;
    struct name *source = find(d, from);
    if (!source || !source->current)
        return -ENOENT;
    struct name *target = find_or_add(d, to);
    set(&target->current, source->current);
    set(&source->current, NULL);
    return 0;
}

static int virtual_unlink(struct disk *disk, const char *name)
{
    struct virtual_disk *d = of(disk);
    if (fails(d))
        return -EIO;
    struct name *n = find(d, name);
    if (!n || !n->current)
        return -ENOENT;
    set(&n->current, NULL);
    return 0;
}

static int virtual_list(struct disk *disk, void (*each)(void *ctx, const char *name), void *ctx)
{
    struct virtual_disk *d = of(disk);
    if (fails(d))
        return -EIO;
    for (size_t i = 0; i < d->n_names; i++)
        if (d->names[i].current)
            each(ctx, d->names[i].name);
    return 0;
}

static int virtual_sync_directory(struct disk *disk)
{
    struct virtual_disk *d = of(disk);
    if (fails(d))
        return -EIO;
    for (size_t i = 0; !d->break_names && i < d->n_names; i++)
        set(&d->names[i].durable, d->names[i].current);
    return 0;
}

static int virtual_free_bytes(struct disk *disk, uint64_t *bytes)
{
    struct virtual_disk *d = of(disk);
    if (fails(d))
        return -EIO;
    uint64_t used = virtual_disk_used(d);
    *bytes = used < d->capacity ? d->capacity - used : 0;
    return 0;
}

static void close_handles(struct virtual_disk *d)
{
    for (int i = 0; i < HANDLES_MAX; i++)
        set(&d->handles[i], NULL);
}

static void virtual_free(struct disk *disk)
{
    struct virtual_disk *d = of(disk);
    close_handles(d);
    for (size_t i = 0; i < d->n_names; i++) {
        set(&d->names[i].current, NULL);
        set(&d->names[i].durable, NULL);
    }
    free(d);
}

static const struct disk_operations operations = {
    .open = virtual_open,
    .close = virtual_close,
    .size = virtual_size,
    .read = virtual_read,
    .write = virtual_write,
    .allocate = virtual_allocate,
    .sync = virtual_sync,
    .rename = virtual_rename,
    .unlink = virtual_unlink,
    .list = virtual_list,
    .sync_directory = virtual_sync_directory,
    .free_bytes = virtual_free_bytes,
    .free = virtual_free,
};

struct virtual_disk *virtual_disk_new(uint64_t seed)
{
    struct virtual_disk *d = NEW(struct virtual_disk);
    d->disk = (struct disk){.op = &operations, .place = "virtual"};
    d->random.state = seed;
    d->capacity = UINT64_MAX / 2;
    return d;
}

struct disk *virtual_disk_disk(struct virtual_disk *d) { return &d->disk; }
void virtual_disk_fail_after(struct virtual_disk *d, unsigned operations_left) { d->fail_after = operations_left; }
bool virtual_disk_failed(const struct virtual_disk *d) { return d->failed; }
void virtual_disk_set_capacity(struct virtual_disk *d, uint64_t bytes) { d->capacity = bytes; }

void virtual_disk_break_sync(struct virtual_disk *d, bool content, bool names)
{
    d->break_content = content;
    d->break_names = names;
}

void virtual_disk_break_files(struct virtual_disk *d, const char *prefix) { d->break_files = prefix; }

/* Later versions of a sector overwrite earlier ones where both were kept. */
static void lose_content(struct virtual_disk *d, struct content *c)
{
    for (size_t i = 0; i < c->n_versions && !is_broken(d, c); i++) {
        const struct version *v = &c->versions[i];
        uint8_t *sector = c->durable + v->sector * VIRTUAL_SECTOR;
        switch (random_below(&d->random, 5)) {
        case 0:
        case 1:
            break;
        case 2:
            memcpy(sector, v->bytes, random_below(&d->random, VIRTUAL_SECTOR));
            break;
        default:
            memcpy(sector, v->bytes, VIRTUAL_SECTOR);
        }
    }
    if (c->size != c->durable_size && random_below(&d->random, 2))
        c->durable_size = c->size;
    c->size = c->durable_size;
    c->n_versions = 0;
    if (!c->capacity)
        return;
    memset(c->durable + c->size, 0, c->capacity - c->size);
    memcpy(c->bytes, c->durable, c->capacity);
}

void virtual_disk_crash(struct virtual_disk *d)
{
    close_handles(d);
    for (size_t i = 0; i < d->n_names; i++) {
        struct name *n = &d->names[i];
        if (n->current != n->durable && random_below(&d->random, 2))
            set(&n->durable, n->current);
        set(&n->current, n->durable);
    }
    for (size_t i = 0; i < d->n_names; i++)
        if (d->names[i].current)
            lose_content(d, d->names[i].current);
    d->failed = false;
    d->fail_after = 0;
}

uint8_t *virtual_disk_bytes(struct virtual_disk *d, const char *name, size_t *len)
{
    struct name *n = find(d, name);
    if (!n || !n->current)
        return NULL;
    *len = n->current->size;
    return n->current->bytes;
}
