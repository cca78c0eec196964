#include "server/vault.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "net/address.h"
#include "net/http_client.h"
#include "sandbox/launcher.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/peers.h"
#include "server/seal.h"

#define KEYS_TEXT_MOST ((size_t)KEYRING_MOST * (2 * KEYRING_KEY_LEN + 1))
#define AGAIN_MS 1000
#define GIVE_MS 5000
#define RESEAL_MOST 50u             /* in one command */

struct vault {
    struct keyring *ring;
    struct keyring_lock *lock;       /* NULL: the file is in plain text */
    const char *file;
    struct proposal proposal;
    bool proposing;
    bool seen;                       /* the state as of `index`: there is nothing to do but by the passing of time */
    uint64_t index;
    int64_t after_ms;                /* before which nothing is tried again */
    struct request *rotation;        /* waits until its key is in force, or this server leads no more; NULL: none */
    char rotation_key[KEYRING_ID_SIZE];
    char *giving;                    /* the server that is being given the keys; NULL: none */
    struct str_list given;           /* those that have them, by this leader's word */
};

/* Of the first line that the command prints. NULL with err. */
static struct keyring_lock *ask_passphrase(struct launcher *launcher, const char *command, struct error *err)
{
    char line[KEYRING_PASSPHRASE_MOST + 1] = "";
    struct keyring_lock *lock = NULL;
    if (launcher_ask(launcher, command, line, sizeof line, err))
        error_context(err, "cluster_key_command");
    else if (!*line)
        error_set(err, ERROR_INVALID, "cluster_key_command printed no passphrase");
    else
        lock = keyring_lock_new(line);
    OPENSSL_cleanse(line, sizeof line);
    return lock;
}

int vault_read_keys(const struct server_config *config, struct launcher *launcher, struct vault_keys *out, struct error *err)
{
    struct error why;
    *out = (struct vault_keys){.ring = keyring_new()};
    if (config->cluster_key_command && !(out->lock = ask_passphrase(launcher, config->cluster_key_command, err)))
        return -1;
    if (keyring_load(out->ring, config->cluster_key_file, out->lock, &why) == 0 || why.code == ERROR_NOT_FOUND)
        return out->lock ? keyring_lock_ready(out->lock, err) : 0;
    *err = why;
    return -1;
}

void vault_clear_keys(struct vault_keys *k)
{
    keyring_free(k->ring);
    keyring_lock_free(k->lock);
    *k = (struct vault_keys){0};
}

void vault_start(struct control *c, struct vault_keys *keys)
{
    c->vault = NEW(struct vault);
    *c->vault = (struct vault){.file = c->config->cluster_key_file, .ring = steal(&keys->ring), .lock = steal(&keys->lock)};
}

const struct keyring *vault_ring(const struct control *c)
{
    return c->vault->ring;
}

bool vault_ready(const struct control *c)
{
    const char *in_force = core_secrets(c->core)->cluster_key, *current = keyring_current(c->vault->ring);
    return in_force && current && !strcmp(in_force, current);
}

void vault_end(struct control *c)
{
    struct vault *v = c->vault;
    keyring_free(v->ring);
    core_result_clear(&v->proposal.result);
    str_list_clear(&v->given);
    free(v->giving);
    keyring_lock_free(v->lock);
    free(v);
    c->vault = NULL;
}

void vault_begin(struct control *c)
{
    str_list_clear(&c->vault->given);
    c->vault->seen = false;
    c->vault->after_ms = 0;
}

static void again_later(struct vault *v)
{
    v->after_ms = time_monotonic_ms() + AGAIN_MS;
}

/* --- keys --- */

/* Adds the keys of the one ring to the other. */
static int add_keys(struct keyring *to, const struct keyring *from, struct error *err)
{
    CLEANUP_WIPE struct buf text = {0};
    keyring_write(from, &text);
    return keyring_read(to, text.data, err);
}

/* The vault's ring from now on, once it is on disk: nothing is sealed with a key before. */
static int use_ring(struct vault *v, struct keyring **fresh, struct error *err)
{
    if (keyring_save(*fresh, v->file, v->lock, err))
        return error_context(err, "the cluster's key");
    keyring_free(v->ring);
    v->ring = steal(fresh);
    return 0;
}

