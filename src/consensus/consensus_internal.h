/* Consensus, behind its seam: driven by a host, which is the libuv loop (consensus_uv.c) or a simulator's virtual world. */
#pragma once
#include "consensus/consensus.h"
#include "consensus/storage.h"

struct consensus_host {
    struct storage_host storage;
    /* Wants consensus_turn() at the end of the loop's turn. Called again only after that. */
    void (*wake)(struct consensus_host *host);
    /* Wants consensus_tick() every `ms` from now on. */
    void (*tick_every)(struct consensus_host *host, unsigned ms);
    /* The owner's fatal() returned. */
    void (*failed)(struct consensus_host *host);
    /* consensus_close() has done its work. */
    void (*closed)(struct consensus_host *host);
};

/* As consensus_start. options->loop and ->directory are the host's business. The host calls wake and tick from within. */
int consensus_open(struct consensus **out, const struct consensus_options *options, struct consensus_host *host,
                   struct error *err);
void consensus_turn(struct consensus *c);
void consensus_tick(struct consensus *c);
/* Gracefully; closed(host) follows when nothing is under way, from a turn or a tick. Then consensus_free. */
void consensus_close(struct consensus *c);
/* At any time: without a close it is the end of a process by kill -9, but for its memory. No job may run any more. */
void consensus_free(struct consensus *c);

struct consensus_host *consensus_host(struct consensus *c);
struct storage *consensus_storage(struct consensus *c);   /* for the transport */
