/* Seal: bytes that only who has the cluster's key can read or make (AES-256-GCM). What is sealed carries the id of its key,
 * so that keys can be changed while older seals still open. */
#pragma once
#include "server/keyring.h"

/* What a seal adds to the bytes. */
#define SEAL_OVERHEAD 37

/* Appends p[0..n) sealed with the ring's current key, which must be there. `context` says what it is and whose, such as
 * "secret/NAMESPACE/NAME": it is not in the seal, and one that is put elsewhere does not open there. Never twice the same
 * bytes, so it is for leaders, not for the core. One key is good for 2^32 seals. */
void seal(const struct keyring *ring, const char *context, const void *p, size_t n, struct buf *out);
/* Appends what is sealed in p[0..n). -1 with ERROR_CORRUPT: damaged, of another context, or forged; ERROR_NOT_FOUND: its key
 * is not in the ring. */
int seal_open(const struct keyring *ring, const char *context, const void *p, size_t n, struct buf *out, struct error *err);
/* The id of the key that p[0..n) is sealed with. False: it is no seal. */
bool seal_key_id(const void *p, size_t n, char id[static KEYRING_ID_SIZE]);
