/* Vault: this server's keys of the cluster, and what is sealed with them. Core thread.
 *
 * The first leader makes a key. A leader gives the keys that it has to all other servers, each of which keeps them in a file
 * of its own, and once most have them it says in the state which one is in force: from then on it seals with that one. When
 * another one came into force it seals again what an older one sealed, in steps, and who sees in its state that nothing
 * needs a key any more forgets it.
 *
 * A value is sealed for its name and version, so that sealed bytes that are put elsewhere do not open there. */
#pragma once
#include "server/control.h"
#include "server/keyring.h"

/* What this server has at its start, by its configuration; the ring may be empty. lock NULL: their file is in plain text. */
struct vault_keys { struct keyring *ring; struct keyring_lock *lock; };
/* Asks the configuration's command, and takes a while where a passphrase is used. 0, or -1 with err; to be cleared either way. */
int vault_read_keys(const struct server_config *config, struct launcher *launcher, struct vault_keys *out, struct error *err);
void vault_clear_keys(struct vault_keys *k);

/* With the control itself, which takes them over. */
void vault_start(struct control *c, struct vault_keys *keys);
void vault_end(struct control *c);
/* True when this server has the key that is in force, and seals with it; then seal() may be used on the ring. */
bool vault_ready(const struct control *c);
const struct keyring *vault_ring(const struct control *c);
/* At the end of each turn. */
void vault_look(struct control *c);
/* The state is another one, or this server leads now: look anew. */
void vault_begin(struct control *c);

/* out: as text (base64). ERROR_UNAVAILABLE while no key is in force, or this server has it not. */
int vault_seal(struct control *c, const char *context, const struct buf *plain, struct buf *out, struct error *err);
int vault_open(struct control *c, const char *context, const char *sealed, struct buf *out, struct error *err);
int vault_seal_secret(struct control *c, const char *name, uint64_t version, const struct buf *plain, struct buf *out,
                      struct error *err);
int vault_open_secret(struct control *c, const char *name, const struct secret_version *v, struct buf *out, struct error *err);
