#include "server/keyring.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/locked.h"
#include "base/random.h"
#include "server/seal.h"

#define FILE_MOST 65536u
#define LOCKED "locked "
#define SALT_LEN 16
#define SCRYPT_N (1u << 15)          /* 32 MB and a tenth of a second for each guess */
#define SCRYPT_R 8
#define SCRYPT_P 1
#define SCRYPT_MEMORY (64u << 20)

struct key { char id[KEYRING_ID_SIZE]; uint8_t bytes[KEYRING_KEY_LEN]; };

struct keyring {
    size_t n, current;
    struct key keys[KEYRING_MOST];
};

struct keyring *keyring_new(void)
{
    return locked_new(sizeof(struct keyring));
}

void keyring_free(struct keyring *ring)
{
    locked_free(ring, sizeof *ring);
}

static void identify(struct key *key)
{
    static const char domain[] = "mentat cluster key";
    uint8_t text[sizeof domain + KEYRING_KEY_LEN], hash[EVP_MAX_MD_SIZE];
    memcpy(text, domain, sizeof domain);
    memcpy(text + sizeof domain, key->bytes, sizeof key->bytes);
    INVARIANT(EVP_Digest(text, sizeof text, hash, NULL, EVP_sha256(), NULL) == 1);
    OPENSSL_cleanse(text, sizeof text);
    for (size_t i = 0; i < (KEYRING_ID_SIZE - 1) / 2; i++)
        snprintf(key->id + 2 * i, 3, "%02x", hash[i]);
}

static struct key *find(const struct keyring *ring, const char *id)
{
    for (size_t i = 0; i < ring->n; i++)
        if (!strcmp(ring->keys[i].id, id))
            return (struct key *)(uintptr_t)&ring->keys[i];
    return NULL;
}

int keyring_make(struct keyring *ring, char id[static KEYRING_ID_SIZE], struct error *err)
{
    if (ring->n == KEYRING_MOST)
        return error_set(err, ERROR_CONFLICT, "the cluster has %d keys already; drop old ones first", KEYRING_MOST);
    struct key *key = &ring->keys[ring->n++];
    random_system(key->bytes, sizeof key->bytes);
    identify(key);
    memcpy(id, key->id, KEYRING_ID_SIZE);
    return 0;
}

const char *keyring_current(const struct keyring *ring)
{
    return ring->n ? ring->keys[ring->current].id : NULL;
}

size_t keyring_count(const struct keyring *ring)
{
    return ring->n;
}

const char *keyring_id(const struct keyring *ring, size_t i)
{
    return ring->keys[i].id;
}

bool keyring_has(const struct keyring *ring, const char *id)
{
    return find(ring, id) != NULL;
}

const uint8_t *keyring_key(const struct keyring *ring, const char *id)
{
    const struct key *key = find(ring, id);
    return key ? key->bytes : NULL;
}

bool keyring_use(struct keyring *ring, const char *id)
{
    const struct key *key = find(ring, id);
    if (key)
        ring->current = (size_t)(key - ring->keys);
    return key != NULL;
}

bool keyring_drop(struct keyring *ring, const char *id)
{
    struct key *key = find(ring, id);
    size_t at = key ? (size_t)(key - ring->keys) : 0;
    if (!key || at == ring->current)
        return false;
    memmove(key, key + 1, (--ring->n - at) * sizeof *key);
    OPENSSL_cleanse(&ring->keys[ring->n], sizeof *key);
    ring->current -= ring->current > at;
    return true;
}

/* --- text --- */

static void write_key(const struct key *key, struct buf *out)
{
    buf_reserve(out, 2 * KEYRING_KEY_LEN + 1);
    for (size_t i = 0; i < KEYRING_KEY_LEN; i++)
        buf_printf(out, "%02x", key->bytes[i]);
    buf_add_char(out, '\n');
}

