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
    const char *cert, *key, *authorities;
    bool own;                    /* files of the operator's: nobody else replaces them */
};

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

/* Files of the operator's, or those that the cluster gives (join/credentials.h); the texts are the caller's. */
struct files { char *cert, *key, *authorities; bool own; };

static struct files find_files(const struct value *config, const char *data_dir)
{
    const char *cert = host_setting(config, "tls_cert", NULL);
    if (cert)
        return (struct files){mem_strdup(cert), mem_strdup(host_setting(config, "tls_key", "?")),
                              mem_strdup(host_setting(config, "tls_ca", "?")), true};
    return (struct files){mem_printf("%s/tls/identity.pem", data_dir), mem_printf("%s/tls/identity.pem", data_dir),
                          mem_printf("%s/tls/authorities.pem", data_dir), false};
}

static struct files files_of_server(const struct host *h)
{
    return find_files(&h->server, host_setting(&h->server, "data_dir", "/var/lib/mentat/state"));
}

static struct files files_of_agent(const struct host *h)
{
    return find_files(&h->agent, host_setting(&h->agent, "data_dir", "/var/lib/mentat/agent"));
}

static void clear_files(struct files *s)
{
    free(s->cert);
    free(s->key);
    free(s->authorities);
}

static void look(const struct host *h, struct shown s, struct files files, struct finding *f)
{
    s.cert = files.cert;
    s.key = files.key;
    s.authorities = files.authorities;
    s.own = files.own;
    if (s.own || host_exists(h, s.cert))
        judge(h, &s, f);
    clear_files(&files);
}

void doctor_certificates(const struct host *h, struct finding *f)
{
    look(h, (struct shown){.role = "server", .name = host_setting(&h->server, "server_id", NULL)}, files_of_server(h), f);
    look(h, (struct shown){.role = "agent", .name = host_setting(&h->agent, "name", NULL)}, files_of_agent(h), f);
    if (!f->found.len)
        find(f, VERDICT_SKIPPED, "neither a server nor an agent has one here");
}

static struct tls_context *use(struct files files)
{
    struct error ignored;
    struct tls_context *tls = tls_context_new(&(struct tls_options){.cert_file = files.cert, .key_file = files.key,
                                                                    .ca_file = files.authorities}, &ignored);
    clear_files(&files);
    return tls;
}

struct tls_context *doctor_tls(const struct host *h, bool *server)
{
    struct tls_context *tls = use(files_of_server(h));
    *server = tls != NULL;
    return tls ? tls : use(files_of_agent(h));
}
