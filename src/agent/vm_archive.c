/* The happy path: the outer archive's entries are listed; an index.json makes it an OCI layout, a manifest.json what
 * `docker save` writes, and nothing of both a root file system itself. Layers are read from the last to the first, and of
 * each what no later one has replaced is passed on, so that nothing is ever taken back. */
#include "agent/vm_archive.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "agent/vm_tar.h"
#include "base/mem.h"
#include "model/value.h"

#define ENTRIES_MAX 1000000
#define MEMBERS_MAX 100000
#define LAYERS_MAX 256
#define DOCUMENT_MAX (4 << 20)
#define COPY_SIZE 65536
#define WHITEOUT ".wh."
#define WHITEOUT_ALL ".wh..wh..opq"
#define MANIFEST_DEPTH 3             /* an index may point to an index */

/* --- the tree that comes out --- */

struct node {
    UT_hash_handle hh;
    char type;                       /* as in tar; 'w': taken away by a later layer */
    int layer, opaque;               /* opaque: the layer that hides what is below in earlier ones; -1: none */
    char path[];
};

struct tree {
    struct node *nodes;
    long left;
    struct tar_out *out;
    int layer;
};

static struct node *node_find(const struct tree *t, const char *path, size_t n)
{
    struct node *found;
    HASH_FIND(hh, t->nodes, path, (unsigned)n, found);
    return found;
}

static struct node *node_add(struct tree *t, const char *path, size_t n, char type)
{
    struct node *new = mem_alloc(sizeof *new + n + 1);
    memcpy(new->path, path, n);
    new->type = type;
    new->layer = t->layer;
    new->opaque = -1;
    HASH_ADD_KEYPTR(hh, t->nodes, new->path, (unsigned)n, new);
    t->left--;
    return new;
}

static void tree_clear(struct tree *t)
{
    struct node *n, *next;
    HASH_ITER(hh, t->nodes, n, next) {
        HASH_DEL(t->nodes, n);
        free(n);
    }
}

/* Whether a later layer has put something else in the place of the path or of what it is in. -1: the archive contradicts
 * itself. */
static int hidden(const struct tree *t, const char *path, struct error *err)
{
    for (const char *p = path; *p; p++) {
        if (*p != '/')
            continue;
        const struct node *above = node_find(t, path, (size_t)(p - path));
        if (above && above->type != '5' && above->layer == t->layer && above->type != 'w')
            return error_set(err, ERROR_INVALID, "`%.200s` in the archive goes through `%.200s`, which is no directory", path,
                             above->path);
        if (above && above->layer > t->layer && (above->type != '5' || above->opaque > t->layer))
            return 1;
        if (above && above->opaque > t->layer)
            return 1;
    }
    const struct node *same = node_find(t, path, strlen(path));
    return same && same->layer > t->layer;
}

/* The directories that it is in, as far as the archive does not bring them itself. */
static int parents_add(struct tree *t, const char *path, struct error *err)
{
    for (const char *p = path; (p = strchr(p, '/')); p++) {
        size_t n = (size_t)(p - path);
        if (node_find(t, path, n))
            continue;
        CLEANUP_FREE char *parent = mem_strndup(path, n);
        node_add(t, path, n, '5');
        if (tar_out_entry(t->out, &(struct tar_entry){.type = '5', .path = parent, .mode = 0755}, err) < 0)
            return -1;
    }
    return 0;
}

static int bytes_pass(struct tree *t, struct tar_in *in, struct error *err)
{
    char bytes[COPY_SIZE];
    ssize_t n;
    while ((n = tar_in_read(in, bytes, sizeof bytes, err)) > 0)
        if (tar_out_bytes(t->out, bytes, (size_t)n, err) < 0)
            return -1;
    return n < 0 ? -1 : 0;
}