static int make_key(struct vault *v, struct error *err)
{
    char id[KEYRING_ID_SIZE];
    CLEANUP(keyring_free) struct keyring *fresh = keyring_new();
    if (add_keys(fresh, v->ring, err) || keyring_make(fresh, id, err))
        return -1;
    INVARIANT(keyring_use(fresh, id));
    if (use_ring(v, &fresh, err))
        return -1;
    str_list_clear(&v->given);
    LOG_I("made a key of the cluster", "key", id, "file", v->file);
    return 0;
}

/* The current one of these is the vault's from now on. */
static int take_keys(struct vault *v, const struct keyring *keys, struct error *err)
{
    CLEANUP(keyring_free) struct keyring *fresh = keyring_new();
    if (!keyring_current(keys))
        return error_set(err, ERROR_INVALID, "keys: there is none");
    if (add_keys(fresh, v->ring, err) || add_keys(fresh, keys, err))
        return -1;
    INVARIANT(keyring_use(fresh, keyring_current(keys)));
    return use_ring(v, &fresh, err);
}

/* Of a copy, for what a snapshot holds. */
static int take_copy(struct vault *v, const char *text, struct error *err)
{
    CLEANUP(keyring_free) struct keyring *copy = keyring_new();
    if (keyring_read_file(copy, text, v->lock, err) || take_keys(v, copy, err))
        return -1;
    str_list_clear(&v->given);
    LOG_I("took the keys of a copy", "key", keyring_current(v->ring), "file", v->file);
    return 0;
}

/* keys: of a copy; NULL: a new one. */
static int rotate(struct control *c, const char *keys, struct error *err)
{
    struct vault *v = c->vault;
    if (v->rotation || !vault_ready(c))
        return error_set(err, ERROR_CONFLICT, "another key is about to come into force; try again in a moment");
    v->seen = false;
    return keys ? take_copy(v, keys, err) : make_key(v, err);
}

void api_secret_rotate(struct control *c, struct request *r)
{
    struct vault *v = c->vault;
    const struct keys_request *body = r->body;
    if (rotate(c, body ? body->keys : NULL, &r->answer.error)) {
        control_answer(r);
    } else {
        v->rotation = r;
        snprintf(v->rotation_key, sizeof v->rotation_key, "%s", keyring_current(v->ring));
    }
}

/* It is done when the state of the cluster says so: before, a next leader that has not the key stays with the old one. */
static void answer_rotation(struct control *c)
{
    struct vault *v = c->vault;
    const char *in_force = core_secrets(c->core)->cluster_key;
    bool done = v->rotation && in_force && !strcmp(in_force, v->rotation_key);
    if (!v->rotation || (!done && !c->stopping && c->role == CONSENSUS_LEADER && time_monotonic_ms() < v->rotation->answer_by_ms))
        return;
    if (!done)
        error_set(&v->rotation->answer.error, ERROR_UNKNOWN_OUTCOME, "key %s is not in force yet: it will be once most servers have "
                  "it, unless one leads that has it not; look at cluster_key in `mt ca status -o json`, and ask again if "
                  "that stays the old one", v->rotation_key);
    control_answer(steal(&v->rotation));
}

static bool has_key_in_force(const struct control *c, const struct keyring *ring)
{
    const char *in_force = core_secrets(c->core)->cluster_key;
    return in_force && keyring_has(ring, in_force);
}

/* Who has the key that is in force takes none from who has it not, and from nobody while it leads. */
static int take_given(struct control *c, const char *text, struct error *err)
{
    struct vault *v = c->vault;
    CLEANUP(keyring_free) struct keyring *given = keyring_new();
    if (keyring_read(given, text, err))
        return -1;
    if (has_key_in_force(c, v->ring) && (c->role == CONSENSUS_LEADER || !has_key_in_force(c, given)))
        return error_set(err, ERROR_CONFLICT, "this server has the key that is in force, %s, and %s",
                         core_secrets(c->core)->cluster_key, c->role == CONSENSUS_LEADER ? "leads" : "these are without it");
    return take_keys(v, given, err);
}

