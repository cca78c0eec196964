#include "server/cluster_keys.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "net/certificate.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/http_thread.h"
#include "server/peers.h"

#define PASSPHRASE_MOST 1024
#define ASK_MS 3000
#define AGAIN_MS 2000

struct cluster_keys {
    struct keyring *ring;
    char *path, *passphrase;
    struct proposal proposal;
    bool wanted, proposing, asking, told;
    int64_t after_ms;                /* monotonic */
};

/* The first line that the command prints. NULL with err. */
static char *run_command(const char *command, struct error *err)
{
    char line[PASSPHRASE_MOST + 2] = "";
    FILE *out = popen(command, "re");
    if (!out) {
        error_set(err, ERROR_SYSTEM, "cluster_key_command cannot be started");
        return NULL;
    }
    char *got = fgets(line, sizeof line, out);
    int status = pclose(out);
    line[strcspn(line, "\r\n")] = '\0';
    if (got && *line && status == 0)
        return mem_strdup(line);
    error_set(err, ERROR_SYSTEM, "cluster_key_command printed no passphrase, and ended with status %d", WEXITSTATUS(status));
    return NULL;
}

struct cluster_keys *cluster_keys_open(const struct server_config *config, struct error *err)
{
    struct cluster_keys *k = NEW(struct cluster_keys);
    struct error why;
    k->ring = keyring_new();
    k->path = mem_strdup(config->cluster_key_file);
    bool good = !config->cluster_key_command || (k->passphrase = run_command(config->cluster_key_command, err));
    if (good && keyring_load(k->ring, k->path, k->passphrase, &why) && why.code != ERROR_NOT_FOUND) {
        *err = why;
        good = false;
    }
    if (good)
        return k;
    cluster_keys_close(k);
    return NULL;
}

void cluster_keys_close(struct cluster_keys *k)
{
    if (!k)
        return;
    keyring_free(k->ring);
    free(k->path);
    certificate_key_free(k->passphrase);
    free(k);
}

struct keyring *cluster_keys_ring(struct cluster_keys *k)
{
    return k->ring;
}

bool cluster_keys_ready(const struct control *c)
{
    const char *id = core_access(c->core)->cluster_key;
    return id && keyring_has(c->keys->ring, id);
}

void cluster_keys_want(struct control *c)
{
    c->keys->wanted = true;
}

static int save(struct cluster_keys *k)
{
    struct error err;
    if (!keyring_save(k->ring, k->path, k->passphrase, &err))
        return 0;
    LOG_E("the cluster's keys cannot be kept", "error", err.text);
    return -1;
}

/* --- the first one --- */

static void on_proposed(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct cluster_keys *k = c->keys;
    struct error err;
    k->proposing = false;
    k->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (!proposal_error(c, p, outcome, &err))
        k->after_ms = 0;
    core_result_clear(&p->result);
}

/* On disk first: what is sealed with it must open again. */
static void make_first(struct control *c)
{
    struct cluster_keys *k = c->keys;
    char id[KEYRING_ID_SIZE];
    struct error err;
    k->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (!keyring_current(k->ring) && (keyring_make(k->ring, id, &err) || save(k)))
        return;
    CLEANUP_BUF struct buf command = {0};
    snprintf(id, sizeof id, "%s", keyring_current(k->ring));
    command_encode_payload(COMMAND_CLUSTER_KEY, time_now_ms(), NULL, NULL, &(struct command_cluster_key){.id = id}, &command);
    k->proposing = true;
    control_propose(c, &k->proposal, command.data, command.len, on_proposed);
}

/* --- one that this server lacks --- */

static void on_answer(void *ctx, int status, const struct buf *body, const struct error *err)
{
    struct control *c = ctx;
    struct cluster_keys *k = c->keys;
    struct cluster_key_answer a = {0};
    struct problem_list problems = {0};
    struct error why;
    k->asking = false;
    k->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (status == 200 && !type_from_json(&cluster_key_answer_type, body->data, body->len, true, &a, &problems) && a.keys &&
        !keyring_read(k->ring, a.keys, &why) && !save(k)) {
        LOG_I("the cluster's keys were handed over", "by", control_leader(c) ? control_leader(c)->name : "another server");
        k->after_ms = 0;
    }
    problem_list_clear(&problems);
    certificate_key_free(steal(&a.keys));
}

static void ask(struct control *c)
{
    struct cluster_keys *k = c->keys;
    const struct member *leader = control_leader(c);
    k->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (!c->tls && !k->told)
        LOG_W("this server has not the cluster's key, which is handed over by TLS alone; copy the file from another server", "file",
              k->path);
    k->told = true;
    if (!c->tls || !leader || c->role == CONSENSUS_LEADER)
        return;
    k->asking = true;
    peer_call(c, HTTP_METHOD_GET, leader->address, "/v1/cluster/keys", NULL, ASK_MS, on_answer, c);
}

void cluster_keys_look(struct control *c)
{
    struct cluster_keys *k = c->keys;
    const char *wanted = core_access(c->core)->cluster_key;
    if (k->proposing || k->asking || time_monotonic_ms() < k->after_ms)
        return;
    bool leads = c->role == CONSENSUS_LEADER && consensus_lease_ms(c->consensus) &&
                 core_level(c->core) >= command_kind_level(COMMAND_CLUSTER_KEY);
    if (!wanted && leads && (k->wanted || c->credentials))
        make_first(c);
    else if (wanted && !keyring_has(k->ring, wanted))
        ask(c);
    else if (wanted && strcmp(wanted, keyring_current(k->ring)) && keyring_use(k->ring, wanted))
        save(k);
}

/* --- GET /v1/cluster/keys --- */

int api_cluster_keys_prepare(struct request *r, struct error *err)
{
    char name[TLS_NAME_SIZE];
    if (r->who.kind == IDENTITY_SERVER && tls_peer_role(r->http->tls, "server", name))
        return 0;
    return error_set(err, ERROR_DENIED, "the keys of the cluster are for its servers alone, by their certificates");
}

API_READ(api_cluster_keys)
{
    CLEANUP_BUF struct buf text = {0};
    keyring_write(c->keys->ring, &text);
    struct cluster_key_answer a = {.keys = text.data};
    type_to_json(&cluster_key_answer_type, &a, &r->answer.body);
    keyring_wipe(&text);
    return 0;
}
