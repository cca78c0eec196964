#include "agent/ingress/acme.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/ingress/ingress_internal.h"
#include "agent/tool.h"
#include "base/file.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "model/ingress_rules.h"

#define LOOK_MS 1000
#define LOOK_RUNNING_MS 100          /* while challenges may come */
#define TELL_AGAIN_MS 3000           /* while a challenge is not ready: a node that held it up may have gone */
#define RUN_MS (5 * 60 * 1000)
#define SETTLE_MS 10000              /* until a fresh certificate was found by who looks for it */
#define RETRY_MOST_MS INT64_C(86400000)
#define RATE_LIMITED_MS INT64_C(3600000)
#define FILE_MOST 16384
#define ROOT "acme"                  /* below the proxy's directory: uacme's own files */
#define CHALLENGES ROOT "/challenges"
#define HOOK CHALLENGES "/.hook"
#define TRIES ROOT "/tries"          /* a file for each host whose certificate could not be had */

/* Declines whatever is not http-01. Files whose names have a dot are no challenges. */
static const char hook[] =
    "#!/bin/sh\n"
    "# Made by mentat-agent: tells it of the challenges that uacme gets, and waits until all ingress nodes can answer.\n"
    "cd \"${0%/*}\" || exit 1\n"
    "[ \"$2\" = http-01 ] || exit 1\n"
    "case $4 in ''|*[!A-Za-z0-9_-]*) exit 1;; esac\n"
    "if [ \"$1\" != begin ]; then rm -f \"$4\" \"$4.ready\"; exit 0; fi\n"
    "printf '%s %s\\n' \"$3\" \"$5\" > \"$4.new\" && mv \"$4.new\" \"$4\" || exit 1\n"
    "n=0\n"
    "while [ -e \"$4\" ] && [ ! -e \"$4.ready\" ] && [ $n -lt 300 ]; do sleep 0.2; n=$((n + 1)); done\n"
    "[ -e \"$4.ready\" ] && exit 0\n"
    "rm -f \"$4\"\n"
    "echo 'error: not all ingress nodes took the challenge within a minute' >&2\n"
    "exit 1\n";

struct acme_run {
    uv_work_t work;
    struct ingress_node *in;         /* NULL: nobody wants to know any more */
    char *host;                      /* for which it is */
    bool account;                    /* only an account is made */
    char *directory;
    struct str_list argv;            /* ends with a NULL of its own */
    struct tool tool;
    struct tool_process process;
    int pidfd;                       /* -1: it does not run */
    struct error err;
};

static char *path_of(const struct ingress_node *in, const char *what, const char *name)
{
    return mem_printf("%s/%s%s%s", in->directory, what, name ? "/" : "", name ? name : "");
}

void acme_changed(struct ingress_node *in)
{
    int64_t now = time_now_ms();
    in->acme.seq = now > in->acme.seq ? now : in->acme.seq + 1;
    in->acme.told_at = now;
    in->o.report(in->o.ctx);
}

/* --- what was tried, also by agents before this one --- */

static void tries_read(struct ingress_node *in, struct acme_host *h)
{
    CLEANUP_FREE char *path = path_of(in, TRIES, h->host);
    CLEANUP_BUF struct buf text = {0};
    if (file_read(path, FILE_MOST, &text, NULL) < 0)
        return;
    if (sscanf(text.data, "%" SCNd64 " %" SCNd64, &h->failures, &h->try_at) != 2 || h->failures < 0
        || h->try_at > time_now_ms() + RETRY_MOST_MS)
        h->failures = h->try_at = 0;
}

static void tries_write(struct ingress_node *in, const struct acme_host *h)
{
    CLEANUP_FREE char *path = path_of(in, TRIES, h->host);
    CLEANUP_FREE char *text = mem_printf("%" PRId64 " %" PRId64 "\n", h->failures, h->try_at);
    struct error err;
    if (!h->failures)
        unlink(path);
    else if (file_write(path, text, strlen(text), 0600, &err) < 0)
        LOG_W("what was tried to get a certificate is not kept", "error", err.text);
}

/* --- challenges --- */

static bool read_challenge(struct ingress_node *in, const char *token, struct acme_challenge *out)
{
    CLEANUP_FREE char *path = path_of(in, CHALLENGES, token);
    CLEANUP_BUF struct buf text = {0};
    if (file_read(path, FILE_MOST, &text, NULL) < 0)
        return false;
    char *rest = NULL, *host = strtok_r(text.data, " \n", &rest), *answer = strtok_r(NULL, " \n", &rest);
    *out = (struct acme_challenge){.host = mem_strdup(host), .token = mem_strdup(token), .answer = mem_strdup(answer)};
    if (host && answer && ingress_challenge_ok(out))
        return true;
    type_clear(&acme_challenge_type, out);
    return false;
}