/* Only servers say this to each other; without certificates, who reaches the API is this host's operator. */
void api_cluster_keys(struct control *c, struct request *r)
{
    const struct keys_request *body = r->body;
    if (r->who.kind != IDENTITY_SERVER && r->who.kind != IDENTITY_LOCAL)
        error_set(&r->answer.error, ERROR_DENIED, "servers alone give each other the keys of the cluster");
    else if (take_given(c, body->keys, &r->answer.error) == 0)
        LOG_I("took the keys of the cluster", "key", keyring_current(c->vault->ring), "peer", r->http->peer);
    c->vault->seen = false;
    control_answer(r);
}

/* --- at the leader: the others get the keys --- */

static bool has_keys(const struct vault *v, const char *id)
{
    for (uint32_t i = 0; i < v->given.n; i++)
        if (!strcmp(v->given.v[i], id))
            return true;
    return false;
}

static bool is_self(const struct control *c, const struct member *m)
{
    return !strcmp(m->address, c->addresses->api);
}

static void on_passed_on(void *ctx, void *request, const struct error *err)
{
    if (err)
        LOG_W("leads without the key of the cluster that is in force, and could not let another server lead", "error", err->text);
}

/* This server came to lead before it got the key that is in force: who has that shall lead, and gives it. */
static bool leads_without_key(const struct control *c)
{
    return c->consensus && c->role == CONSENSUS_LEADER && core_secrets(c->core)->cluster_key && !has_key_in_force(c, c->vault->ring);
}

static void pass_on(struct control *c, const char *id)
{
    LOG_I("lets a server lead that has the key of the cluster that is in force", "server", id,
          "key", core_secrets(c->core)->cluster_key);
    consensus_transfer(c->consensus, strtoull(id, NULL, 10), on_passed_on, NULL);
}

static void on_given(void *ctx, int status, const struct buf *body, const struct error *err)
{
    struct control *c = ctx;
    struct vault *v = c->vault;
    CLEANUP_FREE char *id = steal(&v->giving);
    v->seen = false;
    if (status / 100 == 2) {
        str_list_add(&v->given, id);
        return;
    }
    struct error why;
    if (status)
        http_refusal(status, body, &why);
    if (status == error_http_status(ERROR_CONFLICT) && leads_without_key(c))
        pass_on(c, id);
    LOG_D("a server did not take the keys of the cluster", "server", id, "error", status ? why.text : err->text);
    again_later(v);
}

/* The members' keys are not sent in plain text over a network. */
static bool may_send(const struct control *c, const struct member *m)
{
    struct address a;
    struct error ignored;
    return c->tls || (address_parse(m->address, 0, &a, &ignored) == 0 && address_is_local(&a));
}

static void give(struct control *c, const struct member *m)
{
    struct vault *v = c->vault;
    CLEANUP_WIPE struct buf text = {0}, body = {0};
    buf_reserve(&body, KEYS_TEXT_MOST + KEYS_TEXT_MOST / 32 + 64);
    keyring_write(v->ring, &text);
    struct keys_request request = {.keys = text.data};
    type_to_json(&keys_request_type, &request, &body);
    v->giving = mem_strdup(m->id);
    peer_call(c, HTTP_METHOD_PUT, m->address, "/v1/cluster/keys", &body, GIVE_MS, on_given, c);
}

/* Most of them have the keys, this server too. Gives them to the next one that has not. */
static bool give_keys(struct control *c)
{
    struct vault *v = c->vault;
    uint32_t all = 0, have = 0;
    const char *after = NULL;
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id) {
        all++;
        if (is_self(c, m) || has_keys(v, m->id))
            have++;
        else if (!v->giving && may_send(c, m))
            give(c, m);
    }
    return all && have * 2 > all;
}

/* --- at the leader: what is in force, and what is sealed with it --- */

static void on_proposed(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct error err;
    c->vault->proposing = false;
    c->vault->seen = false;
    if (proposal_error(c, p, outcome, &err)) {
        LOG_D("what is sealed could not be changed; trying again", "error", err.text);
        again_later(c->vault);
    }
    core_result_clear(&p->result);
}

static void propose(struct control *c, const struct command_secret_reseal *payload)
{
    CLEANUP_BUF struct buf command = {0};
    command_encode_payload(COMMAND_SECRET_RESEAL, time_now_ms(), NULL, NULL, payload, &command);
    c->vault->proposing = true;
    control_propose(c, &c->vault->proposal, command.data, command.len, on_proposed);
}

