/* Keyring: the keys of the cluster, under which servers seal what nobody shall read from their disks, their log or their
 * backups (seal.h). Each server has the same ones, in a file of its own (0600), in plain text or locked with a passphrase.
 *
 * A key is known by its id, which is a hash of it, so that no two servers can mean different keys by one name. The current
 * key seals; the others only open what they sealed. A ring belongs to one thread; its memory is locked, left out of core
 * dumps, and wiped. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

#define KEYRING_KEY_LEN 32
#define KEYRING_ID_SIZE 17           /* 16 hexadecimal digits and the end of the text */
#define KEYRING_MOST 32              /* keys; older ones are to be dropped first */
#define KEYRING_PASSPHRASE_MOST 1025 /* bytes */

struct keyring;

struct keyring *keyring_new(void);   /* empty */
/* Wipes the keys; NULL does nothing. */
void keyring_free(struct keyring *ring);
DEFINE_CLEANUP(keyring_free, struct keyring)

/* Adds a key of the system's randomness and writes its id; the first one is the current one. -1: the ring is full. */
int keyring_make(struct keyring *ring, char id[static KEYRING_ID_SIZE], struct error *err);
/* The current key's id; NULL: the ring is empty. */
const char *keyring_current(const struct keyring *ring);
size_t keyring_count(const struct keyring *ring);
const char *keyring_id(const struct keyring *ring, size_t i);        /* of its keys, in no order */
bool keyring_has(const struct keyring *ring, const char *id);
/* The key of this id, valid until the ring changes; NULL: it has none. */
const uint8_t *keyring_key(const struct keyring *ring, const char *id);
/* Seals with this key from now on. False: it is not there. */
bool keyring_use(struct keyring *ring, const char *id);
/* What it sealed cannot be opened any more. False: it is not there, or the current one, which stays. */
bool keyring_drop(struct keyring *ring, const char *id);

/* As text, the current key first, each key 64 hexadecimal digits and the end of a line: for the file, and for another
 * server. It is to be wiped: buf_wipe. */
void keyring_write(const struct keyring *ring, struct buf *out);
/* Adds the keys of such a text that are not there yet; in an empty ring the first one becomes the current one. -1 with
 * err, and the ring as it was. */
int keyring_read(struct keyring *ring, const char *text, struct error *err);

/* What a file of keys is locked with: a passphrase, and the key that scrypt makes of it and of a salt. That takes a tenth of a
 * second, and far longer on a busy host, so it is made once: of the salt of the first locked file that is read, or of a new
 * one, and kept like the keys are. */
struct keyring_lock;

/* Copies the passphrase, of at most KEYRING_PASSPHRASE_MOST bytes. */
struct keyring_lock *keyring_lock_new(const char *passphrase);
/* Wipes it; NULL does nothing. */
void keyring_lock_free(struct keyring_lock *lock);
/* Makes its key, where it has none yet: no keyring_save takes a while afterwards. */
int keyring_lock_ready(struct keyring_lock *lock, struct error *err);

/* As keyring_read, of what a file of keys holds, which may be locked (lock NULL: it must not be). One of another salt than the
 * lock's takes a while. */
int keyring_read_file(struct keyring *ring, const char *text, struct keyring_lock *lock, struct error *err);

/* The file. lock NULL: in plain text. A file that others may read is refused. ERROR_NOT_FOUND: there is none. */
int keyring_load(struct keyring *ring, const char *path, struct keyring_lock *lock, struct error *err);
int keyring_save(const struct keyring *ring, const char *path, struct keyring_lock *lock, struct error *err);
