/* Checks of the certificates that a server and an agent of this host show to the others. */
#include <string.h>
#include <sys/stat.h>

#include "base/timefmt.h"
#include "cli/doctor/checks.h"
#include "cli/doctor/handshake.h"
#include "net/certificate.h"

#define LEFT_LEAST 6             /* a sixth of its time: by then it was to be replaced */

struct shown {
    const char *role;            /* "server", "agent" */
    const char *name;            /* what the configuration says; NULL: nothing */
    char *cert, *key, *authorities;
    bool own;                    /* files of the operator's: nobody else replaces them */
};

static void shown_clear(struct shown *s)
{
    free(s->cert);
    free(s->key);
    free(s->authorities);
}

static void judge_key_file(const struct host *h, const struct shown *s, struct finding *f)
{
    CLEANUP_FREE char *full = host_path(h, s->key);
    struct stat st;
    if (stat(full, &st) || !(st.st_mode & 077))
        return;
    find(f, st.st_mode & 07 ? VERDICT_FAILED : VERDICT_WARNING, "%s: others may read its key (%s has mode %04o)", s->role, s->key,
         (unsigned)st.st_mode & 07777);
    find_mend(f, "chmod 600 %s", s->key);
}

static void judge_name(const struct shown *s, const char *cert, struct finding *f)
{
    CLEANUP_FREE char *name = certificate_role(cert, s->role);
    if (!name) {
        find(f, VERDICT_FAILED, "%s: its certificate is for something else: it carries no name NAME.%s.mentat", s->role, s->role);
    } else if (s->name && strcmp(name, s->name)) {
        find(f, VERDICT_FAILED, "%s: its certificate is for %s, and the configuration says %s", s->role, name, s->name);
    }
}

static void judge_time(const struct shown *s, const char *cert, struct finding *f)
{
    struct certificate_facts facts;
    char until[TIME_TEXT_SIZE], from[TIME_TEXT_SIZE];
    int64_t now = time_now_ms();
    if (certificate_read(cert, &facts, NULL))
        return;
    time_format(until, facts.until_ms);
    time_format(from, facts.from_ms);
    if (now < facts.from_ms) {
        find(f, VERDICT_FAILED, "%s: its certificate is good from %s on, which this host's clock has not reached", s->role, from);
        find_mend(f, "set the clock: see the check `clock`");
    } else if (now >= facts.until_ms) {
        find(f, VERDICT_FAILED, "%s: its certificate expired at %s", s->role, until);
    } else if (facts.until_ms - now < (facts.until_ms - facts.from_ms) / LEFT_LEAST) {
        find(f, VERDICT_WARNING, "%s: its certificate expires at %s%s", s->role, until, s->own ? "" : ", and was not renewed in time");
    } else {
        find(f, VERDICT_OK, "%s: until %s", s->role, until);
    }
}

static void judge(const struct host *h, const struct shown *s, struct finding *f)
{
    CLEANUP_BUF struct buf cert = {0}, authorities = {0};
    CLEANUP_WIPE struct buf key = {.secret = true};
    struct error err = {0};
    if (!host_read(h, s->cert, &cert) || !host_read(h, s->key, &key) || !host_read(h, s->authorities, &authorities)) {
        find(f, VERDICT_WARNING, "%s: %s, %s or %s cannot be read", s->role, s->cert, s->key, s->authorities);
        find_mend(f, "run mt doctor as root; if that says the same, the file is missing");
        return;
    }
    judge_key_file(h, s, f);
    if (!certificate_has_key(cert.data, key.data))
        find(f, VERDICT_FAILED, "%s: the key is not the certificate's, or one of them is damaged", s->role);
    judge_name(s, cert.data, f);
    judge_time(s, cert.data, f);
    if (certificate_verify(cert.data, authorities.data, &err))
        find(f, VERDICT_FAILED, "%s: the authorities in %s do not vouch for its certificate: %s", s->role, s->authorities, err.text);
}

/* Files of the operator's, or those that the cluster gives (join/credentials.h). The caller clears it. */
static struct shown find_shown(const char *role, const struct value *config, const char *name_key, const char *data_dir)
{
    struct shown s = {.role = role, .name = host_setting(config, name_key, NULL)};
    const char *cert = host_setting(config, "tls_cert", NULL), *dir = host_setting(config, "data_dir", data_dir);
    s.own = cert;
    s.cert = s.own ? mem_strdup(cert) : mem_printf("%s/tls/identity.pem", dir);
    s.key = s.own ? mem_strdup(host_setting(config, "tls_key", "?")) : mem_strdup(s.cert);
    s.authorities = s.own ? mem_strdup(host_setting(config, "tls_ca", "?")) : mem_printf("%s/tls/authorities.pem", dir);
    return s;
}

static struct shown shown_by_server(const struct host *h)
{
    return find_shown("server", &h->server, "server_id", "/var/lib/mentat/state");
}

static struct shown shown_by_agent(const struct host *h)
{
    return find_shown("agent", &h->agent, "name", "/var/lib/mentat/agent");
}

static void look(const struct host *h, struct shown s, struct finding *f)
{
    if (s.own || host_exists(h, s.cert))
        judge(h, &s, f);
    shown_clear(&s);
}

void doctor_certificates(const struct host *h, struct finding *f)
{
    look(h, shown_by_server(h), f);
    look(h, shown_by_agent(h), f);
    if (!f->found.len)
        find(f, VERDICT_SKIPPED, "neither a server nor an agent has one here");
}

static struct tls_context *use(struct shown s)
{
    struct error ignored;
    struct tls_context *tls = tls_context_new(&(struct tls_options){.cert_file = s.cert, .key_file = s.key,
                                                                    .ca_file = s.authorities}, &ignored);
    shown_clear(&s);
    return tls;
}

struct tls_context *doctor_tls(const struct host *h, bool *server)
{
    struct tls_context *tls = use(shown_by_server(h));
    *server = tls != NULL;
    return tls ? tls : use(shown_by_agent(h));
}