static bool key_of(const char *sealed, char id[static KEYRING_ID_SIZE])
{
    CLEANUP_BUF struct buf bytes = {0};
    return base64_read(sealed, &bytes) && seal_key_id(bytes.data, bytes.len, id);
}

static bool by_other_key(const char *sealed, const char *key)
{
    char id[KEYRING_ID_SIZE];
    return key_of(sealed, id) && strcmp(id, key) != 0;
}

static char *secret_context(const char *name, uint64_t version)
{
    return mem_printf("secret/%s/%" PRIu64, name, version);
}

static char *identity_context(const char *id)
{
    return mem_printf("identity/%s", id);
}

/* Adds it under the key that is in force. What cannot be opened stays as it is. */
static void reseal(struct control *c, const char *context, const char *key, const char *sealed, struct kv_list *out)
{
    struct error err;
    CLEANUP_WIPE struct buf plain = {0};
    CLEANUP_BUF struct buf fresh = {0};
    if (vault_open(c, context, sealed, &plain, &err) || vault_seal(c, context, &plain, &fresh, &err))
        LOG_W("cannot be sealed anew", "what", context, "error", err.text);
    else
        kv_set(out, key, fresh.data);
}

/* False: all that can be is sealed with the key that is in force. */
static bool reseal_some(struct control *c)
{
    const struct secrets *all = core_secrets(c->core);
    struct command_secret_reseal payload = {0};
    for (uint32_t i = 0; i < all->keys.n; i++) {
        CLEANUP_FREE char *context = identity_context(all->keys.v[i].id);
        if (by_other_key(all->keys.v[i].sealed, all->cluster_key))
            reseal(c, context, all->keys.v[i].id, all->keys.v[i].sealed, &payload.keys);
    }
    for (uint32_t i = 0; i < all->secrets.n && payload.secrets.n < RESEAL_MOST; i++) {
        const struct secret *s = &all->secrets.v[i];
        for (uint32_t k = 0; k < s->versions.n; k++) {
            CLEANUP_FREE char *context = secret_context(s->name, s->versions.v[k].version);
            if (by_other_key(s->versions.v[k].sealed, all->cluster_key))
                reseal(c, context, context + strlen("secret/"), s->versions.v[k].sealed, &payload.secrets);
        }
    }
    bool some = payload.keys.n || payload.secrets.n;
    if (some)
        propose(c, &payload);
    kv_clear(&payload.keys);
    kv_clear(&payload.secrets);
    return some;
}

/* --- everywhere: keys that nothing needs any more --- */

static bool needed(const struct control *c, const char *key)
{
    const struct secrets *all = core_secrets(c->core);
    const struct authority_list *authorities = &core_access(c->core)->authorities;
    char id[KEYRING_ID_SIZE];
    for (uint32_t i = 0; i < authorities->n; i++)
        if (authorities->v[i].sealed_key && key_of(authorities->v[i].sealed_key, id) && !strcmp(id, key))
            return true;
    for (uint32_t i = 0; i < all->keys.n; i++)
        if (key_of(all->keys.v[i].sealed, id) && !strcmp(id, key))
            return true;
    for (uint32_t i = 0; i < all->secrets.n; i++)
        for (uint32_t k = 0; k < all->secrets.v[i].versions.n; k++)
            if (key_of(all->secrets.v[i].versions.v[k].sealed, id) && !strcmp(id, key))
                return true;
    return false;
}

/* A key that was given and is not in force yet is the ring's current one: then nothing is forgotten. */
static void forget_keys(struct control *c)
{
    struct vault *v = c->vault;
    const struct secrets *all = core_secrets(c->core);
    char id[KEYRING_ID_SIZE];
    bool changed = false;
    for (size_t i = keyring_count(v->ring); i-- > 0;) {
        snprintf(id, sizeof id, "%s", keyring_id(v->ring, i));
        if (!strcmp(id, all->cluster_key) || needed(c, id) || !keyring_drop(v->ring, id))
            continue;
        changed = true;
        LOG_I("forgot a key of the cluster that nothing is sealed with any more", "key", id);
    }
    struct error err;
    if (changed && keyring_save(v->ring, v->file, v->lock, &err)) {
        LOG_W("the keys of the cluster could not be written", "error", err.text);
        again_later(v);
        v->seen = false;
    }
}

