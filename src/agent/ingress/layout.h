/* Layout: what a proxy serves, as the agent wants it and as it was read from a process of the proxy: backends of numbered
 * slots, each for one replica, and the maps that lead requests to backends. Backends are in order of name. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "model/field.h"

enum slot_mode {
    SLOT_OUT,                        /* in maintenance: nothing new, whoever asks for it */
    SLOT_DRAIN,                      /* nothing new */
    SLOT_READY,                      /* by weight */
};

struct slot {
    enum slot_mode mode;
    char ip[INET6_ADDRSTRLEN];       /* of no matter while OUT */
    int port, weight;
    /* As wanted only: */
    char alloc[ID_LEN + 1];          /* "": free */
    uint64_t version;
    bool leaving, canary;
    bool seen;                       /* leaving: some process has requests of it, in this round */
    unsigned quiet;                  /* leaving: rounds in a row without any */
    uint64_t freed_at;               /* counts up; the slot that is free for longest is taken first */
};

struct backend {
    char *name;
    struct slot *slots;              /* slot i is the proxy's server "s<i + 1>" */
    uint32_t n_slots;
    /* As wanted only: */
    char *service;                   /* its service */
    bool tcp, sticky;
    char *header;                    /* by whose value a request gets its version during a canary; NULL: none */
    int listen;                      /* tcp: the port */
    int64_t max_body_mb, requests_per_second;            /* 0: no limit */
    bool unused;                     /* nothing leads to it any more; it goes with the next reload */
};

/* The first two lead requests to backends, "HOST/PATH/" to a name; MAP_ACME has what ACME servers ask for, path to answer.
 * MAP_STICKY leads "BACKEND/NUMBER" to one of its servers: what the header's value has as its number. Backends without
 * `header` do not know it. */
enum map_kind { MAP_HTTP, MAP_HTTPS, MAP_ACME, MAP_STICKY, MAP_COUNT };
extern const char *const map_files[MAP_COUNT];           /* the names by which the proxy knows them */
/* Value in place of a backend: the client is sent to https. Not the name of a backend. */
#define MAP_REDIRECT "=https"

struct layout {
    struct backend **backends;
    uint32_t n;
    struct kv_list maps[MAP_COUNT];
};

void layout_clear(struct layout *l);
struct backend *layout_find(const struct layout *l, const char *name);       /* NULL when there is none */
/* Finds it, or makes an empty one. */
struct backend *layout_add(struct layout *l, const char *name);
/* The unused ones; with tcp_only only those that hold a port. */
void layout_remove_unused(struct layout *l, bool tcp_only);
bool layout_has_header(const struct layout *l);                              /* some backend has one */
/* How many numbers a header's value may have: enough for even parts of all replicas, and of 100 percent. */
uint32_t backend_numbers(const struct backend *b);
/* All of `to`'s slots up to n are there; new ones are OUT. */
void backend_grow(struct backend *b, uint32_t n);