void keyring_write(const struct keyring *ring, struct buf *out)
{
    /* Whole at once: a buffer that grows would leave copies behind. */
    buf_reserve(out, KEYRING_MOST * (2 * KEYRING_KEY_LEN + 1));
    if (ring->n)
        write_key(&ring->keys[ring->current], out);
    for (size_t i = 0; i < ring->n; i++)
        if (i != ring->current)
            write_key(&ring->keys[i], out);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One line of *text, which moves behind it. False: it is no key. */
static bool read_key(const char **text, struct key *key)
{
    const char *p = *text;
    for (size_t i = 0; i < KEYRING_KEY_LEN; i++, p += 2) {
        int high = digit(p[0]), low = high < 0 ? -1 : digit(p[1]);
        if (low < 0)
            return false;
        key->bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (*p && *p != '\n')
        return false;
    *text = p + (*p == '\n');
    identify(key);
    return true;
}

int keyring_read(struct keyring *ring, const char *text, struct error *err)
{
    CLEANUP(keyring_free) struct keyring *fresh = keyring_new();
    memcpy(fresh, ring, sizeof *ring);
    while (*text) {
        struct key key;
        if (!read_key(&text, &key))
            return error_set(err, ERROR_CORRUPT, "a key of the cluster is a line of 64 hexadecimal digits");
        if (find(fresh, key.id))
            continue;
        if (fresh->n == KEYRING_MOST)
            return error_set(err, ERROR_TOO_LARGE, "more than %d keys of the cluster", KEYRING_MOST);
        fresh->keys[fresh->n++] = key;
        OPENSSL_cleanse(&key, sizeof key);
    }
    memcpy(ring, fresh, sizeof *ring);
    return 0;
}

/* --- file --- */

struct keyring_lock {
    char passphrase[KEYRING_PASSPHRASE_MOST + 1];
    uint8_t salt[SALT_LEN];
    struct keyring by;               /* the key that was made of both; none yet: empty */
};

struct keyring_lock *keyring_lock_new(const char *passphrase)
{
    struct keyring_lock *lock = locked_new(sizeof *lock);
    INVARIANT(strlen(passphrase) <= KEYRING_PASSPHRASE_MOST);
    strcpy(lock->passphrase, passphrase);
    return lock;
}

void keyring_lock_free(struct keyring_lock *lock)
{
    locked_free(lock, sizeof *lock);
}

static int make_of_passphrase(const char *passphrase, const uint8_t salt[static SALT_LEN], struct keyring *out, struct error *err)
{
    struct key *key = &out->keys[0];
    if (EVP_PBE_scrypt(passphrase, strlen(passphrase), salt, SALT_LEN, SCRYPT_N, SCRYPT_R, SCRYPT_P, SCRYPT_MEMORY, key->bytes,
                       sizeof key->bytes) != 1)
        return error_set(err, ERROR_SYSTEM, "no key can be made of the passphrase");
    identify(key);
    out->n = 1;
    return 0;
}

/* With this salt from now on. */
static int lock_use(struct keyring_lock *lock, const uint8_t salt[static SALT_LEN], struct error *err)
{
    memcpy(lock->salt, salt, SALT_LEN);
    return make_of_passphrase(lock->passphrase, salt, &lock->by, err);
}

int keyring_lock_ready(struct keyring_lock *lock, struct error *err)
{
    uint8_t salt[SALT_LEN];
    random_system(salt, sizeof salt);
    return lock->by.n ? 0 : lock_use(lock, salt, err);
}

/* "locked ", the salt and what is sealed, in base 64. */
static int lock_close(struct keyring_lock *lock, const struct buf *plain, struct buf *out, struct error *err)
{
    CLEANUP_BUF struct buf bytes = {0};
    if (keyring_lock_ready(lock, err))
        return -1;
    buf_add(&bytes, lock->salt, SALT_LEN);
    seal(&lock->by, "keyring", plain->data, plain->len, &bytes);
    buf_add_string(out, LOCKED);
    base64_add(out, bytes.data, bytes.len);
    buf_add_char(out, '\n');
    return 0;
}

static int open_with(const struct keyring *by, const struct buf *bytes, struct buf *out, struct error *err)
{
    struct error wrong;
    if (seal_open(by, "keyring", bytes->data + SALT_LEN, bytes->len - SALT_LEN, out, &wrong))
        return error_set(err, ERROR_DENIED, "the passphrase is not the right one, or the file is damaged");
    return 0;
}

/* A copy from elsewhere has a salt of its own, which is not kept. */
static int lock_open(struct keyring_lock *lock, const char *text, struct buf *out, struct error *err)
{
    CLEANUP(keyring_free) struct keyring *other = keyring_new();
    CLEANUP_BUF struct buf bytes = {0};
    CLEANUP_FREE char *line = mem_strndup(text, strcspn(text, "\n"));
    if (!base64_read(line, &bytes) || bytes.len < SALT_LEN)
        return error_set(err, ERROR_CORRUPT, "damaged");
    const uint8_t *salt = (const uint8_t *)bytes.data;
    if (!lock->by.n && lock_use(lock, salt, err))
        return -1;
    if (!memcmp(lock->salt, salt, SALT_LEN))
        return open_with(&lock->by, &bytes, out, err);
    return make_of_passphrase(lock->passphrase, salt, other, err) ? -1 : open_with(other, &bytes, out, err);
}

static int check_mode(const char *path, struct error *err)
{
    struct stat st;
    if (stat(path, &st))
        return error_set_errno(err, errno, "%s", path);
    if (st.st_mode & 077)
        return error_set(err, ERROR_INVALID, "%s: others than its owner may read it; chmod 600 it", path);
    return 0;
}

int keyring_read_file(struct keyring *ring, const char *text, struct keyring_lock *lock, struct error *err)
{
    CLEANUP_WIPE struct buf plain = {0};
    bool locked = !strncmp(text, LOCKED, strlen(LOCKED));
    if (locked && !lock)
        return error_set(err, ERROR_INVALID, "the keys are locked with a passphrase; set cluster_key_command");
    if (locked && lock_open(lock, text + strlen(LOCKED), &plain, err))
        return -1;
    return keyring_read(ring, locked ? plain.data : text, err);
}

int keyring_load(struct keyring *ring, const char *path, struct keyring_lock *lock, struct error *err)
{
    CLEANUP_WIPE struct buf text = {0};
    buf_reserve(&text, FILE_MOST);
    if (check_mode(path, err) || file_read(path, FILE_MOST / 2, &text, err))
        return -1;
    return keyring_read_file(ring, text.data, lock, err) ? error_context(err, "%s", path) : 0;
}

int keyring_save(const struct keyring *ring, const char *path, struct keyring_lock *lock, struct error *err)
{
    CLEANUP_WIPE struct buf plain = {0}, text = {0};
    keyring_write(ring, &plain);
    if (lock && lock_close(lock, &plain, &text, err))
        return -1;
    const struct buf *out = lock ? &text : &plain;
    return file_write(path, out->data ? out->data : "", out->len, 0600, err);
}