/* --- turns --- */

static void lead(struct control *c)
{
    struct vault *v = c->vault;
    const char *in_force = core_secrets(c->core)->cluster_key;
    struct error err;
    if (!keyring_current(v->ring)) {
        if (in_force) {
            LOG_W("this server leads without the keys of the cluster: secrets cannot be read or put here", "key", in_force,
                  "file", v->file);
            again_later(v);
            return;
        }
        if (make_key(v, &err)) {
            LOG_W("no key of the cluster could be made; trying again", "error", err.text);
            again_later(v);
            return;
        }
    }
    const char *current = keyring_current(v->ring);
    bool most = give_keys(c);
    if (v->proposing)
        return;
    if (!vault_ready(c)) {
        struct command_secret_reseal payload = {.cluster_key = (char *)(uintptr_t)current};
        if (most)
            propose(c, &payload);
        return;
    }
    reseal_some(c);
}

void vault_look(struct control *c)
{
    struct vault *v = c->vault;
    answer_rotation(c);
    /* An authority that is sealed anew may have been the last that needed an older key. */
    uint64_t index = core_secrets(c->core)->modify_index + core_access(c->core)->modify_index +
                     core_changed(c->core, CORE_MEMBER, NULL);
    if (c->stopping || !c->consensus || c->forming || (v->seen && v->index == index) || time_monotonic_ms() < v->after_ms)
        return;
    v->seen = true;
    v->index = index;
    if (c->role == CONSENSUS_LEADER && consensus_lease_ms(c->consensus) &&
        core_level(c->core) >= command_kind_level(COMMAND_SECRET_RESEAL))
        lead(c);
    else if (c->role == CONSENSUS_LEADER)
        v->seen = false;
    if (vault_ready(c) && keyring_count(v->ring) > 1)
        forget_keys(c);
}

/* --- values --- */

static int check_key(const struct control *c, struct error *err)
{
    const char *in_force = core_secrets(c->core)->cluster_key, *current = keyring_current(c->vault->ring);
    if (core_level(c->core) < command_kind_level(COMMAND_SECRET_PUT) && core_member_next(c->core, NULL))
        return error_set(err, ERROR_UNSUPPORTED, "some server runs a release that does not know secrets yet; upgrade it first");
    if (!in_force)
        return error_set(err, ERROR_UNAVAILABLE, "the cluster's first key is not on most servers yet; try again in a moment");
    if (!keyring_has(c->vault->ring, in_force))
        return error_set(err, ERROR_UNAVAILABLE, "this server has not the key %s of the cluster", in_force);
    if (strcmp(current, in_force))
        return error_set(err, ERROR_UNAVAILABLE, "another key of the cluster comes into force; try again in a moment");
    return 0;
}

int vault_seal(struct control *c, const char *context, const struct buf *plain, struct buf *out, struct error *err)
{
    CLEANUP_BUF struct buf sealed = {0};
    if (check_key(c, err))
        return -1;
    seal(c->vault->ring, context, plain->data, plain->len, &sealed);
    base64_add(out, sealed.data, sealed.len);
    return 0;
}

int vault_open(struct control *c, const char *context, const char *sealed, struct buf *out, struct error *err)
{
    CLEANUP_BUF struct buf bytes = {0};
    if (!base64_read(sealed, &bytes))
        return error_set(err, ERROR_CORRUPT, "%s: what is sealed is damaged", context);
    return seal_open(c->vault->ring, context, bytes.data, bytes.len, out, err) ? error_context(err, "%s", context) : 0;
}

int vault_seal_secret(struct control *c, const char *name, uint64_t version, const struct buf *plain, struct buf *out,
                      struct error *err)
{
    CLEANUP_FREE char *context = secret_context(name, version);
    return vault_seal(c, context, plain, out, err);
}

int vault_open_secret(struct control *c, const char *name, const struct secret_version *v, struct buf *out, struct error *err)
{
    CLEANUP_FREE char *context = secret_context(name, v->version);
    return vault_open(c, context, v->sealed, out, err);
}
