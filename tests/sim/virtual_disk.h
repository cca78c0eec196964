/* A virtual disk: behaves like a directory until the power fails. Then each sector that was written and not synced keeps
 * its old content, the new one, any one between, or a torn mixture, independently of all others; sizes and names that
 * were not synced are kept or lost likewise. All from a seed. */
#pragma once
#include "base/random.h"
#include "consensus/disk.h"

#define VIRTUAL_SECTOR 512

struct virtual_disk;

struct virtual_disk *virtual_disk_new(uint64_t seed);
struct disk *virtual_disk_disk(struct virtual_disk *d);   /* freed by disk_free */
/* The power fails at the n-th operation from now on, which is done in part; from then on all fail. 0: never. */
void virtual_disk_fail_after(struct virtual_disk *d, unsigned operations);
bool virtual_disk_failed(const struct virtual_disk *d);
/* The power is gone and back: all handles are closed, what was not synced is kept, lost or torn. */
void virtual_disk_crash(struct virtual_disk *d);
/* Bytes that files may take in all; free_bytes answers what is left. */
void virtual_disk_set_capacity(struct virtual_disk *d, uint64_t bytes);
uint64_t virtual_disk_used(const struct virtual_disk *d);

/* To prove that tests notice: syncs (of content; of names) do nothing. */
void virtual_disk_break_sync(struct virtual_disk *d, bool content, bool names);
/* Writes into files whose names begin so are lost in each crash, synced or not. The string is kept. */
void virtual_disk_break_files(struct virtual_disk *d, const char *prefix);
/* The bytes of a file as they are, for tests that damage them; NULL when there is none. */
uint8_t *virtual_disk_bytes(struct virtual_disk *d, const char *name, size_t *len);
