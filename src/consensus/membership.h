/* Membership: the servers of a cluster, each with its vote or without. It is a value: in the log, in snapshots, on the
 * wire; the newest one in a server's log is the one that counts there. */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "consensus/consensus.h"

#define MEMBERS_MAX 64
#define MEMBER_ADDRESS_MAX 512

struct member {
    uint64_t id;
    char *address;
    bool voter;             /* else a standby */
};

/* Zeroed: empty. */
struct membership {
    struct member *members;
    size_t n;
};

void membership_clear(struct membership *m);
struct membership membership_copy(const struct membership *m);
const struct member *membership_find(const struct membership *m, uint64_t id);      /* NULL: not in it */
const struct member *membership_find_address(const struct membership *m, const char *address);
bool membership_is_voter(const struct membership *m, uint64_t id);
size_t membership_voters(const struct membership *m);
bool membership_equal(const struct membership *a, const struct membership *b);

/* Changes of one step. add: the id is new. */
void membership_add(struct membership *m, uint64_t id, const char *address, bool voter);
void membership_remove(struct membership *m, uint64_t id);
void membership_promote(struct membership *m, uint64_t id);

void membership_encode(struct buf *out, const struct membership *m);
/* Fills an empty membership; the bytes must be used up. On failure it stays empty. */
int membership_decode(const void *bytes, size_t len, struct membership *out, struct error *err);