/* What a layer takes away of those before it. Returns true when the entry was such a mark. */
static bool whiteout_take(struct tree *t, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t dir = slash ? (size_t)(slash - path) : 0;
    if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) != 0)
        return false;
    if (!strcmp(name, WHITEOUT_ALL)) {
        struct node *n = node_find(t, path, dir);
        n = n ? n : node_add(t, path, dir, '5');
        if (n->opaque < t->layer)
            n->opaque = t->layer;
        return true;
    }
    CLEANUP_FREE char *gone = mem_printf("%.*s%s%s", (int)dir, path, dir ? "/" : "", name + strlen(WHITEOUT));
    if (!node_find(t, gone, strlen(gone)))
        node_add(t, gone, strlen(gone), 'w');
    return true;
}

static int link_check(const struct tree *t, const struct tar_entry *e, struct error *err)
{
    const struct node *target = node_find(t, e->link, strlen(e->link));
    if (target && target->type == '0' && target->layer == t->layer)
        return 0;
    return error_set(err, ERROR_INVALID, "the link `%.150s` in the archive is to `%.150s`, which %s", e->path, e->link,
                     !target ? "is not there before it" : target->layer != t->layer ? "another layer replaces" : "is no file");
}

static int entry_take(struct tree *t, struct tar_in *in, const struct tar_entry *e, bool layered, struct error *err)
{
    if (t->left <= 0)
        return error_set(err, ERROR_TOO_LARGE, "it has more than %d entries", ENTRIES_MAX);
    if (!*e->path)
        return 0;
    int rc = hidden(t, e->path, err);
    if (rc || (layered && whiteout_take(t, e->path)))
        return rc < 0 ? -1 : 0;
    struct node *n = node_find(t, e->path, strlen(e->path));
    if (n && n->layer == t->layer && n->type == 'w') {
        n->type = e->type;           /* replaced within its own layer: what earlier ones have stays hidden */
    } else if (n && n->type == '5' && e->type == '5') {
        return 0;
    } else if (n) {
        return error_set(err, ERROR_INVALID, "`%.200s` is twice in the archive", e->path);
    }
    if (e->type == '1' && link_check(t, e, err) < 0)
        return -1;
    if (parents_add(t, e->path, err) < 0)
        return -1;
    if (!n)
        node_add(t, e->path, strlen(e->path), e->type == '1' ? '0' : e->type);
    if (tar_out_entry(t->out, e, err) < 0)
        return -1;
    return e->type == '0' ? bytes_pass(t, in, err) : 0;
}

static int layer_take(struct tree *t, struct stream_in *s, bool layered, struct error *err)
{
    struct tar_in in = {.in = s};
    struct tar_entry e;
    int rc;
    while ((rc = tar_in_next(&in, &e, err)) > 0)
        if (entry_take(t, &in, &e, layered, err) < 0) {
            rc = -1;
            break;
        }
    tar_in_clear(&in);
    return rc;
}

/* --- the outer archive --- */

struct member {
    UT_hash_handle hh;
    int64_t offset, size;
    char name[];
};

struct archive {
    int fd;
    int64_t size, budget;
    struct member *members;
    char *content;                   /* SHA256_TEXT_SIZE bytes for the digest of what comes out */
};

static void archive_clear(struct archive *a)
{
    struct member *m, *next;
    HASH_ITER(hh, a->members, m, next) {
        HASH_DEL(a->members, m);
        free(m);
    }
}

static const struct member *member_find(const struct archive *a, const char *name)
{
    struct member *m;
    HASH_FIND_STR(a->members, name, m);
    return m;
}

/* Lists a plain archive; a packed one can only be a root file system. The budget is for what is unpacked later. */
static int members_list(struct archive *a, struct error *err)
{
    int64_t enough = a->size;
    int left = MEMBERS_MAX, rc;
    struct stream_in *s = stream_in_open(a->fd, 0, a->size, &enough);
    struct tar_in in = {.in = s};
    struct tar_entry e;
    while ((rc = tar_in_next(&in, &e, err)) > 0 && left-- > 0) {
        if (e.type != '0' || member_find(a, e.path))
            continue;
        struct member *m = mem_alloc(sizeof *m + strlen(e.path) + 1);
        strcpy(m->name, e.path);
        m->offset = (int64_t)in.offset;
        m->size = (int64_t)e.size;
        HASH_ADD_STR(a->members, name, m);
    }
    tar_in_clear(&in);
    stream_in_close(s);
    return rc < 0 ? -1 : 0;
}