static int compare_tokens(const void *a, const void *b)
{
    return strcmp(((const struct acme_challenge *)a)->token, ((const struct acme_challenge *)b)->token);
}

static void read_challenges(struct ingress_node *in, struct acme_challenge_list *out)
{
    CLEANUP_FREE char *path = path_of(in, CHALLENGES, NULL);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct acme_challenge c;
        if (!strchr(e->d_name, '.') && read_challenge(in, e->d_name, &c))
            *(struct acme_challenge *)list_add((struct list *)out, &acme_challenge_type) = c;
    }
    if (dir)
        closedir(dir);
    if (out->n)
        qsort(out->v, out->n, sizeof *out->v, compare_tokens);
}

static bool same_tokens(const struct acme_challenge_list *a, const struct acme_challenge_list *b)
{
    for (uint32_t i = 0; i < a->n && a->n == b->n; i++)
        if (strcmp(a->v[i].token, b->v[i].token))
            return false;
    return a->n == b->n;
}

static void look_for_challenges(struct ingress_node *in)
{
    struct acme_challenge_list now = {0};
    read_challenges(in, &now);
    bool same = same_tokens(&now, &in->acme.challenges);
    list_clear((struct list *)&in->acme.challenges, &acme_challenge_type);
    in->acme.challenges = now;
    if (!same || (now.n && time_now_ms() - in->acme.told_at > TELL_AGAIN_MS))
        acme_changed(in);
}

/* Every node answers, as the servers say: uacme may go on. */
static void release_challenges(struct ingress_node *in)
{
    for (uint32_t i = 0; i < in->acme.challenges.n; i++)
        for (uint32_t k = 0; k < in->table.challenges.n; k++) {
            const struct acme_challenge *own = &in->acme.challenges.v[i], *c = &in->table.challenges.v[k];
            if (!c->ready || !c->token || strcmp(c->token, own->token))
                continue;
            CLEANUP_FREE char *name = mem_printf("%s.ready", own->token);
            CLEANUP_FREE char *path = path_of(in, CHALLENGES, name);
            if (access(path, F_OK) < 0)
                file_write(path, "", 0, 0600, NULL);
        }
}

/* --- running uacme --- */

/* Certificate and key, as one file, to where certificates are looked for. */
static int take_over(const char *directory, const char *host, struct error *err)
{
    CLEANUP_FREE char *cert = mem_printf("%s/" ROOT "/%s/cert.pem", directory, host);
    CLEANUP_FREE char *key = mem_printf("%s/" ROOT "/private/%s/key.pem", directory, host);
    CLEANUP_FREE char *folder = mem_printf("%s/issued", directory);
    CLEANUP_FREE char *to = mem_printf("%s/%s.pem", folder, host);
    CLEANUP_WIPE struct buf pem = {0}, more = {0};
    struct certificate c = {0};
    int rc = file_read(cert, FILE_MOST, &pem, err);
    if (rc == 0)
        rc = file_read(key, FILE_MOST, &more, err);
    if (rc == 0) {
        buf_add(&pem, more.data, more.len);
        rc = certificate_parse(pem.data, &c, err);
    }
    if (rc == 0 && (rc = dir_make(folder, 0700, err)) == 0)
        rc = file_write(to, pem.data, pem.len, 0600, err);
    certificate_clear(&c);
    return rc < 0 ? error_context(err, "what uacme left") : 0;
}

static void run_work(uv_work_t *work)
{
    struct acme_run *r = work->data;
    if (tool_wait(&r->process, &r->tool, NULL, &r->err) == 0 && !r->account)
        take_over(r->directory, r->host, &r->err);
    if (r->account && strstr(r->err.text, "Account already exists"))
        r->err = (struct error){0};  /* made by an agent before this one */
    OPENSSL_thread_stop();           /* the thread is the pool's, and goes without telling OpenSSL */
}

static struct acme_host *find(struct ingress_node *in, const char *host)
{
    for (uint32_t i = 0; i < in->acme.n; i++)
        if (!strcmp(in->acme.v[i].host, host))
            return &in->acme.v[i];
    return NULL;
}