static int digest_check(const char *name, const char *wanted, const char *found, struct error *err)
{
    if (!strcmp(wanted, found))
        return 0;
    return error_set(err, ERROR_INVALID, "the digest of %.150s is %.12s…, but %.12s… is named for it: the archive is damaged or "
                     "was changed", name, found, wanted);
}

/* A JSON document of the archive. digest (hexadecimal; NULL: none is known) is checked. */
static int document_read(struct archive *a, const char *name, const char *digest, struct value *out, struct error *err)
{
    const struct member *m = member_find(a, name);
    char packed[SHA256_TEXT_SIZE], unpacked[SHA256_TEXT_SIZE];
    *out = (struct value){0};
    if (!m || m->size > DOCUMENT_MAX)
        return error_set(err, ERROR_INVALID, m ? "%.150s in the archive is too long" : "%.150s is missing in the archive", name);
    CLEANUP_FREE char *text = mem_alloc((size_t)m->size + 1);
    struct stream_in *s = stream_in_open(a->fd, m->offset, m->size, &a->budget);
    size_t n = 0;
    ssize_t got;
    while ((got = stream_in_read(s, text + n, (size_t)m->size - n, err)) > 0)
        n += (size_t)got;
    int rc = got < 0 ? -1 : stream_in_finish(s, packed, unpacked, err);
    stream_in_close(s);
    if (rc < 0 || (digest && digest_check(name, digest, packed, err) < 0))
        return -1;
    struct problem_list problems = {0};
    rc = value_from_json(text, n, out, &problems);
    problem_list_clear(&problems);
    return rc < 0 ? error_set(err, ERROR_INVALID, "%.150s in the archive is no JSON", name) : 0;
}

/* --- what an image says of itself --- */

static void list_take(const struct value *v, const char *path, struct str_list *out)
{
    const struct value *list = value_path(v, path);
    for (uint32_t i = 0; list && list->kind == VALUE_LIST && i < list->n; i++)
        if (list->entries[i].value.kind == VALUE_TEXT)
            str_list_add(out, list->entries[i].value.text);
}

static int about_take(const struct value *config, struct vm_image *out, struct error *err)
{
    const char *architecture = value_text(config, "architecture"), *system = value_text(config, "os");
    if ((architecture && strcmp(architecture, "amd64")) || (system && *system && strcmp(system, "linux")))
        return error_set(err, ERROR_INVALID, "the image is for %s on %s, not for linux on amd64", system ? system : "linux",
                         architecture ? architecture : "amd64");
    list_take(config, "config/Entrypoint", &out->entrypoint);
    list_take(config, "config/Cmd", &out->command);
    list_take(config, "config/Env", &out->env);
    const char *user = value_text(config, "config/User"), *dir = value_text(config, "config/WorkingDir");
    out->user = user && *user ? mem_strdup(user) : NULL;
    out->workdir = dir && *dir ? mem_strdup(dir) : NULL;
    return 0;
}

struct layer { char *name, *digest, *diff; };        /* digest: of the blob, NULL: not named; diff: of what is in it */

static void layers_clear(struct layer *layers, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        free(layers[i].name);
        free(layers[i].digest);
        free(layers[i].diff);
    }
}

static bool is_digest(const char *hex)
{
    return strlen(hex) == SHA256_TEXT_SIZE - 1 && strspn(hex, "0123456789abcdef") == SHA256_TEXT_SIZE - 1;
}

/* The hexadecimal part of "sha256:…"; NULL with err set for anything else. */
static const char *digest_hex(const char *digest, struct error *err)
{
    if (digest && !strncmp(digest, "sha256:", 7) && is_digest(digest + 7))
        return digest + 7;
    error_set(err, ERROR_INVALID, "`%.80s` in the archive is no sha256 digest", digest ? digest : "");
    return NULL;
}