static int64_t wait_after(const struct ingress_node *in, const struct acme_host *h, const char *why)
{
    int64_t ms = in->o.config->acme_retry_ms;
    for (int64_t i = 1; i < h->failures && ms < RETRY_MOST_MS; i++)
        ms *= 2;
    if (strstr(why, "rateLimited") && ms < RATE_LIMITED_MS)
        ms = RATE_LIMITED_MS;
    return ms < RETRY_MOST_MS ? ms : RETRY_MOST_MS;
}

static void failed(struct ingress_node *in, struct acme_host *h, const char *why)
{
    char wait[TIME_TEXT_SIZE];
    h->failures++;
    int64_t ms = wait_after(in, h, why);
    h->try_at = time_now_ms() + ms;
    duration_format(wait, ms);
    free(h->problem);
    h->problem = mem_printf("%s; tried again in %s", why, wait);
    LOG_W("there is no certificate by ACME", "host", h->host, "reason", h->problem);
    tries_write(in, h);
    acme_changed(in);
}

static void succeeded(struct ingress_node *in, struct acme_host *h)
{
    h->failures = 0;
    h->try_at = time_now_ms() + SETTLE_MS;
    free(steal(&h->problem));
    tries_write(in, h);
    LOG_I("a certificate came by ACME", "host", h->host);
}

static void run_free(struct acme_run *r)
{
    if (r->pidfd >= 0)
        close(r->pidfd);
    str_list_clear(&r->argv);
    free(r->host);
    free(r->directory);
    free(r);
}

static void run_done(uv_work_t *work, int status)
{
    struct acme_run *r = work->data;
    struct ingress_node *in = r->in;
    struct acme_host *h = in ? find(in, r->host) : NULL;
    if (in)
        in->acme.run = NULL;
    if (in && in->stopped)
        ingress_stopped(in);
    else if (h && r->err.code)
        failed(in, h, r->err.text);
    else if (h && r->account)
        in->acme.account = true;
    else if (h)
        succeeded(in, h);
    run_free(r);
}

static void run_start(struct ingress_node *in, struct acme_host *h)
{
    const struct ingress_config *c = in->o.config;
    CLEANUP_FREE char *hook_path = path_of(in, HOOK, NULL);
    CLEANUP_FREE char *root = path_of(in, ROOT, NULL);
    bool account = !in->acme.account;
    const char *const words[] = {c->acme_program, "-y", "-a", c->acme_directory, "-c", root, "-h", hook_path, "-f", "-o", "-t",
                                 account ? "RSA" : "EC", account ? "new" : "issue", account ? c->acme_email : h->host};
    struct acme_run *r = NEW(struct acme_run);
    for (size_t i = 0; i < ARRAY_LEN(words) && words[i]; i++)
        str_list_add(&r->argv, words[i]);
    str_list_add(&r->argv, NULL);
    r->in = in;
    r->host = mem_strdup(h->host);
    r->account = account;
    r->directory = mem_strdup(in->directory);
    r->tool = (struct tool){.argv = (const char *const *)r->argv.v, .timeout_ms = RUN_MS};
    r->pidfd = -1;
    r->work.data = r;
    if (tool_start(&r->tool, &r->process, NULL, &r->err) < 0) {
        failed(in, h, r->err.text);
        run_free(r);
        return;
    }
    r->pidfd = pidfd_open(r->process.pid, 0);
    in->acme.run = r;
    uv_queue_work(in->o.loop, &r->work, run_work, run_done);
}

/* --- hosts --- */

static const struct certificate *issued(const struct ingress_node *in, const struct acme_host *h)
{
    CLEANUP_FREE char *name = mem_printf("certificates/%s.pem", h->host);
    for (uint32_t i = 0; i < in->certificates.n; i++)
        if (!strcmp(in->certificates.v[i].name, name))
            return &in->certificates.v[i];
    return NULL;
}

static struct acme_host *due(struct ingress_node *in)
{
    int64_t now = time_now_ms();
    for (uint32_t i = 0; i < in->acme.n; i++) {
        struct acme_host *h = &in->acme.v[i];
        const struct certificate *c = issued(in, h);
        if (h->wanted && now >= h->try_at && (!c || now >= c->expires_at - (c->expires_at - c->begins_at) / 3))
            return h;
    }
    return NULL;
}

static void note_expiries(struct ingress_node *in)
{
    bool news = false;
    for (uint32_t i = 0; i < in->acme.n; i++) {
        const struct certificate *c = issued(in, &in->acme.v[i]);
        int64_t at = c ? c->expires_at : 0;
        news |= at != in->acme.v[i].expires_at;
        in->acme.v[i].expires_at = at;
    }
    if (news)
        acme_changed(in);
}