static int layers_build(struct archive *a, const struct layer *layers, uint32_t n, const char *built, struct error *err)
{
    struct tree t = {.left = ENTRIES_MAX};
    char packed[SHA256_TEXT_SIZE], unpacked[SHA256_TEXT_SIZE];
    if (tar_out_open(built, &t.out, err) < 0)
        return -1;
    int rc = 0;
    for (uint32_t i = n; rc == 0 && i-- > 0;) {
        const struct member *m = member_find(a, layers[i].name);
        if (!m) {
            rc = error_set(err, ERROR_INVALID, "layer %.150s is missing in the archive", layers[i].name);
            break;
        }
        t.layer = (int)i;
        struct stream_in *s = stream_in_open(a->fd, m->offset, m->size, &a->budget);
        rc = layer_take(&t, s, true, err) < 0 || stream_in_finish(s, packed, unpacked, err) < 0 ? -1 : 0;
        stream_in_close(s);
        if (rc == 0 && layers[i].digest)
            rc = digest_check(layers[i].name, layers[i].digest, packed, err);
        if (rc == 0 && layers[i].diff)
            rc = digest_check(layers[i].name, layers[i].diff, unpacked, err);
    }
    tree_clear(&t);
    return tar_out_close(t.out, rc == 0, a->content, err);
}

/* Names and digests of the layers, from a list of texts or of descriptors, and the configuration's diff_ids. */
static int layers_list(const struct value *list, const struct value *config, bool oci, struct layer *layers, uint32_t *n,
                       struct error *err)
{
    const struct value *diffs = value_path(config, "rootfs/diff_ids");
    *n = 0;
    if (!list || list->kind != VALUE_LIST || list->n == 0 || list->n > LAYERS_MAX || !diffs || diffs->kind != VALUE_LIST ||
        diffs->n != list->n)
        return error_set(err, ERROR_INVALID, "the archive's manifest and its image's configuration do not name the same layers");
    for (uint32_t i = 0; i < list->n; i++) {
        const struct value *item = &list->entries[i].value, *diff = &diffs->entries[i].value;
        const char *diff_hex = digest_hex(diff->kind == VALUE_TEXT ? diff->text : NULL, err);
        const char *hex = oci ? digest_hex(value_text(item, "digest"), err) : NULL;
        if (!diff_hex || (oci && !hex))
            return -1;
        if (!oci && item->kind != VALUE_TEXT)
            return error_set(err, ERROR_INVALID, "the archive's manifest is damaged");
        layers[(*n)++] = (struct layer){.name = oci ? mem_printf("blobs/sha256/%s", hex) : mem_strdup(item->text),
                                        .digest = hex ? mem_strdup(hex) : NULL, .diff = mem_strdup(diff_hex)};
    }
    return 0;
}

static int image_build(struct archive *a, const char *config_name, const char *config_digest, const struct value *list,
                       bool oci, const char *built, struct vm_image *out, struct error *err)
{
    struct value config;
    struct layer layers[LAYERS_MAX];
    uint32_t n = 0;
    if (document_read(a, config_name, config_digest, &config, err) < 0)
        return -1;
    int rc = about_take(&config, out, err) < 0 || layers_list(list, &config, oci, layers, &n, err) < 0 ? -1
        : layers_build(a, layers, n, built, err);
    layers_clear(layers, n);
    value_clear(&config);
    return rc;
}

/* --- OCI --- */

/* The one for this machine; without a platform, the first. */
static const struct value *descriptor_choose(const struct value *index)
{
    const struct value *list = value_path(index, "manifests");
    for (uint32_t i = 0; list && list->kind == VALUE_LIST && i < list->n; i++) {
        const struct value *d = &list->entries[i].value;
        const char *architecture = value_text(d, "platform/architecture"), *system = value_text(d, "platform/os");
        if ((!architecture || !strcmp(architecture, "amd64")) && (!system || !strcmp(system, "linux")))
            return d;
    }
    return NULL;
}

static int oci_build(struct archive *a, const struct value *index, int depth, const char *built, struct vm_image *out,
                     struct error *err)
{
    const struct value *d = descriptor_choose(index);
    if (!d)
        return error_set(err, ERROR_INVALID, "the archive has no image for linux on amd64");
    const char *hex = digest_hex(value_text(d, "digest"), err);
    if (!hex)
        return -1;
    CLEANUP_FREE char *name = mem_printf("blobs/sha256/%s", hex);
    struct value manifest;
    if (document_read(a, name, hex, &manifest, err) < 0)
        return -1;
    int rc;
    if (value_path(&manifest, "manifests")) {
        rc = depth < MANIFEST_DEPTH ? oci_build(a, &manifest, depth + 1, built, out, err)
            : error_set(err, ERROR_INVALID, "the archive's index leads nowhere");
    } else {
        const char *config = digest_hex(value_text(&manifest, "config/digest"), err);
        CLEANUP_FREE char *config_name = mem_printf("blobs/sha256/%s", config ? config : "");
        rc = config ? image_build(a, config_name, config, value_path(&manifest, "layers"), true, built, out, err) : -1;
    }
    value_clear(&manifest);
    return rc;
}

/* --- docker save --- */

/* "HEX.json" and "blobs/sha256/HEX" name their own digest. */
static bool digest_of_name(const char *name, char out[static SHA256_TEXT_SIZE])
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    snprintf(out, SHA256_TEXT_SIZE, "%s", base);
    return is_digest(out) && (!base[SHA256_TEXT_SIZE - 1] || !strcmp(base + SHA256_TEXT_SIZE - 1, ".json"));
}

static int docker_build(struct archive *a, const struct value *manifest, const char *built, struct vm_image *out,
                        struct error *err)
{
    char hex[SHA256_TEXT_SIZE];
    if (manifest->kind != VALUE_LIST || !manifest->n)
        return error_set(err, ERROR_INVALID, "the archive's manifest.json names no image");
    if (manifest->n > 1)
        return error_set(err, ERROR_INVALID, "the archive has %u images; save one alone", manifest->n);
    const struct value *image = &manifest->entries[0].value;
    const char *config = value_text(image, "Config");
    if (!config)
        return error_set(err, ERROR_INVALID, "the archive's manifest.json names no configuration");
    return image_build(a, config, digest_of_name(config, hex) ? hex : NULL, value_path(image, "Layers"), false, built, out, err);
}

/* --- the three kinds --- */

static int root_build(struct archive *a, const char *built, struct error *err)
{
    struct tree t = {.left = ENTRIES_MAX};
    if (tar_out_open(built, &t.out, err) < 0)
        return -1;
    struct stream_in *s = stream_in_open(a->fd, 0, a->size, &a->budget);
    int rc = layer_take(&t, s, false, err);
    stream_in_close(s);
    if (rc == 0 && !t.nodes)
        rc = error_set(err, ERROR_INVALID, "the archive is empty");
    tree_clear(&t);
    return tar_out_close(t.out, rc == 0, a->content, err);
}

bool vm_archive_looks_like(const char *head, size_t n)
{
    return (n >= 512 && !memcmp(head + 257, "ustar", 5)) || (n >= 4 && (!memcmp(head, "\x1f\x8b", 2) || !memcmp(head, "\x28\xb5\x2f\xfd", 4)));
}

int vm_archive_build(int fd, int64_t size, int64_t max_mb, const char *built, struct vm_image *out,
                     char content[static SHA256_TEXT_SIZE], struct error *err)
{
    struct archive a = {.fd = fd, .size = size, .budget = max_mb << 20, .content = content};
    char head[4] = "";
    struct value document;
    int rc;
    if (pread(fd, head, sizeof head, 0) == sizeof head && (!memcmp(head, "\x1f\x8b", 2) || !memcmp(head, "\x28\xb5\x2f\xfd", 4)))
        return root_build(&a, built, err);
    if (members_list(&a, err) < 0) {
        archive_clear(&a);
        return -1;
    }
    bool oci = member_find(&a, "index.json") && member_find(&a, "oci-layout");
    if (oci || member_find(&a, "manifest.json")) {
        rc = document_read(&a, oci ? "index.json" : "manifest.json", NULL, &document, err);
        if (rc == 0)
            rc = oci ? oci_build(&a, &document, 0, built, out, err) : docker_build(&a, &document, built, out, err);
        value_clear(&document);
    } else {
        rc = root_build(&a, built, err);
    }
    archive_clear(&a);
    return rc;
}