static int prepare(struct ingress_node *in, struct error *err)
{
    const char *const folders[] = {ROOT, CHALLENGES, TRIES};
    CLEANUP_FREE char *path = path_of(in, HOOK, NULL), *old = path_of(in, CHALLENGES, NULL);
    dir_remove(old);                 /* of a uacme that an earlier agent left */
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        CLEANUP_FREE char *folder = path_of(in, folders[i], NULL);
        if (dir_make(folder, 0700, err) < 0)
            return -1;
    }
    return file_write(path, hook, sizeof hook - 1, 0700, err);
}

static void start_due(struct ingress_node *in)
{
    const struct ingress_config *c = in->o.config;
    struct acme_host *h = due(in);
    struct error err;
    if (!h)
        return;
    if (!c->acme_directory)
        failed(in, h, "agent.yaml of this node has no proxy.acme_directory");
    else if (!c->http_port)
        failed(in, h, "the proxy of this node has no http_port, on which ACME servers ask");
    else if (prepare(in, &err) < 0)
        failed(in, h, err.text);
    else
        run_start(in, h);
}

static void on_timer(uv_timer_t *timer)
{
    struct ingress_node *in = timer->data;
    struct acme *a = &in->acme;
    bool some = false;
    for (uint32_t i = 0; i < a->n; i++)
        some |= a->v[i].wanted;
    if (in->stopped || (!some && !a->run && !a->challenges.n)) {
        uv_timer_stop(timer);
        return;
    }
    if (in->certificates_known)
        note_expiries(in);
    if (a->run || a->challenges.n) {
        look_for_challenges(in);
        release_challenges(in);
    }
    if (!a->run && in->certificates_known && in->in_force)
        start_due(in);
    uv_timer_set_repeat(timer, a->run ? LOOK_RUNNING_MS : LOOK_MS);
}

void acme_follow_table(struct ingress_node *in)
{
    struct acme *a = &in->acme;
    bool some = false;
    for (uint32_t i = 0; i < a->n; i++)
        a->v[i].wanted = false;
    for (uint32_t i = 0; i < in->table.routes.n; i++) {
        const struct ingress *way = &in->table.routes.v[i].ingress;
        if (!way->acme || !way->host || ingress_host_problem(way->host) || strchr(way->host, '*'))
            continue;
        struct acme_host *h = find(in, way->host);
        if (!h) {
            a->v = mem_realloc_array(a->v, a->n + 1, sizeof *a->v);
            h = &a->v[a->n++];
            *h = (struct acme_host){.host = mem_strdup(way->host)};
            tries_read(in, h);
        }
        h->wanted = some = true;
    }
    if (!a->seq && in->table.challenges.n)
        acme_changed(in);                 /* what an agent before this one was asked is over */
    if (some && !uv_is_active((uv_handle_t *)&a->timer))
        uv_timer_start(&a->timer, on_timer, LOOK_RUNNING_MS, LOOK_MS);
}

void acme_report_fill(const struct ingress_node *in, struct acme_report *out)
{
    const struct acme *a = &in->acme;
    out->seq = a->seq;
    for (uint32_t i = 0; i < a->challenges.n; i++)
        type_copy(&acme_challenge_type, list_add_zero((struct list *)&out->challenges, &acme_challenge_type), &a->challenges.v[i]);
    for (uint32_t i = 0; i < a->n; i++) {
        const struct acme_host *h = &a->v[i];
        if (!h->wanted)
            continue;
        struct acme_certificate *c = list_add_zero((struct list *)&out->certificates, &acme_certificate_type);
        *c = (struct acme_certificate){.host = mem_strdup(h->host), .expires_at = h->expires_at, .problem = mem_strdup(h->problem)};
    }
}

void acme_end_run(struct ingress_node *in)
{
    if (in->acme.run && in->acme.run->pidfd >= 0)
        pidfd_send_signal(in->acme.run->pidfd, SIGKILL, NULL, 0);
}

void acme_close(struct ingress_node *in)
{
    acme_end_run(in);
    if (in->acme.run)
        in->acme.run->in = NULL;
    in->acme.run = NULL;
}

void acme_clear(struct ingress_node *in)
{
    for (uint32_t i = 0; i < in->acme.n; i++) {
        free(in->acme.v[i].host);
        free(in->acme.v[i].problem);
    }
    free(in->acme.v);
    list_clear((struct list *)&in->acme.challenges, &acme_challenge_type);
}
